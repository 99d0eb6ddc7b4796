"""Algorithms 2 and 3 on circles and discs: what is learnt, what is drawn when, and what is never asked of the
device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ocsdf3d import train
from ocsdf3d.complement import WalkConfig
from ocsdf3d.lipschitz.network import LipschitzNetwork, NetworkConfig
from ocsdf3d.lipschitz.workers import Workers
from ocsdf3d.query import Function
from ocsdf3d.ranks import Ranks
from ocsdf3d.sources import Known, Labelled, Surface
from ocsdf3d.train import History, TrainConfig, learn

LOWER, UPPER = torch.full((2,), -1.5), torch.full((2,), 1.5)
RADIUS = 0.7


def network(seed: int = 0, **settings: Any) -> LipschitzNetwork:
    config = NetworkConfig(**{"inputs": 2, "width": 32, "depth": 4, **settings})
    return LipschitzNetwork(config, torch.Generator().manual_seed(seed))


def seeds(generator: torch.Generator) -> Callable[[int], torch.Tensor]:
    return lambda n: LOWER + torch.rand((n, 2), generator=generator) * (UPPER - LOWER)


def ring(generator: torch.Generator, n: int = 1000) -> torch.Tensor:
    angle = 2.0 * torch.pi * torch.rand(n, generator=generator)
    return RADIUS * torch.stack([angle.cos(), angle.sin()], 1)


def disc_source(generator: torch.Generator, share: float = 0.25) -> Labelled:
    """Both sides of the circle; exploration labels uniform points near the current boundary."""
    x = seeds(generator)(20_000)
    inside = x.norm(dim=1) < RADIUS

    def explore(function: Function, margin: float) -> tuple[torch.Tensor, torch.Tensor]:
        fresh = seeds(generator)(5000)
        near = fresh[function(fresh).detach().abs() < 10.0 * margin]
        within = near.norm(dim=1) < RADIUS
        return near[within], near[~within]

    return Labelled(x[inside], x[~inside], explore, share, generator)


def settings(**changed: Any) -> TrainConfig:
    """A short run: 64 points a batch."""
    return TrainConfig(**{"steps": 20, "batch": 64, "report": 5, **changed})


class Recorder:
    """A source that hands out the same points and writes down when it was asked."""

    def __init__(self, walked: bool = True) -> None:
        generator = self.generator = torch.Generator().manual_seed(0)
        self.walked = walked
        self.points, self.negatives = ring(generator, 64), seeds(generator)(64)
        self.draws: list[int] = []
        self.refreshes: list[tuple[int, float]] = []  # draws so far, margin
        self.forms_gradients: list[bool] = []

    def draw(self, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        self.draws.append(n)
        return self.points, self.negatives

    def refresh(self, function: Function, margin: float) -> None:
        self.refreshes.append((len(self.draws), margin))
        self.forms_gradients.append(function(self.points).requires_grad)


def run(net: LipschitzNetwork, source: Any, config: TrainConfig, seed: int = 5, **callbacks: Any) -> History:
    return learn(net, source, config, LOWER, UPPER, torch.Generator().manual_seed(seed), **callbacks)


# ------------------------------------------------------------------------------------- it learns

KINDS = [("spectral", "stiefel", 0.03), ("rmsprop", "stiefel", 3e-3), ("rmsprop", "bjorck", 3e-3)]


@pytest.mark.parametrize(("optimizer", "constraint", "rate"), KINDS)
def test_a_disc_is_learnt(optimizer: str, constraint: str, rate: float) -> None:
    """Both sides known: the sign is right and f is the distance. Over six seeds the sign was right at 0.992
    at least, the mean error 0.016 at most, 0.060 for RMSprop with the retraction, whose raw steps cost some
    orthogonality; the limits leave half as much again."""
    generator = torch.Generator().manual_seed(0)
    config = settings(
        steps=300,
        batch=256,
        optimizer=optimizer,
        rate=rate,
        margin=0.02,
        margin_start=0.1,
        refresh=100,
        report=100,
    )
    net = network(constraint=constraint)
    history = run(net, disc_source(generator), config)
    x = seeds(generator)(5000)
    exact = RADIUS - x.norm(dim=1)
    with torch.no_grad():
        f = net(x)
    assert ((f > 0) == (exact > 0)).float().mean() > 0.98
    assert (f - exact).abs().mean() < (0.09 if (optimizer, constraint) == ("rmsprop", "stiefel") else 0.025)
    assert history.curves["recall"][-1] > 0.95
    assert history.curves["false_positives"][-1] < 0.05
    assert 0.8 < history.curves["gradient_norm"][-1] <= 1.0 + 1e-4


@pytest.mark.parametrize(("optimizer", "constraint", "rate"), KINDS)
def test_a_ring_is_learnt_from_its_points_alone(optimizer: str, constraint: str, rate: float) -> None:
    """One class: f is positive on the ring and negative off it, at the centre too, where only walkers from Q₀
    speak. Over six seeds: all of the ring, none of the rest, −0.2 or less at the centre."""
    generator = torch.Generator().manual_seed(0)
    data = ring(generator)
    config = settings(
        steps=400,
        batch=256,
        optimizer=optimizer,
        rate=rate,
        margin=0.05,
        margin_start=0.1,
        lam_start=10.0,
        walk=WalkConfig(steps=4, multiplier=2.0, level=0.0, one_sided=True),
        warm=100,
        report=100,
    )
    net = network(constraint=constraint)
    run(net, Surface(data, seeds(generator), generator), config)
    x = seeds(generator)(5000)
    away = (x.norm(dim=1) - RADIUS).abs() > 0.2  # twice the width of the skin {f > 0} at this margin
    with torch.no_grad():
        assert (net(data) > 0).float().mean() > 0.98
        assert (net(x)[away] > 0).float().mean() < 0.01
        assert float(net(torch.zeros(1, 2))) < -0.1


# ------------------------------------------------------------------------------------- reproducible


@pytest.mark.parametrize("optimizer", ["spectral", "rmsprop"])
def test_same_seed_same_weights(optimizer: str) -> None:
    outcomes = []
    for seed in (1, 1, 2):
        generator = torch.Generator().manual_seed(seed)
        net = network()
        source = Surface(ring(generator), seeds(generator), generator)
        run(net, source, settings(optimizer=optimizer), seed=seed)
        outcomes.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    assert torch.equal(outcomes[0], outcomes[1])
    assert not torch.equal(outcomes[0], outcomes[2])


def test_global_generators_are_left_alone() -> None:
    torch_state = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002 - the global generator is what must not move
    generator = torch.Generator().manual_seed(0)
    run(network(), Surface(ring(generator), seeds(generator), generator), settings())
    run(network(), disc_source(generator), settings(refresh=7, optimizer="rmsprop"))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def test_data_are_not_written_into() -> None:
    source = Recorder()
    before = source.points.clone(), source.negatives.clone()
    run(network(), source, settings())
    assert torch.equal(source.points, before[0])
    assert torch.equal(source.negatives, before[1])


# ------------------------------------------------------------------------------------- what happens when


@pytest.mark.parametrize(("updates", "draws"), [(1, 20), (3, 7), (20, 1), (50, 1)])
def test_negatives_serve_for_k_updates(updates: int, draws: int) -> None:
    """20 steps, K a batch: ⌈20/K⌉ draws."""
    source = Recorder()
    run(network(), source, settings(updates=updates))
    assert source.draws == [64] * draws


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Margins of the walks that `train` asks for; the walk itself is a move by one."""
    margins: list[float] = []

    def fake(function: Any, x: torch.Tensor, margin: torch.Tensor, *rest: Any) -> torch.Tensor:
        margins.append(float(margin))
        assert not function(x).requires_grad  # frozen: no weight gradients on the way
        return x + 1.0

    monkeypatch.setattr("ocsdf3d.train.walk", fake)
    return margins


