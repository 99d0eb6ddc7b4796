"""Blocks of a file hold what `read` reads, and refuse what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from ocsdf3d.geometry import PointCloud
from ocsdf3d.io import ReadError, as_colors, blocks, blocks_of, read, write

POINTS = np.random.default_rng(0).normal(size=(57, 3))
NORMALS = POINTS / np.linalg.norm(POINTS, axis=1, keepdims=True)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "ROWS", 10)


def same(source: object, cloud: PointCloud) -> None:
    found = blocks_of(source)
    assert found is not None
    assert found.count == len(cloud)
    parts = list(found.each())
    assert max(len(part.points) for part in parts) <= 10
    np.testing.assert_array_equal(np.concatenate([part.points for part in parts]), cloud.points)
    assert found.normals == (cloud.normals is not None)
    if cloud.normals is not None:
        joined = np.concatenate([part.normals for part in parts if part.normals is not None])
        np.testing.assert_allclose(joined, cloud.normals, rtol=1e-6)
    seen = [part.colors for part in parts if part.colors is not None]
    assert len(seen) in (0, len(parts))
    assert (cloud.colors is None) == (not seen)
    if cloud.colors is not None:
        np.testing.assert_array_equal(as_colors(np.concatenate(seen)), cloud.colors)


def ply(path: Path, order: str = "<") -> Path:
    table = np.zeros(len(POINTS), [("p", f"{order}f8", 3), ("c", "u1"), ("n", f"{order}f4", 3)])
    table["p"], table["n"] = POINTS, NORMALS
    kind = {"<": "little", ">": "big"}[order]
    head = f"ply\nformat binary_{kind}_endian 1.0\nelement camera 2\nproperty int k\n"
    head += f"element vertex {len(POINTS)}\n"
    head += "".join(f"property double {name}\n" for name in "xyz") + "property uchar red\n"
    head += "".join(f"property float n{name}\n" for name in "xyz") + "end_header\n"
    path.write_bytes(head.encode() + bytes(8) + table.tobytes())
    return path


def test_formats(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", POINTS)
    np.save(tmp_path / "single.npy", POINTS.astype(np.float32))
    np.save(tmp_path / "oriented.npy", np.hstack([POINTS, NORMALS]))
    paths = [tmp_path / name for name in ("a.npy", "single.npy", "oriented.npy")]
    paths += [ply(tmp_path / "a.ply"), ply(tmp_path / "b.ply", ">")]
    table = np.zeros(len(POINTS), [("p", "<f4", 3), ("n", "<f4", 3)])
    table["p"], table["n"] = POINTS, NORMALS
    head = "FIELDS x y z normal_x normal_y normal_z\nSIZE 4 4 4 4 4 4\nTYPE F F F F F F\nWIDTH 57\nHEIGHT 1\n"
    (tmp_path / "a.pcd").write_bytes(head.encode() + b"POINTS 57\nDATA binary\n" + table.tobytes())
    for path in [*paths, tmp_path / "a.pcd"]:
        cloud = read(path)
        assert isinstance(cloud, PointCloud)
        same(path, cloud)
    same(POINTS, PointCloud(POINTS))
    same(np.load(tmp_path / "single.npy", mmap_mode="r"), PointCloud(POINTS.astype(np.float32)))
    same(PointCloud(POINTS, NORMALS), PointCloud(POINTS, NORMALS))


@pytest.mark.parametrize("kind", ["<f4", "<u2", "u1"])
def test_colors(kind: str, tmp_path: Path) -> None:
    """Whatever the type: fractions, 16 bits, bytes; and packed in a float, as PCD has them."""
    painted = np.random.default_rng(1).integers(0, 256, POINTS.shape)
    cloud = PointCloud(POINTS, NORMALS, painted)
    same(cloud, cloud)
    table = np.zeros(len(POINTS), [("p", "<f8", 3), ("c", kind, 3)])
    table["p"], table["c"] = POINTS, {"<f4": painted / 255.0, "<u2": 256 * painted, "u1": painted}[kind]
    word = {"<f4": "float", "<u2": "ushort", "u1": "uchar"}[kind]
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(POINTS)}\n"
    head += "".join(f"property double {name}\n" for name in "xyz")
    head += "".join(f"property {word} {name}\n" for name in ("red", "green", "blue")) + "end_header\n"
    (tmp_path / "a.ply").write_bytes(head.encode() + table.tobytes())
    np.save(tmp_path / "a.npy", np.hstack([POINTS, painted]))
    table = np.zeros(len(POINTS), [("p", "<f4", 3), ("c", "<u4")])
    table["p"], table["c"] = POINTS, painted @ (65536, 256, 1)
    head = "FIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F F\nWIDTH 57\nHEIGHT 1\nPOINTS 57\nDATA binary\n"
    (tmp_path / "a.pcd").write_bytes(head.encode() + table.tobytes())
    for name in ("a.ply", "a.npy", "a.pcd"):
        found = read(tmp_path / name)
        assert isinstance(found, PointCloud)
        np.testing.assert_array_equal(found.colors, painted)
        same(tmp_path / name, found)


def test_las(tmp_path: Path) -> None:
    laspy = pytest.importorskip("laspy", reason="extra `scan`")
    pytest.importorskip("lazrs", reason="extra `scan`")
    las = laspy.LasData(laspy.LasHeader(point_format=0, version="1.2"))
    las.x, las.y, las.z = POINTS.T
    for name in ("a.las", "a.laz"):
        las.write(tmp_path / name)
        cloud = read(tmp_path / name)
        assert isinstance(cloud, PointCloud)
        same(tmp_path / name, cloud)
        (tmp_path / f"cut{name}").write_bytes((tmp_path / name).read_bytes()[:-30])
        with pytest.raises(ReadError):
            list(blocks_of(tmp_path / f"cut{name}").each())  # type: ignore[union-attr]


def test_what_gives_no_blocks(tmp_path: Path) -> None:
    mesh = trimesh.creation.box()
    for name in ("a.ply", "a.off", "a.stl"):
        write(tmp_path / name, mesh)
        assert blocks_of(tmp_path / name) is None
    np.save(tmp_path / "f.npy", np.asfortranarray(POINTS))
    np.save(tmp_path / "flat.npy", POINTS[:, :2])
    for source in (tmp_path / "f.npy", tmp_path / "flat.npy", tmp_path / "none.npy", mesh, POINTS[:, :2], 3):
        assert blocks_of(source) is None
    (tmp_path / "empty.npy").touch()
    assert blocks_of(tmp_path / "empty.npy") is None


def test_refusals(tmp_path: Path) -> None:
    bad = POINTS.copy()
    bad[23, 1] = np.nan
    np.save(tmp_path / "bad.npy", bad)
    for source in (tmp_path / "bad.npy", bad):
        with pytest.raises(ReadError, match="row 23"):
            list(blocks_of(source).each())  # type: ignore[union-attr]
    np.save(tmp_path / "cut.npy", POINTS)
    whole = (tmp_path / "cut.npy").read_bytes()
    found = blocks_of(tmp_path / "cut.npy")
    (tmp_path / "cut.npy").write_bytes(whole[:-24])
    with pytest.raises(ReadError, match="Is it complete"):
        blocks_of(tmp_path / "cut.npy")
    with pytest.raises(ReadError, match="became shorter"):  # between opening and reading
        list(found.each())  # type: ignore[union-attr]
    content = ply(tmp_path / "a.ply").read_bytes()
    (tmp_path / "a.ply").write_bytes(content.replace(b"vertex 57", b"vertex 57000000000000"))
    with pytest.raises(ReadError, match="expected 57000000000000 vertices"):
        blocks_of(tmp_path / "a.ply")
    (tmp_path / "a.pcd").write_bytes(
        b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nWIDTH 9\nHEIGHT 1\nDATA binary\n1234"
    )
    with pytest.raises(ReadError, match="expected 9 points, file ends after 0"):
        blocks_of(tmp_path / "a.pcd")
