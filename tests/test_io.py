"""Readers and writers: every dialect, every refusal, and the real files where they are."""

from __future__ import annotations

import csv
import json
import os
import struct
import sys
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import trimesh

from ocsdf3d.geometry import PointCloud
from ocsdf3d.io import CLOUD_WRITABLE, READABLE, WRITABLE, ReadError, WriteError, check_writable, read, write
from ocsdf3d.io.pcd import decompress
from ocsdf3d.io.reading import READERS

# A tetrahedron; each coordinate needs all 17 digits, and none survives float32.
VERTICES = np.array([[0.1, 0.2, 0.3], [1.1, 0.2, 0.3], [0.1, 1.2, 0.3], [0.1, 0.2, 1.3]])
FACES = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
UNIT = VERTICES / np.linalg.norm(VERTICES, axis=1, keepdims=True)
V = "".join(f"{x!r} {y!r} {z!r}\n" for x, y, z in VERTICES.tolist())
F = "".join(f"3 {a} {b} {c}\n" for a, b, c in FACES.tolist())


def put(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def same_mesh(shape, vertices=VERTICES, faces=FACES):
    assert isinstance(shape, trimesh.Trimesh)
    assert shape.vertices.dtype == np.float64
    np.testing.assert_array_equal(shape.vertices, vertices)
    np.testing.assert_array_equal(shape.faces, faces)


def same_cloud(shape, points=VERTICES, normals=None, colors=None):
    assert isinstance(shape, PointCloud)
    np.testing.assert_array_equal(shape.points, points)
    for found, wanted in ((shape.normals, normals), (shape.colors, colors)):
        assert (found is None) == (wanted is None)
        if wanted is not None:
            np.testing.assert_allclose(found, wanted, rtol=1e-14)  # a second normalisation moves the last bit


def refused(path: Path, *words: str) -> str:
    with pytest.raises(ReadError) as caught:
        read(path)
    message = str(caught.value)
    assert path.name in message
    for word in words:
        assert word in message, message
    assert "\n" not in message
    return message


# ---- OFF


@pytest.mark.parametrize(
    "text",
    [
        f"OFF\n4 4 6\n{V}{F}",
        f"OFF4 4 0\n{V}{F}",  # ModelNet40
        f"OFF 4 4 0\n{V}{F}",
        f"off\n4 4\n{V}{F}",
        f"\n# made by hand\nOFF # keyword\n\n4 4 0 # counts\n{V}\n# faces\n{F}",
        f"OFF\n4 4 0\n{V}{F}".replace("\n", "\r\n"),
        f"OFF\n4 4 0\n{V}{F}".replace("\n", "\r"),
        f"\ufeffOFF\n4 4 0\n{V}{F}",
        "OFF\n4 4 0\n" + V + F.replace("\n", " 255 0 0\n"),  # a colour on every face
        "OFF\n4 4 0\n" + V + F.replace("\n", "  \n", 2).replace("\n", " 0.5 0.5 0.5 1\n", 1),  # on one face
        f"OFF\n4 4 0\n{V}{F}".rstrip(),
    ],
)
def test_off_dialects(tmp_path, text):
    same_mesh(read(put(tmp_path, "a.off", text)))


def test_off_comment_in_latin1(tmp_path):
    same_mesh(read(put(tmp_path, "a.off", f"OFF\n# caf\xe9 \x85 4 4 4\n4 4 0\n{V}{F}".encode("latin-1"))))


def test_off_quads_and_polygons_split_as_fans(tmp_path):
    ring = [[float(k), float(k * k), 0.0] for k in range(5)]
    body = "".join(f"{x!r} {y!r} {z!r}\n" for x, y, z in ring)
    shape = read(put(tmp_path, "a.off", f"OFF\n5 3 0\n{body}4 0 1 2 3\n3 0 3 4\n5 0 1 2 3 4\n"))
    fan = [[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 1, 2], [0, 2, 3], [0, 3, 4]]
    same_mesh(shape, np.array(ring), fan)
    quads = read(put(tmp_path, "b.off", f"OFF\n5 2 0\n{body}4 0 1 2 3\n4 4 3 2 1\n"))
    same_mesh(quads, np.array(ring), [[0, 1, 2], [0, 2, 3], [4, 3, 2], [4, 2, 1]])
    edge = read(put(tmp_path, "c.off", f"OFF\n5 2 0\n{body}2 0 1\n3 0 1 2\n"))  # a segment has no area
    same_mesh(edge, np.array(ring), [[0, 1, 2]])


@pytest.mark.parametrize(
    ("keyword", "extra", "normals", "colors"),
    [
        ("COFF", "255 128 0 255", False, True),
        ("COFF", "255 128 0", False, True),
        ("COFF", "1.0 0.502 0 1", False, True),  # 0.502 × 255 = 128.01
        ("NOFF", "0 0 2", True, False),
        ("CNOFF", "0 0 2 255 128 0 255", True, True),
        ("STOFF", "0.25 0.75", False, False),
        ("STCNOFF", "0 0 2 255 128 0 255 0.25 0.75", True, True),
    ],
)
def test_off_with_normals_colors_and_texture(tmp_path, keyword, extra, normals, colors):
    body = V.replace("\n", f" {extra}\n")
    expected_normals = [[0, 0, 1]] * 4 if normals else None
    expected_colors = [[255, 128, 0]] * 4 if colors else None
    same_cloud(
        read(put(tmp_path, "a.off", f"{keyword}\n4 0 0\n{body}")), VERTICES, expected_normals, expected_colors
    )
    mesh = read(put(tmp_path, "b.off", f"{keyword}\n4 4 0\n{body}{F}"))
    same_mesh(mesh)
    assert (mesh.visual.kind == "vertex") == colors
    if colors:
        assert mesh.visual.vertex_colors[:, :3].tolist() == expected_colors
    if normals:
        assert mesh.vertex_normals.tolist() == expected_normals


def test_off_points_only(tmp_path):
    same_cloud(read(put(tmp_path, "a.off", f"OFF\n4 0 0\n{V}")))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("OFF\n8 0 0\n" + "0 0 0\n" * 5, ["line 7", "expected 8 vertices, file ends after 5"]),
        (f"OFF\n4 4 0\n{V}3 0 1 2\n", ["line 7", "expected 4 faces, file ends after 1"]),
        (f"OFF\n4 1 0\n{V}{F}", ["line 8", "3 lines follow"]),
        (f"OFF\n1000000000000 4 0\n{V}{F}", ["expected 1000000000000 vertices"]),
        (f"OFF\n4 1000000000000 0\n{V}{F}", ["expected 1000000000000 faces"]),
        ("OFF\n-4 4 0\n", ["line 2", "negative"]),
        ("OFF\n4 -4 0\n", ["line 2", "negative"]),
        ("OFF\n0 0 0\n", ["no vertices"]),
        ("OFF\nfour 4 0\n", ["line 2", "counts", "four"]),
        ("OFF\n", ["counts"]),
        (f"OFF\n4 4 0\n{V.replace('1.2', 'x1.2')}{F}", ["line 5", "'x1.2' is not a number"]),
        (f"OFF\n4 4 0\n{V.replace('1.2 ', '')}{F}", ["line 5", "2 values, but 3 in line 3"]),
        (f"OFF\n4 4 0\n{V.replace('1.2', 'nan')}{F}", ["1 of 4 rows", "row 2"]),
        (f"OFF\n4 4 0\n{V.replace('1.1', 'inf')}{F}", ["1 of 4 rows", "row 1"]),
        (f"OFF\n4 4 0\n{V}{F.replace('3 1 2 3', '3 1 2 9')}", ["face 2 names vertex 9", "0 to 3"]),
        (f"OFF\n4 4 0\n{V}{F.replace('3 1 2 3', '3 1 2 -1')}", ["face 2 names vertex -1"]),
        (f"OFF\n4 4 0\n{V}{F.replace('3 1 2 3', '4 1 2 3')}", ["line 9", "a face of 4 corners, but 3"]),
        (f"OFF\n4 4 0\n{V}{F.replace('3 1 2 3', '3 1 2 2.5')}", ["line 9", "whole numbers"]),
        (f"OFF\n4 4 0\n{V}{F.replace('3 1 2 3', '0 1 2 3')}", ["line 9", "a face of 0 corners"]),
        ("4OFF\n1 0 0\n0 0 0 1\n", ["three-dimensional"]),
        ("nOFF\n4\n1 0 0\n0 0 0 1\n", ["three-dimensional"]),
        (f"NOFF\n4 4 0\n{V}{F}", ["3 values a vertex are too few"]),
        (f"COFF\n4 4 0\n{V}{F}", ["3 values a vertex are too few"]),
        (b"OFF BINARY\n\0\0\0\4\0\0\0\4\0\0\0\0", ["binary OFF"]),
        ("solid cube\n", ["line 1", "expected the keyword OFF"]),
        ("# nothing\n\n", ["nothing but"]),
        ("OFF\n1 0 0\n0 0 0\n".encode("utf-16"), ["not plain text"]),
    ],
)
def test_off_refusals(tmp_path, text, words):
    refused(put(tmp_path, "broken.off", text), *words)


