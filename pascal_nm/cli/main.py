"""The entry point: knows the commands by name, and turns errors into one line and an exit code."""

from __future__ import annotations

import importlib
import io
import sys
from typing import Annotated, Any, NamedTuple, cast

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from pascal_nm import __version__
from pascal_nm.cli.output import console, note
from pascal_nm.errors import PascalError


class _Entry(NamedTuple):
    """A command as the program's own help shows it.

    Attributes:
        module: where it is, in :mod:`pascal_nm.cli`; the function has the command's name.
        line: the first line of the function's docstring.
    """

    module: str
    line: str


COMMANDS = {
    "demo": _Entry("demo", "Show the whole path on 1797 real images of digits, from training to energy, proven exact."),
    "train": _Entry("train", "Train a QCFS network. A stopped training goes on when the command is given again."),
    "adapt": _Entry("adapt", "Which layers can do with fewer levels: the AL metric, its clusters, and a levels file."),
    "export": _Entry(
        "export", "Convert a QCFS network to a spiking one and write it as a graph that every target runs."
    ),
    "quantize": _Entry(
        "quantize", "Quantize a float network to integers, by data if it is given, and say what layers lost."
    ),
    "run": _Entry("runs", "Run a spiking network on images: accuracy, spikes and operations, counted."),
    "verify": _Entry("runs", "Is the spiking network the source network? Exit code 1 means no."),
    "energy": _Entry(
        "energy", "What the network would cost on chips: events that are counted, times each chip's table."
    ),
    "silicon": _Entry(
        "silicon", "Published measurements on chips, and what the chips' files predict for the same counts."
    ),
    "report": _Entry(
        "report", "Write one page to read, show and send: accuracy, spikes, energy and proof of a network."
    ),
    "map": _Entry("mapping", "Which neurons go to which core of a chip, what each core uses, and which limit binds."),
    "deploy": _Entry("deploy", "Write what a chip needs to be programmed, and prove that it runs to the same counts."),
    "lags": _Entry(
        "lags", "Choose each layer's lag: the least energy within a time, or the least time within an energy."
    ),
    "compare": _Entry("compare", "One network under every method: exact, rate coded, with early exits, and with ReLU."),
    "inspect": _Entry(
        "inspect", "Show a network's populations, synapses, levels and schedule, or another tool's NIR nodes."
    ),
    "interop": _Entry("interop", "Run a network in other simulators: does each answer as the source network does?"),
    "import-checkpoint": _Entry(
        "checkpoints", "Read a published checkpoint of the PASCAL or QCFS repositories and write it as a model."
    ),
    "paper": _Entry("papers", "The PASCAL paper item by item: what each says, what is here, figures, and errata."),
}
"""Every command, in the order of the help. Most of their modules load torch, which takes seconds,
so none is imported before it is needed."""


def load(name: str) -> Any:
    """Import a command's module and make the command of its function."""
    from pascal_nm.cli.outputs import checked

    function = getattr(importlib.import_module(f"pascal_nm.cli.{COMMANDS[name].module}"), name.replace("-", "_"))
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
    alone.command(name)(checked(function))
    return typer.main.get_command(alone)


class _Commands(TyperGroup):
    """The group of all commands, with names and lines from :data:`COMMANDS`.

    A command itself is imported once it is called, completed or asked for its help.
    """

    def __init__(self, **attributes: Any) -> None:
        attributes["commands"] = {name: TyperCommand(name, help=entry.line) for name, entry in COMMANDS.items()}
        super().__init__(**attributes)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that arguments name, and what is left of them."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else load(name), rest


_app = typer.Typer(
    cls=_Commands,
    name="pascal-nm",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Exit codes: 0 done, 1 the answer is no (verify, interop), 2 bad usage or bad input.",
)


def _print_version(value: bool) -> None:
    if value:
        print(f"pascal-nm {__version__}")
        raise typer.Exit


@_app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """From a network trained with QCFS activations to spikes with exactly the same answers.

    [bold]pascal-nm demo[/bold] shows the whole path on real images in a minute;
    then: train, export, run, verify, energy, lags, inspect.
    """


_USAGE_ERROR: type[Exception] = cast("type[Exception]", typer.BadParameter.__mro__[2])
"""The base of all usage errors, from the command-line library inside typer or beside it."""


_INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit.

    The codes: 0 done, 1 the answer is no, 2 bad usage or bad input, 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):  # a file's name need not be text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    command = typer.main.get_command(_app)
    try:
        code = command.main(standalone_mode=False)
    except (PascalError, OSError) as error:  # the system's own, such as a full disk behind our output
        code = _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):  # most versions of typer make it the code themselves
        code = _INTERRUPTED
    except _USAGE_ERROR as error:
        show = getattr(error, "format_message", error.__str__)
        code = _fail(f"{show()} (--help tells more)" if str(show()) else "")
    if code == _INTERRUPTED:
        note("interrupted")
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> int:
    if message:
        line = escape(" ".join(message.splitlines()))  # a name in a file may hold line breaks
        console(stderr=True).print(f"[red]error:[/red] {line}", highlight=False, soft_wrap=True)
    return 2
