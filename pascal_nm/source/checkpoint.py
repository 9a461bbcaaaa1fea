"""Model files: our own ``.pt`` checkpoints, and ``.pt2`` programs from ``torch.export.save``.

Loading never runs code from a file, and takes no more memory than the file has: see
:mod:`pascal_nm.source.tensors` and :mod:`pascal_nm.source.programs`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from pascal_nm.common.files import readable
from pascal_nm.errors import FileError, PascalError, described, first_line
from pascal_nm.network.graph import Graph, Preprocessing
from pascal_nm.source import programs, tensors
from pascal_nm.source.affine import GROWTH
from pascal_nm.source.architectures import build, qcfs_layers
from pascal_nm.source.conversion import convert
from pascal_nm.source.tracing import SourceNetwork

_VALUES = 1 << 26
"""The most values that one operation of a network may make of an image: VGG-16 makes 3 million
of one of 224x224."""

_FORMAT = "pascal-nm checkpoint"
_VERSION = 1


@dataclass(eq=False)
class Model:
    """A source network with what is needed to feed it and to build it again.

    Attributes:
        module: the network; an exported program where it came from a ``.pt2`` file.
        input_shape: (C, H, W) or (F,).
        classes: names of the outputs; empty where unknown.
        preprocessing: how pixels become inputs; None where unknown.
        recipe: arguments of :func:`pascal_nm.source.architectures.build`; empty for a ``.pt2``.
        data: name of the training data.
        metrics: figures of the training, such as ``test_accuracy``.
        bits: of the integer weights that it was trained for, in all layers or in each; None where
            for none.
    """

    module: nn.Module | ExportedProgram
    input_shape: tuple[int, ...]
    classes: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    data: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    bits: int | tuple[int, ...] | None = None

    @property
    def levels(self) -> tuple[int, ...]:
        """L of each QCFS layer, in the order of execution; for networks that are modules."""
        assert isinstance(self.module, nn.Module), "a program's levels are in its graph()"
        return tuple(layer.levels for _, layer in qcfs_layers(self.module))

    def source(self) -> SourceNetwork:
        """The traced network, in the float type of its parameters."""
        if isinstance(self.module, ExportedProgram):
            return SourceNetwork(self.module)
        dtype = next(self.module.parameters()).dtype
        return SourceNetwork(self.module, torch.zeros(1, *self.input_shape, dtype=dtype))

    def in_double(self) -> Model:
        """The same network in double precision, in which rounding does not move a level."""
        module = self.module.module() if isinstance(self.module, ExportedProgram) else copy.deepcopy(self.module)
        return replace(self, module=module.double())

    def graph(self, source: SourceNetwork | None = None, growth: float = GROWTH) -> Graph:
        """The spiking network; of ``source``, where the network was traced before."""
        return convert(source or self.source(), preprocessing=self.preprocessing, classes=self.classes, growth=growth)


def save(model: Model, path: str | Path) -> None:
    """Write a checkpoint of a network that :func:`pascal_nm.source.architectures.build` made.

    Raises:
        FileError: the file cannot be written; an existing one is then left as it was.
    """
    if isinstance(model.module, ExportedProgram) or not model.recipe:
        raise FileError(
            "only networks made by build() are saved as .pt; use torch.export.save for a module of your own"
        )
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "recipe": dict(model.recipe),
        "levels": [layer.levels for _, layer in qcfs_layers(model.module)],
        "classes": list(model.classes),
        "preprocessing": None if model.preprocessing is None else _plain(asdict(model.preprocessing)),
        "data": model.data,
        "metrics": dict(model.metrics),
        "bits": list(model.bits) if isinstance(model.bits, tuple) else model.bits,
        "state_dict": {k: _compact(v.detach().cpu()) for k, v in model.module.state_dict().items()},
    }
    tensors.save(content, path)


def _compact(tensor: Tensor) -> Tensor:
    """A tensor in half precision if that loses nothing."""
    half = tensor.half() if tensor.is_floating_point() else tensor
    return half if torch.equal(half.to(tensor.dtype), tensor) else tensor


def load(path: str | Path) -> Model:
    """Read a ``.pt`` checkpoint of ours or a ``.pt2`` program.

    Raises:
        FileError: missing, damaged, of another format, with values that no network can have, or
            not safe to open.
    """
    path = readable(path)
    return _load_program(path) if path.suffix == ".pt2" else _load_checkpoint(path)


_NUMBER = (int, float)
_KINDS: dict[str, Any] = {
    "version": (int, type(None)),
    "recipe": {
        "arch": str,
        "input_shape": [int],
        "classes": int,
        "levels": (int, [int]),
        "width": (*_NUMBER, [_NUMBER]),
        "pool": str,
        "stem": str,
        "conv_bias": bool,
        "threshold": _NUMBER,
    },
    "levels": [int],
    "classes": [str],
    "preprocessing": (type(None), {"scale": _NUMBER, "mean": [_NUMBER], "std": [_NUMBER]}),
    "data": str,
    "metrics": {str: _NUMBER},
    "bits": (type(None), int, [int]),
    "state_dict": {str: Tensor},
}
"""What each entry of a checkpoint is: a type, one of several, a list of one, or a dictionary by its
keys (``str``: any)."""


def _is(value: Any, kind: Any) -> bool:
    if isinstance(kind, tuple):
        return any(_is(value, one) for one in kind)
    if isinstance(kind, list):
        return isinstance(value, list | tuple) and all(_is(one, kind[0]) for one in value)
    if isinstance(kind, dict):
        return isinstance(value, Mapping) and all(
            isinstance(key, str) and _is(one, kind.get(key, kind.get(str, ()))) for key, one in value.items()
        )
    return isinstance(value, kind)


def _load_checkpoint(path: Path) -> Model:
    content = tensors.load(path)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise FileError(
            f"{path} is a torch file, but not a pascal-nm checkpoint: train one with `pascal-nm train`, "
            "read one of the PASCAL or QCFS repositories with `pascal-nm import-checkpoint`, "
            "or save a network of your own with torch.export.save as .pt2"
        )
    version = content.get("version", 0)
    if isinstance(version, int) and version > _VERSION:
        raise FileError(f"{path} was written by a newer pascal-nm (format {version}); update to read it")
    for key, kind in _KINDS.items():
        if not _is(content.get(key), kind):
            raise FileError(f"{path} is damaged: its entry {key!r} is missing or of another kind")
    recipe, pre, bits = content["recipe"], content["preprocessing"], content.get("bits")
    try:
        with torch.device("meta"):  # A recipe can ask for more than the file holds: sizes first, memory after.
            module = build(**{**recipe, "levels": content["levels"]}).eval()
        check_shapes(module, (1, *recipe["input_shape"]), path)
        fill(module, content["state_dict"])
        check_values(module, path)
        return Model(
            module,
            tuple(recipe["input_shape"]),
            tuple(content["classes"]),
            None if pre is None else Preprocessing(pre["scale"], tuple(pre["mean"]), tuple(pre["std"])),
            recipe,
            content["data"],
            content["metrics"],
            tuple(bits) if isinstance(bits, list | tuple) else bits,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileError(f"{path} is damaged: missing or wrong entry ({first_line(error)})") from error
    except RuntimeError as error:
        raise FileError(
            f"{path}: the weights do not fit the architecture {recipe['arch']!r}: {first_line(error)}"
        ) from error
    except PascalError as error:
        raise error if isinstance(error, FileError) else FileError(f"{path}: {error}") from error


def fill(module: nn.Module, state: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> None:
    """Give a module on the ``meta`` device, without memory, a file's tensors, floats as ``dtype``.

    Raises:
        RuntimeError: names or shapes differ, which is found before any memory is taken.
    """
    module.load_state_dict(dict(state), assign=True)
    for tensor in (*module.parameters(), *module.buffers()):
        kept = tensor.data.to(dtype) if tensor.is_floating_point() else tensor.data
        tensor.data = kept.clone(memory_format=torch.contiguous_format)


def check_shapes(module: nn.Module, shape: Sequence[int], path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Refuse a network that cannot run on inputs of a shape, or only with far too much memory.

    Far too much is far more than a network here may take.

    Args:
        module: on the ``meta`` device, where shapes are worked out and nothing is computed; or
            a traced network.
        shape: with the batch.
        path: the network's file.
        dtype: of the inputs.

    Raises:
        FileError: names the operation.
    """
    try:
        with torch.no_grad():
            inputs = torch.empty(*shape, dtype=dtype, device="meta")
            _check_size("the input", inputs)
            if isinstance(module, fx.GraphModule):
                _Sizes(module).run(inputs)
                return
            hooks = [m.register_forward_hook(partial(_check_layer, name)) for name, m in module.named_modules()]
            module(inputs)
            for hook in hooks:
                hook.remove()
    except Exception as error:  # torch raises many types for shapes that do not fit
        raise FileError(f"{path} cannot run on inputs of shape {tuple(shape[1:])}: {described(error)}") from error


