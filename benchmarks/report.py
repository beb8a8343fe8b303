"""Write the tables and plots of the documents from all results: benchmarks, scaling and reading results.

    python benchmarks/report.py [--results FOLDER] [--document FILE ...]

Text between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` is replaced by the table of that name; all
other text of the document stays.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from common import RESULTS, ROOT
from plots import PLOTS
from quality import mean_of
from rows import Row, by, calibrated, collapses, part, quality_rows, read
from speed import exponents

from napari_vdip.settings import METHODS, PRESETS
from napari_vdip.verdict import ANSWERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

DOCUMENTS = tuple(ROOT / "docs" / name for name in ("benchmarks.md", "scaling.md", "reading-results.md"))
NOTHING = "Not measured yet."
MARKED = re.compile(r"(<!-- begin (\S+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)
NAMES = {
    "blurred": "blurred input",
    "default": "**default preset**",
    "photograph": "`photograph` preset",
    "networks": "`networks` preset",
    "paper": "`paper` preset",
    "SelfDeblur-like": "DIP, SelfDeblur's schedule",
    "rl_true": "Richardson-Lucy, true PSF, 30 iterations",
    "rl_true_best": "Richardson-Lucy, true PSF, best iterations",
    "wiener_true": "Wiener, true PSF",
    "blind_rl": "blind Richardson-Lucy, 10 rounds",
    "blind_rl_best": "blind Richardson-Lucy, best rounds",
    "rl_gaussian_best": "Richardson-Lucy, best Gaussian and iterations",
}
COLUMNS = (
    ("images", "images", "d"),
    ("psnr", "PSNR", ".2f"),
    ("ssim", "SSIM", ".4f"),
    ("worst", "worst PSNR", ".2f"),
    ("failures", "failures", "d"),
    ("below", "below input", "d"),
    ("error_ratio", "error ratio", ".3f"),
    ("kernel_error", "kernel error", ".5f"),
    ("kernel_energy", "kernel energy", ".4f"),
    ("kernel_energy_true", "true energy", ".4f"),
    ("covered", "covered", ".3f"),
    ("rank_correlation", "rank corr.", ".3f"),
    ("correlation", "Pearson corr.", ".4f"),
    ("seconds", "seconds", ".1f"),
)
ALT_TEXTS = {
    "ways": "Memory over time by the function, the command, a cluster and the widget",
    "curve": "PSNR against seconds",
    "scaling": "Seconds per step against the size of image and point spread function",
    "reliability": "Empirical against nominal coverage",
    "collapse": "Kernels of DIP-Sparse and VDIP-Sparse over the steps, and at the end",
}
NO_REFERENCE = (("niqe", "NIQE", ".2f"), ("brisque", "BRISQUE", ".1f"), ("piqe", "PIQE", ".1f"))


def main(argv: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--document", type=Path, nargs="+", default=DOCUMENTS)
    arguments = parser.parse_args(argv)
    runs, rows = read(arguments.results)
    blocks = {name: make(rows) for name, make in TABLES.items()}
    blocks |= {"environments": environments(runs), "missing": missing(runs)}
    images = arguments.document[0].parent / "images"
    images.mkdir(exist_ok=True)
    for name, draw in PLOTS.items():
        blocks[f"plot-{name}"] = NOTHING
        figure = draw(rows)
        if figure is not None:
            figure.savefig(images / f"benchmark_{name}.png", dpi=80)
            blocks[f"plot-{name}"] = f"![{ALT_TEXTS[name]}](images/benchmark_{name}.png)"
    for document in arguments.document:
        document.write_text(filled(document.read_text(), blocks))


def filled(document: str, blocks: dict[str, str]) -> str:
    """Replace what stands between the markers of each block by its text."""
    unknown = {name for _, name, _ in MARKED.findall(document)} - set(blocks)
    if unknown:
        raise ValueError(f"document: expected tables of {sorted(blocks)}, got {min(unknown)!r}")
    return MARKED.sub(lambda found: f"{found[1]}{blocks[found[2]].rstrip()}\n{found[3]}", document)


def table(headings: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table whose columns but the first are aligned to the right."""
    names = list(headings)
    rule = ["---", *["---:"] * (len(names) - 1)]
    body = [list(line) for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in [names, rule, *body]) if body else NOTHING


