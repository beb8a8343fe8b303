"""The tab of a run's course: its plot, and earlier estimates to look at and to keep."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QSignalBlocker, Qt, Signal  # type: ignore[attr-defined, unused-ignore]
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSlider, QVBoxLayout, QWidget

from napari_vdip._course_plot import CoursePlot, Curves
from napari_vdip._iterates import Iterate, Revision

if TYPE_CHECKING:
    from napari_vdip._layers import Result
    from napari_vdip._results import ResultLayers
    from napari_vdip._worker import Report
    from napari_vdip.result import Deconvolution
    from napari_vdip.stack import Plan

IDLE = "A run shows its course here."
RUNNING = "Pause to look at earlier estimates."
WITHOUT_STD = "The std map is of the last estimate alone."


class CourseTab(QWidget):
    """Follows one run after the other, and shows earlier estimates in its layers while it is at rest.

    Signals
    -------
    stop_wanted
        An estimate of a run that pauses was chosen to be kept: it is, as soon as the run has ended.

    Parameters
    ----------
    theme : str
        Name of napari's theme.

    Attributes
    ----------
    iterates : tuple of Iterate
        Earlier estimates of the run.
    curves : dict of tuple of int to Curves
        Its course, for each plane that was reached.
    """

    stop_wanted = Signal()

    def __init__(self, theme: str) -> None:
        super().__init__()
        self._layers: ResultLayers | None = None
        self._planes: Plan | None = None
        self._forget()
        self.plot = CoursePlot(theme)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setToolTip(
            "Earlier estimates of this run, at its right end the last one. While the run pauses, and after "
            "its end, the layers show the one that is chosen here."
        )
        self.slider.setAccessibleName("Earlier estimates")
        self.keep = QPushButton("Keep this one")
        self.keep.setToolTip(
            "Make this estimate the result of its plane, also instead of the last one. Its layers say "
            f"which step it is of. {WITHOUT_STD} A run that pauses ends. At the right end of the slider, "
            "go back to the last estimates of all planes."
        )
        self.chosen = QLabel(IDLE)
        self.chosen.setWordWrap(True)
        self.chosen.setToolTip("Which estimate the layers show.")
        self.slider.valueChanged.connect(self._scrub)
        self.keep.clicked.connect(self._keep)
        row = QHBoxLayout()
        row.addWidget(self.slider, stretch=1)
        row.addWidget(self.keep)
        column = QVBoxLayout(self)
        column.addWidget(self.plot, stretch=1)
        column.addLayout(row)
        column.addWidget(self.chosen)
        self._describe(IDLE)

    def _forget(self) -> None:
        """Know of no run."""
        self.iterates: tuple[Iterate, ...] = ()
        self.curves: dict[tuple[int, ...], Curves] = {}
        self._latest: tuple[int, ...] = ()
        self._revision: Revision | None = None
        self._wanted: Iterate | None = None
        self._final = False

    def begin(self, planes: Plan, layers: ResultLayers) -> None:
        """Follow a new run; the layers of the one before show what was kept of it."""
        self.close_result()
        self._forget()
        self._planes, self._layers = planes, layers
        self.plot.show_course(Curves())
        self._describe(RUNNING)

    def add(self, report: Report) -> None:
        """Take in a report, whose estimate the layers show."""
        self.iterates = report.iterates
        for step in report.course:
            self.curves.setdefault(step.index, Curves()).add(step)
        for iterate in self.iterates:
            self.curves[iterate.index].residual[iterate.step - 1] = iterate.noise
        self._latest = report.index
        self.curves[report.index].noise_level = report.noise_level
        self.curves[report.index].residual[report.step - 1] = report.restored.noise
        self.plot.show_course(self.curves[report.index])

    def open_result(self, result: Result, *, final: bool = False) -> None:
        """Let the user look at earlier estimates, since the layers, which show this result, are at rest."""
        assert self._planes is not None
        self._revision, self._final = Revision(result, self._planes), final
        with QSignalBlocker(self.slider):
            self.slider.setRange(0, len(self.iterates))
            self.slider.setValue(len(self.iterates))
        self._describe()

    def close_result(self) -> None:
        """Let the layers show what is kept, and leave them alone from now on."""
        if self._revision is not None:
            if self._revision.taken != self._revision.kept:
                self._revision.rest()
                self._show()
            self._revision = None
            self._describe(RUNNING)

    def end(self, result: Deconvolution) -> None:
        """Complete the course by that of the result, and open it; keep what was chosen in a pause."""
        assert self._planes is not None
        psfs = {index: self._planes.take_psf(result.psf, index) for index in self._planes.indices}
        reached = [index for index, psf in psfs.items() if np.isfinite(psf).all()]
        for index, history, noise in zip(reached, result.history, result.noise, strict=True):
            self.curves.setdefault(index, Curves()).complete(history, float(noise))
        if self._latest not in reached:
            self._latest = reached[-1]
        self.open_result(result, final=True)
        wanted = [number for number, held in enumerate(self.iterates) if held is self._wanted]
        if wanted:
            self.slider.setValue(wanted[0])
            self._keep()

    def finish(self) -> None:
        """Say that there is no run, where it left nothing to look at."""
        if self._revision is None:
            self._describe(IDLE)

    @property
    def _chosen(self) -> Iterate | None:
        """The estimate that the slider is at; ``None`` at its right end."""
        number = self.slider.value()
        return self.iterates[number] if number < len(self.iterates) else None

    def _scrub(self) -> None:
        assert self._revision is not None
        assert self._layers is not None
        assert self._planes is not None
        if self._chosen is not None:
            self._layers.show_plane(self._planes, self._chosen.index)
        self._revision.take(self._chosen)
        self._show()
        self._describe()

    def _keep(self) -> None:
        if self._final:
            assert self._revision is not None
            self._revision.keep(self._chosen)
            self._show()
            self._describe()
        else:
            self._wanted = self._chosen
            self.stop_wanted.emit()

    def _show(self) -> None:
        """Show the estimates that were taken in, without a std map if they are all there is to keep."""
        assert self._revision is not None
        assert self._layers is not None
        revision = self._revision
        self._layers.show(revision, final=bool(revision.kept) and revision.taken == revision.kept)

    def _describe(self, text: str | None = None) -> None:
        """Say which estimate the layers show, or why there is no choice, and mark it in the plot."""
        is_open, chosen = self._revision is not None, self._chosen
        kept = self._revision.kept if self._revision is not None else {}
        is_kept = not kept if chosen is None else kept.get(chosen.index) is chosen
        self.slider.setEnabled(is_open and len(self.iterates) > 0)
        self.keep.setEnabled(is_open and not is_kept)
        if text is None:
            last = "the result" if self._final else "the last estimate"
            text = last if chosen is None else f"{chosen.name}{' (kept)' * is_kept}\n{WITHOUT_STD}"
            shown = self._latest if chosen is None else chosen.index
            cursor = None if chosen is None else chosen.step
            self.plot.show_course(self.curves.get(shown, Curves()), cursor)
        self.chosen.setText(text)
