"""The tab that says how far a result can be trusted: what it says, does and survives."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QDockWidget
from superqt.utils import WorkerBase

import napari_vdip.deconvolution as deconvolution
from napari_vdip import Settings, add_to_viewer
from napari_vdip import _check_texts as texts
from napari_vdip._check_jobs import comparing, doubts, reseeding, residuals
from napari_vdip._check_layers import LARGEST, companion, place, show_alone
from napari_vdip._check_panels import ENLARGED, Picture
from napari_vdip._checked import checked
from napari_vdip._commands import open_check
from napari_vdip._layers import KEY, read_layer
from napari_vdip._provenance import Recipe
from napari_vdip._psf_layers import exporting, opening, other_pixels, put_beside
from napari_vdip._results import ResultLayers
from napari_vdip._view import camera_of, grid_of
from napari_vdip._widget import DeconvolutionWidget
from napari_vdip.classical import METHODS
from napari_vdip.diagnostics import Diagnosis
from napari_vdip.image_file import read
from napari_vdip.io import write_ome_tiff
from napari_vdip.psf_measures import agreement, measure_psf, theoretical_width
from napari_vdip.result import Deconvolution
from napari_vdip.scenes import cells, gaussian_psf
from napari_vdip.settings import NETWORK_STEPS
from napari_vdip.stack import plan
from napari_vdip.verdict import Verdict

pytestmark = pytest.mark.usefixtures("few_solver_steps")

SIZE, WINDOW = 64, 9
TINY = Settings(psf_shape=WINDOW, steps=2, refinements=2, samples=2, widths=(4,) * 5)
UM = {"scale": (0.1, 0.1), "units": ("um", "um")}


def made(image, axes="YX", channels="separate", **changes):
    """Make up a result: the image itself, with a Gaussian for a point spread function."""
    planes = plan(image.shape, axes, channels)
    psf = np.empty(planes.psf_shape((WINDOW, WINDOW)), np.float32)
    for number, index in enumerate(planes.indices):
        planes.put_psf(psf, index, gaussian_psf(WINDOW, 1 + 0.2 * number).astype(np.float32))
    latent = image.astype(np.float32)
    settings = Settings(psf_shape=WINDOW, channels=channels, steps=2, refinements=0, widths=(4,) * 5)
    noise, std = np.ones(len(planes.indices)), np.full_like(latent, latent.std() / 2)
    result = Deconvolution(
        latent, psf, std, latent + 1, noise, (), axes, settings, "cpu", 1.234, "finished"
    )
    return replace(result, **changes)


@pytest.fixture
def blurred():
    return cells(size=SIZE, psf_size=WINDOW).blurred.astype(np.float32)


@pytest.fixture
def shown(blurred):
    """A viewer without a window, the layer of an input and those of its result."""
    viewer, result = ViewerModel(), made(blurred)
    source = viewer.add_image(blurred, name="cells", **UM)
    return viewer, source, result, add_to_viewer(viewer, source, result)


def outcome(steps):
    """Do all steps, and return what comes of them."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


# What is checked


def test_any_layer_leads_to_its_result_and_its_input(shown):
    viewer, source, result, layers = shown
    for layer in layers:
        this = checked(viewer, layer)
        assert this.source is source
        assert np.array_equal(this.result.latent, result.latent)
        assert np.array_equal(this.result.std, result.std)
        assert np.array_equal(this.psf(()), result.psf)
        assert this.result.settings == result.settings
    assert checked(viewer, source) is None


def test_the_latest_run_is_taken_as_it_was_and_earlier_ones_from_their_layers(shown):
    viewer, source, result, layers = shown
    assert checked(viewer, layers[0], (result, source)).result is result
    other = replace(result, seconds=9.0)
    assert checked(viewer, layers[0], (other, source)).result.reblurred is None


