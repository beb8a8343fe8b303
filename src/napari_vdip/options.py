"""Settings on the command line and in files; both know the fields of `Settings` from itself."""

from __future__ import annotations

import inspect
import json
import re
import tomllib
from contextlib import contextmanager
from dataclasses import Field, fields
from difflib import get_close_matches
from functools import wraps
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand

from napari_vdip.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path


LARGEST_FILE = 2**16
"""Characters of a settings file, a hundred times what all fields take."""


UsageError: Any = typer.BadParameter.__base__
"""What a wrong use of a command raises: of click, or of what typer has in its place."""


class Command(TyperCommand):
    """A command whose wrong use is an object on standard output as well, if ``--json`` asks for objects."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        """Read the arguments."""
        with _told("--json" in args):
            return super().make_context(info_name, args, *rest, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Do what the arguments say."""
        with _told(ctx.params.get("json", False)):
            return super().invoke(ctx)


@contextmanager
def _told(json_wanted: bool) -> Iterator[None]:
    """Print a wrong use as an object, and pass it on."""
    try:
        yield
    except UsageError as error:
        if json_wanted:
            typer.echo(json.dumps({"event": "error", "reason": error.format_message()}))
        raise


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each field of `Settings`; it gets those named as ``changes``."""
    named = [item for item in inspect.signature(command).parameters.values() if item.name != "changes"]
    types = get_type_hints(command, include_extras=True)
    named = [item.replace(annotation=types[item.name]) for item in named]

    @wraps(command)
    def with_changes(**values: Any) -> None:
        texts = {item.name: values.pop(item.name) for item in fields(Settings)}
        changes = {name: _value(name, text) for name, text in texts.items() if text is not None}
        command(**values, changes=changes)

    options = [_option(item) for item in fields(Settings)]
    with_changes.__signature__ = inspect.Signature([*named, *options])  # type: ignore[attr-defined]
    with_changes.__annotations__ = {item.name: item.annotation for item in (*named, *options)}
    return with_changes


def settings_from(preset: str, stored: Mapping[str, Any], changes: Mapping[str, Any]) -> Settings:
    """Return the settings of a preset, changed by those of a file, changed by single options.

    Raises
    ------
    typer.BadParameter
        If something is not what it can be; names the option.
    """
    try:
        return Settings.preset(preset, **{**stored, **changes})
    except ValueError as error:
        field = str(error).partition(":")[0]
        if field in stored and field not in changes:
            raise typer.BadParameter(str(error), param_hint="--settings") from None
        raise bad_option(error) from None


def read_settings(file: Path) -> dict[str, Any]:
    """Read fields of `Settings` from a YAML or TOML file, which can hold nothing but data.

    Raises
    ------
    typer.BadParameter
        If the file cannot be read, or names something that is no field.
    """
    import yaml

    try:
        with file.open(encoding="utf-8") as stream:
            text = stream.read(LARGEST_FILE + 1)
        if len(text) > LARGEST_FILE:
            raise ValueError(f"expected at most {LARGEST_FILE} characters")
        data = tomllib.loads(text) if file.suffix.lower() == ".toml" else _yaml(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise typer.BadParameter(
            f"{file}: {' '.join(str(error).split())}", param_hint="--settings"
        ) from None
    if data is None:
        return {}
    known = [item.name for item in fields(Settings)]
    if not isinstance(data, dict):
        message = f"{file}: expected fields of Settings with their values, got {type(data).__name__}"
        raise typer.BadParameter(message, param_hint="--settings")
    for name in data:
        if name not in known:
            near = get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
            raise typer.BadParameter(f"{file}: unknown field {name!r}: {hint}", param_hint="--settings")
    return data


def read_region(text: str | None) -> tuple[Any, ...] | None:
    """Return the region that an option's text stands for, such as ``10:50,20:80`` or ``:50,:``.

    Raises
    ------
    ValueError
        If it stands for none.
    """
    if text is None:
        return None
    sides = re.fullmatch(r"\s*(-?\d+)?:(-?\d+)?\s*,\s*(-?\d+)?:(-?\d+)?\s*", text)
    if sides is None:
        raise ValueError(f"region: expected rows and columns such as 10:50,20:80, got {text!r}")
    bounds = tuple(None if bound is None else int(bound) for bound in sides.groups())
    return tuple(slice(*side) if None in side else side for side in (bounds[:2], bounds[2:]))


def _yaml(text: str) -> Any:
    """Load data that is at most a list in a mapping: aliases and nesting can expand without limit."""
    import yaml

    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > 2 or isinstance(event, yaml.AliasEvent):
            raise ValueError("expected fields with their values, got nested ones or an alias")
    return yaml.safe_load(text)


def bad_option(error: ValueError) -> typer.BadParameter:
    """Turn an error whose message begins with a parameter into one that names its option."""
    name, colon, message = str(error).partition(": ")
    if not colon or not name.isidentifier():
        return typer.BadParameter(str(error))
    hint = "INPUT" if name == "input" else f"--{name.replace('_', '-')}"
    return typer.BadParameter(message, param_hint=hint)


def _option(item: Field[Any]) -> inspect.Parameter:
    """Describe a field as an option whose value is `None` if it is not named."""
    kind, limits = _types()[item.name], item.metadata
    about: dict[str, Any] = {
        "help": f"{limits['help']} Default: {_text(item.default)}.",
        "rich_help_panel": "Advanced settings" if limits["advanced"] else "Settings",
    }
    if kind in (int, float):
        about |= {"min": limits.get("min"), "max": limits.get("max")}
    elif kind is not bool and get_origin(kind) is not Literal:
        about |= {"metavar": "INTEGERS" if get_origin(kind) is tuple else "VALUE"}
        kind = str
    annotation: Any = Annotated[Optional[kind], typer.Option(**about)]  # noqa: UP045
    return inspect.Parameter(item.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _value(name: str, value: Any) -> Any:
    """Return the value that an option's text stands for."""
    kind = _types()[name]
    if isinstance(kind, UnionType):
        if value.lower() == "none":
            return None
        kind = next(one for one in get_args(kind) if one is not NoneType)
    try:
        if get_origin(kind) is tuple:
            numbers = tuple(int(part) for part in re.split(r"[\s,x]+", value.strip()))
            return numbers[0] if len(numbers) == 1 else numbers
        return kind(value) if kind in (int, float) else value
    except ValueError:
        form = "a number or none" if kind in (int, float) else "integers such as 31 or 31,21"
        hint = f"--{name.replace('_', '-')}"
        raise typer.BadParameter(f"expected {form}, got {value!r}", param_hint=hint) from None


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _types() -> dict[str, Any]:
    return get_type_hints(Settings)
