"""One self-describing file per trained field, sealed as `container.py` says.

The tensors are the certified weights; everything else (network, frame, level, certificate, support, settings,
history, and for CSG the tree) is in the header. The certificate is proved again from the weights at every
load, never believed, and must be the one that was written.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ocsdf3d.analytic import KINDS, exact
from ocsdf3d.container import (
    CheckpointError,
    filled,
    require_same,
    require_weights,
    seal,
    understanding,
    unseal,
    weights_of,
)
from ocsdf3d.csg import Field, Node, combined
from ocsdf3d.devices import resolve_device
from ocsdf3d.field import SDF
from ocsdf3d.frame import Frame
from ocsdf3d.geometry import Box
from ocsdf3d.join import Join
from ocsdf3d.lipschitz.certificate import Certificate
from ocsdf3d.lipschitz.network import LipschitzNetwork, NetworkConfig
from ocsdf3d.spheres import Spheres

__all__ = ["CheckpointError", "load", "save"]

KIND = "field"
# 1: one trained field, its bound proved again but no certificate in the file; 2: no spheres.
VERSION = 3
SIDES = ("inside", "outside")  # of spheres


def save(path: str | os.PathLike[str], field: Field) -> Path:
    """Write a field, to a temporary file first, then renamed.

    Parameters
    ----------
    path : path
        Where; usually `.safetensors`.
    field : SDF, exact shape, or what CSG made of them
        The field.

    Returns
    -------
    pathlib.Path
        Where it is.

    Raises
    ------
    TypeError
        What is given for the field is none.
    CertificateError
        The weights are not those of the field's certificate.
    OSError
        The folder is missing or cannot be written.
    """
    if not isinstance(field, Field):
        raise TypeError(f"`save` takes a path and then a field; got {type(field).__name__} for the field.")
    field.require()
    tensors: dict[str, torch.Tensor] = {}
    header = _described(field, tensors)
    held = any(name.endswith(f".{SIDES[0]}") for name in tensors)
    return seal(path, KIND, VERSION if held else VERSION - 1, header, tensors)  # older readers read the rest


def _described(field: Field, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Return a field as plain values; the weights of its networks go into `tensors`, each under its hash."""
    if isinstance(field, Node):
        parts = [_described(part, tensors) for part in field.parts]
        return {"kind": field.kind, "settings": field.settings, "parts": parts}
    if type(field) in KINDS.values():
        return {"kind": field.kind, "settings": field.settings}
    if not isinstance(field, SDF):
        raise TypeError(f"`field` must be an SDF, an exact shape or CSG of them; got {type(field).__name__}.")
    tensors.update(weights_of(field.network, field.proof.hash))
    spheres: dict[str, Any] = {}
    if field.spheres is not None:
        spheres["spheres"] = {"hash": field.spheres.hash, "cell": field.spheres.cell}
        for side in SIDES:
            tensors[f"{field.spheres.hash}.{side}"] = torch.as_tensor(getattr(field.spheres, side))
    return {
        "kind": field.kind,
        "network": dataclasses.asdict(field.network.config),
        "frame": {"center": field.frame.center.tolist(), "scale": field.frame.scale},
        "box": {"lower": field.box.lower.tolist(), "upper": field.box.upper.tolist()},
        "level": field.level,
        "certificate": dataclasses.asdict(field.proof),
        "support": field.support,
        "support_reason": field.support_reason,
        "settings": field.settings,
        "history": field.history,
        **spheres,
    }


def load(path: str | os.PathLike[str], device: str = "auto") -> Field:
    """Read a field and prove its certificate again.

    Parameters
    ----------
    path : path
        A file that `save` wrote.
    device : str
        `"auto"`, `"cpu"` or `"cuda"`.

    Returns
    -------
    SDF, exact shape, or what CSG made of them
        Values equal those of the saved field bit for bit on the same device.

    Raises
    ------
    CheckpointError
        Not a field file, cut, altered, of a newer version, or with weights that are not those certified.
    ValueError
        `device` is none of the three, or CUDA is absent.
    OSError
        The file cannot be opened.
    """
    target = resolve_device(device)
    sealed = unseal(path, KIND, VERSION)
    header, tensors = sealed.header, sealed.tensors
    with understanding(path, KIND):
        if sealed.version == 1:
            header.update(kind=SDF.kind, certificate={"hash": "1"})
            tensors = {f"1.{name}": value for name, value in tensors.items()}
        unused = set(tensors)
        field = _built(header, tensors, unused, target)
        if unused:
            raise ValueError(f"tensors of no network: {', '.join(sorted(unused))}")
    return field


def _built(
    header: dict[str, Any], tensors: dict[str, torch.Tensor], unused: set[str], device: torch.device
) -> Field:
    """Return the field that `_described` described; names of its tensors are taken out of `unused`."""
    if "parts" in header:
        parts = [_built(part, tensors, unused, device) for part in header["parts"]]
        if header["kind"] == Join.kind:
            return Join(tuple(parts), **header["settings"])
        return combined(header["kind"], parts, header["settings"])
    if header["kind"] == SDF.kind:
        return _trained(header, tensors, unused, device)
    return exact(header["kind"], header["settings"])


def _trained(
    header: dict[str, Any], tensors: dict[str, torch.Tensor], unused: set[str], device: torch.device
) -> SDF:
    hash = header["certificate"]["hash"]
    config = NetworkConfig(**header["network"])
    require_weights(config, tensors)
    network = LipschitzNetwork(config, torch.Generator().manual_seed(0))
    unused -= filled(network, hash, tensors)
    frame, box = header["frame"], header["box"]
    if not frame["scale"] > 0.0:
        raise ValueError(f"scale {frame['scale']} must be positive")
    sdf = SDF.proved(
        network,
        Frame(np.array(frame["center"], dtype=np.float64), float(frame["scale"])),
        Box(box["lower"], box["upper"]),
        level=float(header["level"]),
        support=str(header["support"]),
        support_reason=str(header["support_reason"]),
        settings=header["settings"],
        history=header["history"],
        spheres=_spheres(header.get("spheres"), tensors, unused),
    )
    if hash != "1":  # version 1 had no certificate
        require_same(Certificate(**header["certificate"]), sdf.proof)
    return dataclasses.replace(sdf, network=network.to(device))


def _spheres(
    header: dict[str, Any] | None, tensors: dict[str, torch.Tensor], unused: set[str]
) -> Spheres | None:
    if header is None:
        return None
    names = [f"{header['hash']}.{side}" for side in SIDES]
    unused -= set(names)
    inside, outside = (tensors[name].to(torch.float64).numpy() for name in names)
    return Spheres(inside, outside, float(header["cell"]))
