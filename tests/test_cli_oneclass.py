"""`ocsdf3d oneclass`: each step on files, each flag seen to act, and what is refused in one line."""

from __future__ import annotations

import argparse
import csv
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("sklearn")

import ocsdf3d
from ocsdf3d.analytic import sphere
from ocsdf3d.cli import build_parser, main
from ocsdf3d.cli.oneclass import certify, fit, given, score
from ocsdf3d.oneclass import OneClassSDF, auroc, delimited, load
from ocsdf3d.oneclass.estimator import PRESETS
from ocsdf3d.viewer.figures import certificate_figure


def run(*argv: object) -> int:
    return main(["oneclass", *map(str, argv)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Normal rows to learn, and such with a ring of anomalies to judge: CSV with names, ADBench's NPZ."""
    path = tmp_path_factory.mktemp("oneclass")
    rng = np.random.default_rng(0)
    scale, shift = (1.0, 100.0), (5.0, -1e3)
    learnt = rng.normal(size=(120, 2)) * scale + shift
    angle = rng.uniform(0.0, 2.0 * np.pi, 30)
    ring = 4.0 * np.stack([np.cos(angle), np.sin(angle)], axis=1) * scale + shift
    judged = np.concatenate([rng.normal(size=(50, 2)) * scale + shift, ring])
    y = np.repeat([0, 1], [50, 30])
    lines = ["id,length,mass,kind"]
    lines += [f"{i},{row[0]!r},{row[1]!r},good" for i, row in enumerate(learnt.tolist())]
    (path / "learn.csv").write_text("\n".join([*lines, "120,5.0,9999.0,bad"]))
    lines = ["id,length,mass,sk,kind"]
    for i, (row, label) in enumerate(zip(judged.tolist(), y, strict=True)):
        lines.append(f"{i},{row[0]!r},{row[1]!r},{1 - 2 * label},{'bad' if label else 'good'}")
    (path / "judge.csv").write_text("\n".join(lines))
    np.savez(path / "judge.npz", X=judged, y=y)
    np.save(path / "learn.npy", learnt)
    return path


@pytest.fixture(scope="module")
def detector(folder: Path) -> Path:
    path = folder / "detector.safetensors"
    options = [
        "--drop",
        "id",
        "--label",
        "kind",
        "--normal",
        "good",
        "--preset",
        "fast",
        "-q",
        "--device",
        "cpu",
    ]
    assert run("fit", folder / "learn.csv", "-o", path, *options) == 0
    return path


DROPPED = ("--drop", "id", "sk", "kind")


def said(capsys: pytest.CaptureFixture[str], *argv: object) -> dict[str, Any]:
    """The JSON object of a step that succeeds."""
    capsys.readouterr()
    assert run(*argv, "--json", "-q") == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def refused(capsys: pytest.CaptureFixture[str], *argv: object, code: int = 1) -> str:
    """The one line of a step that fails, on stderr."""
    capsys.readouterr()
    assert run(*argv) == code
    seen = capsys.readouterr()
    assert seen.out == ""
    assert seen.err.count("\n") == 1, seen.err
    return seen.err


# --- fit

FITS = {  # flag → (value, parameter of the detector, what it gets, what it gets without the flag)
    "--margin": ("0.125", "margin", 0.125, "auto"),
    "--lam": ("50", "lam", 50.0, "auto"),
    "--steps": ("7", "steps", 7, "auto"),
    "--preset": ("fast", "preset", "fast", "default"),
    "--contamination": ("0.1", "contamination", 0.1, "auto"),
    "--device": ("cpu", "device", "cpu", "auto"),
    "--seed": ("7", "random_state", 7, 0),
}


@pytest.mark.parametrize("flag", FITS)
def test_each_flag_reaches_the_detector(
    flag: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    value, name, with_it, without = FITS[flag]
    for preset in ("default", "fast"):
        monkeypatch.setitem(PRESETS, preset, replace(PRESETS[preset], steps=3, warm=1))
    found = []
    for options in ([], [flag, value]):
        out = tmp_path / f"{len(options)}.safetensors"
        assert run("fit", folder / "learn.npy", "-o", out, "-q", *options) == 0
        found.append(load(out).get_params())
    assert (found[0][name], found[1][name]) == (without, with_it)
    assert {k: v for k, v in found[0].items() if k != name} == {
        k: v for k, v in found[1].items() if k != name
    }


def test_fit_says_what_it_learnt(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "d.safetensors"
    options = ["--preset", "fast", "--steps", "20", "--contamination", "0.25", "--seed", "3"]
    found = said(capsys, "fit", folder / "learn.csv", "-o", out, "--drop", "id", "--drop", "kind", *options)
    kept = load(out)
    assert found["rows"] == 121
    assert found["names"] == ["length", "mass"] == kept.feature_names_in_.tolist()
    assert found["accepted"] == pytest.approx(0.75, abs=1.0 / 121)
    assert found["threshold"] == kept.offset_ != 0.0
    assert found["steps"] == 20
    assert found["certificate"]["lipschitz"] == kept.certificate_.lipschitz <= 1.0
    assert found["seconds"] > 0.0
    assert run("fit", folder / "learn.csv", "-o", out, "--drop", "id", "kind", *options) == 0
    seen = capsys.readouterr()
    assert "learnt from 121 rows of 2 columns" in seen.out
    assert "certified: Lipschitz bound 0.999" in seen.out
    assert "seed 3" in seen.out
    assert "exists and will be overwritten" in seen.err


def test_a_column_that_counts_the_rows_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--preset", "fast", "--steps", "3", "-o", tmp_path / "d.safetensors"]
    assert run("fit", folder / "learn.csv", "--drop", "kind", *options) == 0
    assert "warning: column 'id' counts the rows" in capsys.readouterr().err
    chosen = ("--label", "kind", "--normal", "good")
    assert run("fit", folder / "learn.csv", *chosen, *options) == 0
    assert "warning: column 'id' counts the rows" in capsys.readouterr().err
    assert run("fit", folder / "learn.csv", "--drop", "kind", "id", *options) == 0
    assert "counts the rows" not in capsys.readouterr().err


@pytest.mark.filterwarnings("default")
def test_fit_tells_what_it_does_not_learn_from(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--drop", "id", "kind", "--preset", "fast", "--steps", "3"]
    for mark in ("-3.4028235e38", "999999.0"):  # the first is more than scores are computed with
        lines = (folder / "learn.csv").read_text().replace("5.0,9999.0,bad", f"5.0,{mark},bad")
        (tmp_path / "marked.csv").write_text(lines)
        assert run("fit", tmp_path / "marked.csv", "-o", tmp_path / "d.safetensors", *options) == 0
    capsys.readouterr()
    assert run("fit", tmp_path / "marked.csv", "-o", tmp_path / "d.safetensors", *options) == 0
    seen = capsys.readouterr()
    assert "learnt from 120 rows of 2 columns" in seen.out
    assert "accepted: " in seen.out
    assert "marked.csv, line 122: not learnt from, 999999 is absurdly far from the rest" in seen.err
    assert "1 of 121 rows are like that" in seen.err
    assert seen.err.count("learnt from") == 1
    assert "Traceback" not in seen.err


def test_labels_choose_rows_only_when_asked(folder: Path, detector: Path, tmp_path: Path) -> None:
    """One row in the training file is bad, and 110 standard deviations off."""
    with_it = tmp_path / "d.safetensors"
    options = ["--drop", "id", "--label", "kind", "--preset", "fast", "-q", "--steps", "5"]
    assert run("fit", folder / "learn.csv", "-o", with_it, *options) == 0
    learnt = np.load(folder / "learn.npy")
    np.testing.assert_allclose(load(detector).mean_, learnt.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(load(with_it).mean_[1], np.append(learnt[:, 1], 9999.0).mean(), rtol=1e-12)


def test_fit_in_python_gives_the_same_detector(folder: Path, detector: Path) -> None:
    rows = np.load(folder / "learn.npy")
    again = OneClassSDF(preset="fast", random_state=0, device="cpu").fit(rows)
    loaded = load(detector)
    del loaded.feature_names_in_
    np.testing.assert_array_equal(loaded.score_samples(rows), again.score_samples(rows))


def test_categories_act(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pandas")
    out = tmp_path / "d.safetensors"
    options = ["--drop", "id", "--preset", "fast", "--steps", "5"]
    line = refused(capsys, "fit", folder / "learn.csv", "-o", out, *options)
    assert "line 2: column 'kind' holds 'good', not a number" in line
    found = said(capsys, "fit", folder / "learn.csv", "-o", out, *options, "--categories", "kind")
    assert (found["columns"], found["features"]) == (3, 4)
    scores = tmp_path / "s.npy"
    assert run("score", out, folder / "learn.csv", "-o", scores, "--drop", "id", "-q") == 0
    assert np.load(scores).shape == (121, 4)


def test_delimiter_and_header_act(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, out = tmp_path / "t.csv", tmp_path / "d.safetensors"
    table.write_text("2001;2002\n1,5;2\n2,5;3\n0,5;1\n")
    options = ["fit", table, "-o", out, "--preset", "fast", "--steps", "3"]
    assert "holds '1,5', not a number" in refused(capsys, *options, "--delimiter", "semicolon")
    table.write_text("2001;2002\n1.5;2\n2.5;3\n0.5;1\n")
    assert said(capsys, *options)["rows"] == 4
    found = said(capsys, *options, "--header", "yes")
    assert (found["rows"], found["names"]) == (3, ["2001", "2002"])
    assert "line 2: column '2001;2002' holds '1.5;2'" in refused(
        capsys, *options[:3], tmp_path / "new.safetensors", "--delimiter", "tab"
    )


@pytest.mark.parametrize(
    ("text", "options", "line"),
    [
        ("a,b\n1,2\n", [], "1 row to learn from; a detector needs at least 2"),
        ("a,b\n1,2\n3,\n", [], "line 3: column 'b' is empty"),
        ("a,b\n1,2\n3,4\n", ["--normal", "1"], "--normal says which label is normal; give --label COLUMN"),
        ("a,b\n1,2\n3,4\n", ["--label", "c"], "no column 'c'; it has a, b"),
        ("a,b\n1,2\n3,4\n", ["--drop", "a", "b"], "no columns are left to learn from"),
    ],
)
def test_what_cannot_be_learnt_is_one_line(
    text: str, options: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "t.csv"
    table.write_text(text)
    assert line in refused(capsys, "fit", table, "-o", tmp_path / "d.safetensors", *options)
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_a_stop_in_the_middle_writes_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(self: OneClassSDF, X: Any, y: Any = None, **_: Any) -> OneClassSDF:
        raise KeyboardInterrupt

    monkeypatch.setattr(OneClassSDF, "fit", stopped)
    line = refused(capsys, "fit", folder / "learn.npy", "-o", tmp_path / "d.safetensors", code=130)
    assert "interrupted; nothing was written" in line
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_keeps_what_was_learnt(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way, with the signal at the first report of training."""
    told_of: list[int] = []

    def report(self: object, stage: str, done: int, total: int, figures: object) -> None:
        if not told_of:
            signal.raise_signal(signal.SIGINT)
        told_of.append(done)

    monkeypatch.setattr("ocsdf3d.cli.progress.Progress.__call__", report)
    out = tmp_path / "d.safetensors"
    assert run("fit", folder / "learn.npy", "-o", out, "--steps", 200, "--json") == 0
    end = capsys.readouterr()
    figures = json.loads(end.out)
    assert (figures["interrupted"], figures["steps"], told_of) == (True, 25, [25])
    assert end.err == "ocsdf3d: warning: interrupted: training ended after 25 steps; its result is written\n"
    assert load(out).certificate_.lipschitz <= 1.0
    assert load(out).history_["interrupted"]


# --- score


def test_every_row_gets_its_line(
    folder: Path, detector: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "s.csv"
    found = said(capsys, "score", detector, folder / "judge.csv", "-o", out, *DROPPED)
    with open(out, newline="") as stream:
        rows = list(csv.DictReader(stream))
    kept = load(detector)
    del kept.feature_names_in_
    X = np.load(folder / "judge.npz")["X"]
    assert [int(row["row"]) for row in rows] == list(range(80))
    for name, expected in {
        "score": kept.score_samples(X),
        "decision": kept.decision_function(X),
        "inlier": kept.predict(X),
        "radius": kept.certified_radius(X),
    }.items():
        np.testing.assert_array_equal([float(row[name]) for row in rows], expected)
    assert found["rows"] == 80
    assert found["inliers"] == int((kept.predict(X) == 1).sum())
    assert 0 < found["certain"] <= 80


def test_columns_are_kept_beside_what_is_said_of_their_rows(
    folder: Path, detector: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, out = tmp_path / "plain.csv", tmp_path / "s.csv"
    assert run("score", detector, folder / "judge.csv", "-o", plain, "-q", *DROPPED) == 0
    wanted = ["-q", "--drop", "sk", "--keep", "id", "kind", "--keep", "mass"]  # the last is judged as well
    assert run("score", detector, folder / "judge.csv", "-o", out, *wanted) == 0
    with open(out, newline="") as stream, open(plain, newline="") as other:
        rows, same = list(csv.DictReader(stream)), list(csv.DictReader(other))
    with open(folder / "judge.csv", newline="") as stream:
        given = list(csv.DictReader(stream))
    assert list(rows[0]) == ["row", "id", "kind", "mass", "score", "decision", "inlier", "radius"]
    for name, source in (("id", given), ("kind", given), ("mass", given), ("score", same), ("radius", same)):
        assert [row[name] for row in rows] == [row[name] for row in source]
    assert run("score", detector, folder / "judge.csv", "-o", tmp_path / "s.npz", *wanted) == 0
    with np.load(tmp_path / "s.npz") as arrays:
        assert arrays["kind"].tolist() == [row["kind"] for row in given]
    capsys.readouterr()
    fresh = tmp_path / "fresh.csv"
    assert run("score", detector, folder / "judge.csv", "-o", fresh, "-q", *DROPPED, "--keep", "id") == 0
    fresh.unlink()
    named = (folder / "judge.csv").read_text().replace("id,length", "file,length", 1)  # a word of `savez`
    (tmp_path / "named.csv").write_text(named)
    columns = ("--drop", "sk", "kind", "--keep", "file")
    assert run("score", detector, tmp_path / "named.csv", "-o", tmp_path / "s.npz", "-q", *columns) == 0
    with np.load(tmp_path / "s.npz", allow_pickle=False) as arrays:
        assert arrays["file"].tolist() == [row["id"] for row in given]
    bare, judged = tmp_path / "bare.safetensors", folder / "judge.npz"
    assert run("fit", folder / "learn.npy", "-o", bare, "-q", "--preset", "fast", "--steps", "3") == 0
    assert (
        run("score", bare, judged, "-o", tmp_path / "t.npz", "-q", "--keep", "y", "2") == 0
    )  # both are its own
    with np.load(tmp_path / "t.npz") as arrays, np.load(judged) as source:
        assert np.array_equal(arrays["y"], source["y"])
        assert np.array_equal(arrays["2"], source["X"][:, 1])
    capsys.readouterr()
    line = refused(capsys, "score", detector, folder / "judge.csv", "-o", tmp_path / "s.npy", *wanted)
    assert "--keep: an NPY holds numbers alone" in line
    line = refused(capsys, "score", detector, folder / "judge.csv", "-o", fresh, *DROPPED, "--keep", "none")
    assert "no column 'none'" in line
    line = refused(capsys, "score", detector, folder / "judge.csv", "-o", fresh, *DROPPED, "--keep", "row")
    assert "the output has a column of that name" in line


def test_the_other_formats_hold_the_same(
    folder: Path, detector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("csv", "npy", "npz"):
        table = folder / "judge.npz"
        assert run("score", detector, table, "-o", tmp_path / f"s.{kind}", "-q") == 0
    text = np.loadtxt(tmp_path / "s.csv", delimiter=",", skiprows=1)
    np.testing.assert_array_equal(np.load(tmp_path / "s.npy"), text[:, 1:])
    with np.load(tmp_path / "s.npz") as arrays:
        assert arrays.files == ["row", "score", "decision", "inlier", "radius"]
        np.testing.assert_array_equal(np.column_stack([arrays[name] for name in arrays.files]), text)
    pandas = pytest.importorskip("pandas")
    written: list[Any] = []

    def to_parquet(frame: Any, path: Path, index: bool) -> None:  # the writer itself needs pyarrow
        written.append(frame)
        path.write_bytes(b"PAR1")

    monkeypatch.setattr(pandas.DataFrame, "to_parquet", to_parquet)
    assert run("score", detector, folder / "judge.npz", "-o", tmp_path / "s.parquet", "-q") == 0
    np.testing.assert_array_equal(written[0].to_numpy(), text)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--drop", "id"], "the detector knows no column sk, kind; drop what is not its own"),
        (["--drop", "id", "sk", "kind", "mass"], "the detector's column 'mass' is missing"),
        (
            ["--delimiter", "tab", "--header", "no"],
            "1 columns, where the detector was fitted on 2 (length, mass)",
        ),
    ],
)
def test_other_columns_are_named(
    options: list[str],
    line: str,
    folder: Path,
    detector: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = ["score", detector, folder / "judge.csv", "-o", tmp_path / "s.csv", *options]
    assert line in refused(capsys, *argv)
    assert list(tmp_path.iterdir()) == []


def test_a_field_is_no_detector(
    folder: Path, detector: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    field = ocsdf3d.save(tmp_path / "field.safetensors", sphere())
    line = refused(capsys, "score", field, folder / "judge.npz", "-o", tmp_path / "s.csv")
    assert "a file of kind field, not a detector of ocsdf3d: use ocsdf3d.load" in line


def test_inputs_are_not_overwritten(folder: Path, detector: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "judge.csv").read_bytes()
    assert "would replace the input" in refused(
        capsys, "score", detector, folder / "judge.csv", "-o", folder / "judge.csv", *DROPPED
    )
    assert (folder / "judge.csv").read_bytes() == before
    assert "no such file" in refused(
        capsys, "score", "absent.safetensors", folder / "judge.csv", "-o", "s.csv"
    )


# --- certify


def test_the_three_ways_to_say_what_is_normal_agree(
    folder: Path, detector: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ways = [
        ("judge.csv", "--label", "sk", "--drop", "id", "kind"),
        ("judge.csv", "--label", "kind", "--normal", "good", "--drop", "id", "sk"),
        ("judge.npz", "--label", "y", "--normal", "0"),
    ]
    found = [said(capsys, "certify", detector, folder / name, *options) for name, *options in ways]
    for one in found[1:]:
        for name in ("auroc", "normal", "anomalies", "certified_auroc", "certified_tpr", "certified_fpr"):
            assert one[name] == found[0][name]
    assert (found[0]["normal"], found[0]["anomalies"]) == (50, 30)
    turned = said(capsys, "certify", detector, folder / "judge.npz", "--label", "y", "--normal", "1")
    assert turned["auroc"] == pytest.approx(1.0 - found[0]["auroc"])
    line = refused(capsys, "certify", detector, folder / "judge.npz", "--label", "y")
    assert "labels 0, 1 in 'y', where 1 (normal) and -1 (anomaly) are expected. Say which is normal" in line


def test_what_is_proved_is_what_the_library_proves(
    folder: Path, detector: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    radii, out = [0.0, 0.3, 0.1], tmp_path / "curve.csv"
    argv = ["certify", detector, folder / "judge.npz", "--label", "y", "--normal", "0", "--radii", *radii]
    found = said(capsys, *argv, "-o", out)
    kept = load(detector)
    del kept.feature_names_in_
    with np.load(folder / "judge.npz") as arrays:
        X, labels = arrays["X"], 1 - 2 * arrays["y"].astype(int)
    scores = kept.score_samples(X)
    assert found["radius"] == radii
    assert found["auroc"] == auroc(scores[labels == 1], scores[labels == -1]) > 0.9
    assert found["certified_auroc"] == kept.certify(X, labels, radii).tolist()
    accepted = {
        "normal": (kept.predict(X)[labels == 1] == 1).mean(),
        "anomalies": (kept.predict(X)[labels == -1] == 1).mean(),
    }
    assert found["accepted"] == accepted
    # each bound by the radii of the rows: those proved to stay as they are at 0.3 do
    stay = kept.certified_radius(X) >= 0.3
    kept_rate = (stay & (kept.predict(X) == 1))[labels == 1].mean()
    fooled = 1.0 - (stay & (kept.predict(X) == -1))[labels == -1].mean()
    assert found["certified_tpr"][1] == pytest.approx(kept_rate)
    assert found["certified_fpr"][1] == pytest.approx(fooled)
    table = np.genfromtxt(out, delimiter=",", names=True)
    assert table.dtype.names == ("radius", "certified_auroc", "certified_tpr", "certified_fpr")
    assert table["certified_auroc"].tolist() == found["certified_auroc"]


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows were scored, one number a pass."""
    passes: list[int] = []
    scores = OneClassSDF._scores

    def counting(self: OneClassSDF, standard: np.ndarray) -> np.ndarray:
        passes.append(len(standard))
        return scores(self, standard)

    monkeypatch.setattr(OneClassSDF, "_scores", counting)
    return passes


def test_rows_are_scored_once(
    folder: Path, detector: Path, scored: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, "certify", detector, folder / "judge.npz", "--label", "y", "--normal", "0")
    assert scored == [80]


def test_the_attack_lies_between_the_proof_and_the_clean_auroc(
    folder: Path, detector: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["certify", detector, folder / "judge.npz", "--label", "y", "--normal", "0", "--radii", 0.2, 0.8]
    assert "attacked_auroc" not in said(capsys, *argv)
    found = said(capsys, *argv, "--attack")
    for least, real in zip(found["certified_auroc"], found["attacked_auroc"], strict=True):
        assert least <= real <= found["auroc"]
    assert found["attacked_auroc"][1] < found["auroc"] - 0.01
    asked: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "ocsdf3d.oneclass.attack.attacked_scores",
            lambda detector, X, y, radius, random_state: asked.append(random_state) or np.arange(len(y)),
        )
        said(capsys, *argv, "--attack", "--seed", 5)
    assert asked == [5, 5]


def test_people_get_a_table(folder: Path, detector: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run("certify", detector, folder / "judge.npz", "--label", "y", "--normal", "0", "--radii", 0.1) == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("certified: Lipschitz bound 0.99")
    assert "50 normal rows, 30 anomalies: AUROC 0.9" in lines[1]
    assert lines[2].split() == [
        "radius",
        "AUROC",
        "at",
        "least",
        "normal",
        "accepted",
        "at",
        "least",
        "anomalies",
        "accepted",
        "at",
        "most",
    ]
    assert lines[3].split()[0] == "0.1"


def test_the_curve_is_drawn(folder: Path, detector: Path, tmp_path: Path) -> None:
    picture = tmp_path / "curve.png"
    argv = ["certify", detector, folder / "judge.npz", "--label", "y", "--normal", "0", "-q"]
    assert run(*argv, "--plot", picture) == 0
    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("RGB"))
    for color in ((0x1F, 0x4E, 0x79), (0x7A, 0x4A, 0x1D), (0x4B, 0x6B, 0x2A)):  # one of each curve
        assert (np.abs(pixels.astype(int) - color).max(axis=2) < 8).sum() > 200
    with pytest.raises(ValueError, match=r"certified_auroc has the shape \(1,\), `radii` \(2,\)"):
        certificate_figure([0.0, 1.0], {"certified_auroc": [1.0]}, clean=1.0)


def test_one_kind_of_row_is_not_judged(
    folder: Path, detector: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "t.csv"
    table.write_text("length,mass,y\n5,-1000,1\n6,-1000,1\n")
    assert "all rows are normal by 'y'" in refused(capsys, "certify", detector, table, "--label", "y")
    table.write_text("length,mass,y\n5,-1000,-1\n6,-1000,-1\n")
    assert "no row of 'y' is 1" in refused(capsys, "certify", detector, table, "--label", "y")


# --- bench


@pytest.mark.parametrize("protocol", ["ad", "oc"])
def test_bench_hands_on_what_it_is_asked(
    protocol: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["bench", protocol, "--data", folder, "--tables", "judge", "--methods", "knn", "--out", tmp_path]
    found = said(capsys, *argv, "--seeds", 3)
    assert 0.9 < found["methods"]["knn"]["auroc"] <= 1.0
    assert found["methods"]["knn"]["rank"] == 1.0
    ledger = tmp_path / f"{protocol}.csv"
    with open(ledger, newline="") as stream:
        assert [(row["seed"], row["learn"]) for row in csv.DictReader(stream)] == [("3", "10000")]
    assert run(*argv, "--seeds", 3, "--learn", 40) == 0
    assert "knn" in capsys.readouterr().out
    assert len(ledger.read_text().splitlines()) == 3
    assert run(*argv, "--seeds", 4, "--fresh", "-q") == 0
    with open(ledger, newline="") as stream:
        assert [row["seed"] for row in csv.DictReader(stream)] == ["4"]


def test_bench_of_speed_hands_on_what_it_is_asked(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ocsdf3d.bench import throughput
    from ocsdf3d.bench.tables import Report

    asked: list[tuple[object, ...]] = []

    def run(paths: list[Path], methods: tuple[str, ...], out: Path, *, seed: int, fresh: bool) -> Report:
        asked.append(([path.stem for path in paths], methods, out, seed, fresh))
        return Report("a table", {})

    monkeypatch.setattr(throughput, "run", run)
    argv = ["oneclass", "bench", "speed", "--data", folder, "--out", tmp_path, "--tables", "judge"]
    assert main([*map(str, argv), "--methods", "knn", "--seed", "7", "--fresh"]) == 0
    assert main([*map(str, argv)]) == 0
    assert asked == [
        (["judge"], ("knn",), tmp_path, 7, True),
        (["judge"], throughput.METHODS, tmp_path, 0, False),
    ]
    assert "a table" in capsys.readouterr().out


def test_bench_of_toys_hands_on_what_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ocsdf3d.bench import toys

    asked: list[dict[str, object]] = []

    def run(out: Path, **options: object) -> toys.Report:
        asked.append({"out": out, **options})
        return toys.Report("a table", [])

    monkeypatch.setattr(toys, "run", run)
    argv = ["oneclass", "bench", "toys", "--out", str(tmp_path)]
    given = ["--toys", "two_moons", "--methods", "ocsdf3d", "--seeds", "4", "4", "--points", "50"]
    assert main([*argv, *given, "--steps", "9", "--device", "cpu", "--figure", "--fresh"]) == 0
    assert main(argv) == 0
    chosen = {"toys": ["two_moons"], "methods": ["ocsdf3d"], "seeds": [4], "points": 50, "steps": 9}
    assert asked[0] == {"out": tmp_path, **chosen, "device": "cpu", "figure": True, "fresh": True}
    default = {"toys": toys.TOYS, "methods": toys.METHODS, "seeds": [0, 1, 2], "points": toys.POINTS}
    assert asked[1] == {
        "out": tmp_path,
        **default,
        "steps": 10_000,
        "device": "auto",
        "figure": False,
        "fresh": False,
    }
    assert "a table" in capsys.readouterr().out


def test_bench_names_what_it_does_not_know(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["bench", "ad", "--data", folder, "--out", tmp_path]
    assert "no detector oracle; there are ocsdf3d, " in refused(capsys, *argv, "--methods", "oracle")
    assert "no table moon" in refused(capsys, *argv, "--tables", "moon")


def test_bench_words_are_those_of_the_library() -> None:
    from ocsdf3d.bench import tables
    from ocsdf3d.cli.oneclass import bench

    assert tables.LEARN == bench.LEARN
    assert set(tables.PROTOCOLS) == set(bench.TABLES)


# --- the parser


def steps() -> dict[str, argparse.ArgumentParser]:
    parser = build_parser()
    for name in ("oneclass", None):
        actions = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        if name is None:
            return dict(actions[0].choices)
        parser = actions[0].choices[name]
    raise AssertionError


def test_every_option_tells_its_default() -> None:
    for step, parser in steps().items():
        for action in parser._actions:
            if action.option_strings and action.dest != "help" and not action.required:
                assert "(default: " in (action.help or ""), f"{step} {action.option_strings}"


def test_no_flag_is_untested() -> None:
    shared = {"--help", "--drop", "--delimiter", "--header", "--json", "--quiet", "--verbose", "--output"}
    expected = {
        "fit": {*shared, *FITS, "--label", "--normal", "--categories"},
        "score": {*shared, "--keep"},
        "certify": {*shared, "--label", "--normal", "--radii", "--attack", "--plot", "--seed"},
    }
    found = {
        step: {a.option_strings[-1] for a in parser._actions if a.option_strings}
        for step, parser in steps().items()
    }
    assert {step: found[step] for step in expected} == expected


def test_words_are_those_of_the_library() -> None:
    """They are written out in the parsers, which must not import NumPy to learn them."""
    assert tuple(PRESETS) == fit.PRESETS
    assert ("auto", *delimited.DELIMITERS) == given.DELIMITERS
    assert given.HEADERS == delimited.HEADERS
    for module in (fit, score, certify):
        assert steps()[module.__name__.rsplit(".", 1)[1]].get_default("run") is module.run


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        ([], "STEP"),
        (["fit", "t.csv"], "-o"),
        (["fit", "t.csv", "-o", "d.safetensors", "--contamination", "0.6"], "--contamination"),
        (["fit", "t.csv", "-o", "d.safetensors", "--contamination", "0"], "--contamination"),
        (["fit", "t.csv", "-o", "d.safetensors", "--seed", str(2**32)], "--seed"),
        (["fit", "t.csv", "-o", "d.safetensors", "--margin", "0"], "--margin"),
        (["fit", "t.csv", "-o", "d.safetensors", "--steps", "0"], "--steps"),
        (["score", "d.safetensors", "t.csv"], "-o"),
        (["certify", "d.safetensors", "t.csv"], "--label"),
        (["certify", "d.safetensors", "t.csv", "--label", "y", "--radii", "-0.1"], "--radii"),
        (["certify", "d.safetensors", "t.csv", "--label", "y", "--header", "maybe"], "--header"),
    ],
)
def test_misuse_is_one_line_and_exit_2(
    argv: list[str], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert name in refused(capsys, *argv, code=2)


def test_help_of_the_steps_loads_nothing_heavy() -> None:
    import os
    import subprocess
    import sys

    code = (
        "import sys\nfrom ocsdf3d.cli import main\n"
        "for step in ('fit', 'score', 'certify'): assert main(['oneclass', step, '--help']) == 0\n"
        "print(sorted({'numpy', 'torch', 'sklearn', 'pandas'} & set(sys.modules)), file=sys.stderr)"
    )
    root = str(Path(ocsdf3d.__file__).parents[1])
    end = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])},
    )
    assert end.stderr.strip() == "[]"


def test_verbose_shows_the_traceback_and_progress(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [
        "fit",
        folder / "learn.npy",
        "-o",
        tmp_path / "d.safetensors",
        "--preset",
        "fast",
        "--steps",
        "60",
    ]
    assert run(*argv, "-v") == 0
    assert "train 60/60" in capsys.readouterr().err
    assert run("fit", folder / "learn.csv", "-o", tmp_path / "d.safetensors", "-v") == 1
    assert "Traceback" in capsys.readouterr().err


def test_info_tells_what_a_detector_is(detector: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(detector), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    found = load(detector)
    assert told["kind"] == "detector"
    assert told["columns"] == found.n_features_in_
    assert told["hash"] == found.certificate_.hash
    assert told["lipschitz"] <= 1.0
    assert told["margin"] == found.margin_
    assert told["settings"]["preset"] == found.preset
    assert main(["info", str(detector)]) == 0
    assert "network.width: " in capsys.readouterr().out


def test_info_of_an_altered_detector_says_not_certified(
    detector: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(detector.read_bytes())
    data[-3] ^= 1
    (tmp_path / "altered.safetensors").write_bytes(data)
    assert main(["info", str(tmp_path / "altered.safetensors"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["certified"] is False
