"""A candidate for the kernel against the closed forms of its posterior and its bound."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import hadamard

from napari_vdip.candidate import Candidate, gradient_noise, gradients
from napari_vdip.kernel_update import radial_mean, ring_of
from napari_vdip.operators import blur

SIGMA = 0.02
FLOOR = 0.004


pytestmark = pytest.mark.usefixtures("double")


def gaussian(width, size=7):
    kernel = torch.exp(-ring_of(torch.zeros(size, size)) / (2 * width**2))[None, None]
    return kernel / kernel.sum()


def tiles(channels=1, size=42):
    """Random tiles of 6 x 6 pixels, ``(1, C, size, size)``."""
    values = np.random.default_rng(0).random((1, channels, size // 6, size // 6))
    return torch.from_numpy(np.kron(values, np.ones((6, 6))))


def observe(latent, rng, kernel=None):
    """Noisy blurred image, and the variances of its noise, twice as large on one side."""
    image = blur(latent, gaussian(1.0) if kernel is None else kernel)
    noise = torch.full_like(image, SIGMA**2)
    noise[..., image.shape[-1] // 2 :] *= 2
    return image + noise.sqrt() * torch.randn(image.shape, generator=rng), noise


# --- gradients ---------------------------------------------------------------------------------------


def test_gradients_are_the_differences_that_start_at_one_pixel(rng):
    image = torch.rand(1, 2, 5, 7, generator=rng)
    down, right = np.diff(image[0], axis=1)[..., :-1], np.diff(image[0], axis=2)[:, :-1]
    expected = torch.from_numpy(np.concatenate([down, right]))[:, None]
    torch.testing.assert_close(gradients(image), expected)


def test_the_noise_of_a_gradient_is_the_largest_value_of_its_spectrum():
    variance = gradient_noise(torch.full((1, 1, 5, 7), SIGMA**2))
    torch.testing.assert_close(variance, torch.full((2, 1, 4, 6), 4 * SIGMA**2))
    difference = torch.eye(99, 100).roll(1, 1) - torch.eye(99, 100)
    spectrum = SIGMA**2 * torch.linalg.eigvalsh(difference @ difference.T)
    assert 0.99 * float(variance.max()) < float(spectrum.max()) <= float(variance.min())


def test_the_noise_of_a_gradient_is_twice_the_sum_of_those_of_its_pixels(rng):
    variance = torch.rand(1, 2, 5, 7, generator=rng)
    noise = gradient_noise(variance)
    assert noise.shape == gradients(variance).shape
    for channel in range(2):
        own = variance[0, channel]
        torch.testing.assert_close(noise[channel, 0], 2 * (own[1:, :-1] + own[:-1, :-1]))
        torch.testing.assert_close(noise[2 + channel, 0], 2 * (own[:-1, 1:] + own[:-1, :-1]))


# --- posterior ---------------------------------------------------------------------------------------


def test_the_first_variance_is_the_closed_form_inside(rng):
    latent, kernel = tiles(), gaussian(1.0)
    image, _ = observe(latent, rng)
    candidate = Candidate(image, latent, kernel, FLOOR, False)
    candidate.advance(torch.full_like(image, SIGMA**2))
    data = kernel.square().sum() / (4 * SIGMA**2)
    expected = 1 / (data + 1 / (candidate.mean.square() + FLOOR**2))
    inside = (..., slice(6, -6), slice(6, -6))  # every entry is seen by the whole kernel
    torch.testing.assert_close(candidate.variance[inside], expected[inside])


def test_the_first_mean_is_that_of_the_dense_system(rng, monkeypatch):
    monkeypatch.setattr("napari_vdip.candidate.SOLVER_STEPS", 500)
    latent, kernel = tiles(size=12), gaussian(1.0, 5)
    image, noise = observe(latent, rng, kernel)
    candidate = Candidate(image, latent, kernel, FLOOR, False)
    start, target, confidence = candidate.mean, candidate.target, 1 / gradient_noise(noise)
    candidate.advance(noise)
    side = start.shape[-1]
    a = blur(torch.eye(side**2).view(-1, 1, side, side), kernel).flatten(1).T
    for i in range(2):
        weighted = a.T * confidence[i].flatten()
        system = weighted @ a + torch.diag(1 / (start[i].square() + FLOOR**2).flatten())
        expected = torch.linalg.solve(system, weighted @ target[i].flatten())
        torch.testing.assert_close(candidate.mean[i].flatten(), expected, atol=1e-8, rtol=0)


# --- bound -------------------------------------------------------------------------------------------


def test_the_bound_is_that_of_an_ensemble_with_the_posterior(rng):
    """Rows of a Hadamard matrix and their negatives have zero mean and the covariance one, exactly."""
    rows = torch.from_numpy(hadamard(64)).double().view(64, 1, 1, 8, 8)
    image, noise = torch.rand(2, 1, 1, 7, 7, generator=rng)
    candidate = Candidate(image, torch.rand(1, 1, 9, 9, generator=rng), gaussian(1.0, 3), FLOOR, False)
    candidate.variance = torch.rand(candidate.mean.shape, generator=rng)
    ensemble = candidate.mean + candidate.variance.sqrt() * torch.cat([rows, -rows])
    residual = torch.stack([candidate.target - blur(one, candidate.kernel) for one in ensemble])
    data = (residual.square() / gradient_noise(noise)).mean(0).sum()
    moments = ensemble.square().mean(0) + FLOOR**2
    expected = -0.5 * (data + moments.log().sum() - candidate.variance.log().sum()) / moments.numel()
    assert candidate.bound(noise) == pytest.approx(float(expected))


@pytest.mark.parametrize("radial", [False, True])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_advance_at_the_same_noise_raises_the_bound(radial, channels, rng):
    latent = tiles(channels)
    image, noise = observe(latent, rng)
    candidate = Candidate(image, latent.roll(2, -1), gaussian(3.0), FLOOR, radial)
    bounds = []
    for _ in range(12):
        candidate.advance(noise)
        bounds.append(candidate.bound(noise))
    assert min(np.diff(bounds)) > -1e-9
    assert bounds[-1] > bounds[0] + 0.1


@pytest.mark.parametrize("radial", [False, True])
def test_advancing_approaches_the_kernel_and_keeps_to_what_is_allowed(radial, rng):
    latent, truth = tiles(), gaussian(1.0)
    image, noise = observe(latent, rng)
    candidate = Candidate(image, latent, gaussian(3.0), FLOOR, radial)
    before = float((candidate.kernel - truth).abs().sum())
    for _ in range(10):
        candidate.advance(noise)
    assert float((candidate.kernel - truth).abs().sum()) < 0.5 * before
    assert candidate.kernel.min() >= 0
    assert float(candidate.kernel.sum()) == pytest.approx(1)
    assert torch.allclose(radial_mean(candidate.kernel), candidate.kernel) == radial
