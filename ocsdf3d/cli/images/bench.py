"""`ocsdf3d images bench`: each class in turn against the others, ours beside Deep SVDD and scikit-learn."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import checks
from ..console import emit
from ..options import add_device, add_reporting, whole

METHODS = ("ocsdf", "deepsvdd", "deepsvdd_plain", "deepsvdd_ours", "forest", "svm")
DEFAULT = ("ocsdf", "deepsvdd", "forest", "svm")
FIGURES = ("curves", "histograms", "synthesis", "heat")
PRESETS = ("cpu", "conv", "paper")


def add_parser(steps: argparse._SubParsersAction[Any]) -> None:
    """Add the step to the parser."""
    parser = steps.add_parser(
        "bench",
        help="AUROC by class, certified and attacked, beside other methods",
        description="Tables as Markdown on stdout and in the output folder; rows that are already in its"
        " ledger are not measured again.",
    )
    add = parser.add_argument
    add(
        "data",
        metavar="DATA",
        help="mnist, fashion or cifar10 of OCSDF3D_DATA, or a folder with train/CLASS and test/CLASS",
    )
    add(
        "--methods",
        nargs="+",
        choices=METHODS,
        default=list(DEFAULT),
        help="deepsvdd: a LeNet with BatchNorm; deepsvdd_plain: without; deepsvdd_ours: the preset's network,"
        f" unconstrained (default: {' '.join(DEFAULT)})",
    )
    add("--classes", nargs="+", default=[], metavar="NAME", help="to learn in turn (default: all)")
    add("--seeds", nargs="+", type=whole(0, 2**31), default=[0], metavar="N", help="(default: 0)")
    add("--preset", choices=PRESETS, default="cpu", help="of ours (default: %(default)s)")
    add(
        "--attacked",
        type=whole(0),
        default=200,
        metavar="N",
        help="images of either kind to attack, 0 for none (default: %(default)s)",
    )
    add(
        "--size",
        nargs=2,
        type=whole(1),
        metavar=("H", "W"),
        help="scale the files of a folder to so many pixels (default: as they are)",
    )
    add(
        "--channels",
        type=int,
        choices=(1, 3),
        help="convert the files of a folder to gray or colour (default: as they are)",
    )
    add(
        "--out",
        type=Path,
        default=Path("bench-results/images"),
        metavar="DIR",
        help="folder of rows and tables (default: %(default)s)",
    )
    add(
        "--draw",
        nargs="+",
        choices=FIGURES,
        default=[],
        help="figures to write there as PNG: AUROC by radius of the attack, scores of train, test and other"
        " classes, images made from noise, images and what is odd about them (default: none)",
    )
    add_device(parser)
    add("--fresh", action="store_true", help="forget the rows in the output folder (default: go on)")
    add_reporting(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure what is not in the ledger yet; print the tables; draw."""
    checks.device(args.device)

    from ocsdf3d.bench import images

    asked = images.Asked(
        methods=tuple(dict.fromkeys(args.methods)),
        classes=tuple(dict.fromkeys(args.classes)),
        seeds=tuple(dict.fromkeys(args.seeds)),
        preset=args.preset,
        attacked=args.attacked,
        size=None if args.size is None else (args.size[0], args.size[1]),
        channels=args.channels,
        device=args.device,
        draw=tuple(dict.fromkeys(args.draw)),
    )
    text, drawn = images.run(args.data, asked, args.out, fresh=args.fresh)
    lines = [text, *(f"{path}: drawn" for path in drawn)]
    emit({"out": str(args.out), "tables": text, "figures": drawn}, lines, as_json=args.json)
    return 0
