"""A batch as text: for a person at a terminal, for a log, and for a program."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from napari_vdip.course import BLANK, FINISHED
from napari_vdip.items import reason
from napari_vdip.stack import listed
from napari_vdip.work import done_before

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from napari_vdip.batch import Event
    from napari_vdip.items import Item
    from napari_vdip.workspace import Record

LOGGED = 0.1
"""Part of an image after which a log gets another line, and a hundredth for a program."""


def printable(text: str) -> str:
    """Return text with a question mark in place of each control character and half of a character."""
    return "".join(one if one.isprintable() or one == "\n" else "?" for one in text)


def json_lines(events: Iterable[Event]) -> Iterator[str]:
    """Yield an object for each event; of the steps one for each hundredth of an image."""
    for event in _thinned(events, LOGGED / 10):
        data: dict[str, Any] = {"event": event.kind, "item": event.item.name, "input": str(event.item.path)}
        if event.planes:
            data |= {"done": event.number, "planes": event.planes, "fraction": round(event.fraction, 4)}
        if event.progress:
            estimate = event.progress.estimate
            data |= {"stage": estimate.stage, "step": estimate.step, "steps": estimate.steps}
            data |= {"terms": {name: float(term) for name, term in estimate.terms.items()}}
        if event.kind == "plane":
            data["plane"] = event.record
        if event.kind in ("done", "skipped"):
            data["output"] = str(event.item.folder)
        if event.kind == "failed" or event.reason:
            data["reason"] = event.reason
        yield json.dumps(data)


def log_lines(events: Iterable[Event], items: Sequence[Item]) -> Iterator[str]:
    """Yield a line for each event; of the steps one for each tenth of an image."""
    for event in _thinned(events, LOGGED):
        yield line(event, items)


def line(event: Event, items: Sequence[Item]) -> str:
    """Say in a line what happened."""
    number = next(i for i, item in enumerate(items, start=1) if item.name == event.item.name)
    head = f"[{number}/{len(items)}] {event.item.name}:"
    record = event.record or {}
    if event.kind == "started":
        before = f", {event.number} of them done before" if event.number else ""
        return f"{head} {event.planes} plane{'s' * (event.planes > 1)}{before}"
    if event.kind == "step" and event.progress:
        estimate = event.progress.estimate
        return f"{head} {event.fraction:.0%} ({estimate.stage}, step {estimate.step} of {estimate.steps})"
    if event.kind == "plane":
        name, stopped = record["name"], record["stopped"]
        which = f"plane {event.number} of {event.planes}" + (f" ({name})" if name else "")
        if stopped == BLANK:
            return f"{head} {which}: blank, passed through"
        smaller = "".join(
            f", {name} = {side} for lack of memory" for name, side in record["reduced"].items()
        )
        return f"{head} {which}: {stopped} in {record['seconds']:.1f} s on {record['device']}{smaller}"
    if event.kind == "failed":
        return f"{head} failed: {event.reason}"
    before = " done before," if event.kind == "skipped" else ""
    notes = ", ".join(filter(None, (event.reason, blank_note(record))))
    note = f" ({notes})" if notes else ""
    return f"{head}{before} written to {event.item.folder}{note}"


def blank_note(record: Record) -> str:
    """Name the blank planes in the record of an image, if there are any."""
    names = [plane["name"] for plane in record.get("planes", ()) if plane["stopped"] == BLANK]
    return f"blank: {listed(names)}" if names else ""


def remarks(record: Record) -> str:
    """Name the planes in the record of an image that are blank, ended early, or are in smaller parts."""
    planes = record.get("planes", ())
    early = [plane for plane in planes if plane["stopped"] not in (FINISHED, BLANK)]
    smaller = [plane for plane in planes if plane["reduced"]]
    parts = [blank_note(record)]
    parts += [f"ended early: {_listed(early)}: {early[0]['stopped']}"] if early else []
    parts += [f"in smaller parts for lack of memory: {_listed(smaller)}"] if smaller else []
    return "; ".join(filter(None, parts))


def _listed(planes: Sequence[Record]) -> str:
    """Write the names of planes, of which a single one has none."""
    return listed([plane["name"] or "the plane" for plane in planes])


def summary(ends: Sequence[Event]) -> dict[str, int]:
    """Count the ends of each kind, and the planes of what is done that ended early or are blank."""
    how = [plane["stopped"] for end in ends for plane in (end.record or {}).get("planes", ())]
    counts = {kind: sum(end.kind == kind for end in ends) for kind in ("done", "skipped", "failed")}
    early = sum(stopped not in (FINISHED, BLANK) for stopped in how)
    return counts | {"ended_early": early, "blank": how.count(BLANK)}


def duration(seconds: float) -> str:
    """Write seconds as minutes and seconds, or as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def planned(item: Item, overwrite: bool = False) -> dict[str, Any]:
    """Say what a dry run says of an item, whose files are taken for what they were in an earlier run."""
    data: dict[str, Any] = {"event": "planned", "item": item.name, "input": str(item.path)}
    if item.planes is None:
        return data | {"problem": item.problem}
    try:
        done, note = done_before(item, overwrite)
    except ValueError as error:
        return data | {"problem": reason(error)}
    endings = {"ome-zarr": ".ome.zarr", "ome-tiff": ".ome.tif"}
    names = ("latent", "std", "psf") if item.settings.variational else ("latent", "psf")
    return data | {
        "scene": item.scene,
        "axes": item.planes.axes,
        "shape": list(item.planes.shape),
        "planes": len(item.planes.indices),
        "done": done,
        "note": note,
        "region": item.region,
        "channels": item.settings.channels,
        "psf_source": item.settings.psf_source,
        "output": [str(item.folder / f"{name}{endings[item.format]}") for name in names],
    }


def _thinned(events: Iterable[Event], part: float) -> Iterator[Event]:
    """Leave out the steps between which less than a part of an image was done."""
    last, done = "", 0
    for event in events:
        if event.kind == "step":
            reached = int(event.fraction / part)
            if event.item.name == last and reached == done:
                continue
            last, done = event.item.name, reached
        yield event
