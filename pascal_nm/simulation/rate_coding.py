r"""Rate coding, the approximation that PASCAL is compared with.

Neurons are plain, and the mean over T timesteps is taken (Sections 1 and 4.4 of the paper).

Each neuron of the network is replaced by a plain integrate-and-fire neuron with soft reset. One
spike of it stands for ``spike`` levels, and its threshold is that many times the potential of one
level. In every timestep the same input is shown, and every layer passes its spikes on:

.. math::
    v(t) = v(t - 1) + z(t), \qquad s(t) = [v(t) \ge A \theta], \qquad
    v(t) \leftarrow v(t) - A \theta \, s(t)

with :math:`z(t) = \sum_p W_p * A_p s_p(t) + b`. The rate of a neuron is the mean of s over the
timesteps, its activation A times that, and the answer the mean of the readout's currents. Two
conversions of a network differ in A and in :math:`v(0)`:

- :func:`qcfs` (Bu et al., https://arxiv.org/abs/2303.04347): A = L, and
  :math:`v(0) = A \theta / 2`, which makes the error zero in expectation;
- :func:`relu` (Diehl et al., https://doi.org/10.1109/IJCNN.2015.7280696; Rueckauer et al.,
  https://doi.org/10.3389/fnins.2017.00682): the weights with ReLU in place of QCFS, A the 99.9th
  percentile of the activations on calibration images, and v(0) = 0.

Neither is exact at any T: what is left in a potential at the end, and spikes that came too early or
too late, are lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pascal_nm.common import memory
from pascal_nm.common.arrays import Array
from pascal_nm.errors import DataError
from pascal_nm.network.graph import Graph, Inputs
from pascal_nm.simulation import events, simulate

PERCENTILE = 99.9
"""Of the activations of a ReLU network: what a spike stands for, as in Rueckauer et al. and in
SpikingJelly's ``ann2snn``."""


@dataclass(frozen=True)
class Conversion:
    """A network as a rate-coded one.

    Attributes:
        graph: the network, in floats.
        spike: A by population of kind ``pasc``: the levels that one spike stands for.
        start: the potential before the first timestep, as a share of the threshold.
    """

    graph: Graph
    spike: Mapping[str, float]
    start: float

    @cached_property
    def carried(self) -> Mapping[str, float]:
        """The levels that a spike of each population carries; of a max population, its source's.

        A linear one sends sums of them.
        """
        spike = dict(self.spike)
        for p in self.graph.senders:
            if p.dynamics.relays:
                spike[p.name] = spike[self.graph.incoming(p.name)[0].source]
            elif p.dynamics.adds:
                spike[p.name] = 1.0
        return spike

    @cached_property
    def costs(self) -> Mapping[str, _Costs]:
        """What spikes of each population are counted by."""
        return {name: _Costs(self.graph, name) for name in self.carried}


@dataclass(frozen=True, eq=False)
class RateRun:
    """What N images did in T timesteps; entry t - 1 of the last axis is after t of them.

    Attributes:
        answers: the class of the largest mean output so far, int64 of shape (N, T).
        confidence: its probability, the softmax of the mean output, float32 of shape (N, T).
        spikes: sent so far, int64 of shape (N, T).
        operations: synaptic operations so far, each spike times its fan-out, int64 of shape (N, T).
    """

    answers: Array
    confidence: Array
    spikes: Array
    operations: Array

    def exits(self, confidence: float) -> Array:
        """Timesteps after which each image is stopped, (N,): the rule of SEENN-1.

        The rule is of Li et al., https://openreview.net/forum?id=mbaNOYQTw.

        That is when the probability of the answer first reaches ``confidence``, and T
        where it never does.
        """
        reached = self.confidence >= confidence
        reached[:, -1] = True
        return np.asarray(reached.argmax(1) + 1)

    def after(self, timesteps: Array) -> RateRun:
        """The same, N images after so many timesteps each, (N,).

        Its T is 1, and its numbers are those of that timestep.
        """
        index = np.asarray(timesteps)[:, None] - 1
        return RateRun(*(np.take_along_axis(getattr(self, f.name), index, 1) for f in fields(self)))

    @staticmethod
    def join(parts: Sequence[RateRun]) -> RateRun:
        """The runs of consecutive images as one."""
        return RateRun(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(RateRun)))


