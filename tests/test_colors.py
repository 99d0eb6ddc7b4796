"""Colours carried over from clouds and meshes to other surfaces, and through the whole way to a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh

from ocsdf3d import io
from ocsdf3d.colors import colors_at, paint
from ocsdf3d.geometry import PointCloud
from ocsdf3d.pipeline import reconstruct
from ocsdf3d.presets import PRESETS


def test_at_a_point_of_the_cloud_the_color_is_its_own() -> None:
    rng = np.random.default_rng(0)
    cloud = PointCloud(1e6 + rng.random((200, 3)), colors=rng.integers(0, 256, (200, 3)))
    assert np.array_equal(colors_at(cloud.points, cloud), cloud.colors)


def test_between_points_colors_are_mixed_by_the_inverse_square_of_the_distance() -> None:
    cloud = PointCloud([[0, 0, 0], [3, 0, 0]], colors=[[0, 0, 0], [250, 100, 5]])
    found = colors_at(np.array([[1.5, 0.0, 0.0], [1.0, 0.0, 0.0]]), cloud)
    assert found is not None
    assert found.tolist() == [[125, 50, 2], [50, 20, 1]]  # halves; then 1/4 to 1


def test_on_a_mesh_colors_are_those_of_the_triangle_below() -> None:
    corners = np.array(
        [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0.2, 0.2, -0.01]], np.float64
    )  # the last is nearest
    colors = np.array([[0, 0, 0], [200, 0, 0], [0, 200, 0], [255, 255, 255]], np.uint8)
    mesh = trimesh.Trimesh(corners, [[0, 1, 2]], vertex_colors=colors, process=False)
    found = colors_at(np.array([[0.25, 0.25, 0.1], [5.0, -1.0, 0.0]]), mesh)
    assert found is not None
    assert found.tolist() == [[50, 50, 0], [200, 0, 0]]
    flat = trimesh.Trimesh(corners, [[0, 0, 0]], vertex_colors=colors + np.uint8(7), process=False)
    assert np.array_equal(colors_at(np.zeros((1, 3)), flat), [[7, 7, 7]])


def test_what_has_no_colors_leaves_a_mesh_as_it_is() -> None:
    ball = trimesh.creation.icosphere(1)
    assert not paint(ball, PointCloud(ball.vertices))
    assert not paint(ball, trimesh.creation.box())
    assert io.known_colors(ball) is None


def test_points_in_color_give_a_mesh_in_color(tmp_path: Path) -> None:
    """Red where x > 0, else blue."""
    points = trimesh.creation.icosphere(3).vertices + 50.0
    colors = np.where(points[:, :1] > 50.0, [[255, 0, 0]], [[0, 0, 255]])
    quick = PRESETS["fast"].with_each(lambda config: config.__class__(**{**vars(config), "steps": 60}))
    mesh = reconstruct(PointCloud(points, colors=colors), preset=quick, resolution=32, support="solid")
    assert "resolution" in mesh.metadata
    for name in ("ball.ply", "ball.obj", "ball.glb"):
        back = io.read(io.write(tmp_path / name, mesh))
        seen = io.known_colors(back)
        assert seen is not None
        far = np.abs(back.vertices[:, 0] - 50.0) > 0.3
        wanted = np.where(back.vertices[:, :1] > 50.0, [[255, 0, 0]], [[0, 0, 255]])
        assert far.sum() > 100
        assert np.abs(seen[far].astype(int) - wanted[far]).max() <= 1
