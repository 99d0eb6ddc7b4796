"""What the steps of `ocsdf3d images` are given: a folder or an array of images, its labels, a detector."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import outputs
from ..console import note, warn
from ..options import whole

if TYPE_CHECKING:
    from ocsdf3d.images.estimator import OneClassImageSDF
    from ocsdf3d.images.folders import Loaded

DETECTOR_EXTENSIONS = (".safetensors",)
SOURCE = "folder of PNG, JPEG, BMP or TIFF files, or NPZ or NPY with an array (n, h, w) or (n, h, w, c)"


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how images are read."""
    add = parser.add_argument
    add("--array", metavar="NAME", help="array of images in an NPZ (default: the only one)")
    add("--labels", metavar="NAME", help="array of labels in the NPZ (default: none)")
    add("--class", dest="own", metavar="VALUE", help="label of the class, with --labels")
    add(
        "--size",
        nargs=2,
        type=whole(1),
        metavar=("H", "W"),
        help="scale files to so many pixels, middle cut out (default: the detector's; to learn, all alike)",
    )
    add(
        "--channels",
        type=int,
        choices=(1, 3),
        help="convert files to gray or colour (default: as of the detector; to learn, all must be alike)",
    )
    add("--skip-broken", action="store_true", help="leave out files that cannot be read (default: fail)")


def add_detector(parser: argparse.ArgumentParser) -> None:
    """Add the detector."""
    parser.add_argument("detector", metavar="DETECTOR", help="file written by `ocsdf3d images fit`")


def check_inputs(args: argparse.Namespace) -> list[str]:
    """Return the paths that the step reads, once they are there."""
    if getattr(args, "detector", None) is not None:
        outputs.check_input(args.detector)
    names = [getattr(args, name, None) for name in ("detector", "images", "others")]
    found = [name for name in names if name is not None]
    for name in found:
        if not Path(name).exists():
            raise FileNotFoundError(f"{name}: no such file or folder")
    if (getattr(args, "labels", None) is None) != (getattr(args, "own", None) is None):
        raise ValueError("--labels and --class belong together: an array of labels, and one of them.")
    return found


def read(args: argparse.Namespace, source: str, detector: OneClassImageSDF | None = None) -> Loaded:
    """Return all images of a source, files as a detector has learnt them; what was skipped is said."""
    from ocsdf3d.images.folders import read_images

    size = None if args.size is None else (args.size[0], args.size[1])
    channels = args.channels
    if detector is not None:
        height, width, *colours = detector.shape_
        size = (height, width) if size is None else size
        if channels is None and colours in ([], [1], [3]):  # files have no other number
            channels = colours[0] if colours else 1
    array = None if Path(source).is_dir() else args.array
    loaded = read_images(Path(source), array=array, size=size, channels=channels, skip=args.skip_broken)
    if detector is not None and loaded.converted and (args.size is None or args.channels is None):
        shape = " × ".join(map(str, detector.shape_))
        note(
            f"{source}: {loaded.converted} of {len(loaded.images)} images were brought to {shape}, as learnt",
            quiet=args.quiet,
        )
    if loaded.ignored:
        note(f"{source}: left out what is no image, {loaded.ignored} in all", quiet=args.quiet)
    for name in loaded.skipped:
        warn(f"{source}: {name} cannot be read and was skipped")
    return loaded


def of_class(args: argparse.Namespace, loaded: Loaded) -> Any:
    """Return for each image of `args.images` whether it is of the class, (n,); all are without `--labels`."""
    import numpy as np

    from ocsdf3d.images.folders import ImageError, read_labels

    count = len(loaded.images)
    if args.labels is None:
        return np.ones(count, bool)
    labels = read_labels(Path(args.images), args.labels)
    if len(labels) != count:
        raise ImageError(f"{args.images}: {len(labels)} labels for {count} images.")
    own = labels.astype(str) == args.own
    if not own.any():
        there = ", ".join(np.unique(labels).astype(str)[:20])
        raise ImageError(
            f"{args.images}: no label {args.own!r} in {args.labels}, an empty class; there are {there}."
        )
    return own


def certified_line(detector: OneClassImageSDF) -> str:
    """Say for people what is proved of a detector."""
    claim = detector.certificate_
    return (
        f"certified: Lipschitz bound {claim.lipschitz:.9f}, rounding {claim.rounding * detector.unit_:.2g}"
        f" of a pixel's range ({claim.basis}, {claim.dtype})"
    )
