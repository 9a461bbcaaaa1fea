"""The vocabulary of events, and how many of each a run was; no spike rate is assumed.

A new event is a field of :class:`LayerEvents` and the line of :func:`count` that counts it: tables,
pictures, prices and ``--json`` take it from there, and a chip's file may price it by its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, get_origin, get_type_hints

import numpy as np

from pascal_nm.common.arrays import Array, Shape
from pascal_nm.network.graph import Graph, Projection
from pascal_nm.simulation.result import CoreEvents, RunResult
from pascal_nm.simulation.schedule import Schedule


@dataclass(frozen=True)
class Event:
    """What an event is called, and how it is shown.

    Attributes:
        name: its key in a chip's file, and in joules by event.
        label: in words.
        column: the heading of its column in a table, which others may share; empty for none.
        colour: its place in :data:`pascal_nm.report.style.COLOURS`.
        hatch: in pictures, where another event has the same colour.
        priced: a chip's file may give it an energy.
        lasts_as: the event whose time it takes; None for its own, empty for none.
        travels: that time is spent between cores, and not by a core.
    """

    name: str
    label: str
    column: str = ""
    colour: int = 0
    hatch: str = ""
    priced: bool = True
    lasts_as: str | None = None
    travels: bool = False

    @property
    def latency(self) -> str:
        """The key of the time that it takes in a chip's file; empty where it takes none."""
        return self.name if self.lasts_as is None else self.lasts_as


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerEvents:
    """Events that one population causes or performs, per image.

    Each is an int64 array of shape (N,), or one number for all. Messages are 0 where the network is
    not on a chip's cores.

    Attributes:
        name: the population.
        synaptic_operations: accumulations in the synapses onto it: each arriving spike of +1 or -1
            times its fan-out.
        graded_operations: operations in synapses onto which a number comes: payload times weight.
            Likewise each arriving number times its fan-out, those of an analog input among them
            where it sends only values other than 0.
        multiply_accumulates: operations in synapses from the analog input, dense: each input value
            times its fan-out. One takes the time of a synaptic operation, as does a graded one.
        updates: neuron updates inside the population's window of the schedule; under ``streaming``
            until the network is quiet.
        idle: neuron updates in the other timesteps of the sample.
        emitted: spikes that leave it.
        internal: excitatory and inhibitory spikes inside its neurons (they move the counter, and
            cause no message).
        messages: spikes that travel to a core, once for each core that they reach.
        messages_in: messages that reach its cores.
        hops_x: the hops of ``messages`` along the columns of the mesh.
        hops_y: along its rows.
        payload_bits: bits of the numbers that its graded operations read.
        in_convolutions: of all its operations, those in synapses whose weights neurons share.
        in_single_synapses: those in synapses that are given one by one.
    """

    name: str
    synaptic_operations: Annotated[
        Array, Event("synaptic_operation", "synaptic operations", column="synaptic op.", colour=0)
    ]
    graded_operations: Annotated[
        Array,
        Event(*("graded_operation", "graded operations", "synaptic op."), hatch="....", lasts_as="synaptic_operation"),
    ]
    multiply_accumulates: Annotated[
        int,
        Event(
            *("multiply_accumulate", "multiply-accumulates", "multiply-acc."), colour=5, lasts_as="synaptic_operation"
        ),
    ]
    updates: Annotated[Array, Event("update", "neuron updates", column="updates", colour=2)]
    idle: Annotated[Array, Event("idle", "idle updates", column="idle updates", colour=1)]
    emitted: Annotated[Array, Event("emitted", "spikes out", column="spikes out", colour=3)]
    internal: Annotated[Array, Event("internal", "spikes inside", column="inside", priced=False, lasts_as="")]
    messages: Annotated[Array | int, Event("message", "messages", column="messages", colour=4)] = 0
    messages_in: Annotated[Array | int, Event("message_in", "messages in", priced=False)] = 0
    hops_x: Annotated[Array | int, Event("hop_x", "hops along columns", column="hops", colour=6, travels=True)] = 0
    hops_y: Annotated[
        Array | int, Event("hop_y", "hops along rows", column="hops", colour=6, hatch="....", travels=True)
    ] = 0
    payload_bits: Annotated[Array | int, Event("payload_bit", "bits of payloads", priced=False, lasts_as="")] = 0
    in_convolutions: Annotated[
        Array | int, Event("in_convolution", "operations in convolutions", priced=False, lasts_as="")
    ] = 0
    in_single_synapses: Annotated[
        Array | int, Event("in_single", "operations in single synapses", priced=False, lasts_as="")
    ] = 0

    @property
    def operations(self) -> Array:
        """Operations in the synapses onto it of all that is sent, whatever it carries."""
        return self.synaptic_operations + self.graded_operations

    @property
    def arithmetic(self) -> Array:
        """Those operations, and the multiply-accumulates of a dense input."""
        return self.operations + self.multiply_accumulates

    def means(self) -> dict[str, float]:
        """Every count by its name, mean over the images."""
        return {name: float(np.mean(getattr(self, name))) for name in EVENTS}

    @staticmethod
    def join(parts: Sequence[LayerEvents]) -> LayerEvents:
        """The events of consecutive batches as one."""
        counted = {name: [getattr(part, name) for part in parts] for name in EVENTS}
        joined: dict[str, Any] = {name: np.concatenate(each) for name, each in counted.items() if np.ndim(each[0])}
        return replace(parts[0], **joined)


