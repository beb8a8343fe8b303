"""What napari keeps of its view, which was elsewhere before napari 0.9."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari import Viewer


def camera_of(viewer: Viewer) -> Any:
    """Return the camera."""
    return viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera


def grid_of(viewer: Viewer) -> Any:
    """Return the grid of layers."""
    return viewer.canvas.grid if hasattr(viewer, "canvas") else viewer.grid


def canvas_size(viewer: Viewer) -> tuple[int, int]:
    """Return height and width of the canvas."""
    height, width = viewer.canvas.size if hasattr(viewer, "canvas") else viewer._canvas_size
    return height, width
