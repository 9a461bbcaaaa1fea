"""Pictures: one function each, in colours that colour-blind people can tell apart.

They are drawn by matplotlib.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pascal_nm.cli.output import energy_unit, joules, printable
from pascal_nm.common.files import replacing
from pascal_nm.errors import DataError, FileError, described
from pascal_nm.report.style import COLOURS, KIND_NAMES, KIND_STYLES, NEUTRAL, POPULATION_COLOURS

if TYPE_CHECKING:
    from pascal_nm.common.arrays import Array
    from pascal_nm.export.profile import Measured
    from pascal_nm.network.graph import Population
    from pascal_nm.search.adaptive import Plan
    from pascal_nm.search.comparison import Comparison, Row
    from pascal_nm.search.lags import Cost

_KINDS = ("png", "svg", "pdf")


def metric_bars(plans: Mapping[str, Plan], title: str, path: Path) -> None:
    """The AL metric of each layer, coloured by cluster: the paper's Figure 1.

    With a panel for each alpha it is Figure 3.

    Args:
        plans: by what is written above their panels.
        title: of the figure.
        path: of the file.

    Raises:
        DataError: matplotlib is not installed.
        FileError: an unknown file type, or a place that cannot be written.
    """
    layers = max(len(made.metrics) for made in plans.values())
    figure, _ = _figure(0.45 * layers + 2.5, 2.6 * len(plans) + 1.4)
    figure.clear()
    panels = figure.subplots(len(plans), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, made) in zip(panels, plans.items(), strict=True):
        _metrics(axes, made)
        axes.set(title=name, ylabel="AL metric M (Equation 6)")
    panels[-1].set_xlabel("QCFS layer")
    handles = {text: handle for axes in panels for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
    figure.suptitle(title)
    _save(figure, path)


def _metrics(axes: Any, made: Plan) -> None:
    """The bars of one plan; an infinite metric is as high as the axis."""
    finite = [m.metric for m in made.metrics if m.metric < float("inf")]
    top = 1.1 * max(finite, default=1.0) or 1.0
    for label, level in enumerate(made.cluster_levels):
        places = [i for i, other in enumerate(made.labels) if other == label]
        heights = [min(made.metrics[i].metric, top) for i in places]
        axes.bar(places, heights, color=COLOURS[label % len(COLOURS)], label=f"cluster {label}: L = {level}")
    axes.set_ylim(0, top)
    axes.set_xticks(range(len(made.metrics)), [printable(m.name) for m in made.metrics], rotation=60, ha="right")


def accuracy_against_timesteps(lines: Mapping[str, Sequence[Measured]], source: float, title: str, path: Path) -> None:
    """Accuracy of rate networks over their timesteps, a line for each simulator or reset.

    The source network's is dashed.

    Raises:
        DataError, FileError: as :func:`metric_bars`.
    """
    figure, axes = _figure(6, 4)
    for i, (name, measured) in enumerate(lines.items()):
        places = [m.timesteps for m in measured]
        marker, size = "osDv^<>p"[i % 8], 5 + 3 * (len(lines) - i)  # larger below, so that equal curves show
        style: dict[str, Any] = {"marker": marker, "markersize": size, "markerfacecolor": "none"}
        axes.plot(places, [100 * m.accuracy for m in measured], color=COLOURS[i % 8], label=name, **style)
    axes.axhline(100 * source, color="#000000", linestyle="--", label="source network (and every exact form)")
    axes.set_xscale("log", base=2)
    ticks = sorted({m.timesteps for measured in lines.values() for m in measured})
    axes.set_xticks(ticks, [str(t) for t in ticks])
    axes.set(xlabel="timesteps T", ylabel="accuracy (%)", title=title)
    axes.legend(frameon=False)
    _save(figure, path)


def methods(made: Comparison, title: str, path: Path) -> None:
    """Accuracy against timesteps, and against synaptic operations: a comparison's methods.

    Timesteps are those from the image to the answer.

    Raises:
        DataError, FileError: as :func:`metric_bars`.
    """
    figure, _ = _figure(11, 5)
    figure.clear()
    left, right = figure.subplots(1, 2, sharey=True)
    families: dict[str, list[Row]] = {}
    for row in made.rows:
        if row.to_answer is not None:
            families.setdefault(row.method if row.exact else row.method.partition(",")[0], []).append(row)
    for i, (name, rows) in enumerate(families.items()):
        style = {"marker": "osDv^<>p"[i % 8], "color": COLOURS[i % len(COLOURS)], "markersize": 6, "label": name}
        line = {} if rows[0].exact else {"linestyle": "--", "markerfacecolor": "none"}
        heights = [100 * row.accuracy for row in rows]
        left.plot([row.to_answer for row in rows], heights, **style, **line)
        right.plot([row.operations for row in rows], heights, **style, **line)
    for axes, what, unit in (
        (left, "timesteps from the image to the answer", 1),
        (right, "synaptic operations of an image (millions)", 1e6),
    ):
        axes.axhline(100 * made.source, color="#000000", linestyle=":", linewidth=1, label="source network")
        axes.set(xlabel=what)
        _logarithmic(axes, unit)
    left.set(ylabel="accuracy (%)")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(title)
    _save(figure, path)


def _logarithmic(axes: Any, unit: float) -> None:
    """A logarithmic horizontal axis, whose ticks are plain numbers of so large a unit."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=9))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / unit:g}")


