"""`ocsdf3d oneclass`: outlier detection in tables, with a certificate; one file a step."""

from __future__ import annotations

import argparse
from typing import Any

from ..options import Parser
from . import bench, certify, fit, score


def add_parser(verbs: argparse._SubParsersAction[Any]) -> None:
    """Add the verb to the parser."""
    parser = verbs.add_parser(
        "oneclass",
        help="tables: learn what is normal, score rows, prove how robust that is",
        description="Learn what normal rows of a table look like, score others, and prove what no attack of a"
        " given size can change. Radii are in standard deviations of the columns of the rows learnt.",
    )
    steps = parser.add_subparsers(title="steps", metavar="STEP", required=True, parser_class=Parser)
    for step in (fit, score, certify, bench):
        step.add_parser(steps)
