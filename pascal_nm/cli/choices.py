"""The table that says which schedule takes the least on a chip."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from pascal_nm.cli.output import joules, percent, say, table
from pascal_nm.hw_targets.bill import Bill
from pascal_nm.hw_targets.choices import Choice, figures

_MARK = "*"
"""Behind the least energy and time of a chip."""


def show(found: Mapping[str, Sequence[Choice]], one: str) -> None:
    """A row for each schedule that each chip can run, and for those that can be pipelined another.

    Args:
        found: by chip.
        one: what the figures are of: an image or a frame.
    """
    columns = ("schedule", "dynamic", "total", "source / it", "steps", "ms", "operations", "updates", "messages")
    several = len(found) > 1
    rows = [[*([chip] * several), *row] for chip, choices in found.items() for row in _rows(choices)]
    table(
        f"which schedule takes the least: mean of {'a' if one == 'frame' else 'an'} {one}",
        (*(["chip"] * several), *columns),
        rows,
    )
    say(
        f"{_MARK} the least, of {one}s one at a time and of pipelined ones; totals as far as they are known; source / "
        f"it is of dynamic energies. Pipelined, {one}s follow each other as "
        "soon as the first neurons are free, on a chip that never waits: steps and ms are from one answer to the next, "
        f"and each {one}'s own answer takes longer than alone"
    )
    for chip, choices in found.items():
        for each in choices:
            if each.refusal:
                say(f"{chip}, {each.timing}: {each.refusal}")
            elif each.bill is not None and (final := float(each.bill.result.exact.mean())) < 1:
                say(f"{chip}, {each.timing}: stopped when {percent(final)} of the answers were final")


def _bills(choices: Sequence[Choice]) -> Iterator[tuple[str, Bill]]:
    for each in choices:
        if each.bill is not None:
            yield str(each.timing), each.bill
        if each.following is not None:
            yield f"{each.timing}, pipelined", each.following


def _rows(choices: Sequence[Choice]) -> list[list[object]]:
    bills = list(_bills(choices))
    final = [bill for _, bill in bills if bill.result.exact.all()]
    least = {
        (kind, column): min((of(b) for b in final if b.pipelined is kind), default=0.0)
        for kind in (False, True)
        for column, of in _COMPARED.items()
    }
    return [
        _row(name, bill, {column: bool(of(bill) == least[bill.pipelined, column]) for column, of in _COMPARED.items()})
        for name, bill in bills
    ]


_COMPARED: dict[str, Callable[[Bill], float]] = {
    "dynamic": lambda bill: bill.total,
    "total": lambda bill: math.inf if bill.whole is None else bill.whole,
    "ms": lambda bill: math.inf if bill.seconds_between_answers is None else bill.seconds_between_answers,
}
"""Columns whose least is marked."""


def _row(name: str, bill: Bill, least: Mapping[str, bool]) -> list[object]:
    found = figures(bill)
    return [
        name.replace(" ", "\N{NO-BREAK SPACE}"),
        joules(bill.total) + _MARK * least["dynamic"],
        "" if bill.whole is None else joules(bill.whole) + _MARK * least["total"],
        f"{found['source_over']:.3g}",
        f"{found['timesteps']:.4g}",
        "" if found["seconds"] is None else f"{1e3 * found['seconds']:.3g}{_MARK * least['ms']}",
        *(_short(found[event]) for event in ("operations", "updates", "messages")),
    ]


def _short(number: float) -> str:
    """Three digits: ``12.6 M``."""
    for power, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= power:
            return f"{number / power:.3g} {letter}"
    return f"{number:.3g}"
