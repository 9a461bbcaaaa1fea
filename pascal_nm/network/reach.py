r"""Which neuron reaches which: the synapses of a projection as one small matrix for each axis.

A neuron at (c, y, x) of the target has :math:`A_c[c, c'] \, A_y[y, y'] \, A_x[x, x']` synapses from
the one at (c', y', x') of the source, because convolutions, poolings, identities and dense layers
all connect channels, rows and columns independently. A population (N,) is one of shape (N, 1, 1). A
pooling in front counts as part of the synapses, which is how a chip stores it: a neuron in two
windows drives both.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np

from pascal_nm.common.arrays import Array, Pair, Shape
from pascal_nm.network.graph import Conv2d, Dense, Projection


class Reach(NamedTuple):
    """Numbers of synapses by channel, row and column: int64 matrices (target, source)."""

    channels: Array
    rows: Array
    columns: Array

    @property
    def fan_out(self) -> Array:
        """Synapses that each source neuron drives, (C, H, W)."""
        return np.asarray(math.prod(np.ix_(*(axis.sum(0) for axis in self)), start=np.ones((), np.int64)))

    @property
    def fan_in(self) -> Array:
        """Synapses that drive each target neuron, (C, H, W)."""
        return np.asarray(math.prod(np.ix_(*(axis.sum(1) for axis in self)), start=np.ones((), np.int64)))


def volume(shape: Shape) -> tuple[int, int, int]:
    """The shape with three axes."""
    channels, height, width = (*shape, 1, 1)[:3]
    return channels, height, width


def of(projection: Projection, shape: Shape) -> Reach:
    """The synapses of a projection from a source of ``shape``."""
    operator, pool = projection.operator, projection.pool
    inner = volume(pool.output_shape(shape) if pool else shape)
    if isinstance(operator, Dense):
        ones = np.broadcast_to(np.int64(1), (len(operator.weight), inner[0]))  # all the same number in memory
        axes = [ones, np.ones((1, inner[1]), np.int64), np.ones((1, inner[2]), np.int64)]
    elif isinstance(operator, Conv2d):
        target = operator.output_shape(inner)
        kernel = operator.weight.shape[2:]
        blocks = np.ones((target[0] // operator.groups, inner[0] // operator.groups), np.int64)
        axes = [np.kron(np.eye(operator.groups, dtype=np.int64), blocks)]
        for i in (0, 1):
            steps = (kernel[i], operator.stride[i], operator.padding[i], operator.dilation[i])
            axes.append(_windows(target[i + 1], inner[i + 1], *steps))
    else:
        axes = [np.eye(n, dtype=np.int64) for n in inner]
    if pool:
        for i in (0, 1):
            window = _windows(inner[i + 1], shape[i + 1], *_along(pool.kernel, pool.stride, pool.padding, i), 1)
            axes[i + 1] = axes[i + 1] @ window
    return Reach(*axes)


def _along(kernel: Pair, stride: Pair, padding: Pair, axis: int) -> tuple[int, int, int]:
    return kernel[axis], stride[axis], padding[axis]


def _windows(target: int, source: int, kernel: int, stride: int, padding: int, dilation: int) -> Array:
    """Along one axis: 1 where the source's position lies in the target's window."""
    matrix = np.zeros((target, source), np.int64)
    for i, k in itertools.product(range(target), range(kernel)):
        position = i * stride - padding + k * dilation
        if 0 <= position < source:
            matrix[i, position] += 1
    return matrix
