"""The least of many cones |x − c| − r, exactly and fast: a tree of cones, asked for neighbours together.

Each cone has slope 1. Let points lie within ρ of a centre: a cone that is more than 2 ρ above the least there
is the least at none of them. So points are sorted into cells, the tree gives each cell the cones that can be
least in it, and each point asks those. The result is that of asking every cone, bit for bit, whatever points
are asked together; without the tree 20,000 of them cost more than the network.

References
----------
Aurenhammer, Power Diagrams: Properties, Algorithms and Applications, SIAM Journal on Computing 16(1), 1987
(additive weights). Karras, Maximizing Parallelism in the Construction of BVHs, HPG 2012 (Morton order).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["Cones"]

Floats = NDArray[np.float64]

BRANCHES = 8
TOP = 64  # nodes that every cell is compared with, at most
BITS = 10  # of a coordinate in Morton order
CELLS = 4096  # looked up at once: 100 MB
TOGETHER = 2_000_000  # cones asked at once
SLACK = 1e-9  # of the size of everything: what rounding may hide from the sieve


class Cones:
    """min over i of |x − cᵢ| − rᵢ: the signed distance bound of a union of balls; its slope is at most 1.

    Parameters
    ----------
    spheres : (m, 4) float64 array
        Centres and radii, m ≥ 1.
    cell : float
        Side of the cells into which points are sorted; some spacings of the centres.
    device : torch.device
        Where points are asked.
    """

    def __init__(self, spheres: Floats, cell: float, device: torch.device) -> None:
        every = torch.as_tensor(spheres[_morton(spheres[:, :3])], dtype=torch.float64)
        self.cell, self.spheres = cell, every.to(device)
        self.slack = SLACK * float(every.abs().max())
        center, reach, least = every[:, :3], every[:, 3], -every[:, 3]
        levels = []
        while len(center) > TOP:
            # Nodes of a level hold 8 neighbours of the level below; the last may be filled up with its last.
            index = torch.arange(-(-len(center) // BRANCHES) * BRANCHES).clamp(max=len(center) - 1)
            below, extent, low = (t[index].unflatten(0, (-1, BRANCHES)) for t in (center, reach, least))
            center = below.mean(dim=1)
            apart = (below - center[:, None]).norm(dim=2)
            reach, least = (apart + extent).amax(dim=1), (apart + low).amin(dim=1)
            levels.append((center.to(device), reach.to(device), least.to(device)))
        self.levels = levels[::-1]  # (centre, largest |c − centre| + r, least |c − centre| − r) of nodes

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the least, (n,), at points, (n, 3) float64 on the device."""
        return self._asked(x, None)

    def nearest(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the least, (n,), and the centre of a cone that has it, (n, 3)."""
        which = torch.empty(len(x), dtype=torch.int64, device=x.device)
        return self._asked(x, which), self.spheres[which, :3]

    def _asked(self, x: torch.Tensor, which: torch.Tensor | None) -> torch.Tensor:
        """Return the least, (n,), and write to `which`, (n,), what cones have it."""
        value = x.new_empty(len(x))
        if not len(x):
            return value
        _, cell = torch.unique(torch.floor(x / self.cell), dim=0, return_inverse=True)
        order = torch.argsort(cell, stable=True)
        counts = torch.bincount(cell)
        ends = torch.cumsum(counts, dim=0)
        for first in range(0, len(counts), CELLS):
            n = counts[first : first + CELLS]
            begin = int(ends[first - 1]) if first else 0
            points = order[begin : begin + int(n.sum())]
            self._ask(x[points], n, points, value, which)
        return value

    def _ask(
        self,
        x: torch.Tensor,
        counts: torch.Tensor,
        to: torch.Tensor,
        value: torch.Tensor,
        which: torch.Tensor | None,
    ) -> None:
        """Write what points x of cells, `counts` each in turn, find to the places `to` of the answer."""
        own = _repeated(counts)
        middle = x.new_zeros((len(counts), 3)).index_add_(0, own, x) / counts[:, None]
        radius = x.new_zeros(len(counts)).scatter_reduce(0, own, (x - middle[own]).norm(dim=1), "amax")
        lengths, cones = self._lists(middle, radius)
        starts = torch.cumsum(lengths, dim=0) - lengths
        asked = lengths[own]
        total = torch.cumsum(asked, dim=0)
        first = 0
        while first < len(x):
            before = int(total[first - 1]) if first else 0
            last = max(first + 1, int(torch.searchsorted(total, before + TOGETHER, right=True)))
            n = asked[first:last]
            row = _repeated(n)
            rank = torch.arange(len(row), device=x.device) - (torch.cumsum(n, dim=0) - n)[row]
            cone = cones[starts[own[first:last]][row] + rank]
            cost = self._cost(x[first:last][row], cone)
            least = torch.segment_reduce(cost, "min", lengths=n)
            value[to[first:last]] = least
            if which is not None:
                hit = torch.nonzero(cost == least[row])[:, 0]
                none = torch.full_like(n, len(self.spheres))
                which[to[first:last]] = none.scatter_reduce(0, row[hit], cone[hit], "amin")
            first = last

    def _cost(self, x: torch.Tensor, cone: torch.Tensor) -> torch.Tensor:
        sphere = self.spheres[cone]
        return (x - sphere[:, :3]).square().sum(dim=1).sqrt() - sphere[:, 3]

    def _lists(self, middle: torch.Tensor, radius: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return how many cones can be least within `radius` of each `middle`, and which, one list by one."""
        cells, every = len(middle), len(self.spheres)
        top = len(self.levels[0][0]) if self.levels else every
        cell = torch.arange(cells, device=middle.device).repeat_interleave(top)
        node = torch.arange(top, device=middle.device).repeat(cells)
        slack = 2.0 * radius + self.slack
        sizes = [*(len(level[0]) for level in self.levels), every][1:]
        for (center, reach, low), size in zip(self.levels, sizes, strict=True):
            apart = (middle[cell] - center[node]).norm(dim=1)
            best = torch.segment_reduce(
                apart + low[node], "min", lengths=torch.bincount(cell, minlength=cells)
            )
            kept = apart - reach[node] <= (best + slack)[cell]
            cell, node = cell[kept].repeat_interleave(BRANCHES), node[kept]
            node = (node[:, None] * BRANCHES + torch.arange(BRANCHES, device=node.device)).reshape(-1)
            real = node < size
            cell, node = cell[real], node[real]
        cost = self._cost(middle[cell], node)
        best = torch.segment_reduce(cost, "min", lengths=torch.bincount(cell, minlength=cells))
        kept = cost <= (best + slack)[cell]
        return torch.bincount(cell[kept], minlength=cells), node[kept]


def _repeated(counts: torch.Tensor) -> torch.Tensor:
    """Return 0 … n − 1, each as often as `counts` says."""
    return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)


def _morton(points: Floats) -> NDArray[np.int64]:
    """Return an order of points, (n,), in which neighbours are mostly near."""
    lower, size = points.min(axis=0), max(float(np.ptp(points, axis=0).max()), 1e-300)
    place = ((points - lower) / size * (2**BITS - 1)).astype(np.int64)
    code = np.zeros(len(points), np.int64)
    for bit in range(BITS):
        for axis in range(3):
            code |= ((place[:, axis] >> bit) & 1) << (3 * bit + axis)
    return np.argsort(code, kind="stable")