def qcfs(graph: Graph) -> Conversion:
    """The conversion of Bu et al., whose potentials start at half a threshold.

    A spike stands for all L levels.
    """
    return Conversion(_floats(graph), {p.name: float(p.levels) for p in graph.spiking}, 0.5)


def relu(graph: Graph, calibration: Inputs, percentile: float = PERCENTILE) -> Conversion:
    """The conversion of a ReLU network, whose potentials start at 0.

    A spike stands for a percentile of a population's activations.

    Args:
        graph: a network, whose weights are used with ReLU in place of QCFS.
        calibration: images, (N, *input shape).
        percentile: of all activations of a population; the largest where it is 0.

    Raises:
        DataError: no images, or a percentile that is none.
    """
    if not len(calibration) or not 0 < percentile <= 100:
        raise DataError(
            f"a ReLU conversion needs images and a percentile up to 100, not {percentile} of {len(calibration)}"
        )
    graph = _floats(graph)
    values = _activations(graph, calibration)
    found = {p.name: (float(np.percentile(values[p.name], percentile)), values[p.name]) for p in graph.spiking}
    return Conversion(graph, {name: level or float(value.max()) or 1.0 for name, (level, value) in found.items()}, 0.0)


def relu_logits(graph: Graph, inputs: Inputs) -> Array:
    """Outputs of the network with ReLU in place of QCFS, (N, classes).

    What :func:`relu` approaches as T grows.
    """
    return np.asarray(_activations(graph, inputs, keep=False)[graph.output.name])


def depth(graph: Graph) -> int:
    """Timesteps of a spike from the input to the readout, on the longest path.

    They are one for each projection.
    """
    steps = {graph.input.name: 0}
    for p in graph.populations:
        if not p.dynamics.injects:
            steps[p.name] = 1 + max(steps[q.source] for q in graph.incoming(p.name))
    return steps[graph.output.name]


def run(made: Conversion, inputs: Inputs, timesteps: int) -> RateRun:
    """Show N images (N, *input shape) for so many timesteps.

    Raises:
        DataError: no timestep.
    """
    if timesteps < 1:
        raise DataError(f"rate coding needs at least one timestep, not {timesteps}")
    graph = made.graph
    size = memory.images_together(max(p.size for p in graph.populations), memory.STATE)
    currents = torch.from_numpy(graph.currents(inputs))
    with torch.no_grad():
        return RateRun.join([_Batch(made, part).run(timesteps) for part in torch.split(currents, size)])


class _Batch:
    """Images and the potentials that they have led to."""

    def __init__(self, made: Conversion, currents: Tensor) -> None:
        self.graph, self.images = made.graph, len(currents)
        self.spike, self.costs = made.carried, made.costs
        self.constant = self._constant(currents.to(torch.float32))
        self.threshold = {name: _column(self.graph[name].threshold) * levels for name, levels in made.spike.items()}
        self.potential = {
            name: torch.zeros_like(self.constant[name]) + made.start * threshold
            for name, threshold in self.threshold.items()
        }

    def _constant(self, currents: Tensor) -> dict[str, Tensor]:
        """What each population gets in every timestep, whatever is sent: bias and the image.

        Of the image it gets currents.
        """
        constant = {}
        for p in self.graph.weighted:
            total = torch.zeros((self.images, *p.shape)) + _column(p.bias)
            for q in self.graph.incoming(p.name):
                if self.graph[q.source].dynamics.injects:
                    total += simulate.spike_synapse(q, self.graph)(currents)
            constant[p.name] = _channels_last(total)
        return constant

    def run(self, timesteps: int) -> RateRun:
        output = self.graph.output
        scale = _column(np.broadcast_to(output.threshold, output.shape).reshape(-1))
        total = torch.zeros((self.images, output.size))
        answers, confidence, costs = [], [], []
        for t in range(1, timesteps + 1):
            spikes, readout = self._step()
            total = total + readout
            largest = (total / t / scale).softmax(1).max(1)
            answers.append(largest.indices)
            confidence.append(largest.values)
            costs.append(torch.stack([self.costs[name](train.ne(0)) for name, train in spikes.items()]).sum(0))
        so_far = torch.stack(costs, 1).cumsum(1).numpy()
        given, sure = (torch.stack(x, 1).numpy() for x in (answers, confidence))
        return RateRun(given, sure, so_far[:, :, 0], so_far[:, :, 1])

    def _step(self) -> tuple[dict[str, Tensor], Tensor]:
        """What all populations send in the next timestep, and the readout's current.

        Spikes are 0 or 1; linear populations send sums.
        """
        spikes: dict[str, Tensor] = {}
        for p in self.graph.populations:
            if p.dynamics.injects or (p.dynamics.reads_out and p is not self.graph.output):
                continue
            if p.dynamics.relays:
                spikes[p.name] = simulate.relayed(self.graph, p, spikes)
                continue
            fires, constant = p.dynamics.fires, self.constant[p.name]
            v = self.potential[p.name].add_(constant) if fires else constant.clone()
            for q in self.graph.incoming(p.name):
                if q.source in spikes:
                    v.add_(simulate.spike_synapse(q, self.graph)(spikes[q.source]), alpha=self.spike[q.source])
            if p.dynamics.adds:
                spikes[p.name] = v
                continue
            if not fires:
                return spikes, v.flatten(1)
            fired = (v >= self.threshold[p.name]).to(v.dtype)
            v.addcmul_(fired, self.threshold[p.name], value=-1)
            spikes[p.name] = fired
        raise AssertionError("Graph refuses a network without a readout")


