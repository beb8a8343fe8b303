"""Speed, time to quality, memory, and how time grows with the size of image and point spread function.

    python benchmarks/speed.py [--device cuda] [--parts versus curve images psfs]

``versus``: a whole run of the preset, between whose steps the `paper` preset takes some of its own, so that
both meet the same machine; the whole `paper` run is projected from them. ``curve``: quality against time on
a scene with known truth. ``images`` and ``psfs``: a run at each size, each in a process of its own; of the
networks, where a preset has them, and of what follows, a few steps.
"""

from __future__ import annotations

import math
import multiprocessing
import resource
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from common import Results, changes_of, environment, parser_for, results_path

from napari_vdip import Deconvolution, Settings
from napari_vdip.metrics import aligned_quality
from napari_vdip.scenes import cells

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from numpy.typing import NDArray

    from napari_vdip import Progress

PARTS = ("versus", "curve", "images", "psfs")
IMAGE_SIDES = (128, 256, 512, 1024, 2048)
PSF_SIDES = (11, 21, 31, 51, 71, 101)
SIDE, PSF_SIDE = 256, 31
"""Sides in pixels of the image and the window that stay where the other changes: the paper's."""
STEPS = 4
"""Steps of the networks at each size besides the first, which is slower than the others and left out."""
PAPER_STEPS = {"steps": 10, "prefit_steps": 4}
"""The published schedule in miniature: the same stages in about the same proportions."""
CURVE_PSF_SIDE = 21
"""Side in pixels of the point spread function of the generated cells."""
CURVE_POINTS = 60
CLOSE = 0.2
"""Decibels below the final value that count as having reached it."""


def main(argv: Sequence[str] | None = None) -> Results:
    """Run from the command line."""
    parser = parser_for(__doc__)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--sides", nargs="*", type=int, help="sides of the images instead of 128 to 2048")
    arguments = parser.parse_args(argv)
    record = environment(arguments.device, arguments.seed)
    results = Results(results_path(arguments, "speed"), record, resume=arguments.resume)
    preset, changes, device = arguments.preset, changes_of(arguments), arguments.device
    side, psf_side = (64, 9) if arguments.quick else (SIDE, PSF_SIDE)
    image_sides = arguments.sides or ((48, 64) if arguments.quick else IMAGE_SIDES)
    psf_sides = (5, 9) if arguments.quick else PSF_SIDES
    tasks: list[tuple[str, Callable[..., dict[str, Any]], int, int]] = [
        ("versus", versus, side, psf_side),
        ("curve", curve, side, min(psf_side, CURVE_PSF_SIDE)),
        *(("images", in_own_process, one, psf_side) for one in image_sides),
        *(("psfs", in_own_process, side, one) for one in psf_sides),
    ]
    for part, task, image_side, one in tasks:
        key = {"part": part, "image_side": image_side, "psf_side": one, "preset": preset}
        key["device"] = record["device"]
        if part not in arguments.parts or results.has(key, changes):
            continue
        try:
            row = results.add(key, changes, **task(preset, changes, image_side, one, device))
        except (BrokenProcessPool, MemoryError, RuntimeError) as error:  # a size that needs too much memory
            record.setdefault("missing", {})[f"{part}, {image_side} px, PSF {one} px"] = str(error)
            results.write()
            print(f"{part} {image_side} px, PSF {one} px: {error}", flush=True)
            continue
        print({name: value for name, value in row.items() if name != "points"}, flush=True)
    for name in {"images", "psfs"} & set(arguments.parts):
        rows = [row for row in results.rows if row["part"] == name and row["device"] == record["device"]]
        print(name, exponents(rows, "image_side" if name == "images" else "psf_side"))
    return results


def timed(
    run: Generator[Progress, Any, Deconvolution],
) -> Generator[Progress, Any, tuple[Deconvolution, float]]:
    """Yield a run's progress with the seconds spent in the run alone; what is sent reaches the run."""
    spent, answer = 0.0, None
    while True:
        started = time.perf_counter()
        try:
            progress = run.send(answer)
        except StopIteration as end:
            return end.value, spent + time.perf_counter() - started
        if progress.estimate.kernel.device.type == "cuda":
            import torch

            torch.cuda.synchronize()
        spent += time.perf_counter() - started
        answer = yield replace(progress, seconds=spent)


