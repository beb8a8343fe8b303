"""A live plot of a run: the objective and the residual of a plane over its steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.theme import get_theme
from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import QVBoxLayout, QWidget

# isort: split
# After Qt, since it takes the binding that is already there.
import pyqtgraph

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_vdip._worker import Step

AXIS_WIDTH = 58
"""Pixels for the numbers of both vertical axes, so that the steps stand under each other."""
OUTLYING = 0.05
"""Part of the steps whose terms may lie above the plot, and below: the first ones are far off."""
LINES = {
    "loss": ("objective", None),
    "data": ("data", "#e69f00"),
    "prior": ("prior", "#56b4e9"),
    "psf_prior": ("PSF prior", "#009e73"),
    "entropy": ("entropy", "#d55e00"),
    "similarity": ("similarity", "#cc79a7"),
}
"""Name and colour of each line; all can tell them apart, on dark and on light (Okabe and Ito, 2008)."""
HEIGHTS = 0.9, 0.74, 0.58, 0.42, 0.26
"""Of the names of stages in turn, as part of the plot: beside each other there is no room for them."""
NOISE_LABEL = 0.02
"""Where the name of the noise begins, as part of its line."""
DECADE = (1, 2, 5), (1, 3), (1,)
"""Numbers of each decade on a logarithmic axis, as many as there is room for."""
NUMBER = 20
"""Pixels along the axis for one of them."""
ROW = 2
"""Terms in the first row of the title."""
SIGNS = {name: 1 if name == "loss" else -1 for name in LINES}
"""The terms add up to what is maximised, and are drawn as the parts of what is minimised."""


@dataclass(slots=True)
class Curves:
    """The course of one plane, one entry for each step.

    Attributes
    ----------
    stages : list of str
        Phase of the step where it has one, or else its stage, see `estimate.Estimate`.
    terms : dict of str to list of float
        What the networks minimise, ``loss``, and the parts it is the sum of; NaN where a stage has none.
    residual : list of float
        Standard deviation of the residual in source units, NaN where no report said it.
    noise_level : float
        That of the noise, NaN until a report says it.
    """

    stages: list[str] = field(default_factory=list)
    terms: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in LINES})
    residual: list[float] = field(default_factory=list)
    noise_level: float = np.nan

    def add(self, step: Step) -> None:
        """Take in a step."""
        self.stages.append(step.stage)
        for name, values in self.terms.items():
            values.append(SIGNS[name] * step.terms.get(name, np.nan))
        self.residual.append(np.nan)

    def complete(self, history: Mapping[str, NDArray[Any]], noise: float) -> None:
        """Take over what a result says, which knows no phases: reports may have left steps out."""
        told = self.residual[: len(history["stage"]) - 1]
        count = len(history["stage"])
        self.stages = [*self.stages[:count], *history["stage"][len(self.stages) :]]
        self.terms = {name: (SIGNS[name] * history[name]).tolist() for name in LINES}
        self.residual = [*told, *[np.nan] * (len(self.stages) - len(told))]
        self.residual[-1] = noise

    @property
    def starts(self) -> list[tuple[int, str]]:
        """First step of every stage, and its name."""
        before = [None, *self.stages]
        return [
            (number, stage)
            for number, (stage, last) in enumerate(zip(self.stages, before, strict=False), start=1)
            if stage != last
        ]


def title(names: list[str]) -> str:
    """Return the objective as the sum of its terms, each in the colour of its line, in up to two rows."""
    terms = [
        f"<span style='color: {colour}'>{text}</span>"
        for name, (text, colour) in LINES.items()
        if colour and name in names
    ]
    rows = [" + ".join(row) for row in (terms[:ROW], terms[ROW:]) if row]
    return "objective" + " = " * bool(rows) + " +<br>".join(rows)


class Logarithmic(pyqtgraph.AxisItem):  # type: ignore[misc, unused-ignore]
    """A logarithmic axis with few numbers; pyqtgraph's are on top of each other where it is short."""

    def logTickValues(  # noqa: N802
        self, low: float, high: float, size: float, standard: list[Any]
    ) -> list[Any]:
        """Return positions of ticks; within a part of a decade those of an axis that is not logarithmic."""
        decades = 10.0 ** np.arange(np.floor(low), np.ceil(high))
        for numbers in DECADE:
            ticks = np.log10(np.outer(decades, numbers).ravel())
            ticks = ticks[(ticks >= low) & (ticks <= high)]
            if ticks.size * NUMBER <= size:
                break
        return [(None, ticks)] if ticks.size > 1 else standard

    def logTickStrings(self, values: list[float], scale: float, spacing: Any) -> list[str]:  # noqa: N802
        """Write the numbers at ticks."""
        return [f"{10**value * scale:.3g}" for value in values]


