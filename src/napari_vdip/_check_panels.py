"""The parts of the Check tab that show something: facts, verdict, point spread function."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.utils.colormaps import ensure_colormap
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import (
    QDoubleSpinBox,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_vdip import _check_texts as texts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from qtpy.QtGui import QWheelEvent

    from napari_vdip.verdict import Verdict

NANOMETRES = 1000.0
"""In a micrometre."""
ENLARGED = 128
"""Longer side of the picture of a point spread function, in pixels of the screen, at most."""
COLOURS = {
    "good": ("#2e7d32", "white"),
    "look closer": ("#ffb300", "black"),
    "do not trust": ("#b71c1c", "white"),
    "blank": ("#616161", "white"),
}
"""Background and text of a verdict, which is also in words."""
MEANINGS = {
    "pixel size": "Height and width of a pixel.",
    "FWHM": "Full width at half maximum along the major and the minor axis.",
    "second moments": "Standard deviations along these axes. All of the window counts, with its haze; of a "
    "Gaussian the full width at half maximum is 2.355 times that.",
    "major axis": "Its direction.",
    "by diffraction": "Full width at half maximum of a wide-field fluorescence microscope in focus, by "
    "diffraction alone: 0.514 wavelength / NA.",
    "centroid": "How far the centre of mass is from the middle of the window.",
    "at the border": "Part of the mass on the outermost pixels of the window: it should be little.",
    "concentration": "1 and 0 for a point; 1 / n and ln n for n equal pixels.",
    "two seeds": "Largest normalised cross-correlation of the point spread functions of two seeds. If they "
    "disagree, at least one is wrong.",
    "with networks": "Largest normalised cross-correlation with the point spread function of a run with "
    "networks and another seed. If they disagree, at least one is wrong.",
    "chi-square": "Mean square of the residual in noise units, and that of a replica in which the "
    "result is true.",
    "neighbours": "Correlation of neighbours in the residual, and that of the replica.",
    "whiteness": "Mean squared difference of the residual's autocorrelation from that of the replica, in "
    "squared standard errors.",
    "signal to noise": "Variance of the input above that of its noise, relative to it.",
    "beyond noise": "Of images with edges as fine as pixels: errors of the point spread function that "
    "would leave what the residual has beyond noise.",
    "clipped input": "Pixels at the ends of the input's range, where more are than at the next value. "
    "Saturation under a flat field is not seen.",
}


def text(words: str = "") -> QLabel:
    """Make a label that breaks its lines, and whose text can be copied."""
    label = QLabel(words)
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label


def heading(words: str) -> QLabel:
    """Make the heading of a section."""
    label = QLabel(f"<b>{words}</b>")
    label.setContentsMargins(0, 8, 0, 0)
    return label


def button(words: str, about: str, *, checkable: bool = False) -> QPushButton:
    """Make a button with its tooltip."""
    made = QPushButton(words)
    made.setToolTip(about)
    made.setCheckable(checkable)
    return made


class Facts(QWidget):
    """Names and values under each other."""

    def __init__(self) -> None:
        super().__init__()
        # No form layout: that cuts off the lower edge of text that is broken into lines.
        self._rows = QGridLayout(self)
        self._rows.setContentsMargins(0, 0, 0, 0)
        self._rows.setColumnStretch(1, 1)
        self._names: dict[str, QLabel] = {}
        self.values: dict[str, QLabel] = {}

    def show_facts(self, facts: Mapping[str, str]) -> None:
        """Show these, and no others."""
        for name in [name for name in facts if name not in self.values]:
            row = len(self.values)
            self._names[name], self.values[name] = QLabel(name), text()
            for column, label in enumerate((self._names[name], self.values[name])):
                label.setAlignment(Qt.AlignmentFlag.AlignTop)
                label.setToolTip(MEANINGS[name])
                self._rows.addWidget(label, row, column, Qt.AlignmentFlag.AlignTop)
        for name, value in self.values.items():
            value.setText(facts.get(name, ""))
            for label in (self._names[name], value):
                label.setVisible(name in facts)


class VerdictPanel(QWidget):
    """The answer for a plane, in colour and words, and its reasons."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = QLabel()
        self.answer.setToolTip(
            "The worst of the reasons below decides. Good says that none was found. The residual does not "
            "show a point spread function that is too narrow: wavelength and NA below help to see one."
        )
        self.answer.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.reasons = text()
        self.facts = Facts()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for part in (self.answer, self.reasons, self.facts):
            column.addWidget(part)

    def show_verdict(self, verdict: Verdict | None, facts: Mapping[str, str], note: str = "") -> None:
        """Show a verdict, or that there is none yet, and why."""
        self.answer.setVisible(verdict is not None)
        if verdict is not None:
            back, front = COLOURS[verdict.answer]
            self.answer.setText(verdict.answer)
            self.answer.setStyleSheet(
                f"background: {back}; color: {front}; font-weight: bold; padding: 4px; border-radius: 4px;"
            )
        self.reasons.setText("\n".join([*(verdict.reasons if verdict else ()), *([note] if note else [])]))
        self.facts.show_facts(facts)


