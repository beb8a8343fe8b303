"""Commands for napari's command palette."""

from __future__ import annotations

from napari.layers import Layer  # noqa: TC002, napari reads the type to pass the active layer
from napari.utils.notifications import show_info, show_warning
from qtpy.QtWidgets import QApplication

from napari_vdip._layers import KEY
from napari_vdip.settings import Settings


def copy_settings(layer: Layer) -> None:
    """Copy the settings that the active result was made with to the clipboard, as Python code."""
    made = layer.metadata.get(KEY)
    clipboard = QApplication.clipboard()
    if made is None or clipboard is None:
        show_warning(f"{layer.name} is not a result of VDIP blind deconvolution.")
        return
    clipboard.setText(repr(Settings(**made["settings"])))
    show_info(f"Copied the settings of {layer.name} to the clipboard.")
