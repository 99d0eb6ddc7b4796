"""The bench of the planar sets: what it measures, draws and refuses, and that it goes on where it stopped."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("sklearn")

from ocsdf3d.bench import toys
from ocsdf3d.bench.toy_figures import Map, draw_histograms, draw_maps, window

SMALL: dict[str, Any] = {"points": 300, "samples": 200, "steps": 40, "seeds": [0]}
QUICK = {name: {"preset": "fast", "steps": 60} for name in toys.OURS}
QUICK[toys.WALKER] |= {"margin": 0.05, "lam": 100.0}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[toys.Report, Path]:
    """One set, all methods, small, with figures."""
    out = tmp_path_factory.mktemp("toys")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toys, "OURS", QUICK)
        patch.setattr(toys, "NODES", 40)
        return toys.run(out, toys=["two_blobs"], figure=True, **SMALL), out


def test_every_method_has_a_row_and_ours_alone_are_proved(measured: tuple[toys.Report, Path]) -> None:
    rows = {str(row["method"]): row for row in measured[0].rows}
    assert tuple(rows) == toys.METHODS
    for method, row in rows.items():
        assert 0.7 < float(row["auroc"]) <= 1.0  # type: ignore[arg-type]
        assert 0.6 < float(row["near"]) <= 1.0  # type: ignore[arg-type]
        bounds = [row[name] for name in toys.RADII]
        if method in toys.OURS:
            assert 0.0 < float(row["slope"]) <= 1.0  # type: ignore[arg-type]
            falling = [row["auroc"], *bounds]
            assert falling == sorted(falling, reverse=True)
            assert falling[0] > falling[-1]  # type: ignore[operator]
        else:
            assert bounds == [None] * len(toys.RADII)
    assert float(rows[toys.CONVENTIONAL]["slope"]) > 0.0  # type: ignore[arg-type]
    assert rows[toys.CONVENTIONAL]["steps"] == 40
    assert rows[toys.SVM]["slope"] is rows[toys.SVM]["steps"] is None
    assert float(rows[toys.FOREST]["accepted"]) == pytest.approx(0.95, abs=0.06)  # type: ignore[arg-type]


def test_tables_say_how_they_were_made_and_what_the_paper_has(measured: tuple[toys.Report, Path]) -> None:
    report, out = measured
    assert (out / "toys.md").read_text(encoding="utf-8") == report.text + "\n"
    assert "seeds 0, points 300, samples 200, steps 40, device cpu" in report.text
    assert "| two blobs | 1421 |" in report.text
    assert report.text.count("| two blobs |") == len(toys.METHODS) + 1


def test_it_goes_on_where_it_stopped(
    measured: tuple[toys.Report, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report, out = measured

    def never(*_: object) -> None:
        raise AssertionError("it was measured already")

    monkeypatch.setattr(toys._Bench, "judge", never)
    again = toys.run(out, toys=["two_blobs"], figure=True, **SMALL)
    assert again == report
    assert "two_blobs" not in capsys.readouterr().err
    with pytest.raises(AssertionError, match="already"):
        toys.run(out, toys=["two_blobs"], **SMALL | {"seeds": [1]})


def test_fresh_forgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"toys": ["one_cloud"], "methods": [toys.FOREST], **SMALL}
    first = toys.run(tmp_path, **asked)
    count = 0
    judge = toys._Bench.judge

    def counted(self: Any, method: str) -> Any:
        nonlocal count
        count += 1
        return judge(self, method)

    monkeypatch.setattr(toys._Bench, "judge", counted)
    toys.run(tmp_path, **asked)
    assert count == 0
    again = toys.run(tmp_path, fresh=True, **asked)
    assert count == 1
    assert again.rows[0] | {"seconds": None} == first.rows[0] | {"seconds": None}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"toys": ["two_suns"]}, "`toys` must be among one_cloud, .*; got two_suns"),
        ({"toys": []}, "`toys` must be among .*; got none"),
        ({"methods": ["magic"]}, "`methods` must be among ocsdf3d, .*; got magic"),
        ({"seeds": []}, "`seeds` must be at least 1; got 0"),
        ({"points": 0}, "`points` must be at least 1"),
        ({"samples": 0}, "`samples` must be at least 1"),
        ({"steps": 0}, "`steps` must be at least 1"),
    ],
)
def test_what_is_refused_before_anything_is_written(
    given: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        toys.run(tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


# --- figures


def test_figures_and_what_they_show_are_there(measured: tuple[toys.Report, Path]) -> None:
    out = measured[1]
    for name in ("toys.png", "toys-scores.png"):
        with Image.open(out / name) as picture:
            assert picture.width > 1000
            assert np.asarray(picture.convert("L")).std() > 10.0
    assert len(list((out / "maps").glob("*.npz"))) == len(toys.METHODS)


def test_a_map_survives_its_file(tmp_path: Path) -> None:
    made = _cone(1.0)
    made.save(tmp_path / "maps" / "a.npz")
    back = Map.load(tmp_path / "maps" / "a.npz")
    np.testing.assert_allclose(back.values, made.values, atol=1e-6)
    assert back.half == made.half
    assert np.isnan(back.slope)
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["a.npz"]


def test_a_map_is_blue_inside_and_red_outside_and_upright() -> None:
    """A disc around (1, 1): its colour must be in the upper right of the picture."""
    drawn = np.asarray(Image.open(BytesIO(draw_maps({("a", "b"): _cone(1.0)}, {"a": "A"}, ["b"])))).astype(
        int
    )
    blue = (drawn[..., 2] - drawn[..., 0] > 100).nonzero()
    red = drawn[..., 0] - drawn[..., 2] > 100
    assert len(blue[0]) > 500
    assert red.sum() > 500
    assert blue[0].mean() < drawn.shape[0] / 2.0  # rows of a picture go down
    assert blue[1].mean() > drawn.shape[1] / 2.0


def test_scores_all_alike_can_be_drawn_too() -> None:
    flat = Map(np.full((20, 20), -1.0), 3.0, np.zeros((5, 2)), np.zeros(5), np.zeros(5), 2.0)
    for draw in (draw_maps, draw_histograms):
        assert draw({("a", "b"): flat}, {"a": "A"}, ["b"]).startswith(b"\x89PNG")


def test_windows_hold_their_sets() -> None:
    for name in toys.TOYS:
        rows = toys.toy_samples(name, 2000, np.random.default_rng(0))
        assert (np.abs(rows) <= window(name)).all(axis=1).mean() > 0.99


def _cone(at: float) -> Map:
    along = np.linspace(-3.0, 3.0, 60)
    x, y = np.meshgrid(along, along)
    scores = np.linspace(-1.0, 1.0, 50)
    return Map(1.0 - np.hypot(x - at, y - at), 3.0, np.zeros((3, 2)), scores, -scores, float("nan"))