def summary(rows: list[Row], columns: Sequence[tuple[str, str, str]] = COLUMNS) -> str:
    """Return a table of means, one line for each method, with the columns that any method has."""
    groups = by(rows, "method", "preset")
    lines = [(title(*of), mean_of(groups[of])) for of in sorted(groups, key=place)]
    present = [column for column in columns if any(column[0] in averages for _, averages in lines)]
    return table(
        ["", *(heading for _, heading, _ in present)],
        (
            [name, *(format(averages[key], form) if key in averages else "" for key, _, form in present)]
            for name, averages in lines
        ),
    )


def title(method: str, preset: str | None) -> str:
    """Return the name of a method for readers."""
    return NAMES.get(method, method) + (f" (`{preset}`)" if preset else "")


def place(of: tuple[str, str | None]) -> int:
    """Return where a method stands in a table; those of the paper, which have no other name, come last."""
    return list(NAMES).index(of[0]) if of[0] in NAMES else len(NAMES)


def quality(dataset: str) -> Callable[[list[Row]], str]:
    """Return the maker of a dataset's table."""

    def make(rows: list[Row]) -> str:
        chosen = quality_rows(rows, dataset)
        side = chosen[0]["crop"] if chosen else None
        return summary(chosen) + (
            f"\n\nTop left {side} by {side} pixels of each image only." if side else ""
        )

    return make


def each_image(*datasets: str) -> Callable[[list[Row]], str]:
    """Make the table of PSNR and SSIM of each image with each preset."""

    def make(rows: list[Row]) -> str:
        chosen = [row for row in rows if row.get("method") in PRESETS and row["dataset"] in datasets]
        runs = sorted(by(chosen, "method", "dataset"))
        lines = []
        for (image,), group in sorted(by(chosen, "image").items()):
            cells = {(r["method"], r["dataset"]): f"{r['psnr']:.2f} / {r['ssim']:.4f}" for r in group}
            lines.append([image, f"{group[0]['psnr_blurred']:.2f}", *(cells.get(run, "") for run in runs)])
        return table(["image", "blurred", *(f"{method}, {dataset}" for method, dataset in runs)], lines)

    return make


def six_methods(rows: list[Row]) -> str:
    """Return PSNR, SSIM and kernel error of the six methods of the paper for each dataset and class."""
    chosen = [row for row in quality_rows(rows) if row["method"] in METHODS]
    groups = by(chosen, "dataset", "class")
    columns = [f"{dataset} {kind or ''}".strip() for dataset, kind in groups]
    presets = list(by(chosen, "preset"))
    forms = {"psnr": ".2f", "ssim": ".3f", "kernel_error": ".5f"}
    lines = []
    for method, (preset,) in itertools.product(METHODS, presets):
        cells = []
        for group in groups.values():
            averages = mean_of([row for row in group if (row["method"], row["preset"]) == (method, preset)])
            shown = [format(averages[name], form) for name, form in forms.items() if name in averages]
            cells.append(" / ".join(shown))
        lines.append([title(method, preset), *cells])
    return table(["PSNR / SSIM / kernel error", *columns], lines if chosen else [])


def specimens(rows: list[Row]) -> str:
    """Return PSNR for each kind, point spread function and photon count, one column for each method."""
    chosen = quality_rows(rows, "specimens")
    methods = sorted(by(chosen, "method", "preset"), key=place)
    lines = []
    for (kind, psf, photons), group in sorted(
        by(chosen, "kind", "psf", "photons").items(), key=lambda of: of[0]
    ):
        values = {(row["method"], row["preset"]): f"{row['psnr']:.2f}" for row in group}
        lines.append([f"{kind}, {psf}, {photons}", *(values.get(method, "") for method in methods)])
    return table(["kind, PSF, photons", *(title(*method) for method in methods)], lines)


def no_reference(rows: list[Row]) -> str:
    """Return the measures without a reference for each dataset and method."""
    chosen = [row for row in quality_rows(rows) if any(name in row for name, *_ in NO_REFERENCE)]
    parts = [
        f"`{dataset}`\n\n{summary(group, NO_REFERENCE)}"
        for (dataset,), group in by(chosen, "dataset").items()
    ]
    return "\n\n".join(parts) or NOTHING


