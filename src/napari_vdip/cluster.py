"""Work on a Dask cluster: how it is reached, what is sent there, what comes back.

It knows nothing of images. `batch` and `lazy` say what the work is.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from threading import Lock
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from napari_vdip.items import reason
from napari_vdip.local_cluster import local_cluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from distributed import Client, Future

RETRIES = 3
"""Times that a piece of work is begun again if its worker was lost, or if it met an `OSError`. For lost
workers a running scheduler has its own limit: ``distributed.scheduler.allowed-failures``, 3 as well."""
PATIENCE = 5.0
"""Seconds that a scheduler has to answer."""
GPU = "GPU"
"""Name of the resource that workers declare for their GPU."""


GONE = "the scheduler is gone, or has dropped its work"


class GoneError(RuntimeError):
    """Nothing more comes of a cluster."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What comes of work that cannot be done, in place of its result.

    Attributes
    ----------
    reason : str
        Why, in one line.
    bad_value : bool
        Whether it was a `ValueError`.
    """

    reason: str
    bad_value: bool = False


@contextmanager
def connect(
    scheduler: str | None = None, workers: int | None = None, device: str | None = None
) -> Iterator[Client | None]:
    """Reach a running cluster, or start one on this machine that ends with the context.

    Parameters
    ----------
    scheduler : str, optional
        Address of a running scheduler, such as ``"tcp://node7:8786"``.
    workers : int, optional
        How much to do here at the same time, each on its part of the cores: in as many processes, or, if
        there are GPUs, in as many threads of a process for each.
    device : str, optional
        What they are for: with ``"cpu"`` there are processes whatever GPUs there are.

    Yields
    ------
    Client or None
        ``None`` if neither is given.

    Raises
    ------
    ValueError
        If there is no such scheduler, both are given, or Dask's scheduler is not installed.
    """
    if scheduler is None and workers is None:
        yield None
        return
    name = "workers" if scheduler is None else "scheduler"
    if scheduler is not None and workers is not None:
        raise ValueError(f"workers: expected none beside a scheduler, got {workers}")
    if workers is not None and workers < 1:
        raise ValueError(f"workers: expected at least 1, got {workers}")
    try:
        from distributed import Client
    except ImportError:
        raise ValueError(
            f"{name}: expected the package distributed: pip install 'napari-vdip[cluster]'"
        ) from None
    if scheduler is not None:
        _check_answer(scheduler)
        try:
            reached = Client(scheduler, timeout=PATIENCE, set_as_default=False)
        except OSError as error:  # it answered once, but no more
            raise _no_scheduler(scheduler, reason(error)) from None
        with reached as client:
            yield client
    else:
        processes = local_cluster(workers or 1, RETRIES, device)
        with processes as cluster, Client(cluster, set_as_default=False) as client:
            yield client


def active_client() -> Client | None:
    """Return the client that is active here, if there is one; none in a task of its workers."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        distributed.get_worker()
    except ValueError:
        pass
    else:
        return None
    try:
        client: Client = distributed.Client.current()
    except ValueError:
        return None
    return None if client.asynchronous or client.status != "running" else client


