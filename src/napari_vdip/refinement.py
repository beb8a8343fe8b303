"""The bound maximised over pixels and point spread function, from where the networks have led.

The networks find the basin, which is what blind deconvolution is hard for; they are slow to settle in
it. There, the posterior of the image has a closed form up to its weights (see ``posterior``) and the
kernel is a small quadratic problem, so a few cheap rounds of either take over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_vdip.estimate import Estimate
from napari_vdip.generators import Posterior
from napari_vdip.operators import blur, gradient, gradient_adjoint, kernel_adjoint
from napari_vdip.posterior import BATCH, gradient_variances, sparse_precision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIRST_NOISE = 0.02
"""Noise level of the first round, in [0, 1] units; later rounds lower it to that of the image."""
SMALLEST_NOISE = 1e-3
KERNEL_STEPS = 40
POWER_STEPS = 12
EIGENVALUE_MARGIN = 1.1
"""Power iteration approaches the largest eigenvalue from below; steps must not be too long."""


def refine(image: Tensor, start: Estimate, rounds: int, rng: torch.Generator) -> Iterator[Estimate]:
    """Update the posterior of the latent image and the kernel in turn.

    Parameters
    ----------
    image : Tensor
        ``(1, C, Y, X)`` in [0, 1].
    start : Estimate
        Where the networks have led.
    rounds : int
        Number of rounds, each of which is yielded.
    rng : torch.Generator
        Source of the samples.

    Yields
    ------
    Estimate
        Posterior mean, kernel and noise level after each round.
    """
    last = noise_level(image)
    first = max(FIRST_NOISE, last)
    mean, kernel = centre(start.posterior.mean, start.kernel)
    variances: tuple[Tensor, Tensor] | None = None
    for done in range(1, rounds + 1):
        noise = first * (last / first) ** (done / rounds)
        with torch.no_grad():  # never across a yield, where the caller's code runs
            precision = sparse_precision(mean, kernel, noise, variances)
            mean = precision.mean(image, mean)
            samples = precision.sample(torch.Size((BATCH, *mean.shape[1:])), rng)
            variances = gradient_variances(samples)
            # Both signs of each deviation: the terms linear in it cancel.
            kernel = update_kernel(kernel, torch.cat([mean + samples, mean - samples]), image)
        terms = {"noise": mean.new_tensor(noise)}
        step = start.step + done
        yield Estimate("refinement", step, start.steps, Posterior(mean), kernel, terms)


def centre(mean: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Move kernel and latent image by whole pixels, so that the kernel has room on all sides.

    Both wrap around: what enters the kernel's window is its empty margin, and what enters the canvas
    is estimated anew.
    """
    by = []
    for dim in (-2, -1):
        profile = kernel.movedim(dim, 0).flatten(1).sum(1)
        position = torch.arange(len(profile), device=kernel.device) - len(profile) // 2
        by.append(-round(float((profile * position).sum())))
    return mean.roll(by, (-2, -1)), kernel.roll(by, (-2, -1))


def update_kernel(kernel: Tensor, latents: Tensor, image: Tensor) -> Tensor:
    """Least squares of the gradient residual over kernels that are non-negative and sum to one.

    Accelerated projected gradient steps with restarts (Beck and Teboulle, 2009; O'Donoghue and Candes,
    2015). The expectation over the posterior is the mean over its samples, which keeps the variance of
    the image in the normal equations; its mean alone would favour too diffuse kernels.

    Parameters
    ----------
    kernel : Tensor
        ``(1, 1, kh, kw)`` to start from.
    latents : Tensor
        ``(n, C, H, W)`` samples of the latent image.
    image : Tensor
        ``(1, C, Y, X)``.
    """

    def normal_product(k: Tensor) -> Tensor:
        product = gradient_adjoint(*gradient(blur(latents, k)))
        return kernel_adjoint(product, latents).mean((0, 1), keepdim=True)

    target = gradient_adjoint(*gradient(image))
    target = kernel_adjoint(target, latents).mean((0, 1), keepdim=True)
    curvature = largest_eigenvalue(normal_product, kernel)
    ahead, momentum = kernel, 1.0
    for _ in range(KERNEL_STEPS):
        following = onto_simplex(ahead - (normal_product(ahead) - target) / curvature)
        if ((ahead - following) * (following - kernel)).sum() > 0:
            momentum = 1.0
        faster = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = following + (momentum - 1) / faster * (following - kernel)
        kernel, momentum = following, faster
    return kernel


def largest_eigenvalue(operator: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """Largest eigenvalue of a symmetric positive operator by power iteration, a little above it."""
    start = torch.randn(like.shape, generator=torch.Generator().manual_seed(0))
    vector = start.to(like)
    value: Tensor = vector.norm()
    for _ in range(POWER_STEPS):
        vector = operator(vector / vector.norm())
        value = vector.norm()
    return EIGENVALUE_MARGIN * value


def onto_simplex(kernel: Tensor) -> Tensor:
    """Nearest kernel that is non-negative and sums to one (Duchi et al., ICML 2008)."""
    ordered = kernel.flatten().sort(descending=True).values
    excess = ordered.cumsum(0) - 1
    thresholds = excess / torch.arange(1, ordered.numel() + 1, device=kernel.device)
    return (kernel - thresholds.gather(0, (ordered > thresholds).sum(0, keepdim=True) - 1)).clamp_min(0)


def noise_level(image: Tensor) -> float:
    """Return the standard deviation of the noise of a blurred image ``(1, C, Y, X)``, over all channels.

    Immerkaer (1996): a second difference in both directions removes what is smooth. The median ignores
    the few pixels where the image is not.
    """
    stencil = image.new_tensor([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])
    response = F.conv2d(image.flatten(0, 1).unsqueeze(1), stencil.view(1, 1, 3, 3))
    level = response.abs().median() / 0.6745 / stencil.norm()
    return max(float(level), SMALLEST_NOISE)
