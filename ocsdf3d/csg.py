"""Constructive solid geometry: what certified fields become together, before there are any triangles.

min and max of L-Lipschitz functions are L-Lipschitz, so unions, intersections and differences stay certified,
and everything that `certified` offers works on them: meshing, tracing, volumes. They are signed distance
*bounds*: |φ| never exceeds the distance to the surface, and equals it in fewer places than before.
"""

from __future__ import annotations

import dataclasses
import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from ocsdf3d.certified import ULP, Certified, Floats
from ocsdf3d.geometry import Box, as_points

__all__ = [
    "Complement",
    "Difference",
    "Field",
    "Intersection",
    "Move",
    "Offset",
    "Scale",
    "Shell",
    "Union",
]


class Field(Certified):
    """A certified field with operators: `a | b`, `a & b`, `a - b`, `~a`; and with offsets and the like."""

    def __or__(self, other: Field) -> Union:
        return Union((self, other))

    def __and__(self, other: Field) -> Intersection:
        return Intersection((self, other))

    def __sub__(self, other: Field) -> Difference:
        return Difference((self, other))

    def __invert__(self) -> Complement:
        return Complement((self,))

    if TYPE_CHECKING:

        @property
        def kind(self) -> str:
            """What it is called in a file."""

        @property
        def settings(self) -> dict[str, Any]:
            """The numbers that make it."""

    @property
    def bounded(self) -> bool:
        """Whether the solid lies in `box`, not its surface alone: False for complements."""
        return True

    @abstractmethod
    def astype(self, dtype: str) -> Field:
        """Return the field with its networks computed in `"float32"` or `"float64"`."""

    def offset(self, distance: float) -> Offset:
        """Return the solid grown by at least `distance`, or for a negative one shrunk [world units]."""
        return Offset((self,), float(distance))

    def shell(self, thickness: float) -> Shell:
        """Return the skin around the surface, half of `thickness` to either side, or more [world units]."""
        return Shell((self,), float(thickness))

    def scale(self, factor: float) -> Scale:
        """Return the solid scaled about the origin; the bound L stays."""
        return Scale((self,), float(factor))

    def move(self, by: ArrayLike) -> Move:
        """Return the solid moved by a vector, (3,) [world units]."""
        return Move((self,), _vector(by))

    def _largest_within(self, box: Box) -> float:
        """Return a bound of |φ| in a box: L times the way to the field's own box and through it."""
        return self.lipschitz * self.box.joined(box).diagonal


@dataclass(frozen=True, eq=False)
class Node(Field):
    """What the nodes of a tree share: parts, and a certificate made of theirs."""

    kind: ClassVar[str]
    arity: ClassVar[int | None]  # None: any number

    parts: tuple[Field, ...]

    def __post_init__(self) -> None:
        wrong = self.arity is not None and len(self.parts) != self.arity
        if wrong or not all(isinstance(part, Field) for part in self.parts):
            given = ", ".join(type(part).__name__ for part in self.parts)
            takes = "" if self.arity is None else f"{self.arity} "
            raise TypeError(f"{self.kind} takes {takes}certified field(s); got {given}.")

    @property
    def support(self) -> str:
        """What min and max make is a solid."""
        return "solid"

    @property
    def lipschitz(self) -> float:
        """Largest bound of the parts: minima, maxima, shifts and similarities keep it."""
        return max(part.lipschitz for part in self.parts)

    @property
    def settings(self) -> dict[str, Any]:
        """What the node is, beside its parts."""
        return {name: value for name, value in self.__dict__.items() if name != "parts"}

    @property
    def certificate(self) -> dict[str, Any]:
        """Return what holds of the tree: `certified` only if all parts are, `hash` over kinds and parts."""
        parts = [part.certificate for part in self.parts]
        reasons = [found["reason"] for found in parts if not found["certified"]]
        if reasons:
            return {"certified": False, "reason": reasons[0]}
        named = f"{self.kind} {sorted(self.settings.items())} {[found['hash'] for found in parts]}"
        return {
            "certified": True,
            "lipschitz": self.lipschitz,
            "rounding": self.rounding_within(self.box),
            "basis": "measured" if any(found["basis"] == "measured" for found in parts) else "proved",
            "dtype": _listed(found["dtype"] for found in parts),
            "hash": hashlib.sha256(named.encode()).hexdigest(),
        }

    @property
    def device(self) -> str:
        """Where the parts are computed."""
        return _listed(str(part.device) for part in self.parts)

    def astype(self, dtype: str) -> Field:
        """Return the same tree, its networks computed in `"float32"` or `"float64"`."""
        return dataclasses.replace(self, parts=tuple(part.astype(dtype) for part in self.parts))

    def rounding_within(self, box: Box) -> float:
        """Return ε of the values in a box: minima and maxima round nothing."""
        return max(part.rounding_within(box) for part in self.parts)

    def _largest_within(self, box: Box) -> float:
        return max(part._largest_within(box) for part in self.parts)

    def _values(self, points: ArrayLike) -> list[Floats]:
        x = as_points(points)
        return [part(x) for part in self.parts]


