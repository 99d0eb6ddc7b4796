"""Files that are whole or not there: written beside their place, on disk before they bear their name.

A process that is killed cannot tidy up, so the next that writes the same file does: a draft lies in a
hidden folder of its own, on which its writer holds a lock that the system drops when the process is gone.
What can be locked was left behind; what cannot is being written, or lies where there are no locks, and stays.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # no such locks: nothing is ever taken for left behind
    flock = None  # type: ignore[assignment]

__all__ = ["draft_of", "put_in_place", "sha256_of"]


@contextmanager
def draft_of(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a place for a draft of `path`, of its name and on its file system; nothing stays there at the end.

    First goes what writers of the same file left that were killed, on this machine: the locks of another may
    not be seen from here.

    Parameters
    ----------
    path : path
        Where the file will be; of a link, where that leads.

    Raises
    ------
    OSError
        The folder is missing or cannot be written to.
    """
    path = Path(path)
    target = path.resolve()
    whose = f"{socket.gethostname()}/{target.name}".encode(errors="surrogateescape")
    prefix = f".ocsdf3d-{hashlib.sha256(whose).hexdigest()[:16]}-"  # of one length, however long the name
    _sweep(target.parent, prefix)
    folder, lock = _locked_folder(target.parent, prefix)
    try:
        yield folder / path.name
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def put_in_place(draft: Path, target: Path) -> None:
    """Move a finished draft to its place in one step: readers and power cuts find the old or the new file.

    Parameters
    ----------
    draft : Path
        Complete and closed, on the file system of `target`.
    target : Path
        Where it belongs; replaced if it is there, of a link where that leads.

    Raises
    ------
    OSError
        Not moved: `target` is what it was.

    Notes
    -----
    A file system may write a new name before the bytes behind it, so that after a power cut the new name
    stands for an empty file. The bytes are therefore flushed first, the folder that holds the name last.
    """
    target = target.resolve()  # a link stays a link
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


def _sweep(parent: Path, prefix: str) -> None:
    """Remove the folders of this prefix whose writers are gone."""
    try:
        left = [entry.path for entry in os.scandir(parent) if entry.name.startswith(prefix)]
    except OSError:  # what can be written need not be readable
        return
    for folder in left:
        lock = _lock(folder, wait=False)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _locked_folder(parent: Path, prefix: str) -> tuple[Path, int | None]:
    """Make a folder; with its lock, or None where there are none, its name then being no sweep's."""
    while True:
        folder = Path(mkdtemp(prefix=prefix, dir=parent))
        lock = _lock(folder, wait=True)
        if lock is None:
            return folder.rename(folder.with_name(f".unlocked{folder.name}")), None
        if _is_same(lock, folder):
            return folder, lock
        os.close(lock)  # another process took it for left behind, in the moment before the lock


def _lock(folder: str | Path, *, wait: bool) -> int | None:
    """Return an open, locked descriptor of a folder, or None if it is locked or cannot be."""
    if flock is None:
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        flock(descriptor, LOCK_EX if wait else LOCK_EX | LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _is_same(descriptor: int, folder: Path) -> bool:
    """Whether a folder is still there, and the one that is open."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(folder))
    except FileNotFoundError:
        return False
