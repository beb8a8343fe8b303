"""What a run does, counted in units that take equally long for equally many pixels.

Nothing in a run waits for convergence: how many steps, rounds and samples there are follows from the
settings and from how large the planes are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from napari_vdip import scales
from napari_vdip.bentness import QUARTERS, TURNS, UPDATES
from napari_vdip.coarse_to_fine import at_scale
from napari_vdip.comparison import HAZES, judged_size
from napari_vdip.half_resolution import halved_window
from napari_vdip.mosaic import is_large, search_size, tile_layout
from napari_vdip.plane import WEIGHT_ROUNDS
from napari_vdip.posterior import BATCH
from napari_vdip.prediction import ROUNDS
from napari_vdip.refinement import GAPS, SHOWN, rounds_of
from napari_vdip.regularization import FITTED, MOST, SHARP_UPDATES
from napari_vdip.sharpness import ROUND
from napari_vdip.starts import starts_of
from napari_vdip.tiling import segments
from napari_vdip.widths import TRIALS

if TYPE_CHECKING:
    from napari_vdip.operators import Size
    from napari_vdip.settings import Settings
    from napari_vdip.stack import Plan


Unit = Literal["begin", "prefit", "search", "kernel", "mean", "sample", "finish"]
"""A kind of work.

``begin``: a plane is made, with its intensities, noise and detail. ``prefit``, ``search``: a step of the
networks. ``kernel``: an update of the kernel with the posterior of the gradient. ``mean``: the mean of the
latent image's posterior, with the weights of its prior. ``sample``: a batch of samples of it. ``finish``:
an estimate becomes arrays.
"""
Units = dict[Unit, float]
"""How often each is done."""


PLAUSIBLE = 1 + len(HAZES) + 2 * len(GAPS)
"""Predictions of a free kernel that is no wider than the image's power allows."""


@dataclass(frozen=True, slots=True)
class Part:
    """Parts of planes that are alike.

    Attributes
    ----------
    size : tuple of int
        Height and width of one in pixels.
    window : tuple of int
        Height and width of its kernel.
    times : int
        How many there are.
    units : dict
        How often each `Unit` of work is done with one.
    """

    size: Size
    window: Size
    times: int
    units: Units

    @property
    def canvas(self) -> int:
        """Pixels of the latent image of one."""
        return math.prod(n + window - 1 for n, window in zip(self.size, self.window, strict=True))


def parts_of_run(planes: Plan, size: Size, settings: Settings, sharp: float = 1.0) -> list[Part]:
    """Return all parts of a run.

    Parameters
    ----------
    planes : Plan
        The planes of the array.
    size : tuple of int
        Height and width of what is read of each, see `source.Source`.
    settings : Settings
        What is done with them; ``psf_source="given"`` if the point spread function is known.
    sharp : float
        See `sharpness.sharpness`: sharp images are not compared with Gaussians.
    """
    total = len(planes.indices)
    searched = {"plane": total, "channel": len(planes.groups), "given": 0}[settings.psf_source]
    parts = [
        replace(part, times=times * part.times)
        for known, times in ((False, searched), (True, total - searched))
        for part in parts_of_plane(size, settings, known, sharp, planes.colour)
    ]
    if settings.psf_source == "channel":  # all are made once more, to find the one with the most detail
        compared = sum(len(group) for group in planes.groups if len(group) > 1)
        parts.append(Part(size, settings.psf_shape, compared, {"begin": 1}))
    return [part for part in parts if part.times]


