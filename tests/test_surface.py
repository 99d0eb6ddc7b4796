"""Meshes are closed, wound outward, as exact as linear interpolation allows, whatever the nodes hold."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from skimage.measure import marching_cubes

from ocsdf3d.analytic import ExactSDF, box, capsule, sphere, torus
from ocsdf3d.geometry import Box
from ocsdf3d.grid import LARGEST, Grid, from_nodes, sample
from ocsdf3d.sparse import NUDGE
from ocsdf3d.surface import EmptyLevelSetError, extract

R = 0.9  # off the unit, like the centres below
CENTRE = np.array([5.0, -2.0, 9.0])


def gridded(values: np.ndarray, level: float = 0.0) -> Grid:
    """Node values with unit spacing, as if sampled."""
    return from_nodes(values, [0.0, 0.0, 0.0], 1.0, level=level)


def walled(values: np.ndarray) -> Grid:
    """The same with a layer of outside around it, so that the level set stays off the faces of the box."""
    return gridded(np.pad(values, 1, constant_values=np.abs(values).max()))


def assert_sound(mesh: trimesh.Trimesh) -> None:
    """Closed, oriented, manifold at edges and vertices; triangles have area, vertices are used and unique."""
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    corners = mesh.vertices[mesh.faces]
    doubled = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    assert doubled.min() > 0.0
    assert len(np.unique(mesh.vertices, axis=0)) == len(mesh.vertices) == len(np.unique(mesh.faces))
    assert fans(mesh) == len(mesh.vertices)


def fans(mesh: trimesh.Trimesh) -> int:
    """Groups of triangles around vertices, joined across edges: two at a vertex where two sheets touch."""
    corner = np.arange(mesh.faces.size).reshape(-1, 3)
    tail, head = mesh.faces.reshape(-1), np.roll(mesh.faces, -1, axis=1).reshape(-1)
    at_tail, at_head = corner.reshape(-1), np.roll(corner, -1, axis=1).reshape(-1)
    forth, back = np.lexsort((head, tail)), np.lexsort((tail, head))  # an edge and its opposite, in one order
    first = np.concatenate([at_tail[forth], at_head[forth]])
    second = np.concatenate([at_head[back], at_tail[back]])
    graph = coo_matrix((np.ones(len(first)), (first, second)), shape=(corner.size,) * 2)
    return int(connected_components(graph, directed=False)[0])


# ------------------------------------------------------------------------------------- the exact sphere


def ball_mesh(resolution: int) -> tuple[trimesh.Trimesh, float]:
    ball = sphere(R, CENTRE)
    sampled = sample(ball, ball.box.expanded(0.137 * R), resolution)  # 0.137: nodes fall nowhere special
    return extract(sampled), sampled.spacing


def test_convention_faces_wind_outward() -> None:
    mesh, _ = ball_mesh(40)
    assert mesh.volume > 0.0  # whatever a library's documentation says of winding
    outward = (mesh.triangles_center - CENTRE) * mesh.face_normals
    assert (outward.sum(axis=1) > 0.0).all()


def test_convention_ij_order() -> None:
    """A box with three different sides comes out with each along its own axis."""
    shape = box(size=(1.2, 0.8, 0.5), center=CENTRE)
    mesh = extract(sample(shape, shape.box.expanded(0.1), 50))
    spacing = (1.2 + 0.2) / 49
    assert np.abs(mesh.extents - [1.2, 0.8, 0.5]).max() < 2 * NUDGE * spacing  # planes are met exactly


@pytest.mark.parametrize("resolution", [16, 31, 64, 100])
def test_sphere_vertices_within_chord_against_arc(resolution: int) -> None:
    mesh, h = ball_mesh(resolution)
    assert_sound(mesh)
    assert mesh.euler_number == 2
    off = np.linalg.norm(mesh.vertices - CENTRE, axis=1) - R
    slack = 1e-6 * R  # float32 values of φ near 0, coordinates of size 9 in float64
    assert off.max() <= slack  # φ is convex, its chords lie above it: every vertex is inside …
    assert -off.min() <= h**2 / (8.0 * (R - h)) + slack  # … and by no more than the sagitta
    assert mesh.area < 4.0 * np.pi * R**2  # a polyhedron inscribed in a ball errs below
    assert mesh.volume < 4.0 / 3.0 * np.pi * R**3


def test_order_of_convergence_is_two() -> None:
    ball = sphere(R, CENTRE)
    meshes = [ball_mesh(n) for n in (25, 49, 97)]  # spacing halves: 24, 48, 96 cells
    errors = {
        "vertices": [np.abs(ball(mesh.vertices)).max() for mesh, _ in meshes],
        "volume": [4.0 / 3.0 * np.pi * R**3 - mesh.volume for mesh, _ in meshes],
        "area": [4.0 * np.pi * R**2 - mesh.area for mesh, _ in meshes],
    }
    for error in errors.values():
        orders = np.log2(np.array(error[:-1]) / np.array(error[1:]))
        assert ((orders > 1.8) & (orders < 2.2)).all(), errors  # O(h²); ±0.2 for where nodes happen to fall


def test_level_moves_the_surface_by_its_value() -> None:
    ball = sphere(R, CENTRE)
    for level in (-0.3, 0.25):
        sampled = sample(ball, ball.box.expanded(0.4), 80, level=level)
        radius = np.linalg.norm(extract(sampled).vertices - CENTRE, axis=1)
        # Sagitta of the smallest sphere, plus float32 rounding of values of size 0.3.
        assert np.abs(radius - (R + level)).max() < sampled.spacing**2 / (8.0 * 0.5) + 1e-7


@pytest.mark.parametrize("scale", [1e-6, 37.0, 1e6])
@pytest.mark.parametrize("offset", [(0.0, 0.0, 0.0), (5.0, -2.0, 9.0)])
def test_off_the_unit_the_same_mesh(scale: float, offset: tuple[float, float, float]) -> None:
    shape, shift = torus(major=0.7, minor=0.25), np.array(offset) * scale
    around = shape.box.expanded(0.1)
    here = extract(sample(shape, around, 50))
    there = extract(
        sample(
            lambda p: scale * shape((p - shift) / scale),
            Box(around.lower * scale + shift, around.upper * scale + shift),
            50,
        )
    )
    assert np.array_equal(here.faces, there.faces)
    # float32 values of size 1 where a crossing is shallow: 1e-7, times the world.
    assert np.abs((there.vertices - shift) / scale - here.vertices).max() < 1e-6


def test_georeferenced_coordinates_lose_nothing() -> None:
    shift = np.array([5e6, 4e6, 300.0])
    ball = sphere(R, shift)
    mesh = extract(sample(ball, ball.box.expanded(0.1), 60))
    assert_sound(mesh)
    h = (2 * R + 0.2) / 59
    # Sagitta plus a few units in the last place of float64 at 5e6, 1e-9 each.
    assert np.abs(np.linalg.norm(mesh.vertices - shift, axis=1) - R).max() < h**2 / (8 * (R - h)) + 1e-8


# ---------------------------------------------------------------------------------- nodes on the level


@pytest.mark.parametrize("resolution", [17, 33, 65, 129])
def test_sphere_through_nodes(resolution: int) -> None:
    """Spacing 1.6 / (n − 1) divides the radius 0.5: raw marching cubes tears and duplicates vertices here."""
    ball = sphere(0.5)
    sampled = sample(ball, Box([-0.8] * 3, [0.8] * 3), resolution)
    h = 1.6 / (resolution - 1)
    assert (np.abs(sampled.bricks) < 1e-7).sum() >= 6  # the poles at least
    mesh = extract(sampled)
    assert_sound(mesh)
    assert mesh.euler_number == 2
    off = np.linalg.norm(mesh.vertices, axis=1) - 0.5
    assert off.max() <= 1e-7  # float32; nudged nodes are outside, so vertices go inward
    assert -off.min() <= h**2 / (8.0 * (0.5 - h)) + 2.0 * NUDGE * h


@pytest.mark.parametrize("resolution", [13, 25, 49])
def test_box_on_grid_planes(resolution: int) -> None:
    """Whole faces of nodes at level 0: 6 · (n/1.2)² of them."""
    shape = box(size=1.0, center=(0.0, 0.0, 0.0))
    sampled = sample(shape, Box([-0.6] * 3, [0.6] * 3), resolution)
    mesh = extract(sampled)
    assert_sound(mesh)
    assert mesh.euler_number == 2
    h = 1.2 / (resolution - 1)
    assert np.abs(shape(mesh.vertices)).max() < 2.0 * NUDGE * h  # on the planes, edges cut off by a cell …
    assert 1.0 - 12.0 * h**2 / 2.0 - 1e-3 < mesh.volume < 1.0  # … twelve prisms of section h²/2


def test_nodes_within_rounding_of_the_level() -> None:
    """φ = x − 3 on whole numbers, blurred by 1e-7: signs at random, one plane must come out."""
    x, y, z = np.meshgrid(*[np.arange(8.0)] * 3, indexing="ij")
    ball = np.maximum.reduce([x - 3.0, 1.5 - x, 1.5 - y, y - 5.5, 1.5 - z, z - 5.5])
    noisy = ball + 1e-7 * np.random.default_rng(0).normal(size=ball.shape)
    mesh = extract(gridded(noisy))
    assert_sound(mesh)
    assert mesh.euler_number == 2
    assert np.array_equal(mesh.faces, extract(gridded(ball)).faces)  # noise below the nudge changes nothing


def test_two_spheres_that_touch_in_a_node() -> None:
    """The saddle lies on a node; it counts as outside, so they part."""
    one, two = sphere(0.5, (-0.5, 0.0, 0.0)), sphere(0.5, (0.5, 0.0, 0.0))
    around = Box([-1.2, -0.7, -0.7], [1.2, 0.7, 0.7])
    mesh = extract(sample(lambda p: np.minimum(one(p), two(p)), around, 49))  # spacing 0.05
    assert_sound(mesh)
    assert mesh.euler_number == 4
    assert len(mesh.split(only_watertight=False)) == 2


@pytest.mark.parametrize(
    ("shape", "euler"),
    [
        (torus(major=0.7, minor=0.25, center=CENTRE), 0),
        (capsule(CENTRE, CENTRE + np.array([0.5, 0.7, -0.3]), 0.2), 2),
        (box((1.0, 0.05, 0.7), CENTRE), 2),
    ],
)
def test_euler_characteristic(shape: ExactSDF, euler: int) -> None:
    mesh = extract(sample(shape, shape.box.expanded(0.1), 64))
    assert_sound(mesh)
    assert mesh.euler_number == euler


def test_two_spheres_apart() -> None:
    one, two = sphere(0.4, (-0.6, 0.0, 0.0)), sphere(0.3, (0.6, 0.1, 0.0))
    around = Box([-1.2] * 3, [1.2] * 3)
    mesh = extract(sample(lambda p: np.minimum(one(p), two(p)), around, 60))
    assert_sound(mesh)
    assert mesh.euler_number == 4


def test_shell_has_two_sheets() -> None:
    """|distance| − 0.1: negative in the skin only; the inner sheet faces the hollow, so it is subtracted."""
    ball = sphere(R)
    mesh = extract(sample(lambda p: np.abs(ball(p)) - 0.1, ball.box.expanded(0.3), 80))
    assert_sound(mesh)
    assert mesh.euler_number == 4
    assert mesh.volume == pytest.approx(4.0 / 3.0 * np.pi * (1.0**3 - 0.8**3), rel=5e-3)  # O(h²/R²) = 1e-3


# --------------------------------------------------------------------------------------- rough fields


def waves(seed: int, frequency: float, nodes: int = 40) -> np.ndarray:
    """Twelve plane waves in random directions; `frequency` radians across the grid."""
    rng = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*[np.linspace(0.0, 1.0, nodes)] * 3, indexing="ij"), axis=-1)
    directions, phases = rng.normal(scale=frequency, size=(12, 3)), rng.uniform(0.0, 2.0 * np.pi, 12)
    return (np.sin(places @ directions.T + phases) * rng.normal(size=12)).sum(axis=-1)


@pytest.mark.parametrize("frequency", [6.0, 25.0, 60.0])
@pytest.mark.parametrize("seed", range(4))
def test_random_smooth_fields(seed: int, frequency: float) -> None:
    mesh = extract(walled(waves(seed, frequency)))
    assert_sound(mesh)
    assert mesh.volume > 0.0


@pytest.mark.parametrize("seed", range(4))
def test_random_fields_with_values_on_the_level(seed: int) -> None:
    """Rounded to quarters: a tenth of the nodes equal the level, the rest tie at ambiguous faces."""
    assert_sound(extract(walled(np.round(4.0 * waves(seed, 25.0)) / 4.0)))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("values", [(-1.0, 1.0), (-2.0, -1.0, 1.0, 2.0), (-1.0, 0.0, 1.0)])
def test_noise_with_ties_in_every_ambiguous_face(seed: int, values: tuple[float, ...]) -> None:
    """The worst a grid can hold; the mesher alone leaves edges with four faces here, hundreds of them."""
    assert_sound(extract(walled(np.random.default_rng(seed).choice(values, (20, 20, 20)))))


def test_same_grid_same_bytes() -> None:
    noise = np.random.default_rng(0).choice([-1.0, 1.0], (12, 12, 12))
    one, two = extract(walled(noise)), extract(walled(noise))
    assert one.vertices.tobytes() == two.vertices.tobytes()
    assert one.faces.tobytes() == two.faces.tobytes()


# ------------------------------------------------------------------------------------ edges and errors


def test_open_where_the_box_cuts_it() -> None:
    ball = sphere(R)
    mesh = extract(sample(ball, Box([-1, -1, 0], [1, 1, 1]), 51))  # 25 whole cells upwards
    assert not mesh.is_watertight
    rim = mesh.vertices[
        np.unique(mesh.edges[trimesh.grouping.group_rows(mesh.edges_sorted, require_count=1)])
    ]
    assert np.abs(rim[:, 2]).max() == 0.0  # the hole is where the box ends, and nowhere else
    assert mesh.euler_number == 1  # a disk


def test_many_nodes_along_one_side() -> None:
    """Its float32 positions are coarsest at the far end; the mesher's crossings must be told from nodes."""
    values = np.ones((LARGEST, 4, 4))
    values[1:-1, 1:3, 1:3] = np.random.default_rng(0).choice([-1e-5, -1.0], (LARGEST - 2, 2, 2))
    mesh = extract(gridded(values))
    assert_sound(mesh)
    assert (
        np.sum(mesh.vertices != np.round(mesh.vertices), axis=1) == 1
    ).all()  # on grid edges, off the nodes


