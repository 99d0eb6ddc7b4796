"""Table files: what is read, what is asked for, and what is refused by line and column."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

from ocsdf3d.oneclass import OneClassSDF, load, save
from ocsdf3d.oneclass.delimited import DELIMITERS, read_delimited
from ocsdf3d.oneclass.tables import TABLES, TableError, read_table

ROWS = [[0.5, 10.0, -1e-3], [1.5, 20.0, 2.0], [2.5, 40.0, 3.0]]


def written(folder: Path, text: str, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# --- text


@pytest.mark.parametrize("delimiter", DELIMITERS)
@pytest.mark.parametrize("said", [False, True])
def test_every_delimiter_is_told_and_can_be_said(delimiter: str, said: bool, tmp_path: Path) -> None:
    mark = DELIMITERS[delimiter]
    path = written(tmp_path, "\n".join(mark.join(map(repr, row)) for row in ROWS), "t.txt")
    table = read_table(path, delimiter=delimiter if said else "auto")
    assert table.names is None
    np.testing.assert_array_equal(table.features(), ROWS)


def test_a_delimiter_that_is_said_wins(tmp_path: Path) -> None:
    path = written(tmp_path, "a;b,c\nd;e,f\n")
    with pytest.raises(TableError, match=r"cells could end at comma or semicolon\. Say which"):
        read_delimited(path)
    assert read_delimited(path, delimiter="semicolon").columns == [["d"], ["e,f"]]
    assert read_delimited(path, delimiter="comma", header="no").columns == [["a;b", "d;e"], ["c", "f"]]


def test_a_comma_in_prose_does_not_beat_an_even_tab(tmp_path: Path) -> None:
    path = written(tmp_path, "size\tremark\n1\tgood, new\n2\told\n")
    assert read_delimited(path).columns == [["1", "2"], ["good, new", "old"]]


def test_header_by_what_is_in_it_or_by_word(tmp_path: Path) -> None:
    path = written(tmp_path, '﻿"a, b",c\n1,2\n\n3, 4 \n')
    table = read_table(path)
    assert table.names == ("a, b", "c")  # the quoted comma, and no byte order mark
    assert table.lines == [2, 4]  # the empty line is none
    np.testing.assert_array_equal(table.features(), [[1, 2], [3, 4]])
    years = written(tmp_path, "1999,2000\n1,2\n3,4\n")
    assert read_table(years).names is None
    assert read_table(years, header="yes").names == ("1999", "2000")
    assert len(read_table(years, header="no")) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("\n \n", "the file is empty"),
        ("a,b\n", "a header and no rows"),
        ("a,b\n1,2\n3\n", "line 3: 1 cells, where the first row has 2"),
        ("a,a\n1,2\n", "two columns bear the name 'a'"),
    ],
)
def test_text_that_is_no_table_is_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(TableError, match=rf"t\.csv.*{said}"):
        read_table(written(tmp_path, text))


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("", "is empty"),
        ("nan", "is nan, not a finite number"),
        ("-inf", "is -inf, not a finite number"),
        ("red", "holds 'red', not a number; drop the column or name it a category"),
        ("1_000", "holds '1_000', not a number"),
        ("1 000", "holds '1 000', not a number"),
    ],
)
def test_cells_that_are_no_numbers_are_named(cell: str, said: str, tmp_path: Path) -> None:
    table = read_table(written(tmp_path, f"a,b\n1,2\n\n3,{cell}\n5,6\n"))
    with pytest.raises(TableError, match=rf"t\.csv, line 4: column 'b' {said}"):
        table.features()


def test_a_decimal_comma_is_named(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, "a;b\n1;2\n3;1,5\n"))
    with pytest.raises(TableError, match="line 3: column 'b' holds '1,5', not a number; write decimals with"):
        table.features()
    with pytest.raises(TableError, match="cells could end at comma or semicolon"):
        read_table(written(tmp_path, "1,5;2,5\n3,5;1,5\n"))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"a,b\n1,\xff\n")
    with pytest.raises(TableError, match=r"not UTF-8 text \(byte 6\)"):
        read_table(path)


# --- arrays


def test_arrays_are_read(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.array(ROWS))
    np.savez(tmp_path / "t.npz", X=np.array(ROWS, np.float32), y=np.array([0, 0, 1]))
    np.testing.assert_array_equal(read_table(tmp_path / "t.npy").features(), ROWS)
    table = read_table(tmp_path / "t.npz")
    np.testing.assert_array_equal(table.features(), np.array(ROWS, np.float32))
    assert table.labels("y", "0").tolist() == [1, 1, -1]
    assert len(table.without(["y"]).columns) == 3
    np.testing.assert_array_equal(table.without(["2"]).features(), np.float32(ROWS)[:, [0, 2]])


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("t.npz", lambda p: np.savez(p, Z=ROWS), "no array X; it has Z"),
        ("t.npy", lambda p: np.save(p, np.zeros(3)), r"rows must be \(n, d\) numbers, n > 0; got \(3,\)"),
        ("t.npy", lambda p: np.save(p, np.zeros((0, 3))), r"got \(0, 3\)"),
        ("t.npy", lambda p: np.save(p, np.array([["a"]])), "got .* of <U1"),
        ("t.npy", lambda p: np.save(p, np.array([[{}]]), allow_pickle=True), "no NPY file of plain numbers"),
        ("t.npz", lambda p: p.write_bytes(b"PK\3\4 cut"), "no NPZ file of plain numbers"),
        ("t.npy", lambda p: p.write_bytes(b""), "no NPY file of plain numbers"),
        ("t.xls", lambda p: p.write_bytes(b""), r"tables are \.csv, .*; got \.xls"),
    ],
)
def test_files_that_are_no_table_are_refused(name: str, write: Any, said: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    with pytest.raises(TableError, match=said):
        read_table(tmp_path / name)


def test_not_a_number_in_an_array_is_named_by_its_row(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.array([[1.0, 2.0], [3.0, np.nan]]))
    with pytest.raises(TableError, match=r"t\.npy, row 1: column '2' is nan, not a finite number"):
        read_table(tmp_path / "t.npy").features()


def test_parquet_by_pandas_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"a": [1, 2], "new": [True, False], "day": pandas.to_datetime(["2020-01-01"] * 2), "gap": [1.0, None]}
    )
    monkeypatch.setattr(pandas, "read_parquet", lambda path: frame)  # the reader itself needs pyarrow
    table = read_table(tmp_path / "t.parquet")
    assert table.names == ("a", "new", "day", "gap")
    found = table.without(["day", "gap"]).features()
    assert str(found["new"].dtype) == "category"
    with pytest.raises(TableError, match="row 0: column 'day' holds '2020-01-01 00:00:00', not a number"):
        table.without(["gap"]).features()  # nanoseconds since 1970 are no feature
    with pytest.raises(TableError, match="row 1: column 'gap' is nan"):
        table.without(["day"]).features()

    def absent(path: object) -> None:
        raise ImportError("Unable to find a usable engine\ntried using: …")

    monkeypatch.setattr(pandas, "read_parquet", absent)
    with pytest.raises(ImportError, match=r"^Parquet needs pyarrow: pip install pyarrow$"):
        read_table(tmp_path / "t.parquet")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"^Parquet needs pandas: pip install pandas$"):
        read_table(tmp_path / "t.parquet")


def test_no_extension_is_unread() -> None:
    assert set(TABLES) == {".csv", ".tsv", ".txt", ".npz", ".npy", ".parquet"}


# --- labels


def test_labels_say_what_is_normal_or_are_refused(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, "x,sk,ad,word\n1,1,0,ok\n2,-1,1,bad\n3,1.0,0,ok\n4,-1,2,worse\n"))
    expected = [1, -1, 1, -1]
    assert table.labels("sk", None).tolist() == expected
    assert table.labels("sk", "1").tolist() == expected
    assert table.labels("ad", "0").tolist() == expected
    assert table.labels("word", "ok").tolist() == expected
    assert table.labels("word", "bad").tolist() == [-1, 1, -1, -1]
    for column in ("ad", "word"):
        with pytest.raises(TableError, match=r"where 1 \(normal\) and -1 \(anomaly\) are expected\. Say"):
            table.labels(column, None)
    with pytest.raises(TableError, match="no row of 'word' is fine; it has bad, ok, worse"):
        table.labels("word", "fine")
    with pytest.raises(TableError, match="no column 'lable'; it has x, sk, ad, word"):
        table.labels("lable", None)


def test_labels_beside_x_have_one_a_row(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", X=ROWS, y=[1, -1])
    with pytest.raises(TableError, match=r"y has the shape \(2,\), where X has 3 rows"):
        read_table(tmp_path / "t.npz").labels("y", None)


# --- what a detector knows


@pytest.fixture(scope="module")
def named() -> OneClassSDF:
    rows = np.random.default_rng(0).normal(size=(60, 2)) * (1.0, 50.0)
    fitted = OneClassSDF(preset="fast", steps=20, random_state=0).fit(rows)
    fitted.feature_names_in_ = np.array(["length", "mass"], dtype=object)
    return fitted


def test_columns_are_found_by_name(named: OneClassSDF, tmp_path: Path) -> None:
    table = read_table(written(tmp_path, "mass,length\n50,0.5\n-50,0\n"))
    np.testing.assert_array_equal(table.features_for(named), [[0.5, 50.0], [0.0, -50.0]])
    bare = read_table(written(tmp_path, "0.5,50\n0,-50\n"))
    np.testing.assert_array_equal(bare.features_for(named), [[0.5, 50.0], [0.0, -50.0]])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mass,width\n1,2\n", "the detector's column 'length' is missing; the file has mass, width"),
        ("a,b\n1,2\n", "'length' is missing; so are mass; the file has a, b"),
        ("length,mass,id\n1,2,3\n", "the detector knows no column id; drop what is not its own"),
        ("1,2,3\n", r"3 columns, where the detector was fitted on 2 \(length, mass\)"),
    ],
)
def test_other_columns_are_refused_by_name(text: str, said: str, named: OneClassSDF, tmp_path: Path) -> None:
    with pytest.raises(TableError, match=said):
        read_table(written(tmp_path, text)).features_for(named)


def test_categories_are_named_not_guessed(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    lines = [
        f"{x!r},{kind},{code}"
        for x, kind, code in zip(
            rng.normal(size=40).tolist(),
            rng.choice(["bolt", "nut"], 40),
            rng.choice(["1", "01"], 40),
            strict=True,
        )
    ]
    table = read_table(written(tmp_path, "\n".join(["size,kind,code", *lines])))
    with pytest.raises(TableError, match=r"line 2: column 'kind' holds '(bolt|nut)', not a number"):
        table.features()
    frame = table.features(["kind", "code"])
    fitted = OneClassSDF(preset="fast", steps=20, random_state=0).fit(frame)
    assert fitted.n_features_in_ == 5  # "1" and "01" are two
    loaded = load(save(tmp_path / "d.safetensors", fitted))
    np.testing.assert_array_equal(
        loaded.score_samples(table.features_for(loaded)), fitted.score_samples(frame)
    )
    turned = read_table(written(tmp_path, "code,size,kind\n01,0.5,nut\n"))
    assert loaded.score_samples(turned.features_for(loaded)).shape == (1,)
    new = read_table(written(tmp_path, "code,size,kind\n01,0.5,screw\n"))
    with pytest.raises(ValueError, match="column 'kind' has categories that fit has not seen: screw"):
        loaded.score_samples(new.features_for(loaded))
    gap = read_table(written(tmp_path, "code,size,kind\n01,0.5,\n"))
    with pytest.raises(TableError, match="line 2: column 'kind' is empty"):
        gap.features_for(loaded)


def test_a_detector_of_ones_own_dataframe_reads_text_by_type(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {
            "size": rng.normal(size=40),
            "teeth": pandas.Categorical(rng.choice([8, 12], 40)),
            "new": [True, False] * 20,
        }
    )
    fitted = OneClassSDF(preset="fast", steps=20, random_state=0).fit(frame)
    path = tmp_path / "t.csv"
    frame.to_csv(path, index=False)
    np.testing.assert_array_equal(
        fitted.score_samples(read_table(path).features_for(fitted)), fitted.score_samples(frame)
    )


def test_without_pandas_numbers_need_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    table = read_table(written(tmp_path, "a,kind\n1,x\n2,y\n"))
    np.testing.assert_array_equal(table.without(["kind"]).features(), [[1.0], [2.0]])
    with pytest.raises(ImportError, match="categories need pandas: pip install pandas"):
        table.features(["kind"])
    with pytest.raises(TableError, match="no columns are left"):
        table.without(["a", "kind"]).features()


def test_only_line_ends_end_lines(tmp_path: Path) -> None:
    table = read_delimited(written(tmp_path, "a,kind\n1,x\u2028y\n2,z\x0bw\r\n3,\x85v\n"))
    assert table.columns[1] == ["x\u2028y", "z\x0bw", "v"]
