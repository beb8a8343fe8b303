"""What the verdict says of results that are right, and of others that are wrong in a known way.

    python benchmarks/verdict.py [--data FOLDER] [--only PART-OF-CASE ...]

Generated cells and specimens of 96 pixels with kernels that are given, right and wrong, and found blind;
with a data folder scene 1 of Levin et al. as well. The gain is that over the blurred image, in dB.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from common import Results, add_data_folder, changes_of, environment, parser_for, results_path
from datasets import levin
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve

from napari_vdip import Settings, deconvolve
from napari_vdip.diagnostics import diagnose
from napari_vdip.metrics import aligned_quality
from napari_vdip.scenes import aberrated_psf, airy_psf, cells, gaussian_psf, specimen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Array = NDArray[np.floating]
KINDS = ("cells", "filaments", "nuclei", "beads")
SIDE, PHOTONS, READOUT = 96, 1000.0, 2.0
SEED = 11
"""Of the scenes: none of those that the limits were set on."""
POINT = np.pad([[1.0]], 6)
GAUSSIAN = gaussian_psf(13, 1.5)
WIDE, WIDEST = gaussian_psf(19, 3.0), gaussian_psf(31, 5.0)
VARYING = (1.0, 3.0)
"""Standard deviations in pixels of the blur at the left and at the right."""


@dataclass(frozen=True, eq=False)
class Trial:
    """An image, and what is made of it.

    Attributes
    ----------
    kernel : str
        ``"given"`` or ``"found"``.
    case : str
        What is right or wrong.
    image : str
        Kind of scene, or name of the file.
    blurred, truth : array
        ``(Y, X)``.
    psf : array or None
        The point spread function that is given; ``None`` to find one.
    changes : dict
        Of the settings.
    """

    kernel: str
    case: str
    image: str
    blurred: NDArray[Any]
    truth: NDArray[Any]
    psf: Array | None = None
    changes: dict[str, Any] = field(default_factory=dict)


def main(argv: Sequence[str] | None = None) -> Results:
    """Run from the command line."""
    parser = parser_for(__doc__)
    add_data_folder(parser)
    parser.add_argument("--only", nargs="*", help="parts of names of cases; all if not given")
    arguments = parser.parse_args(argv)
    path = results_path(arguments, "verdict")
    results = Results(path, environment(arguments.device, arguments.seed), resume=arguments.resume)
    changes = changes_of(arguments)
    trials = chain(given(), found(), levin_trials(arguments.data) if arguments.data else ())
    for trial in trials:
        if arguments.only and not any(part in trial.case for part in arguments.only):
            continue
        settings = Settings.preset(arguments.preset, **trial.changes | changes)
        key = {"part": "verdict", "kernel": trial.kernel, "case": trial.case, "image": trial.image}
        key |= {"preset": arguments.preset, "seed": arguments.seed}
        used = settings.asdict()
        if not results.has(key, used):
            row = results.add(key, used, **judged(trial, settings, arguments.device))
            print(f"{trial.kernel}, {trial.case:40s} {trial.image:12s} {row['answer']}", flush=True)
        if arguments.quick:
            break
    return results


def judged(trial: Trial, settings: Settings, device: str | None = None) -> dict[str, Any]:
    """Deconvolve, and return the verdict with its reasons, and the gain."""
    result = deconvolve(trial.blurred, settings, psf=trial.psf, device=device)
    if trial.psf is not None:  # judged as if it had been found
        result = replace(result, settings=settings.replace(psf_shape=trial.psf.shape))
    (one,) = diagnose(result, trial.blurred, device=device)
    spread = float(np.ptp(trial.truth))
    before, after = (
        aligned_quality(np.asarray(image, float), trial.truth, data_range=spread).psnr
        for image in (trial.blurred, result.latent)
    )
    return {
        "answer": one.verdict.answer,
        "reasons": one.verdict.reasons,
        "gain": after - before,
        "seconds": result.seconds,
    }


def given() -> Iterator[Trial]:
    """Yield trials with a kernel that is given."""
    right = {
        "Gaussian": (GAUSSIAN, PHOTONS),
        "Airy": (airy_psf(13, 3.5), PHOTONS),
        "aberrated, 13 px": (aberrated_psf(13), PHOTONS),
        "aberrated, 31 px": (aberrated_psf(31), PHOTONS),
        "100 000 photons": (GAUSSIAN, 100 * PHOTONS),
    }
    cases = [(f"right: {name}", psf, psf, photons) for name, (psf, photons) in right.items()]
    cases += [
        ("window of 7 instead of 19 px", WIDE, cut(WIDE, 7), PHOTONS),
        ("window of 11 instead of 31 px", WIDEST, cut(WIDEST, 11), PHOTONS),
        ("all of the window alike", GAUSSIAN, np.full((13, 13), 1 / 169), PHOTONS),
        ("10 photons", GAUSSIAN, GAUSSIAN, 10.0),
        ("40 photons", GAUSSIAN, GAUSSIAN, 40.0),
        ("sharp input, a point", POINT, POINT, PHOTONS),
        ("sharp input, Gaussian of 1 px", POINT, gaussian_psf(13, 1.0), PHOTONS),
        ("too wide, 2.2 instead of 1.5 px", GAUSSIAN, gaussian_psf(13, 2.2), PHOTONS),
        ("too wide, 1.8 instead of 1.5 px", GAUSSIAN, gaussian_psf(13, 1.8), PHOTONS),
        ("too narrow, 1.0 instead of 1.5 px", GAUSSIAN, gaussian_psf(13, 1.0), PHOTONS),
    ]
    for case, psf, assumed, photons in cases:
        for kind in KINDS:
            yield Trial("given", case, kind, *scene(kind, psf, photons), assumed)
    for kind in KINDS:
        yield Trial("given", "blur that varies", kind, *varying(kind), gaussian_psf(17, 2.0))


def found() -> Iterator[Trial]:
    """Yield trials whose kernel is to be found."""
    cases = [
        ("window that fits", GAUSSIAN, PHOTONS, {"psf_shape": 13}),
        ("window that is too large", GAUSSIAN, PHOTONS, {"psf_shape": 25}),
        ("window of 7 instead of 19 px", WIDE, PHOTONS, {"psf_shape": 7}),
        ("3 rounds", GAUSSIAN, PHOTONS, {"psf_shape": 13, "refinements": 3}),
        ("10 photons", GAUSSIAN, 10.0, {"psf_shape": 13}),
        ("40 photons", GAUSSIAN, 40.0, {"psf_shape": 13}),
        ("sharp input", POINT, PHOTONS, {"psf_shape": 13}),
    ]
    for case, psf, photons, changes in cases:
        for kind in KINDS:
            yield Trial("found", case, kind, *scene(kind, psf, photons), changes=changes)
    for kind in KINDS:
        yield Trial("found", "blur that varies", kind, *varying(kind), changes={"psf_shape": 17})


def levin_trials(data: Path) -> Iterator[Trial]:
    """Yield trials on scene 1 of Levin et al."""
    for one in levin(data):
        if not one.name.startswith("im1") or one.psf is None or one.truth is None:
            continue
        assumed = {
            "right": one.psf,
            "blurred by 1 px": gaussian_filter(np.pad(one.psf, 4), 1.0),
            "turned by a half": one.psf[::-1, ::-1],
        }
        for case, psf in assumed.items():
            yield Trial("given", f"Levin et al.: {case}", one.name, one.image, one.truth, psf)
        changes = {"psf_shape": one.window}
        yield Trial("found", "Levin et al.", one.name, one.image, one.truth, changes=changes)


def scene(kind: str, psf: Array, photons: float) -> tuple[Array, Array]:
    """Return an image of a kind with Poisson's and readout noise, and its truth."""
    latent = sharp(kind, SIDE + len(psf) - 1)
    margin = len(psf) // 2
    return seen(fftconvolve(latent, psf, "valid"), latent[margin:-margin, margin:-margin], photons)


