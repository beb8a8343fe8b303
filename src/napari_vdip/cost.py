"""What a run will take: seconds and memory.

`workload` says what a run does, and `rates` what each kind of work takes on the device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from napari_vdip.devices import choose_device, describe
from napari_vdip.images import is_blank
from napari_vdip.mosaic import is_large, search_size
from napari_vdip.plane import Plane
from napari_vdip.rates import miniature, rates_of, time_to_wake
from napari_vdip.report import duration
from napari_vdip.source import Source
from napari_vdip.workload import parts_of_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_vdip.settings import Settings
    from napari_vdip.stack import Plan

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
    once : float
        Seconds of these that only the first run of a process takes.
    """

    seconds: float
    memory: float
    device: str
    once: float = 0.0

    def __str__(self) -> str:
        return f"about {duration(self.seconds)}, {max(self.memory / 1e9, 0.1):.1f} GB"


def expected_cost(
    planes: Plan,
    settings: Settings,
    *,
    image: Any = None,
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
    image : array, optional
        The image: some of it is looked at, since one with sharp edges takes another time than a smooth one.
        Without, it is taken for smooth.
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
    source = Source(image, planes, settings, region)  # its checks need no array
    channels = planes.shape[planes.axes.index("C")] if planes.joint and "C" in planes.axes else 1
    parts = parts_of_run(planes, source.size, settings, 1.0 if image is None else sharpness_of(source))
    units = frozenset(unit for part in parts for unit, times in part.units.items() if times)
    once = time_to_wake(miniature(settings), units, target)
    rates = rates_of(parts, channels, miniature(settings), target)
    seconds, working = once, 0.0
    for part in parts:
        for unit, times in part.units.items():
            if times:
                rate = rates[unit]
                seconds += part.times * times * rate.of(part.canvas) + rate.first
                working = max(working, part.canvas * rate.memory)
    if target.type == "cuda":
        memory = working
    else:
        arrays = array_memory(source, settings, channels, kept)
        memory = PROCESS + working + arrays
    return Cost(seconds, memory, describe(target), once)


def one_after_the_other(costs: Sequence[Cost]) -> Cost:
    """Return the cost of several runs in turn: their seconds, and the memory of the largest."""
    once = max(c.once for c in costs)
    seconds = sum(c.seconds - c.once for c in costs) + once
    return Cost(seconds, max(c.memory for c in costs), costs[0].device, once)


def among(workers: int, cost: Cost, planes: int) -> Cost:
    """Return the cost of some planes that are done by workers at the same time, one by each."""
    busy = min(workers, planes)
    seconds = (cost.seconds - cost.once) / busy + cost.once
    return Cost(seconds, cost.memory * busy, cost.device, cost.once)


def array_memory(source: Source, settings: Settings, channels: int, kept: bool) -> float:
    """Bytes of the images of whole planes that a run holds besides those it is working on."""
    images = 3 if settings.variational else 2  # latent, reblurred, std
    results = math.prod(source.planes.shape) / (1 if kept else len(source.planes.indices))
    large = is_large(source.size, settings, settings.psf_source == "given")
    held = MOSAIC_IMAGES * math.prod(source.size) * channels if large else 0
    return FLOAT * (images * results + held)


def sharpness_of(source: Source) -> float:
    """Return the `sharpness` of the middle of the middle plane."""
    indices, settings = source.planes.indices, source.settings
    plane = source.read(indices[len(indices) // 2])
    if is_blank(plane):
        return 1.0
    sides = search_size(source.size, settings)
    middle = tuple(
        slice((n - side) // 2, (n + side) // 2) for n, side in zip(source.size, sides, strict=True)
    )
    return Plane(plane[middle], settings, torch.device("cpu")).sharpness
