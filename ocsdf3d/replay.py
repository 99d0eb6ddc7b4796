"""What is done over and over on a GPU, recorded once and replayed: no launches from Python in between.

A step through an 8 × 128 network is some hundreds of small kernels, and Python starts them more slowly than a
GPU ends them. A CUDA graph holds them all; starting it is one call. What is recorded is the very function
that runs on a CPU: it reads and writes the same tensors each time, takes what changes from step to step from
tensors, and draws from generators that the recording knows.

On an NVIDIA H200, spot of 2,048 samples: a step of the preset default takes 0.695 ms, 0.679 of them in
kernels, of `best` 1.576 and 1.545; 400 steps of a shell, walks included, 0.5 s instead of 4.4.

References
----------
Nguyen, Carilli, et al., Accelerating PyTorch with CUDA Graphs, 2021.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch

__all__ = ["Replay"]

T = TypeVar("T")


class Replay:
    """Runs functions of no arguments; on a CUDA device, from the second time on, from a recording.

    Parameters
    ----------
    device : torch.device
        Where the functions work. On a CPU they are called, and nothing else is done.
    *generators : torch.Generator
        All that they draw from, on that device; the same one may be given more than once.
    record : bool
        Otherwise functions are called on a CUDA device too: what speaks to other processes is not recorded.

    Notes
    -----
    A function must not ask the device for a number, nor depend on sizes that change without `forget`. What it
    returns is overwritten by the next run under any key: read it before.
    """

    def __init__(self, device: torch.device, *generators: torch.Generator, record: bool = True) -> None:
        self.device, self.record = device, record and device.type == "cuda"
        self.generators = list({id(generator): generator for generator in generators}.values())
        self.known: set[Hashable] = set()
        self.recorded: dict[Hashable, tuple[torch.cuda.CUDAGraph, Any]] = {}
        if self.record:
            self.stream = torch.cuda.Stream(device)

    def run(self, key: Hashable, function: Callable[[], T]) -> T:
        """Return what the function returns; under one key it must always do the same."""
        if not self.record:
            return function()
        if key not in self.known:
            # Once as it is: what is made at first use, of libraries too, must not be part of a recording.
            self.known.add(key)
            self.stream.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(self.stream):
                result = function()
            torch.cuda.current_stream(self.device).wait_stream(self.stream)
            return result
        if key not in self.recorded:
            self.recorded[key] = self._recording(function)
        graph, recorded = self.recorded[key]
        graph.replay()
        found: T = recorded  # made by this key's function
        return found

    def forget(self) -> None:
        """Record anew: sizes, or tensors that were replaced, have changed."""
        self.recorded.clear()

    def _recording(self, function: Callable[[], T]) -> tuple[torch.cuda.CUDAGraph, T]:
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        torch.cuda.synchronize(self.device)
        with torch.cuda.stream(self.stream):
            # `torch.cuda.graph` would collect garbage and empty the cache first: a tenth of a second each
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                result = function()
            finally:
                graph.capture_end()
        return graph, result
