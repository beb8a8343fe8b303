"""What a point spread function is like: its width, its place in its window, how concentrated it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.signal import fftconvolve

from napari_vdip.kernels import off_centre
from napari_vdip.psf_window import Advice, advice, border_mass, checked, suggested_window

Array = NDArray[np.float64]

AIRY_HALF = 1.6163399561827614
"""Where the Airy pattern (2 J1(v) / v)² has fallen to one half."""
STEP = 0.02
"""Distance in pixels between the samples of a profile."""
NARROW = 2.0
"""Full width at half maximum in pixels below which there is hardly a blur (Nyquist)..."""
COMPACT = 0.05
"""...if the energy is at least this, half that of a Gaussian so wide."""


@dataclass(frozen=True, slots=True)
class Widths:
    """How wide a point spread function is, in one unit of length.

    Attributes
    ----------
    unit : str
        ``"pixel"`` or a unit of length.
    fwhm : tuple of float
        Full width at half maximum along y and along x, through the maximum.
    fwhm_axes : tuple of float
        The same along the major and the minor principal axis.
    sigma : tuple of float
        Root of the second central moments along these axes. All of the window counts, a faint haze as
        well, and that of an Airy pattern grows with the window: it has no limit.
    angle : float
        Of the major axis in degrees, from x towards y, in (-90, 90].
    """

    unit: str
    fwhm: tuple[float, float]
    fwhm_axes: tuple[float, float]
    sigma: tuple[float, float]
    angle: float


@dataclass(frozen=True, slots=True)
class PsfMeasures:
    """Measures of a point spread function.

    Attributes
    ----------
    window : tuple of int
        Height and width in pixels.
    pixels : Widths
        Its widths in pixels.
    physical : Widths or None
        The same in a unit of length, if the pixel size is known.
    centroid : tuple of float
        ``(y, x)`` of the centroid from the centre of the window, in pixels.
    border : float
        Part of the mass on the outermost pixels of the window.
    suggested : tuple of int
        Window to take, see `suggested_window`.
    advice : str
        ``"larger window"``, ``"smaller window"`` or nothing.
    energy : float
        Sum of squares: 1 for a point, 1 / n for n equal pixels.
    entropy : float
        In nats: 0 for a point, ln n for n equal pixels.
    """

    window: tuple[int, int]
    pixels: Widths
    physical: Widths | None
    centroid: tuple[float, float]
    border: float
    suggested: tuple[int, int]
    advice: Advice
    energy: float
    entropy: float

    @property
    def near_point(self) -> bool:
        """Whether it is narrower than two pixels along both axes, and no mere spike in a haze."""
        return max(self.pixels.fwhm_axes) < NARROW and self.energy > COMPACT

    def narrower_than(self, theoretical: float | None) -> bool:
        """Whether it is narrower along both axes than a width in the unit of `physical`, if known."""
        if self.physical is None or theoretical is None:
            return False
        return max(self.physical.fwhm_axes) < theoretical


def measure_psf(
    psf: NDArray[np.floating],
    pixel_size: tuple[float, float] | None = None,
    unit: str = "micrometer",
) -> PsfMeasures:
    """Measure a point spread function.

    Parameters
    ----------
    psf : array
        ``(kh, kw)``, non-negative, of any sum.
    pixel_size : tuple of float, optional
        Height and width of a pixel.
    unit : str
        Their unit.

    Raises
    ------
    ValueError
        If it is no point spread function, or a pixel size is not positive.

    Examples
    --------
    >>> from napari_vdip.scenes import gaussian_psf
    >>> measures = measure_psf(gaussian_psf(21, sigma=2.0), (0.1, 0.1))
    >>> [round(float(width), 2) for width in measures.physical.fwhm]
    [0.48, 0.48]
    """
    p = checked(psf)
    if pixel_size is not None and not all(0 < size < math.inf for size in pixel_size):
        raise ValueError(f"pixel_size: expected two positive numbers, got {pixel_size}")
    suggested = suggested_window(p)
    mass = p[p > 0]
    return PsfMeasures(
        window=(p.shape[0], p.shape[1]),
        pixels=_widths(p, (1.0, 1.0), "pixel"),
        physical=None if pixel_size is None else _widths(p, pixel_size, unit),
        centroid=off_centre(p),
        border=border_mass(p),
        suggested=suggested,
        advice=advice(p.shape, suggested),
        energy=float(np.sum(p**2)),
        entropy=float(-np.sum(mass * np.log(mass))),
    )


def agreement(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Likeness of two point spread functions, such as those of two seeds, up to a shift.

    The largest normalised cross-correlation over whole-pixel shifts: 1 if they are the same up to scale, 0
    if they never overlap. Unlike `metrics.kernel_error`, which is ``|a|² + |b|² - 2 a·b`` at that shift, it
    means the same for compact and for wide ones.

    Parameters
    ----------
    one, other : array
        ``(kh, kw)`` of any size, non-negative.
    """
    a, b = checked(one), checked(other)
    overlap = fftconvolve(a, b[::-1, ::-1], mode="full").max()
    return float(np.clip(overlap / math.sqrt(np.sum(a**2) * np.sum(b**2)), 0, 1))


