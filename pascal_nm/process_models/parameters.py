"""Parameters of Processes, looked at where these are made.

Here what is wrong has a name; in a child process it would fail late, or be rounded.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pascal_nm.common.arrays import Array, Shape
from pascal_nm.errors import GraphError


def check(process: str, shape: Shape, values: Mapping[str, Array], dtype: npt.DTypeLike) -> None:
    """Refuse values, by name, that do not fit the neurons or the type of their potential.

    Raises:
        GraphError: fractions where the potential is an integer, or a shape that does not broadcast.
    """
    dtype = np.dtype(dtype)
    for name, value in values.items():
        array = np.asarray(value)
        if np.issubdtype(dtype, np.integer) and not np.issubdtype(array.dtype, np.integer):
            raise GraphError(
                f"{process}: {name} is of type {array.dtype}; {dtype} models take integers (or give dtype=np.float32)"
            )
        try:
            np.broadcast_to(array, shape)
        except ValueError as error:
            raise GraphError(f"{process}: {name} of shape {array.shape} does not broadcast to {shape}") from error