def test_a_run_of_the_panel_is_taken_as_it_was_though_its_layers_say_what_was_asked_for(blurred):
    viewer, result = ViewerModel(), made(blurred)
    source = viewer.add_image(blurred, name="cells", **UM)
    picture = read_layer(source, "YX")
    recipe = Recipe.of(source, picture, result.settings, "cpu")
    shown = ResultLayers(viewer, source, picture, recipe=recipe)
    shown.show(result, final=True)
    assert checked(viewer, shown.get("PSF"), (result, source)).result is result
    other = Recipe.of(source, picture, result.settings, "cuda")
    shown.get("PSF").metadata = {KEY: {**shown.get("PSF").metadata[KEY], "recipe": other.plain()}}
    assert checked(viewer, shown.get("latent"), (result, source)) is None  # the PSF is of another run


def test_a_kept_earlier_estimate_has_no_reblurred_image(shown):
    viewer, source, result, layers = shown
    made = layers[0].metadata[KEY]
    layers[0].metadata = {**layers[0].metadata, KEY: {**made, "iterate": {"step": 3}}}
    before, after = (checked(viewer, layers[1], (result, source)) for _ in range(2))
    assert after.result.reblurred is None
    assert before.same(after)


def test_a_result_without_its_layers_or_still_running_is_not_checked(shown):
    viewer, _, _, layers = shown
    viewer.layers.remove(layers[0])
    assert checked(viewer, layers[1]) is None
    layers[1].metadata = {KEY: {**layers[1].metadata[KEY], "stopped": "running"}}
    assert checked(viewer, layers[1]) is None


@pytest.mark.parametrize("change", [5, {}, {"axes": 5}, {"settings": {"steps": -1}}, {"axes": "ZYX"}])
def test_metadata_that_say_something_else_are_not_checked(shown, change):
    viewer, _, _, layers = shown
    for layer in layers:
        key = layer.metadata[KEY]
        layer.metadata = {KEY: {**key, **change} if change and isinstance(change, dict) else change}
    assert checked(viewer, layers[0]) is None


@pytest.mark.parametrize(
    ("units", "size"), [(("um", "um"), (0.1, 0.2)), (("nm", "nm"), (1e-4, 2e-4)), (("pixel",) * 2, None)]
)
def test_the_pixel_size_is_in_micrometres_or_unknown(blurred, units, size):
    viewer = ViewerModel()
    source = viewer.add_image(blurred, scale=(0.1, 0.2), units=units)
    this = checked(viewer, add_to_viewer(viewer, source, made(blurred))[0])
    assert this.pixel_size() == (None if size is None else pytest.approx(size))


def test_planes_of_a_part_of_a_stack_find_their_input():
    stack = np.random.default_rng(0).poisson(9, (3, 2, 40, 44)).astype(np.float32)
    viewer = ViewerModel()
    source = viewer.add_image(stack, name="stack", scale=(2, 1, 0.5, 0.5), translate=(1, 0, 3, 4))
    part = stack[1:2, :, 5:35, 6:40]
    this = checked(viewer, add_to_viewer(viewer, source, made(part, "ZCYX"), at=(1, 0, 5, 6))[0])
    assert this.planes.indices == [(0, 0), (0, 1)]
    for index in this.planes.indices:
        assert np.array_equal(this.input_plane(index)[..., 0], part[index])
        plane, region = this.source_plane(index)
        assert plane.shape[:2] == (40, 44)
        assert region == ((5, 35), (6, 40))
    this.show(viewer, (0, 1))
    assert this.shown(viewer.dims.point) == (0, 1)
    source.translate = (1, 0, 3, 4.2)
    with pytest.raises(ValueError, match="to lie under"):
        this.input_plane((0, 0))


def test_a_photograph_is_read_in_the_units_of_its_input():
    photo = np.random.default_rng(0).integers(0, 256, (40, 44, 3)).astype(np.uint8)
    viewer = ViewerModel()
    source = viewer.add_image(photo, rgb=True, name="photo")
    result = made(photo, "YXC", "joint")
    this = checked(viewer, add_to_viewer(viewer, source, result)[0])
    assert np.allclose(this.result.latent, photo, atol=1e-3)
    assert np.allclose(this.psf(()), result.psf, atol=1e-6)
    assert np.array_equal(this.input_plane(()), photo)


