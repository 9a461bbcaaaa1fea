r"""What a run costs on a chip: its events times the chip's figures, and nothing else.

Energy is a sum over events. Time is not: cores work side by side, and a timestep lasts as long as
its slowest core, the longest way of a message, and the barrier at its end:

.. math::
    t = \max_{core} \left( n_{up} \, t_{up} + n_{idle} \, t_{idle} + n_{syn} \, t_{syn}
        + n_{spikes} \, t_{emitted} + n_{out} \, t_{message} + n_{in} \, t_{in} \right)
        + \max_{messages} (h_x t_x + h_y t_y) + t_{barrier}

So one run has a price on every chip that computes the same integers on the same cores.

Images may follow each other every initiation interval of the schedule: while the last layers work
on one, the first layers work on the next. Where many images like one follow each other, a timestep
t of the interval I has the events of the timesteps t, t + I, t + 2I... of that one image. An answer
comes once in an interval, which lasts as long as its timesteps together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.hw_targets.chip import NS, PJ, Chip
from pascal_nm.hw_targets.mapping import Placement
from pascal_nm.network.graph import Graph
from pascal_nm.simulation.events import EVENTS, Event, LayerEvents, source_operations, synapses
from pascal_nm.simulation.result import CoreEvents, RunResult

SYNAPSES, NEURONS = "synaptic_memory", "neuron_memory"
"""Memory traffic of both, where it is counted apart (:class:`pascal_nm.hw_targets.chip.Memory`)."""

_MEMORY = {
    "multiply_accumulate": Event(SYNAPSES, "memory of synapses", colour=0, hatch="////"),
    "idle": Event(NEURONS, "memory of neurons", colour=2, hatch="////"),
}
"""Memory traffic, by the last of the events that cause it."""


def _kinds() -> Iterator[Event]:
    for event in EVENTS.values():
        if event.priced:
            yield event
        if event.name in _MEMORY:
            yield _MEMORY[event.name]


KINDS = {kind.name: kind for kind in _kinds()}
"""Where energy goes: priced events, and memory traffic, in the order of their bars in pictures."""

OPERATIONS = ("synaptic_operation", "graded_operation", "multiply_accumulate")
"""What happens in synapses."""

NEURON_KINDS = ("update", "idle", NEURONS)
"""Those of the neurons' own work; the rest does not depend on what the neurons do inside."""

CORE_NUMBERS = 1 << 22
"""Timesteps times images and cores whose times are added up together."""


@dataclass(frozen=True, eq=False)
class LayerEnergy:
    """Joules of one population: by kind (:data:`KINDS`), mean over the images."""

    name: str
    joules: Mapping[str, float]
    events: LayerEvents

    @property
    def dynamic(self) -> float:
        """Joules per image of all its events."""
        return sum(self.joules.values())


def energy(layers: Sequence[LayerEvents], chip: Chip) -> list[LayerEnergy]:
    """Mean joules per image and population of counted events on ``chip``.

    Events are those of :func:`pascal_nm.simulation.events.count`.

    Memory traffic, where the chip has it: each synaptic operation reads a weight, and reads and
    writes a potential; a graded one reads a payload, too; each multiply-accumulate of the analog
    input reads a weight and a value;
    each neuron update reads and writes potential and counter. Spikes are passed on, not stored.
    """
    return [LayerEnergy(layer.name, _joules(layer, chip), layer) for layer in layers]


def by_image(layers: Sequence[LayerEvents], chip: Chip, images: int) -> Array:
    """Joules of each image in all layers, float64 of shape (N,)."""
    found = np.zeros(images)
    for layer in layers:
        counted = {event.name: np.asarray(getattr(layer, name), np.float64) for name, event in EVENTS.items()}
        for joules in _priced(counted, chip).values():
            found += joules
    return found


def _joules(layer: LayerEvents, chip: Chip) -> dict[str, float]:
    return _priced({EVENTS[name].name: mean for name, mean in layer.means().items()}, chip)


