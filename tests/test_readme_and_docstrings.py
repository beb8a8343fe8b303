"""The examples of the README and the docstrings run; the latter print what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import tifffile

import napari_vdip
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


def python_of(page):
    """Python blocks of a page, in their order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S)


PAGES = [page for page in ("README.md", *PAGES_OF_DOCS) if python_of(page)]


def test_the_tutorial_is_among_the_pages():
    assert {"README.md", "docs/tutorial-python.md", "docs/files.md"} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_the_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "cells.tif", cells(size=64, psf_size=9).blurred)
    names: dict[str, object] = {}
    for block in python_of(page):
        exec(compile(block, page, "exec"), names)
    if page == "docs/files.md":
        assert names["event"].kind == "done"
