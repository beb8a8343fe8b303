"""Blind deconvolution of an array: the loop over planes and steps."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_vdip.attempts import STOPPED_BY_USER, attempt, reduced
from napari_vdip.checkpoint import remove
from napari_vdip.course import BLANK, FINISHED
from napari_vdip.devices import choose_device, describe, release_memory
from napari_vdip.images import as_source, named_axes
from napari_vdip.replay import keep_for
from napari_vdip.result import Deconvolution, Progress
from napari_vdip.settings import Settings
from napari_vdip.source import Sink, Source, check_not_all_blank, given_psfs
from napari_vdip.stack import plan
from napari_vdip.turns import in_turn

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from torch import Tensor

    from napari_vdip.blank import Blank
    from napari_vdip.estimate import Estimate
    from napari_vdip.mosaic import Mosaic
    from napari_vdip.plane import Plane
    from napari_vdip.stack import Plan
    from napari_vdip.tiling import Region


Array = NDArray[np.float32]

_ENOUGH: dict[tuple[str, Settings], Mapping[str, int]] = {}
"""What had to be made smaller in this process, for each stack of which it does planes one by one."""


def deconvolve(
    image: Any,
    settings: Settings | None = None,
    *,
    axes: str | None = None,
    psf: Any = None,
    region: Any = None,
    device: str | None = None,
    progress: Callable[[Progress], bool | None] | None = None,
    checkpoint: str | Path | None = None,
    **changes: Any,
) -> Deconvolution:
    """Deconvolve an image: estimate the sharp image, a std map and, if unknown, the point spread function.

    Variational deep image prior (Huo et al., TPAMI 2023): a variational bound is maximised for this one
    image, in closed form or by two networks that are fitted to it (see `Settings.steps`).

    Parameters
    ----------
    image : array
        ``(Y, X)``, or ``(Y, X, C)`` with up to four channels, of any real type; with `axes`, any stack of
        planes. Of arrays that are read in parts, as those of Dask and Zarr, one plane is read at a time.
        See `deconvolve_stack` for results larger than memory. Blank planes of a stack pass through, see
        `Deconvolution.blank`.
    settings : Settings, optional
        What to do; ``Settings()`` if not given, ``Settings.paper()`` for the published method.
    axes : str, optional
        One letter for each axis of the image, such as ``"TZCYX"``. Each index outside Y, X (and C, if
        channels are joint) is a plane of its own. If not given, those that an array of Zarr names.
    psf : array, optional
        Point spread function ``(kh, kw)``, if it is known: a convolution kernel, non-negative, of any
        sum. An array, no file; the command ``napari-vdip run`` takes files. It is not moved: the result
        overlays the source under it. Several, for channels or planes, have the axes of
        `Deconvolution.psf`, with one entry where all share. The settings become ``psf_source="given"`` and
        its own ``psf_shape``, which is odd. Needs VDIP-Sparse.
    region : tuple, optional
        Rows and columns to deconvolve, as two slices or two pairs of the first pixel and the end. The
        result has its shape. Some context around it is taken into account.
    device : str, optional
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``, or ``None`` for the best there is.
    progress : callable, optional
        Called with a `Progress` after every step; the run stops and keeps what it has if it returns
        true.
    checkpoint : str or Path, optional
        File to go on from if the process ends, for an image of one plane: the same call with the same file
        goes on, and on a CPU gives the same result. It is removed when the run has ended by itself. Nothing
        in the file is executed.
    **changes
        Fields of the settings to replace, such as ``psf_shape=31``.

    Returns
    -------
    Deconvolution
        Latent image, point spread function, std map and how they came about.

    Raises
    ------
    ValueError
        If an argument cannot be used; before any work, naming what was expected and what came. Values of an
        array that is read in parts are checked when they are read.
    MemoryError
        If there is too little memory, even for smaller parts.

    Warns
    -----
    RuntimeWarning
        If the objective ceased to be finite; the result is the last finite estimate. If there was too
        little memory, and smaller parts are tried (see `Deconvolution.reduced`). If a checkpoint cannot be
        used.

    Examples
    --------
    >>> from napari_vdip import deconvolve
    >>> from napari_vdip.scenes import cells
    >>> scene = cells(size=64, psf_size=9)
    >>> result = deconvolve(scene.blurred, psf_shape=9, steps=5, refinements=2)
    >>> result.latent.shape, result.psf.shape, result.std.shape, result.stopped
    ((64, 64), (9, 9), (64, 64), 'finished')
    >>> deconvolve(scene.blurred, psf=scene.psf, region=((0, 20), (0, 30))).latent.shape
    (20, 30)
    """
    given = {"axes": axes, "psf": psf, "region": region, "device": device, "checkpoint": checkpoint}
    result = finish(run(image, settings, **given, **changes), progress)
    if checkpoint is not None and result.stopped != STOPPED_BY_USER:
        remove(Path(checkpoint))
    return result


def finish(
    steps: Generator[Progress, bool | None, Deconvolution],
    progress: Callable[[Progress], bool | None] | None = None,
) -> Deconvolution:
    """Drive a run to its end, or until `progress` returns true, and return its result."""
    stop = False
    while True:
        try:
            where = steps.send(True) if stop else next(steps)
        except StopIteration as end:
            result: Deconvolution = end.value
            return result
        stop = bool(progress and progress(where))
        del where  # it holds what is on the device


def run(
    image: Any,
    settings: Settings | None = None,
    *,
    axes: str | None = None,
    psf: Any = None,
    region: Any = None,
    out: Mapping[str, Any] | None = None,
    device: str | None = None,
    checkpoint: str | Path | None = None,
    **changes: Any,
) -> Generator[Progress, bool | None, Deconvolution]:
    """Deconvolve step by step: yield the progress of every step, return the result.

    Takes the arguments of `deconvolve`, and `out` of `deconvolve_stack`. Send ``True`` to stop and keep
    what there is. The file `checkpoint` stays, until the result is safe.
    """
    target = choose_device(device)
    source, sink, settings, psf = prepare(image, settings, axes, psf, region, out, changes)
    path = _checked(checkpoint, len(source.planes.indices))
    steps = _giving_back(_run(source, sink, settings, psf, target, path=path))
    return _not_all_blank(steps, source.planes)


def _giving_back(
    steps: Generator[Progress, bool | None, Deconvolution],
) -> Generator[Progress, bool | None, Deconvolution]:
    """Give memory back after a run."""
    try:
        return (yield from steps)
    finally:
        release_memory()


def _not_all_blank(
    steps: Generator[Progress, bool | None, Deconvolution], planes: Plan
) -> Generator[Progress, bool | None, Deconvolution]:
    """Refuse the result if all planes were blank, which is known late of an array that is read in parts."""
    result = yield from steps
    check_not_all_blank(len(result.blank), planes)
    return result


def prepare(
    image: Any,
    settings: Settings | None,
    axes: str | None,
    psf: Any,
    region: Any,
    out: Mapping[str, Any] | None,
    changes: Mapping[str, Any],
) -> tuple[Source, Sink, Settings, NDArray[np.float64] | None]:
    """Check the arguments of `run`; return whence, whither and how, and point spread functions if known."""
    if not isinstance(settings, Settings | None):
        raise ValueError(f"settings: expected Settings, got {type(settings).__name__}")
    settings = (settings or Settings()).replace(**changes)
    array = as_source(image)
    planes = plan(array.shape, named_axes(array) if axes is None else axes, settings.channels)
    if psf is not None:
        if settings.psf_source == "channel":
            raise ValueError("psf: expected none with psf_source = 'channel', got one")
        psf = given_psfs(psf, planes)
        size = planes.take_psf(psf, planes.first).shape
        settings = settings.replace(psf_source="given", psf_shape=size)
    elif settings.psf_source == "given":
        raise ValueError("psf: expected a point spread function with psf_source = 'given', got None")
    source = Source(array, planes, settings, region)
    if isinstance(array, np.ndarray):
        source.check()
    return source, Sink(source.planes, settings, out), settings, psf


def run_plane(
    image: NDArray[Any],
    settings: Settings,
    *,
    psf: NDArray[np.float64] | None = None,
    kernel: Array | None = None,
    region: Any = None,
    device: str | None = None,
    checkpoint: str | Path | None = None,
    stack: str = "",
) -> Generator[Progress, bool | None, Deconvolution]:
    """Deconvolve one plane ``(Y, X, C)`` of a stack, as `run` does in its turn, which may be blank.

    Parameters
    ----------
    image : array
        What `Source.read` gives, with its ``inside`` as the region.
    settings, region, device, checkpoint
        See `run`.
    psf : array, optional
        ``(kh, kw)``, one of the point spread functions of `prepare`.
    kernel : array, optional
        ``(kh, kw)`` correlation kernel of the last `Estimate` of another plane of the channel, not yet
        centred. Unlike a point spread function that is given, it is centred in the result, and the latent
        image with it, as ``psf_source="channel"`` does in one run.
    stack : str
        Name of the stack: what the memory of this process was too small for is not tried on its next plane,
        and what this thread keeps on a GPU is kept for it.
    """
    planes = plan(image.shape, "YXC", "joint")  # whatever the channels of the stack: this is one plane
    target = choose_device(device)
    source = Source(image, planes, settings, region)
    psfs = None if psf is None else planes.as_psfs(psf)
    shared = None if kernel is None else torch.from_numpy(kernel)[None, None].to(target)
    path = _checked(checkpoint, 1)
    sink = Sink(source.planes, settings)
    if not stack:
        return (yield from _giving_back(_run(source, sink, settings, psfs, target, shared, path)))
    keep_for(stack)
    enough = _ENOUGH.get((stack, settings), {})
    result = yield from _run(source, sink, settings, psfs, target, shared, path, enough)
    if result.reduced[0]:
        _ENOUGH[stack, settings] = result.reduced[0]
    return result


def _run(
    source: Source,
    sink: Sink,
    settings: Settings,
    psfs: NDArray[np.float64] | None,
    device: torch.device,
    shared: Tensor | None = None,
    path: Path | None = None,
    enough: Mapping[str, int] | None = None,
) -> Generator[Progress, bool | None, Deconvolution]:
    """Loop over planes and their steps."""
    started, before = time.perf_counter(), 0.0
    planes, total = source.planes, len(source.planes.indices)
    noise, history, smaller, blank = {}, {}, {}, []
    stopped, kernel, enough = FINISHED, shared, enough or {}
    for number, (index, known) in enumerate(in_turn(source, settings), start=1):
        if psfs is not None:
            kernel = kernel_of(planes.take_psf(psfs, index), device)
        elif not known:
            kernel = shared
        where = partial(_progress, (number, total, planes.name(index), index), started, source.inside)
        # What the memory was too small for is not tried again.
        outcome = yield from attempt(source.read(index), settings, device, kernel, where, path, enough)
        kernel, stopped = outcome.kernel, outcome.stopped
        sink.put(index, outcome.restored.cut(source.inside))
        noise[index], history[index] = outcome.restored.noise, outcome.history
        smaller[index] = enough = reduced(settings, outcome.settings)
        if outcome.blank:
            blank.append(index)
        before += outcome.seconds
        if stopped != FINISHED:
            stopped += f" ({planes.name(index)})" if planes.name(index) else ""
            break
    if stopped == FINISHED and len(blank) == total:
        stopped = BLANK
    reached = sorted(noise)
    return Deconvolution(
        latent=sink.arrays["latent"],
        psf=sink.psf,
        std=sink.arrays.get("std"),
        reblurred=sink.arrays.get("reblurred"),
        noise=np.array([noise[index] for index in reached]),
        history=tuple(history[index] for index in reached),
        reduced=tuple(smaller[index] for index in reached),
        axes=planes.axes,
        settings=settings,
        device=describe(device),
        seconds=before + time.perf_counter() - started,
        stopped=stopped,
        region=source.bounds,
        blank=tuple(sorted(blank)),
    )


def _progress(
    which: tuple[int, int, str, tuple[int, ...]],
    started: float,
    inside: Region,
    before: float,
    estimate: Estimate,
    plane: Plane | Mosaic | Blank,
) -> Progress:
    """Say where a run is that has taken some time before it was started."""
    return Progress(*which, estimate, before + time.perf_counter() - started, plane, inside)


def _checked(checkpoint: str | Path | None, planes: int) -> Path | None:
    """Return the name of the file for checkpoints, if there is to be one."""
    if checkpoint is None:
        return None
    path = Path(checkpoint)
    if planes > 1:
        raise ValueError(f"checkpoint: expected None for an image of {planes} planes, got {str(path)!r}")
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"checkpoint: expected a file in a folder that there is, got {str(path)!r}")
    return path


def kernel_of(psf: NDArray[np.floating], device: torch.device) -> Tensor:
    """Correlation kernel ``(1, 1, kh, kw)`` of a ``(kh, kw)`` point spread function."""
    return torch.from_numpy(psf[::-1, ::-1].astype(np.float32))[None, None].to(device)