EVENTS: dict[str, Event] = {
    name: hint.__metadata__[0]
    for name, hint in get_type_hints(LayerEvents, include_extras=True).items()
    if get_origin(hint) is Annotated
}
"""Every event, by the name of its counts."""


def count(graph: Graph, result: RunResult) -> list[LayerEvents]:
    """The events of a run, population by population (without the analog input).

    Operations are counted at the borders as they are: a spike in a corner reaches fewer neurons.
    """
    images = len(result.potential)
    layers = []
    for p in graph.populations:
        if p.dynamics.injects:
            continue
        operations = {event: np.zeros(images, np.int64) for event in ("synaptic_operation", "graded_operation")}
        bits, macs = np.zeros(images, np.int64), 0
        kinds = {kind: np.zeros(images, np.int64) for kind in ("dense", "convolution", "single")}
        for projection in graph.incoming(p.name):
            source, event = graph[projection.source], operation(graph, result.schedule, projection.source)
            driven = fan_out(projection, source.shape)
            if event == "multiply_accumulate":
                macs += int(driven.sum())
                kinds[synapses(projection)] += int(driven.sum())
                continue
            spikes = result.spikes[source.name].reshape(images, -1).astype(np.float64)
            found = (spikes @ driven.reshape(-1).astype(np.float64)).astype(np.int64)
            operations[event] += found
            kinds[synapses(projection)] += found
            bits += found * result.schedule.payload_bits(graph, source.name)
        activity = result.activity.get(p.name)
        silent = np.zeros(images, np.int64)
        window = result.schedule.windows[p.name]
        steps = np.maximum(np.minimum(result.timesteps, window.stop) - window.start, 0)
        layers.append(
            LayerEvents(
                name=p.name,
                synaptic_operations=operations["synaptic_operation"],
                graded_operations=operations["graded_operation"],
                multiply_accumulates=macs,
                updates=p.size * steps,
                idle=p.size * (result.timesteps - steps),
                emitted=silent if activity is None else activity.emitted,
                internal=silent if activity is None else activity.excitatory + activity.inhibitory,
                payload_bits=bits,
                in_convolutions=kinds["convolution"],
                in_single_synapses=kinds["single"],
                **_messages(result.cores, p.name),
            )
        )
    return layers


def operation(graph: Graph, plan: Schedule, source: str) -> str:
    """The event that every operation is in synapses from population ``source``.

    An analog input that is dense is multiplied and accumulated value by value. What carries a
    number is a graded operation, what is +1 or -1 a synaptic one.
    """
    if graph[source].dynamics.injects:
        return "graded_operation" if plan.sparse else "multiply_accumulate"
    return "graded_operation" if plan.payload_bits(graph, source) else "synaptic_operation"


def synapses(projection: Projection) -> str:
    """How the weights of a projection are stored.

    ``dense`` from all to all, ``convolution`` with filters that neurons share, ``single`` given one
    by one.
    """
    if projection.operator.all_to_all:
        return "dense"
    return "convolution" if projection.operator.uniform else "single"


def _messages(cores: CoreEvents | None, name: str) -> dict[str, Any]:
    """What a population's messages are counted as, where it is on cores."""
    if cores is None:
        return {}
    hops = cores.hops(name)
    sent, arrived = (cores.total(event, name) for event in ("message", "message_in"))
    return {"messages": sent, "messages_in": arrived, "hops_x": hops[:, 0], "hops_y": hops[:, 1]}


def plain(graph: Graph, layers: Sequence[LayerEvents]) -> list[LayerEvents]:
    """The same run with plain integrate-and-fire neurons, to compare with.

    Section 4.2.1 of the paper compares so.

    Spikes and operations stay (those too that streaming takes back); each spiking neuron is updated
    once in each of its L timesteps, and no neuron waits for another layer.
    """
    result = []
    for layer in layers:
        p = graph[layer.name]
        updates = np.full_like(layer.updates, p.levels * p.size) if p.dynamics.fires else layer.updates
        result.append(replace(layer, updates=updates, idle=np.zeros_like(layer.idle)))
    return result


def pipelined(graph: Graph, layers: Sequence[LayerEvents], plan: Schedule) -> list[LayerEvents]:
    """The events of an image of many that follow each other every initiation interval.

    All neurons are then looked at in so many timesteps for an image, and not in all of its own.
    """
    interval = plan.initiation_interval
    return [replace(layer, idle=np.maximum(graph[layer.name].size * interval - layer.updates, 0)) for layer in layers]


def fan_out(projection: Projection, shape: Shape) -> Array:
    """Synapses that each source neuron of ``shape`` drives, int64."""
    return projection.reach(shape).fan_out.reshape(shape)


def dense_operations(graph: Graph) -> int:
    """Additions and multiply-accumulates of the source network for an image."""
    weighted = (q for p in graph.populations if not p.dynamics.relays for q in graph.incoming(p.name))
    return sum(sum(source_operations(q, graph[q.source].shape)) for q in weighted)


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
