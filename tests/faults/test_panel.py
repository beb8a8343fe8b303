"""Many runs of the panel in one window: what it holds on to does not become more."""

import gc
import threading

import numpy as np
import pytest
import torch
from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QApplication
from superqt.utils import WorkerBase

from napari_vdip import Settings

pytestmark = pytest.mark.usefixtures("few_solver_steps")

TINY = Settings(psf_shape=5, widths=(4,) * 5, steps=2, refinements=1, samples=2)


@pytest.mark.needs_gl
def test_fifteen_runs_by_the_button_leave_no_objects_threads_or_tensors(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    _, panel = viewer.window.add_plugin_dock_widget("napari-vdip", "Blind deconvolution")
    panel.form.value, panel.device.value = TINY, "cpu"
    viewer.add_image(np.random.default_rng(0).poisson(5, (40, 48)).astype(np.float32), name="spots")
    window = viewer.window._qt_window
    seen = []
    for _ in range(15):
        panel.run.native.click()
        qtbot.waitUntil(lambda: panel._session is None and not WorkerBase._worker_set, timeout=60_000)
        QApplication.processEvents()
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)  # lets what is deleted go
        gc.collect()
        tensors = sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())
        seen.append((len(window.findChildren(QObject)), threading.active_count(), tensors))
    objects, threads, tensors = (set(each[5:]) for each in zip(*seen, strict=True))
    assert len(viewer.layers) == 4
    assert (len(objects), len(threads), len(tensors)) == (1, 1, 1), seen
