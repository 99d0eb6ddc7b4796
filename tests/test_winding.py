"""Winding fields of meshes and of points, on shapes whose sides are known exactly."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree

from ocsdf3d import analytic
from ocsdf3d.sampling import surface_points
from ocsdf3d.winding import (
    FIELDS,
    WIDTH,
    DipoleField,
    bare_fields,
    dense_fields,
    local_spacing,
    mesh_winding,
    readings,
    solve_elements,
)


def ball(n: int, seed: int = 0, radius: float = 1.0) -> np.ndarray:
    points = np.random.default_rng(seed).normal(size=(n, 3))
    return radius * points / np.linalg.norm(points, axis=1, keepdims=True)


def sampled(mesh: trimesh.Trimesh, n: int, seed: int = 0) -> np.ndarray:
    return surface_points(mesh, n, np.random.default_rng(seed))[0]


SHAPES = {
    "sphere": (ball(800), analytic.sphere(1.0)),
    "torus": (sampled(trimesh.creation.torus(0.75, 0.25), 1000), analytic.torus(0.75, 0.25)),
    "box": (sampled(trimesh.creation.box((2.0, 1.2, 0.8)), 1000), analytic.box((2.0, 1.2, 0.8))),
}
TWO = np.concatenate([ball(500, 1, 0.3) - [0.7, 0.0, 0.0], ball(500, 2, 0.3) - [-0.7, 0.0, 0.0]])


def two_balls(x: np.ndarray) -> np.ndarray:
    one, other = analytic.sphere(0.3, (-0.7, 0.0, 0.0)), analytic.sphere(0.3, (0.7, 0.0, 0.0))
    return np.minimum(one(x), other(x))


@pytest.mark.parametrize("name", [*SHAPES, "two"])
def test_bare_points_label_space(name: str) -> None:
    points, phi = SHAPES.get(name, (TWO, two_balls))
    x = np.random.default_rng(5).uniform(-1.15, 1.15, (20_000, 3))
    true = phi(x) < 0.0
    fields = bare_fields(points)
    assert [field.width for field in fields] == [width for width, _ in FIELDS]
    for field in fields:
        inside = field(x) > 0.5
        # What is missing lies at the surface, on the inner side where ρ = 0.3 lowers the field most.
        assert (inside & true).sum() / (inside | true).sum() > 0.93
        # Beyond 0.1, three times the spacing of 0.03 or so, nothing was wrong but a point of 20,000
        # where the fast summation was.
        assert (inside == true)[np.abs(phi(x)) > 0.1].mean() > 0.9995


def test_fields_of_more_points_than_are_solved_share_oriented_plane_fits() -> None:
    points = ball(3000)
    solved = bare_fields(points[:700])[0]
    fields = dense_fields(points, solved, solved)
    assert [field.width for field in fields] == [width for width, _ in FIELDS]
    assert all(field.elements is fields[0].elements for field in fields)
    assert len(fields[0].points) == 3000
    outward = (fields[0].normals * points).sum(axis=1)
    assert (outward > 0.0).mean() >= 0.99  # measured: 1.0
    # A plane through 16 neighbours of 3,000 on the unit sphere: tilted by noise, never by 30 degrees.
    assert (outward > np.cos(np.pi / 6)).mean() >= 0.99
    assert np.linalg.norm(fields[0].elements, axis=1).sum() == pytest.approx(4 * np.pi, rel=0.2)


def test_fields_read_together_are_each_read_alone() -> None:
    points = ball(1500)
    solved = bare_fields(points[:400])[0]
    x = np.random.default_rng(1).uniform(-1.1, 1.1, (3000, 3))
    for fields in (bare_fields(points[:400]), dense_fields(points, solved, solved)):
        for together, field in zip(readings(fields, x), fields, strict=True):
            assert np.array_equal(together, field(x))
    narrow, wide = readings([fields[-1], fields[0]], x)
    assert not np.array_equal(narrow, wide)


def test_bare_field_is_one_half_at_its_points_and_one_in_the_middle() -> None:
    points = ball(500)
    field = bare_fields(points)[0]
    # AAᵀξ = 1/2 up to the regularisation ρ = 0.05: at most 5 % less.
    assert np.median(field(points)) == pytest.approx(0.49, abs=0.02)
    assert field(np.zeros((1, 3)))[0] == pytest.approx(
        1.0, abs=0.15
    )  # the kernel is bounded, elements grow: 1.11
    assert field(np.array([[0.0, 0.0, 5.0]]))[0] == pytest.approx(
        0.0, abs=0.02
    )  # flux through a closed surface


# ------------------------------------------------------------------------------------ the bounded kernel


def test_dipole_field_equals_the_double_loop() -> None:
    rng = np.random.default_rng(0)
    y = ball(60)
    elements = y * (4 * np.pi / 60) * rng.uniform(0.5, 1.5, (60, 1))
    tree = cKDTree(y)
    spacing = local_spacing(tree, y)
    # On the points themselves, nearly on them, inside the width, and anywhere.
    x = np.concatenate(
        [y[:10], y + 1e-6, y + 0.05 * rng.normal(size=y.shape), rng.uniform(-1.5, 1.5, (300, 3))]
    )
    expected = np.zeros(len(x))
    for i in range(len(x)):
        distance = [float(np.linalg.norm(yj - x[i])) for yj in y]
        width = WIDTH * spacing[int(np.argmin(distance))]
        for j in range(len(y)):
            expected[i] += elements[j] @ (y[j] - x[i]) / (4 * np.pi * max(distance[j], width) ** 3)
    error = np.abs(DipoleField(y, elements, tree, spacing)(x) - expected)
    # The fast summation's expansion is the only approximation, and a rough one: median 0.006, a few in a
    # thousand off by 0.1 to 1. Without the correction the points near y would be off by 1e11.
    assert np.median(error) < 0.02
    assert np.percentile(error, 98) < 0.15
    assert error[:10].max() < 0.15  # a hit of a point itself: nothing from that point


def test_the_width_of_the_kernel_is_what_was_asked() -> None:
    """Two spacings behind a point nothing is bounded; half a width from it the element counts as 1/w³."""
    y, element = np.zeros((1, 3)), np.array([[0.0, 0.0, 1.0]])
    y = np.concatenate([y, [[100.0, 0.0, 0.0]]])
    elements = np.concatenate([element, np.zeros((1, 3))])
    for width in (0.5, 2.0):
        field = DipoleField(y, elements, cKDTree(y), np.array([0.1, 0.1]), width)
        w = 0.1 * width
        value = field(np.array([[0.0, 0.0, -0.5 * w]]))[0]
        assert value == pytest.approx(0.5 * w / (4 * np.pi * w**3), rel=1e-6)


def test_solving_for_many_fields_is_solving_for_each() -> None:
    points = ball(200)
    spacing = local_spacing(cKDTree(points), points)
    together = solve_elements(points, spacing, FIELDS)
    assert len(together) == len(FIELDS)
    for one, field in zip(together, FIELDS, strict=True):
        assert np.allclose(one, solve_elements(points, spacing, [field])[0], rtol=0.0, atol=1e-9)
    # A larger ρ asks for smaller elements; widths differ as well.
    areas = [np.linalg.norm(elements, axis=1).sum() for elements in together]
    assert areas[0] < areas[1]
    assert areas[4] < areas[2] < areas[3]


# ------------------------------------------------------------------------------------------------ meshes


def test_inverted_closed_mesh_has_the_same_inside() -> None:
    mesh = trimesh.creation.torus(0.75, 0.25)
    inverted = mesh.copy()
    inverted.invert()
    assert inverted.volume < 0.0
    x = np.random.default_rng(0).uniform(-1.2, 1.2, (5000, 3))
    a, b = mesh_winding(mesh)(x) > 0.5, mesh_winding(inverted)(x) > 0.5
    assert a.any()
    assert (a == b).all()
    # The polyhedron is inscribed: beyond its sagitta the exact torus agrees.
    phi = analytic.torus(0.75, 0.25)(x)
    assert ((a == (phi < 0.0)) | (np.abs(phi) < 0.02)).all()
