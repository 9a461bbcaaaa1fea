"""Chips as data: bit widths and energies from a TOML file with a source for every figure."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from pascal_nm.activity import LayerEvents, fan_out
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

    def nanoseconds(self, event: str) -> float:
        """Time of one of :data:`LATENCIES`; 0 where the file gives none."""
        return self.latency[event].value if event in self.latency else 0.0


@dataclass(frozen=True, eq=False)
class LayerEnergy:
    """Joules of one population: by event, mean over the images."""

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


def load(name: str) -> Chip:
    """A chip by its name, or from a TOML file of one's own.

    Raises:
        FileError: an unknown name, a missing or damaged file, a figure without its source.
    """
    if name in available():
        return _parse(name, _folder().joinpath(f"{name}.toml").read_bytes())
    if not name.endswith(".toml"):
        raise FileError(f"unknown chip {name!r}: choose from {', '.join(available())}, or give a .toml file")
    return _parse(name, readable(Path(name)).read_bytes())


def energy(layers: Sequence[LayerEvents], chip: Chip) -> list[LayerEnergy]:
    """Energy of counted events (:func:`pascal_nm.activity.events`) on ``chip``: per population, mean joules per image."""
    return [LayerEnergy(layer.name, _joules(layer, chip), layer) for layer in layers]


def source_energy(graph: Graph, chip: Chip) -> float:
    """Joules per image of the source network's multiply-accumulates on the same table (no memory traffic)."""
    macs = sum(int(fan_out(p, graph[p.source].shape).sum()) for p in graph.projections if graph[p.target].kind != "max")
    return macs * chip.energy["multiply_accumulate"].value * PJ


def _joules(layer: LayerEvents, chip: Chip) -> dict[str, float]:
    counted: dict[str, float | Array] = {
        "synaptic_operation": layer.synaptic_operations,
        "multiply_accumulate": layer.multiply_accumulates,
        "update": layer.updates,
        "idle": layer.idle,
        "emitted": layer.emitted,
        "message": layer.messages,
        "hop_x": layer.hops_x,
        "hop_y": layer.hops_y,
    }
    return {event: float(np.mean(counted[event])) * figure.value * PJ for event, figure in chip.energy.items()}


def _parse(name: str, text: bytes) -> Chip:
    try:
        raw = tomllib.loads(text.decode())
        energy, latency = _figures(raw["energy"]), _figures(raw.get("latency", {}))
        widths = {key: int(value) for key, value in raw.get("widths", {}).items()}
        core = Core(**raw["core"]) if "core" in raw else None
        mesh = Mesh(**raw["mesh"]) if "mesh" in raw else None
        barrier = _barrier(raw["barrier"]) if "barrier" in raw else None
        numbers = FixedPoint(**raw["fixed_point"]) if "fixed_point" in raw else None
        about = (str(raw["name"]), str(raw["source"]), bool(raw["estimate"]))
        chip = Chip(*about, widths, energy, latency, barrier, core, mesh, numbers)
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
    if missing := {"synaptic_operation", "multiply_accumulate", "update"} - set(energy):
        raise FileError(f"chip {name}: no energy for {', '.join(sorted(missing))}")
    return chip


def _barrier(raw: Mapping[str, Any]) -> Barrier:
    if len(raw["tiles"]) != len(raw["nanoseconds"]):
        raise ValueError("[barrier] has one time for each number of tiles")
    return Barrier(tuple(raw["tiles"]), tuple(map(float, raw["nanoseconds"])), str(raw["source"]))


def _figures(raw: Mapping[str, Any]) -> dict[str, Figure]:
    return {name: Figure(float(entry["value"]), str(entry["source"])) for name, entry in raw.items()}


def _folder() -> Any:
    return resources.files("pascal_nm.hw_targets") / "chips"
