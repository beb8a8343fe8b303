"""The kernel for a given posterior of the latent gradient: a small quadratic problem on the simplex."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from napari_vdip.operators import KernelBlur, size_of

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = 40
POWER_STEPS = 12
EIGENVALUE_MARGIN = 1.1
"""Power iteration approaches the largest eigenvalue from below; steps must not be too long."""


def update_kernel(
    kernel: Tensor,
    mean: Tensor,
    variance: Tensor,
    target: Tensor,
    confidence: Tensor,
    support: Tensor | None = None,
) -> Tensor:
    """Weighted least squares of the expected residual over kernels that are non-negative and sum to one.

    The variance of independent entries adds a weight on the square of each kernel pixel; the mean alone
    would favour kernels that are too sharp.

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

    def normal_product(k: Tensor) -> Tensor:
        return blur.adjoint(confidence * blur(k)) + spread * k

    right_side = blur.adjoint(confidence * target)
    curvature = largest_eigenvalue(normal_product, kernel)
    return least_on_simplex(lambda k: normal_product(k) - right_side, curvature, kernel, STEPS, support)


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


def largest_eigenvalue(operator: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """Largest eigenvalue of a symmetric positive operator by power iteration, a little above it."""
    places = torch.arange(like.numel(), device=like.device, dtype=like.dtype)
    vector = torch.cos(places.square()).view_as(like)  # has something of every frequency
    value: Tensor = vector.norm()
    for _ in range(POWER_STEPS):
        vector = operator(vector / vector.norm())
        value = vector.norm()
    return EIGENVALUE_MARGIN * value


def onto_simplex(kernel: Tensor, support: Tensor | None = None) -> Tensor:
    """Nearest kernel that is non-negative, sums to one (Duchi et al., ICML 2008), and is in its support."""
    if support is not None:
        kernel = kernel.masked_fill(~support, -torch.inf)
    ordered = kernel.flatten().sort(descending=True).values
    excess = ordered.cumsum(0) - 1
    thresholds = excess / torch.arange(1, ordered.numel() + 1, device=kernel.device)
    return (kernel - thresholds.gather(0, (ordered > thresholds).sum(0, keepdim=True) - 1)).clamp_min(0)