def speed(rows: list[Row]) -> str:
    """Return the comparison with the published schedule and the time to quality."""

    def rates(seconds: dict[str, float]) -> str:
        return ", ".join(f"{1 / value:.2f} {stage}" for stage, value in seconds.items())

    reached = {
        row["place"]: f"{row['seconds_to_quality']:.1f} of {row['seconds']:.1f}"
        for row in part(rows, "curve")
    }
    lines = [
        [
            size_of(row),
            rates(row["seconds_per_step"]),
            rates(row["paper_seconds_per_step"]),
            f"{row['seconds']:.1f}",
            f"{row['paper_seconds_projected']:.0f}",
            f"**{row['times_faster']:.1f}**",
            reached.get(row["place"], ""),
        ]
        for row in part(rows, "versus")
    ]
    names = "steps/s", "steps/s, `paper`", "seconds", "seconds, `paper`", "times faster", "s to quality"
    return table(["", *names], lines)


def stages(rows: list[Row]) -> str:
    """Return how the time of a whole run divides over its stages."""
    lines = [
        [size_of(row), stage, str(row["steps"][stage]), f"{seconds:.1f}", f"{seconds / row['seconds']:.0%}"]
        for row in part(rows, "versus")
        for stage, seconds in row["stage_seconds"].items()
    ]
    return table(["", "stage", "steps", "seconds", "of the run"], lines)


def scaling(rows: list[Row]) -> str:
    """Return seconds and memory at each size."""
    lines = [
        [
            size_of(row),
            f"{seconds:.1f}" if (seconds := row.get("seconds")) else "",
            ", ".join(f"{1000 * s:.0f} {stage}" for stage, s in row["seconds_per_step"].items()),
            f"{row['finish_seconds']:.1f}",
            f"{row['peak_memory'] / 1e9:.2f}",
            f"{row['peak_gpu_memory'] / 1e9:.2f}" if row["peak_gpu_memory"] else "",
        ]
        for name in ("images", "psfs")
        for row in part(rows, name)
    ]
    return table(["", "s for all", "ms per step", "s at the end", "GB of memory", "GB on the GPU"], lines)


def growth(rows: list[Row]) -> str:
    """Return the exponents fitted to the seconds of a step and of a whole run."""
    lines = [
        [place, label, stage if stage == "whole run" else f"a step, {stage}", f"{value:.2f}"]
        for name, over, label in (
            ("images", "image_side", "pixels"),
            ("psfs", "psf_side", "side of the PSF"),
        )
        for (place,), group in by(part(rows, name), "place").items()
        for stage, value in exponents(group, over).items()
    ]
    return table(["", "seconds against", "of", "exponent"], lines)


def estimate(rows: list[Row]) -> str:
    """Return what was expected of each case, and what then happened."""
    lines = [
        [
            f"{row['device']}, {row['image']}",
            *(f"{row[name]:.1f}" for name in ("expected_seconds", "seconds")),
            f"**{row['expected_seconds'] / row['seconds']:.2f}**",
            *(f"{row[name] / 1e9:.2f}" for name in ("expected_memory", "memory")),
            f"**{row['expected_memory'] / row['memory']:.2f}**",
        ]
        for row in rows
        if row.get("part") == "estimate"
    ]
    return table(["", "s expected", "s", "ratio", "GB expected", "GB", "ratio"], lines)


def workers(rows: list[Row]) -> str:
    """Return how throughput grows with the number of workers, against the serial run of the same planes."""
    lines = []
    for group in by(part(rows, "workers"), "place", "image_side", "psf_side", "planes").values():
        serial = next((row["planes_per_minute"] for row in group if not row["workers"]), None)
        for row in sorted(group, key=lambda row: row["workers"]):
            rate, spread = row["planes_per_minute"], row["every_planes_per_minute"]
            lines.append(
                [
                    f"{size_of(row)}, {row['planes']} planes, "
                    + (
                        f"{row['workers']} worker{'s' * (row['workers'] > 1)}"
                        if row["workers"]
                        else "serial"
                    ),
                    f"{rate:.2f}",
                    f"{min(spread):.2f} to {max(spread):.2f}",
                    f"{rate / serial:.2f}" if serial else "",
                    *(f"{row[f'{name}_seconds']:.1f}" for name in ("start", "begin", "end")),
                ]
            )
    seconds = "s to start", "s to begin", "s to end"
    return table(["", "planes per minute", "range", "times the serial run", *seconds], lines)


