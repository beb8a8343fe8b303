"""What a run or a batch will take, found out in a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.qt.threading import create_worker
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined, unused-ignore]

from napari_vdip._worker import DeconvolutionError
from napari_vdip.items import reason
from napari_vdip.stack import plan

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from napari_vdip._batch_worker import Batch
    from napari_vdip._layers import Array, Picture
    from napari_vdip.settings import Settings


class Estimator(QObject):
    """Finds out in a worker what a run will take.

    Signals
    -------
    told : str
        What it is doing, the answer at last, or why there is none.
    finished
        There is nothing more to come.

    Parameters
    ----------
    texts : callable
        Generator function that yields what is told, from these arguments.
    parent : QObject
        Ends it when it is destroyed.
    """

    told = Signal(str)
    finished = Signal()

    def __init__(self, texts: Callable[..., Generator[str]], *arguments: Any, parent: QObject):
        super().__init__(parent)
        self._worker = create_worker(texts, *arguments, _ignore_errors=True)
        self._worker.yielded.connect(self.told.emit)
        self._worker.errored.connect(self._on_error)
        self._worker.finished.connect(self._on_finished)
        self.destroyed.connect(self._worker.quit)

    def start(self) -> None:
        """Begin."""
        self._worker.start()

    def quit(self) -> None:
        """End soon, without an answer."""
        self._worker.quit()

    def _on_error(self, error: Exception) -> None:
        self.told.emit(str(error))

    def _on_finished(self) -> None:
        self.finished.emit()
        self.deleteLater()


def estimating_run(picture: Picture, settings: Settings, psf: Array | None, device: str) -> Generator[str]:
    """Say what a run will take; takes the arguments of `_worker.deconvolving`."""
    yield "estimating: trying each kind of work for a moment"
    try:
        from napari_vdip.cost import expected_cost
        from napari_vdip.source import given_psfs

        planes = plan(picture.data.shape, picture.axes, settings.channels)
        if psf is not None:
            window = planes.take_psf(given_psfs(psf, planes), planes.indices[0]).shape
            settings = settings.replace(psf_shape=window)
        cost = expected_cost(planes, settings, image=picture.data, region=picture.region, device=device)
    except (RuntimeError, MemoryError) as error:
        raise _failed(error) from error
    yield f"expected: {cost} on {cost.device}"


def estimating_batch(batch: Batch) -> Generator[str]:
    """Say what a batch will take."""
    yield "looking at the files"
    try:
        from napari_vdip.cli_estimate import expected

        problems = 0
        items = batch.plan()
        for data in expected(items, batch.device):
            if data["event"] == "total":
                unable = f"; {problems} cannot be done" * (problems > 0)
                yield f"expected for {counted(data['images'])}: {data['text']}{unable}"
            else:
                problems += "problem" in data
                yield f"estimating: {data['item']}"
        if problems == len(items):
            yield "none of the images can be done: Run as batch says why"
    except (RuntimeError, MemoryError) as error:
        raise _failed(error) from error


def counted(images: int) -> str:
    """Write how many images there are."""
    return f"{images} image{'s' * (images != 1)}"


def _failed(error: BaseException) -> DeconvolutionError:
    """Return an error that a worker passes on, which says in one line what went wrong."""
    from napari_vdip.devices import is_out_of_memory

    return DeconvolutionError("Out of memory." if is_out_of_memory(error) else reason(error))
