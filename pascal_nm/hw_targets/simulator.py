"""The target that is the torch simulator."""

from __future__ import annotations

from dataclasses import dataclass

from pascal_nm.network.graph import Graph, Inputs
from pascal_nm.simulation import simulate
from pascal_nm.simulation.result import RunResult
from pascal_nm.simulation.session import Session


@dataclass(frozen=True)
class SimulatorProgram:
    """A graph on the step-by-step engine of :mod:`pascal_nm.simulation.simulate`."""

    graph: Graph
    watcher: simulate.Watcher | None = None
    """Counts what happens on a chip's cores."""

    def run(self, inputs: Inputs) -> RunResult:
        """Run N inputs, of shape (N, *input shape)."""
        return simulate.steps(self.graph, inputs, watcher=self.watcher)

    def session(self, threshold: float = 0.0) -> Session:
        """Runs frames one after the other, whose state stays.

        Args:
            threshold: as :class:`pascal_nm.simulation.session.Session` takes it.
        """
        return Session(self.graph, threshold=threshold, watcher=self.watcher)


@dataclass(frozen=True)
class TorchTarget:
    """The torch simulator, every timestep; float and integer graphs."""

    name: str = "torch"

    def compile(self, graph: Graph) -> SimulatorProgram:
        """Nothing to prepare: every valid graph runs."""
        return SimulatorProgram(graph)
