"""The level is a quantile of f on the data."""

from __future__ import annotations

import numpy as np
import pytest

from ocsdf3d.level import QUANTILES, level_of


def test_the_share_below_is_the_quantile() -> None:
    values = np.random.default_rng(0).normal(size=10_000)
    for quantile in (0.01, 0.5, 0.9):
        # Linear interpolation between order statistics: one point at most on the wrong side.
        assert np.mean(values < level_of(values, quantile)) == pytest.approx(quantile, abs=1e-4)


def test_ends() -> None:
    values = np.array([3.0, -1.0, 2.0])
    assert level_of(values, 0.0) == -1.0  # every point in {f ≥ c}
    assert level_of(values, 1.0) == 3.0
    assert level_of(values, 0.5) == 2.0
    assert level_of(np.array([7.0]), 0.3) == 7.0


def test_a_shell_holds_nearly_all_points_and_a_solid_half() -> None:
    values = np.random.default_rng(0).normal(size=2048)
    assert np.mean(values >= level_of(values, QUANTILES["shell"])) == pytest.approx(0.99, abs=1e-3)
    assert np.mean(values >= level_of(values, QUANTILES["solid"])) == 0.5


def test_outliers_do_not_move_the_solids_level() -> None:
    values = np.linspace(-1e-3, 1e-3, 1001)
    spoilt = np.concatenate([values, np.full(10, -100.0)])
    # 1 % of outliers moves the median by half a per cent of the spread.
    assert abs(level_of(spoilt, 0.5) - level_of(values, 0.5)) <= 1.1e-5
    assert level_of(spoilt, 0.005) == pytest.approx(-100.0)


def test_float32_is_averaged_in_float64() -> None:
    values = np.array([1.0, 1.0 + 2.0**-23], dtype=np.float32)
    assert level_of(values, 0.5) == 1.0 + 2.0**-24  # no float32 number


@pytest.mark.parametrize("quantile", [-0.01, 1.01, float("nan")])
def test_quantiles_outside_are_refused(quantile: float) -> None:
    with pytest.raises(ValueError, match=r"`quantile` must lie in \[0, 1\]; got"):
        level_of(np.zeros(3), quantile)


def test_no_values() -> None:
    with pytest.raises(ValueError, match="`values` must not be empty"):
        level_of(np.zeros(0), 0.5)
