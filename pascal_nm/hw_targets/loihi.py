"""The target that executes a chip program: registers, cores and routes, and nothing else.

Registers are decoded from their fields, neurons exist where a core holds them, and a spike reaches
the synapses of those cores to which a route leads from its own. The arithmetic is that of
:mod:`pascal_nm.simulation.simulate`; cores whose routes bring all that reaches them are computed
together.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pascal_nm.common.arrays import Array
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import fixed_point
from pascal_nm.hw_targets.chip import Chip
from pascal_nm.hw_targets.mapping import Placement
from pascal_nm.hw_targets.program import HOST, ChipProgram, lower
from pascal_nm.hw_targets.traffic import Traffic
from pascal_nm.network.graph import Graph, Inputs, Population, Projection, Quantization
from pascal_nm.simulation import simulate
from pascal_nm.simulation.result import RunResult
from pascal_nm.simulation.session import Session
from pascal_nm.simulation.simulate import Synapse


@dataclass(frozen=True, eq=False)
class Execution:
    """A chip program that runs.

    Attributes:
        program: it.
        chip: where what happens on each core is counted; None where it is not.
    """

    program: ChipProgram
    chip: Chip | None = None

    @property
    def graph(self) -> Graph:
        """The network that is in the registers."""
        return self.program.graph

    @cached_property
    def placement(self) -> Placement | None:
        """Where the neurons are; None without a chip."""
        return None if self.chip is None else self.program.placement(self.chip)

    @cached_property
    def watcher(self) -> Traffic | None:
        """Counts what happens on the cores."""
        return None if self.placement is None else Traffic(self.placement, self.program.routes)

    @cached_property
    def _ways(self) -> dict[str, _Way]:
        return {q.name: _Way(self.program, q) for q in self.graph.projections}

    def run(self, inputs: Inputs) -> RunResult:
        """Run N inputs, of shape (N, *input shape)."""
        return simulate.steps(self.graph, inputs, self.program.schedule, self.watcher, self._delivered)

    def session(self, threshold: float = 0.0) -> Session:
        """Runs frames one after the other; registers and routes are the program's, state stays.

        Args:
            threshold: as :class:`pascal_nm.simulation.session.Session` takes it.

        Raises:
            TargetError: as :meth:`check_frames`.
        """
        self.check_frames()
        return Session(
            self.graph, self.program.schedule, threshold=threshold, watcher=self.watcher, delivered=self._delivered
        )

    def check_frames(self) -> None:
        """Refuse frames where state is kept and registers are proven for images alone.

        Raises:
            TargetError: a membrane potential could exceed the chip's bits.
        """
        for p in self.program.populations if self.program.schedule.keeps(self.graph) else ():
            if self.graph[p.name].dynamics.weighted:
                fixed_point.require_kept(p.name, self.program.membrane(p, kept=True), self.program.widths)

    def _delivered(self, projection: Projection, spikes: Tensor, synapse: Synapse) -> Tensor:
        return self._ways[projection.name].delivered(spikes, synapse)


class _Way:
    """The routes of one projection.

    Cores that get the same are one group: their blocks of the target, and which spikes of the
    source come to them (a mask of its shape; None: all that reach them).
    """

    def __init__(self, program: ChipProgram, projection: Projection) -> None:
        source, target = (program.graph[name] for name in (projection.source, projection.target))
        own, others = (program.numbers[p.name] for p in (source, target))
        sent, came = program.routes[projection.name].T
        routed = np.zeros((len(others), len(own)), bool)
        routed[np.searchsorted(others, came), np.searchsorted(own, sent)] = True
        whole = (program.reached(projection) * routed).sum(1) == program.reaching(projection)
        self.everywhere = bool(whole.all() and program.held[target.name].all())
        blocks: dict[bytes, list[tuple[slice, ...]]] = defaultdict(list)
        masks: dict[bytes, Tensor | None] = {}
        for i, core in enumerate(others):
            key = b"" if whole[i] else routed[i].tobytes()
            blocks[key].append((slice(None), *program.cores[core].block[: len(target.shape)]))
            if key not in masks:
                masks[key] = None if whole[i] else _mask(program, source, np.asarray(own)[routed[i]])
        self.groups = [(masks[key], each) for key, each in blocks.items()]

    def delivered(self, spikes: Tensor, synapse: Synapse) -> Tensor:
        """The currents (B, *target shape) that spikes (B, *source shape) cause."""
        if self.everywhere:
            return synapse(spikes)
        found = torch.zeros_like(synapse(spikes))
        for mask, blocks in self.groups:
            currents = synapse(spikes if mask is None else spikes * mask.to(spikes.dtype))
            for block in blocks:
                found[block] = currents[block]
        return found


def _mask(program: ChipProgram, population: Population, cores: Array) -> Tensor:
    """1 where one of the cores holds a neuron, else 0."""
    found = torch.zeros(population.shape)
    for core in cores:
        found[... if core == HOST else program.cores[core].block[: found.ndim]] = 1
    return found


@dataclass(frozen=True)
class LoihiTarget:
    """A Loihi-style fixed-point chip: int8 weights, and overflow excluded by proof.

    Bit widths, registers and cores are those of the chip's description. A float graph is quantized
    first, such that it fits; the program's ``graph`` is the integer graph that is in the registers.

    Attributes:
        chip: it, or its name, or a file.
        cores: also count what happens on each core.
        bits: of the weights of a float graph.
        objective: what the placement on the cores serves, as :func:`.mapping.place` takes it.
        frames: whether registers have room for frames whose state is kept.
    """

    chip: str | Chip = "loihi1"
    cores: bool = False
    bits: int = 8
    objective: str = "time"
    frames: bool = False
    name: str = "loihi"

    def compile(self, graph: Graph) -> Execution:
        """The chip program of a graph, made ready to run.

        Raises:
            TargetError: a weight, bias, threshold or membrane potential could exceed the chip's
                bits, or a population its cores.
        """
        chip = chips.load(self.chip) if isinstance(self.chip, str) else self.chip
        return Execution(
            lower(graph, chip, Quantization(self.bits), self.objective, frames=self.frames),
            chip if self.cores else None,
        )
