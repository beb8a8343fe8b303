"""A kernel without networks: its scales, what is carried between them, and what it finds."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from napari_vdip import Settings, deconvolve
from napari_vdip.candidate import Candidate
from napari_vdip.coarse_to_fine import carried, enlarged, from_coarse_to_fine
from napari_vdip.half_resolution import resized
from napari_vdip.noise import noise_variance
from napari_vdip.operators import blur, crop, extend, size_of
from napari_vdip.plane import Plane
from napari_vdip.scales import RATIO, ROOM, SMALLEST, coarse_rounds, coarser_windows
from test_half_resolution import smooth_image, smooth_kernel
from test_refinement import centroid, pieces, psnr


def track(size=15):
    """Bent track of one pixel's width in a window, ``(1, 1, size, size)`` float32."""
    kernel = torch.zeros(1, 1, size, size)
    kernel[..., size // 2, 3 : size - 4] = 1
    kernel[..., 3 : size // 2, size - 5] = 1
    return kernel / kernel.sum()


def drained(generator):
    """What a generator yields, and what it returns."""
    yielded = []
    while True:
        try:
            yielded.append(next(generator))
        except StopIteration as end:
            return yielded, end.value


# --- scales --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [(3, 3), (5, 31), (31, 31), (101, 63)])
def test_windows_grow_with_the_resolution_from_the_smallest(window):
    windows = [*coarser_windows(window), window]
    assert max(windows[0]) == SMALLEST
    assert all(side % 2 == 1 for sides in windows for side in sides)
    for smaller, larger in itertools.pairwise(windows):
        assert all(a <= ROOM * b for a, b in zip(smaller, larger, strict=True))
    for number, sides in enumerate(windows[::-1]):
        for side, whole in zip(sides, window, strict=True):
            room = ROOM if number else 1.0
            assert abs(side - max(room * whole / RATIO**number, SMALLEST)) <= 1.5


# --- between scales ------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [(31, 31), (33, 27)])
def test_an_enlarged_kernel_keeps_its_sum_and_its_centroid_moves_out(window):
    kernel = smooth_kernel(17)
    larger = enlarged(kernel, window, RATIO)
    assert size_of(larger) == window
    assert float(larger.sum()) == pytest.approx(1)
    expected = [RATIO * position for position in centroid(kernel)]
    assert centroid(larger) == pytest.approx(expected, abs=0.15)


def test_the_gradient_that_is_carried_on_is_that_of_the_enlarged_image():
    fine = smooth_image(142)
    coarse = resized(fine, (100, 100))
    one, other = (
        Candidate(image, extend(image, (side, side)), torch.ones(1, 1, side, side) / side**2, 0.01)
        for image, side in ((coarse, 7), (fine, 11))
    )
    found = carried(one, other, (100 / 142, 100 / 142))
    assert found.shape == other.mean.shape
    inside = (..., slice(12, -12), slice(12, -12))
    error = (found - other.mean)[inside].square().mean() / other.mean[inside].square().mean()
    assert math.sqrt(error) < 0.03


# --- the whole -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found():
    """Truth and blurred image, and what the default makes of them."""
    latent, kernel = pieces(142).float(), track()
    image = blur(latent, kernel)
    image = image + 0.002 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    settings = Settings(psf_shape=15, gaussians=False)
    plane = Plane(image[0].movedim(0, -1).numpy(), settings, torch.device("cpu"))
    return latent, kernel, image, settings, list(plane.estimates())


def test_every_round_is_counted_and_valid(found):
    *_, settings, estimates = found
    assert [one.step for one in estimates] == list(range(1, settings.rounds + 1))
    assert {one.steps for one in estimates} == {settings.rounds}
    assert settings.rounds == settings.refinements + coarse_rounds(settings.psf_shape)
    for one in estimates:
        assert size_of(one.kernel) == (15, 15)
        assert one.kernel.min() >= 0
        assert float(one.kernel.sum()) == pytest.approx(1, abs=1e-5)
        assert one.posterior.mean.isfinite().all()


def test_a_bent_track_is_found_without_networks(found):
    latent, kernel, image, settings, estimates = found
    plane = Plane(image[0].movedim(0, -1).numpy(), settings, torch.device("cpu"))
    restored = torch.from_numpy(plane.preview(estimates[-1]).latent).movedim(-1, 0)[None]
    truth = crop(latent, size_of(kernel))
    assert psnr(restored, truth) > psnr(image, truth) + 3


def test_the_same_image_gives_the_same_candidate(found):
    *_, image, settings, _ = found
    one, other = (
        drained(from_coarse_to_fine(image, noise_variance(image), 1e-4, settings)) for _ in range(2)
    )
    assert len(one[0]) == settings.coarse_rounds
    assert torch.equal(one[1].mean, other[1].mean)
    assert torch.equal(one[1].kernel, other[1].kernel)


@pytest.mark.parametrize("shape", [(31, 31), (40, 64)])
def test_a_plane_as_small_as_its_window_has_a_result(shape, rng):
    image = torch.rand(shape, generator=rng).numpy()
    result = deconvolve(image, refinements=12, samples=2)
    assert result.latent.shape == shape
    assert set(result.history[0]["stage"]) == {"refinement"}


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"refinements": 0}, "steps"), ({"prior": "extreme"}, "steps"), ({"prefit_steps": 5}, "prefit_steps")],
)
def test_only_what_is_refined_can_do_without_networks(changes, name):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        Settings(steps=0, **changes)
