"""Newton–Raphson steps, sphere tracing and projection on functions whose level sets are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from ocsdf3d.analytic import ExactSDF, box, capsule, sphere, torus
from ocsdf3d.field import SDF
from ocsdf3d.query import newton_step, project, trace, value_and_gradient


def ball(x: torch.Tensor) -> torch.Tensor:
    """Exact signed distance to the unit sphere, positive inside, as the paper's f."""
    return 1.0 - x.norm(dim=1)


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("d", [1, 2, 3, 7])
def test_value_and_gradient(d: int) -> None:
    x = draws(50, d)
    value, gradient = value_and_gradient(ball, x)
    assert torch.allclose(value, 1.0 - x.norm(dim=1))
    assert torch.allclose(gradient, -x / x.norm(dim=1, keepdim=True))
    assert not value.requires_grad
    assert not gradient.requires_grad


def test_gradients_are_formed_in_no_grad_and_inputs_keep_their_flags() -> None:
    x = draws(5, 3)
    with torch.no_grad():
        _, gradient = value_and_gradient(ball, x)
    assert gradient.abs().sum() > 0
    assert not x.requires_grad
    asked = draws(5, 3).requires_grad_(True)
    value_and_gradient(ball, asked)
    assert asked.grad is None


@pytest.mark.parametrize("level", [-0.7, 0.0, 0.3])
@pytest.mark.parametrize("rule", ["squared", "unit"])
def test_one_full_step_on_an_exact_distance_lands_on_the_level(rule: str, level: float) -> None:
    x = draws(500, 3)
    value, gradient = value_and_gradient(ball, x)
    y = x + newton_step(value, gradient, level, rule=rule)
    # The divisor's 1e-8 leaves that share of the way, at most some 4 long.
    assert (ball(y) - level).abs().max() < 1e-7


def test_rules_differ_by_the_gradient_norm() -> None:
    """f = g·(x − b): `squared` reaches the level whatever g; `unit` moves by the gap, so it leaves 1 − g of
    it."""
    direction = torch.tensor([0.6, 0.8], dtype=torch.float64)
    for g in (0.25, 0.5, 1.0):
        f = lambda x, g=g: g * (x @ direction - 0.3)  # noqa: E731
        x = draws(100, 2)
        value, gradient = value_and_gradient(f, x)
        squared = f(x + newton_step(value, gradient, -0.1, rule="squared"))
        unit = newton_step(value, gradient, -0.1, rule="unit")
        assert (squared + 0.1).abs().max() < 1e-6  # 1e-8 beside g² = 0.06
        assert torch.allclose(unit.norm(dim=1), (value + 0.1).abs(), rtol=1e-6)
        assert torch.allclose(f(x + unit) + 0.1, (1.0 - g) * (value + 0.1), atol=1e-6)


@pytest.mark.parametrize("rule", ["squared", "unit"])
def test_one_sided_leaves_seeds_above_and_moves_the_others(rule: str) -> None:
    x = draws(500, 3)
    value, gradient = value_and_gradient(ball, x)
    both = newton_step(value, gradient, -0.4, rule=rule)
    one = newton_step(value, gradient, -0.4, rule=rule, one_sided=True)
    above = value >= -0.4
    assert 50 < int(above.sum()) < 450  # both kinds are there
    assert (one[above] == 0).all()
    assert (both[above].norm(dim=1) > 0).any()
    assert torch.equal(one[~above], both[~above])


def test_a_level_for_each_point() -> None:
    x = draws(20, 3)
    levels = torch.linspace(-1.0, 0.5, 20, dtype=torch.float64)
    value, gradient = value_and_gradient(ball, x)
    y = x + newton_step(value, gradient, levels)
    assert (ball(y) - levels).abs().max() < 1e-7


@pytest.mark.parametrize("rule", ["squared", "unit"])
def test_a_vanishing_gradient_moves_nothing(rule: str) -> None:
    step = newton_step(torch.tensor([1.0]), torch.zeros(1, 3), 0.0, rule=rule)
    assert torch.equal(step, torch.zeros(1, 3))


