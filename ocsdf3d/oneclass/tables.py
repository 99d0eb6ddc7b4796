"""Table files → what a detector learns and scores: rows of numbers, with categories if they are asked for.

CSV and its kin need NumPy alone; categories and Parquet need pandas. Text is never taken for a category by
itself: a column that holds some is refused by name and line until it is named as one. Numbers become an array
whose names are kept beside it, so that a detector is never shown other columns than its own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocsdf3d.oneclass.delimited import TableError, read_delimited

__all__ = ["TABLES", "Table", "TableError", "read_table"]

COUNTED = 16  # rows after the first, that no column of figures counts by chance
TABLES = (".csv", ".tsv", ".txt", ".npz", ".npy", ".parquet")


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of a file.

    Attributes
    ----------
    file : str
        Its name, for messages.
    columns : tuple
        Each a list of text, an array or a pandas.Series, of one length.
    names : tuple of str or None
        Of the columns; None where the file names none: they are then numbered from 1.
    lines : list of int or None
        Of the rows in a text file.
    beside : dict
        Arrays of an NPZ that are not X, by name.
    """

    file: str
    columns: tuple[Any, ...]
    names: tuple[str, ...] | None = None
    lines: list[int] | None = None
    beside: dict[str, NDArray[Any]] | None = None

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    def place(self, column: str) -> int:
        """Return the index of a column, given by its name, or by its number from 1 where there are no names.

        Raises
        ------
        TableError
            There is none.
        """
        shown = self.shown
        if column not in shown:
            raise TableError(f"{self.file}: no column {column!r}; it has {_listed(shown)}.")
        return shown.index(column)

    @property
    def shown(self) -> tuple[str, ...]:
        """Names, or numbers from 1."""
        return self.names or tuple(str(i + 1) for i in range(len(self.columns)))

    def without(self, columns: Sequence[str]) -> Table:
        """Return the table without some columns; arrays beside X are no columns and may be named too."""
        away = {self.place(column) for column in columns if column not in (self.beside or {})}
        return self._picked([i for i in range(len(self.columns)) if i not in away])

    def _picked(self, places: Sequence[int]) -> Table:
        names = None if self.names is None else tuple(self.names[i] for i in places)
        return replace(self, columns=tuple(self.columns[i] for i in places), names=names)

    def kept(self, rows: NDArray[np.bool_]) -> Table:
        """Return the table with some of its rows."""
        kept = np.flatnonzero(rows)
        lines = None if self.lines is None else [self.lines[i] for i in kept]
        columns = tuple([c[i] for i in kept] if isinstance(c, list) else c[rows] for c in self.columns)
        return replace(self, columns=columns, lines=lines)

    def labels(self, column: str, normal: str | None) -> NDArray[np.int64]:
        """Return labels, (n,): 1 for normal rows and −1 for anomalies.

        Parameters
        ----------
        column : str
            A column, or in an NPZ an array beside X.
        normal : str or None
            The label of normal rows, all others are anomalies; with None labels are to be 1 and −1.

        Raises
        ------
        TableError
            No such column, not one label a row, or labels that do not say which rows are normal.
        """
        beside = self.beside or {}
        if column in beside:
            values = beside[column]
            if values.shape != (len(self),):
                raise TableError(
                    f"{self.file}: {column} has the shape {values.shape}, where X has {len(self)} rows."
                )
        else:
            values = self.columns[self.place(column)]
        keys = [_key(value) for value in values]
        wanted = _key("1" if normal is None else normal)
        kinds = sorted({f"{key:g}" if isinstance(key, float) else key for key in keys})
        if normal is None and not set(keys) <= {1.0, -1.0}:
            raise TableError(
                f"{self.file}: labels {_listed(kinds)} in {column!r}, where 1 (normal) and -1 (anomaly) are "
                "expected. Say which is normal: in ADBench's files it is 0, with 1 for anomalies."
            )
        if wanted not in keys:
            raise TableError(f"{self.file}: no row of {column!r} is {normal or 1}; it has {_listed(kinds)}.")
        return np.where(np.array([key == wanted for key in keys]), 1, -1).astype(np.int64)

    def counting(self) -> tuple[str, ...]:
        """Return the columns that count the rows, one by one: of a table, not of what is in it."""
        found = []
        for name, cells in zip(self.shown, self.columns, strict=True):
            try:
                steps = np.diff(np.asarray(cells, dtype=np.float64))
            except (ValueError, TypeError):
                continue
            if len(steps) >= COUNTED and (steps == 1.0).all():
                found.append(name)
        return tuple(found)

    def features(self, categories: Sequence[str] = ()) -> Any:
        """Return what a detector is fitted on: an (n, d) array, or a DataFrame if there are categories.

        Parameters
        ----------
        categories : sequence of str
            Columns of categories; a Parquet file's of the dtype category or bool are some anyhow.

        Raises
        ------
        TableError
            Text or nothing in a column of numbers, a number that is not finite, no columns.
        ImportError
            There are categories and pandas is absent.
        """
        if not self.columns:
            raise TableError(f"{self.file}: no columns are left to learn from.")
        chosen = {self.place(column) for column in categories}
        chosen |= {
            i for i, c in enumerate(self.columns) if str(getattr(c, "dtype", "")) in ("category", "bool")
        }
        parts = [self._words(i) if i in chosen else self._numbers(i) for i in range(len(self.columns))]
        if not chosen:
            return np.column_stack(parts)
        pandas = _pandas("categories need pandas")
        words = {i: pandas.Series(parts[i], dtype=object).astype("category") for i in chosen}
        return pandas.DataFrame({name: words.get(i, parts[i]) for i, name in enumerate(self.shown)})

    def features_for(self, detector: Any, beside: Sequence[str] = ()) -> Any:
        """Return the rows as a fitted detector expects them, its columns found by name where both have names.

        Parameters
        ----------
        detector : OneClassSDF
            Fitted on an array or DataFrame of `features`, or on one of the user's own.
        beside : sequence of str
            Columns that may be more than the detector's, and are left out then.

        Raises
        ------
        TableError
            As `features`; or the columns are not those of the detector.
        """
        seen = detector.columns_.categories if detector.columns_ is not None else None
        width = detector.n_features_in_ if seen is None else len(seen)
        names = _names_of(detector)
        if names is not None and self.names is not None:
            beside = [name for name in beside if name not in names]
        elif len(self.columns) == width:
            beside = ()
        if beside:
            return self.without(beside).features_for(detector)
        table = self
        if names is not None and self.names is not None:
            missing = [name for name in names if name not in self.names]
            if missing:
                raise TableError(
                    f"{self.file}: the detector's column {missing[0]!r} is missing; {_rest(missing)}"
                    f"the file has {_listed(self.names)}."
                )
            more = [name for name in self.names if name not in names]
            if more:
                raise TableError(
                    f"{self.file}: the detector knows no column {_listed(more)}; drop what is not its own."
                )
            table = self._picked([self.names.index(name) for name in names])
        elif len(self.columns) != width:
            of = "" if names is None else f" ({_listed(names)})"
            raise TableError(
                f"{self.file}: {len(self.columns)} columns, where the detector was fitted on {width}{of}."
            )
        if seen is None:
            return np.column_stack([table._numbers(i) for i in range(width)])
        pandas = _pandas("categories need pandas")
        frame = {}
        for i, name in enumerate(names or table.shown):
            kinds = None if seen[i] is None else {str(value): value for value in seen[i]}
            words = None if kinds is None else [kinds.get(word, word) for word in table._words(i)]
            frame[name] = table._numbers(i) if words is None else pandas.Series(words, dtype=object)
        return pandas.DataFrame(frame)

    def where(self, row: int) -> str:
        """Return the file and the line of a row, for messages."""
        return f"{self.file}, {f'row {row}' if self.lines is None else f'line {self.lines[row]}'}"

    def _numbers(self, column: int) -> NDArray[np.float64]:
        """Return a column as finite numbers."""
        cells = self.columns[column]
        try:
            if isinstance(cells, list):
                if any("_" in cell for cell in cells):
                    raise ValueError  # Python's 1_000, which no table means
            elif np.asarray(cells).dtype.kind not in "biufO":
                raise ValueError  # a date is no number
            values = np.asarray(cells, dtype=np.float64)
        except (ValueError, TypeError):
            values = np.array([float(cell) if _is_number(cell) else np.nan for cell in cells])
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong):
            row = int(wrong[0])
            cell = cells[row] if isinstance(cells, list) else np.asarray(cells, dtype=object)[row]
            said, remedy = "is empty", "fill it or leave the row out"
            if not (cell is None or (isinstance(cell, str) and cell == "")):
                said, remedy = f"is {cell}, not a finite number", "mend it or leave the row out"
                if not _is_number(cell):
                    said = f"holds {str(cell)!r}, not a number"
                    remedy = "drop the column or name it a category"
                    if isinstance(cell, str) and _is_number(cell.replace(",", ".", 1)):
                        remedy = "write decimals with a point"
            raise TableError(f"{self.where(row)}: column {self.shown[column]!r} {said}; {remedy}.")
        return values

    def _words(self, column: int) -> list[str]:
        """Return a column of categories as text."""
        cells = self.columns[column]
        missing = [cell == "" for cell in cells] if isinstance(cells, list) else _missing(cells)
        if any(missing):
            where = self.where(list(missing).index(True))
            raise TableError(
                f"{where}: column {self.shown[column]!r} is empty; fill it or leave the row out."
            )
        return [str(cell) for cell in cells]


