"""The refinement's parts against closed forms, and its effect on a scene with a known truth."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from napari_vdip import refinement, starts
from napari_vdip.candidate import Candidate, gradient_noise, gradients
from napari_vdip.coarse_to_fine import STARTS
from napari_vdip.comparison import CERTAIN, HAZES, LEFT_OUT, error_of_entry, without_haze
from napari_vdip.detail import detail, most_detailed
from napari_vdip.estimate import Estimate
from napari_vdip.generators import Posterior
from napari_vdip.images import Intensities
from napari_vdip.kernel_spectrum import sharpened, to_whole_pixels
from napari_vdip.noise import noise_variance
from napari_vdip.operators import KernelBlur, blur, crop, extend, size_of
from napari_vdip.power import Power
from napari_vdip.prediction import PART, HeldOut, Prediction
from napari_vdip.refinement import GAPS, HALF_ROUNDS, PIXEL_ROUNDS, Refinement, rounds_of
from napari_vdip.regularization import Regularization
from napari_vdip.scenes import cells, gaussian_psf, specimen
from napari_vdip.settings import Settings
from napari_vdip.sharpness import RESOLUTION, ROUND, SHARPEST
from napari_vdip.starts import starts_of
from napari_vdip.support import cleared
from napari_vdip.widths import TRIALS, gaussian


def pieces(size, seed=0, channels=1):
    """Piecewise constant ``(1, C, size, size)`` scene in [0.3, 0.7], where images are with headroom."""
    random = np.random.default_rng(seed)
    scene = np.full((1, channels, size, size), 0.2)
    for _ in range(size // 2):
        y, x = random.integers(0, size - 4, 2)
        h, w = random.integers(3, size // 4, 2)
        scene[..., y : y + h, x : x + w] = random.uniform(0, 1, (1, channels, 1, 1))
    return torch.from_numpy(0.3 + 0.4 * scene)


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


# --- refinement --------------------------------------------------------------------------------------


@pytest.fixture
def scene(rng):
    """Latent image, kernel and noisy blurred image in float32."""
    latent, kernel = pieces(72).float(), bent_kernel(9, torch.float32)
    image = blur(latent, kernel)
    return latent, kernel, image + 0.0012 * torch.randn(image.shape, generator=rng)


SEARCHED = 5
"""Steps of the networks before."""


def start_from(image, kernel, rounds):
    """Estimate that continues the blurred image to the canvas, before some rounds."""
    canvas = extend(image, size_of(kernel))
    return Estimate("search", SEARCHED, SEARCHED + rounds, Posterior(canvas), kernel, {})


def run(image, kernel, rng, **changes):
    """All estimates from the blurred image and a kernel."""
    settings = Settings(psf_shape=size_of(kernel), steps=SEARCHED, **changes)
    return list(Refinement(image, settings, rng).estimates(start_from(image, kernel, settings.rounds)))


def smoothed(kernel):
    """Wider version of a kernel."""
    wide = torch.from_numpy(gaussian_filter(kernel.numpy(), (0, 0, 1, 1)))
    return wide / wide.sum()


def is_round(kernel):
    """Whether a kernel is the same along rows, columns, and both backwards, as Gaussians are."""
    others = (kernel.mT, kernel.flip(-1), kernel.flip(-2))
    return all(torch.allclose(other, kernel, atol=1e-6) for other in others)


def psnr(estimate, truth):
    """Peak signal-to-noise ratio at the best whole-pixel shift of up to three, without a border."""
    inside = (..., slice(8, -8), slice(8, -8))
    shifts = itertools.product(range(-3, 4), repeat=2)
    errors = [(estimate.roll(by, (-2, -1)) - truth)[inside].square().mean() for by in shifts]
    return -10 * float(torch.log10(torch.stack(errors).min()))


def test_refinement_sharpens_the_image_from_a_mildly_wrong_kernel(scene, rng, monkeypatch):
    latent, kernel, image = scene
    monkeypatch.setattr(refinement, "to_whole_pixels", lambda _: (0.0, 0.0))  # `psnr` moves by whole ones
    changes = {"refinements": 50, "gradient_floor": 0.2, "pooling": 0.0, "gaussians": False}
    last = run(image, smoothed(kernel), rng, **changes)[-1]
    truth = crop(latent, (9, 9))
    assert psnr(crop(last.posterior.mean, (9, 9)), truth) > psnr(image, truth) + 10


@pytest.mark.parametrize("gaussians", [False, True])
@pytest.mark.parametrize(("rounds", "channels"), [(1, 1), (2, 3), (12, 1), (2 * TRIALS + 1, 2), (90, 1)])
def test_every_round_yields_a_valid_estimate_and_counts_on(rounds, channels, gaussians, rng):
    kernel = bent_kernel(9, torch.float32)
    image = blur(pieces(56, channels=channels).float(), kernel)
    image = image + 0.0012 * torch.randn(image.shape, generator=rng)
    start = start_from(image, kernel, rounds)
    settings = Settings(psf_shape=9, steps=SEARCHED, refinements=rounds, gaussians=gaussians)
    levels, kernels = [], []
    for done, estimate in enumerate(Refinement(image, settings, rng).estimates(start), start=1):
        assert torch.is_grad_enabled()
        assert (estimate.stage, estimate.step) == ("refinement", SEARCHED + done)
        assert estimate.steps == SEARCHED + rounds
        assert estimate.posterior.mean.shape == start.posterior.mean.shape
        assert estimate.posterior.mean.isfinite().all()
        assert estimate.kernel.min() >= 0
        assert float(estimate.kernel.sum()) == pytest.approx(1, abs=1e-5)
        levels.append(float(estimate.terms["noise"]))
        kernels.append(estimate.kernel)
    assert len(levels) == rounds
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] == pytest.approx(float(noise_variance(image).mean().sqrt()), rel=1e-3)
    assert all(torch.equal(late, kernels[-1]) for late in kernels[max(rounds - PIXEL_ROUNDS, 1) :])


@pytest.mark.parametrize("spot", [True, False])
@pytest.mark.parametrize("sharp", [ROUND, SHARPEST])
def test_the_kernel_loses_what_it_blurs_too_much(scene, rng, monkeypatch, sharp, spot):
    _, kernel, image = scene
    monkeypatch.setattr(refinement, "sharpness", lambda *_: sharp)
    resolution = RESOLUTION if spot and sharp == ROUND else 0.0
    monkeypatch.setattr(refinement, "resolution_of", lambda *_: resolution)
    monkeypatch.setattr(refinement.Power, "excess_of", lambda *_: 0.4)
    *_, found, _, _, _, last = run(image, smoothed(kernel), rng, refinements=16)
    if sharp > ROUND:
        expected = sharpened(found.kernel, 0.4, to_whole_pixels(found.kernel))
        torch.testing.assert_close(last.kernel, expected)
    elif spot:
        torch.testing.assert_close(last.kernel, sharpened(found.kernel, RESOLUTION))
    else:
        assert torch.equal(last.kernel, found.kernel)


def test_the_image_does_not_fall_back_while_the_kernel_is_updated(scene, rng):
    """It does with the prior's weights of the blurred image; those of the image that was found keep it."""
    latent, kernel, image = scene
    settings = Settings(psf_shape=size_of(kernel), steps=SEARCHED, refinements=14, gaussians=False)
    start = Estimate("search", SEARCHED, SEARCHED + 14, Posterior(latent), kernel, {})
    qualities = [
        psnr(one.posterior.mean, latent) for one in Refinement(image, settings, rng).estimates(start)
    ]
    assert min(qualities) > qualities[-1] - 4


