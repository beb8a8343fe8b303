"""Kernels by their spectrum: the nearest to a target that is non-negative and sums to one."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from napari_vdip.kernel_update import least_on_simplex
from napari_vdip.kernels import off_centre
from napari_vdip.operators import size_of
from napari_vdip.support import grown, support_of

FLAT = 0.01
"""Frequency below which the power of an image is taken not to grow; above, it falls with the square."""
GRID = 3
"""Points of the grid of frequencies for each pixel of the kernel's window."""
STEPS = 400

Complex = NDArray[np.complex128]
Real = NDArray[np.floating]


def frequencies(kernel: Tensor) -> tuple[Real, Real]:
    """Frequencies along an axis, in cycles per pixel, and the length of all pairs of them.

    For a kernel ``(1, 1, kh, kw)``: as many as tell all of its spectrum.
    """
    u = np.fft.fftfreq(GRID * max(size_of(kernel)))
    return u, np.hypot(u[:, None], u)


def spectrum(kernel: Tensor, u: Real) -> Complex:
    """Fourier transform of ``(1, 1, kh, kw)`` about its middle, at all pairs of frequencies."""
    k = kernel[0, 0].cpu().double().numpy()
    rows, columns = (np.exp(-2j * np.pi * np.outer(u, np.arange(n) - n // 2)) for n in k.shape)
    transform: Complex = rows @ k @ columns.T
    return transform


def nearest(target: Complex, start: Tensor) -> Tensor:
    """Kernel around that of `start`, non-negative, of sum one, whose spectrum is nearest to a target.

    A target is given at the pairs of `frequencies`. Errors are weighted as an image's power weights them.
    """
    rows, columns = size_of(start)
    _, radius = frequencies(start)
    weights = 1 / (radius**2 + FLAT**2)
    scaled = torch.from_numpy(weights / weights.max())
    goal = torch.from_numpy(target)

    def slope(kernel: Tensor) -> Tensor:
        padded = F.pad(kernel, (0, len(scaled) - columns, 0, len(scaled) - rows))
        centred = padded.roll((-(rows // 2), -(columns // 2)), (-2, -1))
        error: Tensor = torch.fft.ifft2(scaled * (torch.fft.fft2(centred) - goal)).real
        return error.roll((rows // 2, columns // 2), (-2, -1))[..., :rows, :columns]

    support = grown(support_of(start)).cpu()
    return least_on_simplex(slope, 1.0, start.cpu().double(), STEPS, support).to(start)


def sharpened(kernel: Tensor, width: float, by: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """Return the kernel that a Gaussian has blurred, moved, as far as it is non-negative.

    Parameters
    ----------
    kernel : Tensor
        ``(1, 1, kh, kw)``, non-negative, sums to one.
    width : float
        Standard deviation of the Gaussian in pixels.
    by : tuple of float
        Rows and columns, each at most about one.
    """
    u, radius = frequencies(kernel)
    gain = np.exp(0.5 * (2 * np.pi * width * radius) ** 2)
    turn = np.exp(-2j * np.pi * (u[:, None] * by[0] + u * by[1]))
    return nearest(gain * turn * spectrum(kernel, u), kernel)


def to_whole_pixels(kernel: Tensor) -> tuple[float, float]:
    """Return what moves the centroid of a kernel ``(1, 1, kh, kw)`` to the middle of the nearest pixel."""
    y, x = off_centre(kernel[0, 0].cpu().numpy())
    return round(y) - y, round(x) - x
