"""What a grid may have missed is told by proof: sheets and islands between nodes, and nothing besides."""

from __future__ import annotations

from collections.abc import Callable

import igl
import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from ocsdf3d.analytic import ExactSDF, box, capsule, sphere, torus
from ocsdf3d.completeness import FINEST, Completeness, missed
from ocsdf3d.csg import Field
from ocsdf3d.geometry import Box
from ocsdf3d.grid import Grid, sample
from ocsdf3d.surface import EmptyLevelSetError, extract

Values = Callable[[np.ndarray], np.ndarray]

CUBE = Box([-1.0] * 3, [1.0] * 3)
H = 0.1  # of CUBE at 21 nodes, so the nodes are at whole tenths and the middles of cells at odd twentieths
BODY = sphere(0.42, (-0.5, -0.5, -0.5))  # what the grid does see
SLACK = (np.sqrt(3.0) + 1.0) * FINEST * H  # both sides: middles within half a diagonal, and half a part more
MIDDLE = np.array([0.55, 0.45, 0.65])  # of a cell far from it


def gridded(field: Values, *, level: float = 0.0, allowance: float = 0.0, lipschitz: float = 1.0) -> Grid:
    return sample(field, CUBE, 21, lipschitz=lipschitz, level=level, allowance=allowance)


def judged(field: Values, eps: float, *, allowance: float = 0.0, lipschitz: float = 1.0) -> Completeness:
    sampled = gridded(field, allowance=allowance, lipschitz=lipschitz)
    return missed(field, sampled, eps, lipschitz=lipschitz, allowance=allowance)


def island(radius: float) -> Field:
    """The body and a ball in the middle of a cell, whose corners are 0.087 away: unseen below that radius."""
    return BODY | sphere(radius, MIDDLE)


@pytest.mark.parametrize(
    "shape",
    [
        BODY,
        box((1.0, 0.7, 0.5), (0.03, 0.02, 0.01)),
        torus(0.6, 0.2),
        capsule((-0.4, -0.3, 0), (0.4, 0, 0.2), 0.2),
    ],
    ids=["sphere", "box", "torus", "capsule"],
)
@pytest.mark.parametrize("eps", [0.3, 0.01])
def test_shapes_wider_than_cells_are_complete(shape: ExactSDF, eps: float) -> None:
    found = judged(shape, eps)
    # Surface passes through no cell but crossed ones and those that touch them: radii are at least two cells.
    assert found.complete
    assert found.largest == 0.0
    assert found.clusters == 0
    assert found.eps == eps


def test_a_plate_thinner_than_a_cell_is_missed_as_a_whole() -> None:
    """Between two planes of nodes, beside a body: the mesh has the body alone, and nothing looks wrong."""
    plate = box((0.9, 0.7, 0.04), (0.4, 0.45, 0.55))
    field = BODY | plate
    assert extract(gridded(field)).bounds[1].max() < 0.0
    found = judged(field, 0.5)
    assert not found.complete
    assert found.clusters == 1
    assert plate.box.diagonal <= found.largest <= np.linalg.norm(plate.box.size + SLACK / FINEST)
    # Of 9 · 7 cells both faces, 64² parts each, would be 516,096: it is seen before, at 16² parts each, that
    # it stays large.
    assert found.evaluations < 516_096 / 4


def test_a_layer_that_a_lazy_field_leaves_around_its_mesh_is_no_piece() -> None:
    """Rising by 0.15 of the bound, a ball leaves cells undecided for five cells around its surface."""

    def lazy(x: np.ndarray) -> np.ndarray:
        return 0.15 * BODY(x)

    sampled = gridded(lazy)
    assert len(sampled.undecided) > len(gridded(BODY).undecided)
    found = missed(lazy, sampled, 0.05, lipschitz=1.0)
    assert found.complete
    assert found.clusters == 0


