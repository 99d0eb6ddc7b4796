"""The bench of tiles: what it calls a ramp, a crease and a slope; and its table of fields that are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from ocsdf3d import distribute, io
from ocsdf3d.analytic import sphere
from ocsdf3d.bench import mosaics
from ocsdf3d.join import Join

BALL = sphere(1.0)


def two(offset: float) -> Join:
    """A ball in two tiles, the second of which is larger by `offset`."""
    low, high = BALL.box.lower, BALL.box.upper
    return Join((BALL, BALL, BALL.offset(offset)), ((0.0,), (), ()), (0.4, 1.0, 1.0), (1, 2), 0.5, low, high)


def test_where_ramps_are() -> None:
    x = np.array([[0.0, 9.0, 9.0], [0.3, 0.0, 0.0], [0.0, 0.6, 0.0]])
    assert mosaics.on_ramps(x, ((0.1,), (), ()), (0.3, 9.0, 9.0)).tolist() == [True, False, True]
    assert not mosaics.on_ramps(x, ((), (), ()), (9.0, 9.0, 9.0)).any()


def test_creases_are_seen_where_they_are() -> None:
    box = trimesh.creation.box(extents=(2.0, 2.0, 2.0)).subdivide().subdivide().subdivide()
    ends, others = mosaics.creases(box, ((0.7,), (), ()), (0.6, 1.0, 1.0), 0.1)  # an edge is at x = 1
    assert ends == pytest.approx(90.0)
    assert mosaics.creases(trimesh.creation.icosphere(4), ((0.0,), (), ()), (0.4,) * 3, 0.05)[0] < 5.0
    assert others > 0.0


def test_the_steepest_pair_is_found() -> None:
    assert mosaics.steepest(two(0.0), ((0.0,), (), ()), (0.4,) * 3, 0) == pytest.approx(1.0, abs=0.01)
    found = mosaics.steepest(two(0.2), ((0.0,), (), ()), (0.4,) * 3, 0)
    assert 1.3 < found <= two(0.2).lipschitz  # of 1 + 0.2/0.4


def test_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def stands_in(scan: Path, folder: Path, tiles: list[int], **how: Any) -> Join:
        asked.update(how, tiles=list(tiles), points=len(np.load(scan)))
        return two(0.05)

    monkeypatch.setattr(distribute, "fit_tiles", stands_in)
    monkeypatch.setattr(mosaics, "SAMPLES", 5000)
    monkeypatch.setattr(mosaics, "PAIRS", 5000)
    shape = io.write(tmp_path / "ball.ply", trimesh.creation.icosphere(subdivisions=4))
    command = ["--shape", str(shape), "--points", "700", "--tiles", "2", "1", "--resolution", "40"]
    more = [
        "--preset",
        "best",
        "--halo",
        "0.2",
        "--workers",
        "3",
        "--seed",
        "4",
        "--out",
        str(tmp_path / "out"),
    ]
    assert mosaics.main([*command, *more]) == 0
    wanted = {"tiles": [2, 1], "points": 700, "preset": "best", "halo": 0.2, "workers": 3, "seed": 4}
    assert {name: asked[name] for name in wanted} == wanted
    text = (tmp_path / "out" / "ball-best-2x1.md").read_text(encoding="utf-8")
    assert text.startswith("# ball, 700 points, in one piece and in 2x1x1 tiles")
    assert "| one piece |" in text
    assert "0 tiles are empty" in text
    with pytest.raises(ValueError, match="a cloud"):
        mosaics.run(
            io.write(tmp_path / "a.npy", io.read(np.eye(3))), tmp_path / "out", points=9, tiles=(2, 1)
        )
