"""`ocsdf3d measure`: what a field proves about volume, points and other fields."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from . import checks, outputs
from .console import emit
from .interrupt import Interrupt
from .options import add_device, add_dtype, add_reporting, positive, whole
from .progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from ocsdf3d.csg import Field

EXTENSIONS = (".ply",)
BINS = 20


def add_parser(verbs: argparse._SubParsersAction[Any]) -> None:
    """Add the verb to the parser."""
    parser = verbs.add_parser(
        "measure",
        help="certified volume, error bars of points, clearance to another field",
        description="Measure a saved field: the interval that holds its volume; for points, intervals that"
        " hold their distances to the surface, and which are off it; the interval that holds the gap to"
        " another field.",
        epilog="The intervals are proved about the field, not about the shape that it was trained on.",
    )
    parser.add_argument("field", metavar="FIELD", help="field written by `ocsdf3d reconstruct --save`")
    parser.add_argument("--points", metavar="CLOUD", help="points to measure from (default: none)")
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT.ply",
        help="write CLOUD with vertex attributes lower, upper, outlier, radius (default: not written)",
    )
    parser.add_argument(
        "--threshold",
        type=positive,
        metavar="T",
        help="|φ| above which a point is an outlier, in world units (default: from the spread of |φ|,"
        " 0.5 %% of the longest side at least)",
    )
    parser.add_argument(
        "--against", metavar="FIELD", help="other field, for the gap between both (default: none)"
    )
    parser.add_argument(
        "--resolution",
        type=whole(4, 4096),
        default=128,
        metavar="N",
        help="cells along the longest side for the volume (default: %(default)s)",
    )
    add_dtype(parser)
    add_device(parser)
    add_reporting(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Load, measure, write."""
    begun = time.perf_counter()
    inputs = [name for name in (args.field, args.points, args.against) if name is not None]
    for name in inputs:
        outputs.check_input(name)
    if args.output is not None and args.points is None:
        raise ValueError("-o writes the error bars of points; give --points")
    out = None if args.output is None else outputs.check(args.output, inputs=inputs, extensions=EXTENSIONS)
    checks.device(args.device)

    figures: dict[str, Any] = {"field": args.field}
    with Interrupt() as interrupt, Progress(quiet=args.quiet, verbose=args.verbose) as progress:
        field = checks.saved_field(args.field, args)
        figures["certificate"] = field.certificate
        if field.support == "solid":
            found = field.volume(args.resolution, lambda done, total: progress("volume", done, total, {}))
            figures["volume"] = found._asdict()
        if args.points is not None:
            figures["points"] = _points(field, args, out, interrupt)
        if args.against is not None:
            figures["clearance"] = field.clearance(checks.saved_field(args.against, args))._asdict()
    figures["seconds"] = round(time.perf_counter() - begun, 3)
    emit(figures, _lines(figures), as_json=args.json)
    return 0


def _points(field: Field, args: argparse.Namespace, out: Any, interrupt: Interrupt) -> dict[str, Any]:
    """Error bars and verdicts of a cloud, written where asked for; their summary."""
    import numpy as np

    from ocsdf3d import io
    from ocsdf3d.geometry import PointCloud

    shape = io.read(args.points)
    cloud = shape if isinstance(shape, PointCloud) else PointCloud(shape.vertices)
    bars = field.error_bars(cloud.points, cloud.normals)
    threshold = args.threshold
    if threshold is None:  # it is told as well
        threshold = field.outlier_threshold(cloud.points)
    verdict = field.verdicts(cloud.points, threshold)
    if out is not None:
        columns = {
            "lower": bars.lower,
            "upper": bars.upper,
            "outlier": verdict.outlier.astype(np.float64),
            "radius": verdict.radius,
        }
        interrupt.writing = True
        outputs.write_all([(out, lambda path: io.write(path, cloud, columns))])
    return {
        "count": len(cloud),
        "output": out,
        "lower": _summary(bars.lower),
        "upper": _summary(bars.upper),
        "histogram": _histogram(bars.upper),
        "threshold": threshold,
        "outliers": int(np.count_nonzero(verdict.outlier)),
        "certain": int(np.count_nonzero(verdict.radius > 0.0)),
    }


def _summary(values: np.ndarray) -> dict[str, float | int | None]:
    """Median, 95th percentile and maximum of the finite values, and how many are not."""
    import numpy as np

    finite = values[np.isfinite(values)]
    middle, high, most = (None,) * 3 if len(finite) == 0 else np.percentile(finite, [50, 95, 100]).tolist()
    return {"median": middle, "p95": high, "max": most, "unbounded": int(len(values) - len(finite))}


def _histogram(values: np.ndarray) -> dict[str, list[float] | list[int]]:
    """Counts of the finite values between equally spaced edges."""
    import numpy as np

    counts, edges = np.histogram(values[np.isfinite(values)], BINS)
    return {"edges": edges.tolist(), "counts": counts.tolist()}


def _lines(figures: dict[str, Any]) -> list[str]:
    claim = figures["certificate"]
    lines = [
        f"certified: Lipschitz bound {claim['lipschitz']:.9f},"
        f" rounding {claim['rounding']:.2g} ({claim['basis']}, {claim['dtype']})"
    ]
    if "volume" in figures:
        found = figures["volume"]
        lines.append(f"volume: from {found['lower']:.6g} to {found['upper']:.6g}, proved")
    if "points" in figures:
        found = figures["points"]
        for name, words in (("lower", "at least"), ("upper", "at most")):
            bar = found[name]
            if bar["median"] is not None:
                lines.append(
                    f"distance of {found['count']:,} points to the surface, {words}:"
                    f" median {bar['median']:.3g}, 95 % {bar['p95']:.3g}, largest {bar['max']:.3g},"
                    f" {bar['unbounded']} not bounded"
                )
        lines += _bars(found["histogram"])
        lines.append(f"outliers: {found['outliers']:,} with |φ| above {found['threshold']:.3g}")
    if "clearance" in figures:
        found = figures["clearance"]
        gap = "contact" if found["contact"] else f"from {found['lower']:.6g} to {found['upper']:.6g}, proved"
        lines.append(f"gap: {gap}")
    return lines


def _bars(histogram: dict[str, list[Any]]) -> list[str]:
    """A histogram in text, for upper bounds."""
    most = max(histogram["counts"], default=0)
    return [
        f"  up to {edge:10.3g} {count:8,} {'#' * round(40 * count / most)}"
        for edge, count in zip(histogram["edges"][1:], histogram["counts"], strict=True)
        if count
    ]
