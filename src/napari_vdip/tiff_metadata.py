"""What the metadata of TIFFs say of spacing and channels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

UNITS = {
    "nm": "nanometer",
    "µm": "micrometer",
    "um": "micrometer",
    "micron": "micrometer",
    "microns": "micrometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
    "Å": "angstrom",
    "in": "inch",
    "ms": "millisecond",
    "s": "second",
    "sec": "second",
    "min": "minute",
    "h": "hour",
}
"""Symbols of units in files, and the names that OME-Zarr and pint have for them."""
Spacing = Mapping[str, tuple[float, str | None]]
"""For an axis the distance from one pixel to the next, and its unit where it is known."""


def of_ome(xml: str, scene: int) -> tuple[Spacing, list[str], list[str]]:
    """Return the spacing of an image in OME-XML, and names and colours of its channels if all have one."""
    from tifffile import xml2dict

    images = _listed(xml2dict(xml)["OME"].get("Image"))
    pixels = images[scene].get("Pixels", {}) if scene < len(images) else {}
    names = {axis: f"PhysicalSize{axis}" for axis in "ZYX"} | {"T": "TimeIncrement"}
    spacing = {
        axis: (_number(pixels[name]), _unit(pixels.get(f"{name}Unit", "s" if axis == "T" else "µm")))
        for axis, name in names.items()
        if name in pixels
    }
    described = _listed(pixels.get("Channel"))
    channels = [str(channel.get("Name", "")) for channel in described]
    colours = [_colour(channel.get("Color")) for channel in described]
    return spacing, channels if all(channels) else [], colours if all(colours) else []


def to_ome(colour: str) -> int:
    """Return the number that OME-XML has for a colour ``RRGGBB``: RGBA as a signed integer of 32 bits."""
    return int.from_bytes(bytes.fromhex(f"{colour}FF"), signed=True)


def of_imagej(metadata: Mapping[str, Any], tags: Any) -> Spacing:
    """Return the spacing that ImageJ's metadata and the tags of its first page say."""
    unit = _unit(metadata.get("unit"))
    if unit is None:  # then the resolution is that of a printer
        return {}
    spacing = {}
    for axis in "YX":
        pixels, units = tags[f"{axis}Resolution"].value if f"{axis}Resolution" in tags else (0, 0)
        if pixels and units:
            spacing[axis] = (units / pixels, unit)
    if metadata.get("spacing"):
        spacing["Z"] = (abs(_number(metadata["spacing"])), unit)
    if metadata.get("finterval"):
        spacing["T"] = (_number(metadata["finterval"]), "second")
    return spacing


def _number(text: Any) -> float:
    """Return the number that a text holds, or NaN: a size that cannot be read is unknown."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


def _colour(number: Any) -> str:
    """Return the colour that OME-XML has a number for, see `to_ome`; nothing if it cannot be read."""
    try:
        return int(number).to_bytes(4, signed=True)[:3].hex().upper()
    except (OverflowError, TypeError, ValueError):
        return ""


def _unit(symbol: Any) -> str | None:
    """Return the name of a unit, or `None` if it is none, such as pixel."""
    text = str(symbol or "").replace("\\u00B5", "µ").replace("μ", "µ").strip()  # two letters look like mu
    return UNITS.get(text, text if text in UNITS.values() else None)


def _listed(value: Any) -> list[Any]:
    """Return what XML says once or several times as a list."""
    return value if isinstance(value, list) else [] if value is None else [value]
