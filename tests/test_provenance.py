"""What was run, as Python and as a command that give the same arrays, and in the form again."""

import builtins
import inspect
import json
import shlex
from dataclasses import replace

import napari.settings
import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.layers import Layer
from napari.layers._source import layer_source
from napari.utils.notifications import notification_manager
from npe2 import PluginManifest
from PIL import Image as Picture
from typer.testing import CliRunner

import napari_vdip.batch
from napari_vdip import Settings, _commands, _preferences, deconvolve, image_file
from napari_vdip._check_jobs import residuals
from napari_vdip._checked import checked
from napari_vdip._layers import KEY, layer_axes, read_layer, read_psf
from napari_vdip._provenance import Recipe
from napari_vdip._reader import get_reader
from napari_vdip._widget import DeconvolutionWidget
from napari_vdip.cli import app
from napari_vdip.recipe import command, settings_code

pytestmark = pytest.mark.usefixtures("few_solver_steps")

TINY = Settings(psf_shape=5, widths=(4,) * 5, steps=2, refinements=2, samples=2, seed=3)
REGION = ((4, 34), (6, 40))
ALL_KINDS = [
    Settings(),
    TINY,
    Settings.paper(seed=5, headroom=0.125),
    Settings.preset("photograph", channels="joint", gaussians=True),
    Settings(headroom=None, mixed_precision=False, image_rate=1e-6, psf_shape=(5, 7)),
    Settings(prior="extreme", variational=False),
    Settings(psf_source="channel"),
]


@pytest.fixture
def viewer():
    return ViewerModel()


def noise(*shape, dtype="uint16"):
    return np.random.default_rng(0).poisson(50, shape).astype(dtype)


def opened(viewer, path, image, **options):
    """Write an image to a file, and add a layer that is from it."""
    if path.suffix == ".png":
        Picture.fromarray(image).save(path)
    else:
        tifffile.imwrite(path, image, **options)
    with layer_source(path=str(path)):
        return viewer.add_image(image, name=path.stem)


def run(code, **names):
    """Execute code, and return the result in it."""
    exec(code, names)
    return names["result"]


# Text


@pytest.mark.parametrize("settings", ALL_KINDS)
def test_settings_as_python_are_the_settings(settings):
    assert eval(settings_code(settings), {"Settings": Settings}) == settings


def test_a_command_and_code_say_nothing_that_is_a_default():
    assert command(["a.tif"], "out", Settings(), device="auto") == "napari-vdip run a.tif --output out"
    assert settings_code(Settings()) == "Settings()"


@pytest.mark.parametrize("settings", ALL_KINDS)
@pytest.mark.parametrize(
    "others",
    [
        {},
        {"axes": "ZYX", "format": "ome-tiff", "joint_colours": False, "device": "cpu", "overwrite": True},
        {"region": ((3, 40), (0, 25))},
    ],
)
def test_a_command_plans_what_it_was_made_of(settings, others, monkeypatch):
    planned, done = [], []

    def plan(inputs, output, settings, **rest):
        planned.append((list(inputs), str(output), settings, rest))
        return []

    def execute(items, **rest):
        done.append(rest)
        return iter(())

    monkeypatch.setattr(napari_vdip.batch, "plan", plan)
    monkeypatch.setattr(napari_vdip.batch, "execute", execute)
    inputs = ["a b/c.tif", "it's $HOME/*.tif"]
    words = shlex.split(command(inputs, "out put", settings, **others))
    ran = CliRunner().invoke(app, words[1:])
    assert (words[0], ran.exit_code) == ("napari-vdip", 0), ran.output
    ((found, output, same, rest),) = planned
    assert (found, output, same) == (inputs, "out put", settings)
    explicit = "joint_colours" in others or settings.channels == "joint"
    assert rest == {
        "axes": others.get("axes"),
        "format": others.get("format"),
        "psf": None,
        "region": others.get("region"),
        "joint_colours": not explicit,
    }
    expected = {"device": others.get("device", "auto"), "overwrite": others.get("overwrite", False)}
    assert done == [{**expected, "client": None}]


