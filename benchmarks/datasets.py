"""The images of the benchmark `quality`: found in a data folder, or generated.

Files are found by their names, so that scenes that are added to a folder are measured as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate, uniform_filter
from skimage.io import imread

from napari_vdip.scenes import airy_psf, cells, gaussian_psf, specimen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_vdip.scenes import Scene

Array = NDArray[np.float64]
LEVIN_WINDOWS = {1: 17, 2: 15, 3: 13, 4: 27, 5: 11, 6: 19, 7: 21, 8: 21}
"""Windows used by the papers on deep image priors; they are smaller than the kernel files."""
LEVIN_TURNED = (4, 8)
"""Kernel files that are stored turned by 180 degrees."""
LAI_SIDE = 512
"""The published loaders take the top left of an image."""
LAI_NOISE = 0.01
BIOSR_CROP = (slice(120, 376), slice(120, 376))
SPECIMENS = ("filaments", "nuclei", "beads")
SPECIMEN_PSFS = {
    "gauss5": gaussian_psf(5, 0.9),
    "gauss11": gaussian_psf(11, 1.8),
    "airy9": airy_psf(9, 2.5),
    "airy21": airy_psf(21, 5.0),
}
SPECIMEN_PHOTONS = (100, 1000, 10_000)
NOISE_LEVELS = (0.01, 0.03, 0.05)


@dataclass(frozen=True, eq=False)
class Case:
    """A blurred image and what is known of it.

    Attributes
    ----------
    dataset, name : str
        Where it comes from.
    image : array
        ``(Y, X)`` or ``(Y, X, 3)``.
    truth : array or None
        The sharp image, the same shape and units.
    psf : array or None
        The point spread function as convolution kernel, sums to one.
    window : int or None
        Side of the window that the methods are told; None leaves it to the settings.
    data_range : float
        Difference between the largest and the smallest possible intensity.
    reference : array or None
        Another image of the same place, to correlate with.
    notes : dict
        What else the row should say.
    crop : int or None
        Side in pixels to which the case was cut.
    """

    dataset: str
    name: str
    image: NDArray[Any]
    truth: NDArray[Any] | None = None
    psf: Array | None = None
    window: int | None = None
    data_range: float = 255.0
    reference: NDArray[Any] | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    crop: int | None = None

    def cropped(self, side: int) -> Case:
        """Return the top left of the case; its measures are not comparable with those of the whole."""

        def crop(array: NDArray[Any] | None) -> NDArray[Any] | None:
            return None if array is None else array[:side, :side]

        return replace(
            self,
            image=self.image[:side, :side],
            truth=crop(self.truth),
            reference=crop(self.reference),
            crop=side,
        )


def levin(data: Path, window: int | None = None) -> Iterator[Case]:
    """Levin et al. (2009), with the window of each kernel or with one for all."""
    folder = data / "levin"
    for path in sorted(folder.glob("im*_kernel*_img.png")):
        name = path.stem.removesuffix("_img")
        scene, number = name.split("_kernel")
        kernel = imread(folder / "gt" / f"kernel{number}.png").astype(float)
        yield Case(
            dataset="levin" if window is None else f"levin{window}",
            name=name,
            image=imread(path),
            truth=imread(folder / "gt" / f"{scene}.png"),
            # Files hold correlation kernels; the point spread function is the turned one.
            psf=as_psf(kernel if int(number) in LEVIN_TURNED else kernel[::-1, ::-1]),
            window=window or LEVIN_WINDOWS[int(number)],
        )


def lai(data: Path) -> Iterator[Case]:
    """Lai et al. (2016), blurred by the official rule; the top left 512 x 512."""
    folder = data / "lai"
    scenes = [path for path in sorted(folder.glob("*.png")) if not path.stem.startswith("kernel")]
    for scene in scenes:
        for path in sorted(folder.glob("kernel_*.png")):
            kernel = imread(path).astype(float)
            kernel = kernel.mean(-1) if kernel.ndim == 3 else kernel
            truth = imread(scene)
            name = f"{scene.stem}_{path.stem}"
            rng = np.random.default_rng(list(name.encode()))
            yield Case(
                dataset="lai",
                name=name,
                image=lai_blurred(truth, kernel, rng)[:LAI_SIDE, :LAI_SIDE],
                truth=truth[:LAI_SIDE, :LAI_SIDE],
                psf=as_psf(kernel[::-1, ::-1]),
                window=max(kernel.shape),
                notes={"class": re.sub(r"_\d+$", "", scene.stem)},
            )


def lai_blurred(sharp: NDArray[np.uint8], kernel: Array, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Blur ``(Y, X)`` or ``(Y, X, C)`` as the benchmark's authors do.

    ``uint8(imfilter(x, k / sum(k), 'replicate') + 0.01 * rand)`` with x in [0, 1] and uint8 as im2uint8.
    """
    scaled = sharp / 255
    weights = kernel / kernel.sum()
    weights = weights.reshape(*kernel.shape, *(1,) * (sharp.ndim - 2))
    noisy = correlate(scaled, weights, mode="nearest") + LAI_NOISE * rng.random(sharp.shape)
    blurred: NDArray[np.uint8] = np.floor(255 * noisy.clip(0, 1) + 0.5).astype(np.uint8)
    return blurred


