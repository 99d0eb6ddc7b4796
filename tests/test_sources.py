"""What sources hand out: which points, how many of which pool, and what a refresh changes."""

from __future__ import annotations

import torch

from ocsdf3d.query import Function
from ocsdf3d.sources import Known, Labelled, Surface

LOWER, UPPER = torch.full((2,), -1.5), torch.full((2,), 1.5)


def test_surface_draws_from_the_data_only() -> None:
    generator = torch.Generator().manual_seed(0)
    data = torch.arange(20.0).reshape(10, 2)
    positives, negatives = Surface(
        data, lambda n: LOWER + torch.rand((n, 2), generator=generator) * (UPPER - LOWER), generator
    ).draw(500)
    assert positives.shape == negatives.shape == (500, 2)
    rows = {tuple(row) for row in data.tolist()}
    assert {tuple(row) for row in positives.tolist()} == rows  # all ten: each is missed with chance 0.9^500
    assert (negatives.abs() <= 1.5).all()


def test_labelled_draws_its_share_from_the_last_exploration() -> None:
    """Pools are told apart by their coordinate: 1 and 2 inside, −1 and −2 outside."""
    explorations = iter([(2.0, -2.0), (3.0, -3.0)])
    asked = []

    def explore(function: Function, margin: float) -> tuple[torch.Tensor, torch.Tensor]:
        asked.append((function, margin))
        inside, outside = next(explorations)
        return torch.full((5, 2), inside), torch.full((7, 2), outside)

    generator = torch.Generator().manual_seed(0)
    source = Labelled(torch.full((9, 2), 1.0), torch.full((9, 2), -1.0), explore, 0.3, generator)

    def counts() -> list[dict[float, int]]:
        return [
            dict(zip(*(t.tolist() for t in batch[:, 0].unique(return_counts=True)), strict=True))
            for batch in source.draw(100)
        ]

    assert counts() == [{1.0: 100}, {-1.0: 100}]
    source.refresh(len, 0.25)  # any callable
    assert asked == [(len, 0.25)]
    assert counts() == [{1.0: 70, 2.0: 30}, {-1.0: 70, -2.0: 30}]
    source.refresh(len, 0.25)
    assert counts() == [{1.0: 70, 3.0: 30}, {-1.0: 70, -3.0: 30}]  # the first one is forgotten


def test_an_exploration_that_finds_nothing_leaves_the_pool() -> None:
    generator = torch.Generator().manual_seed(0)
    source = Labelled(
        torch.ones(4, 2),
        -torch.ones(4, 2),
        lambda f, m: (torch.zeros(0, 2), torch.full((3, 2), -2.0)),
        0.5,
        generator,
    )
    source.refresh(len, 0.1)
    positives, negatives = source.draw(10)
    assert (positives == 1.0).all()
    assert int((negatives == -2.0).all(1).sum()) == 5


def test_surface_has_nothing_to_refresh() -> None:
    points = torch.rand((6, 2), generator=torch.Generator().manual_seed(0))
    surface = Surface(points, lambda n: points[:n], torch.Generator().manual_seed(0))
    surface.refresh(len, 0.1)
    assert torch.equal(surface.data, points)
    assert surface.state == {}


def test_a_source_goes_on_from_anothers_exploration() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (
        Labelled(
            torch.ones(4, 2),
            -torch.ones(4, 2),
            lambda f, m: (torch.full((3, 2), 2.0), torch.zeros(0, 2)),
            0.5,
            generator,
        )
        for _ in range(2)
    )
    assert first.state == {}
    first.refresh(len, 0.1)
    second.restore(first.state)
    assert [None if one is None else one.tolist() for one in second.explored] == [[[2.0, 2.0]] * 3, []]
    second.restore({})
    assert second.explored == [None, None]
    assert set(first.fixed) == {"inside", "outside"}


def test_known_values_are_drawn_together() -> None:
    """f is the first coordinate, so that what goes together is seen."""
    generator = torch.Generator().manual_seed(0)
    boundary = torch.arange(48.0).view(6, 4, 2)  # six groups of four
    away = torch.rand((100, 2), generator=generator)
    known = Known(boundary, away, away[:, 0], generator)
    groups, off, distance = known.draw(30)
    assert groups.shape == (7, 4, 2)  # ⌊30/4⌋ groups
    assert {float(group[0, 0]) for group in groups} <= {8.0 * k for k in range(6)}  # whole ones
    assert off.shape == (30, 2)
    assert torch.equal(distance, off[:, 0])
    assert known.draw(3)[0].shape == (1, 4, 2)  # one at least
