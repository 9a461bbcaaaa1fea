"""Populations on the cores of a chip: split within every limit, placed so that ways are short.

The ways are those of the messages.

A population is cut into blocks of channels, rows and columns, one block to a core. Of all block
shapes that fit, the one that needs fewest cores is taken; among these, the one whose cores hear the
fewest source neurons. What a core may hold (:class:`pascal_nm.hw_targets.chip.Core`):

- neurons;
- synapse memory: the weights onto its neurons. A chip that shares the weights of a convolution
  stores each filter once, else once for each neuron;
- in-axons: one for each source neuron that reaches it (of a dense layer behind a pooling, for each
  window); with population axons (convolutions, poolings, shortcuts), one for each core that does;
- out-axons: one for each of its neurons and core that this reaches; with population axons, one for
  each core that it reaches.

The analog input is not on a core: it is injected from outside.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.errors import TargetError
from pascal_nm.hw_targets.chip import Chip, Core, Mesh
from pascal_nm.network import reach
from pascal_nm.network.bounds import weight_bits
from pascal_nm.network.graph import Graph, Population, Projection

LIMITS = ("neurons", "memory", "in_axons", "out_axons")

RELIEF = {
    "neurons": "fewer channels, or a chip with more neurons a core",
    "memory": "fewer bits (--bits), or narrower layers",
    "in_axons": "narrower source layers, or a pooling in between",
    "out_axons": "narrower target layers, so that they take fewer cores",
}
"""What helps where a limit binds."""

ROUNDS = 24
"""Attempts at finer blocks for populations whose cores have too few out-axons."""

MOST_CORES = 1 << 15
"""Cores of a network at most: what each sends to each is kept in one array. A VGG-16 on ImageNet
images takes some 15,000 of a Loihi 1."""

SWAPS = 20_000
"""Swaps of two cores that are tried when the placement is improved."""


class Blocks(NamedTuple):
    """How a population is cut.

    Given are the first index of every block along channels, rows and columns, and the end.
    """

    channels: Array
    rows: Array
    columns: Array

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
        return np.asarray(math.prod(np.ix_(*(np.diff(edges) for edges in self))), np.int64).reshape(-1)


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


@dataclass(frozen=True, eq=False)
class Mapping:
    """A graph on a chip's cores.

    Attributes:
        graph: the integer network.
        mesh: of the chip.
        blocks: by population, in order, without the analog input.
        use: likewise.
        places: (cores, 2) column and row of each core's tile, over all chips side by side.
        messages: (cores, cores), how many neurons of a core reach another one.
    """

    graph: Graph
    mesh: Mesh
    blocks: dict[str, Blocks]
    use: dict[str, Use]
    places: Array
    messages: Array

    @cached_property
    def first(self) -> dict[str, int]:
        """The first core of each population; its blocks follow each other, columns fastest."""
        return _first(self.blocks)

    @property
    def cores(self) -> int:
        """Cores in use."""
        return len(self.places)

    @property
    def chips(self) -> int:
        """Chips in use."""
        return -(-self.cores // self.mesh.cores)

    def distances(self, sources: Array, targets: Array) -> Array:
        """Hops along the mesh's columns and rows between cores, (pairs, 2)."""
        return np.asarray(np.abs(self.places[sources] - self.places[targets]))

    @property
    def mean_hops(self) -> float:
        """Hops of a message, if every neuron spiked equally often."""
        sources, targets = np.nonzero(self.messages)
        weights = self.messages[sources, targets]
        return float((self.distances(sources, targets).sum(1) * weights).sum() / max(1, weights.sum()))


def place(graph: Graph, chip: Chip) -> Mapping:
    """Map an integer graph onto a chip.

    Raises:
        TargetError: the chip's file describes no cores, one neuron alone exceeds a limit (the
            message names population and limit), or the network needs more than :data:`MOST_CORES`.
    """
    if chip.core is None or chip.mesh is None:
        raise TargetError(f"{chip.name} is described without cores: its file has no [core] and [mesh]")
    if not graph.is_integer:
        raise TargetError("a chip holds integers: quantize the network first (--bits 8)")
    mapper = _Mapper(graph, chip.core)
    blocks = mapper.split()
    if (cores := sum(b.cores for b in blocks.values())) > MOST_CORES:
        raise TargetError(f"the network needs {cores:,} cores of {chip.name}, and at most {MOST_CORES:,} are mapped")
    return held(graph, chip, blocks, _placement(mapper.messages(blocks), chip.mesh))


