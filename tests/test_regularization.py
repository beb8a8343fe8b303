"""How far the latent image follows its prior: what decides, and that it decides rightly."""

from __future__ import annotations

from itertools import chain, islice, repeat

import numpy as np
import pytest
import torch

from napari_vdip import latent, regularization
from napari_vdip.noise import noise_variance
from napari_vdip.operators import blur, crop, size_of
from napari_vdip.prediction import HeldOut
from napari_vdip.regularization import (
    APART,
    BETTER,
    BEYOND,
    FITS,
    MOST,
    SHARP_UPDATES,
    STRENGTHS,
    Regularization,
    regularization_of,
)
from napari_vdip.scenes import gaussian_psf, specimen
from napari_vdip.sharpness import SHARPEST
from napari_vdip.widths import gaussian
from test_refinement import pieces

RESOLUTION = 0.3


class Told:
    """Stand-in for `HeldOut` with given errors, for each strength or for each misfit."""

    pooling = 1.5

    def __init__(self, **errors):
        self._errors, self.asked = errors, []

    def errors(self, kernel, misfit=1.0, strength=1.0):
        for error in self._errors[f"strength{strength:.0f}" if misfit == 1 else "misfit"]:
            self.asked.append(strength)
            yield error


def falling(*errors):
    """Errors that stay as the last of those given."""
    return chain(errors, repeat(errors[-1]))


def decide(monkeypatch, held_out, sharp=1.0):
    monkeypatch.setattr(regularization, "HeldOut", lambda *arguments: held_out)
    one = torch.ones(1, 1, 3, 3)
    return regularization_of(one, one, one, sharp, Told.pooling, seed=0, resolution=RESOLUTION)


# --- the rule ----------------------------------------------------------------------------------------


def test_as_long_as_errors_fall_the_weights_are_updated_and_no_stronger_prior_is_tried(monkeypatch):
    held_out = Told(strength1=falling(*np.linspace(2, 1, 20)))
    assert decide(monkeypatch, held_out) == Regularization(1.0, 1.0, MOST, Told.pooling, RESOLUTION)
    assert held_out.asked == [1.0] * (1 + MOST)


@pytest.mark.parametrize("rises", range(MOST))
def test_updates_end_before_the_error_rises(monkeypatch, rises):
    errors = [2.0 - 0.1 * number for number in range(rises + 1)]
    held_out = Told(strength1=iter([*errors, errors[-1] + 1e-6]), strength2=falling(3.0))
    assert decide(monkeypatch, held_out) == Regularization(1.0, 1.0, rises, Told.pooling, RESOLUTION)


@pytest.mark.parametrize(("error", "taken"), [(BETTER - 1e-6, True), (BETTER + 1e-6, False)])
def test_a_stronger_prior_has_to_be_clearly_better(monkeypatch, error, taken):
    held_out = Told(strength1=iter([1.0, 1.1]), strength2=iter([error + 0.01, error, error + 0.01]))
    strength, updates = (STRENGTHS[1], 1) if taken else (1.0, 0)
    assert decide(monkeypatch, held_out) == Regularization(1.0, strength, updates, Told.pooling, RESOLUTION)


@pytest.mark.parametrize(("alone", "misfit"), [(FITS - 1e-6, False), (FITS + 1e-6, True)])
def test_sharp_images_leave_more_than_noise_unless_noise_alone_predicts_much_better(
    monkeypatch, alone, misfit
):
    held_out = Told(strength1=repeat(alone), misfit=repeat(1.0))
    chosen = decide(monkeypatch, held_out, sharp=4.0)
    expected = (4.0, SHARP_UPDATES) if misfit else (1.0, MOST)
    assert (chosen.misfit, chosen.updates) == expected
    assert chosen.resolution == RESOLUTION
    assert chosen.strength == 1


@pytest.mark.parametrize(("error", "part"), [(BEYOND - 1e-6, 1.0), (BEYOND + 1e-6, APART)])
def test_neighbours_share_less_where_pixels_are_off_by_more_than_noise(monkeypatch, error, part):
    held_out = Told(strength1=repeat(error), misfit=repeat(1.0))
    assert decide(monkeypatch, held_out, sharp=4.0).pooling == part * Told.pooling


