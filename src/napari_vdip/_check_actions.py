"""What can be done with a result that is checked: one thing at a time, in the background."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined, unused-ignore]
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_vdip._check_jobs import Job, comparing, doubts, reseeding, residuals
from napari_vdip._check_layers import DOUBT, RESIDUAL, STD, place, show_alone
from napari_vdip._psf_layers import exporting, opening, other_pixels, put_beside
from napari_vdip.classical import HOW

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from napari import Viewer
    from napari.layers import Layer

    from napari_vdip._checked import Checked, Index
    from napari_vdip._input_form import InputForm
    from napari_vdip._settings_form import SettingsForm


class Actions(QObject):
    """Computes in worker threads, and adds layers to a viewer.

    Signals
    -------
    changed
        Something has begun, goes on or has ended.
    agreed : Checked, tuple of int, float
        How well two runs agree on a plane.

    Parameters
    ----------
    viewer : Viewer
        Where the layers are.
    form : SettingsForm
        Takes over what is chosen for the next run.
    inputs : InputForm
        Takes over a point spread function from a file.
    parent : QWidget
        Stops all when it is destroyed.

    Attributes
    ----------
    doing : str
        What is being done; empty if nothing is.
    """

    changed = Signal()
    agreed = Signal(object, object, float)

    def __init__(self, viewer: Viewer, form: SettingsForm, inputs: InputForm, parent: QWidget) -> None:
        super().__init__(parent)
        self._viewer, self._form, self._inputs, self._window = viewer, form, inputs, parent
        self._job: Job | None = None
        self.doing = ""

    def stop(self) -> None:
        """Stop soon."""
        if self._job is not None:
            self._job.stop()

    def show_residual(self, this: Checked) -> None:
        """Add a layer of the residual of all planes."""

        def add(made: Any) -> None:
            data, border = made
            at = {this.planes.axes.index(axis): edge for axis, edge in zip("YX", border, strict=True)}
            how = "re-blurred latent image less input, in standard deviations of the noise"
            place(self._viewer, this, RESIDUAL, data, at, how)

        self._do("Computing the residual", residuals(this), end=add)

    def show_doubt(self, this: Checked) -> None:
        """Add a layer that covers what is not known."""
        how = "std over the standard deviation of the latent plane"
        self._do(
            "Computing the overlay",
            doubts(this),
            end=lambda data: place(self._viewer, this, DOUBT, data, {}, how),
        )

    def show_std(self, this: Checked) -> None:
        """Show the layer of the std map, which a run leaves hidden."""
        show_alone(self._viewer, this, STD)

    def compare(self, this: Checked, index: Index, then: Callable[[], None]) -> None:
        """Add layers of other methods for a plane, and then do something with them."""
        colour = len(this.latent.data.shape) > this.latent.ndim
        where = dict(zip(this.planes.stacked, index, strict=True))
        at = {axis: i for axis, i in where.items() if not (colour and axis >= this.latent.ndim)}

        def add(made: Any) -> None:
            name, data = made
            place(self._viewer, this, name, data, at, HOW[name])

        self._do("Richardson-Lucy and Wiener", comparing(this, index), each=add, end=lambda _: then())

    def reseed(self, this: Checked, index: Index, device: str) -> None:
        """Estimate a point spread function again, and say how well both agree."""
        self._do(
            "A second run",
            reseeding(this, index, device),
            each=self._on_fraction,
            end=lambda value: self.agreed.emit(this, index, value),
        )

    def ask_export(self, this: Checked, index: Index, name: str) -> None:
        """Ask for a file, and write the point spread function of a plane to it."""
        suggested = f"{name} PSF.ome.tif".replace("/", "-")
        path, _ = QFileDialog.getSaveFileName(self._window, "Export PSF", suggested, "OME-TIFF (*.ome.tif)")
        if path:
            self.export_psf(this, index, Path(path))

    def ask_open(self) -> None:
        """Ask for a file, and open the point spread function in it."""
        path, _ = QFileDialog.getOpenFileName(
            self._window, "Open PSF", "", "Images (*.tif *.tiff *.png);;All (*)"
        )
        if path:
            self.open_psf(Path(path))

    def export_psf(self, this: Checked, index: Index, path: Path) -> None:
        """Write the point spread function of a plane to a file."""
        self._do(
            "Exporting",
            exporting(this, index, path),
            end=lambda written: show_info(f"Exported the point spread function to {written}."),
        )

    def open_psf(self, path: Path) -> None:
        """Add a layer of the point spread function in a file, and choose it for the next run."""
        self._do("Opening", opening(path), end=self._choose_psf)

    def use_window(self, window: tuple[int, int]) -> None:
        """Set the window of the next run."""
        self._form.basic["psf_shape"].value = window
        if self._form.basic["psf_source"].value == "given":
            self._form.basic["psf_source"].value = "plane"
        show_info(f"The next run takes a window of {window[0]} x {window[1]} pixels.")

    def _choose_psf(self, layer: Layer) -> None:
        image = self._inputs.image.value
        active = self._viewer.layers.selection.active
        if image is not None:
            put_beside(layer, image)
        layer = self._viewer.add_layer(layer)
        if active is not None:
            self._viewer.layers.selection.active = active
        if image is not None:
            self._inputs.image.value = image
        self._inputs.psf.value = layer
        self._form.basic["psf_source"].value = "given"
        problem = other_pixels(layer, image)
        if problem:
            show_warning(problem)

    def _do(
        self, words: str, steps: Generator[Any, None, Any], *, each: Any = None, end: Any = None
    ) -> None:
        """Begin something, unless something else is going on."""
        if self._job is not None:
            return
        self.doing = f"{words}..."
        job = self._job = Job(steps, self)
        if each is not None:
            job.yielded.connect(each)
        if end is not None:
            job.returned.connect(end)
        job.finished.connect(self._on_finished)
        self.changed.emit()

    def _on_fraction(self, fraction: float) -> None:
        self.doing = f"A second run... {fraction:.0%}"
        self.changed.emit()

    def _on_finished(self) -> None:
        self._job, self.doing = None, ""
        self.changed.emit()
