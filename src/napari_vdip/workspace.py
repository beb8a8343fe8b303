"""The folder in which an image's results are being made: what is in there is not lost by a kill.

::

    OUT/NAME.partial/run.json         what is being done: settings, versions and hash of the input
    OUT/NAME.partial/planes           latent, std and psf as OME-Zarr; a chunk holds one plane or less
    OUT/NAME.partial/kernel.zarr      kernels that other planes share, before they were centred
    OUT/NAME.partial/done/0-1.json    plane (0, 1) is in there
    OUT/NAME.partial/checkpoints      0-1.safetensors: where plane (0, 1) is, until it is done
    OUT/NAME.partial/results          the same as OME-TIFF, if that is the format

When all planes are there, the folder in the right format is renamed to OUT/NAME.

A file that says that something is there is written after it, under another name, then renamed, and removed
before it. Results that are overwritten wait in ``replaced`` until the new ones have their name.
"""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_vdip import io, ome_zarr, stack
from napari_vdip.items import Item, content_hash
from napari_vdip.names import RECORD

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_vdip.ome_zarr import Range
    from napari_vdip.result import Deconvolution
    from napari_vdip.tiling import Bounds

Record = dict[str, Any]
"""Plain data as it comes back from JSON."""
Index = tuple[int, ...]
DECISIVE = ("source", "psf_sha256", "region", "settings", "versions")
"""Parts of a run's record that decide the planes: if one differs, no plane is taken over."""
ARRAYS = ("latent", "std", "psf")
KERNELS = "kernel.zarr"
CONTENT = {"run.json", "planes", KERNELS, "done", "checkpoints", "results"}


