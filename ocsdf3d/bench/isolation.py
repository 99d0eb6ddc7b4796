"""A call in a process of its own, under a time limit, and what it holds: a crash there is an answer here.

Compiled libraries end their process when they fail, and some never come back; neither may take a table of
hours along.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple


class Outcome(NamedTuple):
    """What a call gave: its value, or None and the reason; wall time with the start of its process [s]."""

    value: Any
    error: str | None
    seconds: float


def call_apart(function: Callable[..., Any], *arguments: object, limit: float) -> Outcome:
    """Call a function of a module in a new process and wait for it.

    Parameters
    ----------
    function
        Found again by its name in the new process, so no lambda and no inner function.
    *arguments
        Copied there; the value is copied back.
    limit
        Seconds after which it is ended, with every process that it started; imports count.

    Raises
    ------
    ImportError
        The call raised one: what it needs does not load here, which is no failure of what it computes.

    Notes
    -----
    Its stdout is turned to stderr, since stdout belongs to the tables.
    """
    context = multiprocessing.get_context("spawn")  # forking a process that holds torch's threads may hang
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, function, arguments))
    start = time.perf_counter()
    process.start()
    sender.close()
    try:
        if not receiver.poll(limit):
            return Outcome(None, f"no answer in {limit:.0f} s", limit)
        value, error, missing = receiver.recv()
    except EOFError:  # the other end closed without a word
        process.join()
        died = f"its process died (exit code {process.exitcode})"
        return Outcome(None, died, time.perf_counter() - start)
    finally:
        _end(process)
    if missing:
        raise ImportError(error)
    return Outcome(value, error, time.perf_counter() - start)


def begun_peak() -> float:
    """Memory held now [MB]; from here on `peak` counts anew, where the system can do that (Linux, mostly).

    Where it cannot, `peak` goes on counting what was held before: what is read off is then too large, never
    too small. A process of its own (`call_apart`) keeps that excess to what its imports took.
    """
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return _status("VmRSS")


def peak() -> float:
    """Largest resident set so far [MB].

    Linux keeps `ru_maxrss` over fork and exec, so that a child begins at its parent's peak; `VmHWM` is the
    same figure of this program alone.
    """
    return _status("VmHWM")


def _status(name: str) -> float:
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024
    except (OSError, StopIteration):
        import resource

        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _work(sender: Connection, function: Callable[..., Any], arguments: tuple[object, ...]) -> None:
    if hasattr(os, "setsid"):
        os.setsid()  # one group with the programs it starts, so that they can be ended together
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()
    os.dup2(2, 1)
    try:
        sender.send((function(*arguments), None, False))
    except ImportError as error:
        sender.send((None, str(error), True))
    except Exception as error:  # whatever foreign code raises is its answer, and is shown in the table
        sender.send((None, f"{type(error).__name__}: {error}", False))


def _follow(parent: int) -> None:
    """End this process when the one that waits for it was killed."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _end(process: BaseProcess) -> None:
    if hasattr(os, "killpg") and process.pid is not None:
        with suppress(ProcessLookupError, PermissionError):  # it has gone, or has not yet made its group
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()
