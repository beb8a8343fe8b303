"""Results in folders, read again and diagnosed: what ``napari-vdip inspect`` shows."""

from __future__ import annotations

import json as json_format
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_vdip.course import BLANK, FINISHED
from napari_vdip.image_file import read
from napari_vdip.items import content_hash, reason
from napari_vdip.names import RECORD, record_of
from napari_vdip.options import bad_option
from napari_vdip.settings import Settings
from napari_vdip.verdict import DARK, SATURATED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from napari_vdip.diagnostics import Diagnosis
    from napari_vdip.image_file import ImageFile
    from napari_vdip.result import Deconvolution

NANOMETERS = {"nanometer": 1.0, "micrometer": 1e3, "millimeter": 1e6, "meter": 1e9}
"""Units of length in which a theoretical width can be said."""
DEMO = "blurred.ome.tif"
"""File in the folder of the demo that holds its input."""
UNLIMITED = "the files do not say the size of a pixel in a unit of length, and --pixel-size was not given"
"""Why there is no theoretical width, where there could be one."""
COLOURS = {"good": "green", "look closer": "yellow", "do not trust": "red", "blank": "dim"}
NOT_READ = 1
"""Exit code if some results could not be read."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Results in a folder.

    Attributes
    ----------
    folder : Path
        Where they are.
    result : Deconvolution
        The results; images are lazy arrays, and `reblurred` was not kept.
    ended : dict of tuple of int to str
        Why each plane ended.
    psf : ImageFile
        The point spread functions, with the pixel size and the names of the channels.
    image : array or None
        What they were made from, a lazy array, if it is where it was and has not changed.
    problem : str
        Why it is not; empty if it is.
    origin : dict of str to float
        For an axis where the first pixel of the latent image is, in the unit of its spacing.
    record : dict
        All that was stored of the run; empty for the demo.
    pixel_size : float or None
        Side of a pixel in nanometers, for files that do not say it.
    """

    folder: Path
    result: Deconvolution
    ended: dict[tuple[int, ...], str]
    psf: ImageFile
    image: Any
    problem: str = ""
    origin: dict[str, float] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    pixel_size: float | None = None

    @property
    def pixels(self) -> tuple[tuple[float, float] | None, str]:
        """Height and width of a pixel and their unit, if the files say both in the same unit of length.

        If they do not, `pixel_size`, if that is known.
        """
        (height, unit), (width, other) = (self.psf.spacing.get(axis, (1.0, None)) for axis in "YX")
        if unit in NANOMETERS and unit == other:
            return (height, width), unit
        if self.pixel_size is None:
            return None, "pixel"
        side = self.pixel_size / NANOMETERS["micrometer"]
        return (side, side), "micrometer"


def folders(given: str | Path) -> list[Path]:
    """Return the folders of results in a folder, at any depth, or the folder that a file of results is in.

    Raises
    ------
    ValueError
        If there are none.
    """
    path = Path(given).expanduser()
    if record := record_of(path):
        return [record.parent]
    found = sorted(path.rglob(RECORD))
    demo = path.parent if ".ome." in path.name else path
    if not found and (demo / DEMO).is_file():
        return [demo]
    if not found:
        raise ValueError(f"results: expected a folder with {RECORD}, found none in {str(given)!r}")
    return [file.parent for file in found]


