"""Kernels by their spectrum: the nearest to a target, and what a Gaussian has blurred."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_vdip.kernel_spectrum import frequencies, nearest, sharpened, spectrum
from napari_vdip.operators import size_of
from napari_vdip.widths import gaussian
from test_half_resolution import smooth_kernel
from test_refinement import bent_kernel, centroid


def test_the_spectrum_is_that_of_the_discrete_fourier_transform():
    kernel = bent_kernel(9)
    padded = np.zeros((64, 64))
    padded[:9, :9] = kernel[0, 0]
    expected = np.fft.fft2(np.roll(padded, (-4, -4), (0, 1)))
    np.testing.assert_allclose(spectrum(kernel, np.fft.fftfreq(64)), expected, atol=1e-12)


def test_the_nearest_kernel_to_the_spectrum_of_a_kernel_is_that_kernel():
    truth = smooth_kernel()
    start = torch.full_like(truth, 1 / truth.numel())
    u, _ = frequencies(truth)
    torch.testing.assert_close(nearest(spectrum(truth, u), start), truth, atol=1e-5, rtol=0)


def blurred(kernel, width):
    """Kernel after a blur by a Gaussian, in the same window."""
    reach = size_of(kernel)[0] // 2
    spot = gaussian(width, (2 * reach + 1, 2 * reach + 1), kernel.device).to(kernel)
    return torch.nn.functional.conv2d(kernel, spot, padding=reach)


@pytest.mark.parametrize("width", [0.5, 0.7])
def test_what_a_gaussian_has_blurred_is_found_again(width):
    truth = bent_kernel(21)
    wide = blurred(truth, width)
    found = sharpened(wide / wide.sum(), width)
    assert found.min() >= 0
    assert float(found.sum()) == pytest.approx(1)
    assert float((found - truth).abs().sum()) < 0.2 * float((wide - truth).abs().sum())


@pytest.mark.parametrize("by", [(0.0, 0.0), (0.5, -0.3)])
def test_a_kernel_moves_by_parts_of_a_pixel(by):
    kernel = smooth_kernel()
    moved = sharpened(kernel, 0.0, by)
    assert np.array(centroid(moved)) == pytest.approx(np.array(centroid(kernel)) + by, abs=0.02)
    u = np.fft.fftfreq(64)
    low = np.hypot(u[:, None], u) < 0.2
    np.testing.assert_allclose(np.abs(spectrum(moved, u))[low], np.abs(spectrum(kernel, u))[low], atol=5e-3)


def test_a_point_stays_a_point():
    point = torch.zeros(1, 1, 7, 7)
    point[..., 3, 3] = 1
    torch.testing.assert_close(sharpened(point, 0.5), point)
