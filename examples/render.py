"""Redraw the gallery: run the examples, each of which writes one picture into `assets/gallery/`.

The kitten is trained once and handed on; the examples of the outliers, the table and the images train on
their own. About six minutes on one core; `--fast` draws drafts in two, into the folder that `-o` names.
Numbers choose: `python examples/render.py 02 04`.
"""

from __future__ import annotations

import argparse
import runpy
import sys
import tempfile
import time
from pathlib import Path

import ocsdf3d as oc
from ocsdf3d.viewer.probe import require_rendering

HERE = Path(__file__).resolve().parent
EXAMPLES = sorted(HERE.glob("[0-9][0-9]_*.py"))
OWN_ROWS = {"06_outliers", "07_oneclass", "08_images"}  # a field of the clean kitten would be another story


def main(argv: list[str] | None = None) -> int:
    """Train, then run every example that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("numbers", nargs="*", help="which, as 02 04; all unless given")
    parser.add_argument("--fast", action="store_true", help="drafts, see the examples")
    parser.add_argument("-o", "--output", type=Path, help="folder of the pictures; the gallery unless given")
    args = parser.parse_args(argv)
    chosen = [path for path in EXAMPLES if not args.numbers or path.name[:2] in args.numbers]
    unknown = set(args.numbers) - {path.name[:2] for path in EXAMPLES}
    if unknown:
        parser.error(f"no example {', '.join(sorted(unknown))}; there are 01 to {len(EXAMPLES):02}")
    if args.fast and args.output is None:
        parser.error("--fast draws drafts: name their folder with -o.")
    try:
        require_rendering()
    except oc.RenderingError as error:
        print(error, file=sys.stderr)
        return 1

    given = ["--fast"] if args.fast else []
    given += ["-o", str(args.output)] if args.output else []
    with tempfile.TemporaryDirectory() as scratch:
        field = Path(scratch) / "kitten.safetensors"
        if any(path.stem not in OWN_ROWS for path in chosen):
            settings = {"preset": "fast", "points": 1000} if args.fast else {}  # as the examples would
            oc.save(field, oc.fit(HERE.parent / "assets" / "kitten.xyz", seed=0, **settings))
        for path in chosen:
            begun = time.perf_counter()
            shared = [] if path.stem in OWN_ROWS else ["--field", str(field)]
            example = runpy.run_path(str(path))
            example["main"]([*given, *shared])
            print(f"{path.name} drew {example['PICTURE']} in {time.perf_counter() - begun:.0f} s\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