def load(folder: Path, *, compare: bool = True) -> Stored:
    """Open the results in a folder, and the image that they were made from, if they are to be compared.

    Whether that is still the same takes reading all of it.

    Raises
    ------
    ValueError
        If the folder does not hold what this version writes.
    """
    if not (folder / RECORD).exists():
        return _load_demo(folder)
    try:
        record = json_format.loads((folder / RECORD).read_text(encoding="utf-8"))
        settings, planes, source = Settings(**record["settings"]), record["planes"], record["source"]
        path, _ = Path(record["path"]), Path(record["psf_path"] or "")
        ended = {tuple(plane["index"]): str(plane["stopped"]) for plane in planes}
        result, psf = _results(folder, settings, [plane["noise"] for plane in planes])
        region = record.get("region")
        origin = {axis: float(at) for axis, at in record.get("origin", {}).items()}
        if not all(math.isfinite(at) for at in origin.values()):
            raise ValueError(f"origin: expected finite numbers, got {origin}")
        result = replace(
            result,
            device=record["device"],
            seconds=record["seconds"],
            blank=tuple(index for index, stopped in ended.items() if stopped == BLANK),
            region=region and tuple((int(first), int(end)) for first, end in region),
        )
        if result.axes != record["axes"]:
            raise ValueError(f"expected the axes {record['axes']}, got {result.axes}")
        source = str(source["sha256"]), source["axes"], int(source["scene"])
    except (
        KeyError, TypeError, AttributeError, ValueError, ArithmeticError, OSError, RecursionError
    ) as error:  # fmt: skip
        raise ValueError(f"{folder} does not hold results of this version: {reason(error)}") from None
    stored = Stored(folder, result, ended, psf, None, origin=origin, record=record)
    if not compare:
        return stored
    problem = _problem(path, source[0])
    return replace(stored, problem=problem, image=None if problem else read(path, *source[1:]).array)


def _load_demo(folder: Path) -> Stored:
    """Open what ``napari-vdip demo`` has written, which is not what `workspace` writes."""
    settings = Settings(psf_shape=read(folder / "psf.ome.tif").array.shape)
    result, psf = _results(folder, settings, [])
    return Stored(folder, result, {(): FINISHED}, psf, read(folder / DEMO).array)


def _results(folder: Path, settings: Settings, noise: list[float]) -> tuple[Deconvolution, ImageFile]:
    """Open the arrays of a folder as a result, and the point spread functions as they are in the file."""
    import numpy as np

    from napari_vdip.result import Deconvolution

    files = {path.name.partition(".")[0]: path for path in folder.glob("*.ome.*")}
    latent, psf = read(files["latent"]), read(files["psf"])
    result = Deconvolution(
        latent=latent.array,
        psf=np.asarray(psf.array),
        std=read(files["std"]).array if "std" in files else None,
        reblurred=None,
        noise=np.array(noise),
        history=(),
        axes=latent.axes,
        settings=settings,
        device="",
        seconds=0.0,
        stopped=FINISHED,
    )
    return result, psf


def _problem(path: Path, sha256: str) -> str:
    """Say why the input cannot be compared with; nothing if it can."""
    if not path.exists():
        return f"the input {path} is not there any more"
    if content_hash(path) != sha256:
        return f"the input {path} has changed"
    return ""


