"""The bound is never below the truth, hardly above it, and sees a layer that is one per cent too large."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch

from ocsdf3d.lipschitz.bound import certify, lipschitz_bound, norm_bound
from ocsdf3d.lipschitz.network import LipschitzNetwork, NetworkConfig
from ocsdf3d.query import value_and_gradient
from ocsdf3d.sources import Surface
from ocsdf3d.train import TrainConfig, learn

ULPS = 1e-13  # an SVD in float64 errs by some n·2⁻⁵³ itself; the bound may be that much below *it*


def draws(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def spectral(matrix: torch.Tensor) -> float:
    m = matrix.detach().double()
    size = float(m.abs().max()) or 1.0
    return float(torch.linalg.svdvals(m / size).max()) * size


def orthogonal(n: int, seed: int = 0) -> torch.Tensor:
    return torch.linalg.qr(draws(n, n, seed=seed, dtype=torch.float64))[0]


def network(constraint: str = "stiefel", optimizer: str = "spectral", steps: int = 60) -> LipschitzNetwork:
    """A network that learnt a circle for a moment."""
    generator = torch.Generator().manual_seed(0)
    net = LipschitzNetwork(NetworkConfig(2, width=32, depth=4, constraint=constraint), generator)
    data = torch.nn.functional.normalize(torch.randn((300, 2), generator=generator), dim=1)
    source = Surface(data, lambda n: 3.0 * torch.rand((n, 2), generator=generator) - 1.5, generator)
    corner = torch.full((2,), 1.5)
    rate = 0.03 if optimizer == "spectral" else 3e-3
    config = TrainConfig(steps=steps, batch=64, optimizer=optimizer, rate=rate, report=steps)
    learn(net, source, config, -corner, corner, generator)
    return net


MATRICES = {
    "random": draws(40, 40),
    "tall": draws(50, 3),
    "wide": draws(3, 50),
    "row": draws(1, 64),
    "single": draws(1, 1),
    "orthogonal": orthogonal(64).float(),
    "near orthogonal": (orthogonal(64) + 1e-3 * draws(64, 64, dtype=torch.float64)).float(),
    "shrunk": (0.999 * orthogonal(64)).float(),
    "rank one": draws(40, 1) @ draws(1, 40, seed=1),
    "rank deficient": draws(40, 5) @ draws(5, 40, seed=1),
    "zero": torch.zeros(7, 7),
    "equal entries": torch.ones(30, 30),
    "float16": draws(20, 20).half(),
    "float64": draws(20, 20, dtype=torch.float64),
}


@pytest.mark.parametrize("name", sorted(MATRICES))
@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e3, 1e30])
def test_bound_is_above_the_norm(name: str, scale: float) -> None:
    matrix = scale * MATRICES[name].double()
    if name not in {"float64"} and float(matrix.abs().max()) < 3e38:
        matrix = matrix.float()
    bound = norm_bound(matrix)
    assert math.isfinite(bound)
    assert bound >= spectral(matrix) * (1.0 - ULPS)
    # Gershgorin: a row sum of |Gram| is at most √k ‖Gram‖, so the bound is never worse than k^¼ times the
    # norm.
    assert bound <= min(matrix.shape) ** 0.25 * spectral(matrix) * (1 + 1e-9) + 1e-150


@pytest.mark.parametrize("n", [1, 2, 17, 128])
def test_bound_is_tight_near_orthogonal(n: int) -> None:
    for seed in range(3):
        matrix = orthogonal(
            n, seed
        ).float()  # entries rounded to 2⁻²⁴: the norm itself is 1 within about 1e-7
        assert spectral(matrix) * (1.0 - ULPS) <= norm_bound(matrix) <= spectral(matrix) + 1e-4


def test_bound_of_a_diagonal_is_exact_enough_to_order() -> None:
    """Against rational arithmetic, no SVD in between: entries 1 + 2⁻²³ prove a norm above 1, and so must the
    bound."""
    entry = float(torch.tensor(1.0) + 2.0**-23)
    bound = norm_bound(entry * torch.eye(5))
    assert Fraction(bound) >= Fraction(entry)
    assert bound < entry + 1e-12


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_entries_have_no_bound(value: float) -> None:
    matrix = torch.eye(4)
    matrix[2, 1] = value
    assert norm_bound(matrix) == math.inf


@pytest.mark.parametrize("size", [1e200, 1e-200, 1e-310])
def test_squares_beyond_float64_do_not_fool_the_bound(size: float) -> None:
    """Above, Gram entries are ∞ − ∞; below, they are 0: the bound says infinity, and something above the
    norm."""
    matrix = size * draws(6, 6, dtype=torch.float64)
    assert norm_bound(matrix) >= spectral(matrix)


def test_bound_is_above_every_gradient_found_by_ascent() -> None:
    """‖∇f‖ is constant between the kinks, so the climb is by trial: a move is kept when the norm has
    grown."""
    isometry = LipschitzNetwork(NetworkConfig(32, width=32, depth=4), torch.Generator().manual_seed(0))
    # As many inputs as channels: ‖∇f‖ is 1 everywhere. The others are 60 steps into training, and begin at
    # 0.25.
    for net, least in ((isometry, 1.0 - 1e-6), (network(), 0.6), (network("bjorck", "rmsprop"), 0.35)):
        bound = lipschitz_bound(net)
        x = 1.5 * draws(256, net.config.inputs, seed=4)
        with net.frozen():
            largest = value_and_gradient(net, x)[1].norm(dim=1)
            for trial in range(60):
                other = x + 0.2 * draws(256, net.config.inputs, seed=trial)
                norms = value_and_gradient(net, other)[1].norm(dim=1)
                x = torch.where((norms > largest)[:, None], other, x)
                largest = torch.maximum(largest, norms)
        found = float(largest.max())
        assert bound >= found * (1.0 - 1e-6)  # the gradient is a float32 product
        assert found > least
        assert bound < 1.001  # measured 1 + 1e-5 at 8 × 128


def test_bound_of_a_network_is_the_product() -> None:
    net = network()
    expected = norm_bound(net.entry) * norm_bound(net.head[None])
    for weight in net.square:
        expected *= norm_bound(weight)
    assert expected <= lipschitz_bound(net) <= expected * (1 + 1e-12)


# ------------------------------------------------------------------------------------- certify


@pytest.mark.parametrize(("constraint", "optimizer"), [("stiefel", "spectral"), ("bjorck", "rmsprop")])
def test_certified_networks_are_proved_and_hardly_changed(constraint: str, optimizer: str) -> None:
    net = network(constraint, optimizer)
    x = 1.5 * draws(500, 2, seed=4)
    before = net(x).detach()
    weights = {name: p.detach().clone() for name, p in net.named_parameters()}
    certified, lipschitz = certify(net)
    assert 0.99 < lipschitz <= 1.0  # five layers, each shrunk by its bound's excess of some 1e-5
    layers = [certified.entry, *certified.square, certified.head[None]]
    assert all(norm_bound(layer) <= 1.0 for layer in layers)
    assert all(spectral(layer) <= 1.0 for layer in layers)
    # Layers shrink by 1e-5 or so each; on |x| < 5 that moves f by less than 1e-3.
    assert (certified(x) - before).abs().max() < 1e-3
    assert all(
        torch.equal(p, weights[name]) for name, p in net.named_parameters()
    )  # the network is not touched


def test_certify_tames_large_weights() -> None:
    net = network(steps=1)
    with torch.no_grad():
        net.square.mul_(50.0)
    certified, lipschitz = certify(net)
    assert lipschitz <= 1.0
    assert max(norm_bound(w) for w in certified.square) <= 1.0


def test_certified_twice_is_certified_once() -> None:
    once, _ = certify(network())
    twice, _ = certify(once)
    assert all(torch.equal(a, b) for a, b in zip(once.parameters(), twice.parameters(), strict=True))


@pytest.mark.parametrize("layer", ["entry", "square", "head"])
def test_a_layer_tampered_with_is_seen(layer: str) -> None:
    """Negative control: 1 % more after certification and the bound is above 1."""
    certified, _ = certify(network())
    assert lipschitz_bound(certified) <= 1.0 + 1e-12
    with torch.no_grad():
        getattr(certified, layer).mul_(1.01)
    assert lipschitz_bound(certified) > 1.005


@pytest.mark.parametrize("name", ["entry", "square", "head", "biases", "offset"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nothing_is_proved_of_non_finite_weights(name: str, value: float) -> None:
    net = network(steps=1)
    with torch.no_grad():
        parameter = getattr(net, name)
        parameter[(0,) * parameter.ndim] = value
    with pytest.raises(ArithmeticError, match="train with lower rates"):
        certify(net)
