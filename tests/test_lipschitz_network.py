"""|f(x) − f(y)| ≤ ‖x − y‖, at birth and after training steps, for every activation, constraint and shape."""

from __future__ import annotations

import itertools

import pytest
import torch

from ocsdf3d.lipschitz.activations import ACTIVATIONS
from ocsdf3d.lipschitz.network import LipschitzNetwork, NetworkConfig
from ocsdf3d.query import value_and_gradient
from ocsdf3d.sources import Surface
from ocsdf3d.train import TrainConfig, learn

SLACK = 1e-4  # float32 sums; the construction gives ≤ 1
KINDS = list(itertools.product(sorted(ACTIVATIONS), ("stiefel", "bjorck")))


def network(seed: int = 0, **settings: object) -> LipschitzNetwork:
    config = NetworkConfig(**{"inputs": 3, "width": 16, "depth": 4, **settings})  # type: ignore[arg-type]
    return LipschitzNetwork(config, torch.Generator().manual_seed(seed))


def steepest(net: LipschitzNetwork, seed: int = 0, starts: int = 64, rounds: int = 30) -> float:
    """Largest |f(x) − f(y)| / ‖x − y‖ over random pairs, far and near, and over pairs moved uphill."""
    generator = torch.Generator().manual_seed(seed)
    d = net.config.inputs
    worst = 0.0

    def note(x: torch.Tensor, y: torch.Tensor) -> None:
        nonlocal worst
        with torch.no_grad():
            worst = max(worst, float(((net(x) - net(y)).abs() / (x - y).norm(dim=1)).max()))

    with net.frozen():
        for spread in (0.3, 1.0, 10.0):
            x, y = spread * torch.randn((2, 500, d), generator=generator)
            note(x, y)
        # Ascent of the slope itself; separations no smaller than 0.05 keep f's rounding of 1e-7 below the
        # slack.
        x, y = torch.randn((2, starts, d), generator=generator)
        for _ in range(rounds):
            with torch.enable_grad():
                a, b = x.clone().requires_grad_(True), y.clone().requires_grad_(True)
                slope = (net(a) - net(b)).abs() / (a - b).norm(dim=1)
                ga, gb = torch.autograd.grad(slope.sum(), (a, b))
            x, y = x + 0.2 * ga, y + 0.2 * gb
            apart = (x - y).norm(dim=1, keepdim=True)
            y = x + (y - x) * (apart.clamp_min(0.05) / apart.clamp_min(1e-9))
            note(x, y)
        # Along the gradient, tiny separation: evaluated in float64, where a difference of 1e-4 still has 11
        # digits.
        start = torch.randn((500, d), generator=generator)
        _, gradient = value_and_gradient(net, start)
        worst = max(worst, float(gradient.norm(dim=1).max()))
    fine = net.bake().double()
    x = start.double()
    y = x + 1e-4 * torch.nn.functional.normalize(gradient.double(), dim=1)
    with torch.no_grad():
        worst = max(worst, float(((fine(x) - fine(y)).abs() / (x - y).norm(dim=1)).max()))
    return worst


def trained(net: LipschitzNetwork, optimizer: str, rate: float, steps: int = 25) -> LipschitzNetwork:
    d = net.config.inputs
    generator = torch.Generator().manual_seed(1)
    data = torch.nn.functional.normalize(torch.randn((200, d), generator=generator), dim=1)
    source = Surface(data, lambda n: 4.0 * torch.rand((n, d), generator=generator) - 2.0, generator)
    config = TrainConfig(steps=steps, batch=64, optimizer=optimizer, rate=rate, report=steps)
    corner = torch.full((d,), 2.0)
    learn(net, source, config, -corner, corner, generator)
    return net


@pytest.mark.parametrize(("activation", "constraint"), KINDS)
@pytest.mark.parametrize(
    ("inputs", "width"), [(2, 16), (3, 15), (7, 24), (7, 5)]
)  # odd; wider in than hidden
def test_lipschitz_at_birth(activation: str, constraint: str, inputs: int, width: int) -> None:
    net = network(activation=activation, constraint=constraint, inputs=inputs, width=width)
    slope = steepest(net)
    assert slope <= 1.0 + SLACK
    assert slope > 0.3  # the search finds slopes: random orthogonal layers keep about (d / width)^½ and more


