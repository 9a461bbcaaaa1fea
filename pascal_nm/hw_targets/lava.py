"""The Lava target: a graph as a network of Lava Processes, run in Lava's own runtime.

Lava itself is imported when a graph is compiled, not before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pascal_nm import bounds, schedule
from pascal_nm.errors import TargetError
from pascal_nm.graph import Array, Graph
from pascal_nm.result import RunResult

MEMORY = 2**30
"""Bytes that the frames in flight of one batch may take, unless the caller sets the batch size."""


@dataclass
class LavaTarget:
    """Runs float graphs in Lava's floating-point and integer graphs in its fixed-point ProcessModels.

    Attributes:
        batch_size: inputs that travel together through every port; None chooses by memory.
        pipelined: let a batch start when the first population is free (the schedule's initiation interval), not when the
            batch before it has left the network. The results are the same.
    """

    batch_size: int | None = None
    pipelined: bool = True
    name: str = "lava"

    def compile(self, graph: Graph) -> LavaProgram:
        """Check that Lava is there and that the graph fits.

        Raises:
            TargetError: Lava is not installed; a membrane potential can exceed 32 bits; the batch size is below 1.
        """
        # Fails here, with advice, where Lava is missing.
        from pascal_nm.process_models import compat  # noqa: F401

        if self.batch_size is not None and self.batch_size < 1:
            raise TargetError(f"the batch size must be at least 1, not {self.batch_size}")
        if graph.is_integer:
            streams = schedule.of(graph).streams
            for p in graph.populations:
                if (
                    p.kind in ("pasc", "readout")
                    and (bound := bounds.potential_bound(graph, p.name, streams=streams)) >= 2**31
                ):
                    raise TargetError(
                        f"the membrane potential of {p.name} can reach {bound:.3g}, beyond 32 bits: quantize to fewer bits"
                    )
        return LavaProgram(graph, self.batch_size or batch_size_for(graph), self.pipelined)


def batch_size_for(graph: Graph) -> int:
    """The largest batch whose frames in flight stay below :data:`MEMORY`."""
    neurons = sum(p.size for p in graph.populations)
    bytes_per_neuron = 64  # two channels of two frames each, copies at both ends, v, s and their successors
    return max(1, MEMORY // (neurons * bytes_per_neuron))


@dataclass
class LavaProgram:
    """A graph ready to run in Lava. Every run starts its own processes and ends them.

    Attributes:
        graph: the network.
        batch_size: the most inputs that travel together.
        pipelined: see :class:`LavaTarget`.
    """

    graph: Graph
    batch_size: int
    pipelined: bool = True

    def run(self, inputs: Array) -> RunResult:
        """Run N preprocessed inputs of shape (N, *input shape).

        Raises:
            DataError: inputs of another shape or range than the network's.
            TargetError: a child process failed; the cause holds its traceback.
        """
        from pascal_nm.process_models.compat import registries_restored
        from pascal_nm.process_models.memory import channels_last
        from pascal_nm.process_models.network import Network
        from pascal_nm.process_models.runtime import Session

        currents = self.graph.currents(inputs)
        count = len(currents)
        batches = max(1, math.ceil(count / self.batch_size))
        batch = max(1, math.ceil(count / batches))
        padded = channels_last((batches * batch, *currents.shape[1:]), currents.dtype)
        padded[:count] = currents
        tag = "fixed_pt" if self.graph.is_integer else "floating_pt"
        with registries_restored():
            network = Network(self.graph, padded.reshape(batches, batch, *currents.shape[1:]), self.pipelined)
            with Session(network.entry, tag=tag) as session:
                network.run(session.run)
        return network.result(count)
