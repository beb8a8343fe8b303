"""The panel, in a real viewer."""

import time
from dataclasses import fields, replace
from typing import get_args

import numpy as np
import pytest
from magicgui.widgets import FloatSpinBox
from napari.layers import Shapes
from napari.utils import progress
from napari.utils.notifications import notification_manager
from napari.utils.theme import get_theme
from qtpy.QtGui import QMovie
from qtpy.QtWidgets import QLabel
from superqt import QCollapsible
from superqt.utils import WorkerBase

import napari_vdip.deconvolution
from napari_vdip import Settings, deconvolve
from napari_vdip._layers import KEY
from napari_vdip._panel_controls import ADD, REPLACE
from napari_vdip._provenance import Recipe
from napari_vdip._session import DRAWN_AFTER, LONGEST_WAIT, SHOWN_SHARE
from napari_vdip._settings_form import AUTOMATIC, CHANGED, FIXED, SWITCHES, SettingsForm
from napari_vdip._view import camera_of, canvas_size
from napari_vdip.psf_window import larger_window
from napari_vdip.settings import METHODS, PRESETS, PsfSource

pytestmark = [pytest.mark.needs_gl, pytest.mark.usefixtures("few_solver_steps")]

QUICK = Settings(psf_shape=7, steps=3, refinements=1, samples=2, widths=(4,) * 5)
ENDLESS = QUICK.replace(steps=100_000)
RESULTS = ["spots latent", "spots PSF", "spots std"]


def spots(*shape):
    return np.random.default_rng(0).poisson(5, shape or (40, 48)).astype(np.float32)


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


@pytest.fixture
def panel(viewer, qtbot):
    """The panel as napari docks it, with quick settings. A run that outlives the test fails it."""
    _, panel = viewer.window.add_plugin_dock_widget("napari-vdip", "Blind deconvolution")
    panel.form.value = QUICK
    panel.device.value = "cpu"
    yield panel
    assert not [worker for worker in WorkerBase._worker_set if worker.is_running]
    qtbot.waitUntil(lambda: not WorkerBase._worker_set)


@pytest.fixture
def go(panel, qtbot):
    """Press Run, and wait until the run is over."""

    def go():
        panel.run.native.click()
        end(panel, qtbot)

    return go


@pytest.fixture
def running(panel, viewer, qtbot):
    """A run that does not end by itself, after its first report."""
    source = viewer.add_image(spots(), name="spots")
    panel.form.value = ENDLESS
    panel.run.native.click()
    qtbot.waitUntil(lambda: "spots PSF" in names(viewer), timeout=30_000)
    yield source
    if WorkerBase._worker_set:
        panel.stop.native.click()
        end(panel, qtbot)


def end(panel, qtbot):
    qtbot.waitUntil(lambda: panel._session is None, timeout=60_000)
    qtbot.waitUntil(lambda: not WorkerBase._worker_set)


def pause(panel, qtbot):
    """Press Pause, and wait for the sign of life of a worker that pauses."""
    worker = panel._session._worker
    with qtbot.waitSignal(worker.yielded, check_params_cb=lambda report: report is None):
        panel.pause.native.click()


def names(viewer):
    return [layer.name for layer in viewer.layers]


def ready(panel):
    return panel.run.enabled and not panel.pause.enabled and not panel.stop.enabled


def failing(error):
    """Make a stand-in for `run` that fails at its first step."""

    def run(*args, **kwargs):
        raise error
        yield

    return run


# The form


def test_every_field_has_a_widget_with_the_fields_help(qapp):
    form = SettingsForm()
    widgets = {**form.basic, **form.advanced}
    assert widgets.keys() | SWITCHES == {item.name for item in fields(Settings)}
    for item in fields(Settings):
        about = widgets.get(item.name, form.method).tooltip
        assert item.metadata["help"] in about


@pytest.mark.parametrize(
    ("preset", "method"),
    [
        (preset, method)
        for preset in PRESETS
        for method in METHODS
        if PRESETS[preset].get("steps", 1) or method == "VDIP-Sparse"  # others need networks
    ],
)
def test_settings_come_out_of_the_form_as_they_went_in(qapp, preset, method):
    settings = Settings.preset(preset, psf_shape=(9, 13), channels="joint", seed=5, **METHODS[method])
    form = SettingsForm()
    form.value = settings
    assert form.value == settings


