"""The dock widget: a panel that chooses an image and settings, and follows one run at a time."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox, Label, LineEdit, ProgressBar, PushButton
from napari.layers import Image, Layer
from napari.utils.notifications import show_error
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_vdip._layers import KEY, layer_axes, read_layer
from napari_vdip._results import ResultLayers
from napari_vdip._session import Session
from napari_vdip._settings_form import SettingsForm

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari import Viewer

THIS_PLANE, ALL_PLANES = "this plane only", "all planes"
REPLACE, ADD = "replace earlier ones", "add to earlier ones"
NARROWEST = 340
"""Width of the panel in pixels at which nothing is cut off."""


class DeconvolutionWidget(QWidget):
    """Blind deconvolution of an image layer.

    Parameters
    ----------
    napari_viewer : Viewer
        Where the images are and the results go; napari gives it to a parameter of this name.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._session: Session | None = None
        self._results: ResultLayers | None = None
        self.form = SettingsForm()
        self._make_inputs()
        self._make_controls()
        self._lay_out()
        napari_viewer.layers.selection.events.active.connect(self._follow)
        for event in ("inserted", "removed", "reordered", "renamed"):
            getattr(napari_viewer.layers.events, event).connect(self.reset_choices)
        self._follow()
        self._guess()

    def _make_inputs(self) -> None:
        self.image = ComboBox(
            label="image",
            choices=self._images,
            tooltip="The blurred image. Follows the layer that is selected in the layer list.",
        )
        self.axes = LineEdit(
            label="axes",
            tooltip="One letter for each axis of the image, such as TZCYX: time, depth, channel, height "
            "and width. Correct it where the guess is wrong; any letter but Y, X and C is a stack.",
        )
        self.planes = ComboBox(
            label="of a stack",
            choices=(THIS_PLANE, ALL_PLANES),
            tooltip="Deconvolve the plane that is displayed, with all its channels, or all one by one.",
        )
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
        self.image.changed.connect(self._guess)
        self.axes.changed.connect(self._update_state)

    def _make_controls(self) -> None:
        self.run = PushButton(text="Run", tooltip="Deconvolve the image with these settings.")
        self.pause = PushButton(text="Pause", tooltip="Pause after this step, or go on.")
        self.stop = PushButton(text="Stop and keep", tooltip="Stop after this step and keep the result.")
        self.progress = ProgressBar(value=0, max=1, tooltip="Steps made, of all planes.")
        self.status = Label(value="")
        self.status.native.setWordWrap(True)
        self.run.changed.connect(self._run)
        self.pause.changed.connect(self._pause_or_resume)
        self.stop.changed.connect(self._stop)

    def _lay_out(self) -> None:
        basic = [self.image, self.axes, self.planes, self.form.method, *self.form.basic.values()]
        advanced = QCollapsible("advanced settings", collapsedIcon="▶")
        advanced.setContent(form_of(self.form.advanced.values()))
        advanced.collapse(animate=False)
        fields = QWidget()
        column = QVBoxLayout(fields)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(form_of([*basic, self.form.preset, self.device, self.earlier]))
        column.addWidget(advanced)
        column.addStretch()
        for box in (*fields.findChildren(QAbstractSpinBox), *fields.findChildren(QComboBox)):
            box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            box.installEventFilter(self)
        area = QScrollArea()
        area.setFrameShape(QScrollArea.Shape.NoFrame)
        area.setWidgetResizable(True)
        area.setWidget(fields)
        buttons = QHBoxLayout()
        for button in (self.run, self.pause, self.stop):
            buttons.addWidget(button.native)
        layout = QVBoxLayout(self)
        layout.addWidget(area)
        layout.addLayout(buttons)
        layout.addWidget(self.progress.native)
        layout.addWidget(self.status.native)
        self.setMinimumWidth(NARROWEST)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """Let the wheel scroll the panel instead of changing a number that the pointer happens to be on."""
        if event and event.type() == QEvent.Type.Wheel and watched is not QApplication.focusWidget():
            event.ignore()
            return True
        return False

    # What is chosen

    def reset_choices(self, event: Any = None) -> None:
        """Bring the list of images up to date, and keep the chosen one, which may have a new name."""
        chosen = self.image.value
        with self.image.changed.blocked():
            self.image.reset_choices()
            if chosen in self.image.choices:
                self.image.value = chosen
        if self.image.value != chosen:
            self._guess()

    def _images(self, widget: Any = None) -> list[Layer]:
        return [layer for layer in self._viewer.layers if isinstance(layer, Image)]

    def _follow(self, event: Any = None) -> None:
        """Choose the layer that became active, unless it is a result, not an image, or no layer."""
        active = self._viewer.layers.selection.active
        if active in self.image.choices and KEY not in active.metadata:
            self.image.value = active

    def _guess(self) -> None:
        """Guess the axes and the channels of another image."""
        layer = self.image.value
        if layer is not None:
            self.axes.value = layer_axes(layer)
            self.form.basic["channels"].value = "joint" if layer.rgb else "separate"
        self._update_state()

    def _update_state(self) -> None:
        """Enable what makes sense now."""
        session = self._session
        self.run.enabled = self.image.value is not None and session is None
        self.pause.enabled = session is not None and not session.stopping
        self.pause.text = "Resume" if session is not None and session.paused else "Pause"
        self.stop.enabled = self.pause.enabled
        self.planes.enabled = bool(set(self.axes.value.upper()) - set("CYX"))

    # One run

    def _run(self) -> None:
        """Start, or say what is wrong with the input."""
        source = self.image.value
        point = self._viewer.dims.point if self.planes.value == THIS_PLANE else None
        try:
            settings = self.form.value
            picture = read_layer(source, self.axes.value.strip(), point)
        except ValueError as error:
            show_error(str(error))
            return
        earlier = self._results if self.earlier.value == REPLACE else None
        self._results = ResultLayers(self._viewer, source, picture.at, earlier)
        self._session = Session(picture, settings, self.device.value, self._results, parent=self)
        self._session.told.connect(self._tell)
        self._session.finished.connect(self._on_finished)
        self._tell("starting", 0, 0)

    def _pause_or_resume(self) -> None:
        if self._session is not None:
            if self._session.paused:
                self._session.resume()
            else:
                self._session.pause()
                self.status.value = f"paused after {self.status.value}"
            self._update_state()

    def _stop(self) -> None:
        if self._session is not None:
            self._session.stop()

    def _tell(self, text: str, done: int, total: int) -> None:
        self.status.value = text
        self.progress.max, self.progress.value = total, done
        self._update_state()

    def _on_finished(self) -> None:
        self._session = None
        self.device.reset_choices()
        self._update_state()

    def event(self, event: QEvent | None) -> bool:
        """Stop when napari takes the panel out of its window."""
        if event and event.type() == QEvent.Type.ParentChange and not self.parent() and self._session:
            self._session.quit()
        return bool(super().event(event))


def form_of(widgets: Iterable[Any]) -> QWidget:
    """Lay out widgets under each other, with their labels, which have their tooltips too."""
    form = QWidget()
    rows = QFormLayout(form)
    rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    for widget in widgets:
        label = QLabel(widget.label)
        label.setToolTip(widget.tooltip)
        rows.addRow(label, widget.native)
    return form


def device_choices(widget: Any = None) -> tuple[str, ...]:
    """Offer the devices there are, once a run has imported PyTorch, which is slow; before, all kinds."""
    if "torch" not in sys.modules:
        return "auto", "cpu", "cuda", "mps"
    from napari_vdip.devices import available_devices

    return "auto", *available_devices()
