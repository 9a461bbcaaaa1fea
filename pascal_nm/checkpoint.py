"""Model files: our own ``.pt`` checkpoints, and ``.pt2`` programs from ``torch.export.save``.

Loading never runs code from a file. A ``.pt`` holds plain values and tensors only and is read with ``weights_only``; a ``.pt2`` is
inspected first and refused if it holds a pickle, a compiled library, or an expression that is more than arithmetic.
"""

from __future__ import annotations

import copy
import json
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from pascal_nm.conversion import convert
from pascal_nm.errors import ConversionError, FileError, first_line
from pascal_nm.files import readable, replacing
from pascal_nm.graph import Graph, Preprocessing
from pascal_nm.models import build, qcfs_layers
from pascal_nm.source import SourceNetwork

FORMAT = "pascal-nm checkpoint"
VERSION = 1


@dataclass(eq=False)
class Model:
    """A source network with what is needed to feed it and to build it again.

    Attributes:
        module: the network; an exported program where it came from a ``.pt2`` file.
        input_shape: (C, H, W) or (F,).
        classes: names of the outputs; empty where unknown.
        preprocessing: how pixels become inputs; None where unknown.
        recipe: arguments of :func:`pascal_nm.models.build`; empty for a ``.pt2``.
        data: name of the training data.
        metrics: figures of the training, such as ``test_accuracy``.
    """

    module: nn.Module | ExportedProgram
    input_shape: tuple[int, ...]
    classes: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    data: str = ""
    metrics: dict[str, float] = field(default_factory=dict)

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

    def graph(self) -> Graph:
        """The spiking network."""
        return convert(self.source(), preprocessing=self.preprocessing, classes=self.classes)


def save(model: Model, path: str | Path) -> None:
    """Write a checkpoint of a network that :func:`pascal_nm.models.build` made.

    Raises:
        FileError: the file cannot be written; an existing one is then left as it was.
    """
    if isinstance(model.module, ExportedProgram) or not model.recipe:
        raise FileError(
            "only networks made by build() are saved as .pt; use torch.export.save for a module of your own"
        )
    content = {
        "format": FORMAT,
        "version": VERSION,
        "recipe": dict(model.recipe),
        "levels": [layer.levels for _, layer in qcfs_layers(model.module)],
        "classes": list(model.classes),
        "preprocessing": None if model.preprocessing is None else _plain(asdict(model.preprocessing)),
        "data": model.data,
        "metrics": dict(model.metrics),
        "state_dict": {k: _compact(v.detach().cpu()) for k, v in model.module.state_dict().items()},
    }
    with replacing(path) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # torch's writer reports a full disk this way
            raise FileError(f"cannot write {path}: {first_line(error)}") from error


def _compact(tensor: Tensor) -> Tensor:
    """A tensor in half precision if that loses nothing."""
    half = tensor.half() if tensor.is_floating_point() else tensor
    return half if torch.equal(half.to(tensor.dtype), tensor) else tensor


def load(path: str | Path) -> Model:
    """Read a ``.pt`` checkpoint of ours or a ``.pt2`` program.

    Raises:
        FileError: missing, damaged, of another format, with values that no network can have, or not safe to open.
    """
    path = readable(path)
    return _load_program(path) if path.suffix == ".pt2" else _load_checkpoint(path)


