"""Inside or outside by Delaunay tetrahedra, which keep sharp what a winding field rounds.

The faces of the Delaunay tetrahedra interpolate the points, so a labelling of the tetrahedra has creases
and thin walls where a winding field, whose kernel is about a spacing wide, has none. Averaging the field over
each tetrahedron is one labelling (`sharpened`). Where a wall is thinner than the spacing it fails: the two
sheets cancel, and the field hardly rises between them. There the shape of the tetrahedra tells more, and so
does the company they keep.

`labelled` therefore asks a small network, 75,000 weights, which saw random solids only (plates, bars, wires,
pipes, blobs and their unions and differences, `ocsdf3d.bench.teach`): from several winding fields, from the
shape of a tetrahedron and of its neighbours, and from how its faces lie to the surface elements and planes of
the cloud, it gives the line by which the field χ is read there: x is inside when a + b·(χ(x) − 1/2) > 0.

IoU of the labels of 20,000 uniform points, mean over the 22 closed shapes of the development set, 2,048 bare
points each, none of them taught: 0.879 by the field, 0.893 by `sharpened`, 0.925 by `labelled` (0.922 with
three rounds of 32 channels and without the elements and planes). Labels that are right for the most of every
tetrahedron, which no network can beat by much, have 0.97 on a rocker arm (`labelled` 0.97), 0.95 on two thin
CAD parts (0.87, 0.90), 0.89 on a chair of thin plates (0.81), 0.61 on a cage of wires (0.51). More teaching
does not close that gap: another network, 440 other lessons, smoothed noise among them, for 6,000 steps, has
0.923 where this one has 0.925, 0.820 for 0.815 of 500 points, and the mean of both 0.925 and 0.820.

More points than can be solved for share one set of elements (`winding.dense_fields`), and the network, whose
features are in units of the local spacing, reads them as it is: mean over camel, fandisk, rocker arm, a chair
of thin plates, fertility, daratech and cow 0.978 of 20,000 points (seed 0), 0.943 of 10,000 (seed 1), where
`sharpened` had 0.941 and 0.844; the chair alone 0.92 and 0.76 for 0.59 and 0.21. Elements turned by the
labels of 2,048 solved points, a quarter of their spacing off, instead of by the first field of 4,096, half of
it off, take less time: the chair of 10,000 points 0.763 → 0.798 and 0.788 → 0.802 (seeds 1 and 0), of 20,000
0.921 → 0.931, camel and fertility within 0.001; another draw of the subset moves the chair by as much.
Turning them again by the labels of all brings nothing; elements larger by a quarter lift the chair to 0.94
and lower the camel from 0.989 to 0.978.

Nothing that was taught has a hole as large as a scan's, where nobody looked. There, spacings away from every
sample, the field alone is read, which closes a hole by what is nearest to a plane. The bunny's scan has no
underside: the network's lines made a dent up to its back, the field makes a floor (15,285 points, Chamfer
distance to the other half 0.0126 → 0.0089 of the longest side). None of 20,000 points in the boxes of the 22
closed shapes changes its side.

References
----------
Sulzer, Landrieu, Marlet, Vallet, Scalable Surface Reconstruction with Delaunay-Graph Neural Networks, CGF
40(5), 2021 (labels on a Delaunay graph; there from visibility). Amenta, Choi, Kolluri, The Power Crust, 2001
(what circumscribed spheres tell).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from scipy.spatial import Delaunay, cKDTree
from torch import nn

from ocsdf3d.cores import tree_workers
from ocsdf3d.neighbourhoods import principal_axes
from ocsdf3d.winding import FIELDS, ROUGH_SUMMATION, SUMMATION, DipoleField, Winding, readings

__all__ = ["Graph", "SideNetwork", "graph_of", "labelled", "sharpened", "to_circumcentres", "triangulated"]

Floats = NDArray[np.float64]

SAMPLES = 4  # of a field in a tetrahedron
# Where only the kernel's width tells the fields apart, and summed roughly. One sample: chair 0.917, 0.923 by
# two; the exacter summation takes twice the time for 0.0002.
DENSE_SAMPLES = 2
JITTER = 1e-3  # of the spacing: Delaunay of exactly cospherical points takes quadratic time
CHANNELS = 48
ROUNDS = 6  # of messages between neighbours: what a tetrahedron sees of its surroundings
CORNERS = len(FIELDS) + 27  # features of a tetrahedron
FACES = 11  # features of a face
NARROW = 3  # of `FIELDS`: a narrow kernel, a small ρ
FARTHEST = 4.0  # local spacings that a circumcentre may lie away
PLANE = 9  # points of a plane fit
OPPOSITE = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])  # corners of the face opposite to each
TOGETHER = 65_536  # tetrahedra whose messages are in memory at a time
TAUGHT, UNTAUGHT = 2.0, 6.0  # local spacings from the nearest sample: as the network says, and as the field
PLAIN = 30.0  # slope of the line by which the field alone is read
GAIN = 4.0  # of a field about 1/2, so that features have size 1
WEIGHTS = Path(__file__).with_suffix(".safetensors")


def triangulated(points: Floats, spacing: Floats, rng: np.random.Generator) -> Delaunay:
    """Return the Delaunay tetrahedra of points (n, 3), jittered by a thousandth of the spacing (n,)."""
    return Delaunay(points + JITTER * spacing[:, None] * rng.normal(size=points.shape))


def inner_points(
    points: Floats, simplices: NDArray[np.int32], samples: int, rng: np.random.Generator
) -> Floats:
    """Return uniform samples of each tetrahedron, (t · samples, 3)."""
    weights = rng.dirichlet(np.ones(4), (len(simplices), samples))
    return np.einsum("tsk,tkd->tsd", weights, points[simplices]).reshape(-1, 3)


def to_circumcentres(sides: Floats, least: float) -> Floats:
    """Return the ways from one corner of tetrahedra to their circumcentres, (t, 3).

    Parameters
    ----------
    sides : (t, 3, 3) array
        From that corner to the three others.
    least : float
        Added to the system's diagonal: a flat tetrahedron has a huge circumsphere, not none [as `sides`].
    """
    system = 2.0 * sides + least * np.eye(3)  # 2 sides · way = |sides|²
    squares = (sides**2).sum(axis=-1)[..., None]
    try:
        return np.linalg.solve(system, squares)[..., 0]
    except np.linalg.LinAlgError:  # corners of a lattice, on one line to the last bit: take the shortest way
        return (np.linalg.pinv(system) @ squares)[..., 0]


def sharpened(field: DipoleField, rng: np.random.Generator) -> Winding:
    """Return half of the field of points plus half of its mean over the Delaunay tetrahedron that x lies in.

    Outside the hull the tetrahedral half is 0. On nine closed shapes of 2,048 points this lifts the IoU from
    0.902 to 0.920. Labelling the tetrahedra by minimum cut, by their circumcentres, or points by robust
    moving least squares was worse (0.83, 0.84, 0.89).
    """
    mesh = triangulated(field.points, field.spacing, rng)
    samples = max(1, min(SAMPLES, 500_000 // len(mesh.simplices)))
    inner = inner_points(field.points, mesh.simplices, samples, rng)
    means = np.append(field(inner).reshape(-1, samples).mean(axis=1), 0.0)

    def mixed(x: Floats) -> Floats:
        return 0.5 * (field(x) + means[mesh.find_simplex(x)])

    return mixed


@dataclass(frozen=True, eq=False)
class Graph:
    """Tetrahedra as the network sees them; row t is the outside of the hull.

    Attributes
    ----------
    tetrahedra : (t + 1, CORNERS) tensor
        GAIN·(χ − 1/2) of each field, averaged; its least and largest value of the first field; at the
        circumcentre, of the first and of a narrow field. Log circumradius, volume, edges and sizes of the
        elements at the corners, in units of the local spacing. How the way from a corner to the centroid
        turns from that corner's element and from its plane (cosines: mean, least, largest). How flat the
        cloud is at the corners.
    faces : (t, 4, FACES) tensor
        Of the face opposite to each corner: log area, signed distance of the circumcentre over the
        circumradius, whether it lies on the hull, log altitude and circumradius; cosines of its outward
        normal with the elements and planes at its corners (mean, least).
    neighbours : (t, 4) tensor
        Across these faces.
    """

    tetrahedra: torch.Tensor
    faces: torch.Tensor
    neighbours: torch.Tensor


def graph_of(fields: Sequence[DipoleField], mesh: Delaunay, rng: np.random.Generator) -> Graph:
    """Return the features of the tetrahedra of the points that `fields`, one for each of `FIELDS`, share."""
    first, narrow = fields[0], fields[NARROW]
    points, spacing, simplices = first.points, first.spacing, mesh.simplices
    h = spacing[simplices].mean(axis=1)
    corners = points[simplices] / h[:, None, None]
    sides = corners[:, 1:] - corners[:, :1]
    centre = to_circumcentres(sides, 1e-6)
    radius = np.linalg.norm(centre, axis=1)
    turned = [_unit(field.elements)[simplices] for field in (first, narrow)]
    planes, flatness = _planes(first.tree, points)
    planes, flatness = planes[simplices], flatness[simplices]

    dense = fields[0].elements is fields[-1].elements
    samples, summation = (DENSE_SAMPLES, ROUGH_SUMMATION) if dense else (SAMPLES, SUMMATION)
    inner = inner_points(points, simplices, samples, rng)
    inside = [chi.reshape(-1, samples) for chi in readings(fields, inner, summation)]
    reach = np.minimum(1.0, FARTHEST / np.maximum(radius, 1e-9))
    pole = (corners[:, 0] + centre * reach[:, None]) * h[:, None]
    read = [chi.mean(axis=1) for chi in inside]
    read += [inside[0].min(axis=1), inside[0].max(axis=1)]
    read += [np.clip(chi, -1.0, 2.0) for chi in readings((first, narrow), pole, summation)]
    pairs = [(i, j) for i in range(4) for j in range(i)]
    edges = np.sort([np.linalg.norm(corners[:, i] - corners[:, j], axis=1) for i, j in pairs], axis=0).T
    sizes = np.stack([np.linalg.norm(field.elements, axis=1) for field in (first, narrow)], axis=1)
    sizes = (sizes / spacing[:, None] ** 2)[simplices]
    way = _unit(corners.mean(axis=1, keepdims=True) - corners)
    along = [(normal * way).sum(axis=-1) for normal in (*turned, planes)]
    along[2] = np.abs(along[2])
    rows = np.concatenate(
        [
            GAIN * (np.stack(read, axis=1) - 0.5),
            np.clip(np.log(radius + 1e-3), -3.0, 4.0)[:, None],
            0.3 * np.log(np.abs(np.linalg.det(sides)) / 6.0 + 1e-6)[:, None],
            np.log(edges + 1e-2),
            np.log(sizes.mean(axis=1) + 0.05),
            np.log(sizes.min(axis=1) + 0.05),
            *(np.stack([a.mean(axis=1), a.min(axis=1), a.max(axis=1)], axis=1) for a in along),
            np.stack([flatness.mean(axis=1), flatness.max(axis=1)], axis=1),
        ],
        axis=1,
    )
    outside = np.zeros((1, CORNERS))
    outside[0, : len(read)] = -0.5 * GAIN

    face = corners[:, OPPOSITE]
    normal = np.cross(face[:, :, 1] - face[:, :, 0], face[:, :, 2] - face[:, :, 0])
    length = np.linalg.norm(normal, axis=-1)
    side = np.sign(((corners - face[:, :, 0]) * normal).sum(axis=-1))
    inward = (side / np.maximum(length, 1e-12))[..., None] * normal
    altitude = ((corners - face[:, :, 0]) * inward).sum(axis=-1)
    height = (((corners[:, 0] + centre)[:, None] - face[:, :, 0]) * inward).sum(axis=-1)
    product = np.prod([np.linalg.norm(face[:, :, i] - face[:, :, i - 1], axis=-1) for i in range(3)], axis=0)
    across = [-(normal[:, OPPOSITE] * inward[:, :, None]).sum(axis=-1) for normal in (*turned, planes)]
    across[2] = np.abs(across[2])
    hull = mesh.neighbors < 0
    columns = [
        np.log(0.5 * length + 1e-2),
        height / np.maximum(radius, 1e-9)[:, None],
        hull,
        np.log(altitude + 1e-2),
        np.clip(np.log(product / np.maximum(2.0 * length, 1e-9) + 1e-2), -3.0, 3.0),
    ]
    for cosine in across:
        columns += [cosine.mean(axis=-1), cosine.min(axis=-1)]
    return Graph(
        torch.as_tensor(np.concatenate([rows, outside]), dtype=torch.float32),
        torch.as_tensor(np.stack(columns, axis=-1), dtype=torch.float32),
        torch.as_tensor(np.where(hull, len(simplices), mesh.neighbors), dtype=torch.int64),
    )


def _unit(vectors: Floats) -> Floats:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _planes(tree: cKDTree, points: Floats) -> tuple[Floats, Floats]:
    """Return normals, (n, 3), of planes through the nearest points, and their flatness, (n,): 0 is flat."""
    index = tree.query(points, k=min(PLANE, len(points)), workers=tree_workers())[1]
    squares, axes = principal_axes(points[index])
    flatness = np.sqrt(squares[:, 0] / np.maximum(squares[:, 1], 1e-30))
    return axes[:, :, 0], flatness


class SideNetwork(nn.Module):
    """Messages across the faces of tetrahedra, then the line by which the field is read in each.

    Buffers hold mean and deviation of the features it was taught with.
    """

    mean: torch.Tensor
    deviation: torch.Tensor
    face_mean: torch.Tensor
    face_deviation: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        w = CHANNELS
        self.register_buffer("mean", torch.zeros(CORNERS))
        self.register_buffer("deviation", torch.ones(CORNERS))
        self.register_buffer("face_mean", torch.zeros(FACES))
        self.register_buffer("face_deviation", torch.ones(FACES))
        self.entry = nn.Linear(CORNERS, w)
        self.norm = nn.ModuleList([nn.LayerNorm(w) for _ in range(ROUNDS)])
        self.own = nn.ModuleList([nn.Linear(w, w) for _ in range(ROUNDS)])
        self.other = nn.ModuleList([nn.Linear(w, w, bias=False) for _ in range(ROUNDS)])
        self.face = nn.ModuleList([nn.Linear(FACES, w, bias=False) for _ in range(ROUNDS)])
        self.update = nn.ModuleList([nn.Linear(3 * w, w) for _ in range(ROUNDS)])
        self.head = nn.Linear(w, 2)

    def forward(self, graph: Graph) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a and b ≥ 0, (t,) each."""
        t = len(graph.neighbours)
        h = torch.relu(self.entry((graph.tetrahedra - self.mean) / self.deviation))
        faces = (graph.faces - self.face_mean) / self.face_deviation
        rounds = zip(self.norm, self.own, self.other, self.face, self.update, strict=True)
        for norm, own, other, face, update in rounds:
            q = norm(h)
            mine, theirs = own(q)[:t, None], other(q)
            parts = []
            for start in range(0, t, TOGETHER):
                some = slice(start, min(start + TOGETHER, t))
                message = torch.relu(mine[some] + theirs[graph.neighbours[some]] + face(faces[some]))
                parts.append(torch.cat([message.mean(dim=1), message.amax(dim=1)], dim=1))
            heard = torch.cat([*parts, h.new_zeros((1, 2 * CHANNELS))])  # the outside hears nothing
            h = h + torch.relu(update(torch.cat([q, heard], dim=1)))
        a, b = self.head(h)[:t].unbind(dim=1)
        return a, GAIN * nn.functional.softplus(b)


