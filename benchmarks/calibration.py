"""Calibration of the std map on scenes with a known truth.

    python benchmarks/calibration.py [--data FOLDER]

Generated cells and specimens at several noise levels, with several point spread functions; with a data
folder the images of Levin et al. as well. Errors are taken after alignment.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from common import Results, add_data_folder, changes_of, environment, parser_for, results_path
from datasets import Case, from_scene, levin
from scipy.stats import norm, spearmanr

from napari_vdip import Settings, deconvolve
from napari_vdip.metrics import align, shifted
from napari_vdip.scenes import airy_psf, cells, gaussian_psf, specimen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NOMINAL = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
PHOTONS = (100.0, 1000.0, 10_000.0)
PSFS = {"gauss11": gaussian_psf(11, 1.8), "airy15": airy_psf(15, 3.5)}


def main(argv: Sequence[str] | None = None) -> Results:
    """Run from the command line."""
    parser = parser_for(__doc__)
    add_data_folder(parser)
    parser.add_argument("--only", nargs="*", help="parts of names of scenes; all if not given")
    arguments = parser.parse_args(argv)
    path = results_path(arguments, "calibration")
    results = Results(path, environment(arguments.device, arguments.seed), resume=arguments.resume)
    changes = changes_of(arguments)
    cases = chain(scenes(arguments.seed), levin(arguments.data) if arguments.data else ())
    for case in cases:
        if arguments.only and not any(part in case.name for part in arguments.only):
            continue
        chosen = case.cropped(96) if arguments.quick else case
        settings = Settings.preset(arguments.preset, **{"psf_shape": case.window, **changes})
        key = {
            "dataset": case.dataset,
            "image": case.name,
            "preset": arguments.preset,
            "seed": arguments.seed,
        }
        used = settings.asdict()
        if not results.has(key, used):
            row = results.add(key, used, **case.notes, **measure(chosen, settings, arguments.device))
            print(
                f"{case.name:24s} covered {row['covered']:.3f}  rank {row['rank_correlation']:.3f}",
                flush=True,
            )
        if arguments.quick:
            break
    return results


def scenes(seed: int) -> Iterator[Case]:
    """Yield generated scenes of several kinds, noise levels and point spread functions."""
    for photons in PHOTONS:
        notes = {"photons": photons, "psf": "aberrated"}
        for size in (13, 21):
            scene = cells(psf_size=size, photons=photons, seed=seed)
            yield from_scene(scene, "cells", f"cells_{size}_{photons:.0f}", notes)
        for kind in ("filaments", "nuclei", "beads"):
            for name, psf in PSFS.items():
                scene = specimen(kind, psf, photons=photons, seed=seed)
                notes = {"photons": photons, "psf": name}
                yield from_scene(scene, "specimens", f"{kind}_{name}_{photons:.0f}", notes)


def measure(case: Case, settings: Settings, device: str | None) -> dict[str, Any]:
    """Deconvolve a case and compare errors with deviations."""
    result = deconvolve(case.image, settings, device=device)
    if result.std is None or case.truth is None:
        raise ValueError(f"{case.name}: expected a std map and a truth")
    best, target, by = align(result.latent, case.truth)
    error, std = np.abs(best - target), shifted(result.std, by)
    empirical = coverage(error, std, NOMINAL)
    return {
        "nominal": NOMINAL,
        "empirical": empirical,
        "covered": coverage(error, std, [2 * norm.cdf(1.96) - 1])[0],
        "rank_correlation": float(spearmanr(error.ravel(), std.ravel()).statistic),
        "psnr": float(10 * np.log10(case.data_range**2 / np.mean(error**2))),
        "rms_error": float(np.sqrt(np.mean(error**2))),
        "rms_std": float(np.sqrt(np.mean(std**2))),
        "seconds": result.seconds,
    }


def coverage(error: Any, std: Any, nominal: Sequence[float]) -> list[float]:
    """Part of the errors inside the central interval of each nominal probability of a normal law."""
    return [float(np.mean(error <= norm.ppf((1 + level) / 2) * std)) for level in nominal]


if __name__ == "__main__":
    main()
