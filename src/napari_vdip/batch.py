"""Many images: what happens to each, here or on a cluster, whatever happens to the others."""

from __future__ import annotations

import json
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from napari_vdip.cluster import Failure, GoneError, Queue, check_device, gpu_of, threads_of
from napari_vdip.items import Format, Item, examine, plan, reason
from napari_vdip.names import RECORD, place, record_of
from napari_vdip.plane_task import PlaneTask, compute_plane, plane_steps
from napari_vdip.reservation import reserved
from napari_vdip.settings import Settings
from napari_vdip.work import Begun, begin, end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from distributed import Client

    from napari_vdip.result import Progress
    from napari_vdip.workspace import Record

MOST_AT_ONCE = 128
"""Images on a cluster at a time, or more for many workers: each has a lock here, which is an open file."""

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
        For a failure: why. For what was done before with other versions: with which.
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
        A file ``napari-vdip.json``, an image beside it, or a folder that holds some at any depth.
    output : str or Path
        Folder for the new results.

    Raises
    ------
    ValueError
        If there are none, or they are not what this version writes.
    """
    given = Path(runs).expanduser()
    given = record_of(given) or given
    files = [given] if given.is_file() else sorted(given.rglob(RECORD))
    if not files:
        raise ValueError(f"from_metadata: expected {RECORD} or a folder that holds some, got {str(runs)!r}")
    root = given if given.is_dir() and files != [given / RECORD] else files[0].resolve().parents[1]
    items = []
    for file in files:
        try:
            name = file.resolve().parent.relative_to(root.resolve()).as_posix()
            record = json.loads(file.read_text(encoding="utf-8"))
            source, psf, region = record["source"], record["psf_path"], record.get("region")
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
                region=region,
            )
            if record["format"] not in get_args(Format):
                raise ValueError(f"format: expected one of {get_args(Format)}, got {record['format']!r}")
            items.append(examine(item, record["format"], joint_colours=False))
        except (KeyError, TypeError, ValueError, ArithmeticError, OSError, RecursionError) as error:
            raise ValueError(f"from_metadata: {file} is not of this version: {reason(error)}") from None
    return items


def execute(
    items: Iterable[Item],
    *,
    device: str | None = None,
    overwrite: bool = False,
    client: Client | None = None,
) -> Iterator[Event]:
    """Do the items one after the other, or on a cluster; one that fails is an event, and the others go on.

    What was done before is not done again: images whose results are there, and planes of an interrupted
    run, if settings, versions and the content of the input are the same.

    Parameters
    ----------
    items : iterable of Item
        From `plan` or `repeat`.
    device : str, optional
        See `deconvolution.run`. On a cluster a type such as ``"cuda"``.
    overwrite : bool
        Whether to replace earlier results that were made otherwise.
    client : Client, optional
        From `cluster.connect`: files are read and written by its workers, and the planes of all images are
        done as there are workers for them.

    Returns
    -------
    iterator of Event
        For each item ``"started"``, ``"step"`` and ``"plane"`` in turn, and one of the three ends. On a
        cluster there are no steps, and the events of several items alternate. Closing it leaves what is
        done, and cancels what is queued.

    Raises
    ------
    ValueError
        If the device names one GPU of a cluster.
    """
    if client is None:
        return _here(items, device, overwrite)
    check_device(device)
    return _there(items, device, overwrite, client)


def _here(items: Iterable[Item], device: str | None, overwrite: bool) -> Iterator[Event]:
    """Do the items one after the other."""
    for item in items:
        try:
            with nullcontext() if item.problem else reserved(item):
                yield from _one(item, device, overwrite)
        except Exception as error:  # whatever it is, the others must go on
            yield Event("failed", item, reason=reason(error))


def _one(item: Item, device: str | None, overwrite: bool) -> Iterator[Event]:
    begun = begin(item, device, overwrite)
    if begun.finished:
        yield Event("skipped", item, record=begun.run, reason=begun.note)
        return
    yield Event("started", item, len(begun.done), begun.planes)
    yield from _planes(item, begun)
    total = begun.planes
    yield Event("done", item, total, total, record=end(item, begun.run, begun.done))


def _planes(item: Item, begun: Begun) -> Iterator[Event]:
    """Do the planes of an image, and note them as done."""
    from napari_vdip.devices import release_memory

    done, total = begun.done, begun.planes
    try:
        for task in begun.tasks:
            steps = plane_steps(task)
            while True:
                try:
                    progress = next(steps)
                except StopIteration as last:
                    done[task.index] = last.value
                    break
                yield Event("step", item, len(done), total, progress=progress)
            yield Event("plane", item, len(done), total, record=done[task.index])
    finally:
        release_memory()  # which was kept from plane to plane


def _there(items: Iterable[Item], device: str | None, overwrite: bool, client: Client) -> Iterator[Event]:
    """Do the items on a cluster; if that is lost, those that are left fail."""
    waiting, at_work = iter(items), dict[Path, tuple[Item, ExitStack]]()
    try:
        yield from _on_cluster(waiting, at_work, device, overwrite, client)
    except GoneError as error:
        for item in [*(item for item, _ in at_work.values()), *waiting]:
            yield Event("failed", item, reason=f"{error}; the same command goes on")


def _on_cluster(
    waiting: Iterator[Item],
    at_work: dict[Path, tuple[Item, ExitStack]],
    device: str | None,
    overwrite: bool,
    client: Client,
) -> Iterator[Event]:
    """Begin each item, have its planes done, and end it; those at work are noted, with their locks."""
    begun = dict[Path, Begun]()
    with ExitStack() as stack, Queue(client) as queue:

        def begin_more() -> Iterator[Event]:
            """Send images to the cluster until enough are there; yield the failure of what is locked."""
            most = max(MOST_AT_ONCE, 2 * threads_of(client))
            while len(at_work) < most and (item := next(waiting, None)) is not None:
                lock = stack.enter_context(ExitStack())
                try:
                    lock.enter_context(nullcontext() if item.problem else reserved(item))
                except ValueError as error:
                    yield Event("failed", item, reason=reason(error))
                    continue
                at_work[item.folder] = item, lock
                queue.submit((item, None), "begin", item.name, begin, _absolute(item), device, overwrite)

        def ended(event: Event) -> Iterator[Event]:
            _, lock = at_work.pop(event.item.folder)
            lock.close()
            yield event
            yield from begin_more()

        yield from begin_more()
        for (item, task), outcome in queue:
            if isinstance(outcome, Failure):
                queue.cancel(_of(item))
                yield from ended(Event("failed", item, reason=outcome.reason))
                continue
            if item.folder not in begun:
                if outcome.finished:
                    yield from ended(Event("skipped", item, record=outcome.run, reason=outcome.note))
                    continue
                begun[item.folder] = state = outcome
                done, total, resources = state.done, state.planes, gpu_of(client, device)
                yield Event("started", item, len(done), total)
                ready = [one for one in state.tasks if one.shared is None or one.shared in done]
            elif task is not None:
                state = begun[item.folder]
                done, total = state.done, state.planes
                done[task.index] = outcome
                yield Event("plane", item, len(done), total, record=outcome)
                ready = state.that_share(task)
            else:
                total = begun.pop(item.folder).planes
                yield from ended(Event("done", item, total, total, record=outcome))
                continue
            for one in ready:
                name = f"{item.name} {item.planes.name(one.index)}"
                # Before what has not begun, so that few images are half done.
                queue.submit(
                    (item, one), "plane", name, compute_plane, one, priority=1, resources=resources
                )
            if len(done) == total:
                queue.submit(
                    (item, None), "end", item.name, end, _absolute(item), state.run, done, priority=2
                )


def _of(item: Item) -> Callable[[Any], bool]:
    """Return what chooses the work for an item."""
    return lambda tag: tag[0].folder == item.folder


def _absolute(item: Item) -> Item:
    """Return an item that processes in other folders can do."""
    psf = item.psf and item.psf.absolute()
    return replace(item, path=item.path.absolute(), folder=item.folder.absolute(), psf=psf)
