import numpy as np
import pytest
import tifffile

from napari_vdip.io import write_ome_tiff


def test_an_image_comes_back_with_axes_and_pixel_size(tmp_path):
    image = np.arange(24.0).reshape(2, 3, 4)
    write_ome_tiff(tmp_path / "image.ome.tif", image, "CYX", pixel_size=0.25)
    with tifffile.TiffFile(tmp_path / "image.ome.tif") as file:
        assert file.series[0].axes == "CYX"
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
        stored = file.asarray()
    assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeY"]) == (0.25, 0.25)
    assert pixels["PhysicalSizeXUnit"] == "µm"
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored, image)


def test_a_failed_write_leaves_the_earlier_file_and_nothing_else(tmp_path):
    path = tmp_path / "image.ome.tif"
    write_ome_tiff(path, np.ones((3, 4)), "YX")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="axes"):
        write_ome_tiff(path, np.zeros((3, 4)), "TCZYX")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