@pytest.mark.parametrize(("activation", "constraint"), KINDS)
@pytest.mark.parametrize(("inputs", "width"), [(2, 15), (3, 16), (7, 5)])
def test_lipschitz_after_rmsprop(activation: str, constraint: str, inputs: int, width: int) -> None:
    """Rate 0.03, thirty times the paper's: the free weights and the retraction are both put to the test."""
    net = network(activation=activation, constraint=constraint, inputs=inputs, width=width)
    assert steepest(trained(net, "rmsprop", 0.03)) <= 1.0 + SLACK


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize(("inputs", "width", "rate"), [(2, 15, 0.03), (3, 16, 0.5), (7, 5, 0.03)])
def test_lipschitz_after_spectral_steps(activation: str, inputs: int, width: int, rate: float) -> None:
    net = network(activation=activation, inputs=inputs, width=width)
    assert steepest(trained(net, "spectral", rate)) <= 1.0 + SLACK


def test_the_search_would_see_a_stretch() -> None:
    """Negative control: with as many inputs as channels ‖∇f‖ is 1 everywhere; one layer 1 % larger, and it is
    1.01."""
    net = network(inputs=16)
    assert 1.0 - 1e-5 < steepest(net) <= 1.0 + SLACK
    with torch.no_grad():
        net.square[1].mul_(1.01)
    assert steepest(net) == pytest.approx(1.01, abs=2e-5)


# ------------------------------------------------------------------------------------- at birth


def test_shapes_and_seeds() -> None:
    net = network(inputs=7, width=10, depth=3)
    assert {name: tuple(p.shape) for name, p in net.named_parameters()} == {
        "entry": (10, 7),
        "square": (2, 10, 10),
        "biases": (3, 10),
        "head": (10,),
        "offset": (),
    }
    assert net(torch.zeros(5, 7)).shape == (5,)
    assert net(torch.zeros(0, 7)).shape == (0,)
    assert network(depth=1)(torch.zeros(5, 3)).shape == (5,)
    same, other = network(), network(seed=1)
    assert all(torch.equal(a, b) for a, b in zip(network().parameters(), same.parameters(), strict=True))
    assert not torch.equal(network().entry, other.entry)


def test_weights_are_orthogonal_at_birth() -> None:
    """To the rounding of float32 entries: 16 squares of size 1/16, each off by 2⁻²⁴ relative."""
    for width, inputs in ((16, 3), (5, 7)):
        net = network(width=width, inputs=inputs)
        for matrix in (net.entry, *net.square, net.head[None]):
            m = matrix.detach().double()
            small = m @ m.mT if m.shape[0] < m.shape[1] else m.mT @ m
            assert (small - torch.eye(len(small), dtype=torch.float64)).abs().max() < 3e-7


def test_bias_is_a_deviation() -> None:
    assert float(network(bias=0.0).biases.detach().abs().max()) == 0.0
    spread = float(network(bias=0.1, width=500, depth=8).biases.detach().std())
    assert spread == pytest.approx(0.1, rel=0.05)  # 4,000 draws: 1.1 % standard error


