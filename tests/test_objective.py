"""Every term of the bound against golden values, closed forms and the published surrogate.

Golden values are those of the reference implementation (the authors' functions in float64) on the
fields defined below. The published code weights each second moment by its own constant reciprocal; here
stands the logarithm instead, whose value is meaningful and whose gradient is the same. The published
form is therefore rebuilt in this file, from the moments.
"""

# ruff: noqa: N806 - symbols as in the paper
from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from napari_vdip.generators import Posterior
from napari_vdip.objective import (
    CHANNEL_FLOOR,
    GRADIENT_BIAS,
    StructuralSimilarity,
    channel_moments,
    dark_channel,
    data_term,
    entropy,
    extreme_log_prior,
    gradient_moments,
    kernel_log_prior,
    prefit_loss,
    sample,
    sparse_log_prior,
)
from napari_vdip.operators import blur, crop, gradient

KERNEL_WEIGHT = 10
"""Published factor on the kernel's prior."""
EXTREME_BIAS = 1e-45
DIP_BIAS = 1e-6


class Fields(NamedTuple):
    """Smooth test fields on a canvas, their gradients recorded."""

    E: Tensor
    S: Tensor
    k: Tensor
    y: Tensor

    @property
    def posterior(self) -> Posterior:
        return Posterior(self.E, self.S.log())

    @property
    def point(self) -> Posterior:
        return Posterior(self.E)


def fields(height: int, width: int) -> Fields:
    def grid(*sizes):
        return torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in sizes), indexing="ij")

    c, i, j = grid(3, height, width)
    E = 0.5 + 0.3 * torch.sin(0.7 * i + 1.3 * j + c)
    S = 0.05 + 0.02 * torch.cos(0.5 * i - 0.9 * j + 2 * c)
    c, i, j = grid(3, height - 2, width - 4)
    y = 0.5 + 0.2 * torch.sin(0.3 * i + 0.4 * j + 0.5 * c)
    k = torch.arange(1, 16, dtype=torch.float64).view(1, 1, 3, 5) / 120
    return Fields(*(a.requires_grad_() for a in (E[None], S[None], k)), y[None])


@pytest.fixture
def sparse():
    return fields(10, 12)


@pytest.fixture
def extreme():
    return fields(40, 42)


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def noise_is(monkeypatch):
    """Replace all normal noise by a constant."""

    def replace(constant):
        monkeypatch.setattr(torch, "randn", lambda shape, **_: torch.full(shape, float(constant)))

    return replace


def close(value: Tensor, expected: float, digits: int = 8) -> None:
    """Assert that a scalar has the printed digits of a golden value."""
    assert float(value.detach()) == pytest.approx(expected, abs=0.51 * 10**-digits)


def surrogate(moments: tuple[Tensor, Tensor], count: int, bias: float) -> Tensor:
    """Published form of a log prior: each moment times its constant reciprocal."""
    return sum((m / (m + bias).detach()).sum() for m in moments) / (4 * count)


def published_sparse(f: Fields, posterior: Posterior) -> Tensor:
    count = f.E.shape[1] * (f.E.shape[2] - 1) * (f.E.shape[3] - 1)
    return surrogate(gradient_moments(posterior), count, GRADIENT_BIAS)


def published_extreme(posterior: Posterior, rng, bias: float = EXTREME_BIAS) -> Tensor:
    moments = channel_moments(posterior, rng, bright_variance="official")
    return surrogate(moments, moments[0].numel(), bias)


def absolute(gradients: tuple[Tensor, ...]) -> list[float]:
    return [float(g.abs().sum()) for g in gradients]


# --- fields ------------------------------------------------------------------------------------------


def test_the_fields_and_their_blur_have_their_golden_values(sparse):
    E, S, k, y = sparse
    close(E[0, 0, 4, 5], 0.53733633)
    close(S[0, 0, 4, 5], 0.03397713)
    close(y[0, 0, 2, 3], 0.69476953)
    close(S.log().sum(), -1094.03210392)
    close(blur(E, k)[0, 0, 0, 0], 0.4793579222, 10)
    close(blur(E, k)[0, 2, 7, 7], 0.5161815838, 10)


