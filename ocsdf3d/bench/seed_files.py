"""Small whole files of every format that is read, for tests and for `fuzz` to damage."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

__all__ = ["FIELD", "gltf", "scene_of_parts", "seeds"]

FIELD = ".safetensors"


def seeds() -> dict[str, list[bytes]]:
    """Return small whole files of each format, extension → contents, if its extra is installed."""
    found: dict[str, list[bytes]] = {}
    ball = trimesh.creation.icosphere(subdivisions=1)
    points = np.asarray(ball.vertices)
    normals = np.asarray(ball.vertex_normals)
    rows = "".join(f"{x:.5f} {y:.5f} {z:.5f}\n" for x, y, z in points.tolist())
    both = "".join(
        f"{a:.4f} {b:.4f} {c:.4f} {d:.4f} {e:.4f} {f:.4f}\n"
        for (a, b, c), (d, e, f) in zip(points.tolist(), normals.tolist(), strict=True)
    )
    count = len(points)
    faces = "".join(f"3 {a} {b} {c}\n" for a, b, c in ball.faces.tolist())
    flat = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvn 0 0 1\nf 1//1 2//1 3//1 4//1\nf -4 -2 -1\n"
    painted = rows.replace("\n", " 255 128 0\n")

    def text(*contents: str) -> list[bytes]:
        return [content.encode() for content in contents]

    found[".off"] = text(
        f"OFF\n{count} {len(ball.faces)} 0\n{rows}{faces}",
        f"OFF{count} 1 0\n{rows}4 0 1 2 3 255 0 0\n",
        f"CNOFF\n{count} 0 0\n{both.replace(chr(10), ' 1 0 0 1' + chr(10))}",
        f"# c\nSTOFF {count} 2 0\n{rows.replace(chr(10), ' 0.5 0.5' + chr(10))}3 0 1 2\n5 0 1 2 3 4\n",
    )
    obj = "".join(f"v {line}\n" for line in rows.splitlines())
    corners = "".join(f"f {a + 1} {b + 1} {c + 1}\n" for a, b, c in ball.faces.tolist())
    found[".obj"] = text(obj + corners, flat, obj.replace("\n", " 1 0 0\n"), "v 0 0 \\\n0\n" + flat)
    found[".stl"] = [_exported(ball, "stl"), _exported(ball, "stl_ascii")]
    found[".ply"] = [*_plys(points, normals, np.asarray(ball.faces))]
    found[".glb"] = [_exported(ball, "glb"), _exported(scene_of_parts(), "glb")]
    found[".gltf"] = [gltf(scene_of_parts())]
    found[".3mf"] = [_exported(scene_of_parts(), "3mf")]
    found[".xyz"] = text(rows, both, f"{count}\n{rows}", painted)
    found[".xyzn"] = text(both)
    found[".pwn"] = text(f"{count}\n{rows}{rows}", both)
    found[".pts"] = text(f"{count}\n{rows}", "".join(f"p {line}\n" for line in rows.splitlines()), painted)
    found[".txt"] = text("x y z\n" + rows, rows.replace("\n", " ground\n"), "X Y Z nx ny nz\n" + both)
    comma = rows.replace(" ", ",")
    found[".csv"] = text(
        "x,y,z\n" + comma, '"X [m]","Y","Z"\n' + comma, rows.replace(".", ",").replace(" ", ";"), comma
    )
    found[".npy"] = [_npy(points), _npy(np.hstack([points, normals]).astype("<f4")), _npy(points.T.copy().T)]
    found[".npz"] = [
        _npz(points=points, normals=normals),
        _npz(vertices=points, faces=np.asarray(ball.faces)),
        _npz(anything=points.astype("<i2")),
    ]
    found[".pcd"] = [*_pcds(points)]
    found |= _scans(points)
    found[FIELD] = _fields()
    return found


def _exported(shape: Any, kind: str) -> bytes:
    content = shape.export(file_type=kind)
    return content.encode() if isinstance(content, str) else bytes(content)


def scene_of_parts() -> trimesh.Scene:
    """Return one box placed twice, once turned inside out."""
    part = trimesh.creation.box()
    scene = trimesh.Scene()
    scene.add_geometry(part, node_name="a", geom_name="part")
    turned = trimesh.transformations.scale_matrix(-2)
    scene.add_geometry(part, node_name="b", geom_name="part", transform=turned)
    return scene


def gltf(scene: trimesh.Scene) -> bytes:
    """Return a glTF file with its buffers inside."""
    files = scene.export(file_type="gltf")
    document = json.loads(next(data for name, data in files.items() if name.endswith(".gltf")))
    for buffer in document["buffers"]:
        data = base64.b64encode(files[buffer["uri"]]).decode()
        buffer["uri"] = f"data:application/octet-stream;base64,{data}"
    return json.dumps(document).encode()


def _plys(points: np.ndarray, normals: np.ndarray, faces: np.ndarray) -> Iterator[bytes]:
    for order, kind in (("<", "binary_little_endian"), (">", "binary_big_endian")):
        vertex = np.zeros(len(points), [("p", f"{order}f4", 3), ("n", f"{order}f4", 3), ("c", "u1", 3)])
        vertex["p"], vertex["n"] = points, normals
        face = np.zeros(len(faces), [("k", "u1"), ("v", f"{order}i4", 3)])
        face["k"], face["v"] = 3, faces
        mixed = b"".join(
            bytes([len(loop)]) + np.array(loop, f"{order}i4").tobytes() for loop in ([0, 1, 2], [0, 2, 3, 4])
        )
        head = (
            f"ply\nformat {kind} 1.0\ncomment seed\nelement vertex {len(points)}\n"
            + "".join(f"property float {name}\n" for name in ("x", "y", "z", "nx", "ny", "nz"))
            + "".join(f"property uchar {name}\n" for name in ("red", "green", "blue"))
        )
        lists = "element face {}\nproperty list uchar int vertex_indices\nend_header\n"
        yield (head + "end_header\n").encode() + vertex.tobytes()
        yield (head + lists.format(len(faces))).encode() + vertex.tobytes() + face.tobytes()
        yield (head + lists.format(2)).encode() + vertex.tobytes() + mixed
    rows = "".join(f"{x:.4f} {y:.4f} {z:.4f}\n" for x, y, z in points.tolist())
    head = f"ply\nformat ascii 1.0\nelement vertex {len(points)}\n" + "".join(
        f"property double {name}\n" for name in "xyz"
    )
    faces_of = "element face 2\nproperty list uchar int vertex_index\nend_header\n"
    yield f"{head}{faces_of}{rows}3 0 1 2\n4 0 1 2 3\n".encode()


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def _pcds(points: np.ndarray) -> Iterator[bytes]:
    rows = np.zeros(len(points), [("p", "<f4", 3), ("c", "<u4")])
    rows["p"], rows["c"] = points, 0xFF8000
    head = (
        "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F U\nCOUNT 1 1 1 1\n"
        f"WIDTH {len(rows)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(rows)}\nDATA "
    )
    yield (head + "binary\n").encode() + rows.tobytes()
    yield (head + "ascii\n" + "".join(f"{x:.4f} {y:.4f} {z:.4f} 0\n" for x, y, z in points.tolist())).encode()
    flat = rows["p"].T.tobytes() + rows["c"].tobytes()
    runs = [flat[at : at + 32] for at in range(0, len(flat), 32)]
    packed = b"".join(bytes([len(run) - 1]) + run for run in runs)
    yield (head + "binary_compressed\n").encode() + struct.pack("<II", len(packed), len(flat)) + packed


def _scans(points: np.ndarray) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.suppress(ImportError):
            import laspy
            import lazrs  # noqa: F401

            header = laspy.LasHeader(point_format=3, version="1.2")
            header.offsets, header.scales = [5e6, 5e5, 0], [0.001] * 3
            las = laspy.LasData(header)
            las.x, las.y, las.z = (points + np.array([5e6, 5e5, 0])).T
            for extension in (".las", ".laz"):
                las.write(f"{folder}/a{extension}")
                found[extension] = [Path(f"{folder}/a{extension}").read_bytes()]
        with contextlib.suppress(ImportError):
            import pye57

            file = pye57.E57(f"{folder}/a.e57", mode="w")
            file.write_scan_raw({f"cartesian{axis}": points[:, k].copy() for k, axis in enumerate("XYZ")})
            file.close()
            found[".e57"] = [Path(f"{folder}/a.e57").read_bytes()]
    return found


def _fields() -> list[bytes]:
    """Return files of a small field that was never trained, and of a tree of it and exact shapes."""
    import torch

    from ocsdf3d.analytic import box, sphere
    from ocsdf3d.checkpoint import save
    from ocsdf3d.field import SDF
    from ocsdf3d.frame import Frame
    from ocsdf3d.geometry import Box
    from ocsdf3d.lipschitz.bound import certify
    from ocsdf3d.lipschitz.network import LipschitzNetwork, NetworkConfig

    network = LipschitzNetwork(NetworkConfig(3, width=4, depth=2), torch.Generator().manual_seed(0))
    words = {"level": 0.0, "support": "solid", "support_reason": "seed", "settings": {"seed": 0}}
    field = SDF.proved(certify(network)[0], Frame(np.zeros(3), 1.0), Box(-np.ones(3), np.ones(3)), **words)
    brick = box((1.0, 0.5, 0.5)).move((0.1, 0.0, 0.0))
    trees = (field, (field | sphere(0.5)) - brick, ~sphere(1.0).offset(0.1))
    with tempfile.TemporaryDirectory() as folder:
        return [save(f"{folder}/{k}{FIELD}", tree).read_bytes() for k, tree in enumerate(trees)]
