"""How close a result is to a known truth, up to the shift that blind deconvolution cannot know."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import shift as spline_shift
from scipy.signal import fftconvolve
from skimage.metrics import structural_similarity

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Quality:
    """Likeness of a restored image to the truth.

    Attributes
    ----------
    psnr : float
        Peak signal-to-noise ratio in dB.
    ssim : float
        Structural similarity (Wang et al., 2004), up to 1.
    shift : tuple of float
        The ``(y, x)`` shift in pixels that was applied to the restored image.
    """

    psnr: float
    ssim: float
    shift: tuple[float, float]


def aligned_quality(
    restored: NDArray[np.floating],
    truth: NDArray[np.floating],
    *,
    data_range: float,
    border: int = 15,
    reach: int = 10,
    subpixels: int = 4,
) -> Quality:
    """PSNR and SSIM at the shift with the least squared difference.

    The protocol of Levin et al. (2009): a border of the truth is left out, and the restored image is
    shifted bilinearly over ``-reach .. reach`` pixels in steps of ``1 / subpixels``.

    Parameters
    ----------
    restored, truth : array
        ``(Y, X)``, the same shape and intensity units.
    data_range : float
        Difference between the largest and the smallest possible intensity.
    border : int
        Pixels left out on each side, at least `reach`.
    reach : int
        Largest shift in pixels.
    subpixels : int
        Steps per pixel.

    Returns
    -------
    Quality
        The measures and the shift they were taken at.

    Raises
    ------
    ValueError
        If the shapes differ, or the border does not cover the reach.
    """
    best, target, shift = align(restored, truth, border=border, reach=reach, subpixels=subpixels)
    error = np.mean((best - target) ** 2)
    psnr = float("inf") if error == 0 else float(10 * np.log10(data_range**2 / error))
    ssim = structural_similarity(
        best,
        target,
        data_range=data_range,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    return Quality(psnr, float(ssim), shift)


def align(
    restored: NDArray[np.floating],
    truth: NDArray[np.floating],
    *,
    border: int = 15,
    reach: int = 10,
    subpixels: int = 4,
) -> tuple[Array, Array, tuple[float, float]]:
    """Shift a restored image onto the truth; parameters and errors are those of `aligned_quality`.

    Returns
    -------
    restored, truth : array
        Both without the border.
    shift : tuple of float
        The ``(y, x)`` shift in pixels that was applied to the restored image.
    """
    if restored.shape != truth.shape or truth.ndim != 2:
        raise ValueError(f"restored: expected the truth's 2-D shape {truth.shape}, got {restored.shape}")
    if border < reach or 2 * border >= min(truth.shape):
        raise ValueError(f"border: expected {reach} to less than half of {truth.shape}, got {border}")
    image = np.asarray(restored, np.float64)
    target = np.asarray(truth, np.float64)[border:-border, border:-border]
    fractions = [(y, x) for y in np.arange(subpixels) / subpixels for x in np.arange(subpixels) / subpixels]

    def candidate(fraction: tuple[float, float]) -> tuple[float, Array, tuple[float, float]]:
        moved = spline_shift(image, fraction, order=1, mode="nearest")
        area = moved[border - reach : moved.shape[0] - border + reach]
        area = area[:, border - reach : moved.shape[1] - border + reach]
        costs = squared_differences(area, target)
        for axis, part in enumerate(fraction):
            if part > 0:  # else the largest shift would exceed the reach
                costs[(0, slice(None))[:: 1 if axis == 0 else -1]] = np.inf
        row, column = np.unravel_index(costs.argmin(), costs.shape)
        best = area[row : row + target.shape[0], column : column + target.shape[1]]
        shift = (float(fraction[0] + reach - row), float(fraction[1] + reach - column))
        return float(costs.min()), best, shift

    _, best, shift = min((candidate(fraction) for fraction in fractions), key=lambda found: found[0])
    return best, target, shift


def shifted(image: NDArray[np.floating], by: tuple[float, float], border: int = 15) -> Array:
    """Shift a ``(Y, X)`` image bilinearly by ``(y, x)`` pixels, as `align` does, and cut off the border."""
    moved: Array = spline_shift(np.asarray(image, np.float64), by, order=1, mode="nearest")
    return moved[border:-border, border:-border]


def squared_differences(area: Array, target: Array) -> Array:
    """Sum of squared differences of the target to every position inside a larger area."""
    ones = np.ones_like(target)
    cross = fftconvolve(area, target[::-1, ::-1], mode="valid")
    energy = fftconvolve(area**2, ones, mode="valid")
    costs: Array = energy - 2 * cross + np.sum(target**2)
    return costs


def kernel_error(estimate: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    """Kernel recovery error: sum of squared differences at the best whole-pixel shift.

    Both kernels are ``(Y, X)`` of any size and are scaled to sum to one.
    """
    first, second = (np.asarray(k, np.float64) / np.sum(k) for k in (estimate, truth))
    overlap = fftconvolve(first, second[::-1, ::-1], mode="full").max()
    return float(max(np.sum(first**2) + np.sum(second**2) - 2 * overlap, 0.0))


def error_ratio(
    restored: NDArray[np.floating], known: NDArray[np.floating], truth: NDArray[np.floating]
) -> float:
    """Spectral norm of a restoration's error over that of the restoration with the known kernel.

    All are ``(Y, X)`` in the same units; each restoration is aligned with the truth by itself.
    """
    first, second = (
        np.linalg.norm(best - target, 2)
        for best, target, _ in (align(restored, truth), align(known, truth))
    )
    return float(first / second)


def best_correlation(
    image: NDArray[np.floating], reference: NDArray[np.floating], reach: int = 10
) -> tuple[float, tuple[int, int]]:
    """Pearson correlation of two ``(Y, X)`` images at the best whole-pixel shift.

    Returns
    -------
    float
        The correlation over the pixels that both have at that shift.
    tuple of int
        The ``(y, x)`` shift that was applied to the image, up to `reach` pixels.
    """

    def overlap(array: NDArray[np.floating], y: int, x: int) -> Array:
        height, width = array.shape
        area = array[max(y, 0) : height + min(y, 0), max(x, 0) : width + min(x, 0)]
        return np.asarray(area, np.float64).ravel()

    shifts = [(y, x) for y in range(-reach, reach + 1) for x in range(-reach, reach + 1)]
    return max(
        (float(np.corrcoef(overlap(image, -y, -x), overlap(reference, y, x))[0, 1]), (y, x))
        for y, x in shifts
    )
