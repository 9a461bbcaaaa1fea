"""Chips as data: bit widths and energies from a TOML file with a source for every figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pascal_nm.common.band import Band
from pascal_nm.common.files import readable
from pascal_nm.errors import FileError
from pascal_nm.hw_targets import tables
from pascal_nm.hw_targets.tables import Names, Within
from pascal_nm.simulation.events import EVENTS

PRICED = tuple(event.name for event in EVENTS.values() if event.priced)
"""Events that a chip may give an energy."""

LATENCIES = tuple(dict.fromkeys(event.latency for event in EVENTS.values() if event.latency))
"""Events that may take time on a chip."""

PER_COMPARTMENT = ("update", "idle")
"""Those of a compartment, of which a neuron may have several."""

WIDTHS = ("weight", "membrane", "threshold", "bias")
"""What may have a limit of bits."""

PJ = 1e-12
MILLI, MICRO, NS = 1e-3, 1e-6, 1e-9

Price = Annotated[float, Within(0, 10**12)]
"""Picojoules, or nanoseconds: up to a joule, and to a quarter of an hour."""

Bits = Annotated[int, Within(1, 1 << 12)]
"""Of a number, or of an access of memory."""

Width = Annotated[int, Within(2, 64)]
"""Bits of a register; signed numbers have a bit for the sign."""

Count = Annotated[int, Within(1, 1 << 32)]
"""Of what a core holds."""

Tiles = Annotated[int, Within(1, 1 << 8)]
"""Along one axis of a mesh, and cores of a tile."""

Exponents = tuple[Annotated[int, Within(-64, 64)], Annotated[int, Within(-64, 64)]]
"""The least and the largest."""


End = Literal["least", "most"]
"""One end of a band."""


@dataclass(frozen=True)
class Figure:
    """A number with its source.

    Attributes:
        value: it.
        source: who says so.
        least: the least that sources or measurements give; None where they agree.
        most: the most, likewise.
    """

    value: Price
    source: str
    least: Price | None = None
    most: Price | None = None

    def at(self, end: End) -> Figure:
        """The figure at one end of its band."""
        bound = self.least if end == "least" else self.most
        return self if bound is None else replace(self, value=bound)

    def band(self, factor: float = 1.0) -> Band:
        """So many times the figure, with its range."""
        low, high = (self.at(end).value for end in ("least", "most"))
        return Band(factor * self.value, factor * low, factor * high)

    @property
    def banded(self) -> bool:
        """Whether sources differ."""
        return self.least is not None or self.most is not None


@dataclass(frozen=True)
class Core:
    """What one core holds.

    Attributes:
        neurons: at most; of fixed neurons, compartments.
        memory_bits: for weights.
        in_axons: at most.
        out_axons: at most.
        shared_convolution: the filters of a convolution are stored once for all positions.
        population_axons: a convolution, pooling or shortcut takes one axon for each pixel of its
            source on a core, for all channels there, not for each neuron.
        source: where the figures come from.
        compartments: of ``neurons`` that a neuron of this package takes; each is updated.
        beside: bits that each stored synapse takes beside its weight.
        index: bits of the place of a synapse, where lists leave out some neurons of a core: those
            of convolutions, and of single synapses.
    """

    neurons: Count
    memory_bits: Count
    in_axons: Count
    out_axons: Count
    shared_convolution: bool
    population_axons: bool
    source: str
    compartments: Annotated[int, Within(1, 64)] = 1
    beside: Annotated[float, Within(0, 64)] = 0.0
    index: Annotated[int, Within(0, 64)] = 0

    @property
    def room(self) -> int:
        """Neurons of this package that it holds."""
        return self.neurons // self.compartments


@dataclass(frozen=True)
class Mesh:
    """How cores are arranged: ``width`` x ``height`` tiles with ``cores_per_tile`` each.

    ``cores`` of a chip are usable.
    """

    width: Tiles
    height: Tiles
    cores_per_tile: Tiles
    cores: Annotated[int, Within(1, 1 << 16)]
    source: str


@dataclass(frozen=True)
class Barrier:
    """Time at the end of each timestep, until all cores agree.

    ``nanoseconds`` are given for so many ``tiles`` in use and more, ``least`` and ``most`` for any
    number of them where sources differ. ``chips`` are further nanoseconds where a network is on
    several chips.
    """

    tiles: tuple[Count, ...]
    nanoseconds: tuple[Price, ...]
    source: str
    least: Price | None = None
    most: Price | None = None
    chips: Figure | None = None

    def at(self, tiles: int, chips: int = 1) -> float:
        """Nanoseconds for so many tiles in use, on so many chips."""
        further = 0.0 if chips == 1 or self.chips is None else self.chips.value
        return further + max(
            (time for least, time in zip(self.tiles, self.nanoseconds, strict=True) if least <= tiles), default=0.0
        )

    def end(self, end: End) -> Barrier:
        """The barrier at one end of its band."""
        bound = self.least if end == "least" else self.most
        times = self.nanoseconds if bound is None else (bound,) * len(self.tiles)
        return replace(self, nanoseconds=times, chips=self.chips and self.chips.at(end))


@dataclass(frozen=True)
class Static:
    """Power that a chip draws whatever its neurons do, in milliwatts.

    Attributes:
        chip: of a chip that is switched on.
        core: of each core in use, besides; None where it is in that of the chip, or not known.
    """

    chip: Figure
    core: Figure | None = None

    def watts(self, chips: int, cores: int) -> float:
        """Power of so many chips, on which so many cores are in use."""
        return MILLI * (chips * self.chip.value + cores * (0.0 if self.core is None else self.core.value))


@dataclass(frozen=True)
class Host:
    """What feeds a chip and reads it.

    Attributes:
        value: microseconds for each value, or spike, that is sent into the chip.
        readout: microseconds for each value that is read; None where it is not known.
        power: milliwatts of the processor of each chip that does so and starts the timesteps, while
            an image takes; None where it is not known.
    """

    value: Figure
    readout: Figure | None = None
    power: Figure | None = None

    def watts(self, chips: int) -> float:
        """Power of the processors of so many chips."""
        return 0.0 if self.power is None else MILLI * chips * self.power.value

    def seconds(self, values: float, outputs: float) -> float:
        """Time of so many values in and out."""
        return MICRO * (values * self.value.value + outputs * (0.0 if self.readout is None else self.readout.value))


@dataclass(frozen=True)
class Synapse:
    """What an operation in one kind of synapse takes, where it is not what a dense one takes.

    Attributes:
        energy: picojoules.
        latency: nanoseconds.
    """

    energy: Figure
    latency: Figure


SYNAPSE_KINDS = ("convolution", "single")
"""Kinds of synapses beside dense ones: with shared filters, and listed one by one."""


@dataclass(frozen=True)
class FixedPoint:
    """Numbers in two parts, mantissa and exponent.

    A weight is ``mantissa * 2**(shift + exponent)`` units of the membrane, a threshold
    ``mantissa * 2**shift``, a bias ``mantissa * 2**exponent``.

    Attributes:
        shift: of weights and thresholds.
        weight_exponents: least and largest, one for each projection.
        bias_exponents: least and largest, one for each neuron.
        source: where the figures come from.
    """

    shift: Annotated[int, Within(0, 16)]
    weight_exponents: Exponents
    bias_exponents: Exponents
    source: str


@dataclass(frozen=True)
class Memory:
    """What moving data costs where the energies of events are arithmetic only.

    The bits of an operation are docs/chips.md's.

    A number of b bits costs b / ``width`` of an access: neighbours are stored together
    and used together.

    Attributes:
        access: picojoules.
        width: bits that an access moves.
        weight: bits of a weight.
        activation: bits of a value that the source network's layers pass on, and of a neuron's
            spike counter, which holds the same number.
        potential: bits of a membrane potential.
    """

    access: Figure
    width: Bits
    weight: Bits
    activation: Bits
    potential: Bits

    def joules(self, bits: Any) -> Any:
        """Energy of moving so many bits."""
        return bits / self.width * self.access.value * PJ


@dataclass(frozen=True)
class Neuron:
    """What a chip's neurons compute.

    Attributes:
        kind: one of :data:`NEURONS`.
        source: who says so.
    """

    kind: str
    source: str


NEURONS = ("fixed", "programmable")
"""A neuron model of the chip's own with parameters, or programs."""


