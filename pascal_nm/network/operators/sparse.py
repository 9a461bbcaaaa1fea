"""Synapses from any neuron to any other: the operator that every linear map is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pascal_nm.common.arrays import Array, Shape
from pascal_nm.errors import GraphError
from pascal_nm.network.operators.base import (
    Convolution,
    Operator,
    SumPool2d,
    check_synapses,
    register,
    spread,
    whole,
)
from pascal_nm.network.operators.dense import Dense
from pascal_nm.network.reach import Pattern, volume

if TYPE_CHECKING:
    import nir
    from scipy import sparse
    from torch import Tensor

_MOST_DENSE = 1 << 22
"""Numbers of a matrix in a file, with its zeros, that other readers of NIR understand, at most."""

_ROWS = 1 << 12
"""Rows of a product that are computed together, so that one that is too large is refused early."""


@register()
@dataclass(frozen=True, eq=False)
class Sparse(Operator):
    """A synapse from neuron ``sources[i]`` to neuron ``targets[i]``, of ``weight[i]``.

    ``weight`` has shape (n,). Neurons are numbered in the order of flattened populations; synapses
    are in the order of their targets, then of their sources, and no two join the same neurons.

    Attributes:
        targets: int32 (n,).
        sources: int32 (n,).
        shape: of the target population.
        source: of what it takes.

    Raises:
        GraphError: its arrays do not belong together, there is no synapse, or there are more than
            :data:`pascal_nm.network.operators.base.MOST_SYNAPSES`.
    """

    targets: Array
    sources: Array
    shape: Shape
    source: Shape

    name: ClassVar[str] = "sparse"
    shares_weights: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_synapses(np.size(self.targets))
        for field, shape in (("targets", self.shape), ("sources", self.source)):
            object.__setattr__(self, field, numbered(getattr(self, field), shape, f"the {field} of a sparse operator"))
        count = (np.size(self.weight),)
        if not count[0] or not np.shape(self.weight) == self.targets.shape == self.sources.shape == count:
            raise GraphError(
                "a sparse operator has one target and one source for each of its weights, and at least one, not "
                f"{self.targets.shape} and {self.sources.shape} for {np.shape(self.weight)}"
            )
        last = self.targets[:-1], self.sources[:-1]
        ordered = (self.targets[1:] > last[0]) | ((self.targets[1:] == last[0]) & (self.sources[1:] > last[1]))
        if min(self.targets[0], self.sources.min()) < 0 or not ordered.all():
            raise GraphError(
                "the synapses of a sparse operator must be in order of their targets and sources, each once"
            )

    @staticmethod
    def of(matrix: Any, shape: Shape, source: Shape) -> Sparse:
        """The operator of any scipy matrix (targets, sources).

        Its zeros are no synapses; where all are zeros, the first stays as one of weight 0.

        Raises:
            GraphError: it is too large.
        """
        from scipy import sparse

        found = sparse.csr_matrix(matrix, copy=True)
        found.sum_duplicates()
        found.eliminate_zeros()
        if not found.nnz:
            found = sparse.csr_matrix((np.zeros(1, found.dtype), ([0], [0])), found.shape)
        entries = found.tocoo()
        ends = entries.row.astype(np.int32), entries.col.astype(np.int32)
        return Sparse(entries.data, *ends, tuple(shape), tuple(source))

    def __str__(self) -> str:
        return f"{self.name} {'x'.join(map(str, self.shape))}, {self.weight.size} synapses"

    @property
    def all_to_all(self) -> bool:
        """Only some."""
        return False

    @property
    def uniform(self) -> bool:
        """Where a channel has one neuron."""
        return math.prod(self.shape[1:]) == 1

    @property
    def fan_in(self) -> int:
        """The most of a neuron."""
        return int(np.bincount(self.targets).max())

    def output_shape(self, shape: Shape) -> Shape:
        """Its own, where ``shape`` is that of its source."""
        if tuple(shape) != self.source:
            raise GraphError(f"a sparse operator for {self.source} cannot take an input of shape {shape}")
        return self.shape

    def reach(self, shape: tuple[int, int, int]) -> Pattern:
        """Its synapses, also those of weight 0."""
        ones = self._matrix(np.ones(self.weight.shape, np.int64))
        return Pattern(ones, volume(self.shape), volume(self.source))

    def as_convolution(self, shape: tuple[int, int, int]) -> Convolution:
        """A kernel as large as the input, where the target has no pixels."""
        if math.prod(self.shape[1:]) > 1:
            raise GraphError(
                f"synapses of kind {self.name} onto {'x'.join(map(str, self.shape))} neurons are no convolution"
            )
        dense = Dense(np.zeros((self.shape[0], 0), self.weight.dtype))
        whole = dense.as_convolution(shape)
        return whole._replace(weight=lambda: self.matrix().toarray().reshape(self.shape[0], *shape))

    def matrix(self, shape: Shape = ()) -> sparse.csr_matrix:
        """Its synapses."""
        return self._matrix(self.weight)

    def _matrix(self, values: Array) -> sparse.csr_matrix:
        from scipy import sparse

        size = math.prod(self.shape)
        starts = np.searchsorted(self.targets, np.arange(size + 1)).astype(np.int32)
        return sparse.csr_matrix((values, self.sources, starts), (size, math.prod(self.source)))

    def apply(self, weight: Tensor) -> Callable[[Tensor], Tensor]:
        """Scipy's product, which needs no more than numpy's arrays."""
        import torch

        matrix = self._matrix(weight.numpy())

        def product(x: Tensor) -> Tensor:
            found = matrix @ x.detach().flatten(1).numpy().T
            return torch.from_numpy(np.ascontiguousarray(found.T)).reshape(len(x), *self.shape)

        return product

    # -- by channel --------------------------------------------------------------------------------

    def _channels(self) -> Array:
        """The target channel of each synapse."""
        return self.targets // math.prod(self.shape[1:])

    def sums(self) -> Array:
        """Neuron by neuron, then the largest of a channel."""
        found = np.bincount(self.targets, np.abs(self.weight.astype(np.float64)), math.prod(self.shape))
        return np.asarray(found.reshape(self.shape[0], -1).max(1))

    def peaks(self, axes: int) -> Array:
        """Over all synapses onto a channel."""
        found = np.zeros(self.shape[0])
        np.maximum.at(found, self._channels(), np.abs(self.weight.astype(np.float64)))
        return found.reshape(-1, *(1,) * (axes - 1))

    def added(self, values: Array) -> Array:
        """Over all synapses onto a channel."""
        return np.bincount(self._channels(), values, self.shape[0])

    # -- algebra -----------------------------------------------------------------------------------

    def scale_input(self, factor: Array, shape: Shape) -> Sparse:
        """The same synapses for ``factor * x``; ``factor`` broadcasts to ``shape``."""
        return self.with_weight(self.weight * spread(factor, self.source)[self.sources])

    def scale_output(self, factor: Array) -> Sparse:
        """``factor`` times the same synapses; ``factor`` broadcasts to the target's shape."""
        return self.with_weight(self.weight * spread(factor, self.shape)[self.targets])

    def after(self, first: Operator, shape: Shape, inner: Shape) -> Operator | None:
        """The product of the matrices."""
        if first.passes:
            return super().after(first, shape, inner)
        return Sparse.of(product(self.matrix(), first.matrix(inner)), self.shape, inner)

    def then(self, second: Operator, shape: Shape, inner: Shape) -> Operator:
        """Likewise: a matrix with all its zeros behind which there is one."""
        found = product(second.matrix(shape), self.matrix())
        if isinstance(second, Dense):
            return Dense(found.toarray())
        return Sparse.of(found, second.output_shape(shape), inner)

    def pooled(self, before: SumPool2d | None, pool: SumPool2d) -> tuple[Operator, SumPool2d | None]:
        """The product of the matrices."""
        found = product(pool.matrix(self.shape), self.matrix())
        return Sparse.of(found, pool.output_shape(self.shape), self.source), before

    def plus(self, other: Operator) -> Operator | None:
        """The sum of the matrices, of another sparse one or a shortcut."""
        if isinstance(other, Sparse) or other.passes:
            return Sparse.of(self.matrix() + other.matrix(self.source), self.shape, self.source)
        return None

    def repeated(self, inputs: int, outputs: int, shape: Shape) -> Sparse:
        """Every synapse from all copies to all copies."""
        ends = []
        for neurons, (channels, *pixels), copies in (
            (self.targets, self.shape, outputs),
            (self.sources, self.source, inputs),
        ):
            size = math.prod(pixels)
            first = neurons.astype(np.int64) // size * copies * size + neurons % size
            ends.append((first[:, None] + np.arange(copies) * size, (channels * copies, *pixels)))
        (onto, target), (of, source) = ends
        check_synapses(self.weight.size * inputs * outputs)
        onto, of = np.broadcast_arrays(onto[:, :, None], of[:, None, :])
        onto, of, weight = onto.reshape(-1), of.reshape(-1), self.weight.repeat(inputs * outputs)
        order = np.lexsort((of, onto))
        return Sparse(weight[order], onto[order].astype(np.int32), of[order].astype(np.int32), target, source)

    # -- files -------------------------------------------------------------------------------------

    def to_nodes(self, name: str, shape: Shape, bias: Array | None) -> Iterator[tuple[str, nir.NIRNode]]:
        """A node that flattens stands in front of a matrix where the input has an axis more."""
        yield from flattened(self, name, shape)
        yield from super().to_nodes(name, shape, bias)

    def to_node(self, shape: Shape, bias: Array | None) -> nir.NIRNode:
        """NIR's matrix, zeros and all, up to a size; beyond it, its own weights in a row."""
        return matrix_node(self, shape, bias)

    @classmethod
    def from_node(cls, node: nir.NIRNode) -> Sparse:
        """The synapses that the node's metadata name."""
        about = node.metadata
        found = cls(
            np.zeros(np.shape(about["targets"]), node.weight.dtype),
            about["targets"],
            about["sources"],
            whole(about["shape"], (1, 3), "the shape of a sparse operator"),
            whole(about["source"], (1, 3), "the source of a sparse operator"),
        )
        if not is_dense(found, found.source):
            return found.with_weight(node.weight.reshape(-1))
        if node.weight.shape != (math.prod(found.shape), math.prod(found.source)):
            raise GraphError(
                f"a matrix of shape {node.weight.shape} has no synapses from {found.source} to {found.shape}"
            )
        return found.with_weight(node.weight[found.targets, found.sources])


