"""`write`: a mesh or a cloud → a file, whole or not at all."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray

from ..durable import draft_of, put_in_place
from ..geometry import PointCloud
from .errors import WriteError
from .shapes import known_colors, known_normals
from .stl import FACET

__all__ = ["CLOUD_WRITABLE", "COLORED", "WRITABLE", "check_writable", "write"]

FLOAT32_LOSS = 1e-4  # of the longest side: what GLB and STL may move a vertex by; the default grid has 5e-3


def write(
    path: str | os.PathLike[str],
    shape: trimesh.Trimesh | PointCloud,
    attributes: Mapping[str, Any] | None = None,
) -> Path:
    """Write a mesh or a cloud and return the path; an existing file is replaced at once, or on failure kept.

    Parameters
    ----------
    path : path
        Extension `.ply`, `.obj`, `.off`, `.stl` or `.glb` for a mesh; `.ply`, `.xyz` or `.npy` for a cloud.
    shape : trimesh.Trimesh or PointCloud
        PLY (binary, float64) keeps normals that were given, vertex colours and numeric `vertex_attributes`;
        GLB and OBJ keep colours; XYZ keeps normals; OFF and STL hold the triangles only. NPY is the (n, 3)
        float64 array.
    attributes : mapping of str to (n,) or (n, k) array, optional
        Numbers to go with the points of a cloud, PLY only; a mesh has its own `vertex_attributes`.

    Raises
    ------
    WriteError
        The extension, folder or shape does not allow it, or the disk is full.

    Notes
    -----
    PLY, OBJ, OFF, XYZ and NPY return every coordinate bit for bit. GLB and STL are float32 by format: where
    that would move a vertex by more than 1e-4 of the longest side (a shape far from the origin), they are
    refused.

    Examples
    --------
    >>> write("ball.ply", trimesh.creation.icosphere())  # doctest: +SKIP
    PosixPath('ball.ply')
    """
    if isinstance(shape, PointCloud):
        path = check_writable(path, CLOUD_WRITABLE)
        if attributes and path.suffix.lower() != ".ply":
            raise WriteError(f"{path.name}: only PLY keeps the attributes of points. Use .ply.")
        content = CLOUD_WRITERS[path.suffix.lower()](shape, attributes or {})
    elif isinstance(shape, trimesh.Trimesh):
        if attributes:
            raise WriteError("`attributes` are for clouds; a mesh has `vertex_attributes`.")
        path = check_writable(path)
        _check_mesh(path, shape)
        content = MESH_WRITERS[path.suffix.lower()](shape)
    else:
        raise WriteError(f"`shape` must be a trimesh.Trimesh or a PointCloud; got {type(shape).__name__}.")
    write_content(path, content)
    return path


def check_writable(path: str | os.PathLike[str], extensions: Sequence[str] | None = None) -> Path:
    """Return `path` if a file can be written there; ask before long work starts.

    Parameters
    ----------
    path : path
        Where to write.
    extensions : sequence of str or None
        What it may end with, in lower case with the dot; None takes `WRITABLE`, the formats of meshes.

    Raises
    ------
    WriteError
        Another extension; the folder is missing or not writable; `path` is a folder or a protected file.
    """
    path = Path(path)
    extensions = WRITABLE if extensions is None else extensions
    if path.suffix.lower() not in extensions:
        raise WriteError(
            f"{path.name}: cannot write {path.suffix or 'without an extension'}. Use {' '.join(extensions)}."
        )
    folder = path.resolve().parent
    if not folder.is_dir():
        raise WriteError(f"{path}: there is no folder {folder}. Create it first.")
    if path.exists() and not path.is_file():
        raise WriteError(f"{path}: exists and is not a file. Choose another name.")
    for place in (folder, path):
        if place.exists() and not os.access(place, os.W_OK):
            raise WriteError(f"{place}: no permission to write there. Choose another place.")
    return path


def write_content(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step: a reader sees the old file or the new one, never a part."""
    try:
        with draft_of(path) as draft:
            draft.write_bytes(content)
            put_in_place(draft, path)
    except OSError as error:
        raise WriteError(f"{path}: {error.strerror or error}. Nothing was written.") from error


def _check_mesh(path: Path, mesh: trimesh.Trimesh) -> None:
    vertices = np.asarray(mesh.vertices)
    if not len(vertices) or not len(mesh.faces):
        raise WriteError(
            f"{path.name}: nothing to write: the mesh has {len(vertices)} vertices, {len(mesh.faces)} faces."
        )
    finite = np.isfinite(vertices).all(axis=1)
    if not finite.all():
        count, first = np.count_nonzero(~finite), int(np.argmin(finite))
        raise WriteError(
            f"{path.name}: {count} of {len(vertices)} vertices are not finite, the first is {first}."
        )
    if path.suffix.lower() in (".glb", ".stl"):
        with np.errstate(over="ignore"):
            moved = float(np.abs(vertices.astype(np.float32) - vertices).max())
        longest = float(np.ptp(vertices, axis=0).max())
        if moved > FLOAT32_LOSS * longest:
            raise WriteError(
                f"{path.name}: {path.suffix} holds float32 only, which would move vertices by {moved:.3g} "
                f"where the longest side is {longest:.3g}. Write .ply or .obj, or move it to the origin."
            )