def read_table(path: str | os.PathLike[str], *, delimiter: str = "auto", header: str = "auto") -> Table:
    """Read a table, by its extension: one of `TABLES`.

    Parameters
    ----------
    path : path
        Text; an NPZ with X, (n, d), and beside it perhaps y; an NPY, (n, d); or Parquet.
    delimiter, header : str
        Of text, see `read_delimited`.

    Raises
    ------
    TableError
        Another extension, no rows, or contents that are no table.
    ImportError
        Parquet without pandas and pyarrow.
    OSError
        The file cannot be opened.
    """
    file, kind = str(path), Path(path).suffix.lower()
    if kind not in TABLES:
        raise TableError(f"{file}: tables are {_listed(TABLES)}; got {kind or 'no extension'}.")
    if kind in (".csv", ".tsv", ".txt"):
        cells = read_delimited(path, delimiter=delimiter, header=header)
        return Table(file, tuple(cells.columns), cells.names, cells.lines)
    if kind == ".parquet":
        return _parquet(path)
    beside: dict[str, NDArray[Any]] = {}
    try:
        with open(path, "rb") as stream:
            found = np.load(stream, allow_pickle=False)
            if kind == ".npz":
                beside = {name: found[name] for name in found.files}
    except OSError:
        raise
    except Exception as error:  # zipfile, ValueError, EOFError …: whatever NumPy meets in other bytes
        raise TableError(f"{file}: no {kind[1:].upper()} file of plain numbers: {error}.") from None
    if kind == ".npz":
        if "X" not in beside:
            raise TableError(f"{file}: no array X; it has {_listed(beside)}.")
        found = beside.pop("X")
    if found.ndim != 2 or len(found) == 0 or found.dtype.kind not in "biuf":
        raise TableError(f"{file}: rows must be (n, d) numbers, n > 0; got {found.shape} of {found.dtype}.")
    return Table(file, tuple(np.asarray(found, np.float64).T), beside=beside)


