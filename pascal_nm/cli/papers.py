"""The command that goes through the paper, item by item."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pascal_nm.cli import options, plots
from pascal_nm.cli.output import console, print_json, say, table
from pascal_nm.cli.outputs import PICTURE
from pascal_nm.errors import DataError
from pascal_nm.paper import ERRATA, GROUPS, ITEMS, STATUSES, Entry, Erratum, Item, entries

_NUMBERS, _ALL_ERRATA = "numbers", "errata"

_WHAT = f'{", ".join(GROUPS)}, {_NUMBERS}, {_ALL_ERRATA}, or one item: "Table 4". All in short, if left out.'

_LABEL = 8
"""Columns of a label in front of a paragraph."""

_Numbered = list[tuple[int, Erratum]]


def paper(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            help=_WHAT,
            show_default=False,
        ),
    ] = None,
    status: Annotated[
        str | None, typer.Option(help=f"Only items of one status: {', '.join(STATUSES)}.", show_default=False)
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw Figure 2, a QCFS activation, to a .png, .svg or .pdf."), PICTURE
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print tables for a page instead.")] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """The PASCAL paper item by item: what each says, what is here, figures, and errata.

    Figures are shown as printed and as computed.
    """
    asked = what or []
    items = _items(asked, status)
    found = [entry for entry in entries() if _wanted(entry.items, _NUMBERS, asked, items, status)]
    errata = [
        (number, erratum)
        for number, erratum in enumerate(ERRATA, 1)
        if _wanted(erratum.items, _ALL_ERRATA, asked, items, status)
    ]
    if plot is not None:
        plots.staircase(levels=4, threshold=0.25, path=plot)  # as in the paper
    if as_json:
        print_json(_json(items, found, errata))
    elif markdown:
        print("\n".join(_markdown(items, found, errata)))
    elif asked or status:
        _in_full(items, found, errata)
    else:
        _in_short(items, found)


def _items(asked: Sequence[str], status: str | None) -> list[Item]:
    """The items that are meant, in the order of the paper.

    Raises:
        DataError: a word that is no item and no group, or an unknown status.
    """
    if status is not None and status not in STATUSES:
        raise DataError(f"no item has the status {status!r}: choose from {', '.join(STATUSES)}")
    names = {item.name.lower() for item in ITEMS}
    words = [word.lower() for word in asked]
    for given, word in zip(asked, words, strict=True):
        if word not in {*names, *GROUPS, _NUMBERS, _ALL_ERRATA}:
            raise DataError(
                f"the paper has no {given!r}: ask for {', '.join(GROUPS)}, {_NUMBERS}, {_ALL_ERRATA}, "
                'or for an item such as "Table 4"'
            )
    meant = [item for item in ITEMS if not asked or item.group in words or item.name.lower() in words]
    return [item for item in meant if status in (None, item.status)]


def _wanted(
    belongs: Sequence[str], group: str, asked: Sequence[str], items: Sequence[Item], status: str | None
) -> bool:
    """Whether a figure or an erratum is shown.

    Its group was asked for, an item that it belongs to was, or nothing was left out.
    """
    everything = not asked and status is None
    return everything or group in (word.lower() for word in asked) or any(item.name in belongs for item in items)


def _in_short(items: Sequence[Item], found: Sequence[Entry]) -> None:
    """A line for each item, and all figures."""
    say("[bold]Ramesh and Srinivasan, PASCAL, TMLR 2025[/bold]: https://openreview.net/forum?id=kIdB7Xp1Iv")
    counted = Counter(item.status for item in items)
    say(f"{len(items)} items, {len(found)} figures, {len(ERRATA)} errata")
    figures = Counter(entry.status for entry in found)
    for status, meaning in STATUSES.items():
        of_figures = f"{figures[status]} figures" if figures[status] else ""
        say(f"  {status:13}{counted[status]:3} items {of_figures:11} {meaning}")
    for group in GROUPS:
        rows = [[item.name, item.says, item.status, item.shown[0]] for item in items if item.group == group]
        table(group, ("item", "the paper", "status", "shown by"), rows)
    _figures(found)
    say('in full: `pascal-nm paper tables` (or another group), `pascal-nm paper "Table 4"`, `pascal-nm paper errata`')


def _in_full(items: Sequence[Item], found: Sequence[Entry], errata: _Numbered) -> None:
    """Everything about the items that were asked for."""
    numbers = {item.name: [n for n, erratum in errata if item.name in erratum.items] for item in items}
    for item in items:
        say(f"[bold]{item.name}[/bold], {item.status}: {item.says}")
        _paragraph("here", item.here)
        _paragraph("why", item.why)
        for shown in item.shown:
            _paragraph("shown", shown)
        _paragraph("errata", ", ".join(map(str, numbers[item.name])))
    if found:
        _figures(found)
        for note in dict.fromkeys(entry.note for entry in found if entry.note):
            where = [entry.what for entry in found if entry.note == note]
            _paragraph("", f"{'; '.join(where)}: {note}")
    if errata:
        say("[bold]errata[/bold]")
    for number, erratum in errata:
        say(f"[bold]{number}[/bold], {_place(erratum)}")
        for label in ("printed", "should", "known", "effect"):
            _paragraph(label, getattr(erratum, label))


def _figures(found: Sequence[Entry]) -> None:
    columns = ("where", "quantity", "printed", "from the paper's inputs", "from true shapes", "status")
    rows = [
        [e.where, e.what, _number(e.printed, printed=True), _number(e.same), _number(e.true), e.status] for e in found
    ]
    table(_NUMBERS, columns, rows)
    say(
        "spike rates are the paper's (0.75 where it assumes one); "
        "`pascal-nm energy` applies the formulas to measured rates"
    )


def _paragraph(label: str, text: str) -> None:
    """A label and its text, which is broken at the width of the output; nothing for no text."""
    if text:
        width = min(console().width, 120)
        indent = " " * (_LABEL + 4)
        print_lines = textwrap.wrap(
            text, width, initial_indent=f"  {label:{_LABEL}}  ", subsequent_indent=indent, break_on_hyphens=False
        )
        for line in print_lines:
            say(line)


def _place(erratum: Erratum) -> str:
    return ", ".join([*erratum.items, *([erratum.where] if erratum.where else [])])


def _number(value: float | None, *, printed: bool = False) -> str:
    """A figure; what is printed keeps its digits."""
    if value is None:
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if not printed or round(value, 2) != value else f"{value:.2f}"


def _json(items: Sequence[Item], found: Sequence[Entry], errata: _Numbered) -> dict[str, object]:
    return {
        "statuses": STATUSES,
        "items": [vars(item) | {"group": item.group} for item in items],
        "entries": [vars(entry) for entry in found],
        "errata": [{"number": number, **vars(erratum)} for number, erratum in errata],
    }


def _markdown(items: Sequence[Item], found: Sequence[Entry], errata: _Numbered) -> list[str]:
    """Tables as docs/paper.md has them."""
    lines: list[str] = []
    for group in GROUPS:
        rows = [
            [item.name, item.says, item.here, item.status, "; ".join(map(_shown, item.shown)), item.why]
            for item in items
            if item.group == group
        ]
        lines += _section(group, ("item", "the paper", "here", "status", "shown by", "why it differs"), rows)
    columns = (
        "where",
        "quantity",
        "printed",
        "from the paper's inputs",
        "from true shapes",
        "status",
        "why they differ",
    )
    figures = [
        [e.where, e.what, _number(e.printed, printed=True), _number(e.same), _number(e.true), e.status, e.note]
        for e in found
    ]
    lines += _section(_NUMBERS, columns, figures)
    rows = [[str(n), _place(e), e.printed, e.should, e.known, e.effect] for n, e in errata]
    return lines + _section(_ALL_ERRATA, ("", "where", "printed", "should be", "how it is known", "effect"), rows)


def _section(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A heading and a table; nothing for no rows."""
    if not rows:
        return []
    lines = [columns, ["---"] * len(columns), *([_escaped(cell) for cell in row] for row in rows)]
    return [f"### {title.capitalize()}", "", *(f"| {' | '.join(line)} |" for line in lines), ""]


def _shown(text: str) -> str:
    """A page as a link, anything else as code."""
    return f"[{text.removeprefix('docs/')}]({text.removeprefix('docs/')})" if text.startswith("docs/") else f"`{text}`"


def _escaped(cell: str) -> str:
    """Text in which nothing but code and links is Markdown."""
    if "](" in cell:
        return cell
    parts = cell.split("`")
    for i in range(0, len(parts), 2):
        for mark in "\\*_|<$":
            parts[i] = parts[i].replace(mark, f"\\{mark}")
    return "`".join(parts)
