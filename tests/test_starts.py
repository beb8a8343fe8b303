"""Which searches there are, what is taken for a track, and which kernel is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from napari_vdip import Settings, starts
from napari_vdip.candidate import Candidate, gradients
from napari_vdip.coarse_to_fine import STARTS
from napari_vdip.operators import blur, extend
from napari_vdip.scenes import airy_psf, gaussian_psf
from napari_vdip.sharpness import ROUND, SHARPEST
from napari_vdip.starts import is_track, least_left, sharpness_under, sparsest, starts_of
from napari_vdip.widths import gaussian


def as_kernel(psf):
    return torch.from_numpy(np.asarray(psf, np.float32))[None, None]


def bent(side):
    """A track with a corner, as thick as a pixel is wide, in a square window."""
    psf = np.zeros((side, side))
    psf[side // 2, 1 : side // 2 + 1] = psf[1 : side // 2 + 1, side // 2] = 1
    blurred = gaussian_filter(psf, 0.5)
    return blurred / blurred.sum()


def rectangles(rng):
    """A piecewise constant scene ``(1, 1, 60, 60)``."""
    scene = torch.zeros(1, 1, 60, 60)
    for y, x, h, w in torch.randint(4, 30, (30, 4), generator=rng).tolist():
        scene[..., y : y + h, x : x + w] += 0.05
    return scene


def test_a_track_is_believed_in_photographs_alone():
    for psf, track in ((gaussian_psf(15, 2.0), False), (airy_psf(15, 4.0), False), (bent(15), True)):
        assert is_track(as_kernel(psf), Settings(), colour=True) is track
        assert is_track(as_kernel(psf), Settings(gaussians=False), colour=False) is track
        assert not is_track(as_kernel(psf), Settings(), colour=False)


def test_a_photograph_under_a_track_is_as_sharp_as_any_once_its_kernel_is_known():
    track, spot = as_kernel(bent(15)), as_kernel(gaussian_psf(15, 2.0))
    assert sharpness_under(track, 1.0, Settings(), colour=True) == SHARPEST
    assert sharpness_under(track, ROUND + 0.5, Settings(), colour=True) == ROUND + 0.5  # as it was found
    assert sharpness_under(spot, 1.2, Settings(), colour=True) == 1.2
    assert sharpness_under(track, 1.2, Settings(), colour=False) == 1.2


def test_a_photograph_without_fine_detail_has_the_starts_of_a_sharp_one_besides_its_own():
    settings = Settings()
    first, *others = starts_of(settings, ROUND, colour=True)
    assert first == STARTS[0]
    assert others == [replace(start, sharp=SHARPEST) for start in STARTS]
    assert starts_of(Settings(gaussians=False), ROUND) == (first, *others)
    assert starts_of(settings, ROUND, colour=False) == STARTS[:1]
    assert starts_of(settings, SHARPEST, colour=True) == STARTS
    assert starts_of(Settings.preset("networks"), ROUND, colour=True) == STARTS[:1]


def test_least_is_left_by_the_kernel_and_gradient_that_made_the_image(rng):
    scene, kernel = rectangles(rng), as_kernel(bent(9))
    image = blur(scene, kernel) + 0.001 * torch.randn(1, 1, 52, 52, generator=rng)
    variance = torch.full_like(image, 1e-6)
    right, wrong, moved = (Candidate(image, scene, k, 0.0) for k in (kernel, kernel.flip(-1), kernel))
    moved.mean = gradients(scene.roll(1, -1))
    assert least_left([wrong, right, moved], variance) is right
    # The noise of a difference is not white, and counted with twice the mean of its spectrum.
    assert right.left(variance) == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize(("energy", "best"), [(1.9, 1), (2.1, 0)])
def test_the_sparsest_is_not_kept_if_its_kernel_is_far_narrower_than_the_first(rng, energy, best):
    """On a page of text three of four starts led to kernels that were nearly points and looked sparsest."""
    scene, pair = rectangles(rng), torch.zeros(1, 1, 5, 5)
    pair[0, 0, 2, 1:3] = 0.5  # sum of squares 1 / 2
    share = (1 + (energy - 1) ** 0.5) / 2  # a**2 + (1 - a)**2 = energy / 2
    uneven = torch.zeros_like(pair)
    uneven[0, 0, 2, 1], uneven[0, 0, 2, 2] = share, 1 - share
    soft = blur(extend(scene, (5, 5)), gaussian(1.0, (5, 5), scene.device))
    candidates = [
        Candidate(scene, latent, kernel, 0.0) for latent, kernel in ((soft, pair), (scene, uneven))
    ]
    assert candidates[1].norm_ratio() < candidates[0].norm_ratio() * starts.SPARSER
    assert sparsest(candidates) is candidates[best]
