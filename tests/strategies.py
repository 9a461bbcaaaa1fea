"""Random integer graphs for hypothesis, and an independent integer QCFS network to
compare them with.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from pascal_nm.network import bounds
from pascal_nm.network.graph import Graph, Population, Projection
from pascal_nm.network.operators import Conv2d, ConvTranspose2d, Dense, Identity, IndexMap, Sparse, SumPool2d

LEVELS = st.integers(1, 16)


def _weights(draw, shape):
    seed = draw(st.integers(0, 2**32 - 1))
    limit = draw(st.sampled_from([1, 7, 127]))
    return np.random.default_rng(seed).integers(-limit, limit + 1, shape).astype(np.int8)


def _population(draw, name, shape, reach):
    """A pasc population whose thresholds and biases are of the order of its inputs, per
    channel or one for all.
    """
    channels = shape[0] if draw(st.booleans()) else 1
    column = (channels, *(1,) * (len(shape) - 1))
    rng, reach = np.random.default_rng(draw(st.integers(0, 2**32 - 1))), min(reach, 2**30)
    theta = rng.integers(1, max(2, reach // 4), column).astype(np.int32)
    bias = rng.integers(-reach, reach + 1, column).astype(np.int32)
    return Population(name, "pasc", shape, draw(LEVELS), theta, bias)


def _projection(draw, source, name):
    """A random operator from ``source``, perhaps behind a sum-pooling."""
    pool = None
    if len(source.shape) == 1 and draw(st.integers(0, 7)) == 0:
        return Projection(source.name, name, _moved(draw, source.shape))
    if len(source.shape) == 1:
        return Projection(source.name, name, Dense(_weights(draw, (draw(st.integers(1, 6)), source.shape[0]))))
    if min(source.shape[1:]) >= 3 and draw(st.booleans()):
        kernel = draw(st.integers(1, 3))
        pool = SumPool2d((kernel, 2), (draw(st.integers(1, 2)), 2), (kernel // 2, 0))
    shape = pool.output_shape(source.shape) if pool else source.shape
    kind = draw(st.sampled_from(["conv", "conv", "grouped", "dense"] * 2 + ["moved", "transposed"]))
    if kind == "moved":
        return Projection(source.name, name, _moved(draw, shape), pool)
    if kind == "transposed":
        return Projection(source.name, name, _transposed(draw, shape), pool)
    if kind == "dense":
        return Projection(
            source.name, name, Dense(_weights(draw, (draw(st.integers(1, 6)), int(np.prod(shape))))), pool
        )
    groups = shape[0] if kind == "grouped" else 1
    kernel = [draw(st.integers(1, min(3, n))) for n in shape[1:]]
    weight = _weights(draw, (groups * draw(st.integers(1, 3)), shape[0] // groups, *kernel))
    stride = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    padding = (draw(st.integers(0, 1)), draw(st.integers(0, 1)))
    fits = all(2 * k - 1 <= n for k, n in zip(kernel, shape[1:], strict=True))
    dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2))) if fits else (1, 1)
    return Projection(source.name, name, Conv2d(weight, stride, padding, dilation, groups), pool)


def _moved(draw, shape):
    """An operator whose synapses are given one by one, onto pixels or onto neurons without any."""
    rng, size = np.random.default_rng(draw(st.integers(0, 2**32 - 1))), int(np.prod(shape))
    target = draw(st.sampled_from([(3,), (2, 3, 4), (4, 1, 2), shape]))
    if draw(st.booleans()):
        full = rng.integers(-9, 10, (int(np.prod(target)), size)) * (rng.random((int(np.prod(target)), size)) < 0.2)
        return Sparse.of(full.astype(np.int8), target, shape)
    if draw(st.booleans()) and len(shape) == 3:  # whole channels
        places = np.concatenate([np.full((1, *shape), -1), np.arange(size).reshape(1, *shape)], 1)[0]
        index = places[rng.integers(0, 2 * shape[0], draw(st.integers(1, 4)))]
    else:
        index = rng.integers(-1, size, target)
    weights = [index.shape, (len(index), *(1,) * (index.ndim - 1)), (1,) * index.ndim]
    return IndexMap(_weights(draw, draw(st.sampled_from(weights))), index, shape)


def _transposed(draw, shape):
    groups = shape[0] if draw(st.booleans()) else 1
    stride, kernel = (draw(st.integers(1, 2)), draw(st.integers(1, 2))), (draw(st.integers(1, 3)), 2)
    weight = _weights(draw, (groups * draw(st.integers(1, 2)), shape[0] // groups, *kernel))
    padding = (draw(st.integers(0, (kernel[0] - 1) // 2)), 0)
    return ConvTranspose2d(weight, stride, padding, (stride[0] - 1, 0), groups=groups)


def _twin(draw, projection, source):
    """A further projection between the same populations: other weights, or other synapses."""
    shape = projection.output_shape(source.shape)
    if draw(st.booleans()):
        return replace(
            projection, operator=replace(projection.operator, weight=_weights(draw, projection.operator.weight.shape))
        )
    if shape == source.shape:
        return Projection(projection.source, projection.target, Identity(_weights(draw, (1,) * len(shape))))
    if len(shape) == 1:
        return Projection(projection.source, projection.target, Dense(_weights(draw, (shape[0], source.size))))
    return replace(projection, operator=replace(projection.operator, weight=-projection.operator.weight))


def largest_sum(projection):
    """The largest current of a target neuron whose sources all send 1 at most."""
    weight = np.abs(projection.operator.weight.astype(int))
    if isinstance(projection.operator, ConvTranspose2d | IndexMap | Sparse):  # not all weights meet in a neuron
        largest = projection.operator.sums().max()
    else:
        largest = weight.reshape(len(weight), -1).sum(1).max()
    return int(largest * (np.prod(projection.pool.kernel) if projection.pool else 1))


def _reach(projection, most):
    """Beyond the largest sum where each source sends up to ``most``."""
    return largest_sum(projection) * max(1, most) + 1


def _linear(draw, name, last, populations):
    """A linear population behind ``last``, perhaps with a sum of earlier ones, and its synapses."""
    incoming = [_projection(draw, last, name)]
    shape = incoming[0].output_shape(last.shape)
    if draw(st.booleans()):
        incoming.append(_twin(draw, incoming[0], last))
    same = [p for p in populations if p.shape == shape and p is not last]
    if same and draw(st.booleans()):
        incoming.append(
            Projection(draw(st.sampled_from(same)).name, name, Identity(np.ones((1,) * len(shape), np.int8)))
        )
    column = (shape[0], *(1,) * (len(shape) - 1)) if draw(st.booleans()) else ()
    unit = np.full(column, draw(st.sampled_from([1.0, 0.25])))
    return Population(name, "linear", shape, 0, unit, np.zeros((), np.int32)), incoming


@st.composite
def integer_graphs(draw, linear=True, bits=53):
    """1 to 5 spiking populations: convolution, dense, both poolings, residual joins,
    levels 1 to 16 mixed; some with one or two linear populations before them, or before the output.
    No potential needs more ``bits``, its sign among them.
    """
    size = draw(st.integers(3, 7))
    source = Population("input", "analog", (draw(st.integers(1, 3)), size, size + 1), draw(st.integers(1, 255)))
    populations, projections, most = [source], [], {source.name: source.levels}

    def add(population, incoming):
        populations.append(population)
        projections.extend(incoming)
        if population.kind == "linear":
            most[population.name] = sum(_reach(q, most[q.source]) for q in incoming)
        else:
            most[population.name] = population.levels

    for i in range(draw(st.integers(1, 5))):
        for j in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2])) if linear else 0):
            add(*_linear(draw, f"sum_{i}_{j}", populations[-1], populations))
        last = populations[-1]
        spatial = len(last.shape) == 3 and min(last.shape[1:]) >= 2
        if last.kind == "pasc" and spatial and draw(st.integers(0, 3)) == 0:
            window = SumPool2d((2, 2), (draw(st.integers(1, 2)), 2), (draw(st.integers(0, 1)), 0))
            sign = np.full((1, 1, 1), draw(st.sampled_from([1, 1, -1])), np.int32)
            pooled = Population(
                f"max_{i}", "max", window.output_shape(last.shape), last.levels, sign, np.zeros((), np.int32)
            )
            add(pooled, [Projection(last.name, pooled.name, Identity(np.ones((1, 1, 1), np.int8)), window)])
            last = pooled
        name = f"layer_{i}"
        incoming = [_projection(draw, last, name)]
        shape = incoming[0].output_shape(last.shape)
        if draw(st.integers(0, 3)) == 0:
            incoming.append(_twin(draw, incoming[0], last))
        earlier = [p for p in populations[:-1] if p.kind != "analog" or draw(st.booleans())]
        if earlier and draw(st.booleans()):
            other = draw(st.sampled_from(earlier))
            if other.shape == shape:
                weight = np.full((1,) * len(shape), draw(st.integers(-127, 127)), np.int8)
                incoming.append(Projection(other.name, name, Identity(weight)))
            else:
                dense = Dense(_weights(draw, (shape[0], int(np.prod(other.shape))))) if len(shape) == 1 else None
                incoming += [Projection(other.name, name, dense)] if dense else []
        add(_population(draw, name, shape, max(_reach(q, most[q.source]) for q in incoming)), incoming)
    if linear and draw(st.integers(0, 5)) == 0:
        add(*_linear(draw, "sum", populations[-1], populations))
    last = populations[-1]
    weight = _weights(draw, (draw(st.integers(2, 4)), int(np.prod(last.shape))))
    bias = np.random.default_rng(0).integers(-99, 99, len(weight)).astype(np.int32)
    scale = np.array([draw(st.sampled_from([0.25, 1.0, 3.0])) for _ in weight]) if draw(st.booleans()) else np.ones(())
    populations.append(Population("output", "readout", (len(weight),), 1, scale, bias))
    projections.append(Projection(last.name, "output", Dense(weight)))
    graph = Graph(tuple(populations), tuple(projections))
    assume(all(bounds.potential_bound(graph, p.name, kept=True) < 2 ** (bits - 1) for p in graph.weighted))
    return graph


def inputs_for(graph, seed, images=3):
    """Inputs that fill the range of a random graph's analog population."""
    levels = graph.input.levels
    return np.random.default_rng(seed).integers(-levels, levels + 1, (images, *graph.input.shape)).astype(np.float64)


