"""The noise of a blurred image: a variance that grows with the intensity, as photon counts do."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import nnls
from torch import Tensor

SMALLEST_NOISE = 1e-3
"""Standard deviation, in [0, 1] units, below which other errors of the model are larger."""
BINS = 16
MEDIAN_TO_DEVIATION = 0.6745
"""Median of the absolute value of a standard normal variable."""


def noise_variance(image: Tensor) -> Tensor:
    """Estimate the variance of the noise at every pixel of a blurred image.

    A second difference in both directions removes what is smooth (Immerkaer, 1996). Its median in each
    of several ranges of intensity, which ignores the few pixels where the image is not smooth, gives
    the line ``readout + gain * intensity`` of a camera that counts photons.

    Parameters
    ----------
    image : Tensor
        ``(1, C, Y, X)`` in [0, 1].

    Returns
    -------
    Tensor
        ``(1, C, Y, X)``, each channel with a line of its own.
    """
    stencil = image.new_tensor([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate").transpose(0, 1)
    noise = F.conv2d(padded, stencil.view(1, 1, 3, 3) / stencil.norm()).abs().transpose(0, 1)
    intensity = F.avg_pool2d(padded, 3, stride=1).transpose(0, 1)
    variances = [_line(intensity[0, c], noise[0, c]) for c in range(image.shape[1])]
    return torch.stack(variances)[None].clamp_min(SMALLEST_NOISE**2)


def _line(intensity: Tensor, noise: Tensor) -> Tensor:
    """Variance ``(Y, X)`` by a non-negative line through the bins' medians, fitted to relative errors."""
    order = intensity.flatten().argsort()
    means = [part.mean() for part in intensity.flatten()[order].tensor_split(BINS)]
    medians = [part.median() for part in noise.flatten()[order].tensor_split(BINS)]
    x = torch.stack(means).double().cpu().numpy()
    deviations = (torch.stack(medians) / MEDIAN_TO_DEVIATION).clamp_min(SMALLEST_NOISE)
    variance = deviations.double().cpu().numpy() ** 2
    lowest = x[0]
    design = np.stack([np.ones_like(x), x - lowest], 1) / variance[:, None]
    readout, gain = map(float, nnls(design, np.ones_like(x))[0])
    return readout + gain * (intensity - float(lowest)).clamp_min(0)
