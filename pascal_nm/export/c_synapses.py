"""What a spike does behind a projection, in C.

An operator has a function of its own here, or one that is registered with ``synapses.register``; of
any other the synapses are listed one by one.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pascal_nm.common.arrays import Array, Pair, Shape
from pascal_nm.export import c_text as c
from pascal_nm.network.operators import Conv2d, ConvTranspose2d, Dense, Identity, Operator, SumPool2d


class Synapses(NamedTuple):
    """What a spike does behind a projection.

    Attributes:
        order: in words, how the weights are stored.
        tables: flat arrays of integers, by a word.
        lines: C statements that add to ``current[...]``. They know ``neuron``, the number of the
            neuron that has spiked (behind a pooling, of the window), and ``value``, what its spike
            carries; ``$word`` is a table's name.
    """

    order: str
    tables: Mapping[str, Array]
    lines: Sequence[str]


@functools.singledispatch
def synapses(operator: Operator, shape: Shape, target: Shape) -> Synapses:
    """The C form of an operator from populations of ``shape`` to those of shape ``target``.

    Of one that says no more, a list: of each source neuron its targets and weights.
    """
    matrix = operator.with_weight(operator.weight.astype(np.int64)).matrix(shape)
    ordered = matrix[c.order(target)][:, c.order(shape)].T.tocsr()
    ordered.sum_duplicates()
    ordered.eliminate_zeros()
    weights = ordered.data if ordered.nnz else np.zeros(1, np.int64)
    alike = bool(np.all(weights == weights[0]))
    tables = {"start": ordered.indptr, "target": ordered.indices if ordered.nnz else np.zeros(1, np.int64)}
    return Synapses(
        "Of each neuron that spikes, its targets and their weights" + (", which are all the same." if alike else "."),
        {**tables, "weight": weights[:1] if alike else weights},
        c.block(
            "for (int k = $start[neuron]; k < $start[neuron + 1]; k++)",
            f"current[$target[k]] += $weight[{'0' if alike else 'k'}] * value;",
        ),
    )


@synapses.register
def _dense(operator: Dense, shape: Shape, target: Shape) -> Synapses:
    """A row of weights for each source neuron."""
    (outputs,) = target
    return Synapses(
        "Weights: of each neuron that spikes, one for each that hears it.",
        {"weight": operator.weight[:, c.order(shape)].T},
        c.block(
            f"for (int j = 0; j < {outputs}; j++)",
            f"current[j] += $weight[neuron * {outputs} + j] * value;",
        ),
    )


@synapses.register
def _identity(operator: Identity, shape: Shape, target: Shape) -> Synapses:
    """One weight for all, for each channel or for each neuron."""
    weight = c.in_turn(operator.weight, shape)
    return Synapses(
        "Each neuron reaches its like.",
        {"weight": weight},
        [f"current[neuron] += $weight[{c.turn('neuron', weight, shape)}] * value;"],
    )


@synapses.register
def _conv2d(operator: Conv2d, shape: Shape, target: Shape) -> Synapses:
    """The windows that a source neuron is in, from one place of the kernel to the next."""
    sides = _windows(operator.stride, operator.padding, operator.dilation, target)
    return _filters(operator.weight, operator.groups, shape, target, sides)


@synapses.register
def _conv_transpose2d(operator: ConvTranspose2d, shape: Shape, target: Shape) -> Synapses:
    """The window that a source neuron is spread over."""
    sides = [
        (c.offset(c.times(place, stride), -padding, k, -dilation), [f"{at} < 0", f"{at} >= {size}"], at)
        for place, k, at, stride, padding, dilation, size in zip(
            *_AXES, operator.stride, operator.padding, operator.dilation, target[1:], strict=True
        )
    ]
    return _filters(operator.weight, operator.groups, shape, target, sides)


_AXES = (("row", "column"), ("i", "j"), ("y", "x"))
"""Of both axes: the source's place, that in the kernel, and the target's."""

_Side = tuple[str, list[str], str]
"""Where on an axis a kernel's weight leads, when that is no neuron, and which one it is."""


def _windows(stride: Pair, padding: Pair, dilation: Pair, target: Shape) -> list[_Side]:
    """Of windows: the target's place times the stride is the source's, less that in the window."""
    return [
        (
            c.offset(place, before, k, apart),
            [f"{at} < 0", *([f"{at} % {step} != 0"] if step > 1 else []), f"{c.over(at, step)} >= {size}"],
            c.over(at, step),
        )
        for place, k, at, step, before, apart, size in zip(*_AXES, stride, padding, dilation, target[1:], strict=True)
    ]


def _filters(weight: Array, groups: int, shape: Shape, target: Shape, sides: Sequence[_Side]) -> Synapses:
    outputs, inputs, height, width = weight.shape
    share = outputs // groups
    ordered = weight.reshape(groups, share, inputs, height, width).transpose(3, 4, 0, 2, 1)
    (above, outside_y, y), (left, outside_x, x) = sides
    group = f" + channel / {inputs} * {share}" if groups > 1 else ""
    inner = [
        f"const int x = {left};",
        *c.unless(outside_x),
        f"number *at = current + ({y} * {target[2]} + {x}) * {outputs}{group};",
        f"const {c.type_of(weight)} *weight = $weight + ((i * {width} + j) * {shape[0]} + channel) * {share};",
        f"for (int k = 0; k < {share}; k++)",
        "    at[k] += weight[k] * value;",
    ]
    outer = [f"const int y = {above};", *c.unless(outside_y), *c.block(f"for (int j = 0; j < {width}; j++)", *inner)]
    about = "Weights by row and column of the kernel, channel that spikes and channel that hears it"
    return Synapses(
        f"{about}{' in its group' if groups > 1 else ''}.",
        {"weight": ordered},
        [*c.places(shape), *c.block(f"for (int i = 0; i < {height}; i++)", *outer)],
    )


def pooling(pool: SumPool2d, shape: Shape, name: str) -> list[str]:
    """The function that adds up the spikes of each window, and lists the sums."""
    channels, height, width = pool.output_shape(shape)
    (y, outside_y, at_y), (x, outside_x, at_x) = _windows(pool.stride, pool.padding, (1, 1), (channels, height, width))
    inner = [
        f"const int x = {x};",
        *c.unless(outside_x),
        f"{name}_sums[({at_y} * {width} + {at_x}) * {channels} + channel] += in->spikes[e].value;",
    ]
    outer = [
        f"const int y = {y};",
        *c.unless(outside_y),
        *c.block(f"for (int j = 0; j < {pool.kernel[1]}; j++)", *inner),
    ]
    size = channels * height * width
    return [
        f"static number {name}_sums[{size}];",
        *c.train(f"{name}_windows", size, 1),
        "",
        f"/* Sums over windows of {c.by(pool.kernel)}, stride {c.by(pool.stride)}, padding {c.by(pool.padding)}. */",
        f"static const struct train *{name}_pool(const struct train *in)",
        *c.body(
            "if (in->n == 0)",
            "    return in;",
            f"memset({name}_sums, 0, sizeof {name}_sums);",
            *c.block(
                "for (int e = 0; e < in->n; e++)",
                "const int neuron = in->spikes[e].neuron;",
                *c.places(shape),
                *c.block(f"for (int i = 0; i < {pool.kernel[0]}; i++)", *outer),
            ),
            f"{name}_windows[0].n = 0;",
            f"for (int i = 0; i < {size}; i++)",
            f"    if ({name}_sums[i] != 0)",
            f"        send(&{name}_windows[0], i, {name}_sums[i]);",
            f"return &{name}_windows[0];",
        ),
    ]