class Stopwatch:
    """Seconds of each step of each stage of a run."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)
        self._before = 0.0

    def lap(self, progress: Progress) -> None:
        """Note a step that has just been made."""
        self.seconds[progress.estimate.stage].append(progress.seconds - self._before)
        self._before = progress.seconds

    @property
    def per_step(self) -> dict[str, float]:
        """Mean seconds of a step of each stage, without its first."""
        return {stage: float(np.mean(laps[1:] or laps)) for stage, laps in self.seconds.items()}


def versus(
    preset: str, changes: dict[str, Any], side: int, psf_side: int, device: str | None
) -> dict[str, Any]:
    """Time a whole run and, between its steps, some of the published schedule."""
    from napari_vdip.deconvolution import run

    image = cells(size=side, psf_size=min(psf_side, CURVE_PSF_SIDE)).blurred
    settings = Settings.preset(preset, **{"psf_shape": psf_side, **changes})
    published = Settings.paper(psf_shape=psf_side)
    ours = timed(run(image, settings, device=device))
    theirs = timed(run(image, published.replace(**PAPER_STEPS), device=device))
    watch, paper_watch = Stopwatch(), Stopwatch()
    paper_done, total = 0.0, 0.0
    while True:
        try:
            progress = next(ours)
        except StopIteration as end:
            total = end.value[1]
            break
        watch.lap(progress)
        while paper_done < progress.fraction:
            step = next(theirs)
            paper_watch.lap(step)
            paper_done = step.fraction
    rates = paper_watch.per_step
    projected = sum(
        rates[stage] * steps
        for stage, steps in (("prefit", published.prefit_steps), ("search", published.network_steps))
    )
    return {
        "seconds": total,
        "steps": {stage: len(laps) for stage, laps in watch.seconds.items()},
        "stage_seconds": {stage: float(np.sum(laps)) for stage, laps in watch.seconds.items()},
        "seconds_per_step": watch.per_step,
        "paper_seconds_per_step": rates,
        "paper_steps_measured": {stage: len(laps) for stage, laps in paper_watch.seconds.items()},
        "paper_seconds_projected": projected,
        "times_faster": projected / total,
    }


def curve(
    preset: str, changes: dict[str, Any], side: int, psf_side: int, device: str | None
) -> dict[str, Any]:
    """Follow the quality of a run on generated cells; the time of following it does not count."""
    from napari_vdip.deconvolution import run

    scene = cells(size=side, psf_size=psf_side)
    data_range = float(np.ptp(scene.latent))

    def psnr(latent: NDArray[np.floating]) -> float:
        return aligned_quality(latent, scene.latent, data_range=data_range).psnr

    settings = Settings.preset(preset, **{"psf_shape": psf_side, **changes})
    steps = timed(run(scene.blurred, settings, device=device))
    points: list[tuple[float, float]] = []
    while True:
        try:
            progress = next(steps)
        except StopIteration as end:
            result, seconds = end.value
            break
        if progress.fraction * CURVE_POINTS >= len(points) + 1:
            points.append((progress.seconds, psnr(progress.preview().latent[..., 0])))
    points.append((seconds, psnr(result.latent)))
    return {
        "blurred": psnr(scene.blurred),
        "points": points,
        "final": points[-1][1],
        "seconds": seconds,
        "seconds_to_quality": next(at for at, value in points if value >= points[-1][1] - CLOSE),
    }


def in_own_process(preset: str, changes: dict[str, Any], *sizes: Any) -> dict[str, Any]:
    """Return what `probe` measures in a fresh process, whose memory nothing else has used."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(probe, preset, changes, *sizes).result()


def probe(
    preset: str, changes: dict[str, Any], image_side: int, psf_side: int, device: str | None
) -> dict[str, Any]:
    """Time a run, or a few steps of each stage where there are networks, and note the peak of memory."""
    import torch

    from napari_vdip.deconvolution import run

    tile = cells(size=64, psf_size=9).blurred  # speed does not depend on what is seen
    image = np.tile(tile, (math.ceil(image_side / 64),) * 2)[:image_side, :image_side]
    watch = Stopwatch()
    before = peak_memory()
    settings = Settings.preset(preset, **{**changes, "psf_shape": psf_side})
    whole = not settings.network_steps
    if not whole:
        settings = settings.replace(steps=STEPS + 1, prefit_steps=min(settings.prefit_steps, STEPS))
    steps = timed(run(image, settings, device=device))
    answer = None
    while True:
        try:
            progress = steps.send(answer)
        except StopIteration as end:
            seconds = end.value[1]
            break
        watch.lap(progress)
        stage = progress.estimate.stage
        enough = not whole and stage != "search" and len(watch.seconds[stage]) > STEPS
        answer = True if enough else None  # stops the run
    on_gpu = progress.estimate.kernel.device.type == "cuda"
    return {
        "seconds": seconds if whole else None,
        "seconds_per_step": watch.per_step,
        "finish_seconds": seconds - progress.seconds,
        "peak_memory": peak_memory(),
        "memory_before": before,
        "peak_gpu_memory": torch.cuda.max_memory_allocated() if on_gpu else None,
    }


def peak_memory() -> int:
    """Return the largest size of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # unlike getrusage's, not inherited from the process that started this one
        lines = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(next(lines).split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def exponents(rows: list[dict[str, Any]], over: str) -> dict[str, float]:
    """Fit power laws of the seconds of steps and whole runs: over pixels, or over the kernel's side.

    Of an image larger than the search area a step does no more than of one as large.
    """
    points: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in rows:
        if row["image_side"] <= Settings().search_area:
            whole = {"whole run": row["seconds"]} if row.get("seconds") else {}
            for stage, seconds in (row["seconds_per_step"] | whole).items():
                points[stage].append((row[over], seconds))
    fits = {}
    for stage, measured in sorted(points.items()):
        if len(measured) > 1:
            sides, seconds = np.array(measured).T
            fits[stage] = power_law(sides**2 if over == "image_side" else sides, seconds)
    return fits


def power_law(x: Iterable[float], y: Iterable[float]) -> float:
    """Return the exponent of the power law ``y = a x**b`` through points in the least squares of logs."""
    return float(np.polyfit(np.log(np.asarray(x)), np.log(np.asarray(y)), 1)[0])


if __name__ == "__main__":
    main()
