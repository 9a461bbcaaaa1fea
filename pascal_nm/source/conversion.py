r"""From a QCFS network to a spiking graph, exactly.

Between two QCFS activations a network is linear. The converter follows each value through the
traced network as a sum of *terms*, one per source population, plus a bias per channel:

.. math:: z = \sum_k A_k c_k + b

where :math:`c_k` are spike counts and :math:`A_k` is a sum-pooling followed by one operator. Batch
normalization, scaling, average pooling and chains of linear layers are folded into the terms in
float64. A QCFS activation closes the sum: it becomes a population, and its spike amplitude
:math:`\lambda / L` becomes the first factor of the terms that leave it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import getitem
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import statically_known_true

from pascal_nm.common.arrays import Array, Pair, Shape, canonical
from pascal_nm.errors import ConversionError, DataError, GraphError
from pascal_nm.network.dynamics import MAX_LEVELS
from pascal_nm.network.graph import Graph, Population, Preprocessing, Projection
from pascal_nm.network.operators import Conv2d, Dense, Identity, Operator, SumPool2d
from pascal_nm.source.proof import prove
from pascal_nm.source.tracing import (
    COPIES,
    DROPOUTS,
    QCFS,
    SourceNetwork,
    aten,
    constants,
    drops,
    location,
    population_name,
)

_MOST_FOLDED = 1 << 30
"""Numbers of a tensor that is computed from parameters, at most."""


def convert(
    network: nn.Module | ExportedProgram | SourceNetwork,
    example: Tensor | None = None,
    *,
    preprocessing: Preprocessing | None = None,
    classes: Sequence[str] = (),
    check: bool = True,
) -> Graph:
    """Convert a QCFS network into a spiking graph with the same answers.

    The result is proven before it is returned: :func:`pascal_nm.source.proof.prove` compares every
    pre-activation, level and output of the graph with the traced program's.

    Args:
        network: the user's module, an exported program, or a traced :class:`SourceNetwork`.
        example: one input batch of shape (N, *input shape); only its shape and type matter.
        preprocessing: how pixels become inputs; travels with the graph.
        classes: names of the outputs; travel with the graph.
        check: prove the result; without it, conversion takes the time of two forward passes of
            three images less.

    Returns:
        A float graph in the network's own float type (float32 for half precision).

    Raises:
        ConversionError: names the part of the network that has no exact spiking equivalent, and
            why; or the first place at which the graph is not the network.
    """
    source = network if isinstance(network, SourceNetwork) else SourceNetwork(network, example)
    populations, projections = Converter(source).run()
    try:
        graph = Graph(tuple(populations), tuple(projections), preprocessing, tuple(classes))
        if check:
            prove(source, graph, example)
        with np.errstate(over="ignore"):  # what becomes infinite is refused
            return graph.astype(np.float64 if source.dtype == torch.float64 else np.float32)
    except (GraphError, DataError) as error:
        raise ConversionError(str(error)) from error


@dataclass(frozen=True)
class Term:
    """A linear map from one population: sum-pooling, an operator, then division by ``divisor``."""

    source: str
    operator: Operator
    pool: SumPool2d | None = None
    divisor: int = 1


@dataclass(frozen=True)
class Value:
    """What a node of the traced network holds.

    It is a sum of terms and a bias per channel, of the given shape.

    ``flat`` says that the network sees the value as a vector; ``window`` is a max-pooling that
    waits for the QCFS that follows it (QCFS never decreases, so that the two may change places).
    """

    terms: tuple[Term, ...]
    bias: Array
    shape: Shape
    flat: bool = False
    window: SumPool2d | None = None

    @property
    def pooled(self) -> Shape:
        """The shape behind the max-pooling that waits."""
        return self.shape if self.window is None else self.window.output_shape(self.shape)

    @property
    def seen(self) -> Shape:
        """The shape that the network sees, without the batch."""
        return (math.prod(self.pooled),) if self.flat else self.pooled


class Converter:
    """Walks the traced network in order; ``values`` holds what each node gave, in float64.

    What it makes of an operation is a function of :data:`_HANDLERS`; :func:`register` adds others.
    """

    def __init__(self, source: SourceNetwork) -> None:
        self.source = source
        self.populations: list[Population] = []
        self.projections: list[Projection] = []
        self.values: dict[str, Value] = {}
        self.shapes: dict[str, Shape] = {}
        self.constants = constants(source.functional)
        self.batch: Any = None

    def run(self) -> tuple[list[Population], list[Projection]]:
        """All populations and projections that the output depends on."""
        changed = self.source.functional.graph_signature.buffers_to_mutate
        if changed:
            raise ConversionError(
                f"the network changes {', '.join(map(repr, changed.values()))} while it runs, so its answers depend on "
                "what it has seen before; what keeps a state cannot be converted"
            )
        for node in self.source.functional.graph.nodes:
            if node.op == "placeholder":
                if node.name not in self.constants:
                    self._input(node)
            elif node.op == "output":
                self._output(node)
            elif node.op == "call_function":
                self._call(node)
        return self._live()

    def _call(self, node: fx.Node) -> None:
        if not any(a.name in self.values for a in node.all_input_nodes):
            self._fold(node)
            return
        handler = _HANDLERS.get(node.target)
        if handler is None:
            if not isinstance(node.meta.get("val"), Tensor):
                return  # a size or an assertion about sizes
            raise refusal(
                node,
                _REASONS.get(_operation(node), "this operation has no exact spiking equivalent here"),
            )
        numbers = [a for a in node.all_input_nodes if isinstance(a.meta.get("val"), torch.SymInt | torch.SymFloat)]
        if numbers and handler is not _reshape:
            raise refusal(
                node, "it takes a number that only a run of the network gives, like the number of images; write it out"
            )
        try:
            value = handler(self, node, *node.args, **node.kwargs)
        except GraphError as error:
            raise refusal(node, str(error)) from error
        if isinstance(node.meta["val"], Tensor):
            self._check(node, value)
        self.values[node.name] = value

    def _check(self, node: fx.Node, value: Value) -> None:
        """What holds for every operation: the value has the shape and type that were traced."""
        traced = node.meta["val"]
        if tuple(traced.shape[1:]) != value.seen or not statically_known_true(traced.shape[0] == self.batch):
            raise refusal(
                node,
                f"it gives a tensor of shape {tuple(traced.shape)}, in which an image is not of shape {value.seen}",
            )
        kept = traced.dtype.is_floating_point
        if not kept or torch.finfo(traced.dtype).bits < torch.finfo(self.source.dtype).bits:
            raise refusal(node, f"it makes {traced.dtype} of numbers of type {self.source.dtype}, which changes them")

    def _fold(self, node: fx.Node) -> None:
        """Compute what depends on parameters alone, as the network does."""
        known = all(a.name in self.constants for a in node.all_input_nodes)
        traced = node.meta.get("val")
        small = (
            isinstance(traced, Tensor)
            and all(isinstance(n, int) for n in traced.shape)
            and traced.numel() < _MOST_FOLDED
        )
        if known and small and isinstance(node.target, torch._ops.OpOverload) and not _is_random(node.target):
            args, kwargs = fx.map_arg((node.args, node.kwargs), lambda a: self.constants[a.name])
            with torch.no_grad():
                self.constants[node.name] = node.target(*args, **kwargs)

    def value(self, node: fx.Node, argument: Any) -> Value:
        """The value of an argument, which must come from the network's input."""
        if not isinstance(argument, fx.Node) or argument.name not in self.values:
            raise refusal(node, "it joins the network with something that does not come from its input")
        value = self.values[argument.name]
        if value.window is not None and node.target is not QCFS and node.target not in _TRANSPARENT:
            raise refusal(
                node,
                "it stands between a max-pooling and its QCFS activation; put the QCFS directly behind the pooling",
            )
        return value

    def constant(self, node: fx.Node, argument: Any) -> Array:
        """A parameter, a buffer or a number, as float64."""
        if isinstance(argument, (int, float, np.ndarray)):
            array = np.asarray(argument, np.float64)
        elif isinstance(argument, fx.Node) and argument.name in self.constants:
            array = torch.as_tensor(self.constants[argument.name]).detach().to(torch.float64).numpy()
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

    def channelwise(self, node: fx.Node, argument: Any, value: Value) -> Array:
        """As :meth:`spread`, for a constant that is the same at all pixels of a channel."""
        array = self.spread(node, argument, value)
        if math.prod(array.shape[1:]) > 1:
            raise refusal(
                node,
                f"by torch's rules, a constant of shape {self.constant(node, argument).shape} differs from "
                f"pixel to pixel of a value of shape {value.seen}; "
                f"one number for each channel has shape ({value.shape[0]}, 1, 1)",
            )
        return array

    # -- populations -------------------------------------------------------------------------------

    def _input(self, node: fx.Node) -> None:
        shape = self.source.input_shape
        self.batch = node.meta["val"].shape[0]
        if len(shape) not in (1, 3):
            raise ConversionError(
                f"the input must have shape (N, C, H, W) or (N, F), not (N, {', '.join(map(str, shape))})"
            )
        self._add(Population("input", "analog", shape, levels=0))
        self.values[node.name] = _source_value("input", shape, np.ones(()))

    def _max(self, node: fx.Node, value: Value, window: SumPool2d) -> Value:
        (term,) = value.terms
        amplitude = np.asarray(term.operator.weight)
        taken = {p.name for p in self.populations} | set(self.source.functional_names.values())
        source = next(p for p in self.populations if p.name == term.source)
        shape = window.output_shape(value.shape)
        name = population_name(node, taken)
        if node.target is QCFS:
            name = self.source.functional_names[node.name]
        self._add(Population(name, "max", shape, source.levels, np.sign(amplitude), np.zeros(())))
        self.projections.append(Projection(term.source, name, Identity(np.ones((1,) * len(shape))), window))
        return _source_value(name, shape, amplitude)

    def _output(self, node: fx.Node) -> None:
        outputs = self.source.functional.graph_signature.user_outputs
        given: Any = node.args[0]
        results = {r.name: r for r in given if isinstance(r, fx.Node)}
        for number, name in enumerate(outputs, 1):
            if name not in results:
                raise ConversionError(f"the network returns {name!r}, which is no tensor")
            value = self.value(node, results[name])
            if value.window is not None:
                raise ConversionError("the network ends in a max-pooling without a QCFS activation behind it")
            taken = {p.name for p in self.populations}
            title = "output" if number == 1 else next(n for n in _numbered(number) if n not in taken)
            self._close(value, Population(title, "readout", value.shape))

    def _close(self, value: Value, population: Population) -> None:
        """Add a population that receives ``value``.

        Average pooling's divisor moves into the threshold.
        """
        divisor = math.lcm(*(term.divisor for term in value.terms))
        for term in value.terms:
            factor = divisor // term.divisor
            scaled = term.operator.with_weight(term.operator.weight * factor)
            self.projections.append(Projection(term.source, population.name, scaled, term.pool))
        self._add(replace(population, threshold=population.threshold * divisor, bias=value.bias * divisor))

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

    # -- linear operations -------------------------------------------------------------------------

    def map(self, node: fx.Node, value: Value, operator: Operator, bias: Array | None = None) -> Value:
        """The value behind an operator, with a bias of one number for each of its channels.

        Raises:
            ConversionError: the operator and what stands in front of it do not form one operator.
        """
        terms = tuple(replace(term, operator=self._joined(node, term, operator, value.shape)) for term in value.terms)
        shape = operator.output_shape(value.shape)
        carried = operator.carried(value.bias, value.shape)
        own = 0.0 if bias is None else _column(bias, shape)
        return replace(value, terms=terms, bias=canonical(carried + own, shape, "bias"), shape=shape)

    def _joined(self, node: fx.Node, term: Term, operator: Operator, shape: Shape) -> Operator:
        source = self.shapes[term.source]
        inner = term.pool.output_shape(source) if term.pool else source
        first = _uniform(node, term.operator) if operator.shares_weights else term.operator
        found = operator.after(first, shape, inner)
        if found is None:
            raise refusal(
                node,
                f"{first.name} and {operator.name} in a row without a QCFS between them do not form one operation "
                "(their borders, strides or groups differ)",
            )
        return found

    def _then_pool(self, node: fx.Node, term: Term, pool: SumPool2d) -> Term:
        found = _uniform(node, term.operator).pooled(term.pool, pool)
        if found is None:
            raise refusal(
                node, "this pooling cannot be joined with the linear operation in front of it; put a QCFS between them"
            )
        return replace(term, operator=found[0], pool=found[1])

    def _is_value(self, argument: Any) -> bool:
        return isinstance(argument, fx.Node) and argument.name in self.values

    def _operand(self, node: fx.Node, argument: Any, like: Value) -> Value:
        """What an addition adds: a value, or a constant as a value without terms."""
        if self._is_value(argument):
            return self.value(node, argument)
        return replace(like, terms=(), bias=self.channelwise(node, argument, like))

    def _no_padded_bias(self, node: fx.Node, value: Value, padding: Pair) -> None:
        if padding != (0, 0) and np.any(value.bias):
            raise refusal(
                node,
                (
                    "it pads a value that has a bias (a normalization or a bias without QCFS behind it), "
                    "which differs at the borders"
                ),
            )