# ---- OBJ

OBJ_V = "".join(f"v {line}\n" for line in V.splitlines())


def obj_faces(form: str) -> str:
    return "".join("f " + " ".join(form.format(k=k + 1, back=k - 4) for k in face) + "\n" for face in FACES)


@pytest.mark.parametrize("form", ["{k}", "{k}/{k}", "{k}//{k}", "{k}/{k}/{k}", "{back}", "{back}//{back}"])
def test_obj_corner_forms(tmp_path, form):
    extra = "".join("vt 0 0\nvn 0 0 1\n" for _ in range(4))
    head = "# by hand\nmtllib missing.mtl\no part\ng side\ns off\nusemtl red\n"
    same_mesh(read(put(tmp_path, "a.obj", head + OBJ_V + extra + obj_faces(form))))


def test_obj_negative_indices_count_from_where_they_stand(tmp_path):
    first, second = OBJ_V.splitlines()[:3], OBJ_V.splitlines()[1:]
    text = "\n".join([*first, "f -3 -2 -1", *second, "f -3 -2 -1", ""])
    same_mesh(
        read(put(tmp_path, "a.obj", text)), np.vstack([VERTICES[:3], VERTICES[1:]]), [[0, 1, 2], [3, 4, 5]]
    )


def test_obj_polygons_continued_lines_and_crlf(tmp_path):
    text = (OBJ_V + "f 1 2 \\\n3 4\nf 2 3 4\n").replace("\n", "\r\n")
    same_mesh(read(put(tmp_path, "a.obj", text)), faces=[[0, 1, 2], [0, 2, 3], [1, 2, 3]])


def test_obj_texture_seam_does_not_split_vertices(tmp_path):
    texture = "".join(f"vt 0.{k} 0\n" for k in range(12))
    corners = iter(range(1, 13))
    faces = "".join("f " + " ".join(f"{k + 1}/{next(corners)}" for k in face) + "\n" for face in FACES)
    shape = read(put(tmp_path, "a.obj", OBJ_V + texture + faces))
    same_mesh(shape)
    assert shape.is_watertight


def test_obj_colors_weights_and_clouds(tmp_path):
    colored = OBJ_V.replace("\n", " 1 0.502 0\n")
    rgb = [[255, 128, 0]] * 4
    same_cloud(read(put(tmp_path, "a.obj", colored)), colors=rgb)
    mesh = read(put(tmp_path, "b.obj", colored + obj_faces("{k}")))
    assert mesh.visual.vertex_colors[:, :3].tolist() == rgb
    same_cloud(read(put(tmp_path, "c.obj", OBJ_V.replace("\n", " 1.0\n"))))  # the weight w
    same_cloud(read(put(tmp_path, "d.obj", OBJ_V.replace("\n", " 1.0\n", 1))))  # not on every line
    same_cloud(read(put(tmp_path, "e.obj", OBJ_V + "vn 0 0 2\n" * 4)), normals=[[0, 0, 1]] * 4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# nothing\n", ["no vertices"]),
        (OBJ_V + "f 1 2 5\n", ["face 1 names vertex 5", "1 to 4"]),
        (OBJ_V + "f 0 1 2\n", ["face 1 names vertex 0"]),
        (OBJ_V + "f -5 1 2\n", ["face 1 names vertex 0"]),  # one before the first
        (OBJ_V + "f 1 2 x\n", ["line 5", "vertex numbers"]),
        (OBJ_V + "f\n", ["line 5", "without corners"]),
        (OBJ_V + "v 1 2\n", ["line 5", "three coordinates"]),
        (OBJ_V + "v 1 2 y\n", ["line 5", "'y' is not a number"]),
        (OBJ_V + "v 1 2 nan\n", ["1 of 5 rows", "row 4"]),
        (b"v 1 2 \0\n", ["not plain text"]),
    ],
)
def test_obj_refusals(tmp_path, text, words):
    refused(put(tmp_path, "broken.obj", text), *words)


# ---- PLY

PLY_TYPES = {"ascii": None, "binary_little_endian": "<", "binary_big_endian": ">"}


def ply(kind: str, polygons=FACES, *, n=None, m=None, extra="", fields="") -> bytes:
    """A PLY with normals, colours and an int label; `fields` go between the vertices and the faces."""
    n, m = n or len(VERTICES), m if m is not None else len(polygons)
    header = (
        f"ply\nformat {kind} 1.0\ncomment made by hand\nobj_info num_cols 512\nelement vertex {n}\n"
        "property double x\nproperty double y\nproperty double z\n"
        "property float nx\nproperty float ny\nproperty float nz\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\nproperty int label\n"
        f"{fields}element face {m}\n{extra}property list uchar int vertex_indices\nend_header\n"
    ).encode()
    order = PLY_TYPES[kind]
    body = b""
    for k, (x, y, z) in enumerate(VERTICES.tolist()):
        if order:
            body += struct.pack(f"{order}dddfffBBBi", x, y, z, 0, 0, 2, 255, 128, 0, k - 2)
        else:
            body += f"{x!r} {y!r} {z!r} 0 0 2 255 128 0 {k - 2}\n".encode()
    if fields:
        body += struct.pack(f"{order}Bii", 2, 7, 7) if order else b"2 7 7\n"
    for polygon in polygons:
        mark = (9,) if extra else ()
        if order:
            body += struct.pack(f"{order}{len(mark)}BB{len(polygon)}i", *mark, len(polygon), *polygon)
        else:
            body += (" ".join(map(str, [*mark, len(polygon), *polygon])) + "\n").encode()
    return header + body


@pytest.mark.parametrize("kind", PLY_TYPES)
@pytest.mark.parametrize("extra", ["", "property uchar flags\n"])
@pytest.mark.parametrize("fields", ["", "element strips 1\nproperty list uchar int corners\n"])
def test_ply_kinds(tmp_path, kind, extra, fields):
    mesh = read(put(tmp_path, "a.ply", ply(kind, extra=extra, fields=fields)))
    same_mesh(mesh)
    assert mesh.vertex_normals.tolist() == [[0, 0, 1]] * 4
    assert mesh.visual.vertex_colors[:, :3].tolist() == [[255, 128, 0]] * 4
    assert mesh.vertex_attributes["label"].tolist() == [-2, -1, 0, 1]
    assert mesh.vertex_attributes["label"].dtype == np.int32
    polygons = [[0, 1, 2, 3], [0, 2, 1]]  # of unequal size
    split = read(put(tmp_path, "b.ply", ply(kind, polygons, extra=extra, fields=fields)))
    same_mesh(split, faces=[[0, 1, 2], [0, 2, 3], [0, 2, 1]])
    cloud = read(put(tmp_path, "c.ply", ply(kind, [])))
    same_cloud(cloud, normals=[[0, 0, 1]] * 4, colors=[[255, 128, 0]] * 4)


