"""Images from disk: a folder of PNG and JPEG files, or an array in an NPZ or NPY file.

What does not fit is refused by name and not made to fit: a size, a mode or a broken file that nobody asked to
change stays an error.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ocsdf3d.memory import MemoryShortError, require_memory

__all__ = ["ImageError", "Loaded", "read_images", "read_labels"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
ARRAYS = (".npz", ".npy")
MODES = {1: "L", 3: "RGB"}


class ImageError(ValueError):
    """Images that cannot be read, or do not fit together."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """Images and where they come from.

    Attributes
    ----------
    images : (n, h, w) or (n, h, w, 3) array
        uint8 from files, as stored from an array.
    names : tuple of str
        File names in the folder, or positions in the array.
    skipped : tuple of str
        Files that could not be read and were left out, because that was asked for.
    converted : int
        How many of the files had another size, or other channels, than was asked for.
    ignored : int
        Other files and folders in the folder; hidden ones do not count.
    """

    images: NDArray[np.generic]
    names: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    converted: int = 0
    ignored: int = 0


def read_images(
    path: Path,
    *,
    array: str | None = None,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    skip: bool = False,
) -> Loaded:
    """Return the images of a folder, in the order of their names, or of an array file.

    Parameters
    ----------
    path : path
        A folder of PNG, JPEG, BMP or TIFF files, or an NPZ or NPY file. Gray files of 16 bits are scaled to
        8; pixels of other types, of which no value is said to be white, cannot be read.
    array : str, optional
        Name of the array in an NPZ file; needed where it holds several of the shape of images.
    size : (height, width), optional
        Scale files to it, the middle cut out in its proportions; otherwise all must be of one size.
    channels : int, optional
        1 or 3: convert files to it; otherwise all must have the same.
    skip : bool
        Leave out files that cannot be read, rather than fail.

    Raises
    ------
    ImageError
        Nothing there, a broken file, or sizes or channels that differ; the file is named.
    MemoryShortError
        More of them than memory holds.
    """
    if path.is_dir():
        return _folder(path, size, channels, skip)
    if path.suffix.lower() in ARRAYS:
        found = _arrays(path)
        name = _named(path, found, array, dimensions=(3, 4))
        images = found[name]
        return Loaded(images, tuple(str(number) for number in range(len(images))))
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    raise ImageError(f"{path}: neither a folder of images nor an NPZ or NPY file.")


def read_labels(path: Path, array: str) -> NDArray[np.generic]:
    """Return an array of labels, (n,), of an NPZ file.

    Raises
    ------
    ImageError
        No such array.
    """
    found = _arrays(path)
    return found[_named(path, found, array, dimensions=(1,))]


def _folder(path: Path, size: tuple[int, int] | None, channels: int | None, skip: bool) -> Loaded:
    """Return the images of a folder."""
    there = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    files = sorted(entry for entry in there if entry.suffix.lower() in SUFFIXES)
    if not files:
        raise ImageError(f"{path}: no image in this folder ({', '.join(SUFFIXES)}); an empty class.")
    images: list[NDArray[np.uint8]] = []
    names: list[str] = []
    skipped: list[str] = []
    converted = 0
    for file in files:
        try:
            image, other = _one(file, size, channels)
        except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
            if skip:
                skipped.append(file.name)
                continue
            said = str(error).replace(f"'{file}'", "the file")
            raise ImageError(
                f"{file}: cannot be read ({said}). Repair or remove it, or ask for such files to be skipped."
            ) from error
        if images and image.shape != images[0].shape:
            raise ImageError(
                f"{file}: {_said(image)}, but {names[0]} is {_said(images[0])}. Give a size and channels to"
                " convert them to."
            )
        if not images:
            _refuse_beyond(path, 2 * len(files) * image.nbytes)  # one by one, then side by side
        images.append(image)
        converted += other
        names.append(file.name)
    if not images:
        raise ImageError(f"{path}: none of its {len(files)} images can be read.")
    return Loaded(np.stack(images), tuple(names), tuple(skipped), converted, len(there) - len(files))


def _refuse_beyond(path: Path, needed: int) -> None:
    """Refuse what memory does not hold [bytes]; MemoryShortError."""
    require_memory(needed, f"{path}: reading its images", "Give fewer, or a smaller size to scale files to.")


def _one(file: Path, size: tuple[int, int] | None, channels: int | None) -> tuple[NDArray[np.uint8], bool]:
    """Return one image, (h, w) gray or (h, w, 3), and whether it was of another size or kind before."""
    with Image.open(file) as opened:
        opened.load()
        image = ImageOps.exif_transpose(opened)  # as the camera was held
        if image.mode.startswith("I;16"):  # Pillow would cut them off at 255
            image = Image.fromarray(np.rint(np.asarray(image, np.float64) / 257.0).astype(np.uint8))
        if image.mode in ("I", "F"):
            raise OSError(f"its pixels are of mode {image.mode}, in which no value is said to be white")
        plain = "L" if image.mode in ("1", "L", "LA") else "RGB"
        made = image.convert(MODES[channels] if channels is not None else plain)
        other = made.mode != plain or (size is not None and size != (made.height, made.width))
    if size is not None:
        height, width = size
        scale = max(height / made.height, width / made.width)
        grown = (max(width, round(made.width * scale)), max(height, round(made.height * scale)))
        made = made.resize(grown, Image.Resampling.BOX if scale < 1.0 else Image.Resampling.BILINEAR)
        left, top = (made.width - width) // 2, (made.height - height) // 2
        made = made.crop((left, top, left + width, top + height))
    return np.asarray(made, np.uint8), other


def _arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of a file by their names."""
    try:
        with path.open("rb") as stream:
            found = np.load(stream, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return {path.stem: found}
            _refuse_beyond(path, sum(entry.file_size for entry in found.zip.infolist()))
            return {name: found[name] for name in found.files}
    except MemoryShortError:
        raise
    except (ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise ImageError(f"{path}: not a whole NPZ or NPY file ({error}).") from error


def _named(
    path: Path, found: dict[str, NDArray[np.generic]], array: str | None, dimensions: tuple[int, ...]
) -> str:
    """Return the name of the array that is meant."""
    fitting = [name for name, value in found.items() if value.ndim in dimensions]
    if array is None:
        if len(fitting) != 1:
            there = f"has {', '.join(fitting)}: name one" if fitting else "has none"
            raise ImageError(
                f"{path}: one array of images is expected, (n, h, w) or (n, h, w, c); it {there}."
            )
        return fitting[0]
    if array not in found:
        raise ImageError(f"{path}: no array {array!r}; it has {', '.join(found)}.")
    if array not in fitting:
        raise ImageError(f"{path}: array {array!r} has shape {found[array].shape}, which does not fit here.")
    return array


def _said(image: NDArray[np.uint8]) -> str:
    return f"{image.shape[0]} × {image.shape[1]} {'gray' if image.ndim == 2 else 'colour'}"
