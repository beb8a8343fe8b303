"""Images in and out: what is accepted, and how intensities meet the generators' range."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from napari_vdip.settings import SMALLEST_CANVAS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_vdip.settings import Settings


LARGEST_INTENSITY = 1e35
"""A latent image, float32, is up to a thousand times brighter than its blurred version."""
FEWEST_LEVELS = 16
"""Values of float32 between the darkest and the brightest pixel, so that a result is more than rounding."""
BYTES_PER_PIXEL = 32
"""What a plane takes at least: source, latent image, std map and what is computed with, in float32."""


@dataclass(frozen=True, slots=True)
class Intensities:
    """Affine map between the source's intensities and the generators' range [0, 1].

    Attributes
    ----------
    offset : float
        Source intensity that maps to 0.
    scale : float
        Source intensities per unit.
    """

    offset: float
    scale: float

    @classmethod
    def of(cls, image: NDArray[Any], headroom: float | None) -> Intensities:
        """Map for a ``(Y, X, C)`` image.

        With a headroom, the image's own range is placed so that this part of [0, 1] stays free on
        both sides. Without, the published rule: the range of an 8- or 16-bit type, or [0, 1].
        """
        low, high = float(image.min()), float(image.max())
        if headroom is None:
            if image.dtype.newbyteorder("=") in (np.uint8, np.uint16):
                return cls(0.0, float(np.iinfo(image.dtype).max))
            if low >= 0 and high <= 1:
                return cls(0.0, 1.0)
            headroom = 0.0
        scale = (high - low) / (1 - 2 * headroom)
        return cls(low - headroom * scale, scale)

    def to_tensor(self, image: NDArray[Any]) -> Tensor:
        """``(Y, X, C)`` in source units to ``(1, C, Y, X)`` float32 in [0, 1]."""
        import torch

        unit = (np.asarray(image, np.float64) - self.offset) / self.scale
        return torch.from_numpy(np.moveaxis(unit, -1, 0)[None].astype(np.float32))

    def to_array(self, tensor: Tensor) -> NDArray[np.float32]:
        """``(1, C, Y, X)`` in [0, 1] to ``(Y, X, C)`` float32 in source units."""
        unit = tensor.detach().cpu().numpy()[0].astype(np.float64)
        array: NDArray[np.float32] = np.moveaxis(unit * self.scale + self.offset, 0, -1)
        return array.astype(np.float32)

    def to_deviation(self, tensor: Tensor) -> NDArray[np.float32]:
        """Like `to_array`, for differences and standard deviations: without the offset."""
        return Intensities(0.0, self.scale).to_array(tensor)


def as_array(image: Any, name: str = "image") -> NDArray[Any]:
    """Check that something is a non-empty array of real numbers, and return it as NumPy array.

    Raises
    ------
    ValueError
        If it is not; the message says what came.
    """
    try:
        array = np.asanyarray(image)
    except (TypeError, RuntimeError, ValueError) as error:  # a ragged list, a tensor with its history
        raise ValueError(f"{name}: expected an array, got {type(image).__name__}: {error}") from None
    if np.ma.is_masked(array):
        raise ValueError(f"{name}: expected no masked pixels, got {np.ma.count_masked(array)}")
    array = np.asarray(array)
    if array.dtype.kind == "O":
        raise ValueError(
            f"{name}: expected an array of integers or real numbers, got {type(image).__name__}"
        )
    check_type(array, name)
    return array


def as_source(image: Any) -> Any:
    """Check that something is an array, as `as_array` does; one that is read in parts stays what it is."""
    if not is_lazy(image):
        return as_array(image)
    check_type(image)
    return image


def check_type(array: Any, name: str = "image") -> None:
    """Check shape and type of an array, of whatever kind, without reading it.

    Raises
    ------
    ValueError
        If it is empty or not of real numbers.
    """
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name}: expected an array of integers or real numbers, got {array.dtype}")
    if not all(isinstance(size, Integral) for size in array.shape):
        raise ValueError(
            f"{name}: expected a known shape, got {array.shape}: compute_chunk_sizes() finds it"
        )
    if 0 in array.shape:
        raise ValueError(f"{name}: expected at least one pixel, got shape {array.shape}")


def is_lazy(image: Any) -> bool:
    """Whether an array is no NumPy array, but can be read in parts, as those of Dask and Zarr."""
    return (
        not isinstance(image, np.ndarray | np.generic)
        and hasattr(image, "__getitem__")
        and hasattr(image, "shape")
        and isinstance(getattr(image, "dtype", None), np.dtype)
    )  # not a tensor of PyTorch, which NumPy converts


def named_axes(image: Any) -> str | None:
    """Return the axes that an array of Zarr names, if they are single letters with Y and X."""
    names = [*map(str, getattr(getattr(image, "metadata", None), "dimension_names", None) or ())]
    letters = "".join(names)
    return letters if {"Y", "X"} <= set(letters.upper()) and all(len(name) == 1 for name in names) else None


def check_size(shape: tuple[int, int], settings: Settings, name: str = "image") -> None:
    """Check that a plane of ``(Y, X)`` pixels is large enough for these settings.

    Raises
    ------
    ValueError
        If it is smaller than the point spread function or than the networks need.
    """
    for size, window, side in zip(shape, settings.psf_shape, ("height", "width"), strict=True):
        networks = 0 if settings.psf_source == "given" else SMALLEST_CANVAS - window + 1
        smallest = max(window, networks)
        if size < smallest:
            raise ValueError(
                f"{name}: expected a {side} of at least {smallest} pixels for a psf_shape of "
                f"{settings.psf_shape}, got {size}"
            )
    check_memory(BYTES_PER_PIXEL * shape[0] * shape[1], f"{name}: expected a plane", shape)


def check_memory(size: int, expected: str, shape: tuple[int, ...]) -> None:
    """Check that something of some bytes can be in memory, before the system ends the process for it.

    Raises
    ------
    ValueError
        If the machine has not so much.
    """
    total = psutil.virtual_memory().total
    if size > total:
        raise ValueError(
            f"{expected} within the memory of {total / 2**30:.3g} GiB, got {size / 2**30:.3g} GiB for "
            f"{' x '.join(map(str, shape))} pixels: choose a region"
        )


def is_blank(plane: NDArray[Any]) -> bool:
    """Whether each channel of a ``(Y, X, C)`` plane holds one single value."""
    return bool((plane == plane[:1, :1]).all())


def check_plane(plane: NDArray[Any], settings: Settings, name: str = "image") -> None:
    """Check that a ``(Y, X, C)`` plane can be deconvolved with these settings, or is blank.

    Raises
    ------
    ValueError
        If a pixel is masked or not finite, only some channels vary, intensities are too large or too close
        to each other for float32, or the plane is too small.
    """
    check_size((plane.shape[0], plane.shape[1]), settings, name)
    if np.ma.is_masked(plane):
        raise ValueError(f"{name}: expected no masked pixels, got {np.ma.count_masked(plane)}")
    if not np.isfinite(plane).all():
        bad = int(np.size(plane) - np.isfinite(plane).sum())
        raise ValueError(f"{name}: expected finite intensities, got {bad} that are NaN or infinite")
    blank = is_blank(plane)
    for channel in range(plane.shape[-1]):
        low, high = plane[..., channel].min(), plane[..., channel].max()
        if low == high and not blank:
            raise ValueError(f"{name}: expected varying intensities, got {low} in every pixel")
        largest = max(abs(float(low)), abs(float(high)))
        if largest > LARGEST_INTENSITY:
            raise ValueError(
                f"{name}: expected intensities of at most {LARGEST_INTENSITY:g}, got {largest:g}"
            )
        apart = (float(high) - float(low)) / float(np.spacing(np.float32(largest)))
        if apart < FEWEST_LEVELS and not blank:
            raise ValueError(
                f"{name}: expected a range of at least {FEWEST_LEVELS} values of float32, got {low} to "
                f"{high}: subtract the offset"
            )
