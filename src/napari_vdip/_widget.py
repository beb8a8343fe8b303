"""The dock widget: a panel that chooses an image and settings, and follows one run at a time."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error
from qtpy.QtCore import QEvent

from napari_vdip._layouts import show_row
from napari_vdip._panel_controls import ADD, USE_PSF, WITHOUT_PSF, PanelControls
from napari_vdip._results import ResultLayers
from napari_vdip._session import Session
from napari_vdip._settings_form import AUTOMATIC

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari import Viewer
    from napari.layers import Image
    from numpy.typing import NDArray

    from napari_vdip._layers import Picture
    from napari_vdip._provenance import Recipe
    from napari_vdip.result import Deconvolution
    from napari_vdip.stack import Plan

TRIAL_SAMPLES = 2
"""Samples behind the std map of a trial, which is to be soon over: the fewest there can be."""


class DeconvolutionWidget(PanelControls):
    """Blind deconvolution of an image layer.

    Parameters
    ----------
    napari_viewer : Viewer
        Where the images are and the results go; napari gives it to a parameter of this name.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self._viewer = napari_viewer
        self._session: Session | None = None
        self._results: ResultLayers | None = None
        self._trial: ResultLayers | None = None
        self._next: Callable[[], None] | None = None
        self._said = self._problem = ""
        self._connect()
        self.tools.begin()
        self._guess_channels()
        self._update_state()

    def _connect(self) -> None:
        self.inputs.image.changed.connect(self._guess_channels)
        self.inputs.image.changed.connect(self._update_state)
        self.inputs.axes.changed.connect(self._update_state)
        self.form.basic["psf_source"].changed.connect(self._update_state)
        for decisive in (self.form.method, self.form.advanced["refinements"]):
            decisive.changed.connect(self._update_state)
        for widget in self.form.widgets:
            widget.changed.connect(self._explain)
        self.try_out.changed.connect(lambda: self._start(trial=True))
        self.use_psf.changed.connect(self._use_psf)
        self.run.changed.connect(lambda: self._start())
        self.pause.changed.connect(self._pause_or_resume)
        self.stop.changed.connect(self._stop)
        self.course.stop_wanted.connect(self._stop)
        self.tools.told.connect(lambda text: self._tell(text, 0, 1))
        self.tools.filled.connect(self._offer_run)
        self.batch.changed.connect(self._on_batch)
        self.check.changed.connect(self._update_state)
        self.tabs.currentChanged.connect(self._on_tab)
        self._viewer.events.theme.connect(self._paint)
        self._viewer.layers.events.removed.connect(self._update_state)

    def _guess_channels(self) -> None:
        """Guess what the channels of another image share."""
        layer = self.inputs.image.value
        if layer is not None:
            self.form.basic["channels"].value = "joint" if layer.rgb else "separate"

    def _explain(self) -> None:
        """Say at once what Run would refuse, until that is put right."""
        problem = self.form.problem
        if self._session is None and problem != self._problem:
            self._problem = problem
            self._tell(problem, 0, 1)

    def _paint(self, event: Any = None) -> None:
        self.course.plot.paint(self._viewer.theme)

    def _update_state(self, event: Any = None) -> None:
        """Enable and show what makes sense now."""
        session = self._session
        run = "a run computes" if session is not None else ""
        batch = "a batch computes" if self.batch.running else ""
        check = "Check computes" if self.check.busy else ""
        chosen = self.inputs.image.value is not None
        self.check.block(run or batch)
        self.batch.block(run or check)
        self.tools.block(bool(run or batch) or not chosen)
        self.run.enabled = chosen and not (run or batch or check)
        waiting = f"Run waits while {check}." if check else ""
        self.status.value = "\n".join(part for part in (self._said, waiting) if part)
        self.try_out.enabled = self.run.enabled
        there = session is None and self._trial is not None and self._trial.get("PSF") is not None
        self.use_psf.enabled = there and self.form.takes_psf
        self.use_psf.tooltip = USE_PSF if self.form.takes_psf else WITHOUT_PSF
        self.pause.enabled = session is not None and not session.stopping
        self.pause.text = "Resume" if session is not None and session.paused else "Pause"
        self.stop.enabled = self.pause.enabled
        self.inputs.planes.enabled = bool(set(self.inputs.axes.value.upper()) - set("CYX"))
        given = self.form.basic["psf_source"].value == "given"
        show_row(self._basic, self.inputs.psf, given)
        for window in (self.form.basic["psf_shape"], self.form.window):
            show_row(self._basic, window, not given)
        if given:
            self.inputs.suggest_psf()

    # One run

    def _start(self, *, trial: bool = False) -> None:
        """Start a run of what is chosen, or say what is wrong with it."""
        source, earlier = self.inputs.image.value, self._trial if trial else self._results
        try:
            picture, psf = self.inputs.taken(self.form.value, trial=trial)
        except ValueError as error:
            show_error(str(error))
            return
        self.tools.remember()
        if trial and earlier is not None and earlier.source != source:
            earlier.remove()
        if not trial and self.earlier.value == ADD:
            earlier = None
        recipe = self.tools.recipe(picture)
        if trial:
            recipe = replace(recipe, settings=recipe.settings.replace(samples=TRIAL_SAMPLES))
        self._launch(source, picture, recipe, psf, earlier, trial=trial)

    def _launch(
        self,
        source: Image,
        picture: Picture,
        recipe: Recipe,
        psf: NDArray[Any] | None,
        earlier: ResultLayers | None,
        *,
        trial: bool,
    ) -> None:
        """Follow a run, whose layers take the place of the earlier ones."""
        title = f"{source.name} trial" if trial else None
        layers = ResultLayers(self._viewer, source, picture, earlier, title=title, recipe=recipe)
        session = Session(picture, recipe.settings, psf, recipe.device, layers, parent=self)
        self.course.begin(session.planes, layers)
        session.told.connect(self._tell)
        session.reported.connect(self.course.add)
        session.reported.connect(self.check.look)
        session.held.connect(self._on_held)
        session.ended.connect(self.course.end)
        session.ended.connect(lambda result: self.check.end(result, source, layers.get("latent")))

        def again(window: tuple[int, int]) -> None:
            settings = recipe.settings.replace(psf_shape=window)
            self._launch(source, picture, replace(recipe, settings=settings), None, layers, trial=trial)

        session.ended.connect(lambda result: self._grow(result, session.planes, again))
        session.finished.connect(self._on_finished)
        self._session = session
        if trial:
            self._trial = layers
        else:
            self._results = layers
        self._tell("starting", 0, 0)

    def _grow(self, result: Deconvolution, planes: Plan, again: Callable[[tuple[int, int]], None]) -> None:
        """Choose a larger window and run again, if that is automatic and this one cuts the PSF off."""
        from napari_vdip.course import FINISHED
        from napari_vdip.psf_window import larger_window

        estimated = result.settings.psf_source != "given" and result.stopped == FINISHED
        if self.form.window.value == AUTOMATIC and estimated:
            psfs = [planes.take_psf(result.psf, index) for index in planes.indices]
            window = larger_window(psfs, planes.plane_shape)
            if window is not None:
                self.form.basic["psf_shape"].value = window
                self._next = partial(again, window)

    def _use_psf(self) -> None:
        """Keep the point spread function of the trial, and choose it for the next run."""
        if self._trial is not None:
            layer = self._trial.release("PSF")
            layer.name = f"{self._trial.source.name} PSF from trial"
            self.inputs.psf.value = layer
            self.form.basic["psf_source"].value = "given"
            self._update_state()

    def _pause_or_resume(self) -> None:
        if self._session is not None:
            if self._session.paused:
                self._session.resume()
            else:
                self._session.pause()
                self._said = f"paused after {self._said}"
            self._update_state()

    def _stop(self) -> None:
        if self._session is not None:
            self._session.stop()

    def _on_held(self, held: bool) -> None:
        """Let earlier estimates be looked at while the run pauses."""
        if held and self._session is not None and self._session.preview is not None:
            self.course.open_result(self._session.preview)
        else:
            self.course.close_result()

    def _tell(self, text: str, done: int, total: int) -> None:
        self._said = text
        self.progress.max, self.progress.value = total, done
        self._update_state()

    def _on_finished(self) -> None:
        self._session = None
        self.course.finish()
        self.device.reset_choices()
        self._update_state()
        following, self._next = self._next, None
        if following is not None:
            following()

    def _offer_run(self) -> None:
        """Show the form that was filled in, with Run at hand."""
        self.tabs.setCurrentIndex(0)
        self.run.native.setFocus()

    def _on_tab(self) -> None:
        """Show what follows a run, but beside a batch, which has its own."""
        for one in (self.run, self.pause, self.stop, self.progress, self.status):
            one.native.setVisible(self.tabs.currentWidget() is not self.batch)

    def _on_batch(self) -> None:
        if self.batch.running:
            self.tools.remember()
        self._update_state()

    def event(self, event: QEvent | None) -> bool:
        """Stop when napari takes the panel out of its window."""
        if event and event.type() == QEvent.Type.ParentChange and not self.parent():
            self._next = None
            for one in (self._session, self.tools, self.check, self.batch):
                if one is not None:
                    one.quit()
        return bool(super().event(event))
