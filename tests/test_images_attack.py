"""The attack on images against another library's, within pixels: neither passes the certificate."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn", reason="needs the extra oneclass")

from ocsdf3d.bench.deepsvdd import DeepSVDD
from ocsdf3d.images import OneClassImageSDF
from ocsdf3d.oneclass import attacked_scores, auroc
from ocsdf3d.oneclass.attack import pushed

SIDE, COUNT = 12, 25
Score = Callable[[torch.Tensor], torch.Tensor]


def bars(n: int, seed: int, *, upright: bool) -> np.ndarray:
    """Images of a bar on a dark ground: most pixels lie near an end of their range, where steps are cut."""
    rng = np.random.default_rng(seed)
    out = rng.integers(0, 25, (n, SIDE, SIDE))
    for image, place in zip(out, rng.integers(0, SIDE - 1, n), strict=True):
        image[:, place : place + 2] += 180
    return (out if upright else out.transpose(0, 2, 1)).astype(np.uint8)


class Logits(torch.nn.Module):
    """(−f, f) of images, (n, 1, h, w): whether one is foreign or of the class, as a classifier says it."""

    def __init__(self, score: Score) -> None:
        super().__init__()
        self.score = score

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value = self.score(x.flatten(1))
        return torch.stack([-value, value], dim=1)


def by_foolbox(score: Score, pixels: torch.Tensor, labels: np.ndarray, radius: float) -> np.ndarray:
    """Scores after foolbox's l2 PGD in pixels of [0, 1], the worst of three random starts."""
    worst = np.full(len(pixels), np.inf)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own and of what it imports
        foolbox: Any = pytest.importorskip("foolbox", reason="foolbox is not installed")
        model = foolbox.PyTorchModel(Logits(score).eval(), bounds=(0.0, 1.0), device="cpu")
        clean = pixels.view(-1, 1, SIDE, SIDE)
        kind = torch.as_tensor((labels == 1).astype(np.int64))
        attack = foolbox.attacks.L2ProjectedGradientDescentAttack(rel_stepsize=0.05, steps=50)
        for start in range(3):
            torch.manual_seed(start)
            moved = attack(model, clean, foolbox.criteria.Misclassification(kind), epsilons=radius)[1]
            assert float((moved - clean).flatten(1).norm(dim=1).max()) <= radius * (1.0 + 1e-5)
            with torch.no_grad():
                worst = np.minimum(worst, labels * score(moved.flatten(1)).double().numpy())
    return labels * worst


@pytest.fixture(scope="module")
def judged() -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
    images = np.concatenate([bars(COUNT, 1, upright=True), bars(COUNT, 2, upright=False)])
    pixels = torch.as_tensor(images.reshape(len(images), -1) / 255.0, dtype=torch.float32)
    return images, np.repeat([1, -1], COUNT), pixels


@pytest.mark.parametrize("radius", [36 / 255, 1.0])
def test_ours_under_both_attacks(radius: float, judged: Any) -> None:
    images, labels, pixels = judged
    detector = OneClassImageSDF(steps=40, random_state=0).fit(bars(150, 0, upright=True))
    mean, unit = torch.as_tensor(detector.mean_, dtype=torch.float32), detector.unit_
    clean = detector.score_samples(images)
    ours = attacked_scores(detector, images, labels, radius, restarts=3, box=detector.box())
    theirs = by_foolbox(lambda x: unit * detector.network_((x - mean) / unit), pixels, labels, radius)
    drop = {name: float((labels * (clean - found)).mean()) for name, found in (("o", ours), ("t", theirs))}
    assert drop["t"] > 0.5 * radius  # it is an attack
    assert drop["o"] >= 0.99 * drop["t"]
    bound = float(detector.certify(images, labels, [radius])[0])
    for found in (ours, theirs):
        assert bound <= auroc(found[:COUNT], found[COUNT:]) <= auroc(clean[:COUNT], clean[COUNT:])
        assert np.abs(found - clean).max() <= radius + 1e-4


def test_a_peer_is_attacked_no_less(judged: Any) -> None:
    """What is free to be steep has corners: there both attacks end in different places, ours no worse."""
    _, labels, pixels = judged
    learnt = torch.as_tensor(bars(300, 0, upright=True).reshape(300, -1) / 255.0, dtype=torch.float32)
    model = DeepSVDD((SIDE, SIDE, 1), 0).learn(learnt, 15)
    down, box = torch.as_tensor(labels, dtype=torch.float32), (torch.zeros(144), torch.ones(144))
    ours = pushed(model, pixels, down, 0.5, rng=np.random.RandomState(0), box=box).double().numpy()
    theirs = by_foolbox(model, pixels, labels, 0.5)
    clean = model(pixels).double().numpy()
    drop = {name: float((labels * (clean - found)).mean()) for name, found in (("o", ours), ("t", theirs))}
    assert drop["t"] > 0.0
    assert drop["o"] >= 0.95 * drop["t"]


def test_nothing_that_is_tried_leaves_the_pixels_or_the_ball() -> None:
    seen: list[torch.Tensor] = []

    def score(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.detach())
        return x.sum(dim=1)

    begin = torch.rand((5, 9), generator=torch.Generator().manual_seed(0)).round()  # corners: half of a ball
    box = torch.zeros(9), torch.ones(9)
    low = pushed(score, begin, torch.ones(5), 0.7, restarts=2, rng=np.random.RandomState(0), box=box)
    tried = torch.stack(seen)
    assert float(tried.min()) >= 0.0
    assert float(tried.max()) <= 1.0
    assert float((tried - begin).norm(dim=2).max()) <= 0.7
    assert float((tried - begin).norm(dim=2).max()) > 0.69
    assert (low < begin.sum(dim=1)).all()
    assert len(tried) == 1 + 3 * 2 * 50