def costs(measured: Sequence[Cost], named: Sequence[Cost], title: str, path: Path) -> None:
    """Energy against timesteps of everything that a search for lags has tried.

    Some choices are named.

    Raises:
        DataError, FileError: as :func:`metric_bars`.
    """
    figure, axes = _figure(6, 4)
    axes.scatter([c.timesteps for c in measured], [1e6 * c.energy for c in measured], s=12, color=COLOURS[4])
    for i, cost in enumerate(named):
        same = len(set(cost.lags)) == 1
        label = f"lag {cost.lags[0]}" if same else f"lags {', '.join(map(str, cost.lags))}"
        place = ([cost.timesteps], [1e6 * cost.energy])
        axes.plot(*place, "osDv^<>p"[i % 8], markersize=8, color=COLOURS[i % 4], label=label, linestyle="")
    axes.set(xlabel="timesteps to the answer, mean", ylabel="dynamic energy of an image (µJ)", title=title)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    _save(figure, path)


def mesh(places: Array, values: Mapping[str, Array], title: str, path: Path) -> None:
    """The tiles of a mesh of cores, one picture for each quantity: its sum over a tile's cores.

    Args:
        places: (cores, 2) column and row of each core's tile.
        values: by what they are, (cores,) each.
        title: of the figure.
        path: of the file.

    Raises:
        DataError, FileError: as :func:`metric_bars`.
    """
    figure, _ = _figure(4.5 * len(values) + 1, 3.8)
    figure.clear()
    for axes, (name, value) in zip(figure.subplots(1, len(values), squeeze=False)[0], values.items(), strict=True):
        _tiles(figure, axes, places, name, value)
    figure.suptitle(f"{title}, by tile")
    _save(figure, path)


def _tiles(figure: Any, axes: Any, places: Array, name: str, value: Array) -> None:
    """One quantity on the mesh."""
    width, height = (int(n) + 1 for n in places.max(0))
    tiles = np.full((height, width), np.nan)
    tiles[places[:, 1], places[:, 0]] = 0
    np.add.at(tiles, (places[:, 1], places[:, 0]), value)
    picture = axes.imshow(tiles, origin="lower", cmap="cividis")
    axes.set(title=name, xlabel="column", ylabel="row", xticks=range(0, width, 2), yticks=range(0, height, 2))
    figure.colorbar(picture, ax=axes, shrink=0.8)


