"""The networks' stage: both are fitted to one image by maximising the objective."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from napari_vdip.estimate import Estimate
from napari_vdip.generators import (
    KERNEL_NOISE_LENGTH,
    NOISE_AMPLITUDE,
    NOISE_CHANNELS,
    FreeKernel,
    ImageGenerator,
    KernelGenerator,
    Posterior,
)
from napari_vdip.objective import (
    StructuralSimilarity,
    data_term,
    entropy,
    extreme_log_prior,
    kernel_log_prior,
    prefit_loss,
    sample,
    sparse_log_prior,
)
from napari_vdip.operators import blur, size_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_vdip.settings import Settings

RATE_HALVINGS = (0.4, 0.6, 0.8)
"""Parts of the steps after which the learning rates are halved."""
PUBLISHED_PRIOR_WEIGHTS = {"none": 0.0, "sparse": 0.1, "extreme": 1e-4}
PRIOR_DROP = 0.1
"""Factor on the prior's weight in the second half of the steps that maximise the bound."""


def build_generators(channels: int, settings: Settings) -> tuple[ImageGenerator, nn.Module]:
    """Build both generators from the seed alone; the caller's random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)
        image_generator = ImageGenerator(channels, settings.widths, settings.variational)
        kernel_generator: nn.Module
        if settings.psf_generator == "network":
            kernel_generator = KernelGenerator(settings.psf_shape)
        else:
            kernel_generator = FreeKernel(settings.psf_shape)
    return image_generator, kernel_generator


def search(image: Tensor, settings: Settings, rng: torch.Generator) -> Iterator[Estimate]:
    """Fit the networks to an image ``(1, C, Y, X)`` in [0, 1], yielding every step.

    Algorithm 1 of Huo et al. (TPAMI 2023), with the schedule of the settings. An estimate holds the
    values its step started from, so that it costs no evaluation of its own.
    """
    device = image.device
    canvas = [n + k - 1 for n, k in zip(size_of(image), settings.psf_shape, strict=True)]
    noise = torch.rand((1, NOISE_CHANNELS, *canvas), generator=rng, device=device)
    image_noise = (NOISE_AMPLITUDE * noise).to(memory_format=torch.channels_last)
    noise = torch.rand((1, KERNEL_NOISE_LENGTH), generator=rng, device=device)
    kernel_noise = NOISE_AMPLITUDE * noise
    image_generator, kernel_generator = build_generators(image.shape[1], settings)
    image_generator.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # stub
    kernel_generator.to(device)
    optimizer = torch.optim.Adam(
        [
            {"params": image_generator.parameters(), "rate": settings.image_rate},
            {"params": kernel_generator.parameters(), "rate": settings.psf_rate},
        ]
    )
    objective = Objective(image, settings, rng)
    total = settings.prefit_steps + settings.steps + settings.rounds

    @torch.enable_grad()  # whatever the caller has set
    def advance(step: int, prefit: bool) -> Estimate:
        done = step if prefit else step - settings.prefit_steps
        halvings = sum(done >= part * settings.steps for part in RATE_HALVINGS)
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * 0.5**halvings
        with mixed_precision(device, settings.mixed_precision):
            posterior = image_generator(image_noise)
        kernel = kernel_generator(kernel_noise)
        if prefit:
            loss = prefit_loss(posterior, kernel, image)
        else:
            loss = -objective(posterior, kernel, done / settings.steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return Estimate(
            "prefit" if prefit else "search",
            step + 1,
            total,
            posterior.detach(),
            kernel.detach(),
            {"loss": loss.detach()},
        )

    for step in range(settings.prefit_steps + settings.steps):
        yield advance(step, prefit=step < settings.prefit_steps)


def mixed_precision(device: torch.device, wanted: bool) -> contextlib.AbstractContextManager[object]:
    """Bfloat16 inside the networks where it is faster: on CUDA."""
    if wanted and device.type == "cuda":
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()


class Objective:
    """What the networks maximise, as a function of the part of the steps that is done."""

    def __init__(self, image: Tensor, settings: Settings, rng: torch.Generator):
        self.image = image
        self.settings = settings
        self.rng = rng
        self.similarity = StructuralSimilarity(image)

    def __call__(self, posterior: Posterior, kernel: Tensor, progress: float) -> Tensor:
        """Objective at ``progress`` in [0, 1): the bound, structural similarity, or both."""
        total = self.image.new_zeros(())
        if progress < self.settings.bound_until:
            second_half = progress >= self.settings.bound_until / 2
            total = total + self.settings.bound_weight * self.bound(posterior, kernel, second_half)
        if progress >= self.settings.similarity_from:
            total = total + self.similarity(blur(posterior.mean, kernel))
        return total

    def bound(self, posterior: Posterior, kernel: Tensor, second_half: bool) -> Tensor:
        """Variational bound times the noise variance: data plus weighted prior and entropy.

        A method that is not variational has a point for a posterior: no sample and no entropy. Without
        a prior there is no entropy either (VDIP-Std).
        """
        settings = self.settings
        data = data_term(sample(posterior, self.rng), kernel, self.image)
        if settings.prior == "none":
            return data
        if settings.prior == "sparse":
            prior = sparse_log_prior(posterior)
        else:
            prior = extreme_log_prior(posterior, self.rng, settings.bright_variance)
        prior = prior + settings.psf_prior_weight * kernel_log_prior(kernel)
        if settings.variational:
            prior = prior + entropy(posterior)
        weight = settings.prior_weight * PUBLISHED_PRIOR_WEIGHTS[settings.prior]
        return data + weight * (PRIOR_DROP if second_half else 1) * prior