def held(graph: Graph, chip: Chip, blocks: dict[str, Blocks], places: Array) -> Mapping:
    """The mapping of a graph whose blocks stand on given tiles.

    Raises:
        TargetError: the chip's file describes no cores.
    """
    if chip.core is None or chip.mesh is None:
        raise TargetError(f"{chip.name} is described without cores: its file has no [core] and [mesh]")
    mapper = _Mapper(graph, chip.core)
    use = {name: mapper.use(name, blocks) for name in blocks}
    return Mapping(graph, chip.mesh, blocks, use, places, mapper.messages(blocks))


class _Mapper:
    """Splits the populations of one graph."""

    def __init__(self, graph: Graph, core: Core) -> None:
        self.graph, self.core = graph, core
        self.reach = {q.name: reach.of(q, graph[q.source].shape) for q in graph.projections}
        self.populations = [p for p in graph.populations if p.kind != "analog"]
        self.caps = {p.name: core.neurons for p in self.populations}
        self.bits = {q.name: weight_bits(q) for q in graph.projections}

    def split(self) -> dict[str, Blocks]:
        """Blocks of every population, within all limits."""
        for _ in range(ROUNDS):
            blocks: dict[str, Blocks] = {}
            for p in self.populations:
                blocks[p.name] = self._blocks(p, blocks)
            crowded = {
                name: share
                for name in blocks
                if (share := self._out_axons(name, blocks).max() / self.core.out_axons) > 1
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
                self.caps[name] = max(1, min(largest - 1, int(largest / share)))
        raise TargetError(f"no split of {', '.join(crowded)} leaves every core enough out-axons: {RELIEF['out_axons']}")

    def by_population(self, projection: Projection) -> bool:
        """Whether one axon serves a whole block of the source."""
        return self.core.population_axons and projection.operator.shares_weights

    def _blocks(self, p: Population, before: dict[str, Blocks]) -> Blocks:
        """The split of a population with fewest cores; its sources are split already."""
        shape = reach.volume(p.shape)
        axes = [_sizes(n) for n in shape]
        c, h, w = np.meshgrid(*axes, indexing="ij")
        cores = -(-shape[0] // c) * -(-shape[1] // h) * -(-shape[2] // w)
        memory, axons, heard = np.zeros(c.shape), np.zeros(c.shape), np.zeros(c.shape)
        for q in self.graph.incoming(p.name):
            analog = self.graph[q.source].kind == "analog"
            memory += self._memory(q, c, c * h * w)
            if not q.operator.shares_weights:
                heard += 0 if analog else self.graph[q.source].size
                axons += 0 if analog else self._lists(q)
                continue
            if analog:
                continue
            neurons = _outer([_heard(matrix, sizes) for matrix, sizes in zip(self.reach[q.name], axes, strict=True)])
            heard += neurons
            axons += self._cores_heard(q, axes, before[q.source]) if self.core.population_axons else neurons
        fits = (c * h * w <= self.caps[p.name]) & (memory <= self.core.memory_bits) & (axons <= self.core.in_axons)
        if not fits.any():
            self._refuse(p, memory[0, 0, 0], axons[0, 0, 0])
        best = np.where(fits, cores * 1e12 + heard * cores, np.inf)
        i, j, k = np.unravel_index(int(best.argmin()), best.shape)
        return Blocks(
            *(
                _edges(n, -(-n // int(size)))
                for n, size in zip(shape, (axes[0][i], axes[1][j], axes[2][k]), strict=True)
            )
        )

    def _lists(self, projection: Projection) -> int:
        """Different lists of synapses in a dense projection.

        The neurons of one window of a pooling share theirs, and an in-axon.
        """
        pool, shape = projection.pool, self.graph[projection.source].shape
        apart = pool is not None and all(s >= k for s, k in zip(pool.stride, pool.kernel, strict=True))
        return math.prod(pool.output_shape(shape)) if pool is not None and apart else math.prod(shape)

    def _memory(self, projection: Projection, channels: Array, neurons: Array) -> Array:
        """Bits that the weights onto so many neurons of so many channels take."""
        if not projection.operator.shares_weights:
            return neurons * self._lists(projection) * self.bits[projection.name]
        stored = channels if self.core.shared_convolution else neurons
        return stored * int(self.reach[projection.name].fan_in.max()) * self.bits[projection.name]

    def _cores_heard(self, projection: Projection, axes: list[Array], source: Blocks) -> Array:
        """The most cores of the source that blocks of each shape hear."""
        spans = []
        for matrix, sizes, edges in zip(self.reach[projection.name], axes, source, strict=True):
            cores = np.logical_or.reduceat(matrix > 0, edges[:-1], axis=1)
            spans.append(_heard(cores, sizes))
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

    def _reached(self, projection: Projection, blocks: dict[str, Blocks]) -> Array:
        """How many neurons of each source core reach each target core.

        Gives (target cores, source cores).
        """
        ends = zip(self.reach[projection.name], blocks[projection.target], blocks[projection.source], strict=True)
        counted = []
        for matrix, to, of in ends:
            heard = np.logical_or.reduceat(matrix > 0, to[:-1], axis=0)
            counted.append(np.add.reduceat(heard, of[:-1], axis=1, dtype=np.int64))
        return _combined(counted)

    def _axons(self, projection: Projection, blocks: dict[str, Blocks]) -> Array:
        """Axons from each source core to each target core, (target cores, source cores)."""
        count = self._reached(projection, blocks)
        return np.sign(count) if self.by_population(projection) else count

    def _out_axons(self, name: str, blocks: dict[str, Blocks]) -> Array:
        total = np.zeros(blocks[name].cores, np.int64)
        for q in self.graph.outgoing(name):
            if q.target in blocks:
                total += self._axons(q, blocks).sum(0)
        return total

    def use(self, name: str, blocks: dict[str, Blocks]) -> Use:
        """What each core of a population uses."""
        mine, p = blocks[name], self.graph[name]
        sizes = mine.sizes
        channels = np.broadcast_to(np.diff(mine.channels)[:, None, None], mine.grid).reshape(-1)
        memory, axons = np.zeros(mine.cores, np.int64), np.zeros(mine.cores, np.int64)
        for q in self.graph.incoming(p.name):
            memory += self._memory(q, channels, sizes)
            if q.source not in blocks:
                continue
            axons += self._axons(q, blocks).sum(1) if q.operator.shares_weights else self._lists(q)
        used = {"neurons": sizes, "memory": memory, "in_axons": axons, "out_axons": self._out_axons(name, blocks)}
        limits = {"neurons": self.core.neurons, "memory": self.core.memory_bits}
        return Use(used, limits | {"in_axons": self.core.in_axons, "out_axons": self.core.out_axons})

    def messages(self, blocks: dict[str, Blocks]) -> Array:
        """(source cores, target cores): neurons that reach, over all projections."""
        starts = _first(blocks)
        total = sum(b.cores for b in blocks.values())
        result = np.zeros((total, total), np.float32)
        for q in self.graph.projections:
            if q.source in blocks:
                count = self._reached(q, blocks)
                rows, columns = starts[q.source], starts[q.target]
                result[rows : rows + count.shape[1], columns : columns + count.shape[0]] += count.T
        return result


def _first(blocks: dict[str, Blocks]) -> dict[str, int]:
    """The first core of each population."""
    return dict(zip(blocks, [0, *itertools.accumulate(b.cores for b in blocks.values())], strict=False))


def _sizes(n: int) -> Array:
    """Every block size along an axis that gives another number of blocks, ascending."""
    return np.unique(-(-n // np.arange(1, n + 1)))


def _edges(n: int, parts: int) -> Array:
    """``n`` indices cut into equal parts, but for one."""
    return np.asarray([n * i // parts for i in range(parts + 1)])


def _outer(spans: list[Array]) -> Array:
    return np.asarray(np.einsum("i,j,k->ijk", *spans))


def _heard(matrix: Array, sizes: Array) -> Array:
    """The most sources that a block of each size hears along one axis.

    The synapses' numbers are given by (target, source).
    """
    connected = matrix > 0
    result = []
    for size in sizes:
        parts = _edges(len(connected), -(-len(connected) // int(size)))
        result.append(int(np.logical_or.reduceat(connected, parts[:-1], axis=0).sum(1).max()))
    return np.asarray(result)


def _combined(axes: list[Array]) -> Array:
    """The product over three axes of matrices (target, source blocks), as one matrix of cores."""
    first, second, third = axes
    return np.kron(np.kron(first, second), third)


def _placement(messages: Array, mesh: Mesh) -> Array:
    """Tiles for cores: the best of some orders, improved by swaps that shorten messages' ways."""
    cores = len(messages)
    orders = [order(mesh, cores) for order in (_row_by_row, _serpentine, _hilbert)]
    sources, targets = np.nonzero(messages)
    weights = messages[sources, targets]

    def length(places: Array) -> float:
        return float((np.abs(places[sources] - places[targets]).sum(1) * weights).sum())

    places = min(orders, key=length).copy()
    traffic = messages + messages.T
    pairs = np.random.default_rng(0).integers(0, cores, (SWAPS if cores > 1 else 0, 2))
    futile: set[tuple[int, int]] = set()  # since the last swap
    for a, b in pairs.tolist():
        if (a, b) in futile:
            continue
        futile.add((a, b))
        if (places[a] == places[b]).all():
            continue
        gain = traffic[a] - traffic[b]
        gain[[a, b]] = 0
        nearer = np.abs(places - places[a]) - np.abs(places - places[b])
        if gain @ (nearer[:, 0] + nearer[:, 1]) > 0:
            places[[a, b]] = places[[b, a]]
            futile.clear()
    return places


def _chip_grid(mesh: Mesh, cores: int) -> list[tuple[int, int]]:
    """Corners of the chips, in a square as far as possible, boustrophedon."""
    chips = -(-cores // mesh.cores)
    across = max(1, round(math.sqrt(chips * mesh.height / mesh.width)))
    corners = []
    for i in range(chips):
        row, column = divmod(i, across)
        corners.append(((column if row % 2 == 0 else across - 1 - column) * mesh.width, row * mesh.height))
    return corners


def _tiled(mesh: Mesh, cores: int, path: list[tuple[int, int]]) -> Array:
    """Cores on the tiles of a path through each chip, several to a tile."""
    on_chip = list(itertools.islice((tile for tile in path for _ in range(mesh.cores_per_tile)), mesh.cores))
    places = [(x + dx, y + dy) for x, y in _chip_grid(mesh, cores) for dx, dy in on_chip]
    return np.asarray(places[:cores])


def _row_by_row(mesh: Mesh, cores: int) -> Array:
    return _tiled(mesh, cores, [(x, y) for y in range(mesh.height) for x in range(mesh.width)])


def _serpentine(mesh: Mesh, cores: int) -> Array:
    path = [(x, y if x % 2 == 0 else mesh.height - 1 - y) for x in range(mesh.width) for y in range(mesh.height)]
    return _tiled(mesh, cores, path)


def _hilbert(mesh: Mesh, cores: int) -> Array:
    side = 1 << (max(mesh.width, mesh.height) - 1).bit_length()
    path = [
        point
        for point in map(lambda d: _hilbert_point(side, d), range(side * side))
        if point[0] < mesh.width and point[1] < mesh.height
    ]
    return _tiled(mesh, cores, path)


def _hilbert_point(side: int, distance: int) -> tuple[int, int]:
    """The point at a distance along Hilbert's curve.

    See https://en.wikipedia.org/wiki/Hilbert_curve.
    """
    x = y = 0
    size = 1
    while size < side:
        right, up = 1 & (distance // 2), 1 & (distance ^ (distance // 2))
        if up == 0:
            if right == 1:
                x, y = size - 1 - x, size - 1 - y
            x, y = y, x
        x, y = x + size * right, y + size * up
        distance //= 4
        size *= 2
    return x, y
