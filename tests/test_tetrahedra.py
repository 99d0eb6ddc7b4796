"""Labels by tetrahedra: features that forget place and size, and walls thinner than the spacing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial import ConvexHull, cKDTree

from ocsdf3d import analytic, tetrahedra
from ocsdf3d.sampling import surface_points
from ocsdf3d.tetrahedra import (
    CORNERS,
    GAIN,
    Graph,
    SideNetwork,
    graph_of,
    labelled,
    sharpened,
    taught,
    to_circumcentres,
    triangulated,
)
from ocsdf3d.winding import FIELDS, DipoleField, bare_fields, dense_fields, local_spacing


def sampled(mesh: trimesh.Trimesh, n: int, seed: int = 0) -> np.ndarray:
    return surface_points(mesh, n, np.random.default_rng(seed))[0]


def solved(points: np.ndarray) -> list[DipoleField]:
    return bare_fields(points)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


PLATE = (1.6, 1.2, 0.03)
SHAPES = {
    "sphere": (trimesh.creation.icosphere(5), analytic.sphere(1.0)),
    "torus": (trimesh.creation.torus(0.75, 0.25), analytic.torus(0.75, 0.25)),
    "box": (trimesh.creation.box((2.0, 1.2, 0.8)), analytic.box((2.0, 1.2, 0.8))),
}


@pytest.mark.parametrize("name", list(SHAPES))
def test_both_labellings_tell_the_sides(name: str) -> None:
    mesh, phi = SHAPES[name]
    points = sampled(mesh, 1000)
    fields = solved(points)
    x = np.random.default_rng(5).uniform(-1.15, 1.15, (20_000, 3))
    true = phi(x) < 0.0
    for reading in (
        sharpened(fields[0], np.random.default_rng(0)),
        labelled(fields, np.random.default_rng(0)),
    ):
        inside = reading(x) > 0.5
        assert iou(inside, true) > 0.93
        assert (inside == true)[np.abs(phi(x)) > 0.1].mean() > 0.9995


def test_a_plate_thinner_than_the_spacing_is_filled() -> None:
    """1,000 points on two sheets of 1.9 each: spacing 0.07, thickness 0.03. The field alone has holes."""
    points = sampled(trimesh.creation.box(PLATE), 1000)
    fields = solved(points)
    assert np.median(fields[0].spacing) > 1.5 * PLATE[2]
    x = np.random.default_rng(1).uniform(-0.5, 0.5, (20_000, 3)) * np.array([*PLATE[:2], 3 * PLATE[2]])
    true = analytic.box(PLATE)(x) < 0.0
    plain, read = fields[0](x) > 0.5, labelled(fields, np.random.default_rng(0))(x) > 0.5
    assert iou(read, true) > iou(plain, true) + 0.1
    assert iou(read, true) > 0.75


def test_a_thin_plate_is_filled_where_fields_share_their_elements() -> None:
    """3,000 points, thickness 0.03, spacing 0.04, a quarter of them solved: IoU 0.82; by the field 0.02."""
    points = sampled(trimesh.creation.box(PLATE), 3000)
    few = solved(points[:800])
    fields = dense_fields(points, few[0], labelled(few, np.random.default_rng(0)))
    x = np.random.default_rng(1).uniform(-0.5, 0.5, (20_000, 3)) * np.array([*PLATE[:2], 3 * PLATE[2]])
    true = analytic.box(PLATE)(x) < 0.0
    assert iou(labelled(fields, np.random.default_rng(0))(x) > 0.5, true) > 0.7
    assert iou(sharpened(fields[0], np.random.default_rng(0))(x) > 0.5, true) < 0.1


def test_messages_do_not_depend_on_how_many_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = solved(sampled(trimesh.creation.icosphere(3), 300))
    mesh = triangulated(fields[0].points, fields[0].spacing, np.random.default_rng(0))
    graph = graph_of(fields, mesh, np.random.default_rng(0))
    whole = taught()(graph)
    monkeypatch.setattr(tetrahedra, "TOGETHER", len(graph.neighbours) // 3)
    for one, other in zip(whole, taught()(graph), strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_nothing_outside_the_hull_is_inside() -> None:
    points = sampled(trimesh.creation.torus(0.75, 0.25), 1000)
    fields = solved(points)
    x = np.random.default_rng(2).uniform(-1.15, 1.15, (20_000, 3))
    planes = ConvexHull(points).equations
    outside = (x @ planes[:, :3].T + planes[:, 3]).max(
        axis=1
    ) > 1e-3  # jitter moves the hull by 1e-3 spacings
    assert outside.mean() > 0.3
    assert (labelled(fields, np.random.default_rng(0))(x[outside]) == 0.0).all()
    # There the tetrahedral half is 0, so inside would take a winding number above 1: measured 0; room for
    # outliers of the fast summation.
    halved = sharpened(fields[0], np.random.default_rng(0))
    assert (halved(x[outside]) > 0.5).mean() < 5e-4


def test_features_forget_place_and_size() -> None:
    points = sampled(trimesh.creation.torus(0.75, 0.25), 400)
    graphs = []
    for scale, shift in ((1.0, 0.0), (0.25, 0.0), (1.0, 0.5)):
        moved = scale * points + shift
        fields = solved(moved)
        mesh = triangulated(points, local_spacing(cKDTree(points), points), np.random.default_rng(1))
        graphs.append(graph_of(fields, mesh, np.random.default_rng(2)))
    for other in graphs[1:]:
        assert torch.equal(graphs[0].neighbours, other.neighbours)
        # Fields are solved in float32 and summed by a tree, and of a tetrahedron that is nearly flat the
        # circumcentre lies on either side: 1 % of the features may differ by more.
        for a, b in ((graphs[0].tetrahedra, other.tetrahedra), (graphs[0].faces, other.faces)):
            assert ((a - b).abs() > 0.05).float().mean() < 0.01


def test_circumcentres_survive_corners_on_one_line() -> None:
    """Those of a lattice lie on lines and planes to the last bit, where the system has no solution."""
    corner, line = 2.0 * np.eye(3), np.outer([1.0, 2.0, 3.0], [1.0, 0.0, 0.0])
    with pytest.raises(np.linalg.LinAlgError):
        np.linalg.solve(2.0 * line, np.ones((3, 1)))
    ways = to_circumcentres(np.stack([corner, line]), 0.0)
    np.testing.assert_allclose(ways[0], [1.0, 1.0, 1.0])
    assert np.isfinite(ways).all()


def test_graph_of_one_tetrahedron_is_as_computed_by_hand() -> None:
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    tree, spacing = cKDTree(points), np.ones(4)
    fields = [DipoleField(points, np.full((4, 3), 0.1), tree, spacing, width) for width, _ in FIELDS]
    mesh = triangulated(points, spacing, np.random.default_rng(0))
    graph = graph_of(fields, mesh, np.random.default_rng(0))
    assert graph.tetrahedra.shape == (2, CORNERS)
    assert graph.neighbours.tolist() == [[1, 1, 1, 1]]
    radius, volume = np.sqrt(0.75), 1.0 / 6.0
    row, k = graph.tetrahedra[0].numpy(), len(FIELDS) + 4  # least, largest, two at the circumcentre
    assert row[k] == pytest.approx(np.log(radius), abs=2e-3)
    assert row[k + 1] == pytest.approx(0.3 * np.log(volume), abs=1e-3)
    assert row[k + 2 : k + 8] == pytest.approx(np.log([1, 1, 1, 2**0.5, 2**0.5, 2**0.5]), abs=0.02)
    assert row[k + 8 : k + 12] == pytest.approx(np.log(np.full(4, 0.1 * 3**0.5 + 0.05)), abs=1e-6)
    # All elements point along (1, 1, 1), as the centroid does from the origin; from e₁ it lies at (−3, 1, 1).
    from_corner = -1.0 / 33**0.5
    for first in (k + 12, k + 15):
        assert row[first : first + 3] == pytest.approx(
            [(1.0 + 3.0 * from_corner) / 4.0, from_corner, 1.0], abs=5e-3
        )
    assert graph.tetrahedra[1, :k].tolist() == [-0.5 * GAIN] * k
    # The circumcentre (1/2, 1/2, 1/2) lies 1/2 within three faces and 1/(2√3) beyond the large one.
    heights = sorted(graph.faces[0, :, 1].tolist())
    assert heights == pytest.approx(np.array([-0.5 / 3**0.5, 0.5, 0.5, 0.5]) / radius, abs=5e-3)
    assert sorted(np.exp(graph.faces[0, :, 0].numpy()) - 0.01) == pytest.approx(
        [0.5, 0.5, 0.5, 0.75**0.5], abs=5e-3
    )
    assert (graph.faces[0, :, 2] == 1.0).all()
    altitudes = sorted(np.exp(graph.faces[0, :, 3].numpy()) - 0.01)
    assert altitudes == pytest.approx([1 / 3**0.5, 1.0, 1.0, 1.0], abs=5e-3)
    radii = sorted(np.exp(graph.faces[0, :, 4].numpy()) - 0.01)
    assert radii == pytest.approx([0.5**0.5] * 3 + [(2 / 3) ** 0.5], abs=5e-3)
    # Outward normals: (1, 1, 1)/√3 of the large face, −e of the others, against elements along (1, 1, 1).
    for column in (5, 6, 7, 8):
        assert sorted(graph.faces[0, :, column].tolist()) == pytest.approx(
            [-1 / 3**0.5] * 3 + [1.0], abs=5e-3
        )


def test_the_order_of_tetrahedra_and_faces_does_not_matter() -> None:
    points = sampled(trimesh.creation.icosphere(3), 300)
    fields = solved(points)
    graph = graph_of(
        fields, triangulated(points, fields[0].spacing, np.random.default_rng(0)), np.random.default_rng(0)
    )
    t = len(graph.neighbours)
    order = torch.randperm(t, generator=torch.Generator().manual_seed(0))
    where = torch.empty(t + 1, dtype=torch.int64)
    where[order], where[t] = torch.arange(t), t
    turned = Graph(
        graph.tetrahedra[torch.cat([order, torch.tensor([t])])],
        graph.faces[order].roll(1, dims=1),
        where[graph.neighbours[order].roll(1, dims=1)],
    )
    for one, other in zip(taught()(graph), taught()(turned), strict=True):
        assert torch.allclose(one[order], other, atol=1e-4)
        assert one.std() > 0.1  # and it says something


def test_slope_is_never_negative_and_neighbours_are_heard() -> None:
    points = sampled(trimesh.creation.icosphere(3), 300)
    fields = solved(points)
    graph = graph_of(
        fields, triangulated(points, fields[0].spacing, np.random.default_rng(0)), np.random.default_rng(0)
    )
    torch.manual_seed(0)
    network = SideNetwork()
    a, b = network(graph)
    assert (b >= 0.0).all()
    louder = graph.tetrahedra.clone()
    louder[0] += 1.0
    changed = (network(dataclasses.replace(graph, tetrahedra=louder))[0] - a).abs() > 1e-7
    assert changed[graph.neighbours[0][graph.neighbours[0] < len(a)]].all()
    assert not changed.all()  # three faces away, not everywhere


def test_same_generator_same_answer() -> None:
    points = sampled(trimesh.creation.torus(0.75, 0.25), 500)
    fields, x = solved(points), np.random.default_rng(1).uniform(-1.0, 1.0, (2000, 3))
    one, same, other = (labelled(fields, np.random.default_rng(seed))(x) for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_points_are_not_written_into() -> None:
    points = sampled(trimesh.creation.icosphere(3), 300)
    points.setflags(write=False)
    fields = solved(points)
    sharpened(fields[0], np.random.default_rng(0))
    labelled(fields, np.random.default_rng(0))