@pytest.mark.parametrize(("warm", "updates", "count"), [(0, 1, 20), (8, 1, 12), (20, 1, 0), (8, 5, 2)])
def test_warm_steps_walk_nothing(walks: list[float], warm: int, updates: int, count: int) -> None:
    """8 warm steps, K = 5: batches are drawn at 0, 5, 10, 15; the last two walk."""
    run(network(), Recorder(), settings(warm=warm, updates=updates))
    assert len(walks) == count


def test_labelled_batches_are_not_walked(walks: list[float]) -> None:
    run(network(), Recorder(walked=False), settings())
    assert walks == []


def test_walks_use_the_margin_of_the_moment(walks: list[float]) -> None:
    config = settings(margin=0.01, margin_start=0.1)
    run(network(), Recorder(), config)
    assert walks == pytest.approx([config.margin_at(step / 20) for step in range(20)], rel=1e-6)


def test_refreshes_come_every_so_many_steps_and_not_at_once() -> None:
    source = Recorder(walked=False)
    config = settings(refresh=6)
    run(network(), source, config)
    assert [draws for draws, _ in source.refreshes] == [6, 12, 18]  # before the draws of these steps
    assert [margin for _, margin in source.refreshes] == [config.margin_at(s / 20) for s in (6, 12, 18)]
    assert source.forms_gradients == [False, False, False]
    never = Recorder(walked=False)
    run(network(), never, settings(refresh=0))
    assert never.refreshes == []


