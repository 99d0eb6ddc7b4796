"""What every certified field can do keeps its promises: exact shapes, what CSG makes of them, networks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from decimal import Decimal, localcontext

import igl
import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree
from scipy.stats import chi2

from ocsdf3d.analytic import ExactSDF, box, capsule, sphere, torus
from ocsdf3d.certified import PROJECTED, RESOLVED
from ocsdf3d.csg import Field
from ocsdf3d.errorbars import robust_threshold
from ocsdf3d.field import SDF
from ocsdf3d.frame import Frame
from ocsdf3d.geometry import Box
from ocsdf3d.grid import sample
from ocsdf3d.surface import EmptyLevelSetError, extract

CENTRE = np.array([5.0, -2.0, 9.0])  # off the origin
R = 0.9
BALL = sphere(R, CENTRE)
SHAPES: dict[str, ExactSDF] = {
    "sphere": BALL,
    "box": box((1.0, 0.7, 0.5), (0.1, 0.2, 0.3)),
    "torus": torus(0.6, 0.2, (-3.0, 1.0, 0.5)),
    "capsule": capsule((-0.4, -0.3, 0.0), (0.4, 0.3, 0.2), 0.1),
}
PAIR = sphere(0.5, (0.1, 0.0, 0.0)) | sphere(0.3, (0.6, 0.2, -0.1))
CARVED = (sphere(0.8) | box((1.4, 0.5, 0.4), (0.5, 0.1, 0.2))) - capsule((0, 0, -2), (0, 0, 2), 0.3)


def at(x: float, y: float = 0.0, z: float = 0.0) -> np.ndarray:
    return CENTRE + np.array([x, y, z])


def uniform(count: int, region: Box, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(region.lower, region.upper, (count, 3))


def unit(count: int, seed: int = 0) -> np.ndarray:
    ways = np.random.default_rng(seed).normal(size=(count, 3))
    return ways / np.linalg.norm(ways, axis=1, keepdims=True)


def norms(vectors: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vectors, axis=1)


def to_mesh(points: np.ndarray, mesh: trimesh.Trimesh) -> np.ndarray:
    """Distances to the triangles."""
    square = igl.point_mesh_squared_distance(points, np.array(mesh.vertices), np.array(mesh.faces))[0]
    return np.sqrt(square)


def half_ball(resolution: int = 48) -> tuple[Field, trimesh.Trimesh]:
    """A field whose solid leaves its box: everything but a ball, so the mesh is a box with a cavity."""
    return ~BALL, (~BALL).mesh(resolution)


# ---------------------------------------------------------------------------------------------- mesh


def test_the_mesh_brings_its_receipt() -> None:
    mesh = CARVED.mesh(64)
    assert set(mesh.metadata) == {
        "evaluations",
        "dense_evaluations",
        "blocks",
        "undecided",
        "lipschitz",
        "rounding",
        "resolution",
        "sheet",
        "completeness",
    }
    receipt = mesh.metadata
    assert 0 < receipt["evaluations"] < 0.5 * receipt["dense_evaluations"]
    around = CARVED.box.expanded(2 * CARVED.box.longest / 63)  # two cells of margin on every side
    assert receipt["dense_evaluations"] == sample(CARVED, around, 64).evaluations
    assert receipt["blocks"] > 0
    assert receipt["undecided"] > 0  # beside the crossed ones
    assert receipt["lipschitz"] == 1.0
    assert CARVED.rounding_within(CARVED.box) <= receipt["rounding"] < 1e-13
    assert receipt["resolution"] == 64
    assert receipt["sheet"] == "outer"
    assert receipt["completeness"] is None


def test_the_receipt_of_a_dense_mesh_claims_no_proof() -> None:
    sparse, dense = CARVED.mesh(48), CARVED.mesh(48, dense=True)
    receipt = dense.metadata
    assert receipt["evaluations"] == receipt["dense_evaluations"]
    assert receipt["blocks"] == receipt["undecided"] == 0
    for name in ("vertices", "faces"):
        assert getattr(sparse, name).tobytes() == getattr(dense, name).tobytes()


def test_the_receipt_of_a_network_tells_its_rounding_and_its_sheet(born: Callable[..., SDF]) -> None:
    field = born(frame=Frame(CENTRE, 37.0))
    receipt = field.mesh(32).metadata
    # Measured float32 rounding is at least 5e-6 in the unit frame.
    assert 37.0 * 5e-6 <= field.rounding <= receipt["rounding"] < 37.0 * 2e-5
    assert receipt["sheet"] == "outer"
    assert dataclasses.replace(field, support="shell").mesh(32).metadata["sheet"] == "both"


def test_a_solid_that_leaves_its_box_is_closed_at_its_faces(born: Callable[..., SDF]) -> None:
    field = born()
    corners = np.array(np.meshgrid(*np.stack([field.box.lower, field.box.upper], axis=1))).reshape(3, -1).T
    assert (field(corners) < 0.0).any()
    for offset in (0.0, 0.1, -0.1):
        mesh = field.mesh(48, offset)
        assert mesh.is_watertight
        assert mesh.volume > 0.0
        bounds = field.box.expanded(max(offset, 0.0) + 1e-6)
        assert bounds.contains(mesh.vertices).all()
        assert np.isclose(np.abs(mesh.vertices), bounds.upper[0], atol=2e-6).any()  # it does reach a face


@pytest.mark.parametrize("offset", [-0.3, 0.0, 0.4])
def test_offset_meshes_of_a_ball(offset: float) -> None:
    mesh = BALL.mesh(64, offset)
    radii = norms(mesh.vertices - CENTRE)
    h = 2 * (R + max(offset, 0.0)) * (1 + 4 / 63) / 63
    # Chord against arc; 1e-4 of a cell by the nudge of nodes, and float32 values of size 2.
    assert np.abs(radii - (R + offset)).max() <= h**2 / (8 * (R + offset - h)) + 1e-4 * h + 1e-6
    assert mesh.euler_number == 2


def test_a_level_that_is_not_reached_is_refused() -> None:
    for complete in (None, 0.1):
        with pytest.raises(EmptyLevelSetError, match="no surface at level -1"):
            BALL.mesh(32, -1.0, complete=complete)


def test_progress_is_handed_on() -> None:
    calls: list[tuple[int, int]] = []
    mesh = BALL.mesh(32, progress=lambda *call: calls.append(call))
    assert calls[-1] == (mesh.metadata["evaluations"],) * 2
    calls.clear()
    assert BALL.volume(16, progress=lambda *call: calls.append(call)).evaluations == calls[-1][0]


def test_complete_doubles_the_resolution_until_the_plate_is_there() -> None:
    """A plate of 0.004 with a handle: coarse grids mesh the handle, and nothing looks wrong."""
    plate, handle = box((1.0, 0.8, 0.004), (0.0, 0.0, 0.0137)), box((0.2, 0.2, 0.4), (-0.3, -0.1, 0.21))
    field = plate | handle
    coarse = field.mesh(33)
    assert coarse.is_watertight
    assert coarse.extents[0] < 0.3  # the handle's 0.2 and a cell at either end
    assert coarse.metadata["undecided"] > 500  # 30 · 24 cells hold the plate: the receipt knew
    mesh = field.mesh(33, complete=0.05)
    receipt = mesh.metadata
    # Cells must come down to about the plate's thickness: 1/128 is too coarse, 1/256 is not.
    assert receipt["resolution"] == 257
    found = receipt["completeness"]
    assert found["complete"]
    assert found["eps"] == 0.05
    assert found["largest"] <= 0.05
    assert found["evaluations"] > 0
    assert mesh.extents == pytest.approx([1.0, 0.8, 0.4], abs=0.01)
    # The whole and what they share: 0.2 · 0.2 · 0.0057; creases lose some h² = 1.5e-5 a unit length of 4.
    assert mesh.volume == pytest.approx(0.0032 + 0.016 - 0.04 * 0.0057, abs=1e-4)


def test_complete_gives_up_at_eight_times_the_resolution() -> None:
    plate = box((0.2, 0.15, 1e-5), (0.0, 0.0, 0.01234))
    field = plate | box((0.2, 0.2, 0.4), (0.3, 0.1, 0.2))
    with pytest.raises(
        ValueError, match=r"not complete at 65 nodes: a piece 0\.\d+ wide may .* Raise it, or"
    ):
        field.mesh(9, complete=0.05)


def test_complete_of_what_is_complete_changes_nothing() -> None:
    one, other = BALL.mesh(48), BALL.mesh(48, complete=0.01)
    assert other.metadata["resolution"] == 48
    assert other.metadata["completeness"]["complete"]
    assert one.vertices.tobytes() == other.vertices.tobytes()


@pytest.mark.parametrize("complete", [0.0, -1.0, math.nan, math.inf])
def test_complete_must_be_a_size(complete: float) -> None:
    with pytest.raises(ValueError, match="`eps` must be positive and finite"):
        BALL.mesh(16, complete=complete)


def test_complete_wants_the_sparse_grid() -> None:
    with pytest.raises(ValueError, match="`complete` needs the sparse grid; leave `dense` out"):
        BALL.mesh(16, complete=0.1, dense=True)
    with pytest.raises(ValueError, match="`offset` must be finite; got nan"):
        BALL.mesh(16, offset=float("nan"))


# ---------------------------------------------------------------------------------------------- samples


def test_samples_lie_on_the_surface_and_are_uniform() -> None:
    count = 8000
    points = BALL.sample_surface(count, resolution=64)
    assert points.shape == (count, 3)
    assert np.abs(BALL(points)).max() <= PROJECTED * BALL.box.longest  # the tolerance of `project`
    local = (points - CENTRE) / R
    octants = np.bincount((local > 0.0) @ [1, 2, 4], minlength=8)
    bands = np.histogram(local[:, 2], bins=10, range=(-1.0, 1.0))[0]  # Archimedes: z is uniform
    for counts in (octants, bands):
        expected = count / len(counts)
        # One seed in 10⁴ would fail.
        assert ((counts - expected) ** 2 / expected).sum() < chi2.isf(1e-4, len(counts) - 1)


def test_samples_follow_their_seed() -> None:
    one, again, other = (CARVED.sample_surface(100, resolution=32, seed=s) for s in (1, 1, 2))
    assert one.tobytes() == again.tobytes()
    assert (np.abs(one - other).max(axis=1) > 0.0).all()


def test_samples_of_faces_of_the_box_stay_there() -> None:
    """Everything but a ball: most of the mesh is the box, where φ is not 0."""
    field, mesh = half_ball()
    points = field.sample_surface(2000, resolution=48)
    wall = np.abs(field(points)) > 1e-3
    share = field.box.size[0] ** 2 * 6
    expected = share / (share + 4 * math.pi * R**2)
    assert wall.mean() == pytest.approx(expected, abs=5 * math.sqrt(0.25 / 2000))  # 5 σ
    assert to_mesh(points[wall], mesh).max() < 1e-9
    assert to_mesh(points, mesh).max() < field.box.longest / 47


def test_no_samples() -> None:
    assert BALL.sample_surface(0, resolution=16).shape == (0, 3)


# ---------------------------------------------------------------------------------------------- distances


@pytest.mark.parametrize("name", SHAPES)
def test_distance_bound_of_exact_shapes_is_the_distance_from_below(name: str) -> None:
    shape = SHAPES[name]
    points = uniform(4000, shape.box.expanded(1.0))
    bound, distance = shape.distance_bound(points), np.abs(shape(points))
    assert (bound <= distance).all()
    assert (bound >= distance - 1e-13).all()  # 16 roundings of lengths up to 20


def test_distance_bound_of_a_union_is_exact_outside_only() -> None:
    """Outside, the nearer ball decides; inside, the bound is short where the balls overlap."""
    one, other = PAIR.parts
    points = uniform(4000, PAIR.box.expanded(0.1))
    bound = PAIR.distance_bound(points)
    outside = PAIR(points) > 0.0
    nearer = np.minimum(one(points), other(points))[outside]
    assert bound[outside] == pytest.approx(nearer, abs=1e-13)
    mesh = PAIR.mesh(96)
    distance = to_mesh(points, mesh)
    h = PAIR.box.longest / 95
    assert (bound <= distance + 0.1 * h).all()  # chords are h²/8R = 0.004 h off, and creases some h²/R
    assert (bound[~outside] < distance[~outside] - 0.01).sum() > 10


@pytest.mark.parametrize("seed", range(3))
def test_distance_bound_of_networks_never_exceeds_the_distance(seed: int, born: Callable[..., SDF]) -> None:
    """To a dense mesh of the field itself, not closed at the box; the zero set is within h of a vertex."""
    field = born(seed)
    sampled = sample(field, field.box, 64)
    points = uniform(2000, field.box.expanded(-0.1), seed)
    distance = cKDTree(extract(sampled).vertices).query(points)[0]
    bound = field.distance_bound(points)
    assert (bound <= distance + sampled.spacing).all()
    assert np.median(bound / distance) > 0.2  # not vacuous; an untrained field is lazy
    # Not an artefact of h: the same values three times as large would not pass.
    assert (3.0 * bound > distance + sampled.spacing).any()


def test_inside_is_right_and_its_radius_is_sharp() -> None:
    points = uniform(3000, BALL.box.expanded(0.5))
    inside, radius = BALL.inside(points)
    away = points - CENTRE
    assert (inside == (norms(away) < R)).all()
    outward = away / norms(away)[:, None]
    for factor, flips in ((0.999, False), (1.001, True)):
        # Towards the surface: out from inside, in from outside.
        moved = points + factor * np.where(inside, radius, -radius)[:, None] * outward
        assert ((BALL.inside(moved).inside != inside) == flips).all()
    assert BALL.inside([at(R)]).radius.tolist() == [0.0]


@pytest.mark.parametrize("name", ["tree", "network"])
def test_no_move_within_the_radius_changes_a_side(name: str, born: Callable[..., SDF]) -> None:
    field = CARVED if name == "tree" else born(1)
    truth = field.astype("float64")  # what float32 rounds is 1e-6, what float64 rounds is not seen here
    points = uniform(2000, field.box.expanded(0.2))
    inside, radius = field.inside(points)
    assert inside.any()
    assert (~inside).any()
    assert (radius > 0.0).mean() > 0.99
    for seed in range(5):
        moved = points + 0.999999 * radius[:, None] * unit(2000, seed)
        assert ((truth(moved) < 0.0) == inside)[radius > 0.0].all()
    downhill = field.gradient(points) * np.where(inside, 1.0, -1.0)[:, None]
    downhill /= np.maximum(norms(downhill), 1e-12)[:, None]
    assert ((truth(points + 0.999999 * radius[:, None] * downhill) < 0.0) == inside)[radius > 0.0].all()
    assert ((truth(points + 4.0 * radius[:, None] * downhill) < 0.0) != inside).any()  # four times is too far


def test_project_lands_on_the_surface_within_its_defaults() -> None:
    points = uniform(500, BALL.box.expanded(0.3))
    for offset in (0.0, 0.2):
        found = BALL.project(points, offset=offset)
        near = np.abs(BALL(points) - offset) <= 0.5 * BALL.box.longest  # the default reach
        assert near.mean() > 0.9
        assert (found.converged == near).all()
        assert np.abs(norms(found.points - CENTRE) - R - offset)[near].max() <= PROJECTED * BALL.box.longest
        foot = CENTRE + (R + offset) * (points - CENTRE) / norms(points - CENTRE)[:, None]
        assert norms(found.points - foot)[near].max() <= 2 * PROJECTED * BALL.box.longest
    far = [at(2.01 * R)]
    assert not BALL.project(far).converged.any()
    assert BALL.project(far, reach=1.0).converged.all()
    close = CENTRE + (R + 0.01) * unit(10)
    assert (BALL.project(close, tolerance=0.05).points == close).all()  # near enough to stay


# ---------------------------------------------------------------------------------------------- rays


def ball_hits(origins: np.ndarray, ways: np.ndarray, radius: float = R) -> tuple[np.ndarray, np.ndarray]:
    """First distance along unit rays to the ball's surface, inf for a miss; nearest approach of the line."""
    local = origins - CENTRE
    along = (local * ways).sum(axis=1)
    nearest = norms(local - along[:, None] * ways)
    half = np.sqrt(np.maximum(radius**2 - nearest**2, 0.0))
    first = np.where(-along - half > 0.0, -along - half, -along + half)
    return np.where((nearest < radius) & (first > 0.0), first, np.inf), nearest