def theoretical_width(wavelength: float, na: float) -> float:
    """Full width at half maximum of a wide-field fluorescence microscope in focus, by diffraction alone.

    0.514 wavelength / NA, that of the Airy pattern [2 J1(v) / v]² with v = 2 pi NA r / wavelength (Born and
    Wolf, Principles of Optics, section 8.5.2).

    Parameters
    ----------
    wavelength : float
        Of the emission in vacuum, in any unit of length.
    na : float
        Numerical aperture of the objective.

    Returns
    -------
    float
        In the unit of the wavelength.

    Raises
    ------
    ValueError
        If one of them is not positive.
    """
    for name, value in (("wavelength", wavelength), ("na", na)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name}: expected a positive number, got {value}")
    return AIRY_HALF / math.pi * wavelength / na


def _widths(p: Array, pixel_size: tuple[float, float], unit: str) -> Widths:
    """Measure the widths for a pixel size."""
    size = np.array(pixel_size)
    places = (
        np.indices(p.shape).reshape(2, -1).T - np.add(off_centre(p), (np.array(p.shape) - 1) / 2)
    ) * size
    variances, axes = np.linalg.eigh((places * p.reshape(-1, 1)).T @ places)
    minor, major = axes.T
    angle = math.degrees(math.atan2(major[0], major[1]))
    top = _maximum(p)
    lines = (*np.eye(2), major, minor)
    y, x, along, across = (_fwhm(p, top, line / size) for line in lines)
    return Widths(
        unit=unit,
        fwhm=(y, x),
        fwhm_axes=(along, across),
        sigma=(math.sqrt(max(variances[1], 0.0)), math.sqrt(max(variances[0], 0.0))),
        angle=angle - 180 if angle > 90 else angle + 180 if angle <= -90 else angle,
    )


def _maximum(p: Array) -> Array:
    """Find the maximum to a part of a pixel, by parabolas through the largest and its neighbours."""
    largest = np.argwhere(p == p.max())  # of several, the one nearest to the centroid
    away = largest - np.array(off_centre(p)) - (np.array(p.shape) - 1) / 2
    at = largest[np.square(away).sum(1).argmin()]
    padded = np.pad(p, 1)
    row, column = padded[at[0] : at[0] + 3, at[1] + 1], padded[at[0] + 1, at[1] : at[1] + 3]

    def vertex(before: float, here: float, after: float) -> float:
        bend = before - 2 * here + after
        return (before - after) / (2 * bend) if bend else 0.0

    return np.array([at[0] + vertex(*row), at[1] + vertex(*column)])


def _fwhm(p: Array, top: Array, direction: Array) -> float:
    """Full width at half maximum along a line through the maximum, to where it first falls so low.

    `direction` is what a unit of length along the line is in pixels.
    """
    reach = math.hypot(*p.shape) + 1
    steps = np.arange(0, reach, STEP)

    def side(sign: int) -> float:
        points = top[:, None] + sign * steps * (direction / np.linalg.norm(direction))[:, None]
        profile = map_coordinates(p, points, order=1 if _spiky(p) else 3, mode="grid-constant")
        half = profile[0] / 2
        end = int(np.argmax(profile < half))
        before, after = profile[end - 1 : end + 1]
        return float(steps[end - 1] + STEP * (before - half) / (before - after))

    return (side(1) + side(-1)) / float(np.linalg.norm(direction))


def _spiky(p: Array) -> bool:
    """Whether a spline would swing: most of the mass is in one pixel."""
    return bool(p.max() > 0.5)
