"""The walk from a traced network to populations and projections; see :mod:`.conversion`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from operator import getitem
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, fx
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.utils._pytree import tree_leaves

from pascal_nm.common.arrays import Array, Shape, canonical
from pascal_nm.errors import ConversionError, GraphError, first_line
from pascal_nm.network.graph import Population, Projection
from pascal_nm.network.operators import Dense, Identity, IndexMap, Operator, Sparse, SumPool2d
from pascal_nm.network.operators.index_map import channel_map
from pascal_nm.simulation import simulate
from pascal_nm.source import affine, probing
from pascal_nm.source.affine import Term, Value
from pascal_nm.source.tracing import SourceNetwork, constants, location, population_name

_MOST_FOLDED = 1 << 30
"""Numbers of a tensor that is computed from parameters, at most."""

_MOST_MULTIPLIED = 1 << 18
"""Synapses of two maps that are multiplied as sparse matrices, where a linear population could
stand between them."""


class Converter:
    """Walks the traced network in order; ``values`` holds what each node gave, in float64.

    What it makes of an operation is a function of :data:`_HANDLERS`; :func:`register` adds others.
    Several results of one operation are a tuple.
    """

    def __init__(self, source: SourceNetwork, growth: float = affine.GROWTH) -> None:
        if not (isinstance(growth, int | float) and growth >= 1):
            raise ConversionError(f"growth is a factor on the number of synapses, at least 1, not {growth!r}")
        self.source, self.growth = source, growth
        self.populations: list[Population] = []
        self.projections: list[Projection] = []
        self.values: dict[str, Value | tuple[Value, ...]] = {}
        self.shapes: dict[str, Shape] = {}
        self._standing: dict[int, tuple[Value, Value]] = {}
        self.constants: dict[str, Any] = dict(constants(source.functional))
        self.repeated: dict[str, fx.Node] = {}
        self.batch: Any = None

    def run(self) -> tuple[list[Population], list[Projection]]:
        """All populations and projections that the output depends on."""
        changed = self.source.functional.graph_signature.buffers_to_mutate
        if changed:
            raise ConversionError(
                f"the network changes {', '.join(map(repr, changed.values()))} while it runs, so its answers depend on "
                "what it has seen before; what keeps a state cannot be converted"
            )
        named = self.source.functional.graph_signature.user_inputs
        self._inputs([n for n in self.source.functional.graph.nodes if n.op == "placeholder" and n.name in named])
        for node in self.source.functional.graph.nodes:
            if node.op == "output":
                self._output(node)
            elif node.op == "call_function":
                self._call(node)
        return self._live()

    def _call(self, node: fx.Node) -> None:
        if not any(a.name in self.values for a in node.all_input_nodes):
            self._fold(node)
            return
        if node.target is getitem and not node.users:
            return  # a result that nobody takes
        handler = _HANDLERS.get(node.target)
        if not any(isinstance(v, Tensor) for v in tree_leaves(node.meta.get("val"))):
            return  # a size or an assertion about sizes
        try:
            if handler is None or (self._apart(node) and handler not in _TAKE_AXES):
                found = self.probed(node)
            elif any(map(self._is_number, node.all_input_nodes)) and handler not in _TAKE_NUMBERS:
                raise refusal(
                    node,
                    "it takes a number that only a run of the network gives, like the number of images; write it out",
                )
            else:
                found = handler(self, node, *node.args, **node.kwargs)
        except GraphError as error:
            raise refusal(node, str(error)) from error
        traced = node.meta["val"]
        if isinstance(traced, Tensor):
            assert isinstance(found, Value)
            self._check(node, found, traced)
            found = self._shared(node, found)
        self.values[node.name] = found

    def _check(self, node: fx.Node, value: Value, traced: Tensor) -> None:
        """What holds for every operation: the value has the shape and type that were traced."""
        shape = [*traced.shape]
        images = shape.pop(value.axis) if shape else 1
        if not all(isinstance(n, int) for n in shape):
            raise refusal(node, f"it mixes the images of a batch: it gives a tensor of shape {tuple(traced.shape)}")
        if tuple(shape) != value.seen or not statically_known_true(images == self.batch):
            raise refusal(
                node,
                f"it gives a tensor of shape {tuple(traced.shape)}, in which an image is not of shape {value.seen}",
            )
        kept = traced.dtype.is_floating_point
        if not kept or torch.finfo(traced.dtype).bits < torch.finfo(self.source.dtype).bits:
            raise refusal(node, f"it makes {traced.dtype} of numbers of type {self.source.dtype}, which changes them")

    def _shared(self, node: fx.Node, value: Value) -> Value:
        """The value, in a population of its own where many would compute it again.

        A residual sum that runs through many blocks is one, a layer that many concatenations take
        another.
        """
        computed = sum(not term.moves for term in value.terms)
        if computed * len(node.users) <= 2 * self.growth or value.windows:
            return value
        return self.materialized(node, value)

    def _fold(self, node: fx.Node) -> None:
        """Compute what depends on parameters alone, as the network does."""
        known = all(a.name in self.constants for a in node.all_input_nodes)
        traced = [t for t in tree_leaves(node.meta.get("val")) if isinstance(t, Tensor)]
        small = all(isinstance(n, int) for t in traced for n in t.shape) and all(
            t.numel() < _MOST_FOLDED for t in traced
        )
        if isinstance(node.target, torch._ops.OpOverload) and _is_random(node.target):
            return
        if known and small:
            args, kwargs = fx.map_arg((node.args, node.kwargs), lambda a: self.constants[a.name])
            with torch.no_grad():
                self.constants[node.name] = node.target(*args, **kwargs)  # type: ignore[operator]
        elif len(traced) == 1 and isinstance(node.meta["val"], Tensor):
            self._repeated(node)

    def _repeated(self, node: fx.Node) -> None:
        """A constant that the network repeats for each image is a value without terms.

        One that is no number (an index, a mask) is an argument of other operations.
        """
        numbers = all(
            a.name in self.constants or a.name in self.repeated or isinstance(a.meta.get("val"), torch.SymInt)
            for a in node.all_input_nodes
        )
        shape = node.meta["val"].shape
        if not numbers or len(shape) == 0 or not statically_known_true(shape[0] == self.batch):
            return
        rows = [self._with_images(node, images) for images in (2, 3)]
        if not all(bool((r == rows[0][:1]).all()) for r in rows):
            return
        if not rows[0].is_floating_point():
            self.repeated[node.name] = node
        else:
            row = rows[0][0].double().numpy()
            if not np.all(np.isfinite(row)):
                raise refusal(node, "its parameters hold NaN or infinite values")
            self.values[node.name] = affine.constant(row, tuple(row.shape))

    def _with_images(self, node: fx.Node, images: int) -> Tensor:
        """What a node that depends on parameters alone gives for so many images."""
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda a: self._known(a, images))
        with torch.no_grad():
            result: Tensor = node.target(*args, **kwargs)  # type: ignore[operator]
        return result

    # -- what handlers ask -------------------------------------------------------------------------

    def is_value(self, argument: Any) -> bool:
        """Whether an argument comes from the network's input."""
        return isinstance(argument, fx.Node) and argument.name in self.values

    def value(self, node: fx.Node, argument: Any, *, pooling: bool = False) -> Value:
        """The value of an argument, which must come from the network's input.

        Args:
            node: who asks.
            argument: its argument.
            pooling: whether a max-pooling may still wait for its QCFS.
        """
        if not isinstance(argument, fx.Node) or argument.name not in self.values:
            raise refusal(node, self._no_value(argument))
        value = self.values[argument.name]
        if not isinstance(value, Value):
            raise refusal(node, "it takes several results of one operation as one")
        if value.windows and not pooling:
            value = self.values[argument.name] = self.peaks(node, value)
        return value

    def _no_value(self, argument: Any) -> str:
        if isinstance(argument, fx.Node):
            made = location(argument) if argument.op == "call_function" else argument.name
            return f"it takes what {_operation(argument)} of {made} gives, which has no spiking form"
        return "it joins the network with something that does not come from its input"

    def constant(self, node: fx.Node, argument: Any) -> Array:
        """A parameter, a buffer or a number, as float64."""
        if isinstance(argument, (int, float, np.ndarray)):
            array = np.asarray(argument, np.float64)
        elif isinstance(argument, fx.Node) and argument.name in self.constants:
            array = torch.as_tensor(self.constants[argument.name]).detach().to(torch.float64).numpy()
        elif self.is_value(argument) and not (value := self.value(node, argument)).terms:
            array = np.broadcast_to(value.bias, value.shape).reshape(value.seen)
        else:
            raise refusal(node, "a weight or a factor is computed from the input, or is random")
        if not np.all(np.isfinite(array)):
            raise refusal(node, "its parameters hold NaN or infinite values")
        return np.asarray(array)

    def spread(self, node: fx.Node, argument: Any, value: Value) -> Array:
        """A constant, broadcast as torch does against a value.

        It has one axis for each of the value's, of length 1 where it is constant.
        """
        array = self.constant(node, argument)
        try:
            full = np.broadcast_to(array, (1, *value.seen))[0]
        except ValueError:
            raise refusal(
                node, f"a constant of shape {array.shape} makes more of a value of shape {value.seen} than it is"
            ) from None
        return canonical(full.reshape(value.pooled), value.pooled, "constant")

    def scaled(self, node: fx.Node, value: Value, scale: Array, shift: Array | float = 0.0) -> Value:
        """The value scaled and shifted by arrays that broadcast to it."""
        shift = np.asarray(shift, np.float64)
        uniform = math.prod(scale.shape[1:]) == 1
        if value.windows and (not uniform or math.prod(shift.shape[1:]) > 1):
            value = self.peaks(node, value)
        if uniform:
            return value.scaled(scale, shift)
        found = self.map(node, value, Identity(scale)).viewed(value.seen)
        return replace(found, bias=found.bias + shift)

    def map(self, node: fx.Node, value: Value, operator: Operator, bias: Array | None = None) -> Value:
        """The value behind an operator, with a bias of one number for each of its channels.

        The network sees it as it is stored; :meth:`Value.viewed` says otherwise.
        """
        terms = self._composed(value, operator)
        if terms is None:
            value = self.materialized(node, value)
            terms = self._composed(value, operator)
            assert terms is not None, "an operator behind neurons of its own"
        shape = operator.output_shape(value.shape)
        carried = operator.carried(value.bias, value.shape) if np.any(value.bias) else np.zeros((1,) * len(shape))
        own = 0.0 if bias is None else affine.column(bias, shape)
        return Value(terms, canonical(carried + own, shape, "bias"), shape, shape)

    def pooled(self, node: fx.Node, value: Value, pool: SumPool2d, divisor: int) -> Value:
        """The value behind a sum-pooling and a division."""
        found = [self._then_pool(term, pool, divisor) for term in value.terms]
        if any(term is None for term in found):
            value = self.materialized(node, value)
            found = [self._then_pool(term, pool, divisor) for term in value.terms]
        shape = pool.output_shape(value.shape)
        bias = value.bias
        if np.any(bias):
            full = torch.from_numpy(np.broadcast_to(bias, value.shape).astype(np.float64))
            bias = canonical(simulate.sum_pool(full[None], pool)[0].numpy() / divisor, shape, "bias")
        return Value(tuple(t for t in found if t is not None), bias, shape, shape)

    def laid_out(self, node: fx.Node, value: Value) -> Value:
        """The value, stored as :func:`pascal_nm.source.affine.stored` says of what is seen."""
        shape = affine.stored(value.seen)
        if value.shape == shape:
            return value
        return self.moved(node, value, np.arange(math.prod(shape)).reshape(shape)).viewed(value.seen)

    def moved(self, node: fx.Node, value: Value, index: Array) -> Value:
        """The value's numbers in other places.

        Args:
            node: who moves them.
            value: what is moved.
            index: for each number of the result its place in the value, in C order; -1: a zero.
        """
        if index.shape == value.shape and np.array_equal(index.reshape(-1), np.arange(index.size)):
            return value
        operator = IndexMap(np.ones((1,) * index.ndim), index.astype(np.int32), value.shape)
        return self.map(node, value, operator)

    def probed(self, node: fx.Node) -> Value | tuple[Value, ...]:
        """What an operation without a handler gives, found by running it.

        Raises:
            ConversionError: it is not affine, or its matrix is too large to be found this way.
        """
        if isinstance(node.target, torch._ops.OpOverload) and _is_random(node.target):
            raise refusal(node, _REASONS.get(_operation(node), "it is random"))
        values = {a.name: self.value(node, a) for a in node.all_input_nodes if self.is_value(a)}
        for argument in node.all_input_nodes:
            known = argument.name in values or argument.name in self.constants or argument.name in self.repeated
            if not (known or self._is_number(argument)):
                raise refusal(node, self._no_value(argument))
        shapes = {name: value.seen for name, value in values.items()}
        ends = [self._axis(t) for t in tree_leaves(node.meta["val"]) if isinstance(t, Tensor)]
        axes = [value.axis for value in values.values()]
        operation = probing.Operation(node, shapes, self._known, self.batch, axes, ends)
        try:
            moved = probing.moved(operation)
            found = None if moved is not None else probing.affine(operation)
        except probing.NotAffineError as error:
            raise refusal(node, _REASONS.get(_operation(node), f"{error}, and has no exact spiking form")) from error
        except Exception as error:  # torch raises many types for arguments that an operation does not take
            raise refusal(node, f"it cannot be run alone: {first_line(error)}") from error
        operands = [replace(value, axis=0) for value in values.values()]
        if moved is None:
            assert found is not None
            return replace(self._multiplied(node, operands, found), axis=ends[0])
        each = [self._placed(node, operands, one) for one in moved]
        results = tuple(replace(value, axis=axis) for value, axis in zip(each, ends, strict=True))
        return results[0] if isinstance(node.meta["val"], Tensor) else results

    def _known(self, node: fx.Node, images: int) -> Any:
        """An argument that does not come from the input, for so many images."""
        if node.name in self.repeated:
            return self._with_images(node, images)
        return self.constants.get(node.name, probing.concrete(node.meta.get("val"), self.batch, images))

    def _axis(self, traced: Tensor) -> int:
        """Which axis of a tensor numbers the images."""
        sized = (i for i, n in enumerate(traced.shape) if not isinstance(n, int))
        return next((i for i in sized if statically_known_true(traced.shape[i] == self.batch)), 0)

    def _apart(self, node: fx.Node) -> bool:
        """Whether the images stand elsewhere than first in an argument."""
        found = (self.values[a.name] for a in node.all_input_nodes if a.name in self.values)
        return any(isinstance(value, Value) and value.axis for value in found)

    def _is_number(self, argument: fx.Node) -> bool:
        return isinstance(argument.meta.get("val"), torch.SymInt | torch.SymFloat)

    def _placed(self, node: fx.Node, values: list[Value], moved: probing.Moved) -> Value:
        """The sum of values that are moved to places of their own, and of constants."""
        seen = moved.places.shape
        index = moved.places.reshape(affine.stored(seen))
        total, start = affine.constant(moved.constant, seen), 0
        for value in values:
            size = math.prod(value.shape)
            mine = np.where((index >= start) & (index < start + size), index - start, -1)
            start += size
            if np.any(mine >= 0):
                if np.array_equal(mine.reshape(-1), np.arange(size)) and not np.any(moved.constant):
                    return value.viewed(seen)
                total = total.plus(self.moved(node, value, mine).viewed(seen))
        return total

    def _multiplied(self, node: fx.Node, values: list[Value], found: probing.Affine) -> Value:
        seen = found.constant.shape
        shape = affine.stored(seen)
        total = affine.constant(found.constant, seen)
        for value, matrix in zip(values, found.matrices, strict=True):
            if matrix.nnz:
                total = total.plus(self.map(node, value, matrix_operator(matrix, shape, value.shape)).viewed(seen))
        return total

    # -- terms -------------------------------------------------------------------------------------

    def _composed(self, value: Value, operator: Operator) -> tuple[Term, ...] | None:
        """The terms behind an operator; None where neurons of their own have to stand in front."""
        if all(term.operator.passes for term in value.terms):
            found = [self._after(term, operator, value.shape, 0) for term in value.terms]
            return None if None in found else tuple(term for term in found if term)
        apart = affine.synapses(operator, value.shape) + sum(map(self._synapses, value.terms))
        least = sum(
            affine.composed(operator, value.shape, t.operator, t.inner(self.shapes[t.source]))
            for t in value.terms
            if not t.operator.moves
        )
        if least > self.growth * apart:
            return None
        found, composed = [], 0
        for term in value.terms:
            joined = self._after(term, operator, value.shape, apart)
            composed += self._synapses(joined) if joined else 0
            if joined is None or composed > self.growth * apart:
                return None
            found.append(joined)
        return tuple(term for term in found if term)

    def _synapses(self, term: Term) -> int:
        return affine.synapses(term.operator, term.inner(self.shapes[term.source]))

    def _after(self, term: Term, operator: Operator, shape: Shape, apart: int) -> Term | None:
        """One term behind an operator; ``apart`` synapses are there with neurons in between."""
        first, inner = term.operator, term.inner(self.shapes[term.source])
        alike = first.uniform or not operator.shares_weights
        if alike and (first.passes or not (first.listed or operator.listed)):
            joined = operator.after(first, shape, inner)
            if joined is not None:
                return replace(term, operator=joined)
        few = math.isfinite(self.growth)
        if few and not 0 < apart <= _MOST_MULTIPLIED:
            return None
        product = operator.matrix(shape) @ first.matrix(inner)
        if few and product.nnz > apart:
            return None
        return replace(term, operator=matrix_operator(product, operator.output_shape(shape), inner))

    def _then_pool(self, term: Term, pool: SumPool2d, divisor: int) -> Term | None:
        operator = term.operator
        scattered = operator.moves and not operator.passes and operator.channels is None
        if not operator.uniform or ((operator.listed or scattered) and math.isfinite(self.growth)):
            return None
        found = term.operator.pooled(term.pool, pool)
        return found and replace(term, operator=found[0], pool=found[1], divisor=term.divisor * divisor)

    def materialized(self, node: fx.Node, value: Value) -> Value:
        """The value as a linear population of its own; its bias goes on with it.

        Where each neuron gets one number at most, the population passes on spikes as they are, and
        their amplitude stays behind it. Whoever asks again for a value gets the same neurons.
        """
        before, found = self._standing.get(id(value), (None, None))
        if before is value and found is not None:
            return found
        found = self._materialized(node, value)
        self._standing[id(value)] = (value, found)
        return found

    def _materialized(self, node: fx.Node, value: Value) -> Value:
        amplitude = self._amplitude(value)
        if not math.isfinite(self.growth) and amplitude is None:
            raise refusal(
                node,
                "a population that passes on sums would have to stand in front of it, which takes spikes that carry "
                "numbers: convert with growth=4",
            )
        name = population_name(node, self._taken())
        if amplitude is not None:
            value = replace(value, terms=tuple(replace(t, operator=_bare(t.operator)) for t in value.terms))
        divisor = affine.lcm_of(value.terms)
        self._close(value, Population(name, "linear", value.shape, levels=0), bias=False)
        weight = np.ones((1,) * len(value.shape)) if amplitude is None else amplitude
        return replace(value, terms=(Term(name, Identity(weight), None, divisor),))

    def _amplitude(self, value: Value) -> Array | None:
        """The factor of each neuron, where each gets one number and a channel's are equal."""
        if not value.terms or not affine.covered(value.terms, value.shape):
            return None
        total = np.zeros(value.shape)
        for term in value.terms:
            total += term.operator.weight * term.operator.heard(value.shape) / term.divisor
        factor = np.abs(total).max(tuple(range(1, total.ndim)), keepdims=True) * np.ones_like(total)
        sign = np.sign(total.sum(tuple(range(1, total.ndim)), keepdims=True))
        factor = factor * sign
        same = np.all((total == factor) | (total == 0))
        return canonical(factor, value.shape, "amplitude") if same else None

    # -- populations -------------------------------------------------------------------------------

    def _inputs(self, nodes: list[fx.Node]) -> None:
        """One analog population; several inputs stand in it side by side."""
        shapes = self.source.input_shapes
        self.batch = nodes[0].meta["val"].shape[0]
        if len(nodes) == 1:
            self._add(Population("input", "analog", affine.stored(shapes[0]), levels=0))
            self.values[nodes[0].name] = affine.of_population("input", self.shapes["input"], np.ones(()), shapes[0])
            return
        sizes = [math.prod(shape) for shape in shapes]
        self._add(Population("input", "analog", (sum(sizes),), levels=0))
        everything = affine.of_population("input", (sum(sizes),), np.ones(()), (sum(sizes),))
        for node, shape, start in zip(nodes, shapes, itertools.accumulate(sizes, initial=0), strict=False):
            index = start + np.arange(math.prod(shape)).reshape(affine.stored(shape))
            self.values[node.name] = self.moved(node, everything, index).viewed(shape)

    def activation(self, node: fx.Node, value: Value, levels: int, step: Array) -> Value:
        """The population of a QCFS activation of ``value``, with steps of ``step``.

        A negative threshold is the same neuron with negated inputs, its magnitude, and spikes of
        negative amplitude. Where the network pools first, the level that it sees is the max
        population's: that one takes the name.
        """
        name, sign = self.source.functional_names[node.name], np.sign(step)
        if not value.terms:
            level = np.clip(np.floor(value.bias / step + 0.5), 0, levels)
            return replace(value, bias=level * step)
        signs = value.signs
        if value.windows:
            name = self._free(f"{name}_unpooled")
        positive = self.scaled(node, replace(value, windows=()), sign) if np.any(sign < 0) else value
        self._close(positive, Population(name, "pasc", value.shape, levels, np.abs(step)))
        result = affine.of_population(name, value.shape, step, value.seen)
        for window in value.windows:
            result = self._max(node, result, window, signs, window is value.windows[-1])
        return result

    def largest(self, node: fx.Node, value: Value, window: SumPool2d) -> Value:
        """The value behind a max-pooling: of populations now, of a sum once its QCFS is there."""
        if value.signs is not None and np.any(value.signs < 0):  # the largest of negated largest ones
            value = self.peaks(node, value)
        sending = {p.name for p in self.populations if p.dynamics.counted}
        shape = window.output_shape(value.shape)
        now = not value.windows and value.terms and all(t.moves and t.source in sending for t in value.terms)
        if now and affine.covered(value.terms, value.shape) and math.prod(value.bias.shape[1:]) == 1:
            found = [self._largest_of(node, term, window, value) for term in value.terms]
            if all(term is not None for term in found):
                return replace(value, terms=tuple(t for t in found if t), shape=shape, seen=shape)
        signs = np.ones((1,) * len(value.shape)) if value.signs is None else value.signs
        waiting = replace(value, windows=(*value.windows, window), signs=signs)
        return waiting.viewed(waiting.pooled)

    def peaks(self, node: fx.Node, value: Value) -> Value:
        """The value behind the max-poolings that wait, for whoever is no QCFS activation.

        The sums stand in a linear population, and populations that pass on the largest of a window
        behind it. Where the sign was turned, they are negated before and after.
        """
        if math.prod(value.bias.shape[1:]) > 1:
            raise refusal(node, "it takes the largest of numbers whose biases differ from pixel to pixel")
        if not math.isfinite(self.growth):
            raise refusal(
                node,
                "it follows a max-pooling of sums, not of QCFS activations, which takes spikes that carry numbers: "
                "convert with growth=4, or put a QCFS activation directly behind the pooling",
            )
        signs = value.signs if value.signs is not None else np.ones((1,) * len(value.shape))
        turned = replace(value, windows=(), signs=None).scaled(signs)
        divisor = affine.lcm_of(value.terms)
        name = population_name(node, self._taken())
        self._close(turned, Population(name, "linear", value.shape, levels=0), bias=False)
        for window in value.windows:
            source, name = name, population_name(node, self._taken())
            self._add(Population(name, "peak", window.output_shape(self.shapes[source]), levels=0))
            self.projections.append(Projection(source, name, Identity(np.ones((1, 1, 1))), window))
        term = Term(name, Identity(signs), None, divisor)
        return Value((term,), value.bias, self.shapes[name], value.seen)

    def _largest_of(self, node: fx.Node, term: Term, window: SumPool2d, value: Value) -> Term | None:
        """The term behind a max population of its own; None where they cannot change places."""
        operator, shape = term.operator, self.shapes[term.source]
        channels = np.arange(shape[0]) if operator.passes else operator.channels
        if channels is None or len(shape) != 3 or not operator.uniform:
            return None
        weight = np.broadcast_to(operator.weight, (len(channels), 1, 1)).reshape(-1)
        reached = channels >= 0
        sign = np.zeros(shape[0])
        for way in (1.0, -1.0):
            used = channels[reached & (np.sign(weight) == way)]
            if np.any(sign[used] == -way):
                return None
            sign[used] = way
        if np.any(weight[reached] == 0):
            return None
        sign[sign == 0] = 1.0
        name = self._max_population(node, term.source, window, canonical(sign, shape, "sign"))
        pooled = self.shapes[name]
        if operator.passes:
            return replace(term, source=name)
        return replace(term, source=name, operator=channel_map(channels, operator.weight, pooled))

    def _max(self, node: fx.Node, value: Value, window: SumPool2d, signs: Array | None, last: bool) -> Value:
        (term,) = value.terms
        amplitude = np.asarray(term.operator.weight)
        turned = np.sign(amplitude) * (1.0 if signs is None else signs)
        name = self._max_population(
            node, term.source, window, turned, self.source.functional_names[node.name] if last else None
        )
        return affine.of_population(name, self.shapes[name], amplitude, value.seen)

    def _max_population(
        self, node: fx.Node, source: str, window: SumPool2d, sign: Array, name: str | None = None
    ) -> str:
        levels = next(p.levels for p in self.populations if p.name == source)
        shape = window.output_shape(self.shapes[source])
        name = name or population_name(node, self._taken())
        self._add(Population(name, "max", shape, levels, sign, np.zeros(())))
        self.projections.append(Projection(source, name, Identity(np.ones((1,) * len(shape))), window))
        return name

    def _output(self, node: fx.Node) -> None:
        outputs = self.source.functional.graph_signature.user_outputs
        given: Any = node.args[0]
        results = {r.name: r for r in given if isinstance(r, fx.Node)}
        number = 0
        for name in outputs:
            if name is None:
                continue
            number += 1
            if name not in results:
                raise ConversionError(f"the network returns {name!r}, which is no tensor")
            value = self.value(node, results[name])
            if value.axis:
                raise ConversionError(f"output {number} has its images along axis {value.axis}, not first")
            title = "output" if number == 1 else self._free(f"output_{number}")
            if not value.terms:
                raise ConversionError(
                    f"the network's output {number} depends on no QCFS activation: it is the same for every input"
                )
            self._close(value, Population(title, "readout", value.shape))
        if not number:
            raise ConversionError("the network returns no tensor")

    def _close(self, value: Value, population: Population, *, bias: bool = True) -> None:
        """Add a population that receives ``value``.

        Average pooling's divisor moves into the threshold.
        """
        divisor = affine.lcm_of(value.terms)
        for term in value.terms:
            factor = divisor // term.divisor
            scaled = term.operator.with_weight(term.operator.weight * factor)
            self.projections.append(Projection(term.source, population.name, scaled, term.pool))
        if bias:
            population = replace(population, threshold=population.threshold * divisor, bias=value.bias * divisor)
        self._add(population)

    def _taken(self) -> set[str]:
        return {p.name for p in self.populations} | set(self.source.functional_names.values())

    def _free(self, name: str) -> str:
        """A name, or a longer one where it is taken."""
        while name in self._taken():
            name += "_"
        return name

    def _add(self, population: Population) -> None:
        self.populations.append(population)
        self.shapes[population.name] = population.shape

    def _live(self) -> tuple[list[Population], list[Projection]]:
        """Leave out what does not reach the output."""
        live, found = {p.name for p in self.populations if p.dynamics.injects or p.dynamics.reads_out}, 0
        while found != len(live):
            found = len(live)
            live |= {p.source for p in self.projections if p.target in live}
        kept = [p for p in self.populations if p.name in live]
        if not any(p.dynamics.fires for p in kept):
            raise ConversionError(
                "the network's output depends on no QCFS activation: there is nothing that could spike"
            )
        return kept, [p for p in self.projections if p.target in live]


