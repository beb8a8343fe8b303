"""An image in a file and what its numbers mean: lazy array, axes, spacing, names of channels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_vdip.readers import Found, files, found, scenes, suffixes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_vdip.tiff_metadata import Spacing

__all__ = [
    "AXES",
    "NAMESPACE",
    "ImageFile",
    "arranged",
    "check_axes",
    "files",
    "read",
    "scenes",
    "suffixes",
]

AXES = "TCZYX"
"""Axes of an image in their order, which is that of OME-Zarr."""
NAMESPACE = "napari-vdip"
"""Key of the provenance in what is written."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image and what its numbers mean.

    Attributes
    ----------
    array : dask array
        The intensities, not loaded.
    axes : str
        One letter for each axis: Y, X and those of `AXES` that have more than one index, in its order.
    spacing : mapping
        For an axis the distance from one pixel to the next, and its unit or ``None``; axes that the file
        says nothing of are missing.
    origin : mapping
        For an axis where its first pixel is, in the unit of its spacing; axes at zero are missing.
    channels : tuple of str
        Names of the channels; empty where there are none.
    colour : bool
        Whether the channels are the colours of a photograph.
    colours : tuple of str
        Colours ``RRGGBB`` in which the channels are shown; empty where the file says none.
    """

    array: Any
    axes: str
    spacing: Spacing
    origin: Mapping[str, float]
    channels: tuple[str, ...]
    colour: bool
    colours: tuple[str, ...] = ()


def read(path: Path, axes: str | None = None, scene: int = 0) -> ImageFile:
    """Open an image without loading it.

    Parameters
    ----------
    path : Path
        TIFF, OME-TIFF, OME-Zarr, PNG or JPEG, or what an installed reader of bioio reads.
    axes : str, optional
        One letter of ``TCZYX`` for each axis, in place of what the file says; axes of one index may be
        left out.
    scene : int
        Which image of a file that holds several, see `scenes`.

    Raises
    ------
    ValueError
        If the axes do not fit, or the file is not what its name says.
    """
    return arranged(found(path, scene), axes)


def arranged(image: Found, axes: str | None = None) -> ImageFile:
    """Bring an image with the axes of its file, or with those given, into the form of an `ImageFile`."""
    array, letters, spacing, channels, origin, colours = image
    if axes is not None:
        given, wide = axes.upper(), [i for i, size in enumerate(array.shape) if size > 1]
        if len(given) == len(wide) != array.ndim:
            array = array[tuple(slice(None) if i in wide else 0 for i in range(array.ndim))]
        if len(given) != array.ndim or len(set(given)) != len(given) or set(given) - set(AXES):
            raise ValueError(
                f"axes: expected {len(wide)} different letters of {AXES}, one for each axis of shape "
                f"{array.shape}, got {axes!r}"
            )
        letters = given
    free = iter(axis for axis in "ZTC" if axis not in letters)
    # What the file leaves open, such as the pages of a plain TIFF, is most often a stack in depth.
    letters = "".join(
        next(free, "?") if axis not in AXES + "S" and size > 1 else axis
        for axis, size in zip(letters, array.shape, strict=True)
    )
    sizes = dict(zip(letters, array.shape, strict=True))
    colour = sizes.get("S", 1) > 1 and sizes.get("C", 1) == 1
    if colour:
        alpha = array.shape[letters.index("S")] in (2, 4)  # comes last, and is no intensity
        array = array[tuple(slice(0, -1 if alpha and axis == "S" else None) for axis in letters)]
        letters = letters.replace("C", "?").replace("S", "C")
        channels = ["red", "green", "blue"] if array.shape[letters.index("C")] == 3 else []
    kept = [axis for i, axis in enumerate(letters) if array.shape[i] > 1 or axis in "YX"]
    if not {"Y", "X"} <= set(kept) <= set(AXES) or len(set(kept)) < len(kept):
        raise ValueError(
            f"axes: expected Y and X and at most one each of T, C and Z; the file has {letters} of shape "
            f"{array.shape}: say what they are, such as axes='TCYX'"
        )
    array = array[tuple(slice(None) if axis in kept else 0 for axis in letters)]
    order = sorted(kept, key=AXES.index)
    array = array.transpose([kept.index(axis) for axis in order])
    count = array.shape[order.index("C")] if "C" in order else 1
    if "C" not in order:
        names = channels if len(channels) == 1 else []
    else:
        names = channels if len(channels) == count else [f"channel {i + 1}" for i in range(count)]
    known = {axis: spacing[axis] for axis in order if axis in spacing and axis != "C"}
    spacing = {axis: step for axis, step in known.items() if 0 < step[0] < float("inf")}
    places = {axis: origin[axis] for axis in order if axis != "C" and origin.get(axis)}
    places = {axis: place for axis, place in places.items() if math.isfinite(place)}
    # Several channels in one colour are in that of a writer who knew none.
    chosen = len(colours) == count and (count == 1 or len(set(colours)) > 1) and not colour
    shown = tuple(colours) if chosen else ()
    return ImageFile(array, "".join(order), spacing, places, tuple(names), colour and "C" in order, shown)


def check_axes(axes: str, shape: tuple[int, ...]) -> None:
    """Refuse axes in which an image of this shape cannot be written."""
    if len(axes) != len(shape) or len(set(axes)) != len(axes) or set(axes) - set(AXES) or axes[-2:] != "YX":
        raise ValueError(f"axes: expected letters of {AXES} that end in YX for shape {shape}, got {axes!r}")
