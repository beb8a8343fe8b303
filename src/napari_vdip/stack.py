"""What an array means as planes: which axes there are and which indices make one 2-D problem."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_vdip.images import as_array
from napari_vdip.tiling import WHOLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_vdip.settings import Channels
    from napari_vdip.tiling import Region


MOST_NAMED = 50
"""Planes that a message names."""
MOST_CHANNELS = 4
"""Length of an axis up to which it is taken for the channels, if nobody says what it is."""


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
    def colour(self) -> bool:
        """Whether several channels share a point spread function."""
        return self.joint and "C" in self.axes and self.shape[self.axes.index("C")] > 1

    @property
    def stacked(self) -> tuple[int, ...]:
        """Axes over which there is one plane for each index."""
        inside = "YXC" if self.joint else "YX"
        return tuple(i for i, axis in enumerate(self.axes) if axis not in inside)

    @property
    def indices(self) -> list[tuple[int, ...]]:
        """Index of every plane in the stacked axes."""
        return list(np.ndindex(*(self.shape[axis] for axis in self.stacked)))

    @property
    def first(self) -> tuple[int, ...]:
        """Index of the first plane."""
        return (0,) * len(self.stacked)

    @property
    def groups(self) -> list[list[tuple[int, ...]]]:
        """Indices of the planes of each channel; of all planes if channels are joint or there is one."""
        if "C" not in self._letters:
            return [self.indices]
        at = self._letters.index("C")
        channels = range(self.shape[self.axes.index("C")])
        return [[index for index in self.indices if index[at] == channel] for channel in channels]

    @property
    def _letters(self) -> str:
        """Letters of the stacked axes."""
        return "".join(self.axes[axis] for axis in self.stacked)

    @property
    def plane_shape(self) -> tuple[int, int]:
        """Height and width of a plane."""
        return self.shape[self.axes.index("Y")], self.shape[self.axes.index("X")]

    def of_size(self, height: int, width: int) -> Plan:
        """Return the plan of an array with the same planes in another size."""
        sides = {"Y": height, "X": width}
        shape = tuple(sides.get(axis, n) for axis, n in zip(self.axes, self.shape, strict=True))
        return replace(self, shape=shape)

    @property
    def psf_axes(self) -> str:
        """One letter for each axis of the point spread functions; joint channels have one for all."""
        return self.axes.replace("C", "") if self.joint else self.axes

    def psf_shape(self, window: tuple[int, int]) -> tuple[int, ...]:
        """Shape of the point spread functions of all planes."""
        sizes = {**dict(zip(self.axes, self.shape, strict=True)), **dict(zip("YX", window, strict=True))}
        return tuple(sizes[axis] for axis in self.psf_axes)

    def name(self, index: tuple[int, ...]) -> str:
        """Name of a plane for people, such as ``T=3, C=1``; empty where there is only one."""
        return ", ".join(f"{letter}={i}" for letter, i in zip(self._letters, index, strict=True))

    def take(self, array: Any, index: tuple[int, ...], area: Region = WHOLE) -> NDArray[Any]:
        """Read a plane of the array, or an area of it, as ``(Y, X, C)``; a view of a NumPy array."""
        part = array[self._at(index, area)]
        # Only so does an array of Dask keep its mask, which is checked later.
        part = np.asanyarray(part.compute() if hasattr(part, "compute") else part)
        plane: NDArray[Any] = self._as_yxc(part)
        return plane

    def take_lazy(self, array: Any, index: tuple[int, ...], area: Region = WHOLE) -> Any:
        """Return what `take` would read of a Dask array, as one."""
        return self._as_yxc(array[self._at(index, area)])

    def _as_yxc(self, plane: Any) -> Any:
        """Give a plane the axes ``(Y, X, C)``."""
        left = [axis for axis in self.axes if self.axes.index(axis) not in self.stacked]
        if "C" not in left:
            plane, left = plane[..., None], [*left, "C"]
        return plane.transpose([left.index(axis) for axis in "YXC"])

    def put(self, array: Any, index: tuple[int, ...], plane: NDArray[Any]) -> None:
        """Write a ``(Y, X, C)`` plane to the array, by one assignment."""
        left = [axis for axis in self.axes if self.axes.index(axis) not in self.stacked]
        turned = plane.transpose(["YXC".index(axis) for axis in [*left, "C"][:3]])
        array[self._at(index, WHOLE)] = turned if "C" in left else turned[..., 0]

    def take_psf(self, psfs: NDArray[Any], index: tuple[int, ...]) -> NDArray[Any]:
        """View the ``(kh, kw)`` point spread function of a plane; an axis with one entry serves all."""
        where = dict(zip(self._letters, index, strict=True))
        places = (
            slice(None) if axis in "YX" else where[axis] if size > 1 else 0
            for axis, size in zip(self.psf_axes, psfs.shape, strict=True)
        )
        return self._upright(psfs[tuple(places)])

    def put_psf(self, psfs: NDArray[Any], index: tuple[int, ...], psf: NDArray[Any]) -> None:
        """Write a ``(kh, kw)`` point spread function to an array of shape `psf_shape`."""
        where = dict(zip(self._letters, index, strict=True))
        psfs[tuple(where.get(axis, slice(None)) for axis in self.psf_axes)] = self._upright(psf)

    def as_psfs(self, psf: Any) -> NDArray[np.float64]:
        """Give point spread functions the axes `psf_axes`, as NumPy broadcasts.

        Two axes are those of Y and X; fewer than all lack the first; other than Y and X may have one entry.

        Raises
        ------
        ValueError
            If that is not possible, or these are not real numbers.
        """
        psfs = as_array(psf, "psf")
        sizes = dict(zip(self.axes, self.shape, strict=True))
        if psfs.ndim == 2:
            missing = [at for at, axis in enumerate(self.psf_axes) if axis not in "YX"]
            psfs = np.expand_dims(psfs, missing)
        else:
            psfs = psfs.reshape((1,) * (len(self.psf_axes) - psfs.ndim) + psfs.shape)
        fits = (
            np.ndim(psf) > 1
            and len(self.psf_axes) == psfs.ndim
            and all(
                axis in "YX" or size in (1, sizes[axis])
                for axis, size in zip(self.psf_axes, psfs.shape, strict=True)
            )
        )
        if not fits:
            expected = ", ".join(axis if axis in "YX" else str(sizes[axis]) for axis in self.psf_axes)
            raise ValueError(f"psf: expected the shape (Y, X) or ({expected}), got {np.shape(psf)}")
        return psfs.astype(np.float64)

    def _at(self, index: tuple[int, ...], area: Region) -> tuple[int | slice, ...]:
        where: dict[str, int | slice] = dict(zip(self._letters, index, strict=True))
        where.update(zip("YX", area, strict=True))
        return tuple(where.get(axis, slice(None)) for axis in self.axes)

    def _upright(self, psf: NDArray[Any]) -> NDArray[Any]:
        """Turn from Y, X to the order of the axes, or back."""
        return psf if self.axes.index("Y") < self.axes.index("X") else psf.T


def listed(names: Sequence[str]) -> str:
    """Write names of planes one after the other, up to `MOST_NAMED` of them."""
    return "; ".join([*names[:MOST_NAMED], *(["more"] if names[MOST_NAMED:] else [])])


def plan(shape: tuple[int, ...], axes: str | None, channels: Channels) -> Plan:
    """Plan the planes of an array.

    Parameters
    ----------
    shape : tuple of int
        Shape of the array.
    axes : str, optional
        One letter for each axis, such as ``"TCYX"``. If not given, ``YX`` or, for three axes of which the
        last is that of `MOST_CHANNELS` or fewer, ``YXC``.
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
        if len(shape) == 3 and shape[-1] > MOST_CHANNELS:
            raise ValueError(
                f"axes: expected letters for shape {shape}, such as 'ZYX' or 'YXC', got None: only a last "
                f"axis of at most {MOST_CHANNELS} is taken for channels"
            )
        axes = "YXC"[: len(shape)]
    if not isinstance(axes, str):
        raise ValueError(f"axes: expected letters, got {axes!r}")
    axes = axes.upper()
    if len(axes) != len(shape) or len(set(axes)) != len(axes) or not {"Y", "X"} <= set(axes):
        raise ValueError(
            f"axes: expected {len(shape)} different letters with Y and X, one for each axis of shape "
            f"{shape}, got {axes!r}"
        )
    return Plan(tuple(shape), axes, joint=channels == "joint" and "C" in axes)
