"""The order of a stack's planes, and which of them take the kernel of another."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from napari_vdip.images import is_blank
from napari_vdip.mosaic import searched
from napari_vdip.plane import Plane

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from napari_vdip.settings import Settings
    from napari_vdip.source import Source

NO_DETAIL = -math.inf
"""Amount of detail of a blank plane, which no kernel is estimated on."""


def in_turn(
    source: Source, settings: Settings, details: Mapping[tuple[int, ...], float] | None = None
) -> Iterator[tuple[tuple[int, ...], bool]]:
    """Give the index of every plane in turn, and whether it has the kernel of the plane before.

    For one kernel a channel, the plane with the most detail comes first, and blank ones, which have their
    own, last; unless the `details` of all planes are given, they are read to find it.
    """
    if settings.psf_source != "channel":
        yield from ((index, False) for index in source.planes.indices)
        return

    def amount(index: tuple[int, ...]) -> float:
        return details[index] if details is not None else amount_of_detail(source.read(index), settings)

    for group in source.planes.groups:
        amounts = {index: amount(index) for index in group} if len(group) > 1 else dict.fromkeys(group, 0.0)
        varied = [index for index in group if amounts[index] != NO_DETAIL]
        if varied:
            first = max(varied, key=amounts.__getitem__)
            yield first, False
            yield from ((index, True) for index in varied if index != first)
        yield from ((index, False) for index in group if amounts[index] == NO_DETAIL)


def amount_of_detail(image: NDArray[Any], settings: Settings) -> float:
    """Return how much detail there is where a plane ``(Y, X, C)`` would be searched for its kernel."""
    if is_blank(image):
        return NO_DETAIL
    return searched(Plane(image, settings, torch.device("cpu")))[1]
