"""Stacks that are read and written plane by plane, and one kernel for all planes of a channel."""

from __future__ import annotations

import subprocess
import sys
import weakref
from dataclasses import replace

import dask.array
import numpy as np
import pytest
import zarr
from scipy.ndimage import gaussian_filter

import napari_vdip.plane as plane
from napari_vdip import attempts, deconvolve, deconvolve_stack
from napari_vdip.deconvolution import prepare

pytestmark = pytest.mark.usefixtures("few_solver_steps")

TINY = {
    "device": "cpu",
    "psf_shape": 5,
    "widths": (4, 4, 4, 4, 4),
    "steps": 2,
    "refinements": 2,
    "samples": 2,
}
KNOWN = plane.Plane.KNOWN_STEPS
PSF = np.outer([1, 2, 1], [1, 3, 2])


def blobs(seed, shape=(36, 40), contrast=50.0):
    rng = np.random.default_rng(seed)
    image = gaussian_filter(rng.normal(0, 1, shape), 2)
    return 100 + contrast * image / image.std() + rng.normal(0, 1, shape)


class Generated:
    """A stack ``TZYX`` whose planes are made when they are read, and counted."""

    def __init__(self, shape=(2, 3, 36, 40), bad=None):
        self.shape, self.dtype, self.ndim, self.bad = shape, np.dtype(np.float32), len(shape), bad
        self.read, self.alive, self.most = [], 0, 0

    def __getitem__(self, at):
        *index, rows, columns = at
        assert all(isinstance(i, int) for i in index), "more than a plane was read"
        self.read.append(tuple(index))
        image = blobs(sum(index) + 7, self.shape[-2:]).astype(self.dtype)
        if tuple(index) == self.bad:
            image[3, 4] = np.nan
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(image, self._gone)
        return image[rows, columns]

    def _gone(self):
        self.alive -= 1

    @property
    def whole(self):
        planes = [self[(*index, slice(None), slice(None))] for index in np.ndindex(self.shape[:-2])]
        return np.stack(planes).reshape(self.shape)


class Written:
    """Takes what is written to it, and nothing else."""

    def __init__(self, shape):
        self.shape, self.dtype, self.writes = shape, np.dtype(np.float32), {}

    def __setitem__(self, at, value):
        assert value.shape == self.shape[-2:]
        self.writes[tuple(i for i in at if isinstance(i, int))] = value.copy()


def zarr_of(array):
    zarr = pytest.importorskip("zarr")
    made = zarr.create_array(zarr.storage.MemoryStore(), shape=array.shape, dtype=array.dtype)
    made[...] = array
    return made


# --- reading and writing -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.asarray, dask.array.from_array, zarr_of, lambda _: Generated()])
@pytest.mark.parametrize("channels", ["separate", "joint"])
def test_every_kind_of_array_gives_the_same_result(kind, channels):
    stack = Generated().whole
    expected = deconvolve(stack, axes="TZYX", channels=channels, psf=PSF, device="cpu", samples=2)
    given = {"axes": "TZYX", "channels": channels, "psf": PSF, "device": "cpu", "samples": 2}
    for made in (deconvolve(kind(stack), **given), deconvolve_stack(kind(stack), **given)):
        for name in ("latent", "psf", "std", "noise"):
            np.testing.assert_array_equal(getattr(made, name), getattr(expected, name))
    assert made.reblurred is None


LAZY = [np.asarray, dask.array.from_array, zarr_of]


@pytest.mark.parametrize("kind", LAZY)
@pytest.mark.parametrize("source", ["plane", "channel"])
def test_blank_planes_of_every_kind_of_array_pass_through(kind, source):
    stack = np.stack([np.zeros((36, 40)), blobs(1), np.full((36, 40), 9.0)])
    out = {name: np.full(stack.shape, -1, np.float32) for name in ("latent", "std", "reblurred")}
    given = {"axes": "ZYX", "psf_source": source, **TINY}
    result = deconvolve_stack(kind(stack), **given, out=out)
    alone = deconvolve(stack[1], **{**given, "axes": "YX"})
    assert (result.blank, result.stopped) == (((0,), (2,)), "finished")
    for name in out:
        np.testing.assert_array_equal(out[name][1], getattr(alone, name))
    for at in (0, 2):
        assert (out["latent"][at] == stack[at]).all()
        assert (out["reblurred"][at] == stack[at]).all()
        assert not out["std"][at].any()
        assert (result.psf[at].sum(), result.psf[at, 2, 2]) == (1, 1)


