"""The figures of a report, made of its numbers by plotly, one function each.

plotly is here what matplotlib is for :mod:`pascal_nm.cli.plots`: a page has readers who point at
things, turn their phone, and pick another image, and plotly.js does that from one script inside of
the file. Figures have no colours of paper and text: the page sets these, light or dark.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from plotly import graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from pascal_nm.common.units import energy_unit, joules
from pascal_nm.hw_targets import choices
from pascal_nm.report.style import COLOURS, KIND_NAMES, KIND_STYLES, NEUTRAL, POPULATION_COLOURS, STAGE_COLOURS

_Report = Mapping[str, Any]

_SEEN = 1e-3
"""The smallest share of the energy that is drawn: smaller ones are thinner than a line."""

_ROW = 26
"""Pixels of a layer's bar."""


def _network(report: _Report) -> go.Figure:
    """Populations from the top, in the order of the spikes, and the projections between them.

    What skips a population goes around it.
    """
    populations = report["network"]["populations"]
    place = {p["name"]: i for i, p in enumerate(populations)}
    figure = go.Figure()
    for p in populations:
        for q in p["projections"]:
            start, stop = place[q["source"]], place[p["name"]]
            bow = 0.0 if stop == start + 1 else -0.22 - 0.06 * (stop - start - 2)
            figure.add_scatter(
                x=[0, bow, bow, 0] if bow else [0, 0],
                y=[start, start + 0.5, stop - 0.5, stop] if bow else [start, stop],
                mode="lines",
                line={"color": NEUTRAL, "width": 2, "shape": "spline" if bow else "linear"},
                hoverinfo="skip",
                showlegend=False,
            )
    largest = max(p["neurons"] for p in populations)
    for kind, mine in _by_kind(populations):
        figure.add_scatter(
            x=[0] * len(mine),
            y=[place[p["name"]] for p in mine],
            mode="markers+text",
            name=KIND_NAMES.get(kind, kind),
            marker={
                "color": POPULATION_COLOURS.get(kind, NEUTRAL),
                "size": [12 + 22 * (p["neurons"] / largest) ** 0.5 for p in mine],
                "opacity": 1,
            },
            text=[_population(p) for p in mine],
            textposition="middle right",
            textfont={"size": 12},
            hovertext=["<br>".join(q["what"] for q in p["projections"]) or "the image" for p in mine],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    low = min((min(trace.x) for trace in figure.data if trace.mode == "lines"), default=0)
    figure.update_xaxes(visible=False, range=[low - 0.15, 1.9], fixedrange=True)
    figure.update_yaxes(visible=False, range=[len(populations) - 0.4, -0.6], fixedrange=True)
    return _finished(figure, 44 * len(populations) + 60, left=4)


def _by_kind(populations: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Populations of each kind that is there."""
    for kind in dict.fromkeys(p["kind"] for p in populations):
        yield kind, [p for p in populations if p["kind"] == kind]


def _population(p: Mapping[str, Any]) -> str:
    levels = f", L = {p['levels']}" if p["levels"] else ""
    shape = p["shape"].replace("x", " x ")
    return f"  <b>{p['name']}</b><br>   {shape}: {p['neurons']:,}{levels}"


def _counts(report: _Report) -> go.Figure:
    """How often a neuron of each layer has level 0, 1 … L for an image, by mostly so many spikes.

    Silent ones on the left, saturated ones on the right.
    """
    what, verb = ("spikes", "send") if report["unary"] else ("level", "have level")
    layers = [layer for layer in report["layers"] if "levels" in layer]
    most = max(layer["levels"] for layer in layers)
    figure = go.Figure()
    names = [layer["name"] for layer in layers]
    colours = sample_colorscale("Cividis", [0.1 + 0.9 * count / most for count in range(most + 1)])
    for count, colour in enumerate(colours):
        shares = [100 * layer["share_of_each_count"][count] if count <= layer["levels"] else 0.0 for layer in layers]
        figure.add_bar(
            y=names,
            x=shares,
            orientation="h",
            name=f"{count}",
            marker={"color": colour, "line": {"width": 0}},
            hovertemplate=f"%{{y}}: %{{x:.2f}} % {verb} {count}<extra></extra>",
        )
    figure.update_layout(barmode="stack", bargap=0.25, legend={"title": {"text": what}, "traceorder": "normal"})
    figure.update_xaxes(title="share (%)", range=[0, 100])
    return _rows(figure, len(layers))


def _rates(report: _Report) -> go.Figure:
    """Figure 4 of the paper: spikes of a neuron for an image or frame, mean over each layer."""
    layers = [layer for layer in report["layers"] if layer["sends"]]
    figure = go.Figure()
    for kind, mine in _by_kind(layers):
        figure.add_bar(
            y=[layer["name"] for layer in mine],
            x=[layer["spikes_per_neuron"] for layer in mine],
            orientation="h",
            name=KIND_NAMES.get(kind, kind),
            marker_color=POPULATION_COLOURS.get(kind, NEUTRAL),
            text=[f"{layer['spikes_per_neuron']:.2f}" for layer in mine],
            hovertemplate="%{y}: %{x:.4g} spikes a neuron<extra></extra>",
        )
    figure.update_yaxes(categoryorder="array", categoryarray=[layer["name"] for layer in layers])
    figure.update_xaxes(title="spikes of a neuron")
    figure.update_layout(bargap=0.25, showlegend=len(figure.data) > 1)
    return _rows(figure, len(layers))


def _metric(report: _Report) -> go.Figure:
    """Figure 1 of the paper: the AL metric of each layer, coloured by cluster."""
    layers = [layer for layer in report["layers"] if layer.get("al_metric") is not None]
    figure = go.Figure()
    for cluster in sorted({layer["cluster"] for layer in layers}):
        mine = [layer for layer in layers if layer["cluster"] == cluster]
        figure.add_bar(
            y=[layer["name"] for layer in mine],
            x=[layer["al_metric"] for layer in mine],
            orientation="h",
            name=f"cluster {cluster}",
            marker_color=COLOURS[cluster % 7],
            text=[f"{layer['al_metric']:.3g}" for layer in mine],
            hovertemplate="%{y}: %{x:.4g}<extra></extra>",
        )
    figure.update_yaxes(categoryorder="array", categoryarray=[layer["name"] for layer in layers])
    figure.update_xaxes(title="AL metric M (Equation 6)")
    figure.update_layout(bargap=0.25)
    return _rows(figure, len(layers))


def _raster(report: _Report, image: Mapping[str, Any]) -> go.Figure:
    """Spikes of some neurons of each layer, on a ground that shows what the layer does.

    The colour of a spike that carries a number shows it.
    """
    figure = go.Figure()
    stages = {p["name"]: p["stages"] for p in report["network"]["populations"]}
    points: dict[str, list[tuple[int, int, list[int]]]] = {"spikes": [], "taken_back": [], "numbers": []}
    middles, names, row = [], [], 0
    layers = [layer for layer in image["layers"] if layer["sends"]]
    seen: list[str] = []
    for number, layer in enumerate(layers):
        top = row
        for n, neuron in enumerate(layer["neurons"]):
            numbers = neuron.get("numbers")
            if numbers is not None:
                times = sorted(neuron["spikes"] + neuron["taken_back"])
                points["numbers"] += [(t, row, [number, n, sent]) for t, sent in zip(times, numbers, strict=True)]
            else:
                for key in ("spikes", "taken_back"):
                    points[key] += [(t, row, [number, n]) for t in neuron[key]]
            row += 1
        for span in stages[layer["name"]]:
            stop = min(span["stop"], image["timesteps"])
            if stop > span["start"]:
                edges = {"x0": span["start"] - 0.5, "x1": stop - 0.5, "y0": top - 0.5, "y1": row - 0.5}
                figure.add_shape(_ground(span["stage"]) | edges)
                seen.append(span["stage"])
        middles.append((top + row - 1) / 2)
        names.append(layer["name"])
        row += 1  # a gap between layers
    for key, colour, name in (("spikes", None, "spike"), ("taken_back", COLOURS[5], "spike of -1")):
        found = points[key]
        if found:
            figure.add_scatter(
                x=[t for t, _, _ in found],
                y=[at for _, at, _ in found],
                customdata=[which for _, _, which in found],
                mode="markers",
                name=name,
                marker={"symbol": "line-ns-open", "size": 2.6, "line": {"width": 2}}
                | ({"color": colour} if colour else {}),
                hovertemplate="timestep %{x}<extra>click to see this neuron</extra>",
            )
    if found := points["numbers"]:
        marker = {
            "symbol": "square",
            "size": 4,
            "color": [which[2] for _, _, which in found],
            "colorscale": "Cividis",
            "colorbar": {"title": {"text": "number sent", "side": "right"}, "thickness": 12},
        }
        figure.add_scatter(
            x=[t for t, _, _ in found],
            y=[at for _, at, _ in found],
            customdata=[which for _, _, which in found],
            mode="markers",
            name="spike with a number",
            marker=marker,
            hovertemplate="timestep %{x}: %{customdata[2]}<extra>click to see this neuron</extra>",
        )
    for stage in STAGE_COLOURS:
        if stage in seen:
            figure.add_scatter(**_entry(stage))
    figure.update_yaxes(tickvals=middles, ticktext=names, range=[row - 1, -1], showgrid=False, zeroline=False)
    ticks = {"dtick": 1} if image["timesteps"] < _FEW else {}
    figure.update_xaxes(
        title="timestep", range=[-0.6, image["timesteps"] - 0.4], showgrid=False, zeroline=False, **ticks
    )
    return _finished(figure, 4 * row + 130)


_FEW = 20
"""Timesteps up to which each has its tick."""


def _potential(report: _Report) -> go.Figure:
    """The empty axes on which the page draws one neuron: potential above, counter below."""
    figure = make_subplots(2, 1, shared_xaxes=True, row_heights=(0.62, 0.38), vertical_spacing=0.06)
    line = {"shape": "hvh", "width": 2}  # the value after a timestep stands over that timestep
    figure.add_scatter(x=[], y=[], mode="lines", name="membrane potential", line=line, row=1, col=1)
    for name, symbol, colour in (("fires +1", "triangle-up", COLOURS[2]), ("fires -1", "triangle-down", COLOURS[5])):
        marker = {"symbol": symbol, "size": 9, "color": colour}
        figure.add_scatter(x=[], y=[], mode="markers", name=name, marker=marker, row=1, col=1)
    figure.add_scatter(x=[], y=[], mode="lines", name="spike counter", line=line | {"color": COLOURS[3]}, row=2, col=1)
    for y in (0, 1):
        figure.add_hline(y=y, line={"color": NEUTRAL, "width": 1, "dash": "dot"}, row=1, col=1)
    figure.update_yaxes(title="v / θ", zeroline=False, row=1, col=1)
    figure.update_yaxes(title="spikes", rangemode="tozero", zeroline=False, row=2, col=1)
    figure.update_xaxes(title="timestep", row=2, col=1)
    figure.update_xaxes(showgrid=False, zeroline=False)
    return _finished(figure, 430)


def _energy(chip: Mapping[str, Any], one: str) -> go.Figure:
    """Energy of an image or frame by layer and kind of event.

    A mark shows what the source network takes there.
    """
    layers = chip["layers"]
    names = [layer["name"] for layer in layers]
    unit, size = energy_unit(max(max(layer["joules"], layer["source_network_joules"]) for layer in layers))
    figure = go.Figure()
    for kind, (label, colour, hatch) in KIND_STYLES.items():
        parts = [layer["joules_by_event"].get(kind, 0.0) for layer in layers]
        if sum(parts) > _SEEN * chip["dynamic_joules_per_image"]:
            marker = {"color": colour, "line": {"width": 0}}
            if hatch:
                marker["pattern"] = {"shape": hatch[0], "size": 6}
            figure.add_bar(
                y=names,
                x=[part / size for part in parts],
                orientation="h",
                name=label,
                marker=marker,
                hovertemplate=f"%{{y}}, {label}: %{{x:.3g}} {unit}<extra></extra>",
            )
    figure.add_scatter(
        y=names,
        x=[layer["source_network_joules"] / size for layer in layers],
        mode="markers",
        name="source network",
        marker={"symbol": "line-ns-open", "size": 16, "line": {"width": 3}},
        hovertemplate=f"%{{y}}, source network: %{{x:.3g}} {unit}<extra></extra>",
    )
    figure.update_layout(barmode="stack", bargap=0.25, legend_traceorder="normal")
    figure.update_xaxes(title=f"dynamic energy of {one} ({unit})", rangemode="tozero")
    return _rows(figure, len(layers), extra=40)


def _chips(report: _Report) -> go.Figure:
    """Energy of an image or frame on each chip beside the source network's, logarithmic."""
    figure = go.Figure()
    names = [chip["chip"] for chip in report["chips"]]
    bars = (
        ("spiking network", COLOURS[0], [chip["dynamic_joules_per_image"] for chip in report["chips"]]),
        ("source network", NEUTRAL, [chip["source_network_joules_per_image"] for chip in report["chips"]]),
    )
    for name, colour, values in bars:
        figure.add_bar(
            y=names,
            x=[1e6 * value for value in values],
            orientation="h",
            name=name,
            marker_color=colour,
            text=[joules(value) for value in values],
            hovertemplate="%{y}: %{text}<extra></extra>",
        )
    figure.update_xaxes(title=f"dynamic energy of {one(report)} (µJ)", type="log", dtick=1)
    figure.update_layout(bargap=0.3)
    return _rows(figure, 2 * len(names))


def _cores(chip: Mapping[str, Any], quantity: str, title: str) -> go.Figure:
    """The mesh of cores: a quantity by tile, and which layers are there."""
    found = chip["cores"]
    columns, rows = np.array(found["column"]), np.array(found["row"])
    shape = (int(rows.max()) + 1, int(columns.max()) + 1)
    tiles = np.full(shape, np.nan)
    tiles[rows, columns] = 0
    np.add.at(tiles, (rows, columns), np.array(found[quantity], float))
    names = np.full(shape, "", object)
    for column, row, layer in zip(columns, rows, found["layer"], strict=True):
        if layer not in names[row, column].split("<br>"):
            names[row, column] += f"<br>{layer}" if names[row, column] else layer
    figure = go.Figure(
        go.Heatmap(
            z=[[None if np.isnan(value) else float(value) for value in line] for line in tiles],
            text=names.tolist(),
            texttemplate="%{text}" if shape[1] <= _LABELLED else None,
            colorscale="Cividis",
            zmin=0,
            zmax=float(np.nanmax(tiles)),
            xgap=2,
            ygap=2,
            colorbar={"title": {"text": title, "side": "right"}, "thickness": 12},
            hovertemplate="column %{x}, row %{y}: %{z:,.0f}<br>%{text}<extra></extra>",
        )
    )
    figure.update_xaxes(title="column", showgrid=False, zeroline=False, constrain="domain", dtick=_tick(shape[1]))
    figure.update_yaxes(
        title="row", showgrid=False, zeroline=False, scaleanchor="x", constrain="domain", dtick=_tick(shape[0])
    )
    return _finished(figure, min(340, 110 + 80 * shape[0]))


_LABELLED = 4
"""Columns of tiles up to which a tile has room for the names of its layers."""


def _tick(n: int) -> int:
    return max(1, n // 6)


def _timesteps(report: _Report) -> go.Figure:
    """Accuracy, and the share of certified answers, after each timestep of each schedule."""
    figure = go.Figure()
    can = [each for each in report["schedules"] if "refused" not in each]
    for each, colour in zip(can, COLOURS, strict=False):
        places = list(range(1, len(each["accuracy_over_time"]) + 1))
        label = choices.name(each)
        curves = ((label, "accuracy_over_time", "solid"), (f"{label}: certified", "certified_over_time", "dot"))
        for name, key, dash in curves if report["accuracy"] is not None else curves[1:]:
            figure.add_scatter(
                x=places,
                y=[100 * share for share in each[key]],
                mode="lines",
                name=name,
                line={"color": colour, "dash": dash, "shape": "hv", "width": 2},
                hovertemplate=f"{name}: %{{y:.4g}} % after %{{x}} timesteps<extra></extra>",
            )
    if report["source"] is not None and report["accuracy"] is not None:
        figure.add_hline(
            y=100 * report["source"]["source_accuracy"], line={"color": NEUTRAL, "dash": "dash", "width": 1}
        )
    figure.update_xaxes(title="timesteps", rangemode="tozero")
    figure.update_yaxes(title=f"share of {plural(report)} (%)", range=[0, 103])
    return _finished(figure, 400)


def one(report: _Report) -> str:
    """What the figures are of: ``an image`` or ``a frame``."""
    return "a frame" if report["frames"] else "an image"


def plural(report: _Report) -> str:
    """Several of them."""
    return "frames" if report["frames"] else "images"


def _over_frames(
    report: _Report, what: str, curves: Mapping[str, Sequence[float]], dense: Sequence[float]
) -> go.Figure:
    """A quantity of each frame, a line for each curve, dotted lines for the dense source network.

    Upright lines stand where further sequences start.
    """
    figure = go.Figure()
    for (name, values), reference, colour in zip(curves.items(), dense, COLOURS * len(curves), strict=False):
        figure.add_scatter(
            x=list(range(len(values))),
            y=list(values),
            mode="lines+markers" if len(values) == 1 else "lines",
            name=name,
            line={"color": colour, "width": 2},
            hovertemplate=f"{name}, frame %{{x}}: %{{y:.4g}}<extra></extra>",
        )
        figure.add_scatter(
            x=[0, len(values) - 1],
            y=[reference, reference],
            mode="lines",
            name="dense source network" if len(curves) == 1 else f"{name}: dense source network",
            line={"color": colour, "dash": "dot", "width": 2},
            hovertemplate="dense source network: %{y:.4g}<extra></extra>",
        )
    figure.update_yaxes(title=what, **({"type": "log"} if len(curves) > 1 else {"rangemode": "tozero"}))
    return _frame_axis(figure, report, 320 + 24 * len(curves))


def _frame_axis(figure: go.Figure, report: _Report, height: int) -> go.Figure:
    for start in report["frames"]["starts"][1:]:
        figure.add_vline(x=start, line={"color": NEUTRAL, "width": 1})
    figure.update_xaxes(title="frame", zeroline=False)
    return _finished(figure, height)


def _frame_energy(report: _Report) -> go.Figure:
    """Energy of each frame on each chip."""
    chips = {chip["chip"]: chip for chip in report["chips"]}
    joules = report["frames"]["each_frame"]["joules"]
    curves = {name: [1e6 * value for value in joules[chip["name"]]] for name, chip in chips.items()}
    dense = [1e6 * chip["source_network_joules_per_image"] for chip in chips.values()]
    return _over_frames(report, "dynamic energy of a frame (µJ)", curves, dense)


def _frame_operations(report: _Report) -> go.Figure:
    """Operations in synapses of each frame, in thousands."""
    found = report["frames"]
    operations = {"operations": [value / 1e3 for value in found["each_frame"]["operations"]]}
    return _over_frames(
        report, "operations of a frame (thousand)", operations, [found["dense_operations_a_frame"] / 1e3]
    )


def _frame_values(report: _Report) -> go.Figure:
    """The share of the input's values that were sent for each frame."""
    shares = [100 * share for share in report["frames"]["each_frame"]["values_changed"]]
    figure = go.Figure()
    figure.add_scatter(
        x=list(range(len(shares))),
        y=shares,
        mode="lines+markers" if len(shares) == 1 else "lines",
        line={"color": COLOURS[0], "width": 2},
        showlegend=False,
        hovertemplate="frame %{x}: %{y:.4g} %<extra></extra>",
    )
    figure.update_yaxes(title="values sent (%)", range=[0, 103])
    return _frame_axis(figure, report, 260)


def _frame_layers(report: _Report) -> go.Figure:
    """The share of each layer's neurons that sent something for each frame."""
    layers = report["frames"]["each_frame"]["neurons_that_sent"]
    figure = go.Figure(
        go.Heatmap(
            z=[[100 * share for share in shares] for shares in layers.values()],
            y=list(layers),
            colorscale="Cividis",
            zmin=0,
            colorbar={"title": {"text": "neurons that sent (%)", "side": "right"}, "thickness": 12},
            hovertemplate="%{y}, frame %{x}: %{z:.3g} %<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed", showgrid=False, ticksuffix=" ")
    return _frame_axis(figure, report, max(280, _ROW * len(layers) + 130))


def stages() -> list[dict[str, Any]]:
    """Each stage as the ground of its timesteps, but for these, and as its entry in a legend."""
    ground = {"xref": "x", "yref": "paper", "y0": 0, "y1": 1}
    legend = {"type": "scatter", "xaxis": "x", "yaxis": "y"}
    return [
        {"stage": each, "ground": _ground(each) | ground, "legend": legend | _entry(each)} for each in STAGE_COLOURS
    ]


def _ground(stage: str) -> dict[str, Any]:
    return {"type": "rect", "fillcolor": STAGE_COLOURS[stage], "opacity": 0.25, "line": {"width": 0}, "layer": "below"}


def _entry(stage: str) -> dict[str, Any]:
    marker = {"symbol": "square", "size": 11, "color": STAGE_COLOURS[stage], "opacity": 0.45}
    return {"x": [None], "y": [None], "mode": "markers", "name": stage, "marker": marker, "hoverinfo": "skip"}


def _rows(figure: go.Figure, rows: int, extra: int = 0) -> go.Figure:
    """A row for each layer, from the top."""
    figure.update_yaxes(autorange="reversed", showgrid=False, ticksuffix=" ")
    return _finished(figure, _ROW * rows + 130 + extra)


def _finished(figure: go.Figure, height: int, left: int = 8) -> go.Figure:
    figure.update_layout(
        height=height,
        margin={"l": left, "r": 12, "t": 10, "b": 12},
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0, "font": {"size": 12}},
        dragmode=False,
        template="none",
    )
    figure.update_xaxes(automargin=True, fixedrange=True)
    figure.update_yaxes(automargin=True, fixedrange=True)
    return figure


CORE_QUANTITIES = {"synaptic_operations": "synaptic operations", "messages_out": "messages out", "neurons": "neurons"}
"""What the core map shows, by its key."""


def every(report: _Report) -> dict[str, list[go.Figure]]:
    """All figures by the place where the page puts them.

    A place has one, one for each image, chip or quantity that the reader picks, or none.
    """
    on_cores = [chip for chip in report["chips"] if chip["cores"]]
    return {
        "network": [_network(report)],
        "counts": [_counts(report)],
        "rates": [_rates(report)],
        "metric": [_metric(report)] if any(layer.get("al_metric") is not None for layer in report["layers"]) else [],
        "raster": [_raster(report, image) for image in report["images"]],
        "potential": [_potential(report)],
        "chips": [_chips(report)] if len(report["chips"]) > 1 else [],
        "energy": [_energy(chip, one(report)) for chip in report["chips"]],
        "cores": [_cores(chip, *each) for chip in on_cores for each in CORE_QUANTITIES.items()],
        "timesteps": [_timesteps(report)],
        **{
            f"frame-{name}": [draw(report)] if report["frames"] else []
            for name, draw in (
                ("energy", _frame_energy),
                ("operations", _frame_operations),
                ("values", _frame_values),
                ("layers", _frame_layers),
            )
        },
    }
