"""Point spread functions from a result to a file, and from a file to a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer

from napari_vdip._layers import full, right_of
from napari_vdip.psf_file import SAME

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari.layers import Image

    from napari_vdip._checked import Checked, Index

ENDINGS = (".ome.tif", ".ome.tiff")


def exporting(this: Checked, index: Index, path: Path) -> Generator[None, None, Path]:
    """Write the point spread function of a plane as OME-TIFF with its pixel size; return the file.

    What does not end so gets the ending ``.ome.tif``.
    """
    from napari_vdip.io import write_ome_tiff

    if not path.name.endswith(ENDINGS):
        path = path.with_name(path.name.removesuffix(".tiff").removesuffix(".tif") + ENDINGS[0])
    size = this.pixel_size()
    spacing = {axis: (side, "micrometer") for axis, side in zip("YX", size, strict=True)} if size else None
    write_ome_tiff(path, this.psf(index), "YX", spacing=spacing, provenance=this.result.metadata)
    yield
    return path


def opening(path: Path) -> Generator[None, None, Layer]:
    """Read a point spread function from a file, and return a layer with its pixel size.

    Raises
    ------
    ValueError
        If the file cannot be read, or holds no point spread function.
    """
    from napari_vdip.image_file import read
    from napari_vdip.kernels import normalised

    file = read(path)
    yield
    psf = np.asarray(file.array)
    normalised(psf, path.name)  # or it would only be refused when the next run begins
    spacing = [file.spacing.get(axis, (1.0, None)) for axis in file.axes]
    look: dict[str, Any] = {
        "name": path.name.partition(".")[0],
        "scale": [step for step, _ in spacing],
        "units": [unit or "pixel" for _, unit in spacing],
        "axis_labels": list(file.axes.lower()),
        "colormap": "viridis",
    }
    return Layer.create(psf, look, "image")


def put_beside(psf: Layer, image: Image) -> None:
    """Put a point spread function at the right of an image, as estimated ones are.

    If its file says no unit of length, its pixels are taken for those of the image.
    """
    if all(str(unit) == "pixel" for unit in psf.units[-2:]):
        psf.units = [*psf.units[:-2], *image.units[-2:]]
        psf.scale = [*psf.scale[:-2], *image.scale[-2:]]
    columns = full(image).shape[image.ndim - 1]  # colours are no axis of a layer
    corner = image.data_to_world([*[0] * (image.ndim - 1), right_of(columns)])
    psf.translate = [*psf.translate[:-2], *corner[-2:]]


def other_pixels(psf: Layer, image: Image | None) -> str:
    """Say that the pixels of a point spread function are not those of an image; nothing if they may be."""
    if image is None:
        return ""
    for ours, theirs, unit, other in zip(
        psf.scale[-2:], image.scale[-2:], psf.units[-2:], image.units[-2:], strict=True
    ):
        lengths = unit.is_compatible_with("micrometer") and other.is_compatible_with("micrometer")
        if lengths and abs((abs(ours) * unit / (abs(theirs) * other)).to("").magnitude - 1) > SAME:
            return (
                f"{psf.name!r} has pixels of {ours:g} {unit}, and {image.name!r} of {theirs:g} {other}: "
                "expected the same."
            )
    return ""