def test_fine_values_come_out_of_the_form_to_the_last_digit(qapp):
    form, stepped = SettingsForm(), {"bound_until": 0.123456789, "pooling": 0.3333}
    assert all(isinstance(form.advanced[name], FloatSpinBox) for name in stepped)
    form.value = Settings(**stepped)
    assert form.value == Settings(**stepped)
    shown = form.advanced["pooling"].native.text()
    form.value = Settings()
    assert form.value == Settings()
    assert len(form.advanced["pooling"].native.text()) < len(shown)


def test_the_form_refuses_a_source_of_the_psf_that_the_method_cannot_take(qapp):
    form = SettingsForm()
    assert form.basic["psf_source"].choices == get_args(PsfSource)
    form.basic["psf_source"].value = "channel"
    assert form.value == Settings(psf_source="channel")
    form.method.value = "DIP"
    with pytest.raises(ValueError, match="psf_source: expected 'plane'"):
        _ = form.value


def test_an_untouched_form_gives_the_default(qapp):
    assert SettingsForm().value == Settings()


def test_a_preset_fills_the_advanced_fields_only(qapp):
    form = SettingsForm()
    form.value = Settings(psf_shape=9, prior="none")
    form.preset.value = "paper"
    assert form.value == Settings.paper(psf_shape=9, prior="none")
    form.preset.value = "default"
    assert form.value == Settings(psf_shape=9, prior="none")


def test_the_preset_is_the_one_that_is_in_the_fields(qapp):
    form = SettingsForm()
    assert form.preset.value == "default"
    for settings, name in ((Settings.paper(psf_shape=9), "paper"), (Settings(steps=77), CHANGED)):
        form.value = settings
        assert form.preset.value == name
    form.preset.value = "default"
    assert form.value == Settings()
    form.advanced["widths"].native.setText("(16, 32")
    form.advanced["steps"].value = 5000
    assert form.preset.value == CHANGED
    form.preset.value = "default"
    form.preset.value = CHANGED  # it says what is so, and cannot be chosen
    assert (form.preset.value, form.value) == ("default", Settings())


def test_what_would_be_refused_is_said_when_it_is_chosen(viewer, panel):
    form = panel.form
    for box, wrong, right in (
        (form.basic["psf_source"], "channel", "plane"),
        (form.advanced["steps"], 0, None),
    ):
        panel.form.value = Settings(prior="none")
        box.value = wrong
        assert "VDIP-Sparse" in panel.status.value
        box.value = right
        assert panel.status.value == ""


def test_what_is_not_a_number_is_refused_by_name(qapp):
    form = SettingsForm()
    form.advanced["widths"].native.setText("(16, 32")
    with pytest.raises(ValueError, match="widths: expected numbers"):
        _ = form.value


# What is chosen


def test_the_active_image_is_chosen_and_its_axes_are_guessed(viewer, panel):
    assert panel.inputs.image.value is None
    assert not panel.run.enabled
    stack = viewer.add_image(spots(6, 40, 48))
    assert (panel.inputs.image.value, panel.inputs.axes.value, panel.inputs.planes.enabled) == (
        stack,
        "ZYX",
        True,
    )
    photo = viewer.add_image(spots(40, 48, 3) / 30, rgb=True)
    assert (panel.inputs.image.value, panel.inputs.axes.value, panel.inputs.planes.enabled) == (
        photo,
        "YXC",
        False,
    )
    assert panel.form.basic["channels"].value == "joint"
    viewer.layers.selection.active = stack
    assert panel.inputs.image.value == stack
    assert panel.form.basic["channels"].value == "separate"
    viewer.add_points(np.zeros((1, 2)))
    assert panel.inputs.image.value == stack


def test_renaming_keeps_the_choice_and_the_corrected_axes(viewer, panel):
    viewer.add_image(spots(), name="other")
    stack = viewer.add_image(spots(6, 40, 48), name="stack")
    panel.inputs.axes.value = "TYX"
    stack.name = "renamed"
    assert (panel.inputs.image.value, panel.inputs.axes.value) == (stack, "TYX")
    viewer.layers.remove(stack)
    assert (panel.inputs.image.value.name, panel.inputs.axes.value) == ("other", "YX")
    viewer.layers.clear()
    assert panel.inputs.image.value is None
    assert not panel.run.enabled