@pytest.mark.parametrize("away", [0.3, 1.5, 1e3, 1e6])
@pytest.mark.parametrize("offset", [0.0, 0.25])
def test_rays_at_a_ball(away: float, offset: float) -> None:
    """From inside, from near, and from so far that the way to the box is nearly all of the distance."""
    n = 600
    origins = CENTRE + away * unit(n)
    targets = CENTRE + np.random.default_rng(1).uniform(-1.4, 1.4, (n, 3))
    ways = targets - origins
    found = BALL.trace(origins, 7.0 * ways, offset=offset)  # of any length
    ways /= norms(ways)[:, None]
    truth, nearest = ball_hits(origins, ways, R + offset)
    clear = np.abs(nearest - R - offset) > 1e-3  # others graze: a touch counts as a hit, `crossed` tells
    assert clear.sum() > 0.9 * n
    assert (found.hit == np.isfinite(truth))[clear].all()
    assert (found.crossed == found.hit)[clear].all()
    assert found.resolved.all()
    hits = clear & found.hit
    assert hits.sum() > 100
    # 1e-3 of the tolerance where a sign changed, divided by the least slope at 1e-3 from grazing, √(2e-3/R).
    allowed = 1e-3 * PROJECTED * 2 * (R + offset) / 0.04 + 4e-16 * away
    assert np.abs(found.distance[hits] - truth[hits]).max() <= allowed
    reached = origins[hits] + found.distance[hits, None] * ways[hits]
    assert norms(reached - found.points[hits]).max() <= 4e-16 * away + 1e-14
    assert (found.free <= found.distance).all()
    assert (found.free[hits] > 0.9 * truth[hits]).any()
    missed = ~found.hit
    assert missed.any() or away < R
    assert np.isinf(found.distance[missed]).all()
    assert np.isnan(found.points[missed]).all()


