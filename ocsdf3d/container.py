"""The sealed file that everything trained is kept in: safetensors, so that reading never executes code.

The tensors are weights and arrays; everything else is one JSON object in the header, and a SHA-256 over both
stands beside it, with the kind of the contents and the version of their description. A file that is cut,
altered, of a newer version or of another kind is refused. The checksum guards against accidents; what guards
the certificate of a network is that it is proved again from the weights at every load, never believed, and
must be the one that was written (`require_same`).

A kind describes itself in a module of its own: fields in `checkpoint.py`, detectors in
`oneclass/checkpoint.py` and `images/saved.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from ocsdf3d.durable import draft_of, put_in_place
from ocsdf3d.lipschitz.certificate import Certificate, CertificateError, issue
from ocsdf3d.lipschitz.convolution import ConvolutionConfig
from ocsdf3d.lipschitz.network import NetworkConfig

__all__ = [
    "CheckpointError",
    "Sealed",
    "digest",
    "filled",
    "kind_of",
    "proved_again",
    "require_same",
    "require_weights",
    "seal",
    "understanding",
    "unseal",
    "weights_of",
]

FORMAT = "ocsdf3d-"  # and the kind
READERS = {  # kind → what reads it
    "field": "ocsdf3d.load",
    "detector": "ocsdf3d.oneclass.load",
    "image-detector": "ocsdf3d.images.load",
    "training": "ocsdf3d.fit",
}

Tensors = dict[str, torch.Tensor]


class CheckpointError(ValueError):
    """A file of a field or of a detector that cannot be trusted or understood."""


@dataclass(frozen=True)
class Sealed:
    """Contents of a file whose checksum fits.

    Attributes
    ----------
    header : dict
        What the JSON says.
    tensors : dict
        On the CPU, as stored.
    version : int
        Of the description.
    """

    header: dict[str, Any]
    tensors: Tensors
    version: int


def digest(header: str, tensors: Tensors) -> str:
    """Return the SHA-256 of the header and of every tensor's name, dtype, shape and bytes."""
    sha = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        value = tensors[name]
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        sha.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())  # bytes: NumPy lacks some dtypes
    return sha.hexdigest()


def seal(
    path: str | os.PathLike[str], kind: str, version: int, header: dict[str, Any], tensors: Tensors
) -> Path:
    """Write a file, to a temporary one first, then renamed; the same contents give the same bytes.

    Parameters
    ----------
    path : path
        Where; usually `.safetensors`.
    kind : str
        A key of `READERS`.
    version : int
        Of the description, at least 1.
    header : dict
        Plain values, as JSON knows them.
    tensors : dict
        Contiguous, on the CPU.

    Returns
    -------
    pathlib.Path
        Where it is.

    Raises
    ------
    TypeError
        `header` holds what JSON cannot.
    OSError
        The folder is missing or cannot be written.
    """
    path = Path(path)
    text = json.dumps(header, sort_keys=True)
    metadata = {
        "format": FORMAT + kind,
        "version": str(version),
        kind: text,
        "sha256": digest(text, tensors),
    }
    with draft_of(path) as draft:
        draft.write_bytes(_ordered(save(tensors, metadata)))  # by Python, whose errors are the system's
        put_in_place(draft, path)
    return path


def _ordered(data: bytes) -> bytes:
    """Return a safetensors file with the names of its header sorted, which the library shuffles."""
    end = 8 + int.from_bytes(data[:8], "little")
    text = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors stay aligned
    return len(text).to_bytes(8, "little") + text + data[end:]


def kind_of(path: str | os.PathLike[str]) -> str | None:
    """Return the kind that a file says it is of, a key of `READERS`; None where it says none of them.

    Raises
    ------
    OSError
        The file cannot be opened.
    """
    Path(path).open("rb").close()  # an OSError with the usual words, rather than the library's
    try:
        with safe_open(Path(path), framework="pt", device="cpu") as file:
            said = str((file.metadata() or {}).get("format", "")).removeprefix(FORMAT)
    except SafetensorError:
        return None
    return said if said in READERS else None


def unseal(path: str | os.PathLike[str], kind: str, newest: int) -> Sealed:
    """Read a file that `seal` wrote.

    Parameters
    ----------
    path : path
        The file.
    kind : str
        The only one that is accepted.
    newest : int
        Version that is accepted at most.

    Raises
    ------
    CheckpointError
        Cut, altered, of a newer version, of another kind or no such file at all.
    OSError
        The file cannot be opened.
    """
    path = Path(path)
    with path.open("rb"):  # an OSError with the usual words, rather than the library's
        size = path.stat().st_size
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            _check_format(path, metadata, kind, newest)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise CheckpointError(
            f"{path}: not a {kind} file, or cut short ({size} bytes): {error}. Is the copy complete?"
        ) from error
    if digest(metadata[kind], tensors) != metadata.get("sha256"):
        raise CheckpointError(
            f"{path}: not certified: the contents do not match their checksum; the file was altered. "
            "Restore it or train again."
        )
    with understanding(path, kind):
        header = json.loads(metadata[kind])
        if not isinstance(header, dict):
            raise TypeError(f"a JSON object is expected, not {type(header).__name__}")
    return Sealed(header, tensors, int(metadata["version"]))


