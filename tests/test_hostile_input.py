"""Arrays and layers of every kind: a result that means something, or an error that names the parameter."""

from __future__ import annotations

import re

import dask.array as da
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from napari.layers import Image, Layer

from napari_vdip import deconvolve, deconvolve_stack, images
from napari_vdip._layers import layer_data, read_layer

pytestmark = pytest.mark.usefixtures("few_solver_steps")

QUICK = {
    "device": "cpu",
    "psf_shape": 5,
    "widths": (4, 4, 4, 4, 4),
    "steps": 1,
    "refinements": 0,
    "samples": 2,
    "variational": False,
    "prior": "none",
}
FULL = QUICK | {"steps": 2, "refinements": 2, "variational": True, "prior": "sparse"}
KNOWN = FULL | {"psf": np.outer([1, 2, 1], [1, 3, 2])}
NAMED = r"^(image|axes|psf|psf_shape|region|settings|device)(, \w=\d+)*: expected .*got "
PLANE = np.random.default_rng(0).uniform(0, 1, (33, 35))

bounded = settings(
    max_examples=24,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
few = settings(bounded, max_examples=6)


def assert_right(result, image, window=(5, 5)):
    """The result is one of this image: finite, in its place, and its intensities are near those of it."""
    assert result.stopped == "finished"
    assert result.latent.shape == image.shape
    assert result.latent.dtype == result.psf.dtype == np.float32
    for array in (result.latent, result.std, result.reblurred, result.noise):
        assert array is None or np.isfinite(array).all()
    psfs = np.moveaxis(result.psf, [result.axes.replace("C", "").find(a) for a in "YX"], (-2, -1))
    if result.psf.ndim == result.latent.ndim:
        psfs = np.moveaxis(result.psf, [result.axes.index(a) for a in "YX"], (-2, -1))
    assert psfs.shape[-2:] == window
    assert (psfs >= 0).all()
    np.testing.assert_allclose(psfs.sum((-2, -1)), 1, rtol=1e-5)
    low, high = float(image.min()), float(image.max())
    # The reblurred image explains the source: it is in its units, whatever these are.
    assert (np.abs(np.asarray(result.reblurred, float) - (low + high) / 2) <= 3 * (high - low)).all()


def tried(function, image, **arguments):
    """Return the result, or `None` where a clear error came instead; the input is as it was."""
    before = np.array(image, copy=True) if isinstance(image, np.ndarray) else None
    result, message = None, None
    try:
        result = function(image, **arguments)
    except ValueError as error:
        message = str(error)
    assert message is None or re.search(NAMED, message, re.DOTALL), message
    if before is not None:
        assert image.dtype == before.dtype
        assert np.ma.getdata(image).tobytes() == before.tobytes()
    return result


TYPES = ("u1", "i1", "u2", ">u2", "i4", ">i8", "u8", "f2", "f4", ">f4", "f8", ">f8", "g")
LAYOUTS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "flipped": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "strided": lambda a: np.repeat(np.repeat(a, 2, 0), 3, 1)[::2, ::3],
    "read-only": lambda a: np.lib.stride_tricks.as_strided(a, a.shape, a.strides, writeable=False),
    "transposed": lambda a: a.T.copy().T,
    "masked": np.ma.masked_array,
    "Dask": lambda a: da.from_array(a, (10, -1)),
}
"""Changes of the layout in memory that leave the values where they are."""
LEVELS = 100
"""Of the plane that every type can hold."""
dtypes = st.sampled_from(TYPES)
layouts = st.sampled_from(list(LAYOUTS.values()))


@pytest.fixture(scope="module")
def levels():
    """One plane of whole numbers, and its result as a contiguous array of float64."""
    plane = np.random.default_rng(0).integers(0, LEVELS, (48, 48)).astype(float)
    return plane, deconvolve(plane, **QUICK)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_in_every_layout_gives_the_same_result(levels, dtype, layout):
    plane, expected = levels
    result = tried(deconvolve, LAYOUTS[layout](plane.astype(dtype)), **QUICK)
    for name in ("latent", "psf", "reblurred"):
        np.testing.assert_array_equal(getattr(result, name), getattr(expected, name))