def _parquet(path: str | os.PathLike[str]) -> Table:
    pandas = _pandas("Parquet needs pandas")
    try:
        frame = pandas.read_parquet(path)
    except ImportError:
        raise ImportError("Parquet needs pyarrow: pip install pyarrow") from None
    if len(frame) == 0:
        raise TableError(f"{path}: no rows.")
    columns = tuple(frame.iloc[:, i].reset_index(drop=True) for i in range(frame.shape[1]))
    return Table(str(path), columns, tuple(str(name) for name in frame.columns))


def _pandas(why: str) -> Any:
    try:
        import pandas
    except ImportError:
        raise ImportError(f"{why}: pip install pandas") from None
    return pandas


def _names_of(detector: Any) -> tuple[str, ...] | None:
    """Return the columns of the table that a detector was fitted on; its own for categories end in `=…`."""
    wide = getattr(detector, "feature_names_in_", None)
    if wide is None or detector.columns_ is None:
        return None if wide is None else tuple(wide)
    names, at = [], 0
    for seen in detector.columns_.categories:
        names.append(wide[at] if seen is None else wide[at].removesuffix(f"={seen[0]}"))
        at += 1 if seen is None else len(seen)
    return tuple(names)


def _key(value: Any) -> float | str:
    """Return a label as a number where it is one, so that 1, 1.0 and "1" are the same."""
    return float(value) if _is_number(value) else str(value)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (ValueError, TypeError):
        return False
    return isinstance(value, int | float | np.number | np.bool_) or (
        isinstance(value, str) and "_" not in value
    )


def _missing(column: Any) -> list[bool]:
    return [bool(one) for one in column.isna()] if hasattr(column, "isna") else [False] * len(column)


def _listed(names: Any, most: int = 12) -> str:
    shown = [str(name) for name in names]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")


def _rest(missing: Sequence[str]) -> str:
    return f"so are {_listed(missing[1:])}; " if len(missing) > 1 else ""