def test_unknown_rule() -> None:
    with pytest.raises(ValueError, match="`rule` must be squared or unit; got 'newton'"):
        newton_step(torch.zeros(1), torch.ones(1, 3), 0.0, rule="newton")


# Arrays: sphere tracing and projection, of exact shapes and of fields lazier than a distance.


@dataclass
class Made:
    """A field made of others: φ, ∇φ where a test asks for it, and the rows it was asked."""

    value: Callable[[np.ndarray], np.ndarray]
    gradient: Callable[[np.ndarray], np.ndarray] = np.zeros_like
    asked: int = 0

    def __call__(self, points: np.ndarray) -> np.ndarray:
        self.asked += len(points)
        return self.value(points)


def slowed(field: ExactSDF, slope: float) -> Made:
    return Made(lambda x: slope * field(x), lambda x: slope * field.gradient(x))


def smaller(a: Made, b: Made, pick: np.ufunc = np.minimum) -> Made:
    """Union of two fields; `np.maximum` makes it the intersection."""
    first = lambda x: (pick(a(x), b(x)) == a(x))[:, None]  # noqa: E731
    return Made(lambda x: pick(a(x), b(x)), lambda x: np.where(first(x), a.gradient(x), b.gradient(x)))


def waved(field: ExactSDF) -> Made:
    """φ·m, m = 0.3 + 0.1 sin 3x: the same zero set; ‖∇(φ·m)‖ ≤ 0.4 + 0.3·|φ|, so L = 1 up to |φ| = 2."""

    def gradient(x: np.ndarray) -> np.ndarray:
        slope = (0.3 + 0.1 * np.sin(3 * x[:, :1])) * field.gradient(x)
        slope[:, 0] += 0.3 * np.cos(3 * x[:, 0]) * field(x)
        return slope

    return Made(lambda x: field(x) * (0.3 + 0.1 * np.sin(3 * x[:, 0])), gradient)


