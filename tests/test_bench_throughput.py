"""Speed of detectors: a process each, what is scored, ratios to kNN, runs that go on."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from ocsdf3d.bench import throughput
from ocsdf3d.bench.isolation import begun_peak, call_apart, peak


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [300, 20]).astype(np.uint8)
    np.savez(tmp_path / "small.npz", X=rng.normal(size=(320, 3)), y=labels)
    return tmp_path / "small.npz"


def test_it_measures_each_in_a_process_and_goes_on(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = table.parent / "out"
    report = throughput.run([table], ["iforest", "knn"], out)
    assert "iforest …" in capsys.readouterr().err
    rows = list(csv.DictReader((out / "speed.csv").read_text().splitlines()))
    assert [(row["method"], row["rows"], row["columns"], row["scored"]) for row in rows] == [
        ("iforest", "320", "3", "320"),
        ("knn", "320", "3", "320"),
    ]
    assert all(float(row[name]) > 0.0 for row in rows for name in ("fit", "score"))
    lines = [line for line in report.text.splitlines() if line.startswith("| small")]
    ratio = [line.split("|")[6].strip() for line in lines]
    assert ratio[1] == "1"
    rate = [float(row["scored"]) / float(row["score"]) for row in rows]
    assert float(ratio[0]) == pytest.approx(rate[0] / rate[1], rel=1e-3)
    throughput.run([table], ["iforest", "knn"], out)
    assert capsys.readouterr().err == ""  # both rows were there


def test_a_failure_is_a_line_of_the_table(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "LIMIT", 0.05)
    report = throughput.run([table], ["knn"], table.parent / "out")
    assert "no answer in 0 s" in report.text


def _held_since(resettable: bool) -> float:
    if not resettable:
        Path.write_text = _refused  # type: ignore[assignment,method-assign]  # this process ends with the call
    before = begun_peak()
    held = np.ones(8_000_000)  # 61 MB, written to
    assert held[-1] == 1.0
    return peak() - before


def _refused(*_: object, **__: object) -> int:
    raise PermissionError("no such right in this container")


@pytest.mark.parametrize("resettable", [True, False])
def test_the_peak_counts_what_is_held_since(resettable: bool) -> None:
    outcome = call_apart(_held_since, resettable, limit=120.0)
    assert outcome.error is None
    assert outcome.value > 50.0
    status = Path("/proc/self/status")
    if status.exists() and "VmHWM" in status.read_text(encoding="utf-8"):
        assert outcome.value < 90.0
