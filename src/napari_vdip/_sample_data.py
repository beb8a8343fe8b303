"""Sample data, generated or bundled with scikit-image: nothing is downloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.signal import fftconvolve
from skimage import data

from napari_vdip.scenes import cells

if TYPE_CHECKING:
    from numpy.typing import NDArray

LayerDataTuple = tuple[Any, dict[str, Any], str]
PIXEL_SIZE = 0.1
"""Micrometres."""


def one_channel() -> list[LayerDataTuple]:
    """Return cells seen through an aberrated objective, and the truth."""
    scene = cells()
    look = {"scale": (PIXEL_SIZE,) * 2, "units": ("um", "um"), "axis_labels": ("y", "x")}
    return _with_truth("cells", scene.blurred, scene.latent, look)


def two_channels() -> list[LayerDataTuple]:
    """Return two channels with point spread functions of different width, and the truth."""
    scenes = [cells(seed=0, psf_size=15), cells(seed=1, psf_size=25)]
    look = {
        "scale": (1, PIXEL_SIZE, PIXEL_SIZE),
        "units": ("pixel", "um", "um"),
        "axis_labels": ("c", "y", "x"),
    }
    blurred, latent = (
        np.stack([getattr(scene, name) for scene in scenes]) for name in ("blurred", "latent")
    )
    return _with_truth("two channels", blurred, latent, look)


def photograph() -> list[LayerDataTuple]:
    """Return a colour photograph blurred by a moving camera, and the truth."""
    latent = data.chelsea()[30:286, 90:346]  # type: ignore[no-untyped-call, unused-ignore]
    padded = np.pad(latent, ((7, 7), (7, 7), (0, 0)), mode="reflect")
    blurred = fftconvolve(padded, shake()[..., None], mode="valid", axes=(0, 1))
    return _with_truth("photograph", blurred.round().clip(0, 255).astype(np.uint8), latent, {"rgb": True})


def shake(size: int = 15) -> NDArray[np.float64]:
    """Convolution kernel ``(size, size)`` of a camera that moves along an arc; sums to one."""
    time = np.linspace(-1, 1, 1000)
    edge = size / 2
    y, x = 0.3 * size * (time**2 - 0.5), 0.4 * size * time
    return np.histogram2d(y, x, bins=size, range=((-edge, edge),) * 2)[0] / len(time)


def _with_truth(name: str, blurred: Any, latent: Any, look: dict[str, Any]) -> list[LayerDataTuple]:
    """Return the truth, hidden, under the blurred image."""
    return [
        (latent, {**look, "name": f"{name} truth", "visible": False}, "image"),
        (blurred, {**look, "name": name}, "image"),
    ]
