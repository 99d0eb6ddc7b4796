"""`ocsdf3d query`: φ of a saved field at given points."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from . import checks, outputs
from .console import emit
from .interrupt import Interrupt
from .options import add_device, add_dtype, add_reporting

EXTENSIONS = (".npy", ".csv", ".ply")


def add_parser(verbs: argparse._SubParsersAction[Any]) -> None:
    """Add the verb to the parser."""
    parser = verbs.add_parser(
        "query",
        help="field and points → φ at the points",
        description="Signed distances φ at points, negative inside, world units; of a mesh, at its vertices.",
    )
    parser.add_argument("field", metavar="FIELD", help="field written by `ocsdf3d reconstruct --save`")
    parser.add_argument("points", metavar="POINTS", help="file of points, in world units")
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        required=True,
        help="file to write: NPY, the (n,) float64 values; CSV, x, y, z and phi; PLY, the points with an"
        " attribute phi",
    )
    add_dtype(parser)
    add_device(parser)
    add_reporting(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Load, evaluate, write."""
    begun = time.perf_counter()
    outputs.check_input(args.field)
    outputs.check_input(args.points)
    out = outputs.check(args.output, inputs=[args.field, args.points], extensions=EXTENSIONS)
    checks.device(args.device)

    import numpy as np

    from ocsdf3d import io
    from ocsdf3d.geometry import PointCloud

    with Interrupt() as interrupt:
        sdf = checks.saved_field(args.field, args)
        shape = io.read(args.points)
        cloud = shape if isinstance(shape, PointCloud) else PointCloud(shape.vertices)
        values = np.asarray(sdf(cloud.points), dtype=np.float64)

        def save(path: Path) -> None:
            kind = path.suffix.lower()
            if kind == ".ply":
                io.write(path, cloud, {"phi": values})
            elif kind == ".csv":
                rows = np.column_stack([cloud.points, values]).tolist()
                path.write_text("".join(["x,y,z,phi\n", *(",".join(map(repr, row)) + "\n" for row in rows)]))
            else:
                with open(path, "wb") as stream:
                    np.save(stream, values, allow_pickle=False)

        interrupt.writing = True
        outputs.write_all([(out, save)])
    figures = {
        "values": out,
        "field": args.field,
        "points": len(values),
        "inside": int(np.count_nonzero(values < 0.0)),
        "min": float(values.min()),
        "max": float(values.max()),
        "device": str(sdf.device),
        "seconds": round(time.perf_counter() - begun, 3),
    }
    lines = [
        f"{out}: {figures['points']:,} values, {figures['inside']:,} inside (below 0),"
        f" from {figures['min']:.6g} to {figures['max']:.6g}"
    ]
    emit(figures, lines, as_json=args.json)
    return 0
