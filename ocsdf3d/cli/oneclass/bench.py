"""`ocsdf3d oneclass bench`: ours beside other detectors, on the protocols of the paper."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..console import emit
from ..options import Parser, add_reporting, whole

LEARN = 10_000
TABLES = {  # protocol → what it measures
    "ad": "outliers among the rows learnt from (table 2 of the paper)",
    "oc": "anomalies after learning from half of the normal rows (table 5)",
}


def add_parser(steps: argparse._SubParsersAction[Any]) -> None:
    """Add the step to the parser."""
    parser = steps.add_parser(
        "bench",
        help="compare with other detectors",
        description="Measure this detector beside others that are installed, on one protocol for all.",
    )
    benches = parser.add_subparsers(title="benches", metavar="BENCH", required=True, parser_class=Parser)
    for protocol in TABLES:
        _add_tables(benches, protocol)


def _add_tables(benches: argparse._SubParsersAction[Any], protocol: str) -> None:
    parser = benches.add_parser(
        protocol,
        help=TABLES[protocol],
        description=f"AUROC of {TABLES[protocol]}. Labels judge and choose no setting. Rows that are already"
        " in the output folder's ledger are not measured again.",
    )
    add = parser.add_argument
    add("--tables", nargs="+", metavar="NAME", help="names of NPZ files (default: those of the paper)")
    add("--methods", nargs="+", metavar="NAME", help="who takes part (default: all that are installed)")
    add("--seeds", nargs="+", type=whole(0, 2**31), default=[0, 1, 2], metavar="N", help="(default: 0 1 2)")
    add(
        "--learn",
        type=whole(0),
        default=LEARN,
        metavar="N",
        help="most rows to learn from, 0 for all (default: %(default)s)",
    )
    add("--data", type=Path, metavar="DIR", help="folder of NPZ with X, y (default: OCSDF3D_DATA/tabular)")
    add(
        "--out",
        type=Path,
        default=Path("bench-results/oneclass"),
        metavar="DIR",
        help="folder of rows and tables (default: %(default)s)",
    )
    add("--fresh", action="store_true", help="forget the rows in the output folder (default: go on)")
    add_reporting(parser)
    parser.set_defaults(run=_run_tables, protocol=protocol)


def _run_tables(args: argparse.Namespace) -> int:
    """Measure what is not in the ledger yet; print the table, or means and ranks as one JSON object."""
    from ocsdf3d.bench import data_folder, tables
    from ocsdf3d.bench.detectors import DETECTORS

    methods = list(dict.fromkeys(args.methods or DETECTORS))
    unknown = [name for name in methods if name not in DETECTORS]
    if unknown:
        raise ValueError(f"--methods: no {', '.join(unknown)}; there are {', '.join(DETECTORS)}.")
    folder = data_folder() / "tabular" if args.data is None else args.data
    report = tables.run(
        args.protocol,
        tables.tables_of(folder, args.protocol, args.tables),
        methods,
        args.out,
        seeds=list(dict.fromkeys(args.seeds)),
        learn=args.learn,
        fresh=args.fresh,
    )
    standings = {name: {"auroc": mean, "rank": rank} for name, (mean, rank) in report.standings.items()}
    emit({"out": args.out, "methods": standings}, [report.text], as_json=args.json)
    return 0
