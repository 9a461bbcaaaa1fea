"""What a placement may serve, and how blocks are cut finer for it.

Before a run nobody knows the spikes. Assumed is that in the k-th timestep in which a population may
send, each of its neurons does with a probability of :math:`2^{-(k + 1)}`: counts of 1 and more have
one neuron in four, of 2 and more one in eight, up to its L levels. Where spikes carry numbers, a
count of 1 and more is one spike. The image ends when the last of these spikes has arrived.
Everything else is the chip's: a timestep lasts as long as the formula of
:mod:`pascal_nm.hw_targets.cost` says, where a population's slowest core has the most neurons,
operations and messages that any of its cores has, and the longest way of a message goes through all
of the nearly square rectangle of tiles that the cores fill. Of the energy, only that of messages
and their hops depends on where the neurons are.
"""

from __future__ import annotations

import math
from collections.abc import Set
from functools import cached_property

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.errors import TargetError
from pascal_nm.hw_targets.blocks import Blocks, Joins
from pascal_nm.hw_targets.chip import PJ, Chip, Mesh
from pascal_nm.hw_targets.splitting import Splitter
from pascal_nm.network.graph import Population
from pascal_nm.simulation import schedule
from pascal_nm.simulation.events import synapses

OBJECTIVES = ("time", "energy", "cores")
"""The least time or energy of an image, or the fewest cores."""

TRAVEL = ("message", "hop_x", "hop_y")
"""Events whose number depends on the placement."""

_MOST_CORES = 1 << 12
"""Cores that a network takes at most where it could do with fewer: what each sends to each has to
be known."""

Cut = dict[str, Blocks]
"""The blocks of every population."""


def check(objective: str) -> None:
    """Refuse what is no objective.

    Raises:
        TargetError: it is none.
    """
    if objective not in OBJECTIVES:
        raise TargetError(f"unknown objective {objective!r}: choose from {', '.join(OBJECTIVES)}")


def has_figures(chip: Chip, objective: str) -> bool:
    """Whether a chip's file says what an objective needs; else every placement is as good."""
    return {"time": bool(chip.latency), "energy": any(e in chip.energy for e in TRAVEL)}.get(objective, True)


def faster(splitter: Splitter, blocks: Cut, estimate: Estimate) -> Cut:
    """Blocks that take less time than those on the fewest cores, on what these leave free.

    Split the population that binds, again and again, until none can be split; the fastest cut.

    Where several bind together, nothing is gained before the last of them is split.
    """
    most = _most(blocks, estimate.mesh)
    best, least = blocks, estimate.seconds(blocks)
    final: set[str] = set()
    while (name := estimate.binding(blocks, final)) is not None:
        finer = splitter.finer(name, blocks)
        if finer is None or _cores(finer) > most:
            final.add(name)
            continue
        blocks = finer
        if (seconds := estimate.seconds(blocks)) < least:
            best, least = blocks, seconds
    return best


def quieter(splitter: Splitter, blocks: Cut, estimate: Estimate) -> Cut:
    """Blocks that cause fewer messages than those on the fewest cores, on what these leave free."""
    most = _most(blocks, estimate.mesh)
    least, before = estimate.messages(blocks), None
    while before is not blocks:
        before = blocks
        for name in blocks:
            other = splitter.quieter(name, blocks, most - _cores(blocks) + blocks[name].cores)
            if other is not None and (messages := estimate.messages(other)) < least:
                blocks, least = other, messages
    return blocks


