r"""Is the spiking network the source network?

Every level and every output compared, every difference explained or named.

In floating point, a level may flip where a sum lands on a rounding boundary. A flip is *explained*
when it lies within the rounding error of the sum itself: with unit roundoff u and n additions, the
computed sum differs from the true one by at most

.. math::
    \gamma_n \left(\sum_i |w_i| |c_i| + |b| + \theta\right), \qquad
    \gamma_n = \frac{n u}{1 - n u}

(Higham, Accuracy and Stability of Numerical Algorithms, Section 3.1). Each population is checked on
its own inputs, in float64, so that one flip is not blamed on the layers behind it; the readout's
values are held to the same bound. Where the source network adds up larger terms than the graph,
:mod:`pascal_nm.source.rounding` says what they may change. Anything outside these bounds is a
mistake, not rounding. In integers there is nothing to explain: counts and outputs are equal or
wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import NamedTuple

import numpy as np
import torch

from pascal_nm.common.arrays import Array
from pascal_nm.network.graph import Graph, Population, Projection
from pascal_nm.simulation import simulate
from pascal_nm.simulation.result import RunResult
from pascal_nm.source import rounding
from pascal_nm.source.tracing import SourceNetwork

_MARGIN = 16
"""Roundings per sum beside its additions: folding of normalization and amplitude,
bias shares, resets."""


@dataclass
class LayerCheck:
    """What one population showed over all images.

    Attributes:
        name: the population.
        neurons: levels, or output values of the readout, that were compared (neurons times images).
        flips: levels that differ from the source network's, for whatever reason.
        unexplained: levels or output values, of the target or of the source, that rounding cannot
            explain; 0 if the graph is the network.
        differing: integer counts or outputs that differ from the integer QCFS network's; 0 if the
            target is right.
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
        prediction_mismatches: images on which the float spiking network and the source
            network disagree.
        integer_mismatches: images on which target and integer QCFS network disagree.
        differences: parameters in which the given graph differs from the converted
            model, one line each.
        output_difference: the largest difference between an output of the spiking network and of
            what it was compared with: the source network, or the integer QCFS network.
        probability_difference: the same of the class probabilities, the softmax of the outputs
            (Definition 3.2 compares classification maps; Equation 39's outputs over their sum are
            no distribution where one is negative).
        source_predictions: the source network's own classes, (N,).
        changed: predictions of an integer network that are not the float source network's: what
            quantization changed.
        arithmetic: of the spiking network: its float type, or its bits.
        taken: what the model does not say and was taken from the graph under test: not compared.
    """

    layers: dict[str, LayerCheck] = field(default_factory=dict)
    images: int = 0
    prediction_mismatches: int = 0
    integer_mismatches: int = 0
    differences: list[str] = field(default_factory=list)
    output_difference: float = 0.0
    probability_difference: float = 0.0
    source_predictions: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    changed: int = 0
    arithmetic: str = "float"
    taken: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether it is the same network.

        Every parameter and prediction is the same, and there is nothing that rounding
        does not explain.

        In floats, levels may have flipped all the same, by ties above all: ``flips`` counts them,
        ``exact`` excludes them.
        """
        wrong = any(layer.unexplained or layer.differing for layer in self.layers.values())
        return not (wrong or self.prediction_mismatches or self.integer_mismatches or self.differences)

    @property
    def exact(self) -> bool:
        """Whether it is ``equal``, and all levels of all neurons are those it was compared with."""
        return self.equal and not self.flips

    @property
    def flips(self) -> int:
        """Levels that differ from the source network's, in all layers.

        Rounding explains those that are in no ``unexplained``.
        """
        return sum(layer.flips for layer in self.layers.values())

    @property
    def verdict(self) -> str:
        """The answer in a sentence that says what is exact, and with what it was compared."""
        layers = [layer for layer in self.layers.values() if layer.name != "output"]
        levels = f"{sum(layer.neurons for layer in layers):,}"
        images, changed = f"{self.images:,} image{'s' if self.images != 1 else ''}", f"{self.changed:,}"
        if not self.equal:
            return f"not exact: {'; '.join(self._reasons())}"
        if self.arithmetic.startswith("float"):
            apart = f"outputs differ by {self.output_difference:.2g} at most ({self.arithmetic})"
            if not self.flips:
                return f"exact: each of {levels} levels on {images} is the source network's; {apart}"
            return (
                f"equal up to rounding: of {levels} levels on {images}, "
                f"{self.flips:,} lie on the other side of a step than in the source network, "
                f"each within the rounding error of its sum; {apart}; all predictions are the same"
            )
        return (
            f"exact: each of {levels} spike counts and every output on {images} is that of the integer "
            f"QCFS network ({self.arithmetic}), bit for bit; "
            f"quantization changed {changed} of {self.images:,} predictions of the float source network"
        )

    def _reasons(self) -> Iterator[str]:
        if self.differences:
            yield f"the network under test differs from the model in {len(self.differences):,} place(s)"
        wrong = sum(layer.unexplained + layer.differing for layer in self.layers.values())
        if wrong:
            kind = "that rounding does not explain" if self.arithmetic.startswith("float") else "that differ"
            yield f"{wrong:,} levels or outputs {kind}, first in {self.culprit}"
        if self.prediction_mismatches:
            why = (
                ""
                if wrong
                else ", by levels that rounding flipped, each explained: floats of this type, not the conversion"
            )
            yield f"{self.prediction_mismatches:,} of {self.images:,} predictions differ from the source network's{why}"
        if self.integer_mismatches:
            yield f"{self.integer_mismatches:,} of {self.images:,} predictions differ from the integer QCFS network's"

    def __str__(self) -> str:
        return self.verdict

    @property
    def culprit(self) -> str | None:
        """The first population at which target and source part for another reason than rounding."""
        return next((layer.name for layer in self.layers.values() if layer.unexplained or layer.differing), None)

    def _see(self, logits: Array, result: RunResult) -> int:
        """Note what the source network says of further images: logits, (N, outputs).

        Gives how many of a run's predictions are others.
        """
        predictions = logits[:, : result.classes].argmax(1)
        self.images += len(logits)
        self.source_predictions = np.append(self.source_predictions, predictions)
        return int(np.count_nonzero(predictions != result.predictions))

    def add_answers(self, logits: Array, result: RunResult) -> None:
        """Compare the answers of another network with the source network's logits, (N, classes).

        Nothing else of two networks with other layers can be compared.
        """
        self.prediction_mismatches += self._see(logits, result)

    def _note_outputs(self, expected: Array, found: Array, classes: int | None) -> None:
        """Keep how far outputs of further images lie apart, (N, outputs) each.

        The first ``classes`` are those of the answer.
        """
        apart = [(expected, found), (_probabilities(expected[:, :classes]), _probabilities(found[:, :classes]))]
        outputs, shares = (float(np.abs(a - b).max(initial=0)) for a, b in apart)
        self.output_difference = max(self.output_difference, outputs)
        self.probability_difference = max(self.probability_difference, shares)

    def add_float(self, source: SourceNetwork, reference: Graph, result: RunResult, inputs: Array) -> None:
        """Compare a float run on ``inputs`` with the source network.

        ``reference`` is the graph converted from it.
        """
        logits, levels = source.levels(inputs)
        self.prediction_mismatches += self._see(logits, result)
        self.arithmetic = str(reference.dtype)
        self._note_outputs(logits, result.logits, result.classes)
        wide = reference.astype(np.float64)
        names, every = {p.name for p in wide.populations}, levels
        levels = {name: level.reshape(-1, *wide[name].shape) for name, level in levels.items() if name in names}
        outputs, theirs = (
            {name: each[:, ends] for name, ends in wide.columns.items()} for each in (result.logits, logits)
        )
        there = _Side(torch.finfo(source.dtype), Sums(wide, with_max_populations(wide, levels), inputs), theirs)
        here = _Side(np.finfo(reference.dtype), Sums(wide, result.counts, inputs, result.spikes), outputs)
        errors = cache(lambda: rounding.errors(source, inputs, every, there.arithmetic))
        for p in (*wide.spiking, *wide.outputs):
            layer = judged(wide, p, levels)
            check = self.layers.setdefault(layer.name, LayerCheck(layer.name))
            check.neurons += layer.size * len(inputs)
            if p.dynamics.fires:
                check.flips += int(np.count_nonzero(there.counts[layer.name] != here.counts[layer.name]))
            sources = {q.source for q in synapses(wide, p)} & there.counts.keys()
            same = all(np.array_equal(there.counts[name], here.counts[name]) for name in sources)
            value = _argument(there.sums, p)
            for side in (there, here):
                if side is here and not same:
                    value = _argument(here.sums, p)
                found = side.found(layer)
                if p.dynamics.fires and np.array_equal(_pooled(wide, layer, p.name, _level(value, p)), found):
                    continue  # as nearly always: nothing that a bound would have to explain
                expected = interval(wide, p, layer, side.sums, side.arithmetic, value)
                wrong = expected.excludes(found, p)
                if side is there and wrong.any():
                    error = errors().of(layer.name, wide.columns).reshape(found.shape)
                    wrong = expected.widened(error).excludes(found, p)
                check.unexplained += int(np.count_nonzero(wrong))

    def add_integer(self, expected: RunResult, result: RunResult, logits: Array, arithmetic: str) -> None:
        """Compare an integer run with the integer QCFS network: counts, potentials, predictions.

        Args:
            expected: of the integer QCFS network.
            result: of the target.
            logits: of the float source network, (N, classes): they say what quantization changed.
            arithmetic: in words.
        """
        self.changed += self._see(logits, result)
        self.arithmetic = arithmetic
        self._note_outputs(expected.logits, result.logits, result.classes)
        self.integer_mismatches += int(np.count_nonzero(expected.predictions != result.predictions))
        for name in expected.counts:
            check = self.layers.setdefault(name, LayerCheck(name))
            check.neurons += result.counts[name].size
            check.differing += int(np.count_nonzero(expected.counts[name] != result.counts[name]))
        output = self.layers.setdefault("output", LayerCheck("output"))
        output.neurons += result.potential.size
        output.differing += int(np.count_nonzero(expected.potential != result.potential))


