r"""The ``unrolled`` profile: a NIR file that every reader runs exactly, in one timestep.

It does not matter what the reader's neurons do after a spike.

A neuron of L levels becomes L copies, one for each level: copy k fires when
:math:`z \ge (k - 1/2) \, \theta`, and the number of copies that fire is the level. Nothing is left
to reset, leak or time. Copy k gets :math:`1 + s \, (z / \theta - k + 1/2)` and fires at 1. For
readers whose neurons may spike several times in a timestep, the scale s (a power of two, from the
largest potential that weights and levels allow) keeps every input below two thresholds; for others
it is 1, which loses less to rounding. A max population is an OR over its window for each copy. The
form of the file is that of :mod:`pascal_nm.export.chain`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import nir
import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.export import chain
from pascal_nm.export.chain import Growth, Spread
from pascal_nm.export.profile import describe
from pascal_nm.export.readers import dialect
from pascal_nm.network import bounds
from pascal_nm.network.graph import Graph, Population, Projection


def write_unrolled(graph: Graph, path: str | Path, reader: str = "generic") -> Growth:
    """Write the unrolled network for one of :data:`pascal_nm.export.readers.READERS`.

    Raises:
        ConversionError: the network would not fit in memory, or has a part without this form
            (:func:`pascal_nm.export.chain.plan`).
        FileError: the file cannot be written.
    """
    layers, size = chain.plan(graph, coding(reader))
    chain.write(_built(graph, layers, reader), path)
    return size


def unrolled_network(graph: Graph, reader: str = "generic") -> nir.NIRGraph:
    """The unrolled network of a graph; its input has shape (C, H, W), its output (classes, 1, 1).

    Raises:
        ConversionError: as :func:`write_unrolled`.
    """
    return _built(graph, chain.plan(graph, coding(reader))[0], reader)


def _built(graph: Graph, layers: Sequence[chain.Layer], reader: str) -> nir.NIRGraph:
    profile = describe(graph, "unrolled", 1, chain.copies(graph, coding(reader)))
    return chain.build(graph, layers, dialect(reader).single, profile)


def growth(graph: Graph) -> Growth:
    """Neurons, weights and bytes of the unrolled network, without building it."""
    return chain.plan(graph, coding())[1]


class _Levels:
    """One copy for each level, in one timestep."""

    relay = (0.5, 0.75)

    def __init__(self, several: bool) -> None:
        self.several = several

    def copies(self, p: Population) -> int:
        return p.levels if p.dynamics.sends else 1

    def amplitude(self, p: Population) -> float:
        return 1.0

    def either(self, window: int, sign: Array) -> tuple[float, Array]:
        scale = 2.0 ** -math.ceil(math.log2(window + 1))
        return scale, 1 + scale * (0.5 - np.where(sign < 0, window, 1))

    def spread(self, graph: Graph, p: Population) -> Spread:
        channels = p.shape[0]
        theta, b = (np.broadcast_to(x.reshape(-1).astype(np.float64), channels) for x in (p.threshold, p.bias))
        scale = np.ones(channels)
        if self.several:
            largest = sum(_largest(graph, q, channels) for q in graph.incoming(p.name)) + np.abs(b)
            scale = 2.0 ** -np.ceil(np.log2(largest / theta + p.levels + 1))
        # Integer potentials meet a step exactly; a quarter of a unit above it, strict and weak
        # comparisons agree.
        above = 0.25 if graph.is_integer else 0.0

        def weight() -> Array:
            values = np.zeros((channels, p.levels, channels, 1, 1))
            values[np.arange(channels), :, np.arange(channels)] = (scale / theta)[:, None, None, None]
            return values.reshape(-1, channels, 1, 1)

        steps = np.arange(1, p.levels + 1) - 0.5
        bias = 1 + scale[:, None] * (((b + above) / theta)[:, None] - steps)
        return Spread(weight, bias.reshape(-1))


def coding(reader: str = "generic") -> _Levels:
    """How spikes stand for levels in the file for a reader.

    Raises:
        ConversionError: an unknown reader.
    """
    return _Levels(dialect(reader).several)


def _largest(graph: Graph, q: Projection, channels: int) -> Array:
    """The largest current onto each channel.

    Analog inputs are bounded by 16, far beyond any normalized image.
    """
    source = graph[q.source]
    largest = source.levels if not source.dynamics.injects or graph.is_integer else 16
    return np.broadcast_to(bounds.current_bound(q, largest), channels)
