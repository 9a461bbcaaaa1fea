"""Checkpoints of the PASCAL and QCFS repositories as networks of this package.

Both save a ``state_dict``: https://github.com/BrainSeek-Lab/PASCAL and
https://github.com/putshua/ANN_SNN_QCFS. Levels are not in it and have to be known. Nothing in the
files is run: see :mod:`pascal_nm.source.tensors`.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from pascal_nm.errors import FileError
from pascal_nm.network.graph import Preprocessing
from pascal_nm.source import tensors
from pascal_nm.source.architectures import RESNET_LAYOUTS, VGG_LAYOUTS, Pool, build
from pascal_nm.source.checkpoint import Model, check_shapes, check_values, fill
from pascal_nm.source.qcfs import QCFS

PREPROCESSING = {
    "cifar10": Preprocessing(255.0, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": Preprocessing(
        255.0, tuple(n / 255 for n in (129.3, 124.1, 112.4)), tuple(n / 255 for n in (68.2, 65.4, 70.4))
    ),
    "imagenet": Preprocessing(255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Normalization with which both repositories train (``preprocess/getdataloader.py``)."""

ARCHITECTURES = (*VGG_LAYOUTS, *RESNET_LAYOUTS)

_THRESHOLDS = ("thresh", "up")
"""Names of a QCFS threshold: today's, and that of older checkpoints."""

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "checkpoint")
"""Usual names for the network in a file that holds more: preferred where the file has a second one,
such as an average."""

_COUNTERS = ("total_ops", "total_params", "n_averaged")
"""What other programs count in a network: operations and parameters (thop), averaged networks
(torch.optim.swa_utils)."""

_DEPTH = 3
"""So deep may a state_dict stand in what a file holds."""

_PREFIX = re.compile(r"(module\.|_orig_mod\.)+")

_COUNT = "num_batches_tracked"
"""Batches that a normalization has seen, which its result does not depend on."""

_Kind = Literal["convolution", "normalization", "threshold", "linear"]


class _Part(NamedTuple):
    """The tensors of one layer: its path, what it is, and its state."""

    path: str
    module: _Kind
    state: dict[str, Tensor]


def load(
    path: str | Path,
    arch: str,
    levels: int | Sequence[int],
    *,
    pool: Pool = "avg",
    preprocessing: Preprocessing | None = None,
    input_size: int | None = None,
    note: Callable[[str], None] = lambda line: None,
) -> Model:
    """Read a checkpoint of either repository.

    Args:
        path: the ``.pth`` file; a ``state_dict``, or a dictionary that holds one.
        arch: one of :data:`ARCHITECTURES`.
        levels: L of all layers, or one for each.
        pool: the pooling that the network was trained with. Both repositories train VGG with
            average pooling.
        preprocessing: how pixels become inputs; see :data:`PREPROCESSING`.
        input_size: height and width of the images of a ResNet, whose weights do not tell; 32, or
            224 with a 7x7 stem.
        note: called with a line that says which entry was read, where a file holds
            more than a network.

    Returns:
        The network with its widths, classes and stem from the tensors; negative
        thresholds stay negative.

    Raises:
        FileError: the file is missing, damaged, holds code, or does not hold this architecture.
        ConversionError: the levels do not fit the architecture.
    """
    if arch not in ARCHITECTURES:
        raise FileError(f"unknown architecture {arch!r}: choose from {', '.join(ARCHITECTURES)}")
    parts = _parts(_state_dict(Path(path), note), path)
    if not parts or parts[0].module != "convolution" or parts[-1].module != "linear":
        raise FileError(f"{path} does not begin with a convolution and end with a linear layer, as {arch} does")
    first = parts[0].state["weight"]
    classes = len(parts[-1].state["weight"])
    size = input_size or _input_size(arch, parts)
    recipe: dict[str, Any] = {
        "arch": arch,
        "input_shape": [first.shape[1], size, size],
        "classes": classes,
        "levels": levels if isinstance(levels, int) else list(levels),
        "width": _widths(arch, parts, path),
        "pool": pool,
        "stem": "imagenet" if arch in RESNET_LAYOUTS and first.shape[-1] == 7 else "cifar",
        "conv_bias": "bias" in parts[0].state,
    }
    for name, tensor in ((f"{part.path}.{key}", part.state[key]) for part in parts for key in part.state):
        if not tensor.numel() or not (tensor.is_floating_point() or name.endswith(_COUNT)):
            raise FileError(f"{path}: {name} must hold floating-point numbers, not {tensor.dtype} of {tensor.numel()}")
    with torch.device("meta"):  # Widths of neighbours may ask for more than the file holds: shapes first, memory after.
        module = build(**recipe).eval()
    check_shapes(module, (1, first.shape[1], size, size), Path(path))
    fill(module, _matched(module, parts, path, arch), torch.promote_types(first.dtype, torch.float32))
    check_values(module, Path(path))
    names = tuple(str(i) for i in range(classes))
    return Model(module, (first.shape[1], size, size), names, preprocessing, recipe)


def _state_dict(path: Path, note: Callable[[str], None]) -> Mapping[str, Tensor]:
    """The state_dict of a file, or that among what the file holds which has the most layers."""
    found = dict(_mappings(tensors.load(path)))
    most = max((_layers(mapping) for mapping in found.values()), default=0)
    if not most:
        raise FileError(f"{path} holds no state_dict: save one with torch.save(model.state_dict(), path)")
    names = sorted(
        (name for name, mapping in found.items() if _layers(mapping) == most),
        key=lambda name: name.rpartition(".")[2] not in _WRAPPERS,
    )
    if names[0]:
        others = f" (not {' or '.join(repr(name[:80]) for name in names[1:4])}, which is as large)" if names[1:] else ""
        note(f"{path} holds more than a network: read was its entry {names[0][:80]!r}{others}")
    return {
        _PREFIX.sub("", key): value
        for key, value in found[names[0]].items()
        if isinstance(value, Tensor) and key.rpartition(".")[2] not in _COUNTERS
    }


