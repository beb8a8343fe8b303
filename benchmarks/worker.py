"""Speed of a run in napari's worker thread, with live layers, against the same run in a script.

    python benchmarks/worker.py [--size 256] [--repeats 5] [--course | --hidden]

Needs a display (on a machine without one: ``xvfb-run``). The runs take turns, each in a process of its
own: where two threads of one process have computed, OpenMP serves both more slowly than one.
``--hidden`` leaves out the drawing, which software OpenGL does on the same cores. ``--course`` draws the
plot of the course, too, which else is behind another tab.
"""

from __future__ import annotations

import multiprocessing
import statistics
from typing import TYPE_CHECKING

from common import Results, changes_of, environment, parser_for, results_path

from napari_vdip import Settings
from napari_vdip.scenes import cells

if TYPE_CHECKING:
    from collections.abc import Sequence

BASE = {"psf_shape": 25}
SHOWN, COURSE, HIDDEN = "image", "image and course", "nothing"
"""What the window draws while the run goes on."""


def main(argv: Sequence[str] | None = None) -> Results:
    """Run from the command line."""
    parser = parser_for(__doc__)
    parser.add_argument("--size", type=int, default=256, help="side of the image in pixels")
    parser.add_argument("--repeats", type=int, default=5)
    drawn = parser.add_mutually_exclusive_group()
    drawn.add_argument("--hidden", action="store_const", const=HIDDEN, dest="drawn")
    drawn.add_argument("--course", action="store_const", const=COURSE, dest="drawn")
    arguments = parser.parse_args(argv)
    window = arguments.drawn or SHOWN
    size, repeats = (48, 1) if arguments.quick else (arguments.size, arguments.repeats)
    record = environment(arguments.device, arguments.seed)
    results = Results(results_path(arguments, "worker"), record, resume=arguments.resume)
    changes = BASE | changes_of(arguments)
    settings = Settings.preset(arguments.preset, **changes)
    key = {"part": "worker", "image_side": size, "psf_side": settings.psf_shape[0], "drawn": window}
    key |= {"preset": arguments.preset, "device": record["device"]}
    if results.has(key, changes):
        return results
    script, napari = [], []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as process:
        for _ in range(repeats):
            script.append(process.apply(rate_in_script, (size, settings, arguments.device)))
            napari.append(process.apply(rate_in_napari, (size, settings, arguments.device, window)))
            ratio = napari[-1] / script[-1]
            print(
                f"steps/s in a script {script[-1]:.2f}, in napari {napari[-1]:.2f}, ratio {ratio:.3f}",
                flush=True,
            )
    ratios = [one / other for one, other in zip(napari, script, strict=True)]
    results.add(
        key,
        changes,
        script=statistics.median(script),
        napari=statistics.median(napari),
        ratio=statistics.median(ratios),
        every_ratio=ratios,
    )
    return results


def rate_in_script(size: int, settings: Settings, device: str | None) -> float:
    """Return the steps per second of a run as a script makes it."""
    from napari_vdip import deconvolve

    return steps_of(settings) / deconvolve(cells(size=size).blurred, settings, device=device).seconds


def steps_of(settings: Settings) -> int:
    """Return how many steps a run takes, of all stages."""
    return settings.prefit_steps + settings.network_steps + settings.coarse_rounds + settings.rounds


def rate_in_napari(size: int, settings: Settings, device: str | None, drawn: str) -> float:
    """Return the steps per second of a run started by the button, in the worker's own clock."""
    import napari
    from qtpy.QtCore import QEventLoop

    from napari_vdip._widget import DeconvolutionWidget

    viewer = napari.Viewer(show=drawn != HIDDEN)
    widget = DeconvolutionWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Blind deconvolution")
    viewer.add_image(cells(size=size).blurred, name="cells")
    widget.form.value = settings
    widget.device.value = device or "auto"
    if drawn == COURSE:
        widget.tabs.setCurrentWidget(widget.course)
    widget.run.native.click()
    events = QEventLoop()
    widget._session.finished.connect(events.quit)
    events.exec()
    seconds = viewer.layers["cells latent"].metadata["napari-vdip"]["seconds"]
    viewer.close()
    return steps_of(settings) / float(seconds)


if __name__ == "__main__":
    main()
