"""The tab that checks a result: verdict, point spread function, std map, and other methods beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker, QTimer, QUrl, Signal  # type: ignore[attr-defined, unused-ignore]
from qtpy.QtGui import QDesktopServices

from napari_vdip import _check_texts as texts
from napari_vdip._check_actions import Actions
from napari_vdip._check_controls import CheckControls
from napari_vdip._check_jobs import Job, judging
from napari_vdip._check_layers import SideBySide, companion
from napari_vdip._checked import checked
from napari_vdip._layers import KEY
from napari_vdip._layouts import settle
from napari_vdip.classical import METHODS

if TYPE_CHECKING:
    from magicgui.widgets import ComboBox
    from napari import Viewer
    from napari.layers import Image
    from qtpy.QtGui import QShowEvent

    from napari_vdip._check_jobs import News
    from napari_vdip._checked import Checked, Index
    from napari_vdip._input_form import InputForm
    from napari_vdip._settings_form import SettingsForm
    from napari_vdip.result import Deconvolution

SETTLED = 300
"""Milliseconds for which a plane is shown before it is judged."""


class CheckTab(CheckControls):
    """Checks the result of the last run, or the one whose layer is selected, at the plane that is shown.

    Signals
    -------
    changed
        It has begun to compute, or has ended.

    Parameters
    ----------
    viewer : Viewer
        Where the layers are.
    form : SettingsForm
        Takes over a suggested window.
    inputs : InputForm
        Takes over a point spread function from a file.
    device : ComboBox
        Says where to compute.

    Attributes
    ----------
    subject : Checked or None
        The result.
    index : tuple of int
        Its plane that is looked at.
    found : dict of tuple of int to News
        What is known of its planes.
    """

    changed = Signal()

    def __init__(self, viewer: Viewer, form: SettingsForm, inputs: InputForm, device: ComboBox) -> None:
        super().__init__()
        self._waiting, self._was_busy = "", False
        self._viewer, self._device = viewer, device
        self._latest: tuple[Deconvolution, Image] | None = None
        self._layer: Any = None
        self._job: Job | None = None
        self._at: tuple[Checked, list[Index]] | None = None
        self._beside = SideBySide(viewer)
        self.work = Actions(viewer, form, inputs, self)
        self.subject: Checked | None = None
        self.index: Index = ()
        self.found: dict[Index, News] = {}
        self._agreements: dict[Index, float] = {}
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(SETTLED)
        self._timer.timeout.connect(self._judge_shown)
        self._connect()
        self._follow()
        self._show()

    def _connect(self) -> None:
        work, psf = self.work, self.psf
        self.judge_all.clicked.connect(self._judge_all)
        self.residual.clicked.connect(lambda: self._with(work.show_residual))
        self.std.clicked.connect(lambda: self._with(work.show_std))
        self.doubt.clicked.connect(lambda: self._with(work.show_doubt))
        self.compare.clicked.connect(lambda: self._with(work.compare, self.index, self._put_beside))
        psf.reseed.clicked.connect(lambda: self._with(work.reseed, self.index, self._device.value))
        psf.use_window.clicked.connect(self._use_window)
        psf.export.clicked.connect(self._export)
        psf.open.clicked.connect(work.ask_open)
        psf.pixel.valueChanged.connect(self.refresh)
        psf.wavelength.valueChanged.connect(self._on_optics)
        psf.na.valueChanged.connect(self._on_optics)
        work.changed.connect(self._show)
        work.agreed.connect(self._on_agreement)
        self.stop.clicked.connect(self.quit)
        self.measurements.clicked.connect(lambda: QDesktopServices.openUrl(QUrl(texts.CALIBRATION)))
        self.beside.toggled.connect(self._set_beside)
        self._beside.grid.events.enabled.connect(self._on_grid)
        self.planes.currentRowChanged.connect(self._choose_row)
        self._viewer.layers.selection.events.active.connect(self._follow)
        self._viewer.layers.events.removed.connect(self._on_removed)
        self._viewer.dims.events.point.connect(self._on_moved)

    @property
    def busy(self) -> bool:
        """Whether it computes."""
        return self._job is not None or bool(self.work.doing)

    def block(self, why: str) -> None:
        """Let nothing be computed while something else is, which is said; go on if there is nothing."""
        if why != self._waiting:
            self._waiting = why
            self._show()
            self._timer.start()

    def quit(self) -> None:
        """Stop computing soon."""
        self.work.stop()
        if self._job is not None:
            self._job.stop()

    # What is checked

    def end(self, result: Deconvolution, source: Image, latent: Any) -> None:
        """Check the result of a run that has ended; its layer may be gone."""
        self._latest, self._layer = (result, source), latent
        self.refresh()

    def _follow(self, event: Any = None) -> None:
        """Check the result whose layer became active, and keep to the last one if none of ours did."""
        active = self._viewer.layers.selection.active
        if active is not None and KEY in active.metadata:
            self._layer = active
            self.refresh()

    def _on_removed(self, event: Any = None) -> None:
        if self.subject is not None and not set(self.subject.layers.values()) <= set(self._viewer.layers):
            self.refresh()

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802
        """Look again: layers may have changed meanwhile."""
        super().showEvent(event)
        self.refresh()

    def look(self, event: Any = None) -> None:
        """See whether a run has taken the layers over."""
        if self.subject is not None and self.subject.latent.metadata.get(KEY) is not self.subject.made:
            self.refresh()

    def refresh(self, *_: Any) -> None:
        """Find out what there is to check, and forget what was known of another result."""
        before, self.subject = self.subject, None
        if self._layer is not None:
            self.subject = checked(self._viewer, self._layer, self._latest, self.psf.side)
        if before is None or self.subject is None or not before.same(self.subject):
            self.found.clear()
            self._agreements.clear()
        if self.subject is not None:
            self.index = self.subject.shown(self._viewer.dims.point)
            self.list_planes(self.subject.planes, self.index)
            for news in self.found.values():
                self.mark(self.subject.planes, news)
        self._show()
        self._timer.start()

    def _on_moved(self, event: Any = None) -> None:
        """Follow the sliders."""
        this = self.subject
        if this is not None:
            index = this.shown(self._viewer.dims.point)
            if index not in this.seen_with(self.index):
                self._choose(this, index)

    def _choose_row(self, row: int) -> None:
        """Follow the list of planes."""
        this = self.subject
        if this is not None and row >= 0:
            self._choose(this, this.planes.indices[row])
            this.show(self._viewer, self.index)

    def _choose(self, this: Checked, index: Index) -> None:
        self.index = index
        with QSignalBlocker(self.planes):
            self.planes.setCurrentRow(this.planes.indices.index(index))
        self._show()
        self._timer.start()

    # The verdict

    def _judge_shown(self) -> None:
        """Judge the shown plane, once somebody looks at it for a moment."""
        if self.subject is not None and self.isVisible():
            self.judge([self.index])

    def _judge_all(self) -> None:
        if self.subject is not None:
            self.judge(self.subject.planes.indices)

    def judge(self, indices: list[Index]) -> None:
        """Judge planes in the background, but for those that are judged already or were not reached."""
        this = self.subject
        if this is None or self._job is not None or self._waiting:
            return
        reached = set(this.reached)
        indices = [index for index in indices if index in reached and not self._judged(index)]
        if not indices:
            return

        def take(news: News) -> None:
            if self.subject is not None and this.same(self.subject):
                self._keep(this, news)
                self._show()

        self._at = this, indices
        self._job = Job(judging(this, indices, self._device.value), self)
        self._job.yielded.connect(take)
        self._job.finished.connect(self._on_judged)
        self._show()

    def _keep(self, this: Checked, news: News) -> None:
        """Keep what was found of a plane, judged beside the width by diffraction as it is known now."""
        news = self.found[news.index] = news.beside(self.psf.theoretical)
        self.mark(this.planes, news)

    def _on_optics(self) -> None:
        """Judge beside another width by diffraction, which takes no time."""
        if self.subject is not None:
            for news in list(self.found.values()):
                self._keep(self.subject, news)
        self._show()

    def _judged(self, index: Index) -> bool:
        return index in self.found and self.found[index].diagnosis is not None

    def _on_judged(self) -> None:
        self._job = None
        self._show()
        assert self._at is not None
        this, indices = self._at
        if self.subject is not None and not (self.subject.same(this) and self.index in indices):
            self._timer.start()  # something else was chosen meanwhile

    # What is shown

    def _show(self, *_: Any) -> None:
        """Show what is known, and enable what makes sense now."""
        this, doing = self.subject, self.work.doing
        self.title.setText(
            self._name(this) if this else texts.UNFINISHED if self._layer is not None else texts.NOTHING
        )
        self.show_sections(this is not None)
        waiting = f"Nothing is judged while {self._waiting}." if self._waiting else ""
        self.show_doing(doing or ("Judging..." if self._job else ""), waiting)
        if self.busy != self._was_busy:
            self._was_busy = self.busy
            self.changed.emit()
        self.psf.open.setEnabled(not doing)
        if this is None:
            return
        several = len(this.planes.indices) > 1
        self.planes.setVisible(several)
        self.judge_all.setVisible(several)
        free = not doing and not self._waiting
        self.judge_all.setEnabled(self._job is None and not self._waiting)
        reached = self.index in this.reached
        news = self.found.get(self.index)
        self.show_verdict(news, self._why_none(reached))
        self.show_psf(this, self.index, news, self._agreements.get(self.index))
        self.psf.export.setEnabled(reached and not doing)
        estimated = not this.given and not (news is not None and news.blank)
        self.psf.reseed.setEnabled(reached and free and estimated and this.source is not None)
        has_input, has_std = this.source is not None, this.result.std is not None
        self.residual.setEnabled(has_input and free)
        self.compare.setEnabled(has_input and reached and free)
        self.doubt.setEnabled(has_std and free)
        self.std.setEnabled("std" in this.layers)
        self.show_std(this, news)
        settle()

    def _name(self, this: Checked) -> str:
        plane = this.planes.name(self.index)
        return f"{this.title}, {plane}" if plane else this.title

    def _why_none(self, reached: bool) -> str:
        """Say why there is no verdict on the plane, where there is none."""
        if not reached:
            return "The run ended before this plane."
        return "Not judged yet." if self._job is None else "Judging..."

    # What can be done

    def _with(self, action: Any, *more: Any) -> None:
        """Do something with the result, if there is one."""
        if self.subject is not None:
            action(self.subject, *more)

    def _use_window(self) -> None:
        self.work.use_window(self.found[self.index].psf.suggested)

    def _on_agreement(self, this: Checked, index: Index, value: float) -> None:
        if self.subject is not None and this.same(self.subject):
            self._agreements[index] = value
            self._show()

    def _export(self) -> None:
        if self.subject is not None:
            self.work.ask_export(self.subject, self.index, self._name(self.subject))

    def _set_beside(self, on: bool) -> None:
        """Show layers side by side, or as they were."""
        this = self.subject
        if on and this is not None:
            others = [companion(self._viewer, this, name) for name in METHODS]
            wanted = (this.source, this.latent, *others)
            self._beside.show([layer for layer in wanted if layer in self._viewer.layers])
        else:
            self._beside.restore()

    def _put_beside(self) -> None:
        """Show the layers that were made beside the others, also if some are shown so already."""
        self._set_beside(True)
        with QSignalBlocker(self.beside):
            self.beside.setChecked(self.subject is not None)

    def _on_grid(self, event: Any = None) -> None:
        """Follow napari's own button of the grid."""
        if not self._beside.grid.enabled:
            self.beside.setChecked(False)
