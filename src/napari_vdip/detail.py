"""Where an image tells most about its blur."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from napari_vdip.operators import gradient

if TYPE_CHECKING:
    from napari_vdip.operators import Size
    from napari_vdip.tiling import Region


def detail(image: Tensor, variance: Tensor) -> Tensor:
    """Energy of the gradient above that of the noise, in variances of the noise.

    It does not depend on the unit of the intensities, and has the mean zero where there is noise alone.

    Parameters
    ----------
    image, variance : Tensor
        ``(1, C, Y, X)``: an image and the variance of its noise.

    Returns
    -------
    Tensor
        ``(Y - 1, X - 1)``, the sum over channels and both directions.
    """
    down, right = gradient(image)
    below = variance[..., 1:, :] + variance[..., :-1, :]
    beside = variance[..., 1:] + variance[..., :-1]
    vertical = (down.square() / below - 1)[..., :-1]
    horizontal = (right.square() / beside - 1)[..., :-1, :]
    return (vertical + horizontal)[0].sum(0)


def most_detailed(energy: Tensor, size: Size) -> tuple[Region, float]:
    """Find the part of a size that has the largest sum of the energy of `detail`.

    Returns
    -------
    tuple of slice
        Its rows and columns.
    float
        The sum.
    """
    rows, columns = (side - 1 for side in size)  # differences have one row and column less
    total = F.pad(energy.cpu().double().cumsum(0).cumsum(1), (1, 0, 1, 0))
    bands = total[rows:] - total[: len(total) - rows]
    sums = bands[:, columns:] - bands[:, : bands.shape[1] - columns]
    top, left = divmod(int(sums.argmax()), sums.shape[1])
    return (slice(top, top + size[0]), slice(left, left + size[1])), float(sums.max())
