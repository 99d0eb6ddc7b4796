"""Tables of ours beside the peers that are installed, one protocol a file.

`ocsdf3d bench reconstruct` (`reconstruction.py`) compares methods on the shapes and scans of a data folder;
`python -m ocsdf3d.bench.survey` drives the command line over every file of it. Here is what both need: the
folder, the lines that say on what machine a table was made, and a ledger of rows that survives an
interruption. Importing this loads nothing heavy.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ocsdf3d import __version__
from ocsdf3d.cores import threads as threads
from ocsdf3d.durable import draft_of, put_in_place

LISTS = {".csv", ".md"}  # suffixes of what lies beside the data and tells about them
CHECKOUT = Path(__file__).resolve().parents[2]


def data_folder(checkout: Path = CHECKOUT) -> Path:
    """Folder of real data: `OCSDF3D_DATA` when set, else `../shared/data` beside the checkout.

    Raises
    ------
    FileNotFoundError
        There is no such folder.
    """
    named = os.environ.get("OCSDF3D_DATA")
    folder = Path(named) if named else checkout.parent / "shared" / "data"
    if not (folder / "meshes").is_dir():
        said = "OCSDF3D_DATA" if named else "OCSDF3D_DATA is not set and the default"
        raise FileNotFoundError(
            f"no real data: {said} {folder} has no folder `meshes`."
            " Set OCSDF3D_DATA to a folder with meshes/ and points/."
        )
    return folder.resolve()


def processor() -> str:
    """Model name of the CPU, as far as the operating system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def circumstances(packages: Sequence[str], **settings: object) -> str:
    """Lines for the head of a table: settings, versions, device, threads and processor.

    Parameters
    ----------
    packages
        Distribution names; those that are not installed are said to be absent.
    settings
        What the run was asked for, seeds included.
    """
    found = [f"ocsdf3d {__version__}"]
    for name in packages:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} absent")
    asked = ", ".join(f"{key} {value}" for key, value in settings.items())
    return "\n".join(
        [
            f"- settings: {asked}",
            f"- versions: Python {platform.python_version()}, {', '.join(found)}",
            f"- machine: {processor()}, {threads()} threads, {platform.system()} {platform.machine()}",
        ]
    )


class Ledger:
    """Rows of a bench kept in a CSV file and a JSON twin, written after each addition.

    A row is found again by the columns in `key`, so a run that was interrupted goes on where it stopped.
    Values come back from the CSV as they went in (None, bool, int, float including infinities, str).

    Parameters
    ----------
    path
        The CSV file; its twin has the same name with `.json`.
    columns
        Names of all columns, in order.
    key
        The columns that say which measurement a row is.
    fresh
        Forget the rows that are already there: both files are removed.

    Raises
    ------
    ValueError
        The file holds other columns (it belongs to another bench or version), or is damaged.
    """

    def __init__(
        self, path: Path, columns: Sequence[str], key: Sequence[str], *, fresh: bool = False
    ) -> None:
        self.path, self.columns, self.key = path, list(columns), list(key)
        if fresh:
            for old in (path, path.with_suffix(".json")):
                old.unlink(missing_ok=True)
        self.rows: list[dict[str, object]] = []
        if path.exists():
            self.rows = self._read()

    def _read(self) -> list[dict[str, object]]:
        try:
            with self.path.open(newline="", encoding="utf-8") as file:
                head, *lines = list(csv.reader(file)) or [[]]
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(
                f"{self.path}: not a CSV file ({error}). Move it away, or start over with --fresh."
            ) from error
        if head != self.columns:
            raise ValueError(
                f"{self.path}: its columns are not those of this bench."
                " Move it away, or choose another --out."
            )
        for number, line in enumerate(lines, start=1):
            if len(line) != len(head):
                raise ValueError(
                    f"{self.path}, row {number}: expected {len(head)} values, got {len(line)}."
                    " Remove the row, or start over with --fresh."
                )
        return [dict(zip(head, map(_value, line), strict=True)) for line in lines]

    def find(self, **key: object) -> dict[str, object] | None:
        """The row with these key values, or None."""
        if set(key) != set(self.key):
            raise ValueError(f"a row is found by {', '.join(self.key)}; got {', '.join(key)}")
        return next((row for row in self.rows if all(row[name] == key[name] for name in self.key)), None)

    def add(self, row: Mapping[str, object]) -> dict[str, object]:
        """Append a row, write both files (each replaced in one step), return the row as it will come back."""
        if set(row) != set(self.columns):
            raise ValueError(f"columns that differ from the ledger's: {sorted(set(row) ^ set(self.columns))}")
        kept = {name: _plain(row[name]) for name in self.columns}
        self.rows.append(kept)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows({name: _text(value) for name, value in row.items()} for row in self.rows)
        with replaced(self.path.with_suffix(".json")) as temporary:
            safe = [{name: _finite(value) for name, value in row.items()} for row in self.rows]
            temporary.write_text(json.dumps(safe, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        return kept


def markdown(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; floats with four significant digits, None as a dash."""
    shown = [[_cell(value) for value in row] for row in rows]
    lines = [list(columns), ["---"] * len(columns), *shown]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def say(text: str) -> None:
    """Progress: stderr, so that stdout holds nothing but tables."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Give a draft of `path` that takes its place on success and leaves nothing on failure."""
    with draft_of(path) as draft:
        yield draft
        put_in_place(draft, path)


def _plain(value: object) -> object:
    return value.item() if hasattr(value, "item") else value  # a NumPy scalar is a number like any other


def _text(value: object) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def _value(text: str) -> object:
    if text in ("", "True", "False"):
        return {"": None, "True": True, "False": False}[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _finite(value: object) -> object:
    # JSON has no infinity; the word is at least read by everybody.
    return str(value) if isinstance(value, float) and value - value != 0 else value


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    return str(value).replace("|", "\\|").replace("\n", " ")
