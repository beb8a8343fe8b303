import re

import tifffile
from PIL import Image
from typer.testing import CliRunner

from napari_vdip.cli import app


def run(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_the_demo_writes_all_results_and_says_what_it_gained(tmp_path):
    result = run("demo", "--output", tmp_path / "out", "--size", 128, "--device", "cpu")
    assert result.exit_code == 0, result.output
    shapes = {"blurred": (128, 128), "latent": (128, 128), "std": (128, 128), "psf": (25, 25)}
    for name, shape in shapes.items():
        stored = tifffile.imread(tmp_path / "out" / f"{name}.ome.tif")
        assert (stored.shape, stored.dtype) == (shape, "float32")
    with Image.open(tmp_path / "out" / "overview.png") as overview:
        assert min(overview.size) > 500
    before, after = map(float, re.findall(r"PSNR\s+([\d.]+) dB -> ([\d.]+) dB", result.output)[0])
    assert after > before
    assert "on cpu (finished)" in result.output


def test_an_unknown_device_is_an_error_that_says_what_there_is(tmp_path):
    result = run("demo", "--output", tmp_path / "out", "--device", "abacus")
    assert result.exit_code == 2
    assert "cpu" in result.output
    assert not (tmp_path / "out").exists()


def test_no_command_prints_the_help():
    assert "demo" in run("--help").output
