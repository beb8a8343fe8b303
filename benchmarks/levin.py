"""Blind deconvolution of the images of Levin et al. (2009), by their protocol.

    python benchmarks/levin.py --data FOLDER [--images im1_kernel1 im2_kernel1] [--set steps=400]

The folder holds ``imS_kernelK_img.png`` and ``gt/imS.png``, ``gt/kernelK.png``. Prints one row an image,
and writes them with settings, versions and device as JSON where ``--json`` says.
"""

from __future__ import annotations

import argparse
import ast
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
from skimage.io import imread

from napari_vdip import Settings, deconvolve
from napari_vdip.metrics import aligned_quality, kernel_error

WINDOWS = {1: 17, 2: 15, 3: 13, 4: 27, 5: 11, 6: 19, 7: 21, 8: 21}
"""Windows used by the papers on deep image priors; they are smaller than the kernel files."""
TURNED = (4, 8)
"""Kernel files that are stored turned by 180 degrees."""


def measure(folder: Path, name: str, settings: Settings, own_window: bool) -> dict[str, Any]:
    """Deconvolve one image and compare it with the truth."""
    scene, number = name.split("_kernel")
    blurred = imread(folder / f"{name}_img.png")
    truth = imread(folder / "gt" / f"{scene}.png")
    kernel = imread(folder / "gt" / f"kernel{number}.png").astype(float)
    # The files hold correlation kernels; the point spread function is the turned one.
    psf = kernel if int(number) in TURNED else kernel[::-1, ::-1]
    if own_window:
        settings = settings.replace(psf_shape=WINDOWS[int(number)])
    result = deconvolve(blurred, settings)
    before = aligned_quality(blurred, truth, data_range=255)
    after = aligned_quality(result.latent, truth, data_range=255)
    known = result.std is not None
    error = np.abs(result.latent - truth)[15:-15, 15:-15]
    return {
        "image": name,
        "window": settings.psf_shape[0],
        "psnr_blurred": before.psnr,
        "ssim_blurred": before.ssim,
        "psnr": after.psnr,
        "ssim": after.ssim,
        "shift": after.shift,
        "kernel_error": kernel_error(result.psf, psf),
        "kernel_energy": float(np.sum(result.psf**2)),
        "kernel_energy_true": float(np.sum((psf / psf.sum()) ** 2)),
        "noise": float(result.noise[0]),
        "median_std": float(np.median(result.std)) if known else None,
        "covered": float(np.mean(error < 1.96 * result.std[15:-15, 15:-15])) if known else None,
        "seconds": result.seconds,
        "stopped": result.stopped,
        "metadata": result.metadata,
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", nargs="*", help="names such as im1_kernel1; all if not given")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", dest="changes")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    changes = {}
    for change in arguments.changes:
        field, _, value = change.partition("=")
        try:
            changes[field] = ast.literal_eval(value)
        except ValueError:
            changes[field] = value
    settings = Settings.preset(arguments.preset, **changes)
    names = arguments.images or sorted(
        path.stem.removesuffix("_img") for path in arguments.data.glob("im*_kernel*_img.png")
    )
    rows = []
    for name in names:
        row = measure(arguments.data, name, settings, own_window="psf_shape" not in changes)
        rows.append(row)
        print(
            f"{name:12s} {row['window']:3d} px  blurred {row['psnr_blurred']:.2f}/{row['ssim_blurred']:.4f}"
            f"  latent {row['psnr']:.2f}/{row['ssim']:.4f}  kernel error {row['kernel_error']:.5f}"
            f"  energy {row['kernel_energy']:.4f}/{row['kernel_energy_true']:.4f}"
            f"  noise {row['noise']:.2f}  {row['seconds']:.0f} s",
            flush=True,
        )
    means = {key: float(np.mean([row[key] for row in rows])) for key in ("psnr", "ssim", "seconds")}
    print("mean", {key: round(value, 4) for key, value in means.items()})
    if arguments.json:
        report = {"machine": platform.processor() or platform.machine(), "mean": means, "rows": rows}
        arguments.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
