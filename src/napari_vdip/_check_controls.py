"""The controls of the tab that checks a result, and what they say; `_check_tab` knows of which result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QHBoxLayout, QLabel, QListWidget, QVBoxLayout, QWidget

from napari_vdip import _check_texts as texts
from napari_vdip._check_panels import COLOURS, PsfPanel, VerdictPanel, button, heading, text
from napari_vdip._layouts import scrolling

if TYPE_CHECKING:
    from napari_vdip._check_jobs import News
    from napari_vdip._checked import Checked, Index
    from napari_vdip.stack import Plan

LONGEST_LIST = 5
"""Rows of the list of planes; more are scrolled."""
ROW_MARGIN = 8
"""Pixels above and below the text of a row."""


class CheckControls(QWidget):
    """What there is to see and to press.

    Attributes
    ----------
    planes : QListWidget
        Planes and channels with their verdicts.
    verdict, psf : VerdictPanel, PsfPanel
        Of one plane.
    """

    def __init__(self) -> None:
        super().__init__()
        self._make_controls()
        self._lay_out()

    def _make_controls(self) -> None:
        self.title = text()
        self.planes = QListWidget()
        self.planes.setToolTip("Planes and channels with their verdicts. Choose one to see it.")
        self.planes.setAccessibleName("Planes and channels")
        self.judge_all = button("Judge all planes", "Judge one plane after the other.")
        self.verdict, self.psf = VerdictPanel(), PsfPanel()
        self.residual = button(
            "Show the residual",
            "Add a layer: the re-blurred latent image less the input, in standard deviations of the noise. "
            "Blue is below zero, red above, full from four on. The specimen should not be seen in it.",
        )
        self.std_legend, self.calibrated = text(), text(texts.CALIBRATED)
        self.std = button(
            "Show the std map",
            "Show its layer over the latent image. Hide it with its eye in the layer list.",
        )
        self.veil = text(texts.VEIL)
        self.doubt = button(
            "Show the doubt",
            "Add a layer over the latent image, whose opacity is std / standard deviation of the latent "
            "plane, at most 1.",
        )
        self.measurements = button(
            "How well it is calibrated...", f"Open {texts.CALIBRATION} in the browser."
        )
        self.compare = button(
            "Compare",
            "Restore the shown plane with the same point spread function by Richardson-Lucy and Wiener of "
            "scikit-image, add the results as layers, and show all beside each other.",
        )
        self.beside = button(
            "Side by side",
            "Show input, latent image and the layers of other methods beside each other, in napari's grid; "
            "again, and all is as before.",
            checkable=True,
        )
        self.doing = QLabel()
        self.doing.setToolTip("What is being computed in the background.")
        self.stop = button("Stop", "Stop computing as soon as possible.")

    def _lay_out(self) -> None:
        self._sections = [
            heading("Verdict"),
            self.planes,
            self.judge_all,
            self.verdict,
            self.residual,
            heading("Point spread function"),
            self.psf,
            heading("Std map"),
            self.std_legend,
            self.std,
            self.veil,
            self.doubt,
            self.calibrated,
            self.measurements,
            heading("Other methods"),
            self.compare,
            self.beside,
        ]
        row = QHBoxLayout()
        row.addWidget(self.doing, stretch=1)
        row.addWidget(self.stop)
        column = QVBoxLayout(self)
        column.addWidget(self.title)
        column.addWidget(scrolling(*self._sections), stretch=1)
        column.addLayout(row)

    def list_planes(self, planes: Plan, index: Index) -> None:
        """List planes, with one of them chosen."""
        with QSignalBlocker(self.planes):
            self.planes.clear()
            self.planes.addItems([planes.name(each) for each in planes.indices])
            self.planes.setCurrentRow(planes.indices.index(index))
        rows = min(self.planes.count(), LONGEST_LIST)
        row = self.planes.fontMetrics().height() + ROW_MARGIN
        self.planes.setFixedHeight(rows * row + 2 * self.planes.frameWidth())

    def mark(self, planes: Plan, news: News) -> None:
        """Say in the list of planes what was found."""
        item = self.planes.item(planes.indices.index(news.index))
        if item is not None and news.diagnosis is not None:
            answer = news.diagnosis.verdict.answer
            mark = QPixmap(16, 16)
            mark.fill(QColor(COLOURS[answer][0]))
            item.setIcon(QIcon(mark))
            item.setText(f"{planes.name(news.index)}: {answer}")

    def show_sections(self, shown: bool) -> None:
        """Show or hide all that is of a result."""
        for part in self._sections:
            part.setVisible(shown)

    def show_doing(self, words: str, waiting: str = "") -> None:
        """Say what is being computed, or else why nothing can be."""
        self.doing.setText(words or waiting)
        self.doing.setVisible(bool(words or waiting))
        self.stop.setVisible(bool(words))

    def show_verdict(self, news: News | None, why_none: str) -> None:
        """Show the verdict on a plane, or say why there is none."""
        if news is None or news.diagnosis is None:
            self.verdict.show_verdict(None, {}, why_none)
        else:
            facts = texts.residual_facts(news.diagnosis)
            self.verdict.show_verdict(news.diagnosis.verdict, facts, news.problem)

    def show_psf(self, this: Checked, index: Index, news: News | None, agreement: float | None) -> None:
        """Show the point spread function of a plane, how it is, and how well two runs agree on it."""
        panel, facts = self.psf, {}
        second = texts.second_run(this)
        label, about = texts.SECOND_RUN[second]
        panel.reseed.setText(label)
        panel.reseed.setToolTip(about)
        if news is not None:
            said = this.pixel_size() if this.has_lengths else None  # or it is asked for
            facts = texts.psf_facts(news.psf, said, panel.theoretical)
            panel.picture.show_psf(this.psf(index))
            if agreement is not None:
                facts[second] = texts.agreement_of(agreement)
            panel.advice.setText(texts.window_advice(news.psf, given=this.given))
            panel.use_window.setText(texts.use_window(news.psf))
        panel.ask_pixel_size(not this.has_lengths)
        panel.facts.show_facts(facts)
        panel.picture.setVisible(news is not None)
        estimated = news is not None and not news.blank
        panel.advice.setVisible(estimated)
        advised = news is not None and bool(news.psf.advice) and not this.given
        panel.use_window.setVisible(estimated and advised)

    def show_std(self, this: Checked, news: News | None) -> None:
        """Say what the std map shows, if there is one, and how far it is calibrated."""
        has_std = this.result.std is not None
        self.calibrated.setText(texts.calibrated(news.diagnosis if news else None))
        for part in (self.std, self.veil, self.doubt, self.calibrated, self.measurements):
            part.setVisible(has_std)
        low, high = this.layers["std"].contrast_limits if "std" in this.layers else (0.0, 0.0)
        self.std_legend.setText(texts.std_legend(low, high) if has_std else texts.NO_STD)
