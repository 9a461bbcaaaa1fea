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
from pascal_nm.export.bundle import place
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import fixed_point, program_files
from pascal_nm.hw_targets.program import lower
from pascal_nm.network.graph import Quantization
from pascal_nm.simulation import simulate

_CHECKED = 4
"""Inputs in the bundle with their counts."""


def deploy(
    network: options.NetworkFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the bundle.", show_default=False), Writes()],
    chip: Annotated[
        str, typer.Option("--chip", "-c", help=f"{', '.join(chips.available())}, or a .toml file.")
    ] = "loihi2",
    bits: Annotated[
        int | None,
        typer.Option(help="Quantize a float network to so many bits.", show_default="those that it was trained for; 8"),
    ] = None,
    objective: options.Objective = "time",
    schedule: options.ScheduleName = None,
    lag: options.Lag = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write what a chip needs to be programmed, and prove that it runs to the same counts.

    The folder holds registers, cores, routes, schedule and checksums: `pascal-nm run` executes it.
    """
    place(output)
    described = chips.load(chip)
    graph = options.timing(options.load_network(network), schedule, lag, None)
    graph = fixed_point.fit(graph, described, Quantization(options.bits_of(network, bits)))
    with progress("mapping"):
        program = lower(graph, described, objective=objective)
        found = program.placement(described)
    options.note_objective(objective, described, found)
    levels = graph.input.levels
    integers = np.random.default_rng(0).integers(-levels, levels + 1, (_CHECKED, *graph.input.shape))
    expected = simulate.counts if graph.timing.stop is None else simulate.steps
    check = program_files.checks(integers, expected(graph, graph.input.inputs(integers)))
    about = {
        "network": network.name,
        "chip": described.name,
        "estimate": described.estimate,
        "remark": described.remark,
        "quantization": None if graph.quantization is None else vars(graph.quantization),
        "cores": found.cores,
        "chips": found.chips,
        "delay": program.schedule.delay,
        **vars(graph.timing),
    }
    program_files.write(output, program, check, about)
    if as_json:
        print_json({"folder": str(output), "pascal_nm": __version__, **about})
        return
    say(
        f"[bold]{output}[/bold]: {graph.quantization or 'integer'} network on {found.cores:,} cores of {found.chips} "
        f"chip(s), {described.name}"
    )
    say(
        f"read back and executed from registers and routes: every count of {_CHECKED} inputs is the network's; "
        "no potential, weight, threshold or bias can overflow"
    )
