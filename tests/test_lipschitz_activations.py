"""The activations neither stretch nor shrink: permutations and sign flips of the channels, kink by kink."""

from __future__ import annotations

import pytest
import torch

from ocsdf3d.lipschitz.activations import ACTIVATIONS, full_sort, half_abs, max_min

NAMES = sorted(ACTIVATIONS)
WIDTHS = [1, 2, 3, 7, 64]  # 1: nothing to pair; odd: one channel more on the right


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_values_by_hand() -> None:
    x = torch.tensor([[-3.0, 2.0, 5.0, -4.0, 0.5]])
    assert half_abs(x).tolist() == [[3.0, 2.0, 5.0, -4.0, 0.5]]
    assert max_min(x).tolist() == [
        [5.0, 2.0, -3.0, -4.0, 0.5]
    ]  # pairs (−3, 5) and (2, −4); 0.5 is the middle
    assert full_sort(x).tolist() == [[-4.0, -3.0, 0.5, 2.0, 5.0]]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_lipschitz_on_random_pairs(name: str, width: int) -> None:
    x, y = draws(2000, width), draws(2000, width, seed=1)
    y[1000:] = x[1000:] + 1e-3 * y[1000:]  # near pairs, most on one linear piece
    activation = ACTIVATIONS[name]
    ratio = (activation(x) - activation(y)).norm(dim=1) / (x - y).norm(dim=1)
    assert ratio.max() <= 1.0 + 1e-9  # MaxMin rounds values near 1 by 1e-16; the nearest pairs are 1e-6 apart
    assert ratio.max() >= 1.0 - 1e-9  # near pairs attain it: no piece contracts


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_gradient_norm_is_preserved(name: str, width: int) -> None:
    """The Jacobian is orthogonal away from the kinks, so a gradient keeps its norm on the way back."""
    x = draws(500, width).requires_grad_(True)
    upstream = draws(500, width, seed=2)
    (gradient,) = torch.autograd.grad(ACTIVATIONS[name](x), x, upstream)
    assert torch.allclose(gradient.norm(dim=1), upstream.norm(dim=1), rtol=1e-14, atol=0)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_input_is_not_written_into(name: str, width: int) -> None:
    x = draws(20, width)
    before = x.clone()
    ACTIVATIONS[name](x)
    assert torch.equal(x, before)


def test_full_sort_is_a_permutation() -> None:
    """Each row of its Jacobian has a single 1, each column too; the values are those that came in,
    ascending."""
    x = draws(6)
    jacobian = torch.autograd.functional.jacobian(lambda row: full_sort(row[None])[0], x)
    assert sorted(jacobian.flatten().unique().tolist()) == [0.0, 1.0]
    assert torch.equal(jacobian.sum(0), torch.ones(6, dtype=torch.float64))
    assert torch.equal(jacobian.sum(1), torch.ones(6, dtype=torch.float64))
    rows = draws(100, 6, seed=3)
    out = full_sort(rows)
    assert (out.diff(dim=1) >= 0).all()
    assert all(sorted(a) == b for a, b in zip(rows.tolist(), out.tolist(), strict=True))


@pytest.mark.parametrize("width", [2, 8, 64])
def test_max_min_is_half_abs_between_rotations(width: int) -> None:
    """With r = R x, R the 45° rotation r₁ = (a − b)/√2, r₂ = (a + b)/√2 of each pair: MaxMin = Rᵀ ∘ half-abs
    ∘ R."""
    half = width // 2
    eye, root = torch.eye(half, dtype=torch.float64), 0.5**0.5
    rotation = root * torch.cat([torch.cat([eye, -eye], 1), torch.cat([eye, eye], 1)])
    x = draws(300, width)
    assert torch.allclose(rotation @ rotation.mT, torch.eye(width, dtype=torch.float64), atol=1e-15)
    through = half_abs(x @ rotation.mT) @ rotation
    assert torch.allclose(through, max_min(x), atol=1e-14)  # two products of rounding 1e-16 · values of 4
