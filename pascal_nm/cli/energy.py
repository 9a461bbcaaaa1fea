"""The command that says what a network costs on chips, and where the energy goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from pascal_nm.cli import choices, options, plots
from pascal_nm.cli import frames as frame_words
from pascal_nm.cli.output import band, joules, milliseconds, percent, print_json, progress, say, span, table
from pascal_nm.cli.outputs import PICTURE
from pascal_nm.common.band import Band
from pascal_nm.data import Frames
from pascal_nm.errors import DataError, TargetError
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import devices
from pascal_nm.hw_targets.bill import Bill, Priced
from pascal_nm.hw_targets.chip import Chip
from pascal_nm.hw_targets.choices import Choice
from pascal_nm.hw_targets.choices import choices as by_schedule
from pascal_nm.hw_targets.cost import KINDS
from pascal_nm.hw_targets.devices import Device
from pascal_nm.hw_targets.evaluation import Shown, frame_summary, predictions
from pascal_nm.network.graph import Graph
from pascal_nm.paper import analysis
from pascal_nm.simulation.events import EVENTS, LayerEvents

ALL = "all"

Chips = Annotated[
    list[str],
    typer.Option(
        "--chip",
        "-c",
        help=f"{', '.join(chips.available())}, or a .toml file. Give it again to compare chips, or say {ALL}.",
    ),
]


def energy(
    network: options.NetworkFile,
    data_name: options.DataName = "digits",
    frames: options.FramesName = None,
    threshold: options.Threshold = 0.0,
    chip: Chips = ["loihi1"],  # noqa: B006
    memory: Annotated[
        bool,
        typer.Option("--memory", help="Count memory traffic, too, where the energies of a chip's events leave it out."),
    ] = False,
    pipelined: Annotated[
        bool,
        typer.Option("--pipelined", help="Images or frames follow each other as soon as the first layers are free."),
    ] = False,
    beside: Annotated[
        str,
        typer.Option(
            help=(
                f"A device that runs dense networks, for the source network: {', '.join(devices.available())}, or a "
                ".toml file."
            )
        ),
    ] = devices.USUAL,
    objective: options.Objective = "time",
    limit: options.Limit = None,
    schedule: options.ScheduleName = None,
    lag: options.Lag = None,
    compare: Annotated[
        bool,
        typer.Option("--compare/--no-compare", help="Also price every other schedule that a chip can run."),
    ] = True,
    plot: Annotated[
        Path | None,
        typer.Option(
            help=(
                "Draw energy by layer and kind of event, and the mesh of cores, or energy frame by frame and which "
                "layers change, to a .png, .svg or .pdf."
            )
        ),
        PICTURE,
    ] = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """What the network would cost on chips: events that are counted, times each chip's table.

    Dynamic energy is that of the events. Static energy is what the chip draws meanwhile, whatever
    its neurons do; the host feeds it. What a chip's file does not know is said, and not added.
    """
    names, device = chip_names(chip), devices.load(beside)
    if plot is not None and len(names) > 1:
        raise DataError("--plot draws one chip: give --chip once")
    described = {name: chips.load(name, memory=memory) for name in names}
    graph = options.timing(options.load_network(network), schedule, lag, None)
    refused: dict[str, TargetError] | None = {} if ALL in chip else None
    data = options.load_shown(data_name, frames, threshold, limit, image_column, label_column, network=graph)
    graph = options.completed(graph, data, quantized=any(chip.widths for chip in described.values()))
    kept = frames is not None
    runs = Priced.on(graph, described, objective, pipelined=pipelined, frames=kept, refused=refused)
    found = {name: bill for each in runs for name, bill in counted(each, data, threshold).items()}
    bills = {name: found[name] for name in names if name in found}
    name, first = next(iter(bills.items()))
    unable = {name: str(error) for name, error in (refused or {}).items()}
    changed = _changed(graph, bills, data, threshold)
    compared = {name: _choices(graph, described[name], data, objective, threshold) for name in names if compare}
    for bill in bills.values():
        options.note_objective(objective, bill.chip, bill.placement)
    if plot is not None:
        _draw(first, f"{network.name} on {first.chip.name}", data, plot)
    if as_json:
        reports = [
            bill.summary(device)
            | {"predictions_changed_by_quantization": changed[name]}
            | (_frame_figures(bill, data) if isinstance(data, Frames) else {})
            | ({"schedules": [each.summary() for each in compared[name]]} if compare else {})
            for name, bill in bills.items()
        ]
        content = {"images": len(data), "threshold": threshold, **vars(graph.timing)}
        several = {"chips": reports} | ({"refused": unable} if unable else {})
        print_json(content | (reports[0] if len(names) == 1 else several))
        return
    if len(names) == 1:
        _show(first, data, changed[name], compared, device)
    else:
        _compare(bills, changed, f"{network}, {_per(data)}", device)
        if compare:
            choices.show(compared, _one(data))
        else:
            for name, why in unable.items():
                say(f"{name}: {why}")
    frame_words.note_threshold(threshold)


def _one(data: Shown) -> str:
    return "frame" if isinstance(data, Frames) else "image"


def _per(data: Shown) -> str:
    return f"per {_one(data)}, mean of {len(data):,} {_one(data)}s of {data.name}"


def _frame_figures(bill: Bill, frames: Frames) -> dict[str, Any]:
    """What JSON says of frames, with their energy."""
    found = frame_summary(bill.graph, frames, bill.result)
    found["each_frame"]["joules"] = bill.joules_by_image.tolist()
    return found


def chip_names(given: list[str]) -> list[str]:
    """The chips that --chip names, each once."""
    return list(dict.fromkeys(n for name in given for n in (chips.available() if name == ALL else [name])))


def counted(priced: Priced, data: Shown, threshold: float = 0.0) -> dict[str, Bill]:
    """The bills of a run, behind a progress bar."""
    with progress(f"counting events, {priced.title}") as update:
        return priced.bills(data, threshold=threshold, progress=update)


def _choices(graph: Graph, chip: Chip, data: Shown, objective: str, threshold: float) -> list[Choice]:
    with progress(f"every other schedule, {chip.name}") as update:
        return by_schedule(graph, chip, data, objective, threshold=threshold, progress=update)


def _changed(graph: Graph, bills: dict[str, Bill], data: Shown, threshold: float) -> dict[str, int | None]:
    """By chip, how many predictions of a float network quantization changed, if there was any."""
    quantized = {name for name, bill in bills.items() if bill.graph.is_integer and not graph.is_integer}
    expected = predictions(graph, data, threshold) if quantized else np.zeros(0)
    return {name: bill.result.unlike(expected) if name in quantized else None for name, bill in bills.items()}


def _show(bill: Bill, data: Shown, changed: int | None, compared: Mapping[str, list[Choice]], device: Device) -> None:
    """One chip, layer by layer."""
    described, result, dynamic = bill.chip, bill.result, bill.dynamic
    columns = dict.fromkeys(event.column for event in EVENTS.values() if event.column)
    counts = [_counts(layer.events) for layer in bill.layers]
    rows = [
        [layer.name, *row, joules(layer.dynamic), percent(layer.dynamic / dynamic)]
        for layer, row in zip(bill.layers, counts, strict=True)
    ]
    sums = [sum(column) for column in zip(*counts, strict=True)]
    say(headline(bill, data))
    table(
        f"{described.name}, {_per(data)}",
        ("layer", *columns, "dynamic", "share"),
        [*rows, ["all", *sums, joules(dynamic), ""]],
        total=True,
    )
    which = "" if changed is None else f" of the {bill.graph.quantization} network, whose energy this is"
    right = f"accuracy {percent(result.accuracy)}{which}, " if result.labelled else ""
    say(f"{right}{span(result.timesteps)} timesteps {_a(data)}")
    options.say_changed(changed, len(data))
    _show_parts(bill, data)
    if bill.pipelined:
        say(f"timesteps from one image to the next: {result.schedule.initiation_interval:,}{_every(bill)}")
    say(f"where the dynamic energy goes: {', '.join(_goes(bill))}")
    _show_source(bill, device)
    if bill.over_plain is not None and bill.unary:
        timed = "" if bill.work_over_plain is None else f", in the cores' working time {bill.work_over_plain:.4g}"
        say(
            f"neurons take {percent(bill.neurons)} of the energy; PASC over plain neurons, updated once in each of "
            f"L timesteps for the same spikes: {bill.over_plain:.4g}{timed}"
        )
    say(f"figures: {_figures(described)}")
    if compared:
        choices.show(compared, _one(data))
    if bill.unary:
        _show_formulas(bill)


def headline(bill: Bill, data: Shown) -> str:
    """Dynamic energy, and the total where it is known, in a line."""
    said = f"[bold]{joules(bill.dynamic)} {_a(data)} in events[/bold] on {bill.chip.name}"
    return said if bill.total is None else f"{said}, [bold]{band(bill.total)} in all[/bold]"


def _show_parts(bill: Bill, data: Shown) -> None:
    """Energy and time in their parts, and in all."""
    said = f"energy of {_a(data)}: dynamic {band(bill.dynamic)}, static {band(bill.static)}, "
    say(f"{said}host {band(bill.host)}; total {band(bill.total)}")
    if bill.seconds is not None and bill.placement is not None:
        say(
            f"{band(bill.seconds, milliseconds)} {_a(data)} on {bill.placement.cores:,} cores of "
            f"{bill.placement.chips} chip(s): each timestep lasts as long as its slowest core, the longest way and the "
            "barrier"
        )
        if bill.host_seconds is not None:
            values = float(np.mean(bill.result.injected))
            say(
                f"with the host, which sends {values:,.0f} values and reads {bill.graph.output.size}: "
                f"{band(bill.with_host, milliseconds)}"
            )
    say_unknown(bill, "this chip")


def say_unknown(bill: Bill, chip: str) -> None:
    """Name the parts that a chip's file says nothing of, where there are some."""
    if bill.unknown:
        say(f"not known of {chip}, and not in the total: {', '.join(bill.unknown)}")


