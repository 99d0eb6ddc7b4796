"""One self-describing file per trained field: safetensors, so loading never executes code.

The tensors are the certified weights; everything else (network, frame, level, certificate, support, settings,
history, and for CSG the tree) is one JSON object in the header, and a SHA-256 over both stands beside it. A
file that is cut, altered or of a newer version is refused; the certificate is proved again from the weights
at every load, never believed, and must be the one that was written.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ocsdf3d.analytic import KINDS, exact
from ocsdf3d.csg import Field, Node, combined
from ocsdf3d.devices import resolve_device
from ocsdf3d.field import SDF
from ocsdf3d.frame import Frame
from ocsdf3d.geometry import Box
from ocsdf3d.lipschitz.certificate import Certificate, CertificateError
from ocsdf3d.lipschitz.network import LipschitzNetwork, NetworkConfig

__all__ = ["CheckpointError", "load", "save"]

FORMAT = "ocsdf3d-field"
VERSION = 2  # 1: one trained field, its bound proved again but no certificate in the file


class CheckpointError(ValueError):
    """A field file that cannot be trusted or understood."""


def _digest(header: str, tensors: dict[str, torch.Tensor]) -> str:
    """Return the SHA-256 of the header and of every tensor's name, dtype, shape and bytes."""
    sha = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        value = tensors[name]
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        sha.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())  # bytes: NumPy lacks some dtypes
    return sha.hexdigest()


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
    CertificateError
        The weights are not those of the field's certificate.
    OSError
        The folder is missing or cannot be written.
    """
    path = Path(path)
    field.require()
    tensors: dict[str, torch.Tensor] = {}
    header = json.dumps(_described(field, tensors), sort_keys=True)
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "field": header,
        "sha256": _digest(header, tensors),
    }
    descriptor, temporary = tempfile.mkstemp(suffix=".tmp", prefix=f".{path.name}.", dir=path.parent)
    os.close(descriptor)
    try:
        save_file(tensors, temporary, metadata=metadata)
        _order_header(Path(temporary))
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def _described(field: Field, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Return a field as plain values; the weights of its networks go into `tensors`, each under its hash."""
    if isinstance(field, Node):
        parts = [_described(part, tensors) for part in field.parts]
        return {"kind": field.kind, "settings": field.settings, "parts": parts}
    if type(field) in KINDS.values():
        return {"kind": field.kind, "settings": field.settings}
    if not isinstance(field, SDF):
        raise TypeError(f"`field` must be an SDF, an exact shape or CSG of them; got {type(field).__name__}.")
    for name, value in field.network.state_dict().items():
        tensors[f"{field.proof.hash}.{name}"] = value.detach().cpu().contiguous()
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
    }


def _order_header(path: Path) -> None:
    """Sort the names in a safetensors header, which the library shuffles: one field, one file."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    text = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors stay aligned
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])


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
    path, target = Path(path), resolve_device(device)
    with path.open("rb"):  # an OSError with the usual words, rather than the library's
        size = path.stat().st_size
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            _check_format(path, metadata)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise CheckpointError(
            f"{path}: not a field file, or cut short ({size} bytes): {error}. Is the copy complete?"
        ) from error
    if _digest(metadata["field"], tensors) != metadata.get("sha256"):
        raise CheckpointError(
            f"{path}: not certified: the contents do not match their checksum; the file was altered. "
            "Restore it or train again."
        )
    try:
        header = json.loads(metadata["field"])
        if metadata["version"] == "1":
            header.update(kind=SDF.kind, certificate={"hash": "1"})
            tensors = {f"1.{name}": value for name, value in tensors.items()}
        unused = set(tensors)
        field = _built(header, tensors, unused, target)
        if unused:
            raise ValueError(f"tensors of no network: {', '.join(sorted(unused))}")
        return field
    except (CheckpointError, CertificateError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: the field is not understood ({type(error).__name__}: {error})."
        ) from error


def _check_format(path: Path, metadata: dict[str, str]) -> None:
    if metadata.get("format") != FORMAT or "field" not in metadata:
        raise CheckpointError(f"{path}: a safetensors file, but not a field of ocsdf3d.")
    version = metadata.get("version", "")
    if not version.isdecimal() or not 1 <= int(version) <= VERSION:
        raise CheckpointError(
            f"{path}: field format version {version or '(none)'}; this ocsdf3d reads up to {VERSION}. "
            "Upgrade ocsdf3d."
        )


def _built(
    header: dict[str, Any], tensors: dict[str, torch.Tensor], unused: set[str], device: torch.device
) -> Field:
    """Return the field that `_described` described; names of its tensors are taken out of `unused`."""
    if "parts" in header:
        parts = [_built(part, tensors, unused, device) for part in header["parts"]]
        return combined(header["kind"], parts, header["settings"])
    if header["kind"] == SDF.kind:
        return _trained(header, tensors, unused, device)
    return exact(header["kind"], header["settings"])


def _trained(
    header: dict[str, Any], tensors: dict[str, torch.Tensor], unused: set[str], device: torch.device
) -> SDF:
    prefix = f"{header['certificate']['hash']}."
    own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    unused -= {prefix + name for name in own}
    if not own:
        raise CheckpointError("not certified: the file holds no weights with the hash of its certificate.")
    network = LipschitzNetwork(NetworkConfig(**header["network"]), torch.Generator().manual_seed(0))
    network = network.to(own["head"].dtype)  # others are cast to it, and the hash tells
    network.load_state_dict(own)
    network.requires_grad_(False)
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
    )
    if prefix != "1.":  # version 1 had no certificate
        _compare(Certificate(**header["certificate"]), sdf.proof)
    return dataclasses.replace(sdf, network=network.to(device))


def _compare(written: Certificate, found: Certificate) -> None:
    """Refuse weights, a dtype or a method other than those that were certified."""
    for name in ("version", "dtype", "hash"):
        if getattr(written, name) != getattr(found, name):
            raise CheckpointError(
                f"not certified: the file's certificate has {name} {getattr(written, name)}, its weights "
                f"{getattr(found, name)}. Restore it or train again."
            )
