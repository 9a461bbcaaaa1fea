"""Chips as data: bit widths and energies from a TOML file with a source for every figure."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from pascal_nm.activity import LayerEvents, source_operations
from pascal_nm.errors import FileError
from pascal_nm.files import readable
from pascal_nm.graph import Array, Graph

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EVENTS = ("synaptic_operation", "multiply_accumulate", "update", "idle", "emitted", "message", "hop_x", "hop_y")
"""Events that a chip may price; see :class:`pascal_nm.activity.LayerEvents`, and for the last three :mod:`pascal_nm.hw_targets.traffic`."""

LATENCIES = ("synaptic_operation", "update", "idle", "emitted", "message", "message_in", "hop_x", "hop_y")
"""What takes time: events, and a message's arrival."""

KINDS = (*EVENTS, "synaptic_memory", "neuron_memory")
"""Where energy goes: the events, and memory traffic of synapses and of neurons where it is counted apart (:class:`Memory`)."""

NEURON_KINDS = ("update", "idle", "neuron_memory")
"""Those of the neurons' own work; the rest does not depend on what the neurons do inside."""

PJ, NS = 1e-12, 1e-9


@dataclass(frozen=True)
class Figure:
    """A number with its source."""

    value: float
    source: str


@dataclass(frozen=True)
class Core:
    """What one core holds.

    Attributes:
        neurons: at most.
        memory_bits: for weights.
        in_axons: at most.
        out_axons: at most.
        shared_convolution: the filters of a convolution are stored once for all positions.
        population_axons: a convolution, pooling or shortcut takes one axon for each core of its source, not for each neuron.
        source: where the figures come from.
    """

    neurons: int
    memory_bits: int
    in_axons: int
    out_axons: int
    shared_convolution: bool
    population_axons: bool
    source: str


@dataclass(frozen=True)
class Mesh:
    """How cores are arranged: ``width`` x ``height`` tiles with ``cores_per_tile`` each, ``cores`` usable ones on a chip."""

    width: int
    height: int
    cores_per_tile: int
    cores: int
    source: str


@dataclass(frozen=True)
class Barrier:
    """Time at the end of each timestep, until all cores agree: ``nanoseconds`` from so many ``tiles`` in use on."""

    tiles: tuple[int, ...]
    nanoseconds: tuple[float, ...]
    source: str

    def at(self, tiles: int) -> float:
        """Nanoseconds for so many tiles in use."""
        return max(
            (time for least, time in zip(self.tiles, self.nanoseconds, strict=True) if least <= tiles), default=0.0
        )


@dataclass(frozen=True)
class FixedPoint:
    """Numbers in two parts: a weight is ``mantissa * 2**(shift + exponent)`` units of the membrane, a threshold ``mantissa * 2**shift``, a bias
    ``mantissa * 2**exponent``.

    Attributes:
        shift: of weights and thresholds.
        weight_exponents: least and largest, one for each projection.
        bias_exponents: least and largest, one for each neuron.
        source: where the figures come from.
    """

    shift: int
    weight_exponents: tuple[int, int]
    bias_exponents: tuple[int, int]
    source: str


@dataclass(frozen=True)
class Memory:
    """What moving data costs where the energies of events are arithmetic only; the bits of an operation are docs/chips.md's.

    A number of b bits costs b / ``width`` of an access: neighbours are stored together and used together.

    Attributes:
        access: picojoules.
        width: bits that an access moves.
        weight: bits of a weight.
        activation: bits of a value that the source network's layers pass on, and of a neuron's spike counter, which holds the same number.
        potential: bits of a membrane potential.
    """

    access: Figure
    width: int
    weight: int
    activation: int
    potential: int

    def joules(self, bits: float) -> float:
        """Energy of moving so many bits."""
        return bits / self.width * self.access.value * PJ


