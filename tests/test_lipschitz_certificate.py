"""The rounding bound lies above every error that is found, and a certificate tells what it is not for."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch

from ocsdf3d.lipschitz.bound import certify
from ocsdf3d.lipschitz.certificate import CertificateError, issue, rounding_bound, verify, weights_hash
from ocsdf3d.lipschitz.network import LipschitzNetwork, NetworkConfig

CONFIGS = {
    "default": NetworkConfig(inputs=3, bias=0.1),
    "max_min": NetworkConfig(inputs=3, width=32, depth=4, activation="max_min", bias=0.1),
    "paper": NetworkConfig(
        inputs=3, width=64, depth=4, activation="full_sort", constraint="bjorck", bias=0.1
    ),
    "planar": NetworkConfig(inputs=2, width=16, depth=2, bias=0.1),
    "table": NetworkConfig(inputs=30, width=16, depth=3, bias=0.1),
}


def network_of(name: str) -> LipschitzNetwork:
    return certify(LipschitzNetwork(CONFIGS[name], torch.Generator().manual_seed(0)))[0]


def exactly(network: LipschitzNetwork, x: np.ndarray) -> np.ndarray:
    """f in extended precision, 64 bits of mantissa: 2,048 times finer than float64."""
    wide = {
        name: value.double().numpy().astype(np.longdouble) for name, value in network.state_dict().items()
    }
    h = x.astype(np.longdouble)
    half = network.config.width // 2
    for layer, bias in enumerate(wide["biases"]):
        h = h @ (wide["square"][layer - 1] if layer else wide["entry"]).T + bias
        one, two = h[:, :half], h[:, half:]
        if network.config.activation == "half_abs":
            h = np.concatenate([np.abs(one), two], axis=1)
        elif network.config.activation == "max_min":
            h = np.concatenate([np.maximum(one, two), np.minimum(one, two)], axis=1)
        else:
            h = np.sort(h, axis=1)
    return h @ wide["head"] + wide["offset"]


def ball(inputs: int, radius: float, n: int = 400) -> np.ndarray:
    x = np.random.default_rng(0).normal(size=(n, inputs))
    return radius * x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("radius", [0.01, 2.0, 300.0])
def test_rounding_bound_holds(name: str, dtype: torch.dtype, radius: float) -> None:
    network = network_of(name)
    typed = copy.deepcopy(network).to(dtype)
    error, magnitude = rounding_bound(typed, radius)
    x = ball(network.config.inputs, radius)
    truth = exactly(network, x)
    with torch.no_grad():
        computed = typed(torch.as_tensor(x, dtype=dtype)).double().numpy()
        shuffled = (
            typed(torch.as_tensor(x, dtype=dtype)[:7]).double().numpy()
        )  # another kernel, another order
    worst = float(np.abs(computed - truth).max())
    assert 0.0 < worst <= error
    assert np.abs(shuffled - truth[:7]).max() <= error
    assert worst > 1e-5 * error  # no bound of any size: measured 0.001 to 0.02 of it
    assert np.abs(truth).max() <= magnitude


def test_bounds_grow_with_the_radius_and_the_unit() -> None:
    network = network_of("default")
    near, far = rounding_bound(network, 1.0)[0], rounding_bound(network, 10.0)[0]
    assert near < far <= 10.0 * near
    double = rounding_bound(copy.deepcopy(network).double(), 1.0)[0]
    assert double == pytest.approx(near * 2.0**-29, rel=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_certificate_of_both_types(name: str) -> None:
    network = network_of(name)
    single, double = issue(network, 2.0), issue(copy.deepcopy(network).double(), 2.0)
    assert (single.dtype, double.dtype) == ("float32", "float64")
    assert (single.basis, double.basis) == ("measured", "proved")
    assert single.rounding >= 5e-6
    assert double.rounding == double.proved < 1e-11
    assert single.lipschitz == double.lipschitz <= 1.0  # the same weights
    assert single.hash != double.hash
    x = ball(network.config.inputs, 2.0, 3000)
    with torch.no_grad():
        computed = network(torch.as_tensor(x, dtype=torch.float32)).double().numpy()
    assert np.abs(computed - exactly(network, x)).max() <= single.rounding / 5.0
    assert single.rounding_at(1.0) == single.rounding
    assert single.rounding_at(20.0) == pytest.approx(10.0 * single.rounding)


def test_the_hash_tells_every_weight_the_shape_and_the_type() -> None:
    network = network_of("planar")
    seen = {weights_hash(network), weights_hash(copy.deepcopy(network).double())}
    for name in network.state_dict():
        changed = copy.deepcopy(network)
        value = changed.state_dict()[name]
        last = value[(-1,) * value.ndim]  # a view, the least step away
        last.copy_(torch.nextafter(last, torch.tensor(9.0)) if last else torch.tensor(1e-30))
        seen.add(weights_hash(changed))
    other = copy.deepcopy(network)
    other.config = dataclasses.replace(network.config, activation="max_min")
    seen.add(weights_hash(other))
    assert len(seen) == 3 + len(network.state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n: n.square.mul_(1.01), "the weights have the bound 1"),
        (lambda n: n.biases.fill_(float("nan")), "not certified"),
        (lambda n: n.entry.fill_(float("inf")), "not certified"),
        (lambda n: n.bfloat16(), "no proof covers arithmetic in bfloat16"),
        (lambda n: n.half(), "no proof covers arithmetic in float16"),
    ],
)
def test_what_cannot_be_certified(change: object, message: str) -> None:
    network = network_of("planar")
    with torch.no_grad():
        change(network)  # type: ignore[operator]
    with pytest.raises(CertificateError, match=message):
        issue(network, 1.0)


def test_a_certificate_of_another_version_is_not_believed() -> None:
    network = network_of("planar")
    certificate = issue(network, 1.0)
    verify(network, certificate)
    with pytest.raises(CertificateError, match="the certificate is of version 99"):
        verify(network, dataclasses.replace(certificate, version=99))


def test_either_way_to_ask_torch_for_less_precision_ends_the_proof() -> None:
    network = network_of("planar")
    certificate = issue(network, 1.0)
    verify(network, certificate)
    products = torch.backends.mkldnn.matmul
    for lower in (
        lambda: torch.set_float32_matmul_precision("medium"),
        lambda: setattr(products, "fp32_precision", "bf16"),
    ):
        lower()
        try:
            with pytest.raises(CertificateError, match="torch may round float32 products"):
                verify(network, certificate)
        finally:
            torch.set_float32_matmul_precision("highest")
        verify(network, certificate)  # as the message says


def test_rounding_is_measured_in_float32_under_autocast() -> None:
    network = network_of("default")
    plain = issue(network, 1.0)
    with torch.autocast("cpu"):
        assert issue(network, 1.0) == plain
