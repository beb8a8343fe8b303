"""How much memory tensors take at their peak."""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from collections.abc import Iterator

UNSEEN = 1.5
"""What a process takes, relative to its tensors: operations need memory inside them. Between 1.3 for the
networks and 1.7 for Fourier transforms, from the growth of a process on Linux at 256 and 512 pixels."""


class Peak:
    """Result of `peak_memory`."""

    memory = 0
    """Bytes."""


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Measure how much more memory is taken at the peak of a block than at its beginning.

    On CUDA, PyTorch counts it. Elsewhere the tensors made in the block are counted, with `UNSEEN`: the size
    of the process would not tell, since it keeps what it has freed.
    """
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        peak.memory = torch.cuda.max_memory_allocated(device) - before
    else:
        with TensorCount() as count:
            yield peak
        peak.memory = round(UNSEEN * count.peak)


class TensorCount(TorchDispatchMode):
    """Count the memory of tensors that operations return while it is active, until it is freed.

    Attributes
    ----------
    peak : int
        The largest so far, in bytes.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        self.peak = max(self.peak, sum(self._sizes.values()))
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata  # many tensors share one storage
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            weakref.finalize(storage, self._sizes.pop, key)