def test_smallest_grid() -> None:
    mesh = extract(gridded(np.array([-1.0, 1, 1, 1, 1, 1, 1, 1]).reshape(2, 2, 2)))
    assert mesh.faces.shape == (1, 3)
    assert np.abs(np.sort(mesh.vertices.sum(axis=1)) - 0.5).max() < 1e-12  # the middle of three edges


def test_the_grid_is_left_alone() -> None:
    values = np.pad(np.zeros((3, 3, 3), np.float32) - 1.0, 2, constant_values=1.0)
    values[3, 3, 3] = 0.0
    before = values.copy()
    extract(gridded(values))
    assert np.array_equal(values, before)


@pytest.mark.parametrize(
    ("values", "level"),
    [
        (np.full((4, 4, 4), 0.5), 0.0),
        (np.full((4, 4, 4), -0.5), 0.0),
        (np.pad(np.zeros((1, 1, 1)), 1, constant_values=1.0), 0.0),  # touched, not crossed
        (np.linspace(0.0, 1.0, 27).reshape(3, 3, 3), 1.5),
    ],
)
def test_no_surface_is_an_error(values: np.ndarray, level: float) -> None:
    with pytest.raises(
        EmptyLevelSetError, match=rf"no surface at level {level:g}: φ on the .* grid spans \["
    ):
        extract(gridded(values, level))


