"""Synapses from each neuron to its like."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pascal_nm.common.arrays import Array, Shape, canonical, check_broadcast
from pascal_nm.errors import GraphError
from pascal_nm.network.operators.base import Convolution, Operator, SumPool2d, register
from pascal_nm.network.operators.conv2d import Conv2d
from pascal_nm.network.operators.dense import Dense
from pascal_nm.network.reach import Reach

if TYPE_CHECKING:
    import nir
    from scipy import sparse
    from torch import Tensor


@register("Scale")
@dataclass(frozen=True, eq=False)
class Identity(Operator):
    """One synapse from each neuron to its like.

    ``weight`` is broadcastable to the shape: (1, 1, 1) or (C, 1, 1).
    """

    name: ClassVar[str] = "identity"
    multiplies: ClassVar[bool] = False
    passes: ClassVar[bool] = True
    moves: ClassVar[bool] = True
    takes_bias: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", canonical(self.weight, np.shape(self.weight), "identity weight"))

    def __str__(self) -> str:
        return self.name

    @property
    def fan_in(self) -> int:
        """One synapse."""
        return 1

    @property
    def uniform(self) -> bool:
        """Whether the factor is the same at all pixels of a channel."""
        return math.prod(self.weight.shape[1:]) == 1

    def output_shape(self, shape: Shape) -> Shape:
        """The input's own shape."""
        check_broadcast("identity weight", self.weight, shape)
        return shape

    def reach(self, shape: tuple[int, int, int]) -> Reach:
        """Each to its like."""
        return Reach(*(np.eye(n, dtype=np.int64) for n in shape))

    def as_convolution(self, shape: tuple[int, int, int]) -> Convolution:
        """A diagonal kernel of single pixels."""
        channels = shape[0]

        def weight() -> Array:
            factor = np.broadcast_to(self.weight.reshape(-1), channels).astype(np.float64)
            return np.asarray(np.diag(factor)[:, :, None, None])

        return Convolution(weight, channels, (1, 1))

    def matrix(self, shape: Shape) -> sparse.csr_matrix:
        """The factors on the diagonal."""
        from scipy import sparse

        return sparse.diags(np.broadcast_to(self.weight, shape).reshape(-1), format="csr", dtype=self.weight.dtype)

    def apply(self, weight: Tensor) -> Callable[[Tensor], Tensor]:
        """The map of torch."""
        return lambda x: x * weight

    def sums(self) -> Array:
        """The largest factor of each channel."""
        return np.asarray(self.magnitudes().max(1))

    def scale_input(self, factor: Array, shape: Shape) -> Identity:
        """The same synapses for ``factor * x``; ``factor`` broadcasts to ``shape``."""
        return Identity(self.weight * canonical(factor, shape, "factor"))

    def scale_output(self, factor: Array) -> Identity:
        """``factor`` times the same synapses; ``factor`` broadcasts like the weight."""
        return Identity(self.weight * factor)

    def after(self, first: Operator, shape: Shape, inner: Shape) -> Operator | None:
        """The first one, scaled."""
        if first.passes or not self.uniform:
            return super().after(first, shape, inner)
        return first.scale_output(self.weight)

    def pooled(self, before: SumPool2d | None, pool: SumPool2d) -> tuple[Operator, SumPool2d | None] | None:
        """The pooling itself; behind another one, where windows do not overlap, a wider one."""
        if before is None:
            return self, pool
        if before.kernel != before.stride or not before.padding == pool.padding == (0, 0):
            return None
        kernel = (before.kernel[0] * pool.kernel[0], before.kernel[1] * pool.kernel[1])
        return self, SumPool2d(kernel, (before.stride[0] * pool.stride[0], before.stride[1] * pool.stride[1]))

    def plus(self, other: Operator) -> Operator | None:
        """Another shortcut adds its factors; a convolution takes the shortcut in."""
        if other.passes:
            return Identity(self.weight + other.weight)
        return None if isinstance(other, Identity) else other.plus(self)

    def repeated(self, inputs: int, outputs: int, shape: Shape) -> Operator:
        """A convolution of single pixels with a group for each channel; a matrix without pixels."""
        if not self.uniform:
            raise GraphError("a shortcut whose factor differs from pixel to pixel cannot be copied")
        factor = np.broadcast_to(self.weight.reshape(-1), shape[:1])
        if len(shape) == 1:
            return Dense(np.kron(np.diag(factor), np.ones((outputs, inputs), factor.dtype)))
        weight = factor.repeat(outputs).reshape(-1, 1, 1, 1).repeat(inputs, 1)
        return Conv2d(weight, groups=shape[0])

    def carried(self, bias: Array, shape: Shape) -> Array:
        """The factor times the bias."""
        return np.asarray(self.weight * bias)

    def to_node(self, shape: Shape, bias: Array | None) -> nir.NIRNode:
        """NIR's scale, with a number for each neuron."""
        import nir

        return nir.Scale(np.ascontiguousarray(np.broadcast_to(self.weight, shape)))

    @classmethod
    def from_node(cls, node: nir.NIRNode) -> Identity:
        """The factors of a node."""
        return cls(node.scale)
