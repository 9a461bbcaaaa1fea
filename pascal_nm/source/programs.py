"""Programs of ``torch.export.save`` from anywhere: what torch would run of a file never reaches it.

Torch makes Python of a program's text (names, guards, sizes), calls whatever function of its own a
node names, and unpickles sample inputs. So it is given a fresh archive, written here of what was
read and understood: text of :data:`_TEXT` only, operators on tensors, weights that are as large as
their numbers. What a network can do without (sample inputs, guards, stack traces) is left out.
"""

from __future__ import annotations

import io
import json
import math
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from torch.export import ExportedProgram

from pascal_nm.common.files import readable
from pascal_nm.errors import FileError, described
from pascal_nm.source import archive, tensors

_JSON_BYTES = 1 << 24
"""The most bytes of a program without its weights: those of ResNet-34 are 0.4 MB."""

_OBJECTS = 30_000
"""The most parts of a program as its file counts them; ResNet-34 has 8,000, of which torch reads
some 8,000 a second."""

_MODEL, _WEIGHTS, _CONSTANTS, _SAMPLE = (
    "models/model.json",
    "data/weights/model_weights_config.json",
    "data/constants/model_constants_config.json",
    "data/sample_inputs/model.pt",
)
_ENTRIES = re.compile(
    rf"{_MODEL}|{_WEIGHTS}|{_CONSTANTS}|{_SAMPLE}|data/weights/weight_\d+|data/constants/tensor_\d+"
    r"|byteorder|version|archive_(format|version)|\.data/\w+|\.format_version|\.storage_alignment"
)

_NAME = r"[A-Za-z_]\w{0,200}"
_PATH = r"(?u:[\w.@:/> +-]{0,500})"
_SYMBOL = re.compile(r"Symbol\('([su]\d{1,4})'(, \w+=(True|False))*\)")
_ARITHMETIC = re.compile(
    r"[su]\d{1,4}|\d{1,18}|Max|Min|Mod|FloorDiv|CeilDiv|PythonMod|Eq|Ne|Lt|Le|Gt|Ge"
    r"|Mul|Add|Integer|True|False|[-+*/%(),<>=!]"
)
_SPLIT = re.compile(r"\w+|[^\w\s]")
_TREE = (
    r"\[1, (\{|\}|\[|\]|, |: |null|"
    r"\"(type|context|children_spec|builtins\.(tuple|list|dict)|null|\[(\\\"\w+\\\"(, )?)*\])\"){1,500}\]"
)

_TEXT: dict[str, str] = {
    "target": r"torch\.ops\.(aten|pascal_nm)\.(?!from_file\b)\w+\.\w+"
    r"|_operator\.(add|sub|mul|floordiv|mod|neg|eq|ne|lt|le|gt|ge|getitem)|torch\.sym_(int|float|max|min|not)",
    "name": rf"({_NAME})?",
    "as_name": _NAME,
    "parameter_name": _PATH,
    "buffer_name": _PATH,
    "tensor_constant_name": _PATH,
    "user_input_name": _NAME,
    "fqn": _PATH,
    "path_name": r"(weight|tensor)_\d+",
    "type": r"cpu|cuda",
    "as_string": r"none|tanh|floor|trunc|same|valid|constant|reflect|replicate|circular|mean|sum",
    "as_float": r"-?Infinity|NaN",
    "in_spec": _TREE,
    "out_spec": _TREE,
    "torch_version": r"[\w.+<=-]{1,50}",
    "verifiers": r"TRAINING|ATEN|EDGE",
    "forward_arg_names": _NAME,
    "nn_module_stack": r"[^\"\\\\\x00-\x1f]{0,2000}",
}
"""What text may stand under a key. Other text means something to torch that a network does not
need, and is left out."""

_NEVER = ("as_graph", "as_operator", "as_custom_obj", "as_strings", "as_string_to_argument", "custom_obj", "token")
"""Keys of what is no operation on tensors: programs in a program, functions, objects of
other libraries."""

_NAMED = ("tensor_values", "sym_int_values", "sym_bool_values", "sym_float_values", "custom_obj_values", "config")
"""Keys under which every key is a name of the network's own."""

_RANGES = re.compile(r"s\d{1,4}")


def load(path: str | Path) -> ExportedProgram:
    """Read a program.

    Raises:
        FileError: missing, damaged, of another version of torch, with more than a network needs, or
            larger than its file.
    """
    path = readable(path)
    try:
        from torch.export.pt2_archive._package import load_pt2
    except ImportError as error:
        raise FileError(
            f"{path} cannot be read by torch {torch.__version__}: programs need torch 2.8 or newer"
        ) from error
    with _fresh(path) as fresh:
        try:
            program: ExportedProgram = load_pt2(fresh).exported_programs["model"]
        except Exception as error:  # torch raises many types for programs of other versions and damaged files
            raise FileError(f"{path} cannot be read by torch {torch.__version__}: {_reason(error)}") from error
    tensors.check(path, [program.state_dict, program.constants], path.stat().st_size)
    return program


@contextmanager
def _fresh(path: Path) -> Iterator[IO[bytes]]:
    """An archive of what was understood of a file's."""
    with path.open("rb") as file, tempfile.TemporaryFile() as fresh:
        if file.read(4) != archive.MAGIC:
            raise FileError(f"{path} is not a .pt2 program: it is no archive")
        with archive.opened(path, file) as entries:
            _rewrite(path, entries, fresh)
        fresh.seek(0)
        yield fresh


