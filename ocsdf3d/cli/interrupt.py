"""Ctrl-C: during training the first ends the training and keeps its result, the second stops at once.

SIGTERM, which a cluster sends some seconds before it kills, ends a training that is kept on disk likewise.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType


class Interrupt:
    """SIGINT handler with three phases, for the span of a `with` block.

    Before and after training a SIGINT raises KeyboardInterrupt. While `training`, the first only sets
    `requested`, which the training loop reads through `stop` once a chunk; a second raises. While `writing`
    it is left unheard, so that files are complete or absent. The handler prints nothing: it may run in the
    middle of another print. Outside the main thread Python allows no handler; the block then changes nothing.

    A process started with SIGINT ignored (a shell's background job) keeps that outside training; during
    training a SIGINT still ends it early, since no work is lost by it.

    Parameters
    ----------
    terminate : bool
        Hear SIGTERM as well: while `training` it sets `requested` and `terminated`; while `writing` it is
        left unheard; at any other time it ends the process as ever.
    """

    def __init__(self, *, terminate: bool = False) -> None:
        self.requested = False
        self.terminated = False
        self.training = False
        self.writing = False
        self._terminate = terminate
        self._previous: object = None
        self._before_term: object = None
        self._installed = False

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._handle)
            if self._terminate:
                self._before_term = signal.signal(signal.SIGTERM, self._handle_term)
            self._installed = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._installed:
            # None: the handler before ours was not installed from Python and cannot be put back
            signal.signal(signal.SIGINT, signal.SIG_DFL if self._previous is None else self._previous)  # type: ignore[arg-type]
            if self._terminate:
                before = signal.SIG_DFL if self._before_term is None else self._before_term
                signal.signal(signal.SIGTERM, before)  # type: ignore[arg-type]
            self._installed = False

    def stop(self) -> bool:
        """Whether training should end now; asked by the training loop once a chunk."""
        self.training = True
        return self.requested

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.writing:
            return
        if self.training and not self.requested:
            self.requested = True
            return
        if self._previous is signal.SIG_IGN and not self.requested:
            return
        raise KeyboardInterrupt

    def _handle_term(self, number: int, frame: FrameType | None) -> None:
        if self.writing:
            return
        if self.training:
            self.requested = self.terminated = True
            return
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
