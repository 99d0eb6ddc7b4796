"""Shapes of other libraries: objects of trimesh and Open3D, and the formats that trimesh reads for us."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from ..geometry import PointCloud
from . import shapes
from .arrays import check_archive
from .errors import ReadError
from .scenes import check_3mf, check_gltf

__all__ = ["from_open3d", "from_trimesh", "read_3mf", "read_gltf"]


def from_trimesh(name: str, source: Any) -> PointCloud | trimesh.Trimesh:
    """Return a checked copy of a trimesh object; a scene becomes one mesh with all transforms applied.

    Parameters
    ----------
    name : str
        What to call it in messages.
    source : trimesh.Trimesh, trimesh.PointCloud or trimesh.Scene
        A Trimesh without faces, or a scene without a mesh, becomes a cloud. Vertex colours are kept; those of
        a scene only if every part has them.

    Raises
    ------
    ReadError
        Nothing in it, a coordinate that is not finite, a face that names no vertex.
    """
    parts: list[Any] = source.dump() if isinstance(source, trimesh.Scene) else [source]
    meshes = [part for part in parts if isinstance(part, trimesh.Trimesh) and len(part.faces)]
    if len(meshes) == 1:
        only = meshes[0]
        attributes = {key: np.asarray(value) for key, value in only.vertex_attributes.items()}
        return shapes.mesh(
            name, only.vertices, only.faces, shapes.known_normals(only), shapes.known_colors(only), attributes
        )
    if meshes:
        starts = np.cumsum([0, *(len(part.vertices) for part in meshes[:-1])])
        colors = [shapes.known_colors(part) for part in meshes]
        return shapes.mesh(
            name,
            np.concatenate([part.vertices for part in meshes]),
            np.concatenate([part.faces + start for part, start in zip(meshes, starts, strict=True)]),
            None,
            np.concatenate(colors) if all(color is not None for color in colors) else None,  # type: ignore[arg-type]
        )
    clouds = [
        part
        for part in parts
        if isinstance(part, (trimesh.Trimesh, trimesh.PointCloud)) and len(part.vertices)
    ]
    if not clouds:
        raise ReadError(f"{name}: no faces and no points; there is nothing to read.")
    colors = [shapes.known_colors(part) for part in clouds]
    return shapes.cloud(
        name,
        np.concatenate([part.vertices for part in clouds]),
        None,
        np.concatenate(colors) if all(color is not None for color in colors) else None,  # type: ignore[arg-type]
    )


def from_open3d(source: Any) -> PointCloud | trimesh.Trimesh:
    """Return a checked copy of an Open3D TriangleMesh or PointCloud, legacy or tensor."""
    name = f"open3d {type(source).__name__}"
    if hasattr(source, "to_legacy"):
        source = source.to_legacy()
    if hasattr(source, "triangles"):
        points, faces = np.asarray(source.vertices), np.asarray(source.triangles)
        normals, colors = np.asarray(source.vertex_normals), np.asarray(source.vertex_colors)
    else:
        points, faces = np.asarray(source.points), np.empty((0, 3), int)
        normals, colors = np.asarray(source.normals), np.asarray(source.colors)
    given = normals if len(normals) else None
    painted = shapes.as_colors(colors) if len(colors) else None
    if len(faces):
        return shapes.mesh(name, points, faces, given, painted)
    return shapes.cloud(name, points, given, painted)


def read_gltf(path: Path, data: bytes) -> PointCloud | trimesh.Trimesh:
    """Return the mesh of all parts of a GLB or glTF file, transforms applied.

    Parameters
    ----------
    path : Path
        The file; the buffers of a `.gltf` lie beside it.
    data : bytes
        Its content.

    Raises
    ------
    ReadError
        No glTF 2, compressed geometry, a part that cannot be read.
    """
    if path.suffix.lower() == ".glb":
        if data[:4] != b"glTF" or len(data) < 20:
            raise ReadError(
                f"{path.name}: not a GLB file: it starts with {data[:4]!r}. Is the extension right?"
            )
        length, size = (int(value) for value in np.frombuffer(data, "<u4", 2, 8))
        if max(length, size + 20) > len(data):
            raise ReadError(f"{path.name}: expected {length} bytes, file has {len(data)}. Is it complete?")
        document = data[20 : 20 + size]
        at = 12
        while at + 8 <= len(data):  # every chunk, before a library makes room for it
            at += 8 + int.from_bytes(data[at : at + 4], "little")
        if at > len(data):
            raise ReadError(f"{path.name}: a chunk reaches to {at} of {len(data)} bytes. Is it complete?")
    else:
        document = data
    header = json.loads(document)
    if not isinstance(header, dict):
        raise ReadError(f"{path.name}: not a glTF file: its JSON is no object.")
    packed = [name for name in header.get("extensionsRequired", []) if "compression" in name]
    if packed:
        raise ReadError(
            f"{path.name}: geometry is compressed ({', '.join(packed)}). Export it without compression."
        )
    check_gltf(path, header, len(data))
    return from_trimesh(path.name, trimesh.load_scene(path, process=False, skip_materials=True))


def read_3mf(path: Path, data: bytes) -> PointCloud | trimesh.Trimesh:
    """Return the mesh of all parts of a 3MF file, transforms applied, in the unit of the file."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        check_archive(path.name, archive)
        if not any("3d/3dmodel.model" in name.lower() for name in archive.namelist()):
            raise ReadError(f"{path.name}: no 3D/3dmodel.model in the archive. Is it a 3MF file?")
        check_3mf(path.name, archive)
    return from_trimesh(path.name, trimesh.load_scene(io.BytesIO(data), file_type="3mf", process=False))
