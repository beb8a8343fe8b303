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


class Power:
    """The power of an image in rings of frequencies, up to the one where noise is all there is.

    Parameters
    ----------
    image : Tensor
        ``(1, C, Y, X)`` in any unit.
    """

    def __init__(self, image: Tensor):
        self._shape = height, width = image.shape[-2:]
        rows, columns = (np.hanning(side + 2)[1:-1] for side in self._shape)
        window = rows[:, None] * columns
        pixels = image[0].cpu().double().numpy()
        centred = (pixels - pixels.mean((-2, -1), keepdims=True)) * window
        power = (np.abs(np.fft.fft2(centred)) ** 2).mean(0) / np.square(window).sum()
        frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
        noise = power[(frequency > HIGHEST) & (frequency <= 0.5)].mean()
        edges = np.geomspace(LOWEST, HIGHEST, RINGS + 1)
        self._rings, powers, errors = [], [], []
        for lower, upper in itertools.pairwise(edges):
            ring = (frequency >= lower) & (frequency < upper)
            if not ring.any():
                continue
            mean = power[ring].mean()
            if mean - noise <= STANDS_OUT * noise:
                break
            self._rings.append(ring)
            powers.append(mean - noise)
            errors.append(mean / math.sqrt(max(ring.sum() / FREEDOM, 1)))
        self._squares = self._mean(np.square(frequency))
        self._logarithms = np.log(powers)
        self._weights = 1 / np.hypot(np.divide(errors, powers), SCATTER)

    def widest(self) -> float:
        """Return the largest standard deviation in pixels of a round Gaussian that can be the blur.

        Infinite where too few rings tell.
        """
        if len(self._rings) < LEAST_RINGS:
            return math.inf
        return math.sqrt(self._squared_width(self._logarithms, 0.0))

    def width_of(self, kernel: Tensor) -> float:
        """Return the standard deviation of the Gaussian that passes as much of these rings as a kernel.

        For a kernel ``(1, 1, kh, kw)`` that sums to one. Zero where too few rings tell.
        """
        if len(self._rings) < LEAST_RINGS:
            return 0.0
        weights = self._weights**2 * self._falls
        fall = -(weights @ self._passed(kernel)) / (weights @ self._falls)
        return math.sqrt(max(float(fall), 0.0))

    def excess_of(self, kernel: Tensor) -> float:
        """Return the standard deviation in pixels of the Gaussian by which a kernel blurs too much.

        For a kernel ``(1, 1, kh, kw)`` that sums to one. Without a blur the power of structure falls with a
        power of the frequency, or faster. If without this kernel it falls more slowly, the kernel takes
        away more of the high frequencies than the image lacks. Zero where too few rings tell.
        """
        if len(self._rings) < LEAST_RINGS:
            return 0.0
        left = self._logarithms - self._passed(kernel)
        return math.sqrt(max(-self._squared_width(left, -math.inf), 0.0))

    def _squared_width(self, logarithms: Real, least: float) -> float:
        """Fit a power law, blurred by a Gaussian, to logarithms of the power in each ring."""
        design = np.stack([np.ones(len(self._rings)), -np.log(self._squares) / 2, -self._falls], 1)
        bounds = ([-np.inf, 0, least], [np.inf, STEEPEST, np.inf])
        weighted = self._weights[:, None] * design, self._weights * logarithms
        return float(lsq_linear(*weighted, bounds, method="bvls").x[2])

    def _passed(self, kernel: Tensor) -> Real:
        """Logarithm of the power that a kernel passes in each ring."""
        spectrum = np.fft.fft2(kernel[0, 0].cpu().double().numpy(), s=self._shape)
        passed: Real = np.log(self._mean(np.abs(spectrum) ** 2))
        return passed

    @property
    def _falls(self) -> Real:
        """What a Gaussian of width one takes off the logarithm in each ring."""
        return (2 * np.pi) ** 2 * self._squares

    def _mean(self, values: Real) -> Real:
        """Mean of values ``(Y, X)`` at all frequencies over each ring."""
        return np.array([values[ring].mean() for ring in self._rings])