def _mappings(content: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """A dictionary and those in it and in its lists, by their paths; each once, by the shortest."""
    waiting, seen = deque([("", content, 0)]), set[int]()
    while waiting:
        name, value, depth = waiting.popleft()
        if not isinstance(value, Mapping | list | tuple) or depth > _DEPTH or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Mapping):
            yield name, {key: inner for key, inner in value.items() if isinstance(key, str)}
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            waiting.append((f"{name}.{key}" if name else str(key), inner, depth + 1))


def _layers(mapping: Mapping[str, Any]) -> int:
    """How many convolutions and linear layers a dictionary has the weights of."""
    return sum(isinstance(v, Tensor) and v.ndim >= 2 and k.rpartition(".")[2] == "weight" for k, v in mapping.items())


def _parts(state: Mapping[str, Tensor], path: str | Path) -> list[_Part]:
    """The layers of a state_dict, in its order.

    That is the order of definition, which is the order of execution in both repositories.
    """
    layers: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        layer, _, name = key.rpartition(".")
        layers.setdefault(layer, {})["threshold" if name in _THRESHOLDS else name] = value
    for before, after in itertools.pairwise(layers):
        if _out_of_order(before, after):
            raise FileError(
                f"{path}: {after} stands behind {before}; the keys must be in the order of the modules, "
                "as model.state_dict() gives them"
            )
    return [_Part(layer, _kind(layer, tensors, path), tensors) for layer, tensors in layers.items()]


def _out_of_order(before: str, after: str) -> bool:
    """Whether the first part in which two paths differ counts downward.

    For instance, block 0 behind block 1, or layer2 behind layer3.
    """
    for a, b in zip(before.split("."), after.split("."), strict=False):
        if a != b:
            one, other = (re.fullmatch(r"(\D*)(\d{1,9})(\D*)", part) for part in (a, b))
            return bool(one and other and one[1] == other[1] and one[3] == other[3] and int(one[2]) > int(other[2]))
    return False


def _kind(layer: str, tensors: Mapping[str, Tensor], path: str | Path) -> _Kind:
    if "threshold" in tensors:
        return "threshold"
    if "running_mean" in tensors:
        return "normalization"
    dimensions = tensors["weight"].ndim if "weight" in tensors else 0
    if dimensions == 4:
        return "convolution"
    if dimensions == 2:
        return "linear"
    raise FileError(f"{path}: {layer} holds {', '.join(tensors)}, which is no layer of these networks")


def _input_size(arch: str, parts: Sequence[_Part]) -> int:
    if arch in RESNET_LAYOUTS:
        return 224 if parts[0].state["weight"].shape[-1] == 7 else 32
    channels = next(p for p in reversed(parts) if p.module == "convolution").state["weight"].shape[0]
    features = next(p for p in parts if p.module == "linear").state["weight"].shape[1]
    return 32 * math.isqrt(max(1, features // channels))


def _widths(arch: str, parts: Sequence[_Part], path: str | Path) -> list[int]:
    layers = [p for p in parts if p.module in ("convolution", "linear") and "shortcut" not in p.path][:-1]
    outputs = [p.state["weight"].shape[0] for p in layers]
    if arch in VGG_LAYOUTS:
        expected = sum(isinstance(entry, int) for entry in VGG_LAYOUTS[arch]) + 2
    else:
        blocks = [count for _, count in RESNET_LAYOUTS[arch]]
        expected = 1 + 2 * sum(blocks)
    if len(outputs) != expected:
        raise FileError(
            f"{path} is not {arch}: it has {len(outputs)} convolutions and hidden linear layers, not {expected}"
        )
    if arch in VGG_LAYOUTS:
        return outputs
    return [outputs[1 + 2 * sum(blocks[:stage])] for stage in range(len(blocks))]


def _matched(module: nn.Module, parts: Sequence[_Part], path: str | Path, arch: str) -> dict[str, Tensor]:
    """The module's state_dict with the tensors of the parts, in order.

    Their kinds and shapes are checked.
    """
    layers = [(name, layer) for name, layer in module.named_modules() if list(layer.parameters(recurse=False))]
    kinds: dict[type, _Kind] = {
        nn.Conv2d: "convolution",
        nn.BatchNorm2d: "normalization",
        QCFS: "threshold",
        nn.Linear: "linear",
    }
    state: dict[str, Tensor] = {}
    for (name, layer), part in zip(layers, parts, strict=False):
        expected = kinds[type(layer)]
        if part.module != expected:
            raise FileError(f"{path} is not {arch}: {part.path} is a {part.module} where {name} needs a {expected}")
        for key, value in layer.state_dict().items():
            if key == _COUNT:
                state[f"{name}.{key}"] = torch.tensor(0)
                continue
            if key not in part.state:
                raise FileError(f"{path}: {part.path} has no {key}")
            given = part.state[key]
            if given.numel() != value.numel() or (value.ndim > 0 and given.shape != value.shape):
                raise FileError(
                    f"{path} is not {arch}: {part.path}.{key} has shape {tuple(given.shape)}, not {tuple(value.shape)}"
                )
            state[f"{name}.{key}"] = given.reshape(value.shape)
    if len(layers) != len(parts):
        raise FileError(f"{path} is not {arch}: it has {len(parts)} layers with parameters, not {len(layers)}")
    return state
