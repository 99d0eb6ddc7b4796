"""Text files as rows of numbers: bulk parsing, and a message with the line when it fails."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import ReadError

__all__ = ["Rows", "is_number", "read_rows"]


@dataclass(frozen=True)
class Rows:
    """The lines of a text file that carry something.

    Parameters
    ----------
    name : str
        File name, for messages.
    text : list of str
        Lines without comments and blank lines.
    line : list of int
        Number of each of them in the file, counted from 1.
    """

    name: str
    text: list[str]
    line: list[int]

    def __len__(self) -> int:
        return len(self.text)

    def error(self, row: int, message: str) -> ReadError:
        """Return the error `message` at a row; beyond the last row it names the last line."""
        where = f", line {self.line[min(row, len(self) - 1)]}" if self.line else ""
        return ReadError(f"{self.name}{where}: {message}")

    def need(self, start: int, count: int, what: str) -> None:
        """Raise unless `count` rows follow row `start`: a header is believed as far as the file goes."""
        if len(self) - start < count:
            raise self.error(
                len(self),
                f"expected {count} {what}, file ends after {max(len(self) - start, 0)}. Is it complete?",
            )

    def table(
        self, start: int, stop: int, *, delimiter: str | None = None, columns: list[int] | None = None
    ) -> NDArray[np.float64]:
        """Return rows `start` to `stop` as a (stop − start, k) float64 array.

        Parameters
        ----------
        start, stop : int
            Range of rows.
        delimiter : str or None
            Between numbers; None is any white space.
        columns : list of int or None
            Columns to take; None takes all, and then every row must have as many.

        Raises
        ------
        ReadError
            Something is no number, or a row is longer or shorter than the first; the message gives the line.
        """
        rows = self.text[start:stop]
        if not rows:
            return np.empty((0, 0))
        try:
            return np.loadtxt(rows, delimiter=delimiter, usecols=columns, comments=None, ndmin=2)
        except ValueError as error:
            width = len(rows[0].split(delimiter))
            for row, text in enumerate(rows, start):
                tokens = text.split(delimiter)
                if columns is None and len(tokens) != width:
                    message = f"{len(tokens)} values, but {width} in line {self.line[start]}: {_short(text)}."
                    raise self.error(row, message) from error
                wanted = range(width) if columns is None else columns
                if max(wanted) >= len(tokens):
                    raise self.error(row, f"{len(tokens)} values, {max(wanted) + 1} wanted.") from error
                wrong = [tokens[column] for column in wanted if not is_number(tokens[column])]
                if wrong:
                    raise self.error(row, f"{_short(wrong[0])} is not a number.") from error
            raise ReadError(f"{self.name}: {error}") from error


def read_rows(path: Path, data: bytes, *, comment: str | None = "#", first_line: int = 1) -> Rows:
    """Return the rows of a text file.

    Parameters
    ----------
    path : Path
        Where `data` came from, for messages.
    data : bytes
        Content; line ends of any system, a UTF-8 mark is skipped, comments may be in any encoding.
    comment : str or None
        Starts a comment that runs to the end of the line.
    first_line : int
        Number of the first line of `data` in its file.

    Raises
    ------
    ReadError
        The content has NUL bytes: it is not text, or in UTF-16.
    """
    if b"\0" in data:
        raise ReadError(f"{path.name}: not plain text (NUL byte at {data.index(0)}). Is the extension right?")
    # Latin-1 takes any byte, but `str.splitlines` would also split at its \x85: line ends are unified first.
    text = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n").decode("latin-1")
    lines = text.split("\n")
    if comment and comment in text:
        lines = [line.partition(comment)[0] for line in lines]
    kept = [number for number, line in enumerate(lines) if line and not line.isspace()]
    return Rows(path.name, [lines[number] for number in kept], [number + first_line for number in kept])


def is_number(token: str) -> bool:
    """Return whether `token` reads as a number; `nan` and `inf` do."""
    try:
        float(token)
    except ValueError:
        return False
    return True


def _short(text: str) -> str:
    """Return `text` in quotes, cut to a length that fits a line of a terminal."""
    text = text.strip()
    return repr(text if len(text) <= 40 else text[:37] + "...")
