"""The object users keep: a certified signed distance function in world units, negative inside.

Learning keeps the paper's f, positive on the data, in the unit frame; here it becomes
φ(x) = s·(c − f((x − t)/s)), with frame (t, s) and level c. The sign flip is the one line of `SDF.__call__`
that says so. φ inherits f's bound, so |φ(x)| never exceeds the distance from x to {φ = 0}: a lower bound of
the distance, never an overestimate.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import trimesh
from numpy.typing import ArrayLike, NDArray

from ocsdf3d import grid, surface
from ocsdf3d.frame import Frame
from ocsdf3d.geometry import Box
from ocsdf3d.lipschitz.network import LipschitzNetwork
from ocsdf3d.query import value_and_gradient

__all__ = ["SDF"]

Floats = NDArray[np.float64]

# Rows handed to the network at once. Fixed, so that a value does not depend on its neighbours in the batch
# (matrix products round differently for other shapes); 1,024 is also the fastest on a CPU, where activations
# stay in cache.
ROWS = {"cpu": 1024, "cuda": 262_144}

# Allowance for float32 rounding of one value of f, in the unit frame. Basis: the largest difference to a
# float64 evaluation seen over trained 8 × 128 and 4 × 512 networks is 5e-7 (`tests/test_field.py` repeats
# it); times 10.
FLOAT32_ROUNDING = 5e-6


@dataclass(frozen=True, eq=False)
class SDF:
    """A trained, certified signed distance function.

    Attributes
    ----------
    network : LipschitzNetwork
        f, as certified: its stored weights are what `lipschitz` bounds.
    frame : Frame
        World ↔ unit frame.
    level : float
        c, in the unit frame.
    lipschitz : float
        Proved upper bound L ≤ 1 of φ in real arithmetic.
    support : str
        `"solid"` or `"shell"`; a shell's zero set has two sheets, one on each side of the points.
    support_reason : str
        Why.
    box : Box
        Where the surface lies; meshing cuts φ off at its faces [world units].
    settings : dict
        What the field was trained with.
    history : dict
        `steps`, `interrupted`, `seconds`, `curves`.
    """

    network: LipschitzNetwork
    frame: Frame
    level: float
    lipschitz: float
    support: str
    support_reason: str
    box: Box
    settings: dict[str, Any] = field(default_factory=dict)
    history: dict[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.network.head.device

    @property
    def rounding(self) -> float:
        """Allowance for the float32 rounding of one value of φ [world units]; measured, not proved."""
        return FLOAT32_ROUNDING * self.frame.scale

    @property
    def certificate(self) -> dict[str, Any]:
        """What is claimed: `lipschitz` (proved), `rounding` (measured, world units) and their `dtype`."""
        return {
            "lipschitz": self.lipschitz,
            "rounding": self.rounding,
            "dtype": str(self.network.head.dtype).removeprefix("torch."),
        }

    def __call__(self, points: ArrayLike) -> Floats:
        """Return φ, (n,), at `points`, (n, 3) [world units]; negative inside."""
        f = self._apply(points, self.network)
        return self.frame.scale * (self.level - f[:, 0])

    def gradient(self, points: ArrayLike) -> Floats:
        """Return ∇φ, (n, 3), at `points`, (n, 3); it points outward and its length is at most `lipschitz`."""
        return -self._apply(points, lambda x: value_and_gradient(self.network, x)[1])

    def _apply(self, points: ArrayLike, function: Any) -> Floats:
        """Return `function` of the network's inputs, (n, k), computed in tiles of a fixed number of rows."""
        x = np.asarray(points, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != 3 or not np.isfinite(x).all():
            raise ValueError(f"`points` must be (n, 3) and finite; got shape {x.shape}.")
        rows = ROWS.get(self.device.type, ROWS["cuda"])
        unit = torch.as_tensor(self.frame.to_unit(x), dtype=torch.float32)
        tiles = max(1, -(-len(unit) // rows))  # one even for no points: its shape is the answer's
        padded = torch.cat([unit, unit.new_zeros((tiles * rows - len(unit), 3))])
        results = []
        with torch.no_grad():
            for tile in padded.split(rows):
                value = function(tile.to(self.device))
                results.append(value.reshape(rows, -1).to("cpu", torch.float64))
        return torch.cat(results)[: len(x)].numpy()

    def mesh(
        self,
        resolution: int = 200,
        offset: float = 0.0,
        dense: bool = False,
        progress: grid.Progress | None = None,
    ) -> trimesh.Trimesh:
        """Return the closed mesh of {φ = offset}.

        Parameters
        ----------
        resolution : int
            Grid nodes along the longest side of `box`.
        offset : float
            Above 0 grows the support by that distance, below 0 shrinks it [world units].
        dense : bool
            Evaluate every node; by default blocks that are proved to hold no surface are skipped. Same mesh.
        progress : callable, optional
            (done, total) → None, in evaluations.

        Returns
        -------
        trimesh.Trimesh
            Closed, faces outward. `metadata` has `evaluations`, `dense_evaluations`, `sheet` and
            `resolution`.

        Raises
        ------
        EmptyLevelSetError
            φ does not reach `offset` in the box.
        ResolutionError
            The grid does not fit in free memory.

        Notes
        -----
        What is meshed is max(φ, distance beyond the box): an intersection, so it keeps the bound L ≤ 1, and
        it closes a level set that would leave the box.
        """
        inner = self.box.expanded(max(offset, 0.0))
        outer = inner.expanded(2.0 * inner.longest / max(resolution - 1, 1))

        def capped(points: Floats) -> Floats:
            beyond = np.maximum(inner.lower - points, points - inner.upper).max(axis=1)
            return np.maximum(self(points), beyond + offset)

        values = grid.sample(
            capped,
            outer,
            resolution,
            lipschitz=None if dense else max(self.lipschitz, 1.0),
            level=offset,
            allowance=self.rounding,
            progress=progress,
        )
        mesh = surface.extract(values, level=offset)
        mesh.metadata.update(
            evaluations=int(values.evaluations),
            dense_evaluations=int(values.dense_evaluations),
            resolution=resolution,
            sheet="outer" if self.support == "solid" else "both",
        )
        return mesh
