"""The networks' stage against a plain transcription of the published algorithm, and its manners."""

# ruff: noqa: N803, N806 - symbols as in the paper
from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from napari_vdip.estimate import OBJECTIVE
from napari_vdip.generators import KERNEL_NOISE_LENGTH, NOISE_CHANNELS, FreeKernel, KernelGenerator
from napari_vdip.search import PUBLISHED_PRIOR_WEIGHTS, Objective, Search, build_generators
from napari_vdip.settings import METHODS, Settings

SHORT = {
    "psf_shape": (5, 7),
    "widths": (4, 6, 8, 8, 8),
    "prefit_steps": 3,
    "steps": 10,  # the bound in 0..3 with a drop at 2, then similarity; rates halve at 4, 6 and 8
    "seed": 3,
}


def paper(**changes):
    return Settings.paper(**{**SHORT, **changes})


def picture(channels=1, height=34, width=36):
    """Smooth ``(1, C, Y, X)`` image in [0, 1] with an edge."""
    c, i, j = torch.meshgrid(*(torch.arange(n) for n in (channels, height, width)), indexing="ij")
    waves = 0.5 + 0.3 * torch.sin(0.3 * i + 0.2 * j + c) + 0.1 * (j > 15)
    return waves[None].to(torch.get_default_dtype())


@pytest.fixture
def double():
    """Compute in float64, so that the comparison is one of formulas, not of rounding."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def rng_of(settings):
    return torch.Generator().manual_seed(settings.seed)


# --- plain transcription -----------------------------------------------------------------------------


def down(a):
    return a[:, :, 1:, :] - a[:, :, :-1, :]


def right(a):
    return a[:, :, :, 1:] - a[:, :, :, :-1]


def correlate(k, x):
    return F.conv2d(x, k.expand(x.shape[1], 1, *k.shape[2:]), groups=x.shape[1])


def plain_data_term(x, k, y):
    """Residuals of the image, and of its first and second differences, each with its own blur."""

    def energy(of_latent, of_image):
        return (correlate(k, of_latent) - of_image).square().sum()

    zeroth = energy(x, y) / 2
    residual = correlate(k, x) - y
    first_a = (down(residual).square().sum() + right(residual).square().sum()) / 4
    first_b = (energy(down(x), down(y)) + energy(right(x), right(y))) / 4
    second = energy(down(down(x)), down(down(y))) + energy(right(right(x)), right(right(y)))
    mixed = energy(right(down(x)), right(down(y))) + energy(down(right(x)), down(right(y)))
    return -(zeroth + first_a + first_b + (second + mixed) / 8) / x.numel()


def weighted(moments, bias):
    """Sum of a conjugate prior: each second moment times its constant optimal weight."""
    weight = (1 / (moments + bias)).detach()
    return (moments * weight).sum() / 4


def lowest(a):
    """Minimum over channels and a 35 x 35 window."""
    windows = a.amin(1).unfold(-2, 35, 1).unfold(-2, 35, 1)
    return windows.amin((-2, -1))


def plain_prior(E, S, k, settings, rng):
    """Negative Kullback-Leibler divergence of the image and of the kernel."""
    channels, height, width = E.shape[1:]
    value = -10 * k.square().sum() / 2
    if settings.prior == "sparse":
        moments = (
            down(E) ** 2 + S[:, :, 1:] ** 2 + S[:, :, :-1] ** 2,
            right(E) ** 2 + S[..., 1:] ** 2 + S[..., :-1] ** 2,
        )
        weight = channels * (height - 1) * (width - 1)
        value = value - sum(weighted(m, 1e-6) for m in moments) / weight
    else:

        def square(offset, slope):
            if not settings.variational:
                return offset**2
            eps = torch.randn(E.shape, generator=rng)
            return offset**2 + S**2 + eps * (4 * slope * S**2 + 2 * S**4 + 1e-32).sqrt()

        # The second slope should be (1 - E)**2; the published code drops a covariance.
        moments = (lowest(square(E, E**2)), lowest(square(1 - E, 1 + E**2)))
        value = value - sum(weighted(m, 1e-45) for m in moments) / moments[0].numel()
    if settings.variational:
        value = value + S.clamp_min(1e-45).log().sum() / E.numel()
    return value


def plain_similarity(a, b):
    x = torch.arange(11) - 5.0
    profile = torch.exp(-(x**2) / (2 * 1.5**2))
    window = torch.outer(profile, profile) / profile.sum() ** 2
    window = window.expand(a.shape[1], 1, 11, 11)
    m, n, aa, bb, ab = (
        F.conv2d(q, window, padding=5, groups=a.shape[1]) for q in (a, b, a * a, b * b, a * b)
    )
    similar = (2 * m * n + 0.01**2) * (2 * (ab - m * n) + 0.03**2)
    return (similar / ((m**2 + n**2 + 0.01**2) * (aa - m**2 + bb - n**2 + 0.03**2))).mean()


def plain_prefit(E, S, k, y):
    kh, kw = k.shape[2:]
    inside = (..., slice(kh // 2, -(kh // 2)), slice(kw // 2, -(kw // 2)))
    squares = torch.cat([E[inside] - y, S[inside]], 1) ** 2
    return squares.mean() + ((k - 1 / (kh * kw)) ** 2).mean()


def transcription(y, settings):
    """Algorithm 1 with the published schedule as parts of the steps; yields each step's values."""
    rng = rng_of(settings)
    canvas = [n + k - 1 for n, k in zip(y.shape[2:], settings.psf_shape, strict=True)]
    z_x = 0.1 * torch.rand((1, NOISE_CHANNELS, *canvas), generator=rng)
    z_k = 0.1 * torch.rand((1, KERNEL_NOISE_LENGTH), generator=rng)
    G_x, G_k = build_generators(y.shape[1], settings)
    adam = torch.optim.Adam(
        [{"params": G_x.parameters(), "lr": 1e-2}, {"params": G_k.parameters(), "lr": 1e-4}]
    )
    weight = {"none": 0.0, "sparse": 0.1, "extreme": 1e-4}[settings.prior]
    P, T = settings.prefit_steps, settings.steps
    for t in [*range(-P, 0), *range(T)]:
        halvings = (t >= 0.4 * T) + (t >= 0.6 * T) + (t >= 0.8 * T)
        adam.param_groups[0]["lr"], adam.param_groups[1]["lr"] = 1e-2 / 2**halvings, 1e-4 / 2**halvings
        posterior = G_x(z_x)
        E, k = posterior.mean, G_k(z_k)
        S = posterior.log_std.exp() if settings.variational else torch.zeros_like(E)
        if t < 0:
            loss = plain_prefit(E, S if settings.variational else S[:, :0], k, y)
        elif t < 0.4 * T:
            x = E + S * torch.randn(E.shape, generator=rng) if settings.variational else E
            loss = -plain_data_term(x, k, y)
            if settings.prior != "none":
                lam = weight if t < 0.2 * T else weight / 10
                loss = loss - lam * plain_prior(E, S, k, settings, rng)
        else:
            loss = 1 - plain_similarity(correlate(k, E), y)
        adam.zero_grad()
        loss.backward()
        adam.step()
        yield E.detach(), S.detach(), k.detach()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("method", METHODS)