def inspect(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULT...",
            help="Folders of results, searched to the bottom, or a file of one, such as latent.ome.tif.",
        ),
    ],
    wavelength: Annotated[
        float | None, typer.Option(help="Emission wavelength in nanometers, for the diffraction limit.")
    ] = None,
    na: Annotated[float | None, typer.Option(help="Numerical aperture of the objective.")] = None,
    pixel_size: Annotated[
        float | None, typer.Option(help="Side of a pixel in nanometers, where the files do not say it.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """Say how far results can be trusted: a verdict for each plane and channel, and why.

    Results are those of `napari-vdip run` and `napari-vdip demo`. Exit codes: 0 all were inspected,
    whatever the verdicts, 1 some could not be read, 2 something is wrong with the command.
    """
    from napari_vdip.devices import choose_device
    from napari_vdip.diagnostics import theoretical

    try:
        limit = theoretical(wavelength, na)
        if pixel_size is not None and not 0 < pixel_size < math.inf:
            raise ValueError(f"pixel_size: expected nanometers above 0, got {pixel_size}")
        found = [folder for given in results for folder in folders(given)]
        choose_device(device)
    except ValueError as error:
        raise bad_option(error) from None
    failed = False
    for folder in found:
        try:
            stored = replace(load(folder), pixel_size=pixel_size)
            diagnosed = _diagnosed(stored, limit, device)
            unlimited = UNLIMITED if limit is not None and stored.pixels[0] is None else ""
            if json:
                for one in diagnosed:
                    about = {"result": str(folder), "problem": stored.problem, "no_theoretical": unlimited}
                    typer.echo(json_format.dumps(about | one.asdict()))
            else:
                _print(stored, list(diagnosed), unlimited)
        except ValueError as error:
            failed = True
            message = {"result": str(folder), "failed": reason(error)}
            typer.echo(json_format.dumps(message) if json else f"failed: {message['failed']}", err=not json)
    if failed:
        raise typer.Exit(NOT_READ)


def _diagnosed(stored: Stored, limit: float | None, device: str) -> Iterator[Diagnosis]:
    """Diagnose the planes of a folder, one at a time; the limit is in nanometers."""
    from napari_vdip.diagnostics import Scale, diagnoses

    pixel_size, unit = stored.pixels
    known = limit is not None and pixel_size is not None
    scale = Scale(pixel_size, unit, limit / NANOMETERS[unit] if known and limit else None)
    return diagnoses(stored.result, stored.image, scale, stored.ended, device)


def _print(stored: Stored, diagnosed: list[Diagnosis], unlimited: str) -> None:
    """Print a table with a line for each plane, and below it the reasons and what else there is to say."""
    from rich.console import Console

    console = Console(highlight=False)
    console.print(_table(stored, diagnosed))
    if stored.problem:
        console.print(f"No residual: {stored.problem}.", markup=False)
    if unlimited:
        console.print(f"Wavelength and NA are not used: {unlimited}.", markup=False)
    for one in diagnosed:
        reasons = one.verdict.reasons if one.verdict.answer != "good" else ()
        for said in (*reasons, *remarks(one)):
            console.print(f"{one.plane or 'plane'}: {said}", markup=False)


def remarks(found: Diagnosis) -> list[str]:
    """Say what there is to say of the window and the input's range that is no reason of the verdict."""
    psf, clipped, said = found.psf, found.clipping, []
    if psf is not None and psf.advice == "smaller window" and not found.given:
        window = " x ".join(map(str, psf.suggested))
        said.append(f"The window is larger than needed: {window} pixels are enough, and faster.")
    if clipped is not None and 0 < clipped.highest <= SATURATED:
        said.append(f"{clipped.highest:.2%} of the input has the highest value.")
    if clipped is not None and 0 < clipped.lowest <= DARK:
        said.append(f"{clipped.lowest:.2%} of the input has the lowest value.")
    return said


def _table(stored: Stored, diagnosed: list[Diagnosis]) -> Table:
    """Make a table of what matters most."""
    from rich.table import Table
    from rich.text import Text

    limit = next((one.theoretical for one in diagnosed if one.theoretical is not None), None)
    unit = stored.pixels[1]
    note = (
        "" if limit is None else f"PSF of a wide-field microscope by diffraction alone: {limit:.3g} {unit}"
    )
    table = Table(title=str(stored.folder), title_justify="left", caption=note, caption_justify="left")
    for heading in ("plane", "verdict", f"FWHM, {unit}", "window", "chi-square", "expected", "S/N"):
        table.add_column(heading, no_wrap=True)
    for one in diagnosed:
        psf, residual = one.psf, one.residual
        answer = Text(one.verdict.answer, style=COLOURS[one.verdict.answer])
        if psf is None:
            table.add_row(one.plane, answer)
            continue
        widths = psf.physical or psf.pixels
        table.add_row(
            one.plane,
            answer,
            " x ".join(f"{size:.3g}" for size in widths.fwhm_axes),
            " x ".join(map(str, psf.window)),
            f"{residual.chi_square:.2f}" if residual else "",
            f"{residual.expected_chi_square:.2f}" if residual else "",
            f"{residual.signal_to_noise:.3g}" if residual else "",
        )
    return table
