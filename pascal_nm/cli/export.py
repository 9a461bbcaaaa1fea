"""Commands about portable graphs: write them, and try them in other simulators."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from pascal_nm.cli import options, plots
from pascal_nm.cli.output import percent, print_json, progress, say, table
from pascal_nm.cli.outputs import PICTURE, Writes
from pascal_nm.common.files import replacing
from pascal_nm.data import Dataset
from pascal_nm.errors import FileError
from pascal_nm.export import rate, unrolled
from pascal_nm.export.nir_format import read_nir, write_nir
from pascal_nm.export.profile import Measured
from pascal_nm.export.readers import READERS, Start, dialect
from pascal_nm.hw_targets import rates
from pascal_nm.network import unroll as unrolling
from pascal_nm.network.graph import Graph
from pascal_nm.network.quantization import quantize
from pascal_nm.simulation import schedule as schedules
from pascal_nm.source.affine import GROWTH

_STARTS: dict[Start, str] = {
    "shifted": (
        "neurons begin at half a threshold, by thresholds of 1/2 and resets to -1/2: "
        "for readers that take v_reset from the file"
    ),
    "drip": (
        "half a threshold drips in over all timesteps, "
        "for readers that know no initial potential and no v_reset; spikes come late"
    ),
}
"""What is said about the initial potential of a rate file."""

_ENDINGS = {"pasc": ".nir", "unrolled": ".unrolled.nir", "rate": ".rate.nir"}
"""Of the files of each profile."""


def export(
    model: Annotated[
        Path,
        typer.Argument(
            help="model.pt from `train`, .pt2 from torch.export.save, or a .nir of this package, to write it anew.",
            show_default=False,
        ),
    ],
    nir: Annotated[bool, typer.Option("--nir", help="Write a NIR file.")] = False,
    profile: Annotated[
        str,
        typer.Option(
            help=(
                "pasc: compact, for our targets; unrolled: larger, exact in one timestep in other simulators; rate: "
                "one neuron for each, approximate, over --timesteps."
            )
        ),
    ] = "pasc",
    unroll: Annotated[
        bool,
        typer.Option(
            "--unroll",
            help=(
                "L neurons of one level in place of each of L levels: a larger network with the same answers in fewer "
                "timesteps, for our targets, schedules and chips (--profile unrolled is a file for other simulators)."
            ),
        ),
    ] = False,
    reader: Annotated[
        str, typer.Option(help=f"Whom an unrolled or rate file is for: {', '.join(READERS)}.")
    ] = "generic",
    start: Annotated[
        str | None,
        typer.Option(
            help=(
                "Of a rate file: how its neurons get half a threshold to begin with: shifted (by the file's v_reset) "
                "or drip (in equal parts)."
            ),
            show_default="the best that the reader can do",
        ),
    ] = None,
    timesteps: Annotated[
        int | None,
        typer.Option(
            "--timesteps",
            "-T",
            min=1,
            help="Of a rate file: how long an image is shown. Of a pasc file: when to stop, the answer final or not.",
            show_default="4 L; never",
        ),
    ] = None,
    schedule: options.ScheduleName = None,
    lag: options.Lag = None,
    data_name: Annotated[
        str | None,
        typer.Option(
            "--data", "-d", help="Measure a rate file's accuracy on these images, for T = L, 2L, 4L… and its own."
        ),
    ] = None,
    limit: options.Limit = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw that accuracy against T to a .png, .svg or .pdf."), PICTURE
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where to.", show_default="beside the model"),
        Writes((".nir",), lambda given: given["model"].with_suffix(_ENDINGS.get(given["profile"], ".nir"))),
    ] = None,
    bits: Annotated[
        int | None, typer.Option(help="Quantize to integer weights of so many bits (2 to 16).", show_default="floats")
    ] = None,
    spikes_only: Annotated[
        bool,
        typer.Option(
            "--spikes-only",
            help=(
                "Compose all linear layers, for chips whose spikes carry no numbers: no population passes on sums, at "
                "more synapses."
            ),
        ),
    ] = False,
    double: options.Double = False,
    mean: options.Mean = None,
    std: options.Std = None,
    scale: options.Scale = 255.0,
    classes: Annotated[str | None, typer.Option(help="For a .pt2: names of the outputs, separated by commas.")] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Convert a QCFS network to a spiking one and write it as a graph that every target runs.

    The file is portable, and targets need nothing else.
    """
    if not nir:
        raise FileError("say what to write: --nir")
    _check_options(profile, reader, start, (schedule, lag), timesteps, data_name, limit, plot, unroll)
    assert output is not None, "its default is beside the model"
    if model.suffix == ".nir":
        given = {"--double": double, "--mean": mean, "--std": std, "--classes": classes, "--spikes-only": spikes_only}
        graph = _from_nir(model, given)
    else:
        source = options.load_model(model, mean, std, scale)
        if classes is not None:
            source.classes = tuple(classes.split(","))
        graph = (source.in_double() if double else source).graph(growth=math.inf if spikes_only else GROWTH)
    if bits is not None:
        if graph.is_integer:
            raise FileError(f"{model} holds integer weights already: leave --bits out")
        graph = quantize(graph, bits)
    if unroll:
        graph = unrolling.unroll(graph)
    if profile == "unrolled":
        _export_unrolled(graph, output, reader, as_json)
        return
    if profile == "rate":
        images = None if data_name is None else options.load_data(data_name, limit, labels_for="--data")
        _export_rate(graph, output, reader, rate.start_of(reader, start), timesteps, images, plot, as_json)
        return
    graph = options.timing(graph, schedule, lag, timesteps)
    with replacing(output) as temporary:
        write_nir(graph, temporary)
        again = read_nir(temporary)
        differences = graph.differences(again)
        if differences or (again.quantization, again.input_range) != (graph.quantization, graph.input_range):
            differences = differences or ["another recipe of quantization"]
            raise FileError(f"{output} would not read back as it was written, and was not: {differences[0]}")
    plan, size = schedules.of(graph), output.stat().st_size
    if as_json:
        content = {"file": str(output), "bytes": size, "integer": graph.is_integer, "timesteps": plan.steps}
        print_json(content | vars(graph.timing))
        return
    kind = "integer" if graph.is_integer else "float"
    most = "at most " if plan.streams else ""
    say(
        f"[bold]{output}[/bold]: {kind} graph, {len(graph.populations)} populations, "
        f"{most}{plan.steps} timesteps, {size:,} bytes"
    )
    if graph.preprocessing is None:
        say(
            "It does not say how pixels become inputs, and runs inputs (.npz, .npy): give --mean and --std to run "
            "images from the file."
        )


