"""Populations split within every limit of a core.

A population is cut into blocks of channels, rows and columns, one block to a core. What a core may
hold (:class:`pascal_nm.hw_targets.chip.Core`):

- neurons;
- synapse memory: the weights onto its neurons. A chip that shares the weights of a convolution
  stores each filter once, else once for each neuron;
- in-axons: one for each source neuron that reaches it (of a dense layer behind a pooling, for each
  window); with population axons (convolutions, poolings, shortcuts), one for each pixel of a core
  that does, whose channels there share it;
- out-axons: one for each of its neurons and core that this reaches; with population axons, one for
  each of its pixels and core that this reaches.

The analog input is not on a core: it is injected from outside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.errors import TargetError
from pascal_nm.hw_targets.blocks import Blocks, Joins, by_block, edges
from pascal_nm.hw_targets.chip import Core
from pascal_nm.network import reach
from pascal_nm.network.bounds import weight_bits
from pascal_nm.network.graph import Population, Projection
from pascal_nm.network.reach import Pattern

LIMITS = ("neurons", "memory", "in_axons", "out_axons")

RELIEF = {
    "neurons": "fewer channels, or a chip with more neurons a core",
    "memory": "fewer bits (--bits), or narrower layers",
    "in_axons": "narrower source layers, or a pooling in between",
    "out_axons": "narrower target layers, so that they take fewer cores",
}
"""What helps where a limit binds."""

_ROUNDS = 24
"""Attempts at finer blocks for populations whose cores have too few out-axons."""


@dataclass(frozen=True, eq=False)
class Use:
    """What the cores of one population use of each limit, (cores,) each, beside the limit.

    Attributes:
        used: by the names in :data:`LIMITS`.
        limits: likewise.
    """

    used: dict[str, Array]
    limits: dict[str, int]

    @property
    def shares(self) -> dict[str, float]:
        """The fullest core's share of each limit."""
        return {name: float(self.used[name].max() / self.limits[name]) for name in LIMITS}

    @property
    def binding(self) -> str:
        """The limit that its fullest core comes closest to."""
        return max(self.shares, key=lambda name: self.shares[name])


