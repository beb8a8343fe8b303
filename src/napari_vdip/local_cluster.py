"""A Dask cluster of processes on this machine, which share its cores and GPUs."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from distributed import SpecCluster

HERE = "127.0.0.1"
"""Where a local cluster listens: no other machine reaches it."""
KEPT = 2**30
"""Bytes of freed memory that a worker keeps to use again, on systems with glibc. With Dask's own limit the
memory of every tensor is asked of the system anew, and cleared by it: half of the time at 512 x 512."""


def local_cluster(workers: int, retries: int, device: str | None = None) -> SpecCluster:
    """Start a cluster of processes; what they share, they share from the start.

    On CPUs each has one thread. There is one for each GPU, with a thread for each worker: a GPU does what
    threads ask for at the same time, what processes ask for in turn.

    Parameters
    ----------
    workers : int
        How many threads in all, each of which does one thing at a time.
    retries : int
        Times that a piece of work is begun again if its process was lost.
    device : str, optional
        See `devices.choose_device`: no GPU has a part in it if this is ``"cpu"``.
    """
    import dask
    import torch
    from dask.system import CPU_COUNT
    from distributed import Nanny, Scheduler, SpecCluster

    # No limit of memory: a worker ended for its memory would begin the same plane again.
    options = {"host": HERE, "memory_limit": 0, "silence_logs": logging.ERROR}
    gpus = 0 if device == "cpu" else torch.cuda.device_count()
    threads = threads_of_processes(workers, gpus)
    # Read before a process is started, unlike `env`.
    memory = {"MALLOC_TRIM_THRESHOLD_": KEPT, "MALLOC_MMAP_THRESHOLD_": KEPT}
    with dask.config.set({f"distributed.nanny.pre-spawn-environ.{name}": memory[name] for name in memory}):
        return SpecCluster(
            workers={
                number: {
                    "cls": Nanny,
                    "options": options
                    | {
                        "nthreads": own,
                        "env": environment_of(number, workers, CPU_COUNT, gpus, os.environ),
                    },
                }
                for number, own in enumerate(threads)
            },
            scheduler={
                "cls": Scheduler,
                "options": {
                    "host": HERE,
                    "dashboard_address": f"{HERE}:0",
                    "allowed_failures": retries,
                },
            },
            silence_logs=logging.ERROR,
        )


def threads_of_processes(workers: int, gpus: int) -> list[int]:
    """Return how many threads each process has, so that there are as many as workers."""
    processes = min(workers, gpus) or workers
    return [len(range(number, workers, processes)) for number in range(processes)]


def environment_of(
    process: int, workers: int, cores: int, gpus: int, own: Mapping[str, str]
) -> dict[str, str]:
    """Return what a process is to find in its environment: its GPU, and how many cores each worker has.

    Parameters
    ----------
    process : int
        Its number from 0.
    workers : int
        How many there are on this machine.
    cores, gpus : int
        What this process can use.
    own : mapping
        Environment of this process; a number of threads that is set there holds for each worker.
    """
    threads = own.get("OMP_NUM_THREADS") or str(max(1, cores // workers))
    environment = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    if gpus:
        shown = own.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpus)))
        environment["CUDA_VISIBLE_DEVICES"] = shown.split(",")[process].strip()
    return environment
