"""Point estimate against variational bound: does the kernel collapse towards a point?

    python benchmarks/collapse.py [--only PART-OF-NAME ...]

DIP-Sparse and VDIP-Sparse on generated scenes, with the same networks, seed, steps and prior: one has a
point for a posterior, the other a distribution. Both maximise the bound alone; the kernel has no prior of
its own. Then, without networks: of two explanations of an image, the true one and the blurred image seen
through a point, which has the larger objective?
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from common import Results, changes_of, environment, parser_for, results_path

from napari_vdip import Settings, deconvolve
from napari_vdip.generators import Posterior
from napari_vdip.metrics import kernel_error
from napari_vdip.operators import crop, size_of
from napari_vdip.scenes import Scene, cells, gaussian_psf, specimen
from napari_vdip.search import PUBLISHED_PRIOR_WEIGHTS, Objective, total

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_vdip.result import Progress

KINDS = ("beads", "filaments", "nuclei", "cells")
SIDE, PSF_SIDE, PHOTONS = 64, 11, 10_000.0
SEEDS = 3
PRIOR_WEIGHTS = (1.0, 0.1, 0.01)
BOUND_ALONE = {"similarity_from": 1.0, "refinements": 0, "steps": 300, "psf_shape": 15, "samples": 2}
EVERY = 20
"""Steps between two points of a course."""
ORDER_PHOTONS = (1e3, 1e4, 1e6)
SPREAD_STEPS, SPREAD_RATE, SPREAD_SAMPLES = 150, 0.1, 32
"""For the standard deviation with the largest bound."""
POINT = np.ones((1, 1))


def main(argv: Sequence[str] | None = None) -> Results:
    """Run from the command line."""
    parser = parser_for(__doc__)
    parser.add_argument("--only", nargs="*", help="parts of names of scenes; all if not given")
    parser.add_argument("--weights", nargs="*", type=float, default=PRIOR_WEIGHTS, help="of the prior")
    arguments = parser.parse_args(argv)
    path = results_path(arguments, "collapse")
    results = Results(path, environment(arguments.device, arguments.seed), resume=arguments.resume)
    chosen = [kind for kind in KINDS if not arguments.only or any(part in kind for part in arguments.only)]
    for kind in chosen[:1] if arguments.quick else chosen:
        for photons in ORDER_PHOTONS:
            key = {"part": "orders", "image": f"{kind}_{photons:.0f}", "seed": arguments.seed}
            if not results.has(key, None):
                scene = scene_of(kind, arguments.seed, photons, SIDE + PSF_SIDE - 1)
                row = results.add(key, None, kind=kind, photons=photons, orders=orders(scene))
                print(row["image"], row["orders"], flush=True)
    changes = BOUND_ALONE | changes_of(arguments)
    seeds = range(arguments.seed, arguments.seed + SEEDS)
    cases = list(product(seeds, chosen, arguments.weights, (False, True)))
    for seed, kind, weight, variational in cases[:2] if arguments.quick else cases:
        changes |= {"seed": seed, "prior_weight": weight, "variational": variational}
        settings = Settings.preset(arguments.preset, **changes)
        key = {"part": "collapse", "image": kind, "preset": arguments.preset, "seed": seed}
        key |= {"prior_weight": weight, "variational": variational}
        if not results.has(key, settings.asdict()):
            found = course(scene_of(kind, seed), settings, arguments.device)
            row = results.add(key, settings.asdict(), **found)
            print(
                f"{kind:10s} {settings.method:12s} weight {weight:<5} seed {seed}  energy "
                f"{row['kernel_energy']:.3f}  error {row['kernel_error']:.4f}",
                flush=True,
            )
    return results


def scene_of(kind: str, seed: int, photons: float = PHOTONS, side: int = SIDE) -> Scene:
    """Return a generated scene of a kind."""
    if kind == "cells":
        return cells(side, PSF_SIDE, photons, seed)
    return specimen(kind, gaussian_psf(PSF_SIDE, 1.8), size=side, photons=photons, seed=seed)  # type: ignore[arg-type]


def course(scene: Scene, settings: Settings, device: str | None = None) -> dict[str, Any]:
    """Follow the kernel of a run: its energy, its distance from a point and its error."""
    points = []

    def record(progress: Progress) -> None:
        estimate = progress.estimate
        if estimate.step == 1 or estimate.step % EVERY == 0 or estimate.step == estimate.steps:
            psf = estimate.kernel[0, 0].cpu().numpy()[::-1, ::-1].astype(float)
            points.append((estimate.step, *measures(psf, scene.psf)))

    result = deconvolve(scene.blurred, settings, device=device, progress=record)
    _, energy, from_point, error = points[-1]
    return {
        "course": points,
        "kernel_energy": energy,
        "kernel_energy_true": float(np.sum(np.square(scene.psf, dtype=float))),
        "from_point": from_point,
        "kernel_error": error,
        "contrast": float(result.latent.std() / scene.latent.std()),
        "psf": as_text(result.psf),
        "psf_true": as_text(scene.psf),
        "seconds": result.seconds,
    }


def as_text(psf: NDArray[np.floating]) -> list[str]:
    """Return one line of text for each row, for `numpy.loadtxt`: JSON would take a line for each number."""
    return [" ".join(f"{value:.5f}" for value in row) for row in psf]


def measures(psf: NDArray[np.floating], truth: NDArray[np.floating]) -> tuple[float, float, float]:
    """Return the energy of a point spread function, its squared distance from a point, and its error."""
    return float(np.sum(psf**2)), kernel_error(psf, POINT), kernel_error(psf, truth)


def orders(scene: Scene) -> list[dict[str, float]]:
    """Compare two explanations of the inner part of a scene at each weight of the prior.

    Returns
    -------
    list of dict
        ``map`` and ``bound``: objective of the blurred image with a point less that of the true image with
        the true kernel, relative to the weight of the prior; for the bound each with the standard deviation
        that suits it best.
    """
    scale = max(scene.latent.max(), scene.blurred.max())
    latent, blurred = (torch.from_numpy(a / scale)[None, None] for a in (scene.latent, scene.blurred))
    kernel = torch.from_numpy(scene.psf[::-1, ::-1].copy())[None, None]
    point = torch.zeros_like(kernel)
    point[..., kernel.shape[-2] // 2, kernel.shape[-1] // 2] = 1
    image = crop(blurred, size_of(kernel))
    found = []
    for weight in PRIOR_WEIGHTS:
        row = {"prior_weight": weight}
        for name, variational in (("map", False), ("bound", True)):
            settings = Settings(prior_weight=weight, variational=variational)
            objective = Objective(image, settings, torch.Generator().manual_seed(0))
            difference = largest(objective, blurred, point) - largest(objective, latent, kernel)
            row[name] = difference / (weight * PUBLISHED_PRIOR_WEIGHTS["sparse"])
        found.append(row)
    return found


def largest(objective: Objective, mean: torch.Tensor, kernel: torch.Tensor) -> float:
    """Return the bound of a mean and a kernel, where variational with the best standard deviation."""

    def bound(posterior: Posterior) -> torch.Tensor:
        return total(objective.bound(posterior, kernel, second_half=False))

    if not objective.settings.variational:
        return float(bound(Posterior(mean)))
    log_std = torch.full_like(mean, -3).requires_grad_()
    optimizer = torch.optim.Adam([log_std], SPREAD_RATE)
    for _ in range(SPREAD_STEPS):
        optimizer.zero_grad()
        (-bound(Posterior(mean, log_std))).backward()
        optimizer.step()
    posterior = Posterior(mean, log_std.detach())
    values = [bound(posterior) for _ in range(SPREAD_SAMPLES)]
    return float(torch.stack(values).mean())


if __name__ == "__main__":
    main()
