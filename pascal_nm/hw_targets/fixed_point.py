r"""How a chip's registers hold an integer network.

Mantissas and exponents are found, and overflow is excluded by proof, before anything runs.

Where a chip's file has a section ``[fixed_point]``, one unit of a population's integers is
:math:`2^{s + E}` units of its membrane, with the chip's shift s and an exponent E of the
population's own. Then, with mantissas m of the chip's widths,

.. math::
    w \, 2^{s + E} = m \, 2^{s + e}, \qquad \theta \, 2^{s + E} = m \, 2^{s}, \qquad
    b \, 2^{s + E} = m \, 2^{e'}, \qquad |v| \, 2^{s + E} < 2^{membrane - 1}

for every weight, threshold and bias, and for every potential that
:mod:`pascal_nm.network.bounds` proves reachable. On a chip without the section thresholds and
biases go into the registers as they are: s, E and e' are 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.errors import TargetError
from pascal_nm.hw_targets.chip import Chip, FixedPoint
from pascal_nm.network.bounds import common_exponent, exponents, largest_input, potential_bound, reachable
from pascal_nm.network.graph import Graph, Population, Projection, Quantization
from pascal_nm.network.quantization import Layer, Layers
from pascal_nm.simulation import schedule

_CHOOSES = "`pascal-nm quantize --chip` makes integers that fit from the float network"


@dataclass(frozen=True, eq=False)
class Encoding:
    """The registers of one population.

    Attributes:
        exponent: E: one unit of the population's integers is ``2**(shift + exponent)`` units
            of the membrane.
        weights: exponent of the mantissas of each projection onto it, by the projection's name.
        threshold: mantissas, broadcastable to the population; of a readout none.
        bias: mantissas, likewise.
        bias_exponents: of the same shape.
    """

    exponent: int
    weights: Mapping[str, int]
    threshold: Array | None
    bias: Array
    bias_exponents: Array


@dataclass(frozen=True, eq=False)
class Fitted:
    """An integer network that fits a chip, and the registers of each of its layers, by name."""

    graph: Graph
    encodings: Mapping[str, Encoding]


def fit(network: Graph, chip: Chip, recipe: Quantization | int = 8, *, frames: bool = False) -> Graph:
    """The integers that a chip holds; see :func:`fitted`."""
    return fitted(network, chip, recipe, frames=frames).graph


def fitted(network: Graph, chip: Chip, recipe: Quantization | int = 8, *, frames: bool = False) -> Fitted:
    """A network in integers that fit a chip: proven from weights and levels, before any run.

    Args:
        network: integers stay as they are. Of a float network, each layer is quantized such that it
            fits: where registers need it, thresholds become multiples of powers of two, and biases
            get as many significant bits as a mantissa has.
        chip: the chip.
        recipe: for a float network, bits, or more.
        frames: registers have room for frames whose state is kept, in which an input changes by up
            to twice its largest value.

    Raises:
        TargetError: names the population, what overflows, by how many bits, and what to do.
    """
    if network.is_integer:
        return Fitted(network, check(network, chip, frames=frames and schedule.of(network).keeps(network)))
    recipe = recipe if isinstance(recipe, Quantization) else Quantization(recipe)
    if (numbers := chip.fixed_point) is None:
        layers = Layers(network, recipe)
        integer = layers.graph([layer.own for layer in layers])
        return Fitted(integer, check(integer, chip, frames=frames))
    layers = Layers(network, replace(recipe, bias_bits=min(32, chip.widths["bias"])))
    levels = _levels((*network.populations, layers.input), frames)
    found = []
    for layer in layers:
        found.append(_least_shift(layer, levels, chip, numbers))
        found[-1][1].note(levels, network)
    shifts, integers, encodings = zip(*found, strict=True)
    for each in integers:
        each.require_weights(chip)
    made = [(each.population, each.incoming) for each in integers]
    return Fitted(
        layers.graph(made, replace(layers.recipe, shift=shifts)),
        {each.population.name: encoding for each, encoding in zip(integers, encodings, strict=True)},
    )


def _levels(populations: Iterable[Population], frames: bool) -> dict[str, float]:
    """The largest sums that populations send, by name: in frames an input crosses its range.

    Those of linear ones are known once their weights are (:meth:`_Integers.note`).
    """
    return {p.name: largest_input(p, frames) for p in populations if not p.dynamics.summed}


def check(graph: Graph, chip: Chip, *, frames: bool = False) -> dict[str, Encoding]:
    """Refuse an integer graph that does not fit the chip's bits.

    It is proven from weights and levels, before any run.

    Returns:
        By population what its registers hold.

    Raises:
        TargetError: names the population, what overflows, by how many bits, and what to do.
    """
    levels = _levels(graph.populations, frames)
    found = {}
    for p in graph.weighted:
        layer = _Integers(p, list(graph.incoming(p.name)), levels)
        layer.note(levels, graph)
        layer.require_weights(chip)
        if chip.fixed_point is not None:
            found[p.name] = layer.encoded(chip, chip.fixed_point)
            continue
        summed = any(graph[q.source].dynamics.summed for q in graph.incoming(p.name))
        _require_width(chip, "membrane", layer.bound, p.name, _COMPOSE if summed else "")
        _require_width(chip, "bias", float(np.abs(p.bias).max()), p.name)
        if p.dynamics.fires:
            _require_width(chip, "threshold", float(p.threshold.max()), p.name)
        found[p.name] = layer.plain()
    return found


def check_frames(fitted: Fitted, chip: Chip) -> None:
    """Refuse frames where state is kept and registers are proven for images alone.

    Raises:
        TargetError: a membrane potential could exceed the chip's bits.
    """
    graph, shift = fitted.graph, 0 if chip.fixed_point is None else chip.fixed_point.shift
    for name, encoding in fitted.encodings.items() if schedule.of(graph).keeps(graph) else ():
        potential = potential_bound(graph, name, kept=True) * 2.0 ** (shift + encoding.exponent)
        require_kept(name, potential, chip.widths)


def require_kept(name: str, potential: float, widths: Mapping[str, int]) -> None:
    """Refuse a potential that frames take beyond a register.

    Args:
        name: of the population.
        potential: its largest magnitude where state is kept, in units of the membrane.
        widths: of the chip's registers.

    Raises:
        TargetError: says what helps.
    """
    if potential >= 2 ** ((bits := widths.get("membrane", 64)) - 1):
        raise TargetError(
            f"frames may take the membrane potential of {name!r} beyond {bits} bits, as an input may change by twice "
            "its largest value: quantize to fewer bits, or run each frame from rest (--schedule pasc)"
        )


def _least_shift(
    layer: Layer, levels: Mapping[str, float], chip: Chip, numbers: FixedPoint
) -> tuple[int, _Integers, Encoding]:
    """The integers of a layer with the finest thresholds that fit, whose shift comes first.

    Raises:
        TargetError: there are none.
    """
    for shift in range(numbers.shift + 1):
        integers = _Integers(*layer.quantized(layer.recipe._replace(shift=shift)), levels)
        try:
            return shift, integers, integers.encoded(chip, numbers)
        except TargetError as error:
            why = error
    raise why


class _Integers:
    """An integer population, of whose weights everything is asked once.

    Args:
        population: it.
        incoming: the projections onto it.
        levels: the largest inputs that populations send, by name.
    """

    def __init__(self, population: Population, incoming: list[Projection], levels: Mapping[str, float]) -> None:
        self.population, self.incoming = population, incoming
        self.bound = reachable(population, incoming, [levels[q.source] for q in incoming])
        self.exponents = {q.name: common_exponent(q.operator.weight) for q in incoming}

    def note(self, levels: dict[str, float], graph: Graph) -> None:
        """What it sends, where that is what it adds up, and what passes on the largest of it."""
        if self.population.dynamics.adds:
            levels[self.population.name] = self.bound
            for p in graph.populations:
                if p.dynamics.summed and not p.dynamics.adds and graph.incoming(p.name)[0].source in levels:
                    levels[p.name] = levels[graph.incoming(p.name)[0].source]

    def require_weights(self, chip: Chip) -> None:
        """Refuse mantissas of weights that are wider than the chip's."""
        for q in self.incoming:
            largest = int(np.abs(q.operator.weight).max()) >> self.exponents[q.name]
            _require_width(chip, "weight", largest, f"{q.source} -> {q.target}")

    def plain(self) -> Encoding:
        """The registers of a chip whose thresholds and biases are whole numbers."""
        p = self.population
        threshold = p.threshold if p.dynamics.fires else None
        return Encoding(0, self.exponents, threshold, p.bias, np.zeros_like(p.bias))

    def encoded(self, chip: Chip, numbers: FixedPoint) -> Encoding:
        """Mantissas and exponents: with the largest exponent E at which everything fits.

        Raises:
            TargetError: there is none; says what does not fit.
        """
        why = ""
        for exponent in range(0, max(-numbers.shift, numbers.weight_exponents[0]) - 1, -1):
            if self.bound * 2 ** (numbers.shift + exponent) > 2 ** (chip.widths["membrane"] - 1) - 1:
                continue
            encoding = self._with(exponent, chip, numbers)
            if isinstance(encoding, Encoding):
                return encoding
            why = why or encoding
        overflow = (
            f"the membrane can reach {self.bound:.0f}, beyond {chip.widths['membrane']} bits: "
            "quantize to fewer bits, or use fewer levels"
        )
        raise TargetError(f"{self.population.name} does not fit {chip.name}: {why or overflow}")

    def _with(self, exponent: int, chip: Chip, numbers: FixedPoint) -> Encoding | str:
        """The registers with an exponent E, or what is no mantissa and exponent of the chip's."""
        p, widths, (low, high) = self.population, chip.widths, numbers.weight_exponents
        weights = {name: exponent + common for name, common in self.exponents.items()}
        if not all(low <= e <= high for e in weights.values()):
            return f"its weights need exponents beyond {low} to {high}: quantize to fewer bits"
        threshold = None
        if p.dynamics.fires:
            threshold = p.threshold.astype(np.int64) >> -exponent
            if np.any(threshold << -exponent != p.threshold) or threshold.max() > 2 ** widths["threshold"] - 1:
                return (
                    f"its thresholds are no multiples of {2**-exponent}, "
                    f"or exceed {widths['threshold']} bits: {_CHOOSES}"
                )
        value = p.bias.astype(np.float64) * 2 ** (numbers.shift + exponent)
        powers = np.maximum(exponents(value, widths["bias"]), numbers.bias_exponents[0])
        mantissas = value / 2.0**powers
        if np.any(mantissas != np.floor(mantissas)) or powers.max() > numbers.bias_exponents[1]:
            return f"its biases have more bits than a mantissa of {widths['bias']}: {_CHOOSES}"
        return Encoding(exponent, weights, threshold, mantissas.astype(np.int64), powers)


_COMPOSE = (
    ', or compose the linear layers before it, whose bounds multiply (growth=float("inf") in convert, --spikes-only in '
    "pascal-nm export)"
)


def _require_width(chip: Chip, quantity: str, largest: float, where: str, advice: str = "") -> None:
    bits = chip.widths.get(quantity)
    if bits is None:
        return
    limit = 2**bits - 1 if quantity == "threshold" else 2 ** (bits - 1) - 1
    if largest > limit:
        raise TargetError(
            f"{where}: the {quantity} can reach {largest:.0f}, beyond the {bits} bits ({limit}) of {chip.name}: "
            f"quantize to fewer bits (--bits), or use fewer levels{advice}"
        )
