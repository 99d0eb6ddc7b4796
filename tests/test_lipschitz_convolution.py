"""Convolutional networks: what moves pixels enlarges nothing, and the proofs hold."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from ocsdf3d.lipschitz import certificate
from ocsdf3d.lipschitz.bound import certify, lipschitz_bound
from ocsdf3d.lipschitz.certificate import CertificateError, issue, rounding_bound, verify
from ocsdf3d.lipschitz.convolution import (
    ConvolutionalNetwork,
    ConvolutionConfig,
    convolved,
    patches,
    shifted,
    unshuffled,
)
from ocsdf3d.lipschitz.stiefel import SpectralSteps
from ocsdf3d.query import value_and_gradient

STAGES = ((2, 8, 2), (2, 12, 2))
SHAPES: dict[str, dict[str, Any]] = {
    "default": {},
    "circular": {"padding": "circular"},
    "paper": {"mixing": "patches", "pooling": "l2", "head": "l2", "activation": "max_min"},
    "code": {"mixing": "patches", "pooling": "average", "head": "average", "activation": "full_sort"},
    "pooled": {"pooling": "l2", "head": "average"},
}


def network(name: str = "default", **others: Any) -> ConvolutionalNetwork:
    """On images of 7 × 6 × 2, which no stride divides."""
    config = ConvolutionConfig(7, 6, 2, **{"stages": STAGES, "bias": 0.1, **SHAPES[name], **others})
    return ConvolutionalNetwork(config, torch.Generator().manual_seed(0))


def images(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn((n, 84), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_unshuffling_keeps_every_value_once() -> None:
    x = torch.arange(1.0, 85.0).view(1, 7, 6, 2)
    y = unshuffled(x, 4)
    assert y.shape == (1, 2, 2, 32)
    assert y[y > 0].sort().values.tolist() == x.flatten().tolist()
    assert y[0, 0, 0, :8].tolist() == x[0, 0, :4].flatten().tolist()  # the first row of the first block


@pytest.mark.parametrize("move", [(0, 1), (0, -1), (1, 0), (-1, 0), (1, -1)])
def test_shifts_move_pixels_and_drop_those_that_leave(move: tuple[int, int]) -> None:
    x = torch.arange(1.0, 85.0).view(1, 7, 6, 2)
    rolled, padded = shifted(x, move, "circular"), shifted(x, move, "zeros")
    assert rolled.norm() == x.norm()
    assert padded.norm() < x.norm()
    down, right = move
    inside = torch.zeros((7, 6), dtype=torch.bool)
    inside[max(down, 0) : 7 + min(down, 0), max(right, 0) : 6 + min(right, 0)] = True
    torch.testing.assert_close(padded, rolled * inside[None, :, :, None], rtol=0.0, atol=0.0)


def test_patches_are_a_convolution_of_norm_at_most_one() -> None:
    x = torch.randn((2, 5, 6, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kernel = torch.randn((4, 3, 3, 3), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), kernel, padding=1).permute(0, 2, 3, 1) / 3.0
    found = patches(x, "zeros") @ kernel.flip(2, 3).permute(0, 2, 3, 1).reshape(4, 27).mT
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)  # 1/3 is rounded in float32
    for padding in ("zeros", "circular"):
        assert patches(x, padding).norm() <= x.norm()
    constant = torch.ones((1, 5, 6, 3), dtype=torch.float64)
    assert patches(constant, "circular").norm() > (1.0 - 1e-6) * constant.norm()  # the constant is attained


@pytest.mark.parametrize("name", SHAPES)
def test_no_pair_is_further_apart_after_it(name: str) -> None:
    net = certify(network(name))[0].double()
    assert lipschitz_bound(net) <= 1.0 + 1e-12
    x = images(200)
    _, gradient = value_and_gradient(net, x)
    steep = x + 1e-3 * gradient / gradient.norm(dim=1, keepdim=True)
    for y in (images(200, seed=1), steep):
        assert (net(x) - net(y)).abs().sub((x - y).norm(dim=1)).max() <= 1e-12


@pytest.mark.parametrize("name", SHAPES)
def test_the_gradient_is_the_one_of_differences(name: str) -> None:
    net = network(name).double()
    x, way = images(20), images(20, seed=2)
    _, gradient = value_and_gradient(net, x)
    slope = (net(x + 1e-6 * way) - net(x - 1e-6 * way)) / 2e-6
    torch.testing.assert_close((gradient * way).sum(1), slope.detach(), rtol=1e-4, atol=1e-4)


def test_shifts_keep_the_gradient_and_patches_lose_it() -> None:
    norms = {}
    for name in ("circular", "paper"):
        config = ConvolutionConfig(7, 6, 2, stages=((1, 2, 3),), bias=0.1, **SHAPES[name])
        net = ConvolutionalNetwork(config, torch.Generator().manual_seed(0)).double()
        norms[name] = float(value_and_gradient(net, images(50))[1].norm(dim=1).mean())
    assert norms["circular"] > 1.0 - 1e-6  # turning only, and a head of norm 1
    assert norms["paper"] < 0.6


@pytest.mark.parametrize("name", SHAPES)
def test_it_stays_so_under_violent_steps(name: str) -> None:
    net = network(name)
    steps = SpectralSteps(net, rate=0.5, adam_rate=0.5)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    for seed in range(5):
        net(images(16, seed).float()).square().sum().backward()
        steps.step()
        net.zero_grad()
    assert all(
        not torch.equal(value, before[key]) for key, value in net.state_dict().items() if value.numel()
    )
    for layer in net.layers():  # before it is certified: the retraction alone
        assert torch.linalg.svdvals(layer.weight.detach().double())[0] < 1.0 + 1e-6
    assert certify(net)[1] <= 1.0


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("radius", [0.01, 2.0])
def test_rounding_bound_holds(name: str, radius: float) -> None:
    net = certify(network(name))[0]
    x = images(200)
    x = radius * x / x.norm(dim=1, keepdim=True)
    exact = copy.deepcopy(net).double()(x)
    error, magnitude = rounding_bound(net, radius)
    worst = float((net(x.float()).double() - exact).abs().max())
    assert 0.0 < worst <= error
    assert worst > 1e-5 * error
    assert exact.abs().max() <= magnitude


def test_certificates_speak_of_one_network_only() -> None:
    net = certify(network("paper"))[0]
    certificate = issue(net, 3.0)
    verify(net, certificate)
    with torch.no_grad():
        net.entries[1][0, 0] += 1e-3
    with pytest.raises(CertificateError, match="not those of the certificate"):
        verify(net, certificate)
    with torch.no_grad():
        net.entries[1].mul_(1.5)
    with pytest.raises(CertificateError, match="above 1"):  # the negative control
        issue(net, 3.0)


def test_weights_that_are_not_finite_are_not_certified() -> None:
    net = network()
    with torch.no_grad():
        net.biases[0][0, 0] = float("nan")
    with pytest.raises(ArithmeticError, match="non-finite biases"):
        certify(net)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"height": 0}, "`height` must be a positive integer; got 0"),
        ({"stages": ()}, "`stages` must be"),
        ({"stages": ((1, 0, 1),)}, "`stages` must be"),
        ({"mixing": "fft"}, "`mixing` must be one of shift, patches; got 'fft'"),
        ({"padding": "same"}, "`padding` must be"),
        ({"pooling": "max"}, "`pooling` must be"),
        ({"head": "cls"}, "`head` must be"),
        ({"activation": "relu"}, "`activation` must be"),
    ],
)
def test_what_is_no_shape_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ConvolutionConfig(**{"height": 4, "width": 4, "channels": 1, **changes})


@pytest.mark.parametrize("padding", ["zeros", "circular"])
def test_training_runs_the_very_map_that_is_proved(padding: str) -> None:
    draws = torch.Generator().manual_seed(2)
    x, weight, bias = (
        torch.randn(shape, generator=draws, dtype=torch.float64) for shape in ((3, 7, 6, 2), (5, 18), (5,))
    )
    proved = patches(x, padding) @ weight.mT + bias
    torch.testing.assert_close(convolved(x, weight, bias, padding), proved, rtol=0.0, atol=1e-14)
    net = network("paper", padding=padding).double()
    with torch.no_grad():
        certain = net(images(4))
    recorded = net(images(4))
    assert recorded.requires_grad
    torch.testing.assert_close(recorded.detach(), certain, rtol=0.0, atol=1e-14)


def test_rounding_is_measured_in_parts_and_on_fewer_points_of_a_large_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one piece, 4,096 images through the paper's network took 14 GB."""
    net = certify(network("paper"))[0]
    seen: list[int] = []
    forward = ConvolutionalNetwork.forward

    def watched(self: ConvolutionalNetwork, x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(ConvolutionalNetwork, "forward", watched)
    whole = issue(net, 3.0)
    assert set(seen) == {4096}
    seen.clear()
    monkeypatch.setattr(certificate, "TOGETHER", 2**20)
    apart = issue(net, 3.0)
    assert max(seen) < 2000
    assert sum(seen) == 2 * 4096
    assert apart.rounding == pytest.approx(whole.rounding, rel=0.2)
    seen.clear()
    monkeypatch.setattr(certificate, "PRODUCTS", 1)
    assert issue(net, 3.0).rounding <= apart.rounding
    assert sum(seen) == 2 * 256
