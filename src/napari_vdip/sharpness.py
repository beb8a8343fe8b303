"""How sharp an image is, and what follows from it for its kernel and its prior."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_vdip.kernels import is_round
from napari_vdip.noise import fine_detail
from napari_vdip.operators import size_of

if TYPE_CHECKING:
    from torch import Tensor

    from napari_vdip.settings import Settings

SMOOTH = 2.0
"""Fine detail, relative to the noise, up to which an image has none."""
SHARPEST = 5.0
"""Largest sharpness of an image."""
ROUND = 1.5
"""Sharpness up to which round Gaussians are tried. An image with finer detail tells its blur itself, and
what a kernel does not explain of its edges would decide for a Gaussian."""
FLOOR = 0.05
"""Floor of the gradient, in noise levels, of an image without detail as fine as its pixels."""
PSF_ERROR = 2e-4
"""Expected sum of the squared errors of its kernel."""
SHARP_PSF_ERROR = 2e-3
"""The same in the sharpest image."""
RESOLUTION = 0.5
"""Standard deviation in pixels of the Gaussian that the structure of an image is not sharper than, where it
has no detail as fine as its pixels."""
NARROW = 1.25
"""Standard deviation in pixels of a kernel that half the resolution is too coarse for."""


def sharpness(image: Tensor, variance: Tensor) -> float:
    """Return how much fine detail stands out of the noise, between one and `SHARPEST`.

    For an image ``(1, C, Y, X)`` in [0, 1] and the variance of its noise, of the same shape. It tells what
    was seen through a lens, whose structure is smooth on the scale of pixels, from photographs, whose edges
    are one pixel wide. These are blurred by bent tracks, of which more can be wrong than of a spot, and
    their noise is so weak that what the model leaves out matters more: the variance of both together is
    taken to be that of the noise times the sharpness.
    """
    return min(max(fine_detail(image, variance) / SMOOTH, 1.0) ** 2, SHARPEST)


def relative(sharp: float) -> float:
    """Return a sharpness on a scale from 0, without detail as fine as pixels, to 1, the sharpest."""
    return (sharp - 1) / (SHARPEST - 1)


def floor_of(sharp: float, variance: Tensor, settings: Settings) -> float:
    """Return the gradient, in [0, 1] units, below which the prior makes no difference.

    The prior is not to sharpen smooth structure; sharp edges tell of their blur only as far as the prior
    lets them be.
    """
    levels = FLOOR / sharp if settings.gradient_floor is None else settings.gradient_floor
    return levels * float(variance.median().sqrt())


def psf_error_of(sharp: float, settings: Settings) -> float:
    """Return the sum of squared errors that is expected of the kernel, for the sharpness of an image."""
    if settings.psf_error is not None:
        return settings.psf_error
    return PSF_ERROR + relative(sharp) * (SHARP_PSF_ERROR - PSF_ERROR)


def resolution_of(kernel: Tensor, sharp: float, settings: Settings) -> float:
    """Return the standard deviation of the Gaussian that a latent image is not sharper than, in pixels.

    For its kernel ``(1, 1, kh, kw)`` and the sharpness of its image. What the sparse prior holds for the
    structure of a specimen is sharper than pixels can show, and the Gaussian that predicts best is wider
    than the blur, by as much (a sieve: Snyder and Miller, 1985). Zero for sharp images, and for kernels
    that are not round: edges have told what they are.
    """
    smooth = settings.gaussians and sharp <= ROUND
    return RESOLUTION if smooth and is_round(kernel[0, 0].cpu().numpy()) else 0.0


def kept_amplitude(kernel: Tensor, sharp: float) -> float:
    """Return how far a kernel, at half the resolution, keeps the amplitude that the full one has found.

    For a kernel ``(1, 1, kh, kw)`` and the sharpness of its image: from 0, nothing of it, to 1, all of it,
    for the sharpest image. A kernel narrower than `NARROW` keeps all.
    """
    places = [torch.arange(side, device=kernel.device) - side // 2 for side in size_of(kernel)]
    profiles = kernel[0, 0].sum(1), kernel[0, 0].sum(0)
    variances = [
        float((profile * place**2).sum() - (profile * place).sum() ** 2)
        for profile, place in zip(profiles, places, strict=True)
    ]
    narrow = sum(variances) / 2 < NARROW**2
    return 1.0 if narrow else relative(sharp)
