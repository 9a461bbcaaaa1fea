"""The command that maps a network onto the cores of a chip."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from pascal_nm.cli import options, plots
from pascal_nm.cli.output import percent, print_json, progress, say, table
from pascal_nm.cli.outputs import PICTURE
from pascal_nm.common.arrays import Array
from pascal_nm.data import Dataset
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import evaluation
from pascal_nm.hw_targets.loihi import Execution
from pascal_nm.hw_targets.mapping import Placement
from pascal_nm.hw_targets.program import lower
from pascal_nm.hw_targets.splitting import LIMITS, RELIEF
from pascal_nm.network.graph import Quantization


def map(
    network: options.NetworkFile,
    chip: Annotated[
        str, typer.Option("--chip", "-c", help=f"{', '.join(chips.available())}, or a .toml file.")
    ] = "loihi1",
    bits: Annotated[
        int | None,
        typer.Option(help="Quantize a float network to so many bits.", show_default="those that it was trained for; 8"),
    ] = None,
    objective: options.Objective = "time",
    data_name: Annotated[
        str | None,
        typer.Option("--data", "-d", help="Also run images, and show the load of the cores.", show_default=False),
    ] = None,
    limit: options.Limit = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw the mesh, load and traffic of each tile, to a .png, .svg or .pdf."),
        PICTURE,
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Which neurons go to which core of a chip, what each core uses, and which limit binds.

    What a core uses is set against its limits.
    """
    described = chips.load(chip)
    graph = options.load_network(network)
    data = None if data_name is None else options.load_data(data_name, limit, network=graph)
    graph = graph if data is None else options.completed(graph, data, quantized=True)
    with progress("mapping"):
        program = Execution(lower(graph, described, Quantization(options.bits_of(network, bits)), objective), described)
        found = program.placement
    assert found is not None, "the program is for the cores of a chip"
    options.note_objective(objective, described, found)
    load = None if data is None else _load(program, data)
    if plot is not None:
        sizes = np.concatenate([blocks.sizes for blocks in found.blocks.values()]).astype(float)
        traffic = found.messages.sum(0) + found.messages.sum(1)
        title = f"{network.name} on {described.name}: {found.cores:,} cores"
        if load is None:
            plots.mesh(found.places, {"neurons": sizes, "neurons heard and heard by": traffic}, title, plot)
        else:
            plots.mesh(
                found.places, dict(zip(("synaptic operations", "messages in and out"), load, strict=True)), title, plot
            )
    if as_json:
        print_json(_json(found, described.name))
        return
    columns = ("layer", "shape", "blocks", "cores", *(name.replace("_", "-") for name in LIMITS), "binds")
    rows = [_row(found, name) for name in found.blocks]
    table(f"{network} on {described.name}: the fullest core of each layer", columns, rows)
    say(
        f"[bold]{found.cores:,} cores of {found.chips} chip(s)[/bold]; "
        f"a message takes {found.mean_hops:.2f} hops if all neurons spike alike"
    )
    binding = max(found.blocks, key=lambda name: found.blocks[name].cores)
    limit_name = found.use[binding].binding
    say(
        f"most cores, {found.blocks[binding].cores:,}, go to {binding}, where {limit_name.replace('_', '-')} bind(s); "
        f"fewer with {RELIEF[limit_name]}"
    )
    if load is not None:
        busiest = int(load[0].argmax())
        say(f"busiest core: {busiest}, {load[0][busiest] / load[0].mean():.1f} times the mean's synaptic operations")
    if described.estimate:
        say("the limits of this chip's file are estimates in part: see its sources")


def _load(program: Execution, data: Dataset) -> tuple[Array, Array]:
    """Synaptic operations and messages of each core, mean over the images."""
    with progress("running") as update:
        result = evaluation.evaluate(program, data, progress=update)
    loads = result.loads
    return result.core_operations, (loads["message"] + loads["message_in"]).mean(0)


def _row(found: Placement, name: str) -> list[object]:
    use, blocks = found.use[name], found.blocks[name]
    shares = [percent(use.shares[limit]) for limit in LIMITS]
    shape = "x".join(str(n) for n in found.graph[name].shape)
    return [name, shape, "x".join(str(n) for n in blocks.grid), blocks.cores, *shares, use.binding.replace("_", "-")]


def _json(found: Placement, chip: str) -> dict[str, Any]:
    layers = [
        {
            "name": name,
            "blocks": list(blocks.grid),
            "cores": blocks.cores,
            "first_core": found.first[name],
            "shares": found.use[name].shares,
            "binding": found.use[name].binding,
        }
        for name, blocks in found.blocks.items()
    ]
    return {
        "chip": chip,
        "objective": found.objective,
        "cores": found.cores,
        "chips": found.chips,
        "mean_hops": found.mean_hops,
        "layers": layers,
        "tiles": found.places.tolist(),
    }
