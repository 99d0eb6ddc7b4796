"""What the steps of `ocsdf3d oneclass` are given: a table, which of its columns count, a detector."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import outputs

if TYPE_CHECKING:
    from ocsdf3d.oneclass.estimator import OneClassSDF
    from ocsdf3d.oneclass.tables import Table

DELIMITERS = ("auto", "comma", "semicolon", "tab", "bar", "space")
HEADERS = ("auto", "yes", "no")
DETECTOR_EXTENSIONS = (".safetensors",)
TABLE = "table: CSV TSV TXT, NPZ with X (as ADBench's), NPY, Parquet (needs pandas and pyarrow)"


def add_table(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how a table is read, and which of its columns are left out."""
    parser.add_argument(
        "--drop",
        nargs="+",
        action="extend",
        default=[],
        metavar="COLUMN",
        help="columns to leave out: names, or numbers from 1 where there are none (default: none)",
    )
    parser.add_argument(
        "--delimiter",
        choices=DELIMITERS,
        default="auto",
        help="of text; auto takes the one that cuts the first lines evenly (default: %(default)s)",
    )
    parser.add_argument(
        "--header",
        choices=HEADERS,
        default="auto",
        help="whether the first line of text holds names; auto: if none of its cells is a number"
        " (default: %(default)s)",
    )


def add_detector(parser: argparse.ArgumentParser) -> None:
    """Add the detector and the table that it is to judge."""
    parser.add_argument("detector", metavar="DETECTOR", help="file written by `ocsdf3d oneclass fit`")
    parser.add_argument("table", metavar="DATA", help=TABLE)


def add_normal(parser: argparse.ArgumentParser, default: str) -> None:
    """Add `--normal`, whose `default` the step explains."""
    parser.add_argument(
        "--normal",
        metavar="VALUE",
        help=f"label of normal rows, all others are anomalies (default: {default})",
    )


def table(args: argparse.Namespace) -> Table:
    """Return the whole table of `args.table`."""
    from ocsdf3d.oneclass.tables import read_table

    return read_table(args.table, delimiter=args.delimiter, header=args.header)


def opened(args: argparse.Namespace, rest: Table, beside: Sequence[str] = ()) -> tuple[OneClassSDF, Any]:
    """Return the detector, and the rows of a table that holds no other columns than those to judge.

    Columns `beside` them are left out as well, unless the detector knows them.
    """
    from ocsdf3d.oneclass import load

    detector = load(args.detector)
    rows = rest.features_for(detector, beside)
    if detector.columns_ is None and hasattr(detector, "feature_names_in_"):
        del detector.feature_names_in_  # compared just now; scikit-learn would warn that an array has none
    return detector, rows


def check_inputs(args: argparse.Namespace) -> list[str]:
    """Return the files that the step reads, once they are there."""
    found = [args.table] if not hasattr(args, "detector") else [args.detector, args.table]
    for name in found:
        outputs.check_input(name)
    return found


def certified_line(detector: OneClassSDF) -> str:
    """Say for people what is proved of a detector."""
    claim = detector.certificate_
    return (
        f"certified: Lipschitz bound {claim.lipschitz:.9f}, rounding {claim.rounding * detector.unit_:.2g}"
        f" standard deviations ({claim.basis}, {claim.dtype})"
    )
