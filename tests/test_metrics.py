"""Metrics by hand: distances that are known, scores that scale, references that are not what they seem."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import trimesh

from ocsdf3d import metrics
from ocsdf3d.geometry import PointCloud
from ocsdf3d.metrics import chamfer, evaluate, f_score, hausdorff

LENGTHS = ("chamfer", "hausdorff", "tau")  # of the keys, those that are lengths


def ball(
    radius: float = 1.5, center: tuple[float, float, float] = (5.0, -2.0, 9.0), level: int = 3
) -> trimesh.Trimesh:
    mesh = trimesh.creation.icosphere(subdivisions=level, radius=radius)
    return trimesh.Trimesh(mesh.vertices + center, mesh.faces, process=False)


def cube(side: float = 1.0, center: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> trimesh.Trimesh:
    mesh = trimesh.creation.box(extents=[side] * 3)
    return trimesh.Trimesh(mesh.vertices + center, mesh.faces, process=False)


def moved(mesh: trimesh.Trimesh, scale: float, shift: np.ndarray) -> trimesh.Trimesh:
    return trimesh.Trimesh(mesh.vertices * scale + shift, mesh.faces, process=False)


def soup(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """Every triangle with corners of its own, as STL stores them."""
    return trimesh.Trimesh(
        mesh.vertices[mesh.faces].reshape(-1, 3), np.arange(mesh.faces.size).reshape(-1, 3), process=False
    )


# ------------------------------------------------------------------------------------ sets of points


@pytest.fixture(name="plane")
def _plane() -> np.ndarray:
    """A planar lattice with spacing 0.1, off the origin."""
    x, y = np.meshgrid(np.arange(20) * 0.1, np.arange(30) * 0.1)
    return np.stack([x.ravel() + 3.0, y.ravel() - 7.0, np.full(x.size, 2.0)], axis=1)


def test_a_set_is_at_distance_zero_from_itself(plane: np.ndarray) -> None:
    assert chamfer(plane, plane) == hausdorff(plane, plane) == 0.0
    assert f_score(plane, plane, 1e-12) == 1.0


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_plane_and_its_copy_along_the_normal(plane: np.ndarray, scale: float) -> None:
    delta = 0.04  # below half the lattice spacing, so the nearest point is straight across
    a, b = scale * plane, scale * (plane + np.array([0.0, 0.0, delta]))
    assert chamfer(a, b) == pytest.approx(scale * delta, rel=1e-9)
    assert hausdorff(a, b) == pytest.approx(scale * delta, rel=1e-9)
    assert f_score(a, b, 0.999 * scale * delta) == 0.0
    assert f_score(a, b, 1.001 * scale * delta) == 1.0


def test_an_offset_of_a_million_loses_no_digits(plane: np.ndarray) -> None:
    shift = np.array([5e6, 4e6, 100.0])
    # Coordinates of 5e6 are stored to 1e-9; squares of them, to 1e-3.
    assert chamfer(plane + shift, plane + shift + [0, 0, 0.04]) == pytest.approx(0.04, abs=1e-8)


def test_the_two_ways_are_halved_not_added() -> None:
    a, b = np.zeros((1, 3)), np.array([[0.0, 0.0, 0.0], [3.0, 4.0, 0.0]])
    assert chamfer(a, b) == chamfer(b, a) == 0.5 * (0.0 + 0.5 * (0.0 + 5.0))
    assert hausdorff(a, b) == hausdorff(b, a) == 5.0  # the farther way, from either side
    assert f_score(a, b, 1.0) == pytest.approx(2 * 1.0 * 0.5 / 1.5)  # all of a, half of b


def test_the_threshold_itself_counts() -> None:
    assert f_score(np.zeros((1, 3)), np.array([[0.25, 0.0, 0.0]]), 0.25) == 1.0


def test_an_empty_set_is_infinitely_far() -> None:
    some, none = np.zeros((4, 3)), np.zeros((0, 3))
    for a, b in ((some, none), (none, some), (none, none)):
        assert chamfer(a, b) == hausdorff(a, b) == np.inf
        assert f_score(a, b, 1e9) == 0.0


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((3, 2)), np.zeros((3, 3)), r"`a` must be \(n, 3\) and finite; got shape \(3, 2\)"),
        (np.zeros((3, 3)), np.full((3, 3), np.nan), "`b` must be"),
    ],
)
def test_points_are_checked(a: np.ndarray, b: np.ndarray, message: str) -> None:
    for measure in (chamfer, hausdorff, lambda a, b: f_score(a, b, 1.0)):
        with pytest.raises(ValueError, match=message):
            measure(a, b)


@pytest.mark.parametrize("tau", [0.0, -1.0, np.nan, np.inf])
def test_threshold_is_checked(tau: float) -> None:
    with pytest.raises(ValueError, match="`tau` must be positive"):
        f_score(np.zeros((1, 3)), np.zeros((1, 3)), tau)
    with pytest.raises(ValueError, match="`tau` must be positive"):
        evaluate(cube(), cube(), tau=tau)


# --------------------------------------------------------------------------------------------- meshes


def test_keys() -> None:
    assert list(evaluate(cube(), cube(), samples=100)) == [
        "chamfer",
        "hausdorff",
        "f_score",
        "tau",
        "normal_consistency",
        "normal_consistency_signed",
        "iou",
        "watertight",
        "euler",
        "volume",
    ]


def test_a_mesh_against_itself_scores_the_floor() -> None:
    mesh = ball()
    figures = evaluate(mesh, mesh, samples=20_000)
    assert figures["chamfer"] == metrics.floor(mesh, samples=20_000)
    # Nearest of n random points on area A: mean distance ½ √(A/n), here with 5 % in reserve.
    assert figures["chamfer"] == pytest.approx(0.5 * np.sqrt(mesh.area / 20_000), rel=0.05)
    # A point has no neighbour within τ with probability exp(−π τ² n / A) = 0.13; 4 σ of 20,000 draws is 0.01.
    alone = np.exp(-np.pi * 0.03**2 * 20_000 / mesh.area)
    assert figures["f_score"] == pytest.approx(1.0 - alone, abs=0.01)
    assert figures["iou"] == 1.0  # the same points asked of the same mesh
    assert figures["tau"] == pytest.approx(0.01 * 3.0, rel=1e-3)
    assert figures["normal_consistency"] == pytest.approx(figures["normal_consistency_signed"])
    assert (
        figures["normal_consistency"] > 0.995
    )  # facets of 4°: neighbours on another differ by cos 4° = 0.998
    assert figures["watertight"] is True
    assert figures["euler"] == 2
    assert figures["volume"] == pytest.approx(mesh.volume, rel=1e-12)


def test_concentric_spheres_by_hand() -> None:
    inner, outer = ball(1.5, level=4), ball(1.8, level=4)
    figures = evaluate(inner, outer, samples=20_000)
    # √(0.3² + s²) with s ≈ 0.02, the spacing of samples; facets at level 4 are inside by 0.1 %.
    assert figures["chamfer"] == pytest.approx(0.3, rel=5e-3)
    # The widest gap of n samples is about √(A ln n / πn) = 0.08: √(0.3² + 0.08²) = 0.31.
    assert 0.3 <= figures["hausdorff"] < 0.32
    assert figures["iou"] == pytest.approx((1.5 / 1.8) ** 3, abs=0.01)  # 4 σ: √(0.58 · 0.42 / 26,000) = 0.003
    assert figures["f_score"] == 0.0
    assert evaluate(inner, outer, samples=20_000, tau=0.32)["f_score"] == 1.0
    assert figures["normal_consistency"] > 0.99


def test_iou_of_overlapping_cubes() -> None:
    figures = evaluate(cube(1.0), cube(1.0, (0.5, 0.0, 0.0)), samples=1000)
    assert figures["iou"] == pytest.approx(
        1.0 / 3.0, abs=0.01
    )  # 4 σ of 50,000 points that all lie in the union
    assert evaluate(cube(1.0), cube(1.0, (3.0, 0.0, 0.0)), samples=1000)["iou"] == 0.0


@pytest.mark.parametrize(("scale", "shift"), [(1e-6, 0.0), (37.0, 5.0), (1e6, 0.0), (1.0, 5e6)])
def test_all_scale_with_the_world(scale: float, shift: float) -> None:
    a, b, offset = ball(1.0), cube(1.7, (5.1, -2.0, 9.0)), np.array([shift, -shift, 0.5 * shift])
    here = evaluate(a, b, samples=5000)
    there = evaluate(moved(a, scale, offset), moved(b, scale, offset), samples=5000)
    for key, value in here.items():
        power = 1 if key in LENGTHS else 3 if key == "volume" else 0
        # A shift of 5e6 rounds coordinates to 1e-9, which may move a sample across a threshold or an edge.
        assert there[key] == pytest.approx(value * scale**power, rel=1e-3 if shift > 1e3 else 1e-6), key


def test_a_reference_elsewhere_does_not_spoil_the_volume() -> None:
    """About a reference 5e6 away, the sum of tetrahedra lost all digits."""
    assert evaluate(cube(1.0), cube(1.0, (5e6, 5e6, 0.0)), samples=100)["volume"] == pytest.approx(1.0)


def test_flipped_normals_show_in_the_signed_score_only() -> None:
    upright = ball()
    inside_out = trimesh.Trimesh(upright.vertices, upright.faces[:, ::-1], process=False)
    figures = evaluate(inside_out, upright, samples=5000)
    assert figures["normal_consistency"] > 0.99
    assert figures["normal_consistency_signed"] < -0.99
    assert figures["volume"] == pytest.approx(-upright.volume)
    assert figures["iou"] == 1.0  # a set of points has no orientation


def test_an_inverted_reference_is_still_a_solid() -> None:
    upright = ball()
    inside_out = trimesh.Trimesh(upright.vertices, upright.faces[:, ::-1], process=False)
    assert evaluate(upright, inside_out, samples=100)["iou"] == 1.0


def test_a_reference_wound_at_random_is_still_a_solid() -> None:
    upright = cube(1.3, (1.0, 2.0, 3.0))
    faces = upright.faces.copy()
    faces[::3] = faces[::3, ::-1]
    assert (
        evaluate(upright, trimesh.Trimesh(upright.vertices, faces, process=False), samples=100)["iou"] == 1.0
    )


def test_a_cavity_is_not_filled() -> None:
    outer, inner = cube(1.0), cube(0.8)
    hollow = trimesh.Trimesh(
        np.concatenate([outer.vertices, inner.vertices]),
        np.concatenate([outer.faces, inner.faces[:, ::-1] + len(outer.vertices)]),
        process=False,
    )
    # The wall is 1 − 0.8³ = 0.488 of the cube.
    assert evaluate(outer, hollow, samples=100)["iou"] == pytest.approx(0.488, abs=0.01)


def test_solids_that_touch_along_an_edge_are_closed() -> None:
    """Merged, four faces meet in that edge: no manifold, but it has an inside."""
    both = trimesh.util.concatenate([cube(1.0), cube(1.0, (1.0, 1.0, 0.0))])
    assert evaluate(cube(1.0), both, samples=100)["iou"] == pytest.approx(0.5, abs=0.01)


def test_triangle_soup_is_merged_first() -> None:
    figures = evaluate(soup(ball()), soup(ball()), samples=100)
    assert figures["watertight"] is True
    assert figures["euler"] == 2
    assert figures["iou"] == 1.0


def test_triangle_soup_read_from_stl(tmp_path: Path) -> None:
    path = tmp_path / "ball.stl"
    ball().export(path)
    read = trimesh.load(path, process=False)
    assert len(read.vertices) == 3 * len(read.faces)  # as the format has it
    assert evaluate(ball(), read, samples=100)["iou"] > 0.999  # float32 moves the facets by 1e-7


def test_merging_leaves_small_shapes_apart() -> None:
    """trimesh welds below 1e-8, a tenth of this shape's facets."""
    small = moved(ball(level=4), 1e-7, np.zeros(3))
    assert evaluate(soup(small), small, samples=100)["euler"] == 2


