"""Random draws, generator in hand: points on a mesh, some of many, uniform seeds in a ball.

Nothing here touches a global generator: NumPy draws take a `numpy.random.Generator`, torch draws a
`torch.Generator`, so that one seed fixes a whole run.
"""

from __future__ import annotations

import numpy as np
import torch
import trimesh


def surface_points(mesh: trimesh.Trimesh, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Independent points on a mesh, uniform by area.

    Parameters
    ----------
    mesh : trimesh.Trimesh
        Triangles; orientation and closedness do not matter.
    n : int
        Number of points.
    rng : numpy.random.Generator
        Source of all randomness.

    Returns
    -------
    points : (n, 3) float64 array
        Positions [units of the mesh].
    face_index : (n,) int64 array
        The triangle each point lies on.

    Raises
    ------
    ValueError
        When the mesh has no area to draw from.

    References
    ----------
    Osada et al., Shape Distributions, ACM TOG 21(4), 2002, section 4.2 (the square-root rule).
    """
    corners = np.asarray(mesh.vertices, dtype=np.float64)[np.asarray(mesh.faces)]
    if not len(corners):
        raise ValueError("the mesh has no faces to sample; give a mesh with triangles or a point cloud")
    # Scale first: the cross products of a shape of size 1e-200 would underflow to an area of zero.
    extent = np.ptp(corners.reshape(-1, 3), axis=0).max()
    edges = (corners[:, 1:] - corners[:, :1]) / (extent if extent > 0 else 1.0)
    areas = 0.5 * np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    total = areas.sum()
    if not total > 0:
        raise ValueError(f"the {len(corners)} faces of the mesh have no area; is it degenerate or flat?")
    face_index = np.searchsorted(np.cumsum(areas), rng.random(n) * total, side="right")
    face_index = np.minimum(face_index, len(areas) - 1)
    root, along = np.sqrt(rng.random(n)), rng.random(n)
    weights = np.stack([1.0 - root, root * (1.0 - along), root * along], axis=1)
    return np.einsum("nk,nkd->nd", weights, corners[face_index]), face_index


def some_of(count: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """Return the rows, (m,) int64 ascending, of at most `most` of `count`, drawn without replacement."""
    if count <= most:
        return np.arange(count)
    return np.sort(rng.choice(count, most, replace=False))


def uniform_in_ball(
    n: int, center: torch.Tensor, radius: float, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Uniform seeds Q₀ in a ball, in any dimension (radius law u^(1/d)).

    Parameters
    ----------
    n : int
        Number of points.
    center : (d,) tensor
        Centre of the ball.
    radius : float
        Its radius.
    generator : torch.Generator, optional
        Source of randomness, on the device of `center`.

    Returns
    -------
    (n, d) tensor
        On the device and in the dtype of `center`.
    """
    shape = (n, center.shape[0])
    direction = torch.randn(shape, generator=generator, device=center.device, dtype=center.dtype)
    direction = direction / direction.norm(dim=1, keepdim=True).clamp_min(1e-30)
    u = torch.rand((n, 1), generator=generator, device=center.device, dtype=center.dtype)
    return center + radius * u.pow(1.0 / shape[1]) * direction
