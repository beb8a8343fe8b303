"""A region of files: the same numbers as in Python, and metadata that say where it lies."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
import yaozarrs
from typer.testing import CliRunner

from napari_vdip import Settings, batch, deconvolve, ome_zarr
from napari_vdip._reader import get_reader
from napari_vdip.cli import app
from napari_vdip.image_file import read
from napari_vdip.inspection import load
from napari_vdip.ome_zarr import write_ome_zarr
from napari_vdip.recipe import command
from napari_vdip.scenes import cells

SETTINGS = Settings(psf_shape=5, steps=1, refinements=0, samples=2)
SMALL = ("--psf-shape", "5", "--steps", "1", "--refinements", "0", "--samples", "2", "--device", "cpu")
SPACING = {"Y": (0.5, "micrometer"), "X": (0.2, "micrometer")}
REGION = ((8, 56), (20, 70))


@pytest.fixture
def image(tmp_path):
    """A file of two planes whose first pixel is not at zero, and what is in it."""
    array = np.stack([cells(size=80, psf_size=5, seed=seed).blurred for seed in range(2)])
    where = {"spacing": SPACING, "origin": {"Y": 3.0, "X": -1.0}}
    write_ome_zarr(tmp_path / "image.ome.zarr", array, "ZYX", **where)
    return tmp_path / "image.ome.zarr", array


def run(*arguments):
    return CliRunner().invoke(app, ["run", *map(str, arguments)])


def test_a_region_is_done_as_in_python_and_says_where_it_lies(tmp_path, image):
    path, array = image
    result = run(path, "--output", tmp_path / "out", "--region", "8:-24,20:70", *SMALL)
    assert result.exit_code == 0, result.output
    latent = read(tmp_path / "out" / "image" / "latent.ome.zarr")
    expected = deconvolve(array, SETTINGS, axes="ZYX", region=REGION, device="cpu")
    np.testing.assert_array_equal(latent.array, expected.latent)
    np.testing.assert_array_equal(read(tmp_path / "out" / "image" / "psf.ome.zarr").array, expected.psf)
    assert latent.spacing == SPACING
    assert latent.origin == pytest.approx({"Y": 3.0 + 8 * 0.5, "X": -1.0 + 20 * 0.2})
    assert read(tmp_path / "out" / "image" / "psf.ome.zarr").origin == {}
    yaozarrs.validate_zarr_store(tmp_path / "out" / "image" / "latent.ome.zarr")
    record = json.loads((tmp_path / "out" / "image" / "napari-vdip.json").read_text())
    assert record["region"] == [[8, 56], [20, 70]]
    assert load(tmp_path / "out" / "image").result.region == REGION

    # Metadata and the written command repeat it.
    again = run("--from-metadata", tmp_path / "out", "--output", tmp_path / "again", "--device", "cpu")
    assert again.exit_code == 0, again.output
    repeated = read(tmp_path / "again" / "image" / "latent.ome.zarr")
    np.testing.assert_array_equal(repeated.array, latent.array)
    assert repeated.origin == latent.origin
    words = command([path], tmp_path / "out", SETTINGS, region=REGION, device="cpu").split()
    assert "1 done before" in run(*words[2:]).output
    assert run(*words[2:-4], "--device", "cpu").exit_code == 1  # of the whole: made otherwise


@pytest.mark.parametrize("format", ["ome-zarr", "ome-tiff"])
def test_napari_lays_a_region_over_its_image(tmp_path, format):
    reader = pytest.importorskip("napari_ome_zarr", reason="napari-ome-zarr is not installed")
    from napari.layers import Layer

    path, record = tmp_path / "image.ome.zarr", str(tmp_path / "out" / "image" / "napari-vdip.json")
    write_ome_zarr(path, np.stack([cells(size=80, psf_size=5).blurred] * 2), "ZYX", spacing=SPACING)
    options = ("--region", "8:56,20:70", "--format", format)
    assert run(path, "--output", tmp_path / "out", *options, *SMALL).exit_code == 0
    whole = Layer.create(*reader.napari_get_reader(str(path))(str(path))[0])
    layers = [Layer.create(*layer) for layer in get_reader(record)(record)]
    assert [layer.name for layer in layers] == ["image latent", "image PSF", "image std"]
    assert layers[0].units == whole.units
    part = layers[0]
    for corner in ((0, 0, 0), (1, 47, 49)):
        there = np.add(corner, (0, 8, 20))
        np.testing.assert_allclose(part.data_to_world(corner), whole.data_to_world(there))


def test_positions_of_planes_in_an_ome_tiff_are_those_of_the_region(tmp_path, image):
    path, _ = image
    options = ("--format", "ome-tiff", "--region", "8:56,20:70")
    assert run(path, "--output", tmp_path / "out", *options, *SMALL).exit_code == 0
    with tifffile.TiffFile(tmp_path / "out" / "image" / "latent.ome.tif") as file:
        planes = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]["Plane"]
    assert len(planes) == 2
    for plane in planes:
        assert (plane["PositionY"], plane["PositionX"]) == pytest.approx((7.0, 3.0))
        assert (plane["PositionYUnit"], plane["PositionXUnit"]) == ("µm", "µm")


def test_a_single_plane_without_sizes_lies_where_its_pixels_are(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", cells(size=64, psf_size=5).blurred)
    assert (
        run(tmp_path / "a.tif", "--output", tmp_path / "out", "--region", "9:,:50", *SMALL).exit_code == 0
    )
    record = tmp_path / "out" / "a" / "napari-vdip.json"
    assert json.loads(record.read_text())["origin"] == {"Y": 9.0, "X": 0.0}
    assert get_reader(str(record.with_name("other.json"))) is None
    (latent, options, _), *_ = get_reader(str(record))(str(record))
    assert latent.shape == (55, 50)
    assert (list(options["translate"]), list(options["scale"])) == ([9.0, 0.0], [1.0, 1.0])


@pytest.mark.parametrize(
    ("region", "reason"),
    [
        ("8:200,0:40", "region: expected rows and columns, inside 80 x 80 pixels"),
        ("40:8,0:40", "region: expected rows and columns, inside 80 x 80 pixels"),
        ("-90:40,0:40", "region: expected rows and columns, inside 80 x 80 pixels"),
    ],
)
def test_a_region_beside_an_image_is_a_problem_before_any_work(tmp_path, image, region, reason):
    path, _ = image
    for more in (("--dry-run",), ()):
        result = run(path, "--output", tmp_path / "out", f"--region={region}", *SMALL, *more)
        assert (result.exit_code, reason in result.output) == (1, True), result.output
    assert not list(tmp_path.glob("out/*"))


def test_planes_of_another_region_are_not_taken_over(tmp_path, image):
    path, _ = image
    [item] = batch.plan([path], tmp_path / "out", SETTINGS, region=REGION)
    events = batch.execute([item], device="cpu")
    assert next(event for event in events if event.kind == "plane").number == 1
    events.close()
    [other] = batch.plan([path], tmp_path / "out", SETTINGS, region=((0, 50), (0, 50)))
    assert next(batch.execute([other], device="cpu")).number == 0
    [latent] = ome_zarr.levels(other.partial / "planes" / "latent.ome.zarr")
    assert latent.shape == (2, 50, 50)
