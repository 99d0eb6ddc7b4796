"""The margin follows the spacing of the rows, without labels and within its limits."""

from __future__ import annotations

import numpy as np
import pytest

from ocsdf3d.oneclass import OneClassSDF
from ocsdf3d.oneclass import margin as module
from ocsdf3d.oneclass.margin import MARGINS, spacing_margin


def rng() -> np.random.RandomState:
    return np.random.RandomState(0)


def grid(step: float, count: int = 20) -> np.ndarray:
    line = step * np.arange(count)
    return np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)


def test_it_is_half_the_gap_of_a_grid() -> None:
    for step in (0.2, 0.5, 1.3):
        assert spacing_margin(grid(step), rng()) == pytest.approx(0.5 * step, rel=1e-12)


def test_repeated_rows_do_not_make_it_small() -> None:
    rows = np.repeat(grid(0.5), 7, axis=0)
    assert spacing_margin(rows, rng()) == pytest.approx(0.25, rel=1e-12)


def test_it_keeps_its_limits() -> None:
    assert spacing_margin(grid(1e-3), rng()) == MARGINS[0]
    assert spacing_margin(grid(30.0), rng()) == MARGINS[1]
    assert spacing_margin(np.ones((9, 3)), rng()) == MARGINS[0]  # one distinct row has no neighbour


def test_of_many_rows_a_part_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 100)
    rows = grid(0.2, count=60)  # 100 of 3,600 nodes: about six times as far apart, so twice at least
    found = spacing_margin(rows, rng())
    assert found >= 0.2
    assert found == spacing_margin(rows, rng())


def test_the_detector_uses_it_and_says_so() -> None:
    rows = np.random.default_rng(0).normal(size=(300, 2))
    found = OneClassSDF(preset="fast", steps=20, random_state=0).fit(rows)
    assert MARGINS[0] <= found.margin_ < 0.2
    assert found.history_["curves"]["margin"][-1] == pytest.approx(found.margin_ / found.unit_)
    asked = OneClassSDF(margin=0.3, preset="fast", steps=20, random_state=0).fit(rows)
    assert asked.margin_ == 0.3
    assert asked.history_["curves"]["margin"][-1] == pytest.approx(0.3 / asked.unit_)
