"""The tab that does many files as `napari-vdip run` does, and says how it is with each."""

from __future__ import annotations

from collections import Counter
from threading import Event
from typing import TYPE_CHECKING, Any

from napari.qt.threading import create_worker
from qtpy.QtCore import Qt, Signal  # type: ignore[attr-defined, unused-ignore]
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QProgressBar,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_vdip._batch_form import BatchForm
from napari_vdip._batch_worker import ENDS, Batch, State, batching
from napari_vdip._estimator import Estimator, counted, estimating_batch
from napari_vdip._layouts import button, scrolling
from napari_vdip._tools import copy
from napari_vdip._worker import release_memory
from napari_vdip.report import duration

if TYPE_CHECKING:
    from magicgui.widgets import ComboBox
    from napari import Viewer

    from napari_vdip._input_form import InputForm
    from napari_vdip._settings_form import SettingsForm
    from napari_vdip.items import Item

WORDS = {"skipped": "done before", "plane": "running", "step": "running", "started": "running"}
"""What a kind of event is called in the table, if not as it is."""
FIXED_WINDOW = (
    "A batch takes the PSF shape as it is, although PSF window is automatic: find one that fits with a run."
)
WHOLE_FILES = "A batch takes whole files: the region that this panel has is for Run alone."
OWN_AXES = "A batch takes the axes that are given here: those of the panel are for its image alone."
DONE = ("done", "skipped")
"""Kinds of events after which there is a result."""
PARTS = 1000
"""Parts of the progress bar."""


