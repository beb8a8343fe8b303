"""The window of a point spread function: whether it cuts it off, and which one to take instead."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from napari_vdip.kernels import normalised

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Array = NDArray[np.float64]
Advice = Literal["larger window", "smaller window", ""]

CUT_OFF = 0.05
"""Mass in the first and last row, or column, above which the window cuts the point spread function off."""
FRINGE = 0.01
"""Mass that a suggested window may leave out before its margin."""
MARGIN = 0.25
"""Margin of a suggested window on each side, as part of the extent; one pixel at least."""
GROWTH = 1.5
"""Ratio of a suggested window to one that cuts off: what is outside is not known."""
ROOMY = 0.7
"""Ratio of sides below which a smaller window is worth the advice: a little too large does no harm."""


def checked(psf: NDArray[np.floating]) -> Array:
    """Return a ``(kh, kw)`` point spread function that sums to one; a `ValueError` if it is none."""
    if np.ndim(psf) != 2:
        raise ValueError(f"psf: expected the axes (Y, X), got shape {np.shape(psf)}")
    return normalised(np.asarray(psf, np.float64))


def border_mass(psf: NDArray[np.floating]) -> float:
    """Part of the mass of a ``(kh, kw)`` point spread function on the outermost pixels of its window."""
    return float(1 - psf[1:-1, 1:-1].sum() / psf.sum())


def suggested_window(psf: NDArray[np.floating]) -> tuple[int, int]:
    """Suggest a window for a point spread function, from one that was estimated in another.

    A side grows by half where the first and last row, or column, hold more than `CUT_OFF`.
    Otherwise it is that of the centred window that holds all but `FRINGE` of the mass, and a margin, but
    not more than it was.

    Parameters
    ----------
    psf : array
        ``(kh, kw)``, non-negative.

    Returns
    -------
    tuple of int
        Height and width in pixels, both odd and at least three.
    """
    p = checked(psf)
    return _side(p.sum(1)), _side(p.sum(0))


def larger_window(psfs: Sequence[NDArray[np.floating]], plane: tuple[int, int]) -> tuple[int, int] | None:
    """Suggest a window that holds point spread functions, if the one they have cuts one of them off.

    Parameters
    ----------
    psfs : sequence of array
        ``(kh, kw)`` each, non-negative, all of the same shape.
    plane : tuple of int
        Height and width in pixels of the image. A window takes at most half of either, or too little of
        it is left to tell what is in the window.

    Returns
    -------
    tuple of int or None
        Height and width in pixels, odd, neither less than it was; ``None`` if there is no need or no room.

    Examples
    --------
    >>> from napari_vdip.scenes import gaussian_psf
    >>> larger_window([gaussian_psf(9, sigma=4.0)], (256, 24))
    (15, 11)
    >>> larger_window([gaussian_psf(31, sigma=4.0)], (256, 256)) is None
    True
    """
    window = psfs[0].shape
    wanted = [max(sides) for sides in zip(window, *map(suggested_window, psfs), strict=True)]
    height, width = (
        max(old, min(new, (side // 2 - 1) // 2 * 2 + 1))
        for old, new, side in zip(window, wanted, plane, strict=True)
    )
    return (height, width) if advice(window, (height, width)) == "larger window" else None


def advice(window: tuple[int, ...], suggested: Iterable[int]) -> Advice:
    """Say whether another window is worth to be taken than the one that there was."""
    pairs = list(zip(window, suggested, strict=True))
    if any(new > old + 1 for old, new in pairs):  # an even side becomes odd
        return "larger window"
    return "smaller window" if all(new <= ROOMY * old for old, new in pairs) else ""


def _side(profile: Array) -> int:
    """Suggest one side of the window for the mass in each row, or column."""
    size = len(profile)
    if profile[0] + profile[-1] > CUT_OFF:
        return _odd(GROWTH * size)
    middle = (size - 1) / 2
    far = np.abs(np.arange(size) - middle)
    extent = next(reach for reach in sorted(far) if profile[far > reach].sum() <= FRINGE)
    return min(max(3, _odd(2 * (extent + max(1.0, MARGIN * extent)) + 1)), _odd(size))


def _odd(number: float) -> int:
    """Smallest odd number at least as large."""
    return 2 * math.ceil((number - 1) / 2) + 1
