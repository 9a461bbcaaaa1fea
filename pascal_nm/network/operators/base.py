"""What an operator is, and the register of those that there are."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

import numpy as np

from pascal_nm.common.arrays import Array, Pair, Shape, canonical
from pascal_nm.errors import GraphError
from pascal_nm.network.reach import Connections, Places, Reach, kron, volume

if TYPE_CHECKING:
    import nir
    from scipy import sparse
    from torch import Tensor

Self = TypeVar("Self", bound="Operator")

MOST_SYNAPSES = 1 << 26
"""Synapses of a sparse matrix at most: with their ends they take some 800 MB."""

_PROBES = 256
"""Neurons that are asked together what they reach."""


@dataclass(frozen=True, eq=False)
class SumPool2d:
    """Sum over windows of ``kernel`` at every ``stride``, with ``padding`` zeros on each side.

    Each is (height, width). With ``ceil``, a last window may hang over the border by less than its
    own size, as torch's ``ceil_mode`` has it; it begins inside.

    In front of a ``max`` population the same window is an OR:
    :mod:`pascal_nm.network.dynamics`.
    """

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    ceil: bool = False

    @property
    def size(self) -> int:
        """Values of a window."""
        return math.prod(self.kernel)

    def output_shape(self, shape: Shape) -> Shape:
        """Shape after pooling an input of ``shape`` (C, H, W)."""
        counts = window_counts(shape[1:], self.kernel, self.stride, self.padding, (1, 1))
        if self.ceil:
            sides = zip(shape[1:], counts, self.kernel, self.stride, self.padding, strict=True)
            counts = tuple(n + (n * s < size + p and (n - 1) * s + k < size + 2 * p) for size, n, k, s, p in sides)
        return (shape[0], *counts)

    def reach(self, shape: Shape) -> Reach:
        """Which input goes into which window."""
        channels, *sides = volume(shape)
        pooled = volume(self.output_shape(shape))
        rows, columns = (
            Places.of(pooled[i + 1], sides[i], self.kernel[i], self.stride[i], self.padding[i], 1).matrix(
                pooled[i + 1], sides[i]
            )
            for i in (0, 1)
        )
        return Reach(np.eye(channels, dtype=np.int64), rows, columns)

    def matrix(self, shape: Shape) -> sparse.csr_matrix:
        """What it does with a flattened input of ``shape``: int64 CSR (targets, sources)."""
        return kron(self.reach(shape))


class Convolution(NamedTuple):
    """A convolution without groups that computes what an operator does.

    Attributes:
        weight: makes its weights, (outputs, C, *kernel).
        outputs: channels.
        kernel: (height, width), as all that follow.
        stride: from one window to the next.
        padding: zeros on each side.
        dilation: from one weight to the next.
    """

    weight: Callable[[], Array]
    outputs: int
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)


@dataclass(frozen=True, eq=False)
class Operator(ABC):
    """Synapses from one population to another: a linear map that knows its own facts.

    ``weight`` holds one number for each synapse, or for each set of synapses that share it; its
    first axis is the target's channels (of length 1 where all have the same numbers). A further
    operator is a subclass with a name of its own, registered by :func:`register`
    (docs/extend.md shows one).
    """

    weight: Array

    name: ClassVar[str]
    """In files and in words."""
    multiplies: ClassVar[bool] = True
    """Whether the source network multiplies in it; a shortcut only adds."""
    shares_weights: ClassVar[bool] = True
    """Whether all positions of a channel have the same weights.

    Without, :meth:`scale_input` takes a factor for each neuron."""
    passes: ClassVar[bool] = False
    """Whether each neuron reaches its like alone, so that its value passes on times a factor."""
    moves: ClassVar[bool] = False
    """Whether each neuron has one synapse at most, so that values are moved, times a factor."""
    takes_bias: ClassVar[bool] = True
    """Whether its NIR node adds a bias."""

    # -- geometry ----------------------------------------------------------------------------------

    @abstractmethod
    def output_shape(self, shape: Shape) -> Shape:
        """Shape of the target that an input of ``shape`` projects to.

        Raises:
            GraphError: it takes no such input.
        """

    @abstractmethod
    def reach(self, shape: tuple[int, int, int]) -> Connections:
        """The synapses from an input of ``shape``: axis by axis, or neuron by neuron."""

    @property
    def fan_in(self) -> int:
        """Synapses of a target neuron, at most."""
        return int(self.weight[0].size)

    @property
    def all_to_all(self) -> bool:
        """Whether every source neuron has a synapse of its own onto every target neuron.

        A chip then keeps a list of synapses for each source; else it keeps weights once for all
        positions, and an axon for many sources, where all is given axis by axis.
        """
        return not self.shares_weights

    @property
    def listed(self) -> bool:
        """Whether each synapse is held by itself, with a weight of its own."""
        return bool(self.arrays()) and not self.moves

    @property
    def channels(self) -> Array | None:
        """The source's channel for each of the target's, -1 for none: int (C,).

        None where it does not move whole channels, pixel by pixel, or moves each to its like.
        """
        return None

    def heard(self, shape: Shape) -> Array:
        """Which neurons of a target of ``shape`` have a synapse, where values are moved: bool."""
        return np.ones(shape, bool)

    @property
    def phases(self) -> int:
        """How many sets of weights the neurons of a channel have, at most, where they share any."""
        return 1

    @property
    def uniform(self) -> bool:
        """Whether all neurons of a channel have the same weights."""
        return True

    def parameters(self) -> dict[str, Any]:
        """All that it is besides its weights, by the names that its class takes."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "weight"}

    def arrays(self) -> dict[str, Array]:
        """Those of its parameters that are arrays: of whole numbers, int32."""
        return {key: value for key, value in self.parameters().items() if isinstance(value, np.ndarray)}

    def __str__(self) -> str:
        """In words: ``conv2d 16x3x3x3``."""
        return f"{self.name} {'x'.join(map(str, self.weight.shape))}"

    @abstractmethod
    def as_convolution(self, shape: tuple[int, int, int]) -> Convolution:
        """The convolution that computes the same for an input of ``shape``.

        Raises:
            GraphError: there is none.
        """

    def matrix(self, shape: Shape) -> sparse.csr_matrix:
        """The map of a flattened input of ``shape``: CSR (targets, sources), in the weights' type.

        An operator that does not say it itself is asked by one source neuron after the other.

        Raises:
            GraphError: there are more than :data:`MOST_SYNAPSES`.
        """
        import torch
        from scipy import sparse

        size = math.prod(shape)
        apply = self.apply(torch.from_numpy(self.weight.astype(np.float64)))
        rows, found = [], 0
        for first in range(0, size, _PROBES):
            units = torch.eye(min(_PROBES, size - first), size, dtype=torch.float64).roll(first, 1)
            rows.append(sparse.csr_matrix(apply(units.reshape(-1, *shape)).flatten(1).numpy()))
            found += rows[-1].nnz
            check_synapses(found)
        return sparse.vstack(rows).T.tocsr().astype(self.weight.dtype)

    # -- what it computes --------------------------------------------------------------------------

    @abstractmethod
    def apply(self, weight: Tensor) -> Callable[[Tensor], Tensor]:
        """The map x (B, *source shape) -> (B, *target shape), in the type of ``weight``.

        ``weight`` is :attr:`weight` as a tensor.
        """

    def sums(self) -> Array:
        """The largest sum of the magnitudes of a neuron's weights, by channel: float64 (C,)."""
        return np.asarray(self.magnitudes().sum(1))

    def peaks(self, axes: int) -> Array:
        """The largest magnitude of the weights by channel: (C, 1, ...) with so many ``axes``."""
        return np.asarray(self.magnitudes().max(1).reshape(-1, *(1,) * (axes - 1)))

    def magnitudes(self) -> Array:
        """Magnitudes of the weights by channel, float64 (C, n)."""
        return np.abs(self.weight.reshape(len(self.weight), -1).astype(np.float64))

    def added(self, values: Array) -> Array:
        """Numbers of the weights' shape, added up over those of each channel: (C,)."""
        return np.asarray(values.reshape(len(values), -1).sum(1))

    # -- algebra -----------------------------------------------------------------------------------

    def with_weight(self: Self, weight: Array) -> Self:
        """The same synapses with other weights."""
        return replace(self, weight=weight)

    @abstractmethod
    def scale_input(self: Self, factor: Array, shape: Shape) -> Self:
        """The same synapses for ``factor * x``.

        ``factor`` has one number for each channel of an input of ``shape``, or broadcasts to it
        where the weights are not shared.
        """

    @abstractmethod
    def scale_output(self: Self, factor: Array) -> Self:
        """``factor`` times the same synapses; ``factor`` has one number for each channel."""

    def after(self, first: Operator, shape: Shape, inner: Shape) -> Operator | None:
        """The operator that is ``first``, and then this one; None where there is no such one.

        Args:
            first: maps an input of shape ``inner`` to one of ``shape``.
            shape: what this one takes.
            inner: what the first one takes.
        """
        return first.then(self, shape, inner)

    def then(self, second: Operator, shape: Shape, inner: Shape) -> Operator | None:
        """As :meth:`after` of ``second``, where that one knows no better; None likewise."""
        return second.scale_input(self.weight, shape) if self.passes else None

    def pooled(self, before: SumPool2d | None, pool: SumPool2d) -> tuple[Operator, SumPool2d | None] | None:
        """This operator behind a pooling ``before``, and then ``pool``.

        Gives an operator and the pooling in front of it; None where there is no such pair.
        """
        return None

    def plus(self: Self, other: Operator) -> Operator | None:
        """The sum of two maps of one input; None where they have not the same geometry."""
        same = type(other) is type(self) and all(
            np.array_equal(value, getattr(other, key)) for key, value in self.parameters().items()
        )
        if not same or other.weight.shape[2:] != self.weight.shape[2:]:
            return None
        return self.with_weight(self.weight + other.weight)

    def repeated(self, inputs: int, outputs: int, shape: Shape) -> Operator:
        """The same synapses for copies of the neurons, which stand as neighbouring channels.

        Each copy of a target neuron gets what all copies of its sources add up to.

        Args:
            inputs: copies of each source neuron.
            outputs: copies of each target neuron.
            shape: what this one takes, without copies.

        Raises:
            GraphError: there is no such operator.
        """
        raise GraphError(f"neurons with synapses of kind {self.name} cannot be copied")

    def carried(self, bias: Array, shape: Shape) -> Array:
        """What a constant ``bias`` of an input of ``shape`` becomes, (C, 1, ...).

        It broadcasts to the input, which is not padded where it is not zero.
        """
        import torch

        full = torch.from_numpy(np.broadcast_to(bias, shape).astype(np.float64))
        return np.asarray(self.apply(torch.from_numpy(self.weight.astype(np.float64)))(full[None])[0].numpy())

    # -- files -------------------------------------------------------------------------------------

    @abstractmethod
    def to_node(self, shape: Shape, bias: Array | None) -> nir.NIRNode:
        """Its NIR node for an input of ``shape``, with a bias (C,) in each timestep."""

    def to_nodes(self, name: str, shape: Shape, bias: Array | None) -> Iterator[tuple[str, nir.NIRNode]]:
        """All nodes that it takes, in order, by name; the last is called ``name``."""
        node = self.to_node(shape, bias)
        if _NODES.get(type(node).__name__) is not type(self):
            node.metadata = self.metadata()
        yield name, node

    def metadata(self) -> dict[str, Any]:
        """What a node says of it that is not a node of its own kind."""
        return {"operator": self.name, **self.parameters()}

    @classmethod
    @abstractmethod
    def from_node(cls: type[Self], node: nir.NIRNode) -> Self:
        """The operator of a node that :meth:`to_node` gave.

        Raises:
            PascalError: a field of the node is not what it must be.
        """