class BatchTab(QWidget):
    """Does files, those of the selected layers or chosen ones, with the settings of the panel.

    Signals
    -------
    changed
        A batch has begun or ended.

    Parameters
    ----------
    viewer, inputs, form, device
        See `BatchForm`.
    """

    changed = Signal()

    def __init__(self, viewer: Viewer, inputs: InputForm, form: SettingsForm, device: ComboBox):
        super().__init__()
        self.what = BatchForm(viewer, inputs, form, device)
        self._worker: Any = None
        self._estimator: Estimator | None = None
        self._stop, self._waiting = Event(), ""
        self._items: list[Item] = []
        self._states: dict[int, State] = {}
        self._warnings: dict[int, list[str]] = {}
        self._make_controls()
        self._lay_out()
        self._connect()
        self._update()

    def _make_controls(self) -> None:
        self.table = QTableWidget(0, 3)
        self.table.setHorizontalHeaderLabels(["image", "state", "time"])
        self.table.setToolTip("The images, how it is with each, and the time spent on it.")
        self.table.setAccessibleName("Images of the batch")
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setTabKeyNavigation(False)  # Tab leaves it, the arrow keys move within
        self.table.setWordWrap(False)
        numbers, header = self.table.verticalHeader(), self.table.horizontalHeader()
        assert numbers is not None
        assert header is not None
        numbers.hide()
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for column in (1, 2):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        self.run = button(
            "Run as batch",
            "Deconvolve the files, with all their planes and the settings of this panel. What is done "
            "already is not done again: run again to go on after a cancel.",
        )
        self.cancel = button(
            "Cancel",
            "Stop after this step. What is done stays, and a plane that was begun goes on from its last "
            "checkpoint: it loses about a minute.",
        )
        self.estimate = button("Estimate", "How long it will take, and how much memory.")
        self.copy = button("Copy as command", "Copy the command that does the same in a terminal.")
        self.progress = QProgressBar()
        self.progress.setRange(0, PARTS)
        self.progress.setToolTip("How much of all images is done.")
        self.note = QLabel("")
        self.note.setWordWrap(True)
        self.note.setToolTip("What to know before a batch begins.")
        self.status = QLabel("")
        self.status.setWordWrap(True)
        self.status.setToolTip("What the batch is doing, or how the last one ended.")

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(scrolling(self.what))
        column.addWidget(self.table, stretch=1)
        for those in ((self.estimate, self.copy), (self.run, self.cancel)):
            row = QHBoxLayout()
            for widget in those:
                row.addWidget(widget)
            column.addLayout(row)
        for part in (self.progress, self.note, self.status):
            column.addWidget(part)

    def _connect(self) -> None:
        self.run.clicked.connect(self._run)
        self.cancel.clicked.connect(self._cancel)
        self.estimate.clicked.connect(self._estimate)
        self.what.changed.connect(self._update)
        self.copy.clicked.connect(lambda: copy(lambda: self.what.batch().command()))

    # Doing it

    @property
    def running(self) -> bool:
        """Whether there is a batch."""
        return self._worker is not None

    def block(self, why: str) -> None:
        """Let nothing begin while the panel computes something else, which is said."""
        self._waiting = why
        self._update()

    def quit(self) -> None:
        """Stop soon; what is done stays."""
        for worker in (self._worker, self._estimator):
            if worker is not None:
                worker.quit()

    def _run(self) -> None:
        if (batch := self._batch_or_say()) is None:
            return
        if self._estimator is not None:
            self._estimator.quit()
        self._stop, self._items, self._states, self._warnings = Event(), [], {}, {}
        self.table.setRowCount(0)
        self.status.setText("looking at the files")
        self.progress.setValue(0)
        self._worker = create_worker(batching, batch, self._stop, _ignore_errors=True)
        self._worker.yielded.connect(self._on_news)
        self._worker.errored.connect(self._on_error)
        self._worker.warned.connect(self._on_warning)
        self._worker.finished.connect(self._on_finished)
        self.destroyed.connect(self._worker.quit)
        self._worker.start()
        self._update()
        self.changed.emit()

    def _batch_or_say(self) -> Batch | None:
        try:
            return self.what.batch()
        except ValueError as error:
            self.status.setText(str(error))
            return None

    def _cancel(self) -> None:
        self._stop.set()
        self.status.setText("stopping after this step")
        self._update()

    def _estimate(self) -> None:
        if (batch := self._batch_or_say()) is not None:
            self._estimator = Estimator(estimating_batch, batch, parent=self)
            self._estimator.told.connect(self.status.setText)
            self._estimator.finished.connect(self._on_estimated)
            self._estimator.start()
            self._update()

    def _on_estimated(self) -> None:
        self._estimator = None
        self._update()

    def _on_news(self, news: list[Item] | State) -> None:
        if isinstance(news, State):
            self._states[news.number] = news
            self._show(news.number)
        else:
            self._items = news
            self.table.setRowCount(len(news))
            for number in range(len(news)):
                self._show(number)
        self.progress.setValue(round(PARTS * self._fraction()))
        if not self._stop.is_set():
            self.status.setText(self._summary())

    def _on_error(self, error: Exception) -> None:
        self.status.setText(str(error))
        self._items = []  # what was not begun is no summary

    def _on_warning(self, warning: tuple[Any, ...]) -> None:
        """Keep a warning with the image that is being done, which is the one that was told of last."""
        message, category = warning[:2]
        if issubclass(category, RuntimeWarning) and self._states:
            number = next(reversed(self._states))
            self._warnings.setdefault(number, []).append(str(message))
            self._show(number)

    def _on_finished(self) -> None:
        self._worker = None
        release_memory()
        if self._items:
            cancelled = "cancelled, Run as batch goes on: " * self._stop.is_set()
            self.status.setText(cancelled + self._summary())
        self._update()
        self.changed.emit()

    def _show(self, number: int) -> None:
        """Bring a row of the table up to date."""
        item, state = self._items[number], self._states.get(number)
        kind, tooltip, seconds = "waiting", str(item.folder), ""
        if state is not None:
            kind, seconds = WORDS.get(state.kind, state.kind), duration(state.seconds)
            tooltip = self._remark(number) or tooltip
            if kind == "running":
                kind = f"{state.fraction:.0%}"
        elif item.problem:
            kind, tooltip = "failed", item.problem
        where = str(item.path)
        for column, (text, tip) in enumerate(((item.name, where), (kind, tooltip), (seconds, tooltip))):
            cell = QTableWidgetItem(text)
            cell.setToolTip(tip)
            if column == 2:
                cell.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            self.table.setItem(number, column, cell)

    def _remark(self, number: int) -> str:
        """Return what is to be said of an image: why it failed, or what was not as usual."""
        state, warned = self._states.get(number), self._warnings.get(number, [])
        return "\n".join(dict.fromkeys(filter(None, (state.reason if state else "", *warned))))

    def _fraction(self) -> float:
        """Part of all images that is done."""
        return sum(state.fraction for state in self._states.values()) / max(len(self._items), 1)

    def _summary(self) -> str:
        """Say how it is with all images."""
        kinds = Counter(state.kind for state in self._states.values())
        counts = [f"{kinds[kind]} {WORDS.get(kind, kind)}" for kind in ENDS if kinds[kind]]
        said = sum(
            bool(self._remark(number)) for number, state in self._states.items() if state.kind in DONE
        )
        remarks = f"; {said} with remarks, see their tooltips" if said else ""
        return f"{counted(len(self._items))}: {', '.join(counts) or 'none done yet'}{remarks}"

    def _update(self) -> None:
        """Enable what makes sense now."""
        free = self._worker is None and not self._waiting
        notes = [
            f"Nothing begins while {self._waiting}." if self._waiting else "",
            FIXED_WINDOW if self.what.grows else "",
            WHOLE_FILES if self.what.has_region else "",
            OWN_AXES if self.what.has_axes else "",
        ]
        self.note.setText("\n".join(filter(None, notes)))
        self.note.setVisible(any(notes))
        self.run.setEnabled(free)
        self.estimate.setEnabled(free and self._estimator is None)
        self.cancel.setEnabled(self._worker is not None and not self._stop.is_set())
