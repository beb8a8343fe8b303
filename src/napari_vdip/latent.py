"""The latent image for a kernel that is known: the non-blind part of the bound's maximisation.

For a fixed kernel the posterior of the latent image is normal up to the weights of the sparse prior (see
``posterior``). Weights and mean are set in turn. Where an image is not sharper than some resolution, they
are those of the structure that a Gaussian blurs to it, and that Gaussian is part of the kernel (the method
of sieves: Snyder and Miller, IEEE Trans. Nucl. Sci. 32, 1985). It is where blind deconvolution ends, and
all there is to do for a point spread function that is given or was found elsewhere.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_vdip.estimate import Estimate
from napari_vdip.generators import Posterior
from napari_vdip.operators import blur, extend, size_of
from napari_vdip.posterior import BATCH, Precision, gradient_variances, sparse_precision
from napari_vdip.widths import blurred, whole_gaussian

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_vdip.regularization import Regularization

DARK_SIDE = 5
"""Side in pixels of the mean over which the darkest part of an image is the darkest."""
DARK_WEIGHT = 0.1
"""Weight, in one over the variance of the noise, that draws what is darker than that towards it."""
PIXEL_ROUNDS = 4
"""Rounds among which the updates of the weights are shared out."""


def restore(
    image: Tensor,
    kernel: Tensor,
    rounds: int,
    rng: torch.Generator,
    variance: Tensor,
    regularization: Regularization,
    *,
    psf_error: float = 0.0,
    step: int = 0,
    steps: int | None = None,
) -> Iterator[Estimate]:
    """Find the latent image for the weights of the blurred one, then update both in turn.

    Parameters
    ----------
    image : Tensor
        ``(1, C, Y, X)`` in [0, 1].
    kernel : Tensor
        ``(1, 1, kh, kw)`` correlation kernel, non-negative, sums to one; it stays as it is.
    rounds : int
        Number of rounds, each of which is yielded.
    rng : torch.Generator
        Source of the samples.
    variance : Tensor
        Of the image's noise, ``(1, C, Y, X)``.
    regularization : Regularization
        How far the latent image follows its prior.
    psf_error : float
        Expected sum of the squared errors of the kernel (see `sparse_precision`).
    step, steps : int
        Number of the step before, and of the last one; those of these rounds alone if not given.

    Yields
    ------
    Estimate
        Posterior mean, the kernel, and the noise level, after each round.
    """
    steps = step + rounds if steps is None else steps
    noise = (regularization.misfit * variance).sqrt()
    pull = DARK_WEIGHT / noise.square().mean((-2, -1), keepdim=True)
    level = darkest(image)
    resolution = regularization.resolution
    whole = blurred(kernel, resolution)

    def weighted(mean: Tensor, variances: tuple[Tensor, Tensor] | None = None) -> Precision:
        pooling, strength = regularization.pooling, regularization.strength
        return sparse_precision(
            mean, whole, noise, variances, pooling=pooling, psf_error=psf_error, strength=strength
        )

    with torch.no_grad():  # never across a yield, where the caller's code runs
        mean = extend(image, size_of(whole))
        precision = weighted(mean)
        mean = precision.mean(image, mean)
    updates = 0
    for done in range(1, rounds + 1):
        with torch.no_grad():
            while updates * rounds < done * regularization.updates:
                samples = precision.sample(torch.Size((BATCH, *mean.shape[1:])), rng)
                precision = weighted(mean, gradient_variances(samples))
                precision = replace(precision, pull=pull * (mean < level), level=level)
                mean = precision.mean(image, mean)
                updates += 1
            posterior = Posterior(seen(mean, resolution))
        terms = {"noise": variance.mean().sqrt()}
        yield Estimate("refinement", step + done, steps, posterior, kernel, terms, phase="latent image")


def seen(structure: Tensor, resolution: float) -> Tensor:
    """Show structure ``(n, C, H, W)`` at a resolution in pixels, without the border that this mixes in."""
    return blur(structure, whole_gaussian(resolution, structure.device)) if resolution else structure


def darkest(image: Tensor) -> Tensor:
    """Intensity ``(1, C, 1, 1)`` of the darkest part of an image ``(1, C, Y, X)``.

    Light has no negative intensity, and where a specimen is dark that is what a camera shows without light.
    An image that is much darker there rings.
    """
    means = F.avg_pool2d(image, DARK_SIDE, 1, DARK_SIDE // 2, count_include_pad=False)
    return means.amin((-2, -1), keepdim=True)
