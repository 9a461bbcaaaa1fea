"""Synapses that move values: each target neuron hears one source neuron, or none."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pascal_nm.common.arrays import Array, Shape, canonical
from pascal_nm.errors import GraphError
from pascal_nm.network.operators.base import (
    Convolution,
    Operator,
    SumPool2d,
    register,
    spread,
    whole,
)
from pascal_nm.network.operators.conv2d import Conv2d
from pascal_nm.network.operators.conv_transpose2d import ConvTranspose2d
from pascal_nm.network.operators.dense import Dense
from pascal_nm.network.operators.filters import Filters
from pascal_nm.network.operators.identity import Identity
from pascal_nm.network.operators.sparse import Sparse, flattened, matrix_node, numbered
from pascal_nm.network.reach import Connections, Pattern, Reach, volume

if TYPE_CHECKING:
    import nir
    from scipy import sparse
    from torch import Tensor


@register()
@dataclass(frozen=True, eq=False)
class IndexMap(Operator):
    """One synapse from neuron ``index[j]`` of the source to neuron j, times a factor.

    That is concatenation, slices, shuffled channels, permuted axes, nearest neighbours, padding.
    ``weight`` broadcasts to the target's shape.

    Attributes:
        index: int32 of the target's shape (C, H, W) or (N,): numbers of neurons of the flattened
            source; -1 where nothing arrives, and a weight of such neurons alone is 0.
        source: shape of what it takes.

    Raises:
        GraphError: an index is no neuron of the source, or the weight does not broadcast.
    """

    index: Array
    source: Shape

    name: ClassVar[str] = "index_map"
    multiplies: ClassVar[bool] = False
    moves: ClassVar[bool] = True
    shares_weights: ClassVar[bool] = False

    def __post_init__(self) -> None:
        index = numbered(self.index, self.source, "the index of an index map")
        if index.ndim not in (1, 3) or not index.size:
            raise GraphError(f"the index of an index map has the shape of its target, 1 or 3 axes, not {index.shape}")
        object.__setattr__(self, "index", index)
        object.__setattr__(self, "source", tuple(self.source))
        weight = canonical(self.weight, index.shape, "index map weight")
        one = tuple(axis for axis, n in enumerate(weight.shape) if n == 1)
        heard = (index >= 0).any(one, keepdims=True)
        weight = np.where(heard, weight, weight.dtype.type(0))
        object.__setattr__(self, "weight", canonical(weight, index.shape, "index map weight"))

    def __str__(self) -> str:
        return f"{self.name} {'x'.join(map(str, self.index.shape))}"

    # -- geometry ----------------------------------------------------------------------------------

    @property
    def fan_in(self) -> int:
        """One synapse."""
        return 1

    @property
    def all_to_all(self) -> bool:
        """One for each."""
        return False

    @property
    def uniform(self) -> bool:
        """Whether the factor is the same at all pixels of a channel."""
        return math.prod(self.weight.shape[1:]) == 1

    @property
    def axes(self) -> tuple[Array, Array, Array] | None:
        """The source's channel, row and column for each of the target's, -1 for none.

        None where they depend on each other.
        """
        target, source = volume(self.index.shape), volume(self.source)
        index = self.index.reshape(target)
        there = index >= 0
        places = np.unravel_index(np.where(there, index, 0), source)
        others = ((1, 2), (0, 2), (0, 1))
        axes = [np.where(there, place, -1).max(other) for place, other in zip(places, others, strict=True)]
        channels, rows, columns = axes
        grid = np.ix_(*axes)
        inside = (grid[0] >= 0) & (grid[1] >= 0) & (grid[2] >= 0)
        same = np.where(inside, (grid[0] * source[1] + grid[1]) * source[2] + grid[2], -1)
        return (channels, rows, columns) if np.array_equal(same, index) else None

    @property
    def channels(self) -> Array | None:
        """The source's channel for each of the target's, -1 for none: int (C,).

        None where it does more than move whole channels, pixel by pixel.
        """
        target, source = volume(self.index.shape), volume(self.source)
        if target[1:] != source[1:]:
            return None
        index = self.index.reshape(target[0], -1)
        pixels = index.shape[1]
        first = np.where(index[:, :1] < 0, -1, index[:, :1] // pixels)
        whole = np.where(first < 0, -1, first * pixels + np.arange(pixels))
        return first[:, 0] if np.array_equal(whole, index) else None

    def heard(self, shape: Shape) -> Array:
        """Where its index says so."""
        return self.index >= 0

    def output_shape(self, shape: Shape) -> Shape:
        """That of its index, where ``shape`` is that of its source."""
        if tuple(shape) != self.source:
            raise GraphError(f"an index map for {self.source} cannot take an input of shape {shape}")
        return self.index.shape

    def reach(self, shape: tuple[int, int, int]) -> Connections:
        """Axis by axis where they are moved independently."""
        if (axes := self.axes) is None:
            ones = self._matrix(np.ones(self.index.size, np.int64))
            return Pattern(ones, volume(self.index.shape), volume(self.source))
        sizes = volume(self.source)
        return Reach(*((axis[:, None] == np.arange(n)).astype(np.int64) for axis, n in zip(axes, sizes, strict=True)))

    def as_convolution(self, shape: tuple[int, int, int]) -> Convolution:
        """Single weights, where rows and columns are taken at equal steps."""
        axes, form = self.axes, None
        if axes is not None and self.uniform:
            form = [_window(axis, n) for axis, n in zip(axes[1:], shape[1:], strict=True)]
        if axes is None or form is None or None in form:
            raise GraphError(f"synapses of kind {self.name} that move pixels in this way are no convolution")
        kernel, stride, padding, place = zip(*form, strict=True)

        def weight() -> Array:
            factor = np.broadcast_to(self.weight.reshape(-1), len(axes[0]))
            found = np.zeros((len(axes[0]), shape[0], *kernel), self.weight.dtype)
            (there,) = np.nonzero(axes[0] >= 0)
            found[there, axes[0][there], place[0], place[1]] = factor[there]
            return found

        return Convolution(weight, len(axes[0]), kernel, stride, padding)

    def matrix(self, shape: Shape) -> sparse.csr_matrix:
        """A number in each row, or none."""
        return self._matrix(np.broadcast_to(self.weight, self.index.shape).reshape(-1))

    def _matrix(self, values: Array) -> sparse.csr_matrix:
        from scipy import sparse

        index = self.index.reshape(-1)
        (there,) = np.nonzero(index >= 0)
        return sparse.csr_matrix((values[there], (there, index[there])), (index.size, math.prod(self.source)))

    # -- what it computes --------------------------------------------------------------------------

    def apply(self, weight: Tensor) -> Callable[[Tensor], Tensor]:
        """The map of torch."""
        import torch

        index = torch.from_numpy(self.index.reshape(-1).astype(np.int64))
        factor = weight if index.min() >= 0 else weight * torch.from_numpy(self.index >= 0)
        index = index.clamp(min=0)
        return lambda x: x.flatten(1).index_select(1, index).view(len(x), *self.index.shape) * factor

    def sums(self) -> Array:
        """The largest factor of each channel."""
        return np.asarray(self.magnitudes().max(1))

    def magnitudes(self) -> Array:
        """Neuron by neuron, 0 where nothing arrives."""
        return self._heard(np.abs(self.weight.astype(np.float64)))

    def added(self, values: Array) -> Array:
        """Over all synapses onto a channel."""
        return np.asarray(self._heard(values).sum(1))

    def _heard(self, values: Array) -> Array:
        return np.where(self.index < 0, 0, values).reshape(len(self.index), -1)

    # -- algebra -----------------------------------------------------------------------------------

    def scale_input(self, factor: Array, shape: Shape) -> IndexMap:
        """The same synapses for ``factor * x``; ``factor`` broadcasts to ``shape``."""
        if np.size(factor) == 1:
            return self.with_weight(self.weight * np.asarray(factor).reshape(-1)[0])
        return self.with_weight(self.weight * self._moved(spread(factor, self.source)))

    def _moved(self, values: Array) -> Array:
        """A number for each neuron of the source, of the target's shape.

        Where nothing arrives it does not matter: there it is that of a neighbour in the channel, so
        that channels stay uniform.
        """
        index = self.index.reshape(len(self.index), -1)
        first = np.take_along_axis(index, (index >= 0).argmax(1)[:, None], 1)
        index = np.where(index >= 0, index, np.where(first >= 0, first, index.max()))
        return np.asarray(values[index].reshape(self.index.shape))

    def scale_output(self, factor: Array) -> IndexMap:
        """``factor`` times the same synapses; ``factor`` broadcasts like the weight."""
        return self.with_weight(self.weight * canonical(factor, self.index.shape, "factor"))

    def after(self, first: Operator, shape: Shape, inner: Shape) -> Operator | None:
        """Moved rows of a matrix, moved filters of a convolution, or an index of an index."""
        if isinstance(first, IndexMap):
            index = np.where(self.index < 0, -1, first.index.reshape(-1)[self.index])
            return IndexMap(self.scale_input(first.weight, shape).weight, index, first.source)
        if isinstance(first, Dense) and self.index.ndim == 3:
            return Sparse.of(self.matrix(shape) @ first.matrix(inner), self.index.shape, inner)
        if isinstance(first, Dense):
            factor = np.where(self.index < 0, 0, np.broadcast_to(self.weight, self.index.shape))
            return Dense(first.weight[self.index] * factor[:, None].astype(self.weight.dtype))
        channels = self.channels
        if isinstance(first, Filters) and channels is not None and self.uniform and self.index.ndim == 3:
            return first.rows(channels, self._factors())
        return super().after(first, shape, inner)

    def then(self, second: Operator, shape: Shape, inner: Shape) -> Operator | None:
        """Weights of what follows, added up where they come from."""
        if isinstance(second, Dense):
            return Dense((self.matrix(inner).T @ second.weight.T).T)
        if not (isinstance(second, Filters) and self.uniform and len(inner) == 3):
            return None
        if (channels := self.channels) is not None:
            return second.columns(channels, self._factors(), inner[0])
        if (axes := self.axes) is None or not isinstance(second, Conv2d):
            return None
        second = second.columns(axes[0], self._factors(), inner[0])
        top, left = (_border(places, n) for places, n in zip(axes[1:], inner[1:], strict=True))
        if top is not None and left is not None:
            return second.widened((top, left), inner[1:])
        rows, columns = (_copies(places, n) for places, n in zip(axes[1:], inner[1:], strict=True))
        return ConvTranspose2d.behind_copies(second, (rows, columns)) if rows and columns else None

    def _factors(self) -> Array:
        """One for each channel, of those that do not differ within one."""
        return np.broadcast_to(self.weight.reshape(-1), self.index.shape[:1])

    def pooled(self, before: SumPool2d | None, pool: SumPool2d) -> tuple[Operator, SumPool2d | None]:
        """The same channels of pooled ones; the product of the matrices for other maps."""
        channels, found = self.channels, Identity(np.ones((1, 1, 1))).pooled(before, pool)
        if channels is None or not self.uniform or found is None:
            return Sparse.of(self.matrix(self.source), self.index.shape, self.source).pooled(before, pool)
        return channel_map(channels, self.weight, pool.output_shape(self.source)), found[1]

    def plus(self, other: Operator) -> Operator | None:
        """Another map of the same neurons adds its factors; so does a shortcut to one."""
        if isinstance(other, IndexMap) and other.source == self.source and np.array_equal(other.index, self.index):
            return self.with_weight(self.weight + other.weight)
        size = math.prod(self.source)
        if other.passes and self.index.shape == self.source and np.array_equal(self.index.reshape(-1), range(size)):
            return Identity(self.weight + other.weight)
        return other.plus(self) if isinstance(other, Sparse) else None

    def repeated(self, inputs: int, outputs: int, shape: Shape) -> Operator:
        """A sparse matrix: a copy hears many copies."""
        return Sparse.of(self.matrix(shape), self.index.shape, self.source).repeated(inputs, outputs, shape)

    # -- files -------------------------------------------------------------------------------------

    def to_nodes(self, name: str, shape: Shape, bias: Array | None) -> Iterator[tuple[str, nir.NIRNode]]:
        """A node that flattens stands in front of a matrix where the input has an axis more."""
        yield from flattened(self, name, shape)
        yield from super().to_nodes(name, shape, bias)

    def to_node(self, shape: Shape, bias: Array | None) -> nir.NIRNode:
        """A convolution, where it is one; else as a sparse matrix."""
        try:
            form = self.as_convolution(volume(shape)) if len(shape) == self.index.ndim == 3 else None
        except GraphError:
            form = None
        if form is not None and form.outputs * shape[0] * math.prod(form.kernel) <= _MOST_WEIGHTS:
            return Conv2d(form.weight(), form.stride, form.padding, form.dilation).to_node(shape, bias)
        return matrix_node(self, shape, bias)

    def metadata(self) -> dict[str, Any]:
        """With the factors, which a matrix or a kernel has too, but not in their shape."""
        return {**super().metadata(), "factor": self.weight}

    @classmethod
    def from_node(cls, node: nir.NIRNode) -> IndexMap:
        """The map that the node's metadata name."""
        about = node.metadata
        found = cls(about["factor"], about["index"], whole(about["source"], (1, 3), "the source of an index map"))
        if not np.array_equal(found.weight, about["factor"]):
            raise GraphError("the factors of an index map include some of neurons that hear nothing")
        return found


