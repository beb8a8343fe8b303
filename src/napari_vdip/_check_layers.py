"""Layers that the Check tab adds beside those of a result, and how they are seen side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer
from napari.utils.colormaps import Colormap
from napari.utils.transforms import Affine

from napari_vdip._checked import run_of
from napari_vdip._layers import CARRIED, KEY, made_of
from napari_vdip._view import camera_of, grid_of, place_in_grid, show_colorbar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from napari import Viewer
    from numpy.typing import NDArray

    from napari_vdip._checked import Checked

RESIDUAL, DOUBT, STD = "residual", "doubt", "std"
LARGEST = 4.0
"""Residual in noise units that has the full colour: noise alone exceeds it once in 16 000 pixels."""
BLUE = (0.0, 0.45, 0.7)
"""Not a colour of greys, and told apart by all eyes (Okabe and Ito)."""
LOOKS: dict[str, dict[str, Any]] = {
    RESIDUAL: {"colormap": "coolwarm", "contrast_limits": (-LARGEST, LARGEST)},
    DOUBT: {
        "colormap": Colormap([(*BLUE, 0.0), (*BLUE, 1.0)], name="doubt"),
        "contrast_limits": (0.0, 1.0),
        "blending": "translucent",
    },
}


def place(
    viewer: Viewer,
    this: Checked,
    quantity: str,
    data: NDArray[Any],
    at: Mapping[int, int],
    how: str = "",
) -> Layer:
    """Show an array over a result: in a new layer, or in the one that shows this quantity already.

    Parameters
    ----------
    viewer : Viewer
        Where to.
    this : Checked
        The result; its latent layer need not be in the viewer any more.
    quantity : str
        What it is; one of `LOOKS`, or else it looks like the latent image.
    data : array
        With the axes of the latent layer.
    at : mapping
        For an axis the index in the latent layer where the array begins, if not zero.
    how : str
        How it was made of the result, for its metadata.
    """
    state = this.latent.as_layer_data_tuple()[1]
    made = {name: value for name, value in state["metadata"][KEY].items() if name != "white"}
    look: dict[str, Any] = LOOKS.get(quantity) or {
        name: state[name] for name in ("colormap", "contrast_limits", "gamma")
    }
    if data.ndim > this.latent.ndim:
        white = state["metadata"][KEY]["white"]
        data, look, made = (data / np.float32(white)).clip(0, 1), {"rgb": True}, {**made, "white": white}
    start = np.array([at.get(axis, 0) for axis in range(this.latent.ndim)], float)
    moved = Affine(**{name: state[name] for name in ("scale", "translate", "rotate", "shear")})(start)
    where = {**{name: state[name] for name in CARRIED}, "translate": moved}
    metadata = {**state["metadata"], KEY: {**made, "how": how, "quantity": quantity}}
    if quantity in LOOKS:
        show_alone(viewer, this, quantity)
    earlier = companion(viewer, this, quantity)
    if earlier is not None and (earlier.ndim, earlier.rgb) == (this.latent.ndim, look.get("rgb", False)):
        earlier.data, earlier.metadata, earlier.visible = data, metadata, True
        for name, value in where.items():
            setattr(earlier, name, value)
        return earlier
    active = viewer.layers.selection.active
    new = Layer.create(
        data, {**where, **look, "name": f"{this.title} {quantity}", "metadata": metadata}, "image"
    )
    layer = viewer.add_layer(new)
    if quantity in LOOKS:
        show_colorbar(layer)
    if active is not None:
        viewer.layers.selection.active = active
    return layer


def show_alone(viewer: Viewer, this: Checked, quantity: str) -> None:
    """Show the layer of a quantity over a latent image, and hide those that would hide each other."""
    for one in (*LOOKS, STD):
        layer = companion(viewer, this, one)
        if layer is not None:
            layer.visible = one == quantity


def companion(viewer: Viewer, this: Checked, quantity: str) -> Any:
    """Return the layer beside a result that shows a quantity; ``None`` if there is none."""
    run = run_of(this.latent)
    for layer in viewer.layers:
        if made_of(layer).get("quantity") == quantity and run_of(layer) == run:
            return layer
    return None


class SideBySide:
    """Some layers beside each other in napari's grid, until it is as it was.

    Parameters
    ----------
    viewer : Viewer
        Where the layers are.

    Attributes
    ----------
    grid : GridCanvas
        The viewer's grid.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self.grid, self._camera = grid_of(viewer), camera_of(viewer)
        self._before: dict[Any, bool] = {}
        self._named: list[Layer] = []
        self._stride = 1
        self._view: dict[str, Any] = {}

    def show(self, layers: Iterable[Layer]) -> None:
        """Show these layers alone, from the lowest in the list to the highest."""
        wanted: Sequence[Layer] = list(layers)
        if not self._before:
            self._before = {layer: layer.visible for layer in self._viewer.layers}
            self._stride = self.grid.stride
            self._view = {name: getattr(self._camera, name) for name in ("center", "zoom", "angles")}
        for layer in self._viewer.layers:
            layer.visible = layer in wanted
        self._named += show_names(wanted)
        self.grid.stride, self.grid.enabled = 1, True
        if wanted and place_in_grid(self._viewer, wanted[0]) > place_in_grid(self._viewer, wanted[-1]):
            self.grid.stride = -1  # which end of the list comes first depends on napari's version
        self._viewer.reset_view(**({"layers": wanted} if hasattr(self._viewer, "scene") else {}))

    def restore(self) -> None:
        """Show all layers as they were, over each other and from where they were; new ones stay visible."""
        before, self._before = self._before, {}
        self.grid.enabled = False
        if before:
            self.grid.stride = self._stride
        for layer in self._viewer.layers:
            layer.visible = before.get(layer, layer.visible)
        for layer in self._named:
            layer.name_overlay.visible = False
        self._named.clear()
        for name, value in self._view.items():
            setattr(self._camera, name, value)
        self._view.clear()


def show_names(layers: Iterable[Layer]) -> list[Layer]:
    """Write on layers what they are called, where napari can; return those on which it was not written."""
    unnamed = [
        layer for layer in layers if hasattr(layer, "name_overlay") and not layer.name_overlay.visible
    ]
    for layer in unnamed:
        layer.name_overlay.visible = True
    return unnamed
