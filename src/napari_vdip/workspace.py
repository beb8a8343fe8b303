"""The folder in which an image's results are being made: what is in there is not lost by a kill.

::

    OUT/NAME.partial/run.json         what is being done: settings, versions and hash of the input
    OUT/NAME.partial/planes.zarr      latent, std, psf, shared kernels; a chunk holds one plane or less
    OUT/NAME.partial/done/0-1.json    plane (0, 1) is in there
    OUT/NAME.partial/checkpoints      0-1.safetensors: where plane (0, 1) is, until it is done
    OUT/NAME.partial/results          the results in their format; renamed to OUT/NAME when whole

A file that says that something is there is written after it, under another name, then renamed, and removed
before it. Results that are overwritten wait in ``replaced`` until the new ones have their name.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_vdip import io, stack
from napari_vdip.course import FINISHED
from napari_vdip.items import Item, content_hash
from napari_vdip.names import RECORD
from napari_vdip.psf_file import read_psfs
from napari_vdip.source import Source, given_psfs

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from napari_vdip.result import Progress
    from napari_vdip.settings import Settings
    from napari_vdip.tiling import Bounds

Record = dict[str, Any]
"""Plain data as it comes back from JSON."""
Index = tuple[int, ...]
DECISIVE = ("source", "psf_sha256", "region", "settings", "versions")
"""Parts of a run's record that decide the planes: if one differs, no plane is taken over."""
CONTENT = {"run.json", "planes.zarr", "done", "checkpoints", "results"}


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
    import zarr

    from napari_vdip.checkpoint import remove as remove_checkpoint
    from napari_vdip.deconvolution import run_plane

    image = io.read(task.path, task.axes, task.scene)
    planes = stack.plan(image.array.shape, image.axes, task.settings.channels)
    source = Source(image.array, planes, task.settings, task.region)
    store: Any = zarr.open_group(task.partial / "planes.zarr", mode="r+", zarr_format=3)
    checkpoint = task.partial / "checkpoints" / f"{_label(task.index)}.safetensors"
    checkpoint.parent.mkdir(exist_ok=True)
    psf = kernel = None
    if task.shared is not None:
        kernel = planes.take_psf(store["kernel"], task.shared)
        if not np.isfinite(kernel).all():
            where = planes.name(task.shared)
            raise ValueError(f"expected the kernel of {where}, but it is not done or ended early")
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
    planes.put(store["latent"], task.index, result.latent)
    planes.put_psf(store["psf"], task.index, result.psf.reshape(task.settings.psf_shape))
    if result.std is not None:
        planes.put(store["std"], task.index, result.std)
    if "kernel" in store and task.shared is None and result.stopped == FINISHED:
        planes.put_psf(store["kernel"], task.index, estimated.cpu().numpy())
    record = {
        "index": list(task.index),
        "name": planes.name(task.index),
        "psf_from": task.shared and planes.name(task.shared),
        "noise": float(result.noise[0]),
        "device": result.device,
        "seconds": round(result.seconds, 3),
        "stopped": result.stopped,
        "reduced": result.metadata["reduced"][0],
    }
    _write_json(_marker(task.partial, task.index), record)
    remove_checkpoint(checkpoint)
    return record


def describe(item: Item) -> Record:
    """Say what is to be done with an item, as plain data that can do it again."""
    assert item.planes is not None
    record = {
        "path": str(item.path.resolve()),
        "source": {"scene": item.scene, "axes": item.axes, "sha256": content_hash(item.path)},
        "psf_path": item.psf and str(item.psf.resolve()),
        "psf_sha256": item.psf and content_hash(item.psf),
        "settings": item.settings.asdict(),
        "seed": item.settings.seed,
        "method": item.settings.method,
        "axes": item.planes.axes,
        "shape": item.planes.shape,
        "region": item.region,
        "format": item.format,
        "versions": {name: version(name) for name in ("napari-vdip", "torch", "numpy")},
    }
    plain: Record = json.loads(json.dumps(record))
    return plain


def same(one: Record, other: Record) -> bool:
    """Whether two runs make the same planes."""
    return all(one.get(key) == other.get(key) for key in DECISIVE)


def other_versions(made: Record, run: Record) -> str:
    """Say which versions results were made with, if nothing else differs from a run; else nothing."""
    now = run["versions"]
    if same(made, run) or not same(made | {"versions": now}, run):
        return ""
    earlier = made.get("versions") or {}
    differ = [name for name in now if earlier.get(name) != now[name]]
    return ", ".join(f"{name} {earlier.get(name, 'unknown')}, now {now[name]}" for name in differ)


