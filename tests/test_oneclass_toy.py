"""The planar sets: moments, mass of the support, distances; and the conventional network beside ours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

pytest.importorskip("sklearn")

from ocsdf3d.oneclass import TOYS, OneClassSDF, estimator, toy_samples
from ocsdf3d.oneclass.conventional import (
    ConventionalConfig,
    local_lipschitz,
    train_conventional,
    walked,
)
from ocsdf3d.oneclass.toy import SPAN, anomalies, clearance

COUNT = 40_000


# --- the sets


@pytest.mark.parametrize("name", TOYS)
def test_each_axis_is_standardised(name: str) -> None:
    rows = toy_samples(name, COUNT, np.random.default_rng(0))
    assert rows.shape == (COUNT, 2)
    # of bounded fourth moments: five standard errors of a mean and of a deviation are below 0.03
    np.testing.assert_allclose(rows.mean(axis=0), 0.0, atol=0.03)
    np.testing.assert_allclose(rows.std(axis=0), 1.0, atol=0.03)


@pytest.mark.parametrize("name", TOYS)
def test_the_support_holds_99_percent_and_not_all(name: str) -> None:
    off = clearance(name, toy_samples(name, COUNT, np.random.default_rng(1))) > 0.0
    # 1 % of a blob; of a curve less, as noise along it does not lead away; five standard errors are 0.0025
    assert 0.0 < off.mean() < 0.0125
    if "circles" not in name and "moons" not in name:
        assert off.mean() > 0.0075


@pytest.mark.parametrize("name", TOYS)
def test_the_clearance_is_a_distance_to_the_support(name: str) -> None:
    rng = np.random.default_rng(2)
    places = rng.uniform(-SPAN, SPAN, (300_000, 2))
    support = places[clearance(name, places) == 0.0]
    asked = rng.uniform(-SPAN, SPAN, (500, 2))
    found, true = clearance(name, asked), cKDTree(support).query(asked)[0]
    # places are 0.018 apart on average; the true distance is to a sample of them, so it is too large at most
    slack = 0.1
    assert (found <= true + 1e-9).all()
    if name == "two_moons":  # a bound there: the axes have deviations of 0.868 and 0.498
        assert (found >= 0.498 / 0.868 * true - slack).all()
    else:
        np.testing.assert_allclose(found, true, atol=slack)


@pytest.mark.parametrize("name", TOYS)
def test_anomalies_are_where_they_were_asked_for(name: str) -> None:
    near = anomalies(name, 500, np.random.default_rng(3), least=0.1, most=0.5)
    gap = clearance(name, near)
    assert near.shape == (500, 2)
    assert np.abs(near).max() <= SPAN
    assert gap.min() >= 0.1
    assert gap.max() <= 0.5
    assert gap.max() - gap.min() > 0.3  # all of the band


def test_a_seed_repeats_and_another_does_not() -> None:
    first, again, other = (toy_samples("two_moons", 50, np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_parts_have_equal_shares_in_no_order() -> None:
    right = toy_samples("two_blobs", 1001, np.random.default_rng(0))[:, 0] > 0.0
    assert abs(int(right.sum()) - 500) <= 1  # the centres are eight deviations apart
    assert 0.3 < right[:200].mean() < 0.7


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rng: toy_samples("three_moons", 5, rng), "one of one_cloud, .*'three_moons'"),
        (lambda rng: toy_samples("two_moons", 0, rng), "`count` must be at least 1; got 0"),
        (lambda rng: clearance("two_moons", np.zeros((3, 3))), r"\(n, 2\) and finite; got shape \(3, 3\)"),
        (lambda rng: clearance("two_moons", [[0.0, np.nan]]), "finite"),
        (lambda rng: clearance("x", np.zeros((3, 2))), "'x'"),
        (lambda rng: anomalies("two_moons", 0, rng), "`count`"),
        (lambda rng: anomalies("two_moons", 5, rng, least=0.5, most=0.1), "below `most`; got 0.5 and 0.1"),
        (lambda rng: anomalies("two_moons", 5, rng, least=0.0), "above 0"),
        (lambda rng: anomalies("two_moons", 5, rng, least=50.0), "next to nothing of B around two_moons"),
    ],
)
def test_what_is_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(np.random.default_rng(0))  # type: ignore[operator]


# --- the conventional network


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return toy_samples("two_blobs", 400, np.random.default_rng(0))


@pytest.fixture(scope="module")
def detector(rows: np.ndarray) -> OneClassSDF:
    return OneClassSDF(0.05, lam=100.0, preset="fast", device="cpu", random_state=0).fit(rows)


TINY = ConventionalConfig(width=32, depth=2, steps=300, batch=64, rate=1e-2)


def test_the_conventional_network_is_steep_and_ours_is_not(detector: OneClassSDF, rows: np.ndarray) -> None:
    standard = detector.standardised(rows)
    ours = local_lipschitz(detector.network_, standard / detector.unit_)
    assert ours <= 1.0  # proved, and measured in float64
    assert ours > 0.5
    steps: list[int] = []
    negatives = walked(detector, 0.05)
    network = train_conventional(standard, negatives, TINY, watch=lambda step, _: steps.append(step))
    assert steps == [300]
    assert local_lipschitz(network, standard) > 2.0  # 8.6; after the paper's 10,000 steps a hundred
    with torch.no_grad():
        inside = network(torch.as_tensor(standard, dtype=torch.float32))
        outside = network(torch.tensor([[4.0, -4.0], [-4.0, 4.0]]))
    assert inside.shape == (400,)
    assert (inside > 0.0).float().mean() > 0.8
    assert (outside < 0.0).all()


def test_the_slope_is_that_of_a_network_known_by_heart() -> None:
    linear = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Flatten(0))
    with torch.no_grad():
        linear[0].weight.copy_(torch.tensor([[3.0, -4.0]]))
    assert local_lipschitz(linear, np.zeros((5000, 2))) == 5.0
    assert linear[0].weight.dtype == torch.float32  # left as it was


def test_q_t_is_in_b_and_nearer_to_the_boundary_than_its_seeds(detector: OneClassSDF) -> None:
    draw = walked(detector, 0.05, seed=3)
    made = draw(500)
    assert made.shape == (500, 2)
    assert float(made.abs().max()) <= estimator.SPAN * (1.0 + 1e-6)
    seeds = np.random.default_rng(0).uniform(-SPAN, SPAN, (500, 2))

    def gap(places: np.ndarray) -> float:
        score = detector.score_samples(places * detector.scale_ + detector.mean_)
        return float(np.median(np.abs(score + 0.05)))

    assert gap(made.double().numpy()) < 0.5 * gap(seeds)  # multiplier 4 leaves a fifth on average
    np.testing.assert_array_equal(made.numpy(), walked(detector, 0.05, seed=3)(500).numpy())
    assert not torch.equal(made, draw(500))  # afresh at each call


def test_a_seed_repeats_the_training_and_leaves_torchs_own_generator_alone() -> None:
    def negatives(count: int) -> torch.Tensor:
        return torch.full((count, 2), 3.0)

    small = ConventionalConfig(width=8, depth=1, steps=5, batch=8)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, again, other = (
        train_conventional(np.zeros((4, 2)), negatives, small, seed=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    x = torch.tensor([[0.3, 0.4]])
    assert torch.equal(first(x), again(x))
    assert not torch.equal(first(x), other(x))


@pytest.mark.parametrize("name", ["width", "depth", "steps", "batch", "rate"])
def test_a_shape_or_rate_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be .*; got 0"):
        ConventionalConfig(**{name: 0})


@pytest.mark.parametrize("data", [np.zeros((0, 2)), np.zeros(3), np.array([[np.inf, 0.0]])])
def test_data_that_are_none_are_refused(data: np.ndarray) -> None:
    with pytest.raises(ValueError, match="`data` must be"):
        train_conventional(data, lambda count: torch.zeros((count, 2)), TINY)


def test_no_points_and_a_network_that_diverged_are_refused() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Flatten(0))
    with pytest.raises(ValueError, match=r"`points` must be .*\(0, 2\)"):
        local_lipschitz(network, np.zeros((0, 2)))
    with torch.no_grad():
        network[0].weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        local_lipschitz(network, np.zeros((1, 2)))
