"""From an array to a result, end to end, on tiny images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve

from napari_vdip import Settings, attempts, deconvolve, run
from napari_vdip.metrics import aligned_quality
from napari_vdip.psf_measures import measure_psf
from napari_vdip.scenes import cells, gaussian_psf, specimen
from napari_vdip.settings import METHODS

TINY = {
    "psf_shape": (5, 7),
    "widths": (4, 4, 4, 4, 4),
    "steps": 3,
    "prefit_steps": 0,
    "refinements": 2,
    "samples": 4,
}
STEPS = TINY["steps"] + TINY["refinements"]


def tiny(image, **changes):
    return deconvolve(image, device="cpu", **{**TINY, **changes})


def picture(shape=(34, 38), seed=0, top=200.0):
    """Blobs in the last two axes of a shape, from 0 to `top`."""
    noise = np.random.default_rng(seed).normal(0, 1, shape)
    smooth = gaussian_filter(noise, (0,) * (len(shape) - 2) + (2, 2))
    smooth -= smooth.min((-2, -1), keepdims=True)
    return top * smooth / smooth.max((-2, -1), keepdims=True)


# --- what goes in and comes out ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "axes", "channels", "psf_shape"),
    [
        ((34, 38), None, "separate", (5, 7)),
        ((34, 38, 2), None, "separate", (5, 7, 2)),
        ((34, 38, 3), None, "joint", (5, 7)),
        ((2, 1, 34, 38), "TCYX", "separate", (2, 1, 5, 7)),
        ((2, 2, 34, 38), "TCYX", "joint", (2, 5, 7)),
        ((38, 34, 2), "XYZ", "separate", (7, 5, 2)),
    ],
)
def test_results_have_the_axes_of_the_source(shape, axes, channels, psf_shape):
    letters = axes or "YXC"[: len(shape)]
    image = np.moveaxis(
        picture((*(n for n, a in zip(shape, letters, strict=True) if a not in "YX"), 34, 38)),
        (-2, -1),
        (letters.index("Y"), letters.index("X")),
    )
    assert image.shape == shape
    result = tiny(image, axes=axes, channels=channels)
    for array in (result.latent, result.std, result.reblurred):
        assert array.shape == shape
        assert array.dtype == np.float32
        assert np.isfinite(array).all()
    assert result.psf.shape == psf_shape
    assert result.psf.dtype == np.float32
    assert result.psf.min() >= 0
    sides = tuple(
        i for i, a in enumerate(a for a in letters if a != "C" or channels != "joint") if a in "YX"
    )
    np.testing.assert_allclose(result.psf.sum(axis=sides), 1, atol=1e-5)
    planes = np.prod(psf_shape) // 35
    assert result.noise.shape == (planes,)
    assert [len(course["stage"]) for course in result.history] == [STEPS] * planes
    assert (result.axes, result.stopped, result.device) == (letters, "finished", "cpu")
    assert result.seconds > 0


def test_the_history_tells_the_course_of_the_run():
    (course,) = tiny(picture(), prefit_steps=2).history
    assert course["stage"].tolist() == ["prefit"] * 2 + ["search"] * 3 + ["refinement"] * 2
    assert np.isfinite(course["loss"]).tolist() == [True] * 5 + [False] * 2
    assert np.isfinite(course["noise"]).tolist() == [False] * 5 + [True] * 2


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_result_with_a_std_map_if_it_is_variational(method):
    result = tiny(picture(), **METHODS[method])
    assert result.metadata["method"] == method
    assert np.isfinite(result.latent).all()
    if result.settings.variational:
        assert (result.std > 0).all()
    else:
        assert result.std is None


@pytest.mark.parametrize(
    "dtype", ["u1", "i1", "u2", ">u2", "i4", ">i8", "f2", "f4", ">f4", "f8", ">f8", "g"]
)
def test_every_real_type_gives_the_same_result(dtype):
    image = picture(top=100).round()
    expected = tiny(image)
    result = tiny(image.astype(dtype))
    np.testing.assert_array_equal(result.latent, expected.latent)
    np.testing.assert_array_equal(result.std, expected.std)


@pytest.mark.parametrize(
    "view",
    [
        lambda a: np.repeat(np.repeat(a, 2, 0), 3, 1)[::2, ::3],
        np.asfortranarray,
        lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
        lambda a: a.tolist(),
    ],
)
def test_the_layout_in_memory_does_not_matter(view):
    image = picture().round()
    np.testing.assert_array_equal(tiny(view(image)).latent, tiny(image).latent)


def test_the_input_is_not_changed_and_may_be_read_only():
    image = picture()
    image.flags.writeable = False
    before = image.copy()
    tiny(image)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(("gain", "offset"), [(8.0, 0.0), (0.5, -1000.0)])
def test_results_follow_gain_and_offset_of_the_source(gain, offset):
    image = picture().round()  # exact in float64 under these maps, hence the same course
    one, other = tiny(image), tiny(gain * image + offset)
    tolerance = 2e-3 * gain * 200
    np.testing.assert_allclose(other.latent, gain * one.latent + offset, atol=tolerance, rtol=0)
    np.testing.assert_allclose(other.reblurred, gain * one.reblurred + offset, atol=tolerance, rtol=0)
    np.testing.assert_allclose(other.std, gain * one.std, rtol=1e-2)
    np.testing.assert_allclose(other.noise, gain * one.noise, rtol=1e-2)
    np.testing.assert_allclose(other.psf, one.psf, atol=1e-3)


# --- repeatability and manners -----------------------------------------------------------------------


def test_the_settings_in_the_metadata_make_the_result_again_bit_for_bit():
    image = picture()
    first = tiny(image, seed=7)
    again = deconvolve(image, Settings(**first.metadata["settings"]), device="cpu")
    for name in ("latent", "psf", "std", "reblurred", "noise"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
    assert not np.array_equal(tiny(image, seed=8).latent, first.latent)


def test_a_plane_of_a_stack_gives_what_it_gives_alone():
    stack = picture((2, 34, 38))
    together = tiny(stack, axes="TYX")
    np.testing.assert_array_equal(together.latent[1], tiny(stack[1]).latent)
    np.testing.assert_array_equal(together.psf[1], tiny(stack[1]).psf)


def test_the_callers_random_state_threads_and_modes_are_untouched_at_every_step():
    def state():
        return (
            torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),  # noqa: NPY002
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.get_default_dtype(),
        )

    before = state()
    for method in METHODS.values():
        tiny(picture(), **method, progress=lambda _: state() != before)
        assert tiny(picture(), **method, progress=lambda _: state() != before).stopped == "finished"
    assert state() == before


# --- progress and stopping ---------------------------------------------------------------------------


def test_progress_is_reported_after_every_step_of_every_plane():
    seen = []
    tiny(picture((2, 34, 38)), axes="TYX", progress=seen.append)
    assert [(p.plane, p.name, p.index, p.estimate.step) for p in seen] == [
        (plane + 1, f"T={plane}", (plane,), step + 1) for plane in range(2) for step in range(STEPS)
    ]
    assert {p.planes for p in seen} == {2}
    fractions = [p.fraction for p in seen]
    assert fractions == pytest.approx([(i + 1) / (2 * STEPS) for i in range(2 * STEPS)])
    assert seen[-1].remaining == pytest.approx(0)


def test_a_preview_is_a_plane_in_source_units():
    previews = []
    tiny(picture() + 1e4, progress=lambda p: previews.append(p.preview()))
    for preview in previews:
        assert preview.latent.shape == preview.reblurred.shape == (34, 38, 1)
        assert preview.psf.shape == (5, 7)
        assert preview.std is None
        assert 9.5e3 < preview.latent.mean() < 1.1e4


def test_a_run_that_is_stopped_keeps_what_it_has():
    image = picture((3, 34, 38))
    result = tiny(image, axes="TYX", progress=lambda p: (p.plane, p.estimate.step) == (2, 2))
    assert result.stopped.startswith("stopped by the user")
    for array in (result.latent, result.std, result.reblurred, result.psf):
        assert np.isfinite(array[:2]).all()
        assert np.isnan(array[2]).all()
    assert [len(course["stage"]) for course in result.history] == [STEPS, 2]
    np.testing.assert_array_equal(result.latent[0], tiny(image[0]).latent)


# --- blank planes ------------------------------------------------------------------------------------


def point(*shape):
    psf = np.zeros(shape, np.float32)
    psf[shape[0] // 2, shape[1] // 2] = 1
    return psf


@pytest.mark.parametrize("changes", [{}, METHODS["DIP"], {"psf_source": "channel"}], ids=str)
def test_an_empty_channel_passes_through_and_the_others_are_what_they_are_alone(changes):
    seen = []
    image = np.stack([np.full((34, 38), 7.0), picture()], -1)
    result = tiny(image, **changes, progress=seen.append)
    alone = tiny(picture(), **changes)
    assert (result.blank, result.stopped, result.metadata["blank"]) == (((0,),), "finished", [[0]])
    for name in ("latent", "psf", "std", "reblurred"):
        expected = getattr(alone, name)
        if expected is not None:
            np.testing.assert_array_equal(getattr(result, name)[..., 1], expected)
    assert (result.latent[..., 0] == 7).all()
    assert (result.reblurred[..., 0] == 7).all()
    assert result.std is None or not result.std[..., 0].any()
    np.testing.assert_array_equal(result.psf[..., 0], point(5, 7))
    assert result.noise.tolist() == [0.0, *alone.noise]
    assert result.history[0]["stage"].tolist() == ["blank"]
    [blank] = [where for where in seen if where.index == (0,)]
    assert (blank.estimate.stage, blank.estimate.step, blank.estimate.steps) == ("blank", 1, 1)
    assert (blank.preview().latent == 7).all()


def test_a_blank_plane_keeps_a_psf_that_is_given():
    psf = np.outer([1, 2, 3], [1, 3, 2]) / 36
    image = np.stack([picture(), np.zeros((34, 38))])
    result = deconvolve(image, axes="ZYX", psf=psf, device="cpu", samples=2)
    np.testing.assert_allclose(result.psf[1], psf, rtol=1e-6)
    assert result.blank == ((1,),)
    assert not result.latent[1].any()
    assert not result.std[1].any()


def test_joint_channels_are_blank_together_and_one_alone_is_refused():
    image = picture((2, 2, 34, 38))
    image[1] = [[[3]], [[4]]]
    result = tiny(image, axes="TCYX", channels="joint")
    assert result.blank == ((1,),)
    np.testing.assert_array_equal(result.latent[1], image[1])
    image[0, 0] = 3
    with pytest.raises(ValueError, match=r"^image, T=0: expected varying intensities, got 3\.0 in every"):
        tiny(image, axes="TCYX", channels="joint")


@pytest.mark.parametrize(
    ("shape", "axes", "got"),
    [
        ((34, 38), None, "one single value"),
        ((34, 38, 2), None, "one single value in each of 2 planes"),
        ((3, 34, 38), "TYX", "one single value in each of 3 planes"),
    ],
)
@pytest.mark.parametrize("source", ["plane", "channel"])
def test_an_image_of_nothing_but_blank_planes_is_refused_at_the_door(shape, axes, got, source):
    with pytest.raises(ValueError, match=f"^image: expected varying intensities, got {got}$"):
        run(np.ones(shape), axes=axes, device="cpu", psf_source=source, **TINY)  # before the first step


def test_a_region_is_blank_by_what_is_read_for_it():
    image = picture((2, 34, 200))
    image[0, :, :90] = 5
    result = tiny(image, axes="ZYX", region=np.s_[:, 4:20])
    assert result.blank == ((0,),)
    assert (result.latent[0] == 5).all()
    assert tiny(image, axes="ZYX", region=np.s_[:, 40:80]).blank == ()


def test_a_run_can_be_driven_step_by_step():
    steps = run(picture(), device="cpu", **TINY)
    assert next(steps).estimate.step == 1
    with pytest.raises(StopIteration) as end:
        steps.send(True)
    assert end.value.value.stopped == "stopped by the user"


# --- objectives that are not finite ------------------------------------------------------------------


@pytest.fixture
def fails_at(monkeypatch):
    """Make the objective of the search NaN from a step on, counted from 1."""

    def arrange(first):
        calls = iter(range(1, 10_000))
        sound = attempts.Plane.estimates

        def estimates(self, start=None):
            for estimate in sound(self):
                estimate.terms["loss"] = estimate.posterior.mean.new_tensor(
                    float("nan") if next(calls) >= first else 1.0
                )
                yield estimate

        monkeypatch.setattr(attempts.Plane, "estimates", estimates)

    return arrange


def test_an_objective_that_ceases_to_be_finite_ends_with_the_last_finite_estimate(fails_at):
    fails_at(5)
    with pytest.warns(RuntimeWarning, match="not finite .*lower image_rate or psf_rate"):
        result = tiny(picture(), steps=30, refinements=0)
    assert "not finite" in result.stopped
    for array in (result.latent, result.psf, result.std, result.reblurred):
        assert np.isfinite(array).all()
    assert len(result.history[0]["stage"]) < 30


def test_an_objective_that_is_not_finite_at_the_last_step_is_noticed(fails_at):
    fails_at(7)
    with pytest.warns(RuntimeWarning, match="not finite at step 7"):
        result = tiny(picture(), steps=7, refinements=0)
    assert np.isfinite(result.latent).all()


def test_an_objective_that_was_never_finite_is_an_error(fails_at):
    fails_at(1)
    with pytest.raises(FloatingPointError, match="not finite at step 1"):
        tiny(picture())


@pytest.mark.parametrize(("step", "refinements"), [(5, 0), (5, 2), (12, 0), (12, 2)])
def test_networks_that_break_down_end_with_a_finite_result(monkeypatch, step, refinements):
    calls = iter(range(1, 10_000))
    adam_step = torch.optim.Adam.step

    def step_into_the_void(self, *args, **kwargs):
        adam_step(self, *args, **kwargs)
        if next(calls) == step:
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(float("nan"))

    monkeypatch.setattr(torch.optim.Adam, "step", step_into_the_void)
    with pytest.warns(RuntimeWarning, match="not finite"):
        result = tiny(picture(), steps=14, refinements=refinements)
    assert np.isfinite(result.latent).all()
    assert np.isfinite(result.psf).all()


# --- bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "changes", "message"),
    [
        (np.zeros((0, 40)), {}, r"image: expected .*\(0, 40\)"),
        (np.where(picture() > 199, np.nan, picture()), {}, "image: expected finite .*got [1-9]"),
        (np.where(picture() > 199, np.inf, picture()), {}, "image: expected finite .*got [1-9]"),
        (np.full((40, 40), 3), {}, "image: expected varying .*got one single value"),
        (picture() + 0j, {}, "image: expected .*got complex128"),
        (picture() > 100, {}, "image: expected .*got bool"),
        (np.full((40, 40), "a"), {}, "image: expected .*got <U1"),
        (np.full((40, 40), None), {}, "image: expected .*got ndarray"),
        (None, {}, "image: expected .*got NoneType"),
        (5.0, {}, r"image: expected .*\(\)"),
        (picture((4, 40)), {}, r"image: expected a height of at least .*got 4"),
        (picture(), {"psf_shape": 35}, r"image: expected a height of at least 35 .*\(35, 35\), got 34"),
        (picture(), {"psf_shape": 8}, r"psf_shape: expected .*odd.*\(8, 8\)"),
        (picture()[0], {}, r"image: expected .*\(38,\)"),
        (picture((2, 2, 34, 38)), {}, r"image: expected .*axes=.*\(2, 2, 34, 38\)"),
        (picture(), {"axes": "TCYX"}, r"axes: expected 2 different letters.*'TCYX'"),
        (picture(), {"axes": "YY"}, "axes: expected .*'YY'"),
        (picture(), {"steps": -1}, "steps: expected 0 to .*got -1"),
        (picture(), {"psf_size": 5}, "psf_size: expected a field of Settings"),
        (picture(), {"device": "abacus"}, "device: expected one of .*'abacus'"),
        (
            np.stack([picture(), np.full((34, 38), np.nan)]),
            {"axes": "TYX"},
            "image, T=1: expected finite .*got 1292",
        ),
    ],
)
def test_bad_input_is_refused_before_any_work(image, changes, message, monkeypatch):
    def no_work(*_):
        raise AssertionError("work has begun")

    monkeypatch.setattr(attempts, "Plane", no_work)
    with pytest.raises(ValueError, match=message):
        deconvolve(image, **{**TINY, "device": "cpu", **changes})


def test_bad_input_is_refused_when_the_generator_is_made():
    with pytest.raises(ValueError, match="image: expected"):
        run(np.zeros((0, 40)))


# --- what the result means ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def blocks():
    """Piecewise constant scene, a point spread function like an L, and the two convolved."""
    rng = np.random.default_rng(0)
    latent = np.full((80, 80), 0.2)
    for _ in range(40):
        (row, column), (height, width) = rng.integers(0, 76, 2), rng.integers(3, 16, 2)
        latent[row : row + height, column : column + width] = rng.uniform(0, 1)
    psf = np.zeros((9, 9))
    psf[6, 2:8] = [3, 2, 2, 1, 1, 1]
    psf[2:6, 2] = [1, 1, 2, 2]
    psf /= psf.sum()
    blurred = fftconvolve(latent, psf, mode="same") + rng.normal(0, 4e-3, latent.shape)
    inside = (slice(8, -8),) * 2
    return latent[inside], psf, blurred[inside]


@pytest.fixture(scope="module")
def restored_blocks(blocks):
    return deconvolve(
        blocks[2],
        device="cpu",
        psf_shape=9,
        widths=(8, 16, 16, 16, 16),
        steps=150,
        prefit_steps=0,
        refinements=12,
        bound_until=1.0,
        similarity_from=0.0,
        bound_weight=10.0,
        prior_weight=0.01,
        psf_prior_weight=0.0,
        psf_rate=0.1,
        psf_generator="free",
        headroom=0.1,
        samples=4,
    )


def likeness(a, b):
    """Largest correlation of two kernels over all shifts."""
    a, b = (k / np.linalg.norm(k) for k in (a, b))
    return fftconvolve(a, b[::-1, ::-1]).max()


def test_the_psf_is_the_kernel_of_a_convolution(blocks, restored_blocks):
    psf = blocks[1]
    assert likeness(restored_blocks.psf, psf) > 0.8
    assert likeness(restored_blocks.psf, psf) > likeness(restored_blocks.psf, psf[::-1, ::-1]) + 0.1


def test_the_psf_is_centred(restored_blocks):
    psf = restored_blocks.psf.astype(float)
    offsets = np.arange(9) - 4
    assert psf.sum(1) @ offsets == pytest.approx(0, abs=0.05)
    assert psf.sum(0) @ offsets == pytest.approx(0, abs=0.05)


def test_the_noise_is_that_of_the_residual(blocks, restored_blocks):
    residual = restored_blocks.reblurred - blocks[2]
    assert restored_blocks.noise[0] == pytest.approx(np.sqrt(np.mean(residual**2)), rel=0.05)


@pytest.fixture(scope="module")
def scene():
    return cells(size=96, psf_size=13)


@pytest.fixture(scope="module")
def restored_scene(scene):
    return deconvolve(scene.blurred, device="cpu", psf_shape=13, steps=100, samples=4)


def test_a_microscopy_scene_becomes_clearly_better(scene, restored_scene):
    before, after = (
        aligned_quality(image, scene.latent, data_range=float(np.ptp(scene.latent)))
        for image in (scene.blurred, restored_scene.latent)
    )
    assert after.psnr > before.psnr + 3
    assert after.ssim > before.ssim


@pytest.mark.parametrize(("kind", "photons", "gain"), [("nuclei", 5000, 4.5), ("filaments", 1000, 6)])
def test_a_narrow_blur_of_a_specimen_is_found_and_undone(kind, photons, gain):
    """For structure as sharp as the prior has it, it was found wider: gains of 3.4 and 4.5 dB."""
    scene = specimen(kind, gaussian_psf(5, 0.9), size=128, photons=photons)
    result = deconvolve(scene.blurred, device="cpu", psf_shape=5)
    found, true = (np.mean(measure_psf(psf).pixels.sigma) for psf in (result.psf, scene.psf))
    assert found == pytest.approx(true, rel=0.12)
    before, after = (
        aligned_quality(image, scene.latent, data_range=float(np.ptp(scene.latent)))
        for image in (scene.blurred, result.latent)
    )
    assert after.psnr > before.psnr + gain


def test_the_latent_image_convolved_with_the_psf_is_the_reblurred_image(scene, restored_scene):
    """But for the interpolation of the shift by parts of a pixel that centres the two."""
    inside = (slice(14, -14),) * 2
    contrast = scene.blurred[inside].std()
    expected = fftconvolve(restored_scene.latent, restored_scene.psf, mode="same")
    for other, part in ((expected, 0.05), (scene.blurred, 0.1)):
        difference = (restored_scene.reblurred - other)[inside]
        assert np.sqrt(np.mean(difference**2)) < part * contrast
