"""Known point spread functions in files, for the planes of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_vdip.image_file import read
from napari_vdip.images import as_array

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_vdip.image_file import ImageFile
    from napari_vdip.stack import Plan

SAME = 0.01
"""Relative difference of pixel sizes that rounding may make."""


def read_psfs(path: Path, image: ImageFile, planes: Plan) -> NDArray[Any]:
    """Read point spread functions for the planes of an image.

    Parameters
    ----------
    path : Path
        What `image_file.read` reads: one for all planes with the axes Y and X, or several with further
        axes of the image.
    image : ImageFile
        The image.
    planes : Plan
        Its planes.

    Returns
    -------
    array
        With the axes `Plan.psf_axes`, with one entry where the file has no such axis.

    Raises
    ------
    ValueError
        If the axes are not those of the image, or both say how large their pixels are, in the same unit,
        and differ.
    """
    psf = read(path)
    if set(psf.axes) - set(planes.psf_axes):
        raise ValueError(f"psf: expected some of the axes {planes.psf_axes}, got {psf.axes} in {path}")
    for axis in "YX":
        (size, unit), (expected, needed) = (one.spacing.get(axis, (1.0, None)) for one in (psf, image))
        if unit and unit == needed and abs(size / expected - 1) > SAME:
            raise ValueError(
                f"psf: expected pixels of {expected:g} {unit} along {axis}, as the image has, got {size:g}"
            )
    missing = [at for at, axis in enumerate(planes.psf_axes) if axis not in psf.axes]
    return np.expand_dims(as_array(psf.array, "psf"), missing)
