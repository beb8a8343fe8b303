"""``napari-vdip inspect``: results in folders, with and without their input."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_vdip import Settings, batch, deconvolve
from napari_vdip.cli import app
from napari_vdip.diagnostics import Diagnosis, diagnose, judged_beside
from napari_vdip.image_file import read
from napari_vdip.inspection import folders, load, remarks
from napari_vdip.io import write_ome_tiff
from napari_vdip.psf_measures import measure_psf, theoretical_width
from napari_vdip.residual import Clipping
from napari_vdip.scenes import gaussian_psf, specimen
from napari_vdip.verdict import Verdict

PSF = gaussian_psf(9, 1.5)
SPACING = dict.fromkeys("YX", (0.1, "micrometer"))


def run(*arguments):
    return CliRunner().invoke(app, ["inspect", *map(str, arguments)], env={"COLUMNS": "100"})


def lines(*arguments):
    result = run("--json", "--device", "cpu", *arguments)
    return result.exit_code, [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Results for two channels, the second faint, and their input; never changed."""
    folder = tmp_path_factory.mktemp("made")
    channels = [
        specimen("filaments", PSF, size=64, photons=photons, seed=3).blurred for photons in (1000, 5)
    ]
    write_ome_tiff(folder / "cells.ome.tif", np.stack(channels), "CYX", spacing=SPACING)
    write_ome_tiff(folder / "psf.ome.tif", PSF, "YX", spacing=SPACING)
    items = batch.plan(
        [folder / "cells.ome.tif"], folder / "out", Settings(samples=2), psf=folder / "psf.ome.tif"
    )
    assert [event.kind for event in batch.execute(items, device="cpu")][-1] == "done"
    return folder


@pytest.fixture
def results(made, tmp_path):
    """A copy whose record says where the input is."""
    shutil.copytree(made, tmp_path / "copy")
    record = tmp_path / "copy" / "out" / "cells" / "napari-vdip.json"
    text = record.read_text().replace(str(made), str(tmp_path / "copy"))
    record.write_text(text)
    return tmp_path / "copy"


def test_what_is_loaded_is_what_was_written_and_read(results):
    stored = load(results / "out" / "cells")
    assert (stored.result.axes, stored.result.latent.shape) == ("CYX", (2, 64, 64))
    assert stored.pixels == ((0.1, 0.1), "micrometer")
    assert stored.problem == ""
    np.testing.assert_allclose(stored.result.psf[0], PSF, atol=1e-6)


def test_each_channel_gets_a_verdict_with_its_width_and_the_limit(results):
    code, (bright, faint) = lines(results / "out", "--wavelength", 520, "--na", 1.3)
    assert code == 0
    assert (bright["plane"], bright["verdict"]["answer"]) == ("C=0", "good")
    assert (faint["plane"], faint["verdict"]["answer"]) == ("C=1", "do not trust")
    assert bright["psf"]["physical"]["unit"] == "micrometer"
    assert bright["psf"]["physical"]["fwhm"][0] == pytest.approx(0.1 * bright["psf"]["pixels"]["fwhm"][0])
    assert bright["theoretical"] == pytest.approx(0.5145e-3 * 520 / 1.3, rel=1e-3)


def test_a_kernel_narrower_than_diffraction_allows_is_not_good(results):
    code, (bright, faint) = lines(results / "out", "--wavelength", 520, "--na", 0.7)
    assert code == 0
    assert bright["verdict"]["answer"] == "look closer"
    assert "narrower than diffraction" in bright["verdict"]["reasons"][0]
    assert faint["verdict"]["answer"] == "do not trust"


def test_a_plane_is_judged_beside_another_width_as_if_it_had_been_known(results):
    stored = load(results / "out" / "cells")
    optics = {"wavelength": 0.52, "na": 0.7}
    known, unknown = (
        diagnose(stored.result, stored.image, pixel_size=(0.1, 0.1), **given) for given in (optics, {})
    )
    width = theoretical_width(0.52, 0.7)
    assert [judged_beside(one, width) for one in unknown] == known
    assert [judged_beside(one, None) for one in known] == unknown


