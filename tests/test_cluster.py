"""Work on a real cluster of several processes: the same results, whatever is lost on the way."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask
import dask.array as da
import distributed
import numpy as np
import pytest
import tifffile
import zarr
from typer.testing import CliRunner

from napari_vdip import Settings, batch, cli, cluster, deconvolve, deconvolve_stack, lazy_cluster
from napari_vdip.cli import app
from napari_vdip.cluster import Queue, check_device, connect, gpu_of
from napari_vdip.io import read
from napari_vdip.local_cluster import KEPT, environment_of, threads_of_processes
from napari_vdip.scenes import cells
from napari_vdip.stack import plan
from napari_vdip.tiling import WHOLE

SMALL = Settings(psf_shape=5, widths=(4,) * 5, steps=2, refinements=2, samples=2)
SHARED = SMALL.replace(psf_source="channel")
PSF = np.outer([1, 2, 1], [1, 3, 2])


@pytest.fixture(scope="module")
def client():
    """A cluster of two processes, which no test may end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        with connect(workers=2) as client:
            client.wait_for_workers(2)
            yield client


@pytest.fixture(scope="module")
def array():
    """Axes TCYX."""
    return np.stack([cells(size=40, psf_size=5, seed=seed).blurred for seed in range(4)]).reshape(
        2, 2, 40, 40
    )


@pytest.fixture(scope="module")
def expected(array):
    """What `array` becomes in this process, for both sources of a point spread function."""
    return {
        settings: deconvolve(array, settings, axes="TCYX", device="cpu") for settings in (SMALL, SHARED)
    }


@pytest.fixture
def stack(tmp_path, array, monkeypatch):
    """Name of a file with `array` in the current folder, which is not that of the workers."""
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("stack.tif", array, photometric="minisblack", metadata={"axes": "TCYX"})
    return "stack.tif"


def assert_results(item, expected):
    for name in ("latent", "std", "psf"):
        found = read(item.folder / f"{name}.ome.zarr").array.compute()
        np.testing.assert_array_equal(found, getattr(expected, name), err_msg=name)
    assert not item.partial.exists()


