"""`ocsdf3d images synthesize`: a detector in, what it takes for images of its class out."""

from __future__ import annotations

import argparse
import time
from typing import Any

from .. import outputs
from ..console import emit
from ..options import add_reporting, add_seed, number, positive, whole
from . import given

STARTS = ("mean", "noise", "uniform")
SIDE = 112  # pixels of an image on the sheet, at least where a whole factor allows it


def add_parser(steps: argparse._SubParsersAction[Any]) -> None:
    """Add the step to the parser."""
    parser = steps.add_parser(
        "synthesize",
        help="detector → sheet of images made from noise",
        description="Walk from noise to a score of the class, as Algorithm 1 does, and draw where that ends.",
    )
    given.add_detector(parser)
    add = parser.add_argument
    add("-o", "--output", metavar="PNG", required=True, help="sheet to write")
    add("--count", type=whole(1), default=16, metavar="N", help="images (default: %(default)s)")
    add("--columns", type=whole(1), default=8, metavar="N", help="images in a row (default: %(default)s)")
    add(
        "--start",
        choices=STARTS,
        default="mean",
        help="mean: the mean image and low-frequency noise; noise: that alone; uniform: as in the paper"
        " (default: %(default)s)",
    )
    add(
        "--level",
        type=number,
        metavar="F",
        help="score to reach, l2 of pixels in [0, 1]; twice the default is clearer (default: the mean one of"
        " the images learnt, as in the paper)",
    )
    add("--steps", type=whole(1), default=64, metavar="N", help="of a walk (default: %(default)s)")
    add(
        "--multiplier",
        type=positive,
        default=16.0,
        metavar="K",
        help="of each step; 1 in the paper, which stops short of the level (default: %(default)s)",
    )
    add_seed(parser, 2**32 - 1)
    add_reporting(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Load, walk, draw."""
    begun = time.perf_counter()
    inputs = given.check_inputs(args)
    out = outputs.check(args.output, inputs=inputs, extensions=(".png",))

    from ocsdf3d.images import load, synthesize
    from ocsdf3d.images.pictures import png, sheet

    detector = load(args.detector)
    made = synthesize(
        detector,
        args.count,
        start=args.start,
        level=args.level,
        steps=args.steps,
        multiplier=args.multiplier,
        random_state=args.seed,
    )
    drawn = png(sheet(made, args.columns, zoom=max(1, SIDE // made.shape[1])))
    outputs.write_all([(out, lambda path: path.write_bytes(drawn))])
    scores = detector.score_samples(made)
    figures = {
        "picture": out,
        "images": len(made),
        "level": detector.level_,
        "scores": scores,
        "seconds": round(time.perf_counter() - begun, 3),
    }
    lines = [
        f"{out}: {len(made)} images, scores {scores.min():.4g} to {scores.max():.4g}, of the class"
        f" {detector.level_:.4g} on average"
    ]
    emit(figures, lines, as_json=args.json)
    return 0
