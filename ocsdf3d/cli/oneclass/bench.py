"""`ocsdf3d oneclass bench`: ours beside other detectors, on the protocols of the paper."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..console import emit
from ..options import Parser, add_device, add_reporting, whole

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
    _add_speed(benches)
    _add_toys(benches)


def _add_toys(benches: argparse._SubParsersAction[Any]) -> None:
    parser = benches.add_parser(
        "toys",
        help="the paper's planar sets, whose truth is known, and how steep each method is (tables 1, 8)",
        description="Slope, AUROC and what is proved on the planar sets, beside a conventional network, a"
        " one-class SVM and an isolation forest. Rows that are already in the output folder's ledger are not"
        " measured again.",
    )
    add = parser.add_argument
    add("--toys", nargs="+", metavar="NAME", help="sets (default: all five)")
    add("--methods", nargs="+", metavar="NAME", help="who takes part (default: all)")
    add("--seeds", nargs="+", type=whole(0, 2**31), default=[0, 1, 2], metavar="N", help="(default: 0 1 2)")
    add(
        "--points",
        type=whole(2),
        default=4000,
        metavar="N",
        help="samples to learn from (default: %(default)s)",
    )
    add(
        "--steps",
        type=whole(1),
        default=10_000,
        metavar="N",
        help="of the conventional network (default: %(default)s)",
    )
    add_device(parser)
    add("--figure", action="store_true", help="draw contours and histograms of the first seed (default: no)")
    _add_out(parser)
    parser.set_defaults(run=_run_toys)


def _add_speed(benches: argparse._SubParsersAction[Any]) -> None:
    parser = benches.add_parser(
        "speed",
        help="time and memory on large and wide tables",
        description="Seconds of learning, rows scored a second and memory, each detector in a process of its"
        " own. Rows that are already in the output folder's ledger are not measured again.",
    )
    _add_common(parser, tables="http musk", methods="ocsdf3d iforest knn lof")
    parser.add_argument("--seed", type=whole(0, 2**31), default=0, metavar="N", help="(default: %(default)s)")
    parser.set_defaults(run=_run_speed)


def _add_common(parser: argparse.ArgumentParser, *, tables: str, methods: str) -> None:
    add = parser.add_argument
    add("--tables", nargs="+", metavar="NAME", help=f"names of NPZ files (default: {tables})")
    add("--methods", nargs="+", metavar="NAME", help=f"who takes part (default: {methods})")
    add("--data", type=Path, metavar="DIR", help="folder of NPZ with X, y (default: OCSDF3D_DATA/tabular)")
    _add_out(parser)


def _add_out(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--out",
        type=Path,
        default=Path("bench-results/oneclass"),
        metavar="DIR",
        help="folder of rows and tables (default: %(default)s)",
    )
    add("--fresh", action="store_true", help="forget the rows in the output folder (default: go on)")
    add_reporting(parser)


def _add_tables(benches: argparse._SubParsersAction[Any], protocol: str) -> None:
    parser = benches.add_parser(
        protocol,
        help=TABLES[protocol],
        description=f"AUROC of {TABLES[protocol]}. Labels judge and choose no setting. Rows that are already"
        " in the output folder's ledger are not measured again.",
    )
    _add_common(parser, tables="those of the paper", methods="all that are installed, of ours the first")
    add = parser.add_argument
    add("--seeds", nargs="+", type=whole(0, 2**31), default=[0, 1, 2], metavar="N", help="(default: 0 1 2)")
    add(
        "--learn",
        type=whole(0),
        default=LEARN,
        metavar="N",
        help="most rows to learn from, 0 for all (default: %(default)s)",
    )
    parser.set_defaults(run=_run_tables, protocol=protocol)


def _run_tables(args: argparse.Namespace) -> int:
    """Measure what is not in the ledger yet; print the table, or means and ranks as one JSON object."""
    from ocsdf3d.bench import tables
    from ocsdf3d.bench.detectors import chosen_detectors

    report = tables.run(
        args.protocol,
        tables.tables_of(_folder(args), args.protocol, args.tables),
        chosen_detectors(args.methods),
        args.out,
        seeds=list(dict.fromkeys(args.seeds)),
        learn=args.learn,
        fresh=args.fresh,
    )
    standings = {name: {"auroc": mean, "rank": rank} for name, (mean, rank) in report.standings.items()}
    emit({"out": args.out, "methods": standings}, [report.text], as_json=args.json)
    return 0


def _run_speed(args: argparse.Namespace) -> int:
    """Measure what is not in the ledger yet; print the table, or the folder as one JSON object."""
    from ocsdf3d.bench import tables, throughput
    from ocsdf3d.bench.detectors import chosen_detectors

    report = throughput.run(
        tables.tables_of(_folder(args), "ad", args.tables or throughput.TABLES),
        chosen_detectors(args.methods or throughput.METHODS),
        args.out,
        seed=args.seed,
        fresh=args.fresh,
    )
    emit({"out": args.out}, [report.text], as_json=args.json)
    return 0


def _run_toys(args: argparse.Namespace) -> int:
    """Measure what is not in the ledger yet; print the tables, or the rows as one JSON object."""
    from ocsdf3d.bench import toys

    report = toys.run(
        args.out,
        toys=args.toys or toys.TOYS,
        methods=args.methods or toys.METHODS,
        seeds=list(dict.fromkeys(args.seeds)),
        points=args.points,
        steps=args.steps,
        device=args.device,
        fresh=args.fresh,
        figure=args.figure,
    )
    emit({"out": args.out, "rows": report.rows}, [report.text], as_json=args.json)
    return 0


def _folder(args: argparse.Namespace) -> Path:
    from ocsdf3d.bench import data_folder

    return data_folder() / "tabular" if args.data is None else Path(args.data)
