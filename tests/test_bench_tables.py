"""Detectors side by side: what each learns from, ranks with ties, runs that go on, failures that count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ocsdf3d.bench import detectors, tables
from ocsdf3d.bench.detectors import DETECTORS, Judged, chosen_detectors, judged
from ocsdf3d.bench.tables import read, run, tables_of

Floats = np.ndarray


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two tables of a blob with far anomalies, one more for the protocol of halves, and a broken one."""
    rng = np.random.default_rng(0)
    data = tmp_path / "tabular"
    data.mkdir()
    for name, count in (("thyroid", 60), ("one", 40), ("arrhythmia", 50)):
        normal, far = rng.normal(size=(count, 3)), rng.normal(size=(6, 3)) + 9.0
        order = rng.permutation(count + 6)
        rows, labels = np.concatenate([normal, far]), np.repeat([0, 1], [count, 6])
        np.savez(data / f"{name}.npz", X=rows[order].astype(np.float32), y=labels[order].astype(np.uint8))
    return data


def stand_in(scores: Callable[[Floats, Floats], Floats], seen: list[tuple[int, int, bool, int]]) -> object:
    def rule(train: Floats, test: Floats, same: bool, seed: int) -> Judged:
        seen.append((len(train), len(test), same, seed))
        return Judged(scores(train, test), 0.5, 0.25)

    return rule


def by_norm(train: Floats, test: Floats) -> Floats:
    return -np.linalg.norm(test - np.median(train, axis=0), axis=1)


def test_every_scikit_detector_finds_far_rows_and_knows_its_own_rows() -> None:
    rng = np.random.default_rng(1)
    train = rng.normal(size=(200, 4)) * [1.0, 10.0, 0.1, 0.0] + [0.0, 0.0, 0.0, 5.0]  # one column constant
    far = train[:5] + np.array([8.0, 80.0, 0.8, 0.0])
    for name in ("iforest", "ocsvm", "lof", "knn"):
        scores = judged(name, train, np.concatenate([train, far]), seed=0).scores
        assert scores.shape == (205,)
        assert scores[:200].mean() > scores[200:].max(), name
        own = judged(name, train, None, seed=0).scores
        assert own.shape == (200,)
    # a row that was learnt is not its own neighbour, so its fifth one lies farther away
    assert np.all(judged("knn", train, None, seed=0).scores < judged("knn", train, train, seed=0).scores)


def test_pyod_detectors_find_far_rows() -> None:
    pytest.importorskip("pyod")
    rng = np.random.default_rng(1)
    train = rng.normal(size=(100, 4))
    far = train[:5] + 8.0
    for name in ("pca", "hbos", "ecod", "copod"):
        scores = judged(name, train, np.concatenate([train, far]), seed=0).scores
        assert scores[:100].mean() > scores[100:].max(), name


def test_ours_in_the_bench_is_the_estimator(monkeypatch: pytest.MonkeyPatch) -> None:
    import ocsdf3d.oneclass as oneclass

    asked: list[dict[str, object]] = []

    class Recorder:
        def __init__(self, **options: object) -> None:
            asked.append(options)

        def fit(self, rows: Floats) -> None:
            pass

        def score_samples(self, rows: Floats) -> Floats:
            return rows[:, 0]

    monkeypatch.setattr(oneclass, "OneClassSDF", Recorder, raising=False)
    rows = np.arange(6.0).reshape(3, 2)
    assert judged("ocsdf3d", rows, None, seed=3).scores.tolist() == [0.0, 2.0, 4.0]
    judged("ocsdf3d-paper", rows, None, seed=4)
    assert asked == [
        {"preset": "default", "random_state": 3},
        {"preset": "paper", "random_state": 4},
    ]


def test_protocols_learn_and_ask_what_they_say(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int, bool, int]] = []
    monkeypatch.setitem(DETECTORS, "knn", (stand_in(by_norm, seen), "sklearn", False))
    monkeypatch.setitem(DETECTORS, "iforest", (stand_in(by_norm, seen), "sklearn", True))
    paths = tables_of(folder, "ad", ["one"])
    run("ad", paths, ["knn"], folder / "a", seeds=[0, 1])
    assert seen == [(46, 46, True, 0)]  # the same rows, and once: nothing is drawn
    seen.clear()
    run("ad", paths, ["iforest"], folder / "b", seeds=[0, 1])
    assert seen == [(46, 46, True, 0), (46, 46, True, 1)]
    seen.clear()
    run("ad", paths, ["knn"], folder / "c", seeds=[0, 1], learn=20)
    assert seen == [(20, 46, False, 0), (20, 46, False, 1)]  # a part is drawn
    seen.clear()
    run("oc", paths, ["knn"], folder / "d", seeds=[0, 1])
    assert seen == [(20, 26, False, 0), (20, 26, False, 1)]  # half of 40 normals; the others and 6 anomalies


