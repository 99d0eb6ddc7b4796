"""Newton–Schulz never leaves a singular value above 1, and the fused layer is the plain one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from ocsdf3d.lipschitz.activations import half_abs
from ocsdf3d.lipschitz.layers import HalfAbsLayer, bjorck, newton_schulz

SLACK = 1e-6  # float32: a sum of 64 products of size 1/64 each errs by some 1e-7


def norm(matrix: torch.Tensor) -> float:
    return float(torch.linalg.svdvals(matrix.detach().double()).max())


def draws(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_the_one_fact() -> None:
    """p(s) = 1.5 s − 0.5 s³ lies in [−1, 1] on [0, 2], has its maximum 1 at s = 1, its zero at √3, and leaves
    above 2."""
    s = np.linspace(0.0, 2.0, 200_001)  # 1 and 2 are nodes
    p = 1.5 * s - 0.5 * s**3
    assert np.abs(p).max() == 1.0
    assert s[p.argmax()] == pytest.approx(1.0, abs=1e-5)
    assert p[s <= 3**0.5].min() >= 0.0
    assert (p[(s > 0) & (s < 1)] > s[(s > 0) & (s < 1)]).all()  # and never moves away from 1
    assert abs(1.5 * 2.001 - 0.5 * 2.001**3) > 1.0


def test_singular_values_follow_p() -> None:
    """On a matrix that the guard leaves alone (row sums of the Gram matrix below 2), exactly p acts."""
    u, v = (torch.linalg.qr(draws(12, 12, seed=s, dtype=torch.float64))[0] for s in (1, 2))
    s = torch.linspace(0.05, 0.75, 12, dtype=torch.float64)  # row sums ≤ √12 · 0.75² = 1.95
    stepped = newton_schulz(u @ torch.diag(s) @ v.mT)
    expected = u @ torch.diag(1.5 * s - 0.5 * s**3) @ v.mT
    assert torch.allclose(stepped, expected, atol=1e-14)


@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (40, 3), (3, 40), (5, 24, 24), (0, 8, 8)])
@pytest.mark.parametrize("size", [1e-20, 1e-3, 1.0, 1e3, 1e12, 1e17])
def test_norm_is_at_most_one_after_one_step_from_anywhere(shape: tuple[int, ...], size: float) -> None:
    for seed in range(5):
        stepped = newton_schulz(size * draws(*shape, seed=seed))
        assert stepped.shape == shape
        assert torch.isfinite(stepped).all()
        for matrix in stepped.reshape(-1, *shape[-2:]):
            assert norm(matrix) <= 1.0 + SLACK


@pytest.mark.parametrize("size", [1.0, 1.3, 1.8, 3.0, 100.0])
def test_a_layer_that_is_too_large_does_not_vanish(size: float) -> None:
    """Orthogonal times `size`: the guard hands p at most √2, and p is at least p(√2) = 0.707 on [1, √2]."""
    weight = size * torch.linalg.qr(draws(32, 32, dtype=torch.float64))[0]
    assert torch.linalg.svdvals(newton_schulz(weight)).min() > 0.6  # row sums exceed σ² by rounding only
    assert torch.linalg.svdvals(bjorck(weight, 5)).min() > 1.0 - 1e-6


def test_the_guard_is_needed() -> None:
    """Without it a singular value of 2.5 becomes |p(2.5)| = 4.06: the negative control of the test above."""
    assert abs(1.5 * 2.5 - 0.5 * 2.5**3) == pytest.approx(4.0625)
    assert norm(newton_schulz(2.5 * torch.eye(4))) <= 1.0 + SLACK


def test_norm_survives_a_thousand_violent_steps() -> None:
    """Random updates of spectral size up to about 30, thirty times the weights, rank one now and then."""
    weight = torch.linalg.qr(draws(32, 32))[0]
    generator = torch.Generator().manual_seed(3)
    worst = 0.0
    for step in range(1000):
        update = torch.randn((32, 32), generator=generator)
        if step % 7 == 0:
            update = 8.0 * update[:, :1] @ torch.randn((1, 32), generator=generator)
        scale = 10.0 ** float(torch.empty(()).uniform_(-3.0, 0.5, generator=generator))
        weight = newton_schulz(weight + scale * update)
        worst = max(worst, norm(weight))
    assert worst <= 1.0 + SLACK
    assert worst > 0.5  # they did not just die out


def test_tangent_step_stays_orthogonal_to_fourth_order() -> None:
    """W(1 + ηS), S skew of norm 1: singular values √(1 + η²) become 1 − (3/8)η⁴ + O(η⁶)."""
    skew = draws(16, 16, dtype=torch.float64)
    skew = skew - skew.mT
    skew = skew / torch.linalg.matrix_norm(skew, ord=2)
    w = torch.linalg.qr(draws(16, 16, seed=1, dtype=torch.float64))[0]
    for eta in (0.03, 0.06):
        values = torch.linalg.svdvals(newton_schulz(w + eta * w @ skew))
        miss = float((1.0 - values).max())
        assert miss == pytest.approx(0.375 * eta**4, rel=0.02)  # the next term is of relative size η²
        assert float(values.max()) <= 1.0 + 1e-14


@pytest.mark.parametrize("shape", [(20, 20), (20, 4), (4, 20)])
def test_bjorck_converges_to_orthogonal(shape: tuple[int, int]) -> None:
    """Singular values from 0.2 on are within float64 of 1 after 15 rounds: 1.5^k lifts, then squares the
    error."""
    rows, columns = shape
    u = torch.linalg.qr(draws(rows, min(shape), dtype=torch.float64))[0]
    v = torch.linalg.qr(draws(columns, min(shape), seed=1, dtype=torch.float64))[0]
    s = torch.linspace(0.2, 1.0, min(shape), dtype=torch.float64)
    projected = bjorck(u @ torch.diag(s) @ v.mT, 15)
    assert torch.allclose(projected, u @ v.mT, atol=1e-12)  # the polar factor: nearest orthogonal matrix


@pytest.mark.parametrize("iterations", [1, 2, 3, 15, 40])
def test_any_iteration_count_is_safe(iterations: int) -> None:
    for seed, size in itertools.product(range(3), (0.1, 1.0, 50.0)):
        assert norm(bjorck(size * draws(24, 24, seed=seed), iterations)) <= 1.0 + SLACK


def test_no_iteration_returns_the_weights() -> None:
    weight = draws(3, 3)
    assert bjorck(weight, 0) is weight


def test_bjorck_gradient() -> None:
    weight = (0.3 * draws(4, 3, dtype=torch.float64)).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda w: bjorck(w, 3), (weight,))
    large = (3.0 * draws(4, 3, dtype=torch.float64)).requires_grad_(True)  # through the guard as well
    assert torch.autograd.gradcheck(lambda w: bjorck(w, 3), (large,))


# ------------------------------------------------------------------------------------- the fused layer


def plain(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return half_abs(torch.addmm(bias, x, weight.mT))


@pytest.mark.parametrize("shape", [(9, 3, 8), (9, 8, 8), (5, 4, 7), (4, 2, 1)])
def test_fused_layer_equals_the_composition(shape: tuple[int, int, int]) -> None:
    n, v, w = shape
    for dtype in (torch.float32, torch.float64):
        inputs = [draws(n, v, seed=1, dtype=dtype), draws(w, v, seed=2, dtype=dtype), draws(w, dtype=dtype)]
        upstream = draws(n, w, seed=4, dtype=dtype)
        outcomes = []
        for layer in (HalfAbsLayer.apply, plain):
            leaves = [t.clone().requires_grad_(True) for t in inputs]
            out = layer(*leaves)
            outcomes.append([out.detach(), *torch.autograd.grad(out, leaves, upstream)])
        for one, other in zip(*outcomes, strict=True):
            # Same sums, at most in another order: an ulp or two of values below 10.
            assert torch.allclose(one, other, rtol=1e-5 if dtype == torch.float32 else 1e-13, atol=1e-6)


def test_fused_layer_passes_gradcheck() -> None:
    inputs = [
        draws(5, 3, dtype=torch.float64).requires_grad_(True),
        draws(6, 3, seed=1, dtype=torch.float64).requires_grad_(True),
        draws(6, seed=2, dtype=torch.float64).requires_grad_(True),
    ]
    assert torch.autograd.gradcheck(HalfAbsLayer.apply, inputs)


@pytest.mark.parametrize("wanted", list(itertools.product([False, True], repeat=3)))
def test_only_the_gradients_asked_for_are_formed(wanted: tuple[bool, bool, bool]) -> None:
    inputs = [draws(5, 3), draws(6, 3, seed=1), draws(6, seed=2)]
    leaves = [t.clone().requires_grad_(flag) for t, flag in zip(inputs, wanted, strict=True)]
    reference = [t.clone().requires_grad_(flag) for t, flag in zip(inputs, wanted, strict=True)]
    out, expected = HalfAbsLayer.apply(*leaves), plain(*reference)
    assert out.requires_grad == any(wanted)
    if not any(wanted):
        return
    node = out.grad_fn
    produced = node.apply(torch.ones_like(out))  # what backward returns, before autograd drops anything
    assert [g is not None for g in produced] == list(wanted)
    out.sum().backward()  # an expanded gradient of stride 0: not to be written into
    expected.sum().backward()
    for leaf, twin in zip(leaves, reference, strict=True):
        assert (leaf.grad is None) == (twin.grad is None)
        if leaf.grad is not None and twin.grad is not None:
            assert torch.allclose(leaf.grad, twin.grad, atol=1e-6)


def test_fused_layer_writes_into_nothing() -> None:
    x, weight, bias = (t.requires_grad_(True) for t in (draws(5, 3), draws(6, 3), draws(6)))
    before = [t.detach().clone() for t in (x, weight, bias)]
    out = HalfAbsLayer.apply(x, weight, bias)
    upstream = draws(5, 6, seed=9)
    kept = upstream.clone()
    out.backward(upstream)
    assert torch.equal(upstream, kept)
    assert all(torch.equal(a.detach(), b) for a, b in zip((x, weight, bias), before, strict=True))
