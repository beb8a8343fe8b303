"""Whether a kernel is bent: told right for known blur, and not by what the kernel was fitted to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from napari_vdip import bentness
from napari_vdip.bentness import is_bent
from napari_vdip.images import Intensities
from napari_vdip.noise import noise_variance
from napari_vdip.operators import extend, size_of
from napari_vdip.prediction import Prediction
from napari_vdip.scenes import gaussian_psf, specimen

FLOOR = 1e-3


def track(size=11):
    """Point spread function of a bent track, ``(size, size)``."""
    path, middle = np.zeros((size, size)), size // 2
    path[middle, middle - 2 : middle + 2] = [1, 2, 3, 2]
    path[middle - 2 : middle, middle + 1] = [1, 2]
    smooth = gaussian_filter(path, 0.8)
    return smooth / smooth.sum()


def beads(psf, photons=1000):
    blurred = specimen("beads", psf, size=96, photons=photons).blurred[..., None]
    return Intensities.of(blurred, 0.3).to_tensor(blurred)


def as_kernel(psf):
    return torch.from_numpy(psf).float()[None, None].flip((-2, -1))


def found_bent(image, kernel, rng):
    """Whether it is told bent, from the blurred image as the latent one."""
    mean = extend(image, size_of(kernel))
    return is_bent(image, noise_variance(image), mean, kernel, FLOOR, 1.0, rng)


@pytest.mark.parametrize("width", [0.8, 1.3, 2.0])
def test_a_round_kernel_is_not_bent_whatever_its_width(width, rng):
    """One of the right width predicts better by far than the others, which says nothing of their shape."""
    assert not found_bent(beads(gaussian_psf(11, 1.3)), as_kernel(gaussian_psf(11, width)), rng)


@pytest.mark.parametrize("columns", [slice(None), slice(1, 10)])
def test_a_kernel_is_bent_if_the_blur_is(columns, rng):
    psf = track()[:, columns] / track()[:, columns].sum()
    assert found_bent(beads(psf), as_kernel(psf), rng)
    assert not found_bent(beads(gaussian_psf(11, 1.3)), as_kernel(psf), rng)


@pytest.mark.parametrize(
    ("over_turned", "bent"),
    [((1.0, 1.1), True), ((3.0, -2.8), False), ((-1.0, -1.1), False)],
    ids=["bent", "by chance", "worse"],
)
def test_it_is_the_quarters_together_that_tell_and_the_mean_of_the_turned(
    over_turned, bent, monkeypatch, rng
):
    """Densities by hand: those of the turned are three values about zero."""
    sizes = []

    class Fake:
        def __init__(self, image, *_):
            self.others = iter((0.0, 3.0, -1.0, -2.0))
            sizes.append(size_of(image))

        def predict(self, kernel):
            value = next(self.others)
            densities = torch.tensor(over_turned).repeat(40) if value == 0 else torch.full((80,), value)
            return Prediction(kernel, kernel, densities)

    monkeypatch.setattr(bentness, "HeldOut", Fake)
    image = torch.rand(1, 1, 41, 30, generator=rng)
    assert found_bent(image, as_kernel(track()), rng) is bent
    assert sizes == [(20, 15), (20, 15), (21, 15), (21, 15)]


def test_each_quarter_is_told_by_a_kernel_that_has_not_seen_it(monkeypatch, rng):
    """What is there makes no difference to the kernel."""
    kernels = []
    monkeypatch.setattr(
        bentness, "advantage_over_turned", lambda kernel, held_out: kernels.append(kernel) or (0.0, 1.0)
    )
    image = beads(track())
    variance = noise_variance(image)
    spoilt = image.clone()
    spoilt[..., :40, :40] = 0.5  # up to where the kernel reaches over the border of the quarter
    for one in (image, spoilt):
        is_bent(one, variance, extend(image, (11, 11)), as_kernel(track()), FLOOR, 1.0, rng)
    change = [float((a - b).abs().sum()) for a, b in zip(kernels[:4], kernels[4:], strict=True)]
    assert change[0] < 0.01 * min(change[1:])
