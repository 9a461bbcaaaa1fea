"""What becomes of torch's operations: the fast forms; :meth:`.Converter.probed` has the others."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from operator import getitem
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import fx

from pascal_nm.common.arrays import Array, Pair, Shape
from pascal_nm.network.dynamics import MAX_LEVELS
from pascal_nm.network.operators import Conv2d, ConvTranspose2d, Dense, SumPool2d
from pascal_nm.source import affine
from pascal_nm.source.affine import Value
from pascal_nm.source.converter import GATE, Converter, matrix_operator, refusal, register
from pascal_nm.source.tracing import COPIES, DROPOUTS, QCFS, aten, drops


@register(QCFS)
def _qcfs(converter: Converter, node: fx.Node, x: Any, threshold: Any, levels: int) -> Value:
    value = converter.value(node, x, pooling=True)
    if not 1 <= levels <= MAX_LEVELS:
        raise refusal(node, f"its levels must be 1 to {MAX_LEVELS:,}, not {levels:,}")
    step = converter.spread(node, threshold, value) / levels
    if np.any(np.abs(step) < torch.finfo(converter.source.dtype).tiny):
        raise refusal(node, f"its threshold is zero, or too small for numbers of type {converter.source.dtype}")
    if value.windows and math.prod(step.shape[1:]) > 1:
        raise refusal(node, "its threshold differs from pixel to pixel behind a max-pooling")
    return converter.activation(node, value, levels, step)


# -- weights -----------------------------------------------------------------------------------


@register(
    aten.conv1d.default,
    aten.conv1d.padding,
    aten.conv2d.default,
    aten.conv2d.padding,
    aten.conv3d.default,
    aten.conv3d.padding,
)
def _convolution(
    converter: Converter,
    node: fx.Node,
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    value, w, b = _weighed(converter, node, x, weight, bias)
    axes, result = w.ndim - 2, _result(node)
    stride, dilation = _each(stride, axes), _each(dilation, axes)
    pads = _pads(padding, w.shape[2:], dilation)
    if axes == 3:
        w = _planes(w, value.seen, result, stride[0], pads[0][0], dilation[0], groups)
        b = None if b is None else b.repeat(result[1])
        value, groups = value.viewed(value.shape), 1
        stride, dilation, pads = stride[1:], dilation[1:], pads[1:]
    elif axes == 1:
        w, stride, dilation, pads = w[:, :, None], (1, *stride), (1, *dilation), [(0, 0), *pads]
    bare = Conv2d(w, _pair(stride), (0, 0), _pair(dilation), groups)
    operator = bare.widened((pads[0], pads[1]), value.shape[1:])
    if operator is None:
        value, operator = converter.moved(node, value, _padded(value.shape, pads)), bare
    return converter.map(node, value, operator, b).viewed(result)


def _weighed(converter: Converter, node: fx.Node, x: Any, weight: Any, bias: Any) -> tuple[Value, Array, Array | None]:
    """Images, as they are stored, with the weight and the bias of a convolution."""
    value, w = converter.value(node, x), converter.constant(node, weight)
    b = None if bias is None else converter.constant(node, bias)
    if len(value.seen) != w.ndim - 1:
        raise refusal(node, f"it takes images of {w.ndim - 1} axes, not of shape {value.seen}")
    return converter.laid_out(node, value), w, b


def _pads(padding: Any, kernel: Sequence[int], dilation: Sequence[int]) -> list[Pair]:
    """Zeros in front of and behind each axis."""
    if padding == "valid":
        return [(0, 0)] * len(kernel)
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return [(n // 2, n - n // 2) for n in total]
    return [(n, n) for n in _each(padding, len(kernel))]


def _padded(shape: Shape, pads: Sequence[Pair]) -> Array:
    """Where the pixels of a padded image come from."""
    index = np.arange(math.prod(shape)).reshape(shape)
    return np.pad(index, [(0, 0), *pads], constant_values=-1)


def _planes(w: Array, seen: Shape, result: Shape, stride: int, padding: int, dilation: int, groups: int) -> Array:
    """The weights of a convolution along depth as those of channels: (C D, C' D', kh, kw)."""
    outputs, inputs, deep, *kernel = w.shape
    wide = np.zeros((outputs, result[1], groups * inputs, seen[1], *kernel))
    for target, k in itertools.product(range(result[1]), range(deep)):
        place = target * stride - padding + k * dilation
        if 0 <= place < seen[1]:
            for group, each in enumerate(np.split(np.arange(outputs), groups)):
                wide[each, target, group * inputs : (group + 1) * inputs, place] = w[each, :, k]
    return wide.reshape(outputs * result[1], groups * inputs * seen[1], *kernel)


@register(aten.conv_transpose1d.default, aten.conv_transpose2d.input)
def _transposed(
    converter: Converter,
    node: fx.Node,
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Value:
    value, w, b = _weighed(converter, node, x, weight, bias)
    axes = w.ndim - 2
    inputs, outputs, *kernel = w.shape
    w = w.reshape(groups, inputs // groups, outputs, *kernel).swapaxes(1, 2)
    w = w.reshape(groups * outputs, inputs // groups, *kernel)
    given = [_each(n, axes) for n in (stride, padding, output_padding, dilation)]
    if axes == 1:
        w = w[:, :, None]
        given = [(fill, *n) for n, fill in zip(given, (1, 0, 0, 1), strict=True)]
    first, second, third, fourth = map(_pair, given)
    operator = ConvTranspose2d(w, first, second, third, fourth, groups)
    return converter.map(node, value, operator, b).viewed(_result(node))


@register(aten.linear.default)
def _linear(converter: Converter, node: fx.Node, x: Any, weight: Any, bias: Any = None) -> Value:
    value, w = converter.value(node, x), converter.constant(node, weight)
    b = None if bias is None else converter.constant(node, bias)
    *rows, features = value.seen
    if features == math.prod(value.seen):
        found = converter.map(node, value, Dense(w.reshape(-1, features)), b)
        return found.viewed(_result(node))
    seen = _result(node)
    shape = affine.stored(seen)
    each = sparse.kron(sparse.identity(math.prod(rows)), sparse.csr_matrix(w), format="csr")
    found = converter.map(node, value, matrix_operator(each, shape, value.shape)).viewed(seen)
    return found if b is None else found.plus(affine.constant(b, seen))


# -- poolings ----------------------------------------------------------------------------------


@register(aten.avg_pool1d.default, aten.avg_pool2d.default, aten.avg_pool3d.default)
def _average(
    converter: Converter,
    node: fx.Node,
    x: Any,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
) -> Value:
    value = converter.value(node, x)
    result = _result(node)
    axes = len(value.seen) - 1
    kernel, padding = _each(kernel, axes), _each(padding, axes)
    stride = _strides(stride, kernel)
    inside, outside = value.seen[1:], result[1:]
    hangs = any(
        (out - 1) * s + k > n + 2 * p for n, out, k, s, p in zip(inside, outside, kernel, stride, padding, strict=True)
    )
    whole = count_include_pad or not any(padding)
    if axes < 3 and not hangs and (whole or divisor):
        return _pool(converter, node, value, _windows(kernel, stride, padding), divisor)
    matrices = []
    for n, out, k, s, p in zip(inside, outside, kernel, stride, padding, strict=True):
        spans = [(i * s - p, min(i * s - p + k, n + p)) for i in range(out)]
        counts = [
            1 if divisor else (stop - start if count_include_pad else min(stop, n) - max(start, 0))
            for start, stop in spans
        ]
        matrices.append(_spans([(max(a, 0), min(b, n)) for a, b in spans], counts, n))
    found = _by_axes(converter, node, value, matrices, result)
    return found.scaled(np.full((1,) * len(found.shape), 1 / divisor)) if divisor else found


def _strides(stride: Any, kernel: tuple[int, ...]) -> tuple[int, ...]:
    """Those of windows: their own size, where none are given."""
    return kernel if stride in ((), []) else _each(stride, len(kernel))


def _windows(kernel: Sequence[int], stride: Sequence[int] = (), padding: Sequence[int] = (0,)) -> SumPool2d:
    """Of images, or of values along one axis, which are images without height.

    By default they stand side by side.
    """
    first, second, third = ((fill, *n)[-2:] for n, fill in ((kernel, 1), (stride or kernel, 1), (padding, 0)))
    return SumPool2d(_pair(first), _pair(second), _pair(third))


def _pool(converter: Converter, node: fx.Node, value: Value, pool: SumPool2d, divisor: int | None = None) -> Value:
    found = converter.pooled(node, converter.laid_out(node, value), pool, divisor or pool.size)
    return found.viewed(_result(node))


@register(aten.adaptive_avg_pool1d.default, aten.adaptive_avg_pool2d.default, aten.adaptive_avg_pool3d.default)
def _adaptive_average(converter: Converter, node: fx.Node, x: Any, size: Any) -> Value:
    value = converter.value(node, x)
    result = _result(node)
    inside, outside = value.seen[1:], result[1:]
    if len(inside) < 3 and not any(n % out for n, out in zip(inside, outside, strict=True)):
        kernel = tuple(n // out for n, out in zip(inside, outside, strict=True))
        return _pool(converter, node, value, _windows(kernel))
    matrices = []
    for n, out in zip(inside, outside, strict=True):
        spans = _adaptive(n, out)
        matrices.append(_spans(spans, [b - a for a, b in spans], n))
    return _by_axes(converter, node, value, matrices, result)


def _adaptive(inputs: int, outputs: int) -> list[Pair]:
    """The windows of adaptive pooling along an axis."""
    return [(i * inputs // outputs, -(-(i + 1) * inputs // outputs)) for i in range(outputs)]


def _spans(spans: Sequence[Pair], counts: Sequence[int], inputs: int) -> Array:
    """The matrix of means over spans of an axis."""
    matrix = np.zeros((len(spans), inputs))
    for row, (start, stop), count in zip(matrix, spans, counts, strict=True):
        row[start:stop] = 1 / count
    return matrix


def _by_axes(converter: Converter, node: fx.Node, value: Value, matrices: Sequence[Array], seen: Shape) -> Value:
    """The value behind a matrix for each of its last axes."""
    whole = sparse.identity(math.prod(value.seen) // math.prod(m.shape[1] for m in matrices))
    for matrix in matrices:
        whole = sparse.kron(whole, sparse.csr_matrix(matrix), format="csr")
    operator = matrix_operator(whole.tocsr(), affine.stored(seen), value.shape)
    return converter.map(node, value, operator).viewed(seen)


@register(aten.mean.dim, axes=True)
def _mean(converter: Converter, node: fx.Node, x: Any, dim: Any, keepdim: bool = False, dtype: Any = None) -> Value:
    return _summed(converter, node, converter.value(node, x), dim, keepdim, mean=True)


@register(aten.sum.dim_IntList, axes=True)
def _sum(converter: Converter, node: fx.Node, x: Any, dim: Any, keepdim: bool = False, dtype: Any = None) -> Value:
    return _summed(converter, node, converter.value(node, x), dim, keepdim, mean=False)


def _summed(converter: Converter, node: fx.Node, value: Value, dim: Any, keepdim: bool, *, mean: bool) -> Value:
    axes, images = len(value.seen), value.axis
    given = {d % (axes + 1) for d in (dim if dim else range(axes + 1))}
    if images in given:
        raise refusal(node, "it adds up the images of a batch")
    dims = sorted(d + 1 if d < images else d for d in given)  # with the images first
    axis = images - (0 if keepdim else sum(d < images for d in given))
    shape = [*node.meta["val"].shape]
    del shape[axis]
    return replace(_added(converter, node, replace(value, axis=0), dims, tuple(shape), mean=mean), axis=axis)


def _added(converter: Converter, node: fx.Node, value: Value, dims: Sequence[int], seen: Shape, *, mean: bool) -> Value:
    """The sum or mean along axes, which are counted from the first behind the images as 1."""
    axes = len(value.seen)
    if axes in (2, 3) and dims == list(range(2, axes + 1)):
        pool = _windows(value.seen[1:])
        found = converter.pooled(node, converter.laid_out(node, value), pool, pool.size if mean else 1)
        return found.viewed(seen)
    matrices = [
        np.full((1, n), 1 / n if mean else 1.0) if axis in dims else np.identity(n)
        for axis, n in enumerate(value.seen, 1)
    ]
    return _by_axes(converter, node, value, matrices, seen)


@register(
    aten.max_pool1d.default,
    aten.max_pool2d.default,
    aten.max_pool2d_with_indices.default,
    aten.max_pool3d.default,
    aten.max_pool3d_with_indices.default,
)
def _largest(
    converter: Converter,
    node: fx.Node,
    x: Any,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Value:
    value = converter.value(node, x, pooling=True)
    result = _result(node)
    axes = len(value.seen) - 1
    kernel, padding, dilation = (_each(n, axes) for n in (kernel, padding, dilation))
    stride = _strides(stride, kernel)
    if axes < 3 and set(dilation) == {1} and _has_pixels(value):
        window = replace(_windows(kernel, stride, padding), ceil=ceil_mode)
        return _largest_in(converter, node, value, window, result)
    sides = zip(value.seen[1:], result[1:], kernel, stride, padding, dilation, strict=True)
    taps = [
        [[at for at in range(i * s - p, i * s - p + k * d, d) if 0 <= at < n] for i in range(out)]
        for n, out, k, s, p, d in sides
    ]
    return _largest_of(converter, node, x, taps, result)


@register(aten.adaptive_max_pool1d.default, aten.adaptive_max_pool2d.default, aten.adaptive_max_pool3d.default)
def _adaptive_largest(converter: Converter, node: fx.Node, x: Any, size: Any) -> Value:
    value = converter.value(node, x, pooling=True)
    result = _result(node)
    sides = list(zip(value.seen[1:], result[1:], strict=True))
    if len(sides) < 3 and not any(n % out for n, out in sides) and _has_pixels(value):
        return _largest_in(converter, node, value, _windows([n // out for n, out in sides]), result)
    taps = [[list(range(*span)) for span in _adaptive(n, out)] for n, out in sides]
    return _largest_of(converter, node, x, taps, result)


@register(aten.amax.default, aten.max.dim)
def _largest_along(converter: Converter, node: fx.Node, x: Any, dim: Any = (), keepdim: bool = False) -> Value:
    value = converter.value(node, x, pooling=True)
    axes = len(value.seen)
    dims = {d % (axes + 1) for d in ([dim] if isinstance(dim, int) else dim or range(axes + 1))}
    if 0 in dims:
        raise refusal(node, "it takes the largest of the images of a batch")
    if dims == set(range(2, axes + 1)) and axes < 4 and _has_pixels(value):
        return _largest_in(converter, node, value, _windows(value.seen[1:]), _result(node))
    taps = [[list(range(n))] if axis in dims else [[i] for i in range(n)] for axis, n in enumerate(value.seen, 1)]
    return _largest_of(converter, node, x, taps, _result(node))


def _result(node: fx.Node) -> Shape:
    """The shape of an operation's result, the first of several, without the batch."""
    traced = node.meta["val"]
    return tuple((traced if isinstance(traced, torch.Tensor) else traced[0]).shape[1:])