# --- files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [SMALL, SHARED])
def test_a_cluster_writes_what_a_serial_run_does_and_says_the_same(client, stack, expected, settings):
    items = batch.plan([stack], "out", settings)
    events = list(batch.execute(items, device="cpu", client=client))
    assert [event.kind for event in events] == ["started", *["plane"] * 4, "done"], events[-1].reason
    assert [event.number for event in events] == [0, 1, 2, 3, 4, 4]
    assert_results(items[0], expected[settings])
    planes = json.loads((items[0].folder / "napari-vdip.json").read_text())["planes"]
    searched = ["search" in course["stage"] for course in expected[settings].history]
    assert [plane["psf_from"] is None for plane in planes] == searched
    assert sum(searched) == (2 if settings is SHARED else 4)
    assert [event.kind for event in batch.execute(items, client=client)] == ["skipped"]
    assert [event.kind for event in batch.execute(items)] == ["skipped"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_worker_that_is_killed_costs_no_result(client, stack, expected):
    [item] = batch.plan([stack], "out", SMALL)
    pids, killed = client.run(os.getpid), None
    for event in batch.execute([item], device="cpu", client=client):
        if event.kind == "plane" and killed is None:
            at_work = {worker: keys for worker, keys in client.processing().items() if keys}
            worker, keys = next(iter(at_work.items()))
            assert {key[0] for key in keys} == {"plane"}
            killed = pids[worker]
            os.kill(killed, signal.SIGKILL)
    assert (event.kind, event.reason) == ("done", "")
    assert_results(item, expected[SMALL])
    client.wait_for_workers(2)
    assert killed not in client.run(os.getpid).values()


def test_a_run_that_is_interrupted_goes_on_where_it_was(client, stack, expected):
    [item] = batch.plan([stack], "out", SHARED)
    events = batch.execute([item], device="cpu", client=client)
    assert next(event for event in events if event.kind == "plane").number == 1
    events.close()
    assert not item.folder.exists()
    again = list(batch.execute([item], device="cpu", client=client))
    assert again[0].kind == "started"
    assert again[0].number >= 1
    assert [event.kind for event in again[1:]] == ["plane"] * (4 - again[0].number) + ["done"]
    assert_results(item, expected[SHARED])


def test_an_image_that_fails_costs_no_other_and_says_what_it_says_in_a_serial_run(client, stack, expected):
    tifffile.imwrite("a constant.tif", np.zeros((2, 40, 40), np.float32))
    tifffile.imwrite("psf.tif", np.ones((5, 5), np.float32))
    [lost] = batch.plan([stack], "lost", SMALL, psf="psf.tif")
    tifffile.imwrite("psf.tif", np.full((5, 5), -1, np.float32))  # seen when the planes are done
    constant, good = batch.plan(["a constant.tif", stack], "out", SMALL)
    events = list(batch.execute([lost, constant, good], device="cpu", client=client))
    ends = {event.item.name + event.item.folder.parent.name: event for event in events}
    assert sum(event.kind in ("done", "failed") for event in events) == 3
    assert ends["stackout"].kind == "done"
    assert_results(good, expected[SMALL])
    serial = [event for event in batch.execute([lost, constant], device="cpu") if event.kind == "failed"]
    assert [event.reason for event in serial] == [ends["stacklost"].reason, ends["a constantout"].reason]
    assert "not negative" in serial[0].reason


@pytest.fixture(scope="module")
def gappy(array):
    """Like `array`, with one channel that is blank at one time and one that always is."""
    gappy = np.concatenate([array, np.full_like(array[:, :1], 7)], axis=1)
    gappy[0, 1] = 0
    return gappy


@pytest.mark.parametrize("settings", [SMALL, SHARED])
def test_blank_planes_are_on_a_cluster_what_they_are_here(client, gappy, tmp_path, monkeypatch, settings):
    monkeypatch.chdir(tmp_path)
    here = deconvolve(gappy, settings, axes="TCYX", device="cpu")
    assert here.blank == ((0, 1), (0, 2), (1, 2))
    tifffile.imwrite("gappy.tif", gappy, photometric="minisblack", metadata={"axes": "TCYX"})
    items = batch.plan(["gappy.tif"], "out", settings)
    *_, end = batch.execute(items, device="cpu", client=client)
    assert_results(items[0], here)
    blank = [plane["name"] for plane in end.record["planes"] if plane["stopped"] == "blank"]
    assert blank == ["T=0, C=1", "T=0, C=2", "T=1, C=2"]
    seen = []
    with client.as_current():
        image = da.from_array(gappy, (1, 1, 40, 40))
        there = deconvolve_stack(image, settings, axes="TCYX", device="cpu", progress=seen.append)
        with pytest.raises(ValueError, match=r"image: expected varying .*, got one single value in"):
            deconvolve_stack(image[:, 2:], settings, axes="TCYX", device="cpu")
    for name in ("latent", "std", "psf", "noise"):
        np.testing.assert_array_equal(getattr(there, name), getattr(here, name), err_msg=name)
    assert (there.blank, there.stopped) == (here.blank, "finished")
    assert {progress.index for progress in seen if progress.estimate.stage == "blank"} == set(here.blank)


def test_the_command_works_on_a_cluster_as_it_does_alone(client, stack):
    tifffile.imwrite("empty.tif", np.zeros((1, 40, 40), np.float32))
    options = (
        "--psf-shape",
        "5",
        "--steps",
        "1",
        "--refinements",
        "0",
        "--samples",
        "2",
        "--device",
        "cpu",
    )
    command = ("run", "empty.tif", stack, "--output", "out", "--json", *options)
    ran = CliRunner().invoke(app, [*command, "--scheduler", client.scheduler.address])
    events = [json.loads(line) for line in ran.stdout.splitlines()]
    assert sorted(event["event"] for event in events) == sorted(
        ["failed", "started", *["plane"] * 4, "done", "summary"]
    )
    counts = {"done": 1, "skipped": 0, "failed": 1, "ended_early": 0, "blank": 0}
    assert events[-1] == {"event": "summary", **counts}
    assert ran.exit_code == 1
    assert client.status == "running"


# --- arrays ------------------------------------------------------------------------------------------


def folder_of(path, shape, chunks):
    """A Zarr array in files."""
    return zarr.create_array(path, shape=shape, chunks=chunks, dtype="float32", fill_value=np.nan)


@pytest.mark.parametrize("settings", [SMALL, SHARED])
def test_a_dask_array_gives_on_a_cluster_what_it_gives_here(client, array, expected, tmp_path, settings):
    image, here = da.from_array(array, (2, 1, 30, 40)), expected[settings]
    aligned = folder_of(tmp_path / "latent.zarr", array.shape, (1, 1, 40, 40))
    across = folder_of(tmp_path / "std.zarr", array.shape, (2, 2, 40, 40))
    out = {"latent": aligned, "std": across, "reblurred": np.zeros(array.shape, np.float32)}
    seen = []
    with client.as_current():
        there = deconvolve_stack(image, settings, axes="TCYX", device="cpu", out=out, progress=seen.append)
    assert there.latent is aligned
    for name in ("latent", "std", "psf", "reblurred", "noise"):
        np.testing.assert_array_equal(getattr(there, name)[...], getattr(here, name), err_msg=name)
    for one, other in zip(there.history, here.history, strict=True):
        np.testing.assert_array_equal(one["noise"], other["noise"])
    assert (there.stopped, there.axes, there.device, there.settings) == (
        "finished",
        "TCYX",
        "cpu",
        settings,
    )
    assert [progress.plane for progress in seen] == [1, 2, 3, 4]
    assert {progress.index for progress in seen} == set(np.ndindex(2, 2))
    assert [progress.fraction for progress in seen] == pytest.approx(np.arange(1, 5) / 4)
    with pytest.raises(ValueError, match="preview: expected"):
        seen[0].preview()


@pytest.mark.parametrize("channels", ["separate", "joint"])
def test_known_psf_region_and_channels_are_as_they_are_here(client, array, channels):
    given = {"axes": "ZCYX", "channels": channels, "psf": PSF, "device": "cpu", "samples": 2}
    given["region"] = np.s_[3:20, 25:38]
    image = da.from_array(array, (1, 2, 40, 20))
    here = deconvolve_stack(image, **given)
    with client.as_current():
        there = deconvolve_stack(image, **given)
    for name in ("latent", "std", "psf", "noise"):
        np.testing.assert_array_equal(getattr(there, name), getattr(here, name), err_msg=name)
    assert there.region == here.region == ((3, 20), (25, 38))


def test_a_bad_plane_is_named_and_a_bad_argument_is_refused_before(client, array):
    image = da.from_array(np.where(np.arange(2)[:, None, None, None] == 1, np.nan, array), (1, 1, 40, 40))
    with client.as_current():
        for source in ("plane", "channel"):
            with pytest.raises(ValueError, match=r"image, T=1, C=[01]: expected finite"):
                deconvolve_stack(image, SMALL, axes="TCYX", device="cpu", psf_source=source)
        with pytest.raises(ValueError, match="device: expected one of"):
            deconvolve_stack(image, SMALL, axes="TCYX", device="abacus")
        with pytest.raises(ValueError, match="device: expected 'auto' or a type"):
            deconvolve_stack(image, SMALL, axes="TCYX", device="cuda:1")
        with pytest.raises(ValueError, match="axes: expected 4"):
            deconvolve_stack(image, SMALL, axes="TYX")


def test_an_array_that_workers_do_not_see_is_named_before_anything_is_computed(
    client, array, tmp_path, monkeypatch
):
    latent = folder_of(tmp_path / "latent.zarr", array.shape, (1, 1, 40, 40))
    shutil.rmtree(tmp_path / "latent.zarr")
    seen = r"out\['latent'\]: expected an array that all workers see, got .*latent.zarr"
    with client.as_current(), pytest.raises(ValueError, match=seen):
        deconvolve_stack(da.from_array(array), SMALL, axes="TCYX", device="cpu", out={"latent": latent})
    monkeypatch.setattr(lazy_cluster, "run_plane", None)
    planes = plan(array.shape, "TCYX", "separate")
    stack = lazy_cluster._Stack(planes, SMALL, "cpu", WHOLE, ("latent",), {"latent": latent}, "")
    with pytest.raises(ValueError, match=seen):
        lazy_cluster._do_plane(planes.take(array, (0, 0)), "image", stack, (0, 0), None, None)


def test_a_stack_that_is_stopped_keeps_what_is_done(client, array):
    given = {"axes": "TCYX", "psf": PSF, "device": "cpu", "samples": 2}
    with client.as_current():
        result = deconvolve_stack(da.from_array(array), **given, progress=lambda p: p.plane == 2)
    assert result.stopped.startswith("stopped by the user (T=")
    done = np.isfinite(result.latent).all((2, 3))
    assert (done.sum(), len(result.noise)) == (2, 2)
    assert np.isnan(result.latent[~done]).all()


# --- work --------------------------------------------------------------------------------------------


def attempt(folder, error):
    """Leave a trace and fail, or end the process."""
    (folder / os.urandom(8).hex()).touch()
    if error is None:
        os.kill(os.getpid(), signal.SIGKILL)
    raise error


@pytest.mark.parametrize(
    ("error", "times"), [(ValueError("never"), 1), (ZeroDivisionError("no"), 1), (OSError("busy"), 4)]
)
def test_only_what_may_pass_is_tried_again(client, tmp_path, error, times):
    with Queue(client) as queue:
        queue.submit("tag", "test", str(error), attempt, tmp_path, error)
        [(tag, failure)] = list(queue)
    assert tag == "tag"
    assert str(error) in failure.reason
    assert failure.bad_value == isinstance(error, ValueError)
    assert len(list(tmp_path.iterdir())) == times


def test_a_thread_that_ends_leaves_the_others_of_its_worker_reading_there():
    first_in, second_in, first_out = (threading.Event() for _ in range(3))

    def first():
        first_in.set()
        second_in.wait(60)

    def second():
        second_in.set()
        first_out.wait(60)
        return dask.config.get("scheduler", None)

    before = dask.config.get("scheduler", None)
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(cluster._attempt, first)
        first_in.wait(60)
        other = pool.submit(cluster._attempt, second)
        one.result()
        first_out.set()
        assert other.result() == "synchronous"
    assert dask.config.get("scheduler", None) == before


def wait_for(gate, folder):
    """Leave a trace, then wait for an event of the cluster."""
    (folder / os.urandom(8).hex()).touch()
    return distributed.Event(gate).wait(60)


def test_what_is_queued_at_the_end_of_the_context_is_not_done(client, tmp_path):
    gate = distributed.Event("gate", client=client)
    with Queue(client) as queue:
        queue.submit(0, "test", "first", os.getpid, priority=1)
        for number in range(50):
            queue.submit(number, "test", str(number), wait_for, "gate", tmp_path)
        assert next(iter(queue))[0] == 0
    waiting = len(client.nthreads())  # as many as have begun
    while client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)) > waiting:
        pass  # the news of the end is on its way
    gate.set()
    with Queue(client) as queue:  # by the time that this is done, what is still queued would be
        queue.submit(0, "test", "last", os.getpid, priority=-1)
        assert len(list(queue)) == 1
    assert len(list(tmp_path.iterdir())) < 10


