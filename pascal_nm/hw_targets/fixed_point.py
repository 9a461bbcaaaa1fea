r"""How a chip's registers hold an integer network.

Mantissas and exponents are found, and overflow is excluded by proof, before anything runs.

Where a chip's file has a section ``[fixed_point]``, one unit of a population's integers is
:math:`2^{s + E}` units of its membrane, with the chip's shift s and an exponent E of the
population's own. Then, with mantissas m of the chip's widths,

.. math::
    w \, 2^{s + E} = m \, 2^{s + e}, \qquad \theta \, 2^{s + E} = m \, 2^{s}, \qquad
    b \, 2^{s + E} = m \, 2^{e'}, \qquad |v| \, 2^{s + E} < 2^{membrane - 1}

for every weight, threshold and bias, and for every potential that
:mod:`pascal_nm.network.bounds` proves reachable. On a chip without the section the
same integers go into the registers as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.errors import TargetError
from pascal_nm.hw_targets.chip import Chip, FixedPoint
from pascal_nm.network.bounds import common_exponent, exponents, mantissa, potential_bound
from pascal_nm.network.graph import Graph, Population, Quantization
from pascal_nm.network.quantization import quantize

CHOOSES = "`pascal-nm quantize --chip` makes integers that fit from the float network"


@dataclass(frozen=True, eq=False)
class Encoding:
    """The registers of one population on a chip with ``[fixed_point]``.

    Attributes:
        exponent: E: one unit of the population's integers is ``2**(shift + exponent)`` units
            of the membrane.
        weights: exponent of the mantissas of each projection onto it, by the projection's source.
        threshold: mantissas, broadcastable to the population; of a readout none.
        bias: mantissas, likewise.
        bias_exponents: of the same shape.
    """

    exponent: int
    weights: Mapping[str, int]
    threshold: Array | None
    bias: Array
    bias_exponents: Array

    def arrays(self) -> dict[str, Array]:
        """All of it by name."""
        found = {"exponent": np.asarray(self.exponent), "bias": self.bias, "bias_exponents": self.bias_exponents}
        found |= {f"weight_exponent_from_{source}": np.asarray(e) for source, e in self.weights.items()}
        return found if self.threshold is None else {**found, "threshold": self.threshold}


def check(graph: Graph, chip: Chip) -> dict[str, Encoding]:
    """Refuse an integer graph that does not fit the chip's bits.

    It is proven from weights and levels, before any run.

    Returns:
        By population what its registers hold, where the chip's file describes them by
        mantissa and exponent.

    Raises:
        TargetError: names the population, what overflows, by how many bits, and what to do.
    """
    found = {}
    for p in graph.weighted:
        for projection in graph.incoming(p.name):
            where = f"{projection.source} -> {p.name}"
            _require_width(
                chip, "weight", int(np.abs(mantissa(projection.operator.weight.astype(np.int64))).max()), where
            )
        if chip.fixed_point is not None:
            found[p.name] = encode(graph, p, chip, chip.fixed_point)
            continue
        _require_width(chip, "membrane", potential_bound(graph, p.name), p.name)
        _require_width(chip, "bias", float(np.abs(p.bias).max()), p.name)
        if p.kind == "pasc":
            _require_width(chip, "threshold", float(p.threshold.max()), p.name)
    return found


def encode(graph: Graph, p: Population, chip: Chip, numbers: FixedPoint) -> Encoding:
    """The registers of one population: with the largest exponent at which everything fits.

    Raises:
        TargetError: there is none; says what does not fit.
    """
    why = ""
    for exponent in range(0, max(-numbers.shift, numbers.weight_exponents[0]) - 1, -1):
        tried = _Trial(graph, p, chip, numbers, exponent)
        if tried.overflows():
            continue
        if not (reason := tried.misfit()):
            return tried.encoding()
        why = why or reason
    overflow = (
        f"the membrane can reach {potential_bound(graph, p.name):.0f}, beyond {chip.widths['membrane']} bits: "
        "quantize to fewer bits, or use fewer levels"
    )
    raise TargetError(f"{p.name} does not fit {chip.name}: {why or overflow}")


def fit(graph: Graph, chip: Chip, recipe: Quantization) -> Graph:
    """Quantize a float graph such that it fits a chip.

    Where its registers need it, thresholds become multiples of powers of two, and biases get as
    many significant bits as a mantissa has.

    Raises:
        TargetError: a population cannot fit with these bits.
    """
    if chip.fixed_point is None:
        integer = quantize(graph, recipe)
        check(integer, chip)
        return integer
    layers = [p.name for p in graph.weighted]
    shifts: dict[str, int] = {}
    why: dict[str, TargetError] = {}
    for shift in range(chip.fixed_point.shift + 1):
        integer = quantize(graph, replace(recipe, shift=shift, bias_bits=min(32, chip.widths["bias"])))
        for p in integer.weighted:
            if p.name not in shifts:
                try:
                    encode(integer, p, chip, chip.fixed_point)
                    shifts[p.name] = shift
                except TargetError as error:
                    why[p.name] = error
        if len(shifts) == len(layers):
            made = integer.quantization
            assert made is not None, "quantize leaves its recipe"
            integer = quantize(graph, replace(made, shift=tuple(shifts[name] for name in layers)))
            check(integer, chip)
            return integer
    raise next(why[name] for name in layers if name not in shifts)


class _Trial:
    """A population with one exponent; all in units of its own integers."""

    def __init__(self, graph: Graph, p: Population, chip: Chip, numbers: FixedPoint, exponent: int) -> None:
        self.graph, self.p, self.chip, self.numbers, self.exponent = graph, p, chip, numbers, exponent
        self.unit = 2 ** (numbers.shift + exponent)  # of the membrane
        self.weights = {q.source: exponent + common_exponent(q.operator.weight) for q in graph.incoming(p.name)}

    def overflows(self) -> bool:
        """Whether a potential can leave the membrane's register."""
        return bool(potential_bound(self.graph, self.p.name) * self.unit > 2 ** (self.chip.widths["membrane"] - 1) - 1)

    def misfit(self) -> str:
        """What is no mantissa and exponent of the chip's; empty if all is."""
        p, widths, numbers = self.p, self.chip.widths, self.numbers
        low, high = numbers.weight_exponents
        if not all(low <= e <= high for e in self.weights.values()):
            return f"its weights need exponents beyond {low} to {high}: quantize to fewer bits"
        if p.kind == "pasc":
            threshold = p.threshold.astype(np.float64) * 2.0**self.exponent
            if np.any(threshold != np.floor(threshold)) or threshold.max() > 2 ** widths["threshold"] - 1:
                return (
                    f"its thresholds are no multiples of {2**-self.exponent}, "
                    f"or exceed {widths['threshold']} bits: {CHOOSES}"
                )
        mantissas, powers = self._bias()
        if np.any(mantissas != np.floor(mantissas)) or powers.max() > numbers.bias_exponents[1]:
            return f"its biases have more bits than a mantissa of {widths['bias']}: {CHOOSES}"
        return ""

    def encoding(self) -> Encoding:
        mantissas, powers = self._bias()
        threshold = None if self.p.kind == "readout" else self.p.threshold.astype(np.int64) >> -self.exponent
        return Encoding(self.exponent, self.weights, threshold, mantissas.astype(np.int64), powers)

    def _bias(self) -> tuple[Array, Array]:
        """Mantissas, and the smallest exponents at which they fit."""
        value = self.p.bias.astype(np.float64) * self.unit
        found = np.maximum(exponents(value, self.chip.widths["bias"]), self.numbers.bias_exponents[0])
        return value / 2.0**found, found


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