def test_rays_that_miss_the_box() -> None:
    above = at(0.0, 0.0, 1.5)
    origins = np.array([above, above, at(5.0, 0.0, 1.5), at(0.0, 0.0, 50.0)])
    ways = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.1], [0.5, 0.0, -1.0]])
    found = BALL.trace(origins, ways)
    assert not found.hit.any()
    assert not found.crossed.any()
    assert found.resolved.all()
    assert np.isinf(found.distance).all()
    assert np.isinf(found.free).all()
    assert np.isnan(found.points).all()
    assert (found.steps == 0).all()  # no field was asked


def test_rays_along_the_axes() -> None:
    """Beside, at and through the box; in its faces too, where the ray does not move along an axis at all."""
    shape = SHAPES["box"]
    half, centre = 0.5 * shape.box.size, shape.box.center
    for axis in range(3):
        step = np.eye(3)[axis]
        for sign in (1.0, -1.0):
            start = centre - sign * 20.0 * step
            through = shape.trace([start], [sign * step])
            assert through.distance == pytest.approx([20.0 - half[axis]], abs=1e-7)
            assert through.crossed.all()
            assert through.points[0] == pytest.approx(centre - sign * half[axis] * step, abs=1e-7)
            assert not shape.trace([start], [-sign * step]).hit.any()
            out = shape.trace([centre], [sign * step])
            assert out.distance == pytest.approx([half[axis]], abs=1e-7)
            side = half[axis - 1] * np.eye(3)[axis - 1]  # along an edge of the mid-plane of a face
            near, beside = shape.trace([start + 0.999 * side, start + 1.001 * side], [sign * step] * 2).hit
            assert near
            assert not beside


