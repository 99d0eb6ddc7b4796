"""PLY meshes and clouds: ascii and binary of both byte orders; normals, colours and further scalars kept."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import trimesh
from numpy.typing import NDArray

from ..geometry import PointCloud
from . import shapes
from .errors import ReadError
from .rows import read_rows

__all__ = ["COLORS", "NORMALS", "header", "read_ply"]

TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4",
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float": "f4", "double": "f8", "float32": "f4", "float64": "f8",
}  # fmt: skip
NORMALS = [("nx", "ny", "nz"), ("normal_x", "normal_y", "normal_z")]
COLORS = [("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue")]


class Property(NamedTuple):
    """A column of an element; `length` is the type of the count in front of a list, None for a scalar."""

    name: str
    type: np.dtype
    length: np.dtype | None


class Lists(NamedTuple):
    """A list property: how long each list is, and all lists joined."""

    sizes: NDArray[np.int64]
    values: NDArray


Columns = dict[str, NDArray | Lists]
Order = Literal["<", ">"]


@dataclass
class Element:
    """A block of records, as the header declares it."""

    name: str
    count: int
    properties: list[Property]

    @property
    def smallest(self) -> int:
        """Bytes of a binary record whose lists are all empty."""
        return sum((item.length or item.type).itemsize for item in self.properties)

    @property
    def lists(self) -> bool:
        """Whether records may differ in size."""
        return any(item.length is not None for item in self.properties)


def read_ply(path: Path, data: bytes) -> PointCloud | trimesh.Trimesh:
    """Return the mesh, or without faces the cloud, of a PLY file.

    Parameters
    ----------
    path : Path
        Where `data` came from, for messages.
    data : bytes
        Content. Elements other than `vertex` and `face` are skipped; further scalar properties of the
        vertices of a mesh become its `vertex_attributes`.

    Raises
    ------
    ReadError
        No PLY, cut short, bad header, number or index, triangle strips instead of faces.

    References
    ----------
    G. Turk, The PLY Polygon File Format, 1994.
    """
    kind, elements, start = header(path, data)
    named = {element.name: element for element in elements}
    if "vertex" not in named or not named["vertex"].count:
        raise ReadError(f"{path.name}: no vertices; elements are {_counts(elements)}.")
    n_faces = named["face"].count if "face" in named else 0
    if not n_faces and "tristrips" in named and named["tristrips"].count:
        raise ReadError(
            f"{path.name}: triangle strips are not supported. Save the mesh with an element `face`."
        )

    wanted = ["vertex", "face"] if n_faces else ["vertex"]
    last = max(index for index, element in enumerate(elements) if element.name in wanted)
    read = _ascii if kind == "ascii" else _binary
    found = read(path, data, start, elements[: last + 1], ">" if kind == "binary_big_endian" else "<")

    vertex = {name: values for name, values in found["vertex"].items() if not isinstance(values, Lists)}
    if not {"x", "y", "z"} <= set(vertex):
        raise ReadError(
            f"{path.name}: vertices have no x, y, z; their properties are {', '.join(vertex) or 'none'}."
        )
    points = _take(vertex, [("x", "y", "z")])
    normals, colors = _take(vertex, NORMALS), _take(vertex, COLORS)
    assert points is not None
    if colors is not None:
        colors = shapes.as_colors(colors)
        vertex.pop("alpha", None)
    if not n_faces:
        return shapes.cloud(path.name, points, normals, colors)
    face = found["face"].get("vertex_indices", found["face"].get("vertex_index"))
    if not isinstance(face, Lists):
        raise ReadError(
            f"{path.name}: faces have no list `vertex_indices`; found {', '.join(found['face']) or 'none'}."
        )
    whole = face.values.astype(np.int64)
    if (whole != face.values).any():
        raise ReadError(f"{path.name}: a vertex index is not a whole number.")
    faces = shapes.fan(path.name, face.sizes, whole, len(points))
    return shapes.mesh(path.name, points, faces, normals, colors, vertex)


def _take(columns: dict[str, NDArray], names: Sequence[tuple[str, ...]]) -> NDArray | None:
    """Remove the first complete set of `names` from `columns` and return it stacked, or None."""
    for group in names:
        if all(name in columns for name in group):
            return np.stack([columns.pop(name) for name in group], axis=1)
    return None


def _counts(elements: list[Element]) -> str:
    return ", ".join(f"{element.count} {element.name}" for element in elements) or "none"


def header(path: Path, data: bytes) -> tuple[str, list[Element], int]:
    """Return format, elements and the offset of the body."""
    opening = re.match(rb"ply[ \t]*(\r\n|\n|\r)", data)
    if not opening:
        raise ReadError(f"{path.name}, line 1: expected `ply`, found {data[:12]!r}. Is the extension right?")
    end = opening[1]  # the body starts behind the same line end; a binary body may begin with any byte
    close = re.search(rb"[\r\n]end_header[ \t]*" + end, data)
    if not close:
        raise ReadError(f"{path.name}: the header has no `end_header`. Is the file complete?")
    kind, elements = "", []
    for number, line in enumerate(data[: close.start()].decode("latin-1").split(end.decode()), 1):
        match line.split():
            case ["format", ("ascii" | "binary_little_endian" | "binary_big_endian") as kind, _]:
                continue
            case ["element", name, count] if count.isascii() and count.isdigit() and len(count) < 19:
                elements.append(Element(name, int(count), []))
            case ["property", "list", length, kind_of, name] if (
                elements and TYPES.get(length, "f")[0] in "iu" and kind_of in TYPES
            ):
                elements[-1].properties.append(
                    Property(name, np.dtype(TYPES[kind_of]), np.dtype(TYPES[length]))
                )
            case ["property", kind_of, name] if elements and kind_of in TYPES:
                elements[-1].properties.append(Property(name, np.dtype(TYPES[kind_of]), None))
            case ["ply"] | ["comment", *_] | ["obj_info", *_] | []:
                continue
            case _:
                raise ReadError(f"{path.name}, line {number}: not a PLY header line: {line.strip()[:60]!r}.")
    if not kind:
        raise ReadError(
            f"{path.name}: the header names no format (ascii, binary_little_endian, binary_big_endian)."
        )
    for element in elements:
        names = [item.name for item in element.properties]
        if len(set(names)) < len(names):
            raise ReadError(
                f"{path.name}: element {element.name} has two properties of one name: {', '.join(names)}."
            )
    return kind, elements, close.end()


def _ascii(path: Path, data: bytes, start: int, elements: list[Element], order: Order) -> dict[str, Columns]:
    rows = read_rows(path, data[start:], comment=None, first_line=len(data[:start].splitlines()) + 1)
    found: dict[str, Columns] = {}
    row = 0
    for element in elements:
        if not element.properties or not element.count:
            found[element.name] = {item.name: np.empty(0) for item in element.properties}
            continue
        rows.need(row, element.count, {"vertex": "vertices", "face": "faces"}.get(element.name, element.name))
        block = range(row, row := row + element.count)
        width = len(rows.text[block[0]].split())
        columns: Columns | None = None
        if not element.lists or all(len(rows.text[k].split()) == width for k in block):
            table = rows.table(block[0], row)
            if not element.lists and width < len(element.properties):
                raise rows.error(
                    block[0], f"{width} values, but the header announces {len(element.properties)}."
                )
            columns = _alike(element, list(table.T))
        if columns is None:
            records = []
            for k in block:
                try:
                    values = [float(token) for token in rows.text[k].split()]
                    records.append(_record(element, values))
                except (ValueError, IndexError) as error:
                    raise rows.error(
                        k, f"not a record of {element.name}: {rows.text[k].strip()[:40]!r}."
                    ) from error
            columns = {
                item.name: np.array([record[k] for record in records])
                if item.length is None
                else _joined([record[k] for record in records])
                for k, item in enumerate(element.properties)
            }
        found[element.name] = {
            item.name: _declared(path, element, item, columns[item.name]) for item in element.properties
        }
    return found


def _record(element: Element, values: list[float]) -> list:
    """Return the properties of one record given as numbers."""
    record: list = []
    at = 0
    for item in element.properties:
        if item.length is None:
            record.append(values[at])
            at += 1
        else:
            size = int(values[at])
            if size < 0 or size != values[at] or at + 1 + size > len(values):
                raise ValueError("the list is shorter than announced")
            record.append(values[at + 1 : at + 1 + size])
            at += 1 + size
    return record


def _joined(lists: list) -> Lists:
    values = np.array(list(itertools.chain.from_iterable(lists)), dtype=np.float64)
    return Lists(np.fromiter(map(len, lists), np.int64, len(lists)), values)


def _alike(element: Element, columns: list[NDArray]) -> Columns | None:
    """Return the properties when every list has the length of the first; None when they differ."""
    found: Columns = {}
    at = 0
    for item in element.properties:
        if at >= len(columns):
            return None
        if item.length is None:
            found[item.name] = columns[at]
            at += 1
            continue
        size = columns[at][0]
        if not 0 <= size <= len(columns) - at - 1 or size != int(size) or (columns[at] != size).any():
            return None
        lists = columns[at + 1 : at + 1 + int(size)]
        joined = np.stack(lists, axis=1).ravel() if lists else np.empty(0)
        found[item.name] = Lists(np.full(element.count, int(size)), joined)
        at += 1 + int(size)
    return found


def _declared(path: Path, element: Element, item: Property, column: NDArray | Lists) -> NDArray | Lists:
    """Return numbers read from text in the type the header declares; floats keep all their digits."""
    if isinstance(column, Lists) or item.type.kind == "f":
        return column
    limits = np.iinfo(item.type)
    if (
        len(column)
        and not ((column >= limits.min) & (column <= limits.max) & (column == np.floor(column))).all()
    ):
        raise ReadError(
            f"{path.name}: property {item.name} of {element.name} has a value that is no {item.type.name}."
        )
    return column.astype(item.type)


def _binary(path: Path, data: bytes, start: int, elements: list[Element], order: Order) -> dict[str, Columns]:
    found: dict[str, Columns] = {}
    for element in elements:
        if not element.lists:
            record = np.dtype([(item.name, item.type.newbyteorder(order)) for item in element.properties])
            if record.itemsize == 0:
                found[element.name] = {}
                continue
            if element.count * record.itemsize > len(data) - start:
                raise _short(path, element, (len(data) - start) // record.itemsize)
            table = np.frombuffer(data, record, element.count, start)
            found[element.name] = {
                item.name: table[item.name].astype(item.type) for item in element.properties
            }
            start += element.count * record.itemsize
        else:
            found[element.name], start = _binary_lists(path, data, start, element, order)
    return found


def _short(path: Path, element: Element, found: int) -> ReadError:
    what = {"vertex": "vertices", "face": "faces"}.get(element.name, element.name)
    return ReadError(
        f"{path.name}: expected {element.count} {what}, file ends after {found}. Is it complete?"
    )


def _binary_lists(path: Path, data: bytes, start: int, element: Element, order: Order) -> tuple[Columns, int]:
    """Return the properties of an element with lists, and the offset behind it."""
    if element.count * element.smallest > len(data) - start:
        raise _short(path, element, (len(data) - start) // element.smallest)
    if not element.count:
        empty = np.empty(0, np.int64)
        return {
            item.name: Lists(empty, empty) if item.length else empty for item in element.properties
        }, start

    fields: list[tuple] = []
    at = start
    for index, item in enumerate(element.properties):  # the first record is the guess for all
        if item.length is None:
            fields.append((f"{index}", item.type.newbyteorder(order)))
            at += item.type.itemsize
            continue
        if at + item.length.itemsize > len(data):
            raise _short(path, element, 0)
        size = int(np.frombuffer(data, item.length.newbyteorder(order), 1, at)[0])
        at += item.length.itemsize + size * item.type.itemsize
        if size < 0 or at > len(data):
            raise _short(path, element, 0)
        fields.append((f"{index} size", item.length.newbyteorder(order)))
        fields.append((f"{index}", item.type.newbyteorder(order), (size,)))
    record = np.dtype(fields)
    if element.count * record.itemsize <= len(data) - start:
        table = np.frombuffer(data, record, element.count, start)
        lists = [k for k, item in enumerate(element.properties) if item.length is not None]
        if all((table[f"{k} size"] == table[f"{k} size"][0]).all() for k in lists):
            columns: Columns = {}
            for k, item in enumerate(element.properties):
                values = table[f"{k}"].astype(item.type)
                columns[item.name] = (
                    values
                    if item.length is None
                    else Lists(table[f"{k} size"].astype(np.int64), values.ravel())
                )
            return columns, start + element.count * record.itemsize
    return _walk(path, data, start, element, order)


def _walk(path: Path, data: bytes, start: int, element: Element, order: Order) -> tuple[Columns, int]:
    """Return the properties of records of unequal size, one at a time."""
    where = [np.empty(element.count, np.int64) for _ in element.properties]
    sizes = [np.ones(element.count, np.int64) for _ in element.properties]
    ends: Literal["little", "big"] = "little" if order == "<" else "big"
    for record in range(element.count):
        for k, item in enumerate(element.properties):
            size = 1
            if item.length is not None:
                width = item.length.itemsize
                size = int.from_bytes(data[start : start + width], ends, signed=item.length.kind == "i")
                start += width
            where[k][record], sizes[k][record] = start, size
            start += size * item.type.itemsize
            if size < 0 or start > len(data):
                raise _short(path, element, record)
    content = np.frombuffer(data, np.uint8)
    columns: Columns = {}
    for k, item in enumerate(element.properties):
        # Bytes of all lists: each list's first byte, then the next ones, gathered without a loop.
        lengths = sizes[k] * item.type.itemsize
        step = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        values = (
            content[np.repeat(where[k], lengths) + step].view(item.type.newbyteorder(order)).astype(item.type)
        )
        columns[item.name] = values if item.length is None else Lists(sizes[k], values)
    return columns, start
