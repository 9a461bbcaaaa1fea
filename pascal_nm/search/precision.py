r"""What quantization loses, layer by layer, and the fewest bits that lose little enough.

A layer's own loss is what its integers change when it gets the float network's spike counts: the
levels that move, and the error of the potential in units of the threshold,

.. math:: e_j = \frac{z^{int}_j}{\theta^{int}_j} - \frac{z_j}{\theta_j}

Layers are quantized independently of one another, so that a network with any bits in any layer is
put together from networks of one number of bits.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pascal_nm.common import memory
from pascal_nm.common.arrays import Array
from pascal_nm.errors import DataError
from pascal_nm.network.graph import BITS, RANGES, Graph, Inputs, Quantization
from pascal_nm.network.quantization import quantize
from pascal_nm.simulation import simulate
from pascal_nm.simulation.result import RunResult


@dataclass
class LayerLoss:
    """What quantization changed in one layer.

    Attributes:
        name: the population.
        bits: of its weights.
        weights: how many they are.
        weight_error: root mean square error of the weights, relative to their root mean square.
        potential_error: root mean square of the potential's error, in thresholds, for the float
            network's counts; of the readout relative to its deviation. NaN without images.
        own: share of levels (of a readout: predictions) that this layer alone changes.
            NaN without images.
        total: share that differ when all layers are quantized. NaN without images.
    """

    name: str
    bits: int
    weights: int
    weight_error: float
    potential_error: float = np.nan
    own: float = np.nan
    total: float = np.nan


def losses(graph: Graph, integer: Graph, inputs: Inputs | None = None) -> list[LayerLoss]:
    """Compare a float graph with its integer graph.

    :func:`pascal_nm.network.quantization.quantize` made the latter.

    Args:
        graph: the float graph.
        integer: the same, quantized.
        inputs: images (N, *input shape); without them only the weights are compared.
    """
    made = integer.quantization
    assert made is not None, "quantize leaves its recipe"
    found = [
        LayerLoss(p.name, made.layer(i).bits, _weights(graph, p.name), _weight_error(graph, integer, p.name))
        for i, p in enumerate(graph.weighted)
    ]
    if inputs is None:
        return found
    sums = np.zeros((len(found), 3))
    for batch in _batches(graph, inputs):
        exact, rounded = simulate.counts(graph, batch), simulate.counts(integer, batch)
        errors = _errors(graph, integer, exact, batch)
        for row, p, error in zip(sums, graph.weighted, errors, strict=True):
            if p.dynamics.reads_out:
                changed = rounded.predictions != exact.predictions
                logits = exact.logits[:, graph.columns[p.name]]
                scaled = error.square / (logits - logits.mean(1, keepdims=True)).var()
            elif p.dynamics.adds:
                changed, scaled = np.full((), np.nan), error.square
            else:
                changed, scaled = rounded.counts[p.name] != exact.counts[p.name], error.square
            row += np.asarray([scaled, error.changed, changed.mean()]) * len(batch)
    for loss, (square, own, total) in zip(found, sums / len(inputs), strict=True):
        loss.potential_error, loss.own, loss.total = float(np.sqrt(square)), float(own), float(total)
    return found


def ranges_for(graph: Graph, recipe: Quantization, inputs: Inputs) -> Quantization:
    """The recipe with the range for each layer that errs least, squared, in its potentials.

    The potentials are those of these images (N, *input shape).
    """
    names = [p.name for p in graph.weighted]
    squares = np.zeros((len(RANGES), len(names)))
    integers = [quantize(graph, replace(recipe, range=name)) for name in RANGES]
    for batch in _batches(graph, inputs):
        exact = simulate.counts(graph, batch)
        for row, integer in zip(squares, integers, strict=True):
            row += [error.square * len(batch) for error in _errors(graph, integer, exact, batch)]
    return replace(recipe, range=tuple(RANGES[i] for i in squares.argmin(0)))


@dataclass(frozen=True)
class Searched:
    """The outcome of :func:`fewest_bits`.

    Attributes:
        recipe: with the bits found.
        accuracy: of the quantized network on the images of the search.
        source_accuracy: of the float network on them.
        bits: of all weights together, in memory.
    """

    recipe: Quantization
    accuracy: float
    source_accuracy: float
    bits: int


def fewest_bits(
    graph: Graph,
    inputs: Inputs,
    labels: Array,
    drop: float,
    recipe: Quantization | None = None,
    *,
    make: Callable[[Graph, Quantization], Graph] = quantize,
    progress: Callable[[int, int], None] | None = None,
) -> Searched:
    """Bits for each layer, as few as a greedy search finds: accuracy drops by ``drop`` at most.

    What each layer's bits change in the logits, alone, orders the steps from all bits to the
    fewest: first what changes least for the memory that it saves. The search goes as far along this
    way as the measured accuracy allows, and then tries every layer once more: in the end no layer
    can lose another bit on these images.

    Args:
        graph: a float graph.
        inputs: images (N, *input shape), neither of the training (these bear rounding
            better than others) nor those that the result is judged on.
        labels: their classes, (N,).
        drop: of accuracy, as a share: 0.002 for 0.2 points.
        recipe: where the search begins: its bits are the most. None: 8 bits, range ``max``.
        make: gives the integer graph of a recipe with one number of bits; for a chip,
            :func:`pascal_nm.hw_targets.fixed_point.fit`. What it changes in the recipe is part
            of what is found.
        progress: called with (evaluations done, about how many in all).

    Raises:
        DataError: already the bits that the search begins with cost more accuracy.
    """
    recipe = recipe or Quantization()
    search = _Search(graph, inputs, labels, recipe, make, progress)
    least = search.accuracy(graph) - drop
    if search.measured(search.most) < least:
        raise DataError(
            f"already {recipe} weights cost {100 * (least + drop - search.measured(search.most)):.2f} points on these "
            "images: allow more, or begin with more bits"
        )
    way = search.way()
    low, high = 0, len(way) - 1
    while low < high:  # the furthest place on the way that is good enough, as if accuracy fell all along it
        middle = (low + high + 1) // 2
        low, high = (middle, high) if search.measured(way[middle]) >= least else (low, middle - 1)
    bits = way[low]
    bits = search.lowered(bits, least)
    return Searched(search.recipe(bits), search.measured(bits), least + drop, search.memory(bits))


class _Search:
    """Networks with any bits in any layer, measured on the same images."""

    def __init__(
        self,
        graph: Graph,
        inputs: Inputs,
        labels: Array,
        recipe: Quantization,
        make: Callable[[Graph, Quantization], Graph],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.inputs, self.labels, self.progress = inputs, labels, progress
        layers = [p.name for p in graph.weighted]
        self._make = functools.partial(make, graph)
        self._sums = any(p.dynamics.adds for p in graph.populations)
        self.most = tuple(recipe.layer(i).bits for i in range(len(layers)))
        self.graphs = {b: make(graph, replace(recipe, bits=b)) for b in range(BITS[0], max(self.most) + 1)}
        self.numbers = dict(zip(layers, range(len(layers)), strict=True))
        self.weights = [_weights(graph, name) for name in layers]
        self.known: dict[tuple[int, ...], float] = {}
        self.done, self.expected = 0, sum(b - BITS[0] for b in self.most) + 2 * len(layers) + 8

    def memory(self, bits: Sequence[int]) -> int:
        return sum(b * n for b, n in zip(bits, self.weights, strict=True))

    def recipe(self, bits: tuple[int, ...]) -> Quantization:
        """What makes the network with these bits."""
        made = [self.graphs[b].quantization for b in bits]
        layers = [q.layer(i) for i, q in enumerate(made) if q is not None]
        ranges, shifts = tuple(layer.range for layer in layers), tuple(layer.shift for layer in layers)
        return Quantization(bits, ranges, shifts, layers[0].bias_bits)

    def mixed(self, bits: tuple[int, ...]) -> Graph:
        if self._sums:  # whose units the layers behind them depend on
            return self._make(self.recipe(bits))
        any_graph = self.graphs[BITS[0]]

        def source(name: str) -> Graph:
            return self.graphs[bits[self.numbers[name]]] if name in self.numbers else any_graph

        return any_graph.replace(
            populations=tuple(source(p.name)[p.name] for p in any_graph.populations),
            projections=tuple(q for p in any_graph.populations for q in source(p.name).incoming(p.name)),
            quantization=None,
        )

    def accuracy(self, graph: Graph) -> float:
        return float(np.mean(self.logits(graph)[:, : graph.output.size].argmax(1) == self.labels))

    def measured(self, bits: tuple[int, ...]) -> float:
        if bits not in self.known:
            self.known[bits] = self.accuracy(self.mixed(bits))
        return self.known[bits]

    def logits(self, graph: Graph) -> Array:
        self.done += 1
        if self.progress is not None:
            self.progress(min(self.done, self.expected - 1), self.expected)
        return np.concatenate([simulate.counts(graph, batch).logits for batch in _batches(graph, self.inputs)])

    def way(self) -> list[tuple[int, ...]]:
        """From the most bits to the fewest, a bit of one layer at a time."""
        before = self.logits(self.mixed(self.most))
        changed = [
            {
                b: float(np.square(self.logits(self.mixed(_with(self.most, i, b))) - before).mean())
                for b in range(BITS[0], top)
            }
            | {top: 0.0}
            for i, top in enumerate(self.most)
        ]
        way = [self.most]
        while True:
            bits = way[-1]
            steps = [
                ((changed[i][b - 1] - changed[i][b]) / self.weights[i], i) for i, b in enumerate(bits) if b > BITS[0]
            ]
            if not steps:
                return way
            i = min(steps)[1]
            way.append(_with(bits, i, bits[i] - 1))

    def lowered(self, bits: tuple[int, ...], least: float) -> tuple[int, ...]:
        """Bit by bit in one layer after the other, until none can lose another.

        Those that save most memory come first.
        """
        before = None
        while before != bits:
            before = bits
            for i in sorted(range(len(bits)), key=lambda i: -self.weights[i]):
                while bits[i] > BITS[0] and self.measured(_with(bits, i, bits[i] - 1)) >= least:
                    bits = _with(bits, i, bits[i] - 1)
        return bits


def _with(bits: tuple[int, ...], layer: int, value: int) -> tuple[int, ...]:
    return (*bits[:layer], value, *bits[layer + 1 :])


def _batches(graph: Graph, inputs: Inputs) -> Iterator[Inputs]:
    """Images whose counts in all layers are held at once."""
    size = memory.batch_size(sum(p.size for p in graph.populations), memory.KEPT)
    return (inputs[i : i + size] for i in range(0, len(inputs), size))


def _weights(graph: Graph, name: str) -> int:
    return sum(q.operator.weight.size for q in graph.incoming(name))


def _weight_error(graph: Graph, integer: Graph, name: str) -> float:
    """Relative root mean square error of a layer's weights."""
    grid = graph[name].threshold / integer[name].threshold.astype(np.float64)
    grid = 1 / grid if graph[name].dynamics.adds else grid
    lost = kept = 0.0
    for q, rounded in zip(graph.incoming(name), integer.incoming(name), strict=True):
        operator, source = q.operator, graph[q.source]
        if source.dynamics.valued:
            unit = integer.input.threshold if source.dynamics.injects else _unit(integer, graph, q.source)
            operator = operator.scale_input(unit, q.pooled(source.shape))
        back = replace(rounded.operator, weight=rounded.operator.weight.astype(np.float64)).scale_output(grid)
        lost += float(np.square(back.weight - operator.weight).sum())
        kept += float(np.square(operator.weight).sum())
    return float(np.sqrt(lost / kept)) if kept else 0.0


