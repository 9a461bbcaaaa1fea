"""The source network as ``torch.export`` sees it.

It is the one way in, and the truth that spikes are compared with.
"""

from __future__ import annotations

import copy
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.utils._pytree import tree_leaves, tree_unflatten
from torch.utils._sympy.value_ranges import bound_sympy

from pascal_nm.common.arrays import Array
from pascal_nm.errors import ConversionError, first_line
from pascal_nm.network.graph import merges
from pascal_nm.source.activations import unwrapped
from pascal_nm.source.qcfs import step_of  # importing it registers the operator

aten = torch.ops.aten
QCFS = torch.ops.pascal_nm.qcfs.default

DROPOUTS = (
    aten.dropout.default,
    aten.dropout_.default,
    aten.feature_dropout.default,
    aten.feature_dropout_.default,
    aten.alpha_dropout.default,
    aten.alpha_dropout_.default,
    aten.feature_alpha_dropout.default,
    aten.feature_alpha_dropout_.default,
)

COPIES = (
    aten.alias.default,
    aten.clone.default,
    aten.contiguous.default,
    aten.detach.default,
    aten.lift_fresh_copy.default,
    aten.to.dtype,
    aten.to.dtype_layout,
    aten.to.device,
    aten.type_as.default,
    aten._to_copy.default,
)
"""Operations that give their input; its type may change."""


@contextmanager
def guarded() -> Iterator[None]:
    """What a traced program says of a number of images for which it was not traced.

    Gives it as an error of this package.
    """
    try:
        yield
    except AssertionError as error:
        raise ConversionError(f"the network was traced for other numbers of images: {first_line(error)}") from error


class SourceNetwork:
    """A traced QCFS network, with a name for each of its QCFS activations.

    Args:
        module: the user's network (taken in evaluation mode, as a copy), or an exported program.
        example: an input of shape (N, *input shape) with any N, of several inputs one of each; not
            needed for an exported program.

    Raises:
        ConversionError: torch cannot trace the network, or it was exported in a way
            that cannot be used.

    Attributes:
        program: the exported program.
        functional: the same program without in-place operations, for whoever follows
            values through it.
        names: population name of each QCFS node of ``program``, by node name, in
            order of execution.
        functional_names: the same of ``functional``.
        input_shapes: of each input.
        input_shape: of one sample: the input's, or of several inputs all their numbers, (F,).
        left_out: what stood behind the outputs and changes no answer: softmax, sigmoid, argmax.
        dtype: of inputs.
        batch: how many inputs a program takes at once; None: any number.
    """

    def __init__(self, module: nn.Module | ExportedProgram, example: Tensor | Sequence[Tensor] | None = None) -> None:
        exported = module if isinstance(module, ExportedProgram) else _export(module, example)
        self.program, self.left_out = _without_heads(exported)
        self.names = _names(self.program.graph)
        inner = [part for part in self.program.graph_module.modules() if isinstance(part, fx.GraphModule)][1:]
        if any(_qcfs_nodes(part.graph) for part in inner):
            raise ConversionError(
                "a QCFS activation stands in a region of its own of the network's forward (torch.no_grad, "
                "torch.autocast or torch.cond), which cannot be followed: move that out of forward"
            )
        if not self.names:
            raise ConversionError(
                "the network has no QCFS activation: convert(network, levels=8, calibration=data) puts one in the "
                "place of each ReLU (to train it first: pascal_nm.to_qcfs)"
            )
        self.module = self.program.module()
        shapes, self.dtype = _inputs(self.program)
        images = shapes[0][0]
        self.input_shapes: tuple[tuple[int, ...], ...] = tuple(tuple(int(n) for n in shape[1:]) for shape in shapes)
        sizes = [math.prod(shape) for shape in self.input_shapes]
        self.input_shape = self.input_shapes[0] if len(sizes) == 1 else (sum(sizes),)
        self.batch = images if isinstance(images, int) else None
        self._most = _most(self.program, images)
        if self._most == 0:
            raise ConversionError("the program takes no images: it was exported with an empty batch")
        if self._most is not None and exported is not module:
            raise ConversionError(
                "the network's answers depend on the number of images that it is given: "
                f"torch could trace it for {self._most} at most"
            )
        self.functional = _functional(self.program)
        self.functional_names = _matched(self.program.graph, self.functional.graph, self.names)

    @torch.no_grad()
    @guarded()
    def __call__(self, inputs: Array | Tensor) -> Array:
        """Outputs of shape (N, outputs) for inputs of shape (N, *input shape).

        Several stand side by side, as the logits of :class:`pascal_nm.RunResult` do.
        """
        outputs = []
        for x, n in self.batches(inputs):
            args, kwargs = tree_unflatten(self.split(x), self.program.call_spec.in_spec)
            outputs.append(logits(self.module(*args, **kwargs))[:n])
        return np.concatenate(outputs)

    @torch.no_grad()
    @guarded()
    def levels(self, inputs: Array | Tensor) -> tuple[Array, Mapping[str, Array]]:
        """Logits, and by population name the level (0 to L) of each QCFS neuron, (N, *shape)."""
        outputs, levels = [], []
        for x, n in self.batches(inputs):
            recorder = _Recorder(self.module, self.names)
            outputs.append(logits(recorder.run(*self.split(x)))[:n])
            levels.append({name: level[:n] for name, level in recorder.levels.items()})
        return np.concatenate(outputs), {name: np.concatenate([part[name] for part in levels]) for name in levels[0]}

    def split(self, x: Tensor) -> list[Tensor]:
        """The network's inputs, (N, *shape) each; several stand side by side in ``x``."""
        if len(self.input_shapes) == 1:
            return [x]
        parts = torch.split(x, [math.prod(shape) for shape in self.input_shapes], 1)
        return [part.reshape(len(x), *shape) for part, shape in zip(parts, self.input_shapes, strict=True)]

    def batches(self, inputs: Array | Tensor, dtype: torch.dtype | None = None) -> Iterator[tuple[Tensor, int]]:
        """Inputs in the batches that the program takes, with the number of images in each.

        They are copies, since a network may work in place on its input. A program for a fixed
        number of images gets the last image again and again where there are not enough; and one for
        any number, a single image twice: torch traced it with two, and what it took for granted (in
        ``squeeze`` for one) may not hold for one. Inputs of the shape of the graph, whose axes may
        be merged, get back that of the network.
        """
        x = torch.as_tensor(inputs).to(dtype or self.dtype, copy=True)
        if merges(tuple(x.shape[1:]), self.input_shape) or merges(self.input_shape, tuple(x.shape[1:])):
            x = x.reshape(len(x), *self.input_shape)
        for part in torch.split(x, min(self._most, max(len(x), 1))) if self._most else [x]:
            missing = max(0, (self.batch or 2 * min(len(part), 1)) - len(part))
            yield torch.cat([part, part[-1:].expand(missing, *part.shape[1:])]) if missing else part, len(part)


