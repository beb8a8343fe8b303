"""How sharp an image is, and what follows from it."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch

from napari_vdip import sharpness as module
from napari_vdip.settings import Settings
from napari_vdip.sharpness import (
    FLOOR,
    NARROW,
    PSF_ERROR,
    RESOLUTION,
    ROUND,
    SHARP_PSF_ERROR,
    SHARPEST,
    SMOOTH,
    floor_of,
    kept_amplitude,
    psf_error_of,
    resolution_of,
    sharpness,
)
from napari_vdip.widths import gaussian


def test_an_image_is_as_sharp_as_its_fine_detail_between_limits(monkeypatch):
    found = []
    for detail in (0.5, 1, SMOOTH, 2 * SMOOTH, 1000):
        monkeypatch.setattr(module, "fine_detail", lambda *_, detail=detail: detail)
        found.append(sharpness(torch.rand(1, 1, 8, 8), torch.ones(1, 1, 8, 8)))
    assert found == [1, 1, 1, 4, SHARPEST]


@pytest.mark.parametrize("sharp", [1, 4, SHARPEST])
def test_the_floor_falls_and_the_error_of_the_psf_grows_with_sharpness(sharp):
    variance = torch.tensor([1e-4, 4e-4, 9e-4]).view(1, 1, 1, 3)
    assert floor_of(sharp, variance, Settings()) == pytest.approx(0.02 * FLOOR / sharp)
    expected = np.interp(sharp, (1, SHARPEST), (PSF_ERROR, SHARP_PSF_ERROR))
    assert psf_error_of(sharp, Settings()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("gradient_floor", (FLOOR, FLOOR / SHARPEST)),
        ("psf_error", (PSF_ERROR, SHARP_PSF_ERROR)),
    ],
)
def test_the_help_names_what_is_found_for_an_image(name, limits):
    text = next(item for item in fields(Settings) if item.name == name).metadata["help"]
    assert all(f"{limit:g}" in text for limit in limits)
    assert getattr(Settings.preset("photograph"), name) == pytest.approx(limits[1])


def test_what_is_named_holds_for_every_image():
    settings = Settings(gradient_floor=0.3, psf_error=0.0)
    for sharp in (1, SHARPEST):
        assert floor_of(sharp, torch.full((1, 1, 8, 8), 1e-4), settings) == pytest.approx(0.003)
        assert psf_error_of(sharp, settings) == 0


def test_the_amplitude_is_that_of_half_the_resolution_where_it_shows_it():
    wide, narrow = (gaussian(width, (15, 15), torch.device("cpu")) for width in (2 * NARROW, NARROW / 2))
    for shifted in (wide, wide.roll((2, -3), (-2, -1))):
        assert kept_amplitude(shifted, 1.0) == 0
        assert 0 < kept_amplitude(shifted, 2.0) < kept_amplitude(shifted, SHARPEST) == 1
    assert kept_amplitude(narrow, 1.0) == 1


@pytest.mark.parametrize("sharp", [1.0, ROUND, ROUND + 1e-6, SHARPEST])
def test_under_a_spot_a_smooth_image_is_not_sharper_than_pixels_show(sharp):
    spot = gaussian(1.2, (9, 11), torch.device("cpu"))
    assert resolution_of(spot, sharp, Settings()) == (RESOLUTION if sharp <= ROUND else 0)
    assert resolution_of(spot, sharp, Settings(gaussians=False)) == 0
    longer = (spot + spot.roll(2, -2)) / 2
    assert resolution_of(longer, sharp, Settings()) == 0
