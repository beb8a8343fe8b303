"""A plain verdict on a result, with its reasons.

The limits were set on generated scenes with known kernels, right and wrong; see docs/reading-results.md. A
blind method does not see everything: a kernel that is too narrow leaves the residual of a right one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from napari_vdip.course import FINISHED

if TYPE_CHECKING:
    from napari_vdip.psf_measures import PsfMeasures
    from napari_vdip.residual import Clipping, ResidualMeasures

Answer = Literal["good", "look closer", "do not trust", "blank"]
ANSWERS: tuple[Answer, ...] = ("good", "look closer", "do not trust")
"""Of what was estimated, from the best to the worst."""
MISFIT = (1.15, 1.25)
"""Chi-square relative to the expected one above which to look closer, and not to trust."""
WRONG_PSF = (0.005, 0.008)
"""The same of the sum of squared errors of the point spread function that would leave the residual of..."""
SHARP = 0.125
"""...images that leave more beyond noise than this: edges as fine as pixels show what is wrong with it."""
STRUCTURE = 0.03
"""Difference of the neighbours' correlation from the expected one above which to look closer..."""
SIGNIFICANT = 3.0
"""...if it is also more than as many standard errors. What is left beside noise, where detail is as fine as
pixels, is never white, whatever the point spread function."""
FAINT = (10.0, 2.0)
"""Signal-to-noise ratio, of variances, below which to look closer, and not to trust."""
SATURATED = 0.001
"""Part of the pixels at the highest value, see `residual.clipping`."""
DARK = 0.01
"""Part of the pixels at the lowest value."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verdict on a plane.

    Attributes
    ----------
    answer : str
        ``"good"``, ``"look closer"`` or ``"do not trust"``: the worst that a reason asks for. ``"blank"``
        where there was nothing to estimate.
    reasons : tuple of str
        A sentence each.
    """

    answer: Answer
    reasons: tuple[str, ...]


NOTHING_ESTIMATED = Verdict(
    "blank", ("The plane is blank: it holds one single value, and passed through. Nothing was estimated.",)
)


def judge(
    psf: PsfMeasures,
    residual: ResidualMeasures | None,
    clipped: Clipping | None,
    stopped: str = FINISHED,
    given: bool = False,
    theoretical: float | None = None,
) -> Verdict:
    """Judge a result by its measures.

    Parameters
    ----------
    psf : PsfMeasures
        Of the point spread function.
    residual, clipped : optional
        Of the residual and of the input, where there is one.
    stopped : str
        Why the run ended.
    given : bool
        Whether the point spread function was known: then its window is as it should be, and it may be
        almost a point.
    theoretical : float, optional
        Full width at half maximum of the diffraction, in the unit of ``psf.physical``: what the residual
        cannot see, a point spread function that is too narrow, is seen beside it.
    """
    found: list[tuple[int, str]] = []
    if stopped != FINISHED:
        found.append((1, f"The run ended early: {stopped}."))
    if not given:
        found += _of_psf(psf)
    if psf.narrower_than(theoretical):
        found.append((1, _beside_diffraction(psf, theoretical)))
    if clipped:
        found += _of_input(clipped)
    if residual:
        found += _of_residual(residual)
    else:
        found.append((1, "The residual is unknown, as there is no input to compare with."))
    worst = max((severity for severity, _ in found), default=0)
    left = _left(residual) if residual else ""
    fine = f"The residual is what {left}, and the point spread function fits its window."
    return Verdict(ANSWERS[worst], tuple(reason for _, reason in found) or (fine,))


def _of_psf(psf: PsfMeasures) -> list[tuple[int, str]]:
    found = []
    width = psf.pixels.fwhm_axes[0]
    if psf.near_point:
        found.append(
            (
                1,
                f"The point spread function is almost a point, {width:.1f} pixels wide (energy "
                f"{psf.energy:.2f}): the input may be sharp already, or its blur was not found.",
            )
        )
    if psf.advice == "larger window":
        window = " x ".join(map(str, psf.suggested))
        found.append(
            (
                1,
                f"The window cuts the point spread function off, {psf.border:.0%} of which is on the "
                f"border: try {window} pixels.",
            )
        )
    return found


def _beside_diffraction(psf: PsfMeasures, theoretical: float | None) -> str:
    widths = psf.physical
    assert widths is not None
    return (
        f"The point spread function is {max(widths.fwhm_axes):.3g} {widths.unit} wide, narrower than "
        f"diffraction allows, {theoretical:.3g}: it, or one of wavelength, NA and pixel size, is wrong."
    )


def _of_input(clipped: Clipping) -> list[tuple[int, str]]:
    found = []
    if clipped.highest > SATURATED:
        found.append(
            (1, f"{clipped.highest:.1%} of the input has the highest value: it is saturated there.")
        )
    if clipped.lowest > DARK:
        found.append(
            (
                1,
                f"{clipped.lowest:.1%} of the input has the lowest value: its dark parts are cut off, or "
                "hold too few photons.",
            )
        )
    return found


def _of_residual(residual: ResidualMeasures) -> list[tuple[int, str]]:
    found = []
    snr = residual.signal_to_noise
    if snr < FAINT[0]:
        hidden = snr < FAINT[1]
        says = "too little to find a blur" if hidden else "little to find a blur"
        found.append(
            (
                1 + hidden,
                f"The input has {max(snr, 0):.1f} times the variance of its noise, {says}.",
            )
        )
    if residual.beyond_noise > SHARP:
        error = residual.psf_error
        if error > WRONG_PSF[0]:
            found.append(
                (
                    2 if error > WRONG_PSF[1] else 1,
                    "The residual is what errors of the point spread function would leave whose squares "
                    f"sum to {error:.2g}, more than {WRONG_PSF[0]}: it is wrong, or varies over the field.",
                )
            )
        return found
    ratio = residual.chi_square / residual.expected_chi_square
    difference = residual.correlation - residual.expected_correlation
    why = "too few steps, too wide a point spread function or one that varies over the field"
    if ratio > MISFIT[0]:
        found.append(
            (
                2 if ratio > MISFIT[1] else 1,
                f"The residual has {ratio:.2f} times the power that {_left(residual)}: {why}.",
            )
        )
    elif not residual.beyond_noise and difference > STRUCTURE and residual.deviation > SIGNIFICANT:
        found.append(
            (
                1,
                f"Neighbours in the residual are alike, {difference:+.2f} in correlation more than noise "
                f"leaves: {why}.",
            )
        )
    return found


def _left(residual: ResidualMeasures) -> str:
    return "noise and the model's own errors leave" if residual.beyond_noise else "noise leaves"
