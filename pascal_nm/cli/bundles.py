"""What `verify` says of a bundle: its files, a vendor's simulator, a board's answers."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import typer

from pascal_nm.cli import options
from pascal_nm.cli.output import band, milliseconds, percent, print_json, progress, say, table
from pascal_nm.common.arrays import Array
from pascal_nm.common.band import Band
from pascal_nm.common.files import write_answers
from pascal_nm.errors import DataError, TargetError
from pascal_nm.export.bundle import read_arrays
from pascal_nm.hw_targets import bundles, evaluation
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets.akida import device
from pascal_nm.hw_targets.copies import bill as copies_bill
from pascal_nm.simulation import events as events_of

SIMULATORS = {"nengo-loihi": "copies", "akida": "akida"}
"""Simulators of vendors, and the form of bundle that each runs."""

_BATCH = 50
"""Images that are executed together."""

_NOISE = 100
"""Images of noise where no data is given, and the bundle's own are few."""


def verify(
    folder: Path,
    simulator: str | None,
    answers: Path | None,
    data: str | None,
    limit: int | None,
    columns: tuple[str | None, str | None],
    as_json: bool,
) -> None:
    """Is a bundle whole, and does a simulator or a board answer as it should? Exit code 1: no.

    Raises:
        DataError: what was asked does not go together.
    """
    if simulator is not None and answers is not None:
        raise DataError("--simulator runs the bundle, and --answers is what a board gave: give one")
    if simulator is not None and simulator not in SIMULATORS:
        raise DataError(f"unknown simulator {simulator!r}: choose from {', '.join(SIMULATORS)}")
    if data is not None and simulator is None:
        raise DataError("--data goes to a simulator: add --simulator, or run the bundle with `pascal-nm run`")
    form = bundles.form_of(folder)
    if simulator is not None and form != SIMULATORS[simulator]:
        able = [name for name, runs in SIMULATORS.items() if runs == form]
        raise TargetError(
            f"{simulator} does not run {folder}, a bundle of form {form!r}"
            + (f": take --simulator {able[0]}" if able else ": its neurons are in no vendor's simulator")
        )
    if simulator is not None:
        _simulated(folder, simulator, data, limit, columns, as_json)
        return
    with progress("reading and executing the bundle"):
        held = bundles.opened(folder)
    about: dict[str, Any] = {"bundle": str(folder), "chip": held.chip, "form": held.form}
    if answers is None:
        images = len(held.check[held.given])
        if as_json:
            print_json({**about, "exact": True, "images": images})
            return
        say(
            f"[bold green]exact:[/bold green] {folder} ({held.chip}) is whole, and executed from its own registers it "
            f"gives the integer network's counts for its {images} inputs, every one"
        )
        return
    compared, found = bundles.differences(held, read_arrays(answers))
    missing = [
        name for name in held.check if name.startswith(("count_", "sent_", "potential")) and name not in compared
    ]
    if as_json:
        print_json(
            {
                **about,
                "exact": not found,
                "not_given": missing,
                "compared": compared,
                "differences": [vars(each) for each in found],
            }
        )
    else:
        wrong = {each.layer: each.values for each in found}
        table(
            f"{answers.name} against the integer network",
            ("array", "values compared", "differing"),
            [[name, size, wrong.get(name, 0)] for name, size in compared.items()],
        )
        if found:
            say(f"[bold red]differs:[/bold red] {found[0]}")
        else:
            say(f"[bold green]exact:[/bold green] all {sum(compared.values()):,} values are the integer network's")
        if missing:
            say(f"[bold]not compared:[/bold] {', '.join(missing)}, which {answers.name} does not hold")
    if found:
        raise typer.Exit(1)


