"""What images need of memory, as a figure before anything is begun, instead of a process that is killed."""

from __future__ import annotations

import torch

from ocsdf3d.lipschitz.convolution import ConvolutionConfig
from ocsdf3d.lipschitz.network import NetworkConfig
from ocsdf3d.memory import require_memory

__all__ = ["learning_room", "refuse_beyond", "values_of"]

# Bytes a number of the images: float64, centred and in float32, some for a moment only. 26 were measured of
# 20,000 images of 28 × 28 learnt, 86 MB of 100.
LEARNT, HELD = 32, 2**27
WEIGHTS = 24  # bytes a weight: itself, gradient, two moments, and what brings it back to norm 1
VALUES = 12  # bytes a value between layers: itself, its gradient, and a copy beside


def values_of(config: NetworkConfig | ConvolutionConfig) -> int:
    """Return how many values an image has between the layers of a network."""
    if isinstance(config, NetworkConfig):
        return config.inputs + 2 * config.depth * config.width
    return sum(
        places * (entry[1] + (depth - 1) * square[1] + 2 * depth * entry[0])
        for places, entry, square, depth in config.built
    )


def learning_room(count: int, config: NetworkConfig | ConvolutionConfig, batch: int) -> tuple[int, int]:
    """Return what learning takes of the machine and of the device that learns [bytes], estimates.

    Parameters
    ----------
    count : int
        Images.
    config : NetworkConfig or ConvolutionConfig
        Of the network; its inputs are the numbers in an image.
    batch : int
        Images of either kind in a step.
    """
    numbers = count * config.inputs
    step = WEIGHTS * config.weights + VALUES * values_of(config) * 2 * batch
    return HELD + LEARNT * numbers, HELD + 8 * numbers + step


def refuse_beyond(
    count: int, config: NetworkConfig | ConvolutionConfig, batch: int, device: torch.device
) -> None:
    """Refuse images that are too many or too large for the machine or for the device that learns.

    Parameters
    ----------
    count, config, batch
        As of `learning_room`.
    device : torch.device
        A CPU takes from the machine.

    Raises
    ------
    MemoryShortError
        With what is needed and what is free.
    """
    host, learner = learning_room(count, config, batch)
    what = f"`X`: learning from {count:,} images of {config.inputs:,} numbers"
    instead = "Scale them down, or give fewer."
    if device.type == "cuda":
        require_memory(host, what, instead)
        free = torch.cuda.mem_get_info(device)[0]
        require_memory(learner, f"{what} on the GPU", instead, free=free)
    else:
        require_memory(host + learner - HELD, what, instead)