def integer_qcfs(graph, inputs):
    """Counts and potential by Equation 1, kernel by kernel in int64: nothing of the
    package is used.
    """
    values = {"input": np.rint(inputs).astype(np.int64)}
    for p in graph.populations:
        if p.kind == "analog":
            continue
        parts = [(q, values[q.source]) for q in graph.projections if q.target == p.name]
        if p.kind == "max":
            ((q, x),) = parts
            sign = int(p.threshold.ravel()[0])
            values[p.name] = sign * _windows(sign * x, q.pool, np.max, -(10**6))
            continue
        z = sum(_apply(q, x) for q, x in parts) + p.bias.astype(np.int64)
        theta = p.threshold.astype(np.int64) if p.kind == "pasc" else None  # others pass on the sum itself
        values[p.name] = z if theta is None else np.clip((2 * z + theta) // (2 * theta), 0, p.levels)
    return values


def _apply(projection, x):
    if projection.pool:
        x = _windows(x, projection.pool, np.sum, 0)
    operator, weight = projection.operator, projection.operator.weight.astype(np.int64)
    if isinstance(operator, ConvTranspose2d):
        return _spread(operator, x)
    if isinstance(operator, IndexMap):
        padded = np.pad(x.reshape(len(x), -1), ((0, 0), (0, 1)))
        return padded[:, operator.index] * weight
    if isinstance(operator, Sparse):
        result = np.zeros((int(np.prod(operator.shape)), len(x)), np.int64)
        np.add.at(result, operator.targets, weight[:, None] * x.reshape(len(x), -1).T[operator.sources])
        return result.T.reshape(len(x), *operator.shape)
    if isinstance(operator, Dense):
        return x.reshape(len(x), -1) @ weight.T
    if isinstance(operator, Identity):
        return x * weight
    (ph, pw), (sh, sw), groups = operator.padding, operator.stride, operator.groups
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    (out, per_group, kh, kw), (dh, dw) = weight.shape, operator.dilation
    span = (dh * (kh - 1) + 1, dw * (kw - 1) + 1)
    patches = sliding_window_view(x, span, (2, 3))[:, :, ::sh, ::sw, ::dh, ::dw]
    result = np.zeros((len(x), out, *patches.shape[2:4]), np.int64)
    for o in range(out):
        first = (o // (out // groups)) * per_group
        for c, i, j in np.ndindex(per_group, kh, kw):
            result[:, o] += weight[o, c, i, j] * patches[:, first + c, :, :, i, j]
    return result


def _spread(operator, x):
    """A transposed convolution, pixel by pixel."""
    weight, (sh, sw), (dh, dw) = operator.weight.astype(np.int64), operator.stride, operator.dilation
    (out, per_group, kh, kw), (_, _, height, width) = weight.shape, x.shape
    full = np.zeros((len(x), out, (height + 2) * sh + kh * dh, (width + 2) * sw + kw * dw), np.int64)
    for o in range(out):
        first = (o // (out // operator.groups)) * per_group
        for c, i, j in np.ndindex(per_group, kh, kw):
            rows, columns = slice(i * dh, i * dh + height * sh, sh), slice(j * dw, j * dw + width * sw, sw)
            full[:, o, rows, columns] += weight[o, c, i, j] * x[:, first + c]
    sides = zip(
        x.shape[2:], operator.stride, operator.padding, operator.output_padding, (kh, kw), (dh, dw), strict=True
    )
    rows, columns = (slice(p, (n - 1) * s - p + d * (k - 1) + more + 1) for n, s, p, more, k, d in sides)
    return full[:, :, rows, columns]


def _windows(x, pool, reduce, fill):
    (ph, pw), (sh, sw) = pool.padding, pool.stride
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=fill)
    return reduce(sliding_window_view(x, pool.kernel, (2, 3))[:, :, ::sh, ::sw], axis=(4, 5))
