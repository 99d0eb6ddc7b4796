"""What goes wrong with files: one error for reading, one for writing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["ReadError", "WriteError", "as_read_error"]


class ReadError(ValueError):
    """A file or object cannot be read as a shape; the message names it, the line or count, and what to do."""


class WriteError(OSError):
    """A shape cannot be written where or as asked; nothing has been left on disk."""


@contextmanager
def as_read_error(path: Path) -> Iterator[None]:
    """Turn whatever reading a file raises inside into one `ReadError`; an `OSError` stays one.

    On damaged files libraries fail in any way; this is the one place where that becomes our error. A Rust
    library panics with pyo3's PanicException, which is no Exception.
    """
    try:
        yield
    except (ReadError, OSError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        line = str(error).strip().split("\n")[0]
        cause = f"{type(error).__name__}: {line}".rstrip(": ")
        extension = path.suffix.lower()
        raise ReadError(f"{path.name}: not a readable {extension} file ({cause}). Is it complete?") from error
