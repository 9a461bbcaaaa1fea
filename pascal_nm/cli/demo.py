"""The whole path on the bundled digits.

Train, convert, export, run on every target from the file, verify, price.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.markup import escape

from pascal_nm import data, training
from pascal_nm.cli import options
from pascal_nm.cli.output import joules, note, percent, print_json, progress, say, table
from pascal_nm.cli.outputs import Writes
from pascal_nm.cli.train import train_network
from pascal_nm.errors import FileError, NotInstalledError
from pascal_nm.export.nir_format import read_nir, write_nir
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import cost, evaluation, find
from pascal_nm.hw_targets.evaluation import Evaluation
from pascal_nm.network.graph import Graph
from pascal_nm.network.quantization import quantize
from pascal_nm.source.verification import Verification

CHIP = "loihi1"


@dataclass(frozen=True)
class Row:
    """One target's outcome."""

    name: str
    verification: Verification
    evaluation: Evaluation
    integer: bool


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
        rows.append(Row(name, verification, result, program.graph.is_integer))
    answers = rows[0].verification.source_predictions
    accuracy = float(np.mean(answers == test_data.labels))
    chip = chips.load(CHIP)
    spent = sum(layer.total for layer in cost.energy(rows[-1].evaluation.events, chip))
    seconds = time.perf_counter() - start
    if as_json:
        content = _json(rows, accuracy, answers, spent, chip.name, integer, seconds)
        print_json(content | {"targets_not_installed": list(missing)})
    else:
        _show(rows, accuracy, answers, spent, chip.name, seconds)
        for target, reason in missing.items():
            say(f"without {target}: {escape(reason)}")
    if not all(row.verification.equal for row in rows):
        raise typer.Exit(1)


def _flips(row: Row) -> int:
    return sum(layer.flips for layer in row.verification.layers.values())


def _differing(row: Row) -> int:
    return sum(layer.differing + layer.unexplained for layer in row.verification.layers.values())


def _mismatches(row: Row) -> int:
    return row.verification.integer_mismatches + row.verification.prediction_mismatches


def _show(
    rows: list[Row],
    accuracy: float,
    answers: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    cost: float,
    chip: str,
    seconds: float,
) -> None:
    table(
        f"{len(answers)} test images that the training never saw",
        (
            "target",
            "compared with",
            "accuracy",
            "mismatching\npredictions",
            "differing\ncounts",
            "levels flipped\nby rounding",
        ),
        [
            ["source network", "", percent(accuracy), "", "", ""],
            *(
                [
                    row.name,
                    "integer QCFS network" if row.integer else "source network",
                    percent(row.evaluation.accuracy),
                    _mismatches(row),
                    _differing(row),
                    "" if row.integer else _flips(row),
                ]
                for row in rows
            ),
        ],
    )
    last = rows[-1].evaluation
    changed = int(np.count_nonzero(answers != last.predictions))
    say(f"quantization to 8 bits changed {changed} of {len(answers)} predictions of the float network")
    say(
        f"energy on {chip}: {joules(cost)} an image, {last.schedule.steps} timesteps; "
        "`pascal-nm energy` shows each layer"
    )
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


def _json(
    rows: list[Row],
    accuracy: float,
    answers: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    cost: float,
    chip: str,
    integer: Graph,
    seconds: float,
) -> dict[str, object]:
    return {
        "images": len(answers),
        "source_accuracy": accuracy,
        "targets": [
            {
                "target": row.name,
                "exact": row.verification.exact,
                "equal_up_to_rounding": row.verification.equal,
                "accuracy": row.evaluation.accuracy,
                "mismatching_predictions": _mismatches(row),
                "differing_counts": _differing(row),
                "flipped_levels": None if row.integer else _flips(row),
                "predictions_unlike_source": int(np.count_nonzero(answers != row.evaluation.predictions)),
            }
            for row in rows
        ],
        "chip": chip,
        "joules_per_image": cost,
        "seconds": seconds,
    }
