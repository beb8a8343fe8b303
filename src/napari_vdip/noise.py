"""The noise of a blurred image, whose variance grows with the intensity, and what stands out of it."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import lsq_linear
from torch import Tensor

SMALLEST_NOISE = 1e-3
"""Standard deviation, in [0, 1] units, below which other errors of the model are larger."""
BINS = 16
MEDIAN_TO_DEVIATION = 0.6745
"""Median of the absolute value of a standard normal variable."""
FINE = (0.3, 0.4)
"""Frequencies of fine detail, in cycles per pixel; images that were interpolated lack the highest."""


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
    x = torch.stack(means).cpu().double().numpy()
    deviations = (torch.stack(medians) / MEDIAN_TO_DEVIATION).clamp_min(SMALLEST_NOISE)
    variance = deviations.cpu().double().numpy() ** 2
    lowest = x[0]
    design = np.stack([np.ones_like(x), x - lowest], 1) / variance[:, None]
    # Not nnls, which does not always end in SciPy 1.14.
    readout, gain = map(float, lsq_linear(design, np.ones_like(x), (0, np.inf), method="bvls").x)
    return readout + gain * (intensity - float(lowest)).clamp_min(0)


def fine_detail(image: Tensor, variance: Tensor) -> float:
    """Power of an image at the frequencies `FINE`, relative to that of its noise.

    One where there is noise alone, as under a lens: what it passes ends below these frequencies in an image
    that is well sampled. Much more where edges are as sharp as pixels, in photographs also if they moved.

    Parameters
    ----------
    image, variance : Tensor
        ``(1, C, Y, X)``: an image in any unit, and the variance of its noise in that unit squared.

    Returns
    -------
    float
        The mean over channels; one for an image too small to have such frequencies.
    """
    height, width = image.shape[-2:]
    rows, columns = (torch.hann_window(side + 2, periodic=False)[1:-1] for side in (height, width))
    window = (rows[:, None] * columns).to(image)
    centred = (image - image.mean((-2, -1), keepdim=True)) * window
    power = torch.fft.fft2(centred).abs().square() / window.square().sum()
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)).to(image)
    fine = (frequency > FINE[0]) & (frequency <= FINE[1])
    if not fine.any():
        return 1.0
    return float((power[..., fine].mean(-1) / variance.mean((-2, -1))).mean())