def activity(
    layers: Sequence[tuple[Population, float]], accuracy: Array, timesteps: Array, title: str, path: Path
) -> None:
    """What a run did: a neuron's spikes in each layer, and the accuracy while timesteps pass.

    The spikes are the paper's Figure 4.

    Args:
        layers: spiking populations with the spikes that a neuron of theirs sends for an image, in
            the order of the network.
        accuracy: share of correct predictions after each timestep, (steps,).
        timesteps: until the answer was final, (N,).
        title: of the figure.
        path: of the file.

    Raises:
        DataError, FileError: as :func:`metric_bars`.
    """
    figure, _ = _figure(9, 0.26 * len(layers) + 2.2)
    figure.clear()
    left, right = figure.subplots(1, 2)
    for kind in dict.fromkeys(population.kind for population, _ in layers):
        rows = [(i, rate) for i, (population, rate) in enumerate(layers) if population.kind == kind]
        colour = POPULATION_COLOURS.get(kind, NEUTRAL)
        left.barh(*zip(*rows, strict=True), color=colour, label=KIND_NAMES.get(kind, kind))
    for i, (_, rate) in enumerate(layers):
        left.annotate(f"{rate:.2f}", (rate, i), (3, 0), textcoords="offset points", va="center", fontsize=9)
    left.set_yticks(range(len(layers)), [printable(population.name) for population, _ in layers])
    left.invert_yaxis()
    left.margins(x=0.14)
    left.set(xlabel="spikes of a neuron for an image, mean", title="spike rate of each layer")
    if len({population.kind for population, _ in layers}) > 1:
        left.legend(frameon=False, fontsize=9)
    right.plot(range(1, len(accuracy) + 1), 100 * accuracy, color=COLOURS[0])
    final = float(np.mean(timesteps))
    right.axvline(final, color="#000000", linestyle=":", label=f"final after {final:.4g}, mean")
    right.set(
        xlabel="timesteps",
        ylabel="accuracy (%)",
        title="accuracy while the spikes arrive",
        ylim=(0, 102),
        xlim=(0, None),
    )
    right.legend(frameon=False, fontsize=9, loc="upper left")
    figure.suptitle(title)
    _save(figure, path)


def frames(
    spent: Array,
    dense: float,
    quantity: str,
    changed: Mapping[str, Array],
    starts: Sequence[int],
    title: str,
    path: Path,
) -> None:
    """What each frame took beside the dense source network, and which layers changed.

    Args:
        spent: of the quantity, for each frame, (N,).
        dense: what the source network takes for a frame.
        quantity: its name and unit.
        changed: by layer, the share of its neurons that sent something, (N,).
        starts: the frames that begin a sequence, from rest.
        title: of the figure.
        path: of the file.

    Raises:
        DataError, FileError: as :func:`metric_bars`.
    """
    figure, _ = _figure(9, 0.24 * len(changed) + 4)
    figure.clear()
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, max(3, 0.4 * len(changed))))
    above.plot(
        spent, color=COLOURS[0], linewidth=1, label=f"each frame; mean {np.mean(spent) / dense:.1%} of the source's"
    )
    above.axhline(dense, color="#000000", linestyle=":", label="dense source network")
    above.set(
        ylabel=quantity, ylim=(0, 1.08 * max(dense, float(np.max(spent)))), title="beside the dense source network"
    )
    above.legend(frameon=False, fontsize=9)
    for start in starts[1:]:
        above.axvline(start, color="#999999", linewidth=0.8)
    shares = 100 * np.stack(list(changed.values()))
    picture = below.imshow(shares, aspect="auto", interpolation="nearest", cmap="cividis", vmin=0)
    below.set_yticks(range(len(changed)), [printable(name) for name in changed], fontsize=8)
    below.set(xlabel="frame", title="neurons that sent something (%)")
    figure.colorbar(picture, ax=below)
    figure.suptitle(title)
    _save(figure, path)


