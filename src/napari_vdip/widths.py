"""The width of a round Gaussian kernel, by how well it predicts pixels that were left out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from napari_vdip.operators import Size
    from napari_vdip.prediction import HeldOut, Prediction

COARSE = 5
"""Widths of the first pass, in equal ratios."""
FINE = 3
"""How often the ratio is then halved around the best."""
TRIALS = COARSE + 2 * FINE
NARROWEST = 0.6
"""Standard deviation in pixels of the narrowest of the first pass."""
LEAST_RATIO = 1.1
"""Width of the widest, relative to that of the narrowest, at least."""
WIDEST = 0.2
"""Standard deviation of the widest, as part of the smaller side of the window."""


def gaussian(width: float, window: Size, device: torch.device) -> Tensor:
    """Kernel ``(1, 1, kh, kw)`` of a round Gaussian, whose standard deviation is in pixels."""
    y, x = ((torch.arange(size, device=device) - size // 2) / width for size in window)
    kernel = torch.exp(-0.5 * (y[:, None].square() + x.square()))
    return (kernel / kernel.sum()).view(1, 1, *window)


def try_widths(
    held_out: HeldOut, window: Size, device: torch.device, widest: float = math.inf
) -> Iterator[Prediction]:
    """Try widths up to the widest, and yield `TRIALS` times the prediction to be preferred so far.

    Among those as good as the best up to the standard error it is that of the narrowest (Breiman et al.,
    1984, section 3.4.3): a kernel that is too wide makes structure out of noise, one that is too narrow
    only leaves some of the blur.
    """
    widest = min(widest, max(WIDEST * min(window), 2 * NARROWEST))
    first, last = math.log(NARROWEST), math.log(max(widest, LEAST_RATIO * NARROWEST))
    step = (last - first) / (COARSE - 1)
    tried: dict[float, Prediction] = {}

    def attempt(logarithm: float) -> Prediction:
        if logarithm not in tried:  # the widest is met again if it is the best
            tried[logarithm] = held_out.predict(gaussian(math.exp(logarithm), window, device))
        return preferred([tried[key] for key in sorted(tried)])

    for number in range(COARSE):
        yield attempt(first + number * step)
    for _ in range(FINE):
        step /= 2
        best = max(tried, key=lambda key: float(tried[key].densities.mean()))
        yield attempt(best - step)
        yield attempt(min(best + step, last))


def preferred(predictions: list[Prediction]) -> Prediction:
    """Return the first of those that are as good as the best up to the standard error."""
    best = max(predictions, key=lambda one: float(one.densities.mean()))
    return next(one for one in predictions if sum(one.advantage(best)) >= 0)
