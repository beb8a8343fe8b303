"""What an array means as planes: which axes there are and which indices make one 2-D problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_vdip.settings import Channels

AXES = "TZCYX"
"""Time, depth, channel, height and width. A letter outside these is one more stack axis."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The planes of an array.

    Attributes
    ----------
    shape : tuple of int
        Shape of the array.
    axes : str
        One letter for each axis, with Y and X once each.
    joint : bool
        Whether the channels of a plane (axis C) share a point spread function.
    """

    shape: tuple[int, ...]
    axes: str
    joint: bool

    @property
    def stacked(self) -> tuple[int, ...]:
        """Axes over which there is one plane for each index."""
        inside = "YXC" if self.joint else "YX"
        return tuple(i for i, axis in enumerate(self.axes) if axis not in inside)

    @property
    def indices(self) -> list[tuple[int, ...]]:
        """Index of every plane in the stacked axes."""
        return list(np.ndindex(*(self.shape[axis] for axis in self.stacked)))

    def psf_shape(self, window: tuple[int, int]) -> tuple[int, ...]:
        """Shape of the point spread functions of all planes; joint channels have one for all."""
        sides = dict(zip("YX", window, strict=True))
        return tuple(
            sides.get(axis, size)
            for axis, size in zip(self.axes, self.shape, strict=True)
            if axis in sides or not (self.joint and axis == "C")
        )

    def name(self, index: tuple[int, ...]) -> str:
        """Name of a plane for people, such as ``T=3, C=1``; empty where there is only one."""
        letters = (self.axes[axis] for axis in self.stacked)
        return ", ".join(f"{letter}={i}" for letter, i in zip(letters, index, strict=True))

    def take(self, array: NDArray[Any], index: tuple[int, ...]) -> NDArray[Any]:
        """View a plane of the array as ``(Y, X, C)``."""
        plane = array[self._slices(index)]
        left = [axis for axis in self.axes if self.axes.index(axis) not in self.stacked]
        if "C" not in left:
            plane, left = plane[..., None], [*left, "C"]
        return plane.transpose([left.index(axis) for axis in "YXC"])

    def put(self, array: NDArray[Any], index: tuple[int, ...], plane: NDArray[Any]) -> None:
        """Write a ``(Y, X, C)`` plane to the array."""
        self.take(array, index)[...] = plane

    def put_psf(self, psfs: NDArray[Any], index: tuple[int, ...], psf: NDArray[Any]) -> None:
        """Write a ``(kh, kw)`` point spread function to an array of shape `psf_shape`."""
        axes = [axis for axis in self.axes if not (self.joint and axis == "C")]
        where = dict(zip((self.axes[axis] for axis in self.stacked), index, strict=True))
        turned = psf if axes.index("Y") < axes.index("X") else psf.T
        psfs[tuple(where.get(axis, slice(None)) for axis in axes)] = turned

    def _slices(self, index: tuple[int, ...]) -> tuple[int | slice, ...]:
        where = dict(zip(self.stacked, index, strict=True))
        return tuple(where.get(axis, slice(None)) for axis in range(len(self.shape)))


def plan(shape: tuple[int, ...], axes: str | None, channels: Channels) -> Plan:
    """Plan the planes of an array.

    Parameters
    ----------
    shape : tuple of int
        Shape of the array.
    axes : str, optional
        One letter for each axis, such as ``"TCYX"``. If not given, ``YX`` or, for three axes, ``YXC``.
    channels : str
        ``"separate"`` or ``"joint"``, see `Settings`.

    Raises
    ------
    ValueError
        If the axes do not fit the shape.
    """
    if axes is None:
        if len(shape) not in (2, 3):
            raise ValueError(
                f"image: expected the axes (Y, X) or (Y, X, C), or axes= for others, got shape {shape}"
            )
        axes = "YXC"[: len(shape)]
    axes = axes.upper()
    if len(axes) != len(shape) or len(set(axes)) != len(axes) or not {"Y", "X"} <= set(axes):
        raise ValueError(
            f"axes: expected {len(shape)} different letters with Y and X, one for each axis of shape "
            f"{shape}, got {axes!r}"
        )
    return Plan(tuple(shape), axes, joint=channels == "joint" and "C" in axes)
