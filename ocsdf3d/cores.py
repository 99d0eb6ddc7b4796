"""How many cores work may take: what limits torch limits the searches in trees beside it.

`cKDTree.query(workers=-1)` takes every core of the machine, whatever OMP_NUM_THREADS says, and whichever
other processes a batch runs on them. What it finds does not depend on their number.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["reserved", "threads", "tree_workers"]

_reserved: list[int] = []


def threads() -> int:
    """Cores that this process may use, or `OMP_NUM_THREADS` when it asks for fewer."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(asked)) if asked.isdigit() and int(asked) > 0 else cores


def tree_workers() -> int:
    """Threads of a search in a tree: those of torch, or `threads()` where it is not loaded."""
    if _reserved:
        return _reserved[-1]
    torch = sys.modules.get("torch")
    return threads() if torch is None else int(torch.get_num_threads())


@contextmanager
def reserved(count: int) -> Iterator[None]:
    """Give searches so many threads while torch is held to fewer, since it runs on several side by side."""
    _reserved.append(count)
    try:
        yield
    finally:
        _reserved.pop()