def test_corrected_axes_are_those_of_their_image(viewer, panel):
    first = viewer.add_image(spots(6, 40, 48))
    panel.inputs.axes.value = "TYX"
    second = viewer.add_image(spots(5, 40, 48))
    assert panel.inputs.axes.value == "ZYX"
    viewer.layers.selection.active = first
    assert panel.inputs.axes.value == "TYX"
    panel.inputs.axes.value = "ZYX"
    viewer.layers.selection.active = second
    first.axis_labels = ("t", "y", "x")  # a guess is made anew
    viewer.layers.selection.active = first
    assert panel.inputs.axes.value == "TYX"


def test_what_is_only_to_be_read_has_a_tooltip_too(panel):
    for widget in (panel.progress, panel.status):
        assert widget.tooltip
    for widget in (panel.course.plot, panel.course.chosen):
        assert widget.toolTip()


def test_tab_goes_to_nothing_that_is_folded(panel):
    advanced = panel.form.advanced["steps"].native
    assert not advanced.isVisibleTo(panel)
    button = panel.findChild(QCollapsible).toggleButton()
    button.click()
    assert advanced.isVisibleTo(panel)
    button.click()
    assert not advanced.isVisibleTo(panel)


# A run


def test_a_run_gives_what_the_function_gives(viewer, panel, go):
    data = spots()
    viewer.add_image(data, name="spots", scale=(0.2, 0.2), units=("um", "um"))
    go()
    assert names(viewer) == ["spots", *RESULTS]
    expected = deconvolve(data, QUICK, device="cpu")
    for layer, array in zip(viewer.layers[1:], (expected.latent, expected.psf, expected.std), strict=True):
        assert np.allclose(layer.data, array, rtol=1e-4, atol=1e-5)
        assert layer.units == viewer.layers[0].units
    made = viewer.layers[1].metadata[KEY]
    assert Settings(**made["settings"]) == QUICK
    assert (made["stopped"], made["device"]) == ("finished", "cpu")
    assert np.array_equal(viewer.layers[0].data, spots())
    assert viewer.layers.selection.active == viewer.layers[0]
    assert panel.status.value.startswith("finished")
    assert ready(panel)


def test_the_layers_change_while_it_runs(viewer, panel, running, qtbot):
    first = viewer.layers["spots latent"].data.copy()
    changed = lambda: not np.array_equal(viewer.layers["spots latent"].data, first)  # noqa: E731
    qtbot.waitUntil(changed, timeout=30_000)  # a busy machine may take its time
    assert panel._session is not None
    assert panel.stop.enabled
    assert not panel.run.enabled
    for word in ("step", "search", "left", "objective"):
        assert word in panel.status.value


def test_a_slow_window_is_told_less_often(viewer, panel, running, qtbot, monkeypatch):
    session, waits = panel._session, []
    qtbot.waitUntil(session._rested.isActive, timeout=30_000)
    pause(panel, qtbot)
    monkeypatch.setattr(session._rested, "start", waits.append)
    for seconds in (0.0, 0.1, 100.0):
        session._shown_since = time.perf_counter() - DRAWN_AFTER - seconds
        session._on_drawn()
    assert waits[0] < 100
    assert 1000 * 0.1 / SHOWN_SHARE <= waits[1] < 1000 * LONGEST_WAIT == waits[2]


def test_nothing_moves_in_the_window_while_it_runs(viewer, panel, running, qtbot):
    movies = [label.movie() for label in panel.window().findChildren(QLabel) if label.movie()]
    assert movies  # napari's sign that something is in progress
    assert not [movie for movie in movies if movie.state() == QMovie.MovieState.Running]


def test_it_pauses_and_goes_on(viewer, panel, running, qtbot):
    worker, heard = panel._session._worker, []
    pause(panel, qtbot)
    assert panel.pause.text == "Resume"
    worker.yielded.connect(heard.append)
    qtbot.waitUntil(lambda: len(heard) == 2)
    assert heard == [None, None]
    reported = lambda report: report is not None  # noqa: E731
    with qtbot.waitSignal(worker.yielded, timeout=30_000, check_params_cb=reported):
        panel.pause.native.click()
    assert panel.pause.text == "Pause"