def _load_checkpoint(path: Path) -> Model:
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        with path.open("rb") as file:
            if file.read(1) not in (b"P", b"\x80"):  # a zip archive, or a pickle
                raise FileError(f"{path} is not a torch file") from error
        raise FileError(
            f"{path} holds pickled Python objects, which could run code, and was not opened: "
            "save a network of your own with torch.export.save as .pt2"
        ) from error
    except Exception as error:  # zip, torch and OS errors of many types for damaged files
        raise FileError(f"{path} is not a pascal-nm checkpoint, or is damaged: {first_line(error)}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise FileError(
            f"{path} is a torch file, but not a pascal-nm checkpoint: train one with `pascal-nm train`, read one of the PASCAL or QCFS "
            "repositories with `pascal-nm import-checkpoint`, or save a network of your own with torch.export.save as .pt2"
        )
    if content.get("version", 0) > VERSION:
        raise FileError(f"{path} was written by a newer pascal-nm (format {content['version']}); update to read it")
    try:
        recipe = content["recipe"]
        module = build(**{**recipe, "levels": content["levels"]})
        module.load_state_dict(content["state_dict"])
        pre = content["preprocessing"]
        model = Model(
            module.eval(),
            tuple(recipe["input_shape"]),
            tuple(content["classes"]),
            None if pre is None else Preprocessing(pre["scale"], tuple(pre["mean"]), tuple(pre["std"])),
            recipe,
            content["data"],
            content["metrics"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileError(f"{path} is damaged: missing or wrong entry ({first_line(error)})") from error
    except RuntimeError as error:
        raise FileError(
            f"{path}: the weights do not fit the architecture {recipe.get('arch')!r}: {first_line(error)}"
        ) from error
    except ConversionError as error:
        raise FileError(f"{path}: {error}") from error
    check_values(module, path)
    return model


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
    _check_archive(path)
    try:
        program = torch.export.load(path)
    except Exception as error:  # torch raises many types for programs of other versions and damaged files
        raise FileError(f"{path} cannot be read by torch {torch.__version__}: {first_line(error)}") from error
    return Model(program, SourceNetwork(program).input_shape)


_ENTRIES = re.compile(
    r"(\.data/.*|byteorder|version|archive_(format|version)|models/\w+\.json|data/sample_inputs/\w+\.pt"
    r"|data/weights/(weight_\d+|\w+\.json)|data/constants/(tensor_\d+|\w+\.json))"
)
_SYMBOL = re.compile(r"Symbol\('[su]\d+'(, \w+=(True|False))*\)")
_NAMES = re.compile(r"[su]\d+|Max|Min|Mod|FloorDiv|CeilDiv|PythonMod|Eq|Ne|Lt|Le|Gt|Ge|True|False|oo|int_oo")


def _check_archive(path: Path) -> None:
    """Refuse a program archive with anything in it that loading could execute."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                entry = name.partition("/")[2]
                if not _ENTRIES.fullmatch(entry):
                    raise _unsafe(path, f"it holds {entry!r}")
                if entry.endswith(".json"):
                    _check_json(path, json.loads(archive.read(name)))
                elif entry.startswith("data/sample_inputs/"):
                    with archive.open(name) as file:
                        torch.load(file, weights_only=True)
    except pickle.UnpicklingError as error:
        with path.open("rb") as file:
            if file.read(1) not in (b"P", b"\x80"):  # a zip archive, or a pickle
                raise FileError(f"{path} is not a torch file") from error
        raise _unsafe(path, "its sample inputs hold pickled objects") from error
    except (zipfile.BadZipFile, ValueError, OSError, RuntimeError, EOFError) as error:
        raise FileError(f"{path} is not a .pt2 program, or is damaged: {first_line(error)}") from error


def _check_json(path: Path, content: Any) -> None:
    for key, value in _entries(content):
        if key == "use_pickle" and value:
            raise _unsafe(path, "it holds pickled tensors")
        if key == "expr_str":
            expression = _SYMBOL.sub("s0", str(value))
            words = re.findall(r"[^\W\d]\w*", expression)
            if not re.fullmatch(r"[\w\s+\-*/%(),.<>=!]*", expression) or not all(map(_NAMES.fullmatch, words)):
                raise _unsafe(path, f"the size expression {value!r} is not plain arithmetic")


def _entries(content: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield key, value
            yield from _entries(value)
    elif isinstance(content, list):
        for value in content:
            yield from _entries(value)


def _unsafe(path: Path, what: str) -> FileError:
    return FileError(
        f"{path} was not opened, because {what}, which could run code: export the network again with torch.export.save"
    )


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
