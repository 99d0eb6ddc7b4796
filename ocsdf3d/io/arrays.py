"""Tables of numbers: what their columns mean, and NumPy's files NPY and NPZ, never unpickled."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import trimesh
from numpy.typing import NDArray

from ..geometry import PointCloud
from . import shapes
from .errors import ReadError

__all__ = ["check_archive", "from_columns", "read_npy", "read_npz"]

LARGEST_RATIO = 1032  # deflate cannot pack tighter, so a larger announced size is a lie


def from_columns(name: str, table: NDArray, *, oriented: bool = False) -> PointCloud:
    """Return the cloud of a table whose columns have no names.

    Parameters
    ----------
    name : str
        File name, for messages.
    table : (n, k) array
        The first three columns are x, y, z. After them 3 columns are normals or colours, 4 a scalar (skipped:
        an intensity) and colours, 6 normals and colours in either order; other columns are skipped. Three
        columns are colours when all are whole numbers from 0 to 255 and one exceeds 1, and normals when most
        rows have length one.
    oriented : bool
        The format says that columns four to six are normals, whatever their values.

    Raises
    ------
    ReadError
        Fewer than three columns, or a coordinate that is not finite.
    """
    extra = table.shape[1] - 3 if table.ndim == 2 else 0
    normals = colors = None
    for start in {3: (3,), 4: (4,), 6: (3, 6)}.get(extra, ()):
        triple = table[:, start : start + 3]
        if oriented and start == 3:
            normals = triple
        elif _are_colors(triple):
            colors = triple.astype(np.uint8)
        elif start != 4 and normals is None and _are_normals(triple):
            normals = triple
    return shapes.cloud(name, table[:, :3] if extra > 0 else table, normals, colors)


def _are_colors(triple: NDArray) -> bool:
    whole = (triple >= 0) & (triple <= 255) & (triple == np.floor(triple))
    return bool(whole.all() and triple.max(initial=0) > 1)


def _are_normals(triple: NDArray) -> bool:
    # A few may be zero or NaN, which `shapes.cloud` reports; colours from 0 to 1 seldom have length one.
    return bool(np.mean(np.abs(np.linalg.norm(triple, axis=1) - 1) < 0.01) > 0.5)


def read_npy(path: Path, data: bytes) -> PointCloud:
    """Return the cloud of an NPY file: an (n, k) array of real numbers, columns as in `from_columns`."""
    return from_columns(path.name, _array(path.name, data))


def read_npz(path: Path, data: bytes) -> PointCloud | trimesh.Trimesh:
    """Return the shape of an NPZ file.

    Parameters
    ----------
    path : Path
        Where `data` came from, for messages.
    data : bytes
        An archive with `points` (and `normals`, `colors`), or `vertices` and `faces`, or a single array.

    Raises
    ------
    ReadError
        No such arrays, a damaged archive, an array of Python objects.
    """
    arrays = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            check_archive(path.name, archive)
            for item in archive.infolist():
                key = item.filename.removesuffix(".npy")
                arrays[key] = _array(f"{path.name}, {key}", archive.read(item))
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ReadError(f"{path.name}: not a complete NPZ archive ({error}).") from error
    if {"vertices", "faces"} <= set(arrays):
        faces = arrays["faces"]
        if faces.ndim != 2 or faces.shape[1] < 3 or faces.dtype.kind not in "iu":
            raise ReadError(f"{path.name}: `faces` must be (m, 3) integers; got {faces.shape} {faces.dtype}.")
        sizes = np.full(len(faces), faces.shape[1])
        triangles = shapes.fan(path.name, sizes, faces.ravel(), len(arrays["vertices"]))
        return shapes.mesh(path.name, arrays["vertices"], triangles)
    if "points" in arrays:
        colors = arrays.get("colors")
        return shapes.cloud(
            path.name,
            arrays["points"],
            arrays.get("normals"),
            None if colors is None else shapes.as_colors(colors),
        )
    if len(arrays) == 1:
        return from_columns(path.name, *arrays.values())
    raise ReadError(
        f"{path.name}: expected `points`, or `vertices` and `faces`, or a single array; "
        f"found {', '.join(arrays) or 'none'}."
    )


def check_archive(name: str, archive: zipfile.ZipFile) -> None:
    """Raise if a member of a ZIP archive announces more bytes than its packed ones can stand for."""
    for item in archive.infolist():
        if item.file_size > LARGEST_RATIO * item.compress_size + 4096:
            raise ReadError(
                f"{name}: {item.filename} is said to unpack from {item.compress_size} bytes "
                f"to {item.file_size}. Is the file damaged?"
            )


def _array(name: str, data: bytes) -> NDArray:
    """Return the array in the bytes of an NPY file; its size is checked before anything is allocated."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = header(stream)
    except (ValueError, KeyError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ReadError(f"{name}: not an NPY array ({error}).") from error
    if dtype.kind not in "fiu":
        raise ReadError(f"{name}: dtype {dtype} is not real numbers. Save an (n, 3) array of floats.")
    start, count = stream.tell(), 1
    for side in shape:
        count *= side
    if min(shape, default=0) < 0 or count * dtype.itemsize > len(data) - start:
        raise ReadError(
            f"{name}: an array {shape} of {dtype} takes {count * dtype.itemsize} bytes, "
            f"file has {len(data) - start}. Is it complete?"
        )
    flat = np.frombuffer(data, dtype, count, start)
    return flat.reshape(shape, order="F" if fortran else "C")