@pytest.mark.parametrize("paused", [False, True])
def test_stopping_keeps_the_estimate(viewer, panel, running, qtbot, paused):
    if paused:
        with qtbot.waitSignal(
            panel._session._worker.yielded, check_params_cb=lambda report: report is None
        ):
            panel.pause.native.click()
    panel.stop.native.click()
    end(panel, qtbot)
    assert names(viewer) == ["spots", *RESULTS]
    assert all(np.isfinite(layer.data).all() for layer in viewer.layers)
    assert viewer.layers["spots std"].metadata[KEY]["stopped"] == "stopped by the user"
    assert ready(panel)


def test_cancel_in_the_activity_dock_stops_and_keeps(viewer, panel, running, qtbot):
    (bar,) = progress._all_instances
    bar.cancel()
    assert panel.status.value.startswith("stopping")
    assert not panel.stop.enabled
    end(panel, qtbot)
    assert names(viewer) == ["spots", *RESULTS]
    assert not progress._all_instances


@pytest.mark.parametrize("method", ["DIP", "DIP-Extreme", "VDIP-Extreme"])
def test_only_variational_methods_have_a_std_map(viewer, panel, go, method):
    viewer.add_image(spots(), name="spots")
    panel.form.method.value = method
    go()
    assert names(viewer) == ["spots", *RESULTS[: 3 if method.startswith("V") else 2]]


# What is run


def test_a_photograph_gives_a_photograph(viewer, panel, go):
    data = spots(40, 48, 4).astype(np.uint8) * 10
    viewer.add_image(data, name="spots", rgb=True)
    go()
    expected = deconvolve(data[..., :3], QUICK, channels="joint", device="cpu")
    latent = viewer.layers["spots latent"]
    assert latent.rgb
    assert np.allclose(latent.data, (expected.latent / 255).clip(0, 1), atol=1e-3)
    assert viewer.layers["spots PSF"].data.shape == (7, 7)


def test_channels_have_a_function_each_unless_they_share_one(viewer, panel, go):
    viewer.add_image(spots(2, 40, 48), name="spots")
    go()
    each = viewer.layers["spots PSF"].data
    assert each.shape == (2, 7, 7)
    assert not np.allclose(each[0], each[1])
    panel.form.basic["channels"].value = "joint"
    go()
    shared = viewer.layers["spots PSF"].data
    assert np.array_equal(shared[0], shared[1])


def test_the_plane_that_is_displayed_lands_where_it_was(viewer, panel, go):
    data = spots(5, 2, 40, 48)
    viewer.add_image(data, name="spots", scale=(2, 1, 1, 1))
    viewer.dims.set_current_step(0, 3)
    assert panel.inputs.axes.value == "ZCYX"
    go()
    latent = viewer.layers["spots latent"]
    assert latent.data.shape == (1, 2, 40, 48)
    assert np.allclose(latent.data_to_world((0, 0, 0, 0)), (6, 0, 0, 0))
    expected = deconvolve(data[3, 1], QUICK, device="cpu").latent
    assert np.allclose(latent.data[0, 1], expected, rtol=1e-4, atol=1e-4)


def test_all_planes_of_a_stack_get_the_psf_of_the_channel(viewer, panel, go):
    viewer.add_image(spots(3, 40, 48), name="spots")
    panel.form.value = QUICK.replace(psf_source="channel", refinements=2)
    panel.inputs.planes.value = "all planes"
    panel.inputs.axes.value = "ZYX"
    go()
    psfs = viewer.layers["spots PSF"].data
    assert len(psfs) == 3
    assert all(np.array_equal(psf, psfs[0]) for psf in psfs)
    assert np.isfinite(viewer.layers["spots std"].data).all()
    assert panel.progress.value == panel.progress.max


def test_all_planes_of_a_stack_are_deconvolved(viewer, panel, go):
    viewer.add_image(spots(3, 2, 40, 48), name="spots")
    panel.inputs.planes.value = "all planes"
    panel.inputs.axes.value = "TCYX"
    go()
    latent = viewer.layers["spots latent"]
    assert latent.data.shape == (3, 2, 40, 48)
    assert np.isfinite(latent.data).all()
    assert len(latent.metadata[KEY]["noise"]) == 6


