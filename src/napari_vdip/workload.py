"""What a run does, counted in units that take equally long for equally many pixels.

Nothing in a run waits for convergence: how many steps, rounds and samples there are follows from the
settings and from how large the planes are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from napari_vdip import scales
from napari_vdip.mosaic import is_large, search_size, tile_layout
from napari_vdip.plane import WEIGHT_ROUNDS, Plane
from napari_vdip.posterior import BATCH
from napari_vdip.prediction import ROUNDS
from napari_vdip.refinement import GAPS, HAZES, rounds_of
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


@dataclass(frozen=True, slots=True)
class Part:
    """Parts of planes that are alike.

    Attributes
    ----------
    size : tuple of int
        Height and width of one in pixels.
    times : int
        How many there are.
    units : dict
        How often each `Unit` of work is done with one.
    """

    size: Size
    times: int
    units: Units


def parts_of_run(planes: Plan, size: Size, settings: Settings) -> list[Part]:
    """Return all parts of a run.

    Parameters
    ----------
    planes : Plan
        The planes of the array.
    size : tuple of int
        Height and width of what is read of each, see `source.Source`.
    settings : Settings
        What is done with them; ``psf_source="given"`` if the point spread function is known.
    """
    total = len(planes.indices)
    searched = {"plane": total, "channel": len(planes.groups), "given": 0}[settings.psf_source]
    parts = [replace(part, times=searched * part.times) for part in parts_of_plane(size, settings, False)]
    parts += [
        replace(part, times=(total - searched) * part.times)
        for part in parts_of_plane(size, settings, True)
    ]
    if settings.psf_source == "channel":  # all are made once more, to find the one with the most detail
        compared = sum(len(group) for group in planes.groups if len(group) > 1)
        parts.append(Part(size, compared, {"begin": 1}))
    return [part for part in parts if part.times]


def parts_of_plane(size: Size, settings: Settings, known: bool) -> list[Part]:
    """Return the parts of one plane, whose kernel is known or not."""
    std = _std_batches(settings)
    known_steps = Plane.KNOWN_STEPS
    if not is_large(size, settings, known):
        units: Units = {"mean": known_steps, "sample": known_steps - 1} if known else search_units(settings)
        samples = units.get("sample", 0) + std
        return [Part(size, 1, {"begin": 1, **units, "sample": samples, "finish": 1})]
    sides, overlaps = tile_layout(size, settings)
    rows, columns = (segments(*those) for those in zip(size, sides, overlaps, strict=True))
    tile = min(size[0], sides[0]), min(size[1], sides[1])
    restored: Units = {"mean": known_steps, "sample": known_steps - 1 + std, "finish": 1}
    parts = [
        Part(size, 1, {"begin": 1}),
        Part(tile, len(rows) * len(columns), restored),
        Part(tile, 1, {"finish": 1}),  # the last one, set in the whole
    ]
    return parts if known else [Part(search_size(size, settings), 1, search_units(settings)), *parts]


def search_units(settings: Settings) -> Units:
    """Return what the search and the refinement that follows take.

    Of an image without fine detail, whose kernel is no wider than its power allows and has no haze: others
    are not compared with Gaussians, or in other ways.
    """
    units: Units = {"prefit": settings.prefit_steps, "search": settings.network_steps}
    if not settings.rounds:
        return units
    kernel, half, comparisons, pixels = rounds_of(settings)
    coarse = scales.ROUNDS if settings.coarse_rounds else 0  # each scale has half the pixels of the next
    compared = TRIALS + 1 + len(HAZES) + 2 * len(GAPS)
    predictions = ROUNDS * compared if comparisons else 0
    restored = predictions + pixels
    return {**units, "kernel": kernel + half / 4 + coarse, "mean": kernel + restored, "sample": restored}


def _std_batches(settings: Settings) -> float:
    """Batches of samples behind the std map."""
    if not settings.variational:
        return 0
    return settings.samples / BATCH + (1 + WEIGHT_ROUNDS if settings.prior == "sparse" else 0)
