"""Settings of Sphinx; `development.md` says how the site is built."""

from __future__ import annotations

from dataclasses import fields
from importlib.metadata import version as version_of
from typing import TYPE_CHECKING, Any

from napari_vdip import Settings

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "napari-vdip"
author = "The napari-vdip developers"
project_copyright = f"2026, {author}"
release = version_of("napari-vdip")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
smartquotes = False  # what is copied from a page works
highlight_language = "none"

default_role = "py:obj"
autodoc_mock_imports = ["napari"]  # what is documented of `_layers` only names its types
autodoc_typehints = "none"  # docstrings say them, with shapes and axes
autodoc_member_order = "bysource"
autodoc_class_signature = "separated"
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_param = False  # types are words such as "array", not names to link to
napoleon_use_rtype = False

linkcheck_retries = 3
linkcheck_timeout = 30
linkcheck_anchors_ignore_for_url = [r"https://github\.com/.*"]  # made by scripts

html_theme = "pydata_sphinx_theme"
html_title = "napari-vdip"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_sidebars = {"**": []}  # pages have no pages below them
html_theme_options = {
    "github_url": "https://github.com/napari-vdip/napari-vdip",
    "navbar_align": "left",
    "header_links_before_dropdown": 4,
    "show_prev_next": False,
    "footer_start": ["copyright"],
    "footer_end": [],
}


def describe_fields(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Add what each setting means, from the one place that says it."""
    if obj is Settings and what == "class":
        lines += ["", "Attributes", "----------"]
        for item in fields(Settings):
            lines += [f"{item.name} : default ``{item.default!r}``", f"    {item.metadata['help']}"]


def setup(app: Sphinx) -> None:
    """Connect before napoleon, which turns the sections into fields."""
    app.connect("autodoc-process-docstring", describe_fields, priority=400)
