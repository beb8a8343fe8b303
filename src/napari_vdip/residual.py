"""What a result leaves unexplained: the re-blurred latent image less the input, in units of the noise.

A right result does not leave white noise: the latent image takes up noise where the blur lets it, so that
the chi-square is below one and neighbours are correlated. How much depends on kernel, noise and scene. So
the residual is compared with that of a replica, in which the result is true (a parametric bootstrap, Efron
and Tibshirani, 1993): noise is added to the re-blurred latent image, and it is restored with the same point
spread function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_vdip.images import Intensities, is_blank
from napari_vdip.settings import Settings

if TYPE_CHECKING:
    import torch

    from napari_vdip.plane import Restored
    from napari_vdip.tiling import Region

Array = NDArray[np.float64]
REACH = 3
"""Largest lag in pixels of the correlations."""
LAGS = [(y, x) for y in range(REACH + 1) for x in range(-REACH, REACH + 1) if (y, x) > (0, 0)]
"""One of each pair of opposite lags."""
SIDE = 256
"""Side in pixels of the part of a plane that is examined: where it has most detail."""
PILE = 0.01
"""Part of the range below the highest value in which compression spreads what was saturated: 253 to 255."""
STANDS_OUT = 2
"""Times as many pixels as in either of the next two such parts, beyond chance, make a pile..."""
CHANCE = 3.0
"""...in standard deviations of their number."""


@dataclass(frozen=True, slots=True)
class ResidualMeasures:
    """Measures of the residual, and what a replica of the result has.

    Its unit is what the model leaves unexplained: noise, and in photographs more (`sharpness.sharpness`).

    Attributes
    ----------
    chi_square, expected_chi_square : float
        Mean square.
    correlation, expected_correlation : float
        Of neighbours, the mean of both directions.
    deviation : float
        Difference of these two, in its standard errors.
    whiteness : float
        Mean squared difference of the correlations at all lags up to three pixels from those of the
        replica, in squared standard errors: about 1 if the result is right.
    signal_to_noise : float
        Variance of the input above that of what is left unexplained, relative to it.
    beyond_noise : float
        How far the model leaves more than noise unexplained: from 0, not at all, to 1, as in the sharpest
        images.
    psf_error : float
        Sum of the squared errors of the point spread function that would leave what is more than noise.
    region : tuple of tuple of int
        First and end of the rows and of the columns that were examined.
    """

    chi_square: float
    expected_chi_square: float
    correlation: float
    expected_correlation: float
    deviation: float
    whiteness: float
    signal_to_noise: float
    beyond_noise: float
    psf_error: float
    region: tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Clipping:
    """How much of the input is at the ends of its range, as the largest part over channels.

    Attributes
    ----------
    highest, lowest : float
        Part of the pixels with the highest and with the lowest value, where these are more than have the
        next value; else 0. Of whole numbers those just below the highest value count as well, where they
        pile up.
    """

    highest: float
    lowest: float


def noise_units(
    image: NDArray[Any], reblurred: NDArray[np.floating], settings: Settings | None = None
) -> Array:
    """Return the residual, re-blurred latent image less image, over the standard deviation of the noise.

    Parameters
    ----------
    image, reblurred : array
        ``(Y, X, C)`` in source units.
    settings : Settings, optional
        What the result was made with.

    Returns
    -------
    array
        ``(Y, X, C)``, in standard deviations of `noise.noise_variance`, which grow with the intensity; zero
        where the image is blank, which has no noise.
    """
    if is_blank(image):
        return np.zeros(image.shape)
    return (reblurred - np.asarray(image, np.float64)) / noise_deviation(image, settings)


def noise_deviation(image: NDArray[Any], settings: Settings | None = None) -> Array:
    """Estimate the standard deviation of the noise at every pixel of ``(Y, X, C)``, in source units."""
    from napari_vdip.noise import noise_variance

    intensities = Intensities.of(image, (settings or Settings()).headroom)
    variance = noise_variance(intensities.to_tensor(image))
    return intensities.to_deviation(variance.sqrt()).astype(np.float64)


def measure_residual(
    image: NDArray[Any],
    reblurred: NDArray[np.floating],
    psf: NDArray[np.floating],
    settings: Settings | None = None,
    device: torch.device | None = None,
) -> ResidualMeasures:
    """Measure the residual of a plane where it has most detail, beside that of a replica.

    Parameters
    ----------
    image, reblurred : array
        ``(Y, X, C)`` in source units, the same shape and at least as large as the window.
    psf : array
        ``(kh, kw)``, sums to one.
    settings : Settings, optional
        What the result was made with. The replica is restored by VDIP-Sparse in any case.
    device : torch.device, optional
        Where to restore it; the CPU if not given.
    """
    from napari_vdip.posterior import MEAN_SPECTRUM

    region = examined(image, psf.shape, settings)
    image, reblurred = image[region], reblurred[region]
    deviation, beyond_noise = _unexplained(image, psf, settings)
    seed = settings.seed if settings else 0
    noise = np.random.default_rng(seed).normal(0, 1, image.shape) * deviation
    replica = (reblurred + noise).astype(np.float32)
    restored = _restored(replica, psf, settings, device)
    residual = reblurred - np.asarray(image, np.float64)
    found = residual / deviation
    expected = (restored.reblurred - replica) / _unexplained(replica, psf, settings)[0]
    one, other = correlations(found), correlations(expected)
    # Each is the mean of n products: a variance of 1 / n, and twice that for the difference of two.
    error = math.sqrt(2 / image.size)
    below, beside = LAGS.index((1, 0)), LAGS.index((0, 1))
    near, near_expected = ((c[below] + c[beside]) / 2 for c in (one, other))
    power = float(np.mean(deviation**2))
    noise_power = float(np.mean(noise_deviation(image, settings) ** 2))
    gradient_power = sum(float(np.mean(np.diff(restored.latent, axis=axis) ** 2)) for axis in (0, 1))
    beyond = max(float(np.mean(residual**2)) - noise_power, 0.0)
    return ResidualMeasures(
        chi_square=float(np.mean(found**2)),
        expected_chi_square=float(np.mean(expected**2)),
        correlation=float(near),
        expected_correlation=float(near_expected),
        deviation=float((near - near_expected) / (error / math.sqrt(2))),
        whiteness=float(np.mean((one - other) ** 2) / error**2),
        signal_to_noise=float(np.mean(image.var((0, 1), dtype=np.float64))) / power - 1,
        beyond_noise=beyond_noise,
        psf_error=MEAN_SPECTRUM * beyond / gradient_power if gradient_power else 0.0,
        region=tuple((side.start, side.stop) for side in region),  # type: ignore[arg-type]
    )


def correlations(residual: NDArray[np.floating]) -> Array:
    """Autocorrelation of a residual ``(Y, X, C)`` at each of `LAGS`, the mean of its channels."""
    centred = np.asarray(residual, np.float64) - residual.mean((0, 1))
    height, width = residual.shape[:2]
    power = np.mean(centred**2, (0, 1))
    power[power == 0] = 1.0  # what is constant is not correlated

    def at(y: int, x: int) -> float:
        left, right = max(x, 0), width + min(x, 0)
        product = centred[y:, left:right] * centred[: height - y, left - x : right - x]
        return float(np.mean(product.mean((0, 1)) / power))

    return np.array([at(y, x) for y, x in LAGS])


def clipping(image: NDArray[Any]) -> Clipping:
    """Look for saturation and cut-off values in a ``(Y, X, C)`` image.

    In an image that is not clipped fewer pixels have the highest value than the next. At the lowest it may
    be otherwise where there are few photons. Compression (JPEG), after which images have whole numbers, may
    spread the highest value. What was saturated and then divided by a flat field is not seen: it looks like
    a specimen that is bright and even.
    """

    def part(values: NDArray[Any], end: int) -> float:
        counts = np.unique(values, return_counts=True)[1]
        at, next_to_it = (counts[-1], counts[-2:-1]) if end else (counts[0], counts[1:2])
        clipped = at if at > next_to_it.sum() and at > 1 else 0
        if end and np.issubdtype(values.dtype, np.integer):
            clipped = max(clipped, _piled(values))
        return float(clipped / values.size)

    channels = [image[..., c] for c in range(image.shape[-1])]
    return Clipping(max(part(c, 1) for c in channels), max(part(c, 0) for c in channels))


def _piled(values: NDArray[np.integer]) -> int:
    """Count the pixels just below the highest value, if they are a pile there."""
    highest, lowest = float(values.max()), float(values.min())
    above = [np.count_nonzero(values > highest - n * PILE * (highest - lowest)) for n in (1, 2, 3)]
    here, *further = np.diff([0, *above])
    return int(here) if here - STANDS_OUT * max(further) > CHANCE * math.sqrt(here) else 0


def valid_reblurred(
    latent: NDArray[np.floating], psf: NDArray[np.floating]
) -> tuple[NDArray[np.floating], Region]:
    """Blur a latent image ``(Y, X, C)`` as far as that is known without what is beyond its border.

    Returns
    -------
    array
        The re-blurred latent image, in the units of the latent image.
    tuple of slice
        Rows and columns of the source that it overlays.
    """
    from scipy.signal import fftconvolve

    inside = tuple(
        slice(side // 2, n - side // 2) for side, n in zip(psf.shape, latent.shape[:2], strict=True)
    )
    blurred = fftconvolve(latent.astype(np.float64), psf[..., None].astype(np.float64), "valid", (0, 1))
    return blurred, (inside[0], inside[1])


def examined(image: NDArray[Any], window: tuple[int, ...], settings: Settings | None) -> Region:
    """Return the rows and columns of ``(Y, X, C)`` that have most detail, at most `SIDE` or two windows."""
    from napari_vdip.detail import detail, most_detailed
    from napari_vdip.noise import noise_variance

    sides = [min(n, max(SIDE, 2 * side)) for n, side in zip(image.shape[:2], window, strict=True)]
    tensor = Intensities.of(image, (settings or Settings()).headroom).to_tensor(image)
    return most_detailed(detail(tensor, noise_variance(tensor)), (sides[0], sides[1]))[0]


def _unexplained(
    image: NDArray[Any], psf: NDArray[np.floating], settings: Settings | None
) -> tuple[Array, float]:
    """Return the standard deviation of what a model leaves of ``(Y, X, C)``, and how far beyond noise."""
    import torch

    from napari_vdip.deconvolution import kernel_of
    from napari_vdip.noise import noise_variance
    from napari_vdip.sharpness import relative, sharpness
    from napari_vdip.starts import sharpness_under

    settings = settings or Settings()
    kernel = kernel_of(psf, torch.device("cpu"))
    intensities = Intensities.of(image, settings.headroom)
    tensor = intensities.to_tensor(image)
    variance = noise_variance(tensor)
    sharp = sharpness_under(kernel, sharpness(tensor, variance), settings, image.shape[-1] > 1)
    return intensities.to_deviation((sharp * variance).sqrt()).astype(np.float64), relative(sharp)


def _restored(
    image: NDArray[np.float32],
    psf: NDArray[np.floating],
    settings: Settings | None,
    device: torch.device | None,
) -> Restored:
    """Restore ``(Y, X, C)`` with a point spread function."""
    import torch

    from napari_vdip.deconvolution import kernel_of
    from napari_vdip.plane import Plane

    device = device or torch.device("cpu")
    base = settings or Settings()
    known = Settings(
        psf_source=base.psf_source,  # says whether it may have errors
        psf_shape=psf.shape,
        psf_error=base.psf_error,
        gaussians=base.gaussians,  # and this, whether it may be that of a camera that moved
        pooling=base.pooling,
        headroom=base.headroom,
        seed=base.seed,
    )
    plane = Plane(image, known, device, kernel_of(psf, device))
    *_, last = plane.estimates()
    return plane.preview(last)