def test_rays_that_enter_the_box_and_miss_the_solid() -> None:
    """By the corner of a ball's box, 0.66 from the ball: the ray is proven free of it to its end."""
    corner = CENTRE + 0.98 * R
    way = np.array([1.0, -1.0, 0.0]) / math.sqrt(2.0)
    found = BALL.trace([corner - 3.0 * way], [way])
    assert not found.hit[0]
    assert found.resolved[0]
    assert found.steps[0] > 0
    assert found.distance[0] == math.inf
    assert found.free[0] > 3.0 + 0.01 * R  # past its leaving the box


def test_a_ray_cut_short_is_not_resolved() -> None:
    origins, ways = CENTRE + 5.0 * unit(200), -unit(200) + 0.15 * unit(200, 1)
    cut = BALL.trace(origins, ways, limit=1)
    whole = BALL.trace(origins, ways)
    assert whole.resolved.all()
    assert not cut.resolved.all()
    assert (cut.resolved >= cut.hit).all()
    truth = ball_hits(origins, ways / norms(ways)[:, None])[0]
    assert (cut.free <= truth).all()  # what was proven until then is


@pytest.mark.parametrize("away", [1e6, 1e9, 1e12])
def test_what_is_free_holds_for_rays_from_far_away(away: float) -> None:
    """Points of such a ray are rounded by more than any value is; the truth is computed with 50 digits."""
    ball, origins = sphere(1.0), away * unit(40)
    ways = 0.5 * unit(40, 1) - origins
    found = ball.trace(origins, ways)
    assert found.hit.any()
    with localcontext(prec=50):
        for origin, way, free in zip(origins.tolist(), ways.tolist(), found.free.tolist(), strict=True):
            o, w = ([Decimal(value) for value in row] for row in (origin, way))
            length = Decimal(sum(value * value for value in w)).sqrt()
            along = sum(a * b for a, b in zip(o, w, strict=True)) / length
            root = along * along - sum(value * value for value in o) + 1
            if root > 0:
                assert Decimal(free) <= -along - root.sqrt()


