"""The residual in noise units, its correlations, and what a replica of a right result leaves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import convolve

from napari_vdip import Settings, deconvolve, sharpness
from napari_vdip.residual import (
    LAGS,
    clipping,
    correlations,
    examined,
    measure_residual,
    noise_units,
    valid_reblurred,
)
from napari_vdip.scenes import cells, gaussian_psf, specimen

PSF = gaussian_psf(13, 1.5)


@pytest.fixture(scope="module")
def white():
    return np.random.default_rng(0).normal(0, 1, (200, 190, 1))


def test_what_a_photograph_leaves_unexplained_is_more_than_its_noise(monkeypatch):
    scene = specimen("nuclei", PSF, size=64, photons=1000.0)
    about = (scene.blurred[..., None], scene.blurred[..., None] + 3.0, PSF)
    under_a_lens = measure_residual(*about)
    monkeypatch.setattr(sharpness, "sharpness", lambda image, variance: 4.0)
    photograph = measure_residual(*about)
    assert photograph.chi_square == pytest.approx(under_a_lens.chi_square / 4)
    assert photograph.correlation == pytest.approx(under_a_lens.correlation)


def test_a_photograph_under_a_track_leaves_as_much_as_the_sharpest():
    scene = specimen("nuclei", PSF, size=64, photons=1000.0)
    track = np.zeros((13, 13))
    track[6, 1:7] = track[6:12, 6] = 1 / 12
    about = (scene.blurred[..., None], scene.blurred[..., None] + 3.0, track)
    under_a_lens = measure_residual(*about)
    photograph = measure_residual(*about, Settings(gaussians=False))
    assert under_a_lens.beyond_noise < 1 == photograph.beyond_noise
    ratio = sharpness.SHARPEST / (1 + (sharpness.SHARPEST - 1) * under_a_lens.beyond_noise)
    assert photograph.chi_square == pytest.approx(under_a_lens.chi_square / ratio)


def test_lags_are_half_of_a_square_without_its_middle():
    both = {*LAGS, *((-y, -x) for y, x in LAGS)}
    assert both | {(0, 0)} == {(y, x) for y in range(-3, 4) for x in range(-3, 4)}
    assert len(both) == 2 * len(LAGS)


def test_white_noise_has_the_variance_of_its_null_distribution(white):
    normalised = correlations(white) * white.size**0.5
    assert np.mean(normalised**2) == pytest.approx(1, abs=0.9)  # 24 lags: standard deviation 0.29
    assert np.abs(normalised).max() < 4.5


@pytest.mark.parametrize(
    ("stencil", "lag"), [([[1, 1]], (0, 1)), ([[1], [1]], (1, 0)), (np.eye(2), (1, 1))]
)
def test_a_mean_of_two_correlates_them_by_a_half(white, stencil, lag):
    smooth = convolve(white[..., 0], np.array(stencil, float))[..., None]
    found = dict(zip(LAGS, correlations(smooth), strict=True))
    assert found.pop(lag) == pytest.approx(0.5, abs=0.02)
    assert np.abs(list(found.values())).max() < 0.03


def test_correlations_do_not_depend_on_scale_and_offset_and_average_channels(white):
    expected = correlations(white)
    np.testing.assert_allclose(correlations(7 - 3 * white), expected, atol=1e-12)
    other = np.cumsum(white, 0)
    both = correlations(np.concatenate([white, other], 2))
    np.testing.assert_allclose(both, (expected + correlations(other)) / 2, atol=1e-12)


def test_the_residual_of_the_truth_is_noise_of_one_unit_bright_or_dark():
    ramp = np.linspace(50, 2000, 256)[None, :, None] * np.ones((256, 1, 1))
    image = np.random.default_rng(0).poisson(ramp).astype(np.float32)
    units = noise_units(image, ramp)
    for part in (units[:, :64], units[:, 96:160], units[:, -64:]):
        assert part.std() == pytest.approx(1, abs=0.07)
    np.testing.assert_allclose(noise_units(10 * image + 3, 10 * ramp + 3), units, atol=0.01)


def test_a_blank_image_has_no_residual():
    assert not noise_units(np.full((20, 20, 1), 7.0), np.full((20, 20, 1), 7.1)).any()


def test_what_is_blurred_again_is_the_convolution_where_it_is_known():
    rng = np.random.default_rng(0)
    latent, psf = rng.random((20, 24, 2)), rng.random((5, 3))
    reblurred, inside = valid_reblurred(latent, psf)
    whole = np.stack([convolve(latent[..., c], psf, mode="constant") for c in range(2)], -1)
    np.testing.assert_allclose(reblurred, whole[inside], atol=1e-12)
    assert reblurred.shape == (16, 22, 2)


@pytest.fixture(scope="module")
def scene():
    return specimen("filaments", PSF, size=96, photons=1000, seed=11)


def measured(scene, psf):
    result = deconvolve(scene.blurred, psf=psf, samples=2, device="cpu")
    return measure_residual(scene.blurred[..., None], result.reblurred[..., None], result.psf)


def test_the_right_kernel_leaves_what_its_replica_leaves(scene):
    residual = measured(scene, PSF)
    assert residual.chi_square == pytest.approx(residual.expected_chi_square, rel=0.1)
    assert abs(residual.deviation) < 3
    assert residual.whiteness < 2.5
    assert residual.region == ((0, 96), (0, 96))


def test_it_is_not_white_though(scene):
    # This is why there is a replica: the latent image takes up the slow part of the noise.
    residual = measured(scene, PSF)
    assert residual.expected_correlation < -0.05
    assert residual.expected_chi_square < 0.95


def test_too_wide_a_kernel_leaves_more(scene):
    residual = measured(scene, gaussian_psf(13, 2.2))
    assert residual.chi_square > 1.15 * residual.expected_chi_square
    assert residual.deviation > 5
    assert residual.whiteness > 5


def test_only_the_part_with_the_most_detail_of_a_large_plane_is_examined(scene):
    image = np.random.default_rng(0).normal(scene.blurred.min(), 5, (300, 400)).astype(np.float32)
    image[150:246, 300:396] = scene.blurred
    rows, columns = examined(image[..., None], PSF.shape, None)
    assert rows.start <= 150 < 246 <= rows.stop
    assert columns.start <= 300 < 396 <= columns.stop
    assert (rows.stop - rows.start, columns.stop - columns.start) == (256, 256)


def test_no_residual_at_all_has_no_correlation():
    assert not correlations(np.zeros((20, 20, 1))).any()


def test_saturation_is_seen_and_few_bright_pixels_are_not():
    image = np.random.default_rng(0).poisson(100, (100, 100, 1))
    clean = clipping(image)
    assert (clean.highest, clean.lowest) == (0, 0)
    clipped = clipping(image.clip(90, 110))
    assert clipped.highest == pytest.approx(np.mean(image >= 110))
    assert clipped.lowest == pytest.approx(np.mean(image <= 90))
    both = clipping(np.concatenate([image, image.clip(90, 110)], -1))
    assert both == clipped


def whole(image, top):
    """An image as a camera of 8 bits gives it, saturated above a value."""
    return np.round(image * (255 / top)).clip(0, 255).astype(np.uint8)[..., None]


@pytest.mark.parametrize("kind", ["filaments", "nuclei", "beads", "cells"])
def test_saturation_that_compression_has_spread_is_seen_and_bright_specimens_are_not(kind):
    scene = cells(size=96, psf_size=13) if kind == "cells" else specimen(kind, PSF, size=96)
    image = scene.blurred
    assert clipping(image[..., None]).highest == 0
    assert clipping(whole(image, 1.1 * image.max())).highest == 0
    saturated = whole(image, np.quantile(image, 0.98))
    part = pytest.approx(np.mean(saturated == 255), rel=0.1)
    assert clipping(saturated).highest == part
    lower = saturated - np.random.default_rng(0).integers(1, 3, saturated.shape, np.uint8) * (saturated > 2)
    lower[0, 0] = 255  # the highest value of all is rare
    assert clipping(lower).highest == part


def test_an_even_background_with_noise_is_not_saturated():
    even = np.random.default_rng(0).poisson(40_000, (128, 128, 1))
    even[:40] //= 10
    assert clipping(even).highest == 0


def test_saturation_under_a_flat_field_cannot_be_seen():
    # Not a wish: divided by what varies by a few percent, it looks like an even specimen.
    image = specimen("nuclei", PSF, size=96).blurred
    flat = 1 + 0.03 * np.cos(np.linspace(0, np.pi, 96))
    assert clipping((image.clip(None, np.quantile(image, 0.98)) / flat)[..., None]).highest == 0
