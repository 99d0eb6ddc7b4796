"""`ocsdf3d info`: what a field file says of itself."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from . import outputs
from .console import emit, flattened, plain
from .interrupt import Interrupt
from .options import add_reporting

if TYPE_CHECKING:
    from ocsdf3d.csg import Field

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
        try:
            field = checkpoint.load(args.field, device="cpu")
        except checkpoint.CheckpointError as error:
            if args.json:  # machines get the object as well as the exit code and the line
                emit({"field": args.field, "certified": False, "reason": str(error)}, [], as_json=True)
            raise
    figures = plain({"field": args.field, **field.certificate, **_described(field)})
    emit(figures, [f"{name}: {_shown(value)}" for name, value in flattened(figures)], as_json=args.json)
    return 0


def _described(field: Field) -> dict[str, Any]:
    """What a field is: for CSG what its parts are."""
    from ocsdf3d.csg import Node
    from ocsdf3d.field import SDF

    if isinstance(field, SDF):
        names = ("support", "support_reason", "level", "frame", "box", "settings", "history")
        return {
            "kind": field.kind,
            **{name: getattr(field, name) for name in names},
            "network": field.network.config,
        }
    described = {"kind": field.kind, "box": field.box, "settings": field.settings}
    if isinstance(field, Node):
        described["parts"] = [_described(part) for part in field.parts]
    return described


def _shown(value: Any) -> str:
    """A leaf for people: of a curve, where it began and where it ended."""
    if isinstance(value, list) and len(value) > LONGEST_LIST:
        return f"{value[0]} … {value[-1]} ({len(value)} values)"
    return str(value)
