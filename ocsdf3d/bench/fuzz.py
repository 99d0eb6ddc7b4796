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
import hashlib
import mmap
import os
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ocsdf3d.bench import circumstances, markdown, replaced, say
from ocsdf3d.bench.mutation import LARGEST, Mutator
from ocsdf3d.bench.seed_files import FIELD, seeds

__all__ = ["Finding", "main", "read_one", "shrunk"]

BATCH = 200  # inputs of a format before the next one has its turn


class Hang(BaseException):
    """An input took too long; no `Exception`, so that no reader takes it for its own."""


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
