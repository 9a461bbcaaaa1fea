r"""From a float graph to an integer graph: small integer weights, integer thresholds and biases.

Every population j has one grid per channel, shared by all projections onto it (shortcuts too):

.. math:: W^{int} = \mathrm{round}(W / s_j), \quad \theta^{int}_j = \theta_j / s_j, \quad
          b^{int}_j = \mathrm{round}((b_j + \theta_j / 2) / s_j) - \lfloor \theta^{int}_j / 2 \rfloor

The grid :math:`s_j` is the threshold divided by an integer, so that thresholds are exact and only weights and the
firing offset (bias and initial potential together) are rounded, each once. A projection whose weights are much larger than
its neighbours' (an identity shortcut) has its weights on a power-of-two multiple of the grid, as chips do with a
weight exponent. The readout has one grid for all classes, so that its integer potentials can be compared directly.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import reduce

import numpy as np

from pascal_nm.bounds import weight_bits
from pascal_nm.errors import GraphError
from pascal_nm.graph import Array, Graph, Identity, Operator, Population, Projection

THRESHOLD_MAX = 2**17 - 1
"""Largest integer threshold: 17 bits, as on Loihi (Davies et al., IEEE Micro 2018)."""


def quantize(graph: Graph, bits: int = 8, *, input_range: float | None = None) -> Graph:
    """Quantize a float graph.

    Args:
        graph: a float graph.
        bits: signed weight mantissas in [-(2**(bits-1) - 1), 2**(bits-1) - 1]; 2 to 16.
        input_range: largest magnitude of the network's input. Not needed where the graph knows its preprocessing: then
            the integer input is the pixel itself, less the rounded mean.

    Returns:
        An integer graph; running it is exact in every backend.

    Raises:
        GraphError: the graph is quantized already, bits are out of range, or the range of the input is unknown.
    """
    if graph.is_integer:
        raise GraphError("the graph is quantized already; quantize the float graph that it came from")
    if not 2 <= bits <= 16:
        raise GraphError(f"weights of {bits} bits are not supported; choose 2 to 16")
    source = _quantize_input(graph, input_range)
    populations, projections = [source], []
    for p in graph.populations:
        if p.kind == "analog":
            continue
        incoming = [_absorb_input(graph, q, source) for q in graph.incoming(p.name)]
        if p.kind == "max":
            populations.append(replace(p, threshold=p.threshold.astype(np.int32), bias=np.zeros((), np.int32)))
            projections += [_with_weight(q, q.operator.weight.astype(np.int8)) for q in incoming]
            continue
        exponents, grid = _grid(p, incoming, 2 ** (bits - 1) - 1)
        populations.append(_quantize_population(p, grid))
        projections += [_quantize_projection(q, grid, e, bits) for q, e in zip(incoming, exponents, strict=True)]
    return graph.replace(populations=tuple(populations), projections=tuple(projections))


def bits_of(graph: Graph) -> int:
    """The bits that :func:`quantize` was given for an integer graph: the readout's weights use their whole range."""
    return max(weight_bits(q) for q in graph.projections)


def _quantize_input(graph: Graph, input_range: float | None) -> Population:
    p, pre = graph.input, graph.preprocessing
    if input_range is not None:
        levels, step = 255, np.asarray(input_range / 255)
    elif pre is not None:
        mean = np.asarray(pre.mean) * pre.scale
        levels = int(np.ceil(np.max(np.maximum(np.abs(mean), np.abs(pre.scale - mean))))) + 1
        step = 1 / (pre.scale * np.asarray(pre.std))
    else:
        raise GraphError(
            "the range of the input is unknown: say how pixels become inputs (--mean and --std, preprocessing=), or give input_range"
        )
    if not np.all(np.isfinite(step) & (step > 0)):
        raise GraphError(f"the input range must be positive and finite, not {input_range}")
    step = np.asarray(step, np.float64)
    threshold = step.reshape(-1, *(1,) * (len(p.shape) - 1)) if step.size > 1 else step.reshape(())
    return replace(p, levels=levels, threshold=threshold, bias=np.zeros((), np.int32))


def _absorb_input(graph: Graph, projection: Projection, source: Population) -> Projection:
    """The projection in float64, for integer inputs where it comes from the analog population."""
    projection = _with_weight(projection, projection.operator.weight.astype(np.float64))
    if projection.source != source.name:
        return projection
    shape = projection.pool.output_shape(source.shape) if projection.pool else source.shape
    return replace(projection, operator=projection.operator.scale_input(source.threshold, shape))


def _grid(p: Population, incoming: list[Projection], largest: int) -> tuple[list[int], Array]:
    """The exponent of each projection, and the grid of each channel."""
    peaks = [_per_channel_peak(q.operator, p) for q in incoming]
    tops = [float(peak.max()) for peak in peaks]
    smallest = min((top for top in tops if top > 0), default=1.0)
    exponents = [max(0, round(np.log2(top / smallest))) if top > 0 else 0 for top in tops]
    grid = reduce(np.maximum, [peak / 2**e for peak, e in zip(peaks, exponents, strict=True)]) / largest
    if p.kind == "readout":
        return exponents, np.full_like(grid, grid.max() or 1.0)
    theta = p.threshold.astype(np.float64)
    if math.prod(theta.shape[1:]) > 1:
        raise GraphError(
            f"the threshold of {p.name} differs from neuron to neuron within a channel; integer grids are per channel"
        )
    return exponents, theta / np.clip(np.floor(theta / np.maximum(grid, np.finfo(float).tiny)), 1, THRESHOLD_MAX)


def _per_channel_peak(operator: Operator, p: Population) -> Array:
    """Largest weight magnitude onto each channel, broadcastable to the population's shape."""
    weight = np.abs(operator.weight)
    if isinstance(operator, Identity):
        return np.asarray(weight.max(axis=tuple(range(1, weight.ndim)), keepdims=True))
    return np.asarray(weight.reshape(len(weight), -1).max(1).reshape(-1, *(1,) * (len(p.shape) - 1)))


def _quantize_population(p: Population, grid: Array) -> Population:
    bias = p.bias.astype(np.float64)
    if p.kind == "readout":
        scale = p.threshold.astype(np.float64) / grid
        return replace(p, threshold=scale, bias=_to_int32(np.rint(bias / grid), f"the bias of {p.name}"))
    theta = np.rint(p.threshold.astype(np.float64) / grid)
    offset = np.rint((bias + p.threshold.astype(np.float64) / 2) / grid) - theta // 2
    return replace(
        p,
        threshold=_to_int32(theta, f"the threshold of {p.name}"),
        bias=_to_int32(offset, f"the bias of {p.name}"),
    )


def _quantize_projection(projection: Projection, grid: Array, exponent: int, bits: int) -> Projection:
    largest = 2 ** (bits - 1) - 1
    scaled = projection.operator.scale_output(1 / (grid * 2**exponent)).weight
    weight = np.clip(np.rint(scaled), -largest, largest) * 2**exponent
    dtype = next(t for t in (np.int8, np.int16, np.int32) if np.abs(weight).max(initial=0) <= np.iinfo(t).max)
    return _with_weight(projection, weight.astype(dtype))


def _with_weight(projection: Projection, weight: Array) -> Projection:
    return replace(projection, operator=replace(projection.operator, weight=weight))


def _to_int32(array: Array, what: str) -> Array:
    if np.abs(array).max(initial=0) > np.iinfo(np.int32).max:
        raise GraphError(
            f"{what} reaches {np.abs(array).max():.3g} on its grid, beyond 32 bits: its weights are too small against it"
        )
    return array.astype(np.int32)
