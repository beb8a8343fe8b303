import json
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import tifffile
import typer
from PIL import Image
from typer.testing import CliRunner

from napari_vdip import Settings, batch, workspace
from napari_vdip.cli import app, print_events
from napari_vdip.course import FINISHED, Course
from napari_vdip.io import write_ome_tiff
from napari_vdip.scenes import cells


def run(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_the_demo_writes_all_results_and_says_what_it_gained(tmp_path):
    result = run("demo", "--output", tmp_path / "out", "--size", 96, "--device", "cpu")
    assert result.exit_code == 0, result.output
    shapes = {"blurred": (96, 96), "latent": (96, 96), "std": (96, 96), "psf": (25, 25)}
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


SMALL = ("--psf-shape", 5, "--steps", 1, "--refinements", 0, "--samples", 2, "--device", "cpu")


@pytest.fixture
def image(tmp_path):
    tifffile.imwrite(tmp_path / "image.tif", cells(size=48, psf_size=5).blurred)
    return tmp_path / "image.tif"


def test_a_run_writes_what_was_found_and_is_not_done_twice(tmp_path, image):
    command = ("run", image, "--output", tmp_path / "out", *SMALL)
    result = run(*command)
    assert result.exit_code == 0, result.output
    results = sorted(path.name for path in (tmp_path / "out" / "image").iterdir())
    assert results == ["latent.ome.tif", "napari-vdip.json", "psf.ome.tif", "std.ome.tif"]
    assert tifffile.imread(tmp_path / "out" / "image" / "psf.ome.tif").shape == (5, 5)
    assert "1 done, 0 done before, 0 failed" in result.output
    again = run(*command)
    assert again.exit_code == 0
    assert "0 done, 1 done before, 0 failed" in again.output


def test_a_failed_image_is_named_at_the_end_and_in_the_exit_code(tmp_path, image):
    (tmp_path / "empty.tif").touch()
    result = run("run", tmp_path, "--output", tmp_path / "out", *SMALL)
    assert result.exit_code == 1
    assert "1 done, 0 done before, 1 failed" in result.stdout
    assert re.search(r"failed: .*empty\.tif: .*empty file", result.stderr)
    assert (tmp_path / "out" / "image" / "latent.ome.tif").exists()


@pytest.mark.filterwarnings("ignore:the objective was not finite")
def test_planes_that_ended_early_are_counted_at_the_end(tmp_path, image, monkeypatch):
    follow = Course.follow

    def broken(course, estimate):
        follow(course, estimate)
        return FINISHED if estimate.step == 1 else "the objective was not finite at step 2"

    monkeypatch.setattr(Course, "follow", broken)
    command = ("run", image, "--output", tmp_path / "out", *SMALL, "--steps", 3)
    result = run(*command)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "1 done, 0 done before, 0 failed, 1 of the planes ended early"
    again = json.loads(run(*command, "--json").stdout.splitlines()[-1])
    assert (again["skipped"], again["ended_early"]) == (1, 1)


def test_blank_planes_are_said_when_they_pass_and_counted_at_the_end(tmp_path):
    stack = np.stack([np.zeros((48, 48), np.float32), cells(size=48, psf_size=5).blurred])
    write_ome_tiff(tmp_path / "stack.ome.tif", stack, "ZYX")
    command = ("run", tmp_path / "stack.ome.tif", "--output", tmp_path / "out", *SMALL)
    result = run(*command)
    assert result.exit_code == 0, result.output
    assert "plane 1 of 2 (Z=0): blank, passed through" in result.stdout
    assert result.stdout.splitlines()[-1] == "1 done, 0 done before, 0 failed, 1 of the planes blank"
    again = [json.loads(line) for line in run(*command, "--json").stdout.splitlines()]
    assert again[-1]["blank"] == 1


def test_a_program_gets_an_object_in_every_line(tmp_path, image):
    (tmp_path / "empty.tif").touch()
    result = run("run", tmp_path, "--output", tmp_path / "out", "--json", *SMALL)
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["event"] for event in events] == ["failed", "started", "step", "plane", "done", "summary"]
    counts = {"done": 1, "skipped": 0, "failed": 1, "ended_early": 0, "blank": 0}
    assert events[-1] == {"event": "summary", **counts}
    assert [event["fraction"] for event in events if "fraction" in event] == [0.0, 1.0, 1.0, 1.0]


