"""The latent image for a kernel that is known: the non-blind part of the bound's maximisation.

For a fixed kernel the posterior of the latent image is normal up to the weights of the sparse prior (see
``posterior``). Weights and mean are set in turn. It is where blind deconvolution ends, and all there is to
do for a point spread function that is given or was found elsewhere.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_vdip.estimate import Estimate
from napari_vdip.generators import Posterior
from napari_vdip.operators import extend, size_of
from napari_vdip.posterior import BATCH, gradient_variances, sparse_precision

if TYPE_CHECKING:
    from collections.abc import Iterator

DARK_SIDE = 5
"""Side in pixels of the mean over which the darkest part of an image is the darkest."""
DARK_WEIGHT = 0.1
"""Weight, in one over the variance of the noise, that draws what is darker than that towards it."""
PIXEL_ROUNDS = 4
"""Rounds in which the weights follow the latent image: a compromise. More of them serve smooth scenes; in
faint images they sharpen noise."""
UPDATES = 4
"""Updates in each of them where a model leaves more than noise: where that is allowed for, noise is not
sharpened."""


def restore(
    image: Tensor,
    kernel: Tensor,
    start: Tensor | None,
    rounds: int,
    rng: torch.Generator,
    variance: Tensor,
    pooling: float,
    *,
    psf_error: float = 0.0,
    misfit: float = 1.0,
    step: int = 0,
    steps: int | None = None,
) -> Iterator[Estimate]:
    """Update the latent image and the weights of its prior in turn, for a kernel that stays as it is.

    Parameters
    ----------
    image : Tensor
        ``(1, C, Y, X)`` in [0, 1].
    kernel : Tensor
        ``(1, 1, kh, kw)`` correlation kernel, non-negative, sums to one.
    start : Tensor or None
        Canvas ``(1, C, H, W)`` to start from. If there is none, the first round finds the mean for the
        weights of the blurred image.
    rounds : int
        Number of rounds, each of which is yielded.
    rng : torch.Generator
        Source of the samples.
    variance : Tensor
        Of the image's noise, ``(1, C, Y, X)``.
    pooling : float
        Distance in pixels over which neighbours share the weights of the prior.
    psf_error : float
        Expected sum of the squared errors of the kernel (see `sparse_precision`).
    misfit : float
        Variance of the noise and of what else the model does not explain, relative to that of the noise.
    step, steps : int
        Number of the step before, and of the last one; those of these rounds alone if not given.

    Yields
    ------
    Estimate
        Posterior mean, the kernel, and the noise level, after each round.
    """
    steps = step + rounds if steps is None else steps
    noise = (misfit * variance).sqrt()
    updates = UPDATES if misfit > 1 else 1
    pull = DARK_WEIGHT / noise.square().mean((-2, -1), keepdim=True)
    level = darkest(image)
    blurred = extend(image, size_of(kernel))
    mean = blurred if start is None else start
    with torch.no_grad():
        precision = sparse_precision(blurred, kernel, noise, pooling=pooling, psf_error=psf_error)
    sampled = start is not None
    for done in range(1, rounds + 1):
        for _ in range(updates):
            with torch.no_grad():  # never across a yield, where the caller's code runs
                if sampled:
                    samples = precision.sample(torch.Size((BATCH, *mean.shape[1:])), rng)
                    variances = gradient_variances(samples)
                    precision = sparse_precision(
                        mean, kernel, noise, variances, pooling=pooling, psf_error=psf_error
                    )
                    precision = replace(precision, pull=pull * (mean < level), level=level)
                mean = precision.mean(image, mean)
            sampled = True
        terms = {"noise": variance.mean().sqrt()}
        yield Estimate("refinement", step + done, steps, Posterior(mean), kernel, terms)


def darkest(image: Tensor) -> Tensor:
    """Intensity ``(1, C, 1, 1)`` of the darkest part of an image ``(1, C, Y, X)``.

    Light has no negative intensity, and where a specimen is dark that is what a camera shows without light.
    An image that is much darker there rings.
    """
    means = F.avg_pool2d(image, DARK_SIDE, 1, DARK_SIDE // 2, count_include_pad=False)
    return means.amin((-2, -1), keepdim=True)
