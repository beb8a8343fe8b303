"""One plane, attempted until it is done: from its checkpoint, and in smaller parts if memory lacks."""

from __future__ import annotations

import gc
import math
import time
import warnings
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_vdip.blank import Blank
from napari_vdip.checkpoint import Checkpoint, CheckpointFile, UnfitError, begin_anew, fingerprint
from napari_vdip.course import FINISHED, Course
from napari_vdip.devices import is_out_of_memory, release_memory
from napari_vdip.images import is_blank
from napari_vdip.mosaic import Mosaic, is_large
from napari_vdip.plane import Plane

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_vdip.estimate import Estimate
    from napari_vdip.operators import Size
    from napari_vdip.plane import Restored
    from napari_vdip.result import Progress
    from napari_vdip.settings import Settings

STOPPED_BY_USER = "stopped by the user"
REDUCIBLE = ("search_area", "tile")
"""Settings that are made smaller where memory lacks."""
SMALLEST_SIDE = 64
"""Side in pixels that they are not made smaller than."""
SMALLEST_WINDOWS = 4
"""The same in windows of the point spread function: in less, there is more border than inside."""


@dataclass(frozen=True)
class Outcome:
    """What came of a plane.

    Attributes
    ----------
    restored : Restored
        Its result.
    kernel : Tensor
        Correlation kernel of the estimate it was made of.
    history : dict of str to array
        See `Course.history`.
    settings : Settings
        Those given, as far as the memory allowed.
    seconds : float
        Time spent on it in earlier processes.
    stopped : str
        `FINISHED`, or why it ended early.
    blank : bool
        Whether the plane is blank: it passed through.
    """

    restored: Restored
    kernel: Tensor
    history: Mapping[str, NDArray[Any]]
    settings: Settings
    seconds: float
    stopped: str
    blank: bool


def attempt(
    image: NDArray[Any],
    settings: Settings,
    device: torch.device,
    kernel: Tensor | None,
    where: Callable[[float, Estimate, Plane | Mosaic | Blank], Progress],
    path: Path | None = None,
    enough: Mapping[str, int] = MappingProxyType({}),
) -> Generator[Progress, bool | None, Outcome]:
    """Deconvolve a plane step by step; one that is blank passes through in one.

    If there is too little memory for the search or for a tile, it is tried again with a smaller one, and a
    warning says so. A kernel that was found by then is not lost.

    Parameters
    ----------
    image, settings, device, kernel
        See `Plane`.
    where : callable
        Makes what is yielded, of the time spent in earlier processes, an estimate and what makes arrays
        of it.
    path : Path, optional
        File for checkpoints. If it holds one of this plane, that is where it begins.
    enough : mapping of str to int
        Settings that were made smaller for an earlier plane, see `reduced`: more is not tried.

    Raises
    ------
    MemoryError
        If nothing smaller helps.
    """
    started = time.perf_counter()
    given, settings = settings, settings.replace(**enough)
    last = settings.prefit_steps + settings.network_steps
    found_at = 0 if kernel is not None else last + settings.rounds
    file = CheckpointFile(path, fingerprint(image, given, device, kernel)) if path else None
    start = file.load(device) if file else None
    found = None
    seconds = start.seconds if start else 0.0
    if start:
        settings = given.replace(**start.reduced)
        if 0 < found_at <= start.estimate.step:
            found = when_found(start, found_at)
    course = Course(last)
    blank = is_blank(image)
    plane: Plane | Mosaic | Blank | None = None
    estimate: Estimate | None = None
    while True:
        if start:
            course.begin(start.history)
        try:
            large = is_large((image.shape[0], image.shape[1]), settings, kernel is not None)
            kind = Blank if blank else Mosaic if large else Plane
            plane = kind(image, settings, device, kernel)
            stopped = FINISHED
            for estimate in plane.estimates(start):
                stopped = course.follow(estimate)
                if stopped != FINISHED:
                    break
                through = estimate.step in (last, found_at)
                state = plane.state() if file and course.settled and (through or file.due) else None
                if found_at and estimate.step == found_at:
                    found = Checkpoint(estimate, {}, course.history)
                if file and state is not None:
                    spent = seconds + time.perf_counter() - started
                    file.save(Checkpoint(estimate, state, course.history, reduced(given, settings), spent))
                if (yield where(seconds, estimate, plane)):
                    stopped = STOPPED_BY_USER
                    break
            kept = course.kept
            restored = plane.result(kept)
            return Outcome(restored, kept.kernel, course.history, settings, seconds, stopped, blank)
        except UnfitError as error:
            if not (start and path):
                raise
            begin_anew(path, error)
            start, found, settings, course = None, None, given.replace(**enough), Course(last)
            continue
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        finally:
            plane = estimate = None  # what they hold on the device
        # Not above, where the error keeps alive what was too much.
        searching = course.step < found_at
        start = None if searching else found
        course = Course(last)
        gc.collect()
        release_memory()
        settings = smaller(settings, image.shape[:2], searching, device)


def when_found(later: Checkpoint, step: int) -> Checkpoint:
    """Return what a checkpoint between tiles knows of the step at which its kernel was found."""
    history = {name: values[:step] for name, values in later.history.items()}
    then = {name: values[-1] for name, values in history.items() if name != "stage"}
    terms = {name: torch.tensor(value) for name, value in then.items() if np.isfinite(value)}
    estimate = replace(later.estimate, stage=history["stage"][-1], step=step, terms=terms)
    return Checkpoint(estimate, {}, history)


def smaller(settings: Settings, shape: Size, searching: bool, device: torch.device) -> Settings:
    """Return the settings with half the search area or half the tile, and warn.

    Raises
    ------
    MemoryError
        If that is too small, or the method sees the plane as a whole.
    """
    if not settings.rounds:
        raise MemoryError(
            f"out of memory on {device}, and only VDIP-Sparse with refinements can work in parts: take a "
            "smaller image or region, smaller widths, or the CPU"
        )
    name = REDUCIBLE[0] if searching else REDUCIBLE[1]
    side = min(getattr(settings, name), math.ceil(math.sqrt(shape[0] * shape[1])))
    smallest = max(SMALLEST_SIDE, SMALLEST_WINDOWS * max(settings.psf_shape))
    if side <= smallest:
        raise MemoryError(
            f"out of memory on {device}, even with {name} = {side}: take smaller widths or the CPU"
        )
    half = max(side // 2, smallest)
    warnings.warn(
        f"out of memory on {device} with {name} = {side}: tried again with {half}", RuntimeWarning, 3
    )
    return settings.replace(**{name: half})


def reduced(given: Settings, used: Settings) -> dict[str, int]:
    """Return the settings that were made smaller, and what they became."""
    return {name: getattr(used, name) for name in REDUCIBLE if getattr(used, name) != getattr(given, name)}