# --- data term ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("which", "eps", "expected"),
    [
        ("sparse", 0, -0.0067804722),
        ("sparse", 1, -0.0069818920),
        ("extreme", 0, -0.0112568240),
        ("extreme", 1, -0.0124281437),
    ],
)
def test_the_data_term_of_a_sample_has_its_golden_value(which, eps, expected, request, rng, noise_is):
    f = request.getfixturevalue(which)
    noise_is(eps)
    close(data_term(sample(f.posterior, rng), f.k, f.y), expected, 10)


def test_the_parts_of_the_data_term_have_their_golden_values(sparse):
    E, _, k, y = sparse
    residual = blur(E, k) - y
    down, right = gradient(residual)
    (down_down, down_right), (_, right_right) = gradient(down), gradient(right)

    def energy(*parts):
        return sum(part.square().sum() for part in parts)

    zeroth, first = energy(residual) / 2, energy(down, right) / 4
    second = energy(down_down, down_right, down_right, right_right) / 8
    close(zeroth, 1.9353713961, 10)
    close(first, 0.2318886423, 10)
    close(second, 0.0418213282, 10)
    total = -(zeroth + 2 * first + second) / (3 * 10 * 12)
    torch.testing.assert_close(data_term(E, k, y), total, atol=1e-16, rtol=1e-14)


@pytest.mark.parametrize(
    ("which", "expected"),
    [("sparse", [0.07223843, 0.07385680]), ("extreme", [0.11656191, 0.11232287])],
)
def test_the_gradient_of_the_data_term_has_its_golden_norms(which, expected, request):
    f = request.getfixturevalue(which)
    gradients = torch.autograd.grad(data_term(f.E, f.k, f.y), (f.E, f.k))
    assert absolute(gradients) == pytest.approx(expected, abs=1e-8)


def test_the_data_term_is_a_positive_definite_form_in_the_residual(rng):
    """Without a prior and a spread, its maximisers are those of a weighted least squares problem."""
    size = 4 * 5
    delta = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    residual = torch.zeros(1, 1, 4, 5, dtype=torch.float64)

    def form(r):
        return -size * data_term(r, delta, torch.zeros_like(residual))

    hessian = torch.autograd.functional.hessian(form, residual).view(size, size)
    assert torch.linalg.eigvalsh(hessian).min() > 1 - 1e-12
    r = torch.randn(1, 1, 4, 5, dtype=torch.float64, generator=rng)
    close(form(r), float(r.flatten() @ hessian @ r.flatten()) / 2, 12)