def test_a_sheet_without_any_mesh_is_missed() -> None:
    """Nothing is crossed at all: `extract` would say that the level set is empty."""
    plate = box((0.6, 0.5, 0.02), (0.0, 0.0, 0.05))
    with pytest.raises(EmptyLevelSetError):
        extract(gridded(plate))
    found = judged(plate, 0.5)
    assert not found.complete
    assert found.largest >= plate.box.diagonal


@pytest.mark.parametrize(("half", "seen"), [(0.5e-5, False), (2e-5, True)])
def test_a_plate_on_nodes_that_the_mesh_puts_outside_is_missed(half: float, seen: bool) -> None:
    """Nodes less than 1e-4 of a cell inside count as outside when the mesh is made; here that is 1e-5."""
    plate = box((0.9, 0.7, 2.0 * half), (0.4, 0.45, 0.5))
    sampled = gridded(BODY | plate)
    assert (extract(sampled).bounds[1].max() > 0.0) == seen
    assert missed(BODY | plate, sampled, 0.1, lipschitz=1.0).complete == seen


def test_a_search_that_is_cut_short_claims_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert judged(island(0.01), 0.05).complete
    monkeypatch.setattr("ocsdf3d.completeness.LIMIT", 10)
    found = judged(island(0.01), 0.05)
    assert not found.complete
    assert found.largest == pytest.approx(np.sqrt(3.0) * H)  # the whole cell


def test_nothing_missed_where_there_is_nothing() -> None:
    found = judged(sphere(0.1, (9.0, 0.0, 0.0)), 0.01)
    assert found == Completeness(True, 0.01, 0.0, 0, 0)  # no cell is undecided, so nothing is asked


@pytest.mark.parametrize("radius", [0.03, 0.06, 0.08])
def test_an_island_between_nodes_counts_by_its_size(radius: float) -> None:
    field = island(radius)
    assert extract(gridded(field)).bounds[1].max() < 0.0  # a ball of less than 0.087 is not seen
    small = judged(field, 1.9 * radius)
    assert not small.complete
    assert small.clusters == 1
    around = np.sqrt(3.0) * (2.0 * radius + SLACK)  # diagonal of the box around it
    assert 2.0 * radius <= small.largest <= around + 3.0 * SLACK  # halved twice less: it cannot become small
    large = judged(field, around)
    assert large.complete
    assert 2.0 * radius <= large.largest <= around


def test_islands_in_distant_cells_are_counted_apart() -> None:
    field = BODY
    for middle in ((0.55, 0.45, 0.65), (0.55, -0.35, 0.65), (-0.65, 0.45, 0.65)):
        field = field | sphere(0.05, middle)
    found = judged(field, 0.08)
    assert not found.complete
    assert found.clusters == 3
    # Not the hull of all three, 1.4 across.
    assert found.largest < 0.3


def test_islands_in_touching_cells_are_one() -> None:
    """Two balls of 0.08 in cells side by side, 0.02 apart: a piece cannot be told from two."""
    found = judged(island(0.04) | sphere(0.04, MIDDLE + np.array([H, 0.0, 0.0])), 0.1)
    assert found.clusters == 1
    assert found.largest >= H + 0.08


def test_a_piece_beside_the_mesh_is_not_told_but_is_within_two_diagonals() -> None:
    """The promise: what reaches a cell beside a crossed one is no farther from the mesh than 2 √3 h."""
    near = sphere(0.05, (-0.05, -0.45, -0.45))  # the body ends at −0.08, in the cell before
    field = BODY | near
    found = judged(field, 0.01)
    assert found.complete
    mesh = extract(gridded(field))
    apart = cKDTree(mesh.vertices).query(near.center)[0] + near.radius
    assert apart < 2.0 * np.sqrt(3.0) * H


