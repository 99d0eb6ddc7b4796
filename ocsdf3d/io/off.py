"""OFF and its dialects: COFF, NOFF, STOFF and unions, ModelNet's fused header, polygons, points only."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import trimesh

from ..geometry import PointCloud
from . import shapes
from .errors import ReadError
from .rows import Rows, read_rows

__all__ = ["read_off"]

KEYWORD = re.compile(r"\s*(?P<st>ST)?(?P<c>C)?(?P<n>N)?(?P<four>4)?(?P<dim>n)?(?:OFF|off|Off)(?P<rest>.*)")


def read_off(path: Path, data: bytes) -> PointCloud | trimesh.Trimesh:
    """Return the mesh, or without faces the cloud, of an OFF file.

    Parameters
    ----------
    path : Path
        Where `data` came from, for messages.
    data : bytes
        Content. Polygons are split as fans; colours and texture coordinates of faces are skipped.

    Raises
    ------
    ReadError
        No OFF, binary or not three-dimensional, cut short, more lines than announced, a bad number or index.

    References
    ----------
    Geomview manual, section 4.2.5 OFF. ModelNet files join keyword and counts: `OFF490 518 0`.
    """
    if re.match(rb"\s*(ST)?C?N?4?n?OFF[ \t]+BINARY", data):
        raise ReadError(f"{path.name}: binary OFF is not supported. Convert it to text OFF or to PLY.")
    rows = read_rows(path, data)
    if not len(rows):
        raise ReadError(f"{path.name}: nothing but blank lines and comments. Is it complete?")
    keyword = KEYWORD.match(rows.text[0])
    if not keyword:
        raise rows.error(
            0, f"expected the keyword OFF, found {rows.text[0].strip()[:40]!r}. Is the extension right?"
        )
    if keyword["four"] or keyword["dim"]:
        raise rows.error(0, "4OFF and nOFF are not three-dimensional. Convert the file to OFF.")
    counts, body = (keyword["rest"], 1) if keyword["rest"].strip() else ("".join(rows.text[1:2]), 2)
    if not re.fullmatch(r"\s*-?\d{1,18}\s+-?\d{1,18}(\s+-?\d+)?\s*", counts):
        raise rows.error(
            body - 1, f"expected counts of vertices, faces and edges, found {counts.strip()[:40]!r}."
        )
    n, m = map(int, counts.split()[:2])
    if n < 0 or m < 0:
        raise rows.error(body - 1, f"a count is negative: {counts.strip()}.")
    if n == 0:
        raise rows.error(body - 1, "the file announces no vertices; there is nothing to read.")
    rows.need(body, n, "vertices")
    rows.need(body + n, m, "faces")
    if len(rows) > body + n + m:
        raise rows.error(
            body + n + m, f"{len(rows) - body - n - m} lines follow the {n} vertices and {m} faces announced."
        )

    values = rows.table(body, body + n)
    width = values.shape[1]
    colors_at = 6 if keyword["n"] else 3
    colors_end = min(width - (2 if keyword["st"] else 0), colors_at + 3)
    if width < colors_at or (keyword["c"] and colors_end < colors_at + 3):
        raise rows.error(
            body, f"{width} values a vertex are too few for the keyword {rows.text[0].split()[0]}."
        )
    normals = values[:, 3:6] if keyword["n"] else None
    colors = shapes.as_colors(values[:, colors_at:colors_end]) if keyword["c"] else None
    if m == 0:
        return shapes.cloud(path.name, values[:, :3], normals, colors)
    sizes, corners = _faces(rows, body + n, m)
    return shapes.mesh(path.name, values[:, :3], shapes.fan(path.name, sizes, corners, n), normals, colors)


def _faces(rows: Rows, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return sizes and corners of the polygons; in bulk when all are alike, else line by line."""
    first = rows.text[start].split()
    if all(len(text.split()) == len(first) for text in rows.text[start : start + count]):
        values = rows.table(start, start + count)
        size = values[0, 0]
        if size.is_integer() and 0 < size < len(first) and (values[:, 0] == size).all():
            corners = values[:, 1 : int(size) + 1]
            if (corners == np.floor(corners)).all():
                return np.full(count, int(size)), corners.astype(np.int64).ravel()
    lists = []
    for row in range(start, start + count):
        tokens = rows.text[row].split()
        try:
            size = int(tokens[0])
            polygon = [int(token) for token in tokens[1 : size + 1]]
        except ValueError as error:
            raise rows.error(
                row, f"expected whole numbers, found {rows.text[row].strip()[:40]!r}."
            ) from error
        if size < 1 or len(polygon) != size:
            raise rows.error(row, f"a face of {size} corners, but {len(tokens) - 1} numbers follow.")
        lists.append(polygon)
    return shapes.polygons(lists)
