"""The types of arrays and shapes that all rooms speak of."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]
"""Of any type and shape; docstrings say which."""

Shape = tuple[int, ...]
"""Without the batch."""

Pair = tuple[int, int]
"""(height, width)."""
