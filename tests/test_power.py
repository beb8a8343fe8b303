"""The limit of a blur that the power of an image tells."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import fourier_gaussian

from napari_vdip.images import Intensities
from napari_vdip.operators import blur
from napari_vdip.power import Power
from napari_vdip.scenes import gaussian_psf, specimen
from napari_vdip.widths import gaussian


def field(steepness, width, noise, size=256, seed=0):
    """Noise ``(1, 1, size, size)`` with the power of a power law, blurred by a Gaussian; white noise."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size))
    frequency[0, 0] = 1
    spectrum = np.fft.fft2(rng.normal(size=(size, size))) * frequency ** (-steepness / 2)
    blurred = np.fft.ifft2(fourier_gaussian(spectrum, width)).real
    blurred = blurred / blurred.std() + rng.normal(0, noise, blurred.shape)
    return torch.from_numpy(blurred).float()[None, None]


@pytest.mark.parametrize("width", [1.0, 1.6, 2.5])
@pytest.mark.parametrize("steepness", [1.0, 2.0, 3.0])
def test_the_width_of_a_gaussian_over_a_power_law_is_found_up_to_its_noise(steepness, width):
    found = [Power(field(steepness, width, 1e-3, seed=seed)).widest() for seed in range(4)]
    assert found == pytest.approx([width] * 4, rel=0.15)


def test_neither_unit_nor_offset_nor_channels_matter():
    image = field(2.0, 1.5, 0.01)
    found = Power(image).widest()
    assert Power(50 * image - 7).widest() == pytest.approx(found, rel=1e-3)
    assert Power(image.expand(1, 3, -1, -1)).widest() == pytest.approx(found, rel=1e-3)


@pytest.mark.parametrize("kind", ["filaments", "nuclei", "beads"])
@pytest.mark.parametrize("width", [0.9, 1.8])
def test_a_specimen_allows_for_its_blur_and_not_for_far_more(kind, width):
    blurred = specimen(kind, gaussian_psf(13, width), photons=1000).blurred[..., None]
    found = Power(Intensities.of(blurred, 0.3).to_tensor(blurred)).widest()
    assert 0.95 * width < found < width + 0.7


@pytest.mark.parametrize("width", [0.9, 1.8])
def test_the_width_of_a_gaussian_kernel_is_its_standard_deviation_wherever_it_is(width):
    power = Power(field(2.0, 1.0, 0.01))
    kernel = gaussian(width, (21, 21), torch.device("cpu"))
    assert power.width_of(kernel) == pytest.approx(width, rel=0.03)
    assert power.width_of(kernel.roll((2, -1), (-2, -1))) == pytest.approx(width, rel=0.03)


def test_a_kernel_that_passes_everything_in_one_direction_is_narrower_than_it_is_long():
    line = torch.zeros(1, 1, 21, 21)
    line[..., 10, 3:18] = 1 / 15  # its standard deviation is 4.3 pixels
    assert 0.5 < Power(field(2.0, 1.0, 0.01)).width_of(line) < 3


def test_a_kernel_is_as_much_too_wide_as_it_blurs_more_than_the_structure_was_blurred():
    for seed in range(3):
        power = Power(field(2.0, 1.0, 1e-3, seed=seed))
        wide, right, narrow = (
            power.excess_of(gaussian(width, (21, 21), torch.device("cpu"))) for width in (1.5, 1.0, 0.6)
        )
        assert wide == pytest.approx((1.5**2 - 1) ** 0.5, rel=0.15)
        assert right < 0.4
        assert narrow == 0


def test_a_bent_kernel_is_too_wide_once_it_is_blurred():
    kernel = torch.zeros(1, 1, 21, 21)
    kernel[..., 10, 3:12] = kernel[..., 10:16, 11] = 1 / 15
    image = blur(field(2.5, 0.0, 0.0, size=276), kernel)
    image = image + 1e-3 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    wide = torch.nn.functional.conv2d(kernel, gaussian(0.8, (7, 7), kernel.device), padding=3)
    assert Power(image).excess_of(kernel) == 0
    assert 0.4 < Power(image).excess_of(wide) < 0.8


def test_nothing_is_said_of_an_image_of_a_few_pixels():
    power = Power(torch.rand(1, 1, 5, 5, generator=torch.Generator().manual_seed(0)))
    assert power.widest() == math.inf
    assert power.width_of(torch.ones(1, 1, 3, 3) / 9) == power.excess_of(torch.ones(1, 1, 3, 3) / 9) == 0
