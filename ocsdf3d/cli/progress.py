"""Progress on stderr: a bar on a terminal, plain lines with -v elsewhere, nothing with -q."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .console import note

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

LINE_INTERVAL = 5.0  # seconds between plain lines: a log of a minute stays on one page
_SHOWN = {  # figure → what the bar calls it and how it writes it; others would not fit in 80 columns
    "loss": ("loss", "{:.3g}"),
    "recall": ("recall", "{:.1%}"),
    "false_positives": ("false+", "{:.1%}"),
    "gradient_norm": ("|∇f|", "{:.2f}"),
}


def figures_text(figures: Mapping[str, float]) -> str:
    """Figures of a step in a row: loss, recall on P, false positives on Q_t, mean ‖∇f‖."""
    shown = ((*_SHOWN[name], value) for name, value in figures.items() if name in _SHOWN)
    return "  ".join(f"{label} {form.format(float(value))}" for label, form, value in shown)


class Progress:
    """Progress callback of the pipeline, `progress(stage, done, total, figures)`, for a `with` block.

    Parameters
    ----------
    quiet : bool
        Show nothing.
    verbose : bool
        Where stderr is no terminal, write a plain line every few seconds; without it nothing is shown there.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._draws = terminal and not quiet
        self._writes = verbose and not terminal and not quiet
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._stage = ""
        self._begun = (0.0, 0)  # when the stage was first heard of, and how far it was then
        self._written = 0.0
        self._last = ""

    def __enter__(self) -> Progress:
        if self._draws:
            self._bar = _bar()
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __call__(self, stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:
        now = time.monotonic()
        begins = stage != self._stage
        if begins:
            self._stage, self._begun, self._written = stage, (now, done), -math.inf
        if self._bar is not None:
            self._draw(self._bar, begins, done, total, figures_text(figures))
        elif self._writes and (now - self._written >= LINE_INTERVAL or done >= total > 0):
            line = self._line(done, total, now, figures_text(figures))
            if line != self._last:  # a stage may report its end twice
                note(line, quiet=False)
            self._written, self._last = now, line

    def _draw(self, bar: Bar, begins: bool, done: int, total: int, text: str) -> None:
        size = float(total) if total > 0 else None  # None: a bar that only says "busy"
        if begins or self._task is None:
            if self._task is not None:
                bar.remove_task(self._task)
            self._task = bar.add_task(self._stage, total=size, figures=text)
        bar.update(self._task, completed=float(done), total=size, figures=text)

    def _line(self, done: int, total: int, now: float, text: str) -> str:
        parts = [f"{self._stage} {done}/{total}" if total > 0 else self._stage]
        if text:
            parts.append(text)
        begun, first = self._begun
        if first < done < total:
            parts.append(f"{(now - begun) * (total - done) / (done - first):.0f} s left")
        return ", ".join(parts)


def _bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns: tuple[Any, ...] = (
        TextColumn("{task.description:<5}"),
        BarColumn(bar_width=12),  # with the figures and the time left a row still fits in 80 columns
        TaskProgressColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(compact=True),
    )
    return RichProgress(*columns, console=Console(stderr=True), transient=True)
