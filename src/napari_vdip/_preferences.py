"""What the panel begins with: the settings of the last run, or those of napari's Preferences."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from napari.settings import get_settings

from napari_vdip._settings_form import FIXED
from napari_vdip.settings import Settings


@dataclass(frozen=True, slots=True)
class Start:
    """What the panel begins with.

    Raises
    ------
    TypeError, ValueError
        If something is not of its type, or no number.

    Attributes
    ----------
    settings : Settings
        In the form.
    window : str
        Whether a window that is too small grows, see `_settings_form`.
    device : str
        Where to compute, if it is there.
    output, format : str
        Folder for the results of a batch, and the choice of their format, if it is one.
    overwrite : bool
        Whether they may replace others.
    wavelength, na : float
        Emission wavelength in nanometres and numerical aperture; 0 where they are not known.
    """

    settings: Settings
    window: str = FIXED
    device: str = "auto"
    output: str = ""
    format: str = ""
    overwrite: bool = False
    wavelength: float = 0.0
    na: float = 0.0

    def __post_init__(self) -> None:
        for item in fields(self)[1:]:
            value = getattr(self, item.name)
            if type(value) is not type(item.default):
                raise TypeError(f"{item.name}: expected {type(item.default).__name__}, got {value!r}")
        if not math.isfinite(self.wavelength + self.na):
            raise ValueError(f"wavelength, na: expected numbers, got {self.wavelength}, {self.na}")


def preferred() -> Start:
    """Return what napari's Preferences say; before napari 0.9 there are none for plugins."""
    chosen = _preferences()
    preset = getattr(chosen, "preset", "default")
    window = int(getattr(chosen, "psf_window", 0)) // 2 * 2 + 1  # odd
    changes = {"psf_shape": window} if window > 1 else {}
    return Start(Settings.preset(preset, **changes), device=getattr(chosen, "device", "auto"))


def first() -> Start:
    """Return what the last run had, or else, or if Preferences say so, `preferred`."""
    if not getattr(_preferences(), "remember", True):
        return preferred()
    file = place()
    if file is None:
        return preferred()
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        return Start(**{**stored, "settings": Settings(**stored["settings"])})
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return preferred()  # there is none, or one of another version, or it was made to harm


def remember(start: Start) -> None:
    """Keep for the next session; that it cannot be kept is no reason not to run."""
    file = place()
    if file is None:
        return
    part = file.with_name(f".part-{file.name}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(asdict(start), indent=2), encoding="utf-8")
        part.replace(file)
    except OSError:
        part.unlink(missing_ok=True)


def forget() -> None:
    """Keep nothing."""
    file = place()
    if file is not None:
        file.unlink(missing_ok=True)


def place() -> Path | None:
    """Return the file, which is beside napari's own settings; ``None`` if napari keeps none."""
    settings = get_settings().config_path
    return None if settings is None else Path(settings).with_name("napari-vdip-panel.json")


def _preferences() -> Any:
    """Return the plugin's page of napari's Preferences, or ``None``."""
    try:
        from napari.settings import get_plugin_settings

        return get_plugin_settings("napari-vdip").defaults
    except (ImportError, KeyError, AttributeError):  # before napari 0.9, or the plugin is not installed
        return None
