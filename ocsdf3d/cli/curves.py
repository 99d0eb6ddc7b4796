"""`ocsdf3d curves`: how the training of a field went, as a figure."""

from __future__ import annotations

import argparse
from typing import Any

from . import outputs
from .console import emit
from .options import add_reporting


def add_parser(verbs: argparse._SubParsersAction[Any]) -> None:
    """Add the verb to the parser."""
    parser = verbs.add_parser(
        "curves",
        help="figure of a field's training",
        description="Draw loss, recall, false positives, slope and schedules over the steps of a training.",
    )
    parser.add_argument("field", metavar="FIELD", help="field written by `ocsdf3d reconstruct --save`")
    parser.add_argument("-o", "--output", metavar="PNG", required=True, help="picture to write")
    add_reporting(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read the history, draw, write."""
    outputs.check_input(args.field)
    out = outputs.check(args.output, inputs=[args.field], extensions=(".png",))

    from ocsdf3d import checkpoint
    from ocsdf3d.viewer.figures import curves_figure

    history = getattr(checkpoint.load(args.field, device="cpu"), "history", {})
    try:
        picture = curves_figure(history, args.field)
    except ValueError as error:
        raise ValueError(f"{args.field}: {error}") from None
    outputs.write_all([(out, lambda path: path.write_bytes(picture))])
    emit({"picture": out, "steps": history["steps"]}, [f"{out}: {history['steps']} steps"], as_json=args.json)
    return 0
