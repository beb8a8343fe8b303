"""How well a kernel predicts pixels that were left out, to choose between kernels.

The bounds of two kernels can hardly be compared: how tight one is depends on the kernel, and the prior
decides where the noise is strong. What was not seen cannot be fitted, so a prediction of it favours
neither a kernel that is too narrow nor one that is too wide (cross-validation: Stone, 1974).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_vdip.operators import blur, extend, size_of
from napari_vdip.posterior import BATCH, Precision, gradient_variances, sparse_precision

if TYPE_CHECKING:
    from collections.abc import Iterator

PART = 0.05
"""Part of the pixels that is left out, if no other is named."""
LIMIT = 3.0
"""Error, in standard deviations of the prediction, beyond which a pixel is no worse: at a few sharp edges
all are far off, and these must not decide."""
ROUNDS = 6
"""Rounds in which the weights follow the latent image."""
UNSEEN = 1e4
"""Variance of the noise of what is left out, relative to that of the image."""
SURROUNDINGS = 7
"""Side in pixels of the mean over what is seen, from which the latent image starts where nothing is."""


@dataclass(frozen=True)
class Prediction:
    """Prediction of what is left out.

    Attributes
    ----------
    kernel : Tensor
        ``(1, 1, kh, kw)`` it was made with.
    mean : Tensor
        Posterior mean of the latent image ``(1, C, H, W)``, from what is seen.
    densities : Tensor
        Logarithm of the predictive density of a pixel that is left out, up to a constant: the mean over
        each block and its channels, which err together.
    """

    kernel: Tensor
    mean: Tensor
    densities: Tensor

    def advantage(self, over: Prediction) -> tuple[float, float]:
        """Mean difference of the densities from another prediction's, and its standard error."""
        difference = self.densities - over.densities
        return float(difference.mean()), float(difference.std(correction=0)) / len(difference) ** 0.5


class HeldOut:
    """An image with some pixels left out.

    Parameters
    ----------
    image, variance : Tensor
        ``(1, C, Y, X)`` in [0, 1], and the variance of its noise.
    pooling : float
        Distance in pixels over which neighbours share the weights of the prior.
    block : int
        Side in pixels of the blocks that are left out. Single pixels tell the finest of the blur. To bridge
        wider gaps takes a wide kernel or much of the prior.
    rng : torch.Generator
        Says which pixels are left out.
    part : float
        Part of the pixels that is left out. The more, the surer is the answer, and the less is seen.

    Attributes
    ----------
    left_out : Tensor
        ``(1, C, Y, X)``, whether a pixel is left out.
    """

    def __init__(
        self,
        image: Tensor,
        variance: Tensor,
        pooling: float,
        block: int,
        rng: torch.Generator,
        part: float = PART,
    ):
        height, width = size_of(image)
        blocks = (1, 1, -(-height // block), -(-width // block))
        lots = torch.rand(blocks, generator=rng, device=rng.device)
        chosen = lots <= lots.min().clamp_min(part)  # one at least
        grown = chosen.repeat_interleave(block, -2).repeat_interleave(block, -1)
        self.left_out = grown[..., :height, :width].expand_as(image)
        number = torch.arange(chosen.numel(), device=rng.device).view_as(chosen)
        number = number.repeat_interleave(block, -2).repeat_interleave(block, -1)[..., :height, :width]
        self._blocks = number[self.left_out[:, :1]].unique(return_inverse=True)[1]
        self.pooling = pooling
        self._image, self._variance = image, variance
        self._given = torch.where(self.left_out, self._surroundings(), image)
        self._confidence = torch.where(self.left_out, UNSEEN * variance, variance)
        self._seed = int(torch.randint(2**31, (), generator=rng, device=rng.device))

    def predict(self, kernel: Tensor) -> Prediction:
        """Estimate the latent image from what is seen, and predict what is left out by it.

        The kernel is ``(1, 1, kh, kw)``.
        """
        rng = torch.Generator(kernel.device).manual_seed(self._seed)  # the same for every kernel
        precision, mean = next(islice(self._course(kernel, rng), ROUNDS - 1, None))
        samples = precision.sample(torch.Size((BATCH, *mean.shape[1:])), rng)
        spread = blur(samples, kernel).square().mean(0, keepdim=True) + self._variance
        residual = self._image - blur(mean, kernel)
        density = -0.5 * ((residual.square() / spread).clamp_max(LIMIT**2) + spread.log())
        return Prediction(kernel, mean, self._over_blocks(density.mean(1)[self.left_out[:, 0]]))

    def errors(self, kernel: Tensor, misfit: float = 1.0, strength: float = 1.0) -> Iterator[float]:
        """Yield how far off what is left out is predicted, before and after each update of the weights.

        Without end: the mean distance from its prediction, in standard deviations of the noise. See
        `regularization.Regularization` for what is varied.
        """
        rng = torch.Generator(kernel.device).manual_seed(self._seed)
        for _, mean in self._course(kernel, rng, misfit, strength):
            distance = (self._image - blur(mean, kernel)).abs() / self._variance.sqrt()
            yield float(distance[self.left_out].mean())

    def _course(
        self, kernel: Tensor, rng: torch.Generator, misfit: float = 1.0, strength: float = 1.0
    ) -> Iterator[tuple[Precision, Tensor]]:
        """Yield precision and mean of the posterior before and after each update of the weights."""
        noise = (misfit * self._confidence).sqrt()
        mean, variances = extend(self._given, size_of(kernel)), None
        while True:
            precision = sparse_precision(
                mean, kernel, noise, variances, pooling=self.pooling, strength=strength
            )
            mean = precision.mean(self._given, mean)
            yield precision, mean
            samples = precision.sample(torch.Size((BATCH, *mean.shape[1:])), rng)
            variances = gradient_variances(samples)

    def _over_blocks(self, values: Tensor) -> Tensor:
        """Average over the pixels of each block."""
        counts = self._blocks.bincount()
        means: Tensor = values.new_zeros(len(counts)).index_add(0, self._blocks, values) / counts
        return means

    def _surroundings(self) -> Tensor:
        """Mean of what is seen around each pixel."""
        seen = (~self.left_out).to(self._image)

        def total(values: Tensor) -> Tensor:
            return F.avg_pool2d(values, SURROUNDINGS, 1, SURROUNDINGS // 2)

        return total(self._image * seen) / total(seen).clamp_min(0.5 / SURROUNDINGS**2)