def test_reports() -> None:
    reports: list[tuple[int, int, dict[str, float]]] = []
    history = run(network(), Recorder(), settings(steps=12), report=lambda *call: reports.append(call))
    assert [done for done, _, _ in reports] == [5, 10, 12]  # every 5 and the last
    assert {total for _, total, _ in reports} == {12}
    names = {"step", "loss", "recall", "false_positives", "gradient_norm", "margin", "lam"}
    assert all(set(figures) == names for _, _, figures in reports)
    assert history.curves["step"] == [5.0, 10.0, 12.0]
    assert {len(curve) for curve in history.curves.values()} == {3}
    assert history.curves["loss"] == [figures["loss"] for _, _, figures in reports]
    assert (history.steps, history.interrupted) == (12, False)


def test_figures_are_those_of_the_batch() -> None:
    """After one step from a known network: the shares above 0 of the batch before that step."""
    source = Recorder(walked=False)
    net = network()
    with torch.no_grad():
        inside, outside = net(source.points), net(source.negatives)
    history = run(net, source, settings(steps=1))
    assert history.curves["recall"] == [float((inside > 0).float().mean())]
    assert history.curves["false_positives"] == [float((outside > 0).float().mean())]


@pytest.mark.parametrize(
    ("asked", "steps", "interrupted"), [(1, 5, True), (2, 10, True), (4, 20, False), (9, 20, False)]
)
def test_stop_ends_early_with_a_sound_network(asked: int, steps: int, interrupted: bool) -> None:
    """`stop` answers yes when asked for the n-th time, every 5 of 20 steps; at the end there is nothing to
    cut."""
    answers: Iterator[bool] = iter([False] * (asked - 1) + [True])
    net = network()
    history = run(net, Recorder(), settings(), stop=lambda: next(answers))
    assert (history.steps, history.interrupted) == (steps, interrupted)
    norms = torch.linalg.matrix_norm(net.square.detach().double(), ord=2)
    assert norms.max() <= 1.0 + 1e-6  # float32
    assert all(p.requires_grad for p in net.parameters())


# ------------------------------------------------------------------------------------- schedules


