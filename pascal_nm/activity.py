"""Synaptic operations and neuron updates, counted from a run: nothing is assumed about spike rates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pascal_nm.graph import Array, Conv2d, Dense, Graph, Projection, Shape, SumPool2d
from pascal_nm.result import RunResult


@dataclass(frozen=True, eq=False)
class LayerEvents:
    """Events that one population causes or performs, per image: int64 arrays of shape (N,), or one number for all.

    Attributes:
        name: the population.
        synaptic_operations: accumulations in the synapses onto it: each arriving spike times its fan-out.
        multiply_accumulates: operations in synapses from the analog input, dense: each input value times its fan-out.
        emitted: spikes that leave it.
        internal: excitatory and inhibitory spikes inside its neurons (they move the counter, and cause no message).
        updates: neuron updates inside the population's window of the schedule; under ``streaming`` until the network is quiet.
        idle: neuron updates in the other timesteps of the sample.
    """

    name: str
    synaptic_operations: Array
    multiply_accumulates: int
    emitted: Array
    internal: Array
    updates: Array
    idle: Array

    def means(self) -> dict[str, float]:
        """Every count by name, mean over the images."""
        names = ("synaptic_operations", "multiply_accumulates", "updates", "idle", "emitted", "internal")
        return {name: float(np.mean(getattr(self, name))) for name in names}

    @staticmethod
    def join(parts: Sequence[LayerEvents]) -> LayerEvents:
        """The events of consecutive batches as one."""
        return replace(
            parts[0],
            synaptic_operations=np.concatenate([part.synaptic_operations for part in parts]),
            emitted=np.concatenate([part.emitted for part in parts]),
            internal=np.concatenate([part.internal for part in parts]),
            updates=np.concatenate([part.updates for part in parts]),
            idle=np.concatenate([part.idle for part in parts]),
        )


def events(graph: Graph, result: RunResult) -> list[LayerEvents]:
    """The events of a run, population by population (without the analog input).

    Operations are counted at the borders as they are: a spike in a corner reaches fewer neurons.
    """
    images = len(result.potential)
    layers = []
    for p in graph.populations:
        if p.kind == "analog":
            continue
        operations, macs = np.zeros(images, np.int64), 0
        for projection in graph.incoming(p.name):
            source = graph[projection.source]
            reach = fan_out(projection, source.shape)
            if source.kind == "analog":
                macs += int(reach.sum())
            else:
                spikes = result.spikes[source.name].reshape(images, -1).astype(np.float64)
                operations += (spikes @ reach.reshape(-1).astype(np.float64)).astype(np.int64)
        activity = result.activity.get(p.name)
        silent = np.zeros(images, np.int64)
        window = result.schedule.windows[p.name]
        steps = np.maximum(np.minimum(result.timesteps, window.stop) - window.start, 0)
        layers.append(
            LayerEvents(
                p.name,
                operations,
                macs,
                silent if activity is None else activity.emitted,
                silent if activity is None else activity.excitatory + activity.inhibitory,
                p.size * steps,
                p.size * (result.timesteps - steps),
            )
        )
    return layers


def fan_out(projection: Projection, shape: Shape) -> Array:
    """Number of synapses that each source neuron of ``shape`` drives: int64 of that shape.

    A pooling in front counts as part of the synapses, which is how a chip stores it: a neuron in two windows drives both.
    """
    pool, operator = projection.pool, projection.operator
    inner = pool.output_shape(shape) if pool else shape
    match operator:
        case Dense():
            reach: list[Array] = [np.full(n, 1, np.int64) for n in inner]
            reach[0] *= len(operator.weight)
        case Conv2d():
            target = operator.output_shape(inner)
            per_channel = np.full(inner[0], target[0] // operator.groups, np.int64)
            kernel = operator.weight.shape[2:]
            axes = [
                _coverage(
                    np.ones(target[a + 1], np.int64),
                    inner[a + 1],
                    kernel[a],
                    operator.stride[a],
                    operator.padding[a],
                    operator.dilation[a],
                )
                for a in range(2)
            ]
            reach = [per_channel, *axes]
        case _:
            reach = [np.ones(n, np.int64) for n in inner]
    if pool:
        reach = [reach[0], *(_pool_coverage(reach[a + 1], shape[a + 1], pool, a) for a in range(2))]
    return np.asarray(math.prod(np.ix_(*reach), start=np.ones((), np.int64)))


def _pool_coverage(reach: Array, size: int, pool: SumPool2d, axis: int) -> Array:
    return _coverage(reach, size, pool.kernel[axis], pool.stride[axis], pool.padding[axis], 1)


def _coverage(reach: Array, size: int, kernel: int, stride: int, padding: int, dilation: int) -> Array:
    """Along one axis: the sum of ``reach`` over the windows that each of ``size`` positions lies in."""
    result = np.zeros(size, np.int64)
    starts = np.arange(len(reach)) * stride - padding
    for k in range(kernel):
        positions = starts + k * dilation
        inside = (positions >= 0) & (positions < size)
        np.add.at(result, positions[inside], reach[inside])
    return result