def test_work_that_takes_a_gpu_goes_to_workers_that_declare_one():
    kinds = {"with": {"GPU": 1}, "without": {}}
    workers = {
        name: {"cls": distributed.Worker, "options": {"resources": resources}}
        for name, resources in kinds.items()
    }
    scheduler = {"cls": distributed.Scheduler, "options": {"dashboard": False}}
    with (
        distributed.SpecCluster(workers=workers, scheduler=scheduler) as local,
        distributed.Client(local, set_as_default=False) as client,
    ):
        client.wait_for_workers(len(workers))
        assert gpu_of(client, None) == gpu_of(client, "cuda") == {"GPU": 1.0}
        assert gpu_of(client, "cpu") == {}
        with Queue(client) as queue:
            for number in range(20):
                queue.submit(number, "test", str(number), name_of_worker, resources=gpu_of(client, None))
            assert [name for _, name in queue] == ["with"] * 20


def name_of_worker():
    return distributed.get_worker().name


# --- what is there -----------------------------------------------------------------------------------


@pytest.fixture
def closed_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        yield one.getsockname()[1]


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:{}", "nonsense://x", "", "no colon"])
def test_a_scheduler_that_is_not_there_is_an_error_of_its_option(stack, closed_port, monkeypatch, address):
    monkeypatch.setattr(cluster, "PATIENCE", 0.5)
    ran = CliRunner().invoke(
        app, ["run", stack, "--output", "out", "--scheduler", address.format(closed_port)]
    )
    assert ran.exit_code == 2
    said = " ".join(ran.stderr.replace("│", " ").split())
    assert "for --scheduler: expected the address of a running Dask scheduler, got" in said


