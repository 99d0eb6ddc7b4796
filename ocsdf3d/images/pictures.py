"""Many images on one sheet, as PNG: a grid of them, and heat maps in two colours.

Only pillow is needed.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

__all__ = ["coloured", "png", "sheet"]

Bytes = NDArray[np.uint8]

GAP, GAP_COLOUR = 2, 128


def sheet(images: ArrayLike, columns: int, *, zoom: int = 1) -> Bytes:
    """Return one picture, (H, W, 3) uint8, of images row by row with gaps between them.

    Parameters
    ----------
    images : (n, h, w) or (n, h, w, c) array_like
        uint8 or floating in [0, 1]; c of 1, 3, or 4, of which the last is left out.
    columns : int
        Images in a row.
    zoom : int
        Pixels a pixel.

    Raises
    ------
    ValueError
        No images, or no columns.
    """
    array = np.asarray(images)
    if array.ndim not in (3, 4) or len(array) == 0 or columns < 1:
        raise ValueError(
            f"`images` must be (n, h, w[, c]) and `columns` at least 1; got {array.shape}, {columns}."
        )
    array = array[..., None] if array.ndim == 3 else array[..., :3]
    if array.dtype != np.uint8:
        array = np.rint(255.0 * np.clip(array, 0.0, 1.0)).astype(np.uint8)
    array = np.broadcast_to(array, (*array.shape[:3], 3)).repeat(zoom, axis=1).repeat(zoom, axis=2)
    height, width = array.shape[1] + GAP, array.shape[2] + GAP
    rows = -(-len(array) // columns)
    out = np.full((rows * height + GAP, columns * width + GAP, 3), GAP_COLOUR, np.uint8)
    for number, image in enumerate(array):
        top, left = GAP + number // columns * height, GAP + number % columns * width
        out[top : top + height - GAP, left : left + width - GAP] = image
    return out


def coloured(heat: ArrayLike, *, alike: bool = False) -> NDArray[np.float64]:
    """Return heat maps (n, h, w) as colours (n, h, w, 3) in [0, 1]: red above 0, blue below, white at 0.

    Each map has a scale of its own, or with `alike` all have one: the largest size is the full colour.
    """
    values = np.asarray(heat, np.float64)
    most = np.abs(values).reshape(len(values), -1).max(axis=1, initial=1e-12)
    share = values / (most.max(initial=1e-12) if alike else most[:, None, None])
    red, blue = np.clip(1.0 + share, 0.0, 1.0), np.clip(1.0 - share, 0.0, 1.0)
    return np.stack([red, np.minimum(red, blue), blue], axis=-1)


def png(picture: Bytes) -> bytes:
    """Return a picture, (H, W, 3), as the bytes of a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="PNG")
    return stream.getvalue()