def results(item: Item) -> Record | None:
    """Return the record of an item's results, if there are any."""
    return _read_json(item.folder / RECORD)


def done(item: Item, planes: stack.Plan) -> dict[Index, Record]:
    """Return the records of the planes that are done."""
    records = {index: _read_json(_marker(item.partial, index)) for index in planes.indices}
    return {index: record for index, record in records.items() if record is not None}


def prepare(item: Item, planes: stack.Plan, run: Record) -> None:
    """Make the folder, or keep what an interrupted run of the same left there."""
    import zarr

    earlier = _read_json(item.partial / "run.json")
    if earlier is not None and same(earlier, run):
        return
    remove(item)
    (item.partial / "done").mkdir(parents=True)
    store = zarr.open_group(item.partial / "planes.zarr", mode="w", zarr_format=3)
    shapes = {"latent": planes.shape, "psf": planes.psf_shape(item.settings.psf_shape)}
    if item.settings.variational:
        shapes["std"] = planes.shape
    if item.settings.psf_source == "channel":
        shapes["kernel"] = shapes["psf"]
    for name, shape in shapes.items():
        chunks = io.chunks_of(axes_of(name, planes), shape)
        store.create_array(name, shape=shape, chunks=chunks, dtype="float32", fill_value=np.nan)
    _write_json(item.partial / "run.json", run)


def finish(
    item: Item, planes: stack.Plan, image: io.ImageFile, run: Record, done: Sequence[Record]
) -> Record:
    """Write the results in their format, give them their name, and return their record."""
    import dask.array as da
    import zarr

    made = item.partial / "results"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    store = zarr.open_group(item.partial / "planes.zarr", mode="r", zarr_format=3)
    run = run | {"origin": origin_of(image, item.region)}
    for name, stored in store.arrays():
        if name == "kernel":  # the point spread function before it was centred
            continue
        axes, array = axes_of(name, planes), da.from_zarr(stored)
        about: dict[str, Any] = {
            "spacing": {axis: step for axis, step in image.spacing.items() if axis in axes},
            "origin": {} if name == "psf" else run["origin"],
            "channels": image.channels if "C" in axes else (),
            "provenance": run,
        }
        if item.format == "ome-tiff":
            io.write_ome_tiff(made / f"{name}.ome.tif", array, axes, **about)
        else:
            about |= {"name": f"{item.name.rpartition('/')[2]} {name}", "colour": image.colour}
            io.write_ome_zarr(made / f"{name}.ome.zarr", array, axes, **about)
    record = run | {"planes": list(done)}
    _write_json(made / RECORD, record)
    if item.folder.exists():
        item.folder.rename(item.partial / "replaced")
    made.rename(item.folder)
    remove(item)
    return record


def remove(item: Item) -> None:
    """Remove the folder if it is there, unless it holds what no run has made."""
    if not item.partial.exists():
        return
    ours = CONTENT | ({"replaced"} if item.folder.exists() else set())
    if {entry.name.removeprefix(".part-") for entry in item.partial.iterdir()} - ours:
        raise ValueError(
            f"expected the folder of an interrupted run, but {item.partial} holds something else"
        )
    (item.partial / "run.json").unlink(missing_ok=True)  # first: a rest of a folder is never taken over
    shutil.rmtree(item.partial)


def origin_of(image: io.ImageFile, region: Bounds | None) -> dict[str, float]:
    """Return where the first pixel of an image's region is, see `ImageFile`."""
    first = {axis: start for axis, (start, _) in zip("YX", region or (), strict=False)}
    steps = {axis: start * image.spacing.get(axis, (1.0, None))[0] for axis, start in first.items()}
    return {axis: image.origin.get(axis, 0.0) + steps.get(axis, 0.0) for axis in {**image.origin, **steps}}


def axes_of(name: str, planes: stack.Plan) -> str:
    """Axes of one of the arrays."""
    return planes.psf_axes if name in ("psf", "kernel") else planes.axes


def _marker(partial: Path, index: Index) -> Path:
    return partial / "done" / f"{_label(index)}.json"


def _label(index: Index) -> str:
    return "-".join(map(str, index)) or "plane"


def _read_json(path: Path) -> Record | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _write_json(path: Path, record: Record) -> None:
    part = path.with_name(f".part-{path.name}")
    part.write_text(json.dumps(record, indent=2), encoding="utf-8")
    part.replace(path)
