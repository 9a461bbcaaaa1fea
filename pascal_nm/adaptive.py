r"""Adaptive layerwise quantization: which layers need how many levels (Section 3.4 of the paper, Algorithms 3 and 4).

The metric of a layer comes from the histogram of its QCFS levels over calibration images: how often each of 0 to L occurs. It is

.. math:: M = A \cdot (g^2 + 1) \cdot K

with van der Eijk's agreement A (Equation 3), skewness g (Equation 4) and kurtosis K (Equation 5). A high M means that fewer levels will do.

Two *readings* are in use. ``paper`` is what the equations say: the samples are the levels that neurons take. ``authors`` is what
``get_stats.py`` in https://github.com/BrainSeek-Lab/PASCAL computes: skewness and kurtosis of the *frequencies*, L + 1 numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np

from pascal_nm import simulate
from pascal_nm.errors import DataError
from pascal_nm.files import replacing
from pascal_nm.graph import Array, Graph

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
        agreement: A.
        skewness: g; NaN where every neuron has the same level.
        kurtosis: K; likewise.
        metric: M; infinite where every neuron has the same level.
    """

    name: str
    levels: int
    histogram: tuple[int, ...]
    agreement: float
    skewness: float
    kurtosis: float
    metric: float


def histograms(graph: Graph, batches: Iterable[Array]) -> dict[str, Array]:
    """How often each level occurs in each layer: int64 of L + 1 entries by population of kind ``pasc``.

    Args:
        graph: the network; its counts are the levels of the source network.
        batches: preprocessed inputs of shape (N, *input shape); only one batch is in memory at a time.
    """
    found = {p.name: np.zeros(p.levels + 1, np.int64) for p in graph.populations if p.kind == "pasc"}
    for inputs in batches:
        for name, count in simulate.counts(graph, inputs).counts.items():
            if name in found:
                found[name] += np.bincount(count.reshape(-1), minlength=len(found[name]))
    return found


def measure(found: Mapping[str, Array], reading: Reading = "paper", alpha: float | None = None) -> list[LayerMetric]:
    """The metric of every layer.

    Args:
        found: from :func:`histograms`.
        reading: see the module.
        alpha: share of the samples from which on a level counts as occupied; by default 1 / (2 layers) for ``paper`` (Figure 1),
            1 / (L + 1) for ``authors``.

    Raises:
        DataError: no images; an unknown reading; ``authors`` with fewer than 3 levels, for which its formula divides by zero.
    """
    if reading not in READINGS:
        raise DataError(f"unknown reading {reading!r} of the metric: choose from {', '.join(READINGS)}")
    if alpha is not None and not 0 < alpha < 1:
        raise DataError(f"alpha must lie between 0 and 1, not {alpha}")
    result = []
    for name, histogram in found.items():
        counts = [int(n) for n in histogram]
        if sum(counts) < 4:
            raise DataError("the metric needs calibration images")
        if reading == "authors" and len(counts) < 4:
            raise DataError(
                f"the authors' metric divides by zero with fewer than 3 levels; {name} has {len(counts) - 1}"
            )
        threshold = alpha or (1 / (2 * len(found)) if reading == "paper" else 1 / len(counts))
        agreement = _agreement(counts, threshold)
        skewness, kurtosis = (_of_samples if reading == "paper" else _of_frequencies)(counts)
        metric = math.inf if math.isnan(skewness) else agreement * (skewness**2 + 1) * kurtosis
        result.append(LayerMetric(name, len(counts) - 1, tuple(counts), agreement, skewness, kurtosis, metric))
    return result


def _agreement(counts: Sequence[int], alpha: float) -> float:
    """Equation 3; a single category agrees."""
    occupied = sum(n >= alpha * sum(counts) for n in counts)
    return 1 - (occupied - 1) / (len(counts) - 1)


