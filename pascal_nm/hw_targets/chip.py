"""Chips as data: bit widths and energies from a TOML file with a source for every figure."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from pascal_nm import schedule
from pascal_nm.activity import LayerEvents, fan_out
from pascal_nm.bounds import mantissa, potential_bound
from pascal_nm.errors import FileError, TargetError
from pascal_nm.files import readable
from pascal_nm.graph import Array, Graph

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EVENTS = ("synaptic_operation", "multiply_accumulate", "update", "idle", "emitted")
"""Events that a chip may price; see :class:`pascal_nm.activity.LayerEvents`."""

PJ = 1e-12


@dataclass(frozen=True)
class Figure:
    """A number with its source."""

    value: float
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
    """

    name: str
    source: str
    estimate: bool
    widths: Mapping[str, int]
    energy: Mapping[str, Figure]


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


def check_widths(graph: Graph, chip: Chip) -> None:
    """Refuse an integer graph that does not fit the chip's bit widths: proven from weights and levels, before any run.

    Raises:
        TargetError: names the population, what overflows, by how many bits, and what to do.
    """
    streams = schedule.of(graph).streams
    for p in graph.populations:
        if p.kind in ("analog", "max"):
            continue
        for projection in graph.incoming(p.name):
            weight = projection.operator.weight.astype(np.int64)
            _require_width(chip, "weight", int(np.abs(mantissa(weight)).max()), f"{projection.source} -> {p.name}")
        _require_width(chip, "membrane", potential_bound(graph, p.name, streams=streams), p.name)
        _require_width(chip, "bias", float(np.abs(p.bias).max()), p.name)
        if p.kind == "pasc":
            _require_width(chip, "threshold", float(p.threshold.max()), p.name)


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
    }
    return {event: float(np.mean(counted[event])) * figure.value * PJ for event, figure in chip.energy.items()}


def _require_width(chip: Chip, quantity: str, largest: float, where: str) -> None:
    bits = chip.widths.get(quantity)
    if bits is None:
        return
    limit = 2**bits - 1 if quantity == "threshold" else 2 ** (bits - 1) - 1
    if largest > limit:
        raise TargetError(
            f"{where}: the {quantity} can reach {largest:.0f}, beyond the {bits} bits ({limit}) of {chip.name}: "
            f"quantize to fewer bits, or use fewer levels"
        )


def _parse(name: str, text: bytes) -> Chip:
    try:
        raw = tomllib.loads(text.decode())
        energy = {event: Figure(float(entry["value"]), str(entry["source"])) for event, entry in raw["energy"].items()}
        chip = Chip(str(raw["name"]), str(raw["source"]), bool(raw["estimate"]), _widths(raw.get("widths", {})), energy)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileError(f"chip {name}: not valid TOML: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(
            f"chip {name}: every chip needs name, source, estimate and [energy] entries with value and source ({error})"
        ) from error
    if unknown := set(energy) - set(EVENTS):
        raise FileError(f"chip {name}: unknown event(s) {', '.join(sorted(unknown))}; known: {', '.join(EVENTS)}")
    if missing := {"synaptic_operation", "multiply_accumulate", "update"} - set(energy):
        raise FileError(f"chip {name}: no energy for {', '.join(sorted(missing))}")
    return chip


def _widths(raw: Mapping[str, Any]) -> dict[str, int]:
    return {key: int(value) for key, value in raw.items()}


def _folder() -> Any:
    return resources.files("pascal_nm.hw_targets") / "chips"
