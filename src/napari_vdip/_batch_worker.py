"""Many files in napari's worker thread: the plan and the events of the command line, as plain data."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_vdip import recipe
from napari_vdip._worker import INTERVAL, DeconvolutionError
from napari_vdip.items import plan, reason

if TYPE_CHECKING:
    from collections.abc import Generator
    from threading import Event

    from napari_vdip.items import Format, Item
    from napari_vdip.settings import Settings

ENDS = ("done", "skipped", "failed")
"""Kinds of events after which nothing more happens to an image."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What is to be done with which files: one object for the plan and for the command.

    Attributes
    ----------
    inputs, output, settings, axes, format, psf, joint_colours
        See `items.plan`.
    device, overwrite
        See `batch.execute`.
    """

    inputs: tuple[str, ...]
    output: str
    settings: Settings
    axes: str | None = None
    format: Format | None = None
    psf: str | None = None
    joint_colours: bool = True
    device: str = "auto"
    overwrite: bool = False

    def plan(self) -> list[Item]:
        """Find the images, see `items.plan`."""
        return plan(
            self.inputs,
            self.output,
            self.settings,
            axes=self.axes,
            format=self.format,
            psf=self.psf,
            joint_colours=self.joint_colours,
        )

    def command(self) -> str:
        """Write the command that does the same."""
        return recipe.command(
            self.inputs,
            self.output,
            self.settings,
            axes=self.axes,
            format=self.format,
            psf=self.psf,
            joint_colours=self.joint_colours,
            device=self.device,
            overwrite=self.overwrite,
        )


@dataclass(frozen=True, slots=True)
class State:
    """How it is with one image.

    Attributes
    ----------
    number : int
        Which, in the order of the plan.
    kind : str
        That of a `batch.Event`, or ``"stopped"``.
    fraction : float
        Part of it that is done.
    seconds : float
        Time spent on it.
    reason : str
        For a failure: why. Else what is to be said, such as which planes are blank or ended early.
    """

    number: int
    kind: str
    fraction: float
    seconds: float
    reason: str = ""


def batching(batch: Batch, stop: Event) -> Generator[list[Item] | State]:
    """Do a batch, until `stop` is set; made for `napari.qt.threading.create_worker`.

    Yields the items at first, then their states: of the steps one every `INTERVAL` seconds. What is done
    when it stops, or is closed, stays.
    """
    try:
        yield from _states(batch, stop)
    except (RuntimeError, MemoryError) as error:
        raise DeconvolutionError(reason(error)) from error


def _states(batch: Batch, stop: Event) -> Generator[list[Item] | State]:
    from napari_vdip.batch import execute
    from napari_vdip.devices import choose_device
    from napari_vdip.report import remarks

    items = batch.plan()
    yield items
    choose_device(batch.device)
    numbers = {item.folder: number for number, item in enumerate(items)}
    since, due = time.perf_counter(), 0.0
    with closing(execute(items, device=batch.device, overwrite=batch.overwrite)) as events:  # type: ignore[type-var]
        for event in events:
            now, ended = time.perf_counter(), event.kind in ENDS
            stopping = stop.is_set()
            state = State(
                number=numbers[event.item.folder],
                kind="stopped" if stopping and not ended else event.kind,
                fraction=1.0 if ended else event.fraction,
                seconds=now - since,
                reason=event.reason or remarks(event.record or {}),
            )
            if event.kind != "step" or stopping or now >= due:
                yield state
                due = time.perf_counter() + INTERVAL
            if stopping:
                return
            if ended:
                since = time.perf_counter()
