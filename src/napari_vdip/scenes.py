"""Generated scenes with a known truth, for the demo, the samples, tests and benchmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.signal import fftconvolve

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


def cells(size: int = 256, psf_size: int = 21, photons: float = 2000.0, seed: int = 0) -> Scene:
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
        Height and width in pixels, odd. The central lobe is about a quarter of that.
    """
    samples = 8 * size
    axis = np.fft.fftfreq(samples)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    cutoff = 2.4 / size
    radius, angle = np.hypot(y, x) / cutoff, np.arctan2(y, x)
    coma = (3 * radius**3 - 2 * radius) * np.cos(angle - 0.6)
    astigmatism = radius**2 * np.cos(2 * angle)
    pupil = (radius <= 1) * np.exp(2j * np.pi * (0.35 * coma + 0.15 * astigmatism))
    intensity = np.fft.fftshift(np.abs(np.fft.fft2(pupil)) ** 2)
    middle = samples // 2
    window = slice(middle - size // 2, middle + size // 2 + 1)
    return centred(intensity[window, window] / intensity[window, window].sum())[0]


def structure(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Sharp scene ``(size, size)`` in [0, 1]: nuclei, filaments and vesicles over a dim background."""
    y, x = np.mgrid[:size, :size].astype(float)
    scene = np.full((size, size), 0.04)
    for _ in range(max(3, size // 40)):
        centre, axes, turn = rng.uniform(0, size, 2), rng.uniform(10, 22, 2), rng.uniform(0, np.pi)
        dy, dx = y - centre[0], x - centre[1]
        along, across = dy * np.cos(turn) + dx * np.sin(turn), dx * np.cos(turn) - dy * np.sin(turn)
        inside = (along / axes[0]) ** 2 + (across / axes[1]) ** 2
        texture = 0.75 + 0.25 * np.sin(along / 2.5) * np.cos(across / 3.0)
        scene += 0.22 * texture / (1 + np.exp(8 * (inside - 1)))
    filaments = np.zeros_like(scene)
    length = np.arange(0, 1.5 * size, 0.25)
    for _ in range(max(6, size // 12)):
        bend = gaussian_filter(rng.normal(0, 1, length.size), 60) * 0.12
        heading = rng.uniform(0, 2 * np.pi) + np.cumsum(bend) * 0.25
        path = rng.uniform(0, size, 2)[:, None] + np.cumsum([np.sin(heading), np.cos(heading)], 1) * 0.25
        inside_area = ((path >= 0) & (path < size - 1)).all(0)
        rows, columns = path[:, inside_area].round().astype(int)
        filaments[rows, columns] = np.maximum(filaments[rows, columns], rng.uniform(0.5, 1.0))
    scene += 0.9 * gaussian_filter(filaments, 0.6)
    for _ in range(size // 4):
        row, column = rng.uniform(2, size - 2, 2)
        scene += rng.uniform(0.3, 0.8) * np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * 0.9**2))
    return (scene / scene.max()).clip(0, 1)
