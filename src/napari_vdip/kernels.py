"""Kernels and point spread functions as NumPy arrays: orientation and centring.

The model correlates the latent image with a kernel; the point spread function of optics is the kernel
of a convolution, hence the same one turned by 180 degrees.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
TURNED = 0.05
"""Mass that a quarter of a turn moves in a point spread function that is not quite round."""
CENTRING_ROUNDS = 3
"""What is clipped, or leaves the window, moves the centroid a little, so one round is not enough."""


def off_centre(psf: NDArray[np.floating]) -> tuple[float, float]:
    """``(y, x)`` of the centroid of a ``(Y, X)`` point spread function from its central pixel."""
    from scipy.ndimage import center_of_mass  # here, so that the panel opens without it

    y, x = center_of_mass(np.asarray(psf, np.float64))
    return float(y - (psf.shape[0] - 1) / 2), float(x - (psf.shape[1] - 1) / 2)


def thinness(psf: NDArray[np.floating]) -> float:
    """Sum of the squares of a ``(kh, kw)`` point spread function of sum one, relative to a Gaussian's.

    The Gaussian is round and has the same mean variance. A spot has about one, a track more.
    """
    places = np.indices(psf.shape).reshape(2, -1)
    variance = np.trace(np.cov(places, aweights=psf.ravel(), ddof=0)) / 2
    return float(4 * np.pi * variance * np.square(psf).sum())


def is_round(psf: NDArray[np.floating]) -> bool:
    """Whether a quarter of a turn leaves a ``(kh, kw)`` point spread function of sum one about as it is."""
    side = max(psf.shape)
    rows, columns = ((side - length) // 2 for length in psf.shape)
    square = np.pad(psf, ((rows, rows), (columns, columns)))
    return float(np.abs(square - np.rot90(square)).sum()) / 2 < TURNED


def moved(psf: NDArray[np.floating], by: tuple[float, float]) -> Array:
    """Move a ``(Y, X)`` point spread function by ``(y, x)`` pixels; it stays non-negative, sum one."""
    from scipy.ndimage import shift

    result = shift(np.asarray(psf, np.float64), by, order=3, mode="grid-constant").clip(0)
    total = result.sum()
    normalised: Array = result / total
    return normalised


def centred(psf: NDArray[np.floating], room: int = 0) -> tuple[Array, tuple[float, float]]:
    """Move the centroid to the central pixel.

    Parameters
    ----------
    psf : array
        ``(kh, kw)``.
    room : int
        Pixels around the window in which what leaves it still counts for the centroid. Without, it is that
        of the rest, which moves further the more is cut off.

    Returns
    -------
    array
        The centred point spread function. What leaves its window is cut off.
    tuple of float
        ``(y, x)`` by which it was moved. The latent image belongs moved by the opposite.
    """
    padded, by = np.pad(psf, room), (0.0, 0.0)
    for _ in range(CENTRING_ROUNDS):
        y, x = off_centre(moved(padded, by))
        by = (by[0] - y, by[1] - x)
    height, width = psf.shape
    inside = moved(padded, by)[room : room + height, room : room + width]
    return inside / inside.sum(), by


def odd(psf: NDArray[np.floating]) -> NDArray[np.floating]:
    """Pad a ``(kh, kw)`` point spread function with zeros to odd sides of at least three pixels.

    Its origin stays the same: the central pixel, or, of an even side, the one after the middle.
    """
    more = [(1, 1) if side == 1 else (0, 1 - side % 2) for side in psf.shape]
    return np.pad(psf, more)


def normalised(psf: NDArray[np.floating], name: str = "psf") -> Array:
    """Check a ``(kh, kw)`` point spread function, and scale it to the sum one.

    Raises
    ------
    ValueError
        If a value is negative or not finite, or all are zero.
    """
    if not np.isfinite(psf).all():
        raise ValueError(f"{name}: expected finite values, got {psf[~np.isfinite(psf)][0]}")
    if psf.min() < 0:
        raise ValueError(f"{name}: expected values that are not negative, got {psf.min():.4g}")
    with np.errstate(over="ignore"):  # an infinite sum is refused
        total = psf.sum()
    if not 0 < total < np.inf:
        raise ValueError(f"{name}: expected a positive, finite sum, got {total}")
    return np.asarray(psf / total, np.float64)
