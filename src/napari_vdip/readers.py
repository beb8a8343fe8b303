"""What files hold: libraries read, and here is what they say of axes, spacing and channels.

Nothing is loaded before it is needed: every array is a dask array, cut where the file is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import finalize

import numpy as np

from napari_vdip.images import check_memory

if TYPE_CHECKING:
    from pathlib import Path

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
MOST_EXPANSION = 10_000
"""Ratio of the bytes of a page to those in its file: what is claimed beyond is not there."""
MOST_CHUNKS = 10_000_000
"""Chunks of an array, each of which is a task; more are a mistake, or meant to fill the memory."""
Spacing = Mapping[str, tuple[float, str | None]]
"""For an axis the distance from one pixel to the next, and its unit where it is known."""


class Found(NamedTuple):
    """An image as its file has it.

    Attributes
    ----------
    array : dask array
        The intensities.
    letters : str
        One letter for each axis; S for colours, and any where the file does not say.
    spacing : mapping
        See `Spacing`; axes that the file says nothing of are missing.
    channels : sequence of str
        Names of the channels; empty if the file has none.
    """

    array: Any
    letters: str
    spacing: Spacing
    channels: list[str]


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
        If the file cannot be read; the message says why. Libraries may raise errors of other types.
    """
    _check_not_empty(path)
    if path.is_dir() and any(not (part.is_file() or part.is_dir()) for part in path.rglob("*")):
        raise ValueError("expected files and folders in the store, got something else, such as a pipe")
    if path.suffix.lower() in TIFF:
        from tifffile import TiffFile

        with TiffFile(path) as file:
            return tuple(series.name for series in file.series)
    if path.suffix.lower() in ZARR:
        return tuple(_zarr_images(path))
    if path.suffix.lower() in FLAT:
        return ("",)
    return tuple(str(name) for name in _bioio(path).scenes)


def found(path: Path, scene: int = 0) -> Found:
    """Open an image of a file without loading it."""
    _check_not_empty(path)
    suffix = path.suffix.lower()
    if suffix in TIFF:
        return _tiff(path, scene)
    if suffix in ZARR:
        return _zarr(path, scene)
    if suffix in FLAT:
        return _flat(path)
    return _foreign(path, scene)


def _check_not_empty(path: Path) -> None:
    if path.is_file() and not path.stat().st_size:
        raise ValueError("expected an image, got an empty file")


def _tiff(path: Path, scene: int) -> Found:
    import zarr
    from tifffile import TiffFile

    with TiffFile(path) as file:
        if scene >= len(file.series):
            raise ValueError(f"expected at least {scene + 1} images, got {len(file.series)}")
        page, kind = file.series[scene].keyframe, file.series[scene].dtype
        there = min(sum(page.databytecounts), page.parent.filehandle.size)
        if math.prod(page.shape) * kind.itemsize > MOST_EXPANSION * there:
            raise ValueError(f"expected pixels of shape {page.shape}, got {there} bytes")
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
    return Found(_lazy(zarr.open_array(store, mode="r")), letters, spacing, channels)


def _lazy(stored: Any) -> Any:
    """Return a Zarr array as a dask array, unless the size that it claims cannot be worked with."""
    import dask.array as da

    if 0 in stored.shape or 0 in stored.chunks:
        raise ValueError(f"expected pixels, got shape {stored.shape} in chunks of {stored.chunks}")
    chunks = math.prod(-(-size // chunk) for size, chunk in zip(stored.shape, stored.chunks, strict=True))
    if chunks > MOST_CHUNKS:
        raise ValueError(f"expected at most {MOST_CHUNKS} chunks, got {chunks} for shape {stored.shape}")
    size = math.prod(stored.chunks) * stored.dtype.itemsize
    check_memory(size, "expected a chunk", stored.chunks)
    return da.from_zarr(stored)


def _ome_metadata(xml: str, scene: int) -> tuple[Spacing, list[str]]:
    from tifffile import xml2dict

    images = _listed(xml2dict(xml)["OME"].get("Image"))
    pixels = images[scene].get("Pixels", {}) if scene < len(images) else {}
    names = {axis: f"PhysicalSize{axis}" for axis in "ZYX"} | {"T": "TimeIncrement"}
    spacing = {
        axis: (_number(pixels[name]), _unit(pixels.get(f"{name}Unit", "s" if axis == "T" else "µm")))
        for axis, name in names.items()
        if name in pixels
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
        spacing["Z"] = (abs(_number(metadata["spacing"])), unit)
    if metadata.get("finterval"):
        spacing["T"] = (_number(metadata["finterval"]), "second")
    return spacing


def _flat(path: Path) -> Found:
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
    return Found(array, "YXS"[: array.ndim], {}, [])


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


def _zarr(path: Path, scene: int) -> Found:
    from pydantic import ValidationError
    from yaozarrs import validate_ome_object

    groups = [*_zarr_images(path).values()]
    if scene >= len(groups):
        raise ValueError(f"expected at least {scene + 1} images, got {len(groups)}")
    attributes = groups[scene].attrs.asdict()
    try:
        image: Any = validate_ome_object(attributes.get("ome", attributes))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(
            str(part) for part in first["loc"] if not str(part).startswith(("union", "tagged"))
        )
        raise ValueError(f"expected metadata of OME-Zarr, got {where}: {first['msg']}") from None
    multiscale = image.multiscales[0]
    finest = multiscale.datasets[0]
    scale = np.ones(len(multiscale.axes))
    for transform in (*finest.coordinateTransformations, *(multiscale.coordinateTransformations or ())):
        scale *= getattr(transform, "scale", 1.0)
    letters = "".join((axis.name[:1] or "?").upper() for axis in multiscale.axes)
    spacing = {
        letter: (float(step), axis.unit and str(axis.unit))
        for letter, axis, step in zip(letters, multiscale.axes, scale, strict=True)
        if step != 1 or axis.unit
    }
    channels = [channel.label or "" for channel in image.omero.channels] if image.omero else []
    array = _lazy(groups[scene][finest.path])
    return Found(array, letters, spacing, channels if all(channels) else [])


def _bioio(path: Path) -> Any:
    try:
        from bioio import BioImage
    except ImportError:
        raise ValueError(
            f"{path.suffix or path.name} is read by bioio and its reader for this format, which are not "
            "here: pip install 'napari-vdip[formats]' and, for example, bioio-nd2, bioio-czi or bioio-lif"
        ) from None
    return BioImage(path)


def _foreign(path: Path, scene: int) -> Found:
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
    channels = [*map(str, image.channel_names or ())]
    return Found(image.get_image_dask_data(letters), letters, spacing, channels)


def _number(text: Any) -> float:
    """Return the number that a text holds, or NaN: a size that cannot be read is unknown."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


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
