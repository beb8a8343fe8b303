"""Images from files and back: axes, scale, units, names, and what viewers and validators say."""

from __future__ import annotations

import json
import struct
import sys
import zlib
from datetime import timedelta

import dask.array as da
import numpy as np
import pytest
import tifffile
import yaozarrs
import zarr
from PIL import Image

from napari_vdip import io, readers
from napari_vdip.image_file import arranged
from napari_vdip.io import read, scenes, suffixes, write_ome_tiff
from napari_vdip.ome_zarr import write_ome_zarr
from napari_vdip.tiff_metadata import of_ome

MICROMETRES = {"Z": (0.3, "micrometer"), "Y": (0.1, "micrometer"), "X": (0.12, "micrometer")}


def counted(*shape, dtype=np.uint16):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def imagej(path, array):
    metadata = {"axes": "TCYX", "unit": "um", "finterval": 2.5}
    tifffile.imwrite(path, array, imagej=True, resolution=(10, 4), metadata=metadata)


def ome(path, array):
    sizes = {"PhysicalSizeX": 120, "PhysicalSizeXUnit": "nm", "PhysicalSizeZ": 0.3}
    sizes["Channel"] = {"Name": ["a", "b"]}
    tifffile.imwrite(path, array, photometric="minisblack", metadata={"axes": "ZCYX", **sizes})


def plain(path, array):
    tifffile.imwrite(path, array, photometric="minisblack", metadata=None)


def shaped(path, array):
    tifffile.imwrite(path, array, photometric="minisblack")


def rgb(path, array):
    tifffile.imwrite(path, array.astype(np.uint8), photometric="rgb")


def flat(path, array):
    Image.fromarray(array.astype(np.uint8)).save(path)


UM3, UM4, UM10 = ((step, "micrometer") for step in (0.3, 1 / 4, 1 / 10))
KINDS = [  # writer, file, shape, axes, order of the file's axes in the source, spacing
    (plain, "a.tif", (6, 8), "YX", (0, 1), {}),
    (plain, "a.TIFF", (3, 6, 8), "ZYX", (0, 1, 2), {}),
    (plain, "a.tif", (1, 6, 8), "YX", (1, 2), {}),
    (shaped, "a.tif", (2, 3, 6, 8), "TZYX", (1, 0, 2, 3), {}),
    (shaped, "a.tif", (4, 1, 2, 3, 6, 8), "TCZYX", (2, 3, 0, 4, 5), {}),
    (imagej, "a.tif", (3, 2, 6, 8), "TCYX", (0, 1, 2, 3), {"T": (2.5, "second"), "Y": UM4, "X": UM10}),
    (ome, "a.ome.tif", (3, 2, 6, 8), "CZYX", (1, 0, 2, 3), {"Z": UM3, "X": (120.0, "nanometer")}),
    (ome, "a.ome.tif", (1, 2, 6, 8), "CYX", (1, 2, 3), {"X": (120.0, "nanometer")}),
    (rgb, "a.tif", (6, 8, 3), "CYX", (2, 0, 1), {}),
    (flat, "a.png", (6, 8), "YX", (0, 1), {}),
    (flat, "a.png", (6, 8, 3), "CYX", (2, 0, 1), {}),
]  # fmt: skip


@pytest.mark.parametrize(("write", "name", "shape", "axes", "order", "spacing"), KINDS)
def test_a_file_says_what_its_axes_are(tmp_path, write, name, shape, axes, order, spacing):
    array = counted(*shape)
    write(tmp_path / name, array)
    opened = read(tmp_path / name)
    assert (opened.axes, opened.spacing) == (axes, spacing)
    left_out = tuple(axis for axis in range(array.ndim) if axis not in order)
    expected = np.squeeze(array.transpose(*left_out, *order), axis=tuple(range(len(left_out))))
    np.testing.assert_array_equal(opened.array.compute(), expected)


def test_a_stack_is_read_page_by_page(tmp_path):
    imagej(tmp_path / "a.tif", counted(3, 2, 6, 8))
    assert read(tmp_path / "a.tif").array.chunksize == (1, 1, 6, 8)


def test_colours_are_channels_and_transparency_is_none(tmp_path):
    array = counted(6, 8, 4, dtype=np.uint8)
    flat(tmp_path / "a.png", array)
    opened = read(tmp_path / "a.png")
    assert (opened.axes, opened.colour, opened.channels) == ("CYX", True, ("red", "green", "blue"))
    np.testing.assert_array_equal(opened.array.compute(), np.moveaxis(array[..., :3], -1, 0))
    flat(tmp_path / "grey.png", array[..., :2])
    opened = read(tmp_path / "grey.png")
    assert (opened.axes, opened.colour, opened.channels) == ("YX", False, ())


