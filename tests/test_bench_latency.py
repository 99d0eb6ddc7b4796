"""The bench of the slider on an exact shape: its rows, and what it says where nothing can be drawn."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocsdf3d import analytic, checkpoint
from ocsdf3d.bench import latency
from ocsdf3d.viewer import probe


@pytest.mark.skipif(probe.why_not() is not None, reason=f"rendering: {probe.why_not()}")
def test_a_row_for_the_kept_grid_and_one_for_each_resolution(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    field = checkpoint.save(tmp_path / "ball.safetensors", analytic.sphere(radius=1.0))
    assert latency.main(["--fields", str(field), "--nodes", "16", "24", "--moves", "3"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ball")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[1] for row in cells] == ["coarse, 64 kept", "fine, 16", "fine, 24"]
    for row in cells:
        surface, worst_surface, picture, worst_picture = map(float, row[3:])
        assert 0 < picture <= worst_picture
        assert surface <= worst_surface
        assert surface <= worst_picture  # the picture holds the same surface


def test_a_machine_that_cannot_draw_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(probe, "why_not", lambda: "ended by signal 11")
    assert latency.main(["--fields", str(tmp_path / "none.safetensors")]) == 1
    assert "libegl1" in capsys.readouterr().err
