"""Who may import whom, seen in fresh interpreters."""

import subprocess
import sys
from pathlib import Path

import napari_vdip

GUI = ("napari", "magicgui", "qtpy", "superqt", "pyqtgraph")
CORE = sorted(
    f"napari_vdip.{path.stem}"
    for path in Path(napari_vdip.__file__).parent.glob("*.py")
    if not path.stem.startswith("_")
)


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


def test_the_sample_data_imports_no_torch():
    assert "torch" not in imported_by("napari_vdip._sample_data")


def test_the_command_line_imports_no_torch_before_it_computes():
    assert not {"torch", "zarr", "dask"} & imported_by("napari_vdip.cli", "napari_vdip.batch")


def test_the_package_takes_a_fraction_of_the_time_of_numpy():
    """A ratio in one run, so that a busy machine does not decide; the least of five of each."""
    package, numpy = (
        min(seconds_to_import(name) for _ in range(5)) for name in ("napari_vdip.settings", "numpy")
    )
    assert package < numpy


def seconds_to_import(module: str) -> float:
    """Processor time of importing a module, in a fresh interpreter."""
    code = f"import time; start = time.process_time(); import {module}; print(time.process_time() - start)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
