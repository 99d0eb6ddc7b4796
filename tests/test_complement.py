"""Algorithm 1 on functions with known level sets: where the walkers end, and what they keep to."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from ocsdf3d.complement import WalkConfig, walk
from ocsdf3d.query import newton_step

LOWER, UPPER = torch.full((3,), -3.0), torch.full((3,), 3.0)
WIDE = torch.full((3,), 1e6)


def ball(x: torch.Tensor) -> torch.Tensor:
    return 1.0 - x.norm(dim=1)


def plane(x: torch.Tensor) -> torch.Tensor:
    """Affine, gradient norm 1/2: every Newton step covers the same share of the gap."""
    return 0.5 * x[:, 0] - 0.2


def seeds(n: int, seed: int = 0) -> torch.Tensor:
    return 6.0 * torch.rand((n, 3), generator=torch.Generator().manual_seed(seed)) - 3.0


def rng(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def left(x: torch.Tensor, y: torch.Tensor, level: float) -> torch.Tensor:
    """Share of the gap to the level that is left."""
    return (plane(y) - level) / (plane(x) - level)


@pytest.mark.parametrize(
    "config", [WalkConfig(), WalkConfig(8, 4.0, 0.0, True), WalkConfig(6, 20.0, rule="unit")]
)
def test_walkers_stay_in_the_domain(config: WalkConfig) -> None:
    lower, upper = torch.tensor([-1.0, -2.0, -0.5]), torch.tensor([2.0, 0.5, 3.0])
    q = walk(ball, seeds(2000), 0.05, config, lower, upper, rng())
    assert ((q >= lower) & (q <= upper)).all()
    assert ((q == lower) | (q == upper)).any()  # the projection had something to do: many seeds lie outside


def test_projection_acts_at_every_step() -> None:
    """The function {f = x₀}, level 10, box to 1: walkers end on the face and their other coordinates are
    kept."""
    x = seeds(100).clamp(-1.0, 1.0)
    corner = torch.ones(3)
    config = WalkConfig(steps=50, multiplier=50.0, level=10.0)
    seen = []

    def f(p: torch.Tensor) -> torch.Tensor:
        seen.append(p.detach())
        return p[:, 0]

    q = walk(f, x, 1.0, config, -corner, corner, rng())
    assert len(seen) == 50
    assert all((p.abs() <= 1.0).all() for p in seen)  # f is never asked outside B
    assert (q[:, 0] == 1.0).float().mean() > 0.9  # all but those whose η < 0.1 or so
    assert torch.equal(q[:, 1:], x[:, 1:])


def test_no_steps_return_the_seeds() -> None:
    x = seeds(10) * 100.0  # outside of B, and left there, as in the authors' code
    assert walk(ball, x, 0.05, WalkConfig(steps=0), LOWER, UPPER, rng()) is x


@pytest.mark.parametrize(
    ("multiplier", "steps", "mean", "at_one"),
    [(1.0, 4, 0.61, 0.32), (1.0, 16, 0.63, 0.36), (1.0, 32, 0.63, 0.36), (4.0, 8, 0.22, 0.004)],
)
def test_share_of_the_way_that_is_left(multiplier: float, steps: int, mean: float, at_one: float) -> None:
    """(1 − aη/T)^T over η ~ U[0, 1]: mean T/(a(T + 1))·(1 − (1 − a/T)^(T+1)), the figures of the paper's
    settings."""
    x = seeds(40_000)
    config = WalkConfig(steps=steps, multiplier=multiplier, level=-1.0)
    share = left(x, walk(plane, x, 0.05, config, -WIDE, WIDE, rng()), -0.05)
    share = share[(plane(x) + 0.05).abs() > 0.05]  # nearer ones have float32 noise
    exact = steps / (multiplier * (steps + 1)) * (1.0 - (1.0 - multiplier / steps) ** (steps + 1))
    assert exact == pytest.approx(mean, abs=0.005)  # two digits were printed
    assert float(share.mean()) == pytest.approx(exact, abs=0.006)  # 4σ: deviation ≤ 0.3 over √38,000
    assert float(share.min()) == pytest.approx((1.0 - multiplier / steps) ** steps, abs=2e-3)
    assert (1.0 - multiplier / steps) ** steps == pytest.approx(at_one, abs=0.005)
    assert float(share.max()) <= 1.0 + 1e-4  # η ≥ 0: nobody walks away


def test_eta_is_drawn_once_per_seed() -> None:
    """Steps of one walker are the same share of its gap; walkers differ."""
    x = seeds(200)
    x = x[(plane(x) + 0.05).abs() > 0.2]
    gaps = []

    def f(p: torch.Tensor) -> torch.Tensor:
        gaps.append((plane(p) + 0.05).detach())
        return plane(p)

    walk(f, x, 0.05, WalkConfig(steps=4), -WIDE, WIDE, rng())
    ratios = torch.stack([b / a for a, b in itertools.pairwise(gaps)])
    assert (ratios - ratios[0]).abs().max() < 1e-4
    assert float(ratios[0].std()) == pytest.approx(
        0.25 / math.sqrt(12.0), rel=0.15
    )  # U[0, 1]/4; 200 draws: 5 %


@pytest.mark.parametrize("rule", ["squared", "unit"])
def test_both_rules_walk_toward_the_level(rule: str) -> None:
    """On an exact distance the rules agree, and the gap shrinks by the law above."""
    x = seeds(5000)
    x = x[x.norm(dim=1) > 0.3]
    q = walk(ball, x, 0.2, WalkConfig(steps=4, rule=rule), -WIDE, WIDE, rng())
    before, after = (ball(x) + 0.2).abs(), (ball(q) + 0.2).abs()
    assert (after <= before + 1e-6).all()
    assert float((after / before)[before > 0.05].mean()) == pytest.approx(0.61, abs=0.02)  # 4σ of 0.2/√4,500


def test_level_is_in_units_of_the_margin() -> None:
    x = seeds(500)
    for level in (-1.5, -1.0, 0.0):
        config = WalkConfig(steps=200, multiplier=200.0, level=level)
        q = walk(ball, x, 0.2, config, -WIDE, WIDE, rng())
        settled = (ball(q) - 0.2 * level).abs() < 1e-5
        assert settled.float().mean() > 0.9  # share of η below 0.06: (1 − 0.06)^200 = 4e-6


def test_one_sided_walkers_above_stay_put() -> None:
    x = seeds(2000)
    above = ball(x) >= 0.0
    config = WalkConfig(steps=4, level=0.0, one_sided=True)
    q = walk(ball, x, 0.05, config, LOWER, UPPER, rng())
    assert 20 < int(above.sum()) < 1980
    assert torch.equal(q[above], x[above])
    assert (q[~above] != x[~above]).any(dim=1).all()
    both = walk(ball, x, 0.05, WalkConfig(steps=4, level=0.0), LOWER, UPPER, rng())
    assert (both[above] != x[above]).any(dim=1).all()


def test_walk_is_the_newton_step_times_eta() -> None:
    """One step by hand, with the same η."""
    x = seeds(50)
    eta = torch.rand((50, 1), generator=rng(7))
    value, gradient = plane(x), torch.tensor([[0.5, 0.0, 0.0]]).expand(50, 3)
    expected = x + 3.0 * eta * newton_step(value, gradient, -0.05)
    q = walk(plane, x, 0.05, WalkConfig(steps=1, multiplier=3.0), -WIDE, WIDE, rng(7))
    assert torch.allclose(q, expected, atol=1e-5)


def test_generator_fixes_the_walk_and_nothing_else_is_touched() -> None:
    x = seeds(100)
    kept, state = x.clone(), torch.get_rng_state()
    one, same, other = (walk(ball, x, 0.05, WalkConfig(), LOWER, UPPER, rng(s)) for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(x, kept)
    assert torch.equal(torch.get_rng_state(), state)
    assert not one.requires_grad


def test_any_dimension_and_no_seed_at_all() -> None:
    corner = torch.full((7,), 2.0)
    x = 4.0 * torch.rand((30, 7), generator=rng()) - 2.0
    assert walk(ball, x, 0.1, WalkConfig(), -corner, corner, rng()).shape == (30, 7)
    assert walk(ball, x[:0], 0.1, WalkConfig(), -corner, corner, rng()).shape == (0, 7)


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="`steps` must not be negative; got -1"):
        WalkConfig(steps=-1)
    with pytest.raises(ValueError, match="`rule` must be squared or unit; got 'raw'"):
        WalkConfig(rule="raw")


@pytest.mark.parametrize("bad", [{"multiplier": 0.0}, {"multiplier": float("nan")}, {"level": float("inf")}])
def test_multipliers_are_positive_and_levels_finite(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="`multiplier` must be positive and `level` finite"):
        WalkConfig(**bad)  # type: ignore[arg-type]


def test_without_chance_every_walker_covers_the_same_share() -> None:
    """η = 1: (1 − 1/T)^T of the gap is left, and no generator is asked."""
    generator = rng()
    before = generator.get_state()
    config = WalkConfig(steps=4, random=False)
    x = seeds(50)
    y = walk(plane, x, 0.05, config, -WIDE, WIDE, generator)
    torch.testing.assert_close(left(x, y, -0.05), torch.full((50,), 0.75**4), rtol=1e-4, atol=1e-4)
    assert torch.equal(generator.get_state(), before)
