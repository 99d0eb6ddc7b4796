"""Recorded or not, a run is the same; on a CPU nothing is recorded."""

from __future__ import annotations

import pytest
import torch

from ocsdf3d.complement import WalkConfig
from ocsdf3d.lipschitz.network import LipschitzNetwork, NetworkConfig
from ocsdf3d.replay import Replay
from ocsdf3d.sources import Surface
from ocsdf3d.train import TrainConfig, learn

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]


@pytest.mark.parametrize("name", DEVICES)
def test_what_changes_is_read_and_drawn_anew_each_time(name: str) -> None:
    device = torch.device(name)
    generator = torch.Generator(device).manual_seed(0)
    replay = Replay(device, generator, generator)
    total, step = torch.zeros(3, device=device), torch.zeros((), device=device)

    def work() -> torch.Tensor:
        step.add_(1.0)
        drawn = torch.rand(3, generator=generator, device=device)
        total.add_(step * drawn)
        return drawn

    drawn = [replay.run("work", work).clone() for _ in range(5)]
    again = torch.Generator(device).manual_seed(0)
    expected = [torch.rand(3, generator=again, device=device) for _ in range(5)]
    assert torch.equal(torch.stack(drawn), torch.stack(expected))
    assert float(step) == 5.0
    assert torch.allclose(total, sum(i * x for i, x in enumerate(expected, start=1)))  # type: ignore[arg-type]
    replay.forget()
    assert torch.equal(replay.run("work", work), torch.rand(3, generator=again, device=device))


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("half", [0.0, 0.5])
@pytest.mark.parametrize(("optimizer", "constraint"), [("spectral", "stiefel"), ("rmsprop", "bjorck")])
def test_a_training_is_what_its_steps_one_by_one_are(
    name: str, half: float, optimizer: str, constraint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the same steps called from Python, with kernels that sum in another order allowed for."""
    device = torch.device(name)
    config = TrainConfig(
        steps=24,
        batch=64,
        margin=0.1,
        margin_start=0.1,
        optimizer=optimizer,
        rate=1e-3 if optimizer == "rmsprop" else 0.03,
        walk=WalkConfig(steps=2),
        warm=6,
        updates=2,
        half=half,
        report=8,
    )

    def trained() -> tuple[torch.Tensor, list[float]]:
        generator = torch.Generator(device).manual_seed(0)
        data = torch.rand((200, 2), generator=generator, device=device)
        box = torch.ones(2, device=device)

        def seeds(count: int) -> torch.Tensor:
            return 4.0 * torch.rand((count, 2), generator=generator, device=device) - 2.0

        shape = NetworkConfig(inputs=2, width=16, depth=3, constraint=constraint)
        network = LipschitzNetwork(shape, torch.Generator().manual_seed(0)).to(device)
        source = Surface(data, seeds, generator)
        history = learn(network, source, config, -2.0 * box, 2.0 * box, generator)
        with torch.no_grad():
            return network(data).cpu(), history.curves["loss"]

    values, losses = trained()
    monkeypatch.setattr(Replay, "run", lambda self, key, function: function())
    plain, plain_losses = trained()
    assert torch.allclose(values, plain, atol=1e-5 if name == "cpu" else 1e-3)
    assert losses == pytest.approx(plain_losses, rel=1e-2)
    assert len(set(losses)) == 3
