"""A form generated from the fields of `Settings`."""

from __future__ import annotations

from dataclasses import fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from magicgui.widgets import (
    CheckBox,
    ComboBox,
    FloatSpinBox,
    LiteralEvalLineEdit,
    SpinBox,
    TupleEdit,
)

from napari_vdip.settings import METHODS, PRESETS, Settings

if TYPE_CHECKING:
    from dataclasses import Field

FIXED, AUTOMATIC = "as it is", "automatic"
CHANGED = "(changed)"
"""What is chosen as preset where the advanced fields are those of none."""
SWITCHES = set().union(*METHODS.values())
"""Fields that the choice of a method stands for."""
LARGEST = 9999
"""Largest whole number where a field has no limit."""


class SettingsForm:
    """Widgets for all fields of `Settings`, with a choice of method and preset.

    Attributes
    ----------
    method, preset : ComboBox
        The method stands for `SWITCHES`; a preset fills the advanced fields, and says what is in them.
    window : ComboBox
        Whether a point spread function that its window cuts off is estimated again in a larger one.
    basic, advanced : dict
        The widgets of the other fields by name.
    """

    def __init__(self) -> None:
        hints, defaults = get_type_hints(Settings), Settings()
        about = {item.name: item.metadata for item in fields(Settings)}
        widgets = {
            item.name: field_widget(item, hints[item.name])
            for item in fields(Settings)
            if item.name not in SWITCHES
        }
        self.basic = {name: widgets[name] for name in widgets if not about[name]["advanced"]}
        self.advanced = {name: widgets[name] for name in widgets if about[name]["advanced"]}
        self.method = ComboBox(
            label="method",
            choices=tuple(METHODS),
            value=defaults.method,
            tooltip=" ".join(about[name]["help"] for name in sorted(SWITCHES)),
        )
        self.window = ComboBox(
            label="PSF window",
            choices=(FIXED, AUTOMATIC),
            tooltip="automatic: where the PSF reaches the border of its window, run again with a larger "
            "PSF shape, which takes a moment in a trial on the visible region.",
        )
        self.preset = ComboBox(
            label="preset",
            choices=(*PRESETS, CHANGED),
            tooltip="Fill in the advanced settings: default is for microscopy, photograph for motion blur, "
            "networks begins with the two networks, and paper is the published schedule: both take "
            f"many times longer. {CHANGED}: they are those of no preset.",
        )
        self.preset.changed.connect(self._fill)
        for widget in self.advanced.values():
            widget.changed.connect(self._name_preset)

    @property
    def value(self) -> Settings:
        """The settings in the form; a `ValueError` says what is wrong with them."""
        values: dict[str, Any] = dict(METHODS[self.method.value])
        for name, widget in {**self.basic, **self.advanced}.items():
            values[name] = read(name, widget)
        return Settings(**values)

    @value.setter
    def value(self, settings: Settings) -> None:
        self.method.value = settings.method
        for name, widget in {**self.basic, **self.advanced}.items():
            put(widget, getattr(settings, name))

    @property
    def widgets(self) -> list[Any]:
        """All of them."""
        return [self.method, self.preset, self.window, *self.basic.values(), *self.advanced.values()]

    @property
    def problem(self) -> str:
        """What is wrong with the settings in the form; nothing if they are right."""
        try:
            _ = self.value
        except ValueError as error:
            return str(error)
        return ""

    @property
    def takes_psf(self) -> bool:
        """Whether what is in the form can take a point spread function that is known."""
        return bool(self.method.value == "VDIP-Sparse" and self.advanced["refinements"].value)

    def _fill(self, preset: str) -> None:
        if preset != CHANGED:
            settings = Settings.preset(preset)
            for name, widget in self.advanced.items():
                put(widget, getattr(settings, name))
        self._name_preset()

    def _name_preset(self) -> None:
        """Let the box say which preset is in the fields, so that it can be chosen again where none is."""
        with self.preset.changed.blocked():
            self.preset.value = next((name for name in PRESETS if self._holds(name)), CHANGED)

    def _holds(self, preset: str) -> bool:
        """Whether the advanced fields are those of a preset."""
        settings = Settings.preset(preset)
        try:
            return all(
                read(name, widget) == getattr(settings, name) for name, widget in self.advanced.items()
            )
        except ValueError:  # no number is in one of them
            return False


def field_widget(item: Field[Any], hint: Any) -> Any:
    """Make the widget of a field from its type, default and limits.

    Numbers without a step span orders of magnitude, and are typed, like all that has no widget.
    """
    limits = {name: item.metadata[name] for name in ("min", "max", "step") if name in item.metadata}
    common = {
        "name": item.name,
        "label": item.name.replace("_", " ").replace("psf", "PSF"),
        "value": item.default,
        "tooltip": item.metadata["help"],
    }
    if hint is bool:
        box = CheckBox(**common)
        box.text = ""
        return box
    if get_origin(hint) is Literal:
        return ComboBox(choices=get_args(hint), **common)
    if hint is int:
        return SpinBox(**{"max": LARGEST, **limits}, **common)
    if hint is float and "step" in limits:
        return FloatSpinBox(**limits, **common)
    if get_origin(hint) is tuple and set(get_args(hint)) == {int}:
        return TupleEdit(options={"max": LARGEST, **limits}, **common)
    return LiteralEvalLineEdit(**common)


def read(name: str, widget: Any) -> Any:
    """Return the value of a field's widget."""
    try:
        return widget.value
    except (SyntaxError, ValueError):
        raise ValueError(f"{name}: expected numbers as in Python, got {widget.native.text()!r}") from None


def put(widget: Any, value: Any) -> None:
    """Set the value of a field's widget, to the last digit: a box would round it to those it shows."""
    if isinstance(widget, FloatSpinBox):
        widget.native.setDecimals(max(digits(widget.step or 1), digits(value)))
    widget.value = value


def digits(value: float) -> int:
    """Digits after the point that a number is written with."""
    return max(-int(Decimal(repr(value)).as_tuple().exponent), 0)
