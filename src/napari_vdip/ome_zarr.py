"""OME-Zarr images that are made plane by plane, also by several processes at the same time.

`create` makes the arrays, `levels` finds them again, `halved` gives what a plane is at the next level, and
`describe` makes an image of them when all planes are there. A chunk holds one plane or a part of one, so no
two planes share one.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_vdip.image_file import NAMESPACE, check_axes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_vdip.tiff_metadata import Spacing

Range = tuple[float, float]
"""The lowest and the highest intensity."""
COARSEST = 256
"""Side in pixels at which an image needs no coarser level."""
LARGEST_CHUNK = 2048
"""Side of a chunk in pixels: what viewers load at once, and far below the 2 GiB that compressors take."""
COLOURS = ("FF00FF", "00FF00", "00FFFF", "FFFF00", "FF0000", "0000FF")
"""Magenta, green, cyan, yellow, red, blue: what napari gives to channels in turn."""


def create(path: Path, shape: tuple[int, ...], axes: str) -> None:
    """Make the arrays of an image and of its coarser levels, float32, without an image in them.

    Parameters
    ----------
    path : Path
        Folder to make; what is there is overwritten.
    shape : tuple of int
        Shape of the finest level.
    axes : str
        One letter for each axis, of ``TCZYX`` in this order.

    Raises
    ------
    ValueError
        If the axes do not fit the shape.
    """
    import zarr
    from zarr.codecs import BloscCodec

    check_axes(axes, shape)
    group = zarr.open_group(path, mode="w", zarr_format=3)
    level = 0
    while True:
        group.create_array(
            str(level),
            shape=shape,
            chunks=chunks_of(axes, shape),
            dtype="float32",
            dimension_names=[axis.lower() for axis in axes],
            compressors=BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"),
        )
        if max(shape[-2:]) <= COARSEST or min(shape[-2:]) == 1:
            return
        shape = (*shape[:-2], shape[-2] // 2, shape[-1] // 2)
        level += 1


def levels(path: Path) -> list[Any]:
    """Return the arrays of all levels, the finest first, to read and to write."""
    import zarr

    group = zarr.open_group(path, mode="r+", zarr_format=3)
    return [group[str(number)] for number in range(len(tuple(group.array_keys())))]


def halved(plane: NDArray[Any]) -> NDArray[Any]:
    """Return means over squares of two pixels a side of a plane ``(Y, X, ...)``.

    An odd last row or column is left out.
    """
    from dask.array.chunk import coarsen

    coarser: NDArray[Any] = coarsen(np.mean, plane, {0: 2, 1: 2}, trim_excess=True)
    return coarser


def range_of(values: NDArray[Any]) -> Range | None:
    """Return the range of what is finite, if there is any: a std map may have NaN, JSON has none."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else None


def joined(ranges: Iterable[Range | None]) -> Range | None:
    """Return the range of all that several ranges are of."""
    there = [one for one in ranges if one is not None]
    return (min(low for low, _ in there), max(high for _, high in there)) if there else None


