"""Published measurements on silicon, beside what the chips' files predict for the same counts.

``measurements.toml`` holds what was published, and the counts that go with it: neither is computed
here. A prediction is those counts times the figures of a chip's file, so that a figure is judged by
a chip, and not by another model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import resources
from typing import Annotated

import numpy as np

from pascal_nm.common.arrays import Pair, Shape
from pascal_nm.errors import FileError
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import mapping, tables
from pascal_nm.hw_targets.akida import device
from pascal_nm.hw_targets.chip import MICRO, MILLI, NS, PJ, PRICED, Chip
from pascal_nm.hw_targets.tables import Names, Within
from pascal_nm.network.graph import Graph, Population, Projection
from pascal_nm.network.operators import Conv2d, Dense, Operator, SumPool2d
from pascal_nm.simulation.events import EVENTS

_Figure = Annotated[float, Within(0, 1e15)]
_Whole = Annotated[int, Within(1, 1 << 40)]

QUANTITIES = ("dynamic", "total", "step", "cores")
"""What is compared: energies of a unit, time of a timestep, cores."""

ASKED: Mapping[str, tuple[float, float]] = {"dynamic": (0.7, 1.4), "total": (0.5, 2.0), "cores": (0.7, 1.4)}
"""Predicted over measured where a model of a chip is right. No time is asked for: it depends on
what feeds the chip."""

STATIC = ("none", "cores", "chips", "board")
"""What a measurement's static energy is of: of nothing that was published, of the cores in use, of
whole chips with the cores in use, or of a board with more than its chips, which is in no file."""

COUNTS = ("published", "counted", "read off", "assumed")
"""Where counts are from: the publication, its network and settings, a picture of it, or nowhere."""

_LARGEST = 1 << 17


@dataclass(frozen=True)
class Layers:
    """A network by its layers, to be put on the cores of a chip.

    Attributes:
        input: channels, rows, columns.
        layers: ``conv CHANNELS KERNEL STRIDE PADDING``, ``depthwise KERNEL STRIDE PADDING``,
            ``pool SIZE``, ``dense OUTPUTS``.
        bits: of its weights.
        compartments: of each neuron of the network that was measured.
    """

    input: tuple[_Whole, _Whole, _Whole]
    layers: tuple[str, ...]
    bits: Annotated[int, Within(1, 32)] = 8
    compartments: Annotated[int, Within(1, 64)] = 1


@dataclass(frozen=True)
class Measurement:
    """One published measurement.

    Attributes:
        name: of the network and setting.
        chip: the name of its file.
        unit: what the figures are of.
        source: who published it, and where.
        counts_are: one of :data:`COUNTS`.
        counts: events of a unit by their names in a chip's file; ``injected`` and ``read`` are
            values that go in and out.
        dynamic: measured, microjoules of a unit.
        static: likewise.
        total: likewise, where the two were not told apart.
        static_of: one of :data:`STATIC`.
        host: likewise, of the processors beside the neurons' cores.
        host_inside: dynamic and total have these in them.
        step: microseconds of a timestep.
        steps: of a unit.
        cores: in use.
        chips: in use.
        busiest: events of the busiest core in a timestep; where it is not known, no time is
            predicted.
        network: its layers, where they are known, to count cores.
        bands: predicted over measured, least and most, that the prediction has to keep where it is
            not what is asked for (:data:`ASKED`).
        why: it is not.
    """

    name: str
    chip: str
    unit: str
    source: str
    counts_are: str
    counts: Annotated[Mapping[str, _Figure], Names((*PRICED, "injected", "read"))] = field(default_factory=dict)
    dynamic: _Figure | None = None
    static: _Figure | None = None
    total: _Figure | None = None
    static_of: str = "none"
    host: _Figure | None = None
    host_inside: bool = False
    step: _Figure | None = None
    steps: _Whole = 1
    cores: _Whole | None = None
    chips: _Whole = 1
    busiest: Annotated[Mapping[str, _Figure], Names(PRICED)] = field(default_factory=dict)
    network: Layers | None = None
    bands: Annotated[Mapping[str, tuple[_Figure, _Figure]], Names(QUANTITIES)] = field(default_factory=dict)
    why: str = ""


@dataclass(frozen=True)
class _File:
    measurement: tuple[Measurement, ...]


@dataclass(frozen=True, eq=False)
class Beside:
    """A measurement, and what its chip's file predicts.

    Attributes:
        measured: it.
        chip: with its figures.
    """

    measured: Measurement
    chip: Chip

    @cached_property
    def measurements(self) -> dict[str, float]:
        """What was measured, by :data:`QUANTITIES`; of a total, where static energy was."""
        m = self.measured
        total = m.total if m.dynamic is None or m.static is None else m.dynamic + m.static
        found = {"dynamic": m.dynamic, "total": total, "step": m.step, "cores": m.cores}
        return {name: float(value) for name, value in found.items() if value is not None}

    @cached_property
    def predictions(self) -> dict[str, float]:
        """What the chip's file predicts of these, in the same units."""
        ways: dict[str, Callable[[], float | None]] = {
            "dynamic": lambda: self._dynamic if self.measured.counts else None,
            "total": self._total,
            "step": self._step,
            "cores": self._cores,
        }
        found = {name: ways[name]() for name in self.measurements}
        return {name: value for name, value in found.items() if value is not None}

    @cached_property
    def ratios(self) -> dict[str, float]:
        """Predicted over measured."""
        return {name: value / self.measurements[name] for name, value in self.predictions.items()}

    def band(self, quantity: str) -> tuple[float, float] | None:
        """What a ratio has to keep: its own band, or that which is asked for."""
        return self.measured.bands.get(quantity, ASKED.get(quantity))

    def outside(self) -> Iterator[str]:
        """The ratios that do not keep it, in words."""
        for quantity, ratio in self.ratios.items():
            band = self.band(quantity)
            if band is not None and not band[0] <= ratio <= band[1]:
                yield (
                    f"{self.measured.name}: {quantity} predicted over measured is {ratio:.3g}, "
                    f"outside of {band[0]:g} to {band[1]:g}"
                )

    @property
    def reached(self) -> list[str]:
        """The quantities whose ratio is within what is asked for."""
        return [name for name, (low, high) in ASKED.items() if low <= self.ratios.get(name, -1.0) <= high]

    @property
    def _dynamic(self) -> float:
        """Events, and the processors beside the cores where they were measured with them."""
        m, energy = self.measured, self.chip.energy
        found = 1e6 * PJ * sum(n * energy[e].value for e, n in m.counts.items() if e in energy)
        if m.host_inside and self.chip.host is not None and m.step is not None:
            found += self.chip.host.watts(m.chips) * m.step * m.steps
        return found

    def _total(self) -> float | None:
        """With the static energy of what was measured, in the time that was measured."""
        m, static = self.measured, self.chip.static
        if static is None or not m.counts or m.step is None or m.static_of in ("none", "board"):
            return None
        cores = (m.cores or 0) * (0.0 if static.core is None else static.core.value)
        watts = MILLI * (cores if m.static_of == "cores" else m.chips * static.chip.value + cores)
        return self._dynamic + watts * m.step * m.steps

    def _step(self) -> float | None:
        """The busiest core's time, the barrier, and what the host sends in a timestep."""
        m, chip = self.measured, self.chip
        if not chip.latency or not m.busiest:
            return None
        latencies = {event.name: event.latency for event in EVENTS.values()}
        work = sum(n * chip.latency[latencies[e]].value for e, n in m.busiest.items() if latencies[e] in chip.latency)
        tiles = -(-(m.cores or 1) // (1 if chip.mesh is None else chip.mesh.cores_per_tile))
        barrier = 0.0 if chip.barrier is None else chip.barrier.at(tiles, m.chips)
        values, read = (m.counts.get(name, 0.0) / m.steps for name in ("injected", "read"))
        fed = 0.0 if chip.host is None else chip.host.seconds(values, read)
        return (NS * (work + barrier) + fed) / MICRO

    def _cores(self) -> float | None:
        """On the fewest cores."""
        layers = self.measured.network
        if layers is None or self.chip.core is None:
            return None
        core = replace(self.chip.core, compartments=layers.compartments)
        return float(mapping.place(layers_graph(layers), replace(self.chip, core=core), "cores").cores)


def layers_graph(layers: Layers) -> Graph:
    """The integer network of layers; its weights mean nothing.

    Raises:
        FileError: a layer is none of those that :class:`Layers` names, or does not fit the one
            before it.
    """
    weight, levels = 2 ** (layers.bits - 1) - 1, 1
    populations = [Population("input", "analog", layers.input, levels)]
    projections: list[Projection] = []
    pool: SumPool2d | None = None
    for number, layer in enumerate(layers.layers):
        word, *arguments = layer.split()
        last = populations[-1]
        try:
            if word == "pool":
                (size,) = (_pair(text) for text in arguments)
                pool = SumPool2d(size, size)
                continue
            shape = last.shape if pool is None else pool.output_shape(last.shape)
            operator = _operator(word, arguments, shape, weight)
        except (ValueError, KeyError) as error:
            raise FileError(f"layer {number}, {layer!r}, is none that follows {last.shape}") from error
        name = "output" if number == len(layers.layers) - 1 else f"layer_{number}"
        projections.append(Projection(last.name, name, operator, pool))
        shape, pool = projections[-1].output_shape(last.shape), None
        ones, bias = np.ones((1,) * len(shape), np.int32), np.zeros((1,) * len(shape), np.int32)
        if name == "output":
            populations.append(Population(name, "readout", shape, 1, np.ones(()), bias))
        else:
            populations.append(Population(name, "pasc", shape, levels, ones, bias))
    return Graph(tuple(populations), tuple(projections))


def _operator(word: str, arguments: list[str], shape: Shape, weight: int) -> Operator:
    if word == "dense":
        (outputs,) = (int(text) for text in arguments)
        return Dense(np.full((outputs, math.prod(shape)), weight, np.int32))
    channels = shape[0] if word == "depthwise" else int(arguments.pop(0))
    kernel, stride, padding = (_pair(text) for text in arguments)
    inputs = {"conv": shape[0], "depthwise": 1}[word]
    weights = np.full((channels, inputs, *kernel), weight, np.int32)
    return Conv2d(weights, stride, padding, groups=shape[0] // inputs)


def _pair(text: str) -> Pair:
    """``3``, or ``3x5``."""
    sides = [int(side) for side in text.split("x")]
    rows, columns = sides * 2 if len(sides) == 1 else sides
    return rows, columns


def measurements() -> list[Measurement]:
    """Those that come with the package."""
    text = (resources.files("pascal_nm.hw_targets") / "measurements.toml").read_bytes()
    found = tables.parse(_File, text, _LARGEST).measurement
    for m in found:
        for what, value, known in (("static_of", m.static_of, STATIC), ("counts_are", m.counts_are, COUNTS)):
            if value not in known:
                raise FileError(f"measurements.toml: {m.name}: {what} is {value!r}: choose from {', '.join(known)}")
    return list(found)


def compared() -> list[Beside]:
    """Every measurement beside the prediction of its chip's file."""
    return [Beside(m, _chip(m.chip)) for m in measurements()]


def _chip(name: str) -> Chip:
    """A chip's figures; of an Akida, which is described by its layers, what its file knows."""
    if name not in device.available():
        return chips.load(name)
    found = device.load(name)
    prices = {} if found.multiply_accumulate is None else {"multiply_accumulate": found.multiply_accumulate}
    return Chip(found.name, found.source, estimate=True, energy=prices, static=found.static)
