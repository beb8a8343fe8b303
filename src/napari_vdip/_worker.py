"""The run in napari's worker thread: reports a few times a second, obeys at every step."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field, replace
from threading import Event
from typing import TYPE_CHECKING, Any

from napari_vdip._iterates import Iterate, Iterates

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_vdip._layers import Array, Picture
    from napari_vdip.plane import Restored
    from napari_vdip.result import Deconvolution, Progress
    from napari_vdip.settings import Settings

INTERVAL = 0.3
"""Shortest time between two reports, in seconds."""
SHARE = 0.04
"""Largest part of the worker's time that reports may take."""


class DeconvolutionError(Exception):
    """A run that failed while computing.

    Not a `RuntimeError`, as most of PyTorch's errors are: napari's generator workers take those for their
    own deletion and drop them.
    """


def _ready() -> Event:
    event = Event()
    event.set()
    return event


@dataclass(frozen=True, slots=True)
class Orders:
    """What the panel wants of the worker.

    Attributes
    ----------
    going : Event
        Cleared to pause.
    stop : Event
        Set to stop and keep what there is.
    heard : Event
        Set when the panel has shown the last report, so that a slow window is not flooded.
    """

    going: Event = field(default_factory=_ready)
    stop: Event = field(default_factory=Event)
    heard: Event = field(default_factory=_ready)


@dataclass(frozen=True, slots=True)
class Step:
    """What a step came to.

    Attributes
    ----------
    index : tuple of int
        Which plane it was of, see `stack.Plan`.
    number : int
        Number of the step, counted from 1 in each plane.
    stage : str
        Its phase where it has one, see `estimate.Estimate`.
    terms : dict of str to float
        Its terms by name; in a report plain numbers, before that tensors, so that no GPU has to wait.
    """

    index: tuple[int, ...]
    number: int
    stage: str
    terms: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Report:
    """Where a run is, as plain data: nothing in it holds on to the device's memory.

    Attributes
    ----------
    done, total : int
        Steps made and steps in all, over all planes.
    text : str
        Stage, step, plane, time to go, objective, residual and noise for people.
    index : tuple of int
        Which plane it is, see `stack.Plan`.
    plane : str
        Its name; empty where there is only one.
    step, steps : int
        Number of this step of the plane, and of the last one.
    stage : str
        Its phase where it has one, see `estimate.Estimate`.
    restored : Restored
        What the plane looks like by now.
    noise_level : float
        Standard deviation of its noise, in source units, which the residual should settle at.
    course : tuple of Step
        The steps since the last report, this one included, and those that were made until it came.
    iterates : tuple of Iterate
        Earlier estimates of the run.
    """

    done: int
    total: int
    text: str
    index: tuple[int, ...]
    plane: str
    step: int
    steps: int
    stage: str
    restored: Restored
    noise_level: float
    course: tuple[Step, ...]
    iterates: tuple[Iterate, ...] = ()


def deconvolving(
    picture: Picture, settings: Settings, psf: Array | None, device: str, orders: Orders
) -> Generator[Report | None, None, Deconvolution]:
    """Run `napari_vdip.run`; made for `napari.qt.threading.create_worker`.

    Yields a `Report` at most every `INTERVAL` seconds, and ``None`` while paused, so that the worker can
    be quit at any time. Every step looks at the orders.
    """
    try:
        return (yield from _reports(picture, settings, psf, device, orders))
    except (RuntimeError, MemoryError) as error:
        from napari_vdip.devices import is_out_of_memory

        if not is_out_of_memory(error):
            raise DeconvolutionError(f"{type(error).__name__}: {error}") from error
    # Raised here and not above, this error does not keep the arrays alive that were too much.
    raise DeconvolutionError(
        "Out of memory. Deconvolve a smaller image or crop, this plane only, with smaller widths, or on "
        "the CPU."
    )


def release_memory() -> None:
    """Give the GPU memory back that PyTorch keeps for a next run."""
    if devices := sys.modules.get("napari_vdip.devices"):  # else there was no run, and torch takes seconds
        devices.release_memory()


def _reports(
    picture: Picture, settings: Settings, psf: Array | None, device: str, orders: Orders
) -> Generator[Report | None, None, Deconvolution]:
    from napari_vdip.deconvolution import run

    steps = run(picture.data, settings, axes=picture.axes, psf=psf, region=picture.region, device=device)
    stop, paused, due = None, 0.0, 0.0
    course: list[Step] = []
    iterates = Iterates()
    latest: Report | None = None
    while True:
        try:
            progress = steps.send(stop)
        except StopIteration as end:
            result: Deconvolution = end.value
            if course:  # the last steps
                latest = latest or report(replace(progress, seconds=progress.seconds - paused))
                yield told(latest, course, iterates)
            return result
        estimate = progress.estimate
        course.append(step_of(progress))
        now = time.perf_counter()
        if now >= due or estimate.step == estimate.steps > 1:  # a plane's last one is held, however quick
            latest = report(replace(progress, seconds=progress.seconds - paused))
            iterates.add(Iterate.of(latest))
            due = max(now + INTERVAL, now + (time.perf_counter() - now) / SHARE)
        if latest is not None and orders.heard.is_set():
            orders.heard.clear()
            yield told(latest, course, iterates)
            course, latest = [], None
        if not orders.going.is_set():
            since = time.perf_counter()
            while not orders.going.wait(INTERVAL):
                yield None
            paused += time.perf_counter() - since
        stop = orders.stop.is_set()


def step_of(progress: Progress) -> Step:
    """Keep the terms of a step, and nothing that is large."""
    estimate = progress.estimate
    return Step(progress.index, estimate.step, estimate.phase or estimate.stage, dict(estimate.terms))


def report(progress: Progress) -> Report:
    """Say where a run is; takes as long as converting a plane."""
    estimate, restored = progress.estimate, progress.preview()
    assert progress.source is not None
    level = progress.source.noise_level
    parts = [f"step {estimate.step} of {estimate.steps}, {estimate.phase or estimate.stage}"]
    if progress.planes > 1:
        parts.append(f"plane {progress.plane} of {progress.planes} ({progress.name})")
    parts.append(f"{duration(progress.remaining)} left")
    if "loss" in estimate.terms:
        parts.append(f"objective {float(estimate.terms['loss']):.4g}")
    parts.append(f"residual {restored.noise:.4g}, noise {level:.4g}")
    return Report(
        done=(progress.plane - 1) * estimate.steps + estimate.step,
        total=progress.planes * estimate.steps,
        text=" · ".join(parts),
        index=progress.index,
        plane=progress.name,
        step=estimate.step,
        steps=estimate.steps,
        stage=estimate.phase or estimate.stage,
        restored=restored,
        noise_level=level,
        course=(),
    )


def told(report: Report, course: list[Step], iterates: Iterates) -> Report:
    """Add to a report how the run came there, and what it came by."""
    plain = [
        replace(step, terms={name: float(value) for name, value in step.terms.items()}) for step in course
    ]
    return replace(report, course=tuple(plain), iterates=tuple(iterates))


def duration(seconds: float) -> str:
    """Write a time as minutes and seconds."""
    return "{}:{:02}".format(*divmod(round(seconds), 60))
