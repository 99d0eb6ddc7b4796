"""What there is to see: names, roles and order; and colours whose values are known in advance."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from hypothesis import example, given
from hypothesis import strategies as st

from ocsdf3d import checkpoint, io
from ocsdf3d.analytic import Sphere, sphere
from ocsdf3d.field import SDF
from ocsdf3d.geometry import PointCloud
from ocsdf3d.surface import EmptyLevelSetError
from ocsdf3d.viewer.scene import COLORINGS, PALETTE, Colors, Scene, ceiling, colors_of, scene_of

CENTRE = np.array([5.0, -2.0, 9.0])  # off the origin, the radius off the unit
R = 0.9
BALL = sphere(R, CENTRE)
CUBE = trimesh.creation.box(extents=(1.0, 2.0, 3.0))
POINTS = np.random.default_rng(0).normal(size=(50, 3))


def made(*things: Any, **options: Any) -> Scene:
    return scene_of(things, resolution=12, **options)


def names(scene: Scene) -> list[str]:
    return [structure.name for structure in scene.structures]


def roles(scene: Scene) -> list[str]:
    return [structure.role for structure in scene.structures]


class Lazy(Sphere):
    """Half the distance to a ball: slope 1/2, so that nobody mistakes it for an exact one."""

    kind = "lazy"

    def __call__(self, points: Any) -> np.ndarray:
        return 0.5 * super().__call__(points)

    def gradient(self, points: Any) -> np.ndarray:
        return 0.5 * super().gradient(points)


# ---------------------------------------------------------------------------------------------- structures


def test_input_results_and_truth_come_in_this_order() -> None:
    scene = made(BALL, CUBE, cloud=POINTS, reference=CUBE)
    assert names(scene) == roles(scene) == ["cloud", "surface", "mesh", "reference"]
    assert [structure.field for structure in scene.structures] == [None, BALL, None, None]
    assert names(made(CUBE, BALL)) == ["mesh", "surface"]  # as given


@pytest.mark.parametrize(
    ("thing", "role"),
    [(BALL, "surface"), (CUBE, "mesh"), (POINTS, "cloud"), (PointCloud(POINTS), "cloud"), (~BALL, "surface")],
)
def test_roles_follow_from_what_things_are(thing: Any, role: str) -> None:
    scene = made(thing)
    assert roles(scene) == [role]
    assert scene.fields == (scene.structures if role == "surface" else ())
    assert scene.cloud is (scene.structures[0] if role == "cloud" else None)


def test_names_are_made_unique() -> None:
    assert names(made(BALL, BALL, POINTS, BALL, cloud=POINTS)) == [
        "cloud",
        "surface",
        "surface 2",
        "cloud 2",
        "surface 3",
    ]


def test_files_go_by_their_names(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "ball.safetensors", BALL)
    io.write(tmp_path / "cube.off", CUBE)
    np.save(tmp_path / "scan.npy", POINTS)
    paths = [tmp_path / name for name in ("ball.safetensors", "cube.off", "cube.off")]
    scene = made(paths[0], *map(str, paths[1:]), cloud=tmp_path / "scan.npy", reference=paths[1])
    assert names(scene) == ["scan.npy", "ball.safetensors", "cube.off", "cube.off 2", "cube.off 3"]
    assert roles(scene) == ["cloud", "surface", "mesh", "mesh", "reference"]
    field = scene["ball.safetensors"].field
    assert field is not None
    assert (field(POINTS) == BALL(POINTS)).all()
    assert (scene["scan.npy"].shape.points == POINTS).all()
    assert len(scene["cube.off"].shape.faces) == 12


def test_a_surface_is_the_mesh_of_its_field() -> None:
    surface = made(BALL, offset=0.2).structures[0].shape
    mesh = BALL.mesh(resolution=12, offset=0.2)
    assert surface.vertices.tobytes() == mesh.vertices.tobytes()
    assert surface.faces.tobytes() == mesh.faces.tobytes()
    with pytest.raises(EmptyLevelSetError, match="no surface at level -1"):
        made(BALL, offset=-1.0)  # the ball's radius is 0.9


def test_a_mesh_as_the_cloud_becomes_points() -> None:
    (structure,) = made(cloud=CUBE).structures
    assert structure.role == "cloud"
    assert isinstance(structure.shape, PointCloud)
    assert (structure.shape.points == CUBE.vertices).all()
    assert isinstance(made(reference=CUBE).structures[0].shape, trimesh.Trimesh)  # only as the cloud


@pytest.mark.parametrize("option", ["cloud", "reference"])
def test_a_field_is_no_cloud_and_no_truth(option: str, tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path / "ball.safetensors", BALL)
    expected = f"a field cannot be the {option}; give it without that option"
    with pytest.raises(ValueError, match=rf"^ball\.safetensors: {expected}"):
        made(CUBE, **{option: path})
    with pytest.raises(ValueError, match=expected):
        made(CUBE, **{option: BALL})


def test_a_refused_field_without_a_file_has_no_name_to_begin_with() -> None:
    with pytest.raises(ValueError, match=r"^[^:]"):
        made(CUBE, cloud=BALL)


def test_nothing_to_show_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to show: give a field, a mesh or a cloud"):
        scene_of([])


@pytest.mark.parametrize("thing", [np.zeros((5, 2)), np.zeros((0, 3)), [[np.nan, 0.0, 0.0]], 3])
def test_what_is_none_of_these_is_refused(thing: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        made(thing)


def test_neighbours_of_a_role_have_different_colours() -> None:
    scene = made(*[CUBE] * 3, *[POINTS] * 3, *[BALL] * 4)
    colors = [structure.color for structure in scene.structures]
    assert len(set(colors)) == len(colors) - 1  # three a role; the fourth begins again
    assert colors[-1] == colors[6] == PALETTE["surface"][0]


def test_the_box_is_around_everything() -> None:
    scene = made(CUBE, reference=np.array([[7.0, 0.0, 0.0], [0.0, -9.0, 0.0]]))
    assert scene.box.lower.tolist() == [-0.5, -9.0, -1.5]  # the cube is 1 × 2 × 3 around the origin
    assert scene.box.upper.tolist() == [7.0, 1.0, 1.5]
    assert scene["mesh"].box.size.tolist() == [1.0, 2.0, 3.0]


def test_an_unknown_name_lists_those_there_are() -> None:
    scene = made(BALL, cloud=POINTS)
    assert scene["surface"] is scene.structures[1]
    with pytest.raises(KeyError, match="no structure 'surfaces'; there are cloud, surface"):
        scene["surfaces"]


def test_scenes_levels_slices_and_figures_load_no_graphics() -> None:
    code = (
        "import sys\n"
        "from ocsdf3d.viewer import figures, levels, scene, slices, view\n"
        "print({'pyvista', 'vtkmodules', 'matplotlib', 'trame'} & set(sys.modules), 'trimesh' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "set() True"  # the control: what is loaded is seen


# ---------------------------------------------------------------------------------------------- colours


def colors(
    scene: Scene, name: str, coloring: str, vertices: Any, normals: Any = None, offset: float = 0.0
) -> Colors | None:
    return colors_of(scene[name], np.asarray(vertices, np.float64), normals, coloring, scene, offset)


def test_distances_to_the_cloud_are_exact() -> None:
    scene = made(CUBE, cloud=[[0.0, 0.0, 0.0], [10.0, 0.0, 0.0]])
    found = colors(scene, "mesh", "cloud", [[0, 3, 4], [10, 0, 1], [5, 0, 0], [6, 0, 0], [0, 0, 0]])
    assert found is not None
    assert found.values.tolist() == [5.0, 1.0, 5.0, 4.0, 0.0]  # Pythagoras' triples and the axis
    assert found.limits == (0.0, 5.0)
    assert "units" in found.title


def test_a_far_outlier_does_not_set_the_scale() -> None:
    """2 of 100 may lie beyond it."""
    scene = made(CUBE, cloud=[[0.0, 0.0, 0.0]])
    for far, end in ((1, 2.0), (3, 100.0)):
        vertices = np.outer([*np.full(100 - far, 1.5), *np.full(far, 100.0)], [0.0, 0.0, 1.0])
        found = colors(scene, "mesh", "cloud", vertices)
        assert found is not None
        assert found.limits == (0.0, end)
        assert found.values.max() == 100.0


def test_distances_are_to_the_first_cloud_also_of_the_second() -> None:
    scene = made([[0.0, 0.0, 2.0]], cloud=[[0.0, 0.0, 0.0]])
    found = colors(scene, "cloud 2", "cloud", [[0.0, 0.0, 2.0]])
    assert found is not None
    assert found.values.tolist() == [2.0]


@pytest.mark.parametrize("offset", [0.0, 0.25, -0.3])
def test_error_bars_bound_the_distance_and_meet_it(offset: float) -> None:
    """On an exact SDF the proved upper bound is the distance but for rounding, 1e-14 at coordinates of 9."""
    scene = made(BALL, reference=CUBE)
    way = np.random.default_rng(1).normal(size=(400, 3))
    radius = np.random.default_rng(2).uniform(0.2, 1.5, 400)  # up to 0.9 from the smallest surface: in reach
    points = CENTRE + radius[:, None] * way / np.linalg.norm(way, axis=1)[:, None]
    exact = np.abs(np.linalg.norm(points - CENTRE, axis=1) - (R + offset))
    found = colors(scene, "reference", "error", points, offset=offset)
    assert found is not None
    assert (found.values >= exact - 1e-14).all()
    assert (found.values <= exact + 1e-6).all()  # bisection along a ray begins at 2⁻²⁰ of its reach
    assert exact.max() > 0.5
    assert found.limits == (0.0, ceiling(float(np.quantile(found.values, 0.98))))


def test_error_bars_are_infinite_where_nothing_was_found() -> None:
    """The search reaches half of the box's longest side, here the radius."""
    scene = made(BALL, reference=CUBE)
    near, far = CENTRE + np.outer([R + 0.04, 2.1 * R], [0.0, 0.0, 1.0])
    found = colors(scene, "reference", "error", [near, far])
    assert found is not None
    assert found.values[0] == pytest.approx(0.04, abs=1e-6)
    assert found.values[1] == np.inf
    assert found.limits == (0.0, 0.05)  # the finite one alone decides
    alone = colors(scene, "reference", "error", [far])
    assert alone is not None
    assert alone.limits == (0.0, 1.0)