def test_ply_range_grid_crlf_and_short_names(tmp_path):
    text = (
        "ply\nformat ascii 1.0\nobj_info is_mesh 0\nelement vertex 4\n"
        "property float32 x\nproperty float32 y\nproperty float32 z\n"
        "element range_grid 3\nproperty list uchar int vertex_indices\nend_header\n"
    )
    grid = "0\n1 2\n0\n"
    same_cloud(read(put(tmp_path, "a.ply", text + V + grid)))
    same_cloud(read(put(tmp_path, "b.ply", (text + V + grid).replace("\n", "\r\n"))))
    mesh = text.replace("range_grid 3", "face 4").replace("vertex_indices", "vertex_index")
    same_mesh(read(put(tmp_path, "c.ply", mesh + V + F)))


def test_ply_binary_body_may_open_with_a_line_end(tmp_path):
    head = b"ply\nformat binary_little_endian 1.0\nelement vertex 2\nproperty uchar x\nproperty uchar y\n"
    path = put(tmp_path, "a.ply", head + b"property uchar z\nend_header\n" + bytes([10, 13, 10, 13, 10, 13]))
    same_cloud(read(path), [[10, 13, 10], [13, 10, 13]])


@pytest.mark.parametrize("kind", PLY_TYPES)
def test_ply_elements_without_records_or_properties(tmp_path, kind):
    whole = ply(kind)
    for empty in ("element nothing 1000000000000\n", "element strips 0\nproperty list uchar int corners\n"):
        same_mesh(
            read(put(tmp_path, "a.ply", whole.replace(b"element face", empty.encode() + b"element face")))
        )
        same_mesh(
            read(put(tmp_path, "b.ply", whole.replace(b"element vertex", empty.encode() + b"element vertex")))
        )
    one = ply(kind, [[0, 1, 2]])
    refused(put(tmp_path, "c.ply", one[: 2 - len(one)] if kind == "ascii" else one[:-1]))


def test_ply_rows_shorter_than_the_header(tmp_path):
    head = "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
    short = head + "property float w\nend_header\n" + V
    refused(put(tmp_path, "a.ply", short), "line 9", "3 values, but the header announces 4")
    flags = (
        head
        + "element face 4\nproperty list uchar int vertex_indices\nproperty uchar a\nend_header\n"
        + V
        + F
    )
    refused(put(tmp_path, "b.ply", flags), "line 15", "not a record of face")


@pytest.mark.parametrize("kind", PLY_TYPES)
def test_ply_cut_anywhere_is_refused(tmp_path, kind):
    whole = ply(kind, [[0, 1, 2, 3], [0, 2, 1]])
    body = whole.index(b"end_header")
    # In text a cut inside the last number or the last line end goes unseen: "2 1" and "2 1\n" read alike.
    for end in range(body, len(whole) - (2 if kind == "ascii" else 0)):
        with pytest.raises(ReadError):
            read(put(tmp_path, "cut.ply", whole[:end]))


@pytest.mark.parametrize("kind", PLY_TYPES)
def test_ply_refusals(tmp_path, kind):
    whole = ply(kind)
    line = 20 if kind == "ascii" else None  # 18 header lines, then two vertices
    vertices = whole.index(b"end_header") + len("end_header\n")
    size = 47 if kind != "ascii" else len(b"".join(whole[vertices:].splitlines(True)[:1]))
    cut = (
        vertices + 2 * size
        if kind != "ascii"
        else whole.index(VERTICES[2, 1].astype(str).encode() + b" ") - 4
    )
    message = refused(put(tmp_path, "a.ply", whole[:cut]), "expected 4 vertices, file ends after 2")
    assert line is None or f"line {line}" in message
    refused(put(tmp_path, "b.ply", ply(kind, m=9)), "expected 9 faces, file ends after 4")
    refused(put(tmp_path, "c.ply", ply(kind, n=10**12)), "expected 1000000000000 vertices")
    refused(put(tmp_path, "d.ply", ply(kind, m=10**12)), "expected 1000000000000 faces")
    refused(put(tmp_path, "e.ply", ply(kind, [[0, 1, 2], [0, 1, 4]])), "face 1 names vertex 4", "0 to 3")
    refused(put(tmp_path, "f.ply", ply(kind, [[0, 1, 2], [0, 1, -1]])), "face 1 names vertex -1")
    refused(put(tmp_path, "g.ply", ply(kind).replace(b"element vertex 4", b"element vertex -4")), "line 5")
    nan = ply(kind).replace(b"1.2 0.3", b"nan 0.3")
    if kind != "ascii":
        nan = ply(kind).replace(
            struct.pack(PLY_TYPES[kind] + "d", 1.2), struct.pack(PLY_TYPES[kind] + "d", np.nan)
        )
    refused(put(tmp_path, "h.ply", nan), "1 of 4 rows", "row 2")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"ply\n", b"plo\n", ["line 1"]),
        (b"end_header", b"end_heading", ["no `end_header`"]),
        (b"format ascii 1.0\n", b"", ["names no format"]),
        (b"format ascii", b"format morse", ["line 2"]),
        (b"double x", b"quadruple x", ["line 6", "quadruple"]),
        (b"double x", b"double u", ["no x, y, z"]),
        (b"double y", b"double x", ["two properties of one name"]),
        (b"list uchar int", b"list float int", ["line 17"]),
        (b"vertex_indices", b"corner_indices", ["`vertex_indices`", "corner_indices"]),
        (b"element vertex 4", b"element vertex 0", ["no vertices", "0 vertex, 4 face"]),
        (b"element face 4", b"element tristrips 4", ["triangle strips"]),
        (b"3 0 2 1", b"3 0 2 1.5", ["whole number"]),
        (b"3 0 2 1", b"3 0 nan 1", ["whole number"]),
        (b"3 0 2 1", b"3 0 x 1", ["line 23", "'x' is not a number"]),
        (b"3 0 2 1", b"4 0 2 1", ["line 23", "not a record of face"]),
        (b"255 128 0", b"256 128 0", ["property red of vertex", "uint8"]),
        (b" 255 128 0 -2\n", b"\n", ["line 20", "10 values, but 6 in line 19"]),
    ],
)
def test_ply_header_and_text_refusals(tmp_path, old, new, words):
    content = ply("ascii")
    assert old in content
    refused(put(tmp_path, "broken.ply", content.replace(old, new, 1)), *words)


@pytest.mark.parametrize("extension", READABLE)
def test_random_bytes_under_any_name(tmp_path, extension):
    noise = np.random.default_rng(0).bytes(5000)
    refused(put(tmp_path, f"noise{extension}", noise))
    refused(put(tmp_path, f"zeros{extension}", bytes(5000)))
    refused(put(tmp_path, f"tiny{extension}", b"\x01"))


# ---- STL


def stl_ascii(n_facets: int = 4) -> str:
    lines = ["solid made by hand"]
    for face in FACES[:n_facets]:
        lines += ["facet normal 0 0 0", "outer loop"]
        lines += ["vertex " + " ".join(map(repr, VERTICES[k].tolist())) for k in face]
        lines += ["endloop", "endfacet"]
    return "\n".join([*lines, "endsolid made by hand", ""])


