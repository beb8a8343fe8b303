"""What the panel begins with: the settings of the last run, or those of napari's Preferences."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from napari.settings import get_settings

from napari_vdip._settings_form import FIXED
from napari_vdip.settings import Settings


@dataclass(frozen=True, slots=True)
class Start:
    """What the panel begins with.

    Attributes
    ----------
    settings : Settings
        In the form.
    preset : str
        The one in the form.
    window : str
        Whether a window that is too small grows, see `_settings_form`.
    device : str
        Where to compute, if it is there.
    output : str
        Folder for the results of a batch.
    """

    settings: Settings
    preset: str = "default"
    window: str = FIXED
    device: str = "auto"
    output: str = ""


def preferred() -> Start:
    """Return what napari's Preferences say; before napari 0.9 there are none for plugins."""
    chosen = _preferences()
    preset = getattr(chosen, "preset", "default")
    window = int(getattr(chosen, "psf_window", 0)) // 2 * 2 + 1  # odd
    changes = {"psf_shape": window} if window > 1 else {}
    return Start(Settings.preset(preset, **changes), preset, device=getattr(chosen, "device", "auto"))


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
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # none, or of another version
        return preferred()


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
