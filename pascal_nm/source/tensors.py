"""Files of ``torch.save`` from anywhere: plain values and dense tensors, none larger than the file.

``torch.load(weights_only=True)`` runs nothing, but it calls what makes arrays of any size, sparse
and quantized tensors, and tensors whose strides show one number a million million times. So what a
file asks for is looked through first, and what it gave afterwards.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO, NoReturn

import torch
from torch import Tensor

from pascal_nm.common.files import readable, replacing
from pascal_nm.errors import FileError, described, first_line
from pascal_nm.source import archive

_SPARE_BYTES = 1 << 26
"""By so much may tensors be larger than their file: several may show the same numbers."""

_PICKLE_BYTES = 1 << 24
"""The most bytes of the part that says what a file holds."""

_OPERATIONS = 1_000_000
"""The most steps of that part: a tensor takes some 25."""

_WORK = 1 << 22
"""The most values that these steps may put together, each counted in everything that it becomes a
part of; a tensor takes some 100."""

_FUNCTIONS = re.compile(
    r"collections (OrderedDict|Counter)|(__builtin__|builtins) (set|complex)|_codecs encode|torch (Size|device)"
    r"|torch\._utils _rebuild_(tensor|tensor_v2|parameter)|torch\._tensor _rebuild_from_type_v2"
)
"""What a file may name to be called: it makes plain values, and dense tensors of stored numbers."""

_NAMES = re.compile(
    rf"{_FUNCTIONS.pattern}|torch (Tensor|b?float\d+|u?int\d+|complex\d+|bool|\w+Storage)"
    r"|torch\.storage (UntypedStorage|TypedStorage)"
    r"|torch\.nn\.parameter Parameter"
)
"""What a file may name at all."""

_CALLS = ("STACK_GLOBAL", "INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4")
"""Other steps of a pickle that name or call something; torch writes none of them."""

_PLAIN = (str, bytes, int, float, complex, bool, type(None), torch.dtype, torch.device)

_OLD_PARTS = 5
"""Pickles of a file that torch wrote before version 1.6: three that say so, the content, and the
names of the numbers behind them."""


def load(path: str | Path) -> Any:
    """The content of a file of ``torch.save``, on the processor.

    Raises:
        FileError: missing, damaged, not a file of torch, with objects that are neither plain values
            nor dense tensors, or with tensors larger than the file.
    """
    path = readable(path)
    with path.open("rb") as file:
        return _read(path, file)


def _read(path: Path, file: BinaryIO) -> Any:
    """As :func:`load`, from an open file that errors call ``path``."""
    look_through(path, file)
    try:
        with warnings.catch_warnings():  # about files that are unlike today's, which are read or refused all the same
            warnings.simplefilter("ignore")
            content = torch.load(file, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        _refuse(path, first_line(error).removeprefix("Weights only load failed. ")[:100])
    except Exception as error:  # torch and OS errors of many types for damaged files
        raise FileError(f"{path} is not a torch file, or is damaged: {described(error)}") from error
    check(path, content, file.seek(0, io.SEEK_END))
    return content


def look_through(path: Path, file: BinaryIO) -> None:
    """Refuse a file that is not one of torch, is damaged, or holds more than it may.

    It may ask for plain values and tensors only; nothing of it is loaded.

    Raises:
        FileError: calls the file ``path``.
    """
    file.seek(0)
    magic = file.read(4)
    file.seek(0)
    try:
        if magic == archive.MAGIC:
            with archive.opened(path, file) as entries:
                _check_zip(path, entries)
        elif magic[:1] == b"\x80":
            for _ in range(_OLD_PARTS):
                _check_steps(path, file)
        else:
            raise FileError(f"{path} is not a torch file")
    except (ValueError, OverflowError, LookupError) as error:  # of bytes that are no pickle
        raise FileError(f"{path} is not a torch file, or is damaged: {described(error)}") from error
    file.seek(0)


def save(content: Any, path: str | Path) -> None:
    """Write a file of ``torch.save``.

    Raises:
        FileError: it cannot be written; an existing one is then left as it was.
    """
    with replacing(path) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # torch's writer reports a full disk this way
            raise FileError(f"cannot write {path}: {first_line(error)}") from error


def _check_zip(path: Path, entries: archive.Archive) -> None:
    if "data.pkl" not in entries.names:
        raise FileError(f"{path} is an archive, but not one of torch.save")
    with entries.file.open(entries.names["data.pkl"]) as file:
        _check_steps(path, file)
    if (damaged := entries.file.testzip()) is not None:
        raise FileError(f"{path} is damaged: the checksum of {damaged!r} is another")


class _Value:
    """What a step of a pickle makes: its text or number, or the values that it is made of."""

    __slots__ = ("argument", "is_name", "items", "size")

    is_name: bool
    """Whether it can be the key of a dictionary.

    Python takes the square of their number for others, as a file may choose them.
    """

    def __init__(self, argument: Any, items: list[_Value]) -> None:
        self.argument, self.items = argument, items
        self.size: int = 1 + (len(argument) // 8 if isinstance(argument, str) else 0) + sum(item.size for item in items)
        small = isinstance(argument, int) and argument.bit_length() < 32
        self.is_name = not items and (small or argument is None or isinstance(argument, str))

    def take(self, more: list[_Value]) -> int:
        """Make these a part of it, and give what they hold."""
        made = sum(item.size for item in more)
        self.items += more
        self.size += made
        self.is_name = self.is_name and not more
        return made


_CHANGES = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD")
"""Steps that change the first value that they take."""


def _check_steps(path: Path, file: IO[bytes]) -> None:
    """Refuse a pickle that names anything but :data:`_NAMES`, or makes much more than it holds.

    The file then stands behind it.

    A few bytes can ask for the same large value again and again, in a set or a tuple whose parts
    are the same two tuples. So the steps are gone through with the sizes of what they make, which
    takes no more than the bytes do.
    """
    start = file.tell()
    content = io.BytesIO(file.read(_PICKLE_BYTES))
    stack: list[_Value] = []
    memo: dict[Any, _Value] = {}
    marks: list[int] = []
    work = 0
    for count, (operation, argument, _) in enumerate(pickletools.genops(content)):
        if operation.name == "GLOBAL" and not _NAMES.fullmatch(str(argument)):
            _refuse(path, str(argument).replace(" ", "."))
        if operation.name in _CALLS:
            _refuse(path, operation.name)
        if operation.name == "MARK":
            marks.append(len(stack))
        elif operation.name.endswith("PUT"):
            memo[argument] = stack[-1]
        elif operation.name.endswith("GET"):
            stack.append(memo[argument])
        else:
            before = operation.stack_before
            first = marks.pop() if pickletools.markobject in before else len(stack)
            first -= len(before[: before.index(pickletools.markobject)] if pickletools.markobject in before else before)
            if first < 0:
                raise IndexError("a step takes more than there is")
            taken = stack[first:]
            del stack[first:]
            _check_step(path, operation.name, taken)
            if operation.name in _CHANGES:
                changed, *more = taken
                made = changed.take(more)
                stack.append(changed)
            elif operation.stack_after:
                stack.append(_Value(argument, taken))
                made = stack[-1].size
            else:
                made = 0
            work += made
        if count > _OPERATIONS or work > _WORK:
            raise FileError(f"{path} holds more names and values than any network has")
    file.seek(start + content.tell())


def _check_step(path: Path, step: str, taken: list[_Value]) -> None:
    """Refuse calls of what is no function of :data:`_FUNCTIONS`, or that make them slow.

    Keys that do so are refused, too.
    """
    keys = taken[1::2] if step in ("SETITEM", "SETITEMS") else []
    if step == "REDUCE":
        called, given = str(taken[0].argument), taken[1].items
        if not _FUNCTIONS.fullmatch(called):
            _refuse(path, called.replace(" ", "."))
        if called == "_codecs encode" and [value.argument for value in given[1:]] != ["latin1"]:
            _refuse(path, "_codecs.encode")
        if called.startswith("torch._tensor") and not (given and str(given[0].argument).startswith("torch._utils")):
            _refuse(path, called.replace(" ", "."))
        if called.startswith(("collections", "builtins set", "__builtin__ set")) and given:
            if given[0].argument is not None:
                _refuse(path, called.replace(" ", "."))
            keys = given[0].items
            if "OrderedDict" in called:
                keys = [value.items[0] if value.items else value for value in keys]
    if not all(key.is_name for key in keys):
        raise FileError(f"{path} holds a dictionary or set of other things than text and numbers, which no network has")


def _refuse(path: Path, what: str) -> NoReturn:
    if what.startswith("torch._utils._rebuild"):
        kind = what.removeprefix("torch._utils._rebuild_").replace("_", " ")
        raise FileError(f"{path} holds what torch calls a {kind}; only dense tensors are read: save them so")
    raise FileError(
        f"{path} holds pickled Python objects ({what}), which could run code, and was not opened: where you trust it, "
        "save the network's model.state_dict() by torch.save, or a network of your own by torch.export.save as .pt2"
    )


def check(path: Path, content: Any, size: int) -> None:
    """Refuse all but plain values and dense tensors not larger than ``size`` bytes and some.

    The bound is on all of them together.

    Raises:
        FileError: names what a file at ``path`` holds.
    """
    room = size + _SPARE_BYTES
    for value in _values(content):
        if not isinstance(value, Tensor):
            if not isinstance(value, _PLAIN):
                raise FileError(f"{path} holds a {type(value).__name__}, neither a plain value nor a tensor")
            continue
        vars(value).clear()  # An attribute that a file gives a tensor stands in front of the tensor's own methods.
        if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized or value.is_nested:
            raise FileError(f"{path} holds a tensor that is not dense: save it as an ordinary one")
        room -= value.numel() * value.element_size()
        if room < 0:
            raise FileError(
                f"{path} holds a tensor of shape {tuple(value.shape)}, more than a file of its size can hold"
            )


def _values(content: Any) -> Iterator[Any]:
    """All values inside of containers, each container once, however often it stands somewhere."""
    waiting, seen = [content], set()
    while waiting:
        value = waiting.pop()
        if not isinstance(value, Mapping | list | tuple | set):
            yield value
        elif id(value) not in seen:
            seen.add(id(value))
            waiting.extend(value)
            waiting.extend(value.values() if isinstance(value, Mapping) else ())
