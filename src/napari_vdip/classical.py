"""Classical deconvolution of a plane with a known point spread function by scikit-image, for comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable

Array = NDArray[np.float64]
ITERATIONS = 30
"""Of Richardson-Lucy, as in scikit-image's example."""
BORDER, NARROWEST_BORDER = 2, 32
"""Extension of the image, in sides of the window and at least in pixels: scikit-image takes what lies
beyond for black, or for the other end of the image."""
TINY = 1e-9
"""Part of the brightest intensity below which Richardson-Lucy does not divide."""


def richardson_lucy_of(image: NDArray[Any], psf: NDArray[np.floating]) -> Array:
    """Restore ``(Y, X, C)`` by `ITERATIONS` of Richardson-Lucy; intensities below zero are cut off."""
    from skimage.restoration import richardson_lucy

    return _extended(
        image,
        psf,
        lambda channel, kernel: richardson_lucy(
            channel.clip(0), kernel, num_iter=ITERATIONS, clip=False, filter_epsilon=TINY
        ),
    )


def wiener_of(image: NDArray[Any], psf: NDArray[np.floating]) -> Array:
    """Restore ``(Y, X, C)`` by the Wiener filter that finds the weight of its regularisation itself."""
    from skimage.restoration import unsupervised_wiener

    return _extended(
        image, psf, lambda channel, kernel: unsupervised_wiener(channel, kernel, clip=False, rng=0)[0]
    )


HOW = {
    "Richardson-Lucy": f"richardson_lucy of scikit-image, {ITERATIONS} iterations, PSF of the result",
    "Wiener": "unsupervised_wiener of scikit-image, PSF of the result",
}
"""How they were made, for the metadata of the layers."""
METHODS: dict[str, Callable[[NDArray[Any], NDArray[np.floating]], Array]] = {
    "Richardson-Lucy": richardson_lucy_of,
    "Wiener": wiener_of,
}
"""What to compare with, by the names of the layers."""


def _extended(
    image: NDArray[Any], psf: NDArray[np.floating], restore: Callable[[Array, Array], Array]
) -> Array:
    """Restore channel by channel with a mirrored border, with intensities of at most one."""
    kernel = np.asarray(psf, np.float64)
    scale = float(np.abs(image).max()) or 1.0
    sides = [
        min(max(NARROWEST_BORDER, BORDER * n), m - 1) for n, m in zip(psf.shape, image.shape, strict=False)
    ]
    inside = tuple(slice(side, -side) for side in sides)
    channels = [
        restore(np.pad(channel / scale, [(side, side) for side in sides], mode="reflect"), kernel)[inside]
        for channel in np.moveaxis(np.asarray(image, np.float64), -1, 0)
    ]
    return np.stack(channels, -1) * scale
