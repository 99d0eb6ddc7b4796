"""`ocsdf3d images`: one class of images against all others, with a certificate; one file a step."""

from __future__ import annotations

import argparse
from typing import Any

from ..options import Parser
from . import bench, fit, judge, score, synthesize


def add_parser(verbs: argparse._SubParsersAction[Any]) -> None:
    """Add the verb to the parser."""
    parser = verbs.add_parser(
        "images",
        help="images: learn a class, score others, prove how robust that is",
        description="Learn what the images of one class look like, score others, and prove what no attack of"
        " a given size can change. Scores and radii are l2 distances between images with pixels in [0, 1].",
    )
    steps = parser.add_subparsers(title="steps", metavar="STEP", required=True, parser_class=Parser)
    for step in (fit, score, judge, synthesize, bench):
        step.add_parser(steps)