def test_blank_planes_of_a_stack_pass_through_and_are_named(viewer, panel, go):
    stack = spots(3, 40, 48)
    stack[1] = 4
    viewer.add_image(stack, name="spots")
    panel.inputs.planes.value = "all planes"
    panel.inputs.axes.value = "ZYX"
    go()
    assert panel.status.value.startswith("finished after")
    assert panel.status.value.endswith(", blank: Z=1")
    latent = viewer.layers["spots latent"]
    assert (latent.data[1] == 4).all()
    assert np.isfinite(latent.data).all()
    assert latent.metadata[KEY]["blank"] == [[1]]
    assert panel.course.curves[(1,)].stages == ["blank"]
    assert ready(panel)


def test_a_second_run_takes_the_layers_over_or_adds_new_ones(viewer, panel, go):
    viewer.add_image(spots(), name="spots")
    go()
    first = list(viewer.layers)
    viewer.layers["spots latent"].colormap = "green"
    before = viewer.layers["spots latent"].data
    panel.form.advanced["refinements"].value = 2
    go()
    assert list(viewer.layers) == first
    assert viewer.layers["spots latent"].colormap.name == "green"
    assert not np.array_equal(viewer.layers["spots latent"].data, before)
    panel.earlier.value = "add to earlier ones"
    go()
    assert len(viewer.layers) == 7


def test_layers_that_are_taken_over_move_and_vanish_with_the_result(viewer, panel, go):
    source = viewer.add_image(spots(5, 40, 48), name="spots")
    viewer.dims.set_current_step(0, 3)
    go()
    viewer.dims.set_current_step(0, 1)
    source.rotate, source.units = 30, ("s", "um", "um")
    panel.form.method.value = "DIP"
    go()
    assert names(viewer) == ["spots", "spots latent", "spots PSF"]
    latent = viewer.layers["spots latent"]
    assert np.allclose(latent.data_to_world((0, 4, 5)), source.data_to_world((1, 4, 5)))
    assert latent.units == source.units


def test_functions_that_become_separate_get_a_layer_of_colours(viewer, panel, go):
    viewer.add_image(spots(40, 48, 3).astype(np.uint8), name="spots", rgb=True)
    go()
    assert not viewer.layers["spots PSF"].rgb
    panel.form.basic["channels"].value = "separate"
    go()
    assert viewer.layers["spots PSF"].rgb
    assert sorted(names(viewer)) == sorted(["spots", *RESULTS])


# Regions, trials and point spread functions


def test_a_shape_is_deconvolved_where_it_lies(viewer, panel, go):
    data = spots(60, 70)
    source = viewer.add_image(data, name="spots", scale=(2, 0.5), rotate=30, shear=[0.2])
    corners = source.data_to_world((10, 20)), source.data_to_world((44, 59))
    shapes = Shapes(scale=source.scale, translate=source.translate, rotate=30, shear=[0.2], name="where")
    shapes.add_rectangles([np.array([[9.6, 19.6], [44.4, 59.4]])])
    viewer.add_layer(shapes)
    panel.inputs.region.value = shapes
    go()
    latent = viewer.layers["spots latent"]
    assert latent.data.shape == (35, 40)
    for pixel, corner in zip([(0, 0), (34, 39)], corners, strict=True):
        assert np.allclose(latent.data_to_world(pixel), corner)
    expected = deconvolve(data, QUICK, region=((10, 45), (20, 60)), device="cpu")
    assert np.allclose(latent.data, expected.latent, rtol=1e-4, atol=1e-4)
    assert latent.metadata[KEY]["region"] == ((10, 45), (20, 60))


def test_an_empty_shapes_layer_is_said(viewer, panel):
    viewer.add_image(spots(), name="spots")
    panel.inputs.region.value = viewer.add_shapes(name="where")
    panel.run.native.click()
    assert "expected a shape in 'where'" in notification_manager.records[-1].message
    assert ready(panel)


def test_a_trial_is_small_in_the_middle_of_the_view_and_the_next_replaces_it(
    viewer, panel, qtbot, monkeypatch
):
    monkeypatch.setattr("napari_vdip._input_form.LONGEST_TRIAL", 36)
    source = viewer.add_image(spots(96, 100), name="spots")
    panel.form.advanced["samples"].value = 9
    camera = camera_of(viewer)
    for centre in ((44.5, 47.5), (56.5, 33.5)):
        camera.center, camera.zoom = centre, np.max(canvas_size(viewer)) / 64
        look = camera.center, camera.zoom
        panel.try_out.native.click()
        end(panel, qtbot)
        assert (camera.center, camera.zoom) == look
        assert names(viewer) == ["spots", "spots trial latent", "spots trial PSF", "spots trial std"]
        latent = viewer.layers["spots trial latent"]
        assert max(latent.data.shape) == 36
        assert latent.metadata[KEY]["settings"]["samples"] == 2
        middle = np.divide(latent.data.shape, 2) - 0.5
        assert np.abs(source.world_to_data(latent.data_to_world(middle)) - centre).max() <= 1


