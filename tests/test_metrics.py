"""The measures of quality: known shifts, known errors, and their protocol."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from napari_vdip.metrics import align, aligned_quality, best_correlation, error_ratio, kernel_error, shifted


@pytest.fixture
def truth():
    return gaussian_filter(np.random.default_rng(0).normal(0, 10, (64, 70)), 1.5)


def test_identical_images_have_infinite_psnr_and_full_similarity(truth):
    quality = aligned_quality(truth, truth, data_range=1.0)
    assert quality.psnr == np.inf
    assert quality.ssim == pytest.approx(1)
    assert quality.shift == (0, 0)


@pytest.mark.parametrize("by", [(3, -5), (-10, 10), (0, 1)])
def test_a_shift_by_whole_pixels_is_undone_exactly(truth, by):
    quality = aligned_quality(np.roll(truth, by, (0, 1)), truth, data_range=1.0)
    assert quality.shift == (-by[0], -by[1])
    assert quality.psnr == np.inf


@pytest.mark.parametrize("by", [(0.25, 0.0), (-1.5, 2.75)])
def test_a_shift_by_quarter_pixels_is_found(truth, by):
    quality = aligned_quality(shift(truth, by, order=5, mode="nearest"), truth, data_range=1.0)
    assert quality.shift == (-by[0], -by[1])


@pytest.mark.parametrize("subpixels", [1, 3, 4])
def test_shifts_stay_within_reach_and_on_the_grid(truth, subpixels):
    unrelated = np.random.default_rng(1).normal(0, 1, truth.shape)
    quality = aligned_quality(unrelated, truth, data_range=1.0, border=6, reach=4, subpixels=subpixels)
    for part in quality.shift:
        assert -4 <= part <= 4
        assert part * subpixels == pytest.approx(round(part * subpixels))


def test_psnr_is_that_of_the_squared_error_inside_the_border(truth):
    noisy = truth + np.random.default_rng(1).normal(0, 0.1, truth.shape)
    noisy[:5] = 1e3  # outside the compared area and the reach
    quality = aligned_quality(noisy, truth, data_range=2.0, border=8, reach=2)
    error = np.mean((noisy - truth)[8:-8, 8:-8] ** 2)
    assert quality.shift == (0, 0)
    assert quality.psnr == pytest.approx(10 * np.log10(2.0**2 / error))
    assert 0 < quality.ssim < 1


def test_quality_does_not_depend_on_the_intensity_unit(truth):
    noisy = truth + np.random.default_rng(1).normal(0, 0.1, truth.shape)
    one = aligned_quality(noisy, truth, data_range=1.0)
    other = aligned_quality(1000 * noisy, 1000 * truth, data_range=1000.0)
    assert other.psnr == pytest.approx(one.psnr)
    assert other.ssim == pytest.approx(one.ssim)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"restored": np.zeros((64, 69))}, r"restored: expected .*\(64, 70\), got \(64, 69\)"),
        ({"border": 5}, "border: expected 10 to .*got 5"),
        ({"border": 32}, "border: expected .*got 32"),
    ],
)
def test_a_wrong_argument_is_refused(truth, changes, message):
    arguments = {"restored": truth, "truth": truth, "data_range": 1.0, **changes}
    with pytest.raises(ValueError, match=message):
        aligned_quality(**arguments)


def test_the_kernel_error_ignores_scale_shift_and_padding():
    kernel = np.random.default_rng(0).uniform(0, 1, (5, 7))
    same = np.pad(3 * kernel, ((4, 0), (1, 3)))
    assert kernel_error(same, kernel) == pytest.approx(0, abs=1e-12)


def test_the_kernel_error_of_two_spots_and_one_is_known():
    one, two = np.array([[1.0]]), np.array([[1.0, 0.0, 1.0]])
    assert kernel_error(two, one) == pytest.approx(1 + 0.5 - 2 * 0.5)
    assert kernel_error(one, two) == pytest.approx(kernel_error(two, one))


def test_shifting_repeats_what_aligning_did(truth):
    restored = shift(truth, (1.25, -2.5), order=5, mode="nearest")
    best, target, by = align(restored, truth)
    np.testing.assert_allclose(shifted(restored, by), best)
    np.testing.assert_array_equal(target, truth[15:-15, 15:-15])


def test_the_error_ratio_is_one_for_itself_and_proportional_to_the_error(truth):
    error = np.random.default_rng(1).normal(0, 0.1, truth.shape)
    assert error_ratio(truth + error, truth + error, truth) == pytest.approx(1)
    assert error_ratio(truth + 2 * error, truth + error, truth) == pytest.approx(2)


@pytest.mark.parametrize("by", [(3, -5), (0, 0)])
def test_the_best_correlation_undoes_a_whole_pixel_shift_at_any_scale(truth, by):
    correlation, found = best_correlation(5 + 3 * np.roll(truth, by, (0, 1)), truth)
    assert correlation == pytest.approx(1)
    assert found == (-by[0], -by[1])