class _Sizes(fx.Interpreter):
    """Runs a traced network on the ``meta`` device, and looks at the sizes of all that it makes.

    The network itself may be on any device.
    """

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        _check_size(n.name, result)
        return result

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        value = super().get_attr(target, args, kwargs)
        return value.to("meta") if isinstance(value, Tensor) else value

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        args, kwargs = fx.node.map_aggregate((args, kwargs), _on_meta)
        return super().call_function(target, args, kwargs)


def _on_meta(value: Any) -> Any:
    return torch.device("meta") if isinstance(value, torch.device) else value


def _check_layer(name: str, layer: nn.Module, inputs: Any, output: Any) -> None:
    _check_size(name, output)


def _check_size(name: str, output: Any) -> None:
    if isinstance(output, Tensor) and output.numel() > _VALUES:
        raise ValueError(f"{name} would be {tuple(output.shape)}, more than {_VALUES:,} values")


def check_values(module: nn.Module, path: Path) -> None:
    """Refuse weights that no network can run with.

    Raises:
        FileError: NaN or infinite values, or a threshold of zero; names the parameter.
    """
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise FileError(
                f"{path}: {name} holds NaN or infinite values; the training diverged or the file is damaged"
            )
    for name, layer in qcfs_layers(module):
        if bool((layer.threshold == 0).any()):
            raise FileError(f"{path}: the QCFS threshold of {name} is zero")


def _load_program(path: Path) -> Model:
    program = programs.load(path)
    try:
        source = SourceNetwork(program)
        shape = (source.batch or 2, *source.input_shape)
        check_shapes(program.module(), shape, path, source.dtype)
        return Model(program, source.input_shape)
    except PascalError:
        raise
    except Exception as error:  # torch raises many types for programs that contradict themselves
        raise FileError(f"{path} is damaged: its program cannot be built ({described(error)})") from error


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
