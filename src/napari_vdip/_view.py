"""What napari keeps of its view, which was elsewhere before napari 0.9."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer


def show_colorbar(layer: Layer) -> None:
    """Show what the colours of a layer stand for, where napari can: below the point spread function."""
    if hasattr(layer, "colorbar") and not layer.rgb:
        layer.colorbar.visible = True
        layer.colorbar.position = "bottom_right"


def camera_of(viewer: Viewer) -> Any:
    """Return the camera."""
    return viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera


def grid_of(viewer: Viewer) -> Any:
    """Return the grid of layers."""
    return viewer.canvas.grid if hasattr(viewer, "canvas") else viewer.grid


def place_in_grid(viewer: Viewer, layer: Layer) -> tuple[int, int]:
    """Return row and column of a layer in the grid; before napari 0.9 hidden layers have places too."""
    layers = viewer.layers
    there = layers if hasattr(viewer, "canvas") else len(layers)
    row, column = grid_of(viewer).position(layers.index(layer), there)
    return row, column


def canvas_size(viewer: Viewer) -> tuple[int, int]:
    """Return height and width of the canvas."""
    height, width = viewer.canvas.size if hasattr(viewer, "canvas") else viewer._canvas_size
    return height, width
