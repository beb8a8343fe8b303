"""Generated scenes with a known truth, for the demo, the samples, tests and benchmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve
from scipy.special import expit, j1

from napari_vdip.kernels import centred

if TYPE_CHECKING:
    from collections.abc import Callable

Array = NDArray[np.float32]
Kind = Literal["filaments", "nuclei", "beads"]
FIRST_ZERO = 3.8317059702075125
"""Of the Bessel function J1, hence of the Airy pattern."""
SUBPIXELS = 8
"""Samples a pixel is integrated over in each direction; even, so that none falls on the centre."""


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
    latent = photons * structure(size + 2 * psf_size, rng)
    return _seen(latent, aberrated_psf(psf_size), psf_size, 2.0, rng)


def specimen(
    kind: Kind,
    psf: NDArray[np.floating],
    *,
    size: int = 256,
    photons: float = 1000.0,
    readout: float = 2.0,
    seed: int = 0,
) -> Scene:
    """Fluorescence specimen of one kind, seen through a known point spread function.

    Parameters
    ----------
    kind : str
        ``"filaments"``: thin, bending and crossing, of varying brightness; ``"nuclei"``: large soft
        ellipses with textured chromatin and bright foci; ``"beads"``: points and small spheres of varied
        brightness, some touching. All over a dim background.
    psf : array
        ``(kh, kw)`` convolution kernel with odd sides, sums to one.
    size : int
        Height and width in pixels.
    photons : float
        Brightest expected photon count of the blurred image; the noise is Poisson's with readout noise.
    readout : float
        Standard deviation of the readout noise in photons.
    seed : int
        Seed of the structure and the noise.

    Raises
    ------
    ValueError
        If there is no such kind, or the point spread function has an even side or does not sum to one.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind: expected one of {get_args(Kind)}, got {kind!r}")
    if psf.ndim != 2 or not all(side % 2 for side in psf.shape) or not np.isclose(psf.sum(), 1):
        raise ValueError(
            f"psf: expected two odd sides and the sum 1, got {psf.shape} and {float(psf.sum()):.4g}"
        )
    rng = np.random.default_rng(seed)
    margin = max(psf.shape)
    latent = {"filaments": _filaments, "nuclei": _nuclei, "beads": _beads}[kind](size + 2 * margin, rng)
    brightest = fftconvolve(latent, psf, mode="same")[margin:-margin, margin:-margin].max()
    return _seen(latent * (photons / brightest), psf, margin, readout, rng)


def _seen(
    latent: NDArray[np.float64],
    psf: NDArray[np.floating],
    margin: int,
    readout: float,
    rng: np.random.Generator,
) -> Scene:
    """Blur a specimen in photons, add the camera's noise, and leave out a margin on each side."""
    blurred = fftconvolve(latent, psf, mode="same").clip(0)
    blurred = rng.poisson(blurred) + rng.normal(0, readout, blurred.shape)
    inside = (slice(margin, -margin),) * 2
    return Scene(
        blurred[inside].astype(np.float32), latent[inside].astype(np.float32), psf.astype(np.float32)
    )


def gaussian_psf(size: int, sigma: float) -> NDArray[np.float64]:
    """Gaussian point spread function, integrated over each pixel; sums to one.

    Parameters
    ----------
    size : int
        Height and width in pixels, odd.
    sigma : float
        Standard deviation in pixels.
    """
    return _radial(size, lambda r: np.exp(-0.5 * (r / sigma) ** 2))


def airy_psf(size: int, radius: float) -> NDArray[np.float64]:
    """Airy pattern of a perfect lens, integrated over each pixel; what the window holds sums to one.

    Parameters
    ----------
    size : int
        Height and width in pixels, odd.
    radius : float
        Radius of the first dark ring in pixels, 0.61 wavelength / (numerical aperture * pixel size).
    """

    def intensity(r: NDArray[np.float64]) -> NDArray[np.float64]:
        v = FIRST_ZERO * r / radius
        pattern: NDArray[np.float64] = (2 * j1(v) / v) ** 2
        return pattern

    return _radial(size, intensity)


def _radial(
    size: int, profile: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Integrate a function of the distance from the centre over each pixel of a window."""
    axis = (np.arange(size * SUBPIXELS) + 0.5) / SUBPIXELS - size / 2
    fine = profile(np.hypot(axis[:, None], axis))
    psf: NDArray[np.float64] = fine.reshape(size, SUBPIXELS, size, SUBPIXELS).sum((1, 3))
    psf /= psf.sum()
    return psf


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


def _filaments(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Thin crossing filaments whose brightness varies along them, over a dim background."""
    filaments = np.zeros((size, size))
    for _ in range(size // 6):
        path = _wandering(size, rng)
        along = 4 * gaussian_filter(rng.normal(0, 1, path.shape[1]), 40)
        filament = np.zeros_like(filaments)
        filament[*path] = rng.uniform(0.2, 1.0) * np.exp(along)
        filaments += filament
    return _over_background(gaussian_filter(filaments, 0.9), 0.03)


def _nuclei(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Soft ellipses with textured chromatin and bright foci, over a dim background."""
    chromatin = gaussian_filter(rng.normal(0, 1, (size, size)), 2.0)
    chromatin = (1 + 0.3 * chromatin / chromatin.std()).clip(0)
    scene = np.zeros_like(chromatin)
    for _ in range(size // 16):
        turn = rng.uniform(0, np.pi)
        nucleus = _disc(size, rng.uniform(0, size, 2), rng.uniform(12, 26, 2), turn)
        inside = np.argwhere(nucleus > 0.9)
        foci = np.zeros_like(scene)
        for centre in inside[rng.integers(0, len(inside), 6)] if len(inside) else []:
            foci += rng.uniform(0.5, 1.5) * _disc(size, centre, rng.uniform(1.0, 2.5, 2), 0.0)
        scene += rng.uniform(0.3, 1.0) * gaussian_filter(nucleus, 1.5) * (chromatin + foci)
    return _over_background(scene, 0.03)


def _beads(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Points and small spheres, dense in places so that some touch, over a dim background."""
    scene = np.zeros((size, size))
    crowds = rng.uniform(0, size, (size // 24, 2))
    for number in range(size * 2 // 3):
        centre = rng.uniform(0, size, 2)
        if number % 2:  # every other bead belongs to a crowd
            centre = rng.normal(crowds[rng.integers(len(crowds))], 8.0)
        radius = rng.choice([0.6, rng.uniform(1.0, 3.0)])
        scene += rng.uniform(0.2, 1.0) * _disc(size, centre, np.full(2, radius), 0.0)
    return _over_background(scene, 0.03)


def _over_background(scene: NDArray[np.float64], background: float) -> NDArray[np.float64]:
    """Scale a scene so that its brightest part is one, background included."""
    normalised: NDArray[np.float64] = background + (1 - background) * scene / scene.max()
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
