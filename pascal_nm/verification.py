r"""Is the spiking network the source network? Compared level by level, and every difference explained or named.

In floating point, a level may flip where a sum lands on a rounding boundary. A flip is *explained* when it lies within the
rounding error of the sum itself: with unit roundoff u and n additions, the computed sum differs from the true one by at most

.. math:: \gamma_n \left(\sum_i |w_i| |c_i| + |b| + \theta\right), \qquad \gamma_n = \frac{n u}{1 - n u}

(Higham, Accuracy and Stability of Numerical Algorithms, Section 3.1). Each population is checked on its own inputs, in float64,
so that one flip is not blamed on the layers behind it. Anything outside that bound is a mistake, not rounding. In integers there
is nothing to explain: counts are equal or they are wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from pascal_nm import simulate
from pascal_nm.graph import Array, Graph, Identity, Population, Projection
from pascal_nm.result import RunResult
from pascal_nm.source import SourceNetwork

MARGIN = 16
"""Roundings per sum beside its additions: folding of normalization and amplitude, bias shares, resets."""


@dataclass
class LayerCheck:
    """What one population showed over all images.

    Attributes:
        name: the population.
        neurons: levels compared (neurons times images).
        flips: levels that differ from the source network's.
        unexplained: levels, of the target or of the source, that rounding cannot explain; 0 if the graph is the network.
        differing: integer counts that differ from the integer QCFS network's; 0 if the target is right.
    """

    name: str
    neurons: int = 0
    flips: int = 0
    unexplained: int = 0
    differing: int = 0


@dataclass
class Verification:
    """The outcome of comparing a target with its source network.

    Attributes:
        layers: checks by population name.
        images: how many were compared.
        prediction_mismatches: images on which the float spiking network and the source network disagree.
        integer_mismatches: images on which target and integer QCFS network disagree.
        differences: parameters in which the given graph differs from the converted model, one line each.
    """

    layers: dict[str, LayerCheck] = field(default_factory=dict)
    images: int = 0
    prediction_mismatches: int = 0
    integer_mismatches: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        """True when the answer is yes: no differing parameter, count or prediction, and no flip that rounding cannot explain."""
        wrong = any(layer.unexplained or layer.differing for layer in self.layers.values())
        return not (wrong or self.prediction_mismatches or self.integer_mismatches or self.differences)

    @property
    def culprit(self) -> str | None:
        """The first population, in order, at which target and source part for another reason than rounding."""
        return next((layer.name for layer in self.layers.values() if layer.unexplained or layer.differing), None)

    def add_float(self, source: SourceNetwork, reference: Graph, result: RunResult, inputs: Array) -> None:
        """Compare a float run on ``inputs`` with the source network; ``reference`` is the graph converted from it."""
        logits, levels = source.levels(inputs)
        self.images += len(inputs)
        self.prediction_mismatches += int(np.count_nonzero(logits.argmax(1) != result.predictions))
        wide = in_float64(reference)
        roundoff = float(np.finfo(reference.dtype).eps) / 2
        source_counts = with_max_populations(wide, levels)
        for p in reference.spiking:
            layer = judged(reference, p, levels)
            check = self.layers.setdefault(layer.name, LayerCheck(layer.name))
            check.neurons += levels[layer.name].size
            check.flips += int(np.count_nonzero(levels[layer.name] != result.counts[layer.name]))
            for counts in (source_counts, result.counts):
                check.unexplained += unexplained(wide, p, counts, inputs, roundoff)

    def add_integer(self, expected: RunResult, result: RunResult) -> None:
        """Compare an integer run with the integer QCFS network: counts, potentials, predictions."""
        self.images += len(result.predictions)
        self.integer_mismatches += int(np.count_nonzero(expected.predictions != result.predictions))
        for name in expected.counts:
            check = self.layers.setdefault(name, LayerCheck(name))
            check.neurons += result.counts[name].size
            check.differing += int(np.count_nonzero(expected.counts[name] != result.counts[name]))
        output = self.layers.setdefault("output", LayerCheck("output"))
        output.neurons += result.potential.size
        output.differing += int(np.count_nonzero(expected.potential != result.potential))


def judged(graph: Graph, p: Population, counts: Mapping[str, Array]) -> Population:
    """The population by whose counts ``p`` is judged: itself, or the max behind it where the source network pools first."""
    return p if p.name in counts else graph[graph.outgoing(p.name)[0].target]


def unexplained(graph: Graph, p: Population, counts: Mapping[str, Array], inputs: Array, roundoff: float) -> int:
    """Levels of population ``p`` that rounding cannot explain, given the counts of its own sources.

    Args:
        graph: a float64 graph.
        p: one of its pasc populations.
        counts: spike counts by population, (N, *shape) each.
        inputs: the inputs that gave the counts, (N, *input shape).
        roundoff: unit roundoff of the arithmetic under test (eps / 2).
    """
    layer = judged(graph, p, counts)
    found = counts[layer.name]

    def level(argument: Array) -> Array:
        levels = np.clip(np.floor(argument), 0, p.levels)
        return levels if layer is p else _pooled(graph, layer, levels)

    exact = _argument(graph, p, counts, inputs)
    suspects = level(exact) != found
    if not suspects.any():
        return 0
    magnitude = replace(graph, projections=tuple(_absolute(q) for q in graph.projections))
    size = _argument(magnitude, replace(p, bias=np.abs(p.bias)), counts, np.abs(inputs)) + 1
    terms = sum(_fan_in(graph, q) * (graph[q.source].steps + 1) for q in graph.incoming(p.name)) + MARGIN
    error = size * (terms * roundoff / (1 - terms * roundoff))
    bounds = level(exact - error), level(exact + error)
    return int(np.count_nonzero(suspects & ((found < np.minimum(*bounds)) | (found > np.maximum(*bounds)))))


def in_float64(graph: Graph) -> Graph:
    """The same float graph with every parameter widened, without rounding."""
    return graph.replace(
        populations=tuple(
            replace(p, threshold=p.threshold.astype(np.float64), bias=p.bias.astype(np.float64))
            for p in graph.populations
        ),
        projections=tuple(
            replace(q, operator=replace(q.operator, weight=q.operator.weight.astype(np.float64)))
            for q in graph.projections
        ),
    )


def with_max_populations(graph: Graph, levels: Mapping[str, Array]) -> dict[str, Array]:
    """Levels of the QCFS layers, completed by those of the max populations behind them."""
    counts = dict(levels)
    for p in graph.populations:
        if p.kind == "max" and p.name not in counts:
            counts[p.name] = _pooled(graph, p, counts[graph.incoming(p.name)[0].source])
    return counts


def _pooled(graph: Graph, p: Population, counts: Array) -> Array:
    """What a max population makes of its source's counts."""
    pool = graph.incoming(p.name)[0].pool
    assert pool is not None, "Graph refuses a max population without a window"
    sign = torch.from_numpy(p.threshold.astype(np.float32))
    return np.asarray(simulate.window_max(torch.from_numpy(counts), pool, sign).numpy())


def _argument(graph: Graph, p: Population, counts: Mapping[str, Array], inputs: Array) -> Array:
    """The argument z / theta + 1/2 of Equation 1, in float64."""
    values = {
        q.source: torch.from_numpy(
            graph.currents(inputs) if graph[q.source].kind == "analog" else counts[q.source].astype(np.float64)
        )
        for q in graph.incoming(p.name)
    }
    z = simulate.sum_currents(graph, p, values).numpy() + p.bias
    return np.asarray(z / p.threshold + 0.5)


def _absolute(projection: Projection) -> Projection:
    return replace(projection, operator=replace(projection.operator, weight=np.abs(projection.operator.weight)))


def _fan_in(graph: Graph, projection: Projection) -> int:
    operator = projection.operator
    per_neuron = 1 if isinstance(operator, Identity) else math.prod(operator.weight.shape[1:])
    return per_neuron * (math.prod(projection.pool.kernel) if projection.pool else 1)