OPERATORS: dict[str, type[Operator]] = {}
"""All operators by name."""

_NODES: dict[str, type[Operator]] = {}
"""What a NIR node without a word of ours computes."""


def register(*nodes: str) -> Callable[[type[Self]], type[Self]]:
    """A class decorator: networks and files may have the operator.

    Args:
        *nodes: kinds of NIR nodes that are this operator, whoever wrote them. Without one, our
            files say in the node's metadata what it is.
    """

    def add(cls: type[Self]) -> type[Self]:
        OPERATORS[cls.name] = cls
        for node in nodes:
            _NODES[node] = cls
        return cls

    return add


def of_node(node: nir.NIRNode) -> Operator:
    """The operator that a NIR node computes.

    Raises:
        GraphError: none that is known.
    """
    kind = type(node).__name__
    name = node.metadata.get("operator")
    known = OPERATORS.get(name) if isinstance(name, str) else None if name is not None else _NODES.get(kind)
    if known is None:
        raise GraphError(f"a projection cannot be a {kind if name is None else str(name)[:40]!r}")
    return known.from_node(node)


def check_synapses(number: int) -> None:
    """Refuse a matrix that memory has no room for.

    Raises:
        GraphError: says the number and the limit.
    """
    if number > MOST_SYNAPSES:
        raise GraphError(
            f"as a sparse matrix it has {number:,} synapses, and at most {MOST_SYNAPSES:,} are taken: "
            "use fewer neurons, or put an activation in between"
        )


