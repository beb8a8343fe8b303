"""A kernel without networks, from an image at a small part of its resolution upwards.

Where the window is a few pixels wide there is little to be wrong about. Each scale starts from what the one
before has found, from its sharp gradient as much as from its kernel: a blurred gradient leads to a point.
The scales are those of Fergus et al. (SIGGRAPH 2006), the rounds on them those of ``candidate``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_vdip.candidate import Candidate
from napari_vdip.estimate import Estimate
from napari_vdip.generators import Posterior
from napari_vdip.half_resolution import resized
from napari_vdip.operators import Size, extend, size_of
from napari_vdip.scales import RATIO, ROUNDS, coarser_windows

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_vdip.settings import Settings

FAINTEST = 0.02
"""Part of its maximum below which an entry of a kernel is not carried on."""


@dataclass(frozen=True, slots=True)
class Start:
    """What the coarser scales assume of an image.

    Attributes
    ----------
    noise : tuple of float
        Noise levels of the first and the last round at a scale, in [0, 1] units.
    floor : float
        Floor of the gradient, relative to that at the finest scale.
    sharp : float or None
        Sharpness, from one on, that the floor of the finest scale is for; that of the image if ``None``.
    """

    noise: tuple[float, float]
    floor: float
    sharp: float | None = None


STARTS = (
    Start((0.05, 0.005), 5.0),
    Start((0.05, 0.005), 1.0),
    Start((0.02, 0.02), 5.0),
    Start((0.01, 0.001), 5.0),
)
"""The first suits most images: strong edges count first, and dense texture is not taken for sparse edges,
or the kernel would become too narrow. Where edges are soft and few they pass for blur, but seldom from all
of these: with the floor of the finest scale, with strong edges throughout, and with faint ones at once."""


def from_coarse_to_fine(
    image: Tensor, variance: Tensor, floor: float, settings: Settings, start: Start = STARTS[0]
) -> Generator[Estimate, None, Candidate]:
    """Find a kernel scale by scale.

    Parameters
    ----------
    image, variance : Tensor
        ``(1, C, Y, X)`` in [0, 1], and the variance of its noise.
    floor : float
        See `Candidate`.
    settings : Settings
        With the window of the kernel.
    start : Start
        What is assumed at the coarser scales.

    Yields
    ------
    Estimate
        The kernel so far, and the blurred image, after each of ``settings.coarse_rounds`` rounds.

    Returns
    -------
    Candidate
        At full resolution, not advanced yet.
    """
    window, done = settings.psf_shape, 0
    blurred = Posterior(extend(image, window))
    windows = [*coarser_windows(window), window]
    candidate: Candidate | None = None
    before = size_of(image)
    for number, scale in enumerate(windows, start=1):
        factor = RATIO ** (len(windows) - number)
        sides = at_scale(size_of(image), factor, scale)
        with torch.no_grad():  # never across a yield, where the caller's code runs
            smaller = resized(image, sides)
            kernel = image.new_full((1, 1, *scale), 1 / math.prod(scale))
            finest = number == len(windows)
            following = Candidate(
                smaller, extend(smaller, scale), kernel, floor if finest else start.floor * floor
            )
            if candidate is not None:
                ratios = before[0] / sides[0], before[1] / sides[1]
                following.mean = carried(candidate, following, ratios)
                following.kernel = enlarged(candidate.kernel, scale, RATIO)
                following.confine()
            candidate, before = following, sides
        if not finest:
            for level in np.geomspace(*start.noise, ROUNDS):
                noise = torch.full_like(smaller, max(level**2, float(variance.mean()) / factor**2))
                with torch.no_grad():
                    candidate.advance(noise)
                    candidate.confine()
                    kernel = enlarged(candidate.kernel, window, factor)
                done += 1
                terms = {"noise": noise.mean().sqrt()}
                yield Estimate(
                    "refinement", done, settings.rounds, blurred, kernel, terms, phase="coarse scales"
                )
    assert candidate is not None
    return candidate


def at_scale(size: Size, factor: float, window: Size) -> Size:
    """Sides of an image at a scale, where its window is to fit in."""
    height, width = (max(round(n / factor), w) for n, w in zip(size, window, strict=True))
    return height, width


def carried(candidate: Candidate, following: Candidate, ratios: tuple[float, float]) -> Tensor:
    """Gradient of a candidate on the canvas of the following one.

    The ratios are those of the sides of their images. A difference lies half a pixel further than a pixel.
    """
    directions = []
    for gradient, offsets in zip(candidate.mean.chunk(2), ((1.0, 0.5), (0.5, 1.0)), strict=True):
        positions = [
            (torch.arange(side) - new // 2 + offset) * ratio - offset + old // 2
            for side, new, old, offset, ratio in zip(
                size_of(following.mean),
                size_of(following.kernel),
                size_of(candidate.kernel),
                offsets,
                ratios,
                strict=True,
            )
        ]
        directions.append(sampled(gradient, positions, "border"))
    return torch.cat(directions) / RATIO  # from pixel to pixel there is less of a difference


def enlarged(kernel: Tensor, window: Size, factor: float) -> Tensor:
    """Kernel for an image that is enlarged by a factor, in a window of its own."""
    positions = [
        (torch.arange(new) - new // 2) / factor + old // 2
        for new, old in zip(window, size_of(kernel), strict=True)
    ]
    larger = sampled(kernel, positions, "zeros")
    larger = torch.where(larger < FAINTEST * larger.max(), 0, larger)
    return larger / larger.sum()


def sampled(values: Tensor, positions: list[Tensor], outside: str) -> Tensor:
    """Values ``(n, 1, H, W)`` at all pairs of positions in pixels, by cubic interpolation.

    On the CPU, since not every device can.
    """
    y, x = ((2 * at + 1) / side - 1 for at, side in zip(positions, size_of(values), strict=True))
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1).to(values.dtype)
    grid = grid.expand(len(values), -1, -1, -1)
    return F.grid_sample(values.cpu(), grid, "bicubic", outside, align_corners=False).to(values)
