"""What a batch does, and where its results go: the form's part of the tab."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari.layers import Image
from qtpy.QtCore import Signal  # type: ignore[attr-defined, unused-ignore]
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QWidget,
)

from napari_vdip._batch_worker import Batch
from napari_vdip._input_form import WHOLE_IMAGE
from napari_vdip._layouts import button
from napari_vdip._provenance import TO_SAVE
from napari_vdip._settings_form import AUTOMATIC as GROWS
from napari_vdip.image_file import suffixes

if TYPE_CHECKING:
    from magicgui.widgets import ComboBox
    from napari import Viewer

    from napari_vdip._input_form import InputForm
    from napari_vdip._settings_form import SettingsForm
    from napari_vdip.items import Format

BETWEEN = ";"
"""Between inputs in their line."""
AUTOMATIC = "OME-Zarr for stacks"
FORMATS: dict[str, Format | None] = {AUTOMATIC: None, "OME-Zarr": "ome-zarr", "OME-TIFF": "ome-tiff"}


class BatchForm(QWidget):
    """Which files, and where to.

    Signals
    -------
    changed
        What the panel says of the window, the region or the axes is something else.

    Parameters
    ----------
    viewer : Viewer
        Where the layers are.
    inputs : InputForm
        Knows the image that the settings are for, and the point spread function.
    form : SettingsForm
        The settings.
    device : ComboBox
        Where to compute.
    """

    changed = Signal()

    def __init__(self, viewer: Viewer, inputs: InputForm, form: SettingsForm, device: ComboBox):
        super().__init__()
        self._viewer, self._inputs, self._form, self._device = viewer, inputs, form, device
        self.input = _line(
            "the selected image layers",
            f"Files, folders and patterns such as day?/*.tif, with {BETWEEN} between them. Empty: those "
            "of the image layers that are selected in the layer list.",
        )
        self.files = button("Files", "Choose image files.")
        self.folder = button("Folder", "Choose a folder: all images in it, to the bottom.")
        self.output = _line("", "Folder for the results: one folder for each image, named after its file.")
        self.choose = button("Choose", "Choose the folder for the results.")
        self.axes = _line(
            "as the files say",
            "One letter for each axis of the images, such as TCZYX, where the files say it wrong or not.",
        )
        self.format = QComboBox()
        self.format.addItems(list(FORMATS))
        self.format.setToolTip(f"Format of the results. {AUTOMATIC}, and OME-TIFF for single planes.")
        self.overwrite = QCheckBox("replace other results")
        self.overwrite.setToolTip(
            "Replace results in the output that were made otherwise. Without this, such images fail."
        )
        rows = QFormLayout(self)
        rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for text, widgets in {
            "input": (self.input,),
            "": (self.files, self.folder),
            "output": (self.output, self.choose),
            "axes": (self.axes,),
            "format": (self.format,),
            " ": (self.overwrite,),
        }.items():
            row = QHBoxLayout()
            for widget in widgets:
                row.addWidget(widget)
            label = QLabel(text.strip())
            label.setToolTip(widgets[0].toolTip())
            label.setBuddy(widgets[0])
            if text.strip():
                widgets[0].setAccessibleName(text)
            rows.addRow(label, row)
        for choice in (form.window, form.basic["psf_source"], inputs.image, inputs.region, inputs.axes):
            choice.changed.connect(lambda: self.changed.emit())
        self.axes.textChanged.connect(lambda: self.changed.emit())
        self.files.clicked.connect(self._choose_files)
        self.folder.clicked.connect(self._choose_folder)
        self.choose.clicked.connect(self._choose_output)

    @property
    def grows(self) -> bool:
        """Whether the window of a run would grow."""
        given = self._form.basic["psf_source"].value == "given"
        return bool(self._form.window.value == GROWS and not given)

    @property
    def has_region(self) -> bool:
        """Whether the panel has a region that is not the whole image."""
        return bool(self._inputs.region.value != WHOLE_IMAGE)

    @property
    def has_axes(self) -> bool:
        """Whether the panel's image has corrected axes, and other ones are given here, or none."""
        corrected = self._inputs.corrected_axes
        return bool(corrected and corrected.upper() != self.axes.text().strip().upper())

    def batch(self) -> Batch:
        """Take what is chosen; a `ValueError` says what is wrong with it, and what to do."""
        if not self.output.text().strip():
            raise ValueError("output: expected a folder for the results, got none. Choose one.")
        settings, image = self._form.value, self._inputs.image.value
        psf = None
        if settings.psf_source == "given":
            layer = self._inputs.psf.value
            if layer is None:
                raise ValueError("PSF layer: expected one with a point spread function, got none")
            if layer.source.path is None:
                raise ValueError(f"The point spread function {layer.name} is not from a file: {TO_SAVE}.")
            psf = _absolute(layer.source.path)
        return Batch(
            inputs=self._paths(),
            output=_absolute(self.output.text().strip()),
            settings=settings,
            axes=self.axes.text().strip().upper() or None,
            format=FORMATS[self.format.currentText()],
            psf=psf,
            # The form guesses that the colours of a photograph are joint: what is said of another image is
            # not said of photographs.
            joint_colours=settings.channels == "separate" and not (image is not None and image.rgb),
            device=self._device.value,
            overwrite=self.overwrite.isChecked(),
        )

    def _paths(self) -> tuple[str, ...]:
        """Return the inputs: those in the line, or else the files of the selected layers."""
        named = [part.strip() for part in self.input.text().split(BETWEEN) if part.strip()]
        if named:
            return tuple(_absolute(part) for part in named)
        layers = [layer for layer in self._viewer.layers if layer in self._viewer.layers.selection]
        images = [layer for layer in layers if isinstance(layer, Image)]
        if not images:
            raise ValueError("input: expected files, or image layers selected in the layer list, got none")
        without = [layer.name for layer in images if layer.source.path is None]
        if without:
            raise ValueError(
                f"{', '.join(without)}: not from a file. For a batch, {TO_SAVE}; or select other layers."
            )
        return tuple(dict.fromkeys(_absolute(layer.source.path) for layer in images))

    def _choose_files(self) -> None:
        pattern = " ".join(f"*{ending}" for ending in suffixes())
        files, _ = QFileDialog.getOpenFileNames(self, "Images", "", f"Images ({pattern});;All files (*)")
        if files:
            self.input.setText(f" {BETWEEN} ".join(files))

    def _choose_folder(self) -> None:
        if folder := QFileDialog.getExistingDirectory(self, "Folder of images"):
            self.input.setText(folder)

    def _choose_output(self) -> None:
        if folder := QFileDialog.getExistingDirectory(self, "Folder for the results"):
            self.output.setText(folder)


def _absolute(path: str | Path) -> str:
    """Return a path that means the same in a terminal, with the patterns in it as they are."""
    return str(Path(path).expanduser().absolute())


def _line(placeholder: str, tooltip: str) -> QLineEdit:
    line = QLineEdit()
    line.setPlaceholderText(placeholder)
    line.setToolTip(tooltip)
    return line
