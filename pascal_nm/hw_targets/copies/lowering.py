r"""From an integer network to threshold copies on a chip's compartments.

Copy k of a neuron spikes where :math:`z \ge t_k` with a whole number
:math:`t_k = k \theta - \lfloor \theta / 2 \rfloor - b`. With u units of the membrane for one of the
network's, and the threshold T that all compartments of a core share, it has the bias B where
:math:`u z + B > T` means the same: any B above :math:`T - u t_k` and not above
:math:`T - u (t_k - 1)`. Of these the register holds one, or the bias compartment brings the rest.

Max populations and relays are units that spike where one of their window does (or all of it, where
the smallest count is the largest value), copy by copy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.errors import TargetError
from pascal_nm.hw_targets.blocks import Blocks, edges
from pascal_nm.hw_targets.chip import Chip
from pascal_nm.hw_targets.copies.program import ARRAYS, HOST, CopiesProgram, Host, Layer, Limits
from pascal_nm.network.bounds import common_exponent
from pascal_nm.network.graph import Graph, Population, Projection, Quantization, Timing
from pascal_nm.network.quantization import quantize
from pascal_nm.network.reach import Connections, Pattern, volume
from pascal_nm.network.relays import balanced, depths

_COARSEST = 12
"""Exponent of a bias compartment's weights at most, above the others': what is left of a bias then
fits into its register."""

_INDEX_BITS = np.asarray([0, 6, 7, 8, 9, 10, 11, 12])
"""Bits that an index of a compartment may take in a list of synapses (NengoLoihi's block.py)."""


def lower(network: Graph, chip: Chip, recipe: Quantization | int = 8) -> CopiesProgram:
    """The program of a network for a chip of fixed compartments.

    Args:
        network: float or integer; a float network is quantized.
        chip: with cores and compartments.
        recipe: for a float network, bits, or more.

    Raises:
        TargetError: what does not fit, where, and what helps.
    """
    limits = limits_of(chip)
    if not network.is_integer:
        network = quantize(network, recipe)
    # Counts are those of every schedule; graded is one timestep a layer, as here.
    return placed(network.replace(timing=Timing("graded")), chip.name, limits)


def limits_of(chip: Chip) -> Limits:
    """What a chip's file says of its compartments.

    Raises:
        TargetError: it describes none.
    """
    if chip.compartments is None or chip.core is None or chip.mesh is None or chip.fixed_point is None:
        raise TargetError(f"{chip.name} is described without [compartments], [core], [mesh] or [fixed_point]")
    return Limits(
        chip.core,
        chip.compartments,
        chip.fixed_point.shift,
        chip.widths["weight"],
        chip.widths["bias"],
        chip.fixed_point.bias_exponents[1],
        chip.widths["threshold"],
        chip.mesh.cores,
    )


def placed(network: Graph, chip: str, limits: Limits) -> CopiesProgram:
    """The program of an integer network within limits; the same network gives the same program.

    Raises:
        TargetError: as :func:`lower`.
    """
    for p in network.populations:
        _check(p, chip)
    graph = balanced(network)
    return _Lowering(network, graph, chip, limits).program()


def _check(p: Population, chip: str) -> None:
    if p.dynamics.summed:
        raise TargetError(
            f"{chip} cannot run the linear population {p.name!r}: its spikes carry no numbers; compose all linear "
            'layers (growth=float("inf") in convert, --spikes-only in pascal-nm export)'
        )
    if p.dynamics.fires and not p.dynamics.is_qcfs:
        raise TargetError(f"{chip} cannot run {p.name!r}: neurons of kind {p.kind} have no copies of one level")


class _Source(NamedTuple):
    """One projection onto a population, neuron by neuron.

    Attributes:
        name: of the source.
        matrix: CSR (targets, sources), int64.
        exponent: of all weights.
        alike: copy k of the source has synapses onto copy k of the target alone.
    """

    name: str
    matrix: Any
    exponent: int
    alike: bool


class _List(NamedTuple):
    """Synapses of axons: compartments, from an axon's offset on, and even mantissas of weights."""

    compartments: Array
    weights: Array


class _Senders(NamedTuple):
    """Who sends to axons of a core: a copy of each of some neurons; of the input a line's bit."""

    name: str
    neurons: Array
    copy: int
    axons: Array


@dataclass
class _Tables:
    """The arrays of a program while it grows."""

    parts: dict[str, list[Array]] = field(default_factory=lambda: {name: [] for name in ARRAYS})

    def add(self, **values: Any) -> None:
        for name, value in values.items():
            self.parts[name].append(np.atleast_1d(np.asarray(value)))

    def arrays(self) -> dict[str, Array]:
        return {
            name: np.concatenate(self.parts[name] or [np.zeros(0)]).astype(kind) for name, (kind, _) in ARRAYS.items()
        }


class _Lowering:
    """One network on one chip."""

    def __init__(self, network: Graph, graph: Graph, chip: str, limits: Limits) -> None:
        self.network, self.graph, self.chip, self.limits = network, graph, chip, limits
        self.depth = depths(graph)
        self.order = [p for p in graph.populations if not p.dynamics.injects]
        self.planes, self.offset = _coded(graph)
        self.delays = tuple(sorted({self.depth[q.target] - 1 for q in graph.outgoing(graph.input.name)}))
        self.blocks: dict[str, Blocks] = {}
        self.first: dict[str, Array] = {}
        """By population the compartment of each neuron's first copy, flat."""

    def program(self) -> CopiesProgram:
        onto = {}
        for p in reversed(self.order):  # targets first: how many axons leave a core is up to them
            onto[p.name] = _Onto(self, p)
            self.blocks[p.name] = onto[p.name].cut()
        tables, layers, core = _Tables(), [], 0
        compartments = lists = axons = 0
        for number, p in enumerate(self.order):
            mine = onto[p.name]
            layers.append(Layer(p.name, p.shape, mine.copies, self.depth[p.name], mine.unit, p.dynamics.reads_out))
            first = np.zeros(p.size, np.int64)
            for held in self.blocks[p.name].ranges():
                made = mine.core(held)
                first[made.neurons] = compartments + mine.copies * np.arange(len(made.neurons))
                tables.add(core_first=compartments)
                self._fill(tables, number, made, core, compartments, lists, axons)
                compartments += len(made.bias)
                lists += len(made.lists)
                axons += len(made.axons)
                core += 1
            self.first[p.name] = first
        tables.add(core_first=compartments)
        sizes = np.concatenate(tables.parts["list_first"])
        tables.parts["list_first"] = [np.concatenate([[0], np.cumsum(sizes)])]
        return CopiesProgram(
            self.chip,
            self.limits,
            self.network,
            tuple(layers),
            Host(self.planes, self.delays),
            tables.arrays(),
            self.offset,
            {p.name: onto[p.name].biases.reshape(p.shape) for p in self.order if p.dynamics.reads_out},
        )

    def _fill(
        self, tables: _Tables, number: int, made: _Core, core: int, compartments: int, lists: int, axons: int
    ) -> None:
        """Append one core."""
        own = len(made.bias) - made.helped
        copies = own // max(1, len(made.neurons))
        tables.add(
            bias=made.bias,
            bias_exponent=made.bias_exponents,
            threshold=made.threshold,
            population=np.r_[np.full(own, number), np.full(made.helped, -1)],
            neuron=np.r_[made.neurons.repeat(copies), np.full(made.helped, -1)],
            copy=np.r_[np.tile(np.arange(copies), len(made.neurons)), np.full(made.helped, -1)],
        )
        for each in made.lists:
            tables.add(list_first=len(each.compartments), list_compartment=each.compartments, list_weight=each.weights)
        table = np.asarray(made.axons, np.int64).reshape(-1, 3)
        tables.add(
            axon_core=np.full(len(table), core),
            axon_exponent=table[:, 0],
            axon_list=table[:, 1] + lists,
            axon_offset=table[:, 2],
        )
        for sender in made.senders:
            if sender.name == self.graph.input.name:
                sources = HOST - (sender.copy * self.graph.input.size + sender.neurons)
            else:
                sources = self.first[sender.name][sender.neurons] + sender.copy
            tables.add(route_source=sources, route_axon=axons + sender.axons)
        if made.helped:
            last = max((int(each.axons.max()) for each in made.senders), default=-1)
            helping = np.arange(last + 1, len(table))
            tables.add(route_source=np.full(len(helping), compartments + own), route_axon=axons + helping)


def _coded(graph: Graph) -> tuple[int, Array]:
    """Bits of the inputs, and what makes them positive numbers: pixels, where they are stored."""
    p, pre = graph.input, graph.preprocessing
    zero = None if pre is None else p.zero(pre)
    if pre is not None and zero is not None and np.all(zero >= 0) and float(pre.scale).is_integer():
        return max(1, int(pre.scale).bit_length()), np.asarray(zero, np.int64)
    return (2 * p.levels).bit_length(), np.full((1,) * len(p.shape), p.levels, np.int64)


class _Core(NamedTuple):
    """What one core of a population holds.

    Attributes:
        neurons: flat, in the order of their compartments.
        bias: mantissas; the bias compartment comes last.
        bias_exponents: likewise.
        threshold: mantissas.
        helped: 1 where there is a bias compartment, else 0.
        lists: of synapses.
        axons: (exponent, number of the list, offset) each, of any number of senders.
        senders: of all axons but those of the bias compartment, which are the last.
    """

    neurons: Array
    bias: Array
    bias_exponents: Array
    threshold: Array
    helped: int
    lists: list[_List]
    axons: list[tuple[int, int, int]]
    senders: list[_Senders]


class _Onto:
    """A population, and all synapses onto it."""

    def __init__(self, lowering: _Lowering, p: Population) -> None:
        self.of, self.p, self.limits = lowering, p, lowering.limits
        self.copies = p.levels if p.dynamics.counted else 1
        self.sources = [self._source(q) for q in lowering.graph.incoming(p.name)]
        self.volume = volume(p.shape)

    def _source(self, q: Projection) -> _Source:
        graph = self.of.graph
        shape = graph[q.source].shape
        matrix = q.operator.matrix(q.pooled(shape)).astype(np.int64)
        if q.pool is not None:
            matrix = matrix @ q.pool.matrix(shape)
        matrix = matrix.tocsr()
        matrix.eliminate_zeros()
        exponent = common_exponent(matrix.data) if matrix.nnz else 0
        most = 2 ** (self.limits.weight - 1) - 1
        largest = int(np.abs(matrix.data).max(initial=0)) >> exponent
        if largest > most:
            raise TargetError(
                f"{q.source} -> {q.target}: a weight of {largest}, and {self.of.chip} has {self.limits.weight} bits: "
                "quantize to fewer bits (--bits), or use max pooling where windows overlap"
            )
        return _Source(q.source, matrix, exponent, self.p.dynamics.relays)

    # -- thresholds --------------------------------------------------------------------------------

    @cached_property
    def _reached(self) -> tuple[Array, Array]:
        """The largest sums that synapses bring each neuron, in the network's integers: up, down."""
        up, down = np.zeros((2, self.p.size), np.int64)
        for each in self.sources:
            source = self.of.graph[each.name]
            most = 2**self.of.planes - 1 if source.dynamics.injects else (1 if each.alike else source.levels)
            up += np.asarray(each.matrix.maximum(0).sum(1)).reshape(-1) * most
            down -= np.asarray(each.matrix.minimum(0).sum(1)).reshape(-1) * most
        return up, down

    @cached_property
    def biases(self) -> Array:
        """What a neuron adds to what comes, of the readout's; with that of the coded input."""
        found = np.broadcast_to(self.p.bias, self.p.shape).reshape(-1).astype(np.int64)
        for each in self.sources:
            source = self.of.graph[each.name]
            if source.dynamics.injects:
                full = np.broadcast_to(self.of.offset, source.shape).reshape(-1)
                found = found - np.asarray(each.matrix @ full).reshape(-1)
        return found

    @cached_property
    def needed(self) -> Array:
        """The sum from which on each copy spikes, (neurons, copies); see the module."""
        p = self.p
        if p.dynamics.relays:
            window = np.asarray(self.sources[0].matrix.sum(1)).reshape(-1, 1)
            sign = np.broadcast_to(p.dynamics.sign(p), p.shape).reshape(-1, 1)
            return np.repeat(np.where(sign < 0, window, 1), self.copies, 1)
        theta = np.broadcast_to(p.threshold, p.shape).reshape(-1, 1).astype(np.int64)
        found = np.arange(1, self.copies + 1) * theta - theta // 2 - self.biases[:, None]
        up, down = self._reached
        return np.asarray(np.clip(found, -down[:, None], up[:, None] + 1))

    @cached_property
    def _exponents(self) -> set[int]:
        """Of all weights onto it, those of a pixel's bits among them."""
        found = set()
        for each in self.sources:
            planes = self.of.planes if self.of.graph[each.name].dynamics.injects else 1
            found |= {each.exponent + b for b in range(planes)}
        return found

    @cached_property
    def base(self) -> int:
        """The chip's exponent of weights of exponent 0: the largest that overflows nothing."""
        low, high = self.limits.compartments.weight_exponents
        up, down = self._reached
        helper = 0 if self.p.dynamics.reads_out else np.abs(self.needed).max(initial=0)
        largest = int(max(up.max(initial=0), down.max(initial=0))) + int(helper)
        for base in range(0, low - 1, -1):
            unit = 2 ** (self.limits.shift + 1 + base)
            fits = all(low <= base + e <= high for e in self._exponents)
            if fits and largest * unit < 2 ** (self.limits.compartments.arriving - 1):
                return base
        raise TargetError(
            f"{self.p.name} does not fit {self.of.chip}: up to {largest:,} arrives in a timestep, or weights need "
            f"exponents beyond {low} to {high}: quantize to fewer bits (--bits), or use fewer levels"
        )

    @property
    def unit(self) -> int:
        """Units of the membrane for one of the network's integers."""
        return int(2 ** (self.limits.shift + 1 + self.base))

    # -- cores -------------------------------------------------------------------------------------

    def cut(self) -> Blocks:
        """The blocks of the fewest cores within all limits.

        Raises:
            TargetError: one neuron alone exceeds a limit.
        """
        why, failed = "", np.zeros((0, 3), np.int64)
        for sizes in self._shapes():
            if (np.asarray(sizes) >= failed).all(1).any():
                continue  # larger blocks hold no less
            parts = [-(-n // size) for n, size in zip(self.volume, sizes, strict=True)]
            blocks = Blocks.of(self.volume, (parts[0], parts[1], parts[2]))
            why = self._exceeds(blocks)
            if not why:
                return blocks
            if "reach" not in why:
                failed = np.r_[failed, [sizes]]
        raise TargetError(f"{self.p.name} does not fit {self.of.chip}: {why}")

    def _shapes(self) -> Iterator[tuple[int, int, int]]:
        """Sizes of blocks, from those of fewest cores on, and of these the most compact ones."""
        most = self.limits.core.neurons - 1
        axes = [np.unique(-(-n // np.arange(1, n + 1))) for n in self.volume]
        c, h, w = (axis.reshape(-1) for axis in np.meshgrid(*axes, indexing="ij"))
        fits = c * h * w * self.copies <= most
        if not fits.any():
            raise TargetError(f"{self.p.name}: {self.copies} copies of one neuron are beyond a core's {most + 1}")
        cores = np.ceil(self.volume[0] / c) * np.ceil(self.volume[1] / h) * np.ceil(self.volume[2] / w)
        # The sources' cores count, too: the more cores a neuron reaches, the fewer share a core.
        cost = cores.copy()
        for q in self.of.graph.incoming(self.p.name):
            source = self.of.graph[q.source]
            if not source.dynamics.injects:
                reached = _arriving(q.reach(source.shape), axes) / source.size
                axons = reached.reshape(-1) * source.levels * source.size / self.limits.core.out_axons
                cost += np.maximum(axons, source.levels * source.size / (most + 1))
        for i in np.lexsort((cores, cost)):
            if fits[i]:
                yield int(c[i]), int(h[i]), int(w[i])

    def _exceeds(self, blocks: Blocks) -> str:
        """The limit that a core is beyond; "" where none is."""
        leaving = blocks.summed(self._leaving)
        core = self.limits.core
        if leaving.max() + 1 > core.out_axons:
            return (
                f"its neurons reach so many cores that one needs {leaving.max() + 1:,} of {core.out_axons:,} out-axons"
            )
        ranges = list(blocks.ranges())
        middle = ranges[int(np.argmax(blocks.sizes))] if len(ranges) < 3 else ranges[len(ranges) // 2]
        for held in (middle, *ranges):
            made = self.core(held)
            if len(made.axons) > core.in_axons:
                return f"one core hears {len(made.axons):,} neurons and copies, and has {core.in_axons:,} in-axons"
            if (bits := self._bits(made)) > core.memory_bits:
                return f"the synapses of one core take {bits:,} bits, and it has {core.memory_bits:,}"
            if (formats := len({axon[0] for axon in made.axons})) > self.limits.compartments.formats:
                return f"its synapses need {formats} exponents, and a core has {self.limits.compartments.formats}"
        return ""

    @cached_property
    def _leaving(self) -> Array:
        """Axons that leave the copies of each neuron, (C, H, W)."""
        from scipy import sparse

        found = np.zeros(self.p.size, np.int64)
        for q in self.of.graph.outgoing(self.p.name):
            target = self.of.graph[q.target]
            owners = self.of.blocks[q.target].owners
            shape = self.p.shape
            matrix = q.operator.matrix(q.pooled(shape))
            matrix = (matrix if q.pool is None else matrix @ q.pool.matrix(shape)).tocsr()
            members = sparse.csr_matrix(
                (np.ones(target.size, np.int64), (owners, np.arange(target.size))), (owners.max() + 1, target.size)
            )
            reached = members @ abs(matrix).astype(np.int64)
            found += self.copies * np.asarray((reached > 0).sum(0)).reshape(-1)
        return found.reshape(self.volume)

    def _bits(self, made: _Core) -> int:
        """Memory of a core's lists of synapses."""
        kept = self.limits.compartments
        if not made.lists:
            return 0
        exponents = np.zeros(len(made.lists), np.int64)
        for exponent, number, _ in made.axons:
            exponents[number] = exponent
        tops = np.asarray([int(each.compartments.max()) + 1 for each in made.lists])
        sizes = np.asarray([len(each.compartments) for each in made.lists])
        total = 0
        for exponent in np.unique(exponents):
            mine = exponents == exponent
            index = _INDEX_BITS[np.searchsorted(_INDEX_BITS, math.ceil(math.log2(int(tops[mine].max()))))]
            runs, rest = np.divmod(sizes[mine], kept.run)

            def words(synapses: Any, each: int = int(index)) -> Any:
                return -(-(synapses * (self.limits.weight + each) + kept.header) // kept.word)

            total += int((runs * words(kept.run) + np.where(rest > 0, words(rest), 0)).sum()) * kept.word
        return total

    def core(self, held: Sequence[tuple[int, int]]) -> _Core:
        """The core that holds ranges of channels, rows and columns."""
        key = tuple(held)
        if self._made is None or self._made[0] != key:
            self._made = (key, self._core(key))
        return self._made[1]

    _made: tuple[Any, _Core] | None = None

    def _core(self, held: Sequence[tuple[int, int]]) -> _Core:
        block = tuple(slice(*span) for span in held)
        numbers = np.arange(self.p.size).reshape(self.volume)[block]
        neurons = numbers.transpose(1, 2, 0).reshape(-1)  # channels fastest: a pixel's stand together
        found = _Lists(self)
        for each in self.sources:
            found.add(each, each.matrix[neurons].tocsc())
        n = len(neurons) * self.copies
        if self.p.dynamics.reads_out:
            most = 2**self.limits.threshold - 1
            zeros = np.zeros(n, np.int64)
            made = zeros, zeros, np.full(n, most), 0
        else:
            made = self._biased(self.needed[neurons].reshape(-1), found)
        return _Core(neurons, *made, found.lists, found.axons, found.senders)

    def _biased(self, needed: Array, found: _Lists) -> tuple[Array, Array, Array, int]:
        """Mantissas and exponents of biases, thresholds, and whether a bias compartment helps."""
        limits, unit = self.limits, self.unit
        threshold, most = 1 << limits.shift, 2 ** (limits.bias - 1) - 1
        exact = _registers(threshold - unit * (needed - 1), unit, most, limits.bias_exponent)
        if exact is not None:
            return *exact, np.ones(len(needed), np.int64), 0
        coarse = min(_COARSEST, limits.compartments.weight_exponents[1] - self.base)
        steps = -np.rint((needed - 1) / 2**coarse).astype(np.int64)
        rest = _registers(threshold - unit * (needed - 1 + (steps << coarse)), unit, most, limits.bias_exponent)
        if rest is None:
            raise TargetError(f"{self.p.name} does not fit {self.of.chip}: its thresholds are beyond its biases")
        largest = 2 ** (limits.weight - 1) - 1
        while steps.any():
            part = np.clip(steps, -largest, largest)
            (there,) = np.nonzero(part)
            found.append(self.base + coarse, there, part[there])
            steps = steps - part
        always, exponent = 2 * threshold, 0
        while always >> exponent > most:
            exponent += 1
        ones = np.ones(len(needed) + 1, np.int64)
        return np.r_[rest[0], always >> exponent], np.r_[rest[1], exponent], ones, 1


def _registers(above: Array, unit: int, most: int, largest: int) -> tuple[Array, Array] | None:
    """Mantissas and exponents of biases up to ``above``, and by less than a unit below.

    None where one has none.
    """
    mantissa, exponent = np.zeros((2, len(above)), np.int64)
    open_ = np.ones(len(above), bool)
    for e in range(largest + 1):
        value = above >> e
        fits = open_ & (above - (value << e) < unit) & (np.abs(value) <= most)
        mantissa[fits], exponent[fits] = value[fits], e
        open_ &= ~fits
    return None if open_.any() else (mantissa, exponent)


def _arriving(reach: Connections, axes: Sequence[Array]) -> Array:
    """Source neurons that blocks hear, all added up, by the sizes of blocks along each axis."""
    found = []
    for matrix, sizes in zip(reach.cover if isinstance(reach, Pattern) else reach, axes, strict=True):
        heard = matrix > 0
        cuts = [edges(len(heard), -(-len(heard) // int(size)))[:-1] for size in sizes]
        found.append(np.asarray([np.logical_or.reduceat(heard, cut, axis=0).sum() for cut in cuts], np.float64))
    return np.asarray(np.einsum("i,j,k->ijk", *found))


class _Lists:
    """The lists and axons of one core while it is made; equal lists are kept once."""

    def __init__(self, onto: _Onto) -> None:
        self.onto = onto
        self.lists: list[_List] = []
        self.axons: list[tuple[int, int, int]] = []
        self.senders: list[_Senders] = []
        self._known: dict[tuple[int, bytes, bytes], int] = {}
        self._joined: dict[tuple[int, int, int], int] = {}

    def add(self, each: _Source, columns: Any) -> None:
        """All axons of a projection onto the core: CSC (own neurons, sources)."""
        onto, lowering = self.onto, self.onto.of
        columns.sort_indices()
        neurons = np.flatnonzero(np.diff(columns.indptr))
        if not len(neurons):
            return
        starts, sizes = columns.indptr[neurons].astype(np.int64), np.diff(columns.indptr)[neurons]
        rows, weights = columns.indices.astype(np.int64) * onto.copies, columns.data >> each.exponent
        source, exponent = lowering.graph[each.name], onto.base + each.exponent
        copies = 1 if each.alike else onto.copies
        if not source.dynamics.injects:
            for copy in range(source.levels):
                # All copies of a source have the same synapses, but for those onto their like.
                if each.alike or copy == 0:
                    axons = self._axons(exponent, rows + copy * each.alike, weights, starts, sizes, copies)
                self.senders.append(_Senders(each.name, neurons, copy, axons))
            return
        line = lowering.delays.index(lowering.depth[onto.p.name] - 1) * lowering.planes
        for bit in range(lowering.planes):
            axons = self._axons(exponent + bit, rows, weights, starts, sizes, copies)
            self.senders.append(_Senders(each.name, neurons, line + bit, axons))

    def _axons(self, exponent: int, rows: Array, weights: Array, starts: Array, sizes: Array, copies: int) -> Array:
        """The axon of each of the runs that begin at ``starts`` and have ``sizes``."""
        offsets = np.minimum(rows[starts], self.onto.limits.compartments.offset)
        away = rows - offsets.repeat(sizes)
        marks = [np.add.reduceat(_mixed(away, weights, seed), starts) for seed in (0, 1)]
        _, firsts, alike = np.unique(
            np.stack([*marks, sizes.astype(np.uint64)]), axis=1, return_index=True, return_inverse=True
        )
        alike = alike.reshape(-1)
        _require_equal(away, weights, starts, sizes, firsts[alike])
        names = []
        for first in firsts:
            span = slice(starts[first], starts[first] + sizes[first])
            compartments = (away[span, None] + np.arange(copies)).reshape(-1)
            names.append(self._list(exponent, compartments, weights[span].repeat(copies)))
        apart = self.onto.limits.compartments.offset + 1
        pairs, which = np.unique(alike * apart + offsets, return_inverse=True)
        axons = [self._axon(exponent, names[pair // apart], int(pair % apart)) for pair in pairs]
        return np.asarray(axons, np.int64)[which.reshape(-1)]

    def append(self, exponent: int, rows: Array, weights: Array) -> None:
        """A further axon with synapses onto these compartments, of these mantissas."""
        offset = min(int(rows[0]), self.onto.limits.compartments.offset)
        self._axon(exponent, self._list(exponent, rows - offset, weights), offset)

    def _list(self, exponent: int, compartments: Array, weights: Array) -> int:
        """The number of a list; whole weights are kept as even mantissas."""
        kept = compartments.astype(np.int16), (2 * weights).astype(np.int16)
        key = (exponent, kept[0].tobytes(), kept[1].tobytes())
        if key not in self._known:
            self._known[key] = len(self.lists)
            self.lists.append(_List(*kept))
        return self._known[key]

    def _axon(self, exponent: int, number: int, offset: int) -> int:
        """The number of an axon: all that have the same synapses share one."""
        key = (exponent, number, offset)
        if key not in self._joined:
            self._joined[key] = len(self.axons)
            self.axons.append(key)
        return self._joined[key]


def _mixed(rows: Array, weights: Array, seed: int) -> Array:
    """A number of 64 bits for each synapse, whose sums tell lists of synapses apart."""
    with np.errstate(over="ignore"):
        found = rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + weights.astype(np.int64).astype(np.uint64)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9 + 2 * seed), (27, 0x94D049BB133111EB + 4 * seed)):
            found = (found ^ (found >> np.uint64(shift))) * np.uint64(factor)
        return np.asarray(found ^ (found >> np.uint64(31)))


def _require_equal(rows: Array, weights: Array, starts: Array, sizes: Array, like: Array) -> None:
    """That runs are equal to those that they are taken for, as their marks say."""
    within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    mine, others = np.repeat(starts, sizes) + within, np.repeat(starts[like], sizes) + within
    if np.any(rows[mine] != rows[others]) or np.any(weights[mine] != weights[others]):
        raise TargetError("two lists of synapses have the same mark; this is a fault of the package")
