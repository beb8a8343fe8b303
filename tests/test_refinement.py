"""The refinement's parts against closed forms, and its effect on a scene with a known truth."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from napari_vdip.estimate import Estimate
from napari_vdip.generators import Posterior
from napari_vdip.operators import blur, crop, gradient, gradient_adjoint, kernel_adjoint
from napari_vdip.refinement import (
    centre,
    largest_eigenvalue,
    noise_level,
    onto_simplex,
    refine,
    update_kernel,
)


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def pieces(size, seed=0, channels=1):
    """Piecewise constant ``(1, C, size, size)`` scene in [0, 1]."""
    random = np.random.default_rng(seed)
    scene = np.full((1, channels, size, size), 0.2)
    for _ in range(size // 2):
        y, x = random.integers(0, size - 4, 2)
        h, w = random.integers(3, size // 4, 2)
        scene[..., y : y + h, x : x + w] = random.uniform(0, 1, (1, channels, 1, 1))
    return torch.from_numpy(scene)


def bent_kernel(size=9, dtype=torch.float64):
    """Kernel of a short bent track, ``(1, 1, size, size)``, its centroid off the middle."""
    track = np.zeros((size, size))
    middle = size // 2
    track[middle, middle - 2 : middle + 2] = [1, 2, 3, 2]
    track[middle - 2 : middle, middle + 1] = [1, 2]
    return torch.from_numpy(track / track.sum())[None, None].to(dtype)


def centroid(kernel):
    k = kernel[0, 0]
    y, x = (torch.arange(n, dtype=k.dtype) - n // 2 for n in k.shape)
    return float((k.sum(1) * y).sum()), float((k.sum(0) * x).sum())


# --- simplex -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_the_projection_meets_the_conditions_of_the_nearest_point(scale, rng):
    """Nearest on the simplex: a common threshold is taken from all that stay positive."""
    raw = scale * torch.randn(1, 1, 5, 7, generator=rng, dtype=torch.float64)
    projected = onto_simplex(raw)
    assert projected.shape == raw.shape
    assert projected.min() >= 0
    assert float(projected.sum()) == pytest.approx(1, abs=1e-10)
    positive = projected > 0
    thresholds = (raw - projected)[positive]
    torch.testing.assert_close(thresholds, thresholds.mean().expand_as(thresholds), atol=1e-10, rtol=0)
    assert (raw[~positive] <= thresholds.mean() + 1e-10).all()


def test_the_projection_is_nearer_than_every_point_of_a_grid_on_the_simplex(rng):
    raw = torch.randn(1, 1, 1, 3, generator=rng, dtype=torch.float64)
    projected = onto_simplex(raw)
    shares = [(i, j, 20 - i - j) for i, j in itertools.product(range(21), repeat=2) if i + j <= 20]
    grid = torch.tensor(shares, dtype=torch.float64).view(-1, 1, 1, 3) / 20
    assert ((grid - raw).square().sum((-2, -1)) >= (projected - raw).square().sum() - 1e-12).all()


def test_a_kernel_is_its_own_projection():
    kernel = bent_kernel()
    torch.testing.assert_close(onto_simplex(kernel), kernel, atol=1e-14, rtol=0)


# --- eigenvalue --------------------------------------------------------------------------------------


def test_the_largest_eigenvalue_of_the_kernels_problem_is_bounded_closely_from_above(rng):
    for seed in range(3):
        latents = pieces(40, seed) + 0.02 * torch.randn(2, 1, 40, 40, generator=rng, dtype=torch.float64)

        def product(k, latents=latents):
            back = gradient_adjoint(*gradient(blur(latents, k)))
            return kernel_adjoint(back, latents).mean((0, 1), keepdim=True)

        basis = torch.eye(49, dtype=torch.float64).view(49, 1, 1, 7, 7)
        dense = torch.stack([product(k).flatten() for k in basis])
        exact = float(torch.linalg.eigvalsh(dense).max())
        bound = float(largest_eigenvalue(product, torch.zeros(1, 1, 7, 7, dtype=torch.float64)))
        assert exact <= bound <= 1.1 * exact


# --- kernel ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_the_true_latent_image_gives_the_true_kernel(channels):
    latent, kernel = pieces(64, channels=channels), bent_kernel()
    estimate = torch.full_like(kernel, 1 / kernel.numel())
    for _ in range(10):
        estimate = update_kernel(estimate, latent, blur(latent, kernel))
    assert float((estimate - kernel).abs().sum()) < 0.02


def test_an_update_of_the_kernel_lowers_the_gradient_residual_and_stays_on_the_simplex(rng):
    latent, kernel = pieces(64), bent_kernel()
    image = blur(latent, kernel)
    image = image + 0.01 * torch.randn(image.shape, generator=rng, dtype=torch.float64)

    def residual(k):
        return float(sum(part.square().sum() for part in gradient(blur(latent, k) - image)))

    start = onto_simplex(torch.rand(kernel.shape, generator=rng, dtype=torch.float64))
    updated = update_kernel(start, latent, image)
    assert residual(updated) < 0.2 * residual(start)
    assert updated.min() >= 0
    assert float(updated.sum()) == pytest.approx(1, abs=1e-10)


# --- centring ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [(0, 0), (2, -1), (-2, 2)])
def test_centring_moves_the_kernel_to_the_middle_and_keeps_the_blurred_image(offset):
    latent, kernel = pieces(48), bent_kernel(13).roll(offset, (-2, -1))
    moved_latent, moved_kernel = centre(latent, kernel)
    assert max(abs(position) for position in centroid(moved_kernel)) <= 0.5
    assert sorted(moved_kernel.flatten().tolist()) == sorted(kernel.flatten().tolist())
    inside = (..., slice(4, -4), slice(4, -4))  # the canvas wraps around
    before, after = blur(latent, kernel), blur(moved_latent, moved_kernel)
    torch.testing.assert_close(after[inside], before[inside], atol=1e-12, rtol=0)


# --- noise -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sigma", [0.005, 0.02, 0.1])
def test_the_noise_level_of_a_smooth_image_is_recovered(sigma, channels, rng):
    smooth = gaussian_filter(pieces(128, channels=channels).numpy(), (0, 0, 4, 4))
    noise = sigma * torch.randn(smooth.shape, generator=rng, dtype=torch.float64)
    assert noise_level(torch.from_numpy(smooth) + noise) == pytest.approx(sigma, rel=0.1)


def test_a_noiseless_image_still_has_a_positive_noise_level():
    assert noise_level(torch.full((1, 1, 8, 8), 0.5)) > 0


# --- refinement --------------------------------------------------------------------------------------


@pytest.fixture
def scene(rng):
    """Latent image, kernel and noisy blurred image in float32."""
    latent, kernel = pieces(72).float(), bent_kernel(9, torch.float32)
    image = blur(latent, kernel)
    return latent, kernel, image + 0.003 * torch.randn(image.shape, generator=rng)


def start_from(image, kernel):
    """Estimate that pads the blurred image to the canvas."""
    reach = [n // 2 for n in kernel.shape[-2:]]
    canvas = torch.nn.functional.pad(image, (reach[1], reach[1], reach[0], reach[0]), mode="replicate")
    return Estimate("search", 5, 13, Posterior(canvas), kernel, {})


def psnr(estimate, truth):
    """Peak signal-to-noise ratio at the best whole-pixel shift of up to three, without a border."""
    inside = (..., slice(8, -8), slice(8, -8))
    shifts = itertools.product(range(-3, 4), repeat=2)
    errors = [(estimate.roll(by, (-2, -1)) - truth)[inside].square().mean() for by in shifts]
    return -10 * float(torch.log10(torch.stack(errors).min()))


def test_refinement_sharpens_the_image_from_a_mildly_wrong_kernel(scene, rng):
    latent, kernel, image = scene
    wrong = torch.from_numpy(gaussian_filter(kernel.numpy(), (0, 0, 1, 1)))
    start = start_from(image, wrong / wrong.sum())
    *_, last = refine(image, start, 8, rng)
    truth = crop(latent, (9, 9))
    assert psnr(crop(last.posterior.mean, (9, 9)), truth) > psnr(image, truth) + 5


def test_every_round_yields_a_valid_estimate_and_counts_on(scene, rng):
    _, kernel, image = scene
    start = start_from(image, kernel)
    levels = []
    for round_number, estimate in enumerate(refine(image, start, 3, rng), start=1):
        assert torch.is_grad_enabled()
        assert (estimate.stage, estimate.step, estimate.steps) == ("refinement", 5 + round_number, 13)
        assert estimate.posterior.mean.shape == start.posterior.mean.shape
        assert estimate.kernel.min() >= 0
        assert float(estimate.kernel.sum()) == pytest.approx(1, abs=1e-5)
        levels.append(float(estimate.terms["noise"]))
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] == pytest.approx(noise_level(image))
