"""A plane goes on from its checkpoint, to the same result, and from nothing else."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.ndimage import gaussian_filter

import napari_vdip.checkpoint as checkpoints
import napari_vdip.plane as planes
from napari_vdip import Settings, deconvolve, refinement, run
from napari_vdip.checkpoint import UnfitError, fill
from napari_vdip.mosaic import Mosaic
from napari_vdip.plane import Plane
from napari_vdip.scales import coarse_rounds
from napari_vdip.scenes import cells
from napari_vdip.search import Search

pytestmark = pytest.mark.usefixtures("few_solver_steps")

TINY = {
    "device": "cpu",
    "psf_shape": 5,
    "widths": (4, 4, 4, 4, 4),
    "prefit_steps": 2,
    "steps": 9,
    "refinements": 4,
    "samples": 2,
    "search_area": 64,
}
SEARCH = TINY["prefit_steps"] + TINY["steps"]
FOUND = SEARCH + TINY["refinements"]
KNOWN = Plane.KNOWN_STEPS
SCENE = cells(size=72, psf_size=5)
CASES = {
    "search": {"search_area": 100},
    "colours": {"search_area": 100, "channels": "joint"},
    "published": {**Settings.paper().asdict(), **TINY, "refinements": 0, "widths": (4, 6, 8, 8, 8)},
    "mosaic": {"tile": 64},
    "given": {"tile": 64, "psf": SCENE.psf},
    "default": {"search_area": 100, "prefit_steps": 0, "steps": 0, "refinements": 100},
    "track": {"search_area": 100, "prefit_steps": 0, "steps": 0, "refinements": 60, "channels": "joint"},
    "compared": {"search_area": 100, "prefit_steps": 0, "steps": 0, "refinements": 60},
}
COARSE = coarse_rounds((5, 5))


def picture(case):
    if case == "colours":
        return np.stack([SCENE.blurred[:56, :60], SCENE.blurred[16:, 12:]], -1)
    if case == "track":
        return np.stack([gaussian_filter(SCENE.blurred[16:, 12:], 2)] * 2, -1)
    if case == "compared":
        return gaussian_filter(SCENE.blurred, 2)
    return SCENE.blurred


@cache
def uninterrupted(case):
    return deconvolve(picture(case), **{**TINY, **CASES[case]})


@pytest.fixture(autouse=True)
def _always_due(monkeypatch):
    monkeypatch.setattr(checkpoints, "INTERVAL", 0.0)
    monkeypatch.setattr(checkpoints, "SHARE", np.inf)


def interrupted(image, path, after, **changes):
    """Leave a run after a step, as the end of its process would."""
    steps = run(image, checkpoint=path, **changes)
    for progress in steps:
        if progress.estimate.step == after:
            break
    steps.close()


def begun(image, path, **changes):
    """Return the result, and the steps that led to it."""
    seen = []
    result = deconvolve(image, checkpoint=path, **changes, progress=lambda p: seen.append(p.estimate.step))
    return result, seen


def assert_same(one, other):
    for name in ("latent", "psf", "std", "reblurred", "noise"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    for name, values in one.history[0].items():
        np.testing.assert_array_equal(values, other.history[0][name], err_msg=name)


@pytest.mark.parametrize(
    ("case", "after", "resumed"),
    [
        ("search", 1, 1),
        ("search", 5, 1),  # what is not known to be finite is not kept
        ("search", SEARCH, SEARCH),
        ("search", FOUND - 1, SEARCH + 1),  # the one round for the kernel
        ("colours", SEARCH, SEARCH),
        ("published", SEARCH - 1, 1),
        ("published", SEARCH, SEARCH),
        ("mosaic", 1, 1),
        ("mosaic", FOUND - 1, SEARCH + 1),
        ("mosaic", FOUND, FOUND),
        ("mosaic", FOUND + 1, FOUND + 1),
        ("mosaic", FOUND + 2 * KNOWN, FOUND + KNOWN + 1),
        ("mosaic", FOUND + 4 * KNOWN, FOUND + 3 * KNOWN + 1),
        ("default", COARSE, 1),  # begins anew
        ("default", COARSE + 1, COARSE + 1),
        ("default", COARSE + 30, COARSE + 30),
        ("default", COARSE + 99, COARSE + 66),  # the last round of all starts at full resolution
        ("track", COARSE + 20, COARSE + 20),
        ("compared", COARSE + 58, COARSE + 42),
        ("given", KNOWN - 1, 1),
        ("given", 3 * KNOWN, 2 * KNOWN + 1),
    ],
)
def test_a_run_that_goes_on_ends_as_if_it_had_not_ended(tmp_path, monkeypatch, case, after, resumed):
    if case == "track":
        monkeypatch.setattr(refinement, "is_track", lambda kernel, settings, colour: True)
    path, changes = tmp_path / "plane.safetensors", {**TINY, **CASES[case]}
    interrupted(picture(case), path, after, **changes)
    result, seen = begun(picture(case), path, **changes)
    assert seen[0] == resumed
    assert_same(result, uninterrupted(case))
    assert not list(tmp_path.iterdir())


def test_a_run_may_end_many_times(tmp_path):
    path, changes = tmp_path / "plane.safetensors", {**TINY, **CASES["mosaic"]}
    for after in (4, SEARCH, SEARCH + 2, FOUND, FOUND + KNOWN, FOUND + KNOWN + 1, FOUND + 3 * KNOWN + 2):
        interrupted(SCENE.blurred, path, after, **changes)
    result, seen = begun(SCENE.blurred, path, **changes)
    assert seen == [*[FOUND + 3 * KNOWN + 1] * 2, *range(FOUND + 3 * KNOWN + 2, FOUND + 4 * KNOWN + 1)]
    assert_same(result, uninterrupted("mosaic"))


def test_a_run_that_goes_on_between_tiles_and_lacks_memory_keeps_its_kernel(tmp_path, monkeypatch):
    path, changes = tmp_path / "plane.safetensors", {**TINY, "tile": 128}
    image = cells(size=200, psf_size=5).blurred
    interrupted(image, path, FOUND + KNOWN + 2, **changes)
    sound = planes.restore

    def scarce(tile, *rest, **options):
        if tile[0, 0].numel() > 80**2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return sound(tile, *rest, **options)

    monkeypatch.setattr(planes, "restore", scarce)
    with pytest.warns(RuntimeWarning, match="tile = 128: tried again with 64"):
        result, seen = begun(image, path, **changes)
    assert seen[:2] == [FOUND + KNOWN + 1, FOUND]
    assert_same(result, deconvolve(image, **{**changes, "tile": 64}))


def test_the_time_that_was_spent_counts(tmp_path, monkeypatch):
    path, clock = tmp_path / "plane.safetensors", [0.0]
    monkeypatch.setattr("napari_vdip.attempts.time.perf_counter", lambda: clock[0])
    steps = run(SCENE.blurred, checkpoint=path, **TINY)
    next(steps)
    for clock[0] in range(100, 100 * SEARCH, 100):
        next(steps)
    steps.close()
    first = next(run(SCENE.blurred, checkpoint=path, **TINY))
    assert (first.estimate.step, first.seconds) == (SEARCH, 100 * (SEARCH - 1))


def test_checkpoints_take_a_small_part_of_the_time(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(checkpoints, "INTERVAL", 60.0)
    monkeypatch.setattr(checkpoints, "SHARE", 0.05)
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: clock[0])
    file = checkpoints.CheckpointFile(tmp_path / "a", "run")
    estimate = next(run(SCENE.blurred, **TINY)).estimate
    state = checkpoints.Checkpoint(estimate, {}, {"stage": np.array([])})
    sound = checkpoints.save_file

    def slow(*arguments):
        clock[0] += 10
        return sound(*arguments)

    monkeypatch.setattr(checkpoints, "save_file", slow)
    for wait in (60, 200, 200):  # the first took no time, each 10 s since
        clock[0] += wait - 0.5
        assert not file.due
        clock[0] += 0.5
        assert file.due
        file.save(state)


def test_a_run_whose_checkpoint_cannot_be_written_goes_on(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    steps = run(SCENE.blurred, checkpoint=folder / "a", **TINY)
    folder.rmdir()
    with pytest.warns(RuntimeWarning, match="was not written"):
        assert [p.estimate.step for p in steps][-1] > FOUND


def changed(path, change):
    """Change what is in a file, as its writer would."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    change(tensors)
    metadata["sha256"] = checkpoints._digest(metadata["plain"], tensors)
    save_file(tensors, path, metadata)