def _reason(error: Exception) -> str:
    """What went wrong, without the node at which it did and without torch's own places.

    The latter can be pages.
    """
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else described(error))[:300]


def _rewrite(path: Path, entries: archive.Archive, fresh: IO[bytes]) -> None:
    """Write what was understood of an archive into another."""
    for name in entries.names:
        if not _ENTRIES.fullmatch(name):
            raise _unsafe(path, f"it holds {name!r}")
    for name in (_MODEL, _WEIGHTS, _CONSTANTS, "archive_format", "archive_version"):
        if name not in entries.names:
            raise FileError(f"{path} is not a .pt2 program of a torch that can be read here: it has no {name}")
    # The sample inputs are not needed, but a file that hides something in them says what
    # kind of file it is.
    if _SAMPLE in entries.names and entries.names[_SAMPLE].file_size:
        tensors.look_through(path, io.BytesIO(entries.read(_SAMPLE)))
    program, weights, constants = (_Checked(path)(_json(path, entries, n)) for n in (_MODEL, _WEIGHTS, _CONSTANTS))
    sizes = {name: info.file_size for name, info in entries.names.items()}
    stored = {
        *_stored(path, weights, "data/weights/", sizes),
        *_stored(path, constants, "data/constants/", sizes),
    }
    with zipfile.ZipFile(fresh, "w") as target:
        for name in ("archive_format", "archive_version", "byteorder", ".data/version", "version"):
            if name in entries.names:
                target.writestr(f"model/{name}", entries.read(name)[:100])
        for name, content in ((_MODEL, program), (_WEIGHTS, weights), (_CONSTANTS, constants)):
            target.writestr(f"model/{name}", json.dumps(content))
        target.writestr(f"model/{_SAMPLE}", b"")
        for name in stored:
            with target.open(f"model/{name}", "w") as to, entries.file.open(entries.names[name]) as source:
                while block := source.read(1 << 20):
                    to.write(block)


def _json(path: Path, entries: archive.Archive, name: str) -> Any:
    if entries.names[name].file_size > _JSON_BYTES:
        raise FileError(f"{path} has a description ({name}) of more than {_JSON_BYTES >> 20} MB, which no network has")
    try:
        return json.loads(entries.read(name))
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path} is damaged: its {name} cannot be read ({described(error)})") from error


def _stored(path: Path, content: Any, folder: str, sizes: Mapping[str, int]) -> Iterator[str]:
    """Names of the entries that hold the tensors of a list of them.

    Their sizes are checked once torch has made tensors of them.
    """
    try:
        for parameter, meta in content["config"].items():
            name = folder + meta["path_name"]
            if meta["use_pickle"] is not False:
                raise _unsafe(path, "it holds pickled tensors")
            shape = [size["as_int"] for size in meta["tensor_meta"]["sizes"]]
            if not sizes[name] and math.prod(shape):
                raise FileError(f"{path} is damaged: {parameter} has shape {shape}, but no numbers")
            yield name
    except (KeyError, TypeError, AttributeError) as error:
        raise FileError(f"{path} is damaged: its list of tensors is incomplete ({described(error)})") from error


class _Checked:
    """Makes a copy of a program's description with the text in it that :data:`_TEXT` knows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.objects = 0

    def __call__(self, content: Any) -> dict[str, Any]:
        if not isinstance(content, dict):
            raise FileError(f"{self.path} is damaged: a description in it is a {type(content).__name__}")
        return self.object("", content)

    def object(self, name: str, content: Mapping[str, Any]) -> dict[str, Any]:
        self.objects += 1
        if self.objects > _OBJECTS:
            raise FileError(f"{self.path} has more than {_OBJECTS:,} parts, which no network here has")
        kept = {}
        for key, value in content.items():
            if name in _NAMED:
                self.text("parameter_name", key)
            elif name == "range_constraints" and not _RANGES.fullmatch(key):
                raise _unsafe(self.path, f"it bounds a size called {key!r}")
            elif key in _NEVER and value is not None:
                raise _unsafe(self.path, f"it holds more than operations on tensors ({key})")
            if key in _TEXT or key == "expr_str" or not _is_text(value):  # else guards, stack traces, names of types
                kept[key] = self.value(key, value)
        return kept

    def value(self, key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return self.object(key, value)
        if isinstance(value, list):
            return [self.value(key, one) for one in value]
        if not isinstance(value, str):
            return value
        return self.expression(value) if key == "expr_str" else self.text(key, value)

    def text(self, key: str, text: str) -> str:
        if not re.fullmatch(_TEXT[key], text, re.ASCII):
            raise _unsafe(self.path, f"its {key} {text[:80]!r} is not that of an operation on tensors")
        return text

    def expression(self, text: str) -> str:
        words = _SPLIT.findall(_SYMBOL.sub(r"\1", text[:1000]))
        if len(text) > 1000 or len(words) > 40 or "**" in "".join(words) or not all(map(_ARITHMETIC.fullmatch, words)):
            raise _unsafe(self.path, f"the size expression {text[:80]!r} is not plain arithmetic")
        return text


def _is_text(value: Any) -> bool:
    return any(map(_is_text, value)) if isinstance(value, list) else isinstance(value, str)


def _unsafe(path: Path, what: str) -> FileError:
    return FileError(
        f"{path} was not opened, because {what}, which could run code: export the network again with torch.export.save"
    )