def test_slopes_of_exact_fields_are_one_everywhere() -> None:
    scene = made(BALL, cloud=POINTS)
    for name in ("surface", "cloud"):
        found = colors(scene, name, "slope", POINTS)
        assert found is not None
        assert found.values == pytest.approx(np.ones(50), abs=1e-12)  # three squares and a root in float64
        assert found.limits == (0.0, 1.0)


def test_slopes_are_of_the_surfaces_own_field_and_else_of_the_first() -> None:
    lazy = Lazy(CENTRE, R)
    scene = made(BALL, lazy, cloud=POINTS)
    found = [colors(scene, name, "slope", POINTS) for name in ("surface", "surface 2", "cloud")]
    slopes = [one.values[0] for one in found if one is not None]
    assert slopes == pytest.approx([1.0, 0.5, 1.0], abs=1e-12)


def test_slopes_of_networks_keep_their_bound(born: Callable[..., SDF]) -> None:
    scene = made(born())
    found = colors(scene, "surface", "slope", POINTS)
    assert found is not None
    assert found.values.max() <= 1.0 + 1e-5  # gradients of a network are float32
    assert found.values.min() < 0.999  # the control: they are not all 1


def test_normals_are_red_green_and_blue() -> None:
    scene = made(CUBE)
    ways = np.concatenate([np.eye(3), -np.eye(3), [[0.28, -0.96, 0.0]], [[1.0 + 1e-12, 0.0, 0.0]]])
    found = colors(scene, "mesh", "normals", np.zeros_like(ways), ways)
    assert found is not None
    assert found.limits is None
    assert found.values.dtype == np.uint8
    middle = 128  # of 0 and 255: 127.5, rounded to even
    assert found.values.tolist() == [
        [255, middle, middle],
        [middle, 255, middle],
        [middle, middle, 255],
        [0, middle, middle],
        [middle, 0, middle],
        [middle, middle, 0],
        [163, 5, middle],  # 127.5 · 1.28 = 163.2 and 127.5 · 0.04 = 5.1
        [255, middle, middle],  # rounding beyond 1 does not begin again at 0
    ]


