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

from pascal_nm.common.arrays import Array, Shape


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


def windows(target: int, source: int, kernel: int, stride: int, padding: int, dilation: int) -> Array:
    """Along one axis: 1 where the source's position lies in the target's window.

    Gives (target, source).
    """
    matrix = np.zeros((target, source), np.int64)
    for i, k in itertools.product(range(target), range(kernel)):
        position = i * stride - padding + k * dilation
        if 0 <= position < source:
            matrix[i, position] += 1
    return matrix
