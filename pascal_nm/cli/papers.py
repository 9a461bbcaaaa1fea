"""The command that recomputes the paper's figures."""

from __future__ import annotations

from pascal_nm import paper as figures
from pascal_nm.cli import options
from pascal_nm.cli.output import print_json, say, table


def paper(as_json: options.Json = False, quiet: options.Quiet = False) -> None:
    """Recompute every figure of the PASCAL paper that needs no training: as printed, from its inputs, from true layer shapes."""
    found = figures.entries()
    if as_json:
        print_json({"entries": [vars(entry) for entry in found]})
        return
    columns = ("where", "quantity", "printed", "from the paper's inputs", "from true shapes", "why they differ")
    rows = [[e.where, e.what, f"{e.printed:,}", _number(e.same), _number(e.true), e.note] for e in found]
    table("Ramesh and Srinivasan, PASCAL, TMLR 2025", columns, rows)
    say(
        "spike rates are the paper's (0.75 where it assumes one); `pascal-nm energy` applies the formulas to measured rates"
    )


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
