"""Layers in and out, without a window."""

from dataclasses import dataclass, field

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Layer

from napari_vdip._layers import KEY, add_to_viewer, guess_axes, layer_axes, layer_data, read_layer, read_psf

PLACE = {
    "scale": (2.0, 0.5, 0.25),
    "translate": (3.0, -1.0, 4.0),
    "rotate": 20.0,
    "shear": (0.1, 0.0, 0.2),
    "affine": np.diag([1.0, 2.0, 1.0, 1.0]),
    "units": ("s", "um", "um"),
    "axis_labels": ("t", "y", "x"),
}


@dataclass
class Found:
    """A result of the axes given, with PSFs of 3 x 5 pixels."""

    latent: np.ndarray
    psf: np.ndarray
    axes: str
    std: np.ndarray | None = None
    metadata: dict = field(default_factory=lambda: {"method": "VDIP-Sparse"})


def found(shape, axes, joint=False, std=True):
    rng = np.random.default_rng(0)
    window = {"Y": 3, "X": 5}
    sides = [
        window.get(axis, n) for axis, n in zip(axes, shape, strict=True) if not (joint and axis == "C")
    ]
    arrays = (rng.uniform(1, 200, size).astype(np.float32) for size in (shape, sides, shape))
    latent, psf, deviation = arrays
    return Found(latent, psf, axes, deviation if std else None)


def layers_of(result, source, **kwargs):
    return [Layer.create(*those) for those in layer_data(result, source, **kwargs)]


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((64, 64), "YX"),
        ((3, 64, 64), "CYX"),
        ((30, 64, 64), "ZYX"),
        ((64, 64, 2), "YXC"),
        ((30, 2, 64, 64), "ZCYX"),
        ((2, 30, 64, 64), "CZYX"),
        ((50, 30, 64, 64), "TZYX"),
        ((50, 30, 3, 64, 64), "TZCYX"),
        ((50, 3, 30, 64, 64), "TCZYX"),
        ((30, 64, 64, 3), "ZYXC"),
    ],
)
def test_axes_are_guessed_from_the_shape(shape, axes):
    assert guess_axes(shape) == axes


def test_axis_labels_are_believed_if_they_tell_the_axes_apart():
    assert guess_axes((3, 64, 64), labels=("time", "y", "x")) == "TYX"
    assert guess_axes((64, 64, 30), labels=("Y", "X", "Z")) == "YXZ"
    assert guess_axes((3, 64, 64), labels=("axis -3", "axis -2", "axis -1")) == "CYX"
    assert guess_axes((3, 64, 64), labels=("t", "v", "x")) == "CYX"


def test_colours_are_channels_and_their_letter_is_not_used_twice():
    assert guess_axes((64, 64, 3), rgb=True) == "YXC"
    assert guess_axes((30, 64, 64, 4), rgb=True, labels=("t", "y", "x")) == "TYXC"
    assert guess_axes((3, 64, 64, 3), rgb=True) == "SYXC"


def test_the_guess_fits_the_data_of_a_layer():
    assert layer_axes(Image(np.zeros((3, 20, 30)))) == "CYX"
    assert layer_axes(Image(np.zeros((20, 30, 3)), rgb=True)) == "YXC"
    pyramid = [np.zeros((6, 40, 60)), np.zeros((6, 20, 30))]
    assert layer_axes(Image(pyramid, multiscale=True)) == "ZYX"


def test_all_of_a_layer_is_read_as_it_is():
    data = np.zeros((6, 20, 30))
    picture = read_layer(Image(data), "tyx")
    assert (picture.data is data, picture.axes, picture.at) == (True, "TYX", (0, 0, 0))


def test_the_plane_through_a_point_is_read_with_its_channels():
    data = np.arange(6 * 2 * 4 * 5).reshape(6, 2, 4, 5)
    layer = Image(data, scale=(2, 1, 1, 1), translate=(10, 0, 0, 0))
    picture = read_layer(layer, "TCYX", point=(16.4, 1, 2, 2))
    assert np.array_equal(picture.data, data[3:4])
    assert picture.at == (3, 0, 0, 0)


def test_a_point_outside_takes_the_nearest_plane_and_one_of_more_dimensions_is_cut():
    layer = Image(np.zeros((6, 4, 5)))
    assert read_layer(layer, "TYX", point=(99, 0, 0)).at == (5, 0, 0)
    assert read_layer(layer, "TYX", point=(7, 2, 0, 0)).at == (2, 0, 0)


