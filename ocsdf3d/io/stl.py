"""STL, binary and ascii: triangles without shared vertices."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import trimesh

from . import shapes
from .errors import ReadError
from .rows import Rows, read_rows

__all__ = ["FACET", "read_stl"]

FACET = np.dtype([("normal", "<f4", 3), ("vertices", "<f4", (3, 3)), ("attribute", "<u2")])
HEADER = 84  # 80 bytes of anything, then the number of facets


def read_stl(path: Path, data: bytes) -> trimesh.Trimesh:
    """Return the mesh of an STL file, three vertices a face and none merged.

    Parameters
    ----------
    path : Path
        Where `data` came from, for messages.
    data : bytes
        Content. Normals are skipped: they follow from the order of the corners.

    Raises
    ------
    ReadError
        Cut short, no facet, a bad number.
    """
    # Binary headers may open with "solid" too, so only text that has facets counts as ascii.
    if re.match(rb"\s*solid", data, re.I) and re.search(rb"\bfacet\s+normal\b", data[:4096], re.I):
        rows = read_rows(path, data.lower(), comment=None)
        chosen = [k for k, text in enumerate(rows.text) if text.split(None, 1)[0] == "vertex"]
        text = [rows.text[k].split(None, 1)[-1] for k in chosen]
        vertices = Rows(path.name, text, [rows.line[k] for k in chosen]).table(0, len(text))
        n_facets = sum(text.split(None, 1)[0] == "facet" for text in rows.text)
        if len(vertices) != 3 * n_facets or rows.text[-1].split()[0] != "endsolid":
            message = f"expected {3 * n_facets} vertices of {n_facets} facets and `endsolid`"
            raise rows.error(len(rows), f"{message}, file ends after {len(vertices)}. Is it complete?")
    else:
        if len(data) < HEADER:
            raise ReadError(f"{path.name}: {len(data)} bytes are too few for an STL file. Is it complete?")
        count = int(np.frombuffer(data, "<u4", 1, 80)[0])
        if count * FACET.itemsize > len(data) - HEADER:
            raise ReadError(
                f"{path.name}: expected {count} facets, "
                f"file ends after {(len(data) - HEADER) // FACET.itemsize}. Is it a complete STL file?"
            )
        vertices = np.frombuffer(data, FACET, count, HEADER)["vertices"].reshape(-1, 3)
    if not len(vertices):
        raise ReadError(f"{path.name}: no facets; there is nothing to read.")
    return shapes.mesh(path.name, vertices, np.arange(len(vertices)).reshape(-1, 3))
