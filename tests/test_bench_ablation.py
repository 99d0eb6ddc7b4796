"""The ablation: variants differ in one setting each, rows survive, the table says which is which."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import trimesh

from ocsdf3d.bench import ablation
from ocsdf3d.presets import PRESETS


def test_every_variant_changes_something_of_the_default() -> None:
    default = PRESETS["default"]
    made = {name: change(default) for name, change in ablation.VARIANTS.items()}
    assert made.pop("as it is") == default
    assert all(preset != default for preset in made.values())
    untold = {"touch": 0.0, "touch_start": 0.0, "away": 0.0}
    assert made["neither"].solid == dataclasses.replace(default.solid, **untold)
    assert len(set(map(repr, made.values()))) == len(made)


def test_it_measures_resumes_and_prints(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data" / "meshes").mkdir(parents=True)
    trimesh.creation.icosphere(3).export(tmp_path / "data" / "meshes" / "ball.off")
    monkeypatch.setenv("OCSDF3D_DATA", str(tmp_path / "data"))
    monkeypatch.setitem(PRESETS, "fast", PRESETS[tiny])
    given = ["--preset", "fast", "--points", "400", "--resolution", "32", "--samples", "2000"]
    given += ["--variants", "as it is", "neither", ablation.KEPT, "--out", str(tmp_path / "out")]
    assert ablation.main(given) == 0
    first = capsys.readouterr()
    assert first.err.count("ball.off, seed 0") == 3
    for name in ("as it is", "neither", ablation.KEPT):
        assert f"| {name} |" in first.out
    assert ablation.main(given) == 0
    again = capsys.readouterr()
    assert "ball.off, seed 0" not in again.err
    assert again.out.split("| method")[1] == first.out.split("| method")[1]
    assert ablation.main([*given, "--shapes", "cube"]) == 1
    assert "no closed mesh: cube" in capsys.readouterr().err
