"""The plot of a run's course, without a viewer."""

import numpy as np
import pytest
import qtpy
from qtpy.QtGui import QTextDocument

from napari_vdip._course_plot import LINES, CoursePlot, Curves
from napari_vdip._worker import Step
from napari_vdip.estimate import OBJECTIVE


@pytest.fixture
def plot(qtbot):
    plot = CoursePlot("dark")
    qtbot.addWidget(plot)
    return plot


TERMS = {"data": -60.0, "similarity": 0.5}


def course(search, refinement):
    curves = Curves()
    for number in range(1, search + refinement + 1):
        early = number <= search
        stage, terms = (
            ("search", dict(TERMS, loss=100 / number)) if early else ("refinement", {"noise": 0.1})
        )
        curves.add(Step((), number, stage, terms))
        if number % 3 == 0:
            curves.residual[-1] = 1 + 1 / number
    return curves


def drawn(plot):
    (loss, *_), (residual,) = plot.objective.listDataItems(), plot.residual.listDataItems()
    return loss.getOriginalDataset(), residual.getOriginalDataset()


def test_the_binding_of_qt_is_that_of_qtpy():
    import pyqtgraph

    assert pyqtgraph.Qt.QT_LIB.lower() == qtpy.API_NAME.lower()


def test_a_stage_starts_where_its_name_first_occurs():
    assert course(4, 3).starts == [(1, "search"), (5, "refinement")]
    assert Curves().starts == []


def test_every_step_is_drawn_with_its_number(plot, qtbot):
    plot.show()
    plot.show_course(course(4, 3))
    (steps, loss), (told, residual) = drawn(plot)
    assert np.array_equal(steps, np.arange(1, 8))
    assert np.allclose(loss[:4], 100 / np.arange(1, 5))
    assert np.isnan(loss[4:]).all()
    assert np.array_equal(told, (3, 6))
    assert np.allclose(residual, 1 + 1 / told)


def test_the_terms_are_drawn_as_parts_of_what_is_minimised_and_only_those_there_are_have_a_name(plot):
    plot.show()
    plot.show_course(course(4, 3))
    drawn = dict(zip(LINES, plot.objective.listDataItems(), strict=True))
    for name, value in TERMS.items():
        assert np.array_equal(
            drawn[name].getOriginalDataset()[1], [-value] * 4 + [np.nan] * 3, equal_nan=True
        )
    said = QTextDocument()
    said.setHtml(plot.objective.titleLabel.text)
    assert said.toPlainText() == "objective = data + similarity"


def labels(plot):
    return [
        line.label.format
        for line in plot.items
        if getattr(line, "angle", None) == 90 and hasattr(line, "label")
    ]


def test_without_networks_the_residual_is_alone_and_names_the_stages(plot):
    plot.show()
    assert plot.objective.isVisible()
    plot.show_course(course(0, 6))
    assert not plot.objective.isVisible()
    assert labels(plot.residual) == ["refinement"]
    low, high = plot.residual.viewRange()[0]
    assert low <= 1 < 6 <= high < 8
    plot.show_course(course(4, 3))
    assert plot.objective.isVisible()
    assert labels(plot.objective) == ["search", "refinement →"]
    assert labels(plot.residual) == []


@pytest.mark.parametrize("residual", [(1.5, 1.41, 1.4), (80.0, 3.0, 1.4), (1e6, 1e3, 1.4)])
def test_the_residual_is_seen_beside_the_noise_however_large_it_was_at_first(plot, residual):
    plot.show()
    assert not plot.noise.isVisible()
    curves = course(0, 3)
    curves.residual, curves.noise_level = list(residual), 1.4
    plot.show_course(curves)
    assert plot.noise.isVisible()
    assert 10 ** plot.noise.value() == pytest.approx(1.4)
    low, high = plot.residual.viewRange()[1]
    assert low <= np.log10(1.4) < np.log10(residual[0]) <= high
    axis = plot.residual.getAxis("left")
    ticks = np.concatenate([at for _, at in axis.tickValues(low, high, axis.height())])
    assert ticks.size > 1


def test_phases_that_reports_have_told_outlive_the_result():
    curves = Curves()
    for number, phase in enumerate(("full resolution", "comparison"), start=1):
        curves.add(Step((), number, phase, {"noise": 0.1}))
    history = {name: np.full(3, np.nan) for name in LINES} | {"stage": np.array(["refinement"] * 3)}
    curves.complete(history, noise=0.7)
    assert curves.stages == ["full resolution", "comparison", "refinement"]


def test_what_has_not_changed_is_not_drawn_again(plot, monkeypatch):
    plot.show()
    curves = course(8, 0)
    plot.show_course(curves)
    before, titles = [line for _, line in plot._lines], []
    monkeypatch.setattr(plot.objective, "setTitle", titles.append)
    curves.add(Step((), 9, "search", dict(TERMS, loss=1.0)))
    plot.show_course(curves)
    assert [line for _, line in plot._lines] == before
    assert titles == []
    curves.add(Step((), 10, "refinement", {"noise": 0.1}))
    plot.show_course(curves)
    assert [step for step, _, _ in plot._marks] == [1, 10]
    assert len(plot.residual.listDataItems()) == 1


def test_what_cannot_be_seen_is_drawn_when_it_can(plot, qtbot):
    plot.show_course(course(4, 3))
    assert drawn(plot)[0][0] is None or len(drawn(plot)[0][0]) == 0
    plot.show()
    assert len(drawn(plot)[0][0]) == 7


def test_the_result_completes_what_the_reports_have_told():
    curves = course(4, 1)
    stages = np.array(["search"] * 4 + ["refinement"] * 4)
    loss = np.array([*range(4), *[np.nan] * 4], np.float32)
    parts = {name: np.full(8, np.nan, np.float32) for name in OBJECTIVE} | {"entropy": -loss}
    curves.complete({"stage": stages, "loss": loss} | parts, noise=0.7)
    assert curves.stages == stages.tolist()
    assert np.array_equal(curves.terms["loss"], loss, equal_nan=True)
    assert np.array_equal(curves.terms["entropy"], loss, equal_nan=True)
    assert curves.residual[2] == 1 + 1 / 3
    assert curves.residual[-1] == 0.7
    assert len(curves.residual) == 8