def test_a_person_gets_a_table_and_the_reasons_of_what_is_not_good(results):
    result = run(results / "out", "--device", "cpu", "--wavelength", 520, "--na", 1.3)
    assert result.exit_code == 0, result.output
    for text in ("C=0", "good", "do not trust", "FWHM, micrometer", "9 x 9", "0.206 micrometer"):
        assert text in result.output
    assert "C=1: The input has" in result.output
    assert "C=0: " not in result.output


@pytest.mark.parametrize("name", ["napari-vdip.json", "latent", "psf"])
def test_a_file_of_a_result_stands_for_its_folder(made, name):
    (file,) = (made / "out" / "cells").glob(f"{name}*")
    assert folders(file) == folders(made / "out") == [made / "out" / "cells"]


def test_an_image_in_ome_zarr_stands_for_its_folder_too(tmp_path):
    (tmp_path / "latent.ome.zarr").mkdir()
    (tmp_path / "napari-vdip.json").touch()
    assert folders(tmp_path / "latent.ome.zarr") == [tmp_path]
    for none in ("psf.ome.tif", "latent.ome.zarr/nothing"):
        with pytest.raises(ValueError, match=r"napari-vdip\.json"):
            folders(tmp_path / none)


def test_it_is_said_why_wavelength_and_aperture_are_not_used(results):
    (psf,) = (results / "out" / "cells").glob("psf.ome.*")
    kept = np.asarray(read(psf).array)
    shutil.rmtree(psf)
    write_ome_tiff(psf.with_suffix(".tif"), kept, "CYX")
    optics = "--wavelength", 520, "--na", 1.3
    _, (one, _) = lines(results / "out", *optics)
    assert "size of a pixel" in one["no_theoretical"]
    assert one["theoretical"] is None
    assert "Wavelength and NA are not used: " in run(results / "out", "--device", "cpu", *optics).output
    _, (one, _) = lines(results / "out")
    assert one["no_theoretical"] == ""
    _, (one, _) = lines(results / "out", *optics, "--pixel-size", 65)
    assert (one["no_theoretical"], one["theoretical"]) == ("", pytest.approx(0.5145 * 0.52 / 1.3, rel=1e-3))
    assert one["psf"]["physical"]["fwhm"][0] == pytest.approx(0.065 * one["psf"]["pixels"]["fwhm"][0])


def test_what_the_verdict_does_not_ask_about_is_remarked():
    good = Diagnosis("", (), Verdict("good", ()), measure_psf(gaussian_psf(41, 1.5)))
    assert len(remarks(replace(good, clipping=Clipping(0.0005, 0.005)))) == 3
    assert "11 x 11 pixels" in remarks(good)[0]
    assert remarks(replace(good, given=True, clipping=Clipping(0.0, 0.0))) == []
    reasons = Clipping(0.02, 0.3)
    assert remarks(replace(good, given=True, clipping=reasons)) == []
    assert remarks(replace(good, psf=None)) == []


def test_without_its_input_there_is_no_residual_but_the_rest(results):
    (results / "cells.ome.tif").unlink()
    code, found = lines(results / "out")
    assert code == 0
    assert [one["residual"] for one in found] == [None, None]
    assert "not there" in found[0]["problem"]
    assert found[0]["verdict"]["answer"] == "look closer"
    assert found[0]["psf"]["window"] == [9, 9]
    assert "No residual: the input" in run(results / "out", "--device", "cpu").output


def test_an_input_that_has_changed_is_not_compared_with(results):
    other = np.zeros((2, 64, 64), np.float32)
    write_ome_tiff(results / "cells.ome.tif", other, "CYX", spacing=SPACING)
    code, found = lines(results / "out" / "cells" / "napari-vdip.json")
    assert code == 0
    assert [one["residual"] for one in found] == [None, None]
    assert "has changed" in found[0]["problem"]


def test_a_broken_folder_does_not_stop_the_others(results):
    shutil.copytree(results / "out" / "cells", results / "out" / "a")
    (results / "out" / "a" / "napari-vdip.json").write_text("{}")
    (results / "cells.ome.tif").unlink()
    code, found = lines(results / "out")
    assert code == 1
    assert "version" in found[0]["failed"]
    assert [one["plane"] for one in found[1:]] == ["C=0", "C=1"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("nowhere",), "RESULT"),
        ((".", "--wavelength", 500), "--na"),
        ((".", "--na", 1.2), "--wavelength"),
        ((".", "--na", 0, "--wavelength", 500), "--na"),
        ((".", "--pixel-size", 0), "--pixel-size"),
    ],
)
def test_a_command_that_cannot_be_used_is_refused(tmp_path, monkeypatch, arguments, word):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert word in result.output