@dataclass(frozen=True)
class Compartments:
    """Fixed neurons as threshold units, which forget a timestep in the next, and their synapses.

    A neuron of L levels runs there as L units, one for each level
    (:mod:`pascal_nm.hw_targets.copies`).

    Attributes:
        strict: a unit spikes above its threshold, and not at it.
        weight_exponents: of synapses whose weights are even mantissas: least and largest.
        formats: different exponents of the synapses of a core.
        offset: of shared lists of synapses: their first compartment at most.
        arriving: bits, with the sign, of what all synapses of a compartment bring in a timestep.
        decay: bits of the share of a potential that is left where it decays most: 2**-decay.
        word: bits in which lists of synapses are stored.
        header: bits of a list for each run of its synapses.
        run: synapses of a run.
        injected: microseconds that a spike from outside takes.
        source: where the figures come from.
    """

    strict: bool
    weight_exponents: Exponents
    formats: Count
    offset: Count
    arriving: Width
    decay: Width
    word: Bits
    header: Bits
    run: Count
    injected: Price
    source: str


@dataclass(frozen=True)
class Spikes:
    """What spikes carry, and how long synapses keep what they bring.

    Attributes:
        graded_bits: of the number that a spike carries at most; 0 where it carries none.
        signed: these numbers may be negative.
        source: where the figures come from.
        delay: further timesteps that a synapse delays by at most; None where there is no limit.
    """

    graded_bits: Annotated[int, Within(0, 64)]
    signed: bool
    source: str
    delay: Annotated[int, Within(0, 1 << 16)] | None = None