# Code


def same_as_panel(viewer, layer, *, settings=TINY, point=None, region=None, psf=None, axes=None):
    """Check that the code gives what a run of the panel does, and return the code."""
    picture = read_layer(layer, axes or layer_axes(layer), point)
    picture = picture if region is None else picture.within(region)
    given = None if psf is None else read_psf(psf, picture, joint=settings.channels == "joint")
    made = deconvolve(
        picture.data, settings, axes=picture.axes, psf=given, region=picture.region, device="cpu"
    )
    recipe = Recipe.of(layer, picture, settings, "cpu", psf)
    layer.metadata = {KEY: {"recipe": json.loads(json.dumps(recipe.plain()))}}
    code = Recipe.from_layer(layer).python()
    again = run(code, viewer=viewer)
    order = [made.axes.index(axis) for axis in again.axes]
    latent = made.latent.transpose(order) if len(order) == made.latent.ndim else made.latent
    np.testing.assert_array_equal(again.latent.squeeze(), latent.squeeze())
    assert again.region == made.region
    return code


def test_code_of_a_region_of_a_file(viewer, tmp_path):
    layer = opened(viewer, tmp_path / "it's.tif", noise(40, 48))
    code = same_as_panel(viewer, layer, region=REGION)
    assert "viewer" not in code


def test_code_of_one_plane_of_a_file(viewer, tmp_path):
    layer = opened(viewer, tmp_path / "stack.tif", noise(6, 36, 40))
    code = same_as_panel(viewer, layer, point=(4, 0, 0))
    assert "viewer" not in code
    assert "[4:5]" in code


def test_code_of_a_file_whose_axes_were_corrected(viewer, tmp_path):
    layer = opened(viewer, tmp_path / "stack.tif", noise(2, 36, 40))
    assert layer_axes(layer) == "CYX"
    assert "'TYX'" in same_as_panel(viewer, layer, axes="TYX")


def test_code_of_a_photograph_in_a_file(viewer, tmp_path):
    layer = opened(viewer, tmp_path / "photograph.png", noise(36, 40, 4, dtype="uint8"))
    assert layer.rgb
    code = same_as_panel(viewer, layer, settings=TINY.replace(channels="joint"))
    assert "viewer" not in code


@pytest.mark.parametrize("channels", ["separate", "joint"])
def test_code_of_layers_without_files(viewer, channels):
    image = viewer.add_image(noise(2, 5, 36, 40), name="it's")
    kernels = np.repeat(noise(1, 5, 5, 5), 2, axis=0)
    psf = viewer.add_image(kernels, name="kernels")
    settings = TINY.replace(psf_source="given", channels=channels)
    code = same_as_panel(viewer, image, settings=settings, point=(0, 3, 0, 0), psf=psf, region=REGION)
    assert code.count("is no file's whole image") == 2


def test_code_of_a_file_with_a_point_spread_function_in_another(viewer, tmp_path):
    layer = opened(viewer, tmp_path / "image.tif", noise(40, 48))
    psf = opened(viewer, tmp_path / "psf.tif", noise(5, 7))
    settings = TINY.replace(psf_source="given")
    assert "viewer" not in same_as_panel(viewer, layer, settings=settings, psf=psf)
    recipe = Recipe.of(layer, read_layer(layer, "YX"), settings, "cpu", psf)
    (item,) = planned(recipe.command(str(tmp_path / "out")))
    assert (item.settings.psf_source, item.settings.psf_shape) == ("given", (5, 7))


def planned(text):
    """Return the items that a command plans."""
    found, plan = [], napari_vdip.batch.plan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(napari_vdip.batch, "plan", lambda *a, **k: found.extend(plan(*a, **k)) or found)
        ran = CliRunner().invoke(app, [*shlex.split(text)[1:], "--dry-run"])
    assert ran.exit_code == 0, ran.output
    return found