def test_schedules_at_their_ends() -> None:
    config = TrainConfig(
        margin=0.01, margin_start=0.04, lam=200.0, lam_start=2.0, lam_hold=0.5, touch=3.0, touch_start=1.0
    )
    assert config.margin_at(0.0) == 0.04
    assert config.margin_at(1.0) == pytest.approx(0.01)
    assert config.margin_at(0.5) == pytest.approx(0.02)  # geometric
    assert [config.lam_at(t) for t in (0.0, 0.25, 0.5)] == [2.0, 2.0, 2.0]
    assert config.lam_at(0.75) == pytest.approx(20.0)
    assert config.lam_at(1.0) == pytest.approx(200.0)
    assert [config.touch_at(t) for t in (0.0, 0.5, 0.75, 1.0)] == [1.0, 1.0, 2.0, 3.0]
    assert config.rate_at(0.0) == 1.0
    assert config.rate_at(0.5) == pytest.approx(0.5)
    assert config.rate_at(1.0) == pytest.approx(0.0, abs=1e-15)


def test_constant_schedules() -> None:
    config = TrainConfig(margin=0.05, margin_start=0.05, lam=7.0, lam_start=7.0, decay=False)
    for t in (0.0, 0.3, 1.0):
        assert (config.margin_at(t), config.lam_at(t), config.rate_at(t)) == (0.05, 7.0, 1.0)
    held = TrainConfig(lam_hold=1.0)
    assert held.lam_at(0.999) == held.lam_start


def test_decay_reaches_the_optimiser() -> None:
    """With the rates near 0 the last step moves the weights by that much less than the first."""
    for optimizer in ("spectral", "rmsprop"):
        moves = []
        for decay in (True, False):
            net, kept = network(), []
            config = settings(decay=decay, optimizer=optimizer, report=1, rate=0.01)
            run(
                net,
                Recorder(),
                config,
                report=lambda *_, net=net, kept=kept: kept.append(net.square.detach().clone()),
            )
            moves.append(float((kept[-1] - kept[-2]).norm()))
        # The cosine at 19/20 is 0.006; momentum is inside the step, so nothing else moves them.
        assert moves[0] < 0.1 * moves[1]


# ------------------------------------------------------------------------------------- shares


def test_workers_share_a_batch_and_its_gradient() -> None:
    """Shares of unequal size, groups among them, add up to the gradient of the whole."""
    generator = torch.Generator().manual_seed(0)
    known = known_circle(generator, group=3).draw(33)
    batch = [ring(generator, 33), seeds(generator)(33), *known]
    found = []
    for count in (1, 2, 4):
        net, workers = network(), Workers(torch.device("cpu"))
        workers.count = count
        with workers:
            loss, inside, outside = train._descend(net, batch, 0.0, 0.1, (10.0, 1.0, 0.5), workers, Ranks())
        assert len(inside) == len(outside) == 33
        found.append([loss, *(p.grad for p in net.parameters())])
    # Groups, 11 of them, and points, 33, fall to the workers in shares that differ by one row.
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert torch.allclose(a, b, rtol=0.15, atol=0.02)


# ------------------------------------------------------------------------------------- where f is known


def known_circle(generator: torch.Generator, group: int = 1, noise: float = 0.0) -> Known:
    """The circle in groups of neighbours, displaced along the radius by ±noise in turn, and its distance."""
    angle = 2.0 * torch.pi * torch.arange(600) / 600
    radius = RADIUS + noise * (-1.0) ** torch.arange(600)
    circle = radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    away = seeds(generator)(2000)
    return Known(circle.view(-1, group, 2), away, RADIUS - away.norm(dim=1), generator)


