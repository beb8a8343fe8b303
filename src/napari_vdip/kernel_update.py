"""The kernel for a given posterior of the latent gradient: a small quadratic problem on the simplex."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_vdip.operators import KernelBlur, Size, extend, fast, inverse, size_of
from napari_vdip.solvers import TINY

if TYPE_CHECKING:
    from collections.abc import Callable

PASSES = 2
"""Times that the stationary model is minimised."""
STEPS = 15
"""Steps of each."""


def update_kernel(
    kernel: Tensor,
    mean: Tensor,
    variance: Tensor,
    target: Tensor,
    confidence: Tensor,
    support: Tensor | None = None,
) -> Tensor:
    """Lower the weighted squares of the expected residual over kernels that are non-negative, of sum one.

    The variance of independent entries adds a weight on the square of each kernel pixel; the mean alone
    would favour kernels that are too sharp.

    A product with the Hessian takes transforms of the whole canvas. But for borders and uneven noise it is
    `stationary`, and a product with that takes those of a window. So from where the kernel is, a model with
    the true slope and that Hessian is minimised, and the kernel goes there as far as the function falls.

    Parameters
    ----------
    kernel : Tensor
        ``(1, 1, kh, kw)`` to start from.
    mean, variance : Tensor
        ``(n, 1, H, W)`` of the latent gradient.
    target : Tensor
        ``(n, 1, Y, X)``, gradient of the image.
    confidence : Tensor
        ``(n, 1, Y, X)``, one over the variance of its noise.
    support : Tensor, optional
        ``(1, 1, kh, kw)``, where the kernel may be; everywhere if not given.
    """
    blur = KernelBlur(mean, size_of(kernel))
    spread = KernelBlur(variance, size_of(kernel)).adjoint(confidence)
    model = stationary(mean, confidence, size_of(kernel))
    slope = blur.adjoint(confidence * (blur(kernel) - target)) + spread * kernel
    for _ in range(PASSES):
        step = modelled_minimum(kernel, slope, model, spread, support) - kernel
        change = blur.adjoint(confidence * blur(step)) + spread * step
        length = -(slope * step).sum() / (step * change).sum().clamp_min(TINY)
        length = length.clamp(0, 1)  # between two points of the simplex
        kernel, slope = kernel + length * step, slope + length * change
    return kernel


def modelled_minimum(
    kernel: Tensor, slope: Tensor, model: Tensor, spread: Tensor, support: Tensor | None
) -> Tensor:
    """Go from a kernel towards the minimum of a quadratic function on the simplex.

    Parameters
    ----------
    kernel, slope : Tensor
        ``(1, 1, kh, kw)`` to start from, and the gradient there.
    model, spread : Tensor
        What the Hessian is the sum of: a spectrum, see `stationary`, and a diagonal ``(1, 1, kh, kw)``.
    support : Tensor or None
        See `update_kernel`.
    """

    def gradient(k: Tensor) -> Tensor:
        ahead = k - kernel
        return slope + filtered(ahead, model) + spread * ahead

    return least_on_simplex(gradient, model.max() + spread.max(), kernel, STEPS, support)


def stationary(mean: Tensor, confidence: Tensor, window: Size) -> Tensor:
    """Spectrum of the Hessian for an image without borders, whose noise varies slowly.

    Then an entry depends on the offset of two pixels of the kernel alone: it is the autocorrelation of the
    latent gradient in units of the noise.

    Parameters
    ----------
    mean, confidence : Tensor
        ``(n, 1, H, W)`` and ``(n, 1, Y, X)``, see `update_kernel`.
    window : tuple of int
        ``(kh, kw)``, with odd sides.

    Returns
    -------
    Tensor
        Real half spectrum of a window in which offsets of up to `window` do not wrap around.
    """
    latent = mean * extend(confidence, window).sqrt()
    height, width = (n + side - 1 for n, side in zip(size_of(latent), window, strict=True))
    room = fast((height, width))
    power = torch.fft.rfft2(latent, s=room).abs().square().sum((0, 1), keepdim=True)
    rows, columns = (side - 1 for side in window)
    offsets = inverse(power, room, *room).roll((rows, columns), (-2, -1))
    offsets = offsets[..., : 2 * rows + 1, : 2 * columns + 1]
    size = of_offsets(window)
    padded = F.pad(offsets, (0, size[1] - 2 * columns - 1, 0, size[0] - 2 * rows - 1))
    spectrum: Tensor = torch.fft.rfft2(padded.roll((-rows, -columns), (-2, -1))).real
    return spectrum


def of_offsets(window: Size) -> Size:
    """Size of transforms in which the offsets of two pixels of a window do not wrap around."""
    return fast((2 * window[0] - 1, 2 * window[1] - 1))


def filtered(kernel: Tensor, spectrum: Tensor) -> Tensor:
    """Product of a kernel ``(1, 1, kh, kw)`` and what `stationary` returns for its window."""
    size = of_offsets(size_of(kernel))
    return inverse(torch.fft.rfft2(kernel, s=size) * spectrum, size, *size_of(kernel))


def least_on_simplex(
    slope: Callable[[Tensor], Tensor],
    curvature: Tensor | float,
    kernel: Tensor,
    steps: int,
    support: Tensor | None = None,
) -> Tensor:
    """Minimise a quadratic function over kernels that are non-negative and sum to one.

    Accelerated projected gradient steps with restarts (Beck and Teboulle, 2009; O'Donoghue and Candes,
    2015), from a kernel to start from. The function is given by its gradient and its largest curvature.
    """
    ahead, momentum = kernel, kernel.new_ones(())
    for _ in range(steps):
        following = onto_simplex(ahead - slope(ahead) / curvature, support)
        moved = following - kernel
        turned_back = ((ahead - following) * moved).sum() > 0
        momentum = torch.where(turned_back, 1.0, momentum)  # a condition of Python's would wait for a GPU
        faster = (1 + (1 + 4 * momentum**2).sqrt()) / 2
        ahead = following + (momentum - 1) / faster * moved
        kernel, momentum = following, faster
    return kernel


def onto_simplex(kernel: Tensor, support: Tensor | None = None) -> Tensor:
    """Nearest kernel that is non-negative, sums to one (Duchi et al., ICML 2008), and is in its support."""
    if support is not None:
        kernel = kernel.masked_fill(~support, -torch.inf)
    ordered = kernel.flatten().sort(descending=True).values
    excess = ordered.cumsum(0) - 1
    thresholds = excess / torch.arange(1, ordered.numel() + 1, device=kernel.device)
    return (kernel - thresholds.gather(0, (ordered > thresholds).sum(0, keepdim=True) - 1)).clamp_min(0)
