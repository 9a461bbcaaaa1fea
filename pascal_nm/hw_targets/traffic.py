r"""What happens on the cores of a chip in a run.

That is synaptic operations, messages and their hops, and the time of every timestep.

Counted from the spikes of the run itself, timestep by timestep. A spike is one message to each core
that it reaches. A timestep lasts as long as its slowest core, the longest way of a message, and the
barrier at its end:

.. math::
    t = \max_{core} \left( n_{up} \, t_{up} + n_{idle} \, t_{idle} + n_{syn} \, t_{syn}
        + n_{spikes} \, t_{emitted} + n_{out} \, t_{message} + n_{in} \, t_{in} \right)
        + \max_{messages} (h_x t_x + h_y t_y) + t_{barrier}
"""

from __future__ import annotations

import math
from collections import abc
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pascal_nm.common.arrays import Array
from pascal_nm.hw_targets.chip import NS, Chip
from pascal_nm.hw_targets.mapping import Mapping
from pascal_nm.network import reach
from pascal_nm.network.bounds import carrier
from pascal_nm.network.graph import Projection
from pascal_nm.simulation.schedule import Schedule

Routes = abc.Mapping[str, Array]
"""By projection, pairs of cores (n, 2)."""


class Messages(NamedTuple):
    """Messages that a population sends, and their hops: int64 arrays of shape (N,)."""

    sent: Array
    hops_x: Array
    hops_y: Array


