"""From an estimate on the canvas to arrays that overlay the source, where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve

from napari_vdip.estimate import Estimate
from napari_vdip.generators import Posterior
from napari_vdip.kernels import centred, moved, off_centre
from napari_vdip.plane import Plane
from napari_vdip.settings import Settings

SHAPE = (9, 11)
OFFSET, SCALE = 100.0, 40.0
INSIDE = (slice(8, -8),) * 2


def comet(at=(0, 0)):
    """Asymmetric correlation kernel, its centroid on the central pixel before it is moved."""
    kernel = np.zeros(SHAPE)
    kernel[4, 3:8] = [1, 4, 2, 1, 0.5]
    kernel[5, 4] = 2
    return moved(centred(gaussian_filter(kernel, 0.6))[0], at)


@pytest.fixture
def canvas():
    scene = gaussian_filter(np.random.default_rng(0).normal(0, 1, (48, 52)), 2)
    return 0.5 + 0.2 * scene / scene.std()


def restore(canvas, kernel, error=0.0, std=False, **changes):
    """Blur a canvas exactly; give the source, and the result of an estimate with a constant error."""
    source = OFFSET + SCALE * fftconvolve(canvas, kernel[::-1, ::-1], mode="valid")
    settings = Settings(psf_shape=SHAPE, samples=4, **changes)
    plane = Plane(source[..., None], settings, torch.device("cpu"))
    unit = (OFFSET + SCALE * (canvas + error) - plane.intensities.offset) / plane.intensities.scale
    latent, k = (torch.from_numpy(a.astype(np.float32))[None, None] for a in (unit, kernel))
    estimate = Estimate("refinement", 1, 1, Posterior(latent), k, {})
    return source, plane.result(estimate) if std else plane.preview(estimate)


def test_the_psf_is_the_kernel_of_a_convolution_exactly(canvas):
    kernel = comet()
    source, restored = restore(canvas, kernel)
    np.testing.assert_allclose(restored.psf, kernel[::-1, ::-1], atol=1e-3)
    np.testing.assert_allclose(restored.latent[..., 0], OFFSET + SCALE * canvas[4:-4, 5:-5], atol=0.05)
    np.testing.assert_allclose(restored.reblurred[..., 0], source, atol=0.01)


@pytest.mark.parametrize("at", [(0, 0), (2, -3), (-1, 2)])
def test_the_latent_image_overlays_the_source_wherever_the_kernel_was(canvas, at):
    source, restored = restore(canvas, comet(at))
    assert off_centre(restored.psf) == pytest.approx((0, 0), abs=1e-2)
    convolved = fftconvolve(restored.latent[..., 0], restored.psf, mode="same")
    np.testing.assert_allclose(convolved[INSIDE], source[INSIDE], atol=0.02 * SCALE)


@pytest.mark.parametrize("error", [0.05, -0.1])
def test_the_noise_is_the_residual_in_source_units(canvas, error):
    _, restored = restore(canvas, comet(), error)
    assert restored.noise == pytest.approx(abs(error) * SCALE, rel=1e-3)


@pytest.mark.parametrize("prior", ["none", "sparse", "extreme"])
def test_the_std_map_covers_the_image_and_is_positive(canvas, prior):
    _, restored = restore(canvas, comet(), std=True, prior=prior)
    assert restored.std.shape == restored.latent.shape
    assert restored.std.dtype == np.float32
    assert (restored.std > 0).all()


@pytest.mark.parametrize("prior", ["none", "sparse"])
def test_the_std_map_is_larger_where_photon_noise_is(prior):
    """Without a blur and a prior, the deviation is that of the noise."""
    random = np.random.default_rng(0)
    ramp = np.broadcast_to(np.linspace(0.05, 0.95, 80), (80, 80))
    source = 0.002 * random.poisson(ramp / 0.002)
    settings = Settings(psf_shape=SHAPE, samples=64, prior=prior)
    plane = Plane(source[..., None], settings, torch.device("cpu"))
    kernel = torch.zeros(1, 1, *SHAPE)
    kernel[..., 4, 5] = 1
    canvas = torch.nn.functional.pad(plane.image, (5, 5, 4, 4), mode="replicate")
    std = plane.result(Estimate("refinement", 1, 1, Posterior(canvas), kernel, {})).std[..., 0]
    dark, bright = std[:, :20].mean(), std[:, -20:].mean()
    assert bright > 1.3 * dark
    if prior == "none":
        assert bright == pytest.approx((0.002 * 0.84) ** 0.5, rel=0.15)


def test_a_smooth_image_is_surer_at_its_resolution_than_beyond():
    random, place = np.random.default_rng(0), np.arange(9) - 4
    kernel = np.exp(-0.5 * np.hypot(place[:, None], place) ** 2 / 1.5**2)
    smooth = gaussian_filter(random.normal(0, 1, (64, 64)), 4)
    source = smooth / smooth.std() + random.normal(0, 0.2, smooth.shape)

    def std(**changes):
        plane = Plane(source[..., None], Settings(psf_shape=9, samples=64, **changes), torch.device("cpu"))
        mean = torch.nn.functional.pad(plane.image, (4, 4, 4, 4), mode="replicate")
        k = torch.from_numpy((kernel / kernel.sum()).astype(np.float32))[None, None]
        return plane.result(Estimate("refinement", 1, 1, Posterior(mean), k, {})).std

    limited, beyond = std(), std(gaussians=False)
    assert limited.shape == beyond.shape
    assert 0.5 * beyond.mean() < limited.mean() < 0.9 * beyond.mean()


def test_only_a_variational_result_has_a_std_map(canvas):
    assert restore(canvas, comet(), std=True, variational=False)[1].std is None
    assert restore(canvas, comet(), std=False)[1].std is None
