"""The types of arrays and shapes that all rooms speak of."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pascal_nm.errors import GraphError

Array = npt.NDArray[Any]
"""Of any type and shape; docstrings say which."""

Shape = tuple[int, ...]
"""Without the batch."""

Pair = tuple[int, int]
"""(height, width)."""


def canonical(value: Any, shape: Shape, what: str) -> Array:
    """``value`` as an array with one axis per axis of ``shape``, of length 1 where it is constant.

    A vector of C values on a (C, H, W) population is one per channel. Raises GraphError where it
    cannot broadcast.
    """
    array = np.asarray(value)
    if array.ndim == 1 and len(shape) == 3 and array.shape[0] in (1, shape[0]):
        array = array.reshape(-1, 1, 1)
    if array.ndim == 0:
        array = array.reshape((1,) * len(shape))
    check_broadcast(what, array, shape)
    for axis in range(array.ndim):
        if array.shape[axis] > 1:
            first = array.take([0], axis=axis)
            array = first if np.array_equal(array, np.broadcast_to(first, array.shape)) else array
    return np.ascontiguousarray(array)


def check_broadcast(what: str, array: Array, shape: Shape) -> None:
    """Refuse an array that does not broadcast to ``shape`` axis by axis.

    Raises:
        GraphError: names what it is.
    """
    if array.ndim != len(shape) or any(a not in (1, s) for a, s in zip(array.shape, shape, strict=True)):
        raise GraphError(f"{what} has shape {array.shape}, which does not broadcast to {shape}")
