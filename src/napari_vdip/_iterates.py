"""Earlier estimates of a run: a bounded number of them, and a result that takes one of them in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_vdip._layers import Array, Result
    from napari_vdip._worker import Report
    from napari_vdip.stack import Plan

MOST = 50
"""Largest number of estimates that are held."""
MEMORY = 256 * 2**20
"""Largest number of bytes that they take."""


@dataclass(frozen=True, slots=True, eq=False)
class Iterate:
    """The estimate of one plane after one step.

    Attributes
    ----------
    index : tuple of int
        Which plane it is, see `stack.Plan`.
    plane : str
        Its name; empty where there is only one.
    step, steps : int
        Number of this step of the plane, and of the last one.
    stage : str
        Its phase where it has one, see `estimate.Estimate`.
    latent : array
        ``(Y, X, C)`` float32, in source units.
    psf : array
        ``(kh, kw)`` float32, sums to one.
    noise : float
        Standard deviation of the residual, in source units.
    """

    index: tuple[int, ...]
    plane: str
    step: int
    steps: int
    stage: str
    latent: Array
    psf: Array
    noise: float

    @classmethod
    def of(cls, report: Report) -> Iterate:
        """Keep of a report what becomes layers; nothing larger stays alive."""
        found = report.restored
        where = report.index, report.plane, report.step, report.steps, report.stage
        return cls(*where, found.latent.copy(), found.psf.copy(), found.noise)

    @property
    def name(self) -> str:
        """Say for people which one it is."""
        parts = [self.plane, f"step {self.step} of {self.steps}", self.stage]
        return " · ".join(part for part in parts if part)

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self.latent.nbytes + self.psf.nbytes


class Iterates:
    """Estimates of a run in their order, as evenly spaced as they came.

    When there are too many, every second one is dropped, and from then on only half as many are taken.
    """

    def __init__(self, most: int = MOST, memory: int = MEMORY) -> None:
        self._most, self._memory = most, memory
        self._held: list[Iterate] = []
        self._stride = 1
        self._seen = 0

    def __len__(self) -> int:
        return len(self._held)

    def __getitem__(self, number: int) -> Iterate:
        return self._held[number]

    def __iter__(self) -> Iterator[Iterate]:
        return iter(self._held)

    def add(self, iterate: Iterate) -> None:
        """Take in an estimate, if its turn has come."""
        if self._seen % self._stride == 0:
            self._held.append(iterate)
        self._seen += 1
        while len(self._held) > self._most or sum(item.nbytes for item in self._held) > self._memory:
            # Of a single one that is too large, nothing is left.
            self._held = self._held[::2] if len(self._held) > 1 else []
            self._stride *= 2


class Revision:
    """A result in which planes may be as earlier estimates had them, one for each; see `_layers.Result`.

    It changes the arrays of the result, and changes them back. The std map is that of the last estimates
    alone: in the place of an earlier one it is NaN, and there is none if that is all there is to keep.

    Parameters
    ----------
    result : Result
        A run's result, or what is known of it.
    planes : Plan
        Its planes.

    Attributes
    ----------
    taken, kept : dict of tuple of int to Iterate
        The estimates that were taken in, and those that are to stay, by the index of their plane.
    """

    def __init__(self, result: Result, planes: Plan) -> None:
        self._result, self._planes = result, planes
        self._originals: dict[tuple[int, ...], tuple[Array, Array, Array | None]] = {}
        self.taken: dict[tuple[int, ...], Iterate] = {}
        self.kept: dict[tuple[int, ...], Iterate] = {}

    def take(self, iterate: Iterate | None) -> None:
        """Take in an estimate beside those that are kept of other planes; with ``None``, be the result."""
        self._become({} if iterate is None else {**self.kept, iterate.index: iterate})

    def keep(self, iterate: Iterate | None) -> None:
        """Take in an estimate to stay; with ``None``, none stays."""
        self.take(iterate)
        self.kept = self.taken

    def rest(self) -> None:
        """Be what is kept."""
        self._become(self.kept)

    def _become(self, taken: dict[tuple[int, ...], Iterate]) -> None:
        planes, latent, psf, std = self._planes, self._result.latent, self._result.psf, self._result.std
        for at, original in self._originals.items():
            self._put(at, *original)
        self._originals, self.taken = {}, taken
        for at, iterate in taken.items():
            before = None if std is None else planes.take(std, at).copy()
            self._originals[at] = planes.take(latent, at).copy(), planes.take_psf(psf, at).copy(), before
            self._put(at, iterate.latent, iterate.psf, np.full_like(iterate.latent, np.nan))

    def _put(self, index: tuple[int, ...], latent: Array, psf: Array, std: Array | None) -> None:
        self._planes.put(self._result.latent, index, latent)
        self._planes.put_psf(self._result.psf, index, psf)
        if self._result.std is not None and std is not None:
            self._planes.put(self._result.std, index, std)

    @property
    def latent(self) -> Array:
        """Latent image with the estimates that were taken in."""
        return self._result.latent

    @property
    def psf(self) -> Array:
        """Point spread functions with those of the estimates."""
        return self._result.psf

    @property
    def std(self) -> Array | None:
        """Standard deviation, where it belongs to the latent image."""
        alone = self.taken == self.kept and len(self.kept) == len(self._planes.indices)
        return None if alone else self._result.std

    @property
    def axes(self) -> str:
        """One letter for each axis of `latent`."""
        return self._result.axes

    @property
    def metadata(self) -> dict[str, Any]:
        """How the result was made, and which steps of the run it shows."""
        names = "plane", "step", "steps", "stage", "noise"
        shown = [
            {**{name: getattr(iterate, name) for name in names}, "kept": self.kept.get(index) is iterate}
            for index, iterate in self.taken.items()
        ]
        return {**self._result.metadata, **({"iterate": shown} if shown else {})}