def test_alpha_is_left_out_and_level_zero_is_taken_lazily():
    assert read_layer(Image(np.zeros((20, 30, 4)), rgb=True), "YXC").data.shape == (20, 30, 3)
    pyramid = [da.zeros((6, 40, 60)), da.zeros((6, 20, 30))]
    picture = read_layer(Image(pyramid, multiscale=True, contrast_limits=(0, 1)), "TYX", point=(2, 0, 0))
    assert isinstance(picture.data, da.Array)
    assert picture.data.shape == (1, 40, 60)


def test_axes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="axes: expected 2 different letters"):
        read_layer(Image(np.zeros((20, 30))), "TYX")


def test_colours_are_not_taken_for_rows():
    with pytest.raises(ValueError, match="axes: expected C last in a layer of colours, got 'CYX'"):
        read_layer(Image(np.zeros((20, 30, 3)), rgb=True), "CYX")


def test_a_region_of_a_picture_lands_where_it_is():
    source = Image(np.ones((6, 20, 30)), **PLACE)
    picture = read_layer(source, "TYX", point=source.data_to_world((4, 0, 0))).within(((5, 9), (7, 20)))
    assert (picture.data.shape, picture.region) == ((1, 20, 30), ((5, 9), (7, 20)))
    for layer in layers_of(found((1, 4, 13), "TYX"), source, at=picture.at)[::2]:
        assert np.allclose(source.world_to_data(layer.data_to_world((0, 1, 2))), (4, 6, 9))


def test_a_psf_of_two_axes_serves_any_image():
    psf = np.arange(15.0).reshape(3, 5)
    for shape, axes in (((20, 30), "YX"), ((4, 2, 20, 30), "TCYX")):
        picture = read_layer(Image(np.ones(shape)), axes, point=(0,) * len(shape))
        assert np.array_equal(read_psf(Image(psf), picture, joint=False), psf)


def test_of_a_plane_the_psf_is_that_of_the_plane():
    source, psfs = (
        Image(np.ones((6, 2, 20, 30)), scale=(2, 1, 1, 1)),
        np.random.default_rng(0).random((6, 2, 3, 5)),
    )
    layer = Image(psfs, scale=(2, 1, 1, 1), translate=(0, 0, 0, 32))
    assert np.array_equal(read_psf(layer, read_layer(source, "TCYX"), joint=False), psfs)
    plane = read_layer(source, "TCYX", point=(8, 0, 0, 0))
    assert np.array_equal(read_psf(layer, plane, joint=False), psfs[4:5])
    alone = Image(psfs[4:5], scale=(2, 1, 1, 1), translate=(8, 0, 0, 32))
    other = read_layer(source, "TCYX", point=(2, 0, 0, 0))
    assert np.array_equal(read_psf(alone, other, joint=False), psfs[4:5])


def test_the_psf_layer_of_channels_that_share_one_is_read_back_as_one():
    result, source = found((2, 20, 30), "CYX", joint=True), Image(np.ones((2, 20, 30)))
    layer = layers_of(result, source)[1]
    assert np.array_equal(read_psf(layer, read_layer(source, "CYX"), joint=True), result.psf)
    layer.data = layer.data * np.array([1, 2])[:, None, None]
    with pytest.raises(ValueError, match="PSF layer: expected one function for all channels, got 2"):
        read_psf(layer, read_layer(source, "CYX"), joint=True)


def test_a_psf_layer_of_other_axes_or_too_large_is_refused():
    picture = read_layer(Image(np.ones((2, 20, 30))), "CYX")
    with pytest.raises(ValueError, match=r"PSF layer: expected the axes YX or CYX .* got 'psf' of shape"):
        read_psf(Image(np.ones((4, 2, 3, 5)), name="psf"), picture, joint=False)
    with pytest.raises(
        ValueError, match=r"PSF layer: expected at most \(20, 30\) pixels .* got \(21, 30\)"
    ):
        read_psf(Image(np.ones((21, 30)), name="psf"), picture, joint=False)


def test_results_keep_transforms_units_and_labels():
    source = Image(np.ones((6, 20, 30)), name="nuclei", **PLACE)
    layers = layers_of(found((6, 20, 30), "TYX"), source)
    assert [layer.name for layer in layers] == ["nuclei latent", "nuclei PSF", "nuclei std"]
    latent, psf, std = layers
    for layer in layers:
        assert np.allclose(layer.scale, source.scale)
        assert layer.units == source.units
        assert layer.axis_labels == source.axis_labels
    corner = (2, 7, 11)
    for layer in (latent, std):
        assert np.allclose(layer.data_to_world(corner), source.data_to_world(corner))
    # One pixel to the right of the point spread function is one pixel to the right of the image.
    step = np.subtract(psf.data_to_world((0, 0, 1)), psf.data_to_world((0, 0, 0)))
    assert np.allclose(step, np.subtract(source.data_to_world((0, 0, 1)), source.data_to_world((0, 0, 0))))
    assert np.allclose(source.world_to_data(psf.data_to_world((0, 0, 0))), (0, 0, 32))


