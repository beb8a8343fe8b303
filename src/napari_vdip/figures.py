"""A result at one look, beside a known truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from napari_vdip.metrics import aligned_quality

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from napari_vdip.result import Deconvolution
    from napari_vdip.scenes import Scene


def side_by_side(scene: Scene, result: Deconvolution, pixel_size: float) -> Figure:
    """Draw blurred, latent and true image, the std map and both point spread functions.

    Parameters
    ----------
    scene : Scene
        Single-channel scene.
    result : Deconvolution
        Its variational deconvolution.
    pixel_size : float
        Height and width of a pixel in micrometres.
    """
    figure = Figure(figsize=(13, 7.6), layout="constrained", facecolor="#14171c")
    panels = figure.subplot_mosaic("ABC\nDEF", height_ratios=[1, 1])
    limits = (0.0, float(np.percentile(scene.latent, 99.7)))
    data_range = float(np.ptp(scene.latent))
    before = aligned_quality(scene.blurred, scene.latent, data_range=data_range)
    after = aligned_quality(result.latent, scene.latent, data_range=data_range)
    _image(panels["A"], scene.blurred, f"blurred image, {before.psnr:.1f} dB", limits, "gray")
    _image(panels["B"], result.latent, f"latent image, {after.psnr:.1f} dB", limits, "gray")
    _image(panels["C"], scene.latent, "truth", limits, "gray")
    _scale_bar(panels["A"], scene.blurred.shape[1], pixel_size)
    if result.std is not None:
        highest = float(np.percentile(result.std, 99.5))
        shown = _image(panels["D"], result.std, "standard deviation (photons)", (0, highest), "magma")
        bar = figure.colorbar(shown, ax=panels["D"], fraction=0.046, pad=0.02)
        bar.ax.tick_params(colors="#c9d1d9", labelsize=8)
        bar.outline.set_visible(False)
    brightest = float(max(result.psf.max(), scene.psf.max()))
    _image(panels["E"], result.psf, "estimated point spread function", (0, brightest), "inferno")
    padded = _same_window(scene.psf, result.psf.shape)
    _image(panels["F"], padded, "true point spread function", (0, brightest), "inferno")
    return figure


def _image(axes: Axes, image: NDArray[Any], title: str, limits: tuple[float, float], cmap: str) -> Any:
    axes.set_title(title, color="#e6edf3", fontsize=11)
    axes.set_axis_off()
    return axes.imshow(image, cmap=cmap, vmin=limits[0], vmax=limits[1], interpolation="nearest")


def _scale_bar(axes: Axes, width: int, pixel_size: float) -> None:
    micrometres = 5.0
    pixels = micrometres / pixel_size
    left, row = 0.05 * width, 0.95 * width
    axes.plot([left, left + pixels], [row, row], color="white", linewidth=3, solid_capstyle="butt")
    middle, above = left + pixels / 2, row - 0.015 * width
    axes.text(middle, above, f"{micrometres:.0f} µm", color="white", ha="center", va="bottom", fontsize=9)


def _same_window(psf: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Pad a point spread function with zeros, or crop it, to a window."""
    result = np.zeros(shape, psf.dtype)
    common = [min(a, b) for a, b in zip(psf.shape, shape, strict=True)]
    into, out_of = (
        tuple(slice((n - c) // 2, (n - c) // 2 + c) for n, c in zip(full, common, strict=True))
        for full in (shape, psf.shape)
    )
    result[into] = psf[out_of]
    return result
