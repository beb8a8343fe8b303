"""Commands for napari's menus and command palette."""

from __future__ import annotations

from typing import Any

from napari import Viewer  # noqa: TC002, napari reads the types to pass the viewer and the active layer
from napari.layers import Layer  # noqa: TC002

from napari_vdip._layers import made_of
from napari_vdip._provenance import Recipe
from napari_vdip._tools import copy
from napari_vdip.recipe import settings_code
from napari_vdip.settings import Settings


def copy_settings(layer: Layer) -> None:
    """Copy the settings that the active result was made with to the clipboard, as Python code."""
    copy(lambda: settings_code(_settings(layer)), Recipe.caveat(layer))


def copy_python(layer: Layer) -> None:
    """Copy Python code that makes the active result again."""
    caveat = Recipe.caveat(layer)
    comment = f"# {caveat}\n" if caveat else ""
    copy(lambda: comment + Recipe.from_layer(layer).python(), caveat)


def copy_command(layer: Layer) -> None:
    """Copy the command that makes the active result again."""
    copy(lambda: Recipe.from_layer(layer).command(), Recipe.caveat(layer))


def run_again(viewer: Viewer, layer: Layer) -> None:
    """Open the panel with its form filled in as for the active result."""
    _panel(viewer).tools.run_again(layer)


def open_batch(viewer: Viewer) -> None:
    """Open the panel for many files."""
    panel = _panel(viewer)
    panel.tabs.setCurrentWidget(panel.batch)


def open_check(viewer: Viewer) -> None:
    """Open the panel where it says how far the active result can be trusted."""
    panel = _panel(viewer)
    panel.tabs.setCurrentWidget(panel.check)


def _settings(layer: Layer) -> Settings:
    """Return what a result was made with; a `ValueError` says if it is none."""
    try:
        return Settings(**made_of(layer)["settings"])
    except (TypeError, KeyError, ValueError):
        raise ValueError(f"{layer.name} is not a result of VDIP blind deconvolution.") from None


def _panel(viewer: Viewer) -> Any:
    """Return the panel, opened if it is not."""
    return viewer.window.add_plugin_dock_widget("napari-vdip", "Blind deconvolution")[1]
