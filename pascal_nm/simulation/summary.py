"""A network in words: what `inspect`, `report` and `print` say of its parts."""

from __future__ import annotations

from typing import Any

from pascal_nm.network.graph import Graph, Population, Projection
from pascal_nm.simulation import schedule
from pascal_nm.simulation.schedule import Window

NUMBERS = ("levels", "neurons")
"""Columns that stand right."""


def text(graph: Graph) -> str:
    """A whole network as a table: a line for each population."""
    plan = schedule.of(graph)
    rows = [population(graph, p, plan.windows[p.name]) for p in graph.populations]
    names = [*(name for name in rows[0] if name != "from"), "from"]  # the longest stands last
    columns = {name: [name, *(_text(row[name]) for row in rows)] for name in names}
    for name, column in columns.items():
        width = max(map(len, column))
        columns[name] = [cell.rjust(width) if name in NUMBERS else cell.ljust(width) for cell in column]
    numbers = f"{graph.quantization or 'given'} integers" if graph.is_integer else str(graph.dtype)
    title = f"Spiking network in {numbers}, schedule {graph.timing.schedule}, {plan.steps} timesteps"
    return "\n".join([title, *("  ".join(line).rstrip() for line in zip(*columns.values(), strict=True))])


def _text(cell: object) -> str:
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def population(graph: Graph, p: Population, window: Window) -> dict[str, Any]:
    """What a population is, where its input comes from, and in which timesteps it works."""
    low, high = float(p.threshold.min()), float(p.threshold.max())
    return {
        "name": p.name,
        "kind": p.kind,
        "shape": "x".join(map(str, p.shape)),
        "levels": p.levels if p.kind in ("pasc", "max") else "",
        "neurons": p.size,
        "threshold": f"{low:.6g}" if low == high else f"{low:.6g}…{high:.6g}",
        "from": ", ".join(projection(graph, q) for q in graph.incoming(p.name)),
        "window": f"{window.start}-{window.stop - 1}",
    }


def projection(graph: Graph, q: Projection) -> str:
    """Where a projection comes from, and what it does on the way."""
    how = "window" if graph[q.target].kind == "max" else str(q.operator)
    pooled = (
        f"{'x'.join(map(str, q.pool.kernel))} {'' if graph[q.target].kind == 'max' else 'sum-pooled '}"
        if q.pool
        else ""
    )
    return f"{q.source} ({pooled}{how})"
