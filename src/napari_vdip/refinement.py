"""The bound maximised over gradients and kernel, then over pixels.

For a fixed kernel the posterior of the latent image has a closed form up to its weights, and for a fixed
posterior the kernel is a small quadratic problem, so cheap rounds of either do without networks. They
begin at a coarse scale (see ``coarse_to_fine``) or where networks have led, and go on in the gradient (see
``candidate``). In an image with fine detail, and in a photograph that a long track has taken it from, they
begin from several starts, and one kernel is kept (see ``starts``). It is revised at half the resolution
(see ``half_resolution``), sharpened by what it blurs more than the image's power allows (see ``power``) or
than pixels can show (see ``sharpness``), and moved by part of a pixel, so that the image need not be when
both are centred.
Where an image has no fine detail, as a dense or a faint specimen under a compact blur, a free kernel may
be led astray: round Gaussians are tried as well (see ``widths``), no wider than the power allows. The free
kernel is kept if it is no wider than that or bent, and if it predicts better what was left out by more than
a standard error; without its haze, if it predicts better so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from napari_vdip.bentness import is_bent
from napari_vdip.candidate import Candidate, annealed
from napari_vdip.checkpoint import fill
from napari_vdip.coarse_to_fine import Start, from_coarse_to_fine
from napari_vdip.comparison import LEFT_OUT, error_of_entry, judged_part, judged_region, without_haze
from napari_vdip.estimate import Estimate
from napari_vdip.generators import Posterior
from napari_vdip.half_resolution import HalfResolution
from napari_vdip.kernel_spectrum import sharpened, to_whole_pixels
from napari_vdip.latent import PIXEL_ROUNDS, restore
from napari_vdip.noise import noise_variance
from napari_vdip.operators import extend
from napari_vdip.posterior import sparse_precision
from napari_vdip.power import Power
from napari_vdip.prediction import PART, HeldOut
from napari_vdip.regularization import regularization_of
from napari_vdip.sharpness import (
    ROUND,
    SHARPEST,
    floor_of,
    kept_amplitude,
    psf_error_of,
    resolution_of,
    sharpness,
)
from napari_vdip.starts import is_track, least_left, sparsest, starts_of
from napari_vdip.widths import TRIALS, try_widths

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from napari_vdip.checkpoint import Checkpoint, State
    from napari_vdip.estimate import Phase
    from napari_vdip.settings import Settings

HALF_ROUNDS = 30
"""Rounds at half the resolution, if there are more than twice as many for the kernel."""
SHOWN = 4
"""Rounds for the kernel after each of which the latent image follows: to be shown, and at last."""
GAPS = (1, 2, 4)
"""Sides in pixels of what is left out, where kernels are compared. Widths are tried with the first. Over
the narrow ones the neighbours predict an image that is all but free of noise, whatever the kernel."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found: a latent canvas ``(1, C, H, W)`` and a kernel ``(1, 1, kh, kw)``."""

    mean: Tensor
    kernel: Tensor


