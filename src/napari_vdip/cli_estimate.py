"""The command ``napari-vdip estimate``: what `run` would take."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_vdip.options import bad_option, read_region, read_settings, settings_from, with_settings
from napari_vdip.settings import PRESETS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from napari_vdip.batch import Item
    from napari_vdip.cost import Cost

SOME_FAILED = 1
"""Exit code if an image cannot be done."""


@with_settings
def estimate(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Files, folders and patterns.")],
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder that `run` will get; not searched for images.")
    ] = Path("results"),
    settings: Annotated[Path | None, typer.Option(help="As for `run`.")] = None,
    preset: Annotated[str, typer.Option(help=f"Settings to start from: {', '.join(PRESETS)}.")] = "default",
    axes: Annotated[str | None, typer.Option(help="Axes in place of those of the files.")] = None,
    psf: Annotated[Path | None, typer.Option(help="File with the known point spread function.")] = None,
    region: Annotated[
        str | None, typer.Option(metavar="Y0:Y1,X0:X1", help="Rows and columns to deconvolve.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Planes that this machine does at the same time.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    changes: dict[str, Any],
) -> None:
    """Say how long `run` will take and how much memory, by trying each kind of work for a moment.

    It takes a few seconds for each size of image. Exit codes are those of `run`.
    """
    from napari_vdip import batch

    try:
        stored = read_settings(settings) if settings else {}
        items = batch.plan(
            inputs,
            output,
            settings_from(preset, stored, changes),
            axes=axes,
            psf=psf,
            region=read_region(region),
            joint_colours="channels" not in {**stored, **changes},
        )
        from napari_vdip.devices import choose_device

        choose_device(device)
    except ValueError as error:
        raise bad_option(error) from None
    failed = False
    for data in expected(items, device, workers or 1):
        typer.echo(json_format.dumps(data) if json else line(data))
        failed |= "problem" in data
    raise typer.Exit(SOME_FAILED if failed else 0)


def expected(items: Iterable[Item], device: str | None, workers: int = 1) -> Iterator[dict[str, Any]]:
    """Yield as plain data what each image will take, and then all of them, one after the other."""
    import torch

    from napari_vdip.cost import among, expected_cost, one_after_the_other
    from napari_vdip.items import reason

    if workers > 1:  # each has its part of the cores, see `local_cluster`
        torch.set_num_threads(max(1, torch.get_num_threads() // workers))

    costs, planes = [], 0
    for item in items:
        data: dict[str, Any] = {"event": "expected", "item": item.name, "input": str(item.path)}
        problem = item.problem
        if item.planes is not None:
            try:
                cost = expected_cost(
                    item.planes,
                    item.settings,
                    image=item.open().array,
                    region=item.region,
                    device=device,
                    kept=False,
                )
                costs.append(cost)
            except (ValueError, MemoryError, RuntimeError, OSError) as error:  # such as too small a plane
                problem = reason(error)
        if problem or item.planes is None:
            yield data | {"problem": problem}
            continue
        count = len(item.planes.indices)
        planes += count
        yield data | {"planes": count, **plain(among(workers, costs[-1], count))}
    if costs:
        yield {
            "event": "total",
            "images": len(costs),
            "planes": planes,
            **plain(among(workers, one_after_the_other(costs), planes)),
        }


def plain(cost: Cost) -> dict[str, Any]:
    """Return seconds, bytes and device as plain data, and all as text."""
    rounded = {"seconds": round(cost.seconds, 1), "memory": round(cost.memory), "device": cost.device}
    return {**rounded, "text": f"{cost} on {cost.device}"}


def line(data: Mapping[str, Any]) -> str:
    """Say the same to a person."""
    if "problem" in data:
        return f"{data['input']}\n  cannot be done: {data['problem']}"
    planes = f"{data['planes']} plane{'s' * (data['planes'] > 1)}: {data['text']}"
    if data["event"] == "total":
        return f"{data['images']} image{'s' * (data['images'] > 1)}, {planes}"
    return f"{data['input']}\n  {planes}"
