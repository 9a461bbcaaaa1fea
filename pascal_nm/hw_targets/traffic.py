r"""What happens on the cores of a chip in a run: synaptic operations, messages and their hops, and the time of every timestep.

Counted from the spikes of the run itself, timestep by timestep. A spike is one message to each core that it reaches. A timestep lasts as long as its
slowest core, the longest way of a message, and the barrier at its end:

.. math:: t = \max_{core} \left( n_{up} \, t_{up} + n_{idle} \, t_{idle} + n_{syn} \, t_{syn} + n_{spikes} \, t_{emitted} + n_{out} \, t_{message}
          + n_{in} \, t_{in} \right) + \max_{messages} (h_x t_x + h_y t_y) + t_{barrier}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pascal_nm import reach
from pascal_nm.graph import Array, Projection
from pascal_nm.hw_targets.chip import NS, Chip
from pascal_nm.hw_targets.mapping import Blocks, Mapping
from pascal_nm.schedule import Schedule


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


class Axis(NamedTuple):
    """A projection along one axis, from the source's indices; float64, in which all sums are exact.

    Attributes:
        synapses: (target blocks, indices), synapses onto a block.
        pairs: (pairs, indices), 1 where an index lies in the pair's source block and reaches its target block.
        sources: the source block of each pair.
        targets: its target block.
    """

    synapses: Tensor
    pairs: Tensor
    sources: Array
    targets: Array


class Path:
    """A projection between two populations on cores; the analog input has none."""

    def __init__(self, mapping: Mapping, projection: Projection) -> None:
        graph = mapping.graph
        self.projection = projection
        self.analog = projection.source not in mapping.blocks
        shape = reach.volume(graph[projection.source].shape)
        target = mapping.blocks[projection.target]
        whole = Blocks(*(np.asarray([0, n]) for n in shape))
        source = whole if self.analog else mapping.blocks[projection.source]
        matrices = reach.of(projection, graph[projection.source].shape)
        self.axes = [_axis(m, s, t) for m, s, t in zip(matrices, source, target, strict=True)]
        self.first_target = mapping.first[projection.target]
        self.target_cores = target.cores
        self.source_ids = _flat([a.sources for a in self.axes], source.grid)
        self.target_ids = _flat([a.targets for a in self.axes], target.grid)
        if not self.analog:
            ends = (self.source_ids + mapping.first[projection.source], self.target_ids + self.first_target)
            self.hops = mapping.distances(*ends)

    def operations(self, spikes: Tensor) -> Array:
        """Synaptic operations of each target core, (frames, cores), for spikes (frames, C, H, W)."""
        found = _contracted(spikes, [axis.synapses for axis in self.axes])
        return np.asarray(found.flatten(1).numpy())

    def sent(self, spikes: Tensor) -> Array:
        """Messages of each pair of cores, (frames, pairs)."""
        found = _contracted(spikes, [axis.pairs for axis in self.axes])
        return np.asarray(found.flatten(1).numpy())


def _axis(matrix: Array, source: Array, target: Array) -> Axis:
    synapses = np.add.reduceat(matrix, target[:-1], axis=0)
    pairs, sources, targets = [], [], []
    for s, inside in enumerate(_inside(source)):
        for t, row in enumerate(synapses > 0):
            if (both := row & inside).any():
                pairs.append(both)
                sources.append(s)
                targets.append(t)
    both_ends = (np.asarray(sources, np.int64), np.asarray(targets, np.int64))
    return Axis(
        torch.from_numpy(synapses.astype(np.float64)),
        torch.from_numpy(np.asarray(pairs, np.float64).reshape(-1, matrix.shape[1])),
        *both_ends,
    )


def _flat(axes: list[Array], grid: tuple[int, int, int]) -> Array:
    """Number of the block at each combination of places along the axes."""
    combined = np.meshgrid(*axes, indexing="ij")
    return np.ravel_multi_index([part.reshape(-1) for part in combined], grid)


def _contracted(spikes: Tensor, matrices: list[Tensor]) -> Tensor:
    """Spikes (frames, C, H, W), each axis taken through its matrix (new, old): columns and rows first, they shrink most."""
    found = spikes @ matrices[2].T
    found = torch.einsum("fchw,rh->fcrw", found, matrices[1])
    return torch.einsum("fcrw,dc->fdrw", found, matrices[0])


class Traffic:
    """Counts what the spikes of one batch cause on a mapped chip; the simulator tells it of each population.

    Args:
        mapping: where the populations are.
        chip: for the times.
    """

    def __init__(self, mapping: Mapping, chip: Chip) -> None:
        self.mapping, self.chip = mapping, chip
        self.paths: dict[str, list[Path]] = {}
        for q in mapping.graph.projections:
            self.paths.setdefault(q.source, []).append(Path(mapping, q))

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
        """Spikes (steps, N, *shape) of a population, from timestep ``first`` on; graded values of the analog input."""
        self._emitted(name, train, first)
        shape = reach.volume(tuple(train.shape[2:]))
        for path in self.traffic.paths.get(name, []):
            block = max(1, FRAME_VALUES // int(np.prod(shape)))
            for t in range(min(len(train), max(0, self.plan.steps - first - self.plan.delay))):
                for n in range(0, self.images, block):
                    frame = train[t, n : n + block].reshape(-1, *shape)
                    images = slice(n, n + block)
                    self._frame(path, name, first + t, images, frame.double().abs())

    def _frame(self, path: Path, name: str, t: int, images: slice, spikes: Tensor) -> None:
        chip = self.traffic.chip
        cores = slice(path.first_target, path.first_target + path.target_cores)
        arrival = t + self.plan.delay
        if path.analog:  # every value of an image is an operation, zeros too
            operations = path.operations(torch.ones_like(spikes))
            if self.timed:
                self.busy[arrival, images, cores] += operations * chip.nanoseconds("synaptic_operation")
            return
        if not spikes.any() or not len(path.source_ids):
            return
        operations, sent = path.operations(spikes), path.sent(spikes)
        self.per_core["operations"][images, cores] += operations
        first = self.traffic.mapping.first[name]
        sources, targets = path.source_ids + first, path.target_ids + path.first_target
        for key, ids in (("outgoing", sources), ("incoming", targets)):
            _add(self.per_core[key][images], ids, sent)
        counted = self.messages[name]
        counted.sent[images] += np.rint(sent.sum(1)).astype(np.int64)
        for total, hops in zip((counted.hops_x, counted.hops_y), path.hops.T, strict=True):
            total[images] += np.rint(sent @ hops.astype(np.float64)).astype(np.int64)
        if self.timed:
            self.busy[arrival, images, cores] += operations * chip.nanoseconds("synaptic_operation")
            for when, ids, event in ((t, sources, "message"), (arrival, targets, "message_in")):
                if nanoseconds := chip.nanoseconds(event):
                    _add(self.busy[when, images], ids, sent * nanoseconds)
            lengths = path.hops @ [chip.nanoseconds(hop) for hop in ("hop_x", "hop_y")]
            np.maximum(self.way[t, images], ((sent > 0) * lengths).max(1), out=self.way[t, images])

    def _emitted(self, name: str, train: Tensor, first: int) -> None:
        """Time that the neurons of a population take for their spikes (steps, N, *shape)."""
        nanoseconds, blocks = self.traffic.chip.nanoseconds("emitted"), self.traffic.mapping.blocks.get(name)
        if blocks is None or not nanoseconds:
            return
        shape = reach.volume(tuple(train.shape[2:]))
        axes = [torch.from_numpy(_inside(edges).astype(np.float64)) for edges in blocks]
        start = self.traffic.mapping.first[name]
        for t in range(min(len(train), max(0, self.plan.steps - first))):
            spikes = _contracted(train[t].reshape(-1, *shape).double().abs(), axes).flatten(1).numpy()
            self.busy[first + t, :, start : start + blocks.cores] += spikes * nanoseconds

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


FRAME_VALUES = 1 << 22
"""Neurons times images whose messages are counted together."""


def _inside(edges: Array) -> Array:
    """Which indices along an axis each block holds, (blocks, indices)."""
    places = np.arange(edges[-1])
    return (places >= edges[:-1, None]) & (places < edges[1:, None])


def _add(total: Array, ids: Array, values: Array) -> None:
    """Add values (N, pairs) to the columns of ``total`` (N, cores) that ``ids`` names, some of them more than once."""
    order = np.argsort(ids, kind="stable")
    starts = np.flatnonzero(np.diff(ids[order], prepend=-1))
    total[:, ids[order][starts]] += np.add.reduceat(values[:, order], starts, axis=1)
