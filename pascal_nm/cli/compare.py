"""The command that sets a network's methods side by side."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from pascal_nm.cli import options, plots
from pascal_nm.cli.output import note, percent, print_json, progress, say, table
from pascal_nm.cli.outputs import PICTURE, Writes
from pascal_nm.common.arrays import Array
from pascal_nm.common.files import replacing
from pascal_nm.data import Dataset
from pascal_nm.interop import ann2snn
from pascal_nm.interop import readers as interoperation
from pascal_nm.network.graph import Graph, normalized
from pascal_nm.search import comparison
from pascal_nm.search.comparison import Comparison, Row, Spread
from pascal_nm.simulation import rate_coding
from pascal_nm.source.checkpoint import Model

_INTERVAL = "95 %"
_COLUMNS = ("method", "accuracy", _INTERVAL, "agrees", "T", "T_norm", "answer at", "spikes", "operations")

_LEGEND = (
    "agrees: with the source network's classes; T: levels, or timesteps shown; T_norm: Equation 13; answer at: "
    "timesteps from the image to the final answer on a chip, mean (most); spikes and synaptic operations of an image"
)

_CALIBRATION = 200
"""Images of the training part from which the ReLU conversion takes its thresholds."""

_CHECKED = 50
"""Images on which the ReLU conversion is compared with SpikingJelly's."""


def compare(
    networks: Annotated[
        list[Path],
        typer.Argument(
            metavar="NETWORK...",
            help="model.pt or model.nir; several are trainings of one network, whose mean and spread is shown.",
            show_default=False,
        ),
    ],
    data_name: options.DataName = "digits",
    limit: options.Limit = None,
    timesteps: Annotated[
        str, typer.Option("--timesteps", "-T", help="Timesteps of rate coding, a row for each.")
    ] = ",".join(map(str, comparison.TIMESTEPS)),
    confidence: Annotated[
        str, typer.Option(help="Early exit (as SEENN-1): stop when the answer has this probability.")
    ] = ",".join(map(str, comparison.CONFIDENCES)),
    relu: Annotated[
        bool, typer.Option("--relu/--no-relu", help="Also the weights with ReLU, converted as by ann2snn.")
    ] = True,
    calibration: Annotated[
        str | None,
        typer.Option(
            help="Images for the thresholds of that conversion: the first 200 of the training part.",
            show_default="as --data",
            metavar="DATA",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the table as Markdown.", show_default=False),
        Writes((".md",)),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw accuracy against timesteps and operations to a .png, .svg or .pdf."),
        PICTURE,
    ] = None,
    environments: Annotated[
        Path, typer.Option(help="Where SpikingJelly's environment is, if it is installed; see `make readers`.")
    ] = Path(".readers"),
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """One network under every method: exact, rate coded, with early exits, and with ReLU.

    All run on the same images, with ReLU on the same weights. The exact ones
    are the schedules.

    For each: accuracy, agreement with the source network, timesteps, spikes and
    operations. It says where rate coding is above its source network, and why.
    """
    numbers = options.whole_numbers("--timesteps", timesteps)
    confidences = options.numbers("--confidence", confidence)
    comparison.check(numbers, confidences)
    loaded = {path: _source(path) for path in networks}
    comparison.check_trainings({str(path): graph for path, (_, graph, _) in loaded.items()})
    found: list[Comparison] = []
    checks: list[dict[str, Any] | None] = []
    for path in networks:
        model, graph, source = loaded[path]
        images = options.load_data(
            data_name, limit, image_column, label_column, network=graph, labels_for="a comparison"
        )
        graph = options.completed(graph, images)
        examples = (
            options.load_data(calibration or data_name, _CALIBRATION, image_column, label_column, "train", graph)
            if relu
            else None
        )
        with progress(f"comparing {path.name}") as update:
            found.append(
                comparison.compare(
                    graph,
                    images,
                    source,
                    calibration=examples,
                    timesteps=numbers,
                    confidences=confidences,
                    progress=update,
                )
            )
        if examples is not None and np.array_equal(examples.pixels, images.pixels[: len(examples.pixels)]):
            note(
                "thresholds of the ReLU conversion are from the tested images, which helps it: "
                "--calibration names others"
            )
        checks.append(
            None
            if examples is None or model is None
            else _checked(path, graph, images, examples, max(numbers), environments)
        )
    spread = comparison.spread(found) if len(found) > 1 else []
    rows = _spread_rows(spread) if spread else _rows(found[0])
    columns = [column for column in _COLUMNS if not spread or column != _INTERVAL]
    title = f"{', '.join(path.name for path in networks)}, {found[0].images:,} images of {images.name}"
    if output is not None:
        with replacing(output) as temporary:
            temporary.write_text(_markdown(columns, rows))
    if plot is not None:
        plots.methods(found[0], title if len(found) == 1 else f"{networks[0].name}, {found[0].images:,} images", plot)
    if as_json:
        print_json(
            {
                "data": images.name,
                "images": found[0].images,
                "networks": [
                    {"network": str(path), **_json(made), "spikingjelly": check}
                    for path, made, check in zip(networks, found, checks, strict=True)
                ],
                "spread": [vars(row) for row in spread],
            }
        )
        return
    for path, made, check in zip(networks, found, checks, strict=True):
        if len(networks) > 1:
            say(f"[bold]{path.name}[/bold]")
        for line in made.verdict():
            say(line)
        if check is not None:
            say(
                f"checked: ann2snn of SpikingJelly {check['version']} gives the classes of our ReLU conversion in "
                f"{percent(check['agreement'])} of {check['images']} images at T = 1 to {check['timesteps']}"
            )
    table(title, columns, rows)
    say(_LEGEND if not spread else f"{_LEGEND}; ±: standard deviation of one training")


def _source(path: Path) -> tuple[Model | None, Graph, comparison.Source | None]:
    """The network in a file; of a model, also the source network itself."""
    if path.suffix == ".nir":
        return None, options.load_network(path), None
    model = options.load_model(path)
    traced = model.source()
    return (
        model if model.recipe else None,
        model.graph(traced),
        lambda images: np.asarray(traced(normalized(images)).argmax(1)),
    )


def _checked(
    path: Path, graph: Graph, images: Dataset, examples: Dataset, timesteps: int, environments: Path
) -> dict[str, Any] | None:
    """How often SpikingJelly's own conversion of the same weights gives our classes.

    None where it is not installed.
    """
    python = interoperation.python_of("spikingjelly", environments)
    if python is None:
        note(
            f"SpikingJelly is not installed, here or in {environments}: "
            "the ReLU conversion was not compared with its ann2snn"
        )
        return None
    few, calibration = (normalized(graph.taken(x.pixels)) for x in (images.head(_CHECKED), examples))
    ours = rate_coding.run(rate_coding.relu(graph, calibration), few, timesteps).answers
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / name) for name in ("inputs.npy", "calibration.npy", "answers.npy")]
        np.save(files[0], few)
        np.save(files[1], calibration)
        command = [str(python), ann2snn.__file__, str(path), files[0], files[1], str(timesteps), files[2]]
        with progress("comparing with SpikingJelly"):
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            note(f"SpikingJelly failed: {(ended.stderr.strip().splitlines() or ['no message'])[-1]}")
            return None
        theirs: Array = np.load(files[2])
    return {
        "version": ended.stdout.strip(),
        "images": len(few),
        "timesteps": timesteps,
        "agreement": float(np.mean(ours == theirs)),
    }


