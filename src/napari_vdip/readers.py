"""What files hold: libraries read, and here is what they say of axes, spacing and channels.

Nothing is loaded before it is needed: every array is a dask array, cut where the file is.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import finalize

import numpy as np

from napari_vdip.images import check_memory
from napari_vdip.tiff_metadata import of_imagej, of_ome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_vdip.tiff_metadata import Spacing

FLAT = (".png", ".jpg", ".jpeg")
TIFF = (".tif", ".tiff")
ZARR = (".zarr",)
SILENT = (".czi", ".lif")
"""Formats whose readers of bioio give sizes in `KNOWN_UNITS`, but do not say so."""
KNOWN_UNITS = {**dict.fromkeys("ZYX", "micrometer"), "T": "second"}
PNG_DEPTH = 24
"""Place in a PNG of the byte that says how many bits a colour has."""
MOST_EXPANSION = 10_000
"""Ratio of the bytes of a page to those in its file: what is claimed beyond is not there."""
MOST_CHUNKS = 10_000_000
"""Chunks of an array, each of which is a task; more are a mistake, or meant to fill the memory."""


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
    origin : mapping
        For an axis where its first pixel is, in the unit of its spacing; axes at zero may be missing.
    colours : sequence of str
        Colours ``RRGGBB`` of the channels; empty if the file has none.
    """

    array: Any
    letters: str
    spacing: Spacing
    channels: list[str]
    origin: Mapping[str, float] = MappingProxyType({})
    colours: Sequence[str] = ()


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


def files(path: Path) -> frozenset[Path]:
    """All files that hold the images of one: itself, and the others of an OME-TIFF in several files."""
    held = {path.resolve()}
    if path.is_file() and path.suffix.lower() in TIFF:
        from tifffile import TiffFile

        with TiffFile(path) as file:
            several = (series for series in file.series if series.is_multifile)
            pages = (page for series in several for page in series.pages if page is not None)
            held |= {Path(page.parent.filehandle.path).resolve() for page in pages}
    return frozenset(held)


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
        colours: list[str] = []
        if file.ome_metadata:
            spacing, channels, colours = of_ome(file.ome_metadata, scene)
        elif file.imagej_metadata:
            spacing = of_imagej(file.imagej_metadata, file.pages.first.tags)
    file = TiffFile(path)
    store = file.series[scene].aszarr(level=0)
    finalize(store, file.close)  # when the array is gone
    return Found(_lazy(zarr.open_array(store, mode="r")), letters, spacing, channels, colours=colours)


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


def _flat(path: Path) -> Found:
    import dask.array as da
    from dask.delayed import delayed
    from PIL import Image, ImageMode

    with Image.open(path) as image, path.open("rb") as file:
        depth = file.read(PNG_DEPTH + 1)[PNG_DEPTH:]
        if image.format == "PNG" and depth == b"\x10" and len(image.getbands()) > 1:
            raise ValueError(
                "expected 8 bits for each colour of a PNG, got 16, of which half would be lost: save it as "
                "TIFF"
            )
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
    scale, origin = np.ones(len(multiscale.axes)), np.zeros(len(multiscale.axes))
    for transform in (*finest.coordinateTransformations, *(multiscale.coordinateTransformations or ())):
        factor = getattr(transform, "scale", 1.0)
        scale, origin = scale * factor, origin * factor + getattr(transform, "translation", 0.0)
    letters = "".join((axis.name[:1] or "?").upper() for axis in multiscale.axes)
    spacing = {
        letter: (float(step), axis.unit and str(axis.unit))
        for letter, axis, step in zip(letters, multiscale.axes, scale, strict=True)
        if step != 1 or axis.unit
    }
    channels = [channel.label or "" for channel in image.omero.channels] if image.omero else []
    colours = [str(channel.color or "") for channel in image.omero.channels] if image.omero else []
    if not all(re.fullmatch(r"[0-9A-Fa-f]{6}", colour) for colour in colours):
        colours = []
    array = _lazy(groups[scene][finest.path])
    places = dict(zip(letters, map(float, origin), strict=True))
    return Found(array, letters, spacing, channels if all(channels) else [], places, colours)


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
    units = KNOWN_UNITS if path.suffix.lower() in SILENT else {}
    spacing = {}
    for axis in "TZYX":
        step = getattr(image.scale, axis)
        seconds = getattr(step, "total_seconds", None)  # some readers give times as timedelta
        unit = getattr(image.dimension_properties, axis).unit or units.get(axis)
        if step:
            spacing[axis] = (seconds(), "second") if seconds else (abs(float(step)), unit and str(unit))
    letters = image.dims.order
    channels = [*map(str, image.channel_names or ())]
    return Found(image.get_image_dask_data(letters), letters, spacing, channels)


def _natural(name: str) -> list[Any]:
    """Sort key in which 10 comes after 9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