def test_what_answers_in_another_protocol_is_no_scheduler():
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:

        def greet():
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH")
                connection.recv(1)

        greeted = pool.submit(greet)
        with pytest.raises(ValueError, match="does not speak Dask's protocol"):
            connect(f"tcp://127.0.0.1:{server.getsockname()[1]}").__enter__()
        greeted.result()


def test_a_scheduler_that_goes_after_its_answer_is_the_same_error(closed_port, monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 0.5)
    monkeypatch.setattr(cluster, "_check_answer", lambda address: None)
    with pytest.raises(
        ValueError, match="scheduler: expected the address of a running Dask scheduler, got"
    ):
        connect(f"tcp://127.0.0.1:{closed_port}").__enter__()


@pytest.fixture
def mortal(tmp_path):
    """A scheduler without workers in a process of its own: the process, and the address."""
    file = tmp_path / "scheduler.json"
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", file]
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        said = (re.search(r"Scheduler at: +(\S+)", line) for line in process.stdout)
        yield process, next(filter(None, said))[1]
        process.kill()


def test_a_scheduler_without_workers_is_waited_for_aloud(stack, mortal, monkeypatch):
    monkeypatch.setattr(batch, "execute", lambda *_, **__: (event for event in ()))
    ran = CliRunner().invoke(app, ["run", stack, "--output", "out", "--scheduler", mortal[1]])
    assert f"{mortal[1]} has no workers yet" in ran.stderr


