"""Kernels and point spread functions as NumPy arrays: orientation and centring.

The model correlates the latent image with a kernel; the point spread function of optics is the kernel
of a convolution, hence the same one turned by 180 degrees.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import center_of_mass, shift

Array = NDArray[np.float64]
CENTRING_ROUNDS = 3
"""What leaves the window and what is clipped moves the centroid a little, so one round is not enough."""


def off_centre(psf: NDArray[np.floating]) -> tuple[float, float]:
    """``(y, x)`` of the centroid of a ``(Y, X)`` point spread function from its central pixel."""
    y, x = center_of_mass(np.asarray(psf, np.float64))
    return float(y - (psf.shape[0] - 1) / 2), float(x - (psf.shape[1] - 1) / 2)


def moved(psf: NDArray[np.floating], by: tuple[float, float]) -> Array:
    """Move a ``(Y, X)`` point spread function by ``(y, x)`` pixels; it stays non-negative, sum one."""
    result = shift(np.asarray(psf, np.float64), by, order=3, mode="grid-constant").clip(0)
    total = result.sum()
    normalised: Array = result / total
    return normalised


def centred(psf: NDArray[np.floating]) -> tuple[Array, tuple[float, float]]:
    """Move the centroid to the central pixel.

    Returns
    -------
    array
        The centred point spread function.
    tuple of float
        ``(y, x)`` by which it was moved. The latent image belongs moved by the opposite.
    """
    by = (0.0, 0.0)
    for _ in range(CENTRING_ROUNDS):
        y, x = off_centre(moved(psf, by))
        by = (by[0] - y, by[1] - x)
    return moved(psf, by), by
