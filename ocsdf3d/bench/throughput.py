"""Detectors on large and on wide tables: seconds of learning, rows scored a second, memory, beside kNN's.

    ocsdf3d oneclass bench speed

Each detector has a process of its own: learning, then scoring all rows it learnt from as if they were new,
`ROWS` of them at most, because kNN takes a search each. Memory is the peak of both above what was held with
the table loaded. One run each on otherwise idle cores; ratios are to kNN on the same table.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ocsdf3d import __version__
from ocsdf3d.bench import Ledger, circumstances, markdown, replaced, say
from ocsdf3d.bench.detectors import OURS, judged
from ocsdf3d.bench.isolation import begun_peak, call_apart, peak
from ocsdf3d.bench.tables import Report, read

__all__ = ["METHODS", "ROWS", "TABLES", "run"]

TABLES = ("http", "musk")
METHODS = (OURS, "iforest", "knn", "lof")
ROWS = 50_000  # scored
LIMIT = 900.0  # seconds a process
KEY = ("method", "table", "seed")
COLUMNS = (*KEY, "rows", "columns", "fit", "scored", "score", "megabytes", "error", "version")


def run(
    paths: Sequence[Path], methods: Sequence[str], out: Path, *, seed: int = 0, fresh: bool = False
) -> Report:
    """Measure what is not in the ledger yet and write the table.

    Parameters
    ----------
    paths
        Files of tables.
    methods
        Names of detectors.
    out
        Folder of the ledger and the table.
    seed
        Of detectors that draw at random, and of the rows that are scored.
    fresh
        Forget the rows that are already there.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / "speed.csv"
    ledger = Ledger(path, COLUMNS, KEY, fresh=fresh)
    rows: list[Mapping[str, object]] = []
    for file in paths:
        shape = read(file).rows.shape
        for method in methods:
            key = {"method": method, "table": file.stem, "seed": seed}
            row = ledger.find(**key)
            if row is None:
                say(f"speed: {file.stem}, {shape[0]} × {shape[1]}, {method} …")
                try:
                    outcome = call_apart(measured, method, str(file), seed, limit=LIMIT)
                except ImportError as error:
                    say(f"{method} does not load and takes no part: {error}")
                    continue
                fit, scored, score, held = outcome.value or (None, None, None, None)
                figures = {"fit": fit, "scored": scored, "score": score, "megabytes": held}
                plain = {"rows": shape[0], "columns": shape[1], "error": outcome.error}
                row = ledger.add(key | figures | plain | {"version": __version__})
            rows.append(row)
    head = circumstances(("torch", "numpy", "scikit-learn", "pyod"), seed=seed, scored=f"at most {ROWS}")
    text = "\n".join(["# Speed and memory of detectors", "", head, "", *_lines(rows)])
    with replaced(out / "speed.md") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return Report(text, {})


def measured(method: str, file: str, seed: int) -> tuple[float, int, float, float]:
    """Return seconds of learning, rows scored, seconds of scoring, and memory at the peak [MB]."""
    table = read(Path(file))
    rng = np.random.default_rng(seed)
    asked = rng.choice(table.rows, min(ROWS, len(table.rows)), replace=False)
    judged(method, asked[:50], asked[:50], seed=seed)  # libraries load
    before = begun_peak()
    begun = time.perf_counter()
    found = judged(method, table.rows, asked, seed=seed)
    whole = time.perf_counter() - begun
    assert found.fit + found.score <= whole
    return found.fit, len(asked), found.score, peak() - before


def _lines(rows: Sequence[Mapping[str, object]]) -> list[str]:
    rates = {
        (row["table"], row["method"]): float(str(row["scored"])) / max(1e-9, float(str(row["score"])))
        for row in rows
        if row["error"] is None
    }
    cells: list[list[object]] = []
    for row in rows:
        table, method = row["table"], row["method"]
        rate, base = rates.get((table, method)), rates.get((table, "knn"))
        ratio = None if rate is None or base is None else rate / base
        size = f"{row['rows']} × {row['columns']}"
        cells.append([table, size, method, row["fit"], rate, ratio, row["megabytes"], row["error"] or ""])
    columns = [
        "table",
        "size",
        "method",
        "fit [s]",
        "rows scored a second",
        "of kNN's",
        "peak [MB]",
        "failed",
    ]
    return [markdown(columns, cells)]