def _probabilities(logits: Array) -> Array:
    """The softmax of outputs (N, classes) over the classes, in double precision."""
    powers = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


class _Side(NamedTuple):
    """What the source network or a target found in its arithmetic.

    Kept are counts of all populations and the spikes that it took, and outputs.
    """

    arithmetic: rounding.Arithmetic
    sums: Sums
    outputs: Mapping[str, Array]

    @property
    def counts(self) -> Mapping[str, Array]:
        """Of all populations that spike."""
        return self.sums.counts

    def found(self, p: Population) -> Array:
        """What stands against the interval of a population."""
        return self.outputs[p.name].reshape(-1, *p.shape) if p.dynamics.reads_out else self.counts[p.name]


def judged(graph: Graph, p: Population, counts: Mapping[str, Array]) -> Population:
    """The population by whose counts ``p`` is judged.

    It is ``p`` itself, or the last max behind it where the source network pools first.
    """
    while not (p.dynamics.reads_out or p.name in counts):
        p = graph[graph.outgoing(p.name)[0].target]
    return p


class Interval(NamedTuple):
    """What a population computes from given counts.

    It is ``z / theta + 1/2`` of Equation 1, or ``z / theta`` of a readout.

    ``low`` and ``high`` are what rounding can make of it, at most. Arrays of shape (N, *shape).
    """

    value: Array
    low: Array
    high: Array

    def widened(self, more: Array) -> Interval:
        """With a further error of at most ``more``."""
        return Interval(self.value, self.low - more, self.high + more)

    def holds(self, found: Array) -> Array:
        """Where ``found`` lies inside; NaN lies nowhere."""
        return np.asarray((self.low <= found) & (found <= self.high))

    def excludes(self, found: Array, p: Population) -> Array:
        """Where a level (of a readout: an output) is found that no value of the interval gives."""
        if p.dynamics.reads_out:
            return ~self.holds(found)
        low, high = _level(self.low, p), _level(self.high, p)
        return ~np.asarray((low <= found) & (found <= high))


