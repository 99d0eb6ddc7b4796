"""Trees of fields: formulas, bounds, boxes, meshes and certificates, against shapes whose answer is known."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction

import igl
import numpy as np
import pytest
import torch
import trimesh

from ocsdf3d.analytic import Cuboid, box, capsule, sphere, torus
from ocsdf3d.csg import KINDS, Field, Node, Offset, Union, combined
from ocsdf3d.field import SDF
from ocsdf3d.frame import Frame
from ocsdf3d.geometry import Box
from ocsdf3d.grid import sample
from ocsdf3d.lipschitz.certificate import CertificateError
from ocsdf3d.surface import EmptyLevelSetError, extract

A = sphere(0.8, (0.1, -0.2, 0.3))
B = box((1.1, 0.7, 0.9), (0.5, 0.1, 0.2))
C = torus(0.6, 0.2, (0.2, 0.1, 0.1))
D = capsule((-0.3, -0.2, -1.0), (0.4, 0.3, 1.0), 0.25)
BY = np.array([5.0, -2.0, 9.0])
UP = np.array([0.0, 0.0, 1.0])
NODES: dict[str, Node] = {
    "union": A | B,
    "intersection": A & B,
    "difference": A - B,
    "complement": ~A,
    "offset": B.offset(0.15),
    "shrunk": B.offset(-0.1),
    "shell": C.shell(0.1),
    "scale": B.scale(37.0),
    "move": A.move(BY),
    "tree": ((A | B) & C.offset(0.1)) - D,
    "outside in": A & ~D,
    "hollow": (A | D).shell(0.1).scale(0.5).move(BY),
}


@pytest.fixture(params=NODES, name="name")
def _name(request: pytest.FixtureRequest) -> str:
    return request.param


def uniform(count: int, region: Box, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(region.lower, region.upper, (count, 3))


def norms(vectors: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vectors, axis=1)


def wide(field: Field) -> Box:
    return field.box.expanded(0.4 * field.box.longest)


def to_mesh(points: np.ndarray, mesh: trimesh.Trimesh) -> np.ndarray:
    """Distances to the triangles."""
    square = igl.point_mesh_squared_distance(points, np.array(mesh.vertices), np.array(mesh.faces))[0]
    return np.sqrt(square)


def same_mesh(a: trimesh.Trimesh, b: trimesh.Trimesh) -> bool:
    return all(getattr(a, n).tobytes() == getattr(b, n).tobytes() for n in ("vertices", "faces"))


def ball_volume(r: float) -> float:
    return 4 / 3 * math.pi * r**3


# ---------------------------------------------------------------------------------------------- formulas


def test_values_follow_their_formulas() -> None:
    x = uniform(2000, wide(A | B))
    a, b, c = A(x), B(x), C(x)
    expected = {
        "union": np.minimum(a, b),
        "intersection": np.maximum(a, b),
        "difference": np.maximum(a, -b),
        "complement": -a,
        "offset": b - 0.15,
        "shrunk": b + 0.1,
        "shell": np.abs(c) - 0.05,
        "scale": 37.0 * B(x / 37.0),
        "move": A(x - BY),
        "tree": np.maximum(np.maximum(np.minimum(a, b), c - 0.1), -D(x)),
        "outside in": np.maximum(a, -D(x)),
        "hollow": 0.5 * (np.abs(np.minimum(A((x - BY) / 0.5), D((x - BY) / 0.5))) - 0.05),
    }
    assert set(expected) == set(NODES)
    for name, values in expected.items():
        found = NODES[name](x)
        assert found.shape == (2000,)
        assert found.tobytes() == values.tobytes(), name
    for one, other in (("union", "intersection"), ("union", "difference"), ("intersection", "difference")):
        assert (expected[one] != expected[other]).any()  # neither operand decides everywhere


def test_gradients_are_slopes(name: str) -> None:
    """Central differences; a kink within 1e-6 of one of 1000 random points has odds of some 1e-3."""
    field = NODES[name]
    h = 1e-6 * field.box.longest
    x = uniform(1000, wide(field))
    steps = h * np.eye(3)
    slopes = np.stack([(field(x + step) - field(x - step)) / (2 * h) for step in steps], axis=1)
    # Values of some 10 are rounded by 2e-15, 2e-15 / 1e-6 of a slope; curvature enters with h².
    assert np.abs(field.gradient(x) - slopes).max() < 1e-7
    assert norms(field.gradient(x)) == pytest.approx(1.0, abs=1e-12)


def test_gradients_where_parts_tie() -> None:
    """On the plane between two equal balls both have the same value: one of the two, not their mean."""
    one, other = sphere(0.5, (-0.3, 0, 0)), sphere(0.5, (0.3, 0, 0))
    x = np.array([[0.0, 1.0, 0.0], [0.0, 0.1, -0.2]])
    for node in (one | other, one & other):
        assert (node.gradient(x) == one.gradient(x)).all()
    assert (B.shell(0.1).gradient([[0.5, 0.1, 9.0], [0.5, 0.1, 0.64]]) == [[0, 0, 1], [0, 0, -1]]).all()


def test_points_are_checked(name: str) -> None:
    for ask in (NODES[name], NODES[name].gradient):
        assert len(ask(np.zeros((0, 3)))) == 0
        with pytest.raises(ValueError, match=r"must be \(n, 3\) and finite; got shape \(3,\)"):
            ask([0.0, 0.0, 0.0])


# ---------------------------------------------------------------------------------------------- the bound


def steepest(field: Field, count: int = 4000) -> float:
    """Largest slope over random pairs, and over pairs a thousandth apart where |φ| is smallest."""
    region = wide(field)
    x, y = uniform(count, region, 1), uniform(count, region, 2)
    near = x[np.argsort(np.abs(field(x)))[: count // 4]]
    way = np.random.default_rng(3).normal(size=near.shape)
    uphill = field.gradient(near)
    close = [near + 1e-3 * region.longest * w / norms(w)[:, None] for w in (way, uphill)]
    one, other = np.concatenate([x, near, near]), np.concatenate([y, *close])
    rounded = 2.0 * field.rounding_within(region)
    return float(((np.abs(field(one) - field(other)) - rounded) / norms(one - other)).max())


def test_exact_trees_keep_the_bound_and_reach_it(name: str) -> None:
    assert NODES[name].lipschitz == 1.0
    assert 0.999 < steepest(NODES[name]) <= 1.0 + 1e-12  # float64 sums of the test itself


def test_trees_with_networks_keep_the_bound(born: Callable[..., SDF]) -> None:
    one, other = born(0), born(1, width=16, depth=3, frame=Frame(np.array([0.3, 0.2, 0.1]), 0.7))
    for field in (
        one | other,
        one & other.scale(2.0),
        one - other,
        ~one,
        one.shell(0.2),
        ((one | A) & other.offset(0.1)).move(BY) - D.move(BY),
    ):
        assert 0.999 < field.lipschitz <= 1.0
        assert 0.3 < steepest(field) <= field.lipschitz + 1e-12
    assert (one | other).lipschitz == max(one.lipschitz, other.lipschitz)
    assert (one | A).lipschitz == 1.0


def test_a_sum_would_not_keep_it() -> None:
    """Negative control: of two fields of slope 1 a sum has slope 2."""
    region = wide(A)
    x, y = uniform(4000, region, 1), uniform(4000, region, 2)
    total = np.abs(A(x) + C(x) - A(y) - C(y)) / norms(x - y)
    assert total.max() > 1.5


# ---------------------------------------------------------------------------------------------- meshes

# Balls of 0.8 and 0.5 at 0.7: the lens by the closed form for two radii.
P, Q = sphere(0.8, (0.1, 0.2, 0.3)), sphere(0.5, (0.8, 0.2, 0.3))
LENS = math.pi * (0.6**2) * (0.49 + 2 * 0.7 * 1.3 - 3 * 0.09) / (12 * 0.7)
CAP = math.pi * 0.5**2 * (3 * 0.8 - 0.5) / 3  # of the ball beyond a plane at 0.3 from its centre
HALF_SPACE = box(4.0, (2.4, 0.2, 0.3))
ONE, TWO = box((1.0, 0.8, 0.6)), box((0.5, 0.6, 0.9), (0.45, 0.3, 0.2))  # share 0.3 · 0.4 · 0.55
SOLIDS: dict[str, tuple[Field, float, int]] = {  # volume, Euler characteristic
    "union of balls": (P | Q, ball_volume(0.8) + ball_volume(0.5) - LENS, 2),
    "lens": (P & Q, LENS, 2),
    "bitten ball": (P - Q, ball_volume(0.8) - LENS, 2),
    "ball minus box": (P - HALF_SPACE, ball_volume(0.8) - CAP, 2),
    "cap": (P & HALF_SPACE, CAP, 2),
    "napkin ring": (P - capsule((0.1, 0.2, -3), (0.1, 0.2, 3), 0.5), math.pi / 6 * 8 * 0.39**1.5, 0),
    "hollow ball": (P - sphere(0.3, (0.2, 0.2, 0.3)), ball_volume(0.8) - ball_volume(0.3), 4),
    "two balls": (sphere(0.4) | sphere(0.3, (1.0, 0, 0)), ball_volume(0.4) + ball_volume(0.3), 4),
    "union of boxes": (ONE | TWO, 0.48 + 0.27 - 0.066, 2),
    "shared box": (ONE & TWO, 0.066, 2),
    "notched box": (ONE - TWO, 0.48 - 0.066, 2),
    "tree": ((P | Q) - HALF_SPACE.move((0.4, 0, 0)), ball_volume(0.8) - math.pi * 0.01 * 2.3 / 3, 2),
}


def test_the_shared_box_is_what_it_is() -> None:
    assert (ONE & TWO).box.size == pytest.approx([0.3, 0.4, 0.55])


@pytest.mark.parametrize("solid", [name for name in SOLIDS if name != "tree"])
def test_meshes_are_closed_and_have_the_right_volume(solid: str) -> None:
    field, volume, euler = SOLIDS[solid]
    coarse, fine = field.mesh(25), field.mesh(73)
    for mesh in (coarse, fine):
        assert mesh.is_watertight
        assert mesh.is_winding_consistent
        assert mesh.euler_number == euler
    h = field.box.longest * (1 + 4 / 72) / 72
    # h²/8R of every curved face, and what is cut off along creases, h² or less a length: both O(h²).
    assert abs(fine.volume - volume) < 4.0 * h**2 * field.box.longest  # boxes: 2.7
    assert abs(fine.volume - volume) < 0.3 * abs(coarse.volume - volume)  # a third of h: a ninth
    proved = field.volume(32)
    assert proved.lower <= volume <= proved.upper


@pytest.mark.parametrize("solid", SOLIDS)
def test_sparse_meshes_are_the_dense_ones(solid: str) -> None:
    field = SOLIDS[solid][0]
    sparse, dense = field.mesh(41), field.mesh(41, dense=True)
    assert same_mesh(sparse, dense)
    assert sparse.metadata["evaluations"] < dense.metadata["evaluations"]


def test_sparse_meshes_of_networks_are_the_dense_ones(born: Callable[..., SDF]) -> None:
    one, other = born(0), born(1, frame=Frame(np.array([0.4, 0.3, 0.2]), 0.8))
    for field in ((one | other) - A, (one & other).move(BY).scale(3.0), one.shell(0.1) | B):
        sparse, dense = field.mesh(33), field.mesh(33, dense=True)
        assert sparse.is_watertight
        assert same_mesh(sparse, dense)


def test_boxes_hold_the_surface(name: str) -> None:
    """What a much wider grid finds of {φ = 0} is in the box, and near each of its faces if that is tight."""
    field = NODES[name]
    sampled = sample(field, wide(field), 64)
    found = extract(sampled).vertices
    slack = sampled.spacing**2 / field.box.longest  # chords of holes and rings bulge by h²/8R
    assert field.box.expanded(slack).contains(found).all()
    if name not in ("intersection", "difference", "shrunk", "tree", "complement"):
        assert np.abs(found.min(axis=0) - field.box.lower).max() < 1.5 * sampled.spacing
        assert np.abs(found.max(axis=0) - field.box.upper).max() < 1.5 * sampled.spacing


def test_a_complement_is_a_box_with_a_cavity() -> None:
    mesh = (~P).mesh(65)
    assert mesh.is_watertight
    assert mesh.euler_number == 4
    outer, cavity = sorted(mesh.split(), key=lambda part: -np.abs(part.volume))
    side = 1.6 + 2 * 0.16  # a tenth of the longest side more, each way
    assert (~P).box.size == pytest.approx([side] * 3)
    assert outer.volume == pytest.approx(side**3, rel=1e-3)
    assert cavity.volume == pytest.approx(-ball_volume(0.8), rel=5e-3)  # wound towards the cavity
    proved = (~P).volume(32)
    assert proved.lower <= side**3 - ball_volume(0.8) <= proved.upper


OTHER = sphere(0.3, (2.0, 0.2, 0.3))  # apart from P


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (P & ~Q, P - Q),
        (~Q & P, P - Q),
        (P - ~Q, P & Q),
        (~P - ~Q, Q - P),
        (~P & ~OTHER, ~(P | OTHER)),
        (~P - OTHER, ~(P | OTHER)),
        (~(~P | ~Q), P & Q),
        ((~P).offset(-0.3), ~P.offset(0.3)),
        ((~P).scale(2.0).move(BY) & OTHER.scale(2.0).move(BY), OTHER.scale(2.0).move(BY)),
        (P & (~Q | ~OTHER), P),
        (P & (~Q & ~OTHER), P - Q),
        ((~P).shell(0.1), P.shell(0.1)),
    ],
    ids=lambda field: None,
)
def test_complements_in_trees_have_the_surface_of_the_solid_meant(one: Field, other: Field) -> None:
    """Boxes are around surfaces; the box of a complement must not cut off what it is combined with."""
    region = Box(np.minimum(one.box.lower, other.box.lower), np.maximum(one.box.upper, other.box.upper))
    x = uniform(2000, region)
    assert one(x) == pytest.approx(other(x), abs=1e-12)
    wider = extract(sample(other, region.expanded(0.3), 48, lipschitz=1.0))
    assert one.box.expanded(1e-3).contains(wider.vertices).all()
    mesh = one.mesh(48)
    inner = np.abs(one(mesh.vertices)) < 1e-3  # not the walls at which unbounded solids end
    assert inner.any()
    assert to_mesh(wider.vertices, mesh).max() < 2.0 * region.longest / 47
    if one.bounded:
        assert inner.mean() > 0.97  # others are at creases
        assert mesh.volume == pytest.approx(other.mesh(48).volume, rel=0.03)
    assert one.bounded == other.bounded


def test_meshes_off_the_unit() -> None:
    """Scaled by 37 and moved by (5, −2, 9): the same mesh."""
    field = (P | Q) - HALF_SPACE
    mesh, far = field.mesh(41), field.scale(37.0).move(BY).mesh(41)
    assert (mesh.faces == far.faces).all()
    # Values are float32 in the grid: 6e-8 of some 30 either way, over slopes of 1 along edges of some 1.
    assert np.abs(37.0 * mesh.vertices + BY - far.vertices).max() < 1e-4
    assert far.volume == pytest.approx(37.0**3 * mesh.volume, rel=1e-6)


def test_a_trained_field_is_carved_like_any_other(trained: SDF, cuboid: Cuboid) -> None:
    """The brick that a network learnt, its corner cut off, with a handle and a hole, is one closed solid."""
    corner = box(20.0, cuboid.center + 0.5 * cuboid.sides)
    hole = capsule(cuboid.center - UP * 50.0, cuboid.center + UP * 50.0, 8.0)
    field = ((trained | sphere(12.0, cuboid.center - [37.0, 0, 0])) - corner) - hole
    assert field.certificate["certified"]
    assert steepest(field, 2000) <= 1.0
    mesh = field.mesh(48)
    assert mesh.is_watertight
    assert same_mesh(mesh, field.mesh(48, dense=True))
    assert mesh.euler_number == 0  # the hole
    # Half a ball of 12 more, an eighth of 20³ less, the hole less; the network is a percent or two off.
    volume = 74 * 44.4 * 29.6 + 0.5 * ball_volume(12.0) - 10.0**3 - math.pi * 64 * 29.6
    assert mesh.volume == pytest.approx(volume, rel=0.05)
    proved = field.volume(32)
    assert proved.lower <= mesh.volume <= proved.upper
    above = cuboid.center + 60.0 * UP
    beside = above + np.array([15.0, 5.0, 0.0])
    assert field.trace([above, beside], [-UP, -UP]).hit.tolist() == [False, True]  # one is above the hole


# ---------------------------------------------------------------------------------------------- offsets


@pytest.mark.parametrize("distance", [0.2, -0.05])
@pytest.mark.parametrize("solid", ["union of balls", "notched box", "bitten ball"])
def test_offset_surfaces_keep_their_distance(solid: str, distance: float) -> None:
    field = SOLIDS[solid][0]
    shifted = field.offset(distance)
    assert shifted.box.size == pytest.approx(field.box.size + 2 * max(distance, 0.0))
    mesh, fine = shifted.mesh(32), field.mesh(96)
    apart = to_mesh(mesh.vertices, fine)
    # Chords of the coarse mesh stand h²/8R inside; those of the fine one and its creases h/2 at most.
    h = fine.extents.max() / 95
    assert apart.min() > abs(distance) - 0.5 * h
    assert (field(mesh.vertices) * distance > 0.0).all()
    assert np.median(apart) == pytest.approx(abs(distance), abs=0.5 * h)  # exact away from creases
    assert (mesh.volume > fine.volume) == (distance > 0.0)


def test_offset_of_an_exact_shape_is_exact() -> None:
    mesh = B.offset(0.2).mesh(64)
    h = (B.box.longest + 0.4) * 67 / 63 / 63
    apart = B(mesh.vertices)
    assert np.abs(apart - 0.2).max() <= h**2 / (8 * (0.2 - h))  # chord against the rounded edges
    # Steiner: volume, area · d, edges · π d²/4, corners 4π d³/3.
    steiner = 1.1 * 0.7 * 0.9 + 0.2 * 2 * (0.77 + 0.99 + 0.63) + math.pi * 0.04 * 2.7 + ball_volume(0.2)
    assert mesh.volume == pytest.approx(steiner, rel=2e-3)
    assert (B.offset(0.2) - B.offset(-0.1)).mesh(64).euler_number == 4


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("distance", [0.1, -0.1])
def test_offset_of_a_lazy_field_keeps_at_least_its_distance(
    seed: int, distance: float, born: Callable[..., SDF]
) -> None:
    """An untrained field has slopes well below 1, so its level sets lie farther apart than their values."""
    field = born(seed, width=16, depth=3)
    fine = field.mesh(96)
    h = field.box.longest / 95
    found = field.offset(distance).mesh(32).vertices
    # The faces of the box, where both meshes may end, are as far apart only for the grown one.
    ends = np.abs(found).max(axis=1) > field.box.upper[0] - 1e-6
    found = found if distance > 0.0 else found[~ends]
    assert len(found) > 100
    apart = to_mesh(found, fine)
    # Exact within h: vertices of either mesh lie within a cell of the level sets; here chords, h²/8R.
    inner = field.box.expanded(-0.2).contains(found)
    assert apart[inner].min() > 0.1 - h
    assert np.median(apart[inner]) > 0.13  # lazy: not the distance itself
    if distance > 0.0:
        assert apart.min() > 0.1 - h


def test_offset_to_nothing_is_refused_when_meshed() -> None:
    for field in (A.offset(-0.9), A & A.move((1.5, 0.5, 0.9))):  # boxes meet, balls do not
        with pytest.raises(EmptyLevelSetError):
            field.mesh(32)


# ---------------------------------------------------------------------------------------------- shells


def test_a_shell_has_two_sheets() -> None:
    skin = P.shell(0.1)
    mesh = skin.mesh(65)
    assert mesh.is_watertight
    assert mesh.euler_number == 4
    inner, outer = sorted(mesh.split(), key=lambda part: part.volume)
    h = skin.box.longest * (1 + 4 / 64) / 64
    for part, radius in ((inner, 0.75), (outer, 0.85)):
        assert np.abs(norms(part.vertices - P.center) - radius).max() < h**2 / (8 * (radius - h)) + 1e-4 * h
    assert inner.volume < 0.0 < outer.volume
    assert mesh.volume == pytest.approx(ball_volume(0.85) - ball_volume(0.75), rel=0.01)
    assert skin.box.size == pytest.approx([1.7] * 3)


def test_a_shell_thicker_than_the_solid_is_full() -> None:
    mesh = P.shell(1.7).mesh(41)  # 0.85 to either side of a ball of 0.8
    assert mesh.euler_number == 2
    assert mesh.volume == pytest.approx(ball_volume(1.65), rel=0.01)


# ---------------------------------------------------------------------------------------------- similarity


@pytest.mark.parametrize("factor", [1e-3, 0.5, 37.0])
def test_scale(factor: float) -> None:
    field, scaled = NODES["tree"], NODES["tree"].scale(factor)
    x = uniform(500, wide(field))
    assert scaled(factor * x) == pytest.approx(factor * field(x), rel=1e-12, abs=1e-14 * factor)
    assert scaled.gradient(factor * x) == pytest.approx(field.gradient(x), abs=1e-9)
    assert scaled.box.lower == pytest.approx(factor * field.box.lower)
    assert scaled.box.upper == pytest.approx(factor * field.box.upper)
    one, other = field.volume(16), scaled.volume(16)
    assert other.lower == pytest.approx(factor**3 * one.lower, rel=0.05)  # ties of the proof
    assert other.upper == pytest.approx(factor**3 * one.upper, rel=0.05)


def test_move() -> None:
    field, moved = NODES["tree"], NODES["tree"].move(BY)
    x = uniform(500, wide(field))
    assert moved(x + BY) == pytest.approx(field(x), abs=1e-14)
    assert moved.box.lower == pytest.approx(field.box.lower + BY)
    assert moved.box.upper == pytest.approx(field.box.upper + BY)
    assert moved.move(-BY)(x) == pytest.approx(field(x), abs=1e-14)
    gap = A.clearance(A.move(BY), tolerance=0.1)
    assert gap.lower <= np.linalg.norm(BY) - 1.6 <= gap.upper  # less two radii


def test_operators_leave_their_operands_alone() -> None:
    before = A.certificate["hash"]
    by = BY.copy()
    moved = A.move(by)
    by[:] = 0.0
    assert moved.box.center == pytest.approx(A.box.center + BY)
    assert isinstance(A | B, Union)
    assert (A | B).parts == (A, B)
    assert A.certificate["hash"] == before


# ---------------------------------------------------------------------------------------------- certificates


def test_a_tree_of_exact_shapes_is_certified(name: str) -> None:
    found = NODES[name].certificate
    assert found["certified"] is True
    assert found["lipschitz"] == 1.0
    assert found["basis"] == "proved"
    assert found["dtype"] == "float64"
    assert found["rounding"] == NODES[name].rounding_within(NODES[name].box)
    assert len(found["hash"]) == 64
    NODES[name].require()


def test_the_hash_tells_every_parameter_and_the_order() -> None:
    trees: list[Callable[[], Field]] = [
        lambda: A | B,
        lambda: B | A,
        lambda: A & B,
        lambda: A - B,
        lambda: B - A,
        lambda: A | sphere(0.8000001, (0.1, -0.2, 0.3)),
        lambda: sphere(0.8, (0.1, -0.2, 0.3000001)) | B,
        lambda: ~(A | B),
        lambda: ~A | B,
        lambda: (A | B) | C,
        lambda: A | (B | C),
        lambda: (A | B).offset(0.1),
        lambda: (A | B).offset(0.2),
        lambda: (A | B).offset(-0.1),
        lambda: A.offset(0.1) | B,
        lambda: (A | B).shell(0.1),
        lambda: (A | B).shell(0.2),
        lambda: (A | B).scale(2.0),
        lambda: (A | B).scale(3.0),
        lambda: (A | B).move((1.0, 2.0, 3.0)),
        lambda: (A | B).move((2.0, 1.0, 3.0)),
        lambda: (A | B).move((1.0, 2.0, 3.0)).scale(2.0),
        lambda: (A | B).scale(2.0).move((1.0, 2.0, 3.0)),
    ]
    one, again = ([tree().certificate["hash"] for tree in trees] for _ in range(2))
    assert one == again
    assert len(set(one)) == len(trees)


def test_a_tree_with_networks_says_what_its_proof_rests_on(born: Callable[..., SDF]) -> None:
    single, double = born(0), born(1).astype("float64")
    exact = (double | A).certificate
    assert (exact["basis"], exact["dtype"]) == ("proved", "float64")
    mixed = ((single | A) - double).certificate
    assert mixed["certified"]
    assert mixed["lipschitz"] == 1.0
    assert (mixed["basis"], mixed["dtype"]) == ("measured", "float32 and float64")
    assert mixed["rounding"] >= single.rounding > 1e3 * exact["rounding"]
    assert (single | A).certificate["hash"] != (born(2) | A).certificate["hash"]
    assert (single | A).certificate["hash"] != (single.astype("float64") | A).certificate["hash"]
    assert ((single | A) - double).device == "cpu"


def test_altered_weights_are_found_out_through_the_tree(born: Callable[..., SDF]) -> None:
    leaf = born(0)
    tree = ((leaf.scale(2.0) | A).offset(0.1) - B).move(BY).shell(0.2)
    tree.require()
    hashed = tree.certificate["hash"]
    with torch.no_grad():
        leaf.network.head.mul_(1.1)
    found = tree.certificate
    assert found["certified"] is False
    assert "the weights are not those of the certificate" in found["reason"]
    assert set(found) == {"certified", "reason"}
    x = uniform(5, tree.box)
    for ask in (
        lambda: tree.mesh(16),
        lambda: tree.trace(x, x + 1.0),
        lambda: tree.volume(4),
        lambda: tree.distance_bound(x),
        lambda: tree.inside(x),
        lambda: tree.error_bars(x),
        lambda: tree.verdicts(x),
        lambda: tree.clearance(C),
        lambda: C.clearance(tree),
        lambda: tree.sample_surface(5, resolution=16),
        lambda: tree.require(),
    ):
        with pytest.raises(CertificateError, match="the weights are not those of the certificate"):
            ask()
    assert np.isfinite(tree(x)).all()  # values are values; nothing is claimed of them
    assert tree.mesh(16, dense=True).is_watertight  # nor of a dense mesh
    with torch.no_grad():
        leaf.network.head.div_(1.1)
    leaf.network.head.copy_(born(0).network.head)  # bit for bit, which 1.1 / 1.1 need not be
    assert tree.certificate["hash"] == hashed


# ---------------------------------------------------------------------------------------------- rounding


def exact_value(name: str, x: np.ndarray) -> Decimal:
    """What the tree of `test_rounding_holds` is at a point, to 60 digits."""
    p = [Decimal(float(c)) for c in x]
    if name != "moved":
        return solid([c / Decimal(1000) for c in p]) * Decimal(1000) if name == "scaled" else solid(p)
    return solid([c - Decimal(by) for c, by in zip(p, FAR, strict=True)])


def solid(p: list[Decimal]) -> Decimal:
    def ball(center: tuple[float, ...], radius: float) -> Decimal:
        return sum((c - Decimal(m)) ** 2 for c, m in zip(p, center, strict=True)).sqrt() - Decimal(radius)

    beyond = [abs(c - Decimal(m)) - Decimal(s) / 2 for c, m, s in zip(p, B.center, B.sides, strict=True)]
    brick = sum(max(b, Decimal(0)) ** 2 for b in beyond).sqrt() + min(max(beyond), Decimal(0))
    joined = min(ball(A.center.tolist(), A.radius), brick) - Decimal(TENTH)
    return abs(max(joined, -ball(Q.center.tolist(), Q.radius))) - Decimal(SKIN) / 2


FAR = (12345.678, -9876.5, 1e5 / 3)
TENTH, SKIN = 0.1, 0.03  # as floats, not as one tenth
ROUNDED = ((A | B).offset(TENTH) - Q).shell(SKIN)


@pytest.mark.parametrize("name", ["here", "scaled", "moved"])
def test_rounding_holds(name: str) -> None:
    """Against 60 digits: the largest error is within ε, and ε is not more than a hundred times as large."""
    field = {"here": ROUNDED, "scaled": ROUNDED.scale(1000.0), "moved": ROUNDED.move(FAR)}[name]
    region = wide(field)
    x = uniform(300, region)
    with localcontext() as context:
        context.prec = 60
        errors = [abs(Decimal(float(v)) - exact_value(name, p)) for v, p in zip(field(x), x, strict=True)]
    allowed = field.rounding_within(region)
    assert 0.0 < max(errors) <= allowed
    assert allowed < 100.0 * float(max(errors))


def test_rounding_grows_with_scale_and_distance() -> None:
    here = ROUNDED.rounding_within(ROUNDED.box)
    scaled = ROUNDED.scale(1000.0)
    assert 1000.0 * here < scaled.rounding_within(scaled.box) < 2000.0 * here
    moved = ROUNDED.move(FAR)
    # Of x near `by` the difference is exact or nearly; of x near 0 it is rounded to 2⁻³⁸ = 3.6e-12.
    assert here <= moved.rounding_within(moved.box) < 2.0 * here
    assert moved.rounding_within(ROUNDED.box) > 3.6e-12
    near, far = Box([-1] * 3, [1] * 3), Box([-1e6] * 3, [1e6] * 3)
    # A last place of 10⁶, halved and on three axes, for x / s or x − by, beside what the part itself rounds.
    place = math.sqrt(3.0) * 2.0**-53 * 1e6
    before = Box(3.0 * far.lower, 3.0 * far.upper)
    assert A.scale(3.0).rounding_within(before) >= 3.0 * (A.rounding_within(far) + place)
    assert A.move(BY).rounding_within(Box(far.lower + BY, far.upper + BY)) >= A.rounding_within(far) + place
    for node in NODES.values():
        assert node.rounding_within(far) > 100.0 * node.rounding_within(near) > 0.0


def test_rounding_of_float32_networks_is_within_that_of_float64(born: Callable[..., SDF]) -> None:
    tree = ((born(0) | A) - born(1).scale(0.5)).offset(0.05)
    for field in (tree, tree.scale(1000.0), tree.move((3.0, -2.0, 1.0))):
        double = field.astype("float64")
        x = uniform(5000, wide(field))
        error = np.abs(field(x) - double(x)).max()
        allowed = field.rounding_within(wide(field)) + double.rounding_within(wide(field))
        assert 0.001 * allowed < error <= allowed
        assert double.rounding_within(wide(field)) < 1e-3 * allowed
    assert tree.scale(1000.0).certificate["rounding"] == pytest.approx(1000 * tree.certificate["rounding"])


def test_rounding_of_offsets_that_leave_the_surface_behind() -> None:
    """Shrunk by 10⁶ there is no zero left, φ is near 10⁶, and each small step loses half a last place."""
    field: Field = B.offset(-1e6)
    step = 0.25 + 0.49 * 2.0**-33  # the last place of 10⁶ is 2⁻³³
    for _ in range(40):
        field = field.offset(step)
    field = field.offset(1e6)
    x = uniform(20, B.box)
    exact = [Fraction(v) - 40 * Fraction(step) for v in B(x).tolist()]
    error = max(abs(Fraction(v) - e) for v, e in zip(field(x).tolist(), exact, strict=True))
    assert 30 * 0.49 * 2.0**-33 < error <= field.rounding_within(B.box)


# ---------------------------------------------------------------------------------------------- dtypes


def test_astype_reaches_every_leaf(born: Callable[..., SDF]) -> None:
    leaf = born(0)
    tree = (leaf.move(BY) | A.scale(2.0)).shell(0.1) - leaf
    double = tree.astype("float64")
    skin, second = double.parts
    moved, scaled = skin.parts[0].parts
    for found in (moved.parts[0], second):
        assert found.network.head.dtype is torch.float64
    assert scaled.parts[0] is A  # exact shapes are computed in float64 anyway
    assert leaf.network.head.dtype is torch.float32
    assert [type(n) for n in (double, skin, moved, scaled)] == [
        type(n) for n in (tree, tree.parts[0], *tree.parts[0].parts[0].parts)
    ]
    assert (skin.settings, moved.settings) == ({"thickness": 0.1}, {"by": tuple(BY)})
    assert double.certificate["certified"]
    assert double.certificate["hash"] != tree.certificate["hash"]
    with pytest.raises(ValueError, match="`dtype` must be float32 or float64; got 'float16'"):
        tree.astype("float16")


# ---------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("kind", KINDS)
def test_combined_makes_what_its_node_describes(kind: str) -> None:
    made = [A | B, A & B, A - B, ~A, A.offset(0.1), A.shell(0.1), A.scale(2.0), A.move(BY)]
    node = next(node for node in made if node.kind == kind)
    settings = {
        key: list(v) if isinstance(v, tuple) else v for key, v in node.settings.items()
    }  # as JSON does
    again = combined(kind, node.parts, settings)
    assert type(again) is type(node)
    assert again.certificate["hash"] == node.certificate["hash"]


# ---------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("other", [0.5, None, "ball", np.zeros(3), lambda x: x[:, 0]])
def test_operands_must_be_certified_fields(other: object) -> None:
    given = type(other).__name__
    for kind, make in (
        ("union", lambda: A | other),
        ("intersection", lambda: A & other),
        ("difference", lambda: A - other),
    ):
        with pytest.raises(TypeError, match=rf"{kind} takes 2 certified field\(s\); got Sphere, {given}"):
            make()


def test_nodes_take_their_number_of_parts() -> None:
    with pytest.raises(TypeError, match=r"union takes 2 certified field\(s\); got Sphere, Cuboid, Torus"):
        Union((A, B, C))
    with pytest.raises(TypeError, match=r"offset takes 1 certified field\(s\); got Sphere, Cuboid"):
        Offset((A, B), 0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: A.offset(math.nan), "`distance` must be finite; got nan"),
        (lambda: A.offset(-math.inf), "`distance` must be finite; got -inf"),
        (lambda: A.shell(0.0), "`thickness` must be positive and finite; got 0.0"),
        (lambda: A.shell(-0.1), "`thickness` must be positive and finite; got -0.1"),
        (lambda: A.shell(math.inf), "`thickness` must be positive and finite; got inf"),
        (lambda: A.scale(0.0), "`factor` must be positive and finite; got 0.0"),
        (lambda: A.scale(-2.0), "`factor` must be positive and finite; got -2.0"),
        (lambda: A.scale(math.nan), "`factor` must be positive and finite; got nan"),
        (lambda: A.move((1.0, 2.0)), r"`by` must be three finite numbers; got \[1.0, 2.0\]"),
        (lambda: A.move(5.0), r"`by` must be three finite numbers; got \[5.0\]"),
        (lambda: A.move(np.eye(3)), "`by` must be three finite numbers; got "),
        (lambda: A.move([[1.0], [2.0], [3.0]]), "`by` must be three finite numbers; got "),
        (lambda: A.move((0.0, math.nan, 0.0)), r"`by` must be three finite numbers; got \[0.0, nan, 0.0\]"),
        (lambda: (P & OTHER).box, "the intersection is empty: the boxes of the two fields do not meet"),
        (lambda: (P & OTHER).mesh(8), "the intersection is empty"),
        (lambda: combined("sum", [A, B], {}), "`kind` must be one of union, intersection, .*; got 'sum'"),
        (lambda: combined("union", [A], {}), r"union: union takes 2 certified field\(s\); got Sphere"),
        (
            lambda: combined("union", [A, B], {"distance": 1.0}),
            "union: .*unexpected keyword argument 'distance'",
        ),
        (lambda: combined("offset", [A], {}), "offset: .*missing 1 required positional argument: 'distance'"),
        (lambda: combined("offset", [A], {"distance": None}), "offset: "),
        (lambda: combined("offset", [A], {"distance": math.nan}), "`distance` must be finite"),
        (lambda: combined("move", [A], {"by": [1.0, 2.0]}), "`by` must be three finite numbers"),
        (lambda: combined("move", [A], {"by": 5.0}), "`by` must be three finite numbers"),
        (
            lambda: combined("scale", [A], {"by": [1.0, 2.0, 3.0]}),
            "scale: .*unexpected keyword argument 'by'",
        ),
    ],
)
def test_refusals(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_boxes_that_touch_do_not_meet() -> None:
    with pytest.raises(ValueError, match="the intersection is empty"):
        _ = (box(1.0) & box(1.0, (1.0, 0.0, 0.0))).box
    assert (box(1.0) & box(1.0, (0.999, 0.0, 0.0))).box.size == pytest.approx([0.001, 1.0, 1.0])


def test_nodes_are_values(name: str) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        NODES[name].parts = ()  # type: ignore[misc]