def _show_source(bill: Bill, device: Device) -> None:
    """The source network, on the same table, and on a device that runs such networks."""
    source, dynamic = bill.source_dynamic, bill.dynamic
    what = (
        "the source network's multiply-accumulates "
        f"{'and memory traffic ' if bill.chip.memory else ''}on the same table"
    )
    if source == 0:
        say(f"{what} cost nothing")
    else:
        cheaper, factor = ("less", source / dynamic) if dynamic <= source else ("more", dynamic / source)
        hypothetical = "" if bill.placement is None else ": hypothetical, as the chip runs no dense network so"
        say(
            f"in dynamic energy, the spiking network takes {factor:.3g} times {cheaper} than {what}, "
            f"{joules(source)}{hypothetical}"
        )
    operations = bill.source_operations
    took, seconds = device.joules(operations), device.seconds(operations)
    line = f"the source network on {device.name}, at the {device.picojoules:.3g} pJ of a multiply-accumulate measured "
    line += f"there with {device.network}: {joules(took)}{'' if seconds is None else ', ' + milliseconds(seconds)}"
    if bill.total is not None:
        less = took / bill.total
        line += f", {less:.3g} times the total above" if less >= 1 else f", 1/{1 / less:.3g} of the total above"
    say(line)
    say(f"{device.name}: {device.covers}; {device.source}")


