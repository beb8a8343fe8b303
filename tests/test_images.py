"""Intensities into the generators' range and back, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from napari_vdip.images import LARGEST_INTENSITY, Intensities, as_array, check_plane, is_blank
from napari_vdip.settings import Settings

REAL_TYPES = ["u1", "i1", "u2", ">u2", "i2", "u4", "i8", ">i4", "f2", "f4", ">f4", "f8", ">f8", "g"]


@pytest.fixture
def plane():
    return np.random.default_rng(0).uniform(0, 100, (6, 8, 2))


# --- intensities -------------------------------------------------------------------------------------


@pytest.mark.parametrize("headroom", [None, 0.0, 0.1, 0.4])
@pytest.mark.parametrize("dtype", REAL_TYPES)
def test_intensities_make_a_round_trip(plane, dtype, headroom):
    image = plane.astype(dtype)
    intensities = Intensities.of(image, headroom)
    tensor = intensities.to_tensor(image)
    assert tensor.shape == (1, 2, 6, 8)
    assert 0 <= tensor.min() < tensor.max() <= 1
    back = intensities.to_array(tensor)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, image.astype(np.float64), rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("headroom", [0.0, 0.1, 0.4])
def test_the_headroom_stays_free_on_both_sides(plane, headroom):
    tensor = Intensities.of(plane, headroom).to_tensor(plane)
    assert float(tensor.min()) == pytest.approx(headroom, abs=1e-6)
    assert float(tensor.max()) == pytest.approx(1 - headroom, abs=1e-6)


@pytest.mark.parametrize(("gain", "offset"), [(1e-6, 0.0), (3.0, -7.0), (1e5, 1e4)])
def test_the_tensor_does_not_depend_on_gain_and_offset(plane, gain, offset):
    other = gain * plane + offset
    first, second = (Intensities.of(image, 0.1).to_tensor(image) for image in (plane, other))
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_deviations_scale_with_the_gain_and_ignore_the_offset(plane):
    tensor = Intensities.of(plane, 0.1).to_tensor(plane)
    one, other = (Intensities.of(image, 0.1) for image in (plane, 3 * plane - 7))
    np.testing.assert_allclose(other.to_deviation(tensor), 3 * one.to_deviation(tensor), rtol=1e-6)
    assert not one.to_deviation(0 * tensor).any()


@pytest.mark.parametrize(
    ("dtype", "top"), [("u1", 255), ("u2", 65535), (">u2", 65535), ("<u2", 65535), ("f4", 1), ("f8", 1)]
)
def test_without_headroom_the_range_is_that_of_the_type(dtype, top):
    image = np.array([[[0], [1]]], dtype)
    assert Intensities.of(image, None) == Intensities(0.0, float(top))


def test_without_headroom_other_images_are_stretched_to_the_range():
    image = np.array([[[-2.0], [6.0]]])
    assert Intensities.of(image, None) == Intensities(-2.0, 8.0)


# --- checks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", REAL_TYPES)
def test_every_real_type_is_accepted_as_it_is(dtype):
    image = np.zeros((2, 3), dtype)
    assert as_array(image) is image


def test_nested_lists_are_accepted():
    assert as_array([[1, 2], [3, 4]]).shape == (2, 2)


@pytest.mark.parametrize(
    ("image", "value"),
    [
        (np.zeros((4, 4), complex), "complex128"),
        (np.zeros((4, 4), bool), "bool"),
        (np.array([["a", "b"]]), "<U1"),
        (np.zeros((4, 4), "M8[s]"), "datetime64"),
        (np.full((4, 4), None), "ndarray"),
        (None, "NoneType"),
        ({"a": 1}, "dict"),
        (np.zeros((0, 4)), r"\(0, 4\)"),
        ([], r"\(0,\)"),
    ],
)
def test_what_is_no_image_is_refused_with_what_came(image, value):
    with pytest.raises(ValueError, match=f"^image: expected .*got .*{value}"):
        as_array(image)


def spoiled(value, size=(40, 40, 2)):
    plane = np.random.default_rng(0).uniform(0, 1, size)
    plane[3, 4, 1] = value
    return plane


def grey(height, width):
    return np.arange(height * width, dtype=float).reshape(height, width, 1)


@pytest.mark.parametrize(
    ("plane", "message"),
    [
        (spoiled(np.nan), "expected finite intensities, got 1 that"),
        (spoiled(np.inf), "expected finite intensities, got 1 that"),
        (spoiled(-np.inf), "expected finite intensities, got 1 that"),
        (np.full((40, 40, 1), np.nan), "expected finite intensities, got 1600 that"),
        (np.ma.masked_equal(np.full((40, 40, 1), 7), 7), "expected no masked pixels, got 1600"),
        (np.full((40, 40, 1), 2 * LARGEST_INTENSITY), "expected intensities of at most 1e\\+35"),
        (np.full((26, 40, 1), 7), r"height of at least 27 pixels for a psf_shape of \(9, 9\), got 26"),
        (spoiled(0.0) * [0, 1], r"expected varying intensities, got 0\.0 in every"),
        (grey(26, 40), r"height of at least 27 pixels for a psf_shape of \(9, 9\), got 26"),
        (grey(40, 26), r"width of at least 27 pixels for a psf_shape of \(9, 9\), got 26"),
    ],
)
def test_a_plane_that_cannot_be_deconvolved_is_refused(plane, message):
    with pytest.raises(ValueError, match=f"^image, T=3: .*{message}"):
        check_plane(plane, Settings(psf_shape=9, prior="sparse"), "image, T=3")


def test_a_plane_is_blank_if_no_channel_varies():
    blank = np.full((40, 40, 2), [7, 9], np.uint16)
    check_plane(blank, Settings(psf_shape=9))
    assert is_blank(blank)
    assert not is_blank(spoiled(0.0) * [0, 1])
    assert not is_blank(np.full((40, 40, 1), np.nan))


@pytest.mark.parametrize("prior", ["none", "sparse", "extreme"])
@pytest.mark.parametrize(("psf_shape", "smallest"), [(9, 27), (51, 51)])
def test_the_smallest_plane_gives_the_networks_and_the_prior_room(prior, psf_shape, smallest):
    """The canvas, larger by the reach of the kernel, holds a 35 x 35 window."""
    settings = Settings(psf_shape=psf_shape, prior=prior)
    check_plane(grey(smallest, smallest), settings)
    with pytest.raises(ValueError, match=f"at least {smallest} pixels"):
        check_plane(grey(smallest - 1, smallest), settings)