@pytest.mark.parametrize("gaussians", [False, True])
@pytest.mark.parametrize("preset", ["default", "photograph"])
def test_all_rounds_are_counted_and_the_presets_have_those_at_half_the_resolution(preset, gaussians):
    for rounds, sharp in itertools.product(range(1, 120), (1.0, SHARPEST)):
        parts = rounds_of(Settings(refinements=rounds, gaussians=gaussians), sharp)
        assert sum(parts) == rounds
        assert parts[0] > 0 <= min(parts)
        assert parts[1] in (0, HALF_ROUNDS)
    assert rounds_of(Settings.preset(preset))[1] == HALF_ROUNDS


def test_an_image_with_fine_detail_has_several_starts_instead_of_being_tried_with_gaussians():
    smooth, sharp = rounds_of(Settings()), rounds_of(Settings(), SHARPEST)
    assert smooth[2] == TRIALS + len(GAPS)
    assert sharp[2] == 0
    assert sum(sharp) == sum(smooth)
    assert starts_of(Settings(), SHARPEST) == STARTS
    assert starts_of(Settings(), 1.0) == STARTS[:1]
    networks = Settings.preset("networks")
    assert starts_of(networks, SHARPEST) == STARTS[:1]
    assert rounds_of(networks, SHARPEST)[2] == 0


