"""Networks on the cores of a chip: which neurons are on which core, and where the core is.

Populations are split on the fewest cores (:mod:`.splitting`), then on more where that gains for
the objective (:mod:`.objectives`); the cores are put where the messages' ways are short
(:mod:`.mesh`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property, partial, reduce

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.errors import TargetError
from pascal_nm.hw_targets import objectives
from pascal_nm.hw_targets.blocks import Blocks, Joins
from pascal_nm.hw_targets.chip import Chip, Mesh
from pascal_nm.hw_targets.mesh import arranged
from pascal_nm.hw_targets.objectives import Estimate
from pascal_nm.hw_targets.splitting import Splitter, Use
from pascal_nm.network.graph import Graph

_MOST_CORES = 1 << 15
"""Cores of a network at most: what each sends to each is kept in one array. A VGG-16 on ImageNet
images takes some 15,000 of a Loihi 1."""


@dataclass(frozen=True, eq=False)
class Placement:
    """A graph on a chip's cores.

    Attributes:
        graph: the integer network.
        mesh: of the chip.
        blocks: by population, in order, without the analog input.
        use: likewise.
        places: (cores, 2) column and row of each core's tile, over all chips side by side.
        messages: (cores, cores), how many neurons of a core reach another one.
        objective: what it serves, one of :data:`.objectives.OBJECTIVES`.
    """

    graph: Graph
    mesh: Mesh
    blocks: dict[str, Blocks]
    use: dict[str, Use]
    places: Array
    messages: Array
    objective: str

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

    def same_as(self, other: Placement) -> bool:
        """Whether every neuron is in the same place."""
        grids = [(name, blocks.grid) for name, blocks in self.blocks.items()]
        return grids == [(n, b.grid) for n, b in other.blocks.items()] and np.array_equal(self.places, other.places)

    def distances(self, sources: Array, targets: Array) -> Array:
        """Hops along the mesh's columns and rows between cores, (pairs, 2)."""
        return np.asarray(np.abs(self.places[sources] - self.places[targets]))

    @property
    def mean_hops(self) -> float:
        """Hops of a message, if every neuron spiked equally often."""
        sources, targets = np.nonzero(self.messages)
        weights = self.messages[sources, targets]
        return float((self.distances(sources, targets).sum(1) * weights).sum() / max(1, weights.sum()))


def place(graph: Graph, chip: Chip, objective: str = "time") -> Placement:
    """Place an integer graph on a chip.

    Args:
        graph: the network, under its own schedule.
        chip: with cores.
        objective: one of :data:`.objectives.OBJECTIVES`. On a chip whose file lacks the figures
            that it needs, it is the fewest cores; the placement says which it was.

    Raises:
        TargetError: the chip's file describes no cores, one neuron alone exceeds a limit (the
            message names population and limit), the objective is none, or the network needs more
            than :data:`_MOST_CORES`.
    """
    objectives.check(objective)
    if chip.core is None or chip.mesh is None:
        raise TargetError(f"{chip.name} is described without cores: its file has no [core] and [mesh]")
    if not graph.is_integer:
        raise TargetError("a chip holds integers: quantize the network first (--bits 8)")
    splitter = Splitter(Joins(graph), chip.core)
    blocks = splitter.fewest()
    if (cores := sum(b.cores for b in blocks.values())) > _MOST_CORES:
        raise TargetError(f"the network needs {cores:,} cores of {chip.name}, and at most {_MOST_CORES:,} are mapped")
    if objective == "cores" or not objectives.has_figures(chip, objective):
        return _placed(splitter, blocks, chip.mesh, "cores")
    estimate = Estimate(splitter.joins, chip, chip.mesh)
    if objective == "time":
        return _placed(splitter, objectives.faster(splitter, blocks, estimate), chip.mesh, objective)
    cuts = (blocks, objectives.quieter(splitter, blocks, estimate))
    return min((_placed(splitter, cut, chip.mesh, objective) for cut in cuts), key=partial(joules, estimate))


def held(graph: Graph, chip: Chip, blocks: dict[str, Blocks], places: Array, objective: str) -> Placement:
    """The placement of a graph whose blocks stand on given tiles.

    Raises:
        TargetError: the chip's file describes no cores.
    """
    if chip.core is None or chip.mesh is None:
        raise TargetError(f"{chip.name} is described without cores: its file has no [core] and [mesh]")
    return _placed(Splitter(Joins(graph), chip.core), blocks, chip.mesh, objective, places)


def joules(estimate: Estimate, placement: Placement) -> float:
    """Energy of an image's messages on their ways, before any run."""
    blocks = placement.blocks.items()
    spikes = np.concatenate([np.full(each.cores, estimate.spikes(name)) for name, each in blocks])
    sources, targets = np.nonzero(placement.messages)
    messages = placement.messages[sources, targets] * spikes[sources]
    return estimate.joules(messages, placement.distances(sources, targets))


def _placed(
    splitter: Splitter, blocks: dict[str, Blocks], mesh: Mesh, objective: str, places: Array | None = None
) -> Placement:
    use = {name: splitter.use(name, blocks) for name in blocks}
    messages = _messages(splitter.joins, blocks)
    places = arranged(messages, mesh) if places is None else places
    return Placement(splitter.graph, mesh, blocks, use, places, messages, objective)


def _messages(joins: Joins, blocks: dict[str, Blocks]) -> Array:
    """(source cores, target cores): neurons that reach, over all projections."""
    starts = _first(blocks)
    total = sum(b.cores for b in blocks.values())
    result = np.zeros((total, total), np.float32)
    for q in joins.graph.projections:
        if q.source in blocks:
            count = reduce(np.kron, joins.reached(q, blocks))
            rows, columns = starts[q.source], starts[q.target]
            result[rows : rows + count.shape[1], columns : columns + count.shape[0]] += count.T
    return result


def _first(blocks: dict[str, Blocks]) -> dict[str, int]:
    """The first core of each population."""
    return dict(zip(blocks, [0, *itertools.accumulate(b.cores for b in blocks.values())], strict=False))