@pytest.mark.parametrize("channels", ["separate", "joint"])
def test_a_command_says_what_the_colours_share(viewer, tmp_path, channels):
    layer = opened(viewer, tmp_path / "photograph.png", noise(36, 40, 3, dtype="uint8"))
    settings = TINY.replace(channels=channels)
    recipe = Recipe.of(layer, read_layer(layer, "YXC"), settings, "cpu")
    (item,) = planned(recipe.command(str(tmp_path / "out")))
    assert item.settings == settings


def test_the_command_makes_the_same_arrays(viewer, tmp_path):
    layer = opened(viewer, tmp_path / "image.tif", noise(36, 40))
    recipe = Recipe.of(layer, read_layer(layer, "YX"), TINY, "cpu")
    ran = CliRunner().invoke(app, shlex.split(recipe.command(str(tmp_path / "out")))[1:])
    assert ran.exit_code == 0, ran.output
    written = image_file.read(tmp_path / "out" / "image" / "latent.ome.tif")
    np.testing.assert_array_equal(
        np.asarray(written.array), deconvolve(layer.data, TINY, device="cpu").latent
    )


@pytest.mark.parametrize(
    ("psf", "channels", "region"), [(None, "separate", REGION), ("psf.tif", "joint", None)]
)
def test_results_of_files_are_checked_and_made_again(viewer, tmp_path, psf, channels, region):
    image = opened(viewer, tmp_path / "two.tif", noise(3, 36, 40), imagej=True, metadata={"axes": "CYX"})
    viewer.layers.clear()
    settings = TINY.replace(channels=channels)
    if psf is not None:
        tifffile.imwrite(tmp_path / psf, noise(5, 7))
        psf, settings = tmp_path / psf, settings.replace(psf_source="given", psf_shape=(5, 7))
    words = command([tmp_path / "two.tif"], tmp_path / "out", settings, psf=psf, region=region,
                    joint_colours=channels != "separate")  # fmt: skip
    assert CliRunner().invoke(app, shlex.split(words)[1:]).exit_code == 0
    record = str(tmp_path / "out" / "two" / "napari-vdip.json")
    layers = [viewer.add_layer(Layer.create(*layer)) for layer in get_reader(record)(record)]
    assert [layer.name for layer in layers] == ["two latent", "two PSF", "two std"]
    source = viewer.add_image(image.data, name="two")

    this = checked(viewer, layers[1])
    assert (this.source, this.result.settings, this.result.axes) == (source, settings, "CYX")
    assert this.reached == tuple(this.planes.indices)
    assert hasattr(this.result.latent, "compute")  # the files of a stack may be larger than memory
    assert outcome_of_all(residuals(this)).shape[0] == 3
    assert len(this.result.noise) == len(this.reached) == (3 if channels == "separate" else 1)
    whole = this.planes.take(image.data if region is None else image.data[:, 4:34, 6:40], this.reached[0])
    np.testing.assert_array_equal(this.input_plane(this.reached[0]), whole)

    recipe = Recipe.from_layer(layers[0])
    (planned_again,) = planned(recipe.command(str(tmp_path / "again")))
    assert (planned_again.settings, planned_again.psf, planned_again.region) == (settings, psf, region)
    np.testing.assert_array_equal(run(recipe.python()).latent, layers[0].data)


