"""Classical surface reconstruction by other libraries, from bare points.

One function a peer; each takes an (n, 3) float array without normals and returns a `trimesh.Trimesh`. A
peer's library is imported inside its function, so that this module loads with none of them installed. They
are used as their own documentation suggests; lengths that a method asks for are multiples of the mean
distance h from a point to its nearest neighbour, the same multiples for every shape. A mesh that comes out
inside-out is turned, because we compare surfaces and not conventions.

The multiples were chosen once, by the mean Chamfer of 2,048 points of a cow, a CAD part and a chair of boxes:
alpha shapes 3, 4, 5, 6 h give 0.0114, 0.0103, 0.0105, 0.0107; ball pivoting with radii of 1, 2, 4 h or 2, 4,
8 h the same to 2 %; alpha wrap 3, 4, 5 h give 0.0071, 0.0079, 0.0101, but at 3 h it enters between the points
and wraps both sides of the surface (IoU 0.05 instead of 0.95), so 4 h.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from scipy.spatial import cKDTree

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

    result, _ = open3d.geometry.TriangleMesh.create_from_point_cloud_poisson(
        _oriented(points), depth=depth, n_threads=threads
    )
    return _outward(result.vertices, result.triangles)


def ball_pivoting(points: np.ndarray, *, threads: int = 1) -> trimesh.Trimesh:
    """Interpolating surface by Open3D's ball pivoting: balls of radius h, 2 h and 4 h, normals as for
    `poisson`.

    Parameters
    ----------
    points : (n, 3) float array
        Points on the surface.
    threads : int
        Unused: the algorithm is sequential.

    References
    ----------
    Bernardini et al., The ball-pivoting algorithm for surface reconstruction, IEEE TVCG 5(4), 1999.
    """
    import open3d

    radii = open3d.utility.DoubleVector([k * mean_spacing(points) for k in (1.0, 2.0, 4.0)])
    cloud = _oriented(points)
    result = open3d.geometry.TriangleMesh.create_from_point_cloud_ball_pivoting(cloud, radii)
    return _outward(result.vertices, result.triangles)


def alpha_shape(points: np.ndarray, *, threads: int = 1) -> trimesh.Trimesh:
    """Boundary of the Delaunay tetrahedra of circumradius at most 4 h, by Open3D; no normals used.

    Parameters
    ----------
    points : (n, 3) float array
        Points on the surface.
    threads : int
        Unused: the algorithm is sequential.

    References
    ----------
    Edelsbrunner and Mücke, Three-dimensional alpha shapes, ACM TOG 13(1), 1994.
    """
    import open3d

    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(np.asarray(points, dtype=np.float64)))
    radius = 4.0 * mean_spacing(points)
    result = open3d.geometry.TriangleMesh.create_from_point_cloud_alpha_shape(cloud, radius)
    return _outward(result.vertices, result.triangles)


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
    return _triangles(surface)


def alpha_wrap(points: np.ndarray, *, threads: int = 1) -> trimesh.Trimesh:
    """Closed surface by CGAL that encloses all points, shrunk onto them by balls of radius 4 h.

    It lies a thirtieth of that radius outside the points, CGAL's own ratio, so it encloses by design what
    others interpolate. No normals used.

    Parameters
    ----------
    points : (n, 3) float array
        Points on the surface.
    threads : int
        Unused: the algorithm is sequential.

    References
    ----------
    Portaneri et al., Alpha wrapping with an offset, ACM TOG 41(4), 2022.
    """
    from CGAL import CGAL_Alpha_wrap_3
    from CGAL.CGAL_Kernel import Point_3
    from CGAL.CGAL_Polyhedron_3 import Polyhedron_3

    cloud = [Point_3(*map(float, point)) for point in np.asarray(points, dtype=np.float64)]
    radius, surface = 4.0 * mean_spacing(points), Polyhedron_3()
    CGAL_Alpha_wrap_3.alpha_wrap_3(cloud, radius, radius / 30.0, surface)
    return _triangles(surface)


def co3ne(points: np.ndarray, *, threads: int = 1) -> trimesh.Trimesh:
    """Interpolating surface by Geogram's Co3Ne, the original paper's baseline, with Geogram's own settings.

    Those are a search radius of 5 % of the box's diagonal, 30 neighbours, and repair of the result. Geogram
    is no Python package: its program `vorpalite` is called when it is on PATH.

    Parameters
    ----------
    points : (n, 3) float array
        Points on the surface; they pass through a file with 17 digits.
    threads : int
        Geogram uses several only when this is above 1.

    Raises
    ------
    RuntimeError
        The program failed; the message ends with its last line.

    References
    ----------
    Boltcheva and Lévy, Surface reconstruction by computing restricted Voronoi cells in parallel, CAD 90,
    2017.
    """
    program = shutil.which(PROGRAMS["co3ne"])
    if program is None:
        raise ImportError(f"there is no {PROGRAMS['co3ne']} on PATH; it is part of Geogram")
    with tempfile.TemporaryDirectory() as folder:
        cloud, surface = Path(folder) / "points.xyz", Path(folder) / "surface.obj"
        np.savetxt(cloud, points, fmt="%.17g")
        settings = ["co3ne=true", "co3ne:repair=true", "pre=false", "remesh=false", "post=false"]
        settings.append(f"sys:multithread={'true' if threads > 1 else 'false'}")
        command = [program, *settings, str(cloud), str(surface)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode or not surface.exists():
            said = [line for line in (run.stdout + run.stderr).splitlines() if line.strip()]
            raise RuntimeError(f"exit code {run.returncode}: {said[-1] if said else 'without a word'}")
        mesh = trimesh.load_mesh(surface, process=False)
    return _outward(mesh.vertices, mesh.faces)


LIBRARIES: dict[str, tuple[str, str]] = {  # peer → (module it needs, distribution that brings it)
    "screened_poisson": ("pymeshlab", "pymeshlab"),
    "poisson": ("open3d", "open3d-cpu"),
    "ball_pivoting": ("open3d", "open3d-cpu"),
    "alpha_shape": ("open3d", "open3d-cpu"),
    "advancing_front": ("CGAL", "cgal"),
    "alpha_wrap": ("CGAL", "cgal"),
}
PROGRAMS = {"co3ne": "vorpalite"}  # peer → program that it needs on PATH
PEERS = (*LIBRARIES, *PROGRAMS)


def peer(name: str) -> Peer:
    """The function of a peer."""
    found: Peer = globals()[name]
    return found


def available() -> list[str]:
    """Peers whose library or program is installed. Nothing is imported: a library may still fail to load."""
    libraries = [name for name, (module, _) in LIBRARIES.items() if find_spec(module) is not None]
    return [*libraries, *(name for name, program in PROGRAMS.items() if shutil.which(program))]


def load(name: str) -> None:
    """Import what a peer needs, so that its clock measures the method.

    Raises
    ------
    ImportError
        Its library does not load here.
    """
    if name in LIBRARIES:
        import_module(LIBRARIES[name][0])


def mean_spacing(points: np.ndarray) -> float:
    """h, the mean distance from a point, (n, 3), to its nearest neighbour [units of the points]."""
    return float(cKDTree(points).query(points, k=2)[0][:, 1].mean())


def _oriented(points: np.ndarray) -> Any:
    """An Open3D cloud with normals from 30 neighbours, oriented along consistent tangent planes."""
    import open3d

    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(np.asarray(points, dtype=np.float64)))
    cloud.estimate_normals(open3d.geometry.KDTreeSearchParamKNN(30))
    cloud.orient_normals_consistent_tangent_plane(30)
    return cloud


def _triangles(surface: Any) -> trimesh.Trimesh:
    """A CGAL polyhedron of triangles as a mesh."""
    corners = []
    for facet in surface.facets():
        edge = facet.halfedge()
        for _ in range(3):
            corner = edge.vertex().point()
            corners.append((corner.x(), corner.y(), corner.z()))
            edge = edge.next()
    vertices, faces = np.unique(np.array(corners).reshape(-1, 3), axis=0, return_inverse=True)
    return _outward(vertices, faces.reshape(-1, 3))


def _outward(vertices: Any, faces: Any) -> trimesh.Trimesh:
    mesh = trimesh.Trimesh(np.array(vertices), np.array(faces), process=False)
    if len(mesh.faces) and mesh.volume < 0:
        mesh.invert()
    return mesh
