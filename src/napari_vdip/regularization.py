"""How far the latent image follows its prior, by pixels that are left out.

Each update of the prior's weights sharpens the latent image, first its structure and then noise. How many
are right depends on the noise, on the blur and on the specimen: what was not seen tells (cross-validation:
Stone, 1974). So it does of how strong the prior should be: smooth specimens are smoother than the sparse
prior has it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import torch

from napari_vdip.comparison import LEFT_OUT, judged_part
from napari_vdip.operators import size_of
from napari_vdip.prediction import HeldOut
from napari_vdip.widths import blurred

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

MOST = 4
"""Updates of the weights, at most: a compromise, since more of them serve few images and need more time."""
STRENGTHS = (1.0, 2.0)
"""Factors on the weights of the prior."""
BETTER = 0.998
"""Error of what is left out, relative to that with the published prior, below which a stronger one is."""
GAP = 1
"""Side in pixels of what is left out to judge them. Neighbours must not be too far to tell of noise."""
SHARP_UPDATES = 20
"""Updates where a model leaves more than noise: where that is allowed for, noise is not sharpened."""
SHARP_GAP = 2
"""Side in pixels of what is left out to judge how far the model fits."""
FITTED = 5
"""Updates after which that is judged."""
FITS = 0.92
"""Error of what is left out, with noise alone relative to that with misfit, below which there is none."""
BEYOND = 0.95
"""Error above which it is more than noise, which leaves 0.8: it is less for bright specimens."""
APART = 0.5
"""Part of the distance over which neighbours share their weights there: edges are as sharp as pixels."""


@dataclass(frozen=True, slots=True)
class Regularization:
    """How far a latent image follows its prior.

    Attributes
    ----------
    misfit : float
        Variance of the noise and of what else the model does not explain, relative to that of the noise.
    strength : float
        Factor on the weights of the prior.
    updates : int
        How often the weights follow the latent image.
    pooling : float
        Distance in pixels over which neighbours share the weights.
    resolution : float
        Standard deviation in pixels of the Gaussian that the latent image is not sharper than.
    """

    misfit: float = 1.0
    strength: float = 1.0
    updates: int = MOST
    pooling: float = 0.0
    resolution: float = 0.0


def regularization_of(
    image: Tensor,
    variance: Tensor,
    kernel: Tensor,
    sharp: float,
    pooling: float,
    seed: int,
    resolution: float,
) -> Regularization:
    """Return how far the latent image of a kernel should follow its prior.

    In photographs the misfit is the sharpness: what is wrong of a kernel leaves more of sharp edges than
    noise. Fine texture can be as sharp and leave noise alone: then what is left out is predicted much
    better without misfit. Where single pixels are off by more than noise, neighbours share less of their
    weights. Where there is no misfit, the weights are updated until the error of what is left out
    rises; if it does, a stronger prior is tried.

    Parameters
    ----------
    image, variance : Tensor
        ``(1, C, Y, X)`` in [0, 1], and the variance of its noise. The part with the most detail is judged.
    kernel : Tensor
        ``(1, 1, kh, kw)``.
    sharp : float
        See `sharpness.sharpness`.
    pooling : float
        Distance in pixels over which neighbours share the weights of the prior.
    seed : int
        Says which pixels are left out.
    resolution : float
        See `Regularization`.
    """
    kernel = blurred(kernel, resolution)
    image, variance = judged_part(image, variance, size_of(kernel))

    def without(gap: int) -> HeldOut:
        rng = torch.Generator(image.device).manual_seed(seed)
        return HeldOut(image, variance, pooling, gap, rng, LEFT_OUT)

    with torch.no_grad():
        if sharp > 1 and not _fits(without(SHARP_GAP), kernel, sharp):
            beyond = _settled(without(GAP).errors(kernel)) > BEYOND
            apart = pooling * (APART if beyond else 1)
            return Regularization(sharp, 1.0, SHARP_UPDATES, apart, resolution)
        return replace(_best_predicting(without(GAP), kernel), resolution=resolution)


def _fits(held_out: HeldOut, kernel: Tensor, misfit: float) -> bool:
    """Whether a kernel leaves noise alone."""
    alone, both = (_settled(held_out.errors(kernel, assumed)) for assumed in (1.0, misfit))
    return alone < FITS * both


def _settled(errors: Iterator[float]) -> float:
    """Return the error when a few updates have been made."""
    return next(islice(errors, FITTED, None))


def _best_predicting(held_out: HeldOut, kernel: Tensor) -> Regularization:
    """Return what predicts best what is left out."""
    best, least = Regularization(), math.inf
    for strength in STRENGTHS:
        updates, error = _before_it_rises(held_out.errors(kernel, strength=strength))
        if error < BETTER * least:
            best, least = Regularization(1.0, strength, updates, held_out.pooling), error
        if updates == MOST:
            break
    return best


def _before_it_rises(errors: Iterator[float]) -> tuple[int, float]:
    """Return the number of updates before the error rises, and the error then."""
    updates, least = 0, next(errors)
    for error in islice(errors, MOST):
        if error > least:
            break
        updates, least = updates + 1, error
    return updates, least
