"""Files that are cut, corrupt or made to harm: an error for each, nothing executed or written elsewhere."""

from __future__ import annotations

import ast
import gzip
import json
import os
import pickle
import random
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer import BadParameter
from typer.testing import CliRunner

import napari_vdip
from napari_vdip import Settings, batch
from napari_vdip.cli import app
from napari_vdip.io import read, write_ome_tiff
from napari_vdip.ome_zarr import write_ome_zarr
from napari_vdip.options import read_settings, settings_from

SMALL = Settings(
    psf_shape=5, steps=1, refinements=0, samples=2, widths=(4,) * 5, prior="none", variational=False
)
IMAGE = np.random.default_rng(0).uniform(0, 1, (36, 36)).astype(np.float32)


@pytest.fixture
def place(tmp_path):
    """A folder for inputs, beside one whose content must stay as it is."""
    (tmp_path / "in").mkdir()
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "thesis.txt").write_text("years of work")
    yield tmp_path / "in"
    assert {path.name for path in tmp_path.iterdir()} <= {"in", "out", "beside"}
    assert [path.name for path in (tmp_path / "beside").iterdir()] == ["thesis.txt"]


def outcome(path):
    """Plan and do one input, and return how it ended and why; other files must not be harmed by it."""
    items = batch.plan([path], path.parents[1] / "out", SMALL)
    ends = [e for e in batch.execute(items, device="cpu") if e.kind in ("done", "failed")]
    assert len(ends) == len(items) == 1
    assert ends[0].kind == "done" or not ends[0].item.folder.exists()
    return ends[0].kind, ends[0].reason


def saved(path):
    """Write the image in the format of the name."""
    if path.name.endswith(".ome.tif"):
        write_ome_tiff(path, IMAGE, "YX")
    elif path.suffix == ".zarr":
        write_ome_zarr(path, IMAGE, "YX")
    elif path.suffix == ".tif":
        tifffile.imwrite(path, IMAGE, compression="zlib")
    else:
        Image.fromarray((255 * IMAGE).astype(np.uint8)).save(path)
    return path


def edited(path, change, where="zarr.json"):
    """Write an OME-Zarr and change its metadata."""
    file = saved(path) / where
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))
    return path


# --- cut and corrupt ---------------------------------------------------------------------------------


