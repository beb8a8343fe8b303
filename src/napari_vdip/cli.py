"""The command line: ``napari-vdip``."""

from __future__ import annotations

import json as json_format
import sys
from contextlib import ExitStack, closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from napari_vdip.cli_estimate import estimate
from napari_vdip.inspection import inspect
from napari_vdip.options import (
    Command,
    bad_option,
    read_region,
    read_settings,
    settings_from,
    with_settings,
)
from napari_vdip.report import printable
from napari_vdip.settings import PRESETS, Settings

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from rich.progress import Progress as Bar

    from napari_vdip.batch import Event, Item
    from napari_vdip.result import Deconvolution, Progress

app = typer.Typer(no_args_is_help=True, pretty_exceptions_show_locals=False, add_completion=False)

PIXEL_SIZE = 0.1
"""Pixel size of the demo's scene in micrometres."""
SOME_FAILED = 1
"""Exit code if an image could not be done."""
INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and the number of the signal."""
LOOK_EVERY = 5
"""Steps between looks at the terms of the objective."""


app.command(cls=Command)(estimate)
app.command(cls=Command)(inspect)


@app.callback()
def main() -> None:
    """Blind deconvolution by variational deep image prior."""


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("napari-vdip-demo"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the scene and of the run.")] = 0,
    size: Annotated[int, typer.Option(min=64, help="Height and width of the scene in pixels.")] = 256,
) -> None:
    """Blur a generated microscopy scene, deconvolve it blind and compare with the truth."""
    import numpy as np

    from napari_vdip.figures import side_by_side
    from napari_vdip.io import write_ome_tiff
    from napari_vdip.metrics import aligned_quality, kernel_error
    from napari_vdip.scenes import cells

    scene = cells(size=size, seed=seed)
    settings = Settings(psf_shape=scene.psf.shape[0] + 4, seed=seed)
    try:
        result = with_progress_bar(scene.blurred, settings, device)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    output.mkdir(parents=True, exist_ok=True)
    spacing = dict.fromkeys("YX", (PIXEL_SIZE, "micrometer"))
    arrays = {"blurred": scene.blurred, "latent": result.latent, "psf": result.psf, "std": result.std}
    for name, array in arrays.items():
        if array is not None:
            write_ome_tiff(output / f"{name}.ome.tif", array, "YX", spacing=spacing)
    side_by_side(scene, result, PIXEL_SIZE).savefig(output / "overview.png", dpi=110)
    data_range = float(np.ptp(scene.latent))
    before = aligned_quality(scene.blurred, scene.latent, data_range=data_range)
    after = aligned_quality(result.latent, scene.latent, data_range=data_range)
    gain = after.psnr - before.psnr
    typer.echo(f"PSNR          {before.psnr:.2f} dB -> {after.psnr:.2f} dB  ({gain:+.2f} dB)")
    typer.echo(f"SSIM          {before.ssim:.3f} -> {after.ssim:.3f}")
    typer.echo(f"kernel error  {kernel_error(result.psf, scene.psf):.5f}")
    typer.echo(f"time          {result.seconds:.0f} s on {result.device} ({result.stopped})")
    typer.echo(f"written to    {output.resolve()}: {', '.join(sorted(p.name for p in output.iterdir()))}")


def with_progress_bar(image: object, settings: Settings, device: str) -> Deconvolution:
    """Deconvolve with a live bar for a person, which a log gets without its motion."""
    from napari_vdip import deconvolve

    with progress_bar() as bar:
        task = bar.add_task("", total=1.0, stage="starting", step="", terms="")

        def show(progress: Progress) -> None:
            bar.update(task, completed=progress.fraction, **_bar_fields(progress))

        return deconvolve(image, settings, device=device, progress=show)


@app.command(cls=Command)
@with_settings
def run(
    inputs: Annotated[
        list[str] | None, typer.Argument(metavar="[INPUT]...", help="Files, folders and patterns.")
    ] = None,
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the results, one folder for each image.")
    ],
    settings: Annotated[
        Path | None, typer.Option(help="YAML or TOML file with the settings below, such as `steps: 800`.")
    ] = None,
    preset: Annotated[str, typer.Option(help=f"Settings to start from: {', '.join(PRESETS)}.")] = "default",
    axes: Annotated[
        str | None, typer.Option(help="Axes in place of those of the files, such as TCYX or ZYX.")
    ] = None,
    format: Annotated[
        Literal["ome-zarr", "ome-tiff"] | None,
        typer.Option(help="Of the results. Default: ome-tiff for single planes, ome-zarr for more."),
    ] = None,
    psf: Annotated[
        Path | None,
        typer.Option(help="File with the known point spread function, or one for each channel or plane."),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="Y0:Y1,X0:X1", help="Rows and columns to deconvolve, first and end in pixels."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Work on the Dask cluster whose scheduler is at this address."
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Do this many planes at the same time on this machine.")
    ] = None,
    from_metadata: Annotated[
        Path | None,
        typer.Option(help="Repeat what made the results in this folder, or this one, in place of INPUT."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace earlier results that were made otherwise.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    changes: dict[str, Any],
) -> None:
    """Deconvolve images blind: latent image, std map and point spread function of each.

    The same command goes on where it was interrupted. Exit codes: 0 all done, 1 some images failed,
    2 something is wrong with the command, 130 interrupted.
    """
    from napari_vdip import batch, cluster

    try:
        if from_metadata:
            if inputs or settings or preset != "default" or axes or format or psf or region or changes:
                raise ValueError("from_metadata: expected no INPUT and no settings beside it")
            items = batch.repeat(from_metadata, output)
        else:
            stored = read_settings(settings) if settings else {}
            items = batch.plan(
                inputs or (),
                output,
                settings_from(preset, stored, changes),
                axes=axes,
                format=format,
                psf=psf,
                region=read_region(region),
                joint_colours="channels" not in {**stored, **changes},
            )
        if not dry_run and scheduler is None:
            from napari_vdip.devices import choose_device

            choose_device(device)
    except ValueError as error:
        raise bad_option(error) from None
    if dry_run:
        raise typer.Exit(0 if print_plan(items, overwrite, json) else SOME_FAILED)
    ends: list[Event] = []
    with ExitStack() as stack:
        try:
            client = stack.enter_context(cluster.connect(scheduler, workers, device))
            events = batch.execute(items, device=device, overwrite=overwrite, client=client)
        except ValueError as error:
            raise bad_option(error) from None
        if client and scheduler and not cluster.threads_of(client):
            typer.echo(f"{scheduler} has no workers yet: waiting for some", err=True)
        if client and client.dashboard_link and find_spec("bokeh"):  # which draws it
            typer.echo(f"{client.dashboard_link} shows what the workers do", err=True)
        try:
            # Closed before the cluster is, so that nothing is left queued.
            print_events(stack.enter_context(closing(noting_ends(events, ends))), items, json)
        except KeyboardInterrupt:
            typer.echo("interrupted: the same command goes on where it stopped", err=True)
            raise typer.Exit(INTERRUPTED) from None
    print_summary(ends, json)
    raise typer.Exit(SOME_FAILED if any(end.kind == "failed" for end in ends) else 0)


def say(text: str, err: bool = False) -> None:
    """Print text, without what a terminal would take for commands: names of files can hold them."""
    typer.echo(printable(text), err=err)


def print_plan(items: Sequence[Item], overwrite: bool, json: bool) -> bool:
    """Print what a dry run finds, and return whether all can be done."""
    from napari_vdip.report import planned

    sound = True
    for item in items:
        data = planned(item, overwrite)
        sound &= "problem" not in data
        if json:
            say(json_format.dumps(data))
        elif "problem" in data:
            say(f"{data['input']}\n  cannot be done: {data['problem']}")
        else:
            shape, planes, done = " x ".join(map(str, data["shape"])), data["planes"], data["done"]
            part = data["region"] and ", ".join(f"{first}:{end}" for first, end in data["region"])
            region = f", region {part}" if part else ""
            before = ", done before" if done == planes else f", {done} of them done before" if done else ""
            say(data["input"])
            say(f"  {data['axes']} {shape}, {planes} plane{'s' * (planes > 1)}{before}{region}")
            say(f"  psf_source = {data['psf_source']}" + (f", {data['note']}" if data["note"] else ""))
            say("\n".join(f"  -> {path}" for path in data["output"]))
    return sound


def noting_ends(events: Iterable[Event], ends: list[Event]) -> Generator[Event]:
    """Pass events on, and note those that end an image."""
    for event in events:
        if event.kind in ("done", "skipped", "failed"):
            ends.append(event)
        yield event


def print_events(events: Iterable[Event], items: Sequence[Item], json: bool) -> None:
    """Print what happens, for a program, a person at a terminal or a log."""
    from napari_vdip import report

    if json or not sys.stdout.isatty():
        for text in report.json_lines(events) if json else report.log_lines(events, items):
            say(text)
        return
    with progress_bar() as bar:
        task = bar.add_task("", total=len(items), stage="", step="", terms="")
        fractions: dict[str, float] = {}
        for event in events:
            if event.kind != "step":
                bar.console.print(printable(report.line(event, items)), markup=False, highlight=False)
            ended = event.kind in ("done", "skipped", "failed")
            fractions[event.item.name] = 1.0 if ended else event.fraction
            # A look at the terms makes a GPU wait.
            seldom = event.progress and event.progress.estimate.step % LOOK_EVERY == 1
            fields = _bar_fields(event.progress) if event.progress and seldom else {}
            bar.update(task, completed=sum(fractions.values()), **fields)


def print_summary(ends: Sequence[Event], json: bool) -> None:
    """Print how many images were done, and which failed and why."""
    from napari_vdip.report import summary

    counts = summary(ends)
    if json:
        say(json_format.dumps({"event": "summary", **counts}))
        return
    early = f", {counts['ended_early']} of the planes ended early" if counts["ended_early"] else ""
    blank = f", {counts['blank']} of the planes blank" if counts["blank"] else ""
    say(f"{counts['done']} done, {counts['skipped']} done before, {counts['failed']} failed{early}{blank}")
    for end in ends:
        if end.kind == "failed":
            say(f"failed: {end.item.path}: {end.reason}", err=True)


def progress_bar() -> Bar:
    """Return a bar that shows stage, step, time to go and the terms of the objective."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    return Progress(
        TextColumn("{task.fields[stage]:<10}"),
        BarColumn(bar_width=20, table_column=Column(no_wrap=True)),
        TextColumn("{task.percentage:>3.0f}% step {task.fields[step]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[terms]}", table_column=Column()),  # wraps, and leaves the others room
    )


def _bar_fields(progress: Progress) -> dict[str, Any]:
    estimate = progress.estimate
    return {
        "stage": estimate.stage,
        "step": f"{estimate.step}/{estimate.steps}",
        "terms": "  ".join(f"{name} {float(value):.4f}" for name, value in estimate.terms.items()),
    }
