"""All-to-all synapses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pascal_nm.common.arrays import Array, Shape
from pascal_nm.errors import GraphError
from pascal_nm.network.operators.base import Convolution, Operator, check_synapses, register
from pascal_nm.network.reach import Reach

if TYPE_CHECKING:
    import nir
    from scipy import sparse
    from torch import Tensor


@register("Linear", "Affine")
@dataclass(frozen=True, eq=False)
class Dense(Operator):
    """All-to-all synapses from the flattened source; ``weight`` has shape (N_out, N_in)."""

    name: ClassVar[str] = "dense"
    shares_weights: ClassVar[bool] = False

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of the target: (N_out,)."""
        if self.weight.ndim != 2 or math.prod(shape) != self.weight.shape[1]:
            raise GraphError(f"a dense weight of shape {self.weight.shape} cannot take an input of shape {shape}")
        return (int(self.weight.shape[0]),)

    def reach(self, shape: tuple[int, int, int]) -> Reach:
        """Every synapse."""
        ones = np.broadcast_to(np.int64(1), (len(self.weight), shape[0]))  # all the same number in memory
        return Reach(ones, np.ones((1, shape[1]), np.int64), np.ones((1, shape[2]), np.int64))

    def as_convolution(self, shape: tuple[int, int, int]) -> Convolution:
        """A kernel as large as the input."""
        whole = (shape[1], shape[2])
        return Convolution(lambda: self.weight.reshape(len(self.weight), *shape), len(self.weight), whole, whole)

    def matrix(self, shape: Shape) -> sparse.csr_matrix:
        """The weights but for zeros."""
        from scipy import sparse

        check_synapses(int(np.count_nonzero(self.weight)))
        return sparse.csr_matrix(self.weight)

    def apply(self, weight: Tensor) -> Callable[[Tensor], Tensor]:
        """The map of torch."""
        from torch.nn import functional as F

        return lambda x: F.linear(x.flatten(1), weight)

    def scale_input(self, factor: Array, shape: Shape) -> Dense:
        """The same synapses for ``factor * x``; ``factor`` broadcasts to the input's ``shape``."""
        return Dense(self.weight * np.broadcast_to(factor, shape).reshape(1, -1))

    def scale_output(self, factor: Array) -> Dense:
        """``factor`` times the same synapses; ``factor`` has one number per output."""
        return Dense(self.weight * factor.reshape(-1, 1))

    def after(self, first: Operator, shape: Shape, inner: Shape) -> Operator | None:
        """The product of the matrices; that of another operator is its adjoint, row by row."""
        found = super().after(first, shape, inner)
        if found is not None:
            return found
        if isinstance(first, Dense):
            return Dense(self.weight @ first.weight)
        import torch

        x = torch.zeros((len(self.weight), *inner), dtype=torch.float64, requires_grad=True)
        y = first.apply(torch.from_numpy(first.weight))(x)
        (adjoint,) = torch.autograd.grad(y, x, torch.from_numpy(self.weight).reshape(len(self.weight), *shape))
        return Dense(np.asarray(adjoint.reshape(len(self.weight), -1).numpy()))

    def repeated(self, inputs: int, outputs: int, shape: Shape) -> Dense:
        """A larger matrix; copies stand between the channels and the pixels of an input."""
        by_channel = self.weight.repeat(outputs, 0).reshape(-1, shape[0], math.prod(shape[1:]))
        return Dense(by_channel.repeat(inputs, 1).reshape(len(by_channel), -1))

    def carried(self, bias: Array, shape: Shape) -> Array:
        """The matrix times the bias, (N_out,)."""
        return np.asarray(self.weight @ np.broadcast_to(bias, shape).reshape(-1))

    def to_nodes(self, name: str, shape: Shape, bias: Array | None) -> Iterator[tuple[str, nir.NIRNode]]:
        """A node that flattens stands in front where the input has an axis more."""
        import nir

        if len(shape) == 3:
            yield f"{name}_flatten", nir.Flatten({"input": np.array(shape)}, 0, -1)
        yield from super().to_nodes(name, shape, bias)

    def to_node(self, shape: Shape, bias: Array | None) -> nir.NIRNode:
        """NIR's matrix, with or without a bias."""
        import nir

        return nir.Linear(self.weight) if bias is None else nir.Affine(self.weight, bias)

    @classmethod
    def from_node(cls, node: nir.NIRNode) -> Dense:
        """The matrix of a node."""
        return cls(node.weight)
