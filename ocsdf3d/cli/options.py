"""Parser and option types shared by the verbs: a value that cannot be right is misuse, one line, exit 2."""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from .console import printable

DEVICES = ("auto", "cpu", "cuda")
SUPPORTS = ("auto", "solid", "shell")
PRESETS = ("fast", "default", "best", "paper")
MISUSE = 2  # exit code


class Parser(argparse.ArgumentParser):
    """Argument parser that reports misuse in one line and takes `-1e-3` for a value."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})
        # the stock pattern knows no exponents, so `--offset -1e-3` would read as an unknown option
        self._negative_number_matcher = re.compile(r"^-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")

    def print_help(self, file: Any = None) -> None:
        print(printable(self.format_help()), end="", file=file)

    def error(self, message: str) -> NoReturn:
        self.exit(MISUSE, f"ocsdf3d: error: {' '.join(message.split())} (see `{self.prog} --help`)\n")


class Version(argparse.Action):
    """Print the version; the package is asked only when the option is given."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest=argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from ocsdf3d import __version__

        print(f"ocsdf3d {__version__}")
        parser.exit(0)


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Option type: a whole number from `least` to `most`."""
    wanted = (
        f"a whole number of at least {least}" if most is None else f"a whole number from {least} to {most}"
    )

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected {wanted}, got {text!r}") from None
        if value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"expected {wanted}, got {text}")
        return value

    return convert


def number(text: str) -> float:
    """Option type: a finite number."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"expected a finite number, got {text}")
    return value


def positive(text: str) -> float:
    """Option type: a finite number above 0."""
    value = number(text)
    if value <= 0.0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def contamination(text: str) -> float:
    """Option type: the share of rows or images to call outliers."""
    value = number(text)
    if not 0.0 < value <= 0.5:
        raise argparse.ArgumentTypeError(f"expected a share above 0 and at most 0.5, got {text}")
    return value


def add_seed(parser: argparse.ArgumentParser, most: int = 2**63 - 1) -> None:
    """Add `--seed`, from 0 to `most`."""
    parser.add_argument(
        "--seed",
        type=whole(0, most),
        default=0,
        metavar="N",
        help="seed of every random draw; same seed on the CPU, same result (default: %(default)s)",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add `--device`."""
    parser.add_argument(
        "--device",
        choices=DEVICES,
        default="auto",
        help="where the network is computed; auto takes CUDA when there is one (default: %(default)s)",
    )


def add_fit(parser: argparse.ArgumentParser) -> None:
    """Add what `pipeline.fit` is told, and `--resolution`."""
    parser.add_argument(
        "--points",
        type=whole(16),
        metavar="N",
        help="points: a mesh is sampled to N, a cloud thinned to N (default: 2048 on a mesh, all of a cloud)",
    )
    parser.add_argument(
        "--level",
        type=number,
        metavar="C",
        help="iso-level c of f in the unit frame (default: from f's values on the points)",
    )
    add_learning(parser)


def add_learning(parser: argparse.ArgumentParser) -> None:
    """Add what also holds of the parts of a larger scan, and `--resolution`."""
    parser.add_argument(
        "--support",
        choices=SUPPORTS,
        default="auto",
        help="solid: the points bound a body; shell: they lie on an open surface, which becomes a skin with"
        " two sheets; auto decides and says why (default: %(default)s)",
    )
    add_resolution(parser)
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        default="default",
        help="network, optimiser and schedule (default: %(default)s)",
    )
    parser.add_argument(
        "--margin",
        type=positive,
        metavar="M",
        help="margin m of the loss, in the unit frame (default: the preset's)",
    )
    parser.add_argument(
        "--lam",
        type=positive,
        metavar="L",
        help="weight λ of the hinge in the loss, no unit (default: the preset's)",
    )
    parser.add_argument(
        "--no-smooth",
        dest="smooth",
        action="store_false",
        help="keep every point where it is (default: a cloud in which noise is seen is smoothed)",
    )
    add_device(parser)
    add_seed(parser)


def add_where(parser: argparse.ArgumentParser) -> None:
    """Add `--workers` and `--scheduler`, where a batch is done."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--workers",
        type=whole(1),
        metavar="N",
        help="processes on this machine, by the extra `distributed`; 1 is this process and needs no extra"
        " (default: one a core)",
    )
    where.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="of a running Dask cluster that sees the same files, as tcp://host:8786 (default: none)",
    )


def cores() -> int:
    """Cores that this process may use: the default of `--workers`."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def add_resolution(parser: argparse.ArgumentParser) -> None:
    """Add `--resolution`, of the grid that is meshed."""
    parser.add_argument(
        "--resolution",
        type=whole(2),
        default=200,
        metavar="N",
        help="grid nodes along the longest side (default: %(default)s)",
    )


def add_complete(parser: argparse.ArgumentParser) -> None:
    """Add `--complete`."""
    parser.add_argument(
        "--complete",
        type=positive,
        metavar="EPS",
        help="double the resolution until it is proved that no piece of the surface larger than EPS was"
        " missed, in world units (default: keep --resolution)",
    )


def add_dtype(parser: argparse.ArgumentParser) -> None:
    """Add `--dtype`."""
    parser.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        help="arithmetic of networks: the rounding allowance of float64 is proved, that of float32 measured;"
        " float64 takes about twice as long (default: as saved)",
    )


def add_reporting(parser: argparse.ArgumentParser) -> None:
    """Add `--json`, `-q` and `-v`."""
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object on stdout (default: a short text)"
    )
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument(
        "-q",
        "--quiet",
        action="store_true",
        help="on stderr warnings and errors only (default: notes and progress too)",
    )
    loudness.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="traceback of an error; progress in plain lines where stderr is no terminal (default: neither)",
    )