def test_rays_end_at_the_faces_of_the_box() -> None:
    """As the mesh does: everything but a ball is met at the wall from outside, and at the ball from there."""
    field, _ = half_ball(16)
    wall = field.box.upper[0]
    from_outside = field.trace([[wall + 3.0, -2.0, 9.0]], [[-1.0, 0.0, 0.0]])
    assert from_outside.distance == pytest.approx([3.0], abs=1e-6)
    within = field.trace([[wall - 0.01, -2.0, 9.0]], [[-1.0, 0.0, 0.0]])
    assert within.distance == pytest.approx([wall - 0.01 - 5.0 - R], abs=1e-6)
    out_again = field.trace([[wall - 0.01, -2.0, 9.0]], [[1.0, 0.0, 0.0]])
    assert out_again.distance == pytest.approx([0.01], abs=1e-6)


def test_rays_agree_with_those_at_the_mesh() -> None:
    mesh = PAIR.mesh(128)
    vertices, faces = np.array(mesh.vertices), np.array(mesh.faces, dtype=np.int64)
    n = 300
    origins = PAIR.box.center + 2.0 * unit(n)
    ways = uniform(n, PAIR.box) - origins
    ways /= norms(ways)[:, None]
    found = PAIR.trace(origins, ways)
    hits = [igl.ray_mesh_intersect(o, w, vertices, faces) for o, w in zip(origins, ways, strict=True)]
    distance = np.array([min((hit[1] for hit in each), default=np.inf) for each in hits])
    h = PAIR.box.longest / 127
    # They disagree where chords cut off h²/8R of the rim, 1e-4 of its radius, or at the crease.
    assert (np.isfinite(distance) != found.hit).sum() <= 2
    both = np.isfinite(distance) & found.hit
    slope = -(PAIR.gradient(found.points[both]) * ways[both]).sum(axis=1)
    assert both.sum() > 150
    assert (slope > 0.0).all()
    off = np.abs(distance[both] - found.distance[both]) * slope  # what it is across the surface
    assert np.median(off) < 3 * h**2 / (8 * 0.3)  # chords along the diagonals of cells, against arcs
    assert (off < 0.5 * h).all()


