"""Layers in and out: what of an image layer is deconvolved, and how the result looks as layers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from napari.layers import Layer
from napari.utils.transforms import Affine
from numpy.typing import NDArray

from napari_vdip._view import show_colorbar
from napari_vdip.stack import MOST_CHANNELS, plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari import Viewer
    from napari.layers import Image

    from napari_vdip.stack import Plan
    from napari_vdip.tiling import Bounds

Array = NDArray[np.float32]
LayerDataTuple = tuple[Any, dict[str, Any], str]

KEY = "napari-vdip"
"""Where a result layer's metadata says how it was made."""
STACKED = "PQRUVWTZ"
"""Names of stacked axes, as many as there are, from the right."""
CARRIED = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
"""What puts every result layer into the source's world."""


class Result(Protocol):
    """What becomes layers: a `Deconvolution`, or what is known of it while it runs."""

    @property
    def latent(self) -> Array: ...
    @property
    def psf(self) -> Array: ...
    @property
    def std(self) -> Array | None: ...
    @property
    def axes(self) -> str: ...
    @property
    def metadata(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Picture:
    """What of a layer is deconvolved.

    Attributes
    ----------
    data : array-like
        Full resolution, without an alpha channel; lazy if the layer's data is.
    axes : str
        One letter for each axis of the data.
    at : tuple of int
        Index of the result's first pixel in the layer, for each dimension of the layer.
    point : tuple of float, optional
        The point in the viewer's world through which its plane lies, if it is not the whole layer.
    region : tuple of tuple of int, optional
        First and end of the rows and of the columns to deconvolve, if not all. The data is not cut to
        them, since some context around them is taken into account.
    """

    data: Any
    axes: str
    at: tuple[int, ...]
    point: tuple[float, ...] | None = None
    region: Bounds | None = None

    def within(self, region: Bounds) -> Picture:
        """Return the picture with a region of it to deconvolve."""
        at = list(self.at)
        for letter, (first, _) in zip("YX", region, strict=True):
            at[self.axes.index(letter)] = first
        return replace(self, at=tuple(at), region=region)


def guess_axes(shape: Sequence[int], *, rgb: bool = False, labels: Sequence[str] = ()) -> str:
    """Guess one letter for each axis of an array.

    Labels that begin with different letters, Y and X among them, are believed. Otherwise the last two
    axes are Y and X, the last of the others with at most four entries is C, and the rest end in Z or TZ.
    A short last axis with two long ones before it is C, too.

    Parameters
    ----------
    shape : sequence of int
        Shape of the array.
    rgb : bool
        Whether the last axis holds the colours; it has no label then.
    labels : sequence of str
        Names of the axes, such as ``("time", "y", "x")``.
    """
    if rgb:
        return guess_axes(shape[:-1], labels=labels).replace("C", "S") + "C"
    letters = "".join(label[:1].upper() for label in labels)
    if letters.isalpha() and len(set(letters)) == len(letters) == len(shape) and {"Y", "X"} <= set(letters):
        return letters
    *stacked, height, width = shape
    if stacked and width <= MOST_CHANNELS < min(stacked[-1], height):
        return guess_axes(shape[:-1]).replace("C", "S") + "C"
    short = [axis for axis, size in enumerate(stacked) if size <= MOST_CHANNELS]
    names = list(STACKED[len(STACKED) - len(stacked) + bool(short) :])
    if short:
        names.insert(short[-1], "C")
    return "".join(names) + "YX"


def layer_axes(layer: Image) -> str:
    """Guess the axes of an image layer's data."""
    return guess_axes(full(layer).shape, rgb=layer.rgb, labels=layer.axis_labels)


def read_layer(layer: Image, axes: str, point: Sequence[float] | None = None) -> Picture:
    """Take what is to be deconvolved from an image layer, without loading it.

    Parameters
    ----------
    layer : Image
        The source; of a multiscale layer the full resolution is taken.
    axes : str
        One letter for each axis of its data.
    point : sequence of float, optional
        A point in the viewer's world, such as ``viewer.dims.point``, to take only the plane through it,
        with all its channels. The stacked axes are kept, with one entry each.

    Raises
    ------
    ValueError
        If the axes do not fit the data.
    """
    data = full(layer)
    axes = plan(data.shape, axes, "separate").axes
    if layer.rgb and axes[-1] != "C":
        raise ValueError(f"axes: expected C last in a layer of colours, got {axes!r}")
    data, at = _plane(layer, axes, point)
    return Picture(data, axes, tuple(at), None if point is None else tuple(point))


def read_psf(layer: Image, picture: Picture, *, joint: bool) -> NDArray[Any]:
    """Read the point spread functions that an image layer holds.

    Parameters
    ----------
    layer : Image
        Of two axes, one for all planes, or of those of the picture, as the layers of our results.
    picture : Picture
        What is to be deconvolved with them; of a plane, only theirs is taken.
    joint : bool
        Whether the channels share one.

    Returns
    -------
    array
        The argument ``psf`` of `napari_vdip.deconvolve`.

    Raises
    ------
    ValueError
        If the layer has other axes or is larger than the picture, or if channels differ that share one.
    """
    axes = "YX" if full(layer).ndim == 2 else picture.axes
    shape = full(layer).shape
    if len(shape) != len(axes):
        raise ValueError(
            f"PSF layer: expected the axes YX or {axes} of the image, got {layer.name!r} of shape {shape}"
        )
    sides, largest = (
        tuple(whole[letters.index(letter)] for letter in "YX")
        for whole, letters in ((shape, axes), (picture.data.shape, picture.axes))
    )
    if any(size > most for size, most in zip(sides, largest, strict=True)):
        raise ValueError(
            f"PSF layer: expected at most {largest} pixels as in the image, got {sides} in {layer.name!r}"
        )
    psfs = np.asarray(_plane(layer, axes, picture.point)[0])
    if joint and "C" in axes:
        channels = np.moveaxis(psfs, axes.index("C"), 0)
        if not (channels == channels[0]).all():
            raise ValueError(
                f"PSF layer: expected one function for all channels, got {len(channels)} different ones "
                f"in {layer.name!r}; choose separate channels"
            )
        return np.asarray(channels[0])
    return psfs


def layer_data(
    result: Result, source: Image, *, at: Sequence[int] = (), title: str | None = None
) -> list[LayerDataTuple]:
    """Turn a result into layers: the latent image, the point spread function and, if any, the std map.

    All lie in the source's world, with its transforms, units and axis labels: latent and std over the
    source, the point spread function at the right of all of it, with the same pixel size. Their metadata
    is the source's, and says under ``"napari-vdip"`` how they were made.

    Values are in the source's intensity units, but for colours, which napari shows from 0 to 1: those
    are divided by ``metadata["napari-vdip"]["white"]`` and clipped. The std map of a colour image is the
    root mean square over its colours.

    Parameters
    ----------
    result : Deconvolution
        Result of `napari_vdip.deconvolve` of the source's data, or of a part of it.
    source : Image
        The layer that was deconvolved.
    at : sequence of int
        Index of the result's first pixel in the source; the origin if not given.
    title : str, optional
        First part of the layers' names; the name of the source if not given.

    Returns
    -------
    list of tuple
        napari's layer data tuples, in the order of `Result`.
    """
    state = source.as_layer_data_tuple()[1]
    carried = {name: state[name] for name in CARRIED}
    to_physical = Affine(**{name: state[name] for name in ("scale", "translate", "rotate", "shear")})
    start = np.array(at or (0,) * source.ndim)
    beside, x = start.copy(), result.axes.index("X")
    beside[x] = right_of(full(source).shape[x])

    def layer(
        quantity: str, data: Array, at: NDArray[Any], white: float = 1.0, **look: Any
    ) -> LayerDataTuple:
        made = {**result.metadata, "source": source.name, "quantity": quantity}
        if data.ndim > source.ndim:
            data = np.nan_to_num(data / np.float32(white)).clip(0, 1)
            made, look = {**made, "white": white}, {"rgb": True}
        where = {**carried, "translate": to_physical(at)}
        name, metadata = f"{title or source.name} {quantity}", {**source.metadata, KEY: made}
        return data, {**where, **look, "name": name, "metadata": metadata}, "image"

    same_look = {name: state[name] for name in ("colormap", "contrast_limits", "gamma")}
    psf = _with_channels(result, source.ndim)
    peak = _peak(psf)
    psf_look = {"colormap": "viridis", "contrast_limits": (0, peak)}
    layers = [
        layer("latent", result.latent, start, _white(source.dtype), **same_look),
        layer("PSF", psf, beside, peak, **psf_look),
    ]
    if result.std is not None:
        std = result.std
        if source.rgb:
            std = np.sqrt(np.square(std).mean(-1))
        limits = (0, _peak(std))
        layers.append(layer("std", std, start, colormap="magma", contrast_limits=limits, visible=False))
    return layers


def add_to_viewer(viewer: Viewer, source: Image, result: Result, *, at: Sequence[int] = ()) -> list[Layer]:
    """Add a result to a viewer, as the layers of `layer_data`, and return them."""
    return [added(viewer, Layer.create(*those)) for those in layer_data(result, source, at=at)]


def added(viewer: Viewer, layer: Layer) -> Layer:
    """Add a layer of a result to a viewer, with a bar of its colours if it is a std map."""
    layer = viewer.add_layer(layer)
    if made_of(layer).get("quantity") == "std":
        show_colorbar(layer)
    return layer


def right_of(columns: int) -> int:
    """Return the column where something begins that is shown at the right of so many."""
    return columns + max(2, columns // 32)


def show_plane(viewer: Viewer, layer: Image, planes: Plan, index: Sequence[int]) -> None:
    """Move a viewer's sliders to a plane of a result's layer."""
    here = np.array(layer.world_to_data(viewer.dims.point))
    axes = [axis for axis in planes.stacked if axis < layer.ndim]
    here[axes] = [i for i, axis in zip(index, planes.stacked, strict=True) if axis in axes]
    there = layer.data_to_world(here)
    for axis in axes:
        viewer.dims.set_point(axis + viewer.dims.ndim - layer.ndim, there[axis])


def full(layer: Image) -> Any:
    """Return a layer's data at full resolution."""
    return layer.data[0] if layer.multiscale else layer.data


def made_of(layer: Layer) -> dict[str, Any]:
    """Return what a layer's metadata say of how it was made; nothing if they are of something else."""
    made = layer.metadata.get(KEY)
    return made if isinstance(made, dict) else {}


def _plane(layer: Image, axes: str, point: Sequence[float] | None) -> tuple[Any, list[int]]:
    """Take the plane through a point, if there is one, without alpha; say where it begins in the layer."""
    data, at = full(layer), [0] * layer.ndim
    if layer.rgb:
        data = data[..., :3]
    if point is not None:
        if not np.isfinite(point).all():
            raise ValueError(f"point: expected finite coordinates, got {tuple(point)}")
        here = layer.world_to_data(point)
        for axis, (letter, size) in enumerate(zip(axes[: layer.ndim], data.shape, strict=False)):
            if letter not in "CYX":
                at[axis] = int(np.clip(round(here[axis]), 0, size - 1))
                data = data[(slice(None),) * axis + (slice(at[axis], at[axis] + 1),)]
    return data, at


def _peak(array: Array) -> float:
    """Return the largest number, and not zero where there is none."""
    return max(float(np.nanmax(array, initial=0)), float(np.finfo(np.float32).tiny))


def _white(dtype: Any) -> float:
    """Return the intensity that napari shows as full colour."""
    return float(np.iinfo(dtype).max) if np.issubdtype(dtype, np.integer) else 1.0


def _with_channels(result: Result, ndim: int) -> Array:
    """Return the point spread functions with the layer's channel axis, where the channels share one."""
    channel = result.axes.find("C")
    if result.psf.ndim < result.latent.ndim and channel < ndim:
        return np.repeat(np.expand_dims(result.psf, channel), result.latent.shape[channel], channel)
    return result.psf
