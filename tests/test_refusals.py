"""What the command line refuses: one line on stderr, exit 1 or 2, no traceback, no file left behind.

Nothing is replaced but the limits of the machine (memory, CUDA, permissions); where a refusal must come
before training, a `fit` that fails the test stands in its place.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ocsdf3d.checkpoint import VERSION
from ocsdf3d.cli import main

SQUARE = "OFF\n4 2 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 2\n3 0 2 3\n"
PLY = """ply
format ascii 1.0
element vertex 4
property float x
property float y
property float z
element face 2
property list uchar int vertex_indices
end_header
0 0 0
1 0 0
1 1 0
0 1 0
3 0 1 2
3 0 2 3
"""


class Refusal:
    """Run a command in a folder and insist on a refusal."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys

    def __call__(self, *argv: object, code: int = 1) -> str:
        """The error line; asserts that nothing else was said, printed or left."""
        before = self.listing()
        self.capsys.readouterr()
        assert main([str(argument) for argument in argv]) == code
        seen = self.capsys.readouterr()
        assert seen.out == ""
        lines = seen.err.splitlines()
        assert [line for line in lines if not line.startswith("ocsdf3d: ")] == []
        errors = [line for line in lines if line.startswith("ocsdf3d: error: ")]
        assert len(errors) == 1
        assert lines[-1] == errors[0]
        assert "Traceback" not in seen.err
        assert self.listing() == before
        return errors[0].removeprefix("ocsdf3d: error: ")

    def listing(self) -> dict[str, bytes]:
        """Every file below the folder with what it holds."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes() if path.is_file() else b""
            for path in self.folder.rglob("*")
        }


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refusal:
    return Refusal(tmp_path, capsys)


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training must not begin."""

    def fit(*_: object, **__: object) -> None:
        raise AssertionError("training began")

    monkeypatch.setattr("ocsdf3d.pipeline.fit", fit)


@pytest.fixture
def cloud(tmp_path: Path) -> Path:
    """200 points of the unit sphere: nothing is wrong with them."""
    points = np.random.default_rng(0).normal(size=(200, 3))
    path = tmp_path / "good.npy"
    np.save(path, points / np.linalg.norm(points, axis=1, keepdims=True))
    return path


def saved(folder: Path, points: np.ndarray, name: str = "points.npy") -> Path:
    np.save(folder / name, points)
    return folder / name


# --- files that cannot be read


