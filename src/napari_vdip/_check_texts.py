"""What measures of a result say, in words and units for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_vdip._checked import Checked
    from napari_vdip.diagnostics import Diagnosis
    from napari_vdip.psf_measures import PsfMeasures, Widths

NOTHING = "Run a deconvolution, or select a layer of a result: here it is said how far it can be trusted."
UNFINISHED = (
    "This result has no verdict: its run is not over, its latent or PSF layer is gone, or another version "
    "made it."
)
CALIBRATION = "https://napari-vdip.github.io/napari-vdip/benchmarks.html#calibration"
"""Where the calibration of the std map is measured."""
STD = (
    "The std map is the standard deviation of each pixel, in the grey values of the input, given the point "
    "spread function and the noise. Dark is sure: from {low} (black) to {high} (pale yellow)."
)
NO_STD = "There is no std map: the method is not variational, or the result is an earlier estimate."
CALIBRATED = (
    "<b>Calibrated</b> on generated scenes where the point spread function was found: most true "
    "intensities are within two standard deviations. <b>Not calibrated</b> where it was not found, and in "
    "dense, fine texture: then the map is too small, also if the verdict is good."
)
NO_DOUBT = "The plane is blank: nothing was estimated, and the std map is zero."
VEIL = (
    "The doubt is the std map relative to the latent image, in blue over it: clear where that is sure, and "
    "fully blue where the std is the standard deviation of the whole plane, or more."
)
SECOND_RUN = {
    "two seeds": (
        "Try another seed",
        "Estimate the point spread function of this plane again with another seed, and say how well both "
        "agree.",
    ),
    "with networks": (
        "Try networks",
        "Estimate the point spread function of this plane again, with networks and another seed, and say "
        "how well both agree. This run had no networks, without which next to nothing in it is random: so "
        "more than the seed differs. It takes several times longer.",
    ),
}
"""Name of the agreement with a second run, and label and tooltip of the button that makes it."""
UNITS = {"micrometer": "µm", "pixel": "px"}


def psf_facts(
    psf: PsfMeasures, pixel_size: tuple[float, float] | None, theoretical: float | None
) -> dict[str, str]:
    """Say what a point spread function is like; pixel size and theoretical width are in micrometres."""
    size = {"pixel size": f"{pixel_size[0]:.3g} x {pixel_size[1]:.3g} µm"} if pixel_size else {}
    widths = psf.physical or psf.pixels
    y, x = (round(off, 2) + 0.0 for off in psf.centroid)  # no minus before a zero
    return size | {
        "FWHM": _lengths(widths.fwhm_axes, widths) + in_pixels(psf.pixels.fwhm_axes, psf),
        "second moments": _lengths(widths.sigma, widths) + in_pixels(psf.pixels.sigma, psf),
        "major axis": f"{psf.pixels.angle:.0f}° from x towards y",
        "by diffraction": diffraction(psf, theoretical),
        "centroid": f"{y:+.2f}, {x:+.2f} px from the middle (y, x)",
        "at the border": f"{psf.border:.1%} of its mass",
        "concentration": f"energy {psf.energy:.3f}, entropy {psf.entropy:.1f} nats",
    }


def diffraction(psf: PsfMeasures, theoretical: float | None) -> str:
    """Say what width a wide-field microscope has, beside the one that was found."""
    if psf.physical is None:
        return "needs the pixel size"
    if theoretical is None:
        return "needs wavelength and NA"
    ratio = max(psf.physical.fwhm_axes) / theoretical
    narrower = psf.narrower_than(theoretical)
    beside = "this is narrower than can be" if narrower else f"this is {ratio:.1f} times as wide"
    return f"{theoretical:.3g} µm; {beside}"


def window_advice(psf: PsfMeasures, *, given: bool) -> str:
    """Say whether the window fits, and whether the point spread function is almost a point."""
    window = _by(psf.window)
    if given:
        return f"The window of {window} pixels is that of the given point spread function."
    said = {
        "larger window": f"The window of {window} pixels cuts it off: take a larger window.",
        "smaller window": f"The window of {window} pixels is larger than needed: a smaller one is faster.",
        "": f"The window of {window} pixels fits.",
    }[psf.advice]
    if psf.near_point:
        said += " It is almost a point: the input may be sharp already, or its blur was not found."
    return said


def use_window(psf: PsfMeasures) -> str:
    """Label of the button that takes the suggested window over."""
    return f"Use a window of {_by(psf.suggested)}"


def std_legend(low: float, high: float) -> str:
    """Say what the std map shows between its contrast limits."""
    return STD.format(low=grey(low), high=grey(high))


def calibrated(found: Diagnosis | None) -> str:
    """Say how far the std map is calibrated, and first what the verdict makes of that."""
    if found is None or found.verdict.answer == "good":
        return CALIBRATED
    if found.verdict.answer == "blank":
        return NO_DOUBT
    return f"<b>Here it is likely too small</b>, since the verdict is {found.verdict.answer}. {CALIBRATED}"


def grey(value: float) -> str:
    """Write a grey value without a power of ten."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def residual_facts(found: Diagnosis) -> dict[str, str]:
    """Say what the residual and the input are like."""
    residual, clipped = found.residual, found.clipping
    facts = {}
    if residual:
        facts = {
            "chi-square": f"{residual.chi_square:.2f}, where a right result leaves "
            f"{residual.expected_chi_square:.2f}",
            "neighbours": f"correlation {residual.correlation:+.2f}, where a right result leaves "
            f"{residual.expected_correlation:+.2f}",
            "whiteness": f"{residual.whiteness:.1f}, where a right result leaves about 1",
            "signal to noise": f"{residual.signal_to_noise:.3g} (variances)",
        }
        if residual.beyond_noise:
            facts["beyond noise"] = (
                "what squared errors of the point spread function would leave that sum to "
                f"{residual.psf_error:.2g}"
            )
    if clipped:
        high, low = (f"{part:.2%}" if part else "none" for part in (clipped.highest, clipped.lowest))
        facts["clipped input"] = f"{high} at the highest, {low} at the lowest value"
    return facts


def second_run(this: Checked) -> str:
    """Return the name of the agreement with a second run in `SECOND_RUN`."""
    return "two seeds" if this.result.settings.network_steps else "with networks"


def agreement_of(value: float) -> str:
    """Say how well two runs agree."""
    return f"{value:.3f}, where 1 is the same and 0 has nothing in common"


def in_pixels(sizes: tuple[float, float], psf: PsfMeasures) -> str:
    """Say sizes in pixels too, if they are not already."""
    return f" ({sizes[0]:.1f} x {sizes[1]:.1f} px)" if psf.physical else ""


def _lengths(sizes: tuple[float, float], widths: Widths) -> str:
    return f"{sizes[0]:.3g} x {sizes[1]:.3g} {UNITS.get(widths.unit, widths.unit)}"


def _by(sides: tuple[int, int]) -> str:
    return f"{sides[0]} x {sides[1]}"
