r"""The chip program of threshold copies: compartments, lists of synapses, axons and routes.

A neuron of L levels is L *copies*, compartments that spike where the potential of one timestep is
above their threshold, and keep nothing of it: copy k spikes where :math:`z \ge (k - 1/2) \theta`,
so that the number of copies that spike is the count
(:mod:`pascal_nm.network.unroll`). All copies hear all copies of their sources. As nothing is kept,
a new image comes in every timestep, and answers leave after as many timesteps as layers.

Thresholds are registers that the compartments of a core share, so that all are the same here, and
what tells copies apart is in their biases. A bias that its own register cannot hold exactly gets
the rest from a *bias compartment*, one of a core, which spikes in every timestep onto all others.

The network's input comes from the host as spikes, one for each bit of a pixel that is set: bit b
has the weights times :math:`2^b`, in the exponents of its synapses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.errors import DataError, TargetError
from pascal_nm.hw_targets.chip import Bits, Compartments, Core, Count
from pascal_nm.hw_targets.tables import Within
from pascal_nm.network.graph import Graph, Inputs
from pascal_nm.simulation import schedule as schedules
from pascal_nm.simulation.result import RunResult

HOST = -1
"""Routes from the host begin at this number and below: its lines, one after the other."""

Level = Annotated[int, Within(0, 1 << 15)]
Depth = Annotated[int, Within(0, 1 << 12)]
Side = Annotated[int, Within(1, 1 << 26)]

ARRAYS: dict[str, tuple[str, str]] = {
    "core_first": ("i4", "first compartment of each core, and the end"),
    "bias": ("i2", "mantissa of each compartment's bias"),
    "bias_exponent": ("i1", "its exponent"),
    "threshold": ("i4", "mantissa of each compartment's threshold"),
    "population": ("i2", "what each compartment is of: the number of a layer; -1 of a bias compartment"),
    "neuron": ("i4", "the neuron, flat in (C, H, W)"),
    "copy": ("i2", "its copy, from 0"),
    "list_first": ("i8", "first synapse of each list, and the end"),
    "list_compartment": ("i2", "compartment of each synapse, counted from the axon's offset"),
    "list_weight": ("i2", "even mantissa of its weight"),
    "axon_core": ("i4", "core onto which an axon leads"),
    "axon_exponent": ("i1", "exponent of the weights behind it"),
    "axon_list": ("i4", "its list of synapses"),
    "axon_offset": ("i2", "the compartment of the core from which the list counts"),
    "route_source": ("i4", "the compartment whose spikes travel; -1 - i: line i of the host"),
    "route_axon": ("i4", "the axon to which they do"),
}
"""By array its type, and what it holds."""


@dataclass(frozen=True)
class Layer:
    """A population in compartments.

    Attributes:
        name: as in the network; relays have names of their own.
        shape: without the batch.
        copies: of each neuron; 1 of a readout.
        depth: its spikes of an image come so many timesteps after those of the host.
        unit: one unit of the network's integers in units of the membrane.
        reads_out: its current goes back to the host, less the bias, and it never spikes.
    """

    name: str
    shape: tuple[Side, ...]
    copies: Level
    depth: Depth
    unit: Count
    reads_out: bool = False


@dataclass(frozen=True)
class Host:
    """What the host injects.

    Attributes:
        planes: bits of a pixel.
        delays: so many timesteps later than the first time each set of lines is injected: sets,
            within them bits from the lowest on, within them pixels (C, H, W).
    """

    planes: Bits
    delays: tuple[Depth, ...]


@dataclass(frozen=True)
class Limits:
    """What the program was made for.

    Attributes:
        core: what a core holds.
        compartments: what they compute.
        shift: of thresholds and weights.
        weight: bits of a weight's mantissa, with the sign.
        bias: bits of a bias's mantissa, with the sign.
        bias_exponent: the largest of a bias.
        threshold: bits of a threshold's mantissa.
        cores: of a chip.
    """

    core: Core
    compartments: Compartments
    shift: Annotated[int, Within(0, 16)]
    weight: Annotated[int, Within(2, 16)]
    bias: Annotated[int, Within(2, 16)]
    bias_exponent: Annotated[int, Within(0, 16)]
    threshold: Annotated[int, Within(1, 31)]
    cores: Count


@dataclass(frozen=True, eq=False)
class CopiesProgram:
    """All that a chip of fixed compartments is loaded with.

    Attributes:
        chip: its name.
        limits: of it.
        network: the integer network that it computes.
        layers: in the order in which spikes flow, without the input; relays are among them.
        host: what is injected.
        arrays: :data:`ARRAYS`.
        offset: what is added to the network's integer inputs to give what the host injects in
            bits, broadcastable to the input; of pixels as they are stored, what makes them so.
        biases: by readout what is added to its potential, in the network's integers.
    """

    chip: str
    limits: Limits
    network: Graph
    layers: tuple[Layer, ...]
    host: Host
    arrays: Mapping[str, Array]
    offset: Array
    biases: Mapping[str, Array]

    @property
    def graph(self) -> Graph:
        """The network."""
        return self.network

    @property
    def cores(self) -> int:
        """Cores in use."""
        return len(self.arrays["core_first"]) - 1

    @property
    def chips(self) -> int:
        """Chips in use."""
        return -(-self.cores // self.limits.cores)

    @property
    def compartments(self) -> int:
        """Compartments in use."""
        return int(self.arrays["core_first"][-1])

    @property
    def depth(self) -> int:
        """Timesteps from the host's spikes to the last answer."""
        return max(layer.depth for layer in self.layers)

    def bits(self, inputs: Inputs) -> Array:
        """What the host injects for inputs: 0 and 1, uint8 of shape (N, planes, *input shape).

        Raises:
            DataError: the inputs are beyond the range of the network.
        """
        values = self.network.currents(inputs).astype(np.int64) + self.offset
        if values.size and not 0 <= values.min() <= values.max() < 2**self.host.planes:
            raise DataError(f"the host injects numbers of {self.host.planes} bits, and some inputs are beyond them")
        return np.stack([(values >> b & 1).astype(np.uint8) for b in range(self.host.planes)], 1)

    # -- executing it ------------------------------------------------------------------------------

    def run(self, inputs: Inputs) -> RunResult:
        """Execute it, one image in every timestep: registers, lists and routes, nothing else.

        Raises:
            TargetError: what arrives at a compartment leaves its register.
        """
        return self.counted(inputs)[0]

    def counted(self, inputs: Inputs) -> tuple[RunResult, dict[str, int]]:
        """The same, with how much of each event all images caused together.

        Images follow each other, and each layer's timesteps count in which one is there. Every
        compartment is updated in every timestep.
        """
        bits = self.bits(inputs)
        lines = bits.reshape(len(bits), -1)
        spiked, currents = self._executed(lines)
        return self._result(len(bits), spiked, currents), self._events(lines, spiked)

    def _events(self, lines: Array, spiked: Array) -> dict[str, int]:
        """By event how many there were."""
        n, own = len(lines), self.compartments
        sent = np.zeros(own, np.int64)
        depth = np.asarray([0, *(layer.depth for layer in self.layers)])[self.arrays["population"] + 1]
        for d in np.unique(depth):
            sent[depth == d] = spiked[d : d + n, depth == d].sum(0)
        injected = np.tile(lines.sum(0, dtype=np.int64), len(self.host.delays))
        sources = np.concatenate([sent, injected])
        return {
            "synaptic_operations": int(sources @ self.fan_out),
            "spikes": int(sent.sum()),
            "messages": int(sources @ self.messages),
            "updates": n * own,
            "injected_spikes": int(injected.sum()),
        }

    def _result(self, n: int, spiked: Array, currents: dict[int, Array]) -> RunResult:
        counts, potentials = {}, {}
        of, neuron = self.arrays["population"], self.arrays["neuron"]
        for number, layer in enumerate(self.layers):
            mine = np.flatnonzero(of == number)
            when = slice(layer.depth, layer.depth + n)
            if layer.reads_out:
                found = np.zeros((n, math.prod(layer.shape)), np.int64)
                found[:, neuron[mine]] = currents[number][when] // layer.unit
                potentials[layer.name] = found + self.biases[layer.name].reshape(-1)
            elif layer.name in {p.name for p in self.network.counted}:
                found = np.zeros((n, math.prod(layer.shape)), np.int16)
                np.add.at(found.T, neuron[mine], spiked[when, mine].T)
                counts[layer.name] = found.reshape(n, *layer.shape)
        readout = self.network.outputs
        return RunResult(
            counts=counts,
            potential=np.concatenate([potentials[p.name] for p in readout], 1),
            scale=np.concatenate([np.broadcast_to(p.threshold, p.shape).reshape(-1) for p in readout]),
            activity={},
            schedule=schedules.of(self.network),
            classes=readout[0].size if len(readout) > 1 else None,
        )

    def _executed(self, lines: Array) -> tuple[Array, dict[int, Array]]:
        """Spikes of all compartments in every timestep, and the currents of readouts.

        ``lines`` are (N, lines) of one set. Gives bool (T, compartments), and by layer (T, own).
        """
        from scipy import sparse

        arrays, limits = self.arrays, self.limits
        steps = len(lines) + self.depth
        sets = np.zeros((steps, len(self.host.delays), lines.shape[1]), np.uint8)
        for number, delay in enumerate(self.host.delays):
            sets[delay : delay + len(lines), number] = lines
        injected = sets.reshape(steps, len(self.host.delays) * lines.shape[1])
        spiked = np.zeros((steps, self.compartments), bool)
        currents: dict[int, Array] = {}
        order = np.argsort(arrays["axon_core"], kind="stable")
        edges = np.searchsorted(arrays["axon_core"][order], np.arange(self.cores + 1))
        by_axon = np.argsort(arrays["route_axon"], kind="stable")
        route_axon, route_source = arrays["route_axon"][by_axon], arrays["route_source"][by_axon]
        for core in self._in_order:
            first, stop = arrays["core_first"][core : core + 2]
            axons = order[edges[core] : edges[core + 1]]
            synapses = self._synapses(axons, stop - first)
            begins, ends = np.searchsorted(route_axon, [axons, axons + 1]) if len(axons) else (axons, axons)
            which = np.repeat(np.arange(len(axons)), ends - begins)
            sources = route_source[_ranges(begins, ends)]
            came = np.zeros((steps, len(axons)), np.int32)
            sent = np.empty((len(sources), steps), np.uint8)
            outside = sources < 0
            sent[outside] = injected[:, HOST - sources[outside]].T
            sent[~outside] = spiked[:, sources[~outside]].T
            own = ~outside & (sources >= first) & (sources < stop)
            sent[own] = 1  # a bias compartment, which spikes in every timestep; checked below
            np.add.at(came.T, which, sent)
            arriving = np.zeros((steps, stop - first), np.int64)
            arriving[1:] = (sparse.csr_matrix(came[:-1]) @ synapses).toarray()
            if np.abs(arriving).max(initial=0) >= 2 ** (limits.compartments.arriving - 1):
                raise TargetError(f"on core {core} more arrives in a timestep than a compartment can add up")
            number = int(arrays["population"][first])
            if number >= 0 and self.layers[number].reads_out:
                currents[number] = np.concatenate(
                    [currents.get(number, np.zeros((steps, 0), np.int64)), arriving[:, : stop - first]], 1
                )
            spiked[:, first:stop] = self._spikes(arriving, slice(first, stop))
            for compartment in np.unique(sources[own]):
                if not spiked[1:, compartment].all():
                    raise TargetError(f"compartment {compartment} does not spike in every timestep, as it has to")
        return spiked, currents

    def _spikes(self, arriving: Array, mine: slice) -> Array:
        """Spikes of compartments to which so much arrives, (T, compartments)."""
        arrays, decay = self.arrays, self.limits.compartments.decay
        bias = arrays["bias"][mine].astype(np.int64) << arrays["bias_exponent"][mine].astype(np.int64)
        threshold = arrays["threshold"][mine].astype(np.int64) << self.limits.shift
        potential, found = np.zeros(len(bias), np.int64), np.zeros(arriving.shape, bool)
        for t, current in enumerate(arriving):
            potential = np.maximum((potential >> decay) + current + bias, 0)
            found[t] = potential > threshold
            potential[found[t]] = 0
        return found

    def _synapses(self, axons: Array, compartments: int) -> Any:
        """What a spike of each axon brings each compartment: CSR (axons, compartments)."""
        from scipy import sparse

        arrays = self.arrays
        begins = arrays["list_first"][arrays["axon_list"][axons]]
        ends = arrays["list_first"][arrays["axon_list"][axons] + 1]
        entries, which = _ranges(begins, ends), np.repeat(np.arange(len(axons)), ends - begins)
        exponents = arrays["axon_exponent"][axons].astype(np.int64) + self.limits.shift
        values = arrays["list_weight"][entries] * 2.0 ** exponents[which]
        columns = arrays["list_compartment"][entries].astype(np.int64) + arrays["axon_offset"][axons][which]
        shape = (len(axons), compartments)
        return sparse.csr_matrix((values.astype(np.int64), (which, columns)), shape)

    @cached_property
    def _in_order(self) -> list[int]:
        """Cores, sources first."""
        first = self.arrays["core_first"][:-1]
        depth = [self.layers[number].depth for number in self.arrays["population"][first]]
        return [int(core) for core in np.argsort(depth, kind="stable")]

    # -- what it takes -----------------------------------------------------------------------------

    @cached_property
    def fan_out(self) -> Array:
        """Synapses that a spike of each source drives: compartments, then lines of the host."""
        arrays = self.arrays
        length = np.diff(arrays["list_first"])[arrays["axon_list"]]
        return self._by_source(length[arrays["route_axon"]])

    @cached_property
    def messages(self) -> Array:
        """Axons to which a spike of each source travels, likewise."""
        return self._by_source(np.ones(len(self.arrays["route_axon"]), np.int64))

    def _by_source(self, values: Array) -> Array:
        sources = self.arrays["route_source"].astype(np.int64)
        lines = math.prod(self.network.input.shape) * self.host.planes * len(self.host.delays)
        at = np.where(sources >= 0, sources, self.compartments + HOST - sources)
        return np.bincount(at, values, self.compartments + lines).astype(np.int64)


def _ranges(begins: Array, ends: Array) -> Array:
    """All numbers of half-open ranges, one after the other."""
    sizes = ends - begins
    starts = np.repeat(begins - np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes) if len(sizes) else sizes
    return np.asarray(starts + np.arange(int(sizes.sum())), np.int64)
