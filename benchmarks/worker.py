"""Speed of a run in napari's worker thread, with live layers, against the same run in a script.

    python benchmarks/worker.py [--size 256] [--repeats 3]

Needs a display (on a machine without one: ``xvfb-run``). The runs take turns in one process, so that a
machine that changes its speed changes both; the median ratio of the pairs is what counts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING

import napari
from qtpy.QtWidgets import QApplication

from napari_vdip import Settings, deconvolve
from napari_vdip._widget import DeconvolutionWidget
from napari_vdip.scenes import cells

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def seconds_in_script(image: NDArray[np.float32], settings: Settings) -> float:
    """Time a run as a script makes it."""
    return deconvolve(image, settings).seconds


def seconds_in_napari(viewer: napari.Viewer, widget: DeconvolutionWidget) -> float:
    """Time a run started by the button, in the worker's own clock."""
    widget.run.native.click()
    while not widget.run.enabled:
        QApplication.processEvents()
        time.sleep(0.005)
    return float(viewer.layers["cells latent"].metadata["napari-vdip"]["seconds"])


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    scene = cells(size=arguments.size)
    settings = Settings(psf_shape=25, steps=150, refinements=0)
    viewer = napari.Viewer()
    widget = DeconvolutionWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Blind deconvolution")
    viewer.add_image(scene.blurred, name="cells")
    widget.form.value = settings
    ratios = []
    for _ in range(arguments.repeats):
        script = seconds_in_script(scene.blurred, settings)
        worker = seconds_in_napari(viewer, widget)
        ratios.append(script / worker)
        rates = " and ".join(f"{settings.steps / seconds:.2f}" for seconds in (script, worker))
        print(f"steps/s in a script and in napari: {rates}, ratio {ratios[-1]:.3f}")
    print(f"median ratio {statistics.median(ratios):.3f}")
    viewer.close()


if __name__ == "__main__":
    main()
