"""Seeds Q₀ of images, none of which is an image of another class: noise, and the class's own images spoilt.

Uniform noise lies so far from images that a 1-Lipschitz function tells it by brightness alone; what is learnt
then says little of other objects. Negative data augmentation takes the class's own images and breaks what
makes them its own: the strokes stay, their arrangement goes. No label is needed.

References
----------
Béthune et al., OCSDF, ICML 2023, section 6 (priors for the complementary distribution). Sinha et al.,
Negative data augmentation, ICLR 2021. Li et al., CutPaste, CVPR 2021. Simard, Steinkraus, Platt, ICDAR 2003
(elastic deformations). Perlin, An image synthesizer, SIGGRAPH 1985.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

__all__ = ["NEGATIVES", "seeds_of"]

Spoil = Callable[[torch.Tensor, torch.Tensor, torch.Generator], torch.Tensor]

COARSE = 7  # cells of low-frequency noise along a side
CELLS, STRETCH = 5, 0.15  # of the elastic field: control points along a side, spread [half the image's side]
LEAST, MOST = 0.28, 0.7  # side of a pasted rectangle [the image's]


def _uniform(shape: Sequence[int], like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return draws from [0, 1) of the dtype and on the device of another tensor."""
    return torch.rand(tuple(shape), generator=generator, dtype=like.dtype, device=like.device)


def _normal(shape: Sequence[int], like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return normal draws of the dtype and on the device of another tensor."""
    return torch.randn(tuple(shape), generator=generator, dtype=like.dtype, device=like.device)


def uniform(images: torch.Tensor, _: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return uniform noise on [0, 1] of the shape of `images`, (n, h, w, c): the paper's Q₀."""
    return _uniform(images.shape, images, generator)


def corners(images: torch.Tensor, _: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return corners of [0, 1]^d: black or white pixels, as far apart as images can be."""
    return uniform(images, _, generator).round()


def low_frequency(images: torch.Tensor, _: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return low-frequency noise, black where it is negative: 7 × 7 Gaussian values, bicubic between."""
    n, height, width, channels = images.shape
    coarse = _normal((n, channels, COARSE, COARSE), images, generator)
    fine = functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    return fine.clamp(0.0, 1.0).permute(0, 2, 3, 1)


def turned(images: torch.Tensor, _: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return images flipped or turned by quarters, never as they were; of images that are no square only
    flipped or turned by a half."""
    kinds = 7 if images.shape[1] == images.shape[2] else 3
    which = 1 + torch.randint(kinds, (len(images),), generator=generator, device=images.device)
    out = images
    for bit, change in ((1, lambda x: x.flip(1)), (2, lambda x: x.flip(2)), (4, lambda x: x.transpose(1, 2))):
        if bit <= kinds:
            out = torch.where(((which & bit) > 0)[:, None, None, None], change(out), out)
    return out


def elastic(images: torch.Tensor, _: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return images pulled about by a smooth random field, far more than handwriting is."""
    n, height, width, _channels = images.shape
    field = STRETCH * _normal((n, 2, CELLS, CELLS), images, generator)
    field = functional.interpolate(field, (height, width), mode="bicubic", align_corners=True)
    plain = torch.eye(2, 3, dtype=images.dtype, device=images.device).expand(n, 2, 3)
    grid = functional.affine_grid(plain, [n, 1, height, width], align_corners=False)
    moved = functional.grid_sample(
        images.permute(0, 3, 1, 2),
        grid + field.permute(0, 2, 3, 1),
        padding_mode="border",
        align_corners=False,
    )
    return moved.permute(0, 2, 3, 1)


def paste(images: torch.Tensor, others: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return images with a rectangle of another image in them, flipped or turned."""
    n, device = len(images), images.device

    def span(length: int) -> torch.Tensor:
        share = LEAST + (MOST - LEAST) * _uniform((n, 1), images, generator)
        size = (share * length).round().clamp_min(1.0)
        first = _uniform((n, 1), images, generator) * (length - size + 1.0)
        pixels = torch.arange(length, device=device)
        return (pixels >= first.floor()) & (pixels < first.floor() + size)

    inside = span(images.shape[1])[:, :, None, None] & span(images.shape[2])[:, None, :, None]
    return torch.where(inside, turned(others, others, generator), images)


def mixed(images: torch.Tensor, others: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return two turned images laid over each other, with noise: an option of the authors' code."""
    share = 0.25 + 0.5 * _uniform((len(images), 1, 1, 1), images, generator)
    blend = torch.lerp(turned(images, images, generator), turned(others, others, generator), share)
    grain = _normal(images.shape, images, generator)
    return (blend + 0.1 * grain).clamp(0.0, 1.0)


NEGATIVES: dict[str, Spoil] = {
    "uniform": uniform,
    "corners": corners,
    "noise": low_frequency,
    "turned": turned,
    "elastic": elastic,
    "paste": paste,
    "mixed": mixed,
}


def seeds_of(
    images: torch.Tensor, kinds: Sequence[str], generator: torch.Generator
) -> Callable[[int], torch.Tensor]:
    """Return the function n → Q₀, (n, h, w, c) in [0, 1], as many of each kind, up to one.

    Parameters
    ----------
    images : (k, h, w, c) tensor
        The class, in [0, 1].
    kinds : sequence of str
        Names of `NEGATIVES`.
    generator : torch.Generator
        On the device of `images`.
    """

    def pick(count: int) -> torch.Tensor:
        return images[torch.randint(len(images), (count,), generator=generator, device=images.device)]

    def seeds(count: int) -> torch.Tensor:
        parts = []
        for number, kind in enumerate(kinds):
            own = count * (number + 1) // len(kinds) - count * number // len(kinds)
            parts.append(NEGATIVES[kind](pick(own), pick(own), generator))
        return torch.cat(parts)

    return seeds