@dataclass(frozen=True)
class Chip:
    """A chip's description.

    The fields are the keys of its file, their annotations what these may be.

    Attributes:
        name: for people.
        source: where the figures come from as a whole.
        estimate: true where the figures are not published or measured.
        widths: bits of ``weight``, ``membrane``, ``threshold`` and ``bias``; one that is
            missing has no limit.
        energy: picojoules for each event that the chip prices.
        latency: nanoseconds for each of :data:`LATENCIES` that it takes; empty where
            time is not known.
        barrier: at the end of each timestep; None where it is not known.
        core: what a core holds; None for a description without cores.
        mesh: how cores are arranged, likewise.
        fixed_point: how mantissas and exponents make its numbers; None where they are whole
            numbers of ``widths``.
        includes_memory: the energies of events have their memory traffic in them.
        memory: what memory traffic costs besides; None where it is not counted (:func:`load`
            has to be asked).
        compartments: how fixed neurons are threshold units; None where they are none.
        neuron: what neurons compute; of a file that says nothing, whatever they are programmed to.
        spikes: what spikes carry, and delays of synapses; of a file that says nothing, signed
            numbers of 32 bits, and any delay.
        static: power whatever happens; None where it is not known.
        host: what feeds it; None where it is not known.
        synapses: what operations in some kinds of synapses take, by :data:`SYNAPSE_KINDS`;
            ``energy`` and ``latency`` are of the others.
        remark: what who reads the figures has to know; empty for nothing.
    """

    name: str
    source: str
    estimate: bool
    energy: Annotated[Mapping[str, Figure], Names(PRICED)]
    widths: Annotated[Mapping[str, Width], Names(WIDTHS)] = field(default_factory=dict)
    latency: Annotated[Mapping[str, Figure], Names(LATENCIES)] = field(default_factory=dict)
    barrier: Barrier | None = None
    core: Core | None = None
    mesh: Mesh | None = None
    fixed_point: FixedPoint | None = None
    includes_memory: bool = False
    memory: Memory | None = None
    neuron: Neuron = Neuron("programmable", "the file does not say otherwise")
    compartments: Compartments | None = None
    spikes: Spikes = Spikes(32, True, "the file does not say otherwise")
    static: Static | None = None
    host: Host | None = None
    synapses: Annotated[Mapping[str, Synapse], Names(SYNAPSE_KINDS)] = field(default_factory=dict)
    remark: str = ""

    @property
    def memory_traffic(self) -> str:
        """Of memory traffic in the energies: ``in the events``, ``counted``, or ``left out``.

        ``counted`` means besides the events.
        """
        if self.includes_memory:
            return "in the events"
        return "left out" if self.memory is None else "counted"

    @property
    def prices(self) -> dict[str, Figure]:
        """Picojoules of each event that costs something.

        A graded operation costs what a multiply-accumulate does where the file does not price it,
        and a neuron what its compartments do.
        """
        found = {"graded_operation": self.energy["multiply_accumulate"], **self.energy}
        return {event: self._times(event, figure) for event, figure in found.items()}

    def nanoseconds(self, event: str) -> float:
        """Time of one of :data:`LATENCIES`; 0 where the file gives none."""
        return self._times(event, self.latency[event]).value if event in self.latency else 0.0

    def more(self, kind: str) -> tuple[float, float]:
        """Picojoules and nanoseconds by which an operation in a kind of synapse differs."""
        if kind not in self.synapses:
            return 0.0, 0.0
        own = self.synapses[kind]
        return (
            own.energy.value - self.energy["synaptic_operation"].value,
            own.latency.value - self.nanoseconds("synaptic_operation"),
        )

    def _times(self, event: str, figure: Figure) -> Figure:
        """A figure of one compartment as that of a neuron."""
        n = 1 if self.core is None or event not in PER_COMPARTMENT else self.core.compartments
        if n == 1:
            return figure
        least, most = (None if bound is None else n * bound for bound in (figure.least, figure.most))
        return replace(figure, value=n * figure.value, least=least, most=most)

    @cached_property
    def banded(self) -> bool:
        """Whether sources differ about any of its figures."""
        return self.uneven or any(figure.banded for _, figure in _figures(self))

    @cached_property
    def uneven(self) -> bool:
        """Whether they differ about its times."""
        barrier = self.barrier
        figures = [*self.latency.values(), *(each.latency for each in self.synapses.values())]
        if barrier is not None and barrier.chips is not None:
            figures.append(barrier.chips)
        wide = barrier is not None and (barrier.least is not None or barrier.most is not None)
        return wide or any(figure.banded for figure in figures)

    def at(self, end: End) -> Chip:
        """The chip with every figure at one end of its band."""

        def all_of(figures: Mapping[str, Figure]) -> dict[str, Figure]:
            return {name: figure.at(end) for name, figure in figures.items()}

        s, h = self.static, self.host
        return replace(
            self,
            energy=all_of(self.energy),
            latency=all_of(self.latency),
            barrier=self.barrier and self.barrier.end(end),
            static=s and Static(s.chip.at(end), s.core and s.core.at(end)),
            host=h and Host(h.value.at(end), h.readout and h.readout.at(end), h.power and h.power.at(end)),
            synapses={kind: Synapse(x.energy.at(end), x.latency.at(end)) for kind, x in self.synapses.items()},
        )


