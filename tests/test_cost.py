"""What a run will take: the work counted, measured and added up. No test looks at how long it takes."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import tifffile
import torch
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner

import napari_vdip.cost as cost
import napari_vdip.plane as plane_module
import napari_vdip.rates as rates
import napari_vdip.refinement as refinement
import napari_vdip.regularization as regularization
from napari_vdip import Settings, deconvolve
from napari_vdip.bentness import QUARTERS, TURNS, UPDATES
from napari_vdip.candidate import Candidate
from napari_vdip.cli import app
from napari_vdip.cost import Cost, among, expected_cost, one_after_the_other
from napari_vdip.plane import Plane
from napari_vdip.posterior import BATCH, Precision
from napari_vdip.power import Power
from napari_vdip.prediction import ROUNDS, HeldOut
from napari_vdip.rates import Measured, Rate
from napari_vdip.refinement import rounds_of
from napari_vdip.regularization import MOST
from napari_vdip.sharpness import ROUND
from napari_vdip.stack import plan
from napari_vdip.tensor_memory import TensorCount, peak_memory
from napari_vdip.widths import FINE, TRIALS
from napari_vdip.workload import PLAUSIBLE, parts_of_plane, parts_of_run

pytestmark = pytest.mark.usefixtures("few_solver_steps")

CPU = torch.device("cpu")
SMALL = Settings(psf_shape=5, widths=(4, 4, 4, 4, 4), steps=2, refinements=5, samples=BATCH)
PSF = np.outer([1, 2, 3, 2, 1], [1, 2, 3, 2, 1])
UNITS = ("begin", "prefit", "search", "kernel", "mean", "sample", "finish")


def picture(shape=(36, 40), seed=0):
    return gaussian_filter(
        np.random.default_rng(seed).normal(0, 1, shape), (0,) * (len(shape) - 2) + (1, 1)
    )


@pytest.fixture
def done(monkeypatch):
    """Count what is really done."""
    counts = Counter()

    def counted(owner, name, unit, amount=lambda *arguments: 1):
        original = getattr(owner, name)

        def wrapper(*arguments):
            counts[unit] += amount(*arguments)
            return original(*arguments)

        monkeypatch.setattr(owner, name, wrapper)

    counted(Plane, "__init__", "begin")
    counted(Candidate, "advance", "kernel")
    counted(Precision, "mean", "mean")
    counted(Precision, "sample", "sample", lambda _, shape, rng: shape[0] / BATCH)
    counted(Plane, "_restored", "finish")
    counted(HeldOut, "predict", "prediction")
    return counts


@pytest.fixture
def per_pixel(monkeypatch):
    """Take these seconds and bytes for a pixel of each unit, and note for how many pixels."""
    found = {unit: Rate(10.0**-number, 10.0 * number) for number, unit in enumerate(UNITS, start=1)}
    asked = []

    def measure(pixels, channels, settings, units, device):
        asked.append(pixels)
        return {
            unit: Measured(pixels, pixels * found[unit].seconds, 0, pixels * found[unit].memory)
            for unit in units
        }

    rates.calibration.cache_clear()
    monkeypatch.setattr(rates, "measure", measure)
    monkeypatch.setattr(rates, "BUDGET", 1e12)
    found["asked"] = asked
    yield found
    rates.calibration.cache_clear()


def expected(shape=(64, 64), axes="YX", settings=SMALL, **arguments):
    planes = plan(shape, axes, settings.channels)
    return expected_cost(planes, settings, device="cpu", **arguments)


# --- the work is that of a run -----------------------------------------------------------------------


@pytest.fixture(params=[1.0, 5.0])
def sharp(monkeypatch, request):
    """How sharp all images are.

    If smooth, all entries of a kernel may be haze, it is compared with Gaussians, and all updates of the
    weights pay. If not, the last start is the best, and the model leaves more than noise.
    """

    def all_pay(errors):
        return MOST, list(islice(errors, 1 + MOST))[-1]

    monkeypatch.setattr(refinement, "sparsest", lambda candidates: candidates[-1])
    monkeypatch.setattr(regularization, "FITS", 0.0)
    monkeypatch.setattr(regularization, "_before_it_rises", all_pay)
    for module in (refinement, plane_module):
        monkeypatch.setattr(module, "sharpness", lambda image, variance: request.param)
    monkeypatch.setattr(Power, "width_of", lambda power, kernel: 0.0)
    monkeypatch.setattr("napari_vdip.comparison.CERTAIN", np.inf)
    return request.param


@pytest.mark.parametrize(
    ("shape", "axes", "changes"),
    [
        ((36, 40), "YX", {}),
        ((36, 40), "YX", {"refinements": 2, "samples": 2}),
        ((36, 40), "YX", {"refinements": 2 * TRIALS + 1}),
        ((36, 40), "YX", {"refinements": 2 * TRIALS + 1, "gaussians": False}),
        ((36, 40), "YX", {"refinements": 0, "prefit_steps": 2, "prior": "extreme"}),
        ((36, 40), "YX", {"refinements": 0, "prior": "sparse"}),
        ((36, 40), "YX", {"variational": False}),
        ((2, 36, 40), "CYX", {"channels": "joint"}),
        ((2, 36, 40), "CYX", {"channels": "separate"}),
        ((3, 36, 40), "ZYX", {"psf_source": "channel"}),
        ((2, 3, 36, 40), "CTYX", {"psf_source": "channel"}),
        ((2, 36, 40), "CYX", {"psf_source": "channel"}),
        ((36, 40), "YX", {"psf_source": "given"}),
        ((70, 66), "YX", {"search_area": 64, "tile": 64}),
        ((70, 66), "YX", {"search_area": 64}),
        ((2, 70, 66), "ZYX", {"search_area": 64, "tile": 64, "psf_source": "channel"}),
        ((70, 66), "YX", {"tile": 64, "psf_source": "given"}),
    ],
)
def test_the_work_is_what_a_run_does(done, shape, axes, changes, sharp):
    settings = SMALL.replace(**changes)
    steps = Counter()
    deconvolve(
        picture(shape),
        settings.replace(psf_source="plane") if settings.psf_source == "given" else settings,
        axes=axes,
        psf=PSF if settings.psf_source == "given" else None,
        device="cpu",
        progress=lambda where: steps.update([where.estimate.stage]),
    )
    work = Counter()
    for part in parts_of_run(plan(shape, axes, settings.channels), shape[-2:], settings, sharp):
        work.update({unit: part.times * times for unit, times in part.units.items() if times})
    made = done.pop("prediction", 0)
    if made and sharp == 1:
        again = TRIALS + PLAUSIBLE - made
        assert 0 <= again <= FINE  # the widest is met again if it is the best
        than_half = PLAUSIBLE / 2 - QUARTERS * TURNS / 2  # of a plausible kernel, and half of a wider one
        more = ROUNDS * (than_half - again)
        work.update({"mean": more, "sample": more, "kernel": -QUARTERS * UPDATES / 2})
    assert work == {**done, **{stage: steps[stage] for stage in ("prefit", "search") if steps[stage]}}


@pytest.mark.parametrize(
    ("width", "predictions", "updates"),
    [(0.0, PLAUSIBLE, 0), (np.inf, QUARTERS * TURNS, QUARTERS * UPDATES)],
)
def test_a_plausible_kernel_is_compared_and_a_wider_one_is_found_anew_and_turned(
    done, monkeypatch, width, predictions, updates
):
    monkeypatch.setattr(Power, "width_of", lambda power, kernel: width)
    monkeypatch.setattr(refinement, "sharpness", lambda image, variance: 1.0)
    monkeypatch.setattr("napari_vdip.bentness.BENT", np.inf)
    monkeypatch.setattr("napari_vdip.comparison.CLEARER", np.inf)
    monkeypatch.setattr("napari_vdip.comparison.CERTAIN", np.inf)
    settings = SMALL.replace(refinements=2 * TRIALS + 1)
    deconvolve(picture(), settings, device="cpu")
    assert predictions + TRIALS - FINE <= done["prediction"] <= predictions + TRIALS
    assert done["kernel"] == rounds_of(settings)[0] + updates


@pytest.mark.parametrize("steps", [1, 0])
def test_rounds_at_smaller_scales_are_on_canvases_of_their_size(steps, sharp, monkeypatch):
    settings = SMALL.replace(psf_shape=9, steps=steps, refinements=90, gaussians=False)
    pixels = []
    original = Candidate.advance

    def advance(candidate, noise):
        height, width = candidate.mean.shape[-2:]
        pixels.append((height + 1) * (width + 1))
        original(candidate, noise)

    monkeypatch.setattr(Candidate, "advance", advance)
    deconvolve(picture((120, 120)), settings, device="cpu")
    counted = Counter()
    for part in parts_of_plane((120, 120), settings, False, sharp):
        counted[part.canvas] += part.units.get("kernel", 0)
    assert Counter(pixels) == counted


def test_tiles_are_as_large_as_those_of_a_run(monkeypatch):
    settings = SMALL.replace(search_area=64, tile=80)
    sizes = Counter()
    original = Plane.result

    def result(plane, estimate):
        sizes[tuple(plane.image.shape[-2:])] += 1
        return original(plane, estimate)

    monkeypatch.setattr(Plane, "result", result)
    deconvolve(picture((100, 120)), settings, device="cpu")
    parts = parts_of_plane((100, 120), settings, known=False)
    assert sizes == {
        part.size: part.times for part in parts if "mean" in part.units and part.size != (64, 64)
    }
    assert parts[0].size == (64, 64)


# --- what it adds up to ------------------------------------------------------------------------------


def test_seconds_are_the_sum_of_the_work_over_all_pixels(per_pixel):
    settings = SMALL.replace(prefit_steps=2, search_area=64, tile=64)
    seconds = expected((3, 100, 120), "ZYX", settings).seconds
    assert seconds == pytest.approx(
        3
        * sum(
            part.times * times * per_pixel[unit].seconds * part.canvas
            for part in parts_of_plane((100, 120), settings, known=False)
            for unit, times in part.units.items()
        )
    )


def test_more_planes_steps_rounds_and_samples_take_longer(per_pixel):
    one = expected().seconds
    assert expected((7, 64, 64), "TYX").seconds == pytest.approx(7 * one)
    more = SMALL.replace(steps=SMALL.steps + 10)
    assert expected(settings=more).seconds - one == pytest.approx(10 * 68**2 * per_pixel["search"].seconds)
    for name in ("refinements", "samples", "prefit_steps"):
        changed = SMALL.replace(**{name: getattr(SMALL, name) + 8})
        assert expected(settings=changed).seconds > one
    assert expected(settings=SMALL.replace(psf_source="given")).seconds < one


def test_the_image_says_whether_it_is_compared_with_gaussians(per_pixel):
    settings = SMALL.replace(steps=0, refinements=90)
    smooth, edges = gaussian_filter(picture(), 3), np.kron(np.indices((9, 10)).sum(0) % 2, np.ones((4, 4)))
    assert sharpness(smooth) < ROUND < sharpness(edges)
    unknown, *known = (
        expected((36, 40), settings=settings, image=image) for image in (None, smooth, edges)
    )
    assert known[0] == unknown
    assert known[1] != unknown
    stack = np.stack([smooth, edges, smooth])
    assert expected((3, 36, 40), "ZYX", settings, image=stack).seconds == pytest.approx(
        3 * known[1].seconds
    )
    blank = expected((36, 40), settings=settings, image=np.ones((36, 40)))
    assert blank == unknown


def sharpness(image):
    return Plane(image[..., None], SMALL, CPU).sharpness


def test_time_is_a_constant_and_what_grows_with_the_pixels():
    rate = Measured(100, 3.0, 7.0, 500).with_larger(Measured(300, 7.0, 2.0, 1500))
    assert rate == Rate(seconds=0.02, memory=5, fixed=1, first=2)
    assert [rate.of(pixels) for pixels in (100, 300, 1000)] == pytest.approx([3, 7, 21])
    same = Measured(100, 3.0, 0.0, 500)
    assert same.with_larger(same) == Rate(seconds=0.03, memory=5)
    slow, fast = Measured(100, 3.0, 0.0, 500), Measured(300, 2.0, 0.0, 1500)  # as noise may have it
    assert slow.with_larger(fast) == Rate(seconds=0, memory=5, fixed=2)


def test_a_gpu_is_woken_by_what_takes_longer_at_first(monkeypatch):
    found = iter([3.0, 1.0])
    monkeypatch.setattr(rates, "timed", lambda do, device: next(found))
    rates.time_to_wake.cache_clear()
    assert rates.time_to_wake(SMALL, frozenset(UNITS), torch.device("cuda")) == 2
    assert rates.time_to_wake(SMALL, frozenset(UNITS), CPU) == 0


def test_what_a_process_takes_once_is_counted_once():
    costs = [Cost(10, 1e9, "cuda:0", 2), Cost(7, 3e9, "cuda:0", 3)]
    assert one_after_the_other(costs) == Cost(8 + 4 + 3, 3e9, "cuda:0", 3)
    assert among(4, costs[0], 8) == Cost(8 / 4 + 2, 4e9, "cuda:0", 2)


def test_the_first_of_each_size_and_the_very_first_count_besides(monkeypatch):
    settings = SMALL.replace(steps=0, refinements=3, psf_source="plane")
    parts = parts_of_plane((64, 64), settings, known=False)
    sizes = sum(1 for part in parts for times in part.units.values() if times)

    def take(rate):
        monkeypatch.setattr(cost, "rates_of", lambda *_: dict.fromkeys(UNITS, rate))

    take(Rate(0, 0, first=1))
    assert expected((4, 64, 64), "ZYX", settings).seconds == sizes
    take(Rate(0, 0))
    monkeypatch.setattr(cost, "time_to_wake", lambda *_: 3.0)
    found = expected((4, 64, 64), "ZYX", settings)
    assert found.seconds == found.once == 3


def test_a_shared_kernel_is_searched_once_a_channel(per_pixel):
    def seconds(shape, axes, source):
        return expected(shape, axes, SMALL.replace(psf_source=source)).seconds

    begin = per_pixel["begin"].seconds * 68**2
    each, known = seconds((64, 64), "YX", "plane"), seconds((64, 64), "YX", "given")
    assert seconds((2, 5, 64, 64), "CTYX", "channel") == pytest.approx(2 * each + 8 * known + 10 * begin)


def test_the_memory_is_that_of_the_largest_unit_and_of_the_results(per_pixel):
    canvas, pixels = 68**2, 64**2
    largest = max(per_pixel[unit].memory for unit in UNITS)
    one = expected().memory
    assert one - cost.PROCESS == pytest.approx(largest * canvas + 3 * 4 * pixels)
    assert expected((10, 64, 64), "TYX").memory - one == pytest.approx(9 * 3 * 4 * pixels)
    assert expected((10, 64, 64), "TYX", kept=False).memory == one


def test_a_region_costs_less_than_the_plane_but_more_than_its_pixels(per_pixel):
    plane = expected((256, 256)).seconds
    part = expected((256, 256), region=((0, 64), (100, 164))).seconds
    assert expected((64, 64)).seconds < part < plane


@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        ((20, 64), {}, "height of at least 31"),
        ((64, 64), {"region": ((0, 80), (0, 10))}, "region: expected"),
    ],
)
def test_what_a_run_would_refuse_is_refused(shape, arguments, message):
    with pytest.raises(ValueError, match=message):
        expected(shape, **arguments)


def test_an_unknown_device_is_refused():
    with pytest.raises(ValueError, match="device"):
        expected_cost(plan((64, 64), "YX", "separate"), SMALL, device="abacus")


# --- the calibration ---------------------------------------------------------------------------------


def test_the_calibration_begins_small_and_goes_to_the_size_of_the_plane_if_there_is_time(per_pixel):
    expected((600, 600), settings=SMALL.replace(search_area=1024))
    small, full = per_pixel["asked"]
    assert small == rates.SMALLEST_SIDE**2
    assert full == pytest.approx(604**2, rel=2 ** (1 / rates.SIDES_PER_DOUBLING) - 1)


def test_the_calibration_stays_within_its_budget(per_pixel, monkeypatch):
    monkeypatch.setattr(rates, "BUDGET", 1e4)
    expected((600, 600), settings=SMALL.replace(search_area=1024))
    small, affordable = per_pixel["asked"]
    seconds = sum(
        (1 + rates.TIMES.get(unit, 1)) * per_pixel[unit].seconds for unit in UNITS if unit != "prefit"
    )
    assert affordable * seconds == pytest.approx(1e4, rel=1e-3)
    assert small < affordable < 600**2


def test_a_size_that_does_not_fit_into_the_memory_is_estimated_from_a_smaller_one(per_pixel, monkeypatch):
    enough = expected((600, 600), settings=SMALL.replace(search_area=1024))
    measure = rates.measure

    def scarce(pixels, *others):
        if pixels > 200**2:
            raise torch.cuda.OutOfMemoryError
        return measure(pixels, *others)

    rates.calibration.cache_clear()
    monkeypatch.setattr(rates, "measure", scarce)
    assert expected((600, 600), settings=SMALL.replace(search_area=1024)) == enough


def test_planes_of_nearly_one_size_and_settings_for_the_same_work_share_a_calibration(per_pixel):
    expected((200, 210))
    asked = len(per_pixel["asked"])
    expected((205, 210), settings=SMALL.replace(steps=50, samples=8, seed=3, refinements=60))
    assert len(per_pixel["asked"]) == asked
    expected((205, 210), settings=SMALL.replace(psf_shape=7))
    assert len(per_pixel["asked"]) > asked


@pytest.mark.parametrize("source", ["plane", "given"])
def test_every_unit_is_measured_and_its_memory_grows_with_the_pixels(source):
    settings = rates.miniature(SMALL.replace(prefit_steps=500, psf_source=source))
    before = torch.get_rng_state()
    small, large = (rates.measure(side**2, 1, settings, frozenset(UNITS), CPU) for side in (96, 192))
    assert torch.equal(torch.get_rng_state(), before)
    assert set(small) == set(large) == set(UNITS)
    for unit in UNITS:
        assert small[unit].seconds > 0
        pixels = large[unit].pixels / small[unit].pixels
        assert large[unit].memory == pytest.approx(pixels * small[unit].memory, rel=0.2)
    assert small["sample"].memory > BATCH / 2 * small["mean"].memory


def test_no_networks_are_made_where_a_run_has_none(monkeypatch):
    monkeypatch.setattr(rates, "Search", None)
    settings = rates.miniature(SMALL)
    assert set(rates.measure(1, 1, settings, frozenset({"kernel", "mean"}), CPU)) == {"kernel", "mean"}
    with pytest.raises(TypeError):
        rates.measure(1, 1, settings, frozenset({"search"}), CPU)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("preset", ["default", "networks", "paper"])
def test_a_gpu_is_calibrated_for_every_preset(preset):
    found = expected_cost(plan((96, 96), "YX", "separate"), Settings.preset(preset), device="cuda")
    assert found.seconds > found.once >= 0
    assert found.memory > 0


# --- the memory of tensors ---------------------------------------------------------------------------


def test_the_memory_of_tensors_is_counted_while_they_live():
    with TensorCount() as count:
        first = torch.zeros(1000)
        assert count.peak == 4000
        view = first[:10]
        first.add_(1)
        assert count.peak == 4000
        for _ in range(3):
            torch.zeros(500, dtype=torch.float64)  # freed at once
        assert count.peak == 8000
        del first
        second = torch.zeros(2000)  # the view keeps what it is a view of
        assert count.peak == 12000
        del view, second
        third = torch.zeros(2900)
        assert count.peak == 12000
        third.double()
        assert count.peak == 3 * 11600


def test_what_a_gradient_needs_is_counted():
    with peak_memory(CPU) as peak:
        a = torch.ones(1000, requires_grad=True)
        a.exp().sin().sum().backward()
    with peak_memory(CPU) as without, torch.no_grad():
        torch.ones(1000).exp_().sin_().sum()
    assert peak.memory > 3 * without.memory > 0


# --- as text -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "memory", "text"),
    [
        (70, 0.9e9, "about 1:10, 0.9 GB"),
        (0.2, 1e7, "about 0:00, 0.1 GB"),
        (7265.4, 12.34e9, "about 2:01:05, 12.3 GB"),
    ],
)
def test_a_cost_says_what_it_is(seconds, memory, text):
    assert str(Cost(seconds, memory, "cpu")) == text


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    tifffile.imwrite(folder / "one.tif", picture((64, 70)).astype(np.float32))
    tifffile.imwrite(
        folder / "stack.tif", picture((3, 64, 64)).astype(np.float32), photometric="minisblack"
    )
    tifffile.imwrite(tmp_path / "psf.tif", PSF.astype(np.float32))
    return folder


def command(*arguments):
    result = CliRunner().invoke(app, ["estimate", *map(str, arguments), "--device", "cpu"])
    return result, [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


FEW = ("--psf-shape", 5, "--steps", 3)


def test_the_command_says_what_each_image_and_all_take(per_pixel, images):
    result, (one, stack, total) = command(images, *FEW, "--json")
    assert result.exit_code == 0, result.output
    assert (one["item"], one["planes"], stack["item"], stack["planes"]) == ("one", 1, "stack", 3)
    settings = Settings(psf_shape=5, steps=3)
    for data, shape in ((one, (64, 70)), (stack, (3, 64, 64))):
        image = picture(shape).astype(np.float32)
        alike = expected(shape, "ZYX"[-len(shape) :], settings, kept=False, image=image)
        assert (data["seconds"], data["memory"]) == (round(alike.seconds, 1), round(alike.memory))
    assert total["seconds"] == pytest.approx(one["seconds"] + stack["seconds"], abs=0.2)
    assert total["memory"] == max(one["memory"], stack["memory"])
    assert (total["images"], total["planes"], total["device"]) == (2, 4, "cpu")
    assert one["text"] in command(images, *FEW)[0].output


def test_the_command_takes_the_settings_of_a_run(per_pixel, images, tmp_path):
    (tmp_path / "settings.yaml").write_text("steps: 3")
    same = ("--psf-shape", 5, "--settings", tmp_path / "settings.yaml")
    assert command(images, *same, "--json")[1] == command(images, *FEW, "--json")[1]
    (longer,) = command(images / "one.tif", "--psf-shape", 5, "--preset", "networks", "--json")[1][:1]
    (shorter,) = command(images / "one.tif", *FEW, "--json")[1][:1]
    (known,) = command(images / "one.tif", "--psf", tmp_path / "psf.tif", "--json")[1][:1]
    assert longer["seconds"] > shorter["seconds"] > known["seconds"]


def test_an_image_that_cannot_be_done_is_named_and_the_others_are_estimated(per_pixel, images):
    (images / "empty.tif").touch()
    tifffile.imwrite(images / "tiny.tif", picture((10, 10)).astype(np.float32))
    result, found = command(images, *FEW, "--json")
    assert result.exit_code == 1
    problems = {data["item"]: data["problem"] for data in found if "problem" in data}
    assert set(problems) == {"empty", "tiny"}
    assert "empty file" in problems["empty"]
    assert "at least" in problems["tiny"]
    assert found[-1]["images"] == 2
    assert f"cannot be done: {problems['tiny']}" in command(images, *FEW)[0].output


def test_workers_share_the_time_and_add_up_their_memory(per_pixel, images):
    alone = command(images, *FEW, "--json")[1]
    for workers in (2, 8):
        shared = command(images, *FEW, "--json", "--workers", workers)[1]
        for one, other, planes in zip(alone, shared, (1, 3, 4), strict=True):
            busy = min(workers, planes)
            assert other["seconds"] == pytest.approx(one["seconds"] / busy, abs=0.06)
            assert other["memory"] == pytest.approx(one["memory"] * busy, abs=busy)


@pytest.mark.parametrize("error", [MemoryError("no room"), RuntimeError("CUDA error"), OSError("gone")])
def test_an_error_of_the_device_is_a_problem_of_one_image(per_pixel, images, monkeypatch, error):
    sound = cost.expected_cost

    def once(planes, *rest, **options):
        if len(planes.indices) == 1:
            raise error
        return sound(planes, *rest, **options)

    monkeypatch.setattr(cost, "expected_cost", once)
    result, (one, stack, total) = command(images, *FEW, "--json")
    assert result.exit_code == 1
    assert str(error) in one["problem"]
    assert (stack["planes"], total["images"]) == (3, 1)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(("--samples", "1"), "samples"), (("nowhere.tif",), "INPUT"), (("--axes", "AB"), "axes")],
)
def test_a_command_that_cannot_be_used_says_why(images, arguments, named):
    result, _ = command(images, *arguments)
    assert result.exit_code == 2
    assert named in result.output
