"""The same time-lapse by the widget, the function, the command line and a cluster: is it the same result?

    python benchmarks/ways.py [--frames 10] [--side 512] [--workers 2] [--screenshot FILE]

Needs a display for the widget (on a machine without one: ``xvfb-run``). Every way is a process of its own,
whose memory, with that of its children, is read while it runs. All compute on one thread, so that results
can be compared bit for bit.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import tifffile
from common import Results, changes_of, environment, parser_for, results_path

from napari_vdip import Settings
from napari_vdip.scenes import Kind, gaussian_psf, specimen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

AXES = "TCYX"
WIDTHS: dict[Kind, float] = {"filaments": 1.6, "nuclei": 2.0}
"""Specimen of each channel, and the standard deviation in pixels of its Gaussian point spread function."""
DRIFT = 3
"""Pixels that the specimen moves by from frame to frame."""
LOOK_EVERY = 0.5
"""Seconds between looks at the memory."""
SAMPLES = 100
"""Looks that are kept of each."""
RESULTS = ("latent", "std", "psf")


def main(argv: Sequence[str] | None = None) -> Results:
    """Run from the command line."""
    parser = parser_for(__doc__)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--side", type=int, default=512, help="of a plane, in pixels")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--screenshot", type=Path, help="file for a picture of the window")
    arguments = parser.parse_args(argv)
    record = environment("cpu", arguments.seed)
    results = Results(results_path(arguments, "ways"), record, resume=arguments.resume)
    frames, side = (2, 48) if arguments.quick else (arguments.frames, arguments.side)
    settings = Settings.preset(
        arguments.preset, psf_shape=5 if arguments.quick else 15, psf_source="channel"
    )
    settings = settings.replace(**changes_of(arguments))
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stack = time_lapse(frames, side, arguments.seed)
        tifffile.imwrite(folder / "stack.ome.tif", stack, metadata={"axes": AXES}, ome=True)
        tasks: dict[str, tuple[Callable[..., None], tuple[Any, ...]]] = {
            "function": (by_function, ()),
            "command": (by_command, ()),
            "cluster": (by_command, (arguments.workers,)),
            "widget": (by_widget, (arguments.screenshot,)),
        }
        for way, (task, more) in tasks.items():
            made = folder / way
            made.mkdir()
            process = context.Process(target=task, args=(folder / "stack.ome.tif", made, settings, *more))
            seconds, memory = followed(process)
            same = {quantity: equal(folder, way, quantity) for quantity in RESULTS}
            key = {"way": way, "shape": stack.shape, "workers": arguments.workers}
            row = results.add(
                key, settings.asdict(), seconds=seconds, peak=max(memory), memory=thinned(memory), same=same
            )
            print(
                way,
                f"{seconds:.0f} s, {row['peak'] / 1e9:.2f} GB, same as by the function: {same}",
                flush=True,
            )
    return results


def time_lapse(frames: int, side: int, seed: int) -> NDArray[np.float32]:
    """Make a drifting specimen in two channels ``(T, C, Y, X)``, with photon noise."""
    channels = [
        specimen(kind, gaussian_psf(13, width), size=side + DRIFT * frames, photons=2000, seed=seed).blurred
        for kind, width in WIDTHS.items()
    ]
    starts = range(0, DRIFT * frames, DRIFT)
    return np.stack([[c[at : at + side, at : at + side] for c in channels] for at in starts]).astype(
        np.float32
    )


def single_thread() -> None:
    """Compute on one thread, as the workers of a cluster do."""
    import torch

    torch.set_num_threads(1)


def by_function(path: Path, made: Path, settings: Settings) -> None:
    """Deconvolve by `napari_vdip.deconvolve_stack`."""
    from napari_vdip import deconvolve_stack

    single_thread()
    result = deconvolve_stack(tifffile.imread(path), settings, axes=AXES, device="cpu")
    for quantity in RESULTS:
        np.save(made / f"{quantity}.npy", getattr(result, quantity))


def by_command(path: Path, made: Path, settings: Settings, workers: int | None = None) -> None:
    """Deconvolve by ``napari-vdip run``, on a local cluster if there are workers."""
    written = made / "settings.yaml"
    written.write_text(json.dumps(settings.asdict()))  # JSON is YAML
    command: list[str | Path] = [Path(sys.executable).with_name("napari-vdip"), "run", path]
    command += ["-o", made / "out", "--settings", written, "--device", "cpu", "--format", "ome-tiff"]
    command += ["--workers", str(workers)] if workers else []
    subprocess.run(
        command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL
    )
    for quantity in RESULTS:
        array = tifffile.imread(made / "out" / "stack" / f"{quantity}.ome.tif")
        np.save(made / f"{quantity}.npy", array)


def by_widget(path: Path, made: Path, settings: Settings, screenshot: Path | None) -> None:
    """Deconvolve by the button in a window."""
    import napari
    from qtpy.QtCore import QEventLoop

    from napari_vdip._input_form import ALL_PLANES
    from napari_vdip._widget import DeconvolutionWidget

    single_thread()
    viewer = napari.Viewer()
    widget = DeconvolutionWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Blind deconvolution")
    viewer.add_image(tifffile.imread(path), name="stack", axis_labels=tuple(AXES.lower()))
    widget.form.value = settings
    widget.inputs.planes.value = ALL_PLANES
    widget.device.value = "cpu"
    widget.run.native.click()
    events = QEventLoop()
    assert widget._session is not None  # it has started
    widget._session.finished.connect(events.quit)
    events.exec()
    layers = {"latent": "stack latent", "std": "stack std", "psf": "stack PSF"}
    for quantity, name in layers.items():
        np.save(made / f"{quantity}.npy", viewer.layers[name].data)
    if screenshot:
        viewer.layers["stack"].visible = False
        viewer.reset_view()
        viewer.screenshot(str(screenshot), canvas_only=False, flash=False)
    viewer.close()


def followed(process: Any) -> tuple[float, list[int]]:
    """Run a process to its end; return its seconds and the memory that was seen, in bytes."""
    started, memory = time.perf_counter(), []
    process.start()
    while process.is_alive():
        memory.append(used(process.pid))
        process.join(LOOK_EVERY)
    if process.exitcode:
        raise RuntimeError(f"a way ended with exit code {process.exitcode}")
    return time.perf_counter() - started, memory


def used(pid: int) -> int:
    """Memory of a process and all below it, in bytes; what several share counts once for each."""
    total = 0
    try:
        top = psutil.Process(pid)
        for process in (top, *top.children(recursive=True)):
            total += process.memory_info().rss
    except psutil.NoSuchProcess:  # it has just ended
        pass
    return total


def equal(folder: Path, way: str, quantity: str) -> bool:
    """Whether a result is that of the function, bit for bit; singleton axes aside."""
    one, other = (np.load(folder / by / f"{quantity}.npy").squeeze() for by in ("function", way))
    return bool(one.dtype == other.dtype and np.array_equal(one, other))


def thinned(memory: list[int]) -> list[int]:
    """Keep so many looks that the curve can be seen, each the largest of its part."""
    parts = np.array_split(np.array(memory), min(SAMPLES, len(memory)))
    return [int(part.max()) for part in parts]


if __name__ == "__main__":
    main()
