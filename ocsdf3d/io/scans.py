"""Laser scans: LAS and LAZ through laspy, E57 through pye57; both come with the extra `scan`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..geometry import PointCloud
from . import shapes
from .errors import ReadError

__all__ = ["las_chunks", "las_count", "read_e57", "read_las"]

CHUNK = (
    1_000_000  # points unpacked at a time: a header that announces too many fails at the first missing one
)


def read_las(path: Path, data: bytes) -> PointCloud:
    """Return the cloud of a LAS or LAZ file, in the map coordinates of the file (float64).

    Parameters
    ----------
    path : Path
        The file; it is read in chunks.
    data : bytes
        Its first 512 bytes: the header.

    Raises
    ------
    ReadError
        laspy is missing, no LAS, fewer points than announced.
    """
    points, colors = [], []
    for chunk, painted in las_chunks(path, data, CHUNK):
        points.append(chunk)
        if painted is not None:
            colors.append(painted)
    joined = np.concatenate(colors) if colors else np.zeros(0)
    return shapes.cloud(
        path.name,
        np.concatenate(points),
        colors=shapes.as_colors(joined) if joined.any() else None,  # all black: announced, never filled in
        drop_missing=True,
    )


def las_count(head: bytes) -> int:
    """Return the number of points that the header of a LAS or LAZ file announces."""
    if head[24:26] >= b"\x01\x04":
        return int.from_bytes(head[247:255], "little")
    return int.from_bytes(head[107:111], "little")


def las_chunks(path: Path, data: bytes, rows: int) -> Iterator[tuple[NDArray[np.float64], NDArray | None]]:
    """Return an iterator over the points of a LAS or LAZ file, (k, 3), and their colours, (k, 3), or None.

    Parameters
    ----------
    path, data
        As for `read_las`, which says what is raised: when the first chunk is asked for, or the last.
    rows : int
        Points a chunk at most.
    """
    if not data.startswith(b"LASF"):
        raise ReadError(
            f"{path.name}: not a LAS file: it starts with {data[:4]!r}, not LASF. Is the extension right?"
        )
    try:
        import laspy
        import lazrs  # noqa: F401  (laspy finds it by itself, and fails late without it)
    except ImportError as error:
        raise _missing(path, "laspy and lazrs", error) from error
    _check_announced(path, data)
    found = 0
    # The parallel decoder trusts the sizes in the table of chunks and ends the process when they are absurd.
    with laspy.open(path, laz_backend=laspy.LazBackend.Lazrs) as reader:
        count, size = reader.header.point_count, reader.header.point_format.size
        room = max(path.stat().st_size - reader.header.offset_to_point_data, 0) // size
        if count > room and not reader.header.are_points_compressed:
            raise ReadError(f"{path.name}: expected {count} points, file ends after {room}. Is it complete?")
        colored = {"red", "green", "blue"} <= set(reader.header.point_format.dimension_names)
        for chunk in reader.chunk_iterator(rows):
            found += len(chunk)
            yield (
                np.stack([chunk.x, chunk.y, chunk.z], axis=1).astype(np.float64),
                np.stack([chunk.red, chunk.green, chunk.blue], axis=1) if colored else None,
            )
    if not count or found < count:
        raise ReadError(f"{path.name}: expected {count} points, found {found}. Is it complete?")


def read_e57(path: Path, data: bytes) -> PointCloud:
    """Return the cloud of all scans of an E57 file, each moved by its pose into the common frame.

    Parameters
    ----------
    path : Path
        The file.
    data : bytes
        Its first 512 bytes: the header.

    Raises
    ------
    ReadError
        pye57 is missing, no E57, cut short, no scan with a valid point.
    """
    if not data.startswith(b"ASTM-E57"):
        raise ReadError(f"{path.name}: not an E57 file: it starts with {data[:8]!r}. Is the extension right?")
    try:
        import pye57
    except ImportError as error:
        raise _missing(path, "pye57", error) from error
    points, colors = [], []
    with pye57.E57(str(path)) as file:
        for scan in range(file.scan_count):
            count = file.get_header(scan).point_count
            if count > 8 * path.stat().st_size:  # less than a bit a point cannot be
                raise ReadError(
                    f"{path.name}: scan {scan} announces {count} points, "
                    f"file has {path.stat().st_size} bytes. Is it complete?"
                )
            if not count:
                continue
            values = file.read_scan(scan, colors=True, ignore_missing_fields=True)
            points.append(np.stack([values[f"cartesian{axis}"] for axis in "XYZ"], axis=1))
            if "colorRed" in values:
                colors.append(np.stack([values[f"color{name}"] for name in ("Red", "Green", "Blue")], axis=1))
    if not sum(map(len, points)):
        raise ReadError(f"{path.name}: no scan holds a valid point; there is nothing to read.")
    every = len(colors) == len(points)
    return shapes.cloud(
        path.name, np.concatenate(points), colors=np.concatenate(colors) if every else None, drop_missing=True
    )


def _check_announced(path: Path, head: bytes) -> None:
    """Raise if a LAS or LAZ file announces more records or chunks than it has room for.

    laspy would look for each record beyond the end, and lazrs ends the process when it gets no memory for the
    chunks.

    References
    ----------
    LAS 1.4 R15, sections 2.4 to 2.7. M. Isenburg, LASzip, section "chunk table".
    """
    size = path.stat().st_size
    opening = int.from_bytes(head[96:100], "little")
    if opening > size:
        raise ReadError(f"{path.name}: the points begin at {opening} of {size} bytes. Is it complete?")
    announced = [(int.from_bytes(head[100:104], "little"), "variable length records", 54)]
    if head[24:26] >= b"\x01\x04":
        announced.append((int.from_bytes(head[243:247], "little"), "extended variable length records", 60))
    if head[104:105] >= b"\x80":  # compressed: the points open with the offset of the table of chunks
        with path.open("rb") as file:
            file.seek(int.from_bytes(head[96:100], "little"))
            table = int.from_bytes(file.read(8), "little", signed=True)
            if table == -1 and size > 8:  # written to a stream: the offset closes the file
                file.seek(-8, 2)
                table = int.from_bytes(file.read(8), "little", signed=True)
            if not 0 < table < size:
                raise ReadError(
                    f"{path.name}: the table of chunks lies at {table} of {size}. Is it complete?"
                )
            file.seek(table + 4)
            announced.append((int.from_bytes(file.read(4), "little"), "compressed chunks", 20))
    for count, what, smallest in announced:
        if count * smallest > size:
            raise ReadError(f"{path.name}: {count} {what} announced, file has {size} bytes. Is it damaged?")


def _missing(path: Path, packages: str, error: ImportError) -> ReadError:
    return ReadError(
        f"{path.name}: reading {path.suffix} needs {packages} ({error}). "
        'Install with: pip install "ocsdf3d[scan]"'
    )
