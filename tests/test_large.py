"""Large planes: where they are searched, the tiles they are restored in, and regions of interest."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import napari_vdip.plane as plane
from napari_vdip import Settings, deconvolve, run
from napari_vdip.detail import detail, most_detailed
from napari_vdip.mosaic import Mosaic, is_large
from napari_vdip.noise import noise_variance
from napari_vdip.plane import Plane
from napari_vdip.regularization import Regularization
from napari_vdip.scenes import cells
from napari_vdip.tiling import as_region, segments, tiles, with_context

pytestmark = pytest.mark.usefixtures("few_solver_steps")

KNOWN = Plane.KNOWN_STEPS
CPU = torch.device("cpu")
TINY = {
    "device": "cpu",
    "psf_shape": 5,
    "widths": (4, 4, 4, 4, 4),
    "steps": 3,
    "refinements": 2,
    "samples": 2,
    "search_area": 64,
}
STEPS = TINY["steps"] + TINY["refinements"]


@pytest.fixture(scope="module")
def scene():
    return cells(size=144, psf_size=9)


def corner(shape=(100, 120), at=(30, 50), size=64):
    """Faint noise, with blobs in one part."""
    rng = np.random.default_rng(0)
    image = rng.normal(100, 1, shape)
    blobs = gaussian_filter(rng.normal(0, 1, (size, size)), 2)
    image[at[0] : at[0] + size, at[1] : at[1] + size] += 50 * blobs / blobs.std()
    return image


# --- parts of a plane --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "side", "overlap"), [(100, 40, 10), (41, 40, 10), (100, 100, 20), (70, 40, 19), (997, 64, 6)]
)
def test_the_weights_of_segments_sum_to_one_and_pass_smoothly(length, side, overlap):
    parts = segments(length, side, overlap)
    total, covered = np.zeros(length), np.zeros(length)
    for part, weight in parts:
        assert part.stop - part.start == side == len(weight)
        assert weight.min() >= 0
        total[part] += weight
        covered[part] += 1
        assert weight[0] == (part.start == 0)
        assert weight[-1] == (part.stop == length)
        assert abs(np.diff(weight)).max() <= 4 / overlap  # a raised cosine over half of it: pi / overlap
    np.testing.assert_allclose(total, 1, atol=1e-12)
    assert covered.min() >= 1
    starts = [part.start for part, _ in parts]
    assert all(b - a <= side - overlap for a, b in itertools.pairwise(starts))
    assert (starts[0], starts[-1]) == (0, length - side)
    assert len(parts) == 1 + int(np.ceil((length - side) / (side - overlap)))


def test_the_weights_of_tiles_sum_to_one():
    total = np.zeros((90, 70))
    for region, weights in tiles((90, 70), (40, 80), (10, 10)):
        assert total[region].shape == weights.shape == (40, 70)
        total[region] += weights
    np.testing.assert_allclose(total, 1, atol=1e-6)


@pytest.mark.parametrize("region", [np.s_[2:7, :], ((2, 7), (0, 9)), np.s_[-6:-1, 0:9], [[2, 7], [0, 9]]])
def test_a_region_is_two_slices_or_two_pairs(region):
    assert as_region(region, (8, 9)) == (slice(2, 7), slice(0, 9))


@pytest.mark.parametrize(
    "region",
    [
        ((0, 9), (0, 9)),
        ((3, 3), (0, 9)),
        ((-9, 3), (0, 9)),
        ((0, 4, 1), (0, 9)),
        ((0, 4.0), (0, 9)),
        np.s_[::2, :],
        np.s_[5:2, :],
        np.s_[:, :, :],
        slice(3),
        7,
        "ab",
    ],
)
def test_a_region_that_is_not_inside_is_refused(region):
    with pytest.raises(ValueError, match="region: expected rows and columns, inside 8 x 9 pixels") as error:
        as_region(region, (8, 9))
    assert repr(region) in str(error.value)


def test_the_context_of_a_region_ends_at_the_border():
    around, inside = with_context((slice(2, 7), slice(50, 60)), (30, 100), (4, 6))
    assert around == (slice(0, 11), slice(44, 66))
    assert inside == (slice(2, 7), slice(6, 16))


# --- detail ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", ["readout", "photons"])
def test_noise_alone_has_no_detail(noise):
    rng = np.random.default_rng(0)
    ramp = np.broadcast_to(np.linspace(20, 60, 200), (200, 200))
    image = rng.poisson(ramp) if noise == "photons" else ramp + rng.normal(0, 5, ramp.shape)
    image = torch.from_numpy(image / 100.0)[None, None]
    energy = detail(image, noise_variance(image))
    assert energy.shape == (199, 199)
    assert abs(float(energy.mean())) < 0.2
    assert float(energy[:, :100].mean()) == pytest.approx(float(energy[:, 100:].mean()), abs=0.3)


def test_detail_adds_channels_and_does_not_depend_on_the_unit():
    image = torch.from_numpy(corner())[None, None]
    variance = torch.full_like(image, 1.3)
    energy = detail(image, variance)
    torch.testing.assert_close(detail(7 * image - 3, 49 * variance), energy)
    both = [torch.cat([a, a], 1) for a in (image, variance)]
    torch.testing.assert_close(detail(*both), 2 * energy)


def test_the_most_detailed_part_is_that_of_the_largest_sum():
    energy = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (14, 17)))
    region, amount = most_detailed(energy, (6, 9))
    sums = {(y, x): float(energy[y : y + 5, x : x + 8].sum()) for y in range(10) for x in range(10)}
    best = max(sums, key=sums.get)
    assert amount == pytest.approx(sums[best])
    assert region == (slice(best[0], best[0] + 6), slice(best[1], best[1] + 9))
    assert most_detailed(energy, (15, 18))[0] == (slice(0, 15), slice(0, 18))


# --- a large plane is searched in one part -----------------------------------------------------------


@pytest.fixture
def searched(monkeypatch):
    """Images that the networks are fitted to."""
    images, sound = [], plane.Search

    def search(image, settings, rng):
        images.append(image)
        return sound(image, settings, rng)

    monkeypatch.setattr(plane, "Search", search)
    return images


def test_a_large_plane_is_searched_where_it_has_most_detail_and_restored_as_a_whole(searched):
    image = corner()
    shown = []
    result = deconvolve(image, **TINY, progress=lambda p: shown.append(p))
    assert [tuple(part.shape[-2:]) for part in searched] == [(64, 64)]
    region = shown[0].estimate.part
    assert [abs(side.start - at) for side, at in zip(region, (30, 50), strict=True)] == pytest.approx(
        [0, 0], abs=4
    )
    assert [p.estimate.step for p in shown] == list(range(1, STEPS + KNOWN + 1))
    assert {p.estimate.steps for p in shown} == {STEPS + KNOWN}
    assert result.history[0]["stage"].tolist() == ["search"] * 3 + ["refinement"] * (2 + KNOWN)
    for array in (result.latent, result.std, result.reblurred):
        assert array.shape == image.shape
        assert np.isfinite(array).all()
    assert result.noise[0] == pytest.approx((result.reblurred - image).std(), rel=0.05)
    kernels = [p.estimate.kernel for p in shown]
    assert all(torch.equal(kernel, kernels[STEPS - 1]) for kernel in kernels[STEPS:])


@pytest.mark.parametrize("changes", [{"prior": "none"}, {"variational": False}, {"refinements": 0}])
def test_methods_without_a_closed_form_see_the_whole_plane(searched, changes):
    result = deconvolve(corner((70, 80), (3, 3)), **{**TINY, **changes})
    assert [tuple(part.shape[-2:]) for part in searched] == [(70, 80)]
    assert np.isfinite(result.latent).all()


def test_a_crop_is_at_least_two_windows_wide(searched):
    deconvolve(corner(), **{**TINY, "psf_shape": (41, 5)})
    assert [tuple(part.shape[-2:]) for part in searched] == [(82, 64)]


@pytest.mark.parametrize(
    ("shape", "known", "large"),
    [
        ((512, 512), False, False),
        ((512, 513), False, True),
        ((100, 4000), False, True),
        ((2048, 2048), True, False),
        ((2048, 2049), True, True),
    ],
)
def test_what_counts_as_large(shape, known, large):
    assert is_large(shape, Settings(), known) == large
    assert not is_large(shape, Settings.paper(), known)


def test_previews_of_the_search_are_the_source_with_the_part_in_it():
    image = corner()
    steps = run(image, **TINY)
    for step in range(1, STEPS + 1):
        progress = next(steps)
        preview = progress.preview()
        inside = np.zeros(image.shape, bool)
        inside[progress.estimate.part] = True
        for array in (preview.latent, preview.reblurred):
            np.testing.assert_array_equal(array[~inside, 0], image[~inside].astype(np.float32))
        assert progress.estimate.step == step
        part = preview.latent[progress.estimate.part][..., 0]
        assert not np.array_equal(part, image[progress.estimate.part].astype(np.float32))
        assert preview.std is None


def test_a_run_that_is_stopped_while_it_searches_keeps_the_part_in_the_source():
    image = corner()
    stopped = {}

    def stop(progress):
        stopped["part"] = progress.estimate.part
        return progress.estimate.step == 4

    result = deconvolve(image, **TINY, progress=stop)
    assert result.stopped == "stopped by the user"
    inside = np.zeros(image.shape, bool)
    inside[stopped["part"]] = True
    np.testing.assert_array_equal(result.latent[~inside], image[~inside].astype(np.float32))
    np.testing.assert_array_equal(np.isnan(result.std), ~inside)
    residual = (result.reblurred - image)[inside]
    assert result.noise[0] == pytest.approx(np.sqrt(np.mean(residual**2)), rel=1e-3)


@pytest.mark.parametrize("name", ["search_area", "tile"])
@pytest.mark.parametrize("value", [63, 512.0, None])
def test_sides_that_cannot_be_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}: expected"):
        Settings(**{name: value})


# --- tiles -------------------------------------------------------------------------------------------


def test_one_tile_is_the_plane_itself(scene):
    settings = Settings(psf_shape=9, psf_source="given", samples=2)
    kernel = torch.from_numpy(scene.psf[::-1, ::-1].copy())[None, None]
    results = []
    for kind in (Plane, Mosaic):
        whole = kind(scene.blurred[:64, :70, None], settings, CPU, kernel)
        *_, last = whole.estimates()
        results.append(whole.result(last))
    for name in ("latent", "std", "reblurred", "psf"):
        one, other = (getattr(result, name) for result in results)
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-3 * one.std())
    assert results[0].noise == pytest.approx(results[1].noise, rel=1e-4)


def test_how_far_the_prior_is_followed_is_judged_once_for_all_tiles(scene, monkeypatch):
    """Tiles that judge it each by itself would have seams, or begin otherwise after a kill."""
    judged, used = [], []

    def judge(self, kernel):
        judged.append(self.image.shape[-2:])
        return chosen

    def noted(*arguments, **options):
        used.append(arguments[-1])
        return restore(*arguments, **options)

    restore = plane.restore
    chosen = Regularization(3.0)
    monkeypatch.setattr(plane.Plane, "regularization_of", judge)
    monkeypatch.setattr(plane, "restore", noted)
    settings = Settings(psf_shape=9, tile=80, search_area=64, samples=2)
    kernel = torch.from_numpy(scene.psf).float().flip((0, 1))[None, None]
    for _ in Mosaic(scene.blurred[..., None], settings, CPU, kernel).estimates():
        pass
    assert judged == [(64, 64)]
    assert len(used) > 2
    assert set(used) == {chosen}
    judged.clear()
    for _ in Plane(scene.blurred[..., None], settings, CPU, kernel).estimates():
        pass
    assert judged == [scene.blurred.shape]


def test_only_one_tile_at_a_time_is_computed_with(scene, monkeypatch):
    sizes, sound = [], Plane.part

    def part(self, region, kernel, rng):
        made = sound(self, region, kernel, rng)
        sizes.append(tuple(made.image.shape[-2:]))
        return made

    monkeypatch.setattr(Plane, "part", part)
    steps = []
    result = deconvolve(
        scene.blurred,
        psf=scene.psf,
        device="cpu",
        tile=96,
        search_area=96,
        samples=2,
        progress=lambda p: steps.append((p.estimate.step, p.estimate.steps)),
    )
    assert set(sizes) == {(96, 96)}
    assert steps == [(step, 4 * KNOWN) for step in range(1, 4 * KNOWN + 1)]
    assert (result.std > 0).all()


def test_a_run_that_is_stopped_between_tiles_keeps_those_that_are_done(scene):
    changes = {"psf": scene.psf, "device": "cpu", "tile": 96, "samples": 2}
    whole = deconvolve(scene.blurred, **changes)
    result = deconvolve(scene.blurred, **changes, progress=lambda p: p.estimate.step == KNOWN + 1)
    np.testing.assert_array_equal(result.latent[:50, :50], whole.latent[:50, :50])
    np.testing.assert_array_equal(result.std[:50, :50], whole.std[:50, :50])
    np.testing.assert_array_equal(result.latent[-40:], scene.blurred[-40:])
    assert np.isnan(result.std[-40:]).all()
    assert np.isfinite(result.std[:48]).all()
    assert np.isfinite(result.latent).all()


def test_colours_are_tiled_with_one_psf(scene):
    image = np.stack([scene.blurred[:80, :70], scene.blurred[20:100, 20:90]], -1)
    result = deconvolve(image, channels="joint", **{**TINY, "tile": 64})
    assert result.latent.shape == result.std.shape == (80, 70, 2)
    assert result.psf.shape == (5, 5)
    assert np.isfinite(result.std).all()


# --- regions of interest -----------------------------------------------------------------------------


def test_a_region_lands_where_it_is_and_sees_what_is_around_it(scene):
    changes = {"psf": scene.psf, "device": "cpu", "samples": 2}
    region = np.s_[40:104, 10:60]
    whole = deconvolve(scene.blurred, **changes).latent[region]
    result = deconvolve(scene.blurred, **changes, region=region)
    bare = deconvolve(scene.blurred[region], **changes).latent
    for array in (result.latent, result.std, result.reblurred):
        assert array.shape == (64, 50)
    assert result.metadata["region"] == ((40, 104), (10, 60))
    error = [np.sqrt(np.mean((one - whole)[:3] ** 2)) for one in (result.latent, bare)]
    assert error[0] < 0.5 * error[1]
    shifts = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    inner = (slice(2, -2),) * 2
    distances = [np.square((np.roll(result.latent, by, (0, 1)) - whole)[inner]).mean() for by in shifts]
    assert shifts[int(np.argmin(distances))] == (0, 0)


def test_a_region_of_all_is_all(scene):
    changes = {"psf": scene.psf, "device": "cpu", "samples": 2}
    whole, part = (deconvolve(scene.blurred, **changes, region=r) for r in (None, np.s_[:, :]))
    np.testing.assert_array_equal(part.latent, whole.latent)
    assert whole.metadata["region"] is None


def test_a_region_is_that_of_every_plane_and_of_previews():
    shapes = []
    stack = np.stack([corner(), corner()[::-1]], -1)
    result = deconvolve(
        stack,
        axes="YXT",
        region=((0, 20), (90, 120)),
        **TINY,
        progress=lambda p: shapes.append(p.preview().latent.shape),
    )
    assert result.latent.shape == (20, 30, 2)
    assert result.psf.shape == (5, 5, 2)
    assert set(shapes) == {(20, 30, 1)}
    assert np.isfinite(result.latent).all()


def test_what_is_far_from_a_region_does_not_matter():
    image = corner()
    image[0, 0] = np.nan
    assert np.isfinite(deconvolve(image, region=np.s_[50:80, 60:90], **TINY).latent).all()
    with pytest.raises(ValueError, match="image: expected finite"):
        deconvolve(image, region=np.s_[:9, :9], **TINY)
