"""The command that reads published checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pascal_nm.cli import options
from pascal_nm.cli.output import note, print_json, say
from pascal_nm.cli.outputs import Writes
from pascal_nm.errors import FileError
from pascal_nm.source import published
from pascal_nm.source.checkpoint import save


def import_checkpoint(
    file: Annotated[Path, typer.Argument(help="A .pth of the PASCAL or QCFS repositories.", show_default=False)],
    arch: Annotated[str, typer.Option(help=f"One of: {', '.join(published.ARCHITECTURES)}.")],
    levels: Annotated[str, typer.Option(help="L of the QCFS layers, or one for each: 4,4,2. The file does not tell.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where to.", show_default="beside the file, as .pt"),
        Writes((".pt",), lambda given: given["file"].with_suffix(".pt")),
    ] = None,
    pool: Annotated[str, typer.Option(help="Pooling of the network: avg or max.")] = "avg",
    trained_on: Annotated[
        str | None,
        typer.Option(help=f"Normalization of the repositories for: {', '.join(published.PREPROCESSING)}."),
    ] = None,
    mean: options.Mean = None,
    std: options.Std = None,
    scale: options.Scale = 255.0,
    input_size: Annotated[int | None, typer.Option(help="Height and width of a ResNet's images.", min=8)] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Read a published checkpoint of the PASCAL or QCFS repositories and write it as a model."""
    number = options.levels(levels)
    assert number is not None, "--levels is required"
    if trained_on is not None and trained_on not in published.PREPROCESSING:
        raise FileError(f"--trained-on takes {', '.join(published.PREPROCESSING)}, not {trained_on!r}")
    if trained_on is not None and (mean is not None or std is not None):
        raise FileError("--trained-on says mean and std: leave --mean and --std out, or it")
    usual = None if trained_on is None else published.PREPROCESSING[trained_on]
    model = published.load(
        file,
        arch,
        number,
        pool=options.pool(pool),
        preprocessing=options.preprocessing(mean, std, scale) or usual,
        input_size=input_size,
        note=note,
    )
    assert output is not None, "its default is beside the file"
    save(model, output)
    layers = model.recipe["levels"] if isinstance(model.recipe["levels"], list) else [model.recipe["levels"]]
    if as_json:
        print_json({"file": str(output), **model.recipe})
        return
    say(f"[bold]{output}[/bold]: {arch}, L = {', '.join(map(str, layers))}, {model.recipe['classes']} classes")
    if model.preprocessing is None:
        say("It does not say how pixels become inputs: give --trained-on, or --mean and --std, to run images.")
