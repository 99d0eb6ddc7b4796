"""Damaged and hostile files for every reader and for the file of a field: crashes, hangs, memory taken.

    python -m ocsdf3d.bench.fuzz --inputs 100000 --seed 0

Small files of each format are made, bent (`Mutator`), and read one after the other in a process whose address
space is limited. A reader may say no by the errors it documents (`ReadError`, `CheckpointError`,
`ValueError`, `OSError`) and by nothing else. Counted are *crashes* (another exception, or the end of the
process), *hangs* (`--hang` seconds) and *memory* (an allocation beyond `--memory`). `unforeseen` counts
refusals that only the last net caught, where a reader did not know what was wrong; they are no faults, but
their messages are poor.

An input is a pure function of format, seed and number, so that a case is found again by its number; what was
found is made as small as it gets (`shrunk`) and left in the output folder. With `--coverage` and the package
`atheris` inputs are led by what they reach in our own code instead of drawn blindly.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import io
import json
import mmap
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from ocsdf3d.bench import circumstances, markdown, replaced, say

__all__ = ["Finding", "Mutator", "main", "read_one", "seeds", "shrunk"]

FIELD = ".safetensors"
NUMBERS = (0, 1, 2, 3, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1)
WORDS = (
    *(b"0", b"-1", b"1e999", b"nan", b"inf", b"-inf", b"999999999999", b"4294967296", b"1e-320"),
    *(b"18446744073709551616", b"0x10", b"1_0", b"1,5", b"\0", b"#", b"{", b'"', b"\xff\xfe", b"\r"),
    b"9" * 5000,
)
LARGEST = 65_536  # bytes that an input grows to
BATCH = 200  # inputs of a format before the next one has its turn


class Hang(BaseException):
    """An input took too long; no `Exception`, so that no reader takes it for its own."""


# ----------------------------------------------------------------------------------------------- seeds


def seeds() -> dict[str, list[bytes]]:
    """Return small whole files of each format, extension → contents, if its extra is installed."""
    found: dict[str, list[bytes]] = {}
    ball = trimesh.creation.icosphere(subdivisions=1)
    points = np.asarray(ball.vertices)
    normals = np.asarray(ball.vertex_normals)
    rows = "".join(f"{x:.5f} {y:.5f} {z:.5f}\n" for x, y, z in points.tolist())
    both = "".join(
        f"{a:.4f} {b:.4f} {c:.4f} {d:.4f} {e:.4f} {f:.4f}\n"
        for (a, b, c), (d, e, f) in zip(points.tolist(), normals.tolist(), strict=True)
    )
    count = len(points)
    faces = "".join(f"3 {a} {b} {c}\n" for a, b, c in ball.faces.tolist())
    flat = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvn 0 0 1\nf 1//1 2//1 3//1 4//1\nf -4 -2 -1\n"
    painted = rows.replace("\n", " 255 128 0\n")

    def text(*contents: str) -> list[bytes]:
        return [content.encode() for content in contents]

    found[".off"] = text(
        f"OFF\n{count} {len(ball.faces)} 0\n{rows}{faces}",
        f"OFF{count} 1 0\n{rows}4 0 1 2 3 255 0 0\n",
        f"CNOFF\n{count} 0 0\n{both.replace(chr(10), ' 1 0 0 1' + chr(10))}",
        f"# c\nSTOFF {count} 2 0\n{rows.replace(chr(10), ' 0.5 0.5' + chr(10))}3 0 1 2\n5 0 1 2 3 4\n",
    )
    obj = "".join(f"v {line}\n" for line in rows.splitlines())
    corners = "".join(f"f {a + 1} {b + 1} {c + 1}\n" for a, b, c in ball.faces.tolist())
    found[".obj"] = text(obj + corners, flat, obj.replace("\n", " 1 0 0\n"), "v 0 0 \\\n0\n" + flat)
    found[".stl"] = [_exported(ball, "stl"), _exported(ball, "stl_ascii")]
    found[".ply"] = [*_plys(points, normals, np.asarray(ball.faces))]
    found[".glb"] = [_exported(ball, "glb"), _exported(_scene(), "glb")]
    found[".gltf"] = [_gltf(_scene())]
    found[".3mf"] = [_exported(_scene(), "3mf")]
    found[".xyz"] = text(rows, both, f"{count}\n{rows}", painted)
    found[".xyzn"] = text(both)
    found[".pwn"] = text(f"{count}\n{rows}{rows}", both)
    found[".pts"] = text(f"{count}\n{rows}", "".join(f"p {line}\n" for line in rows.splitlines()), painted)
    found[".txt"] = text("x y z\n" + rows, rows.replace("\n", " ground\n"), "X Y Z nx ny nz\n" + both)
    comma = rows.replace(" ", ",")
    found[".csv"] = text(
        "x,y,z\n" + comma, '"X [m]","Y","Z"\n' + comma, rows.replace(".", ",").replace(" ", ";"), comma
    )
    found[".npy"] = [_npy(points), _npy(np.hstack([points, normals]).astype("<f4")), _npy(points.T.copy().T)]
    found[".npz"] = [
        _npz(points=points, normals=normals),
        _npz(vertices=points, faces=np.asarray(ball.faces)),
        _npz(anything=points.astype("<i2")),
    ]
    found[".pcd"] = [*_pcds(points)]
    found |= _scans(points)
    found[FIELD] = _fields()
    return found


def _exported(shape: Any, kind: str) -> bytes:
    content = shape.export(file_type=kind)
    return content.encode() if isinstance(content, str) else bytes(content)


def _scene() -> trimesh.Scene:
    part = trimesh.creation.box()
    scene = trimesh.Scene()
    scene.add_geometry(part, node_name="a", geom_name="part")
    turned = trimesh.transformations.scale_matrix(-2)
    scene.add_geometry(part, node_name="b", geom_name="part", transform=turned)
    return scene


def _gltf(scene: trimesh.Scene) -> bytes:
    """Return a glTF file with its buffers inside."""
    files = scene.export(file_type="gltf")
    document = json.loads(next(data for name, data in files.items() if name.endswith(".gltf")))
    for buffer in document["buffers"]:
        data = base64.b64encode(files[buffer["uri"]]).decode()
        buffer["uri"] = f"data:application/octet-stream;base64,{data}"
    return json.dumps(document).encode()


def _plys(points: np.ndarray, normals: np.ndarray, faces: np.ndarray) -> Iterator[bytes]:
    for order, kind in (("<", "binary_little_endian"), (">", "binary_big_endian")):
        vertex = np.zeros(len(points), [("p", f"{order}f4", 3), ("n", f"{order}f4", 3), ("c", "u1", 3)])
        vertex["p"], vertex["n"] = points, normals
        face = np.zeros(len(faces), [("k", "u1"), ("v", f"{order}i4", 3)])
        face["k"], face["v"] = 3, faces
        mixed = b"".join(
            bytes([len(loop)]) + np.array(loop, f"{order}i4").tobytes() for loop in ([0, 1, 2], [0, 2, 3, 4])
        )
        head = (
            f"ply\nformat {kind} 1.0\ncomment seed\nelement vertex {len(points)}\n"
            + "".join(f"property float {name}\n" for name in ("x", "y", "z", "nx", "ny", "nz"))
            + "".join(f"property uchar {name}\n" for name in ("red", "green", "blue"))
        )
        lists = "element face {}\nproperty list uchar int vertex_indices\nend_header\n"
        yield (head + "end_header\n").encode() + vertex.tobytes()
        yield (head + lists.format(len(faces))).encode() + vertex.tobytes() + face.tobytes()
        yield (head + lists.format(2)).encode() + vertex.tobytes() + mixed
    rows = "".join(f"{x:.4f} {y:.4f} {z:.4f}\n" for x, y, z in points.tolist())
    head = f"ply\nformat ascii 1.0\nelement vertex {len(points)}\n" + "".join(
        f"property double {name}\n" for name in "xyz"
    )
    faces_of = "element face 2\nproperty list uchar int vertex_index\nend_header\n"
    yield f"{head}{faces_of}{rows}3 0 1 2\n4 0 1 2 3\n".encode()


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def _pcds(points: np.ndarray) -> Iterator[bytes]:
    rows = np.zeros(len(points), [("p", "<f4", 3), ("c", "<u4")])
    rows["p"], rows["c"] = points, 0xFF8000
    head = (
        "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F U\nCOUNT 1 1 1 1\n"
        f"WIDTH {len(rows)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(rows)}\nDATA "
    )
    yield (head + "binary\n").encode() + rows.tobytes()
    yield (head + "ascii\n" + "".join(f"{x:.4f} {y:.4f} {z:.4f} 0\n" for x, y, z in points.tolist())).encode()
    flat = rows["p"].T.tobytes() + rows["c"].tobytes()
    runs = [flat[at : at + 32] for at in range(0, len(flat), 32)]
    packed = b"".join(bytes([len(run) - 1]) + run for run in runs)
    yield (head + "binary_compressed\n").encode() + struct.pack("<II", len(packed), len(flat)) + packed


def _scans(points: np.ndarray) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.suppress(ImportError):
            import laspy
            import lazrs  # noqa: F401

            header = laspy.LasHeader(point_format=3, version="1.2")
            header.offsets, header.scales = [5e6, 5e5, 0], [0.001] * 3
            las = laspy.LasData(header)
            las.x, las.y, las.z = (points + np.array([5e6, 5e5, 0])).T
            for extension in (".las", ".laz"):
                las.write(f"{folder}/a{extension}")
                found[extension] = [Path(f"{folder}/a{extension}").read_bytes()]
        with contextlib.suppress(ImportError):
            import pye57

            file = pye57.E57(f"{folder}/a.e57", mode="w")
            file.write_scan_raw({f"cartesian{axis}": points[:, k].copy() for k, axis in enumerate("XYZ")})
            file.close()
            found[".e57"] = [Path(f"{folder}/a.e57").read_bytes()]
    return found


def _fields() -> list[bytes]:
    """Return files of a small field that was never trained, and of a tree of it and exact shapes."""
    import torch

    from ocsdf3d.analytic import box, sphere
    from ocsdf3d.checkpoint import save
    from ocsdf3d.field import SDF
    from ocsdf3d.frame import Frame
    from ocsdf3d.geometry import Box
    from ocsdf3d.lipschitz.bound import certify
    from ocsdf3d.lipschitz.network import LipschitzNetwork, NetworkConfig

    network = LipschitzNetwork(NetworkConfig(3, width=4, depth=2), torch.Generator().manual_seed(0))
    words = {"level": 0.0, "support": "solid", "support_reason": "seed", "settings": {"seed": 0}}
    field = SDF.proved(certify(network)[0], Frame(np.zeros(3), 1.0), Box(-np.ones(3), np.ones(3)), **words)
    brick = box((1.0, 0.5, 0.5)).move((0.1, 0.0, 0.0))
    trees = (field, (field | sphere(0.5)) - brick, ~sphere(1.0).offset(0.1))
    with tempfile.TemporaryDirectory() as folder:
        return [save(f"{folder}/{k}{FIELD}", tree).read_bytes() for k, tree in enumerate(trees)]


# ----------------------------------------------------------------------------------------------- mutation


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


def _bent_field(data: bytes, dice: random.Random) -> bytes:
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
    FIELD: _bent_field,
}


# ----------------------------------------------------------------------------------------------- reading


@dataclass(frozen=True)
class Finding:
    """What a reader did that it must not.

    Attributes
    ----------
    kind : str
        `"crash"`, `"hang"` or `"memory"`.
    what : str
        The exception, or how the process ended.
    """

    kind: str
    what: str


def read_one(path: Path, seconds: float) -> Finding | str:
    """Read a file and return what was wrong with that, or `"read"`, `"refused"` or `"unforeseen"`.

    Raises
    ------
    AssertionError
        Two alarms at once: it wants the main thread and nobody else's timer.
    """
    from ocsdf3d import checkpoint
    from ocsdf3d import io as shapes

    def ring(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    assert signal.setitimer(signal.ITIMER_REAL, seconds) == (0.0, 0.0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if path.suffix == FIELD:
                checkpoint.load(path, device="cpu")
            else:
                shapes.read(path)
        return "read"
    except Hang:
        return Finding("hang", f"over {seconds:g} s")
    except (ValueError, OSError) as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, MemoryError):
                return Finding("memory", str(cause) or "MemoryError")
            cause = cause.__cause__
        return "unforeseen" if "not a readable" in str(error) else "refused"
    except MemoryError as error:
        return Finding("memory", str(error) or "MemoryError")
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit) and not isinstance(error, SystemExit):
            raise
        return Finding("crash", f"{type(error).__name__}: {str(error)[:200]}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def limited(megabytes: int) -> None:
    """Forbid this process more address space than it has now and so much."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


