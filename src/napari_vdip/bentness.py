"""Whether a kernel is bent, by whether what one part of an image tells of it holds in another."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from napari_vdip.candidate import Candidate
from napari_vdip.operators import size_of
from napari_vdip.prediction import UNSEEN, HeldOut

if TYPE_CHECKING:
    from torch import Tensor

QUARTERS = 4
"""Parts of an image, each of which is predicted by what the others tell."""
UPDATES = 5
"""Updates of a kernel without a quarter of its image, in which it forgets the noise there."""
TURNS = 4
"""Quarters of a turn after which a kernel is itself again."""
BENT = 5.0
"""Standard errors by which a kernel has to predict better than the same turned by quarters of a turn to be
taken for bent. All pass the same frequencies, which decide where other kernels are compared."""
PART = 0.5
"""Part of the pixels of a quarter that is left out: the more, the surer is the answer."""


def is_bent(
    image: Tensor,
    variance: Tensor,
    mean: Tensor,
    kernel: Tensor,
    floor: float,
    pooling: float,
    rng: torch.Generator,
) -> bool:
    """Whether a kernel predicts better than if turned by quarters, and not by chance.

    A kernel predicts well what it was fitted to, be it noise. So each quarter of the image is predicted by
    a kernel that is updated without it.

    Parameters
    ----------
    image, variance : Tensor
        ``(1, C, Y, X)`` in [0, 1], and the variance of its noise.
    mean, kernel : Tensor
        Latent image ``(1, C, H, W)`` and kernel ``(1, 1, kh, kw)`` that were found.
    floor : float
        See `Candidate`.
    pooling : float
        See `HeldOut`.
    rng : torch.Generator
        Says which pixels of a quarter are left out.
    """
    halves = [(slice(0, side // 2), slice(side // 2, side)) for side in size_of(image)]
    gains, errors = list[float](), list[float]()
    for rows, columns in itertools.product(*halves):
        quarter = (..., rows, columns)
        without = variance.clone()
        without[quarter] *= UNSEEN
        candidate = Candidate(image, mean, kernel, floor)
        for _ in range(UPDATES):
            candidate.advance(without)
        held_out = HeldOut(image[quarter], variance[quarter], pooling, 1, rng, PART)
        gain, error = advantage_over_turned(candidate.kernel, held_out)
        gains.append(gain)
        errors.append(error)
    return sum(gains) > BENT * math.hypot(*errors)


def advantage_over_turned(kernel: Tensor, held_out: HeldOut) -> tuple[float, float]:
    """Return how much better a kernel predicts than if turned, and the standard error, see `Prediction`."""
    height, width = size_of(kernel)
    rows, columns = ((max(height, width) - side) // 2 for side in (height, width))
    square = F.pad(kernel, (columns, columns, rows, rows))
    upright, *turned = (held_out.predict(square.rot90(quarters, (-2, -1))) for quarters in range(TURNS))
    densities = torch.stack([prediction.densities for prediction in turned]).mean(0)
    return upright.advantage(replace(upright, densities=densities))