# What is computed


def test_the_residual_of_a_latest_run_is_that_of_its_reblurred_image(shown):
    viewer, source, result, layers = shown
    this = checked(viewer, layers[0], (result, source))
    data, border = outcome(residuals(this))
    assert border == (0, 0)
    assert data.shape == (SIZE, SIZE)
    assert (data > 0).all()  # the made up one is brighter by one everywhere


def test_the_residual_of_a_right_result_without_its_reblurred_image_is_nought():
    from scipy.ndimage import correlate

    rng = np.random.default_rng(0)
    latent = rng.normal(100, 9, (SIZE, SIZE)).astype(np.float32)
    result = made(latent, reblurred=None)
    image = correlate(latent.astype(float), result.psf.astype(float)) + rng.normal(0, 1e-3, latent.shape)
    viewer = ViewerModel()
    source = viewer.add_image(image)
    data, border = outcome(residuals(checked(viewer, add_to_viewer(viewer, source, result)[0])))
    assert border == (WINDOW // 2,) * 2
    assert data.shape == (SIZE - WINDOW + 1,) * 2
    assert np.sqrt(np.mean(data**2)) < 3
    shifted = source.data + 5
    source.data = shifted
    moved, _ = outcome(residuals(checked(viewer, viewer.layers[1])))
    assert np.abs(moved).min() > 10 * np.abs(data).max()


def test_doubts_are_the_std_over_the_spread_of_each_plane():
    stack = np.random.default_rng(0).normal(9, 1, (2, 40, 44)) * np.array([1, 7])[:, None, None]
    viewer = ViewerModel()
    source = viewer.add_image(stack, name="stack")
    this = checked(viewer, add_to_viewer(viewer, source, made(stack, "ZYX"))[0])
    found = outcome(doubts(this))
    for plane, spread in zip(found, stack.std((1, 2)), strict=True):
        assert np.allclose(plane, np.float32(stack.std()) / 2 / spread, rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_other_methods_undo_a_blur_and_keep_the_scale(method):
    scene = cells(size=SIZE, psf_size=WINDOW, photons=1e6)
    image = scene.blurred[..., None]
    restored = METHODS[method](image, scene.psf)[..., 0]
    error = np.square(restored - scene.latent).mean()
    assert error < np.square(scene.blurred - scene.latent).mean() / 2
    assert np.allclose(METHODS[method](1000 * image, scene.psf)[..., 0], 1000 * restored, rtol=1e-3)


def test_other_methods_are_compared_on_the_plane_that_is_shown(shown):
    stack = np.random.default_rng(0).poisson(9, (3, 40, 44)).astype(np.float32)
    viewer = ViewerModel()
    source = viewer.add_image(stack, scale=(1, 0.5, 0.5))
    this = checked(viewer, add_to_viewer(viewer, source, made(stack, "ZYX"))[0])
    found = dict(comparing(this, (2,)))
    assert found.keys() == METHODS.keys()
    for name, data in found.items():
        assert data.shape == (1, 40, 44)
        assert np.allclose(data[0], METHODS[name](stack[2][..., None], this.psf((2,)))[..., 0], atol=1e-3)


def test_another_seed_is_compared_with(shown, monkeypatch):
    viewer, source, result, layers = shown
    *_, first = deconvolution.run(source.data, result.settings, device="cpu")
    psf, seeds, run_plane = first.preview().psf, [], deconvolution.run_plane

    def with_seed_of_before(image, settings, **more):
        seeds.append(settings.seed)
        return run_plane(image, settings.replace(seed=settings.seed - 1), **more)

    monkeypatch.setattr(deconvolution, "run_plane", with_seed_of_before)
    for ours, expected in ((psf, 1), (result.psf, agreement(result.psf, psf))):
        this = checked(viewer, layers[0], (replace(result, psf=ours), source))
        assert outcome(reseeding(this, (), "cpu")) == pytest.approx(expected, abs=1e-6)
    assert expected < 0.999
    assert seeds == [result.settings.seed + 1] * 2


def test_a_run_without_networks_is_compared_with_one_that_has_them(shown, monkeypatch):
    viewer, source, result, layers = shown
    asked = []
    monkeypatch.setattr(
        deconvolution, "run_plane", lambda _, settings, **more: iter(asked.append(settings) or ())
    )
    alone = replace(result, settings=Settings(psf_shape=result.psf.shape[-2:]))
    this = replace(checked(viewer, layers[0], (result, source)), result=alone)
    with pytest.raises(ValueError, match="expected an estimate"):
        outcome(reseeding(this, (), "cpu"))
    assert alone.settings.network_steps == 0
    assert (texts.second_run(this), texts.second_run(checked(viewer, layers[0]))) == (
        "with networks",
        "two seeds",
    )
    assert asked[0].network_steps == NETWORK_STEPS


# What it says


def test_widths_are_said_in_physical_units_beside_diffraction():
    psf = measure_psf(gaussian_psf(21, 2.0), (0.1, 0.1))
    facts = texts.psf_facts(psf, (0.1, 0.1), theoretical_width(0.52, 1.3))
    assert facts["pixel size"] == "0.1 x 0.1 µm"
    assert "pixel size" not in texts.psf_facts(psf, None, None)
    assert facts["FWHM"].startswith("0.476 x 0.476 µm (4.8 x 4.8 px)")
    assert "0.206 µm" in facts["by diffraction"]
    assert "2.3 times" in facts["by diffraction"]
    assert "narrower" in texts.diffraction(psf, 1.0)
    assert "pixel size" in texts.diffraction(measure_psf(gaussian_psf(21, 2.0)), 1.0)


@pytest.mark.parametrize(
    ("window", "sigma", "said"),
    [(7, 3.0, "larger"), (41, 2.0, "smaller"), (15, 2.0, "fits"), (9, 0.3, "point")],
)
def test_the_window_is_advised_on(window, sigma, said):
    psf = measure_psf(gaussian_psf(window, sigma))
    assert said in texts.window_advice(psf, given=False)
    assert "given" in texts.window_advice(psf, given=True)


@pytest.mark.parametrize(
    ("answer", "said"), [("good", False), ("look closer", True), ("do not trust", True)]
)
def test_the_std_map_is_doubted_first_where_the_verdict_is(answer, said):
    found = Diagnosis("", (), Verdict(answer, ()), None)
    assert ("too small" in texts.calibrated(found).partition("Calibrated")[0]) == said


# Layers


def test_added_layers_lie_over_the_result_and_are_replaced(shown):
    viewer, _, _, layers = shown
    for one in layers:
        one.translate = (3, 5)
    this = checked(viewer, layers[0])
    for _ in range(2):
        layer = place(viewer, this, "residual", np.zeros((SIZE - 8, SIZE - 8), np.float32), {0: 4, 1: 4})
    assert len(viewer.layers) == 1 + len(layers) + 1
    assert np.allclose(layer.data_to_world((0, 0)), layers[0].data_to_world((4, 4)))
    assert layer.units == layers[0].units
    assert tuple(layer.contrast_limits) == (-LARGEST, LARGEST)
    for explained in (layer, layers[2]):
        assert explained.colorbar.visible if hasattr(layer, "colorbar") else True
    assert companion(viewer, this, "residual") is layer
    assert checked(viewer, layer).same(this)


def test_a_result_may_be_deleted_while_something_is_made_of_it(shown):
    viewer, _, _, layers = shown
    this = checked(viewer, layers[0])
    viewer.layers.clear()
    layer = place(viewer, this, "Wiener", np.ones((SIZE, SIZE), np.float32), {})
    assert list(viewer.layers) == [layer]


def test_the_overlay_is_clear_where_the_latent_image_is_sure(shown):
    viewer, _, _, layers = shown
    layer = place(viewer, checked(viewer, layers[0]), "doubt", np.zeros((SIZE, SIZE), np.float32), {})
    assert np.allclose(layer.colormap.map([0, 0.5, 1])[:, 3], [0, 0.5, 1], atol=0.01)


def test_the_std_map_and_what_would_hide_it_are_seen_one_at_a_time(shown):
    viewer, _, _, (latent, _, std) = shown
    this = checked(viewer, latent)
    assert not std.visible
    doubt = place(viewer, this, "doubt", np.zeros((SIZE, SIZE), np.float32), {})
    for quantity, seen in (("std", std), ("doubt", doubt)):
        show_alone(viewer, this, quantity)
        assert [layer for layer in (std, doubt) if layer.visible] == [seen]
    show_alone(viewer, this, "std")
    residual = place(viewer, this, "residual", np.zeros((SIZE, SIZE), np.float32), {})
    assert [layer for layer in (std, doubt, residual) if layer.visible] == [residual]
    assert latent.visible


def test_an_exported_psf_comes_back_with_its_pixel_size(shown, tmp_path):
    viewer, source, result, layers = shown
    path = outcome(exporting(checked(viewer, layers[0]), (), tmp_path / "beads.tif"))
    assert path.name == "beads.ome.tif"
    assert read(path).spacing == {axis: (pytest.approx(0.1), "micrometer") for axis in "YX"}
    layer = outcome(opening(path))
    assert np.array_equal(layer.data, result.psf)
    assert np.allclose(layer.scale, 0.1)
    assert not other_pixels(layer, source)
    source.scale = (0.1, 0.2)
    assert "0.2 micrometer" in other_pixels(layer, source)


def test_a_psf_from_a_file_without_units_lies_beside_the_image_with_its_pixels(shown, tmp_path):
    _, source, _, (_, estimated, _) = shown
    write_ome_tiff(tmp_path / "beads.ome.tif", gaussian_psf(WINDOW, 1.0), "YX")
    layer = outcome(opening(tmp_path / "beads.ome.tif"))
    put_beside(layer, source)
    assert (layer.units, layer.extent.world.tolist()) == (source.units, estimated.extent.world.tolist())
    assert not other_pixels(layer, source)


def test_a_psf_keeps_the_pixels_that_its_file_says(shown, tmp_path):
    _, source, _, _ = shown
    spacing = dict.fromkeys("YX", (0.2, "micrometer"))
    write_ome_tiff(tmp_path / "beads.ome.tif", gaussian_psf(WINDOW, 1.0), "YX", spacing=spacing)
    layer = outcome(opening(tmp_path / "beads.ome.tif"))
    put_beside(layer, source)
    assert np.allclose(layer.scale, 0.2)
    assert layer.translate[1] > source.extent.world[1, 1]
    assert "0.1 micrometer" in other_pixels(layer, source)


# In the panel


@pytest.fixture
def panel(make_napari_viewer, qtbot, blurred):
    """The panel beside a viewer with a result, with a worker that is waited for."""
    viewer = make_napari_viewer()
    panel = DeconvolutionWidget(viewer)
    qtbot.addWidget(panel)
    panel.device.value = "cpu"
    source = viewer.add_image(blurred, name="cells", **UM)
    result = made(blurred)
    layers = add_to_viewer(viewer, source, result)
    panel.check.end(result, source, layers[0])
    yield panel
    panel.check.quit()
    qtbot.waitUntil(lambda: not WorkerBase._worker_set)


def wait(panel, qtbot):
    qtbot.waitUntil(lambda: panel.check._job is None and not panel.check.work.doing, timeout=60_000)
    qtbot.waitUntil(lambda: not WorkerBase._worker_set)


@pytest.mark.needs_gl
def test_the_command_of_the_menu_checks_the_active_result(make_napari_viewer, blurred):
    viewer = make_napari_viewer()
    source = viewer.add_image(blurred, name="cells", **UM)
    latent, *_ = add_to_viewer(viewer, source, made(blurred))
    viewer.layers.selection.active = latent
    open_check(viewer)
    (panel,) = (dock.widget() for dock in viewer.window._qt_window.findChildren(QDockWidget)
                if isinstance(dock.widget(), DeconvolutionWidget))  # fmt: skip
    assert panel.tabs.currentWidget() is panel.check
    assert panel.check.subject.latent is latent


@pytest.mark.needs_gl
def test_the_tab_judges_and_sets_the_window(panel, qtbot):
    check = panel.check
    assert check.psf.use_window.isHidden()
    check.judge([()])
    wait(panel, qtbot)
    verdict = check.found[()].diagnosis.verdict
    assert check.verdict.answer.text() == verdict.answer
    assert all(reason in check.verdict.reasons.text() for reason in verdict.reasons)
    assert "µm" in check.psf.facts.values["FWHM"].text()
    assert not check.veil.isHidden()
    check.std.click()
    assert panel._viewer.layers["cells std"].visible
    check.psf.wavelength.setValue(520)
    check.psf.na.setValue(1.3)
    assert "0.206" in check.psf.facts.values["by diffraction"].text()
    check.psf.na.setValue(0.1)  # what was found would be narrower than can be
    assert "narrower" in check.psf.facts.values["by diffraction"].text()
    assert check.verdict.answer.text() != "good"
    assert "narrower than diffraction allows" in check.verdict.reasons.text()
    check.psf.na.setValue(1.3)
    assert check.verdict.reasons.text() == "\n".join(verdict.reasons)
    panel.form.basic["psf_shape"].value = (31, 31)
    check.work.use_window((11, 13))
    assert panel.form.value.psf_shape == (11, 13)


@pytest.mark.needs_gl
def test_a_pixel_size_is_asked_for_where_the_layer_says_none(panel, qtbot, tmp_path):
    check, psf = panel.check, panel.check.psf
    assert psf.pixel.isHidden()  # the layer has units
    for layer in panel._viewer.layers:
        layer.units = ("pixel", "pixel")
    check.refresh()
    assert not psf.pixel.isHidden()
    check.judge([()])
    wait(panel, qtbot)
    psf.wavelength.setValue(520)
    psf.na.setValue(1.3)
    assert "pixel size" not in {name for name, label in psf.facts.values.items() if not label.isHidden()}
    assert "µm" not in psf.facts.values["FWHM"].text()
    assert "pixel size" in psf.facts.values["by diffraction"].text()
    psf.pixel.setValue(65)
    check.judge([()])
    wait(panel, qtbot)
    found = check.found[()].psf
    assert found.physical.fwhm == pytest.approx([0.065 * width for width in found.pixels.fwhm])
    assert "µm" in psf.facts.values["FWHM"].text()
    assert "0.206" in psf.facts.values["by diffraction"].text()
    written = outcome(exporting(check.subject, (), tmp_path / "psf.ome.tif"))
    assert read(written).spacing["X"] == (pytest.approx(0.065), "micrometer")


@pytest.mark.needs_gl
def test_what_is_found_is_never_seen_squeezed(panel, qtbot):
    check = panel.check
    panel.tabs.setCurrentWidget(check)
    with qtbot.waitExposed(panel):
        panel.show()
    wait(panel, qtbot)
    before = check.psf.height()
    check.judge([()])
    wait(panel, qtbot)
    found = dict(check.found)
    check.found.clear()
    check._show()
    assert check.psf.height() <= before
    check.found.update(found)
    check._show()  # no event is seen until the end
    assert check.psf.height() >= check.psf.minimumSizeHint().height() > before


@pytest.mark.needs_gl
def test_the_residual_of_a_run_is_that_of_its_reblurred_image(panel, qtbot):
    check = panel.check
    panel._viewer.layers.selection.active = check.subject.source
    panel.form.value = TINY
    panel.run.native.click()
    qtbot.waitUntil(lambda: panel._session is None, timeout=60_000)
    assert check.subject.result.reblurred is not None
    check.residual.click()
    wait(panel, qtbot)
    assert companion(panel._viewer, check.subject, "residual").data.shape == (SIZE, SIZE)


@pytest.mark.needs_gl
def test_a_picture_shows_the_point_spread_function_enlarged(qapp):
    picture = Picture()
    psf = np.zeros((5, 11))
    psf[1, 7] = 0.5
    picture.show_psf(psf)
    shown = picture.pixmap().toImage()
    assert (shown.width(), shown.height()) == (11 * 11, 11 * 5)
    bright, dark = shown.pixelColor(7 * 11 + 5, 1 * 11 + 5), shown.pixelColor(2, 2)
    assert bright.lightness() > 2 * dark.lightness()
    assert "5 x 11 pixels" in picture.toolTip()
    picture.show_psf(np.zeros((3, 501)))
    assert picture.pixmap().width() == ENLARGED


@pytest.mark.needs_gl
def test_the_list_of_planes_and_the_sliders_follow_each_other(panel, qtbot, blurred):
    check, viewer = panel.check, panel._viewer
    stack = np.stack([blurred, blurred[::-1]])
    source, result = viewer.add_image(stack, name="stack"), made(stack, "ZYX")
    layers = add_to_viewer(viewer, source, result)
    viewer.layers.selection.active = layers[1]
    assert check.subject.title == "stack"
    viewer.dims.set_point(0, 0)
    assert check.planes.currentRow() == 0
    viewer.dims.set_point(0, 1)
    assert (check.planes.currentRow(), check.index) == (1, (1,))
    check.planes.setCurrentRow(0)
    assert (viewer.dims.point[0], check.index) == (0, (0,))
    check.judge_all.click()
    wait(panel, qtbot)
    for row, index in enumerate(result_indices := check.subject.planes.indices):
        assert check.found[index].diagnosis.verdict.answer in check.planes.item(row).text()
    assert len(result_indices) == 2


@pytest.mark.needs_gl
def test_of_a_blank_plane_it_is_said_that_nothing_was_estimated(panel, qtbot, blurred):
    check, viewer = panel.check, panel._viewer
    stack = np.stack([np.full_like(blurred, 7), blurred])
    source = viewer.add_image(stack, name="stack")
    result = deconvolution.deconvolve(stack, TINY, axes="ZYX", device="cpu")
    layers = add_to_viewer(viewer, source, result)
    viewer.layers.selection.active = layers[0]
    viewer.dims.set_point(0, 0)
    check.judge_all.click()
    wait(panel, qtbot)
    blank, other = (check.found[index].diagnosis.verdict for index in ((0,), (1,)))
    assert (blank.answer, check.verdict.answer.text()) == ("blank", "blank")
    assert other.answer != "blank"
    assert "Nothing was estimated" in check.verdict.reasons.text()
    assert check.planes.item(0).text() == "Z=0: blank"
    assert check.calibrated.text() == texts.NO_DOUBT
    assert not check.psf.reseed.isEnabled()
    assert check.psf.advice.isHidden()
    assert check.psf.use_window.isHidden()
    check.planes.setCurrentRow(1)
    assert check.psf.reseed.isEnabled()
    assert not check.psf.advice.isHidden()


def test_the_residual_of_a_blank_plane_is_zero(blurred):
    viewer, stack = ViewerModel(), np.stack([np.full_like(blurred, 7), blurred])
    source = viewer.add_image(stack, name="stack")
    result = deconvolution.deconvolve(stack, TINY, axes="ZYX", device="cpu")
    found, _ = outcome(residuals(checked(viewer, add_to_viewer(viewer, source, result)[0])))
    assert not found[0].any()
    assert np.isfinite(found[1]).all()
    assert found[1].any()


@pytest.mark.needs_gl
def test_a_run_that_takes_the_layers_over_has_no_verdict_yet(panel):
    check = panel.check
    latent = check.subject.latent
    latent.metadata = {KEY: {**latent.metadata[KEY], "stopped": "running"}}
    check.look()
    assert check.subject is None
    assert check.residual.isHidden()


@pytest.mark.needs_gl
def test_buttons_add_layers_and_side_by_side_is_undone(panel, qtbot):
    check = panel.check
    viewer = panel._viewer
    before = {layer: layer.visible for layer in viewer.layers}
    viewer.layers["cells"].name_overlay.visible = True  # somebody's wish
    camera = camera_of(viewer)
    camera.zoom, camera.center = 33.0, (0, 1.5, 4.25)
    for button in (check.residual, check.doubt, check.compare):
        assert not grid_of(viewer).enabled
        button.click()
        assert not button.isEnabled()
        wait(panel, qtbot)
    names = [layer.name for layer in viewer.layers]
    assert names[4:] == ["cells residual", "cells doubt", "cells Richardson-Lucy", "cells Wiener"]
    viewer.layers.remove("cells Wiener")
    check.compare.click()  # once more, with the others side by side already
    wait(panel, qtbot)
    assert check.beside.isChecked()
    assert grid_of(viewer).enabled
    shown = [layer.name for layer in viewer.layers if layer.visible]
    assert shown == ["cells", "cells latent", "cells Richardson-Lucy", "cells Wiener"]
    assert [layer.name for layer in viewer.layers if layer.name_overlay.visible] == shown
    grid_of(viewer).enabled = False
    assert not check.beside.isChecked()
    assert {layer: layer.visible for layer in before} == before
    assert (camera.zoom, camera.center) == (33.0, (0, 1.5, 4.25))
    assert [layer.name for layer in viewer.layers if layer.name_overlay.visible] == ["cells"]


@pytest.mark.needs_gl
def test_a_check_and_a_run_do_not_compute_at_once(panel, qtbot):
    check = panel.check
    panel.form.value = TINY.replace(steps=100_000)
    panel._tell("said before", 0, 1)
    check.judge([()])
    assert not panel.run.enabled
    assert not panel.batch.run.isEnabled()
    assert panel.status.value == "said before\nRun waits while Check computes."
    wait(panel, qtbot)
    assert panel.status.value == "said before"
    panel.run.native.click()
    check.found.clear()
    check.judge([()])
    assert not check.busy
    assert check.doing.text() == "Nothing is judged while a run computes."
    assert not any(button.isEnabled() for button in (check.residual, check.compare, check.psf.reseed))
    panel._session.quit()
    qtbot.waitUntil(lambda: panel._session is None, timeout=60_000)
    assert check.doing.isHidden()
    assert check.residual.isEnabled()
    check.judge([()])
    assert check.busy
    wait(panel, qtbot)


@pytest.mark.needs_gl
def test_errors_are_said_and_deleted_layers_are_survived(panel, qtbot):
    check, viewer = panel.check, panel._viewer
    check.work.open_psf(Path("/nowhere.tif"))
    wait(panel, qtbot)
    assert "nowhere" in notification_manager.records[-1].message
    check.compare.click()
    viewer.layers.clear()
    wait(panel, qtbot)
    assert check.subject is None
    assert not check.residual.isVisibleTo(check)


@pytest.mark.needs_gl
def test_a_psf_from_a_file_is_given_to_the_next_run(panel, qtbot, tmp_path):
    check = panel.check
    path = outcome(exporting(check.subject, (), tmp_path / "beads.ome.tif"))
    check.work.open_psf(path)
    wait(panel, qtbot)
    assert panel.inputs.psf.value.name == "beads"
    assert panel.inputs.psf.value.translate[1] > check.subject.source.extent.world[1, 1]
    assert panel.inputs.image.value.name == "cells"
    assert panel.form.value.psf_source == "given"
