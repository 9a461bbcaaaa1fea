"""How a NIR graph's arrays lie in its file: compressed where that makes the file smaller."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Set
from io import BytesIO
from typing import Any

import h5py
import nir
import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.export.untrusted import least_size

_LARGE = ("weight", "bias", "scale", "r", "v_threshold", "v_reset", "tau", "v_leak")
"""Fields that hold most of a file. nir's own writing and ``to_dict`` copy every array twice, so
these pass beside them."""

_CHUNK = 1 << 22
"""Bytes that are compressed, and read, at once: few pieces, each of which fits in memory."""

_SAMPLE = 1 << 16
"""Bytes of an array that show whether compressing it pays."""

_PAYS = 0.8
"""Compressed size over size, up to which reading takes no longer for it."""


def write(raw: nir.NIRGraph, content: BytesIO, unless_zero: Set[str] = frozenset()) -> None:
    """Write a graph by nir, its large arrays by h5py, straight from where they are.

    Arrays that shrink are compressed (deflate, bytes of a number apart), but only so many that
    :func:`pascal_nm.export.untrusted.read_raw` still takes all of them from a file of this size.

    Args:
        raw: the graph.
        content: where to.
        unless_zero: such arrays as are left out of the file where they are 0.
    """
    filters = _filters_of(raw)
    nodes = {name: slim(node) for name, node in raw.nodes.items()}
    nir.write(content, nir.NIRGraph(nodes, raw.edges, metadata=raw.metadata, type_check=False), compression=None)
    with h5py.File(content, "a") as file:
        for name, node in raw.nodes.items():
            place = file[f"node/nodes/{name}"]
            for field, array in large(node).items():
                del place[field]
                if array.any() or field not in unless_zero:
                    place.create_dataset(field, data=array, **filters[name, field])


def _filters_of(raw: nir.NIRGraph) -> dict[tuple[str, str], dict[str, Any]]:
    """How each array of a graph is stored, by node and field."""
    arrays = {(name, field): array for name, node in raw.nodes.items() for field, array in large(node).items()}
    filters = {place: _filters(array) for place, array in arrays.items()}
    size = sum(arrays[place].nbytes for place, chosen in filters.items() if not chosen)
    least = least_size(sum(array.nbytes for array in arrays.values()))
    for place, chosen in filters.items():
        if chosen and size < least:
            filters[place] = {}
            size += arrays[place].nbytes
    return filters


def large(node: nir.NIRNode) -> dict[str, Array]:
    """A node's arrays that may be large, by field."""
    return {field: getattr(node, field) for field in _LARGE if isinstance(getattr(node, field, None), np.ndarray)}


def slim(node: nir.NIRNode) -> nir.NIRNode:
    """The node with its large arrays left out."""
    found = copy.copy(node)
    for field in large(node):
        setattr(found, field, np.zeros(1, np.float32))
    return found


def _filters(array: Array) -> dict[str, Any]:
    """How h5py stores an array: as it is where a sample of it does not shrink."""
    if array.nbytes < 256 or not array.ndim:
        return {}
    sample = np.asarray(array.reshape(-1)[: _SAMPLE // array.itemsize])
    apart = np.ascontiguousarray(sample).view(np.uint8).reshape(-1, array.itemsize).T
    if len(zlib.compress(apart.tobytes(), 1)) > _PAYS * sample.nbytes:
        return {}
    rows = max(1, min(len(array), _CHUNK // max(1, array.nbytes // len(array))))
    return {"compression": "gzip", "compression_opts": 4, "shuffle": True, "chunks": (rows, *array.shape[1:])}
