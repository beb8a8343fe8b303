"""What units of work take on a device: each is done a few times there, on noise.

On a small canvas and on one as large as the plane's, or smaller where that would take too long. Memory is
then taken for proportional to the pixels of the canvas, and time for a constant and what is proportional.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_vdip.candidate import Candidate
from napari_vdip.devices import release_memory
from napari_vdip.estimate import Estimate
from napari_vdip.generators import Posterior
from napari_vdip.mosaic import searched
from napari_vdip.operators import extend
from napari_vdip.plane import Plane
from napari_vdip.posterior import BATCH, Precision, sparse_precision
from napari_vdip.search import Search
from napari_vdip.sharpness import floor_of
from napari_vdip.tensor_memory import peak_memory
from napari_vdip.widths import gaussian

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_vdip.settings import Settings
    from napari_vdip.workload import Part, Unit

BUDGET = 4.0
"""Seconds that a calibration may take at the size it ends with."""
SMALLEST_SIDE = 48
"""Side in pixels of the canvas it begins with, if the window leaves room there."""
WORTH_IT = 1.5
"""How many times more pixels there have to be for another round of it."""
SIDES_PER_DOUBLING = 4
"""Steps in which the side of a canvas is rounded, so that planes of nearly one size share a calibration."""
PREFIT_STEPS = 2
SEARCH_STEPS = 5
"""Steps of the networks that are made. The search passes in them through what it maximises, as in a run."""
TIMES: dict[Unit, int] = {"prefit": PREFIT_STEPS - 1, "search": SEARCH_STEPS - 1}
"""How often the steps of the networks are timed, and others once: not more than there are."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What a unit of work takes.

    Attributes
    ----------
    seconds, memory : float
        For each pixel of the canvas: seconds, and bytes at the peak.
    fixed : float
        Seconds besides, whatever the size.
    first : float
        Seconds that the first ones of every size take more on a GPU, where they are recorded.
    """

    seconds: float
    memory: float
    fixed: float = 0.0
    first: float = 0.0

    def of(self, pixels: int) -> float:
        """Seconds for a canvas of so many pixels."""
        return self.fixed + pixels * self.seconds


def rates_of(
    parts: Sequence[Part], channels: int, settings: Settings, device: torch.device
) -> dict[Unit, Rate]:
    """Return what every unit takes, calibrated for the largest canvas that it is done on."""
    largest: dict[Unit, int] = {}
    for part in parts:
        for unit, times in part.units.items():
            if times:
                largest[unit] = max(part.canvas, largest.get(unit, 0))
    sizes = defaultdict(set)
    for unit, pixels in largest.items():
        sizes[rounded(pixels)].add(unit)
    rates: dict[Unit, Rate] = {}
    for pixels, units in sorted(sizes.items()):
        rates |= calibration(pixels, channels, settings, frozenset(units), device)
    return rates


@lru_cache(maxsize=64)
def time_to_wake(settings: Settings, units: frozenset[Unit], device: torch.device) -> float:
    """Seconds that units of work take more on a GPU that this process has not used yet."""
    if device.type != "cuda":
        return 0.0
    seconds = []
    for _ in range(2):
        seconds.append(timed(lambda: measure(1, 1, settings, units, device), device))
        release_memory()  # with the recordings, so that they are made again
    return max(seconds[0] - seconds[1], 0)


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
    """Measure units of work, beginning with a small canvas.

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
    least = max(SMALLEST_SIDE, 2 * max(settings.psf_shape) - 1) ** 2
    small = measured = measure(least, channels, settings, units, device)
    now = least
    try:
        while True:
            again = sum((1 + TIMES.get(unit, 1)) * one.seconds for unit, one in measured.items())
            affordable = min(pixels, round(BUDGET * now / again))
            if affordable < WORTH_IT * now:
                break
            measured = measure(affordable, channels, settings, units, device)
            now = affordable
    except torch.cuda.OutOfMemoryError:
        pass  # what the size before has shown must do
    finally:
        release_memory()
    return {unit: small[unit].with_larger(measured[unit]) for unit in units}


@dataclass(frozen=True, slots=True)
class Measured:
    """What a unit of work took on a canvas.

    Attributes
    ----------
    pixels : int
        Of the canvas.
    seconds : float
        Each time but the first ones.
    first : float
        How much longer the first ones took together, on a GPU.
    memory : float
        Bytes at the peak.
    """

    pixels: int
    seconds: float
    first: float
    memory: float

    def with_larger(self, other: Measured) -> Rate:
        """Return the rates from this and another on a larger canvas, or the same."""
        more = other.pixels - self.pixels
        slope = max(other.seconds - self.seconds, 0) / more if more else other.seconds / other.pixels
        fixed = max(other.seconds - slope * other.pixels, 0)
        return Rate(slope, other.memory / other.pixels, fixed, other.first)


def measure(
    pixels: int, channels: int, settings: Settings, units: frozenset[Unit], device: torch.device
) -> dict[Unit, Measured]:
    """Do each unit of work a few times on a canvas of so many pixels.

    The first time shows the memory, the others the time. On CUDA the memory is that of all units together,
    which is kept in part: each has it.
    """
    side = round(pixels**0.5)
    rows, columns = (max(side - window + 1, window) for window in settings.psf_shape)
    image = np.random.default_rng(0).uniform(size=(rows, columns, channels))
    canvas = math.prod(
        n + window - 1 for n, window in zip((rows, columns), settings.psf_shape, strict=True)
    )
    on_gpu = device.type == "cuda"
    found = {}
    with peak_memory(device) if on_gpu else nullcontext() as whole:
        for unit, do in work(image, settings, device).items():
            if unit not in units:
                continue
            with nullcontext() if on_gpu else peak_memory(device) as peak:
                first = [timed(do, device)]
            if on_gpu and unit not in TIMES:
                first.append(timed(do, device))  # in which it is recorded, see `replay`
            seconds = float(np.mean([timed(do, device) for _ in range(TIMES.get(unit, 1))]))
            more = max(sum(first) - len(first) * seconds, 0) if on_gpu else 0
            found[unit] = Measured(canvas, seconds, more, peak.memory if peak else 0)
    return {unit: replace(one, memory=whole.memory) for unit, one in found.items()} if whole else found


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

    @cache
    def search() -> Iterator[Estimate]:
        """Make the networks, which takes a while."""
        return Search(plane.image, settings, plane.rng).estimates()

    def precision() -> Precision:
        return sparse_precision(canvas, kernel, plane.variance.sqrt(), pooling=settings.pooling)

    samples = precision()
    return {
        "begin": lambda: searched(Plane(image, settings, torch.device("cpu"))),
        "prefit": lambda: next(search()),
        "search": lambda: next(search()),
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