def _central_moments(values: Sequence[int], weights: Sequence[int]) -> tuple[int, list[Fraction]]:
    """How many samples there are, and their sums of (x - mean)**p for p = 2, 3, 4, without rounding."""
    n = sum(weights)
    mean = Fraction(sum(v * w for v, w in zip(values, weights, strict=True)), n)
    return n, [sum((w * (v - mean) ** p for v, w in zip(values, weights, strict=True)), Fraction(0)) for p in (2, 3, 4)]


def _of_samples(counts: Sequence[int]) -> tuple[float, float]:
    """Equations 4 and 5 on the levels of all neurons."""
    n, (second, third, fourth) = _central_moments(range(len(counts)), counts)
    if second == 0:
        return math.nan, math.nan
    variance = second / (n - 1)
    skewness = float(third / n) / float(variance) ** 1.5
    kurtosis = Fraction((n + 1) * n, (n - 1) * (n - 2) * (n - 3)) * fourth / variance**2
    return skewness, float(kurtosis)


def _of_frequencies(counts: Sequence[int]) -> tuple[float, float]:
    """The authors' get_stats.py: population skewness of the frequencies, and the kurtosis term of their bimodality coefficient."""
    n = len(counts)
    _, (second, third, fourth) = _central_moments(counts, [1] * n)
    if second == 0:
        return math.nan, math.nan
    skewness = float(third / n) / float(second / n) ** 1.5
    excess = float(fourth / n / (second / n) ** 2) - 3
    return skewness, excess + 3 * n**2 / ((n - 2) * (n - 3))


def cluster(metrics: Sequence[float], clusters: int) -> list[int]:
    """Exact one-dimensional k-means (Gronlund et al., https://arxiv.org/abs/1701.07204): cluster 0 has the lowest metrics.

    Raises:
        DataError: more clusters than layers, or fewer than one.
    """
    import kmeans1d

    finite = [m for m in metrics if math.isfinite(m)]
    if not 1 <= clusters <= max(1, len(finite)):
        raise DataError(f"{len(finite)} layers cannot be divided into {clusters} clusters")
    labels = iter(kmeans1d.cluster(finite, clusters).clusters if finite else [])
    return [next(labels) if math.isfinite(m) else clusters - 1 for m in metrics]


def propose(levels: int, clusters: int) -> list[int]:
    """Levels for each cluster, from the lowest metric to the highest: L, L/2, L/4…, at least 1."""
    return [max(1, levels >> i) for i in range(clusters)]


@dataclass(frozen=True)
class Plan:
    """Levels for every layer, and why.

    Attributes:
        metrics: of every layer, in order.
        labels: cluster of every layer.
        cluster_levels: L of each cluster.
    """

    metrics: list[LayerMetric]
    labels: list[int]
    cluster_levels: list[int]

    @property
    def levels(self) -> list[int]:
        """L of every layer."""
        return [self.cluster_levels[label] for label in self.labels]


def plan(metrics: Sequence[LayerMetric], clusters: int, cluster_levels: Sequence[int] | None = None) -> Plan:
    """Cluster the layers and give each cluster its levels.

    Args:
        metrics: from :func:`measure`.
        clusters: how many (the paper's chi).
        cluster_levels: L of each cluster, from the lowest metric to the highest; None proposes.

    Raises:
        DataError: not one number for each cluster, or a number below 1.
    """
    chosen = list(cluster_levels or propose(max(m.levels for m in metrics), clusters))
    if len(chosen) != clusters or min(chosen) < 1:
        raise DataError(f"{clusters} clusters need {clusters} levels of at least 1, not {chosen}")
    return Plan(list(metrics), cluster([m.metric for m in metrics], clusters), chosen)


def write(made: Plan, path: str | Path) -> None:
    """Write a levels file (JSON), which training takes and :func:`pascal_nm.layer_files.read_levels` reads."""
    layers = [
        {"name": m.name, "levels": level, "cluster": label, "metric": m.metric if math.isfinite(m.metric) else None}
        for m, level, label in zip(made.metrics, made.levels, made.labels, strict=True)
    ]
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({"levels": made.levels, "layers": layers}, indent=2) + "\n")
