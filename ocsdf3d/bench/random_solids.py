"""Random solids with known inside and exact surface samples: what `teach` shows the tetrahedron network.

A solid is the union of some parts less the union of others. A part's surface is sampled exactly and
uniformly; a sample stays when it lies on the surface of the whole: outside all other parts, or, on a part
taken away, inside the rest. No meshing, no tolerance. Walls, bars and wires are between a hundredth and a
quarter of the size, log-uniform, so that 2,048 points are often farther apart than the two sides of a wall.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Part", "Solid", "random_solid"]

Floats = NDArray[np.float64]
Random = np.random.Generator


@dataclass(frozen=True, eq=False)
class Part:
    """A primitive in its own axes.

    Attributes
    ----------
    kind : str
        `"box"` (half sides), `"cylinder"` and `"capsule"` (radius, half length along z), `"ellipsoid"` (half
        axes) or `"torus"` (major, minor radius around z).
    size : (k,) array
        As said.
    center : (3,) array
        Where.
    axes : (3, 3) array
        Columns are the part's axes.
    taken_away : bool
        Whether it is subtracted.
    """

    kind: str
    size: Floats
    center: Floats
    axes: Floats
    taken_away: bool = False

    def contains(self, x: Floats) -> NDArray[np.bool_]:
        """Return whether points (n, 3) lie inside, (n,)."""
        y, a = (x - self.center) @ self.axes, self.size
        across = np.hypot(y[:, 0], y[:, 1])
        if self.kind == "box":
            return np.asarray((np.abs(y) < a).all(axis=1))
        if self.kind == "cylinder":
            return (across < a[0]) & (np.abs(y[:, 2]) < a[1])
        if self.kind == "capsule":
            return np.hypot(across, np.maximum(np.abs(y[:, 2]) - a[1], 0.0)) < a[0]
        if self.kind == "torus":
            return np.hypot(across - a[0], y[:, 2]) < a[1]
        return ((y / a) ** 2).sum(axis=1) < 1.0

    def area(self) -> float:
        """Return the area of its surface (an ellipsoid's within 1 %, by Thomsen's formula)."""
        a = self.size
        if self.kind == "box":
            return float(8.0 * (a[0] * a[1] + a[1] * a[2] + a[0] * a[2]))
        if self.kind == "cylinder":
            return float(2.0 * np.pi * a[0] * (a[0] + 2.0 * a[1]))
        if self.kind == "capsule":
            return float(4.0 * np.pi * a[0] * (a[0] + a[1]))
        if self.kind == "torus":
            return float(4.0 * np.pi**2 * a[0] * a[1])
        b = a**1.6075
        return float(4.0 * np.pi * ((b[0] * b[1] + b[0] * b[2] + b[1] * b[2]) / 3.0) ** (1 / 1.6075))

    def surface(self, n: int, rng: Random) -> Floats:
        """Return n uniform samples of its surface, (n, 3)."""
        a = self.size
        angle = rng.uniform(0.0, 2.0 * np.pi, n)
        circle = np.stack([np.cos(angle), np.sin(angle), np.zeros(n)], axis=1)
        along = np.array([0.0, 0.0, 1.0])
        if self.kind == "box":
            pair = np.array([a[1] * a[2], a[0] * a[2], a[0] * a[1]])
            axis = rng.choice(3, n, p=pair / pair.sum())
            y = rng.uniform(-a, a, (n, 3))
            y[np.arange(n), axis] = a[axis] * rng.choice([-1.0, 1.0], n)
        elif self.kind == "cylinder":
            mantle = rng.random(n) < 2.0 * a[1] / (2.0 * a[1] + a[0])
            radius = np.where(mantle, a[0], a[0] * np.sqrt(rng.random(n)))
            z = np.where(mantle, rng.uniform(-a[1], a[1], n), a[1] * rng.choice([-1.0, 1.0], n))
            y = radius[:, None] * circle + z[:, None] * along
        elif self.kind == "capsule":
            mantle = rng.random(n) < a[1] / (a[1] + a[0])
            ball = directions(n, rng)
            cap = a[0] * ball + a[1] * np.sign(ball[:, 2:]) * along
            y = np.where(mantle[:, None], a[0] * circle + rng.uniform(-a[1], a[1], (n, 1)) * along, cap)
        elif self.kind == "torus":
            turn = rejected(
                lambda m: rng.uniform(0, 2 * np.pi, (m, 1)), lambda t: a[0] + a[1] * np.cos(t), n, rng
            )
            y = (a[0] + a[1] * np.cos(turn)) * circle + a[1] * np.sin(turn) * along
        else:
            stretch = rejected(lambda m: directions(m, rng), lambda u: np.linalg.norm(u / a, axis=1), n, rng)
            y = stretch * a
        return y @ self.axes.T + self.center


def directions(n: int, rng: Random) -> Floats:
    """Return n uniform unit vectors, (n, 3)."""
    u = rng.normal(size=(n, 3))
    return u / np.linalg.norm(u, axis=1, keepdims=True)


def rejected(
    draw: Callable[[int], Floats], density: Callable[[Floats], Floats], n: int, rng: Random
) -> Floats:
    """Return n draws thinned in proportion to a density (by its largest value among a thousand draws)."""
    top = 1.05 * density(draw(1000)).max()
    kept = draw(0)
    while len(kept) < n:
        more = draw(2 * n)
        kept = np.concatenate([kept, more[rng.random(2 * n) < density(more).ravel() / top]])
    return kept[:n]


@dataclass(frozen=True, eq=False)
class Solid:
    """Parts put together less parts taken away."""

    parts: list[Part]

    def contains(self, x: Floats) -> NDArray[np.bool_]:
        """Return whether points (n, 3) lie inside, (n,)."""
        whole, away = np.zeros(len(x), dtype=bool), np.zeros(len(x), dtype=bool)
        for part in self.parts:
            side = away if part.taken_away else whole
            side |= part.contains(x)
        return whole & ~away

    def surface(self, n: int, rng: Random) -> Floats:
        """Return n uniform samples of the surface, (n, 3).

        Raises
        ------
        ValueError
            When hardly any surface is left.
        """
        areas = np.array([part.area() for part in self.parts])
        for tries in range(6):
            counts = rng.multinomial(6 * n * 4**tries, areas / areas.sum())
            kept = []
            for part, count in zip(self.parts, counts, strict=True):
                x = part.surface(int(count), rng)
                others = Solid([other for other in self.parts if other is not part])
                away = np.zeros(len(x), dtype=bool)
                for other in others.parts:
                    if other.taken_away or not part.taken_away:
                        away |= other.contains(x)
                kept.append(x[~away & (others.contains(x) if part.taken_away else True)])
            points = np.concatenate(kept)
            if len(points) >= n:
                return points[rng.permutation(len(points))[:n]]
        raise ValueError(f"fewer than {n} of {counts.sum()} samples lie on the surface of the whole.")


def random_solid(rng: Random) -> Solid:
    """Return a solid of one of six families, about 1 in size and turned at random."""
    families = (machined, furniture, wires, blobs, hollow, repeated)
    parts = families[rng.integers(len(families))](rng)
    turn = rotation(rng)
    return Solid([Part(p.kind, p.size, turn @ p.center, turn @ p.axes, p.taken_away) for p in parts])


def rotation(rng: Random) -> Floats:
    """Return a uniform rotation, (3, 3)."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q *= np.sign(np.diagonal(r))
    return q if np.linalg.det(q) > 0 else -q


