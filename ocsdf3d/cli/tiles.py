"""`ocsdf3d tiles`: a huge scan, fitted in overlapping tiles on many processes, and one mesh of them all."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

from . import checks
from .console import describe, emit, fail, note, warn
from .interrupt import Interrupt
from .options import MISUSE, add_learning, add_reporting, add_where, cores, positive, whole
from .outputs import check_input
from .progress import Progress

FORMATS = ("ply", "obj", "off", "stl", "glb")
FIELD = "field.safetensors"
STOPPED = 130  # exit code


def add_parser(verbs: argparse._SubParsersAction[Any]) -> None:
    """Add the verb to the parser."""
    parser = verbs.add_parser(
        "tiles",
        help="a huge scan → one field and one mesh, in tiles",
        description="Fit a scan in overlapping tiles, one core each, and join them into one field whose"
        " Lipschitz bound is proved, and one mesh. What the manifest in the output folder says is done, with"
        " these options, from these bytes, and whole, is not done again.",
        epilog="Ctrl-C finishes the tiles in hand, a second one stops at once; the same command goes on."
        " Exit 1 when a tile failed, 130 when tiles are left.",
    )
    parser.add_argument(
        "scan", metavar="SCAN", help="a cloud; .npy, binary .ply and .pcd, .las and .laz are never held whole"
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", required=True, help="folder of mesh, field, tiles and manifest"
    )
    parser.add_argument(
        "--tiles",
        metavar="N",
        type=whole(1),
        nargs="+",
        required=True,
        help="two: along the longest axis and the next; three: along x, y and z",
    )
    parser.add_argument(
        "--halo",
        metavar="SHARE",
        type=positive,
        help="how far a tile reaches over its faces, as a share of its longest side, at most 2/3; never less"
        " than four spacings of the points that the whole is learnt from (default: 0.15)",
    )
    parser.add_argument("--format", choices=FORMATS, default="ply", help="of the mesh (default: %(default)s)")
    add_where(parser)
    add_learning(parser)
    add_reporting(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Fit, join, prove, mesh, write."""
    begun = time.perf_counter()
    if args.scheduler is None:  # else it is a question for the workers
        checks.device(args.device)
    workers = args.workers or cores()
    scan = check_input(args.scan)

    from ocsdf3d import checkpoint, distribute, io

    if not checks.dask(workers, args.scheduler):
        return MISUSE
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    mesh_path = io.check_writable(folder / f"mesh.{args.format}")
    names = ("support", "preset", "margin", "lam", "device", "seed", "smooth")
    kept = 0
    with Interrupt() as interrupt, Progress(quiet=args.quiet, verbose=args.verbose) as progress:

        def tell(done: int, total: int, row: dict[str, Any] | None) -> None:
            nonlocal kept
            kept += row is None
            progress("tiles", done, total, {})
            if row is not None and row["error"] is not None:
                warn(f"{row['source']}: {row['error']}")
            elif row is not None and args.verbose:
                note(f"{row['source']}: {row['seconds']:.1f} s on {row['worker']}", quiet=args.quiet)

        interrupt.training = True  # from here on the first Ctrl-C only asks to end
        try:
            join = distribute.fit_tiles(
                scan,
                folder,
                args.tiles,
                halo=args.halo,
                workers=workers,
                scheduler=args.scheduler,
                stop=interrupt.stop,
                tell=tell,
                warn=warn,
                describe=describe,
                **{name: getattr(args, name) for name in names},
            )
        except distribute.Unfinished as error:
            fail(str(error))
            return STOPPED if error.summary.left else 1
        except KeyboardInterrupt:
            fail("stopped at once: the tiles in hand are lost, what was done is kept")
            return STOPPED
        interrupt.training = False
        if os.path.lexists(mesh_path) and not kept:
            warn(f"{mesh_path} exists and will be overwritten")
        mesh = join.mesh(resolution=args.resolution, progress=lambda d, t: progress("mesh", d, t, {}))
        interrupt.writing = True
        io.write(mesh_path, mesh)
        checkpoint.save(folder / FIELD, join)
    figures = {
        "mesh": mesh_path,
        "field": folder / FIELD,
        "manifest": folder / distribute.tiling.MANIFEST,
        "tiles": list(join.shape),
        "empty": join.which.count(0),
        "kept": kept,
        "support": join.support,
        "lipschitz": join.lipschitz,
        "gaps": list(join.gaps),
        "band": join.band,
        "vertices": len(mesh.vertices),
        "faces": len(mesh.faces),
        "watertight": bool(mesh.is_watertight),
        "euler": int(mesh.euler_number),
        "seconds": round(time.perf_counter() - begun, 3),
    }
    lines = [
        f"{mesh_path}: {len(mesh.faces):,} faces, {'watertight' if mesh.is_watertight else 'NOT watertight'}",
        f"{folder / FIELD}: {' x '.join(map(str, join.shape))} tiles, {kept} whole from before; slope at most"
        f" {join.lipschitz:.3f}, proved; {figures['seconds']:.1f} s",
    ]
    emit(figures, lines, as_json=args.json)
    return 0
