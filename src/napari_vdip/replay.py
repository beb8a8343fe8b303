"""Computations of many small steps, recorded once on a GPU and then replayed.

A step on an image of some hundred pixels a side takes a GPU less time than it takes Python to ask for it.
A recording (a CUDA graph) asks for all of them at once.
"""

from __future__ import annotations

import threading
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

P = ParamSpec("P")
R = TypeVar("R")

OF_RECORDINGS = -1
"""Priority of the streams that are recorded on. PyTorch has a few streams for each priority and hands them
out in turn: what another thread asks of one that is being recorded would be part of the recording."""
LARGEST = 2**21
"""Elements of a tensor beyond which nothing is recorded: a GPU takes longer for them than Python, and a
recording keeps its memory."""


class _Recordings(threading.local):
    """Recordings of a thread, since one is no place for two at a time."""

    def __init__(self) -> None:
        self.made: dict[Hashable, Recording | None] = {}
        self.pools: dict[torch.device, Any] = {}
        self.stack = ""


_OF_THREAD = _Recordings()
_RECORDING = threading.Lock()
"""Held while something is recorded, since that begins with waiting for all that a GPU is asked for."""


def replayed(function: Callable[P, R]) -> Callable[P, R]:
    """Record a function on CUDA when it is called for the second time with tensors of the same shapes.

    The function returns a tensor or a tuple of tensors that depend on nothing but its arguments, all
    positional: tensors, and constants that can be hashed. It neither draws random numbers nor reads a
    tensor into Python. Elsewhere than on CUDA, and where tensors are large, it is called as it is.
    """

    @wraps(function)
    def call(*arguments: Any) -> Any:
        tensors = [value for value in arguments if isinstance(value, Tensor)]
        if not all(value.is_cuda and value.numel() <= LARGEST for value in tensors):
            return function(*arguments)  # type: ignore[call-arg]  # positional alone
        made = _OF_THREAD.made
        key = (function, *map(_kind, arguments))
        if key not in made:
            made[key] = None  # what libraries do when first used cannot be recorded
            return function(*arguments)  # type: ignore[call-arg]
        recording = made[key]
        if recording is None:
            recording = made[key] = Recording(function, arguments)
        return recording(tensors)

    return cast("Callable[P, R]", call)


def forget() -> None:
    """Drop the recordings of this thread, and with them their memory."""
    _OF_THREAD.made.clear()
    _OF_THREAD.pools.clear()
    _OF_THREAD.stack = ""


def keep_for(stack: str) -> None:
    """Drop the recordings of this thread unless they are of this stack, of which its next planes are."""
    if _OF_THREAD.stack != stack:
        forget()
        _OF_THREAD.stack = stack


def _kind(value: Any) -> Hashable:
    """Return what two arguments must share for one recording to serve both."""
    if isinstance(value, Tensor):
        return value.shape, value.dtype, value.device
    return cast("Hashable", value)


class Recording:
    """What a function does to tensors of certain shapes."""

    def __init__(self, function: Callable[..., Any], arguments: Sequence[Any]):
        own = [value.clone() if isinstance(value, Tensor) else value for value in arguments]
        self._inputs = [value for value in own if isinstance(value, Tensor)]
        self._graph = torch.cuda.CUDAGraph()
        device = self._inputs[0].device  # which need not be PyTorch's current one
        pools = _OF_THREAD.pools
        if device not in pools:
            pools[device] = torch.cuda.graph_pool_handle()
        capture = torch.cuda.graph(
            self._graph,
            pool=pools[device],
            stream=torch.cuda.Stream(device, OF_RECORDINGS),
            capture_error_mode="thread_local",  # what other threads do meanwhile is no error
        )
        with _RECORDING, torch.cuda.device(device), capture:
            self._outputs = function(*own)

    def __call__(self, inputs: Sequence[Tensor]) -> Any:
        """Replay with other values."""
        for own, value in zip(self._inputs, inputs, strict=True):
            own.copy_(value)
        self._graph.replay()
        if isinstance(self._outputs, Tensor):
            return self._outputs.clone()
        return tuple(value.clone() for value in self._outputs)
