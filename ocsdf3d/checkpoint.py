"""One self-describing file per trained field: safetensors, so loading never executes code.

The tensors are the certified weights; everything else (network, frame, level, bound, support, settings,
history) is one JSON object in the header, and a SHA-256 over both stands beside it. A file that is cut,
altered or of a newer version is refused; the Lipschitz bound is proved again from the weights at every load,
never believed.
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

from ocsdf3d.field import SDF
from ocsdf3d.frame import Frame
from ocsdf3d.geometry import Box
from ocsdf3d.lipschitz.bound import lipschitz_bound
from ocsdf3d.lipschitz.network import LipschitzNetwork, NetworkConfig

__all__ = ["CheckpointError", "load", "save"]

FORMAT = "ocsdf3d-field"
VERSION = 1


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


def save(path: str | os.PathLike[str], sdf: SDF) -> Path:
    """Write a field, to a temporary file first, then renamed.

    Parameters
    ----------
    path : path
        Where; usually `.safetensors`.
    sdf : SDF
        The field.

    Returns
    -------
    pathlib.Path
        Where it is.

    Raises
    ------
    OSError
        The folder is missing or cannot be written.
    """
    path = Path(path)
    tensors = {name: value.detach().cpu().contiguous() for name, value in sdf.network.state_dict().items()}
    header = json.dumps(
        {
            "network": dataclasses.asdict(sdf.network.config),
            "frame": {"center": sdf.frame.center.tolist(), "scale": sdf.frame.scale},
            "box": {"lower": sdf.box.lower.tolist(), "upper": sdf.box.upper.tolist()},
            "level": sdf.level,
            "lipschitz": sdf.lipschitz,
            "support": sdf.support,
            "support_reason": sdf.support_reason,
            "settings": sdf.settings,
            "history": sdf.history,
        },
        sort_keys=True,
    )
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


def _order_header(path: Path) -> None:
    """Sort the names in a safetensors header, which the library shuffles: one field, one file."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    text = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors stay aligned
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])


def load(path: str | os.PathLike[str], device: str = "auto") -> SDF:
    """Read a field and prove its bound again.

    Parameters
    ----------
    path : path
        A file that `save` wrote.
    device : str
        `"auto"`, `"cpu"` or `"cuda"`.

    Returns
    -------
    SDF
        Values equal those of the saved field bit for bit on the same device.

    Raises
    ------
    CheckpointError
        Not a field file, cut, altered, of a newer version, or with weights whose bound exceeds 1.
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
            f"{path}: the contents do not match their checksum; the file was altered. "
            "Restore it or train again."
        )
    try:
        return _build(json.loads(metadata["field"]), tensors, target)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, RuntimeError, RecursionError) as error:
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


def _build(header: dict[str, Any], tensors: dict[str, torch.Tensor], device: torch.device) -> SDF:
    network = LipschitzNetwork(NetworkConfig(**header["network"]), torch.Generator().manual_seed(0))
    network.load_state_dict(tensors)
    network.requires_grad_(False)
    lipschitz = lipschitz_bound(network)
    if not lipschitz <= 1.0 + 1e-12:
        raise CheckpointError(f"the weights have the bound {lipschitz}, above 1: the field is not certified.")
    if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
        raise ValueError("a bias is not finite")
    frame, box = header["frame"], header["box"]
    if not frame["scale"] > 0.0:
        raise ValueError(f"scale {frame['scale']} must be positive")
    return SDF(
        network=network.to(device),
        frame=Frame(np.array(frame["center"], dtype=np.float64), float(frame["scale"])),
        level=float(header["level"]),
        lipschitz=min(lipschitz, 1.0),
        support=str(header["support"]),
        support_reason=str(header["support_reason"]),
        box=Box(box["lower"], box["upper"]),
        settings=header["settings"],
        history=header["history"],
    )


def resolve_device(name: str) -> torch.device:
    """Return the device for `"auto"` (CUDA when there is one), `"cpu"` or `"cuda"`.

    Raises
    ------
    ValueError
        CUDA was asked for and is absent, or another word.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"`device` must be auto, cpu or cuda; got {name!r}.")
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ValueError("`device` is cuda, but torch sees no CUDA device here; use cpu or auto.")
    return torch.device("cuda" if name != "cpu" and available else "cpu")
