"""Wavefront OBJ: positions and faces; texture, corner normals and materials do not bear on the surface."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import trimesh

from ..geometry import PointCloud
from . import shapes
from .errors import ReadError
from .rows import Rows, read_rows

__all__ = ["read_obj"]


def read_obj(path: Path, data: bytes) -> PointCloud | trimesh.Trimesh:
    """Return the mesh, or without faces the cloud, of an OBJ file.

    Parameters
    ----------
    path : Path
        Where `data` came from, for messages.
    data : bytes
        Content. Colours after the coordinates (`v x y z r g b`) are kept; `vn` are kept for a cloud with one
        for each point. Polygons are split as fans, negative indices count back from the last vertex read.
        Materials are not looked for.

    Raises
    ------
    ReadError
        No `v` record, a bad number or index.

    Notes
    -----
    Vertices are the `v` records, whatever texture or normal a face pairs them with, so a texture seam does
    not tear the surface open.
    """
    if b"\\\n" in data or b"\\\r\n" in data:
        data = re.sub(rb"\\\r?\n", b" ", data)
    rows = read_rows(path, data)
    picked: dict[str, list[int]] = {"v": [], "vn": [], "f": []}
    before: list[int] = []  # vertices read when each face comes: negative indices count from there
    for row, text in enumerate(rows.text):
        record = text.split(None, 1)[0]
        if record in picked:
            picked[record].append(row)
            if record == "f":
                before.append(len(picked["v"]))
    if not picked["v"]:
        raise ReadError(f"{path.name}: no vertices (`v x y z`). Is the extension right?")

    values = _numbers(rows, picked["v"])
    colors = None
    if values.shape[1] >= 6:  # x y z r g b, or with the weight w before the colour
        colors = shapes.as_colors(values[:, 3:6] if values.shape[1] == 6 else values[:, 4:7])
    if picked["f"]:
        sizes, corners = _faces(rows, picked["f"], before)
        faces = shapes.fan(path.name, sizes, corners, len(values), first=1)
        return shapes.mesh(path.name, values[:, :3], faces, None, colors)
    normals = _numbers(rows, picked["vn"])[:, :3] if len(picked["vn"]) == len(values) else None
    return shapes.cloud(path.name, values[:, :3], normals, colors)


def _numbers(rows: Rows, chosen: list[int]) -> np.ndarray:
    """Return the numbers of the chosen records; extras are dropped where not every record has them."""
    text = [rows.text[row].split(None, 1)[-1] for row in chosen]
    part = Rows(rows.name, text, [rows.line[row] for row in chosen])
    widths = {len(line.split()) for line in text}
    if min(widths) < 3:
        short = next(row for row in chosen if len(rows.text[row].split()) < 4)
        raise rows.error(short, f"expected three coordinates, found {rows.text[short].strip()[:40]!r}.")
    return part.table(0, len(part), columns=None if len(widths) == 1 else [0, 1, 2])


def _faces(rows: Rows, chosen: list[int], before: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return sizes and corners, counted from 0, of the polygons."""
    lists = []
    for row, known in zip(chosen, before, strict=True):
        try:
            polygon = [int(corner.partition("/")[0]) for corner in rows.text[row].split()[1:]]
        except ValueError as error:
            raise rows.error(
                row, f"expected vertex numbers, found {rows.text[row].strip()[:40]!r}."
            ) from error
        if not polygon:
            raise rows.error(row, "a face without corners.")
        if min(polygon) < 0:
            polygon = [corner if corner >= 0 else known + corner + 1 for corner in polygon]
        lists.append(polygon)
    sizes, corners = shapes.polygons(lists)
    return sizes, corners - 1