def _a(data: Shown) -> str:
    return "a frame" if isinstance(data, Frames) else "an image"


def _every(bill: Bill) -> str:
    """How often an answer comes."""
    seconds = bill.seconds_between_answers
    return "" if seconds is None else f", an answer every {1e3 * seconds:.3g} ms"


def _compare(bills: dict[str, Bill], changed: dict[str, int | None], title: str, device: Device) -> None:
    """A row for each chip, by the name or file that was given."""
    columns = ["chip", "dynamic", "static", "host", "total", "ms", "ms with host", "cores"]
    rows = [
        [
            name,
            *(_cell(part) for part in (bill.dynamic, bill.static, bill.host, bill.total)),
            "" if bill.seconds is None else _cell(bill.seconds, _plain) + _every(bill) * bill.pipelined,
            "" if bill.host_seconds is None else _cell(bill.with_host, _plain),
            "" if bill.placement is None else bill.placement.cores,
        ]
        for name, bill in bills.items()
    ]
    table(title, columns, rows)
    for name, bill in bills.items():
        say_unknown(bill, name)
    columns = ["chip", "accuracy", "source network", "source over spiking", "where the dynamic energy goes"]
    rows = [
        [
            name,
            (percent(bill.result.accuracy) if bill.result.labelled else "")
            + ("" if changed[name] is None else f"\n{changed[name]:,} changed"),
            joules(bill.source_dynamic),
            f"{bill.source_dynamic / bill.dynamic:.3g}",
            "\n".join(_goes(bill)),
        ]
        for name, bill in bills.items()
    ]
    table("the answers, and the source network on the same tables: hypothetical on chips with cores", columns, rows)
    operations = next(iter(bills.values())).source_operations
    say(
        f"the source network on {device.name}, at the {device.picojoules:.3g} pJ of a multiply-accumulate measured "
        f"there with {device.network}: {joules(device.joules(operations))}; {device.covers}; {device.source}"
    )
    if any(number is not None for number in changed.values()):
        say("changed: predictions of the float network that quantization for the chip changed")
    columns = ["chip", "timesteps", "memory", "neurons' share"]
    unary = all(bill.unary for bill in bills.values())
    rows = [
        [
            name,
            span(bill.result.timesteps).removesuffix(","),
            bill.chip.memory_traffic,
            percent(bill.neurons),
            *(_ratio(ratio) for ratio in (bill.over_plain, bill.work_over_plain) if unary),
        ]
        for name, bill in bills.items()
    ]
    if unary:
        columns += ["PASC over plain neurons", "in the cores' working time"]
        table("against plain neurons, updated once in each of L timesteps for the same spikes", columns, rows)
    else:
        table("time, memory and neurons", columns, rows)
    for name, bill in bills.items():
        say(f"{name}: {bill.chip.name}; {_figures(bill.chip)}")