def _unit(made: Graph, graph: Graph, name: str) -> Array:
    """What one unit of a linear population stands for in the float graph."""
    return np.asarray(made[name].threshold / graph[name].threshold, np.float64)


@dataclass(frozen=True)
class _Error:
    """What one layer changes that gets the float network's counts.

    Gives the mean squared error of its potential, and the share of levels or predictions
    that it changes.
    """

    square: float
    changed: float


def _errors(graph: Graph, integer: Graph, exact: RunResult, inputs: Inputs) -> Iterator[_Error]:
    """For each layer with weights; of a readout in the units of its logits.

    Of a linear population in standard deviations of its sums, which change no level.
    """
    counts: dict[str, Tensor] = {name: torch.from_numpy(count) for name, count in exact.counts.items()}
    sides = [(g, {**counts, g.input.name: torch.from_numpy(g.currents(inputs))}) for g in (graph, integer)]
    for p in graph.weighted:
        potentials = []
        for g, values in sides:
            z = simulate.sum_currents(g, g[p.name], values).double() + torch.from_numpy(
                g[p.name].bias.astype(np.float64)
            )
            theta = torch.from_numpy(g[p.name].threshold.astype(np.float64))
            if p.dynamics.fires:
                z += torch.floor(theta / 2) if g.is_integer else theta / 2
            potentials.append(z * torch.from_numpy(_unit(g, graph, p.name)) if p.dynamics.adds else z / theta)
        before, after = potentials
        if p.dynamics.adds:
            for g, values in sides:
                values[p.name] = before / torch.from_numpy(_unit(g, graph, p.name))
            yield _Error(float((after - before).square().mean() / before.var()), math.nan)
            continue
        square = float((after - before).square().mean())
        if p.dynamics.reads_out:
            changed = (after.flatten(1).argmax(1) != before.flatten(1).argmax(1)).double().mean()
        else:
            levels = [potential.floor().clamp(0, p.levels) for potential in potentials]
            changed = (levels[0] != levels[1]).double().mean()
        yield _Error(square, float(changed))
