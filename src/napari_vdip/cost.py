"""What a run will take: seconds and memory, from a short calibration on the device.

`workload` says what a run does; here, each kind of it is done a few times, on noise of the plane's size, or
of a smaller one where that would take too long. Both time and memory are then taken for proportional to
the pixels of the canvas.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_vdip.candidate import Candidate
from napari_vdip.devices import choose_device, describe
from napari_vdip.estimate import Estimate
from napari_vdip.generators import Posterior
from napari_vdip.mosaic import is_large, searched
from napari_vdip.operators import extend
from napari_vdip.plane import Plane
from napari_vdip.posterior import BATCH, Precision, sparse_precision
from napari_vdip.refinement import floor_of
from napari_vdip.report import duration
from napari_vdip.search import Search
from napari_vdip.source import Source
from napari_vdip.tensor_memory import peak_memory
from napari_vdip.widths import gaussian
from napari_vdip.workload import parts_of_run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_vdip.operators import Size
    from napari_vdip.settings import Settings
    from napari_vdip.stack import Plan
    from napari_vdip.workload import Unit

BUDGET = 4.0
"""Seconds that a calibration may take at the size it ends with."""
SMALLEST_SIDE = 96
"""Side in pixels of the canvas it begins with."""
WORTH_IT = 1.5
"""How many times more pixels there have to be for another round of it."""
SIDES_PER_DOUBLING = 4
"""Steps in which the side of a canvas is rounded, so that planes of nearly one size share a calibration."""
PREFIT_STEPS = 2
SEARCH_STEPS = 5
"""Steps of the networks that are made. The search passes in them through what it maximises, as in a run."""
TIMES: dict[Unit, int] = {"prefit": PREFIT_STEPS - 1, "search": SEARCH_STEPS - 1}
"""How often a unit is timed, if more than once."""
PROCESS = 430e6
"""Bytes of a process that has imported PyTorch and used it, without any image; measured on Linux."""
FLOAT = 4
"""Bytes of a number."""
MOSAIC_IMAGES = 7
"""Images of the whole plane that a `Mosaic` holds: what it is made of, its parts and their weights."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run is expected to take; as text for people, ``about 1:10, 0.9 GB``.

    Attributes
    ----------
    seconds : float
        From the first step to the last result; without reading and writing files.
    memory : float
        Bytes at the peak: on CUDA those of the GPU, else those of the process with PyTorch, without the
        image itself and what else is in there.
    device : str
        Where.
    """

    seconds: float
    memory: float
    device: str

    def __str__(self) -> str:
        return f"about {duration(self.seconds)}, {max(self.memory / 1e9, 0.1):.1f} GB"


@dataclass(frozen=True, slots=True)
class Rate:
    """What one unit of work takes for each pixel of the canvas: seconds, and bytes at the peak."""

    seconds: float
    memory: float


def expected_cost(
    planes: Plan,
    settings: Settings,
    *,
    region: Any = None,
    device: str | None = None,
    kept: bool = True,
) -> Cost:
    """Say what a run will take; itself it takes a few seconds, and less for planes of a size seen before.

    Parameters
    ----------
    planes : Plan
        The planes of the image, from `stack.plan`.
    settings : Settings
        As for the run. If the point spread function is known, with ``psf_source="given"`` and its
        ``psf_shape``.
    region, device
        See `deconvolution.deconvolve`.
    kept : bool
        Whether the results of all planes are kept in memory, as `deconvolution.deconvolve` does, and not
        written plane by plane.

    Raises
    ------
    ValueError
        If an argument cannot be used.

    Examples
    --------
    >>> from napari_vdip import Settings
    >>> from napari_vdip.stack import plan
    >>> settings = Settings(psf_shape=5, psf_source="given")
    >>> ten = expected_cost(plan((10, 64, 64), "ZYX", "separate"), settings, device="cpu")
    >>> one = expected_cost(plan((64, 64), "YX", "separate"), settings, device="cpu")
    >>> round(ten.seconds / one.seconds)
    10
    """
    target = choose_device(device)
    source = Source(None, planes, settings, region)  # its checks need no array
    channels = planes.shape[planes.axes.index("C")] if planes.joint and "C" in planes.axes else 1
    seconds, working = 0.0, 0.0
    for part in parts_of_run(planes, source.size, settings):
        units = {unit: times for unit, times in part.units.items() if times}
        pixels = canvas_pixels(part.size, settings)
        rates = calibration(rounded(pixels), channels, miniature(settings), frozenset(units), target)
        seconds += part.times * pixels * sum(times * rates[unit].seconds for unit, times in units.items())
        working = max(working, pixels * max(rates[unit].memory for unit in units))
    if target.type == "cuda":
        memory = working
    else:
        arrays = array_memory(source, settings, channels, kept)
        memory = PROCESS + working + arrays
    return Cost(seconds, memory, describe(target))


def one_after_the_other(costs: Sequence[Cost]) -> Cost:
    """Return the cost of several runs in turn: their seconds, and the memory of the largest."""
    return Cost(sum(c.seconds for c in costs), max(c.memory for c in costs), costs[0].device)


def among(workers: int, cost: Cost, planes: int) -> Cost:
    """Return the cost of some planes that are done by workers at the same time, one by each."""
    busy = min(workers, planes)
    return Cost(cost.seconds / busy, cost.memory * busy, cost.device)


def array_memory(source: Source, settings: Settings, channels: int, kept: bool) -> float:
    """Bytes of the images of whole planes that a run holds besides those it is working on."""
    images = 3 if settings.variational else 2  # latent, reblurred, std
    results = math.prod(source.planes.shape) / (1 if kept else len(source.planes.indices))
    large = is_large(source.size, settings, settings.psf_source == "given")
    held = MOSAIC_IMAGES * math.prod(source.size) * channels if large else 0
    return FLOAT * (images * results + held)


def canvas_pixels(size: Size, settings: Settings) -> int:
    """Pixels of the canvas of a part of a plane."""
    return math.prod(n + window - 1 for n, window in zip(size, settings.psf_shape, strict=True))


def rounded(pixels: int) -> int:
    """Pixels of a square canvas of nearly that size."""
    return round(2 ** (round(math.log2(pixels) / 2 * SIDES_PER_DOUBLING) / SIDES_PER_DOUBLING)) ** 2


def miniature(settings: Settings) -> Settings:
    """Return settings that differ only if the units of work do, with a schedule in few steps."""
    return settings.replace(
        prefit_steps=min(PREFIT_STEPS, settings.prefit_steps) and PREFIT_STEPS,
        steps=SEARCH_STEPS,
        refinements=min(1, settings.refinements),
        samples=BATCH,
        seed=0,
        tile=2**16,
        search_area=2**16,
    )


@lru_cache(maxsize=64)
def calibration(
    pixels: int, channels: int, settings: Settings, units: frozenset[Unit], device: torch.device
) -> Mapping[Unit, Rate]:
    """Measure units of work, beginning with a small canvas, which also wakes what is asleep.

    Parameters
    ----------
    pixels : int
        Of the canvas that the rates are for. It is enlarged to that as far as `BUDGET` and memory allow.
    channels : int
        Of the image.
    settings : Settings
        From `miniature`.
    units : frozenset
        What to measure.
    device : torch.device
        Where.
    """
    least = max(SMALLEST_SIDE, 2 * max(settings.psf_shape)) ** 2
    now = min(pixels, least)
    while True:
        try:
            rates = measure(now, channels, settings, units, device)
        except torch.cuda.OutOfMemoryError:
            if now <= least:
                raise
            return rates  # those of the round before
        again = sum((1 + TIMES.get(unit, 1)) * rate.seconds for unit, rate in rates.items())
        affordable = min(pixels, round(BUDGET / again))
        if affordable < WORTH_IT * now:
            return rates
        now = affordable


def measure(
    pixels: int, channels: int, settings: Settings, units: frozenset[Unit], device: torch.device
) -> dict[Unit, Rate]:
    """Do each unit of work a few times on a canvas of so many pixels.

    The first time shows the memory, the others the time.
    """
    side = round(pixels**0.5)
    rows, columns = (max(side - window + 1, window) for window in settings.psf_shape)
    image = np.random.default_rng(0).uniform(size=(rows, columns, channels))
    pixels = canvas_pixels((rows, columns), settings)
    rates = {}
    for unit, do in work(image, settings, device).items():
        if unit in units:
            with peak_memory(device) as peak:
                timed(do, device)
            if device.type == "cuda":
                timed(do, device)  # to record it, see `replay`
            seconds = [timed(do, device) for _ in range(TIMES.get(unit, 1))]
            rates[unit] = Rate(float(np.mean(seconds)) / pixels, peak.memory / pixels)
    return rates


def work(
    image: NDArray[np.float64], settings: Settings, device: torch.device
) -> dict[Unit, Callable[[], object]]:
    """Return a function for each unit of `workload.Unit`, to be called in this order."""
    kernel = gaussian(1.0, settings.psf_shape, device)
    plane = Plane(image, settings, device, kernel)
    canvas = extend(plane.image, settings.psf_shape)
    estimate = Estimate("refinement", 1, 1, Posterior(canvas), kernel, {})
    candidate = Candidate(plane.image, canvas, kernel, floor_of(plane.sharpness, plane.variance, settings))
    batch = torch.Size((BATCH, *canvas.shape[1:]))
    steps = Search(plane.image, settings, plane.rng).estimates()

    def precision() -> Precision:
        return sparse_precision(canvas, kernel, plane.variance.sqrt(), pooling=settings.pooling)

    samples = precision()
    return {
        "begin": lambda: searched(Plane(image, settings, torch.device("cpu"))),
        "prefit": lambda: next(steps),
        "search": lambda: next(steps),
        "kernel": lambda: candidate.advance(plane.variance),
        "mean": lambda: precision().mean(plane.image, canvas),
        "sample": lambda: samples.sample(batch, plane.rng),
        "finish": lambda: plane.preview(estimate),
    }


def timed(do: Callable[[], object], device: torch.device) -> float:
    """Seconds that something takes."""
    started = time.perf_counter()
    with torch.no_grad():
        do()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter() - started
