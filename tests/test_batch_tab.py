"""Many files from the panel: the plan, the results and the resuming of the command line."""

import json
import shlex
import warnings

import numpy as np
import pytest
import tifffile
from superqt.utils import WorkerBase
from typer.testing import CliRunner

from napari_vdip import Settings, cost, image_file
from napari_vdip.cli import app

pytestmark = [pytest.mark.needs_gl, pytest.mark.usefixtures("few_solver_steps")]

TINY = Settings(psf_shape=5, widths=(4,) * 5, steps=2, refinements=2, samples=2, seed=3)
STATE, TIME = 1, 2


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


@pytest.fixture
def tab(viewer, tmp_path):
    """The tab as napari docks it, with quick settings and an output."""
    _, panel = viewer.window.add_plugin_dock_widget("napari-vdip", "Blind deconvolution")
    panel.form.value, panel.device.value = TINY, "cpu"
    panel.tabs.setCurrentWidget(panel.batch)
    panel.batch.what.output.setText(str(tmp_path / "out put"))
    panel.batch.panel = panel
    return panel.batch


@pytest.fixture
def folder(tmp_path):
    """Two images and what is none."""
    folder = tmp_path / "day 1"
    folder.mkdir()
    tifffile.imwrite(folder / "one.tif", noise(36, 40))
    tifffile.imwrite(folder / "stack.tif", noise(3, 36, 40), imagej=True, metadata={"axes": "TYX"})
    (folder / "text.tif").write_text("no image")
    return folder


def noise(*shape):
    return np.random.default_rng(0).poisson(50, shape).astype(np.uint16)


def run(tab, qtbot):
    tab.run.click()
    finish(tab, qtbot)


def finish(tab, qtbot):
    qtbot.waitUntil(lambda: not tab.running, timeout=60_000)
    qtbot.waitUntil(lambda: not WorkerBase._worker_set)


def column(tab, number):
    return [tab.table.item(row, number).text() for row in range(tab.table.rowCount())]


def arrays(output):
    """Read all that was written."""
    written = [path for path in sorted(output.rglob("*.ome.*")) if path.suffix in (".tif", ".zarr")]
    return {str(path.relative_to(output)): np.asarray(image_file.read(path).array) for path in written}


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    return True


def command(tab, qapp):
    """Copy the command, and run it."""
    tab.copy.click()
    words = shlex.split(qapp.clipboard().text())
    assert words[:2] == ["napari-vdip", "run"]
    return CliRunner().invoke(app, words[1:])


def test_the_tab_and_its_command_do_the_same(tab, folder, tmp_path, qtbot, qapp):
    tab.what.input.setText(str(folder))
    run(tab, qtbot)
    assert column(tab, STATE) == ["done", "done", "failed"]
    assert all(text.count(":") == 1 for text in column(tab, TIME))
    assert "not a TIFF" in tab.table.item(2, STATE).toolTip()
    assert "text.tif" in tab.table.item(2, 0).toolTip()
    assert tab.status.text() == "3 images: 2 done, 1 failed"

    ran = command(tab, qapp)  # with the same output: what the tab has done is what it would do
    assert (ran.exit_code, ran.output.count("done before, written")) == (1, 2), ran.output

    tab.what.output.setText(str(tmp_path / "again"))
    assert command(tab, qapp).exit_code == 1
    made = arrays(tmp_path / "out put")
    assert len(made) == 6
    assert same(made, arrays(tmp_path / "again"))

    tab.what.output.setText(str(tmp_path / "out put"))
    run(tab, qtbot)
    assert column(tab, STATE) == ["done before", "done before", "failed"]


def test_blank_planes_are_named_where_one_points_at_the_image(tab, folder, tmp_path, qtbot):
    stack = noise(3, 36, 40)
    stack[1] = 0
    tifffile.imwrite(folder / "stack.tif", stack, imagej=True, metadata={"axes": "TYX"})
    tab.what.input.setText(str(folder / "stack.tif"))
    for state in ("done", "done before"):
        run(tab, qtbot)
        assert column(tab, STATE) == [state]
        assert tab.table.item(0, STATE).toolTip() == "blank: T=1"


