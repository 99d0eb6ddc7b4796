"""`read`: any source of points or triangles → `PointCloud` or `trimesh.Trimesh`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from ..geometry import PointCloud
from ..memory import require_memory
from . import arrays, libraries, obj, off, pcd, ply, scans, stl, text
from .errors import ReadError, as_read_error

__all__ = ["READABLE", "read"]

Reader = Callable[[Path, bytes], "PointCloud | trimesh.Trimesh"]
READERS: dict[str, Reader] = {
    ".off": off.read_off,
    ".obj": obj.read_obj,
    ".ply": ply.read_ply,
    ".stl": stl.read_stl,
    ".glb": libraries.read_gltf,
    ".gltf": libraries.read_gltf,
    ".3mf": libraries.read_3mf,
    ".xyz": text.read_text,
    ".xyzn": text.read_text,
    ".pwn": text.read_text,
    ".pts": text.read_text,
    ".txt": text.read_text,
    ".csv": text.read_text,
    ".npy": arrays.read_npy,
    ".npz": arrays.read_npz,
    ".pcd": pcd.read_pcd,
    ".las": scans.read_las,
    ".laz": scans.read_las,
    ".e57": scans.read_e57,
}
READABLE = tuple(READERS)
# Peak of reading over the size of the file, measured on 6 to 16 MB of most and rounded up. Archives and what
# streams from disk pack as they like: these are what they usually do, and `check_archive` counts.
FOOTPRINT = {
    ".off": 10.0, ".obj": 16.0, ".ply": 12.0, ".stl": 7.0, ".glb": 10.0, ".gltf": 10.0, ".3mf": 100.0,
    ".xyz": 12.0, ".xyzn": 12.0, ".pwn": 12.0, ".pts": 12.0, ".txt": 12.0, ".csv": 12.0, ".npy": 8.0,
    ".npz": 12.0, ".pcd": 12.0, ".las": 8.0, ".laz": 60.0, ".e57": 30.0,
}  # fmt: skip
BY_PATH = (".las", ".laz", ".e57")  # these readers stream from disk and see the header only


def read(source: Any) -> PointCloud | trimesh.Trimesh:
    """Return the shape of a file, an array or an object of another library, in its own units and place.

    Parameters
    ----------
    source : path, array_like, PointCloud, trimesh or Open3D object
        A file with one of the extensions `READABLE`; an (n, 3) array; a `PointCloud`; a trimesh `Trimesh`,
        `PointCloud` or `Scene`; an Open3D `TriangleMesh` or `PointCloud`.

    Returns
    -------
    trimesh.Trimesh
        If the source has faces: float64, polygons split as fans, vertices neither merged nor dropped nor
        reordered. Vertex normals and colours are kept where the source has them.
    PointCloud
        If it has none; with normals if all are usable, and colours.

    Raises
    ------
    ReadError
        Whatever is wrong with the content: not of the format its extension says, cut short, coordinates not
        finite, a face that names no vertex, nothing inside; also an unknown extension, a directory, a missing
        extra.
    OSError
        There is no such file, or it may not be read.
    ValueError
        An array is not (n, 3) and finite.

    Notes
    -----
    Points with a NaN coordinate are left out of scans (PCD, LAS, LAZ, E57), where they mark "no return", and
    are an error elsewhere. Sizes announced by a header are checked against the file before memory is taken.

    Examples
    --------
    >>> len(read([[0, 0, 0], [1, 0, 0], [0, 1, 0]]))
    3
    """
    if isinstance(source, (str, os.PathLike)):
        return _read_file(Path(source))
    if isinstance(source, PointCloud):
        return source
    if isinstance(source, (trimesh.Trimesh, trimesh.PointCloud, trimesh.Scene)):
        return libraries.from_trimesh(f"trimesh {type(source).__name__}", source)
    kind = type(source)
    if kind.__module__.split(".")[0] == "open3d" and kind.__name__ in ("TriangleMesh", "PointCloud"):
        return libraries.from_open3d(source)
    try:
        return PointCloud(np.asarray(source))
    except TypeError as error:
        raise ReadError(f"cannot make an (n, 3) array of a {kind.__name__} ({error}).") from error


def _read_file(path: Path) -> PointCloud | trimesh.Trimesh:
    extension = path.suffix.lower()
    if path.is_dir():
        raise ReadError(f"{path}: a directory, not a file. Name a file in it.")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file. Is the path right?")
    if extension not in READERS:
        raise ReadError(f"{path.name}: unknown extension {extension!r}. Known are {' '.join(READABLE)}.")
    if not path.is_file():
        raise ReadError(f"{path}: not a regular file.")
    if not path.stat().st_size:
        raise ReadError(f"{path.name}: the file is empty. Is the download complete?")
    require_memory(
        FOOTPRINT[extension] * path.stat().st_size,
        f"{path.name}: reading it",
        "A cloud in NPY, binary PLY or LAS is read in blocks by `fit` and `reconstruct`.",
    )
    with path.open("rb") as file:
        data = file.read(512 if extension in BY_PATH else -1)
    # Values beyond any type, signalling NaN: `shapes` judges them, NumPy need not warn of them first.
    with as_read_error(path), np.errstate(invalid="ignore", over="ignore"):
        return READERS[extension](path, data)