@pytest.mark.usefixtures("untrained")
class TestInput:
    def test_no_such_file(self, refused: Refusal, tmp_path: Path) -> None:
        assert "absent.off: no such file" in refused("reconstruct", tmp_path / "absent.off")

    def test_directory(self, refused: Refusal, tmp_path: Path) -> None:
        (tmp_path / "folder.off").mkdir()
        assert "folder.off: is a directory" in refused("reconstruct", tmp_path / "folder.off")

    @pytest.mark.parametrize(
        "extension", ["off", "obj", "ply", "stl", "xyz", "csv", "npy", "npz", "glb", "pcd"]
    )
    def test_empty_file(self, extension: str, refused: Refusal, tmp_path: Path) -> None:
        path = tmp_path / f"empty.{extension}"
        path.touch()
        assert f"empty.{extension}" in refused("reconstruct", path)

    @pytest.mark.parametrize("lines", [1, 2, 4, 6, 7])
    def test_truncated_off(self, lines: int, refused: Refusal, tmp_path: Path) -> None:
        """Cut after the magic word, the counts, inside the vertices, before the faces, inside the faces."""
        path = tmp_path / "cut.off"
        path.write_text("\n".join(SQUARE.splitlines()[:lines]) + "\n")
        assert "cut.off" in refused("reconstruct", path)

    @pytest.mark.parametrize("lines", [1, 3, 8, 9, 11, 13, 14])
    def test_truncated_ply(self, lines: int, refused: Refusal, tmp_path: Path) -> None:
        path = tmp_path / "cut.ply"
        path.write_text("\n".join(PLY.splitlines()[:lines]) + "\n")
        assert "cut.ply" in refused("reconstruct", path)

    @pytest.mark.parametrize("missing", [1, 11, 13, 40])
    def test_truncated_binary_ply(self, missing: int, refused: Refusal, tmp_path: Path) -> None:
        """Cut inside the last face, the last two, between the two parts, inside the vertices."""
        header, _, _ = PLY.replace("ascii", "binary_little_endian").partition("0 0 0\n")
        body = struct.pack("<12f", 0, 0, 0, 1, 0, 0, 1, 1, 0, 0, 1, 0)
        body += struct.pack("<B3i", 3, 0, 1, 2) + struct.pack("<B3i", 3, 0, 2, 3)
        path = tmp_path / "cut.ply"
        path.write_bytes((header.encode() + body)[:-missing])
        assert "cut.ply" in refused("reconstruct", path)

    @pytest.mark.parametrize("extension", ["ply", "off", "obj", "stl", "npy", "xyz"])
    def test_random_bytes(self, extension: str, refused: Refusal, tmp_path: Path) -> None:
        path = tmp_path / f"noise.{extension}"
        path.write_bytes(np.random.default_rng(0).bytes(4096))
        assert f"noise.{extension}" in refused("reconstruct", path)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_coordinates_that_are_not_finite(self, bad: float, refused: Refusal, tmp_path: Path) -> None:
        points = np.random.default_rng(0).normal(size=(100, 3))
        points[41, 1] = bad
        said = refused("reconstruct", saved(tmp_path, points))
        assert "finite" in said
        assert "41" in said

    @pytest.mark.parametrize("bad", ["nan", "inf"])
    def test_mesh_coordinates_that_are_not_finite(self, bad: str, refused: Refusal, tmp_path: Path) -> None:
        path = tmp_path / "bad.off"
        path.write_text(SQUARE.replace("1 1 0", f"1 {bad} 0"))
        assert "finite" in refused("reconstruct", path)

    def test_planar_array(self, refused: Refusal, tmp_path: Path) -> None:
        said = refused("reconstruct", saved(tmp_path, np.random.default_rng(0).normal(size=(5000, 2))))
        assert "(n, 3)" in said
        assert "(5000, 2)" in said

    @pytest.mark.parametrize("index", [4, -1])
    def test_face_index_out_of_range(self, index: int, refused: Refusal, tmp_path: Path) -> None:
        path = tmp_path / "bad.off"
        path.write_text(SQUARE.replace("3 0 2 3", f"3 0 2 {index}"))
        said = refused("reconstruct", path)
        assert "bad.off" in said
        assert str(index) in said

    def test_unknown_extension(self, refused: Refusal, tmp_path: Path) -> None:
        path = tmp_path / "model.xlsx"
        path.write_text("0 0 0\n")
        assert ".xlsx" in refused("reconstruct", path)


# --- points that bound nothing: the pipeline's own refusals


class TestPoints:
    def test_too_few_points(self, refused: Refusal, tmp_path: Path) -> None:
        said = refused("reconstruct", saved(tmp_path, np.random.default_rng(0).normal(size=(15, 3))))
        assert "16" in said
        assert "15" in said

    def test_too_few_distinct_points(self, refused: Refusal, tmp_path: Path) -> None:
        points = np.tile(np.random.default_rng(0).normal(size=(10, 3)), (100, 1))
        said = refused("reconstruct", saved(tmp_path, points))
        assert "16" in said
        assert "10" in said

    @pytest.mark.parametrize("support", ["auto", "solid", "shell"])
    def test_all_points_equal(self, support: str, refused: Refusal, tmp_path: Path) -> None:
        said = refused(
            "reconstruct", saved(tmp_path, np.full((100, 3), 2.5)), "--support", support, "--preset", "fast"
        )
        assert "equal" in said or "distinct" in said

    def test_collinear(self, refused: Refusal, tmp_path: Path) -> None:
        points = np.linspace(0.0, 1.0, 100)[:, None] * np.array([1.0, 2.0, 3.0]) + 5.0
        assert "line" in refused("reconstruct", saved(tmp_path, points), "--preset", "fast")

    def test_coplanar(self, refused: Refusal, tmp_path: Path) -> None:
        """A tilted plane, so that no single coordinate is constant."""
        rng = np.random.default_rng(0)
        points = rng.normal(size=(100, 1)) * [1.0, 2.0, 3.0] + rng.normal(size=(100, 1)) * [0.0, 1.0, -1.0]
        assert "plan" in refused("reconstruct", saved(tmp_path, points), "--preset", "fast")


