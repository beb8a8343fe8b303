"""Quality of blind deconvolution on public and generated images, beside other methods.

    python benchmarks/quality.py --data FOLDER [--datasets levin specimens] [--methods blurred default]

Without --data the folder is that of the environment variable NAPARI_VDIP_DATA; ``specimens`` and ``noise``
need none. Rows are written one by one as JSON, with a mean for each dataset and method at the end.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from common import Results, add_data_folder, changes_of, environment, parser_for, results_path
from datasets import DATASETS, GENERATED, Case, downsampled, luma
from noreference import reasons, scores
from peers import PEERS, Restoration, rl_true
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity

from napari_vdip import Settings, deconvolve
from napari_vdip.metrics import align, aligned_quality, best_correlation, error_ratio, kernel_error, shifted
from napari_vdip.settings import METHODS, PRESETS

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

SELFDEBLUR = {
    **METHODS["DIP"],
    "prefit_steps": 0,
    "bound_until": 0.2,
    "similarity_from": 0.2,
    "psf_prior_weight": 0.0,
}
"""SelfDeblur as near as our settings come: no pre-fit, no priors, data term for 1 000 of 5 000 steps, then
structural similarity. It differs in its input's depth and jitter and in the data term's differences."""
GAIN = 3.0
"""Decibels over the blurred image below which a result is a failure."""
DEFAULT_METHODS = ("blurred", "default", "rl_true", "wiener_true", "blind_rl", "rl_gaussian")
MEANS = (
    "psnr",
    "ssim",
    "error_ratio",
    "kernel_error",
    "kernel_energy",
    "kernel_energy_true",
    "correlation",
    "covered",
    "rank_correlation",
    "niqe",
    "brisque",
    "piqe",
    "seconds",
)


def main(argv: Sequence[str] | None = None) -> Results:
    """Run from the command line."""
    parser = parser_for(__doc__)
    add_data_folder(parser)
    parser.add_argument("--datasets", nargs="*", choices=tuple(DATASETS))
    parser.add_argument("--methods", nargs="*", choices=all_methods(), default=DEFAULT_METHODS)
    parser.add_argument("--only", nargs="*", help="parts of names of images; all if not given")
    parser.add_argument("--crop", type=int, help="take only the top left of so many pixels a side")
    parser.add_argument("--no-reference", action="store_true", help="NIQE, BRISQUE and PIQE as well")
    arguments = parser.parse_args(argv)
    names = arguments.datasets or (tuple(DATASETS) if arguments.data else GENERATED)
    if arguments.data is None and set(names) - set(GENERATED):
        parser.error("these datasets need --data or NAPARI_VDIP_DATA")
    path = results_path(arguments, "quality")
    record = environment(arguments.device, arguments.seed)
    results = Results(path, record, resume=arguments.resume)
    for name in names:
        for case in chosen(name, arguments):
            for method in arguments.methods:
                try:
                    measure(case, method, arguments, results)
                except ModuleNotFoundError as error:
                    reasons[method] = str(error)
    record["missing"] = dict(reasons)
    results.write()
    for row in means(results.rows):
        values = (f"{key} {value:.4g}" for key, value in row.items() if isinstance(value, float | int))
        print(f"{row['dataset']:10s} {row['method']:16s}", *values)
    return results


def all_methods() -> tuple[str, ...]:
    """Names of the methods that can be measured."""
    return ("blurred", *PRESETS, *METHODS, "SelfDeblur-like", *PEERS)


def chosen(dataset: str, arguments: Namespace) -> Iterator[Case]:
    """Yield the cases of a dataset that the command line asks for."""
    seed = {"seed": arguments.seed} if dataset in GENERATED else {}
    for case in DATASETS[dataset](arguments.data, **seed):
        if arguments.only and not any(part in case.name for part in arguments.only):
            continue
        side = 96 if arguments.quick else arguments.crop
        yield case.cropped(side) if side else case
        if arguments.quick:
            return


def settings_of(case: Case, method: str, arguments: Namespace) -> Settings | None:
    """Return what a method of this project is run with, None for one of others."""
    changes = {"channels": "joint"} if case.image.ndim == 3 else {}
    if case.window is not None:
        changes["psf_shape"] = case.window  # type: ignore[assignment]  # settings differ in type
    changes |= changes_of(arguments)
    if method in PRESETS:
        return Settings.preset(method, **changes)
    if method in METHODS:
        return Settings.preset(arguments.preset, **{**METHODS[method], **changes})
    if method == "SelfDeblur-like":
        return Settings.paper(**{**SELFDEBLUR, **changes})
    return None


def applies(method: str, case: Case) -> bool:
    """Whether a method has what it needs: the true point spread function, or a reference without one."""
    if method == "rl_gaussian":
        return case.reference is not None
    return case.psf is not None or not method.endswith("_true")


def restorations(
    case: Case, method: str, settings: Settings | None, device: str | None
) -> Iterator[Restoration]:
    """Restore an image with a method, once or for several numbers of iterations."""
    if method == "blurred":
        yield Restoration(case.image)
    elif settings is None:
        yield from PEERS[method](case)
    else:
        done = deconvolve(case.image, settings, device=device, axes="YX" if case.image.ndim == 2 else "YXC")
        notes = {"noise_found": float(done.noise.mean()), "stopped": done.stopped}
        yield Restoration(done.latent, done.psf, done.std, done.seconds, notes=notes)


def measure(case: Case, method: str, arguments: Namespace, results: Results) -> None:
    """Add the rows of a case and a method to the results, unless they are there already."""
    if not applies(method, case):
        return
    settings = settings_of(case, method, arguments)
    preset = arguments.preset if method in METHODS else None
    key = {
        "dataset": case.dataset,
        "image": case.name,
        "method": method,
        "preset": preset,
        "crop": case.crop,
        "seed": arguments.seed,
    }
    best_key = {**key, "method": f"{method}_best"}
    used = settings.asdict() if settings else None
    if results.has(key, used) or results.has(best_key, used):
        return
    judged = method != "blurred" and case.truth is not None
    rows = [
        {
            **case.notes,
            "window": settings.psf_shape[0] if settings else case.window,
            "seconds": restored.seconds,
            "iterations": restored.iterations,
            **(restored.notes or {}),
            **compared(case, restored, no_reference=arguments.no_reference),
            "fixed": restored.fixed,
        }
        for restored in restorations(case, method, settings, arguments.device)
    ]
    for row in rows:
        if judged:
            row["failed"] = row["psnr"] < row["psnr_blurred"] + GAIN
            row["worse"] = row["psnr"] < row["psnr_blurred"]
        if row.pop("fixed"):
            show(results.add(key, used, **row))
    if len(rows) > 1:
        score = "psnr" if case.truth is not None else "correlation"
        best = max(rows, key=lambda row: row[score])
        best.pop("fixed", None)
        show(results.add(best_key, used, **best))


def compared(case: Case, restored: Restoration, *, no_reference: bool) -> dict[str, Any]:
    """Measure a restoration against what is known of its case."""
    row: dict[str, Any] = {}
    if case.truth is not None:
        psnr, ssim, by = likeness(case, restored.latent)
        blurred = likeness(case, case.image)[0]
        row |= {"psnr": psnr, "ssim": ssim, "shift": by, "psnr_blurred": blurred}
        if case.psf is not None:
            row["error_ratio"] = error_ratio(grey(restored.latent), known(case), grey(case.truth))
            row["error_ratio_reference"] = "rl_true_best"
        if restored.std is not None and case.truth.ndim == 2:
            row |= calibration(restored, case.truth, by)
    if case.reference is not None:
        row["correlation"], row["shift"] = best_correlation(restored.latent, case.reference)
    if restored.psf is not None:
        row["kernel_energy"] = float(np.sum(np.square(restored.psf)))
        if case.psf is not None:
            row["kernel_error"] = kernel_error(restored.psf, case.psf)
            row["kernel_energy_true"] = float(np.sum(np.square(case.psf)))
    if no_reference:
        top = case.data_range if case.truth is not None else float(np.max(case.image))
        row |= scores(grey(restored.latent), top)
    return row


def likeness(case: Case, image: NDArray[Any]) -> tuple[float, float, tuple[float, float]]:
    """Aligned PSNR, SSIM and shift by the protocol of the case's dataset."""
    if case.dataset != "lai":
        quality = aligned_quality(image, case.truth, data_range=case.data_range)  # type: ignore[arg-type]
        return quality.psnr, quality.ssim, quality.shift
    best, target, by = align(luma(image), luma(case.truth))  # type: ignore[arg-type]  # Lai has truths
    psnr = 10 * np.log10(255**2 / np.mean((best - target) ** 2))
    ssim = structural_similarity(
        downsampled(best),
        downsampled(target),
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    return float(psnr), float(ssim), by


def grey(image: NDArray[Any]) -> NDArray[Any]:
    """Return the luma of a colour image, other images as they are."""
    return luma(image) if image.ndim == 3 else image


@lru_cache(maxsize=1)
def known(case: Case) -> NDArray[Any]:
    """Restoration with the known kernel, for the error ratio: Richardson-Lucy at its best."""
    candidates = (restored.latent for restored in rl_true(case))
    return grey(max(candidates, key=lambda latent: likeness(case, latent)[0]))


def calibration(restored: Restoration, truth: NDArray[Any], by: tuple[float, float]) -> dict[str, float]:
    """Coverage of 1.96 deviations and rank correlation of deviation and error, after alignment."""
    assert restored.std is not None
    latent, std = shifted(restored.latent, by), shifted(restored.std, by)
    error = np.abs(latent - np.asarray(truth, float)[15:-15, 15:-15])
    rank = spearmanr(error.ravel(), std.ravel()).statistic
    return {"covered": float(np.mean(error < 1.96 * std)), "rank_correlation": float(rank)}


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Average the rows of each dataset, method and preset, and count the failures."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["dataset"], row["method"], row["preset"]].append(row)
    return [
        {"dataset": dataset, "method": method, "preset": preset, **mean_of(group)}
        for (dataset, method, preset), group in groups.items()
    ]


def mean_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Average what rows have measured, and count failures and those below their input."""
    averages: dict[str, Any] = {"images": len(rows)}
    for name in MEANS:
        values = [row[name] for row in rows if row.get(name) is not None]
        if values:
            averages[name] = float(np.mean(values))
        if values and name == "psnr":
            averages["worst"] = min(values)
    for name, flag in (("failures", "failed"), ("below", "worse")):
        if any(flag in row for row in rows):
            averages[name] = sum(row[flag] for row in rows)
    return averages


def show(row: dict[str, Any]) -> None:
    """Print a row as it comes."""
    shown = [f"{row['dataset']:10s} {row['image']:24s} {row['method']:16s}"]
    for name, form in (
        ("psnr", ".2f"),
        ("ssim", ".4f"),
        ("correlation", ".4f"),
        ("kernel_error", ".5f"),
        ("covered", ".3f"),
        ("seconds", ".0f"),
    ):
        if row.get(name) is not None:
            shown.append(f"{name} {row[name]:{form}}")
    print("  ".join(shown), flush=True)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", module="skvideo")
    main()
