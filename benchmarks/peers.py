"""Other methods on the same images: with the true point spread function, and blind.

Every peer returns restorations in the image's units, one for each number of iterations where it has them.
Images are extended by reflection before and cut after, so that no method suffers from its border rule.
"""

from __future__ import annotations

import contextlib
import io
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from skimage.restoration import richardson_lucy, unsupervised_wiener

from napari_vdip.scenes import gaussian_psf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from datasets import Case

Array = NDArray[np.float64]
RL_ITERATIONS = (10, 30, 100, 300, 1000)
RL_MOST_IN_COLOUR = 300
RL_FIXED = 30
"""Iterations of Richardson-Lucy when nobody knows the truth: scikit-image's example uses 30."""
BLIND_ITERATIONS = (1, 2, 5, 10, 30)
BLIND_FIXED = 10
"""Rounds of blind Richardson-Lucy, each of the package's ten iterations for kernel and image."""
BORDER, NARROWEST_BORDER = 2, 32
"""Extension of an image, in sides of the kernel and at least in pixels. scikit-image takes what lies beyond
for black, which many iterations carry inwards; one side of the kernel costs 1.6 dB at 300 iterations."""
BIOSR_SIGMAS = (1.0, 1.5, 2.0, 2.5, 3.0)
BIOSR_ITERATIONS = (10, 30, 60, 100, 200, 400)


@dataclass(frozen=True)
class Restoration:
    """What a method makes of an image.

    Attributes
    ----------
    latent : array
        The image's shape and units.
    psf : array or None
        Convolution kernel that the method estimated.
    std : array or None
        Standard deviation of `latent`.
    seconds : float
        How long it took.
    iterations : int or None
        Where the method leaves them to its user.
    fixed : bool
        Whether a user without the truth would have taken this one.
    notes : dict
        What else the row should say.
    """

    latent: NDArray[Any]
    psf: NDArray[Any] | None = None
    std: NDArray[Any] | None = None
    seconds: float = 0.0
    iterations: int | None = None
    fixed: bool = True
    notes: dict[str, Any] | None = None


@lru_cache(maxsize=1)
def rl_true(case: Case) -> tuple[Restoration, ...]:
    """Richardson-Lucy of scikit-image with the true point spread function."""
    psf = case.psf
    assert psf is not None
    affordable = [n for n in RL_ITERATIONS if case.image.ndim == 2 or n <= RL_MOST_IN_COLOUR]
    return tuple(replace(with_rl(case.image, psf, n), fixed=n == RL_FIXED) for n in affordable)


def rl_gaussian(case: Case) -> Iterator[Restoration]:
    """Richardson-Lucy of scikit-image with Gaussians of several widths, for an image without truth."""
    for sigma in BIOSR_SIGMAS:
        psf = gaussian_psf(2 * round(4 * sigma) + 1, sigma)
        for iterations in BIOSR_ITERATIONS:
            done = with_rl(case.image, psf, iterations)
            yield replace(done, psf=psf, fixed=False, notes={"sigma": sigma})


def with_rl(image: NDArray[Any], psf: Array, iterations: int) -> Restoration:
    """Richardson-Lucy of scikit-image with a point spread function."""

    def restore(extended: Array) -> Array:
        restored: Array = richardson_lucy(
            extended.clip(0), psf, num_iter=iterations, clip=False, filter_epsilon=1e-9
        )
        return restored

    started = time.perf_counter()
    latent = extended_and_scaled(image, max(psf.shape), restore)
    return Restoration(latent, seconds=time.perf_counter() - started, iterations=iterations)


def wiener_true(case: Case) -> Iterator[Restoration]:
    """Wiener filter of scikit-image with the true point spread function; it finds its own weights."""
    assert case.psf is not None
    psf = case.psf

    def restore(extended: Array) -> Array:
        restored: Array = unsupervised_wiener(extended, psf, clip=False, rng=0)[0]
        return restored

    started = time.perf_counter()
    latent = extended_and_scaled(case.image, max(psf.shape), restore)
    yield Restoration(latent, seconds=time.perf_counter() - started)


def blind_rl(case: Case) -> Iterator[Restoration]:
    """Blind Richardson-Lucy of pyBlindRL; colour images keep the kernel of their last channel."""
    import torch
    from pyBlindRL.commands import RL_deconv_blind

    side = case.window or 2 * round(4 * max(BIOSR_SIGMAS)) + 1
    kernels: list[Array] = []

    def restore(extended: Array, rounds: int) -> Array:
        positive = extended.clip(0)
        total = positive.sum()  # without this scale its update of the kernel is not normalised
        start = np.zeros_like(positive)
        start[:side, :side] = gaussian_psf(side, side / 6)
        start = np.roll(start, (-(side // 2),) * 2, (0, 1))
        image, first = (torch.from_numpy(array[None] + 0j) for array in (positive / total, start))
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            latent, psf = (array[0] for array in RL_deconv_blind(image, first, rounds))
        kernels.append(np.roll(psf, (side // 2,) * 2, (0, 1))[:side, :side])
        return np.asarray(latent * total * psf.sum())

    for rounds in BLIND_ITERATIONS:
        started = time.perf_counter()
        latent = extended_and_scaled(case.image, side, lambda e, n=rounds: restore(e, n))  # type: ignore[misc]
        seconds = time.perf_counter() - started
        psf = kernels[-1] / kernels[-1].sum()
        yield Restoration(latent, psf, None, seconds, rounds, rounds == BLIND_FIXED)


def extended_and_scaled(image: NDArray[Any], side: int, restore: Callable[[Array], Array]) -> Array:
    """Restore each channel of an image that is extended by reflection and scaled to a maximum of one.

    `side` is that of the kernel.
    """
    by = max(BORDER * side, NARROWEST_BORDER)
    planes = image[..., None] if image.ndim == 2 else image
    scale = float(planes.max()) or 1.0
    extended = np.pad(planes / scale, ((by, by), (by, by), (0, 0)), mode="symmetric")
    restored = np.stack([restore(extended[..., c]) for c in range(extended.shape[-1])], -1)
    latent: Array = scale * restored[by:-by, by:-by].reshape(image.shape)
    return latent


PEERS: dict[str, Callable[[Case], Iterable[Restoration]]] = {
    "rl_true": rl_true,
    "wiener_true": wiener_true,
    "blind_rl": blind_rl,
    "rl_gaussian": rl_gaussian,
}