_SEEN = 1e-3
"""The smallest share of the energy that is drawn: smaller ones are thinner than a line."""


def energy(
    layers: Mapping[str, Mapping[str, float]],
    source: Mapping[str, float],
    title: str,
    path: Path,
    cores: tuple[Array, Mapping[str, Array]] | None = None,
) -> None:
    """Energy of an image, stacked by kind of event.

    Shown are the whole network beside the source network, each layer, and on cores also the mesh.

    Args:
        layers: joules by layer and kind of event, in the order of the network.
        source: the source network's joules by layer.
        title: of the figure.
        path: of the file.
        cores: (cores, 2) column and row of each core's tile, and quantities of the cores as
            :func:`mesh` takes them.

    Raises:
        DataError, FileError: as :func:`metric_bars`.
    """
    figure, _ = _figure(8 if cores is None else 12, 0.26 * len(layers) + 3)
    figure.clear()
    left, right = (figure, None) if cores is None else figure.subfigures(1, 2, width_ratios=(2, 1))
    above, below = left.subplots(2, 1, height_ratios=(2, max(3, len(layers))))
    whole = {kind: sum(joules.get(kind, 0.0) for joules in layers.values()) for kind in KIND_STYLES}
    kinds = [kind for kind, part in whole.items() if part > _SEEN * sum(whole.values())]
    _stacks(above, {"spiking network": whole, "source network": {}}, kinds)
    total, reference = sum(whole.values()), sum(source.values())
    above.barh(1, reference, color="#999999", label="source network")
    above.axvline(reference, color="#000000", linestyle=":", linewidth=1)
    for row, value in enumerate((total, reference)):
        above.annotate(joules(value), (value, row), (3, 0), textcoords="offset points", va="center", fontsize=9)
    above.margins(x=0.12)
    _stacks(below, layers, kinds)
    below.plot([source[name] for name in layers], range(len(layers)), "k|", markersize=9, markeredgewidth=2)
    above.plot([], [], "k|", markersize=9, markeredgewidth=2, label="source network, that layer")
    for axes, most in ((above, max(total, reference)), (below, max(max(source.values()), _longest(layers)))):
        _energy_axis(axes, most)
    above.set(title="all layers")
    below.set(title="layer by layer")
    handles, labels = above.get_legend_handles_labels()
    left.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.suptitle(title)
    if right is not None and cores is not None:
        places, values = cores
        column = right.subplots(len(values), 1, squeeze=False)[:, 0]
        for axes, (name, quantity) in zip(column, values.items(), strict=True):
            _tiles(right, axes, places, name, quantity)
    _save(figure, path)


def _stacks(axes: Any, rows: Mapping[str, Mapping[str, float]], kinds: Sequence[str]) -> None:
    """Horizontal bars from the top, stacked by kind."""
    ends = np.zeros(len(rows))
    for kind in kinds:
        label, colour, hatch = KIND_STYLES[kind]
        parts = np.array([joules.get(kind, 0.0) for joules in rows.values()])
        axes.barh(
            range(len(rows)), parts, left=ends, color=colour, hatch=hatch, edgecolor="white", linewidth=0, label=label
        )
        ends += parts
    axes.set_yticks(range(len(rows)), [printable(name) for name in rows])
    axes.invert_yaxis()


def _longest(rows: Mapping[str, Mapping[str, float]]) -> float:
    return max(sum(joules.values()) for joules in rows.values())


def _energy_axis(axes: Any, most: float) -> None:
    unit, size = energy_unit(most)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / size:g}")
    axes.set_xlabel(f"dynamic energy of an image ({unit})")
    axes.set_xlim(left=0)


