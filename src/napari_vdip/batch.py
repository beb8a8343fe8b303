"""Many images: what happens to each, one plane after the other, whatever happens to the others."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_vdip import workspace
from napari_vdip.images import as_source
from napari_vdip.items import RECORD, Item, examine, place, plan, reason
from napari_vdip.settings import Settings
from napari_vdip.source import Source
from napari_vdip.workspace import PlaneTask, Record, compute_plane, plane_steps

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from napari_vdip.result import Progress

__all__ = ["Event", "Item", "PlaneTask", "compute_plane", "execute", "plan", "repeat"]


@dataclass(frozen=True, slots=True)
class Event:
    """What happened.

    Attributes
    ----------
    kind : str
        ``"started"``, ``"step"``, ``"plane"`` (one is done), then ``"done"``, ``"skipped"`` (it was done
        before) or ``"failed"``.
    item : Item
        The image.
    number, planes : int
        Planes of the image that are done, and all of them.
    progress : Progress or None
        For a step: where its plane is.
    record : dict or None
        For a plane and for what is done: how it was made.
    reason : str
        For a failure: why.
    """

    kind: Literal["started", "step", "plane", "done", "skipped", "failed"]
    item: Item
    number: int = 0
    planes: int = 0
    progress: Progress | None = None
    record: Record | None = None
    reason: str = ""

    @property
    def fraction(self) -> float:
        """Part of the image that is done."""
        within = self.progress.fraction if self.progress else 0.0
        return (self.number + within) / self.planes if self.planes else 0.0


def repeat(runs: str | Path, output: str | Path) -> list[Item]:
    """Plan again what made earlier results, from what is stored with them.

    Parameters
    ----------
    runs : str or Path
        A file ``napari-vdip.json``, or a folder that holds some at any depth.
    output : str or Path
        Folder for the new results.

    Raises
    ------
    ValueError
        If there are none, or they are not what this version writes.
    """
    given = Path(runs).expanduser()
    files = [given] if given.is_file() else sorted(given.rglob(RECORD))
    if not files:
        raise ValueError(f"from_metadata: expected {RECORD} or a folder that holds some, got {str(runs)!r}")
    root = given if given.is_dir() and files != [given / RECORD] else files[0].resolve().parents[1]
    items = []
    for file in files:
        name = file.resolve().parent.relative_to(root.resolve()).as_posix()
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            source, psf = record["source"], record["psf_path"]
            item = Item(
                name=name,
                path=Path(record["path"]),
                scene=int(source["scene"]),
                axes=source["axes"],
                settings=Settings(**record["settings"]),
                folder=place(output, name),
                sha256=str(source["sha256"]),
                psf=psf and Path(psf),
                psf_sha256=record["psf_sha256"] or "",
            )
            items.append(examine(item, record["format"], joint_colours=False))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"from_metadata: {file} is not of this version: {reason(error)}") from None
    return items


def execute(
    items: Iterable[Item], *, device: str | None = None, overwrite: bool = False
) -> Iterator[Event]:
    """Do the items one after the other; one that fails is an event, and the next begins.

    What was done before is not done again: images whose results are there, and planes of an interrupted
    run, if settings, versions and the content of the input are the same.

    Parameters
    ----------
    items : iterable of Item
        From `plan` or `repeat`.
    device : str, optional
        See `deconvolution.run`.
    overwrite : bool
        Whether to replace earlier results that were made otherwise.

    Yields
    ------
    Event
        For each item ``"started"``, ``"step"`` and ``"plane"`` in turn, and one of the three ends.
    """
    for item in items:
        try:
            yield from _execute(item, device, overwrite)
        except Exception as error:  # whatever it is, the others must go on
            yield Event("failed", item, reason=reason(error))


def _execute(item: Item, device: str | None, overwrite: bool) -> Iterator[Event]:
    from napari_vdip.deconvolution import in_turn

    planes = item.planes
    if item.problem or planes is None:
        raise ValueError(item.problem)
    run = workspace.describe(item)
    if item.sha256 not in ("", run["source"]["sha256"]):
        raise ValueError("expected the file that the results were made from, but its content has changed")
    if item.psf_sha256 not in ("", run["psf_sha256"]):
        raise ValueError(f"psf: expected what the results were made with, but {item.psf} has changed")
    made = workspace.results(item)
    if made and made.get("format") == item.format and workspace.same(made, run):
        workspace.remove(item)  # what a kill after the last step left
        yield Event("skipped", item, record=made)
        return
    if made and not overwrite:
        raise ValueError(f"expected no other results, but {item.folder} was made otherwise: overwrite it?")
    if not made and item.folder.exists():
        raise ValueError(f"expected no folder {item.folder} that holds something else than results")
    image = item.open()
    source = Source(as_source(image.array), planes, item.settings)
    for index in planes.indices:
        source.read(index)  # says what is wrong with it
    workspace.prepare(item, planes, run)
    done = workspace.done(item, planes)
    total = len(planes.indices)
    yield Event("started", item, len(done), total)
    shared = None
    for index, known in in_turn(source, item.settings):
        shared = shared if known else index
        if index in done:
            continue
        task = PlaneTask(
            path=item.path,
            scene=item.scene,
            axes=item.axes,
            index=index,
            settings=item.settings,
            partial=item.partial,
            device=device,
            psf=item.psf,
            shared=shared if known else None,
        )
        steps = plane_steps(task)
        while True:
            try:
                progress = next(steps)
            except StopIteration as end:
                done[index] = end.value
                break
            yield Event("step", item, len(done), total, progress=progress)
        yield Event("plane", item, len(done), total, record=done[index])
    run |= {
        "device": ", ".join(sorted({record["device"] for record in done.values()})),
        "seconds": round(sum(record["seconds"] for record in done.values()), 3),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    workspace.finish(item, planes, image, run, [done[index] for index in planes.indices])
    yield Event("done", item, total, total, record=run)
