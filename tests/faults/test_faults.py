"""Faults of the machine, injected: what fails is said, what was done stays, and the same command goes on.

Not simulated where the system can do it: limits of file sizes, folders that refuse, a killed process.
"""

from __future__ import annotations

import errno
import gc
import os
import re
import signal
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from napari_vdip import Settings, batch, checkpoint, deconvolve, image_file, plane_task
from napari_vdip.plane import Plane
from napari_vdip.reservation import reserved

pytestmark = pytest.mark.usefixtures("few_solver_steps")

SMALL = Settings(
    psf_shape=5, steps=2, refinements=0, samples=2, widths=(4,) * 5, prior="none", variational=False
)
STACK = np.random.default_rng(0).uniform(0, 1, (3, 48, 48)).astype(np.float32)


@pytest.fixture
def item(tmp_path):
    """A file of three planes."""
    tifffile.imwrite(tmp_path / "stack.tif", STACK, photometric="minisblack", metadata={"axes": "TYX"})
    return planned(tmp_path)


def planned(folder, form="ome-zarr"):
    [item] = batch.plan([folder / "stack.tif"], folder / "out", SMALL, format=form)
    return item


def ends(item):
    return [e for e in batch.execute([item], device="cpu") if e.kind in ("done", "skipped", "failed")]


def assert_done_as_without_a_fault(item):
    """The same command, without the fault, ends with what it would have made at once."""
    [end] = ends(item)
    assert end.kind == "done", end.reason
    assert_undisturbed(item)
    assert [end.kind for end in ends(item)] == ["skipped"]


def assert_undisturbed(item):
    """What is there is what a run without a fault makes, and nothing else."""
    expected = deconvolve(STACK, SMALL, axes="TYX", device="cpu")
    ending = {"ome-zarr": "ome.zarr", "ome-tiff": "ome.tif"}[item.format]
    for name in ("latent", "psf"):
        found = np.asarray(image_file.read(item.folder / f"{name}.{ending}").array)
        np.testing.assert_array_equal(found, getattr(expected, name), err_msg=name)
    assert [path.name for path in item.folder.parent.iterdir()] == ["stack"]


@pytest.fixture
def at_every_step(monkeypatch):
    """Checkpoints at every step, for one that is due after a minute."""
    monkeypatch.setattr(checkpoint, "INTERVAL", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", np.inf)


# --- the disk ----------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of file sizes")
@pytest.mark.parametrize("form", ["ome-zarr", "ome-tiff"])
@pytest.mark.parametrize("limit", [100, 700, 2_000, 6_000, 10_000_000])
@pytest.mark.usefixtures("at_every_step")
@pytest.mark.filterwarnings("ignore:checkpoint. .* was not written:RuntimeWarning")
def test_a_file_that_cannot_grow_is_a_failure_and_the_run_goes_on_later(item, limit, form):
    import resource

    item = planned(item.path.parent, form)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        [end] = ends(item)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (end.kind, end.reason != "") == (("failed", True) if limit < 10_000_000 else ("done", False))
    if end.kind == "failed":
        assert not item.folder.exists()
        assert_done_as_without_a_fault(planned(item.path.parent, form))
    else:
        assert_undisturbed(item)


@pytest.mark.parametrize("form", ["ome-zarr", "ome-tiff"])
def test_a_full_disk_at_any_write_is_a_failure_and_the_run_goes_on_later(item, monkeypatch, form):
    """Every file that is made is refused once, by whichever way it is opened, until none is new."""
    item = planned(item.path.parent, form)
    refused = []

    def limited(opened):
        def open_or_refuse(path, mode="r", *arguments, **options):
            # Files of Zarr have a random name until they are whole.
            name = re.sub("[0-9a-f]{32}", "", str(path))
            if set(mode) & set("wax+") and item.partial in Path(path).parents and name not in refused:
                refused.append(name)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            return opened(path, mode, *arguments, **options)

        return open_or_refuse

    monkeypatch.setattr(Path, "open", limited(Path.open))
    monkeypatch.setattr(tifffile.tifffile, "open", limited(open), raising=False)
    while len(refused) < 200:
        before = len(refused)
        [end] = ends(item)
        if len(refused) == before:
            break
        assert end.kind == "failed"
        assert "No space left on device" in end.reason
        assert not item.folder.exists()
    monkeypatch.undo()
    assert len(refused) > 5
    assert any(name.endswith(".ome.tif") for name in refused) == (form == "ome-tiff")
    assert end.kind == "done", end.reason
    assert_undisturbed(item)


@pytest.mark.usefixtures("at_every_step")
def test_a_full_disk_costs_checkpoints_and_no_result(item, monkeypatch):
    """Each of them is refused; what they are for is only time."""
    tried = []

    def full(_, path, *__):
        tried.append(path)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.warns(RuntimeWarning, match="checkpoint: .* was not written: .*No space left"):
        [end] = ends(item)
    assert len(tried) >= len(STACK)
    assert end.kind == "done", end.reason
    assert_undisturbed(item)


@pytest.mark.skipif(sys.platform == "win32" or not hasattr(os, "geteuid"), reason="needs Unix permissions")
def test_an_output_that_cannot_be_written_to_is_a_failure(item, monkeypatch):
    out = item.folder.parent
    out.mkdir()
    if os.geteuid() == 0:  # whom no permission stops
        item = planned(item.path.parent)
        real = Path.mkdir

        def read_only(path, *arguments, **options):
            if out in path.parents:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            real(path, *arguments, **options)

        monkeypatch.setattr(Path, "mkdir", read_only)
    else:
        out.chmod(0o500)
    [end] = ends(item)
    monkeypatch.undo()
    out.chmod(0o700)
    assert end.kind == "failed"
    assert re.search("Read-only|denied", end.reason)
    assert not list(out.iterdir())
    assert_done_as_without_a_fault(item)


def test_an_input_that_is_gone_is_a_failure_and_planes_that_are_done_stay(item, monkeypatch):
    read, reads = plane_task.io.read, 0

    def lost(*arguments):
        nonlocal reads
        reads += 1
        if reads == 2:
            raise OSError(errno.EHOSTDOWN, "Host is down", str(item.path))
        return read(*arguments)

    monkeypatch.setattr(plane_task.io, "read", lost)
    events = list(batch.execute([item], device="cpu"))
    assert [event.kind for event in events if event.kind != "step"] == ["started", "plane", "failed"]
    assert "Host is down" in events[-1].reason
    monkeypatch.undo()
    again = planned(item.path.parent)
    assert next(batch.execute([again], device="cpu")).number == 1
    assert_done_as_without_a_fault(again)


@pytest.mark.parametrize("form", ["ome-zarr", "ome-tiff"])
def test_an_output_that_is_gone_is_a_failure_and_planes_that_are_done_stay(item, monkeypatch, form):
    """After the first plane nothing there can be looked at, read or written."""
    item = planned(item.path.parent, form)
    lost = False

    def gone(function):
        def called(path, *arguments, **options):
            if lost and item.folder.parent in (path, *path.parents):
                raise OSError(errno.EHOSTDOWN, "Host is down", str(path))
            return function(path, *arguments, **options)

        return called

    for name in ("open", "mkdir", "rename", "replace", "unlink", "stat", "iterdir", "read_bytes"):
        monkeypatch.setattr(Path, name, gone(getattr(Path, name)))
    kinds = []
    for event in batch.execute([item], device="cpu"):
        kinds += [event.kind] if event.kind != "step" else []
        lost = lost or event.kind == "plane"
    monkeypatch.undo()
    assert kinds == ["started", "plane", "failed"]
    assert "Host is down" in event.reason
    again = planned(item.path.parent, form)
    assert next(batch.execute([again], device="cpu")).number == 1
    assert_done_as_without_a_fault(again)


# --- the device --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("CUDA error: an illegal address"), "RuntimeError: CUDA error: an illegal address"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), "out of memory"),
        (MemoryError(), "MemoryError"),
    ],
    ids=["cuda", "out of memory", "host memory"],
)
def test_an_error_of_the_device_is_a_failure_and_planes_that_are_done_stay(item, monkeypatch, error, said):
    sound, planes = Plane.estimates, 0

    def estimates(self, *start):
        nonlocal planes
        planes += 1
        for estimate in sound(self, *start):
            yield estimate
            if planes == 2:
                raise error

    monkeypatch.setattr(Plane, "estimates", estimates)
    events = list(batch.execute([item], device="cpu"))
    assert [event.kind for event in events if event.kind != "step"] == ["started", "plane", "failed"]
    assert said in events[-1].reason
    monkeypatch.undo()
    again = planned(item.path.parent)
    assert next(batch.execute([again], device="cpu")).number == 1
    assert_done_as_without_a_fault(again)


