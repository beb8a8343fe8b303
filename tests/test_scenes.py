import numpy as np
import pytest
from scipy.signal import fftconvolve

from napari_vdip.kernels import off_centre
from napari_vdip.scenes import aberrated_psf, airy_psf, cells, gaussian_psf, specimen


@pytest.mark.parametrize("size", [9, 21])
def test_the_point_spread_function_is_centred_asymmetric_and_sums_to_one(size):
    psf = aberrated_psf(size)
    assert psf.shape == (size, size)
    assert psf.min() >= 0
    assert psf.sum() == pytest.approx(1)
    np.testing.assert_allclose(off_centre(psf), 0, atol=0.1)
    assert np.sum(psf * psf[::-1, ::-1]) < 0.8 * np.sum(psf**2)


def test_the_blurred_image_is_the_latent_one_convolved_with_shot_and_readout_noise():
    scene = cells(size=96, psf_size=9, photons=1000)
    expected = fftconvolve(scene.latent, scene.psf, mode="valid")
    residual = scene.blurred[4:-4, 4:-4] - expected
    in_noise_units = residual / np.sqrt(expected + 2.0**2)
    assert abs(in_noise_units.mean()) < 0.05
    assert in_noise_units.std() == pytest.approx(1, abs=0.05)


def test_a_seed_makes_one_scene():
    first, again, other = cells(size=64), cells(size=64), cells(size=64, seed=1)
    np.testing.assert_array_equal(first.blurred, again.blurred)
    assert not np.array_equal(first.latent, other.latent)


@pytest.mark.parametrize("kind", ["filaments", "nuclei", "beads"])
def test_a_specimen_has_its_photons_in_the_blurred_image_whatever_the_point_spread_function(kind):
    for psf in (gaussian_psf(5, 0.8), airy_psf(15, 4.0)):
        scene = specimen(kind, psf, size=64, photons=900, readout=2, seed=3)
        expected = fftconvolve(scene.latent, scene.psf, mode="valid")
        r = psf.shape[0] // 2
        residual = (scene.blurred[r:-r, r:-r] - expected) / np.sqrt(expected + 2.0**2)
        assert abs(residual.mean()) < 0.08
        assert residual.std() == pytest.approx(1, abs=0.08)
        assert expected.max() <= 900.01
        assert scene.blurred.max() == pytest.approx(900, abs=5 * 30)
        assert 0 < scene.latent.min() < 0.1 * scene.latent.max()


def test_a_specimen_is_reproducible_and_its_kinds_differ():
    psf = gaussian_psf(5, 1.0)
    one, again = (specimen("beads", psf, size=48, seed=1) for _ in range(2))
    np.testing.assert_array_equal(one.blurred, again.blurred)
    assert not np.array_equal(one.latent, specimen("nuclei", psf, size=48, seed=1).latent)


@pytest.mark.parametrize(
    ("kind", "psf", "message"),
    [
        ("dust", gaussian_psf(5, 1.0), "kind: expected one of .*'dust'"),
        ("beads", np.full((4, 5), 0.05), r"psf: expected two odd sides.*\(4, 5\)"),
        ("beads", np.ones((3, 3)), "psf: .*sum 1, got .* 9"),
    ],
)
def test_a_specimen_refuses_what_it_cannot_use(kind, psf, message):
    with pytest.raises(ValueError, match=message):
        specimen(kind, psf, size=32)


def test_the_airy_pattern_is_dark_at_its_radius_and_symmetric():
    psf = airy_psf(41, 12.0)
    assert psf.sum() == pytest.approx(1)
    np.testing.assert_allclose(psf, psf.T)
    np.testing.assert_allclose(psf, psf[::-1, ::-1])
    assert psf[20, 20:35].argmin() == 12
    assert psf[20, 32] < 1e-3 * psf[20, 20]


def test_the_gaussian_has_its_width_and_the_pixels_own():
    psf = gaussian_psf(25, 2.0)
    y = np.arange(25) - 12
    assert psf.sum() == pytest.approx(1)
    assert np.sum(psf * y[:, None] ** 2) == pytest.approx(2.0**2 + 1 / 12, rel=1e-3)
