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

from napari_vdip import Settings, batch, deconvolve, plane_task
from napari_vdip.plane import Plane
from napari_vdip.reservation import reserved

SMALL = Settings(
    psf_shape=5, steps=2, refinements=0, samples=2, widths=(4,) * 5, prior="none", variational=False
)
STACK = np.random.default_rng(0).uniform(0, 1, (3, 48, 48)).astype(np.float32)


@pytest.fixture
def item(tmp_path):
    """A file of three planes."""
    tifffile.imwrite(tmp_path / "stack.tif", STACK, photometric="minisblack", metadata={"axes": "TYX"})
    return planned(tmp_path)


def planned(folder):
    [item] = batch.plan([folder / "stack.tif"], folder / "out", SMALL)
    return item


def ends(item):
    return [e for e in batch.execute([item], device="cpu") if e.kind in ("done", "skipped", "failed")]


def assert_done_as_without_a_fault(item):
    """The same command, without the fault, ends with what it would have made at once."""
    [end] = ends(item)
    assert end.kind == "done", end.reason
    expected = deconvolve(STACK, SMALL, axes="TYX", device="cpu")
    found = batch.examine(
        batch.Item("latent", item.folder / "latent.ome.zarr", 0, None, SMALL, item.folder), None, False
    )
    np.testing.assert_array_equal(found.open().array.compute(), expected.latent)
    assert [path.name for path in item.folder.parent.iterdir()] == ["stack"]
    assert [end.kind for end in ends(item)] == ["skipped"]


# --- the disk ----------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of file sizes")
@pytest.mark.parametrize("limit", [100, 700, 2_000, 6_000, 10_000_000])
def test_a_file_that_cannot_grow_is_a_failure_and_the_run_goes_on_later(item, limit):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        [end] = ends(item)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (end.kind, end.reason != "") == (("failed", True) if limit < 10_000_000 else ("done", False))
    if end.kind == "failed":
        assert not item.folder.exists()
        assert_done_as_without_a_fault(planned(item.path.parent))


def test_a_full_disk_at_any_write_is_a_failure_and_the_run_goes_on_later(item, monkeypatch):
    """Every file that is made is refused in turn, until none is."""
    left, opened = 0, Path.open

    def limited(path, mode="r", *arguments, **options):
        nonlocal left
        if set(mode) & set("wax+") and item.partial in path.parents:
            left -= 1
            if left == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return opened(path, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", limited)
    faults = 0
    while faults < 200:
        left = faults + 1
        [end] = ends(item)
        if end.kind != "failed":
            break
        faults += 1
        assert "No space left on device" in end.reason
        assert not item.folder.exists()
    monkeypatch.undo()
    assert faults > 5
    assert end.kind == "done"
    assert [path.name for path in item.folder.parent.iterdir()] == ["stack"]


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
        tensors = sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())
        files = len(list(Path("/proc/self/fd").iterdir()))
        return tracemalloc.get_traced_memory()[0], tensors, threading.active_count(), files

    image = np.random.default_rng(0).uniform(0, 1, (96, 96))
    plane = image.size * 4
    seen = []
    # Resident memory goes up and down by megabytes; what Python, NumPy and PyTorch hold does not.
    tracemalloc.start()
    try:
        for _ in range(60):
            deconvolve(image, SMALL.replace(steps=1), device="cpu")
            seen.append(held())
    finally:
        tracemalloc.stop()
    memory, *others = zip(*seen[10:], strict=True)
    print(f"growth over fifty runs: {(memory[-1] - memory[0]) / 2**20:.2f} MiB")
    # One array of one plane kept for each run would be fifty planes.
    assert memory[-1] - memory[0] < 25 * plane
    assert [len(set(each)) for each in others] == [1, 1, 1]