def test_the_mean_of_the_sampled_data_term_is_known_in_closed_form(sparse, rng):
    """For independent pixels E|A(E + S eps) - y|^2 = |AE - y|^2 + sum of A^2 S^2, entry by entry."""
    E, S, k, y = (a.detach() for a in sparse)
    samples = torch.stack([data_term(sample(Posterior(E, S.log()), rng), k, y) for _ in range(2000)])
    zero = torch.zeros(1, 3, 10, 12, dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(lambda x: data_term(x, k, y), zero).view(360, 360)
    expected = data_term(E, k, y) + (hessian.diagonal() * S.flatten().square()).sum() / 2
    error = samples.std() / math.sqrt(len(samples))
    assert abs(float(samples.mean() - expected)) < 4 * float(error)


def test_a_point_estimate_is_its_own_sample(sparse, rng):
    assert sample(sparse.point, rng) is sparse.E


# --- entropy and sparse prior ------------------------------------------------------------------------


def test_the_terms_of_the_sparse_bound_have_their_golden_values(sparse):
    close(entropy(sparse.posterior), -3.03897807)
    close(published_sparse(sparse, sparse.posterior), 0.55047469)
    close(-KERNEL_WEIGHT * kernel_log_prior(sparse.k), 0.43055556)
    close(entropy(sparse.posterior) + sparse_log_prior(sparse.posterior), -1.1425892434, 10)


def test_the_published_sparse_bound_and_its_gradients_have_their_golden_values(sparse):
    E, S, k, _ = sparse
    bound = entropy(sparse.posterior) - published_sparse(sparse, sparse.posterior)
    bound = bound + KERNEL_WEIGHT * kernel_log_prior(k)
    close(bound, -4.0200083127, 10)
    by_mean, by_std, by_kernel = torch.autograd.grad(bound, (E, S, k))
    assert absolute((by_mean, by_std)) == pytest.approx([4.94345995, 16.22941895], abs=1e-8)
    close(by_mean[0, 0, 4, 5], 0.00174570)
    close(by_std[0, 0, 4, 5], 0.07744448)
    assert absolute((by_kernel,)) == pytest.approx([10.0])


def test_the_sparse_prior_of_a_point_estimate_has_its_golden_value(sparse):
    value = -published_sparse(sparse, sparse.point) + KERNEL_WEIGHT * kernel_log_prior(sparse.k)
    close(value, -0.9782523990, 10)


@pytest.mark.parametrize("variational", [True, False])
def test_the_log_form_of_the_sparse_prior_has_the_gradient_of_the_published_one(sparse, variational):
    posterior, leaves = (
        (sparse.posterior, (sparse.E, sparse.S)) if variational else (sparse.point, (sparse.E,))
    )
    ours = torch.autograd.grad(sparse_log_prior(posterior), leaves, retain_graph=True)
    theirs = torch.autograd.grad(-published_sparse(sparse, posterior), leaves)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-15, rtol=1e-14)


def test_scaling_mean_and_deviation_leaves_the_bound_but_for_its_border(sparse):
    """Entropy cancels the preference of the log prior for small gradients."""

    def bound(factor):
        posterior = Posterior(factor * sparse.E, (factor * sparse.S).log())
        logs = sum(m.log().sum() for m in gradient_moments(posterior))
        return entropy(posterior) - logs / (4 * 3 * 9 * 11)

    for factor in (0.5, 3.0):
        expected = -math.log(factor) / 2 * (1 / 11 + 1 / 9)
        close(bound(factor) - bound(1), expected, 13)


@pytest.mark.parametrize("deviation", [1e-3, 0.2])
def test_a_flat_pixel_contributes_the_same_whatever_its_deviation(deviation):
    flat = torch.full((1, 1, 8, 9), 0.4, dtype=torch.float64)
    posterior = Posterior(flat, torch.full_like(flat, math.log(deviation)))
    down, right = gradient_moments(posterior)
    close(entropy(posterior) - (down.log().mean() + right.log().mean()) / 4, -math.log(2) / 2, 13)


def test_entropy_of_a_point_estimate_is_refused(sparse):
    with pytest.raises(ValueError, match="posterior: expected a standard deviation"):
        entropy(sparse.point)


# --- extreme channel prior ---------------------------------------------------------------------------


@pytest.mark.parametrize(("eps", "norms"), [(0, [4.88959358, 22.52995441]), (1, [2.93862822, 29.55148375])])
def test_the_published_extreme_bound_and_its_gradients_have_their_golden_values(
    extreme, eps, norms, rng, noise_is
):
    E, S, k, _ = extreme
    noise_is(eps)
    prior = published_extreme(extreme.posterior, rng)
    close(prior, 0.5)
    bound = entropy(extreme.posterior) - prior + KERNEL_WEIGHT * kernel_log_prior(k)
    close(bound, -3.9689295145, 10)
    by_mean, by_std, by_kernel = torch.autograd.grad(bound, (E, S, k))
    assert absolute((by_mean, by_std)) == pytest.approx(norms, abs=1e-8)
    assert absolute((by_kernel,)) == pytest.approx([10.0])
    if eps == 0:
        assert float(by_mean[0, 0, 4, 5]) == 0
        close(by_std[0, 0, 4, 5], 0.00583960)


