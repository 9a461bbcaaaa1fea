"""The command that makes an integer network, and says what it lost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from pascal_nm.cli import options
from pascal_nm.cli.output import percent, print_json, progress, say, table
from pascal_nm.cli.outputs import Writes
from pascal_nm.data import Dataset
from pascal_nm.errors import DataError, FileError
from pascal_nm.export.nir_format import write_nir
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import evaluation, fixed_point
from pascal_nm.network.graph import RANGES, Graph, Quantization
from pascal_nm.search.precision import LayerLoss


def quantize(
    network: options.NetworkFile,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where to.", show_default="beside the network, as .int.nir"),
        Writes((".nir",), lambda given: given["network"].with_suffix(".int.nir")),
    ] = None,
    bits: Annotated[
        str | None,
        typer.Option(
            help="Of the weights, 2 to 16: a number, or one for each layer and the output: 8,4,4,6.",
            show_default="those that it was trained for; 8",
        ),
    ] = None,
    ranges: Annotated[
        str,
        typer.Option(
            "--range",
            help=(
                "max: to a channel's largest weight; mse: where the squared error of its weights is least; data: "
                "for each layer that of the two which errs less on the images."
            ),
        ),
    ] = "max",
    accuracy_drop: Annotated[
        float | None,
        typer.Option(
            help=(
                "Search for the fewest bits of each layer, --bits at most, "
                "that cost so many points of accuracy on the images."
            ),
            show_default="no search",
            min=0.0,
            max=100.0,
        ),
    ] = None,
    data_name: Annotated[
        str | None,
        typer.Option(
            "--data",
            "-d",
            help=f"Images to choose by, and to measure on, such as training did not see: {options.DATA_HELP}",
            show_default=False,
        ),
    ] = None,
    limit: options.Limit = None,
    chip: Annotated[
        str | None,
        typer.Option(
            "--chip",
            "-c",
            help=f"Make it fit its registers: {', '.join(chips.available())}, or a .toml file.",
            show_default=False,
        ),
    ] = None,
    schedule: options.ScheduleName = None,
    lag: options.Lag = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Quantize a float network to integers, by data if it is given, and say what layers lost.

    Data may choose bits (--accuracy-drop) and ranges (--range data).
    """
    if ranges not in (*RANGES, "data"):
        raise DataError(f"--range takes {', '.join(RANGES)} or data, not {ranges!r}")
    for option, given in {"--accuracy-drop": accuracy_drop is not None, "--range data": ranges == "data"}.items():
        if given and data_name is None:
            raise DataError(f"{option} needs images: give --data")
    assert output is not None, "its default is beside the network"
    graph = options.timing(options.load_network(network), schedule, lag, None)
    if graph.is_integer:
        raise FileError(f"{network} is quantized already; give the float network that it came from")
    described = None if chip is None else chips.load(chip)
    data = None
    if data_name is not None:
        for_drop = "" if accuracy_drop is None else "--accuracy-drop"
        data = options.load_data(data_name, limit, image_column, label_column, network=graph, labels_for=for_drop)
        graph = options.completed(graph, data, quantized=True)
        evaluation.check(graph, data)
    wanted = options.bits_of(network, None if bits is None else options.bits(bits))
    integer = _made(graph, wanted, ranges, accuracy_drop, data, described)
    losses, accuracies = _measured(graph, integer, data)
    write_nir(integer, output)
    if as_json:
        print_json(_json(output, integer, losses, accuracies, described))
        return
    _show(output, integer, losses, accuracies, data)
    if described is not None:
        say(f"fits {described.name}: no weight, threshold, bias or potential can leave its registers")


def _made(
    graph: Graph,
    bits: int | tuple[int, ...],
    ranges: str,
    drop: float | None,
    data: Dataset | None,
    chip: chips.Chip | None,
) -> Graph:
    """The integer graph that the options ask for."""
    from pascal_nm.network import quantization
    from pascal_nm.search import precision

    inputs = None if data is None else graph.taken(data.pixels)

    def make(graph: Graph, recipe: Quantization) -> Graph:
        if ranges == "data" and inputs is not None:
            recipe = precision.ranges_for(graph, recipe, inputs)
        return quantization.quantize(graph, recipe) if chip is None else fixed_point.fit(graph, chip, recipe)

    recipe = Quantization(bits, "max" if ranges == "data" else ranges)
    recipe.check([p.name for p in graph.weighted])
    if drop is None or data is None or inputs is None:
        return make(graph, recipe)
    with progress("searching bits") as update:
        found = precision.fewest_bits(graph, inputs, data.labels, drop / 100, recipe, make=make, progress=update)
    integer = quantization.quantize(graph, found.recipe)
    return integer if chip is None else fixed_point.fit(integer, chip)


def _measured(graph: Graph, integer: Graph, data: Dataset | None) -> tuple[list[LayerLoss], dict[str, float]]:
    """What each layer lost, and the accuracies before and after."""
    from pascal_nm.search import precision
    from pascal_nm.simulation import simulate

    if data is None:
        return precision.losses(graph, integer), {}
    inputs = graph.taken(data.pixels)
    with progress("measuring"):
        losses = precision.losses(graph, integer, inputs)
        accuracies = (
            {}
            if not data.labelled
            else {
                name: float(np.mean(simulate.counts(g, inputs).predictions == data.labels))
                for name, g in (("source_accuracy", graph), ("accuracy", integer))
            }
        )
    return losses, accuracies


def _json(
    path: Path, integer: Graph, losses: list[LayerLoss], accuracies: dict[str, float], chip: chips.Chip | None
) -> dict[str, Any]:
    assert integer.quantization is not None, "quantize leaves its recipe"
    layers = [{k: None if v != v else v for k, v in vars(loss).items()} for loss in losses]  # JSON has no NaN
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        "chip": None if chip is None else chip.name,
        **vars(integer.quantization),
        **accuracies,
        "weight_bits": sum(loss.bits * loss.weights for loss in losses),
        "layers": layers,
    }


def _show(
    path: Path, integer: Graph, losses: list[LayerLoss], accuracies: dict[str, float], data: Dataset | None
) -> None:
    made = integer.quantization
    assert made is not None, "quantize leaves its recipe"
    rows = [
        [
            loss.name,
            loss.bits,
            made.layer(i).range,
            loss.weights,
            *map(_share, (loss.weight_error, loss.potential_error, loss.own, loss.total)),
        ]
        for i, loss in enumerate(losses)
    ]
    columns = (
        "layer",
        "bits",
        "range",
        "weights",
        "error of weights",
        "of potentials",
        "levels it changes alone",
        "that all change",
    )
    table("what quantization changes, layer by layer", columns, rows)
    stored, weights = sum(loss.bits * loss.weights for loss in losses), sum(loss.weights for loss in losses)
    say(
        f"[bold]{path}[/bold]: {made} weights, {stored / weights:.2f} bits each on average, "
        f"{stored / 8192:,.1f} KiB in all"
    )
    if data is not None and accuracies:
        say(
            f"accuracy on {len(data):,} images of {data.name}: {percent(accuracies['source_accuracy'])} before, "
            f"[bold]{percent(accuracies['accuracy'])}[/bold] after"
        )
    elif data is None:
        say("--data measures what that does to levels and accuracy")


def _share(value: float) -> str:
    return "" if value != value else percent(value)
