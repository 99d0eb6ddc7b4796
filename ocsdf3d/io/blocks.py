"""Clouds too large to hold, read in blocks: NPY, binary PLY and PCD, LAS, LAZ, and arrays that lie in memory.

Blocks are read, not mapped: mapped pages count as memory of the process for as long as the system leaves
them there. Formats that must be read whole (text, archives, meshes) give no blocks, and `read` takes them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..geometry import PointCloud
from . import arrays, pcd, ply, scans
from .errors import ReadError, as_read_error

__all__ = ["Block", "Blocks", "blocks_of"]

ROWS = 500_000  # points a block: some 100 MB with everything that is made of them
HEAD = 1 << 20  # bytes in which a header must end
Floats = NDArray[np.float64]


class Block(NamedTuple):
    """Consecutive points of a cloud.

    Attributes
    ----------
    points : (k, 3) float64 array
        Positions [world units].
    normals : (k, 3) float64 array or None
        As stored.
    colors : (k, 3) array or None
        As stored: what `as_colors` makes of all of them together.
    """

    points: Floats
    normals: Floats | None
    colors: NDArray | None = None


@dataclass(frozen=True)
class Blocks:
    """A cloud that is read piece by piece.

    Attributes
    ----------
    name : str
        Of the source, for messages.
    count : int
        Points in all, as the header announces and the size of the file confirms.
    each : callable
        Returns an iterator over the blocks; may be asked again. It raises what `read` would.
    normals : bool
        Whether blocks have them.
    """

    name: str
    count: int
    each: Callable[[], Iterator[Block]]
    normals: bool = False

    @property
    def bytes(self) -> int:
        """Memory of reading it whole: float64 points and normals, and a copy of them [bytes]."""
        return self.count * 48 * (2 if self.normals else 1)


def blocks_of(source: Any) -> Blocks | None:
    """Return the blocks of a cloud, or None when it is no cloud or cannot be read piece by piece.

    Parameters
    ----------
    source : path, (n, 3) array or PointCloud
        An array may be a memory map: nothing but the block in hand is copied.

    Raises
    ------
    ReadError
        A header that is read here and that the file does not bear out.
    OSError
        The file cannot be opened.

    Notes
    -----
    Rows that are not finite are an error, as in `read`, or left out of scans (PCD, LAS, LAZ).
    """
    if isinstance(source, PointCloud):
        whole = source

        def of_cloud() -> Iterator[Block]:
            for rows in _slices(len(whole)):
                normals = None if whole.normals is None else whole.normals[rows]
                colors = None if whole.colors is None else whole.colors[rows]
                yield Block(whole.points[rows], normals, colors)

        return Blocks("cloud", len(source), of_cloud, source.normals is not None)
    if isinstance(source, np.ndarray):
        return _of_array(source)
    try:
        path = Path(source)
    except TypeError:
        return None
    opener = OPENERS.get(path.suffix.lower())
    if opener is None or not path.is_file() or not path.stat().st_size:
        return None  # `read` says what is wrong
    with as_read_error(path), path.open("rb") as file:
        found = opener(path, file.read(HEAD))
    if found is None:
        return None
    inner = found.each

    def each() -> Iterator[Block]:
        with as_read_error(path), np.errstate(invalid="ignore", over="ignore"):
            yield from inner()

    return dataclasses.replace(found, each=each)


def _slices(count: int) -> Iterator[slice]:
    return (slice(start, min(start + ROWS, count)) for start in range(0, count, ROWS))


def _of_array(source: NDArray) -> Blocks | None:
    if source.ndim != 2 or source.shape[1] != 3 or source.dtype.kind not in "fiu":
        return None  # `PointCloud` says what is wrong

    def each() -> Iterator[Block]:
        for rows in _slices(len(source)):
            yield Block(_finite("`points`", np.asarray(source[rows], np.float64), rows.start), None)

    return Blocks("`points`", len(source), each)


def _finite(name: str, points: Floats, start: int) -> Floats:
    good = np.isfinite(points).all(axis=1)
    if not good.all():
        row = int(np.argmin(good))
        raise ReadError(
            f"{name}: row {start + row} (from 0) is not finite: {points[row].tolist()}. Remove such rows."
        )
    return points


def _npy(path: Path, head: bytes) -> Blocks | None:
    shape, fortran, dtype, start = arrays.npy_header(path.name, head, path.stat().st_size)
    if len(shape) != 2 or fortran or shape[1] not in (3, 6):
        return None
    # Six columns are normals or colours: the first block tells, by the rule of every table.
    count, columns = shape
    oriented = colored = False
    if columns == 6:
        with path.open("rb") as file:
            first = _records(file, np.dtype((dtype, (columns,))), min(count, ROWS), start)
        told = arrays.from_columns(path.name, first)
        oriented, colored = told.normals is not None, told.colors is not None

    def each() -> Iterator[Block]:
        with path.open("rb") as file:
            for rows in _slices(count):
                at = start + rows.start * columns * dtype.itemsize
                table = _records(file, np.dtype((dtype, (columns,))), rows.stop - rows.start, at)
                points = _finite(path.name, table[:, :3].astype(np.float64), rows.start)
                normals = table[:, 3:].astype(np.float64) if oriented else None
                yield Block(points, normals, table[:, 3:] if colored else None)

    return Blocks(path.name, count, each, oriented)


def _ply(path: Path, head: bytes) -> Blocks | None:
    if b"end_header" not in head:
        return None
    kind, elements, start = ply.header(path, head)
    names = [element.name for element in elements]
    if kind == "ascii" or "vertex" not in names:
        return None
    if any(element.count and element.name in ("face", "tristrips") for element in elements):
        return None
    order: Literal["<", ">"] = ">" if kind == "binary_big_endian" else "<"
    for element in elements:
        if element.lists:
            return None
        record = np.dtype([(item.name, item.type.newbyteorder(order)) for item in element.properties])
        if element.name == "vertex":
            break
        start += element.count * record.itemsize
    count, room = element.count, path.stat().st_size - start
    if not count or not {"x", "y", "z"} <= set(record.names or ()):
        return None
    if count * record.itemsize > room:
        found = max(room, 0) // record.itemsize
        raise ReadError(f"{path.name}: expected {count} vertices, file ends after {found}. Is it complete?")
    normals, colors = (
        next((group for group in groups if set(group) <= set(record.names or ())), None)
        for groups in (ply.NORMALS, ply.COLORS)
    )

    def each() -> Iterator[Block]:
        with path.open("rb") as file:
            for rows in _slices(count):
                table = _records(file, record, rows.stop - rows.start, start + rows.start * record.itemsize)
                points = _finite(path.name, _stack(table, ("x", "y", "z")), rows.start)
                yield Block(
                    points,
                    None if normals is None else _stack(table, normals),
                    None if colors is None else np.stack([table[name] for name in colors], axis=1),
                )

    return Blocks(path.name, count, each, normals is not None)


def _pcd(path: Path, head: bytes) -> Blocks | None:
    fields, count, kind, start, _ = pcd.header(path, head)
    names = [field.name for field in fields]
    if kind != "binary" or not {"x", "y", "z"} <= set(names) or len(set(names)) < len(names):
        return None
    record = np.dtype([(field.name, field.type, (field.repeat,)) for field in fields])
    room = path.stat().st_size - start
    if count * record.itemsize > room:
        found = max(room, 0) // record.itemsize
        raise ReadError(f"{path.name}: expected {count} points, file ends after {found}. Is it complete?")
    axes = ("normal_x", "normal_y", "normal_z")
    oriented, packed = set(axes) <= set(names), pcd.packed_field(fields)

    def each() -> Iterator[Block]:
        with path.open("rb") as file:
            for rows in _slices(count):
                table = _records(file, record, rows.stop - rows.start, start + rows.start * record.itemsize)
                points = _stack(table, ("x", "y", "z"))
                seen = ~np.isnan(points).any(axis=1)  # "no return"
                normals = _stack(table, axes)[seen] if oriented else None
                colors = None if packed is None else pcd.unpacked(table[packed][seen][:, 0])
                yield Block(_finite(path.name, points[seen], rows.start), normals, colors)

    return Blocks(path.name, count, each, oriented)


def _las(path: Path, head: bytes) -> Blocks | None:
    if not head.startswith(b"LASF"):
        return None

    def each() -> Iterator[Block]:
        return (Block(points, None, colors) for points, colors in scans.las_chunks(path, head, ROWS))

    return Blocks(path.name, scans.las_count(head), each)


def _records(file: BinaryIO, record: np.dtype, count: int, start: int) -> NDArray:
    file.seek(start)
    found = np.fromfile(file, record, count)
    if len(found) < count:  # it was long enough when it was opened
        raise ReadError(f"{file.name}: the file became shorter while it was read. Read it again.")
    return found


def _stack(table: NDArray, names: tuple[str, ...]) -> Floats:
    return np.stack([table[name].reshape(len(table), -1)[:, 0] for name in names], axis=1).astype(np.float64)


OPENERS: dict[str, Callable[[Path, bytes], Blocks | None]] = {
    ".npy": _npy,
    ".ply": _ply,
    ".pcd": _pcd,
    ".las": _las,
    ".laz": _las,
}