@dataclass
class Asked:
    """The options."""

    formats: list[str]
    inputs: int
    seed: int
    hang: float
    memory: int
    out: Path
    first: int = 0


@dataclass
class Count:
    """What came of the inputs of a format."""

    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    slowest: float = 0.0


def _work(asked: Asked, corpus: dict[str, list[bytes]], at: int, board: Any, sender: Any) -> None:
    """Read inputs from `at` on; `board` says in which one this process is."""
    import torch

    from ocsdf3d import checkpoint  # noqa: F401  (loaded before memory is limited)
    from ocsdf3d import io as shapes

    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    for extension, contents in corpus.items():  # what libraries load at first use is no input's fault
        (folder / f"a{extension}").write_bytes(contents[0])
        assert isinstance(read_one(folder / f"a{extension}", 60.0), str), extension
    assert shapes.READABLE
    limited(asked.memory)
    mutate = Mutator(corpus, asked.seed)
    try:
        for turn in range(at, asked.inputs):
            extension, number = place(asked, turn)
            board[:8] = turn.to_bytes(8, "little")
            path = folder / f"a{extension}"
            path.write_bytes(mutate(extension, number))
            begun = time.perf_counter()
            outcome = read_one(path, asked.hang)
            sender.send((turn, outcome, time.perf_counter() - begun))
        sender.send(None)
    finally:
        for left in folder.iterdir():
            left.unlink()
        folder.rmdir()