@pytest.mark.parametrize(
    ("ratios", "best"),
    [([1, 2, 3, 4], 0), ([3, 2, 1, 4], 2), ([3, 4, 2, 1], 3), ([1, 1, 1, 1], 0), ([1, 0.99, 1, 1], 0)],
)
def test_the_kernel_of_the_sparsest_gradient_is_kept_and_the_first_if_none_is_much_sparser(
    rng, monkeypatch, ratios, best
):
    image, candidates = pieces(48).float(), []
    choose = refinement.sparsest
    monkeypatch.setattr(
        Candidate, "norm_ratio", lambda self: ratios[next(i for i, c in enumerate(candidates) if c is self)]
    )
    monkeypatch.setattr(refinement, "sparsest", lambda all_: candidates.extend(all_) or choose(all_))
    *_, last = Refinement(image, Settings(psf_shape=5, refinements=30), rng).estimates(None)
    assert len(candidates) == len(STARTS)
    kernels = [candidate.kernel for candidate in candidates]
    chosen = kernels[best]
    assert sum(torch.equal(kernel, chosen) for kernel in kernels) == 1
    excess, by = Power(image).excess_of(chosen), to_whole_pixels(chosen)
    assert torch.equal(last.kernel, sharpened(chosen, excess, by))


@pytest.mark.parametrize(("channels", "track"), [(3, True), (3, False), (1, True)])
def test_a_colour_image_under_a_track_goes_on_as_a_sharp_one(rng, monkeypatch, channels, track):
    """Photographs under tracks of 51 and 55 pixels came back as they were: a Gaussian of one pixel won."""
    image, candidates = pieces(48, channels=channels).float(), []

    def last(all_, variance):
        candidates.extend(all_)
        return all_[-1]

    monkeypatch.setattr(refinement, "sharpness", lambda image, variance: ROUND)
    monkeypatch.setattr(refinement, "is_track", lambda kernel, settings, colour: colour and track)
    monkeypatch.setattr(refinement, "least_left", last)
    settings = Settings(psf_shape=5, refinements=60)
    estimates = list(Refinement(image, settings, rng).estimates(None))
    assert [estimate.step for estimate in estimates] == list(range(1, settings.rounds + 1))
    moved = channels > 1 and track
    assert len(candidates) == (1 + len(STARTS) if moved else 0)
    assert ("comparison" in {estimate.phase for estimate in estimates}) is not moved
    if moved:
        kernel = candidates[-1].kernel
        excess, by = Power(image).excess_of(kernel), to_whole_pixels(kernel)
        assert torch.equal(estimates[-1].kernel, sharpened(kernel, excess, by))


def test_the_latent_image_of_a_later_start_is_as_near_to_its_mean_as_if_it_had_been_the_first(
    rng, monkeypatch
):
    """From three updates the wide blurs of Levin et al. were up to .9 dB behind."""
    image, settings = pieces(96).float(), Settings(psf_shape=9, refinements=60)
    image = blur(extend(image, (9, 9)), smoothed(bent_kernel(9, torch.float32)))

    monkeypatch.setattr(refinement, "sparsest", lambda candidates: candidates[-1])

    def restored(chosen):
        monkeypatch.setattr(starts, "STARTS", chosen)
        *_, last = Refinement(image, settings, rng.manual_seed(0)).estimates(None)
        return last

    first, later = restored(STARTS[:1]), restored((STARTS[-1], STARTS[0]))
    assert torch.allclose(first.kernel, later.kernel, atol=1e-6)
    assert psnr(later.posterior.mean, first.posterior.mean) > 50


def test_the_norm_ratio_tells_how_sparse_a_gradient_is_whatever_its_scale(rng):
    def ratio(latent):
        kernel = torch.full((1, 1, 3, 3), 1 / 9)
        return Candidate(torch.zeros(1, 1, 30, 30), latent, kernel, 0.0).norm_ratio()

    edge = (torch.arange(32.0) > 15).expand(1, 1, 32, 32).float()
    assert ratio(edge) == pytest.approx((2 * 31) ** -0.5)  # one column in 31, of one gradient in two
    assert ratio(5 * edge + 3) == pytest.approx(ratio(edge))
    soft = blur(extend(edge, (5, 5)), gaussian(1.0, (5, 5), edge.device))
    assert ratio(soft) > 1.5 * ratio(edge)
    assert ratio(edge + 0.1 * torch.randn(edge.shape, generator=rng)) > 1.5 * ratio(edge)


