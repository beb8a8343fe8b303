"""Files out. Thin: libraries do the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def write_ome_tiff(
    path: Path, array: NDArray[Any], axes: str, pixel_size: float | None = None, unit: str = "µm"
) -> None:
    """Write a float32 OME-TIFF; the file appears under its name only when it is whole.

    Parameters
    ----------
    path : Path
        File to write, ending in ``.ome.tif`` or ``.ome.tiff``.
    array : array
        Image of any shape.
    axes : str
        One letter for each axis, of ``TZCYX``.
    pixel_size : float, optional
        Height and width of a pixel.
    unit : str
        Unit of the pixel size.
    """
    metadata: dict[str, Any] = {"axes": axes}
    if pixel_size is not None:
        for axis in "XY":
            metadata |= {f"PhysicalSize{axis}": pixel_size, f"PhysicalSize{axis}Unit": unit}
    part = path.with_name(f".part-{path.name}")
    try:
        tifffile.imwrite(
            part, np.asarray(array, np.float32), ome=True, photometric="minisblack", metadata=metadata
        )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
