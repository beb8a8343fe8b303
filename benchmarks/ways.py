"""The same time-lapse by the function, the command line, a cluster and the widget: is it the same result?

    python benchmarks/ways.py [--frames 10] [--side 512] [--workers 2] [--ways function command]
        [--set steps=100] [--screenshot FILE] [--resume]

Needs a display for the widget and the screenshot (on a machine without one: ``xvfb-run``). Every way is a
process of its own, whose memory, and that of all below it, is read while it runs. All compute on one
thread, so that results can be compared bit for bit, by their SHA-256. A row is written after each way.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
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
from napari_vdip.image_file import read
from napari_vdip.scenes import Kind, gaussian_psf, specimen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

AXES = "TCYX"
WIDTHS: dict[Kind, float] = {"filaments": 1.6, "nuclei": 2.0}
"""Specimen of each channel, and the standard deviation in pixels of its Gaussian point spread function."""
DRIFT = 3
"""Pixels that the specimen moves by from frame to frame."""
PIXEL_SIZE = 0.1
"""In micrometres."""
LOOK_EVERY = 0.5
"""Seconds between looks at the memory."""
SAMPLES = 100
"""Looks that are kept of each."""
RESULTS = ("latent", "std", "psf")
WAYS = ("function", "command", "cluster", "widget")
Look = tuple[float, int, int]
"""Seconds since the start, bytes of the process itself, bytes of all below it."""


def main(argv: Sequence[str] | None = None) -> Results:
    """Run from the command line."""
    parser = parser_for(__doc__)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--side", type=int, default=512, help="of a plane, in pixels")
    parser.add_argument("--workers", type=int, default=2, help="of the cluster")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument(
        "--screenshot", type=Path, help="file for napari's picture of what the command wrote"
    )
    arguments = parser.parse_args(argv)
    record = environment("cpu", arguments.seed)
    results = Results(results_path(arguments, "ways"), record, resume=arguments.resume)
    frames, side = (2, 48) if arguments.quick else (arguments.frames, arguments.side)
    settings = Settings.preset(
        arguments.preset,
        **{"psf_shape": 5 if arguments.quick else 15, "psf_source": "channel", **changes_of(arguments)},
    )
    more: dict[str, tuple[Any, ...]] = {"cluster": (arguments.workers,)}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "stack.ome.tif"
        stack = time_lapse(frames, side, arguments.seed)
        sizes = {f"PhysicalSize{axis}": PIXEL_SIZE for axis in "YX"}
        tifffile.imwrite(path, stack, photometric="minisblack", metadata={"axes": AXES, **sizes}, ome=True)
        for way in arguments.ways:
            key = {"part": "ways", "way": way, "shape": stack.shape, "workers": arguments.workers}
            if results.has(key, settings.asdict()):
                continue
            made = path.parent / way
            made.mkdir()
            looks = followed(TASKS[way], (path, made, settings, *more.get(way, ())))
            row = results.add(
                key,
                settings.asdict(),
                seconds=looks[-1][0],
                peak=max(own + below for _, own, below in looks),
                peak_own=max(own for _, own, _ in looks),
                memory=thinned(looks),
                sha256=hashes(made),
            )
            print(f"{way}: {row['seconds']:.0f} s, {row['peak'] / 1e9:.2f} GB at the peak", flush=True)
            if way == "command" and arguments.screenshot:
                followed(screenshot, (path, made, arguments.screenshot.absolute()))
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
    """Become ``napari-vdip run``, on a local cluster if there are workers."""
    written = made / "settings.yaml"
    written.write_text(json.dumps(settings.asdict()))  # JSON is YAML
    program = str(Path(sys.executable).with_name("napari-vdip"))
    words = [program, "run", path, "-o", made / "out", "--settings", written, "--device", "cpu"]
    words += ["--workers", workers] if workers else []
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    os.execve(program, [*map(str, words)], os.environ | {"OMP_NUM_THREADS": "1"})  # noqa: S606


def by_widget(path: Path, made: Path, settings: Settings) -> None:
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
    viewer.close()


TASKS: dict[str, Callable[..., None]] = {
    "function": by_function,
    "command": by_command,
    "cluster": by_command,
    "widget": by_widget,
}


def screenshot(path: Path, made: Path, file: Path) -> None:
    """Open the files that the command has written in napari, check their scale, and take a picture."""
    import napari

    viewer = napari.Viewer()
    opened = viewer.open(
        str(made / "out" / path.name.partition(".")[0] / "latent.ome.zarr"), plugin="napari-ome-zarr"
    )
    for layer in opened:
        np.testing.assert_allclose(layer.scale[-2:], PIXEL_SIZE)
        if {str(unit) for unit in layer.units[-2:]} != {"micrometer"}:
            raise ValueError(f"{layer.name}: expected micrometres, got {layer.units}")
    viewer.scale_bar.visible = True
    viewer.reset_view()
    viewer.screenshot(str(file), canvas_only=False, flash=False)
    viewer.close()


def followed(task: Callable[..., None], arguments: tuple[Any, ...]) -> list[Look]:
    """Do a task in a process of its own, and return what was seen of its memory; at last its end."""
    process = multiprocessing.get_context("spawn").Process(target=task, args=arguments)
    started, looks = time.perf_counter(), list[Look]()
    process.start()
    while process.is_alive():
        looks.append((time.perf_counter() - started, *memory(process.pid)))
        process.join(LOOK_EVERY)
    if process.exitcode:
        raise RuntimeError(f"{task.__name__} ended with exit code {process.exitcode}")
    return [*looks, (time.perf_counter() - started, 0, 0)]


def memory(pid: int | None) -> tuple[int, int]:
    """Bytes of a process and of all below it; what several share counts once for each."""
    try:
        top = psutil.Process(pid)
        own, *below = [one.memory_info().rss for one in (top, *top.children(recursive=True))]
    except psutil.NoSuchProcess:  # one has just ended
        return 0, 0
    return own, sum(below)


def hashes(made: Path) -> dict[str, str]:
    """Hash what a way has made, singleton axes aside."""
    found = {}
    for quantity in RESULTS:
        file = made / "out" / "stack" / f"{quantity}.ome.zarr"
        array = np.asarray(read(file).array) if file.exists() else np.load(made / f"{quantity}.npy")
        array = np.ascontiguousarray(array.squeeze())
        found[quantity] = hashlib.sha256(
            f"{array.dtype}{array.shape}".encode() + array.tobytes()
        ).hexdigest()
    return found


def thinned(looks: list[Look]) -> list[Look]:
    """Keep so many looks that the curve can be seen, each the largest of its part."""
    parts = np.array_split(np.array(looks), min(SAMPLES, len(looks)))
    largest = [part[part[:, 1:].sum(1).argmax()] for part in parts]
    return [(round(float(seconds), 1), int(own), int(below)) for seconds, own, below in largest]


if __name__ == "__main__":
    main()
