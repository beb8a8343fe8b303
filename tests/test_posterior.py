"""The posterior of the latent image against dense linear algebra on canvases of a few pixels."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch

from napari_vdip.operators import blur, difference
from napari_vdip.posterior import (
    GRADIENT_FLOOR,
    RANGE_MEAN,
    RANGE_PRECISION,
    Precision,
    flat_precision,
    gradient_variances,
    pooled,
    sparse_precision,
    standard_deviation,
)

HEIGHT, WIDTH = 7, 8
PIXELS = HEIGHT * WIDTH
CANVAS = (1, 1, HEIGHT, WIDTH)
NOISE = torch.linspace(0.05, 0.15, 20, dtype=torch.float64).view(1, 1, HEIGHT - 2, WIDTH - 4)
"""Standard deviation of each pixel of the image under a kernel of 3 x 5 pixels."""


pytestmark = pytest.mark.usefixtures("double")


@pytest.fixture
def precision(rng):
    kernel = torch.rand(1, 1, 3, 5, generator=rng)
    weights = (
        10 ** (2 * torch.rand(1, 1, HEIGHT - 1, WIDTH, generator=rng)),
        10 ** (2 * torch.rand(1, 1, HEIGHT, WIDTH - 1, generator=rng)),
    )
    pull = 50 * torch.rand(CANVAS, generator=rng)
    return Precision(kernel / kernel.sum(), NOISE, weights, pull, torch.full((1, 1, 1, 1), 0.2))


def matrix(operator):
    """Dense matrix of a linear operator on canvases."""
    basis = torch.eye(PIXELS).view(PIXELS, 1, HEIGHT, WIDTH)
    return operator(basis).flatten(1).T


def test_the_precision_is_the_sum_of_data_gradient_range_and_pull(precision):
    blur_matrix = matrix(lambda x: blur(x, precision.kernel))
    confidence = torch.diag(NOISE.flatten() ** -2)
    expected = blur_matrix.T @ confidence @ blur_matrix + RANGE_PRECISION * torch.eye(PIXELS)
    expected += torch.diag(precision.pull.flatten())
    for dim, weight in zip((-2, -1), precision.weights, strict=True):
        differences = matrix(lambda x, dim=dim: difference(x, dim))
        expected += differences.T @ torch.diag(weight.flatten()) @ differences
    torch.testing.assert_close(matrix(precision.__matmul__), expected, atol=1e-10, rtol=0)


def test_the_precision_is_symmetric_and_at_least_that_of_the_range(precision):
    dense = matrix(precision.__matmul__)
    torch.testing.assert_close(dense, dense.T, atol=1e-10, rtol=0)
    assert torch.linalg.eigvalsh(dense).min() > RANGE_PRECISION - 1e-9


@pytest.mark.parametrize("items", [1, 3])
def test_solving_agrees_with_a_dense_solve(precision, items, rng):
    right_side = torch.randn(items, 1, HEIGHT, WIDTH, generator=rng)
    solution = precision.solve(right_side, torch.zeros_like(right_side), steps=PIXELS)
    expected = torch.linalg.solve(matrix(precision.__matmul__), right_side.flatten(1).T).T
    torch.testing.assert_close(solution.flatten(1), expected, atol=1e-10, rtol=1e-6)


def test_a_few_steps_of_the_solver_already_come_close(precision, rng):
    right_side = torch.randn(CANVAS, generator=rng)
    solution = precision.solve(right_side, torch.zeros(CANVAS), steps=15)
    assert float((precision @ solution - right_side).norm() / right_side.norm()) < 0.05


def test_solving_stays_at_a_solution(precision, rng):
    solution = torch.randn(CANVAS, generator=rng)
    torch.testing.assert_close(precision.solve(precision @ solution, solution), solution)


def test_the_mean_is_that_of_the_dense_posterior(precision, rng):
    image = torch.rand(1, 1, HEIGHT - 2, WIDTH - 4, generator=rng)
    blur_matrix = matrix(lambda x: blur(x, precision.kernel))
    evidence = blur_matrix.T @ (image / NOISE.square()).flatten() + RANGE_PRECISION * RANGE_MEAN
    evidence += 0.2 * precision.pull.flatten()
    expected = torch.linalg.solve(matrix(precision.__matmul__), evidence)
    mean = precision.mean(image, torch.full(CANVAS, 0.5))
    torch.testing.assert_close(mean.flatten(), expected, atol=1e-3, rtol=0)


def test_the_covariance_of_the_samples_is_the_inverse_of_the_precision(precision, rng):
    count = 8000
    samples = precision.sample(torch.Size((count, 1, HEIGHT, WIDTH)), rng).flatten(1)
    root = torch.linalg.cholesky(matrix(precision.__matmul__))
    white = samples @ root  # identity covariance, if the samples have the inverse of the precision
    spread = torch.linalg.eigvalsh(white.T @ white / count)
    ratio = (PIXELS / count) ** 0.5  # edges of the spectrum of pure noise: (1 -+ ratio) ** 2
    assert (1 - ratio) ** 2 - 0.03 < spread.min() < spread.max() < (1 + ratio) ** 2 + 0.03
    assert white.mean(0).abs().max() < 5 / count**0.5


def test_the_standard_deviation_is_the_root_of_the_diagonal_of_the_inverse(precision, rng):
    count = 2000
    std = standard_deviation(precision, torch.Size(CANVAS), count, rng)
    expected = torch.linalg.inv(matrix(precision.__matmul__)).diagonal().sqrt().view(CANVAS)
    relative_error = 1 / (2 * count) ** 0.5
    torch.testing.assert_close(std, expected, atol=0, rtol=5 * relative_error)


def test_the_standard_deviation_is_that_of_what_is_seen(precision, rng):
    count = 2000

    def seen(x):
        return blur(x, precision.kernel)

    std = standard_deviation(precision, torch.Size(CANVAS), count, rng, seen)
    seeing = matrix(seen)
    covariance = seeing @ torch.linalg.inv(matrix(precision.__matmul__)) @ seeing.T
    expected = covariance.diagonal().sqrt().view(NOISE.shape)
    torch.testing.assert_close(std, expected, atol=0, rtol=5 / (2 * count) ** 0.5)


@pytest.mark.parametrize("count", [1, 4, 5, 9])
def test_every_sample_counts_once_whatever_the_batch(precision, rng, count, monkeypatch):
    drawn = []

    def sample(_, shape, __):
        drawn.append(shape[0])
        return torch.full(shape, 2.0)

    monkeypatch.setattr(Precision, "sample", sample)
    std = standard_deviation(precision, torch.Size(CANVAS), count, rng)
    torch.testing.assert_close(std, torch.full(CANVAS, 2.0))
    assert sum(drawn) == count


def test_without_evidence_the_deviation_is_that_of_the_range(rng):
    nothing = flat_precision(torch.zeros(CANVAS), torch.zeros(1, 1, 3, 5), NOISE)
    std = standard_deviation(nothing, torch.Size(CANVAS), 1000, rng)
    torch.testing.assert_close(std, torch.full(CANVAS, RANGE_PRECISION**-0.5), atol=0, rtol=0.12)


def test_the_flat_precision_has_no_gradient_weights(precision):
    flat = flat_precision(torch.rand(CANVAS), precision.kernel, NOISE)
    assert all(not weight.any() for weight in flat.weights)
    blur_matrix = matrix(lambda x: blur(x, precision.kernel))
    confidence = torch.diag(NOISE.flatten() ** -2)
    expected = blur_matrix.T @ confidence @ blur_matrix + RANGE_PRECISION * torch.eye(PIXELS)
    torch.testing.assert_close(matrix(flat.__matmul__), expected, atol=1e-10, rtol=0)


def test_the_sparse_weights_are_half_the_reciprocal_of_the_second_moments(precision, rng):
    mean = 10 * torch.randn(CANVAS, generator=rng)  # gradients far above any floor
    samples = torch.randn(4, 1, HEIGHT, WIDTH, generator=rng)
    variances = gradient_variances(samples)
    sparse = sparse_precision(mean, precision.kernel, NOISE, variances)
    for dim, weight, variance in zip((-2, -1), sparse.weights, variances, strict=True):
        torch.testing.assert_close(variance, difference(samples, dim).square().mean(0, keepdim=True))
        moments = difference(mean, dim).square() + variance
        torch.testing.assert_close(2 * weight * moments, torch.ones_like(weight), atol=0.05, rtol=0)


def test_the_sparse_weights_are_bounded_where_the_image_is_flat(precision):
    sparse = sparse_precision(torch.full(CANVAS, 0.5), precision.kernel, NOISE)
    assert all(weight.isfinite().all() for weight in sparse.weights)


def test_channels_are_independent(precision, rng):
    right_side = torch.randn(1, 2, HEIGHT, WIDTH, generator=rng)
    noises = torch.cat([NOISE, 3 * NOISE.flip(-1)], 1)
    both = replace(precision, noise=noises).solve(right_side, torch.zeros_like(right_side))
    for channel in range(2):
        alone = right_side[:, channel : channel + 1]
        one = replace(precision, noise=noises[:, channel : channel + 1])
        expected = one.solve(alone, torch.zeros_like(alone))
        torch.testing.assert_close(both[:, channel : channel + 1], expected)


def test_what_is_unresolved_widens_the_prior_of_a_flat_image_by_the_closed_form():
    mean = torch.zeros(1, 1, 12, 14, dtype=torch.float64)
    mean[..., 6:, :] = 0.5  # one edge: squared vertical gradients of 1/4 in one row of eleven
    noise = torch.full((1, 1, 10, 12), 0.1, dtype=torch.float64)
    kernel = torch.full((1, 1, 3, 3), 1 / 9, dtype=torch.float64)
    down, right = sparse_precision(mean, kernel, noise, None, 0.2).weights
    floor = GRADIENT_FLOOR * 0.1**2
    assert down[0, 0, 0, 0] == pytest.approx(0.5 / (0.2 * 0.25 / 11 + floor))
    assert down[0, 0, 5, 0] == pytest.approx(0.5 / (0.25 + 0.2 * 0.25 / 11 + floor))
    assert right[0, 0, 0, 0] == pytest.approx(0.5 / floor)


def test_an_error_of_the_kernel_adds_what_it_is_expected_to_add_to_the_data_term(precision, rng):
    """For errors that are differences of neighbours with random signs, whose squares have the given sum."""
    psf_error, noise = 0.03, torch.full_like(NOISE, 0.02)
    x = torch.zeros(CANVAS, dtype=noise.dtype)
    x[..., 4:-4, 4:-4] = torch.rand(x[..., 4:-4, 4:-4].shape, generator=rng, dtype=x.dtype)
    size = (psf_error / 4) ** 0.5
    expected = 0.0
    for down, right in itertools.product((-size, size), repeat=2):
        error = torch.tensor([[-down - right, right], [down, 0.0]], dtype=x.dtype)
        expected += float(blur(x, error[None, None]).square().sum()) / 0.02**2 / 4
    sure, unsure = (sparse_precision(x, precision.kernel, noise, psf_error=e) for e in (0.0, psf_error))
    assert float((x * (unsure @ x - sure @ x)).sum()) == pytest.approx(expected)


@pytest.mark.parametrize("pooling", [0.0, 1.0])
def test_the_floor_of_the_weights_is_the_harmonic_mean_of_the_noise(precision, pooling):
    """What is hardly seen must not hide gradients elsewhere: an ordinary mean would be ruled by it."""
    unseen = NOISE.clone()
    unseen[..., 0] = 1e4
    for noise in (NOISE, unseen):
        sparse = sparse_precision(torch.full(CANVAS, 0.5), precision.kernel, noise, pooling=pooling)
        floor = GRADIENT_FLOOR / noise.square().reciprocal().mean()
        for weight in sparse.weights:
            torch.testing.assert_close(weight, (0.5 / floor).expand_as(weight))


# --- pooling -----------------------------------------------------------------------------------------


def moments(rng, channels=1, height=21, width=25):
    """Random moments of the vertical and the horizontal difference."""
    return (
        torch.rand(1, channels, height - 1, width, generator=rng),
        torch.rand(1, channels, height, width - 1, generator=rng),
    )


def test_pooling_over_no_distance_changes_nothing(rng):
    down, right = moments(rng)
    assert pooled(down, right, 0.0) == (down, right)


@pytest.mark.parametrize("distance", [0.3, 1.0, 10.0])
def test_constant_moments_stay(distance, rng):
    down, right = (torch.full_like(one, 0.7) for one in moments(rng))
    for before, after in zip((down, right), pooled(down, right, distance), strict=True):
        torch.testing.assert_close(after, before)


@pytest.mark.parametrize("which", [0, 1])
def test_an_impulse_spreads_symmetrically_and_half_its_sum_goes_to_either_direction(which, rng):
    both = [torch.zeros_like(one) for one in moments(rng)]
    both[which][0, 0, 10, 12] = 1
    for after in pooled(*both, 1.5):
        assert float(after.sum()) == pytest.approx(0.5)
        around = after[0, 0, 10 - 6 : 10 + 7, 12 - 6 : 12 + 7]
        for turned in (around.flip(0), around.flip(1), around.T):
            torch.testing.assert_close(turned, around)
        assert around[6, 7] / around[6, 6] == pytest.approx(math.exp(-0.5 / 1.5**2))


def test_both_directions_come_out_alike_whichever_had_the_moments(rng):
    down, right = moments(rng)
    one, other = pooled(down, right, 1.0)
    torch.testing.assert_close(one[..., :-1], other[..., :-1, :])
    turned = pooled(right.mT, down.mT, 1.0)
    torch.testing.assert_close(turned[0], other.mT)
    torch.testing.assert_close(turned[1], one.mT)


def test_channels_do_not_share_their_weights(rng):
    down, right = moments(rng, channels=2)
    together = pooled(down, right, 1.0)
    for channel in range(2):
        alone = pooled(down[:, channel : channel + 1], right[:, channel : channel + 1], 1.0)
        for one, both in zip(alone, together, strict=True):
            torch.testing.assert_close(both[:, channel : channel + 1], one)


def test_over_a_large_distance_moments_approach_their_mean(rng):
    down, right = moments(rng, height=40, width=40)
    mean = (down.mean() + right.mean()) / 2

    def spread(distance):
        return float((pooled(down, right, distance)[0] - mean).square().mean().sqrt())

    spreads = [spread(distance) for distance in (1.0, 3.0, 10.0)]
    assert spreads[0] > spreads[1] > spreads[2]
    assert spreads[2] < 0.03 * float(mean)


def test_pooled_weights_are_those_of_the_pooled_moments(precision, rng):
    mean = 10 * torch.randn(CANVAS, generator=rng)  # gradients far above any floor
    sparse = sparse_precision(mean, precision.kernel, NOISE, pooling=1.0)
    squares = (difference(mean, dim).square() for dim in (-2, -1))
    for weight, pool in zip(sparse.weights, pooled(*squares, 1.0), strict=True):
        torch.testing.assert_close(2 * weight * pool, torch.ones_like(weight), atol=0.01, rtol=0)
