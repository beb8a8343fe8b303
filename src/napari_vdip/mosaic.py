"""A plane too large to be deconvolved at once: searched in one part, restored in overlapping tiles."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_vdip.checkpoint import fill
from napari_vdip.detail import detail, most_detailed
from napari_vdip.operators import size_of
from napari_vdip.plane import Plane, Restored
from napari_vdip.tiling import WHOLE, tiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from napari_vdip.checkpoint import Checkpoint, State
    from napari_vdip.estimate import Estimate
    from napari_vdip.operators import Size
    from napari_vdip.settings import Settings
    from napari_vdip.tiling import Region

Array = NDArray[np.float32]
REACH = 2
"""Windows of the point spread function that neighbouring tiles share: half of them is left to the borders,
where the blur hides what is outside a tile, and the other half to the passage from one to the next."""
COMPLETE = 1e-5
"""Weight that may lack, by rounding."""


def _none() -> None:
    """Return the state where there can be no checkpoint."""


def is_large(shape: Size, settings: Settings, known: bool) -> bool:
    """Whether a plane is a `Mosaic`; one with a known kernel need not be searched."""
    side = settings.tile if known else min(settings.search_area, settings.tile)
    return settings.rounds > 0 and shape[0] * shape[1] > side**2


def search_size(shape: Size, settings: Settings) -> Size:
    """Height and width of the part of a plane that is searched for its kernel."""
    height, width = (
        min(n, max(settings.search_area, 2 * window))
        for n, window in zip(shape, settings.psf_shape, strict=True)
    )
    return height, width


def searched(plane: Plane) -> tuple[Region, float]:
    """Return the part of a plane that is searched for its kernel, and how much detail it has."""
    size = search_size(size_of(plane.image), plane.settings)
    return most_detailed(detail(plane.image, plane.variance), size)


def tile_layout(shape: Size, settings: Settings) -> tuple[Size, Size]:
    """Return the sides of a plane's tiles, and the rows and columns that neighbours share at least."""
    rows, columns = (REACH * window for window in settings.psf_shape)
    if shape[0] * shape[1] <= settings.tile**2:
        return shape, (rows, columns)
    return (max(settings.tile, 2 * rows), max(settings.tile, 2 * columns)), (rows, columns)


