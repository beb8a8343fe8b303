"""Which images there are to do, and what each holds. Computes nothing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from napari_vdip import stack
from napari_vdip.image_file import AXES, files, read, scenes
from napari_vdip.names import PARTIAL, clashes, find, named, place, plain
from napari_vdip.psf_file import read_psfs
from napari_vdip.source import Source, given_psfs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_vdip.image_file import ImageFile
    from napari_vdip.settings import Settings
    from napari_vdip.tiling import Bounds

Format = Literal["ome-zarr", "ome-tiff"]


@dataclass(frozen=True, slots=True)
class Item:
    """One image and what is to be done with it; plain data.

    Attributes
    ----------
    name : str
        Its name in the output, with ``/`` where the output has folders.
    path : Path
        File, or folder of a Zarr store.
    scene : int
        Which image of the file.
    axes : str or None
        Axes in place of those of the file, see `image_file.read`.
    settings : Settings
        How to deconvolve it.
    folder : Path
        Where the results go.
    format : str
        ``"ome-zarr"`` or ``"ome-tiff"``.
    planes : Plan or None
        Its planes; ``None`` if the file could not be read.
    problem : str
        Why it cannot be done; empty if it can.
    sha256 : str
        What the content must be; empty if anything will do.
    psf : Path or None
        File with the point spread function, if it is known, see `psf_file.read_psfs`.
    psf_sha256 : str
        What its content must be.
    region : tuple or None
        First and end of the rows and of the columns to deconvolve; ``None`` for all.
    """

    name: str
    path: Path
    scene: int
    axes: str | None
    settings: Settings
    folder: Path
    format: Format = "ome-zarr"
    planes: stack.Plan | None = None
    problem: str = ""
    sha256: str = ""
    psf: Path | None = None
    psf_sha256: str = ""
    region: Bounds | None = None

    @property
    def partial(self) -> Path:
        """Folder in which the results are being made."""
        return self.folder.with_name(self.folder.name + PARTIAL)

    def open(self) -> ImageFile:
        """Open the image without loading it."""
        return read(self.path, self.axes, self.scene)


def plan(
    inputs: Sequence[str | Path],
    output: str | Path,
    settings: Settings,
    *,
    axes: str | None = None,
    format: Format | None = None,
    psf: str | Path | None = None,
    region: Any = None,
    joint_colours: bool = True,
) -> list[Item]:
    """Find the images and say what is to be done with each.

    Parameters
    ----------
    inputs : sequence of str or Path
        Files, folders and patterns for either such as ``"day?/*.tif"``. Folders are searched to the bottom,
        except hidden ones, the output and earlier results.
    output : str or Path
        Folder for the results: one folder for each image, which need not exist.
    settings : Settings
        For all of them.
    axes : str, optional
        See `image_file.read`.
    format : str, optional
        ``"ome-zarr"`` or ``"ome-tiff"``; if not given, OME-TIFF for single planes and OME-Zarr for more.
    psf : str or Path, optional
        File with the point spread function, if it is known: of axes Y and X for all planes, or with
        further axes of the images. The settings become ``psf_source="given"`` and its own ``psf_shape``.
    region : tuple, optional
        Rows and columns of every image to deconvolve, see `tiling.as_region`; the results are of these, and
        say where they lie.
    joint_colours : bool
        Whether the colours of a photograph share a point spread function, whatever the settings say of
        channels.

    Returns
    -------
    list of Item
        In the order of the inputs. A file that cannot be read is an item with a problem.

    Raises
    ------
    ValueError
        If an input is not there, nothing was found, or an argument is not what it can be.
    """
    if format is not None and format not in get_args(Format):
        raise ValueError(f"format: expected one of {get_args(Format)}, got {format!r}")
    if axes is not None and (set(axes.upper()) - set(AXES) or not {"Y", "X"} <= set(axes.upper())):
        raise ValueError(f"axes: expected letters of {AXES} with Y and X, got {axes!r}")
    target = Path(output).expanduser()
    if target.exists() and not target.is_dir():
        raise ValueError(f"output: expected a folder, got the file {target}")
    psf = psf if psf is None else Path(psf).expanduser()
    settings = _for_psf(settings, psf)
    found = _datasets(find(inputs, target))
    items = []
    for (path, _), name in zip(found, named(found), strict=True):
        images, problem = _attempt(partial(scenes, path))
        for number, scene in enumerate(images or ("",)):
            several = images is not None and len(images) > 1
            label = plain(f"{number + 1}-{scene}".strip("-")) if several else ""
            full = f"{name}-{label}" if several else name
            item = Item(full, path, number, axes, settings, place(target, full), problem=problem)
            item = replace(item, psf=psf, region=region)
            items.append(item if problem else examine(item, format, joint_colours))
    if same := clashes([item.name for item in items]):
        raise ValueError(f"input: expected images with different names, got several named {min(same)!r}")
    return items


def examine(item: Item, format: Format | None, joint_colours: bool) -> Item:
    """Complete an item by what its file says: its planes, and what follows from them."""

    def look() -> Item:
        image = item.open()
        settings = item.settings
        if joint_colours and image.colour:
            settings = settings.replace(channels="joint")
        planes = stack.plan(image.array.shape, image.axes, settings.channels)
        if item.psf is not None:
            psfs = given_psfs(read_psfs(item.psf, image, planes), planes)
            settings = settings.replace(psf_shape=planes.take_psf(psfs, planes.first).shape)
        region = Source(None, planes, settings, item.region).bounds  # or it says why it cannot be
        form = format or ("ome-tiff" if len(planes.indices) == 1 else "ome-zarr")
        return replace(item, settings=settings, planes=planes, format=form, region=region)

    done, problem = _attempt(look)
    return done or replace(item, problem=problem)


def content_hash(path: Path) -> str:
    """SHA-256 of a file's bytes; of a folder, or of an image in several files, of all names and bytes."""
    if path.is_dir():
        parts = {part.relative_to(path).as_posix(): part for part in path.rglob("*") if part.is_file()}
    else:
        parts = {part.name: part for part in _files(path)}
        if len(parts) == 1:
            return _digest(path)
    lines = [f"{name}\n{_digest(part)}\n" for name, part in sorted(parts.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _files(path: Path) -> frozenset[Path]:
    """Return the files that hold the images of one; itself if it cannot be read, as is said elsewhere."""
    held: frozenset[Path] | None = _attempt(partial(files, path))[0]
    return held or frozenset({path.resolve()})


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _datasets(found: Sequence[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    """Leave out the files of an image in several that another of its files stands for."""
    held = {path: _files(path) for path, _ in found}
    kept, covered = set(), set[Path]()
    for path in sorted(held, key=lambda path: -len(held[path])):
        if path.resolve() not in covered:
            kept.add(path)
            covered |= held[path]
    return [pair for pair in found if pair[0] in kept]


def reason(error: BaseException) -> str:
    """Say in one line what went wrong."""
    text = " ".join(str(error).split())[:500]
    if isinstance(error, ValueError) and text:  # ours, or says enough
        return text
    return f"{type(error).__name__}: {text}".rstrip(": ")


def _attempt(look: Callable[[], Any]) -> tuple[Any, str]:
    """Return what a look at a file gives, or why it gives nothing: libraries raise what they like."""
    try:
        return look(), ""
    except Exception as error:  # one bad file must not end the others
        return None, reason(error)


def _for_psf(settings: Settings, psf: Path | None) -> Settings:
    """Return the settings for a known point spread function, if there is one that can be read."""
    if psf is None:
        if settings.psf_source == "given":
            raise ValueError("psf: expected a file with psf_source = 'given', got None")
        return settings
    if settings.psf_source == "channel":
        raise ValueError("psf: expected none with psf_source = 'channel', got one")
    _, problem = _attempt(partial(read, psf))
    if problem:
        raise ValueError(f"psf: {psf}: {problem}")
    return settings.replace(psf_source="given")
