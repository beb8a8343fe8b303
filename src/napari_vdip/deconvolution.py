"""Blind deconvolution of an array: the loop over planes and steps, and its result."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_vdip.devices import choose_device, describe
from napari_vdip.images import as_array, check_plane
from napari_vdip.plane import Plane, Restored
from napari_vdip.settings import Settings
from napari_vdip.stack import plan

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    import torch
    from torch import Tensor

    from napari_vdip.estimate import Estimate
    from napari_vdip.stack import Plan

Array = NDArray[np.float32]
CHECK_EVERY = 10
"""Steps between looks at whether the objective is finite, which make a GPU wait."""
FINISHED = "finished"
STOPPED_BY_USER = "stopped by the user"


@dataclass(frozen=True)
class Deconvolution:
    """Result of a blind deconvolution.

    Arrays are float32. Intensities are in the source's units, axes are those of the source.

    Attributes
    ----------
    latent : array
        Sharp image, the source's shape; overlays the source. NaN in planes not reached by a run that was
        stopped.
    psf : array
        Point spread function as convolution kernel: centred, non-negative, sums to one. The source's
        axes with ``psf_shape`` in place of Y and X; without C if channels are joint.
    std : array or None
        Standard deviation of `latent`, for variational methods.
    reblurred : array
        `latent`, with what lies beyond its border, convolved with `psf`: the model of the source. Made
        before both are centred to a part of a pixel.
    noise : array
        Standard deviation of the residual of each plane, in the order of the planes.
    history : tuple of mapping
        For each plane the course of the run: ``stage`` (str), ``loss`` and ``noise`` of every step, NaN
        where a stage has no such term.
    axes : str
        One letter for each axis of `latent`.
    settings : Settings
        What the run was made with.
    device : str
        Where it ran.
    seconds : float
        How long it took.
    stopped : str
        Why it ended: ``"finished"`` or the reason it ended early.
    """

    latent: Array
    psf: Array
    std: Array | None
    reblurred: Array
    noise: NDArray[np.float64]
    history: tuple[Mapping[str, NDArray[Any]], ...]
    axes: str
    settings: Settings
    device: str
    seconds: float
    stopped: str

    @property
    def metadata(self) -> dict[str, Any]:
        """Plain data that says how the result was made, and suffices to make it again."""
        return {
            "settings": self.settings.asdict(),
            "method": self.settings.method,
            "axes": self.axes,
            "noise": self.noise.tolist(),
            "device": self.device,
            "seconds": round(self.seconds, 3),
            "stopped": self.stopped,
            "versions": {name: version(name) for name in ("napari-vdip", "torch", "numpy")},
        }


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is.

    Attributes
    ----------
    plane, planes : int
        Number of this plane, counted from 1, and of all.
    name : str
        Which plane it is, such as ``"T=3, C=1"``; empty where there is only one.
    index : tuple of int
        Its index in the stacked axes.
    estimate : Estimate
        This step's estimate, with its step and stage.
    seconds : float
        Time since the start of the run.
    """

    plane: int
    planes: int
    name: str
    index: tuple[int, ...]
    estimate: Estimate
    seconds: float
    source: Plane

    @property
    def fraction(self) -> float:
        """Part of the whole run that is done."""
        return (self.plane - 1 + self.estimate.step / self.estimate.steps) / self.planes

    @property
    def remaining(self) -> float:
        """Seconds to go at the pace so far."""
        return self.seconds * (1 / self.fraction - 1)

    def preview(self) -> Restored:
        """Convert the estimate to arrays ``(Y, X, C)`` in source units, without the std map."""
        return self.source.preview(self.estimate)


def deconvolve(
    image: Any,
    settings: Settings | None = None,
    *,
    axes: str | None = None,
    device: str | None = None,
    progress: Callable[[Progress], bool | None] | None = None,
    **changes: Any,
) -> Deconvolution:
    """Deconvolve an image blind: estimate the sharp image, the point spread function and a std map.

    Variational deep image prior (Huo et al., TPAMI 2023): two networks are fitted to this one image.

    Parameters
    ----------
    image : array
        ``(Y, X)`` or ``(Y, X, C)`` of any real type; with `axes`, any stack of planes.
    settings : Settings, optional
        What to do; ``Settings()`` if not given, ``Settings.paper()`` for the published method.
    axes : str, optional
        One letter for each axis of the image, such as ``"TZCYX"``. Each index outside Y, X (and C, if
        channels are joint) is a plane of its own.
    device : str, optional
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``, or ``None`` for the best there is.
    progress : callable, optional
        Called with a `Progress` after every step; the run stops and keeps what it has if it returns
        true.
    **changes
        Fields of the settings to replace, such as ``psf_shape=31``.

    Returns
    -------
    Deconvolution
        Latent image, point spread function, std map and how they came about.

    Raises
    ------
    ValueError
        If an argument cannot be used; before any work, naming what was expected and what came.

    Warns
    -----
    RuntimeWarning
        If the objective ceased to be finite; the result is the last finite estimate.

    Examples
    --------
    >>> from napari_vdip import deconvolve
    >>> from napari_vdip.scenes import cells
    >>> scene = cells(size=64, psf_size=9)
    >>> result = deconvolve(scene.blurred, psf_shape=9, steps=5, refinements=2)
    >>> result.latent.shape, result.psf.shape, result.std.shape, result.stopped
    ((64, 64), (9, 9), (64, 64), 'finished')
    """
    steps = run(image, settings, axes=axes, device=device, **changes)
    stop = False
    while True:
        try:
            where = steps.send(True) if stop else next(steps)
        except StopIteration as end:
            result: Deconvolution = end.value
            return result
        stop = bool(progress and progress(where))


