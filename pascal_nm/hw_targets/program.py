"""The chip program: all that a chip is loaded with, and what its host does, as plain data.

:func:`lower` decides it once, for every target and command: the integers that fit, their registers,
the windows of the schedule, the cores with their parts of populations, and the routes between them.
:mod:`pascal_nm.hw_targets.loihi` executes it, and :mod:`pascal_nm.hw_targets.program_files` keeps
it in files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, NamedTuple

import numpy as np

from pascal_nm.common.arrays import Array, Pair, Shape
from pascal_nm.errors import GraphError, PascalError, TargetError, described
from pascal_nm.hw_targets import fixed_point, mapping, spikes
from pascal_nm.hw_targets.blocks import Blocks
from pascal_nm.hw_targets.chip import Chip, Width
from pascal_nm.hw_targets.fixed_point import Fitted
from pascal_nm.hw_targets.tables import Verbatim, Within
from pascal_nm.network import reach
from pascal_nm.network.bounds import common_exponent, potential_bound
from pascal_nm.network.graph import Graph, Population, Preprocessing, Projection, Quantization, Timing, projection_name
from pascal_nm.network.operators import OPERATORS, SumPool2d
from pascal_nm.simulation import schedule as schedules
from pascal_nm.simulation.schedule import Schedule

HOST = -1
"""Where the routes of the network's input start: on no core."""

Side = Annotated[int, Within(1, 1 << 26)]
"""Of a population, along one axis."""

Exponent = Annotated[int, Within(-64, 64)]


@dataclass(frozen=True)
class Neurons:
    """A population, but for its registers.

    Attributes:
        name: unique in the program.
        kind: as a :class:`pascal_nm.network.graph.Population` has it, as are shape and levels.
        shape: without the batch.
        levels: most spikes of a neuron for an image; of the input its largest magnitude.
        exponent: one unit of the population's integers is ``2**(shift + exponent)`` units of the
            membrane, with the program's ``shift``. The input has no registers, and none.
        payload_bits: of the signed numbers that its spikes carry, as
            :func:`pascal_nm.hw_targets.spikes.payloads` proves them; 0 where they carry none.
    """

    name: str
    kind: str
    shape: tuple[Side, ...]
    levels: Annotated[int, Within(0, (1 << 31) - 1)]
    exponent: Exponent = 0
    payload_bits: Annotated[int, Within(0, 64)] = 0

    @property
    def volume(self) -> tuple[int, int, int]:
        """Channels, rows and columns."""
        return reach.volume(self.shape)


@dataclass(frozen=True)
class Pool:
    """The windows of a pooling; see :class:`pascal_nm.network.operators.SumPool2d`."""

    kernel: tuple[Side, Side]
    stride: tuple[Side, Side]
    padding: tuple[Annotated[int, Within(0, 1 << 16)], Annotated[int, Within(0, 1 << 16)]]
    ceil: bool = False


@dataclass(frozen=True)
class Synapses:
    """A projection, but for the mantissas of its weights.

    Attributes:
        source: name of a population.
        target: likewise.
        operator: name of a class in :data:`pascal_nm.network.operators.OPERATORS`.
        parameters: what that class takes besides the weights and other arrays.
        pool: in front of the operator, or None.
        exponent: of the weights: a weight is ``mantissa * 2**(shift + exponent)`` units of the
            membrane.
        number: as a :class:`pascal_nm.network.graph.Projection` has it.
    """

    source: str
    target: str
    operator: str
    parameters: Mapping[str, Any]
    pool: Pool | None = None
    exponent: Exponent = 0
    number: Annotated[int, Within(0, 1 << 16)] = 0

    @property
    def name(self) -> str:
        """By which it has registers and routes."""
        return projection_name(self.source, self.target, self.number)


@dataclass(frozen=True)
class Host:
    """What is done outside of the chip.

    Before a run, pixels become inputs, and these, over the register ``scale`` of the input
    population, plus its ``offset`` and rounded, the integers that are injected. After it, the
    readout's potentials over its own ``scale`` are logits.

    Attributes:
        preprocessing: of pixels; None where the network does not say.
        classes: names of the outputs; empty likewise.
        timing: what the schedule was made by.
        quantization: what the integers were made by; None where nobody said.
    """

    timing: Timing
    preprocessing: Preprocessing | None = None
    classes: tuple[Annotated[str, Verbatim()], ...] = ()
    quantization: Quantization | None = None


class Slice(NamedTuple):
    """What one core holds.

    Attributes:
        population: by name.
        tile: column and row, over all chips side by side.
        channels: the first, and the one behind the last; as are those of the other axes.
        rows: likewise.
        columns: likewise.
    """

    population: str
    tile: Pair
    channels: Pair
    rows: Pair
    columns: Pair

    @property
    def spans(self) -> tuple[Pair, Pair, Pair]:
        """Channels, rows and columns."""
        return self.channels, self.rows, self.columns

    @property
    def block(self) -> tuple[slice, slice, slice]:
        """The same as an index."""
        channels, rows, columns = (slice(*span) for span in self.spans)
        return channels, rows, columns


