"""`ocsdf3d reconstruct`: points or a mesh in, a closed mesh and (on request) its field out."""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from . import checks, kept, outputs
from .console import emit, fail, note, warn
from .interrupt import Interrupt
from .options import MISUSE, add_complete, add_fit, add_reporting
from .progress import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    import trimesh

    from ocsdf3d.field import SDF
    from ocsdf3d.viewer.watch import Watcher


def add_parser(verbs: argparse._SubParsersAction[Any]) -> None:
    """Add the verb to the parser."""
    parser = verbs.add_parser(
        "reconstruct",
        help="points or a mesh → closed mesh",
        description="Reconstruct a closed mesh, in the units, place and colours of the input, from points or"
        " a mesh.",
        epilog="Ctrl-C during training ends it early and writes what was learnt; a second one stops at once."
        " With --checkpoint SIGTERM ends it too, and keeps it, exit 143. Started by torchrun, its processes"
        " share every batch, and the first writes: torchrun --nproc-per-node 2 -m ocsdf3d reconstruct IN",
    )
    parser.add_argument(
        "input", metavar="IN", help="cloud or mesh: OFF OBJ PLY STL GLB 3MF XYZ PTS CSV NPY NPZ PCD LAS E57 …"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="mesh to write: PLY OBJ OFF STL GLB (default: IN's name with _ocsdf.ply)",
    )
    add_fit(parser)
    add_complete(parser)
    parser.add_argument(
        "--save", metavar="FIELD", help="also write the field, .safetensors (default: not saved)"
    )
    kept.add_options(parser)
    watching = parser.add_mutually_exclusive_group()
    watching.add_argument(
        "--watch", action="store_true", help="show the surface in a window while it learns (default: do not)"
    )
    watching.add_argument(
        "--watch-file",
        metavar="PNG",
        help="write it to a picture instead, again and again (default: do not)",
    )
    parser.add_argument(
        "--up", choices=("x", "y", "z"), default="z", help="axis that points up there (default: %(default)s)"
    )
    add_reporting(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Reconstruct: what can be refused without work is refused first, everything is written last."""
    begun = time.perf_counter()
    source = outputs.check_input(args.input)
    target = args.output if args.output is not None else source.with_name(f"{source.stem}_ocsdf.ply")
    out = outputs.check(target, inputs=[args.input])
    saved = None
    if args.save is not None:
        saved = outputs.check(args.save, inputs=[args.input, str(out)], extensions=outputs.FIELD_EXTENSIONS)
    if not kept.checked(args, [args.input, str(out), *([str(saved)] if saved is not None else [])]):
        return MISUSE
    checks.device(args.device)
    picture = None
    if args.watch_file is not None:
        taken = [args.input, str(out), *([str(saved)] if saved is not None else [])]
        picture = outputs.check(args.watch_file, inputs=taken, extensions=(".png",))
    watched = args.watch or picture is not None
    if watched and not checks.drawing(window=args.watch, instead="--watch-file PNG"):
        return MISUSE

    from ocsdf3d import checkpoint, colors, io, pipeline, surface, thinning
    from ocsdf3d.ranks import joined

    with ExitStack() as stack:
        interrupt = stack.enter_context(Interrupt(terminate=args.checkpoint is not None))
        first = stack.enter_context(joined(args.device)).index == 0  # the others train, and write nothing
        progress = stack.enter_context(Progress(quiet=args.quiet or not first, verbose=args.verbose))

        def report(stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:
            # from the end of the sides on: the first figures of training come only after some steps
            interrupt.training = stage == "train" or (stage == "sides" and done >= total)
            progress(stage, done, total, figures)

        shape = thinning.read_within(source, args.seed)
        if isinstance(shape, thinning.ThinnedCloud):
            said = f"{shape.read:,} points thinned to {len(shape):,}"
            note(
                f"{said}; {shape.strays:,} strays left out" if shape.strays else said,
                quiet=args.quiet or not first,
            )
        checks.memory(checks.domain_of(shape, args.preset), args.resolution)
        if first:
            outputs.rehearse(out, checks.box_of(shape))
        loaded = time.perf_counter() - begun
        watcher: Watcher | None = None
        if watched and first:
            from ocsdf3d.viewer.watch import Watcher

            watcher = stack.enter_context(Watcher(shape, picture=picture, up=args.up))
        sdf = pipeline.fit(
            shape,
            points=args.points,
            support=args.support,
            preset=args.preset,
            margin=args.margin,
            lam=args.lam,
            level=args.level,
            device=args.device,
            seed=args.seed,
            smooth=args.smooth,
            progress=report,
            stop=interrupt.stop,
            watch=watcher,
            checkpoint=args.checkpoint,
            every=args.checkpoint_every,
            resume=args.resume,
        )
        interrupt.training = False
        if not first:
            return 0
        kept.tell(args, sdf.history, terminated=interrupt.terminated)
        if interrupt.terminated:
            return kept.TERMINATED
        if watcher is not None:
            watcher(lambda: sdf, last=True)
        if args.support == "auto":
            note(f"support {sdf.support}: {sdf.support_reason}", quiet=args.quiet)
        if sdf.settings["outliers"]:
            note(f"{sdf.settings['outliers']:,} isolated points taken for outliers", quiet=args.quiet)
        if sdf.settings["noise"]:
            note(
                f"noise of about {sdf.settings['noise']:.2g} of the points' spacing smoothed away; "
                "--no-smooth keeps it",
                quiet=args.quiet,
            )
        if sdf.history["interrupted"]:
            warn(f"interrupted: training ended after {sdf.history['steps']} steps; its result is written")
        meshing = time.perf_counter()

        def meshed_with(complete: float | None) -> trimesh.Trimesh:
            return sdf.mesh(
                resolution=args.resolution,
                complete=complete,
                progress=lambda done, total: progress("mesh", done, total, {}),
            )

        def mesh_and_why_unproved() -> tuple[trimesh.Trimesh, ValueError | None]:
            try:
                return meshed_with(args.complete), None
            except surface.EmptyLevelSetError:
                raise
            except ValueError as error:  # no proof, or no memory for one; a mesh is not lost for it
                if args.complete is None:
                    raise
                return meshed_with(None), error

        try:
            mesh, unproved = mesh_and_why_unproved()
            colored = colors.paint(mesh, shape)
        except (ValueError, MemoryError) as error:  # nor is training for a mesh
            if saved is not None:
                outputs.write_all([(saved, lambda path: checkpoint.save(path, sdf))])
                warn(f"no mesh, but {saved}, the field, is written")
            if isinstance(error, surface.EmptyLevelSetError):
                raise ValueError(_no_surface(sdf, args.level, error.span)) from error
            raise
        if colored and out.suffix.lower() not in io.COLORED:
            colored = False
            note(f"{out.suffix} holds no colours; {' '.join(io.COLORED)} do", quiet=args.quiet)
        sdf.history["mesh"] = outputs.receipt(mesh)
        meshed = time.perf_counter() - meshing
        interrupt.writing = True
        outputs.write_all(
            [(out, lambda path: io.write(path, mesh))]
            + ([(saved, lambda path: checkpoint.save(path, sdf))] if saved is not None else [])
        )
    seconds = {**sdf.history["seconds"], "mesh": meshed, "total": time.perf_counter() - begun}
    seconds["load"] = loaded + seconds.get("load", 0.0)
    figures = {
        "mesh": out,
        "field": saved,
        **outputs.mesh_figures(mesh),
        "colors": colored,
        "support": sdf.support,
        "support_reason": sdf.support_reason,
        "outliers": sdf.settings["outliers"],
        "noise": sdf.settings["noise"],
        "level": sdf.level,
        "lipschitz": sdf.lipschitz,
        "seconds": {name: round(float(value), 3) for name, value in seconds.items()},
        "device": str(sdf.device),
        "seed": args.seed,
        "interrupted": bool(sdf.history["interrupted"]),
        "steps": sdf.history["steps"],
    }
    emit(figures, _summary(figures), as_json=args.json)
    if unproved is not None:
        fail(f"the mesh of {args.resolution} nodes is written, but {unproved}")
        return 1
    return 0


def _no_surface(sdf: SDF, level: float | None, span: tuple[float, float]) -> str:
    """Say why there is no mesh, in the unit of `--level`, of which φ falls short times the scale."""
    least, most = (sdf.level - value / sdf.frame.scale for value in reversed(span))
    if level is None:
        return (
            f"nothing was enclosed: φ spans [{span[0]:.4g}, {span[1]:.4g}] on the grid. Cut apart what lies"
            " far apart for its size; --support shell makes a skin around points."
        )
    return f"no surface at --level {level:g}: f spans [{least:.4g}, {most:.4g}] on the grid. Choose another."


def _summary(figures: dict[str, Any]) -> list[str]:
    seconds = figures["seconds"]
    stages = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items() if name != "total")
    lines = [
        outputs.mesh_line(figures),
        f"support {figures['support']}, level {figures['level']:.6g}, Lipschitz {figures['lipschitz']:.6f}",
        f"{figures['steps']} steps on {figures['device']}, seed {figures['seed']}",
        f"{seconds['total']:.1f} s ({stages})",
        *outputs.complete_lines(figures),
    ]
    if figures["field"] is not None:
        lines.insert(1, f"{figures['field']}: the field; mesh it again with `ocsdf3d mesh`")
    if figures["interrupted"]:
        lines.append("interrupted: this is what training had reached")
    return lines