@dataclass(frozen=True, eq=False)
class ChipActivity:
    """What N images caused on the cores.

    Attributes:
        messages: by population.
        operations: synaptic operations of each core, (N, cores).
        outgoing: messages that each core sends, (N, cores).
        incoming: messages that each core gets, (N, cores).
        seconds: time of each image, (N,); NaN where the chip's file gives no times.
    """

    messages: dict[str, Messages]
    operations: Array
    outgoing: Array
    incoming: Array
    seconds: Array

    @staticmethod
    def join(parts: list[ChipActivity]) -> ChipActivity:
        """The activity of consecutive batches as one."""
        names = ("operations", "outgoing", "incoming", "seconds")
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        messages = {
            name: Messages(*(np.concatenate(each) for each in zip(*(p.messages[name] for p in parts), strict=True)))
            for name in parts[0].messages
        }
        return ChipActivity(messages, **arrays)


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
        mapping: where they are.
        projection: from one to the other.
        inside: by axis, which indices of the source each of its blocks holds, (blocks, indices).
        onto: by axis, synapses from each index onto each block of the target, (blocks, indices).
        exact: a float type that holds the operations of a core in one timestep.
        routes: of the projection, (n, 2); see :class:`Traffic`.
    """

    def __init__(
        self,
        mapping: Mapping,
        projection: Projection,
        inside: list[Array],
        onto: list[Array],
        exact: type[Any],
        routes: Array | None = None,
    ) -> None:
        source, target = mapping.blocks[projection.source], mapping.blocks[projection.target]
        pairs = [Pairs.of(i, o) for i, o in zip(inside, onto, strict=True)]
        self.cores = _cores(mapping, projection.target)
        self._synapses = _tensors(onto, exact)
        self._pairs = _tensors([p.reached for p in pairs], carrier(mapping.graph[projection.source].size))
        self._leaving = _tensors([np.eye(n)[:, p.sources] for n, p in zip(source.grid, pairs, strict=True)], np.float64)
        self._arriving = _tensors(
            [np.eye(n)[:, p.targets] for n, p in zip(target.grid, pairs, strict=True)], np.float64
        )
        sources = _flat([p.sources for p in pairs], source.grid) + mapping.first[projection.source]
        targets = _flat([p.targets for p in pairs], target.grid) + self.cores.start
        self.hops = mapping.distances(sources, targets)
        self._routed: Tensor | None = None  # of pairs, where not all are joined by routes
        if routes is not None:
            ends = [mapping.cores, 1]  # a pair as one number
            routed = np.isin(np.stack([sources, targets], 1) @ ends, routes @ ends)
            routed = routed.reshape([len(p.sources) for p in pairs])
            if not routed.all():
                self._routed = torch.from_numpy(routed).movedim(0, -1).double()
                self._pair_synapses = _tensors(
                    [p.reached * o[p.targets] for p, o in zip(pairs, onto, strict=True)], exact
                )

    def count(self, spikes: Tensor) -> tuple[Array, Array, Array, Array]:
        """What spikes (steps, N, H, W, groups of channels) cause: arrays (steps, N, ...).

        Operations of each target core, messages of each pair of cores, those out of each source
        core, those into each target core.
        """
        sent = _contracted(spikes, self._pairs).double()
        if self._routed is None:
            operations = _contracted(spikes, self._synapses)
        else:
            sent = sent * self._routed
            operations = _contracted(_contracted(spikes, self._pair_synapses).double() * self._routed, self._arriving)
        out, into = (_contracted(sent, ends) for ends in (self._leaving, self._arriving))
        return _flattened(operations), _flattened(sent), _flattened(out), _flattened(into)


class Sender:
    """A population on cores.

    Channels that neither its own blocks nor those of its targets tell apart are added up
    before all else.

    Attributes:
        cores: its own.
        paths: its projections, but for those that have no synapses.
        values: the most numbers that one frame of its spikes becomes while it is counted.
    """

    def __init__(self, mapping: Mapping, name: str, routes: Routes | None = None) -> None:
        projections, size = mapping.graph.outgoing(name), mapping.graph[name].size
        inside = [_inside(edges) for edges in mapping.blocks[name]]
        onto = [_onto(mapping, q) for q in projections]
        exact = [carrier(math.prod(float(axis.sum(1).max()) for axis in axes)) for axes in onto]
        apart = np.concatenate([inside[0], *(axes[0] for axes in onto)])
        _, first, group = np.unique(apart, axis=1, return_index=True, return_inverse=True)
        order = np.argsort(first)  # without equal channels, every group is a channel, in order
        for axes in (inside, *onto):
            axes[0] = axes[0][:, first[order]]
        ways = zip(projections, onto, exact, strict=True)
        paths = [
            Path(mapping, q, inside, axes, bound, None if routes is None else routes[q.name]) for q, axes, bound in ways
        ]
        self.cores = _cores(mapping, name)
        self.paths = [path for path in paths if len(path.hops)]
        self.values = max([size, *(len(path.hops) for path in self.paths)])
        self._blocks = _tensors(inside, carrier(size))
        (self._groups,) = _tensors([np.eye(len(first))[order][:, group.reshape(-1)]], carrier(size))

    def grouped(self, train: Tensor) -> Tensor:
        """Spikes of either sign (steps, N, *shape), counted in each group of channels.

        Gives (steps, N, H, W, groups).
        """
        spikes = train.abs().reshape(*train.shape[:2], *reach.volume(tuple(train.shape[2:]))).movedim(2, -1)
        return spikes if len(self._groups) == spikes.shape[-1] else spikes.to(self._groups.dtype) @ self._groups.T

    def emitted(self, spikes: Tensor) -> Array:
        """Spikes (steps, N, H, W, groups) that leave each core, (steps, N, cores)."""
        return _flattened(_contracted(spikes, self._blocks))


def _cores(mapping: Mapping, name: str) -> slice:
    first = mapping.first[name]
    return slice(first, first + mapping.blocks[name].cores)


def _onto(mapping: Mapping, projection: Projection) -> list[Array]:
    """By axis, synapses from each index of the source onto each target block: (blocks, indices)."""
    matrices = reach.of(projection, mapping.graph[projection.source].shape)
    blocks = mapping.blocks[projection.target]
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
    """(steps, N, H, W, C) as float64 (steps, N, C * H * W)."""
    return np.asarray(values.movedim(-1, 2).flatten(2).double().numpy())


class Traffic:
    """Counts what the spikes of one batch cause on a mapped chip.

    The simulator tells it of each population.

    Args:
        mapping: where the populations are.
        chip: for the times.
        routes: by projection, the pairs of cores (n, 2) between which messages travel; None for all
            that synapses join.
    """

    def __init__(self, mapping: Mapping, chip: Chip, routes: Routes | None = None) -> None:
        self.mapping, self.chip = mapping, chip
        self.senders = {name: Sender(mapping, name, routes) for name in mapping.blocks}
        self.injected = []  # cores that hear the analog input, and their operations for an image
        for q in mapping.graph.outgoing(mapping.graph.input.name):
            cores = _cores(mapping, q.target)
            dense = np.asarray(math.prod(np.ix_(*(axis.sum(1) for axis in _onto(mapping, q))))).reshape(-1)
            if routes is not None:
                dense = dense * np.isin(np.arange(cores.start, cores.stop), routes[q.name][:, 1])
            self.injected.append((cores, dense.reshape(1, 1, -1)))

    def start(self, images: int, plan: Schedule) -> Count:
        """A count of the next ``images`` images."""
        return Count(self, images, plan)


class Count:
    """The count of one batch; see :class:`Traffic`."""

    def __init__(self, traffic: Traffic, images: int, plan: Schedule) -> None:
        self.traffic, self.plan, self.images = traffic, plan, images
        cores = traffic.mapping.cores
        self.timed = bool(traffic.chip.latency)
        self.per_core = {name: np.zeros((images, cores)) for name in ("operations", "outgoing", "incoming")}
        self.messages = {name: Messages(*np.zeros((3, images), np.int64)) for name in traffic.mapping.blocks}
        steps = plan.steps
        self.busy = np.zeros((steps, images, cores) if self.timed else (0, 0, 0), np.float32)  # nanoseconds
        self.way = np.zeros((steps, images) if self.timed else (0, 0), np.float32)

    def see(self, name: str, train: Tensor, first: int) -> None:
        """Spikes (steps, N, *shape) of a population, from timestep ``first`` on.

        Those of the analog input are graded values.
        """
        arrival = first + self.plan.delay
        sender = self.traffic.senders.get(name)
        if sender is None:  # every value of an image is an operation, zeros too
            for cores, operations in self.traffic.injected:
                self._take("synaptic_operation", arrival, slice(None), cores, operations)
            return
        train = train[: max(0, self.plan.steps - first)]
        block = max(1, FRAME_VALUES // max(1, len(train) * sender.values))
        for n in range(0, self.images, block):
            images = slice(n, n + block)
            spikes = sender.grouped(train[:, images])
            if self.traffic.chip.nanoseconds("emitted"):
                self._take("emitted", first, images, sender.cores, sender.emitted(spikes))
            for path in sender.paths:
                self._sent(name, path, first, images, spikes[: max(0, self.plan.steps - arrival)])

    def _sent(self, name: str, path: Path, first: int, images: slice, spikes: Tensor) -> None:
        """Spikes (steps, n, H, W, groups) on one of a population's ways."""
        own, arrival = self.traffic.senders[name].cores, first + self.plan.delay
        operations, sent, outgoing, incoming = path.count(spikes)
        self.per_core["operations"][images, path.cores] += operations.sum(0)
        self.per_core["outgoing"][images, own] += outgoing.sum(0)
        self.per_core["incoming"][images, path.cores] += incoming.sum(0)
        total, counted = sent.sum(0), self.messages[name]
        for number, each in zip(counted, (np.ones(len(path.hops)), *path.hops.T), strict=True):
            number[images] += np.rint(total @ each.astype(np.float64)).astype(np.int64)
        if self.timed:
            self._take("synaptic_operation", arrival, images, path.cores, operations)
            self._take("message", first, images, own, outgoing)
            self._take("message_in", arrival, images, path.cores, incoming)
            lengths = path.hops @ [self.traffic.chip.nanoseconds(hop) for hop in ("hop_x", "hop_y")]
            way = self.way[first : first + len(sent), images]
            np.maximum(way, ((sent > 0) * lengths).max(2), out=way)

    def _take(self, event: str, first: int, images: slice, cores: slice, counts: Array) -> None:
        """Time of cores for so many events, (steps, n, cores), from timestep ``first`` on."""
        if nanoseconds := self.traffic.chip.nanoseconds(event):
            self.busy[first : first + len(counts), images, cores] += counts * nanoseconds

    def result(self, timesteps: Array) -> ChipActivity:
        """Everything seen, of images that took so many ``timesteps``, (N,)."""
        return ChipActivity(self.messages, **self.per_core, seconds=self._seconds(timesteps))

    def _seconds(self, timesteps: Array) -> Array:
        if not self.timed:
            return np.full(self.images, np.nan)
        chip, mapping = self.traffic.chip, self.traffic.mapping
        sizes = np.concatenate([blocks.sizes for blocks in mapping.blocks.values()])
        resting = np.broadcast_to(sizes * chip.nanoseconds("idle"), (self.plan.steps, len(sizes))).copy()
        for name, blocks in mapping.blocks.items():
            window, first = self.plan.windows[name], mapping.first[name]
            cores = slice(first, first + blocks.cores)
            resting[window.start : window.stop, cores] = sizes[cores] * chip.nanoseconds("update")
        slowest = (self.busy + resting[:, None]).max(2)
        tiles = len(np.unique(mapping.places, axis=0))
        barrier = 0.0 if chip.barrier is None else chip.barrier.at(tiles)
        running = np.arange(self.plan.steps)[:, None] < timesteps
        return np.asarray(((slowest + self.way + barrier) * running).sum(0, dtype=np.float64) * NS)


FRAME_VALUES = 1 << 20
"""Neurons times images and timesteps whose messages are counted together: few enough for the
processor's cache."""