def _has_pixels(value: Value) -> bool:
    """Whether a value is stored so that windows of its pixels are windows of a population's."""
    return len(value.pooled) == 3 and (not value.windows or value.pooled == affine.stored(value.seen))


def _largest_in(converter: Converter, node: fx.Node, value: Value, window: SumPool2d, result: Shape) -> Value:
    value = value if value.windows else converter.laid_out(node, value)
    return converter.largest(node, value, window).viewed(result)


def _largest_of(
    converter: Converter, node: fx.Node, x: Any, taps: Sequence[Sequence[Sequence[int]]], result: Shape
) -> Value:
    """The largest of the numbers at places along the last axes, each place with its ``taps``.

    They are put beside each other first; a window with fewer than others has its first one more
    often.
    """
    value = converter.value(node, x)
    whole = value.seen[: len(value.seen) - len(taps)]
    places = np.arange(math.prod(value.seen)).reshape(math.prod(whole), *value.seen[len(whole) :])
    most = [max(map(len, axis)) for axis in taps]
    filled = [
        np.array([[*each, *[each[0]] * (n - len(each))] for each in axis]) for axis, n in zip(taps, most, strict=True)
    ]
    grid = np.ix_(np.arange(len(places)), *(each.reshape(-1) for each in filled))
    split = [n for axis in filled for n in axis.shape]
    gathered = places[grid].reshape(len(places), *split)
    order = [0, *range(1, len(split) + 1, 2), *range(2, len(split) + 1, 2)]
    together = gathered.transpose(order).reshape(1, -1, math.prod(most))
    moved = converter.moved(node, value, together)
    return converter.largest(node, moved, _windows([math.prod(most)])).viewed(result)