class Union(Node):
    """min(a, b): what is in either."""

    kind, arity = "union", 2

    def __call__(self, points: ArrayLike) -> Floats:
        """Return φ, (n,), at `points`, (n, 3)."""
        one, two = self._values(points)
        return np.minimum(one, two)

    def gradient(self, points: ArrayLike) -> Floats:
        """Return that of the smaller value, (n, 3)."""
        one, two = self._values(points)
        a, b = (part.gradient(points) for part in self.parts)
        return np.where((one <= two)[:, None], a, b)

    @property
    def box(self) -> Box:
        """Around both boxes."""
        one, two = self.parts
        return one.box.joined(two.box)

    @property
    def bounded(self) -> bool:
        """Whether both are."""
        return all(part.bounded for part in self.parts)


class Intersection(Node):
    """max(a, b): what is in both."""

    kind, arity = "intersection", 2

    def __call__(self, points: ArrayLike) -> Floats:
        """Return φ, (n,), at `points`, (n, 3)."""
        one, two = self._values(points)
        return np.maximum(one, two)

    def gradient(self, points: ArrayLike) -> Floats:
        """Return that of the larger value, (n, 3)."""
        one, two = self._values(points)
        a, b = (part.gradient(points) for part in self.parts)
        return np.where((one >= two)[:, None], a, b)

    @property
    def box(self) -> Box:
        """Where both boxes are; that of the other part if one is not bounded, around both if neither is.

        Raises
        ------
        ValueError
            They do not meet, so nothing is in both.
        """
        one, two = self.parts
        a, b = one.box, two.box
        if not (one.bounded and two.bounded):
            return a if one.bounded else b if two.bounded else a.joined(b)
        lower, upper = np.maximum(a.lower, b.lower), np.minimum(a.upper, b.upper)
        if (lower >= upper).any():
            raise ValueError("the intersection is empty: the boxes of the two fields do not meet.")
        return Box(lower, upper)

    @property
    def bounded(self) -> bool:
        """Whether one of them is."""
        return any(part.bounded for part in self.parts)


class Difference(Node):
    """max(a, −b): what is in a and not in b."""

    kind, arity = "difference", 2

    def __call__(self, points: ArrayLike) -> Floats:
        """Return φ, (n,), at `points`, (n, 3)."""
        one, two = self._values(points)
        return np.maximum(one, -two)

    def gradient(self, points: ArrayLike) -> Floats:
        """Return ∇a or −∇b, (n, 3), whichever value is larger."""
        one, two = self._values(points)
        a, b = (part.gradient(points) for part in self.parts)
        return np.where((one >= -two)[:, None], a, -b)

    @property
    def box(self) -> Box:
        """That of a; if a is not bounded, that of b, or around both if b is."""
        a, b = self.parts
        if a.bounded:
            return a.box
        return a.box.joined(b.box) if b.bounded else b.box

    @property
    def bounded(self) -> bool:
        """Whether a is, or b is not."""
        return self.parts[0].bounded or not self.parts[1].bounded


