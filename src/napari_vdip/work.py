"""One image from the file to its results, in pieces of work that any process can do that sees the files.

`begin`, then `plane_task.compute_plane` for every plane, then `end`. What passes between is plain data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from napari_vdip import workspace
from napari_vdip.course import FINISHED
from napari_vdip.images import as_source
from napari_vdip.plane_task import PlaneTask
from napari_vdip.source import Source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_vdip.items import Item
    from napari_vdip.workspace import Index, Record


@dataclass(frozen=True, slots=True)
class Begun:
    """An image whose folder is prepared; plain data.

    Attributes
    ----------
    run : dict
        What is done, see `workspace.describe`; if `finished`, the record of the results.
    planes : int
        How many it has.
    tasks : tuple of PlaneTask
        Those to do, in turn.
    done : dict
        Records of those that are done.
    finished : bool
        Whether the results are there already.
    note : str
        What is to be said of these.
    """

    run: Record
    planes: int = 0
    tasks: tuple[PlaneTask, ...] = ()
    done: dict[Index, Record] = field(default_factory=dict)
    finished: bool = False
    note: str = ""

    def that_share(self, task: PlaneTask) -> list[PlaneTask]:
        """Return the planes to do that take the kernel of another, which is done."""
        if task.settings.psf_source != "channel" or task.shared is not None:
            return []
        return [one for one in self.tasks if one.shared == task.index]


def begin(item: Item, device: str | None, overwrite: bool) -> Begun:
    """Check an image and everything about it, and prepare its folder.

    Raises
    ------
    ValueError
        If it cannot be done, or its results are not to be replaced.
    """
    from napari_vdip.turns import in_turn

    planes = item.planes
    if item.problem or planes is None:
        raise ValueError(item.problem)
    run = workspace.describe(item)
    if item.sha256 not in ("", run["source"]["sha256"]):
        raise ValueError("expected the file that the results were made from, but its content has changed")
    if item.psf_sha256 not in ("", run["psf_sha256"]):
        raise ValueError(f"psf: expected what the results were made with, but {item.psf} has changed")
    made = workspace.results(item)
    if made and _is(made, item, run):
        workspace.remove(item)  # what a kill after the last step left
    if finished := _finished(item, made, run, overwrite):
        return finished
    source = Source(as_source(item.open().array), planes, item.settings, item.region)
    source.check()
    workspace.prepare(item, source.planes, run)
    done = workspace.done(item, planes)
    turns = list(in_turn(source, item.settings))
    for (first, found), (_, known) in pairwise(turns):
        if known and not found and first in done and done[first]["stopped"] != FINISHED:
            del done[first]  # it ended early, and its kernel, which others wait for, was not kept
    tasks, shared = [], None
    for index, known in turns:
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
            region=item.region,
        )
        tasks.append(task)
    return Begun(run, len(planes.indices), tuple(tasks), done)


def done_before(item: Item, overwrite: bool) -> tuple[int, str]:
    """Return how many planes `begin` would find done, and its note, if no file has changed since.

    Raises
    ------
    ValueError
        If the results that are there are not to be replaced.
    """
    planes = item.planes
    assert planes is not None
    made = workspace.results(item)
    if finished := _finished(item, made, workspace.describe(item, made or {}), overwrite):
        return len(planes.indices), finished.note
    earlier = workspace.interrupted(item)
    goes_on = earlier and workspace.same(earlier, workspace.describe(item, earlier))
    note = "earlier results are replaced" if made else ""
    return len(workspace.done(item, planes)) if goes_on else 0, note


def end(item: Item, run: Record, done: Mapping[Index, Record]) -> Record:
    """Write the results of an image whose planes are done, and return their record."""
    made = workspace.results(item)
    if made and _is(made, item, run):  # it was done, but the worker that did it could not say so
        workspace.remove(item)
        return made
    assert item.planes is not None
    run = run | {
        "device": ", ".join(sorted({record["device"] for record in done.values()})),
        "seconds": round(sum(record["seconds"] for record in done.values()), 3),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    records = [done[index] for index in item.planes.indices]
    return workspace.finish(item, item.planes, item.open(), run, records)


def _finished(item: Item, made: Record | None, run: Record, overwrite: bool) -> Begun | None:
    """Return an image whose results are there and stay, if they do.

    Raises
    ------
    ValueError
        If there are others that are not to be replaced.
    """
    if made and _is(made, item, run):
        return Begun(made, finished=True)
    earlier = workspace.other_versions(made, run) if made and made.get("format") == item.format else ""
    if made and earlier and not overwrite:
        return Begun(made, finished=True, note=f"made with {earlier}")
    if made and not overwrite:
        raise ValueError(f"expected no other results, but {item.folder} was made otherwise: overwrite it?")
    if not made and item.folder.exists():
        raise ValueError(f"expected no folder {item.folder} that holds something else than results")
    return None


def _is(made: Record, item: Item, run: Record) -> bool:
    """Whether results are those of this run."""
    return bool(made.get("format") == item.format and workspace.same(made, run))
