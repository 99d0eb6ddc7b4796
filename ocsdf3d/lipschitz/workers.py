"""Threads that each run torch on one core: for layers as narrow as ours the better way to use two.

Torch splits one operation over the cores, and a product of 2,304 × 128 × 128 is too small for that: on two
cores forward and backward through 8 × 128 take 18.8 ms, 24.3 on one. Split by rows into two passes, one a
core, they take 14.8, and a whole step 20.4 instead of 25.6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TypeVar

import torch

from ocsdf3d.cores import reserved

__all__ = ["Workers"]

In = TypeVar("In")
Out = TypeVar("Out")

MOST = 8


class Workers:
    """As many threads as torch would use on a CPU, at most 8; one, the caller's own, on another device.

    A context: inside, torch uses one core a thread, outside what it used before; searches in trees use that
    inside as well.

    Parameters
    ----------
    device : torch.device
        Where the work is done.
    count : int, optional
        Threads, where a sum over other shares would not do.

    Attributes
    ----------
    count : int
        Threads.
    """

    def __init__(self, device: torch.device, count: int | None = None) -> None:
        self.before = torch.get_num_threads()
        self.count = min(self.before, MOST) if device.type == "cpu" else 1
        if count is not None and device.type == "cpu":
            self.count = count
        self.pool: ThreadPoolExecutor | None = None
        self._inside = ExitStack()

    def __enter__(self) -> Workers:
        torch.set_num_threads(1)
        self._inside.callback(torch.set_num_threads, self.before)
        self._inside.enter_context(reserved(self.before))
        if self.count > 1:
            self.pool = self._inside.enter_context(ThreadPoolExecutor(self.count))
        return self

    def __exit__(self, *_: object) -> None:
        self.pool = None
        self._inside.close()

    def map(self, function: Callable[[In], Out], items: Iterable[In]) -> list[Out]:
        """Return the function of each item, in order; what it raises is raised."""
        return list(map(function, items) if self.pool is None else self.pool.map(function, items))
