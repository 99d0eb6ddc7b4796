"""Which nodes of a grid a level set depends on, and which blocks it provably misses: the sparse engine.

Coarse to fine, with the one theorem |φ(x) − φ(y)| ≤ L‖x − y‖:

- a block whose centre has |φ − level| > L · half-diagonal does not meet the level set; blocks are halved
  until they are bricks of 16 cells;
- bricks that are left are looked at in windows, slabs of the grid a few bricks thick: blocks of 8 and 4
  cells, whose centres are nodes, then leaves of 2, whose middle is one;
- in the leaves that are left, a node close enough to one already known gets its sign for nothing (from the
  centres of blocks of 4, then middles, then corners, then the nodes between them); then the cells whose
  corners differ in sign get the values they still lack.

No node of a window is asked twice, and only crossed bricks outlive it.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ocsdf3d.oracle import Field, Oracle, Progress

__all__ = ["BRICK", "NUDGE", "Proof", "Nodes", "explore", "whole_brick", "window_cells"]

Integers = NDArray[np.int64]

NUDGE = 1e-4  # fraction of a cell: nodes this close to the level count as outside (see surface.py)
LEAF = 2  # cells along the smallest block: its middle is a node, one cell from its faces
BRICK = 16  # cells along a side of what is kept and meshed at once
WINDOW = 2**23  # nodes looked at together, about: 60 MB; one layer of bricks at least
ROOTS = 4  # blocks along the longest side at the start, at most; from 1 to 16 the counts differ by 0.4 %
_CORNERS = np.array(list(product((0, 1), repeat=3)))
_STEPS = np.array(list(product((-1, 0, 1), repeat=3)))
_DIAGONAL = _STEPS[np.abs(_STEPS).sum(axis=1) == 3]  # from a leaf's corner to the middles around it
_SHORT = _STEPS[np.isin(np.abs(_STEPS).sum(axis=1), (1, 2))]  # from a node between to middles and corners
_EXPECTED = 1200  # evaluations of a brick, before the first window is done: for the bar of progress alone


class Proof(NamedTuple):
    """What allows a value to speak for its surroundings: bound L, level, and what rounding may hide."""

    lipschitz: float
    level: float
    slack: float

    @classmethod
    def of(cls, lipschitz: float, level: float, allowance: float, spacing: float) -> Proof:
        """Return the proof for cells of side `spacing`.

        Neither the nudge in surface.py nor the rounding of values to float32 may undo a proof. The allowance
        counts twice: once for the value that speaks, once for the node it speaks for.
        """
        slack = 2.0 * allowance + 2.0 * NUDGE * (lipschitz * spacing + 2.0 * allowance)
        return cls(lipschitz, level, slack + float(np.finfo(np.float32).eps) * abs(level))

    def sign(self, values: NDArray[np.floating], distance: float | NDArray[np.float64]) -> NDArray[np.int8]:
        """Sign of φ − level within `distance` of points with these values; 0 where it is not proven."""
        above = values.astype(np.float64) - self.level
        return (np.sign(above) * (np.abs(above) > self.lipschitz * distance + self.slack)).astype(np.int8)


class Nodes(Oracle):
    """A field asked at positions of a grid of `cells` cells of side `spacing`, its first node at `lower`."""

    def __init__(
        self,
        field: Field,
        lower: NDArray[np.float64],
        spacing: float,
        cells: Integers,
        tile: int,
        progress: Progress | None,
    ) -> None:
        super().__init__(field, "field", tile, progress)
        self.lower, self.spacing, self.cells = lower, spacing, cells

    def _tile(self, points: NDArray) -> NDArray[np.floating]:
        return super()._tile(self.lower + self.spacing * points)


class Found:
    """What outlives the windows: crossed bricks, counts, undecided cells."""

    def __init__(self) -> None:
        self.origins: list[Integers] = []
        self.bricks: list[NDArray[np.float32]] = []
        self.undecided: list[NDArray[np.int32]] = [np.zeros((0, 3), np.int32)]
        self.blocks = 0


def whole_brick(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Nodes of a brick; one that the end of the grid cuts repeats its last planes."""
    return np.pad(values, [(0, BRICK + 1 - n) for n in values.shape], mode="edge")


