"""Generated scenes with a known truth, for the demo, the samples, tests and benchmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve
from scipy.special import expit

from napari_vdip.kernels import centred

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scene:
    """A blurred image and what it was made from.

    Attributes
    ----------
    blurred : array
        ``(Y, X)`` or ``(C, Y, X)`` float32 in photons.
    latent : array
        The sharp image, the same shape and units.
    psf : array
        Point spread function as convolution kernel, ``(kh, kw)`` or ``(C, kh, kw)``, sums to one.
    """

    blurred: Array
    latent: Array
    psf: Array


def cells(size: int = 256, psf_size: int = 21, photons: float = 4000.0, seed: int = 0) -> Scene:
    """Cells with filaments and vesicles, seen through an aberrated objective.

    Parameters
    ----------
    size : int
        Height and width in pixels.
    psf_size : int
        Height and width of the point spread function in pixels, odd.
    photons : float
        Brightest expected photon count; the noise is Poisson's with two photons of readout noise.
    seed : int
        Seed of the structure and the noise.
    """
    rng = np.random.default_rng(seed)
    margin = psf_size
    latent = photons * structure(size + 2 * margin, rng)
    psf = aberrated_psf(psf_size)
    blurred = fftconvolve(latent, psf, mode="same").clip(0)
    blurred = rng.poisson(blurred) + rng.normal(0, 2.0, blurred.shape)
    inside = (slice(margin, -margin),) * 2
    return Scene(
        blurred[inside].astype(np.float32), latent[inside].astype(np.float32), psf.astype(np.float32)
    )


def aberrated_psf(size: int) -> NDArray[np.float64]:
    """Point spread function of a lens with coma and astigmatism: compact, with an asymmetric tail.

    The squared Fourier transform of a circular pupil with a cubic and a quadratic phase.

    Parameters
    ----------
    size : int
        Height and width in pixels, odd. The central lobe is about a fifth of that wide.
    """
    samples = 8 * size
    axis = np.fft.fftfreq(samples)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    cutoff = 4.0 / size
    radius, angle = np.hypot(y, x) / cutoff, np.arctan2(y, x)
    coma = (3 * radius**3 - 2 * radius) * np.cos(angle - 0.6)
    astigmatism = radius**2 * np.cos(2 * angle)
    pupil = (radius <= 1) * np.exp(2j * np.pi * (0.5 * coma + 0.15 * astigmatism))
    intensity = np.fft.fftshift(np.abs(np.fft.fft2(pupil)) ** 2)
    middle = samples // 2
    window = slice(middle - size // 2, middle + size // 2 + 1)
    return centred(intensity[window, window] / intensity[window, window].sum())[0]


def structure(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Sharp scene ``(size, size)`` in [0, 1]: nuclei, filaments and vesicles over a dim background."""
    scene = np.full((size, size), 0.05)
    for _ in range(size // 30):
        nucleus = _disc(size, rng.uniform(0, size, 2), rng.uniform(9, 18, 2), rng.uniform(0, np.pi))
        scene += 0.3 * nucleus
        inside = np.argwhere(nucleus > 0.9)
        for centre in inside[rng.integers(0, len(inside), 3)] if len(inside) else []:
            scene += 0.25 * _disc(size, centre, rng.uniform(1.5, 3.5, 2), 0.0)
    filaments = np.zeros_like(scene)
    for _ in range(size // 16):
        path = _wandering(size, rng)
        filaments[*path] = np.maximum(filaments[*path], rng.uniform(0.5, 1.0))
    scene += 1.4 * gaussian_filter(filaments, 0.9)
    for _ in range(size // 3):
        scene += rng.uniform(0.4, 0.9) * _disc(size, rng.uniform(0, size, 2), rng.uniform(1.2, 3.2, 2), 0.0)
    normalised: NDArray[np.float64] = scene / scene.max()
    return normalised


def _disc(
    size: int, centre: NDArray[np.floating], radii: NDArray[np.floating], turn: float
) -> NDArray[np.float64]:
    """Ellipse of height one with an edge of about a pixel."""
    y, x = np.mgrid[:size, :size]
    dy, dx = y - centre[0], x - centre[1]
    along, across = dy * np.cos(turn) + dx * np.sin(turn), dx * np.cos(turn) - dy * np.sin(turn)
    distance = (np.hypot(along / radii[0], across / radii[1]) - 1) * radii.mean()
    disc: NDArray[np.float64] = expit(-4 * distance)
    return disc


def _wandering(size: int, rng: np.random.Generator) -> NDArray[np.int_]:
    """Pixels ``(2, n)`` of a smoothly bending path."""
    step = 0.25
    bends = gaussian_filter(rng.normal(0, 1, int(1.5 * size / step)), 60)
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(0.03 * bends)
    path = rng.uniform(0, size, (2, 1)) + step * np.cumsum([np.sin(heading), np.cos(heading)], 1)
    pixels = path.round().astype(int)
    return pixels[:, ((pixels >= 0) & (pixels < size)).all(0)]
