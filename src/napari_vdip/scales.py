"""The scales from coarse to fine on which a kernel is found without networks. Imports no torch."""

from __future__ import annotations

RATIO = 2**0.5
"""Resolution of a scale, relative to the one before."""
SMALLEST = 3
"""Side in pixels of the smallest window, where it begins: a kernel has next to no structure there."""
ROOM = 1.25
"""Side of the windows of coarser scales, relative to that of the finest in their pixels: at first a kernel
is not where it will be."""
ROUNDS = 15
"""Rounds at each scale but the finest."""


def coarser_windows(window: tuple[int, int]) -> list[tuple[int, int]]:
    """Windows of a kernel at all scales but the finest, from the coarsest.

    Examples
    --------
    >>> coarser_windows((9, 5))
    [(3, 3), (5, 3), (7, 3), (9, 5)]
    """
    windows, factor = [window], 1.0
    while max(windows[-1]) > SMALLEST:
        factor *= RATIO
        height, width = (max(int(ROOM * side / factor + 0.5) // 2 * 2 + 1, SMALLEST) for side in window)
        windows.append((height, width))
    return windows[:0:-1]


def coarse_rounds(window: tuple[int, int]) -> int:
    """Count the rounds at all scales but the finest."""
    return ROUNDS * len(coarser_windows(window))
