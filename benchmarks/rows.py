"""Rows of all results, chosen and grouped for tables and plots."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Row = dict[str, Any]
KEY = (
    *("dataset", "image", "method", "preset", "crop", "seed", "part", "image_side", "psf_side", "device"),
    *("prior_weight", "variational", "workers", "planes", "way", "shape", "drawn", "kernel", "case"),
)


def read(folder: Path) -> tuple[list[Row], list[Row]]:
    """Return the environments and rows of all results; of two rows for the same thing the later one."""
    runs: list[Row] = []
    rows: dict[str, Row] = {}
    files = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    dated = [(row, found["runs"][row["run"]]) for found in files for row in found["rows"]]
    for row, run in sorted(dated, key=lambda pair: pair[1]["date"]):
        key = [row.get(name) for name in KEY] + ["nominal" in row]
        rows[json.dumps(key)] = {**row, "environment": run}
    for row in rows.values():
        if row["environment"] not in runs:
            runs.append(row["environment"])
    return runs, list(rows.values())


def by(rows: Iterable[Row], *names: str) -> dict[tuple[Any, ...], list[Row]]:
    """Group rows by the values of some columns, in the order in which they come."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(name) for name in names), []).append(row)
    return groups


def quality_rows(rows: list[Row], dataset: str | None = None) -> list[Row]:
    """Return the rows of `quality`, of one dataset or all, whole images before crops."""
    found = [row for row in rows if "method" in row and dataset in (None, row["dataset"])]
    sides = Counter(row["crop"] for row in found)
    side = None if None in sides else max(sides, default=None)
    return [row for row in found if row["crop"] == side]


def part(rows: list[Row], name: str) -> list[Row]:
    """Return the rows of a part of `speed` by size, with ``place``: the device and any other preset."""
    found = [
        {**row, "place": row["device"] + ("" if row["preset"] == "default" else f", {row['preset']}")}
        for row in rows
        if row.get("part") == name
    ]
    return sorted(found, key=lambda row: (row["place"], row["image_side"], row["psf_side"]))


def calibrated(rows: list[Row]) -> list[Row]:
    """Return the rows of `calibration`."""
    return [row for row in rows if "nominal" in row]


def collapses(rows: list[Row], name: str = "collapse") -> list[Row]:
    """Return the rows of a part of `collapse`."""
    return [row for row in rows if row.get("part") == name]