def ways(rows: list[Row]) -> str:
    """Return time and memory of each way to the same results, and which are those of the function."""
    lines = []
    chosen = [row for row in rows if row.get("part") == "ways"]
    cases = [{**row, "case": json.dumps([row["shape"], row["settings"]])} for row in chosen]
    for group in by(cases, "case").values():
        wanted = next((row["sha256"] for row in group if row["way"] == "function"), None)
        for row in group:
            same = [name for name, found in row["sha256"].items() if wanted and found == wanted[name]]
            lines.append(
                [
                    f"{row['way']}, {' x '.join(map(str, row['shape']))}"
                    + (f", {row['workers']} workers" if row["way"] == "cluster" else ""),
                    f"{row['seconds']:.0f}",
                    f"{row['peak_own'] / 1e9:.2f}",
                    f"{row['peak'] / 1e9:.2f}",
                    ", ".join(same) if wanted else "",
                ]
            )
    return table(["", "seconds", "GB", "GB with all below", "same bits as by the function"], lines)


def kill(rows: list[Row]) -> str:
    """Return what each kill met, and whether the results are those of a run without."""
    lines = []
    for row in part(rows, "kill"):
        for number, met in enumerate(row["kills"], start=1):
            first, last = met["went_on_from"], met is row["kills"][-1]
            nothing = "no plane was left" if last else "killed before its first step"
            lines.append(
                [
                    f"{size_of(row)}, {row['planes']} planes, stack {row['seed']}, kill {number}",
                    f"{met['seconds']:.1f}",
                    str(met["planes_done"]),
                    f"plane {first['plane']}, {first['stage']} {first['step']}" if first else nothing,
                    ", ".join(row["same_bits"]) if last else "",
                ]
            )
    names = "s after it began", "planes done", "the next run went on from", "same bits at the end"
    return table(["", *names], lines)


def worker(rows: list[Row]) -> str:
    """Return how fast napari's worker is beside a script, for each thing that the window draws."""
    lines = [
        [
            f"{size_of(row)}, drawing {row['drawn']}",
            f"{row['script']:.2f}",
            f"{row['napari']:.2f}",
            f"**{row['ratio']:.2f}**",
            f"{min(row['every_ratio']):.2f} to {max(row['every_ratio']):.2f}",
            str(len(row["every_ratio"])),
        ]
        for row in part(rows, "worker")
    ]
    return table(["", "steps/s, script", "steps/s, napari", "ratio", "range", "pairs"], lines)


def size_of(row: Row) -> str:
    """Return where and at which size a row of `speed` was measured."""
    return f"{row['place']}, {row['image_side']} px, PSF {row['psf_side']} px"


def calibration(rows: list[Row]) -> str:
    """Return coverage and rank correlation of every scene, and means of each seed and of Levin's images."""
    lines = []
    chosen = [{**row, "files": row["dataset"] == "levin"} for row in calibrated(rows)]
    for (files, seed), group in by(chosen, "files", "seed").items():
        of = "Levin et al." if files else f"seed {seed}"
        values = [
            (r["covered"], r["rank_correlation"], r["rms_std"] / r["rms_error"], r["psnr"]) for r in group
        ]
        names = [row["image"] if files else f"{row['image']}, {of}" for row in group]
        for name, line in zip([*names, f"**mean, {of}**"], [*values, np.mean(values, 0)], strict=True):
            lines.append([name, *(f"{v:.3f}" for v in line[:2]), *(f"{v:.2f}" for v in line[2:])])
    return table(
        ["scene", "covered by ±1.96 std", "rank correlation", "rms std / rms error", "PSNR"], lines
    )


