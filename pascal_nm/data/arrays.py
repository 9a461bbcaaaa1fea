"""Inputs and labels in .npz and .npy files of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.common.batches import batches
from pascal_nm.data import stored
from pascal_nm.data.foreign import shown
from pascal_nm.errors import DataError

_KNOWN = ("x", "y", "mean", "std", "scale", "classes")


class Arrays(NamedTuple):
    """What a file holds.

    Attributes:
        x: inputs or pixels, (N, *shape).
        y: int64 (N,), where it has labels.
        mean: of each channel, where it says them, as ``std`` and ``scale``.
        std: standard deviation of each channel.
        scale: the largest pixel value.
        classes: names of labels.
    """

    x: Array
    y: Array | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    scale: float | None = None
    classes: tuple[str, ...] = ()


def read(path: Path, limit: int | None = None) -> Arrays:
    """The arrays of a file.

    Args:
        path: a .npz file with ``x``, and perhaps ``y``, ``mean``, ``std``, ``scale`` and
            ``classes``; or a .npy file with inputs alone.
        limit: at most so many inputs, from the start.

    Raises:
        DataError: missing, damaged, without inputs; NaN; labels that are none.
    """
    if not path.is_file():
        raise DataError(f"{path} {'is no file' if path.exists() else 'does not exist'}")
    name = shown(path.name)
    with stored.opened(path) as found:
        if path.suffix == ".npy":
            return Arrays(*_pairs(found["frames"].first(limit), None))
        unknown = sorted(set(found) - set(_KNOWN))
        if "x" not in found or unknown:
            raise DataError(
                f"{name} holds {', '.join(map(ascii, found)) or 'nothing'}: inputs or pixels are called x, labels y; "
                "mean, std, scale and classes may stand beside them (numpy.savez(path, x=x, y=y))"
            )
        if ("mean" in found) != ("std" in found):
            raise DataError(f"{name}: mean and std belong together")
        if "y" in found and found["y"].shape[:1] != found["x"].shape[:1]:
            shapes = f"x has shape {found['x'].shape}, y {found['y'].shape}"
            raise DataError(f"{name}: {shapes}; one label for each input is needed")
        x, y = found["x"].first(limit), found["y"].first(limit) if "y" in found else None
        numbers = {key: _numbers(found[key]) for key in ("mean", "std", "scale") if key in found}
        scale = numbers.pop("scale", (None,))
        if len(scale) != 1 or (scale[0] is not None and scale[0] <= 0):
            raise DataError(f"{name}: scale is the largest pixel value, one positive number")
        classes = found["classes"].texts() if "classes" in found else ()
        return Arrays(*_pairs(x, y), numbers.get("mean"), numbers.get("std"), scale[0], classes)


def _pairs(x: Array, y: Array | None) -> tuple[Array, Array | None]:
    """Checked, and labels as whole numbers."""
    labels = [y for _, y in batches((x, y))]
    return x, None if labels[0] is None else np.concatenate([each for each in labels if each is not None])


def _numbers(array: stored.Stored) -> tuple[float, ...]:
    """A number, or one for each channel."""
    values = array.first().astype(float).reshape(-1)
    if not np.isfinite(values).all():
        raise DataError(f"{array.name} holds NaN or infinite values")
    return tuple(values.tolist())
