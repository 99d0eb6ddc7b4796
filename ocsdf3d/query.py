"""Of any differentiable callable on tensors: value and gradient, and the Newton–Raphson step to a level."""

from __future__ import annotations

from collections.abc import Callable

import torch

__all__ = ["newton_step", "value_and_gradient"]

Function = Callable[[torch.Tensor], torch.Tensor]


def value_and_gradient(function: Function, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return f(x), (n,), and ∇f(x), (n, d), both detached, for x (n, d)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        value = function(x)
        (gradient,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), gradient


def newton_step(
    value: torch.Tensor,
    gradient: torch.Tensor,
    level: float | torch.Tensor,
    *,
    rule: str = "squared",
    one_sided: bool = False,
) -> torch.Tensor:
    """Return the displacement, (n, d), that would bring each point to {f = level} were f affine.

    Parameters
    ----------
    value : (n,) tensor
        f(x).
    gradient : (n, d) tensor
        ∇f(x).
    level : float or (n,) tensor
        Level to reach.
    rule : str
        `"squared"`: (level − f)·∇f/‖∇f‖², the Newton–Raphson step (equation 7, appendix I.1, the authors'
        code); `"unit"`: (level − f)·∇f/‖∇f‖, as Algorithm 1 is printed: shorter, and never overshooting while
        ‖∇f‖ ≤ 1.
    one_sided : bool
        Points already above the level stay (the authors' code); otherwise they are pulled back to it.
    """
    gap = level - value
    if one_sided:
        gap = gap.clamp_min(0.0)
    square = gradient.square().sum(1)
    if rule == "squared":
        return (gap / (square + 1e-8))[:, None] * gradient
    if rule == "unit":
        return (gap / (square.sqrt() + 1e-8))[:, None] * gradient
    raise ValueError(f"`rule` must be squared or unit; got {rule!r}.")
