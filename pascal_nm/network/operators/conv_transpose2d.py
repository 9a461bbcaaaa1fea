"""Transposed convolutions, which spread each pixel over a window."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pascal_nm.common.arrays import Array, Pair, Shape
from pascal_nm.errors import GraphError
from pascal_nm.network.operators.base import Convolution, Operator, register, whole
from pascal_nm.network.operators.conv2d import Conv2d, convolved
from pascal_nm.network.operators.filters import Filters
from pascal_nm.network.reach import Places, Reach

if TYPE_CHECKING:
    import nir
    from scipy import sparse
    from torch import Tensor


@register()
@dataclass(frozen=True, eq=False)
class ConvTranspose2d(Filters):
    """Transposed convolution; ``weight`` has shape (C_out, C_in / groups, K_h, K_w).

    That of torch has the axes of inputs and outputs the other way round. There is no bias:
    populations have it.
    """

    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    output_padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    name: ClassVar[str] = "conv_transpose2d"

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of the target that an input of ``shape`` (C, H, W) projects to."""
        if self.weight.ndim != 4 or self.groups < 1:
            raise GraphError(f"a transposed convolution has no weight {self.weight.shape} in {self.groups} group(s)")
        channels, per_group = self.weight.shape[:2]
        if len(shape) != 3 or shape[0] != per_group * self.groups or channels % self.groups:
            raise GraphError(
                f"a transposed convolution with weight {self.weight.shape} and {self.groups} group(s) "
                f"cannot take an input of shape {shape}"
            )
        sides = []
        for n, k, *step in zip(
            shape[1:], self.kernel, self.stride, self.padding, self.output_padding, self.dilation, strict=True
        ):
            stride, padding, more, dilation = step
            side = (n - 1) * stride - 2 * padding + dilation * (k - 1) + more + 1
            if min(stride, dilation) < 1 or padding < 0 or not 0 <= more < max(stride, dilation) or side < 1:
                raise GraphError(
                    f"a transposed window of {k} with stride {stride}, padding {padding}, output padding {more} and "
                    f"dilation {dilation} makes nothing of {n} pixels"
                )
            sides.append(side)
        return (channels, *sides)

    def _places(self, shape: Shape) -> list[Places]:
        """Rows and columns of the windows: those of the convolution that it is the transpose of."""
        sides = zip(
            shape[1:], self.output_shape(shape)[1:], self.kernel, self.stride, self.padding, self.dilation, strict=True
        )
        return [Places(*reversed(Places.of(*side))) for side in sides]

    def reach(self, shape: tuple[int, int, int]) -> Reach:
        """Channels by group, rows and columns by the kernel's windows."""
        target = self.output_shape(shape)
        rows, columns = (p.matrix(*sides) for p, *sides in zip(self._places(shape), target[1:], shape[1:], strict=True))
        return Reach(self.joined(shape[0]), rows, columns)

    def matrix(self, shape: Shape) -> sparse.csr_matrix:
        """The weights where the windows have them."""
        return convolved(self.weight, self.groups, shape, self.output_shape(shape), self._places(shape))

    @property
    def _periods(self) -> Pair:
        """After so many rows and columns of the target, the same weights come again."""
        (high, wide), (down, across) = self.stride, self.dilation
        return high // math.gcd(high, down), wide // math.gcd(wide, across)

    @property
    def fan_in(self) -> int:
        """Those weights of the kernel that fall on the same pixel."""
        counts = (-(-k // period) for k, period in zip(self.kernel, self._periods, strict=True))
        return int(self.weight.shape[1] * math.prod(counts))

    @property
    def phases(self) -> int:
        """Ways in which the kernel falls on a pixel."""
        return math.prod(min(k, period) for k, period in zip(self.kernel, self._periods, strict=True))

    def sums(self) -> Array:
        """The largest of the ways in which the kernel falls on a pixel."""
        magnitudes, (high, wide) = np.abs(self.weight.astype(np.float64)), self._periods
        ways = itertools.product(range(high), range(wide))
        return np.asarray(np.max([magnitudes[:, :, i::high, j::wide].sum((1, 2, 3)) for i, j in ways], axis=0))

    def as_convolution(self, shape: tuple[int, int, int]) -> Convolution:
        """With a stride of 1, that of the kernel turned round."""
        padding = self._turned
        if padding is None:
            raise GraphError(
                f"a transposed convolution of stride {self.stride} and padding {self.padding} is no convolution"
            )
        turned = self.with_weight(self.weight[:, :, ::-1, ::-1])
        return Convolution(turned.ungrouped, len(self.weight), self.kernel, (1, 1), padding, self.dilation)

    @property
    def _turned(self) -> Pair | None:
        """The padding of the convolution that it is, if it is one."""
        rows, columns = (d * (k - 1) - p for d, k, p in zip(self.dilation, self.kernel, self.padding, strict=True))
        same = self.stride == (1, 1) and self.output_padding == (0, 0) and min(rows, columns) >= 0
        return (rows, columns) if same else None

    def apply(self, weight: Tensor) -> Callable[[Tensor], Tensor]:
        """The map of torch."""
        from torch.nn import functional as F

        outputs, inputs, *kernel = weight.shape
        grouped = weight.reshape(self.groups, outputs // self.groups, inputs, *kernel).transpose(1, 2)
        filters = grouped.reshape(self.groups * inputs, outputs // self.groups, *kernel).contiguous()
        parameters = (self.stride, self.padding, self.output_padding, self.groups, self.dilation)
        return lambda x: F.conv_transpose2d(x, filters, None, *parameters)

    def after(self, first: Operator, shape: Shape, inner: Shape) -> Operator | None:
        """A convolution of single pixels in front is one of the inputs' channels."""
        if isinstance(first, Conv2d) and first.is_pointwise and first.groups == self.groups == 1:
            return self.with_weight(np.einsum("omhw,mi->oihw", self.weight, first.weight[:, :, 0, 0]))
        return super().after(first, shape, inner)

    def then(self, second: Operator, shape: Shape, inner: Shape) -> Operator | None:
        """A convolution of single pixels behind it is one of the outputs' channels."""
        if isinstance(second, Conv2d) and second.is_pointwise and second.groups == self.groups == 1:
            return self.with_weight(np.einsum("om,mihw->oihw", second.weight[:, :, 0, 0], self.weight))
        return super().then(second, shape, inner)

    def to_node(self, shape: Shape, bias: Array | None) -> nir.NIRNode:
        """The convolution that it is; NIR has no other, else its weights stand in a row."""
        import nir

        if (padding := self._turned) is None:
            return nir.Linear(self.weight.reshape(1, -1))
        turned = np.ascontiguousarray(self.weight[:, :, ::-1, ::-1])
        return Conv2d(turned, (1, 1), padding, self.dilation, self.groups).to_node(shape, bias)

    def metadata(self) -> dict[str, Any]:
        """With the shape of its weights."""
        return {**super().metadata(), "filters": self.weight.shape}

    @staticmethod
    def behind_copies(second: Conv2d, copies: Pair) -> ConvTranspose2d | None:
        """A convolution behind rows and columns that come so many times in a row each."""
        padding = [d * (k - 1) - p for d, k, p in zip(second.dilation, second.kernel, second.padding, strict=True)]
        if second.stride != (1, 1) or min(padding) < 0:
            return None
        (high, wide), (down, across), (rows, columns) = second.kernel, second.dilation, copies
        kernel = (down * (high - 1) + rows, across * (wide - 1) + columns)
        weight = np.zeros((*second.weight.shape[:2], *kernel), second.weight.dtype)
        for i, j in np.ndindex(high, wide):
            top, left = down * (high - 1 - i), across * (wide - 1 - j)
            weight[:, :, top : top + rows, left : left + columns] += second.weight[:, :, i, j, None, None]
        return ConvTranspose2d(weight, copies, (padding[0], padding[1]), groups=second.groups)

    @classmethod
    def from_node(cls, node: nir.NIRNode) -> ConvTranspose2d:
        """The weights of a node, with what its metadata say of them."""
        about = node.metadata
        filters = whole(about["filters"], (4,), "the shape of the filters")
        if node.weight.size != math.prod(filters):
            raise GraphError(f"{node.weight.size} weights are no filters of shape {filters}")
        pairs = ("stride", "padding", "output_padding", "dilation")
        parameters: dict[str, Any] = {key: whole(about[key], (2,), f"the {key}") for key in pairs}
        (groups,) = whole(about["groups"], (1,), "the groups")
        weight = node.weight if node.weight.ndim == 2 else node.weight[:, :, ::-1, ::-1]
        return cls(np.ascontiguousarray(weight).reshape(filters), groups=groups, **parameters)