def _from_nir(path: Path, given: Mapping[str, object]) -> Graph:
    """The network of a file that is to be written anew."""
    for option, value in given.items():
        if value:
            raise FileError(f"{option} is for a source network: {path} says that itself")
    return read_nir(path)


def _check_options(
    profile: str,
    reader: str,
    start: str | None,
    plan: tuple[str | None, str | None],
    timesteps: int | None,
    data_name: str | None,
    limit: int | None,
    plot: Path | None,
    unroll: bool,
) -> None:
    """Refuse options without effect, and pictures that could not be written, before any work."""
    if profile not in _ENDINGS:
        raise FileError(f"--profile takes pasc, unrolled or rate, not {profile!r}")
    dialect(reader)
    if profile == "pasc" and reader != "generic":
        raise FileError("--reader belongs to --profile unrolled or rate: a pasc file is the same for all readers")
    if profile != "pasc" and plan != (None, None):
        raise FileError("--schedule and --lag belong to --profile pasc: other tools know one timestep, or rates")
    if profile != "pasc" and unroll:
        raise FileError("--unroll belongs to --profile pasc: other profiles make copies of their own, or none")
    if profile == "unrolled" and timesteps is not None:
        raise FileError("--timesteps belongs to --profile rate or pasc")
    given = {"--data": data_name, "--limit": limit, "--plot": plot, "--start": start}
    for option, value in given.items():
        if value is not None and profile != "rate":
            raise FileError(f"{option} belongs to --profile rate")
        if value is not None and option in ("--limit", "--plot") and data_name is None:
            raise FileError(f"{option} needs --data: nothing is measured without images")
    if profile == "rate":
        rate.start_of(reader, start)


def _export_unrolled(graph: Graph, path: Path, reader: str, as_json: bool) -> None:
    size = unrolled.write_unrolled(graph, path, reader)
    if as_json:
        print_json({"file": str(path), "reader": reader, **vars(size), "bytes": path.stat().st_size})
        return
    say(
        f"[bold]{path}[/bold]: unrolled for {reader}, {path.stat().st_size:,} bytes, one timestep; "
        f"{size.neurons[0]:,} neurons became {size.neurons[1]:,}, {size.weights[0]:,} weights {size.weights[1]:,}"
    )


def _export_rate(
    graph: Graph,
    path: Path,
    reader: str,
    start: Start,
    timesteps: int | None,
    images: Dataset | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    levels = max(p.levels for p in graph.spiking)
    timesteps = timesteps or 4 * levels
    measured: list[Measured] = []
    if images is not None:
        with progress("measuring") as update:
            measured = rates.measure(graph, images, rates.doublings(levels, timesteps), progress=update, start=start)
    size = rate.write_rate(graph, path, timesteps, reader, measured, start)
    if plot is not None:
        assert images is not None, "_check_options refuses a picture without"
        lines = {f"reset: {after}": [m for m in measured if m.reset == after] for after in rates.RESETS}
        plots.accuracy_against_timesteps(
            lines, rates.exact_accuracy(graph, images), f"{path.name}, {len(images):,} images of {images.name}", plot
        )
    if as_json:
        print_json(
            {
                "file": str(path),
                "reader": reader,
                "timesteps": timesteps,
                "start": start,
                "measured": [vars(m) for m in measured],
                **vars(size),
            }
            | {"bytes": path.stat().st_size}
        )
        return
    say(
        f"[bold]{path}[/bold]: rate network for {reader}, {path.stat().st_size:,} bytes, {timesteps} timesteps, "
        f"approximate; {size.neurons[0]:,} neurons, {size.neurons[1]:,} with those that pass spikes on"
    )
    say(f"start: {_STARTS[start]}")
    if measured:
        _show_measured(measured, images.name if images else "")
    else:
        say("--data measures how well it does")


def _show_measured(measured: Sequence[Measured], name: str) -> None:
    rows = [[m.timesteps, m.reset, percent(m.accuracy), percent(m.agreement)] for m in measured]
    columns = ("T", "after a spike", "accuracy", "agrees with the source")
    table(f"rate networks, {measured[0].images:,} images of {name}", columns, rows)