def test_the_error_names_the_range_that_was_met_not_the_filling() -> None:
    ball = sphere(0.1, (3.0, 0.0, 0.0))
    sparse = sample(ball, Box([-1] * 3, [1] * 3), 64, lipschitz=1.0)
    with pytest.raises(EmptyLevelSetError, match=r"64×64×64 grid spans \[2\.\d+, [34]\.\d+\]"):
        extract(sparse)


# --------------------------------------------------------------------------------------- brick by brick


@pytest.mark.parametrize("values", [waves(0, 25.0), waves(1, 60.0), np.round(4.0 * waves(2, 25.0)) / 4.0])
def test_bricks_are_welded_into_what_the_mesher_makes_of_the_whole(values: np.ndarray) -> None:
    """40 nodes: 27 bricks; the same triangles, wherever they are cut, and nothing between bricks."""
    grid = walled(values)
    mesh = extract(grid)
    nodes = np.pad(values, 1, constant_values=np.abs(values).max()).astype(np.float32)
    steepest = max(
        float(np.abs(np.diff(nodes, axis=a))[np.diff(nodes < 0.0, axis=a)].max()) for a in range(3)
    )
    unit = nodes.astype(np.float64)
    unit = np.where(np.abs(unit) < NUDGE * steepest, NUDGE * steepest, unit) / steepest
    seen = np.copysign(np.maximum(np.abs(unit), 1e-3), unit).astype(np.float32)
    vertices, faces, _, _ = marching_cubes(seen, 0.0, gradient_direction="descent", allow_degenerate=True)
    whole = trimesh.Trimesh(vertices, faces, process=False)
    assert len(grid.bricks) == 27
    assert len(mesh.vertices) - len(whole.vertices) == (len(mesh.faces) - len(whole.faces)) // 2  # bent edges
    if len(mesh.faces) == len(whole.faces):
        assert triangles(mesh) == triangles(whole)


def triangles(mesh: trimesh.Trimesh) -> set[frozenset[tuple[int, ...]]]:
    """Faces by the edges of the grid on which their corners lie: node, and the axes between nodes."""
    node = np.floor(mesh.vertices)
    names = np.concatenate([node, mesh.vertices != node], axis=1).astype(int).tolist()
    return {frozenset(tuple(names[corner]) for corner in face) for face in mesh.faces.tolist()}


def test_vertices_follow_their_edges() -> None:
    """In the order of the grid's nodes, so that nothing depends on how bricks were cut."""
    mesh = extract(walled(waves(0, 25.0)))
    node = np.floor(mesh.vertices) @ [42.0**2, 42.0, 1.0]
    assert (np.diff(node) >= 0.0).all()


def test_an_edge_shared_by_four_triangles_across_bricks_is_bent() -> None:
    """Noise of ±1 ties in every ambiguous face, those between bricks too: 36 nodes, three bricks a side."""
    mesh = extract(walled(np.random.default_rng(5).choice([-1.0, 1.0], (34, 34, 34))))
    assert_sound(mesh)
