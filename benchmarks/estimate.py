"""What `napari-vdip estimate` expects, and what then happens.

    python benchmarks/estimate.py [--device cuda] [--cases "128 px" "known PSF, 512 px" ...]

Each case is estimated in one fresh process and then run in another, so that neither finds anything warm.
"""

from __future__ import annotations

import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from common import Results, changes_of, environment, parser_for, results_path
from speed import peak_memory

from napari_vdip import Settings
from napari_vdip.scenes import cells, gaussian_psf, specimen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Case:
    """Something to estimate and to run.

    Attributes
    ----------
    shape : tuple of int
        Of the image, ``(Y, X)`` or ``(Z, Y, X)``.
    changes : dict
        Of the settings.
    known : bool
        Whether the point spread function is.
    smooth : bool
        Whether there are no edges as sharp as pixels, so that kernels are compared with Gaussians.
    preset : str
        Settings to start from, in place of those of the command line.
    """

    shape: tuple[int, ...]
    changes: dict[str, Any] = field(default_factory=dict)
    known: bool = False
    smooth: bool = False
    preset: str | None = None

    @property
    def axes(self) -> str:
        """One letter for each axis."""
        return "ZYX"[-len(self.shape) :]

    @property
    def image(self) -> NDArray[np.float32]:
        """Blurred cells next to each other, or one field of nuclei."""
        if self.smooth:  # in one piece, since seams are sharp
            return specimen("nuclei", gaussian_psf(11, 2.0), size=self.shape[-1]).blurred
        scene = cells(size=64, psf_size=9)
        repeats = [
            math.ceil(n / 64) if axis in "YX" else n for axis, n in zip(self.axes, self.shape, strict=True)
        ]
        return np.tile(scene.blurred, repeats)[tuple(slice(n) for n in self.shape)]


FEW = {"steps": 20, "prefit_steps": 10}
"""The published schedule in miniature."""
CASES = {
    "128 px": Case((128, 128)),
    "256 px": Case((256, 256)),
    "256 px, smooth": Case((256, 256), smooth=True),
    "512 px": Case((512, 512)),
    "300 x 180 px, PSF 15 px": Case((300, 180), {"psf_shape": 15}),
    "2 planes of 128 px": Case((2, 128, 128)),
    "4 planes of 128 px, one PSF": Case((4, 128, 128), {"psf_source": "channel"}),
    "1024 px, searched in 256 px, tiles of 512 px": Case((1024, 1024), {"search_area": 256, "tile": 512}),
    "known PSF, 512 px": Case((512, 512), known=True),
    "known PSF, 1024 px": Case((1024, 1024), known=True),
    "`paper`, 30 steps, 256 px": Case((256, 256), FEW, preset="paper"),
}
QUICK = {"quick": Case((2, 48, 48), {"psf_shape": 5})}


def main(argv: Sequence[str] | None = None) -> Results:
    """Run from the command line."""
    parser = parser_for(__doc__)
    parser.add_argument("--cases", nargs="*", choices=CASES)
    arguments = parser.parse_args(argv)
    record = environment(arguments.device, arguments.seed)
    results = Results(results_path(arguments, "estimate"), record, resume=arguments.resume)
    cases = QUICK if arguments.quick else {name: CASES[name] for name in arguments.cases or CASES}
    for name, case in cases.items():
        preset = case.preset or arguments.preset
        key = {"part": "estimate", "image": name, "preset": preset, "device": record["device"]}
        settings = {**changes_of(arguments), **case.changes}
        if results.has(key, settings):
            continue
        task = (case, preset, settings, arguments.device)
        expected, found = in_own_process(estimate, *task), in_own_process(measure, *task)
        row = results.add(
            key,
            settings,
            expected_seconds=expected["seconds"],
            seconds=found["seconds"],
            expected_memory=expected["memory"],
            memory=found["memory"],
        )
        ratios = [row[f"expected_{what}"] / row[what] for what in ("seconds", "memory")]
        print(
            f"{name}: {row}, expected / found: {ratios[0]:.2f} in time, {ratios[1]:.2f} in memory",
            flush=True,
        )
    return results


def in_own_process(task: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    """Return what a task finds in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(task, *arguments).result()


def estimate(case: Case, preset: str, changes: dict[str, Any], device: str | None) -> dict[str, float]:
    """Return the seconds and bytes that are expected."""
    from napari_vdip.cost import expected_cost
    from napari_vdip.stack import plan

    settings = Settings.preset(preset, **changes)
    if case.known:
        settings = settings.replace(psf_source="given")
    planes = plan(case.shape, case.axes, settings.channels)
    cost = expected_cost(planes, settings, image=case.image, device=device)
    return {"seconds": cost.seconds, "memory": cost.memory}


def measure(case: Case, preset: str, changes: dict[str, Any], device: str | None) -> dict[str, float]:
    """Run it, and return the seconds and the bytes at the peak."""
    import torch

    from napari_vdip.deconvolution import deconvolve

    settings = Settings.preset(preset, **changes)
    psf = np.ones(settings.psf_shape) if case.known else None
    result = deconvolve(case.image, settings, axes=case.axes, psf=psf, device=device)
    on_gpu = result.device.startswith("cuda")
    return {
        "seconds": result.seconds,
        "memory": torch.cuda.max_memory_allocated() if on_gpu else peak_memory(),
    }


if __name__ == "__main__":
    main()