def test_what_the_demo_writes_is_inspected_too(tmp_path):
    scene = specimen("nuclei", PSF, size=64, seed=3)
    result = deconvolve(scene.blurred, psf=PSF, samples=2, device="cpu")
    for name in ("blurred", "latent", "psf", "std"):
        array = scene.blurred if name == "blurred" else getattr(result, name)
        write_ome_tiff(tmp_path / f"{name}.ome.tif", array, "YX", spacing=SPACING)
    code, (one,) = lines(tmp_path)
    assert code == 0
    assert one["residual"]["chi_square"] > 0


def test_a_result_that_was_kept_and_one_that_was_stored_agree(results):
    # What was stored is blurred again, and lacks the border.
    stored = load(results / "out" / "cells")
    image = np.asarray(stored.image)
    kept = deconvolve(image, axes="CYX", psf=PSF, samples=2, device="cpu")
    for one, other in zip(diagnose(kept, image), diagnose(stored.result, image), strict=True):
        assert one.psf.energy == pytest.approx(other.psf.energy, rel=1e-5)
        assert one.residual.chi_square == pytest.approx(other.residual.chi_square, rel=0.15)
        assert one.verdict.answer == other.verdict.answer


def test_planes_that_a_run_did_not_reach_are_not_trusted():
    images = np.stack([specimen("nuclei", PSF, size=48, seed=seed).blurred for seed in (0, 1, 2)])
    whole = deconvolve(
        images, axes="ZYX", psf=PSF, samples=2, device="cpu", progress=lambda at: at.plane > 1
    )
    first, second, third = diagnose(whole, images)
    assert not any("ended" in reason for reason in first.verdict.reasons)
    assert "The run ended early" in second.verdict.reasons[0]
    assert (third.verdict.answer, third.psf) == ("do not trust", None)


def test_a_blank_plane_is_said_to_be_blank_and_is_not_judged(tmp_path):
    image = specimen("nuclei", PSF, size=48, seed=0).blurred
    stack = np.stack([np.zeros_like(image), image])
    result = deconvolve(stack, axes="ZYX", psf_shape=5, steps=1, refinements=1, samples=2, device="cpu")
    for source in (stack, None):
        blank, other = diagnose(result, source)
        assert (blank.verdict.answer, blank.psf) == ("blank", None)
        assert "Nothing was estimated" in blank.verdict.reasons[0]
        assert other.verdict.answer != "blank"
    write_ome_tiff(tmp_path / "stack.ome.tif", stack, "ZYX")
    work = batch.plan([tmp_path / "stack.ome.tif"], tmp_path / "out", result.settings)
    assert [event.kind for event in batch.execute(work, device="cpu")][-1] == "done"
    assert load(tmp_path / "out" / "stack").result.blank == result.blank == ((0,),)
    _, (blank, other) = lines(tmp_path / "out")
    assert blank["verdict"]["answer"] == "blank"
    assert other["verdict"]["answer"] != "blank"
    assert "Z=0: The plane is blank" in run("--device", "cpu", tmp_path / "out").stdout


def test_a_region_is_compared_with_its_part_of_the_source():
    image = specimen("filaments", PSF, size=96, seed=3).blurred
    part = deconvolve(image, psf=PSF, region=((10, 74), (20, 90)), samples=2, device="cpu")
    (one,) = diagnose(part, image)
    assert one.residual.region == ((0, 64), (0, 70))
    assert one.residual.chi_square < 1.5
    with pytest.raises(ValueError, match="image: expected the shape"):
        diagnose(part, image[:50])
    with pytest.raises(ValueError, match="image: expected the shape"):
        diagnose(part, image[None])


@pytest.mark.parametrize(("given", "name"), [({"na": 1.0}, "wavelength"), ({"wavelength": 500.0}, "na")])
def test_half_of_the_optics_is_not_enough(given, name):
    image = specimen("nuclei", PSF, size=40, seed=0).blurred
    result = deconvolve(image, psf=PSF, samples=2, device="cpu")
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        diagnose(result, image, **given)