@pytest.mark.parametrize("kind", LAZY)
@pytest.mark.parametrize(("shape", "axes"), [((36, 40), "YX"), ((3, 36, 40), "ZYX")])
@pytest.mark.parametrize("source", ["plane", "channel"])
def test_an_array_of_nothing_but_blank_planes_is_refused(kind, shape, axes, source):
    with pytest.raises(ValueError, match=r"^image: expected varying .*got one single value"):
        deconvolve_stack(kind(np.ones(shape)), axes=axes, psf_source=source, **TINY)


@pytest.mark.parametrize(
    ("names", "axes"),
    [
        (("t", "y", "x"), "TYX"),
        (("y", "x", "c"), "YXC"),
        (("x", "z", "y"), "XZY"),
        (("time", "y", "x"), None),
        ((None, "y", "x"), None),
        (None, None),
    ],
)
def test_axes_are_those_that_an_array_of_zarr_names_if_they_are_letters(names, axes):
    array = zarr.create_array({}, shape=(40, 36, 38), dtype="float32", dimension_names=names)
    if axes is None:
        with pytest.raises(ValueError, match="axes: expected letters for shape"):
            prepare(array, None, None, None, None, None, {})
    else:
        assert prepare(array, None, None, None, None, None, {})[0].planes.axes == axes
    assert prepare(array, None, "ZYX", None, None, None, {})[0].planes.axes == "ZYX"


def test_whether_a_plane_is_blank_costs_no_other_reading():
    class Empty(Generated):
        def __getitem__(self, at):
            return super().__getitem__(at) * (at[0] == 1)

    for source, times in (("plane", 1), ("channel", 2)):
        stack = Empty((2, 2, 36, 40))
        result = deconvolve_stack(stack, axes="TZYX", psf_source=source, **TINY)
        assert result.blank == ((0, 0), (0, 1))
        assert sorted(stack.read) == sorted([*np.ndindex(2, 2)] * times)


@pytest.mark.parametrize("axes", ["CYX", "YXC", "XCY"])
@pytest.mark.parametrize("channels", ["separate", "joint"])
@pytest.mark.parametrize("out", [lambda a: np.full(a.shape, -1, np.float64), zarr_of])
def test_results_are_written_to_the_arrays_that_are_given(axes, channels, out):
    stack = np.moveaxis(np.stack([blobs(0), blobs(1)]), (0, 1, 2), [axes.index(a) for a in "CYX"])
    given = {"axes": axes, "channels": channels, "psf": PSF, "device": "cpu", "samples": 2}
    expected = deconvolve(stack, **given)
    arrays = {name: out(stack) for name in ("latent", "std", "reblurred")}
    result = deconvolve_stack(stack, **given, out=arrays)
    for name, array in arrays.items():
        assert getattr(result, name) is array
        np.testing.assert_array_equal(array[...], getattr(expected, name).astype(array.dtype))


def test_at_most_one_plane_of_the_stack_is_held():
    stack, latent, std = Generated((4, 3, 36, 40)), Written((4, 3, 36, 40)), Written((4, 3, 36, 40))
    out = {"latent": latent, "std": std}
    result = deconvolve_stack(stack, axes="TZYX", psf=PSF, device="cpu", samples=2, out=out)
    assert stack.read == list(np.ndindex(4, 3)) == list(latent.writes) == list(std.writes)
    assert stack.most <= 2  # the next is read before the last is let go
    assert result.latent is latent
    assert all(np.isfinite(value).all() for value in latent.writes.values())


def test_only_the_region_is_asked_for():
    class Cut(Generated):
        def __getitem__(self, at):
            assert at[-2:] == (slice(0, 60), slice(30, 111))
            return super().__getitem__(at)

    result = deconvolve_stack(
        Cut((1, 2, 100, 120)),
        axes="TZYX",
        psf=PSF,
        device="cpu",
        samples=2,
        region=np.s_[3:25, 65:76],
    )
    assert result.latent.shape == (1, 2, 22, 11)
    assert np.isfinite(result.std).all()


