import numpy as np
import pytest
from scipy.signal import fftconvolve

from napari_vdip.kernels import off_centre
from napari_vdip.scenes import aberrated_psf, cells


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
