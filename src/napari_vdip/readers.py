"""Images from files. Libraries read; this says what the numbers mean: axes, scale, units, channels.

Nothing is loaded before it is needed: every array is a dask array, cut where the file is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import finalize

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

AXES = "TCZYX"
"""Axes of an image in their order, which is that of OME-Zarr."""
UNITS = {
    "nm": "nanometer",
    "µm": "micrometer",
    "um": "micrometer",
    "micron": "micrometer",
    "microns": "micrometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
    "Å": "angstrom",
    "in": "inch",
    "ms": "millisecond",
    "s": "second",
    "sec": "second",
    "min": "minute",
    "h": "hour",
}
"""Symbols of units in files, and the names that OME-Zarr and pint have for them."""
FLAT = (".png", ".jpg", ".jpeg")
TIFF = (".tif", ".tiff")
ZARR = (".zarr",)
Spacing = Mapping[str, tuple[float, str | None]]
"""For an axis the distance from one pixel to the next, and its unit where it is known."""


@dataclass(frozen=True, slots=True)
class Source:
    """An image and what its numbers mean.

    Attributes
    ----------
    array : dask array
        The intensities, not loaded.
    axes : str
        One letter for each axis: Y, X and those of `AXES` that have more than one index, in its order.
    spacing : mapping
        For an axis the distance from one pixel to the next, and its unit or ``None``; axes that the file
        says nothing of are missing.
    channels : tuple of str
        Names of the channels; empty where there are none.
    colour : bool
        Whether the channels are the colours of a photograph.
    """

    array: Any
    axes: str
    spacing: Spacing
    channels: tuple[str, ...]
    colour: bool


def suffixes() -> tuple[str, ...]:
    """Return the endings of what can be read here, with those of the user's bioio readers."""
    try:
        from bioio.plugins import get_plugins
    except ImportError:
        others: tuple[str, ...] = ()
    else:
        others = tuple(f".{name.lstrip('.').lower()}" for name in get_plugins(use_cache=True))
    return tuple(dict.fromkeys((*TIFF, *ZARR, *FLAT, *others)))


def scenes(path: Path) -> tuple[str, ...]:
    """Names of the images in a file, in its order; a file of one image has one, which may be empty.

    Raises
    ------
    ValueError
        If the file cannot be read; the message says why.
    """
    _check_not_empty(path)
    if path.suffix.lower() in TIFF:
        from tifffile import TiffFile

        with TiffFile(path) as file:
            return tuple(series.name for series in file.series)
    if path.suffix.lower() in ZARR:
        return tuple(_zarr_images(path))
    if path.suffix.lower() in FLAT:
        return ("",)
    return tuple(str(name) for name in _bioio(path).scenes)


def read(path: Path, axes: str | None = None, scene: int = 0) -> Source:
    """Open an image without loading it.

    Parameters
    ----------
    path : Path
        TIFF, OME-TIFF, OME-Zarr, PNG or JPEG, or what an installed reader of bioio reads.
    axes : str, optional
        One letter of ``TCZYX`` for each axis, in place of what the file says; axes of one index may be
        left out.
    scene : int
        Which image of a file that holds several, see `scenes`.

    Raises
    ------
    ValueError
        If the axes do not fit, or the file is not what its name says.
    """
    suffix = path.suffix.lower()
    _check_not_empty(path)
    if suffix in TIFF:
        return _arranged(*_tiff(path, scene), axes)
    if suffix in ZARR:
        return _arranged(*_zarr(path, scene), axes)
    if suffix in FLAT:
        return _arranged(*_flat(path), axes)
    return _arranged(*_foreign(path, scene), axes)


def _check_not_empty(path: Path) -> None:
    if path.is_file() and not path.stat().st_size:
        raise ValueError("expected an image, got an empty file")


