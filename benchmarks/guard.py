"""Has a change made deconvolution slower or worse? This checkout against another commit, in the same run.

    python benchmarks/guard.py [--base origin/main] [--repeats 3]

Both deconvolve the same small scenes as the default has it, in turn and each time in a process of its own.
Who is first changes, since a machine may be warmer for the second. The commit is checked out into a
temporary folder; what is not committed here is measured as it is. Exits with 1 if the loss is large: a busy
machine and another rounding must not fail.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
SLOWEST = 0.7
"""Steps per second, relative to those of the other commit, below which it fails."""
WORST = -0.5
"""The same for the gain in decibels, as a difference."""
PROBE = """
import json
import numpy as np
from scipy.signal import fftconvolve
from napari_vdip import deconvolve
from napari_vdip.metrics import aligned_quality
from napari_vdip.scenes import cells, structure
rng = np.random.default_rng(0)
sharp, track = structure(72, rng), np.zeros((9, 9))
track[[6, 6, 5, 4, 3, 2, 2], [1, 2, 3, 4, 4, 5, 6]] = 1 / 7
shaken = fftconvolve(sharp, track, "valid") + rng.normal(0, 0.002, (64, 64))
lens = cells(size=64, psf_size=9)
steps, seconds, gains = 0, 0.0, []
for blurred, latent in ((lens.blurred, lens.latent), (shaken, sharp[4:-4, 4:-4])):
    result = deconvolve(blurred, psf_shape=11, device="cpu")
    pair, reach = (blurred, result.latent), float(np.ptp(latent))
    before, after = (aligned_quality(image, latent, data_range=reach).psnr for image in pair)
    gains.append(after - before)
    steps, seconds = steps + len(result.history[0]["stage"]), seconds + result.seconds
print(json.dumps({"rate": steps / seconds, "gain": sum(gains) / len(gains)}))
"""
"""What is measured, by names that both commits must have: a scene that a lens blurs, whose kernel may be a
Gaussian, and one that motion does, with edges sharp enough for several starts."""


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
            pairs = measure(other, ROOT, arguments.repeats)
        finally:
            git("worktree", "remove", "--force", str(other))
    every = ", ".join(f"{now['rate'] / then['rate']:.2f}" for then, now in pairs)
    found = compare(pairs)
    print(f"against {base[:12]}: {found.speed:.2f} times the steps per second (of {every})")
    print(f"gain {found.before:.2f} -> {found.after:.2f} dB")
    print("a large loss" if found.lost else "no large loss")
    return int(found.lost)


@dataclass(frozen=True, slots=True)
class Comparison:
    """How this checkout does beside the other commit."""

    speed: float
    """Median of the ratios of steps per second."""
    before: float
    after: float
    """Mean gain in decibels over all repeats, of the other commit and of this checkout."""

    @property
    def lost(self) -> bool:
        """Whether much is lost."""
        return self.speed < SLOWEST or self.after - self.before < WORST


def measure(base: Path, head: Path, repeats: int) -> list[tuple[dict[str, float], dict[str, float]]]:
    """Probe both checkouts, who is first in turn; each pair is of the base and the head."""
    pairs = []
    for number in range(repeats):
        order = (base, head) if number % 2 == 0 else (head, base)
        found = {checkout: probe(checkout) for checkout in order}
        pairs.append((found[base], found[head]))
    return pairs


def compare(pairs: list[tuple[dict[str, float], dict[str, float]]]) -> Comparison:
    """Compare what was measured of the base and of the head, in pairs."""
    speed = statistics.median(now["rate"] / then["rate"] for then, now in pairs)
    before, after = (statistics.fmean(run["gain"] for run in runs) for runs in zip(*pairs, strict=True))
    return Comparison(speed, before, after)


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
