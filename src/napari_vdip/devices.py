"""Which device computes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from napari_vdip.replay import forget

if TYPE_CHECKING:
    from collections.abc import Iterator


def choose_device(name: str | None = None) -> torch.device:
    """Return the named device, or the best one there is.

    Parameters
    ----------
    name : str, optional
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``; ``None`` or ``"auto"`` takes CUDA before MPS
        before the CPU.

    Raises
    ------
    ValueError
        If there is no such device here.
    """
    if name is None or name == "auto":
        return torch.device(available_devices()[0])
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    names = available_devices()
    if device is None or str(device) not in (*names, *{n.split(":")[0] for n in names}):
        raise ValueError(f"device: expected one of {('auto', *names)}, got {name!r}")
    return device


def available_devices() -> tuple[str, ...]:
    """Names of the devices that can be used here, the best first."""
    gpus = tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
    mps = ("mps",) if torch.backends.mps.is_available() and transforms("mps") else ()
    return (*gpus, *mps, "cpu")


def transforms(name: str) -> bool:
    """Whether a device has Fourier transforms, which early MPS versions lack."""
    try:
        torch.fft.irfft2(torch.fft.rfft2(torch.ones(4, 4, device=name)))
    except RuntimeError:  # what PyTorch raises for an operation that a device lacks
        return False
    return True


@contextmanager
def stream_of_its_own(name: str | None = None) -> Iterator[None]:
    """Let a CUDA device do what a block asks of it beside what other threads ask.

    For a device of `choose_device`; others have no streams.
    """
    device = choose_device(name)
    if device.type == "cuda":
        with torch.cuda.stream(torch.cuda.Stream(device)):
            yield
    else:
        yield


def describe(device: torch.device) -> str:
    """Name of a device for people, such as ``cuda:0 (NVIDIA H200)``."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of PyTorch or NumPy says that there is too little memory, on any device."""
    text = str(error).lower()
    words = ("out of memory", "can't allocate memory", "alloc_failed")  # the last of CUDA's libraries
    return isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or any(
        word in text for word in words
    )


def release_memory() -> None:
    """Give the memory back to GPUs that PyTorch keeps for later, and recordings; what is in use stays."""
    forget()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
