"""Convolutional synapses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy import sparse

from pascal_nm.common.arrays import Array, Pair, Shape
from pascal_nm.errors import GraphError
from pascal_nm.network.operators.base import (
    Convolution,
    Operator,
    SumPool2d,
    check_synapses,
    pair,
    register,
    window_counts,
)
from pascal_nm.network.operators.filters import Filters
from pascal_nm.network.reach import Places, Reach

if TYPE_CHECKING:
    import nir
    from torch import Tensor

_POINT = (1, 1)


@register("Conv2d")
@dataclass(frozen=True, eq=False)
class Conv2d(Filters):
    """Convolution; ``weight`` has shape (C_out, C_in / groups, K_h, K_w).

    There is no bias: populations have it.
    """

    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    name: ClassVar[str] = "conv2d"

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of the target that an input of ``shape`` (C, H, W) projects to."""
        channels, per_group = self.weight.shape[:2]
        if len(shape) != 3 or shape[0] != per_group * self.groups or channels % self.groups:
            raise GraphError(
                f"a convolution with weight {self.weight.shape} and {self.groups} group(s) "
                f"cannot take an input of shape {shape}"
            )
        return (channels, *window_counts(shape[1:], self.kernel, self.stride, self.padding, self.dilation))

    def reach(self, shape: tuple[int, int, int]) -> Reach:
        """Channels by group, rows and columns by the kernel's windows."""
        target = self.output_shape(shape)
        rows, columns = (p.matrix(*sides) for p, *sides in zip(self._places(shape), target[1:], shape[1:], strict=True))
        return Reach(self.joined(shape[0]), rows, columns)

    def _places(self, shape: Shape) -> list[Places]:
        """Rows and columns of the windows."""
        sides = zip(
            self.output_shape(shape)[1:], shape[1:], self.kernel, self.stride, self.padding, self.dilation, strict=True
        )
        return [Places.of(*side) for side in sides]

    def matrix(self, shape: Shape) -> sparse.csr_matrix:
        """The weights where the windows have them."""
        return convolved(self.weight, self.groups, shape, self.output_shape(shape), self._places(shape))

    def as_convolution(self, shape: tuple[int, int, int]) -> Convolution:
        """The same, with zeros between the groups."""
        return Convolution(self.ungrouped, len(self.weight), self.kernel, self.stride, self.padding, self.dilation)

    def apply(self, weight: Tensor) -> Callable[[Tensor], Tensor]:
        """The map of torch."""
        import torch
        from torch.nn import functional as F

        # Convolutions run in this memory format whatever the input has: it is the faster one for
        # batches of spikes.
        filters = weight.contiguous(memory_format=torch.channels_last)
        return lambda x: F.conv2d(x, filters, None, self.stride, self.padding, self.dilation, self.groups)

    def after(self, first: Operator, shape: Shape, inner: Shape) -> Operator | None:
        """One of two convolutions has to be of single pixels: else their borders differ."""
        if not isinstance(first, Conv2d) or not first.groups == self.groups == 1:
            return super().after(first, shape, inner)
        if self.is_pointwise:
            return first.with_weight(np.einsum("om,mihw->oihw", self.weight[:, :, 0, 0], first.weight))
        if first.is_pointwise:
            return self.with_weight(np.einsum("omhw,mi->oihw", self.weight, first.weight[:, :, 0, 0]))
        return None

    @property
    def is_pointwise(self) -> bool:
        """Whether it mixes the channels of each pixel."""
        return self.kernel == self.stride == _POINT and self.padding == (0, 0)

    def widened(self, borders: tuple[Pair, Pair], sides: Shape) -> Conv2d | None:
        """This convolution behind zeros, so many before and behind the rows and columns.

        Where they are not as many on both sides, the kernel may get zeros. None where that makes
        another number of windows.

        Args:
            borders: by axis, zeros before and behind.
            sides: rows and columns between them.
        """
        zeros, padding = [], []
        for (before, behind), n, k, s, p, d in zip(
            borders, sides, self.kernel, self.stride, self.padding, self.dilation, strict=True
        ):
            extent = d * (k - 1) + 1
            last = (n + before + behind + 2 * p - extent) // s * s
            fewest = last + extent - n - 2 * (p + before)  # up to ``s`` pixels more make no other window
            more = -(-fewest // d) if fewest > 0 else min(0, (fewest + s - 1) // d)
            if not fewest <= more * d < fewest + s:
                return None
            zeros.append((max(0, more), max(0, -more)))
            padding.append(p + before + d * max(0, more))
        return replace(self, weight=np.pad(self.weight, ((0, 0), (0, 0), *zeros)), padding=(padding[0], padding[1]))

    def pooled(self, before: SumPool2d | None, pool: SumPool2d) -> tuple[Operator, SumPool2d | None] | None:
        """A convolution with a wider kernel: the sum of the windows' convolutions."""
        if self.dilation != (1, 1) or pool.padding != (0, 0):
            return None
        (sh, sw), (kh, kw), w = self.stride, pool.kernel, self.weight
        wide = np.zeros((*w.shape[:2], w.shape[2] + (kh - 1) * sh, w.shape[3] + (kw - 1) * sw))
        for i, j in np.ndindex(kh, kw):
            wide[:, :, i * sh : i * sh + w.shape[2], j * sw : j * sw + w.shape[3]] += w
        return replace(self, weight=wide, stride=(sh * pool.stride[0], sw * pool.stride[1])), before

    def plus(self, other: Operator) -> Operator | None:
        """Of the same geometry, or with a shortcut that the middle of the kernel can hold."""
        if not other.passes:
            return super().plus(other)
        middle = (self.kernel[0] // 2, self.kernel[1] // 2)
        centred = self.padding == (self.dilation[0] * middle[0], self.dilation[1] * middle[1])
        odd = all(k % 2 for k in self.kernel)
        if not (other.uniform and centred and odd and self.stride == _POINT and self.groups == 1):
            return None
        weight = self.weight.copy()
        channels = np.arange(len(weight))
        factor = np.broadcast_to(other.weight, (len(weight), 1, 1)).reshape(-1)
        weight[channels, channels, middle[0], middle[1]] += factor
        return self.with_weight(weight)

    def carried(self, bias: Array, shape: Shape) -> Array:
        """Sums of the weights times the bias: without padding, the same at every pixel."""
        per_input = np.broadcast_to(bias, (shape[0], 1, 1)).reshape(self.groups, 1, -1, 1, 1)
        grouped = self.weight.reshape(self.groups, -1, *self.weight.shape[1:])
        return np.asarray((grouped * per_input).sum((2, 3, 4)).reshape(-1, 1, 1))

    def to_node(self, shape: Shape, bias: Array | None) -> nir.NIRNode:
        """NIR's convolution, which always has a bias."""
        import nir

        bias = np.zeros(len(self.weight), np.float32) if bias is None else bias
        parameters = (self.stride, self.padding, self.dilation, self.groups)
        return nir.Conv2d((shape[1], shape[2]), self.weight, *parameters, bias)

    @classmethod
    def from_node(cls, node: nir.NIRNode) -> Conv2d:
        """The convolution of a node."""
        return cls(node.weight, pair(node.stride), pair(node.padding), pair(node.dilation), int(node.groups))


def convolved(weight: Array, groups: int, shape: Shape, target: Shape, places: Sequence[Places]) -> sparse.csr_matrix:
    """The matrix of weights (C_out, C_in / groups, K_h, K_w) at the places of two axes.

    It maps a flattened input of ``shape`` (C, H, W) to a flattened one of shape ``target``.

    Raises:
        GraphError: it is too large.
    """
    rows, columns = places
    check_synapses(weight.shape[0] * weight.shape[1] * len(rows.kernel) * len(columns.kernel))
    values = weight[:, :, rows.kernel[:, None], columns.kernel]
    outputs, inputs = np.arange(target[0])[:, None], np.arange(weight.shape[1])
    group = outputs // (target[0] // groups)
    onto, of = (
        np.add.outer(channels * math.prod(size[1:]), y[:, None] * size[2] + x)
        for channels, y, x, size in (
            (outputs, rows.target, columns.target, target),
            (group * len(inputs) + inputs, rows.source, columns.source, shape),
        )
    )
    ends = np.broadcast_to(onto, values.shape).reshape(-1), of.reshape(-1)
    return sparse.csr_matrix((values.reshape(-1), ends), (math.prod(target), math.prod(shape)))
