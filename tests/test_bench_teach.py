"""Random solids are what they claim, and lessons teach."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from safetensors.torch import load_file

from ocsdf3d.bench import random_solids, teach
from ocsdf3d.bench.random_solids import Part, Solid, random_solid
from ocsdf3d.tetrahedra import SideNetwork, taught

AXES = random_solids.rotation(np.random.default_rng(3))
PARTS = {
    "box": [0.5, 0.3, 0.1],
    "cylinder": [0.4, 0.2],
    "capsule": [0.2, 0.5],
    "ellipsoid": [0.7, 0.3, 0.2],
    "torus": [0.6, 0.15],
}


def part(kind: str, away: bool = False) -> Part:
    return Part(kind, np.array(PARTS[kind]), np.array([0.2, -0.1, 0.3]), AXES, away)


@pytest.mark.parametrize("kind", list(PARTS))
def test_samples_lie_on_the_part_and_are_spread_by_area(kind: str) -> None:
    rng = np.random.default_rng(0)
    one = part(kind)
    x = one.surface(40_000, rng)
    local = (x - one.center) @ one.axes
    outward = local.copy()
    if kind == "torus":  # away from the ring, not from the centre
        ring = local * [1, 1, 0]
        outward -= PARTS[kind][0] * ring / np.linalg.norm(ring, axis=1, keepdims=True)
    if kind == "capsule":
        outward[:, 2] -= np.clip(local[:, 2], -PARTS[kind][1], PARTS[kind][1])
    step = 1e-6 * outward @ one.axes.T
    assert one.contains(x - step).all()
    assert not one.contains(x + step).any()
    # By area: a thin shell between the part and itself a little larger is filled evenly by definition.
    reference = {
        "box": lambda: trimesh.creation.box(2 * one.size),
        "cylinder": lambda: trimesh.creation.cylinder(PARTS[kind][0], 2 * PARTS[kind][1], sections=256),
        "capsule": lambda: trimesh.creation.capsule(2 * PARTS[kind][1], PARTS[kind][0], count=[128, 128]),
        "ellipsoid": lambda: trimesh.creation.icosphere(5).apply_scale(one.size),
        "torus": lambda: trimesh.creation.torus(*PARTS[kind], major_sections=128, minor_sections=64),
    }[kind]()
    assert one.area() == pytest.approx(reference.area, rel=0.012)
    expected = np.asarray(trimesh.sample.sample_surface(reference, 40_000, seed=1)[0])
    expected[:, 2] -= expected[:, 2].mean()  # trimesh sets some shapes on their foot
    for axis in range(3):
        quantiles = np.linspace(0.05, 0.95, 19)
        a, b = (
            np.quantile(np.abs(local[:, axis]), quantiles),
            np.quantile(np.abs(expected[:, axis]), quantiles),
        )
        assert np.abs(a - b).max() < 0.02  # 40,000 draws: 1 % of the size


@pytest.mark.parametrize("seed", range(12))
def test_surface_of_the_whole_separates_inside_from_outside(seed: int) -> None:
    rng = np.random.default_rng(seed)
    solid = random_solid(rng)
    x = solid.surface(2000, rng)
    assert x.shape == (2000, 3)
    near = x[:, None] + 1e-5 * rng.normal(size=(2000, 16, 3))
    inside = solid.contains(near.reshape(-1, 3)).reshape(2000, 16).mean(axis=1)
    # Each sample has both sides about it (16 of them all on one side by chance: 3e-5), nearly half and half.
    assert ((inside > 0.0) & (inside < 1.0)).mean() > 0.999
    assert inside.mean() == pytest.approx(0.5, abs=0.03)


def test_what_is_taken_away_is_outside() -> None:
    block, hole = part("box"), part("cylinder", away=True)
    centre = block.center[None]
    assert Solid([block]).contains(centre).all()
    assert not Solid([block, hole]).contains(centre).any()
    assert not Solid([hole, block]).contains(centre).any()  # in whatever order


def test_nothing_left_is_said() -> None:
    small = Part("box", np.full(3, 0.1), np.zeros(3), np.eye(3))
    large = Part("box", np.full(3, 1.0), np.zeros(3), np.eye(3), True)
    with pytest.raises(ValueError, match="fewer than 500"):
        Solid([small, large]).surface(500, np.random.default_rng(0))


@pytest.mark.slow
def test_a_lesson_is_the_same_every_time_and_teaches() -> None:
    lessons = [lesson for k in (1, 2, 3) if (lesson := teach.lesson((7, k))) is not None]
    again = teach.lesson((7, 1))
    assert again is not None
    assert torch.equal(lessons[0].inside, again.inside)
    assert lessons[0].inside.shape[1] == teach.READINGS
    assert 0.0 < lessons[0].inside.float().mean() < 1.0

    def wrong(network: SideNetwork | None) -> float:
        shares = []
        for one in lessons:
            a, b = network(one.graph) if network else (torch.zeros(1), torch.ones(1))
            said = a[..., None] + b[..., None] * one.field > 0
            shares.append(
                float((one.weight * (said != one.inside).float().mean(dim=1)).sum() / one.weight.sum())
            )
        return float(np.mean(shares))

    # Measured: 0.28 by the field, 0.15 after 60 steps, 0.20 by the package's weights, which were not taught
    # these three.
    field = wrong(None)
    assert wrong(teach.taught_on(lessons, 60, 1e-2, 0)) < 0.85 * field
    assert wrong(taught()) < 0.85 * field


@pytest.mark.slow
def test_teach_measures_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data" / "meshes").mkdir(parents=True)
    trimesh.creation.icosphere(3).export(tmp_path / "data" / "meshes" / "ball.off")
    monkeypatch.setenv("OCSDF3D_DATA", str(tmp_path / "data"))
    small = ["--lessons", "2", "--steps", "3", "--points", "300", "--queries", "2000"]
    assert teach.main(["--out", str(tmp_path / "out"), *small]) == 0
    printed = capsys.readouterr().out
    assert "| ball.off | 300 | 0 | 2000 |" in printed
    assert "mean of 1" in printed
    weights = load_file(tmp_path / "out" / "tetrahedra.safetensors")
    SideNetwork().load_state_dict(weights)
    assert teach.main(["--measure", "--out", str(tmp_path / "out"), *small]) == 0
    row = capsys.readouterr().out.split("| ball.off |")[1].splitlines()[0]
    assert all(float(value) > 0.9 for value in row.strip(" |").split("|")[3:])
