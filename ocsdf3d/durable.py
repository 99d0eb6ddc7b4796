"""Files that are whole or not there: written beside their place, on disk before they bear their name."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

__all__ = ["put_in_place", "sha256_of"]


def put_in_place(draft: Path, target: Path) -> None:
    """Move a finished draft to its place in one step: readers and power cuts find the old or the new file.

    Parameters
    ----------
    draft : Path
        Complete and closed, on the file system of `target`.
    target : Path
        Where it belongs; replaced if it is there.

    Raises
    ------
    OSError
        Not moved: `target` is what it was.

    Notes
    -----
    A file system may write a new name before the bytes behind it, so that after a power cut the new name
    stands for an empty file. The bytes are therefore flushed first, the folder that holds the name last.
    """
    with open(draft, "rb") as file:
        os.fsync(file.fileno())
    os.replace(draft, target)
    if hasattr(os, "O_DIRECTORY"):  # elsewhere folders cannot be opened
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes, read in pieces.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