def stl_binary(header: bytes = b"by hand") -> bytes:
    facets = b"".join(struct.pack("<12fH", 0, 0, 0, *VERTICES[face].ravel(), 0) for face in FACES)
    return header.ljust(80) + struct.pack("<I", 4) + facets


def test_stl_ascii_and_binary(tmp_path):
    corners, order = VERTICES[FACES].reshape(-1, 3), np.arange(12).reshape(-1, 3)
    same_mesh(read(put(tmp_path, "a.stl", stl_ascii())), corners, order)
    same_mesh(read(put(tmp_path, "b.stl", stl_ascii().upper())), corners, order)
    rounded = corners.astype(np.float32).astype(np.float64)
    same_mesh(read(put(tmp_path, "c.stl", stl_binary())), rounded, order)
    same_mesh(read(put(tmp_path, "d.stl", stl_binary(b"solid by some exporters"))), rounded, order)


def test_stl_refusals(tmp_path):
    refused(put(tmp_path, "a.stl", stl_binary()[:-1]), "expected 4 facets, file ends after 3")
    refused(put(tmp_path, "b.stl", stl_binary()[:80] + b"\xff\xff\xff\xff"), "expected 4294967295 facets")
    refused(put(tmp_path, "c.stl", bytes(84)), "no facets")
    refused(put(tmp_path, "none.stl", "solid a\n# facet normal\nendsolid a\n"), "no facets")
    refused(put(tmp_path, "d.stl", stl_ascii()[:-40]), "expected 12 vertices of 4 facets")
    refused(put(tmp_path, "e.stl", stl_ascii().replace("1.2", "x", 1)), "line 5", "'x' is not a number")
    refused(put(tmp_path, "f.stl", stl_ascii().replace("1.2", "nan", 1)), "rows are not", "row 1")


# ---- GLB, glTF, 3MF


def scene() -> trimesh.Scene:
    """A tetrahedron twice, moved, one of them mirrored: 2 × (4 vertices, 4 faces)."""
    mesh = trimesh.Trimesh(VERTICES, FACES, process=False)
    built = trimesh.Scene()
    built.add_geometry(mesh, transform=trimesh.transformations.translation_matrix([5, 0, 0]))
    built.add_geometry(mesh, transform=np.diag([1.0, 1.0, -1.0, 1.0]))
    return built


def test_scene_is_one_mesh_with_transforms_applied():
    mesh = read(scene())
    assert (len(mesh.vertices), len(mesh.faces)) == (8, 8)
    np.testing.assert_allclose(mesh.bounds, [[0.1, 0.2, -1.3], [6.1, 1.2, 1.3]], rtol=1e-15)
    # A mirror image keeps its volume positive only if its faces are turned: 2 × 1/6.
    assert mesh.volume == pytest.approx(1 / 3, rel=1e-12)


@pytest.mark.parametrize("extension", ["glb", "3mf"])
def test_scene_files(tmp_path, extension):
    path = put(tmp_path, f"a.{extension}", scene().export(file_type=extension))
    mesh = read(path)
    assert (len(mesh.vertices), len(mesh.faces)) == (8, 8)
    np.testing.assert_allclose(mesh.bounds, [[0.1, 0.2, -1.3], [6.1, 1.2, 1.3]], rtol=1e-6)  # float32
    assert mesh.volume == pytest.approx(1 / 3, rel=1e-6)
    refused(put(tmp_path, f"cut.{extension}", path.read_bytes()[:-30]))


def test_gltf_with_its_buffers(tmp_path):
    for name, content in scene().export(file_type="gltf").items():
        put(tmp_path, name, content)
    path = next(tmp_path.glob("*.gltf"))
    assert len(read(path).faces) == 8
    document = json.loads(path.read_text())
    document["extensionsRequired"] = ["KHR_draco_mesh_compression"]
    refused(put(tmp_path, "draco.gltf", json.dumps(document)), "KHR_draco_mesh_compression")
    document["extensionsRequired"] = []
    document["accessors"] = [{"componentType": 5126, "type": "VEC3", "count": 10**12}]
    refused(put(tmp_path, "huge.gltf", json.dumps(document)), "1000000000000")
    refused(put(tmp_path, "empty.gltf", '{"asset": {"version": "2.0"}}'))
    refused(put(tmp_path, "deep.gltf", "[" * 100_000))  # a RecursionError inside


def test_3mf_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "bomb.3mf"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("3D/3dmodel.model", "x")
    content = path.read_bytes()
    at = content.index(b"PK\x01\x02") + 24  # the size in the archive's directory
    refused(
        put(tmp_path, "bomb.3mf", content[:at] + struct.pack("<I", 2**31) + content[at + 4 :]), "2147483648"
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "x")
    refused(path, "no 3D/3dmodel.model")


# ---- plain text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.xyz", V),
        ("a.txt", "# x y z\n\n" + V.replace(" ", "\t")),
        ("a.csv", V.replace(" ", ",")),
        ("a.csv", V.replace(" ", ", ")),
        ("a.csv", V.replace(" ", ",").replace("\n", ",\r\n")),  # a delimiter at the end
        ("a.csv", "x,y,z\n" + V.replace(" ", ",")),
        ("a.csv", '"X [m]","Y [m]","Z [m]"\n' + V.replace(" ", ",")),
        ("a.csv", "//X,Y,Z\n" + V.replace(" ", ",")),  # CloudCompare
        ("a.csv", "first,second,third\n" + V.replace(" ", ",")),
        ("a.csv", "x;y;z\n" + V.replace(" ", ";")),
        ("a.csv", "x;y;z\n" + V.replace(".", ",").replace(" ", ";")),  # decimal commas
        ("a.csv", V.replace(".", ",").replace(" ", ";")),
        (
            "a.csv",
            "id,z,y,x,name\n" + "".join(f"{k},{z},{y},{x},p{k}\n" for k, (x, y, z) in enumerate(VERTICES)),
        ),
        ("a.txt", "x y z\n" + V),
        ("a.txt", V.replace("\n", " ground\n")),  # a label behind the coordinates
        ("a.txt", V.replace("\n", " 0.7\n")),  # an intensity
        ("a.pts", "4\n" + V),
        ("a.xyz", "4\n" + V),
        ("a.pts", V),
        ("a.pts", "# by hand\nd 1 1 1\ns 1 1 1\n" + "".join(f"p {line}\n" for line in V.splitlines())),
    ],
)
def test_text_dialects(tmp_path, name, text):
    same_cloud(read(put(tmp_path, name, text)))


@pytest.mark.parametrize(
    ("name", "extra", "normals", "colors"),
    [
        ("a.xyzn", "0 0 2", True, False),
        ("a.pwn", "0 0 1", True, False),
        ("a.txt", "0 0 1", True, False),  # whole numbers, but none above 1
        ("a.txt", "255 128 0", False, True),
        ("a.pts", "-1200 255 128 0", False, True),  # an intensity, then a colour
        ("a.txt", "0.2 0.4 0.1", False, False),  # of length 0.46: no normals
        ("a.txt", "0.7 0 0 1", False, False),  # seven columns that are no colour: not told apart, skipped
        ("a.txt", "0 0 1 255 128 0", True, True),
        ("a.txt", "255 128 0 0 0 1", True, True),
    ],
)
def test_text_normals_and_colors(tmp_path, name, extra, normals, colors):
    path = put(tmp_path, name, V.replace("\n", f" {extra}\n"))
    same_cloud(
        read(path), VERTICES, [[0, 0, 1]] * 4 if normals else None, [[255, 128, 0]] * 4 if colors else None
    )


def test_text_columns_by_name(tmp_path):
    rows = "".join(f"255,{x},{y},{z},128,0,0,0,2\n" for x, y, z in VERTICES.tolist())
    cloud = read(put(tmp_path, "a.csv", "Red,X,Y,Z,Green,Blue,nx,ny,nz\n" + rows))
    same_cloud(cloud, normals=[[0, 0, 1]] * 4, colors=[[255, 128, 0]] * 4)


