"""The two networks: one generates the latent image's posterior, the other the kernel.

Shapes use ``N`` items, ``C`` channels and the latent canvas ``H = Y + kh - 1``, ``W = X + kw - 1``,
which extends past the image by the reach of the kernel, so that no border condition is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

NOISE_CHANNELS = 3
NOISE_AMPLITUDE = 0.1
KERNEL_NOISE_LENGTH = 200


class Posterior(NamedTuple):
    """Independent normal distributions over the latent image, one per pixel and channel.

    Attributes
    ----------
    mean : Tensor
        ``(N, C, H, W)``, in (0, 1).
    log_std : Tensor or None
        Logarithm of the standard deviation, same shape, below 0. ``None`` is a point estimate
        (standard deviation zero): the methods that are not variational.
    """

    mean: Tensor
    log_std: Tensor | None = None

    def detach(self) -> Posterior:
        """Return a copy without its history, in rows: PyTorch's sums round by the order in memory."""

        def rows(a: Tensor) -> Tensor:
            return a.detach().clone(memory_format=torch.contiguous_format)

        return Posterior(rows(self.mean), None if self.log_std is None else rows(self.log_std))


class ImageGenerator(nn.Module):
    """Hourglass network from fixed noise to the posterior of the latent image.

    Parameters
    ----------
    channels : int
        Channels ``C`` of the image.
    widths : sequence of int
        Features of each scale, the finest first. The published network has ``(128,) * 5``.
    variational : bool
        Whether the output is doubled by the logarithm of the standard deviation.

    Notes
    -----
    Huo et al., TPAMI 2023, section 4; the network is that of SelfDeblur (Ren et al., CVPR 2020)
    with the last layer doubled. Convolutions in front of a batch normalisation carry no bias, since
    the normalisation would remove it. Batch statistics are used throughout: there is one image.
    """

    def __init__(self, channels: int, widths: Sequence[int] = (128,) * 5, variational: bool = True):
        super().__init__()
        self.variational = variational
        self.scales = Scale(NOISE_CHANNELS, widths)
        self.head = nn.Conv2d(widths[0], channels * (1 + variational), 1)

    def forward(self, noise: Tensor) -> Posterior:
        """Map ``(N, 3, H, W)`` noise to a posterior of ``(N, C, H, W)``."""
        logits = self.head(self.scales(noise)).to(noise.dtype)  # from bfloat16, where that was used
        if not self.variational:
            return Posterior(logits.sigmoid())
        mean, std = logits.chunk(2, dim=1)
        # logsigmoid: the same value as log(sigmoid), without its underflow to dead pixels.
        return Posterior(mean.sigmoid(), F.logsigmoid(std))


class Scale(nn.Module):
    """One scale of the hourglass: a skip connection beside a descent to half the resolution."""

    SKIP_WIDTH = 16
    FIRST_NON_LOCAL = 2

    def __init__(self, inputs: int, widths: Sequence[int], depth: int = 0):
        super().__init__()
        width, *deeper = widths
        self.skip = convolution(inputs, self.SKIP_WIDTH, 1)
        self.down = nn.Sequential(
            convolution(inputs, width, 3, stride=2),
            NonLocal(width) if depth >= self.FIRST_NON_LOCAL else nn.Identity(),
            convolution(width, width, 3),
        )
        self.deeper = Scale(width, deeper, depth + 1) if deeper else nn.Identity()
        below = deeper[0] if deeper else width
        self.up = nn.Sequential(
            nn.BatchNorm2d(self.SKIP_WIDTH + below),
            convolution(self.SKIP_WIDTH + below, width, 3),
            convolution(width, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, inputs, H, W)`` to ``(N, widths[0], H, W)``."""
        deep = self.deeper(self.down(x))
        deep = F.interpolate(deep, scale_factor=2, mode="bilinear", align_corners=False)
        height, width = x.shape[-2:]  # an odd side comes back one pixel longer
        features: Tensor = self.up(torch.cat([self.skip(x), deep[..., :height, :width]], dim=1))
        return features


class NonLocal(nn.Module):
    """Every position attends to all (pooled) positions by dot products, without a softmax.

    Without the softmax the product is associative, so the positions-by-positions matrix of the
    published form never exists: memory and time are linear in pixels. An identity at the start.
    """

    def __init__(self, width: int):
        super().__init__()
        inner = width // 2
        self.theta, self.phi, self.g = (nn.Conv2d(width, inner, 1) for _ in range(3))
        self.out = nn.Conv2d(inner, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, width, H, W)`` to the same shape."""
        theta = self.theta(x).flatten(2)
        phi = F.max_pool2d(self.phi(x), 2).flatten(2)
        g = F.max_pool2d(self.g(x), 2).flatten(2)
        correlation = g @ phi.transpose(1, 2) / phi.shape[-1]
        attended = (correlation @ theta).unflatten(2, x.shape[-2:])
        change: Tensor = self.norm(self.out(attended))
        return x + change


def convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    """Reflection-padded convolution, batch normalisation and leaky ReLU."""
    return nn.Sequential(
        nn.Conv2d(
            inputs,
            outputs,
            size,
            stride,
            padding=size // 2,
            padding_mode="reflect" if size > 1 else "zeros",
            bias=False,
        ),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.2),
    )


class KernelGenerator(nn.Module):
    """Two dense layers from fixed noise to a kernel that is non-negative and sums to one.

    Parameters
    ----------
    shape : tuple of int
        ``(kh, kw)``, both odd.

    Notes
    -----
    Huo et al., TPAMI 2023, section 4, as in SelfDeblur.
    """

    HIDDEN = 1000

    def __init__(self, shape: tuple[int, int]):
        super().__init__()
        self.shape = shape
        self.layers = nn.Sequential(
            nn.Linear(KERNEL_NOISE_LENGTH, self.HIDDEN),
            nn.ReLU6(),
            nn.Linear(self.HIDDEN, shape[0] * shape[1]),
        )

    def forward(self, noise: Tensor) -> Tensor:
        """Map ``(N, 200)`` noise to a kernel ``(N, 1, kh, kw)``."""
        logits: Tensor = self.layers(noise)
        return logits.softmax(-1).view(-1, 1, *self.shape)


class FreeKernel(nn.Module):
    """One logit per pixel of the kernel, which ignores its noise.

    It starts as a wide Gaussian at the centre: from a uniform start, a scene of few small objects can
    lead to several copies of each, spread over the window.

    Parameters
    ----------
    shape : tuple of int
        ``(kh, kw)``, both odd.
    """

    START_WIDTH = 1 / 6
    """Standard deviation at the start as part of the window."""

    def __init__(self, shape: tuple[int, int]):
        super().__init__()
        y, x = ((torch.arange(size) - size // 2) / (self.START_WIDTH * size) for size in shape)
        self.logits = nn.Parameter(-(y[:, None].square() + x.square()).view(1, 1, *shape) / 2)

    def forward(self, noise: Tensor) -> Tensor:
        """Return the kernel ``(1, 1, kh, kw)``."""
        return self.logits.flatten(1).softmax(-1).view_as(self.logits)
