r"""From a float graph to an integer graph: small integer weights, integer thresholds and biases.

Every population j has one grid per channel, shared by all projections onto it (shortcuts too):

.. math::
    W^{int} = \mathrm{round}(W / s_j), \quad \theta^{int}_j = \theta_j / s_j, \quad
    b^{int}_j = \mathrm{round}((b_j + \theta_j / 2) / s_j) - \lfloor \theta^{int}_j / 2 \rfloor

The grid :math:`s_j` is the threshold divided by an integer, so that thresholds are exact and only
weights and the firing offset (bias and initial potential together) are rounded, each once. A
projection whose weights are much larger than its neighbours' (an identity shortcut) has its weights
on a power-of-two multiple of the grid, as chips do with a weight exponent. The readout has one grid
for all classes, so that its integer potentials can be compared directly.

A linear population has no threshold: its ``threshold`` becomes the grid, the value that one unit of
its sums stands for, which the projections from it take into their weights, as those from the input
do with a step of a pixel. Where such a sum is *carried* on, by a factor for each channel, to
another linear population or into neurons, the grid there is the sum's own, times the factor and
divided by a power of two, so that it is neither rounded nor grows from one population to the next.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import Any

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.common.batches import batches
from pascal_nm.errors import DataError, GraphError
from pascal_nm.network import bounds
from pascal_nm.network.bounds import exponents
from pascal_nm.network.graph import Graph, LayerQuantization, Pixels, Population, Projection, Quantization, normalized

_THRESHOLD_MAX = 2**17 - 1
"""Largest integer threshold: 17 bits, as on Loihi (Davies et al., IEEE Micro 2018)."""


_CLIPS = tuple(np.linspace(1.0, 0.3, 15))
"""Shares of the largest weight at which the range ``mse`` may end."""


def quantize(graph: Graph, recipe: Quantization | int = 8, *, input_range: Any = None) -> Graph:
    """Quantize a float graph.

    Args:
        graph: a float graph.
        recipe: bits of the signed weight mantissas, 2 to 16; or bits, ranges and what else a chip
            needs, layer by layer.
        input_range: largest magnitude of the network's input, or data to take it from
            (:func:`range_of`). Not needed where the graph knows it, or its preprocessing: then
            the integer input is the pixel itself, less the rounded mean.

    Returns:
        An integer graph that holds its recipe; running it is exact in every backend.

    Raises:
        GraphError: the graph is quantized already, the recipe is for another number of layers,
            the range of the input is unknown, or sums would leave 53 bits.
    """
    recipe = recipe if isinstance(recipe, Quantization) else Quantization(recipe)
    if input_range is not None:
        number = isinstance(input_range, int | float | np.number)
        graph = graph.replace(input_range=float(input_range) if number else range_of(graph, input_range))
    layers = Layers(graph, recipe)
    made = layers.graph([layer.own for layer in layers])
    for p in made.weighted if any(p.dynamics.adds for p in made.populations) else ():
        bounds.carrier(bounds.potential_bound(made, p.name), p.name)
    return made


def range_of(graph: Graph, data: Any, limit: int | None = None) -> float:
    """The largest magnitude of a network's inputs in some data.

    Args:
        graph: the network.
        data: as :func:`pascal_nm.common.batches.batches` takes it.
        limit: look at so many inputs only.

    Raises:
        DataError: the data is none or does not fit the network, or all inputs are 0.
    """
    parts = [data] if isinstance(data, Pixels) else (x for x, _ in batches(data, limit))
    found = max(float(np.abs(normalized(graph.taken(x))).max(initial=0)) for x in parts)
    if not found:
        raise DataError("all inputs of the data are 0, from which no range can be taken: give input_range")
    return found


@dataclass(frozen=True, eq=False)
class Layer:
    """A population with weights, made ready to be quantized any number of times.

    Attributes:
        population: of the float graph.
        incoming: the projections onto it, in float64; from integer inputs where it takes the
            network's.
        recipe: how it is to be quantized.
        carried: the one of them that brings a linear population's sum by a factor for each channel.
        most: its largest integer threshold.
    """

    population: Population
    incoming: list[Projection]
    recipe: LayerQuantization
    carried: Projection | None = None
    most: int = _THRESHOLD_MAX

    @cached_property
    def own(self) -> tuple[Population, list[Projection]]:
        """Its integers by its own recipe."""
        return self.quantized(self.recipe)

    def quantized(self, recipe: LayerQuantization) -> tuple[Population, list[Projection]]:
        """The integer population and the projections onto it.

        Raises:
            GraphError: its grid has no such integers.
        """
        p, (powers, widest) = self.population, self._widest
        if self._unit is not None:
            grid, powers = self._unit, [0] * len(self.incoming)
        elif self.carried is None:
            grid = _grid(p, self.incoming, powers, widest / recipe.largest, recipe, self.most)
        else:
            factors = self.carried.operator.peaks(len(p.shape))
            grid = _aligned(p, _carried_grid(p, factors, widest / recipe.largest, recipe), recipe, self.most)
            peaks = [float((q.operator.peaks(len(p.shape)) / grid).max()) for q in self.incoming]
            powers = [max(0, math.ceil(math.log2(max(peak, 1) / recipe.largest))) for peak in peaks]
        return self._on(grid, powers, recipe)

    def in_powers(self) -> tuple[Population, list[Projection]]:
        """Its integers where thresholds are powers of two, the largest not finer than its own.

        Raises:
            GraphError: as :meth:`quantized`.
        """
        made, _ = self.own
        if not self.population.dynamics.fires or self.carried is not None:
            return self.own
        grid = self.population.threshold.astype(np.float64) / 2.0 ** np.floor(np.log2(made.threshold))
        return self._on(grid, self._widest[0], self.recipe)

    def _on(self, grid: Array, powers: list[int], recipe: LayerQuantization) -> tuple[Population, list[Projection]]:
        """On a grid, the weights of each projection with its exponent."""
        ends = zip(self.incoming, powers, strict=True)
        return (
            _quantize_population(self.population, grid, recipe.bias_bits),
            [_quantize_projection(q, grid, e, recipe.largest) for q, e in ends],
        )

    @cached_property
    def _unit(self) -> Array | None:
        """The weight of all that comes to a channel of sums, or its negative: 1 in integers.

        None where there are several.
        """
        if not self.population.dynamics.adds or self.carried is not None:
            return None
        axes = len(self.population.shape)
        unit = reduce(np.maximum, [q.operator.peaks(axes) for q in self.incoming])
        unit = np.where(unit > 0, unit, 1.0)
        sizes = [np.abs(q.operator.scale_output(1 / unit).weight) for q in self.incoming]
        return unit if all(bool(np.all((size == 0) | np.isclose(size, 1, 1e-12, 0))) for size in sizes) else None

    @cached_property
    def _widest(self) -> tuple[list[int], Array]:
        """The exponent of each projection, and the largest weight of each channel without it."""
        peaks = [q.operator.peaks(len(self.population.shape)) for q in self.incoming if q is not self.carried]
        tops = [float(peak.max()) for peak in peaks]
        smallest = min((top for top in tops if top > 0), default=1.0)
        powers = [max(0, round(np.log2(top / smallest))) if top > 0 else 0 for top in tops]
        return powers, reduce(np.maximum, [peak / 2**e for peak, e in zip(peaks, powers, strict=True)], np.zeros(()))


class Layers:
    """The layers of a float graph, each of which is quantized for itself.

    Args:
        graph: a float graph.
        recipe: as for :func:`quantize`, as are the errors.

    Attributes:
        input: the quantized input population.
    """

    def __init__(self, graph: Graph, recipe: Quantization) -> None:
        if graph.is_integer:
            raise GraphError("the graph is quantized already; quantize the float graph that it came from")
        recipe.check([p.name for p in graph.weighted])
        self.source, self.recipe = graph, recipe
        self.input = _quantize_input(graph)
        self._units = {self.input.name: self.input.threshold}
        """What one unit of an integer population stands for in the float graph, by name."""

    def __iter__(self) -> Iterator[Layer]:
        """The layers in order, each made when it is asked for."""
        graph = self.source
        number = iter(range(len(graph.weighted)))
        for p in graph.populations:
            if not p.dynamics.weighted:
                if p.dynamics.summed:
                    self._units[p.name] = self._units[graph.incoming(p.name)[0].source]
                continue
            i = next(number)
            incoming = [_absorbing(graph[q.source], q, self._units.get(q.source)) for q in graph.incoming(p.name)]
            sums = [q for q in incoming if graph[q.source].dynamics.summed]
            carried = next((q for q in sums if _passes(q) and not p.dynamics.reads_out), None)
            layer = Layer(p, incoming, self.recipe.layer(i), carried, _most(p) if sums else _THRESHOLD_MAX)
            if p.dynamics.adds:
                made, _ = layer.own
                self._units[p.name] = made.threshold / p.threshold
            yield layer

    def graph(self, made: Iterable[tuple[Population, list[Projection]]], recipe: Quantization | None = None) -> Graph:
        """The integer graph of quantized layers, in order; it holds the recipe that made them."""
        integers = {p.name: (p, incoming) for p, incoming in made}
        populations, projections = [self.input], []
        for p in self.source.populations:
            if p.dynamics.injects:
                continue
            population, incoming = integers.get(p.name) or self._unweighted(p)
            populations.append(population)
            projections += incoming
        return self.source.replace(
            populations=tuple(populations), projections=tuple(projections), quantization=recipe or self.recipe
        )

    def _unweighted(self, p: Population) -> tuple[Population, list[Projection]]:
        """A population that only passes spikes on."""
        incoming = [_with_weight(q, q.operator.weight.astype(np.int8)) for q in self.source.incoming(p.name)]
        bias = np.zeros((), np.int32)
        if p.dynamics.summed:
            return replace(p, threshold=p.threshold * self._units[p.name], bias=bias), incoming
        return replace(p, threshold=p.threshold.astype(np.int32), bias=bias), incoming


def _quantize_input(graph: Graph) -> Population:
    p, pre, most = graph.input, graph.preprocessing, graph.input_range
    if most is not None:
        return replace(p, levels=255, threshold=np.asarray(most / 255, np.float64), bias=np.zeros(()))
    if pre is None:
        raise GraphError(
            "the range of the input is unknown: say how pixels become inputs (--mean and --std, preprocessing=), or "
            "give inputs to take it from (`pascal-nm quantize --data`, input_range=)"
        )
    levels = int(np.ceil(np.max(np.maximum(np.abs(pre.centre), np.abs(pre.scale - pre.centre))))) + 1
    return replace(p, levels=levels, threshold=pre.step, bias=pre.centre - np.rint(pre.centre))


def _absorbing(source: Population, projection: Projection, unit: Array | None) -> Projection:
    """The projection in float64, from integers of which one stands for ``unit``."""
    projection = _with_weight(projection, projection.operator.weight.astype(np.float64))
    if unit is None:
        return projection
    return replace(projection, operator=projection.operator.scale_input(unit, projection.pooled(source.shape)))


def _grid(
    p: Population, incoming: list[Projection], powers: list[int], finest: Array, recipe: LayerQuantization, most: int
) -> Array:
    """The grid of each channel: by the range ``max`` the finest one that clips no weight."""
    if recipe.range == "max":
        return _aligned(p, finest, recipe, most)
    grids = [_aligned(p, finest * clip, recipe, most) for clip in _CLIPS]
    weights = list(zip(incoming, powers, strict=True))
    errors = np.stack([sum(_squared_error(q, grid, e, recipe.largest) for q, e in weights) for grid in grids])
    if p.dynamics.reads_out:
        return grids[int(errors.reshape(len(grids), -1).sum(1).argmin())]
    return np.asarray(np.take_along_axis(np.stack(grids), errors.argmin(0)[None], 0)[0])


def _aligned(p: Population, grid: Array, recipe: LayerQuantization, most: int) -> Array:
    """The finest grid, not finer than ``grid``, on which the threshold is a whole number.

    That number is a multiple of ``2**shift``, and no more than ``most``, of a channel without
    weights no more than a chip holds. A readout has one grid for all, and a linear population the
    finest.
    """
    if p.dynamics.reads_out:
        return np.full_like(grid, grid.max() or 1.0)
    if p.dynamics.adds:
        return np.where(grid > 0, grid, grid.max() or 1.0)
    theta = p.threshold.astype(np.float64)
    if math.prod(theta.shape[1:]) > 1:
        raise GraphError(
            f"the threshold of {p.name} differs from neuron to neuron within a channel; integer grids are per channel"
        )
    unit = 2**recipe.shift
    multiples = np.floor(theta / (unit * np.maximum(grid, np.finfo(float).tiny)))
    largest = np.where(grid > 0, most, min(most, _THRESHOLD_MAX))
    return np.asarray(theta / (unit * np.clip(multiples, 1, largest // unit)))


def _most(p: Population) -> int:
    """The largest integer threshold behind linear populations, whose units are small.

    Loihi cannot have these. The bias, too, fits into 32 bits.
    """
    if not p.dynamics.fires:
        return _THRESHOLD_MAX
    return min(2**30, int(2**31 / (1 + np.abs(p.bias / p.threshold).max()))) - 1


def _carried_grid(p: Population, factors: Array, finest: Array, recipe: LayerQuantization) -> Array:
    """That of a carried sum, times the factors, divided by a power of two, which is its weight.

    It is no finer than ``finest``, the grid that the other weights need, or than a threshold needs
    in as many bits. Where these are so much coarser that the sum itself hardly counts, theirs is
    taken.
    """
    if p.dynamics.fires:
        needed = p.threshold.astype(np.float64) / 2 ** (recipe.bits + 1)
        finest = np.where(finest > 0, np.minimum(finest, needed), needed)
    finer = np.log2(factors / np.where(finest > 0, finest, factors))
    grid = factors / 2 ** np.clip(np.floor(finer), 0, recipe.bits - 2)
    return np.asarray(np.where(np.floor(finer) < -recipe.bits, finest, grid))


def _passes(projection: Projection) -> bool:
    """Whether it is a factor for each channel, other than 0."""
    operator = projection.operator
    return operator.passes and operator.uniform and bool(np.all(operator.weight))


def _squared_error(projection: Projection, grid: Array, exponent: int, largest: int) -> Array:
    """What rounding and clipping change, squared and summed over each channel's weights.

    It has the grid's shape.
    """
    scaled = projection.operator.scale_output(1 / (grid * 2**exponent)).weight
    lost = (np.clip(np.rint(scaled), -largest, largest) - scaled) ** 2
    summed = projection.operator.added(lost).reshape(-1, *(1,) * (grid.ndim - 1))
    return np.asarray(summed * (grid * 2**exponent) ** 2)


def _quantize_population(p: Population, grid: Array, bias_bits: int) -> Population:
    bias = p.bias.astype(np.float64)
    if p.dynamics.reads_out:
        scale = p.threshold.astype(np.float64) / grid
        return replace(p, threshold=scale, bias=_rounded_bias(bias / grid, bias_bits, p.name))
    if p.dynamics.adds:
        return replace(p, threshold=p.threshold.astype(np.float64) * grid, bias=np.zeros((), np.int32))
    theta = np.rint(p.threshold.astype(np.float64) / grid)
    offset = (bias + p.threshold.astype(np.float64) / 2) / grid - theta // 2
    return replace(
        p, threshold=_to_int32(theta, f"the threshold of {p.name}"), bias=_rounded_bias(offset, bias_bits, p.name)
    )


def _rounded_bias(bias: Array, bits: int, name: str) -> Array:
    """Rounded once: to whole numbers, or to those with so many significant bits."""
    unit = 2.0 ** exponents(bias, bits) if bits else 1.0
    return _to_int32(np.rint(bias / unit) * unit, f"the bias of {name}")


def _quantize_projection(projection: Projection, grid: Array, exponent: int, largest: int) -> Projection:
    scaled = projection.operator.scale_output(1 / (grid * 2**exponent)).weight
    weight = np.clip(np.rint(scaled), -largest, largest) * 2**exponent
    dtype = next((t for t in (np.int8, np.int16) if np.abs(weight).max(initial=0) <= np.iinfo(t).max), None)
    if dtype is None:
        return _with_weight(projection, _to_int32(weight, f"a weight from {projection.source} to {projection.target}"))
    return _with_weight(projection, weight.astype(dtype))


def _with_weight(projection: Projection, weight: Array) -> Projection:
    return replace(projection, operator=projection.operator.with_weight(weight))


def _to_int32(array: Array, what: str) -> Array:
    if np.abs(array).max(initial=0) > np.iinfo(np.int32).max:
        raise GraphError(
            f"{what} reaches {np.abs(array).max():.3g} on its grid, beyond 32 bits: "
            "its weights are too small against it"
        )
    return array.astype(np.int32)
