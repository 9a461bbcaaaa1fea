"""The command that tries a network in other simulators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pascal_nm.cli import options, plots
from pascal_nm.cli.output import note, percent, print_json, progress, say, table
from pascal_nm.cli.outputs import PICTURE, Writes
from pascal_nm.common.files import replacing
from pascal_nm.data import Dataset
from pascal_nm.errors import FileError
from pascal_nm.export.profile import Measured
from pascal_nm.export.readers import dialect
from pascal_nm.hw_targets import rates
from pascal_nm.interop import readers as interoperation
from pascal_nm.interop.readers import Outcome
from pascal_nm.network.graph import Graph


def interop(
    network: options.NetworkFile,
    data_name: options.DataName = "digits",
    limit: options.Limit = None,
    readers: Annotated[str, typer.Option(help="Names separated by commas.", show_default=True)] = ",".join(
        interoperation.READERS
    ),
    timesteps: Annotated[
        str | None,
        typer.Option("--timesteps", "-T", help="Try the rate profile instead, for each T: 4,8,16.", show_default=False),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw the accuracy of the rate profile against T to a .png, .svg or .pdf."),
        PICTURE,
    ] = None,
    badges: Annotated[
        Path | None,
        typer.Option(help="Write the result as a Markdown table of badges, for a README."),
        Writes((".md",)),
    ] = None,
    environments: Annotated[
        Path, typer.Option(help="Folder with one Python environment for each reader, by its name; see `make readers`.")
    ] = Path(".readers"),
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Run a network in other simulators: does each answer as the source network does?

    Each reads its file from the disk by itself.

    The file is the unrolled form, which is exact in one timestep: predictions
    and, where a reader lets one look, every level are compared. With
    --timesteps it is the rate form, which is approximate. Exit code 1 means
    that an unrolled network answered otherwise somewhere.
    """
    graph = options.load_network(network)
    chosen = _known(readers.split(","))
    numbers = _numbers(timesteps)
    if plot is not None and timesteps is None:
        raise FileError("--plot draws accuracy against timesteps: give --timesteps too")
    found = {reader: interoperation.python_of(reader, environments) for reader in chosen}
    if not any(found.values()):
        raise FileError(
            f"none of {', '.join(chosen)} is installed, here or in {environments}: "
            "`make readers` installs them in the repository's .readers, and --environments says where that is"
        )
    images = options.load_data(
        data_name, limit, image_column, label_column, network=graph, labels_for="the accuracy of readers"
    )
    graph = options.completed(graph, images)
    outcomes: list[Outcome] = []
    for reader, python in found.items():
        if python is None:
            note(f"{reader} is not installed, here or in {environments / reader}")
            continue
        for t in numbers:
            with progress(f"running in {reader}{'' if t is None else f', T = {t}'}") as update:
                outcomes.append(interoperation.evaluate(reader, python, graph, images, t, update))
    if plot is not None:
        _draw(outcomes, graph, images, plot)
    if badges is not None:
        with replacing(badges) as temporary:
            temporary.write_text(_badges(outcomes))
    if as_json:
        print_json({"images": len(images), "readers": [_outcome(outcome) for outcome in outcomes]})
    else:
        _show(outcomes, images)
    if timesteps is None and not all(outcome.agreement == 1 for outcome in outcomes):
        raise typer.Exit(1)


def _known(names: list[str]) -> list[str]:
    if unknown := set(names) - set(interoperation.READERS):
        raise FileError(
            f"unknown reader(s) {', '.join(sorted(unknown))}: choose from {', '.join(interoperation.READERS)}"
        )
    return names


def _numbers(timesteps: str | None) -> Sequence[int | None]:
    if timesteps is None:
        return [None]
    try:
        numbers = [int(part) for part in timesteps.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise FileError(f"--timesteps takes numbers of 1 or more, separated by commas, not {timesteps!r}")
    return numbers


def _show(outcomes: Sequence[Outcome], images: Dataset) -> None:
    unrolled, failed = outcomes[0].timesteps is None, any(o.error for o in outcomes)
    columns = ["reader", "version", *([] if unrolled else ["T"]), "agrees with the source", "accuracy"]
    columns += [*(["levels that differ"] if unrolled else []), "load, s", "run, s", *(["error"] if failed else [])]
    rows = []
    for o in outcomes:
        levels = f"{o.differing:,} of {o.levels:,}" if o.levels else "not seen"
        figures = [
            percent(o.agreement),
            percent(o.accuracy),
            *([levels] if unrolled else []),
            f"{o.load:.2f}",
            f"{o.run:.1f}",
        ]
        shown = [""] * len(figures) if o.error else figures
        rows.append([o.reader, o.version, *([] if unrolled else [o.timesteps]), *shown, *([o.error] if failed else [])])
    form = "unrolled, one timestep" if unrolled else "rate profile"
    table(f"{form}, {len(images):,} images of {images.name}", columns, rows)
    size = outcomes[0].growth
    say(
        f"in the file, {size.neurons[0]:,} neurons are {size.neurons[1]:,}, "
        f"and {size.weights[0]:,} weights {size.weights[1]:,}"
    )


def _draw(outcomes: Sequence[Outcome], graph: Graph, images: Dataset, path: Path) -> None:
    lines: dict[str, list[Measured]] = {}
    for o in outcomes:
        if not o.error and o.timesteps is not None:
            reset = dialect(o.reader).after_spike
            measured = Measured(o.timesteps, reset, o.images, o.accuracy, o.agreement)
            lines.setdefault(f"{o.reader} {o.version} (reset: {reset})", []).append(measured)
    plots.accuracy_against_timesteps(
        lines, rates.exact_accuracy(graph, images), f"rate profile, {len(images):,} images of {images.name}", path
    )


def _badges(outcomes: Sequence[Outcome]) -> str:
    """A table of shields.io badges (https://shields.io/badges): green where every image agrees."""
    rows = ["| reader | form | agrees with the source |", "|---|---|---|"]
    for o in outcomes:
        text = "fails" if o.error else percent(o.agreement)
        colour = "red" if o.error else "brightgreen" if o.agreement == 1 else "yellow"
        name = f"{o.reader}_{o.version}".rstrip("_").replace("-", "--")
        form = "unrolled" if o.timesteps is None else f"rate, T = {o.timesteps}"
        url = f"https://img.shields.io/badge/{name}-{text.replace('%', '%25').replace(' ', '%20')}-{colour}"
        rows.append(f"| {o.reader} {o.version} | {form} | ![{o.reader}: {text}]({url}) |")
    return "\n".join(rows) + "\n"


def _outcome(outcome: Outcome) -> dict[str, object]:
    names = ("agreement", "accuracy", "load", "run")
    figures = {key: None if outcome.error else getattr(outcome, key) for key in names}
    return {
        "reader": outcome.reader,
        "version": outcome.version,
        "timesteps": outcome.timesteps,
        **figures,
        "levels": outcome.levels,
        "differing_levels": outcome.differing,
        "error": outcome.error,
        "weights": outcome.growth.weights,
        "neurons": outcome.growth.neurons,
    }