def interval(
    graph: Graph,
    p: Population,
    layer: Population,
    sums: Sums,
    arithmetic: rounding.Arithmetic,
    value: Array | None = None,
) -> Interval:
    """What a population computes, given the counts of its own sources.

    Args:
        graph: a float64 graph.
        p: one of its pasc populations, or its readout.
        layer: the population by whose counts it is judged: behind a max population, the
            interval is pooled, too.
        sums: what populations sent.
        arithmetic: the float type under test.
        value: what is computed without rounding, where it is known.
    """
    value = _argument(sums, p) if value is None else value
    size = _argument(sums, p, magnitudes=True) + (1 if p.dynamics.fires else 0)
    terms = sum(_fan_in(q) * (sums.spikes(q.source) + 1) for q in synapses(graph, p)) + 2 * p.levels + _MARGIN
    error = (size + float(arithmetic.tiny) / p.threshold) * rounding.gamma(terms, arithmetic)
    return Interval(*(_pooled(graph, layer, p.name, bound) for bound in (value, value - error, value + error)))


def synapses(graph: Graph, p: Population) -> list[Projection]:
    """Through which a population gets its current: onto it, and onto the linear ones before it."""
    found: list[Projection] = []
    names = {p.name}
    for target in reversed(graph.populations):
        if target.name in names:
            found += graph.incoming(target.name)
            names |= {q.source for q in graph.incoming(target.name) if graph[q.source].dynamics.summed}
    return found