# --- other runs --------------------------------------------------------------------------------------


def test_two_runs_at_once_do_not_share_an_output(item):
    first = batch.execute([item], device="cpu")
    assert next(first).kind == "started"
    [end] = ends(planned(item.path.parent))
    assert (end.kind, "expected no other run at work" in end.reason) == ("failed", True)
    first.close()
    assert_done_as_without_a_fault(item)


HOLDER = """
import sys
from pathlib import Path
from types import SimpleNamespace
from napari_vdip.reservation import reserved
with reserved(SimpleNamespace(folder=Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_lock_of_a_killed_process_is_gone_with_it(item):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(item.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline().strip() == b"held"
        [end] = ends(item)
        assert "expected no other run at work" in end.reason
        holder.kill()
    assert holder.returncode in (-getattr(signal, "SIGKILL", 9), 1)
    assert item.folder.with_name("stack.lock").exists()  # a file that nobody holds is no obstacle
    assert_done_as_without_a_fault(item)


def test_where_no_lock_can_be_had_the_run_goes_on_without(item, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("napari_vdip.reservation.FileLock.acquire", refuse)
    with reserved(item):
        pass
    assert [end.kind for end in ends(item)] == ["done"]


# --- many runs ---------------------------------------------------------------------------------------


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_fifty_runs_in_a_row_take_no_more_memory_or_threads_than_a_few():
    def held():
        gc.collect()
        tensors = [one for one in gc.get_objects() if issubclass(type(one), torch.Tensor)]
        size = sum(one.untyped_storage().nbytes() for one in tensors)
        files = len(list(Path("/proc/self/fd").iterdir()))
        return tracemalloc.get_traced_memory()[0], len(tensors), size, threading.active_count(), files

    image = np.random.default_rng(0).uniform(0, 1, (64, 64))
    plane = image.size * 4
    seen = []
    # Resident memory goes up and down by megabytes; what Python, NumPy and PyTorch hold does not.
    tracemalloc.start()
    gc.freeze()  # what there was before needs no second look
    try:
        for _ in range(60):
            deconvolve(image, SMALL.replace(steps=1), device="cpu")
            seen.append(held())
    finally:
        gc.unfreeze()
        tracemalloc.stop()
    memory, *others = zip(*seen[10:], strict=True)
    print(f"growth over fifty runs: {(memory[-1] - memory[0]) / 2**20:.2f} MiB")
    # One array of one plane kept for each run would be fifty planes.
    assert memory[-1] - memory[0] < 25 * plane
    assert [len(set(each)) for each in others] == [1] * 4