def test_a_boundary_that_labels_get_wrong_is_found_by_its_samples() -> None:
    """Labels of a circle 0.1 too large, none of them between the two: only the samples know the radius."""

    def learnt(touch: float, far: float) -> tuple[float, float]:
        generator = torch.Generator().manual_seed(0)
        x = seeds(generator)(20_000)
        r = x.norm(dim=1)
        source = Labelled(x[r < RADIUS - 0.1], x[r > RADIUS + 0.1], lambda f, m: (x, x), 0.0, generator)
        source.pools[0] = torch.cat([source.pools[0], x[(r > RADIUS) & (r < RADIUS + 0.1)]])  # the wrong ones
        net = network()
        config = settings(steps=300, batch=256, anchors=128, touch=touch, away=far, lam=100.0)
        run(net, source, config, known=known_circle(generator))
        circle, probe = known_circle(generator).boundary[:, 0], seeds(generator)(4000)
        with torch.no_grad():
            exact = RADIUS - probe.norm(dim=1)
            return float(net(circle).abs().mean()), float((net(probe) - exact).abs().mean())

    untold, touched, told = learnt(0.0, 0.0), learnt(1.0, 0.0), learnt(1.0, 1.0)
    assert touched[0] < 0.3 * untold[0]
    assert told[1] < 0.3 * untold[1]


def test_groups_bear_noise_that_points_flatten() -> None:
    """Samples 0.05 beside the circle in turn: held to each, f is 0 in the whole band; to pairs, it rises."""
    values = []
    for group in (1, 2):
        generator = torch.Generator().manual_seed(0)
        net, known = network(), known_circle(generator, group, noise=0.05)
        config = settings(steps=300, anchors=128, touch=10.0, touch_start=10.0)
        run(net, disc_source(generator), config, known=known)
        values.append(float(net(known.boundary.flatten(0, 1)).detach().abs().mean()))
    assert values[0] < 0.005
    assert values[1] > 0.02  # measured 0.03; 0.05 on the distance to the circle


def test_the_weight_of_samples_follows_its_schedule() -> None:
    """The first step knows the weight of the start alone; later ones know that of the end too."""

    def learnt(**weights: float) -> list[torch.Tensor]:
        net, kept = network(), []
        config = settings(report=1, lam_hold=0.0, decay=False, **weights)
        known = known_circle(torch.Generator().manual_seed(0))
        source = disc_source(torch.Generator().manual_seed(1))
        run(net, source, config, known=known, report=lambda *_: kept.append(net.square.detach().clone()))
        return kept

    free, rising, falling = learnt(), learnt(touch=5.0), learnt(touch=0.0, touch_start=5.0)
    assert torch.equal(rising[0], free[0])
    assert not torch.equal(falling[0], free[0])
    assert not torch.equal(rising[-1] - rising[-2], free[-1] - free[-2])


# ------------------------------------------------------------------------------------- no host syncs

# What copies a number to the host or waits for a count: `item`, `bool`, `float` and `int` of a tensor are the
# first; boolean masks, `nonzero` and `unique` the others.
SYNCS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal.default")