def test_the_latent_image_follows_its_prior_as_far_as_is_judged(rng, monkeypatch):
    chosen, used = Regularization(2.5, 1.5, 3), []

    def noted(image, kernel, rounds, rng, variance, regularization, **options):
        used.append(regularization)
        return restore(image, kernel, rounds, rng, variance, regularization, **options)

    restore = refinement.restore
    monkeypatch.setattr(refinement, "restore", noted)
    monkeypatch.setattr(refinement, "regularization_of", lambda *arguments: chosen)
    for _ in Refinement(pieces(32).float(), Settings(psf_shape=5, refinements=3), rng).estimates(None):
        pass
    assert used == [chosen]


@pytest.mark.parametrize("gap", GAPS)
def test_the_true_kernel_predicts_better_than_a_wider_one(rng, gap):
    scene = cells(size=96, psf_size=11, photons=1e5, seed=3)
    image = torch.from_numpy(scene.blurred / scene.blurred.max()).float()[None, None]
    held_out = HeldOut(image, noise_variance(image), 1.0, gap, rng, LEFT_OUT)
    true = held_out.predict(torch.from_numpy(scene.psf).float().flip((0, 1))[None, None])
    gain, error = true.advantage(held_out.predict(gaussian(2.5, (11, 11), image.device)))
    assert gain > error > 0


def test_an_image_as_small_as_its_window_is_revised_at_half_the_resolution(rng):
    image = torch.rand(1, 1, 31, 31, generator=rng)
    last = run(image, smoothed(bent_kernel(31, torch.float32)), rng, refinements=90)[-1]
    assert last.posterior.mean.isfinite().all()
    assert last.kernel.isfinite().all()


def test_the_noise_level_falls_gradually(scene, rng):
    _, kernel, image = scene
    levels = [float(estimate.terms["noise"]) for estimate in run(image, kernel, rng, refinements=12)]
    assert len(set(levels)) > 6
    assert levels[0] > 3 * levels[-1]


# --- Gaussians ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gaussians", "rounds", "made"),
    [
        (True, 2 * TRIALS + 1, 1 + len(GAPS)),
        (True, 2 * TRIALS, 0),
        (False, 2 * TRIALS + 1, 0),
        (False, 1, 0),
    ],
)
def test_pixels_are_left_out_only_where_gaussians_are_wanted_and_there_are_rounds(
    gaussians, rounds, made, monkeypatch, rng
):
    held_out = []

    class Spy(refinement.HeldOut):
        def __init__(self, *arguments):
            held_out.append(self)
            super().__init__(*arguments)

    monkeypatch.setattr(refinement, "HeldOut", Spy)
    monkeypatch.setattr(refinement, "sharpness", lambda image, variance: 1.0)
    image = blur(pieces(32).float(), gaussian(1.0, (5, 5), torch.device("cpu")))
    run(image, bent_kernel(5, torch.float32), rng, refinements=rounds, gaussians=gaussians)
    assert len(held_out) == made


def test_a_large_image_is_compared_in_its_most_detailed_part_and_restored_as_a_whole(monkeypatch, rng):
    seen = []

    class Noted(HeldOut):
        def __init__(self, part, *arguments):
            seen.append(part)
            super().__init__(part, *arguments)

    monkeypatch.setattr(refinement, "HeldOut", Noted)
    monkeypatch.setattr("napari_vdip.comparison.JUDGED", 48)
    monkeypatch.setattr(refinement.Power, "width_of", lambda *_: np.inf)
    monkeypatch.setattr(refinement, "is_bent", lambda *_: False)  # so that a Gaussian is taken
    monkeypatch.setattr(refinement, "sharpness", lambda *_: 1.0)
    image = torch.full((1, 1, 90, 96), 0.4)
    texture = gaussian_filter(np.random.default_rng(0).normal(size=(48, 48)), 1.5)
    image[..., 30:78, 42:90] += 0.4 * torch.from_numpy(texture).float()
    image = image + 2e-3 * torch.randn(image.shape, generator=rng)
    last = run(image, gaussian(1.5, (7, 7), image.device), rng, refinements=2 * TRIALS + 1)[-1]
    assert len(seen) == 1 + len(GAPS)
    region, _ = most_detailed(detail(image, noise_variance(image)), (48, 48))
    assert [side.start for side in region] == pytest.approx([30, 42], abs=3)
    assert all(torch.equal(part, image[..., *region]) for part in seen)
    assert is_round(last.kernel)
    assert last.posterior.mean.shape == (1, 1, 96, 102)
    residual = blur(last.posterior.mean, last.kernel) - image
    assert float(residual.square().mean().sqrt()) < 0.2 * float(image.std())


