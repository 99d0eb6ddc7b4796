"""The fuzzer sees what it is there to see; whole files pass; what it found stays refused."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocsdf3d import io as shapes
from ocsdf3d.bench.fuzz import Finding, main, read_one, shrunk
from ocsdf3d.bench.mutation import Mutator, bent_field
from ocsdf3d.bench.seed_files import FIELD, seeds


@pytest.fixture(scope="module")
def corpus() -> dict[str, list[bytes]]:
    return seeds()


def test_every_format_is_there_and_whole(corpus: dict[str, list[bytes]], tmp_path: Path) -> None:
    missing = set(shapes.READABLE) - set(corpus)
    assert missing <= {".las", ".laz", ".e57"}, "those of the extra `scan` alone"
    for extension, contents in corpus.items():
        for content in contents:
            (tmp_path / f"a{extension}").write_bytes(content)
            assert read_one(tmp_path / f"a{extension}", 10.0) == "read", extension


def test_inputs_depend_on_format_seed_and_number_alone(corpus: dict[str, list[bytes]]) -> None:
    one, two = Mutator(corpus, 1), Mutator(corpus, 1)
    for extension in corpus:
        first = [one(extension, k) for k in range(6)]
        assert [two(extension, k) for k in (5, 4, 3, 2, 1, 0)] == first[::-1]
        assert len(set(first)) > 3
        assert [Mutator(corpus, 2)(extension, k) for k in range(6)] != first


def test_a_forged_field_has_a_checksum_that_fits(corpus: dict[str, list[bytes]], tmp_path: Path) -> None:
    from ocsdf3d.checkpoint import load
    from ocsdf3d.container import CheckpointError

    said = []
    for number in range(40):
        forged = bent_field(corpus[FIELD][0], random.Random(number))
        (tmp_path / "a.safetensors").write_bytes(forged)
        try:
            load(tmp_path / "a.safetensors")
        except CheckpointError as error:
            said.append(str(error))
    assert len(said) > 10
    assert not any("checksum" in line for line in said)


@pytest.mark.parametrize(
    ("thrown", "kind"),
    [
        (TypeError("no"), "crash"),
        (SystemExit(1), "crash"),
        (MemoryError(), "memory"),
        (shapes.ReadError("no"), "refused"),
        (shapes.ReadError("a: not a readable .off file (KeyError)"), "unforeseen"),
        (OSError("no"), "refused"),
    ],
)
def test_outcomes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thrown: BaseException, kind: str) -> None:
    def fail(_: Path) -> None:
        raise thrown

    monkeypatch.setattr(shapes, "read", fail)
    outcome = read_one(tmp_path / "a.off", 10.0)
    assert (outcome.kind if isinstance(outcome, Finding) else outcome) == kind


def test_memory_behind_another_error_and_a_hang_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> None:
        try:
            raise MemoryError("20 GB")
        except MemoryError as error:
            raise shapes.ReadError("a: not a readable .off file (MemoryError)") from error

    monkeypatch.setattr(shapes, "read", fail)
    assert read_one(tmp_path / "a.off", 10.0) == Finding("memory", "20 GB")

    def spin(_: Path) -> None:
        while True:
            pass

    monkeypatch.setattr(shapes, "read", spin)
    found = read_one(tmp_path / "a.off", 0.05)
    assert isinstance(found, Finding)
    assert found.kind == "hang"


def test_shrinking() -> None:
    data = bytes(range(200)) + b"boom" + bytes(range(200))
    assert shrunk(data, lambda less: b"boom" in less) == b"boom"


def test_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = ["--inputs", "900", "--formats", ".ply", ".npz", ".safetensors", "--out", str(tmp_path)]
    assert main([*inputs, "--memory", "512"]) == 0
    table = capsys.readouterr().out
    assert "| all | 900 |" in table
    assert (tmp_path / "fuzz.md").read_text() == table
    rows = {line.split("|")[1].strip(): line.split("|")[2:] for line in table.splitlines() if "| ." in line}
    assert all(int(cells[0]) >= 200 and int(cells[1]) > 0 and int(cells[2]) > 0 for cells in rows.values())
    with pytest.raises(SystemExit):
        main(["--formats", ".doc"])


@settings(max_examples=150, deadline=2000)
@given(st.sampled_from(shapes.READABLE), st.binary(max_size=400), st.randoms(use_true_random=False))
def test_bytes_of_any_kind(extension: str, data: bytes, dice: random.Random) -> None:
    import tempfile

    whole = CORPUS.get(extension)
    if whole and dice.random() < 0.7:
        at = dice.randrange(len(whole[0]))
        data = whole[0][:at] + data + whole[0][at:]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{extension}"
        path.write_bytes(data)
        assert isinstance(read_one(path, 10.0), str)


CORPUS = seeds()

# ---- what was found once


def test_las_that_opens_its_points_beyond_the_end(tmp_path: Path) -> None:
    """laspy made room for all bytes up to there: 227 bytes asked for 4 GB."""
    pytest.importorskip("laspy", reason="extra `scan`")
    pytest.importorskip("lazrs", reason="extra `scan`")
    content = CORPUS[".las"][0]
    (tmp_path / "a.las").write_bytes(content[:96] + struct.pack("<I", 2**32 - 1) + content[100:227])
    with pytest.raises(shapes.ReadError, match="the points begin at 4294967295"):
        shapes.read(tmp_path / "a.las")


def test_field_larger_than_its_weights(tmp_path: Path) -> None:
    """A forged header asked for a network of 10¹² weights, which was made before they were missed."""
    import json

    from safetensors.torch import load, save

    from ocsdf3d.checkpoint import load as load_field
    from ocsdf3d.container import CheckpointError, digest

    content = CORPUS[FIELD][0]
    metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    tensors, header = load(content), json.loads(metadata["field"])
    for changed in ({"width": 10**6}, {"depth": 10**12}, {"width": 10**300}):
        metadata["field"] = json.dumps({**header, "network": {**header["network"], **changed}})
        metadata["sha256"] = digest(metadata["field"], tensors)
        (tmp_path / "a.safetensors").write_bytes(save(tensors, metadata))
        with pytest.raises(CheckpointError, match="more weights than"):
            load_field(tmp_path / "a.safetensors")
