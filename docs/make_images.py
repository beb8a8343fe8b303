"""Make the images of README and tutorial from real runs: ``python docs/make_images.py``.

Needs a display (on a machine without one: ``xvfb-run -s "-screen 0 1600x1000x24"``).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import napari
from qtpy.QtCore import QEventLoop
from qtpy.QtWidgets import QApplication
from skimage.io import imread

from napari_vdip import Settings, deconvolve
from napari_vdip._widget import DeconvolutionWidget
from napari_vdip.figures import side_by_side
from napari_vdip.scenes import cells

IMAGES = Path(__file__).parent / "images"
PIXEL_SIZE = 0.1
TABS = "course", "check"
"""Tabs of the panel after the first, as their pictures are called."""


def settle(seconds: float) -> None:
    """Let the window draw itself."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        QApplication.processEvents()


def demo() -> None:
    """Draw the demo's overview."""
    scene = cells()
    result = deconvolve(scene.blurred, psf_shape=scene.psf.shape[0] + 4)
    side_by_side(scene, result, PIXEL_SIZE).savefig(IMAGES / "demo.png", dpi=80)


def window(image: Path | None, psf_shape: int, output: Path) -> None:
    """Photograph napari after a run of the widget, on the sample data or a file, with each of its tabs.

    The first is the output; the others lie beside it, as does the comparison with other methods.
    """
    viewer = napari.Viewer()
    viewer.window.resize(1500, 950)
    if image is None:
        viewer.open_sample("napari-vdip", "cells")
    else:
        viewer.add_image(imread(image), name=image.stem)
    widget = DeconvolutionWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Blind deconvolution")
    widget.form.value = Settings(psf_shape=psf_shape)
    settle(1)
    widget.run.native.click()
    events = QEventLoop()
    widget._session.finished.connect(events.quit)
    events.exec()
    for layer in viewer.layers:
        layer.visible = layer.name.endswith(("PSF", "latent"))
    viewer.reset_view()

    def photograph(path: Path) -> None:
        settle(1)
        while widget.check.busy:
            settle(1)
        settle(1)  # what it has added is drawn after that
        viewer.screenshot(path, canvas_only=False, flash=False)

    photograph(output)
    for number, name in enumerate(TABS, start=1):
        widget.tabs.setCurrentIndex(number)
        photograph(output.with_stem(f"{output.stem}_{name}"))
    widget.check.compare.click()
    photograph(output.with_stem(f"{output.stem}_compare"))
    viewer.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--image", type=Path, help="photograph a run on this file instead")
    parser.add_argument("--psf-shape", type=int, default=25)
    parser.add_argument("--output", type=Path, default=IMAGES / "window.png")
    arguments = parser.parse_args()
    window(arguments.image, arguments.psf_shape, arguments.output)
    if arguments.image is None:
        demo()
