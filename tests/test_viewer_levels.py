"""Level sets as the slider shows them, and φ on planes, against shapes whose answer is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import igl
import numpy as np
import pytest
import trimesh

from ocsdf3d.analytic import Sphere, box, sphere, torus
from ocsdf3d.csg import Field
from ocsdf3d.field import SDF
from ocsdf3d.geometry import Box
from ocsdf3d.surface import EmptyLevelSetError
from ocsdf3d.viewer.levels import CLEAR, WIDEST, Levels, shared_limits
from ocsdf3d.viewer.slices import LINES, Slice, cut, isolines, plane_of

CENTRE = np.array([5.0, -2.0, 9.0])  # off the origin, sizes off the unit
BALL = sphere(0.9, CENTRE)
CUBOID = box((1.2, 0.8, 0.5), CENTRE)
RING = torus(0.7, 0.25, CENTRE)
N = 33  # nodes of coarse and fine grids: 36,000 values a field
FLOAT32 = 1e-6  # values of size 1 near a level


class Cut(Sphere):
    """A ball whose box is too small for it: its six caps are cut off at 0.8 of the radius."""

    kind = "cut"

    @property
    def box(self) -> Box:
        return Box(self.center - 0.8 * self.radius, self.center + 0.8 * self.radius)


CUT = Cut(CENTRE, 0.9)


def spacing(field: Field, nodes: int) -> float:
    """Of the kept grid: nodes along the longest side, grown by what the slider reaches."""
    return (1.0 + 2.0 * WIDEST) * field.box.longest / (nodes - 1)


def to_mesh(points: np.ndarray, mesh: trimesh.Trimesh) -> np.ndarray:
    """Distances to the triangles."""
    square = igl.point_mesh_squared_distance(points, np.array(mesh.vertices), np.array(mesh.faces))[0]
    return np.sqrt(square)


def apart(one: trimesh.Trimesh, other: trimesh.Trimesh) -> float:
    """Largest distance of a vertex of either to the other."""
    return float(max(to_mesh(one.vertices, other).max(), to_mesh(other.vertices, one).max()))


# ---------------------------------------------------------------------------------------------- surfaces


@pytest.mark.parametrize("level", [-0.15, -0.04, 0.0, 0.07, 0.17])
@pytest.mark.parametrize("name", ["ball", "ring"])
def test_coarse_surfaces_of_round_shapes_are_as_exact_as_marching_cubes(name: str, level: float) -> None:
    """h²/8(R − h): chord against arc, R the smallest radius of curvature at the level."""
    ball = name == "ball"
    shape: Field = BALL if ball else RING
    mesh = Levels(shape, coarse=65).coarse(level)
    h, round_ = spacing(shape, 65), (0.9 if ball else 0.25) + level
    radius = round_ if ball else min(round_, 0.7 - round_)  # of the tube, or of the hole
    sagitta = h**2 / (8.0 * (radius - h))
    assert np.abs(shape(mesh.vertices) - level).max() <= sagitta + FLOAT32
    assert mesh.is_watertight
    assert mesh.euler_number == (2 if ball else 0)
    exact = 4.0 / 3.0 * np.pi * round_**3 if ball else 2.0 * np.pi**2 * 0.7 * round_**2
    # a face is as long as the diagonal of a cell, √3 h; a ball's area is 3 V / R, a ring's 2 V / R
    assert mesh.volume == pytest.approx(exact, rel=3.0 * 3.0 * sagitta / radius)


@pytest.mark.parametrize("level", [-0.1, 0.0, 0.08])
def test_coarse_surfaces_of_a_cuboid_are_plane_where_it_is(level: float) -> None:
    mesh = Levels(CUBOID, coarse=N).coarse(level)
    off = np.abs(CUBOID(mesh.vertices) - level)
    h = spacing(CUBOID, N)
    assert off.max() <= 0.5 * h  # between nodes h apart a function of slope 1 is no farther from its chord
    local = np.abs(mesh.vertices - CENTRE) - (np.array([0.6, 0.4, 0.25]) + level)
    plane = (local < -2.0 * h - max(level, 0.0)).sum(axis=1) == 2  # away from edges, which are a bend
    assert plane.mean() > 0.3
    assert off[plane].max() < 2e-4 * h + FLOAT32  # nodes on the level are nudged by 1e-4 of a cell
    assert mesh.is_watertight
    assert mesh.euler_number == 2


@pytest.mark.parametrize("level", [-0.06, 0.0, 0.05])
@pytest.mark.parametrize("shape", [BALL, CUBOID, RING, CUT, ~BALL, BALL - CUBOID.move((0.5, 0.2, 0.0))])
def test_coarse_and_fine_agree(shape: Field, level: float) -> None:
    """Each is within half a cell of {φ = level}, so within one of the other; corners are cut off by both."""
    levels = Levels(shape, coarse=N, fine=N)
    coarse, fine = levels.coarse(level), levels.fine_mesh(level)
    assert apart(coarse, fine) < spacing(shape, N)
    assert coarse.is_watertight
    assert coarse.is_winding_consistent
    assert coarse.euler_number == fine.euler_number
    assert abs(coarse.volume - fine.volume) < 0.5 * spacing(shape, N) * fine.area


def test_level_sets_of_networks_are_capped_at_their_box(born: Callable[..., SDF]) -> None:
    """They cross it. Where slopes are small their place is uncertain: values are compared, not places."""
    field = born()
    levels = Levels(field, coarse=N, fine=N)
    h = spacing(field, N)
    for level in (-0.1, 0.0, 0.1):
        box = field.box.expanded(max(level, 0.0))
        for mesh in (levels.coarse(level), levels.fine_mesh(level)):
            assert mesh.is_watertight
            depth = np.minimum(mesh.vertices - box.lower, box.upper - mesh.vertices).min(axis=1)
            assert depth.min() > -2e-4 * h  # none beyond, but for nodes nudged by 1e-4 of a cell
            assert 0.05 < np.mean(depth < 2e-4 * h) < 0.95  # some on the box, some on the level
            # within a chord's error of the level, wherever the box does not decide
            assert np.abs(field(mesh.vertices) - level)[depth > h].max() <= 0.5 * h
        assert levels.coarse(level).volume == pytest.approx(levels.fine_mesh(level).volume, rel=0.03)


@pytest.mark.parametrize("level", [-0.1, 0.0, 0.1])
def test_a_surface_that_leaves_its_box_is_capped_there(level: float) -> None:
    """The box grows with the level and does not shrink with it, as that of `Field.mesh`."""
    half = 0.8 * 0.9 + max(level, 0.0)
    for mesh in (Levels(CUT, coarse=N).coarse(level), CUT.mesh(resolution=N, offset=level)):
        assert mesh.is_watertight
        assert mesh.extents == pytest.approx(3 * [2.0 * half], abs=1e-3 * spacing(CUT, N))
        radius = np.linalg.norm(mesh.vertices - CENTRE, axis=1)
        assert radius.max() <= 0.9 + level + FLOAT32
        assert np.mean(radius > 0.9 + level - 0.05) > 0.1  # the control: it is a ball between its caps


def test_a_complement_is_capped_around_its_hole() -> None:
    mesh = Levels(~BALL, coarse=N).coarse(0.0)
    assert mesh.is_watertight
    assert mesh.body_count == 2
    hole, around = sorted(mesh.split(only_watertight=True), key=lambda part: part.area)
    assert hole.volume < 0.0 < around.volume  # faces of the hole look into it
    assert around.extents == pytest.approx(3 * [2.4 * 0.9], abs=1e-3)  # a tenth of 1.8 wider, either way


@pytest.mark.parametrize("shape", [BALL, CUBOID, RING, CUT, ~BALL, RING.shell(0.2)])
def test_both_ends_of_the_limits_have_a_closed_surface(shape: Field) -> None:
    levels = Levels(shape, coarse=N, fine=N)
    low, high = levels.limits
    assert low < 0.0 < high == WIDEST * shape.box.longest
    for level in (low, high):
        assert levels.coarse(level).is_watertight
        assert levels.coarse(level).volume > 0.0
    assert levels.fine_mesh(high).is_watertight
    # inside of the grid, not on its faces: nothing is cut off by its end
    assert (levels.coarse(high).extents <= shape.box.size + 2.0 * high + 1e-3 * spacing(shape, N)).all()


def test_the_lower_limit_is_near_the_least_value_or_at_a_tenth() -> None:
    assert Levels(BALL, coarse=N).limits[0] == pytest.approx(-0.18)  # a tenth of 1.8; the centre is at −0.9
    low = Levels(RING, coarse=N).limits[0]
    # the tube's middle, 0.25 deep, is missed by at most half the diagonal of a cell
    assert -0.19 - 1e-12 <= low <= -(0.25 - 0.87 * spacing(RING, N)) / CLEAR
    thin = Levels(RING.shell(0.1), coarse=65).limits[0]
    assert -0.05 / CLEAR <= thin < -0.02


def test_what_no_node_reaches_is_refused() -> None:
    levels = Levels(BALL, coarse=N, fine=N)
    for level in (-0.95, 5.0):  # the centre is at −0.9; the kept grid ends at a distance of 0.5
        with pytest.raises(EmptyLevelSetError, match=f"no surface at level {level:g}"):
            levels.coarse(level)
    with pytest.raises(EmptyLevelSetError, match=r"no surface at level -0\.95"):
        levels.fine_mesh(-0.95)


@pytest.mark.parametrize("center", [(0.0, 0.0, 0.0), (0.1, 0.2, 0.3)])
def test_level_0_of_a_plate_between_the_nodes_can_be_chosen(center: tuple[float, float, float]) -> None:
    """Thinner than a cell: no node of the kept grid is inside, but `Field.mesh` finds it all the same."""
    plate = box((1.0, 1.0, 0.02), center)  # between nodes 0.05 apart
    levels = Levels(plate, coarse=25, fine=201)  # 0.005 apart
    assert levels.fine_mesh(0.0).is_watertight
    low, high = levels.limits
    assert low <= 0.0 < high


def test_a_new_level_asks_the_field_for_nothing() -> None:
    asked = []

    class Counted(Sphere):
        kind = "counted"

        def __call__(self, points: Any) -> np.ndarray:
            asked.append(len(points))
            return super().__call__(points)

    levels = Levels(Counted(CENTRE, 0.9), coarse=N)
    once = sum(asked)
    assert N**3 <= once <= (N + 3) ** 3  # a rim of a cell around
    for level in (-0.1, 0.0, 0.1):
        levels.coarse(level)
    assert sum(asked) == once


def test_the_fine_surface_is_what_is_written() -> None:
    mesh, fine = BALL.mesh(resolution=N, offset=0.1), Levels(BALL, coarse=8, fine=N).fine_mesh(0.1)
    assert mesh.vertices.tobytes() == fine.vertices.tobytes()
    assert mesh.faces.tobytes() == fine.faces.tobytes()


def test_shared_limits_suit_every_field() -> None:
    sets = [Levels(shape, coarse=N) for shape in (BALL, RING.shell(0.2), CUBOID)]
    low, high = shared_limits(sets)
    assert (low, high) == (sets[1].limits[0], sets[2].limits[1])  # the thinnest, and the smallest
    for levels in sets:
        for level in (low, high):
            assert levels.coarse(level).is_watertight


# ---------------------------------------------------------------------------------------------- slices

TILTED = (1.0, -2.0, 0.5)
NORMALS = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (-1, 0, 0), (0, -3, 0), TILTED, (1, 1, 1), (1, -1, 0)]
OFF = CENTRE + np.array([0.1, -0.2, 0.05])


def normal_of(found: Slice) -> np.ndarray:
    return np.cross(found.u, found.v)


@pytest.mark.parametrize("normal", NORMALS)
def test_the_values_are_those_of_the_field(normal: tuple[float, float, float]) -> None:
    found = cut(CUBOID, CUBOID.box, OFF, normal, 21)
    assert found.points.shape == (*found.values.shape, 3)
    for i, j in ((0, 0), (0, -1), (-1, 0), (-1, -1), (3, 1)):
        assert found.values[i, j] == CUBOID(found.points[i, j][None])[0]
    assert (found.values == CUBOID(found.points.reshape(-1, 3)).reshape(found.values.shape)).all()
    step = found.points[1, 0] - found.points[0, 0], found.points[0, 1] - found.points[0, 0]
    assert step[0] == pytest.approx(found.spacing * found.u, abs=1e-14)  # coordinates of 9 in float64
    assert step[1] == pytest.approx(found.spacing * found.v, abs=1e-14)


@pytest.mark.parametrize("normal", NORMALS)
def test_the_plane_goes_through_its_origin_across_its_normal(normal: tuple[float, float, float]) -> None:
    found = cut(CUBOID, CUBOID.box, OFF, normal, 9)
    way = np.array(normal) / np.linalg.norm(normal)
    assert np.abs((found.points - OFF) @ way).max() < 1e-14
    basis = np.stack([found.u, found.v, way])
    assert basis @ basis.T == pytest.approx(np.eye(3), abs=1e-15)
    assert np.linalg.det(basis) == pytest.approx(1.0)  # right-handed: u, v, normal


@pytest.mark.parametrize("normal", NORMALS)
def test_the_rectangle_covers_the_box_and_little_more(normal: tuple[float, float, float]) -> None:
    found = cut(CUBOID, CUBOID.box, OFF, normal, 17)
    corners = trimesh.bounds.corners([CUBOID.box.lower, CUBOID.box.upper]) - found.corner
    for way, count in ((found.u, found.values.shape[0]), (found.v, found.values.shape[1])):
        along = corners @ way
        end = found.spacing * (count - 1)
        assert -1e-14 < along.min() < 1e-14
        assert along.max() - 1e-8 * found.spacing <= end < along.max() + found.spacing
    assert max(found.values.shape) == 17


@pytest.mark.parametrize(
    ("normal", "u", "v"),
    [((1, 0, 0), "y", "z"), ((0, 1, 0), "z", "x"), ((0, 0, 1), "x", "y"), ((0, 0, -1), "x", "-y")],
)
def test_convention_axes_of_a_slice_are_axes_of_the_world(
    normal: tuple[int, int, int], u: str, v: str
) -> None:
    found = cut(CUBOID, CUBOID.box, OFF, normal, 5)
    for way, name in ((found.u, u), (found.v, v)):
        sign = -1.0 if name.startswith("-") else 1.0
        assert (way == sign * np.eye(3)["xyz".index(name[-1])]).all()


def test_only_the_direction_of_a_normal_matters() -> None:
    one, other = (cut(BALL, BALL.box, CENTRE, s * np.array(TILTED), 9) for s in (1e-3, 1e6))
    assert one.points == pytest.approx(other.points, abs=1e-12)


@pytest.mark.parametrize(
    "normal", [(0.0, 0.0, 0.0), (np.nan, 0.0, 1.0), (np.inf, 0.0, 0.0), (1.0, 0.0), np.eye(3)]
)
def test_a_normal_without_direction_is_refused(normal: Any) -> None:
    with pytest.raises(ValueError, match="`normal` must be three finite numbers, not all 0; got"):
        cut(BALL, BALL.box, CENTRE, normal)


@pytest.mark.parametrize("resolution", [1, 0, -5])
def test_a_slice_needs_two_nodes(resolution: int) -> None:
    with pytest.raises(ValueError, match=f"`resolution` must be at least 2 nodes; got {resolution}"):
        cut(BALL, BALL.box, CENTRE, (0, 0, 1), resolution)
    assert cut(BALL, BALL.box, CENTRE, (0, 0, 1), 2).values.shape == (2, 2)


@pytest.mark.parametrize(
    ("text", "origin", "normal"),
    [
        ("x", CENTRE, (1, 0, 0)),
        ("y", CENTRE, (0, 1, 0)),
        (" Z ", CENTRE, (0, 0, 1)),
        ("x=0.2", (0.2, -2.0, 9.0), (1, 0, 0)),
        ("y = -1e-3", (5.0, -0.001, 9.0), (0, 1, 0)),
        ("Z=100", (5.0, -2.0, 100.0), (0, 0, 1)),  # off the box: what is there to see is the field's matter
    ],
)
def test_planes_are_read(text: str, origin: Any, normal: tuple[int, int, int]) -> None:
    found = plane_of(text, BALL.box)
    assert found[0] == pytest.approx(np.array(origin), abs=1e-15)
    assert (found[1] == normal).all()
    assert BALL.box.center == pytest.approx(CENTRE)  # nothing was written into it


@pytest.mark.parametrize("text", ["", "w", "xy", "=1", "x=", "x=one", "x==1", "x=1=2", "0.5"])
def test_what_is_no_plane_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"a plane is x, y, z or one of them and =POSITION") as caught:
        plane_of(text, BALL.box)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["x=nan", "y=inf", "z=-inf"])
def test_a_plane_nowhere_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a plane is at a finite position; got"):
        plane_of(text, BALL.box)


# ---------------------------------------------------------------------------------------------- isolines


@pytest.mark.parametrize(
    ("low", "high"),
    [(-0.9, 0.66), (-1.0, 1.0), (-0.01, 3.0), (-5e3, 7.0), (-1e-6, 2e-6), (0.0, 1.0), (-1.0, 0.0)],
)
def test_isolines_are_round_hold_0_and_are_about_as_many_as_asked(low: float, high: float) -> None:
    found = isolines(np.linspace(low, high, 100).reshape(10, 10))
    assert 0.0 in found
    # a step is from 1 to 2.5 times a twelfth of the range; either end may miss one
    assert LINES / 2.5 - 1 <= len(found) <= LINES + 1
    step = found[1] - found[0]
    assert low - 1e-9 * step <= found[0] < low + step
    assert high - step < found[-1] <= high + 1e-9 * step
    assert f"{step:.6e}"[0] in "125"
    assert found / step == pytest.approx(np.round(found / step), abs=1e-9)


def test_isolines_of_values_of_one_sign_hold_no_0() -> None:
    found = isolines(np.linspace(3.0, 4.0, 50))
    assert found == pytest.approx(3.0 + 0.1 * np.arange(11))


def test_isolines_of_one_value() -> None:
    assert isolines(np.zeros((3, 3))).tolist() == [0.0]  # a slice along the face of a cuboid


def test_the_isoline_of_0_has_no_sign() -> None:
    """−0 would be written beside its line."""
    found = isolines(np.linspace(-0.01, 1.0, 50))
    assert found[0] == 0.0
    assert not np.signbit(found[0])
