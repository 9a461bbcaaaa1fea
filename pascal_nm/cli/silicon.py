"""The command that sets published measurements on silicon beside what the chips' files predict."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pascal_nm.cli import options
from pascal_nm.cli.output import print_json, say, table
from pascal_nm.hw_targets import silicon as measured
from pascal_nm.hw_targets.silicon import ASKED, QUANTITIES, Beside

_UNITS = {"dynamic": "µJ", "total": "µJ", "step": "µs", "cores": ""}


def silicon(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table of docs/silicon.md, in Markdown.")
    ] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Published measurements on chips, and what the chips' files predict for the same counts.

    The exit code is 1 where a ratio is outside of the band that it has to keep.
    """
    found = measured.compared()
    outside = [line for each in found for line in each.outside()]
    if as_json:
        print_json({"measurements": [_content(each) for each in found], "outside": outside})
    elif markdown:
        typer.echo(markdown_table(found))
    else:
        _show(found)
    for line in outside:
        say(f"[bold red]{line}[/bold red]")
    if outside:
        raise typer.Exit(1)


def _show(found: list[Beside]) -> None:
    columns = ("measurement", "chip", "counts", *QUANTITIES)
    rows = [_row(each, "\n") for each in found]
    table("predicted / measured = ratio: energies in µJ, a timestep in µs", columns, rows)
    for name, (low, high) in ASKED.items():
        known = [each for each in found if name in each.ratios]
        reached = sum(name in each.reached for each in known)
        say(f"{name}: {reached} of {len(known)} within {low:g} to {high:g}")
    for each in found:
        if each.measured.why:
            say(f"{each.measured.name}: {each.measured.why}")


def _row(each: Beside, end: str) -> list[str]:
    m = each.measured
    return [m.name, each.chip.name, m.counts_are, *(_cell(each, quantity, end) for quantity in QUANTITIES)]


def _cell(each: Beside, quantity: str, end: str) -> str:
    if quantity not in each.measurements:
        return ""
    found = _figure(each.measurements[quantity])
    if quantity not in each.ratios:
        return f"? / {found}"
    mark = "" if quantity not in ASKED or quantity in each.reached else "*"
    return f"{_figure(each.predictions[quantity])} / {found}{end}= {each.ratios[quantity]:.2f}{mark}"


def _figure(value: float) -> str:
    """Three digits, and no powers of ten."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def markdown_table(found: list[Beside]) -> str:
    """The table of docs/silicon.md."""
    units = (f"{name}, {unit}" if unit else name for name, unit in _UNITS.items())
    head = ("measurement", "chip", "unit", "counts", *units, "source")
    rows = []
    for each in found:
        name, chip, counts, *cells = _row(each, " ")
        rows.append((name, chip, each.measured.unit, counts, *cells, each.measured.source))
    lines = [head, ("---",) * len(head), *rows]
    text = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    short = [f"- {each.measured.name}: {each.measured.why}" for each in found if each.measured.why]
    return text + ("\n\n" + "\n".join(short) if short else "")


def _content(each: Beside) -> dict[str, Any]:
    m = each.measured
    return {
        "name": m.name,
        "chip": m.chip,
        "unit": m.unit,
        "source": m.source,
        "counts_are": m.counts_are,
        "counts": dict(m.counts),
        "measured": each.measurements,
        "predicted": each.predictions,
        "ratios": each.ratios,
        "bands": {name: band for name in each.ratios if (band := each.band(name)) is not None},
        "why": m.why,
    }
