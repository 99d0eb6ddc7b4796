"""What a scene of instances unfolds to, counted before anything is unfolded: glTF nodes, 3MF components.

A file of a few kilobytes in which each of forty nodes holds the next one twice stands for 2⁴⁰ copies of a
mesh. Counting them takes one addition a reference.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from ocsdf3d.memory import free_memory

from .errors import ReadError

__all__ = ["check_3mf", "check_gltf", "unfolded"]

MOST = 10**15  # more is as much
BYTES = 200  # that a corner of a triangle or a vertex takes until the parts are one mesh
SIZES = {5120: 1, 5121: 1, 5122: 2, 5123: 2, 5125: 4, 5126: 4}  # component types of glTF
COMPONENTS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}


def unfolded(name: str, own: Mapping[Any, int], parts: Mapping[Any, Sequence[Any]]) -> dict[Any, int]:
    """Return for each thing its own size and, as often as it refers to them, the sizes of its parts.

    Parameters
    ----------
    name : str
        File name, for messages.
    own : mapping
        Thing → size without parts.
    parts : mapping
        Thing → what it refers to; references to nothing are left out.

    Raises
    ------
    ReadError
        A thing is a part of itself.
    """
    totals: dict[Any, int] = {}
    open_: set[Any] = set()
    for root in own:
        stack = [(root, False)]
        while stack:
            thing, seen = stack.pop()
            if seen:
                open_.discard(thing)
                total = own[thing] + sum(totals.get(part, 0) for part in parts.get(thing, ()))
                totals[thing] = min(total, MOST)
                continue
            if thing in totals:
                continue
            if thing in open_:
                raise ReadError(f"{name}: part {thing!r} of the scene holds itself. Is the file damaged?")
            open_.add(thing)
            stack.append((thing, True))
            stack.extend((part, False) for part in parts.get(thing, ()) if part in own)
    return totals


def check_gltf(path: Path, header: dict[str, Any], size: int) -> None:
    """Raise unless the numbers in the JSON of a glTF file fit its buffers, its folder and memory.

    Parameters
    ----------
    path : Path
        The file.
    header : dict
        Its JSON.
    size : int
        Bytes of the file.

    Raises
    ------
    ReadError
        Accessors larger than what they view, a scene that holds itself or unfolds beyond memory, or a buffer
        outside of the folder of the file.
    """
    for buffer in [*header.get("buffers", []), *header.get("images", [])]:
        uri = buffer.get("uri", "")
        if uri and not uri.startswith("data:"):
            place = PurePosixPath(unquote(uri))
            if urlsplit(uri).scheme or place.is_absolute() or ".." in place.parts or "\\" in uri:
                raise ReadError(
                    f"{path.name}: refers to {uri[:60]!r}, outside of its folder. Copy it beside the file."
                )
            if "byteLength" in buffer and not (path.parent / place).is_file():
                raise ReadError(f"{path.name}: there is no file {uri[:60]!r} beside it. Copy it too.")
    views, counts = header.get("bufferViews", []), []
    for accessor in header.get("accessors", []):
        count = accessor["count"]
        room = size if "bufferView" not in accessor else int(views[accessor["bufferView"]]["byteLength"])
        each = SIZES.get(accessor.get("componentType"), 1) * COMPONENTS.get(accessor.get("type"), 1)
        if not isinstance(count, int) or not 0 <= count * each <= max(room, 0):
            raise ReadError(
                f"{path.name}: an accessor announces {str(count)[:20]} items of {each} bytes, "
                f"there are {room} bytes. Is it damaged?"
            )
        counts.append(count)
    meshes = []
    for mesh in header.get("meshes", []):
        used = [
            index
            for part in mesh["primitives"]
            for index in (part.get("indices"), part.get("attributes", {}).get("POSITION"))
            if index is not None
        ]
        meshes.append(sum(counts[index] for index in used))
    nodes = header.get("nodes", [])
    own = {k: meshes[node["mesh"]] if "mesh" in node else 1 for k, node in enumerate(nodes)}
    totals = unfolded(path.name, own, {k: node.get("children", []) for k, node in enumerate(nodes)})
    roots = [k for scene in header.get("scenes", []) for k in scene.get("nodes", [])]
    _require_room(path.name, max(sum(totals.get(k, 0) for k in roots), sum(own.values())))


def check_3mf(name: str, archive: zipfile.ZipFile) -> None:
    """Raise if the components of a 3MF file unfold beyond memory, or hold themselves.

    References
    ----------
    3MF Core Specification 1.3, sections 3.4 and 4.2.
    """
    from lxml import etree  # type: ignore[import-untyped]

    own: dict[str, int] = {}
    parts: dict[str, list[str]] = {}
    items: list[str] = []
    for member in archive.namelist():
        if not member.lower().endswith(".model"):
            continue
        current = ""
        with archive.open(member) as file:
            # Entities stay as they are, so that none unfolds.
            events = etree.iterparse(file, events=("start", "end"), resolve_entities=False, no_network=True)
            for event, element in events:
                tag = etree.QName(element).localname if isinstance(element.tag, str) else ""
                if event == "start":
                    if tag == "object":
                        current = element.get("id", "")
                        own.setdefault(current, 0)
                        parts.setdefault(current, [])
                    elif tag == "component":
                        parts.setdefault(current, []).append(element.get("objectid", ""))
                    elif tag == "item":
                        items.append(element.get("objectid", ""))
                    elif tag in ("vertex", "triangle"):
                        own[current] = own.get(current, 0) + (3 if tag == "triangle" else 1)
                elif tag in ("vertex", "triangle"):
                    element.clear()
                    while element.getprevious() is not None:
                        del element.getparent()[0]
    totals = unfolded(name, own, parts)
    _require_room(name, sum(totals.get(item, 0) for item in items))


def _require_room(name: str, total: int) -> None:
    free = free_memory()
    if total * BYTES > free:
        raise ReadError(
            f"{name}: its instances unfold to {total:.3g} vertices and corners, about "
            f"{total * BYTES / 1e9:.3g} GB; {free / 1e9:.1f} GB are free. Is the file damaged?"
        )
