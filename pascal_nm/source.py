"""The source network as ``torch.export`` sees it: the one way in, and the truth that spikes are compared with."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from pascal_nm.errors import ConversionError, first_line
from pascal_nm.graph import Array
from pascal_nm.qcfs import qcfs as _registered  # noqa: F401  # importing it registers the operator

QCFS = torch.ops.pascal_nm.qcfs.default


class SourceNetwork:
    """A traced QCFS network, with a name for each of its QCFS activations.

    Args:
        module: the user's network (taken in evaluation mode, as a copy), or an exported program.
        example: an input of shape (N, *input shape) with any N; not needed for an exported program.

    Raises:
        ConversionError: torch cannot trace the network, or it was exported in a way that cannot be used.

    Attributes:
        program: the exported program.
        names: population name of each QCFS node, by node name, in order of execution.
        input_shape: of one input.
        dtype: of inputs.
        batch: how many inputs a program takes at once; None: any number.
    """

    def __init__(self, module: nn.Module | ExportedProgram, example: Tensor | None = None) -> None:
        self.program = module if isinstance(module, ExportedProgram) else _export(module, example)
        self.names = _names(self.program.graph)
        if not self.names:
            raise ConversionError(
                "the network has no QCFS activation: put pascal_nm.QCFS where it has ReLU (pascal_nm.to_qcfs does that) and train it"
            )
        self._module = self.program.module()
        placeholders = [n for n in self.program.graph.nodes if n.op == "placeholder" and n.name in self._user_inputs]
        if len(placeholders) != 1:
            raise ConversionError(f"the network takes {len(placeholders)} inputs; exactly one can be converted")
        shape = placeholders[0].meta["val"].shape
        self.input_shape: tuple[int, ...] = tuple(int(n) for n in shape[1:])
        self.dtype: torch.dtype = placeholders[0].meta["val"].dtype
        self.batch = shape[0] if isinstance(shape[0], int) else None

    @property
    def _user_inputs(self) -> tuple[str, ...]:
        return tuple(str(name) for name in self.program.graph_signature.user_inputs)

    @torch.no_grad()
    def __call__(self, inputs: Array | Tensor) -> Array:
        """Logits of shape (N, classes) for inputs of shape (N, *input shape)."""
        return np.concatenate([_logits(self._module(x)) for x in self._batches(inputs)])

    @torch.no_grad()
    def levels(self, inputs: Array | Tensor) -> tuple[Array, Mapping[str, Array]]:
        """Logits, and the level (0 to L) of every QCFS neuron by population name, (N, *shape) each."""
        logits, levels = [], []
        for x in self._batches(inputs):
            recorder = _Recorder(self._module, self.names)
            logits.append(_logits(recorder.run(x)))
            levels.append(recorder.levels)
        return np.concatenate(logits), {name: np.concatenate([part[name] for part in levels]) for name in levels[0]}

    def _batches(self, inputs: Array | Tensor) -> list[Tensor]:
        x = torch.as_tensor(inputs).to(self.dtype)
        return list(torch.split(x, self.batch)) if self.batch and len(x) != self.batch else [x]


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
            self.levels[self._names[n.name]] = (result / (threshold / levels)).round_().to(torch.int32).numpy()
        return result


def _logits(output: Any) -> Array:
    tensor = output if isinstance(output, Tensor) else output[0]
    return np.asarray(tensor.flatten(1).numpy())


def location(node: fx.Node) -> str:
    """Where a node stands in the user's network: the module's path and class, or the operator's name at the top."""
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
    return str(path), (kind if isinstance(kind, str) else kind.__name__).rsplit(".", 1)[-1]


def _names(graph: fx.Graph) -> dict[str, str]:
    names: dict[str, str] = {}
    for node in graph.nodes:
        if node.target is QCFS:
            names[node.name] = population_name(node, set(names.values()))
    return names


def _export(module: nn.Module, example: Tensor | None) -> ExportedProgram:
    if example is None:
        raise ConversionError("an example input is needed: convert(module, torch.zeros(1, *input_shape))")
    if not isinstance(module, nn.Module):
        raise ConversionError(f"a torch.nn.Module or an exported program is needed, not a {type(module).__name__}")
    if not isinstance(example, Tensor):
        raise ConversionError(f"the example input must be a torch tensor, not a {type(example).__name__}")
    if example.ndim < 2 or len(example) == 0:
        raise ConversionError(f"the example input must have shape (N, *input shape), not {tuple(example.shape)}")
    batch = example[:1].repeat(2, *(1,) * (example.ndim - 1))
    try:
        return torch.export.export(
            copy.deepcopy(module).eval(), (batch,), dynamic_shapes=((({0: torch.export.Dim.DYNAMIC}),))
        )
    except Exception as error:  # torch.export raises many types for code that it cannot trace
        reason = first_line(error)
        raise ConversionError(
            f"torch.export cannot trace the network with an input of shape {tuple(example.shape)}: {reason}"
        ) from error
