"""Thinning keeps a random sample, uniform over the surface, however the cloud is cut; and far outliers go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ocsdf3d import io, thinning
from ocsdf3d.geometry import PointCloud
from ocsdf3d.thinning import ThinnedCloud, read_within, thinned


def sphere(count: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(count, 3))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def blocks(points: np.ndarray, rows: int, normals: np.ndarray | None = None) -> io.Blocks:
    def each() -> Iterator[io.Block]:
        for start in range(0, len(points), rows):
            part = slice(start, start + rows)
            yield io.Block(points[part], None if normals is None else normals[part])

    return io.Blocks("test", len(points), each, normals is not None)


def test_the_cut_into_blocks_does_not_matter() -> None:
    points = sphere(60_000)
    one = thinned(blocks(points, 60_000), seed=3, kept=5000)
    for rows in (60_000, 17_000, 1_000):
        other = thinned(blocks(points, rows), seed=3, kept=5000)
        assert sorted(map(tuple, other.points)) == sorted(map(tuple, one.points))
    assert 2500 <= len(one) <= 5000
    assert one.read == 60_000
    kept = {tuple(row) for row in one.points}
    assert kept <= {tuple(row) for row in points}  # samples as they are, no means
    third = thinned(blocks(points, 60_000), seed=4, kept=5000)
    assert {tuple(row) for row in third.points} != kept


def test_normals_go_along_or_are_dropped_together() -> None:
    points = sphere(30_000)
    found = thinned(blocks(points, 8000, points), kept=4000)
    assert found.normals is not None
    np.testing.assert_allclose(found.normals, found.points, atol=1e-12)
    broken = points.copy()
    broken[::2] = 0.0
    assert thinned(blocks(points, 8000, broken), kept=4000).normals is None


def test_colors_go_along_with_their_points() -> None:
    points = sphere(30_000)
    painted = np.round(100.0 + 100.0 * points).astype(np.uint8)
    one = PointCloud(points, colors=painted)
    found = thinned(io.blocks_of(one), kept=4000)  # type: ignore[arg-type]
    assert found.colors is not None
    np.testing.assert_array_equal(found.colors, np.round(100.0 + 100.0 * found.points))
    assert thinned(blocks(points, 8000), kept=4000).colors is None
    black = PointCloud(points, colors=np.zeros_like(painted))
    assert thinned(io.blocks_of(black), kept=4000).colors is None  # type: ignore[arg-type]


def test_density_is_evened_out() -> None:
    """One half thirty times as dense as the other: at random its share would be 0.97."""
    points = sphere(400_000)
    rng = np.random.default_rng(1)
    points = points[(points[:, 0] > 0.0) | (rng.random(len(points)) < 1 / 30)]
    assert (points[:, 0] > 0.0).mean() > 0.95
    found = thinned(blocks(points, 100_000), kept=10_000)
    assert 0.4 < (found.points[:, 0] > 0.0).mean() < 0.75
    assert found.strays < 0.005 * len(points)


def test_far_outliers_go_and_the_surface_stays() -> None:
    """Every twentieth point is uniform in a box 1.5 times as wide: the ten neighbours of one are outliers."""
    points = np.concatenate([sphere(300_000), np.random.default_rng(1).uniform(-1.5, 1.5, (15_000, 3))])
    points = points[np.random.default_rng(2).permutation(len(points))]
    found = thinned(blocks(points, 100_000), kept=40_000)
    off = np.abs(np.linalg.norm(found.points, axis=1) - 1.0) > 0.1
    assert (np.abs(np.linalg.norm(points, axis=1) - 1.0) > 0.1).mean() > 0.03
    assert off.mean() < 1e-3
    assert 12_000 < found.strays < 15_600  # some voxels that the sphere only grazes go too
    clean = thinned(blocks(sphere(300_000), 100_000), kept=40_000)
    assert clean.strays < 1500  # half a percent


def test_noise_is_neither_removed_nor_made_larger() -> None:
    points = sphere(300_000)
    points = points * (1.0 + 0.01 * np.random.default_rng(1).normal(size=(len(points), 1)))
    found = thinned(blocks(points, 100_000), kept=30_000)
    spread = np.std(np.linalg.norm(found.points, axis=1))
    assert 0.0095 < spread < 0.0115  # one point a voxel of this many would have 0.013 and more


@pytest.mark.parametrize("move", [0.0, 5e6])
def test_place_and_degenerate_extent(move: float) -> None:
    found = thinned(blocks(sphere(20_000) + move, 5000), kept=3000)
    assert np.abs(np.linalg.norm(found.points - move, axis=1) - 1.0).max() < 1e-8
    same = thinned(blocks(np.full((2000, 3), move), 500), kept=300)
    assert np.unique(same.points, axis=0).tolist() == [[move] * 3]


def test_a_later_block_may_lie_far_beyond_the_first() -> None:
    points = np.concatenate([1e-6 * sphere(2000), 1e6 * sphere(2000)])
    found = thinned(blocks(points, 2000), kept=1000)
    assert (np.linalg.norm(found.points, axis=1) > 1.0).any()


def test_read_within(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thinning, "LARGE", 1000)
    points = sphere(5000)
    np.save(tmp_path / "a.npy", points)
    np.savetxt(tmp_path / "a.xyz", points)
    sources = [tmp_path / "a.npy", tmp_path / "a.xyz", points, PointCloud(points)]
    for source in sources:
        found = read_within(source, seed=1)
        assert isinstance(found, ThinnedCloud)
        assert found.read == 5000
        assert read_within(found) is found or len(found) > 1000
    few = read_within(points[:900])
    assert type(few) is PointCloud
    assert len(few) == 900


def test_nothing_to_read() -> None:
    with pytest.raises(io.ReadError, match="no point"):
        thinned(blocks(np.zeros((0, 3)), 10))


def test_fit_says_how_many_were_read(tiny: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from ocsdf3d import fit

    monkeypatch.setattr(thinning, "LARGE", 3000)
    monkeypatch.setattr(thinning, "KEPT", 1000)
    sdf = fit(sphere(4000), preset="tiny", support="solid")
    assert sdf.settings["read"] == 4000
    assert 300 < sdf.settings["points"] <= 3000
    assert fit(sphere(500), preset="tiny", support="solid").settings["read"] == 500


def test_the_command_line_says_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ocsdf3d import pipeline
    from ocsdf3d.cli import main

    def stop(shape: object, **_: object) -> None:
        assert isinstance(shape, ThinnedCloud)
        raise ValueError("far enough")

    monkeypatch.setattr(thinning, "LARGE", 1000)
    monkeypatch.setattr(pipeline, "fit", stop)
    np.save(tmp_path / "a.npy", sphere(5000))
    assert main(["reconstruct", str(tmp_path / "a.npy"), "-o", str(tmp_path / "a.ply")]) == 1
    said = capsys.readouterr().err
    assert "5,000 points thinned to" in said
    assert "far enough" in said
