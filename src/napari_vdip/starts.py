"""From where a kernel is searched for, and which of those that are found is kept.

The bound has many maxima, and where a search ends depends on what it assumes at the coarser scales. Where
edges are as sharp as pixels, the gradient of the latent image tells which kernel is right: the sparsest.
Where an image has no fine detail, it was seen through a lens, or a long track has taken it away. A lens
makes a compact spot, and one search is enough; with a track it takes as many as in a sharp image, and its
prior. Noise then decides how sparse a gradient is, so that kernel is kept that leaves least of the image's.
Noise also makes tracks of spots, where a window is far too large. So none is believed but in what can be a
photograph: a colour image, whose channels all move alike, or one for which no Gaussians are asked for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_vdip.candidate import Candidate
from napari_vdip.coarse_to_fine import STARTS, Start
from napari_vdip.kernels import thinness
from napari_vdip.sharpness import ROUND, SHARPEST

if TYPE_CHECKING:
    from torch import Tensor

    from napari_vdip.settings import Settings

SPARSER = 0.985
"""Norm ratio of another start's gradient, relative to that of the first, below which its kernel is kept."""
NARROWER = 2.0
"""Sum of the squares of another start's kernel, relative to that of the first, above which it is not kept:
it blurs too little, and its gradient is nearly that of the image, which is sparse where there is text."""
SPOT = 2.0
"""Thinness of a kernel up to which it is a spot. What the coarser scales find has .9 to 2.4 on 36 specimens
and the BioSR pair, in windows of their size, and 1.9 to 8.9 on Lai et al., on the mean of the channels."""


def may_be_photograph(settings: Settings, colour: bool) -> bool:
    """Whether an image may be a photograph: colour has several channels that share a kernel."""
    return colour or not settings.gaussians


def starts_of(settings: Settings, sharp: float, colour: bool = False) -> tuple[Start, ...]:
    """Return where the kernel begins, for the sharpness of an image; see `may_be_photograph`."""
    if not settings.coarse_rounds:
        return STARTS[:1]
    if sharp > ROUND:
        return STARTS
    if may_be_photograph(settings, colour):
        return (STARTS[0], *(replace(start, sharp=SHARPEST) for start in STARTS))
    return STARTS[:1]


def is_track(kernel: Tensor, settings: Settings, colour: bool) -> bool:
    """Whether a kernel ``(1, 1, kh, kw)`` of sum one is that of a camera that moved."""
    return may_be_photograph(settings, colour) and thinness(kernel[0, 0].cpu().double().numpy()) > SPOT


def sharpness_under(kernel: Tensor, sharp: float, settings: Settings, colour: bool) -> float:
    """Return the sharpness of an image, once its kernel is known.

    Where a track has taken the fine detail away, it is as sharp as any.
    """
    return SHARPEST if sharp <= ROUND and is_track(kernel, settings, colour) else sharp


def sparsest(candidates: list[Candidate]) -> Candidate:
    """Return the candidate of the sparsest gradient, or the first if that is next to as sparse.

    Those whose kernel is much narrower than that of the first are left out.
    """
    first = candidates[0]
    limit = NARROWER * first.kernel.square().sum()
    best = min((c for c in candidates if c.kernel.square().sum() < limit), key=Candidate.norm_ratio)
    return best if best.norm_ratio() < SPARSER * first.norm_ratio() else first


def least_left(candidates: list[Candidate], variance: Tensor) -> Candidate:
    """Return the candidate that leaves least of the gradient of an image whose noise has this variance."""
    return min(candidates, key=lambda candidate: candidate.left(variance))
