"""The command that chooses lags for the streaming schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from pascal_nm.cli import options, plots
from pascal_nm.cli.output import joules, percent, print_json, progress, say, table
from pascal_nm.cli.outputs import PICTURE, Writes
from pascal_nm.errors import DataError, PascalError
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import cost, evaluation, fixed_point, mapping
from pascal_nm.hw_targets.bill import Priced
from pascal_nm.hw_targets.chip import Chip
from pascal_nm.hw_targets.traffic import Traffic
from pascal_nm.network.graph import SCHEDULES, Graph, Quantization, Timing
from pascal_nm.search.lags import Cost, Search, write_lags
from pascal_nm.simulation import events
from pascal_nm.simulation.result import RunResult


def lags(
    network: options.NetworkFile,
    data_name: options.DataName = "digits",
    limit: Annotated[int, typer.Option(help="Images to measure on: the first N.", metavar="N", min=1)] = 50,
    timesteps: Annotated[
        float | None,
        typer.Option("--timesteps", "-T", help="The most timesteps to the answer, on average.", show_default=False),
    ] = None,
    energy: Annotated[
        float | None, typer.Option(help="Or the most energy of an image, in microjoules.", show_default=False)
    ] = None,
    chip: Annotated[
        str, typer.Option("--chip", "-c", help=f"{', '.join(chips.available())}, or a .toml file.")
    ] = "loihi1_calibrated",
    bits: Annotated[
        int | None, typer.Option(help="Quantize a float network first.", show_default="8 on a chip with cores")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the lags found here, for --lag.", show_default=False),
        Writes((".json",)),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw everything measured: energy against timesteps, to a .png, .svg or .pdf."),
        PICTURE,
    ] = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Choose each layer's lag: the least energy within a time, or the least time within an energy.

    That is the least energy within --timesteps, or the fewest timesteps within
    --energy. Every choice is exact. The last rows are of schedules whose spikes
    carry numbers, where the chip has such spikes.
    """
    if timesteps is not None and energy is not None:
        raise DataError("--timesteps and --energy are two questions: give one limit")
    if output is not None and timesteps is None and energy is None:
        raise DataError("--output needs --timesteps or --energy: without a limit no lags are chosen")
    described = chips.load(chip)
    graph = options.load_network(network)
    data = options.load_data(data_name, limit, image_column, label_column, network=graph)
    graph = options.completed(graph, data, quantized=bits is not None or described.core is not None)
    if not graph.is_integer and (bits is not None or described.core is not None):
        streaming = graph.replace(timing=Timing("streaming"))
        graph = fixed_point.fit(streaming, described, Quantization(bits or 8)).replace(timing=graph.timing)
    evaluation.check(graph, data)

    def joules_of(timed: Graph, result: RunResult) -> float:
        return sum(layer.dynamic for layer in cost.energy(events.count(timed, result), described))

    watcher = None if described.core is None else Traffic(mapping.place(graph, described))
    search = Search(graph, graph.taken(data.pixels), joules_of, watcher)
    with progress("measuring") as update:
        uniform = search.uniform(update)
        found = _found(search, timesteps, energy, update)
    best = [] if found is None else [found]
    carrying = {timing: search.under(timing) for timing in _carrying(graph, described)}
    if output is not None and found is not None:
        write_lags(output, found, str(network), data.name)
    title = f"{network.name}, {len(data):,} images of {data.name}"
    if plot is not None:
        plots.costs(list(search.measured.values()), [*uniform, *best], f"{title}\n{described.name}", plot)
    if as_json:
        content = {"chip": described.name, "uniform": [vars(c) for c in uniform], "best": [vars(c) for c in best]}
        print_json(content | {"graded": [{"schedule": t.schedule} | vars(c) for t, c in carrying.items()]})
        return
    columns = ("lags", "timesteps", "at most", f"energy, {described.name}", "spikes over the least")
    rows = [*map(_row, uniform), *([f"chosen: {name}", *row] for name, *row in map(_row, best))]
    table(title, columns, [*rows, *([str(t), *_row(c)[1:]] for t, c in carrying.items())], total=bool(carrying))
    for timing, cost_of in carrying.items():
        say(_against(str(timing), cost_of, list(search.measured.values())))
    if found is None:
        say("--timesteps or --energy chooses a lag for each layer")
    elif output is not None:
        say(f"[bold]{output}[/bold] holds them, for --schedule streaming --lag {output}")


def _found(search: Search, timesteps: float | None, energy: float | None, update: Callable[..., None]) -> Cost | None:
    if energy is None:
        return None if timesteps is None else search.best(timesteps=timesteps, progress=update)
    return search.best(energy=energy * 1e-6, progress=update)


def _carrying(graph: Graph, described: Chip) -> list[Timing]:
    """The schedules whose spikes carry numbers that the chip can run."""
    found = []
    for timing in (Timing(name) for name, traits in SCHEDULES.items() if traits.graded):
        try:
            Priced.on(graph.replace(timing=timing), {described.name: described})
        except PascalError:
            continue
        found.append(timing)
    return found


def _against(schedule: str, one: Cost, measured: Sequence[Cost]) -> str:
    """Whether a schedule takes less energy than all lags that were measured."""
    least = min(measured, key=lambda cost: cost.energy)
    if one.energy < least.energy:
        return (
            f"schedule {schedule} beats all of these lags: {joules(one.energy)} in {one.timesteps:.1f} timesteps, "
            f"the least with lags is {joules(least.energy)}"
        )
    return f"schedule {schedule} does not beat all lags: {_name(least)} takes {joules(least.energy)}"


def _name(cost: Cost) -> str:
    same = len(set(cost.lags)) == 1
    return f"{cost.lags[0]} in all" if same else ", ".join(map(str, cost.lags))


def _row(cost: Cost) -> list[object]:
    name = _name(cost) if cost.lags else ""
    return [name, f"{cost.timesteps:.1f}", cost.slowest, joules(cost.energy), percent(cost.excess)]