@pytest.mark.parametrize(
    ("mode", "dtype"), [("I;16", np.uint16), ("F", np.float32), ("1", np.uint8), ("P", np.uint8)]
)
def test_an_image_of_one_file_has_the_type_that_was_announced(tmp_path, mode, dtype):
    path = tmp_path / ("a.png" if mode != "F" else "a.tiff")
    image = Image.new("F" if mode == "F" else "L", (8, 6), 1).convert(mode)
    image.save(path)
    array = read(path).array
    assert array.dtype == array.compute().dtype == dtype
    assert array.shape == array.compute().shape


def png_of_16_bits(path, array):
    """Pillow writes none with colours."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, bands = array.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[bands], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))


def test_a_png_keeps_its_16_bits_or_is_refused(tmp_path):
    array = counted(6, 8, 4) * 300
    png_of_16_bits(tmp_path / "a.png", array[..., :1])
    np.testing.assert_array_equal(read(tmp_path / "a.png").array.compute(), array[..., 0])
    for bands in (2, 3, 4):
        png_of_16_bits(tmp_path / "a.png", array[..., :bands])
        with pytest.raises(ValueError, match="expected 8 bits for each colour of a PNG, got 16"):
            read(tmp_path / "a.png")


def test_a_jpeg_is_a_colour_image(tmp_path):
    flat(tmp_path / "a.jpg", counted(16, 16, 3))
    opened = read(tmp_path / "a.jpg")
    assert (opened.axes, opened.array.shape, opened.colour) == ("CYX", (3, 16, 16), True)
    with Image.open(tmp_path / "a.jpg") as image:
        np.testing.assert_array_equal(np.moveaxis(opened.array.compute(), 0, -1), np.asarray(image))


@pytest.mark.parametrize(("axes", "expected"), [("TCYX", "TCYX"), ("zcyx", "CZYX"), ("CTYX", "TCYX")])
def test_given_axes_take_the_place_of_those_of_the_file(tmp_path, axes, expected):
    array = counted(3, 2, 6, 8)
    imagej(tmp_path / "a.tif", array)
    opened = read(tmp_path / "a.tif", axes)
    assert opened.axes == expected
    order = [axes.upper().index(axis) for axis in expected]
    np.testing.assert_array_equal(opened.array.compute(), array.transpose(order))


def test_given_axes_may_leave_out_axes_of_one_index(tmp_path):
    ome(tmp_path / "a.ome.tif", counted(1, 2, 6, 8))
    assert read(tmp_path / "a.ome.tif", "TYX").axes == "TYX"


@pytest.mark.parametrize("axes", ["YX", "TCZYX", "TTYX", "TQYX", "TCZY"])
def test_axes_that_do_not_fit_are_refused(tmp_path, axes):
    imagej(tmp_path / "a.tif", counted(3, 2, 6, 8))
    with pytest.raises(ValueError, match="axes: expected"):
        read(tmp_path / "a.tif", axes)


def test_an_empty_file_is_called_empty(tmp_path):
    (tmp_path / "a.tif").touch()
    for look in (read, scenes):
        with pytest.raises(ValueError, match="empty file"):
            look(tmp_path / "a.tif")


def test_a_format_that_needs_bioio_says_so(tmp_path, monkeypatch):
    for name in ("bioio", "bioio.plugins"):
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / "a.nd2").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"napari-vdip\[formats\].*bioio-nd2"):
        read(tmp_path / "a.nd2")
    assert set(suffixes()) == {".tif", ".tiff", ".zarr", ".png", ".jpg", ".jpeg"}


class Scene:
    """What bioio makes of a file with time stamps and units."""

    scenes = ("first", "second")
    channel_names = ["GFP"]
    dims = type("Dims", (), {"order": "TCZYX"})
    scale = type("Scale", (), {"T": timedelta(seconds=3), "Z": None, "Y": -0.2, "X": 0.2})
    dimension_properties = type(
        "Properties", (), {axis: type("Property", (), {"unit": "micrometer"}) for axis in "TZYX"}
    )

    def set_scene(self, number):
        self.number = number

    def get_image_dask_data(self, order):
        return da.full((2, 1, 1, 6, 8), self.number)


def test_scenes_of_bioio_are_read_with_scale_and_units(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "_bioio", lambda path: Scene())
    assert scenes(tmp_path / "a.lif") == ("first", "second")
    opened = read(tmp_path / "a.lif", scene=1)
    assert (opened.axes, opened.array.shape, opened.channels) == ("TYX", (2, 6, 8), ("GFP",))
    assert opened.spacing == {"T": (3.0, "second"), "Y": (0.2, "micrometer"), "X": (0.2, "micrometer")}
    assert opened.array.compute().min() == 1


@pytest.mark.filterwarnings("ignore")  # bioio takes a warning for a failure to read
def test_bioio_itself_reads_the_same_as_we_do(tmp_path):
    pytest.importorskip("bioio", reason="the extra formats is not installed")
    pytest.importorskip("bioio_ome_tiff", reason="bioio's reader of OME-TIFF is not installed")
    ome(tmp_path / "a.ome.tif", counted(3, 2, 6, 8))
    ours = read(tmp_path / "a.ome.tif")
    theirs = arranged(readers._foreign(tmp_path / "a.ome.tif", 0))
    assert (theirs.axes, theirs.channels) == (ours.axes, ours.channels)
    np.testing.assert_array_equal(theirs.array.compute(), ours.array.compute())


def test_an_image_comes_back_with_axes_and_pixel_size(tmp_path):
    image = np.arange(24.0).reshape(2, 3, 4)
    write_ome_tiff(
        tmp_path / "image.ome.tif", image, "CYX", spacing=dict.fromkeys("YX", (0.25, "micrometer"))
    )
    with tifffile.TiffFile(tmp_path / "image.ome.tif") as file:
        assert file.series[0].axes == "CYX"
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
        stored = file.asarray()
    assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeY"]) == (0.25, 0.25)
    assert pixels["PhysicalSizeXUnit"] == "µm"
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored, image)


def test_what_is_too_large_for_a_classic_tiff_is_written_as_a_bigtiff(tmp_path, monkeypatch):
    image = counted(2, 16, 16, dtype=np.float32)
    for limit, big in ((image.nbytes, False), (image.nbytes - 1, True)):
        monkeypatch.setattr(io, "CLASSIC_TIFF", limit)
        write_ome_tiff(tmp_path / "a.ome.tif", image, "ZYX")
        with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
            assert (file.is_bigtiff, file.is_ome) == (big, True)
        np.testing.assert_array_equal(read(tmp_path / "a.ome.tif").array.compute(), image)


def test_a_failed_write_leaves_the_earlier_file_and_nothing_else(tmp_path):
    path = tmp_path / "image.ome.tif"
    write_ome_tiff(path, np.ones((3, 4)), "YX")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="axes"):
        write_ome_tiff(path, np.zeros((3, 4)), "TCZYX")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("write", "name"), [(write_ome_tiff, "a.ome.tif"), (write_ome_zarr, "a.ome.zarr")])
@pytest.mark.parametrize(
    ("axes", "shape", "spacing", "channels"),
    [
        ("YX", (6, 8), {}, ()),
        ("YX", (6, 8), {"Y": (2.0, "nanometer"), "X": (2.0, "nanometer")}, ()),
        ("CZYX", (2, 3, 6, 8), MICROMETRES, ("DAPI", "GFP")),
        ("TCZYX", (2, 3, 2, 6, 8), {"T": (60.0, "second"), **MICROMETRES}, ("a", "b", "c")),
        ("TYX", (2, 6, 8), {"T": (0.5, "millisecond")}, ()),
    ],
)
def test_what_is_written_comes_back(tmp_path, write, name, axes, shape, spacing, channels):
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    write(tmp_path / name, da.from_array(image), axes, spacing=spacing, channels=channels)
    opened = read(tmp_path / name)
    assert (opened.axes, opened.spacing, opened.channels) == (axes, spacing, channels or opened.channels)
    np.testing.assert_array_equal(opened.array.compute(), image)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_provenance_is_in_both_formats(tmp_path):
    provenance = {"settings": {"psf_shape": [5, 5]}, "name": 'a "quoted" <name>'}
    image = np.eye(6, dtype=np.float32)
    write_ome_tiff(tmp_path / "a.ome.tif", image, "YX", provenance=provenance)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        annotation = tifffile.xml2dict(file.ome_metadata)["OME"]["StructuredAnnotations"]["MapAnnotation"]
    assert annotation["Namespace"] == "napari-vdip"
    assert json.loads(annotation["Value"]["M"]["value"]) == provenance
    write_ome_zarr(tmp_path / "a.ome.zarr", image, "YX", provenance=provenance)
    assert zarr.open_group(tmp_path / "a.ome.zarr", mode="r").attrs["napari-vdip"] == provenance


def test_every_level_of_a_multiscale_image_says_where_its_pixels_are(tmp_path):
    """A ramp in physical coordinates has at each pixel of each level the value of its coordinate."""
    spacing = {"Y": (0.5, "micrometer"), "X": (0.2, "micrometer")}
    y, x = np.mgrid[:700, :600]
    ramp = (y * spacing["Y"][0] + x * spacing["X"][0]).astype(np.float32)
    write_ome_zarr(tmp_path / "a.ome.zarr", da.from_array(ramp), "YX", spacing=spacing, name="ramp")
    group = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")
    datasets = group.attrs["ome"]["multiscales"][0]["datasets"]
    assert len(datasets) == 3
    for dataset in datasets:
        level = group[dataset["path"]][:]
        scale, *translation = dataset["coordinateTransformations"]
        offset = translation[0]["translation"] if translation else (0, 0)
        rows, columns = np.indices(level.shape)
        here = rows * scale["scale"][0] + offset[0] + columns * scale["scale"][1] + offset[1]
        np.testing.assert_allclose(level, here, rtol=1e-5)
    assert max(level.shape) <= 256


def test_no_chunk_is_larger_than_a_part_of_a_plane(tmp_path, monkeypatch):
    """Also of the coarser levels, whose own blocks are smaller than a chunk."""
    monkeypatch.setattr("napari_vdip.ome_zarr.LARGEST_CHUNK", 160)
    image = np.random.default_rng(0).normal(size=(2, 700, 300)).astype(np.float32)
    for name, array in (("lazy", da.from_array(image, (1, 700, 300))), ("whole", image)):
        write_ome_zarr(tmp_path / f"{name}.zarr", array, "ZYX")
        levels = [level for _, level in sorted(zarr.open_group(tmp_path / f"{name}.zarr").arrays())]
        assert [level.chunks for level in levels] == [(1, 160, 160), (1, 160, 150), (1, 160, 75)]
        expected = image
        for level in levels:
            np.testing.assert_allclose(level[:], expected, atol=1e-6)
            even = expected[:, : expected.shape[1] // 2 * 2, : expected.shape[2] // 2 * 2]
            expected = even.reshape(2, even.shape[1] // 2, 2, even.shape[2] // 2, 2).mean((2, 4))


def test_a_line_of_pixels_has_no_coarser_level(tmp_path):
    write_ome_zarr(tmp_path / "a.ome.zarr", np.arange(600)[None], "YX")
    opened = read(tmp_path / "a.ome.zarr")
    assert (opened.array.shape, opened.array.dtype) == ((1, 600), np.float32)


def test_an_ome_zarr_is_valid_and_says_how_to_show_it(tmp_path):
    image = np.random.default_rng(0).normal(size=(2, 3, 300, 40)).astype(np.float32)
    path = tmp_path / "a.ome.zarr"
    write_ome_zarr(
        path, da.from_array(image), "CZYX", spacing=MICROMETRES, channels=["DAPI", "GFP"], name="a"
    )
    yaozarrs.validate_zarr_store(path)
    channels = zarr.open_group(path, mode="r").attrs["ome"]["omero"]["channels"]
    assert [channel["label"] for channel in channels] == ["DAPI", "GFP"]
    for channel, own in zip(channels, image, strict=True):
        assert (channel["window"]["min"], channel["window"]["max"]) == (own.min(), own.max())


def test_the_range_of_intensities_is_that_of_the_finite_ones(tmp_path):
    image = np.array([[[np.nan, 2], [5, 3]], [[np.nan, np.nan], [np.nan, np.nan]]], np.float32)
    write_ome_zarr(tmp_path / "a.ome.zarr", image, "CYX", channels=["partly", "nowhere"])

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    text = (tmp_path / "a.ome.zarr" / "zarr.json").read_text()
    channels = json.loads(text, parse_constant=refuse)["attributes"]["ome"]["omero"]["channels"]
    assert [(one["window"]["min"], one["window"]["max"]) for one in channels] == [(2, 5), (0, 1)]


def test_napari_opens_an_ome_zarr_with_scale_units_and_names(tmp_path):
    reader = pytest.importorskip("napari_ome_zarr", reason="napari-ome-zarr is not installed")
    from napari.layers import Layer

    image = np.random.default_rng(0).normal(size=(2, 3, 300, 40)).astype(np.float32)
    path = tmp_path / "a.ome.zarr"
    write_ome_zarr(
        path, da.from_array(image), "CZYX", spacing=MICROMETRES, channels=["DAPI", "GFP"], name="a"
    )
    [(data, options, kind)] = reader.napari_get_reader(str(path))(str(path))
    axis = options.pop("channel_axis")
    per_channel = ("name", "colormap", "contrast_limits", "visible")
    for i, own in enumerate(image):
        those = {key: value[i] if key in per_channel else value for key, value in options.items()}
        layer = Layer.create([np.take(level, i, axis) for level in data], those, kind)
        np.testing.assert_allclose(layer.scale, [0.3, 0.1, 0.12])
        assert [str(unit) for unit in layer.units] == ["micrometer"] * 3
        assert ("DAPI", "GFP")[i] in layer.name
        np.testing.assert_array_equal(np.asarray(layer.data[0]), own)


@pytest.mark.parametrize("write", [write_ome_tiff, write_ome_zarr])
@pytest.mark.parametrize(
    ("axes", "shape", "colours"),
    [
        ("CYX", (2, 6, 8), ("FF8000", "0000FF")),
        ("TCYX", (2, 2, 6, 8), ("00FF00", "FFFFFF")),
        ("YX", (6, 8), ("00FF00",)),
        ("CYX", (2, 6, 8), ()),
    ],
)
def test_colours_of_channels_come_back(tmp_path, write, axes, shape, colours):
    path = tmp_path / ("a.ome.zarr" if write is write_ome_zarr else "a.ome.tif")
    names = ["DAPI", "GFP"] if "C" in axes else []
    write(path, np.zeros(shape, np.float32), axes, channels=names, colours=colours)
    usual = ("FF00FF", "00FF00") if path.suffix == ".zarr" else ()
    assert read(path).colours == (colours or usual)


def test_one_colour_for_several_channels_was_not_chosen(tmp_path):
    path = tmp_path / "a.ome.tif"
    write_ome_tiff(
        path, np.zeros((2, 6, 8), np.float32), "CYX", channels=["a", "b"], colours=["FFFFFF"] * 2
    )
    assert read(path).colours == ()


def test_colours_that_cannot_be_read_are_left_out():
    xml = '<OME><Image><Pixels><Channel Name="a" Color="{}"/></Pixels></Image></OME>'
    assert of_ome(xml.format("-16776961"), 0)[2] == ["FF0000"]
    for bad in ("red", "99999999999", "nan", ""):
        assert of_ome(xml.format(bad), 0)[2] == []


def test_a_store_of_several_images_has_scenes(tmp_path):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    root.attrs["ome"] = {"version": "0.5", "bioformats2raw.layout": 3}
    for number in (0, 10, 2):
        write_ome_zarr(tmp_path / "a.zarr" / str(number), np.full((6, 8), number, np.float32), "YX")
    assert scenes(tmp_path / "a.zarr") == ("0", "2", "10")
    assert read(tmp_path / "a.zarr", scene=2).array.compute().max() == 10
    with pytest.raises(ValueError, match="at least 4 images"):
        read(tmp_path / "a.zarr", scene=3)


def test_ome_zarr_of_the_version_before_is_read(tmp_path):
    image = counted(2, 6, 8)
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("full", data=image)
    axes = [
        {"name": "t", "type": "time"},
        *({"name": n, "type": "space", "unit": "nanometer"} for n in "yx"),
    ]
    scale = [{"type": "scale", "scale": [1.0, 50.0, 50.0]}]
    levels = [{"path": "full", "coordinateTransformations": scale}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": levels}]
    opened = read(tmp_path / "a.zarr")
    assert (opened.axes, opened.spacing) == ("TYX", dict.fromkeys("YX", (50.0, "nanometer")))
    np.testing.assert_array_equal(opened.array.compute(), image)


def test_a_store_without_an_image_is_refused(tmp_path):
    zarr.open_group(tmp_path / "a.zarr", mode="w")
    with pytest.raises(ValueError, match="multiscales"):
        read(tmp_path / "a.zarr")


def test_an_image_is_not_written_over_something_else(tmp_path):
    (tmp_path / "a.ome.zarr").mkdir()
    with pytest.raises(FileExistsError):
        write_ome_zarr(tmp_path / "a.ome.zarr", np.eye(6, dtype=np.float32), "YX")
    with pytest.raises(ValueError, match="axes"):
        write_ome_zarr(tmp_path / "b.ome.zarr", np.eye(6, dtype=np.float32), "XY")
    with pytest.raises(ValueError, match="channels"):
        write_ome_zarr(tmp_path / "b.ome.zarr", np.eye(6, dtype=np.float32), "YX", channels=["a", "b"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.ome.zarr"]
