"""The result layers of one run, from the first report to the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer

from napari_vdip._layers import CARRIED, KEY, layer_data

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari import Viewer
    from napari.layers import Image

    from napari_vdip._layers import Array, Result
    from napari_vdip._worker import Report
    from napari_vdip.settings import Settings
    from napari_vdip.stack import Plan


@dataclass(frozen=True, slots=True)
class Preview:
    """What is known of a result while it runs; NaN in planes not reached yet. See `_layers.Result`."""

    planes: Plan
    settings: Settings
    latent: Array
    psf: Array
    std: None = None

    @classmethod
    def of(cls, planes: Plan, settings: Settings) -> Preview:
        """Know nothing."""
        shapes = planes.shape, planes.psf_shape(settings.psf_shape)
        latent, psf = (np.full(shape, np.nan, np.float32) for shape in shapes)
        return cls(planes, settings, latent, psf)

    def put(self, report: Report) -> None:
        """Take in how a plane looks by now."""
        self.planes.put(self.latent, report.index, report.restored.latent)
        self.planes.put_psf(self.psf, report.index, report.restored.psf)

    @property
    def axes(self) -> str:
        """One letter for each axis of `latent`."""
        return self.planes.axes

    @property
    def metadata(self) -> dict[str, Any]:
        """How the result is being made."""
        return {"settings": self.settings.asdict(), "stopped": "running"}


class ResultLayers:
    """The layers of one run in a viewer, where the user may rename, change and delete them meanwhile.

    Parameters
    ----------
    viewer : Viewer
        Where to show them.
    source : Image
        The layer that is deconvolved; it need not be in the viewer any more.
    at : sequence of int
        Index of the results' first pixel in the source.
    earlier : ResultLayers, optional
        Layers of an earlier run; those of the same source are taken over, which is quicker than making
        new ones, and keeps how the user has set them.
    """

    def __init__(
        self, viewer: Viewer, source: Image, at: Sequence[int], earlier: ResultLayers | None = None
    ):
        self._viewer, self._source, self._at = viewer, source, at
        self._layers: dict[str, Any] = {}
        if earlier is not None and earlier._source == source:
            those = earlier._layers.items()
            self._layers = {quantity: layer for quantity, layer in those if layer in viewer.layers}
        self._to_be_placed = set(self._layers)

    def show(self, result: Result, *, final: bool = False) -> None:
        """Update the layers, and add those that are new, or, at the end, that were deleted meanwhile."""
        made = layer_data(result, self._source, at=self._at)
        if final:
            for quantity in self._layers.keys() - {quantity_of(state) for _, state, _ in made}:
                self._remove(quantity)
        for data, state, kind in made:
            quantity = quantity_of(state)
            layer = self._layers.get(quantity)
            if layer is not None and (layer.data.ndim, layer.rgb) != (data.ndim, state.get("rgb", False)):
                self._remove(quantity)
                layer = None
            if layer is not None and layer in self._viewer.layers:
                self._update(quantity, data, state)
            elif layer is None or final:
                self._layers[quantity] = self._add(Layer.create(data, state, kind))

    def _update(self, quantity: str, data: Any, state: dict[str, Any]) -> None:
        layer = self._layers[quantity]
        layer.data, layer.metadata = data, state["metadata"]
        if quantity in self._to_be_placed:
            self._to_be_placed.remove(quantity)
            for name in CARRIED:
                setattr(layer, name, state[name])
        if quantity != "latent" and not layer.rgb:
            layer.contrast_limits = state["contrast_limits"]

    def _remove(self, quantity: str) -> None:
        layer = self._layers.pop(quantity)
        if layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _add(self, layer: Layer) -> Layer:
        """Add a layer, keep what the user has selected, and show all if it lies beyond the others."""
        layers = self._viewer.layers
        active, extent = layers.selection.active, layers.extent.world
        layer = self._viewer.add_layer(layer)
        if active is not None:
            layers.selection.active = active
        if not np.allclose(extent[:, -2:], layers.extent.world[:, -2:]):
            self._viewer.reset_view()
        return layer


def quantity_of(state: dict[str, Any]) -> str:
    """Return what a layer shows: latent, PSF or std."""
    quantity: str = state["metadata"][KEY]["quantity"]
    return quantity