class _Recorder(fx.Interpreter):
    """Runs the traced network and keeps the level of every QCFS node."""

    def __init__(self, module: fx.GraphModule, names: Mapping[str, str]) -> None:
        super().__init__(module)
        self._names = names
        self.levels: dict[str, Array] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run one node; note the level of a QCFS node."""
        result = super().run_node(n)
        if n.target is QCFS:
            _, threshold, levels = self.fetch_args_kwargs_from_env(n)[0]
            self.levels[self._names[n.name]] = (
                (result / step_of(result, threshold, levels)).round_().to(torch.int32).numpy()
            )
        return result


def logits(output: Any) -> Array:
    """The outputs of a program side by side, (N, outputs); of 32 bits where torch has fewer."""
    given = [tensor for tensor in tree_leaves(output) if tensor is not None]
    each = [t.reshape(len(t), -1).to(torch.promote_types(t.dtype, torch.float32)) for t in given]
    return np.asarray(torch.cat(each, 1).numpy())


def constants(program: ExportedProgram) -> dict[str, Tensor]:
    """Parameters, buffers and constants of a program, by the name of their placeholder."""
    signature = program.graph_signature
    by_input = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    tensors = {**program.state_dict, **program.constants}
    return {node: tensors[name] for node, name in by_input.items() if name in tensors}


def location(node: fx.Node) -> str:
    """Where a node stands in the user's network: the path and class of a module.

    At the top it is the operator's name.
    """
    path, kind = _module(node)
    return f"module {path!r} ({kind})" if path else f"the network's own forward ({node.name})"


def population_name(node: fx.Node, taken: Mapping[str, str] | set[str]) -> str:
    """A unique identifier made of the module's path: ``layer1.0.act`` gives ``layer1_0_act``."""
    path = _module(node)[0] or node.name
    name = re.sub(r"\W+", "_", path).strip("_")
    name = name if name.isidentifier() else f"{node.name.rstrip('_0123456789')}_{name}"
    count, unique = 1, name
    while unique in taken or unique in ("input", "output"):
        count += 1
        unique = f"{name}_{count}"
    return unique