def test_pwn_with_points_before_normals(tmp_path):
    same_cloud(read(put(tmp_path, "a.pwn", "4\n" + V + "0 0 2\n" * 4)), normals=[[0, 0, 1]] * 4)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.xyz", "1 2\n3 4\n", ["got shape (2, 2)", "ocsdf3d.oneclass"]),
        ("a.xyz", V + "1 2\n", ["line 5", "2 values, but 3 in line 1"]),
        ("a.xyz", V + "1 2 b\n", ["line 5", "'b' is not a number"]),
        ("a.xyz", V + "1 2 nan\n", ["1 of 5 rows", "row 4"]),
        ("a.xyz", V + "1 inf 3\n", ["1 of 5 rows", "row 4"]),
        ("a.xyz", "1_0 2 3\n", ["1_0"]),  # a number to Python, to no one else
        ("a.xyz", "# none\n", ["nothing but"]),
        ("a.xyz", "hello\n", ["line 1", "'hello' is not a number"]),
        ("a.xyz", "hello world\nagain\n", ["line 1", "do not name x, y, z"]),
        ("a.xyz", "C 0 0 0\nH 0 0 1\n", ["line 1", "'C' is not a number"]),  # a molecule
        ("a.csv", "id,lat,lon,h\n1,2,3,4\n", ["line 1", "do not name x, y, z"]),
        ("a.csv", "x,y,z\n1,2,3\n1,2\n", ["line 3", "2 values, 3 wanted"]),
        ("a.csv", "1,2,3\n1,,3\n", ["line 2", "'' is not a number"]),
        ("a.pts", "6\n" + V, ["line 5", "expected 6 points, file ends after 4"]),
        ("a.pts", "1000000000000\n" + V, ["expected 1000000000000 points"]),
        ("a.pts", "3\n" + V, ["line 5", "1 lines follow"]),
        ("a.pts", "-4\n" + V, ["announces -4 points"]),
        ("a.pts", "0\n" + V, ["announces 0 points"]),
    ],
)
def test_text_refusals(tmp_path, name, text, words):
    refused(put(tmp_path, name, text), *words)


# ---- NumPy


def save_npz(path: Path, **arrays) -> Path:
    np.savez(path, **arrays)
    return path


def test_npy_and_npz(tmp_path):
    np.save(tmp_path / "a.npy", VERTICES)
    np.save(tmp_path / "b.npy", np.asfortranarray(VERTICES.astype(">f4")))
    np.save(tmp_path / "c.npy", np.hstack([VERTICES, UNIT]))
    same_cloud(read(tmp_path / "a.npy"))
    same_cloud(read(tmp_path / "b.npy"), VERTICES.astype(np.float32))
    same_cloud(read(tmp_path / "c.npy"), normals=UNIT)
    colors = np.full((4, 3), 7, np.uint8)
    same_cloud(
        read(save_npz(tmp_path / "d.npz", points=VERTICES, normals=UNIT, colors=colors)),
        VERTICES,
        UNIT,
        colors,
    )
    same_cloud(read(save_npz(tmp_path / "e.npz", whatever=VERTICES)))
    same_mesh(read(save_npz(tmp_path / "f.npz", vertices=VERTICES, faces=FACES)))


def test_npy_and_npz_never_unpickle(tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    trap = np.array([Trap()], dtype=object)
    np.save(tmp_path / "a.npy", trap, allow_pickle=True)
    np.savez(tmp_path / "b.npz", points=trap)
    refused(tmp_path / "a.npy", "object")
    refused(tmp_path / "b.npz", "object")
    assert not (tmp_path / "sprung").exists()


def test_npy_and_npz_refusals(tmp_path):
    np.save(tmp_path / "a.npy", VERTICES)
    whole = (tmp_path / "a.npy").read_bytes()
    refused(put(tmp_path, "cut.npy", whole[:-8]), "takes 96 bytes, file has 88")
    refused(
        put(tmp_path, "huge.npy", whole.replace(b"(4, 3), }            ", b"(1000000000000, 3), }")),
        "24000000000000 bytes",
    )
    np.save(tmp_path / "flat.npy", np.zeros((50, 2)))
    refused(tmp_path / "flat.npy", "(50, 2)", "ocsdf3d.oneclass")
    np.save(tmp_path / "image.npy", np.zeros((8, 8, 3)))
    refused(tmp_path / "image.npy", "(8, 8, 3)")
    refused(save_npz(tmp_path / "keys.npz", X=VERTICES, y=np.zeros(4)), "found X, y")
    refused(save_npz(tmp_path / "faces.npz", vertices=VERTICES, faces=FACES + 1), "face 1 names vertex 4")
    refused(save_npz(tmp_path / "floats.npz", vertices=VERTICES, faces=FACES * 1.0), "`faces` must be")
    archive = save_npz(tmp_path / "whole.npz", points=VERTICES).read_bytes()
    for end in range(4, len(archive), 37):
        refused(put(tmp_path, "cut.npz", archive[:end]))
    at = archive.index(VERTICES[:1].tobytes())
    refused(put(tmp_path, "bad.npz", archive[:at] + b"\xff" + archive[at + 1 :]), "CRC")


# ---- PCD

PCD_HEAD = (
    "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z normal_x normal_y normal_z rgb _\nSIZE 4 4 4 4 4 4 4 1\n"
    "TYPE F F F F F F F U\nCOUNT 1 1 1 1 1 1 1 3\nWIDTH {n}\nHEIGHT 1\n"
    "VIEWPOINT 0 0 0 1 0 0 0\nPOINTS {n}\nDATA {kind}\n"
)
PCD_ROW = np.dtype([("p", "<f4", 3), ("n", "<f4", 3), ("c", "<u4"), ("pad", "u1", 3)])


def pcd(kind: str, n=None) -> bytes:
    """The tetrahedron and one point without return, 5 × 1."""
    rows = np.zeros(5, PCD_ROW)
    rows["p"][:4], rows["p"][4] = VERTICES, np.nan
    rows["n"], rows["c"] = [0, 0, 2], 255 << 16 | 128 << 8
    head = PCD_HEAD.format(n=n or 5, kind=kind).encode()
    if kind == "binary":
        return head + rows.tobytes()
    if kind == "binary_compressed":  # literal runs only, of at most 32 bytes
        flat = b"".join(rows[name].T.tobytes() for name in ("p", "n", "c")) + rows["pad"].tobytes()
        parts = [flat[at : at + 32] for at in range(0, len(flat), 32)]
        packed = b"".join(bytes([len(part) - 1]) + part for part in parts)
        return head + struct.pack("<II", len(packed), len(flat)) + packed
    color = repr(float(rows["c"].view("<f4")[0]))
    return (
        head + "".join(f"{x!r} {y!r} {z!r} 0 0 2 {color} 0 0 0\n" for x, y, z in rows["p"].tolist()).encode()
    )


@pytest.mark.parametrize("kind", ["ascii", "binary", "binary_compressed"])
def test_pcd_kinds(tmp_path, kind):
    path = put(tmp_path, "a.pcd", pcd(kind))
    same_cloud(read(path), VERTICES.astype(np.float32), [[0, 0, 1]] * 4, [[255, 128, 0]] * 4)
    body = path.read_bytes().index(b"DATA")
    for end in range(body, len(path.read_bytes()) - 2, 11):
        refused(put(tmp_path, "cut.pcd", path.read_bytes()[:end]))
    refused(put(tmp_path, "huge.pcd", pcd(kind, n=10**12)), "1000000000000")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"FIELDS x", b"FIELDS u", ["no fields x, y, z"]),
        (b"SIZE 4", b"SIZE 3", ["bad PCD header"]),
        (b"SIZE 4 ", b"SIZE ", ["bad PCD header"]),
        (b"COUNT 1", b"COUNT -1", ["bad PCD header"]),
        (b"POINTS 5", b"POINTS -5", ["announces -5 points"]),
        (b"POINTS 5", b"POINTS five", ["bad PCD header"]),
        (b"DATA ascii", b"DATA morse", ["morse"]),
        (b"DATA ascii", b"DATE ascii", ["no line `DATA"]),
        (
            b"COUNT 1 1 1 1 1 1 1 3",
            b"COUNT 1 1 1 1 1 1 1 2",
            ["10 values a point, but the header announces 9"],
        ),
        (b"0 0 2", b"0 x 2", ["line 12", "'x' is not a number"]),
        (b"0.1", b"inf", ["3 of 4 rows are not"]),  # no mark of "no return"
    ],
)
def test_pcd_refusals(tmp_path, old, new, words):
    content = pcd("ascii").replace(b"0.10000000149011612", b"0.1")
    assert old in content
    refused(put(tmp_path, "broken.pcd", content.replace(old, new)), *words)


