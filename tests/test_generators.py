"""The networks against the counts, identities and ranges of the published ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from napari_vdip.generators import (
    KERNEL_NOISE_LENGTH,
    NOISE_CHANNELS,
    FreeKernel,
    ImageGenerator,
    KernelGenerator,
    NonLocal,
)

PUBLISHED_PARAMETERS = 2_360_326
NARROW = (4, 6, 8, 8, 8)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def randomise(module):
    """Leave no parameter at a special value."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2)
    return module


@pytest.fixture(autouse=True)
def own_random_state():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def test_the_image_network_is_the_published_one_without_the_biases_that_do_nothing():
    network = ImageGenerator(channels=3, widths=(128,) * 5)
    # On every scale a bias for skip (16), two descending and two ascending convolutions (128 each),
    # and on three scales for the last convolution of the non-local block (128).
    dropped = 5 * (16 + 4 * 128) + 3 * 128
    assert dropped == 3024
    assert count(network) == PUBLISHED_PARAMETERS - dropped


@pytest.mark.parametrize(("shape", "expected"), [((31, 31), 1_162_961), ((75, 75), 5_831_625)])
def test_the_kernel_network_has_the_published_number_of_parameters(shape, expected):
    assert count(KernelGenerator(shape)) == expected == 1001 * shape[0] * shape[1] + 201_000


def test_a_bias_before_a_batch_normalisation_would_change_nothing():
    network = randomise(ImageGenerator(channels=2, widths=NARROW)).double()
    noise = torch.rand(1, NOISE_CHANNELS, 37, 42, dtype=torch.float64)
    before = network(noise)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.bias is None:
            module.bias = nn.Parameter(torch.randn(module.out_channels, dtype=torch.float64))
    after = network(noise)
    torch.testing.assert_close(after.mean, before.mean, atol=1e-10, rtol=0)
    torch.testing.assert_close(after.log_std, before.log_std, atol=1e-10, rtol=0)


def test_a_non_local_block_starts_as_the_identity():
    x = torch.randn(1, 8, 9, 10)
    assert torch.equal(NonLocal(8)(x), x)


@pytest.mark.parametrize("size", [(2, 2), (9, 10), (12, 7)])
def test_the_linear_form_of_the_non_local_block_equals_the_quadratic_one(size):
    block = randomise(NonLocal(8)).double()
    x = torch.randn(2, 8, *size, dtype=torch.float64)
    theta = block.theta(x).flatten(2)  # (n, inner, positions)
    phi = nn.functional.max_pool2d(block.phi(x), 2).flatten(2)  # (n, inner, pooled positions)
    g = nn.functional.max_pool2d(block.g(x), 2).flatten(2)
    affinity = theta.transpose(1, 2) @ phi / phi.shape[-1]  # (n, positions, pooled positions)
    attended = (affinity @ g.transpose(1, 2)).transpose(1, 2).unflatten(2, size)
    expected = block.norm(block.out(attended)) + x
    torch.testing.assert_close(block(x), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("size", [(33, 33), (33, 47), (34, 65), (48, 36), (51, 40), (64, 63)])
def test_any_canvas_of_at_least_33_pixels_keeps_its_size(size):
    posterior = ImageGenerator(channels=1, widths=NARROW)(torch.rand(1, NOISE_CHANNELS, *size))
    assert posterior.mean.shape == posterior.log_std.shape == (1, 1, *size)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("variational", [True, False])
def test_means_lie_between_zero_and_one_and_log_deviations_below_zero(channels, variational):
    network = ImageGenerator(channels, NARROW, variational)
    posterior = network(torch.rand(2, NOISE_CHANNELS, 40, 37))
    assert posterior.mean.shape == (2, channels, 40, 37)
    assert 0 < posterior.mean.min() < posterior.mean.max() < 1
    if variational:
        assert posterior.log_std.shape == posterior.mean.shape
        assert posterior.log_std.max() < 0
    else:
        assert posterior.log_std is None


def test_a_tiny_deviation_keeps_its_gradient():
    network = ImageGenerator(channels=1, widths=NARROW)
    nn.init.constant_(network.head.bias, -200.0)  # sigmoid(-200) is zero in float32
    posterior = network(torch.rand(1, NOISE_CHANNELS, 33, 33))
    posterior.log_std.sum().backward()
    assert posterior.log_std.isfinite().all()
    assert float(network.head.bias.grad[1]) == pytest.approx(33 * 33)


@pytest.mark.parametrize("build", [KernelGenerator, FreeKernel])
def test_kernels_are_non_negative_and_sum_to_one(build):
    kernel = randomise(build((5, 7)).double())(torch.rand(1, KERNEL_NOISE_LENGTH, dtype=torch.float64))
    kernel = kernel.detach()
    assert kernel.shape == (1, 1, 5, 7)
    assert kernel.min() >= 0
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("build", [KernelGenerator, FreeKernel])
def test_the_sum_of_a_kernel_has_no_gradient(build):
    module = randomise(build((5, 7)).double())
    module(torch.rand(1, KERNEL_NOISE_LENGTH, dtype=torch.float64)).sum().backward()
    for parameter in module.parameters():
        assert float(parameter.grad.abs().max()) < 1e-12


def test_a_free_kernel_starts_as_a_gaussian_at_the_centre_as_wide_as_it_says():
    kernel = FreeKernel((31, 61))(torch.rand(1, KERNEL_NOISE_LENGTH))[0, 0]
    torch.testing.assert_close(kernel, kernel.flip((0, 1)))
    for size, profile in ((31, kernel.sum(1)), (61, kernel.sum(0))):
        variance = (profile * (torch.arange(size) - size // 2) ** 2).sum()
        assert float(variance.detach().sqrt()) == pytest.approx(FreeKernel.START_WIDTH * size, rel=0.03)
