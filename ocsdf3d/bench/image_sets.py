"""Labelled images to measure detectors on: three known sets, or a folder of anybody's."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ocsdf3d.bench import data_folder
from ocsdf3d.images.folders import ImageError, read_images

__all__ = ["SETS", "Dataset", "dataset"]

SETS = {
    "mnist": "mnist.npz",
    "fashion": "fashion_mnist_subset.npz",
    "cifar10": "cifar10_subset.npz",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images.

    Attributes
    ----------
    name : str
    train, test : (n, h, w[, c]) arrays
        uint8.
    y_train, y_test : (n,) arrays
        Numbers of classes.
    classes : tuple of str
        Their names.
    remark : str
        What a reader of a table has to know of the set beside its counts; empty for nothing.
    """

    name: str
    train: NDArray[np.uint8]
    y_train: NDArray[np.int64]
    test: NDArray[np.uint8]
    y_test: NDArray[np.int64]
    classes: tuple[str, ...]
    remark: str = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        height, width, *channels = self.train.shape[1:]
        return height, width, channels[0] if channels else 1

    @property
    def sized(self) -> str:
        """The shape in a word, as in 28x28x1."""
        return "x".join(map(str, self.shape))

    def counted(self) -> str:
        """Say how many images there are to learn a class and to test it."""
        learnt, own = (np.bincount(y, minlength=len(self.classes)) for y in (self.y_train, self.y_test))
        total = len(self.test)
        return (
            f"- images: {_span(learnt)} to learn of each class; to test {_span(own)} of it against"
            f" {_span(total - own)} others" + (f"; {self.remark}" if self.remark else "")
        )


def dataset(name: str, size: tuple[int, int] | None = None, channels: int | None = None) -> Dataset:
    """Return a set of `SETS`, or that of a folder with `train/CLASS` and `test/CLASS` in it.

    Parameters
    ----------
    name : str
        Of a set, or a path.
    size, channels
        To convert the files of a folder to, see `folders.read_images`.

    Raises
    ------
    FileNotFoundError
        There is no such set or folder.
    ImageError
        Its images do not fit together, or a class has none to test on.
    """
    if name in SETS:
        return _known(name)
    root = Path(name)
    if not root.is_dir():
        raise FileNotFoundError(f"{name}: neither one of {', '.join(SETS)} nor a folder.")
    classes = sorted(path.name for path in (root / "train").glob("*/"))
    if len(classes) < 2:
        raise ImageError(f"{root}: two folders or more are expected in {root / 'train'}, one a class.")
    parts = []
    for half in ("train", "test"):
        images = [read_images(root / half / found, size=size, channels=channels).images for found in classes]
        if len({found.shape[1:] for found in images}) > 1:
            raise ImageError(f"{root / half}: classes differ in size or channels; give a size and channels.")
        parts.append((np.concatenate(images), np.repeat(np.arange(len(images)), [len(i) for i in images])))
    (train, y_train), (test, y_test) = parts
    if train.shape[1:] != test.shape[1:]:
        raise ImageError(f"{root}: train and test differ in size or channels; give a size and channels.")
    return Dataset(root.name, train.astype(np.uint8), y_train, test.astype(np.uint8), y_test, tuple(classes))


def _known(name: str) -> Dataset:
    """Return a set of `SETS`."""
    with np.load(data_folder() / "images" / SETS[name]) as found:
        learnt, tested = (found[key].astype(np.int64) for key in ("y_train", "y_test"))
        names = (
            [str(word) for word in found["class_names"]]
            if "class_names" in found
            else list(map(str, range(int(learnt.max()) + 1)))
        )
        remark = "a part of the set" if "index_train" in found else ""
        if "test_is_official" in found:
            official = int(found["test_is_official"].sum())
            remark += f", {official} of the {len(tested)} test images from its test half"
        return Dataset(name, found["X_train"], learnt, found["X_test"], tested, tuple(names), remark)


def _span(counts: NDArray[np.int64]) -> str:
    low, high = int(counts.min()), int(counts.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
