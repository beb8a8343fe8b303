"""Linear systems on canvases, solved by preconditioned conjugate gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

TINY = 1e-30


def conjugate_gradients(
    operator: Callable[[Tensor], Tensor],
    precondition: Callable[[Tensor], Tensor],
    right_side: Tensor,
    start: Tensor,
    steps: int,
) -> Tensor:
    """Solve ``operator(x) = right_side`` for each canvas (Hestenes and Stiefel, 1952).

    Parameters
    ----------
    operator, precondition : callable
        Symmetric and positive definite on ``(n, C, H, W)``, acting on each canvas separately.
    right_side, start : Tensor
        ``(n, C, H, W)``.
    steps : int
        Number of steps.
    """
    x = start
    residual = right_side - operator(x)
    direction = ahead = precondition(residual)
    slope = _inner(residual, ahead)
    for _ in range(steps):
        product = operator(direction)
        length = slope / _inner(direction, product).clamp_min(TINY)
        x = x + length * direction
        residual = residual - length * product
        ahead = precondition(residual)
        slope, before = _inner(residual, ahead), slope
        direction = ahead + slope / before.clamp_min(TINY) * direction
    return x


def _inner(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((-2, -1), keepdim=True)
