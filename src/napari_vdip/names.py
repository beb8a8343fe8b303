"""Which files are images, and what their results are called."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from napari_vdip.image_file import suffixes
from napari_vdip.readers import ZARR

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RECORD = "napari-vdip.json"
"""File in a folder of results that says how they were made."""
PARTIAL = ".partial"
"""Ending of the folder beside it in which they are being made."""


def place(output: str | Path, name: str) -> Path:
    """Return the folder of an item's results, which is inside the output.

    Raises
    ------
    ValueError
        If it is not, by way of a link in the output.
    """
    target = Path(output).expanduser()
    folder = target / name
    for path in (folder, folder.with_name(f"{folder.name}{PARTIAL}")):
        if not path.resolve().is_relative_to(target.resolve()) or path.resolve() == target.resolve():
            raise ValueError(
                f"output: expected a folder inside {target} for {name!r}, got {path.resolve()}"
            )
    return folder


def find(inputs: Sequence[str | Path], output: Path) -> list[tuple[Path, Path]]:
    """Return every image once, with the folder that its name counts from."""
    found: dict[Path, tuple[Path, Path]] = {}
    for given in inputs:
        path = Path(given).expanduser()
        if path.is_file() or _is_store(path):
            images = [(path, path.parent)]
        elif path.is_dir():
            images = [(image, path) for image in _walk(path, suffixes(), output.resolve())]
        else:
            matches = map(Path, sorted(glob.glob(str(path), recursive=True)))  # noqa: PTH207, also absolute
            images = [pair for match in matches for pair in _matched(match, suffixes(), output.resolve())]
        if not images:
            raise ValueError(f"input: expected images, found none in or named {str(given)!r}")
        for image, root in images:
            found.setdefault(image.resolve(), (image, root))
    if not found:
        raise ValueError("input: expected at least one file, folder or pattern")
    return list(found.values())


def _matched(path: Path, endings: tuple[str, ...], output: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the images that a match of a pattern stands for, each with the folder its name counts from."""
    if _is_image(path, endings):
        yield path, path.parent
    elif path.is_dir() and not _is_ours(path, output):
        yield from ((image, path) for image in _walk(path, endings, output))


def _walk(folder: Path, endings: tuple[str, ...], output: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise ValueError(f"input: expected folders that can be read, got {error}") from None
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if _is_image(entry, endings):
            yield entry
        elif entry.is_dir() and not entry.is_symlink() and not _is_ours(entry, output):
            yield from _walk(entry, endings, output)


def _is_ours(folder: Path, output: Path) -> bool:
    """Whether a folder is for results, or holds some."""
    return folder.resolve() == output or (folder / RECORD).exists() or folder.name.endswith(PARTIAL)


def _is_image(path: Path, endings: tuple[str, ...]) -> bool:
    return _is_store(path) or (path.is_file() and path.name.lower().endswith(endings))


def _is_store(path: Path) -> bool:
    return path.is_dir() and path.suffix.lower() in ZARR


def named(found: Sequence[tuple[Path, Path]]) -> list[str]:
    """Name each image by its file's stem, and where that is not enough by more of its path."""

    def stem(path: Path) -> str:
        return path.name.removesuffix(path.suffix).removesuffix(".ome").removesuffix(PARTIAL)

    def joined(parent: Path, name: str) -> str:
        return "/".join([*map(plain, parent.parts), plain(name)])

    names = [joined(path.parent.relative_to(root), stem(path)) for path, root in found]
    common = os.path.commonpath([path.absolute().parent for path, _ in found])
    parents = [path.absolute().parent.relative_to(common) for path, _ in found]
    for ending in (stem, lambda path: path.name.replace(".", "-")):
        same = clashes(names)
        names = [
            joined(parent, ending(path)) if name in same else name
            for name, parent, (path, _) in zip(names, parents, found, strict=True)
        ]
    return names


def clashes(names: Sequence[str]) -> set[str]:
    """Return the names that cannot all be folders of results: the same one twice, or one in another."""
    counts = Counter(name.casefold() for name in names)
    above = {str(parent) for name in counts for parent in PurePosixPath(name).parents}
    return {name for name in names if counts[name.casefold()] > 1 or name.casefold() in above}


def plain(name: str) -> str:
    """Make a name that is one part of a path on every system, and no special one such as ``..``."""
    return re.sub(r'[\x00-\x1f<>:"/\\|?*]+', "_", name).strip(". ") or "_"


def record_of(path: Path) -> Path | None:
    """Return the record beside an image of a result, or the record itself; ``None`` if it is neither."""
    record = path.parent / RECORD
    named = path.name == RECORD or ".ome." in path.name  # OME-Zarr is a folder
    return record if named and path.exists() and record.is_file() else None