def run(
    folder: Path,
    data: str,
    limit: int | None,
    columns: tuple[str | None, str | None],
    output: Path | None,
    as_json: bool,
) -> None:
    """Execute a bundle of copies, or for Akida, on images: from its registers, and nothing else."""
    with progress("reading and executing the bundle"):
        held = bundles.opened(folder)
    shown = options.load_data(data, limit, *columns)
    start = time.perf_counter()
    predictions, counted = [], Counter[str]()
    with progress(f"executing {held.form}") as update:
        for inputs, _ in evaluation.as_shown(held.graph, shown, _BATCH, progress=update):
            result, events = held.counted(inputs)
            predictions.append(result.predictions)
            counted.update(events)
    seconds = time.perf_counter() - start
    answers, n = np.concatenate(predictions), len(shown)
    if output is not None:
        write_answers(output, answers, shown.labels)
    accuracy = float((answers == shown.labels).mean()) if shown.labelled else None
    each = {name: value / n for name, value in counted.items()}
    content = {"network": str(folder), "chip": held.chip, "form": held.form, "data": shown.name, "images": n}
    chip = copies_bill.known(held.chip) if each else None
    cost = {} if chip is None else copies_bill.priced(held.program, each, chip)
    prices = {name: value.summary() for name, value in cost.items()}
    content |= {"accuracy": accuracy, **each, **prices, "images_per_second": n / seconds}
    if as_json:
        print_json(content)
        return
    right = "" if accuracy is None else f"{percent(accuracy)} of {n:,} images right ({shown.name}), "
    say(f"[bold]{right}[/bold]executed from the registers of {folder}, {held.chip}")
    if each:
        say("per image: " + ", ".join(f"{value:,.0f} {name.replace('_', ' ')}" for name, value in each.items()))
        if cost:
            total = Band.sum([cost["dynamic"], cost["static"], cost["host"]])
            say(
                f"energy of an image: dynamic {band(cost['dynamic'])} without hops, static {band(cost['static'])}, "
                f"host {band(cost['host'])}; total {band(total)}"
            )
            say(
                f"a timestep, and so an image, takes {band(cost['seconds'], milliseconds)} at least on the chip, and "
                f"the host's spikes {band(cost['host_seconds'], milliseconds)}"
            )
    elif held.form == "akida":
        say(_akida_energy(device.named(held.chip), events_of.dense_operations(held.graph)))


def _akida_energy(chip: device.Device, operations: int) -> str:
    """What is known of an image's energy on an Akida chip."""
    if chip.static is None or chip.multiply_accumulate is None:
        return "energy: not known; no figure is published for this chip"
    price, power = chip.multiply_accumulate, chip.static.chip
    return (
        f"energy of an image above what the board draws: {band(price.band(chips.PJ * operations))}, for {operations:,} "
        f"multiply-accumulates, zeros among them, at {price.value:g} pJ ({price.source}); the board draws "
        f"{power.value:g} mW whatever runs ({power.source}). How long an image takes is not known here"
    )


def _noise(folder: Path) -> tuple[Array, Array]:
    """Images of noise for a bundle for Akida, without labels."""
    shape = bundles.opened(folder).program.host.shape
    pixels = np.random.default_rng(1).integers(0, 256, (_NOISE, *shape)).astype(np.uint8)
    return pixels, np.full(_NOISE, -1)


def _simulated(
    folder: Path,
    simulator: str,
    data: str | None,
    limit: int | None,
    columns: tuple[str | None, str | None],
    as_json: bool,
) -> None:
    images = None if data is None else options.load_data(data, limit, *columns)
    with progress(f"running in {simulator}") as update:
        if simulator == "akida":
            from pascal_nm.interop import akida_bundle

            pixels, labels = _noise(folder) if images is None else (images.pixels, images.labels)
            _, found = akida_bundle.compared(folder, pixels, labels, progress=update)
        else:
            from pascal_nm.interop import nengo_loihi_bundle

            _, found = nengo_loihi_bundle.compared(folder, images, progress=update)
    total, wrong = sum(found.compared.values()), sum(found.differing.values())
    labelled = images is not None and images.labelled
    if as_json:
        content = {"bundle": str(folder), "simulator": simulator, **vars(found), "exact": found.exact}
        print_json(content if labelled else {**content, "right": None})
    else:
        rows = [[name, size, found.differing[name]] for name, size in found.compared.items()]
        table(f"{simulator} {found.version} against the integer network", ("layer", "values", "differing"), rows)
        right = f"; {percent(found.right / found.images)} right" if labelled else ""
        say(f"{found.agreeing:,} of {found.images:,} predictions are the integer network's{right}")
        if found.exact:
            say(f"[bold green]exact:[/bold green] all {total:,} counts and outputs are equal, in {simulator}")
        else:
            say(f"[bold red]differs:[/bold red] {wrong:,} of {total:,} counts and outputs")
    if not found.exact:
        raise typer.Exit(1)
