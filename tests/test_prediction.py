"""Pixels that are left out, how well kernels predict them, and the width that they tell."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from napari_vdip import prediction as prediction_module
from napari_vdip.images import Intensities
from napari_vdip.noise import noise_variance
from napari_vdip.operators import blur
from napari_vdip.prediction import PART, HeldOut, Prediction
from napari_vdip.scenes import gaussian_psf, specimen, structure
from napari_vdip.widths import FINE, LEAST_RATIO, NARROWEST, TRIALS, blurred, gaussian, try_widths

CPU = torch.device("cpu")
WINDOW = (11, 11)
WIDTH = 1.4


def observe(kind, seed=0, photons=1000):
    """Image ``(1, 1, 96, 96)`` of a specimen under a Gaussian, in [0, 1], and its noise's variance."""
    psf = gaussian_psf(WINDOW[0], WIDTH)
    blurred = specimen(kind, psf, size=96, photons=photons, seed=seed).blurred[..., None]
    image = Intensities.of(blurred, 0.3).to_tensor(blurred)
    return image, noise_variance(image)


def leave_out(image, variance, seed=0, block=1):
    return HeldOut(image, variance, 1.0, block, torch.Generator().manual_seed(seed))


def width_of(kernel):
    """Standard deviation in pixels along the rows."""
    profile = kernel[0, 0].sum(0)
    positions = torch.arange(len(profile)) - len(profile) // 2
    return float((profile * positions.square()).sum().sqrt())