def matrix_operator(matrix: Any, shape: Shape, source: Shape) -> Operator:
    """The operator of a sparse matrix: dense synapses onto a vector that uses most of them."""
    if len(shape) == 1 and 2 * matrix.nnz > math.prod(matrix.shape):
        return Dense(np.asarray(matrix.todense(), np.float64))
    return Sparse.of(matrix, shape, source)


def _bare(operator: Operator) -> Operator:
    """The same map without factors."""
    return operator.with_weight(np.ones((1,) * operator.weight.ndim))


def _is_random(target: torch._ops.OpOverload) -> bool:
    return torch.Tag.nondeterministic_seeded in target.tags


def _operation(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.op)).split(".")[0]


def refusal(node: fx.Node, reason: str) -> ConversionError:
    """The error that names a node of the traced network, and says why it has no spiking form."""
    return ConversionError(f"{location(node)}: {_operation(node)} cannot be converted: {reason}")


GATE = (
    "the product of two activations is not linear (a gate, as in squeeze-and-excitation or attention): retrain the "
    "network without it"
)
_STATISTICS = (
    "it normalizes with statistics of its input, which is not linear: train with batch normalization in its place"
)
_SHAPED = "{} is not QCFS, and has no exact spiking form: put nn.ReLU in its place, fine-tune, and give it to to_qcfs"