def test_the_psf_of_a_trial_is_kept_for_the_run_and_outlives_the_next_trial(viewer, panel, go, qtbot):
    data = spots(60, 64)
    viewer.add_image(data, name="spots")
    panel.try_out.native.click()
    assert not panel.use_psf.enabled
    end(panel, qtbot)
    panel.use_psf.native.click()
    kept = viewer.layers["spots PSF from trial"]
    psf = kept.data.copy()
    assert (panel.form.basic["psf_source"].value, panel.inputs.psf.value) == ("given", kept)
    go()
    expected = deconvolve(data, QUICK, psf=psf, device="cpu")
    assert np.allclose(viewer.layers["spots latent"].data, expected.latent, rtol=1e-4, atol=1e-4)
    assert np.allclose(viewer.layers["spots PSF"].data, psf, atol=1e-6)
    panel.form.basic["psf_source"].value = "plane"
    panel.try_out.native.click()
    end(panel, qtbot)
    assert np.array_equal(kept.data, psf)


def test_the_psf_of_a_trial_is_not_offered_to_a_method_that_cannot_take_it(viewer, panel, qtbot):
    viewer.add_image(spots(60, 64), name="spots")
    panel.try_out.native.click()
    end(panel, qtbot)
    for method, refinements in [*((method, 1) for method in METHODS), ("VDIP-Sparse", 0)]:
        panel.form.method.value = method
        panel.form.advanced["refinements"].value = refinements
        offered = panel.use_psf.enabled
        assert ("choose these" in panel.use_psf.tooltip) != offered
        panel.form.basic["psf_source"].value = "given"
        assert (panel.form.problem == "") == offered
        panel.form.basic["psf_source"].value = "plane"


@pytest.mark.parametrize("earlier", [REPLACE, ADD])
def test_an_automatic_window_grows_until_it_holds_the_psf_or_half_the_image(
    viewer, panel, go, qtbot, earlier
):
    source = viewer.add_image(spots(40, 48), name="spots")
    panel.form.value = QUICK.replace(psf_shape=3)  # most of whose pixels are its border
    panel.earlier.value = earlier
    panel.form.window.value = AUTOMATIC
    panel.run.native.click()
    viewer.add_image(spots(), name="another")  # is chosen for the next run, not for this one
    qtbot.waitUntil(lambda: ready(panel) and not WorkerBase._worker_set, timeout=60_000)
    assert panel.inputs.image.value.name == "another"
    psf, window = viewer.layers["spots PSF"].data, panel.form.value.psf_shape
    assert psf.shape == window
    assert min(window) > 3
    assert max(window) <= 24
    assert larger_window([psf], source.data.shape) is None
    assert sorted(names(viewer)) == sorted(["spots", "another", *RESULTS])
    assert Recipe.from_layer(viewer.layers["spots latent"]).settings.psf_shape == window


def test_a_fixed_window_and_a_run_that_is_stopped_stay_as_they_are(viewer, panel, running, go, qtbot):
    panel.form.window.value = AUTOMATIC
    panel.stop.native.click()
    end(panel, qtbot)
    assert panel.form.value.psf_shape == ENDLESS.psf_shape
    panel.form.value = QUICK.replace(psf_shape=3)
    panel.form.window.value = FIXED
    go()
    assert panel.form.value.psf_shape == viewer.layers["spots PSF"].data.shape == (3, 3)


def test_a_window_that_the_image_has_no_room_for_is_not_asked_for(viewer, panel, go):
    viewer.add_image(spots(40, 48), name="spots")
    panel.form.value = QUICK.replace(psf_shape=23)
    panel.form.window.value = AUTOMATIC
    go()
    assert panel.form.value.psf_shape == (23, 23)