@pytest.mark.parametrize("drawn", [True, False])
def test_the_dashboard_is_named_if_there_is_what_draws_it(client, stack, monkeypatch, drawn):
    monkeypatch.setattr(cli, "find_spec", lambda name: drawn and name == "bokeh")
    monkeypatch.setattr(batch, "execute", lambda *_, **__: (event for event in ()))
    command = ["run", stack, "--output", "out", "--scheduler", client.scheduler.address]
    ran = CliRunner().invoke(app, command)
    assert ("shows what the workers do" in ran.stderr) == drawn


def test_what_the_dashboard_groups_by_is_the_kind_and_what_it_lists_has_the_name(client):
    with Queue(client) as queue:
        queue.submit("tag", "plane", "a b-c T=1, C=0", os.getpid)
        [(_, future)] = queue._jobs.values()
        assert distributed.utils.key_split(future.key) == "plane"
        assert "a b-c T=1, C=0" in str(future.key)
        assert len(list(queue)) == 1


@pytest.mark.filterwarnings("ignore")  # of connections that are lost
def test_without_its_scheduler_every_image_that_is_left_fails_and_the_same_command_goes_on(
    stack, mortal, expected, monkeypatch
):
    """One image is begun, the other not."""
    monkeypatch.setattr(batch, "MOST_AT_ONCE", 1)
    shutil.copy(stack, "other.tif")
    items = batch.plan([stack, "other.tif"], "out", SMALL)
    process, address = mortal
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1"]
    with (
        subprocess.Popen([*command, "--no-nanny", "--no-dashboard"], stderr=subprocess.DEVNULL) as worker,
        connect(address) as client,
    ):
        events = []
        for event in batch.execute(items, device="cpu", client=client):
            events.append(event)
            if event.kind == "plane" and process.poll() is None:
                process.kill()
                process.wait()
        worker.kill()
    ends = [event for event in events if event.kind in ("done", "failed")]
    assert [(end.kind, end.item.name) for end in ends] == [("failed", "stack"), ("failed", "other")]
    assert {end.reason for end in ends} == {f"{cluster.GONE}; the same command goes on"}
    again = list(batch.execute(items, device="cpu"))
    assert again[0].number >= 1
    for item in items:
        assert_results(item, expected[SMALL])