def place(asked: Asked, turn: int) -> tuple[str, int]:
    """Return format and number of the input of a turn: formats take turns, `BATCH` inputs each."""
    many = len(asked.formats)
    round_, rest = divmod(turn, BATCH * many)
    return asked.formats[rest // BATCH], asked.first + round_ * BATCH + rest % BATCH


def fuzzed(asked: Asked) -> tuple[dict[str, Count], list[tuple[str, int, Finding]]]:
    """Read all inputs; return what came of them for each format, and format and number of what was found."""
    corpus = {extension: contents for extension, contents in seeds().items() if extension in asked.formats}
    asked.formats = list(corpus)
    counts = {extension: Count() for extension in corpus}
    found: list[tuple[str, int, Finding]] = []
    context = get_context("fork")
    turn, told = 0, time.perf_counter()
    while turn < asked.inputs:
        board = mmap.mmap(-1, 8)
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(asked, corpus, turn, board, sender), daemon=True)
        process.start()
        sender.close()
        ended = ""
        while not ended:
            try:
                if not receiver.poll(2.0 * asked.hang + 60.0):
                    ended = "silent"
                    break
                message = receiver.recv()
            except EOFError:
                process.join()
                ended = f"its process ended, {process.exitcode}"
                break
            if message is None:
                turn = asked.inputs
                break
            turn, outcome, seconds = message
            extension, number = place(asked, turn)
            kind = outcome.kind if isinstance(outcome, Finding) else outcome
            counts[extension].outcomes[kind] += 1
            counts[extension].seconds += seconds
            counts[extension].slowest = max(counts[extension].slowest, seconds)
            if isinstance(outcome, Finding):
                found.append((extension, number, outcome))
                say(f"{extension} {number}: {outcome.kind}, {outcome.what}")
            turn += 1
            if time.perf_counter() - told > 30.0:
                told = time.perf_counter()
                say(f"{turn} of {asked.inputs} inputs, {len(found)} findings")
        if ended:
            turn = int.from_bytes(board[:8], "little")
            extension, number = place(asked, turn)
            finding = Finding("hang" if ended == "silent" else "crash", ended)
            say(f"{extension} {number}: {finding.kind}, {ended}")
            counts[extension].outcomes[finding.kind] += 1
            found.append((extension, number, finding))
            turn += 1
        process.kill()
        process.join()
        receiver.close()
    return counts, found