def _arranged(array: Any, letters: str, spacing: Spacing, channels: list[str], axes: str | None) -> Source:
    """Bring an array with the axes of its file, S for colours, into the form of a `Source`."""
    if axes is not None:
        given, wide = axes.upper(), [i for i, size in enumerate(array.shape) if size > 1]
        if len(given) == len(wide) != array.ndim:
            array = array[tuple(slice(None) if i in wide else 0 for i in range(array.ndim))]
        if len(given) != array.ndim or len(set(given)) != len(given) or set(given) - set(AXES):
            raise ValueError(
                f"axes: expected {len(wide)} different letters of {AXES}, one for each axis of shape "
                f"{array.shape}, got {axes!r}"
            )
        letters = given
    free = iter(axis for axis in "ZTC" if axis not in letters)
    sizes = dict(zip(letters, array.shape, strict=True))
    for letter in [letter for letter in letters if letter not in AXES + "S"]:
        # What the file leaves open, such as the pages of a plain TIFF, is most often a stack in depth.
        letters = letters.replace(letter, next(free, "?") if sizes[letter] > 1 else letter)
    colour = sizes.get("S", 1) > 1 and sizes.get("C", 1) == 1
    if colour:
        alpha = array.shape[letters.index("S")] in (2, 4)  # comes last, and is no intensity
        array = array[tuple(slice(0, -1 if alpha and axis == "S" else None) for axis in letters)]
        letters = letters.replace("C", "?").replace("S", "C")
        channels = ["red", "green", "blue"] if array.shape[letters.index("C")] == 3 else []
    kept = [axis for i, axis in enumerate(letters) if array.shape[i] > 1 or axis in "YX"]
    if not {"Y", "X"} <= set(kept) <= set(AXES):
        raise ValueError(
            f"axes: expected Y and X and at most one each of T, C and Z; the file has {letters} of shape "
            f"{array.shape}: say what they are, such as axes='TCYX'"
        )
    array = array[tuple(slice(None) if axis in kept else 0 for axis in letters)]
    order = sorted(kept, key=AXES.index)
    array = array.transpose([kept.index(axis) for axis in order])
    if "C" not in order:
        names = channels if len(channels) == 1 else []
    else:
        count = array.shape[order.index("C")]
        names = channels if len(channels) == count else [f"channel {i + 1}" for i in range(count)]
    spacing = {axis: spacing[axis] for axis in order if axis in spacing and axis != "C"}
    return Source(array, "".join(order), spacing, tuple(names), colour and "C" in order)


def _tiff(path: Path, scene: int) -> tuple[Any, str, Spacing, list[str]]:
    import dask.array as da
    import zarr
    from tifffile import TiffFile

    with TiffFile(path) as file:
        if scene >= len(file.series):
            raise ValueError(f"expected at least {scene + 1} images, got {len(file.series)}")
        letters = file.series[scene].axes
        spacing: Spacing = {}
        channels: list[str] = []
        if file.ome_metadata:
            spacing, channels = _ome_metadata(file.ome_metadata, scene)
        elif file.imagej_metadata:
            spacing = _imagej_metadata(file.imagej_metadata, file.pages.first.tags)
    file = TiffFile(path)
    store = file.series[scene].aszarr(level=0)
    finalize(store, file.close)  # when the array is gone
    return da.from_zarr(zarr.open_array(store, mode="r")), letters, spacing, channels


def _ome_metadata(xml: str, scene: int) -> tuple[Spacing, list[str]]:
    from tifffile import xml2dict

    images = _listed(xml2dict(xml)["OME"].get("Image"))
    pixels = images[scene].get("Pixels", {}) if scene < len(images) else {}
    names = {axis: f"PhysicalSize{axis}" for axis in "ZYX"} | {"T": "TimeIncrement"}
    spacing = {
        axis: (float(pixels[name]), _unit(pixels.get(f"{name}Unit", "s" if axis == "T" else "µm")))
        for axis, name in names.items()
        if name in pixels and float(pixels[name]) > 0
    }
    channels = [str(channel.get("Name", "")) for channel in _listed(pixels.get("Channel"))]
    return spacing, channels if all(channels) else []


def _imagej_metadata(metadata: Mapping[str, Any], tags: Any) -> Spacing:
    unit = _unit(metadata.get("unit"))
    if unit is None:  # then the resolution is that of a printer
        return {}
    spacing = {}
    for axis in "YX":
        pixels, units = tags[f"{axis}Resolution"].value if f"{axis}Resolution" in tags else (0, 0)
        if pixels and units:
            spacing[axis] = (units / pixels, unit)
    if metadata.get("spacing"):
        spacing["Z"] = (abs(float(metadata["spacing"])), unit)
    if metadata.get("finterval"):
        spacing["T"] = (float(metadata["finterval"]), "second")
    return spacing