def _priced(counted: Mapping[str, Any], chip: Chip) -> dict[str, Any]:
    """Joules by kind, of events by their name: numbers, or arrays of them."""
    joules = {event: counted[event] * figure.value * PJ for event, figure in chip.prices.items()}
    if chip.synapses:
        operations = sum(counted[event] for event in OPERATIONS)
        more = PJ * sum(counted[f"in_{kind}"] * chip.more(kind)[0] for kind in chip.synapses)
        each = more / np.maximum(operations, 1)
        joules |= {event: joules[event] + counted[event] * each for event in OPERATIONS}
    if (m := chip.memory) is not None:
        operations = counted["synaptic_operation"] + counted["graded_operation"]
        payloads, macs = counted["payload_bit"], counted["multiply_accumulate"]
        updates = counted["update"] + (counted["idle"] if "idle" in chip.energy else 0.0)
        bits = operations * (m.weight + 2 * m.potential) + payloads + macs * (m.weight + m.activation)
        joules[SYNAPSES] = m.joules(bits)
        joules[NEURONS] = m.joules(updates * 2 * (m.potential + m.activation))
    return joules


def source_energy(graph: Graph, chip: Chip) -> dict[str, float]:
    """Joules per image of the source network on the same table, by population.

    Counted are its multiply-accumulates, and the additions of poolings and shortcuts, which cost
    what a synaptic operation costs.

    Memory traffic, where the chip has it: each multiply-accumulate reads a weight and an input,
    each addition and each input of a max-pooling one value, and each output, of a pooling too, is
    written once. Sums stay in a register.
    """
    found = {}
    for p in graph.populations:
        if p.dynamics.injects:
            continue
        additions = macs = 0
        more = 0.0
        written = p.size
        for q in graph.incoming(p.name):
            shape = graph[q.source].shape
            operations = source_operations(q, shape)
            additions, macs = additions + operations[0], macs + operations[1]
            more += operations[1] * chip.more(synapses(q))[0]
            if q.pool is not None and operations[1]:
                written += math.prod(q.pool.output_shape(shape))
        arithmetic = (
            0.0
            if p.dynamics.relays
            else additions * chip.energy["synaptic_operation"].value
            + macs * chip.energy["multiply_accumulate"].value
            + more
        )
        found[p.name] = arithmetic * PJ
        if (m := chip.memory) is not None:
            found[p.name] += m.joules(macs * m.weight + (macs + additions + written) * m.activation)
    return found


def shares(layers: Sequence[LayerEnergy]) -> dict[str, float]:
    """Where the energy of all layers goes.

    Gives the share of each kind that costs anything, in the order of :data:`KINDS`.
    """
    by_kind = {kind: sum(layer.joules.get(kind, 0.0) for layer in layers) for kind in KINDS}
    total = sum(by_kind.values())
    return {kind: part / total for kind, part in by_kind.items() if part}


def core_seconds(layers: Sequence[LayerEvents], chip: Chip) -> float:
    """Time of all cores' work added up, mean per image.

    No core waits for another, there is no barrier, and messages take no time on their way.
    """
    return NS * sum(
        count * (chip.nanoseconds(event.latency) + chip.more(event.name.removeprefix("in_"))[1])
        for layer in layers
        for name, count in layer.means().items()
        if not (event := EVENTS[name]).travels
    )


class Times(NamedTuple):
    """How long images take on a chip, each float64 of shape (N,).

    Attributes:
        answer: seconds from an image's first timestep to its answer.
        interval: seconds from one answer to the next.
    """

    answer: Array
    interval: Array


def seconds(result: RunResult, placement: Placement, chip: Chip) -> Array:
    """Time of each image on a chip, float64 of shape (N,); NaN where the chip gives no times.

    Args:
        result: a run on the cores of ``placement``.
        placement: where the network is.
        chip: any chip whose cores hold it so.
    """
    return alone(result, placement, chip).answer


