"""`ocsdf3d oneclass certify`: a detector and labelled rows in, what no attack can do to it out."""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import outputs
from ..console import emit
from ..interrupt import Interrupt
from ..options import add_reporting, add_seed, number
from ..progress import Progress
from . import given

if TYPE_CHECKING:
    import numpy as np

RADII = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0)


def add_parser(steps: argparse._SubParsersAction[Any]) -> None:
    """Add the step to the parser."""
    parser = steps.add_parser(
        "certify",
        help="detector and labelled table → AUROC and rates that no attack can push past",
        description="Judge a detector on labelled rows: its AUROC, and bounds under every attack that moves"
        " each row by at most a radius, l2, in standard deviations of the columns.",
        epilog="Labels are 1 for normal rows and -1 for anomalies, as scikit-learn has them. For others say"
        " which one is normal; in ADBench's NPZ files that is `--label y --normal 0`. Nothing is guessed.",
    )
    given.add_detector(parser)
    parser.add_argument(
        "--label", metavar="COLUMN", required=True, help="column of labels; of an NPZ an array beside X"
    )
    given.add_normal(parser, "labels are 1 for normal rows and -1 for anomalies, others are refused")
    parser.add_argument(
        "--radii",
        nargs="+",
        type=_radius,
        default=list(RADII),
        metavar="EPS",
        help=f"sizes of the attack, in standard deviations (default: {' '.join(f'{r:g}' for r in RADII)})",
    )
    parser.add_argument(
        "--attack",
        action="store_true",
        help="also attack each row by projected gradient descent, an upper bound of what the proof could say"
        " (default: do not)",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT.csv",
        help="also write the curve, one line a radius (default: not written)",
    )
    parser.add_argument("--plot", metavar="PNG", help="also draw it (default: not drawn)")
    given.add_table(parser)
    add_seed(parser, 2**32 - 1)
    add_reporting(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Load, prove, attack where asked, write."""
    begun = time.perf_counter()
    inputs = given.check_inputs(args)
    out = picture = None
    if args.output is not None:
        out = outputs.check(args.output, inputs=inputs, extensions=(".csv",))
    if args.plot is not None:
        taken = [*inputs, *([] if out is None else [str(out)])]
        picture = outputs.check(args.plot, inputs=taken, extensions=(".png",))

    from ocsdf3d.oneclass import auroc

    with Interrupt() as interrupt, Progress(quiet=args.quiet, verbose=args.verbose) as progress:
        table = given.table(args)
        labels = table.labels(args.label, args.normal)
        if (labels == 1).all():
            raise ValueError(f"{args.table}: all rows are normal by {args.label!r}; give anomalies as well.")
        detector, rows = given.opened(args, table.without([*args.drop, args.label]))
        scores = detector.score_samples(rows)
        clean = auroc(scores[labels == 1], scores[labels == -1])
        curves = _proved(detector, rows, labels, scores, args.radii)
        if args.attack:
            curves["attacked_auroc"] = _attacked(detector, rows, labels, args, progress)
        interrupt.writing = True
        jobs: list[tuple[Path, outputs.Writer]] = []
        if out is not None:
            jobs.append((out, lambda path: _write(path, curves)))
        if picture is not None:
            drawn = _drawn(curves, clean, f"{Path(args.detector).name} on {Path(args.table).name}")
            jobs.append((picture, lambda path: path.write_bytes(drawn)))
        outputs.write_all(jobs)
    figures = {
        "detector": args.detector,
        "table": args.table,
        "curve": out,
        "picture": picture,
        "normal": int((labels == 1).sum()),
        "anomalies": int((labels == -1).sum()),
        "auroc": clean,
        "accepted": {
            "normal": float((scores[labels == 1] >= detector.offset_).mean()),
            "anomalies": float((scores[labels == -1] >= detector.offset_).mean()),
        },
        "threshold": detector.offset_,
        **curves,
        "certificate": detector.certificate_,
        "seconds": round(time.perf_counter() - begun, 3),
    }
    emit(figures, [given.certified_line(detector), *_lines(figures)], as_json=args.json)
    return 0


def _proved(
    detector: Any, rows: Any, labels: np.ndarray, scores: np.ndarray, radii: list[float]
) -> dict[str, np.ndarray]:
    """Return the bounds at each radius, by the names of their columns."""
    import numpy as np

    from ocsdf3d.oneclass import certified_auroc, certified_rates

    halves = scores[labels == 1], scores[labels == -1]
    proved = {
        "lipschitz": detector.certificate_.lipschitz,
        # of a score before the attack, and after it
        "rounding": 2.0 * float(detector.rounding(rows, max(radii)).max()),
    }
    rates = certified_rates(*halves, radii, threshold=detector.offset_, **proved)
    return {
        "radius": np.array(radii),
        "certified_auroc": certified_auroc(*halves, radii, **proved),
        "certified_tpr": rates.true_positive,
        "certified_fpr": rates.false_positive,
    }


def _attacked(
    detector: Any, rows: Any, labels: np.ndarray, args: argparse.Namespace, progress: Progress
) -> np.ndarray:
    """Return the AUROC that the attack leaves at each radius."""
    import numpy as np

    from ocsdf3d.oneclass import attacked_scores, auroc

    found = []
    for i, radius in enumerate(args.radii):
        worst = attacked_scores(detector, rows, labels, radius, random_state=args.seed)
        found.append(auroc(worst[labels == 1], worst[labels == -1]))
        progress("attack", i + 1, len(args.radii), {})
    return np.array(found)


def _write(path: Path, curves: dict[str, np.ndarray]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(curves)
        table.writerows(zip(*(values.tolist() for values in curves.values()), strict=True))


def _drawn(curves: dict[str, np.ndarray], clean: float, title: str) -> bytes:
    from ocsdf3d.viewer.figures import certificate_figure

    shown = {name: values for name, values in curves.items() if name != "radius"}
    return certificate_figure(curves["radius"], shown, clean=clean, title=title)


def _lines(figures: dict[str, Any]) -> list[str]:
    accepted, attack = figures["accepted"], figures.get("attacked_auroc")
    lines = [
        f"{figures['normal']:,} normal rows, {figures['anomalies']:,} anomalies:"
        f" AUROC {figures['auroc']:.4f}, accepted {accepted['normal']:.1%} of the normal rows"
        f" and {accepted['anomalies']:.1%} of the anomalies",
        "  radius  AUROC at least  normal accepted at least  anomalies accepted at most"
        + ("  AUROC attacked" if attack is not None else ""),
    ]
    names = ("radius", "certified_auroc", "certified_tpr", "certified_fpr")
    for i, (radius, least, kept, fooled) in enumerate(zip(*(figures[name] for name in names), strict=True)):
        line = f"{radius:8.4g}{least:16.4f}{kept:26.1%}{fooled:28.1%}"
        lines.append(line if attack is None else f"{line}{attack[i]:16.4f}")
    lines += [f"{figures[name]}: written" for name in ("curve", "picture") if figures[name] is not None]
    return lines


def _radius(text: str) -> float:
    value = number(text)
    if value < 0.0:
        raise argparse.ArgumentTypeError(f"expected a radius of at least 0, got {text}")
    return value