def microscopy(data: Path) -> Iterator[Case]:
    """Simulated microscopy of the data folder: correlated with a known kernel, replicated border."""
    folder = data / "microscopy" / "simulated"
    for path in sorted(folder.glob("im*_k*.png")):
        scene, kernel_name = path.stem.split("_")
        kernel = imread(folder / "gt" / f"{kernel_name}.png").astype(float)
        yield Case(
            dataset="microscopy",
            name=path.stem,
            image=imread(path),
            truth=imread(folder / "gt" / f"{scene}.png"),
            psf=as_psf(kernel[::-1, ::-1]),
            window=max(kernel.shape),
        )


def specimens(data: Path | None = None, *, seed: int = 0) -> Iterator[Case]:
    """Generated specimens: every kind with every point spread function at every photon count."""
    for kind in SPECIMENS:
        for psf_name, psf in SPECIMEN_PSFS.items():
            for photons in SPECIMEN_PHOTONS:
                scene = specimen(kind, psf, photons=photons, seed=seed)  # type: ignore[arg-type]  # a Kind
                notes = {"kind": kind, "psf": psf_name, "photons": photons}
                yield from_scene(scene, "specimens", f"{kind}_{psf_name}_{photons}", notes)


def noise(data: Path | None = None, *, seed: int = 0) -> Iterator[Case]:
    """Cells, and the first Levin image where there is one, with Gaussian noise on top."""
    rng = np.random.default_rng(seed)
    cases = [from_scene(cells(photons=1e6, seed=seed), "noise", "cells", {})]
    cases += [next(levin(data))] if data is not None and any((data / "levin").glob("im*_img.png")) else []
    for case in cases:
        for level in NOISE_LEVELS:
            deviation = level * case.data_range
            yield replace(
                case,
                dataset="noise",
                name=f"{case.name}_{level:.0%}",
                image=(case.image + rng.normal(0, deviation, case.image.shape)).astype(np.float32),
                notes={"noise": level},
            )


def from_scene(scene: Scene, dataset: str, name: str, notes: dict[str, Any]) -> Case:
    """Return a generated scene as a case; its range of intensities is that of the truth."""
    return Case(
        dataset=dataset,
        name=name,
        image=scene.blurred,
        truth=scene.latent,
        psf=scene.psf.astype(float),
        window=max(scene.psf.shape),
        data_range=float(np.ptp(scene.latent)),
        notes=notes,
    )


def biosr(data: Path) -> Iterator[Case]:
    """Wide-field images of BioSR beside structured illumination of the same place."""
    for folder in sorted((data / "microscopy").glob("biosr*")):
        image, reference = (imread(folder / f"{name}.tif") for name in ("widefield", "sim"))
        yield Case("biosr", folder.name, image[BIOSR_CROP], reference=reference[BIOSR_CROP])


DATASETS: dict[str, Callable[..., Iterator[Case]]] = {
    "levin": levin,
    "levin31": lambda data: levin(data, 31),
    "lai": lai,
    "microscopy": microscopy,
    "specimens": specimens,
    "biosr": biosr,
    "noise": noise,
}
GENERATED = ("specimens", "noise")
"""Datasets that need no folder."""


def as_psf(kernel: Array) -> Array:
    """Scale a kernel to the sum one."""
    psf: Array = kernel / kernel.sum()
    return psf


def luma(image: NDArray[Any]) -> Array:
    """Studio-range luma, 16 to 235, of ``(Y, X)`` or ``(Y, X, 3)`` in 0 to 255 (ITU-R BT.601)."""
    colour = np.asarray(image, np.float64) / 255
    if colour.ndim == 2:
        return np.asarray(16 + 219 * colour)
    return np.asarray(16 + colour @ [65.481, 128.553, 24.966])


def downsampled(image: Array) -> Array:
    """Average and thin an image as Wang's script does before structural similarity."""
    factor = max(1, int(np.floor(min(image.shape) / 256 + 0.5)))
    origin = -1 if factor % 2 == 0 else 0  # MATLAB's centre of an even window
    return np.asarray(uniform_filter(image, factor, mode="reflect", origin=origin)[::factor, ::factor])
