"""Algorithm 1: uniform seeds Q₀ → complementary distribution Q_t, by Newton–Raphson walks to the boundary.

The negatives of one-class learning are not given: they are made where the current f is still wrong. A seed
walks T steps toward {f = −m}; a total step η ~ U[0, 1], drawn once per seed, leaves the walkers spread
between their start and the level. Paper and code differ in the rule of the step, the level, the side and a
multiplier; all are settings.

References
----------
Béthune et al., OCSDF, ICML 2023, Algorithm 1, equation 7, appendix I.1; the authors' code (step multiplier,
one side).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ocsdf3d.query import Function, newton_step, value_and_gradient

__all__ = ["WalkConfig", "walk"]


@dataclass(frozen=True)
class WalkConfig:
    """Settings of Algorithm 1.

    Attributes
    ----------
    steps : int
        T; 0 returns the seeds (the warm start).
    multiplier : float
        Constant factor of every step: 1 in the paper, 4 (3D) to 20 (images) in the code. With 1 and T = 4 a
        walker ends, on average, with 0.61 of its first distance left; 4 and T = 8 leave 0.22.
    level : float
        Target level in units of the margin: −1 in the paper, 0 in the 3D code.
    one_sided : bool
        Walkers already above the level stay where they are (code) or are pulled back to it (paper).
    rule : str
        `"squared"` or `"unit"`, see `query.newton_step`.
    random : bool
        η ~ U[0, 1], as in training; otherwise η = 1, as in the paper's synthesis.
    """

    steps: int = 4
    multiplier: float = 1.0
    level: float = -1.0
    one_sided: bool = False
    rule: str = "squared"
    random: bool = True

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError(f"`steps` must not be negative; got {self.steps}.")
        if not (math.isfinite(self.level) and 0.0 < self.multiplier < math.inf):
            raise ValueError(
                f"`multiplier` must be positive and `level` finite; got {self.multiplier} and {self.level}."
            )
        if self.rule not in ("squared", "unit"):
            raise ValueError(f"`rule` must be squared or unit; got {self.rule!r}.")


def walk(
    function: Function,
    seeds: torch.Tensor,
    margin: float | torch.Tensor,
    config: WalkConfig,
    lower: torch.Tensor,
    upper: torch.Tensor,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Return Q_t: `seeds` after T steps toward the level, each projected on the box B.

    Parameters
    ----------
    function : callable
        f on (n, d) tensors, differentiable; freeze a network first (`LipschitzNetwork.frozen`).
    seeds : (n, d) tensor
        Q₀; not written into. With T = 0 they come back as they are, unprojected, as in the authors' code.
    margin : float or () tensor
        m, in the units of f.
    config : WalkConfig
        T, multiplier, level, side, rule.
    lower, upper : (d,) tensors
        Corners of B.
    generator : torch.Generator, optional
        For η ~ U[0, 1], one draw per seed, on the device of `seeds`.
    """
    if config.steps == 0:
        return seeds
    eta = torch.ones((len(seeds), 1), device=seeds.device, dtype=seeds.dtype)
    if config.random:
        eta = torch.rand((len(seeds), 1), generator=generator, device=seeds.device, dtype=seeds.dtype)
    share = config.multiplier * eta / config.steps
    x = seeds
    for _ in range(config.steps):
        value, gradient = value_and_gradient(function, x)
        move = newton_step(
            value, gradient, config.level * margin, rule=config.rule, one_sided=config.one_sided
        )
        x = torch.minimum(torch.maximum(x + share * move, lower), upper)
    return x
