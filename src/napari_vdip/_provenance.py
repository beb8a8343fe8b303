"""What a run from the panel was: plain data in its results' metadata, and its code and command."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_vdip._layers import full, made_of
from napari_vdip.course import FINISHED
from napari_vdip.image_file import read
from napari_vdip.items import reason
from napari_vdip.recipe import command, settings_code
from napari_vdip.settings import Settings

if TYPE_CHECKING:
    from napari.layers import Image, Layer

    from napari_vdip._layers import Picture
    from napari_vdip.image_file import ImageFile
    from napari_vdip.tiling import Bounds

RECIPE = "recipe"
"""Key of it in the metadata of a result."""
TO_SAVE = "save it with File > Save Selected Layers, and open that file"


@dataclass(frozen=True, slots=True)
class Origin:
    """A layer's array, and how code gets at it.

    Attributes
    ----------
    layer : str
        Name of the layer.
    axes : str
        One letter for each axis, without alpha.
    shape : tuple of int
        Size of each.
    dtype : str
        Type of the numbers.
    part : str
        What of the layer's attribute ``data`` it is, as code.
    path : str or None
        The file that the layer is from, if any.
    """

    layer: str
    axes: str
    shape: tuple[int, ...]
    dtype: str
    part: str
    path: str | None

    @classmethod
    def of(cls, layer: Image, axes: str) -> Origin:
        """Describe the array of a layer, at full resolution."""
        data, part = full(layer), "[0]" * layer.multiscale + "[..., :3]" * layer.rgb
        shape = (*data.shape[:-1], 3) if layer.rgb else data.shape
        path = layer.source.path and str(Path(layer.source.path).resolve())
        return cls(layer.name, axes, tuple(shape), np.dtype(data.dtype).name, part, path)

    @classmethod
    def in_file(cls, path: Path, axes: str, told: str | None = None, scene: int = 0) -> Origin:
        """Describe the array in a file, as the layer that it becomes, and as unknown if it cannot be read.

        The axes are those that it has if it cannot, and `told` those that its reader has to be.
        """
        image = _opened(path, told, scene)
        if image is None:
            return cls(path.stem, axes, (), "", "", None)
        about = image.axes, image.array.shape, np.dtype(image.array.dtype).name, ""
        return cls(path.stem, *about, str(path) if scene == 0 else None)

    def file(self) -> tuple[ImageFile, str | None] | None:
        """Open the file, if its first image is of this array's size and type, not a part of it.

        Returns
        -------
        tuple or None
            The image, and the axes that its reader had to be told.
        """
        if self.path is None or not Path(self.path).exists():
            return None
        sizes = {
            letter: size
            for letter, size in zip(self.axes, self.shape, strict=True)
            if size > 1 or letter in "YX"
        }
        for told in (None, self.axes):
            image = _opened(Path(self.path), told)
            if image is None:
                continue
            found = dict(zip(image.axes, image.array.shape, strict=True))
            if (found, np.dtype(image.array.dtype).name) == (sizes, self.dtype):
                return image, told
        return None

    def in_viewer(self, plane: dict[str, int], *, joint: bool = False) -> str:
        """Write how to get it from its layer, or a plane of it, or what joint channels share."""
        return f"viewer.layers[{self.layer!r}].data{self.part}{_index(self.axes, plane, joint)}"


@dataclass(frozen=True, slots=True)
class Recipe:
    """A run from the panel.

    Attributes
    ----------
    image : Origin
        What was deconvolved.
    settings : Settings
        How, as in the form.
    device : str
        Where, as in the form.
    plane : dict
        Index of the only plane along each stacked axis; empty for all planes.
    point : tuple of float or None
        The point in the viewer's world through which it lies.
    region : tuple or None
        First and end of the rows and of the columns, if not all.
    psf : Origin or None
        Point spread function, if it was given.
    """

    image: Origin
    settings: Settings
    device: str
    plane: dict[str, int]
    point: tuple[float, ...] | None
    region: Bounds | None
    psf: Origin | None

    @classmethod
    def of(
        cls, layer: Image, picture: Picture, settings: Settings, device: str, psf: Image | None = None
    ) -> Recipe:
        """Describe the run of a picture of a layer."""
        plane = {}
        if picture.point is not None:
            plane = {
                axis: at for axis, at in zip(picture.axes, picture.at, strict=False) if axis not in "CYX"
            }
        given = psf and Origin.of(psf, "YX" if full(psf).ndim == 2 else picture.axes)
        image = Origin.of(layer, picture.axes)
        return cls(image, settings, device, plane, picture.point, picture.region, given)

    @classmethod
    def from_layer(cls, layer: Layer) -> Recipe:
        """Read what is stored with a result; a `ValueError` says if it is none."""
        stored = made_of(layer).get(RECIPE)
        if stored is None:
            raise ValueError(f"{layer.name} is not a result of this panel.")
        try:
            nested = {
                "image": Origin(**stored["image"]),
                "settings": Settings(**stored["settings"]),
                "psf": stored["psf"] and Origin(**stored["psf"]),
            }
            return cls(**{**stored, **nested})
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise ValueError(
                f"The metadata of {layer.name} do not say how it was made, or another version wrote them: "
                f"{reason(error)}"
            ) from None

    @classmethod
    def from_record(cls, record: dict[str, Any], settings: Settings) -> Recipe:
        """Describe the run of files whose record was stored with its results; see `inspection.load`."""
        source, psf, region = record["source"], record["psf_path"], record.get("region")
        image = Origin.in_file(Path(record["path"]), record["axes"], source["axes"], int(source["scene"]))
        given = Origin.in_file(Path(psf), "YX") if psf else None
        bounds = region and tuple((int(first), int(end)) for first, end in region)
        return cls(image, settings, "auto", {}, None, bounds, given)

    @staticmethod
    def caveat(layer: Layer) -> str:
        """Say that a layer is not what its run makes, run again to its end; nothing if it is."""
        made = made_of(layer)
        if made.get("how"):
            return (
                f"{layer.name!r} was made from a result, as {made['how']!r}: the run makes that result, "
                "not this layer."
            )
        if "iterate" in made:
            return f"{layer.name!r} is an earlier estimate: its run makes the last one."
        if made.get("stopped", FINISHED) != FINISHED:
            return f"The run of {layer.name!r} ended early: run again, it goes on to its end."
        return ""

    def plain(self) -> dict[str, Any]:
        """Return plain data, for metadata."""
        return asdict(self)

    def python(self) -> str:
        """Write Python code that does it; of what is not from a file, for napari's console."""
        psf, plane = self.psf, self.plane
        # A point spread function of more axes has them in the order of the image's layer.
        image = self.image.file() if psf is None or psf.axes == "YX" else None
        given = psf.file() if psf is not None and psf.axes == "YX" else None
        axes = self.image.axes if image is None else image[0].axes
        arguments = [self.image.in_viewer(plane)]
        if image is not None:
            arguments = [_read(self.image, image[1]) + _index(axes, plane)]
        arguments += [settings_code(self.settings), f"axes={axes!r}"]
        if psf is not None:
            joint = self.settings.channels == "joint"
            code = psf.in_viewer(plane, joint=joint) if given is None else _read(psf, given[1])
            arguments.append(f"psf={code}")
        if self.region is not None:
            arguments.append(f"region={self.region}")
        if self.device != "auto":
            arguments.append(f"device={self.device!r}")
        lines = [
            f"# {origin.layer!r} is no file's whole image: run this in the console of the napari it is in."
            for origin, file in ((self.image, image), (psf, given))
            if origin is not None and file is None
        ]
        from_files = image is not None or given is not None
        lines += ["from pathlib import Path", ""] * from_files
        lines += ["from napari_vdip import Settings, deconvolve"]
        lines += ["from napari_vdip.image_file import read"] * from_files
        lines += ["", "result = deconvolve(", *(f"    {argument}," for argument in arguments), ")", ""]
        return "\n".join(lines)

    def command(self, output: str = "results") -> str:
        """Write a command that does it; a `ValueError` says why there is none, and what to do."""
        if self.plane:
            raise ValueError("A command does all planes: choose all planes, or copy as Python.")
        image = self.image.file()
        if image is None or self.image.path is None:
            raise ValueError(f"{self.image.layer} is no file's whole image: {TO_SAVE}, or copy as Python.")
        if self.psf is not None and self.psf.file() is None:
            raise ValueError(f"{self.psf.layer} is no file's whole image: {TO_SAVE}, or copy as Python.")
        return command(
            [self.image.path],
            output,
            self.settings,
            axes=image[1],
            psf=None if self.psf is None else self.psf.path,
            region=self.region,
            device=self.device,
            joint_colours=not image[0].colour,
        )


def _index(axes: str, plane: dict[str, int], joint: bool = False) -> str:
    """Write the index of a plane, whose axes stay but for that of channels that share something."""
    parts = [f"{plane[axis]}:{plane[axis] + 1}" if axis in plane else ":" for axis in axes]
    if joint and "C" in axes:
        parts[axes.index("C")] = "0"
    while parts and parts[-1] == ":":
        parts.pop()
    return f"[{', '.join(parts)}]" if parts else ""


def _read(origin: Origin, told: str | None) -> str:
    """Write how to read a file."""
    axes = f", {told!r}" if told else ""
    return f"read(Path({origin.path!r}){axes}).array"


def _opened(path: Path, told: str | None, scene: int = 0) -> ImageFile | None:
    """Open a file; whatever a reader raises, it does not give the array that is looked for."""
    try:
        return read(path, told, scene)
    except Exception:
        return None