def _rows(made: Comparison) -> list[list[str]]:
    return [_row(row) for row in made.rows]


def _row(row: Row) -> list[str]:
    low, high = (f"{100 * share:.2f}" for share in row.interval)
    most = "" if row.at_most is None or row.at_most == row.to_answer else f" ({row.at_most})"
    return [
        row.method,
        percent(row.accuracy),
        f"{low}-{high}",
        percent(row.agreement),
        _short(row.timesteps),
        "" if row.normalized is None else f"{row.normalized:.2f}",
        _short(row.to_answer) + most,
        _short(row.spikes, 0),
        "" if row.operations is None else f"{row.operations / 1e6:.3f} M",
    ]


def _spread_rows(spread: Sequence[Spread]) -> list[list[str]]:
    rows = []
    for row in spread:
        figures = {name: (row.mean[name], row.deviation[name]) for name in row.mean}
        accuracy, agreement = (_plus_minus(figures.get(name), 100, 2, " %") for name in ("accuracy", "agreement"))
        steps = [_plus_minus(figures.get(name), 1, 2) for name in ("timesteps", "normalized", "to_answer")]
        counts = [_plus_minus(figures.get("spikes"), 1, 0), _plus_minus(figures.get("operations"), 1e-6, 3, " M")]
        rows.append([row.method, accuracy, agreement, *steps, *counts])
    return rows


def _plus_minus(figure: tuple[float, float] | None, factor: float, digits: int, unit: str = "") -> str:
    if figure is None:
        return ""
    mean, deviation = (factor * value for value in figure)
    return f"{mean:,.{digits}f}" + (f" ± {deviation:,.{digits}f}" if deviation else "") + unit


def _short(value: float | None, digits: int = 1) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.{digits}f}"


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _json(made: Comparison) -> dict[str, Any]:
    return {
        "source_accuracy": made.source,
        "methods": [
            {**vars(row), "interval": list(row.interval), "p_value": row.p_value, "stands": made.stands(row)}
            for row in made.rows
        ],
        "accuracy_over_time": made.curves,
        "verdict": made.verdict(),
    }
