"""What a traced network holds between two activations: sums of linear maps of populations.

A :class:`Value` is one tensor of the network: a sum of *terms*, one linear map from one population
each, and a bias. Populations have one axis or three, tensors any number of them: a value is stored
as :func:`stored` says, in the same order of its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pascal_nm.common.arrays import Array, Shape, canonical
from pascal_nm.network.graph import Graph
from pascal_nm.network.operators import Identity, Operator, SumPool2d
from pascal_nm.network.reach import Reach, volume

GROWTH = 4.0
"""How many times the synapses of two linear maps their composition may have."""


def growth_of(graph: Graph | None) -> float:
    """What makes a graph again: :data:`GROWTH`, or infinity where it has no linear populations."""
    return math.inf if graph is not None and not any(p.dynamics.summed for p in graph.populations) else GROWTH


@dataclass(frozen=True)
class Term:
    """A linear map from one population: sum-pooling, an operator, then division by ``divisor``."""

    source: str
    operator: Operator
    pool: SumPool2d | None = None
    divisor: int = 1

    def inner(self, shape: Shape) -> Shape:
        """What the operator takes from a source of ``shape``."""
        return self.pool.output_shape(shape) if self.pool else shape

    @property
    def moves(self) -> bool:
        """Whether each neuron gets one number of the source at most, times a factor."""
        return self.pool is None and self.operator.moves


@dataclass(frozen=True)
class Value:
    """What a node of the traced network holds.

    Attributes:
        terms: maps from populations, which add up.
        bias: broadcastable to ``shape``.
        shape: as it is stored, (C, H, W) or (N,).
        seen: as the network sees it, without the batch; the same numbers in the same order.
        windows: max-poolings that wait for the QCFS that follows (QCFS never decreases, so that
            they may change places). ``terms``, ``bias`` and ``shape`` are those in front of them.
        signs: by channel, -1 where the network has turned the sign since: there the largest value
            is the smallest. None without windows.
        axis: which axis of the network's tensor numbers the images.
    """

    terms: tuple[Term, ...]
    bias: Array
    shape: Shape
    seen: Shape
    windows: tuple[SumPool2d, ...] = ()
    signs: Array | None = None
    axis: int = 0

    @property
    def pooled(self) -> Shape:
        """The shape behind the max-poolings that wait."""
        shape = self.shape
        for window in self.windows:
            shape = window.output_shape(shape)
        return shape

    def scaled(self, scale: Array, shift: Array | float = 0.0) -> Value:
        """The value scaled and shifted, by arrays with one number per channel."""
        terms = tuple(replace(term, operator=term.operator.scale_output(scale)) for term in self.terms)
        signs = None if self.signs is None else np.where(scale < 0, -self.signs, self.signs)
        return replace(self, terms=terms, bias=self.bias * scale + shift, signs=signs)

    def viewed(self, seen: Shape) -> Value:
        """The same numbers in another shape of the network's."""
        return replace(self, seen=tuple(seen))

    def plus(self, other: Value) -> Value:
        """The sum of two values of one shape; maps of one geometry become one."""
        terms = list(self.terms)
        for term in other.terms:
            for i, mine in enumerate(terms):
                if (sum_of := _joined(mine, term)) is not None:
                    terms[i] = sum_of
                    break
            else:
                terms.append(term)
        return replace(self, terms=tuple(terms), bias=self.bias + other.bias)


def of_population(name: str, shape: Shape, amplitude: Array, seen: Shape) -> Value:
    """What a population gives: its counts times the amplitude of a spike."""
    return Value((Term(name, Identity(column(amplitude, shape))),), np.zeros((1,) * len(shape)), shape, seen)


def constant(array: Array, seen: Shape) -> Value:
    """A value that depends on parameters alone; ``array`` broadcasts to ``seen``."""
    shape = stored(seen)
    full = np.broadcast_to(np.asarray(array, np.float64), seen).reshape(shape)
    return Value((), canonical(full, shape, "constant"), shape, tuple(seen))


def stored(seen: Shape) -> Shape:
    """The shape of a population that holds a tensor of the network.

    One axis more than a vector's are channels and width, (C, L) as (C, 1, L); of more than three,
    the first ones together are channels: (C, D, H, W) as (C D, H, W).
    """
    if len(seen) < 2:
        return (math.prod(seen),)
    if len(seen) == 2:
        return (seen[0], 1, seen[1])
    return (math.prod(seen[:-2]), *seen[-2:])


def column(array: Array, shape: Shape) -> Array:
    """Numbers per channel, shaped to broadcast against ``shape``."""
    array = np.asarray(array, np.float64)
    if array.ndim == len(shape):
        return array
    return array.reshape(-1, *(1,) * (len(shape) - 1))


def synapses(operator: Operator, shape: Shape) -> int:
    """How many an operator has for an input of ``shape``."""
    return int(operator.reach(volume(shape)).fan_in.sum())


def composed(operator: Operator, shape: Shape, first: Operator, inner: Shape) -> int:
    """How many synapses an operator behind ``first`` has as one: at least that many join neurons.

    0 where that takes as long as their product itself.
    """
    second, before = operator.reach(volume(shape)), first.reach(volume(inner))
    if not (isinstance(second, Reach) and isinstance(before, Reach)):
        return 0
    axes = (a.astype(np.float32) @ b.astype(np.float32) for a, b in zip(second, before, strict=True))
    return math.prod(int(np.count_nonzero(axis)) for axis in axes)


def covered(terms: Sequence[Term], shape: Shape) -> bool:
    """Whether the terms move numbers, and no neuron gets more than one."""
    if not all(term.moves for term in terms):
        return False
    times = sum((term.operator.heard(shape).astype(np.int64) for term in terms), np.zeros(shape, np.int64))
    return bool(np.all(times <= 1))


def lcm_of(terms: Iterable[Term]) -> int:
    """The common multiple of the terms' divisors."""
    return math.lcm(*(term.divisor for term in terms))


def _joined(a: Term, b: Term) -> Term | None:
    """The sum of two linear maps as one.

    None where they come from different populations, or have different geometries.
    """
    pools = [None if t.pool is None else vars(t.pool) for t in (a, b)]
    if a.source != b.source or pools[0] != pools[1]:
        return None
    common = math.lcm(a.divisor, b.divisor)
    x, y = (t.operator.with_weight(t.operator.weight * (common // t.divisor)) for t in (a, b))
    joined = x.plus(y)
    return None if joined is None else replace(a, operator=joined, divisor=common)