def varying(kind: str) -> tuple[Array, Array]:
    """Return an image whose blur varies from left to right, and its truth."""
    latent = sharp(kind, SIDE)
    left, right = (gaussian_filter(latent, sigma) for sigma in VARYING)
    weight = np.linspace(0, 1, SIDE)
    return seen((1 - weight) * left + weight * right, latent, PHOTONS)


def sharp(kind: str, side: int) -> Array:
    """Return a generated structure."""
    if kind == "cells":
        return cells(side, 3, seed=SEED).latent
    return specimen(kind, POINT, size=side, seed=SEED).latent  # type: ignore[arg-type]


def seen(blurred: Array, truth: Array, photons: float) -> tuple[Array, Array]:
    """Return what a camera makes of an image whose brightest pixel expects some photons, and its truth."""
    rng, scale = np.random.default_rng(SEED), photons / blurred.max()
    counts = rng.poisson(scale * blurred.clip(0)) + rng.normal(0, READOUT, blurred.shape)
    return counts.astype(np.float32), scale * truth


def cut(psf: Array, side: int) -> Array:
    """Return the middle of a point spread function, of sum one."""
    edge = (len(psf) - side) // 2
    middle = psf[edge:-edge, edge:-edge]
    return middle / middle.sum()


if __name__ == "__main__":
    main()
