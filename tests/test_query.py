"""Newton–Raphson steps on functions whose level sets are known."""

from __future__ import annotations

import pytest
import torch

from ocsdf3d.query import newton_step, value_and_gradient


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
