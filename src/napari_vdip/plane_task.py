"""One plane of an image in a file: read, deconvolved and kept, by any process that sees the files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_vdip import io, stack, workspace
from napari_vdip.course import FINISHED
from napari_vdip.psf_file import read_psfs
from napari_vdip.source import Source, given_psfs

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari_vdip.result import Progress
    from napari_vdip.settings import Settings
    from napari_vdip.tiling import Bounds
    from napari_vdip.workspace import Index, Record


@dataclass(frozen=True, slots=True)
class PlaneTask:
    """What makes one plane; plain data, so that any process that sees the files can do it.

    Attributes
    ----------
    path, scene, axes
        See `Item`.
    index : tuple of int
        Which plane, in the stacked axes.
    settings : Settings
        How.
    partial : Path
        The prepared folder of the image.
    device : str or None
        Where to compute, see `deconvolution.run`.
    psf : Path or None
        File with the point spread function, if it is known.
    shared : tuple of int or None
        Which plane the kernel was estimated on, if on another one: that must be done.
    region : tuple or None
        Rows and columns to deconvolve, if not all.
    """

    path: Path
    scene: int
    axes: str | None
    index: Index
    settings: Settings
    partial: Path
    device: str | None
    psf: Path | None = None
    shared: Index | None = None
    region: Bounds | None = None


def compute_plane(task: PlaneTask) -> Record:
    """Deconvolve one plane, write it to its image's folder, and say how it went.

    No two tasks write the same file, so that they can be done at the same time, but for those that need
    the kernel of another.
    """
    from napari_vdip.devices import stream_of_its_own

    steps = plane_steps(task)
    with stream_of_its_own(task.device):
        while True:
            try:
                next(steps)
            except StopIteration as end:
                record: Record = end.value
                return record


def plane_steps(task: PlaneTask) -> Generator[Progress, None, Record]:
    """Do what `compute_plane` does, and yield the progress of every step."""
    from napari_vdip.checkpoint import remove as remove_checkpoint
    from napari_vdip.deconvolution import run_plane

    image = io.read(task.path, task.axes, task.scene)
    planes = stack.plan(image.array.shape, image.axes, task.settings.channels)
    source = Source(image.array, planes, task.settings, task.region)
    checkpoint = workspace.checkpoint_of(task.partial, task.index)
    psf = kernel = None
    if task.shared is not None:
        kernel = workspace.kernel_of(task.partial, planes, task.shared)
    elif task.psf is not None:
        psf = planes.take_psf(given_psfs(read_psfs(task.psf, image, planes), planes), task.index)
    steps = run_plane(
        source.read(task.index),
        task.settings,
        psf=psf,
        kernel=kernel,
        region=task.region and source.inside,
        device=task.device,
        checkpoint=checkpoint,
        stack=str(task.partial),
    )
    while True:
        try:
            progress = next(steps)
        except StopIteration as end:
            result = end.value
            break
        estimated = progress.estimate.kernel[0, 0]
        yield progress
    finds = task.settings.psf_source == "channel" and task.shared is None and result.stopped == FINISHED
    found = estimated.cpu().numpy() if finds else None
    record = workspace.keep(task.partial, planes, task.index, result, task.shared, found)
    remove_checkpoint(checkpoint)
    return record
