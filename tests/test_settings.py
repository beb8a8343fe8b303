"""Settings: what they accept, what they refuse, and that they survive a round trip."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

from napari_vdip.settings import METHODS, NETWORK_STEPS, PRESETS, Settings


@pytest.mark.parametrize("value", [15, (15, 15), [15, 15], np.int64(15), np.array([15, 15])])
def test_psf_shape_is_one_or_two_odd_numbers(value):
    settings = Settings(psf_shape=value)
    assert settings.psf_shape == (15, 15)
    assert all(type(size) is int for size in settings.psf_shape)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("psf_shape", 14),
        ("psf_shape", (15, 14)),
        ("psf_shape", (15, 15, 15)),
        ("psf_shape", 1),
        ("psf_shape", -15),
        ("psf_shape", 15.0),
        ("psf_shape", "15"),
        ("psf_shape", None),
        ("prior", "smooth"),
        ("prior", None),
        ("variational", "yes"),
        ("channels", "rgb"),
        ("psf_generator", "dense"),
        ("seed", -1),
        ("seed", 1.5),
        ("seed", True),
        ("seed", None),
        ("bright_variance", "right"),
        ("steps", -1),
        ("steps", 10.5),
        ("steps", "10"),
        ("bound_until", 1.5),
        ("prior_weight", float("nan")),
        ("image_rate", 0),
        ("psf_rate", float("inf")),
        ("widths", (8, 8, 8)),
        ("widths", (8, 8, 8, 8, 2)),
        ("widths", 8),
        ("headroom", 0.5),
        ("samples", 1),
        ("gaussians", "no"),
        ("gaussians", None),
        ("pooling", -0.5),
        ("pooling", True),
        ("pooling", 11),
    ],
)
def test_a_wrong_value_is_refused_with_parameter_expectation_and_value(name, value):
    with pytest.raises(ValueError, match=f"^{name}: expected") as error:
        Settings(**{name: value})
    message = str(error.value)
    assert str(value) in message or repr(value) in message


def test_every_step_must_have_an_objective():
    with pytest.raises(
        ValueError, match=r"^similarity_from: expected at most bound_until = 0\.2.*got 0\.6"
    ):
        Settings(bound_until=0.2, similarity_from=0.6)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("through", [dict, lambda plain: json.loads(json.dumps(plain))])
def test_plain_data_makes_the_same_settings_again(preset, through):
    settings = Settings.preset(preset, psf_shape=(9, 13), seed=5)
    assert Settings(**through(settings.asdict())) == settings


def test_replacing_leaves_the_original_and_is_checked():
    settings = Settings(seed=1)
    assert settings.replace(seed=2, psf_shape=7) == Settings(seed=2, psf_shape=7)
    assert settings.seed == 1
    with pytest.raises(ValueError, match="seed: expected"):
        settings.replace(seed=-1)
    with pytest.raises(ValueError, match="psf_size: expected a field of Settings"):
        settings.replace(psf_size=7)


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(FrozenInstanceError):
        Settings().seed = 1


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_known_by_its_two_switches(name):
    assert Settings(**METHODS[name]).method == name


def test_there_are_six_methods():
    assert len({(switches["prior"], switches["variational"]) for switches in METHODS.values()}) == 6


@pytest.mark.parametrize("name", METHODS)
def test_only_the_method_with_a_closed_form_is_refined(name):
    settings = Settings(**METHODS[name], refinements=7)
    assert settings.rounds_of_refinement == (7 if name == "VDIP-Sparse" else 0)
    assert settings.rounds == settings.rounds_of_refinement + settings.coarse_rounds


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({}, 0),
        ({"refinements": 0}, NETWORK_STEPS),
        ({"prior": "none"}, NETWORK_STEPS),
        ({"variational": False}, NETWORK_STEPS),
        ({"prefit_steps": 3}, NETWORK_STEPS),
        ({"steps": 7}, 7),
        ({"steps": 0}, 0),
    ],
)
def test_there_are_networks_where_they_are_needed_or_asked_for(changes, steps):
    settings = Settings(**changes)
    assert settings.network_steps == steps
    assert (settings.coarse_rounds > 0) == (steps == 0)


def test_the_paper_preset_is_the_published_schedule():
    paper = Settings.paper()
    assert (paper.prefit_steps, paper.steps, paper.bound_until * paper.steps) == (500, 5000, 2000)
    assert paper.similarity_from == paper.bound_until
    assert (paper.image_rate, paper.psf_rate) == (1e-2, 1e-4)
    assert (paper.prior_weight, paper.psf_prior_weight, paper.bound_weight) == (1, 10, 1)
    assert (paper.widths, paper.psf_generator, paper.rounds) == ((128,) * 5, "network", 0)
    assert Settings.preset("paper") == paper
    with pytest.raises(ValueError, match=r"preset: expected one of .*got 'best'"):
        Settings.preset("best")


def test_the_photograph_preset_assumes_edges_of_one_pixel_and_no_lens():
    photograph, default = Settings.preset("photograph"), Settings()
    assert (photograph.pooling, photograph.gaussians) == (0.0, False)
    assert photograph.gradient_floor == 0.01
    assert default.gradient_floor is None  # found for each image


def test_every_field_explains_itself():
    for item in fields(Settings):
        assert item.metadata["help"].endswith("."), item.name
        assert isinstance(item.metadata["advanced"], bool), item.name
