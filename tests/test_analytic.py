"""Exact shapes are exact: values by hand, gradients by differences, slope 1, boxes that touch."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from ocsdf3d.analytic import ExactSDF, box, capsule, sphere, torus

# Off the unit: no radius is 1, no centre is 0, so a forgotten parameter shows.
SHAPES: dict[str, ExactSDF] = {
    "sphere": sphere(radius=2.5, center=(1.0, -3.0, 0.5)),
    "box": box(size=(1.5, 4.0, 0.7), center=(-2.0, 0.3, 5.0)),
    "torus": torus(major=2.0, minor=0.6, center=(0.4, 1.1, -2.0)),
    "capsule": capsule(a=(1.0, 2.0, 3.0), b=(-0.5, 2.5, 4.2), radius=0.8),
}


@pytest.fixture(params=SHAPES, name="shape")
def _shape(request: pytest.FixtureRequest) -> ExactSDF:
    return SHAPES[request.param]


def around(shape: ExactSDF, n: int, seed: int) -> np.ndarray:
    """Points in and around the shape, up to its own size away."""
    region = shape.box.expanded(shape.box.longest)
    return np.random.default_rng(seed).uniform(region.lower, region.upper, (n, 3))


@pytest.mark.parametrize(
    ("shape", "point", "distance"),
    [
        (SHAPES["sphere"], (1.0, -3.0, 0.5), -2.5),  # the centre is a radius deep
        (SHAPES["sphere"], (1.0 + 3.0, -3.0, 0.5 + 4.0), 2.5),  # 3-4-5 triangle: 5 − 2.5
        (SHAPES["box"], (-2.0, 0.3, 5.0), -0.35),  # half of the thinnest side
        (SHAPES["box"], (-2.0 + 0.75 + 3.0, 0.3 + 2.0 + 4.0, 5.0), 5.0),  # 3-4-5 from an edge
        (SHAPES["box"], (-2.0 + 0.75 + 1.0, 0.3 + 2.0 + 2.0, 5.0 - 0.35 - 2.0), 3.0),  # 1-2-2-3 from a corner
        (SHAPES["torus"], (0.4 + 2.0, 1.1, -2.0), -0.6),  # middle of the tube
        (SHAPES["torus"], (0.4, 1.1, -2.0), 1.4),  # centre of the hole: 2 − 0.6
        (SHAPES["torus"], (0.4, 1.1 - 2.0 - 3.0, -2.0 + 4.0), 4.4),  # 3-4-5 from the middle of the tube
        (SHAPES["capsule"], (0.25, 2.25, 3.6), -0.8),  # middle of the axis
        (capsule((0, 0, 0), (0, 0, 2), 0.5), (3.0, 0.0, 6.0), 4.5),  # 3-4-5 beyond an end: 5 − 0.5
        (capsule((1, 1, 1), (1, 1, 1), 0.5), (1.0, 1.0, 3.0), 1.5),  # a segment of no length is a sphere
    ],
)
def test_values_by_hand(shape: ExactSDF, point: tuple[float, float, float], distance: float) -> None:
    assert shape(np.array([point])) == pytest.approx([distance], abs=1e-12)  # coordinates of order 10


def test_convention_negative_inside_gradient_outward() -> None:
    ball = SHAPES["sphere"]
    assert ball([[1.0, -3.0, 1.0]])[0] < 0.0 < ball([[1.0, -3.0, 9.0]])[0]
    assert ball.gradient([[1.0, -3.0, 9.0]]).tolist() == [[0.0, 0.0, 1.0]]


def test_gradient_is_that_of_the_values(shape: ExactSDF) -> None:
    points, step = around(shape, 2000, 0), 1e-6
    steps = step * np.eye(3)
    differences = np.stack([(shape(points + s) - shape(points - s)) / (2 * step) for s in steps], axis=1)
    smooth = np.abs(np.linalg.norm(differences, axis=1) - 1.0) < 1e-4  # not across a medial plane
    assert smooth.mean() > 0.99  # medial sets have no volume: only a few points fall within 1e-6 of them
    # Truncation: step² · third derivative, which near an axis is 1/distance²; rounding: 1e-16 · 10 / step.
    assert np.abs(shape.gradient(points) - differences)[smooth].max() < 1e-4


def test_gradient_has_length_one_everywhere(shape: ExactSDF) -> None:
    beside = shape.box.center + np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.1]])
    special = np.concatenate([beside, SHAPES_ON_AXIS])
    for points in (around(shape, 500, 1), special):
        assert np.linalg.norm(shape.gradient(points), axis=1) == pytest.approx(1.0, abs=1e-12)


# Where the nearest point is not unique: ring in the tube's middle, axis of the capsule and its middle.
SHAPES_ON_AXIS = np.array([[2.4, 1.1, -2.0], [1.0, 2.0, 3.0], [0.25, 2.25, 3.6]])


def test_one_lipschitz(shape: ExactSDF) -> None:
    a = around(shape, 20000, 2)
    far, near = around(shape, 20000, 3), a + np.random.default_rng(4).normal(scale=1e-3, size=a.shape)
    for b in (far, near):
        apart = np.linalg.norm(a - b, axis=1)
        assert (np.abs(shape(a) - shape(b)) <= apart + 1e-13).all()  # 1e-13: a few roundings at size 10
    # And it is no lazy field: along its gradient it rises by nearly the step (curvature bends the rest).
    assert np.quantile((shape(a + 1e-3 * shape.gradient(a)) - shape(a)) / 1e-3, 0.05) > 0.999


def test_distance_is_realised_by_a_point_of_the_surface(shape: ExactSDF) -> None:
    points = around(shape, 2000, 5)
    foot = points - shape(points)[:, None] * shape.gradient(points)
    assert np.abs(shape(foot)).max() < 1e-12  # exact: one step lands on the surface, from either side


def test_box_touches_the_surface(shape: ExactSDF) -> None:
    region = shape.box
    inside = around(shape, 200_000, 6)
    inside = inside[shape(inside) < 0.0]
    assert region.contains(inside).all()
    # 200,000 points in 27 boxes leave about 7,400 × the filled share inside; 15 % is the gap they may leave.
    assert (inside.min(axis=0) - region.lower < 0.15 * region.longest).all()
    assert (region.upper - inside.max(axis=0) < 0.15 * region.longest).all()


def test_no_corner_of_the_box_cuts_the_solid() -> None:
    rng = np.random.default_rng(0)
    for center in rng.uniform(-1e7, 1e7, (50, 3)):
        half = rng.uniform(0.1, 0.4, 3)
        region = box(2.0 * half, center).box
        for k in range(3):
            assert Fraction(region.lower[k]) <= Fraction(center[k]) - Fraction(half[k])
            assert Fraction(region.upper[k]) >= Fraction(center[k]) + Fraction(half[k])


def test_values_do_not_depend_on_the_batch(shape: ExactSDF) -> None:
    points = around(shape, 1001, 7)  # odd, so vectorised loops have a remainder
    alone = np.concatenate([shape(point[None]) for point in points])
    assert (shape(points) == alone).all()


def test_inputs_are_left_alone(shape: ExactSDF) -> None:
    points = around(shape, 10, 8)
    points.setflags(write=False)
    shape(points), shape.gradient(points)
    assert not shape.center.flags.writeable


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sphere(radius=0.0), "`radius` must be positive and finite; got 0"),
        (lambda: sphere(radius=np.nan), "`radius` must be positive"),
        (lambda: sphere(center=(0.0, 1.0)), "`center` must be three finite numbers"),
        (lambda: box(size=(1.0, -1.0, 1.0)), "`size` must be positive and finite; got -1"),
        (lambda: box(size=(1.0, 1.0)), "`size` must be three finite numbers"),
        (lambda: torus(major=1.0, minor=1.0), "`minor` must be below `major`"),
        (lambda: capsule((0, 0, np.inf), (0, 0, 0), 1.0), "`a` must be three finite numbers"),
        (lambda: capsule((0, 0, 0), (0, 0, 1), -1.0), "`radius` must be positive"),
        (lambda: sphere()(np.zeros(3)), r"`points` must be \(n, 3\) and finite; got shape \(3,\)"),
        (
            lambda: sphere().gradient(np.zeros((5, 2))),
            r"`points` must be \(n, 3\) and finite; got shape \(5, 2\)",
        ),
    ],
)
def test_refusals(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