def test_pcd_without_a_return(tmp_path):
    content = pcd("binary").replace(VERTICES.astype("<f4")[0].tobytes(), b"\xff" * 12)
    rows = np.frombuffer(content[content.index(b"DATA binary\n") + 12 :], PCD_ROW).copy()
    rows["p"] = np.nan
    head = content[: content.index(b"DATA binary\n") + 12]
    refused(put(tmp_path, "a.pcd", head + rows.tobytes()), "all 5 points are NaN")


def test_lzf_by_hand():
    # "abc" literally, then 7 + 2 bytes from 3 back: the reference overlaps what it writes.
    assert decompress(bytes([2]) + b"abc" + bytes([7 << 5, 0, 2]), 12) == b"abcabcabcabc"
    assert decompress(bytes([0]) + b"z" + bytes([7 << 5, 255, 0]), 265) == b"z" * 265
    for packed, size in (
        (bytes([1 << 5, 0]), 3),
        (bytes([7 << 5]), 3),
        (bytes([2]) + b"ab", 3),
        (bytes([0, 65]), 2),
    ):
        with pytest.raises(ValueError, match="damaged LZF data"):
            decompress(packed, size)


# ---- laser scans


def test_las_and_laz(tmp_path):
    laspy = pytest.importorskip("laspy", reason="extra `scan`")
    pytest.importorskip("lazrs", reason="extra `scan`")
    header = laspy.LasHeader(point_format=3, version="1.2")
    header.offsets, header.scales = [5e6, 5e5, 0], [0.001] * 3
    las = laspy.LasData(header)
    points = VERTICES + np.array([5e6, 5e5, 0])
    las.x, las.y, las.z = points.T
    las.red, las.green, las.blue = np.full((3, 4), 0x80FF, np.uint16)
    for name in ("a.las", "a.laz"):
        las.write(tmp_path / name)
        cloud = read(tmp_path / name)
        np.testing.assert_allclose(cloud.points, points, rtol=0, atol=2e-9)  # one ulp of 5e6 is 9e-10
        assert cloud.colors.tolist() == [[0x80] * 3] * 4
        content = (tmp_path / name).read_bytes()
        refused(
            put(tmp_path, f"cut{name[1:]}", content[:-50]),
            *(["4 points, file ends after 2"] * (name == "a.las")),
        )
        refused(put(tmp_path, f"head{name[1:]}", content[:200]))
        # The number of points is a uint32 at byte 107 of a 1.2 header.
        refused(put(tmp_path, f"huge{name[1:]}", content[:107] + b"\xff\xff\xff\xff" + content[111:]))
        # And of variable length records at byte 100: laspy would search for each of them, for minutes.
        refused(
            put(tmp_path, f"long{name[1:]}", content[:100] + b"\xff\xff\xff\xff" + content[104:]), "records"
        )
        # Of the chunks behind the compressed points: the parallel decoder of lazrs would end the process.
        table = int.from_bytes(
            content[(start := int.from_bytes(content[96:100], "little")) : start + 8], "little"
        )
        if name == "a.laz":
            absurd = content[: table + 4] + b"\xff\xff\xff\xff" + content[table + 8 :]
            refused(put(tmp_path, "table.laz", absurd), "4294967295 compressed chunks")
            streamed = content[:start] + b"\xff" * 8 + content[start + 8 :]  # then the offset closes the file
            path = put(tmp_path, "streamed.laz", streamed + table.to_bytes(8, "little"))
            np.testing.assert_array_equal(read(path).points, cloud.points)
            refused(put(tmp_path, "lost.laz", streamed), "table of chunks")


def test_e57(tmp_path):
    pye57 = pytest.importorskip("pye57", reason="extra `scan`")
    path = tmp_path / "a.e57"
    file = pye57.E57(str(path), mode="w")
    values = {f"cartesian{axis}": VERTICES[:, k].copy() for k, axis in enumerate("XYZ")}
    colors = {f"color{name}": np.full(4, 9, np.uint8) for name in ("Red", "Green", "Blue")}
    invalid = {"cartesianInvalidState": np.array([0, 0, 0, 1], np.int8)}
    file.write_scan_raw(values | colors)
    turn = np.array([0.5**0.5, 0, 0, 0.5**0.5])  # a quarter about z: x → y, y → −x
    file.write_scan_raw(values | colors | invalid, rotation=turn, translation=np.array([10.0, 0, 0]))
    file.close()
    cloud = read(path)
    turned = np.stack([10 - VERTICES[:3, 1], VERTICES[:3, 0], VERTICES[:3, 2]], axis=1)
    np.testing.assert_allclose(cloud.points, np.vstack([VERTICES, turned]), atol=2e-6)  # pye57 writes float32
    assert cloud.colors.tolist() == [[9, 9, 9]] * 7
    refused(put(tmp_path, "cut.e57", path.read_bytes()[:2000]))
    assert path.exists()
    assert (tmp_path / "cut.e57").exists()  # reading a damaged file must not remove it


@pytest.mark.parametrize(
    ("name", "start", "module"),
    [("a.las", b"LASF", "laspy"), ("a.laz", b"LASF", "lazrs"), ("a.e57", b"ASTM-E57", "pye57")],
)
def test_missing_extra_names_the_command(tmp_path, monkeypatch, name, start, module):
    monkeypatch.setitem(sys.modules, module, None)
    refused(put(tmp_path, name, start + bytes(400)), 'pip install "ocsdf3d[scan]"', module)


# ---- objects


def test_arrays():
    same_cloud(read(VERTICES))
    same_cloud(read(VERTICES.tolist()))
    cloud = PointCloud(VERTICES)
    assert read(cloud) is cloud
    for bad in (np.zeros((5, 2)), np.full((5, 3), np.nan), None, 3, object(), {"points": VERTICES}):
        with pytest.raises(ValueError, match=r"must|cannot"):
            read(bad)


def test_object_that_gives_no_array():
    class OnDevice:  # as a torch tensor on a GPU does
        def __array__(self, dtype=None, copy=None):
            raise TypeError("copy the tensor to host memory first")

    with pytest.raises(ReadError, match=r"array of a OnDevice \(copy the tensor to host memory first\)"):
        read(OnDevice())


