"""The revision of a kernel at half the resolution: its maps between both, and what it mends."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from napari_vdip.half_resolution import (
    CUTOFF,
    HalfResolution,
    amplitude,
    halved,
    halved_kernel,
)
from napari_vdip.kernel_spectrum import spectrum
from napari_vdip.noise import noise_variance
from napari_vdip.operators import blur, crop, size_of
from test_refinement import centroid, pieces

FREQUENCIES = np.fft.fftfreq(64)
RADIUS = np.hypot(FREQUENCIES[:, None], FREQUENCIES)
LOW = (RADIUS > 0) & (RADIUS < CUTOFF / 2)


def smooth_kernel(size=21, bend=2.0):
    """Kernel of a smooth bent blob, off the middle, ``(1, 1, size, size)``."""
    y, x = np.indices((size, size)) - size // 2
    blob = np.exp(-0.5 * ((y - 1 + x**2 / 20) ** 2 / bend**2 + x**2 / 9.0))
    return torch.from_numpy(blob / blob.sum())[None, None]


def tilted(kernel):
    """The same track with more of the mass at one of its ends."""
    share = torch.linspace(0.5, 1.5, kernel.shape[-1], dtype=kernel.dtype)
    return kernel * share / (kernel * share).sum()


def smooth_image(size, seed=0):
    noise = np.random.default_rng(seed).normal(size=(1, 1, size, size))
    return torch.from_numpy(gaussian_filter(noise, (0, 0, 4, 4)))


def error_at_low_frequencies(kernel, truth):
    """Mean difference of two spectra at the best shift."""
    one, other = (spectrum(k, FREQUENCIES) for k in (kernel, truth))
    ramps = np.exp(-2j * np.pi * np.outer(np.arange(-2, 2.01, 0.05), FREQUENCIES))
    moved = (one * down[:, None] * ramps[:, None] for down in ramps)  # rows in turn, all columns at once
    return min(np.abs(spectra - other)[:, LOW].mean(1).min() for spectra in moved)


# --- from the full resolution to half of it ------------------------------------------------------------


@pytest.mark.parametrize("window", [(3, 3), (5, 9), (21, 31)])
def test_a_halved_kernel_keeps_its_sum_and_has_half_its_centroid(window, rng):
    kernel = torch.rand(1, 1, *window, generator=rng, dtype=torch.float64)
    kernel /= kernel.sum()
    half = halved_kernel(kernel)
    assert all(side % 2 == 1 for side in size_of(half))
    assert float(half.sum()) == pytest.approx(1)
    assert np.array(centroid(half)) == pytest.approx(np.array(centroid(kernel)) / 2)


def test_blurring_and_halving_change_places_where_all_is_smooth():
    latent, kernel = smooth_image(116), smooth_kernel()
    expected = halved(blur(latent, kernel))
    inner = crop(latent, size_of(kernel))
    blurred = blur(halved(inner), halved_kernel(kernel))
    margin = (size_of(expected)[0] - size_of(blurred)[0]) // 2
    inside = (..., slice(margin, -margin), slice(margin, -margin))
    assert float((blurred - expected[inside]).abs().max()) < 0.02 * float(expected.abs().max())


# --- amplitude -----------------------------------------------------------------------------------------


def test_the_amplitude_of_rings_is_kept_by_turns_and_shifts():
    kernel = torch.nn.functional.pad(smooth_kernel(), (2, 2, 2, 2))
    expected = amplitude(spectrum(kernel, FREQUENCIES), RADIUS)
    for moved in (kernel.flip(-1), kernel.mT, kernel.roll((1, -1), (-2, -1))):
        found = amplitude(spectrum(moved, FREQUENCIES), RADIUS)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


# --- both together -------------------------------------------------------------------------------------


def test_a_smooth_kernel_that_was_not_changed_stays():
    kernel = smooth_kernel()
    image = blur(smooth_image(100), kernel)
    found = HalfResolution(image, smooth_image(100), kernel).merged(kernel, 1.0)
    assert found.min() >= 0
    assert float(found.sum()) == pytest.approx(1)
    assert float((found - kernel).abs().sum()) < 0.06  # two kernels apart: 2


@pytest.mark.parametrize("by", [(0, 0), (1, -1)])
def test_low_frequencies_are_taken_from_half_the_resolution_wherever_it_lies(by):
    truth = smooth_kernel()
    wrong = tilted(truth)
    moved = truth.roll([2 * step for step in by], (-2, -1))
    image = blur(smooth_image(100), moved)
    found = HalfResolution(image, smooth_image(100), moved).merged(wrong, 1.0)
    assert error_at_low_frequencies(found, truth) < 0.5 * error_at_low_frequencies(wrong, truth)
    assert np.array(centroid(found)) == pytest.approx(np.array(centroid(wrong)), abs=0.3)


@pytest.mark.parametrize("sharp", [0.0, 1.0])
def test_sharp_images_keep_the_amplitude_of_the_full_resolution_and_others_do_not(sharp):
    wide, narrow = smooth_kernel(bend=3.0), smooth_kernel(bend=2.0)
    half = HalfResolution(blur(smooth_image(100), wide), smooth_image(100), wide)
    expected = narrow if sharp else halved_kernel(wide)
    target = amplitude(spectrum(expected, FREQUENCIES * (1 if sharp else 2)), RADIUS)
    found = amplitude(spectrum(half.merged(narrow, sharp), FREQUENCIES), RADIUS)
    np.testing.assert_allclose(found[LOW], target[LOW], rtol=0.02)


def test_it_mends_the_shares_of_the_mass_along_a_track(rng):
    track = torch.zeros(1, 1, 15, 15, dtype=torch.float64)
    track[..., 7, 2:11] = 1
    track[..., 3:7, 10] = 1
    track /= track.sum()
    latent = pieces(142)
    image = blur(latent, track)
    image = (image + 0.002 * torch.randn(image.shape, generator=rng, dtype=torch.float64)).float()
    wrong = tilted(track).float()
    half = HalfResolution(image, latent.float(), wrong)
    for number in range(1, 31):
        half.advance(number / 30)
    found = half.merged(wrong, 1.0)
    assert error_at_low_frequencies(found, track) < 0.6 * error_at_low_frequencies(wrong, track)
    assert noise_variance(image).max() < 1e-4  # the scene is as clear as it is meant to be
