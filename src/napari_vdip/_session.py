"""One run in napari: its worker, its layers, and its bar in the activity dock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from napari.qt.threading import create_worker
from napari.utils.notifications import show_error, show_warning
from napari.utils.progress import cancelable_progress
from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined, unused-ignore]
from qtpy.QtWidgets import QLabel, QWidget

from napari_vdip._results import Preview
from napari_vdip._worker import Orders, deconvolving, duration, release_memory
from napari_vdip.stack import listed, plan

if TYPE_CHECKING:
    from napari_vdip._layers import Array, Picture
    from napari_vdip._results import ResultLayers
    from napari_vdip._worker import Report
    from napari_vdip.result import Deconvolution
    from napari_vdip.settings import Settings


DRAWN_AFTER = 0.05
"""Seconds after which a window that is not busy has been drawn again."""
SHOWN_SHARE = 0.1
"""Largest part of the window's time that showing reports may take: drawing computes on the same cores."""
LONGEST_WAIT = 3.0
"""Longest time between two reports, in seconds, however slow the window is."""


class ActivityBar(cancelable_progress):  # type: ignore[misc, unused-ignore]
    """A bar in napari's activity dock whose Cancel acts at once, not at a next iteration."""

    def cancel(self) -> None:
        """Stop the run."""
        super().cancel()
        if self.cancel_callback:
            self.cancel_callback()


class Session(QObject):
    """A run from its start to its end, started at construction.

    Signals
    -------
    told : str, int, int
        News for people, steps made and steps in all, which are 0 while unknown.
    reported : Report
        Where the run is; the layers show it.
    held : bool
        The run has come to rest in a pause, after its last report, or goes on.
    ended : Deconvolution
        There is a result; the layers show it.
    finished
        The worker has ended, for whatever reason.

    Parameters
    ----------
    picture : Picture
        What to deconvolve.
    settings : Settings
        How.
    psf : array or None
        Point spread functions, if they are given, see `napari_vdip.run`.
    device : str
        Where, see `napari_vdip.run`.
    layers : ResultLayers
        Where to show what comes out.
    parent : QWidget
        Ends the run when it is destroyed.

    Attributes
    ----------
    planes : Plan
        The planes of the result.
    preview : Preview or None
        What is known of the result since the first report.
    """

    told = Signal(str, int, int)
    reported = Signal(object)
    held = Signal(bool)
    ended = Signal(object)
    finished = Signal()

    def __init__(
        self,
        picture: Picture,
        settings: Settings,
        psf: Array | None,
        device: str,
        layers: ResultLayers,
        parent: QWidget,
    ):
        super().__init__(parent)
        self._layers, self._settings, self._region = layers, settings, picture.region
        self.planes = plan(picture.data.shape, picture.axes, settings.channels)
        if picture.region is not None:
            self.planes = self.planes.of_size(*(end - first for first, end in picture.region))
        self.preview: Preview | None = None
        self._orders, self._held = Orders(), False
        self._bar = ActivityBar(total=0, desc="VDIP", cancel_callback=self.stop)
        self._shown_since, self._drawn, self._rested = 0.0, QTimer(self), QTimer(self)
        self._drawn.setInterval(round(1000 * DRAWN_AFTER))
        self._drawn.timeout.connect(self._on_drawn)
        self._rested.timeout.connect(self._orders.heard.set)
        for timer in (self._drawn, self._rested):
            timer.setSingleShot(True)
        # napari's sign that something is in progress moves, for which the whole window is drawn again and
        # again: with OpenGL in software that halves the steps per second.
        window = parent.window() or parent
        for label in window.findChildren(QLabel):
            if movie := label.movie():
                movie.setPaused(True)
        run = picture, settings, psf, device, self._orders
        self._worker = create_worker(deconvolving, *run, _ignore_errors=True)
        self._worker.yielded.connect(self._on_report)
        self._worker.returned.connect(self._on_result)
        self._worker.errored.connect(self._on_error)
        self._worker.warned.connect(self._on_warning)
        self._worker.finished.connect(self._on_finished)
        self.destroyed.connect(self._worker.quit)
        self.destroyed.connect(self._orders.heard.set)  # or the worker would wait for a report to be shown
        self._worker.start()

    @property
    def paused(self) -> bool:
        """Whether the run pauses, or will after this step."""
        return not self._orders.going.is_set()

    @property
    def stopping(self) -> bool:
        """Whether the run is to stop."""
        return self._orders.stop.is_set()

    def pause(self) -> None:
        """Pause after this step."""
        self._orders.going.clear()

    def resume(self) -> None:
        """Go on."""
        self._hold(False)
        self._orders.going.set()

    def stop(self) -> None:
        """Stop after this step, also from a pause, and keep the result."""
        self._hold(False)
        self._orders.stop.set()
        self._orders.going.set()
        self.told.emit("stopping: finishing the last estimate", 0, 0)

    def quit(self) -> None:
        """Stop soon, without a result."""
        self._worker.quit()
        self._orders.heard.set()  # the worker looks whether it is to quit at its next report

    def _hold(self, held: bool) -> None:
        """Say so, if the run has come to rest or goes on."""
        if held != self._held:
            self._held = held
            self.held.emit(held)

    def _on_report(self, report: Report | None) -> None:
        if report is None:
            self._hold(self.paused)
            return
        self._shown_since = time.perf_counter()
        if self.preview is None:  # a point spread function that is given has a window of its own
            settings = self._settings.replace(psf_shape=report.restored.psf.shape)
            self.preview = Preview.of(self.planes, settings, self._region)
        self.preview.put(report)
        self._layers.show(self.preview)
        self.reported.emit(report)
        if not (self.paused or self.stopping):
            self.told.emit(report.text, report.done, report.total)
        self._drawn.start()
        # Last, since the activity dock lets other events in, the end of the run among them.
        self._bar.total = report.total
        self._bar.update(report.done - self._bar.n)

    def _on_drawn(self) -> None:
        """Let the next report come when showing this one, drawing included, has taken its share."""
        taken = time.perf_counter() - self._shown_since - DRAWN_AFTER
        self._rested.start(round(1000 * min(taken / SHOWN_SHARE, LONGEST_WAIT)))

    def _on_result(self, result: Deconvolution) -> None:
        self._layers.show(result, final=True)
        names = [self.planes.name(index) for index in result.blank]
        blank = f", blank: {listed(names)}" if names else ""
        took = f"{result.stopped} after {duration(result.seconds)} on {result.device}"
        self.told.emit(took + blank, 1, 1)
        self.ended.emit(result)

    # napari's workers are meant to notify of errors and warnings themselves, but with PyQt6 they do not.

    def _on_error(self, error: Exception) -> None:
        show_error(str(error))
        self.told.emit(str(error), 0, 1)

    def _on_warning(self, warning: tuple[Any, ...]) -> None:
        message, category = warning[:2]
        if issubclass(category, RuntimeWarning):
            show_warning(str(message))

    def _on_finished(self) -> None:
        self._bar.close()
        release_memory()
        self.finished.emit()
        self.deleteLater()