class Complement(Node):
    """−a: everything but a. Its mesh ends where its box does, a tenth wider than that of a."""

    kind, arity = "complement", 1

    def __call__(self, points: ArrayLike) -> Floats:
        """Return φ, (n,), at `points`, (n, 3)."""
        return -self.parts[0](points)

    def gradient(self, points: ArrayLike) -> Floats:
        """Return −∇a, (n, 3)."""
        return -self.parts[0].gradient(points)

    @property
    def box(self) -> Box:
        """A tenth of the longest side wider than that of a."""
        box = self.parts[0].box
        return box.expanded(0.1 * box.longest)

    @property
    def bounded(self) -> bool:
        """Whether a is not."""
        return not self.parts[0].bounded


@dataclass(frozen=True, eq=False)
class Offset(Node):
    """a − distance: every point of its surface is at least |distance| from that of a."""

    kind, arity = "offset", 1

    distance: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _finite(self.distance, "distance")

    def __call__(self, points: ArrayLike) -> Floats:
        """Return φ, (n,), at `points`, (n, 3)."""
        return self.parts[0](points) - self.distance

    def gradient(self, points: ArrayLike) -> Floats:
        """Return ∇a, (n, 3)."""
        return self.parts[0].gradient(points)

    @property
    def box(self) -> Box:
        """That of a, grown with the solid, or with the hole in one that is not bounded."""
        part = self.parts[0]
        return part.box.expanded(max(self.distance, 0.0 if part.bounded else -self.distance))

    @property
    def bounded(self) -> bool:
        """Whether a is."""
        return self.parts[0].bounded

    def rounding_within(self, box: Box) -> float:
        """Return ε of the values in a box: one subtraction more than a."""
        return self.parts[0].rounding_within(box) + ULP * self._largest_within(box)

    def _largest_within(self, box: Box) -> float:
        return self.parts[0]._largest_within(box) + abs(self.distance)


@dataclass(frozen=True, eq=False)
class Shell(Node):
    """|a| − thickness/2: a skin with two sheets."""

    kind, arity = "shell", 1

    thickness: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self.thickness, "thickness")

    def __call__(self, points: ArrayLike) -> Floats:
        """Return φ, (n,), at `points`, (n, 3)."""
        return np.abs(self.parts[0](points)) - 0.5 * self.thickness

    def gradient(self, points: ArrayLike) -> Floats:
        """Return ±∇a, (n, 3)."""
        return np.where(self.parts[0](points) < 0.0, -1.0, 1.0)[:, None] * self.parts[0].gradient(points)

    @property
    def box(self) -> Box:
        """That of a, grown by half of the thickness."""
        return self.parts[0].box.expanded(0.5 * self.thickness)

    def rounding_within(self, box: Box) -> float:
        """Return ε of the values in a box: one subtraction more than a."""
        return self.parts[0].rounding_within(box) + ULP * self._largest_within(box)

    def _largest_within(self, box: Box) -> float:
        return self.parts[0]._largest_within(box) + self.thickness