def test_a_dry_run_says_what_would_be_done_and_does_nothing(tmp_path, image):
    write_ome_tiff(tmp_path / "stack.ome.tif", np.zeros((2, 3, 49, 48)), "TCYX")
    before = sorted(tmp_path.iterdir())
    result = run("run", tmp_path, "--output", tmp_path / "out", "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    image, stack = [json.loads(line) for line in result.stdout.splitlines()]
    assert (image["axes"], image["shape"], image["planes"]) == ("YX", [48, 48], 1)
    assert (stack["axes"], stack["shape"], stack["planes"]) == ("TCYX", [2, 3, 49, 48], 6)
    assert stack["output"][0] == str(tmp_path / "out" / "stack" / "latent.ome.zarr")
    joint = run(
        "run", tmp_path / "stack.ome.tif", "--output", tmp_path / "out", "--dry-run", "--channels", "joint"
    )
    assert "TCYX 2 x 3 x 49 x 48, 2 planes" in joint.output
    (tmp_path / "bad.tif").write_text("not an image")
    assert run("run", tmp_path, "--output", tmp_path / "out", "--dry-run").exit_code == 1
    (tmp_path / "bad.tif").unlink()
    assert sorted(tmp_path.iterdir()) == before


def test_a_dry_run_fails_as_the_run_would_for_planes_smaller_than_the_psf(tmp_path, image):
    command = ("run", image, "--output", tmp_path / "out", "--psf-shape", 61)
    dry, real = run(*command, "--dry-run"), run(*command)
    assert dry.exit_code == real.exit_code == 1
    reason = "expected a height of at least 61 pixels for a psf_shape of (61, 61), got 48"
    assert reason in dry.stdout
    assert reason in real.stderr


def test_a_dry_run_says_what_is_done_and_what_was_made_otherwise(tmp_path, monkeypatch):
    stack = np.stack([cells(size=48, psf_size=5, seed=seed).blurred for seed in range(2)])
    write_ome_tiff(tmp_path / "stack.ome.tif", stack, "ZYX")
    settings = Settings(psf_shape=5, steps=1, refinements=0, samples=2)
    [item] = batch.plan([tmp_path / "stack.ome.tif"], tmp_path / "out", settings)
    command = ("run", item.path, "--output", tmp_path / "out", *SMALL)
    hashes = []
    content_hash = workspace.content_hash
    monkeypatch.setattr(workspace, "content_hash", lambda path: hashes.append(path) or content_hash(path))

    def dry(*more):
        del hashes[:]
        result = run(*command, *more, "--dry-run", "--json")
        assert not hashes
        text = run(*command, *more, "--dry-run").stdout
        return json.loads(result.stdout), result.exit_code, text

    data, code, text = dry()
    assert (data["done"], data["psf_source"], code) == (0, "plane", 0)
    assert "done before" not in text
    assert "psf_source = plane" in text
    events = batch.execute([item], device="cpu")
    next(event for event in events if event.kind == "plane")
    events.close()
    data, code, text = dry()
    assert (data["done"], code) == (1, 0)
    assert "2 planes, 1 of them done before" in text
    assert dry("--seed", 1)[0]["done"] == 0
    assert run(*command).exit_code == 0
    data, code, text = dry()
    assert (data["done"], code) == (2, 0)
    assert "2 planes, done before" in text
    data, code, text = dry("--seed", 1)
    assert ("made otherwise" in data["problem"], code) == (True, 1)
    assert "made otherwise" in text
    data, code, text = dry("--seed", 1, "--overwrite")
    assert (data["done"], data["note"], code) == (0, "earlier results are replaced", 0)
    record = item.folder / "napari-vdip.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"source": 3}))
    assert "made otherwise" in dry()[2]


def test_a_run_with_a_known_psf_estimates_none(tmp_path, image):
    psf = np.outer([1, 2, 1], [1, 2, 1])
    tifffile.imwrite(tmp_path / "psf.tif", psf)
    command = ("run", image, "--output", tmp_path / "out", "--psf", tmp_path / "psf.tif", "--device", "cpu")
    result = run(*command, "--samples", 2)
    assert result.exit_code == 0, result.output
    np.testing.assert_allclose(tifffile.imread(tmp_path / "out" / "image" / "psf.ome.tif"), psf / 16)
    record = json.loads((tmp_path / "out" / "image" / "napari-vdip.json").read_text())
    assert (record["psf_path"], record["settings"]["psf_source"]) == (str(tmp_path / "psf.tif"), "given")


def test_a_run_repeats_another_from_its_metadata(tmp_path, image):
    assert run("run", image, "--output", tmp_path / "out", "--seed", 3, *SMALL).exit_code == 0
    again = ("run", "--from-metadata", tmp_path / "out", "--output", tmp_path / "again", "--device", "cpu")
    assert run(*again).exit_code == 0
    for name in ("latent", "std", "psf"):
        one, other = (
            tifffile.imread(tmp_path / out / "image" / f"{name}.ome.tif") for out in ("out", "again")
        )
        np.testing.assert_array_equal(one, other)
    assert run(*again, "--steps", 5).exit_code == 2


REFUSED = [
    ((), "INPUT"),
    (("nothing.tif",), "INPUT"),
    (("image.tif", "--psf-shape", "4"), "--psf-shape"),
    (("image.tif", "--psf-shape", "wide"), "--psf-shape"),
    (("image.tif", "--headroom", "lots"), "--headroom"),
    (("image.tif", "--headroom", "3"), "--headroom"),
    (("image.tif", "--samples", "1"), "--samples"),
    (("image.tif", "--prior", "mine"), "--prior"),
    (("image.tif", "--bound-until", "0.5", "--similarity-from", "0.6"), "--similarity-from"),
    (("image.tif", "--preset", "mine"), "--preset"),
    (("image.tif", "--axes", "AB"), "--axes"),
    (("image.tif", "--format", "jpeg"), "--format"),
    (("image.tif", "--device", "abacus"), "--device"),
    (("image.tif", "--settings", "nothing.yaml"), "--settings"),
    (("image.tif", "--region", "5:10"), "--region"),
    (("image.tif", "--region", "5:10,a:b"), "--region"),
    (("image.tif", "--region", "5:10:2,3:9"), "--region"),
    (("image.tif", "--psf-source", "given"), "for --psf:"),
    (("image.tif", "--psf", "nothing.tif"), "for --psf:"),
    (("image.tif", "--psf", "image.tif", "--psf-source", "channel"), "for --psf:"),
    (("image.tif", "--psf", "image.tif", "--refinements", "0"), "--psf-source"),
    (("--from-metadata", ".", "--psf", "image.tif"), "--from-metadata"),
    (("image.tif", "--from-metadata", "."), "--from-metadata"),
    (("--region", "5:40,5:40", "--from-metadata", "."), "--from-metadata"),
    (("--from-metadata", "."), "--from-metadata"),
]


@pytest.mark.parametrize(("arguments", "option"), REFUSED)
def test_what_cannot_be_used_is_refused_by_the_name_of_its_option(
    tmp_path, image, monkeypatch, arguments, option
):
    monkeypatch.chdir(tmp_path)
    result = run("run", "--output", "out", *arguments)
    assert result.exit_code == 2
    assert option in result.stderr
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("run", "image.tif", "--output", "out", "--psf-shape", "4"), "--psf-shape"),
        (("run", "image.tif", "--output", "out", "--samples", "few"), "--samples"),
        (("run", "image.tif", "--output", "out", "--steps", "-1"), "--steps"),
        (("run", "image.tif"), "--output"),
        (("run", "image.tif", "--output", "out", "--stepz", "9"), "--stepz"),
        (("run", "image.tif", "--output", "out", "--workers", "1", "--scheduler", "x"), "--workers"),
        (("estimate", "nothing.tif"), "INPUT"),
        (("inspect", "nothing"), "nothing"),
    ],
)
def test_a_program_gets_a_wrong_use_as_an_object_and_a_person_as_text(
    tmp_path, image, monkeypatch, arguments, reason
):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments, "--json")
    assert result.exit_code == 2
    event = json.loads(result.stdout)
    assert event["event"] == "error"
    assert reason in event["reason"]
    assert reason in result.stderr
    assert run(*arguments).stdout == ""