def test_the_colors_of_a_file_are_shown_and_a_fields_surface_has_those_of_the_cloud() -> None:
    painted = np.random.default_rng(1).integers(0, 256, POINTS.shape)
    scene = made(BALL, CUBE, cloud=PointCloud(POINTS, colors=painted))
    for name, vertices in (("cloud", POINTS), ("surface", POINTS[::-1])):
        found = colors(scene, name, "given", vertices)
        assert found is not None
        assert found.limits is None
        assert np.array_equal(found.values, painted if name == "cloud" else painted[::-1])
    assert colors(scene, "mesh", "given", CUBE.vertices) is None
    faces = np.arange(36).reshape(12, 3)  # corners doubled, each with the colour of its own face
    own = np.repeat(np.random.default_rng(2).integers(0, 256, (12, 3)).astype(np.uint8), 3, axis=0)
    split = trimesh.Trimesh(CUBE.triangles.reshape(-1, 3), faces, vertex_colors=own, process=False)
    found = colors(made(split), "mesh", "given", split.vertices)
    assert found is not None
    assert np.array_equal(found.values, own)
    assert colors(made(BALL), "surface", "given", POINTS) is None


@pytest.mark.parametrize(
    ("name", "coloring"),
    [
        ("cloud", "normals"),  # points of an array have none
        ("cloud", "cloud"),  # distances to itself
        ("surface", "error"),  # it lies on itself
    ],
)
def test_a_colouring_that_says_nothing_of_a_structure(name: str, coloring: str) -> None:
    assert colors(made(BALL, cloud=POINTS), name, coloring, POINTS) is None


