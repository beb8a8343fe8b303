"""Too little memory: smaller parts, said in a warning and in the result, or a clear error."""

from __future__ import annotations

import json
import weakref

import numpy as np
import pytest
import tifffile
import torch

import napari_vdip.plane as plane
from napari_vdip import Settings, attempts, batch, deconvolve, run
from napari_vdip.attempts import smaller
from napari_vdip.devices import is_out_of_memory
from napari_vdip.report import log_lines
from napari_vdip.scenes import cells

pytestmark = pytest.mark.usefixtures("few_solver_steps")

TINY = {
    "device": "cpu",
    "psf_shape": 5,
    "widths": (4, 4, 4, 4, 4),
    "steps": 3,
    "refinements": 2,
    "samples": 2,
}
SCENE = cells(size=140, psf_size=5)
CPU = torch.device("cpu")


@pytest.fixture
def limited(monkeypatch):
    """Let a function of the plane run out of memory above some pixels; return the sizes it was given."""

    def limit(name, most):
        sound, asked = getattr(plane, name), []

        def scarce(image, *rest, **options):
            asked.append(tuple(image.shape[-2:]))
            if image[0, 0].numel() > most:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
            return sound(image, *rest, **options)

        monkeypatch.setattr(plane, name, scarce)
        return asked

    return limit


def assert_same(one, other):
    for name in ("latent", "psf", "std", "reblurred", "noise"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    for name, values in one.history[0].items():
        np.testing.assert_array_equal(values, other.history[0][name], err_msg=name)


def test_a_search_that_is_too_large_is_made_smaller_and_ends_as_if_it_had_been(limited):
    asked = limited("Search", 80**2)
    with pytest.warns(RuntimeWarning, match="out of memory on cpu with search_area = 140: .* with 70"):
        result = deconvolve(SCENE.blurred, **TINY)
    assert asked == [(140, 140), (70, 70)]
    assert result.reduced == ({"search_area": 70},)
    assert result.metadata["reduced"] == [{"search_area": 70}]
    assert result.settings.search_area == Settings().search_area
    assert_same(result, deconvolve(SCENE.blurred, **TINY, search_area=70))


def test_a_tile_that_is_too_large_is_made_smaller_and_the_kernel_is_not_lost(limited):
    changes = {**TINY, "search_area": 64, "tile": 128}
    searches, tiles = limited("Search", 10**6), limited("restore", 80**2)
    with pytest.warns(RuntimeWarning, match="out of memory on cpu with tile = 128: tried again with 64"):
        result = deconvolve(SCENE.blurred, **changes)
    assert searches == [(64, 64)]
    assert tiles[:2] == [(128, 128), (64, 64)]
    assert result.reduced == ({"tile": 64},)
    assert_same(result, deconvolve(SCENE.blurred, **{**changes, "tile": 64}))


def test_a_plane_with_a_known_psf_is_done_in_tiles(limited):
    limited("restore", 80**2)
    with pytest.warns(RuntimeWarning, match="tile = 140") as told:
        result = deconvolve(SCENE.blurred, **TINY, psf=SCENE.psf)
    assert len(told) == 1
    assert_same(result, deconvolve(SCENE.blurred, **TINY, psf=SCENE.psf, tile=70))


def test_a_std_map_that_is_too_large_is_made_in_tiles_with_the_kernel_of_the_whole(limited, monkeypatch):
    searches = limited("Search", 10**6)
    sound, kernels = plane.standard_deviation, []

    def scarce(precision, shape, *rest):
        kernels.append(precision.kernel)
        if shape[-1] > 80:
            raise MemoryError
        return sound(precision, shape, *rest)

    monkeypatch.setattr(plane, "standard_deviation", scarce)
    with pytest.warns(RuntimeWarning, match="tile = 140"):
        result = deconvolve(SCENE.blurred, **TINY)
    assert len(searches) == 1
    assert all(torch.equal(kernel, kernels[0]) for kernel in kernels)
    assert np.isfinite(result.std).all()


def test_the_next_planes_do_not_try_what_was_too_large(limited):
    asked = limited("restore", 80**2)
    with pytest.warns(RuntimeWarning, match="tile") as told:
        result = deconvolve(np.stack([SCENE.blurred] * 2), **TINY, psf=SCENE.psf, axes="TYX")
    assert len(told) == 1
    assert asked.count((140, 140)) == 1
    assert result.reduced == ({"tile": 70},) * 2
    np.testing.assert_array_equal(result.latent[0], result.latent[1])


def test_a_run_that_goes_on_keeps_to_what_was_enough(limited, tmp_path):
    path = tmp_path / "plane.safetensors"
    limited("Search", 80**2)
    steps = run(SCENE.blurred, checkpoint=path, **TINY)
    with pytest.warns(RuntimeWarning, match="search_area"):
        assert [next(steps).estimate.step for _ in range(3)] == [1, 2, 3]
    steps.close()
    result = deconvolve(SCENE.blurred, checkpoint=path, **TINY)
    assert result.reduced == ({"search_area": 70},)
    assert_same(result, deconvolve(SCENE.blurred, **TINY, search_area=70))


@pytest.mark.filterwarnings("ignore:out of memory")
def test_what_is_too_large_at_its_smallest_is_an_error(limited):
    asked = limited("Search", 0)
    with pytest.raises(MemoryError, match="out of memory on cpu, even with search_area = 64"):
        deconvolve(SCENE.blurred, **TINY)
    assert asked == [(140, 140), (70, 70), (64, 64)]


@pytest.mark.parametrize("changes", [{"refinements": 0}, {"prior": "extreme"}, {"variational": False}])
def test_methods_that_see_the_whole_plane_end_with_an_error(limited, changes):
    asked = limited("Search", 80**2)
    with pytest.raises(MemoryError, match="only VDIP-Sparse with refinements can work in parts"):
        deconvolve(SCENE.blurred, **{**TINY, **changes})
    assert len(asked) == 1


def test_other_errors_are_not_tried_again(monkeypatch):
    calls = []

    def broken(*_):
        calls.append(1)
        raise RuntimeError("cuDNN failed")

    monkeypatch.setattr(plane, "Search", broken)
    with pytest.raises(RuntimeError, match="cuDNN failed"):
        deconvolve(SCENE.blurred, **TINY)
    assert len(calls) == 1


@pytest.mark.filterwarnings("ignore:out of memory")
def test_a_tile_stays_several_windows_wide():
    settings = Settings(psf_shape=(5, 31), tile=300)
    half = smaller(settings, (2000, 2000), False, CPU)
    smallest = smaller(half, (2000, 2000), False, CPU)
    assert (half.tile, smallest.tile) == (150, 4 * 31)
    with pytest.raises(MemoryError, match="tile = 124"):
        smaller(smallest, (2000, 2000), False, CPU)


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True),
        (MemoryError(), True),
        (RuntimeError("cuDNN failed"), False),
    ],
)
def test_which_errors_are_of_memory(error, is_one):
    assert is_out_of_memory(error) == is_one