def test_every_field_of_the_settings_is_an_option_with_its_help():
    command = typer.main.get_command(app).commands["run"]
    options = {option.name: option for option in command.params}
    for item in fields(Settings):
        assert item.metadata["help"] in options[item.name].help
        assert options[item.name].opts[0] == f"--{item.name.replace('_', '-')}"
        assert options[item.name].default is None


def chosen(monkeypatch, *arguments):
    """The settings that a run would be made with."""
    seen = []
    monkeypatch.setattr(
        batch, "plan", lambda inputs, output, settings, **rest: seen.append((settings, rest)) or []
    )
    result = run("run", "image.tif", "--output", "out", "--dry-run", *arguments)
    assert result.exit_code == 0, result.output
    return seen[0]


def test_options_change_the_file_and_the_file_changes_the_preset(tmp_path, monkeypatch):
    file = tmp_path / "settings.yaml"
    file.write_text("steps: 7\nheadroom: null\npsf_shape: [5, 7]\nvariational: false\n")
    settings, _ = chosen(
        monkeypatch, "--preset", "paper", "--settings", file, "--steps", 9, "--widths", "8,8,8,8,8"
    )
    assert settings == Settings.paper(
        steps=9, headroom=None, psf_shape=(5, 7), variational=False, widths=(8, 8, 8, 8, 8)
    )
    toml = tmp_path / "settings.toml"
    toml.write_text("steps = 7\npsf_shape = [5, 7]\n")
    assert chosen(monkeypatch, "--settings", toml)[0] == Settings(steps=7, psf_shape=(5, 7))
    assert chosen(monkeypatch, "--headroom", "none", "--no-gaussians")[0] == Settings(
        headroom=None, gaussians=False
    )
    assert chosen(monkeypatch, "--psf-shape", "15")[0] == Settings(psf_shape=15)