@pytest.mark.parametrize("seed", range(2))
def test_rays_never_step_through_a_network(seed: int, born: Callable[..., SDF]) -> None:
    """Points in the free part of each ray have the sign of its start, in float64."""
    field = born(seed)
    origins = uniform(200, field.box.expanded(-0.2), seed)
    found = field.trace(origins, unit(200, seed))
    assert found.resolved.all()
    assert found.hit.any()
    sign = field(origins) < 0.0
    share = np.linspace(0.0, 1.0, 101)[:-1]
    length = np.minimum(found.free, found.distance)
    along = origins[:, None] + (length[:, None] * share)[..., None] * unit(200, seed)[:, None]
    keep = field.box.contains(along) & (length > 1e-3)[:, None]
    values = field.astype("float64")(along.reshape(-1, 3)).reshape(200, 100)
    assert ((values < 0.0) == sign[:, None])[keep].all()
    touched = found.hit & field.box.expanded(-0.01).contains(np.nan_to_num(found.points, nan=9.0))
    assert touched.sum() > 50
    assert np.abs(field(found.points[touched])).max() <= 2 * PROJECTED * field.box.longest


# ---------------------------------------------------------------------------------------------- measures


def test_volumes() -> None:
    ball = BALL.volume(48)
    assert ball.lower <= 4 / 3 * math.pi * R**3 <= ball.upper
    assert ball.upper - ball.lower < 0.3 * (1.8 / 48) * 4 * math.pi * R**2  # a fifth of a cell is usual
    # Two balls by inclusion and exclusion: the lens of radii r, s at distance d.
    r, s, d = 0.5, 0.3, math.sqrt(0.25 + 0.04 + 0.01)
    lens = math.pi * (r + s - d) ** 2 * (d * d + 2 * d * (r + s) - 3 * (r - s) ** 2) / (12 * d)
    pair = PAIR.volume(48)
    assert pair.lower <= 4 / 3 * math.pi * (r**3 + s**3) - lens <= pair.upper
    assert pair.upper - pair.lower < 0.05 * pair.upper
    coarse = PAIR.volume(16)
    assert coarse.lower <= pair.lower < pair.upper <= coarse.upper