def collapse(rows: list[Row]) -> str:
    """Return how the kernels of point estimate and bound end, one value for each seed."""

    def values(group: list[Row], name: str, form: str) -> str:
        return ", ".join(format(row[name], form) for row in group)

    def pointed(group: list[Row]) -> str:
        return f"{sum(row['from_point'] < row['kernel_error'] for row in group)} of {len(group)}"

    chosen = sorted(collapses(rows), key=lambda row: (row["image"], -row["prior_weight"], row["seed"]))
    lines = [
        [
            f"{image}, {weight:g}, {'VDIP' if variational else 'DIP'}-Sparse",
            values(group, "kernel_energy", ".3f"),
            f"{group[0]['kernel_energy_true']:.3f}",
            values(group, "from_point", ".2f"),
            values(group, "kernel_error", ".4f"),
            values(group, "contrast", ".2f"),
            pointed(group),
        ]
        for (image, weight, variational), group in by(
            chosen, "image", "prior_weight", "variational"
        ).items()
    ]
    for (variational,), group in by(chosen, "variational").items():
        name = f"**all of {'VDIP' if variational else 'DIP'}-Sparse**"
        lines.append([name, "", "", "", "", "", f"**{pointed(group)}**"])
    names = "kernel energy", "true energy", "distance from a point", "kernel error", "contrast", "collapsed"
    return table(["scene, prior weight, method", *names], lines)


def orders(rows: list[Row]) -> str:
    """Return by how much either objective prefers the blurred image with a point to the truth."""
    chosen = collapses(rows, "orders")
    weights = [found["prior_weight"] for found in chosen[0]["orders"]] if chosen else []
    headings = [f"{name}, weight {weight:g}" for weight in weights for name in ("MAP", "bound")]
    lines = [
        [
            f"{row['kind']}, {row['photons']:.0f}",
            *(f"{found[name]:+.3f}" for found in row["orders"] for name in ("map", "bound")),
        ]
        for row in chosen
    ]
    return table(["scene, photons", *headings], lines)


def environments(runs: list[Row]) -> str:
    """Return what the results were measured with, runs of one machine and the same versions together."""
    together = defaultdict[tuple[str, ...], list[Row]](list)
    for run in sorted(runs, key=lambda run: run["date"]):
        versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
        machine = f"{run['cpu']}, {run['threads']} threads"
        together[run["device"], machine, versions, str(run["seed"])].append(run)
    lines = []
    for same, those in together.items():
        days = [those[0]["date"][:10], those[-1]["date"][:10]]
        commits = dict.fromkeys(
            f"{(run['commit'] or 'unknown')[:7]}{' with changes' if run['dirty'] else ''}" for run in those
        )
        lines.append([*same, " to ".join(dict.fromkeys(days)), str(len(those)), ", ".join(commits)])
    return table(["device", "processor", "versions", "seed", "days", "runs", "commits"], lines)


def verdicts(kernel: str) -> Callable[[list[Row]], str]:
    """Make the table of how often each answer was given, for kernels that were given or found."""

    def make(rows: list[Row]) -> str:
        chosen = [row for row in rows if row.get("part") == "verdict" and row["kernel"] == kernel]
        lines = []
        for (case,), group in by(chosen, "case").items():
            answers, gains = Counter(row["answer"] for row in group), [row["gain"] for row in group]
            counts = (str(answers[answer]) for answer in ANSWERS)
            lines.append([case, str(len(group)), *counts, f"{min(gains):+.1f} to {max(gains):+.1f}"])
        return table([f"kernel {kernel}", "images", *ANSWERS, "gain in dB"], lines)

    return make


def missing(runs: list[Row]) -> str:
    """Return which measures and methods were left out, and why."""
    reasons = {name: why for run in runs for name, why in run.get("missing", {}).items()}
    return "\n".join(f"- {name}: {why}" for name, why in reasons.items()) or "None is missing."


TABLES: dict[str, Callable[[list[Row]], str]] = {
    **{
        name: quality(name)
        for name in ("levin", "levin31", "lai", "microscopy", "specimens", "biosr", "noise")
    },
    "levin-images": each_image("levin", "levin31"),
    "lai-images": each_image("lai"),
    "six-methods": six_methods,
    "specimens-images": specimens,
    "no-reference": no_reference,
    "speed": speed,
    "stages": stages,
    "scaling": scaling,
    "growth": growth,
    "estimate": estimate,
    "calibration": calibration,
    "collapse": collapse,
    "orders": orders,
    "workers": workers,
    "ways": ways,
    "worker": worker,
    "kill": kill,
    "verdict-given": verdicts("given"),
    "verdict-found": verdicts("found"),
}


if __name__ == "__main__":
    main()
