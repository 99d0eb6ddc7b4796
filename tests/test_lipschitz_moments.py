"""The same steps as torch's own optimisers, with their state in tensors."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from ocsdf3d.lipschitz.moments import Adam, RMSprop


def parameters() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((4, 3), (5,), ())
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("kind", ["adam", "rmsprop"])
def test_they_step_as_torchs_own_do(kind: str) -> None:
    ours, theirs = parameters(), parameters()
    steps: Adam | RMSprop
    peer: torch.optim.Optimizer
    if kind == "adam":
        steps, peer = Adam(ours, 0.01), torch.optim.Adam(theirs, lr=0.01, betas=(0.9, 0.99))
    else:
        steps, peer = RMSprop(ours, 0.01), torch.optim.RMSprop(theirs, lr=0.01, alpha=0.9, eps=1e-7)
    generator = torch.Generator().manual_seed(1)
    for number in range(30):
        scale = 1.0 - number / 30
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=generator) * 10.0 ** (number % 5 - 2)
            other.grad = one.grad.clone()
        steps.step(torch.tensor(scale) if number % 2 else scale)
        peer.param_groups[0]["lr"] = 0.01 * scale
        peer.step()
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(ours[0], parameters()[0], atol=1e-2)  # they did move


@pytest.mark.parametrize("kind", [Adam, RMSprop])
def test_numbers_are_paired_as_they_are_indexed(kind: type[Adam] | type[RMSprop]) -> None:
    """Not as they lie in memory, as torch's fused Adam does with a layer that a QR stored by columns."""
    columns = torch.zeros((2, 16)).mT
    assert columns.stride() != torch.zeros((16, 2)).stride()
    columns.grad = torch.randn((16, 2), generator=torch.Generator().manual_seed(0))
    kind([columns], 0.1).step()
    assert torch.equal(columns.sign(), -columns.grad.sign())


@pytest.mark.parametrize("kind", [Adam, RMSprop])
def test_a_parameter_without_a_gradient_stays(kind: type[Adam] | type[RMSprop]) -> None:
    both = parameters()[:2]
    both[0].grad = torch.ones_like(both[0])
    before = [parameter.detach().clone() for parameter in both]
    kind(both, 0.1).step()
    assert not torch.equal(both[0], before[0])
    assert torch.equal(both[1], before[1])


def test_no_compiler_is_imported() -> None:
    """Which took 1.9 s of every training."""
    code = (
        "import sys, torch, ocsdf3d.train\n"
        "from ocsdf3d.lipschitz.network import LipschitzNetwork, NetworkConfig\n"
        "from ocsdf3d.lipschitz.stiefel import SpectralSteps\n"
        "SpectralSteps(LipschitzNetwork(NetworkConfig(inputs=3), torch.Generator()))\n"
        "print('torch._dynamo' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
