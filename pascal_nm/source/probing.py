"""What an operation of torch does to numbers, found by running it.

The operations that a network may hold are too many to be listed, and what lies between two
activations is affine, so that a few runs say what an operation is: where it moves each number, or
which matrix and bias it is. They are run on numbers of either sign and of all magnitudes, since
what clips, rounds or shrinks is affine for some of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves

from pascal_nm.common.arrays import Array, Shape

_MOST_PROBED = 1 << 31
"""Numbers that the search for a matrix may compute: one output for each input that is 1 alone."""

_CHUNK = 1 << 23
"""Numbers of these at once."""

_SMALL = 1e-9
"""Share of the largest output by which sums of outputs may differ from outputs of sums."""

_FACTORS = (-(2.0**-40), -(2.0**40), 2.0**100)
"""By which numbers are multiplied that an operation has to multiply, too."""


class Moved(NamedTuple):
    """Where the numbers of one image go.

    Attributes:
        places: of each number of the result, its place among all operands' numbers side by side; -1
            where it is a constant.
        constant: the constants; 0 elsewhere.
    """

    places: Array
    constant: Array


class Affine(NamedTuple):
    """The matrices of an operation, one for each operand, and what it gives without them."""

    matrices: tuple[sparse.csr_matrix, ...]
    constant: Array


class NotAffineError(Exception):
    """The operation is no affine map of its operands; the message says what it is instead."""


class Operation:
    """A node of a traced network that can be run on numbers of ours.

    Args:
        node: the node.
        operands: names of the nodes that stand for values, with the shape of one image of each.
        constants: gives any other argument, by its node and for a number of images.
        batch: the traced number of images.
        axes: which axis of each operand numbers the images.
        result_axes: likewise of each result.
    """

    def __init__(
        self,
        node: fx.Node,
        operands: Mapping[str, Shape],
        constants: Callable[[fx.Node, int], Any],
        batch: int | torch.SymInt,
        axes: Sequence[int],
        result_axes: Sequence[int],
    ) -> None:
        self.node, self.operands, self._constants, self._batch = node, dict(operands), constants, batch
        self._axes, self._result_axes = axes, result_axes
        self.sizes = [math.prod(shape) for shape in self.operands.values()]

    def images(self, wanted: int) -> int:
        """A number of images near ``wanted`` with which it can be run."""
        return self._batch if isinstance(self._batch, int) else wanted

    def __call__(self, given: Sequence[Tensor]) -> list[Tensor]:
        """Its results, (images, …) each, for operands (images, *shape)."""
        images = len(given[0])
        there = (x.movedim(0, axis) for x, axis in zip(given, self._axes, strict=True))
        known = dict(zip(self.operands, there, strict=True))

        def value(node: fx.Node) -> Any:
            if node.name in known:
                return known[node.name]
            return _double(self._constants(node, images))

        args, kwargs = fx.map_arg((self.node.args, self.node.kwargs), value)
        args, kwargs = torch.utils._pytree.tree_map(_double, (args, kwargs))
        with torch.no_grad():
            results = self.node.target(*args, **kwargs)  # type: ignore[operator]
        found = [r for r in tree_leaves(results) if isinstance(r, Tensor)]
        return [r.movedim(axis, 0) if axis < r.ndim else r for r, axis in zip(found, self._result_axes, strict=True)]

    def some(self, rng: np.random.Generator) -> list[Tensor]:
        """Random operands in a number that says what it does: more, where images are small."""
        return self.random(rng, self.images(min(64, max(3, 256 // max(1, sum(self.sizes))))))

    def random(self, rng: np.random.Generator, images: int) -> list[Tensor]:
        """Random operands."""
        return [torch.from_numpy(rng.normal(size=(images, *shape))) for shape in self.operands.values()]


def concrete(value: Any, batch: int | torch.SymInt, images: int) -> Any:
    """A size of the traced program for so many images."""
    if isinstance(value, torch.SymInt | torch.SymFloat) and isinstance(batch, torch.SymInt):
        number = value.node.expr.subs(batch.node.expr, images)
        return int(number) if isinstance(value, torch.SymInt) else float(number)
    return value


def moved(operation: Operation) -> list[Moved] | None:
    """Where the operation moves numbers; None where it computes others.

    One entry for each result. Random numbers are followed through it twice, in different numbers of
    images and with the other sign.
    """
    rng = np.random.default_rng(0)
    given = [x * torch.exp2(torch.from_numpy(rng.uniform(-60, 60, x.shape))) for x in operation.some(rng)]
    few = operation.images(2)
    first, second = _followed(operation, [x[:few] for x in given]), _followed(operation, [-x for x in given])
    if first is None or second is None or len(first) != len(second):
        return None
    for a, b in zip(first, second, strict=True):
        if not (np.array_equal(a.places, b.places) and np.array_equal(a.constant, b.constant)):
            return None
    return first


def _followed(operation: Operation, given: list[Tensor]) -> list[Moved] | None:
    results = operation(given)
    flat = np.concatenate([x.reshape(len(x), size).numpy() for x, size in zip(given, operation.sizes, strict=True)], 1)
    found = []
    for result in results:
        if result.ndim == 0 or len(result) != len(flat) or not result.is_floating_point():
            return None
        y = result.reshape(len(flat), math.prod(result.shape[1:])).double().numpy()
        indices = [_places(row, out) for row, out in zip(flat, y, strict=True)]
        constant = np.where(indices[0] < 0, y[0], 0.0)
        same = all(np.array_equal(i, indices[0]) for i in indices)
        fixed = all(np.array_equal(np.where(i < 0, out, 0.0), constant) for i, out in zip(indices, y, strict=True))
        if not (same and fixed):
            return None
        found.append(Moved(indices[0].reshape(result.shape[1:]), constant.reshape(result.shape[1:])))
    return found


def _places(given: Array, wanted: Array) -> Array:
    """Where each of the wanted numbers stands among those given; -1: nowhere."""
    order = np.argsort(given)
    place = order[np.minimum(np.searchsorted(given, wanted, sorter=order), len(given) - 1)]
    return np.where(given[place] == wanted, place, -1)


def affine(operation: Operation) -> Affine:
    """The matrices of an operation with one result.

    Raises:
        NotAffineError: says why it has none, or none within the limits.
    """
    rng = np.random.default_rng(0)
    x, y = operation.some(rng), operation.some(rng)
    images = len(x[0])
    zero = [torch.zeros_like(t) for t in x]
    (nothing, *more), (at_x, *_), (at_y, *_), (at_both, *_) = (
        operation(given) for given in (zero, x, y, [a + 2 * b for a, b in zip(x, y, strict=True)])
    )
    if more or nothing.ndim == 0 or len(nothing) != images or not nothing.is_floating_point():
        raise NotAffineError("it gives something else than one tensor with a row for each image")
    if not bool((nothing == nothing[:1]).all()):
        raise NotAffineError("it treats the images of a batch differently")
    sum_of = (at_x - nothing) + 2 * (at_y - nothing) + nothing
    still, *sizes = (float(t.abs().max()) if t.numel() else 0.0 for t in (nothing, at_x, at_y, at_both))
    largest = max(still, *sizes)
    if not bool(((sum_of - at_both).abs() <= _SMALL * largest).all()):
        raise NotAffineError("it is not linear")
    for factor in _FACTORS:
        error = (operation([factor * t for t in x])[0] - nothing - factor * (at_x - nothing)).abs()
        if not bool((error <= _SMALL * abs(factor) * largest + 1e-12 * still).all()):
            raise NotAffineError("it is not linear")
    alone = operation([torch.cat([t[:1], 0 * t[1:]]) for t in x])[0]
    if not bool(((alone[:1] - at_x[:1]).abs() <= _SMALL * largest).all() and (alone[1:] == nothing[1:]).all()):
        raise NotAffineError("it mixes the images of a batch")
    constant = nothing[0].numpy()
    return Affine(tuple(_matrix(operation, i, constant) for i in range(len(operation.sizes))), constant)


def _matrix(operation: Operation, place: int, constant: Array) -> sparse.csr_matrix:
    """The matrix of one operand, (numbers of a result, numbers of the operand)."""
    shapes = list(operation.operands.values())
    shape, inputs, outputs = shapes[place], operation.sizes[place], constant.size
    if len(shapes) == 1 and (each := _by_channel(operation, shape, constant)) is not None:
        return sparse.kron(sparse.identity(shape[0]), each, format="csr")
    if inputs * (inputs + outputs) > _MOST_PROBED:
        raise NotAffineError(
            f"it is linear, but unknown here, and {inputs:,} numbers are too many to look for its matrix "
            f"of {inputs * outputs:,}"
        )

    def run(x: Tensor) -> Array:
        rows = operation.images(len(x))
        parts = []
        for start in range(0, len(x), rows):
            part = x[start : start + rows]
            padded = torch.cat([part, part[-1:].expand(rows - len(part), *part.shape[1:])])
            given = [torch.zeros(rows, *s, dtype=torch.float64) for s in shapes]
            given[place] = padded
            parts.append(operation(given)[0][: len(part)].reshape(len(part), -1).numpy())
        return np.concatenate(parts)

    return _columns(run, shape, constant)


def _by_channel(operation: Operation, shape: Shape, constant: Array) -> sparse.csr_matrix | None:
    """The matrix of each channel, where all channels have the same and no other's numbers."""
    outputs = constant.shape
    if len(shape) < 2 or len(outputs) < 2 or outputs[0] != shape[0] or constant.any() or operation.images(2) != 2:
        return None

    def alone(x: Tensor) -> Array:
        return operation([x[:, None]])[0].reshape(len(x), -1).numpy()

    x = operation.random(np.random.default_rng(1), 2)[0]
    try:
        apart = alone(x.flatten(0, 1)).reshape(2, -1)
    except (RuntimeError, IndexError, ValueError, TypeError):
        return None
    together = operation([x])[0].reshape(2, -1).numpy()
    if apart.shape != together.shape or not np.allclose(apart, together, rtol=1e-12, atol=1e-12):
        return None
    inside, result = shape[1:], outputs[1:]
    if math.prod(inside) * (math.prod(inside) + math.prod(result)) > _MOST_PROBED:
        return None
    return _columns(alone, inside, np.zeros(math.prod(result)))


def _columns(run: Callable[[Tensor], Array], shape: Shape, constant: Array) -> sparse.csr_matrix:
    """The matrix of a function, from what it makes of each number that is 1 alone."""
    inputs, nothing = math.prod(shape), constant.reshape(1, -1)
    rows = max(1, _CHUNK // max(1, inputs + nothing.size))
    parts = []
    for start in range(0, inputs, rows):
        count = min(rows, inputs - start)
        x = torch.zeros(count, inputs, dtype=torch.float64)
        x[torch.arange(count), torch.arange(start, start + count)] = 1
        found = run(x.reshape(count, *shape)) - nothing
        found[np.abs(found) < 1e-14 * max(1.0, float(np.abs(found).max(initial=0)))] = 0
        parts.append(sparse.csr_matrix(found))
    return sparse.vstack(parts).T.tocsr()


def _double(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().double()
    if isinstance(value, torch.dtype) and value.is_floating_point:
        return torch.float64
    return value
