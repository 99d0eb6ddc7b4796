"""Scenes that unfold beyond memory, hold themselves or point outside of their folder are refused."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import trimesh

from ocsdf3d.bench.seed_files import gltf, scene_of_parts
from ocsdf3d.io import ReadError, arrays, read
from ocsdf3d.io.scenes import unfolded

MODEL = "http://schemas.microsoft.com/3dmanufacturing/core/2015/02"


def put(folder: Path, document: dict[str, Any]) -> Path:
    path = folder / "a.gltf"
    path.write_text(json.dumps(document))
    return path


def test_totals() -> None:
    own = {"a": 5, "b": 0, "c": 1}
    assert unfolded("t", own, {"b": ["a", "a", "nothing"], "c": ["b", "b"]}) == {"a": 5, "b": 10, "c": 21}
    chain = {k: 1 for k in range(5000)}  # deeper than Python's stack
    assert unfolded("t", chain, {k: [k + 1, k + 1] for k in range(4999)})[0] == 10**15
    with pytest.raises(ReadError, match="holds itself"):
        unfolded("t", own, {"a": ["b"], "b": ["c"], "c": ["a"]})


def test_gltf(tmp_path: Path) -> None:
    whole = json.loads(gltf(scene_of_parts()))
    assert len(read(put(tmp_path, whole)).faces) == 24
    mesh = next(k for k, node in enumerate(whole["nodes"]) if "mesh" in node)
    nodes = [{"children": [k + 1, k + 1]} for k in range(60)] + [{"mesh": whole["nodes"][mesh]["mesh"]}]
    bomb = {**whole, "nodes": nodes, "scenes": [{"nodes": [0]}]}
    with pytest.raises(ReadError, match="instances unfold"):
        read(put(tmp_path, bomb))
    with pytest.raises(ReadError, match="holds itself"):
        read(put(tmp_path, {**bomb, "nodes": [{"children": [0]}]}))
    for uri in ("../secret.bin", "/dev/zero", "file:///dev/zero", "https://example.org/a.bin", "..%2Fa.bin"):
        with pytest.raises(ReadError, match="outside of its folder"):
            read(put(tmp_path, {**whole, "buffers": [{"uri": uri, "byteLength": 4}]}))
    with pytest.raises(ReadError, match="no file"):
        read(put(tmp_path, {**whole, "buffers": [{"uri": "a.bin", "byteLength": 4}]}))
    large = [{**whole["accessors"][0], "count": 10**12}, *whole["accessors"][1:]]
    with pytest.raises(ReadError, match="announces 1000000000000 items"):
        read(put(tmp_path, {**whole, "accessors": large}))
    (tmp_path / "list.gltf").write_text("[]")
    with pytest.raises(ReadError, match="JSON is no object"):
        read(tmp_path / "list.gltf")


def test_glb_chunk_beyond_the_end(tmp_path: Path) -> None:
    content = trimesh.creation.box().export(file_type="glb")
    size = int.from_bytes(content[12:16], "little")
    at = 20 + size  # the length of the second chunk
    (tmp_path / "a.glb").write_bytes(content[:at] + b"\xff\xff\xff\x7f" + content[at + 4 :])
    with pytest.raises(ReadError, match="a chunk reaches to"):
        read(tmp_path / "a.glb")
    (tmp_path / "b.glb").write_bytes(content + b"\xff\xff\xff\x7fBIN\0")  # behind the end that is announced
    with pytest.raises(ReadError, match="a chunk reaches to"):
        read(tmp_path / "b.glb")


def test_3mf(tmp_path: Path) -> None:
    def put_3mf(objects: str) -> Path:
        build = '<build><item objectid="0"/></build>'
        text = f'<model xmlns="{MODEL}"><resources>{objects}</resources>{build}</model>'
        with zipfile.ZipFile(tmp_path / "a.3mf", "w") as archive:
            archive.writestr("3D/3dmodel.model", text)
        return tmp_path / "a.3mf"

    part = '<component objectid="{0}"/>'
    levels = "".join(
        f'<object id="{k}"><components>{part.format(k + 1) * 2}</components></object>' for k in range(60)
    )
    triangle = "<vertices><vertex/></vertices><triangles><triangle/></triangles>"
    with pytest.raises(ReadError, match="instances unfold"):
        read(put_3mf(levels + f'<object id="60"><mesh>{triangle}</mesh></object>'))
    with pytest.raises(ReadError, match="holds itself"):
        read(put_3mf(f'<object id="0"><components>{part.format(0)}</components></object>'))


def test_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("points.npy", bytes(10**6))
    (tmp_path / "a.npz").write_bytes(stream.getvalue())
    with pytest.raises(ReadError, match="not an NPY array"):
        read(tmp_path / "a.npz")
    monkeypatch.setattr(arrays, "free_memory", lambda: 2 * 10**6)
    with pytest.raises(ReadError, match=r"needs about 0\.0 GB, 0\.0 GB are free"):
        read(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        item = archive.infolist()[0]
        archive.filelist += [item] * 3  # four names for the same bytes
        with pytest.raises(ReadError, match="they overlap"):
            arrays.check_archive("a.npz", archive)
