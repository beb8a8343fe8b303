"""What napari opens of a folder of results: its ``napari-vdip.json`` stands for the arrays beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_vdip.image_file import read
from napari_vdip.names import RECORD

if TYPE_CHECKING:
    from collections.abc import Callable

    LayerTuple = tuple[Any, dict[str, Any], str]

SHOWN = {"latent": True, "std": False}
"""Results that lie over the source, and which of them are seen at first."""


def get_reader(path: str | list[str]) -> Callable[[str], list[LayerTuple]] | None:
    """Return what reads a record of results, for napari; nothing for other files."""
    return read_results if isinstance(path, str) and Path(path).name == RECORD else None


def read_results(path: str) -> list[LayerTuple]:
    """Return the layers of the results in a record's folder, with their scale, units and place."""
    folder = Path(path).parent
    origin = json.loads(Path(path).read_text(encoding="utf-8")).get("origin", {})
    layers: list[LayerTuple] = []
    for quantity, visible in SHOWN.items():
        for file in sorted(folder.glob(f"{quantity}.ome.*")):
            image = read(file)
            axes = image.axes.replace("C", "")
            about = [image.spacing.get(axis, (1.0, None)) for axis in axes]
            options: dict[str, Any] = {
                "name": f"{folder.name} {quantity}",
                "scale": [step for step, _ in about],
                "units": [unit or "pixel" for _, unit in about],
                "translate": [origin.get(axis, 0.0) for axis in axes],
                "axis_labels": axes.lower(),
                "visible": visible,
            }
            if "C" in image.axes:
                names = [f"{options['name']} {channel}" for channel in image.channels]
                options |= {"channel_axis": image.axes.index("C"), "name": names}
            layers.append((image.array, options, "image"))
    return layers