def test_a_part_lands_where_it_was_taken():
    source = Image(np.ones((6, 20, 30)), **PLACE)
    picture = read_layer(source, "TYX", point=source.data_to_world((4, 0, 0)))
    for layer in layers_of(found((1, 20, 30), "TYX"), source, at=picture.at)[::2]:
        assert layer.data.shape == (1, 20, 30)
        assert np.allclose(source.world_to_data(layer.data_to_world((0, 5, 6))), (4, 5, 6))


def test_the_psf_of_a_region_lies_beside_the_whole_image_and_hides_nothing_of_it():
    source = Image(np.ones((20, 320)), scale=(2, 0.5), translate=(3, 4))
    picture = read_layer(source, "YX").within(((5, 15), (100, 130)))
    psf = layers_of(found((10, 30), "YX"), source, at=picture.at)[1]
    assert np.allclose(source.world_to_data(psf.data_to_world((0, 0))), (5, 330))


def test_latent_looks_like_the_source_and_the_others_are_seen_whole():
    source = Image(np.ones((20, 30)), colormap="green", contrast_limits=(3, 50), gamma=0.7)
    result = found((20, 30), "YX")
    latent, psf, std = layers_of(result, source)
    assert (latent.colormap.name, latent.contrast_limits, latent.gamma) == ("green", [3, 50], 0.7)
    assert psf.contrast_limits == [0, pytest.approx(result.psf.max())]
    assert std.contrast_limits == [0, pytest.approx(result.std.max())]
    assert (psf.visible, std.visible) == (True, False)


def test_metadata_says_how_and_keeps_what_the_source_had():
    source = Image(np.ones((20, 30)), name="nuclei", metadata={"lens": "60x"})
    for layer in layers_of(found((20, 30), "YX"), source):
        assert layer.metadata["lens"] == "60x"
        assert layer.metadata[KEY]["method"] == "VDIP-Sparse"
        assert layer.metadata[KEY]["source"] == "nuclei"
    assert source.metadata == {"lens": "60x"}


def test_without_a_std_map_there_is_no_layer_for_it():
    assert len(layers_of(found((20, 30), "YX", std=False), Image(np.ones((20, 30))))) == 2


@pytest.mark.parametrize(("dtype", "white"), [("uint8", 255), ("uint16", 65535), ("float32", 1)])
def test_colours_are_shown_from_zero_to_one_and_can_be_scaled_back(dtype, white):
    source = Image(np.ones((20, 30, 3), dtype), rgb=True)
    result = found((20, 30, 3), "YXC", joint=True)
    latent, psf, std = layers_of(result, source)
    assert latent.rgb
    assert latent.data.dtype == np.float32
    assert latent.metadata[KEY]["white"] == white
    assert np.allclose(latent.data * white, result.latent.clip(0, white))
    assert (psf.rgb, psf.data.shape) == (False, (3, 5))
    assert (std.rgb, std.data.shape) == (False, (20, 30))
    assert np.allclose(std.data**2, (result.std**2).mean(-1))


def test_the_functions_of_separate_colours_are_a_colour_image():
    source = Image(np.ones((20, 30, 3), "uint8"), rgb=True)
    result = found((20, 30, 3), "YXC")
    psf = layers_of(result, source)[1]
    assert psf.rgb
    assert np.allclose(psf.data * psf.metadata[KEY]["white"], result.psf)


def test_a_function_that_channels_share_is_shown_in_every_channel():
    source = Image(np.ones((2, 20, 30)))
    result = found((2, 20, 30), "CYX", joint=True)
    psf = layers_of(result, source)[1]
    assert psf.data.shape == (2, 3, 5)
    assert (psf.data == result.psf).all()


def test_planes_not_reached_do_no_harm():
    source = Image(np.ones((2, 20, 30)))
    result = found((2, 20, 30), "TYX")
    for array in (result.latent, result.psf, result.std):
        array[1] = np.nan
    for layer in layers_of(result, source):
        assert np.isfinite(layer.contrast_limits).all()


def test_a_result_can_be_added_to_a_viewer():
    viewer = ViewerModel()
    source = viewer.add_image(np.ones((20, 30)), name="nuclei")
    layers = add_to_viewer(viewer, source, found((20, 30), "YX"))
    assert list(viewer.layers) == [source, *layers]