def test_a_given_psf_has_a_chooser_and_no_window_to_set(viewer, panel):
    source = viewer.add_image(spots(), name="spots")
    beads = viewer.add_image(np.ones((4, 6)), name="beads")
    viewer.layers.selection.active = source
    row = panel.inputs.psf.native
    assert row.isHidden()
    panel.form.basic["psf_source"].value = "given"
    assert not row.isHidden()
    assert panel.form.basic["psf_shape"].native.isHidden()
    assert set(panel.inputs.psf.choices) == {None, beads}
    panel.run.native.click()
    assert "expected an image layer with a point spread" in notification_manager.records[-1].message


def test_a_psf_of_a_size_of_its_own_is_taken_from_its_layer(viewer, panel, go):
    data = spots()
    beads = viewer.add_image(np.arange(24.0).reshape(4, 6), name="beads")
    viewer.add_image(data, name="spots")
    panel.form.basic["psf_source"].value = "given"
    panel.inputs.psf.value = beads
    go()
    expected = deconvolve(data, QUICK, psf=beads.data, device="cpu")
    assert np.allclose(viewer.layers["spots PSF"].data, expected.psf)
    assert np.allclose(viewer.layers["spots latent"].data, expected.latent, rtol=1e-4, atol=1e-4)


# The course


def test_the_course_is_that_of_the_result(viewer, panel, go):
    data = spots()
    viewer.add_image(data, name="spots")
    go()
    (history,) = deconvolve(data, QUICK, device="cpu").history
    curves = panel.course.curves[()]
    assert len(curves.stages) == len(history["stage"])
    assert np.allclose(curves.terms["loss"], history["loss"], rtol=1e-4, equal_nan=True)
    assert curves.residual[-1] == pytest.approx(viewer.layers[1].metadata[KEY]["noise"][0])


def test_earlier_estimates_are_shown_in_a_pause_and_the_next_report_puts_back(
    viewer, panel, running, qtbot
):
    assert not panel.course.slider.isEnabled()
    pause(panel, qtbot)
    qtbot.waitUntil(panel.course.slider.isEnabled)
    latest = viewer.layers["spots latent"].data.copy()
    panel.course.slider.setValue(0)
    first = viewer.layers["spots latent"]
    assert np.array_equal(first.data[..., None], panel.course.iterates[0].latent)
    assert first.metadata[KEY]["iterate"][0]["step"] == panel.course.iterates[0].step
    panel.pause.native.click()
    assert not panel.course.slider.isEnabled()
    assert np.array_equal(viewer.layers["spots latent"].data, latest)
    assert "iterate" not in viewer.layers["spots latent"].metadata[KEY]


def test_what_is_kept_in_a_pause_ends_the_run_and_is_its_result(viewer, panel, running, qtbot):
    pause(panel, qtbot)
    qtbot.waitUntil(panel.course.slider.isEnabled)
    panel.course.slider.setValue(0)
    chosen = panel.course.iterates[0]
    panel.course.keep.click()
    end(panel, qtbot)
    latent = viewer.layers["spots latent"]
    assert np.array_equal(latent.data[..., None], chosen.latent)
    assert np.array_equal(viewer.layers["spots PSF"].data, chosen.psf)
    assert names(viewer) == ["spots", "spots latent", "spots PSF"]
    made = latent.metadata[KEY]
    (iterate,) = made["iterate"]
    assert (iterate["step"], iterate["kept"]) == (chosen.step, True)
    assert made["stopped"] == "stopped by the user"


def test_every_plane_has_an_estimate_to_look_at_where_it_is_however_quick_the_run(viewer, panel, go):
    viewer.add_image(spots(3, 40, 48), name="spots")
    panel.inputs.planes.value = "all planes"
    go()
    course, latent = panel.course, viewer.layers["spots latent"]
    last = {iterate.index: number for number, iterate in enumerate(course.iterates)}
    assert list(last) == [(0,), (1,), (2,)]
    for (plane,), number in last.items():
        iterate = course.iterates[number]
        assert iterate.step == iterate.steps == len(course.curves[plane,].stages)
        assert np.array_equal(latent.data[plane], iterate.latent[..., 0])
        course.slider.setValue(number)
        assert viewer.dims.current_step[0] == plane
        assert f"step {iterate.step}" in course.chosen.text()
        course.keep.click()
    assert [shown["kept"] for shown in latent.metadata[KEY]["iterate"]] == [True] * 3
    assert "spots std" not in names(viewer)


