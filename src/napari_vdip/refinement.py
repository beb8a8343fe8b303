"""The bound maximised over gradients and kernel, then over pixels, from where the networks have led.

The networks find the basin, which is what blind deconvolution is hard for; they are slow to settle in
it. There, the posterior of the latent image has a closed form up to its weights and the kernel is a
small quadratic problem, so cheap rounds of either take over (see ``candidate``). Where an image tells the
networks little, as a dense specimen under a compact blur does, they may lead astray: a second candidate
starts from the blurred image and a Gaussian, keeps to kernels that are the same in all directions, and
wins if its bound is the larger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from napari_vdip.candidate import Candidate
from napari_vdip.estimate import Estimate
from napari_vdip.generators import FreeKernel, Posterior
from napari_vdip.latent import PIXEL_ROUNDS, restore
from napari_vdip.noise import noise_variance
from napari_vdip.operators import extend, size_of
from napari_vdip.posterior import sparse_precision

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST_NOISE = 0.035
"""Noise level of the first round, in [0, 1] units; later rounds lower it to that of the image."""
ANNEALED = 0.8
"""Part of the candidates' rounds in which it is lowered."""


def refine(
    image: Tensor,
    start: Estimate,
    rounds: int,
    floor: float,
    rng: torch.Generator,
    *,
    plain: bool = True,
) -> Iterator[Estimate]:
    """Update candidates for the kernel, and then the latent image for the best of them.

    Parameters
    ----------
    image : Tensor
        ``(1, C, Y, X)`` in [0, 1].
    start : Estimate
        Where the networks have led.
    rounds : int
        Number of rounds, each of which is yielded.
    floor : float
        Gradient below which the prior makes no difference, in noise levels.
    rng : torch.Generator
        Source of the samples.
    plain : bool
        Whether a second candidate starts from the blurred image itself.

    Yields
    ------
    Estimate
        Posterior mean and kernel of the best candidate, and the noise level, after each round.
    """
    variance = noise_variance(image)
    last = float(variance.min().sqrt())
    with torch.no_grad():
        smallest = floor * float(variance.median().sqrt())
        begin = centre(start.posterior.mean, start.kernel)
        candidates = [Candidate(image, *begin, smallest, radial=False)]
        begin = plain_start(image, size_of(start.kernel))
        if plain:
            candidates.append(Candidate(image, *begin, smallest, radial=True))
        blurred = mean = begin[0]
    kernel_rounds = max(rounds - PIXEL_ROUNDS, 1)
    for done in range(1, kernel_rounds + 1):
        lowest = FIRST_NOISE * (last / FIRST_NOISE) ** min(1.0, done / (ANNEALED * kernel_rounds))
        noise = variance.clamp_min(lowest**2)
        with torch.no_grad():  # never across a yield, where the caller's code runs
            for candidate in candidates:
                candidate.advance(noise)
            kernel = max(candidates, key=lambda one: one.bound(noise)).kernel
            mean = sparse_precision(blurred, kernel, noise.sqrt()).mean(image, mean)
        terms = {"noise": noise.mean().sqrt()}
        step = start.step + done
        yield Estimate("refinement", step, start.steps, Posterior(mean), kernel, terms)
    left = rounds - kernel_rounds
    yield from restore(image, kernel, mean, left, rng, noise, step=step, steps=start.steps)


def plain_start(image: Tensor, window: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Canvas of the blurred image itself, and a wide Gaussian kernel."""
    return extend(image, window), FreeKernel(window).to(image.device)(image).detach()


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
