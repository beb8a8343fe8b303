"""The panel's row of small tools: what a run will take, copies of it, again, defaults, help."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from importlib.metadata import metadata
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import QUrl, Signal  # type: ignore[attr-defined, unused-ignore]
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QApplication, QHBoxLayout, QMenu, QWidget

from napari_vdip._estimator import Estimator, estimating_run
from napari_vdip._layouts import button
from napari_vdip._preferences import Start, first, forget, preferred, remember
from napari_vdip._provenance import Recipe
from napari_vdip.recipe import settings_code

if TYPE_CHECKING:
    from collections.abc import Callable

    from magicgui.widgets import ComboBox
    from napari import Viewer
    from napari.layers import Layer

    from napari_vdip._batch_form import BatchForm
    from napari_vdip._check_panels import PsfPanel
    from napari_vdip._input_form import InputForm
    from napari_vdip._layers import Picture
    from napari_vdip._settings_form import SettingsForm


class Tools(QWidget):
    """Buttons beside each other, and what they do with the form; a run's provenance.

    Signals
    -------
    told : str
        News for people.
    filled
        The form is as it was for a result.

    Parameters
    ----------
    viewer : Viewer
        Where the layers are.
    inputs, form, device
        The panel's form.
    files, psf
        What of a batch and of the optics is remembered with the form.
    """

    told = Signal(str)
    filled = Signal()

    def __init__(
        self,
        viewer: Viewer,
        inputs: InputForm,
        form: SettingsForm,
        device: ComboBox,
        files: BatchForm,
        psf: PsfPanel,
    ):
        super().__init__()
        self._viewer, self._inputs, self._form = viewer, inputs, form
        self._device, self._files, self._psf = device, files, psf
        self._estimator: Estimator | None = None
        self._blocked = False
        self.estimate = button(
            "Estimate",
            "How long Run will take, and how much memory. Each kind of work is tried for a moment.",
        )
        self.copies = button("Copy", "Copy what Run would do, as Python, as a command or as settings.")
        self.again = button(
            "Fill in",
            "Set this form as it was for the result that is selected in the layer list; Run then makes it "
            "again.",
        )
        self.reset = button("Reset", "Begin again with the defaults, which are in napari's Preferences.")
        self.help = button("Help", f"Open {documentation()}.")
        menu = QMenu(self.copies)
        for name, text in {
            "as Python": lambda: self.recipe().python(),
            "as command": lambda: self.recipe().command(),
            "settings": lambda: settings_code(self._form.value),
        }.items():
            menu.addAction(f"Copy {name}", partial(copy, text))
        self.copies.setMenu(menu)
        self.estimate.clicked.connect(self._estimate)
        self.again.clicked.connect(lambda: self.run_again(self._viewer.layers.selection.active))
        self.reset.clicked.connect(self._reset)
        for number in (psf.wavelength, psf.na):
            number.editingFinished.connect(self._remember_optics)
        self.help.clicked.connect(lambda: QDesktopServices.openUrl(QUrl(documentation())))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        for tool in (self.estimate, self.copies, self.again, self.reset, self.help):
            row.addWidget(tool)

    # Provenance

    def recipe(self, picture: Picture | None = None) -> Recipe:
        """Say what a run of a picture is, or what Run would do; a `ValueError` says why nothing."""
        image, settings = self._inputs.image.value, self._form.value
        if image is None:
            raise ValueError("image: expected an image layer, got none")
        if picture is None:
            picture, _ = self._inputs.taken(settings)
        psf = self._inputs.psf.value if settings.psf_source == "given" else None
        return Recipe.of(image, picture, settings, self._device.value, psf)

    def run_again(self, layer: Layer | None) -> None:
        """Set the form as it was for a result."""
        try:
            if layer is None:
                raise ValueError("Select a result in the layer list first.")
            recipe = Recipe.from_layer(layer)
            self._form.value = recipe.settings
            self._inputs.set(recipe)
        except ValueError as error:
            show_warning(str(error))
            return
        # Last, as another image has its channels guessed.
        self._form.value = recipe.settings
        self._set_device(recipe.device)
        self.filled.emit()
        self.told.emit(f"The form is as it was for {layer.name}: press Run. {Recipe.caveat(layer)}".strip())

    # What it will take

    def block(self, blocked: bool) -> None:
        """Let no estimate begin while something else is computed, and end the one there is."""
        self._blocked = blocked
        if blocked:
            self.quit()
        self.estimate.setEnabled(not blocked and self._estimator is None)

    def quit(self) -> None:
        """End what is being estimated soon, without an answer."""
        if self._estimator is not None:
            self._estimator.told.disconnect()
            self._estimator.quit()
            self._estimator = None

    def _estimate(self) -> None:
        try:
            settings = self._form.value
            picture, psf = self._inputs.taken(settings)
        except ValueError as error:
            self.told.emit(str(error))
            return
        self._estimator = Estimator(estimating_run, picture, settings, psf, self._device.value, parent=self)
        self._estimator.told.connect(self.told)
        self._estimator.finished.connect(self._on_estimated)
        self._estimator.start()
        self.block(self._blocked)

    def _on_estimated(self) -> None:
        if self.sender() is self._estimator:
            self._estimator = None
            self.block(self._blocked)

    # From session to session

    def begin(self) -> None:
        """Fill in the form as it was for the last run."""
        try:
            self._fill(first())
        except ValueError:  # there is a number that the form cannot hold
            self._fill(preferred())

    def remember(self) -> None:
        """Keep the form for the next session."""
        files = self._files
        psf = self._psf
        start = Start(
            settings=self._form.value,
            window=self._form.window.value,
            device=self._device.value,
            output=files.output.text(),
            format=files.format.currentText(),
            overwrite=files.overwrite.isChecked(),
            wavelength=psf.wavelength.value(),
            na=psf.na.value(),
        )
        remember(start)

    def _remember_optics(self) -> None:
        """Keep wavelength and aperture, which are looked at after a run, with what that had, if changed.

        What is kept goes before napari's Preferences, and a field that is only left says nothing.
        """
        kept = first()
        changed = replace(kept, wavelength=self._psf.wavelength.value(), na=self._psf.na.value())
        if changed != kept:
            remember(changed)

    def _reset(self) -> None:
        forget()
        self._fill(preferred())
        self.told.emit("The form has the defaults.")

    def _fill(self, start: Start) -> None:
        self._form.value = start.settings
        if start.window in self._form.window.choices:
            self._form.window.value = start.window
        self._set_device(start.device)
        self._files.output.setText(start.output)
        self._files.format.setCurrentIndex(max(self._files.format.findText(start.format), 0))
        self._files.overwrite.setChecked(start.overwrite)
        self._psf.wavelength.setValue(start.wavelength)
        self._psf.na.setValue(start.na)
        layer = self._inputs.image.value
        if layer is not None:
            self._form.basic["channels"].value = "joint" if layer.rgb else "separate"

    def _set_device(self, device: str) -> None:
        if device in self._device.choices:
            self._device.value = device


def copy(text: Callable[[], str], caveat: str = "") -> None:
    """Put a text into the clipboard, and say what to know of it, or why there is none."""
    try:
        copied = text()
    except ValueError as error:
        show_warning(str(error))
        return
    clipboard = QApplication.clipboard()
    assert clipboard is not None
    clipboard.setText(copied)
    if caveat:
        show_warning(f"Copied to the clipboard. {caveat}")
    else:
        show_info("Copied to the clipboard.")


def documentation() -> str:
    """Return where the documents are, which stands in the package's metadata."""
    for line in metadata("napari-vdip").get_all("Project-URL") or ():
        name, _, url = line.partition(", ")
        if name == "Documentation":
            return str(url)
    return "https://napari-hub.org/plugins/napari-vdip"
