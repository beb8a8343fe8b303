"""Which device computes, and with which precision."""

from __future__ import annotations

import pytest
import torch

from napari_vdip.deconvolution import deconvolve
from napari_vdip.devices import available_devices, choose_device, describe
from napari_vdip.scenes import cells
from napari_vdip.search import mixed_precision


@pytest.mark.parametrize("name", [None, "auto"])
def test_the_best_device_is_chosen_by_itself(name):
    assert str(choose_device(name)) == available_devices()[0]


def test_the_cpu_is_always_there_and_comes_last():
    assert available_devices()[-1] == "cpu"
    assert choose_device("cpu") == torch.device("cpu")
    assert describe(torch.device("cpu")) == "cpu"


def test_cuda_comes_before_mps_before_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr("napari_vdip.devices.transforms", lambda name: True)
    assert available_devices() == ("cuda:0", "cuda:1", "mps", "cpu")
    assert str(choose_device("cuda")) == "cuda"
    assert str(choose_device("cuda:1")) == "cuda:1"
    with pytest.raises(ValueError, match=r"device: expected one of .*got 'cuda:2'"):
        choose_device("cuda:2")


def test_mps_without_fourier_transforms_is_not_offered(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr("napari_vdip.devices.transforms", lambda name: False)
    assert "mps" not in available_devices()


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "", "meta"])
def test_an_unknown_device_is_refused_with_those_there_are(name):
    with pytest.raises(ValueError, match=r"^device: expected one of \('auto',.*'cpu'\), got '" + name):
        choose_device(name)


@pytest.mark.parametrize(
    ("device", "wanted", "active"),
    [("cuda", True, True), ("cuda", False, False), ("cpu", True, False), ("mps", True, False)],
)
def test_mixed_precision_is_used_on_cuda_alone(device, wanted, active, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # else autocast warns and stays off
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    with mixed_precision(torch.device(device), wanted):
        assert torch.is_autocast_enabled("cuda") == active
        assert not torch.is_autocast_enabled("cpu")
        if active:
            assert torch.get_autocast_dtype("cuda") == torch.bfloat16
    assert not torch.is_autocast_enabled("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("stages", [{"steps": 60, "refinements": 4}, {"steps": 0, "refinements": 90}])
def test_a_run_on_cuda_agrees_with_one_on_the_cpu_about_the_scene(stages, mixed):
    scene = cells(size=64, psf_size=9)
    changes = {"psf_shape": 9, **stages, "mixed_precision": mixed}
    gpu, cpu = (deconvolve(scene.blurred, device=device, **changes) for device in ("cuda", "cpu"))
    assert gpu.device.startswith("cuda")
    assert gpu.latent.dtype == gpu.std.dtype == "float32"
    assert abs(gpu.psf.sum() - 1) < 1e-4
    inside = (slice(8, -8),) * 2
    assert abs(gpu.reblurred - cpu.reblurred)[inside].mean() < 0.1 * cpu.latent.std()