# --- what is left out --------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 2, 4])
def test_about_the_intended_part_is_left_out_in_blocks(block):
    image = torch.rand(1, 2, 121, 200)
    left_out = leave_out(image, torch.ones_like(image), block=block).left_out
    assert left_out.shape == image.shape
    assert torch.equal(left_out[:, 0], left_out[:, 1])
    blocks = left_out[0, 0, :120].view(120 // block, block, 200 // block, block)
    assert torch.equal(blocks.any(3).any(1), blocks.all(3).all(1))
    count = (120 // block) * (200 // block)
    assert float(left_out.float().mean()) == pytest.approx(PART, abs=4 * (PART / count) ** 0.5)


def test_something_is_left_out_of_the_smallest_image():
    image = torch.rand(1, 1, 5, 5)
    for seed in range(20):
        assert leave_out(image, torch.ones_like(image), seed).left_out.any()


def test_the_seed_says_what_is_left_out():
    image = torch.rand(1, 1, 40, 40)
    one, again, other = (leave_out(image, torch.ones_like(image), seed).left_out for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


# --- predictions -------------------------------------------------------------------------------------


def test_what_is_left_out_changes_no_prediction_but_its_density_by_the_closed_form(monkeypatch):
    monkeypatch.setattr(prediction_module, "LIMIT", 1e6)
    image, variance = observe("beads")
    kernel, step = gaussian(WIDTH, WINDOW, CPU), 0.005
    left_out = leave_out(image, variance).left_out
    predictions = []
    for change in (0.0, step, -step):
        held_out = leave_out(torch.where(left_out, image + change, image), variance)
        predictions.append(held_out.predict(kernel))
    same, above, below = (one.densities.double() for one in predictions)
    assert all(torch.equal(one.mean, predictions[0].mean) for one in predictions)
    # densities are -(residual**2 / spread + log(spread)) / 2: three of them tell the spread
    spread = -(step**2) / (above + below - 2 * same)
    residual = (image - blur(predictions[0].mean, kernel))[left_out].double()
    usual = (spread > 0) & (spread < 20 * variance[left_out])  # where it is larger, rounding decides
    assert usual.sum() > 100
    expected = -0.5 * (residual.square() / spread + spread.log())
    torch.testing.assert_close(same[usual], expected[usual], atol=0.05, rtol=0.02)
    assert (spread[usual] > 0.98 * variance[left_out][usual]).all()  # the noise of the image comes on top


def test_pixels_of_a_block_and_its_channels_err_together_and_count_once():
    image = torch.rand((1, 2, 32, 33), generator=torch.Generator().manual_seed(0))
    variance = torch.full_like(image, 0.01)
    single, wide = (leave_out(image, variance, block=block) for block in (1, 4))
    kernel = gaussian(1.0, (5, 5), CPU)
    assert len(single.predict(kernel).densities) == int(single.left_out[:, 0].sum())
    blocks = wide.left_out[0, 0, ::4, ::4]  # their first pixels
    assert len(wide.predict(kernel).densities) == int(blocks.sum()) > 1


def test_a_pixel_that_is_far_off_counts_no_more_than_one_at_the_limit():
    image, variance = observe("beads")
    kernel = gaussian(WIDTH, WINDOW, CPU)
    left_out = leave_out(image, variance).left_out
    far, further = (
        leave_out(torch.where(left_out, image + step, image), variance).predict(kernel).densities
        for step in (50.0, 500.0)
    )
    assert torch.equal(far, further)


def test_what_is_left_out_may_be_anything():
    image, variance = observe("nuclei")
    held_out = leave_out(image, variance)
    broken = torch.where(held_out.left_out, 100 * torch.rand_like(image), image)
    kernel = gaussian(1.0, WINDOW, CPU)
    assert torch.equal(leave_out(broken, variance).predict(kernel).mean, held_out.predict(kernel).mean)


def test_every_kernel_meets_the_same_random_numbers_whatever_was_predicted_before():
    image, variance = observe("beads")
    held_out = leave_out(image, variance)
    first = held_out.predict(gaussian(1.0, WINDOW, CPU))
    held_out.predict(gaussian(2.0, WINDOW, CPU))
    again = held_out.predict(gaussian(1.0, WINDOW, CPU))
    assert torch.equal(again.mean, first.mean)
    assert torch.equal(again.densities, first.densities)
    assert len(first.densities) == int(held_out.left_out.sum())


@pytest.mark.parametrize("kind", ["filaments", "nuclei", "beads"])
def test_the_true_kernel_predicts_better_than_a_narrower_and_a_wider_one(kind):
    held_out = leave_out(*observe(kind))
    truth, narrow, wide = (
        held_out.predict(gaussian(factor * WIDTH, WINDOW, CPU)) for factor in (1, 0.5, 2)
    )
    for other in (narrow, wide):
        gain, error = truth.advantage(other)
        assert gain > error > 0


def prediction(*densities):
    """Prediction by hand."""
    values = torch.tensor(densities, dtype=torch.float64)
    return Prediction(torch.zeros(1, 1, 3, 3), torch.zeros(1, 1, 5, 5), values)


def test_wide_gaps_tell_a_long_bent_blur_from_a_gaussian_where_there_is_hardly_any_noise():
    """Over single pixels the neighbours do for any kernel: a Gaussian won, and the result was the input."""
    track = np.zeros((21, 21))
    along = np.linspace(-1, 1, 400)
    track[(10 + 8 * along).round().astype(int), (10 + 7 * np.sin(3 * along)).round().astype(int)] = 1
    bent = torch.from_numpy(gaussian_filter(track, 0.6) / track.sum()).float()[None, None]
    blurred = blur(torch.from_numpy(structure(96, np.random.default_rng(0))).float()[None, None], bent)
    image = 0.1 + 0.8 * blurred / blurred.max()
    image = image + 5e-4 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    variance = noise_variance(image)
    single, wide = (leave_out(image, variance, block=block) for block in (1, 4))
    *_, tried = try_widths(single, (21, 21), CPU)
    gain, error = wide.predict(bent).advantage(wide.predict(tried.kernel))
    assert gain > 3 * error


def test_the_advantage_is_the_mean_difference_and_its_standard_error():
    one, other = prediction(1.0, 2.0, 4.0, 8.0), prediction(1.0, 1.0, 1.0, 1.0)
    assert one.advantage(one) == (0, 0)
    gain, error = one.advantage(other)
    assert gain == pytest.approx(2.75)
    assert other.advantage(one) == pytest.approx((-gain, error))
    assert error == pytest.approx(np.std([0, 1, 3, 7]) / 2)


# --- widths ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [(11, 11), (9, 13)])
def test_a_gaussian_has_its_width_and_is_centred(window):
    kernel = gaussian(1.2, window, CPU)
    assert kernel.shape == (1, 1, *window)
    assert float(kernel.sum()) == pytest.approx(1)
    torch.testing.assert_close(kernel, kernel.flip((-2, -1)))
    assert width_of(kernel) == pytest.approx(1.2, rel=0.01)


@pytest.mark.parametrize("width", [0.3, 0.5, 1.2])
def test_a_blur_adds_its_variance_and_keeps_sum_and_centroid(width):
    kernel = torch.zeros(1, 1, 5, 7)
    kernel[0, 0, 1, 2], kernel[0, 0, 3, 5] = 0.25, 0.75
    wider = blurred(kernel, width)
    assert float(wider.sum()) == pytest.approx(1, abs=1e-6)
    grown = wider.shape[-1] - 7
    assert wider.shape[-2:] == (5 + grown, 7 + grown)
    added = gaussian(width, (21, 21), CPU)
    for before, after, by in zip(*(moments(k) for k in (kernel, wider, added)), strict=True):
        assert after[0] == pytest.approx(before[0], abs=1e-5)
        assert after[1] == pytest.approx(before[1] + by[1], abs=1e-3)


def moments(kernel):
    """Mean and variance of a kernel along both axes, from the centre of its window."""
    found = []
    for profile in (kernel[0, 0].sum(1), kernel[0, 0].sum(0)):
        place = torch.arange(len(profile)) - len(profile) // 2
        mean = float((profile * place).sum())
        found.append((mean, float((profile * (place - mean) ** 2).sum())))
    return found


def test_a_blur_of_no_width_is_none():
    kernel = gaussian(1.0, (5, 5), CPU)
    assert torch.equal(blurred(kernel, 0.0), kernel)


@pytest.mark.parametrize("kind", ["filaments", "nuclei", "beads"])
def test_the_width_of_a_gaussian_is_found(kind):
    found = list(try_widths(leave_out(*observe(kind)), WINDOW, CPU))
    assert len(found) == TRIALS
    assert width_of(found[-1].kernel) == pytest.approx(WIDTH, rel=0.25)


def test_every_width_is_tried_once_and_within_the_first_pass_or_next_to_it():
    """Where predictions are no better than chance the search stays within its range and ratios."""
    tried = []

    class Blind:
        def predict(self, kernel):
            tried.append(width_of(kernel))
            density = -abs(np.log(tried[-1]) - np.log(1.1))
            return Prediction(kernel, torch.zeros(1), torch.full((4,), density))

    *_, last = try_widths(Blind(), (21, 21), CPU)
    assert len(set(tried)) == len(tried) == TRIALS
    assert tried[:5] == sorted(tried[:5])
    ratio = tried[1] / tried[0]
    assert width_of(last.kernel) == min(tried, key=lambda width: abs(np.log(width / 1.1)))
    assert abs(np.log(width_of(last.kernel) / 1.1)) <= np.log(ratio) / 8 + 0.02


def test_the_widest_is_not_tried_again_if_it_is_the_best():
    tried = []

    class Wide:
        def predict(self, kernel):
            tried.append(round(width_of(kernel), 6))
            return Prediction(kernel, torch.zeros(1), torch.full((4,), tried[-1]))

    yielded = list(try_widths(Wide(), (21, 21), CPU))
    assert len(yielded) == TRIALS
    assert len(set(tried)) == len(tried) == TRIALS - FINE
    assert width_of(yielded[-1].kernel) == pytest.approx(max(tried), abs=1e-5)


@pytest.mark.parametrize("limit", [0.0, 0.9, 1.3])
def test_no_width_is_above_the_limit_but_where_that_leaves_none(limit):
    class Wide:
        def predict(self, kernel):
            return Prediction(kernel, torch.zeros(1), torch.full((4,), width_of(kernel)))

    *_, last = try_widths(Wide(), (21, 21), CPU, limit)
    assert width_of(last.kernel) == pytest.approx(max(limit, LEAST_RATIO * NARROWEST), rel=0.02)