def _ply(
    points: NDArray,
    normals: NDArray | None,
    colors: NDArray | None,
    attributes: Mapping[str, Any],
    faces: NDArray | None,
) -> bytes:
    columns: dict[str, NDArray] = dict(zip("xyz", points.T.astype("<f8"), strict=True))
    if normals is not None:
        columns |= zip(("nx", "ny", "nz"), normals.T.astype("<f8"), strict=True)
    if colors is not None:
        columns |= zip(("red", "green", "blue"), colors.T, strict=True)
    for name, values in attributes.items():
        label = re.sub(r"\W+", "_", name)
        values = np.asarray(values)
        if values.dtype.kind not in "fiub" or values.ndim not in (1, 2) or len(values) != len(points):
            raise WriteError(
                f"vertex attribute {name!r} must be (n,) or (n, k) numbers for {len(points)} vertices; "
                f"got {values.shape} {values.dtype}. Remove it from `vertex_attributes`."
            )
        parts = (
            {label: values} if values.ndim == 1 else {f"{label}_{k}": part for k, part in enumerate(values.T)}
        )
        for key, part in parts.items():
            if key in columns:
                raise WriteError(f"vertex attribute {name!r} would be a second property {key}. Rename it.")
            columns[key] = _ply_type(part)
    names = {"f4": "float", "f8": "double", "u1": "uchar", "i4": "int"}
    vertex = np.empty(len(points), [(name, column.dtype) for name, column in columns.items()])
    for name, column in columns.items():
        vertex[name] = column
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    header += [f"property {names[column.dtype.str[1:]]} {name}" for name, column in columns.items()]
    body = vertex.tobytes()
    if faces is not None:
        face = np.empty(len(faces), [("size", "u1"), ("corners", "<i4", 3)])
        face["size"], face["corners"] = 3, faces
        header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
        body += face.tobytes()
    return "\n".join([*header, "end_header", ""]).encode() + body


def _ply_type(values: NDArray) -> NDArray:
    """Return values in the smallest type of {uchar, int, float, double} that holds them exactly."""
    if values.dtype == bool or values.dtype == np.uint8:
        return values.astype("u1")
    if values.dtype.kind in "iu" and values.min(initial=0) >= -(2**31) and values.max(initial=0) < 2**31:
        return values.astype("<i4")
    return values.astype("<f4" if values.dtype in (np.float16, np.float32) else "<f8")


def _mesh_ply(mesh: trimesh.Trimesh) -> bytes:
    normals = known_normals(mesh)
    return _ply(
        np.asarray(mesh.vertices),
        normals,
        known_colors(mesh),
        mesh.vertex_attributes,
        np.asarray(mesh.faces),
    )


def _lines(opening: str, rows: NDArray) -> str:
    """Return the rows as text, each after `opening`; Python's shortest form reads back bit for bit."""
    return "".join([f"{opening}{' '.join(map(repr, row))}\n" for row in rows.tolist()])


def _mesh_obj(mesh: trimesh.Trimesh) -> bytes:
    vertices, colors = np.asarray(mesh.vertices), known_colors(mesh)
    if colors is not None:  # red, green, blue from 0 to 1 after the place, as most programs read them
        vertices = np.hstack([vertices, np.round(colors / 255.0, 6)])
    return (_lines("v ", vertices) + _lines("f ", np.asarray(mesh.faces) + 1)).encode()


def _mesh_off(mesh: trimesh.Trimesh) -> bytes:
    counts = f"OFF\n{len(mesh.vertices)} {len(mesh.faces)} 0\n"
    return (counts + _lines("", np.asarray(mesh.vertices)) + _lines("3 ", np.asarray(mesh.faces))).encode()


def _mesh_stl(mesh: trimesh.Trimesh) -> bytes:
    facets = np.zeros(len(mesh.faces), FACET)
    facets["vertices"] = mesh.triangles
    facets["normal"] = mesh.face_normals
    return b"ocsdf3d".ljust(80) + np.array(len(facets), "<u4").tobytes() + facets.tobytes()


def _mesh_glb(mesh: trimesh.Trimesh) -> bytes:
    plain = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=known_colors(mesh), process=False)
    content = plain.export(file_type="glb")
    assert isinstance(content, bytes)
    return content


def _cloud_ply(cloud: PointCloud, attributes: Mapping[str, Any]) -> bytes:
    return _ply(cloud.points, cloud.normals, cloud.colors, attributes, None)


def _cloud_xyz(cloud: PointCloud, _: Mapping[str, Any]) -> bytes:
    table = cloud.points if cloud.normals is None else np.hstack([cloud.points, cloud.normals])
    return "".join([" ".join(map(repr, row)) + "\n" for row in table.tolist()]).encode()


def _cloud_npy(cloud: PointCloud, _: Mapping[str, Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, cloud.points, allow_pickle=False)
    return stream.getvalue()


MESH_WRITERS: dict[str, Callable[[trimesh.Trimesh], bytes]] = {
    ".ply": _mesh_ply,
    ".obj": _mesh_obj,
    ".off": _mesh_off,
    ".stl": _mesh_stl,
    ".glb": _mesh_glb,
}
CLOUD_WRITERS: dict[str, Callable[[PointCloud, Mapping[str, Any]], bytes]] = {
    ".ply": _cloud_ply,
    ".xyz": _cloud_xyz,
    ".npy": _cloud_npy,
}
COLORED = (".ply", ".obj", ".glb")  # hold the colours of vertices
WRITABLE = tuple(MESH_WRITERS)
CLOUD_WRITABLE = tuple(CLOUD_WRITERS)