class Splitter:
    """Cuts the populations of one graph within the limits of a core.

    Attributes:
        joins: of the graph.
        core: what one holds.
    """

    def __init__(self, joins: Joins, core: Core) -> None:
        self.joins, self.graph, self.core = joins, joins.graph, core
        self.populations = [p for p in self.graph.populations if not p.dynamics.injects]
        self.bits = {q.name: weight_bits(q) for q in self.graph.projections}
        self._shapes: dict[str, _Shapes] = {}
        self._spans: dict[tuple[str, int, int], Array] = {}

    def fewest(self) -> dict[str, Blocks]:
        """Blocks of every population, on the fewest cores.

        Sources are cut finer where their cores run out of out-axons.
        """
        caps = {p.name: self.core.room for p in self.populations}
        for _ in range(_ROUNDS):
            blocks: dict[str, Blocks] = {}
            for p in self.populations:
                shapes = self._of(p)
                best = np.where(self._fits(p, blocks, caps[p.name]), shapes.preference, np.inf)
                blocks[p.name] = shapes.blocks(int(best.argmin()))
            crowded = {
                name: share
                for name in blocks
                if (share := self._axons(name, blocks, "out").max() / self.core.out_axons) > 1
            }
            if not crowded:
                return blocks
            for name, share in crowded.items():
                largest = int(blocks[name].sizes.max())
                if largest == 1:
                    raise TargetError(
                        f"{name}: one neuron reaches so many cores that it needs {share * self.core.out_axons:.0f} "
                        f"out-axons, a core has {self.core.out_axons}: {RELIEF['out_axons']}"
                    )
                caps[name] = max(1, min(largest - 1, int(largest / share)))
        raise TargetError(f"no split of {', '.join(crowded)} leaves every core enough out-axons: {RELIEF['out_axons']}")

    def finer(self, name: str, blocks: dict[str, Blocks]) -> dict[str, Blocks] | None:
        """The same with a population on the next more cores, whose fullest has fewer neurons.

        None where there is no such split within all limits.
        """
        shapes = self._of(self.graph[name])
        fits = shapes.fits & (shapes.neurons < blocks[name].sizes.max())
        return self._best(name, blocks, np.where(fits, shapes.preference, np.inf))

    def quieter(self, name: str, blocks: dict[str, Blocks], cores: int) -> dict[str, Blocks] | None:
        """The same with a population on at most so many cores, onto which fewest messages come."""
        shapes = self._of(self.graph[name])
        fits = shapes.fits & (shapes.cores <= cores)
        return self._best(name, blocks, np.where(fits, shapes.arriving * 1e6 + shapes.cores, np.inf))

    def _best(self, name: str, blocks: dict[str, Blocks], order: Array) -> dict[str, Blocks] | None:
        """Blocks with the first shape of a population, if it and neighbours keep their axons."""
        if np.isinf(order.min()):
            return None
        blocks = {**blocks, name: self._of(self.graph[name]).blocks(int(order.argmin()))}
        sources = {q.source for q in self.graph.incoming(name)} & blocks.keys()
        targets = {q.target for q in self.graph.outgoing(name)}
        crowded = any(self._axons(each, blocks, "out").max() > self.core.out_axons for each in {name, *sources})
        deaf = any(self._axons(each, blocks, "in").max() > self.core.in_axons for each in {name, *targets})
        return None if crowded or deaf else blocks

    def by_population(self, projection: Projection) -> bool:
        """Whether one axon serves all channels of a pixel that a core of the source has."""
        apart = isinstance(self.joins.reach[projection.name], Pattern) or projection.operator.all_to_all
        return self.core.population_axons and not apart

    def _of(self, p: Population) -> _Shapes:
        if p.name not in self._shapes:
            self._shapes[p.name] = _Shapes(self, p)
        return self._shapes[p.name]

    def _fits(self, p: Population, before: dict[str, Blocks], most: int) -> Array:
        """Which shapes of at most so many neurons a core holds; the sources are split."""
        shapes = self._of(p)
        axons = shapes.axons + sum(
            self._pixels_heard(q, shapes.axes, before[q.source])
            for q in self.graph.incoming(p.name)
            if q.source in before and self.by_population(q)
        )
        fits = shapes.fits & (axons <= self.core.in_axons)
        if not fits.any():
            self._refuse(p, shapes.memory[0, 0, 0], axons[0, 0, 0])
        return np.asarray(fits & (shapes.neurons <= most))

    def lists(self, projection: Projection) -> int:
        """Different lists of synapses in a dense projection.

        The neurons of one window of a pooling share theirs, and an in-axon.
        """
        pool, shape = projection.pool, self.graph[projection.source].shape
        apart = pool is not None and all(s >= k for s, k in zip(pool.stride, pool.kernel, strict=True))
        return math.prod(pool.output_shape(shape)) if pool is not None and apart else math.prod(shape)

    def memory(self, projection: Projection, channels: Array, neurons: Array, synapses: Array | None) -> Array:
        """Bits that the weights onto so many neurons of so many channels take.

        ``synapses`` are all of theirs, where each neuron has its own.
        """
        reach, operator = self.joins.reach[projection.name], projection.operator
        bits = self.bits[projection.name] + self.core.beside
        if synapses is not None:
            return np.ceil(synapses * (bits + self.core.index))
        if operator.all_to_all:
            return np.ceil(neurons * self.lists(projection) * bits)
        stored = channels * operator.phases if self.core.shared_convolution and operator.uniform else neurons
        return np.ceil(stored * int(reach.fan_in.max()) * (bits + self.core.index))

    def _pixels_heard(self, projection: Projection, axes: list[Array], source: Blocks) -> Array:
        """The most pixels of cores of the source that blocks of each shape hear."""
        spans, reach = [], self.joins.reach[projection.name]
        assert not isinstance(reach, Pattern), "by_population says so"
        for i, (matrix, of) in enumerate(zip(reach, source, strict=True)):
            key = (projection.name, i, len(of) if i == 0 else 0)
            if key not in self._spans:
                heard = np.logical_or.reduceat(matrix > 0, of[:-1], axis=1) if i == 0 else matrix
                self._spans[key] = _heard(heard, axes[i]).max
            spans.append(self._spans[key])
        return _outer(spans)

    def _refuse(self, p: Population, memory: float, axons: float) -> None:
        if axons > self.core.in_axons:
            raise TargetError(
                f"{p.name}: one neuron needs {axons:.0f} in-axons, a core has {self.core.in_axons}: "
                f"{RELIEF['in_axons']}"
            )
        raise TargetError(
            f"{p.name}: the synapses of one neuron take {memory:.0f} bits, "
            f"a core has {self.core.memory_bits}: {RELIEF['memory']}"
        )

    def _axons(self, name: str, blocks: dict[str, Blocks], side: Literal["in", "out"]) -> Array:
        """In-axons or out-axons of each core of a population."""
        total = np.zeros(blocks[name].cores, np.int64)
        for q in self.graph.incoming(name) if side == "in" else self.graph.outgoing(name):
            if q.source not in blocks:
                continue
            if side == "in" and q.operator.all_to_all:
                total += self.lists(q)
                continue
            axes = self.joins.reached(q, blocks)
            axes = [np.sign(axes[0]), *axes[1:]] if self.by_population(q) else axes
            total += by_block([axis.sum(1 if side == "in" else 0) for axis in axes])
        return total

    def use(self, name: str, blocks: dict[str, Blocks]) -> Use:
        """What each core of a population uses."""
        mine = blocks[name]
        channels = np.broadcast_to(np.diff(mine.channels)[:, None, None], mine.grid).reshape(-1)
        memory = np.zeros(mine.cores)
        for q in self.graph.incoming(name):
            reach = self.joins.reach[q.name]
            synapses = mine.summed(reach.fan_in) if isinstance(reach, Pattern) else None
            memory += self.memory(q, channels, mine.sizes, synapses)
        used = {"neurons": mine.sizes, "memory": memory.astype(np.int64)}
        used |= {"in_axons": self._axons(name, blocks, "in"), "out_axons": self._axons(name, blocks, "out")}
        limits = {"neurons": self.core.room, "memory": self.core.memory_bits}
        return Use(used, limits | {"in_axons": self.core.in_axons, "out_axons": self.core.out_axons})


