"""Clouds as plain text, one point a line: XYZ, XYZN, PWN, PTS, TXT, CSV."""

from __future__ import annotations

import re
from pathlib import Path

from ..geometry import PointCloud
from . import shapes
from .arrays import from_columns
from .errors import ReadError
from .rows import Rows, is_number, read_rows

__all__ = ["read_text"]

ORIENTED = (".xyzn", ".pwn")  # a normal for every point, by definition
NORMALS = [("nx", "ny", "nz"), ("normal_x", "normal_y", "normal_z")]
COLORS = [("r", "g", "b"), ("red", "green", "blue")]


def read_text(path: Path, data: bytes) -> PointCloud:
    """Return the cloud of a text file.

    Parameters
    ----------
    path : Path
        Where `data` came from, for messages.
    data : bytes
        Content: numbers between white space, commas or semicolons (with semicolons, decimal commas too); `#`
        starts a comment. The first line may be the number of points, or name the columns (x, y, z; nx, ny,
        nz; r, g, b); else columns mean what `from_columns` says. PTS may consist of records of which `p x y
        z` are the points; PWN may hold all points before all normals.

    Raises
    ------
    ReadError
        No number where one should be, lines of different length, another number of points than announced,
        columns that cannot be told.
    """
    rows = read_rows(path, data)
    if path.suffix.lower() == ".pts" and any(text.startswith("p ") for text in rows.text):
        chosen = [k for k, text in enumerate(rows.text) if text.startswith("p ")]
        rows = Rows(rows.name, [rows.text[k][2:] for k in chosen], [rows.line[k] for k in chosen])
    if not len(rows):
        raise ReadError(f"{path.name}: nothing but blank lines and comments; there is nothing to read.")

    if (
        len(rows) > 1
        and re.fullmatch(r"\s*[+-]?\d+\s*", rows.text[0])
        and re.search(r"\S[\s,;]+\S", rows.text[1])
    ):
        return _counted(path, rows)
    delimiter = next((mark for mark in ";," if mark in rows.text[0]), None)
    text = rows.text
    if any('"' in line for line in text[:2]):
        text = [line.replace('"', "") for line in text]
    if delimiter == ";" and any("," in line for line in text[1:2] or text):
        text = [line.replace(",", ".") for line in text]
    rows = Rows(rows.name, text, rows.line)

    header = _split(rows.text[0], delimiter)
    if any(is_number(token) for token in header[:3]):
        columns = _numeric(header)
        table = rows.table(0, len(rows), delimiter=delimiter, columns=columns)
        return from_columns(path.name, table, oriented=path.suffix.lower() in ORIENTED)
    return _named(rows, header, delimiter)


def _named(rows: Rows, header: list[str], delimiter: str | None) -> PointCloud:
    """Return the cloud of a file whose first line names its columns."""
    if len(rows) < 2:
        raise rows.error(0, f"{header[0][:40]!r} is not a number, and no line follows that holds points.")
    # "X [m]", "//X" and "x" all name the column x; of two columns of one name the first counts.
    labels = [re.sub(r"^\W+|[^\w].*$", "", label.lower()) for label in header]
    if not {"x", "y", "z"} <= set(labels):
        if len(_split(rows.text[1], delimiter)) != 3:
            raise rows.error(0, f"columns {', '.join(header)[:60]} do not name x, y, z. Rename them.")
        return from_columns(rows.name, rows.table(1, len(rows), delimiter=delimiter))

    def columns(choices: list[tuple[str, str, str]]) -> list[int]:
        return [labels.index(label) for group in choices if set(group) <= set(labels) for label in group][:3]

    normals_at, colors_at = columns(NORMALS), columns(COLORS)
    wanted = columns([("x", "y", "z")]) + normals_at + colors_at
    table = rows.table(1, len(rows), delimiter=delimiter, columns=wanted)
    return shapes.cloud(
        rows.name,
        table[:, :3],
        table[:, 3:6] if normals_at else None,
        shapes.as_colors(table[:, -3:]) if colors_at else None,
    )


def _counted(path: Path, rows: Rows) -> PointCloud:
    """Return the cloud of a file that opens with the number of its points."""
    count = int(rows.text[0])
    if count < 1:
        raise rows.error(0, f"the file announces {count} points; there is nothing to read.")
    rows.need(1, count, "points")
    left = len(rows) - 1 - count
    if left == count and path.suffix.lower() == ".pwn":  # all points, then all normals
        return shapes.cloud(path.name, rows.table(1, 1 + count), rows.table(1 + count, 1 + 2 * count))
    if left:
        raise rows.error(1 + count, f"{left} lines follow the {count} points announced.")
    return from_columns(path.name, rows.table(1, len(rows)), oriented=path.suffix.lower() in ORIENTED)


def _split(line: str, delimiter: str | None) -> list[str]:
    return [token.strip() for token in line.split(delimiter)]


def _numeric(tokens: list[str]) -> list[int] | None:
    """Return the columns up to the first that holds no number (a label, nothing); None when all do."""
    stop = next((k for k, token in enumerate(tokens) if not is_number(token)), len(tokens))
    return None if stop == len(tokens) or stop < 3 else list(range(stop))