@pytest.mark.filterwarnings("ignore:out of memory")
def test_a_batch_says_it_in_its_log_and_its_record(limited, tmp_path):
    limited("Search", 80**2)
    tifffile.imwrite(tmp_path / "a.tif", SCENE.blurred)
    settings = Settings(**{name: value for name, value in TINY.items() if name != "device"})
    items = batch.plan([tmp_path / "a.tif"], tmp_path / "out", settings)
    lines = list(log_lines(batch.execute(items, device="cpu"), items))
    assert any("search_area = 70 for lack of memory" in line for line in lines)
    [record] = json.loads((items[0].folder / "napari-vdip.json").read_text())["planes"]
    assert record["reduced"] == {"search_area": 70}


@pytest.mark.filterwarnings("ignore:out of memory")
def test_the_next_planes_of_a_batch_do_not_try_what_was_too_large(limited, tmp_path, monkeypatch):
    asked = limited("Search", 80**2)
    planes = np.stack([SCENE.blurred, SCENE.blurred[::-1], SCENE.blurred.T])
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="minisblack")
    settings = Settings(**{name: value for name, value in TINY.items() if name != "device"})
    items = batch.plan([tmp_path / "a.tif"], tmp_path / "out", settings)
    for event in batch.execute(items, device="cpu"):
        if event.number == 1 and event.progress and event.progress.estimate.stage == "refinement":
            break
    assert asked == [(140, 140), (70, 70), (70, 70)]
    monkeypatch.setattr("napari_vdip.deconvolution._ENOUGH", {})  # as in another process
    begun = [event.progress.estimate.step for event in batch.execute(items, device="cpu") if event.progress]
    assert begun[0] == settings.steps  # from its checkpoint
    assert asked[3:] == [(70, 70)] * 2
    records = json.loads((items[0].folder / "napari-vdip.json").read_text())["planes"]
    assert [record["reduced"] for record in records] == [{"search_area": 70}] * 3


@pytest.mark.parametrize("end", ["finished", "closed", "failed"])
def test_memory_is_given_back_when_nothing_holds_it(monkeypatch, end):
    released, alive = [], []
    monkeypatch.setattr("napari_vdip.deconvolution.release_memory", lambda: released.append(alive[0]()))
    monkeypatch.setattr("napari_vdip.deconvolution.choose_device", lambda name: CPU)
    sound = attempts.Plane

    def kept(*arguments):
        made = sound(*arguments)
        alive.append(weakref.ref(made))
        return made

    monkeypatch.setattr(attempts, "Plane", kept)
    if end == "finished":
        deconvolve(SCENE.blurred[:64, :64], **TINY, progress=lambda progress: None)
    elif end == "closed":
        steps = run(SCENE.blurred[:64, :64], **TINY)
        next(steps)
        steps.close()
    else:
        monkeypatch.setattr(plane, "Search", None)
        with pytest.raises(TypeError):
            deconvolve(SCENE.blurred[:64, :64], **TINY)
    if end != "failed":
        assert released == [None]
    assert len(released) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_that_is_almost_full_takes_smaller_tiles_and_is_left_empty():
    image = np.tile(SCENE.blurred, (15, 15))[:2048, :2048]
    changes = {**TINY, "device": "cuda", "psf": SCENE.psf, "tile": 2048}
    total = torch.cuda.get_device_properties(0).total_memory
    deconvolve(image[:64, :64], **changes)  # what libraries keep for themselves
    before = torch.cuda.memory_reserved()
    torch.cuda.set_per_process_memory_fraction((before + 200 * 2**20) / total)
    try:
        with pytest.warns(RuntimeWarning, match="out of memory on cuda"):
            result = deconvolve(image, **changes)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert result.reduced[0]["tile"] < 2048
    assert np.isfinite(result.latent).all()
    assert torch.cuda.memory_reserved() <= before + 32 * 2**20