def renamed(tensors):
    tensors["state.elsewhere"] = tensors.pop("state.rng")


def reshaped(tensors):
    tensors["state.kernel.logits"] = tensors["state.kernel.logits"][..., :3].clone()


def retyped(tensors):
    tensors["state.kernel.logits"] = tensors["state.kernel.logits"].double()


def flip(path):
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)


PICKLE = b"cos\nsystem\n(S'touch executed'\ntR."
DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not a checkpoint" * 100),
    "pickle": lambda path: path.write_bytes(PICKLE),
    "torch": lambda path: torch.save({"a": torch.ones(3)}, path),
    "another's": lambda path: save_file({"a": torch.ones(3)}, path),
    "cut header": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "one bit": flip,
    "zeros": lambda path: path.write_bytes(bytes(len(path.read_bytes()))),
    "other names": lambda path: changed(path, renamed),
    "other shapes": lambda path: changed(path, reshaped),
    "other types": lambda path: changed(path, retyped),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_is_no_checkpoint_of_the_run_is_said_and_not_used(tmp_path, damage, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, changes = tmp_path / "plane.safetensors", {**TINY, **CASES["search"]}
    interrupted(SCENE.blurred, path, SEARCH, **changes)
    DAMAGES[damage](path)
    with pytest.warns(RuntimeWarning, match="begins anew"):
        result, seen = begun(SCENE.blurred, path, **changes)
    assert seen[0] == 1
    assert_same(result, uninterrupted("search"))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("image", "changes"),
    [
        (SCENE.blurred, {"seed": 1}),
        (SCENE.blurred, {"steps": 10}),
        (SCENE.blurred, {"tile": 65}),
        (SCENE.blurred, {"psf": SCENE.psf}),
        (SCENE.blurred[:70], {}),
        (SCENE.blurred + 1, {}),
        (SCENE.blurred.astype(np.float64), {}),
    ],
)
def test_a_checkpoint_of_another_run_is_not_used(tmp_path, image, changes):
    path = tmp_path / "plane.safetensors"
    interrupted(SCENE.blurred, path, SEARCH, **TINY)
    with pytest.warns(RuntimeWarning, match="it is of another image, other settings"):
        first = next(run(image, checkpoint=path, **{**TINY, **changes}))
    assert first.estimate.step == 1


