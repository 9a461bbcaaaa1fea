"""Convolutional synapses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

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
    from scipy import sparse
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
        """One kernel, where the second one pads nothing, or pads what single pixels gave."""
        if not isinstance(first, Conv2d) or (self.padding != (0, 0) and not first.is_pointwise):
            return super().after(first, shape, inner)
        groups = math.gcd(first.groups, self.groups)
        w, v = first._in_groups(groups), self._in_groups(groups)
        v = v.reshape(groups, -1, *v.shape[1:])
        w = w.reshape(groups, -1, *w.shape[1:])
        axes = [
            _Grid.of(kernels, apart * stride, kernel, inner)
            for kernels, apart, stride, kernel, inner in zip(
                self.kernel, self.dilation, first.stride, first.kernel, first.dilation, strict=True
            )
        ]
        rows, columns = axes
        wide = np.zeros((groups, v.shape[1], w.shape[2], rows.size, columns.size))
        for i, j in np.ndindex(*self.kernel):
            part = np.einsum("gom,gmihw->goihw", v[:, :, :, i, j], w, optimize=True)
            wide[:, :, :, rows.places(i, first.kernel[0]), columns.places(j, first.kernel[1])] += part
        stride = (first.stride[0] * self.stride[0], first.stride[1] * self.stride[1])
        padding = (first.padding[0] + self.padding[0], first.padding[1] + self.padding[1])
        return Conv2d(wide.reshape(-1, *wide.shape[2:]), stride, padding, (rows.dilation, columns.dilation), groups)

    @property
    def is_pointwise(self) -> bool:
        """Whether it mixes the channels of each pixel."""
        return self.kernel == self.stride == _POINT and self.padding == (0, 0)

    def _in_groups(self, groups: int) -> Array:
        """The weights in fewer groups, of which the others are parts."""
        parts = self.groups // groups
        each = self.weight.reshape(groups, parts, -1, *self.weight.shape[1:])
        wide = np.zeros((groups, parts, each.shape[2], parts, *each.shape[3:]), self.weight.dtype)
        for part in range(parts):
            wide[:, part, :, part] = each[:, part]
        return wide.reshape(len(self.weight), parts * self.weight.shape[1], *self.weight.shape[2:])

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
        """A convolution with a wider kernel: the sum of the windows' convolutions.

        One of single pixels adds up its windows first.
        """
        if self.is_pointwise and before is None:
            return self, pool
        if self.dilation != (1, 1) or pool.padding != (0, 0):
            return None
        (sh, sw), (kh, kw), w = self.stride, pool.kernel, self.weight
        wide = np.zeros((*w.shape[:2], w.shape[2] + (kh - 1) * sh, w.shape[3] + (kw - 1) * sw))
        for i, j in np.ndindex(kh, kw):
            wide[:, :, i * sh : i * sh + w.shape[2], j * sw : j * sw + w.shape[3]] += w
        return replace(self, weight=wide, stride=(sh * pool.stride[0], sw * pool.stride[1])), before

    def plus(self, other: Operator) -> Operator | None:
        """Where one kernel lies on the other's places; a shortcut is a kernel of one pixel."""
        if other.passes and other.uniform:
            factor = np.broadcast_to(other.weight.reshape(-1, 1, 1, 1), (len(self.weight), 1, 1, 1))
            other = Conv2d(np.ascontiguousarray(factor), groups=len(factor))
        if not isinstance(other, Conv2d) or other.stride != self.stride:
            return None
        host, guest = (self, other) if math.prod(self.kernel) >= math.prod(other.kernel) else (other, self)
        groups = math.gcd(host.groups, guest.groups)
        places = [
            (padding - shifted + apart * np.arange(kernel), step)
            for padding, shifted, apart, kernel, step in zip(
                host.padding, guest.padding, guest.dilation, guest.kernel, host.dilation, strict=True
            )
        ]
        rows, columns = (at // step for at, step in places)
        on = not any(np.any(at % step) for at, step in places)
        inside = all(at.min() >= 0 and at.max() < k for at, k in zip((rows, columns), host.kernel, strict=True))
        if groups != min(host.groups, guest.groups) or not (on and inside):
            return None
        weight = host._in_groups(groups).astype(np.result_type(host.weight, guest.weight))
        weight[:, :, rows[:, None], columns] += guest._in_groups(groups)
        return replace(host, weight=weight, groups=groups)

    def carried(self, bias: Array, shape: Shape) -> Array:
        """Sums of the weights times the bias; padding takes some away at the borders."""
        if self.padding != (0, 0) or math.prod(bias.shape[1:]) > 1:
            return super().carried(bias, shape)
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


class _Grid(NamedTuple):
    """The places along an axis of a kernel of kernels: ``step`` apart from one to the next.

    Attributes:
        size: of the kernel.
        dilation: from one of its weights to the next.
        step: from one kernel to the next, in weights.
        inner: from one weight of a kernel to the next, in weights.
    """

    size: int
    dilation: int
    step: int
    inner: int

    @staticmethod
    def of(kernels: int, step: int, kernel: int, inner: int) -> _Grid:
        """So many ``kernels``, a ``step`` apart, of size ``kernel`` and dilation ``inner``."""
        dilation = math.gcd(step if kernels > 1 else 0, inner if kernel > 1 else 0) or 1
        last = (kernels - 1) * step + (kernel - 1) * inner
        return _Grid(last // dilation + 1, dilation, step // dilation, max(1, inner // dilation))

    def places(self, number: int, kernel: int) -> slice:
        """Those of one kernel."""
        first = number * self.step
        return slice(first, first + (kernel - 1) * self.inner + 1, self.inner)


def convolved(weight: Array, groups: int, shape: Shape, target: Shape, places: Sequence[Places]) -> sparse.csr_matrix:
    """The matrix of weights (C_out, C_in / groups, K_h, K_w) at the places of two axes.

    It maps a flattened input of ``shape`` (C, H, W) to a flattened one of shape ``target``.

    Raises:
        GraphError: it is too large.
    """
    from scipy import sparse

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