_REASONS = {
    **dict.fromkeys(
        ("relu", "relu_", "relu6", "hardtanh", "clamp", "clamp_", "hardtanh_", "clamp_min", "clamp_min_", "threshold"),
        "ReLU is not QCFS: pascal_nm.to_qcfs(network, levels, example) puts QCFS in its place, wherever it stands",
    ),
    **{
        name: _SHAPED.format(word)
        for names, word in {
            ("leaky_relu", "leaky_relu_"): "LeakyReLU",
            ("prelu", "_prelu_kernel"): "PReLU",
            ("silu", "silu_"): "SiLU",
            ("gelu", "gelu_"): "GELU",
            ("elu", "elu_", "selu", "selu_"): "ELU",
            ("hardswish", "hardswish_"): "Hardswish",
            ("mish", "mish_"): "Mish",
            ("tanh", "tanh_"): "tanh",
            ("sigmoid", "sigmoid_", "hardsigmoid", "hardsigmoid_"): "sigmoid",
        }.items()
        for name in names
    },
    "softmax": "inside of a network, softmax is not linear (attention): retrain the network without it",
    "_softmax": "inside of a network, softmax is not linear (attention): retrain the network without it",
    "log_softmax": "inside of a network, log_softmax is not linear",
    **dict.fromkeys(("scaled_dot_product_attention", "mul", "mul_", "matmul", "bmm"), GATE),
    **dict.fromkeys(
        ("lstm", "gru", "rnn_tanh", "rnn_relu"),
        "it keeps a state from step to step of its input, and bends it by functions that are not QCFS",
    ),
    "layer_norm": _STATISTICS,
    "native_layer_norm": _STATISTICS,
    "group_norm": _STATISTICS,
    "native_group_norm": _STATISTICS,
    "instance_norm": _STATISTICS,
}


