"""The command that writes what a chip is programmed from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from pascal_nm import __version__
from pascal_nm.cli import options
from pascal_nm.cli.output import print_json, progress, say
from pascal_nm.cli.outputs import Writes
from pascal_nm.errors import DataError
from pascal_nm.export.bundle import place
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import fixed_point, program_files
from pascal_nm.hw_targets.akida import device as akida
from pascal_nm.hw_targets.akida import lowering as akida_lowering
from pascal_nm.hw_targets.chip import Chip
from pascal_nm.hw_targets.copies import files as copies_files
from pascal_nm.hw_targets.copies import lowering as copies
from pascal_nm.hw_targets.program import lower
from pascal_nm.network.graph import Quantization
from pascal_nm.simulation import simulate

_CHECKED = 4
"""Inputs in the bundle with their counts."""


def deploy(
    network: options.NetworkFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the bundle.", show_default=False), Writes()],
    chip: Annotated[
        str,
        typer.Option("--chip", "-c", help=f"{', '.join([*akida.available(), *chips.available()])}, or a .toml."),
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

    The folder holds registers, cores, routes and checksums: `pascal-nm run` executes it.

    loihi1 gets threshold copies on its own compartments, akd1000, akd1500 and akida2 a model.fbz
    that boards load; `pascal-nm verify FOLDER --simulator` runs both in the vendors' software.
    """
    place(output)
    if chip in akida.available():
        if (schedule, lag) != (None, None):
            raise DataError(f"{chip} computes a layer at a time, without timesteps: leave --schedule and --lag out")
        about, words = _akida(network, output, chip, bits)
    else:
        described = chips.load(chip)
        if described.compartments is not None and schedule is None:
            if lag is not None:
                raise DataError(f"copies on {described.name} answer in the next timestep: leave --lag out")
            about, words = _copies(network, output, described, bits)
        else:
            about, words = _stages(network, output, described, bits, objective, schedule, lag)
    if as_json:
        print_json({"folder": str(output), "pascal_nm": __version__, **about})
        return
    for line in words:
        say(line)


def _akida(network: Path, output: Path, chip: str, bits: int | None) -> tuple[dict[str, Any], list[str]]:
    """Layers for Akida, with the model that its boards load."""
    from pascal_nm.interop import akida_bundle

    described = akida.load(chip)
    asked = options.bits_of(network, bits)
    recipe = Quantization(asked) if bits is not None or asked != 8 else None
    graph = akida_lowering.quantized(options.load_network(network), described, recipe)
    program = akida_lowering.lower(graph, described)
    with progress("building and mapping in BrainChip's software"):
        found = akida_bundle.write(output, program, graph, {"network": network.name})
    about = {"network": network.name, "chip": described.name, "form": "akida", **found}
    passes = f", {found['passes']} passes one after the other," if found["passes"] > 1 else ""
    return about, [
        f"[bold]{output}[/bold]: {graph.quantization or 'integer'} network in {len(program.layers)} layers on "
        f"{found['processors']:,} processors{passes} of {described.name}, which has {found['of']:,}, a program of "
        f"{found['program_bytes']:,} bytes",
        "read back from model.fbz, and run in BrainChip's software: every layer's counts are the network's",
    ]


def _copies(network: Path, output: Path, chip: Chip, bits: int | None) -> tuple[dict[str, Any], list[str]]:
    """Threshold copies for fixed compartments."""
    from pascal_nm.interop import nengo_loihi_bundle

    asked = options.bits_of(network, bits)
    with progress("placing copies on cores"):
        program = copies.lower(options.load_network(network), chip, Quantization(asked))
    spikes = program.bits(program.network.input.inputs(copies_files.sample(program.network))).sum()
    injected = float(spikes) / copies_files.CHECKED
    about = {
        "network": network.name,
        "chip": chip.name,
        "form": "copies",
        "cores": program.cores,
        "chips": program.chips,
        "compartments": program.compartments,
        "timesteps_to_the_answer": program.depth,
        "injected_spikes_of_noise": injected,
    }
    with progress("writing, and executing what was written"):
        runner = nengo_loihi_bundle.RUNNER.read_text(encoding="utf-8")
        copies_files.write(output, program, {"network": network.name, "cores": program.cores}, runner)
    each = program.limits.compartments.injected
    return about, [
        f"[bold]{output}[/bold]: {program.network.quantization or 'integer'} network in {program.compartments:,} "
        f"compartments on {program.cores:,} cores of {program.chips} chip(s), {chip.name}: an image in every timestep, "
        f"its answer {program.depth} timesteps later",
        "read back and executed from registers and routes: every count is the network's. `pascal-nm verify "
        f"{output} --simulator nengo-loihi` runs it in the chip's emulator",
        f"the host injects a spike for each bit of a pixel that is set: {injected:,.0f} for an image of noise, "
        f"{injected * each / 1000:,.2f} ms at {each:g} us each",
    ]


def _stages(
    network: Path,
    output: Path,
    described: Chip,
    bits: int | None,
    objective: str,
    schedule: str | None,
    lag: str | None,
) -> tuple[dict[str, Any], list[str]]:
    """The neurons of this package, for programmable chips."""
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
    return about, [
        f"[bold]{output}[/bold]: {graph.quantization or 'integer'} network on {found.cores:,} cores of {found.chips} "
        f"chip(s), {described.name}",
        f"read back and executed from registers and routes: every count of {_CHECKED} inputs is the network's; "
        "no potential, weight, threshold or bias can overflow",
    ]
