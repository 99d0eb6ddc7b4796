"""Linear maps that cannot stretch: Björck orthogonalisation, and one fused orthogonal-layer-with-half-abs.

One fact carries this file and `stiefel.py`. Let p(s) = 1.5 s − 0.5 s³, the action of a Newton–Schulz (Björck)
step on a singular value. Then |p(s)| ≤ 1 for every s in [0, 2]: after the step no singular value exceeds 1,
whatever the number of steps. Iterating improves tightness, never safety.
"""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["HalfAbsLayer", "bjorck", "newton_schulz"]


def newton_schulz(weight: torch.Tensor) -> torch.Tensor:
    """Return weights of spectral norm at most 1, one guarded Newton–Schulz step nearer to orthogonal.

    Parameters
    ----------
    weight : (..., r, c) tensor
        One matrix or a stack; any size of entries whose squares are finite (to about 1e18 in float32).

    Returns
    -------
    (..., r, c) tensor

    Notes
    -----
    The guard scales by c = min(1, 2/‖G‖_∞) with G the smaller Gram matrix. ‖G‖_∞ ≥ σ² (Gershgorin), so
    σ√c ≤ √2 holds for certain, and p maps [0, √2] into [0, 1]. (With 3 for 2 it would be safe as well, but
    p(√3) = 0: a layer a few times too large would vanish; p(√2) is 0.71.) Free of branches and host syncs.
    From an orthogonal matrix plus a tangent step of spectral size η the result misses orthogonality by about
    (3/8)·η⁴: 3e-7 at η = 0.03.

    References
    ----------
    Björck, Bowie, An iterative algorithm for computing the best estimate of an orthogonal matrix, SIAM J.
    Numer. Anal. 8(2), 1971.
    """
    wide = weight.shape[-2] < weight.shape[-1]
    gram = weight @ weight.mT if wide else weight.mT @ weight
    row_sums = gram.abs().sum(-1).amax(-1)[..., None, None]
    c = 2.0 / row_sums.clamp_min(2.0)
    weight, gram = c.sqrt() * weight, c * gram  # before the cubic term, which would overflow at 1e13
    return 1.5 * weight - 0.5 * (gram @ weight if wide else weight @ gram)


def bjorck(weight: torch.Tensor, iterations: int) -> torch.Tensor:
    """Orthogonalise by `iterations` guarded Newton–Schulz steps; differentiable, norm ≤ 1 from the first on.

    Parameters
    ----------
    weight : (r, c) tensor
        Free weights.
    iterations : int
        15 in the paper's library; it stops earlier there once nothing changes.
    """
    for _ in range(iterations):
        weight = newton_schulz(weight)
    return weight


class HalfAbsLayer(torch.autograd.Function):
    """x ↦ half_abs(x Wᵀ + b) as one node of the graph, in place on its own buffer.

    Same result as `half_abs(torch.addmm(b, x, W.T))`, about 1.5 × faster forward and backward at width 128
    and batch 2,048 on two cores: no concatenation, one sign mask kept instead of the pre-activation.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Return (n, w) from x (n, v), weight (w, v), bias (w,)."""
        h = torch.addmm(bias, x, weight.mT)
        left = h[:, : h.shape[1] // 2]
        flipped = torch.signbit(left)
        left.abs_()
        ctx.save_for_backward(x, weight, flipped)
        return h

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients that are asked for; none of them is computed otherwise."""
        x, weight, flipped = ctx.saved_tensors
        g = grads[0].clone()
        left = g[:, : g.shape[1] // 2]
        torch.where(flipped, -left, left, out=left)
        need_x, need_weight, need_bias = ctx.needs_input_grad
        return (
            g @ weight if need_x else None,
            g.mT @ x if need_weight else None,
            g.sum(0) if need_bias else None,
        )