def test_trimesh_objects():
    mesh = trimesh.Trimesh(VERTICES, FACES, vertex_colors=[[1, 2, 3, 255]] * 4, process=False)
    mesh.vertex_attributes["height"] = VERTICES[:, 2]
    copy = read(mesh)
    same_mesh(copy)
    assert copy.visual.vertex_colors.tolist() == [[1, 2, 3, 255]] * 4
    assert copy.vertex_attributes["height"].tolist() == VERTICES[:, 2].tolist()
    copy.vertices[0] = 7
    np.testing.assert_array_equal(mesh.vertices, VERTICES)
    same_cloud(read(trimesh.PointCloud(VERTICES)))
    same_cloud(read(trimesh.PointCloud(VERTICES, colors=[[1, 2, 3, 255]] * 4)), colors=[[1, 2, 3]] * 4)
    same_cloud(read(trimesh.Trimesh(VERTICES, process=False)))
    same_cloud(read(trimesh.Scene(trimesh.PointCloud(VERTICES))))
    for empty in (trimesh.Scene(), trimesh.Trimesh()):
        with pytest.raises(ReadError, match="nothing to read"):
            read(empty)
    with pytest.raises(ReadError, match="face 1 names vertex 4"):
        read(trimesh.Trimesh(VERTICES, FACES + 1, process=False))
    with pytest.raises(ReadError, match="1 of 4 rows"):
        read(trimesh.Trimesh(np.where(VERTICES == 1.1, np.nan, VERTICES), FACES, process=False))


@pytest.mark.parametrize("tensor", [False, True])
def test_open3d_objects(tensor):
    try:
        import open3d
    except (ImportError, OSError) as error:  # OSError: a system library that open3d wants is not there
        pytest.skip(f"open3d cannot be imported: {error}")
    points = open3d.utility.Vector3dVector(VERTICES)
    colors = open3d.utility.Vector3dVector(np.tile([1.0, 0.502, 0.0], (4, 1)))
    mesh = open3d.geometry.TriangleMesh(points, open3d.utility.Vector3iVector(FACES))
    cloud = open3d.geometry.PointCloud(points)
    cloud.normals, cloud.colors = open3d.utility.Vector3dVector(UNIT), colors
    mesh.vertex_colors = colors
    dtype = np.float64
    if tensor:
        mesh = open3d.t.geometry.TriangleMesh.from_legacy(mesh)
        cloud = open3d.t.geometry.PointCloud.from_legacy(cloud)
        dtype = np.float32  # of the conversion to tensors
    found = read(mesh)
    same_mesh(found, VERTICES.astype(dtype))
    assert found.visual.vertex_colors[:, :3].tolist() == [[255, 128, 0]] * 4
    found = read(cloud)
    np.testing.assert_array_equal(found.points, VERTICES.astype(dtype))
    np.testing.assert_allclose(found.normals, UNIT, atol=1e-7)  # float32 in tensors
    assert found.colors.tolist() == [[255, 128, 0]] * 4
    with pytest.raises(ReadError, match="at least one row"):
        read(open3d.geometry.PointCloud())


# ---- normals, paths


def test_one_unusable_normal_drops_all_with_a_warning(tmp_path):
    path = put(tmp_path, "a.xyzn", V.replace("\n", " 0 0 1\n", 3).replace("1.3\n", "1.3 0 0 0\n"))
    with pytest.warns(UserWarning, match=r"a\.xyzn: 1 of 4 normals are zero or not finite"):
        same_cloud(read(path))