@dataclass(frozen=True)
class Chip:
    """A chip's description.

    Attributes:
        name: for people.
        source: where the figures come from as a whole.
        estimate: true where the figures are not published or measured.
        widths: bits of ``weight``, ``membrane``, ``threshold`` and ``bias``; one that is missing has no limit.
        energy: picojoules for each event that the chip prices.
        latency: nanoseconds for each of :data:`LATENCIES` that it takes; empty where time is not known.
        barrier: at the end of each timestep; None where it is not known.
        core: what a core holds; None for a description without cores.
        mesh: how cores are arranged, likewise.
        fixed_point: how mantissas and exponents make its numbers; None where they are whole numbers of ``widths``.
        includes_memory: the energies of events have their memory traffic in them.
        memory: what memory traffic costs besides; None where it is not counted (:func:`load` has to be asked).
        remark: what who reads the figures has to know; empty for nothing.
    """

    name: str
    source: str
    estimate: bool
    widths: Mapping[str, int]
    energy: Mapping[str, Figure]
    latency: Mapping[str, Figure] = field(default_factory=dict)
    barrier: Barrier | None = None
    core: Core | None = None
    mesh: Mesh | None = None
    fixed_point: FixedPoint | None = None
    includes_memory: bool = False
    memory: Memory | None = None
    remark: str = ""

    @property
    def memory_traffic(self) -> str:
        """Where memory traffic is in the energies: ``in the events``, ``counted`` besides, or ``left out``."""
        if self.includes_memory:
            return "in the events"
        return "left out" if self.memory is None else "counted"

    def nanoseconds(self, event: str) -> float:
        """Time of one of :data:`LATENCIES`; 0 where the file gives none."""
        return self.latency[event].value if event in self.latency else 0.0


@dataclass(frozen=True, eq=False)
class LayerEnergy:
    """Joules of one population: by kind (:data:`KINDS`), mean over the images."""

    name: str
    joules: Mapping[str, float]
    events: LayerEvents

    @property
    def total(self) -> float:
        """Joules per image."""
        return sum(self.joules.values())


def available() -> list[str]:
    """Names of the chips that come with the package."""
    return sorted(f.name.removesuffix(".toml") for f in _folder().iterdir() if f.name.endswith(".toml"))


def load(name: str, *, memory: bool = False) -> Chip:
    """A chip by its name, or from a TOML file of one's own.

    Args:
        name: one of :func:`available`, or a path.
        memory: energies are to include memory traffic: the events' own, or else that of the file's [memory] section is counted.

    Raises:
        FileError: an unknown name, a missing or damaged file, a figure without its source, nothing known of memory.
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


def energy(layers: Sequence[LayerEvents], chip: Chip) -> list[LayerEnergy]:
    """Energy of counted events (:func:`pascal_nm.activity.events`) on ``chip``: per population, mean joules per image.

    Memory traffic, where the chip has it: each synaptic operation reads a weight, and reads and writes a potential; each multiply-accumulate of
    the analog input reads a weight and a value; each neuron update reads and writes potential and counter. Spikes are passed on, not stored.
    """
    return [LayerEnergy(layer.name, _joules(layer, chip), layer) for layer in layers]


def source_energy(graph: Graph, chip: Chip) -> dict[str, float]:
    """Joules per image of the source network on the same table, by population: its multiply-accumulates, and the additions of poolings and shortcuts,
    which cost what a synaptic operation costs.

    Memory traffic, where the chip has it: each multiply-accumulate reads a weight and an input, each addition and each input of a max-pooling one
    value, and each output, of a pooling too, is written once. Sums stay in a register.
    """
    found = {}
    for p in graph.populations:
        if p.kind == "analog":
            continue
        additions = macs = 0
        written = p.size
        for q in graph.incoming(p.name):
            shape = graph[q.source].shape
            more = source_operations(q, shape)
            additions, macs = additions + more[0], macs + more[1]
            if q.pool is not None and more[1]:
                written += math.prod(q.pool.output_shape(shape))
        arithmetic = (
            0.0
            if p.kind == "max"
            else additions * chip.energy["synaptic_operation"].value + macs * chip.energy["multiply_accumulate"].value
        )
        found[p.name] = arithmetic * PJ
        if (m := chip.memory) is not None:
            found[p.name] += m.joules(macs * m.weight + (macs + additions + written) * m.activation)
    return found


def shares(layers: Sequence[LayerEnergy]) -> dict[str, float]:
    """Where the energy of all layers goes: the share of each kind that costs anything, in the order of :data:`KINDS`."""
    by_kind = {kind: sum(layer.joules.get(kind, 0.0) for layer in layers) for kind in KINDS}
    total = sum(by_kind.values())
    return {kind: part / total for kind, part in by_kind.items() if part}


def core_seconds(layers: Sequence[LayerEvents], chip: Chip) -> float:
    """Time of all cores' work added up, mean per image: no core waits for another, no barrier, no way of messages."""
    work = 0.0
    for layer in layers:
        counted = _counts(layer)
        counted["synaptic_operation"] += counted.pop("multiply_accumulate")  # an input value takes the time of a spike
        counted["message_in"] = counted["message"]
        del counted["hop_x"], counted["hop_y"]
        work += sum(count * chip.nanoseconds(event) for event, count in counted.items())
    return work * NS


