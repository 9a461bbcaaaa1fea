"""The table that says which schedule takes the least on a chip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pascal_nm.cli.output import joules, percent, say, table
from pascal_nm.hw_targets.choices import Choice, rows

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
    cells = [
        [*([chip] * several), *_row(row)]
        for chip, choices in found.items()
        for row in rows(each.summary() for each in choices)
    ]
    table(
        f"which schedule takes the least: mean of {'a' if one == 'frame' else 'an'} {one}",
        (*(["chip"] * several), *columns),
        cells,
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


def _row(row: Mapping[str, Any]) -> list[object]:
    mark = {key: _MARK for key in row["least"]}
    total, seconds = row["total_joules"], row["seconds"]
    return [
        row["name"].replace(" ", "\N{NO-BREAK SPACE}"),
        joules(row["dynamic_joules"]) + mark.get("dynamic_joules", ""),
        "" if total is None else joules(total["value"]) + mark.get("total_joules", ""),
        f"{row['source_over']:.3g}",
        f"{row['timesteps']:.4g}",
        "" if seconds is None else f"{1e3 * seconds:.3g}{mark.get('seconds', '')}",
        *(_short(row[event]) for event in ("operations", "updates", "messages")),
    ]


def _short(number: float) -> str:
    """Three digits: ``12.6 M``."""
    for power, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= power:
            return f"{number / power:.3g} {letter}"
    return f"{number:.3g}"
