"""The command that measures layers and proposes levels, and what `train --adapt` shares with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, NamedTuple, cast

import typer

from pascal_nm.cli import options, plots
from pascal_nm.cli.output import print_json, progress, say, table
from pascal_nm.cli.outputs import PICTURE, Writes
from pascal_nm.data import Dataset
from pascal_nm.errors import DataError
from pascal_nm.hw_targets import evaluation
from pascal_nm.network.graph import Graph
from pascal_nm.paper import analysis
from pascal_nm.search import adaptive

_FEW = 100
"""Calibration images below which a remark says that they are few."""

_COLUMNS = ("layer", "L", "share of levels 0, 1, …", "agreement A", "skewness g", "kurtosis K")


class _Measured(NamedTuple):
    """A plan, and the alpha that it is of.

    Attributes:
        k: alpha times the number of layers, where the user gave that; None where alpha is a share,
            or the reading's.
        alpha: share of the samples from which on a level counts as non-empty; None for the
            reading's.
        plan: what follows from it.
    """

    k: float | None
    alpha: float | Fraction | None
    plan: adaptive.Plan

    @property
    def title(self) -> str:
        """What is said of alpha above a panel or a column."""
        return "" if self.k is None or self.alpha is None else f"k = {self.k:g} (alpha = {float(self.alpha):.3g})"


def adapt(
    network: options.NetworkFile,
    data_name: options.DataName = "digits",
    limit: Annotated[int, typer.Option(help="Calibration images, from the training part of the data.", metavar="N")] = (
        adaptive.IMAGES
    ),
    clusters: Annotated[int, typer.Option(help="Clusters of layers (the paper's chi).", min=1)] = 3,
    levels: Annotated[
        str | None,
        typer.Option(
            help="L of each cluster, from the lowest metric to the highest: 4,2,1.", show_default="L, L/2, L/4…"
        ),
    ] = None,
    reading: Annotated[
        str, typer.Option(help="Metric as the paper's equations say (paper), or as its authors compute it (authors).")
    ] = "paper",
    alpha: Annotated[
        str | None,
        typer.Option(
            help=(
                "Share from which on a level counts as non-empty: 0.03. Several numbers, 1,.75,.5, "
                "are k in alpha = k / layers: the sweep of Figure 3, one panel each."
            ),
            show_default="by the reading",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Levels file to write, for `train`."), Writes((".json",))
    ] = Path("levels.json"),
    plot: Annotated[
        Path | None, typer.Option(help="Draw the metric of each layer to a .png, .svg or .pdf."), PICTURE
    ] = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Which layers can do with fewer levels: the AL metric, its clusters, and a levels file."""
    choice = chosen(clusters, levels, reading)
    graph = options.load_network(network)
    factors = _alphas(alpha, len(graph.spiking))
    images = options.load_data(data_name, limit, image_column, label_column, "train", graph)
    graph = options.completed(graph, images)
    with progress("measuring layers") as update:
        found = adaptive.histograms(graph, evaluation.inputs(graph, images, update))
    measured = [_Measured(k, share, choice.plan(found, share)) for k, share in factors]
    plan = measured[0].plan
    adaptive.write(plan, output)
    if plot is not None:
        title = f"{network.name}, {len(images):,} images of {images.name}"
        plots.metric_bars({each.title: each.plan for each in measured}, title, plot)
    if as_json:
        print_json({"file": str(output), **_json(measured, reading, images)})
        return
    counted = f"{len(images):,} images of {images.name}" if len(images) > 1 else f"1 image of {images.name}"
    title = f"AL metric ({reading}) over {counted}"
    if len(measured) == 1:
        table(title, (*_COLUMNS, "metric M", "cluster", "new L"), [_row(*row) for row in rows(plan)])
    else:
        _show_sweep(measured, title)
    for remark in _remarks(measured, images):
        say(remark)
    say(f"[bold]{output}[/bold]: `pascal-nm train --final-levels {output}` trains with these levels from two thirds on")


def chosen(clusters: int, levels: str | None, reading: str, alpha: float | None = None) -> adaptive.Choice:
    """What the options ask for, checked before any work."""
    numbers = options.levels(levels)
    numbers = (numbers,) if isinstance(numbers, int) else numbers
    return adaptive.Choice(clusters, numbers, cast("adaptive.Reading", reading), alpha)


