"""The bound maximised over gradients and kernel, then over pixels.

For a fixed kernel the posterior of the latent image has a closed form up to its weights, and for a fixed
posterior the kernel is a small quadratic problem, so cheap rounds of either do without networks. They
begin at a coarse scale (see ``coarse_to_fine``) or where networks have led, and go on in the gradient (see
``candidate``). A kernel that is not round is revised at half the resolution (see ``half_resolution``).
Where an image has no fine detail, as a dense or a faint specimen under a compact blur, a free kernel may
be led astray: round Gaussians are tried as well (see ``widths``), no wider than the image's power allows
(see ``power``). The free kernel is kept if it is no wider than that or bent, and if it predicts better
what was left out by more than a standard error; without its haze, if it predicts better so.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_vdip.candidate import Candidate, annealed
from napari_vdip.coarse_to_fine import from_coarse_to_fine
from napari_vdip.estimate import Estimate
from napari_vdip.generators import Posterior
from napari_vdip.half_resolution import HalfResolution
from napari_vdip.latent import PIXEL_ROUNDS, restore
from napari_vdip.noise import fine_detail, noise_variance
from napari_vdip.operators import extend, size_of
from napari_vdip.posterior import sparse_precision
from napari_vdip.power import Power
from napari_vdip.prediction import HeldOut
from napari_vdip.support import cleared
from napari_vdip.widths import TRIALS, try_widths

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_vdip.settings import Settings

HALF_ROUNDS = 30
"""Rounds at half the resolution, if there are more than twice as many for the kernel."""
SHOWN = 4
"""Rounds for the kernel after each of which the latent image follows: to be shown, and at last."""
FLOOR = 0.05
"""Floor of the gradient, in noise levels, of an image without detail as fine as its pixels."""
PSF_ERROR = 2e-4
"""Expected sum of the squared errors of its kernel."""
SMOOTH = 2.0
"""Fine detail, relative to the noise, up to which an image has none."""
SHARPEST = 5.0
"""Largest sharpness of an image."""
ROUND = 1.5
"""Sharpness up to which round Gaussians are tried. An image with finer detail tells its blur itself, and
what a kernel does not explain of its edges would decide for a Gaussian."""
GAPS = (1, 2, 4)
"""Sides in pixels of what is left out, where kernels are compared. Widths are tried with the first. Over
the narrow ones the neighbours predict an image that is all but free of noise, whatever the kernel."""
LEFT_OUT = 0.2
"""Part of the pixels that is left out to judge the free kernel: more than for a width, as more depends on
it."""
BENT = 3.0
"""Standard errors by which a kernel has to predict better than the same turned by quarters of a turn to be
taken for bent. All pass the same frequencies, which decide where other kernels are compared."""
HAZES = (0.4, 0.3, 0.2)
"""Parts of its maximum below which entries of a kernel may be haze (see `support_of`), largest first. Not
less: the faint end of a blur would go."""
CLEARER = 2.0
"""Standard errors by which a kernel without haze has to predict better than with it."""
NARROW = 1.25
"""Standard deviation in pixels of a kernel that half the resolution is too coarse for."""


def refine(
    image: Tensor, start: Estimate | None, settings: Settings, rng: torch.Generator
) -> Iterator[Estimate]:
    """Update the kernel, at half the resolution too, compare it with Gaussians, and update the image.

    Parameters
    ----------
    image : Tensor
        ``(1, C, Y, X)`` in [0, 1].
    start : Estimate or None
        Where the networks have led. If there are none, a kernel is found from coarse to fine.
    settings : Settings
        How many rounds, and what they assume of the image.
    rng : torch.Generator
        Source of the samples.

    Yields
    ------
    Estimate
        Posterior mean and kernel, and the noise level, after each of ``settings.rounds`` rounds.
    """
    variance = noise_variance(image)
    window = settings.psf_shape
    before, steps = (start.step, start.steps) if start else (settings.coarse_rounds, settings.rounds)

    def estimate(done: int, mean: Tensor, kernel: Tensor, noise: Tensor) -> Estimate:
        terms = {"noise": noise.mean().sqrt()}
        return Estimate("refinement", before + done, steps, Posterior(mean), kernel, terms)

    with torch.no_grad():  # never across a yield, where the caller's code runs
        sharp = sharpness(image, variance)
        floor = floor_of(sharp, variance, settings)
    kernel_rounds, half_rounds, comparisons, pixel_rounds = rounds_of(settings, sharp)
    if start:
        with torch.no_grad():
            candidate = Candidate(image, start.posterior.mean, start.kernel, floor)
            found = start.posterior.mean.roll(candidate.confine(), (-2, -1))
    else:
        found = extend(image, window)
        candidate = yield from from_coarse_to_fine(image, variance, floor, settings)
    mean = found
    for done in range(1, kernel_rounds + 1):
        with torch.no_grad():
            noise = annealed(variance, done / kernel_rounds)
            candidate.advance(noise)
            kernel = candidate.kernel
            if done % SHOWN == 0 or done == kernel_rounds:
                precision = sparse_precision(found, kernel, noise.sqrt(), pooling=settings.pooling)
                mean = precision.mean(image, mean)
        yield estimate(done, mean, kernel, noise)
    done = kernel_rounds
    revised = kernel
    if half_rounds:
        with torch.no_grad():
            half = HalfResolution(image, mean, kernel)
        for number in range(1, half_rounds + 1):
            with torch.no_grad():
                half.advance(number / half_rounds)
            done += 1
            yield estimate(done, mean, kernel, variance)
        with torch.no_grad():
            revised = half.merged(kernel, kept_amplitude(kernel, sharp))
    if comparisons:
        with torch.no_grad():
            seen = HeldOut(image, variance, settings.pooling, GAPS[0], rng)
            tests = [HeldOut(image, variance, settings.pooling, gap, rng, LEFT_OUT) for gap in GAPS]
        power = Power(image)
        trying = try_widths(seen, window, image.device, power.widest())
        for _ in range(TRIALS):
            with torch.no_grad():
                gaussian = next(trying)
            done += 1
            yield estimate(done, mean, kernel, variance)
        with torch.no_grad():
            plausible = power.width_of(revised) <= power.widest() or is_bent(revised, tests[0])
            if plausible:
                revised = without_haze(revised, tests[0])
        gains, errors = list[float](), list[float]()
        for test in tests:
            if plausible:
                with torch.no_grad():
                    gain, error = test.predict(revised).advantage(test.predict(gaussian.kernel))
                gains.append(gain)
                errors.append(error)
            done += 1
            yield estimate(done, mean, kernel, variance)
        if sum(gains) <= math.hypot(*errors):
            revised, mean = gaussian.kernel, gaussian.mean
    yield from restore(
        image,
        revised,
        mean,
        pixel_rounds,
        rng,
        variance,
        settings.pooling,
        psf_error=psf_error_of(sharp, settings),
        misfit=sharp,
        step=before + done,
        steps=steps,
    )


def sharpness(image: Tensor, variance: Tensor) -> float:
    """Return how much fine detail stands out of the noise, between one and `SHARPEST`.

    For an image ``(1, C, Y, X)`` in [0, 1] and the variance of its noise, of the same shape. It tells what
    was seen through a lens, whose structure is smooth on the scale of pixels, from photographs, whose edges
    are one pixel wide. These are blurred by bent tracks, of which more can be wrong than of a spot, and
    their noise is so weak that what the model leaves out matters more: the variance of both together is
    taken to be that of the noise times the sharpness.
    """
    return min(max(fine_detail(image, variance) / SMOOTH, 1.0) ** 2, SHARPEST)


def floor_of(sharp: float, variance: Tensor, settings: Settings) -> float:
    """Return the gradient, in [0, 1] units, below which the prior makes no difference.

    The prior is not to sharpen smooth structure; sharp edges tell of their blur only as far as the prior
    lets them be.
    """
    levels = FLOOR / sharp if settings.gradient_floor is None else settings.gradient_floor
    return levels * float(variance.median().sqrt())


def psf_error_of(sharp: float, settings: Settings) -> float:
    """Return the sum of squared errors that is expected of the kernel, for the sharpness of an image."""
    return PSF_ERROR * sharp**2 if settings.psf_error is None else settings.psf_error


def kept_amplitude(kernel: Tensor, sharp: float) -> float:
    """Return how far a kernel, at half the resolution, keeps the amplitude that the full one has found.

    For a kernel ``(1, 1, kh, kw)`` and the sharpness of its image: from 0, nothing of it, to 1, all of it,
    for the sharpest image. A kernel narrower than `NARROW` keeps all.
    """
    places = [torch.arange(side, device=kernel.device) - side // 2 for side in size_of(kernel)]
    profiles = kernel[0, 0].sum(1), kernel[0, 0].sum(0)
    variances = [
        float((profile * place**2).sum() - (profile * place).sum() ** 2)
        for profile, place in zip(profiles, places, strict=True)
    ]
    narrow = sum(variances) / 2 < NARROW**2
    return 1.0 if narrow else (sharp - 1) / (SHARPEST - 1)


def is_bent(kernel: Tensor, held_out: HeldOut) -> bool:
    """Whether a kernel ``(1, 1, kh, kw)`` predicts better than if turned by quarters, and not by chance."""
    height, width = size_of(kernel)
    rows, columns = ((max(height, width) - side) // 2 for side in (height, width))
    square = F.pad(kernel, (columns, columns, rows, rows))
    upright, *turned = (held_out.predict(square.rot90(quarters, (-2, -1))) for quarters in range(4))
    densities = torch.stack([prediction.densities for prediction in turned]).mean(0)
    gain, error = upright.advantage(replace(upright, densities=densities))
    return gain > BENT * error


def without_haze(kernel: Tensor, held_out: HeldOut) -> Tensor:
    """Return the most compact form of a kernel that predicts better than all of it, and not by chance.

    Strong noise leaves haze in a kernel ``(1, 1, kh, kw)``. Where the blur is faint and wide, what looks
    like it is none: pixels that are left out tell.
    """
    whole = held_out.predict(kernel)
    for faint in HAZES:
        compact = cleared(kernel, faint)
        gain, error = held_out.predict(compact).advantage(whole)
        if gain > CLEARER * error:
            return compact
    return kernel


def rounds_of(settings: Settings, sharp: float = 1.0) -> tuple[int, int, int, int]:
    """Return the rounds for the kernel at both resolutions, for its comparison, for the latent image.

    For the sharpness of an image: where no Gaussians are tried, the kernel has their rounds.

    Those from coarse to fine, which come before where there are no networks, are not counted.
    """
    rounds = settings.rounds_of_refinement
    compared = settings.gaussians and sharp <= ROUND and rounds > 2 * TRIALS
    comparisons = TRIALS + len(GAPS) if compared else 0
    kernel = max(rounds - comparisons - PIXEL_ROUNDS, 1)
    half = HALF_ROUNDS if kernel > 2 * HALF_ROUNDS else 0
    return kernel - half, half, comparisons, rounds - kernel - comparisons
