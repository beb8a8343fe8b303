"""Whether settings are ones that a run can have: their limits, and what goes with what."""

from __future__ import annotations

from dataclasses import fields
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from dataclasses import Field

    from napari_vdip.settings import Settings


def check(settings: Settings) -> None:
    """Check all fields, by their types and limits, and that they go together.

    Raises
    ------
    ValueError
        If they do not; the message names the field, what it may be, and its value.
    """
    if len(settings.widths) != 5:
        raise ValueError(f"widths: expected five numbers, got {settings.widths}")
    hints = get_type_hints(type(settings))
    for item in fields(settings):
        value, hint = getattr(settings, item.name), hints[item.name]
        if hint is bool:
            _check_choice(item.name, value, (True, False))
        elif get_origin(hint) is Literal:
            _check_choice(item.name, value, get_args(hint))
        elif "max" in item.metadata and not (value is None and type(None) in get_args(hint)):
            _check_number(item, value, whole=int in (hint, *get_args(hint)))
    if settings.bound_until < settings.similarity_from:
        raise ValueError(
            f"similarity_from: expected at most bound_until = {settings.bound_until}, so that every step "
            f"has an objective, got {settings.similarity_from}"
        )
    if not settings.network_steps and not settings.rounds:
        raise ValueError(
            "steps: expected at least 1, since only VDIP-Sparse with refinements can do without networks, "
            f"got 0 with {settings.method} and refinements = {settings.refinements}"
        )
    if not settings.network_steps and settings.prefit_steps:
        raise ValueError(
            "prefit_steps: expected 0, since there are no networks with steps = 0, "
            f"got {settings.prefit_steps}"
        )
    if settings.psf_source != "plane" and not settings.rounds:
        raise ValueError(
            "psf_source: expected 'plane', since only the refinement of VDIP-Sparse takes a known "
            f"point spread function, got {settings.psf_source!r} with {settings.method} and refinements = "
            f"{settings.refinements}"
        )


def _check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}: expected one of {choices}, got {value!r}")


def _check_number(item: Field[Any], value: Any, *, whole: bool) -> None:
    """Check that a value is a number, a whole one or any, and within the field's limits."""
    limits = item.metadata
    if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
        raise ValueError(f"{item.name}: expected {'an integer' if whole else 'a number'}, got {value!r}")
    if not limits["min"] <= value <= limits["max"]:
        raise ValueError(f"{item.name}: expected {limits['min']} to {limits['max']}, got {value}")


def window(name: str, value: Any) -> tuple[int, int]:
    """Check the sides of a point spread function, which are odd; one number is a square."""
    sides = integers(name, (value, value) if isinstance(value, Integral) else value, 3)
    if len(sides) != 2 or not all(side % 2 for side in sides):
        raise ValueError(f"{name}: expected one or two odd numbers, got {sides}")
    return sides


def integers(name: str, values: Any, smallest: int, largest: int = 2**31 - 1) -> tuple[int, ...]:
    """Check that values are integers within limits, and return them as a tuple."""
    try:
        items = tuple(values)
    except TypeError:
        raise ValueError(f"{name}: expected integers, got {values!r}") from None
    if not all(isinstance(item, Integral) and int(item) >= smallest for item in items):
        raise ValueError(f"{name}: expected integers of at least {smallest}, got {values!r}")
    if any(int(item) > largest for item in items):
        raise ValueError(f"{name}: expected integers of at most {largest}, got {values!r}")
    return tuple(int(item) for item in items)
