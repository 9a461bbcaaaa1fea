r"""Which layers need how many levels (Section 3.4 of the paper, Algorithms 3 and 4).

The metric of a layer comes from the histogram of its QCFS levels over calibration images: how often
each of 0 to L occurs. It is

.. math:: M = A \cdot (g^2 + 1) \cdot K

with van der Eijk's agreement A (Equation 3), skewness g (Equation 4) and kurtosis K (Equation 5). A
high M means that fewer levels will do.

Two *readings* are in use. ``paper`` is what the equations say: the samples are the levels that
neurons take. ``authors`` is what ``get_stats.py`` in https://github.com/BrainSeek-Lab/PASCAL
computes: skewness and kurtosis of the *frequencies*, L + 1 numbers.

A, g\ :sup:`2` and K are rational numbers, and M is rounded once, at the end: layers that use their
levels in the same way have the same metric, to the last bit. Ties are normal, since A = 0 makes the
metric 0 whatever the rest is; layers that tie get the same levels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.common.files import replacing
from pascal_nm.errors import DataError
from pascal_nm.network.graph import Graph, Inputs
from pascal_nm.paper import analysis
from pascal_nm.simulation import simulate

Reading = Literal["paper", "authors"]
READINGS: tuple[Reading, ...] = ("paper", "authors")

IMAGES = 3000
"""Calibration images, as in Algorithm 3."""


@dataclass(frozen=True)
class LayerMetric:
    """Algorithm 3 for one layer.

    Attributes:
        name: the population.
        levels: its L.
        histogram: how often each level 0 to L occurred.
        alpha: share of the samples from which on a level counted as non-empty.
        lowered: whether that is 1 / (L + 1), because no level had the share that was asked for.
        agreement: A, from 0 to 1.
        skewness: g; NaN where what it is taken of has no variance.
        kurtosis: K; likewise.
        metric: M. Where every neuron has the same level it is infinite in the paper's reading: one
            level is all that this layer uses. Where every level is equally frequent it is 0 in the
            authors' reading: A is 0, and the other factors are bounded by the number of levels, so
            the layer uses all it has. (``get_stats.py`` gives NaN there, 0 / 0.)
    """

    name: str
    levels: int
    histogram: tuple[int, ...]
    alpha: float
    lowered: bool
    agreement: float
    skewness: float
    kurtosis: float
    metric: float

    @property
    def constant(self) -> bool:
        """Whether every neuron had the same level on every image."""
        return sum(n > 0 for n in self.histogram) == 1


def histograms(graph: Graph, batches: Iterable[Inputs]) -> dict[str, Array]:
    """How often each level occurs in each layer: int64 (L + 1,) by population of kind ``pasc``.

    Args:
        graph: the network; its counts are the levels of the source network.
        batches: inputs of shape (N, *input shape); only one batch is in memory at a time.
    """
    found = {p.name: np.zeros(p.levels + 1, np.int64) for p in graph.spiking}
    for inputs in batches:
        for name, count in simulate.counts(graph, inputs).counts.items():
            if name in found:
                found[name] += np.bincount(count.reshape(-1), minlength=len(found[name]))
    return found


def measure(
    found: Mapping[str, Array], reading: Reading = "paper", alpha: float | Fraction | None = None
) -> list[LayerMetric]:
    """The metric of every layer.

    Args:
        found: from :func:`histograms`.
        reading: see the module.
        alpha: share of the samples from which on a level counts as non-empty; by default 1 / (2
            layers) for ``paper`` (Figure 1), 1 / (L + 1) for ``authors``. Figure 3 varies it as k /
            layers: :func:`share`.

    Raises:
        DataError: no layers; fewer than four samples of a layer; an unknown reading; ``authors``
            with fewer than 3 levels, for which its formula divides by zero.
    """
    if reading not in READINGS:
        raise DataError(f"unknown reading {reading!r} of the metric: choose from {', '.join(READINGS)}")
    if not found:
        raise DataError("the network has no QCFS layers, so there are no levels to measure")
    asked = None if alpha is None else _between_0_and_1(alpha)
    if asked is None and reading == "paper":
        asked = Fraction(1, 2 * len(found))
    return [_measured(name, [int(n) for n in histogram], reading, asked) for name, histogram in found.items()]


def share(k: float, layers: int) -> Fraction:
    """Alpha as Figures 1 (k = 1/2) and 3 (k = 1, 0.75, 0.5) have it: k over the number of layers.

    Raises:
        DataError: it does not lie between 0 and 1.
    """
    return _between_0_and_1(_decimal(k) / layers, f"alpha = {k:g} / {layers} layers")


def _decimal(number: float | Fraction) -> Fraction:
    """A number as it is written: 0.05 is one twentieth, which no binary fraction is."""
    return number if isinstance(number, Fraction) else Fraction(repr(float(number)))


def _between_0_and_1(alpha: float | Fraction, what: str = "alpha") -> Fraction:
    if not 0 < alpha < 1:
        raise DataError(f"{what} must lie between 0 and 1, not be {float(alpha):g}")
    return _decimal(alpha)


def _check_authors(name: str, levels: int) -> None:
    if levels < 3:
        raise DataError(
            f"the authors' metric divides by zero with fewer than 3 levels; {name} has {levels}: take the paper's"
        )


def _measured(name: str, counts: Sequence[int], reading: Reading, alpha: Fraction | None) -> LayerMetric:
    """Algorithm 3; ``alpha`` is None for 1 / (L + 1)."""
    if sum(counts) < 4:
        raise DataError(f"{name} has {sum(counts)} samples, neurons times images: the metric needs 4, give more images")
    if reading == "authors":
        _check_authors(name, len(counts) - 1)
    asked = alpha or Fraction(1, len(counts))
    alpha, agreement = _agreement(counts, asked)
    shape = (_of_samples if reading == "paper" else _of_frequencies)(counts)
    given = (name, len(counts) - 1, tuple(counts), float(alpha), alpha < asked, float(agreement))
    if shape is None:
        return LayerMetric(*given, math.nan, math.nan, math.inf if reading == "paper" else 0.0)
    metric = agreement * (shape.squared_skewness + 1) * shape.kurtosis
    return LayerMetric(*given, shape.skewness, float(shape.kurtosis), float(metric))


def _agreement(counts: Sequence[int], alpha: Fraction) -> tuple[Fraction, Fraction]:
    """The threshold that holds, and Equation 3.

    Where no level has a share of alpha, S would be 0 and A above 1, which says that a layer whose
    neurons are spread over all levels agrees more than one with a single level. The threshold is
    then 1 / (L + 1), the authors': one level of L + 1 has at least that, so S is at least 1 and A
    at most 1; and with all levels equally frequent, S is L + 1 and A is 0.
    """
    if max(counts) < alpha * sum(counts):
        alpha = Fraction(1, len(counts))
    occupied = sum(n >= alpha * sum(counts) for n in counts)
    return alpha, 1 - Fraction(occupied - 1, len(counts) - 1)


@dataclass(frozen=True)
class _Shape:
    """Skewness and kurtosis of a distribution, without rounding."""

    squared_skewness: Fraction
    positive: bool
    kurtosis: Fraction

    @property
    def skewness(self) -> float:
        return math.sqrt(self.squared_skewness) * (1 if self.positive else -1)


def _central_moments(values: Sequence[int], weights: Sequence[int]) -> tuple[int, list[Fraction]]:
    """How many samples there are, and their exact sums of (x - mean)**p for p = 2, 3, 4."""
    n = sum(weights)
    mean = Fraction(sum(v * w for v, w in zip(values, weights, strict=True)), n)
    return n, [sum((w * (v - mean) ** p for v, w in zip(values, weights, strict=True)), Fraction(0)) for p in (2, 3, 4)]


def _of_samples(counts: Sequence[int]) -> _Shape | None:
    """Equations 4 and 5 on the levels of all neurons; None where all are equal."""
    n, (second, third, fourth) = _central_moments(range(len(counts)), counts)
    if second == 0:
        return None
    variance = second / (n - 1)
    kurtosis = Fraction((n + 1) * n, (n - 1) * (n - 2) * (n - 3)) * fourth / variance**2
    return _Shape((third / n) ** 2 / variance**3, third > 0, kurtosis)


def _of_frequencies(counts: Sequence[int]) -> _Shape | None:
    """The authors' get_stats.py, on the frequencies; None where all are equal.

    It takes the population skewness, and for kurtosis that term of their bimodality coefficient.
    """
    n = len(counts)
    _, (second, third, fourth) = _central_moments(counts, [1] * n)
    if second == 0:
        return None
    variance = second / n
    excess = fourth / n / variance**2 - 3
    return _Shape((third / n) ** 2 / variance**3, third > 0, excess + Fraction(3 * n**2, (n - 2) * (n - 3)))


def cluster(metrics: Sequence[float], clusters: int) -> list[int]:
    """One-dimensional k-means: cluster 0 has the lowest metrics.

    Section 3.4.5 of the paper; Gronlund et al., https://arxiv.org/abs/1701.07204. The division is
    the best one of the layers whose borders lie between different metrics, found by dynamic
    programming in rational numbers: in floating point, costs that tie within rounding leave
    clusters empty. Of equally good divisions, more layers have the lower clusters. There are never
    more clusters than different metrics. A layer with an infinite metric joins the highest cluster:
    it says nothing about where the others divide, and has a cluster of its own only where there are
    fewer finite metrics than clusters.

    Returns:
        The cluster of every layer, from 0. All from 0 to the largest occur, and a higher metric
        never has a lower cluster.

    Raises:
        DataError: fewer than one cluster, or a metric that is no number.
    """
    if clusters < 1:
        raise DataError(f"layers are divided into at least 1 cluster, not {clusters}")
    if any(math.isnan(m) for m in metrics):
        raise DataError("a metric is no number (NaN), so the layers have no order")
    values = sorted({m for m in metrics if m < math.inf})
    labels = _divided(values, [sum(m == value for m in metrics) for value in values], min(clusters, len(values)))
    made = labels[-1] + 1 if labels else 0
    by_value = dict(zip(values, labels, strict=True)) | {math.inf: min(made, clusters - 1)}
    return [by_value[m] for m in metrics]


def _divided(values: Sequence[float], weights: Sequence[int], clusters: int) -> list[int]:
    """The cluster of each of the rising values, which occur ``weights`` times; none is empty."""
    n = len(values)
    exact = [Fraction(v) for v in values]
    of_weights, of_values, of_squares = (
        list(accumulate((w * x**p for w, x in zip(weights, exact, strict=True)), initial=Fraction(0)))
        for p in (0, 1, 2)
    )

    def cost(first: int, stop: int) -> Fraction:
        """Squared distances of these values from their mean."""
        weight, total, squares = (sums[stop] - sums[first] for sums in (of_weights, of_values, of_squares))
        return squares - total**2 / weight

    least = {stop: cost(0, stop) for stop in range(1, n + 1)}
    starts: list[dict[int, int]] = []
    for number in range(1, clusters):
        before, least, best = least, {}, number
        starts.append({})
        # The best start of the last cluster never falls as its end rises.
        for stop in range(number + 1, n + 1):
            options = ((before[first] + cost(first, stop), -first) for first in range(best, stop))
            least[stop], minus_best = min(options)
            starts[-1][stop] = best = -minus_best
    borders = [n]
    for start in reversed(starts):
        borders.insert(0, start[borders[0]])
    return [label for label, (first, stop) in enumerate(pairwise([0, *borders])) for _ in range(first, stop)]


def propose(levels: int, clusters: int) -> list[int]:
    """Levels for each cluster, from the lowest metric to the highest: L, L/2, L/4…, at least 1.

    Raises:
        DataError: L is 1, so that there are no fewer levels.
    """
    if levels == 1:
        raise DataError("every layer has L = 1 already: there are no fewer levels to give")
    return [max(1, levels >> i) for i in range(clusters)]


@dataclass(frozen=True)
class Choice:
    """What Algorithm 4 leaves to the user (line 2), and Algorithm 3 to its reader.

    Attributes:
        clusters: how many (the paper's chi).
        levels: L of each cluster, from the lowest metric to the highest; None proposes L, L/2, L/4…
        reading: of the metric.
        alpha: as :func:`measure` takes it.

    Raises:
        DataError: fewer than one cluster, not one number for each cluster, a number below 1, or
            more levels for a higher metric.
    """

    clusters: int = 3
    levels: tuple[int, ...] | None = None
    reading: Reading = "paper"
    alpha: float | None = None

    def __post_init__(self) -> None:
        if self.clusters < 1:
            raise DataError(f"layers are divided into at least 1 cluster, not {self.clusters}")
        if self.reading not in READINGS:
            raise DataError(f"unknown reading {self.reading!r} of the metric: choose from {', '.join(READINGS)}")
        if self.alpha is not None:
            _between_0_and_1(self.alpha)
        if self.levels is not None:
            _check_levels(self.levels, self.clusters)

    def check(self, levels: Sequence[int]) -> None:
        """Refuse a network of so many levels in each layer before it is trained and measured.

        Raises:
            DataError: there would be no fewer levels to give, or no metric.
        """
        if self.levels is None:
            propose(max(levels), self.clusters)
        if self.reading == "authors":
            for place, level in enumerate(levels, 1):
                _check_authors(f"layer {place}", level)

    def plan(self, found: Mapping[str, Array], alpha: float | Fraction | None = None) -> Plan:
        """Measure and cluster layers with these :func:`histograms`, by another alpha if given."""
        alpha = self.alpha if alpha is None else alpha
        return plan(measure(found, self.reading, alpha), self.clusters, self.levels)


def _check_levels(levels: Sequence[int], clusters: int) -> None:
    text = ",".join(map(str, levels))
    if len(levels) != clusters or min(levels) < 1:
        raise DataError(f"{clusters} clusters need {clusters} levels of at least 1, not {text}")
    if any(a < b for a, b in pairwise(levels)):
        raise DataError(
            f"the levels of clusters go from the lowest metric to the highest and must not rise, as {text} do: "
            "a high metric means that fewer levels will do"
        )


@dataclass(frozen=True)
class Plan:
    """Levels for every layer, and why.

    Attributes:
        metrics: of every layer, in order.
        labels: cluster of every layer.
        cluster_levels: L of each cluster that was made.
        remarks: sentences about what is not as asked for, or not as usual; empty where all is.
    """

    metrics: list[LayerMetric]
    labels: list[int]
    cluster_levels: list[int]
    remarks: tuple[str, ...] = ()

    @property
    def levels(self) -> list[int]:
        """L of every layer."""
        return [self.cluster_levels[label] for label in self.labels]

    @property
    def before(self) -> list[int]:
        """L that every layer had when it was measured."""
        return [m.levels for m in self.metrics]


def plan(metrics: Sequence[LayerMetric], clusters: int, cluster_levels: Sequence[int] | None = None) -> Plan:
    """Cluster the layers and give each cluster its levels, the lowest metrics the first.

    Args:
        metrics: from :func:`measure`.
        clusters: how many (the paper's chi). Where fewer metrics differ, fewer are made, and a
            remark says so.
        cluster_levels: L of each cluster, from the lowest metric to the highest; None proposes.

    Raises:
        DataError: no layer has more than one level in use, or levels that :class:`Choice` refuses.
    """
    if all(m.constant for m in metrics):
        raise DataError(
            "every layer is constant: in each, all neurons have one level on all calibration images, "
            "so no layer says more than another; give other images, or look at the network (`pascal-nm report`)"
        )
    chosen = list(cluster_levels or propose(max(m.levels for m in metrics), clusters))
    _check_levels(chosen, clusters)
    labels = cluster([m.metric for m in metrics], clusters)
    made = max(labels) + 1
    return Plan(list(metrics), labels, chosen[:made], tuple(_remarks(metrics, chosen, made)))


def _remarks(metrics: Sequence[LayerMetric], levels: Sequence[int], made: int) -> Iterable[str]:
    """What a reader of a plan must be told."""
    if made < len(levels):
        different = _counted(len({m.metric for m in metrics}), "different metric")
        unused = " and ".join(f"L = {level}" for level in dict.fromkeys(levels[made:]))
        yield (
            f"{_counted(made, 'cluster')} instead of {len(levels)}: "
            f"{_counted(len(metrics), 'layer')} with {different}; no cluster is there for {unused}"
        )
    if len(set(levels[:made])) < made:
        yield (
            f"clusters share their levels ({', '.join(map(str, levels[:made]))}): there are not as many different ones"
        )
    if lowered := [m.name for m in metrics if m.lowered]:
        yield (
            "no level has a share of alpha, so that 1 / (L + 1) was taken, which one always has: "
            f"{', '.join(lowered)}; give a smaller --alpha"
        )
    if constant := [m.name for m in metrics if m.constant]:
        yield f"constant over these images, all neurons at one level, so a single one would do: {', '.join(constant)}"


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def effective_timesteps(graph: Graph, levels: Sequence[int]) -> float:
    """T_eff (Equation 16) of a network with these levels, at the paper's spike rate of 0.75.

    Args:
        graph: the network; every population with QCFS levels that a convolution or a linear layer
            drives counts, the first one, too.
        levels: L of each of its populations of kind ``pasc``, in order.

    Raises:
        DataError: no population counts.
    """
    matmuls = analysis.of_graph(graph)
    names = [p.name for p in graph.spiking]
    given = dict(zip(names, levels, strict=True))
    counted = [name for name in names if name in matmuls]
    if not counted:
        raise DataError("no convolution and no linear layer drives neurons with levels, so T_eff has nothing to count")
    ratios = [analysis.if_ratio(sum(m.fan_in for m in matmuls[name])) for name in counted]
    return analysis.effective_timesteps([given[name] for name in counted], ratios)


def write(made: Plan, path: str | Path) -> None:
    """Write a levels file (JSON) for :func:`pascal_nm.common.layer_files.read_levels`."""
    layers = [
        {"name": m.name, "levels": level, "cluster": label, "metric": m.metric if math.isfinite(m.metric) else None}
        for m, level, label in zip(made.metrics, made.levels, made.labels, strict=True)
    ]
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({"levels": made.levels, "layers": layers}, indent=2) + "\n")
