"""Two commands with one output: the second is told, and one that was killed is no obstacle to the next."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from napari_vdip import Settings, batch, deconvolve
from napari_vdip.image_file import read

SETTINGS = Settings(psf_shape=5, steps=3, refinements=0, samples=2)
OPTIONS = ("--psf-shape", "5", "--steps", "3", "--refinements", "0", "--samples", "2", "--device", "cpu")
PROGRAM = "from napari_vdip.cli import app; app()"


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGSTOP")
@pytest.mark.parametrize("how", [(), ("--workers", "1")], ids=["serial", "cluster"])
@pytest.mark.parametrize("killed", [False, True])
def test_of_two_commands_with_one_output_the_second_is_told(tmp_path, how, killed):
    stack = np.random.default_rng(0).uniform(0, 1, (2, 48, 48)).astype(np.float32)
    path, output = tmp_path / "stack.tif", tmp_path / "out"
    tifffile.imwrite(path, stack, photometric="minisblack", metadata={"axes": "TYX"})
    command = [sys.executable, "-c", PROGRAM, "run", path, "--output", output, "--json", *OPTIONS, *how]
    [item] = batch.plan([path], output, SETTINGS)
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    piped["env"] = os.environ | {"OMP_NUM_THREADS": "1"}  # as many threads as here, so the same bits
    with subprocess.Popen(command, **piped) as first:
        try:
            assert json.loads(first.stdout.readline())["event"] == "started"
            os.kill(first.pid, signal.SIGSTOP)  # as if the machine were slow
            second = subprocess.run(command, **piped, check=False)
            failed, summary = map(json.loads, second.stdout.splitlines())
            assert (second.returncode, failed["event"], summary["failed"]) == (1, "failed", 1)
            assert "expected no other run at work on" in failed["reason"]
            if not killed:
                os.kill(first.pid, signal.SIGCONT)
                assert json.loads(first.stdout.readlines()[-1])["done"] == 1
        finally:
            first.kill()
    assert [event.kind for event in batch.execute([item], device="cpu")][-1] == (
        "done" if killed else "skipped"
    )
    expected = deconvolve(stack, SETTINGS, axes="TYX", device="cpu")
    np.testing.assert_array_equal(read(item.folder / "latent.ome.zarr").array, expected.latent)
    assert [left.name for left in output.iterdir()] == ["stack"]