def test_the_plot_follows_the_theme(viewer, panel):
    colours = set()
    for theme in ("light", "dark"):
        viewer.theme = theme
        colours.add(panel.course.plot.background)
        assert panel.course.plot.background == get_theme(theme).background.as_hex()
    assert len(colours) == 2


# What goes wrong


def test_wrong_input_is_said_before_any_work(viewer, panel):
    viewer.add_image(spots(), name="spots")
    panel.inputs.axes.value = "TYX"
    panel.run.native.click()
    assert "axes: expected 2 different letters" in notification_manager.records[-1].message
    panel.inputs.axes.value = "YX"
    panel.form.basic["psf_shape"].value = (8, 8)
    panel.run.native.click()
    assert "psf_shape" in notification_manager.records[-1].message
    assert names(viewer) == ["spots"]
    assert ready(panel)


OUT_OF_MEMORY = RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB.")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OUT_OF_MEMORY, "Out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "Out of memory"),
        (MemoryError(), "Out of memory"),
        (RuntimeError("cuDNN failed"), "RuntimeError: cuDNN failed"),
        (FloatingPointError("the objective was not finite"), "the objective was not finite"),
    ],
)
def test_a_failure_is_said_and_leaves_the_panel_ready(viewer, panel, go, monkeypatch, error, said):
    viewer.add_image(spots(), name="spots")
    with monkeypatch.context() as patch:
        patch.setattr(napari_vdip.deconvolution, "run", failing(error))
        go()
    assert said in notification_manager.records[-1].message
    assert said in panel.status.value
    assert names(viewer) == ["spots"]
    assert not progress._all_instances
    go()
    assert names(viewer) == ["spots", *RESULTS]


def test_a_constant_image_is_refused_by_the_core_and_keeps_earlier_results(viewer, panel, go):
    source = viewer.add_image(spots(), name="spots")
    go()
    source.data = np.ones((40, 48), np.float32)
    go()
    assert "varying intensities" in notification_manager.records[-1].message
    assert names(viewer) == ["spots", *RESULTS]
    assert ready(panel)


def test_an_objective_that_ceases_to_be_finite_is_a_warning_with_a_result(viewer, panel, go, monkeypatch):
    reason = "the objective was not finite at step 3: lower image_rate or psf_rate"

    def run(image, settings, **kwargs):
        import warnings

        result = yield from real(image, settings, **kwargs)
        warnings.warn(reason, RuntimeWarning, stacklevel=1)
        return replace(result, stopped=reason)

    real = napari_vdip.deconvolution.run
    monkeypatch.setattr(napari_vdip.deconvolution, "run", run)
    viewer.add_image(spots(), name="spots")
    go()
    assert reason in notification_manager.records[-1].message
    assert reason in panel.status.value
    assert names(viewer) == ["spots", *RESULTS]


# What the user does meanwhile


def test_layers_may_go_and_change_while_it_runs(viewer, panel, running, qtbot):
    other = viewer.add_image(spots(6, 40, 48), name="other")
    assert panel.inputs.image.value == other
    viewer.layers["spots PSF"].name = "mine"
    viewer.layers.remove("spots latent")
    viewer.layers.remove(running)
    before = panel.progress.value
    qtbot.waitUntil(lambda: panel.progress.value > before)
    assert names(viewer) == ["mine", "other"]
    panel.stop.native.click()
    end(panel, qtbot)
    assert names(viewer) == ["mine", "other", "spots latent", "spots std"]


def test_undocking_the_panel_ends_the_run(viewer, panel, running, qtbot):
    viewer.window.remove_dock_widget(panel)
    end(panel, qtbot)
    assert "spots std" not in names(viewer)


def test_a_run_ends_although_the_window_has_not_rested(viewer, panel, qtbot, monkeypatch):
    monkeypatch.setattr("napari_vdip._session.SHOWN_SHARE", 1e-9)
    monkeypatch.setattr("napari_vdip._session.LONGEST_WAIT", 1e5)
    viewer.add_image(spots(), name="spots")
    panel.form.value = ENDLESS
    panel.run.native.click()
    qtbot.waitUntil(panel._session._rested.isActive, timeout=30_000)
    viewer.window.remove_dock_widget(panel)
    end(panel, qtbot)


def test_closing_the_viewer_ends_the_run(viewer, panel, running, qtbot):
    viewer.close()
    qtbot.waitUntil(lambda: not WorkerBase._worker_set)