def run(
    image: Any,
    settings: Settings | None = None,
    *,
    axes: str | None = None,
    device: str | None = None,
    **changes: Any,
) -> Generator[Progress, bool | None, Deconvolution]:
    """Deconvolve step by step: yield the progress of every step, return the result.

    Takes the arguments of `deconvolve`. Send ``True`` to stop and keep what there is.
    """
    settings = (settings or Settings()).replace(**changes)
    array = as_array(image)
    planes = plan(array.shape, axes, settings.channels)
    for index in planes.indices:
        place = planes.name(index)
        check_plane(planes.take(array, index), settings, f"image, {place}" if place else "image")
    target = choose_device(device)
    return _run(array, settings, planes, target)


def _run(
    array: NDArray[Any], settings: Settings, planes: Plan, device: torch.device
) -> Generator[Progress, bool | None, Deconvolution]:
    """Loop over checked planes and their steps."""
    started = time.perf_counter()
    latent, reblurred = (np.full(array.shape, np.nan, np.float32) for _ in range(2))
    std = np.full_like(latent, np.nan) if settings.variational else None
    psf = np.full(planes.psf_shape(settings.psf_shape), np.nan, np.float32)
    noise, history = [], []
    stopped = FINISHED
    for number, index in enumerate(planes.indices, start=1):
        source = Plane(planes.take(array, index), settings, device)
        course = Course(last_of_search=settings.prefit_steps + settings.steps)
        for estimate in source.estimates():
            stopped = course.follow(estimate)
            if stopped != FINISHED:
                break
            seconds = time.perf_counter() - started
            where = (number, len(planes.indices), planes.name(index), index)
            if (yield Progress(*where, estimate, seconds, source)):
                stopped = STOPPED_BY_USER
                break
        restored = source.result(course.kept)
        planes.put(latent, index, restored.latent)
        planes.put(reblurred, index, restored.reblurred)
        planes.put_psf(psf, index, restored.psf)
        if std is not None and restored.std is not None:
            planes.put(std, index, restored.std)
        noise.append(restored.noise)
        history.append(course.history)
        if stopped != FINISHED:
            stopped += f" ({planes.name(index)})" if planes.name(index) else ""
            break
    return Deconvolution(
        latent=latent,
        psf=psf,
        std=std,
        reblurred=reblurred,
        noise=np.array(noise),
        history=tuple(history),
        axes=planes.axes,
        settings=settings,
        device=describe(device),
        seconds=time.perf_counter() - started,
        stopped=stopped,
    )


class Course:
    """What to keep of a plane's steps: the terms of all, and the last estimate known to be finite."""

    def __init__(self, last_of_search: int) -> None:
        self._last_of_search = last_of_search
        self.stages: list[str] = []
        self.terms: list[Mapping[str, Tensor]] = []
        self._kept: Estimate | None = None
        self._latest: Estimate | None = None

    def follow(self, estimate: Estimate) -> str:
        """Take in an estimate and say whether the run may go on: `FINISHED` or the reason why not."""
        self.stages.append(estimate.stage)
        self.terms.append(estimate.terms)
        self._latest = estimate
        ends = self._last_of_search, estimate.steps  # of the stages; each starts where one ended
        if (estimate.step % CHECK_EVERY != 1 and estimate.step not in ends) or self._settle():
            return FINISHED
        reason = f"the objective was not finite at step {estimate.step}: lower image_rate or psf_rate"
        if self._kept is None:
            raise FloatingPointError(reason)
        warnings.warn(reason, RuntimeWarning, stacklevel=2)
        return reason

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

    @property
    def history(self) -> dict[str, NDArray[Any]]:
        """The course as arrays with one entry for each step."""
        terms = {
            name: np.array([float(terms.get(name, math.nan)) for terms in self.terms], np.float32)
            for name in ("loss", "noise")
        }
        return {"stage": np.array(self.stages), **terms}