def test_the_extreme_prior_of_a_point_estimate_has_its_golden_value(extreme, rng):
    value = -published_extreme(extreme.point, rng, DIP_BIAS) + KERNEL_WEIGHT * kernel_log_prior(extreme.k)
    close(value, -0.9305430561, 10)


@pytest.mark.parametrize("variational", [True, False])
def test_the_log_form_of_the_extreme_prior_has_the_gradient_of_the_published_one(extreme, variational):
    def gradients(prior):
        posterior = extreme.posterior if variational else extreme.point
        leaves = (extreme.E, extreme.S) if variational else (extreme.E,)
        moments = channel_moments(posterior, torch.Generator().manual_seed(0))
        assert min(float(m.detach().abs().min()) for m in moments) > CHANNEL_FLOOR
        return torch.autograd.grad(prior(posterior, moments), leaves)

    ours = gradients(lambda p, _: extreme_log_prior(p, torch.Generator().manual_seed(0)))
    theirs = gradients(lambda _, m: -surrogate(m, m[0].numel(), EXTREME_BIAS))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-14, rtol=1e-13)


def test_the_extreme_prior_stays_finite_where_a_channel_is_black():
    mean = torch.zeros(1, 1, 36, 36, dtype=torch.float64, requires_grad=True)
    value = extreme_log_prior(Posterior(mean), torch.Generator())
    (gradient_of_mean,) = torch.autograd.grad(value, mean)
    assert value.detach().isfinite()
    assert gradient_of_mean.isfinite().all()


def test_the_separable_minimum_equals_the_minimum_over_the_whole_window(extreme, rng):
    a = torch.randn(2, 3, 40, 42, dtype=torch.float64, generator=rng)
    whole = -torch.nn.functional.max_pool3d(-a[:, None], (3, 35, 35), stride=1)[:, :, 0]
    assert torch.equal(dark_channel(a), whole)


@pytest.mark.parametrize(("mean", "deviation"), [(0.5, 0.1), (0.1, 0.05), (0.9, 0.2)])
def test_moments_of_the_squares_are_those_of_a_monte_carlo_simulation(mean, deviation, rng, noise_is):
    """On constant fields the sampled squares are A + eps B, so that eps = 0 and 1 reveal A and B."""
    field = torch.full((1, 1, 35, 35), mean, dtype=torch.float64)
    posterior = Posterior(field, torch.full_like(field, math.log(deviation)))
    x = mean + deviation * torch.randn(2_000_000, dtype=torch.float64, generator=rng)
    noise_is(0)
    expectations = channel_moments(posterior, rng)
    noise_is(1)
    shifted = channel_moments(posterior, rng)
    for square, at_zero, at_one in zip((x**2, (1 - x) ** 2), expectations, shifted, strict=True):
        error = float(square.std()) / math.sqrt(len(x))
        assert float(at_zero) == pytest.approx(float(square.mean()), abs=4 * error)
        assert float(at_one - at_zero) ** 2 == pytest.approx(float(square.var()), rel=0.02)


def test_the_official_bright_variance_lacks_the_covariance(rng, noise_is):
    field = torch.full((1, 1, 35, 35), 0.5, dtype=torch.float64)
    posterior = Posterior(field, torch.full_like(field, math.log(0.1)))

    def variance(which):
        values = []
        for eps in (0, 1):
            noise_is(eps)
            values.append(channel_moments(posterior, rng, which)[1])
        return (values[1] - values[0]).square()

    close(variance("exact"), 0.0102, 12)
    close(variance("official"), 0.0502, 12)
    close(variance("official") - variance("exact"), 8 * 0.5 * 0.1**2, 12)


# --- similarity and pre-fit --------------------------------------------------------------------------


