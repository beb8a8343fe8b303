"""What a run tells of itself, without a window."""

import re

import numpy as np
import pytest

from napari_vdip import Settings
from napari_vdip._layers import Picture
from napari_vdip._worker import Orders, deconvolving

pytestmark = pytest.mark.usefixtures("few_solver_steps")

QUICK = Settings(psf_shape=7, steps=3, refinements=1, samples=2, widths=(4,) * 5)
KERNELS = Settings(psf_shape=7, samples=2)


def noisy():
    return np.random.default_rng(0).poisson(50, (36, 40)).astype(np.float32)


def reports(data, settings=QUICK):
    """All that a run tells to a window that is always ready."""
    orders, told = Orders(), []
    for report in deconvolving(Picture(data, "YX", (0, 0)), settings, None, "cpu", orders):
        told.append(report)
        orders.heard.set()
    return told


def test_residual_and_noise_are_said_in_the_units_of_the_image():
    data, levels = noisy(), []
    for factor in (1, 1000):
        last = reports(factor * data)[-1]
        residual, noise = re.findall(r"residual (\S+), noise (\S+)", last.text)[0]
        assert float(residual) == pytest.approx(last.restored.noise, rel=1e-3)
        assert float(noise) == pytest.approx(last.noise_level, rel=1e-3)
        levels.append(last.noise_level)
    assert levels[1] == pytest.approx(1000 * levels[0], rel=1e-3)
    assert levels[0] == pytest.approx(50**0.5, rel=0.2)


def test_every_step_is_told_with_its_phase():
    steps = [step for report in reports(noisy(), KERNELS) for step in report.course]
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    phases = list(dict.fromkeys(step.stage for step in steps))
    assert phases == ["coarse scales", "full resolution", "half resolution", "comparison", "latent image"]
