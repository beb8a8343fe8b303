"""A candidate for the kernel against the closed forms of its posterior and its bound."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import hadamard

from napari_vdip.candidate import LEAST_SEEN, Candidate, gradient_noise, gradients
from napari_vdip.operators import Blur, blur
from napari_vdip.widths import gaussian as round_kernel

SIGMA = 0.02
FLOOR = 0.004


pytestmark = pytest.mark.usefixtures("double")


def gaussian(width, size=7):
    return round_kernel(width, (size, size), torch.device("cpu"))


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


def precision_of_the_data(kernel, noise):
    """Sum over the pixels that see an entry of the squared kernel over their variance."""
    canvas = tuple(n + k - 2 for n, k in zip(noise.shape[-2:], kernel.shape[-2:], strict=True))
    return Blur(kernel.square(), canvas).adjoint(1 / gradient_noise(noise))


@pytest.mark.parametrize("advances", [1, 4])
def test_the_variance_solves_its_own_equation(advances, rng):
    image, noise = observe(tiles(), rng)
    candidate = Candidate(image, tiles().roll(2, -1), gaussian(2.0), FLOOR)
    for _ in range(advances):
        data = precision_of_the_data(candidate.kernel, noise)
        candidate.advance(noise)
    weights = 1 / (candidate.mean.square() + candidate.variance + FLOOR**2)
    seen = data > LEAST_SEEN * data.max()
    assert seen.float().mean() > 0.9
    torch.testing.assert_close(candidate.variance[seen], (1 / (data + weights))[seen])


def test_an_entry_that_hardly_any_pixel_sees_counts_as_seen_a_little(rng):
    image, noise = observe(tiles(), rng)
    candidate = Candidate(image, tiles(), gaussian(0.6), FLOOR)  # its corners are next to nothing
    data = precision_of_the_data(candidate.kernel, noise)
    least = LEAST_SEEN * data.max()
    assert data[0, 0, 0, 0] < least
    candidate.advance(noise)
    variance, mean = candidate.variance[0, 0, 0, 0], candidate.mean[0, 0, 0, 0]
    expected = 1 / (least + 1 / (mean.square() + variance + FLOOR**2))
    torch.testing.assert_close(variance, expected)


def test_the_first_mean_is_that_of_the_dense_system(rng, monkeypatch):
    monkeypatch.setattr("napari_vdip.candidate.SOLVER_STEPS", 500)
    latent, kernel = tiles(size=12), gaussian(1.0, 5)
    image, noise = observe(latent, rng, kernel)
    candidate = Candidate(image, latent, kernel, FLOOR)
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


def bound(candidate, noise, variance=None, kernel=None):
    """Variational bound up to a constant, for each entry, for the candidate's or another variance."""
    variance = candidate.variance if variance is None else variance
    kernel = candidate.kernel if kernel is None else kernel
    residual = (candidate.target - blur(candidate.mean, kernel)).square() + blur(variance, kernel.square())
    prior = (candidate.mean.square() + variance + FLOOR**2).log() - variance.log()
    return -0.5 * float((residual / gradient_noise(noise)).sum() + prior.sum()) / variance.numel()


def test_the_bound_is_that_of_an_ensemble_with_the_posterior(rng):
    """Rows of a Hadamard matrix and their negatives have zero mean and the covariance one, exactly."""
    rows = torch.from_numpy(hadamard(64)).double().view(64, 1, 1, 8, 8)
    image, noise = torch.rand(2, 1, 1, 7, 7, generator=rng)
    candidate = Candidate(image, torch.rand(1, 1, 9, 9, generator=rng), gaussian(1.0, 3), FLOOR)
    candidate.variance = torch.rand(candidate.mean.shape, generator=rng)
    ensemble = candidate.mean + candidate.variance.sqrt() * torch.cat([rows, -rows])
    residual = torch.stack([candidate.target - blur(one, candidate.kernel) for one in ensemble])
    data = (residual.square() / gradient_noise(noise)).mean(0).sum()
    moments = ensemble.square().mean(0) + FLOOR**2
    expected = -0.5 * (data + moments.log().sum() - candidate.variance.log().sum()) / moments.numel()
    assert bound(candidate, noise) == pytest.approx(float(expected))


@pytest.mark.parametrize("channels", [1, 2])
def test_every_advance_at_the_same_noise_raises_the_bound(channels, rng):
    latent = tiles(channels)
    image, noise = observe(latent, rng)
    candidate = Candidate(image, latent.roll(2, -1), gaussian(3.0), FLOOR)
    bounds = []
    for _ in range(12):
        candidate.advance(noise)
        bounds.append(bound(candidate, noise))
    assert min(np.diff(bounds)) > -1e-9
    assert bounds[-1] > bounds[0] + 0.1


@pytest.mark.parametrize("factor", [0.5, 0.97, 1.03, 2.0])
def test_no_other_variance_has_a_larger_bound_for_the_same_mean(factor, rng):
    image, noise = observe(tiles(), rng)
    candidate = Candidate(image, tiles().roll(2, -1), gaussian(2.0), FLOOR)
    kernel = candidate.kernel  # the one before the update, which comes last
    data = precision_of_the_data(kernel, noise)
    candidate.advance(noise)
    best = bound(candidate, noise, kernel=kernel)
    assert bound(candidate, noise, factor * candidate.variance, kernel) < best
    seen = data > LEAST_SEEN * data.max()
    for entry in (data * seen).flatten().argsort()[[-1, len(seen) // 2, int((~seen).sum())]].tolist():
        other = candidate.variance.clone()
        other.view(-1)[entry] *= factor
        assert bound(candidate, noise, other, kernel) < best


def test_advancing_approaches_the_kernel_and_keeps_to_what_is_allowed(rng):
    latent, truth = tiles(), gaussian(1.0)
    image, noise = observe(latent, rng)
    candidate = Candidate(image, latent, gaussian(3.0), FLOOR)
    before = float((candidate.kernel - truth).abs().sum())
    for _ in range(10):
        candidate.advance(noise)
    assert float((candidate.kernel - truth).abs().sum()) < 0.5 * before
    assert candidate.kernel.min() >= 0
    assert float(candidate.kernel.sum()) == pytest.approx(1)