class Queue:
    """Work on a cluster. Iterating gives what comes of it, in any order, until nothing is left.

    More can be submitted meanwhile. It is a context, at whose end what is still queued is cancelled.

    Parameters
    ----------
    client : Client
        From `connect` or any other.
    """

    def __init__(self, client: Client):
        from distributed import as_completed

        self._client = client
        self._run, self._submitted = uuid4().hex, count()
        self._completed = as_completed(loop=client.loop)
        self._jobs: dict[Any, tuple[Any, Future[Any]]] = {}

    def submit(
        self,
        tag: Any,
        kind: str,
        name: str,
        work: Callable[..., Any],
        *arguments: Any,
        priority: int = 0,
        resources: Mapping[str, float] | None = None,
    ) -> None:
        """Send a piece of work to the cluster.

        Parameters
        ----------
        tag : object
            What its result comes with; stays here.
        kind, name : str
            What the dashboard calls it: it groups by the kind, and shows the name where it lists tasks.
        work : callable
            A function of a module that workers have.
        *arguments
            Plain data, or Dask arrays: these are computed on the cluster, and `work` gets NumPy arrays.
        priority : int
            What is higher is done before what is queued already.
        resources : mapping, optional
            What it takes of a worker's resources, see `gpu_of`.

        Raises
        ------
        GoneError
            If the scheduler is gone.
        """
        from dask.base import is_dask_collection

        if self._client.status != "running":
            raise GoneError(GONE)
        options: dict[str, Any] = {"priority": priority, "retries": RETRIES, "resources": resources}
        ready = [self._client.compute(a, **options) if is_dask_collection(a) else a for a in arguments]
        key = (kind, name, next(self._submitted), self._run)
        future = self._client.submit(_attempt, work, *ready, key=key, pure=False, **options)
        self._jobs[future.key] = tag, future
        self._completed.add(future)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Yield the tag of each piece of work with its result, or with a `Failure`.

        Raises
        ------
        GoneError
            If the scheduler is gone.
        """
        for future in self._completed:
            tag, _ = self._jobs.pop(future.key, (None, None))
            if tag is None:  # cancelled
                continue
            if future.cancelled():  # not by us
                raise GoneError(GONE)
            try:
                result = future.result()
            except Exception as error:  # of a lost worker, a file
                result = Failure(reason(error), isinstance(error, ValueError))
            yield tag, result

    def cancel(self, chosen: Callable[[Any], bool] = lambda tag: True) -> None:
        """Cancel the work whose tag is chosen; what a worker is at, it does to the end."""
        dropped = [key for key, (tag, _) in self._jobs.items() if chosen(tag)]
        futures = [self._jobs.pop(key)[1] for key in dropped]
        if futures and self._client.status == "running":
            self._client.cancel(futures)

    def __enter__(self) -> Queue:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()


def gpu_of(client: Client, device: str | None) -> dict[str, float]:
    """Return what a plane takes of a worker's resources: its GPU, if any worker declares one.

    Where none does, workers do as many planes at a time as they have threads, on the first GPU that they
    see: dask-cuda, SLURM and `connect` show each its own.
    """
    if device == "cpu":
        return {}
    workers = _asked(client, lambda: client.scheduler_info(n_workers=-1))["workers"].values()
    return {GPU: 1.0} if any(worker["resources"].get(GPU) for worker in workers) else {}


def threads_of(client: Client) -> int:
    """Return how many threads the workers have; none if there are no workers."""
    return sum(_asked(client, client.nthreads).values())


def _asked(client: Client, question: Callable[[], Any]) -> Any:
    """Return what a scheduler says."""
    try:
        if client.status == "running":
            return question()
    except OSError:  # it has gone since
        pass
    raise GoneError(GONE)


def check_device(device: str | None) -> None:
    """Check that a device can be meant on every worker.

    Raises
    ------
    ValueError
        If it names one GPU of several.
    """
    if device and ":" in device:
        raise ValueError(f"device: expected 'auto' or a type such as 'cuda' on a cluster, got {device!r}")


def _check_answer(address: str) -> None:
    """Check that a scheduler answers at an address, before a client waits for it."""
    from distributed import rpc
    from distributed.security import Security

    async def ask() -> Any:
        connection = Security().get_connection_args("client")
        async with rpc(address, timeout=PATIENCE, connection_args=connection) as scheduler:
            return await asyncio.wait_for(scheduler.identity(), PATIENCE)

    try:
        kind = asyncio.run(ask())["type"]
        problem = "" if kind == "Scheduler" else f"that is a {kind}"
    except (OSError, TypeError, ValueError) as error:  # that is no address, or nothing answers there
        problem = reason(error)
    except Exception:  # what answers may be anything, whose greeting is taken for a size
        problem = "what answers there does not speak Dask's protocol"
    if problem:
        raise _no_scheduler(address, problem)


def _no_scheduler(address: str, problem: str) -> ValueError:
    return ValueError(
        f"scheduler: expected the address of a running Dask scheduler, got {address!r}: {problem}"
    )


def _attempt(work: Callable[..., Any], *arguments: Any) -> Any:
    """Do a piece of work on a worker; only what may pass is an error to Dask, which tries again."""
    with _reading_here():
        try:
            return work(*arguments)
        except OSError:
            raise
        except Exception as error:  # the same would happen again
            return Failure(reason(error), isinstance(error, ValueError))


_LOCK, _SETTING, _at_work = Lock(), ExitStack(), 0


@contextmanager
def _reading_here() -> Iterator[None]:
    """Have what is lazy in the work read by its worker, not sent to the cluster as more work.

    Dask's settings are those of all threads: the first that works sets this, the last sets it back.
    """
    import dask

    global _at_work
    with _LOCK:
        _at_work += 1
        if _at_work == 1:
            _SETTING.enter_context(dask.config.set(scheduler="synchronous"))
    try:
        yield
    finally:
        with _LOCK:
            _at_work -= 1
            if not _at_work:
                _SETTING.close()
