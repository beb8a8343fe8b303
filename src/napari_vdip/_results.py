"""The result layers of one run, from the first report to the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer

from napari_vdip._layers import CARRIED, KEY, added, layer_data, show_plane
from napari_vdip._provenance import RECIPE

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image

    from napari_vdip._layers import Array, Picture, Result
    from napari_vdip._provenance import Recipe
    from napari_vdip._worker import Report
    from napari_vdip.settings import Settings
    from napari_vdip.stack import Plan
    from napari_vdip.tiling import Bounds


@dataclass(frozen=True, slots=True)
class Preview:
    """What is known of a result while it runs; NaN in planes not reached yet. See `_layers.Result`."""

    planes: Plan
    settings: Settings
    region: Bounds | None
    latent: Array
    psf: Array
    std: None = None

    @classmethod
    def of(cls, planes: Plan, settings: Settings, region: Bounds | None = None) -> Preview:
        """Know nothing. A point spread function that is given has a window of its own."""
        shapes = planes.shape, planes.psf_shape(settings.psf_shape)
        latent, psf = (np.full(shape, np.nan, np.float32) for shape in shapes)
        return cls(planes, settings, region, latent, psf)

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
        return {"settings": self.settings.asdict(), "region": self.region, "stopped": "running"}


class ResultLayers:
    """The layers of one run in a viewer, where the user may rename, change and delete them meanwhile.

    Parameters
    ----------
    viewer : Viewer
        Where to show them.
    source : Image
        The layer that is deconvolved; it need not be in the viewer any more.
    picture : Picture
        What of it is deconvolved.
    earlier : ResultLayers, optional
        Layers of an earlier run; those of the same source are taken over, which is quicker than making
        new ones, and keeps how the user has set them.
    title : str, optional
        First part of the layers' names; the name of the source if not given.
    recipe : Recipe, optional
        What the run is, to be kept in the layers' metadata.
    """

    def __init__(
        self,
        viewer: Viewer,
        source: Image,
        picture: Picture,
        earlier: ResultLayers | None = None,
        *,
        title: str | None = None,
        recipe: Recipe | None = None,
    ):
        self._viewer, self._picture, self._title = viewer, picture, title
        self._recipe = recipe and recipe.plain()
        self.source = source
        self._layers: dict[str, Any] = {}
        if earlier is not None and earlier.source == source:
            those = earlier._layers.items()
            self._layers = {quantity: layer for quantity, layer in those if layer in viewer.layers}
        self._to_be_placed = set(self._layers)

    def show(self, result: Result, *, final: bool = False) -> None:
        """Update the layers, and add those that are new, or, at the end, that were deleted meanwhile."""
        made = layer_data(result, self.source, at=self._picture.at, title=self._title)
        for _, state, _ in made:
            state["metadata"][KEY][RECIPE] = self._recipe
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

    def get(self, quantity: str) -> Any:
        """Return the layer of a quantity, latent, PSF or std; ``None`` where it is not in the viewer."""
        layer = self._layers.get(quantity)
        return layer if layer in self._viewer.layers else None

    def show_plane(self, planes: Plan, index: tuple[int, ...]) -> None:
        """Move the viewer's sliders to a plane."""
        layer = self.get("latent")
        if layer is not None:
            show_plane(self._viewer, layer, planes, index)

    def release(self, quantity: str) -> Any:
        """Give a layer away: no later run takes it over."""
        return self._layers.pop(quantity)

    def remove(self) -> None:
        """Take all layers out of the viewer."""
        for quantity in list(self._layers):
            self._remove(quantity)

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
        """Add a layer, keep what the user has selected, and show all if it lies beyond the others.

        But for a part of the source, which the user may be looking at closely.
        """
        layers = self._viewer.layers
        active, extent = layers.selection.active, layers.extent.world
        layer = added(self._viewer, layer)
        if active is not None:
            layers.selection.active = active
        beyond = not np.allclose(extent[:, -2:], layers.extent.world[:, -2:])
        if beyond and self._picture.region is None:
            self._viewer.reset_view()
        return layer


def quantity_of(state: dict[str, Any]) -> str:
    """Return what a layer shows: latent, PSF or std."""
    quantity: str = state["metadata"][KEY]["quantity"]
    return quantity