def available() -> list[str]:
    """Names of the chips that come with the package."""
    return sorted(f.name.removesuffix(".toml") for f in _folder().iterdir() if f.name.endswith(".toml"))


def load(name: str, *, memory: bool = False) -> Chip:
    """A chip by its name, or from a TOML file of one's own.

    Args:
        name: one of :func:`available`, or a path.
        memory: energies are to include memory traffic: the events' own, or else that of the file's
            [memory] section is counted.

    Raises:
        FileError: an unknown name, a missing or damaged file, a figure without its source, nothing
            known of memory.
    """
    if name in available():
        chip = _parse(name, _folder().joinpath(f"{name}.toml").read_bytes())
    elif name.endswith(".toml"):
        chip = _parse(name, readable(Path(name)).read_bytes())
    else:
        raise FileError(f"unknown chip {name!r}: choose from {', '.join(available())}, or give a .toml file")
    if memory and chip.memory is None and not chip.includes_memory:
        raise FileError(
            f"chip {name} does not say what memory traffic costs: add a [memory] section, or includes_memory = true "
            f"where its events have it in them (docs/chips.md)"
        )
    return chip if memory else replace(chip, memory=None)


def _parse(name: str, text: bytes) -> Chip:
    try:
        chip = tables.parse(Chip, text)
    except FileError as error:
        raise FileError(f"chip {name}: {error} (docs/extend.md describes the file)") from error
    for contradiction in _contradictions(chip):
        raise FileError(f"chip {name}: {contradiction}")
    return chip


