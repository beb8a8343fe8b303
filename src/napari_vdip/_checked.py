"""A result that is looked at closely: what its layers in a viewer hold, and what it was made from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image

from napari_vdip._layers import KEY, made_of, show_plane
from napari_vdip._provenance import RECIPE
from napari_vdip.course import FINISHED
from napari_vdip.result import Deconvolution
from napari_vdip.settings import Settings
from napari_vdip.stack import Plan, plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari import Viewer
    from numpy.typing import NDArray

    from napari_vdip.tiling import Bounds

Index = tuple[int, ...]
OF_A_LAYER = ("source", "quantity", "white", "iterate", "how")
"""What the metadata of a layer says of it alone; the rest is the same in all layers of a run."""
STRAIGHT = 0.01
"""Part of a pixel by which a result may lie beside the pixels of its input."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A result, its layers, and the layer that it was made from.

    Attributes
    ----------
    result : Deconvolution
        As its run gave it, or as its layers hold it: then without `reblurred`, and colours are clipped.
    planes : Plan
        Its planes.
    layers : dict of str to Image
        Its layers by quantity; latent and PSF at least.
    source : Image or None
        What it was made from, if that is known.
    made : dict
        What the metadata of the latent layer said of it.
    reached : tuple of tuple of int
        Planes for which there is a result.
    side : float or None
        Side of a pixel in micrometres, for layers without units of length.
    """

    result: Deconvolution
    planes: Plan
    layers: dict[str, Image]
    source: Image | None
    made: dict[str, Any]
    reached: tuple[Index, ...]
    side: float | None = None

    @property
    def latent(self) -> Image:
        """The layer of the latent image."""
        return self.layers["latent"]

    @property
    def title(self) -> str:
        """First part of the layers' names."""
        return str(self.latent.name).removesuffix(" latent")

    @property
    def given(self) -> bool:
        """Whether the point spread function was given."""
        return self.result.settings.psf_source == "given"

    def psf(self, index: Index) -> NDArray[Any]:
        """Return the point spread function of a plane."""
        return self.planes.take_psf(self.result.psf, index)

    @property
    def has_lengths(self) -> bool:
        """Whether the layer has units of length."""
        units = (self.latent.units[self.planes.axes.index(axis)] for axis in "YX")
        return all(unit.is_compatible_with("micrometer") for unit in units)

    def pixel_size(self) -> tuple[float, float] | None:
        """Height and width of a pixel in micrometres, if the layer has units of length, or `side`."""
        if not self.has_lengths:
            return None if self.side is None else (self.side, self.side)
        height, width = (
            float((abs(self.latent.scale[at]) * self.latent.units[at]).to("micrometer").magnitude)
            for at in map(self.planes.axes.index, "YX")
        )
        return height, width

    def same(self, other: Checked) -> bool:
        """Whether nothing has changed since that was gathered."""
        return self.latent is other.latent and (self.made, self.side) == (other.made, other.side)

    def shown(self, point: Sequence[float]) -> Index:
        """Return the index of the plane through a point of the viewer's world."""
        here = [
            *self.latent.world_to_data(np.nan_to_num(point)),
            *[0.0] * self.planes.joint,
            0.0,
        ]  # colours have no axis
        sizes = self.planes.shape
        return tuple(int(np.clip(round(here[axis]), 0, sizes[axis] - 1)) for axis in self.planes.stacked)

    def show(self, viewer: Viewer, index: Index) -> None:
        """Move the viewer's sliders to a plane."""
        show_plane(viewer, self.latent, self.planes, index)

    def seen_with(self, index: Index) -> list[Index]:
        """Planes that are seen at the same time: the colours of a photograph."""
        if not self.latent.rgb or self.planes.joint:
            return [index]
        at = self.planes.stacked.index(self.planes.axes.index("C"))
        return [other for other in self.planes.indices if other[:at] == index[:at]]

    def alone(self, index: Index) -> Deconvolution:
        """Copy the result of one plane, with the axes YXC; its channels share the point spread function."""
        whole, planes = self.result, self.planes
        last = self.reached[-1:] == (index,)

        def copied(array: Any) -> Any:
            return None if array is None else planes.take(array, index).copy()

        return replace(
            whole,
            latent=copied(whole.latent),
            psf=self.psf(index).copy(),
            std=copied(whole.std),
            reblurred=copied(whole.reblurred),
            axes="YXC",
            settings=whole.settings.replace(channels="joint"),
            stopped=whole.stopped if last else FINISHED,
            region=None,
        )

    def source_plane(self, index: Index) -> tuple[NDArray[Any], Bounds]:
        """Read the plane ``(Y, X, C)`` of the input, and say which rows and columns the result is of.

        Raises
        ------
        ValueError
            If there is no input, or it is not where it was.
        """
        if self.source is None:
            raise ValueError("input: expected the layer that the result was made from, which is not there")
        data = self.source.data[0] if self.source.multiscale else self.source.data
        if self.source.rgb:
            data = data[..., :3]
        origin = self.latent.data_to_world(np.zeros(self.latent.ndim))
        exact = [*self.source.world_to_data(origin), *[0.0] * (data.ndim - self.source.ndim)]
        at = [round(place) for place in exact]
        inside = all(
            0 <= first <= first + size <= whole
            for first, size, whole in zip(at, self.planes.shape, data.shape, strict=False)
        )
        if (
            len(data.shape) != len(self.planes.shape)
            or not inside
            or not np.allclose(at, exact, atol=STRAIGHT)
        ):
            raise ValueError(f"input: expected {self.source.name!r} to lie under the result, as in the run")
        whole = plan(data.shape, self.planes.axes, self.result.settings.channels)
        there = tuple(i + at[axis] for i, axis in zip(index, self.planes.stacked, strict=True))
        rows, columns = (
            (first, first + size)
            for axis, size in zip("YX", self.planes.plane_shape, strict=True)
            for first in [at[self.planes.axes.index(axis)]]
        )
        return whole.take(data, there), (rows, columns)

    def input_plane(self, index: Index) -> NDArray[Any]:
        """Read the part of the input ``(Y, X, C)`` that the result of a plane is of; see `source_plane`."""
        plane, (rows, columns) = self.source_plane(index)
        return plane[slice(*rows), slice(*columns)]


