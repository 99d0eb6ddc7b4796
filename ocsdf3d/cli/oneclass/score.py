"""`ocsdf3d oneclass score`: a detector and a table in, what it says of each row out."""

from __future__ import annotations

import argparse
import csv
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import outputs
from ..console import emit
from ..interrupt import Interrupt
from ..options import add_reporting
from . import given

if TYPE_CHECKING:
    import numpy as np

    from ocsdf3d.oneclass.tables import Table

FIGURES = ("row", "score", "decision", "inlier", "radius")
EXTENSIONS = (".csv", ".npy", ".npz", ".parquet")


def add_parser(steps: argparse._SubParsersAction[Any]) -> None:
    """Add the step to the parser."""
    parser = steps.add_parser(
        "score",
        help="detector and table → score, decision and certified radius of each row",
        description="Score the rows of a table. row: from 0, in the order of the table; score: f, in standard"
        " deviations; decision: score less the threshold, below 0 for outliers; inlier: 1 or -1; radius: how"
        " far the row may move before that can change, in standard deviations, proved.",
    )
    given.add_detector(parser)
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        required=True,
        help="file to write: CSV with a header, NPZ and Parquet with the same names, NPY with the columns"
        " score, decision, inlier, radius",
    )
    given.add_table(parser)
    parser.add_argument(
        "--keep",
        nargs="+",
        action="extend",
        default=[],
        metavar="COLUMN",
        help="columns of DATA to copy to OUT, as an id; not judged unless the detector knows them; not for"
        " NPY (default: none)",
    )
    add_reporting(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Load, score, write."""
    begun = time.perf_counter()
    inputs = given.check_inputs(args)
    out = outputs.check(args.output, inputs=inputs, extensions=EXTENSIONS)

    if args.keep and out.suffix.lower() == ".npy":
        raise ValueError("--keep: an NPY holds numbers alone; write CSV, NPZ or Parquet.")
    taken = [name for name in args.keep if name in FIGURES]
    if taken:
        raise ValueError(f"--keep {taken[0]}: the output has a column of that name; rename it in the table.")

    import numpy as np

    with Interrupt() as interrupt:
        table = given.table(args)
        kept = {name: _copied(table, name) for name in args.keep}
        beside = [name for name in args.keep if name not in args.drop]
        detector, rows = given.opened(args, table.without(args.drop), beside)
        score = detector.score_samples(rows)
        decision = score - detector.offset_
        columns = {
            "row": np.arange(len(score)),
            **kept,
            "score": score,
            "decision": decision,
            "inlier": np.where(decision >= 0.0, 1, -1),
            "radius": detector.certified_radius(rows),
        }
        interrupt.writing = True
        outputs.write_all([(out, lambda path: _write(path, columns))])
    figures = {
        "scores": out,
        "detector": args.detector,
        "rows": len(score),
        "inliers": int((columns["inlier"] == 1).sum()),
        "certain": int((columns["radius"] > 0.0).sum()),
        "median_radius": float(np.median(columns["radius"])),
        "threshold": detector.offset_,
        "seconds": round(time.perf_counter() - begun, 3),
    }
    lines = [
        f"{out}: {figures['rows']:,} rows, {figures['inliers']:,} inliers,"
        f" {figures['rows'] - figures['inliers']:,} outliers",
        f"radius: {figures['certain']:,} decisions are proved,"
        f" half of them up to {figures['median_radius']:.3g} standard deviations or more",
    ]
    emit(figures, lines, as_json=args.json)
    return 0


def _copied(table: Table, name: str) -> np.ndarray:
    """Return a column, or an array beside X, as numbers or text that any program reads."""
    import numpy as np

    beside = table.beside or {}
    column = np.asarray(beside[name] if name in beside else table.columns[table.place(name)])
    return column.astype(str) if column.dtype == object else column


def _write(path: Path, columns: dict[str, np.ndarray]) -> None:
    """Write columns of one length in the format of the extension."""
    import numpy as np

    kind = path.suffix.lower()
    if kind == ".csv":
        with open(path, "w", newline="", encoding="utf-8") as stream:
            table = csv.writer(stream, lineterminator="\n")
            table.writerow(columns)
            table.writerows(zip(*(values.tolist() for values in columns.values()), strict=True))
    elif kind == ".npy":
        with open(path, "wb") as stream:
            np.save(
                stream, np.column_stack([v for k, v in columns.items() if k != "row"]), allow_pickle=False
            )
    elif kind == ".npz":
        with zipfile.ZipFile(path, "w") as archive:  # `savez` takes some names for its own
            for name, values in columns.items():
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, values, allow_pickle=False)
    else:
        try:
            import pandas

            pandas.DataFrame(columns).to_parquet(path, index=False)
        except ImportError:
            raise ImportError("Parquet needs pandas and pyarrow: pip install pandas pyarrow") from None
