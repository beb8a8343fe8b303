"""The posterior of the latent image beyond independent pixels.

For a fixed kernel, noise level and prior weights the bound is quadratic in the latent image, so its
maximum over all normal distributions has the precision

    P = A'A / noise**2 + (Dv' xi_v Dv + Dh' xi_h Dh) / 2 + R

where ``A`` is the blur, ``Dv`` and ``Dh`` are the differences, ``xi = 1 / E[difference**2]`` (Huo et al.,
Eqs. 12 and 13) and ``R`` is the precision of a uniform distribution on [0, 1]. Its mean solves a linear
system, and its samples solve the same one with a random right-hand side (Papandreou and Yuille, NIPS
2010). Their standard deviation is the marginal one: it knows that a blur mixes neighbouring pixels,
which one over the diagonal of ``P`` does not. It takes the kernel as known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_vdip.generators import Posterior
from napari_vdip.objective import gradient_moments
from napari_vdip.operators import Blur, Size, gradient, gradient_adjoint, size_of
from napari_vdip.replay import replayed
from napari_vdip.solvers import conjugate_gradients

if TYPE_CHECKING:
    from collections.abc import Callable

RANGE_PRECISION = 12.0
"""Precision of the uniform distribution on [0, 1], the range of the latent image, and its mean."""
RANGE_MEAN = 0.5
GRADIENT_FLOOR = 1.0
"""Added to the second moments, in noise variances: flat areas would drive them, and with them the std
map, to zero, and gradients below the noise cannot be told from none."""
MEAN_SPECTRUM = 4.0
"""Of both differences together, the mean of their squared spectrum over all frequencies."""
SOLVER_STEPS = 15
BATCH = 4
"""Samples drawn at a time."""


@dataclass(frozen=True)
class Precision:
    """The precision matrix ``P``, an operator on canvases ``(n, C, H, W)``.

    Attributes
    ----------
    kernel : Tensor
        ``(1, 1, kh, kw)``.
    noise : Tensor
        Standard deviation of the noise at each pixel, ``(1, C, Y, X)``, in the image's [0, 1] units.
    weights : tuple of Tensor
        ``xi / 2`` of the vertical ``(1, C, H - 1, W)`` and the horizontal ``(1, C, H, W - 1)`` gradient.
    pull, level : Tensor
        Weight ``(1, C, H, W)`` that draws a pixel to the level ``(1, C, 1, 1)``; none if not given.
    """

    kernel: Tensor
    noise: Tensor
    weights: tuple[Tensor, Tensor]
    pull: Tensor | float = 0.0
    level: Tensor | float = 0.0

    @cached_property
    def blur(self) -> Blur:
        """Blur of the canvas."""
        return Blur(self.kernel, _canvas_of(self.noise, self.kernel))

    @cached_property
    def confidence(self) -> Tensor:
        """One over the variance of the noise, ``(1, C, Y, X)``."""
        return self.noise.square().reciprocal()

    def __matmul__(self, x: Tensor) -> Tensor:
        data = self.blur.adjoint(self.confidence * self.blur(x))
        down, right = gradient(x)
        prior = gradient_adjoint(self.weights[0] * down, self.weights[1] * right)
        return data + prior + (RANGE_PRECISION + self.pull) * x

    def solve(self, right_side: Tensor, start: Tensor, steps: int = SOLVER_STEPS) -> Tensor:
        """Solve ``P x = right_side`` by preconditioned conjugate gradients, each channel by itself."""
        return _solved(self.kernel, self.noise, *self.weights, self.pull, right_side, start, steps)

    def mean(self, image: Tensor, start: Tensor) -> Tensor:
        """Mean of the posterior, ``(1, C, H, W)``, of an image ``(1, C, Y, X)``."""
        return self.solve(_evidence(self.kernel, self.noise, self.pull, self.level, image), start)

    def sample(self, shape: torch.Size, rng: torch.Generator) -> Tensor:
        """Draw deviations from the mean of a shape ``(n, C, H, W)``, with the covariance ``1 / P``."""
        height, width = shape[-2:]
        sizes = (size_of(self.noise), (height - 1, width), (height, width - 1), (height, width))
        normal = (torch.randn((*shape[:2], *size), generator=rng, device=rng.device) for size in sizes)
        right_side = _perturbation(self.kernel, self.noise, *self.weights, self.pull, *normal)
        return self.solve(right_side, torch.zeros_like(right_side))

    def average_spectrum(self) -> Tensor:
        """Spectrum of the nearest shift-invariant operator, real and positive."""
        size, device = self.blur.size, self.kernel.device
        angles = (
            torch.fft.fftfreq(size[0], device=device)[:, None],
            torch.fft.rfftfreq(size[1], device=device)[None, :],
        )
        confidence = self.confidence.mean((-2, -1), keepdim=True)
        spectrum: Tensor = self.blur.spectrum.abs().square() * confidence
        for weight, angle in zip(self.weights, angles, strict=True):
            typical = weight.log().mean().exp()
            spectrum = spectrum + typical * 4 * torch.sin(torch.pi * angle).square()
        return spectrum + RANGE_PRECISION


@replayed
def _solved(
    kernel: Tensor,
    noise: Tensor,
    down: Tensor,
    right: Tensor,
    pull: Tensor | float,
    right_side: Tensor,
    start: Tensor,
    steps: int,
) -> Tensor:
    """Solution of `Precision.solve`."""
    precision = Precision(kernel, noise, (down, right), pull)
    average_inverse = 1 / precision.average_spectrum()

    def precondition(r: Tensor) -> Tensor:
        return precision.blur.filtered(r, average_inverse)

    return conjugate_gradients(precision.__matmul__, precondition, right_side, start, steps)


@replayed
def _evidence(
    kernel: Tensor, noise: Tensor, pull: Tensor | float, level: Tensor | float, image: Tensor
) -> Tensor:
    """Right-hand side of `Precision.mean`."""
    blur = Blur(kernel, _canvas_of(noise, kernel))
    data = blur.adjoint(noise.square().reciprocal() * image)
    return data + RANGE_PRECISION * RANGE_MEAN + pull * level


@replayed
def _perturbation(
    kernel: Tensor,
    noise: Tensor,
    down: Tensor,
    right: Tensor,
    pull: Tensor | float,
    of_data: Tensor,
    of_down: Tensor,
    of_right: Tensor,
    of_range: Tensor,
) -> Tensor:
    """Right-hand side of `Precision.sample`, from standard normal numbers for each of its terms."""
    data = Blur(kernel, _canvas_of(noise, kernel)).adjoint(of_data / noise)
    prior = gradient_adjoint(down.sqrt() * of_down, right.sqrt() * of_right)
    return data + prior + (RANGE_PRECISION + pull) ** 0.5 * of_range


def _canvas_of(image: Tensor, kernel: Tensor) -> Size:
    """Height and width of the canvas that an image is the blur of."""
    height, width = (n + k - 1 for n, k in zip(size_of(image), size_of(kernel), strict=True))
    return height, width


def sparse_precision(
    mean: Tensor,
    kernel: Tensor,
    noise: Tensor,
    variances: tuple[Tensor, Tensor] | None = None,
    unresolved: float = 0.0,
    pooling: float = 0.0,
    psf_error: float = 0.0,
    strength: float = 1.0,
) -> Precision:
    """Precision under the sparse gradient prior, whose weights are tight at the given moments.

    Parameters
    ----------
    mean : Tensor
        ``(1, C, H, W)``.
    kernel : Tensor
        ``(1, 1, kh, kw)``.
    noise : Tensor
        Standard deviation of the noise at each pixel, ``(1, C, Y, X)``.
    variances : tuple of Tensor, optional
        Posterior variances of the vertical and the horizontal gradient; zero if not given.
    unresolved : float
        Part of the mean second moment that is added to each. An edge that the blur has hidden leaves no
        trace in `mean`: without this, the precision would be sure that there is none.
    pooling : float
        Distance in pixels over which neighbours share their weights, see `pooled`.
    psf_error : float
        Expected sum of the squared errors of the kernel. The image that a wrong kernel needs to explain
        all of the data rings; the expectation of the data term over such errors has a weight on structure
        that is the same everywhere. Errors of neighbouring entries of the kernel cancel, so that slow
        structure passes as it should: it is a weight on gradients, one on the image itself on average
        over all frequencies.
    strength : float
        Factor on the weights of the prior.
    """
    down, right = variances or (None, None)
    error = torch.full_like(noise[0, 0, 0, 0], psf_error)  # as a constant each would be recorded anew
    return Precision(
        kernel, noise, _weights(mean, noise, down, right, error, unresolved, pooling, strength)
    )


@replayed
def _weights(
    mean: Tensor,
    noise: Tensor,
    down_variance: Tensor | None,
    right_variance: Tensor | None,
    psf_error: Tensor,
    unresolved: float,
    pooling: float,
    strength: float,
) -> tuple[Tensor, Tensor]:
    """Weights of `sparse_precision`."""
    down, right = gradient_moments(Posterior(mean))
    hidden = [unresolved * moments.mean((-2, -1), keepdim=True) for moments in (down, right)]
    if down_variance is not None and right_variance is not None:
        down, right = down + down_variance, right + right_variance
    down, right = pooled(down, right, pooling)
    confidence = noise.square().reciprocal().mean((-2, -1), keepdim=True)
    floor, doubt = GRADIENT_FLOOR / confidence, psf_error * confidence / MEAN_SPECTRUM
    return (
        0.5 * strength / (down + hidden[0] + floor) + doubt,
        0.5 * strength / (right + hidden[1] + floor) + doubt,
    )


def pooled(down: Tensor, right: Tensor, distance: float) -> tuple[Tensor, Tensor]:
    """Average the moments of both differences at a pixel and its neighbours.

    A weight of its own for every difference fits the noise of that difference. Neighbours have much the
    same scale, in both directions, and tell it better together.

    Parameters
    ----------
    down, right : Tensor
        ``(1, C, H - 1, W)`` and ``(1, C, H, W - 1)``.
    distance : float
        Standard deviation in pixels of the Gaussian that weights the neighbours; with 0 the moments stay
        as they are.
    """
    if distance == 0:
        return down, right
    reach = math.ceil(3 * distance)
    offsets = torch.arange(-reach, reach + 1, device=down.device)
    weights = torch.exp(-0.5 * (offsets / distance).square())
    weights = weights / weights.sum()
    both = F.pad(down, (0, 0, 0, 1), mode="replicate") + F.pad(right, (0, 1, 0, 0), mode="replicate")
    around = F.pad(both / 2, (reach, reach, reach, reach), mode="replicate").transpose(0, 1)
    rows = F.conv2d(around, weights.view(1, 1, -1, 1))
    shared = F.conv2d(rows, weights.view(1, 1, 1, -1)).transpose(0, 1)
    return shared[..., :-1, :], shared[..., :-1]


def flat_precision(mean: Tensor, kernel: Tensor, noise: Tensor) -> Precision:
    """Precision under the range of the latent image alone."""
    down, right = gradient(mean)
    return Precision(kernel, noise, (torch.zeros_like(down), torch.zeros_like(right)))


def gradient_variances(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Variance of the vertical and the horizontal gradient, from deviations ``(n, C, H, W)``."""
    down, right = (part.square().mean(0, keepdim=True) for part in gradient(samples))
    return down, right


def standard_deviation(
    precision: Precision,
    shape: torch.Size,
    count: int,
    rng: torch.Generator,
    seen: Callable[[Tensor], Tensor] = lambda sample: sample,
) -> Tensor:
    """Marginal standard deviation of each pixel of what is seen of a ``(1, C, H, W)`` canvas.

    It is that of `count` samples, each of them as it is seen.
    """
    total: Tensor | float = 0.0
    for first in range(0, count, BATCH):
        batch = torch.Size((min(BATCH, count - first), *shape[1:]))
        total = total + seen(precision.sample(batch, rng)).square().sum(0, keepdim=True)
    return torch.as_tensor(total / count).sqrt()
