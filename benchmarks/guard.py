"""Has a change made deconvolution slower or worse? This checkout against another commit, in the same run.

    python benchmarks/guard.py [--base origin/main] [--repeats 3]

Both deconvolve the same small scenes, in turn and each time in a process of its own. The commit is checked
out into a temporary folder; what is not committed here is measured as it is. Exits with 1 if the loss is
large: a busy machine and another rounding must not fail.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
SLOWEST = 0.7
"""Steps per second, relative to those of the other commit, below which it fails."""
WORST = -0.5
"""The same for the gain in decibels, as a difference."""
PROBE = """
import json
import numpy as np
from napari_vdip import deconvolve
from napari_vdip.metrics import aligned_quality
from napari_vdip.scenes import cells
steps, seconds, gains = 0, 0.0, []
for seed in range(2):
    scene = cells(size=96, psf_size=9, seed=seed)
    result = deconvolve(scene.blurred, psf_shape=11, steps=120, refinements=80, device="cpu")
    reach = float(np.ptp(scene.latent))
    pair = scene.blurred, result.latent
    before, after = (aligned_quality(a, scene.latent, data_range=reach).psnr for a in pair)
    gains.append(after - before)
    steps, seconds = steps + len(result.history[0]["stage"]), seconds + result.seconds
print(json.dumps({"rate": steps / seconds, "gain": sum(gains) / len(gains)}))
"""
"""What is measured, by names that both commits must have."""


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--base", default="origin/main", help="commit or branch; its merge base with this one"
    )
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    base = git("merge-base", "HEAD", arguments.base)
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "base"
        git("worktree", "add", "--detach", str(other), base)
        try:
            pairs = [(probe(other), probe(ROOT)) for _ in range(arguments.repeats)]
        finally:
            git("worktree", "remove", "--force", str(other))
    rates = [now["rate"] / then["rate"] for then, now in pairs]
    speed, gains = statistics.median(rates), [run["gain"] for run in pairs[-1]]
    every = ", ".join(f"{rate:.2f}" for rate in rates)
    print(f"against {base[:12]}: {speed:.2f} times the steps per second (of {every})")
    print(f"gain {gains[0]:.2f} -> {gains[1]:.2f} dB")
    lost = speed < SLOWEST or gains[1] - gains[0] < WORST
    print("a large loss" if lost else "no large loss")
    return int(lost)


def probe(checkout: Path) -> dict[str, float]:
    """Measure a checkout: steps per second, and the mean gain in decibels."""
    environment = os.environ | {"PYTHONPATH": str(checkout / "src")}
    output = subprocess.check_output([sys.executable, "-c", PROBE], env=environment, text=True)
    measured: dict[str, float] = json.loads(output.splitlines()[-1])
    return measured


def git(*arguments: str) -> str:
    """Return what git says in this checkout."""
    return subprocess.check_output(("git", *arguments), cwd=ROOT, text=True).strip()


if __name__ == "__main__":
    sys.exit(main())