@pytest.mark.parametrize("function", [deconvolve, deconvolve_stack])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_bool_in_any_layout_is_refused(layout, function):
    assert tried(function, LAYOUTS[layout](np.eye(48, dtype=bool)), **QUICK) is None


@pytest.mark.parametrize("function", [deconvolve, deconvolve_stack])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda a: np.ma.masked_array(a, np.eye(48)),
        lambda a: da.ma.masked_array(da.from_array(a), np.eye(48)),
        lambda a: da.from_array(a, 10)[da.from_array(np.arange(48) > 5, 10)],
    ],
    ids=["masked", "Dask, masked", "Dask of unknown chunks"],
)
def test_masked_pixels_and_unknown_chunks_of_every_type_are_refused(levels, dtype, spoil, function):
    assert tried(function, spoil(levels[0].astype(dtype)), **QUICK) is None


@st.composite
def pictures(draw):
    """A plane of some type and range, spoiled in some ways; most can be used."""
    fair = draw(st.sampled_from([True, True, False]))
    heights, contents = [31, 33], ["noise", "spot", "saturated", "ramp", "two"]
    scales, offsets, bads = [-4, 0, 4], [0.0, -0.5, 1.0], [None]
    if not fair:
        heights, contents = [3, *heights], [*contents, "constant"]
        scales, offsets = [-320, -45, -38, -9, 30, 36, 39, 300], [*offsets, 1e5, 1e9, -1e16]
        bads = [None, None, np.nan, np.inf, -np.inf]
    height, width = draw(st.tuples(st.sampled_from(heights), st.sampled_from([31, 35])))
    dtype = np.dtype(draw(dtypes))
    content = draw(st.sampled_from(contents))
    unit = {
        "noise": np.random.default_rng(draw(st.integers(0, 9))).uniform(0, 1, (height, width)),
        "spot": np.pad(np.ones((1, 1)), ((1, height - 2), (7, width - 8))),
        "saturated": (np.random.default_rng(0).uniform(0, 1, (height, width)) > 0.1).astype(float),
        "ramp": np.add.outer(np.arange(height), np.arange(width)) / (height + width),
        "constant": np.ones((height, width)),
        "two": np.indices((height, width)).sum(0) % 2.0,
    }[content]
    if dtype.kind == "f":
        scale = 10.0 ** draw(st.sampled_from(scales))
        offset = draw(st.sampled_from(offsets))
        with np.errstate(over="ignore", under="ignore"):
            image = ((unit + offset) * scale).astype(dtype)
        bad = draw(st.sampled_from(bads))
        if bad is not None:
            image[1, 2] = bad
        return image
    info = np.iinfo(dtype)
    ends = [(0, 1), (0, 100), (info.min, info.max), *([] if fair else [(info.max - 3, info.max)])]
    low, high = draw(st.sampled_from(ends))
    return np.where(unit > 0.5, dtype.type(high), dtype.type(low)).astype(dtype)


@bounded
@given(pictures(), layouts, st.booleans(), st.sampled_from([0.3, 0.0, None]))
def test_every_plane_gives_a_right_result_or_a_clear_error(image, layout, writeable, headroom):
    view = layout(image)
    if isinstance(view, np.ndarray):
        view.flags.writeable = writeable and view.flags.writeable
    result = tried(deconvolve, view, **QUICK, headroom=headroom)
    if result is None:
        assert not usable(image)
        return
    assert usable(image)
    if headroom is not None:  # without, the range is that of the type, which may be much larger
        assert_right(result, image)
    assert np.isfinite(result.latent).all()


def usable(image):
    """Whether a plane is large enough and varies by what float32 can tell."""
    low, high = float(image.min()), float(image.max())
    if min(image.shape) < 31 or not np.isfinite([low, high]).all() or max(-low, high) > 1e35:
        return False
    return high - low >= 16 * float(np.spacing(np.float32(max(-low, high))))


