"""Who may import whom, seen in fresh interpreters."""

import ast
import os
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import napari_vdip

GUI = ("napari", "magicgui", "qtpy", "superqt", "pyqtgraph")
CORE = sorted(
    f"napari_vdip.{path.stem}"
    for path in Path(napari_vdip.__file__).parent.glob("*.py")
    if not path.stem.startswith("_")
)


ALL = {
    path.stem: path for path in Path(napari_vdip.__file__).parent.glob("*.py") if path.stem != "__init__"
}
ALONE = (
    "operators", "kernels", "noise", "solvers", "generators", "metrics", "estimate", "tiling", "widths",
    "power", "replay"
)  # fmt: skip
FILES = {
    "readers",
    "tiff_metadata",
    "image_file",
    "psf_file",
    "ome_zarr",
    "io",
    "names",
    "items",
    "workspace",
    "plane_task",
}
COMMANDS = {
    "batch",
    "work",
    "options",
    "report",
    "recipe",
    "inspection",
    "cli",
    "cli_estimate",
    "reservation",
}
CLUSTERS = {"cluster", "local_cluster", "lazy_cluster"}
COMPUTING = {"deconvolution", "attempts", "plane", "search", "refinement", "generators"}


def known_by(name: str) -> set[str]:
    """Modules of ours that a module imports, also within functions, but for types alone."""
    tree = ast.parse(ALL[name].read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    found = {(node.module or "").removeprefix("napari_vdip.") for node in froms}
    found |= {alias.name for node in froms if node.module == "napari_vdip" for alias in node.names}
    return found & set(ALL)


KNOWN = {name: known_by(name) for name in ALL}


def known_at_last(name: str) -> set[str]:
    """The same, with what those import, and so on."""
    found: set[str] = set()
    new = {name}
    while new:
        new = set().union(*(KNOWN[one] for one in new)) - found
        found |= new
    return found


def test_no_two_modules_know_each_other():
    order = list(TopologicalSorter(KNOWN).static_order())  # raises where there is a cycle
    assert order.index("settings") < order.index("deconvolution") < order.index("_widget")


def test_public_modules_know_no_hidden_ones():
    public = {name: known for name, known in KNOWN.items() if not name.startswith("_")}
    assert len(public) > 50
    assert {name for name, known in public.items() if any(one.startswith("_") for one in known)} == set()


def test_the_tools_of_the_mathematics_stand_alone():
    assert {name: KNOWN[name] for name in ALONE} == {name: set() for name in ALONE}


def test_what_computes_knows_no_files_commands_or_clusters():
    assert set(ALL) >= FILES | COMMANDS | CLUSTERS
    known = known_at_last("deconvolution")
    assert known >= {"plane", "refinement", "stack"}
    assert known & (FILES | COMMANDS | CLUSTERS) == set()


def test_what_reads_and_writes_files_does_not_compute():
    for name in ("readers", "tiff_metadata", "image_file", "psf_file", "ome_zarr", "io", "names"):
        assert known_at_last(name) & COMPUTING == set()


def imported_by(*modules: str) -> set[str]:
    """Names of the modules in a fresh interpreter after importing some."""
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def test_the_package_imports_neither_torch_nor_a_gui():
    assert not {"torch", *GUI} & imported_by("napari_vdip")


def test_the_core_imports_no_gui():
    assert "napari_vdip.deconvolution" in CORE
    loaded = imported_by(*CORE)
    assert set(CORE) <= loaded
    assert not set(GUI) & loaded


def test_the_widget_imports_no_torch():
    loaded = imported_by("napari_vdip._widget")
    assert "napari" in loaded
    assert "torch" not in loaded


OPENED = """
import sys
from napari.components import ViewerModel
from qtpy.QtWidgets import QApplication
application, viewer = QApplication([]), ViewerModel()
from napari_vdip._widget import DeconvolutionWidget
panel = DeconvolutionWidget(viewer)
print(*sys.modules)
"""


def test_a_panel_that_is_opened_has_imported_no_torch():
    offscreen = os.environ | {"QT_QPA_PLATFORM": "offscreen"}
    ran = subprocess.run(
        [sys.executable, "-c", OPENED], capture_output=True, text=True, check=True, env=offscreen
    )
    assert "napari_vdip._widget" in ran.stdout.split()
    assert "torch" not in ran.stdout.split()


def test_the_sample_data_imports_no_torch():
    assert "torch" not in imported_by("napari_vdip._sample_data")


def test_the_command_line_imports_no_torch_before_it_computes():
    assert not {"torch", "zarr", "dask"} & imported_by("napari_vdip.cli", "napari_vdip.batch")


def test_the_package_takes_a_fraction_of_the_time_of_numpy():
    """Ratios in one run, so that a busy machine does not decide; the least of five of each."""
    package, settings, numpy = (
        min(seconds_to_import(name) for _ in range(5))
        for name in ("napari_vdip", "napari_vdip.settings", "numpy")
    )
    assert package < numpy / 2
    assert settings < numpy


def seconds_to_import(module: str) -> float:
    """Processor time of importing a module, in a fresh interpreter."""
    code = f"import time; start = time.process_time(); import {module}; print(time.process_time() - start)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
