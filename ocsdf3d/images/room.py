"""What images need of memory, as a figure before anything is begun, instead of a process that is killed."""

from __future__ import annotations

import torch

from ocsdf3d.lipschitz.convolution import KERNEL, ConvolutionConfig
from ocsdf3d.lipschitz.network import NetworkConfig
from ocsdf3d.memory import require_memory

__all__ = ["learning_room", "refuse_beyond", "values_of"]

# Bytes a number of the images: float64, centred and in float32, some for a moment only. 26 were measured of
# 20,000 images of 28 × 28 learnt, 86 MB of 100.
LEARNT, HELD = 32, 2**27
WEIGHTS = 24  # bytes a weight: itself, gradient, two moments, and what brings it back to norm 1
VALUES = 12  # bytes a value between layers: itself, its gradient, and a copy beside


def values_of(config: NetworkConfig | ConvolutionConfig) -> tuple[int, int]:
    """Return how many weights a network has, and how many values an image has between its layers."""
    if isinstance(config, NetworkConfig):
        weights = config.width * config.inputs + (config.depth - 1) * config.width**2
        return weights, config.inputs + 2 * config.depth * config.width
    reach = KERNEL * KERNEL if config.mixing == "patches" else 1
    height, width, channels = config.height, config.width, config.channels
    weights = values = 0
    for number, (stride, own, depth) in enumerate(config.stages):
        height, width = -(-height // stride), -(-width // stride)
        if config.pooling == "unshuffle" or number == 0:
            channels *= stride * stride
        for _ in range(depth):
            weights += own * channels * reach
            values += height * width * (channels * reach + 2 * own)
            channels = own
    return weights, values


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
    weights, values = values_of(config)
    step = WEIGHTS * weights + VALUES * values * 2 * batch
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