@pytest.mark.parametrize("seed", range(4))
def test_no_ball_of_many_is_missed_without_a_word(seed: int) -> None:
    """Random balls of 0.2 to 0.8 cells: some are meshed, some lie beside those, the others must be told."""
    rng = np.random.default_rng(seed)
    centres, radii = rng.uniform(-0.9, 0.9, (30, 3)), rng.uniform(0.02, 0.08, 30)
    field: Field = BODY
    for centre, radius in zip(centres, radii, strict=True):
        field = field | sphere(radius, centre)
    found = judged(field, 0.04)
    mesh = extract(gridded(field))
    square = igl.point_mesh_squared_distance(centres, np.array(mesh.vertices), np.array(mesh.faces))[0]
    between = cdist(centres, centres) - radii - radii[:, None] + np.diag(np.full(30, np.inf))
    alone = (np.sqrt(square) - radii > 2.0 * np.sqrt(3.0) * H) & (between.min(axis=1) > 0.0)
    assert alone.sum() >= 3
    assert not found.complete
    assert found.largest >= 2.0 * radii[alone].max()


def test_every_evaluation_is_counted() -> None:
    asked = 0

    def counting(points: np.ndarray) -> np.ndarray:
        nonlocal asked
        asked += len(points)
        return island(0.05)(points)

    sampled = gridded(counting)
    asked = 0
    found = missed(counting, sampled, 0.02, lipschitz=1.0)
    assert found.evaluations == asked > 0
    assert missed(counting, sampled, 0.08, lipschitz=1.0).evaluations < asked  # larger parts will do


@pytest.mark.parametrize("level", [-0.05, 0.04])
def test_the_level_of_the_grid_counts(level: float) -> None:
    """A ball of 0.06: of 0.01 at level −0.05, and of 0.1 at 0.04, where a grid sees it."""
    sampled = gridded(island(0.06), level=level)
    found = missed(island(0.06), sampled, 0.05, lipschitz=1.0)
    assert found.complete
    assert (found.largest > 0.0) == (level < 0.0)
    assert not missed(island(0.06), gridded(island(0.06)), 0.05, lipschitz=1.0).complete


def test_a_slope_below_the_bound_asks_more_and_says_the_same() -> None:
    def lazy(points: np.ndarray) -> np.ndarray:
        return 0.4 * island(0.06)(points)

    exact, found = judged(island(0.06), 0.1), judged(lazy, 0.1)
    assert found.evaluations > exact.evaluations
    assert not found.complete
    assert judged(lambda points: 0.4 * BODY(points), 0.1).complete


def noisy(field: Values, size: float) -> Values:
    """Off by exactly ± `size`, as good as random."""
    return lambda points: field(points) + size * np.sign(np.sin(1e4 * points.sum(axis=1)) + 1e-9)


def test_noise_within_its_allowance_changes_no_verdict() -> None:
    """±0.001, a hundredth of a cell."""
    assert judged(noisy(BODY, 1e-3), 0.05, allowance=1e-3).complete
    assert not judged(noisy(island(0.06), 1e-3), 0.1, allowance=1e-3).complete


def test_an_error_of_the_values_hides_an_island_unless_it_is_declared() -> None:
    """Every value too high by 0.03 drowns a ball of 0.025, but its allowance brings it back."""

    def drowned(points: np.ndarray) -> np.ndarray:
        return island(0.025)(points) + 0.03

    assert judged(drowned, 0.04).complete
    assert not judged(drowned, 0.04, allowance=0.03).complete


def test_negative_control_a_wrong_bound_hides_the_island() -> None:
    """3φ is not 1-Lipschitz: its values prove balls that reach across the island."""

    def steep(points: np.ndarray) -> np.ndarray:
        return 3.0 * island(0.03)(points)

    assert not judged(steep, 0.05, lipschitz=3.0).complete
    assert judged(steep, 0.05, lipschitz=1.0).complete


@pytest.mark.parametrize("eps", [0.0, -0.1, np.nan, np.inf])
def test_eps_must_be_positive_and_finite(eps: float) -> None:
    with pytest.raises(ValueError, match="`eps` must be positive and finite; got"):
        judged(BODY, eps)


def test_a_dense_grid_proves_nothing() -> None:
    with pytest.raises(ValueError, match="`grid` must be sparse"):
        missed(BODY, sample(BODY, CUBE, 21), 0.1, lipschitz=1.0)