def thickness(rng: Random) -> float:
    """Return a log-uniform wall."""
    return float(np.exp(rng.uniform(np.log(0.012), np.log(0.25))))


def _part(kind: str, size: object, center: object, axes: Floats | None = None, away: bool = False) -> Part:
    return Part(
        kind,
        np.asarray(size, dtype=np.float64),
        np.asarray(center, dtype=np.float64),
        np.eye(3) if axes is None else axes,
        away,
    )


def _permuted(rng: Random) -> Floats:
    return np.eye(3)[:, rng.permutation(3)]


def machined(rng: Random) -> list[Part]:
    """Return a few blocks, plates, rods and rings with holes and pockets."""
    parts = []
    for _ in range(rng.integers(1, 5)):
        kind = rng.choice(["box", "cylinder", "cylinder", "ellipsoid", "torus"])
        size = rng.uniform(0.1, 0.6, 3)
        if rng.random() < 0.4:
            size[rng.integers(3)] = 0.5 * thickness(rng)
        if kind == "torus":
            size = np.array([rng.uniform(0.25, 0.6), 0.6 * thickness(rng)])
        axes = _permuted(rng) if rng.random() < 0.6 else rotation(rng)
        parts.append(_part(kind, size, rng.uniform(-0.5, 0.5, 3), axes))
    for _ in range(rng.integers(0, 6)):
        kind = rng.choice(["box", "cylinder", "cylinder"])
        size = rng.uniform(0.05, 0.4, 3)
        if kind == "cylinder":
            size = np.array([rng.uniform(0.04, 0.3), rng.uniform(0.2, 1.0)])
        parts.append(_part(kind, size, rng.uniform(-0.6, 0.6, 3), _permuted(rng), away=True))
    return parts


