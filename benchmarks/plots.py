"""Plots of ``docs/benchmarks.md``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from rows import Row, by, calibrated, collapses, part

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure


def new_figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Any]]:
    """Return an empty figure that needs no display, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(1, columns)))


def plot_scaling(rows: list[Row]) -> Figure | None:
    """Draw seconds per step against the size of image and kernel."""
    groups = [("images", "image_side", "image side (px)"), ("psfs", "psf_side", "PSF window (px)")]
    if not all(part(rows, name) for name, *_ in groups):
        return None
    figure, axes = new_figure(8, 4, 2)
    for axis, (name, over, label) in zip(axes, groups, strict=True):
        for (place,), group in by(part(rows, name), "place").items():
            for stage in group[0]["seconds_per_step"]:
                points = [(row[over], row["seconds_per_step"].get(stage)) for row in group]
                axis.loglog(*zip(*points, strict=True), "o-", label=f"{stage}, {place}")
        sizes = sorted({row[over] for row in part(rows, name)})
        axis.set_xticks(sizes, map(str, sizes))
        axis.set_xticks([], minor=True)
        axis.set(xlabel=label, ylabel="seconds per step")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize="small"
    )
    return figure


def plot_curve(rows: list[Row]) -> Figure | None:
    """Draw quality against time."""
    curves = part(rows, "curve")
    if not curves:
        return None
    figure, (axis,) = new_figure(5, 3.2)
    for row in curves:
        axis.plot(*zip(*row["points"], strict=True), label=row["place"])
    axis.axhline(curves[0]["blurred"], color="grey", linestyle=":", label="blurred")
    axis.set(xlabel="seconds", ylabel="PSNR (dB)")
    axis.legend(fontsize="small")
    return figure


def plot_reliability(rows: list[Row]) -> Figure | None:
    """Draw the part of errors inside an interval against the probability it promises."""
    chosen = calibrated(rows)
    if not chosen:
        return None
    figure, (axis,) = new_figure(4, 3.6)
    for row in chosen:
        axis.plot(row["nominal"], row["empirical"], color="0.8", linewidth=0.8)
    mean = np.mean([row["empirical"] for row in chosen], 0)
    axis.plot(chosen[0]["nominal"], mean, "o-", label="mean of the scenes")
    axis.plot([0, 1], [0, 1], "k:", label="ideal")
    axis.set(xlabel="nominal coverage", ylabel="empirical coverage", aspect="equal")
    axis.legend(fontsize="small")
    return figure


def plot_collapse(rows: list[Row]) -> Figure | None:
    """Draw how far the kernel is from a point and from the truth over the steps, and the kernels.

    One line of each scene, at the middle of the prior's weights.
    """
    from matplotlib.figure import Figure

    rows = collapses(rows)
    if not rows:
        return None
    weights = sorted({row["prior_weight"] for row in rows})
    scenes = by((row for row in rows if row["prior_weight"] == weights[len(weights) // 2]), "image")
    most = max(len(group) for group in scenes.values())
    figure = Figure((3.6 + 0.75 * most, 1.3 * len(scenes)), layout="constrained")
    ratios = {"width_ratios": [2, 2, *[1] * (most + 1)]}
    grid = figure.subplots(len(scenes), most + 3, squeeze=False, gridspec_kw=ratios)
    for line, ((kind,), group) in zip(grid, scenes.items(), strict=True):
        group = sorted(group, key=lambda row: (row["variational"], row["seed"]))
        for row in group:
            steps, _, from_point, error = zip(*row["course"], strict=True)
            style = {"color": "C0" if row["variational"] else "C3", "linewidth": 0.9}
            line[0].plot(steps, from_point, **style)
            line[1].semilogy(steps, error, **style)
        line[0].set(ylabel=kind, ylim=(0, 1))
        shown = [("true", group[0]["psf_true"]), *((short_name(row), row["psf"]) for row in group)]
        for axis, (name, psf) in zip(line[2:], shown, strict=False):
            axis.imshow(np.loadtxt(psf), vmin=0, cmap="gray")
            axis.set_title(name, fontsize="x-small")
        for axis in line[2:]:
            axis.axis("off")
        for axis in line[:2]:
            axis.tick_params(labelsize="x-small")
    grid[0, 0].set_title("distance from a point", fontsize="small")
    grid[0, 1].set_title("kernel error", fontsize="small")
    for axis in grid[-1, :2]:
        axis.set_xlabel("step", fontsize="small")
    return figure


def short_name(row: Row) -> str:
    """Return the method and the seed of a row of `collapse`."""
    return f"{'VDIP' if row['variational'] else 'DIP'}, {row['seed']}"


def plot_ways(rows: list[Row]) -> Figure | None:
    """Draw the memory of each way over time: of the process itself, and with all below it."""
    rows = [row for row in rows if row.get("part") == "ways"]
    if not rows:
        return None
    largest = max(rows, key=lambda row: np.prod(row["shape"]))["shape"]
    figure, (axis,) = new_figure(6, 3.4)
    for number, row in enumerate(row for row in rows if row["shape"] == largest):
        seconds, own, below = np.array(row["memory"]).T
        colour = f"C{number}"
        axis.plot(seconds, (own + below) / 1e9, color=colour, label=row["way"])
        if below.any():
            axis.plot(seconds, own / 1e9, "--", color=colour, label=f"{row['way']}, without workers")
    axis.set(xlabel="seconds", ylabel="memory (GB)", ylim=(0, None))
    axis.legend(fontsize="small")
    return figure


PLOTS: dict[str, Callable[[list[Row]], Figure | None]] = {
    "scaling": plot_scaling,
    "curve": plot_curve,
    "reliability": plot_reliability,
    "collapse": plot_collapse,
    "ways": plot_ways,
}