def _flat(path: Path) -> tuple[Any, str, Spacing, list[str]]:
    import dask.array as da
    from dask.delayed import delayed
    from PIL import Image, ImageMode

    with Image.open(path) as image:
        width, height = image.size
        mode = {"1": "L", "P": "RGB", "PA": "RGB", "CMYK": "RGB", "YCbCr": "RGB"}.get(
            image.mode, image.mode
        )

    def pixels() -> Any:
        with Image.open(path) as image:
            return np.asarray(image if image.mode == mode else image.convert(mode))

    about = ImageMode.getmode(mode)
    bands = (len(about.bands),) if len(about.bands) > 1 else ()
    array = da.from_delayed(delayed(pixels)(), (height, width, *bands), np.dtype(about.typestr))
    return array, "YXS"[: array.ndim], {}, []


def _zarr_images(path: Path) -> dict[str, Any]:
    """Return the OME-Zarr images of a store with their groups: the store itself, or a series of them."""
    import zarr

    group = zarr.open_group(path, mode="r")
    attributes: Any = group.attrs.asdict()
    if "multiscales" in attributes.get("ome", attributes):
        return {"": group}
    if "bioformats2raw.layout" in attributes.get("ome", attributes):
        return {name: group[name] for name in sorted(group.group_keys(), key=_natural) if name != "OME"}
    raise ValueError("expected an OME-Zarr image, got a Zarr store without multiscales")


def _zarr(path: Path, scene: int) -> tuple[Any, str, Spacing, list[str]]:
    import dask.array as da
    from yaozarrs import validate_ome_object

    groups = [*_zarr_images(path).values()]
    if scene >= len(groups):
        raise ValueError(f"expected at least {scene + 1} images, got {len(groups)}")
    attributes = groups[scene].attrs.asdict()
    image: Any = validate_ome_object(attributes.get("ome", attributes))
    multiscale = image.multiscales[0]
    finest = multiscale.datasets[0]
    scale = np.array(finest.scale_transform.scale)
    for transform in multiscale.coordinateTransformations or ():
        scale = scale * getattr(transform, "scale", 1.0)
    letters = "".join(axis.name.upper() for axis in multiscale.axes)
    spacing = {
        letter: (float(step), axis.unit and str(axis.unit))
        for letter, axis, step in zip(letters, multiscale.axes, scale, strict=True)
        if step != 1 or axis.unit
    }
    channels = [channel.label or "" for channel in image.omero.channels] if image.omero else []
    array = da.from_zarr(groups[scene][finest.path])
    return array, letters, spacing, channels if all(channels) else []


def _bioio(path: Path) -> Any:
    try:
        from bioio import BioImage
    except ImportError:
        raise ValueError(
            f"{path.suffix or path.name} is read by bioio and its reader for this format, which are not "
            "here: pip install 'napari-vdip[formats]' and, for example, bioio-nd2, bioio-czi or bioio-lif"
        ) from None
    return BioImage(path)


def _foreign(path: Path, scene: int) -> tuple[Any, str, Spacing, list[str]]:
    image = _bioio(path)
    image.set_scene(scene)
    spacing = {}
    for axis in "TZYX":
        step = getattr(image.scale, axis)
        seconds = getattr(step, "total_seconds", None)  # some readers give times as timedelta
        unit = getattr(image.dimension_properties, axis).unit
        if step:
            spacing[axis] = (seconds(), "second") if seconds else (abs(float(step)), unit and str(unit))
    letters = image.dims.order
    return image.get_image_dask_data(letters), letters, spacing, [*map(str, image.channel_names or ())]


def _unit(symbol: Any) -> str | None:
    """Return the name of a unit, or `None` if it is none, such as pixel."""
    text = str(symbol or "").replace("\\u00B5", "µ").replace("μ", "µ").strip()  # two letters look like mu
    return UNITS.get(text, text if text in UNITS.values() else None)


def _listed(value: Any) -> list[Any]:
    """Return what XML says once or several times as a list."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _natural(name: str) -> list[Any]:
    """Sort key in which 10 comes after 9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
