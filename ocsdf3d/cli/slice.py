"""`ocsdf3d slice`: φ of a field on a plane, with isolines, as a figure."""

from __future__ import annotations

import argparse
from typing import Any

from . import checks, outputs
from .console import emit
from .options import add_device, add_dtype, add_reporting, number


def add_parser(verbs: argparse._SubParsersAction[Any]) -> None:
    """Add the verb to the parser."""
    parser = verbs.add_parser(
        "slice",
        help="figure of a field on a plane",
        description="Draw φ on a plane through a field's box, with isolines and axes in world units.",
    )
    parser.add_argument("field", metavar="FIELD", help="field written by `ocsdf3d reconstruct --save`")
    parser.add_argument("-o", "--output", metavar="PNG", required=True, help="picture to write")
    parser.add_argument(
        "--plane",
        default="z",
        metavar="PLANE",
        help="x, y or z, through the middle of the box or as x=0.2 (default: %(default)s)",
    )
    parser.add_argument(
        "--levels",
        type=number,
        nargs="+",
        default=[0.0],
        metavar="D",
        help="level sets drawn boldly, in world units (default: 0)",
    )
    parser.add_argument("--cloud", metavar="CLOUD", help="draw its points near the plane (default: none)")
    add_dtype(parser)
    add_device(parser)
    add_reporting(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Cut, draw, write."""
    given = [name for name in (args.field, args.cloud) if name is not None]
    for name in given:
        outputs.check_input(name)
    out = outputs.check(args.output, inputs=given, extensions=(".png",))
    checks.device(args.device)

    import trimesh

    from ocsdf3d import io
    from ocsdf3d.viewer.figures import slice_figure
    from ocsdf3d.viewer.slices import plane_of

    field = checks.saved_field(args.field, args)
    cloud = None if args.cloud is None else io.read(args.cloud)
    points = cloud.vertices if isinstance(cloud, trimesh.Trimesh) else None if cloud is None else cloud.points
    origin, normal = plane_of(args.plane, field.box)
    picture = slice_figure(
        field, origin, normal, levels=args.levels, cloud=points, title=f"{args.field}, {args.plane}"
    )
    outputs.write_all([(out, lambda path: path.write_bytes(picture))])
    figures = {"picture": out, "origin": origin, "normal": normal, "levels": args.levels}
    emit(figures, [f"{out}: φ on the plane {args.plane}"], as_json=args.json)
    return 0