def plain_similarity(a: Tensor, b: Tensor, window_type: torch.dtype) -> Tensor:
    """Structural similarity with its 11 x 11 window in two dimensions, rounded to a type."""
    x = torch.arange(11, dtype=torch.float64) - 5
    profile = torch.exp(-(x**2) / (2 * 1.5**2))
    window = (torch.outer(profile, profile) / profile.sum() ** 2).to(window_type).to(a)
    window = window.expand(a.shape[1], 1, 11, 11)

    def smooth(image):
        return torch.nn.functional.conv2d(image, window, padding=5, groups=a.shape[1])

    m, n = smooth(a), smooth(b)
    var_a, var_b, cov = smooth(a * a) - m * m, smooth(b * b) - n * n, smooth(a * b) - m * n
    similar = (2 * m * n + 0.01**2) * (2 * cov + 0.03**2)
    return (similar / ((m * m + n * n + 0.01**2) * (var_a + var_b + 0.03**2))).mean()


@pytest.mark.parametrize(("which", "expected"), [("sparse", 0.1539132451), ("extreme", 0.6563197470)])
def test_structural_similarity_has_its_golden_value(which, expected, request):
    """The reference rounds its window to float32, which moves the value by up to 3e-7."""
    f = request.getfixturevalue(which)
    reblurred = blur(f.E, f.k)
    close(1 - plain_similarity(reblurred, f.y, torch.float32), expected, 10)
    close(1 - plain_similarity(reblurred, f.y, torch.float64), expected, 6)
    ours = StructuralSimilarity(f.y)(reblurred)
    torch.testing.assert_close(ours, plain_similarity(reblurred, f.y, torch.float64), atol=1e-13, rtol=0)


def test_structural_similarity_of_an_image_to_itself_is_one(sparse):
    close(StructuralSimilarity(sparse.y)(sparse.y), 1, 12)


def test_the_prefit_loss_has_its_golden_value(sparse):
    close(prefit_loss(sparse.posterior, sparse.k, sparse.y), 0.0341639513, 10)


def test_the_prefit_loss_vanishes_at_the_image_and_a_uniform_kernel(sparse):
    kernel = torch.full((1, 1, 3, 5), 1 / 15, dtype=torch.float64)
    image = crop(sparse.E, (3, 5))
    close(prefit_loss(sparse.point, kernel, image), 0, 15)


def test_a_constant_image_is_a_perfect_fit_for_any_kernel(rng):
    kernel = torch.rand(1, 1, 3, 5, dtype=torch.float64, generator=rng)
    kernel = kernel / kernel.sum()
    latent = torch.full((1, 1, 20, 22), 0.3, dtype=torch.float64)
    image = torch.full((1, 1, 18, 18), 0.3, dtype=torch.float64)
    torch.testing.assert_close(blur(latent, kernel), image, atol=1e-14, rtol=0)
    close(data_term(latent, kernel, image), 0, 15)
    close(StructuralSimilarity(image)(blur(latent, kernel)), 1, 12)


def test_a_batch_has_the_mean_of_its_items(rng):
    E, S = (torch.rand(2, 3, 40, 42, dtype=torch.float64, generator=rng) for _ in range(2))
    k = torch.rand(2, 1, 3, 5, dtype=torch.float64, generator=rng)
    y = torch.rand(2, 3, 38, 38, dtype=torch.float64, generator=rng)

    def terms(rows):
        posterior = Posterior(E[rows], S[rows].log())
        return torch.stack(
            [
                data_term(E[rows], k[rows], y[rows]),
                entropy(posterior),
                sparse_log_prior(posterior),
                extreme_log_prior(Posterior(E[rows]), rng),
                kernel_log_prior(k[rows]),
                prefit_loss(posterior, k[rows], y[rows]),
                StructuralSimilarity(y[rows])(blur(E[rows], k[rows])),
            ]
        )

    both = terms(slice(None))
    torch.testing.assert_close(both, (terms(slice(0, 1)) + terms(slice(1, 2))) / 2, atol=1e-14, rtol=0)
