"""What commands say besides their results: progress and notes, which --quiet leaves out, and
colours, which only terminals get.
"""

import os
import pty
import re
import subprocess
import sys

import pytest

from pascal_nm import build
from pascal_nm.cli.main import COMMANDS, load
from pascal_nm.export.nir_format import write_nir
from pascal_nm.source import checkpoint
from tests.networks import for_digits

COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-7]|9[0-7]|4[0-7]|38;[\d;]+)(?:;\d+)*m")


def terminal(*arguments, **environment):
    """What a command line shows in a terminal, control sequences and all."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pascal_nm", *map(str, arguments)]
    plain = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    environment = plain | {"TERM": "xterm-256color", "COLUMNS": "200"} | environment
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment):
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 1 << 16)
            except OSError:  # how Linux says that the other side has closed the terminal
                part = b""
            if not part:
                break
            shown += part
    os.close(ours)
    return shown.decode()


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("speech") / "digits.nir"
    write_nir(for_digits(), path)
    return path


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_quiet_and_can_answer_in_json(name):
    options = {option for parameter in load(name).params for option in parameter.opts}
    assert {"--quiet", "-q", "--json"} <= options


def test_quiet_leaves_notes_out_and_keeps_results(pascal, tmp_path):
    command = ["train", "--epochs", 1, "--width", 0.25, "-o", tmp_path / "model.pt"]
    code, _, err = pascal(*command)
    assert code == 0
    assert "epoch   1/1" in err
    (tmp_path / "model.pt").unlink()
    code, out, err = pascal(*command, "--quiet")
    assert (code, err) == (0, "")
    assert "test images right" in out


def test_quiet_holds_for_one_command_only(pascal, tmp_path):
    pascal("train", "--epochs", 1, "--width", 0.25, "-o", tmp_path / "a.pt", "-q")
    assert "epoch" in pascal("train", "--epochs", 1, "--width", 0.25, "-o", tmp_path / "b.pt")[2]


def test_quiet_does_not_silence_errors(pascal, tmp_path):
    code, out, err = pascal("inspect", tmp_path / "none.nir", "--quiet")
    assert (code, out) == (2, "")
    assert "none.nir does not exist" in err


def test_a_terminal_shows_progress_unless_the_command_is_quiet(network):
    command = ("run", network, "--limit", 20)
    shown, quiet = terminal(*command), terminal(*command, "-q")
    assert "running on torch" in shown
    assert "running on torch" not in quiet
    assert "20 images of digits" in shown and "20 images of digits" in quiet


def test_a_terminal_gets_colours_unless_no_color_is_set(tmp_path):
    command = ("inspect", tmp_path / "none.nir")
    shown, plain = terminal(*command), terminal(*command, NO_COLOR="1")
    assert COLOUR.search(shown)
    assert not COLOUR.search(plain)
    assert "none.nir does not exist" in shown and "none.nir does not exist" in plain


def test_the_help_keeps_to_no_color_too():
    assert COLOUR.search(terminal("--help"))
    assert not COLOUR.search(terminal("--help", NO_COLOR="1"))


@pytest.mark.parametrize("arguments", [["inspect", "none.nir"], ["--help"], ["frobnicate"]])
def test_what_is_no_terminal_gets_no_control_sequence(arguments):
    environment = os.environ | {"TERM": "xterm-256color", "_TYPER_FORCE_DISABLE_TERMINAL": "1"}
    environment.pop("FORCE_COLOR", None)
    command = [sys.executable, "-m", "pascal_nm", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout or done.stderr
    assert "\x1b" not in done.stdout + done.stderr


STRANGE = [
    "\x1b[31mred",
    "\x9b2J",
    "\x1b]0;title\x07",
    "[/bold]",
    "[link=http://x]y[/link]",
    "\\\\[bold]",
    "\u202eright",
    "a\rb",
]


def strangely_named(path):
    """A model whose classes, data and metrics have names that a terminal would obey."""
    recipe = {"arch": "mlp", "input_shape": [1, 2, 2], "classes": len(STRANGE), "width": 0.02}
    metrics = {f"accuracy {STRANGE[0]}": 0.5}
    module = build(**recipe, levels=4)
    checkpoint.save(checkpoint.Model(module, (1, 2, 2), tuple(STRANGE), None, recipe, STRANGE[2], metrics), path)


def test_a_terminal_obeys_nothing_that_stands_in_a_file(tmp_path):
    strangely_named(tmp_path / "x.pt")
    shown = terminal("inspect", tmp_path / "x.pt")
    assert "mlp trained on \\x1b]0;title" in shown
    assert all(
        text in shown for text in (r"\x1b[31mred", r"\x9b2J", "[/bold]", "[link=http://x]y[/link]", r"\u202eright")
    )
    assert not re.search("\x1b\\[31mred|\x9b|\x1b\\]|\u202e", shown)


@pytest.mark.parametrize("name", [b"x\x1b[31m.pt", b"x\xff\xfe.pt", b"x[bold].pt", b"x\ny.pt"])
def test_any_file_name_can_be_read_written_and_named_in_an_error(name, tmp_path, monkeypatch, pascal):
    monkeypatch.chdir(tmp_path)
    strangely_named(tmp_path / "x.pt")
    os.rename("x.pt", name)
    name = os.fsdecode(name)
    for arguments in (["inspect", name], ["export", "--nir", name], ["inspect", f"{name[:-3]}.nir"]):
        code, out, err = pascal(*arguments)
        assert (code, err) == (0, "")
        assert not re.search("\x1b|\x9b|[\ud800-\udfff]", out)
    code, out, err = pascal("inspect", f"no{name}")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and "does not exist" in err and not re.search("\x1b|[\ud800-\udfff]", err)
