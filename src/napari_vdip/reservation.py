"""One run at a time for each folder of results."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_vdip.items import Item

LOCK = ".lock"
"""Ending of the file beside an image's results that is locked while they are being made."""


@contextmanager
def reserved(item: Item) -> Iterator[None]:
    """Keep other runs away from an item's results.

    The operating system holds the lock and lets it go when the process ends, however it ends: nothing is
    left that a next run would have to judge. Where no lock can be had, as on a share that knows none, or in
    a folder that cannot be written to, the run goes on without.

    Raises
    ------
    ValueError
        If another run is at work on them.
    """
    path = item.folder.with_name(f"{item.folder.name}{LOCK}")
    lock = FileLock(path, thread_local=False)  # a generator may be closed by another thread
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(f"expected no other run at work on {item.folder}, but {path} is locked") from None
    except (OSError, NotImplementedError):
        yield  # no lock can be had here
        return
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes it when it is let go
            path.unlink()  # before that, or it might be another one's
        lock.release()
