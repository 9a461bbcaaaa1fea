"""The whole path on the bundled digits.

Train, convert, export, run on every target from the file, verify, price.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from pascal_nm import data, training
from pascal_nm.cli import energy, options
from pascal_nm.cli.output import note, percent, print_json, progress, say, span, table
from pascal_nm.cli.outputs import Writes
from pascal_nm.cli.train import train_network
from pascal_nm.data import Dataset
from pascal_nm.errors import FileError, NotInstalledError
from pascal_nm.export.nir_format import read_nir, write_nir
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import evaluation, find
from pascal_nm.hw_targets.bill import Bill, Priced
from pascal_nm.hw_targets.evaluation import Evaluation
from pascal_nm.network.quantization import quantize
from pascal_nm.source.verification import Verification

_CHIP = "loihi1"


@dataclass(frozen=True)
class _Row:
    """One target's outcome."""

    name: str
    verification: Verification
    evaluation: Evaluation
    integer: bool

    @property
    def found(self) -> dict[str, Any]:
        """It, as `verify --json` says it."""
        return evaluation.summary(self.verification, self.evaluation)


def demo(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder for model.pt and model.nir."),
        Writes(also=lambda path, given: [path / "model.pt", path / "model.nir"]),
    ] = Path("runs/demo"),
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show the whole path on 1797 real images of digits, from training to energy, proven exact."""
    start = time.perf_counter()
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder {output}: {error.strerror}") from error
    train_data, test_data = data.load_pair("digits")
    model = train_network(train_data, test_data, training.defaults(train_data), output / "model.pt")
    source = model.source()
    reference = model.graph(source)
    write_nir(reference, output / "model.nir")
    note(f"wrote {output / 'model.pt'} and {output / 'model.nir'}; everything below runs from the .nir file alone")
    graph = read_nir(output / "model.nir")
    integer = quantize(graph)
    plan = (("torch", graph), ("lava", graph), ("torch", integer), ("lava", integer), ("loihi", graph))
    rows, missing = [], dict[str, str]()
    for target, network in plan:
        try:
            program = find(target).compile(network)
        except NotInstalledError as error:
            missing[target] = str(error)
            continue
        name = f"{target} ({'fixed point' if program.graph.is_integer else 'float'})"
        with progress(f"verifying {name}") as update:
            verification, result = evaluation.verify(source, reference, program, test_data, progress=update)
        rows.append(_Row(name, verification, result, program.graph.is_integer))
    (priced,) = Priced.on(graph, {_CHIP: chips.load(_CHIP)})
    bill = energy.counted(priced, test_data)[_CHIP]
    seconds = time.perf_counter() - start
    if as_json:
        targets = [{"target": row.name} | row.found for row in rows]
        said = bill.summary()
        price = {key: said[key] for key in ("chip", "dynamic_joules_per_image", "energy", "not_known")}
        print_json({"targets": targets, **price, "seconds": seconds, "targets_not_installed": list(missing)})
    else:
        _show(rows, bill, test_data, seconds)
        for target, reason in missing.items():
            say(f"without {target}: {escape(reason)}")
    if not all(row.verification.equal for row in rows):
        raise typer.Exit(1)


def _show(rows: list[_Row], bill: Bill, images: Dataset, seconds: float) -> None:
    first, last = rows[0].found, rows[-1]
    columns = ("target", "compared with", "accuracy", "mismatching\npredictions", "differing\ncounts")
    table(
        f"{first['images']} test images that the training never saw",
        (*columns, "levels flipped\nby rounding"),
        [["source network", "", percent(first["source_accuracy"]), "", "", ""], *map(_cells, rows)],
    )
    say(
        f"quantization to 8 bits changed {last.found['predictions_unlike_source']} of {last.found['images']} "
        "predictions of the float network"
    )
    say(
        f"{energy.headline(bill, images)}, {span(bill.result.timesteps)} timesteps; `pascal-nm energy` shows each layer"
    )
    energy.say_unknown(bill, bill.chip.name)
    checks = [row.verification for row in rows]
    if all(check.exact for check in checks):
        word = (
            "[bold green]exact on every target[/bold green]: each level of float networks is the source network's, each"
        )
        word += " count and output of integer networks the integer QCFS network's"
    elif all(check.equal for check in checks):
        word = "[bold green]equal on every target[/bold green]: rounding explains the levels that flipped in floats"
    else:
        word = "[bold red]not exact[/bold red]"
    say(f"{word} ({seconds:.0f} s)")


def _cells(row: _Row) -> list[object]:
    check = row.verification
    return [
        row.name,
        "integer QCFS network" if row.integer else "source network",
        percent(row.evaluation.accuracy),
        check.integer_mismatches + check.prediction_mismatches,
        sum(layer.differing + layer.unexplained for layer in check.layers.values()),
        "" if row.integer else check.flips,
    ]