# ----------------------------------------------------------------------------------------------- findings


def _verdict(data: bytes, extension: str, hang: float, memory: int) -> str:
    """Return the kind of finding of a file that is read in a process of its own, or an empty text."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{extension}"
        path.write_bytes(data)
        context = get_context("fork")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_judge, args=(path, hang, memory, sender), daemon=True)
        process.start()
        sender.close()
        try:
            return str(receiver.recv()) if receiver.poll(2.0 * hang + 60.0) else "hang"
        except EOFError:
            return "crash"
        finally:
            process.kill()
            process.join()


def _judge(path: Path, hang: float, memory: int, sender: Any) -> None:
    limited(memory)
    outcome = read_one(path, hang)
    sender.send(outcome.kind if isinstance(outcome, Finding) else "")


def shrunk(data: bytes, wrong: Callable[[bytes], bool], *, tries: int = 400) -> bytes:
    """Return the smallest file found of which `wrong` still holds: ever smaller pieces are left out.

    References
    ----------
    Zeller, Hildebrandt, Simplifying and Isolating Failure-Inducing Input, IEEE TSE 28(2), 2002 (ddmin).
    """
    piece = max(1, len(data) // 2)
    while piece and tries > 0:
        at, before = 0, len(data)
        while at < len(data) and tries > 0:
            shorter = data[:at] + data[at + piece :]
            tries -= 1
            if wrong(shorter):
                data = shorter
            else:
                at += piece
        piece = piece // 2 if len(data) == before or piece > len(data) else piece
    return data


def _kept(asked: Asked, found: Sequence[tuple[str, int, Finding]]) -> None:
    """Write one file a finding, as small as it gets; of findings that look alike only the first five."""
    mutate = Mutator(seeds(), asked.seed)
    alike: Counter[tuple[str, str, str]] = Counter()
    for extension, number, finding in found:
        look = (extension, finding.kind, finding.what[:40])
        alike[look] += 1
        if alike[look] > 5:
            continue
        data = mutate(extension, number)
        if finding.kind != "hang":  # each try would take as long
            kind = finding.kind
            data = shrunk(data, lambda less: _verdict(less, extension, asked.hang, asked.memory) == kind)  # noqa: B023
        name = f"{finding.kind}-{hashlib.sha256(data).hexdigest()[:12]}{extension}"
        with replaced(asked.out / name) as temporary:
            temporary.write_bytes(data)


def table_of(asked: Asked, counts: dict[str, Count], seconds: float) -> str:
    """Return the table."""
    names = ("read", "refused", "unforeseen", "crash", "hang", "memory")
    rows: list[list[object]] = []
    for extension, count in counts.items():
        total = sum(count.outcomes.values())
        rate = total / count.seconds if count.seconds else None
        rows.append([extension, total, *(count.outcomes[name] for name in names), rate, count.slowest])
    sums = [sum(int(str(row[k])) for row in rows) for k in range(1, 2 + len(names))]
    rows.append(["all", *sums, sums[0] / seconds, max((c.slowest for c in counts.values()), default=0.0)])
    head = circumstances(
        ("numpy", "trimesh", "laspy", "lazrs", "pye57", "safetensors", "lxml"),
        seed=asked.seed,
        first=asked.first,
        hang=f"{asked.hang:g} s",
        memory=f"{asked.memory} MB",
    )
    columns = ["format", "inputs", *names, "inputs a second", "slowest [s]"]
    return "\n".join(["# Hostile input", "", head, "", markdown(columns, rows)])


def coverage_guided(asked: Asked) -> None:
    """Hand over to atheris, which does not return.

    Raises
    ------
    ImportError
        It is not installed.
    """
    import atheris

    with atheris.instrument_imports(include=["ocsdf3d.io", "ocsdf3d.checkpoint", "ocsdf3d.container"]):
        from ocsdf3d import checkpoint  # noqa: F401
        from ocsdf3d import io as shapes  # noqa: F401
    corpus, names = seeds(), asked.formats
    mutate = Mutator({extension: corpus[extension] for extension in names if extension in corpus}, asked.seed)
    folder = Path(tempfile.mkdtemp())
    starts = asked.out / "corpus"
    starts.mkdir(parents=True, exist_ok=True)
    kinds = list(mutate.corpus)
    for k, extension in enumerate(kinds):  # the first byte says which format it is
        for j, content in enumerate(mutate.corpus[extension]):
            (starts / f"{k}-{j}").write_bytes(bytes([k]) + content)

    def one(data: bytes) -> None:
        if data:
            path = folder / f"a{kinds[data[0] % len(kinds)]}"
            path.write_bytes(data[1:])
            outcome = read_one(path, asked.hang)
            if isinstance(outcome, Finding):
                raise AssertionError(f"{outcome.kind}: {outcome.what}")

    runs = [f"-runs={asked.inputs}", f"-seed={asked.seed + 1}", f"-rss_limit_mb={asked.memory + 2048}"]
    artifacts = f"-artifact_prefix={asked.out}/"
    atheris.Setup(["fuzz", *runs, artifacts, f"-max_len={LARGEST}", str(starts)], one)
    atheris.Fuzz()


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz; 1 when something was found."""
    parser = argparse.ArgumentParser(prog="python -m ocsdf3d.bench.fuzz", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--inputs", type=int, default=20_000, metavar="N", help="in all (default: %(default)s)")
    add("--formats", nargs="+", metavar="EXT", help="as .ply .npz (default: all)")
    add("--seed", type=int, default=0, metavar="N", help="of all inputs (default: %(default)s)")
    add("--first", type=int, default=0, metavar="N", help="number of each format's first (default: 0)")
    add("--hang", type=float, default=10.0, metavar="S", help="seconds an input may take (default: 10)")
    add("--memory", type=int, default=512, metavar="MB", help="that an input may take (default: %(default)s)")
    add("--out", type=Path, default=Path("bench-results/fuzz"), metavar="DIR", help="(default: %(default)s)")
    add("--coverage", action="store_true", help="let atheris lead (default: draw blindly)")
    given = parser.parse_args(arguments)
    known = [*seeds()]
    unknown = set(given.formats or ()) - set(known)
    if unknown:
        parser.error(f"no format {' '.join(sorted(unknown))}; there are {' '.join(known)}")
    asked = Asked(
        given.formats or known, given.inputs, given.seed, given.hang, given.memory, given.out, given.first
    )
    asked.out.mkdir(parents=True, exist_ok=True)
    if given.coverage:
        try:
            coverage_guided(asked)
        except ImportError as error:
            say(f"--coverage needs atheris ({error}): pip install atheris")
            return 2
    begun = time.perf_counter()
    counts, found = fuzzed(asked)
    text = table_of(asked, counts, time.perf_counter() - begun)
    with replaced(asked.out / "fuzz.md") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    print(text)
    _kept(asked, found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
