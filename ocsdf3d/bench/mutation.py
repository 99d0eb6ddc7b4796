"""Damage to files: bytes and numbers at random, and inside of containers under a checksum that fits."""

from __future__ import annotations

import contextlib
import io
import json
import random
import struct
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

from ocsdf3d.bench.seed_files import FIELD

__all__ = ["LARGEST", "Mutator", "bent_field"]

NUMBERS = (0, 1, 2, 3, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1)
WORDS = (
    *(b"0", b"-1", b"1e999", b"nan", b"inf", b"-inf", b"999999999999", b"4294967296", b"1e-320"),
    *(b"18446744073709551616", b"0x10", b"1_0", b"1,5", b"\0", b"#", b"{", b'"', b"\xff\xfe", b"\r"),
    b"9" * 5000,
)
LARGEST = 65_536  # bytes that an input grows to


class Mutator:
    """Bends files: bytes and numbers at random, and what lies inside of containers.

    Parameters
    ----------
    corpus : dict
        Extension → whole files.
    seed : int
        Fixes every input, whatever was asked for before.
    """

    def __init__(self, corpus: dict[str, list[bytes]], seed: int) -> None:
        self.corpus, self.seed = corpus, seed

    def __call__(self, extension: str, number: int) -> bytes:
        """Return an input of a format."""
        dice = random.Random(f"{self.seed} {extension} {number}")
        return self.bent(extension, dice.choice(self.corpus[extension]), dice)

    def bent(self, extension: str, data: bytes, dice: random.Random) -> bytes:
        """Return a file like `data` with some things wrong."""
        inside = INSIDE.get(extension)
        if inside is not None and dice.random() < 0.6:
            with contextlib.suppress(ValueError, KeyError, IndexError, zipfile.BadZipFile, struct.error):
                return inside(data, dice)[:LARGEST]
        for _ in range(dice.choice((1, 1, 1, 2, 3, 8))):
            data = _once(data, dice, dice.choice(self.corpus[extension]))
        return data[:LARGEST]


def _once(data: bytes, dice: random.Random, other: bytes) -> bytes:
    """Return a copy with one thing wrong."""
    at = dice.randrange(len(data) + 1)
    if dice.random() < 0.4:  # headers decide more than bodies
        at = dice.randrange(min(len(data), 512) + 1)
    span = dice.choice((1, 2, 4, 8, 64, dice.randrange(1, len(data) + 2)))
    match dice.randrange(8):
        case 0:
            return data[:at] + bytes([dice.randrange(256)]) + data[at + 1 :]
        case 1:
            size = dice.choice((1, 2, 4, 8))
            value = dice.choice(NUMBERS) % 256**size
            return data[:at] + value.to_bytes(size, dice.choice(("little", "big"))) + data[at + size :]
        case 2:
            return data[:at] + data[at + span :]
        case 3:
            return data[:at] + data[at : at + span] * dice.choice((2, 2, 3, 50)) + data[at + span :]
        case 4:
            return data[:at]
        case 5:
            start = dice.randrange(len(other) + 1)
            return data[:at] + other[start : start + span] + data[at + dice.choice((0, span)) :]
        case 6:
            return data[:at] + dice.choice(WORDS) + data[at:]
        case _:
            return _renumbered(data, dice)


def _renumbered(data: bytes, dice: random.Random) -> bytes:
    """Return a copy with one of its printed numbers replaced."""
    start = dice.randrange(len(data) + 1) if dice.random() < 0.5 else 0
    digits = b"0123456789"
    places = [k for k in range(start, min(len(data), start + 600)) if data[k] in digits]
    if not places:
        return data
    at = dice.choice(places)
    end = at
    while end < len(data) and data[end] in digits:
        end += 1
    return data[:at] + dice.choice((str(dice.choice(NUMBERS)).encode(), dice.choice(WORDS))) + data[end:]


def _json(value: Any, dice: random.Random) -> Any:
    """Return a JSON value with one of its parts replaced, removed or repeated."""
    if isinstance(value, dict) and value:
        key = dice.choice(list(value))
        if dice.random() < 0.1:
            return {name: part for name, part in value.items() if name != key}
        return {**value, key: _json(value[key], dice)}
    if isinstance(value, list) and value:
        at = dice.randrange(len(value))
        if dice.random() < 0.15:
            return dice.choice((value[:at], value + value[at:], value[:at] * 3, [value]))
        return [*value[:at], _json(value[at], dice), *value[at + 1 :]]
    absurd: tuple[Any, ...] = (
        None,
        True,
        -1,
        0,
        1e308,
        -0.5,
        "",
        "x",
        [],
        {},
        [0],
        "../../etc/passwd",
        float("nan"),
    )
    return dice.choice((dice.choice(NUMBERS), dice.choice(NUMBERS), dice.choice(absurd)))


def _bent_gltf(data: bytes, dice: random.Random) -> bytes:
    return json.dumps(_json(json.loads(data), dice)).encode()


def _bent_glb(data: bytes, dice: random.Random) -> bytes:
    size = int.from_bytes(data[12:16], "little")
    text = json.dumps(_json(json.loads(data[20 : 20 + size]), dice)).encode()
    text += b" " * (-len(text) % 4)
    rest = data[20 + size :]
    total = 20 + len(text) + len(rest)
    return b"glTF" + struct.pack("<II", 2, total) + struct.pack("<I", len(text)) + b"JSON" + text + rest


def _bent_zip(data: bytes, dice: random.Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(item.filename, archive.read(item)) for item in archive.infolist()]
    chosen = dice.randrange(len(members))
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # of two members of one name, which is what is wanted
        for k, (name, content) in enumerate(members):
            if k == chosen:
                for _ in range(dice.choice((1, 1, 2, 5))):
                    content = _once(content, dice, content)
                name = dice.choice((name, name, name, name + "x", members[0][0]))
            archive.writestr(name, content)
    return stream.getvalue()


def bent_field(data: bytes, dice: random.Random) -> bytes:
    """Return a field's file with something wrong inside and a checksum that fits: as a forger would."""
    from safetensors.torch import load, save

    from ocsdf3d.container import digest

    size = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + size])["__metadata__"]
    tensors = load(data)
    header = json.loads(metadata["field"])
    if dice.random() < 0.7:
        for _ in range(dice.choice((1, 1, 2, 4))):
            header = _json(header, dice)
    elif tensors:
        name = dice.choice(list(tensors))
        flat = tensors[name].reshape(-1)
        match dice.randrange(4):
            case 0:
                flat[dice.randrange(len(flat))] = dice.choice((float("nan"), float("inf"), 1e30, 0.0))
            case 1:
                tensors[name] = flat.clone()
            case 2:
                del tensors[name]
            case _:
                tensors[name] = tensors[name].double()
    metadata["field"] = json.dumps(header)
    metadata["sha256"] = digest(metadata["field"], tensors)
    bent = bytes(save(tensors, metadata))
    size = int.from_bytes(bent[:8], "little")
    ordered = json.dumps(json.loads(bent[8 : 8 + size]), sort_keys=True).encode()  # the library shuffles it
    return len(ordered).to_bytes(8, "little") + ordered + bent[8 + size :]


INSIDE: dict[str, Callable[[bytes, random.Random], bytes]] = {
    ".gltf": _bent_gltf,
    ".glb": _bent_glb,
    ".npz": _bent_zip,
    ".3mf": _bent_zip,
    FIELD: bent_field,
}
