"""One iterate of a run: what every stage yields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from napari_vdip.generators import Posterior
    from napari_vdip.tiling import Region

Stage = Literal["prefit", "search", "refinement", "blank"]
Phase = Literal["", "coarse scales", "full resolution", "half resolution", "comparison", "latent image"]
OBJECTIVE = ("data", "prior", "psf_prior", "entropy", "similarity")
"""Terms of the search's objective, with their weights; a method has those that its settings name."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A latent image and a kernel, with the step that led to them.

    Attributes
    ----------
    stage : str
        ``prefit``: the networks learn the blurred image; ``search``: they are fitted to it;
        ``refinement``: pixels and kernel are; ``blank``: there is nothing to estimate.
    step, steps : int
        Number of this step over all stages, counted from 1, and of the last one.
    posterior : Posterior
        Latent image on the canvas, ``(1, C, H, W)``, detached.
    kernel : Tensor
        ``(1, 1, kh, kw)`` correlation kernel, non-negative, sums to one, detached.
    terms : mapping of str to Tensor
        Scalars of this step: in the first two stages ``loss``, of the values before the step, and in the
        second the terms `OBJECTIVE`, whose sum is ``-loss``; in the third ``noise``.
    part : tuple of slice, optional
        Rows and columns of the plane that `posterior` is about; all if not given.
    phase : str
        What of the refinement it is, for people; empty in other stages.
    """

    stage: Stage
    step: int
    steps: int
    posterior: Posterior
    kernel: Tensor
    terms: Mapping[str, Tensor]
    part: Region | None = None
    phase: Phase = ""
