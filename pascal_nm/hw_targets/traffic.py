"""What the spikes of a run cause on the cores of a chip, counted timestep by timestep.

That is operations, spikes, messages and their ways: numbers that every chip shares whose
cores hold the network in the same way. :mod:`pascal_nm.hw_targets.cost` prices and times them. A
spike is one message to each core that it reaches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from pascal_nm.common.arrays import Array
from pascal_nm.hw_targets.mapping import Placement
from pascal_nm.network import reach
from pascal_nm.network.bounds import carrier
from pascal_nm.network.graph import Projection
from pascal_nm.network.reach import Pattern, members
from pascal_nm.simulation import events
from pascal_nm.simulation.result import CoreEvents, Counted, Ways
from pascal_nm.simulation.schedule import Schedule

Routes = Mapping[str, Array]
"""By projection, pairs of cores (n, 2)."""


class Pairs(NamedTuple):
    """Blocks of a source and of a target that are joined along one axis.

    Attributes:
        reached: (pairs, indices), true where an index lies in the pair's source block and reaches
            its target block.
        sources: the source block of each pair.
        targets: its target block.
    """

    reached: Array
    sources: Array
    targets: Array

    @staticmethod
    def of(inside: Array, onto: Array) -> Pairs:
        """From the indices in each source block and the synapses onto each target block.

        Both are (blocks, indices).
        """
        both = inside[:, None] & (onto > 0)
        sources, targets = np.nonzero(both.any(2))
        return Pairs(both[sources, targets], sources, targets)


class Path:
    """A projection between two populations on cores.

    Args:
        placement: where they are.
        projection: from one to the other.
        inside: by axis, which indices of the source each of its blocks holds, (blocks, indices).
        onto: by axis, synapses from each index onto each block of the target, (blocks, indices).
        exact: a float type that holds the operations of a core in one timestep.
        routes: of the projection, (n, 2); see :class:`Traffic`.
    """

    def __init__(
        self,
        placement: Placement,
        projection: Projection,
        inside: list[Array],
        onto: list[Array],
        exact: type[Any],
        routes: Array | None = None,
    ) -> None:
        source, target = placement.blocks[projection.source], placement.blocks[projection.target]
        pairs = [Pairs.of(i, o) for i, o in zip(inside, onto, strict=True)]
        self.projection, self.target = projection, projection.target
        first = placement.first[projection.target]
        self._synapses = _tensors(onto, exact)
        messages = carrier(placement.graph[projection.source].size * target.cores)
        self._pairs = _tensors([p.reached for p in pairs], messages)
        self._leaving = _tensors([np.eye(n)[:, p.sources] for n, p in zip(source.grid, pairs, strict=True)], messages)
        self._arriving = _tensors([np.eye(n)[:, p.targets] for n, p in zip(target.grid, pairs, strict=True)], messages)
        sources = _flat([p.sources for p in pairs], source.grid) + placement.first[projection.source]
        targets = _flat([p.targets for p in pairs], target.grid) + first
        self.hops = placement.distances(sources, targets)
        self._routed: Tensor | None = None  # of pairs, where not all are joined by routes
        if routes is not None:
            ends = [placement.cores, 1]  # a pair as one number
            routed = np.isin(np.stack([sources, targets], 1) @ ends, routes @ ends)
            if not routed.all():
                self._routed = torch.from_numpy(routed.reshape([len(p.sources) for p in pairs])).movedim(0, -1)
                both = [p.reached * o[p.targets] for p, o in zip(pairs, onto, strict=True)]
                self._pair_synapses = _tensors(both, exact)

    def count(self, spikes: Tensor) -> tuple[Array, Array, Array, Array]:
        """What spikes (steps, N, H, W, groups of channels) cause: arrays (steps, N, ...).

        Operations of each target core, messages of each pair of cores, those out of each source
        core, those into each target core.
        """
        sent = _contracted(spikes, self._pairs)
        if self._routed is None:
            operations = _contracted(spikes, self._synapses)
        else:
            sent = sent * self._routed
            each = _contracted(spikes, self._pair_synapses).double() * self._routed
            operations = _contracted(each, [ends.double() for ends in self._arriving])
        out, into = (_contracted(sent, ends) for ends in (self._leaving, self._arriving))
        return _flattened(operations), _flattened(sent), _flattened(out), _flattened(into)


class SparsePath:
    """A projection between two populations on cores, whose synapses are given neuron by neuron.

    Args:
        placement: where the populations are.
        projection: from one to the other.
        pattern: its synapses.
        routes: of the projection, (n, 2); see :class:`Traffic`.
    """

    def __init__(
        self, placement: Placement, projection: Projection, pattern: Pattern, routes: Array | None = None
    ) -> None:
        source, target = placement.blocks[projection.source], placement.blocks[projection.target]
        self.projection, self.target = projection, projection.target
        onto = members(target.owners, target.cores) @ pattern.matrix
        entries = onto.tocoo()  # a source neuron and a core that it reaches
        numbers = source.owners[entries.col] * target.cores + entries.row
        pairs, which = np.unique(numbers, return_inverse=True)
        ends = pairs // target.cores, pairs % target.cores
        sources, targets = ends[0] + placement.first[projection.source], ends[1] + placement.first[projection.target]
        self.hops = placement.distances(sources, targets)
        routed = np.ones(len(pairs), bool)
        if routes is not None:
            joined = [placement.cores, 1]  # a pair as one number
            routed = np.isin(np.stack([sources, targets], 1) @ joined, routes @ joined)
        there = routed[which]
        self._synapses, self._pairs = (
            sparse.csr_matrix((values, (rows, entries.col[there])), (number, onto.shape[1]))
            for values, rows, number in (
                (entries.data[there], entries.row[there], target.cores),
                (np.ones(there.sum(), np.int64), which[there], len(pairs)),
            )
        )
        self._ends = [members(end, size) for end, size in zip(ends, (source.cores, target.cores), strict=True)]

    def count(self, spikes: Tensor) -> tuple[Array, Array, Array, Array]:
        """As :meth:`Path.count`; every channel is a group of its own."""
        there = _flattened(spikes)
        operations, sent = (_multiplied(matrix, there) for matrix in (self._synapses, self._pairs))
        out, into = (_multiplied(matrix, sent) for matrix in self._ends)
        return operations, sent, out, into


def _multiplied(matrix: Any, values: Array) -> Array:
    """Values (..., neurons) by a matrix (new, neurons): (..., new)."""
    found = matrix @ values.reshape(-1, values.shape[-1]).T.astype(np.float64)
    return np.asarray(found.T).reshape(*values.shape[:-1], -1)


class Sorted(NamedTuple):
    """Numbered things in the order of their groups.

    Attributes:
        order: the things.
        starts: where each group that has any begins in this order.
        groups: these groups.
    """

    order: Array
    starts: Array
    groups: Array

    @staticmethod
    def of(group: Array) -> Sorted:
        """From the group of each thing."""
        order = np.argsort(group, kind="stable")
        groups, starts = np.unique(group[order], return_index=True)
        return Sorted(order, starts, groups)

    def add(self, counts: Array, onto: Array) -> None:
        """Add the counts of things (..., things) onto those of groups (..., groups)."""
        onto[..., self.groups] += np.add.reduceat(counts[..., self.order], self.starts, axis=-1)


class Sender:
    """A population on cores.

    Channels that neither its own blocks nor those of its targets tell apart are added up
    before all else.

    Attributes:
        paths: its projections, but for those that have no synapses.
        hops: the different ways of its messages, (ways, 2) along columns and rows.
        ways: for each path, the pairs of cores that are each way apart.
        values: the most numbers that one frame of its spikes becomes while it is counted.
    """

    def __init__(self, placement: Placement, name: str, routes: Routes | None = None) -> None:
        projections, size = placement.graph.outgoing(name), placement.graph[name].size
        inside = [_inside(edges) for edges in placement.blocks[name]]
        joined = {q.name: _onto(placement, q) for q in projections}
        onto = [axes for axes in joined.values() if not isinstance(axes, Pattern)]
        patterns = len(onto) < len(joined)
        apart = np.concatenate([inside[0], *(axes[0] for axes in onto), *([np.eye(inside[0].shape[1])] * patterns)])
        _, first, group = np.unique(apart, axis=1, return_index=True, return_inverse=True)
        order = np.argsort(first)  # without equal channels, every group is a channel, in order
        for axes in (inside, *onto):
            axes[0] = axes[0][:, first[order]]
        paths: list[Path | SparsePath] = []
        for q in projections:
            each, ways = joined[q.name], None if routes is None else routes[q.name]
            if isinstance(each, Pattern):
                paths.append(SparsePath(placement, q, each, ways))
            else:
                exact = carrier(math.prod(float(axis.sum(1).max()) for axis in each))
                paths.append(Path(placement, q, inside, each, exact, ways))
        self.paths = [path for path in paths if len(path.hops)]
        pairs = np.concatenate([np.zeros((0, 2), np.int64), *(path.hops for path in self.paths)])
        self.hops, way = np.unique(pairs, axis=0, return_inverse=True)
        ends = np.cumsum([len(path.hops) for path in self.paths])[:-1]
        self.ways = [Sorted.of(part) for part, _ in zip(np.split(way.reshape(-1), ends), self.paths, strict=False)]
        self.values = max([size, *(len(path.hops) for path in self.paths)])
        self._blocks = _tensors(inside, carrier(size))
        (self._groups,) = _tensors([np.eye(len(first))[order][:, group.reshape(-1)]], carrier(size))

    def grouped(self, train: Tensor) -> Tensor:
        """Spikes of any sign and size (steps, N, *shape), counted in each group of channels.

        Gives (steps, N, H, W, groups).
        """
        spikes = _there(train)
        return spikes if len(self._groups) == spikes.shape[-1] else spikes.to(self._groups.dtype) @ self._groups.T

    def count(self, spikes: Tensor, ways: Array) -> list[Array]:
        """What spikes (steps, N, H, W, groups) cause: arrays (steps, N, cores).

        The first is of the spikes that leave each of its own cores, then three of each path follow:
        operations of each target core, messages out of each of its own cores, those into each
        target core. In ``ways`` (steps that arrive, N, ways), messages are added up by their way.
        """
        found = [_flattened(_contracted(spikes, self._blocks))]
        for path, grouped in zip(self.paths, self.ways, strict=True):
            operations, sent, *ends = path.count(spikes[: len(ways)])
            grouped.add(sent, ways)
            found += [operations, *ends]
        return found


class Injected:
    """The projection of the analog input, which is on no core, onto a population on cores.

    Args:
        placement: where that is.
        projection: from the input.
        routes: of the projection, (n, 2); see :class:`Traffic`.
    """

    def __init__(self, placement: Placement, projection: Projection, routes: Array | None = None) -> None:
        onto, target = _onto(placement, projection), placement.blocks[projection.target]
        self.projection = projection
        self._pattern = members(target.owners, target.cores) @ onto.matrix if isinstance(onto, Pattern) else None
        self._synapses = (
            [] if isinstance(onto, Pattern) else _tensors(onto, carrier(math.prod(float(a.sum(1).max()) for a in onto)))
        )
        cores = _cores(placement, projection.target)
        numbers = np.arange(cores.start, cores.stop)
        self._heard = np.ones(len(numbers)) if routes is None else np.isin(numbers, routes[:, 1])
        self._dense = self._caused(torch.ones(1, 1, *placement.graph[projection.source].shape))

    def operations(self, train: Tensor, sparse: bool) -> Array:
        """Of each core of the target, (steps, N, cores), where values (steps, N, *shape) come.

        All values are operations, zeros too, or, where it is ``sparse``, only the others.
        """
        counts = self._caused(train) if sparse else self._dense
        return np.broadcast_to(counts, (*train.shape[:2], counts.shape[2]))

    def _caused(self, train: Tensor) -> Array:
        if self._pattern is not None:
            return _multiplied(self._pattern, _flattened(_there(train))) * self._heard
        return np.asarray(_flattened(_contracted(_there(train), self._synapses)) * self._heard)


def _there(train: Tensor) -> Tensor:
    """1 where a train (steps, N, *shape) has a spike of any sign and size: (steps, N, H, W, C)."""
    there = train.ne(0).to(train.dtype)
    return there.reshape(*train.shape[:2], *reach.volume(tuple(train.shape[2:]))).movedim(2, -1)


def _cores(placement: Placement, name: str) -> slice:
    first = placement.first[name]
    return slice(first, first + placement.blocks[name].cores)


def _onto(placement: Placement, projection: Projection) -> list[Array] | Pattern:
    """By axis, synapses from each index of the source onto each target block: (blocks, indices).

    Where they are given neuron by neuron, as they are.
    """
    matrices = projection.reach(placement.graph[projection.source].shape)
    if isinstance(matrices, Pattern):
        return matrices
    blocks = placement.blocks[projection.target]
    return [np.add.reduceat(m, edges[:-1], axis=0) for m, edges in zip(matrices, blocks, strict=True)]


def _inside(edges: Array) -> Array:
    """Which indices along an axis each block holds, (blocks, indices)."""
    places = np.arange(edges[-1])
    return (places >= edges[:-1, None]) & (places < edges[1:, None])


def _flat(axes: list[Array], grid: tuple[int, int, int]) -> Array:
    """Number of the block at each combination of places along the axes."""
    combined = np.meshgrid(*axes, indexing="ij")
    return np.ravel_multi_index([part.reshape(-1) for part in combined], grid)


def _tensors(matrices: list[Array], exact: type[Any]) -> list[Tensor]:
    return [torch.from_numpy(matrix.astype(exact)) for matrix in matrices]


def _contracted(values: Tensor, matrices: list[Tensor]) -> Tensor:
    """Values (..., H, W, C), whose channels, rows and columns go through their matrices.

    A matrix is (new, old); the axis that shrinks most goes first.
    """
    values = values.to(matrices[0].dtype)
    for axis in sorted(range(3), key=lambda axis: matrices[axis].shape[0] / matrices[axis].shape[1]):
        matrix, place = matrices[axis], (-1, -3, -2)[axis]
        if place == -1:
            values = values @ matrix.T
            continue
        before, after = values.shape[:place], values.shape[place + 1 :]
        flat = values.reshape(math.prod(before), matrix.shape[1], math.prod(after))
        values = (matrix @ flat).view(*before, len(matrix), *after)
    return values


def _flattened(values: Tensor) -> Array:
    """(steps, N, H, W, C) as (steps, N, C * H * W)."""
    return np.asarray(values.movedim(-1, 2).flatten(2).numpy())


class Traffic:
    """Counts what the spikes of a run cause on cores; the simulator tells it of each population.

    Args:
        placement: where the populations are.
        routes: by projection, the pairs of cores (n, 2) between which messages travel; None for all
            that synapses join.
    """

    def __init__(self, placement: Placement, routes: Routes | None = None) -> None:
        self.placement = placement
        self.senders = {name: Sender(placement, name, routes) for name in placement.blocks}
        self.injected = [
            Injected(placement, q, None if routes is None else routes[q.name])
            for q in placement.graph.outgoing(placement.graph.input.name)
        ]

    def start(self, images: int, plan: Schedule) -> Count:
        """A count of the next ``images`` images."""
        return Count(self, images, plan)


class Count:
    """The count of one batch; see :class:`Traffic`."""

    def __init__(self, traffic: Traffic, images: int, plan: Schedule) -> None:
        self.traffic, self.plan, self.images = traffic, plan, images
        self.counted: list[Counted] = []
        self.ways: dict[str, Ways] = {}

    def see(self, name: str, train: Tensor, first: int) -> None:
        """Spikes (steps, N, *shape) of a population, from timestep ``first`` on.

        Those of the analog input are graded values.
        """
        sender, arrival = self.traffic.senders.get(name), first + self.plan.delay
        operation = events.operation(self.traffic.placement.graph, self.plan, name)
        if sender is None:
            for each in self.traffic.injected:
                counts = each.operations(train, self.plan.sparse)
                q = each.projection
                self._keep(operation, q.target, first + self.plan.way(q), counts, events.synapses(q))
            return
        train = train[: max(0, self.plan.steps - first)]
        block = max(1, FRAME_VALUES // max(1, len(train) * sender.values))
        ways = np.zeros((max(0, min(len(train), self.plan.steps - arrival)), self.images, len(sender.hops)))
        parts = []
        for n in range(0, self.images, block):
            images = slice(n, n + block)
            parts.append(sender.count(sender.grouped(train[:, images]), ways[:, images]))
        emitted, *caused = (np.concatenate(batches, 1) for batches in zip(*parts, strict=True))
        self._keep("emitted", name, first, emitted)
        for i, path in enumerate(sender.paths):
            operations, sent, arrived = caused[3 * i : 3 * i + 3]
            self._keep("message", name, first, sent)
            self._keep("message_in", path.target, arrival, arrived)
            done = first + self.plan.way(path.projection)  # messages that came earlier wait in their synapses
            counts = operations[: max(0, self.plan.steps - done)]
            self._keep(operation, path.target, done, counts, events.synapses(path.projection))
        self.ways[name] = Ways(first, sender.hops, ways)

    def _keep(self, event: str, population: str, first: int, counts: Array, synapses: str = "dense") -> None:
        """Events (steps, N, cores) on the cores of a population, from timestep ``first`` on."""
        cores = _cores(self.traffic.placement, population)
        self.counted.append(Counted(event, population, cores, first, counts, synapses))

    def events(self) -> CoreEvents:
        """Everything seen."""
        return CoreEvents(self.images, self.traffic.placement.cores, tuple(self.counted), self.ways)


FRAME_VALUES = 1 << 20
"""Neurons times images and timesteps whose messages are counted together: few enough for the
processor's cache."""