def spoiled(whole, chance):
    """Cut a file's bytes, or change some, of the first of them or of all."""
    data = bytearray(whole)
    if chance.random() < 0.4:
        return data[: chance.randrange(1, len(data))]
    for _ in range(chance.choice([1, 10])):
        data[chance.randrange(min(len(data), chance.choice([64, len(data)])))] = chance.randrange(256)
    return data


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif", "a.png", "a.jpg"])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_file_that_is_cut_or_has_wrong_bytes_gives_a_result_or_a_reason(place, name):
    whole, chance = saved(place / name).read_bytes(), random.Random(0)
    for _ in range(12):
        data = spoiled(whole, chance)
        (place / name).write_bytes(data)
        shutil.rmtree(place.parent / "out", ignore_errors=True)
        kind, reason = outcome(place / name)
        assert kind == "done" or reason
    shutil.rmtree(place.parent / "out", ignore_errors=True)
    (place / name).write_bytes(whole[: len(whole) // 3])
    kind, reason = outcome(place / name)
    assert kind == "failed", "a third of a file is no image"


def test_a_store_that_is_cut_or_has_wrong_bytes_gives_a_result_or_a_reason(place):
    chance = random.Random(0)
    for number in range(12):
        path = saved(place / f"{number}.zarr")
        file = chance.choice(sorted(part for part in path.rglob("*") if part.is_file()))
        data = bytearray(file.read_bytes())
        if number % 2:
            data = data[: chance.randrange(len(data))]
        else:
            data[chance.randrange(len(data))] = chance.randrange(256)
        file.write_bytes(data)
        kind, reason = outcome(path)
        assert kind == "done" or reason


# --- bombs -------------------------------------------------------------------------------------------


def png_of(width, height):
    """A PNG file that claims a size."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")
    )


def test_a_png_that_claims_a_million_by_a_million_pixels_is_refused(place):
    (place / "a.png").write_bytes(png_of(10**6, 10**6))
    kind, reason = outcome(place / "a.png")
    assert kind == "failed"
    assert "exceeds limit" in reason


@pytest.mark.parametrize("side", [10**6, 2**31 - 1])
def test_a_tiff_that_claims_a_million_by_a_million_pixels_is_refused(place, side):
    path = saved(place / "a.tif")
    with tifffile.TiffFile(path, mode="r+") as file:
        for tag in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            file.pages[0].tags[tag].overwrite(side)
        file.pages[0].tags["ImageDescription"].overwrite("")
    kind, reason = outcome(path)
    assert kind == "failed"
    assert f"expected pixels of shape ({side}, {side}), got" in reason


@pytest.mark.parametrize(
    ("shape", "chunks", "message"),
    [
        ((10**6, 10**6), (1000, 1000), "image: expected a plane within the memory"),
        ((10**6, 10**6), (40, 40), "at most 10000000 chunks"),
        ((10**9, 10**9), (1, 1), "at most 10000000 chunks"),
        ((36, 36), (10**6, 10**6), "expected a chunk within the memory"),
        ((10**18, 10**18), (10**18, 10**18), "expected a chunk within the memory"),
        ((36, 36), (0, 36), "expected pixels, got"),
    ],
)
def test_a_store_that_claims_more_than_there_can_be_is_refused(place, shape, chunks, message):
    def claim(data):
        data["shape"] = shape
        data["chunk_grid"]["configuration"]["chunk_shape"] = chunks

    kind, reason = outcome(edited(place / "a.zarr", claim, "0/zarr.json"))
    assert kind == "failed"
    assert message in reason


EXPANDED = 64 * 2**20
"""Bytes that come out of a strip or a chunk of 5 184, a thousand times of what goes in."""


def test_a_strip_that_expands_past_its_image_is_refused(place):
    path = saved(place / "a.tif")
    strip = zlib.compress(bytes(EXPANDED), 9)
    start = path.stat().st_size
    with path.open("ab") as file:
        file.write(strip)
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags["StripOffsets"].overwrite(start)
        file.pages[0].tags["StripByteCounts"].overwrite(len(strip))
    kind, reason = outcome(path)
    assert kind == "failed"
    assert reason


def test_a_chunk_that_expands_past_its_image_is_refused(place):
    def compress(data):
        data["codecs"] = [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "gzip", "configuration": {"level": 9}},
        ]

    path = edited(place / "a.zarr", compress, "0/zarr.json")
    (path / "0" / "c" / "0" / "0").write_bytes(gzip.compress(bytes(EXPANDED), 9))
    kind, reason = outcome(path)
    assert kind == "failed"
    assert reason


ENTITIES = "".join(f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9))
XML = (
    '<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY a {first}>{more}]>'
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0" Name="{name}">'
    '<Pixels DimensionOrder="XYCZT" ID="Pixels:0" SizeC="1" SizeT="1" SizeX="36" SizeY="36" SizeZ="1" '
    'Type="float" PhysicalSizeX="{size}"><TiffData IFD="0" PlaneCount="1"/></Pixels></Image></OME>'
)


@pytest.mark.parametrize(
    ("first", "more", "name"), [('"ha"', ENTITIES, "&j;"), ('SYSTEM "file:///etc/passwd"', "", "&a;")]
)
def test_metadata_neither_expand_nor_read_other_files(place, first, more, name):
    xml = XML.format(first=first, more=more, name=name, size=1)
    tifffile.imwrite(place / "a.ome.tif", IMAGE, description=xml.encode(), metadata=None)
    kind, reason = outcome(place / "a.ome.tif")
    assert kind == "failed"
    assert "entit" in reason


# --- metadata ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["nan", "inf", "-1", "0", "wide", "1e999"])
def test_a_pixel_size_that_cannot_be_is_unknown(place, size):
    xml = XML.format(first='"ha"', more="", name="a", size=size)
    tifffile.imwrite(place / "a.ome.tif", IMAGE, description=xml.encode(), metadata=None)
    assert not read(place / "a.ome.tif").spacing
    if size in ("nan", "-1", "0"):

        def spoil(data):
            [transform] = data["attributes"]["ome"]["multiscales"][0]["datasets"][0][
                "coordinateTransformations"
            ]
            transform["scale"] = [float(size)] * 2

        assert not read(edited(place / "a.zarr", spoil)).spacing


@pytest.mark.parametrize(
    "path", ["../../beside", "/etc", "..", "", "0/../0", "nothing here", pytest.param("\0", id="nul")]
)
@pytest.mark.filterwarnings("ignore:The name:UserWarning")
def test_a_store_cannot_point_out_of_itself(place, path):
    def point(data):
        data["attributes"]["ome"]["multiscales"][0]["datasets"][0]["path"] = path

    kind, reason = outcome(edited(place / "a.zarr", point))
    assert kind == "failed"
    assert reason


class Touch:
    """Pickled, it makes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_no_pickle_in_a_store_is_loaded(place):
    saved(place / "a.zarr")
    shutil.rmtree(place / "a.zarr")
    array = place / "a.zarr" / "0"
    array.mkdir(parents=True)
    scale = {"type": "scale", "scale": [1, 1]}
    axes = [{"name": name, "type": "space"} for name in "yx"]
    datasets = [{"path": "0", "coordinateTransformations": [scale]}]
    multiscales = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    (place / "a.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    (place / "a.zarr" / ".zattrs").write_text(json.dumps({"multiscales": multiscales}))
    about = {"zarr_format": 2, "shape": [36, 36], "chunks": [36, 36], "dtype": "|O", "compressor": None}
    about |= {"fill_value": None, "order": "C", "filters": [{"id": "pickle", "protocol": 5}]}
    (array / ".zarray").write_text(json.dumps(about))
    trap = pickle.dumps(Touch(place / "sprung"))
    (array / "0.0").write_bytes(trap)
    kind, _ = outcome(place / "a.zarr")
    assert kind == "failed"
    assert not (place / "sprung").exists()
    pickle.loads(trap)
    assert (place / "sprung").exists()  # it would have


# --- what is no file ---------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_pipes_folders_devices_and_loops_in_place_of_files_are_left_alone(place):
    os.mkfifo(place / "pipe.tif")
    (place / "folder.tif").mkdir()
    (place / "device.tif").symlink_to("/dev/zero")
    (place / "loop.tif").symlink_to(place / "loop.tif")
    (place / "nowhere.tif").symlink_to(place / "nothing")
    for path in (place, *place.iterdir()):
        with pytest.raises(ValueError, match="input: expected images, found none"):
            batch.plan([path], place.parent / "out", SMALL)
    saved(place / "good.tif")
    assert [item.name for item in batch.plan([place], place.parent / "out", SMALL)] == ["good"]
    for part in ("zarr.json", "0/zarr.json", "0/c/0/0"):
        store = saved(place / f"{part.replace('/', '-')}.zarr")
        (store / part).unlink()
        os.mkfifo(store / part)
        assert outcome(store) == (
            "failed",
            "expected files and folders in the store, got something else, such as a pipe",
        )


@pytest.mark.skipif(os.name == "nt", reason="Windows refuses these names itself")
def test_names_of_all_kinds_are_done_and_can_be_printed(place):
    names = [
        "-rf",
        "a\nb",
        "\x1b[31mred",
        "$(touch x)",
        "日本 🔬",
        "a'b\"c",
        "%s{0}",
        "~",
        "con",
        b"\xff\xfe",
    ]
    files = [place / f"{os.fsdecode(name)}.tif" for name in names]
    for file in files:
        saved(file)
    options = "--psf-shape 5 --steps 1 --refinements 0 --prior none --no-variational --widths 4,4,4,4,4"
    for more in (["--dry-run"], ["--dry-run", "--json"], [], ["--json"]):
        out = place.parent / "out"
        ran = CliRunner().invoke(app, ["run", str(place), "-o", str(out), *options.split(), *more])
        assert ran.exit_code == 0, ran.output + repr(ran.exception)
        assert "\x1b" not in ran.stdout
    assert len(list(out.iterdir())) == len(names)
    assert all(path.resolve().parent == out.resolve() for path in out.iterdir())


def test_a_folder_that_cannot_be_listed_is_named(place, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ValueError, match=r"input: expected folders that can be read, got .*denied"):
        batch.plan([place], place.parent / "out", SMALL)
    monkeypatch.undo()


def test_a_link_in_the_output_does_not_lead_out_of_it(place):
    saved(place / "a.tif")
    (place.parent / "out").mkdir()
    for name in ("a", "a.partial"):
        (place.parent / "out" / name).symlink_to(place.parent / "beside")
        with pytest.raises(ValueError, match="output: expected a folder inside"):
            batch.plan([place / "a.tif"], place.parent / "out", SMALL)
        (place.parent / "out" / name).unlink()


# --- settings and records ----------------------------------------------------------------------------

LAUGHS = ", ".join(f"&{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 8)}]" for i in range(9))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", f"steps: [&a [1, 1, 1, 1], {LAUGHS}]"),
        ("a.yaml", f"psf_shape: [&a [1, 1, 1, 1], {LAUGHS}]"),
        ("a.yaml", "steps: &a [*a]"),
        ("a.yaml", "steps: " + "[" * 20_000),
        ("a.yaml", "- " * 20_000),
        ("a.toml", "steps = " + "[" * 20_000),
        ("a.yaml", "# " + "x" * 10**6),
        ("a.yaml", "steps: 3\0"),
        ("a.toml", "steps = 3\0"),
        ("a.yaml", "\ud800steps: 3"),
        ("a.yaml", "steps: " + "9" * 5000),
        ("a.yaml", "? [a, b]\n: 3"),
        ("a.yaml", "steps: !!python/name:os.system"),
        ("a.yaml", "steps: !!python/object/new:os.mkdir ['sprung']"),
        ("a.yaml", "prior: __import__('os').mkdir('sprung')"),
        ("a.yaml", "__class__: 3"),
        ("a.yaml", "steps: 2020-01-01"),
        ("a.yaml", "steps: {a: 1}"),
        ("a.toml", "[steps]\na = 1"),
        ("a.toml", "pooling = inf"),
    ],
    ids=lambda value: value[:24].replace("\0", "nul").encode("ascii", "replace").decode(),
)
def test_a_settings_file_made_to_harm_is_refused_at_once(place, name, text, monkeypatch):
    monkeypatch.chdir(place)
    Path(name).write_bytes(text.encode("utf-8", "surrogatepass"))
    saved(place / "image.tif")
    ran = CliRunner().invoke(app, ["run", "image.tif", "-o", "../out", "--settings", name])
    assert (ran.exit_code, type(ran.exception)) == (2, SystemExit)
    assert "--settings" in ran.stderr
    assert len(ran.stderr) < 5000
    assert not Path("sprung").exists()


SETTINGS = {
    "a.yaml": "psf_shape: [9, 11]\nprior: extreme\nsteps: 50\npooling: 1.5\ngaussians: false\n",
    "a.toml": 'psf_shape = [9, 11]\nprior = "extreme"\nsteps = 50\npooling = 1.5\ngaussians = false\n',
    "a.json": '{"psf_shape": [9, 11], "prior": "extreme", "steps": 50, "pooling": 1.5, "gaussians": false}',
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_are_cut_or_have_wrong_bytes_are_settings_or_an_error(place, name):
    file, chance = place / name, random.Random(0)
    whole = SETTINGS[name].encode()
    file.write_bytes(whole)
    assert settings_from("default", read_settings(file), {}).psf_shape == (9, 11)
    refused = 0
    for _ in range(200):
        file.write_bytes(spoiled(whole, chance))
        try:
            found = settings_from("default", read_settings(file), {})
        except BadParameter:
            refused += 1
        else:
            assert found == Settings(**found.asdict())
    assert refused > 50


@pytest.mark.parametrize(
    "change",
    [
        {"format": "exe"},
        {"path": 3},
        {"psf_path": 3},
        {"settings": {"__class__": 3}},
        {"settings": {"steps": "__import__('os')"}},
        {"settings": None},
        {"source": {"scene": float("inf"), "axes": None, "sha256": ""}},
        {"source": {"scene": "0; rm", "axes": None, "sha256": ""}},
        None,
    ],
)
def test_a_record_made_to_harm_is_refused(place, change):
    saved(place / "a.tif")
    assert outcome(place / "a.tif")[0] == "done"
    file = place.parent / "out" / "a" / "napari-vdip.json"
    record = json.loads(file.read_text())
    file.write_text("[" * 10**5 if change is None else json.dumps(record | change))
    with pytest.raises(ValueError, match=r"from_metadata: .*not of this version"):
        batch.repeat(place.parent / "out", place.parent / "again")


def test_a_record_behind_a_link_is_no_way_out(place):
    saved(place / "a.tif")
    assert outcome(place / "a.tif")[0] == "done"
    (place / "runs" / "x").mkdir(parents=True)
    (place / "runs" / "x" / "napari-vdip.json").symlink_to(place.parent / "out" / "a" / "napari-vdip.json")
    (place / "runs" / "y").mkdir()
    shutil.copy(place.parent / "out" / "a" / "napari-vdip.json", place / "runs" / "y")
    with pytest.raises(ValueError, match="from_metadata"):
        batch.repeat(place / "runs", place.parent / "again")


# --- the code itself ---------------------------------------------------------------------------------

LOADERS = {"eval", "exec", "compile", "__import__", "system", "popen"}
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "subprocess", "runpy"}


def test_nothing_in_the_package_turns_data_into_code():
    """Beside ruff's rules: no module that loads objects or starts programs, and no unsafe loader."""
    files = sorted(Path(napari_vdip.__file__).parent.glob("*.py"))
    assert len(files) > 30
    found = []
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in getattr(node, "names", []) if isinstance(alias, ast.alias)]
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [(file.name, name) for name in names if name.partition(".")[0] in MODULES]
            if isinstance(node, ast.Call):
                text = ast.unparse(node.func)
                options = {option.arg: ast.unparse(option.value) for option in node.keywords}
                unsafe = text in LOADERS or text in ("yaml.load", "yaml.unsafe_load", "os.system")
                unsafe |= text.endswith("np.load") or options.get("allow_pickle") == "True"
                unsafe |= text == "torch.load" and options.get("weights_only") != "True"
                found += [(file.name, text)] if unsafe else []
    assert not found


# --- what the panel opens ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"origin": ["Y"]},
        {"origin": {"Y": "../.."}},
        {"origin": {"Y": float("nan")}},
        {"region": 5},
        {"region": [[0, 1e999], [0, 5]]},
        {"path": 3},
        {"psf_path": {"a": 1}},
        {"planes": 3},
        {"planes": [{}]},
        {"axes": "YXZ"},
        {"settings": {"__class__": 3}},
        {"settings": None},
        {"source": {"scene": float("inf"), "axes": None, "sha256": ""}},
        [],
        5,
        None,
    ],
    ids=str,
)
def test_a_record_made_to_harm_is_an_error_in_napari(place, change):
    from napari_vdip._reader import get_reader

    saved(place / "a.tif")
    assert outcome(place / "a.tif")[0] == "done"
    file = place.parent / "out" / "a" / "napari-vdip.json"
    record = json.loads(file.read_text())
    assert len(get_reader(str(file))(str(file))) == 2
    changed = record | change if isinstance(change, dict) else change
    file.write_text("[" * 10**5 if change is None else json.dumps(changed))
    with pytest.raises(ValueError, match="does not hold results of this version"):
        get_reader(str(file))(str(file))