def _module(node: fx.Node) -> tuple[str, str]:
    stack = node.meta.get("nn_module_stack") or {}
    path, kind = next(reversed(stack.values()), ("", ""))
    if path.startswith("_empty_nn_module_stack"):  # torch's word for none
        path, kind = "", ""
    return str(path), (kind if isinstance(kind, str) else kind.__name__).rsplit(".", 1)[-1]


def _names(graph: fx.Graph) -> dict[str, str]:
    names: dict[str, str] = {}
    for node in _qcfs_nodes(graph):
        names[node.name] = population_name(node, set(names.values()))
    return names


def _qcfs_nodes(graph: fx.Graph) -> list[fx.Node]:
    return [node for node in graph.nodes if node.target is QCFS]


def _functional(program: ExportedProgram) -> ExportedProgram:
    """The program without in-place operations.

    What they change through an alias is written out by torch itself.
    """
    if not any(
        isinstance(n.target, torch._ops.OpOverload) and n.target._schema.is_mutable for n in program.graph.nodes
    ):
        return program
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        module = copy.deepcopy(program.graph_module)
    program = copy.copy(program)
    program._graph_module = module
    # An inactive dropout returns its own input. Torch's functional form takes a copy in its place,
    # which would hide what is done to the one from the other.
    for node in program.graph.nodes:
        if node.target in DROPOUTS and not drops(node):
            node.target, node.args = aten.alias.default, node.args[:1]
    program.graph_module.recompile()
    try:
        with warnings.catch_warnings():  # torch warns of its own copies
            warnings.simplefilter("ignore", FutureWarning)
            functional: ExportedProgram = program.run_decompositions({})
    except Exception as error:  # torch raises many types for in-place operations that it cannot write out
        raise ConversionError(f"the network's in-place operations cannot be followed: {first_line(error)}") from error
    return functional


def drops(node: fx.Node) -> bool:
    """Whether a dropout is active: it has a probability, and was traced in training mode."""
    _, probability, training = node.args
    return bool(training is not False and probability != 0)


def _matched(graph: fx.Graph, functional: fx.Graph, names: Mapping[str, str]) -> dict[str, str]:
    """The names of the QCFS nodes of the functional graph.

    They are the same nodes in the same order, less those without a use.
    """
    found: dict[str, str] = {}
    nodes = iter(_qcfs_nodes(graph))
    for node in _qcfs_nodes(functional):
        twin = next((n for n in nodes if _module(n) == _module(node) and n.args[2:] == node.args[2:]), None)
        if twin is None:
            raise ConversionError(f"{location(node)}: the network's in-place operations cannot be followed here")
        found[node.name] = names[twin.name]
    return found


def _most(program: ExportedProgram, images: int | torch.SymInt) -> int | None:
    """The most images that a program takes; None: any number."""
    if isinstance(images, int):
        return images
    upper = bound_sympy(images.node.expr, program.range_constraints).upper
    return max(0, int(upper)) if upper.is_Integer else None


def _inputs(program: ExportedProgram) -> tuple[list[Any], torch.dtype]:
    """Shapes of a program's inputs, with the number of images in front, and their type."""
    names = program.graph_signature.user_inputs
    given = [n.meta["val"] for n in program.graph.nodes if n.op == "placeholder" and n.name in names]
    if len(given) != len(names) or not given or not all(isinstance(v, Tensor) and v.ndim > 0 for v in given):
        raise ConversionError(f"the network takes {len(names)} inputs, of which some are no tensors of images")
    types = {v.dtype for v in given}
    if len(types) > 1 or not (dtype := types.pop()).is_floating_point:
        kinds = " and ".join(sorted(str(v.dtype) for v in given))
        raise ConversionError(
            f"the network's input is of type {kinds}: give an example of a floating type; what the network "
            "does to make it one then changes nothing"
        )
    if len({str(v.shape[0]) for v in given}) > 1:
        raise ConversionError("the network's inputs are not of the same number of images")
    return [v.shape for v in given], dtype


