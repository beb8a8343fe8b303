"""What to deconvolve: an image layer, which part of it, and a point spread function if one is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from magicgui.widgets import ComboBox, LineEdit
from napari.layers import Image, Layer, Shapes

from napari_vdip._layers import KEY, Picture, layer_axes, made_of, read_layer, read_psf
from napari_vdip._regions import drawn, middle, outline, visible

if TYPE_CHECKING:
    from napari import Viewer
    from numpy.typing import NDArray

    from napari_vdip._provenance import Recipe
    from napari_vdip.settings import Settings

THIS_PLANE, ALL_PLANES = "this plane only", "all planes"
WHOLE_IMAGE, VISIBLE_REGION = "whole image", "visible region"
LONGEST_TRIAL = 128
"""Sides in pixels of a trial, at most. With the context around it about 192 are computed."""


class InputForm:
    """Widgets that say what to deconvolve, and follow the layers of a viewer.

    Parameters
    ----------
    viewer : Viewer
        Where the layers are.

    Attributes
    ----------
    image, axes, planes, region : Widget
        Which layer, what its axes are, and which part of it.
    psf : ComboBox
        The layer of the point spread function, if it is given.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._corrected: WeakKeyDictionary[Layer, str] = WeakKeyDictionary()
        self.image = ComboBox(
            label="image",
            choices=self._images,
            tooltip="The blurred image. Follows the layer that is selected in the layer list.",
        )
        self.axes = LineEdit(
            label="axes",
            tooltip="One letter for each axis of the image, such as TZCYX: time, depth, channel, height "
            "and width. Correct it where the guess is wrong; any letter but Y, X and C is a stack.",
        )
        self.planes = ComboBox(
            label="of a stack",
            choices=(THIS_PLANE, ALL_PLANES),
            tooltip="Deconvolve the plane that is displayed, with all its channels, or all one by one.",
        )
        self.region = ComboBox(
            label="region",
            choices=lambda widget: [WHOLE_IMAGE, VISIBLE_REGION, *self._of_type(Shapes)],
            tooltip="Deconvolve all of the image, what the canvas shows of it now, or the box around the "
            "selected shapes of a Shapes layer, of which the last counts if none is selected. The result "
            "lies where the region does, and is told a little of what is around it.",
        )
        self.psf = ComboBox(
            label="PSF layer",
            choices=self._point_spread_functions,
            nullable=True,
            tooltip="The layer that holds the point spread function: the PSF of a result, or one that was "
            "measured or computed, opened as an image. One of two axes serves all planes and channels.",
        )
        self.image.changed.connect(self._guess)
        self.axes.changed.connect(self._keep_axes)
        viewer.layers.selection.events.active.connect(self.follow)
        for event in ("inserted", "removed", "reordered"):
            getattr(viewer.layers.events, event).connect(self.reset_choices)
        viewer.layers.events.inserted.connect(lambda event: self._watch_name(event.value))
        for layer in viewer.layers:
            self._watch_name(layer)
        self.follow()
        self._guess()

    @property
    def corrected_axes(self) -> str:
        """The axes of the image where they are not the guess; empty where they are."""
        layer = self.image.value
        return self._corrected.get(layer, "") if layer is not None else ""

    def picture(self) -> Picture:
        """Take what is chosen; a `ValueError` says what is wrong with it."""
        picture = self._read(only_plane=self.planes.value == THIS_PLANE)
        if self.region.value == WHOLE_IMAGE:
            return picture
        if self.region.value == VISIBLE_REGION:
            return picture.within(visible(self._viewer, self.image.value, picture.axes))
        return picture.within(drawn(self.region.value, self.image.value, picture.axes))

    def trial(self) -> Picture:
        """Take a small piece from the middle of what the canvas shows; see `picture`."""
        picture = self._read(only_plane=True)
        return picture.within(middle(visible(self._viewer, self.image.value, picture.axes), LONGEST_TRIAL))

    def taken(self, settings: Settings, *, trial: bool = False) -> tuple[Picture, NDArray[Any] | None]:
        """Take what a run gets: what is chosen, or a trial, and a given point spread function."""
        picture = self.trial() if trial else self.picture()
        if settings.psf_source != "given":
            return picture, None
        return picture, self.given_psf(picture, joint=settings.channels == "joint")

    def given_psf(self, picture: Picture, *, joint: bool) -> NDArray[Any]:
        """Read the point spread function for a picture; see `_layers.read_psf`."""
        if self.psf.value is None:
            raise ValueError("PSF layer: expected an image layer with a point spread function, got none")
        return read_psf(self.psf.value, picture, joint=joint)

    def set(self, recipe: Recipe) -> None:
        """Choose what a run had; a `ValueError` says which layer of it is not there.

        A region becomes a Shapes layer, if it is not that of one that is there.
        """
        image = self._named(recipe.image.layer, self._images())
        psf = recipe.psf and self._named(recipe.psf.layer, self._point_spread_functions())
        self.image.value, self.axes.value = image, recipe.image.axes
        if psf is not None:
            self.psf.value = psf
        self.planes.value = THIS_PLANE if recipe.point is not None else ALL_PLANES
        if recipe.point is not None:
            self._viewer.dims.point = recipe.point
        self.region.value = WHOLE_IMAGE
        if recipe.region is not None:
            box = outline(recipe.region, image, recipe.image.axes, recipe.plane)
            self._viewer.add_layer(box)
            self._viewer.layers.selection.active = image
            self.region.value = box

    def _named(self, name: str, layers: list[Layer]) -> Layer:
        found = [layer for layer in layers if layer.name == name]
        if not found:
            raise ValueError(
                f"image: expected a layer {name!r} as in that run: open it, or rename its layer"
            )
        return found[0]

    def suggest_psf(self) -> None:
        """Choose a point spread function of ours, if there is one and nothing is chosen."""
        if self.psf.value is None:
            found = [layer for layer in self._point_spread_functions() if is_psf(layer)]
            self.psf.value = found[0] if found else None

    def _read(self, *, only_plane: bool) -> Picture:
        point = self._viewer.dims.point if only_plane else None
        return read_layer(self.image.value, self.axes.value.strip(), point)

    def reset_choices(self, event: Any = None) -> None:
        """Bring the lists of layers up to date, and keep what is chosen, which may have a new name."""
        for box in (self.image, self.region, self.psf):
            chosen = box.value
            with box.changed.blocked():
                box.reset_choices()
                if chosen in box.choices:
                    box.value = chosen
            if box.value != chosen:
                box.changed.emit(box.value)

    def follow(self, event: Any = None) -> None:
        """Choose the layer that became active, unless it is a result, not an image, or no layer."""
        active = self._viewer.layers.selection.active
        if active in self.image.choices and KEY not in active.metadata:
            self.image.value = active

    def _guess(self) -> None:
        """Guess the axes of another image, which is no longer offered as point spread function."""
        layer = self.image.value
        if layer is not None:
            self.axes.value = self._corrected.get(layer) or layer_axes(layer)
        self.psf.reset_choices()

    def _keep_axes(self, axes: str) -> None:
        """Keep what is said of an image for when it is chosen again, unless it is the guess."""
        layer = self.image.value
        if layer is not None:
            self._corrected[layer] = "" if axes == layer_axes(layer) else axes

    def _watch_name(self, layer: Layer) -> None:
        """Follow its name; napari 0.6 has no event for all of them."""
        layer.events.name.connect(self.reset_choices)

    def _images(self, widget: Any = None) -> list[Layer]:
        return self._of_type(Image)

    def _point_spread_functions(self, widget: Any = None) -> list[Layer]:
        """Return all images but the one that is deconvolved, point spread functions of ours first."""
        others = [layer for layer in self._of_type(Image) if layer is not self.image.value]
        return sorted(others, key=lambda layer: not is_psf(layer))

    def _of_type(self, kind: type[Layer]) -> list[Layer]:
        return [layer for layer in self._viewer.layers if isinstance(layer, kind)]


def is_psf(layer: Layer) -> bool:
    """Whether a layer is the point spread function of a result."""
    return bool(made_of(layer).get("quantity") == "PSF")
