"""`ocsdf3d images score`: a detector and images in, a score, a decision and a certified radius each out."""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import outputs
from ..console import emit
from ..interrupt import Interrupt
from ..options import add_reporting, whole
from . import given

if TYPE_CHECKING:
    import numpy as np

COLUMNS = 8


def add_parser(steps: argparse._SubParsersAction[Any]) -> None:
    """Add the step to the parser."""
    parser = steps.add_parser(
        "score",
        help="detector and images → scores, decisions and certified radii",
        description="Score images: above 0 they are accepted, and no change of l2 length below the radius"
        " alters the decision.",
    )
    given.add_detector(parser)
    parser.add_argument("images", metavar="IMAGES", help=given.SOURCE)
    parser.add_argument("-o", "--output", metavar="OUT.csv", help="write them (default: a summary only)")
    parser.add_argument(
        "--heat",
        metavar="PNG",
        help="draw the images that score lowest and, beneath, where they would have to be brighter (red) or"
        " darker (blue) (default: not drawn)",
    )
    parser.add_argument(
        "--worst", type=whole(1), default=COLUMNS, metavar="N", help="images in --heat (default: %(default)s)"
    )
    given.add_reading(parser)
    add_reporting(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Load, score, write."""
    begun = time.perf_counter()
    inputs = given.check_inputs(args)
    out = picture = None
    if args.output is not None:
        out = outputs.check(args.output, inputs=inputs, extensions=(".csv",))
    if args.heat is not None:
        taken = [*inputs, *([] if out is None else [str(out)])]
        picture = outputs.check(args.heat, inputs=taken, extensions=(".png",))

    import numpy as np

    from ocsdf3d.images import load

    with Interrupt() as interrupt:
        detector = load(args.detector)
        loaded = given.read(args, args.images, detector)
        own = given.of_class(args, loaded)
        images, names = loaded.images[own], np.array(loaded.names)[own]
        scores, radii = detector.decision_function(images), detector.certified_radius(images)
        jobs: list[tuple[Path, outputs.Writer]] = []
        if out is not None:
            jobs.append((out, lambda path: _write(path, names, scores, radii)))
        if picture is not None:
            drawn = _drawn(detector, images[np.argsort(scores, kind="stable")[: args.worst]])
            jobs.append((picture, lambda path: path.write_bytes(drawn)))
        interrupt.writing = True
        outputs.write_all(jobs)
    order = np.argsort(scores, kind="stable")[:COLUMNS]
    figures = {
        "detector": args.detector,
        "images": len(images),
        "skipped": loaded.skipped,
        "scores": out,
        "picture": picture,
        "accepted": float((scores >= 0.0).mean()),
        "certain": float((radii > 0.0).mean()),
        "median_score": float(np.median(scores)),
        "median_radius": float(np.median(radii)),
        "lowest": {str(names[place]): float(scores[place]) for place in order},
        "certificate": detector.certificate_,
        "seconds": round(time.perf_counter() - begun, 3),
    }
    lines = [
        given.certified_line(detector),
        f"{len(images):,} images: {figures['accepted']:.1%} accepted, median score"
        f" {figures['median_score']:.4g}, median certified radius {figures['median_radius']:.4g}",
        "lowest: " + ", ".join(f"{name} {score:.4g}" for name, score in figures["lowest"].items()),
        *(f"{path}: written" for path in (out, picture) if path is not None),
    ]
    emit(figures, lines, as_json=args.json)
    return 0


def _write(path: Path, names: np.ndarray, scores: np.ndarray, radii: np.ndarray) -> None:
    with open(path, "w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(("image", "score", "decision", "certified_radius"))
        for name, score, radius in zip(names.tolist(), scores.tolist(), radii.tolist(), strict=True):
            table.writerow((name, score, 1 if score >= 0.0 else -1, radius))


def _drawn(detector: Any, images: np.ndarray) -> bytes:
    import numpy as np

    from ocsdf3d.images.estimator import pixels_of
    from ocsdf3d.images.pictures import coloured, png, sheet
    from ocsdf3d.images.synthesis import heat_map

    shown = pixels_of(images)
    shown = shown[..., None] if shown.ndim == 3 else shown[..., :3]
    shown = np.broadcast_to(shown, (*shown.shape[:3], 3))
    zoom = max(1, 112 // shown.shape[1])
    return png(sheet(np.concatenate([shown, coloured(heat_map(detector, images))]), len(images), zoom=zoom))
