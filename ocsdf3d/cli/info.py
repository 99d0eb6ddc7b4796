"""`ocsdf3d info`: what a field file says of itself."""

from __future__ import annotations

import argparse
from typing import Any

from . import outputs
from .console import emit, flattened, plain
from .interrupt import Interrupt
from .options import add_reporting

LONGEST_LIST = 6  # two corners of a box are shown whole, the curves of training are not


def add_parser(verbs: argparse._SubParsersAction[Any]) -> None:
    """Add the verb to the parser."""
    parser = verbs.add_parser(
        "info",
        help="certificate, frame, settings and history of a field",
        description="Show a field's certificate, frame, settings and history.",
    )
    parser.add_argument("field", metavar="FIELD", help="field written by `ocsdf3d reconstruct --save`")
    add_reporting(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Load, tell."""
    outputs.check_input(args.field)

    from ocsdf3d import checkpoint

    with Interrupt():
        sdf = checkpoint.load(args.field, device="cpu")
    figures = plain(
        {
            "field": args.field,
            "support": sdf.support,
            "support_reason": sdf.support_reason,
            "level": sdf.level,
            "lipschitz": sdf.lipschitz,
            "certificate": sdf.certificate,
            "frame": sdf.frame,
            "box": sdf.box,
            "network": sdf.network.config,
            "settings": sdf.settings,
            "history": sdf.history,
        }
    )
    emit(figures, [f"{name}: {_shown(value)}" for name, value in flattened(figures)], as_json=args.json)
    return 0


def _shown(value: Any) -> str:
    """A leaf for people: of a curve, where it began and where it ended."""
    if isinstance(value, list) and len(value) > LONGEST_LIST:
        return f"{value[0]} … {value[-1]} ({len(value)} values)"
    return str(value)