@few
@given(pictures(), st.sampled_from([FULL, KNOWN]), st.sampled_from([deconvolve, deconvolve_stack]))
def test_the_refinement_and_the_std_map_bear_what_the_checks_let_through(image, how, function):
    assume(usable(image))
    result = tried(function, image, **how)
    assert result is not None
    assert np.isfinite(result.latent).all()
    assert np.isfinite(result.std).all()
    assert (result.std >= 0).all()
    np.testing.assert_allclose(result.psf.sum(), 1, rtol=1e-5)


@few
@given(
    st.permutations("TCYX"),
    st.integers(2, 4),
    st.sampled_from(["separate", "joint"]),
    st.booleans(),
    st.sampled_from([deconvolve, deconvolve_stack]),
)
def test_the_order_of_the_axes_is_kept_and_nothing_else_depends_on_it(
    order, ndim, channels, lazy, function
):
    letters = [a for a in order if a in "TCYX"[4 - ndim :]]
    sizes = {"T": 2, "C": 2, "Y": 31, "X": 33}
    shape = [sizes[a] for a in letters]
    stack = np.random.default_rng(0).uniform(0, 9, shape).astype(">f4")
    image = da.from_array(stack, 16) if lazy else stack
    result = tried(function, image, **QUICK, axes="".join(letters).lower(), channels=channels)
    assert result.latent.shape == stack.shape
    assert np.isfinite(result.latent).all()
    canonical = [a for a in "TCYX" if a in letters]
    turned = stack.transpose([letters.index(a) for a in canonical])
    expected = deconvolve(turned, **QUICK, axes="".join(canonical), channels=channels)
    back = result.latent.transpose([letters.index(a) for a in canonical])
    np.testing.assert_array_equal(back, expected.latent)


@bounded
@given(
    st.sampled_from(
        [bool, complex, object, "U3", "S3", "M8[s]", "m8[s]", "V4", [("a", "f4")], "f8", "u2"],
    ),
    st.lists(st.sampled_from([0, 1, 2, 33]), max_size=5).map(tuple),
    st.one_of(st.none(), st.text("TCZYXyx?ß ", max_size=5), st.integers(), st.just(["Y", "X"])),
    st.booleans(),
)
def test_types_shapes_and_axes_that_cannot_be_are_refused(dtype, shape, axes, lazy):
    array = np.zeros(shape, dtype)  # constant, so that there is never a result
    image = da.from_array(array, chunks=-1) if lazy and array.size else array
    for function in (deconvolve, deconvolve_stack):
        assert tried(function, image, **QUICK, axes=axes) is None


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.ma.masked_greater(PLANE, 0.5), "no masked pixels, got [1-9]"),
        (da.ma.masked_greater(da.from_array(PLANE), 0.5), "no masked pixels, got [1-9]"),
        (da.from_array(PLANE)[da.from_array(PLANE[:, 0]) > 0.5], r"a known shape, got \(nan, 35\)"),
        (PLANE + 1e9, "a range of at least 16 values of float32, got 1000000000.0"),
        (PLANE * 1e-300, "a range of at least 16 values of float32"),
        (PLANE * 1e39, r"intensities of at most 1e\+35"),
        (np.uint64(2**64 - 1) - (PLANE > 0.5).astype(np.uint64), "a range of at least 16 values"),
        (torch.tensor(PLANE, requires_grad=True), "an array, got Tensor: Can't call numpy"),
        (torch.tensor(PLANE).bfloat16(), "an array, got Tensor"),
        ([[1, 2], [3]], "an array, got list"),
    ],
)
def test_what_was_once_a_crash_or_a_wrong_result_is_a_clear_error(image, message):
    for function in (deconvolve, deconvolve_stack):
        with pytest.raises(ValueError, match=f"^image: expected {message}"):
            function(image, **QUICK)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"psf": np.full((3, 3), 1e308)}, "psf: expected a positive, finite sum, got inf"),
        ({"psf": np.ma.masked_array(np.ones((3, 3)), np.eye(3))}, "psf: expected no masked pixels, got 3"),
        ({"psf": torch.ones(3, 3, requires_grad=True)}, "psf: expected an array, got Tensor"),
        ({"settings": {"steps": 2}}, "settings: expected Settings, got dict"),
        ({"axes": ["Y", "X"]}, "axes: expected letters, got"),
        ({"widths": (10**9,) * 5}, "widths: expected integers of at most 1024"),
        ({"region": ((np.nan, 9), (0, 9))}, "region: expected rows and columns"),
    ],
)
def test_arguments_that_once_crashed_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        deconvolve(PLANE, **{**FULL, **changes})