class CoursePlot(QWidget):
    """Two plots under each other, of the colours of a napari theme.

    Parameters
    ----------
    theme : str
        Name of the theme.

    Attributes
    ----------
    objective, residual : pyqtgraph.PlotItem
        The two plots.
    noise : pyqtgraph.InfiniteLine
        The estimated noise, at its decimal logarithm.
    background : str
        Their colour.
    """

    def __init__(self, theme: str) -> None:
        super().__init__()
        self._graphics = pyqtgraph.GraphicsLayoutWidget()
        self._graphics.ci.layout.setContentsMargins(0, 4, 8, 6)
        for view in (self._graphics, self._graphics.viewport()):
            view.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # there is nothing to do in it
        self.objective, self.residual = (
            self._graphics.addPlot(row=row, col=0, enableMenu=False, axisItems={"left": axis("left")})
            for row, axis in enumerate((pyqtgraph.AxisItem, Logarithmic))
        )
        self.residual.setLabel("bottom", "step")
        self._lines: list[tuple[Any, Any]] = []
        self._marks: list[tuple[int, str, bool]] = []
        self._marked, self._titled = self.objective, ""
        self._cursors = []
        for plot, name in ((self.objective, "objective"), (self.residual, "residual")):
            plot.setTitle(name, size="9pt")
            plot.hideButtons()
            plot.setMouseEnabled(False, False)
            for side in ("left", "bottom"):
                plot.getAxis(side).enableAutoSIPrefix(False)
            plot.getAxis("left").setWidth(AXIS_WIDTH)
            cursor = pyqtgraph.InfiniteLine(angle=90)
            cursor.setVisible(False)
            plot.addItem(cursor, ignoreBounds=True)
            self._cursors.append(cursor)
        self._curves = {
            name: self.objective.plot(antialias=True, connect="finite", pen=colour and {"color": colour})
            for name, (_, colour) in LINES.items()
        }
        self._points = self.residual.plot(antialias=True, symbolSize=3)
        self.residual.setLogMode(y=True)
        look = {"position": NOISE_LABEL, "anchors": [(0, 1), (0, 1)]}
        self.noise = pyqtgraph.InfiniteLine(angle=0, label="noise", labelOpts=look)
        self.residual.addItem(self.noise)
        self.setToolTip(
            "Above the objective that the networks minimise, before each step, and the terms it is the sum "
            "of; only the search has one. "
            "Below the standard deviation of what the estimate leaves unexplained of the image, in its "
            "units, on a logarithmic axis: it should settle at the noise of the image, as estimated from "
            "the image alone, which the horizontal line shows."
        )
        self._graphics.setAccessibleName("Objective and residual over the steps")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._graphics)
        self._drawn: tuple[Curves, int | None] = Curves(), None
        self.paint(theme)

    def show_course(self, curves: Curves, cursor: int | None = None) -> None:
        """Draw the course of a plane, and mark a step; if nobody can see it, when somebody can."""
        self._drawn = curves, cursor
        if self.isVisible():
            self._draw()

    def paint(self, theme: str) -> None:
        """Take the colours of a theme."""
        colours = get_theme(theme)
        self._text, self._faint = colours.text.as_hex(), colours.highlight.as_hex()
        self.background = colours.background.as_hex()
        self._graphics.setBackground(self.background)
        for plot in (self.objective, self.residual):
            plot.setTitle(plot.titleLabel.text, color=self._text)
            for side in ("left", "bottom"):
                plot.getAxis(side).setPen(self._faint)
                plot.getAxis(side).setTextPen(self._text)
        for cursor in self._cursors:
            cursor.setPen(colours.warning.as_hex(), width=2)
        self._curves["loss"].setPen(self._text, width=1.5)
        self.noise.setPen(colours.warning.as_hex(), style=Qt.PenStyle.DotLine, width=1.5)
        self.noise.label.setColor(colours.warning.as_hex())
        self._points.setPen(self._text, width=1.5)
        self._points.setSymbolBrush(self._text)
        self._points.setSymbolPen(None)
        self._marks = []  # those that are there have the colours of before
        self._draw()

    def sizeHint(self) -> QSize:  # noqa: N802
        """Twice as high as it needs to be."""
        return QSize(300, 320)

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """Small, but the axes can be read."""
        return QSize(200, 160)

    def showEvent(self, event: Any) -> None:  # noqa: N802
        """Draw what came while it could not be seen."""
        super().showEvent(event)
        self._draw()

    def _draw(self) -> None:
        curves, cursor = self._drawn
        steps = np.arange(1, len(curves.stages) + 1)
        terms = {name: np.array(values, float) for name, values in curves.terms.items()}
        residual = np.array(curves.residual, float)
        told = residual > 0
        for name, curve in self._curves.items():
            curve.setData(steps, terms[name])
        named = [name for name in terms if np.isfinite(terms[name]).any()]
        if (said := title(named)) != self._titled:
            self._titled = said
            self.objective.setTitle(said)
        self.objective.setVisible(bool(named) or not steps.size)  # without networks there is none
        self._points.setData(steps[told], residual[told])
        level = curves.noise_level
        self.noise.setVisible(level > 0)
        self.noise.setValue(np.log10(level) if level > 0 else 0)
        for line in self._cursors:
            line.setVisible(cursor is not None)
            line.setValue(cursor or 0)
        self._mark_stages(curves)
        for plot in (self.objective, self.residual):
            for side in ("left", "bottom"):
                plot.getAxis(side).setStyle(showValues=steps.size > 0)
        seen = [values[np.isfinite(values)] for values in terms.values()]
        seen = [np.quantile(values, (OUTLYING, 1 - OUTLYING)) for values in seen if values.size]
        if seen:
            self.objective.setYRange(np.min(seen), np.max(seen))
        if steps.size:
            for plot in (self.objective, self.residual):
                plot.setXRange(1, max(len(steps), 2))

    def _mark_stages(self, curves: Curves) -> None:
        """Mark where the stages begin, if that has changed, with their names in the upper plot."""
        half = len(curves.stages) / 2
        marks = [(step, stage, step > half) for step, stage in curves.starts]
        named = self.objective if self.objective.isVisible() else self.residual
        if (marks, named) == (self._marks, self._marked):
            return
        self._marks, self._marked = marks, named
        for plot, line in self._lines:
            plot.removeItem(line)
        self._lines = [
            (
                plot,
                self._mark(plot, *mark, height=HEIGHTS[number % len(HEIGHTS)] if plot is named else None),
            )
            for number, mark in enumerate(marks)
            for plot in (self.objective, self.residual)
        ]

    def _mark(self, plot: Any, step: int, stage: str, late: bool, *, height: float | None) -> Any:
        """Draw where a stage begins; where that is late, there is room for its name at its left only."""
        look = {
            "position": height,
            "color": self._text,
            "fill": self.background,
            "anchors": [(late, 0.5)] * 2,
        }
        dashed = {"color": self._faint, "style": Qt.PenStyle.DashLine}
        label = stage + " →" * late if height else None
        line = pyqtgraph.InfiniteLine(step, angle=90, label=label, labelOpts=look, pen=dashed)
        plot.addItem(line, ignoreBounds=True)
        return line