class Refinement:
    """The rounds that find the kernel of one image, and then its latent image.

    Parameters
    ----------
    image : Tensor
        ``(1, C, Y, X)`` in [0, 1].
    settings : Settings
        How many rounds, and what they assume of the image.
    rng : torch.Generator
        Source of the samples.
    """

    def __init__(self, image: Tensor, settings: Settings, rng: torch.Generator):
        self._image, self._settings, self._rng = image, settings, rng
        self._variance = noise_variance(image)
        self._sharp = sharpness(image, self._variance)
        self._colour = image.shape[1] > 1
        self._starts = starts_of(settings, self._sharp, self._colour)
        self._moved = False
        searched = settings.prefit_steps + settings.network_steps
        self._before, self._steps = searched + settings.coarse_rounds, searched + settings.rounds
        self._done = 0
        self._found = image
        self._candidates = list[Candidate]()

    def estimates(self, start: Estimate | None, checkpoint: Checkpoint | None = None) -> Iterator[Estimate]:
        """Yield posterior mean, kernel and noise level after each of ``settings.rounds`` rounds.

        Parameters
        ----------
        start : Estimate or None
            Where the networks have led. If there are none, a kernel is found from coarse to fine.
        checkpoint : Checkpoint, optional
            Of an earlier process, in place of a start: its estimate is the first.
        """
        image, settings, variance = self._image, self._settings, self._variance
        mean = yield from self._begun(start, checkpoint)
        sharp = self._sharp
        kernel_rounds, half_rounds, comparisons, pixel_rounds = rounds_of(settings, sharp)
        found = yield from self._matched(mean, kernel_rounds)
        if half_rounds:
            found = yield from self._revised(found, half_rounds)
        kernel = found.kernel
        if comparisons:
            kernel = yield from self._plausible(found)
        resolution = resolution_of(kernel, sharp, settings)
        if sharp > ROUND:
            kernel = sharpened(kernel, Power(image).excess_of(kernel), to_whole_pixels(kernel))
        elif resolution:
            kernel = sharpened(kernel, resolution)
        yield from restore(
            image,
            kernel,
            pixel_rounds,
            self._rng,
            variance,
            regularization_of(image, variance, kernel, sharp, settings.pooling, settings.seed, resolution),
            psf_error=psf_error_of(sharp, settings),
            step=self._before + self._done,
            steps=self._steps,
        )

    def state(self) -> State | None:
        """Return what the next round for the kernel begins with, as it is; ``None`` in other rounds."""
        if not self._candidates:
            return None
        shared = {"rng": self._rng.get_state(), "found": self._found}
        return shared | {
            f"{number}.{name}": tensor
            for number, candidate in enumerate(self._candidates)
            for name, tensor in candidate.state().items()
        }

    def _estimate(self, mean: Tensor, kernel: Tensor, noise: Tensor, phase: Phase) -> Estimate:
        """Return the estimate of one more round."""
        self._done += 1
        terms = {"noise": noise.mean().sqrt()}
        step = self._before + self._done
        return Estimate("refinement", step, self._steps, Posterior(mean), kernel, terms, phase=phase)

    def _begun(
        self, start: Estimate | None, checkpoint: Checkpoint | None
    ) -> Generator[Estimate, None, Tensor]:
        """Make the candidates at full resolution, and return the latent image that is shown."""
        if checkpoint:
            self._resume(checkpoint)
            yield checkpoint.estimate
            return checkpoint.estimate.posterior.mean
        if start:
            with torch.no_grad():  # never across a yield, where the caller's code runs
                floor = self._floor(self._starts[0])
                candidate = Candidate(self._image, start.posterior.mean, start.kernel, floor)
                self._found = start.posterior.mean.roll(candidate.confine(), (-2, -1))
            self._candidates = [candidate]
            return self._found
        candidates = yield from self._from_coarse_to_fine()
        if self._sharp <= ROUND:
            if is_track(candidates[0].kernel, self._settings, self._colour):
                self._believe_in_a_track()
            else:
                candidates = candidates[:1]
        self._candidates = candidates
        self._found = extend(self._image, self._settings.psf_shape)
        return self._found

    def _believe_in_a_track(self) -> None:
        """Go on as with the sharpest image."""
        self._moved, self._sharp = True, SHARPEST

    def _matched(self, mean: Tensor, rounds: int) -> Generator[Estimate, None, Answer]:
        """Find the kernel at full resolution from every start; shown is that of the first."""
        variance, candidates = self._variance, self._candidates
        for done in range(self._done + 1, rounds + 1):
            with torch.no_grad():
                noise = annealed(variance, done / rounds)
                for candidate in candidates:
                    candidate.advance(noise)
                if done % SHOWN == 0 or done == rounds:
                    mean = self._latent(candidates[0].kernel, noise, mean)
            yield self._estimate(mean, candidates[0].kernel, noise, "full resolution")
        self._candidates = []
        with torch.no_grad():
            best = least_left(candidates, variance) if self._moved else sparsest(candidates)
            if best is not candidates[0]:
                mean = self._found
                for _ in range(math.ceil(rounds / SHOWN)):
                    mean = self._latent(best.kernel, variance, mean)
            return Answer(mean, best.kernel)

    def _from_coarse_to_fine(self) -> Generator[Estimate, None, list[Candidate]]:
        """Return a candidate for each start, which advance side by side."""
        searches = [
            from_coarse_to_fine(self._image, self._variance, self._floor(start), self._settings, start)
            for start in self._starts
        ]
        found = list[Candidate]()
        while not found:
            estimates = list[Estimate]()
            for search in searches:
                try:
                    estimates.append(next(search))
                except StopIteration as end:
                    found.append(end.value)
            yield from estimates[:1]
        return found

    def _resume(self, checkpoint: Checkpoint) -> None:
        """Take over the candidates of a checkpoint, and the rest of its `state`."""
        estimate = checkpoint.estimate
        self._done = estimate.step - self._before
        self._found = torch.zeros_like(estimate.posterior.mean)
        count = sum(name.endswith(".kernel") for name in checkpoint.state)
        self._candidates = [
            Candidate(self._image, self._found, estimate.kernel.clone(), self._floor(start))
            for start in self._starts[:count]
        ]
        if count > 1 and self._sharp <= ROUND:
            self._believe_in_a_track()
        live = self.state() or {}
        fill(live, checkpoint.state)
        self._rng.set_state(live["rng"])

    def _floor(self, start: Start) -> float:
        """Floor of the gradient at full resolution."""
        return floor_of(start.sharp or self._sharp, self._variance, self._settings)

    def _latent(self, kernel: Tensor, noise: Tensor, mean: Tensor) -> Tensor:
        """Latent image for a kernel, nearer to the posterior's mean than the one given."""
        precision = sparse_precision(self._found, kernel, noise.sqrt(), pooling=self._settings.pooling)
        return precision.mean(self._image, mean)

    def _revised(self, found: Answer, rounds: int) -> Generator[Estimate, None, Answer]:
        """Return what was found with what half the resolution tells of its kernel."""
        mean, kernel = found.mean, found.kernel
        with torch.no_grad():
            half = HalfResolution(self._image, mean, kernel)
        for number in range(1, rounds + 1):
            with torch.no_grad():
                half.advance(number / rounds)
            yield self._estimate(mean, kernel, self._variance, "half resolution")
        with torch.no_grad():
            return Answer(mean, half.merged(kernel, kept_amplitude(kernel, self._sharp)))

    def _plausible(self, found: Answer) -> Generator[Estimate, None, Tensor]:
        """Return the kernel that was found, or a Gaussian, which is not yielded yet."""
        mean, kernel = found.mean, found.kernel
        image, variance = self._image, self._variance
        with torch.no_grad():
            seen = self._held_out(GAPS[0], PART)
            tests = [self._held_out(gap, LEFT_OUT) for gap in GAPS]
        power = Power(image)
        trying = try_widths(seen, self._settings.psf_shape, image.device, power.widest())
        for _ in range(TRIALS):
            with torch.no_grad():
                gaussian = next(trying)
            yield self._estimate(mean, kernel, variance, "comparison")
        with torch.no_grad():
            plausible = power.width_of(kernel) <= power.widest() or self._is_bent(found)
            if plausible:
                kernel = without_haze(kernel, tests[0], error_of_entry(mean, variance))
        gains, errors = list[float](), list[float]()
        for test in tests:
            if plausible:
                with torch.no_grad():
                    gain, error = test.predict(kernel).advantage(test.predict(gaussian.kernel))
                gains.append(gain)
                errors.append(error)
            yield self._estimate(mean, kernel, variance, "comparison")
        return kernel if sum(gains) > math.hypot(*errors) else gaussian.kernel

    def _is_bent(self, found: Answer) -> bool:
        """Whether the kernel that was found is bent, by the part of the image with the most detail."""
        window, floor = self._settings.psf_shape, self._floor(self._starts[0])
        rows, columns = region = judged_region(self._image, self._variance, window)
        height, width = (side - 1 for side in window)
        mean = found.mean[..., rows.start : rows.stop + height, columns.start : columns.stop + width]
        image, variance = self._image[..., *region], self._variance[..., *region]
        return is_bent(image, variance, mean, found.kernel, floor, self._settings.pooling, self._rng)

    def _held_out(self, gap: int, part: float) -> HeldOut:
        """Return what tells of kernels: the image, or its most detailed part, with some of it left out."""
        image, variance = judged_part(self._image, self._variance, self._settings.psf_shape)
        return HeldOut(image, variance, self._settings.pooling, gap, self._rng, part)


def rounds_of(settings: Settings, sharp: float = 1.0) -> tuple[int, int, int, int]:
    """Return the rounds for the kernel at both resolutions, for comparisons, for the latent image.

    For the sharpness of an image: where nothing is compared, the kernel has the rounds.

    Those from coarse to fine, which come before where there are no networks, are not counted.
    """
    rounds = settings.rounds_of_refinement
    compared = settings.gaussians and sharp <= ROUND and rounds > 2 * TRIALS
    comparisons = TRIALS + len(GAPS) if compared else 0
    kernel = max(rounds - comparisons - PIXEL_ROUNDS, 1)
    half = HALF_ROUNDS if kernel > 2 * HALF_ROUNDS else 0
    return kernel - half, half, comparisons, rounds - kernel - comparisons