def _contradictions(chip: Chip) -> Iterator[str]:
    """What single values do not show."""
    if missing := {"synaptic_operation", "multiply_accumulate", "update"} - set(chip.energy):
        yield f"no energy for {', '.join(sorted(missing))}"
    if chip.neuron.kind not in NEURONS:
        yield f"neuron.kind is {chip.neuron.kind!r}: choose {' or '.join(NEURONS)}"
    if (chip.core is None) != (chip.mesh is None):
        yield "[core] and [mesh] belong together"
    if (m := chip.mesh) is not None and m.cores > m.width * m.height * m.cores_per_tile:
        yield f"{m.cores} cores do not fit on its {m.width} x {m.height} tiles"
    if (b := chip.barrier) is not None and len(b.tiles) != len(b.nanoseconds):
        yield "[barrier] has one time for each number of tiles"
    if (numbers := chip.fixed_point) is not None:
        if missing := set(WIDTHS) - set(chip.widths):
            yield f"[fixed_point] needs the widths of {', '.join(sorted(missing))}"
        for key in ("weight_exponents", "bias_exponents"):
            if (pair := getattr(numbers, key))[0] > pair[1]:
                yield f"fixed_point.{key} has its largest first"
    if (b := chip.barrier) is not None:
        low = min(b.nanoseconds) if b.least is None else b.least
        high = max(b.nanoseconds) if b.most is None else b.most
        for time in b.nanoseconds:
            if not low <= time <= high:
                yield f"barrier is {time:g}, outside of its band of {low:g} to {high:g}"
    for place, figure in _figures(chip):
        low, high = (figure.value if bound is None else bound for bound in (figure.least, figure.most))
        if not low <= figure.value <= high:
            yield f"{place} is {figure.value:g}, outside of its band of {low:g} to {high:g}"
    if chip.core is not None and chip.core.room < 1:
        yield f"a neuron takes {chip.core.compartments} compartments, and a core has {chip.core.neurons}"
    if chip.includes_memory and chip.memory is not None:
        yield "includes_memory = true, and so no [memory] section, or it would count twice"


def _figures(chip: Chip) -> Iterator[tuple[str, Figure]]:
    """Every figure that may have a band, with its dotted name."""
    for section in ("energy", "latency"):
        yield from ((f"{section}.{event}", figure) for event, figure in getattr(chip, section).items())
    for kind, synapse in chip.synapses.items():
        yield from ((f"synapses.{kind}.{name}", getattr(synapse, name)) for name in ("energy", "latency"))
    for section, names in (
        ("static", ("chip", "core")),
        ("host", ("value", "readout", "power")),
        ("barrier", ("chips",)),
    ):
        part = getattr(chip, section)
        for name in names if part is not None else ():
            if (figure := getattr(part, name)) is not None:
                yield f"{section}.{name}", figure


def _folder() -> Any:
    return resources.files("pascal_nm.hw_targets") / "chips"