_MOST_WEIGHTS = 1 << 22
"""Weights of a convolution of single weights in a file, at most."""


def channel_map(channels: Array, weight: Array, source: Shape) -> IndexMap:
    """The map that takes whole channels (-1: none) of a source of shape ``source``."""
    pixels = math.prod(source[1:])
    index = np.where(channels < 0, -1, channels * pixels)[:, None] + np.where(channels < 0, 0, 1)[:, None] * np.arange(
        pixels
    )
    return IndexMap(weight, index.reshape(-1, *source[1:]), source)


def _border(places: Array, size: int) -> tuple[int, int] | None:
    """Zeros before and behind all places of an axis, where a map adds nothing else."""
    before = int((places >= 0).argmax())
    behind = len(places) - size - before
    around = np.pad(np.arange(size), (before, max(0, behind)), constant_values=-1)
    return (before, behind) if behind >= 0 and np.array_equal(places, around) else None


def _copies(places: Array, size: int) -> int:
    """How often in a row each place of an axis comes; 0 where it is something else."""
    copies = len(places) // size
    return copies if np.array_equal(places, np.arange(size).repeat(copies)) else 0


def _window(places: Array, size: int) -> tuple[int, int, int, int] | None:
    """Kernel, stride, padding and the place of the weight that take these places of an axis.

    None where no window does: they are not at equal steps, or some within the axis are left out.
    """
    (there,) = np.nonzero(places >= 0)
    if not len(there):
        return None
    first, last = there[0], there[-1]
    stride = int(places[last] - places[first]) // int(last - first) if last > first else max(1, size)
    offset = int(places[first]) - int(first) * stride
    if stride < 1 or not np.array_equal(places, _inside(offset + stride * np.arange(len(places)), size)):
        return None
    end = stride * (len(places) - 1)
    padding = max(0, -offset, end + offset - size + 1)
    place = offset + padding
    kernel = max(place + 1, size + 2 * padding - end - stride + 1)
    return kernel, stride, padding, place


def _inside(places: Array, size: int) -> Array:
    return np.where((places >= 0) & (places < size), places, -1)