def _cell(value: Band | None, unit: Callable[[float], str] = joules) -> str:
    """A figure, and its range on a line of its own."""
    return band(value, unit).replace(" (", "\n(")


def _plain(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}"


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.4g}"


def _goes(bill: Bill) -> list[str]:
    """Where the energy goes, the largest share first."""
    largest = sorted(bill.shares.items(), key=lambda item: -item[1])
    return [f"{KINDS[kind].label} {percent(share)}" for kind, share in largest if share >= _LEAST]


_LEAST = 5e-4
"""The smallest share that is printed; --json has them all."""


def _figures(described: Chip) -> str:
    return (
        f"{described.source}{' (an estimate, not published figures)' if described.estimate else ''}"
        f"{'. ' if described.remark else ''}{described.remark}"
    )


def _draw(bill: Bill, about: str, data: Shown, path: Path) -> None:
    if isinstance(data, Frames):
        title = f"{about}\n{len(data):,} frames of {data.name}, {bill.graph.timing}"
        joules_by_frame = bill.joules_by_image, bill.source_dynamic
        frame_words.draw(bill.graph, data, bill.result, title, path, joules_by_frame)
        return
    title = f"{about}\nmean of {len(data):,} images of {data.name}"
    cores = None
    if bill.placement is not None:
        loads = {
            "synaptic operations by tile": bill.result.core_operations,
            "messages out by tile": bill.result.loads["message"].mean(0),
        }
        cores = (bill.placement.places, loads)
    plots.energy({layer.name: layer.joules for layer in bill.layers}, bill.source, title, path, cores)


def _counts(events: LayerEvents) -> list[int]:
    """A number for each column."""
    columns: dict[str, float] = {}
    for name, mean in events.means().items():
        columns[EVENTS[name].column] = columns.get(EVENTS[name].column, 0.0) + mean
    return [round(count) for column, count in columns.items() if column]


def _show_formulas(bill: Bill) -> None:
    """The answers first, then the layers that they come from."""
    formulas = bill.closed_formulas
    spiking = sum(layer.own is not None for layer in formulas.layers)
    say("[bold]the paper's closed formulas, with these spike rates[/bold]")
    say(
        f"T_eff {formulas.effective_timesteps:.2f} (Eq. 16, {spiking} layers; "
        f"the first one's input is no spikes and has the paper's rate of {formulas.first_rate:g}; with 1: "
        f"{bill.timesteps_of_a_dense_input:.2f}), PASC over plain neurons {formulas.energy_ratio:.4g} (Eq. 14)"
    )
    for name, b, ratio in (
        ("operations over the source network's (Eq. 15)", formulas.operations, formulas.source_ratio),
        ("mean spike rate of the layers (its footnote)", formulas.mean_rate, formulas.source_ratio_by_mean_rate),
    ):
        say(
            f"Table 3 with b = {b:.4g}, {name}: source over spiking network {ratio(analysis.FP32):.3g} in FP32, "
            f"{ratio(analysis.INT8):.3g} in INT8"
        )
    energies = (joules(1e-12 * formulas.multiply_picojoules(costs)) for costs in (analysis.FP32, analysis.INT8))
    say(
        f"threshold multiplies (A.4) {formulas.multiplies:,.0f}, {next(energies)} in FP32, {next(energies)} in INT8; "
        "this network needs none, its weights hold the thresholds"
    )
    columns = (
        "layer",
        "L",
        "spikes in",
        "spikes out",
        "source MACs",
        "r' (Eq. 11)",
        "r' counted",
        "r' by spikes out",
        "r_E",
    )

    def figure(value: float | None) -> str:
        return "" if value is None else f"{value:.4g}"

    rows = [
        [
            layer.name,
            layer.levels,
            *(figure(rate) for rate in (layer.rate, layer.own)),
            layer.macs,
            *(figure(value) for value in (layer.ratio, layer.counted, layer.worded, layer.energy)),
        ]
        for layer in formulas.layers
    ]
    table("by layer, spikes of a neuron for an image", columns, rows)