def describe(
    path: Path,
    axes: str,
    ranges: Sequence[Range | None],
    *,
    spacing: Spacing | None = None,
    origin: Mapping[str, float] | None = None,
    channels: Sequence[str] = (),
    colour: bool = False,
    colours: Sequence[str] = (),
    name: str = "",
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Make an image of arrays by `create`: say what they are, in version 0.5 of the format.

    Parameters
    ----------
    path, axes
        See `create`.
    ranges : sequence of tuple
        Range of the finite intensities of each channel, if it has any, for viewers.
    spacing, origin, channels, colour, colours, name, provenance
        See `write_ome_zarr`.

    Raises
    ------
    ValueError
        If there is not a name for each channel, or a colour if there are any.
    """
    import zarr
    from yaozarrs import v05

    about = {axis: (spacing or {}).get(axis, (1.0, None)) for axis in axes}
    kinds = {"T": v05.TimeAxis, "C": v05.ChannelAxis}
    units = {axis: {"unit": unit} if unit else {} for axis, (_, unit) in about.items()}
    multiscale = v05.Multiscale(
        name=name,
        axes=[kinds.get(axis, v05.SpaceAxis)(name=axis.lower(), **units[axis]) for axis in axes],
        datasets=[
            v05.Dataset.model_validate(_dataset(level, about, origin or {}))
            for level in range(len(levels(path)))
        ],
    )
    rendering = {"channels": _rendering(ranges, channels or [name], colour, colours)}
    image = v05.Image(multiscales=[multiscale], omero=v05.Omero.model_validate(rendering))
    attributes = {"ome": image.model_dump(mode="json", exclude_none=True)}
    if provenance:
        attributes[NAMESPACE] = dict(provenance)
    zarr.open_group(path, mode="r+", zarr_format=3).update_attributes(attributes)


def write_ome_zarr(
    path: Path,
    array: Any,
    axes: str,
    *,
    spacing: Spacing | None = None,
    origin: Mapping[str, float] | None = None,
    channels: Sequence[str] = (),
    colour: bool = False,
    colours: Sequence[str] = (),
    name: str = "",
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write a float32 OME-Zarr 0.5 with its coarser levels; it appears only when it is whole.

    Parameters
    ----------
    path : Path
        Folder to write, ending in ``.ome.zarr``; must not exist.
    array : array
        Image of any shape, also a lazy one: it is read plane by plane.
    axes : str
        One letter for each axis, of ``TCZYX`` in this order.
    spacing : mapping, optional
        For an axis the distance between pixels and its unit, see `ImageFile`.
    origin : mapping, optional
        For an axis where its first pixel is, see `ImageFile`.
    channels : sequence of str
        Names of the channels.
    colour : bool
        Whether the channels are red, green and blue.
    colours : sequence of str
        Colours ``RRGGBB`` of the channels, if they are known.
    name : str
        Name of the image, which viewers show.
    provenance : mapping, optional
        Plain data that says how the image was made; goes to the group's attributes.

    Raises
    ------
    ValueError
        If the axes do not fit the array, or there is not a name for each channel, or a colour if there are
        any.
    FileExistsError
        If there is something under that name.
    """
    check_axes(axes, array.shape)
    if path.exists():
        raise FileExistsError(path)
    part = path.with_name(f".part-{path.name}")
    at = axes.find("C")
    ranges: list[Range | None] = [None] * (array.shape[at] if at >= 0 else 1)
    try:
        create(part, array.shape, axes)
        arrays = levels(part)
        for index in np.ndindex(*array.shape[:-2]):
            plane = np.asarray(array[index], np.float32)
            channel = index[at] if at >= 0 else 0
            ranges[channel] = joined([ranges[channel], range_of(plane)])
            for level in arrays:
                level[index] = plane
                plane = halved(plane)
        describe(
            part,
            axes,
            ranges,
            spacing=spacing,
            origin=origin,
            channels=channels,
            colour=colour,
            colours=colours,
            name=name,
            provenance=provenance,
        )
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def chunks_of(axes: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the chunks of a stored image: a plane, or a part of one that is large."""
    return tuple(min(n, LARGEST_CHUNK) if axis in "YX" else 1 for axis, n in zip(axes, shape, strict=True))


def _dataset(level: int, about: Spacing, origin: Mapping[str, float]) -> dict[str, Any]:
    """Describe a level whose pixels are means over those of the finest: where they are, and how large."""
    size = {axis: 2**level if axis in "YX" else 1 for axis in about}
    scale = [step * size[axis] for axis, (step, _) in about.items()]
    transforms = [{"type": "scale", "scale": scale}]
    firsts = [origin.get(axis, 0.0) + step * (size[axis] - 1) / 2 for axis, (step, _) in about.items()]
    if any(firsts):
        transforms.append({"type": "translation", "translation": firsts})
    return {"path": str(level), "coordinateTransformations": transforms}


def _rendering(
    ranges: Sequence[Range | None], channels: Sequence[str], colour: bool, colours: Sequence[str]
) -> list[dict[str, Any]]:
    """Say how viewers show each channel: its name, its colour and its range of intensities."""
    if len(channels) != len(ranges):
        raise ValueError(f"channels: expected {len(ranges)} names, got {list(channels)}")
    if colours and len(colours) != len(ranges):
        raise ValueError(f"colours: expected {len(ranges)}, got {list(colours)}")
    usual = ("FF0000", "00FF00", "0000FF") if colour else COLOURS if len(channels) > 1 else ("FFFFFF",)
    palette = colours or usual
    shown = [one or (0.0, 1.0) for one in ranges]
    return [
        {
            "label": label,
            "color": palette[i % len(palette)],
            "active": True,
            "window": {"min": low, "max": high, "start": low, "end": high},
        }
        for i, (label, (low, high)) in enumerate(zip(channels, shown, strict=True))
    ]