def _numbered(number: int) -> Iterator[str]:
    """Names for an output behind the first."""
    return (f"output_{number}" + "_" * more for more in itertools.count())


def _source_value(name: str, shape: Shape, amplitude: Array) -> Value:
    return Value((Term(name, Identity(_column(amplitude, shape))),), np.zeros((1,) * len(shape)), shape)


def _scale(value: Value, scale: Array, shift: Array | float = 0.0) -> Value:
    """The value scaled and shifted, by arrays with one number per channel."""
    terms = tuple(replace(term, operator=term.operator.scale_output(scale)) for term in value.terms)
    return replace(value, terms=terms, bias=value.bias * scale + shift)


def _uniform(node: fx.Node, first: Operator) -> Operator:
    """The operator, if its amplitude does not differ within a channel."""
    if not first.uniform:
        raise refusal(node, "the amplitude of the spikes that it receives differs from pixel to pixel")
    return first


def _is_random(target: torch._ops.OpOverload) -> bool:
    return torch.Tag.nondeterministic_seeded in target.tags


def _join(a: Term, b: Term) -> Term | None:
    """The sum of two linear maps as one.

    None where they come from different populations, or have different geometries.
    """
    pools = [None if t.pool is None else vars(t.pool) for t in (a, b)]
    if a.source != b.source or pools[0] != pools[1]:
        return None
    common = math.lcm(a.divisor, b.divisor)
    x, y = (t.operator.with_weight(t.operator.weight * (common // t.divisor)) for t in (a, b))
    joined = x.plus(y)
    return None if joined is None else replace(a, operator=joined, divisor=common)


def _pool(node: fx.Node, value: Value, kernel: Any, stride: Any, padding: Any, ceil_mode: bool) -> SumPool2d:
    pool = SumPool2d(_pair(kernel), _pair(stride) if len(stride) else _pair(kernel), _pair(padding))
    if len(value.shape) != 3 or value.flat:
        raise refusal(node, f"it pools a value of shape {value.shape}, which has no height and width")
    if ceil_mode and pool.output_shape(value.shape) != tuple(node.meta["val"].shape[1:]):
        raise refusal(node, "ceil_mode gives windows that hang over the border; use padding instead")
    return pool


def _column(array: Array, shape: Shape) -> Array:
    """Numbers per channel, shaped to broadcast against ``shape``."""
    array = np.asarray(array, np.float64)
    if array.ndim == len(shape):
        return array
    return array.reshape(-1, *(1,) * (len(shape) - 1))


def _pair(value: Any) -> Pair:
    first, *rest = (value, value) if isinstance(value, int) else tuple(value)
    return (int(first), int(rest[0] if rest else first))


def _operation(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.op)).split(".")[0]


def refusal(node: fx.Node, reason: str) -> ConversionError:
    """The error that names a node of the traced network, and says why it has no spiking form."""
    return ConversionError(f"{location(node)}: {_operation(node)} cannot be converted: {reason}")


_TRANSPARENT = {*COPIES, *DROPOUTS}
"""What may stand between a max-pooling and its QCFS activation."""

_REASONS = {
    "relu": (
        "ReLU is not QCFS; pascal_nm.to_qcfs(module, levels) replaces nn.ReLU modules: "
        "make this one such a module, used once"
    ),
    "relu_": (
        "ReLU is not QCFS; pascal_nm.to_qcfs(module, levels) replaces nn.ReLU modules: "
        "make this one such a module, used once"
    ),
    "cat": "populations are not concatenated",
    "softmax": "leave it out: the largest logit is the answer with and without it",
    "log_softmax": "leave it out: the largest logit is the answer with and without it",
    "layer_norm": "it normalizes with statistics of its input, which is not linear",
    "group_norm": "it normalizes with statistics of its input, which is not linear",
}


_HANDLERS: dict[Any, Callable[..., Value]] = {}
"""What is made of an operation, by its overload."""


def register(*targets: Any) -> Callable[[Callable[..., Value]], Callable[..., Value]]:
    """A decorator: what the function makes of these operations of a traced network.

    Args:
        *targets: overloads of torch's operators, like ``torch.ops.aten.roll.default``.

    The function takes the :class:`Converter`, the node and the operation's own arguments, and gives
    the node's value: :meth:`Converter.value` is that of an argument, :meth:`Converter.map` that
    behind an operator.
    """

    def add(function: Callable[..., Value]) -> Callable[..., Value]:
        _HANDLERS.update(dict.fromkeys(targets, function))
        return function

    return add


@register(QCFS)
def _qcfs(converter: Converter, node: fx.Node, x: Any, threshold: Any, levels: int) -> Value:
    value = converter.value(node, x)
    if not 1 <= levels <= MAX_LEVELS:
        raise refusal(node, f"its levels must be 1 to {MAX_LEVELS:,}, not {levels:,}")
    each = converter.spread if value.window is None else converter.channelwise
    step = each(node, threshold, value) / levels
    if np.any(np.abs(step) < torch.finfo(converter.source.dtype).tiny):
        raise refusal(node, f"its threshold is zero, or too small for numbers of type {converter.source.dtype}")
    # A negative threshold is the same neuron with negated inputs, |threshold|, and spikes of
    # negative amplitude. Where the network pools first, the level that it sees is the max
    # population's: that one takes the name.
    name, sign = converter.source.functional_names[node.name], np.sign(step)
    if value.window is not None:
        name = f"{name}_unpooled"
    positive = value
    if np.any(sign < 0):
        if math.prod(sign.shape[1:]) > 1:
            raise refusal(node, "the sign of its threshold differs from pixel to pixel")
        positive = _scale(value, sign)
    converter._close(positive, Population(name, "pasc", value.shape, levels, np.abs(step)))
    result = replace(_source_value(name, value.shape, step), flat=value.flat)
    return result if value.window is None else converter._max(node, result, value.window)


@register(aten.conv2d.default, aten.conv2d.padding)
def _conv2d(
    converter: Converter,
    node: fx.Node,
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = (1, 1),
    padding: Any = (0, 0),
    dilation: Any = (1, 1),
    groups: int = 1,
) -> Value:
    value, w = converter.value(node, x), converter.constant(node, weight)
    if isinstance(padding, str):
        total = [d * (k - 1) for d, k in zip(_pair(dilation), w.shape[2:], strict=True)]
        if padding == "same" and any(n % 2 for n in total):
            raise refusal(node, "its padding 'same' is one-sided; use an odd kernel or an explicit padding")
        padding = [0, 0] if padding == "valid" else [n // 2 for n in total]
    conv = Conv2d(w, _pair(stride), _pair(padding), _pair(dilation), groups)
    converter._no_padded_bias(node, value, conv.padding)
    return converter.map(node, value, conv, None if bias is None else converter.constant(node, bias))


@register(aten.linear.default)
def _linear(converter: Converter, node: fx.Node, x: Any, weight: Any, bias: Any = None) -> Value:
    value, w = converter.value(node, x), converter.constant(node, weight)
    if not value.flat and len(value.shape) == 3:
        raise refusal(node, f"it is applied to each row of an input of shape {value.shape}; flatten it first")
    mapped = converter.map(node, value, Dense(w), None if bias is None else converter.constant(node, bias))
    return replace(mapped, flat=False)


@register(aten.avg_pool2d.default)
def _avg_pool2d(
    converter: Converter,
    node: fx.Node,
    x: Any,
    kernel: Any,
    stride: Any = (),
    padding: Any = (0, 0),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
) -> Value:
    value = converter.value(node, x)
    pool = _pool(node, value, kernel, stride, padding, ceil_mode)
    if pool.padding != (0, 0) and not count_include_pad:
        raise refusal(node, "its divisor differs at the borders; use count_include_pad=True")
    converter._no_padded_bias(node, value, pool.padding)
    count = divisor or math.prod(pool.kernel)
    terms = tuple(replace(converter._then_pool(node, t, pool), divisor=t.divisor * count) for t in value.terms)
    bias = value.bias * (math.prod(pool.kernel) / count)
    return replace(value, terms=terms, bias=bias, shape=pool.output_shape(value.shape))


@register(aten.adaptive_avg_pool2d.default)
def _adaptive_avg_pool2d(converter: Converter, node: fx.Node, x: Any, size: Any) -> Value:
    value = converter.value(node, x)
    target = tuple(n or s for n, s in zip(_pair(size), value.shape[1:], strict=True))
    if any(s % n for n, s in zip(target, value.shape[1:], strict=True)):
        raise refusal(node, f"an output of {target} does not divide its input of {value.shape[1:]}")
    return _avg_pool2d(converter, node, x, [s // n for n, s in zip(target, value.shape[1:], strict=True)])


@register(aten.mean.dim)
def _mean(converter: Converter, node: fx.Node, x: Any, dim: Any, keepdim: bool = False, dtype: Any = None) -> Value:
    value = converter.value(node, x)
    if len(value.shape) != 3 or sorted(d % 4 for d in dim) != [2, 3]:
        raise refusal(node, "only the mean over height and width can be converted")
    return replace(_avg_pool2d(converter, node, x, value.shape[1:]), flat=not keepdim)


@register(aten.max_pool2d.default)
def _max_pool2d(
    converter: Converter,
    node: fx.Node,
    x: Any,
    kernel: Any,
    stride: Any = (),
    padding: Any = (0, 0),
    dilation: Any = (1, 1),
    ceil_mode: bool = False,
) -> Value:
    value = converter.value(node, x)
    if _pair(dilation) != (1, 1):
        raise refusal(node, "dilated max-pooling is not converted")
    window = _pool(node, value, kernel, stride, padding, ceil_mode)
    sending = {p.name for p in converter.populations if p.dynamics.counted}
    sources = [t for t in value.terms if t.operator.passes and t.pool is None and t.source in sending]
    if len(value.terms) == len(sources) == 1 and not np.any(value.bias) and np.all(sources[0].operator.weight):
        _uniform(node, sources[0].operator)
        return converter._max(node, value, window)
    return replace(value, window=window)


@register(aten.batch_norm.default)
def _batch_norm(
    converter: Converter,
    node: fx.Node,
    x: Any,
    weight: Any,
    bias: Any,
    mean: Any,
    variance: Any,
    training: bool,
    momentum: float,
    eps: float,
    _: bool = False,
) -> Value:
    if training or mean is None:
        raise refusal(node, "it normalizes with the statistics of the batch; export the network in evaluation mode")
    value = converter.value(node, x)
    scale = 1 / np.sqrt(converter.constant(node, variance) + eps)
    if weight is not None:
        scale = scale * converter.constant(node, weight)
    shift = -converter.constant(node, mean) * scale + (0.0 if bias is None else converter.constant(node, bias))
    column = (-1, *(1,) * (len(value.seen) - 1))
    return _scale(
        value,
        converter.channelwise(node, scale.reshape(column), value),
        converter.channelwise(node, shift.reshape(column), value),
    )


@register(aten._native_batch_norm_legit_no_training.default)
def _normalization(
    converter: Converter,
    node: fx.Node,
    x: Any,
    weight: Any,
    bias: Any,
    mean: Any,
    variance: Any,
    momentum: float,
    eps: float,
) -> Value:
    """Batch normalization in evaluation mode, in a program without in-place operations.

    It is the first of three results.
    """
    return _batch_norm(converter, node, x, weight, bias, mean, variance, False, momentum, eps)


@register(getitem)
def _getitem(converter: Converter, node: fx.Node, x: Any, index: int) -> Value:
    if index != 0:
        raise refusal(node, "it takes a second result of an operation")
    return converter.value(node, x)


@register(aten.add.Tensor)
def _add(converter: Converter, node: fx.Node, x: Any, y: Any, alpha: Any = 1) -> Value:
    like = converter.value(node, x if converter._is_value(x) else y)
    a, b = converter._operand(node, x, like), converter._operand(node, y, like)
    b = _scale(b, converter.channelwise(node, alpha, like))
    if a.shape != b.shape or a.flat != b.flat:
        raise refusal(node, f"it adds values of different shapes: {a.seen} and {b.seen}")
    terms = list(a.terms)
    for term in b.terms:
        for i, other in enumerate(terms):
            if (sum_of := _join(other, term)) is not None:
                terms[i] = sum_of
                break
        else:
            terms.append(term)
    return replace(a, terms=tuple(terms), bias=a.bias + b.bias)


@register(aten.sub.Tensor)
def _sub(converter: Converter, node: fx.Node, x: Any, y: Any, alpha: Any = 1) -> Value:
    return _add(converter, node, x, y, -converter.constant(node, alpha))


@register(aten.rsub.Scalar, aten.rsub.Tensor)
def _rsub(converter: Converter, node: fx.Node, x: Any, y: Any, alpha: Any = 1) -> Value:
    return _sub(converter, node, y, x, alpha)


@register(aten.neg.default)
def _neg(converter: Converter, node: fx.Node, x: Any) -> Value:
    return _mul(converter, node, x, -1)


@register(aten.mul.Tensor)
def _mul(converter: Converter, node: fx.Node, x: Any, y: Any) -> Value:
    if converter._is_value(x) and converter._is_value(y):
        raise refusal(node, "the product of two activations is not linear")
    value, factor = (converter.value(node, x), y) if converter._is_value(x) else (converter.value(node, y), x)
    return _scale(value, converter.channelwise(node, factor, value))


@register(aten.div.Tensor)
def _div(converter: Converter, node: fx.Node, x: Any, y: Any) -> Value:
    if converter._is_value(y):
        raise refusal(node, "a quotient with an activation below is not linear")
    value = converter.value(node, x)
    divisor = converter.channelwise(node, y, value)
    if np.any(divisor == 0):
        raise refusal(node, "it divides by zero")
    return _scale(value, 1 / divisor)


@register(aten.flatten.using_ints, aten.view.default, aten.reshape.default, aten.squeeze.default, aten.squeeze.dims)
def _reshape(converter: Converter, node: fx.Node, x: Any, *_: Any, **__: Any) -> Value:
    """Every operation that keeps the order of an image's numbers, flattened and back, too."""
    value = converter.value(node, x)
    shape = tuple(node.meta["val"].shape[1:])
    if shape in (value.shape, (math.prod(value.shape),)):
        return replace(value, flat=shape != value.shape)
    raise refusal(node, f"it reshapes {value.seen} to {shape}; only flattening to a vector is converted")


@register(*DROPOUTS)
def _dropout(converter: Converter, node: fx.Node, x: Any, *_: Any) -> Value:
    if drops(node):
        raise refusal(
            node,
            "it drops values at random: export in evaluation mode (model.eval()), and give functional.dropout its "
            "training=converter.training",
        )
    return converter.value(node, x)


@register(*COPIES)
def _same(converter: Converter, node: fx.Node, x: Any, *_: Any, **__: Any) -> Value:
    return converter.value(node, x)