def test_stored_settings_are_a_settings_file(tmp_path, monkeypatch):
    settings = Settings.paper(prior="extreme", psf_shape=(5, 7))
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(settings.asdict()))
    assert chosen(monkeypatch, "--settings", file)[0] == settings


def test_colours_share_a_point_spread_function_unless_channels_are_named(tmp_path, monkeypatch):
    file = tmp_path / "settings.yaml"
    file.write_text("channels: separate")
    assert chosen(monkeypatch)[1]["joint_colours"]
    assert not chosen(monkeypatch, "--channels", "separate")[1]["joint_colours"]
    assert not chosen(monkeypatch, "--settings", file)[1]["joint_colours"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "stepz: 3", "did you mean steps"),
        ("a.toml", "stepz = 3", "did you mean steps"),
        ("a.yaml", "- steps", "list"),
        ("a.yaml", "steps: many", "steps"),
        ("a.yaml", "steps: [", "a.yaml"),
        ("a.toml", "steps: 3", "a.toml"),
        ("a.yaml", "steps: !!python/object/apply:os.system ['touch hacked']", "a.yaml"),
        ("a.yaml", "!!python/object/apply:os.system ['touch hacked']", "a.yaml"),
    ],
)
def test_a_settings_file_names_settings_and_nothing_else(tmp_path, image, monkeypatch, name, text, message):
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(text)
    result = run("run", image, "--output", "out", "--settings", name)
    assert result.exit_code == 2
    assert "--settings" in result.stderr
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert not Path("hacked").exists()


def test_ctrl_c_says_that_nothing_is_lost(tmp_path, image, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(batch, "execute", interrupted)
    result = run("run", image, "--output", tmp_path / "out", *SMALL)
    assert result.exit_code == 130
    assert "goes on where it stopped" in result.stderr


def test_a_person_at_a_terminal_gets_a_bar(tmp_path, image, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    items = batch.plan([image], tmp_path / "out", Settings(psf_shape=5, steps=2, refinements=0, samples=2))
    print_events(batch.execute(items, device="cpu"), items, json=False)
    shown = capsys.readouterr().out
    assert "━" in shown
    assert "[1/1] image: written to" in " ".join(shown.split())
