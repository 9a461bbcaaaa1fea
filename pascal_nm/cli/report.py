"""The command that writes a page about a network."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from pascal_nm.cli import frames as frame_words
from pascal_nm.cli import options
from pascal_nm.cli.energy import Chips, chip_names
from pascal_nm.cli.output import note, percent, print_json, progress, say
from pascal_nm.cli.outputs import Writes
from pascal_nm.common.files import replacing_all
from pascal_nm.data import Dataset, training_part
from pascal_nm.errors import DataError
from pascal_nm.export.nir_format import read_nir
from pascal_nm.hw_targets import chip as chips
from pascal_nm.network.graph import Graph
from pascal_nm.report.collect import collect, provenance
from pascal_nm.search import adaptive


def report(
    network: options.NetworkFile,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The page, .html; its numbers go to a .json beside it."),
        Writes((".html",), also=lambda path, given: [path.with_suffix(".json")]),
    ] = Path("report.html"),
    data_name: options.DataName = "digits",
    model: Annotated[
        Path | None,
        typer.Option("--model", help="The source network of a .nir, to compare with.", show_default="a .pt is its own"),
    ] = None,
    frames: options.FramesName = None,
    threshold: options.Threshold = 0.0,
    limit: options.Limit = None,
    chip: Chips = ["loihi1"],  # noqa: B006
    memory: Annotated[
        bool,
        typer.Option("--memory", help="Count memory traffic, too, where the energies of a chip's events leave it out."),
    ] = False,
    schedule: options.ScheduleName = None,
    lag: options.Lag = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write one page to read, show and send: accuracy, spikes, energy and proof of a network.

    With --frames also what each frame takes, and which layers change. Its numbers
    lie beside it.
    """
    numbers = output.with_suffix(".json")
    try:
        from pascal_nm.report import page
    except ImportError as error:
        raise DataError("reports need plotly: pip install 'pascal-nm[report]'") from error
    if network.suffix == ".nir":
        spiking = read_nir(network)
        source, taken = (None, ()) if model is None else options.load_source(model, spiking)
    elif model is None:
        source, taken = options.load_model(network), ()
        spiking = source.graph()
    else:
        raise DataError(f"{network} is a source network itself: leave --model out")
    graph = options.timing(spiking, schedule, lag, None)
    described = {name: chips.load(name, memory=memory) for name in chip_names(chip)}
    data = options.load_shown(data_name, frames, threshold, limit, image_column, label_column, network=graph)
    graph = options.completed(graph, data, quantized=any(chip.widths for chip in described.values()))
    calibration, names = None, [frames]
    if frames is None:
        calibration = _training_images(data_name, limit, image_column, label_column, graph)
        names = [data_name, training_part(data_name)]
    content = collect(network.name, graph, data, described, source, progress, taken, calibration, threshold)
    images = dict.fromkeys(Path(name) for name in names if name is not None)
    read = [network, *([model] if model else []), *images, *(Path(name) for name in described)]
    content["reproduce"] = provenance(shlex.join(["pascal-nm", *sys.argv[1:]]), read, source)
    text = page.html(content, numbers.name)
    with replacing_all(numbers, output) as (json_file, html_file):
        json_file.write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")
        html_file.write_text(text, encoding="utf-8", errors="backslashreplace")  # of names that are no UTF-8
    if as_json:
        print_json(content)
        return
    size = output.stat().st_size / 1e6
    right = "" if content["accuracy"] is None else f"{percent(content['accuracy'])} of them right, "
    what = "images" if frames is None else "frames"
    say(f"{output}: {len(data):,} {what} of {data.name}, {right}{size:.1f} MB")
    say(f"{numbers}: every number of it")
    frame_words.note_threshold(threshold)
    say(content["source"]["verdict"] if content["source"] else "not compared with a source network: --model names one")


def _training_images(
    name: str, limit: int | None, image_column: str | None, label_column: str | None, graph: Graph
) -> Dataset | None:
    """The training images of the data, of which the AL metric is (Algorithm 3).

    Where there are none: None, and a note.
    """
    part = training_part(name)
    if part is not None:
        return options.load_data(
            part, min(limit or adaptive.IMAGES, adaptive.IMAGES), image_column, label_column, "train", graph
        )
    note(f"{name}: no training images belong to it, so the AL metric is of the images of the report")
    return None
