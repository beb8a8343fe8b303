"""A kernel with the posterior of the latent image's gradient, fitted to the gradient of an image.

In the gradient, the sparse prior is one of independent entries, so that the bound has a cheap closed
form: the posterior of an entry is normal, with the mean of a linear system and a variance that solves

    variance = 1 / (sum(k**2) / noise**2 + xi),     xi = 1 / (mean**2 + variance + floor**2)

(Huo et al., Eqs. 12 and 13; Babacan et al., ECCV 2012). It is also blind to what slowly varies over a
real image and is no blur. Both make it a better place to find the kernel than the image itself; the
latent image is then found among pixels, where gradients must fit each other (see ``posterior``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from napari_vdip.kernel_update import update_kernel
from napari_vdip.operators import Blur, gradient, size_of
from napari_vdip.replay import replayed
from napari_vdip.solvers import conjugate_gradients
from napari_vdip.support import grown, off_middle, shifted, support_of

FIRST_NOISE = 0.01
"""Noise level of the first round, in [0, 1] units; later rounds lower it to that of the image."""
ANNEALED = 0.8
"""Part of the rounds in which it is lowered."""
SOLVER_STEPS = 10
LEAST_SEEN = 1e-4
"""Evidence on an entry, relative to that on the best seen one, below which the corners of the canvas do not
fall: they are seen by few pixels, and rounding would decide."""


def gradients(image: Tensor) -> Tensor:
    """Both differences of ``(1, C, Y, X)`` as a batch ``(2 C, 1, Y - 1, X - 1)``."""
    down, right = gradient(image)
    return torch.cat([down[..., :-1], right[..., :-1, :]], 1).transpose(0, 1)


def gradient_noise(variance: Tensor) -> Tensor:
    """Variances of both differences of pixels with the variances ``(1, C, Y, X)``, as a batch.

    A difference of white noise is not white. This is the largest value of its spectrum, twice its mean:
    with less, the finest of the noise would pass for structure, and the kernel for a narrower one.
    """
    down = variance[..., 1:, :-1] + variance[..., :-1, :-1]
    right = variance[..., :-1, 1:] + variance[..., :-1, :-1]
    return 2 * torch.cat([down, right], 1).transpose(0, 1)


def annealed(variance: Tensor, progress: float) -> Tensor:
    """Variance of the noise for a round at this part of all rounds, from that of the image."""
    last = variance.min().sqrt()
    level = FIRST_NOISE * (last / FIRST_NOISE) ** min(1.0, progress / ANNEALED)
    return torch.maximum(variance, level.square())


class Candidate:
    """One local maximum of the bound in the making.

    Parameters
    ----------
    image : Tensor
        ``(1, C, Y, X)`` in [0, 1].
    latent : Tensor
        ``(1, C, H, W)`` to start from.
    kernel : Tensor
        ``(1, 1, kh, kw)`` to start from.
    floor : float
        Gradient, in [0, 1] units, below which the prior makes no difference.

    Attributes
    ----------
    kernel : Tensor
        ``(1, 1, kh, kw)``, non-negative, sums to one.
    mean, variance : Tensor
        Of the latent gradient, ``(2 C, 1, H - 1, W - 1)``.
    support : Tensor
        ``(1, 1, kh, kw)``, where the kernel may be.
    """

    def __init__(self, image: Tensor, latent: Tensor, kernel: Tensor, floor: float):
        self.target = gradients(image)
        self.kernel = kernel
        self.support = torch.ones_like(kernel, dtype=torch.bool)
        self.mean = gradients(latent)
        self.variance = torch.zeros_like(self.mean)
        self.floor = floor

    def advance(self, noise: Tensor) -> None:
        """Update the posterior of the gradient and then the kernel, for variances of the image's noise."""
        floor = torch.full_like(noise[0, 0, 0, 0], self.floor)
        self.kernel, self.mean, self.variance = advanced(
            self.kernel, self.mean, self.variance, self.target, noise, self.support, floor
        )

    def state(self) -> dict[str, Tensor]:
        """Return by name what it is besides its image, as it is: see the attributes."""
        return {
            "kernel": self.kernel,
            "gradient": self.mean,
            "variance": self.variance,
            "support": self.support,
        }

    def norm_ratio(self) -> float:
        """Return the mean of the absolute latent gradient over the root of its mean square.

        The sparser, the smaller. A blur raises it, as do noise and ringing, so that it tells a kernel that
        was found from one that was not, whatever their contrast (Krishnan, Tay and Fergus, CVPR 2011).
        """
        return float(self.mean.abs().mean() / self.mean.square().mean().sqrt())

    def left(self, noise: Tensor) -> float:
        """Return the mean square of what is left of the target, relative to the variance of its noise."""
        rest = self.target - Blur(self.kernel, size_of(self.mean))(self.mean)
        return float((rest.square() / gradient_noise(noise)).mean())

    def confine(self) -> tuple[int, int]:
        """Confine the kernel to the surroundings of where it is, moved to the middle of its window.

        Returns
        -------
        tuple of int
            ``(y, x)``, how far kernel and gradient were moved.
        """
        support = support_of(self.kernel)
        y, x = off_middle(support)
        by = (-y, -x)
        self.support = grown(shifted(support, by))
        kernel = shifted(self.kernel, by) * self.support
        self.kernel = kernel / kernel.sum()
        self.mean = self.mean.roll(by, (-2, -1))  # what enters the canvas is estimated anew
        self.variance = self.variance.roll(by, (-2, -1))
        return by


@replayed
def advanced(
    kernel: Tensor,
    mean: Tensor,
    variance: Tensor,
    target: Tensor,
    noise: Tensor,
    support: Tensor,
    floor: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return kernel, mean and variance after a round, see `Candidate`."""
    confidence = 1 / gradient_noise(noise)
    weights = 1 / (mean.square() + variance + floor.square())
    blur = Blur(kernel, size_of(mean))
    spectrum = blur.spectrum.abs().square() * confidence.mean((-2, -1), keepdim=True)
    average = 1 / (spectrum + weights.log().mean((-2, -1), keepdim=True).exp())

    def operator(x: Tensor) -> Tensor:
        return blur.adjoint(confidence * blur(x)) + weights * x

    def precondition(r: Tensor) -> Tensor:
        return blur.filtered(r, average)

    evidence = blur.adjoint(confidence * target)
    mean = conjugate_gradients(operator, precondition, evidence, mean, SOLVER_STEPS)
    data = Blur(kernel.square(), size_of(mean)).adjoint(confidence)
    variance = consistent_variance(data, mean.square() + floor.square())
    return update_kernel(kernel, mean, variance, target, confidence, support), mean, variance


def consistent_variance(data: Tensor, moments: Tensor) -> Tensor:
    """Variance that is consistent with its own weight, for the precision of the data on each entry.

    The moments are the squared mean and the squared floor together.
    """
    data = torch.maximum(data, LEAST_SEEN * data.max())
    return 2 / (data + (data.square() + 4 * data / moments).sqrt())