def test_the_options_of_the_tab_are_those_of_the_command(tab, folder, tmp_path, qtbot, qapp):
    tab.what.input.setText(f"{folder / 'one.tif'}; {folder / 'st*.tif'}")
    tab.what.axes.setText("zyx")
    run(tab, qtbot)
    assert column(tab, STATE) == ["failed", "done"]  # one.tif has two axes
    record = json.loads((tmp_path / "out put" / "stack" / "napari-vdip.json").read_text())
    assert (record["axes"], record["format"]) == ("ZYX", "ome-zarr")
    tab.what.format.setCurrentText("OME-TIFF")
    run(tab, qtbot)
    assert column(tab, STATE) == ["failed", "failed"]  # the results were made otherwise
    tab.what.overwrite.setChecked(True)
    assert command(tab, qapp).exit_code == 1
    assert (tmp_path / "out put" / "stack" / "latent.ome.tif").exists()
    run(tab, qtbot)
    assert column(tab, STATE) == ["failed", "done before"]


def test_the_files_of_the_selected_layers_are_done(tab, viewer, folder, qtbot):
    one, stack = (viewer.open(folder / name, plugin="napari")[0] for name in ("one.tif", "stack.tif"))
    viewer.open(folder / "one.tif", plugin="napari")  # twice in the viewer, once on the disk
    viewer.layers.selection = set(viewer.layers)
    assert tab.what.batch().inputs == (str(folder / "one.tif"), str(folder / "stack.tif"))
    viewer.layers.selection = {stack}
    assert tab.what.batch().inputs == (str(folder / "stack.tif"),)
    viewer.layers.selection = {one}
    run(tab, qtbot)
    assert column(tab, STATE) == ["done"]


def test_what_cannot_begin_is_said(tab, viewer, folder, qtbot):
    def says(text):
        tab.run.click()
        return not tab.running and text in tab.status.text()

    assert says("image layers selected")
    viewer.add_image(noise(36, 40), name="spots")
    assert says("spots: not from a file. For a batch, save it")
    tab.what.input.setText(str(folder / "one.tif"))
    tab.panel.form.basic["psf_source"].value = "given"
    assert says("PSF layer: expected one")
    viewer.add_image(np.ones((5, 5)), name="kernel")
    tab.panel.inputs.image.value = viewer.layers["spots"]
    tab.panel.inputs.psf.value = viewer.layers["kernel"]
    assert says("kernel is not from a file: save it")
    tab.panel.form.basic["psf_source"].value = "plane"
    tab.what.output.setText(" ")
    assert says("output: expected a folder")
    tab.what.output.setText(str(folder / "one.tif"))
    tab.run.click()
    finish(tab, qtbot)
    assert "expected a folder, got the file" in tab.status.text()


def test_cancel_keeps_planes_and_run_goes_on(tab, folder, tmp_path, qtbot):
    tab.what.input.setText(str(folder / "stack.tif"))
    output = tmp_path / "out put"
    run(tab, qtbot)
    whole = arrays(output)

    output = tmp_path / "cancelled"
    tab.what.output.setText(str(output))
    tab.run.click()
    tab._worker.yielded.connect(lambda news: tab.cancel.click() if tab._fraction() >= 1 / 3 else None)
    finish(tab, qtbot)
    assert column(tab, STATE) == ["stopped"]
    assert "goes on" in tab.status.text()
    planes = [json.loads(path.read_text()) for path in (output / "stack.partial" / "done").iterdir()]
    assert 1 <= len(planes) < 3

    run(tab, qtbot)
    assert column(tab, STATE) == ["done"]
    assert same(arrays(output), whole)
    record = json.loads((output / "stack" / "napari-vdip.json").read_text())
    assert all(plane in record["planes"] for plane in planes)  # with their times


