"""Seeds of images: what each kind keeps of the images it spoils, and that a generator decides it all."""

from __future__ import annotations

import pytest
import torch

from ocsdf3d.images.negatives import NEGATIVES, paste, seeds_of, turned


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 40, height: int = 12, width: int = 12, channels: int = 1) -> torch.Tensor:
    return torch.rand((n, height, width, channels), generator=draws(9))


@pytest.mark.parametrize("kind", NEGATIVES)
@pytest.mark.parametrize("shape", [(12, 12, 1), (9, 12, 3)])
def test_they_are_images_of_the_same_shape_and_others_than_before(
    kind: str, shape: tuple[int, int, int]
) -> None:
    before = images(40, *shape)
    kept = before.clone()
    spoilt = NEGATIVES[kind](before, before.flip(0), draws())
    assert spoilt.shape == before.shape
    assert spoilt.min() >= 0.0
    assert spoilt.max() <= 1.0
    assert torch.equal(before, kept)
    assert ((spoilt - before).abs().amax((1, 2, 3)) > 1e-3).all()
    assert torch.equal(spoilt, NEGATIVES[kind](before, before.flip(0), draws()))


@pytest.mark.parametrize(("shape", "ways"), [((12, 12, 1), 7), ((9, 12, 1), 3)])
def test_turning_knows_every_way_but_the_one_that_is_none(shape: tuple[int, int, int], ways: int) -> None:
    one = images(1, *shape).expand(200, *shape)
    found = turned(one, one, draws())
    assert len(torch.unique(found.flatten(1), dim=0)) == ways
    torch.testing.assert_close(found.flatten(1).sort(1).values, one.flatten(1).sort(1).values)


def test_a_rectangle_is_pasted_from_the_other_image() -> None:
    before, others = torch.zeros((200, 12, 12, 1)), torch.ones((200, 12, 12, 1))
    inside = paste(before, others, draws())[..., 0]
    rows, columns = inside.amax(2).sum(1), inside.amax(1).sum(1)
    assert torch.equal(inside.sum((1, 2)), rows * columns)  # a full rectangle
    assert (rows.min(), rows.max()) == (3.0, 8.0)  # 0.28 and 0.7 of 12
    assert inside.amax(0).min() == 1.0  # anywhere


def test_corners_are_black_and_white_and_noise_is_smooth() -> None:
    before = images(50, 28, 28)
    assert set(NEGATIVES["corners"](before, before, draws()).unique().tolist()) == {0.0, 1.0}

    def roughness(x: torch.Tensor) -> float:
        return float((x[:, 1:] - x[:, :-1]).abs().mean() / x.std())

    smooth, rough = (NEGATIVES[kind](before, before, draws()) for kind in ("noise", "uniform"))
    assert roughness(smooth) < 0.3 * roughness(rough)


def test_seeds_share_the_kinds_evenly() -> None:
    black = torch.zeros((5, 6, 6, 1))
    drawn = seeds_of(black, ("corners", "turned", "paste"), draws())(10)
    assert drawn.shape == (10, 6, 6, 1)
    assert (drawn.amax((1, 2, 3)) == 1.0).sum() == 3  # the others are made of black images
    assert (drawn[3:] == 0.0).all()