@dataclass(frozen=True, eq=False)
class Scale(Node):
    """s · a(x / s), s = factor: similar to a about the origin."""

    kind, arity = "scale", 1

    factor: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self.factor, "factor")

    def __call__(self, points: ArrayLike) -> Floats:
        """Return φ, (n,), at `points`, (n, 3)."""
        return self.factor * self.parts[0](as_points(points) / self.factor)

    def gradient(self, points: ArrayLike) -> Floats:
        """Return ∇a at x / s, (n, 3)."""
        return self.parts[0].gradient(as_points(points) / self.factor)

    @property
    def box(self) -> Box:
        """That of a, scaled."""
        box = self.parts[0].box
        return Box(self.factor * box.lower, self.factor * box.upper)

    @property
    def bounded(self) -> bool:
        """Whether a is."""
        return self.parts[0].bounded

    def rounding_within(self, box: Box) -> float:
        """Return ε of the values in a box: the last place of a coordinate and of a value more than s · ε."""
        inner, part = self._before(box), self.parts[0]
        places = 2.0 * ULP * self.factor * (part.lipschitz * inner.farthest + part._largest_within(inner))
        return self.factor * part.rounding_within(inner) * (1.0 + 4.0 * ULP) + places

    def _largest_within(self, box: Box) -> float:
        return self.factor * self.parts[0]._largest_within(self._before(box))

    def _before(self, box: Box) -> Box:
        return Box(box.lower / self.factor, box.upper / self.factor)


@dataclass(frozen=True, eq=False)
class Move(Node):
    """a(x − by)."""

    kind, arity = "move", 1

    by: tuple[float, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if np.shape(self.by) != (3,) or not np.isfinite(self.by).all():
            raise ValueError(f"`by` must be three finite numbers; got {np.asarray(self.by).tolist()}.")

    def __call__(self, points: ArrayLike) -> Floats:
        """Return φ, (n,), at `points`, (n, 3)."""
        return self.parts[0](as_points(points) - np.array(self.by))

    def gradient(self, points: ArrayLike) -> Floats:
        """Return ∇a at x − by, (n, 3)."""
        return self.parts[0].gradient(as_points(points) - np.array(self.by))

    @property
    def box(self) -> Box:
        """That of a, moved."""
        box = self.parts[0].box
        return Box(box.lower + np.array(self.by), box.upper + np.array(self.by))

    @property
    def bounded(self) -> bool:
        """Whether a is."""
        return self.parts[0].bounded

    def rounding_within(self, box: Box) -> float:
        """Return ε of the values in a box: the last place of a coordinate more than a."""
        inner, part = self._before(box), self.parts[0]
        return part.rounding_within(inner) + 2.0 * ULP * part.lipschitz * inner.farthest

    def _largest_within(self, box: Box) -> float:
        return self.parts[0]._largest_within(self._before(box))

    def _before(self, box: Box) -> Box:
        return Box(box.lower - np.array(self.by), box.upper - np.array(self.by))


KINDS: dict[str, type[Node]] = {
    node.kind: node for node in (Union, Intersection, Difference, Complement, Offset, Shell, Scale, Move)
}


def combined(kind: str, parts: Sequence[Field], settings: dict[str, Any]) -> Node:
    """Return the node of that kind, as read from a file.

    Raises
    ------
    ValueError
        No such kind, or settings that are not its own.
    """
    if kind not in KINDS:
        raise ValueError(f"`kind` must be one of {', '.join(KINDS)}; got {kind!r}.")
    if "by" in settings:
        settings = {**settings, "by": _vector(settings["by"])}
    try:
        return KINDS[kind](tuple(parts), **settings)
    except TypeError as error:
        raise ValueError(f"{kind}: {error}") from None


def _listed(names: Iterable[str]) -> str:
    """Each name once; those of a part may be several already."""
    return " and ".join(sorted({name for given in names for name in given.split(" and ")}))


def _vector(value: ArrayLike) -> tuple[float, ...]:
    return tuple(np.atleast_1d(np.asarray(value, dtype=np.float64)).tolist())


def _finite(value: float, name: str) -> None:
    if not np.isfinite(value):
        raise ValueError(f"`{name}` must be finite; got {value}.")


def _positive(value: float, name: str) -> None:
    if not 0.0 < value < np.inf:
        raise ValueError(f"`{name}` must be positive and finite; got {value}.")
