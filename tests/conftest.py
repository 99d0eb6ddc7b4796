"""Fixtures shared by the tests: repository, real data if there are any, fields untrained and trained."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line does; OpenMP reads it when torch loads

import numpy as np
import pytest
import torch
import trimesh

from ocsdf3d.analytic import Cuboid, box
from ocsdf3d.bench import data_folder
from ocsdf3d.field import SDF
from ocsdf3d.frame import Frame
from ocsdf3d.geometry import Box
from ocsdf3d.lipschitz.bound import certify
from ocsdf3d.lipschitz.network import LipschitzNetwork, NetworkConfig
from ocsdf3d.pipeline import fit
from ocsdf3d.presets import PRESETS
from ocsdf3d.sampling import surface_points


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout that holds these tests."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real meshes and clouds; tests that ask for it are skipped where it is absent."""
    try:
        return data_folder()
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def born() -> Callable[..., SDF]:
    """Certified but untrained: (seed, width, depth, frame) → SDF whose level set crosses its box."""

    def field(seed: int = 0, *, width: int = 32, depth: int = 4, frame: Frame | None = None) -> SDF:
        config = NetworkConfig(inputs=3, width=width, depth=depth, bias=0.1)  # kinks inside the box
        network = certify(LipschitzNetwork(config, torch.Generator().manual_seed(seed)))[0]
        frame = Frame(np.zeros(3), 1.0) if frame is None else frame
        corners = frame.to_world(np.array([[-1.15] * 3, [1.15] * 3]))
        words = {"support": "solid", "support_reason": "untrained", "settings": {"seed": seed}}
        sdf = SDF.proved(network, frame, Box(*corners), level=0.0, **words)
        middle = np.median(-sdf(np.random.default_rng(0).uniform(*corners, (1000, 3)))) / frame.scale
        return dataclasses.replace(sdf, level=float(middle))

    return field


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a preset that trains in about half a second: 4 × 32, 150 steps of 256, without spheres."""
    fast = PRESETS["fast"]
    small = dataclasses.replace(
        fast,
        network=NetworkConfig(inputs=3, width=32, depth=4),
        solid=dataclasses.replace(fast.solid, steps=150, batch=256, refresh=50),
        shell=dataclasses.replace(fast.shell, steps=150, batch=256, warm=50),
        wires=None,
        pool=20_000,
        spheres=False,
    )
    monkeypatch.setitem(PRESETS, "tiny", small)
    return "tiny"


@pytest.fixture(scope="session")
def cuboid() -> Cuboid:
    """Three different sides, far from the unit and from the origin: no symmetry hides a swapped axis."""
    return box(size=(74.0, 44.4, 29.6), center=(185.0, -74.0, 333.0))


@pytest.fixture(scope="session")
def cuboid_points(cuboid: Cuboid) -> np.ndarray:
    """1,000 points of its surface, by area."""
    mesh = trimesh.creation.box(extents=(74.0, 44.4, 29.6))
    points = surface_points(mesh, 1000, np.random.default_rng(0))[0]
    return points + cuboid.center


@pytest.fixture(scope="session")
def trained(cuboid_points: np.ndarray) -> SDF:
    """The cuboid as preset `fast` learns it from bare points: the one real training of the quick tests."""
    return fit(cuboid_points, preset="fast", seed=0, device="cpu")


@pytest.fixture(autouse=True)
def _sigint_is_heard() -> Iterator[None]:
    """A run started in the background of a shell ignores SIGINT; here Ctrl-C is heard as at a terminal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