def test_the_paper_trajectory_equals_a_plain_transcription(method, channels, double):
    settings = paper(**METHODS[method])
    y = picture(channels)
    ours = list(Search(y, settings, rng_of(settings)).estimates())
    theirs = list(transcription(y, settings))
    assert len(ours) == len(theirs) == settings.prefit_steps + settings.steps
    for estimate, (E, S, k) in zip(ours, theirs, strict=True):
        torch.testing.assert_close(estimate.posterior.mean, E, atol=1e-8, rtol=0)
        torch.testing.assert_close(estimate.kernel, k, atol=1e-10, rtol=0)
        if settings.variational:
            torch.testing.assert_close(estimate.posterior.log_std.exp(), S, atol=1e-8, rtol=0)
    assert (ours[-1].posterior.mean - ours[0].posterior.mean).abs().max() > 0.01


# --- schedule ----------------------------------------------------------------------------------------


def test_the_learning_rates_halve_after_two_three_and_four_fifths_of_the_steps(monkeypatch):
    rates = []
    step = torch.optim.Adam.step

    def recorded(self, *args, **kwargs):
        rates.append([group["lr"] for group in self.param_groups])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", recorded)
    settings = paper(image_rate=0.01, psf_rate=1e-4)
    list(Search(picture(), settings, rng_of(settings)).estimates())
    factors = [1] * 3 + [1] * 4 + [1 / 2] * 2 + [1 / 4] * 2 + [1 / 8] * 2
    assert rates == [[0.01 * factor, 1e-4 * factor] for factor in factors]


def test_stages_and_steps_are_counted_over_the_whole_run():
    settings = paper(variational=True, prior="sparse", refinements=2)
    estimates = list(Search(picture(), settings, rng_of(settings)).estimates())
    assert [e.stage for e in estimates] == ["prefit"] * 3 + ["search"] * 10
    assert [e.step for e in estimates] == list(range(1, 14))
    assert {e.steps for e in estimates} == {3 + 10 + 2}