def _counts(layer: LayerEvents) -> dict[str, float]:
    """Mean count of each of :data:`EVENTS`."""
    counted: tuple[Array | int, ...] = (
        *(layer.synaptic_operations, layer.multiply_accumulates, layer.updates, layer.idle, layer.emitted),
        *(layer.messages, layer.hops_x, layer.hops_y),
    )
    return {event: float(np.mean(count)) for event, count in zip(EVENTS, counted, strict=True)}


def _joules(layer: LayerEvents, chip: Chip) -> dict[str, float]:
    counted = _counts(layer)
    joules = {event: counted[event] * figure.value * PJ for event, figure in chip.energy.items()}
    if (m := chip.memory) is not None:
        operations, macs = counted["synaptic_operation"], counted["multiply_accumulate"]
        updates = counted["update"] + (counted["idle"] if "idle" in chip.energy else 0.0)
        bits = operations * (m.weight + 2 * m.potential) + macs * (m.weight + m.activation)
        joules["synaptic_memory"] = m.joules(bits)
        joules["neuron_memory"] = m.joules(updates * 2 * (m.potential + m.activation))
    return joules


def _parse(name: str, text: bytes) -> Chip:
    try:
        raw = tomllib.loads(text.decode())
        energy, latency = _figures(raw["energy"]), _figures(raw.get("latency", {}))
        widths = {key: int(value) for key, value in raw.get("widths", {}).items()}
        core = Core(**raw["core"]) if "core" in raw else None
        mesh = Mesh(**raw["mesh"]) if "mesh" in raw else None
        barrier = _barrier(raw["barrier"]) if "barrier" in raw else None
        numbers = FixedPoint(**raw["fixed_point"]) if "fixed_point" in raw else None
        memory = _memory(raw["memory"]) if "memory" in raw else None
        about = (str(raw["name"]), str(raw["source"]), bool(raw["estimate"]))
        included = bool(raw.get("includes_memory", False))
        remark = str(raw.get("remark", ""))
        chip = Chip(*about, widths, energy, latency, barrier, core, mesh, numbers, included, memory, remark)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileError(f"chip {name}: not valid TOML: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(
            f"chip {name}: every chip needs name, source, estimate and [energy] entries with value and source ({error})"
        ) from error
    if unknown := set(energy) - set(EVENTS):
        raise FileError(f"chip {name}: unknown event(s) {', '.join(sorted(unknown))}; known: {', '.join(EVENTS)}")
    if unknown := set(latency) - set(LATENCIES):
        raise FileError(f"chip {name}: unknown latency of {', '.join(sorted(unknown))}; known: {', '.join(LATENCIES)}")
    if (core is None) != (mesh is None):
        raise FileError(f"chip {name}: [core] and [mesh] belong together")
    if mesh is not None and not 0 < mesh.cores <= mesh.width * mesh.height * mesh.cores_per_tile:
        raise FileError(f"chip {name}: {mesh.cores} cores do not fit on its {mesh.width} x {mesh.height} tiles")
    if numbers is not None and (missing := {"weight", "membrane", "threshold", "bias"} - set(widths)):
        raise FileError(f"chip {name}: [fixed_point] needs the widths of {', '.join(sorted(missing))}")
    if included and memory is not None:
        raise FileError(f"chip {name}: includes_memory = true, and so no [memory] section, or it would count twice")
    if missing := {"synaptic_operation", "multiply_accumulate", "update"} - set(energy):
        raise FileError(f"chip {name}: no energy for {', '.join(sorted(missing))}")
    return chip


def _barrier(raw: Mapping[str, Any]) -> Barrier:
    if len(raw["tiles"]) != len(raw["nanoseconds"]):
        raise ValueError("[barrier] has one time for each number of tiles")
    return Barrier(tuple(raw["tiles"]), tuple(map(float, raw["nanoseconds"])), str(raw["source"]))


def _memory(raw: Mapping[str, Any]) -> Memory:
    (access,) = _figures({"access": raw["access"]}).values()
    bits = [int(raw[name]) for name in ("width", "weight", "activation", "potential")]
    if min(bits) < 1:
        raise ValueError("[memory] has bits of at least 1")
    return Memory(access, *bits)


def _figures(raw: Mapping[str, Any]) -> dict[str, Figure]:
    return {name: Figure(float(entry["value"]), str(entry["source"])) for name, entry in raw.items()}


def _folder() -> Any:
    return resources.files("pascal_nm.hw_targets") / "chips"