def test_a_run_that_is_stopped_leaves_what_was_in_the_arrays():
    out = {"latent": np.full((3, 36, 40), -1.0, np.float32)}
    stack = dask.array.stack([dask.array.from_array(blobs(i)) for i in range(3)])
    stop = {"progress": lambda p: p.plane == 2}
    result = deconvolve_stack(stack, axes="ZYX", psf=PSF, device="cpu", samples=2, out=out, **stop)
    assert result.stopped == "stopped by the user (Z=1)"
    assert (out["latent"][2] == -1).all()
    assert (out["latent"][:2] != -1).all()
    assert np.isnan(result.std[2]).all()
    assert len(result.noise) == len(result.history) == 2


MEMORY = """
import resource, sys
import numpy as np
import torch
from napari_vdip import deconvolve_stack

torch.set_num_threads(1)
SHAPE = 40, 64, 40, 40

class Stack:
    shape, dtype = SHAPE, np.dtype(np.longdouble)
    def __getitem__(self, at):
        return np.random.default_rng(at[0]).random(SHAPE[1:]).astype(np.longdouble)[at[1:]]

class Nowhere:
    shape, dtype = SHAPE, np.dtype(np.float32)
    def __setitem__(self, at, value):
        pass

peaks = []
def look(progress):
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

deconvolve_stack(
    Stack(), axes="ZCYX", channels="joint", psf_shape=3, widths=(4,) * 5, steps=1, prior="none",
    variational=False, device="cpu", out={"latent": Nowhere()}, progress=look,
)
unit = 1 if sys.platform == "darwin" else 1024
print((peaks[-1] - peaks[4]) * unit, np.prod(SHAPE) * Stack.dtype.itemsize)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="resource is for Unix")
def test_a_stack_ten_times_larger_than_the_memory_it_may_take_is_done():
    ran = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    growth, size = map(int, ran.stdout.split())
    assert growth < size / 10


# --- what is checked, and when -----------------------------------------------------------------------


def test_a_bad_plane_is_named_when_it_is_read_and_earlier_ones_are_kept():
    stack, out = Generated(bad=(1, 0)), {"latent": Written((2, 3, 36, 40))}
    with pytest.raises(ValueError, match="image, T=1, Z=0: expected finite intensities, got 1"):
        deconvolve_stack(stack, axes="TZYX", psf=PSF, device="cpu", samples=2, out=out)
    assert list(out["latent"].writes) == [(0, 0), (0, 1), (0, 2)]
    with pytest.raises(ValueError, match="image, T=1, Z=0: expected finite"):
        deconvolve(stack.whole, axes="TZYX", psf=PSF, device="cpu", progress=lambda _: pytest.fail("begun"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axes": "ZYX"}, "axes: expected 4 different letters"),
        ({"psf": np.ones((37, 3))}, "psf: expected at most"),
        ({"psf_shape": 37}, "image: expected a height of at least 37"),
        ({"region": ((0, 9), (0, 41))}, "region: expected rows and columns, inside 36 x 40"),
        ({"device": "abacus"}, "device: expected"),
        ({"out": {"latent": np.zeros((36, 40))}}, r"out\['latent'\]: expected .*\(2, 3, 36, 40\).*got nd"),
        ({"out": {"latent": np.zeros((2, 3, 36, 40), int)}}, "out.*real numbers.*int64"),
        ({"out": {"latent": Generated()}}, "out.*writable.*got Generated"),
        ({"out": {"mean": np.zeros(3)}}, r"out: expected some of \('latent', .*got 'mean'"),
        ({"out": {"std": Written((2, 3, 36, 40))}, "variational": False}, "out: expected some .*got 'std'"),
    ],
)
def test_the_rest_is_refused_before_a_plane_is_read(changes, message):
    stack = Generated()
    with pytest.raises(ValueError, match=message):
        deconvolve_stack(stack, **{"device": "cpu", "axes": "TZYX", **changes})
    assert not stack.read


@pytest.mark.parametrize("dtype", [bool, complex, object, "U3"])
def test_a_lazy_array_of_another_type_is_refused(dtype):
    stack = Generated()
    stack.dtype = np.dtype(dtype)
    with pytest.raises(ValueError, match="image: expected an array of integers or real numbers, got"):
        deconvolve_stack(stack, axes="TZYX", device="cpu")
    assert not stack.read


# --- one point spread function for a channel ---------------------------------------------------------


@pytest.fixture
def searches(monkeypatch):
    """Count what the networks are fitted to."""
    made, sound = [], plane.Search

    def search(image, settings, rng):
        made.append(tuple(image.shape))
        return sound(image, settings, rng)

    monkeypatch.setattr(plane, "Search", search)
    return made


@pytest.mark.parametrize("lazy", [False, True])
def test_the_psf_of_a_channel_is_that_of_its_most_detailed_plane(searches, lazy):
    contrasts = np.array([[5, 60], [20, 3], [9, 8]])  # of T and C
    stack = np.stack([[blobs(v, contrast=v) for v in row] for row in contrasts])
    image, seen = dask.array.from_array(stack, (1, 1, 36, 40)) if lazy else stack, []
    result = deconvolve(image, axes="TCYX", psf_source="channel", **TINY, progress=seen.append)
    assert len(searches) == 2
    order = list(dict.fromkeys(p.index for p in seen))
    assert order == [(1, 0), (0, 0), (2, 0), (0, 1), (1, 1), (2, 1)]
    assert [p.plane for p in seen] == sorted(p.plane for p in seen)
    assert {p.planes for p in seen} == {6}
    lengths = [len(course["stage"]) for course in result.history]
    assert lengths == [KNOWN, 4, 4, KNOWN, KNOWN, KNOWN]  # in the order of the planes
    for channel, best in enumerate((1, 0)):
        alone = deconvolve(stack[best, channel], **TINY)
        np.testing.assert_array_equal(result.latent[best, channel], alone.latent)
        for time in range(3):
            np.testing.assert_array_equal(result.psf[time, channel], alone.psf)
    assert not np.array_equal(result.psf[0, 0], result.psf[0, 1])
    assert result.settings.psf_source == "channel"
    for array in (result.latent, result.std, result.reblurred, result.noise):
        assert np.isfinite(array).all()


@pytest.mark.parametrize("lazy", [False, True])
def test_no_blank_plane_gives_a_channel_its_psf(searches, lazy):
    stack = np.stack([[np.zeros((36, 40)), blobs(0)], [blobs(1), blobs(2)], [np.ones((36, 40))] * 2])
    stack = np.concatenate([stack, np.full((3, 1, 36, 40), 7)], axis=1)  # the last channel is empty
    image = dask.array.from_array(stack, (1, 1, 36, 40)) if lazy else stack
    result = deconvolve(image, axes="TCYX", psf_source="channel", **TINY)
    assert len(searches) == 2
    assert result.blank == ((0, 0), (0, 2), (1, 2), (2, 0), (2, 1), (2, 2))
    for index in np.ndindex(3, 3):
        assert (result.psf[index][2, 2] == 1) == (index in result.blank)
    np.testing.assert_array_equal(result.psf[0, 1], result.psf[1, 1])
    np.testing.assert_array_equal(result.latent[1, 0], deconvolve(stack[1, 0], **TINY).latent)


def test_joint_channels_and_stacks_without_channels_have_one_psf(searches):
    for axes, channels in (("ZCYX", "joint"), ("TZYX", "separate")):
        searches.clear()
        stack = np.stack([[blobs(2 * i + j) for j in range(2)] for i in range(2)])
        result = deconvolve(stack, axes=axes, channels=channels, psf_source="channel", **TINY)
        assert len(searches) == 1
        psfs = result.psf.reshape(-1, 5, 5)
        assert all(np.array_equal(psf, psfs[0]) for psf in psfs)


def test_a_single_plane_is_not_read_twice(searches):
    stack = Generated((1, 1, 36, 40))
    deconvolve_stack(stack, axes="TZYX", psf_source="channel", **TINY)
    assert stack.read == [(0, 0)]
    assert len(searches) == 1


def test_a_channel_whose_search_fails_ends_the_run(monkeypatch):
    sound = attempts.Plane.estimates

    def estimates(self, start=None):
        for estimate in sound(self):
            lost = estimate.kernel * float("nan")
            yield replace(estimate, kernel=lost) if estimate.step == 4 else estimate

    monkeypatch.setattr(attempts.Plane, "estimates", estimates)
    stack = np.stack([blobs(0), blobs(1)])
    with pytest.warns(RuntimeWarning, match="not finite at step 4"):
        result = deconvolve(stack, axes="TYX", psf_source="channel", **{**TINY, "refinements": 3})
    assert len(result.history) == 1
    assert np.isfinite(result.latent).all((1, 2)).sum() == 1