class Watch(TorchDispatchMode):
    """Names of the synchronising operations that pass the dispatcher."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        masks = (
            [t for t in args[1] if t is not None]
            if "index" in str(func) and isinstance(args[1], list)
            else []
        )
        if any(name in str(func) for name in SYNCS) or any(
            t.dtype in (torch.bool, torch.uint8) for t in masks
        ):
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[list[str], list[str]]]:
    """Operations that synchronise, and calls of the methods that read a tensor's memory past the
    dispatcher."""
    reads: list[str] = []
    with monkeypatch.context() as patch, Watch() as watch:
        for name in (
            "item",
            "tolist",
            "numpy",
            "cpu",
            "__bool__",
            "__float__",
            "__int__",
            "__index__",
            "__array__",
        ):
            real = getattr(torch.Tensor, name)

            def counted(self: Any, *args: Any, _real: Any = real, _name: str = name, **kwargs: Any) -> Any:
                reads.append(_name)
                return _real(self, *args, **kwargs)

            patch.setattr(torch.Tensor, name, counted)
        yield watch.seen, reads


def test_the_watch_sees() -> None:
    """Negative control: each kind of sync is noticed."""
    x = torch.ones(3)
    with pytest.MonkeyPatch.context() as monkeypatch, watched(monkeypatch) as (operations, reads):
        x.sum().item()
        bool(x[0] > 0)
        x.tolist()
        x[x > 0]
        float(x[0])
    assert {"item", "__bool__", "tolist", "__float__"} <= set(reads)
    assert len(operations) == 4  # all but `tolist`, which reads memory


@pytest.mark.parametrize(("optimizer", "constraint"), [("spectral", "stiefel"), ("rmsprop", "bjorck")])
def test_only_reports_read_from_the_device(
    monkeypatch: pytest.MonkeyPatch, optimizer: str, constraint: str
) -> None:
    """60 steps with walks and three reports: one `tolist` each, and no other number leaves the device."""
    generator = torch.Generator().manual_seed(0)
    source = Surface(ring(generator), seeds(generator), generator)
    net = network(width=16, constraint=constraint)
    config = settings(steps=60, report=20, optimizer=optimizer, warm=10, updates=2)
    with watched(monkeypatch) as (operations, reads):
        run(net, source, config)
    assert reads == ["tolist"] * 3
    assert operations == []


def test_labelled_batches_read_nothing_either(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    half = ring(generator), 1.9 * ring(generator)
    source = Labelled(*half, lambda f, m: half, 0.25, generator)
    known = known_circle(generator, group=3)
    with watched(monkeypatch) as (operations, reads):
        config = settings(steps=40, report=20, refresh=10, anchors=30, touch=1.0, away=0.1)
        run(network(width=16), source, config, known=known)
    assert reads == ["tolist"] * 2
    assert operations == []


# ------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("name", ["steps", "batch", "anchors", "updates", "report"])
@pytest.mark.parametrize("value", [0, -3])
def test_counts_are_at_least_one(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1; got {value}"):
        TrainConfig(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["margin", "margin_start", "lam", "lam_start", "rate", "adam_rate"])
@pytest.mark.parametrize("value", [0.0, -0.1, float("inf"), float("nan")])
def test_lengths_and_weights_are_positive(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be positive and finite; got {value}"):
        TrainConfig(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["touch", "away"])
@pytest.mark.parametrize("value", [-0.1, float("inf"), float("nan")])
def test_weights_that_may_be_zero_are_not_negative(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must not be negative, and finite; got {value}"):
        TrainConfig(**{name: value})  # type: ignore[arg-type]


def test_unknown_optimisers_are_refused() -> None:
    with pytest.raises(ValueError, match="`optimizer` must be spectral or rmsprop; got 'adam'"):
        TrainConfig(optimizer="adam")
    with pytest.raises(ValueError, match="spectral steps need a stiefel network"):
        run(network(constraint="bjorck"), Recorder(), settings())


@pytest.mark.parametrize("name", ["warm", "refresh"])
def test_step_counts_that_may_be_zero_are_not_negative(name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must not be negative; got -1"):
        TrainConfig(**{name: -1})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_the_hold_is_a_share(value: float) -> None:
    with pytest.raises(ValueError, match=r"`lam_hold` must lie in \[0, 1\]"):
        TrainConfig(lam_hold=value)


@pytest.mark.parametrize(("optimizer", "constraint"), [("spectral", "stiefel"), ("rmsprop", "stiefel")])
def test_the_first_layer_stays_where_it_is_told_to(optimizer: str, constraint: str) -> None:
    for learns in (True, False):
        net = network(constraint=constraint)
        before = net.first().detach().clone()
        others = [parameter.detach().clone() for parameter in net.parameters()]
        generator = torch.Generator().manual_seed(0)
        rate = 3e-3 if optimizer == "rmsprop" else 0.03
        config = settings(optimizer=optimizer, rate=rate, entry_learns=learns)
        run(net, disc_source(generator), config)
        moved = float((net.first().detach() - before).abs().max())
        assert moved > 1e-3 if learns else moved < 1e-5  # the retraction of an isometry rounds
        assert any(not torch.equal(p, q) for p, q in zip(net.parameters(), others, strict=True))
