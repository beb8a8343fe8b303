"""Measures of point spread functions with a closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import rotate

from napari_vdip.kernels import moved
from napari_vdip.psf_measures import agreement, measure_psf, theoretical_width
from napari_vdip.psf_window import larger_window, suggested_window
from napari_vdip.scenes import FIRST_ZERO, airy_psf, gaussian_psf

FWHM = 2 * math.sqrt(2 * math.log(2))


def gaussian(sigma, size=41, at=(0.0, 0.0), turn=0.0):
    """Sampled Gaussian of two widths, the first along x turned towards y."""
    y, x = (np.mgrid[:size, :size] - size // 2) - np.reshape(at, (2, 1, 1))
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    psf = np.exp(-0.5 * ((along / sigma[0]) ** 2 + (across / sigma[1]) ** 2))
    return psf / psf.sum()


DELTA = np.pad([[1.0]], 5)


@pytest.mark.parametrize("turn", [0, 30, 60, 90, 150])
def test_a_gaussian_has_its_widths_along_its_axes(turn):
    measures = measure_psf(gaussian((4, 2), turn=math.radians(turn)))
    assert measures.pixels.sigma == pytest.approx((4, 2), rel=1e-3)
    assert measures.pixels.fwhm_axes == pytest.approx((4 * FWHM, 2 * FWHM), rel=1e-3)
    assert (measures.pixels.angle - turn + 90) % 180 - 90 == pytest.approx(0, abs=1e-3)
    assert -90 < measures.pixels.angle <= 90
    assert measures.energy == pytest.approx(1 / (4 * math.pi * 4 * 2), rel=1e-3)
    assert measures.entropy == pytest.approx(1 + math.log(2 * math.pi * 4 * 2), rel=1e-3)


def test_widths_along_y_and_x_are_those_of_the_profiles():
    measures = measure_psf(gaussian((4, 2)))
    assert measures.pixels.fwhm == pytest.approx((2 * FWHM, 4 * FWHM), rel=1e-3)


def test_pixels_that_are_not_square_count_in_physical_widths():
    round_one = measure_psf(gaussian((4, 2)), (0.2, 0.1), "micrometer")
    assert round_one.physical.sigma == pytest.approx((0.4, 0.4), rel=1e-3)
    assert round_one.physical.fwhm_axes == pytest.approx((0.4 * FWHM, 0.4 * FWHM), rel=1e-3)
    assert (round_one.physical.unit, round_one.pixels.unit) == ("micrometer", "pixel")
    assert round_one.pixels == measure_psf(gaussian((4, 2))).pixels


@pytest.mark.parametrize("at", [(0.0, 0.0), (0.3, -0.4), (-3.0, 2.5)])
def test_a_shift_moves_the_centroid_and_nothing_else(at):
    measures, centred = measure_psf(gaussian((3, 2), at=at)), measure_psf(gaussian((3, 2)))
    assert measures.centroid == pytest.approx(at, abs=1e-3)
    assert measures.pixels.fwhm == pytest.approx(centred.pixels.fwhm, rel=2e-3)
    assert measures.pixels.sigma == pytest.approx(centred.pixels.sigma, rel=1e-3)


def test_the_width_of_an_airy_pattern_is_that_of_theory():
    # The first dark ring is at 0.61 wavelength / NA.
    wavelength_over_na = 10 * 2 * math.pi / FIRST_ZERO
    measures = measure_psf(airy_psf(61, 10.0))
    assert measures.pixels.fwhm_axes == pytest.approx(
        (theoretical_width(wavelength_over_na, 1),) * 2, rel=5e-3
    )
    assert theoretical_width(520, 1.3) == pytest.approx(0.5145 * 520 / 1.3, rel=1e-4)


def test_a_point_has_no_entropy_and_the_width_of_its_pixel():
    measures = measure_psf(DELTA)
    assert (measures.energy, measures.entropy, measures.border) == pytest.approx((1, 0, 0))
    assert measures.pixels.fwhm == pytest.approx((1, 1), abs=0.01)
    assert measures.pixels.sigma == (0, 0)
    assert measures.near_point
    assert measures.suggested == (3, 3)


def test_a_uniform_disk_has_its_radius():
    y, x = np.mgrid[-15:16, -15:16]
    disk = (np.hypot(y, x) <= 10).astype(float)
    measures = measure_psf(disk)
    assert measures.pixels.sigma == pytest.approx((5, 5), rel=0.02)
    assert measures.pixels.fwhm == pytest.approx((21, 21), abs=0.3)
    assert measures.energy == pytest.approx(1 / disk.sum())
    assert measures.entropy == pytest.approx(math.log(disk.sum()))


@pytest.mark.parametrize(("psf", "near"), [(gaussian_psf(11, 0.6), True), (gaussian_psf(11, 1.0), False)])
def test_near_a_point_is_narrower_than_two_pixels(psf, near):
    assert measure_psf(psf).near_point == near


def test_neither_a_line_nor_a_spike_in_a_haze_is_near_a_point():
    line = np.zeros((11, 11))
    line[5, 2:9] = 1
    assert not measure_psf(line).near_point
    assert not measure_psf(0.1 * DELTA + 0.9 * np.full(DELTA.shape, 1 / DELTA.size)).near_point


def test_a_cut_off_side_grows_and_only_that():
    tall = gaussian((1.0, 6.0))[16:25, 14:27]  # 9 x 13, wide along y
    assert suggested_window(tall)[0] > 9
    assert suggested_window(tall)[1] < 13
    assert measure_psf(tall).advice == "larger window"


def test_an_empty_margin_is_given_up_but_some_is_left():
    psf = gaussian_psf(31, 1.5)
    height, width = suggested_window(psf)
    assert height == width < 31
    cut = (31 - height) // 2
    assert psf[cut:-cut, cut:-cut].sum() > 0.999
    assert measure_psf(psf).advice == "smaller window"
    assert suggested_window(psf[cut:-cut, cut:-cut]) == (height, width)
    assert measure_psf(psf[cut:-cut, cut:-cut]).advice == ""


@pytest.mark.parametrize("shape", [(3, 3), (4, 6), (1, 1), (31, 5)])
def test_suggestions_are_odd_and_at_least_three(shape):
    rng = np.random.default_rng(0)
    for psf in (np.ones(shape), rng.random(shape), rng.random(shape) ** 20):
        suggested = suggested_window(psf)
        assert all(side % 2 and side >= 3 for side in suggested)


def test_a_window_grows_for_the_worst_of_the_planes_and_not_past_half_the_image():
    wide, narrow = gaussian_psf(9, 4.0), gaussian_psf(9, 1.0)
    assert larger_window([narrow, narrow], (64, 64)) is None
    assert larger_window([narrow, wide, narrow], (64, 64)) == (15, 15)
    tall = gaussian((1.0, 6.0))[16:25, 14:27]  # 9 x 13, of which the width could be less
    assert larger_window([tall], (64, 64)) == (15, 13)
    assert larger_window([tall], (25, 64)) == (11, 13)
    assert larger_window([tall], (18, 18)) is None


def test_agreement_ignores_shift_scale_and_padding_and_sees_a_turn():
    psf = gaussian((4, 1.5), size=31)
    assert agreement(psf, 3 * np.roll(np.pad(psf, 4), (3, -2), (0, 1))) == pytest.approx(1)
    assert agreement(psf, moved(psf, (0.5, 0))) > 0.97
    turned = agreement(psf, rotate(psf, 90))
    # Two Gaussians: the overlap is that of their sum of covariances.
    assert turned == pytest.approx(2 * 4 * 1.5 / (4**2 + 1.5**2), rel=1e-2)
    assert agreement(psf, np.ones((1, 1))) < turned


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: measure_psf(np.ones(3)), "psf"),
        (lambda: measure_psf(-DELTA), "psf"),
        (lambda: measure_psf(np.full((3, 3), np.nan)), "psf"),
        (lambda: measure_psf(DELTA, (0.0, 1.0)), "pixel_size"),
        (lambda: theoretical_width(0, 1), "wavelength"),
        (lambda: theoretical_width(500, math.nan), "na"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, name):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        call()