def window_cells(cells: Integers) -> int:
    """Cells of a window along the first axis: whole bricks."""
    plane = int(cells[1] + 1) * int(cells[2] + 1)
    return BRICK * max(1, WINDOW // (plane * BRICK))


def explore(nodes: Nodes, proof: Proof) -> Found:
    """Find all bricks that the level set crosses, by proof; ask only what the mesh depends on."""
    found, cells = Found(), nodes.cells
    blocks, signs = _bricks(nodes, proof, found)
    layers = window_cells(cells) // BRICK
    previous: _Window | None = None
    for first in range(0, len(signs), layers):
        inside = (blocks[:, 0] >= first) & (blocks[:, 0] < first + layers)
        count, ahead = int(inside.sum()), int((blocks[:, 0] >= first).sum())
        if nodes.expected == 0:
            nodes.expected = nodes.evaluations + _EXPECTED * ahead
        if count == 0:
            previous = None
            continue
        before = nodes.evaluations
        previous = _Window(nodes, proof, BRICK * first, BRICK * layers, previous)
        previous.explore(blocks[inside] - np.array([first, 0, 0]), signs[first : first + layers], found)
        each = (nodes.evaluations - before) / count
        nodes.expected = nodes.evaluations + int(each * (ahead - count))
    return found


def _bricks(nodes: Nodes, proof: Proof, found: Found) -> tuple[Integers, NDArray[np.int8]]:
    """(m, 3) bricks that could not be dropped, in lexicographic order; the sign proven for each, or 0."""
    size, cells = BRICK, nodes.cells
    while -(-int(cells.max()) // size) > ROOTS:
        size *= 2
    counts = -(-cells // size)
    blocks = np.stack(np.unravel_index(np.arange(int(np.prod(counts))), tuple(counts)), axis=1)
    signs = np.zeros(counts, np.int8)
    while True:
        low, high = _corners_of(blocks, size, cells)
        proven = proof.sign(nodes(0.5 * (low + high)), _reach(low, high, nodes.spacing))
        signs[tuple(blocks.T)] = proven
        found.blocks += int(np.count_nonzero(proven))
        blocks = blocks[proven == 0]
        if size == BRICK:
            return blocks[np.lexsort(blocks.T[::-1])], signs
        size //= 2
        blocks, signs = _halved(blocks, signs, -(-cells // size))


def _corners_of(blocks: Integers, size: int, cells: Integers) -> tuple[Integers, Integers]:
    """First and last nodes of blocks; they end with the grid: smaller, so proven more easily."""
    low = blocks * size
    return low, np.minimum(low + size, cells)


def _reach(low: Integers, high: Integers, spacing: float) -> NDArray[np.float64]:
    """Half-diagonals [world units]."""
    return 0.5 * spacing * np.linalg.norm(high - low, axis=1)


def _halved(blocks: Integers, signs: NDArray[np.int8], counts: Integers) -> tuple[Integers, NDArray[np.int8]]:
    """Blocks of half the size, and the signs of all of them; `counts` is how many there are an axis."""
    for axis in range(3):
        signs = signs.repeat(2, axis=axis)
    blocks = (2 * blocks[:, None] + _CORNERS).reshape(-1, 3)
    return (
        blocks[(blocks < counts).all(axis=1)],
        np.ascontiguousarray(signs[: counts[0], : counts[1], : counts[2]]),
    )


class _Window:
    """A slab of the grid, `thickness` cells from plane `start` on: values, what was asked, proven signs."""

    def __init__(
        self,
        nodes: Nodes,
        proof: Proof,
        start: int,
        thickness: int,
        previous: _Window | None,
    ) -> None:
        self.nodes, self.proof, self.start = nodes, proof, start
        self.cells: Integers = nodes.cells - np.array([start, 0, 0])
        self.cells[0] = min(self.cells[0], thickness)
        self.shape = tuple((self.cells + 1).tolist())
        self.strides = np.array([self.shape[1] * self.shape[2], self.shape[2], 1])
        self.values = np.zeros(self.shape, np.float32)
        self.asked = np.zeros(self.shape, bool)
        if previous is not None:  # the plane that both share
            self.values[0], self.asked[0] = previous.values[-1], previous.asked[-1]
        self.signs = np.zeros(self.values.size, np.int8)  # 0: not looked at, later: within the slack
        self.last_leaf = (self.cells - 1) // LEAF  # nodes on the last face belong to it

    def explore(self, bricks: Integers, brick_signs: NDArray[np.int8], found: Found) -> None:
        """Look into (m, 3) bricks of the window, and hand the crossed ones to `found`."""
        leaves, leaf_signs = self._leaves(bricks, brick_signs, found)
        self._signs(leaves, leaf_signs)
        cells = (leaves[:, None] * LEAF + _CORNERS).reshape(-1, 3)
        cells = cells[(cells < self.cells).all(axis=1)]
        first = cells @ self.strides
        total = np.zeros(len(cells), np.int8)
        for corner in _CORNERS:
            total += self.signs[first + int(corner @ self.strides)]
        crossed = np.abs(total) < 8
        self._ask_corners(first[crossed])
        self._undecided(cells[~crossed], first[~crossed], found)
        self._keep(cells[crossed], leaf_signs, found)

    def _ask(self, nodes: Integers) -> None:
        """Evaluate nodes by flat index, those that were not asked before."""
        nodes = nodes[~self.asked.reshape(-1)[nodes]]
        position = np.stack(np.unravel_index(nodes, self.shape), axis=1)
        position[:, 0] += self.start
        self.values.reshape(-1)[nodes] = self.nodes(position)
        self.asked.reshape(-1)[nodes] = True

    def _leaves(
        self, blocks: Integers, signs: NDArray[np.int8], found: Found
    ) -> tuple[Integers, NDArray[np.int8]]:
        """(m, 3) leaves that may meet the level set; the sign proven for each leaf of the window, or 0."""
        size, values = BRICK, self.values.reshape(-1)
        while size > LEAF:
            size //= 2
            blocks, signs = _halved(blocks, signs, -(-self.cells // size))
            low, high = _corners_of(blocks, size, self.cells)
            if size == LEAF:  # where the block of 4 tells the sign of the middle, other nodes decide
                middles = (low + 1) @ self.strides  # of a cut leaf too: on its last face
                asked = self.signs[middles] == 0
                self._ask(middles[asked])
                proven = self.proof.sign(values[middles], self.nodes.spacing * np.sqrt(3.0)) * asked
            else:
                proven = self._proven(low, high, size)
            signs[tuple(blocks.T)] = proven
            found.blocks += int(np.count_nonzero(proven))
            blocks = blocks[proven == 0]
        return blocks, signs

    def _proven(self, low: Integers, high: Integers, size: int) -> NDArray[np.int8]:
        """Signs that the centres of blocks prove; the centre of a whole one is a node, and remembered."""
        whole = (high - low == size).all(axis=1)
        nodes = (low[whole] + size // 2) @ self.strides
        self._ask(nodes)
        values = np.empty(len(low))
        values[whole] = self.values.reshape(-1)[nodes]
        values[~whole] = self.nodes(0.5 * (low[~whole] + high[~whole]) + [self.start, 0, 0])
        if size == 2 * LEAF:
            self._speak(low[whole], values[whole])
        return self.proof.sign(values, _reach(low, high, self.nodes.spacing))

    def _speak(self, low: Integers, values: NDArray[np.float64]) -> None:
        """Write the signs that the centres of blocks of 4 prove for the nodes of the closed block, 5 a side.

        Most of the middles on the far side of a block then need not be asked: 278,000 evaluations instead of
        308,000 for a trained field at 256 nodes, where the corners of crossed cells alone are 238,000.
        """
        first = low @ self.strides
        for offset in np.array(list(product(range(2 * LEAF + 1), repeat=3))):
            sign = self.proof.sign(values, self.nodes.spacing * float(np.linalg.norm(offset - LEAF)))
            known = sign != 0
            self.signs[first[known] + int(offset @ self.strides)] = sign[known]

    def _signs(self, leaves: Integers, leaf_signs: NDArray[np.int8]) -> None:
        """Give nodes of leaves their signs: a block's, a neighbour's proof, or their own; 0 in the slack."""
        values, asked = self.values.reshape(-1), self.asked.reshape(-1)
        signs = self.signs
        unproven = np.zeros(self.shape, bool)
        for offset in product(range(LEAF + 1), repeat=3):
            unproven[tuple(np.minimum(leaves * LEAF + offset, self.cells).T)] = True
        candidates = np.flatnonzero(unproven)
        candidates = candidates[signs[candidates] == 0]
        position = np.stack(np.unravel_index(candidates, self.shape), axis=1)
        signs[candidates] = leaf_signs[tuple(np.minimum(position // LEAF, self.last_leaf).T)]
        candidates = candidates[signs[candidates] == 0]
        known = candidates[asked[candidates]]
        signs[known] = self.proof.sign(values[known], 0.0)
        candidates = candidates[~asked[candidates]]
        corner = (np.stack(np.unravel_index(candidates, self.shape)) % LEAF == 0).all(axis=0)
        for wave, steps in ((candidates[corner], _DIAGONAL), (candidates[~corner], _SHORT)):
            self._infer(wave, steps)
            wanted = wave[signs[wave] == 0]
            self._ask(wanted)
            signs[wanted] = self.proof.sign(values[wanted], 0.0)

    def _infer(self, wave: Integers, steps: Integers) -> None:
        """Signs that evaluated neighbours, some `steps` away, prove for the nodes of a wave.

        Nodes on the faces of the window lack neighbours; they are few, and are left to be evaluated.
        """
        values, asked, signs = self.values.reshape(-1), self.asked.reshape(-1), self.signs
        position = np.unravel_index(wave, self.shape)
        inner = np.logical_and.reduce([(p > 0) & (p < c) for p, c in zip(position, self.cells, strict=True)])
        wave = wave[inner]
        for step in steps:
            neighbour = wave + int(step @ self.strides)
            sign = self.proof.sign(values[neighbour], self.nodes.spacing * float(np.linalg.norm(step)))
            sign *= asked[neighbour]
            signs[wave] = sign
            wave = wave[sign == 0]

    def _ask_corners(self, cells: Integers) -> None:
        """Evaluate all corners of crossed cells, given by the flat index of their first."""
        lacking = np.zeros(self.values.size, bool)
        for corner in _CORNERS:
            lacking[cells + int(corner @ self.strides)] = True
        self._ask(np.flatnonzero(lacking))

    def _undecided(self, cells: Integers, first: Integers, found: Found) -> None:
        """Cells with corners of one sign, none of which has a value that speaks for the whole cell."""
        asked = np.flatnonzero(self.asked)
        proven = self.proof.sign(self.values.reshape(-1)[asked], self.nodes.spacing * np.sqrt(3.0)) != 0
        speaks = np.zeros(self.values.size, bool)
        speaks[asked[proven]] = True
        silent = ~speaks[first]
        for corner in _CORNERS[1:]:
            silent &= ~speaks[first + int(corner @ self.strides)]
        cells = cells[silent]
        found.undecided.append((cells + np.array([self.start, 0, 0])).astype(np.int32))

    def _keep(self, crossed: Integers, leaf_signs: NDArray[np.int8], found: Found) -> None:
        """Copy the bricks of crossed cells, with a constant of the proven sign where nothing was asked."""
        # L · diagonal: clearly off the level, farther than φ can get from it on this box.
        far = self.proof.lipschitz * self.nodes.spacing * np.linalg.norm(self.nodes.cells)
        signs = self.signs.reshape(self.shape)
        counts = tuple((-(-self.cells // BRICK)).tolist())
        crossed_bricks = np.bincount(np.ravel_multi_index(tuple((crossed // BRICK).T), counts))
        for brick in np.stack(np.unravel_index(np.flatnonzero(crossed_bricks), counts), axis=1):
            ends = np.minimum(BRICK * brick + BRICK + 1, self.shape)
            part = tuple(map(slice, BRICK * brick, ends))
            own = (
                np.minimum(np.arange(s.start, s.stop) // LEAF, n)
                for s, n in zip(part, self.last_leaf, strict=True)
            )
            sign = np.where(signs[part] != 0, signs[part], leaf_signs[np.ix_(*own)])
            filled = np.float32(self.proof.level) + np.float32(far) * sign
            values = np.where(self.asked[part], self.values[part], filled)
            found.origins.append(BRICK * brick + [self.start, 0, 0])
            found.bricks.append(whole_brick(values))
