"""How the panel lays out its widgets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QCoreApplication, QEvent, QSize, Qt
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qtpy.QtGui import QShowEvent

SHORTEST_CHOICE = 12
"""Characters of a choice that are always seen: the name of a layer may be longer than the panel is wide."""

MOST_LINES = 24
"""Lines of text for which scrolled content asks at most, as Qt has it."""


def form_of(widgets: Iterable[Any]) -> QWidget:
    """Lay out widgets under each other, with their labels, which have their tooltips too."""
    form = QWidget()
    rows = QFormLayout(form)
    rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    for widget in widgets:
        label = QLabel(widget.label)
        label.setToolTip(widget.tooltip)
        label.setBuddy(widget.native)
        name_parts(widget)
        rows.addRow(label, widget.native)
    for box in form.findChildren(QComboBox):
        box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        box.setMinimumContentsLength(SHORTEST_CHOICE)
        choices = box.view()
        assert choices is not None
        choices.setTextElideMode(Qt.TextElideMode.ElideMiddle)  # names of layers often differ at their end
    return form


def name_parts(widget: Any) -> None:
    """Give a widget the name of its row, and number its parts, for those who do not see the row."""
    widget.native.setAccessibleName(widget.label)
    parts = widget.native.findChildren(QAbstractSpinBox)
    for number, part in enumerate(parts, start=1):
        part.setAccessibleName(f"{widget.label}, {number} of {len(parts)}")


def show_row(form: QWidget, widget: Any, shown: bool) -> None:
    """Show or hide a widget of a form with its label."""
    rows = form.layout()
    assert isinstance(rows, QFormLayout)
    label = rows.labelForField(widget.native)
    assert label is not None
    for item in (label, widget.native):
        item.setVisible(shown)


def row_of(*widgets: Any) -> QHBoxLayout:
    """Lay out widgets beside each other."""
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget.native)
    return row


def button(text: str, tooltip: str) -> QPushButton:
    """Make a button."""
    made = QPushButton(text)
    made.setToolTip(tooltip)
    return made


class Scrolling(QScrollArea):
    """Asks for the height that its content needs; Qt's for what that was without napari's style."""

    def sizeHint(self) -> QSize:  # noqa: N802
        """As high as the content, within reason."""
        content, hint = self.widget(), super().sizeHint()
        assert content is not None
        frame = self.height() - self.maximumViewportSize().height()
        hint.setHeight(min(content.sizeHint().height() + frame, MOST_LINES * self.fontMetrics().height()))
        return hint

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802
        """Ask again, now that the content has its style."""
        super().showEvent(event)
        self.updateGeometry()


def settle() -> None:
    """Let all widgets take the room that they need at once.

    Else they do a few events later, and meanwhile are seen squeezed into that of before.
    """
    QCoreApplication.sendPostedEvents(None, int(QEvent.Type.LayoutRequest))


def scrolling(*widgets: QWidget) -> QScrollArea:
    """Lay out widgets under each other, to be scrolled where there is no room for them."""
    content = QWidget()
    column = QVBoxLayout(content)
    column.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        column.addWidget(widget)
    column.addStretch()
    area = Scrolling()
    area.setFrameShape(QScrollArea.Shape.NoFrame)
    # There may be more text between two controls than fits: Page Down and the arrow keys get there.
    area.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    area.setAccessibleName("Scrolled with the arrow keys")
    area.setWidgetResizable(True)
    area.setWidget(content)
    return area