# -- numbers for each channel or pixel ---------------------------------------------------------


@register(aten.batch_norm.default)
def _batch_norm(
    converter: Converter,
    node: fx.Node,
    x: Any,
    weight: Any,
    bias: Any,
    mean: Any,
    variance: Any,
    training: bool,
    momentum: float,
    eps: float,
    _: bool = False,
) -> Value:
    if training or mean is None:
        raise refusal(node, "it normalizes with the statistics of the batch; export the network in evaluation mode")
    value = converter.value(node, x, pooling=True)
    scale = 1 / np.sqrt(converter.constant(node, variance) + eps)
    if weight is not None:
        scale = scale * converter.constant(node, weight)
    shift = -converter.constant(node, mean) * scale + (0.0 if bias is None else converter.constant(node, bias))
    column = (-1, *(1,) * (len(value.seen) - 1))
    return converter.scaled(
        node,
        value,
        converter.spread(node, scale.reshape(column), value),
        converter.spread(node, shift.reshape(column), value),
    )


@register(aten._native_batch_norm_legit_no_training.default)
def _normalization(
    converter: Converter,
    node: fx.Node,
    x: Any,
    weight: Any,
    bias: Any,
    mean: Any,
    variance: Any,
    momentum: float,
    eps: float,
) -> Value:
    """Batch normalization in evaluation mode, in a program without in-place operations.

    It is the first of three results.
    """
    return _batch_norm(converter, node, x, weight, bias, mean, variance, False, momentum, eps)


