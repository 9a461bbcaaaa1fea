"""Populations cut into blocks of channels, rows and columns, and which blocks synapses join."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from pascal_nm.common.arrays import Array, Shape
from pascal_nm.network.graph import Graph, Projection
from pascal_nm.network.reach import Pattern


class Blocks(NamedTuple):
    """How a population is cut.

    Given are the first index of every block along channels, rows and columns, and the end.
    """

    channels: Array
    rows: Array
    columns: Array

    @staticmethod
    def of(shape: tuple[int, int, int], grid: tuple[int, int, int]) -> Blocks:
        """So many blocks along each axis, as equal as they can be."""
        return Blocks(*(edges(n, parts) for n, parts in zip(shape, grid, strict=True)))

    @property
    def grid(self) -> tuple[int, int, int]:
        """Number of blocks along each axis."""
        return tuple(len(edges) - 1 for edges in self)  # type: ignore[return-value]

    @property
    def cores(self) -> int:
        """Number of blocks."""
        return math.prod(self.grid)

    def ranges(self) -> Iterator[tuple[tuple[int, int], ...]]:
        """Half-open ranges of channels, rows and columns of each block, in order."""
        spans = [list(itertools.pairwise(int(n) for n in edges)) for edges in self]
        return itertools.product(*spans)

    @property
    def sizes(self) -> Array:
        """Neurons of each block, (cores,)."""
        return by_block([np.diff(edges) for edges in self])

    @property
    def owners(self) -> Array:
        """The block of each neuron, flat."""
        channels, rows, columns = (np.repeat(np.arange(len(edges) - 1), np.diff(edges)) for edges in self)
        grid = self.grid
        return np.asarray((channels[:, None, None] * grid[1] + rows[:, None]) * grid[2] + columns).reshape(-1)

    def summed(self, values: Array) -> Array:
        """Numbers of neurons (C, H, W), added up over each block: (cores,)."""
        for axis, edges in enumerate(self):
            values = np.add.reduceat(values, edges[:-1], axis=axis)
        return values.reshape(-1)


def edges(n: int, parts: int) -> Array:
    """The first of ``n`` indices of each of so many parts, as equal as they can be, and the end."""
    return np.asarray([n * i // parts for i in range(parts + 1)])


def by_block(axes: list[Array]) -> Array:
    """The product of numbers that each axis has for its blocks: one for each block, in order."""
    return np.asarray(math.prod(np.ix_(*axes)), np.int64).reshape(-1)


class Joins:
    """The synapses between blocks of a graph's populations, whichever way these are cut.

    Every answer is kept: the same cuts come again while better ones are looked for.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.reach = {q.name: q.reach(graph[q.source].shape) for q in graph.projections}
        self._reached: dict[tuple[str, int, Shape, Shape], Array] = {}

    def reached(self, projection: Projection, blocks: Mapping[str, Blocks]) -> list[Array]:
        """By axis, how many indices of each source block reach each target block.

        They are int64 matrices (target blocks, source blocks); of blocks of all three axes it is
        their product. Of synapses that are given neuron by neuron, it is one matrix of whole
        blocks.
        """
        target, source = blocks[projection.target], blocks[projection.source]
        reach = self.reach[projection.name]
        if isinstance(reach, Pattern):
            key = (projection.name, 0, target.grid, source.grid)
            if key not in self._reached:
                self._reached[key] = reach.reached(target.owners, target.cores, source.owners, source.cores)
            return [self._reached[key]]
        found = []
        for axis, (matrix, to, of) in enumerate(zip(reach, target, source, strict=True)):
            key = (projection.name, axis, to.shape, of.shape)
            if key not in self._reached:
                self._reached[key] = self._count(projection, axis, matrix, to, of)
            found.append(self._reached[key])
        return found

    def _count(self, projection: Projection, axis: int, matrix: Array, to: Array, of: Array) -> Array:
        if axis == 0 and projection.operator.all_to_all:  # every channel reaches every channel
            return np.broadcast_to(np.diff(of), (len(to) - 1, len(of) - 1))
        heard = np.logical_or.reduceat(matrix > 0, to[:-1], axis=0)
        return np.asarray(np.add.reduceat(heard, of[:-1], axis=1, dtype=np.int64))

    def synapses(self, projection: Projection, blocks: Blocks) -> int:
        """The most synapses onto a block of the target, from all neurons of the source."""
        reach = self.reach[projection.name]
        if isinstance(reach, Pattern):
            return int(blocks.summed(reach.fan_in).max())
        axes = zip(reach, blocks, strict=True)
        return math.prod(int(np.add.reduceat(axis.sum(1), to[:-1]).max()) for axis, to in axes)
