"""Point spread functions: where their centroid is, and moving it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_vdip.kernels import centred, is_round, moved, off_centre, thinness
from napari_vdip.scenes import aberrated_psf, airy_psf, gaussian_psf


def blob(shape=(21, 23), at=(0, 0), width=1.5):
    """Gaussian spot off the central pixel by whole pixels."""
    spot = np.zeros(shape)
    spot[shape[0] // 2 + at[0], shape[1] // 2 + at[1]] = 1
    return gaussian_filter(spot, width, mode="constant")


@pytest.mark.parametrize("at", [(0, 0), (2, -3), (-1, 0)])
def test_the_distance_from_the_centre_is_that_of_the_centroid(at):
    assert off_centre(blob(at=at)) == pytest.approx(at, abs=1e-3)


@pytest.mark.parametrize("at", [(0, 0), (2, -3), (-3, 1)])
@pytest.mark.parametrize("fraction", [(0.0, 0.0), (0.3, -0.45)])
def test_centring_brings_the_centroid_to_the_central_pixel(at, fraction):
    result, by = centred(moved(blob(at=at), fraction))
    assert off_centre(result) == pytest.approx((0, 0), abs=1e-2)
    assert by == pytest.approx([-(a + f) for a, f in zip(at, fraction, strict=True)], abs=2e-2)


def ragged(seed):
    return np.random.default_rng(seed).uniform(0, 1, (15, 17)) ** 4 * blob((15, 17), (1, -2), width=3)


@pytest.mark.parametrize("seed", range(5))
def test_a_ragged_psf_that_reaches_its_window_is_centred_too(seed):
    result, _ = centred(ragged(seed))
    assert off_centre(result) == pytest.approx((0, 0), abs=1e-2)
    assert result.min() >= 0
    assert result.sum() == pytest.approx(1)


@pytest.mark.parametrize("seed", range(5))
def test_what_leaves_the_window_is_cut_off_and_with_room_does_not_move_the_rest(seed):
    """It did, and took the image with it: scene 1 kernel 6 of Levin et al. by most of a pixel."""
    psf = ragged(seed)
    result, by = centred(psf, 17)
    whole, by_of_whole = centred(np.pad(psf, 20))
    assert off_centre(whole) == pytest.approx((0, 0), abs=1e-2)
    assert by == pytest.approx(by_of_whole, abs=1e-9)
    inside = whole[20:-20, 20:-20]
    assert 0.9 < inside.sum() < 1
    np.testing.assert_allclose(result, inside / inside.sum(), atol=1e-9)


@pytest.mark.parametrize("by", [(0.0, 0.0), (1.5, -2.25)])
def test_a_moved_psf_stays_non_negative_and_sums_to_one(by):
    psf = np.zeros((11, 11))
    psf[4:7, 5] = 3.0  # edges make splines overshoot
    result = moved(psf, by)
    assert result.min() >= 0
    assert result.sum() == pytest.approx(1)


def test_whole_pixels_move_exactly():
    np.testing.assert_allclose(moved(blob(), (2, -3)), blob(at=(2, -3)), atol=1e-5)


def test_a_symmetric_psf_stays_where_it_is():
    psf = blob() / blob().sum()
    result, by = centred(psf)
    assert by == pytest.approx((0, 0), abs=1e-12)
    np.testing.assert_allclose(result, psf, atol=1e-12)


def test_a_round_gaussian_is_as_thin_as_itself_and_a_line_thinner_the_longer_it_is():
    """A line of n pixels has the mean variance (n**2 - 1) / 24 and the sum of squares 1 / n."""
    for width in (1.5, 3.0):
        assert thinness(gaussian_psf(31, width)) == pytest.approx(1, abs=0.01)
    for n in (5, 21):
        line = np.pad(np.full((1, n), 1 / n), ((n, n), (2, 0)))
        expected = np.pi * (n**2 - 1) / (6 * n)
        assert thinness(line) == pytest.approx(expected)
        assert thinness(line.T) == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(9, 9), (9, 11)])
def test_a_gaussian_and_an_airy_pattern_are_round_and_what_is_longer_one_way_is_not(shape):
    y, x = (np.arange(side) - side // 2 for side in shape)
    for ratio, expected in ((1.0, True), (1.3, False)):
        psf = np.exp(-0.5 * ((y[:, None] * ratio) ** 2 + x**2))
        assert is_round(psf / psf.sum()) == expected
    assert is_round(airy_psf(21, 5.0))
    assert not is_round(aberrated_psf(21))