@pytest.mark.parametrize("inputs", [2, 3, 7])
def test_gradient_and_leak_make_one(inputs: int) -> None:
    """Square half-abs layers only turn and flip, so the back-propagated head keeps norm 1 down to the entry:
    ‖∇f‖² plus what lies outside the columns of the entry is 1."""
    net = network(inputs=inputs, width=16, depth=5, bias=0.3).double()
    x = torch.randn((200, inputs), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    _, gradient = value_and_gradient(net, x)
    # The same network with an entry of full width: x in the first channels of R^16 and zero in the others.
    basis = torch.linalg.qr(net.entry.detach(), mode="complete").Q
    basis[:, :inputs] = net.entry.detach()
    full = network(inputs=16, width=16, depth=5).double()
    with torch.no_grad():
        full.entry.copy_(basis)
        for name in ("square", "biases", "head", "offset"):
            getattr(full, name).copy_(getattr(net, name))
    padded = torch.cat([x, torch.zeros((200, 16 - inputs), dtype=torch.float64)], 1)
    _, whole = value_and_gradient(full, padded)
    assert torch.allclose(whole[:, :inputs], gradient, atol=1e-9)
    leak = whole[:, inputs:].square().sum(1)
    # The float32 weights of birth are orthogonal to 3e-7 a layer, six layers.
    assert (gradient.square().sum(1) + leak - 1.0).abs().max() < 2e-6


# ------------------------------------------------------------------------------------- frozen, baked


@pytest.mark.parametrize("constraint", ["stiefel", "bjorck"])
def test_frozen_gives_the_same_values_and_forms_no_weight_gradients(constraint: str) -> None:
    net = network(constraint=constraint)
    x = torch.randn((20, 3), generator=torch.Generator().manual_seed(0))
    free, slope = value_and_gradient(net, x)
    with net.frozen():
        assert not any(p.requires_grad for p in net.parameters())
        assert not any(w.requires_grad for w in net.weights())
        held, held_slope = value_and_gradient(net, x)
        y = x.clone().requires_grad_(True)
        net(y).sum().backward()
        assert y.grad is not None
        assert all(p.grad is None for p in net.parameters())
    assert torch.equal(free, held)
    assert torch.equal(slope, held_slope)
    assert all(p.requires_grad for p in net.parameters())
    net(x).sum().backward()  # and trains on as before
    assert net.entry.grad is not None
    assert net.entry.grad.abs().max() > 0


def test_frozen_orthogonalises_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = LipschitzNetwork.weights.__globals__["bjorck"]
    monkeypatch.setattr(
        "ocsdf3d.lipschitz.network.bjorck", lambda w, k: (calls.append(w.shape), real(w, k))[1]
    )
    net = network(constraint="bjorck")
    with net.frozen():
        for _ in range(5):
            net(torch.zeros(2, 3))
    assert len(calls) == 2  # the entry and the stack of square layers


@pytest.mark.parametrize("asked", [True, False])
def test_frozen_restores_what_it_found(asked: bool) -> None:
    net = network()
    net.requires_grad_(asked)
    net.head.requires_grad_(False)  # a mixture, too
    with net.frozen():
        with net.frozen():
            assert not any(p.requires_grad for p in net.parameters())
        assert not any(p.requires_grad for p in net.parameters())
    flags = {name: p.requires_grad for name, p in net.named_parameters()}
    assert flags == {n: asked and n != "head" for n in flags}


def test_frozen_restores_after_an_error_and_sees_new_weights() -> None:
    net = network(constraint="bjorck")
    with pytest.raises(RuntimeError, match="inside"), net.frozen():
        raise RuntimeError("inside")
    assert all(p.requires_grad for p in net.parameters())
    x = torch.randn((5, 3), generator=torch.Generator().manual_seed(0))
    before = net(x).detach()
    with torch.no_grad():
        net.square.mul_(0.5).add_(0.1)
    assert not torch.equal(net(x).detach(), before)  # nothing held on


@pytest.mark.parametrize(("activation", "constraint"), KINDS)
def test_bake_gives_the_same_values(activation: str, constraint: str) -> None:
    net = trained(network(activation=activation, constraint=constraint), "rmsprop", 0.03, steps=10)
    baked = net.bake()
    x = torch.randn((50, 3), generator=torch.Generator().manual_seed(0))
    assert torch.equal(net(x).detach(), baked(x))
    assert baked.config.constraint == "stiefel"
    assert baked.config.activation == activation
    assert not any(p.requires_grad for p in baked.parameters())
    with torch.no_grad():
        baked.entry.zero_()
        baked.biases.zero_()
    assert not torch.equal(net(x).detach(), baked(x))  # a copy, not a view


@pytest.mark.parametrize("constraint", ["stiefel", "bjorck"])
def test_retract_brings_weights_back(constraint: str) -> None:
    net = network(constraint=constraint)
    kept = net.square.detach().clone()
    with torch.no_grad():
        net.square.mul_(3.0)
        net.head.mul_(5.0)
    net.retract()
    # Only the size was wrong: one step leaves p(√2) = 0.71 of a square layer, four leave it within 1e-2 of 1.
    assert (net.square - kept).abs().max() < (0.3 if constraint == "stiefel" else 0.01)
    assert float(torch.linalg.matrix_norm(net.square.detach().double(), ord=2).max()) <= 1.0 + 1e-6
    assert float(net.head.detach().norm()) == pytest.approx(1.0, abs=1e-6)


# ------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("name", ["inputs", "width", "depth"])
@pytest.mark.parametrize("value", [0, -1, 2.5, "3", None])
def test_sizes_are_positive_integers(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be a positive integer; got {value!r}"):
        NetworkConfig(**{"inputs": 3, name: value})  # type: ignore[arg-type]


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(
        ValueError, match="`activation` must be one of half_abs, max_min, full_sort; got 'relu'"
    ):
        NetworkConfig(inputs=3, activation="relu")
    with pytest.raises(ValueError, match="`constraint` must be stiefel or bjorck; got 'none'"):
        NetworkConfig(inputs=3, constraint="none")
