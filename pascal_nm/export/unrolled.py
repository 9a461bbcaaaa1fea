r"""The ``unrolled`` profile: a NIR file that every reader runs exactly, in one timestep, whatever its neurons do after a spike.

A neuron of L levels becomes L copies, one for each level: copy k fires when :math:`z \ge (k - 1/2) \, \theta`, and the number of copies that fire is
the level. Nothing is left to reset, leak or time, and only two kinds of nodes are used, ``Conv2d`` and ``IF``. For each projection and population:

==========  ==================================================================================================================
*gather*    adds up the copies of the source, over the pooling window where there is one
*map*       the projection's own operator (a dense one as a convolution over the whole image)
*spread*    gives :math:`1 + s \, (z / \theta - k + 1/2)` to copy k; several projections onto one population meet here
*fire*      ``IF`` with threshold 1
==========  ==================================================================================================================

The scale s (a power of two, from the largest potential that weights and levels allow) keeps every input below two thresholds, for readers whose
neurons may spike several times in a timestep. A max population is an OR over its window for each copy.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import nir
import numpy as np

from pascal_nm import bounds
from pascal_nm.errors import ConversionError
from pascal_nm.files import replacing
from pascal_nm.graph import Array, Conv2d, Dense, Graph, Identity, Population, Projection, Shape, SumPool2d

DEPTH_FIRST = ("norse", "sinabs")
"""Readers on ``nirtorch.load``, which runs nodes depth first: a node where branches meet is run before all its inputs are there."""

NEW_FIELDS = {"v_reset"}
"""Not known to nir 1.0.4, which Sinabs pins; newer versions take 0."""

LIF_TAU, LIF_DT = 1e-3, 1e-4
"""Time constant of the LIF form, and the time step that its readers assume; r = tau / dt makes the first input count whole."""


def _if(ones: Array) -> nir.NIRNode:
    return nir.IF(ones, ones, np.zeros_like(ones))


def _lif(ones: Array) -> nir.NIRNode:
    zeros = np.zeros_like(ones)
    return nir.LIF(ones * LIF_TAU, ones * (LIF_TAU / LIF_DT), zeros, ones, zeros)


READERS: dict[str, Callable[[Array], nir.NIRNode]] = {
    "generic": _if,
    "norse": _if,
    "sinabs": _if,
    "spikingjelly": _if,  # import_from_nir(file, dt=1.0)
    "snntorch": _lif,  # its importer gives IF nodes a leak, and cannot run them inside a graph
}
"""Readers, and the node that each runs as a neuron that fires at 1."""


@dataclass(frozen=True)
class Growth:
    """What unrolling costs.

    Attributes:
        neurons: before and after.
        weights: before and after.
        bytes: of the file's weights and thresholds.
    """

    neurons: tuple[int, int]
    weights: tuple[int, int]
    bytes: int


def write_unrolled(graph: Graph, path: str | Path, reader: str = "generic") -> Growth:
    """Write the unrolled network for one of :data:`READERS`.

    Fields that older versions of nir do not know, and newer ones take as given, are left out of the file.

    Raises:
        ConversionError: the network would not fit in memory, or has a part without an unrolled form.
        FileError: the file cannot be written.
    """
    unrolled = unroll(graph, reader)
    with replacing(path) as temporary:
        nir.write(str(temporary), unrolled, compression=None)
        with h5py.File(temporary, "a") as file:
            for node in file["node/nodes"].values():
                for field in NEW_FIELDS & set(node):
                    del node[field]
    return growth(graph)


def unroll(graph: Graph, reader: str = "generic") -> nir.NIRGraph:
    """The unrolled network of a graph; its input has shape (C, H, W), its output (classes, 1, 1).

    Raises:
        ConversionError: it would not fit in memory (says how large it is); a max population with padding and negative thresholds; a
            residual network for a reader of :data:`DEPTH_FIRST`.
    """
    if reader not in READERS:
        raise ConversionError(f"unknown reader {reader!r}: choose from {', '.join(READERS)}")
    joins = [p.name for p in graph.populations if len(graph.incoming(p.name)) > 1]
    if joins and reader in DEPTH_FIRST:
        raise ConversionError(
            f"branches meet at {joins[0]}, and {reader}'s importer (nirtorch.load) does not wait for all of them: "
            f"use snntorch or spikingjelly for residual networks"
        )
    size, available = growth(graph).bytes, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > available // 2:
        raise ConversionError(
            f"unrolled, the network takes {size / 2**30:.1f} GB, more than half of this machine's memory ({available / 2**30:.1f} GB)"
        )
    builder = _Builder(graph, READERS[reader])
    for p in graph.populations:
        builder.add(p)
    return nir.NIRGraph(builder.nodes, builder.edges, type_check=False)


def growth(graph: Graph) -> Growth:
    """Neurons, weights and bytes of the unrolled network, without building it."""
    weights = neurons = 0
    for p in graph.populations:
        if p.kind == "analog":
            continue
        copies = p.size * (_copies(p) if p.kind != "readout" else 0)
        neurons += copies
        channels = _image(p.shape)[0]
        if p.kind != "max":
            weights += channels * channels * (_copies(p) if p.kind == "pasc" else 1)
        for q in graph.incoming(p.name):
            source = graph[q.source]
            entering, window = _image(source.shape)[0], math.prod(q.pool.kernel) if q.pool else 1
            if p.kind == "max":
                weights += (entering * _copies(source)) ** 2 * window
                continue
            if source.kind != "analog" or q.pool:
                weights += entering**2 * _copies(source) * window
            match q.operator:
                case Conv2d(weight, groups=groups):
                    weights += weight.size * groups
                case Dense(weight):
                    _, height, width = _image(q.pool.output_shape(source.shape) if q.pool else source.shape)
                    weights += weight.size // (height * width) * max(height, width) ** 2
                case Identity():
                    weights += channels**2
    spiking = [p for p in graph.populations if p.kind in ("pasc", "max")]
    before = (sum(p.size for p in spiking), sum(q.operator.weight.size for q in graph.projections))
    return Growth((before[0], neurons), (before[1], weights), 4 * (weights + 3 * neurons))


def _copies(p: Population) -> int:
    return p.levels if p.kind in ("pasc", "max") else 1


def _image(shape: Shape) -> tuple[int, int, int]:
    """A shape as (C, H, W); features are channels of one pixel."""
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (shape[0], 1, 1)


class _Builder:
    """Nodes and edges of the unrolled network, population by population."""

    def __init__(self, graph: Graph, neuron: Callable[[Array], nir.NIRNode]) -> None:
        self.graph, self.neuron = graph, neuron
        self.nodes: dict[str, nir.NIRNode] = {}
        self.edges: list[tuple[str, str]] = []

    def add(self, p: Population) -> None:
        match p.kind:
            case "analog":
                self.nodes[p.name] = nir.Input({"input": np.array(_image(p.shape))})
            case "max":
                self._fire(p, self._or(p))
            case _:
                ends = [self._projected(q) for q in self.graph.incoming(p.name)]
                if p.kind == "pasc":
                    self._fire(p, self._conv(f"{p.name}_spread", ends, _image(p.shape), *_spread(self.graph, p)))
                else:
                    channels = _image(p.shape)[0]
                    weight, bias = np.eye(channels)[:, :, None, None], np.broadcast_to(p.bias.reshape(-1), channels)
                    last = self._conv(f"{p.name}_sum", ends, _image(p.shape), weight, bias)
                    self.nodes[p.name] = nir.Output({"output": np.array(_image(p.shape))})
                    self.edges.append((last, p.name))

    def _projected(self, q: Projection) -> str:
        """Gather and map: the name of the node that gives z's part from this projection."""
        source = self.graph[q.source]
        end, shape = source.name, _image(source.shape)
        if source.kind != "analog" or q.pool is not None:
            weight = np.repeat(np.eye(shape[0]), _copies(source), axis=1)[:, :, None, None]
            pool = q.pool or SumPool2d((1, 1), (1, 1), (0, 0))
            weight = np.broadcast_to(weight, (*weight.shape[:2], *pool.kernel))
            end = self._conv(f"{q.name}_gather", [end], shape, weight, None, pool.stride, pool.padding)
            shape = _image(q.pool.output_shape(source.shape)) if q.pool else shape
        match q.operator:
            case Conv2d(weight, stride, padding, dilation, groups):
                return self._conv(q.name, [end], shape, _ungrouped(weight, groups), None, stride, padding, dilation)
            case Dense(weight):
                return self._conv(q.name, [end], shape, *_whole_image(weight, shape))
            case Identity(weight):
                diagonal = np.diag(np.broadcast_to(weight.reshape(-1), shape[0]).astype(np.float64))
                return self._conv(q.name, [end], shape, diagonal[:, :, None, None], None)

    def _or(self, p: Population) -> str:
        (q,) = self.graph.incoming(p.name)
        source, pool = self.graph[q.source], q.pool
        assert pool is not None, "Graph refuses a max population without a window"
        channels, window = _image(source.shape)[0] * _copies(source), math.prod(pool.kernel)
        sign = np.repeat(np.broadcast_to(p.threshold.reshape(-1), source.shape[0]), _copies(source))
        if (sign < 0).any() and pool.padding != (0, 0):
            raise ConversionError(
                f"{p.name}: a max-pooling with padding over a QCFS with a negative threshold has no unrolled form"
            )
        needed = np.where(sign < 0, window, 1)
        scale = 2.0 ** -math.ceil(math.log2(window + 1))
        weight = np.zeros((channels, channels, *pool.kernel))
        weight[np.arange(channels), np.arange(channels)] = scale
        bias = 1 + scale * (0.5 - needed)
        return self._conv(f"{p.name}_or", [source.name], _image(source.shape), weight, bias, pool.stride, pool.padding)

    def _fire(self, p: Population, before: str) -> None:
        channels, height, width = _image(p.shape)
        ones = np.ones((channels * _copies(p), height, width), np.float32)
        self.nodes[p.name] = self.neuron(ones)
        self.edges.append((before, p.name))

    def _conv(
        self,
        name: str,
        sources: list[str],
        shape: Shape,
        weight: Array,
        bias: Array | None,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1),
    ) -> str:
        values = np.zeros(len(weight)) if bias is None else bias
        self.nodes[name] = nir.Conv2d(
            (shape[1], shape[2]),
            np.ascontiguousarray(weight, np.float32),
            stride,
            padding,
            dilation,
            1,
            np.ascontiguousarray(values, np.float32),
        )
        self.edges += [(source, name) for source in sources]
        return name


