"""One image, spike by spike: what a few neurons of each layer do in every timestep.

The trains come from a run of the simulator; the neurons are stepped through them once more by
:mod:`pascal_nm.simulation.clock`, which gives the potentials that the simulator does not keep.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pascal_nm.common.arrays import Array
from pascal_nm.network.graph import Graph, Inputs, Population, Projection
from pascal_nm.neuron import SENDING, State
from pascal_nm.simulation import simulate
from pascal_nm.simulation.clock import Clock
from pascal_nm.simulation.result import RunResult
from pascal_nm.simulation.schedule import Schedule


@dataclass
class Recording:
    """Spike trains of one image, by population: (steps, *shape) from the timestep ``first`` on."""

    trains: dict[str, Tensor] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)

    def start(self, images: int, plan: Schedule) -> Recording:
        """See :class:`pascal_nm.simulation.simulate.Watcher`."""
        return self

    def see(self, name: str, train: Tensor, first: int) -> None:
        """Keep the spikes (steps, 1, *shape) of a population."""
        self.trains[name], self.first[name] = train[:, 0].clone(), first

    def events(self) -> None:
        """It knows of no cores."""

    def sent(self, name: str, neurons: Array, steps: int, dtype: npt.DTypeLike = np.int16) -> Array:
        """What these neurons (flat indices) sent in each timestep.

        Values are -1, 0, 1, or the number of a graded spike, of shape (steps, neurons).
        """
        found = np.zeros((steps, len(neurons)), dtype)
        train = self.trains[name].flatten(1)[:, neurons].numpy()[: max(0, steps - self.first[name])]
        found[self.first[name] : self.first[name] + len(train)] = train
        return found


def record(graph: Graph, inputs: Inputs) -> tuple[RunResult, Recording]:
    """Run one input (1, *input shape) and keep every spike."""
    recording = Recording()
    return simulate.steps(graph, inputs, watcher=recording), recording


@dataclass(frozen=True, eq=False)
class Trace:
    """Some neurons of a population after each timestep, (steps, neurons) each.

    Attributes:
        potential: membrane potential, in thresholds (of a readout: the logit).
        counter: spike counter.
        inside: spikes that moved the counter and did not leave the neuron: -1, 0, 1.
    """

    potential: Array
    counter: Array
    inside: Array


def trace(graph: Graph, result: RunResult, recording: Recording, name: str, neurons: Array) -> Trace:
    """Step neurons of a ``pasc`` or ``readout`` population through the run that was recorded.

    They are given by flat indices.
    """
    p, plan, steps = graph[name], result.schedule, int(result.timesteps[0])
    window = plan.windows[name]
    arrivals = [_arriving(graph, plan, recording, q, neurons) for q in graph.incoming(name)]
    dtype = arrivals[0][1].dtype
    theta, bias = (torch.from_numpy(_flat(p, values, neurons)).to(dtype) for values in (p.threshold, p.bias))
    unit = torch.from_numpy(
        _flat(p, p.threshold, neurons)
    ).double()  # of a readout, it is no integer even among integers
    clock = Clock(p.dynamics, window, theta, bias, p.levels)
    zeros = torch.zeros_like(theta)
    state = State(zeros + clock.rest(), zeros)
    rows: list[tuple[Any, ...]] = []
    for t in range(steps):
        span, spikes, counter = window.at(t), None, state.s
        if span is not None:
            spikes, state = clock.step(t, state, list(_heard(arrivals, t)))
        inside = zeros if spikes is None or (span and span.stage in SENDING) else state.s - counter
        rows.append((state.v.double() / unit, state.s, inside))
    potential, counter, inside = (np.stack([row[i].numpy() for row in rows]) for i in range(3))
    return Trace(potential, counter.astype(int), inside.astype(int))


def _arriving(graph: Graph, plan: Schedule, recording: Recording, q: Projection, neurons: Array) -> tuple[int, Tensor]:
    """When a projection's currents begin to arrive; and these currents.

    They are (steps, neurons).
    """
    frames = simulate.spike_synapse(q, graph, plan)(recording.trains[q.source])
    return plan.arrival(q), frames.flatten(1)[:, neurons]


def _heard(arrivals: list[tuple[int, Tensor]], t: int) -> Iterator[Tensor]:
    """What arrives in timestep ``t``."""
    for first, frames in arrivals:
        if 0 <= t - first < len(frames):
            yield frames[t - first]


def _flat(p: Population, values: Array, neurons: Array) -> Array:
    return np.ascontiguousarray(np.broadcast_to(values, p.shape).reshape(-1)[neurons])