def parts_of_plane(
    size: Size, settings: Settings, known: bool, sharp: float = 1.0, colour: bool = False
) -> list[Part]:
    """Return the parts of one plane, whose kernel is known or not."""
    window, std, updates = settings.psf_shape, _std_batches(settings), updates_of(sharp)
    restored: Units = {"mean": 1 + updates, "sample": updates + std, "finish": 1}
    if not is_large(size, settings, known):
        if known:
            return [judging(size, window, sharp), Part(size, window, 1, {"begin": 1, **restored})]
        *coarser, whole = parts_of_search(size, settings, sharp, colour)
        sample = whole.units.get("sample", 0) + std
        return [*coarser, replace(whole, units={"begin": 1, **whole.units, "sample": sample, "finish": 1})]
    sides, overlaps = tile_layout(size, settings)
    rows, columns = (segments(*those) for those in zip(size, sides, overlaps, strict=True))
    tile = min(size[0], sides[0]), min(size[1], sides[1])
    search = search_size(size, settings)
    parts = [
        judging(search, window, sharp),
        Part(size, window, 1, {"begin": 1}),
        Part(tile, window, len(rows) * len(columns), restored),
        Part(tile, window, 1, {"finish": 1}),  # the last one, set in the whole
    ]
    return parts if known else [*parts_of_search(search, settings, sharp, colour), *parts]


def parts_of_search(size: Size, settings: Settings, sharp: float, colour: bool) -> list[Part]:
    """Return what the search and the refinement that follows take, at full resolution last.

    What an image without fine detail takes depends on its kernel, which nobody knows before. It is taken
    for a spot. Half of them are no wider than the power allows, and predict without haze, as under strong
    noise, and beside a Gaussian; half are wider, and it is asked whether they are bent.
    """
    window = settings.psf_shape
    units: Units = {"prefit": settings.prefit_steps, "search": settings.network_steps}
    if not settings.rounds:
        return [Part(size, window, 1, units)]
    kernel, half, comparisons, _ = rounds_of(settings, sharp)
    starts = len(starts_of(settings, sharp, colour))
    going_on = starts if sharp > ROUND else 1
    shown = math.ceil(kernel / SHOWN) * (2 if going_on > 1 else 1)  # of the first, and then of another
    updates = updates_of(sharp)
    units |= {"kernel": going_on * kernel, "mean": shown + 1 + updates, "sample": updates}
    windows = scales.coarser_windows(window) if settings.coarse_rounds else []
    coarser = [
        Part(at_scale(size, scales.RATIO**number, smaller), smaller, 1, {"kernel": starts * scales.ROUNDS})
        for number, smaller in enumerate(reversed(windows), start=1)
    ]
    if half:
        smaller = halved_window(window)
        coarser.append(Part((size[0] // 2, size[1] // 2), smaller, 1, {"kernel": half}))
    compared = comparing(size, window) if comparisons else []
    return [*coarser, *compared, judging(size, window, sharp), Part(size, window, 1, units)]


def comparing(size: Size, window: Size) -> list[Part]:
    """Return what it takes to compare a free kernel with Gaussians, see `parts_of_search`."""
    height, width = judged = judged_size(size, window)
    quarter = math.ceil(height / 2), math.ceil(width / 2)
    return [
        Part(judged, window, 1, predictions(TRIALS + PLAUSIBLE / 2) | {"kernel": QUARTERS * UPDATES / 2}),
        Part(quarter, window, QUARTERS, predictions(TURNS / 2)),
    ]


def judging(size: Size, window: Size, sharp: float) -> Part:
    """Return what it takes to tell how far the latent image should follow its prior.

    Nobody knows before what comes of it: it is taken that there is misfit in a sharp image, and that all
    updates pay in a smooth one. Where fewer do, they are tried with a stronger prior, too.
    """
    tried, updates = (3, FITTED) if sharp > 1 else (1, MOST)
    units: Units = {"mean": tried * (1 + updates), "sample": tried * updates}
    return Part(judged_size(size, window), window, 1, units)


def updates_of(sharp: float) -> int:
    """Return the updates of the weights for the latent image."""
    return SHARP_UPDATES if sharp > 1 else MOST


def predictions(times: float) -> Units:
    """Return what it takes to predict so many times what is left out."""
    return {"mean": ROUNDS * times, "sample": ROUNDS * times}


def _std_batches(settings: Settings) -> float:
    """Batches of samples behind the std map."""
    if not settings.variational:
        return 0
    return settings.samples / BATCH + (1 + WEIGHT_ROUNDS if settings.prior == "sparse" else 0)
