"""What the command line says: results on stdout (text or one JSON object), the rest in lines on stderr."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any


def emit(figures: Mapping[str, Any], lines: Sequence[str], *, as_json: bool) -> None:
    """Print the result of a verb on stdout: `figures` as one JSON object, or `lines` for people."""
    text = json.dumps(plain(figures), indent=2, allow_nan=False) if as_json else "\n".join(lines)
    print(printable(text))


def printable(text: str) -> str:
    """`text` as stdout can show it: Greek letters or the bytes of a file name must not make a result fail."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def note(text: str, *, quiet: bool) -> None:
    """Say one line on stderr unless `quiet`."""
    if not quiet:
        _say(text)


def warn(text: str) -> None:
    """Say a warning on stderr, one line."""
    _say(f"warning: {text}")


def fail(text: str) -> None:
    """Say an error on stderr, one line."""
    _say(f"error: {text}")


def _say(text: str) -> None:
    print(f"ocsdf3d: {' '.join(text.split())}", file=sys.stderr, flush=True)


def describe(error: BaseException, *, traceback_shown: bool = False) -> str:
    """One line that says what went wrong, for people.

    Our errors and the system's speak for themselves; another kind was not foreseen, so its type is named.
    """
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        name = (
            os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else str(error.filename)
        )
        return f"{name}: {error.strerror}"
    message = str(error)
    if isinstance(error, MemoryError):
        return f"out of memory: {message}" if message else "out of memory; a lower --resolution needs less"
    if isinstance(error, (ValueError, OSError, ImportError)) and message:
        return message
    hint = "" if traceback_shown else " (-v shows the traceback)"
    return f"{type(error).__name__}: {message}{hint}" if message else f"{type(error).__name__}{hint}"


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Show Python warnings and library log records as single lines on stderr while the block lasts."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        warn(str(message))

    handler = _LineHandler(level=logging.WARNING)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show
            yield
    finally:
        root.removeHandler(handler)


class _LineHandler(logging.Handler):
    """Log records of libraries: warnings and worse as our own single lines."""

    def emit(self, record: logging.LogRecord) -> None:
        warn(f"{record.name}: {record.getMessage()}")


def plain(value: Any) -> Any:
    """Copy of `value` in JSON's types: arrays are lists, paths text, dataclasses objects, non-finite null."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "tolist"):  # NumPy scalars and arrays, torch tensors
        return plain(value.tolist())
    return str(value)


def human_bytes(count: float) -> str:
    """`count` bytes in words: 1536 → "1.5 KiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024.0:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024.0
    return f"{count:.1f} TiB"


def flattened(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, leaf) pairs of nested mappings, in order: how people are shown a JSON object."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from flattened(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, value
