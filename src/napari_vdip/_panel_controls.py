"""The controls of the panel and its tabs, made and laid out; `_widget` knows what they do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox, Label, ProgressBar, PushButton
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QSizePolicy,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_vdip._batch_tab import BatchTab
from napari_vdip._check_tab import CheckTab
from napari_vdip._course_tab import CourseTab
from napari_vdip._input_form import InputForm
from napari_vdip._layouts import form_of, row_of, scrolling
from napari_vdip._settings_form import SettingsForm
from napari_vdip._tools import Tools

if TYPE_CHECKING:
    from napari import Viewer

REPLACE, ADD = "replace earlier ones", "add to earlier ones"
USE_PSF = "Keep the point spread function of the trial, and deconvolve the image with it."
WITHOUT_PSF = (
    "Only VDIP-Sparse with refinements takes a PSF that is known: choose these to use that of the trial."
)
NARROWEST = 340
"""Width of the panel in pixels at which nothing is cut off."""


class PanelControls(QWidget):
    """What there is to see and to press.

    Parameters
    ----------
    viewer : Viewer
        Where the layers are.

    Attributes
    ----------
    inputs, form : InputForm, SettingsForm
        What to deconvolve, and how.
    course, check, batch : CourseTab, CheckTab, BatchTab
        The other tabs.
    tools : Tools
        The row of small tools.
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self.inputs = InputForm(viewer)
        self.form = SettingsForm()
        self.course = CourseTab(viewer.theme)
        self._make_controls()
        self.check = CheckTab(viewer, self.form, self.inputs, self.device)
        self.batch = BatchTab(viewer, self.inputs, self.form, self.device)
        remembered = self.batch.what, self.check.psf
        self.tools = Tools(viewer, self.inputs, self.form, self.device, *remembered)
        self._lay_out()

    def _make_controls(self) -> None:
        self.device = ComboBox(
            label="device",
            choices=device_choices,
            tooltip="Where to compute. auto takes a GPU if there is one.",
        )
        self.earlier = ComboBox(
            label="results",
            choices=(REPLACE, ADD),
            tooltip="What happens to the result layers of the run before, if it was of the same image.",
        )
        self.try_out = PushButton(
            text="Try on the visible region",
            tooltip="Deconvolve a small piece in the middle of what the canvas shows, with these settings. "
            "The next trial replaces its layers. Its std map is rough.",
        )
        self.use_psf = PushButton(
            text="Use this PSF",
            tooltip=USE_PSF,
        )
        self.run = PushButton(text="Run", tooltip="Deconvolve the image with these settings.")
        self.pause = PushButton(text="Pause", tooltip="Pause after this step, or go on.")
        self.stop = PushButton(text="Stop and keep", tooltip="Stop after this step and keep the result.")
        self.progress = ProgressBar(value=0, max=1, tooltip="Steps made, of all planes.")
        self.status = Label(value="", tooltip="What the run is doing, or how the last one ended.")
        self.status.native.setWordWrap(True)
        policy = QSizePolicy.Policy
        self.status.native.setSizePolicy(policy.Expanding, policy.Preferred)

    def _lay_out(self) -> None:
        inputs, form = self.inputs, self.form
        advanced = QCollapsible("advanced settings", collapsedIcon="▶")
        hidden = form_of(form.advanced.values())
        advanced.setContent(hidden)
        advanced.collapse(animate=False)
        advanced.toggleButton().setToolTip("All other settings; a preset fills them in.")
        advanced.toggleButton().toggled.connect(hidden.setVisible)  # or Tab would go through all of them
        hidden.hide()
        what = [inputs.image, inputs.axes, inputs.planes, inputs.region]
        shape, *others = form.basic.values()
        how = [form.method, shape, form.window, *others, inputs.psf, form.preset]
        how += [self.device, self.earlier]
        self._basic = form_of([*what, *how])
        deconvolve = QWidget()
        column = QVBoxLayout(deconvolve)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(scrolling(self._basic, advanced))
        column.addLayout(row_of(self.try_out, self.use_psf))
        column.addWidget(self.tools)
        for box in (
            *deconvolve.findChildren(QAbstractSpinBox),
            *deconvolve.findChildren(QComboBox),
        ):
            box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            box.installEventFilter(self)
        self.tabs = QTabWidget()
        bar = self.tabs.tabBar()
        assert bar is not None
        bar.setAccessibleName("Parts of the panel")
        self.tabs.addTab(deconvolve, "Deconvolve")
        self.tabs.addTab(self.course, "Course")
        self.tabs.addTab(self.check, "Check")
        self.tabs.addTab(self.batch, "Batch")
        self.tabs.setTabToolTip(0, "What to deconvolve, and how.")
        self.tabs.setTabToolTip(1, "How a run goes, and its earlier estimates.")
        self.tabs.setTabToolTip(2, "How far a result can be trusted.")
        self.tabs.setTabToolTip(3, "The same for many files.")
        layout = QVBoxLayout(self)
        layout.addWidget(self.tabs)
        layout.addLayout(row_of(self.run, self.pause, self.stop))
        layout.addWidget(self.progress.native)
        layout.addWidget(self.status.native)
        self.setMinimumWidth(NARROWEST)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """Let the wheel scroll the panel instead of changing a number that the pointer happens to be on."""
        if event and event.type() == QEvent.Type.Wheel and watched is not QApplication.focusWidget():
            event.ignore()
            return True
        return False


def device_choices(widget: Any = None) -> tuple[str, ...]:
    """Offer the devices there are, once a run has imported PyTorch, which is slow; before, all kinds."""
    if "torch" not in sys.modules:
        return "auto", "cpu", "cuda", "mps"
    from napari_vdip.devices import available_devices

    return "auto", *available_devices()