def _check_format(path: Path, metadata: dict[str, str], kind: str, newest: int) -> None:
    found = metadata.get("format", "")
    other = found.removeprefix(FORMAT)
    if found.startswith(FORMAT) and other != kind:
        reader = f": use {READERS[other]}" if other in READERS else ""
        raise CheckpointError(f"{path}: a file of kind {other}, not a {kind} of ocsdf3d{reader}.")
    if found != FORMAT + kind or kind not in metadata:
        raise CheckpointError(f"{path}: a safetensors file, but not a {kind} of ocsdf3d.")
    version = metadata.get("version", "")
    if not version.isdecimal() or not 1 <= int(version) <= newest:
        raise CheckpointError(
            f"{path}: {kind} format version {version or '(none)'}; this ocsdf3d reads up to {newest}. "
            "Upgrade ocsdf3d."
        )


@contextmanager
def understanding(path: str | os.PathLike[str], kind: str) -> Iterator[None]:
    """Give whatever goes wrong while contents are made sense of the name of their file, as one error.

    Raises
    ------
    CheckpointError
        Instead of what was raised inside: values that are missing or make no sense, or a broken certificate.
    """
    try:
        yield
    except (CheckpointError, CertificateError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: the {kind} is not understood ({type(error).__name__}: {error})."
        ) from error


# --- networks and their certificates


def weights_of(network: nn.Module, hash: str) -> Tensors:
    """Return the state of a network as tensors for `seal`, each name led by the hash of its certificate."""
    state = network.state_dict()
    return {f"{hash}.{name}": value.detach().cpu().contiguous() for name, value in state.items()}


def require_weights(config: NetworkConfig | ConvolutionConfig, tensors: Tensors) -> None:
    """Refuse a network that is larger than the weights in its file, before it is made.

    Raises
    ------
    ValueError
        With its size and their number.
    """
    held = sum(value.numel() for value in tensors.values())
    if config.weights > held:
        raise ValueError(
            f"a network of this shape ({str(config)[:200]}) has more weights than the {held} in the file. Is"
            " it damaged?"
        )


def filled(network: nn.Module, hash: str, tensors: Tensors) -> set[str]:
    """Fill a network with the weights that `weights_of` named so; it is then done with learning.

    Parameters
    ----------
    network : nn.Module
        Of the right shape; takes the dtype of the weights.
    hash : str
        Of the certificate.
    tensors : dict
        Of the file; not changed.

    Returns
    -------
    set of str
        Names of the tensors that were taken.

    Raises
    ------
    CheckpointError
        There are no weights of this hash.
    RuntimeError
        Names or shapes are not those of the network.
    """
    prefix = f"{hash}."
    own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    if not own:
        raise CheckpointError("not certified: the file holds no weights with the hash of its certificate.")
    floating = [value.dtype for _, value in sorted(own.items()) if value.is_floating_point()]
    network.to(floating[0] if floating else torch.float32)  # others are cast to it, and the hash tells
    network.load_state_dict(own)
    network.requires_grad_(False)
    return {prefix + name for name in own}


def proved_again(network: Any, written: Certificate, tensors: Tensors) -> tuple[Certificate, set[str]]:
    """Fill a network from a file and prove of it what the file says; its certificate, and the tensors taken.

    Parameters
    ----------
    network : Network
        Of the right shape; filled in place.
    written : Certificate
        Of the file.
    tensors : dict
        Of the file; not changed.

    Raises
    ------
    CheckpointError
        There are no such weights, or they are not those that were certified.
    ValueError
        A radius that is none.
    """
    taken = filled(network, written.hash, tensors)
    if not 0.0 < written.radius < float("inf"):
        raise ValueError(f"radius {written.radius} must be positive and finite")
    found = issue(network, written.radius)
    require_same(written, found)
    return found, taken


def require_same(written: Any, found: Any) -> None:
    """Refuse weights, a dtype or a method other than those that were certified.

    Parameters
    ----------
    written, found : Certificate, or another with `version`, `dtype` and `hash`
        What the file says, and what its weights prove.

    Raises
    ------
    CheckpointError
        One of the three differs.
    """
    for name in ("version", "dtype", "hash"):
        if getattr(written, name) != getattr(found, name):
            raise CheckpointError(
                f"not certified: the file's certificate has {name} {getattr(written, name)}, its weights "
                f"{getattr(found, name)}. Restore it or train again."
            )
