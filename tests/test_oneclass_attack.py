"""The attack against another library's: neither passes the certificate, and ours is not the weaker."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn", reason="needs the extra oneclass")

from ocsdf3d.oneclass import OneClassSDF, attacked_scores, auroc

RADIUS = 0.5


class Logits(torch.nn.Module):
    """(−f, f): whether a row is an anomaly or normal, as a classifier would say it."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value = self.network(x)
        return torch.stack([-value, value], dim=1)


def by_foolbox(detector: OneClassSDF, rows: np.ndarray, labels: np.ndarray, starts: int) -> np.ndarray:
    """Scores after foolbox's l2 PGD, the worst of several starts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own and of what it imports
        foolbox: Any = pytest.importorskip("foolbox", reason="foolbox is not installed")
        unit = detector.unit_
        model = foolbox.PyTorchModel(Logits(detector.network_).eval(), bounds=(-1e3, 1e3))
        clean = torch.as_tensor(detector.standardised(rows) / unit, dtype=torch.float32)
        kind = torch.as_tensor((labels == 1).astype(np.int64))
        attack = foolbox.attacks.L2ProjectedGradientDescentAttack(rel_stepsize=0.05, steps=50)
        worst = np.full(len(rows), np.inf)
        for start in range(starts):
            torch.manual_seed(start)
            moved = attack(model, clean, foolbox.criteria.Misclassification(kind), epsilons=RADIUS / unit)[1]
            assert float((moved - clean).norm(dim=1).max()) * unit <= RADIUS * (1.0 + 1e-5)
            with torch.no_grad():
                scores = unit * detector.network_(moved).double().numpy()
            worst = np.minimum(worst, labels * scores)
    return labels * worst


def test_it_is_no_weaker_than_foolbox() -> None:
    pytest.importorskip("foolbox", reason="foolbox is not installed")
    rng = np.random.default_rng(0)
    detector = OneClassSDF(preset="fast", random_state=0).fit(rng.normal(size=(300, 5)))
    rows = np.concatenate([rng.normal(size=(100, 5)), rng.normal(size=(100, 5)) * 2.5])
    labels = np.repeat([1, -1], 100)
    theirs = by_foolbox(detector, rows, labels, starts=3)
    ours = attacked_scores(detector, rows, labels, RADIUS, restarts=3)
    clean = detector.score_samples(rows)
    drop = {name: float((labels * (clean - found)).mean()) for name, found in (("o", ours), ("t", theirs))}
    assert drop["t"] > 0.1  # it is an attack
    assert drop["o"] >= 0.99 * drop["t"]  # equal steps of equal length: nearly the same
    bound = float(detector.certify(rows, labels, RADIUS))
    for found in (ours, theirs):
        assert bound <= auroc(found[labels == 1], found[labels == -1]) <= auroc(clean[:100], clean[100:])