def run_of(layer: Any) -> dict[str, Any]:
    """Return what all layers of the run have in common that made a layer; nothing if none of ours did."""
    return {name: value for name, value in made_of(layer).items() if name not in OF_A_LAYER}


def checked(
    viewer: Viewer,
    layer: Any,
    latest: tuple[Deconvolution, Image] | None = None,
    side: float | None = None,
) -> Checked | None:
    """Gather the result that a layer belongs to; ``None`` if that is unfinished, or has lost its layers.

    Parameters
    ----------
    viewer : Viewer
        Where its layers are.
    layer : Layer
        Any layer of the result.
    latest : tuple, optional
        The last run's result and what it was made from. Of earlier ones the layers are all there is, and
        the input is found by its name.
    side : float, optional
        Of a pixel in micrometres, see `Checked`.
    """
    run = run_of(layer)
    if not run or run.get("stopped") == "running":
        return None
    siblings = [other for other in viewer.layers if isinstance(other, Image) and run_of(other) == run]
    layers = {made_of(other).get("quantity", ""): other for other in reversed(siblings)}
    if not {"latent", "PSF"} <= layers.keys():
        return None
    made = layers["latent"].metadata[KEY]
    source = _source(viewer, layers["latent"], made.get("source"))
    try:
        result = _from_layers(layers)
        planes = plan(result.latent.shape, result.axes, result.settings.channels)
    except (KeyError, TypeError, ValueError):  # of another version, or of something else
        return None
    if latest is not None and latest[0].metadata == {name: run[name] for name in run if name != RECIPE}:
        result, source = latest if "iterate" not in made else (result, latest[1])
    reached = (index for index in planes.indices if np.isfinite(planes.take_psf(result.psf, index)).all())
    return Checked(result, planes, layers, source, made, tuple(reached), side)


def _source(viewer: Viewer, latent: Image, name: str | None) -> Image | None:
    """Find the layer of a name that a latent image can be of."""
    for layer in viewer.layers:
        if isinstance(layer, Image) and layer.name == name:
            return layer if (layer.ndim, layer.rgb) == (latent.ndim, latent.rgb) else None
    return None


def _from_layers(layers: dict[str, Image]) -> Deconvolution:
    """Take a result from its layers, in source units; lazy arrays stay so."""
    made = layers["latent"].metadata[KEY]
    settings = Settings(**made["settings"])
    latent, psf = layers["latent"].data, np.asarray(layers["PSF"].data)
    std = layers["std"].data if "std" in layers else None
    axes = made["axes"]
    if layers["latent"].rgb:
        latent = latent * np.float32(made["white"])
        std = None if std is None else np.repeat(std[..., None], latent.shape[-1], -1)
    if layers["PSF"].rgb:
        psf = psf * np.float32(layers["PSF"].metadata[KEY]["white"])
    elif psf.ndim == latent.ndim and settings.channels == "joint" and "C" in axes:
        psf = psf[(slice(None),) * axes.index("C") + (0,)]  # the layer repeats it for every channel
    return Deconvolution(
        latent=latent,
        psf=psf,
        std=std,
        reblurred=None,
        noise=np.array(made["noise"]),
        history=(),
        axes=axes,
        settings=settings,
        device=made["device"],
        seconds=made["seconds"],
        stopped=made["stopped"],
    )
