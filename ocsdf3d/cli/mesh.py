"""`ocsdf3d mesh`: a saved field again, finer or thicker, without training."""

from __future__ import annotations

import argparse
import time
from typing import Any

from . import checks, outputs
from .console import emit
from .interrupt import Interrupt
from .options import add_complete, add_device, add_dtype, add_reporting, add_resolution, number
from .progress import Progress


def add_parser(verbs: argparse._SubParsersAction[Any]) -> None:
    """Add the verb to the parser."""
    parser = verbs.add_parser(
        "mesh",
        help="saved field → mesh, without training",
        description="Mesh a saved field at any resolution or offset.",
    )
    parser.add_argument("field", metavar="FIELD", help="field written by `ocsdf3d reconstruct --save`")
    parser.add_argument(
        "-o", "--output", metavar="OUT", required=True, help="mesh to write: PLY OBJ OFF STL GLB"
    )
    add_resolution(parser)
    parser.add_argument(
        "--offset",
        type=number,
        default=0.0,
        metavar="D",
        help="mesh the level set {φ = D}: above 0 grows the shape by D, below 0 shrinks it, in world units"
        " (default: %(default)s)",
    )
    parser.add_argument(
        "--dense",
        action="store_true",
        help="evaluate every grid node (default: skip blocks proved to hold no surface)",
    )
    parser.add_argument(
        "--colors",
        metavar="FILE",
        help="cloud or mesh whose colours the mesh is to have, as the one that was learnt (default: none)",
    )
    add_complete(parser)
    add_dtype(parser)
    add_device(parser)
    add_reporting(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Load, mesh, write."""
    begun = time.perf_counter()
    if args.complete is not None and args.dense:
        raise ValueError("--complete is a proof about the sparse grid; leave --dense out")
    inputs = [name for name in (args.field, args.colors) if name is not None]
    for name in inputs:
        outputs.check_input(name)
    out = outputs.check(args.output, inputs=inputs)
    checks.device(args.device)

    from ocsdf3d import colors, io, thinning

    if args.colors is not None and out.suffix.lower() not in io.COLORED:
        raise ValueError(f"{out}: {out.suffix} holds no colours; write {' '.join(io.COLORED)}.")
    with Interrupt() as interrupt, Progress(quiet=args.quiet, verbose=args.verbose) as progress:
        painted = None if args.colors is None else thinning.read_within(args.colors)
        if painted is not None and io.known_colors(painted) is None:
            raise ValueError(f"{args.colors}: its points have no colours; leave --colors out.")
        sdf = checks.saved_field(args.field, args)
        checks.memory(sdf.box, args.resolution, dense=args.dense)
        loaded = time.perf_counter() - begun
        mesh = sdf.mesh(
            resolution=args.resolution,
            offset=args.offset,
            dense=args.dense,
            complete=args.complete,
            progress=lambda done, total: progress("mesh", done, total, {}),
        )
        if painted is not None:
            colors.paint(mesh, painted)
        meshed = time.perf_counter() - begun - loaded
        interrupt.writing = True
        outputs.write_all([(out, lambda path: io.write(path, mesh))])
    figures = {
        "mesh": out,
        "field": args.field,
        **outputs.mesh_figures(mesh),
        "resolution": mesh.metadata["resolution"],
        "offset": args.offset,
        "dense": args.dense,
        "support": sdf.support,
        "lipschitz": sdf.lipschitz,
        "seconds": {
            "load": round(loaded, 3),
            "mesh": round(meshed, 3),
            "total": round(time.perf_counter() - begun, 3),
        },
        "device": str(sdf.device),
    }
    lines = [
        outputs.mesh_line(figures),
        f"offset {args.offset:g}, resolution {figures['resolution']}, {figures['evaluations']:,} evaluations"
        f" (dense {figures['dense_evaluations']:,}), {meshed:.1f} s",
        *outputs.complete_lines(figures),
    ]
    emit(figures, lines, as_json=args.json)
    return 0
