"""`ocsdf3d evaluate`: how far a mesh is from its reference."""

from __future__ import annotations

import argparse
from typing import Any

from . import outputs
from .console import emit, plain
from .interrupt import Interrupt
from .options import add_reporting, add_seed, positive, whole


def add_parser(verbs: argparse._SubParsersAction[Any]) -> None:
    """Add the verb to the parser."""
    parser = verbs.add_parser(
        "evaluate",
        help="mesh and reference → Chamfer, F-score, IoU, …",
        description="Compare a mesh with a reference. chamfer is half the sum of the two mean distances,"
        " hausdorff the largest one, both in world units; iou needs a closed reference. floor is the chamfer"
        " that the reference itself would have, from two samplings; of a cloud there is none, and chamfer"
        " counts the spacing of its points.",
    )
    parser.add_argument("output", metavar="OUT", help="mesh to judge")
    parser.add_argument("reference", metavar="REFERENCE", help="mesh or cloud to judge it by")
    parser.add_argument(
        "--samples",
        type=whole(1),
        default=100_000,
        metavar="N",
        help="points drawn on each surface (default: %(default)s)",
    )
    parser.add_argument(
        "--tau",
        type=positive,
        metavar="T",
        help="distance threshold of the F-score, world units (default: 0.01 of REFERENCE's longest side)",
    )
    add_seed(parser)
    add_reporting(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read both, compare, print."""
    outputs.check_input(args.output)
    outputs.check_input(args.reference)

    from ocsdf3d import io, metrics
    from ocsdf3d.geometry import PointCloud

    with Interrupt():
        mesh = io.read(args.output)
        if isinstance(mesh, PointCloud):
            raise ValueError(
                f"{args.output}: holds {len(mesh)} points and no faces. Mesh first, then reference."
            )
        reference = io.read(args.reference)
        found = metrics.evaluate(mesh, reference, samples=args.samples, tau=args.tau, seed=args.seed)
        floor = None
        if not isinstance(reference, PointCloud):
            floor = metrics.floor(reference, samples=args.samples, seed=args.seed)
    figures = {"chamfer": found["chamfer"], "floor": floor, **found}
    width = max(len(name) for name in figures)
    lines = [f"{name:<{width}}  {_shown(plain(value))}" for name, value in figures.items()]
    emit(figures, lines, as_json=args.json)
    return 0


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
