"""The linear operators against SciPy, and each adjoint by its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d, correlate2d

from napari_vdip.operators import (
    Blur,
    KernelBlur,
    blur,
    crop,
    difference,
    fast,
    gradient,
    gradient_adjoint,
)

SIZES = [((9, 11), (3, 5)), ((16, 13), (7, 1)), ((37, 41), (15, 19)), ((5, 5), (5, 5))]
"""Canvas and kernel sizes."""


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def normal(*shape, rng):
    return torch.randn(shape, generator=rng, dtype=torch.float64)


def inner(a, b):
    return float((a * b).sum())


@pytest.mark.parametrize(("canvas", "window"), SIZES)
def test_blur_is_the_valid_cross_correlation_of_every_channel(canvas, window, rng):
    latent, kernel = normal(1, 3, *canvas, rng=rng), normal(1, 1, *window, rng=rng)
    for blurred, channel in zip(blur(latent, kernel)[0], latent[0], strict=True):
        expected = correlate2d(channel, kernel[0, 0], mode="valid")
        np.testing.assert_allclose(blurred, expected, atol=1e-12)


def test_the_point_spread_function_is_the_flipped_kernel(rng):
    latent, kernel = normal(1, 1, 20, 22, rng=rng), normal(1, 1, 5, 7, rng=rng)
    psf = kernel.flip((-2, -1))[0, 0]
    expected = convolve2d(latent[0, 0], psf, mode="valid")
    np.testing.assert_allclose(blur(latent, kernel)[0, 0], expected, atol=1e-12)


def test_blur_needs_no_padding_against_wrap_around(rng):
    latent, kernel = normal(1, 1, 17, 19, rng=rng), normal(1, 1, 5, 7, rng=rng)
    spectrum = torch.fft.rfft2(latent) * torch.fft.rfft2(kernel, s=(17, 19)).conj()
    unpadded = torch.fft.irfft2(spectrum, s=(17, 19))[..., :13, :13]
    torch.testing.assert_close(blur(latent, kernel), unpadded, atol=1e-13, rtol=0)


@pytest.mark.parametrize(("canvas", "window"), SIZES)
def test_the_adjoints_of_the_blur_satisfy_their_definition(canvas, window, rng):
    latent, kernel = normal(1, 2, *canvas, rng=rng), normal(1, 1, *window, rng=rng)
    blurred = blur(latent, kernel)
    residual = normal(*blurred.shape, rng=rng)
    product = inner(blurred, residual)
    assert product == pytest.approx(inner(latent, Blur(kernel, canvas).adjoint(residual)), rel=1e-12)
    assert product == pytest.approx(inner(kernel, KernelBlur(latent, window).adjoint(residual)), rel=1e-12)


@pytest.mark.parametrize(("canvas", "window"), SIZES)
def test_the_blur_is_the_same_as_a_function_of_the_latent_and_of_the_kernel(canvas, window, rng):
    latent, kernel = normal(3, 1, *canvas, rng=rng), normal(1, 1, *window, rng=rng)
    torch.testing.assert_close(KernelBlur(latent, window)(kernel), Blur(kernel, canvas)(latent))


def test_the_adjoint_of_the_gradient_satisfies_its_definition(rng):
    a = normal(2, 3, 8, 9, rng=rng)
    down, right = normal(2, 3, 7, 9, rng=rng), normal(2, 3, 8, 8, rng=rng)
    product = sum(inner(x, y) for x, y in zip(gradient(a), (down, right), strict=True))
    assert product == pytest.approx(inner(a, gradient_adjoint(down, right)), rel=1e-12)


def test_differences_are_forward_and_valid(rng):
    a = normal(1, 2, 6, 8, rng=rng)
    down, right = gradient(a)
    np.testing.assert_array_equal(down, np.diff(a, axis=-2))
    np.testing.assert_array_equal(right, np.diff(a, axis=-1))


def test_differences_commute_with_each_other_and_with_the_blur(rng):
    latent, kernel = normal(1, 2, 16, 18, rng=rng), normal(1, 1, 3, 5, rng=rng)
    image = normal(1, 2, 14, 14, rng=rng)
    down, right = gradient(latent)
    torch.testing.assert_close(difference(down, -1), difference(right, -2), atol=1e-15, rtol=0)
    for dim in (-2, -1):
        of_residual = difference(blur(latent, kernel) - image, dim)
        of_gradients = blur(difference(latent, dim), kernel) - difference(image, dim)
        torch.testing.assert_close(of_residual, of_gradients, atol=1e-13, rtol=0)


@pytest.mark.parametrize("by", [(0, 0), (1, -2), (-1, 1)])
def test_a_shifted_delta_shifts_the_image(by, rng):
    latent = normal(1, 2, 16, 18, rng=rng)
    kernel = torch.zeros(1, 1, 3, 5, dtype=torch.float64)
    kernel[0, 0, 1 + by[0], 2 + by[1]] = 1
    expected = crop(latent.roll((-by[0], -by[1]), (-2, -1)), (3, 5))
    torch.testing.assert_close(blur(latent, kernel), expected, atol=1e-13, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (33, 35), (127, 211)])
def test_the_fast_size_is_large_enough_and_has_small_factors(size):
    for wanted, given in zip(size, fast(size), strict=True):
        assert given >= wanted
        for factor in (2, 3, 5):
            while given % factor == 0:
                given //= factor
        assert given == 1