@register(aten.add.Tensor, aten.add_.Tensor)
def _add(converter: Converter, node: fx.Node, x: Any, y: Any, alpha: Any = 1) -> Value:
    factor = converter.constant(node, alpha)
    if not (converter.is_value(x) and converter.is_value(y)):
        own, other = (x, y) if converter.is_value(x) else (y, x)
        value = _broadcast(converter, node, converter.value(node, own, pooling=True), _result(node))
        ones = np.ones((1,) * len(value.pooled))
        constant = converter.spread(node, other, value)
        if own is x:
            return converter.scaled(node, value, ones, constant * factor)
        return converter.scaled(node, value, ones * factor, constant)
    seen = _result(node)
    a, b = (_broadcast(converter, node, converter.value(node, each), seen) for each in (x, y))
    if a.shape != b.shape:
        a, b = converter.laid_out(node, a), converter.laid_out(node, b)
    return a.plus(converter.scaled(node, b, np.broadcast_to(factor, (1,) * len(b.shape))))


def _broadcast(converter: Converter, node: fx.Node, value: Value, seen: Shape) -> Value:
    """The value, repeated along axes of length 1 as torch does."""
    if value.seen == seen:
        return value
    if len(value.seen) != len(seen):
        raise refusal(node, "it mixes the images of a batch: what it takes has fewer axes than what it gives")
    if value.windows:
        value = converter.peaks(node, value)
    places = np.arange(math.prod(value.seen)).reshape(value.seen)
    index = np.broadcast_to(places.reshape((1,) * (len(seen) - places.ndim) + places.shape), seen)
    return converter.moved(node, value, index.reshape(affine.stored(seen))).viewed(seen)


