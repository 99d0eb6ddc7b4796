"""`--checkpoint` and `--resume`: a training that is kept on disk while it goes on, of whatever kind."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import Any

from . import outputs
from .console import fail, note
from .options import number

TERMINATED = 143  # exit code: 128 + SIGTERM


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add `--checkpoint`, `--checkpoint-every` and `--resume`."""
    add = parser.add_argument
    add(
        "--checkpoint",
        metavar="FILE",
        help="keep the training in this file, .safetensors, so that it can be resumed (default: not kept)",
    )
    add(
        "--checkpoint-every",
        type=number,
        default=30.0,
        metavar="S",
        help="seconds between two writings of it (default: %(default)s)",
    )
    add(
        "--resume",
        action="store_true",
        help="go on from --checkpoint, to the same result, if the file is there (default: begin anew)",
    )


def checked(args: argparse.Namespace, taken: Sequence[str]) -> bool:
    """Return False, and say so, where there is nothing to resume from; refuse what cannot be written.

    What becomes of a checkpoint that is there, or is not, is said as well.

    Parameters
    ----------
    args : argparse.Namespace
        With the options above.
    taken : sequence of str
        Files that the verb reads or writes otherwise.

    Raises
    ------
    ValueError or OSError
        As of `outputs.check`.
    """
    if args.checkpoint is None:
        if args.resume:
            fail("--resume goes on from --checkpoint FILE; name the file")
        return not args.resume
    there = os.path.exists(args.checkpoint)
    if args.resume and there:
        from ocsdf3d import io

        io.check_writable(args.checkpoint, outputs.FIELD_EXTENSIONS)
    else:
        outputs.check(args.checkpoint, inputs=taken, extensions=outputs.FIELD_EXTENSIONS)
    if args.resume and not there:
        note(f"{args.checkpoint} is not there yet: training begins", quiet=args.quiet)
    return True


def tell(args: argparse.Namespace, history: Mapping[str, Any], *, terminated: bool) -> None:
    """Say from where a training went on, or that it was terminated."""
    if terminated:
        fail(f"terminated after {history['steps']} steps; --resume goes on from {args.checkpoint}")
    elif "resumed" in history:
        note(f"went on from step {history['resumed']} of {args.checkpoint}", quiet=args.quiet)
