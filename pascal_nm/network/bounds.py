r"""What the arithmetic can reach: bounds proven from weights and levels, before anything runs.

A membrane potential in any stage of any schedule is

.. math:: |v_j| \le \sum_i |W_{ji}| \, c_i^{\max} + |b_j| + \theta_j

where :math:`c_i^{\max}` is the source's levels (or the largest input). Proof: let V be all that has
come in, of inputs, bias and initial potential (theta / 2 at most), so that v is V less a threshold
for each spike that the counter holds. As long as the counter is not negative, v is at most V. Each
spike +1 leaves v at 0 or more; since the last of them v has fallen by no more than V has, and
between two timesteps V changes by no more than the weights times the levels, and the bias. A
counter can only fall below 0 in stage ``CORRECT``, where nothing comes in: each spike -1 raises a
negative v, and leaves it below the threshold.

In stage ``CHANGE`` nothing is reset: v is V. Where state is kept from frame to frame, V is at every
time what some levels of the sources and some inputs bring, valid ones all, so that it keeps to its
range; but it may fall farther in one frame than it had risen from rest, as an input may change by
twice its largest magnitude, which therefore counts twice.

What a linear population has sent so far is a weighted sum of what its sources have: its range, and
how much it may change, are theirs times its weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.errors import GraphError
from pascal_nm.network.graph import Graph, Population, Projection

_FLOAT32_EXACT = 2**24
"""Integers up to this magnitude add without rounding in float32 (24-bit significand, IEEE 754)."""
_FLOAT64_EXACT = 2**53


def current_bound(projection: Projection, largest: float) -> Array:
    """Largest magnitude of the current that a projection can deliver, per output channel.

    It holds for inputs up to ``largest``.

    Also bounds every partial sum, so that integer sums below 2**24 are exact in
    float32 in any order.
    """
    return np.asarray(projection.operator.sums() * projection.window * largest)


def largest_input(source: Population, kept: bool = False) -> int:
    """The largest sum of spikes (or quantized current) of a source neuron for one sample.

    Where state is ``kept``, the largest change of it: an input may cross its whole range.
    """
    return 2 * source.levels if kept and source.dynamics.injects else source.levels


def common_exponent(weight: Array) -> int:
    """The exponent of the largest power of two that divides all weights; chips keep it once."""
    common = int(np.bitwise_or.reduce(weight.reshape(-1).astype(np.int64)))
    return (common & -common).bit_length() - 1 if common else 0


def mantissa(weight: Array) -> Array:
    """Integer weights without their common power of two."""
    return np.asarray(weight // 2 ** common_exponent(weight))


def exponents(values: Array, bits: int) -> Array:
    """The smallest exponents, int64 from 0 on, with which mantissas reach each of ``values``.

    Mantissas are signed and have so many ``bits``.
    """
    largest = 2 ** (bits - 1) - 1
    return np.asarray(np.maximum(0, np.ceil(np.log2(np.maximum(np.abs(values), 1) / largest))), np.int64)


def weight_bits(projection: Projection) -> int:
    """Bits of the largest weight of an integer projection, as a signed mantissa."""
    weight = mantissa(projection.operator.weight.astype(np.int64))
    return int(np.abs(weight).max(initial=0)).bit_length() + 1


def potential_bound(graph: Graph, name: str, *, kept: bool = False) -> float:
    """Largest magnitude that the membrane potential of population ``name`` can reach.

    It holds for all neurons, in any stage; where state is ``kept`` from frame to frame, in all
    frames, and for the current of every change.
    """
    incoming = graph.incoming(name)
    return reachable(
        graph[name], incoming, [graph.largest(q.source, lambda p: largest_input(p, kept)) for q in incoming]
    )


def reachable(population: Population, incoming: Sequence[Projection], largest: Sequence[float]) -> float:
    """The same of a population alone: each projection brings inputs up to its ``largest``."""
    current = sum(float(current_bound(q, most).max()) for q, most in zip(incoming, largest, strict=True))
    return population.dynamics.bound(population, current)


def carrier(bound: float, name: str = "a layer") -> type[np.float32] | type[np.float64]:
    """The float type in which integer sums up to ``bound`` of population ``name`` are exact.

    Raises:
        GraphError: not even float64 is exact.
    """
    if bound < _FLOAT32_EXACT:
        return np.float32
    if bound < _FLOAT64_EXACT:
        return np.float64
    raise GraphError(
        f"the sums of {name} can reach {bound:.3g}, beyond the 2**53 that are exact here: quantize to fewer bits, "
        "or, where they come through linear populations, compose these"
    )
