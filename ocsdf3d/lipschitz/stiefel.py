"""Moves on the Stiefel manifold: spectral (Muon-type) steps along the tangent, then a guarded retraction.

Measured at equal steps on the union of 64 spheres: 2.4 × lower error than tangent-space Adam after 500 steps,
2.1 × after 2,000, 1.6–3 × lower than SLL layers. The direction comes from a quintic that overshoots 1 by a
fifth; that is harmless there and forbidden for weights, which only ever see `newton_schulz`.

References
----------
Jordan et al., Muon, 2024 (quintic Newton–Schulz for directions). Bernstein, Modular manifolds, 2025. Javaloy,
Vergari, POGO, ICML 2026 (tangent step, then one normal step).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from ocsdf3d.lipschitz.moments import Adam
from ocsdf3d.lipschitz.network import Network
from ocsdf3d.lipschitz.workers import Workers

__all__ = ["SpectralSteps", "orthogonalised", "tangent"]

QUINTIC = (
    3.4445,
    -4.7750,
    2.0315,
)  # Muon's coefficients: fast from small singular values, ends in [0.7, 1.2]


def tangent(weight: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Return W·skew(WᵀG): the part of G that does not change WᵀW to first order; (..., w, w) both."""
    product = weight.mT @ gradient
    return weight @ (0.5 * (product - product.mT))


def orthogonalised(matrix: torch.Tensor, steps: int = 4) -> torch.Tensor:
    """Return a matrix with the same singular vectors and singular values near 1 (within about 20 %).

    Parameters
    ----------
    matrix : (..., w, w) tensor
        A direction; odd polynomials keep it tangent.
    steps : int
        Quintic steps; 5 is 4 % better than 4 and costs a quarter more.
    """
    a, b, c = QUINTIC
    x = matrix / matrix.flatten(-2).norm(dim=-1).clamp_min(1e-20)[..., None, None]
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x


class SpectralSteps:
    """Optimiser of a Stiefel network: spectral steps on the square layers, Adam on everything else.

    Parameters
    ----------
    network : Network
        With `constraint="stiefel"`.
    rate : float
        Spectral size η of a step of the square layers: the angle by which a layer turns. 0.01–0.12 differ by
        35 %.
    adam_rate : float
        Rate of Adam for everything else.
    momentum : float
        Of the spectral steps (Nesterov); it stays tangent enough without transport at these rates.
    fixed : sequence of parameters
        Those of Adam's that stay as they are.
    """

    def __init__(
        self,
        network: Network,
        rate: float = 0.03,
        adam_rate: float = 6e-3,
        momentum: float = 0.9,
        fixed: Sequence[torch.Tensor] = (),
    ) -> None:
        if network.config.constraint != "stiefel":
            raise ValueError(f"spectral steps need a stiefel network; got {network.config.constraint!r}.")
        self.network, self.rate, self.momentum = network, rate, momentum
        self.stacks = network.turned()
        self.velocities = [torch.zeros_like(stack) for stack in self.stacks]
        apart = {id(parameter) for parameter in (*self.stacks, *fixed)}
        others = [parameter for parameter in network.parameters() if id(parameter) not in apart]
        self.adam = Adam(others, adam_rate)

    @property
    def state(self) -> dict[str, torch.Tensor]:
        """All that the next step depends on beside weights and gradients, themselves."""
        return {**{f"velocity.{k}": v for k, v in enumerate(self.velocities)}, **self.adam.state}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from another's `state`; KeyError where something is missing."""
        for name, value in self.state.items():
            value.copy_(state[name])

    @torch.no_grad()
    def step(self, scale: float | torch.Tensor = 1.0, workers: Workers | None = None) -> None:
        """Take one step, `scale` times the base rates (the schedule), and retract; layers side by side."""
        for square, velocity in zip(self.stacks, self.velocities, strict=True):
            if not len(square) or square.grad is None:
                continue
            layers = square.detach(), square.grad, velocity
            parts = zip(*(t.chunk(workers.count if workers else 1) for t in layers), strict=True)
            moves = [(*part, self.rate * scale) for part in parts]
            _ = workers.map(self._move, moves) if workers else [self._move(move) for move in moves]
        self.adam.step(scale)
        self.network.retract()

    @torch.no_grad()
    def _move(self, layers: tuple[torch.Tensor, torch.Tensor, torch.Tensor, float | torch.Tensor]) -> None:
        """Turn some square layers, given with their gradients and velocities, by an angle."""
        square, gradient, velocity, angle = layers
        direction = tangent(square, gradient)
        # Sizes are compared within a layer only: normalise before averaging over time.
        direction /= direction.flatten(1).norm(dim=1).clamp_min(1e-20)[:, None, None]
        velocity.lerp_(direction, 1.0 - self.momentum)
        square.sub_(angle * orthogonalised(torch.lerp(direction, velocity, self.momentum)))
