"""`ocsdf3d images certify` and `attack`: a detector, its class and others in; what holds under attack out."""

from __future__ import annotations

import argparse
import time
from typing import Any

from ..console import emit
from ..interrupt import Interrupt
from ..options import add_reporting, add_seed, number, whole
from ..progress import Progress
from . import given

RADII = (0.0, 8.0, 16.0, 36.0, 72.0, 144.0, 255.0)


def add_parser(steps: argparse._SubParsersAction[Any]) -> None:
    """Add both steps to the parser."""
    for name, said in (
        ("certify", "AUROC that no attack can push below"),
        ("attack", "AUROC that projected gradient descent leaves, beside the proof"),
    ):
        parser = steps.add_parser(
            name,
            help=f"detector and labelled images → {said}",
            description=f"Judge a detector on images of its class and on others: the {said}, where each image"
            " moves by at most a radius, l2 of pixels in [0, 1].",
        )
        given.add_detector(parser)
        parser.add_argument("images", metavar="IMAGES", help=given.SOURCE)
        parser.add_argument(
            "--others",
            metavar="IMAGES",
            help="images of other classes (default: those of other labels than --class)",
        )
        parser.add_argument(
            "--radii",
            nargs="+",
            type=_radius,
            default=list(RADII),
            metavar="R",
            help=f"in 255ths of a pixel's range (default: {' '.join(f'{r:g}' for r in RADII)})",
        )
        if name == "attack":
            add = parser.add_argument
            add(
                "--restarts",
                type=whole(0),
                default=3,
                metavar="N",
                help="random starts (default: %(default)s)",
            )
            add(
                "--steps",
                type=whole(1),
                default=50,
                metavar="N",
                help="of the descent (default: %(default)s)",
            )
            add(
                "--limit",
                type=whole(1),
                default=200,
                metavar="N",
                help="images of either kind, the first ones (default: %(default)s)",
            )
            add_seed(parser, 2**32 - 1)
        given.add_reading(parser)
        add_reporting(parser)
        parser.set_defaults(run=run, attacks=name == "attack")


def run(args: argparse.Namespace) -> int:
    """Load, prove, attack where asked."""
    begun = time.perf_counter()
    given.check_inputs(args)
    if (args.others is None) == (args.labels is None):
        raise ValueError("give either --others IMAGES, or --labels and --class, so that there are two kinds.")

    import numpy as np

    from ocsdf3d.images import load
    from ocsdf3d.oneclass import attacked_scores, auroc, certified_auroc

    with Interrupt(), Progress(quiet=args.quiet, verbose=args.verbose) as progress:
        detector = load(args.detector)
        loaded = given.read(args, args.images, detector)
        own = given.of_class(args, loaded)
        others = (
            loaded.images[~own] if args.others is None else given.read(args, args.others, detector).images
        )
        if len(others) == 0:
            raise ValueError(f"{args.images}: all images are of class {args.own!r}; give others as well.")
        halves = [loaded.images[own], others]
        if args.attacks:
            halves = [half[: args.limit] for half in halves]
        scores = [detector.score_samples(half) for half in halves]
        if halves[0].dtype != halves[1].dtype or halves[0].shape[1:] != halves[1].shape[1:]:
            from ocsdf3d.images.estimator import pixels_of

            halves = [pixels_of(half).reshape(len(half), *detector.shape_) for half in halves]
        images, labels = np.concatenate(halves), np.repeat([1, -1], [len(half) for half in halves])
        radii = np.array(args.radii) / 255.0
        certified = certified_auroc(
            scores[0],
            scores[1],
            radii,
            lipschitz=detector.certificate_.lipschitz,
            # of a score before the attack, and after it
            rounding=2.0 * float(detector.rounding(images, radii.max()).max()),
        )
        attacked = []
        for index, radius in enumerate(radii if args.attacks else ()):
            worst = attacked_scores(
                detector,
                images,
                labels,
                float(radius),
                steps=args.steps,
                restarts=args.restarts,
                random_state=args.seed,
                box=detector.box(),
            )
            attacked.append(auroc(worst[labels == 1], worst[labels == -1]))
            progress("attack", index + 1, len(radii), {})
    figures = {
        "detector": args.detector,
        "normal": len(halves[0]),
        "others": len(halves[1]),
        "auroc": auroc(*scores),
        "radius_255ths": args.radii,
        "certified_auroc": certified,
        **({"attacked_auroc": attacked} if args.attacks else {}),
        "certificate": detector.certificate_,
        "seconds": round(time.perf_counter() - begun, 3),
    }
    head = "  radius  AUROC at least" + ("  AUROC attacked" if args.attacks else "")
    lines = [
        given.certified_line(detector),
        f"{len(halves[0]):,} images of the class, {len(halves[1]):,} others: AUROC {figures['auroc']:.4f}",
        head,
    ]
    for index, radius in enumerate(args.radii):
        end = f"{attacked[index]:16.4f}" if args.attacks else ""
        lines.append(f"{radius:4.4g}/255{certified[index]:16.4f}{end}")
    emit(figures, lines, as_json=args.json)
    return 0


def _radius(text: str) -> float:
    value = number(text)
    if value < 0.0:
        raise argparse.ArgumentTypeError(f"expected a radius of at least 0, got {text}")
    return value