class Claims:
    """An array that claims a size, and must not be read."""

    dtype = np.dtype(np.uint8)

    def __init__(self, *shape):
        self.shape, self.ndim = shape, len(shape)

    def __getitem__(self, at):
        raise AssertionError("read")


class Endless(Claims):
    """One that can be read in parts."""

    def __getitem__(self, at):
        shape = [side.stop - side.start for side in at]
        return np.random.default_rng(0).integers(0, 255, shape).astype(self.dtype)


def test_a_plane_that_cannot_be_in_memory_is_refused_before_it_is_read(monkeypatch):
    with pytest.raises(ValueError, match=r"image: expected a plane within the memory of .* region"):
        deconvolve_stack(Claims(10**6, 10**6), **KNOWN)
    with pytest.raises(ValueError, match=r"image: expected a result \(latent\) within the memory"):
        deconvolve(Claims(10**9, 100, 100), **KNOWN, axes="TYX")
    out = {name: np.zeros((20, 20), np.float32) for name in ("latent", "std")}
    part = deconvolve_stack(Endless(10**6, 10**6), **KNOWN, region=((0, 20), (0, 20)), out=out)
    assert np.isfinite(part.latent).all()
    monkeypatch.setattr(images, "BYTES_PER_PIXEL", 10**12)
    with pytest.raises(ValueError, match="image: expected a plane within the memory"):
        deconvolve(PLANE, **KNOWN)


# --- layers ------------------------------------------------------------------------------------------


class Found:
    """A result of 3 x 8 x 9 pixels."""

    latent = np.ones((3, 8, 9), np.float32)
    std = np.ones((3, 8, 9), np.float32)
    psf = np.full((3, 3, 3), 1 / 9, np.float32)
    axes = "ZYX"
    metadata: dict = {}


numbers = st.floats(-1e6, 1e6).filter(lambda x: abs(x) > 1e-6)
triples = st.tuples(numbers, numbers, numbers)


@bounded
@given(
    scale=triples,
    translate=triples,
    rotate=st.floats(-720, 720),
    shear=st.tuples(*[st.floats(-10, 10)] * 3),
    affine=st.tuples(*[st.tuples(*[st.floats(-3, 3)] * 4)] * 3),
    point=st.lists(st.floats(), max_size=5).map(tuple),
)
@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")
def test_layers_with_odd_transforms_are_read_and_overlaid(scale, translate, rotate, shear, affine, point):
    data = np.zeros((3, 8, 9))
    matrix = np.vstack([affine, (0, 0, 0, 1)])
    assume(np.linalg.cond(matrix[:3, :3]) < 1e6)
    source = Image(data, scale=scale, translate=translate, rotate=rotate, shear=shear, affine=matrix)
    if np.isfinite(point).all():
        picture = read_layer(source, "ZYX", point=point)
        assert picture.data.shape == (1, 8, 9)
        assert 0 <= picture.at[0] < 3
    else:
        with pytest.raises(ValueError, match=r"point: expected finite coordinates, got \("):
            read_layer(source, "ZYX", point=point)
    latent, psf, std = (Layer.create(*those) for those in layer_data(Found, source, at=(1, 0, 0)))
    assert not data.any()
    for pixel in ((0, 0, 0), (1, 2, 3)):
        place = source.data_to_world(np.add(pixel, (1, 0, 0)))
        size = np.abs(np.asarray(place)).max() + np.abs(scale).max()
        for layer in (latent, std):
            np.testing.assert_allclose(layer.data_to_world(pixel), place, atol=1e-6 * size)
    np.testing.assert_allclose(psf.affine.affine_matrix, source.affine.affine_matrix)