def furniture(rng: Random) -> list[Part]:
    """Return a seat or table: a plate on four legs, perhaps with a back, slats and shelves."""
    w, d = rng.uniform(0.3, 0.7, 2)
    parts = [_part("box", [w, d, 0.5 * thickness(rng)], [0, 0, 0])]
    for x in (-1, 1):
        for y in (-1, 1):
            r, length = 0.4 * thickness(rng), rng.uniform(0.3, 0.7)
            at = [x * (w - r), y * (d - r), -length]
            round_leg = rng.random() < 0.5
            parts.append(
                _part("cylinder", [r, length], at) if round_leg else _part("box", [r, r, length], at)
            )
    if rng.random() < 0.7:
        b, height = 0.5 * thickness(rng), rng.uniform(0.2, 0.7)
        if rng.random() < 0.5:
            parts.append(_part("box", [w, b / 2, height], [0, d - b, height]))
        else:
            bars = np.linspace(b - w, w - b, rng.integers(3, 8))
            parts += [_part("box", [b / 2, b / 2, height], [x, d - b, height]) for x in bars]
            parts.append(_part("box", [w, b / 2, b], [0, d - b, 2 * height]))
    if rng.random() < 0.4:
        levels = np.linspace(0.2, 0.9, rng.integers(1, 4))
        parts += [_part("box", [w, d, 0.5 * thickness(rng)], [0, 0, -z]) for z in levels]
    return parts


def wires(rng: Random) -> list[Part]:
    """Return rods between random knots."""
    knots, radius, parts = rng.uniform(-0.7, 0.7, (rng.integers(4, 12), 3)), 0.7 * thickness(rng), []
    for _ in range(rng.integers(4, 22)):
        i, j = rng.choice(len(knots), 2, replace=False)
        length = np.linalg.norm(knots[j] - knots[i])
        z = (knots[j] - knots[i]) / length
        x = np.cross(z, rng.normal(size=3))
        x /= np.linalg.norm(x)
        kind = "capsule" if rng.random() < 0.7 else "cylinder"
        size = [radius * rng.uniform(0.7, 1.4), length / 2]
        parts.append(_part(kind, size, (knots[i] + knots[j]) / 2, np.stack([x, np.cross(z, x), z], axis=1)))
    return parts


def blobs(rng: Random) -> list[Part]:
    """Return ellipsoids of all proportions with a few limbs."""
    parts = []
    for _ in range(rng.integers(1, 9)):
        size = np.exp(rng.uniform(np.log(0.05), np.log(0.6), 3))
        parts.append(_part("ellipsoid", size, rng.uniform(-0.5, 0.5, 3), rotation(rng)))
    for _ in range(rng.integers(0, 5)):
        limb = [0.7 * thickness(rng), rng.uniform(0.2, 0.6)]
        parts.append(_part("capsule", limb, rng.uniform(-0.3, 0.3, 3), rotation(rng)))
    return parts


def hollow(rng: Random) -> list[Part]:
    """Return boxes, cans and bowls with walls, some of them open, perhaps with a hole drilled through."""
    wall, parts = 0.6 * thickness(rng), []
    for _ in range(rng.integers(1, 3)):
        kind, at, axes = (
            rng.choice(["box", "cylinder", "ellipsoid"]),
            rng.uniform(-0.3, 0.3, 3),
            _permuted(rng),
        )
        size = rng.uniform(0.25, 0.7, 2 if kind == "cylinder" else 3)
        parts.append(_part(kind, size, at, axes))
        inner = np.maximum(size - wall, 0.02)
        lift = 0.0
        if kind == "ellipsoid":
            parts.append(_part("box", [1, 1, 0.5], at + 0.5 * axes[:, 2], axes, away=True))
        elif rng.random() < 0.5:
            lift = 1.5 * wall
        parts.append(_part(kind, inner, at + lift * axes[:, 2], axes, away=True))
    if rng.random() < 0.6:
        drill = [rng.uniform(0.05, 0.2), 1.0]
        parts.append(_part("cylinder", drill, rng.uniform(-0.2, 0.2, 3), _permuted(rng), away=True))
    return parts


def repeated(rng: Random) -> list[Part]:
    """Return fins on a base, a lattice, or rings on a rod."""
    t, n, kind = 0.5 * thickness(rng), int(rng.integers(2, 6)), rng.integers(3)
    if kind == 0:
        parts = [_part("box", [0.6, 0.4, t], [0, 0, -0.3])]
        for x in np.linspace(-0.5, 0.5, n + 2):
            parts.append(_part("box", [0.5 * t * rng.uniform(0.6, 1.4), 0.4, 0.3], [x, 0, 0]))
        return parts
    if kind == 1:
        parts = []
        for x in np.linspace(-0.5, 0.5, n):
            parts += [_part("box", [t, t, 0.6], [x, 0, 0]), _part("box", [0.6, t, t], [0, 0, x])]
        if rng.random() < 0.5:
            parts += [_part("box", [t, 0.5, t], [x, 0.5, x]) for x in np.linspace(-0.5, 0.5, n)]
        return parts
    parts = [_part("torus", [rng.uniform(0.3, 0.6), t], [0, 0, z]) for z in np.linspace(-0.4, 0.4, n)]
    return [*parts, _part("cylinder", [2 * t, 0.6], [rng.uniform(0.3, 0.5), 0, 0])]