def test_a_run_that_the_user_stops_can_go_on(tmp_path):
    path = tmp_path / "plane.safetensors"
    result = deconvolve(
        SCENE.blurred, checkpoint=path, **TINY, progress=lambda p: p.estimate.step == SEARCH
    )
    assert result.stopped == "stopped by the user"
    result, seen = begun(SCENE.blurred, path, **TINY)
    assert seen[0] == SEARCH
    assert not path.exists()


@pytest.mark.parametrize("name", ["", "nowhere/a.safetensors"])
def test_a_file_that_cannot_be_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="checkpoint: expected a file in a folder"):
        run(SCENE.blurred, checkpoint=tmp_path / name, **TINY)


def test_one_file_is_not_for_several_planes(tmp_path):
    with pytest.raises(ValueError, match="checkpoint: expected None for an image of 2 planes"):
        run(np.stack([SCENE.blurred] * 2), axes="TYX", checkpoint=tmp_path / "a", **TINY)


def test_what_does_not_fit_changes_nothing():
    live = {"a": torch.zeros(2), "b": torch.zeros(3)}
    for saved in ({"a": torch.ones(2)}, {"a": torch.ones(2), "b": torch.ones(4)}, {**live, "c": live["a"]}):
        with pytest.raises(UnfitError):
            fill(live, saved)
        assert not any(tensor.any() for tensor in live.values())


def test_the_order_in_memory_is_that_of_a_search_that_did_not_end(rng):
    """PyTorch rounds by it."""
    image = torch.rand((1, 1, 40, 44), generator=rng)
    settings = Settings(**{name: value for name, value in TINY.items() if name != "device"})
    first, second = (Search(image, settings, torch.Generator().manual_seed(0)) for _ in range(2))
    steps = first.estimates()
    estimate = [next(steps) for _ in range(3)][-1]
    rows = {
        name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in first.state().items()
    }
    start = checkpoints.Checkpoint(estimate, rows, {})
    assert next(second.estimates(start)) is estimate
    strides = [{name: t.stride() for name, t in one.state().items()} for one in (first, second)]
    assert strides[0] == strides[1]
    assert any(t.dim() == 4 and not t.is_contiguous() for t in first.state().values())


@pytest.mark.parametrize("kind", [Plane, Mosaic])
def test_nothing_of_the_search_is_held_once_the_kernel_is_found(kind):
    settings = Settings(**{name: value for name, value in TINY.items() if name != "device"})
    plane = kind(SCENE.blurred[..., None], settings, torch.device("cpu"))
    steps = plane.estimates()
    held = {estimate.step: bool(plane.state()) for estimate in steps}
    matched = SEARCH + 1  # with the one round for the kernel
    assert [held[step] for step in range(1, FOUND + 1)] == [True] * matched + [False] * (FOUND - matched)
    assert not plane.state()
