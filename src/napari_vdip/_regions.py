"""Rows and columns of an image layer: what the canvas shows, and what a shape encloses."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_vdip._view import camera_of, canvas_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari import Viewer
    from napari.layers import Image, Shapes
    from numpy.typing import NDArray

    from napari_vdip.tiling import Bounds

ROUNDING = 1e-6
"""Part of a pixel that a box may reach into it without touching it."""


def visible(viewer: Viewer, layer: Image, axes: str) -> Bounds:
    """Find the part of a layer that the canvas shows; of a turned layer the smallest box around it.

    Parameters
    ----------
    viewer : Viewer
        Shows planes (Y, X) of the layer.
    layer : Image
        The layer, which need not be visible itself.
    axes : str
        One letter for each axis of its data.

    Raises
    ------
    ValueError
        If the canvas shows something else, or a place beside the layer.
    """
    shown = [axis - viewer.dims.ndim + layer.ndim for axis in viewer.dims.displayed]
    if {axes[axis] for axis in shown if axis >= 0} != {"Y", "X"} or len(shown) != 2:
        letters = ", ".join(axes[axis] if axis >= 0 else "?" for axis in shown)
        raise ValueError(f"region: expected a view of the image's axes Y, X, got one of {letters}")
    camera = camera_of(viewer)
    half = np.divide(canvas_size(viewer), 2 * camera.zoom)
    corners = []
    for signs in product((-1, 1), repeat=2):
        corner = np.array(viewer.dims.point, float)
        corner[list(viewer.dims.displayed)] = np.array(camera.center[-2:]) + signs * half
        corners.append(layer.world_to_data(corner))
    return _box(np.array(corners), layer, axes, "the visible region")


def drawn(shapes: Shapes, layer: Image, axes: str) -> Bounds:
    """Find the part of a layer that the selected shapes, or else the last one, touch.

    Parameters
    ----------
    shapes : Shapes
        Drawn over the layer.
    layer, axes
        See `visible`.

    Raises
    ------
    ValueError
        If there is no shape, or it lies beside the layer.
    """
    if not shapes.data:
        raise ValueError(f"region: expected a shape in {shapes.name!r}, got none")
    chosen = sorted(shapes.selected_data) or [len(shapes.data) - 1]
    vertices = np.concatenate([shapes.data[number] for number in chosen])
    corners = [layer.world_to_data(shapes.data_to_world(vertex)) for vertex in vertices]
    return _box(np.array(corners), layer, axes, f"a shape of {shapes.name!r}")


def outline(bounds: Bounds, layer: Image, axes: str, plane: Mapping[str, int]) -> Shapes:
    """Return a Shapes layer with the box of a region, which `drawn` finds again.

    Parameters
    ----------
    bounds : tuple
        The region.
    layer, axes
        See `visible`.
    plane : mapping
        Index of the plane that it is shown in, for stacked axes; the first if not given.
    """
    from napari.layers import Shapes

    (top, bottom), (left, right) = ((first - 0.5, end - 0.5) for first, end in bounds)
    corners = np.zeros((4, layer.ndim))
    for axis, letter in enumerate(axes[: layer.ndim]):
        corners[:, axis] = plane.get(letter, 0)
    corners[:, axes.index("Y")] = top, top, bottom, bottom
    corners[:, axes.index("X")] = left, right, right, left
    where = {
        name: getattr(layer, name) for name in ("scale", "translate", "rotate", "shear", "affine", "units")
    }
    look = {"face_color": "transparent", "edge_color": "yellow"}
    return Shapes([corners], shape_type="rectangle", name=f"{layer.name} region", **where, **look)


def middle(bounds: Bounds, longest: int) -> Bounds:
    """Return the middle of a region, with sides of at most so many pixels."""
    (top, bottom), (left, right) = (
        (first + (end - first - size) // 2, first + (end - first - size) // 2 + size)
        for first, end in bounds
        for size in [min(end - first, longest)]
    )
    return (top, bottom), (left, right)


def _box(corners: NDArray[Any], layer: Image, axes: str, what: str) -> Bounds:
    """Bound the pixels inside a layer that a box around ``(n, ndim)`` data coordinates touches."""
    sides = []
    for letter in "YX":
        axis = axes.index(letter)
        size = (layer.data[0] if layer.multiscale else layer.data).shape[axis]
        # A pixel reaches half a pixel to either side of its coordinate; transforms round a little.
        low, high = corners[:, axis].min() + 0.5, corners[:, axis].max() + 0.5
        first, end = np.floor(low + ROUNDING), np.ceil(high - ROUNDING)
        sides.append((int(np.clip(first, 0, size)), int(np.clip(end, 0, size))))
        if sides[-1][0] >= sides[-1][1]:
            raise ValueError(f"region: expected a part of {layer.name!r}, but {what} lies beside it")
    return sides[0], sides[1]