def rows(made: adaptive.Plan) -> list[tuple[adaptive.LayerMetric, int, int]]:
    """Metric, cluster and levels of every layer."""
    return list(zip(made.metrics, made.labels, made.levels, strict=True))


def plan_json(made: adaptive.Plan) -> dict[str, Any]:
    """A plan for machines; what is not finite is null."""
    return {"levels": made.levels, "layers": [_metric_json(*row) for row in rows(made)], "remarks": list(made.remarks)}


def timesteps_json(graph: Graph, levels: Sequence[int]) -> dict[str, float]:
    """T_eff, and the spike rate that it takes."""
    return {"effective_timesteps": adaptive.effective_timesteps(graph, levels), "spike_rate": analysis.RATE}


def _alphas(text: str | None, layers: int) -> list[tuple[float | None, float | Fraction | None]]:
    """k, where several numbers are given, and alpha."""
    if text is None:
        return [(None, None)]
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise DataError(f"--alpha takes a share, or several k separated by commas, not {text!r}") from None
    if len(numbers) == 1:
        return [(None, numbers[0])]
    return [(k, adaptive.share(k, layers)) for k in numbers]


def _show_sweep(measured: Sequence[_Measured], title: str) -> None:
    """Metric and cluster of every layer for each alpha, and which clusters depend on it."""
    columns = [column for each in measured for column in (f"M, {each.title}", "cluster")]
    by_layer = zip(*(rows(each.plan) for each in measured), strict=True)
    table(
        title,
        ("layer", "L", *columns),
        [
            [
                of[0][0].name,
                of[0][0].levels,
                *(cell for metric, label, _ in of for cell in (_short(metric.metric), label)),
            ]
            for of in by_layer
        ],
    )
    moved = _moved(measured)
    say(f"cluster by alpha: {'the same for all' if not moved else 'not the same for ' + ', '.join(moved)}")


def _moved(measured: Sequence[_Measured]) -> list[str]:
    """Layers whose cluster is not the same for every alpha."""
    labels = zip(*(each.plan.labels for each in measured), strict=True)
    return [m.name for m, of in zip(measured[0].plan.metrics, labels, strict=True) if len(set(of)) > 1]


def _remarks(measured: Sequence[_Measured], images: Dataset) -> list[str]:
    """What the reader must be told, once."""
    found = [f"{each.title}: {r}" if each.title else r for each in measured for r in each.plan.remarks]
    if len(images) < _FEW:
        found.append(
            f"{len(images)} of {adaptive.IMAGES:,} images, which the paper takes: others may give other clusters"
        )
    if len(measured) > 1:
        found.append(f"the levels are those of {measured[0].title}, the first")
    return found


def _json(measured: Sequence[_Measured], reading: str, images: Dataset) -> dict[str, Any]:
    content = {"reading": reading, "data": images.name, "images": len(images), **plan_json(measured[0].plan)}
    content["remarks"] = _remarks(measured, images)
    if len(measured) > 1:
        sweep = [{"k": each.k, "alpha": float(each.alpha or 0), **plan_json(each.plan)} for each in measured]
        content |= {"sweep": sweep, "layers_that_change_cluster": _moved(measured)}
    return content


def _row(metric: adaptive.LayerMetric, label: int, level: int) -> list[object]:
    numbers = (metric.agreement, metric.skewness, metric.kurtosis, metric.metric)
    return [metric.name, metric.levels, _shares(metric), *map(_short, numbers), label, level]


def _short(number: float) -> str:
    return f"{number:.4g}"


def _metric_json(metric: adaptive.LayerMetric, label: int, level: int) -> dict[str, Any]:
    numbers = {
        key: value if math.isfinite(value) else None for key, value in vars(metric).items() if isinstance(value, float)
    }
    return {"name": metric.name, "histogram": metric.histogram, **numbers, "cluster": label, "levels": level}


def _shares(metric: adaptive.LayerMetric) -> str:
    total = sum(metric.histogram)
    return " ".join(f"{100 * n / total:.0f} %" for n in metric.histogram)
