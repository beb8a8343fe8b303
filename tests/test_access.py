"""Every control of the panel is named, explained and reached by the keyboard."""

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSpinBox,
    QComboBox,
    QLabel,
    QLineEdit,
    QSlider,
    QTabBar,
    QWidget,
)
from superqt import QCollapsible

from napari_vdip import add_to_viewer
from napari_vdip._layouts import scrolling
from napari_vdip.result import Deconvolution
from napari_vdip.settings import Settings

pytestmark = pytest.mark.needs_gl

CONTROLS = (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QSlider,
    QTabBar,
)
TABS = ("Deconvolve", "Course", "Check", "Batch")


@pytest.fixture
def panel(make_napari_viewer, monkeypatch):
    """The panel as napari docks it, all of it unfolded, beside a result of three planes."""
    viewer = make_napari_viewer()
    _, panel = viewer.window.add_plugin_dock_widget("napari-vdip", "Blind deconvolution")
    monkeypatch.setattr(panel.check, "judge", lambda indices: None)
    stack = np.random.default_rng(0).poisson(5, (3, 40, 48)).astype(np.float32)
    source = viewer.add_image(stack, name="a name that is far longer than the panel is wide " * 3)
    psf = np.full((3, 5, 5), 0.04, np.float32)
    settings = Settings(psf_shape=5, refinements=0)
    result = Deconvolution(
        stack, psf, stack, stack, np.ones(3), (), "ZYX", settings, "cpu", 1.0, "finished"
    )
    layers = add_to_viewer(viewer, source, result)
    panel.check.end(result, source, layers[0])
    panel.findChild(QCollapsible).toggleButton().click()
    return panel


def controls(panel):
    """All that takes input, without the parts that such widgets are made of."""
    found = [widget for widget in panel.findChildren(QWidget) if isinstance(widget, CONTROLS)]
    return [widget for widget in found if not set(found) & set(around(widget, panel))]


def around(widget, panel):
    """The widgets in which one is, from the inside."""
    while (widget := widget.parentWidget()) is not panel:
        yield widget


def about(widget, panel):
    """What somebody sees who points at a control: Qt asks what is around it, if it has nothing to say."""
    return next((text for one in (widget, *around(widget, panel)) if (text := one.toolTip())), "")


def name(widget, panel):
    """What a screen reader calls a control."""
    buddies = [label.text() for label in panel.findChildren(QLabel) if label.buddy() is widget]
    text = widget.text() if isinstance(widget, QAbstractButton) else ""
    return widget.accessibleName() or text or next(iter(buddies), "")


def test_every_control_is_named_and_explained(panel):
    found = controls(panel)
    assert len(found) > 60
    for tabs in panel.findChildren(QTabBar):
        assert all(tabs.tabToolTip(number) for number in range(tabs.count()))
    explained = [widget for widget in found if not isinstance(widget, QTabBar)]
    assert [name(widget, panel) for widget in explained if not about(widget, panel)] == []
    assert [about(widget, panel) or widget for widget in found if not name(widget, panel)] == []


def test_every_control_takes_the_keyboard(panel):
    policies = {name(widget, panel): widget.focusPolicy() for widget in controls(panel)}
    assert [about for about, policy in policies.items() if not policy & Qt.FocusPolicy.TabFocus] == []


@pytest.mark.parametrize("tab", range(4), ids=TABS)
def test_nothing_is_wider_than_the_panel(panel, tab):
    panel.tabs.setCurrentIndex(tab)
    panel.setFixedWidth(panel.minimumWidth())
    panel.grab()  # lays out what was not shown yet
    for widget in controls(panel):
        if widget.isVisibleTo(panel):
            right = widget.mapTo(panel, QPoint(widget.width(), 0)).x()
            assert right <= panel.width(), name(widget, panel)


def test_text_between_controls_is_reached_with_page_down(qtbot):
    text = QLabel("facts\n" * 200)
    area = scrolling(text)
    qtbot.addWidget(area)
    area.resize(200, 100)
    area.show()
    assert area.focusPolicy() & Qt.FocusPolicy.TabFocus
    before = area.verticalScrollBar().value()
    qtbot.keyClick(area, Qt.Key.Key_PageDown)
    assert area.verticalScrollBar().value() > before
