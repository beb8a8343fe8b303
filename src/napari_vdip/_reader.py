"""What napari opens of a folder of results: its ``napari-vdip.json`` stands for the arrays beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_vdip.names import RECORD

if TYPE_CHECKING:
    from collections.abc import Callable

    LayerTuple = tuple[Any, dict[str, Any], str]


def get_reader(path: str | list[str]) -> Callable[[str], list[LayerTuple]] | None:
    """Return what reads a record of results, for napari; nothing for other files."""
    return read_results if isinstance(path, str) and Path(path).name == RECORD else None


def read_results(path: str) -> list[LayerTuple]:
    """Return the layers of the results in a record's folder, as a run of the panel would leave them.

    They have the results' scale, units and place, and say how they were made.

    Raises
    ------
    ValueError
        If the folder does not hold what this version writes.
    """
    from napari.layers import Image

    from napari_vdip._layers import KEY, layer_data
    from napari_vdip._provenance import RECIPE, Recipe
    from napari_vdip.course import BLANK, FINISHED
    from napari_vdip.inspection import load

    stored = load(Path(path).parent, compare=False)
    record, result = stored.record, stored.result
    early = [why for why in stored.ended.values() if why not in (FINISHED, BLANK)]
    result = replace(result, stopped=early[0] if early else FINISHED)
    recipe = Recipe.from_record(record, result.settings)
    about = [stored.psf.spacing.get(axis, (1.0, None)) for axis in result.axes]
    # Stands for the layer that was deconvolved: of its size, where it was.
    source = Image(
        result.latent,
        name=recipe.image.layer,
        rgb=False,
        scale=[step for step, _ in about],
        units=[unit or "pixel" for _, unit in about],
        translate=[stored.origin.get(axis, 0.0) for axis in result.axes],
        axis_labels=list(result.axes.lower()),
    )
    title = stored.folder.name
    layers = layer_data(replace(result, std=None), source, title=title)
    if result.std is not None:  # not read as a whole for its largest number
        options = {name: value for name, value in layers[0][1].items() if name != "contrast_limits"}
        made = {**options["metadata"][KEY], "quantity": "std"}
        look = {"name": f"{title} std", "colormap": "magma", "visible": False, "metadata": {KEY: made}}
        layers.append((result.std, {**options, **look}, "image"))
    for _, options, _ in layers:
        options["metadata"][KEY] |= {RECIPE: recipe.plain(), "versions": record.get("versions")}
    return layers
