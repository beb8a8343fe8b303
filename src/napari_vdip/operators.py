"""The linear operators of the model and their adjoints.

Latent images live on a canvas ``(n, C, H, W)``, images on its valid part ``(n, C, Y, X)`` with
``Y = H - kh + 1`` and ``X = W - kw + 1``, kernels are ``(n, 1, kh, kw)``; ``n`` may be broadcast.
Products are taken by FFT on the canvas, enlarged to a size with small prime factors: wrap-around stays
outside the valid part.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import Tensor

Size = tuple[int, int]


def size_of(a: Tensor) -> Size:
    """Height and width."""
    return a.shape[-2], a.shape[-1]


def fast(size: Size) -> Size:
    """Smallest size at least as large that is quick to transform."""
    return next_fast_len(size[0], real=True), next_fast_len(size[1], real=True)


def inverse(spectrum: Tensor, size: Size, rows: int, columns: int) -> Tensor:
    """Transform a half spectrum back, and keep the first rows and columns."""
    whole: Tensor = torch.fft.irfft2(spectrum, s=size)
    return whole[..., :rows, :columns]


class Blur:
    """Cross-correlation of canvases of one size with a kernel, valid part: its spectrum is taken once.

    The published code does not flip the kernel; the point spread function is the flipped kernel.

    Parameters
    ----------
    kernel : Tensor
        ``(n, 1, kh, kw)``.
    canvas : tuple of int
        ``(H, W)`` of what is blurred.

    Attributes
    ----------
    size : tuple of int
        Of the transforms.
    spectrum : Tensor
        Half spectrum of the kernel.
    """

    def __init__(self, kernel: Tensor, canvas: Size):
        self.size = fast(canvas)
        self.spectrum = torch.fft.rfft2(kernel, s=self.size)
        self._canvas = canvas
        self._valid = valid(canvas, size_of(kernel))

    def __call__(self, latent: Tensor) -> Tensor:
        """Blur a canvas ``(n, C, H, W)``."""
        spectrum = torch.fft.rfft2(latent, s=self.size) * self.spectrum.conj()
        return inverse(spectrum, self.size, *self._valid)

    def adjoint(self, residual: Tensor) -> Tensor:
        """Adjoint: from the image grid to the canvas."""
        spectrum = torch.fft.rfft2(residual, s=self.size) * self.spectrum
        return inverse(spectrum, self.size, *self._canvas)

    def filtered(self, canvas: Tensor, response: Tensor) -> Tensor:
        """Multiply the spectrum of a canvas ``(n, C, H, W)`` by a response at the same frequencies."""
        spectrum = torch.fft.rfft2(canvas, s=self.size) * response
        return inverse(spectrum, self.size, *self._canvas)


class KernelBlur:
    """The blur of one latent image as a function of the kernel: the latent's spectrum is taken once.

    Parameters
    ----------
    latent : Tensor
        ``(n, C, H, W)``.
    window : tuple of int
        ``(kh, kw)``.
    """

    def __init__(self, latent: Tensor, window: Size):
        self._size = fast(size_of(latent))
        self._spectrum = torch.fft.rfft2(latent, s=self._size)
        self._window = window
        self._valid = valid(size_of(latent), window)

    def __call__(self, kernel: Tensor) -> Tensor:
        """Blur with a kernel ``(1, 1, kh, kw)``."""
        spectrum = self._spectrum * torch.fft.rfft2(kernel, s=self._size).conj()
        return inverse(spectrum, self._size, *self._valid)

    def adjoint(self, residual: Tensor) -> Tensor:
        """Adjoint: from the image grid ``(n, C, Y, X)`` to ``(1, 1, kh, kw)``."""
        products = self._spectrum * torch.fft.rfft2(residual, s=self._size).conj()
        return inverse(products.sum((0, 1), keepdim=True), self._size, *self._window)


def valid(canvas: Size, window: Size) -> Size:
    """Size of the part of a canvas that a window fits around."""
    return canvas[0] - window[0] + 1, canvas[1] - window[1] + 1


def blur(latent: Tensor, kernel: Tensor) -> Tensor:
    """Blur a canvas ``(n, C, H, W)`` once, see `Blur`."""
    return Blur(kernel, size_of(latent))(latent)


def difference(a: Tensor, dim: int) -> Tensor:
    """Forward difference along one dimension, valid part (one shorter)."""
    return a.narrow(dim, 1, a.shape[dim] - 1) - a.narrow(dim, 0, a.shape[dim] - 1)


def gradient(a: Tensor) -> tuple[Tensor, Tensor]:
    """Vertical ``(n, C, H - 1, W)`` and horizontal ``(n, C, H, W - 1)`` difference."""
    return difference(a, -2), difference(a, -1)


def gradient_adjoint(down: Tensor, right: Tensor) -> Tensor:
    """Adjoint of the gradient."""
    vertical = F.pad(down, (0, 0, 1, 0)) - F.pad(down, (0, 0, 0, 1))
    return vertical + F.pad(right, (1, 0)) - F.pad(right, (0, 1))


def crop(canvas: Tensor, kernel_size: Size) -> Tensor:
    """Cut the canvas to the part that lies under the image."""
    top, left = ((size - 1) // 2 for size in kernel_size)
    height, width = size_of(canvas)
    return canvas[..., top : height - top, left : width - left]


def extend(image: Tensor, kernel_size: Size) -> Tensor:
    """Continue an image to its canvas by its border pixels; `crop` undoes it."""
    top, left = (size // 2 for size in kernel_size)
    return F.pad(image, (left, left, top, top), mode="replicate")
