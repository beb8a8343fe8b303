"""Planes of an array: what is one, what it is called, and the way there and back."""

from __future__ import annotations

import numpy as np
import pytest

from napari_vdip.stack import plan

LAYOUTS = [
    ((6, 8), None, "separate", 1),
    ((6, 8), None, "joint", 1),
    ((6, 8, 3), None, "separate", 3),
    ((6, 8, 3), None, "joint", 1),
    ((2, 3, 6, 8), "TCYX", "separate", 6),
    ((2, 3, 6, 8), "TCYX", "joint", 2),
    ((2, 4, 3, 6, 8), "TZCYX", "separate", 24),
    ((8, 2, 6, 3), "XTYC", "joint", 2),
    ((8, 2, 6), "XZY", "joint", 2),
    ((1, 6, 8), "QYX", "separate", 1),
]


@pytest.mark.parametrize(("shape", "axes", "channels", "count"), LAYOUTS)
def test_planes_make_a_round_trip(shape, axes, channels, count):
    array = np.arange(np.prod(shape)).reshape(shape)
    planes = plan(shape, axes, channels)
    assert len(planes.indices) == count
    back = np.full(shape, -1)
    for index in planes.indices:
        plane = planes.take(array, index)
        assert plane.ndim == 3
        assert plane.shape[:2] == (6, 8)
        planes.put(back, index, plane)
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize(("shape", "axes", "channels", "count"), LAYOUTS)
def test_every_plane_has_its_own_point_spread_function(shape, axes, channels, count):
    planes = plan(shape, axes, channels)
    psfs = np.zeros(planes.psf_shape((3, 5)))
    assert psfs.size == count * 15
    for number, index in enumerate(planes.indices, start=1):
        planes.put_psf(psfs, index, np.full((3, 5), number))
    assert sorted(psfs.flat) == sorted(np.repeat(np.arange(1, count + 1), 15))


@pytest.mark.parametrize(
    ("axes", "expected"),
    [("TYXC", (2, 3, 5)), ("TXYC", (2, 5, 3)), ("CTYX", (2, 3, 5)), ("YXTC", (3, 5, 2))],
)
def test_point_spread_functions_follow_the_order_of_the_axes(axes, expected):
    sizes = {"T": 2, "C": 3, "Y": 6, "X": 8}
    planes = plan(tuple(sizes[axis] for axis in axes), axes, "joint")
    psfs = np.zeros(planes.psf_shape((3, 5)))
    assert psfs.shape == expected
    psf = np.arange(15).reshape(3, 5)
    planes.put_psf(psfs, (1,), psf)
    second = psfs.take(1, axis=[axis for axis in axes if axis != "C"].index("T"))
    turned = psf if axes.index("Y") < axes.index("X") else psf.T
    np.testing.assert_array_equal(second, turned)


def test_a_plane_is_a_view_with_channels_last():
    array = np.zeros((2, 3, 6, 8))
    plan(array.shape, "TCYX", "joint").take(array, (1,))[4, 5, 2] = 7
    assert array[1, 2, 4, 5] == array.sum() == 7


def test_names_say_which_plane_it_is():
    names = [plan((2, 3, 6, 8), "tcyx", channels).name for channels in ("separate", "joint")]
    assert names[0]((1, 2)) == "T=1, C=2"
    assert names[1]((1,)) == "T=1"
    assert plan((6, 8), None, "separate").name(()) == ""


@pytest.mark.parametrize(
    ("shape", "axes", "parts"),
    [
        ((5,), None, ("image", "(Y, X)", "(5,)")),
        ((2, 3, 6, 8), None, ("image", "axes=", "(2, 3, 6, 8)")),
        ((64, 512, 512), None, ("axes", "'ZYX'", "(64, 512, 512)", "None")),
        ((6, 8, 5), None, ("axes", "'YXC'", "(6, 8, 5)", "None")),
        ((6, 8), "YXC", ("axes", "2 different letters", "'YXC'")),
        ((6, 8, 3), "YXY", ("axes", "different", "'YXY'")),
        ((6, 8, 3), "ZTC", ("axes", "Y and X", "'ZTC'")),
        ((6, 8), "", ("axes", "''")),
    ],
)
def test_axes_that_do_not_fit_are_refused_with_parameter_expectation_and_value(shape, axes, parts):
    with pytest.raises(ValueError, match="expected") as error:
        plan(shape, axes, "separate")
    assert all(part in str(error.value) for part in parts)
