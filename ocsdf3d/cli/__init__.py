"""The command line: verb, input, options; one file a verb.

`main` parses, runs the verb and turns whatever happened into an exit code: 0 done, 1 failed, 2 misuse, 130
stopped by Ctrl-C. Results go to stdout, everything else to stderr, one line a message. This package and the
heads of the verb files import the standard library only, so that `--help` and `--version` answer at once; the
numerics load in `run`.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from . import (
    batch,
    bench,
    curves,
    doctor,
    evaluate,
    images,
    info,
    measure,
    mesh,
    oneclass,
    query,
    reconstruct,
    slice,
    tiles,
    view,
)
from .console import describe, fail, one_line_warnings
from .options import MISUSE, Parser, Version

DONE, FAILED, STOPPED = 0, 1, 130
VERBS = (
    reconstruct,
    batch,
    tiles,
    view,
    mesh,
    evaluate,
    info,
    query,
    measure,
    slice,
    curves,
    oneclass,
    images,
    bench,
    doctor,
)


def build_parser() -> Parser:
    """Parser of all verbs; `run` in its result is the verb's function."""
    parser = Parser(
        prog="ocsdf3d",
        description="Points or a mesh in; a closed mesh and a certified signed distance function out.",
        epilog="`ocsdf3d VERB --help` shows the options of a verb, with defaults and units.",
    )
    parser.add_argument("--version", action=Version, help="show the version and exit")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True, parser_class=Parser)
    for verb in VERBS:
        verb.add_parser(verbs)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments after the program's name; those of the process when None.

    Returns
    -------
    int
        0 done (also when Ctrl-C ended the training early and its result was written), 1 failed, 2 misuse,
        130 stopped by Ctrl-C with nothing written, or a batch with shapes or tiles left.
    """
    # GNU OpenMP spins between parallel regions, which on a busy machine slows training 10–30 times. Read when
    # torch loads; at 1000 a step takes 14 ms instead of 12 on idle cores, and 32 instead of 600 on busy ones.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        code = _run(argv)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has gone; whatever was written to files stays
        _discard_output()
        return FAILED
    return code


def _run(argv: Sequence[str] | None) -> int:
    try:
        args = build_parser().parse_args(argv)
    except SystemExit as end:  # argparse has already spoken: help (0) or misuse (2)
        return end.code if isinstance(end.code, int) else MISUSE
    try:
        with one_line_warnings():
            return int(args.run(args))
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        fail("interrupted; nothing was written")
        return STOPPED
    except Exception as error:  # every failure ends as one line and an exit code
        if args.verbose:
            traceback.print_exc()
        fail(describe(error, traceback_shown=args.verbose))
        return FAILED


def _discard_output() -> None:
    """Point stdout at nothing, so that the interpreter's last flush does not fail on the closed pipe."""
    try:
        descriptor = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):  # stdout replaced by an object without a file
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
