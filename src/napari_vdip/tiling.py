"""Parts of a plane: a region of interest, and tiles whose weights sum to one."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterator

Region = tuple[slice, slice]
"""Rows and columns."""
Bounds = tuple[tuple[int, int], tuple[int, int]]
"""The same as plain data: first and end of the rows, and of the columns."""
Array = NDArray[np.float32]
WHOLE: Region = (slice(None), slice(None))


def as_region(region: Any, shape: tuple[int, int]) -> Region:
    """Check a region ``(rows, columns)`` of a plane, of slices or of pairs of the first and the end.

    Raises
    ------
    ValueError
        If it is empty, has steps, or is not inside the plane.
    """
    expected = f"region: expected rows and columns, inside {shape[0]} x {shape[1]} pixels"
    try:
        rows, columns = (_bounds(side, n) for side, n in zip(region, shape, strict=True))
    except (TypeError, ValueError):
        raise ValueError(f"{expected}, as two slices or pairs of integers, got {region!r}") from None
    for (start, stop), n in ((rows, shape[0]), (columns, shape[1])):
        if not 0 <= start < stop <= n:
            raise ValueError(f"{expected}, got {region!r}")
    return slice(*rows), slice(*columns)


def _bounds(side: Any, n: int) -> tuple[int, int]:
    """First pixel and end of a slice or a pair; negative ones count from the end."""
    if isinstance(side, slice):
        if side.step not in (None, 1):
            raise ValueError
        side = (0 if side.start is None else side.start, n if side.stop is None else side.stop)
    start, stop = side
    if not (isinstance(start, Integral) and isinstance(stop, Integral)):
        raise TypeError
    return int(start) + n * (start < 0), int(stop) + n * (stop < 0)


def with_context(region: Region, shape: tuple[int, int], context: tuple[int, int]) -> tuple[Region, Region]:
    """Enlarge a region on all sides as far as the plane goes; give that, and where the region is in it."""
    around, inside = [], []
    for side, n, more in zip(region, shape, context, strict=True):
        start = max(side.start - more, 0)
        around.append(slice(start, min(side.stop + more, n)))
        inside.append(slice(side.start - start, side.stop - start))
    return (around[0], around[1]), (inside[0], inside[1])


def tiles(
    shape: tuple[int, int], sides: tuple[int, int], overlaps: tuple[int, int]
) -> Iterator[tuple[Region, Array]]:
    """Cover a plane with tiles of one size.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the plane.
    sides : tuple of int
        Height and width of a tile, unless the plane is smaller.
    overlaps : tuple of int
        Rows and columns that neighbours share at least; less than the sides.

    Yields
    ------
    tuple of slice
        Rows and columns of the tile.
    array
        Its weights, float32: zero where the tile's border is near and another tile's is not, and smooth.
        Over all tiles, the weights of a pixel sum to one.
    """
    rows, columns = (segments(*those) for those in zip(shape, sides, overlaps, strict=True))
    for row, vertical in rows:
        for column, horizontal in columns:
            yield (row, column), np.outer(vertical, horizontal).astype(np.float32)


def segments(length: int, side: int, overlap: int) -> list[tuple[slice, NDArray[np.float64]]]:
    """Cover a line with segments that share at least `overlap`; their weights sum to one.

    A weight is zero in the outer quarter of the overlap, and rises over its middle half as a raised cosine.
    """
    side = min(side, length)
    count = 1 + -(-(length - side) // (side - overlap))
    starts = [round(start) for start in np.linspace(0, length - side, count)]
    parts = [slice(start, start + side) for start in starts]
    inwards = np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5
    taper = np.sin(np.pi / 2 * np.clip((inwards - overlap / 4) / max(overlap / 2, 1), 0, 1)) ** 2
    first, last = np.arange(side) < side / 2, np.arange(side) >= side / 2
    weights = []
    for part in parts:
        at_border = (first & (part.start == 0)) | (last & (part.stop == length))
        weights.append(np.where(at_border, 1.0, taper))
    total = np.zeros(length)
    for part, weight in zip(parts, weights, strict=True):
        total[part] += weight
    return [(part, weight / total[part]) for part, weight in zip(parts, weights, strict=True)]
