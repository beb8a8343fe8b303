"""The variational bound, one function per term.

Symbols follow Huo et al., TPAMI 2023: the posterior of the latent image has the mean ``E`` and the
standard deviation ``S``, both ``(N, C, H, W)`` on the canvas; ``k`` is the kernel ``(N, 1, kh, kw)``;
``y`` is the blurred image ``(N, C, H - kh + 1, W - kw + 1)`` in [0, 1]. Every term is a mean over the
canvas, so that its size does not depend on the image's. All of them return a scalar.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_vdip.operators import blur, crop, difference, gradient, size_of

if TYPE_CHECKING:
    from napari_vdip.generators import Posterior

GRADIENT_BIAS = 1e-6
CHANNEL_FLOOR = 1e-6
VARIANCE_FLOOR = 1e-30
WINDOW = 35


def sample(posterior: Posterior, generator: torch.Generator) -> Tensor:
    """Draw ``E + S * eps`` (reparameterised, Eq. 16); the mean itself for a point estimate."""
    if posterior.log_std is None:
        return posterior.mean
    eps = torch.randn(posterior.mean.shape, generator=generator, device=generator.device)
    return posterior.mean + posterior.log_std.exp() * eps.to(posterior.mean)


def data_term(latent: Tensor, kernel: Tensor, image: Tensor) -> Tensor:
    """Return the expected log likelihood times the noise variance, of the residual and its derivatives.

    Eq. 16 with the first and second differences that the published code adds. Differences commute
    with the blur, so one blur serves all of them.
    """
    residual = blur(latent, kernel) - image
    down, right = gradient(residual)
    squares = (
        residual.square().sum() / 2
        + (down.square().sum() + right.square().sum()) / 2
        + difference(down, -2).square().sum() / 8
        + difference(down, -1).square().sum() / 4
        + difference(right, -1).square().sum() / 8
    )
    return -squares / latent.numel()


def entropy(posterior: Posterior) -> Tensor:
    """Mean of ``ln S``: the entropy of the posterior without its constant (Eq. 11)."""
    if posterior.log_std is None:
        raise ValueError("posterior: expected a standard deviation, got a point estimate")
    return posterior.log_std.mean()


def gradient_moments(posterior: Posterior) -> tuple[Tensor, Tensor]:
    """Second moments of the vertical and the horizontal gradient (Eqs. 22, 23)."""
    down, right = (part.square() for part in gradient(posterior.mean))
    if posterior.log_std is not None:
        variance = (2 * posterior.log_std).exp()
        down = down + variance[..., 1:, :] + variance[..., :-1, :]
        right = right + variance[..., 1:] + variance[..., :-1]
    return down, right


def sparse_log_prior(posterior: Posterior) -> Tensor:
    """Return the expected log of the sparse gradient prior (Eqs. 11, 14).

    The published code multiplies each moment ``m`` by the constant ``1 / (m + 1e-6)``; its value is a
    constant and its gradient that of ``ln(m + 1e-6)``, which is what stands here.
    """
    channels, height, width = posterior.mean.shape[-3:]
    down, right = gradient_moments(posterior)
    total = torch.log(down + GRADIENT_BIAS).sum() + torch.log(right + GRADIENT_BIAS).sum()
    count = posterior.mean.shape[0] * channels * (height - 1) * (width - 1)
    return -total / (4 * count)


def channel_moments(
    posterior: Posterior, generator: torch.Generator, bright_variance: str = "exact"
) -> tuple[Tensor, Tensor]:
    """Second moments of the dark and the bright channel by one sample of the square (Eqs. 24-30).

    The published code drops the covariance from the variance of the bright square
    (``bright_variance="official"``); ``"exact"`` keeps it.
    """
    mean = posterior.mean
    if posterior.log_std is None:
        return dark_channel(mean.square()), dark_channel((1 - mean).square())
    variance = (2 * posterior.log_std).exp()

    def squared_sample(offset: Tensor, spread: Tensor) -> Tensor:
        deviation = torch.sqrt(spread + VARIANCE_FLOOR)
        eps = torch.randn(mean.shape, generator=generator, device=generator.device).to(mean)
        return offset.square() + variance + eps * deviation

    quartic = 2 * variance.square()
    bright_spread = {
        "exact": 4 * (1 - mean).square() * variance + quartic,
        "official": 4 * variance + 4 * mean.square() * variance + quartic,
    }[bright_variance]
    dark = squared_sample(mean, 4 * mean.square() * variance + quartic)
    bright = squared_sample(1 - mean, bright_spread)
    return dark_channel(dark), dark_channel(bright)


def dark_channel(a: Tensor) -> Tensor:
    """Minimum over the channels and a 35 x 35 window (valid, stride 1), one direction at a time."""
    lowest = -a.amin(dim=1, keepdim=True)
    rows = F.max_pool2d(lowest, (WINDOW, 1), stride=1)
    return -F.max_pool2d(rows, (1, WINDOW), stride=1)


def extreme_log_prior(
    posterior: Posterior, generator: torch.Generator, bright_variance: str = "exact"
) -> Tensor:
    """Return the expected log of the extreme (dark and bright) channel prior (Eqs. 11, 15).

    As for the sparse prior, the logarithm has the gradient of the published surrogate. The sampled
    moments can be negative and their logarithm is singular at zero, hence the floor.
    """
    dark, bright = (
        moment.abs().clamp_min(CHANNEL_FLOOR)
        for moment in channel_moments(posterior, generator, bright_variance)
    )
    return -(dark.log().sum() + bright.log().sum()) / (4 * dark.numel())


def kernel_log_prior(kernel: Tensor) -> Tensor:
    """Log of the standard normal prior of the kernel, without its constant (Eq. 11)."""
    return -kernel.square().sum() / (2 * kernel.shape[0])


def prefit_loss(posterior: Posterior, kernel: Tensor, image: Tensor) -> Tensor:
    """Distance to the start: ``E`` the image, ``S`` zero and ``k`` uniform."""
    height, width = size_of(kernel)
    wanted = [crop(posterior.mean, (height, width)) - image]
    if posterior.log_std is not None:
        wanted.append(crop(posterior.log_std.exp(), (height, width)))
    uniform = 1 / (height * width)
    return torch.cat(wanted, dim=1).square().mean() + (kernel - uniform).square().mean()


class StructuralSimilarity:
    """SSIM to a fixed image (Wang et al., 2004), with the statistics of that image computed once.

    Parameters
    ----------
    image : Tensor
        ``(N, C, Y, X)`` in [0, 1].

    Notes
    -----
    Gaussian window of 11 pixels and sigma 1.5, zero padding, mean over pixels and channels, as in
    the second phase of the published code.
    """

    SIZE, SIGMA = 11, 1.5
    C1, C2 = 0.01**2, 0.03**2

    def __init__(self, image: Tensor):
        self.image = image
        self.mean = smooth(image)
        self.variance = smooth(image.square()) - self.mean.square()

    def __call__(self, other: Tensor) -> Tensor:
        """Similarity of ``other`` ``(N, C, Y, X)``, a scalar up to 1."""
        mean = smooth(other)
        variance = smooth(other.square()) - mean.square()
        covariance = smooth(other * self.image) - mean * self.mean
        luminance = (2 * mean * self.mean + self.C1) / (mean.square() + self.mean.square() + self.C1)
        contrast = (2 * covariance + self.C2) / (variance + self.variance + self.C2)
        return (luminance * contrast).mean()


@cache
def gaussian_window(size: int, sigma: float) -> tuple[float, ...]:
    """Weights of a normalised Gaussian window."""
    x = torch.arange(size, dtype=torch.float64) - size // 2
    weights = torch.exp(-x.square() / (2 * sigma**2))
    return tuple((weights / weights.sum()).tolist())


def smooth(a: Tensor) -> Tensor:
    """Gaussian window of SSIM, zero-padded, one direction at a time."""
    size = StructuralSimilarity.SIZE
    window = a.new_tensor(gaussian_window(size, StructuralSimilarity.SIGMA))
    flat = a.flatten(0, 1).unsqueeze(1)
    flat = F.conv2d(flat, window.view(1, 1, size, 1), padding=(size // 2, 0))
    flat = F.conv2d(flat, window.view(1, 1, 1, size), padding=(0, size // 2))
    return flat.view_as(a)
