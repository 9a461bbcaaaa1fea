"""Data as people have it, as batches of arrays: one way for arrays, tensors and loaders.

torch is not imported: what comes from it is known by what it is, where its user has imported it.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.errors import DataError, described

TAKEN = (
    "a torch DataLoader, a torch Dataset of x or (x, y), arrays or tensors x or (x, y), "
    "or pascal_nm.data's images and frames"
)
"""What :func:`batches` takes, in words."""

SIZE = 256
"""Inputs of a batch, where nobody says."""


def batches(data: Any, limit: int | None = None, size: int = SIZE) -> Iterator[tuple[Array, Array | None]]:
    """Inputs and labels, a batch at a time; no more is held than a batch.

    Args:
        data: arrays or tensors of shape (N, *input shape), alone or as a tuple ``(x, y)`` with
            labels (N,); a torch ``DataLoader``, or any other iterable, of such batches; a torch
            ``Dataset`` whose items are ``x`` or ``(x, y)``, one input each; images or frames of
            :mod:`pascal_nm.data`, which give pixels.
        limit: at most so many inputs, from the start.
        size: the most inputs of a batch. A loader's own batches are not put together.

    Yields:
        Inputs (n, *input shape), of a network of several inputs side by side (n, numbers), in the
        float type in which they were given (bfloat16 as float32, which has all its numbers), or of
        whole numbers; labels int64 (n,), or None where there are none.

    Raises:
        DataError: it is none of these or holds nothing; shapes that differ; NaN or infinite values;
            labels that are no whole numbers from 0 on, or not one for each input.
    """
    if limit is not None and limit < 1:
        raise DataError(f"a limit of {limit} inputs leaves nothing; give at least 1")
    left, shape = limit, None
    for number, (x, y) in enumerate(_given(data, size)):
        where = f"the data's batch {number}" if number else "the data"
        if shape not in (None, x.shape[1:]):
            raise DataError(f"{where} has inputs of shape {x.shape[1:]}, those before it are of {shape}")
        shape = x.shape[1:]
        for first in range(0, len(x), size):
            some = slice(first, first + size if left is None else min(first + size, first + left))
            yield _checked(x[some], where), None if y is None else y[some]
            left = None if left is None else left - len(x[some])
            if left == 0:
                return
    if shape is None:
        raise DataError("the data holds no inputs (an iterator that was used up gives none, either)")


def _given(data: Any, size: int) -> Iterator[tuple[Array, Array | None]]:
    """Batches as they come."""
    if hasattr(data, "batches") and hasattr(data, "classes"):
        for pixels, labels in data.batches(size):
            yield pixels, None if (labels < 0).all() else labels
    elif isinstance(data, tuple) or is_array(data):
        yield from _sliced(*_split(data, "the data"), size)
    elif isinstance(data, str | bytes | dict | list) or not (hasattr(data, "__iter__") or hasattr(data, "__getitem__")):
        raise DataError(f"data is {TAKEN}, not of type {type(data).__name__}{_ADVICE.get(type(data), '')}")
    elif _by_item(data):
        items = iter(data) if hasattr(data, "__iter__") else (data[i] for i in range(len(data)))
        for first in itertools.count(0, size):
            some = list(itertools.islice(items, size))
            if not some:
                return
            yield _stacked(some, first)
    else:
        for number, batch in enumerate(data):
            where = f"batch {number} of the data"
            x, y = _split(batch, where)
            inputs = _inputs(x, where)
            if len(inputs):
                yield inputs, None if y is None else _labels(y, len(inputs), where)


_ADVICE: dict[Any, str] = {
    list: "; of a list make one array (numpy.stack), or a tuple (x, y)",
    str: "; a file is read by pascal_nm.data.load",
    dict: "; give x, or (x, y), of it",
}
"""What to do with what looks like data."""


def _sliced(x: Any, y: Any, size: int) -> Iterator[tuple[Array, Array | None]]:
    """Arrays batch by batch: a file's, or a device's, are not copied as a whole."""
    x = x if is_array(x) else _inputs(x, "the data")
    inputs = x.shape[0] if len(x.shape) else 0
    labels = None if y is None else _labels(y, inputs, "the data")
    for first in range(0, max(inputs, not x.shape), size):
        some = slice(first, first + size)
        yield _inputs(x[some] if inputs else x, "the data"), None if labels is None else labels[some]


def _by_item(data: Any) -> bool:
    """Whether it gives one input after the other, as a torch Dataset does."""
    utils = sys.modules.get("torch.utils.data")
    if utils is not None and isinstance(data, utils.DataLoader):
        return data.batch_sampler is None
    return not hasattr(data, "__iter__") or (utils is not None and isinstance(data, utils.Dataset))


def _stacked(items: list[Any], first: int) -> tuple[Array, Array | None]:
    """One batch of single inputs, the first of which has a number."""
    places = [f"item {first + i} of the data" for i in range(len(items))]
    pairs = [_split(item, place) for item, place in zip(items, places, strict=True)]
    inputs = [array(x, place) for (x, _), place in zip(pairs, places, strict=True)]
    for each, place in zip(inputs, places, strict=True):
        if (each.shape, each.dtype) != (inputs[0].shape, inputs[0].dtype):
            raise DataError(
                f"{place} is {each.dtype} of shape {each.shape}, another is {inputs[0].dtype} of {inputs[0].shape}: "
                "all need one shape and one type"
            )
    labels = [array(y, f"the label of {place}") for (_, y), place in zip(pairs, places, strict=True) if y is not None]
    if not labels:
        return np.stack(inputs), None
    if len(labels) < len(items) or any(label.size != 1 for label in labels):
        raise DataError(f"the items of the data from {first} on have not one label each, a whole number")
    return np.stack(inputs), _labels(np.stack([label.reshape(()) for label in labels]), len(items), "the data")


def _inputs(x: Any, where: str) -> Array:
    """Inputs (n, *input shape); several are put side by side, (n, numbers)."""
    if isinstance(x, tuple | list) and x and all(map(is_array, x)):
        parts = [array(part, where) for part in x]
        if len({part.shape[:1] for part in parts}) > 1 or not parts[0].ndim:
            raise DataError(f"{where} has inputs of {' and '.join(str(p.shape) for p in parts)}: not as many of each")
        return np.concatenate([part.reshape(len(part), -1) for part in parts], 1)
    inputs = array(x, where)
    if not inputs.ndim:
        raise DataError(f"{where} is a single number; inputs of shape (N, *input shape) are needed")
    return inputs


def _split(given: Any, where: str) -> tuple[Any, Any]:
    """``x`` and ``y`` of ``x``, ``(x,)`` or ``(x, y)``."""
    if isinstance(given, dict):
        keys = ", ".join(map(repr, list(given)[:5]))
        raise DataError(
            f"{where} is a dictionary ({keys}): which entry is the input is not known; give x or (x, y), "
            "as by a DataLoader's collate_fn"
        )
    if not isinstance(given, tuple | list):
        return given, None
    if len(given) not in (1, 2):
        raise DataError(
            f"{where} has {len(given)} parts; x or (x, y) is needed, an input and its label, and ((a, b), y) of a "
            "network of several inputs"
        )
    return given[0], given[1] if len(given) == 2 else None


def _labels(given: Any, inputs: int, where: str) -> Array:
    labels = array(given, f"the labels of {where}")
    if labels.shape not in ((inputs,), (inputs, 1)):
        raise DataError(f"{where} has {inputs} inputs and labels of shape {labels.shape}: one for each is needed")
    if not np.array_equal(labels, np.rint(labels)) or labels.min(initial=0) < 0:
        raise DataError(
            f"the labels of {where} are not whole numbers from 0 on, the number of a class for each input: leave them "
            "out where there are none"
        )
    return labels.reshape(inputs).astype(np.int64)


def is_array(data: Any) -> bool:
    """An array of whatever library: a tensor, a memory map, a dataset of HDF5."""
    return hasattr(data, "shape") and hasattr(data, "dtype")


def array(data: Any, where: str) -> Array:
    """What a library calls an array, or nested lists, as an array of real numbers.

    Raises:
        DataError: it is none; the line begins with ``where``.
    """
    if hasattr(data, "detach"):
        data = data.detach().cpu()
        data = data.float() if str(data.dtype) == "torch.bfloat16" else data  # NumPy has no such type
    elif type(data).__module__.startswith("PIL."):
        raise DataError(
            f"{where} is a Pillow image: give the data set a transform, such as torchvision.transforms.PILToTensor() "
            "for pixels, or the network's own preprocessing"
        )
    try:
        values = np.asarray(data)
    except Exception as error:  # ragged lists, and what other libraries raise
        raise DataError(f"{where} is no array: {described(error)}") from error
    if values.dtype.kind not in "buif":
        raise DataError(f"{where} is {type(data).__name__} of {values.dtype}; data is {TAKEN}, of real numbers")
    return values


def _checked(x: Array, where: str) -> Array:
    """Inputs without NaN."""
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise DataError(f"{where} holds NaN or infinite values")
    return x
