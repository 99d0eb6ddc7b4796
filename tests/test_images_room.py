"""What learning takes of memory: counted from the networks themselves, and refused before it begins."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")

from ocsdf3d.images import OneClassImageSDF, room
from ocsdf3d.images.estimator import PRESETS, config_of, network_of
from ocsdf3d.images.room import learning_room, refuse_beyond, values_of
from ocsdf3d.memory import MemoryShortError


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("shape", [(12, 12, 1), (9, 10, 3)])
def test_weights_and_values_are_those_of_the_network(preset: str, shape: tuple[int, int, int]) -> None:
    values = values_of(config_of(preset, shape))
    network = network_of(preset, shape, torch.Generator().manual_seed(0))
    layers = network.layers()
    assert network.config.weights == sum(layer.weight.numel() for layer in layers)
    layers.pop()
    between = sum(layer.places * (layer.weight.shape[1] + 2 * layer.weight.shape[0]) for layer in layers)
    assert 0.6 * between <= values <= between  # a dense layer's input is the output of the last


def test_it_grows_with_images_and_with_the_batch() -> None:
    config = config_of("cpu", (28, 28, 1))
    host, device = learning_room(10_000, config, 256)
    assert learning_room(20_000, config, 256)[0] - host == room.LEARNT * 10_000 * 784
    assert learning_room(10_000, config, 512)[1] > device


def test_what_does_not_fit_is_refused_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.broadcast_to(np.uint8(0), (50_000, 1000, 1000, 3))  # no memory behind it
    with pytest.raises(
        MemoryShortError, match=r"from 50,000 images of 3,000,000 numbers needs about \S+ GB, \S+ GB are free"
    ):
        OneClassImageSDF().fit(X)
    small = np.zeros((4, 6, 6), np.uint8)
    host, learner = learning_room(4, config_of("cpu", (6, 6, 1)), PRESETS["cpu"].batch)
    monkeypatch.setattr("ocsdf3d.memory.free_memory", lambda: host + learner - room.HELD - 1)
    with pytest.raises(MemoryShortError, match=r"0.142 GB are free\. Scale them down, or give fewer"):
        OneClassImageSDF(steps=1, device="cpu").fit(small)
    monkeypatch.setattr("ocsdf3d.memory.free_memory", lambda: host + learner - room.HELD)
    assert OneClassImageSDF(steps=1, device="cpu").fit(small).n_iter_ == 1


def test_on_a_gpu_its_own_memory_counts_for_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    config, gpu = config_of("cpu", (6, 6, 1)), torch.device("cuda")
    host, learner = learning_room(4, config, 256)
    monkeypatch.setattr("ocsdf3d.memory.free_memory", lambda: host)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (learner, 10 * learner))
    refuse_beyond(4, config, 256, gpu)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (learner - 1, 10 * learner))
    with pytest.raises(MemoryShortError, match=r"numbers on the GPU needs about \S+ GB"):
        refuse_beyond(4, config, 256, gpu)
    monkeypatch.setattr("ocsdf3d.memory.free_memory", lambda: host - 1)
    with pytest.raises(MemoryShortError, match=r"numbers needs about \S+ GB"):
        refuse_beyond(4, config, 256, gpu)
