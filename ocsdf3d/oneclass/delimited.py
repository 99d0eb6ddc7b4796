"""Delimited text (CSV, TSV and their kin) → columns of text, by the standard library alone.

The delimiter is the one that cuts the first lines into equally many cells; where two do, it is asked for. The
first line is a header when none of its cells is a number.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DELIMITERS", "HEADERS", "Cells", "TableError", "read_delimited"]

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|", "space": " "}  # space: any white space
HEADERS = ("auto", "yes", "no")
SNIFFED = 20  # lines that the delimiter is told from


class TableError(ValueError):
    """A table that cannot be read, or is not the one that a detector knows."""


@dataclass(frozen=True)
class Cells:
    """A table as text.

    Attributes
    ----------
    names : tuple of str or None
        Of the columns; None without a header.
    columns : list of list of str
        Cells without the white space around them.
    lines : list of int
        Where each row is in the file, counted from 1.
    """

    names: tuple[str, ...] | None
    columns: list[list[str]]
    lines: list[int]


def read_delimited(path: str | os.PathLike[str], *, delimiter: str = "auto", header: str = "auto") -> Cells:
    """Read a text file of rows and columns.

    Parameters
    ----------
    path : path
        UTF-8; cells with delimiters or line breaks stand in double quotes.
    delimiter : str
        `"auto"` or a key of `DELIMITERS`.
    header : str
        `"yes"`, `"no"`, or `"auto"`: the first line is one when none of its cells is a number.

    Raises
    ------
    TableError
        Not text, no rows, rows of different length, a column without or with the name of another, or a
        delimiter that cannot be told.
    OSError
        The file cannot be opened.
    """
    name = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(f"{name}: not UTF-8 text (byte {error.start}). Save it as UTF-8.") from None
    head = [line for line in text.split("\n") if line.strip()][:SNIFFED]
    if not head:
        raise TableError(f"{name}: the file is empty.")
    mark = _told(name, head) if delimiter == "auto" else DELIMITERS[delimiter]
    rows, lines = [], []
    try:
        for line, row in _split(io.StringIO(text), mark):
            if any(row):
                rows.append(row)
                lines.append(line)
    except csv.Error as error:
        raise TableError(f"{name}: not a table of text: {error}.") from None
    for line, row in zip(lines, rows, strict=True):
        if len(row) != len(rows[0]):
            raise TableError(
                f"{name}, line {line}: {len(row)} cells, where the first row has {len(rows[0])}. "
                "Is the delimiter right?"
            )
    names = None
    if header == "yes" or (header == "auto" and not any(map(_is_number, rows[0]))):
        names = tuple(rows.pop(0))
        lines.pop(0)
        twice = sorted({one for one in names if names.count(one) > 1})
        if twice:
            raise TableError(f"{name}: two columns bear the name {twice[0]!r}. Rename one, or say header no.")
    if not rows:
        raise TableError(f"{name}: a header and no rows.")
    return Cells(names, [list(column) for column in zip(*rows, strict=True)], lines)


def _split(text: Iterable[str], mark: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each row with its line; where there are line breaks in a cell, that of its end."""
    if mark == " ":
        yield from ((number, line.split()) for number, line in enumerate(text, 1))
        return
    reader = csv.reader(text, delimiter=mark, skipinitialspace=True)
    for row in reader:
        yield reader.line_num, [cell.strip() for cell in row]


def _told(name: str, head: list[str]) -> str:
    """Return the delimiter of the first lines; white space where no other occurs in them."""
    counts = {}
    for word, mark in DELIMITERS.items():
        if word == "space":
            continue
        try:
            counts[word] = [len(row) for _, row in _split(head, mark) if row]
        except csv.Error:
            continue
    there = [word for word, found in counts.items() if max(found, default=1) > 1]
    even = [word for word in there if len(set(counts[word])) == 1]
    chosen = even or there
    if len(chosen) > 1:
        raise TableError(f"{name}: cells could end at {' or '.join(chosen)}. Say which with `delimiter`.")
    return DELIMITERS[chosen[0]] if chosen else " "


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
