"""PCD clouds of the Point Cloud Library: ascii, binary, and binary_compressed (LZF)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..geometry import PointCloud
from . import shapes
from .errors import ReadError
from .rows import read_rows

__all__ = ["decompress", "header", "packed_field", "read_pcd", "unpacked"]

TYPES = {f"{kind}{size}": f"<{kind.lower()}{size}" for kind in "FIU" for size in (1, 2, 4, 8)}
del TYPES["F1"], TYPES["F2"]
LARGEST_RATIO = 88  # an LZF token of 3 bytes stands for at most 264


class Field(NamedTuple):
    """A field of a point; `repeat` values of `type`."""

    name: str
    type: np.dtype
    repeat: int


def read_pcd(path: Path, data: bytes) -> PointCloud:
    """Return the cloud of a PCD file.

    Parameters
    ----------
    path : Path
        Where `data` came from, for messages.
    data : bytes
        Content. Points with a NaN coordinate, "no return" of an organised scan, are left out; fields other
        than position, normal and packed colour are skipped, the viewpoint does not move the points.

    Raises
    ------
    ReadError
        No PCD, cut short, bad header or number, no point with a return.
    """
    fields, count, kind, start, line = header(path, data)
    body = data[start:]
    record = np.dtype([(f"{k}", field.type, (field.repeat,)) for k, field in enumerate(fields)])
    if kind == "ascii":
        rows = read_rows(path, body, first_line=line)
        rows.need(0, count, "points")
        width = sum(field.repeat for field in fields)
        table = rows.table(0, count)
        if table.shape[1] != width:
            raise rows.error(0, f"{table.shape[1]} values a point, but the header announces {width}.")
        ends = np.cumsum([field.repeat for field in fields])
        columns = [table[:, end - field.repeat : end] for field, end in zip(fields, ends, strict=True)]
    else:
        if kind == "binary_compressed":
            packed, size = (int(value) for value in np.frombuffer(body[:8].ljust(8, b"\0"), "<u4"))
            if len(body) < 8 + packed:
                raise ReadError(
                    f"{path.name}: expected {packed} compressed bytes, "
                    f"file ends after {max(len(body) - 8, 0)}. Is it complete?"
                )
            if size != count * record.itemsize or size > LARGEST_RATIO * packed:
                raise ReadError(
                    f"{path.name}: {count} points take {count * record.itemsize} bytes, "
                    f"but {packed} bytes are said to unpack to {size}. Is the file damaged?"
                )
            body = decompress(body[8 : 8 + packed], size)
        if len(body) < count * record.itemsize:
            found = len(body) // record.itemsize
            raise ReadError(f"{path.name}: expected {count} points, file ends after {found}. Is it complete?")
        if kind == "binary":
            records = np.frombuffer(body, record, count)
            columns = [records[f"{k}"] for k in range(len(fields))]
        else:  # field after field
            columns, at = [], 0
            for field in fields:
                columns.append(
                    np.frombuffer(body, field.type, count * field.repeat, at).reshape(count, field.repeat)
                )
                at += field.type.itemsize * field.repeat * count

    named = {field.name: (field, column[:, 0]) for field, column in zip(fields, columns, strict=True)}
    points = _stack(named, "x", "y", "z")
    if points is None:
        raise ReadError(f"{path.name}: no fields x, y, z; there are {', '.join(named)}.")
    normals, colors = _stack(named, "normal_x", "normal_y", "normal_z"), None
    painted = packed_field(fields)
    if painted is not None:
        field, column = named[painted]
        colors = unpacked(column.astype(field.type))
    return shapes.cloud(path.name, points, normals, colors, drop_missing=True)


def _stack(named: dict[str, tuple[Field, NDArray]], *names: str) -> NDArray[np.float64] | None:
    if not all(name in named for name in names):
        return None
    return np.stack([named[name][1].astype(np.float64) for name in names], axis=1)


def packed_field(fields: list[Field]) -> str | None:
    """Return the field that holds colours, red, green and blue packed in 4 bytes, or None."""
    sizes = {field.name: field.type.itemsize for field in fields}
    name = "rgb" if "rgb" in sizes else "rgba"
    return name if sizes.get(name) == 4 else None


def unpacked(column: NDArray) -> NDArray[np.uint8]:
    """Return the colours, (n, 3), of a packed field, (n,) of 4 bytes each."""
    bits = np.ascontiguousarray(column).view(np.uint32)
    return np.stack([bits >> 16 & 255, bits >> 8 & 255, bits & 255], axis=1).astype(np.uint8)


def header(path: Path, data: bytes) -> tuple[list[Field], int, str, int, int]:
    """Return fields, number of points, kind of data, offset of the body and its first line."""
    close = re.search(rb"(?:^|\n)DATA[ \t]+(\w+)[ \t]*\r?\n", data[:65536])
    if not close:
        raise ReadError(
            f"{path.name}: no line `DATA ascii`, `binary` or `binary_compressed`. Is it a complete PCD file?"
        )
    kind = close[1].decode().lower()
    if kind not in ("ascii", "binary", "binary_compressed"):
        raise ReadError(
            f"{path.name}: unknown kind of data {kind!r}; ascii, binary and binary_compressed are known."
        )
    lines = data[: close.start()].decode("latin-1").split("\n")
    entries = {words[0].upper(): words[1:] for words in map(str.split, lines) if words and words[0][0] != "#"}
    try:
        names, sizes, types = entries["FIELDS"], entries["SIZE"], entries["TYPE"]
        counts = entries.get("COUNT", ["1"] * len(names))
        fields = [
            Field(name, np.dtype(TYPES[letter + size]), int(repeat))
            for name, size, letter, repeat in zip(names, sizes, types, counts, strict=True)
        ]
        size = entries["WIDTH"] + entries["HEIGHT"]
        count = int(entries["POINTS"][0]) if "POINTS" in entries else int(size[0]) * int(size[1])
    except (KeyError, ValueError, IndexError) as error:
        raise ReadError(
            f"{path.name}: bad PCD header ({error}); FIELDS, SIZE, TYPE, WIDTH, HEIGHT are needed."
        ) from error
    if any(not 0 < field.repeat <= 65536 for field in fields):
        raise ReadError(f"{path.name}: bad PCD header: a COUNT is not from 1 to 65536.")
    if count < 1:
        raise ReadError(f"{path.name}: the header announces {count} points; there is nothing to read.")
    return fields, count, kind, close.end(), data[: close.end()].count(b"\n") + 1


def decompress(packed: bytes, size: int) -> bytes:
    """Return the `size` bytes that an LZF stream stands for.

    Raises
    ------
    ValueError
        The stream refers to bytes before its start, ends inside a token, or has another size.

    References
    ----------
    M. Lehmann, LibLZF: a control byte below 32 opens a literal run of one more byte than its value; else its
    top three bits hold the length − 2 (7: more in the next byte) and the other five the high bits of the
    distance − 1.
    """
    out, at, end = bytearray(), 0, len(packed)
    try:
        while at < end and len(out) <= size:
            control = packed[at]
            at += 1
            if control < 32:
                out += packed[at : at + control + 1]
                at += control + 1
                continue
            length, high = control >> 5, (control & 31) << 8
            if length == 7:
                length += packed[at]
                at += 1
            start = len(out) - high - packed[at] - 1
            at += 1
            length += 2
            if start < 0:
                raise ValueError("damaged LZF data: a reference before the first byte.")
            run = out[start : start + length]
            # A reference may overlap what it writes: then the piece repeats.
            out += run if len(run) == length else (run * (length // len(run) + 1))[:length]
    except IndexError as error:
        raise ValueError("damaged LZF data: it ends inside a token.") from error
    if len(out) != size:
        raise ValueError(f"damaged LZF data: {size} bytes announced, {len(out)} found.")
    return bytes(out)
