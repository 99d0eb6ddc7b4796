"""Certified AUROC and rates: equal to brute force over all pairs, attained by an attack, above none."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocsdf3d.oneclass import auroc, certified_auroc, certified_rates

# multiples of 1/8 are exact, so that ties are ties and sums of radii round nowhere
EIGHTHS = st.integers(-16, 16).map(lambda n: n / 8)
SCORES = st.lists(EIGHTHS, min_size=1, max_size=12)


def brute(normal: Any, anomalous: Any, shift: float) -> float:
    """Share of pairs that stay in order, one by one; a tie is half a pair."""
    difference = np.subtract.outer(normal, anomalous)
    return float((difference > shift).mean() + 0.5 * (difference == shift).mean())


@given(normal=SCORES, anomalous=SCORES, radius=st.integers(0, 16).map(lambda n: n / 16))
def test_it_is_the_count_over_all_pairs(normal: list[float], anomalous: list[float], radius: float) -> None:
    assert certified_auroc(normal, anomalous, radius) == pytest.approx(
        brute(normal, anomalous, 2.0 * radius), abs=1e-12
    )


def test_it_is_the_count_for_thousands_of_scores_too() -> None:
    rng = np.random.default_rng(0)
    normal, anomalous = rng.normal(1.0, 1.0, 3000), np.round(rng.normal(0.0, 1.0, 2000), 2)
    radii = np.array([[0.0, 0.01], [0.25, 4.0]])
    found = certified_auroc(normal, anomalous, radii, lipschitz=0.5, rounding=1e-3)
    assert found.shape == radii.shape
    for index, radius in np.ndenumerate(radii):
        assert found[index] == pytest.approx(brute(normal, anomalous, radius + 2e-3), abs=1e-12)


@given(normal=SCORES, anomalous=SCORES)
def test_it_never_rises_with_the_radius(normal: list[float], anomalous: list[float]) -> None:
    curve = certified_auroc(normal, anomalous, np.linspace(0.0, 2.5, 21))
    assert (np.diff(curve) <= 0.0).all()
    assert curve[-1] == 0.0  # no two of these scores are 5 apart


def test_an_attack_attains_it_on_a_score_of_slope_one() -> None:
    """f(x) = x has slope 1 everywhere: pushing every normal down and every anomaly up by ε is the worst."""
    rng = np.random.default_rng(1)
    normal, anomalous = rng.normal(1.0, 0.5, 200), rng.normal(-0.5, 0.7, 100)
    for radius in (0.0, 0.1, 0.5, 1.0):
        attacked = auroc(normal - radius, anomalous + radius)
        assert certified_auroc(normal, anomalous, radius) == pytest.approx(attacked, abs=1e-3)  # a few ties


def test_no_attack_gets_below_it_but_one_on_a_steeper_score_does() -> None:
    """The negative control: declared with half of its slope, a score loses more than was certified."""
    rng = np.random.default_rng(2)
    normal, anomalous = rng.normal(1.0, 0.5, 200), rng.normal(0.0, 0.5, 200)
    moves = rng.uniform(-0.2, 0.2, (2, 200))  # an attack that is not the worst
    bound = certified_auroc(normal, anomalous, 0.2)
    assert auroc(normal + moves[0], anomalous + moves[1]) >= bound
    attacked = auroc(normal - 0.2, anomalous + 0.2)
    assert attacked < certified_auroc(normal, anomalous, 0.2, lipschitz=0.5) - 0.01


def test_ties_are_halves() -> None:
    assert auroc([1.0, 1.0], [1.0]) == 0.5
    assert certified_auroc([0.5], [0.25], 0.125) == 0.5  # after the attack both may be 0.375
    assert certified_auroc([0.5], [0.25], 0.126) == 0.0


def test_auroc_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(3)
    normal, anomalous = np.round(rng.normal(1.0, 1.0, 300), 1), np.round(rng.normal(0.0, 1.0, 200), 1)
    truth = np.repeat([1, 0], [300, 200])
    expected = metrics.roc_auc_score(truth, np.concatenate([normal, anomalous]))
    assert auroc(normal, anomalous) == pytest.approx(expected, abs=1e-12)


@given(normal=SCORES, anomalous=SCORES, threshold=EIGHTHS, radius=st.integers(0, 16).map(lambda n: n / 8))
def test_rates_are_those_of_the_worst_attack(
    normal: list[float], anomalous: list[float], threshold: float, radius: float
) -> None:
    rates = certified_rates(normal, anomalous, [radius], threshold=threshold)
    assert rates.true_positive[0] == (np.array(normal) - radius >= threshold).mean()
    assert rates.false_positive[0] == (np.array(anomalous) + radius >= threshold).mean()


@given(
    st.lists(st.integers(-9, 9), min_size=1, max_size=6),
    st.lists(st.integers(-9, 9), min_size=1, max_size=6),
    st.integers(0, 9),
    st.sampled_from([1.0, 0.3]),
)
def test_rounding_is_on_the_safe_side(above: list[int], below: list[int], radius: int, slope: float) -> None:
    """Tenths are no binary numbers: sums of them round, and bounds may not rise by it."""
    normal, anomalous = [n / 10 for n in above], [n / 10 for n in below]
    shift = Fraction(slope) * Fraction(radius / 10)
    apart = [Fraction(a) - Fraction(b) - 2 * shift for a in normal for b in anomalous]
    exact = Fraction(sum(2 * (gap > 0) + (gap == 0) for gap in apart), 2 * len(apart))
    assert certified_auroc(normal, anomalous, radius / 10, lipschitz=slope) <= float(exact) + 1e-15
    found = certified_rates(normal, anomalous, radius / 10, threshold=-0.3, lipschitz=slope)
    kept = sum(Fraction(a) >= Fraction(-0.3) + shift for a in normal) / len(normal)
    fooled = sum(Fraction(b) >= Fraction(-0.3) - shift for b in anomalous) / len(anomalous)
    assert found.true_positive <= kept + 1e-15
    assert found.false_positive >= fooled - 1e-15
    assert certified_auroc([0.5], [0.1], 0.2) == 0.0  # 0.5 − 0.1 − 0.4 is −2.8e-17 of these numbers


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"normal": []}, "`normal` must be"),
        ({"anomalous": [[0.0]]}, "`anomalous` must be"),
        ({"normal": [np.nan]}, "`normal` must be"),
        ({"radii": -0.1}, "`radii` must be finite and not negative"),
        ({"radii": [0.0, np.inf]}, "`radii` must be finite"),
        ({"lipschitz": -1.0}, "`lipschitz` must be finite and not negative; got -1.0"),
        ({"rounding": np.nan}, "`rounding` must be"),
    ],
)
def test_what_is_no_score_radius_or_bound_is_refused(changes: dict[str, Any], said: str) -> None:
    given_: dict[str, Any] = {"normal": [1.0], "anomalous": [0.0], "radii": 0.0, **changes}
    for function in (certified_auroc, certified_rates):
        with pytest.raises(ValueError, match=said):
            function(**given_)


def test_a_threshold_must_be_finite() -> None:
    with pytest.raises(ValueError, match="`threshold` must be finite; got nan"):
        certified_rates([1.0], [0.0], 0.1, threshold=np.nan)


def test_certificates_need_no_scikit_learn_and_the_detector_says_what_it_needs() -> None:
    code = (
        "import sys; sys.modules['sklearn'] = None\n"  # as if it were not installed
        "from ocsdf3d.oneclass import certified_auroc\n"
        "assert certified_auroc([1.0], [0.0], 0.1) == 1.0\n"
        "import ocsdf3d.oneclass as one\n"
        "try:\n"
        "    one.OneClassSDF\n"
        "except ImportError as error:\n"
        "    assert str(error).endswith(\"scikit-learn: pip install 'ocsdf3d[oneclass]'\"), error\n"
        "else:\n"
        "    raise AssertionError\n"
        "assert not hasattr(one, 'Forest')\n"
    )
    end = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert end.returncode == 0, end.stderr
