"""Synaptic operations and neuron updates, counted from a run; no spike rate is assumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pascal_nm.common.arrays import Array, Shape
from pascal_nm.network import reach
from pascal_nm.network.graph import Graph, Projection
from pascal_nm.simulation.result import RunResult


@dataclass(frozen=True, eq=False)
class LayerEvents:
    """Events that one population causes or performs, per image.

    Each is an int64 array of shape (N,), or one number for all.

    Attributes:
        name: the population.
        synaptic_operations: accumulations in the synapses onto it: each arriving spike
            times its fan-out.
        multiply_accumulates: operations in synapses from the analog input, dense: each input value
            times its fan-out.
        emitted: spikes that leave it.
        internal: excitatory and inhibitory spikes inside its neurons (they move the counter, and
            cause no message).
        updates: neuron updates inside the population's window of the schedule; under ``streaming``
            until the network is quiet.
        idle: neuron updates in the other timesteps of the sample.
        messages: spikes that travel to a core, once for each core that they reach; 0 where the
            network is not on a chip's cores.
        hops_x: their hops along the columns of the mesh.
        hops_y: along its rows.
    """

    name: str
    synaptic_operations: Array
    multiply_accumulates: int
    emitted: Array
    internal: Array
    updates: Array
    idle: Array
    messages: Array | int = 0
    hops_x: Array | int = 0
    hops_y: Array | int = 0

    def means(self) -> dict[str, float]:
        """Every count by name, mean over the images."""
        names = ["synaptic_operations", "multiply_accumulates", "updates", "idle", "emitted", "internal"]
        names += ["messages", "hops_x", "hops_y"]
        return {name: float(np.mean(getattr(self, name))) for name in names}

    @staticmethod
    def join(parts: Sequence[LayerEvents]) -> LayerEvents:
        """The events of consecutive batches as one."""
        names = ("synaptic_operations", "emitted", "internal", "updates", "idle", "messages", "hops_x", "hops_y")
        joined: dict[str, Any] = {
            name: np.concatenate([np.atleast_1d(getattr(part, name)) for part in parts]) for name in names
        }
        return replace(parts[0], **joined)


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
            driven = fan_out(projection, source.shape)
            if source.kind == "analog":
                macs += int(driven.sum())
            else:
                spikes = result.spikes[source.name].reshape(images, -1).astype(np.float64)
                operations += (spikes @ driven.reshape(-1).astype(np.float64)).astype(np.int64)
        activity = result.activity.get(p.name)
        silent = np.zeros(images, np.int64)
        window = result.schedule.windows[p.name]
        sent = None if result.chip is None else result.chip.messages.get(p.name)
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
                *((silent, silent, silent) if sent is None else sent),
            )
        )
    return layers


def plain(graph: Graph, layers: Sequence[LayerEvents]) -> list[LayerEvents]:
    """The same run with plain integrate-and-fire neurons, to compare with.

    Section 4.2.1 of the paper compares so.

    Spikes and operations stay (those too that streaming takes back); each spiking neuron is updated
    once in each of its L timesteps, and no neuron waits for another layer.
    """
    result = []
    for layer in layers:
        p = graph[layer.name]
        updates = np.full_like(layer.updates, p.levels * p.size) if p.kind == "pasc" else layer.updates
        result.append(replace(layer, updates=updates, idle=np.zeros_like(layer.idle)))
    return result


def fan_out(projection: Projection, shape: Shape) -> Array:
    """Synapses that each source neuron of ``shape`` drives, int64."""
    return reach.of(projection, shape).fan_out.reshape(shape)


def source_operations(projection: Projection, shape: Shape) -> tuple[int, int]:
    """Additions and multiply-accumulates that a projection from ``shape`` is in the source network.

    There, a pooling is added up first, and what follows it sees one value for each window, where
    each spike goes through every window that it is in. A shortcut adds.
    """
    additions = 0
    if projection.pool is not None:
        additions, shape = int(projection.pool.reach(shape).fan_out.sum()), projection.pool.output_shape(shape)
    synapses = int(fan_out(replace(projection, pool=None), shape).sum())
    if not projection.operator.multiplies:
        return additions or synapses, 0
    return additions, synapses
