"""Real files of microscopes, made here and read by bioio's reader of their format where it is installed."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from napari_vdip import Settings, batch
from napari_vdip.image_file import read, scenes

pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries that are not ours
NAMES = ("DAPI", "GFP", "RFP")
SIZES = {"Z": (0.5, "micrometer"), "Y": (0.12, "micrometer"), "X": (0.1, "micrometer")}


def stack(*shape):
    return np.random.default_rng(0).integers(0, 60_000, shape).astype(np.uint16)


def write_czi(path, array):
    """Write ``(T, C, Z, Y, X)`` by Zeiss's own library."""
    library = pytest.importorskip("pylibCZIrw.czi", reason="pylibCZIrw, which writes CZI, is not installed")
    with library.create_czi(str(path)) as file:
        for t, c, z in np.ndindex(array.shape[:3]):
            file.write(data=array[t, c, z][..., None], plane={"T": t, "C": c, "Z": z})
        scale = {f"scale_{axis.lower()}": step * 1e-6 for axis, (step, _) in SIZES.items()}
        file.write_metadata(document_name="a", channel_names=dict(enumerate(NAMES)), **scale)


def write_lif(path, arrays):
    """Write images ``(C, Z, Y, X)`` as the format has them: XML, then a block of memory for each."""

    def text(content):
        return struct.pack("<BI", 0x2A, len(content)) + content.encode("utf-16-le")

    elements, blocks = [], b""
    for number, array in enumerate(arrays):
        channels, *rest = array.shape
        strides = [array[0].strides[axis] for axis in range(3)]
        dimensions = "".join(
            f'<DimensionDescription DimID="{which}" NumberOfElements="{n}" Origin="0" '
            f'Length="{SIZES[axis][0] * 1e-6 * (n - 1)}" Unit="m" BytesInc="{stride}" BitInc="0"/>'
            for which, axis, n, stride in reversed(list(zip((3, 2, 1), "ZYX", rest, strides, strict=True)))
        )
        described = "".join(
            f'<ChannelDescription DataType="0" ChannelTag="0" Resolution="16" NameOfMeasuredQuantity="" '
            f'Min="0" Max="65535" Unit="" LUTName="{NAMES[c]}" IsLUTInverted="0" '
            f'BytesInc="{c * array.strides[0]}" BitInc="0"/>'
            for c in range(channels)
        )
        elements.append(
            f'<Element Name="scan {number}" Visibility="1" UniqueID="{number}">'
            '<Data><Image TextDescription="">'
            f"<ImageDescription><Channels>{described}</Channels><Dimensions>{dimensions}</Dimensions>"
            "</ImageDescription></Image></Data>"
            f'<Memory Size="{array.nbytes}" MemoryBlockID="Mem_{number}"/><Children/></Element>'
        )
        block = struct.pack("<BQ", 0x2A, array.nbytes) + text(f"Mem_{number}")
        blocks += struct.pack("<II", 0x70, len(block)) + block + array.tobytes()
    xml = (
        '<LMSDataContainerHeader Version="2"><Element Name="a" Visibility="1"><Data/>'
        f"<Children>{''.join(elements)}</Children></Element></LMSDataContainerHeader>"
    )
    header = text(xml)
    path.write_bytes(struct.pack("<II", 0x70, len(header)) + header + blocks)


def assert_is(opened, array, axes, names):
    assert (opened.axes, opened.channels, opened.array.dtype) == (axes, names, np.uint16)
    assert {axis: unit for axis, (_, unit) in opened.spacing.items()} == dict.fromkeys("ZYX", "micrometer")
    for axis, (step, _) in opened.spacing.items():
        assert step == pytest.approx(SIZES[axis][0])
    np.testing.assert_array_equal(opened.array.compute(), array)


def test_a_czi_is_read_with_axes_sizes_and_names(tmp_path):
    pytest.importorskip("bioio_czi", reason="bioio's reader of CZI is not installed")
    array = stack(2, 3, 2, 24, 32)
    write_czi(tmp_path / "a.czi", array)
    assert len(scenes(tmp_path / "a.czi")) == 1
    assert_is(read(tmp_path / "a.czi"), array, "TCZYX", NAMES)


def test_a_lif_of_two_images_is_read_with_axes_sizes_and_names(tmp_path):
    pytest.importorskip("bioio_lif", reason="bioio's reader of LIF is not installed")
    first, second = stack(2, 3, 24, 32), stack(3, 2, 20, 28)
    write_lif(tmp_path / "a.lif", [first, second])
    assert [name.rpartition("/")[2] for name in scenes(tmp_path / "a.lif")] == ["scan 0", "scan 1"]
    assert_is(read(tmp_path / "a.lif", scene=0), first, "CZYX", NAMES[:2])
    assert_is(read(tmp_path / "a.lif", scene=1), second, "CZYX", NAMES)


def test_a_czi_is_deconvolved_with_its_metadata(tmp_path):
    pytest.importorskip("bioio_czi", reason="bioio's reader of CZI is not installed")
    write_czi(tmp_path / "a.czi", stack(1, 2, 2, 48, 40))
    settings = Settings(psf_shape=5, steps=1, refinements=0, samples=2)
    items = batch.plan([tmp_path], tmp_path / "out", settings)
    assert [event.kind for event in batch.execute(items, device="cpu")][-1] == "done"
    latent = read(tmp_path / "out" / "a" / "latent.ome.zarr")
    assert (latent.axes, latent.channels) == ("CZYX", NAMES[:2])
    assert latent.spacing == read(tmp_path / "a.czi").spacing