def test_a_worker_is_no_scheduler(client):
    worker = next(iter(client.scheduler_info()["workers"]))
    with (
        pytest.raises(ValueError, match=r"scheduler: expected .*got 'tcp.*that is a Worker"),
        connect(worker),
    ):
        pass


@pytest.mark.parametrize("given", [{"scheduler": "tcp://a:1"}, {"workers": 2}])
def test_without_distributed_the_extra_is_named(monkeypatch, given):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r"pip install 'napari-vdip\[cluster\]'"), connect(**given):
        pass
    with connect() as nothing:
        assert nothing is None


def test_a_cluster_is_either_there_or_here():
    with (
        pytest.raises(ValueError, match="workers: expected none beside a scheduler"),
        connect("tcp://a", 2),
    ):
        pass
    with pytest.raises(ValueError, match="workers: expected at least 1, got 0"), connect(workers=0):
        pass


@pytest.mark.parametrize("device", [None, "auto", "cpu", "cuda", "mps"])
def test_a_device_of_a_cluster_is_a_type(device):
    check_device(device)
    with pytest.raises(ValueError, match=r"device: expected .* got 'cuda:0'"):
        check_device("cuda:0")


@pytest.mark.skipif(sys.platform != "linux", reason="reads the environment that a process was started with")
def test_workers_are_started_with_memory_to_keep(client):
    for started in client.run(lambda: Path("/proc/self/environ").read_text().split("\0")).values():
        assert {f"MALLOC_TRIM_THRESHOLD_={KEPT}", f"MALLOC_MMAP_THRESHOLD_={KEPT}"} <= set(started)


@pytest.mark.parametrize(
    ("workers", "gpus", "threads"),
    [(3, 0, [1, 1, 1]), (4, 1, [4]), (5, 2, [3, 2]), (2, 2, [1, 1]), (2, 8, [1, 1]), (1, 0, [1])],
)
def test_workers_on_one_machine_are_processes_or_threads_that_share_a_gpu(workers, gpus, threads):
    assert threads_of_processes(workers, gpus) == threads


def test_workers_on_one_machine_share_its_cores_and_each_process_has_a_gpu():
    shares = [environment_of(number, 3, cores=8, gpus=2, own={}) for number in range(2)]
    assert [share["OMP_NUM_THREADS"] for share in shares] == ["2", "2"]
    assert [share["CUDA_VISIBLE_DEVICES"] for share in shares] == ["0", "1"]
    own = {"CUDA_VISIBLE_DEVICES": "GPU-a, 5,7", "OMP_NUM_THREADS": "3"}
    shares = [environment_of(number, 2, cores=1, gpus=3, own=own) for number in range(2)]
    assert [share["CUDA_VISIBLE_DEVICES"] for share in shares] == ["GPU-a", "5"]
    assert {share["OMP_NUM_THREADS"] for share in shares} == {"3"}
    assert environment_of(0, 4, cores=1, gpus=0, own={}) == {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
