"""The folder in which an image's results are being made: what is in there is not lost by a kill.

::

    OUT/NAME.partial/run.json         what is being done: settings, versions and hash of the input
    OUT/NAME.partial/planes.zarr      latent, std and psf, one chunk for each plane
    OUT/NAME.partial/done/0-1.json    plane (0, 1) is in there
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
from napari_vdip.images import as_array
from napari_vdip.items import RECORD, Item, content_hash

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_vdip.deconvolution import Progress
    from napari_vdip.settings import Settings

Record = dict[str, Any]
"""Plain data as it comes back from JSON."""
Index = tuple[int, ...]
DECISIVE = ("source", "settings", "versions")
"""Parts of a run's record that decide the planes: if one differs, no plane is taken over."""
CONTENT = {"run.json", "planes.zarr", "done", "results"}


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
    """

    path: Path
    scene: int
    axes: str | None
    index: Index
    settings: Settings
    partial: Path
    device: str | None


def compute_plane(task: PlaneTask) -> Record:
    """Deconvolve one plane, write it to its image's folder, and say how it went.

    No two tasks write the same file, so that they can be done at the same time.
    """
    steps = plane_steps(task)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            record: Record = end.value
            return record


def plane_steps(task: PlaneTask) -> Generator[Progress, None, Record]:
    """Do what `compute_plane` does, and yield the progress of every step."""
    import zarr

    from napari_vdip.deconvolution import run

    source = io.read(task.path, task.axes, task.scene)
    planes = stack.plan(source.array.shape, source.axes, task.settings.channels)
    plane = load(planes, source, task.index)
    result = yield from run(plane, task.settings, axes="YXC", device=task.device)
    arrays = {"latent": _turned(result.latent, planes)}
    arrays["psf"] = result.psf if planes.joint else result.psf[..., 0]
    if result.std is not None:
        arrays["std"] = _turned(result.std, planes)
    store: Any = zarr.open_group(task.partial / "planes.zarr", mode="r+", zarr_format=3)
    where = dict(zip(planes.stacked, task.index, strict=True))
    for name, array in arrays.items():
        axes = axes_of(name, planes)
        region = tuple(where.get(planes.axes.index(axis), slice(None)) for axis in axes)
        store[name][region] = array
    record = {
        "index": list(task.index),
        "name": planes.name(task.index),
        "noise": float(result.noise[0]),
        "device": result.device,
        "seconds": round(result.seconds, 3),
        "stopped": result.stopped,
    }
    _write_json(_marker(task.partial, task.index), record)
    return record


def load(planes: stack.Plan, source: io.ImageFile, index: Index) -> NDArray[Any]:
    """Load one plane as ``(Y, X, C)``."""
    return as_array(planes.take(source.array, index))


def describe(item: Item) -> Record:
    """Say what is to be done with an item, as plain data that can do it again."""
    assert item.planes is not None
    record = {
        "path": str(item.path.resolve()),
        "source": {"scene": item.scene, "axes": item.axes, "sha256": content_hash(item.path)},
        "settings": item.settings.asdict(),
        "seed": item.settings.seed,
        "method": item.settings.method,
        "axes": item.planes.axes,
        "shape": item.planes.shape,
        "format": item.format,
        "versions": {name: version(name) for name in ("napari-vdip", "torch", "numpy")},
    }
    plain: Record = json.loads(json.dumps(record))
    return plain


def same(one: Record, other: Record) -> bool:
    """Whether two runs make the same planes."""
    return all(one.get(key) == other.get(key) for key in DECISIVE)


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
    for name, shape in shapes.items():
        stacked = [planes.axes.index(axis) in planes.stacked for axis in axes_of(name, planes)]
        chunks = tuple(1 if one else size for one, size in zip(stacked, shape, strict=True))
        store.create_array(name, shape=shape, chunks=chunks, dtype="float32", fill_value=np.nan)
    _write_json(item.partial / "run.json", run)


def finish(
    item: Item, planes: stack.Plan, source: io.ImageFile, run: Record, done: Sequence[Record]
) -> None:
    """Write the results in their format, and give them their name."""
    import dask.array as da
    import zarr

    made = item.partial / "results"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    store = zarr.open_group(item.partial / "planes.zarr", mode="r", zarr_format=3)
    for name, stored in store.arrays():
        axes, array = axes_of(name, planes), da.from_zarr(stored)
        about: dict[str, Any] = {
            "spacing": {axis: step for axis, step in source.spacing.items() if axis in axes},
            "channels": source.channels if "C" in axes else (),
            "provenance": run,
        }
        if item.format == "ome-tiff":
            io.write_ome_tiff(made / f"{name}.ome.tif", array, axes, **about)
        else:
            about |= {"name": f"{item.name.rpartition('/')[2]} {name}", "colour": source.colour}
            io.write_ome_zarr(made / f"{name}.ome.zarr", array, axes, **about)
    _write_json(made / RECORD, run | {"planes": list(done)})
    if item.folder.exists():
        item.folder.rename(item.partial / "replaced")
    made.rename(item.folder)
    remove(item)


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


def axes_of(name: str, planes: stack.Plan) -> str:
    """Axes of one of the arrays; joint channels have one point spread function."""
    return planes.axes.replace("C", "") if name == "psf" and planes.joint else planes.axes


def _turned(plane: NDArray[Any], planes: stack.Plan) -> NDArray[Any]:
    """Turn ``(Y, X, C)`` into what the store has: ``(C, Y, X)`` or ``(Y, X)``."""
    return np.moveaxis(plane, -1, 0) if planes.joint else plane[..., 0]


def _marker(partial: Path, index: Index) -> Path:
    return partial / "done" / f"{'-'.join(map(str, index)) or 'plane'}.json"


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
