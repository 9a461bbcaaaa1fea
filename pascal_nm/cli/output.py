"""What commands print: tables and verdicts on stdout, progress on stderr, or JSON (``--json``)."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.errors import MarkupError
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from pascal_nm.common.units import band as band
from pascal_nm.common.units import energy_unit as energy_unit
from pascal_nm.common.units import joules as joules
from pascal_nm.common.units import percent as percent

_WIDTH = 120
"""Columns where the output is no terminal."""

_silent = False


def silence(value: bool) -> None:
    """Whether this command, by its option --quiet, shows neither progress nor notes."""
    global _silent
    _silent = value


def console(*, stderr: bool = False) -> Console:
    """A console that does not break lines at 80 columns in a pipe."""
    plain = _Console(stderr=stderr)
    return plain if plain.is_terminal else _Console(stderr=stderr, width=_WIDTH)


_UNPRINTABLE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Text from files and names, what a terminal would obey or cannot show written out.

    It is written as Python writes it.
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class _Console(Console):
    """A console that obeys nothing in what it prints but its own styles.

    Its reader may go, as in `| head`, without changing what the command answers by its exit code.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """The segments of a renderable, whose text is :func:`printable`."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Write on into nothing."""
        _drop_output()


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_NOT_OURS = re.compile(r"(?<!\\)((?:\\\\)*)\[(?!/?(bold|red|green|bold red|bold green)\])")


def say(text: str) -> None:
    """Print a line that may carry the styles of this package.

    Names from files, which may look like others, are shown as they are.
    """
    try:
        line = Text.from_markup(_NOT_OURS.sub(r"\1\[", text))
    except MarkupError:
        line = Text(text)
    console().print(line, highlight=False, soft_wrap=True)


def note(text: str) -> None:
    """Print a plain line on stderr, unless the command is quiet."""
    if _silent:
        return
    console(stderr=True).print(escape(text), highlight=False, soft_wrap=True)


def print_json(content: dict[str, Any]) -> None:
    """Print one JSON object."""
    try:
        print(json.dumps(content, indent=2, allow_nan=False), flush=True)
    except BrokenPipeError:
        _drop_output()


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, total: bool = False) -> None:
    """Print a table; numbers stand right. ``total`` sets the last row off."""
    say(f"[bold]{escape(title)}[/bold]")
    view = Table()
    for i, column in enumerate(columns):
        numeric = all(re.fullmatch(r"(-?[\d.,]+( ?[%a-zµA-Z]{1,2})?)?", _text(row[i])) for row in rows)
        view.add_column(escape(printable(column)), justify="right" if numeric else "left", overflow="fold")
    for number, row in enumerate(rows):
        if total and number == len(rows) - 1:
            view.add_section()
        view.add_row(*(escape(_text(cell)) for cell in row))
    console().print(view)


def _text(cell: object) -> str:
    if isinstance(cell, int) and not isinstance(cell, bool):
        return f"{cell:,}"
    return f"{cell:.6g}" if isinstance(cell, float) else printable(str(cell))


def milliseconds(seconds: float) -> str:
    """A time: ``5.89 ms``."""
    return f"{1e3 * seconds:.3g} ms"


def span(values: Sequence[int] | Any) -> str:
    """One number, or mean and maximum of integers where they differ."""
    least, most = min(values), max(values)
    return str(most) if least == most else f"{sum(values) / len(values):.1f} on average, at most {most},"


@contextmanager
def progress(what: str) -> Iterator[Callable[..., None]]:
    """A progress bar on stderr, if that is a terminal, that vanishes at the end.

    Yields ``update(done, total, extra text)``.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[extra]}"),
        TimeRemainingColumn(),
    )
    err = console(stderr=True)
    with Progress(*columns, console=err, transient=True, disable=_silent or not err.is_terminal) as bar:
        task = bar.add_task(escape(printable(what)), total=None, extra="")  # how much there is, the first update says

        def update(done: int, total: int, extra: str = "") -> None:
            bar.update(task, completed=done, total=total, extra=extra)

        yield update