@register(aten.sub.Tensor, aten.sub_.Tensor)
def _sub(converter: Converter, node: fx.Node, x: Any, y: Any, alpha: Any = 1) -> Value:
    return _add(converter, node, x, y, -converter.constant(node, alpha))


@register(aten.rsub.Scalar, aten.rsub.Tensor)
def _rsub(converter: Converter, node: fx.Node, x: Any, y: Any, alpha: Any = 1) -> Value:
    return _sub(converter, node, y, x, alpha)


@register(aten.neg.default)
def _neg(converter: Converter, node: fx.Node, x: Any) -> Value:
    return _mul(converter, node, x, -1)


@register(aten.mul.Tensor, aten.mul_.Tensor)
def _mul(converter: Converter, node: fx.Node, x: Any, y: Any) -> Value:
    own, factor = (x, y) if converter.is_value(x) and not _fixed(converter, x) else (y, x)
    if converter.is_value(factor) and not _fixed(converter, factor):
        raise refusal(node, GATE)
    value = converter.value(node, own, pooling=True)
    return _times(converter, node, value, converter.constant(node, factor))


def _times(converter: Converter, node: fx.Node, value: Value, factor: Array) -> Value:
    value = _broadcast(converter, node, value, _result(node))
    return converter.scaled(node, value, converter.spread(node, factor, value))