def test_halves_hold_normal_rows_only_and_the_rest_is_asked(folder: Path) -> None:
    table = read(folder / "one.npz")
    given: list[tuple[Floats, Floats]] = []

    def rule(train: Floats, test: Floats, same: bool, seed: int) -> Judged:
        given.append((train, test))
        return Judged(by_norm(train, test), 0.0, 0.0)

    old = DETECTORS["knn"]
    DETECTORS["knn"] = (rule, "sklearn", False)
    try:
        run("oc", [folder / "one.npz"], ["knn"], folder / "out", seeds=[0, 1])
    finally:
        DETECTORS["knn"] = old
    for train, test in given:
        assert np.abs(train).max() < 6.0  # no anomaly, which lie at 9
        together = np.concatenate([train, test])
        np.testing.assert_array_equal(
            np.unique(together, axis=0), np.unique(table.rows, axis=0)
        )  # none twice, none left out
    assert not np.array_equal(given[0][0], given[1][0])


def test_ranks_share_ties_and_failures_come_last(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(train: Floats, test: Floats) -> Floats:
        raise RuntimeError("no convergence")

    for name, how in (("knn", by_norm), ("lof", by_norm), ("ocsvm", lambda a, b: -by_norm(a, b))):
        monkeypatch.setitem(DETECTORS, name, (stand_in(how, []), "sklearn", False))
    monkeypatch.setitem(DETECTORS, "iforest", (stand_in(broken, []), "sklearn", True))
    paths = tables_of(folder, "ad", None)
    assert [path.stem for path in paths] == ["one", "thyroid"]  # table 2 has no arrhythmia
    report = run("ad", paths, ["knn", "lof", "ocsvm", "iforest"], folder / "out", seeds=[0])
    # by_norm is perfect, its opposite ranks every pair wrong, and a failure counts as 0 just like that
    assert report.standings == {
        "knn": (1.0, 1.5),
        "lof": (1.0, 1.5),
        "ocsvm": (0.0, 3.5),
        "iforest": (0.0, 3.5),
    }
    assert "iforest on one, seed 0: RuntimeError: no convergence" in report.text
    assert (folder / "out" / "ad.md").read_text().startswith("# Anomaly detection")
    assert (folder / "out" / "ad.png").read_bytes()[:4] == b"\x89PNG"


def test_a_run_goes_on_and_fresh_begins_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int, bool, int]] = []
    monkeypatch.setitem(DETECTORS, "iforest", (stand_in(by_norm, seen), "sklearn", True))
    paths = tables_of(folder, "oc", None)
    assert [path.stem for path in paths] == ["arrhythmia", "thyroid"]
    first = run("oc", paths, ["iforest"], folder / "out", seeds=[0])
    run("oc", paths, ["iforest"], folder / "out", seeds=[0, 1])
    assert [seed for *_, seed in seen] == [0, 0, 1, 1]
    again = run("oc", paths, ["iforest"], folder / "out", seeds=[0])
    assert again.standings == first.standings
    assert len(seen) == 4
    run("oc", paths, ["iforest"], folder / "out", seeds=[0], fresh=True)
    assert len(seen) == 6


def test_absent_library_is_said_and_the_others_go_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent(train: Floats, test: Floats) -> Floats:
        raise ImportError("No module named 'pyod'")

    monkeypatch.setitem(DETECTORS, "pca", (stand_in(absent, []), "pyod", False))
    monkeypatch.setitem(DETECTORS, "knn", (stand_in(by_norm, []), "sklearn", False))
    report = run("ad", tables_of(folder, "ad", None), ["pca", "knn"], folder / "out", seeds=[0])
    assert list(report.standings) == ["knn"]
    assert "pca does not load and takes no part" in capsys.readouterr().err


def test_bad_tables_and_names_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="no detector magic"):
        chosen_detectors(["magic"])
    assert chosen_detectors(["knn", "lof", "knn"]) == ("knn", "lof")
    assert not {detectors.FINE, detectors.PAPER} & set(chosen_detectors(None))
    with pytest.raises(ValueError, match="no table moon"):
        tables_of(folder, "ad", ["moon"])
    with pytest.raises(ValueError, match="no protocol xx"):
        tables_of(folder, "xx", None)
    for arrays, said in (
        ({"a": np.zeros(3)}, "no arrays `X` and `y`"),
        ({"X": np.zeros((3, 2)), "y": np.zeros(2)}, "must be"),
        ({"X": np.full((3, 2), np.nan), "y": np.zeros(3)}, "finite"),
        ({"X": np.zeros((3, 2)), "y": np.zeros(3)}, "and both"),
    ):
        np.savez(folder / "bad.npz", **arrays)
        with pytest.raises(ValueError, match=said):
            read(folder / "bad.npz")


def test_published_figures_are_those_of_the_tables() -> None:
    """Means over the tables at hand: 0.824 without speech, as in the docstring of the estimator."""
    ad = tables.PUBLISHED["ad"]
    assert len(ad) == 18
    assert sum(mean for mean, _ in ad.values()) / 18 == pytest.approx(0.8244, abs=1e-3)
    assert set(tables.PUBLISHED["oc"]) == set(tables.HALVES)