def rays(n: int, seed: int = 0, *, flat: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Unit rays from the sphere of radius 2, its z squeezed by `flat`, towards the middle of the scene."""
    rng = np.random.default_rng(seed)
    origins = rng.normal(size=(n, 3))
    origins *= 2.0 / np.linalg.norm(origins, axis=1, keepdims=True) * [1.0, 1.0, flat]
    directions = rng.uniform(-0.8, 0.8, (n, 3)) * [1.0, 1.0, flat] - origins
    return origins, directions / np.linalg.norm(directions, axis=1, keepdims=True)


def ball_spans(origins: np.ndarray, directions: np.ndarray, radius: float = 0.8) -> tuple[np.ndarray, ...]:
    """Where rays enter and leave the ball around the origin; nan where they miss."""
    middle = -(origins * directions).sum(axis=1)
    square = middle**2 - (origins**2).sum(axis=1) + radius**2
    half = np.sqrt(np.where(square >= 0.0, square, np.nan))
    return middle - half, middle + half


def box_spans(origins: np.ndarray, directions: np.ndarray, sides: np.ndarray) -> tuple[np.ndarray, ...]:
    """The same of the box around the origin, from its slabs."""
    walls = np.sort([(s * 0.5 * sides - origins) / directions for s in (-1.0, 1.0)], axis=0)
    enters, leaves = walls[0].max(axis=1), walls[1].min(axis=1)
    return np.where(enters < leaves, enters, np.nan), np.where(enters < leaves, leaves, np.nan)


def torus_enters(origins: np.ndarray, directions: np.ndarray, major: float, minor: float) -> np.ndarray:
    """The least positive root of (x² + R² − r²)² = 4R²(x² − z²) along each ray; nan without."""
    found = []
    for o, d in zip(origins, directions, strict=True):
        squares = np.array([1.0, 2.0 * o @ d, o @ o])  # ‖o + t·d‖², powers of t falling
        ring = 4.0 * major**2 * (squares - [d[2] ** 2, 2.0 * o[2] * d[2], o[2] ** 2])
        squares[2] += major**2 - minor**2
        quartic = np.polysub(np.polymul(squares, squares), ring)
        roots = np.roots(quartic)
        real = roots.real[(np.abs(roots.imag) < 1e-7) & (roots.real > 0.0)]
        found.append(real.min() if real.size else np.nan)
    return np.array(found)


def capsule_enters(origins: np.ndarray, directions: np.ndarray, half: float, radius: float) -> np.ndarray:
    """Of the capsule along x: the first of its two balls and of its cylinder between them."""
    ends = [ball_spans(origins - [s * half, 0.0, 0.0], directions, radius)[0] for s in (-1.0, 1.0)]
    across = directions * [0.0, 1.0, 1.0]
    length = np.linalg.norm(across, axis=1)
    side = ball_spans(origins * [0.0, 1.0, 1.0], across / length[:, None], radius)[0] / length
    side[~(np.abs(origins[:, 0] + side * directions[:, 0]) <= half)] = np.nan
    return np.fmin(side, np.fmin(*ends))


BALL, RING, BLOCK, PILL = (
    sphere(0.8),
    torus(0.7, 0.25),
    box((1.2, 0.7, 0.4)),
    capsule((-0.4, 0, 0), (0.4, 0, 0), 0.3),
)
EXACT = {
    "sphere": (BALL, lambda o, d: ball_spans(o, d)[0]),
    "torus": (RING, lambda o, d: torus_enters(o, d, 0.7, 0.25)),
    "box": (BLOCK, lambda o, d: box_spans(o, d, BLOCK.sides)[0]),
    "capsule": (PILL, lambda o, d: capsule_enters(o, d, 0.4, 0.3)),
}
TOLERANCE = 2e-5  # 1e-5 of shapes about 2 long
CELL = 2.0 / 511  # of a grid of 512 nodes around them


@pytest.mark.parametrize("slope", [1.0, 0.2])
@pytest.mark.parametrize("name", EXACT)
def test_rays_hit_where_the_formula_says(name: str, slope: float) -> None:
    shape, formula = EXACT[name]
    origins, directions = rays(3000)
    truth = formula(origins, directions)
    found = trace(slowed(shape, slope), origins, directions, tolerance=TOLERANCE, reach=5.0, limit=8192)
    meets = np.isfinite(truth)
    assert 500 < meets.sum() < 2500  # rays of both kinds
    assert found.resolved.all()
    assert found.hit[meets].all()
    # Touching at 2e-5 on slope 0.2 is passing within 1e-4: the share of rays that graze so is of that order.
    assert (found.hit & ~found.crossed).mean() < 0.002
    assert not found.crossed[~meets].any()
    # The sign change is placed to 1e-3 of the tolerance in value; slopes along the ray reach down to 1/256.
    assert np.abs(found.distance - truth)[found.crossed].max() < TOLERANCE
    assert np.allclose(
        found.points[meets], (origins + found.distance[:, None] * directions)[meets], atol=1e-12
    )
    assert (found.free[meets] <= truth[meets] + 1e-12).all()


def test_rays_that_miss_are_free_to_the_end() -> None:
    origins, directions = rays(500)
    away = trace(BALL, origins, origins, tolerance=TOLERANCE, reach=7.0)
    past = trace(sphere(0.8, center=(0.0, 0.0, 50.0)), origins, directions, tolerance=TOLERANCE, reach=7.0)
    for found in (away, past):
        assert not found.hit.any()
        assert not found.crossed.any()
        assert found.resolved.all()
        assert (found.free == 7.0).all()
        assert np.isposinf(found.distance).all()
        assert np.isnan(found.points).all()


@pytest.mark.parametrize("slope", [1.0, 0.3])
def test_rays_from_inside_leave_where_the_formula_says(slope: float) -> None:
    _, directions = rays(1000)
    origins = np.random.default_rng(1).uniform(-0.15, 0.15, (1000, 3))
    for shape, spans in (
        (BALL, ball_spans(origins, directions)),
        (BLOCK, box_spans(origins, directions, BLOCK.sides)),
    ):
        found = trace(slowed(shape, slope), origins, directions, tolerance=TOLERANCE, reach=5.0)
        assert found.crossed.all()
        assert np.abs(found.distance - spans[1]).max() < TOLERANCE


@pytest.mark.parametrize("level", [0.15, -0.1])
def test_rays_stop_at_other_levels(level: float) -> None:
    origins, directions = rays(1000)
    truth = ball_spans(origins, directions, 0.8 + level)[0]
    found = trace(BALL, origins, directions, level=level, tolerance=TOLERANCE, reach=5.0)
    assert found.hit[np.isfinite(truth)].all()
    assert np.abs(found.distance - truth)[found.crossed].max() < TOLERANCE


PLATE = box((2.4, 2.4, 0.002))
NOISE = 1e-4
THIN: dict[str, tuple[Made, float]] = {
    "exact": (slowed(PLATE, 1.0), 0.0),
    "lazy": (slowed(PLATE, 0.3), 0.0),
    "waved": (waved(PLATE), 0.0),
    "union": (smaller(slowed(PLATE, 0.3), slowed(sphere(0.1, center=(0.0, 0.0, 5.0)), 0.9)), 0.0),
    "intersection": (smaller(slowed(PLATE, 0.5), slowed(box(2.3), 0.2), np.maximum), 0.0),
    "noisy": (Made(lambda x: PLATE(x) + NOISE * np.sin(1e7 * x).prod(axis=1)), NOISE),
}


@pytest.mark.parametrize("flat", [1.0, 0.1, 0.01], ids="squeezed by {}".format)
@pytest.mark.parametrize("name", THIN)
def test_no_ray_tunnels_through_a_plate(name: str, flat: float) -> None:
    """Half a cell thick; with `flat` 0.01 half the rays meet it at less than half a degree."""
    field, allowance = THIN[name]
    origins, directions = rays(500, flat=flat)
    sides = np.array([2.3, 2.3, 0.002]) if name == "intersection" else PLATE.sides
    enters, leaves = box_spans(origins, directions, sides)
    meets = leaves > 0.0
    assert meets.sum() > 300
    found = trace(field, origins, directions, tolerance=TOLERANCE, reach=5.0, allowance=allowance, limit=2048)
    first = np.where(enters > 0.0, enters, leaves)
    # Slope 0.3 met at 0.1° is one of 5e-4: the value falls by 1e-3 a step, so some rays have more to go.
    assert found.resolved.mean() > 0.8
    assert (found.hit | ~found.resolved)[meets].all()
    assert (found.free <= first + 1e-12)[meets].all()
    late = TOLERANCE + 10 * allowance / np.abs(directions[:, 2])  # noise of ε moves a sign by ε/slope
    assert (found.distance <= first + late)[meets & found.hit].all()


def test_negative_control_a_bound_too_small_tunnels() -> None:
    origins, directions = rays(500)
    enters, _ = box_spans(origins, directions, PLATE.sides)
    meets = np.isfinite(enters)
    steep = slowed(PLATE, 3.0)
    lied, told = (
        trace(steep, origins, directions, tolerance=TOLERANCE, reach=5.0, lipschitz=bound)
        for bound in (1.0, 3.0)
    )
    assert (~lied.hit | (lied.distance > enters + 0.01))[meets].mean() > 0.5
    assert np.abs(told.distance - enters)[meets].max() < TOLERANCE


@pytest.mark.parametrize("far", [1.0, 0.2])
def test_a_level_that_is_touched_from_both_sides_is_not_passed(far: float) -> None:
    """|φ| changes no sign; on rays to the centre the balls of both sides just meet, but for rounding.

    A slope that is `far` at first and 1 near the level makes steps too long, so that balls beyond are tried.
    """
    _, directions = rays(2000)
    bent = Made(lambda x: np.minimum(np.abs(BALL(x)), 0.5 + far * (np.abs(BALL(x)) - 0.5)))
    found = trace(bent, 2.0 * directions, -directions, tolerance=1e-9, reach=5.0)
    assert found.hit.all()
    assert not found.crossed.any()
    assert found.distance == pytest.approx(1.2, abs=2e-9)


def test_a_change_of_sign_within_the_noise_is_no_crossing() -> None:
    """Half of ε above the plate values have either sign, φ has one."""
    origins = np.random.default_rng(7).uniform(-1.0, 1.0, (300, 3))
    origins[:, 2] = 0.001 + 0.5 * NOISE
    along = np.tile([1.0, 0.0, 0.0], (300, 1))
    noisy, allowance = THIN["noisy"]
    assert (noisy(origins) < 0.0).mean() > 0.05
    found = trace(noisy, origins, along, tolerance=TOLERANCE, reach=1.0, allowance=allowance)
    assert found.hit.all()
    assert not found.crossed.any()


@pytest.mark.parametrize("limit", [4, 20, 1024])
@pytest.mark.parametrize("name", THIN)
def test_the_free_length_is_free(name: str, limit: int) -> None:
    field, allowance = THIN[name]
    exact = THIN["exact"][0] if name == "noisy" else field
    origins, directions = rays(200, seed=2, flat=0.3)
    found = trace(
        field, origins, directions, tolerance=TOLERANCE, reach=3.0, allowance=allowance, limit=limit
    )
    assert (found.free > 0.0).all()
    assert (found.free <= np.where(found.hit, found.distance, 3.0)).all()
    t = np.linspace(0.0, 1.0, 2001)[:-1] * found.free[:, None]  # the end itself may be on the level
    values = exact((origins[:, None] + t[:, :, None] * directions[:, None]).reshape(-1, 3)).reshape(t.shape)
    assert (values * values[:, :1] > 0.0).all()


def test_a_ray_out_of_evaluations_says_so() -> None:
    origins, directions = rays(200)
    found = trace(slowed(BALL, 0.2), origins, directions, tolerance=TOLERANCE, reach=5.0, limit=3)
    assert not found.resolved.any()
    assert not found.hit.any()
    assert (found.steps == 3).all()
    assert ((found.free > 0.0) & (found.free < 5.0)).all()
    assert np.isnan(found.points).all()


def test_only_rays_under_way_are_evaluated() -> None:
    field = slowed(RING, 0.5)
    found = trace(field, *rays(500), tolerance=TOLERANCE, reach=5.0)
    assert field.asked == found.steps.sum()
    assert found.steps.max() > 3 * np.median(found.steps)  # so that there is something to leave out


def test_a_lazy_field_takes_fewer_steps_than_its_balls() -> None:
    """Head-on, slope 0.2: balls alone leave 0.8 of the value a step, the longest overlapping ones 0.8/1.2."""
    wall = slowed(box(20.0, center=(0.0, 0.0, -10.0)), 0.2)
    found = trace(
        wall, np.array([[0.0, 0.0, 2.0]]), np.array([[0.0, 0.0, -1.0]]), tolerance=TOLERANCE, reach=5.0
    )
    alone = np.log(TOLERANCE / 0.4) / np.log(0.8)
    assert found.distance == pytest.approx(2.0, abs=TOLERANCE)
    assert found.steps[0] < 0.75 * alone


def test_distance_does_not_suffer_from_a_small_slope_along_the_ray() -> None:
    """Slope 0.2 at 3° falls by 0.01 a unit: the ray touches a hundred tolerances early."""
    angle = np.radians(3.0)
    wall = slowed(box(20.0, center=(0.0, 0.0, -10.0)), 0.2)
    direction = np.array([[np.cos(angle), 0.0, -np.sin(angle)]])
    found = trace(wall, np.array([[0.0, 0.0, 0.1]]), direction, tolerance=TOLERANCE, reach=5.0)
    truth = 0.1 / np.sin(angle)
    assert found.crossed.all()
    assert found.free[0] < truth - 50 * TOLERANCE
    assert found.distance == pytest.approx(truth, abs=TOLERANCE)


@pytest.mark.parametrize(("gap", "hit"), [(0.5, True), (2.0, False)])
def test_a_graze_within_the_tolerance_is_a_hit_that_does_not_cross(gap: float, hit: bool) -> None:
    origin = np.array([[-2.0, 0.0, 0.8 + gap * TOLERANCE]])
    found = trace(BALL, origin, np.array([[1.0, 0.0, 0.0]]), tolerance=TOLERANCE, reach=5.0)
    assert found.hit[0] == hit
    assert not found.crossed[0]
    assert found.resolved[0]


def test_directions_of_any_length_and_the_rays_own_order() -> None:
    origins, directions = rays(300)
    one = trace(BALL, origins, directions, tolerance=TOLERANCE, reach=5.0)
    for factor in (37.0, 1e-200, 1e200):
        other = trace(BALL, origins, factor * directions, tolerance=TOLERANCE, reach=5.0)
        assert other.hit.tolist() == one.hit.tolist()
        assert other.distance[one.hit] == pytest.approx(one.distance[one.hit], abs=1e-9)
    back = trace(BALL, origins[::-1], directions[::-1], tolerance=TOLERANCE, reach=5.0)
    assert all(np.array_equal(a[::-1], b, equal_nan=True) for a, b in zip(back, one, strict=True))


@pytest.mark.parametrize("seed", [0, 1])
def test_rays_through_an_untrained_network_agree_with_sampling(born: Callable[..., SDF], seed: int) -> None:
    """Piecewise affine, slope 0.05 to 0.5: lazier than any trained field."""
    field = born(seed)
    origins, directions = rays(150)
    found = trace(
        field,
        origins,
        directions,
        lipschitz=field.lipschitz,
        tolerance=TOLERANCE,
        allowance=1e-6,  # twice the largest rounding error seen, see field.py
        reach=3.0,
    )
    t = np.linspace(0.0, 3.0, 1501)  # half a cell
    inside = (
        field((origins[:, None] + t[:, None] * directions[:, None]).reshape(-1, 3)).reshape(150, -1) < 0.0
    )
    turns = inside[:, 1:] != inside[:, :-1]
    truth = np.where(turns.any(axis=1), t[1:][turns.argmax(axis=1)], np.inf)
    assert found.resolved.all()
    assert 75 < found.crossed.sum() < 150
    assert (found.free <= truth).all()
    met = np.isfinite(truth)
    # A crossing that samples skip may come first, so one of 150 is forgiven.
    assert (np.abs(found.distance[met] - truth[met]) < CELL).sum() >= met.sum() - 1


NEAR = 0.2  # 10 % of the longest side
LAZY: dict[str, Made] = {
    "sphere": slowed(BALL, 0.3),
    "torus": slowed(RING, 0.2),
    "box": slowed(BLOCK, 1.0),
    "waved": waved(RING),
    "union": smaller(slowed(BLOCK, 0.3), slowed(RING, 0.8)),
    "intersection": smaller(slowed(BLOCK, 0.6), slowed(RING, 0.3), np.maximum),
}


def nearby(field: Made, n: int, level: float) -> np.ndarray:
    """Points within `NEAR` of {φ = level}: random steps from where bisection of random segments finds it."""
    rng = np.random.default_rng(3)
    a, b = rng.uniform(-1.2, 1.2, (2, 100 * n, 3))
    side = field(a) > level
    opposite = side != (field(b) > level)
    a, b, side = a[opposite][:n], b[opposite][:n], side[opposite][:n]
    assert len(a) == n
    for _ in range(30):
        middle = 0.5 * (a + b)
        same = ((field(middle) > level) == side)[:, None]
        a, b = np.where(same, middle, a), np.where(same, b, middle)
    steps = rng.normal(size=(n, 3))
    return a + rng.uniform(0.0, NEAR, (n, 1)) * steps / np.linalg.norm(steps, axis=1, keepdims=True)


@pytest.mark.parametrize("level", [0.0, 0.04, -0.005])
@pytest.mark.parametrize("name", LAZY)
def test_points_nearby_reach_the_level(name: str, level: float) -> None:
    field = LAZY[name]
    start = nearby(field, 500, level)
    found = project(field, field.gradient, start, level=level, tolerance=TOLERANCE, reach=1.0)
    assert found.converged.mean() >= 0.99
    assert (found.converged == (np.abs(field(found.points) - level) <= TOLERANCE)).all()
    assert found.residual == pytest.approx(np.abs(field(found.points) - level), abs=1e-12)
    moved = np.linalg.norm(found.points - start, axis=1)
    assert moved.max() <= 1.0 + 1e-12
    assert np.median(moved) < NEAR  # to the surface beside it, not to another


@pytest.mark.parametrize("level", [0.0, 0.3, -0.2])
def test_on_an_exact_distance_the_nearest_point_is_found(level: float) -> None:
    start = np.random.default_rng(4).uniform(-1.5, 1.5, (500, 3))
    found = project(BALL, BALL.gradient, start, level=level, tolerance=1e-9, reach=3.0)
    assert found.converged.all()
    radius = np.linalg.norm(start, axis=1, keepdims=True)
    assert found.points == pytest.approx(start / radius * (0.8 + level), abs=2e-9)


def test_points_of_an_untrained_network_reach_the_level(born: Callable[..., SDF]) -> None:
    field = born(2)
    start = nearby(Made(field), 500, 0.0)
    found = project(field, field.gradient, start, tolerance=TOLERANCE, reach=1.0)
    assert found.converged.mean() >= 0.99
    assert (found.residual <= TOLERANCE).tolist() == found.converged.tolist()
    again = project(field, field.gradient, start, tolerance=TOLERANCE, reach=1.0)
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))


def test_a_valley_with_a_kink_is_followed() -> None:
    """φ = u·x/10 + |v·x|/2: Newton's steps cross the valley to and fro; the level is 3 down along it.

    It runs askew, so that no look around meets the level.
    """
    u, v = np.array([0.97, 0.25, 0.0]), np.array([-0.25, 0.97, 0.0])
    valley = Made(
        lambda x: 0.1 * (x * u).sum(axis=1) + 0.5 * np.abs((x * v).sum(axis=1)),
        lambda x: 0.1 * u + 0.5 * np.sign((x * v).sum(axis=1))[:, None] * v,
    )
    start = np.random.default_rng(5).uniform(-0.1, 0.1, (50, 3))
    found = project(valley, valley.gradient, start, level=-0.3, tolerance=TOLERANCE, reach=4.0)
    assert found.converged.all()


def test_a_gradient_of_zero_is_left() -> None:
    bowl = Made(lambda x: 0.5 * (x**2).sum(axis=1) - 0.5, lambda x: x)
    found = project(bowl, bowl.gradient, np.zeros((1, 3)), tolerance=TOLERANCE, reach=2.0)
    assert found.converged.all()
    assert np.linalg.norm(found.points) == pytest.approx(1.0, abs=TOLERANCE)


def test_points_that_cannot_reach_the_level_are_flagged() -> None:
    """Deeper than the deepest, farther than `reach`, too few steps, a jump across the level."""
    start = np.random.default_rng(6).uniform(-1.0, 1.0, (100, 3))
    deep = project(BALL, BALL.gradient, start, level=-1.0, tolerance=TOLERANCE, reach=3.0)
    assert not deep.converged.any()
    assert deep.residual == pytest.approx(0.2, abs=0.01)  # the centre is 0.8 deep, and all get near it
    far = project(BALL, BALL.gradient, start, level=3.0, tolerance=TOLERANCE, reach=0.5)
    assert not far.converged.any()
    assert np.linalg.norm(far.points - start, axis=1).max() <= 0.5 + 1e-12
    slow = project(waved(RING), waved(RING).gradient, start, tolerance=1e-15, reach=3.0, limit=1)
    assert not slow.converged.all()
    step = Made(lambda x: np.where(BALL(x) < 0.0, -1.0, 1.0), BALL.gradient)
    torn = project(step, step.gradient, start, tolerance=0.5, reach=3.0)
    assert not torn.converged.any()
    assert (torn.residual == 1.0).all()


def test_points_on_the_level_stay() -> None:
    start = np.array([[0.8, 0.0, 0.0], [0.0, 0.8 + 0.4 * TOLERANCE, 0.0]])
    found = project(BALL, BALL.gradient, start, tolerance=TOLERANCE, reach=1.0)
    assert found.converged.all()
    assert found.points.tolist() == start.tolist()


def test_nothing_in_nothing_out_and_inputs_are_left_alone() -> None:
    none = np.zeros((0, 3))
    traced = trace(BALL, none, none, tolerance=TOLERANCE, reach=1.0)
    assert [len(array) for array in traced] == [0] * len(traced)
    projected = project(BALL, BALL.gradient, none, tolerance=TOLERANCE, reach=1.0)
    assert projected.points.shape == (0, 3)
    origins, directions = rays(20)
    for array in (origins, directions):
        array.setflags(write=False)
    found = trace(BALL, origins, directions, tolerance=TOLERANCE, reach=5.0)
    moved = project(BALL, BALL.gradient, origins, tolerance=TOLERANCE, reach=5.0)
    assert not np.shares_memory(moved.points, origins)
    assert found.hit.dtype == found.crossed.dtype == found.resolved.dtype == bool


ONE = np.array([[0.0, 0.0, 2.0]])


def traced(**changes: object) -> object:
    arguments = {"field": BALL, "origins": ONE, "directions": -ONE, "tolerance": 1e-5, "reach": 5.0}
    return trace(**{**arguments, **changes})  # type: ignore[arg-type]


def projected(**changes: object) -> object:
    arguments = {"field": BALL, "gradient": BALL.gradient, "points": ONE, "tolerance": 1e-5, "reach": 5.0}
    return project(**{**arguments, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "changes", "message"),
    [
        (traced, {"origins": ONE[0]}, r"`origins` must be \(n, 3\) and finite; got shape \(3,\)"),
        (
            traced,
            {"directions": np.ones((1, 2))},
            r"`directions` must be \(n, 3\) and finite; got shape \(1, 2\)",
        ),
        (traced, {"directions": np.ones((2, 3))}, "`directions` must be one for each of 1 `origins`; got 2"),
        (traced, {"directions": 0.0 * ONE}, "`directions` must not be zero; row 0 is"),
        (
            traced,
            {"origins": [*ONE, *ONE], "directions": [*ONE, (0, np.nan, 0)]},
            "`directions` must be finite; row 1",
        ),
        (traced, {"origins": np.inf * np.ones((1, 3))}, "`origins` must be finite; row 0 is"),
        (traced, {"tolerance": 0.0}, "`tolerance` must be positive and finite; got 0"),
        (traced, {"reach": np.inf}, "`reach` must be positive and finite; got inf"),
        (traced, {"lipschitz": -1.0}, "`lipschitz` must be positive and finite; got -1"),
        (traced, {"level": np.nan}, "`level` must be finite .* got nan and 0"),
        (traced, {"allowance": -1e-9}, "`allowance` finite and ≥ 0; got 0.0 and -1e-09"),
        (traced, {"limit": 0}, "`limit` must be at least 1 .* got 0"),
        (
            traced,
            {"field": lambda x: x},
            r"`field` must return one value a point, shape \(1,\); got \(1, 3\)",
        ),
        (
            traced,
            {"field": lambda x: x[:, 0] * np.nan},
            r"`field` must be finite; got nan at \[0.0, 0.0, 2.0\]",
        ),
        (projected, {"points": ONE[0]}, r"`points` must be \(n, 3\) and finite; got shape \(3,\)"),
        (projected, {"points": np.nan * np.ones((1, 3))}, "`points` must be finite; row 0 is"),
        (projected, {"tolerance": -1.0}, "`tolerance` must be positive and finite; got -1"),
        (projected, {"reach": 0.0}, "`reach` must be positive and finite; got 0"),
        (projected, {"level": np.inf}, "`level` must be finite"),
        (projected, {"limit": -3}, "`limit` must be at least 1 .* got -3"),
        (projected, {"field": lambda x: x[:, :1]}, r"`field` must return one value a point, shape \(1,\)"),
        (projected, {"gradient": BALL}, r"`gradient` must return shape \(1, 3\); got \(1,\)"),
        (projected, {"gradient": lambda x: x * np.nan}, "`gradient` must be finite; got .* at"),
    ],
)
def test_refusals(call: Callable[..., object], changes: dict[str, object], message: str) -> None:
    call()  # as it is, it is accepted
    with pytest.raises(ValueError, match=message) as caught:
        call(**changes)
    assert "\n" not in str(caught.value)
