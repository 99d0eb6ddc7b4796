"""What goes wrong with files: one error for reading, one for writing."""

from __future__ import annotations

__all__ = ["ReadError", "WriteError"]


class ReadError(ValueError):
    """A file or object cannot be read as a shape; the message names it, the line or count, and what to do."""


class WriteError(OSError):
    """A shape cannot be written where or as asked; nothing has been left on disk."""
