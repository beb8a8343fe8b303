"""Files in and out. Thin: libraries do the work."""

from __future__ import annotations

import json
import math
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from napari_vdip.image_file import AXES, ImageFile, read, scenes, suffixes
from napari_vdip.tiff_metadata import UNITS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_vdip.tiff_metadata import Spacing

__all__ = ["ImageFile", "chunks_of", "read", "scenes", "suffixes", "write_ome_tiff", "write_ome_zarr"]

NAMESPACE = "napari-vdip"
"""Key of the provenance in the metadata of both formats."""
COARSEST = 256
"""Side in pixels at which a multiscale image needs no coarser level."""
LARGEST_CHUNK = 2048
"""Side of a chunk in pixels: what viewers load at once, and far below the 2 GiB that compressors take."""
CLASSIC_TIFF = 2**32 - 2**28
"""Bytes of pixels beyond which a TIFF is a BigTIFF: the other form ends at 4 GiB, metadata included."""
COLOURS = ("FF00FF", "00FF00", "00FFFF", "FFFF00", "FF0000", "0000FF")
"""Magenta, green, cyan, yellow, red, blue: what napari gives to channels in turn."""


def write_ome_tiff(
    path: Path,
    array: Any,
    axes: str,
    *,
    spacing: Spacing | None = None,
    origin: Mapping[str, float] | None = None,
    channels: Sequence[str] = (),
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write a float32 OME-TIFF; the file appears under its name only when it is whole.

    Parameters
    ----------
    path : Path
        File to write, ending in ``.ome.tif`` or ``.ome.tiff``.
    array : array
        Image of any shape, also a lazy one: it is read plane by plane.
    axes : str
        One letter for each axis, of ``TZCYX``; Y and X are the last.
    spacing : mapping, optional
        For an axis the distance between pixels and its unit, see `ImageFile`.
    origin : mapping, optional
        For an axis where its first pixel is, see `ImageFile`; in the format these are positions of planes,
        which know X, Y and Z.
    channels : sequence of str
        Names of the channels.
    provenance : mapping, optional
        Plain data that says how the image was made; goes to a map annotation.

    Raises
    ------
    ValueError
        If the axes do not fit the array.
    """
    _check_axes(axes, array.shape)
    symbols = {name: symbol for symbol, name in reversed(UNITS.items())}
    metadata: dict[str, Any] = {"axes": axes}
    for axis, (step, name) in (spacing or {}).items():
        key = "TimeIncrement" if axis == "T" else f"PhysicalSize{axis}"
        metadata |= {key: step, f"{key}Unit": symbols.get(name or "", name or "pixel")}
    planes = math.prod(array.shape[:-2])
    positions = {f"Position{axis}": at for axis, at in (origin or {}).items() if axis in "ZYX"}
    units = {f"{key}Unit": metadata.get(f"PhysicalSize{key[-1]}Unit", "pixel") for key in positions}
    if positions:
        metadata["Plane"] = {key: [value] * planes for key, value in (positions | units).items()}
    if channels:
        metadata["Channel"] = {"Name": list(channels)}
    if provenance:
        metadata["MapAnnotation"] = {"Namespace": NAMESPACE, "run": json.dumps(provenance)}
    part = path.with_name(f".part-{path.name}")
    try:
        tifffile.imwrite(
            part,
            _planes(array),
            shape=array.shape,
            dtype=np.float32,
            ome=True,
            bigtiff=math.prod(array.shape) * np.dtype(np.float32).itemsize > CLASSIC_TIFF,
            photometric="minisblack",
            metadata=metadata,
        )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_ome_zarr(
    path: Path,
    array: Any,
    axes: str,
    *,
    spacing: Spacing | None = None,
    origin: Mapping[str, float] | None = None,
    channels: Sequence[str] = (),
    colour: bool = False,
    name: str = "",
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write a float32 OME-Zarr 0.5 with its coarser levels; it appears only when it is whole.

    Parameters
    ----------
    path : Path
        Folder to write, ending in ``.ome.zarr``; must not exist.
    array : dask array
        Image of any shape; read chunk by chunk.
    axes : str
        One letter for each axis, of ``TCZYX`` in this order.
    spacing, origin, channels, provenance
        As in `write_ome_tiff`; the provenance goes to the group's attributes.
    colour : bool
        Whether the channels are red, green and blue.
    name : str
        Name of the image, which viewers show.

    Raises
    ------
    ValueError
        If the axes do not fit the array.
    FileExistsError
        If there is something under that name.
    """
    import dask.array as da
    from yaozarrs import v05
    from yaozarrs.write.v05 import write_image

    _check_axes(axes, array.shape)
    if path.exists():
        raise FileExistsError(path)
    about = {axis: (spacing or {}).get(axis, (1.0, None)) for axis in axes}
    halved = {i: 2 if axis in "YX" else 1 for i, axis in enumerate(axes)}
    chunks = chunks_of(axes, array.shape)
    levels = [da.asarray(array).astype(np.float32).rechunk(chunks)]
    while max(levels[-1].shape[-2:]) > COARSEST and min(levels[-1].shape[-2:]) > 1:
        levels.append(da.coarsen(np.mean, levels[-1], halved, trim_excess=True))
    kinds = {"T": v05.TimeAxis, "C": v05.ChannelAxis}
    units = {axis: {"unit": unit} if unit else {} for axis, (_, unit) in about.items()}
    multiscale = v05.Multiscale(
        name=name,
        axes=[kinds.get(axis, v05.SpaceAxis)(name=axis.lower(), **units[axis]) for axis in axes],
        datasets=[
            v05.Dataset.model_validate(_dataset(level, about, origin or {})) for level in range(len(levels))
        ],
    )
    rendering = {"channels": _rendering(levels[0], axes, channels or [name], colour)}
    image = v05.Image(multiscales=[multiscale], omero=v05.Omero.model_validate(rendering))
    extra = {NAMESPACE: dict(provenance)} if provenance else None
    part = path.with_name(f".part-{path.name}")
    try:
        write_image(
            part,
            image,
            [level.rechunk(chunks) for level in levels],  # as two writers in one chunk lose data
            extra_attributes=extra,
            writer="zarr",
            chunks=chunks,
            overwrite=True,
        )
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def chunks_of(axes: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the chunks of a stored image: a plane, or a part of one that is large."""
    return tuple(min(n, LARGEST_CHUNK) if axis in "YX" else 1 for axis, n in zip(axes, shape, strict=True))


def _check_axes(axes: str, shape: tuple[int, ...]) -> None:
    if len(axes) != len(shape) or len(set(axes)) != len(axes) or set(axes) - set(AXES) or axes[-2:] != "YX":
        raise ValueError(f"axes: expected letters of {AXES} that end in YX for shape {shape}, got {axes!r}")


def _planes(array: Any) -> Iterator[NDArray[np.float32]]:
    for index in np.ndindex(*array.shape[:-2]):
        yield np.asarray(array[index], np.float32)


def _dataset(level: int, about: Spacing, origin: Mapping[str, float]) -> dict[str, Any]:
    """Describe a level whose pixels are means over those of the finest: where they are, and how large."""
    size = {axis: 2**level if axis in "YX" else 1 for axis in about}
    scale = [step * size[axis] for axis, (step, _) in about.items()]
    transforms = [{"type": "scale", "scale": scale}]
    firsts = [origin.get(axis, 0.0) + step * (size[axis] - 1) / 2 for axis, (step, _) in about.items()]
    if any(firsts):
        transforms.append({"type": "translation", "translation": firsts})
    return {"path": str(level), "coordinateTransformations": transforms}


def _rendering(array: Any, axes: str, channels: Sequence[str], colour: bool) -> list[dict[str, Any]]:
    """Say how viewers show each channel: its name, its colour and its range of intensities."""
    import dask.array as da

    others = tuple(i for i, axis in enumerate(axes) if axis != "C")
    there = da.isfinite(array)  # not NaN, as in a std map where there is no result: JSON has no NaN
    ends = da.where(there, array, np.inf).min(others), da.where(there, array, -np.inf).max(others)
    low, high = (np.atleast_1d(value) for value in da.compute(*ends))
    nothing = low > high
    low, high = np.where(nothing, 0, low), np.where(nothing, 1, high)
    if len(channels) != len(low):
        raise ValueError(f"channels: expected {len(low)} names, got {list(channels)}")
    palette = ("FF0000", "00FF00", "0000FF") if colour else COLOURS if len(channels) > 1 else ("FFFFFF",)
    return [
        {
            "label": label,
            "color": palette[i % len(palette)],
            "active": True,
            "window": {"min": float(a), "max": float(b), "start": float(a), "end": float(b)},
        }
        for i, (label, a, b) in enumerate(zip(channels, low, high, strict=True))
    ]
