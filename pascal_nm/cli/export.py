"""The command that writes portable graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pascal_nm import schedule
from pascal_nm.cli import options
from pascal_nm.cli.output import print_json, say
from pascal_nm.errors import FileError
from pascal_nm.export.nir_format import read_nir, write_nir
from pascal_nm.quantization import quantize


def export(
    model: options.ModelFile,
    nir: Annotated[bool, typer.Option("--nir", help="Write a NIR file.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to.", show_default="beside the model")
    ] = None,
    bits: Annotated[
        int | None, typer.Option(help="Quantize to integer weights of so many bits (2 to 16).", show_default="floats")
    ] = None,
    mean: options.Mean = None,
    std: options.Std = None,
    scale: options.Scale = 255.0,
    classes: Annotated[str | None, typer.Option(help="For a .pt2: names of the outputs, separated by commas.")] = None,
    as_json: options.Json = False,
) -> None:
    """Convert a QCFS network to a spiking one and write it as a portable graph that every target runs from alone."""
    if not nir:
        raise FileError("say what to write: --nir")
    source = options.load_model(model, mean, std, scale)
    if classes is not None:
        source.classes = tuple(classes.split(","))
    graph = source.graph()
    if bits is not None:
        graph = quantize(graph, bits)
    path = output or model.with_suffix(".nir")
    write_nir(graph, path)
    if differences := graph.differences(read_nir(path)):
        raise FileError(f"{path} does not read back as it was written: {differences[0]}")
    steps = schedule.pasc(graph).steps
    if as_json:
        print_json({"file": str(path), "bytes": path.stat().st_size, "integer": graph.is_integer, "timesteps": steps})
        return
    kind = "integer" if graph.is_integer else "float"
    say(
        f"[bold]{path}[/bold]: {kind} graph, {len(graph.populations)} populations, {steps} timesteps, {path.stat().st_size:,} bytes"
    )
    if graph.preprocessing is None:
        say("It does not say how pixels become inputs: give --mean and --std to run images from the file.")
