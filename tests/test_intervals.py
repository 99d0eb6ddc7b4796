"""Volumes, clearances, error bars: intervals hold the truth, shrink as told, break with a false bound."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from ocsdf3d import volumes
from ocsdf3d.analytic import ExactSDF, box, capsule, sphere, torus
from ocsdf3d.clearances import clearance
from ocsdf3d.errorbars import error_bars, robust_threshold, verdicts
from ocsdf3d.geometry import Box
from ocsdf3d.volumes import volume

Field = Callable[[np.ndarray], np.ndarray]

# Volume and area by hand; off the unit and off the grid.
SHAPES: dict[str, tuple[ExactSDF, float, float]] = {
    "sphere": (sphere(0.9, (0.1, 0.2, 0.3)), 4 / 3 * math.pi * 0.729, 4 * math.pi * 0.81),
    "box": (box((1.0, 0.7, 0.5), (5.0, -2.0, 9.0)), 0.35, 3.1),
    "torus": (torus(1.0, 0.3), 2 * math.pi**2 * 0.09, 4 * math.pi**2 * 0.3),
    "capsule": (
        capsule((-0.4, -0.3, 0.0), (0.4, 0.3, 0.2), 0.1),
        math.pi * 0.01 * math.sqrt(1.04) + 4 / 3 * math.pi * 1e-3,
        0.2 * math.pi * math.sqrt(1.04) + 0.04 * math.pi,
    ),
}


@pytest.fixture(params=SHAPES, name="name")
def _name(request: pytest.FixtureRequest) -> str:
    return request.param


def around(shape: ExactSDF) -> Box:
    return shape.box.expanded(0.05 * shape.box.longest)


def lazy(shape: Field, slope: float) -> Field:
    return lambda points: slope * shape(points)


def wavy(shape: Field) -> Field:
    """The same zero set with slopes from 0.35 to 0.96, for |φ| ≤ 0.9: 0.55 ± 0.2, and 0.9 · 0.2 · 2/√3."""
    return lambda points: shape(points) * (0.55 + 0.2 * np.sin(2.0 * points).mean(axis=1))


def noisy(field: Field, size: float) -> Field:
    """Off by exactly ± `size`, as good as random."""
    return lambda points: field(points) + size * np.sign(np.sin(1e4 * points.sum(axis=1)) + 1e-9)


# ---------------------------------------------------------------------------------------------- volume


@pytest.mark.parametrize("resolution", [1, 3, 7, 16, 33, 64])
def test_volume_of_exact_shapes_is_inside_the_interval(name: str, resolution: int) -> None:
    shape, truth, _ = SHAPES[name]
    found = volume(shape, around(shape), resolution=resolution)
    assert found.lower <= truth <= found.upper


def test_volume_interval_is_a_fifth_of_a_cell_thick_and_costs_the_square(name: str) -> None:
    shape, truth, area = SHAPES[name]
    region = around(shape)
    coarse, fine = (volume(shape, region, resolution=r) for r in (32, 96))
    # Measured 0.16 to 0.20 cells at 128 (blocks alone: √3); the box is luckier or not with its faces.
    assert fine.upper - fine.lower < 0.25 * area * region.longest / 96
    assert (coarse.upper - coarse.lower) / (fine.upper - fine.lower) > 2.0  # as 1/resolution would be 3
    assert fine.evaluations < 3**2 * 1.3 * coarse.evaluations  # as resolution² would be 3²
    assert fine.undecided < 2.0 * area / (region.longest / 96) ** 2  # √3 cells thick at most, and 15 %
    assert truth == pytest.approx(0.5 * (fine.lower + fine.upper), rel=0.005)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("offset", [(0.0, 0.0, 0.0), (5e3, -2e3, 9e3)])
def test_volume_at_other_scales_and_offsets(scale: float, offset: tuple[float, float, float]) -> None:
    ball = sphere(scale, offset)
    truth, near = 4 / 3 * math.pi * scale**3, volume(sphere(1.0), around(sphere(1.0)), resolution=32)
    error = 1e-11 if scale < 1 else 1e-12 * scale  # offsets near 10⁴ round φ by 2e-12
    found = volume(ball, around(ball), resolution=32, allowance=error)
    assert found.lower <= truth <= found.upper
    # The same cells but for ties: the interval is that of the unit sphere.
    assert found.upper - found.lower == pytest.approx((near.upper - near.lower) * scale**3, rel=0.02)


def test_volume_counts_the_box_and_nothing_else() -> None:
    # Sides of 1 : 0.77 : 0.31 are no whole number of cells; a half space cuts the box in known parts.
    region = Box([0.1, -0.2, 0.3], [1.1, 0.57, 0.61])
    total, half = 0.77 * 0.31, 0.37 * 0.77 * 0.31

    def left(points: np.ndarray) -> np.ndarray:
        assert region.contains(points).all()  # asked inside only
        return points[:, 0] - 0.47

    found = volume(left, region, resolution=48)
    assert found.lower <= half <= found.upper
    # One layer of cells, less what the balls on either side prove (measured 0.27 of it).
    assert found.upper - found.lower < 0.5 * total / 48
    everything = volume(lambda p: p[:, 0] - 50.0, region, resolution=48)
    assert everything.lower <= total <= everything.upper
    assert everything.upper - everything.lower < 1e-11 * total  # rounding: 2⁻⁴⁰ either way
    nothing = volume(lambda p: p[:, 0] + 50.0, region, resolution=48)
    assert 0.0 == nothing.lower < nothing.upper + 1e-300
    assert nothing.upper < 1e-11 * total
    assert nothing.undecided == everything.undecided == 0


@pytest.mark.parametrize("slope", [0.2, 0.5, 0.9])
def test_volume_of_lazy_fields_is_wider_and_true(name: str, slope: float) -> None:
    shape, truth, _ = SHAPES[name]
    exact, found = (volume(f, around(shape), resolution=32) for f in (shape, lazy(shape, slope)))
    assert found.lower <= truth <= found.upper
    assert found.upper - found.lower > exact.upper - exact.lower


def test_volume_of_uneven_fields(name: str) -> None:
    shape, truth, _ = SHAPES[name]
    found = volume(wavy(shape), around(shape), resolution=48)
    assert found.lower <= truth <= found.upper


@pytest.mark.parametrize("slope", [1.0, 0.5])
def test_volume_holds_for_the_extreme_fields_of_the_same_values(name: str, slope: float) -> None:
    """McShane's extensions: the largest and the smallest 1-Lipschitz field with the values that were met.

    No field with those values has a smaller or larger inside, so nothing narrower could be certified.
    """
    shape, asked = SHAPES[name][0], []

    def recording(points: np.ndarray) -> np.ndarray:
        asked.append((points, slope * shape(points)))
        return asked[-1][1]

    region = around(shape)
    found = volume(recording, region, resolution=12)
    known, values = (np.concatenate(parts) for parts in zip(*asked, strict=True))
    total, n = region.size.prod(), 10_000
    points = np.random.default_rng(3).uniform(region.lower, region.upper, (n, 3))
    apart = cdist(points, known)
    least = ((values + apart).min(axis=1) <= 0.0).mean()  # inside of the largest field
    most = ((values - apart).max(axis=1) <= 0.0).mean()
    deviation = 5 * total * math.sqrt(0.25 / n)  # 5 σ
    assert found.lower <= total * least + deviation
    assert total * most - deviation <= found.upper
    # And nearly all there is to prove was proven: columns, and balls not looked at, cost the rest.
    assert found.upper - found.lower < 1.5 * total * (most - least) + 2 * deviation


def test_volume_of_a_steep_field_needs_its_bound(name: str) -> None:
    """Negative control: 3φ declared with L = 1 credits balls that reach across the surface."""
    shape, truth, _ = SHAPES[name]
    steep = lazy(shape, 3.0)
    honest = volume(steep, around(shape), resolution=32, lipschitz=3.0)
    assert honest.lower <= truth <= honest.upper
    false = volume(steep, around(shape), resolution=32, lipschitz=1.0)
    assert not false.lower <= truth <= false.upper


def test_volume_of_noisy_values_needs_their_allowance() -> None:
    shape, truth, _ = SHAPES["sphere"]
    for size in (1e-3, 1e-2):
        found = volume(noisy(shape, size), around(shape), resolution=32, allowance=size)
        assert found.lower <= truth <= found.upper
    # Every value too high by 0.05: a ball smaller by 16 % of its volume, the interval's width is 4 %.
    shifted = volume(lambda p: shape(p) + 0.05, around(shape), resolution=32)
    assert shifted.upper < truth
    held = volume(lambda p: shape(p) + 0.05, around(shape), resolution=32, allowance=0.05)
    assert held.lower <= truth <= held.upper


def test_volume_credits_are_below_what_random_points_count() -> None:
    """CSG has creases and no exact distance: 10⁶ points, 5 σ."""
    one, other = sphere(0.8), box(1.1, (0.3, 0.2, 0.1))

    def bitten(points: np.ndarray) -> np.ndarray:
        return np.maximum(one(points), -other(points))

    region = Box([-1] * 3, [1] * 3)
    share = (bitten(np.random.default_rng(0).uniform(-1, 1, (10**6, 3))) <= 0).mean()
    deviation = 5 * 8 * math.sqrt(share * (1 - share) / 10**6)
    found = volume(bitten, region, resolution=64)
    assert found.lower - deviation <= 8 * share <= found.upper + deviation
    assert found.upper - found.lower < 20 * deviation  # 0.02 · 8: the two say about the same


def test_columns_stay_inside_the_ball(monkeypatch: pytest.MonkeyPatch) -> None:
    """A polyhedron inscribed in ball ∩ cell: below the volume, and nearer to it with every halving."""
    rng = np.random.default_rng(4)
    center, radius, size = rng.uniform(-1, 2, (300, 3)), rng.uniform(0.2, 2.0, 300), np.ones((300, 3))
    center[0], radius[0] = 0.5, 0.5  # the inscribed ball: π/6
    credit = []
    for columns in (4, 8, 64):
        monkeypatch.setattr(volumes, "COLUMNS", columns)
        credit.append(volumes._columns(center, radius, size).sum(axis=(1, 2)) / columns**2)
    assert (credit[0] <= credit[1] + 1e-12).all()  # hulls of more points contain those of fewer
    assert (credit[1] <= credit[2] + 1e-12).all()
    assert credit[2][0] < math.pi / 6 < credit[2][0] + 0.01  # the rim, half a column wide: π/64 · √(1/64)
    points = rng.uniform(size=(10**5, 3))
    for k in range(0, 300, 30):
        share = (((points - center[k]) ** 2).sum(axis=1) <= radius[k] ** 2).mean()
        assert credit[0][k] <= share + 5 * math.sqrt(0.25 / 10**5)
        assert credit[2][k] == pytest.approx(share, abs=0.02)


def test_volume_tells_its_progress_and_counts_what_it_asks() -> None:
    calls: list[tuple[int, int]] = []
    asked = 0

    def counting(points: np.ndarray) -> np.ndarray:
        nonlocal asked
        asked += len(points)
        return SHAPES["torus"][0](points)

    found = volume(
        counting, around(SHAPES["torus"][0]), resolution=64, progress=lambda *call: calls.append(call)
    )
    assert found.evaluations == asked == calls[-1][0] == calls[-1][1]
    assert all(done <= total for done, total in calls)
    assert found == volume(SHAPES["torus"][0], around(SHAPES["torus"][0]), resolution=64)  # deterministic


# ---------------------------------------------------------------------------------------------- clearance


def hull(*shapes: ExactSDF) -> Box:
    corners = [corner for shape in shapes for corner in (shape.box.lower, shape.box.upper)]
    return Box.of(corners)


BALL = sphere(1.0, (0.1, 0.2, 0.3))
PAIRS: dict[str, tuple[ExactSDF, ExactSDF, float]] = {
    "in line": (BALL, sphere(0.5, (0.1, 2.0, 0.3)), 0.3),
    "oblique": (BALL, sphere(0.5, (1.3, 1.4, 1.5)), 1.2 * math.sqrt(3.0) - 1.5),
    "far": (BALL, sphere(0.2, (7.0, 8.2, 0.3)), math.sqrt(6.9**2 + 64) - 1.2),
    "box face": (box((1, 1, 0.2)), sphere(0.3, (0.1, 0.2, 0.7)), 0.3),
    "box corner": (box((1, 1, 0.2)), sphere(0.3, (0.7, 0.9, 0.5)), math.sqrt(0.04 + 0.16 + 0.16) - 0.3),
    "ball in a ring": (torus(1.0, 0.2), sphere(0.3, (0.2, 0.0, 0.0)), 0.3),
}


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("key", PAIRS)
def test_clearance_of_exact_shapes(key: str, gradients: bool) -> None:
    a, b, gap = PAIRS[key]
    tolerance = 0.01
    found = clearance(
        a, b, hull(a, b), tolerance=tolerance, gradients=(a.gradient, b.gradient) if gradients else None
    )
    assert found.lower <= gap <= found.upper + 1e-12  # of two values near 1, rounded
    assert found.upper - found.lower <= tolerance
    assert not found.contact
    assert a(found.witness[:1])[0] <= 0.0
    assert b(found.witness[1:])[0] <= 0.0
    assert np.linalg.norm(found.witness[0] - found.witness[1]) == pytest.approx(found.upper, rel=1e-11)


def test_clearance_costs_more_the_finer_it_is_asked() -> None:
    a, b, gap = PAIRS["oblique"]
    found = [clearance(a, b, hull(a, b), tolerance=t) for t in (0.1, 0.01, 0.001)]
    assert all(f.lower <= gap <= f.upper + 1e-12 for f in found)
    assert found[0].evaluations < found[1].evaluations < found[2].evaluations < 200_000  # measured 111,200
    assert found[2].upper - found[2].lower <= 0.001


def test_clearance_scales_with_the_world() -> None:
    for scale in (1e-3, 1e3):
        a, b = sphere(scale), sphere(scale, (0.0, 2.5 * scale, 0.0))
        found = clearance(a, b, hull(a, b), tolerance=0.01 * scale)
        assert found.lower <= 0.5 * scale <= found.upper * (1 + 1e-12)
        assert found.upper - found.lower <= 0.01 * scale


@pytest.mark.parametrize("depth", [0.3, 0.01])
def test_overlapping_solids_are_in_contact(depth: float) -> None:
    b = sphere(0.5, (0.1, 1.7 - depth, 0.3))
    found = clearance(BALL, b, hull(BALL, b), tolerance=1e-3)
    assert found.contact
    assert found.lower == found.upper == 0.0
    assert (found.witness[0] == found.witness[1]).all()
    assert max(BALL(found.witness)[0], b(found.witness)[0]) <= 0.0


def test_touching_solids_have_no_gap() -> None:
    b = sphere(0.5, (0.1, 1.7, 0.3))
    found = clearance(BALL, b, hull(BALL, b), tolerance=1e-3)
    assert found.lower == 0.0
    assert found.upper <= 1e-3  # whether the one common point was hit is a question of rounding


@pytest.mark.parametrize("key", ["in line", "box corner"])
def test_clearance_of_lazy_fields_is_bracketed_and_open(key: str) -> None:
    a, b, gap = PAIRS[key]
    found = clearance(lazy(a, 0.5), lazy(b, 0.5), hull(a, b), tolerance=0.01)
    assert found.lower <= gap <= found.upper + 1e-12
    assert found.lower == pytest.approx(0.5 * gap, abs=0.01)  # slope 0.5 at both: half of the gap is proven
    assert found.upper == pytest.approx(gap, abs=0.01)  # walking does not mind the slope
    assert found.evaluations < 200_000  # ends when the lower bound is done, not at the limit


def test_clearance_with_bounds_of_their_own() -> None:
    a, b, gap = PAIRS["oblique"]
    fields, region = (lazy(a, 3.0), lazy(b, 0.1)), hull(a, b)
    found = clearance(*fields, region, lipschitz=(3.0, 0.1), tolerance=0.01)
    assert found.lower <= gap <= found.upper + 1e-12
    assert found.upper - found.lower <= 0.01  # divided by their own bounds both are exact
    false = clearance(*fields, region, lipschitz=(1.0, 0.1), tolerance=0.01)
    assert false.lower > gap  # negative control: α = 3φ claims more than there is


def test_clearance_of_noisy_values() -> None:
    a, b, gap = PAIRS["in line"]
    fields, size = (noisy(a, 0.01), noisy(b, 0.005)), (0.01, 0.005)
    found = clearance(*fields, hull(a, b), allowance=size, tolerance=0.005, limit=100_000)
    assert found.lower <= gap <= found.upper
    assert found.upper - found.lower < 0.1  # twice the allowances at each end, and 0.005
    assert max(a(found.witness[:1])[0], b(found.witness[1:])[0]) <= 0.0  # proven, whatever the noise


def test_clearance_at_its_limit_still_holds() -> None:
    a, b, gap = PAIRS["oblique"]
    for limit in (1, 500, 5000):
        found = clearance(a, b, hull(a, b), tolerance=1e-9, limit=limit)
        assert found.lower <= gap <= found.upper + 1e-12
        assert found.evaluations < limit + 2000  # the first blocks and the last witness come on top


def test_clearance_without_a_solid_has_no_witness() -> None:
    b = sphere(0.5, (9.0, 0.0, 0.0))
    found = clearance(BALL, b, BALL.box, tolerance=0.1)  # b is not in the box
    assert found.upper == np.inf
    assert not found.contact
    assert np.isnan(found.witness).any()


# ---------------------------------------------------------------------------------------------- error bars


def cloud(shape: ExactSDF, n: int = 400, seed: int = 0) -> np.ndarray:
    region = shape.box.expanded(0.3 * shape.box.longest)
    return np.random.default_rng(seed).uniform(region.lower, region.upper, (n, 3))


def test_error_bars_of_exact_shapes_meet(name: str) -> None:
    shape, points = SHAPES[name][0], cloud(SHAPES[name][0])
    found = error_bars(shape, shape.gradient, points, allowance=1e-13, reach=3.0)
    truth = np.abs(shape(points))
    assert (found.lower <= truth).all()
    assert (truth <= found.upper).all()
    # Where the nearest point is unique the gradient leads there: 2 ε, 2⁻⁴⁰ and rounding of coordinates.
    assert np.quantile(found.upper - found.lower, 0.99) < 1e-11


@pytest.mark.parametrize("slope", [0.2, 0.6])
def test_error_bars_of_lazy_fields_hold(name: str, slope: float) -> None:
    shape, points = SHAPES[name][0], cloud(SHAPES[name][0])
    found = error_bars(lazy(shape, slope), shape.gradient, points, reach=3.0)
    truth = np.abs(shape(points))
    assert (found.lower <= slope * truth * (1 + 1e-12)).all()  # no more than the slope proves
    assert (found.lower > 0.999 * slope * truth).all()
    assert (truth <= found.upper + 1e-14).all()
    assert np.quantile(found.upper - truth, 0.99) < 1e-10  # sign changes do not mind the slope


def test_error_bars_of_uneven_fields_hold(name: str) -> None:
    shape, points = SHAPES[name][0], cloud(SHAPES[name][0])
    found = error_bars(wavy(shape), shape.gradient, points, lipschitz=2.0, reach=3.0)  # 0.75 + 0.23 |φ|
    truth = np.abs(shape(points))
    assert (found.lower <= truth).all()
    assert (truth <= found.upper + 1e-14).all()
    assert np.isfinite(found.upper).all()


def test_error_bars_hold_where_the_gradient_misleads() -> None:
    ball = SHAPES["sphere"][0]
    points, truth = cloud(ball), np.abs(ball(cloud(ball)))
    for gradient in (lambda p: np.zeros_like(p), lambda p: np.tile([1.0, 1.0, 0.0], (len(p), 1))):
        found = error_bars(ball, gradient, points, reach=3.0)
        assert (truth <= found.upper + 1e-14).all()
        inside = ball(points) < 0.0
        assert np.isfinite(found.upper[inside]).all()  # along an axis every ray leaves the ball
        helped = error_bars(ball, gradient, points, reach=3.0, normals=-5.0 * ball.gradient(points))
        assert (helped.upper - truth < 1e-6).all()  # normals of any length and either sign lead there


def test_error_bars_where_the_sign_is_unknown() -> None:
    ball, size = SHAPES["sphere"][0], 0.01
    on = ball.center + 0.9 * ball.gradient(cloud(ball))
    for field in (noisy(ball, size), lambda p: ball(p) + size, lambda p: ball(p) - size):
        found = error_bars(field, ball.gradient, on, allowance=size, reach=1.0)
        assert (found.lower < 1e-13).all()
        truth = np.abs(ball(on))  # the zero set of the exact field passes through the points
        assert (truth <= found.upper).all()
        # Signs are certain from 2 ε away at the latest; noise delays the search.
        assert (found.upper < 3.0 * size).all()
        assert (found.upper > 0.0).all()


def test_error_bars_beyond_reach_are_infinite() -> None:
    ball = sphere()
    found = error_bars(ball, ball.gradient, [[3.0, 0.0, 0.0], [1.5, 0.0, 0.0]], reach=1.0)
    assert found.upper.tolist() == [np.inf, pytest.approx(0.5)]  # 2 away, 0.5 away
    assert found.lower.tolist() == pytest.approx([2.0, 0.5])


def test_error_bars_of_a_steep_field_are_false() -> None:
    ball, points = sphere(), cloud(sphere())
    found = error_bars(lazy(ball, 3.0), ball.gradient, points, reach=3.0)
    assert (found.lower > np.abs(ball(points))).all()  # negative control: three times too far


# ---------------------------------------------------------------------------------------------- verdicts


@pytest.mark.parametrize("slope", [1.0, 0.3])
def test_verdicts_cannot_flip_within_their_radius(name: str, slope: float) -> None:
    shape, rng = SHAPES[name][0], np.random.default_rng(1)
    field, size, threshold = lazy(shape, slope), 1e-3, 0.05 * slope
    points = cloud(shape, 2000)
    found = verdicts(noisy(field, size), points, threshold=threshold, allowance=size)
    assert 0.02 < found.outlier.mean() < 0.98  # both verdicts: the band fills 3 to 30 % of the region
    for _ in range(20):
        way = rng.normal(size=points.shape)
        way /= np.linalg.norm(way, axis=1, keepdims=True)
        moved = points + 0.999999 * found.radius[:, None] * way
        flipped = (np.abs(field(moved)) > threshold) != found.outlier
        assert not (flipped & (found.radius > 0.0)).any()


def test_verdicts_flip_beyond_their_radius() -> None:
    """On an exact field the radius is the whole distance: a millionth more, straight at the band, flips."""
    ball, threshold = sphere(), 0.1
    points = cloud(ball)
    points = points[np.abs(ball(points)) < 0.8]  # off the centre, where the field has its other extremum
    found = verdicts(ball, points, threshold=threshold)
    value = ball(points)
    inward = np.where(found.outlier, -np.sign(value), np.sign(value))[:, None] * ball.gradient(points)
    moved = ball(points + (found.radius + 1e-6)[:, None] * inward)
    assert ((np.abs(moved) > threshold) != found.outlier).all()


def test_verdicts_at_the_threshold_claim_nothing() -> None:
    found = verdicts(sphere(), [[1.5, 0.0, 0.0], [1.75, 0.0, 0.0]], threshold=0.5, allowance=0.25)
    assert found.outlier.tolist() == [False, True]  # |φ| of 0.5 is not above 0.5
    assert found.radius.tolist() == [0.0, 0.0]
    assert verdicts(sphere(), [[3.0, 0.0, 0.0]], threshold=0.5, lipschitz=2.0).radius[0] == pytest.approx(
        0.75
    )


def test_robust_threshold_of_normal_residuals() -> None:
    clean = np.random.default_rng(2).normal(scale=0.02, size=100_000)
    assert robust_threshold(clean) == pytest.approx(3.07 * 0.02, rel=0.02)  # 0.674 + 6 · 0.399, 5 σ of 10⁵
    alarms = (np.abs(clean) > robust_threshold(clean)).mean()
    assert 0.0014 < alarms < 0.0029  # 2.1 in 1000 ± 5 σ
    dirty = np.concatenate([clean, np.full(30_000, 5.0)])
    assert robust_threshold(dirty) < 0.12  # 23 % gross outliers do not double it
    assert robust_threshold(-7.0 * clean) == pytest.approx(7.0 * robust_threshold(clean))


def test_robust_threshold_without_spread() -> None:
    assert robust_threshold([0.25] * 9) == 0.25  # and |φ| > threshold holds for none
    assert robust_threshold([0.0]) == 0.0
    mostly = [0.0] * 19 + [1.0]
    assert 0.0 < robust_threshold(mostly) == pytest.approx(6 * 0.05)  # the mean deviation is 1/20
    assert robust_threshold(mostly) < 1.0  # so the one is an outlier and rounding of the others would not be


# ---------------------------------------------------------------------------------------------- refusals

CUBE, POINTS = Box([-1] * 3, [1] * 3), np.zeros((2, 3))
UP = sphere().gradient


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: volume(sphere(), CUBE, lipschitz=0.0), "`lipschitz` must be positive and finite; got 0.0"),
        (lambda: volume(sphere(), CUBE, lipschitz=np.nan), "`lipschitz` must be positive"),
        (lambda: volume(sphere(), CUBE, allowance=-1.0), "`allowance` must be finite and ≥ 0; got -1.0"),
        (lambda: volume(sphere(), CUBE, allowance=np.inf), "`allowance` must be finite"),
        (lambda: volume(sphere(), CUBE, resolution=0), "`resolution` must be from 1 to 65536 cells; got 0"),
        (lambda: volume(sphere(), CUBE, resolution=65537), "`resolution` must be from 1 to 65536"),
        (lambda: volume(sphere(), CUBE, resolution=2.5), "`resolution` must be an integer; got 2.5"),
        (lambda: volume(sphere(), CUBE, resolution=True), "`resolution` must be an integer; got True"),
        (lambda: volume(sphere(), Box([0] * 3, [1, 1, 0])), "`box` must have a volume; got sides"),
        (
            lambda: volume(lambda p: p, CUBE),
            r"`field` must return one value a point, shape \(64,\); got \(64, 3\)",
        ),
        (lambda: volume(lambda p: np.full(len(p), np.nan), CUBE), "`field` must be finite; got nan at"),
        (lambda: clearance(sphere(), sphere(), CUBE, tolerance=0.0), "`tolerance` must be positive"),
        (lambda: clearance(sphere(), sphere(), CUBE, tolerance=0.1, limit=0), "`limit` must be at least 1"),
        (
            lambda: clearance(sphere(), sphere(), Box([1] * 3, [1] * 3), tolerance=0.1),
            "`box` must have an extent; got the single point",
        ),
        (
            lambda: clearance(sphere(), lambda p: p, CUBE, tolerance=0.1),
            "`b` must return one value a point",
        ),
        (
            lambda: clearance(
                sphere(0.1), sphere(0.1, (0.5, 0, 0)), CUBE, tolerance=0.1, gradients=(np.ravel, UP)
            ),
            r"`gradients` must be \(4, 3\)",
        ),
        (lambda: error_bars(sphere(), UP, POINTS, reach=0.0), "`reach` must be positive and finite; got 0.0"),
        (lambda: error_bars(sphere(), UP, POINTS, reach=1.0, steps=0), "`steps` must be at least 1; got 0"),
        (
            lambda: error_bars(sphere(), UP, np.zeros(3), reach=1.0),
            r"`points` must be \(n, 3\) and finite; got shape \(3,\)",
        ),
        (
            lambda: error_bars(sphere(), UP, POINTS * np.nan, reach=1.0),
            "`points` must be finite; row 0 is",
        ),
        (lambda: error_bars(sphere(), np.ravel, POINTS, reach=1.0), r"`gradient` must be \(2, 3\)"),
        (
            lambda: error_bars(sphere(), UP, POINTS, reach=1.0, normals=np.ones((3, 3))),
            r"`normals` must be \(2, 3\) and finite; got shape \(3, 3\)",
        ),
        (lambda: verdicts(sphere(), POINTS, threshold=-1.0), "`threshold` must be finite and ≥ 0; got -1.0"),
        (lambda: verdicts(sphere(), POINTS, threshold=np.nan), "`threshold` must be finite"),
        (lambda: robust_threshold([]), "`values` must be"),
        (lambda: robust_threshold([np.nan]), "`values` must be"),
        (
            lambda: robust_threshold([[1.0]]),
            r"`values` must be \(n,\), n > 0, and finite; got shape \(1, 1\)",
        ),
    ],
)
def test_refusals(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask()
