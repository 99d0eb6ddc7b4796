"""Tables of numbers: what their columns mean, and NumPy's files NPY and NPZ, never unpickled."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path

import numpy as np
import trimesh
from numpy.typing import NDArray

from ..geometry import PointCloud
from ..memory import free_memory
from . import shapes
from .errors import ReadError

__all__ = ["check_archive", "from_columns", "npy_header", "read_npy", "read_npz"]

COPIES = 3  # of unpacked bytes until a shape is made of them
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
    """Raise if a ZIP archive unpacks to more than its bytes can stand for, or than memory holds.

    Members that share their packed bytes are a bomb that each of them alone is not.

    References
    ----------
    Fifield, A Better Zip Bomb, WOOT 2019.
    """
    for item in archive.infolist():
        if item.file_size > LARGEST_RATIO * item.compress_size + 4096:
            raise ReadError(
                f"{name}: {item.filename} is said to unpack from {item.compress_size} bytes "
                f"to {item.file_size}. Is the file damaged?"
            )
    packed = sum(item.compress_size for item in archive.infolist())
    size = archive.fp.seek(0, io.SEEK_END) if archive.fp is not None else packed
    if packed > size:
        raise ReadError(
            f"{name}: its members take {packed} packed bytes, the file has {size}: they overlap. Damaged?"
        )
    total, free = sum(item.file_size for item in archive.infolist()), free_memory()
    if total * COPIES > free:
        raise ReadError(
            f"{name}: unpacked it needs about {total * COPIES / 1e9:.1f} GB, {free / 1e9:.1f} GB are free. "
            "Save a cloud as NPY: that is read in blocks."
        )


def npy_header(name: str, data: bytes, size: int) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Return shape, whether in Fortran's order, dtype and where the numbers begin, of an NPY file.

    Parameters
    ----------
    name : str
        For messages.
    data : bytes
        The file, or as much of it as holds the header.
    size : int
        Bytes of the whole file: what the header announces must fit before anything is allocated.

    Raises
    ------
    ReadError
        No NPY, no real numbers, or more of them than there are bytes.
    """
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
    start, count = stream.tell(), math.prod(shape)
    if min(shape, default=0) < 0 or count * dtype.itemsize > size - start:
        raise ReadError(
            f"{name}: an array {shape} of {dtype} takes {count * dtype.itemsize} bytes, "
            f"file has {size - start}. Is it complete?"
        )
    return shape, fortran, dtype, start


def _array(name: str, data: bytes) -> NDArray:
    """Return the array in the bytes of an NPY file."""
    shape, fortran, dtype, start = npy_header(name, data, len(data))
    flat = np.frombuffer(data, dtype, math.prod(shape), start)
    return flat.reshape(shape, order="F" if fortran else "C")
