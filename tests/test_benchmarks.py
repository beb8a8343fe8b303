"""The benchmarks' own rules: datasets, peers, results on disk, and the report."""

from __future__ import annotations

import importlib
import json
import sys
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.signal import fftconvolve
from skimage.io import imsave

from napari_vdip import Settings
from napari_vdip.coarse_to_fine import STARTS
from napari_vdip.plane import Plane
from napari_vdip.scenes import gaussian_psf, specimen
from napari_vdip.starts import starts_of

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
(
    calibration,
    common,
    datasets,
    estimate,
    guard,
    kill,
    noreference,
    peers,
    quality,
    report,
    scaling,
    speed,
    verdict,
    ways,
) = (
    importlib.import_module(name)
    for name in (
        "calibration",
        "common",
        "datasets",
        "estimate",
        "guard",
        "kill",
        "noreference",
        "peers",
        "quality",
        "report",
        "scaling",
        "speed",
        "verdict",
        "ways",
    )
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def levin_folder(tmp_path, rng):
    """Two images in the layout of Levin's, whose first kernel is lopsided and whose fourth is turned."""
    gt = tmp_path / "levin" / "gt"
    gt.mkdir(parents=True)
    truth = rng.integers(0, 255, (64, 64)).astype(np.uint8)
    kernel = np.zeros((5, 5), np.uint8)
    kernel[1, 1:4] = 100, 50, 200
    imsave(gt / "im1.png", truth, check_contrast=False)
    for number in (1, 4):
        imsave(gt / f"kernel{number}.png", kernel, check_contrast=False)
        blurred = datasets.lai_blurred(truth, kernel.astype(float), rng)
        imsave(tmp_path / "levin" / f"im1_kernel{number}_img.png", blurred, check_contrast=False)
    return tmp_path


@pytest.mark.parametrize("channels", [(), (3,)])
def test_the_rule_of_lai_is_a_correlation_with_replicated_border_and_uniform_noise(rng, channels):
    sharp = rng.integers(0, 256, (12, 10, *channels)).astype(np.uint8)
    kernel = rng.uniform(0, 9, (3, 5))
    blurred = datasets.lai_blurred(sharp, kernel, np.random.default_rng(7))
    padded = np.pad(sharp / 255, ((1, 1), (2, 2), *((0, 0) for _ in channels)), mode="edge")
    expected = sum(
        kernel[row, column] / kernel.sum() * padded[row : row + 12, column : column + 10]
        for row in range(3)
        for column in range(5)
    )
    noise = 0.01 * np.random.default_rng(7).random(sharp.shape)
    assert blurred.dtype == np.uint8
    assert np.abs(blurred - 255 * (expected + noise).clip(0, 1)).max() <= 0.5 + 1e-9


def test_luma_spans_the_studio_range_and_takes_greys_as_equal_colours():
    grey = np.array([[0, 128, 255]], np.uint8)
    colour = np.dstack([grey] * 3)
    np.testing.assert_allclose(datasets.luma(grey)[0, [0, 2]], [16, 235])
    np.testing.assert_allclose(datasets.luma(colour), datasets.luma(grey))
    assert datasets.luma(np.array([[[255, 0, 0]]]))[0, 0] == pytest.approx(16 + 65.481)


def test_downsampling_averages_blocks_of_large_images_and_leaves_small_ones(rng):
    large, small = rng.normal(size=(512, 514)), rng.normal(size=(300, 300))
    blocks = large.reshape(256, 2, 257, 2).mean((1, 3))
    np.testing.assert_allclose(datasets.downsampled(large), blocks)
    np.testing.assert_array_equal(datasets.downsampled(small), small)


def test_levin_cases_have_the_papers_windows_and_kernels_as_convolution_kernels(levin_folder):
    first, fourth = datasets.levin(levin_folder)
    assert [first.window, fourth.window] == [17, 27]
    np.testing.assert_allclose(first.psf, fourth.psf[::-1, ::-1])  # the fourth is stored turned
    assert first.psf.sum() == pytest.approx(1)
    assert first.psf[3, 1] > first.psf[3, 3]
    assert {case.window for case in datasets.levin(levin_folder, 31)} == {31}


def test_generated_cases_cover_kinds_point_spread_functions_and_noise(monkeypatch):
    monkeypatch.setattr(datasets, "SPECIMEN_PHOTONS", (100,))
    monkeypatch.setattr(datasets, "SPECIMEN_PSFS", {"gauss5": gaussian_psf(5, 0.9)})
    cases = list(datasets.specimens())
    assert [case.notes["kind"] for case in cases] == list(datasets.SPECIMENS)
    assert all(case.window == 5 and case.truth.shape == case.image.shape for case in cases)
    by_level = [np.std(case.image - case.truth) for case in datasets.noise()]
    assert by_level == sorted(by_level)
    assert len(by_level) == len(datasets.NOISE_LEVELS)


@pytest.mark.parametrize("peer", ["rl_true", "wiener_true"])
def test_a_peer_that_knows_the_point_spread_function_is_better_than_the_input(peer, monkeypatch):
    monkeypatch.setattr(peers, "RL_ITERATIONS", (10, 30))
    scene = specimen("filaments", gaussian_psf(9, 1.5), size=64, photons=5000)
    case = datasets.from_scene(scene, "specimens", "filaments", {})
    before = quality.likeness(case, case.image)[0]
    *_, last = peers.PEERS[peer](case)
    assert quality.likeness(case, last.latent)[0] > before + 3


def test_blind_richardson_lucy_keeps_the_intensities_and_returns_a_point_spread_function(monkeypatch):
    pytest.importorskip("pyBlindRL")
    monkeypatch.setattr(peers, "BLIND_ITERATIONS", (2,))
    scene = specimen("nuclei", gaussian_psf(9, 1.5), size=64, photons=5000)
    (restored,) = peers.blind_rl(datasets.from_scene(scene, "specimens", "nuclei", {}))
    assert restored.latent.mean() == pytest.approx(scene.blurred.mean(), rel=0.02)
    assert restored.psf.shape == (9, 9)
    assert restored.psf.sum() == pytest.approx(1)


def test_a_peer_that_does_nothing_returns_the_image_itself(rng):
    image = rng.uniform(0, 9, (20, 22, 3))
    np.testing.assert_allclose(peers.extended_and_scaled(image, 7, lambda extended: extended), image)


def test_a_measure_that_fails_is_left_out_and_says_why(rng):
    assert "niqe" not in noreference.scores(rng.uniform(0, 1, (64, 64)), 1.0)
    assert noreference.reasons["niqe"]


def test_results_are_kept_after_every_row_and_resumed_with_the_same_settings(tmp_path):
    path = tmp_path / "results" / "some.json"
    settings = {"psf_shape": (3, 5)}
    first = common.Results(path, {"date": "one"}, resume=False)
    first.add({"image": "a"}, settings, psnr=np.float64(1.5), shift=(np.nan, 0.25))
    assert json.loads(path.read_text())["rows"][0]["shift"] == [None, 0.25]
    second = common.Results(path, {"date": "two"}, resume=True)
    assert second.has({"image": "a"}, settings)
    assert not second.has({"image": "a"}, {"psf_shape": (3, 3)})
    assert not second.has({"image": "b"}, settings)
    second.add({"image": "b"}, settings)
    assert [row["run"] for row in json.loads(path.read_text())["rows"]] == [0, 1]
    third = common.Results(path, {"date": "three"}, resume=False)
    assert not third.has({"image": "a"}, settings)
    third.add({"image": "a"}, {"psf_shape": (3, 3)})
    assert [(row["image"], row["run"]) for row in json.loads(path.read_text())["rows"]] == [
        ("b", 1),
        ("a", 2),
    ]
    assert [part.name for part in path.parent.iterdir()] == ["some.json"]


def test_an_exponent_is_exact_on_a_power_law():
    x = np.array([3.0, 10.0, 41.0])
    assert speed.power_law(x, 0.2 * x**1.7) == pytest.approx(1.7)


def test_the_coverage_of_a_normal_error_is_nominal(rng):
    error = np.abs(rng.normal(0, 2.0, 100_000))
    found = calibration.coverage(error, np.full_like(error, 2.0), [0.5, 0.95])
    np.testing.assert_allclose(found, [0.5, 0.95], atol=0.01)


def test_the_report_replaces_what_is_between_markers_and_nothing_else():
    text = "one\n<!-- begin a -->\nold\nold\n<!-- end a -->\ntwo\n<!-- begin b -->\n<!-- end b -->\n3"
    blocks = {"a": "new", "b": "| x |\n"}
    once = report.filled(text, blocks)
    assert once == text.replace("old\nold", "new").replace("begin b -->\n", "begin b -->\n| x |\n")
    assert report.filled(once, blocks) == once
    with pytest.raises(ValueError, match=r"expected tables of .*got 'b'"):
        report.filled(text, {"a": "new"})


def test_levin_from_the_folder_to_the_report_and_no_image_twice(levin_folder, monkeypatch, capsys):
    monkeypatch.setattr(peers, "RL_ITERATIONS", (1, 30))
    monkeypatch.setattr(quality, "scores", lambda image, data_range: {"piqe": 1.0})
    path = levin_folder / "results" / "quality.json"
    command = ["--data", str(levin_folder), "--datasets", "levin", "--json", str(path), "--device", "cpu"]
    command += ["--quick", "--resume", "--no-reference", "--methods", "blurred", "default", "rl_true"]
    rows = quality.main(command).rows
    methods = {row["method"]: row for row in rows}
    assert list(methods) == ["blurred", "default", "rl_true", "rl_true_best"]
    assert methods["rl_true_best"]["error_ratio"] == pytest.approx(1)
    assert methods["default"]["kernel_energy_true"] > 0.3
    assert 0 <= methods["default"]["covered"] <= 1
    assert quality.main(command).rows == rows
    assert "default" in capsys.readouterr().out

    document = levin_folder / "docs" / "benchmarks.md"
    document.parent.mkdir()
    document.write_text((common.ROOT / "docs" / "benchmarks.md").read_text())
    arguments = ["--results", str(path.parent), "--document", str(document)]
    report.main(arguments)
    written = document.read_text()
    assert f"| **default preset** | 1 | {methods['default']['psnr']:.2f} |" in written
    report.main(arguments)
    assert document.read_text() == written


def test_speed_and_calibration_reach_the_report(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "in_own_process", speed.probe)  # starting processes takes long
    monkeypatch.setattr(calibration, "PHOTONS", (1000.0,))
    results = tmp_path / "results"
    common_options = ["--quick", "--device", "cpu", "--json"]
    rows = speed.main([*common_options, str(results / "speed.json"), "--sides", "40", "48"]).rows
    assert [row["part"] for row in rows] == ["versus", "curve", "images", "images", "psfs", "psfs"]
    assert rows[0]["times_faster"] > 1
    assert rows[1]["seconds_to_quality"] <= rows[1]["seconds"]
    (row,) = calibration.main([*common_options, str(results / "calibration.json")]).rows
    assert row["empirical"] == sorted(row["empirical"])
    document = tmp_path / "benchmarks.md"
    names = ("speed", "stages", "scaling", "growth", "calibration", "plot-scaling", "plot-curve")
    document.write_text("\n".join(f"<!-- begin {name} -->\n<!-- end {name} -->" for name in names))
    report.main(["--results", str(results), "--document", str(document)])
    assert report.NOTHING not in document.read_text()
    assert max(path.stat().st_size for path in (tmp_path / "images").glob("*.png")) < 60_000


def test_estimates_reach_the_report(tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "in_own_process", lambda task, *arguments: task(*arguments))
    results = tmp_path / "results"
    (row,) = estimate.main(["--quick", "--device", "cpu", "--json", str(results / "estimate.json")]).rows
    document = tmp_path / "benchmarks.md"
    document.write_text("<!-- begin estimate -->\n<!-- end estimate -->")
    report.main(["--results", str(results), "--document", str(document)])
    assert f"**{row['expected_seconds'] / row['seconds']:.2f}**" in document.read_text()
    assert f"| {row['memory'] / 1e9:.2f} |" in document.read_text()


def test_serial_runs_and_clusters_reach_the_report(tmp_path):
    path = tmp_path / "results" / "scaling.json"
    command = ["--quick", "--device", "cpu", "--json", str(path), "--resume", "--workers", "1"]
    rows = scaling.main(command).rows
    assert [row["workers"] for row in rows] == [0, 1]
    for row in rows:
        assert row["planes_per_minute"] == pytest.approx(60 * row["planes"] / row["planes_seconds"])
    assert scaling.main(command).rows == rows
    document = tmp_path / "scaling.md"
    document.write_text("<!-- begin workers -->\n<!-- end workers -->\n")
    report.main(["--results", str(path.parent), "--document", str(document)])
    growth = rows[1]["planes_per_minute"] / rows[0]["planes_per_minute"]
    lines = [line for line in document.read_text().splitlines() if "4 planes" in line]
    assert [line.split("|")[4].strip() for line in lines] == ["1.00", f"{growth:.2f}"]
    assert "serial" in lines[0]
    assert "1 worker" in lines[1]


def test_ways_are_kept_one_by_one_and_reach_the_report(tmp_path):
    path = tmp_path / "results" / "ways.json"
    command = ["--quick", "--json", str(path), "--resume", "--ways", "function"]
    (first,) = ways.main(command).rows
    rows = ways.main([*command, "command"]).rows  # does what is missing
    assert rows[0] == first
    assert [row["way"] for row in rows] == ["function", "command"]
    assert rows[0]["sha256"] == rows[1]["sha256"]
    assert all(row["peak"] >= row["peak_own"] > 0 for row in rows)
    document = tmp_path / "scaling.md"
    names = ("ways", "plot-ways")
    document.write_text("\n".join(f"<!-- begin {name} -->\n<!-- end {name} -->" for name in names))
    report.main(["--results", str(path.parent), "--document", str(document)])
    lines = [line for line in document.read_text().splitlines() if "2 x 2 x 48 x 48" in line]
    assert [line.rpartition("latent, std, psf |")[1] != "" for line in lines] == [True, True]
    assert (tmp_path / "images" / "benchmark_ways.png").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_kills_reach_the_report(tmp_path):
    path = tmp_path / "results" / "kill.json"
    command = ["--quick", "--device", "cpu", "--json", str(path), "--stacks", "1", "--planes", "2"]
    (row,) = kill.main(command).rows
    assert row["same_bits"] == ["latent", "std", "psf"]
    assert 0 < len(row["kills"]) <= 2
    assert all(met["planes_done"] <= 2 and "went_on_from" in met for met in row["kills"])
    document = tmp_path / "benchmarks.md"
    document.write_text("<!-- begin kill -->\n<!-- end kill -->")
    report.main(["--results", str(path.parent), "--document", str(document)])
    assert document.read_text().count(", kill ") == len(row["kills"])
    assert "| latent, std, psf |" in document.read_text()


def test_verdicts_reach_the_report(tmp_path):
    path = tmp_path / "results" / "verdict.json"
    (row,) = verdict.main(["--quick", "--only", "40", "--json", str(path), "--device", "cpu"]).rows
    assert (row["kernel"], row["case"], row["image"], row["answer"]) == (
        "given", "40 photons", "cells", "look closer",
    )  # fmt: skip
    assert any("variance of its noise" in reason for reason in row["reasons"])
    document = tmp_path / "reading-results.md"
    document.write_text("<!-- begin verdict-given -->\n<!-- end verdict-given -->")
    report.main(["--results", str(path.parent), "--document", str(document)])
    assert (
        f"| 40 photons | 1 | 0 | 1 | 0 | {row['gain']:+.1f} to {row['gain']:+.1f} |" in document.read_text()
    )


def test_the_trials_of_the_verdict_know_what_they_restore():
    for trial in chain(verdict.given(), verdict.found()):
        assert trial.blurred.shape == trial.truth.shape == (verdict.SIDE, verdict.SIDE)
        assert (trial.psf is None) == (trial.kernel == "found")
        assert trial.psf is None or trial.psf.sum() == pytest.approx(1)
    right = next(verdict.given())
    convolved = fftconvolve(right.truth, right.psf, "same")
    inside = (slice(8, -8),) * 2
    noise = (right.blurred - convolved)[inside] / np.sqrt(convolved + verdict.READOUT**2)[inside]
    assert noise.std() == pytest.approx(1, abs=0.05)


def test_what_the_window_draws_has_a_line_each_in_the_report(tmp_path):
    results = common.Results(tmp_path / "results" / "worker.json", {"date": "2026"}, resume=False)
    for drawn, ratio in (("image", 0.9), ("image and course", 0.8)):
        key = {"part": "worker", "image_side": 64, "psf_side": 9, "preset": "default", "device": "cpu"}
        rates = {"script": 10.0, "napari": 10 * ratio, "ratio": ratio, "every_ratio": [ratio]}
        results.add({**key, "drawn": drawn}, None, **rates)
    _, rows = report.read(results.path.parent)
    lines = report.worker(rows).splitlines()[2:]
    assert ["drawing image and course" in line for line in lines] == [False, True]
    assert "**0.90**" in lines[0]
    assert "**0.80**" in lines[1]


def test_the_documents_have_a_place_for_every_table_and_plot():
    texts = [document.read_text() for document in report.DOCUMENTS]
    names = [name for text in texts for _, name, _ in report.MARKED.findall(text)]
    expected = {*report.TABLES, *(f"plot-{name}" for name in report.PLOTS), "environments", "missing"}
    assert set(names) == expected
    assert len(names) == len(expected)


def test_the_guard_takes_turns_and_counts_every_repeat(monkeypatch):
    seen = []

    def probe(checkout):
        seen.append(checkout.name)
        return {"rate": 10.0 * len(seen), "gain": {"base": 8.0, "head": 9.0}[checkout.name] - len(seen)}

    monkeypatch.setattr(guard, "probe", probe)
    pairs = guard.measure(Path("base"), Path("head"), 3)
    assert seen == ["base", "head", "head", "base", "base", "head"]
    found = guard.compare(pairs)
    assert found.speed == 6 / 5  # of 2 / 1, 3 / 4 and 6 / 5
    assert (found.before, found.after) == (pytest.approx(8 - 10 / 3), pytest.approx(9 - 11 / 3))
    assert not found.lost


@pytest.mark.parametrize(
    ("rates", "gains", "lost"),
    [
        ((1.0, 0.1, 1.0), (0.0, 0.0, 0.0), False),  # one slow repeat is a busy machine
        ((0.6, 0.6, 1.0), (0.0, 0.0, 0.0), True),
        ((1.0, 1.0, 1.0), (-2.0, 0.0, 0.0), True),  # in whichever repeat it is
        ((1.0, 1.0, 1.0), (-0.6, 0.0, 0.0), False),
    ],
)
def test_the_guard_tells_a_large_loss(rates, gains, lost):
    then = {"rate": 50.0, "gain": 8.0}
    pairs = [(then, {"rate": 50 * rate, "gain": 8 + gain}) for rate, gain in zip(rates, gains, strict=True)]
    assert guard.compare(pairs).lost is lost


def test_the_guard_probes_the_default_from_one_start_and_from_several(monkeypatch, capsys):
    seen = []

    def recorded(image, device, **changes):
        settings = Settings(**changes)
        plane = Plane(image[..., None], settings, torch.device(device))
        seen.append((settings, len(starts_of(settings, plane.sharpness))))
        return SimpleNamespace(latent=image, history=[{"stage": ["refinement"]}], seconds=1.0)

    monkeypatch.setattr("napari_vdip.deconvolve", recorded)
    exec(guard.PROBE, {})
    assert json.loads(capsys.readouterr().out) == {"rate": 1.0, "gain": 0.0}
    assert [starts for _, starts in seen] == [1, len(STARTS)]
    assert all(settings == Settings(psf_shape=settings.psf_shape) for settings, _ in seen)
