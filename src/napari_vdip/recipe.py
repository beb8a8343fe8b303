"""A run as text: the command, or the Python code, that runs it again. Says nothing that is a default."""

from __future__ import annotations

import shlex
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from napari_vdip.settings import PRESETS, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_vdip.tiling import Bounds


def differences(settings: Settings) -> tuple[str, dict[str, Any]]:
    """Return the preset that settings differ least from, and the fields in which they do.

    Examples
    --------
    >>> differences(Settings.paper(seed=3))
    ('paper', {'seed': 3})
    """

    def changed(preset: str) -> dict[str, Any]:
        start = Settings.preset(preset)
        values = {item.name: getattr(settings, item.name) for item in fields(Settings)}
        return {name: value for name, value in values.items() if value != getattr(start, name)}

    nearest = min(PRESETS, key=lambda preset: len(changed(preset)))
    return nearest, changed(nearest)


def settings_code(settings: Settings) -> str:
    """Write settings as Python.

    Examples
    --------
    >>> settings_code(Settings(psf_shape=15, seed=3))
    'Settings(psf_shape=(15, 15), seed=3)'
    >>> settings_code(Settings.paper())
    "Settings.preset('paper')"
    """
    preset, changes = differences(settings)
    arguments = [f"{name}={value!r}" for name, value in changes.items()]
    if preset == "default":
        return f"Settings({', '.join(arguments)})"
    return f"Settings.preset({', '.join([repr(preset), *arguments])})"


def command(
    inputs: Sequence[str | Path],
    output: str | Path,
    settings: Settings,
    *,
    axes: str | None = None,
    format: str | None = None,
    psf: str | Path | None = None,
    region: Bounds | None = None,
    device: str | None = None,
    overwrite: bool = False,
    joint_colours: bool = True,
) -> str:
    """Write the ``napari-vdip run`` that plans the same as `batch.plan` with these arguments, for a shell.

    Parameters
    ----------
    inputs, output, settings, axes, format, psf, region, joint_colours
        See `batch.plan`.
    device, overwrite
        See `batch.execute`.

    Examples
    --------
    >>> command(["my cells.tif"], "results", Settings(psf_shape=15), device="cpu")
    "napari-vdip run 'my cells.tif' --output results --psf-shape 15,15 --device cpu"
    """
    preset, changes = differences(settings)
    if psf is not None:  # says both
        changes = {name: changes[name] for name in changes if name not in ("psf_source", "psf_shape")}
    if not joint_colours:
        changes["channels"] = settings.channels
    words = ["napari-vdip", "run", *map(str, inputs), "--output", str(output)]
    if preset != "default":
        words += ["--preset", preset]
    for name, value in changes.items():
        words += _option(name, value)
    for name, value in {"axes": axes, "format": format, "psf": psf, "device": device}.items():
        if value not in (None, "auto"):
            words += [f"--{name}", str(value)]
    if region is not None:
        words += ["--region", ",".join(f"{first}:{end}" for first, end in region)]
    if overwrite:
        words.append("--overwrite")
    return shlex.join(words)


def _option(name: str, value: Any) -> list[str]:
    """Write a field as `options` reads it."""
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    if isinstance(value, tuple):
        return [f"--{option}", ",".join(map(str, value))]
    return [f"--{option}", "none" if value is None else str(value)]
