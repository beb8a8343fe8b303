"""What the Check tab computes: generators for worker threads, and a worker for one of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.qt.threading import create_worker
from napari.utils.notifications import show_error
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined, unused-ignore]

from napari_vdip._worker import DeconvolutionError, release_memory
from napari_vdip.classical import METHODS

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from numpy.typing import NDArray

    from napari_vdip._checked import Checked, Index
    from napari_vdip.diagnostics import Diagnosis
    from napari_vdip.psf_measures import PsfMeasures


class Job(QObject):
    """A generator in a worker thread, started at construction. Errors become notifications.

    Signals
    -------
    yielded : object
        What the generator yields.
    returned : object
        What it returns, if nobody stopped it.
    finished
        It has ended, for whatever reason.

    Parameters
    ----------
    steps : Generator
        What to do; it can be stopped at each yield.
    parent : QObject
        Stops it when it is destroyed.
    """

    yielded = Signal(object)
    returned = Signal(object)
    finished = Signal()

    def __init__(self, steps: Generator[Any, None, Any], parent: QObject) -> None:
        super().__init__(parent)
        self._worker = create_worker(_safely, steps, _ignore_errors=True)
        self._worker.yielded.connect(self.yielded)
        self._worker.returned.connect(self.returned)
        self._worker.errored.connect(self._on_error)
        self._worker.finished.connect(self._on_finished)
        self.destroyed.connect(self._worker.quit)
        self._worker.start()

    def stop(self) -> None:
        """Stop after this step."""
        self._worker.quit()

    def _on_error(self, error: Exception) -> None:
        show_error(str(error))

    def _on_finished(self) -> None:
        release_memory()
        self.finished.emit()
        self.deleteLater()


def _safely(steps: Generator[Any, None, Any]) -> Generator[Any, None, Any]:
    """Let no `RuntimeError` out, which napari's generator workers drop."""
    try:
        return (yield from steps)
    except (RuntimeError, MemoryError) as error:
        from napari_vdip.devices import is_out_of_memory

        text = "Out of memory." if is_out_of_memory(error) else f"{type(error).__name__}: {error}"
        raise DeconvolutionError(text) from error


@dataclass(frozen=True, slots=True)
class News:
    """What was found about a plane.

    Attributes
    ----------
    index : tuple of int
        Which plane it is.
    psf : PsfMeasures
        Of its point spread function.
    diagnosis : Diagnosis or None
        All that can be said; ``None`` while that is not known yet.
    problem : str
        Why the input was not compared with; empty if it was.
    """

    index: Index
    psf: PsfMeasures
    diagnosis: Diagnosis | None = None
    problem: str = ""

    @property
    def blank(self) -> bool:
        """Whether the plane is known to be blank: nothing was estimated."""
        return self.diagnosis is not None and self.diagnosis.verdict.answer == "blank"

    def beside(self, width: float | None) -> News:
        """Judge it beside a theoretical width in micrometres."""
        from napari_vdip.diagnostics import judged_beside

        return replace(self, diagnosis=self.diagnosis and judged_beside(self.diagnosis, width))


def judging(this: Checked, indices: Iterable[Index], device: str) -> Generator[News, None, None]:
    """Judge planes one after the other; of each, measure its point spread function first."""
    from napari_vdip.diagnostics import diagnose
    from napari_vdip.psf_measures import measure_psf

    size = this.pixel_size()
    for index in indices:
        alone = this.alone(index)
        psf = measure_psf(alone.psf, size)
        yield News(index, psf)
        image, problem = None, ""
        try:
            image = this.input_plane(index)
        except ValueError as error:
            problem = str(error)
        (found,) = diagnose(alone, image, pixel_size=size, device=device)
        yield News(index, psf, replace(found, plane=this.planes.name(index), index=index), problem)


def reseeding(this: Checked, index: Index, device: str) -> Generator[float, None, float]:
    """Run a plane a second time, and return how well both agree; see `second_run`."""
    from napari_vdip.second_run import running

    ours = this.psf(index).copy()
    image, region = this.source_plane(index)
    part = None if region == tuple((0, size) for size in image.shape[:2]) else region
    return (yield from running(image, ours, this.result.settings, region=part, device=device))


def residuals(this: Checked) -> Generator[None, None, tuple[NDArray[Any], tuple[int, int]]]:
    """Make the residual of all planes in noise units, in the shape of the latent image less a border.

    Returns the array and the width of the border along y and x, which is zero where the run has kept its
    re-blurred image. Yields after each plane. The residual of a colour image is the sum over its
    colours over the root of their number, so that noise keeps a standard deviation of one. That of a blank
    plane is zero.
    """
    from napari_vdip.diagnostics import reblurred_plane
    from napari_vdip.residual import noise_units

    planes, settings = this.planes, this.result.settings
    kept = this.result.reblurred is not None
    window = this.psf(planes.indices[0]).shape
    border = (0, 0) if kept else (window[0] // 2, window[1] // 2)
    sides = [n - 2 * edge for n, edge in zip(planes.plane_shape, border, strict=True)]
    if min(sides) < 1:
        raise ValueError(f"residual: expected an image larger than the window {window}")
    inner = planes.of_size(*sides)
    found = np.full(inner.shape, np.nan, np.float32)
    for index in this.reached:
        reblurred, inside = reblurred_plane(this.result, planes, index)
        units = noise_units(this.input_plane(index)[inside], reblurred, settings)
        inner.put(found, index, units.astype(np.float32))
        yield
    if this.latent.rgb:
        found = found.sum(-1) / np.float32(np.sqrt(found.shape[-1]))
    return found, border


def doubts(this: Checked) -> Generator[None, None, NDArray[Any]]:
    """Return the std map relative to the standard deviation of the latent image, for all planes.

    Yields after each plane. Of colours it is the root mean square.
    """
    from napari_vdip.diagnostics import relative_std

    planes, found = this.planes, np.full(this.planes.shape, np.nan, np.float32)
    for index in this.reached:
        std, latent = (planes.take(array, index) for array in (this.result.std, this.result.latent))
        planes.put(found, index, relative_std(std, latent))
        yield
    return np.sqrt(np.square(found).mean(-1)) if this.latent.rgb else found


def comparing(this: Checked, index: Index) -> Generator[tuple[str, NDArray[Any]], None, None]:
    """Restore the shown plane by each of `METHODS` with the point spread functions of the result.

    Yields names and arrays with the axes of the latent image, with one entry for stacked ones, but for
    colours, and in source units.
    """
    together, planes = this.seen_with(index), this.planes
    colour = planes.axes.index("C") if this.latent.rgb else -1
    shape = tuple(
        1 if axis in planes.stacked and axis != colour else n for axis, n in enumerate(planes.shape)
    )
    place = replace(planes, shape=shape)
    for name, restore in METHODS.items():
        found = np.empty(shape, np.float32)
        for one in together:
            at = tuple(i if axis == colour else 0 for i, axis in zip(one, planes.stacked, strict=True))
            place.put(found, at, restore(this.input_plane(one), this.psf(one)))
        yield name, found