@dataclass(frozen=True, eq=False)
class ChipProgram:
    """All that a chip is loaded with; a population's neurons exist where a core holds them.

    Attributes:
        chip: its name.
        widths: bits of its registers, as a :class:`pascal_nm.hw_targets.chip.Chip` has them.
        shift: of all weights and thresholds, as its registers are shifted.
        host: what is done before and after.
        populations: in the order in which spikes flow; the first is the network's input, on no
            core.
        projections: in their order.
        registers: by owner and quantity: ``NAME.threshold``, ``NAME.bias`` and
            ``NAME.bias_exponents`` of a population, ``SOURCE__TARGET.weight`` of a projection, all
            mantissas; the neurons that synapses join, where its operator has them in arrays; and
            the ``NAME.scale`` of input, linear populations and readout and the ``NAME.offset`` of
            the input, which the host has.
        schedule: the windows of every population, delay, further delays of synapses, and stop.
        cores: what each holds.
        routes: by projection, the pairs of cores (n, 2) from one to the other of which messages
            travel; from :data:`HOST` those of the input.
        objective: what the places of the cores serve.

    Raises:
        TargetError: two cores hold the same neuron, or one holds what is not there.
    """

    chip: str
    widths: Mapping[str, Width]
    shift: int
    host: Host
    populations: tuple[Neurons, ...]
    projections: tuple[Synapses, ...]
    registers: Mapping[str, Array]
    schedule: Schedule
    cores: tuple[Slice, ...]
    routes: Mapping[str, Array]
    objective: str = "time"

    def __post_init__(self) -> None:
        for name, held in self.held.items():
            if held.max(initial=0) > 1:
                raise TargetError(f"the program has neurons of {name!r} on two cores")
        for q in self.projections:
            routes = self.routes.get(q.name, np.zeros((0, 2), np.int32))
            for name, ends in zip((q.source, q.target), routes.T, strict=True):
                if not np.isin(ends, self.numbers[name]).all():
                    raise TargetError(f"a route of {q.source} -> {q.target} ends on a core without {name!r}")

    @cached_property
    def numbers(self) -> dict[str, list[int]]:
        """The cores of each population; the input's is :data:`HOST`."""
        found: dict[str, list[int]] = {p.name: [] for p in self.populations[1:]}
        for number, core in enumerate(self.cores):
            if core.population not in found:
                raise TargetError(
                    f"core {number} holds neurons of {core.population!r}, which is no population of cores"
                )
            found[core.population].append(number)
        return {self.populations[0].name: [HOST], **found}

    @cached_property
    def held(self) -> dict[str, Array]:
        """By population but the input, how many cores hold each neuron, (C, H, W)."""
        found = {}
        for p in self.populations[1:]:
            found[p.name] = np.zeros(p.volume, np.int32)
            for number in self.numbers[p.name]:
                spans = self.cores[number].spans
                if not all(0 <= low < high <= n for (low, high), n in zip(spans, p.volume, strict=True)):
                    raise TargetError(f"core {number} holds neurons that {p.name!r} does not have")
                found[p.name][self.cores[number].block] += 1
        return found

    @cached_property
    def graph(self) -> Graph:
        """The network that is in the registers, in units of each population's own integers.

        Neurons on no core have no bias, and never spike.

        Raises:
            TargetError: the registers hold no such network.
        """
        try:
            return Graph(
                tuple(self._population(p) for p in self.populations),
                tuple(self._projection(q) for q in self.projections),
                self.host.preprocessing,
                self.host.classes,
                self.host.timing,
                self.host.quantization,
            )
        except (PascalError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            raise TargetError(f"the program holds no network: {described(error)}") from error

    def _population(self, p: Neurons) -> Population:
        register = {key: self.registers.get(f"{p.name}.{key}") for key in ("scale", "threshold", "bias")}
        fields: dict[str, Any] = {}
        if register["threshold"] is not None:
            fields["threshold"] = _integers(register["threshold"], -p.exponent, f"a threshold of {p.name}")
        if register["scale"] is not None:
            fields["threshold"] = register["scale"]
        bias = self.registers.get(f"{p.name}.offset", np.zeros((), np.int32))
        if register["bias"] is not None:
            powers = self.registers[f"{p.name}.bias_exponents"].astype(np.int64) - (self.shift + p.exponent)
            bias = _integers(register["bias"], powers, f"a bias of {p.name}")
            if not self.held[p.name].all():
                bias = bias * self.held[p.name].reshape(p.shape)
        return Population(p.name, p.kind, p.shape, p.levels, bias=bias, **fields)

    def _projection(self, q: Synapses) -> Projection:
        (target,) = (p for p in self.populations if p.name == q.target)
        arrays = {
            name.removeprefix(f"{q.name}."): array
            for name, array in self.registers.items()
            if name.startswith(f"{q.name}.")
        }
        exponent = q.exponent - target.exponent
        arrays["weight"] = _integers(arrays["weight"], exponent, f"a weight of {q.source} -> {q.target}")
        pool = None if q.pool is None else SumPool2d(q.pool.kernel, q.pool.stride, q.pool.padding, q.pool.ceil)
        return Projection(q.source, q.target, OPERATORS[q.operator](**arrays, **q.parameters), pool, q.number)

    def membrane(self, p: Neurons, *, kept: bool = False) -> int:
        """The largest magnitude that the potential register of a population can reach.

        That is proven for images, or where state is ``kept`` for all frames.
        """
        return int(potential_bound(self.graph, p.name, kept=kept) * 2.0 ** (self.shift + p.exponent))

    def reached(self, projection: Projection) -> Array:
        """How many neurons of each core of the source have synapses onto each core of the target.

        Gives (target cores, source cores); the input is as if on one core.
        """
        return self._reached(projection, self._spans(projection.source))

    def reaching(self, projection: Projection) -> Array:
        """How many of all neurons of the source have synapses onto each core of the target."""
        return self._reached(projection, _whole(self.graph[projection.source].shape))[:, 0]

    def _reached(self, projection: Projection, source: Array) -> Array:
        """Likewise from parts of the source, (axes, parts, 2)."""
        target = self._spans(projection.target)
        found = np.ones((target.shape[1], source.shape[1]), np.int64)
        axes = projection.reach(self.graph[projection.source].shape)
        if isinstance(axes, reach.Pattern):
            onto, of = _owners(target, axes.target), _owners(source, axes.source)
            return axes.reached(onto, target.shape[1], of, source.shape[1])
        for matrix, onto, of in zip(axes, target, source, strict=True):
            different, which = np.unique(onto, axis=0, return_inverse=True)
            heard = np.asarray([matrix[low:high].any(0) for low, high in different]).reshape(-1, matrix.shape[1])
            upto = np.pad(heard.cumsum(1), ((0, 0), (1, 0)))
            found *= (upto[:, of[:, 1]] - upto[:, of[:, 0]])[which.reshape(-1)]
        return found

    def _spans(self, name: str) -> Array:
        """Half-open ranges of the cores of a population by axis, (axes, cores, 2)."""
        if self.numbers[name] == [HOST]:
            return _whole(self.populations[0].shape)
        held = [self.cores[i].spans for i in self.numbers[name]]
        return np.asarray(held, np.int64).reshape(-1, 3, 2).swapaxes(0, 1)

    def needed(self) -> dict[str, Array]:
        """The routes without which a spike would not come to all its synapses."""
        found = {}
        for q in self.graph.projections:
            source, target = np.nonzero(self.reached(q).T)
            ends = np.asarray(self.numbers[q.source])[source], np.asarray(self.numbers[q.target])[target]
            found[q.name] = np.stack(ends, 1).astype(np.int32)
        return found

    def needed_registers(self) -> list[str]:
        """The names of all registers that the program has."""
        graph = self.graph
        biased = {p.name for p in graph.weighted if not p.dynamics.adds}
        found = [f"{p.name}.{'threshold' if p.dynamics.counted else 'scale'}" for p in graph.populations]
        found += [f"{name}.{key}" for name in biased for key in ("bias", "bias_exponents")]
        found.append(f"{graph.input.name}.offset")
        return found + [f"{q.name}.{key}" for q in graph.projections for key in ("weight", *q.operator.arrays())]

    def placement(self, chip: Chip) -> mapping.Placement:
        """Where the populations are, for who counts what happens there.

        Raises:
            TargetError: the cores of a population are no grid of blocks, or leave neurons out.
        """
        blocks, order = {}, []
        for p in self.populations[1:]:
            if not self.held[p.name].all():
                raise TargetError(f"neurons of {p.name!r} are on no core, and events are not counted")
            mine = [self.cores[i] for i in self.numbers[p.name]]
            edges = [np.unique([core.spans[axis] for core in mine]) for axis in range(3)]
            blocks[p.name] = Blocks(*edges)
            order += self.numbers[p.name]
            if list(blocks[p.name].ranges()) != [core.spans for core in mine]:
                raise TargetError(f"the cores of {p.name!r} are no grid of blocks, in which events can be counted")
        if order != list(range(len(self.cores))):
            raise TargetError("the cores are not in the order of the populations")
        return mapping.held(self.graph, chip, blocks, np.asarray([core.tile for core in self.cores]), self.objective)


def _owners(spans: Array, shape: Shape) -> Array:
    """The part of each neuron, flat, -1 of none; parts are given by ranges, (axes, parts, 2)."""
    found = np.full(shape, -1)
    for number, block in enumerate(spans.swapaxes(0, 1)):
        found[tuple(slice(*span) for span in block)] = number
    return found.reshape(-1)


def _whole(shape: Shape) -> Array:
    """The ranges of one part that holds everything, (axes, 1, 2)."""
    return np.asarray([[(0, n)] for n in reach.volume(shape)])


def _integers(mantissas: Array, exponents: Array | int, what: str) -> Array:
    """``mantissas * 2**exponents`` in the mantissas' own type.

    Raises:
        GraphError: that is no whole number, or too large for the type.
    """
    if not np.any(exponents):
        return mantissas
    values = mantissas.astype(np.float64) * 2.0 ** np.asarray(exponents, np.float64)
    limit = np.iinfo(mantissas.dtype).max
    if np.any(values != np.floor(values)) or np.abs(values).max(initial=0) > limit:
        raise GraphError(f"{what} is no whole number up to {limit:,}")
    return values.astype(mantissas.dtype)


def lower(
    network: Graph, chip: Chip, recipe: Quantization | int = 8, objective: str = "time", *, frames: bool = False
) -> ChipProgram:
    """The program of a network for a chip.

    Args:
        network: float or integer; a float network is quantized such that it fits.
        chip: the chip.
        recipe: for a float network, bits, or more.
        objective: what the placement on the cores serves, as :func:`.mapping.place` takes it.
        frames: as :func:`.fixed_point.fitted` takes it.

    Raises:
        TargetError: the network does not fit the chip's registers or cores, or its schedule takes
            spikes that the chip has not; the message names the population, what it exceeds, and
            what helps.
    """
    spikes.check(network, chip)  # before anything has to fit: another chip may be what helps
    fitted = fixed_point.fitted(network, chip, recipe, frames=frames)
    spikes.check(fitted.graph, chip)
    graph, placement = fitted.graph, mapping.place(fitted.graph, chip, objective)
    plan = schedules.of(graph)
    payloads = spikes.payloads(graph, plan)
    exponents = {name: encoding.exponent for name, encoding in fitted.encodings.items()}
    spans = ((name, block) for name, blocks in placement.blocks.items() for block in blocks.ranges())
    program = ChipProgram(
        chip.name,
        dict(chip.widths),
        0 if chip.fixed_point is None else chip.fixed_point.shift,
        Host(graph.timing, graph.preprocessing, graph.classes, graph.quantization),
        tuple(
            Neurons(p.name, p.kind, p.shape, p.levels, exponents.get(p.name, 0), payloads.get(p.name, 0))
            for p in graph.populations
        ),
        tuple(_synapses(q, fitted) for q in graph.projections),
        dict(_registers(fitted)),
        plan,
        tuple(
            Slice(name, (int(x), int(y)), *block) for (name, block), (x, y) in zip(spans, placement.places, strict=True)
        ),
        {},
        placement.objective,
    )
    return replace(program, routes=program.needed())


def _synapses(q: Projection, fitted: Fitted) -> Synapses:
    pool = None if q.pool is None else Pool(**vars(q.pool))
    encoding = fitted.encodings.get(q.target)
    exponent = 0 if encoding is None else encoding.weights[q.name]
    operator, arrays = q.operator, q.operator.arrays()
    parameters = {key: value for key, value in operator.parameters().items() if key not in arrays}
    return Synapses(q.source, q.target, operator.name, parameters, pool, exponent, q.number)


def _registers(fitted: Fitted) -> Iterator[tuple[str, Array]]:
    """What :attr:`ChipProgram.registers` has."""
    graph = fitted.graph
    for p in graph.populations:
        if not p.dynamics.counted:
            yield f"{p.name}.scale", p.threshold
        if p is graph.input:
            yield f"{p.name}.offset", p.bias
        encoding = fitted.encodings.get(p.name)
        threshold = p.threshold if encoding is None else encoding.threshold
        if threshold is not None and p is not graph.input:
            yield f"{p.name}.threshold", threshold.astype(np.int32)
        if encoding is not None and not p.dynamics.adds:
            yield f"{p.name}.bias", encoding.bias.astype(np.int32)
            yield f"{p.name}.bias_exponents", encoding.bias_exponents.astype(np.int8)
    for q in graph.projections:
        power = 0 if q.target not in fitted.encodings else common_exponent(q.operator.weight)
        yield f"{q.name}.weight", q.operator.weight >> power if power else q.operator.weight
        yield from ((f"{q.name}.{key}", array) for key, array in q.operator.arrays().items())