_HEADS = (
    aten.softmax.int,
    aten._softmax.default,
    aten.log_softmax.int,
    aten._log_softmax.default,
    aten.sigmoid.default,
    aten.sigmoid_.default,
    aten.argmax.default,
)
"""What may stand behind an output: the largest logit is the answer with and without it."""

_RESHAPED = (
    aten.flatten.using_ints,
    aten.permute.default,
    aten.reshape.default,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.transpose.int,
    aten.unsqueeze.default,
    aten.view.default,
)
"""What may stand behind that."""


def _without_heads(program: ExportedProgram) -> tuple[ExportedProgram, tuple[str, ...]]:
    """The program without what changes no answer behind its outputs, and what that is."""
    heads = {head.name for node in program.graph.output_node().all_input_nodes for head in _heads(node)}
    if not heads:
        return program, ()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        module = copy.deepcopy(program.graph_module)
    signature = copy.deepcopy(program.graph_signature)
    copies = dict(zip((n.name for n in program.graph.nodes), module.graph.nodes, strict=True))  # some are renamed
    said = tuple(f"{_name(copies[name])} of {location(copies[name])}" for name in sorted(heads))
    fronts = {copies[name]: copies[name].all_input_nodes[0] for name in heads}
    for head in reversed([node for node in module.graph.nodes if node in fronts]):
        head.replace_all_uses_with(fronts[head])
    program = copy.copy(program)
    program._graph_module, program._graph_signature = module, signature
    for spec in (*signature.input_specs, *signature.output_specs):
        if (name := getattr(spec.arg, "name", None)) in copies:
            node = copies[name]
            while node in fronts:
                node = fronts[node]
            spec.arg.name = node.name
    module.graph.eliminate_dead_code()
    module.recompile()
    return program, said


def _heads(node: fx.Node) -> Iterator[fx.Node]:
    """What is left out behind an output, from the back."""
    shaped = False
    while node.op == "call_function" and len(node.users) == 1 and node.target in (*_HEADS, *COPIES, *_RESHAPED):
        if node.target in _HEADS:
            if _over_images(node) or (shaped and node.target is aten.argmax.default):
                return
            yield node
        shaped |= node.target in _RESHAPED
        node = node.all_input_nodes[0]


def _over_images(node: fx.Node) -> bool:
    """Whether softmax or argmax compares numbers of different images, which changes answers."""
    if len(node.args) < 2 and node.target is not aten.argmax.default:
        return False
    dim: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    sizes = node.all_input_nodes[0].meta["val"].shape
    if dim is None:
        return True
    images = next((axis for axis, n in enumerate(sizes) if not isinstance(n, int)), 0)
    return bool(dim % len(sizes) == images)


def _name(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.op)).split(".")[0].strip("_")


def _export(module: nn.Module, example: Tensor | Sequence[Tensor] | None) -> ExportedProgram:
    if example is None:
        raise ConversionError("an example input is needed: convert(module, torch.zeros(1, *input_shape))")
    if not isinstance(module, nn.Module):
        raise ConversionError(f"a torch.nn.Module or an exported program is needed, not a {type(module).__name__}")
    given: list[Tensor] = list(example) if isinstance(example, tuple | list) else [example]  # type: ignore[list-item]
    for each in given:
        if not isinstance(each, Tensor):
            raise ConversionError(f"the example input must be a torch tensor, not a {type(each).__name__}")
        if each.ndim < 2 or len(each) == 0:
            raise ConversionError(f"the example input must have shape (N, *input shape), not {tuple(each.shape)}")
    shapes: Any = torch.export.ShapesCollection()  # type: ignore[no-untyped-call]
    images = torch.export.Dim.DYNAMIC if len(given) == 1 else torch.export.Dim("images")
    try:
        batches = tuple(each[:1].repeat(2, *(1,) * (each.ndim - 1)) for each in given)
        for batch in batches:
            shapes[batch] = {0: images}
        return torch.export.export(unwrapped(module).eval(), batches, dynamic_shapes=shapes)
    except Exception as error:  # torch.export raises many types for code that it cannot trace
        reason = first_line(error)
        if "Constraints violated" in reason:
            reason = (
                "it does not run for any number of images: its forward makes a fixed number of theirs, as len(x) does"
            )
        shapes_of = " and ".join(str(tuple(each.shape)) for each in given)
        raise ConversionError(
            f"torch.export cannot trace the network with an input of shape {shapes_of}: {reason}"
        ) from error
