import os
import subprocess
import sys
from functools import cache

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

PROBE = """
from qtpy.QtGui import QGuiApplication, QOpenGLContext
application = QGuiApplication([])
assert QOpenGLContext().create(), "no OpenGL"
"""


@cache
def why_no_window() -> str:
    """Say why no window with OpenGL can be had; asked in a process of its own, since Qt aborts."""
    probe = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=120)
    if probe.returncode == 0:
        return ""
    lines = probe.stderr.strip().splitlines() or [f"exit status {probe.returncode}"]
    return f"no window with OpenGL: {lines[-1]}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("needs_gl") and why_no_window():
        if os.environ.get("NAPARI_VDIP_REQUIRE_DISPLAY") == "1":
            pytest.fail(why_no_window())
        pytest.skip(why_no_window())


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Tiny problems are slower on more threads, a hundred times so on a busy machine."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_memory(monkeypatch, tmp_path):
    """Keep what the panel remembers from other tests, and from the user."""
    if "napari" in sys.modules:
        monkeypatch.setattr("napari_vdip._preferences.place", lambda: tmp_path / "panel.json")


@pytest.fixture(autouse=True)
def _no_worker_outlives_its_test():
    yield
    threading = sys.modules.get("superqt.utils._qthreading")
    left = tuple(threading.WorkerBase._worker_set) if threading else ()
    if left:
        threading.WorkerBase.await_workers(60_000)
    assert not left, f"still running: {left}"


@pytest.fixture
def double():
    """Compute in float64."""
    import torch

    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def rng():
    import torch

    return torch.Generator().manual_seed(0)


@pytest.fixture
def few_solver_steps(monkeypatch):
    """Solve roughly and quickly: for tests of what becomes of a run, not of how good it is."""
    from napari_vdip import candidate, kernel_spectrum, kernel_update, posterior
    from napari_vdip.solvers import conjugate_gradients

    def roughly(*problem):
        return conjugate_gradients(*problem[:-1], steps=2)

    for module in (candidate, posterior):
        monkeypatch.setattr(module, "conjugate_gradients", roughly)
    monkeypatch.setattr(kernel_update, "STEPS", 3)
    monkeypatch.setattr(kernel_spectrum, "STEPS", 20)