def describe(item: Item, earlier: Record | None = None) -> Record:
    """Say what is to be done with an item, as plain data that can do it again.

    If the record of an earlier run is given, the content of the files is taken for what it was then.
    """
    assert item.planes is not None
    if earlier is None:
        content, psf_content = content_hash(item.path), item.psf and content_hash(item.psf)
    else:
        source = earlier.get("source")
        content = source.get("sha256", "") if isinstance(source, dict) else ""
        psf_content = item.psf and earlier.get("psf_sha256")
    record = {
        "path": str(item.path.resolve()),
        "source": {"scene": item.scene, "axes": item.axes, "sha256": content},
        "psf_path": item.psf and str(item.psf.resolve()),
        "psf_sha256": psf_content,
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


def interrupted(item: Item) -> Record | None:
    """Return the record of a run of an item that was interrupted, if there is one."""
    return _read_json(item.partial / "run.json")


def prepare(item: Item, planes: stack.Plan, run: Record) -> None:
    """Make the folder, or keep what an interrupted run of the same left there."""
    import zarr

    earlier = interrupted(item)
    if earlier is not None and same(earlier, run):
        return
    remove(item)
    (item.partial / "done").mkdir(parents=True)
    psf_shape = planes.psf_shape(item.settings.psf_shape)
    for name in ARRAYS:
        if name != "std" or item.settings.variational:
            shape = psf_shape if name == "psf" else planes.shape
            ome_zarr.create(_array(item.partial, name), shape, axes_of(name, planes))
    if item.settings.psf_source == "channel":
        chunks = ome_zarr.chunks_of(planes.psf_axes, psf_shape)
        zarr.create_array(
            item.partial / KERNELS, shape=psf_shape, chunks=chunks, dtype="float32", fill_value=np.nan
        )
    _write_json(item.partial / "run.json", run)


def checkpoint_of(partial: Path, index: Index) -> Path:
    """Return where the checkpoint of a plane is, if it has one, in a folder that is there."""
    path = partial / "checkpoints" / f"{_label(index)}.safetensors"
    path.parent.mkdir(exist_ok=True)
    return path


def kernel_of(partial: Path, planes: stack.Plan, index: Index) -> NDArray[np.float32]:
    """Return the kernel ``(kh, kw)`` of a plane that others share, before it was centred.

    Raises
    ------
    ValueError
        If it is not there.
    """
    import zarr

    kernels: Any = zarr.open_array(partial / KERNELS, mode="r")
    kernel = planes.take_psf(kernels, index)
    if not np.isfinite(kernel).all():
        raise ValueError(f"expected the kernel of {planes.name(index)}, but it is not done or ended early")
    return kernel


def keep(
    partial: Path,
    planes: stack.Plan,
    index: Index,
    result: Deconvolution,
    shared: Index | None = None,
    kernel: NDArray[np.float32] | None = None,
) -> Record:
    """Write what a plane has given, then its mark, and return its record.

    Parameters
    ----------
    partial, planes, index
        Folder, planes of the image, and which of them it is.
    result : Deconvolution
        Of this plane alone.
    shared : tuple of int, optional
        Which plane its kernel is from, if from another.
    kernel : array, optional
        ``(kh, kw)`` for other planes, before it was centred.
    """
    import zarr

    made = {"latent": result.latent, "std": result.std, "psf": result.psf[..., None]}
    ranges = {
        name: _written(partial, planes, index, name, plane)
        for name, plane in made.items()
        if plane is not None
    }
    if kernel is not None:
        kernels: Any = zarr.open_array(partial / KERNELS, mode="r+")
        planes.put_psf(kernels, index, kernel)
    record = {
        "index": list(index),
        "name": planes.name(index),
        "psf_from": shared and planes.name(shared),
        "noise": float(result.noise[0]),
        "device": result.device,
        "seconds": round(result.seconds, 3),
        "stopped": result.stopped,
        "reduced": result.metadata["reduced"][0],
        "ranges": ranges,
    }
    _write_json(_marker(partial, index), record)
    return record


def finish(
    item: Item, planes: stack.Plan, image: io.ImageFile, run: Record, done: Sequence[Record]
) -> Record:
    """Write the results in their format, give them their name, and return their record."""
    run = run | {"origin": origin_of(image, item.region)}
    made = item.partial / ("results" if item.format == "ome-tiff" else "planes")
    made.mkdir(exist_ok=True)
    for name in ARRAYS:
        if name not in done[0]["ranges"]:
            continue
        path, axes = _array(item.partial, name), axes_of(name, planes)
        about: dict[str, Any] = {
            "spacing": {axis: step for axis, step in image.spacing.items() if axis in axes},
            "origin": {} if name == "psf" else run["origin"],
            "channels": image.channels if "C" in axes else (),
            "colours": image.colours if "C" in axes or len(image.colours) == 1 else (),
            "provenance": run,
        }
        if item.format == "ome-tiff":
            io.write_ome_tiff(made / f"{name}.ome.tif", ome_zarr.levels(path)[0], axes, **about)
        else:
            about |= {"name": f"{item.name.rpartition('/')[2]} {name}", "colour": image.colour}
            ome_zarr.describe(path, axes, _ranges(name, planes, done), **about)
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
    return planes.psf_axes if name == "psf" else planes.axes


def _written(
    partial: Path, planes: stack.Plan, index: Index, name: str, plane: NDArray[Any]
) -> list[Range | None]:
    """Write a plane ``(Y, X, C)`` of one of the arrays, and return the range of each of its channels."""
    ranges = [ome_zarr.range_of(channel) for channel in np.moveaxis(plane, -1, 0)]
    for level in ome_zarr.levels(_array(partial, name)):
        if name == "psf":
            planes.put_psf(level, index, plane[..., 0])
        else:
            planes.put(level, index, plane)
        plane = ome_zarr.halved(plane)
    return ranges


def _ranges(name: str, planes: stack.Plan, done: Sequence[Record]) -> list[Range | None]:
    """Return the range of each channel of one of the arrays."""
    of_planes = {tuple(record["index"]): record["ranges"][name] for record in done}
    return [
        ome_zarr.joined(channel)
        for group in planes.groups
        for channel in zip(*(of_planes[index] for index in group), strict=True)
    ]


def _array(partial: Path, name: str) -> Path:
    return partial / "planes" / f"{name}.ome.zarr"


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
