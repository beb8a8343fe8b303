"""The noise model against images of known noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from napari_vdip.noise import SMALLEST_NOISE, fine_detail, noise_variance


def smooth_scene(seed=0, size=256):
    """Smooth ``(size, size)`` image in [0.05, 0.95]."""
    scene = gaussian_filter(np.random.default_rng(seed).normal(size=(size, size)), 12, mode="wrap")
    ranks = scene.argsort(axis=None).argsort().reshape(scene.shape) / scene.size
    return 0.05 + 0.9 * ranks


def camera(scene, readout, gain, seed=1):
    """Image of a camera: photons of `gain` each, and readout noise of a variance."""
    random = np.random.default_rng(seed)
    return gain * random.poisson(scene / gain) + random.normal(0, readout**0.5, scene.shape)


def tensor(*channels):
    return torch.from_numpy(np.stack(channels)[None]).float()


@pytest.mark.parametrize(("readout", "gain"), [(4e-4, 1e-3), (1e-3, 4e-3), (1e-4, 2e-4)])
def test_readout_and_gain_of_a_camera_are_recovered(readout, gain):
    scene = smooth_scene()
    variance = noise_variance(tensor(camera(scene, readout, gain)))
    slope, at_zero = np.polyfit(scene.ravel(), variance.numpy().ravel(), 1)
    assert slope == pytest.approx(gain, rel=0.2)
    assert at_zero == pytest.approx(readout, rel=0.2)


@pytest.mark.parametrize("sigma", [0.005, 0.02, 0.1])
def test_even_noise_has_the_same_variance_everywhere(sigma):
    scene = smooth_scene()
    noise = np.random.default_rng(1).normal(0, sigma, scene.shape)
    variance = noise_variance(tensor(scene + noise)).sqrt()
    assert float(variance.mean()) == pytest.approx(sigma, rel=0.1)
    assert float(variance.max() / variance.min()) < 1.2


def test_channels_have_lines_of_their_own():
    scene = smooth_scene()
    first, second = camera(scene, 1e-4, 4e-3), camera(1 - scene, 1e-3, 5e-4)
    together = noise_variance(tensor(first, second))
    for channel, alone in enumerate((first, second)):
        torch.testing.assert_close(together[:, channel : channel + 1], noise_variance(tensor(alone)))
    assert float(together[:, 0].median()) > 1.3 * float(together[:, 1].median())


def test_edges_do_not_count_as_noise():
    edges = np.kron(np.random.default_rng(0).random((8, 8)), np.ones((32, 32)))
    noisy = edges + np.random.default_rng(1).normal(0, 0.01, edges.shape)
    assert float(noise_variance(tensor(noisy)).sqrt().mean()) == pytest.approx(0.01, rel=0.2)


@pytest.mark.parametrize("image", [np.zeros((8, 8)), np.full((8, 8), 0.5), smooth_scene(size=64)])
def test_a_noiseless_image_still_has_noise(image):
    variance = noise_variance(tensor(image))
    assert variance.shape == (1, 1, *image.shape)
    assert variance.isfinite().all()
    assert variance.min() >= 0.999 * SMALLEST_NOISE**2


def test_a_well_sampled_image_has_no_fine_detail_but_noise():
    scene = smooth_scene()
    variance = 1e-4 + 1e-3 * scene
    even = np.full_like(scene, 0.5)
    image = tensor(camera(scene, 1e-4, 1e-3), camera(even, 1e-2, 1e-3))
    variances = tensor(variance, np.full_like(scene, 1e-2 + 5e-4))
    assert fine_detail(image, variances) == pytest.approx(1, rel=0.1)


def test_fine_detail_is_that_of_its_frequencies_in_units_of_the_noise():
    rows, columns = np.mgrid[:64, :96]
    variance = torch.full((1, 1, 64, 96), 1e-4)
    power = {}
    for frequency in (0.1, 0.25, 0.35, 0.48):
        wave = 0.1 * np.cos(2 * np.pi * frequency * (0.6 * rows + 0.8 * columns))
        power[frequency] = fine_detail(tensor(wave), variance)
        assert fine_detail(tensor(7 * wave + 3), 49 * variance) == pytest.approx(power[frequency], rel=1e-3)
    assert power[0.35] > 1000 * max(power[0.1], power[0.25], power[0.48])


def test_of_too_few_pixels_nothing_is_said():
    assert fine_detail(torch.rand(1, 1, 2, 2), torch.ones(1, 1, 2, 2)) == 1