def test_paths_that_are_no_shapes(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read(tmp_path / "missing.off")
    with pytest.raises(FileNotFoundError, match="no such file"):
        read(str(tmp_path / "missing.unknown"))
    with pytest.raises(ReadError, match="a directory"):
        read(tmp_path)
    refused(put(tmp_path, "a.docx", "OFF"), "unknown extension '.docx'", *READABLE)
    refused(put(tmp_path, "plain", "OFF"), "unknown extension ''")
    for extension in READABLE:
        refused(put(tmp_path, f"empty{extension}", b""), "empty")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.off")
        with pytest.raises(ReadError, match="regular"):
            read(tmp_path / "pipe.off")


@pytest.mark.parametrize(
    ("failure", "becomes"),
    [
        (struct.error("unpack requires 4 bytes\nand more"), ReadError),
        (RecursionError(), ReadError),
        (MemoryError(), ReadError),
        (type("PanicException", (BaseException,), {})("mid > len"), ReadError),  # lazrs, by pyo3
        (PermissionError("locked"), PermissionError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_what_a_library_throws(tmp_path, monkeypatch, failure, becomes):
    def fail(path, data):
        raise failure

    monkeypatch.setitem(READERS, ".off", fail)
    path = put(tmp_path, "a.off", "OFF")
    if becomes is ReadError:
        assert type(failure).__name__ in refused(path, "not a readable .off file")
    else:
        with pytest.raises(becomes):
            read(path)


def test_extension_in_capitals_and_path_as_text(tmp_path):
    same_mesh(read(str(put(tmp_path, "A.OFF", f"OFF\n4 4 0\n{V}{F}"))))


# ---- writing

FAR = np.array([5e6, 3e6, -4e6])


@pytest.mark.parametrize("extension", WRITABLE)
def test_mesh_round_trip(tmp_path, extension):
    mesh = trimesh.Trimesh(VERTICES, FACES, process=False)
    path = write(tmp_path / f"a{extension}", mesh)
    assert path == tmp_path / f"a{extension}"
    assert [item.name for item in tmp_path.iterdir()] == [path.name]  # no draft is left
    found = read(path)
    wanted = VERTICES if extension in (".ply", ".obj", ".off") else VERTICES.astype(np.float32)
    np.testing.assert_array_equal(found.triangles, wanted[FACES])
    assert len(found.vertices) == (12 if extension == ".stl" else 4)
    content = path.read_bytes()
    assert write(path, mesh).read_bytes() == content


@pytest.mark.parametrize("extension", [".ply", ".obj", ".off"])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_far_coordinates_survive_bit_for_bit(tmp_path, extension, scale):
    vertices = VERTICES * scale + FAR
    same_mesh(
        read(write(tmp_path / f"a{extension}", trimesh.Trimesh(vertices, FACES, process=False))), vertices
    )


@pytest.mark.parametrize("extension", [".glb", ".stl"])
def test_float32_formats_refuse_what_they_would_move(tmp_path, extension):
    path = tmp_path / f"a{extension}"
    # At 5e6 float32 is 0.5 coarse: a quarter of the unit tetrahedron, but 2.5e-5 of one of side 1e4.
    with pytest.raises(WriteError, match=r"float32 only.*Write \.ply or \.obj"):
        write(path, trimesh.Trimesh(VERTICES + FAR, FACES, process=False))
    with pytest.raises(WriteError, match="float32 only"):
        write(path, trimesh.Trimesh(VERTICES * 1e39, FACES, process=False))
    assert not any(tmp_path.iterdir())
    big = VERTICES * 1e4 + FAR
    found = read(write(path, trimesh.Trimesh(big, FACES, process=False)))
    np.testing.assert_allclose(found.triangles, big[FACES], rtol=0, atol=0.25)


def test_ply_keeps_normals_colors_and_attributes(tmp_path):
    mesh = trimesh.Trimesh(
        VERTICES, FACES, vertex_normals=UNIT, vertex_colors=[[1, 2, 3, 255]] * 4, process=False
    )
    scalars = {
        "distance": np.array([0.1, -0.2, 0.3, 0.4]),
        "confidence": np.array([0.1, 0.2, 0.3, 0.4], np.float32),
        "label": np.array([-5, 0, 1, 2**31 - 1]),
        "big": np.array([0, 1, 2, 2**40]),
        "inside": np.array([True, False, True, False]),
    }
    mesh.vertex_attributes |= scalars
    mesh.vertex_attributes["two words"] = np.arange(8.0).reshape(4, 2)
    found = read(write(tmp_path / "a.ply", mesh))
    same_mesh(found)
    np.testing.assert_allclose(found.vertex_normals, UNIT, rtol=1e-14)
    assert found.visual.vertex_colors.tolist() == [[1, 2, 3, 255]] * 4
    for name, values in scalars.items():
        np.testing.assert_array_equal(found.vertex_attributes[name], values)
    assert found.vertex_attributes["two_words_1"].tolist() == [1, 3, 5, 7]
    assert b"property float confidence" in (tmp_path / "a.ply").read_bytes()


def test_trimesh_reads_what_is_written(tmp_path):
    mesh = trimesh.creation.icosphere(subdivisions=2)
    for extension in WRITABLE:
        other = trimesh.load_mesh(write(tmp_path / f"a{extension}", mesh))
        assert other.is_watertight, extension
        assert other.volume == pytest.approx(mesh.volume, rel=1e-6)  # float32


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("x", np.zeros(4), "second property x"),
        ("a", np.zeros(3), r"must be \(n,\) or \(n, k\) numbers for 4 vertices; got \(3,\)"),
        ("a", np.array(["a"] * 4), "must be"),
    ],
)
def test_attributes_that_cannot_be_written(tmp_path, name, values, message):
    mesh = trimesh.Trimesh(VERTICES, FACES, process=False)
    mesh.vertex_attributes[name] = values
    with pytest.raises(WriteError, match=message):
        write(tmp_path / "a.ply", mesh)
    assert not any(tmp_path.iterdir())


def test_cloud_round_trip(tmp_path):
    colors = np.arange(12, dtype=np.uint8).reshape(4, 3)
    cloud = PointCloud(VERTICES + FAR, UNIT, colors)
    same_cloud(read(write(tmp_path / "a.ply", cloud)), VERTICES + FAR, UNIT, colors)
    same_cloud(read(write(tmp_path / "a.xyz", cloud)), VERTICES + FAR, UNIT)
    same_cloud(read(write(tmp_path / "a.npy", cloud)), VERTICES + FAR)
    same_cloud(read(write(tmp_path / "b.xyz", PointCloud(VERTICES))))
    with pytest.raises(WriteError, match=r"Use \.ply \.xyz \.npy"):
        write(tmp_path / "a.stl", cloud)


def test_write_refusals(tmp_path):
    mesh = trimesh.Trimesh(VERTICES, FACES, process=False)
    for bad, shape, message in [
        ("a.docx", mesh, "Use .ply .obj .off .stl .glb"),
        ("plain", mesh, "without an extension"),
        ("a.xyz", mesh, "cannot write .xyz"),
        ("missing/a.ply", mesh, "there is no folder"),
        ("a.ply", trimesh.Trimesh(), "nothing to write"),
        ("a.ply", trimesh.Trimesh(VERTICES * np.nan, FACES, process=False), "4 of 4 vertices are not finite"),
        ("a.ply", VERTICES, "must be a trimesh.Trimesh or a PointCloud; got ndarray"),
    ]:
        with pytest.raises(WriteError, match=message):
            write(tmp_path / bad, shape)
    (tmp_path / "folder.ply").mkdir()
    with pytest.raises(WriteError, match="not a file"):
        write(tmp_path / "folder.ply", mesh)
    put(tmp_path, "file", "x")
    with pytest.raises(WriteError, match="there is no folder"):
        write(tmp_path / "file" / "a.ply", mesh)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["file", "folder.ply"]


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failed_write_keeps_the_old_file_and_leaves_no_draft(tmp_path, monkeypatch, failure):
    path = put(tmp_path, "a.ply", "old")
    whole = Path.write_bytes

    def fail(self, content):
        whole(self, content[:10])
        raise failure

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(KeyboardInterrupt if isinstance(failure, KeyboardInterrupt) else WriteError):
        write(path, trimesh.Trimesh(VERTICES, FACES, process=False))
    assert [item.name for item in tmp_path.iterdir()] == ["a.ply"]
    assert path.read_text() == "old"


def test_check_writable(tmp_path, monkeypatch):
    assert check_writable(tmp_path / "a.PLY") == tmp_path / "a.PLY"
    assert check_writable(str(tmp_path / "a.st"), [".st"]) == tmp_path / "a.st"
    with pytest.raises(WriteError, match=r"Use \.st"):
        check_writable(tmp_path / "a.ply", (".st",))
    assert not any(tmp_path.iterdir())
    monkeypatch.setattr(os, "access", lambda *_: False)  # a superuser may write anywhere
    with pytest.raises(WriteError, match="no permission"):
        check_writable(tmp_path / "a.ply")


def test_a_link_stays_a_link(tmp_path):
    target = put(tmp_path, "target.ply", "old")
    (tmp_path / "link.ply").symlink_to(target)
    write(tmp_path / "link.ply", trimesh.Trimesh(VERTICES, FACES, process=False))
    assert (tmp_path / "link.ply").is_symlink()
    same_mesh(read(target))


def test_lists_of_extensions():
    assert set(WRITABLE) <= set(READABLE)
    assert set(CLOUD_WRITABLE) <= set(READABLE)


# ---- speed


def test_large_text_files_read_in_a_second(tmp_path):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200_000, 3))
    path = write(tmp_path / "a.xyz", PointCloud(points))
    start = time.perf_counter()
    cloud = read(path)
    xyz = time.perf_counter() - start
    np.testing.assert_array_equal(cloud.points, points)
    faces = rng.integers(0, 50_000, (100_000, 3))
    path = write(tmp_path / "a.off", trimesh.Trimesh(points[:50_000], faces, process=False))
    start = time.perf_counter()
    mesh = read(path)
    off = time.perf_counter() - start
    np.testing.assert_array_equal(mesh.faces, faces)
    # Measured 0.2 s and 0.1 s; parsing number by number in Python takes several seconds on a busy machine.
    assert xyz < 2
    assert off < 2


# ---- real files


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_real_mesh(shared_data):
    for row in table(shared_data / "meshes" / "meshes.csv"):
        path = shared_data / "meshes" / row["name"]
        vertices = int(row["vertices_raw"])
        if path.suffix == ".obj":
            # The table splits vertices at texture seams and drops unused ones; we keep the `v` records.
            vertices = sum(line.startswith(b"v ") for line in path.read_bytes().splitlines())
        mesh = read(path)
        assert isinstance(mesh, trimesh.Trimesh), path.name
        assert (len(mesh.vertices), len(mesh.faces)) == (vertices, int(row["faces_raw"])), path.name
        used = mesh.vertices[mesh.faces.ravel()]
        wanted = [float(row[f"extent_{axis}"]) for axis in "xyz"]
        np.testing.assert_allclose(
            np.ptp(used, axis=0), wanted, rtol=1e-4, atol=1e-5 * max(wanted), err_msg=path.name
        )


def test_every_real_cloud(shared_data):
    for row in table(shared_data / "points" / "points.csv"):
        path = shared_data / "points" / row["name"]
        if path.suffix == ".las":
            pytest.importorskip("laspy", reason="extra `scan`")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            cloud = read(path)
        assert isinstance(cloud, PointCloud), path.name
        assert len(cloud) == int(row["finite_points"]), path.name
        assert (cloud.normals is not None) == (row["normals"] == "True"), path.name
        # The table has the extents of float32 copies of some files: half a unit in the last place each end.
        slack = 2 * np.spacing(np.float32(float(row["max_abs_coordinate"])))
        wanted = [float(row[f"extent_{axis}"]) for axis in "xyz"]
        np.testing.assert_allclose(cloud.box.size, wanted, rtol=1e-4, atol=slack, err_msg=path.name)


def test_real_modelnet_headers_agree(shared_data):
    meshes = shared_data / "meshes"
    fused = read(meshes / "modelnet_bathtub_0001_fused_header.off")
    plain = read(meshes / "modelnet_bathtub_0001.off")
    same_mesh(fused, plain.vertices, plain.faces)