def nir_graph(raw: Any, path: Path) -> None:
    """A NIR graph as nodes and edges, by nirviz (https://github.com/open-neuromorphic/nirviz).

    Raises:
        DataError: nirviz or graphviz is not installed.
        FileError: an unknown file type, or a place that cannot be written.
    """
    kind = _kind(path, "svg", "png")
    try:
        import nirviz
    except ImportError as error:
        raise DataError("pictures of graphs need nirviz: pip install 'pascal-nm[plot]'") from error
    try:
        drawn = nirviz.visualize(raw, orientation="vertical").viz_graph.pipe(format=kind)
    except Exception as error:  # of names that dot does not take there are many kinds
        if type(error).__name__ == "ExecutableNotFound":
            raise DataError(
                "pictures of graphs need the program dot: install graphviz (apt install graphviz)"
            ) from error
        raise DataError(f"dot cannot draw this graph: {described(error)}") from error
    with replacing(path) as temporary:
        temporary.write_bytes(drawn)


def _figure(width: float, height: float) -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DataError("pictures need matplotlib: pip install 'pascal-nm[plot]'") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _save(figure: Any, path: Path) -> None:
    """Write a figure, its texts as they are.

    A dollar in a name begins no formula, and what is no character is written out.
    """
    from matplotlib import rc_context
    from matplotlib.text import Text

    kind = _kind(path, *_KINDS)
    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_text(printable(text.get_text()))
    with rc_context({"text.parse_math": False}), replacing(path) as temporary:  # of ticks that drawing makes
        figure.savefig(temporary, format=kind, dpi=200)


def _kind(path: Path, *kinds: str) -> str:
    kind = path.suffix.removeprefix(".")
    if kind not in kinds:
        raise FileError(f"{path}: such pictures are written as {' or '.join(f'.{k}' for k in kinds)}")
    return kind


def staircase(*, levels: int, threshold: float, path: Path) -> None:
    """Figure 2 of the paper: a QCFS activation, and the spikes of a PASC neuron on it.

    Beside it is the clipped ReLU that it quantizes.

    Args:
        levels: L.
        threshold: theta_n; a spike stands for theta_n / L.
        path: of the file.

    Raises:
        DataError, FileError: as :func:`metric_bars`.
    """
    from torch import from_numpy, tensor

    from pascal_nm.source.qcfs import qcfs

    figure, axes = _figure(6, 4)
    x = np.linspace(-threshold / levels, threshold * (1 + 1 / levels), 2001)
    axes.plot(x, np.clip(x, 0, threshold), "--", color=COLOURS[1], label="ReLU, clipped")
    activation = qcfs(from_numpy(x), tensor(threshold, dtype=from_numpy(x).dtype), levels).numpy()
    axes.step(x, activation, where="mid", color=COLOURS[0], label="QCFS (Equation 1)")
    inputs = np.linspace(x[0], x[-1], 8 * (levels + 2) + 1)
    spikes = _spikes(inputs, threshold / levels, levels)
    axes.plot(
        inputs, spikes * threshold / levels, "o", color="#000000", markersize=3, label="spikes (Algorithm 1), scaled"
    )
    axes.set_yticks([k * threshold / levels for k in range(levels + 1)])
    axes.set(xlabel="input x", ylabel="activation", title=f"QCFS with L = {levels}, theta = {threshold:g} (Figure 2)")
    axes.legend(frameon=False, loc="upper left")
    _save(figure, path)


def _spikes(inputs: Array, theta: float, levels: int) -> Array:
    """Spikes that a PASC neuron sends for each input, which comes in L equal parts."""
    from pascal_nm import neuron

    state = neuron.State(np.full(inputs.shape, theta / 2), np.zeros(inputs.shape, np.int64))
    for _ in range(levels):
        state = neuron.integrate(state, inputs / levels, theta).state
    for _ in range(levels - 1):
        state = neuron.correct(state, theta).state
    sent = np.zeros(inputs.shape, np.int64)
    for _ in range(levels):
        spikes, state = neuron.emit(state)
        sent += spikes
    return sent
