"""The manifest, and what it names."""

import numpy as np
import pytest
from napari.layers import Image, Layer
from napari.utils.notifications import notification_manager
from npe2 import PluginManifest
from scipy.signal import fftconvolve

from napari_vdip import Settings, _commands, _sample_data
from napari_vdip._layers import KEY


@pytest.fixture(scope="module")
def manifest():
    return PluginManifest.from_distribution("napari-vdip")


def test_what_the_manifest_names_exists(manifest):
    manifest.validate_imports()
    assert all(command.id.startswith("napari-vdip.") for command in manifest.contributions.commands)
    assert manifest.icon


@pytest.mark.parametrize(
    ("menu", "command"),
    [
        ("napari/layers/filter", "deconvolve"),
        ("napari/layers/measure", "check"),
        ("napari/file/io_utilities", "batch"),
    ],
)
def test_what_the_panel_does_is_in_the_menu_where_it_is_looked_for(manifest, menu, command):
    assert [item.command for item in manifest.contributions.menus[menu]] == [f"napari-vdip.{command}"]


def test_commands_are_in_menus_that_napari_lets_plugins_fill(manifest):
    from napari._app_model.constants._menus import is_menu_contributable

    menus = manifest.contributions.menus
    missing = {menu for menu in menus if not is_menu_contributable(menu)}
    assert missing <= {"napari/layers/metadata"}  # older napari: in its palette alone
    known = {command.id for command in manifest.contributions.commands}
    assert {item.command for items in menus.values() for item in items} <= known


def roughness(image):
    """Spread of the differences between neighbours in x."""
    return np.diff(image.astype(float), axis=1).std()


@pytest.mark.parametrize("sample", ["one_channel", "two_channels", "photograph"])
def test_a_sample_is_a_blurred_image_over_its_hidden_truth(sample, monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", None)
    truth, blurred = (Layer.create(*those) for those in getattr(_sample_data, sample)())
    assert blurred.data.shape == truth.data.shape
    assert blurred.visible
    assert not truth.visible
    assert (
        np.diff(blurred.data.astype(float), axis=-1).std()
        < np.diff(truth.data.astype(float), axis=-1).std()
    )
    assert blurred.units == truth.units
    assert np.array_equal(blurred.scale, truth.scale)


def test_the_channels_of_a_sample_differ_in_blur():
    truth, blurred = (those[0] for those in _sample_data.two_channels())
    left = [roughness(b) / roughness(t) for b, t in zip(blurred, truth, strict=True)]
    assert left[0] > 1.1 * left[1]


def test_the_photograph_is_the_truth_convolved():
    truth, blurred = (those[0] for those in _sample_data.photograph())
    again = fftconvolve(truth, _sample_data.shake()[..., None], mode="valid", axes=(0, 1))
    assert np.abs(blurred[7:-7, 7:-7] - again).max() <= 0.5 + 1e-6


@pytest.mark.needs_gl
def test_the_command_copies_settings_that_make_the_result_again(qapp):
    settings = Settings(psf_shape=15, steps=7)
    layer = Image(np.eye(3), metadata={KEY: {"settings": settings.asdict()}})
    _commands.copy_settings(layer)
    assert eval(qapp.clipboard().text(), {"Settings": Settings}) == settings


@pytest.mark.needs_gl
def test_the_command_leaves_other_layers_alone(qapp):
    qapp.clipboard().setText("before")
    _commands.copy_settings(Image(np.eye(3)))
    assert "not a result" in notification_manager.records[-1].message
    assert qapp.clipboard().text() == "before"
