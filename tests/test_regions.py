"""Regions of an image layer, without a window."""

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Shapes

from napari_vdip._regions import drawn, middle, visible
from napari_vdip._view import camera_of

TURNED = {"scale": (2.0, 0.5), "translate": (5.0, -3.0), "rotate": 25.0, "shear": [0.3]}


def look_at(viewer, centre):
    camera = camera_of(viewer)
    camera.center, camera.zoom = centre, 10


def looking_at(centre, height, width, data, **where):
    """Make a viewer whose canvas shows so much of the world around the centre."""
    viewer = ViewerModel()
    layer = viewer.add_image(data, **where)
    if hasattr(viewer, "canvas"):
        viewer.canvas.size = (10 * height, 10 * width)
    else:  # before napari 0.9
        viewer._canvas_size = (10 * height, 10 * width)
    look_at(viewer, centre)
    return viewer, layer


def test_the_visible_region_is_that_of_the_canvas():
    viewer, layer = looking_at((49.5, 39.5), 20, 30, np.zeros((100, 120)))
    assert visible(viewer, layer, "YX") == ((40, 60), (25, 55))


def test_the_visible_region_ends_with_the_layer():
    viewer, layer = looking_at((4.5, 109.5), 20, 30, np.zeros((100, 120)))
    assert visible(viewer, layer, "YX") == ((0, 15), (95, 120))


def test_scale_and_translation_are_undone():
    viewer, layer = looking_at((29, 9.75), 20, 8, np.zeros((100, 120)), scale=(2, 0.5), translate=(4, -3))
    assert visible(viewer, layer, "YX") == ((8, 18), (18, 34))


def test_of_a_turned_layer_it_is_the_box_around_what_is_seen():
    place = Image(np.zeros((100, 120)), **TURNED).data_to_world((50, 60))
    viewer, layer = looking_at(place, 8, 6, np.zeros((100, 120)), **TURNED)
    (top, bottom), (left, right) = visible(viewer, layer, "YX")
    y, x = np.mgrid[0:100, 0:120].reshape(2, -1)
    world = np.array([layer.data_to_world(pixel) for pixel in zip(y, x, strict=True)])
    seen = (np.abs(world - place) < (4, 3)).all(1)
    assert seen.any()
    assert top <= y[seen].min() <= y[seen].max() < bottom
    assert left <= x[seen].min() <= x[seen].max() < right
    corners = np.array(
        [layer.world_to_data((place[0] + v, place[1] + u)) for v in (-4, 4) for u in (-3, 3)]
    )
    assert np.abs(corners.min(0) - (top, left)).max() <= 1
    assert np.abs(corners.max(0) - (bottom - 1, right - 1)).max() <= 1


def test_a_view_beside_the_layer_or_of_other_axes_is_refused():
    viewer, layer = looking_at((500, 500), 20, 30, np.zeros((100, 120)))
    with pytest.raises(ValueError, match="the visible region lies beside it"):
        visible(viewer, layer, "YX")
    viewer, layer = looking_at((5, 5), 20, 30, np.zeros((30, 40, 50)))
    viewer.dims.order = (1, 0, 2)
    with pytest.raises(ValueError, match="expected a view of the image's axes Y, X, got one of Z, X"):
        visible(viewer, layer, "ZYX")
    viewer.dims.order = (0, 1, 2)
    viewer.dims.ndisplay = 3
    with pytest.raises(ValueError, match="expected a view of the image's axes Y, X"):
        visible(viewer, layer, "ZYX")


def test_rows_and_columns_may_be_exchanged_and_other_layers_may_have_more_axes():
    viewer, layer = looking_at((49.5, 39.5), 20, 30, np.zeros((120, 100)))
    viewer.add_image(np.zeros((3, 100, 120)))
    viewer.dims.order = (0, 2, 1)
    look_at(viewer, (49.5, 39.5))
    assert visible(viewer, layer, "YX") == ((25, 55), (40, 60))


def test_of_a_pyramid_pixels_of_full_resolution_are_counted():
    pyramid = [da.zeros((100, 120)), da.zeros((50, 60))]
    viewer, layer = looking_at((49.5, 39.5), 20, 30, pyramid, multiscale=True, contrast_limits=(0, 1))
    assert visible(viewer, layer, "YX") == ((40, 60), (25, 55))


BOX = np.array([[9.6, 19.6], [9.6, 29.4], [14.4, 29.4], [14.4, 19.6]])


@pytest.mark.parametrize("where", [{}, TURNED, {"affine": [[0, 2, 1], [-2, 0, 3], [0, 0, 1]]}])
def test_a_shape_over_a_layer_encloses_the_pixels_that_it_touches(where):
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((100, 120)), **where)
    assert drawn(Shapes([BOX], **where), layer, "YX") == ((10, 15), (20, 30))
    world = np.array([layer.data_to_world(vertex) for vertex in BOX])
    assert drawn(Shapes([world], shape_type="polygon"), layer, "YX") == ((10, 15), (20, 30))


def test_selected_shapes_count_and_else_the_last():
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((100, 120)))
    shapes = Shapes([BOX, BOX + 40, BOX + 20])
    shapes.selected_data = set()
    assert drawn(shapes, layer, "YX") == ((30, 35), (40, 50))
    shapes.selected_data = {0, 2}
    assert drawn(shapes, layer, "YX") == ((10, 35), (20, 50))


def test_shapes_serve_stacks_of_more_axes_and_planes_of_fewer():
    viewer = ViewerModel()
    stack = viewer.add_image(np.zeros((7, 100, 120)), scale=(5, 1, 1))
    assert drawn(Shapes([BOX]), stack, "ZYX") == ((10, 15), (20, 30))
    plane = viewer.add_image(np.zeros((100, 120)))
    assert drawn(Shapes([np.insert(BOX, 0, 3, axis=1)]), plane, "YX") == ((10, 15), (20, 30))


def test_no_shape_and_one_beside_the_layer_are_refused():
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((100, 120)), name="cells")
    with pytest.raises(ValueError, match="region: expected a shape in 'where', got none"):
        drawn(Shapes(name="where"), layer, "YX")
    with pytest.raises(ValueError, match="a part of 'cells', but a shape of 'where' lies beside it"):
        drawn(Shapes([BOX - 50], name="where"), layer, "YX")


def test_the_middle_of_a_region_is_in_its_middle():
    assert middle(((0, 100), (7, 10)), 20) == ((40, 60), (7, 10))
    assert middle(((3, 104), (0, 20)), 20) == ((43, 63), (0, 20))
