"""A network in words: what `inspect`, `report` and `print` say of its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pascal_nm.network.graph import Graph, Population, Projection

_NUMBERS = ("levels", "neurons")
"""Columns that stand right."""


def text(graph: Graph) -> str:
    """A whole network as a table: a line for each population."""
    rows = [population(graph, p) for p in graph.populations]
    names = [*(name for name in rows[0] if name != "from"), "from"]  # the longest stands last
    columns = {name: [name, *(_text(row[name]) for row in rows)] for name in names}
    for name, column in columns.items():
        width = max(map(len, column))
        columns[name] = [cell.rjust(width) if name in _NUMBERS else cell.ljust(width) for cell in column]
    numbers = f"{graph.quantization or 'given'} integers" if graph.is_integer else str(graph.dtype)
    title = f"Spiking network in {numbers}, schedule {graph.timing.schedule}"
    return "\n".join([title, *("  ".join(line).rstrip() for line in zip(*columns.values(), strict=True))])


def _text(cell: object) -> str:
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def population(graph: Graph, p: Population) -> dict[str, Any]:
    """What a population is, and where its input comes from."""
    low, high = float(p.threshold.min()), float(p.threshold.max())
    return {
        "name": p.name,
        "kind": p.kind,
        "shape": "x".join(map(str, p.shape)),
        "levels": p.levels if p.dynamics.counted else "",
        "neurons": p.size,
        "threshold": f"{low:.6g}" if low == high else f"{low:.6g}…{high:.6g}",
        "from": ", ".join(projection(graph, q) for q in graph.incoming(p.name)),
    }


def projection(graph: Graph, q: Projection) -> str:
    """Where a projection comes from, and what it does on the way."""
    weighted = graph[q.target].dynamics.weighted
    how = str(q.operator) if weighted else "window"
    pooled = f"{'x'.join(map(str, q.pool.kernel))} {'sum-pooled ' if weighted else ''}" if q.pool else ""
    return f"{q.source} ({pooled}{how})"
