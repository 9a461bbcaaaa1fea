"""The page: one HTML file that asks nothing of a network.

It holds its style, its script, plotly.js and every number.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from html import escape
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from plotly.offline import get_plotlyjs

from pascal_nm.common.band import Band
from pascal_nm.common.units import band, joules, percent
from pascal_nm.hw_targets import choices
from pascal_nm.report import figures
from pascal_nm.report.style import KIND_STYLES


def html(report: Mapping[str, Any], json_name: str) -> str:
    """The page of a report.

    Args:
        report: from :func:`pascal_nm.report.collect.collect`, with its ``reproduce``.
        json_name: the file that holds the same numbers.
    """
    drawn = figures.every(_literal(report))
    content = {name: [json.loads(figure.to_json()) for figure in each] for name, each in drawn.items()}
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    filters: dict[str, Callable[..., Any]] = {
        "percent": percent,
        "band": _band,
        "joules": joules,
        "seconds": _seconds,
        "number": lambda value: f"{round(value):,}",
        "short": lambda value: f"{value:.3g}",
        "schedule": choices.name,
        "largest": _largest,
        "rows": choices.rows,
    }
    environment.filters |= filters
    return environment.from_string(_text("page.html")).render(
        r=report,
        p=report["reproduce"],
        show={name: len(each) for name, each in drawn.items()},
        windows={p["name"]: p["window"] for p in report["network"]["populations"]},
        one=figures.one(report),
        images=figures.plural(report),
        graded=any(
            "numbers" in one for image in report["images"] for layer in image["layers"] for one in layer["neurons"]
        ),
        quantities=list(figures.CORE_QUANTITIES.values()),
        json_name=json_name,
        style=_text("page.css"),
        script=_text("page.js"),
        plotly=get_plotlyjs(),
        report_json=_embedded(report),
        figures_json=_embedded(content | {"stages": figures.stages()}),
    )


def _literal(content: Any) -> Any:
    """The same with every text such that plotly, which knows some tags, shows it as it is."""
    if isinstance(content, Mapping):
        return {_literal(key): _literal(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_literal(value) for value in content]
    return escape(content, quote=False) if isinstance(content, str) else content


def _text(name: str) -> str:
    return resources.files("pascal_nm.report").joinpath(name).read_text(encoding="utf-8")


def _embedded(content: Any) -> str:
    """JSON that cannot end the script element that holds it."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _seconds(value: float) -> str:
    return f"{1e3 * value:.3g} ms" if value >= 1e-3 else f"{1e6 * value:.3g} µs"


def _band(part: Mapping[str, float] | None, time: bool = False) -> str:
    """A figure with its range, or that it is not known."""
    return band(
        None if part is None else Band(part["value"], part["least"], part["most"]), _seconds if time else joules
    )


def _largest(layer: Mapping[str, Any]) -> str:
    """The kind of event that takes most of a layer's energy."""
    parts = layer["joules_by_event"]
    kind = max(parts, key=parts.__getitem__)
    return f"{KIND_STYLES[kind][0]} {percent(parts[kind] / layer['joules'])}" if layer["joules"] else ""
