"""How far a result can be trusted: point spread function, residual and a verdict for each plane."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_vdip import stack
from napari_vdip.course import FINISHED
from napari_vdip.images import as_source, is_blank
from napari_vdip.psf_measures import PsfMeasures, measure_psf, theoretical_width
from napari_vdip.residual import (
    Clipping,
    ResidualMeasures,
    clipping,
    measure_residual,
    valid_reblurred,
)
from napari_vdip.tiling import WHOLE
from napari_vdip.verdict import NOTHING_ESTIMATED, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch
    from numpy.typing import NDArray

    from napari_vdip.result import Deconvolution
    from napari_vdip.tiling import Region

SMALLEST = 32
"""Side in pixels of what is left without its border below which a residual tells nothing."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Lengths of the optics in one unit: height and width of a pixel, and the width of the diffraction."""

    pixel_size: tuple[float, float] | None = None
    unit: str = "micrometer"
    theoretical: float | None = None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What can be said of the result of one plane.

    Attributes
    ----------
    plane : str
        Which it is, such as ``"T=3, C=1"``; empty where there is only one.
    index : tuple of int
        Its index in the stacked axes.
    verdict : Verdict
        The answer and its reasons.
    psf : PsfMeasures or None
        Of the point spread function; ``None`` for a plane that was not reached, or is blank.
    theoretical : float or None
        Full width at half maximum of the diffraction of a wide-field microscope, in the unit of the pixel
        size.
    residual : ResidualMeasures or None
        Of the residual, if the input is known.
    clipping : Clipping or None
        Of the input, if it is known.
    relative_std : float or None
        Mean of the std map over the standard deviation of the latent image.
    stopped : str
        Why the plane ended.
    given : bool
        Whether the point spread function was given.
    """

    plane: str
    index: tuple[int, ...]
    verdict: Verdict
    psf: PsfMeasures | None
    theoretical: float | None = None
    residual: ResidualMeasures | None = None
    clipping: Clipping | None = None
    relative_std: float | None = None
    stopped: str = FINISHED
    given: bool = False

    def asdict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def diagnose(
    result: Deconvolution,
    image: Any = None,
    *,
    pixel_size: tuple[float, float] | None = None,
    unit: str = "micrometer",
    wavelength: float | None = None,
    na: float | None = None,
    device: str | None = None,
) -> list[Diagnosis]:
    """Diagnose a result, plane by plane.

    The residual is compared with that of a replica, which is restored with the same point spread function:
    about as long as one known plane of 256 pixels takes.

    Parameters
    ----------
    result : Deconvolution
        The result. Where it has not kept `reblurred`, the latent image is blurred again, and the residual
        is examined without the border that this leaves out.
    image : array, optional
        What was deconvolved: the whole, also if the result is of a region. Without it there is no residual.
    pixel_size : tuple of float, optional
        Height and width of a pixel.
    unit : str
        Unit of `pixel_size` and `wavelength`.
    wavelength, na : float, optional
        Emission wavelength and numerical aperture of a wide-field fluorescence microscope.
    device : str, optional
        See `deconvolution.deconvolve`.

    Returns
    -------
    list of Diagnosis
        One for each plane, in the order of the planes.

    Raises
    ------
    ValueError
        If the image has another shape than what was deconvolved, or only one of wavelength and numerical
        aperture is given.

    Examples
    --------
    >>> from napari_vdip import deconvolve
    >>> from napari_vdip.scenes import cells
    >>> scene = cells(size=64, psf_size=9)
    >>> result = deconvolve(scene.blurred, psf=scene.psf)
    >>> [one.verdict.answer for one in diagnose(result, scene.blurred)]
    ['good']
    """
    scale = Scale(pixel_size, unit, theoretical(wavelength, na))
    planes = stack.plan(result.latent.shape, result.axes, result.settings.channels)
    last = [index for index in planes.indices if _reached(result, planes, index)][-1:]
    return list(diagnoses(result, image, scale, dict.fromkeys(last, result.stopped), device))


def theoretical(wavelength: float | None, na: float | None) -> float | None:
    """Return the theoretical width if both are given; a `ValueError` if one is, or is not positive."""
    if wavelength is None and na is None:
        return None
    if wavelength is None:
        raise ValueError("wavelength: expected one with a numerical aperture, got None")
    if na is None:
        raise ValueError("na: expected a numerical aperture with a wavelength, got None")
    return theoretical_width(wavelength, na)


def judged_beside(found: Diagnosis, width: float | None) -> Diagnosis:
    """Judge a plane again beside another theoretical width, in the unit of the pixel size.

    Nothing is measured again. A plane of which nothing was estimated stays as it is.
    """
    if found.psf is None:
        return found
    verdict = judge(found.psf, found.residual, found.clipping, found.stopped, found.given, width)
    return replace(found, theoretical=width, verdict=verdict)


def diagnoses(
    result: Deconvolution,
    image: Any,
    scale: Scale,
    ended: Mapping[tuple[int, ...], str],
    device: str | None = None,
) -> Iterator[Diagnosis]:
    """Yield what `diagnose` returns; `ended` says why planes ended that did not end as they should."""
    from napari_vdip.devices import choose_device

    target = choose_device(device)
    planes = stack.plan(result.latent.shape, result.axes, result.settings.channels)
    rows, columns = (slice(*side) for side in result.region) if result.region else WHOLE
    source = None if image is None else as_source(image)
    if source is not None:
        _check_shape(source, planes, result)
    for index in planes.indices:
        if not _reached(result, planes, index):
            says = Verdict("do not trust", (f"The run ended before this plane: {result.stopped}.",))
            yield Diagnosis(planes.name(index), index, says, None)
            continue
        plane = None if source is None else planes.take(source, index, (rows, columns))
        yield _diagnosis(result, planes, index, plane, ended.get(index, FINISHED), scale, target)


def reblurred_plane(
    result: Deconvolution, planes: stack.Plan, index: tuple[int, ...]
) -> tuple[NDArray[np.floating], Region]:
    """Return the re-blurred latent image of a plane, and the rows and columns of the plane that it is of.

    These are all where the run has kept it. Else the latent image is blurred again, without its border.
    """
    if result.reblurred is not None:
        return planes.take(result.reblurred, index), WHOLE
    return valid_reblurred(planes.take(result.latent, index), planes.take_psf(result.psf, index))


def relative_std(std: NDArray[np.floating], latent: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return a plane's std map over the standard deviation of its latent image, which is the doubt."""
    return std / np.float32(latent.std(dtype=np.float64) or 1.0)


