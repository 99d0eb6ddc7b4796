"""Classical surface reconstruction by other libraries, from bare points.

One function a peer; each takes an (n, 3) float array without normals and returns a `trimesh.Trimesh`. A
peer's library is imported inside its function, so that this module loads with none of them installed. They
are used as their own documentation suggests, with no tuning per shape; a mesh that comes out inside-out is
turned, because we compare surfaces and not conventions.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import trimesh

Peer = Callable[..., trimesh.Trimesh]


def screened_poisson(points: np.ndarray, *, depth: int = 8, threads: int = 1) -> trimesh.Trimesh:
    """Screened Poisson surface by MeshLab, with normals estimated and oriented by MeshLab.

    Parameters
    ----------
    points : (n, 3) float array
        Points on the surface.
    depth : int
        Octree depth; with 2,048 points 7 and 8 are the same (mean Chamfer 0.0196 and 0.0198 on ten shapes),
        with more points 8 resolves more.
    threads : int
        Threads for the solver.

    References
    ----------
    Kazhdan and Hoppe, Screened Poisson surface reconstruction, ACM TOG 32(3), 2013.
    """
    import pymeshlab

    meshes = pymeshlab.MeshSet(verbose=False)
    meshes.add_mesh(pymeshlab.Mesh(vertex_matrix=np.asarray(points, dtype=np.float64)))
    meshes.compute_normal_for_point_clouds(k=20)
    meshes.generate_surface_reconstruction_screened_poisson(depth=depth, threads=threads, preclean=True)
    result = meshes.current_mesh()
    return _outward(result.vertex_matrix(), result.face_matrix())


def poisson(points: np.ndarray, *, depth: int = 8, threads: int = 1) -> trimesh.Trimesh:
    """Screened Poisson surface by Open3D; normals from 30 neighbours, oriented along consistent tangent
    planes.

    Parameters
    ----------
    points : (n, 3) float array
        Points on the surface.
    depth : int
        Octree depth.
    threads : int
        Threads for the solver.

    References
    ----------
    Hoppe et al., Surface reconstruction from unorganized points, SIGGRAPH 1992 (orientation).
    """
    import open3d

    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(np.asarray(points, dtype=np.float64)))
    cloud.estimate_normals(open3d.geometry.KDTreeSearchParamKNN(30))
    cloud.orient_normals_consistent_tangent_plane(30)
    result, _ = open3d.geometry.TriangleMesh.create_from_point_cloud_poisson(
        cloud, depth=depth, n_threads=threads
    )
    return _outward(np.asarray(result.vertices), np.asarray(result.triangles))


def advancing_front(points: np.ndarray, *, threads: int = 1) -> trimesh.Trimesh:
    """Interpolating surface by CGAL's advancing front: the points themselves are the vertices, no normals
    used.

    Parameters
    ----------
    points : (n, 3) float array
        Points on the surface.
    threads : int
        Unused: the algorithm is sequential.

    References
    ----------
    Cohen-Steiner and Da, A greedy Delaunay-based surface reconstruction algorithm, The Visual Computer 20,
    2004.
    """
    from CGAL import CGAL_Advancing_front_surface_reconstruction
    from CGAL.CGAL_Kernel import Point_3
    from CGAL.CGAL_Point_set_3 import Point_set_3
    from CGAL.CGAL_Polyhedron_3 import Polyhedron_3

    cloud = Point_set_3()  # the binding refuses a plain list
    for point in np.asarray(points, dtype=np.float64):
        cloud.insert(Point_3(*map(float, point)))
    surface = Polyhedron_3()
    CGAL_Advancing_front_surface_reconstruction.advancing_front_surface_reconstruction(cloud, surface)

    corners = []
    for facet in surface.facets():
        edge = facet.halfedge()
        for _ in range(3):
            corner = edge.vertex().point()
            corners.append((corner.x(), corner.y(), corner.z()))
            edge = edge.next()
    vertices, faces = np.unique(np.array(corners).reshape(-1, 3), axis=0, return_inverse=True)
    return _outward(vertices, faces.reshape(-1, 3))


LIBRARIES: dict[str, tuple[str, str]] = {  # peer → (module it needs, distribution that brings it)
    "screened_poisson": ("pymeshlab", "pymeshlab"),
    "poisson": ("open3d", "open3d-cpu"),
    "advancing_front": ("CGAL", "cgal"),
}


def available() -> dict[str, Peer]:
    """Peers whose library is installed, by name. Nothing is imported: a library may still fail to load."""
    return {name: globals()[name] for name, (module, _) in LIBRARIES.items() if find_spec(module) is not None}


def _outward(vertices: np.ndarray, faces: np.ndarray) -> trimesh.Trimesh:
    mesh = trimesh.Trimesh(np.array(vertices), np.array(faces), process=False)
    if len(mesh.faces) and mesh.volume < 0:
        mesh.invert()
    return mesh
