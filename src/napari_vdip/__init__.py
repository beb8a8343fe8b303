"""Blind deconvolution by variational deep image prior, for napari, Python and the command line."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_vdip._layers import add_to_viewer, layer_data
    from napari_vdip.deconvolution import deconvolve, run
    from napari_vdip.lazy import deconvolve_stack
    from napari_vdip.result import Deconvolution, Progress
    from napari_vdip.settings import Settings

__all__ = [
    "Deconvolution",
    "Progress",
    "Settings",
    "add_to_viewer",
    "deconvolve",
    "deconvolve_stack",
    "layer_data",
    "run",
]

_HOMES = {
    "Deconvolution": "result",
    "Progress": "result",
    "Settings": "settings",
    "add_to_viewer": "_layers",
    "deconvolve_stack": "lazy",
    "layer_data": "_layers",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: opening the plugin must not wait for PyTorch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'deconvolution')}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
