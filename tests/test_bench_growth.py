"""The bench of growth measures in processes of its own and goes on where it stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from ocsdf3d import io
from ocsdf3d.bench import growth
from ocsdf3d.bench.isolation import Outcome

FIGURES = {"used": 20, "load": 0.1, "sides": 1.0, "train": 2.0, "mesh": 0.5, "total": 3.6, "peak": 300.0}


def test_rows_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def apart(function: object, file: str, *rest: object, limit: float) -> Outcome:
        asked.append(len(np.load(file)))
        if asked[-1] == 300:
            return Outcome(None, "its process died (exit code -9)", 1.0)
        return Outcome({**FIGURES, "chamfer": 0.002, "support": "solid"}, None, 1.0)

    monkeypatch.setattr(growth, "call_apart", apart)
    shape = io.write(tmp_path / "ball.ply", trimesh.creation.icosphere(subdivisions=1))
    text = growth.run(shape, (200, 300), tmp_path / "out")
    assert asked == [200, 300]
    assert "| 200 | 20 | 0.1 |" in text
    assert "exit code -9" in text
    assert growth.main(["--shape", str(shape), "--points", "200", "--out", str(tmp_path / "out")]) == 0
    assert asked == [200, 300]
    with pytest.raises(ValueError, match="a cloud"):
        growth.run(io.write(tmp_path / "a.npy", io.read(np.eye(3))), (200,), tmp_path / "out")


def test_a_cloud_is_uniform_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "BLOCK", 700)
    growth.write_cloud(trimesh.creation.box(), 3000, tmp_path / "a.npy", 0)
    points = np.load(tmp_path / "a.npy")
    assert points.shape == (3000, 3)
    assert points.dtype == np.float32
    np.testing.assert_allclose(np.abs(points).max(axis=1), 0.5, atol=1e-6)  # all on the faces