def test_volume_of_a_network_holds_what_random_points_count(born: Callable[..., SDF]) -> None:
    field, n = born(1), 200_000
    found = field.volume(32)
    total = field.box.size.prod()
    share = (field.astype("float64")(uniform(n, field.box)) <= 0.0).mean()
    deviation = 5 * total * math.sqrt(share * (1 - share) / n)
    assert found.lower - deviation <= total * share <= found.upper + deviation
    assert found.upper - found.lower < 0.6 * total


def test_clearances() -> None:
    other = sphere(0.4, at(0.0, 2.0))
    found = BALL.clearance(other)
    assert found.lower <= 0.7 <= found.upper + 1e-12  # 2 − 0.9 − 0.4
    hull = 2.0 + R + 0.4  # longest side of the box around both
    assert found.upper - found.lower <= 1e-3 * hull
    assert not found.contact
    one, two = found.witness
    assert BALL([one])[0] <= 0.0
    assert other([two])[0] <= 0.0
    assert np.linalg.norm(one - two) == pytest.approx(found.upper, rel=1e-9)
    fine = BALL.clearance(other, tolerance=3e-4)
    assert fine.lower <= 0.7 <= fine.upper + 1e-12
    assert fine.upper - fine.lower <= 3e-4
    back = other.clearance(BALL)
    assert back.lower <= 0.7 <= back.upper + 1e-12
    overlapping = BALL.clearance(sphere(0.4, at(0.0, 0.6)))
    assert overlapping.contact
    assert overlapping.lower == overlapping.upper == 0.0


def test_clearance_of_trees() -> None:
    """The rod that was cut out, thinner, goes back into its hole: a gap of 0.1 all round."""
    rod = capsule((0, 0, -1.5), (0, 0, 1.5), 0.2)
    found = CARVED.clearance(rod, tolerance=0.01)
    assert found.lower <= 0.1 <= found.upper + 1e-12
    assert found.upper - found.lower <= 0.01
    assert CARVED.clearance(rod.offset(0.15)).contact


@pytest.mark.parametrize("name", SHAPES)
def test_error_bars_of_exact_shapes_close(name: str) -> None:
    shape = SHAPES[name]
    points = uniform(500, shape.box.expanded(0.2))
    distance = np.abs(shape(points))
    found = shape.error_bars(points)
    assert (found.lower <= distance).all()
    assert (found.upper >= distance * (1 - 1e-12)).all()
    near = distance < 0.49 * shape.box.longest  # half of it is how far they look
    assert near.mean() > 0.8
    # The gradient leads to the nearest point; a halved radius ends within 2⁻²⁰ of half the longest side.
    assert (found.upper[near] - found.lower[near]).max() <= 1e-5 * shape.box.longest
    assert np.isinf(found.upper[distance > 0.51 * shape.box.longest]).all()


