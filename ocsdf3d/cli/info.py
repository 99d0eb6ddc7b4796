"""`ocsdf3d info`: what a file says of itself: a field, a detector, a mesh or a cloud."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import checks, outputs
from .console import emit, flattened, plain
from .interrupt import Interrupt
from .options import add_reporting

if TYPE_CHECKING:
    from ocsdf3d.csg import Field
    from ocsdf3d.oneclass import OneClassSDF

LONGEST_LIST = 6  # two corners of a box are shown whole, the curves of training are not


def add_parser(verbs: argparse._SubParsersAction[Any]) -> None:
    """Add the verb to the parser."""
    parser = verbs.add_parser(
        "info",
        help="what is in a file: a field or a detector and its proofs, a mesh, a cloud",
        description="Show the certificate, settings and history of a field or a detector; of a mesh or a"
        " cloud how large it is, where, and whether it is closed.",
    )
    parser.add_argument(
        "field",
        metavar="FILE",
        help="field written by `ocsdf3d reconstruct --save`, detector by `oneclass fit` or `images fit`, mesh"
        " or cloud",
    )
    add_reporting(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Load, tell."""
    outputs.check_input(args.field)

    from ocsdf3d.container import CheckpointError, kind_of
    from ocsdf3d.io import READABLE

    with Interrupt():
        if Path(args.field).suffix.lower() in READABLE:
            _emit({"file": args.field, **_shape(args.field)}, as_json=args.json)
            return 0
        try:
            described = DESCRIBED.get(kind_of(args.field) or "field", _field)(args.field)
        except CheckpointError as error:
            if args.json:  # machines get the object as well as the exit code and the line
                emit({"field": args.field, "certified": False, "reason": str(error)}, [], as_json=True)
            raise
    _emit({"field": args.field, **described}, as_json=args.json)
    return 0


def _emit(described: dict[str, Any], *, as_json: bool) -> None:
    figures = plain(described)
    emit(figures, [f"{name}: {_shown(value)}" for name, value in flattened(figures)], as_json=as_json)


def _shape(path: str) -> dict[str, Any]:
    import numpy as np

    from ocsdf3d import io, metrics
    from ocsdf3d.geometry import PointCloud

    shape = io.read(path)
    colored = io.known_colors(shape) is not None
    if isinstance(shape, PointCloud):
        distinct = len(np.unique(shape.points, axis=0))
        own = {"points": len(shape), "distinct": distinct, "normals": shape.normals is not None}
        return {"kind": "cloud", **own, "colors": colored, "box": checks.box_of(shape)}
    merged = metrics.merged(shape)
    watertight = bool(merged.is_watertight)
    return {
        "kind": "mesh",
        "vertices": len(shape.vertices),
        "distinct": len(merged.vertices),
        "faces": len(shape.faces),
        "colors": colored,
        "watertight": watertight,
        "euler": int(merged.euler_number),
        "area": float(merged.area),
        "volume": float(merged.volume) if watertight else None,
        "box": checks.box_of(shape),
    }


def _field(path: str) -> dict[str, Any]:
    from ocsdf3d import checkpoint

    field = checkpoint.load(path, device="cpu")
    return {**field.certificate, **_described(field)}


def _detector(path: str) -> dict[str, Any]:
    from ocsdf3d import oneclass

    detector = oneclass.load(path)
    names = getattr(detector, "feature_names_in_", None)
    own = {"columns": detector.n_features_in_, "names": None if names is None else list(names)}
    return {"kind": "detector", **own, **_learnt(detector)}


def _image_detector(path: str) -> dict[str, Any]:
    from ocsdf3d import images

    detector = images.load(path)
    return {"kind": "image-detector", "shape": detector.shape_, **_learnt(detector)}


DESCRIBED: dict[str, Callable[[str], dict[str, Any]]] = {
    "field": _field,
    "detector": _detector,
    "image-detector": _image_detector,
}


def _learnt(detector: OneClassSDF) -> dict[str, Any]:
    """What both kinds of detectors say; scores and radii are `unit` times the network's."""
    return {
        **dataclasses.asdict(detector.certificate_),
        "margin": detector.margin_,
        "offset": detector.offset_,
        "unit": detector.unit_,
        "settings": {k: v for k, v in detector.get_params(deep=False).items() if k != "progress"},
        "history": detector.history_,
        "network": detector.network_.config,
    }


def _described(field: Field) -> dict[str, Any]:
    """What a field is: for CSG what its parts are."""
    from ocsdf3d.csg import Node
    from ocsdf3d.field import SDF

    if isinstance(field, SDF):
        names = ("support", "support_reason", "level", "frame", "box", "settings", "history")
        return {
            "kind": field.kind,
            **{name: getattr(field, name) for name in names},
            "network": field.network.config,
            "spheres": None
            if field.spheres is None
            else len(field.spheres.inside) + len(field.spheres.outside),
        }
    described = {"kind": field.kind, "box": field.box, "settings": field.settings}
    if isinstance(field, Node):
        described["parts"] = [_described(part) for part in field.parts]
    return described


def _shown(value: Any) -> str:
    """A leaf for people: of a curve, where it began and where it ended."""
    if isinstance(value, list) and len(value) > LONGEST_LIST:
        return f"{value[0]} … {value[-1]} ({len(value)} values)"
    return str(value)
