"""The hKR loss by hand, its symmetries, and where its minimiser lies."""

from __future__ import annotations

import pytest
import torch

from ocsdf3d.loss import hkr


def test_values_by_hand() -> None:
    """λ = 3, m = 1: hinges (0 + 1.5)/2 and (0.5 + 0)/2, means 0.75 and −1.25."""
    inside, outside = torch.tensor([2.0, -0.5]), torch.tensor([-0.5, -2.0])
    assert float(hkr(inside, outside, 1.0, 3.0)) == pytest.approx((3.0 * (0.75 + 0.25) - 0.75 - 1.25) / 4.0)


def test_the_hinge_starts_at_the_margin() -> None:
    at, past = torch.tensor([1.0]), torch.tensor([1.25])
    assert float(hkr(at, -at, 1.0, 100.0)) == pytest.approx(-2.0 / 101.0)  # transport only
    assert float(hkr(past, -past, 1.0, 100.0)) == pytest.approx(-2.5 / 101.0)
    short = torch.tensor([0.75])
    assert float(hkr(short, -short, 1.0, 100.0)) == pytest.approx((100.0 * 0.5 - 1.5) / 101.0)


def test_classes_of_different_sizes_weigh_the_same() -> None:
    inside, outside = torch.tensor([0.3, -0.1]), torch.tensor([-0.7, 0.2, 0.1])
    expected = hkr(inside, outside, 0.5, 10.0)
    assert torch.allclose(hkr(inside.repeat(5), outside, 0.5, 10.0), expected)
    assert torch.allclose(hkr(inside, outside.repeat(7), 0.5, 10.0), expected)


def test_swapping_the_classes_and_the_sign_changes_nothing() -> None:
    inside, outside = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(hkr(inside, outside, 0.1, 7.0), hkr(-outside, -inside, 0.1, 7.0))


@pytest.mark.parametrize("lam", [0.5, 10.0])
def test_translation_is_paid_by_lambda_alone(lam: float) -> None:
    """f + c leaves the transport term as it is; with all of P short of the margin and all of Q past it, the
    hinge falls by c·λ, over 1 + λ."""
    inside, outside = torch.tensor([0.1, 0.2]), torch.tensor([-2.0, -3.0])
    change = hkr(inside + 0.25, outside + 0.25, 1.0, lam) - hkr(inside, outside, 1.0, lam)
    assert float(change) == pytest.approx(-0.25 * lam / (1.0 + lam), rel=1e-5)


def test_gradients_by_hand() -> None:
    """A point that pays the hinge pulls with (λ + 1)/(n(1 + λ)) = 1/n, one beyond the margin with 1/(n(1 +
    λ))."""
    inside = torch.tensor([0.5, 2.0], requires_grad=True)
    outside = torch.tensor([0.5, -2.0], requires_grad=True)
    hkr(inside, outside, 1.0, 4.0).backward()
    assert inside.grad is not None
    assert outside.grad is not None
    assert inside.grad.tolist() == pytest.approx([-0.5, -0.1])
    assert outside.grad.tolist() == pytest.approx([0.5, 0.1])


def test_margin_and_lambda_may_be_tensors() -> None:
    inside, outside = torch.tensor([0.3]), torch.tensor([-0.7])
    assert torch.equal(
        hkr(inside, outside, torch.tensor(0.5), torch.tensor(10.0)), hkr(inside, outside, 0.5, 10.0)
    )


def test_minimiser_goes_beyond_the_margin() -> None:
    """f(x) = clamp(a)·x + b on P = [0.5, 1], Q = [−1, −0.5], m = 0.2. The hinge is content at a = 0.4; the
    transport term goes on to the steepest slope that is allowed, 1, where |f| is the distance to the boundary
    x = 0."""
    slope = torch.tensor(0.1, requires_grad=True)
    shift = torch.tensor(0.3, requires_grad=True)
    inside = torch.linspace(0.5, 1.0, 101)
    optimizer = torch.optim.SGD([slope, shift], lr=0.1)
    for _ in range(600):
        optimizer.zero_grad()
        f = lambda x: slope.clamp(-1.0, 1.0) * x + shift  # noqa: E731
        hkr(f(inside), f(-inside), 0.2, 10.0).backward()
        optimizer.step()
    assert float(slope.detach().clamp(-1.0, 1.0)) == 1.0
    # The hinge lets the boundary rest where both classes keep the margin: |b| ≤ 0.5 − 0.2, plus one SGD step.
    assert abs(float(shift.detach())) <= 0.3 + 0.01
    values = f(inside).detach()
    assert values.min() >= 0.2 - 0.01
    assert values.mean() > 0.4  # well beyond the margin: 0.75 + b
