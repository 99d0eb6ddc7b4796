"""`ocsdf3d bench`: ours beside the peers that are installed, on the shapes and scans of a data folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .console import emit
from .options import PRESETS, SUPPORTS, Parser, add_device, add_reporting, number, positive, whole

WIDE_POINTS, WIDE_NOISE, WIDE_OUTLIERS = (500, 2048, 20_000, 100_000), (0.0, 0.005, 0.01), (0.0, 0.05)


def add_parser(verbs: argparse._SubParsersAction[Any]) -> None:
    """Add the verb to the parser."""
    parser = verbs.add_parser(
        "bench",
        help="compare with other methods on a folder of data",
        description="Measure this package against others on the same points with one evaluator.",
    )
    benches = parser.add_subparsers(title="benches", metavar="BENCH", required=True, parser_class=Parser)
    _add_reconstruct(benches)


def _add_reconstruct(benches: argparse._SubParsersAction[Any]) -> None:
    parser = benches.add_parser(
        "reconstruct",
        help="surfaces and fields from points",
        description="Tables of ours beside the installed peers, as Markdown on stdout and in the output"
        " folder; rows that are already in its ledgers are not measured again. Protocols: solids, modelnet,"
        " open, scans, field, speed.",
    )
    add = parser.add_argument
    add(
        "--protocol", nargs="+", default=["solids"], metavar="NAME", help="what is measured (default: solids)"
    )
    add("--methods", nargs="+", metavar="NAME", help="who takes part (default: ocsdf3d and installed peers)")
    add(
        "--recipes",
        action="store_true",
        help="train rivals too: paper, successor, regression, and implicitlab if installed (default: no)",
    )
    add("--shapes", nargs="+", metavar="FILE", help="file names, with or without extension (default: all)")
    add(
        "--points",
        nargs="+",
        type=whole(16),
        metavar="N",
        help="samples a shape; of one count, growth takes 8 and 49 times as many too (default: 2048)",
    )
    add(
        "--noise",
        nargs="+",
        type=_share,
        default=[0.0],
        metavar="S",
        help="standard deviations, as a share of the longest side, below 1 (default: 0)",
    )
    add(
        "--outliers",
        nargs="+",
        type=_share,
        default=[0.0],
        metavar="S",
        help="points added in a box 1.2 times the bounding box, as a share of the samples (default: 0)",
    )
    add(
        "--wide",
        action="store_true",
        help=f"all of {' '.join(map(str, WIDE_POINTS))} points, noise {' '.join(map(str, WIDE_NOISE))} and"
        f" outliers {' '.join(map(str, WIDE_OUTLIERS))} (default: only what the options above name)",
    )
    add("--seeds", nargs="+", type=whole(0, 2**31), default=[0, 1, 2], metavar="N", help="(default: 0 1 2)")
    add("--preset", choices=PRESETS, default="default", help="of ours (default: %(default)s)")
    add("--support", choices=SUPPORTS, default="auto", help="of ours and recipes (default: %(default)s)")
    add(
        "--resolution",
        type=whole(2),
        default=200,
        metavar="N",
        help="nodes along the longest side, of ours and recipes (default: %(default)s)",
    )
    add(
        "--samples",
        type=whole(1),
        default=100_000,
        metavar="N",
        help="of the evaluator, each side (default: %(default)s)",
    )
    add_device(parser)
    add("--limit", type=positive, default=900.0, metavar="S", help="seconds a method (default: %(default)s)")
    add(
        "--budget",
        type=positive,
        default=120.0,
        metavar="S",
        help="seconds of training a recipe, on top of --limit (default: %(default)s)",
    )
    add("--data", type=Path, metavar="DIR", help="folder with meshes/ and points/ (default: OCSDF3D_DATA)")
    add(
        "--out",
        type=Path,
        default=Path("bench-results/reconstruct"),
        metavar="DIR",
        help="folder of rows and tables (default: %(default)s)",
    )
    add("--fresh", action="store_true", help="forget the rows in the output folder (default: go on)")
    add("--figure", action="store_true", help="draw the meshes of the first seed (default: no)")
    add_reporting(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure what is not in the ledgers yet; print tables, or ranks as one JSON object."""
    from ocsdf3d.bench import data_folder, reconstruction
    from ocsdf3d.bench.methods import chosen_methods
    from ocsdf3d.bench.protocols import Asked
    from ocsdf3d.devices import resolve_device

    points = args.points or [2048]
    noise, outliers = args.noise, args.outliers
    if args.wide:
        points, noise, outliers = WIDE_POINTS, WIDE_NOISE, WIDE_OUTLIERS
    asked = Asked(
        data=data_folder() if args.data is None else args.data,
        shapes=None if args.shapes is None else tuple(args.shapes),
        methods=chosen_methods(args.methods, args.recipes),
        points=tuple(dict.fromkeys(points)),
        noise=tuple(dict.fromkeys(noise)),
        outliers=tuple(dict.fromkeys(outliers)),
        seeds=tuple(dict.fromkeys(args.seeds)),
        preset=args.preset,
        support=args.support,
        resolution=args.resolution,
        samples=args.samples,
        device=resolve_device(args.device).type,
        limit=args.limit,
        budget=args.budget,
    )
    report = reconstruction.run(args.protocol, asked, args.out, fresh=args.fresh, figure=args.figure)
    ranks = {"out": str(args.out), "ranks": report.ranks}
    emit(ranks, [report.text], as_json=args.json)
    return 0


def _share(text: str) -> float:
    value = number(text)
    if not 0.0 <= value < 1.0:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to below 1, got {text}")
    return value
