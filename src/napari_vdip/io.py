"""Images in and out of files. Thin: libraries do the work."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from napari_vdip.image_file import NAMESPACE, ImageFile, check_axes, read, scenes, suffixes
from napari_vdip.tiff_metadata import UNITS, to_ome

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_vdip.tiff_metadata import Spacing

__all__ = ["ImageFile", "read", "scenes", "suffixes", "write_ome_tiff"]

CLASSIC_TIFF = 2**32 - 2**28
"""Bytes of pixels beyond which a TIFF is a BigTIFF: the other form ends at 4 GiB, metadata included."""


def write_ome_tiff(
    path: Path,
    array: Any,
    axes: str,
    *,
    spacing: Spacing | None = None,
    origin: Mapping[str, float] | None = None,
    channels: Sequence[str] = (),
    colours: Sequence[str] = (),
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
    colours : sequence of str
        Colours ``RRGGBB`` of the channels, if they are known.
    provenance : mapping, optional
        Plain data that says how the image was made; goes to a map annotation.

    Raises
    ------
    ValueError
        If the axes do not fit the array.
    """
    check_axes(axes, array.shape)
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
    if colours:
        metadata["Channel"] = metadata.get("Channel", {}) | {"Color": [*map(to_ome, colours)]}
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


def _planes(array: Any) -> Iterator[NDArray[np.float32]]:
    for index in np.ndindex(*array.shape[:-2]):
        yield np.asarray(array[index], np.float32)
