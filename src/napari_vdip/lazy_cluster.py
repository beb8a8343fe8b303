"""A lazy stack on a cluster: each plane goes to a worker, and what that has not written comes back."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import torch
from numpy.typing import NDArray

from napari_vdip.attempts import STOPPED_BY_USER
from napari_vdip.cluster import Failure, Queue, gpu_of
from napari_vdip.course import BLANK, FINISHED
from napari_vdip.deconvolution import finish, run_plane
from napari_vdip.devices import stream_of_its_own
from napari_vdip.generators import Posterior
from napari_vdip.images import check_plane
from napari_vdip.result import Deconvolution, Progress
from napari_vdip.source import check_not_all_blank
from napari_vdip.turns import amount_of_detail, in_turn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from distributed import Client

    from napari_vdip.estimate import Estimate
    from napari_vdip.settings import Settings
    from napari_vdip.source import Sink, Source
    from napari_vdip.stack import Plan
    from napari_vdip.tiling import Region

Array = NDArray[np.float32]
Index = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Stack:
    """What the planes of a stack have in common; plain data.

    Attributes
    ----------
    planes : Plan
        The planes of the result.
    settings, device
        See `run`.
    inside : tuple of slice
        Where the result is in what is read of a plane.
    wanted : tuple of str
        The results.
    written : mapping of str to zarr.Array
        Where the workers write some of them.
    name : str
        Of this run.
    """

    planes: Plan
    settings: Settings
    device: str | None
    inside: Region
    wanted: tuple[str, ...]
    written: Mapping[str, Any]
    name: str


@dataclass(frozen=True, slots=True)
class _Made:
    """What comes back of a plane; plain data. ``images`` holds what its worker has not written."""

    psf: Array
    images: dict[str, Array]
    noise: float
    history: Mapping[str, NDArray[Any]]
    reduced: Mapping[str, int]
    estimate: Estimate
    device: str
    stopped: str


def run_on_cluster(
    client: Client,
    source: Source,
    sink: Sink,
    settings: Settings,
    psfs: NDArray[np.float64] | None,
    device: str | None,
    progress: Callable[[Progress], bool | None] | None,
) -> Deconvolution:
    """Do what `deconvolution.run` does with what `deconvolution.prepare` returns, on a cluster.

    Parameters
    ----------
    client : Client
        The cluster.
    source : Source
        Of a Dask array.
    sink, settings, psfs
        See `deconvolution.prepare`.
    device, progress
        See `lazy.deconvolve_stack`.
    """
    started = time.perf_counter()
    planes, resources = source.planes, gpu_of(client, device)
    written = {name: array for name, array in sink.arrays.items() if _is_shared(array, planes)}
    stack = _Stack(planes, settings, device, source.inside, tuple(sink.arrays), written, uuid4().hex)
    made: dict[Index, _Made] = {}
    stopped = FINISHED
    with Queue(client) as queue:

        def send(index: Index, kernel: Array | None) -> None:
            psf = None if psfs is None else planes.take_psf(psfs, index)
            arguments = (source.lazy(index), source.name(index), stack, index, psf, kernel)
            queue.submit(index, "plane", source.name(index), _do_plane, *arguments, resources=resources)

        details = {}
        if settings.psf_source == "channel":
            for index in (index for group in planes.groups if len(group) > 1 for index in group):
                arguments = (source.lazy(index), source.name(index), settings)
                queue.submit(index, "detail", source.name(index), _look, *arguments)
            details = {index: _sound(detail) for index, detail in queue}
        first: Index = ()
        waiting: dict[Index, list[Index]] = {}
        for index, known in in_turn(source, settings, details):
            if known:
                waiting[first].append(index)
            else:
                first = index
                waiting[first] = []
                send(first, None)
        for index, outcome in queue:
            one = made[index] = _sound(outcome)
            for name, image in one.images.items():
                planes.put(sink.arrays[name], index, image)
            one.images.clear()
            planes.put_psf(sink.psf, index, one.psf)
            if one.stopped not in (FINISHED, BLANK):
                warnings.warn(one.stopped, RuntimeWarning, stacklevel=3)
                stopped = one.stopped
            elif progress:
                where = (len(made), len(planes.indices), planes.name(index), index)
                seconds = time.perf_counter() - started
                if progress(Progress(*where, one.estimate, seconds, None, source.inside)):
                    stopped = STOPPED_BY_USER
            if stopped != FINISHED:
                stopped += f" ({planes.name(index)})" if planes.name(index) else ""
                break
            for other in waiting.get(index, ()):
                send(other, one.estimate.kernel[0, 0].numpy())
    blank = tuple(index for index in sorted(made) if made[index].stopped == BLANK)
    check_not_all_blank(len(blank), planes)
    reached = [made[index] for index in sorted(made)]
    return Deconvolution(
        latent=sink.arrays["latent"],
        psf=sink.psf,
        std=sink.arrays.get("std"),
        reblurred=sink.arrays.get("reblurred"),
        noise=np.array([one.noise for one in reached]),
        history=tuple(one.history for one in reached),
        reduced=tuple(one.reduced for one in reached),
        axes=planes.axes,
        settings=settings,
        device=", ".join(sorted({one.device for one in reached})),
        seconds=time.perf_counter() - started,
        stopped=stopped,
        region=source.bounds,
        blank=blank,
    )


def _look(image: NDArray[Any], name: str, settings: Settings) -> float:
    """Check a plane, and say how much detail it has."""
    check_plane(image, settings, name)
    return amount_of_detail(image, settings)


def _do_plane(
    image: NDArray[Any],
    name: str,
    stack: _Stack,
    index: Index,
    psf: NDArray[np.float64] | None,
    kernel: Array | None,
) -> _Made:
    """Deconvolve a plane on a worker, and write what it can write there."""
    check_plane(image, stack.settings, name)
    written = {name: _opened(name, array) for name, array in stack.written.items()}
    steps = run_plane(
        image,
        stack.settings,
        psf=psf,
        kernel=kernel,
        region=stack.inside,
        device=stack.device,
        stack=stack.name,
    )
    last: list[Estimate] = []

    def keep(progress: Progress) -> None:
        last[:] = [progress.estimate]

    with stream_of_its_own(stack.device):
        result = finish(steps, keep)
    images = {name: getattr(result, name) for name in stack.wanted}
    for name, array in written.items():
        stack.planes.put(array, index, images.pop(name))
    estimate = replace(
        last[0],
        posterior=Posterior(torch.empty(0)),
        kernel=last[0].kernel.cpu(),
        terms={term: value.cpu() for term, value in last[0].terms.items()},
    )
    about = result.history[0], result.reduced[0], estimate, result.device, result.stopped
    return _Made(result.psf, images, result.noise[0], *about)


def _opened(name: str, array: Any) -> Any:
    """Open an array anew on a worker, as one that is not there would be written to all the same.

    Raises
    ------
    ValueError
        If the worker does not see it, which no other try would change.
    """
    import zarr

    try:
        return zarr.open_array(array.store, path=array.path, mode="r+")
    except FileNotFoundError:
        raise ValueError(
            f"out[{name!r}]: expected an array that all workers see, got {array.store} without one"
        ) from None


def _is_shared(array: Any, planes: Plan) -> bool:
    """Whether workers can write planes to an array at the same time."""
    import zarr
    from zarr.storage import FsspecStore, LocalStore

    if not isinstance(array, zarr.Array) or not isinstance(array.store, LocalStore | FsspecStore):
        return False
    together = array.shards or array.chunks
    return all(together[axis] == 1 for axis in planes.stacked)


def _sound(outcome: Any) -> Any:
    """Return what came of a piece of work, if it is no failure."""
    if isinstance(outcome, Failure):
        raise ValueError(outcome.reason) if outcome.bad_value else RuntimeError(outcome.reason)
    return outcome
