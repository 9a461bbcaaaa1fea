"""The command that writes what a chip is programmed from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from pascal_nm import __version__
from pascal_nm.cli import options
from pascal_nm.cli.output import print_json, progress, say
from pascal_nm.cli.outputs import Writes
from pascal_nm.errors import FileError
from pascal_nm.export.bundle import cores_json, place, read_bundle, write_bundle
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import fixed_point, mapping
from pascal_nm.hw_targets.simulator import SimulatorProgram
from pascal_nm.network.graph import Quantization
from pascal_nm.simulation import schedule as schedules
from pascal_nm.simulation import simulate

CHECKED = 4
"""Inputs in the bundle with their counts."""


def deploy(
    network: options.NetworkFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the bundle.", show_default=False), Writes()],
    chip: Annotated[
        str, typer.Option("--chip", "-c", help=f"{', '.join(chips.available())}, or a .toml file.")
    ] = "loihi2",
    bits: Annotated[int, typer.Option(help="Quantize a float network to so many bits.")] = 8,
    objective: options.Objective = "time",
    schedule: options.ScheduleName = None,
    lag: options.Lag = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write what a chip needs to be programmed, and prove that it runs to the same counts.

    The folder holds the integer network, core map, schedule and checksums.
    """
    place(output)
    described = chips.load(chip)
    graph = options.load_network(network)
    graph = options.timing(graph, schedule, lag, None)
    graph = graph if graph.is_integer else fixed_point.fit(graph, described, Quantization(bits))
    encoded = fixed_point.check(graph, described)
    with progress("mapping"):
        found = mapping.place(graph, described, objective)
    options.note_objective(objective, described, found)
    levels = graph.input.levels
    integers = np.random.default_rng(0).integers(-levels, levels + 1, (CHECKED, *graph.input.shape))
    result = simulate.steps(graph, graph.input.inputs(integers))
    check = {f"count_{name}": count for name, count in result.counts.items()}
    check |= {"inputs": integers.astype(np.int32), "potential": result.potential}
    about = {
        "network": network.name,
        "chip": described.name,
        "estimate": described.estimate,
        "remark": described.remark,
        "quantization": None if graph.quantization is None else vars(graph.quantization),
        "cores": found.cores,
        "chips": found.chips,
        "delay": schedules.of(graph).delay,
        **vars(graph.timing),
    }
    registers = {f"{name}_{key}": a for name, encoding in encoded.items() for key, a in encoding.arrays().items()}
    if described.fixed_point is not None:
        registers["shift"] = np.asarray(described.fixed_point.shift)
    cores = cores_json(found.blocks, found.places)
    write_bundle(output, graph, schedules.of(graph), cores, check, about, registers, _prove)
    if as_json:
        print_json({"folder": str(output), "pascal_nm": __version__, **about})
        return
    say(
        f"[bold]{output}[/bold]: {graph.quantization or 'integer'} network on {found.cores:,} cores of {found.chips} "
        f"chip(s), {described.name}"
    )
    say(
        f"read back and run: every count of {CHECKED} inputs as before; no potential, weight, "
        "threshold or bias can overflow"
    )


def _prove(folder: Path) -> None:
    """Run the bundle from its files, and compare with its own counts."""
    graph, check, _ = read_bundle(folder)
    again = SimulatorProgram(graph).run(graph.input.inputs(check["inputs"]))
    counts = all(np.array_equal(count, check[f"count_{name}"]) for name, count in again.counts.items())
    if not counts or not np.array_equal(again.potential, check["potential"]):
        raise FileError("the bundle does not run to the counts that it was written with: none was written")