# --- on images ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [0.7, 1.0, 1.3])
def test_texture_leaves_noise_alone(rng, wrong):
    texture = (torch.rand(1, 1, 102, 102, generator=rng) < 0.3).float()
    assert judged(texture, wrong, rng).misfit == 1


@pytest.mark.parametrize("wrong", [0.7, 1.0, 1.3])
def test_edges_leave_more_than_noise(rng, wrong):
    assert judged(pieces(102).float(), wrong, rng).misfit == SHARPEST


def judged(latent_image, wrong, rng):
    """Decide on a blurred image of a sharp one, for a Gaussian of a width that may be wrong."""
    image = blur(latent_image, gaussian(1.0, (7, 7), latent_image.device))
    image = image + 1e-3 * torch.randn(image.shape, generator=rng)
    kernel = gaussian(wrong, (7, 7), image.device)
    return regularization_of(image, noise_variance(image), kernel, SHARPEST, 1.0, seed=0, resolution=0.0)


def test_the_part_with_the_most_detail_is_judged(rng, monkeypatch):
    monkeypatch.setattr("napari_vdip.comparison.JUDGED", 48)
    kernel = gaussian(1.0, (7, 7), torch.device("cpu"))
    image = torch.full((1, 1, 96, 120), 0.5)
    image[..., 40:88, 60:108] += 0.3 * (torch.rand(48, 48, generator=rng) < 0.3) - 0.1
    image = image + 1e-3 * torch.randn(image.shape, generator=rng)
    seen = []

    class Noted(HeldOut):
        def __init__(self, part, *arguments):
            seen.append(part)
            super().__init__(part, *arguments)

    monkeypatch.setattr(regularization, "HeldOut", Noted)
    regularization_of(image, noise_variance(image), kernel, SHARPEST, 1.0, seed=0, resolution=0.0)
    assert seen
    for part in seen:
        torch.testing.assert_close(part, image[..., 40:88, 60:108])


@pytest.mark.parametrize(("kind", "sigma", "photons"), [("nuclei", 0.9, 100), ("filaments", 1.8, 1e4)])
def test_what_is_chosen_is_as_near_to_the_truth_as_the_better_of_few_and_many_updates(kind, sigma, photons):
    """Nuclei that are faint and little blurred want few updates, bright filaments many."""
    scene = specimen(kind, gaussian_psf(11, sigma), size=96, photons=photons, seed=1)
    scale = float(scene.blurred.max())
    image, truth = (torch.from_numpy(a / scale).float()[None, None] for a in (scene.blurred, scene.latent))
    kernel, variance = torch.from_numpy(scene.psf).float()[None, None], noise_variance(image)
    rng = torch.Generator().manual_seed(0)

    def error(chosen):
        *_, last = latent.restore(image, kernel, 4, rng, variance, chosen)
        return float((crop(last.posterior.mean, size_of(kernel)) - truth).square().mean())

    chosen = regularization_of(image, variance, kernel, 1.0, 1.0, seed=0, resolution=0.0)
    few, many = error(Regularization(1.0, 1.0, 0, 1.0)), error(Regularization(1.0, 1.0, MOST, 1.0))
    assert max(few, many) > 1.2 * min(few, many)
    assert (few < many) == (kind == "nuclei")
    assert error(chosen) < 1.05 * min(few, many)


def test_errors_before_any_update_are_those_of_the_weights_of_the_blurred_image(rng):
    image = torch.rand(1, 1, 40, 44, generator=rng)
    kernel, variance = gaussian(1.0, (5, 5), image.device), torch.full_like(image, 1e-4)
    held_out = HeldOut(image, variance, 1.0, 1, rng)
    first, second = islice(held_out.errors(kernel), 2)
    assert first != second
    assert next(held_out.errors(kernel, strength=2.0)) != first
    assert next(held_out.errors(kernel, misfit=4.0)) != first
    assert list(islice(held_out.errors(kernel), 2)) == [first, second]
