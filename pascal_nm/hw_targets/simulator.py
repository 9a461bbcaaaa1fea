"""Targets on the torch simulator: as it is, and as a chip model with bit widths."""

from __future__ import annotations

from dataclasses import dataclass

from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import fixed_point, mapping
from pascal_nm.hw_targets.chip import Chip
from pascal_nm.hw_targets.traffic import Traffic
from pascal_nm.network.graph import Graph, Inputs, Quantization
from pascal_nm.simulation import simulate
from pascal_nm.simulation.result import RunResult


@dataclass(frozen=True)
class SimulatorProgram:
    """A graph on the step-by-step engine of :mod:`pascal_nm.simulation.simulate`."""

    graph: Graph
    watcher: simulate.Watcher | None = None
    """Counts what happens on a chip's cores."""

    def run(self, inputs: Inputs) -> RunResult:
        """Run N inputs, of shape (N, *input shape)."""
        return simulate.steps(self.graph, inputs, watcher=self.watcher)


@dataclass(frozen=True)
class TorchTarget:
    """The torch simulator, every timestep; float and integer graphs."""

    name: str = "torch"

    def compile(self, graph: Graph) -> SimulatorProgram:
        """Nothing to prepare: every valid graph runs."""
        return SimulatorProgram(graph)


@dataclass(frozen=True)
class LoihiTarget:
    """A Loihi-style fixed-point chip: int8 weights, and overflow excluded by proof.

    Bit widths are those of the chip's description.

    A float graph is quantized first, such that it fits the chip's registers; the program's
    ``graph`` is the integer graph that runs.

    Attributes:
        chip: it, or its name, or a file.
        cores: also count what happens on each core, for which the network is mapped.
        bits: of the weights of a float graph.
        objective: what the placement on the cores serves, as :func:`.mapping.place` takes it.
    """

    chip: str | Chip = "loihi1"
    cores: bool = False
    bits: int = 8
    objective: str = "time"
    name: str = "loihi"

    def compile(self, graph: Graph) -> SimulatorProgram:
        """Quantize where needed and check every bit width.

        Raises:
            TargetError: a weight, bias, threshold or membrane potential could exceed
                the chip's bits.
        """
        chip = chips.load(self.chip) if isinstance(self.chip, str) else self.chip
        integer = graph if graph.is_integer else fixed_point.fit(graph, chip, Quantization(self.bits))
        fixed_point.check(integer, chip)
        return SimulatorProgram(integer, Traffic(mapping.place(integer, chip, self.objective)) if self.cores else None)
