"""The bench of killed processes sees what it looks for: files torn, shapes lost or done twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ocsdf3d import checkpoint
from ocsdf3d.bench import outlive
from ocsdf3d.container import seal
from ocsdf3d.durable import sha256_of
from ocsdf3d.field import SDF


def test_shapes_are_made_once_from_the_seed(tmp_path: Path) -> None:
    outlive.make_shapes(tmp_path, 2, seed=0)
    first = np.load(tmp_path / "solid000.npy")
    assert first.shape == (outlive.POINTS, 3)
    assert not np.array_equal(first, np.load(tmp_path / "solid001.npy"))
    stamp = (tmp_path / "solid000.npy").stat().st_mtime_ns
    outlive.make_shapes(tmp_path, 2, seed=0)
    assert (tmp_path / "solid000.npy").stat().st_mtime_ns == stamp
    outlive.make_shapes(tmp_path / "again", 1, seed=0)
    np.testing.assert_array_equal(np.load(tmp_path / "again" / "solid000.npy"), first)


def test_a_solid_without_surface_is_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    solid, drawn = outlive.random_solid, []

    class Nothing:
        def surface(self, n: int, rng: np.random.Generator) -> np.ndarray:
            raise ValueError("fewer than 512 samples lie on the surface of the whole.")

    def first_nothing(rng: np.random.Generator) -> Any:
        drawn.append(rng)
        return Nothing() if len(drawn) == 1 else solid(rng)

    monkeypatch.setattr(outlive, "random_solid", first_nothing)
    outlive.make_shapes(tmp_path, 1, seed=0)
    assert len(drawn) == 2
    assert np.load(tmp_path / "solid000.npy").shape == (outlive.POINTS, 3)


def test_torn_files_are_seen(tmp_path: Path, born: Callable[..., SDF]) -> None:
    field = born(0)
    kept, saved, mesh = (tmp_path / name for name in ("kept.safetensors", "field.safetensors", "mesh.ply"))
    assert outlive.torn(tmp_path, {}) == []  # not there is not torn
    seal(kept, "training", 1, {}, {"x": torch.ones(100)})
    checkpoint.save(saved, field)
    mesh.write_bytes(b"a mesh")
    truth = {"hash": field.certificate["hash"], "level": field.level, "mesh": sha256_of(mesh)}
    assert outlive.torn(tmp_path, truth) == []
    mesh.write_bytes(b"a mes")
    assert outlive.torn(tmp_path, truth) == ["mesh.ply: other bytes"]
    mesh.unlink()
    checkpoint.save(saved, born(1))
    assert outlive.torn(tmp_path, truth) == ["field.safetensors: other weights"]
    for path in (kept, saved):
        path.write_bytes(path.read_bytes()[:-8])
    assert [line.partition(":")[0] for line in outlive.torn(tmp_path, truth)] == [kept.name, saved.name]


def row(name: str, **more: Any) -> dict[str, Any]:
    return {"source": f"/in/{name}", "error": None, "mesh_sha256": name, "begun": 1, **more}


GOOD = [row("a"), row("b")]
FAULTS = {
    "missing": [row("a")],
    "done twice": [*GOOD, row("b")],
    "other bytes": [row("a"), row("b", mesh_sha256="c")],
    "begun again": [row("a"), row("b", begun=3)],
    "failed only there": [row("a"), row("b", error="lost")],
}


@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_a_batch_that_lost_something_is_not_good(
    fault: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [GOOD, GOOD, [row("a"), row("b", begun=2)] if fault is None else FAULTS[fault]]
    seconds = iter((8.0, 4.0, 5.0))

    def run_one(source: Path, out: Path, workers: int, kill_at: int | None) -> dict[str, Any]:
        out.mkdir()
        lines = [json.dumps(one) for one in runs.pop(0)]
        (out / "manifest.jsonl").write_text("\n".join([*lines, '{"half'.ljust(9)]))
        return {"seconds": next(seconds), "killed": None if kill_at is None else 1234}

    monkeypatch.setattr(outlive, "run_one", run_one)
    (table,), good = outlive.batches(tmp_path, 2, 0)
    assert good == (fault is None)
    lines = table.splitlines()
    assert lines[2] == "| one | 8 | 1 | 0 | 0 | 0 | 0 | 0 |"
    assert lines[3].startswith("| two | 4 | 2 |")
    if fault is None:
        assert lines[4] == "| two, one killed | 5 | 1.6 | 0 | 0 | 0 | 1 | 0 |"


def test_a_run_without_its_kill_is_not_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_one(source: Path, out: Path, workers: int, kill_at: int | None) -> dict[str, Any]:
        out.mkdir()
        (out / "manifest.jsonl").write_text("".join(json.dumps(one) + "\n" for one in GOOD))
        return {"seconds": 1.0, "killed": None}

    monkeypatch.setattr(outlive, "run_one", run_one)
    assert not outlive.batches(tmp_path, 2, 0)[1]


def test_main_tells_and_returns_what_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(outlive, "batches", lambda *_: (["| fine |"], True))
    monkeypatch.setattr(outlive, "kills", lambda *_: (["| torn |"], False))
    assert outlive.main(["--out", str(tmp_path), "--parts", "batch"]) == 0
    assert "nothing was lost" in capsys.readouterr().out
    assert outlive.main(["--out", str(tmp_path), "--shapes", "3", "--kills", "2", "--seed", "5"]) == 1
    text = (tmp_path / "outlive.md").read_text(encoding="utf-8")
    assert "shapes 3, kills 2, seed 5" in text
    assert "SOMETHING WAS LOST" in text
    assert text.index("| fine |") < text.index("| torn |")


@pytest.mark.slow
def test_for_real(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    assert outlive.main(["--out", str(tmp_path), "--shapes", "4", "--kills", "4"]) == 0
