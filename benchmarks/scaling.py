"""How throughput grows with workers: planes per minute of a generated stack, serial and on local clusters.

    python benchmarks/scaling.py [--workers 1 2] [--planes 8] [--side 256] [--repeats 3]

The serial run and the clusters take turns, so that all meet the same machine. Each uses all cores: the
workers of a cluster share them. What it takes to start is measured apart, with what its workers import.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile
from common import Results, changes_of, environment, parser_for, results_path

from napari_vdip import Settings, batch
from napari_vdip.cluster import connect, threads_of
from napari_vdip.scenes import cells

if TYPE_CHECKING:
    from collections.abc import Sequence

SERIAL = 0
"""Number of workers that stands for no cluster at all."""
PSF_SIDE = 21
IMPORTED = ("napari_vdip.work", "napari_vdip.deconvolution", "torch._dynamo", "yaozarrs.v05")
"""What a process imports before it is as fast as it gets."""


def main(argv: Sequence[str] | None = None) -> Results:
    """Run from the command line."""
    parser = parser_for(__doc__)
    parser.add_argument("--workers", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--planes", type=int, default=8)
    parser.add_argument("--side", type=int, default=256, help="of a plane, in pixels")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args(argv)
    record = environment(arguments.device, arguments.seed)
    results = Results(results_path(arguments, "scaling"), record, resume=arguments.resume)
    planes, side, psf_side, repeats = arguments.planes, arguments.side, PSF_SIDE, arguments.repeats
    if arguments.quick:
        planes, side, psf_side, repeats = 4, 48, 5, 1
    changes = changes_of(arguments)
    settings = Settings.preset(arguments.preset, **{"psf_shape": psf_side, **changes})
    common_key = {"part": "workers", "image_side": side, "psf_side": psf_side, "planes": planes}
    common_key |= {"preset": arguments.preset, "device": record["device"]}
    turns = [SERIAL, *arguments.workers]
    if all(results.has({**common_key, "workers": workers}, changes) for workers in turns):
        return results
    measured: dict[int, list[dict[str, float]]] = {workers: [] for workers in turns}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stack.tif"
        # The same plane each time, so that any share of them is the same work.
        stack = np.stack([cells(size=side, psf_size=psf_side, seed=arguments.seed).blurred] * planes)
        tifffile.imwrite(path, stack, photometric="minisblack", metadata={"axes": "TYX"})
        for repeat in range(repeats):
            for workers in turns:
                output = Path(folder) / f"{workers}-{repeat}"
                measured[workers].append(timed(path, output, settings, workers, arguments.device))
                print({"workers": workers, **measured[workers][-1]}, flush=True)
    for workers, runs in measured.items():
        key = {**common_key, "workers": workers}
        medians = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        every = [run["planes_per_minute"] for run in runs]
        results.add(key, changes, **medians, every_planes_per_minute=every)
    return results


def timed(
    path: Path, output: Path, settings: Settings, workers: int, device: str | None
) -> dict[str, float]:
    """Do a stack and measure the parts of it, in seconds."""
    items = batch.plan([path], output, settings)
    with ExitStack() as stack:
        started = time.perf_counter()
        client = stack.enter_context(connect(workers=workers, device=device)) if workers else None
        if client:
            while threads_of(client) < workers:
                time.sleep(0.05)
            client.run(warm_up)
        else:
            warm_up()
        ready = time.perf_counter()
        at: dict[str, float] = {}
        for event in batch.execute(items, device=device, client=client):
            if event.kind == "failed":
                raise RuntimeError(event.reason)
            at[event.kind] = time.perf_counter()
    return {
        "start_seconds": ready - started,
        "begin_seconds": at["started"] - ready,
        "planes_seconds": at["plane"] - at["started"],
        "end_seconds": at["done"] - at["plane"],
        "planes_per_minute": 60 * event.planes / (at["plane"] - at["started"]),
    }


def warm_up() -> None:
    """Import what a plane needs."""
    for name in IMPORTED:
        import_module(name)


if __name__ == "__main__":
    main()