@pytest.mark.parametrize(
    ("bent", "width", "over_gaussian", "kept"),
    [
        (True, 3.0, (0.5, 0.6), True),
        (True, 3.0, (-0.5, -0.6), False),
        (False, 3.0, (0.5, 0.6), False),
        (False, 1.0, (0.5, 0.6), True),
        (False, 1.0, (-0.5, -0.6), False),
        (False, 1.0, (3.0, -2.8), False),
    ],
    ids=["bent", "misled", "round and too wide", "round", "round and misled", "round and better by chance"],
)
def test_the_free_kernel_is_kept_if_bent_or_no_wider_than_allowed_and_predicts_no_worse_than_a_gaussian(
    bent, width, over_gaussian, kept, monkeypatch, rng
):
    """Densities by hand, those of Gaussians are zero; only wide gaps tell these from the free kernel."""
    predicted, asked = [], []

    class Fake:
        def __init__(self, image, variance, pooling, block, rng, part=PART):
            self.image, self.block = image, block

        def predict(self, kernel):
            free = not is_round(kernel)
            predicted.append("free" if free else "Gaussian")
            values = torch.tensor(over_gaussian) * (free and self.block == GAPS[-1])
            return Prediction(kernel, extend(self.image, size_of(kernel)), values.repeat(80))

    monkeypatch.setattr(refinement, "HeldOut", Fake)
    monkeypatch.setattr(refinement, "is_bent", lambda *_: asked.append(True) or bent)
    monkeypatch.setattr(refinement, "without_haze", lambda kernel, *_: kernel)
    monkeypatch.setattr(refinement, "sharpness", lambda image, variance: 1.0)
    monkeypatch.setattr(refinement.Power, "widest", lambda power: 2.0)
    monkeypatch.setattr(refinement.Power, "width_of", lambda power, kernel: width)
    image = blur(pieces(40).float(), bent_kernel(9, torch.float32))
    last = run(image, bent_kernel(9, torch.float32), rng, refinements=2 * TRIALS + 1)[-1]
    assert asked == [True] * (width > 2)  # only where it decides, as is what follows
    compared = ["free", "Gaussian"] * len(GAPS) if width <= 2 or bent else []
    assert predicted == [*["Gaussian"] * TRIALS, *compared]
    assert is_round(last.kernel) != kept


def test_whether_it_is_bent_is_told_by_the_most_detailed_part_with_its_latent_image(monkeypatch, rng):
    given = []
    monkeypatch.setattr("napari_vdip.comparison.JUDGED", 48)
    monkeypatch.setattr(refinement, "is_bent", lambda *arguments: given.append(arguments))
    monkeypatch.setattr(refinement, "sharpness", lambda image, variance: 1.0)
    monkeypatch.setattr(refinement.Power, "widest", lambda power: 0.0)
    image = torch.full((1, 1, 88, 94), 0.5)
    image[..., 30:78, 42:90] = pieces(48).float()
    kernel = bent_kernel(9, torch.float32)
    run(blur(extend(image, (9, 9)), kernel), kernel, rng, refinements=2 * TRIALS + 1)
    ((part, variance, mean, found, _, _, _),) = given
    assert part.shape == variance.shape == (1, 1, 48, 48)
    assert mean.shape == (1, 1, 56, 56)
    assert float((blur(mean, found) - part).square().mean()) < 0.1 * float(part.var())


@pytest.mark.parametrize(
    ("better", "chosen"),
    [({}, None), ({0.2: 1.0}, 0.2), ({0.2: 2.0, 0.3: 1.0}, 0.3), ({0.3: 1.0, 0.4: -1.0}, 0.3)],
)
def test_the_most_compact_form_that_predicts_better_is_taken(better, chosen):
    """Densities by hand: their differences are certain, but for those by chance."""
    kernel = hazy(bent_kernel(9, torch.float32))
    forms = {0.0: kernel, **{faint: cleared(kernel, faint) for faint in HAZES}}
    chance = torch.tensor([1.0, -0.9])

    class Fake:
        def predict(self, one):
            (faint,) = (faint for faint, form in forms.items() if torch.equal(form, one))
            return Prediction(one, one, better.get(faint, 0.0) + bool(faint) * chance.repeat(8))

    assert len({tuple(form.flatten().tolist()) for form in forms.values()}) == len(forms)
    assert torch.equal(without_haze(kernel, Fake(), math.inf), forms[chosen or 0.0])


