"""Earlier estimates: how many are held, and how one of them becomes the result."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from napari_vdip._iterates import Iterate, Iterates, Revision
from napari_vdip._worker import Report
from napari_vdip.plane import Restored
from napari_vdip.stack import plan

SIZE = 4 * 5 * 4 + 3 * 3 * 4  # bytes of an estimate


@dataclass
class Found:
    """A result of planes of 4 x 5 pixels, with PSFs of 3 x 3."""

    latent: np.ndarray
    psf: np.ndarray
    std: np.ndarray | None
    axes: str
    metadata: dict = field(default_factory=lambda: {"stopped": "finished"})


def found(shape, axes):
    rng = np.random.default_rng(0)
    psf = (*shape[:-2], 3, 3)
    return Found(*(rng.normal(size=size).astype(np.float32) for size in (shape, psf, shape)), axes)


def report(step, index=(), rng=np.random.default_rng(1)):  # noqa: B008
    def image(*shape):
        return rng.normal(size=shape).astype(np.float32)

    restored = Restored(image(4, 5, 1), image(3, 3), image(4, 5, 1), noise=0.5)
    return Report(step, 100, "", index, str(index), step, 100, "search", restored, 0.4, ())


def test_estimates_are_spaced_evenly_from_the_first_and_never_too_many():
    iterates = Iterates(most=8)
    for step in range(1, 1001):
        iterates.add(Iterate.of(report(step)))
        assert len(iterates) <= 8
        steps = [iterate.step for iterate in iterates]
        assert steps[0] == 1
        assert len(set(np.diff(steps))) <= 1
        assert step - steps[-1] <= 2 * 1000 / 8


@pytest.mark.parametrize("fit", [1, 3, 10])
def test_estimates_never_take_more_memory_than_is_allowed(fit):
    iterates = Iterates(memory=fit * SIZE)
    for step in range(1, 60):
        iterates.add(Iterate.of(report(step)))
        assert sum(iterate.nbytes for iterate in iterates) <= fit * SIZE
    assert len(iterates) > fit / 2 - 1


def test_an_estimate_larger_than_the_memory_is_not_held():
    iterates = Iterates(memory=SIZE - 1)
    for step in range(1, 4):
        iterates.add(Iterate.of(report(step)))
    assert len(iterates) == 0


def test_an_estimate_does_not_change_with_what_it_was_made_of():
    iterates, made = Iterates(), report(1)
    iterates.add(Iterate.of(made))
    made.restored.latent[:] = 0
    assert iterates[0].latent.all()


def taken(iterates, *indices):
    for step, index in enumerate(indices, start=1):
        iterates.add(Iterate.of(report(step, index)))
    return list(iterates)


def test_a_revision_shows_an_estimate_in_its_plane_and_gives_back_what_was_there():
    result, before = found((3, 4, 5), "ZYX"), found((3, 4, 5), "ZYX")
    revision = Revision(result, plan((3, 4, 5), "ZYX", "separate"))
    first, second = taken(Iterates(), (1,), (2,))
    revision.take(first)
    assert np.array_equal(revision.latent[1], first.latent[..., 0])
    assert np.array_equal(revision.psf[1], first.psf)
    assert np.isnan(revision.std[1]).all()
    for plane in (0, 2):
        assert np.array_equal(revision.latent[plane], before.latent[plane])
        assert np.array_equal(revision.std[plane], before.std[plane])
    assert [shown["step"] for shown in revision.metadata["iterate"]] == [1]
    revision.take(second)
    assert np.array_equal(revision.latent[1], before.latent[1])
    assert np.array_equal(revision.latent[2], second.latent[..., 0])
    revision.take(None)
    for name in ("latent", "psf", "std"):
        assert np.array_equal(getattr(revision, name), getattr(before, name))
    assert revision.metadata == before.metadata


def test_a_single_plane_that_is_kept_has_no_std_map():
    result = found((4, 5), "YX")
    revision = Revision(result, plan((4, 5), "YX", "separate"))
    (iterate,) = taken(Iterates(), ())
    revision.take(iterate)
    assert np.isnan(revision.std).all()
    revision.keep(iterate)
    assert revision.std is None
    assert revision.metadata["iterate"][0]["kept"]
    revision.take(None)
    assert np.array_equal(revision.std, found((4, 5), "YX").std)


def test_an_estimate_that_is_kept_stays_while_others_of_other_planes_are_looked_at_and_kept():
    result, before = found((3, 4, 5), "ZYX"), found((3, 4, 5), "ZYX")
    revision = Revision(result, plan((3, 4, 5), "ZYX", "separate"))
    first, second, third = taken(Iterates(), (0,), (1,), (0,))
    revision.keep(first)
    revision.take(second)
    assert np.array_equal(revision.latent[0], first.latent[..., 0])
    assert [shown["kept"] for shown in revision.metadata["iterate"]] == [True, False]
    revision.keep(second)
    revision.take(third)  # instead of the one that is kept, while it is looked at
    assert np.array_equal(revision.latent[0], third.latent[..., 0])
    revision.rest()
    for plane, kept in enumerate((first, second)):
        assert np.array_equal(revision.latent[plane], kept.latent[..., 0])
        assert np.array_equal(revision.psf[plane], kept.psf)
    assert np.array_equal(revision.std[2], before.std[2])
    revision.keep(None)
    assert np.array_equal(revision.latent, before.latent)
    assert revision.kept == {}
