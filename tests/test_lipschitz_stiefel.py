"""Steps along the tangent turn a layer by the rate and never make it stretch."""

from __future__ import annotations

import pytest
import torch

from ocsdf3d.lipschitz.network import LipschitzNetwork, NetworkConfig
from ocsdf3d.lipschitz.stiefel import SpectralSteps, orthogonalised, tangent


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(seed: int = 0, **settings: object) -> LipschitzNetwork:
    config = NetworkConfig(**{"inputs": 3, "width": 16, "depth": 4, **settings})  # type: ignore[arg-type]
    return LipschitzNetwork(config, torch.Generator().manual_seed(seed))


def norms(net: LipschitzNetwork) -> list[float]:
    matrices = [net.entry, *net.square, net.head[None]]
    return [float(torch.linalg.svdvals(m.detach().double()).max()) for m in matrices]


def randomise_gradients(net: LipschitzNetwork, generator: torch.Generator, size: float) -> None:
    for parameter in net.parameters():
        parameter.grad = size * torch.randn(parameter.shape, generator=generator)


def test_tangent_is_the_part_that_keeps_the_gram_matrix() -> None:
    w = torch.linalg.qr(draws(3, 8, 8))[0]
    g = draws(3, 8, 8, seed=1)
    t = tangent(w, g)
    assert torch.allclose(w.mT @ t + t.mT @ w, torch.zeros(3, 8, 8, dtype=torch.float64), atol=1e-14)
    assert torch.allclose(tangent(w, t), t, atol=1e-13)  # a projection
    assert ((g - t) * t).sum().abs() < 1e-12  # an orthogonal one
    assert torch.allclose(tangent(w, w), torch.zeros_like(w), atol=1e-14)  # radial moves have no part in it


def test_direction_keeps_its_vectors_and_levels_its_values() -> None:
    """Singular values from 0.05 of the norm on end in [0.6, 1.3] after four steps (docs: within about 20
    %)."""
    u, v = (torch.linalg.qr(draws(10, 10, seed=s))[0] for s in (1, 2))
    s = torch.linspace(0.3, 1.0, 10, dtype=torch.float64)
    for scale in (1e-12, 1.0, 1e12):  # normalised first, so size does not matter
        out = orthogonalised(scale * u @ torch.diag(s) @ v.mT)
        core = u.mT @ out @ v
        assert (core - torch.diag(torch.diagonal(core))).abs().max() < 1e-10  # same singular vectors
        values = torch.diagonal(core)
        assert values.min() > 0.65
        assert values.max() < 1.25


def test_direction_of_nothing_is_nothing() -> None:
    assert torch.equal(orthogonalised(torch.zeros(2, 4, 4)), torch.zeros(2, 4, 4))


def test_odd_polynomial_keeps_a_tangent_direction_tangent() -> None:
    w = torch.linalg.qr(draws(8, 8))[0]
    out = orthogonalised(tangent(w, draws(8, 8, seed=1)))
    assert (w.mT @ out + out.mT @ w).abs().max() < 1e-10


def test_square_layers_turn_by_the_rate() -> None:
    """One step moves a square layer by η in spectral norm, up to the quintic's 0.7–1.2; scale multiplies
    it."""
    for scale in (1.0, 0.25):
        net = network()
        before = net.square.detach().clone()
        optimizer = SpectralSteps(net, rate=0.04)
        randomise_gradients(net, torch.Generator().manual_seed(1), 1.0)
        optimizer.step(scale)
        moved = torch.linalg.matrix_norm((net.square - before).double(), ord=2)
        assert ((moved > 0.6 * 0.04 * scale) & (moved < 1.3 * 0.04 * scale)).all()


def test_step_size_does_not_depend_on_the_gradient_size() -> None:
    after = []
    for size in (1e-6, 1e6):
        net = network()
        optimizer = SpectralSteps(net)
        randomise_gradients(net, torch.Generator().manual_seed(1), size)
        optimizer.step()
        after.append(net.square.detach().clone())
    assert torch.allclose(*after, atol=1e-5)


def test_norms_stay_at_most_one_over_a_thousand_violent_steps() -> None:
    """Rates 100 times the default; random gradients of changing size; float32, so 1e-6 of slack."""
    net = network(width=12, depth=3)
    optimizer = SpectralSteps(net, rate=3.0, adam_rate=0.6)
    generator = torch.Generator().manual_seed(5)
    worst = 0.0
    for step in range(1000):
        randomise_gradients(net, generator, 10.0 ** (step % 9 - 4))
        optimizer.step()
        if step % 10 == 0:
            worst = max(worst, *norms(net))
    assert worst <= 1.0 + 1e-6
    assert torch.isfinite(net.square).all()


def test_default_steps_stay_near_orthogonal() -> None:
    """Tightness: a tangent step misses by (3/8)η⁴ = 3e-7. Momentum is not transported, so under gradients at
    random, the worst case, some of each step is not tangent: up to η² = 9e-4."""
    net = network()
    optimizer = SpectralSteps(net)
    generator = torch.Generator().manual_seed(5)
    for _ in range(200):
        randomise_gradients(net, generator, 1.0)
        optimizer.step()
    values = torch.linalg.svdvals(net.square.detach().double())
    assert values.min() > 1.0 - 2e-3
    assert values.max() <= 1.0 + 1e-6


def test_a_gradient_descends() -> None:
    """The sign: minimising ‖W − R‖² over rotations brings W to R."""
    net = network(depth=2)
    target = network(seed=7, depth=2).square.detach()
    target = (
        target * torch.sign(torch.linalg.det(target) * torch.linalg.det(net.square.detach()))[:, None, None]
    )
    if float(torch.linalg.det(target) * torch.linalg.det(net.square.detach())) < 0:
        target[:, 0] *= -1.0  # even width: a common sign does not change the determinant, a row's does
    optimizer = SpectralSteps(net, rate=0.05)
    first = last = 0.0
    for step in range(150):
        net.zero_grad()
        loss = (net.square - target).square().sum()
        loss.backward()
        last = float(loss.detach())
        first = last if step == 0 else first
        optimizer.step(1.0 - step / 150)
    assert last < 0.01 * first


def test_a_network_without_square_layers_has_none_to_turn() -> None:
    net = network(depth=1)
    optimizer = SpectralSteps(net)
    head = net.head.detach().clone()
    randomise_gradients(net, torch.Generator().manual_seed(1), 1.0)
    optimizer.step()
    assert not torch.equal(net.head, head)
    assert max(norms(net)) <= 1.0 + 1e-6


def test_free_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="stiefel network; got 'bjorck'"):
        SpectralSteps(network(constraint="bjorck"))
