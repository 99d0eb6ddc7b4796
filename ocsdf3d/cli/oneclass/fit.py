"""`ocsdf3d oneclass fit`: a table in, a detector out."""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

from .. import checks, outputs
from ..console import emit, warn
from ..interrupt import Interrupt
from ..options import add_device, add_reporting, add_seed, contamination, positive, whole
from ..progress import Progress
from . import given

PRESETS = ("fast", "default", "fine", "paper")


def add_parser(steps: argparse._SubParsersAction[Any]) -> None:
    """Add the step to the parser."""
    parser = steps.add_parser(
        "fit",
        help="table → detector",
        description="Learn the support of the rows of a table, most of which are normal.",
        epilog="No label takes part in the learning; with --normal it chooses the rows that do. Ctrl-C during"
        " training ends it early and writes what was learnt; a second one stops at once.",
    )
    parser.add_argument("table", metavar="DATA", help=given.TABLE)
    parser.add_argument(
        "-o", "--output", metavar="DETECTOR", required=True, help="detector to write: .safetensors"
    )
    parser.add_argument(
        "--label",
        metavar="COLUMN",
        help="column that is a label, so no feature; of an NPZ an array beside X (default: none)",
    )
    given.add_normal(parser, "learn from all rows")
    given.add_table(parser)
    parser.add_argument(
        "--categories",
        nargs="+",
        action="extend",
        default=[],
        metavar="COLUMN",
        help="columns of categories, each of which becomes a column of 0 and 1; needs pandas; text in other"
        " columns is refused (default: none)",
    )
    parser.add_argument(
        "--margin",
        type=positive,
        metavar="M",
        help="margin m of the loss, in standard deviations (default: the detector's own)",
    )
    parser.add_argument(
        "--lam",
        type=positive,
        metavar="L",
        help="weight λ of the hinge in the loss, no unit: small for a smooth score, large for fine structure"
        " (default: the preset's)",
    )
    parser.add_argument(
        "--steps", type=whole(1), metavar="N", help="steps of the optimiser (default: the preset's)"
    )
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        default="default",
        help="network and schedule: fine for clean rows with holes and gaps (default: %(default)s)",
    )
    parser.add_argument(
        "--contamination",
        type=contamination,
        metavar="S",
        help="share of the rows to call outliers, above 0 to 0.5 (default: those that score below 0)",
    )
    add_device(parser)
    add_seed(parser, 2**32 - 1)
    add_reporting(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read, learn, write."""
    begun = time.perf_counter()
    inputs = given.check_inputs(args)
    out = outputs.check(args.output, inputs=inputs, extensions=given.DETECTOR_EXTENSIONS)
    if args.normal is not None and args.label is None:
        raise ValueError("--normal says which label is normal; give --label COLUMN as well.")
    checks.device(args.device)

    import numpy as np

    from ocsdf3d.devices import resolve_device
    from ocsdf3d.oneclass import OneClassSDF, save
    from ocsdf3d.oneclass.estimator import StrangeRowsWarning
    from ocsdf3d.oneclass.scaling import far_off

    with Interrupt() as interrupt, Progress(quiet=args.quiet, verbose=args.verbose) as progress:
        whole_table = given.table(args)
        rest = whole_table.without([*args.drop, *([] if args.label is None else [args.label])])
        counting = rest.counting()
        if args.normal is not None:
            rest = rest.kept(whole_table.labels(args.label, args.normal) == 1)
        for name in counting:
            warn(f"column {name!r} counts the rows; if it is a number of them, leave it out: --drop {name}")
        rows = rest.features(args.categories)
        if len(rows) < 2:
            raise ValueError(f"{args.table}: {len(rows)} row to learn from; a detector needs at least 2.")
        asked = {"margin": args.margin, "lam": args.lam, "steps": args.steps}
        detector = OneClassSDF(
            **{name: "auto" if value is None else value for name, value in asked.items()},
            preset=args.preset,
            contamination="auto" if args.contamination is None else args.contamination,
            device=args.device,
            random_state=args.seed,
            progress=lambda done, total, told: progress("train", done, total, told),
        )
        interrupt.training = True
        with warnings.catch_warnings():  # of what is said below, by the names and lines of the file
            warnings.simplefilter("ignore", StrangeRowsWarning)
            detector.fit(rows, stop=interrupt.stop)
        interrupt.training = False
        learnt = rows
        if detector.n_strange_:
            table = rows if detector.columns_ is None else detector.columns_.numbers(rows)
            numbers = np.asarray(table, np.float64)
            far = far_off(numbers)
            strange = far.any(axis=1)
            learnt, first = rows[~strange], int(strange.argmax())
            cell = numbers[first, far[first].argmax()]
            warn(
                f"{rest.where(first)}: not learnt from, {cell:g} is absurdly far from the rest of its column;"
                f" {detector.n_strange_:,} of {len(rows):,} rows are like that"
            )
        if detector.history_["interrupted"]:
            warn(f"interrupted: training ended after {detector.n_iter_} steps; its result is written")
        accepted = float((detector.predict(learnt) == 1).mean())
        if rest.names is not None and detector.columns_ is None:
            detector.feature_names_in_ = np.array(rest.names, dtype=object)  # an array brings none along
        interrupt.writing = True
        outputs.write_all([(out, lambda path: save(path, detector))])
    figures = {
        "detector": out,
        "table": args.table,
        "rows": len(rows),
        "strange": detector.n_strange_,
        "columns": len(rest.columns),
        "features": detector.n_features_in_,
        "names": rest.names,
        "accepted": accepted,
        "threshold": detector.offset_,
        "certificate": detector.certificate_,
        "unit": detector.unit_,
        "steps": detector.n_iter_,
        "interrupted": detector.history_["interrupted"],
        "device": resolve_device(args.device).type,
        "seed": args.seed,
        "seconds": round(time.perf_counter() - begun, 3),
    }
    wide = f", {figures['features']} with categories" if figures["features"] != figures["columns"] else ""
    lines = [
        f"{out}: learnt from {len(rows) - detector.n_strange_:,} rows of {figures['columns']} columns{wide}",
        f"accepted: {accepted:.1%} of these rows, at scores of at least {detector.offset_:.4g}",
        given.certified_line(detector),
        f"{detector.n_iter_} steps on {figures['device']}, seed {args.seed}, {figures['seconds']:.1f} s",
    ]
    if figures["interrupted"]:
        lines.append("interrupted: this is what training had reached")
    emit(figures, lines, as_json=args.json)
    return 0