def _most(blocks: Cut, mesh: Mesh) -> int:
    """The cores of the chips that blocks need anyway."""
    fewest = _cores(blocks)
    return min(-(-fewest // mesh.cores) * mesh.cores, max(fewest, _MOST_CORES))


def _cores(blocks: Cut) -> int:
    return sum(each.cores for each in blocks.values())


class Estimate:
    """Time and energy of an image on a chip, before any run; see the module's text.

    Args:
        joins: of the network.
        chip: with its figures.
        mesh: of the chip.
    """

    def __init__(self, joins: Joins, chip: Chip, mesh: Mesh) -> None:
        self.joins, self.graph, self.chip, self.mesh = joins, joins.graph, chip, mesh
        self.plan = schedule.of(self.graph)
        self._times: dict[tuple[object, ...], Array] = {}

    def seconds(self, blocks: Cut) -> float:
        """Time of an image."""
        slowest = np.max([self._work(name, blocks) for name in blocks], axis=0)
        tiles, (x, y) = self._tiles(blocks)
        chips = -(-_cores(blocks) // self.mesh.cores)
        barrier = 0.0 if self.chip.barrier is None else self.chip.barrier.at(tiles, chips)
        way = x * self.chip.nanoseconds("hop_x") + y * self.chip.nanoseconds("hop_y")
        return 1e-9 * float(slowest.sum() + len(slowest) * (barrier + way))

    def messages(self, blocks: Cut) -> float:
        """Messages of an image, wherever the cores are."""
        return sum(
            self.spikes(q.source) * math.prod(int(axis.sum()) for axis in self.joins.reached(q, blocks))
            for q in self.graph.projections
            if q.source in blocks
        )

    def joules(self, messages: Array, hops: Array) -> float:
        """Energy of so many messages (ways,) on ways of so many hops, (ways, 2)."""
        message, *hop = (self.chip.energy[e].value if e in self.chip.energy else 0.0 for e in TRAVEL)
        return float(PJ * messages @ (message + hops @ hop))

    def spikes(self, name: str) -> float:
        """Spikes that each neuron of a population sends for an image."""
        return float(self._sent[name].sum())

    def binding(self, blocks: Cut, final: Set[str]) -> str | None:
        """The population whose slowest core others wait for the longest, but for ``final`` ones."""
        names = list(blocks)
        work = np.stack([self._work(name, blocks) for name in names])
        bound = np.where(work == work.max(0), work, 0.0).sum(1)
        bound[[name in final for name in names]] = 0.0
        return names[int(bound.argmax())] if bound.any() else None

    def _tiles(self, blocks: Cut) -> tuple[int, tuple[int, int]]:
        """Tiles in use, and the hops from one end of their rectangle to the other."""
        tiles = -(-_cores(blocks) // self.mesh.cores_per_tile)
        across = math.ceil(math.sqrt(tiles))
        return tiles, (across - 1, -(-tiles // across) - 1)

    @cached_property
    def _sent(self) -> dict[str, Array]:
        """By population, what a neuron sends in each timestep: spikes, or an input its value."""
        return {p.name: self._spikes(p) for p in self.graph.populations}

    @cached_property
    def _steps(self) -> int:
        """Timesteps of an image."""
        ends = [self.plan.windows[p.name].emit.start + self._sending(p) for p in self.graph.populations if p.steps]
        return min(self.plan.steps, max(ends) + self.plan.delay)

    def _sending(self, p: Population) -> int:
        """Timesteps in which a population sends where nothing is taken back."""
        emit = self.plan.windows[p.name].emit
        return 1 if self.plan.windows[p.name].graded else emit.steps if p.dynamics.summed else p.steps

    def _spikes(self, p: Population) -> Array:
        found = np.zeros(self._steps + self.plan.delay)
        first = self.plan.windows[p.name].emit.start
        sent = found[first : first + self._sending(p)]
        sent[:] = 1.0 if p.dynamics.valued else 0.5 ** np.arange(2, 2 + len(sent))
        return found

    def _work(self, name: str, blocks: Cut) -> Array:
        """Nanoseconds of a population's slowest core in each timestep."""
        neighbours = [q.target for q in self.graph.outgoing(name)]
        key = (name, *(blocks[each].grid for each in (name, *neighbours)))
        if key not in self._times:
            self._times[key] = self._timed(name, blocks)
        return self._times[key]

    def _timed(self, name: str, blocks: Cut) -> Array:
        ns, steps = self.chip.nanoseconds, self._steps
        neurons, window = int(blocks[name].sizes.max()), self.plan.windows[name]
        work = np.full(steps, neurons * ns("idle"))
        work[window.start : window.stop] = neurons * ns("update")
        for q in self.graph.incoming(name):
            operation = ns("synaptic_operation") + self.chip.more(synapses(q))[1]
            each = self.joins.synapses(q, blocks[name]) * operation
            if q.source in blocks:
                heard = math.prod(int(axis.sum(1).max()) for axis in self.joins.reached(q, blocks))
                each += heard * ns("message_in")
            way = self.plan.way(q)
            work[way:] += each * self._sent[q.source][: steps - way]
        out = sum(
            math.prod(int(axis.sum(0).max()) for axis in self.joins.reached(q, blocks))
            for q in self.graph.outgoing(name)
        )
        return np.asarray(work + (out * ns("message") + neurons * ns("emitted")) * self._sent[name][:steps])
