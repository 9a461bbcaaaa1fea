"""One image, spike by spike: what a few neurons of each layer do in every timestep.

The trains come from a run of the simulator; the neurons are stepped through them once more by
:mod:`pascal_nm.neuron`, which gives the potentials that the simulator does not keep.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pascal_nm import neuron
from pascal_nm.common.arrays import Array
from pascal_nm.network.graph import Graph, Population
from pascal_nm.neuron import LISTENING, SENDING, State
from pascal_nm.simulation import simulate
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

    def sent(self, name: str, neurons: Array, steps: int) -> Array:
        """What these neurons (flat indices) sent in each timestep.

        Values are -1, 0, 1 of shape (steps, neurons).
        """
        found = np.zeros((steps, len(neurons)), np.int8)
        train = self.trains[name].flatten(1)[:, neurons].numpy()[: max(0, steps - self.first[name])]
        found[self.first[name] : self.first[name] + len(train)] = train
        return found


def record(graph: Graph, inputs: Array) -> tuple[RunResult, Recording]:
    """Run one preprocessed input (1, *input shape) and keep every spike."""
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
    arrivals = {q.source: _arriving(graph, recording, q.source, name, neurons) for q in graph.incoming(name)}
    theta, bias = _of(p, p.threshold, neurons, arrivals), _of(p, p.bias, neurons, arrivals)
    unit = torch.from_numpy(
        _flat(p, p.threshold, neurons)
    ).double()  # of a readout, it is no integer even among integers
    shift = neuron.initial_potential(theta)
    zeros = torch.zeros_like(theta)
    at_once = p.kind == "readout"  # it has its bias from the start, and no shift
    state = State(bias if at_once else shift if window.shift is None else zeros, zeros)
    rows: list[tuple[Any, ...]] = []
    for t in range(steps):
        span, spikes, counter = window.at(t), None, state.s
        if span is not None:
            parts = [frames[t - start] for start, frames in _heard(plan, arrivals, t)]
            if not at_once and window.bias.start <= t < window.bias.stop:
                parts.append(neuron.bias_share(bias, t - window.bias.start, window.bias.steps))
            if t == window.shift:
                parts.append(shift)
            current = sum(parts[1:], parts[0]) if parts else zeros
            heard = current if span.stage in LISTENING else None
            spikes, state = neuron.step(span.stage, state, heard, theta, p.levels)
        inside = zeros if spikes is None or (span and span.stage in SENDING) else state.s - counter
        rows.append((state.v.double() / unit, state.s, inside))
    potential, counter, inside = (np.stack([row[i].numpy() for row in rows]) for i in range(3))
    return Trace(potential, counter.astype(int), inside.astype(int))


def _arriving(graph: Graph, recording: Recording, source: str, target: str, neurons: Array) -> tuple[int, Tensor]:
    """When one source's currents begin to arrive, but for the way; and these currents.

    They are (steps, neurons).
    """
    (q,) = (q for q in graph.incoming(target) if q.source == source)
    frames = simulate.spike_synapse(q, graph)(recording.trains[source])
    return recording.first[source], frames.flatten(1)[:, neurons]


def _heard(plan: Schedule, arrivals: dict[str, tuple[int, Tensor]], t: int) -> list[tuple[int, Tensor]]:
    """The sources of which something arrives in timestep ``t``."""
    begun = [(first + plan.delay, frames) for first, frames in arrivals.values()]
    return [(start, frames) for start, frames in begun if 0 <= t - start < len(frames)]


def _of(p: Population, values: Array, neurons: Array, arrivals: dict[str, tuple[int, Tensor]]) -> Tensor:
    """A population's constants for these neurons, in the type of its currents."""
    return torch.from_numpy(_flat(p, values, neurons)).to(next(iter(arrivals.values()))[1].dtype)


def _flat(p: Population, values: Array, neurons: Array) -> Array:
    return np.ascontiguousarray(np.broadcast_to(values, p.shape).reshape(-1)[neurons])
