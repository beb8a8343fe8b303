"""The networks' stage: both are fitted to one image by maximising the objective."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, assert_never

import torch
from torch import Tensor, nn

from napari_vdip.checkpoint import fill
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
    from collections.abc import Iterator, Mapping

    from napari_vdip.checkpoint import Checkpoint, State
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


class Search:
    """Two networks that are fitted to an image by Algorithm 1 of Huo et al. (TPAMI 2023).

    Parameters
    ----------
    image : Tensor
        ``(1, C, Y, X)`` in [0, 1].
    settings : Settings
        Among others, the schedule.
    rng : torch.Generator
        Source of the networks' input and of the samples.
    """

    def __init__(self, image: Tensor, settings: Settings, rng: torch.Generator):
        self._image, self._settings, self._rng = image, settings, rng
        device = image.device
        canvas = [n + k - 1 for n, k in zip(size_of(image), settings.psf_shape, strict=True)]
        noise = torch.rand((1, NOISE_CHANNELS, *canvas), generator=rng, device=device)
        self._image_noise = (NOISE_AMPLITUDE * noise).to(memory_format=torch.channels_last)
        noise = torch.rand((1, KERNEL_NOISE_LENGTH), generator=rng, device=device)
        self._kernel_noise = NOISE_AMPLITUDE * noise
        self._generators = image_generator, kernel_generator = build_generators(image.shape[1], settings)
        image_generator.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # stub
        kernel_generator.to(device)
        self._optimizer = torch.optim.Adam(
            [
                {"params": image_generator.parameters(), "rate": settings.image_rate},
                {"params": kernel_generator.parameters(), "rate": settings.psf_rate},
            ]
        )
        self._objective = Objective(image, settings, rng)

    def estimates(self, start: Checkpoint | None = None) -> Iterator[Estimate]:
        """Yield every step, or the one of a checkpoint and those after it.

        An estimate holds the values its step started from, so that it costs no evaluation of its own.
        """
        done = 0
        if start is not None:
            self._load(start.state)
            done = start.estimate.step
            yield start.estimate
        for step in range(done, self._settings.prefit_steps + self._settings.network_steps):
            yield self._advance(step)

    def state(self) -> State:
        """Return what the next step begins with: networks, optimiser and random numbers, as they are."""
        state = {"rng": self._rng.get_state()}
        for name, generator in zip(("image", "kernel"), self._generators, strict=True):
            state |= {f"{name}.{key}": value for key, value in generator.state_dict().items()}
        for number, moments in self._optimizer.state_dict()["state"].items():
            state |= {f"adam.{number}.{key}": value for key, value in moments.items()}
        return state

    def _load(self, state: State) -> None:
        """Take over what `state` has returned."""
        for group in self._optimizer.param_groups:
            for parameter in group["params"]:  # what Adam makes when it is first used
                self._optimizer.state[parameter] = {
                    "step": torch.tensor(0.0),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        live = self.state()
        fill(live, state)
        self._rng.set_state(live["rng"])

    @torch.enable_grad()  # whatever the caller has set
    def _advance(self, step: int) -> Estimate:
        settings = self._settings
        prefit = step < settings.prefit_steps
        done = step if prefit else step - settings.prefit_steps
        halvings = sum(done >= part * settings.network_steps for part in RATE_HALVINGS)
        for group in self._optimizer.param_groups:
            group["lr"] = group["rate"] * 0.5**halvings
        image_generator, kernel_generator = self._generators
        with mixed_precision(self._image.device, settings.mixed_precision):
            posterior = image_generator(self._image_noise)
        kernel = kernel_generator(self._kernel_noise)
        terms: dict[str, Tensor] = {}
        if prefit:
            loss = prefit_loss(posterior, kernel, self._image)
        else:
            terms = self._objective(posterior, kernel, done / settings.network_steps)
            loss = -total(terms)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return Estimate(
            "prefit" if prefit else "search",
            step + 1,
            settings.prefit_steps + settings.network_steps + settings.rounds,
            posterior.detach(),
            kernel.detach(),
            {"loss": loss.detach()} | {name: value.detach() for name, value in terms.items()},
        )


def mixed_precision(device: torch.device, wanted: bool) -> contextlib.AbstractContextManager[object]:
    """Bfloat16 inside the networks where it is faster: on CUDA."""
    if wanted and device.type == "cuda":
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """Sum of the terms of an objective."""
    return torch.stack(list(terms.values())).sum()


class Objective:
    """What the networks maximise, as a function of the part of the steps that is done."""

    def __init__(self, image: Tensor, settings: Settings, rng: torch.Generator):
        self.image = image
        self.settings = settings
        self.rng = rng
        self.similarity = StructuralSimilarity(image)

    def __call__(self, posterior: Posterior, kernel: Tensor, progress: float) -> dict[str, Tensor]:
        """Objective at ``progress`` in [0, 1): the bound, structural similarity, or both.

        Returns
        -------
        dict of str to Tensor
            The terms it is the sum of, by the names of `estimate.OBJECTIVE`, each with its weight.
        """
        terms = {}
        if progress < self.settings.bound_until:
            second_half = progress >= self.settings.bound_until / 2
            weight = self.settings.bound_weight
            bound = self.bound(posterior, kernel, second_half)
            terms = {name: weight * value for name, value in bound.items()}
        if progress >= self.settings.similarity_from:
            terms["similarity"] = self.similarity(blur(posterior.mean, kernel))
        return terms

    def bound(self, posterior: Posterior, kernel: Tensor, second_half: bool) -> dict[str, Tensor]:
        """Terms of the variational bound times the noise variance: data plus weighted prior and entropy.

        A method that is not variational has a point for a posterior: no sample and no entropy. Without
        a prior there is no entropy either (VDIP-Std).
        """
        settings = self.settings
        data = data_term(sample(posterior, self.rng), kernel, self.image)
        if settings.prior == "none":
            return {"data": data}
        match settings.prior:
            case "sparse":
                prior = sparse_log_prior(posterior)
            case "extreme":
                prior = extreme_log_prior(posterior, self.rng, settings.bright_variance)
            case other:
                assert_never(other)
        priors = {"prior": prior, "psf_prior": settings.psf_prior_weight * kernel_log_prior(kernel)}
        if settings.variational:
            priors["entropy"] = entropy(posterior)
        weight = settings.prior_weight * PUBLISHED_PRIOR_WEIGHTS[settings.prior]
        weight *= PRIOR_DROP if second_half else 1
        return {"data": data} | {name: weight * value for name, value in priors.items()}