class Mosaic:
    """A blurred plane that is deconvolved in parts; its interface is that of `Plane`.

    Networks and kernel are fitted to the part with the most detail. With that kernel, tiles are restored
    one after the other, each with its std map, and put together with weights that sum to one. They share
    the intensities and the noise of the plane, and how far they follow the prior; the floor of the prior's
    weights, and what the std map allows for edges that the blur has hidden and for misfit, are means over a
    tile. Only the part that is being worked on is on the device.

    What is not restored yet is the source itself, with NaN for a std map. So a run that is stopped while it
    searches leaves the part it has searched, in the source.

    Parameters
    ----------
    image, settings, device, kernel
        See `Plane`.
    """

    def __init__(
        self,
        image: NDArray[Any],
        settings: Settings,
        device: torch.device,
        kernel: Tensor | None = None,
    ):
        self.settings = settings
        self.kernel = kernel
        self._source = image.astype(np.float32)
        self._whole = Plane(image, settings, torch.device("cpu"))
        self._device = device
        self._state: Callable[[], State | None] = _none
        self._latent, self._reblurred, self._std = (np.zeros_like(self._source) for _ in range(3))
        self._missing = np.ones((*image.shape[:2], 1), np.float32)

    @property
    def noise_level(self) -> float:
        """See `Plane`."""
        return self._whole.noise_level

    def estimates(self, start: Checkpoint | None = None) -> Iterator[Estimate]:
        """Yield the estimate of every step, of the part in hand; `preview` sets it in the whole.

        From a checkpoint, its own is the first. A tile that was begun then begins anew, with the random
        numbers it had: every tile has its own.
        """
        kernel, search, first, parts = self.kernel, 0, 0, list(self._tiles())
        if kernel is None:
            search = self.settings.prefit_steps + self.settings.network_steps + self.settings.rounds
        total = search + len(parts) * Plane.KNOWN_STEPS
        most_detailed_part, _ = searched(self._whole)
        try:
            if start is not None and start.estimate.step >= search:
                kernel = start.estimate.kernel
                if start.state:
                    fill(self._restored(), start.state)
                    first = (start.estimate.step - search - 1) // Plane.KNOWN_STEPS
                yield replace(start.estimate, steps=total)
            elif kernel is None:
                part = self._part(most_detailed_part, None)
                for estimate in part.estimates(start):
                    self._state = part.state if estimate.step < search else dict  # nothing is restored yet
                    yield replace(estimate, steps=total, part=most_detailed_part)
                kernel = estimate.kernel
            # The same for all tiles, or there would be seams.
            self._whole.regularization = self._part(most_detailed_part, kernel).regularization_of(kernel)
            for number, (region, weights) in enumerate(parts[first:], start=first):
                tile, before = self._part(region, kernel, number), search + number * Plane.KNOWN_STEPS
                for estimate in tile.estimates():
                    self._state = self._restored if estimate.step == 1 else _none
                    yield replace(estimate, step=before + estimate.step, steps=total, part=region)
                self._add(region, weights[..., None], tile.result(estimate))
        finally:
            self._state = _none  # it holds the part

    def state(self) -> State | None:
        """Return what a checkpoint of the latest step holds, as it is; ``None`` where there can be none."""
        return self._state()

    def preview(self, estimate: Estimate) -> Restored:
        """Convert what there is to arrays, without the std map."""
        return self._with(estimate, self._part_of(estimate).preview(estimate))

    def result(self, estimate: Estimate) -> Restored:
        """Convert what there is to arrays, with the std map."""
        part = self._part_of(estimate)
        if self._missing.any():
            return self._with(estimate, part.result(estimate))
        return replace(self._with(estimate, part.preview(estimate)), std=self._std)

    def _with(self, estimate: Estimate, part: Restored) -> Restored:
        """Set a part in the source, and both in what is already restored."""
        region, source = estimate.part or WHOLE, self._source

        def whole(restored: Array, around: Array, within: Array) -> Array:
            around[region] = within
            return restored + np.where(self._missing > 0, self._missing * around, np.float32(0))

        latent = whole(self._latent, source.copy(), part.latent)
        reblurred = whole(self._reblurred, source.copy(), part.reblurred)
        std = None if part.std is None else whole(self._std, np.full_like(source, np.nan), part.std)
        covered = self._missing[..., 0] < 1
        covered[region] = True
        noise = float(np.sqrt(np.square((reblurred - source)[covered], dtype=np.float64).mean()))
        return Restored(latent, part.psf, reblurred, noise, std)

    def _add(self, region: Region, weights: Array, tile: Restored) -> None:
        """Take in a tile that is done."""
        self._latent[region] += weights * tile.latent
        self._reblurred[region] += weights * tile.reblurred
        if tile.std is not None:
            self._std[region] += weights * tile.std
        missing = self._missing[region] - weights
        self._missing[region] = np.where(missing < COMPLETE, 0, missing)

    def _tiles(self) -> Iterator[tuple[Region, Array]]:
        shape = self._source.shape[0], self._source.shape[1]
        return tiles(shape, *tile_layout(shape, self.settings))

    def _restored(self) -> State:
        """Return what all tiles that are done have added up to."""
        arrays = {"latent": self._latent, "reblurred": self._reblurred, "std": self._std}
        return {name: torch.from_numpy(a) for name, a in (arrays | {"missing": self._missing}).items()}

    def _part(self, region: Region, kernel: Tensor | None, number: int = 0) -> Plane:
        rng = torch.Generator(self._device).manual_seed(self.settings.seed + number)
        return self._whole.part(region, kernel, rng)

    def _part_of(self, estimate: Estimate) -> Plane:
        return self._part(estimate.part or WHOLE, estimate.kernel)
