"""Conjugate gradients against dense linear algebra."""

from __future__ import annotations

import itertools

import pytest
import torch

from napari_vdip.solvers import conjugate_gradients

SIDE = 5
PIXELS = SIDE * SIDE


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def dense(rng):
    """Symmetric positive definite matrix with a badly scaled diagonal."""
    a = torch.randn(PIXELS, PIXELS, generator=rng, dtype=torch.float64)
    return a @ a.T / PIXELS + torch.diag(torch.logspace(0, 4, PIXELS, dtype=torch.float64))


def solve(dense, right_side, start, steps, scale=None):
    scale = torch.ones(PIXELS, dtype=torch.float64) if scale is None else scale

    def on_canvases(matrix):
        return lambda x: (x.flatten(2) @ matrix).view_as(x)

    operators = on_canvases(dense), on_canvases(torch.diag(scale))
    return conjugate_gradients(*operators, right_side, start, steps)


def canvases(rng, items=2, channels=3):
    return torch.randn(items, channels, SIDE, SIDE, generator=rng, dtype=torch.float64)


def test_every_canvas_is_solved_as_by_a_dense_solver(dense, rng):
    right_side = canvases(rng)
    solution = solve(dense, right_side, torch.zeros_like(right_side), 4 * PIXELS)
    expected = torch.linalg.solve(dense, right_side.flatten(2).mT).mT
    torch.testing.assert_close(solution.flatten(2), expected, atol=1e-10, rtol=1e-6)


def test_every_canvas_is_solved_by_itself(dense, rng):
    right_side = canvases(rng)
    together = solve(dense, right_side, torch.zeros_like(right_side), 4)
    alone = solve(dense, right_side[1:, 2:], torch.zeros_like(right_side[1:, 2:]), 4)
    torch.testing.assert_close(together[1:, 2:], alone)


def test_every_step_comes_nearer_in_the_norm_of_the_operator(dense, rng):
    exact = canvases(rng, 1, 1)
    right_side = (exact.flatten(2) @ dense).view_as(exact)
    iterates = [solve(dense, right_side, torch.zeros_like(exact), steps) for steps in range(8)]
    errors = [(iterate - exact).flatten() for iterate in iterates]
    distances = [float(error @ dense @ error) for error in errors]
    assert all(after < before for before, after in itertools.pairwise(distances))


def test_a_preconditioner_near_the_inverse_takes_fewer_steps(dense, rng):
    exact = canvases(rng, 1, 1)
    right_side = (exact.flatten(2) @ dense).view_as(exact)
    plain, faster = (
        solve(dense, right_side, torch.zeros_like(exact), 8, scale)
        for scale in (None, 1 / dense.diagonal())
    )
    assert (faster - exact).norm() < 0.1 * (plain - exact).norm()


def test_a_solution_and_zero_stay(dense, rng):
    solution = canvases(rng, 1, 1)
    solution = torch.cat([solution, torch.zeros_like(solution)])
    right_side = (solution.flatten(2) @ dense).view_as(solution)
    torch.testing.assert_close(solve(dense, right_side, solution, 5), solution)