def test_a_batch_and_a_run_do_not_go_at_once(tab, viewer, folder, qtbot):
    viewer.add_image(noise(36, 40), name="spots")
    panel = tab.panel
    panel.form.value = TINY.replace(steps=100_000)
    tab.what.input.setText(str(folder / "one.tif"))
    tab.run.click()
    assert not panel.run.enabled
    assert not tab.run.isEnabled()
    tab.cancel.click()
    finish(tab, qtbot)
    assert panel.run.enabled
    panel.run.native.click()
    assert not tab.run.isEnabled()
    assert "a run computes" in tab.note.text()
    panel._session.quit()
    qtbot.waitUntil(lambda: panel._session is None, timeout=60_000)
    assert tab.run.isEnabled()


def test_a_batch_says_that_its_window_does_not_grow(tab):
    form = tab.panel.form
    assert tab.note.isHidden()
    form.window.value = "automatic"
    assert "PSF shape as it is" in tab.note.text()
    form.basic["psf_source"].value = "given"
    assert tab.note.isHidden()


def test_what_was_not_as_usual_is_said_of_its_image(tab, folder, qtbot, monkeypatch):
    import napari_vdip.course

    def unusual(self, *args, follow=napari_vdip.course.Course.follow):
        said = follow(self, *args)
        if self.step == 2:
            warnings.warn("a checkpoint is left alone", RuntimeWarning, stacklevel=1)
            return "the objective was not finite"
        return said

    monkeypatch.setattr(napari_vdip.course.Course, "follow", unusual)
    tab.what.input.setText(str(folder / "*.tif"))
    run(tab, qtbot)
    assert column(tab, STATE) == ["done", "done", "failed"]
    one, stack = (tab.table.item(row, STATE).toolTip() for row in (0, 1))
    assert one == "ended early: the plane: the objective was not finite\na checkpoint is left alone"
    assert stack.startswith("ended early: T=0; T=1; T=2: the objective")
    assert tab.status.text() == "3 images: 2 done, 1 failed; 2 with remarks, see their tooltips"


def test_a_batch_says_what_of_the_panel_it_does_not_take(tab, viewer):
    viewer.add_image(noise(3, 36, 40), name="stack")
    assert tab.note.isHidden()
    tab.panel.inputs.region.value = "visible region"
    assert "takes whole files" in tab.note.text()
    tab.panel.inputs.region.value = "whole image"
    tab.panel.inputs.axes.value = "TYX"
    assert "takes the axes" in tab.note.text()
    tab.what.axes.setText("tyx")
    assert tab.note.isHidden()


def test_closing_the_panel_ends_the_batch(tab, viewer, folder, qtbot):
    tab.panel.form.value = TINY.replace(steps=100_000)
    tab.what.input.setText(str(folder / "one.tif"))
    tab.run.click()
    qtbot.waitUntil(lambda: bool(tab._states), timeout=60_000)
    worker = tab._worker
    viewer.window.remove_dock_widget(tab.panel)
    qtbot.waitUntil(lambda: not worker.is_running, timeout=60_000)
    qtbot.waitUntil(lambda: not WorkerBase._worker_set)


def test_the_estimate_is_the_sum_over_the_images(tab, folder, qtbot, monkeypatch):
    def expected_cost(planes, settings, *, image, region, device, kept):
        return cost.Cost(35.0 * len(planes.indices), 9e8 if len(planes.indices) > 1 else 1e8, device)

    monkeypatch.setattr(cost, "expected_cost", expected_cost)
    tab.what.input.setText(str(folder))
    tab.estimate.click()
    qtbot.waitUntil(lambda: tab._estimator is None, timeout=60_000)
    assert tab.status.text() == "expected for 2 images: about 2:20, 0.9 GB on cpu; 1 cannot be done"


def test_the_tab_key_reaches_every_control(tab, qapp):
    controls = [tab.what.input, tab.what.files, tab.what.folder, tab.what.output, tab.what.choose,
                tab.what.axes, tab.what.format, tab.what.overwrite, tab.table, tab.estimate, tab.copy,
                tab.run]  # fmt: skip
    reached, widget = [], tab.what.input
    for _ in range(100):
        reached.append(widget)
        widget = widget.nextInFocusChain()
        if widget is tab.what.input:
            break
    order = [one for one in reached if one in controls]
    assert order == controls
    assert all(one.toolTip() for one in controls)