def product(second: sparse.csr_matrix, first: sparse.csr_matrix) -> sparse.csr_matrix:
    """The matrix product, refused before it fills the memory.

    Raises:
        GraphError: it is too large.
    """
    from scipy import sparse

    parts, found = [], 0
    for row in range(0, second.shape[0], _ROWS):
        parts.append(second[row : row + _ROWS] @ first)
        found += parts[-1].nnz
        check_synapses(found)
    return sparse.vstack(parts, "csr")


def numbered(value: Any, shape: Shape, what: str) -> Array:
    """Neurons of a flattened population of ``shape`` by their numbers: int32, and -1 for none.

    Raises:
        GraphError: they are something else.
    """
    found = np.asarray(value)
    if isinstance(value, (str, bytes, dict)) or found.dtype.kind not in "iu":
        raise GraphError(f"{what} must be whole numbers")
    size = math.prod(shape)
    if found.size and not -1 <= int(found.min()) <= int(found.max()) < size:
        raise GraphError(f"{what} must be from 0 to {size - 1:,}, not {int(found.min()):,} to {int(found.max()):,}")
    return np.ascontiguousarray(found, np.int32)


def is_dense(operator: Operator, shape: Shape) -> bool:
    """Whether a file has an operator on an input of ``shape`` as a matrix with its zeros."""
    target = operator.output_shape(shape)
    return len(target) == 1 and target[0] * math.prod(shape) <= _MOST_DENSE


def flattened(operator: Operator, name: str, shape: Shape) -> Iterator[tuple[str, nir.NIRNode]]:
    """The node in front of a matrix, where an input of ``shape`` needs it."""
    import nir

    if len(shape) == 3 and is_dense(operator, shape):
        yield f"{name}_flatten", nir.Flatten({"input": np.array(shape)}, 0, -1)


def matrix_node(operator: Operator, shape: Shape, bias: Array | None) -> nir.NIRNode:
    """A matrix that every reader knows, or an operator's weights in a row, which fit nothing."""
    import nir

    if not is_dense(operator, shape):
        return nir.Linear(operator.weight.reshape(1, -1))
    weight = operator.matrix(shape).toarray()
    return nir.Linear(weight) if bias is None else nir.Affine(weight, bias)
