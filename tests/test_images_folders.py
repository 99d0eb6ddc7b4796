"""Reading images: what is there comes as it is, and what does not fit is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ocsdf3d.images.folders import ImageError, read_images, read_labels
from ocsdf3d.memory import MemoryShortError


def write(path: Path, shape: tuple[int, ...], value: int = 100) -> None:
    Image.fromarray(np.full(shape, value, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "cats"
    found.mkdir()
    for number in range(3):
        write(found / f"{number}.png", (6, 8), 50 * number)
    (found / "notes.txt").write_text("not an image")
    return found


def test_a_folder_comes_in_the_order_of_names(folder: Path) -> None:
    loaded = read_images(folder)
    assert loaded.images.shape == (3, 6, 8)
    assert loaded.images[:, 0, 0].tolist() == [0, 50, 100]
    assert loaded.names == ("0.png", "1.png", "2.png")


def test_sizes_and_channels_are_converted_when_asked(folder: Path) -> None:
    write(folder / "3.jpg", (12, 12, 3), 150)
    loaded = read_images(folder, size=(4, 4), channels=1)
    assert loaded.images.shape == (4, 4, 4)
    assert loaded.images[3] == pytest.approx(150, abs=2)
    assert read_images(folder, size=(9, 5), channels=3).images.shape == (4, 9, 5, 3)


def test_what_is_no_image_is_counted(folder: Path) -> None:
    assert read_images(folder).ignored == 1
    (folder / ".hidden").write_text("none")
    (folder / "more").mkdir()
    found = read_images(folder)
    assert found.ignored == 2
    assert len(found.images) == 3


def test_the_middle_is_cut_out(tmp_path: Path) -> None:
    image = np.zeros((4, 12), np.uint8)
    image[:, 4:8] = 200
    Image.fromarray(image).save(tmp_path / "wide.png")
    assert (read_images(tmp_path, size=(4, 4)).images == 200).all()


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((7, 8), "3.png: 7 × 8 gray, but 0.png is 6 × 8 gray. Give a size"),
        ((6, 8, 3), "3.png: 6 × 8 colour, but 0.png is 6 × 8 gray"),
    ],
)
def test_mixed_sizes_and_channels_are_named(folder: Path, shape: Any, said: str) -> None:
    write(folder / "3.png", shape)
    with pytest.raises(ImageError, match=said):
        read_images(folder)


@pytest.mark.parametrize("kept", [40, 0])
def test_a_broken_file_is_named_and_skipped_only_when_asked(folder: Path, kept: int) -> None:
    write(folder / "3.png", (6, 8))
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:kept])
    with pytest.raises(ImageError, match=r"3\.png: cannot be read .* skipped"):
        read_images(folder)
    loaded = read_images(folder, skip=True)
    assert len(loaded.images) == 3
    assert loaded.skipped == ("3.png",)
    for number in range(3):
        (folder / f"{number}.png").unlink()
    with pytest.raises(ImageError, match="none of its 1 images can be read"):
        read_images(folder, skip=True)


def test_a_photo_stands_as_the_camera_was_held(tmp_path: Path) -> None:
    pixels = np.zeros((4, 8), np.uint8)
    pixels[:, :4] = 200
    marks = Image.Exif()
    marks[0x0112] = 6  # turn by a quarter to show
    Image.fromarray(pixels).save(tmp_path / "0.png", exif=marks)
    found = read_images(tmp_path).images
    assert found.shape == (1, 8, 4)
    assert (found[0, :4] == 200).all()


def test_images_that_memory_does_not_hold_are_refused_beforehand(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = np.zeros((3, 6, 8), np.uint8)
    np.savez_compressed(tmp_path / "set.npz", X=X, y=np.arange(3))
    for path, needed in ((folder, 2 * X.nbytes), (tmp_path / "set.npz", X.nbytes + 24 + 2 * 128)):
        monkeypatch.setattr("ocsdf3d.memory.free_memory", lambda needed=needed: needed)
        assert read_images(path).images.shape == X.shape
        monkeypatch.setattr("ocsdf3d.memory.free_memory", lambda needed=needed: needed - 1)
        with pytest.raises(
            MemoryShortError, match=r"reading its images needs about \S+ GB, \S+ GB are free\. Give"
        ):
            read_images(path)


def test_sixteen_bits_are_scaled_and_ranges_that_nobody_knows_refused(tmp_path: Path) -> None:
    """Pillow's own conversion makes everything above 255 white."""
    deep = np.array([[0, 257, 4096], [32767, 65278, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_images(tmp_path).images, [[[0, 1, 16], [127, 254, 255]]])
    assert read_images(tmp_path, channels=3).images[0, 1, 2].tolist() == [255, 255, 255]
    Image.fromarray(deep.astype(np.float32)).save(tmp_path / "b.png", format="TIFF")
    with pytest.raises(ImageError, match=r"b.png: cannot be read \(its pixels are of mode F"):
        read_images(tmp_path)
    assert read_images(tmp_path, skip=True).skipped == ("b.png",)


def test_an_empty_class_is_said(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no image in this folder .* an empty class"):
        read_images(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        read_images(tmp_path / "dogs")
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(ImageError, match="neither a folder of images nor"):
        read_images(tmp_path / "a.txt")


def test_arrays_are_found_by_name(tmp_path: Path) -> None:
    X = np.arange(48, dtype=np.uint8).reshape(3, 4, 4)
    path = tmp_path / "set.npz"
    np.savez(path, X=X, y=np.arange(3))
    np.testing.assert_array_equal(read_images(path).images, X)
    np.testing.assert_array_equal(read_labels(path, "y"), np.arange(3))
    np.save(tmp_path / "set.npy", X)
    np.testing.assert_array_equal(read_images(tmp_path / "set.npy").images, X)
    np.savez(path, X=X, Z=X)
    np.testing.assert_array_equal(read_images(path, array="Z").images, X)


@pytest.mark.parametrize(
    ("array", "said"),
    [(None, "has X, Z: name one"), ("W", "no array 'W'; it has X, Z, y"), ("y", r"shape \(3,\), which does")],
)
def test_arrays_that_are_not_meant_are_refused(tmp_path: Path, array: str | None, said: str) -> None:
    X = np.zeros((3, 4, 4), np.uint8)
    np.savez(tmp_path / "set.npz", X=X, Z=X, y=np.arange(3))
    with pytest.raises(ImageError, match=said):
        read_images(tmp_path / "set.npz", array=array)


@pytest.mark.parametrize("name", ["cut.npz", "cut.npy"])
def test_a_cut_array_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04 nothing more")
    with pytest.raises(ImageError, match=rf"{name}: not a whole NPZ or NPY file"):
        read_images(tmp_path / name)
