"""The refinement's parts against closed forms, and its effect on a scene with a known truth."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from napari_vdip import refinement
from napari_vdip.estimate import Estimate
from napari_vdip.generators import Posterior
from napari_vdip.kernel_update import radial_mean, ring_of
from napari_vdip.noise import noise_variance
from napari_vdip.operators import blur, crop
from napari_vdip.refinement import PIXEL_ROUNDS, centre, plain_start, refine


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


FLOOR = 0.2


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


def is_radial(kernel):
    return torch.allclose(radial_mean(kernel), kernel, atol=1e-6)


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
    *_, last = refine(image, start, 50, FLOOR, rng)
    truth = crop(latent, (9, 9))
    assert psnr(crop(last.posterior.mean, (9, 9)), truth) > psnr(image, truth) + 10
    assert not is_radial(last.kernel)  # the blur is not, and the evidence tells


@pytest.mark.parametrize("seed", [0, 1])
def test_the_plain_candidate_wins_for_a_round_blur_and_a_misled_start(seed, rng):
    truth = torch.exp(-ring_of(torch.zeros(9, 9)) / 2)[None, None]
    truth /= truth.sum()
    image = blur(pieces(72, seed).float(), truth)
    image = image + 0.003 * torch.randn(image.shape, generator=rng)
    copies = torch.zeros(1, 1, 9, 9)
    copies[..., 1, 1] = copies[..., 7, 7] = 0.5
    misled = Estimate("search", 5, 13, Posterior(pieces(72, seed + 10).float()), copies, {})
    *_, last = refine(image, misled, 30, FLOOR, rng)
    assert is_radial(last.kernel)
    assert float((last.kernel - truth).abs().sum()) < 0.3


def test_the_plain_start_is_the_image_on_the_canvas_and_a_radial_kernel(scene):
    _, _, image = scene
    canvas, kernel = plain_start(image, (9, 9))
    assert torch.equal(crop(canvas, (9, 9)), image)
    assert torch.equal(canvas[..., :4, 4:-4], image[..., :1, :].expand(-1, -1, 4, -1))
    assert is_radial(kernel)
    assert blur(canvas, kernel).shape == image.shape


@pytest.mark.parametrize("rounds", [1, 2, 12])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_round_yields_a_valid_estimate_and_counts_on(rounds, channels, rng):
    kernel = bent_kernel(9, torch.float32)
    image = blur(pieces(72, channels=channels).float(), kernel)
    image = image + 0.003 * torch.randn(image.shape, generator=rng)
    start = start_from(image, kernel)
    levels, kernels = [], []
    for done, estimate in enumerate(refine(image, start, rounds, FLOOR, rng), start=1):
        assert torch.is_grad_enabled()
        assert (estimate.stage, estimate.step, estimate.steps) == ("refinement", 5 + done, 13)
        assert estimate.posterior.mean.shape == start.posterior.mean.shape
        assert estimate.posterior.mean.isfinite().all()
        assert estimate.kernel.min() >= 0
        assert float(estimate.kernel.sum()) == pytest.approx(1, abs=1e-5)
        levels.append(float(estimate.terms["noise"]))
        kernels.append(estimate.kernel)
    assert len(levels) == rounds
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] == pytest.approx(float(noise_variance(image).mean().sqrt()), rel=1e-3)
    found = max(rounds - PIXEL_ROUNDS, 1)
    assert all(torch.equal(late, kernels[found - 1]) for late in kernels[found:])


def test_the_noise_level_falls_gradually(scene, rng):
    _, kernel, image = scene
    rounds = refine(image, start_from(image, kernel), 12, FLOOR, rng)
    levels = [float(estimate.terms["noise"]) for estimate in rounds]
    assert len(set(levels)) > 6
    assert levels[0] > 3 * levels[-1]


def test_without_the_plain_start_the_networks_kernel_is_the_only_candidate(monkeypatch, rng):
    made = []

    class Spy(refinement.Candidate):
        def __init__(self, *arguments, radial):
            made.append(radial)
            super().__init__(*arguments, radial=radial)

    monkeypatch.setattr(refinement, "Candidate", Spy)
    image = torch.rand((1, 1, 24, 24), generator=rng)
    canvas, kernel = refinement.plain_start(image, (5, 5))
    begin = Estimate("search", 1, 2, Posterior(canvas), kernel, {})
    for plain in (True, False):
        list(refine(image, begin, 1, 0.2, rng, plain=plain))
    assert made == [False, True, False]
