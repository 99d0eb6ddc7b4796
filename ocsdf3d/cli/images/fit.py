"""`ocsdf3d images fit`: images of one class in, a detector out."""

from __future__ import annotations

import argparse
import time
from typing import Any

from .. import checks, kept, outputs
from ..console import emit, warn
from ..interrupt import Interrupt
from ..options import MISUSE, add_device, add_reporting, add_seed, contamination, positive, whole
from ..progress import Progress
from . import given

PRESETS = ("cpu", "conv", "paper")
NEGATIVES = ("uniform", "corners", "noise", "turned", "elastic", "paste", "mixed")


def add_parser(steps: argparse._SubParsersAction[Any]) -> None:
    """Add the step to the parser."""
    parser = steps.add_parser(
        "fit",
        help="images of one class → detector",
        description="Learn a class from its images alone; no image of another class takes part.",
        epilog="Ctrl-C during training ends it early and writes what was learnt; a second one stops at once."
        " With --checkpoint SIGTERM ends it too, and keeps it, exit 143.",
    )
    add = parser.add_argument
    add("images", metavar="IMAGES", help=given.SOURCE)
    add("-o", "--output", metavar="DETECTOR", required=True, help="detector to write: .safetensors")
    add(
        "--preset",
        choices=PRESETS,
        default="cpu",
        help="cpu: dense, minutes; conv: convolutions; paper: the paper's, for a GPU (default: %(default)s)",
    )
    add(
        "--margin",
        type=positive,
        metavar="M",
        help="images are to score above it, negatives below minus it; l2 of pixels in [0, 1]"
        " (default: the preset's)",
    )
    add("--lam", type=positive, metavar="L", help="weight of the hinge at the end (default: the preset's)")
    add("--steps", type=whole(1), metavar="N", help="of the optimiser (default: the preset's)")
    add(
        "--negatives",
        nargs="+",
        choices=NEGATIVES,
        help="what is made to learn against (default: the preset's: elastic paste, of paper uniform)",
    )
    add(
        "--contamination",
        type=contamination,
        metavar="S",
        help="share of the images to call outliers, above 0 to 0.5 (default: those that score below 0)",
    )
    given.add_reading(parser)
    add_device(parser)
    add_seed(parser, 2**32 - 1)
    kept.add_options(parser)
    add_reporting(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read, learn, write."""
    begun = time.perf_counter()
    inputs = given.check_inputs(args)
    out = outputs.check(args.output, inputs=inputs, extensions=given.DETECTOR_EXTENSIONS)
    if not kept.checked(args, [*inputs, str(out)]):
        return MISUSE
    checks.device(args.device)

    from ocsdf3d.devices import resolve_device
    from ocsdf3d.images import OneClassImageSDF, save

    with (
        Interrupt(terminate=args.checkpoint is not None) as interrupt,
        Progress(quiet=args.quiet, verbose=args.verbose) as progress,
    ):
        loaded = given.read(args, args.images)
        images = loaded.images[given.of_class(args, loaded)]
        names = ("margin", "lam", "steps", "negatives", "contamination")
        asked = {name: getattr(args, name) for name in names}
        detector = OneClassImageSDF(
            args.preset,
            **{name: "auto" if value is None else value for name, value in asked.items()},
            device=args.device,
            random_state=args.seed,
            progress=lambda done, total, told: progress("train", done, total, told),
        )
        interrupt.training = True
        detector.fit(
            images,
            stop=interrupt.stop,
            checkpoint=args.checkpoint,
            every=args.checkpoint_every,
            resume=args.resume,
        )
        interrupt.training = False
        kept.tell(args, detector.history_, terminated=interrupt.terminated)
        if interrupt.terminated:
            return kept.TERMINATED
        if detector.history_["interrupted"]:
            warn(f"interrupted: training ended after {detector.n_iter_} steps; its result is written")
        interrupt.writing = True
        outputs.write_all([(out, lambda path: save(path, detector))])
    curves: Any = detector.history_["curves"]
    figures = {
        "detector": out,
        "images": len(images),
        "skipped": loaded.skipped,
        "shape": detector.shape_,
        "accepted": float((detector.predict(images) == 1).mean()),
        "threshold": detector.offset_,
        "gradient_norm": curves["gradient_norm"][-1],
        "certificate": detector.certificate_,
        "unit": detector.unit_,
        "steps": detector.n_iter_,
        "interrupted": bool(detector.history_["interrupted"]),
        "preset": args.preset,
        "negatives": detector.kinds(),
        "device": resolve_device(args.device).type,
        "seed": args.seed,
        "seconds": round(time.perf_counter() - begun, 3),
    }
    shape = " × ".join(map(str, detector.shape_))
    lines = [
        f"{out}: learnt from {len(images):,} images of {shape}, against {', '.join(figures['negatives'])}",
        f"accepted: {figures['accepted']:.1%} of these, at scores of at least {detector.offset_:.4g};"
        f" mean gradient norm {figures['gradient_norm']:.3f}",
        given.certified_line(detector),
        f"{detector.n_iter_} steps on {figures['device']}, seed {args.seed}, {figures['seconds']:.1f} s",
    ]
    if figures["interrupted"]:
        lines.append("interrupted: this is what training had reached")
    emit(figures, lines, as_json=args.json)
    return 0