@pytest.mark.parametrize(
    ("bound_until", "similarity_from", "progress", "parts"),
    [
        (0.4, 0.4, 0.39, ["data"]),
        (0.4, 0.4, 0.4, ["similarity"]),
        (1.0, 0.0, 0.5, ["data", "similarity"]),
        (1.0, 0.5, 0.2, ["data"]),
    ],
)
def test_the_objective_holds_the_parts_that_the_schedule_names(
    bound_until, similarity_from, progress, parts
):
    settings = paper(bound_until=bound_until, similarity_from=similarity_from, bound_weight=7, prior="none")
    y = picture()
    generator, kernel_generator = build_generators(1, settings)
    posterior = generator(torch.rand(1, NOISE_CHANNELS, 38, 42, generator=rng_of(settings)))
    kernel = kernel_generator(torch.rand(1, KERNEL_NOISE_LENGTH, generator=rng_of(settings)))
    found = Objective(y, settings, rng_of(settings))(posterior, kernel, progress)
    rng = rng_of(settings)
    x = posterior.mean + posterior.log_std.exp() * torch.randn(posterior.mean.shape, generator=rng)
    terms = {
        "data": 7 * plain_data_term(x, kernel, y),
        "similarity": plain_similarity(correlate(kernel, posterior.mean), y),
    }
    assert list(found) == parts
    for name, value in found.items():
        torch.testing.assert_close(value, terms[name])


def test_without_weight_a_prior_leaves_the_objective_of_a_point_estimate_as_it_is():
    posterior = build_generators(1, paper(variational=False))[0](torch.rand(1, NOISE_CHANNELS, 38, 42))
    kernel = torch.full((1, 1, 5, 7), 1 / 35)
    for prior in ("none", "sparse", "extreme"):
        settings = paper(variational=False, prior=prior, prior_weight=0.0)
        terms = Objective(picture(), settings, torch.Generator())(posterior, kernel, 0)
        assert [name for name, value in terms.items() if value != 0] == ["data"]


@pytest.mark.parametrize("method", METHODS)
def test_what_is_minimised_is_the_sum_of_the_terms_that_a_method_has(method):
    settings = paper(**METHODS[method], steps=4, prefit_steps=0, bound_until=1.0, similarity_from=0.5)
    for number, estimate in enumerate(Search(picture(), settings, rng_of(settings)).estimates()):
        terms = dict(estimate.terms)
        loss = terms.pop("loss")
        torch.testing.assert_close(loss, -sum(terms.values()))
        expected = {"data"}
        if settings.prior != "none":
            expected |= {"prior", "psf_prior"} | ({"entropy"} if settings.variational else set())
        assert set(terms) == expected | ({"similarity"} if number >= 2 else set())
        assert set(terms) <= set(OBJECTIVE)


# --- manners -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("psf_generator", ["network", "free"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_and_says_whether_it_has_a_deviation(method, psf_generator):
    settings = paper(**METHODS[method], steps=3, prefit_steps=0, psf_generator=psf_generator, psf_rate=1e-3)
    estimates = list(Search(picture(2), settings, rng_of(settings)).estimates())
    assert len(estimates) == 3
    for estimate in estimates:
        assert estimate.terms["loss"].isfinite()
        assert estimate.posterior.mean.shape == (1, 2, 38, 42)
        assert estimate.kernel.shape == (1, 1, 5, 7)
        assert (estimate.posterior.log_std is not None) == settings.variational
        assert not estimate.posterior.mean.requires_grad
        assert not estimate.kernel.requires_grad


@pytest.mark.parametrize(("name", "kind"), [("network", KernelGenerator), ("free", FreeKernel)])
def test_the_settings_choose_the_kernel_generator(name, kind):
    assert isinstance(build_generators(1, paper(psf_generator=name))[1], kind)


def test_the_same_seed_gives_the_same_course_and_another_seed_another():
    def last(seed):
        settings = paper(seed=seed)
        *_, estimate = Search(picture(), settings, rng_of(settings)).estimates()
        return estimate.posterior.mean, estimate.kernel, estimate.terms["loss"]

    first, again, other = last(1), last(1), last(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_the_callers_random_state_and_gradient_mode_are_untouched_at_every_step():
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    settings = paper(variational=True, prior="extreme")
    for _ in Search(picture(), settings, rng_of(settings)).estimates():
        assert torch.is_grad_enabled()
        assert torch.equal(torch.get_rng_state(), torch_state)
        np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def test_a_prior_that_has_no_branch_is_not_taken_for_another(monkeypatch):
    monkeypatch.setitem(PUBLISHED_PRIOR_WEIGHTS, "fourth", 1.0)
    settings = paper(prior="extreme")
    object.__setattr__(settings, "prior", "fourth")
    posterior = build_generators(1, settings)[0](torch.rand(1, NOISE_CHANNELS, 38, 42))
    kernel = torch.full((1, 1, 5, 7), 1 / 35)
    with pytest.raises(AssertionError, match="fourth"):
        Objective(picture(), settings, torch.Generator())(posterior, kernel, 0)