@pytest.mark.parametrize(("allowed", "tried"), [(0.1, 0), (0.25, 1), (0.45, 3), (0.7, 5)])
def test_what_is_many_standard_errors_above_nothing_is_no_haze(allowed, tried):
    """The tail of the comet of bright cells was cleared, at 5 dB, as narrower kernels predict too well."""
    kernel, predicted = hazy(bent_kernel(9, torch.float32)), []

    class Fake:
        def predict(self, one):
            predicted.append(one)
            return Prediction(one, one, torch.tensor([1.0, -0.9]).repeat(8) * len(predicted))

    assert torch.equal(without_haze(kernel, Fake(), allowed * float(kernel.max()) / CERTAIN), kernel)
    assert len(predicted) == tried + (tried > 0)


def test_the_error_of_an_entry_is_by_what_the_gradient_of_the_latent_image_tells_of_it():
    """One over the root of the sum of squares, in units of the noise, of what a point as kernel makes."""
    latent = F.pad(pieces(24).float(), (8, 8, 8, 8))  # none of its edges leaves the image
    variance = torch.full((1, 1, 34, 34), 0.02**2)
    point = torch.zeros(1, 1, 7, 7)
    point[..., 2, 4] = 1
    squares = KernelBlur(gradients(latent), (7, 7))(point).square() / gradient_noise(variance)
    assert error_of_entry(latent, variance) == pytest.approx(float(squares.sum()) ** -0.5)


def hazy(kernel):
    """Kernel with entries of any faintness around it."""
    haze = torch.linspace(0, 0.6 * float(kernel.max()), kernel.numel()).view_as(kernel)
    return torch.where(kernel > 0, kernel, haze) / torch.where(kernel > 0, kernel, haze).sum()


@pytest.mark.parametrize("seed", range(2))
def test_a_faint_part_of_the_blur_is_no_haze(seed, rng):
    track = torch.zeros(1, 1, 15, 15)
    track[..., 7, 2:8], track[..., 1:8, 8] = 1.0, 0.25
    track /= track.sum()
    assert (cleared(track, HAZES[0]) == 0)[track > 0].any()
    image = blur(pieces(96, seed).float(), track)
    image = image + 0.02 * torch.randn(image.shape, generator=rng)
    held_out = refinement.HeldOut(image, torch.full_like(image, 0.02**2), 0.0, 1, rng, LEFT_OUT)
    assert torch.equal(without_haze(track, held_out, math.inf), track)


@pytest.mark.parametrize(
    ("kind", "photons", "seed"), [("filaments", 200, 0), ("nuclei", 1000, 1), ("beads", 200, 0)]
)
def test_a_dense_or_faint_specimen_under_a_gaussian_gets_a_round_kernel_and_comes_nearer_to_the_truth(
    kind, photons, seed, rng
):
    true = specimen(kind, gaussian_psf(9, 1.4), size=72, photons=photons, seed=seed)
    intensities = Intensities.of(true.blurred[..., None], 0.3)
    image, latent = (intensities.to_tensor(a[..., None]) for a in (true.blurred, true.latent))
    copies = torch.zeros(1, 1, 9, 9)
    copies[..., 1, 1] = copies[..., 7, 7] = 0.5
    last = run(image, copies, rng, refinements=24)[-1]  # misled
    assert is_round(last.kernel)
    assert float((last.kernel[0, 0] - torch.from_numpy(true.psf)).abs().sum()) < 1  # two kernels apart: 2
    assert psnr(crop(last.posterior.mean, (9, 9)), latent) > psnr(image, latent)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_bent_blur_keeps_the_free_kernel(seed, rng):
    track = torch.zeros(1, 1, 11, 11)
    track[..., 5, 1:8] = 3
    track[..., 1:5, 7] = 2
    track /= track.sum()
    image = blur(pieces(82, seed).float(), track)
    image = image + 0.005 * torch.randn(image.shape, generator=rng)
    assert not is_round(run(image, smoothed(track), rng, refinements=2 * TRIALS + 2)[-1].kernel)


def test_a_short_bent_blur_with_little_noise_does_not_end_worse_than_it_began(scene, rng):
    latent, kernel, image = scene
    last = run(image, smoothed(kernel), rng, refinements=30)[-1]
    truth = crop(latent, (9, 9))
    assert psnr(crop(last.posterior.mean, (9, 9)), truth) > psnr(image, truth)
