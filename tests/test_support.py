"""Where a kernel is in its window, and what it is confined to."""

from __future__ import annotations

import pytest
import torch

from napari_vdip.candidate import Candidate
from napari_vdip.kernel_update import onto_simplex
from napari_vdip.operators import blur, extend, size_of
from napari_vdip.support import MARGIN, grown, off_middle, shifted, support_of
from test_coarse_to_fine import track
from test_refinement import pieces


def hazy(kernel, part, rng):
    """Kernel of which a part of the mass is spread over the whole window."""
    haze = torch.rand(kernel.shape, generator=rng)
    return (1 - part) * kernel + part * haze / haze.sum()


@pytest.mark.parametrize("part", [0.0, 0.1, 0.2])
def test_a_track_stands_out_of_the_haze(part, rng):
    kernel = torch.nn.functional.pad(track(15), (8, 8, 8, 8))
    support = support_of(hazy(kernel, part, rng))
    assert support[kernel > 0].all()
    assert not (support & ~grown(kernel > 0)).any()


def test_a_separate_piece_belongs_to_it_if_it_has_some_mass():
    kernel = torch.zeros(1, 1, 21, 21)
    kernel[..., 4, 4], kernel[..., 16, 15], kernel[..., 4, 16] = 0.7, 0.27, 0.03
    support = support_of(kernel)
    assert support[..., [4, 16], [4, 15]].all()
    assert not support[..., 4, 16]


@pytest.mark.parametrize("window", [(3, 3), (9, 5), (31, 31)])
def test_a_flat_kernel_is_everywhere(window):
    assert grown(support_of(torch.full((1, 1, *window), 1.0))).all()


def test_surroundings_are_as_wide_as_the_margin():
    point = torch.zeros(1, 1, 15, 15, dtype=torch.bool)
    point[..., 7, 6] = True
    rows, columns = grown(point)[0, 0].nonzero().T
    assert (rows.min(), rows.max()) == (7 - MARGIN, 7 + MARGIN)
    assert (columns.min(), columns.max()) == (6 - MARGIN, 6 + MARGIN)


def test_the_middle_is_that_between_the_ends_and_not_the_centroid():
    support = torch.zeros(1, 1, 15, 11, dtype=torch.bool)
    support[..., 3, 2] = support[..., 4, 2] = support[..., 13, 6] = True
    assert off_middle(support) == (8 - 7, 4 - 5)
    assert off_middle(shifted(support, (-1, 1))) == (0, 0)


def test_the_nearest_kernel_in_a_support_is_that_of_its_entries_alone(rng):
    kernel = torch.randn(1, 1, 7, 9, generator=rng, dtype=torch.float64)
    support = torch.rand(kernel.shape, generator=rng) < 0.4
    found = onto_simplex(kernel, support)
    assert (found[~support] == 0).all()
    torch.testing.assert_close(found[support], onto_simplex(kernel[support]))


@pytest.mark.parametrize("offset", [(0, 0), (4, -3), (-5, 5)])
def test_a_candidate_is_confined_and_blurs_to_the_same_image(offset, rng):
    kernel = torch.nn.functional.pad(track(15), (6, 6, 6, 6)).roll(offset, (-2, -1))
    latent = pieces(90).float()
    image = blur(latent, kernel)
    candidate = Candidate(image, extend(image, size_of(kernel)), hazy(kernel, 0.1, rng), 1e-4)
    candidate.mean = candidate.mean[..., :89, :89].copy_(torch.rand(2, 1, 89, 89, generator=rng))
    before, gradient = candidate.kernel, candidate.mean
    by = candidate.confine()
    assert off_middle(support_of(candidate.kernel)) == (0, 0)
    assert (candidate.kernel[~candidate.support] == 0).all()
    assert float(candidate.kernel.sum()) == pytest.approx(1)
    torch.testing.assert_close(candidate.mean, gradient.roll(by, (-2, -1)))
    kept = shifted(before, by) * candidate.support
    torch.testing.assert_close(candidate.kernel, kept / kept.sum())
    inside = (..., slice(8, -8), slice(8, -8))  # the canvas wraps around
    torch.testing.assert_close(
        blur(candidate.mean, shifted(kernel, by))[inside], blur(gradient, kernel)[inside], atol=1e-5, rtol=0
    )
