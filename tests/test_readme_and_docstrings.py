"""The examples of the README and the docstrings run; the latter print what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import napari_vdip

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


def test_the_python_of_the_readme_runs():
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", readme, flags=re.M | re.S)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert names["result"].std.shape == names["scene"].blurred.shape
