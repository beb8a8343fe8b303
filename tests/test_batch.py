"""Many images: what is found, what is done, what a failure or a kill leaves, and what is not done again."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import random
import re
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from napari_vdip import Settings, batch, deconvolve, items, ome_zarr, replay, report, workspace
from napari_vdip.course import FINISHED, Course
from napari_vdip.io import read, write_ome_tiff
from napari_vdip.names import place
from napari_vdip.ome_zarr import write_ome_zarr
from napari_vdip.scenes import cells
from napari_vdip.workspace import describe, prepare

pytestmark = pytest.mark.usefixtures("few_solver_steps")

SMALL = Settings(psf_shape=5, steps=3, refinements=0, samples=2)
PHOTOGRAPH = SMALL.replace(channels="joint", refinements=2)
SHARED = SMALL.replace(psf_source="channel", refinements=2)


@pytest.fixture
def stack(tmp_path):
    """A file of 3 planes, and what is in it."""
    array = np.stack([cells(size=48, psf_size=5, seed=seed).blurred for seed in range(3)])
    save(tmp_path / "stack.tif", array)
    return tmp_path / "stack.tif", array


def save(path, stack):
    tifffile.imwrite(path, stack, photometric="minisblack", metadata={"axes": "TYX"})


def done(work, **options):
    """Do the items, and return how each ended."""
    ends = ("done", "skipped", "failed")
    return [event for event in batch.execute(work, device="cpu", **options) if event.kind in ends]


def kinds(work, **options):
    return [end.kind for end in done(work, **options)]


def arrays(folder):
    """All numbers in a folder of results, by file and level."""
    found = {path.name: tifffile.imread(path) for path in folder.glob("*.ome.tif")}
    for path in folder.glob("*.ome.zarr"):
        found |= {
            f"{path.name}/{name}": array[:] for name, array in zarr.open_group(path, mode="r").arrays()
        }
    return found


def assert_same(one, other):
    assert set(one) == set(other) != set()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


@pytest.mark.parametrize("format", ["ome-zarr", "ome-tiff"])
@pytest.mark.parametrize(
    ("axes", "settings"),
    [
        ("TYX", SMALL),
        ("CYX", PHOTOGRAPH),
        ("CYX", SMALL.replace(variational=False)),
        ("TYX", SHARED),
        ("CYX", SHARED),
        ("CYX", SHARED.replace(channels="joint")),
    ],
)
def test_a_file_is_done_as_its_array_is_in_python(tmp_path, stack, format, axes, settings):
    path, array = stack
    [end] = done(batch.plan([path], tmp_path / "out", settings, axes=axes, format=format))
    assert end.kind == "done", end.reason
    expected = deconvolve(array, settings, axes=axes, device="cpu")
    suffix = {"ome-zarr": "ome.zarr", "ome-tiff": "ome.tif"}[format]
    for name in ("latent", "std", "psf"):
        file = tmp_path / "out" / "stack" / f"{name}.{suffix}"
        if getattr(expected, name) is None:
            assert not file.exists()
        else:
            np.testing.assert_array_equal(read(file).array.compute(), getattr(expected, name))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["stack"]


def test_what_a_gpu_has_recorded_is_kept_from_plane_to_plane_and_given_back_after_the_last(tmp_path, stack):
    replay.forget()
    kept = []
    for event in batch.execute(batch.plan([stack[0]], tmp_path, SMALL), device="cpu"):
        if event.kind == "step":
            kept.append(len(replay._OF_THREAD.made))
            replay._OF_THREAD.made[len(kept)] = None
    steps = len(kept) // event.planes
    assert event.planes > 1
    assert kept == list(range(steps * event.planes))
    assert not replay._OF_THREAD.made


def test_a_plane_is_a_piece_of_work_that_any_process_can_do_in_any_order(tmp_path, stack):
    [item] = batch.plan([stack[0]], tmp_path / "one", SMALL)
    [other] = batch.plan([stack[0]], tmp_path / "other", SMALL)
    prepare(item, item.planes, describe(item))
    for index in reversed(item.planes.indices):
        task = batch.PlaneTask(item.path, 0, None, index, SMALL, item.partial, "cpu")
        assert batch.compute_plane(pickle.loads(pickle.dumps(task)))["index"] == list(index)
    chunks = {"latent": (1, 48, 48), "std": (1, 48, 48), "psf": (1, 5, 5)}
    for name, expected in chunks.items():
        [array] = ome_zarr.levels(item.partial / "planes" / f"{name}.ome.zarr")
        assert array.chunks == expected
    events = [event.kind for event in batch.execute([item])]
    assert events == ["started", "done"]
    assert kinds([other]) == ["done"]
    assert_same(arrays(item.folder), arrays(other.folder))


def all_but_the_end(item):
    """Do the planes of an item, and leave it there."""
    events = batch.execute([item], device="cpu")
    for event in events:
        if event.kind == "plane" and event.number == event.planes:
            events.close()
            return


def test_planes_are_written_where_they_stay(tmp_path, stack, monkeypatch):
    """What ends an image must not take longer the more planes it has."""
    monkeypatch.setattr("napari_vdip.ome_zarr.COARSEST", 16)
    [item] = batch.plan([stack[0]], tmp_path / "out", SMALL, format="ome-zarr")
    all_but_the_end(item)

    def chunks(folder):
        return {path.relative_to(folder): path.stat().st_ino for path in folder.glob("*/*/c/**/*")}

    before = chunks(item.partial / "planes")
    assert kinds([item]) == ["done"]
    assert chunks(item.folder) == before
    assert len([path for path in before if path.parts[:2] == ("latent.ome.zarr", "2")]) > 3


@pytest.mark.parametrize(("axes", "settings"), [("TYX", SMALL), ("CYX", SMALL), ("CYX", PHOTOGRAPH)])
def test_levels_and_ranges_are_those_of_the_whole_image(tmp_path, stack, monkeypatch, axes, settings):
    monkeypatch.setattr("napari_vdip.ome_zarr.COARSEST", 16)
    [item] = batch.plan([stack[0]], tmp_path / "out", settings, axes=axes, format="ome-zarr")
    assert kinds([item]) == ["done"]
    for name in ("latent", "std", "psf"):
        found = item.folder / f"{name}.ome.zarr"
        image = read(found)
        whole = tmp_path / f"{name}.ome.zarr"
        write_ome_zarr(whole, image.array, image.axes, channels=image.channels)
        levels = ome_zarr.levels(found)
        assert len(levels) == (1 if name == "psf" else 3)
        for one, other in zip(levels, ome_zarr.levels(whole), strict=True):
            np.testing.assert_allclose(one[:], other[:], rtol=1e-5)  # joint channels sum in another order
        windows = [
            [channel["window"] for channel in zarr.open_group(path).attrs["ome"]["omero"]["channels"]]
            for path in (found, whole)
        ]
        assert windows[0] == windows[1]
        assert len(windows[0]) == (3 if image.axes == "CYX" else 1)


@pytest.mark.parametrize("format", ["ome-zarr", "ome-tiff"])
def test_an_end_that_was_interrupted_is_made_again_in_either_format(tmp_path, stack, monkeypatch, format):
    [item] = batch.plan([stack[0]], tmp_path / "out", SMALL, format="ome-zarr")
    all_but_the_end(item)
    with monkeypatch.context() as patch:

        def full(path, record):
            raise OSError(28, "No space left on device")

        patch.setattr(workspace, "_write_json", full)
        assert kinds([item]) == ["failed"]
    assert not item.folder.exists()
    [again] = batch.plan([stack[0]], tmp_path / "out", SMALL, format=format)
    assert [event.kind for event in batch.execute([again], device="cpu")] == ["started", "done"]
    [other] = batch.plan([stack[0]], tmp_path / "other", SMALL, format=format)
    assert kinds([other]) == ["done"]
    assert_same(arrays(again.folder), arrays(other.folder))
    suffix = ".zarr" if format == "ome-zarr" else ".tif"
    assert {path.suffix for path in again.folder.iterdir()} == {suffix, ".json"}


def test_a_large_plane_is_kept_in_several_chunks(tmp_path, stack, monkeypatch):
    path, array = stack
    monkeypatch.setattr("napari_vdip.ome_zarr.LARGEST_CHUNK", 20)
    [item] = batch.plan([path], tmp_path / "out", PHOTOGRAPH, axes="CYX", format="ome-zarr")
    prepare(item, item.planes, describe(item))
    [latent] = ome_zarr.levels(item.partial / "planes" / "latent.ome.zarr")
    assert latent.chunks == (1, 20, 20)
    assert kinds([item]) == ["done"]
    expected = deconvolve(array, PHOTOGRAPH, axes="CYX", device="cpu")
    found = zarr.open_group(item.folder / "latent.ome.zarr")["0"]
    assert found.chunks == (1, 20, 20)
    np.testing.assert_array_equal(found[:], expected.latent)


def test_a_shared_psf_is_estimated_once_and_survives_an_interruption(tmp_path, stack):
    path, array = stack
    [item] = batch.plan([path], tmp_path / "out", SHARED)
    stages = {}
    for event in batch.execute([item], device="cpu"):
        if event.kind == "step":
            stages.setdefault(event.number, set()).add(event.progress.estimate.stage)
        if event.kind == "plane" and event.number == 2:
            break
    assert stages == {0: {"search", "refinement"}, 1: {"refinement"}}
    [again] = batch.plan([path], tmp_path / "out", SHARED)
    events = list(batch.execute([again], device="cpu"))
    assert (events[0].number, events[-1].kind) == (2, "done")
    assert {event.progress.estimate.stage for event in events if event.progress} == {"refinement"}
    expected = deconvolve(array, SHARED, axes="TYX", device="cpu")
    found = arrays(item.folder)
    for name in ("latent", "std", "psf"):
        np.testing.assert_array_equal(found[f"{name}.ome.zarr/0"], getattr(expected, name))
    assert not (item.folder / "kernel.ome.zarr").exists()
    planes = json.loads((item.folder / "napari-vdip.json").read_text())["planes"]
    [first] = {plane["psf_from"] for plane in planes if plane["psf_from"]}
    assert [plane["name"] for plane in planes if plane["psf_from"] is None] == [first]


def test_a_shared_psf_that_is_not_there_is_not_used(tmp_path, stack):
    [item] = batch.plan([stack[0]], tmp_path / "out", SHARED)
    prepare(item, item.planes, describe(item))
    task = batch.PlaneTask(item.path, 0, None, (1,), SHARED, item.partial, "cpu", shared=(0,))
    with pytest.raises(ValueError, match="expected the kernel of T=0"):
        batch.compute_plane(task)
    assert not list(item.partial.glob("done/*"))


@pytest.mark.filterwarnings("ignore:the objective was not finite")
def test_a_plane_that_ended_early_is_done_again_if_others_wait_for_its_kernel(tmp_path, stack):
    work = batch.plan([stack[0]], tmp_path / "out", SHARED)
    with pytest.MonkeyPatch.context() as patch:
        follow = Course.follow

        def broken(course, estimate):
            follow(course, estimate)
            return FINISHED if estimate.step == 1 else "the objective was not finite at step 2"

        patch.setattr(Course, "follow", broken)
        [failed] = done(work)
    assert re.search("expected the kernel of T=., but it is not done or ended early", failed.reason)
    [end] = done(work)
    assert end.kind == "done", end.reason
    expected = deconvolve(stack[1], SHARED, axes="TYX", device="cpu")
    np.testing.assert_array_equal(arrays(work[0].folder)["latent.ome.zarr/0"], expected.latent)
    assert {plane["stopped"] for plane in end.record["planes"]} == {FINISHED}


@pytest.mark.parametrize("kind", ["one", "even", "each"])
def test_a_known_psf_is_that_of_a_file(tmp_path, stack, kind):
    path, array = stack
    psfs = np.random.default_rng(0).uniform(size=(3, 5, 7)).astype(np.float32)
    psf = {"one": psfs[0], "even": psfs[0, 1:, 1:], "each": psfs}[kind]
    write_ome_tiff(tmp_path / "psf.ome.tif", psf, "TYX"[-psf.ndim :])
    refined = SMALL.replace(refinements=2)
    [item] = batch.plan([path], tmp_path / "out", refined, psf=tmp_path / "psf.ome.tif")
    assert kinds([item]) == ["done"]
    expected = deconvolve(array, refined, axes="TYX", psf=psf, device="cpu")
    assert item.settings == expected.settings
    found = arrays(item.folder)
    for name in ("latent", "std", "psf"):
        np.testing.assert_array_equal(found[f"{name}.ome.zarr/0"], getattr(expected, name))
    [again] = batch.plan([path], tmp_path / "again", refined, psf=item.folder / "psf.ome.zarr")
    assert kinds([again]) == ["done"]
    np.testing.assert_allclose(arrays(again.folder)["latent.ome.zarr/0"], expected.latent, rtol=1e-3)


def test_a_known_psf_is_known_by_its_content(tmp_path, stack):
    path, psf = stack[0], tmp_path / "psf.tif"
    settings = SMALL.replace(refinements=2)
    tifffile.imwrite(psf, np.eye(5, dtype=np.float32))
    [item] = batch.plan([path], tmp_path / "out", settings, psf=psf)
    assert kinds([item]) == ["done"]
    [other] = batch.plan([path], tmp_path / "out", settings, psf=shutil.copy(psf, tmp_path / "copy.tif"))
    assert kinds([other]) == ["skipped"]
    [again] = batch.repeat(tmp_path / "out", tmp_path / "again")
    assert kinds([again]) == ["done"]
    assert_same(arrays(again.folder), arrays(item.folder))
    tifffile.imwrite(psf, np.ones((5, 5), np.float32))
    for changed in (item, again):
        [end] = done([changed])
        assert end.kind == "failed"
    assert "psf: expected what the results were made with" in end.reason
    [more] = batch.plan([path], tmp_path / "out", settings, psf=psf)
    assert kinds([more], overwrite=True) == ["done"]


@pytest.mark.parametrize(
    ("psf", "axes", "spacing", "message"),
    [
        (np.ones((2, 5, 5)), "TYX", {}, r"expected the shape \(Y, X\) or \(3, Y, X\)"),
        (np.ones((3, 5, 5)), "CYX", {}, "expected some of the axes TYX, got CYX"),
        (np.ones((5, 50)), "YX", {}, "at most"),
        (-np.ones((5, 5)), "YX", {}, "not negative"),
        (np.ones((5, 5)), "YX", {"Y": (0.2, "micrometer")}, "pixels of 0.1 micrometer along Y"),
    ],
)
def test_a_psf_that_does_not_fit_the_image_is_a_problem_of_the_image(
    tmp_path, stack, psf, axes, spacing, message
):
    write_ome_tiff(tmp_path / "psf.ome.tif", psf, axes, spacing=spacing)
    write_ome_tiff(
        tmp_path / "a.ome.tif", stack[1], "TYX", spacing=dict.fromkeys("YX", (0.1, "micrometer"))
    )
    settings = SMALL.replace(refinements=2)
    [item] = batch.plan([tmp_path / "a.ome.tif"], tmp_path / "out", settings, psf=tmp_path / "psf.ome.tif")
    assert re.search(f"psf: .*{message}", item.problem)
    assert kinds([item]) == ["failed"]
    assert not (tmp_path / "out").exists()


PRELOADED = ["napari_vdip.scenes", "napari_vdip.batch", "napari_vdip.deconvolution", "torch._dynamo"]
PRELOADED += ["dask.array", "zarr", "yaozarrs.v05", "tifffile", "PIL.Image", "pytest"]
"""What every process would import before it begins."""


def work(item, ready):
    """Do a job in a process of its own, and tell when it begins."""
    import torch

    torch.set_num_threads(1)
    ready.set()
    assert kinds([item])[0] != "failed"


def do_in_a_process(context, item):
    """Do a job as those that are killed are done: a process of its own knows no fixtures."""
    ready = context.Event()
    process = context.Process(target=work, args=(item, ready))
    process.start()
    process.join()
    assert process.exitcode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_job_goes_on_and_ends_as_if_it_had_not_been_killed(tmp_path, stack):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    [item] = batch.plan([stack[0]], tmp_path / "out", SMALL)
    chance, exits, done_before = random.Random(0), [], 0
    while 0 not in exits and len(exits) < 20:
        ready = context.Event()
        process = context.Process(target=work, args=(item, ready))
        process.start()
        ready.wait()
        process.join(chance.uniform(0.5, 1) * 0.05 * 2 ** len(exits))
        process.kill()
        process.join()
        exits.append(process.exitcode)
        done_now = len(list(item.partial.glob("done/[0-9].json")))
        assert done_now >= done_before or item.folder.exists()
        done_before = done_now
    assert set(exits[:-1]) == {-signal.SIGKILL}, exits
    assert exits[-1] == 0
    assert len(exits) > 2  # it was killed, and more than once
    [whole] = batch.plan([stack[0]], tmp_path / "whole", SMALL)
    do_in_a_process(context, whole)
    assert kinds([item]) == ["skipped"]
    assert_same(arrays(item.folder), arrays(whole.folder))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["stack"]


LONG = Settings(psf_shape=5, widths=(4,) * 5, steps=40, refinements=4, samples=2, search_area=64, tile=64)


def follow(item, steps, first):
    """Do a job of one plane in a process of its own, and tell of every step, and with which it begins."""
    import torch

    import napari_vdip.checkpoint

    torch.set_num_threads(1)
    napari_vdip.checkpoint.INTERVAL = 0.0
    napari_vdip.checkpoint.SHARE = 1e9
    for event in batch.execute([item], device="cpu"):
        if event.kind == "step":
            first.value = first.value or event.progress.estimate.step
            steps.release()
        assert event.kind != "failed", event.reason


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_plane_that_is_killed_goes_on_from_its_checkpoint_to_the_same_bits(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    tifffile.imwrite(tmp_path / "plane.tif", cells(size=72, psf_size=5).blurred)
    [item] = batch.plan([tmp_path / "plane.tif"], tmp_path / "out", LONG)
    chance, exits, begun = random.Random(1), [], []
    while 0 not in exits and len(exits) < 30:
        steps, first = context.Semaphore(0), context.Value("i", 0)
        process = context.Process(target=follow, args=(item, steps, first))
        process.start()
        for _ in range(chance.randint(12, 25)):
            while not steps.acquire(timeout=0.05) and process.is_alive():
                pass
        process.join(chance.uniform(0, 0.05))
        process.kill()
        process.join()
        exits.append(process.exitcode)
        begun.append(first.value)
    assert set(exits[:-1]) == {-signal.SIGKILL}, exits
    assert exits[-1] == 0
    assert len([step for step in begun if step > 1]) > 1, begun  # it went on, and more than once
    assert sorted(begun[begun.index(1) :]) == begun[begun.index(1) :]  # and never from further back
    [whole] = batch.plan([tmp_path / "plane.tif"], tmp_path / "whole", LONG)
    do_in_a_process(context, whole)
    assert_same(arrays(item.folder), arrays(whole.folder))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["plane"]


class Killed(BaseException):
    """What stands for the end of the process."""


def test_no_moment_is_a_bad_one_to_be_killed(tmp_path, stack, monkeypatch):
    """The process ends before each change of a name in turn, while it replaces earlier results."""
    path = tmp_path / "two.tif"
    save(path, stack[1][:2])
    settings = SMALL.replace(steps=1)
    [whole] = batch.plan([path], tmp_path / "whole", settings)
    [earlier] = batch.plan([path], tmp_path / "out", settings.replace(seed=1))
    [item] = batch.plan([path], tmp_path / "out", settings)
    assert kinds([whole, earlier]) == ["done", "done"]
    old, new = arrays(earlier.folder), arrays(whole.folder)
    planes, left = 0, -1
    run = batch.plane_steps

    def counted(task):
        nonlocal planes
        planes += 1
        return (yield from run(task))

    def limited(change):
        def try_to_change(path, *arguments, **options):
            nonlocal left
            if item.partial in (path, *Path(path).parents):
                left -= 1
                if left == 0:
                    raise Killed
            return change(path, *arguments, **options)

        return try_to_change

    monkeypatch.setattr(batch, "plane_steps", counted)
    for name in ("replace", "rename", "mkdir", "unlink"):
        monkeypatch.setattr(Path, name, limited(getattr(Path, name)))
    monkeypatch.setattr(shutil, "rmtree", limited(shutil.rmtree))
    for kills in range(1, 1000):
        left = kills
        try:
            ended = kinds([item], overwrite=True)
        except Killed:
            if item.folder.exists():
                found = arrays(item.folder)
                same_as_old = np.array_equal(found["latent.ome.zarr/0"], old["latent.ome.zarr/0"])
                assert_same(found, old if same_as_old else new)
            continue
        break
    assert kills > 10
    assert ended in (["done"], ["skipped"])
    assert planes <= 2 + kills
    assert_same(arrays(item.folder), new)
    assert kinds([item]) == ["skipped"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["two"]


def test_results_of_other_settings_or_input_are_not_taken_for_ours(tmp_path, stack):
    path, array = stack
    settings = SMALL.replace(steps=1)
    [item] = batch.plan([path], tmp_path / "out", settings)
    assert kinds([item]) == ["done"]
    before = arrays(item.folder)
    [other] = batch.plan([path], tmp_path / "out", settings.replace(seed=1))
    [end] = done([other])
    assert (end.kind, "overwrite" in end.reason) == ("failed", True)
    assert_same(arrays(item.folder), before)
    save(path, array[::-1])
    assert kinds([item]) == ["failed"]
    assert kinds([item], overwrite=True) == ["done"]
    latent = arrays(item.folder)["latent.ome.zarr/0"]
    np.testing.assert_array_equal(latent, before["latent.ome.zarr/0"][::-1])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["stack"]


def test_results_of_other_versions_are_done_and_said_to_be(tmp_path, stack):
    settings = SMALL.replace(steps=1)
    [item] = batch.plan([stack[0]], tmp_path / "out", settings)
    assert kinds([item]) == ["done"]
    file = item.folder / "napari-vdip.json"
    record = json.loads(file.read_text())
    now, record["versions"]["torch"] = record["versions"]["torch"], "1.0"
    file.write_text(json.dumps(record))
    [end] = done([item])
    assert (end.kind, end.reason) == ("skipped", f"made with torch 1.0, now {now}")
    assert end.reason in report.line(end, [item])
    [other] = batch.plan([stack[0]], tmp_path / "out", settings.replace(seed=1))
    assert kinds([other]) == ["failed"]
    assert kinds([item], overwrite=True) == ["done"]
    assert json.loads(file.read_text())["versions"]["torch"] == now


def test_planes_of_an_interrupted_run_with_other_settings_are_not_taken_over(tmp_path, stack):
    settings = SMALL.replace(steps=1)
    [item] = batch.plan([stack[0]], tmp_path / "out", settings)
    for event in batch.execute([item], device="cpu"):
        if event.kind == "plane":
            break
    [same] = batch.plan([stack[0]], tmp_path / "out", settings)
    assert next(batch.execute([same], device="cpu")).number == 1
    [other] = batch.plan([stack[0]], tmp_path / "out", settings.replace(seed=1))
    assert next(batch.execute([other], device="cpu")).number == 0


def test_what_no_run_has_made_is_neither_replaced_nor_removed(tmp_path, stack):
    [item] = batch.plan([stack[0]], tmp_path / "out", SMALL)
    for folder in (item.folder, item.partial):
        folder.mkdir(parents=True)
        (folder / "thesis.txt").write_text("years of work")
        assert kinds([item], overwrite=True) == ["failed"]
        assert (folder / "thesis.txt").read_text() == "years of work"
        shutil.rmtree(folder)


def test_a_bad_file_is_a_failure_of_its_own(tmp_path, stack):
    folder = tmp_path / "in"
    folder.mkdir()
    good, bad = cells(size=48, psf_size=5).blurred, np.zeros((2, 48, 48), np.float32)
    save(folder / "a constant.tif", bad + np.arange(2)[:, None, None])
    (folder / "b empty.tif").touch()
    (folder / "c text.png").write_text("not an image")
    tifffile.imwrite(folder / "d cut.tif", good)
    (folder / "d cut.tif").write_bytes((folder / "d cut.tif").read_bytes()[:900])
    tifffile.imwrite(folder / "e small.tif", good[:8, :8])
    tifffile.imwrite(folder / "f nan.tif", np.where(good > good.mean(), np.nan, good))
    tifffile.imwrite(folder / "g good.tif", good)
    (folder / "h.zarr").mkdir()
    (folder / "notes.txt").write_text("not looked at")
    ends = done(batch.plan([folder], tmp_path / "out", SMALL.replace(steps=1)))
    assert [end.kind for end in ends] == ["failed"] * 6 + ["done"] + ["failed"]
    for end, part in zip(ends, ("one single value", "empty", "", "", "height", "NaN"), strict=False):
        assert part in end.reason
        assert end.reason
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["g good"]


def test_all_bad_planes_of_a_stack_are_named_at_once(tmp_path):
    array = np.stack([cells(size=48, psf_size=5, seed=seed).blurred for seed in range(5)])
    array[1, 0, :2], array[3, 0, 0], array[4, 0, 0] = np.nan, np.nan, np.inf
    save(tmp_path / "a.tif", array)
    [end] = done(batch.plan([tmp_path / "a.tif"], tmp_path / "out", SMALL))
    with pytest.raises(ValueError, match="image, T=1") as error:
        deconvolve(array, SMALL, axes="TYX")
    for text in (end.reason, str(error.value)):
        assert text.startswith("image, T=1: expected finite intensities, got 2 that are NaN or infinite; ")
        assert text.endswith("2 more bad: T=3; T=4")


@pytest.mark.parametrize("settings", [SMALL, SHARED])
def test_blank_planes_pass_through_and_are_named_also_after_an_interruption(tmp_path, stack, settings):
    path, array = stack
    array = np.concatenate([np.zeros_like(array[:1]), array[:2], np.full_like(array[:1], 7)])
    save(path, array)
    work = batch.plan([path], tmp_path / "out", settings)
    said = []
    for event in batch.execute(work, device="cpu"):
        said.append(report.line(event, work))
        if event.kind == "plane" and event.number == 2:
            break
    events = list(batch.execute(work, device="cpu"))
    said += [report.line(event, work) for event in events]
    for name in ("T=0", "T=3"):
        assert sum(f"({name}): blank, passed through" in line for line in said) == 1
    assert said[-1].endswith("(blank: T=0; T=3)")
    expected = deconvolve(array, settings, axes="TYX", device="cpu")
    found = arrays(work[0].folder)
    for name in ("latent", "std", "psf"):
        np.testing.assert_array_equal(found[f"{name}.ome.zarr/0"], getattr(expected, name))
    planes = events[-1].record["planes"]
    assert [plane["stopped"] for plane in planes] == ["blank", "finished", "finished", "blank"]
    assert [plane["noise"] for plane in planes] == expected.noise.tolist()
    assert [plane["psf_from"] for plane in planes if plane["stopped"] == "blank"] == [None, None]
    assert report.summary(events[-1:]) == {
        "done": 1,
        "skipped": 0,
        "failed": 0,
        "ended_early": 0,
        "blank": 2,
    }


@pytest.mark.parametrize("format", ["ome-zarr", "ome-tiff"])
@pytest.mark.parametrize("channels", ["separate", "joint"])
def test_channels_keep_their_colours(tmp_path, stack, format, channels):
    names, colours = ["DAPI", "Cy5"], ("0000FF", "FF8000")
    write_ome_tiff(tmp_path / "a.ome.tif", stack[1][:2], "CYX", channels=names, colours=colours)
    settings = SMALL.replace(steps=1, channels=channels)
    [item] = batch.plan([tmp_path / "a.ome.tif"], tmp_path / "out", settings, format=format)
    assert kinds([item]) == ["done"]
    suffix = {"ome-zarr": "ome.zarr", "ome-tiff": "ome.tif"}[format]
    assert read(item.folder / f"latent.{suffix}").colours == colours
    of_psf = read(item.folder / f"psf.{suffix}").colours
    assert (of_psf == colours) == (channels == "separate")


def test_an_image_of_nothing_but_blank_planes_fails(tmp_path, stack):
    save(stack[0], np.zeros_like(stack[1]))
    [end] = done(batch.plan([stack[0]], tmp_path / "out", SMALL))
    assert end.reason == "image: expected varying intensities, got one single value in each of 3 planes"


def test_a_run_can_be_repeated_from_what_is_stored_with_it(tmp_path, stack):
    path, array = stack
    photograph = tmp_path / "photograph.png"
    colours = np.moveaxis(array, 0, -1)
    Image.fromarray((255 * colours / colours.max()).astype(np.uint8)).save(photograph)
    first = batch.plan([path, photograph], tmp_path / "out", SMALL.replace(steps=1), axes=None)
    assert kinds(first) == ["done", "done"]
    assert first[1].settings.channels == "joint"
    record = json.loads((first[0].folder / "napari-vdip.json").read_text())
    assert record["source"]["sha256"] == items.content_hash(path)
    assert [plane["name"] for plane in record["planes"]] == ["T=0", "T=1", "T=2"]
    again = batch.repeat(tmp_path / "out", tmp_path / "again")
    assert kinds(again) == ["done", "done"]
    for one, other in zip(sorted(first, key=lambda item: item.name), again, strict=True):
        assert_same(arrays(one.folder), arrays(other.folder))
    for one in (first[0].folder / "latent.ome.zarr", first[1].folder / "latent.ome.tif"):
        [found] = batch.repeat(one, tmp_path / "again")
        assert found == next(item for item in again if item.name == one.parent.name)
    [alone] = batch.repeat(first[0].folder, tmp_path / "alone")
    assert (alone.name, alone.settings) == ("stack", first[0].settings)
    save(path, array[::-1])
    [end] = done([alone])
    assert (end.kind, "changed" in end.reason) == ("failed", True)


@pytest.mark.parametrize("record", ["", "{}", '{"source": 3}', '{"source": {}, "settings": {"steps": -1}}'])
def test_what_is_no_record_cannot_be_repeated(tmp_path, record):
    with pytest.raises(ValueError, match="from_metadata: expected"):
        batch.repeat(tmp_path, tmp_path / "out")
    (tmp_path / "napari-vdip.json").write_text(record)
    with pytest.raises(ValueError, match=r"from_metadata: .*not of this version"):
        batch.repeat(tmp_path, tmp_path / "out")


def names(found):
    return [item.name for item in found]


def test_folders_patterns_and_files_are_found_once_and_named_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (
        "in/a.tif",
        "in/a.png",
        "in/day 1/b.ome.tif",
        "in/day 2/b.tif",
        "in/.hidden/c.tif",
        "in/B.tif",
    ):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"x")
    Path("in/notes.txt").write_text("x")
    Path("in/out/old").mkdir(parents=True)
    Path("in/out/d.tif").touch()
    Path("in/results").mkdir()
    Path("in/results/napari-vdip.json").write_text("{}")
    Path("in/results/latent.ome.tif").touch()
    assert names(batch.plan(["in"], "in/out", SMALL)) == ["B", "a-png", "a-tif", "day 1/b", "day 2/b"]
    assert names(batch.plan(["in/day*/*.tif"], "in/out", SMALL)) == ["day 1/b", "day 2/b"]
    assert names(batch.plan(["in/day*"], "in/out", SMALL)) == ["day 1/b", "day 2/b"]
    assert names(batch.plan(["in/*"], "in/out", SMALL)) == ["B", "a-png", "a-tif", "day 1/b", "day 2/b"]
    twice = batch.plan(["in/a.tif", "in", "in/a.tif"], "in/out", SMALL)
    assert names(twice) == ["a-tif", "B", "a-png", "day 1/b", "day 2/b"]
    assert names(batch.plan(["in/a.tif", "in/notes.txt"], "in/out", SMALL)) == ["a", "notes"]
    Path("in/B").mkdir()
    Path("in/B/e.tif").touch()
    assert names(batch.plan(["in"], "in/out", SMALL))[:2] == ["B/e", "B-tif"]
    Path("in/a-png.tif").touch()
    with pytest.raises(ValueError, match="different names"):
        batch.plan(["in"], "in/out", SMALL)


@pytest.mark.parametrize("given", [[], ["nothing.tif"], ["*.tif"], ["."]])
def test_an_input_that_is_not_there_is_refused(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="input: expected"):
        batch.plan(given, "out", SMALL)


def test_no_name_leads_out_of_the_output(tmp_path, stack, monkeypatch):
    hostile = ("../../etc", "/etc/passwd", "..", 'a\\b:c*?"<>|', "")
    monkeypatch.setattr(items, "scenes", lambda path: hostile)
    monkeypatch.setattr(items, "examine", lambda item, *rest: item)
    output = tmp_path / "out"
    folders = [item.folder.resolve() for item in batch.plan([stack[0]], output, SMALL)]
    assert len(set(folders)) == len(hostile)
    assert {folder.parent for folder in folders} == {output.resolve()}
    for name in ("../elsewhere", ".", "", "a/../.."):
        with pytest.raises(ValueError, match="output: expected a folder inside"):
            place(output, name)
    output.mkdir()
    (output / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="output: expected a folder inside"):
        place(output, "link/elsewhere")


def in_two_files(folder, names=("a_1.ome.tif", "b_2.ome.tif")):
    """One OME-TIFF of two planes, in files that both name both; returns its pixels."""
    array = np.random.default_rng(0).uniform(0, 1, (2, 48, 48)).astype(np.float32)
    parts = "".join(
        f'<TiffData IFD="0" FirstT="{t}" PlaneCount="1">'
        f'<UUID FileName="{name}">urn:uuid:{t}</UUID></TiffData>'
        for t, name in enumerate(names)
    )
    for t, name in enumerate(names):
        xml = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{t}">'
            '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="float" SizeX="48" '
            f'SizeY="48" SizeC="1" SizeZ="1" SizeT="2">{parts}</Pixels></Image></OME>'
        )
        tifffile.imwrite(folder / name, array[t], description=xml, metadata=None)
    return array


def test_an_image_in_two_files_is_done_once_and_known_by_both(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    array = in_two_files(folder)
    [item] = batch.plan([folder], tmp_path / "out", SMALL)
    assert (item.name, item.planes.axes, item.planes.shape) == ("a_1", "TYX", (2, 48, 48))
    np.testing.assert_array_equal(item.open().array.compute(), array)
    [other] = batch.plan([folder / "b_2.ome.tif"], tmp_path / "out", SMALL)
    first = items.content_hash(item.path)
    assert items.content_hash(other.path) == first
    with (folder / "b_2.ome.tif").open("ab") as file:
        file.write(b"more")
    assert items.content_hash(item.path) != first
    save(folder / "c.ome.tif", array)
    assert names(batch.plan([folder], tmp_path / "out", SMALL)) == ["a_1", "c"]


def test_a_store_is_known_by_its_content_and_not_by_its_date(tmp_path):
    image = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    write_ome_zarr(tmp_path / "a.zarr", image, "YX")
    first = items.content_hash(tmp_path / "a.zarr")
    shutil.copytree(tmp_path / "a.zarr", tmp_path / "b.zarr", copy_function=shutil.copyfile)
    assert items.content_hash(tmp_path / "b.zarr") == first
    chunk = next(
        path for path in (tmp_path / "b.zarr").rglob("*") if path.is_file() and path.name != "zarr.json"
    )
    chunk.rename(chunk.with_name("7"))
    assert items.content_hash(tmp_path / "b.zarr") != first
