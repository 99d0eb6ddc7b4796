"""Where the batches of a training come from; any dimension, no geometry.

A `Source` hands them out. `Surface` is the paper's: positives are the data, negatives are uniform seeds that
Algorithm 1 walks to the boundary anew for every batch (Algorithm 3). `Labelled` is for data whose two sides
an oracle can tell: positives and negatives are pools, and at every refresh Algorithm 1 walks fresh seeds of
both sides to where f changes sign *now*; the oracle says which side each really is on, and a share of every
batch comes from them until the next refresh (Algorithm 2, its eager form: negatives are remade for the
current f, then learnt for a while).

`Known` is where f is known beforehand: on samples of the boundary, and at known distances off it. hKR alone
knows a boundary by labels only, and near it they are wrong wherever the oracle rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from ocsdf3d.query import Function

__all__ = ["Known", "Labelled", "Source", "Surface"]


class Source(Protocol):
    """Where batches come from."""

    walked: bool  # whether Algorithm 1 moves every batch of negatives
    generator: torch.Generator  # of its draws

    def draw(self, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return n positives and n negatives (or seeds), (n, d) each."""

    def refresh(self, function: Function, margin: float) -> None:
        """Remake what depends on the current f."""

    @property
    def fixed(self) -> dict[str, torch.Tensor]:
        """What never changes."""

    @property
    def state(self) -> dict[str, torch.Tensor]:
        """What the last refresh made."""

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from another's `state`."""


class Surface:
    """The paper's source: the data against seeds that Algorithm 1 moves.

    Parameters
    ----------
    data : (n, d) tensor
        The support, as sampled.
    seeds : callable
        n → Q₀, (n, d).
    generator : torch.Generator
        On the device of `data`.
    """

    walked = True

    def __init__(
        self, data: torch.Tensor, seeds: Callable[[int], torch.Tensor], generator: torch.Generator
    ) -> None:
        self.data, self.seeds, self.generator = data, seeds, generator

    def draw(self, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return n draws of the data, with replacement, and n seeds."""
        index = torch.randint(len(self.data), (n,), generator=self.generator, device=self.data.device)
        return self.data[index], self.seeds(n)

    def refresh(self, function: Function, margin: float) -> None:
        """Do nothing: every batch starts afresh from Q₀."""

    @property
    def fixed(self) -> dict[str, torch.Tensor]:
        """The data."""
        return {"data": self.data}

    @property
    def state(self) -> dict[str, torch.Tensor]:
        """Nothing."""
        return {}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Do nothing."""


class Labelled:
    """Pools of both sides, renewed where f changes sign.

    Parameters
    ----------
    inside, outside : (n, d) tensors
        Positives and negatives; what `share` leaves of each batch comes from these.
    explore : callable
        (f, margin) → (positives, negatives): seeds walked to the current boundary and labelled by the oracle.
    share : float
        Part of a batch that comes from the last exploration, once there is one.
    generator : torch.Generator
        On the device of the pools.
    """

    walked = False

    def __init__(
        self,
        inside: torch.Tensor,
        outside: torch.Tensor,
        explore: Callable[[Function, float], tuple[torch.Tensor, torch.Tensor]],
        share: float,
        generator: torch.Generator,
    ) -> None:
        self.pools = [inside, outside]
        self.explored: list[torch.Tensor | None] = [None, None]
        self.explore, self.share, self.generator = explore, share, generator

    def _pick(self, pool: torch.Tensor, n: int) -> torch.Tensor:
        return pool[torch.randint(len(pool), (n,), generator=self.generator, device=pool.device)]

    def draw(self, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return n positives and n negatives, drawn with replacement."""
        batches = []
        for pool, explored in zip(self.pools, self.explored, strict=True):
            if explored is None or len(explored) == 0:
                batches.append(self._pick(pool, n))
            else:
                k = int(self.share * n)
                batches.append(torch.cat([self._pick(pool, n - k), self._pick(explored, k)]))
        return batches[0], batches[1]

    def refresh(self, function: Function, margin: float) -> None:
        """Explore with the current f; the last exploration is forgotten."""
        self.explored = list(self.explore(function, margin))

    @property
    def fixed(self) -> dict[str, torch.Tensor]:
        """The pools."""
        return dict(zip(("inside", "outside"), self.pools, strict=True))

    @property
    def state(self) -> dict[str, torch.Tensor]:
        """The last exploration, if there was one."""
        return {str(k): explored for k, explored in enumerate(self.explored) if explored is not None}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from another's exploration."""
        self.explored = [state[k].to(self.pools[0].device) if k in state else None for k in ("0", "1")]


@dataclass(frozen=True, eq=False)
class Known:
    """Where f is known beforehand.

    Attributes
    ----------
    boundary : (n, g, d) tensor
        Samples of {f = height} in groups of g neighbours, over which the mean of f is known: 1 of clean
        samples, more where they scatter about the surface.
    away : (k, d) tensor
        Points off it.
    distance : (k,) tensor
        f there.
    generator : torch.Generator
        On the device of the points.
    height : float
        f on the samples: 0 of a solid, m of a shell, whose samples are the class itself.
    """

    boundary: torch.Tensor
    away: torch.Tensor
    distance: torch.Tensor
    generator: torch.Generator
    height: float = 0.0

    def draw(self, n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return ⌊n/g⌋ groups of the boundary, n points off it and f there, drawn with replacement."""
        device, groups = self.boundary.device, max(1, n // self.boundary.shape[1])
        index = torch.randint(len(self.boundary), (groups,), generator=self.generator, device=device)
        off = torch.randint(len(self.away), (n,), generator=self.generator, device=device)
        return self.boundary[index], self.away[off], self.distance[off]

    @property
    def fixed(self) -> dict[str, torch.Tensor]:
        """All of it."""
        return {"boundary": self.boundary, "away": self.away, "distance": self.distance}
