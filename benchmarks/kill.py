"""What a kill costs: `napari-vdip run` is killed at random moments and begun again until it ends by itself.

    python benchmarks/kill.py [--stacks 2] [--kills 6] [--planes 3] [--side 96] [--interval 1]

The results are compared bit for bit with those of a run that nothing interrupted. Checkpoints are made
every ``--interval`` seconds, not every minute, so that planes that take seconds have some as well.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from common import Results, changes_of, environment, parser_for, results_path

from napari_vdip import Settings
from napari_vdip.image_file import read
from napari_vdip.scenes import cells

if TYPE_CHECKING:
    from collections.abc import Sequence

BASE = {"psf_shape": 9, "search_area": 64, "tile": 64}
PROGRAM = """
import sys
from napari_vdip import checkpoint, cli
checkpoint.INTERVAL = float(sys.argv.pop(1))
cli.app()
"""
IMAGES = ("latent", "std", "psf")


def main(argv: Sequence[str] | None = None) -> Results:
    """Run from the command line."""
    parser = parser_for(__doc__)
    parser.add_argument("--stacks", type=int, default=2)
    parser.add_argument("--kills", type=int, default=6, help="of each stack")
    parser.add_argument("--planes", type=int, default=3)
    parser.add_argument("--side", type=int, default=96, help="of a plane, in pixels")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between checkpoints")
    arguments = parser.parse_args(argv)
    record = environment(arguments.device, arguments.seed)
    results = Results(results_path(arguments, "kill"), record, resume=arguments.resume)
    side, kills = (72, 2) if arguments.quick else (arguments.side, arguments.kills)
    changes = BASE | changes_of(arguments)
    settings = Settings.preset(arguments.preset, **changes)
    for seed in range(arguments.seed, arguments.seed + arguments.stacks):
        key = {"part": "kill", "image_side": side, "psf_side": settings.psf_shape[0], "seed": seed}
        key |= {"planes": arguments.planes, "preset": arguments.preset, "device": record["device"]}
        if results.has(key, changes):
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "stack.tif"
            scenes = [cells(size=side, psf_size=9, seed=seed + 100 * i) for i in range(arguments.planes)]
            stack = np.stack([scene.blurred for scene in scenes])
            tifffile.imwrite(path, stack, photometric="minisblack", metadata={"axes": "TYX"})
            (Path(folder) / "settings.json").write_text(json.dumps(settings.asdict()))
            command = [sys.executable, "-c", PROGRAM, str(arguments.interval), "run", str(path), "--json"]
            command += ["--settings", f"{folder}/settings.json", "--device", arguments.device or "auto"]
            row = killed(command, Path(folder), kills, np.random.default_rng(seed))
        results.add(key, changes, interval=arguments.interval, **row)
        print(row, flush=True)
    return results


def killed(command: list[str], folder: Path, kills: int, chance: np.random.Generator) -> dict[str, Any]:
    """Do a stack without and with kills; return what each kill met, and which results are the same."""
    whole, _ = begun([*command, "--output", str(folder / "whole")])
    met: list[dict[str, Any]] = []
    for number in range(kills + 1):
        wait = None if number == kills else chance.uniform(0, 1.5 * whole / kills)
        seconds, first = begun([*command, "--output", str(folder / "killed")], wait)
        if met:
            met[-1]["went_on_from"] = first
        if (folder / "killed" / "stack").exists():
            break
        done = len(list((folder / "killed" / "stack.partial" / "done").glob("*.json")))
        met.append({"seconds": round(seconds, 2), "planes_done": done})
    names = [f"stack/{name}.ome.zarr" for name in IMAGES]
    one, other = (
        [np.asarray(read(folder / way / name).array) for name in names] for way in ("whole", "killed")
    )
    same = [n for n, a, b in zip(IMAGES, one, other, strict=True) if np.array_equal(a, b, equal_nan=True)]
    return {"whole_seconds": round(whole, 2), "kills": met, "same_bits": same}


def begun(command: list[str], wait: float | None = None) -> tuple[float, dict[str, Any]]:
    """Run a command, kill it some seconds after it has begun; return its seconds and its first step."""
    first: dict[str, Any] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        event = json.loads(process.stdout.readline())
        started = time.perf_counter()
        if wait is not None:
            time.sleep(wait)
            process.kill()
        for line in process.stdout:
            event = json.loads(line) if line.endswith("}\n") else event
            if event["event"] == "step" and not first:
                first = {"plane": event["done"] + 1, "stage": event["stage"], "step": event["step"]}
    if process.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"expected an exit code of 0, got {process.returncode}: {event}")
    return time.perf_counter() - started, first


if __name__ == "__main__":
    main()