_HANDLERS: dict[Any, Callable[..., Value | tuple[Value, ...]]] = {}
"""What is made of an operation, by its overload."""

_TAKE_NUMBERS: set[Any] = set()
"""Handlers that take numbers which only a run gives."""

_TAKE_AXES: set[Any] = set()
"""Handlers of values whose images stand elsewhere than first; for others, the operation is run."""


Handler = TypeVar("Handler", bound=Callable[..., Value | tuple[Value, ...]])


def register(*targets: Any, numbers: bool = False, axes: bool = False) -> Callable[[Handler], Handler]:
    """A decorator: what the function makes of these operations of a traced network.

    Args:
        *targets: overloads of torch's operators, like ``torch.ops.aten.roll.default``.
        numbers: whether arguments may be numbers that only a run of the network gives.
        axes: whether images may stand along any axis of a value (:attr:`.affine.Value.axis`).

    The function takes the :class:`Converter`, the node and the operation's own arguments, and gives
    the node's value: :meth:`Converter.value` is that of an argument, :meth:`Converter.map` that
    behind an operator.
    """

    def add(function: Handler) -> Handler:
        _HANDLERS.update(dict.fromkeys(targets, function))
        if numbers:
            _TAKE_NUMBERS.add(function)
        if axes:
            _TAKE_AXES.add(function)
        return function

    return add
