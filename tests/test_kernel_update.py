"""The update of the kernel: its projections, its step length, and the least squares it solves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.linalg import hadamard
from scipy.ndimage import gaussian_filter

from napari_vdip import kernel_update
from napari_vdip.candidate import gradients
from napari_vdip.kernel_update import filtered, onto_simplex, stationary, update_kernel
from napari_vdip.operators import KernelBlur, blur

pytestmark = pytest.mark.usefixtures("double")


def bent_kernel():
    """Kernel of a short bent track, ``(1, 1, 7, 7)``."""
    track = torch.zeros(1, 1, 7, 7)
    track[..., 3, 1:5] = torch.tensor([1.0, 2.0, 3.0, 2.0])
    track[..., 1:3, 4] = torch.tensor([1.0, 2.0])
    return track / track.sum()


def flat_kernel():
    return torch.full((1, 1, 7, 7), 1 / 49)


# --- simplex -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_the_projection_meets_the_conditions_of_the_nearest_point(scale, rng):
    """Nearest on the simplex: a common threshold is taken from all that stay positive."""
    raw = scale * torch.randn(1, 1, 5, 7, generator=rng)
    projected = onto_simplex(raw)
    assert projected.shape == raw.shape
    assert projected.min() >= 0
    assert float(projected.sum()) == pytest.approx(1, abs=1e-10)
    positive = projected > 0
    thresholds = (raw - projected)[positive]
    torch.testing.assert_close(thresholds, thresholds.mean().expand_as(thresholds), atol=1e-10, rtol=0)
    assert (raw[~positive] <= thresholds.mean() + 1e-10).all()


def test_the_projection_is_nearer_than_every_point_of_a_grid_on_the_simplex(rng):
    raw = torch.randn(1, 1, 1, 3, generator=rng)
    projected = onto_simplex(raw)
    shares = [(i, j, 20 - i - j) for i, j in itertools.product(range(21), repeat=2) if i + j <= 20]
    grid = torch.tensor(shares).view(-1, 1, 1, 3) / 20
    assert ((grid - raw).square().sum((-2, -1)) >= (projected - raw).square().sum() - 1e-12).all()


def test_a_kernel_is_its_own_projection():
    kernel = bent_kernel()
    torch.testing.assert_close(onto_simplex(kernel), kernel, atol=1e-14, rtol=0)


# --- the stationary Hessian --------------------------------------------------------------------------


def dense(product):
    """Matrix of a linear operator on kernels of 7 x 7 pixels."""
    basis = torch.eye(49).view(49, 1, 1, 7, 7)
    return torch.stack([product(k).flatten() for k in basis])


@pytest.fixture
def latents():
    scene = gaussian_filter(np.random.default_rng(0).normal(size=(1, 1, 40, 40)), (0, 0, 1, 1))
    return gradients(torch.from_numpy(scene))


def test_the_stationary_hessian_is_exact_where_nothing_is_at_the_borders(latents):
    inside = torch.nn.functional.pad(latents[..., 8:-8, 8:-8], (8, 8, 8, 8))
    confidence = torch.full((2, 1, 33, 33), 3.0)
    of, spectrum = KernelBlur(inside, (7, 7)), stationary(inside, confidence, (7, 7))
    exact = dense(lambda k: of.adjoint(confidence * of(k)))
    torch.testing.assert_close(dense(lambda k: filtered(k, spectrum)), exact, atol=1e-10, rtol=1e-10)


def test_the_stationary_hessian_bounds_the_exact_one_from_above_for_even_noise(latents):
    """Elsewhere the borders count as well, so that a step in it is never too long."""
    confidence = torch.full((2, 1, 33, 33), 3.0)
    of, spectrum = KernelBlur(latents, (7, 7)), stationary(latents, confidence, (7, 7))
    exact = dense(lambda k: of.adjoint(confidence * of(k)))
    model = dense(lambda k: filtered(k, spectrum))
    torch.testing.assert_close(model, model.T, atol=1e-10, rtol=0)
    assert torch.linalg.eigvalsh(model - exact).min() > -1e-10
    assert torch.linalg.eigvalsh(model).max() <= spectrum.max() + 1e-10


def test_windows_need_not_be_square(latents):
    spectrum = stationary(latents, torch.ones(2, 1, 35, 31), (5, 9))
    kernel = torch.zeros(1, 1, 5, 9)
    kernel[..., 2, 4] = 1
    response = filtered(kernel, spectrum)
    assert response.shape == kernel.shape
    total = float((latents.square()).sum())
    assert float(response[0, 0, 2, 4]) == pytest.approx(total)
    beside = float((latents[..., 1:] * latents[..., :-1]).sum())
    assert float(response[0, 0, 2, 5]) == pytest.approx(beside) == float(response[0, 0, 2, 3])


# --- kernel ------------------------------------------------------------------------------------------


def updates(kernel, *problem, times=12, **options):
    """Update a kernel again and again."""
    for _ in range(times):
        kernel = update_kernel(kernel, *problem, **options)
    return kernel


def problem(kernel, rng, items=2):
    """Random latent gradient, its zero variance, its blurred version and uneven confidence in it."""
    mean = torch.randn(items, 1, 32, 34, generator=rng)
    target = blur(mean, kernel)
    confidence = 10 ** (2 * torch.rand(target.shape, generator=rng))
    return mean, torch.zeros_like(mean), target, confidence


@pytest.mark.parametrize("items", [1, 6])
def test_the_true_gradient_gives_the_true_kernel(items, rng):
    updated = updates(flat_kernel(), *problem(bent_kernel(), rng, items))
    torch.testing.assert_close(updated, bent_kernel(), atol=1e-5, rtol=0)


def test_data_without_confidence_do_not_count(rng):
    mean, variance, target, confidence = problem(bent_kernel(), rng)
    broken, trusted = target.clone(), confidence.clone()
    broken[..., :10] += 5
    trusted[..., :10] = 0
    updated = updates(flat_kernel(), mean, variance, broken, trusted)
    torch.testing.assert_close(updated, bent_kernel(), atol=1e-5, rtol=0)
    misled = updates(flat_kernel(), mean, variance, broken, confidence)
    assert float((misled - bent_kernel()).abs().sum()) > 0.1


def test_the_variance_counts_as_an_ensemble_of_gradients_with_it(rng):
    """Rows of a Hadamard matrix and their negatives have zero mean and the covariance one, exactly."""
    rows = torch.from_numpy(hadamard(256)).double().view(256, 1, 16, 16)
    signs = torch.cat([rows, -rows])
    mean = torch.randn(1, 1, 16, 16, generator=rng)
    variance = torch.rand(mean.shape, generator=rng)
    target = blur(mean, bent_kernel())
    confidence = 0.1 + torch.rand(target.shape, generator=rng)
    ensemble = mean + variance.sqrt() * signs
    expected = updates(flat_kernel(), ensemble, 0 * ensemble, target, confidence / len(signs), times=60)
    updated = updates(flat_kernel(), mean, variance, target, confidence, times=60)
    torch.testing.assert_close(updated, expected, atol=1e-8, rtol=0)
    without = updates(flat_kernel(), mean, 0 * variance, target, confidence)
    assert float((updated - without).abs().sum()) > 0.1  # it makes a difference


def test_an_update_lowers_the_residual_of_noisy_data_and_stays_on_the_simplex(rng):
    mean, variance, target, confidence = problem(bent_kernel(), rng)
    target = target + 0.3 * torch.randn(target.shape, generator=rng)

    def residual(k):
        return float((confidence * (blur(mean, k) - target).square()).sum())

    updated = update_kernel(flat_kernel(), mean, variance, target, confidence)
    again = update_kernel(updated, mean, variance, target, confidence)
    assert residual(again) < residual(updated) < 0.99 * residual(flat_kernel())
    assert updated.min() >= 0
    assert float(updated.sum()) == pytest.approx(1)


def test_an_update_lowers_the_residual_where_the_stationary_hessian_is_far_too_small(rng, monkeypatch):
    """As uneven noise may have it: a whole step would lead away."""
    mean, variance, target, confidence = problem(bent_kernel(), rng)
    monkeypatch.setattr(kernel_update, "stationary", lambda *_: 1e-2 * stationary(mean, confidence, (7, 7)))
    residuals, kernel = [], flat_kernel()
    for _ in range(8):
        residuals.append(float((confidence * (blur(mean, kernel) - target).square()).sum()))
        kernel = update_kernel(kernel, mean, variance, target, confidence)
    assert residuals == sorted(residuals, reverse=True)
    assert residuals[-1] < 0.5 * residuals[0]


def test_a_kernel_stays_within_its_support(rng):
    support = torch.ones(1, 1, 7, 7, dtype=torch.bool)
    support[..., 3, 1] = False
    start = flat_kernel() * support
    updated = updates(start / start.sum(), *problem(bent_kernel(), rng), support=support)
    assert float(updated[..., 3, 1]) == 0
    assert float(updated.sum()) == pytest.approx(1)
