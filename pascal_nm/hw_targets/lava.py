"""The Lava target: a graph as a network of Lava Processes, run in Lava's own runtime.

Lava itself is imported when a graph is compiled, not before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.common.memory import available_memory
from pascal_nm.errors import TargetError
from pascal_nm.network import bounds
from pascal_nm.network.graph import Graph, Inputs
from pascal_nm.simulation import schedule, simulate
from pascal_nm.simulation.result import RunResult
from pascal_nm.simulation.schedule import Schedule
from pascal_nm.simulation.session import FrameRunner

_MEMORY = 2**28
"""Bytes that the frames in flight of one batch may take, unless the caller sets the batch size or
the machine has less."""

_CHILD = 12 * 2**20
"""Bytes that a child process takes for itself: measured, with what it changes of the pages that it
shares with its parent."""


@dataclass
class LavaTarget:
    """Runs float graphs in Lava's floating-point, integer graphs in its fixed-point ProcessModels.

    Attributes:
        batch_size: inputs that travel together through every port; None chooses by memory.
        pipelined: let a batch start when the first population is free (the schedule's initiation
            interval), not when the batch before it has left the network. The results are the same.
        memory: bytes that a run may take; None: what the machine has available when the run starts.
    """

    batch_size: int | None = None
    pipelined: bool = True
    memory: int | None = None
    name: str = "lava"

    def compile(self, graph: Graph) -> LavaProgram:
        """Check that Lava is there and that the graph fits.

        Raises:
            TargetError: Lava is not installed; a membrane potential can exceed 32 bits, or the
                number that a spike carries 8; the batch size is below 1.
        """
        # Fails here, with advice, where Lava is missing.
        from pascal_nm.process_models import compat  # noqa: F401

        if self.batch_size is not None and self.batch_size < 1:
            raise TargetError(f"the batch size must be at least 1, not {self.batch_size}")
        plan = schedule.of(graph)
        for p in graph.counted:
            if (largest := plan.largest(graph, p.name)) > (most := np.iinfo(np.int8).max):
                raise TargetError(
                    f"spikes of {p.name} carry numbers up to {largest}, beyond the {most} of 8 bits: "
                    "take fewer levels, or a schedule without numbers"
                )
        if graph.is_integer:
            _check_potentials(graph, kept=False)
        return LavaProgram(graph, self.batch_size or self._batch_size_for(graph), self.pipelined, self.memory)

    def _batch_size_for(self, graph: Graph) -> int:
        """The largest batch whose frames in flight stay below :data:`_MEMORY`.

        They also take no more than half of what memory there is.
        """
        limit = available_memory() if self.memory is None else self.memory
        budget = _MEMORY if limit is None else min(_MEMORY, limit // 2)
        return max(1, budget // bytes_per_image(graph))


def _check_potentials(graph: Graph, *, kept: bool) -> None:
    for p in graph.weighted:
        if (bound := bounds.potential_bound(graph, p.name, kept=kept)) >= 2**31:
            frames = "from frame to frame " if kept else ""
            sums = any(graph[q.source].dynamics.summed for q in graph.incoming(p.name))
            advice = ", or compose the linear populations before it" if sums else ""
            raise TargetError(
                f"{frames}the {'sums' if p.dynamics.adds else 'membrane potential'} of {p.name} can reach {bound:.3g}, "
                f"beyond 32 bits: quantize to fewer bits{advice}"
            )


def bytes_per_image(graph: Graph) -> int:
    """Bytes that the frames in flight of one image take.

    Counted are channels, copies at both ends, and the state of neurons.
    """
    real = 4 if graph.is_integer else 8  # Lava's channels carry floats as float64
    total, plan = 0, schedule.of(graph)
    for p in graph.populations:
        spike = real if p.dynamics.valued else 1
        # Two frames in each channel (of analog currents, or of spikes, int8), and the spikes in
        # the type of the weights for each synapse that reads them.
        total += p.size * len(graph.outgoing(p.name)) * (2 * spike + real)
        # v, s and spikes, and two frames of currents in the channel of each projection, one at its
        # synapse before, one after; further ones where synapses delay them.
        waiting = sum(plan.delays.get(q.name, 0) for q in graph.incoming(p.name))
        total += p.size * (2 * real + 4) + p.size * (4 * len(graph.incoming(p.name)) + waiting) * real
    return total


def estimate(graph: Graph, images: int, batch_size: int) -> int:
    """Bytes that running so many ``images`` takes at most, beyond what the program takes."""
    batches, batch = divide(images, batch_size)
    children = len(graph.populations) + len(graph.projections) + 1
    real = 4 if graph.is_integer else 8
    # Each synapse has its weights in a float type, once as they are and once in the order of its
    # convolution, and bounds its sums in float64 before.
    weights = sum(2 * (real + 8) * q.operator.weight.size for q in graph.projections)
    plan = schedule.of(graph)
    spiking = list(graph.senders)
    counts = sum(p.size * (2 if p.dynamics.counted else real) for p in spiking)
    counts += sum(p.size for p in spiking) * (4 if simulate.counts_apart(graph, plan) else 0)
    # Inputs once as they come and once in batches; the readout's potential over time once as the
    # children write it and once in one piece.
    kept = counts + 2 * real * graph.input.size + 3 * real * plan.steps * sum(p.size for p in graph.outputs)
    return children * _CHILD + weights + batch * bytes_per_image(graph) + batches * batch * kept


def divide(images: int, batch_size: int) -> tuple[int, int]:
    """(batches, images of each): equal batches of at most ``batch_size``."""
    batches = max(1, math.ceil(images / batch_size))
    return batches, max(1, math.ceil(images / batches))


@dataclass
class LavaProgram:
    """A graph ready to run in Lava. Every run starts its own processes and ends them.

    Attributes:
        graph: the network.
        batch_size: the most inputs that travel together.
        pipelined: see :class:`LavaTarget`.
        memory: see :class:`LavaTarget`.
    """

    graph: Graph
    batch_size: int
    pipelined: bool = True
    memory: int | None = None

    def run(self, inputs: Inputs) -> RunResult:
        """Run N inputs, of shape (N, *input shape).

        Raises:
            DataError: inputs of another shape or range than the network's.
            TargetError: the run would need more memory than there is; a child process failed: the
                cause holds its traceback.
        """
        return self._run(self.graph.currents(inputs), schedule.of(self.graph))

    def session(self, threshold: float = 0) -> LavaSession:
        """Runs frames one after the other; arguments as of :class:`LavaSession`."""
        return LavaSession(self, threshold)

    def _run(self, currents: Array, plan: Schedule, known: int = 0) -> RunResult:
        """Run currents (N, *input shape); the first ``known`` of them are not in the result.

        Where the schedule keeps state, they are the changes from frame to frame.
        """
        from pascal_nm.process_models.compat import forget, making
        from pascal_nm.process_models.memory import channels_last
        from pascal_nm.process_models.network import Network
        from pascal_nm.process_models.runtime import Session

        count, size = len(currents), 1 if plan.kept else self.batch_size
        self._check_memory(count, size)
        batches, batch = divide(count, size)
        padded = channels_last((batches * batch, *currents.shape[1:]), currents.dtype)
        padded[:count] = currents
        tag = "fixed_pt" if self.graph.is_integer else "floating_pt"
        with making():
            network = Network(self.graph, padded.reshape(batches, batch, *currents.shape[1:]), plan, self.pipelined)
        try:
            with Session(network.entry, tag=tag) as session:
                network.run(session.run)
        finally:
            forget(network.processes)
        return network.result(slice(known, count))

    def _check_memory(self, images: int, batch_size: int) -> None:
        limit = available_memory() if self.memory is None else self.memory
        needed = estimate(self.graph, images, batch_size)
        if limit is not None and needed > limit:
            raise TargetError(
                f"{images} images in batches of {divide(images, batch_size)[1]} need about {needed / 1e9:.3g} GB "
                f"in Lava, {limit / 1e9:.3g} GB are free: run fewer images at a time, or smaller batches (batch_size)"
            )


class LavaSession(FrameRunner):
    """Runs frames one after the other in Lava; the state stays from one to the next.

    Each call of :meth:`run` starts its own processes and ends them. Inside a call the neurons keep
    their state; between calls none is carried over: the frame that was shown last is shown again
    from rest, which leaves the same state (Theorem 5 in docs/schedules.md), at the cost of one
    frame. So give many frames to a call: processes take longer to start than frames to run.

    In integers every frame is exact. In floats the changes add up with rounding, unlike in the
    simulator's session, which computes potentials anew for each frame; what has added up ends with
    the call.

    A schedule that keeps no state (``pasc``, or one that is stopped) runs each frame from rest.

    Args:
        program: of the network.
        threshold: as of :class:`pascal_nm.simulation.session.Session`.

    Raises:
        DataError, GraphError: as :class:`pascal_nm.simulation.session.FrameRunner`.
        TargetError: a kept membrane potential can exceed 32 bits.
    """

    def __init__(self, program: LavaProgram, threshold: float = 0) -> None:
        graph = program.graph
        super().__init__(graph, schedule.of(graph), threshold)
        if graph.is_integer and self.schedule.kept:
            _check_potentials(graph, kept=True)
        self._program = program
        self._last: Array | None = None

    def reset(self) -> None:
        """Forget all frames: the next one is the first."""
        super().reset()
        self._last = None

    def _run(self, currents: Array) -> RunResult:
        if not self.schedule.kept:
            return self._program._run(currents, self.schedule)
        known = np.zeros_like(currents[:0]) if self._last is None else self._last
        shown = np.concatenate([known, currents])
        changes = np.diff(shown, axis=0, prepend=np.zeros_like(currents[:1]))
        result = self._program._run(changes, self.schedule, len(known))
        self._last = shown[-1:]
        return result
