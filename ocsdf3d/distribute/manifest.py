"""What a batch has done: one line of JSON a shape, on disk before the next one is handed out.

A line is appended and flushed, never rewritten, so that ten thousand shapes cost ten thousand lines (the
ledgers of the benches, tables of some hundred rows that people edit, are written anew for each). The last
line of a shape counts. A line that a power cut left unfinished is dropped when the file is opened again: its
shape is done anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from ocsdf3d.durable import sha256_of
from ocsdf3d.io import WriteError

__all__ = ["Manifest"]

NAMED = ("source", "mesh", "key")  # every line has these


class Manifest:
    """Rows by input, held open for adding; a context manager. One process at a time.

    Parameters
    ----------
    path : Path
        The file; made if it is not there, in a folder that is.

    Attributes
    ----------
    rows : dict
        Path of an input → its last row: `source`, `mesh`, `field` and `picture` (paths, or None), `key` of
        the settings, `error` (None when it was done), and the figures of `carry_out`.
    damaged : int
        Lines that were no row; what they told is done anew.

    Raises
    ------
    WriteError
        Another batch is writing here.
    OSError
        The file cannot be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        self.damaged = 0
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self._file = os.fdopen(
            descriptor, "r+b", buffering=0
        )  # what could not be written is not kept for later
        try:
            self._lock()
            self._read()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Manifest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()  # and with it the lock, as when the process is killed

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # not on Windows: two batches in one folder then do their shapes twice
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WriteError(
                f"{self.path}: another batch is writing here. Wait for it, or choose another folder."
            ) from None

    def _read(self) -> None:
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._file.truncate(whole)
            self.damaged += 1
        self._file.seek(whole)
        for line in content[:whole].splitlines():
            try:
                row = json.loads(line)
                if not all(isinstance(row[name], str) for name in NAMED):
                    raise TypeError
            except (ValueError, TypeError, KeyError):
                self.damaged += 1
                continue
            self.rows[row["source"]] = row

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row; it is on disk when this returns.

        Raises
        ------
        OSError
            The disk is full: the file is what it was, or has an unfinished line that is dropped later.
        """
        end, line = self._file.tell(), json.dumps(row, allow_nan=False)
        rest = memoryview(line.encode() + b"\n")
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(end)
            self._file.seek(end)
            raise
        self.rows[row["source"]] = json.loads(line)  # as it will come back

    def whole(self, source: str, key: str) -> dict[str, Any] | None:
        """Return the row of an input that need not be done again, or None.

        Parameters
        ----------
        source : str
            Path of the input.
        key : str
            Of the settings.

        Notes
        -----
        Done with these settings, from these bytes, and every file it wrote is what it was: all are read.
        """
        row = self.rows.get(source)
        if row is None or row.get("error") is not None or row["key"] != key:
            return None
        try:
            files = [(source, row["source_sha256"]), (row["mesh"], row["mesh_sha256"])]
            if row["field"] is not None:
                files.append((row["field"], row["field_sha256"]))
            return row if all(sha256_of(path) == digest for path, digest in files) else None
        except (OSError, KeyError, TypeError):
            return None
