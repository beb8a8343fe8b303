"""How wide a blur can be, by how the power of an image falls with frequency.

The power of structure that looks the same at every scale falls as a power of the frequency, and a round
Gaussian multiplies it by ``exp(-(2 pi width f)**2)``: a linear fit to its logarithm tells both (as in the
APEX method of Carasso, SIAM J. Appl. Math. 61, 2001). Real structure has a finest scale of its own, which
passes for blur: what is found is an upper limit.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear

if TYPE_CHECKING:
    from torch import Tensor

Real = NDArray[np.floating]

LOWEST, HIGHEST = 0.02, 0.4
"""Frequencies, in cycles per pixel, between which the power is looked at; above, it is taken for noise."""
RINGS = 25
"""Rings of frequencies, in equal ratios."""
STANDS_OUT = 0.2
"""Power, relative to that of the noise, down to which it is looked at."""
SCATTER = 0.15
"""Standard deviation of the logarithm of a ring's power about a smooth curve, beside that of chance."""
LEAST_RINGS = 6
"""Rings without which nothing is said."""
STEEPEST = 3.0
"""Power of the frequency with which that of sharp edges falls, the steepest that is taken for no blur."""
FREEDOM = 3.0
"""Frequencies of a ring for each that is independent: neighbours are not, under a window."""


def ring_powers(image: Tensor) -> tuple[Real, Real, Real]:
    """Return the frequencies of rings, the power there above that of the noise, and its standard error.

    For an image ``(1, C, Y, X)``; up to the ring where the noise is all there is.
    """
    height, width = image.shape[-2:]
    rows, columns = (np.hanning(side + 2)[1:-1] for side in (height, width))
    window = rows[:, None] * columns
    pixels = image[0].double().cpu().numpy()
    centred = (pixels - pixels.mean((-2, -1), keepdims=True)) * window
    power = (np.abs(np.fft.fft2(centred)) ** 2).mean(0) / np.square(window).sum()
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    noise = power[(frequency > HIGHEST) & (frequency <= 0.5)].mean()
    edges = np.geomspace(LOWEST, HIGHEST, RINGS + 1)
    rings = []
    for lower, upper in itertools.pairwise(edges):
        inside = (frequency >= lower) & (frequency < upper)
        if not inside.any():
            continue
        mean = power[inside].mean()
        if mean - noise <= STANDS_OUT * noise:
            break
        error = mean / math.sqrt(max(inside.sum() / FREEDOM, 1))
        rings.append((math.sqrt(np.square(frequency[inside]).mean()), mean - noise, error))
    frequencies, powers, errors = np.array(rings).reshape(-1, 3).T
    return frequencies, powers, errors


def widest(image: Tensor) -> float:
    """Return the largest standard deviation in pixels of a round Gaussian that an image can be blurred by.

    For an image ``(1, C, Y, X)`` in any unit. Infinite where its power does not tell.
    """
    frequencies, powers, errors = ring_powers(image)
    if len(frequencies) < LEAST_RINGS:
        return math.inf
    weights = 1 / np.hypot(errors / powers, SCATTER)
    design = np.stack([np.ones_like(powers), -np.log(frequencies), -np.square(2 * np.pi * frequencies)], 1)
    bounds = ([-np.inf, 0, 0], [np.inf, STEEPEST, np.inf])
    line = lsq_linear(weights[:, None] * design, weights * np.log(powers), bounds, method="bvls")
    return math.sqrt(line.x[2])
