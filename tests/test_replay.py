"""What is recorded on a GPU: that it can be, that a recording does the same, and that it is given back."""

from __future__ import annotations

from threading import Thread

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from napari_vdip import replay
from napari_vdip.candidate import Candidate
from napari_vdip.devices import release_memory
from napari_vdip.operators import blur, extend, size_of
from napari_vdip.posterior import _perturbation, gradient_variances, sparse_precision
from napari_vdip.replay import replayed
from napari_vdip.widths import gaussian

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class Operations(TorchDispatchMode):
    """Note the names of the operations that are done."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function.name())
        return function(*args, **(kwargs or {}))


def rounds(device, count=1, seed=0):
    """Do some rounds of what is recorded on a picture of its own, and return what they gave."""
    return rounds_on(picture(seed).to(device), 0.01 + 0.01 * seed, count)


def picture(seed=0):
    latent = torch.rand(1, 1, 46, 50, generator=torch.Generator().manual_seed(seed))
    return blur(latent, gaussian(1.0, (7, 7), latent.device))


def rounds_on(image, floor, count=1):
    kernel = gaussian(1.0, (7, 7), image.device)
    noise = torch.full_like(image, 1e-4)
    candidate = Candidate(image, extend(image, (7, 7)), kernel, floor)
    mean, samples = extend(image, (7, 7)), None
    height, width = size_of(mean)
    sizes = (size_of(image), (height - 1, width), (height, width - 1), (height, width))
    numbers = [torch.arange(2.0 * h * w, device=image.device).sin().view(2, 1, h, w) for h, w in sizes]
    for _ in range(count):
        candidate.advance(noise)
        variances = None if samples is None else gradient_variances(samples)
        precision = sparse_precision(mean, candidate.kernel, noise.sqrt(), variances, pooling=1.0)
        mean = precision.mean(image, mean)
        right_side = _perturbation(candidate.kernel, noise.sqrt(), *precision.weights, 0.0, *numbers)
        samples = precision.solve(right_side, torch.zeros_like(right_side))
    return candidate.kernel, candidate.mean, candidate.variance, mean, samples


def test_what_is_recorded_reads_no_tensor_into_python_and_draws_no_random_numbers():
    """Neither could be recorded: a GPU would have to wait, or the numbers would be the same ever after."""
    image = picture()
    with Operations() as operations:
        rounds_on(image, 0.01)
    assert {"aten::_fft_r2c", "aten::sort"} <= operations.names
    assert not {name for name in operations.names if "_local_scalar_dense" in name or "rand" in name}


def test_reading_and_drawing_would_be_seen():
    with Operations() as operations:
        assert torch.rand(2).sum() >= 0
    assert {"aten::_local_scalar_dense", "aten::rand"} <= operations.names


def test_on_a_cpu_the_function_is_called_as_it_is():
    calls = []

    @replayed
    def double(a):
        calls.append(a)
        return 2 * a

    for number in range(3):
        assert double(torch.tensor(number)) == 2 * number
    assert len(calls) == 3


def test_recordings_are_kept_for_one_stack_and_dropped_for_the_next():
    replay.keep_for("one")
    replay._OF_THREAD.made["some"] = None
    replay.keep_for("one")
    assert replay._OF_THREAD.made
    replay.keep_for("other")
    assert not replay._OF_THREAD.made
    replay._OF_THREAD.made["some"] = None
    release_memory()
    assert not replay._OF_THREAD.made
    assert not replay._OF_THREAD.stack


@needs_cuda
def test_a_recording_gives_what_the_function_gives_for_other_values(monkeypatch):
    expected = []
    with monkeypatch.context() as patch:
        patch.setattr(replay, "LARGEST", 0)
        expected = [rounds("cuda", 4, seed) for seed in range(2)]
    release_memory()
    for seed in range(2):
        for one, other in zip(rounds("cuda", 4, seed), expected[seed], strict=True):
            torch.testing.assert_close(one, other, atol=0, rtol=0)


@needs_cuda
def test_a_function_is_recorded_at_its_second_call_and_replayed_from_then_on():
    calls = []

    @replayed
    def double(a):
        calls.append(a)
        return 2 * a

    results = [double(torch.tensor(float(number), device="cuda")) for number in range(5)]
    assert [float(result) for result in results] == [0, 2, 4, 6, 8]  # none is overwritten by the next
    assert len(calls) == 2
    double(torch.zeros(2, device="cuda"))
    assert len(calls) == 3  # another shape


@needs_cuda
def test_recordings_and_their_memory_are_given_back():
    release_memory()
    before = torch.cuda.memory_reserved()
    rounds("cuda", 3)
    assert any(replay._OF_THREAD.made.values())
    release_memory()
    assert not replay._OF_THREAD.made
    assert torch.cuda.memory_reserved() <= before + 2**20


@needs_cuda
def test_nobody_else_is_given_a_stream_that_is_recorded_on():
    """PyTorch hands the same few out in turn: 16 planes in four threads failed, or could be wrong."""
    others = {torch.cuda.Stream().cuda_stream for _ in range(100)}
    recorded_on = []

    @replayed
    def double(a):
        recorded_on.append(torch.cuda.current_stream().cuda_stream)
        return 2 * a

    for _ in range(3):
        double(torch.ones(2, device="cuda"))
    assert len(recorded_on) == 2
    assert recorded_on[1] not in others


@needs_cuda
def test_threads_have_recordings_of_their_own():
    expected, found = [rounds("cuda", 4, seed) for seed in range(4)], {}

    def work(seed):
        with torch.cuda.stream(torch.cuda.Stream()):
            found[seed] = rounds("cuda", 4, seed)
            torch.cuda.current_stream().synchronize()

    threads = [Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(4):
        for one, other in zip(found[seed], expected[seed], strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