class _Costs:
    """How many spikes (N, *shape) one population sent, and the synaptic operations: int64 (N, 2).

    The spikes cause the operations.
    """

    def __init__(self, graph: Graph, name: str) -> None:
        shape = graph[name].shape
        driven = sum(events.fan_out(q, shape) for q in graph.outgoing(name))
        exact = torch.float32 if np.sum(driven) < 1 << 24 else torch.float64
        self.weights = _last(torch.from_numpy(np.stack([np.ones(shape, np.int64), driven])).to(exact))

    def __call__(self, spikes: Tensor) -> Tensor:
        flat = _last(spikes).to(self.weights.dtype)
        return torch.stack([flat @ weight for weight in self.weights], 1).to(torch.int64)


def _last(x: Tensor) -> Tensor:
    """A batch (N, *shape) as (N, numbers), images with their channels last.

    In that order they lie in memory.
    """
    return (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).flatten(1)


def _activations(graph: Graph, inputs: Inputs, keep: bool = True) -> dict[str, Array]:
    """Activations of the network with ReLU in place of QCFS, in levels, and its logits.

    The activations are by population of kind ``pasc``, the logits by the readout's name.
    """
    graph = _floats(graph)
    size = memory.images_together(max(p.size for p in graph.populations), memory.STATE)
    found: dict[str, list[Array]] = {}
    with torch.no_grad():
        for currents in torch.split(torch.from_numpy(graph.currents(inputs)).to(torch.float32), size):
            values: dict[str, Tensor] = {graph.input.name: currents}
            for p in graph.populations:
                if p.dynamics.injects:
                    continue
                if p.dynamics.relays:
                    values[p.name] = simulate.relayed(graph, p, values)
                    continue
                z = simulate.sum_currents(graph, p, values) + _column(p.bias)
                if p.dynamics.adds:
                    values[p.name] = z
                    continue
                values[p.name] = z / _column(p.threshold)
                if p.dynamics.fires:
                    values[p.name].clamp_(min=0)
                if keep or p.dynamics.reads_out:
                    found.setdefault(p.name, []).append(values[p.name].numpy())
    joined = {name: np.concatenate(parts) for name, parts in found.items()}
    joined[graph.output.name] = joined[graph.output.name].reshape(len(inputs), -1)
    return joined


def _floats(graph: Graph) -> Graph:
    """The network in float32.

    An integer graph's numbers are whole, and so is what they stand for.
    """
    return graph if graph.is_integer or graph.dtype == np.float32 else graph.astype(np.float32)


def _column(array: Array) -> Tensor:
    return torch.from_numpy(np.array(array, np.float32))


def _channels_last(x: Tensor) -> Tensor:
    """In the memory format that convolutions return."""
    return x.contiguous(memory_format=torch.channels_last if x.ndim == 4 else torch.contiguous_format)