@cache
def taught() -> SideNetwork:
    """Return the network with the weights that come with the package."""
    network = SideNetwork()
    network.load_state_dict(load_file(WEIGHTS))
    return network.requires_grad_(False).eval()


def labelled(
    fields: Sequence[DipoleField], rng: np.random.Generator, network: SideNetwork | None = None
) -> Winding:
    """Return a field above 1/2 inside, read from winding fields tetrahedron by tetrahedron.

    Parameters
    ----------
    fields : sequence of DipoleField
        One for each of `FIELDS`, of the same points.
    rng : numpy.random.Generator
        Source of all randomness.
    network : SideNetwork, optional
        Instead of the one that comes with the package.
    """
    mesh = triangulated(fields[0].points, fields[0].spacing, rng)
    a, b = (network or taught())(graph_of(fields, mesh, rng))
    offset, slope = np.append(a.double().numpy(), 0.0), np.append(b.double().numpy(), 0.0)
    field, spacing = fields[0], fields[0].spacing

    def read(x: Floats) -> Floats:
        t = mesh.find_simplex(x)
        distance, nearest = field.tree.query(x, workers=tree_workers())
        alone = np.clip((distance / spacing[nearest] - TAUGHT) / (UNTAUGHT - TAUGHT), 0.0, 1.0)
        lines = (1.0 - alone) * slope[t] + alone * PLAIN
        logit = (1.0 - alone) * offset[t] + lines * (field(x) - 0.5)
        return np.where(t < 0, 0.0, 1.0 / (1.0 + np.exp(-np.clip(logit, -30.0, 30.0))))

    return read