class Sums:
    """What each population sends in all, given the counts of those that spike.

    Args:
        graph: a float64 graph.
        counts: spike counts by population, (N, *shape) each.
        inputs: the inputs that gave the counts, (N, *input shape).
        sent: spikes of either sign that were added up to these counts, where there
            were more of them.
    """

    def __init__(
        self, graph: Graph, counts: Mapping[str, Array], inputs: Array, sent: Mapping[str, Array] | None = None
    ) -> None:
        self.graph, self.counts, self.sent = graph, counts, sent or {}
        self._known = {(graph.input.name, False): graph.currents(inputs)}
        self._spikes: dict[str, int] = {}

    def spikes(self, name: str) -> int:
        """The most spikes that a neuron of a population sent."""
        if name not in self._spikes:
            p = self.graph[name]
            if p.dynamics.summed:  # in each timestep in which a source does
                self._spikes[name] = sum(self.spikes(q.source) for q in self.graph.incoming(name))
            else:
                self._spikes[name] = p.steps if name not in self.sent else int(self.sent[name].max(initial=p.steps))
        return self._spikes[name]

    def of(self, name: str, magnitudes: bool = False) -> Array:
        """All that a population sent, (N, *shape), or the ``magnitudes`` that add up to it."""
        key = (name, magnitudes)
        if key not in self._known:
            p = self.graph[name]
            if p.dynamics.adds:
                self._known[key] = np.asarray(self.current(p, magnitudes))
            elif p.dynamics.summed:
                (q,) = self.graph.incoming(name)
                value = torch.from_numpy(self.of(q.source, magnitudes))
                self._known[key] = simulate.relayed(self.graph, p, {q.source: value}).numpy()
            elif p.dynamics.injects:
                self._known[key] = np.abs(self.of(name))
            else:
                count = self.counts[name].astype(np.float64)
                return np.maximum(count, self.sent.get(name, 0)) if magnitudes else count
        return self._known[key]

    def current(self, p: Population, magnitudes: bool = False) -> Array:
        """What comes to a population, bias included."""
        total = np.abs(p.bias) if magnitudes else p.bias
        for q in self.graph.incoming(p.name):
            if magnitudes:
                q = replace(q, operator=q.operator.with_weight(np.abs(q.operator.weight)))
            value = torch.from_numpy(self.of(q.source, magnitudes))
            total = total + simulate.delivery(q, np.dtype(np.float64))(value).numpy()
        return total


def with_max_populations(graph: Graph, levels: Mapping[str, Array]) -> dict[str, Array]:
    """Levels of the QCFS layers, completed by those of the max populations behind them."""
    counts = dict(levels)
    for p in graph.populations:
        if p.dynamics.relays and p.dynamics.counted and p.name not in counts:
            source = graph.incoming(p.name)[0].source
            if source in counts:  # else the network pools again in front of its QCFS
                counts[p.name] = _pooled(graph, p, source, counts[source])
    return counts


def _level(argument: Array, p: Population) -> Array:
    """The level of Equation 1 from its argument z / theta + 1/2."""
    return np.asarray(np.clip(np.floor(argument), 0, p.levels))


def _pooled(graph: Graph, p: Population, source: str, counts: Array) -> Array:
    """What max populations, the last of them ``p``, make of the counts of a population before them.

    Those of ``p`` itself stay what they are.
    """
    if p.name == source:
        return counts
    (projection,) = graph.incoming(p.name)
    assert projection.pool is not None, "Graph refuses a max population without a window"
    counts = _pooled(graph, graph[projection.source], source, counts)
    sign = torch.from_numpy(p.threshold.astype(np.float32))
    return np.asarray(simulate.window_max(torch.from_numpy(counts), projection.pool, sign).numpy())


def _argument(sums: Sums, p: Population, *, magnitudes: bool = False) -> Array:
    """The argument z / theta + 1/2 of Equation 1, or a readout's z / theta.

    Of ``magnitudes``, all terms count as positive.
    """
    return np.asarray(sums.current(p, magnitudes) / p.threshold + (0 if p.dynamics.reads_out else 0.5))


def _fan_in(projection: Projection) -> int:
    return projection.operator.fan_in * projection.window