def _reached(result: Deconvolution, planes: stack.Plan, index: tuple[int, ...]) -> bool:
    return bool(np.isfinite(planes.take_psf(result.psf, index)).all())


def _check_shape(image: Any, planes: stack.Plan, result: Deconvolution) -> None:
    """Check that an image can be what a result was made from."""
    expected = planes.shape
    if result.region and len(image.shape) == len(expected):
        sides = dict(zip(planes.axes, image.shape, strict=True))
        expected = planes.of_size(sides["Y"], sides["X"]).shape
        inside = all(end <= sides[axis] for axis, (_, end) in zip("YX", result.region, strict=True))
        expected = expected if inside else planes.shape
    if tuple(image.shape) != expected:
        raise ValueError(f"image: expected the shape of the source, such as {expected}, got {image.shape}")


def _diagnosis(
    result: Deconvolution,
    planes: stack.Plan,
    index: tuple[int, ...],
    image: NDArray[Any] | None,
    ended: str,
    scale: Scale,
    device: torch.device,
) -> Diagnosis:
    """Diagnose one plane; the image is ``(Y, X, C)``."""
    latent = planes.take(result.latent, index)
    if is_blank(latent) and (image is None or is_blank(image)):
        return Diagnosis(planes.name(index), index, NOTHING_ESTIMATED, None)
    psf = np.asarray(planes.take_psf(result.psf, index))
    measures = measure_psf(psf, scale.pixel_size, scale.unit)
    residual = clipped = relative = None
    if image is not None:
        clipped = clipping(image)
        reblurred, inside = reblurred_plane(result, planes, index)
        image = image[inside]
        if min(image.shape[:2]) >= SMALLEST:
            residual = measure_residual(image, reblurred, psf, result.settings, device)
    if result.std is not None:
        relative = float(relative_std(planes.take(result.std, index), latent).mean(dtype=np.float64))
    given = result.settings.psf_source == "given"
    verdict = judge(measures, residual, clipped, ended, given, scale.theoretical)
    return Diagnosis(
        plane=planes.name(index),
        index=index,
        verdict=verdict,
        psf=measures,
        theoretical=scale.theoretical,
        residual=residual,
        clipping=clipped,
        relative_std=relative,
        stopped=ended,
        given=given,
    )