def spread(factor: Array, shape: Shape) -> Array:
    """A number for each neuron of ``shape``, flat.

    ``factor`` has one for each channel, or broadcasts.
    """
    factor = np.asarray(factor)
    factor = factor.reshape(-1, *(1,) * (len(shape) - 1)) if factor.ndim == 1 else factor
    return np.broadcast_to(canonical(factor, shape, "factor"), shape).reshape(-1)


def whole(value: Any, sizes: Shape, what: str) -> Shape:
    """As many whole numbers as one of ``sizes``, of a node's metadata.

    Raises:
        GraphError: it is something else.
    """
    found = np.asarray(value)
    if isinstance(value, (str, bytes, dict)) or found.dtype.kind not in "iu" or found.size not in sizes:
        raise GraphError(f"{what} must be {' or '.join(map(str, sizes))} whole number(s)")
    return tuple(int(n) for n in found.reshape(-1))


def window_counts(size: Shape, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Shape:
    """How many windows fit along each axis.

    Raises:
        GraphError: none fits.
    """
    result = tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    )
    if min(result) < 1:
        raise GraphError(f"a window of {kernel} with padding {padding} does not fit into an input of {size}")
    return result


def pair(value: Any) -> Pair:
    """Two whole numbers of a NIR node's field, or one for both."""
    first, second = np.broadcast_to(np.asarray(value), 2)
    return (int(first), int(second))