def _whole_image(weight: Array, shape: tuple[int, int, int]) -> tuple[Array, None, tuple[int, int], tuple[int, int]]:
    """A dense operator as a convolution: weight, no bias, stride, padding. nir infers shapes of square kernels only."""
    channels, height, width = shape
    size = max(height, width)
    top, left = (size - height + 1) // 2, (size - width + 1) // 2
    result = np.zeros((len(weight), channels, size, size), weight.dtype)
    result[:, :, top : top + height, left : left + width] = weight.reshape(-1, *shape)
    return result, None, (size, size), (top, left)


def _ungrouped(weight: Array, groups: int) -> Array:
    """The weights with zeros between the groups, which several readers do not know."""
    outputs, inputs, *kernel = weight.shape
    result = np.zeros((groups, outputs // groups, groups, inputs, *kernel), weight.dtype)
    result[np.arange(groups), :, np.arange(groups)] = weight.reshape(groups, outputs // groups, inputs, *kernel)
    return result.reshape(outputs, groups * inputs, *kernel)


def _spread(graph: Graph, p: Population) -> tuple[Array, Array]:
    """Weight (C L, C, 1, 1) and bias of the convolution in front of a population's copies."""
    channels = p.shape[0]
    theta, b = (np.broadcast_to(x.reshape(-1).astype(np.float64), channels) for x in (p.threshold, p.bias))
    largest = sum(_largest(graph, q, channels) for q in graph.incoming(p.name)) + np.abs(b)
    scale = 2.0 ** -np.ceil(np.log2(largest / theta + p.levels + 1))
    # Integer potentials meet a step exactly; a quarter of a unit above it, strict and weak comparisons agree.
    above = 0.25 if graph.is_integer else 0.0
    weight = np.zeros((channels, p.levels, channels, 1, 1))
    weight[np.arange(channels), :, np.arange(channels)] = (scale / theta)[:, None, None, None]
    steps = np.arange(1, p.levels + 1) - 0.5
    bias = 1 + scale[:, None] * (((b + above) / theta)[:, None] - steps)
    return weight.reshape(-1, channels, 1, 1), bias.reshape(-1)


def _largest(graph: Graph, q: Projection, channels: int) -> Array:
    """The largest current onto each channel. Analog inputs are bounded by 16, far beyond any normalized image."""
    source = graph[q.source]
    largest = source.levels if source.kind != "analog" or graph.is_integer else 16
    return np.broadcast_to(bounds.current_bound(q, largest), channels)