# --- outputs, before training


@pytest.mark.usefixtures("untrained")
class TestOutput:
    @pytest.mark.parametrize("name", ["out.xlsx", "out", "out.xyz.gz", "out.txt"])
    def test_extension_that_cannot_be_written(
        self, name: str, refused: Refusal, cloud: Path, tmp_path: Path
    ) -> None:
        assert name in refused("reconstruct", cloud, "-o", tmp_path / name)

    def test_missing_folder(self, refused: Refusal, cloud: Path, tmp_path: Path) -> None:
        assert "absent" in refused("reconstruct", cloud, "-o", tmp_path / "absent" / "out.ply")

    def test_a_file_where_the_folder_should_be(self, refused: Refusal, cloud: Path) -> None:
        assert "good.npy" in refused("reconstruct", cloud, "-o", cloud / "out.ply")

    def test_a_folder_where_the_file_should_be(self, refused: Refusal, cloud: Path, tmp_path: Path) -> None:
        (tmp_path / "out.ply").mkdir()
        assert "out.ply" in refused("reconstruct", cloud, "-o", tmp_path / "out.ply")

    def test_locked_folder(
        self, refused: Refusal, cloud: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Permission bits do not bind the superuser, so the system's answer is replaced."""
        monkeypatch.setattr("os.access", lambda path, mode, **_: False)
        assert str(tmp_path) in refused("reconstruct", cloud, "-o", tmp_path / "out.ply")

    def test_the_input_itself(self, refused: Refusal, tmp_path: Path) -> None:
        path = tmp_path / "square.off"
        path.write_text(SQUARE)
        assert "would replace the input" in refused("reconstruct", path, "-o", path)

    @pytest.mark.parametrize("name", ["field.txt", "field", "field.pt"])
    def test_field_extension(self, name: str, refused: Refusal, cloud: Path, tmp_path: Path) -> None:
        said = refused("reconstruct", cloud, "--save", tmp_path / name)
        assert name in said
        assert ".safetensors" in said

    def test_field_in_a_missing_folder(self, refused: Refusal, cloud: Path, tmp_path: Path) -> None:
        assert "absent" in refused("reconstruct", cloud, "--save", tmp_path / "absent" / "f.safetensors")

    def test_query_output(self, refused: Refusal, cloud: Path, tmp_path: Path) -> None:
        field = tmp_path / "f.safetensors"
        field.touch()
        assert ".npy" in refused("query", field, cloud, "-o", tmp_path / "values.xyz")


# --- limits of the machine, before training


@pytest.mark.usefixtures("untrained")
class TestMachine:
    def test_resolution_beyond_memory(
        self, refused: Refusal, cloud: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """4,000 nodes a side are 6.4e10 values of 4 bytes: 256 GB and more, against 8 GB."""
        monkeypatch.setattr("ocsdf3d.grid.free_memory", lambda: 8 * 10**9)
        said = refused("reconstruct", cloud, "--resolution", 4000)
        assert "4000" in said
        assert "8.0 GB" in said

    def test_flat_shapes_are_judged_by_the_box_they_are_meshed_in(
        self, refused: Refusal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A plate of 1 × 1 × 0.01 takes 2000² × 20 nodes, 5 GB; with the space around it × 280, 15 GB."""
        monkeypatch.setattr("ocsdf3d.grid.free_memory", lambda: 8 * 10**9)
        plate = np.random.default_rng(0).uniform(size=(500, 3)) * [1.0, 1.0, 0.01]
        assert "8.0 GB" in refused("reconstruct", saved(tmp_path, plate), "--resolution", 2000)

    def test_absurd_resolution(self, refused: Refusal, cloud: Path) -> None:
        """Beyond any machine: refused by its size alone, without an overflow on the way."""
        assert "10000000000" in refused("reconstruct", cloud, "--resolution", 10**10)

    def test_cuda_asked_for_but_absent(
        self, refused: Refusal, cloud: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        assert "--device cuda" in refused("reconstruct", cloud, "--device", "cuda")

    @pytest.mark.parametrize("verb", ["mesh", "query"])
    def test_cuda_for_a_saved_field(
        self, verb: str, refused: Refusal, cloud: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        field = tmp_path / "f.safetensors"
        field.touch()
        out = ["-o", tmp_path / "out.ply"] if verb == "mesh" else [cloud, "-o", tmp_path / "out.npy"]
        assert "--device cuda" in refused(verb, field, *out, "--device", "cuda")


# --- field files


@pytest.fixture(scope="module")
def field_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A real field file; its training stops at the first chance."""
    from ocsdf3d import checkpoint, pipeline

    points = np.random.default_rng(0).normal(size=(300, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    path = tmp_path_factory.mktemp("field") / "ball.safetensors"
    sdf = pipeline.fit(points, preset="fast", support="solid", device="cpu", seed=0, stop=lambda: True)
    checkpoint.save(path, sdf)
    return path.read_bytes()


def header_of(data: bytes) -> tuple[dict[str, object], bytes]:
    """Header and tensors of a safetensors file: 8 bytes of length, JSON, data."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def with_header(header: dict[str, object], tensors: bytes) -> bytes:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + tensors


def cut(data: bytes) -> bytes:
    return data[:-100]


def halved(data: bytes) -> bytes:
    return data[: len(data) // 2]


def empty(data: bytes) -> bytes:
    return b""


def noise(data: bytes) -> bytes:
    return np.random.default_rng(0).bytes(len(data))


def altered(data: bytes) -> bytes:
    """One bit of a weight in the middle of the tensors."""
    _, tensors = header_of(data)
    place = len(data) - len(tensors) // 2
    return data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1 :]


def foreign(data: bytes) -> bytes:
    """A file of another program: right container, nothing of ours said about it."""
    header, tensors = header_of(data)
    header["__metadata__"] = {"format": "pt"}
    return with_header(header, tensors)


def newer(data: bytes) -> bytes:
    header, tensors = header_of(data)
    metadata = header["__metadata__"]
    assert isinstance(metadata, dict)
    metadata["version"] = str(VERSION + 1)
    return with_header(header, tensors)


def reworded(data: bytes) -> bytes:
    """A word of the description changed, which no tensor holds."""
    header, tensors = header_of(data)
    metadata = header["__metadata__"]
    assert isinstance(metadata, dict)
    metadata["field"] = metadata["field"].replace('"support": "solid"', '"support": "shell"')
    return with_header(header, tensors)


@pytest.mark.parametrize("damage", [cut, halved, empty, noise, altered, foreign, newer, reworded])
@pytest.mark.parametrize("verb", ["info", "mesh", "query"])
def test_damaged_field(
    verb: str,
    damage: Callable[[bytes], bytes],
    field_bytes: bytes,
    refused: Refusal,
    cloud: Path,
    tmp_path: Path,
) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(damage(field_bytes))
    assert path.read_bytes() != field_bytes
    rest = {"info": [], "mesh": ["-o", tmp_path / "o.ply"], "query": [cloud, "-o", tmp_path / "o.npy"]}[verb]
    said = refused(verb, path, *rest)
    assert "bad.safetensors" in said
    if damage is newer:
        assert f"version {VERSION + 1}" in said


def test_undamaged_field(field_bytes: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Control: the same file as it was is read, and rewriting its header alone does not break it."""
    path = tmp_path / "good.safetensors"
    for data in (field_bytes, with_header(*header_of(field_bytes))):
        path.write_bytes(data)
        assert main(["info", str(path), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["lipschitz"] <= 1.0


def test_field_that_does_not_exist(refused: Refusal, tmp_path: Path) -> None:
    assert "f.safetensors: no such file" in refused("info", tmp_path / "f.safetensors")


def test_a_mesh_given_for_a_field(refused: Refusal, tmp_path: Path) -> None:
    path = tmp_path / "square.off"
    path.write_text(SQUARE)
    said = refused("mesh", path, "-o", tmp_path / "out.ply")
    assert "square.off: not a field file" in said
