"""Threads side by side: the same step as alone, and torch as it was before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from ocsdf3d.lipschitz.network import LipschitzNetwork, NetworkConfig
from ocsdf3d.lipschitz.stiefel import SpectralSteps
from ocsdf3d.lipschitz.workers import MOST, Workers

CPU = torch.device("cpu")


@pytest.fixture
def threads() -> Iterator[None]:
    """Let torch use three threads, whatever this machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_torch_uses_one_core_a_thread_inside_and_all_outside(threads: None) -> None:
    with Workers(CPU) as workers:
        assert workers.count == 3
        assert torch.get_num_threads() == 1
        assert workers.map(lambda _: torch.get_num_threads(), range(3)) == [1, 1, 1]
    assert torch.get_num_threads() == 3


def test_there_are_not_too_many_and_one_elsewhere(threads: None) -> None:
    assert Workers(torch.device("meta")).count == 1
    torch.set_num_threads(MOST + 5)
    assert Workers(CPU).count == MOST


def test_items_keep_their_order_and_errors_come_out(threads: None) -> None:
    def failing(k: int) -> int:
        if k == 5:
            raise RuntimeError("five")
        return k * k

    with Workers(CPU) as workers:
        assert workers.map(failing, range(5)) == [0, 1, 4, 9, 16]
        with pytest.raises(RuntimeError, match="five"):
            workers.map(failing, range(7))
    assert torch.get_num_threads() == 3


def test_layers_turn_side_by_side_as_they_do_alone(threads: None) -> None:
    networks = []
    for together in (False, True):
        network = LipschitzNetwork(NetworkConfig(3, width=16, depth=6), torch.Generator().manual_seed(0))
        optimizer = SpectralSteps(network, rate=0.05)
        generator = torch.Generator().manual_seed(1)
        with Workers(CPU) as workers:
            for _ in range(5):
                for p in network.parameters():
                    p.grad = torch.randn(p.shape, generator=generator)
                optimizer.step(workers=workers if together else None)
        networks.append(network)
    for a, b in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