class Number(QDoubleSpinBox):
    """A number that may be unknown, and that the wheel changes only when it has the focus."""

    def __init__(
        self, name: str, unit: str, largest: float, decimals: int, step: float, about: str
    ) -> None:
        super().__init__()
        self.setRange(0, largest)
        self.setDecimals(decimals)
        self.setSingleStep(step)
        self.setSuffix(unit)
        self.setSpecialValueText("unknown")
        self.setToolTip(about)
        self.setAccessibleName(name)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setKeyboardTracking(False)

    @property
    def known(self) -> float | None:
        """The number, if there is one."""
        return self.value() or None

    def wheelEvent(self, event: QWheelEvent | None) -> None:  # noqa: N802
        """Let the wheel scroll the panel instead."""
        if self.hasFocus():
            super().wheelEvent(event)
        elif event is not None:
            event.ignore()


class Picture(QLabel):
    """A point spread function, enlarged, in the colours of its layer."""

    def __init__(self) -> None:
        super().__init__()
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setAccessibleName("Point spread function")

    def show_psf(self, psf: NDArray[np.floating]) -> None:
        """Show ``(kh, kw)``, with pixels as squares."""
        height, width = psf.shape
        colours = ensure_colormap("viridis").map(psf.ravel() / (psf.max() or 1)).reshape(height, width, 4)
        pixels = np.round(255 * colours).astype(np.uint8)
        image = QImage(pixels.tobytes(), width, height, 4 * width, QImage.Format.Format_RGBA8888)
        picture = QPixmap.fromImage(image)  # a copy
        longer = max(psf.shape)
        side = longer * (ENLARGED // longer) or ENLARGED  # whole times as large, if it is not too large
        self.setPixmap(picture.scaled(side, side, Qt.AspectRatioMode.KeepAspectRatio))
        about = (
            f"The point spread function, {height} x {width} pixels, enlarged: dark violet is nothing, "
            "yellow its maximum."
        )
        self.setToolTip(about)
        self.setAccessibleDescription(about)


class PsfPanel(QWidget):
    """What the point spread function of a plane is like, and what can be done with it."""

    def __init__(self) -> None:
        super().__init__()
        self.picture, self.facts, self.advice = Picture(), Facts(), text()
        self.use_window = button(
            "Use a window",
            "Set the PSF shape on the Deconvolve tab, for the next run, to what fits this one.",
        )
        self.reseed = button(*texts.SECOND_RUN["with networks"])
        self.export = button(
            "Export PSF...",
            "Save the point spread function of this plane as OME-TIFF, with its pixel size.",
        )
        self.open = button(
            "Open PSF...",
            "Open a point spread function from a file as a layer beside the image, and choose it as given "
            "for the next run. If the file says no pixel size, it takes that of the image.",
        )
        self.pixel = Number(
            "pixel size",
            " nm",
            99999,
            1,
            10,
            "Side of a pixel, for widths in micrometres: the layer of the image has no units of length.",
        )
        self.wavelength = Number(
            "emission wavelength",
            " nm",
            9999,
            0,
            10,
            "Emission wavelength, for the width by diffraction, beside which the result is judged.",
        )
        self.na = Number(
            "numerical aperture", "", 2, 2, 0.05, "Numerical aperture of the objective, for the same."
        )
        optics = QFormLayout()
        optics.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        rows = {"pixel size": self.pixel, "wavelength": self.wavelength, "NA": self.na}
        labels = {name: QLabel(name) for name in rows}
        for name, box in rows.items():
            labels[name].setBuddy(box)
            labels[name].setToolTip(box.toolTip())
            optics.addRow(labels[name], box)
        self._pixel_row = labels["pixel size"], self.pixel
        files = QHBoxLayout()
        files.addWidget(self.export)
        files.addWidget(self.open)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.picture)
        column.addWidget(self.facts)
        column.addLayout(optics)
        column.addWidget(self.advice)
        column.addWidget(self.use_window)
        column.addWidget(self.reseed)
        column.addLayout(files)

    def ask_pixel_size(self, asked: bool) -> None:
        """Ask for the size of a pixel, or not."""
        for part in self._pixel_row:
            part.setVisible(asked)

    @property
    def side(self) -> float | None:
        """Side of a pixel in micrometres, if it is said."""
        return self.pixel.value() / NANOMETRES or None

    @property
    def theoretical(self) -> float | None:
        """Width by diffraction in micrometres, if wavelength and aperture are known."""
        from napari_vdip.psf_measures import theoretical_width

        wavelength, na = self.wavelength.known, self.na.known
        return theoretical_width(wavelength / NANOMETRES, na) if wavelength and na else None
