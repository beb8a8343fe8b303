"""What the benchmarks share: arguments, the record of the environment, and results on disk."""

from __future__ import annotations

import argparse
import ast
import datetime
import json
import math
import os
import platform
import subprocess
import tempfile
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from napari_vdip import Settings
from napari_vdip.settings import PRESETS

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
QUICK = {"steps": 4, "prefit_steps": 1, "refinements": 1, "samples": 2}
"""Changes to the settings that make a run short and its result worthless, for trying the scripts."""


def parser_for(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="default", help=f"one of {tuple(PRESETS)}")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", dest="changes")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 or mps; the best there is if not given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the results")
    parser.add_argument("--resume", action="store_true", help="do not measure again what is there already")
    parser.add_argument("--quick", action="store_true", help="a few steps of little, to try the script")
    return parser


def add_data_folder(parser: argparse.ArgumentParser) -> None:
    """Add the option for the folder of images of others, which the environment may name."""
    folder = os.environ.get("NAPARI_VDIP_DATA")
    parser.add_argument("--data", type=Path, default=Path(folder) if folder else None)


def changes_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the changes to a preset that the command line asks for."""
    changes: dict[str, Any] = {"seed": arguments.seed}
    if arguments.quick:
        names = {item.name for item in fields(Settings)}
        changes |= {name: value for name, value in QUICK.items() if name in names}
    for change in arguments.changes:
        name, _, value = change.partition("=")
        try:
            changes[name] = ast.literal_eval(value)
        except ValueError:
            changes[name] = value
    return changes


def results_path(arguments: argparse.Namespace, name: str) -> Path:
    """Return the file for the results: that of the command line, or one where the report looks.

    A quick run's results are worthless, so they go elsewhere.
    """
    folder = Path(tempfile.gettempdir()) / "napari-vdip-quick" if arguments.quick else RESULTS
    return arguments.json or folder / f"{name}.json"


def environment(device: str | None, seed: int) -> dict[str, Any]:
    """Return what a measurement depends on besides its settings."""
    import torch

    from napari_vdip.devices import choose_device, describe

    names = ("napari-vdip", "torch", "numpy", "scipy", "scikit-image")
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in names} | {"python": platform.python_version()},
        "device": describe(choose_device(device)),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--", "src", "benchmarks", ":!benchmarks/results")),
        "seed": seed,
    }


def cpu_model() -> str:
    """Return the name of the processor."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _git(*arguments: str) -> str | None:
    """Return what git says of this checkout, or None where it says nothing useful."""
    try:
        return subprocess.check_output(
            ("git", *arguments), cwd=ROOT, text=True, stderr=subprocess.DEVNULL
        ).strip()
    except (OSError, subprocess.CalledProcessError):
        return None


class Results:
    """Rows of measurements in a JSON file that is whole after every row.

    A row is known by its key; measured again, it replaces the old one. Two runs at the same time need two
    files.

    Parameters
    ----------
    path : Path
        The file, ``{"runs": [environment, ...], "rows": [{"run": index, ...}, ...]}``; its rows are kept.
    record : dict
        Environment of this run.
    resume : bool
        Do not measure again what is there with the same settings.
    """

    def __init__(self, path: Path, record: dict[str, Any], *, resume: bool) -> None:
        self.path = path
        self.resume = resume
        kept = json.loads(path.read_text()) if path.exists() else {"runs": [], "rows": []}
        self.runs: list[dict[str, Any]] = [*kept["runs"], record]
        self.rows: list[dict[str, Any]] = kept["rows"]

    def has(self, key: dict[str, Any], settings: Any) -> bool:
        """Whether a row need not be measured."""
        wanted = {**key, "settings": settings}
        return self.resume and any(matches(row, wanted) for row in self.rows)

    def add(self, key: dict[str, Any], settings: Any, **row: Any) -> dict[str, Any]:
        """Add a row and write the file."""
        added: dict[str, Any] = plain({"run": len(self.runs) - 1, **key, "settings": settings, **row})
        self.rows = [*(old for old in self.rows if not matches(old, key)), added]
        self.write()
        return added

    def write(self) -> None:
        """Write the file; it appears under its name only when it is whole."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f".part-{self.path.name}")
        text = json.dumps({"runs": self.runs, "rows": self.rows}, indent=1, allow_nan=False)
        part.write_text(f"{text}\n")
        part.replace(self.path)


def matches(row: dict[str, Any], key: dict[str, Any]) -> bool:
    """Whether a row has the values of a key."""
    return all(row.get(name) == value for name, value in plain(key).items())


def plain(value: Any) -> Any:
    """Return what JSON gives back of a value; a number that is not finite becomes None."""
    if isinstance(value, dict):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if hasattr(value, "item"):  # a NumPy number
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
