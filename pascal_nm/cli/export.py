"""Commands about portable graphs: write them, and try them in other simulators."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pascal_nm import schedule
from pascal_nm.cli import options
from pascal_nm.cli.output import note, percent, print_json, progress, say, table
from pascal_nm.errors import FileError
from pascal_nm.export import unrolled
from pascal_nm.export.nir_format import read_nir, write_nir
from pascal_nm.export.readers import READERS
from pascal_nm.graph import Graph
from pascal_nm.interop import readers as interoperation
from pascal_nm.quantization import quantize


def export(
    model: options.ModelFile,
    nir: Annotated[bool, typer.Option("--nir", help="Write a NIR file.")] = False,
    profile: Annotated[
        str,
        typer.Option(
            help="pasc: compact, for our targets; unrolled: larger, exact in one timestep in other simulators."
        ),
    ] = "pasc",
    reader: Annotated[str, typer.Option(help=f"Whom an unrolled file is for: {', '.join(READERS)}.")] = "generic",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to.", show_default="beside the model")
    ] = None,
    bits: Annotated[
        int | None, typer.Option(help="Quantize to integer weights of so many bits (2 to 16).", show_default="floats")
    ] = None,
    double: options.Double = False,
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
    graph = (source.in_double() if double else source).graph()
    if bits is not None:
        graph = quantize(graph, bits)
    path = output or model.with_suffix(".nir" if profile == "pasc" else f".{profile}.nir")
    if profile == "unrolled":
        _export_unrolled(graph, path, reader, as_json)
        return
    if profile != "pasc":
        raise FileError(f"--profile takes pasc or unrolled, not {profile!r}")
    write_nir(graph, path)
    if differences := graph.differences(read_nir(path)):
        path.unlink()
        raise FileError(f"{path} would not read back as it was written, and was removed: {differences[0]}")
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


def _export_unrolled(graph: Graph, path: Path, reader: str, as_json: bool) -> None:
    size = unrolled.write_unrolled(graph, path, reader)
    if as_json:
        print_json({"file": str(path), "reader": reader, **vars(size), "bytes": path.stat().st_size})
        return
    say(
        f"[bold]{path}[/bold]: unrolled for {reader}, {path.stat().st_size:,} bytes, one timestep; {size.neurons[0]:,} neurons became "
        f"{size.neurons[1]:,}, {size.weights[0]:,} weights {size.weights[1]:,}"
    )


def interop(
    network: options.NetworkFile,
    data_name: options.DataName = "digits",
    limit: options.Limit = None,
    readers: Annotated[str, typer.Option(help="Names separated by commas.", show_default=True)] = ",".join(
        interoperation.READERS
    ),
    environments: Annotated[
        Path, typer.Option(help="Folder with one Python environment for each reader, by its name; see `make readers`.")
    ] = Path(".readers"),
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    as_json: options.Json = False,
) -> None:
    """Run the unrolled network in other simulators, each reading the file by itself: does it answer as the source network does?"""
    graph = options.load_network(network)
    chosen = readers.split(",")
    if unknown := set(chosen) - set(interoperation.READERS):
        raise FileError(
            f"unknown reader(s) {', '.join(sorted(unknown))}: choose from {', '.join(interoperation.READERS)}"
        )
    found = {reader: interoperation.python_of(reader, environments) for reader in chosen}
    if not any(found.values()):
        raise FileError(
            f"none of {', '.join(chosen)} is installed, here or in {environments}: `make readers` installs them"
        )
    images = options.load_data(data_name, limit, image_column, label_column)
    outcomes = []
    for reader, python in found.items():
        if python is None:
            note(f"{reader} is not installed, here or in {environments / reader}")
            continue
        with progress(f"running in {reader}") as update:
            outcomes.append(interoperation.evaluate(reader, python, graph, images, update))
    if as_json:
        print_json({"images": len(images), "readers": [_outcome(outcome) for outcome in outcomes]})
    else:
        size = outcomes[0].growth
        table(
            f"unrolled, one timestep, {len(images):,} images of {images.name}",
            ("reader", "agrees with the source", "accuracy", "seconds", "error"),
            [
                [
                    o.reader,
                    *(("", "", "") if o.error else (percent(o.agreement), percent(o.accuracy), f"{o.seconds:.1f}")),
                    o.error,
                ]
                for o in outcomes
            ],
        )
        say(
            f"unrolled, {size.neurons[0]:,} neurons are {size.neurons[1]:,}, and {size.weights[0]:,} weights {size.weights[1]:,}"
        )
    if not all(outcome.agreement == 1 for outcome in outcomes):
        raise typer.Exit(1)


def _outcome(outcome: interoperation.Outcome) -> dict[str, object]:
    figures = {key: None if outcome.error else getattr(outcome, key) for key in ("agreement", "accuracy", "seconds")}
    return {"reader": outcome.reader, **figures, "error": outcome.error, "weights": outcome.growth.weights}
