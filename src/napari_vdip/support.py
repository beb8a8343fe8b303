"""Where in its window a kernel is.

A window that is larger than the kernel fills with haze: small entries everywhere, each of which explains a
little of the noise. Together they are a tenth of the mass and more, and cost decibels. So a kernel is
confined to the surroundings of what stands out of the haze, which may grow from round to round.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

FAINT = 0.1
"""Part of the maximum, both of means over neighbours, below which an entry is haze."""
LEAST_PART = 0.05
"""Part of the mass of what stands out, below which a separate piece of it is haze as well."""
MARGIN = 2
"""Pixels around it into which a kernel may grow."""


def support_of(kernel: Tensor, faint: float = FAINT) -> Tensor:
    """Return where a kernel ``(1, 1, kh, kw)`` stands out of the haze, as booleans of its shape.

    What is haze is said by a number such as `FAINT`.
    """
    entries = kernel[0, 0].cpu().double().numpy()
    means = entries
    for axis in (0, 1):
        means = ndimage.convolve1d(means, [0.25, 0.5, 0.25], axis, mode="constant")
    pieces, count = ndimage.label(means > faint * means.max(), np.ones((3, 3)))
    masses = ndimage.sum_labels(entries, pieces, range(1, count + 1))
    large = 1 + np.flatnonzero(masses >= LEAST_PART * masses.sum())
    return torch.from_numpy(np.isin(pieces, large)).to(kernel.device).view_as(kernel)


def cleared(kernel: Tensor, faint: float) -> Tensor:
    """Return a kernel without its haze, of sum one; see `support_of`."""
    clear = kernel * support_of(kernel, faint)
    return clear / clear.sum()


def off_middle(support: Tensor) -> tuple[int, int]:
    """Whole pixels ``(y, x)`` from the centre of the window to the middle between the ends of a support."""
    places = zip(support[0, 0].nonzero().T, support.shape[2:], strict=True)
    y, x = (int(place.min() + place.max()) // 2 - size // 2 for place, size in places)
    return y, x


def shifted(values: Tensor, by: tuple[int, int]) -> Tensor:
    """Move ``(..., H, W)`` by whole pixels ``(y, x)``; zeros come in."""
    y, x = by
    return F.pad(values, (x, -x, y, -y))


def grown(support: Tensor) -> Tensor:
    """Support with its surroundings."""
    return F.max_pool2d(support.float(), 2 * MARGIN + 1, 1, MARGIN) > 0
