"""The latent image for a known point spread function: its rounds, and what a caller may give."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve

import napari_vdip.plane as plane
from napari_vdip import Settings, deconvolve, latent, widths
from napari_vdip.estimate import Estimate
from napari_vdip.generators import Posterior
from napari_vdip.latent import DARK_SIDE, PIXEL_ROUNDS, darkest, restore
from napari_vdip.metrics import aligned_quality
from napari_vdip.noise import noise_variance
from napari_vdip.operators import blur, crop, extend, gradient
from napari_vdip.posterior import sparse_precision
from napari_vdip.refinement import Refinement
from napari_vdip.regularization import Regularization, regularization_of
from napari_vdip.scenes import cells, gaussian_psf
from napari_vdip.sharpness import resolution_of, sharpness
from napari_vdip.widths import whole_gaussian

KNOWN = plane.Plane.KNOWN_STEPS
QUICK = {"device": "cpu", "samples": 2}


@pytest.fixture(scope="module")
def scene():
    return cells(size=64, psf_size=9)


@pytest.fixture
def blurred(rng):
    """Image ``(1, 2, 40, 44)`` in [0, 1] and a kernel ``(1, 1, 5, 7)`` that is not symmetric."""
    image = torch.from_numpy(gaussian_filter(np.random.default_rng(0).random((2, 40, 44)), (0, 1.5, 1.5)))
    image = (image - image.min()) / (image.max() - image.min())
    kernel = torch.rand((1, 1, 5, 7), generator=rng)
    return image[None].float(), kernel / kernel.sum()


@pytest.fixture
def no_networks(monkeypatch):
    def search(*_):
        raise AssertionError("the networks were built")

    monkeypatch.setattr(plane, "Search", search)


# --- the rounds --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 3), (5, 9)])
def test_cropping_undoes_the_extension_to_the_canvas(blurred, shape):
    canvas = extend(blurred[0], shape)
    assert canvas.shape[-2:] == (40 + shape[0] - 1, 44 + shape[1] - 1)
    assert torch.equal(crop(canvas, shape), blurred[0])


def test_every_round_counts_on_and_keeps_the_kernel(blurred, rng):
    image, kernel = blurred
    variance = noise_variance(image)
    made = []
    for estimate in restore(image, kernel, 3, rng, variance, Regularization(3.0), step=4, steps=9):
        assert torch.is_grad_enabled()
        assert torch.equal(estimate.kernel, kernel)
        assert estimate.posterior.mean.shape == (1, 2, 44, 50)
        assert estimate.posterior.mean.isfinite().all()
        assert float(estimate.terms["noise"]) == pytest.approx(float(variance.mean().sqrt()))
        made.append((estimate.step, estimate.steps))
    assert made == [(5, 9), (6, 9), (7, 9)]


@pytest.mark.parametrize("pooling", [0.0, 1.0])
@pytest.mark.parametrize(("misfit", "strength"), [(1.0, 1.0), (4.0, 1.0), (1.0, 2.0)])
def test_without_updates_the_mean_has_the_weights_of_the_blurred_image(
    pooling, misfit, strength, blurred, rng
):
    image, kernel = blurred
    variance = noise_variance(image)
    canvas = extend(image, (5, 7))
    options = {"pooling": pooling, "psf_error": 1e-3, "strength": strength}
    precision = sparse_precision(canvas, kernel, (misfit * variance).sqrt(), **options)
    once = Regularization(misfit, strength, 0, pooling)
    for estimate in restore(image, kernel, 2, rng, variance, once, psf_error=1e-3):
        assert torch.equal(estimate.posterior.mean, precision.mean(image, canvas))


def test_an_image_of_a_resolution_is_what_is_found_under_the_wider_kernel_and_then_blurred(blurred):
    image, kernel = blurred
    variance, width = noise_variance(image), 0.6

    def restored(under, resolution):
        chosen = Regularization(updates=4, resolution=resolution)
        rng = torch.Generator().manual_seed(1)
        estimates = restore(image, under, 2, rng, variance, chosen, psf_error=1e-3)
        return [estimate.posterior.mean for estimate in estimates]

    finest = whole_gaussian(width, image.device)
    structure = restored(widths.blurred(kernel, width), 0.0)
    for seen, before in zip(restored(kernel, width), structure, strict=True):
        assert seen.shape[-2:] == (44, 50)  # the canvas of the kernel
        assert torch.equal(seen, blur(before, finest))


@pytest.mark.parametrize(("updates", "changes"), [(0, 0), (1, 1), (2, 2), (4, 4), (16, 4)])
def test_updates_are_shared_out_among_the_rounds(updates, changes, blurred, monkeypatch):
    image, kernel = blurred

    def restored(rounds):
        rng = torch.Generator().manual_seed(1)
        chosen = Regularization(updates=updates)
        estimates = restore(image, kernel, rounds, rng, noise_variance(image), chosen)
        return [estimate.posterior.mean for estimate in estimates]

    four = restored(4)
    begun = restore(image, kernel, 1, torch.Generator(), noise_variance(image), Regularization(updates=0))
    means = [next(begun).posterior.mean, *four]
    assert sum(not torch.equal(*pair) for pair in pairwise(means)) == changes
    assert torch.equal(four[-1], restored(1)[-1])
    weighed = []
    monkeypatch.setattr(
        latent, "sparse_precision", lambda *a, **k: weighed.append(a) or sparse_precision(*a, **k)
    )
    restored(4)
    assert len(weighed) == 1 + updates


def test_a_stronger_prior_leaves_less_of_the_gradient(blurred, rng):
    image, kernel = blurred

    def left(strength):
        chosen = Regularization(strength=strength, updates=0)
        only = next(restore(image, kernel, 1, rng, noise_variance(image), chosen))
        return sum(float(part.square().sum()) for part in gradient(only.posterior.mean))

    assert left(2.0) < left(1.0) < left(0.5)


def test_the_refinement_ends_with_these_rounds(blurred):
    image, kernel = blurred
    begin = Estimate("search", 1, 8, Posterior(extend(image, (5, 7))), kernel, {})
    settings = Settings(psf_shape=(5, 7), steps=1, refinements=7, pooling=0.5, psf_error=1e-3)
    refined = list(Refinement(image, settings, torch.Generator().manual_seed(3)).estimates(begin))
    found, variance = refined[-PIXEL_ROUNDS - 1], noise_variance(image)
    kernel, sharp = refined[-1].kernel, sharpness(image, variance)
    again = restore(
        image,
        kernel,
        PIXEL_ROUNDS,
        torch.Generator().manual_seed(3),
        variance,
        regularization_of(image, variance, kernel, sharp, 0.5, 0, resolution_of(kernel, sharp, settings)),
        psf_error=1e-3,
        step=found.step,
        steps=8,
    )
    for one, other in zip(refined[-PIXEL_ROUNDS:], again, strict=True):
        assert (one.step, one.steps, one.stage) == (other.step, other.steps, other.stage)
        torch.testing.assert_close(one.posterior.mean, other.posterior.mean, atol=1e-4, rtol=0)


def test_the_darkest_part_is_a_mean_over_its_side_that_a_dark_pixel_is_not():
    image = torch.rand(1, 2, 30, 34, generator=torch.Generator().manual_seed(0)) + 2
    image[:, 0, 3:8, 10:15] = 1
    image[:, 1, 20, 5] = -10
    inside = image[0].unfold(-2, DARK_SIDE, 1).unfold(-2, DARK_SIDE, 1).mean((-2, -1))
    found = darkest(image)[0, :, 0, 0]
    assert float(found[0]) == pytest.approx(1)
    assert float(found[1]) == pytest.approx(float(inside[1].amin()), abs=0.5)
    assert darkest(image[..., :2, :3]).shape == (1, 2, 1, 1)


def test_a_dark_background_keeps_the_image_from_ringing_below_it():
    """Bright points on nothing, with a kernel that is known: the mean alone falls below, between them."""
    points = np.zeros((72, 72))
    points[10::15, 12::13] = 1
    kernel = torch.from_numpy(gaussian_psf(9, 1.8)).float()[None, None]
    random = torch.Generator().manual_seed(0)
    image = blur(torch.from_numpy(points).float()[None, None], kernel)
    image = 0.3 + 8 * image + 0.004 * torch.randn(image.shape, generator=random)

    def depth(weight):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(latent, "DARK_WEIGHT", weight)
            *_, last = restore(image, kernel, 4, random, noise_variance(image), Regularization())
        below = darkest(image) - crop(last.posterior.mean, (9, 9))
        return float(below.clamp_min(0).square().mean().sqrt())

    assert depth(latent.DARK_WEIGHT) < 0.5 * depth(0.0)


# --- a point spread function that is given -----------------------------------------------------------


def test_a_known_psf_makes_the_image_clearly_better_without_networks(scene, no_networks):
    result = deconvolve(scene.blurred, psf=scene.psf, **QUICK)
    before, after = (
        aligned_quality(image, scene.latent, data_range=float(np.ptp(scene.latent)))
        for image in (scene.blurred, result.latent)
    )
    assert after.psnr > before.psnr + 5
    assert (result.std > 0).all()
    np.testing.assert_allclose(result.psf, scene.psf / scene.psf.sum(), atol=1e-7)
    assert (result.settings.psf_source, result.settings.psf_shape) == ("given", (9, 9))
    assert result.history[0]["stage"].tolist() == ["refinement"] * KNOWN


def test_the_settings_and_the_psf_of_a_result_make_it_again(scene):
    first = deconvolve(scene.blurred, psf=scene.psf, seed=3, **QUICK)
    again = deconvolve(scene.blurred, Settings(**first.metadata["settings"]), psf=first.psf, device="cpu")
    np.testing.assert_allclose(again.latent, first.latent, atol=1e-4 * np.ptp(first.latent))
    np.testing.assert_allclose(again.psf, first.psf, atol=1e-7)
    assert again.settings == first.settings


@pytest.mark.parametrize("by", [(2, 0), (-1, 3)])
def test_the_result_overlays_the_source_under_the_psf_wherever_its_centre_is(scene, by):
    wide = np.pad(scene.psf, 4)
    straight, moved = (deconvolve(scene.blurred, psf=p, **QUICK) for p in (wide, np.roll(wide, by, (0, 1))))
    np.testing.assert_allclose(moved.psf, np.roll(straight.psf, by, (0, 1)))
    inside = (slice(12, -12),) * 2
    back = np.roll(moved.latent, by, (0, 1))
    error, contrast = (back - straight.latent)[inside].std(), straight.latent[inside].std()
    assert error < 0.1 * contrast
    assert (moved.latent - straight.latent)[inside].std() > 5 * error
    convolved = fftconvolve(moved.latent, moved.psf, mode="same")
    residual = (convolved - moved.reblurred)[inside]
    assert residual.std() < 1e-3 * contrast


@pytest.mark.parametrize("shape", [(4, 5), (5, 4), (4, 6), (1, 4), (1, 1)])
def test_sides_become_odd_by_zeros_which_change_nothing(scene, shape):
    psf = np.random.default_rng(0).random(shape)
    result = deconvolve(scene.blurred, psf=7 * psf, **QUICK)
    assert result.psf.shape == tuple(max(n + 1 - n % 2, 3) for n in shape)
    assert result.settings.psf_shape == result.psf.shape
    assert result.psf.sum() == pytest.approx(1, abs=1e-6)
    assert np.count_nonzero(result.psf) == psf.size
    padded = deconvolve(scene.blurred, psf=result.psf, **QUICK)
    np.testing.assert_allclose(padded.latent, result.latent, atol=1e-3 * np.ptp(result.latent))


def test_the_origin_of_an_even_side_is_the_pixel_after_the_middle(scene):
    point = np.zeros((4, 6))
    point[2, 3] = 1
    np.testing.assert_array_equal(deconvolve(scene.blurred, psf=point, **QUICK).psf[2, 3], 1)
    assert deconvolve(scene.blurred, psf=point, **QUICK).psf.shape == (5, 7)


LAYOUTS = [
    ("CYX", "separate", (2, 3, 5)),
    ("TCYX", "separate", (1, 2, 3, 5)),
    ("TCYX", "separate", (2, 3, 5)),
    ("TCYX", "separate", (2, 2, 3, 5)),
    ("TCYX", "joint", (2, 3, 5)),
    ("YXC", "separate", (3, 5, 2)),
    ("XTY", "separate", (5, 2, 3)),
]


@pytest.mark.parametrize(("axes", "channels", "shape"), LAYOUTS)
def test_each_plane_gets_its_own_of_several_psfs(scene, axes, channels, shape, no_networks):
    sizes = {"T": 2, "C": 2, "Y": 36, "X": 40}
    order = [axis for axis in axes if axis not in "YX"] + ["Y", "X"]
    stack = np.broadcast_to(scene.blurred[:36, :40], [sizes[axis] for axis in order])
    image = np.moveaxis(stack, (-2, -1), (axes.index("Y"), axes.index("X")))
    psf = 0.1 + np.random.default_rng(1).random(shape)
    result = deconvolve(image, axes=axes, channels=channels, psf=psf, **QUICK)
    letters = [axis for axis in axes if axis != "C" or channels == "separate"]
    sides = tuple(letters.index(axis) for axis in "YX")
    full = np.broadcast_to(psf, [*(1,) * (len(letters) - psf.ndim), *psf.shape])
    expected = np.broadcast_to(full / full.sum(sides, keepdims=True), result.psf.shape)
    np.testing.assert_allclose(result.psf, expected, atol=1e-7)
    again = deconvolve(image, axes=axes, channels=channels, psf=result.psf, **QUICK)
    np.testing.assert_array_equal(again.psf.shape, result.psf.shape)
    np.testing.assert_allclose(again.psf, result.psf, atol=1e-7)


def test_planes_with_their_own_psfs_are_restored_as_if_alone(scene):
    psfs = np.stack([scene.psf, scene.psf[::-1]])
    together = deconvolve(np.stack([scene.blurred] * 2), axes="CYX", psf=psfs, **QUICK)
    for channel in range(2):
        alone = deconvolve(scene.blurred, psf=psfs[channel], **QUICK)
        np.testing.assert_array_equal(together.latent[channel], alone.latent)
    assert not np.array_equal(together.latent[0], together.latent[1])


@pytest.mark.parametrize(
    ("psf", "changes", "message"),
    [
        (np.full((5, 5), np.nan), {}, "psf: expected finite values, got nan"),
        (np.full((5, 5), np.inf), {}, "psf: expected finite values, got inf"),
        (np.eye(5) - 0.1, {}, r"psf: expected values that are not negative, got -0\.1"),
        (np.zeros((5, 5)), {}, r"psf: expected a positive, finite sum, got 0\.0"),
        (np.ones((65, 5)), {}, r"psf: expected at most \(64, 64\) pixels.*got \(65, 5\)"),
        (np.ones((64, 5)), {}, r"image: expected a height of at least 65 .*got 64"),
        (np.ones(5), {}, r"psf: expected the shape \(Y, X\) or \(Y, X\), got \(5,\)"),
        (np.ones((2, 5, 5)), {}, r"psf: expected the shape .*got \(2, 5, 5\)"),
        (np.ones((0, 5)), {}, r"psf: expected at least one pixel, got shape \(0, 5\)"),
        (np.ones((5, 5)) > 0, {}, "psf: expected .* real numbers, got bool"),
        ("psf.tif", {}, "psf: expected .* real numbers, got <U7"),
        (np.ones((5, 5)), {"psf_source": "channel"}, "psf: expected none with psf_source = 'channel'"),
        (None, {"psf_source": "given"}, "psf: expected a point spread function .*got None"),
        (np.ones((5, 5)), {"prior": "none"}, "psf_source: expected 'plane', .*VDIP-Sparse.*got 'given'"),
        (np.ones((5, 5)), {"variational": False}, "psf_source: .*got 'given' with DIP-Sparse"),
        (np.ones((5, 5)), {"refinements": 0}, "psf_source: .*refinements = 0"),
    ],
)
def test_a_psf_that_cannot_be_used_is_refused(scene, psf, changes, message, no_networks):
    with pytest.raises(ValueError, match=message):
        deconvolve(scene.blurred, psf=psf, **QUICK, **changes)


def test_one_bad_psf_of_several_is_refused_before_any_work(scene, no_networks):
    psfs = np.stack([scene.psf, np.zeros_like(scene.psf)])
    with pytest.raises(ValueError, match="psf: expected a positive"):
        deconvolve(np.stack([scene.blurred] * 2), axes="CYX", psf=psfs, **QUICK)


def test_a_known_psf_needs_no_more_room_than_its_own(no_networks):
    image = np.random.default_rng(0).random((8, 9))
    assert deconvolve(image, psf=np.ones((3, 3)), **QUICK).latent.shape == (8, 9)
    assert blur(torch.zeros(1, 1, 10, 11), torch.zeros(1, 1, 3, 3)).shape[-2:] == (8, 9)