def alone(result: RunResult, placement: Placement, chip: Chip) -> Times:
    """The times of images of which each waits for the answer of the one before."""
    times = _times(result, placement, chip, result.schedule.steps)
    return Times(times.answer, times.answer)


def pipelined(result: RunResult, placement: Placement, chip: Chip) -> Times:
    """Those of images that follow each other every initiation interval; see the module's text."""
    return _times(result, placement, chip, result.schedule.initiation_interval)


def _times(result: RunResult, placement: Placement, chip: Chip, interval: int) -> Times:
    events = result.cores
    assert events is not None, "the run was on cores"
    times = Times(np.full(events.images, np.nan), np.full(events.images, np.nan))
    if not chip.latency:
        return times
    resting = _resting(result, placement, chip, interval)
    tiles = len(np.unique(placement.places, axis=0))
    barrier = 0.0 if chip.barrier is None else chip.barrier.at(tiles, placement.chips)
    whole = np.arange(result.schedule.steps)
    running = whole[:, None] < result.timesteps
    size = max(1, CORE_NUMBERS // resting.size)
    for start in range(0, events.images, size):
        images = slice(start, start + size)
        steps = _slowest(events, resting, chip, images, len(whole)) + _longest(events, interval, chip, images) + barrier
        times.answer[images] = (steps[whole % interval] * running[:, images]).sum(0)
        times.interval[images] = steps.sum(0)
    return Times(times.answer * NS, times.interval * NS)


def _resting(result: RunResult, placement: Placement, chip: Chip, interval: int) -> Array:
    """Nanoseconds of the cores' neurons in each timestep, whatever arrives: (interval, cores)."""
    times = []
    for name, blocks in placement.blocks.items():
        window = result.schedule.windows[name]
        each = np.full((interval, 1), chip.nanoseconds("idle"))
        each[np.arange(window.start, min(window.stop, result.schedule.steps)) % interval] = chip.nanoseconds("update")
        times.append(each * blocks.sizes)
    return np.concatenate(times, 1)


def _slowest(events: CoreEvents, resting: Array, chip: Chip, images: slice, steps: int) -> Array:
    """Nanoseconds of the slowest core, (interval, images), of what happens in so many timesteps."""
    latencies = {event.name: event.latency for event in EVENTS.values()}
    busy = np.repeat(resting[:, None], len(range(*images.indices(events.images))), axis=1)
    for each in events.counted:
        if nanoseconds := chip.nanoseconds(latencies[each.event]) + chip.more(each.synapses)[1]:
            for part, counts in _laid(
                busy[..., each.cores], each.first, each.counts[: max(0, steps - each.first), images]
            ):
                part += np.multiply(counts, nanoseconds, dtype=np.float64)
    return np.asarray(busy.max(2))


def _longest(events: CoreEvents, interval: int, chip: Chip, images: slice) -> Array:
    """Nanoseconds of the longest way of a message, (interval, images)."""
    longest = np.zeros((interval, len(range(*images.indices(events.images)))))
    per_hop = [chip.nanoseconds(hop) for hop in ("hop_x", "hop_y")]
    for way in events.ways.values():
        lengths = np.where(way.counts[:, images] > 0, way.hops @ per_hop, 0.0).max(2, initial=0.0)
        for part, found in _laid(longest, way.first, lengths):
            np.maximum(part, found, out=part)
    return longest


def _laid(interval: Array, first: int, steps: Array) -> Iterator[tuple[Array, Array]]:
    """What happens in timesteps from ``first`` on, beside the parts of the interval it falls into.

    Both have timesteps along their first axis.
    """
    done = 0
    while done < len(steps):
        at = (first + done) % len(interval)
        n = min(len(interval) - at, len(steps) - done)
        yield interval[at : at + n], steps[done : done + n]
        done += n