def _fixed(converter: Converter, argument: Any) -> bool:
    """Whether a value depends on parameters alone."""
    return not converter.value(argument, argument, pooling=True).terms


@register(aten.div.Tensor, aten.div_.Tensor)
def _div(converter: Converter, node: fx.Node, x: Any, y: Any) -> Value:
    if converter.is_value(y) and not _fixed(converter, y):
        raise refusal(node, "a quotient with an activation below is not linear")
    value, divisor = converter.value(node, x, pooling=True), converter.constant(node, y)
    if np.any(divisor == 0):
        raise refusal(node, "it divides by zero")
    return _times(converter, node, value, 1 / divisor)


# -- the same numbers --------------------------------------------------------------------------


@register(getitem)
def _getitem(converter: Converter, node: fx.Node, x: Any, index: int) -> Value:
    found = converter.values.get(x.name)
    if isinstance(found, tuple):
        return found[index]
    if index != 0:
        raise refusal(node, "it takes a second result of an operation")
    return converter.value(node, x, pooling=True)


@register(
    aten.flatten.using_ints,
    aten.view.default,
    aten.reshape.default,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.unsqueeze.default,
    aten.unflatten.int,
    aten._unsafe_view.default,
    aten.view_as.default,
    aten.reshape_as.default,
    numbers=True,
)
def _reshape(converter: Converter, node: fx.Node, x: Any, *_: Any, **__: Any) -> Value:
    """Every operation that keeps the order of an image's numbers."""
    seen = _result(node)
    value = converter.value(node, x, pooling=True)
    if not all(isinstance(n, int) for n in seen) or math.prod(seen) != math.prod(value.seen):
        return value  # the shape of an image is another: refused as of every operation
    return value.viewed(seen)


@register(*DROPOUTS)
def _dropout(converter: Converter, node: fx.Node, x: Any, *_: Any) -> Value:
    if drops(node):
        raise refusal(
            node,
            "it drops values at random: export in evaluation mode (model.eval()), and give functional.dropout its "
            "training=self.training",
        )
    return converter.value(node, x, pooling=True)


@register(*COPIES)
def _same(converter: Converter, node: fx.Node, x: Any, *_: Any, **__: Any) -> Value:
    return converter.value(node, x, pooling=True)


def _each(value: Any, axes: int) -> tuple[int, ...]:
    """One whole number for each axis."""
    given = (value,) if isinstance(value, int) else tuple(value)
    return tuple(int(n) for n in (given * axes if len(given) == 1 else given))


def _pair(value: Sequence[int]) -> Pair:
    first, second = value
    return (int(first), int(second))