def test_negative_zero_is_zero() -> None:
    mesh = soup(cube())
    vertices = np.where(mesh.vertices > 0, mesh.vertices, -0.0 * mesh.vertices)  # corners at 0 and at −0
    vertices[::2] = np.where(vertices[::2] == 0.0, 0.0, vertices[::2])
    assert (
        evaluate(trimesh.Trimesh(vertices, mesh.faces, process=False), cube(), samples=100)["watertight"]
        is True
    )


def test_open_meshes() -> None:
    whole = ball()
    half = trimesh.Trimesh(whole.vertices, whole.faces[: len(whole.faces) // 2], process=False)
    figures = evaluate(half, whole, samples=1000)
    assert figures["watertight"] is False
    assert figures["volume"] is None  # it would depend on the origin
    assert 0.0 <= figures["iou"] < 1.0  # the reference is closed, so the question stands
    assert evaluate(whole, half, samples=1000)["iou"] is None


def test_an_empty_mesh_is_infinitely_far() -> None:
    empty = trimesh.Trimesh(process=False)
    figures = evaluate(empty, cube())
    assert figures["chamfer"] == figures["hausdorff"] == np.inf
    assert figures["f_score"] == figures["iou"] == figures["volume"] == 0.0
    assert figures["watertight"] is False
    assert figures["euler"] == 0
    assert figures["normal_consistency"] is figures["normal_consistency_signed"] is None


def test_a_cloud_as_reference() -> None:
    mesh = ball()
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(3000, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    points = 1.5 * normals + [5.0, -2.0, 9.0]
    bare, oriented = PointCloud(points), PointCloud(points, normals=-normals)
    figures = evaluate(mesh, bare)
    assert figures["iou"] is figures["normal_consistency"] is figures["normal_consistency_signed"] is None
    # To the cloud: ½ √(A / 3000) = 0.048; from it: a tenth of that, as 100,000 samples are denser.
    assert figures["chamfer"] == pytest.approx(0.5 * (0.048 + 0.008), rel=0.1)
    assert evaluate(mesh, oriented)["normal_consistency_signed"] < -0.99
    thinned = evaluate(mesh, oriented, samples=500)
    assert thinned["chamfer"] == pytest.approx(0.5 * np.sqrt(mesh.area / 500), rel=0.15)  # 500 against 500


def test_an_unused_vertex_changes_nothing() -> None:
    mesh = ball()
    stray = trimesh.Trimesh(np.concatenate([mesh.vertices, [[1e3] * 3]]), mesh.faces, process=False)
    assert evaluate(stray, stray, samples=1000) == pytest.approx(evaluate(mesh, mesh, samples=1000))


def test_same_seed_same_figures() -> None:
    one, two = (evaluate(ball(), cube(3.0, (5.0, -2.0, 9.0)), samples=1000, seed=3) for _ in range(2))
    other = evaluate(ball(), cube(3.0, (5.0, -2.0, 9.0)), samples=1000, seed=4)
    assert one == two
    assert one["chamfer"] != other["chamfer"]
    assert one["iou"] != other["iou"]


def test_inputs_are_left_alone() -> None:
    mesh, reference = soup(ball()), soup(cube())
    for each in (mesh, reference):
        each.vertices.setflags(write=False)
    kept = [array.copy() for each in (mesh, reference) for array in (each.vertices, each.faces)]
    evaluate(mesh, reference, samples=1000)
    now = [array for each in (mesh, reference) for array in (each.vertices, each.faces)]
    assert all(np.array_equal(a, b) for a, b in zip(kept, now, strict=True))


@pytest.mark.parametrize(
    ("mesh", "reference", "options", "error", "message"),
    [
        (np.zeros((3, 3)), cube(), {}, TypeError, r"`mesh` must be a trimesh\.Trimesh; got ndarray"),
        (cube(), "bunny.off", {}, TypeError, r"`reference` must be a trimesh\.Trimesh; got str"),
        (cube(), trimesh.Trimesh(process=False), {}, ValueError, "`reference` has 0 vertices and no faces"),
        (
            cube(),
            trimesh.Trimesh(np.ones((3, 3)), [[0, 1, 2]], process=False),
            {},
            ValueError,
            "must have an extent",
        ),
        (cube(), cube(), {"samples": 0}, ValueError, "`samples` must be at least 1; got 0"),
        (
            trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, np.inf, 0]], [[0, 1, 2]], process=False),
            cube(),
            {},
            ValueError,
            r"`mesh` must have finite vertices; 1 of 3 are not, the first is vertex 2",
        ),
    ],
)
def test_refusals(
    mesh: object, reference: object, options: dict[str, int], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        evaluate(mesh, reference, **options)  # type: ignore[arg-type]


def test_a_floor_needs_a_surface() -> None:
    with pytest.raises(TypeError, match=r"`reference` must be a trimesh\.Trimesh; got PointCloud"):
        metrics.floor(PointCloud(np.eye(3)))  # type: ignore[arg-type]


def test_the_default_is_quick() -> None:
    mesh = ball(level=6)  # 82,000 faces, as a mesh of 100 nodes has
    start = time.perf_counter()
    evaluate(mesh, mesh)
    assert time.perf_counter() - start < 10.0  # about 1 s; ten times that only when something is quadratic


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_corners_repeated_with_rounding_noise_are_one(size: float) -> None:
    soup = trimesh.creation.box(extents=(size, size, size))
    corners = soup.triangles.reshape(-1, 3) + 1e-17 * size * np.arange(36)[:, None]
    repeated = trimesh.Trimesh(corners, np.arange(36).reshape(-1, 3), process=False)
    assert evaluate(soup, repeated, samples=100)["iou"] == 1.0
