"""Where planes come from, one at a time, and where their results go."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_vdip.images import check_memory, check_plane, check_size, is_blank
from napari_vdip.kernels import normalised, odd
from napari_vdip.settings import SMALLEST_CANVAS
from napari_vdip.stack import listed
from napari_vdip.tiling import WHOLE, as_region, with_context

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_vdip.plane import Restored
    from napari_vdip.settings import Settings
    from napari_vdip.stack import Plan
    from napari_vdip.tiling import Region

Array = NDArray[np.float32]


class Source:
    """The planes of an array, each read when it is asked for.

    Each is checked when it is read; `check` reads all.

    Parameters
    ----------
    array : array
        Of a real type, see `images.as_source`.
    planes : Plan
        Its planes.
    settings : Settings
        What the planes are checked for.
    region : tuple, optional
        Rows and columns to deconvolve, see `tiling.as_region`.

    Attributes
    ----------
    settings : Settings
        As given.
    planes : Plan
        The planes of the result.
    region : tuple of slice or None
        Rows and columns of the array that the result is of.
    size : tuple of int
        Height and width of what `read` returns: the region with some context around it.
    inside : tuple of slice
        Where the region is in that.

    Raises
    ------
    ValueError
        If the region cannot be used.
    """

    def __init__(self, array: Any, planes: Plan, settings: Settings, region: Any = None):
        self._array, self._all, self._area, self.settings = array, planes, WHOLE, settings
        self.planes, self.inside = planes, WHOLE
        self.region: Region | None = None
        height, width = planes.plane_shape
        if region is not None:
            self.region = as_region(region, (height, width))
            context = [max(window, SMALLEST_CANVAS) for window in settings.psf_shape]
            self._area, self.inside = with_context(self.region, (height, width), (context[0], context[1]))
            self.planes = planes.of_size(*(side.stop - side.start for side in self.region))
            height, width = (side.stop - side.start for side in self._area)
        self.size = height, width
        check_size(self.size, settings)

    @property
    def bounds(self) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """First and end of the region's rows and columns, if not all."""
        if self.region is None:
            return None
        rows, columns = self.region
        return (rows.start, rows.stop), (columns.start, columns.stop)

    def read(self, index: tuple[int, ...]) -> NDArray[Any]:
        """Read a plane ``(Y, X, C)``; a `ValueError` says which it is and what is wrong with it."""
        plane = self._all.take(self._array, index, self._area)
        check_plane(plane, self.settings, self.name(index))
        return np.asarray(plane)

    def check(self) -> None:
        """Read every plane.

        Raises
        ------
        ValueError
            If there are bad ones: what is wrong with the first, and the names of all. If all are blank.
        """
        problems, blank = {}, 0
        for index in self.planes.indices:
            try:
                blank += is_blank(self.read(index))
            except ValueError as error:
                problems[self._all.name(index)] = str(error)
        if problems:
            first, *others = problems
            besides = f"; {len(others)} more bad: {listed(others)}" if others else ""
            raise ValueError(problems[first] + besides)
        check_not_all_blank(blank, self.planes)

    def lazy(self, index: tuple[int, ...]) -> Any:
        """Return what `read` would read of a Dask array, as one, unchecked."""
        return self._all.take_lazy(self._array, index, self._area)

    def name(self, index: tuple[int, ...]) -> str:
        """Name of a plane in messages."""
        return ", ".join(filter(None, ("image", self._all.name(index))))


def check_not_all_blank(blank: int, planes: Plan) -> None:
    """Check that there is something to deconvolve where so many planes are blank.

    Raises
    ------
    ValueError
        If that is all of them.
    """
    if blank == len(planes.indices):
        where = "" if blank == 1 else f" in each of {blank} planes"
        raise ValueError(f"image: expected varying intensities, got one single value{where}")


def given_psfs(psf: Any, planes: Plan) -> NDArray[np.float64]:
    """Check given point spread functions; scale each to the sum one, and pad them to odd sides.

    Returns
    -------
    array
        With the axes `Plan.psf_axes`, with one entry where all share.

    Raises
    ------
    ValueError
        If one cannot be used with the planes.
    """
    psfs = planes.as_psfs(psf)
    sides = tuple(planes.psf_axes.index(axis) for axis in "YX")
    last = np.moveaxis(psfs, sides, (-2, -1))
    if any(size > n for size, n in zip(last.shape[-2:], planes.plane_shape, strict=True)):
        raise ValueError(
            f"psf: expected at most {planes.plane_shape} pixels as in the image, got {last.shape[-2:]}"
        )
    sound = np.array([odd(normalised(one)) for one in last.reshape(-1, *last.shape[-2:])])
    return np.moveaxis(sound.reshape(*last.shape[:-2], *sound.shape[1:]), (-2, -1), sides)


class Sink:
    """Where the results of the planes are put, one at a time.

    Parameters
    ----------
    planes : Plan
        The planes of the result.
    settings : Settings
        What is made.
    out : mapping of str to array, optional
        Arrays, of NumPy, Zarr or anything with ``shape``, ``dtype`` and ``__setitem__``, for ``latent``,
        ``std`` and ``reblurred``. If given, ``reblurred`` is kept only if it is among them.

    Attributes
    ----------
    arrays : dict of str to array
        ``latent``, ``reblurred`` and ``std``, as far as they are made and kept, of the shape of the planes:
        those given, and new ones for the others. New ones hold NaN where there is no result, given ones
        what was in them.
    psf : array
        Point spread functions of all planes, see `stack.Plan.psf_shape`.

    Raises
    ------
    ValueError
        If a given array has another shape, holds no real numbers, or has no such result.
    """

    def __init__(self, planes: Plan, settings: Settings, out: Mapping[str, Any] | None = None):
        self._planes = planes
        made = ["latent", "reblurred", "std"] if settings.variational else ["latent", "reblurred"]
        for name, array in (out or {}).items():
            if name not in made:
                raise ValueError(f"out: expected some of {tuple(made)}, got {name!r}")
            found = [getattr(array, what, None) for what in ("shape", "dtype", "__setitem__")]
            if found[0] != planes.shape or np.dtype(found[1]).kind != "f" or found[2] is None:
                raise ValueError(
                    f"out[{name!r}]: expected a writable array of real numbers of shape {planes.shape}, "
                    f"got {type(array).__name__} of {found[1]}, shape {found[0]}"
                )
        self.arrays = dict(out or {})
        for name in made:
            if name not in self.arrays and (out is None or name != "reblurred"):
                size = math.prod(planes.shape) * np.dtype(np.float32).itemsize
                check_memory(size, f"image: expected a result ({name})", planes.shape)
                self.arrays[name] = np.full(planes.shape, np.nan, np.float32)
        self.psf = np.full(planes.psf_shape(settings.psf_shape), np.nan, np.float32)

    def put(self, index: tuple[int, ...], restored: Restored) -> None:
        """Write the result of a plane."""
        for name, array in self.arrays.items():
            self._planes.put(array, index, getattr(restored, name))
        self._planes.put_psf(self.psf, index, restored.psf)
