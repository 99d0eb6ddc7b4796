"""Small rivals that are trained on the same samples with the same sides: what else could be done with them.

Each recipe trains for a budget of wall time, and its field is meshed as ours is. Points and sides come from
`ocsdf3d.cleaning.sided` as `pipeline.fit` asks it, with the same seed, so a recipe and ours learn the same
inside; what differs is the network, the loss, where its points lie, and the optimiser.

- `paper`: our preset `paper`, stopped at the budget (`methods.py` calls `pipeline.fit` for it).
- `successor`: 20 × 128 SLL layers, the input padded with zeros, an affine end of norm 1; Adam at 5e-4,
  batches of 200, hKR with m = 0.01 (longest side 1) and λ = 100; points uniform, most in the box padded by
  5 %.
- `regression`: an unconstrained 8 × 128 ReLU network, our size, regresses the distance to the nearest sample,
  signed by the sides, as DeepSDF does; here in L1 without its clamp, since the far field is judged too.
- `implicitlab`: that package's own 10 × 128 SLL network with GroupSort and its Muon, where it is installed;
  batches of 5,000, 80 % of them within 0.02 of the samples, m = 0.01 (longest side 2), λ = 10, 100, 1000 by
  thirds of the budget. The package has no sides for points; it gets ours.

References
----------
Araujo et al., A Unified Algebraic Perspective on Lipschitz Neural Networks, ICLR 2023, theorem 3 (SLL).
Coiffier and Béthune, 1-Lipschitz Neural Distance Fields, SGP 2024. Park et al., DeepSDF, CVPR 2019; OCSDF,
ICML 2023, table 4. Coiffier and Basselin, Compactly supported detail fields, SGP 2026.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import trimesh
from scipy.spatial import cKDTree
from torch import nn

from ocsdf3d.cleaning import sided
from ocsdf3d.cores import tree_workers
from ocsdf3d.frame import Frame, check_shape, inliers
from ocsdf3d.geometry import Box, PointCloud
from ocsdf3d.grid import sample
from ocsdf3d.level import QUANTILES, level_of
from ocsdf3d.loss import hkr
from ocsdf3d.pools import around
from ocsdf3d.presets import PRESETS
from ocsdf3d.query import value_and_gradient
from ocsdf3d.surface import extract
from ocsdf3d.winding import Winding

RECIPES = ("paper", "successor", "regression", "implicitlab")
PATIENCE = 10  # steps between two looks at the clock, each of which waits for the device
LABELLED = 400_000  # points that are asked for their side
REGRESSED = 2048  # points of a batch of the regression
TILE = 16_384

Loss = Callable[[float], torch.Tensor]  # share of the budget that is spent → loss of a fresh batch
Watch = Callable[[float, "RecipeField"], None]


class SLL(nn.Module):
    """x ↦ x − 2 W T⁻¹ relu(Wᵀx + b), T_ii = Σ_j |WᵀW|_ij exp(q_j − q_i): 1-Lipschitz for any W, b and q."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_normal_(torch.empty(width, width)))
        self.bias = nn.Parameter(torch.empty(width).uniform_(-(width**-0.5), width**-0.5))
        self.q = nn.Parameter(torch.zeros(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (n, width) for x (n, width)."""
        scale = self.q.exp()
        t = (self.weight.mT @ self.weight).abs() @ scale / scale
        return x - 2.0 * (torch.relu(x @ self.weight + self.bias) / t) @ self.weight.mT


class Successor(nn.Module):
    """f: R³ → R of `depth` SLL layers; 1-Lipschitz in real arithmetic."""

    def __init__(self, width: int = 128, depth: int = 20) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(SLL(width) for _ in range(depth)))
        self.head = nn.Parameter(torch.randn(width))
        self.offset = nn.Parameter(torch.zeros(()))
        self.width = width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return f(x), (n,), for x (n, 3)."""
        h = self.layers(nn.functional.pad(x, (0, self.width - x.shape[1])))
        return h @ (self.head / self.head.norm()) + self.offset


class Perceptron(nn.Sequential):
    """f: R³ → R of ReLU layers without any bound on its slope."""

    def __init__(self, width: int = 128, depth: int = 8) -> None:
        sizes = [3, *[width] * depth]
        hidden = [(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(sizes)]
        super().__init__(*(layer for pair in hidden for layer in pair), nn.Linear(width, 1), nn.Flatten(0))


@dataclass(frozen=True)
class RecipeField:
    """φ(x) = s·(c − f((x − t)/s)) of a recipe, in world units, negative inside.

    Attributes
    ----------
    network : module
        f, (n, 3) → (n,).
    frame : Frame
        t and s.
    level : float
        c, in the frame.
    box : Box
        Where the surface is looked for [world units].
    lipschitz : float or None
        What the recipe's paper proves of f; None leaves no node of a grid out.
    drawn : int
        Points that the optimiser has seen.
    spent, prepared : float
        Seconds of training, and before it.
    """

    network: nn.Module
    frame: Frame
    level: float
    box: Box
    lipschitz: float | None
    drawn: int = 0
    spent: float = 0.0
    prepared: float = 0.0

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return φ, (n,), at `points`, (n, 3) [world units]."""
        with torch.no_grad():
            f = self._apply(points, lambda x: self.network(x).reshape(-1))
        return self.frame.scale * (self.level - f)

    def gradient(self, points: np.ndarray) -> np.ndarray:
        """Return ∇φ, (n, 3)."""
        return -self._apply(points, lambda x: value_and_gradient(lambda y: self.network(y).reshape(-1), x)[1])

    def mesh(self, resolution: int) -> trimesh.Trimesh:
        """Return the zero set on a grid, sparse where a bound is known."""
        allowance = 1e-5 * self.frame.scale  # float32 sums over 20 layers
        grid = sample(self, self.box, resolution, lipschitz=self.lipschitz, allowance=allowance, tile=TILE)
        return extract(grid)

    def _apply(self, points: np.ndarray, function: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
        device = next(self.network.parameters()).device
        unit = torch.as_tensor(self.frame.to_unit(points), dtype=torch.float32)
        tiles = [function(tile.to(device)).to("cpu", torch.float64) for tile in unit.split(TILE)]
        return torch.cat(tiles).numpy()


@dataclass(frozen=True)
class Material:
    """What `pipeline.fit` has before it trains: the cloud in the unit frame, B, and who knows the sides."""

    frame: Frame
    unit: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    inside: Winding | None
    support: str
    rng: np.random.Generator

    @classmethod
    def of(cls, points: np.ndarray, support: str, seed: int) -> Material:
        """Return it for points, (n, 3), with the draws of `pipeline.fit`."""
        rng, grow = np.random.default_rng(seed), PRESETS["default"].grow
        check_shape(points)
        distinct = np.unique(points, axis=0)
        clean = sided(PointCloud(points), distinct[inliers(distinct)], support, rng)
        frame, sides, unit = clean.frame, clean.sides, clean.frame.to_unit(clean.points)
        lower, upper = unit.min(axis=0) - grow, unit.max(axis=0) + grow
        return cls(frame, unit, lower, upper, sides.inside, sides.support, rng)

    def sorted(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the positives and the negatives of points, (n, 3); a shell's positives are its samples."""
        if self.inside is None:
            return self.unit, x
        label = self.inside(x) > 0.5
        if label.all() or not label.any():
            raise ValueError(
                f"the sides call {label.mean():.0%} of the points inside; there is nothing to learn"
            )
        return x[label], x[~label]


def missing(name: str) -> bool:
    """Whether a recipe needs a package that is not installed."""
    return name == "implicitlab" and find_spec("implicitlab") is None


def trained(
    name: str,
    points: np.ndarray,
    *,
    seconds: float,
    device: str,
    seed: int,
    support: str = "auto",
    checkpoints: Sequence[float] = (),
    watch: Watch | None = None,
) -> RecipeField:
    """Train a recipe (not `paper`, which is a preset) on bare points.

    Parameters
    ----------
    points : (n, 3) array
        The cloud [world units].
    seconds : float
        Of training, without what comes before it; at least one step is made.
    checkpoints : sequence of float
        Seconds at which `watch` is called, with the seconds and the field so far; they count from the call,
        sides and sampling included, and the clock stops while it watches.
    """
    called = time.perf_counter()
    material = Material.of(points, support, seed)
    torch.manual_seed(seed)  # a process of the recipe's own: nobody else draws from this generator
    network, optimizer, loss, batch, frame, bound = _RECIPES[name](material, device)
    box = Box(material.frame.to_world(material.lower), material.frame.to_world(material.upper))

    def field() -> RecipeField:
        level = 0.0
        if material.support == "shell" and bound is None:  # a distance without sign is 0 on no open set
            bare = RecipeField(network, frame, 0.0, box, bound)
            level = level_of(-bare(material.frame.to_world(material.unit)) / frame.scale, QUANTILES["shell"])
        return RecipeField(network, frame, level, box, bound, steps * batch, spent, prepared)

    marks, spent, steps, prepared = list(checkpoints), 0.0, 0, time.perf_counter() - called
    while steps == 0 or spent < seconds:
        begun = time.perf_counter()
        for _ in range(PATIENCE):
            optimizer.zero_grad(set_to_none=True)
            loss(min(1.0, spent / seconds)).backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        spent, steps = spent + time.perf_counter() - begun, steps + PATIENCE
        if watch is not None and marks and prepared + spent >= marks[0]:
            watch(prepared + spent, field())
            marks = [mark for mark in marks if mark > prepared + spent]
    return field()


Recipe = tuple[
    nn.Module, Any, Loss, int, Frame, float | None
]  # network, optimiser, loss, batch, frame, bound


def _successor(material: Material, device: str) -> Recipe:
    frame = Frame(material.frame.center, 2.0 * material.frame.scale)  # longest side 1, as published
    low, high = material.unit.min(axis=0), material.unit.max(axis=0)
    pad, loose = 0.05 * (high - low).max(), LABELLED // 41
    x = np.concatenate(
        [
            material.rng.uniform(low - pad, high + pad, (LABELLED - loose, 3)),
            material.rng.uniform(-2.0, 2.0, (loose, 3)),
        ]
    )
    pools = [_tensor(0.5 * pool, device) for pool in material.sorted(x)]
    network = Successor().to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-4)
    return network, optimizer, lambda _: _hkr(network, pools, 100, 0.01, 100.0), 200, frame, 1.0


def _implicitlab(material: Material, device: str) -> Recipe:
    from implicitlab.nn import DenseLipSDP
    from implicitlab.training import SingleDeviceMuonWithAuxAdam

    count = 5 * LABELLED // 4
    near = material.unit[material.rng.integers(0, len(material.unit), 4 * count // 5)]
    near = near + material.rng.normal(scale=0.02, size=near.shape)
    x = np.concatenate([near, material.rng.uniform(-1.5, 1.5, (count - len(near), 3))])
    pools = [_tensor(pool, device) for pool in material.sorted(x)]
    network = DenseLipSDP(3, 128, 10).to(device)
    matrices = [p for p in network.parameters() if p.requires_grad and p.ndim == 2]
    others = [p for p in network.parameters() if p.requires_grad and p.ndim != 2]
    optimizer = SingleDeviceMuonWithAuxAdam(
        [
            {"params": matrices, "lr": 1e-4, "weight_decay": 0.01, "use_muon": True},
            {"params": others, "lr": 5e-4, "use_muon": False},
        ]
    )

    def loss(done: float) -> torch.Tensor:
        return _hkr(network, pools, 2500, 0.01, 10.0 ** (1 + min(2, int(3 * done))))

    return network, optimizer, loss, 5000, material.frame, 1.0


def _regression(material: Material, device: str) -> Recipe:
    places = replace(PRESETS["default"], pool=LABELLED)
    x = around(material.unit, material.lower, material.upper, places, material.rng)
    distance = cKDTree(material.unit).query(x, workers=tree_workers())[0]
    sign = -1.0 if material.inside is None else np.where(material.inside(x) > 0.5, 1.0, -1.0)
    pool, target = _tensor(x, device), _tensor(sign * distance, device)
    network = Perceptron().to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-4)

    def loss(_: float) -> torch.Tensor:
        index = torch.randint(len(pool), (REGRESSED,), device=device)
        return (network(pool[index]) - target[index]).abs().mean()

    return network, optimizer, loss, REGRESSED, material.frame, None


def _hkr(
    network: nn.Module, pools: Sequence[torch.Tensor], each: int, margin: float, lam: float
) -> torch.Tensor:
    """hKR of a batch with `each` draws of either side."""
    batch = [pool[torch.randint(len(pool), (each,), device=pool.device)] for pool in pools]
    values = network(torch.cat(batch)).reshape(-1)
    return hkr(values[:each], values[each:], margin, lam)


def _tensor(array: np.ndarray, device: str) -> torch.Tensor:
    return torch.as_tensor(array, dtype=torch.float32, device=device)


_RECIPES: dict[str, Callable[[Material, str], Recipe]] = {
    "successor": _successor,
    "regression": _regression,
    "implicitlab": _implicitlab,
}
