"""Speed of a run in napari's worker thread, with live layers, against the same run in a script.

    python benchmarks/worker.py [--size 256] [--repeats 3]

Needs a display (on a machine without one: ``xvfb-run``). The runs take turns, each in a process of its
own: where two threads of one process have computed, OpenMP serves both more slowly than one.
``--hidden`` leaves out the drawing, which software OpenGL does on the same cores. ``--course`` draws the
plot of the course, too, which else is behind another tab.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics

from napari_vdip import Settings
from napari_vdip.scenes import cells

SETTINGS = Settings(psf_shape=25, steps=150, refinements=0)


def rate_in_script(size: int) -> float:
    """Return the steps per second of a run as a script makes it."""
    from napari_vdip import deconvolve

    return SETTINGS.steps / deconvolve(cells(size=size).blurred, SETTINGS).seconds


def rate_in_napari(size: int, show: bool, course: bool) -> float:
    """Return the steps per second of a run started by the button, in the worker's own clock."""
    import napari
    from qtpy.QtCore import QEventLoop

    from napari_vdip._widget import DeconvolutionWidget

    viewer = napari.Viewer(show=show)
    widget = DeconvolutionWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Blind deconvolution")
    viewer.add_image(cells(size=size).blurred, name="cells")
    widget.form.value = SETTINGS
    if course:
        widget.tabs.setCurrentWidget(widget.course)
    widget.run.native.click()
    events = QEventLoop()
    widget._session.finished.connect(events.quit)
    events.exec()
    seconds = viewer.layers["cells latent"].metadata["napari-vdip"]["seconds"]
    viewer.close()
    return SETTINGS.steps / float(seconds)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--hidden", action="store_true", help="do not draw the window")
    parser.add_argument("--course", action="store_true", help="show the plot of the course")
    arguments = parser.parse_args()
    ratios = []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as process:
        for _ in range(arguments.repeats):
            script = process.apply(rate_in_script, (arguments.size,))
            window = not arguments.hidden, arguments.course
            worker = process.apply(rate_in_napari, (arguments.size, *window))
            ratios.append(worker / script)
            print(
                f"steps/s in a script {script:.2f}, in napari {worker:.2f}, ratio {ratios[-1]:.3f}",
                flush=True,
            )
    print(f"median ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
