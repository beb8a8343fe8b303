"""Tiles of a large plane, solved in full, beside the whole."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_vdip import deconvolve
from napari_vdip.metrics import aligned_quality
from napari_vdip.plane import Plane
from napari_vdip.regularization import Regularization
from napari_vdip.scenes import cells
from napari_vdip.tiling import segments


@pytest.fixture(scope="module")
def scene():
    return cells(size=144, psf_size=9)


@pytest.fixture(scope="module")
def tiled_and_not(scene):
    """Differences of a result in four tiles from that in one, for weights that are not sampled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Plane, "regularization_of", lambda self, kernel: Regularization(updates=0))
        return [
            deconvolve(scene.blurred, psf=scene.psf, device="cpu", tile=tile, samples=32)
            for tile in (144, 96)
        ]


def test_tiles_differ_from_the_whole_by_a_small_part_of_the_noise(tiled_and_not):
    whole, tiled = tiled_and_not
    difference = tiled.latent - whole.latent
    shared = (slice(60, 84), slice(None))
    for part in (slice(None), shared, shared[::-1]):
        assert np.sqrt(np.mean(difference[part] ** 2)) < 0.25 * whole.noise[0]
    assert np.sqrt(np.mean((tiled.reblurred - whole.reblurred) ** 2)) < 0.1 * whole.noise[0]
    assert tiled.noise[0] == pytest.approx(whole.noise[0], rel=0.02)
    np.testing.assert_allclose(gaussian_filter(tiled.std / whole.std, 4), 1, atol=0.25)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", ["latent", "std", "reblurred"])
def test_there_is_no_step_at_the_borders_of_tiles(tiled_and_not, axis, name):
    """The difference from the whole would jump there."""
    whole, tiled = (getattr(result, name) for result in tiled_and_not)
    steps = np.diff(tiled - whole, axis=axis)
    sizes = np.sqrt(np.mean(steps**2, axis=1 - axis))
    assert [part.start for part, _ in segments(144, 96, 18)] == [0, 48]
    assert max(sizes[44:52].max(), sizes[92:100].max()) < 3.5 * sizes.mean()


def test_with_all_rounds_tiles_differ_from_the_whole_by_a_small_part_of_the_std_map(scene):
    """The weights are sampled then, and the difference is about that of another seed: .04."""
    assert Plane.KNOWN_STEPS > 1
    whole, tiled = (
        deconvolve(scene.blurred, psf=scene.psf, device="cpu", tile=tile, samples=32) for tile in (144, 96)
    )
    difference = (tiled.latent - whole.latent) / whole.std
    assert np.sqrt(np.mean(difference**2)) < 0.08
    for axis in (0, 1):
        steps = np.sqrt(np.mean(np.diff(difference, axis=axis) ** 2, axis=1 - axis))
        assert max(steps[44:52].max(), steps[92:100].max()) < 0.16


def test_a_large_plane_becomes_clearly_better(scene):
    part = np.s_[:110, :100]
    changes = {"psf_shape": 9, "steps": 20, "refinements": 20, "widths": (8,) * 5, "samples": 2}
    result = deconvolve(scene.blurred[part], device="cpu", search_area=64, tile=80, **changes)
    before, after = (
        aligned_quality(image, scene.latent[part], data_range=float(np.ptp(scene.latent)))
        for image in (scene.blurred[part], result.latent)
    )
    assert after.psnr > before.psnr + 2
