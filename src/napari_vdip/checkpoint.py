"""What a plane can be gone on from when the process has ended, and the file that holds it.

The file is one of safetensors: tensors by name and plain text. Nothing in it is ever executed. It is
written beside its name and renamed, so that a kill leaves it whole. Which run it is of, and whether its
content is what was written, is checked by hashes; any other file is left alone, and the plane begins anew.
"""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from napari_vdip.estimate import Estimate
from napari_vdip.generators import Posterior

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_vdip.settings import Settings

State = dict[str, torch.Tensor]
"""Tensors by name."""
INTERVAL = 60.0
"""Shortest time between two checkpoints that a plane makes for the sake of time, in seconds."""
SHARE = 0.05
"""Largest part of the time that they may take."""


class UnfitError(ValueError):
    """A checkpoint that is not of what it was given to."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a plane was.

    Attributes
    ----------
    estimate : Estimate
        That of the step it has reached.
    state : dict of str to Tensor
        What else the next step needs, from ``Plane.state`` or ``Mosaic.state``.
    history : mapping of str to array
        The course up to here, see `Course.history`.
    reduced : mapping of str to int
        Settings that were made smaller for lack of memory.
    seconds : float
        Time that was spent.
    """

    estimate: Estimate
    state: State
    history: Mapping[str, NDArray[Any]]
    reduced: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0


class CheckpointFile:
    """Where the latest checkpoint of one plane is kept.

    Parameters
    ----------
    path : Path
        Name of the file, which need not exist.
    run : str
        What the checkpoint must be of, from `fingerprint`.
    """

    def __init__(self, path: Path, run: str):
        self._path, self._run = path, run
        self._saved, self._took = time.monotonic(), 0.0

    @property
    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return time.monotonic() - self._saved >= max(INTERVAL, self._took / SHARE)

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the file; if that is not possible, warn and leave it as it is."""
        started = time.monotonic()
        estimate, history = checkpoint.estimate, checkpoint.history
        tensors = {f"state.{name}": tensor for name, tensor in checkpoint.state.items()}
        tensors |= {f"terms.{name}": tensor for name, tensor in estimate.terms.items()}
        tensors |= {"mean": estimate.posterior.mean, "kernel": estimate.kernel}
        if estimate.posterior.log_std is not None:
            tensors["log_std"] = estimate.posterior.log_std
        tensors |= {
            f"history.{name}": torch.from_numpy(history[name]) for name in history if name != "stage"
        }
        plain = {
            "run": self._run,
            "stage": estimate.stage,
            "step": estimate.step,
            "steps": estimate.steps,
            "part": estimate.part and [[side.start, side.stop] for side in estimate.part],
            "stages": history["stage"].tolist(),
            "reduced": dict(checkpoint.reduced),
            "seconds": checkpoint.seconds,
        }
        # Cloned, since a file holds no order of axes, and no memory twice.
        tensors = {name: tensor.cpu().clone(memory_format=_ROWS) for name, tensor in tensors.items()}
        text = json.dumps(plain)
        part = _part(self._path)
        try:
            save_file(tensors, part, {"plain": text, "sha256": _digest(text, tensors)})
            part.replace(self._path)
        except (OSError, SafetensorError) as error:
            warnings.warn(f"checkpoint: {self._path} was not written: {error}", RuntimeWarning, 2)
        self._saved = time.monotonic()
        self._took = self._saved - started

    def load(self, device: torch.device) -> Checkpoint | None:
        """Return what is in the file, on a device; ``None`` if that is nothing, or of no use."""
        try:
            with safe_open(self._path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            if _digest(metadata["plain"], tensors) != metadata["sha256"]:
                raise UnfitError("its content is not what was written")
            plain = json.loads(metadata["plain"])
            if plain["run"] != self._run:
                raise UnfitError("it is of another image, other settings or other versions")
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            begin_anew(self._path, error)
            return None
        moved = {name: tensor.to(device) for name, tensor in tensors.items()}
        part = plain["part"] and tuple(slice(*side) for side in plain["part"])
        estimate = Estimate(
            plain["stage"],
            plain["step"],
            plain["steps"],
            Posterior(moved["mean"], moved.get("log_std")),
            moved["kernel"],
            _below("terms", moved),
            part,
        )
        history = {name: tensor.numpy() for name, tensor in _below("history", tensors).items()}
        return Checkpoint(
            estimate,
            _below("state", tensors),
            {"stage": plain["stages"], **history},
            plain["reduced"],
            plain["seconds"],
        )


def begin_anew(path: Path, error: Exception) -> None:
    """Warn that a checkpoint cannot be used."""
    warnings.warn(f"checkpoint: {path} is left alone, the plane begins anew: {error}", RuntimeWarning, 3)


def remove(path: Path) -> None:
    """Remove a file of checkpoints, and what a kill may have left beside it."""
    for file in (path, _part(path)):
        file.unlink(missing_ok=True)


def fingerprint(
    image: NDArray[np.generic], settings: Settings, device: torch.device, kernel: Tensor | None
) -> str:
    """SHA-256 of all that decides the course of a plane."""
    names = ("napari-vdip", "torch", "numpy")
    plain = [
        settings.asdict(),
        device.type,
        image.dtype.str,
        image.shape,
        [version(name) for name in names],
    ]
    digest = hashlib.sha256(json.dumps(plain).encode())
    digest.update(image.tobytes())
    if kernel is not None:
        digest.update(kernel.cpu().numpy().tobytes())
    return digest.hexdigest()


def fill(live: State, saved: State) -> None:
    """Copy what was saved into the tensors that it was saved of, whose order in memory stays as it is.

    Raises
    ------
    UnfitError
        If names, shapes or types differ; nothing is copied then.
    """
    kinds = [{name: (t.shape, t.dtype) for name, t in state.items()} for state in (live, saved)]
    if kinds[0] != kinds[1]:
        names = sorted(name for name, _ in kinds[0].items() ^ kinds[1].items())
        raise UnfitError(f"expected other tensors under the names {', '.join(names)}")
    with torch.no_grad():
        for name, tensor in live.items():
            tensor.copy_(saved[name])


_ROWS = torch.contiguous_format


def _below(prefix: str, tensors: State) -> State:
    """Return the tensors whose names begin with a prefix, without it."""
    start = f"{prefix}."
    return {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}


def _digest(text: str, tensors: State) -> str:
    """SHA-256 of a text and of tensors on the CPU."""
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _part(path: Path) -> Path:
    return path.with_name(f".part-{path.name}")
