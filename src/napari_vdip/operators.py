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


def blur(latent: Tensor, kernel: Tensor) -> Tensor:
    """Cross-correlate the canvas with the kernel, valid part.

    The published code does not flip the kernel; the point spread function is the flipped kernel.
    """
    size = fast(size_of(latent))
    rows, columns = (n - k + 1 for n, k in zip(size_of(latent), size_of(kernel), strict=True))
    spectrum = torch.fft.rfft2(latent, s=size) * torch.fft.rfft2(kernel, s=size).conj()
    return inverse(spectrum, size, rows, columns)


def blur_adjoint(residual: Tensor, kernel: Tensor) -> Tensor:
    """Adjoint of the blur in the latent image: from the image grid to the canvas."""
    height, width = (n + k - 1 for n, k in zip(size_of(residual), size_of(kernel), strict=True))
    size = fast((height, width))
    spectrum = torch.fft.rfft2(residual, s=size) * torch.fft.rfft2(kernel, s=size)
    return inverse(spectrum, size, height, width)


def kernel_adjoint(residual: Tensor, latent: Tensor) -> Tensor:
    """Adjoint of the blur in the kernel: from the image grid to ``(n, C, kh, kw)``."""
    rows, columns = (h - y + 1 for h, y in zip(size_of(latent), size_of(residual), strict=True))
    size = fast(size_of(latent))
    spectrum = torch.fft.rfft2(latent, s=size) * torch.fft.rfft2(residual, s=size).conj()
    return inverse(spectrum, size, rows, columns)


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