@pytest.mark.parametrize("coloring", ["cloud", "error", "slope"])
def test_a_colouring_without_what_it_measures_against(coloring: str) -> None:
    assert colors(made(CUBE), "mesh", coloring, POINTS) is None
    whole = made(CUBE, BALL, cloud=POINTS)
    assert colors(whole, "mesh", coloring, POINTS) is not None  # the control


def test_plain_is_no_quantity() -> None:
    scene = made(BALL, CUBE, cloud=POINTS)
    assert COLORINGS[0] == "plain"
    for name in names(scene):
        assert colors(scene, name, "plain", POINTS, POINTS) is None


def test_colours_are_one_a_vertex_for_every_structure() -> None:
    scene = made(BALL, cloud=POINTS, reference=CUBE)
    vertices = POINTS + CENTRE
    for structure in scene.structures:
        for coloring in COLORINGS[1:]:
            found = colors_of(structure, vertices, POINTS, coloring, scene, 0.0)
            assert found is None or len(found.values) == len(vertices)


# ---------------------------------------------------------------------------------------------- scales


@given(st.floats(1e-300, 1e300))  # 10 times the largest float64 is none, below 1e-308 powers of 10 are coarse
@example(0.1)
@example(0.3)
@example(1e23)
def test_a_scale_ends_at_the_next_of_1_2_5(value: float) -> None:
    end = ceiling(value)
    assert end >= value * (1.0 - 1e-8)  # what exceeds 0.2 by rounding is still 0.2
    assert end <= 2.5 * value * (1.0 + 1e-8)  # the widest step is from 2 to 5
    digits, exponent = f"{end:.9e}".split("e")
    assert float(digits) in (1.0, 2.0, 5.0)
    assert end == pytest.approx(float(f"{digits}e{exponent}"), rel=1e-14)
    assert ceiling(end) == pytest.approx(end, rel=1e-14)  # where it already is


@pytest.mark.parametrize(
    ("value", "end"),
    [(0.0, 1.0), (-3.0, 1.0), (np.nan, 1.0), (1.0, 1.0), (1.01, 2.0), (2.01, 5.0), (5.01, 10.0), (0.1, 0.1)],
)
def test_ends_of_scales(value: float, end: float) -> None:
    assert ceiling(value) == pytest.approx(end, rel=1e-15)
