"""The examples of the README and the docstrings run; the latter print what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import shlex
from pathlib import Path

import pytest
import tifffile
import typer

import napari_vdip
from napari_vdip import Settings, options
from napari_vdip.cli import app
from napari_vdip.scenes import cells

ROOT = Path(__file__).parents[1]
PAGES_OF_DOCS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))
MODULES = sorted(
    module.name for module in pkgutil.iter_modules(napari_vdip.__path__) if not module.name.startswith("_")
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_the_module_run(name):
    module = importlib.import_module(f"napari_vdip.{name}")
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("name", ["settings", "deconvolution"])
def test_the_module_shows_its_use(name):
    module = importlib.import_module(f"napari_vdip.{name}")
    assert doctest.testmod(module).attempted > 0


def blocks_of(page, language):
    """Blocks of code of a page, in their order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


PAGES = [page for page in ("README.md", *PAGES_OF_DOCS) if blocks_of(page, "python")]


def test_the_tutorial_is_among_the_pages():
    assert {"README.md", "docs/tutorial-python.md", "docs/files.md"} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_the_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "cells.tif", cells(size=64, psf_size=9).blurred)
    names: dict[str, object] = {}
    for block in blocks_of(page, "python"):
        exec(compile(block, page, "exec"), names)
    if page == "docs/files.md":
        assert names["event"].kind == "done"


def commands_of(page):
    """What follows ``napari-vdip`` in each command of the page's blocks for a shell."""
    text = "\n".join(blocks_of(page, "bash")).replace("\\\n", " ")
    parts = [part for line in text.splitlines() for part in re.split(r"&&|\||;", line)]
    words = [shlex.split(part, comments=True) for part in parts]
    return [those[1:] for those in words if those and Path(those[0]).name == "napari-vdip"]


COMMANDS = [(page, words) for page in ("README.md", *PAGES_OF_DOCS) for words in commands_of(page)]


def test_the_pages_show_most_commands():
    assert {words[0] for _, words in COMMANDS} >= {"demo", "run", "estimate", "inspect"}
    assert len(COMMANDS) >= 10


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda value: " ".join(value)[:60])
def test_a_command_of_the_page_is_one(page, words):
    group = typer.main.get_command(app)
    context = group.make_context("napari-vdip", list(words))
    name, command, rest = group.resolve_command(context, list(words))
    command.make_context(name, rest, parent=context)  # reads the options, and does nothing


def test_a_command_that_is_none_is_found():
    group = typer.main.get_command(app)
    with pytest.raises(Exception, match="--window"):
        group.commands["run"].make_context("run", ["images/", "--window", "3"])


SETTINGS_OF = [(page, text) for page in PAGES_OF_DOCS for text in blocks_of(page, "yaml")]


@pytest.mark.parametrize(("page", "text"), SETTINGS_OF, ids=[page for page, _ in SETTINGS_OF])
def test_settings_of_the_page_are_read(page, text, tmp_path):
    (tmp_path / "settings.yaml").write_text(text, encoding="utf-8")
    stored = options.read_settings(tmp_path / "settings.yaml")
    found = options.settings_from("default", stored, {})
    assert found != Settings()


def test_the_page_of_files_shows_settings():
    assert "docs/files.md" in {page for page, _ in SETTINGS_OF}


def test_every_public_module_is_among_those_documented():
    named = "".join((ROOT / "docs" / page).read_text(encoding="utf-8") for page in ("api.md", "modules.md"))
    documented = re.findall(r"automodule:: napari_vdip\.(\w+)", named)
    assert sorted(documented) == MODULES
