"""What pixels that are left out tell of a kernel: whether it has haze."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_vdip.candidate import gradient_noise, gradients
from napari_vdip.detail import detail, most_detailed
from napari_vdip.operators import size_of
from napari_vdip.solvers import TINY
from napari_vdip.support import cleared

if TYPE_CHECKING:
    from torch import Tensor

    from napari_vdip.operators import Size
    from napari_vdip.prediction import HeldOut
    from napari_vdip.tiling import Region

HAZES = (0.6, 0.5, 0.4, 0.3, 0.2)
"""Parts of its maximum below which entries of a kernel may be haze (see `support_of`), largest first. Not
less: the faint end of a blur would go."""
CLEARER = 2.0
"""Standard errors by which a kernel without haze has to predict better than with it."""
CERTAIN = 5.0
"""Standard errors of an entry beyond which it is no haze, however faint it is beside others: the tail of a
wide blur."""
LEFT_OUT = 0.2
"""Part of the pixels that is left out to judge a free kernel: more than for a width, as more depends on
it."""
JUDGED = 256
"""Side in pixels, or two windows of the kernel, of the part of an image that tells all this, the one with
the most detail: twenty predictions of the whole would take most of the time of a run."""


def without_haze(kernel: Tensor, held_out: HeldOut, entry_error: float) -> Tensor:
    """Return the most compact form of a kernel that predicts better than all of it, and not by chance.

    Strong noise leaves haze in a kernel, entries that are not far above their standard error. Where the
    blur is faint and wide, what looks like it is none: pixels that are left out tell.

    Parameters
    ----------
    kernel : Tensor
        ``(1, 1, kh, kw)``, non-negative, sums to one.
    held_out : HeldOut
        The image that it is of, with some pixels left out.
    entry_error : float
        Standard error of an entry, see `error_of_entry`.
    """
    hazes = [faint for faint in HAZES if faint * float(kernel.max()) <= CERTAIN * entry_error]
    if not hazes:
        return kernel
    whole = held_out.predict(kernel)
    for faint in hazes:
        compact = cleared(kernel, faint)
        gain, error = held_out.predict(compact).advantage(whole)
        if gain > CLEARER * error:
            return compact
    return kernel


def error_of_entry(latent: Tensor, variance: Tensor) -> float:
    """Return the standard error of one entry of a kernel, as if the others were known.

    For a latent image ``(1, C, H, W)`` and the variance ``(1, C, Y, X)`` of the noise of its blurred image.
    """
    confidence = gradient_noise(variance).reciprocal().mean((-2, -1), keepdim=True)
    return float((confidence * gradients(latent).square()).sum().clamp_min(TINY).rsqrt())


def judged_part(image: Tensor, variance: Tensor, window: Size) -> tuple[Tensor, Tensor]:
    """Return the part of an image ``(1, C, Y, X)`` with the most detail, and the variance of its noise."""
    region = judged_region(image, variance, window)
    return image[..., *region], variance[..., *region]


def judged_region(image: Tensor, variance: Tensor, window: Size) -> Region:
    """Rows and columns of that part."""
    return most_detailed(detail(image, variance), judged_size(size_of(image), window))[0]


def judged_size(size: Size, window: Size) -> Size:
    """Sides of that part."""
    height, width = (min(n, max(JUDGED, 2 * w)) for n, w in zip(size, window, strict=True))
    return height, width
