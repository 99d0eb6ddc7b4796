"""The object users keep: a certified signed distance function in world units, negative inside.

Learning keeps the paper's f, positive on the data, in the unit frame; here it becomes
φ(x) = s·(c − f((x − t)/s)), with frame (t, s) and level c. The sign flip is the one line of `SDF.__call__`
that says so. φ inherits f's bound, so |φ(x)| never exceeds the distance from x to {φ = 0}: a lower bound of
the distance, never an overestimate. Of dense clean clouds spheres hold (c − f) to the samples (`spheres.py`),
which keeps all of that.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ocsdf3d.csg import Field
from ocsdf3d.frame import Frame
from ocsdf3d.geometry import Box, as_points
from ocsdf3d.lipschitz.certificate import Certificate, CertificateError, issue, verify
from ocsdf3d.lipschitz.network import LipschitzNetwork
from ocsdf3d.query import value_and_gradient
from ocsdf3d.spheres import Spheres

__all__ = ["SDF"]

Floats = NDArray[np.float64]

# Rows handed to the network at once. Fixed, so that a value does not depend on its neighbours in the batch
# (matrix products round differently for other shapes); 1,024 is also the fastest on a CPU, where activations
# stay in cache.
ROWS = {"cpu": 1024, "cuda": 262_144}
DTYPES = {"float32": torch.float32, "float64": torch.float64}
UNIT_ROUNDOFF = 2.0**-53


@dataclass(frozen=True, eq=False)
class SDF(Field):
    """A trained, certified signed distance function.

    Attributes
    ----------
    network : LipschitzNetwork
        f, as certified: its stored weights are what the proof is about.
    frame : Frame
        World ↔ unit frame.
    level : float
        c, in the unit frame.
    proof : Certificate
        What is promised of f, see `lipschitz.certificate`; `proved` makes one.
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
    spheres : Spheres or None
        What holds the field to the samples, in the unit frame; None where the network alone speaks.
    """

    kind: ClassVar[str] = "trained"

    network: LipschitzNetwork
    frame: Frame
    level: float
    proof: Certificate
    support: str
    support_reason: str
    box: Box
    settings: dict[str, Any] = field(default_factory=dict)
    history: dict[str, Any] = field(default_factory=dict)
    spheres: Spheres | None = None

    def __repr__(self) -> str:
        sides = " × ".join(f"{size:.4g}" for size in self.box.size)
        return f"SDF({self.support}, box {sides}, {self.device}; see `certificate`, `settings`, `history`)"

    @classmethod
    def proved(cls, network: LipschitzNetwork, frame: Frame, box: Box, **others: Any) -> SDF:
        """Return the field of a network whose certificate is issued here, for the ball around `box`.

        Raises
        ------
        CertificateError
            Nothing can be proved of this network.
        """
        return cls(network, frame, proof=issue(network, _radius(frame, box)), box=box, **others)

    def astype(self, dtype: str) -> SDF:
        """Return the same field computed in `"float64"`, rounding proved, or `"float32"`, twice as fast.

        Raises
        ------
        ValueError
            Another type: nothing below float32 is certified.
        """
        if dtype not in DTYPES:
            raise ValueError(f"`dtype` must be float32 or float64; got {dtype!r}: no other is certified.")
        network = LipschitzNetwork(self.network.config, torch.Generator().manual_seed(0))
        network.load_state_dict(self.network.state_dict())
        network = network.to(self.device, DTYPES[dtype]).requires_grad_(False)
        return dataclasses.replace(self, network=network, proof=issue(network, self.proof.radius))

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.network.head.device

    @property
    def lipschitz(self) -> float:
        """Proved upper bound L ≤ 1 of φ in real arithmetic: the frame has one scale, which keeps it."""
        return self.proof.lipschitz if self.spheres is None else max(self.proof.lipschitz, 1.0)

    @property
    def rounding(self) -> float:
        """ε of one value of φ in `box` [world units]; what it rests on is `certificate["basis"]`."""
        return self.rounding_within(self.box)

    def rounding_within(self, box: Box) -> float:
        """Return ε ≥ |computed φ − φ| for points of a box [world units]: of f, and of leaving its frame.

        Distances from spheres, in float64, are rounded a few times at the size of their coordinates; the
        median of rounded values errs by no more than the worst of them.
        """
        radius = _radius(self.frame, box)
        outside = 8.0 * UNIT_ROUNDOFF * (abs(self.level) + self.proof.magnitude + radius)
        if self.spheres is not None:
            outside += 8.0 * UNIT_ROUNDOFF * (radius + self.spheres.farthest)
        return self.frame.scale * (self.proof.rounding_at(radius) + outside) * (1.0 + 1e-12)

    @property
    def certificate(self) -> dict[str, Any]:
        """What is promised of φ, checked against the weights and the arithmetic as they are now.

        `certified`, `lipschitz`, `rounding` [world units], `basis` and `proved` (the a-priori rounding) and
        `dtype`, `hash`, `version`; for weights other than those of the proof `certified` False and `reason`.
        """
        try:
            verify(self.network, self.proof)
        except CertificateError as error:
            return {"certified": False, "reason": str(error)}
        return {
            "certified": True,
            "lipschitz": self.lipschitz,
            "rounding": self.rounding,
            "basis": self.proof.basis,
            "proved": self.proof.proved * self.frame.scale,
            "dtype": self.proof.dtype,
            "hash": self._hash,
            "version": self.proof.version,
        }

    def __call__(self, points: ArrayLike) -> Floats:
        """Return φ, (n,), at `points`, (n, 3) [world units]; negative inside."""
        x = as_points(points)
        values = self.level - self._apply(x, self.network)[:, 0]
        if self.spheres is not None:
            values = self.spheres.held(self._on_device(x), self._sent(values)).cpu().numpy()
        return self.frame.scale * values

    def gradient(self, points: ArrayLike) -> Floats:
        """Return ∇φ, (n, 3), at `points`, (n, 3); it points outward and its length is at most `lipschitz`."""
        x = as_points(points)
        if self.spheres is None:
            return -self._apply(x, lambda part: value_and_gradient(self.network, part)[1])
        both = self._apply(x, lambda part: torch.column_stack(value_and_gradient(self.network, part)))
        values, gradient = self._sent(self.level - both[:, 0]), self._sent(-both[:, 1:])
        return self.spheres.held_gradient(self._on_device(x), values, gradient).cpu().numpy()

    @property
    def _hash(self) -> str:
        if self.spheres is None:
            return self.proof.hash
        return hashlib.sha256(f"{self.proof.hash} {self.spheres.hash}".encode()).hexdigest()

    def _sent(self, values: Floats) -> torch.Tensor:
        return torch.as_tensor(values, dtype=torch.float64, device=self.device)

    def _on_device(self, x: Floats) -> torch.Tensor:
        """Return points in the unit frame, float64, where the network computes."""
        return self._sent(self.frame.to_unit(x))

    def _apply(self, points: ArrayLike, function: Any) -> Floats:
        """Return `function` of the network's inputs, (n, k), computed in tiles of a fixed number of rows."""
        x = as_points(points)
        rows = ROWS.get(self.device.type, ROWS["cuda"])
        unit = torch.as_tensor(self.frame.to_unit(x), dtype=self.network.head.dtype)
        if not torch.isfinite(unit).all():
            farthest = x[np.abs(x).max(axis=1).argmax()].tolist()
            raise ValueError(f"`points` are too far away for {unit.dtype}, such as {farthest}.")
        tiles = max(1, -(-len(unit) // rows))  # one even for no points: its shape is the answer's
        padded = torch.cat([unit, unit.new_zeros((tiles * rows - len(unit), 3))])
        results = []
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            for tile in padded.split(rows):
                value = function(tile.to(self.device))
                results.append(value.reshape(rows, -1).to("cpu", torch.float64))
        return torch.cat(results)[: len(x)].numpy()


def _radius(frame: Frame, box: Box) -> float:
    """Largest distance from the origin of the unit frame in a box [unit frame]."""
    corners = np.abs(frame.to_unit(np.stack([box.lower, box.upper])))
    return float(np.linalg.norm(corners.max(axis=0))) * (1.0 + 1e-12)