def test_error_bars_of_a_tree_hold_its_distance() -> None:
    points = uniform(800, CARVED.box.expanded(0.1))
    mesh, h = CARVED.mesh(128), CARVED.box.longest / 127
    distance = to_mesh(points, mesh)
    found = CARVED.error_bars(points)
    assert (found.lower <= distance + 0.1 * h).all()
    assert (found.upper >= distance - h).all()  # the mesh cuts corners off, by up to 0.54 h here
    assert np.isfinite(found.upper).mean() > 0.95
    assert (found.upper > found.lower + 0.02).any()  # near creases φ is short of the distance
    # Knowing where to look helps there: along the way to the nearest point of the mesh.
    nearest = igl.point_mesh_squared_distance(points, np.array(mesh.vertices), np.array(mesh.faces))[2]
    straight = CARVED.error_bars(points, normals=nearest - points)
    assert (straight.upper <= found.upper * (1 + 1e-6)).mean() > 0.99
    assert (straight.upper < found.upper - 0.02).any()
    assert (straight.upper >= distance - h).all()


def test_verdicts_find_what_is_off_and_hold_within_their_radius() -> None:
    rng = np.random.default_rng(0)
    clean = CENTRE + R * unit(950) + 0.01 * rng.normal(size=(950, 3))
    stray = uniform(50, BALL.box)
    points = np.concatenate([clean, stray])
    values = BALL(points)
    found = BALL.verdicts(points)
    threshold = robust_threshold(values)
    assert 0.02 < threshold < 0.05  # 3.07 σ, strays pull a little
    assert (found.outlier == (np.abs(values) > threshold)).all()
    assert found.outlier[:950].mean() < 0.02
    assert found.outlier[950:].mean() > 0.7  # the others fell near the surface
    same = BALL.verdicts(points, threshold)
    assert (same.outlier == found.outlier).all()
    assert (same.radius == found.radius).all()
    moved = points + 0.9999 * found.radius[:, None] * unit(1000)
    assert (BALL.verdicts(moved, threshold).outlier == found.outlier).all()
    assert found.radius == pytest.approx(np.abs(np.abs(values) - threshold), abs=1e-9)  # slope 1: sharp
    strict = BALL.verdicts(points, 0.0)
    assert strict.outlier.all()


def test_clean_points_are_accused_of_nothing_that_a_mesh_does_not_show() -> None:
    """Nine in ten lie on the surface to 1e-6, the others a tenth of a cell off it, as of a fitted field."""
    rng = np.random.default_rng(0)
    far = np.where(rng.random((1000, 1)) < 0.1, 5e-4, 1e-6) * BALL.box.longest
    points = CENTRE + (R + far) * unit(1000)
    assert robust_threshold(BALL(points)) < 1e-5 * BALL.box.longest  # which would accuse a tenth
    assert BALL.outlier_threshold(points) == RESOLVED * BALL.box.longest
    assert not BALL.verdicts(points).outlier.any()
    off = np.concatenate([points, CENTRE + (R + 0.02 * BALL.box.longest) * unit(10)])
    assert BALL.verdicts(off).outlier.tolist() == [False] * 1000 + [True] * 10


def test_nothing_asked_nothing_told() -> None:
    none = np.zeros((0, 3))
    assert BALL.distance_bound(none).shape == (0,)
    assert [len(part) for part in BALL.inside(none)] == [0, 0]
    assert BALL.project(none).points.shape == (0, 3)
    assert [len(part) for part in BALL.trace(none, none)] == [0] * 7
    assert [len(part) for part in BALL.error_bars(none)[:2]] == [0, 0]
    assert [len(part) for part in BALL.verdicts(none, 0.1)] == [0, 0]


@pytest.mark.parametrize(
    "ask",
    [BALL.distance_bound, BALL.inside, BALL.project, BALL.error_bars, BALL.verdicts],
    ids=lambda f: f.__name__,
)
def test_points_must_be_points(ask: Callable[[object], object]) -> None:
    with pytest.raises(ValueError, match=r"`points` must be \(n, 3\) and finite; got shape \(3,\)"):
        ask(CENTRE)
    with pytest.raises(ValueError, match="`points` must be finite; row 1"):
        ask([CENTRE, [0.0, math.nan, 0.0]])


def test_rays_must_be_rays() -> None:
    with pytest.raises(ValueError, match="`directions` must not be zero; row 0 is"):
        BALL.trace([CENTRE], [[0.0, 0.0, 0.0]])
    with pytest.raises(ValueError, match="`directions` must be one for each of 2 `origins`; got 1"):
        BALL.trace([CENTRE, CENTRE], [[1.0, 0.0, 0.0]])
