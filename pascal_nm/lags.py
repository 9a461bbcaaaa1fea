"""Lags for the streaming schedule, layer by layer: the least energy within a number of timesteps, or the fewest timesteps within an energy.

No lag changes a count (docs/schedules.md), so the search has nothing to trade but time and spikes, which it counts on calibration images.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pascal_nm.errors import FileError, first_line
from pascal_nm.files import readable, replacing
from pascal_nm.graph import Array, Graph, Timing
from pascal_nm.result import RunResult


@dataclass(frozen=True)
class Cost:
    """What a choice of lags takes on the calibration images.

    Attributes:
        lags: one for each pasc population.
        timesteps: mean over the images, until the answer is final.
        energy: joules per image.
        excess: spikes sent beyond the sum of the counts, as a share of it.
    """

    lags: tuple[int, ...]
    timesteps: float
    energy: float
    excess: float


def read_lags(path: str | Path) -> tuple[int, ...]:
    """The lags in a file of :func:`write_lags`.

    Raises:
        FileError: missing, damaged, or without a list of lags.
    """
    try:
        lags = json.loads(readable(path).read_text())["lags"]
        if not lags or not all(isinstance(n, int) and n >= 0 for n in lags):
            raise ValueError("lags must be whole numbers of at least 0")
    except FileError:
        raise
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise FileError(f"{path} is not a lags file of `pascal-nm lags`: {first_line(error)}") from error
    return tuple(lags)