class _Shapes:
    """Every shape that the blocks of a population may have, and what a core of each would hold.

    All but ``axes`` are arrays (channels, rows, columns) of one entry a shape.

    Attributes:
        axes: sizes of blocks along each axis.
        cores: how many there are.
        neurons: of the largest.
        memory: bits of the weights onto it.
        axons: into it, but for those that serve pixels of the source.
        arriving: source neurons times blocks that they reach.
        fits: within a core's limits, but for axons that serve pixels of the source.
        preference: the least has the fewest cores, and of these the cores that hear least.
    """

    def __init__(self, splitter: Splitter, p: Population) -> None:
        graph, shape = splitter.graph, reach.volume(p.shape)
        self.shape, self.axes = shape, [_sizes(n) for n in shape]
        c, h, w = np.meshgrid(*self.axes, indexing="ij")
        self.cores = -(-shape[0] // c) * -(-shape[1] // h) * -(-shape[2] // w)
        self.neurons = c * h * w
        self.memory, self.axons, heard, self.arriving = np.zeros((4, *c.shape))
        for q in graph.incoming(p.name):
            joins = splitter.joins.reach[q.name]
            synapses = self._most(joins.fan_in) if isinstance(joins, Pattern) else None
            self.memory = self.memory + splitter.memory(q, c, self.neurons, synapses)
            if graph[q.source].dynamics.injects:
                continue
            if q.operator.all_to_all:
                neurons, arriving = np.full(c.shape, graph[q.source].size), graph[q.source].size * self.cores
                axons = np.full(c.shape, splitter.lists(q))
            else:
                axes = joins.cover if isinstance(joins, Pattern) else joins
                spans = [_heard(m, sizes) for m, sizes in zip(axes, self.axes, strict=True)]
                neurons, arriving = _outer([each.max for each in spans]), _outer([each.sum for each in spans])
                if isinstance(joins, Pattern) and synapses is not None:
                    # What each block hears takes too long to count for all shapes.
                    neurons = np.minimum(neurons, synapses)
                    arriving = np.minimum(arriving, joins.matrix.nnz)
                axons = neurons
            heard, self.arriving = heard + neurons, self.arriving + arriving
            if not splitter.by_population(q):
                self.axons = self.axons + axons
        core = splitter.core
        self.fits = (self.neurons <= core.room) & (self.memory <= core.memory_bits) & (self.axons <= core.in_axons)
        self.preference = self.cores * 1e12 + heard * self.cores

    def _most(self, values: Array) -> Array:
        """The most that numbers of neurons (C, H, W) add up to in a block of each shape."""
        found = np.zeros(self.cores.shape, np.int64)
        for number in np.ndindex(*found.shape):
            found[number] = self.blocks(int(np.ravel_multi_index(number, found.shape))).summed(values).max()
        return found

    def blocks(self, number: int) -> Blocks:
        """The blocks of the shape of this number."""
        places = np.unravel_index(number, self.cores.shape)
        parts = [-(-n // int(sizes[i])) for n, sizes, i in zip(self.shape, self.axes, places, strict=True)]
        return Blocks.of(self.shape, (parts[0], parts[1], parts[2]))


def _sizes(n: int) -> Array:
    """Every block size along an axis that gives another number of blocks, ascending."""
    return np.unique(-(-n // np.arange(1, n + 1)))


def _outer(spans: list[Array]) -> Array:
    return np.asarray(np.einsum("i,j,k->ijk", *spans))


class _Heard(NamedTuple):
    """Sources that blocks of each size hear along one axis: the most of a block, and of all."""

    max: Array
    sum: Array


def _heard(matrix: Array, sizes: Array) -> _Heard:
    """Of synapses whose numbers are given by (target, source)."""
    connected = matrix > 0
    found = []
    for size in sizes:
        parts = edges(len(connected), -(-len(connected) // int(size)))
        each = np.logical_or.reduceat(connected, parts[:-1], axis=0).sum(1)
        found.append((int(each.max()), int(each.sum())))
    return _Heard(*np.asarray(found).T)