def outcome_of_all(steps):
    """Do all steps, and return the array that comes of them."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return end.value[0]


def test_results_of_a_file_that_is_gone_are_opened_and_say_so(viewer, tmp_path):
    opened(viewer, tmp_path / "image.tif", noise(36, 40))
    words = command([tmp_path / "image.tif"], tmp_path / "out", TINY)
    assert CliRunner().invoke(app, shlex.split(words)[1:]).exit_code == 0
    (tmp_path / "image.tif").unlink()
    record = str(tmp_path / "out" / "image" / "napari-vdip.json")
    latent, *_ = (Layer.create(*layer) for layer in get_reader(record)(record))
    assert "viewer.layers['image'].data" in Recipe.from_layer(latent).python()
    with pytest.raises(ValueError, match="image is no file's whole image"):
        Recipe.from_layer(latent).command()


def test_results_with_blank_planes_are_not_said_to_have_ended_early(viewer, tmp_path):
    stack = noise(3, 36, 40)
    stack[1] = 0
    opened(viewer, tmp_path / "stack.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    words = command([tmp_path / "stack.tif"], tmp_path / "out", TINY)
    assert CliRunner().invoke(app, shlex.split(words)[1:]).exit_code == 0
    record = str(tmp_path / "out" / "stack" / "napari-vdip.json")
    latent, *_ = (Layer.create(*layer) for layer in get_reader(record)(record))
    assert (latent.metadata[KEY]["stopped"], latent.metadata[KEY]["blank"]) == ("finished", [[1]])
    assert Recipe.caveat(latent) == ""


def test_what_no_command_can_do_is_said(viewer, tmp_path):
    stack = opened(viewer, tmp_path / "stack.tif", noise(6, 36, 40))
    whole, one = read_layer(stack, "ZYX"), read_layer(stack, "ZYX", (2, 0, 0))
    with pytest.raises(ValueError, match="all planes"):
        Recipe.of(stack, one, TINY, "cpu").command()
    assert planned(Recipe.of(stack, whole.within(REGION), TINY, "cpu").command())[0].region == REGION
    crop = viewer.add_image(stack.data[:3], name="crop")
    with pytest.raises(ValueError, match="crop is no file's whole image: save it"):
        Recipe.of(crop, read_layer(crop, "ZYX"), TINY, "cpu").command()
    stack.data = stack.data[:3]  # no longer what the file holds
    with pytest.raises(ValueError, match="stack is no file's whole image"):
        Recipe.of(stack, read_layer(stack, "ZYX"), TINY, "cpu").command()


@pytest.mark.parametrize(
    "made",
    [
        5,
        [],
        {},
        {"recipe": 5},
        {"recipe": {}},
        {"recipe": {"image": {"layer": "a"}, "settings": {}, "psf": None}},
        {"recipe": "other"},
        {"recipe": "steps"},
        {"settings": {"steps": "many"}},
    ],
)
def test_metadata_that_say_something_else_are_said(viewer, made, qapp):
    layer = viewer.add_image(noise(36, 40))
    if made in ({"recipe": "other"}, {"recipe": "steps"}):
        plain = Recipe.of(layer, read_layer(layer, "YX"), TINY, "cpu").plain()
        change = {"elsewhere": 1} if made["recipe"] == "other" else {"settings": {"steps": -1}}
        made = {"recipe": plain | change}
    layer.metadata = {KEY: made}
    for copy in (_commands.copy_python, _commands.copy_command, _commands.copy_settings):
        copy(layer)
        assert layer.name in notification_manager.records[-1].message
        notification_manager.records.clear()


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"iterate": {"step": 3}, "stopped": "finished"}, "earlier estimate"),
        ({"stopped": "stopped by the user"}, "ended early"),
        ({"how": "a filter\nof the result", "stopped": "finished"}, "not this layer"),
        ({"stopped": "finished"}, ""),
    ],
)
def test_code_says_that_it_makes_something_else_than_what_the_layer_is(viewer, qapp, made, said):
    layer = viewer.add_image(noise(36, 40), name="spots")
    recipe = Recipe.of(layer, read_layer(layer, "YX"), TINY, "cpu").plain()
    layer.metadata = {KEY: {"recipe": recipe, "settings": TINY.asdict(), **made}}
    _commands.copy_python(layer)
    first = qapp.clipboard().text().splitlines()[0]
    assert said in first
    assert ("no file" in first) == (not said)  # else that comes after
    assert np.isfinite(run(qapp.clipboard().text(), viewer=viewer).latent).all()
    _commands.copy_settings(layer)
    news = notification_manager.records[-1]
    assert (said in news.message, news.severity.value) == (True, "warning" if said else "info")


# What the panel begins with


def start(**changes):
    fixed = {"device": "cpu", "output": "/there", "format": "OME-TIFF", "wavelength": 520.0}
    return _preferences.Start(**{"settings": TINY, **fixed, **changes})


def test_the_last_run_is_remembered_until_it_is_forgotten():
    assert _preferences.first() == _preferences.preferred()
    _preferences.remember(start())
    assert _preferences.first() == start()
    _preferences.forget()
    assert _preferences.first() == _preferences.preferred()


WRONG = [
    "",
    "[]",
    "[" * 10**5,
    '{"settings": {}}',
    '{"settings": {"steps": -1}}',
    '{"a": 1}',
    '{"preset": "gone"}',
    '{"output": 5}',
    '{"overwrite": "yes"}',
    '{"na": NaN}',
]


def wrong(text):
    """Put a text, or a dictionary as a change of what was there, in the place of what is remembered."""
    _preferences.remember(start())
    file = _preferences.place()
    whole = text.startswith("{") and "settings" not in text
    file.write_text(json.dumps(json.loads(file.read_text()) | json.loads(text)) if whole else text)


@pytest.mark.parametrize("text", WRONG)
def test_what_is_remembered_wrongly_is_not_used(text):
    wrong(text)
    assert _preferences.first() == _preferences.preferred()


def test_preferences_have_the_defaults_of_the_settings():
    page = PluginManifest.from_distribution("napari-vdip").contributions.configurations["defaults"]
    defaults = {name: item.default for name, item in page.properties.items()}
    settings = Settings.preset(defaults["preset"], psf_shape=defaults["psf_window"])
    assert settings == Settings()
    assert page.properties["preset"].enum == list(napari_vdip.settings.PRESETS)


def test_napari_shows_the_preferences_and_they_count(request, npe2pm):
    if not hasattr(napari.settings, "get_plugin_settings"):
        pytest.skip("napari has settings of plugins since 0.9")
    request.getfixturevalue("plugin_settings")
    get_plugin_settings = napari.settings.get_plugin_settings
    npe2pm.register(PluginManifest.from_distribution("napari-vdip"))
    page = get_plugin_settings("napari-vdip").defaults
    page.preset, page.psf_window, page.device = "paper", 20, "cpu"
    assert _preferences.preferred() == _preferences.Start(Settings.paper(psf_shape=21), device="cpu")
    _preferences.remember(start())
    assert _preferences.first() == start()
    page.remember = False
    assert _preferences.first() == _preferences.preferred()


def test_an_older_napari_without_preferences_has_the_defaults(monkeypatch):
    monkeypatch.delattr("napari.settings.get_plugin_settings", raising=False)
    assert _preferences.first() == _preferences.Start(Settings())


# In a window


@pytest.fixture
def panel(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    _, panel = viewer.window.add_plugin_dock_widget("napari-vdip", "Blind deconvolution")
    panel.form.value, panel.device.value = TINY, "cpu"
    panel.viewer = viewer
    return panel


def finish(panel, qtbot):
    qtbot.waitUntil(lambda: panel._session is None, timeout=60_000)


@pytest.mark.needs_gl
def test_a_result_says_how_to_make_it_and_sets_the_form_again(panel, qtbot, qapp):
    viewer = panel.viewer
    source = viewer.add_image(noise(5, 40, 48), name="spots", scale=(3, 0.5, 0.5), translate=(1, 2, 3))
    viewer.dims.set_current_step(0, 3)
    box = viewer.add_shapes([[[3, 4.1, 6.2], [3, 4.1, 39], [3, 33, 39], [3, 33, 6.2]]], scale=source.scale,
                            translate=source.translate, name="box")  # fmt: skip
    panel.inputs.image.value, panel.inputs.region.value = source, box
    panel.run.native.click()
    finish(panel, qtbot)
    latent = viewer.layers["spots latent"]

    _commands.copy_python(latent)
    again = run(qapp.clipboard().text(), viewer=viewer)
    np.testing.assert_array_equal(again.latent, latent.data)
    _commands.copy_settings(latent)
    assert eval(qapp.clipboard().text(), {"Settings": Settings}) == TINY
    _commands.copy_command(latent)
    assert "all planes" in notification_manager.records[-1].message

    viewer.layers.remove("box")
    panel.form.value = Settings()
    panel.inputs.planes.value = "all planes"
    viewer.dims.set_current_step(0, 0)
    panel.tabs.setCurrentWidget(panel.batch)
    _commands.run_again(viewer, latent)
    assert panel.tools.recipe() == Recipe.from_layer(latent)
    assert panel.tabs.currentIndex() == 0
    assert not panel.status.native.isHidden()
    assert "press Run" in panel.status.value
    assert panel.focusWidget() is panel.run.native


@pytest.mark.needs_gl
def test_the_next_panel_begins_as_the_last_run(panel, qtbot):
    panel.viewer.add_image(noise(36, 40), name="spots")
    panel.run.native.click()
    finish(panel, qtbot)
    kept = _preferences.first()
    assert kept.settings == TINY
    panel.form.value = Settings(steps=77)
    panel.tools.begin()
    assert panel.form.value == TINY
    panel.tools.reset.click()
    assert panel.form.value == Settings()
    assert _preferences.first() == _preferences.preferred()


@pytest.mark.needs_gl
@pytest.mark.parametrize(
    "text", [*WRONG, json.dumps({"settings": Settings(psf_shape=10001).asdict()}), '{"window": "a"}']
)
def test_the_panel_opens_whatever_is_remembered(qtbot, text):
    wrong(text)
    panel = DeconvolutionWidget(ViewerModel())
    qtbot.addWidget(panel)
    assert panel.form.value in (Settings(), TINY)


@pytest.mark.needs_gl
def test_choices_of_all_tabs_are_remembered(panel, qtbot):
    psf, files = panel.check.psf, panel.batch.what
    panel.tools.remember()
    psf.wavelength.setValue(488)
    psf.na.setValue(1.4)
    psf.na.editingFinished.emit()
    kept = _preferences.first()
    assert (kept.settings, kept.wavelength, kept.na) == (TINY, 488, 1.4)
    files.format.setCurrentText("OME-Zarr")
    files.overwrite.setChecked(True)
    panel.tools.remember()
    panel.tools.reset.click()
    assert (files.format.currentIndex(), files.overwrite.isChecked(), psf.na.known) == (0, False, None)
    _preferences.remember(replace(kept, format="OME-Zarr", overwrite=True))
    panel.tools.begin()
    assert (files.format.currentText(), files.overwrite.isChecked()) == ("OME-Zarr", True)
    assert (psf.wavelength.known, psf.na.known) == (488, 1.4)


@pytest.mark.needs_gl
def test_a_field_that_is_only_left_is_nothing_to_remember(panel):
    psf = panel.check.psf
    for number in (psf.wavelength, psf.na):
        number.editingFinished.emit()
    assert not _preferences.place().exists()
    psf.wavelength.setValue(488)
    psf.wavelength.editingFinished.emit()
    assert _preferences.first().wavelength == 488
    panel.tools.reset.click()
    psf.wavelength.editingFinished.emit()
    assert not _preferences.place().exists()


@pytest.mark.needs_gl
def test_the_estimate_of_a_run_is_told_in_the_status_line(panel, qtbot, monkeypatch):
    from napari_vdip import cost

    def expected_cost(planes, settings, *, image, region, device):
        seconds = len(planes.indices) * settings.steps
        return cost.Cost(seconds, 9e8, f"{device} {region}")

    monkeypatch.setattr(cost, "expected_cost", expected_cost)
    panel.viewer.add_image(noise(35, 36, 40), name="spots")
    panel.inputs.planes.value = "all planes"
    panel.tools.estimate.click()
    assert not panel.tools.estimate.isEnabled()
    qtbot.waitUntil(lambda: panel.tools.estimate.isEnabled(), timeout=60_000)
    assert panel.status.value == "expected: about 1:10, 0.9 GB on cpu None"


def test_the_commands_of_the_menus_take_what_napari_passes():
    for name in ("copy_python", "copy_command", "copy_settings", "run_again", "open_batch", "open_check"):
        hints = inspect.get_annotations(getattr(_commands, name), eval_str=True)
        assert set(hints) - {"return"} <= {"viewer", "layer"}
        assert builtins.all(hint.__module__.startswith("napari.") for hint in hints.values() if hint)
