"""The width of a round Gaussian kernel, by how well it predicts pixels that were left out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

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
REACH = 4
"""Standard deviations from its centre at which a Gaussian ends."""
WIDEST = 0.2
"""Standard deviation of the widest, as part of the smaller side of the window."""


def gaussian(width: float, window: Size, device: torch.device) -> Tensor:
    """Kernel ``(1, 1, kh, kw)`` of a round Gaussian, whose standard deviation is in pixels."""
    y, x = ((torch.arange(size, device=device) - size // 2) / width for size in window)
    kernel = torch.exp(-0.5 * (y[:, None].square() + x.square()))
    return (kernel / kernel.sum()).view(1, 1, *window)


def whole_gaussian(width: float, device: torch.device) -> Tensor:
    """Kernel ``(1, 1, n, n)`` of a round Gaussian in a window that holds all of it."""
    side = 2 * math.ceil(REACH * width) + 1
    return gaussian(width, (side, side), device)


def blurred(kernel: Tensor, width: float) -> Tensor:
    """Blur a kernel ``(1, 1, kh, kw)`` by a round Gaussian, in a window that holds both; not by zero."""
    if not width:
        return kernel
    by = whole_gaussian(width, kernel.device)
    return F.conv2d(F.pad(kernel, (by.shape[-1] - 1,) * 4), by)


def try_widths(
    held_out: HeldOut, window: Size, device: torch.device, widest: float = math.inf
) -> Iterator[Prediction]:
    """Try widths up to the widest, and yield `TRIALS` times the best prediction so far."""
    widest = min(widest, max(WIDEST * min(window), 2 * NARROWEST))
    first, last = math.log(NARROWEST), math.log(max(widest, LEAST_RATIO * NARROWEST))
    step = (last - first) / (COARSE - 1)
    tried: dict[float, Prediction] = {}

    def attempt(logarithm: float) -> Prediction:
        if logarithm not in tried:  # the widest is met again if it is the best
            tried[logarithm] = held_out.predict(gaussian(math.exp(logarithm), window, device))
        return tried[best()]

    def best() -> float:
        return max(tried, key=lambda key: float(tried[key].densities.mean()))

    for number in range(COARSE):
        yield attempt(first + number * step)
    for _ in range(FINE):
        step /= 2
        middle = best()
        yield attempt(middle - step)
        yield attempt(min(middle + step, last))
