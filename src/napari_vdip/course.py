"""The course of a plane: what to keep of its steps, and whether they may go on."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_vdip.estimate import OBJECTIVE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_vdip.estimate import Estimate

CHECK_EVERY = 10
"""Steps between looks at whether the objective is finite, which make a GPU wait."""
FINISHED = "finished"
BLANK = "blank"
"""How a plane ends that holds a single value: it passes through."""
TERMS = ("loss", *OBJECTIVE, "noise")
"""What a stage may tell of its steps."""


class Course:
    """What to keep of a plane's steps: the terms of all, and the last estimate known to be finite."""

    def __init__(self, last_of_search: int) -> None:
        self._last_of_search = last_of_search
        self.stages: list[str] = []
        self.terms: list[Mapping[str, Tensor | np.float32]] = []
        self._kept: Estimate | None = None
        self._latest: Estimate | None = None

    def follow(self, estimate: Estimate) -> str:
        """Take in an estimate and say whether the run may go on: `FINISHED` or the reason why not.

        One of a step that was taken in before replaces all from there on.
        """
        before = estimate.step - 1
        del self.stages[before:], self.terms[before:]
        self.stages.append(estimate.stage)
        self.terms.append(estimate.terms)
        self._latest = estimate
        due = estimate.step % CHECK_EVERY == 1 or estimate.step == self._last_of_search or not self._kept
        # A round of the refinement takes longer than the look, and its kernel is what others start from.
        if not (due or estimate.stage == "refinement") or self._settle():
            return FINISHED
        reason = f"the objective was not finite at step {estimate.step}: lower image_rate or psf_rate"
        if self._kept is None:
            raise FloatingPointError(reason)
        warnings.warn(reason, RuntimeWarning, stacklevel=2)
        return reason

    @property
    def step(self) -> int:
        """Number of the latest step, 0 before the first."""
        return self._latest.step if self._latest else 0

    @property
    def settled(self) -> bool:
        """Whether the latest estimate is the one that is kept."""
        return self._latest is not None and self._latest is self._kept

    @property
    def kept(self) -> Estimate:
        """The latest estimate if it is finite, else the last one that was seen to be."""
        self._settle()
        assert self._kept is not None
        return self._kept

    def _settle(self) -> bool:
        """Look at the latest estimate, and keep it if it is finite."""
        assert self._latest is not None
        values = (self._latest.posterior.mean, self._latest.kernel, *self._latest.terms.values())
        finite = all(bool(value.isfinite().all()) for value in values)
        if finite:
            self._kept = self._latest
        return finite

    def begin(self, history: Mapping[str, NDArray[Any]]) -> None:
        """Take over the course of an earlier process, from its `history`."""
        self.stages = list(history["stage"])
        rows = zip(*(history[name] for name in TERMS), strict=True)
        self.terms = [dict(zip(TERMS, row, strict=True)) for row in rows]

    @property
    def history(self) -> dict[str, NDArray[Any]]:
        """The course as arrays with one entry for each step."""
        terms = {
            name: np.array([float(terms.get(name, math.nan)) for terms in self.terms], np.float32)
            for name in TERMS
        }
        return {"stage": np.array(self.stages), **terms}
