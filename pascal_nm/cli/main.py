"""The entry point: collects the commands, and turns errors into one line and an exit code."""

from __future__ import annotations

import sys
from typing import Annotated, cast

import typer
from rich.markup import escape

from pascal_nm import __version__
from pascal_nm.cli import demo, export, interop, lags, networks, papers, runs, train
from pascal_nm.cli.output import console, note
from pascal_nm.errors import PascalError

app = typer.Typer(
    name="pascal-nm",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Exit codes: 0 done, 1 the answer is no (verify, interop), 2 bad usage or bad input.",
)
app.command()(demo.demo)
app.command()(train.train)
app.command()(train.adapt)
app.command()(export.export)
app.command()(runs.run)
app.command()(runs.verify)
app.command()(runs.energy)
app.command()(lags.lags)
app.command()(networks.inspect)
app.command()(interop.interop)
app.command()(networks.import_checkpoint)
app.command()(papers.paper)


def _print_version(value: bool) -> None:
    if value:
        print(f"pascal-nm {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """From a network trained with QCFS activations to spikes with exactly the same answers.

    [bold]pascal-nm demo[/bold] shows the whole path on real images in a minute; then: train, export, run, verify, energy, lags, inspect.
    """


USAGE_ERROR: type[Exception] = cast("type[Exception]", typer.BadParameter.__mro__[2])
"""The base of all usage errors, from the command-line library inside typer or beside it."""


INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit: 0 done, 1 the answer is no, 2 bad usage or bad input, 130 interrupted."""
    command = typer.main.get_command(app)
    try:
        code = command.main(standalone_mode=False)
    except (PascalError, OSError) as error:  # the system's own, such as a full disk behind our output
        code = _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):  # most versions of typer make it the code themselves
        code = INTERRUPTED
    except USAGE_ERROR as error:
        show = getattr(error, "format_message", error.__str__)
        code = _fail(f"{show()} (--help tells more)" if str(show()) else "")
    if code == INTERRUPTED:
        note("interrupted")
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> int:
    if message:
        console(stderr=True).print(f"[red]error:[/red] {escape(message)}", highlight=False, soft_wrap=True)
    return 2
