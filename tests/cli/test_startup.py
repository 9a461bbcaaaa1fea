"""The command line starts without what it does not need: torch and the other large libraries wait
until a command calls for them.
"""

import importlib
import json
import os
import subprocess
import sys

import pytest

import pascal_nm
from pascal_nm.cli.main import COMMANDS, load
from pascal_nm.export.nir_format import write_nir
from tests.networks import for_digits

HEAVY = {"torch", "nirtorch", "matplotlib", "datasets", "sklearn", "lava", "scipy", "PIL", "accelerate", "plotly"}

PLAIN = {"_TYPER_FORCE_DISABLE_TERMINAL": "1"}
"""Keeps typer from colouring its help where it takes logs for terminals, as on GitHub."""

CALL = """
import json, sys
from pascal_nm.__main__ import main
sys.argv = ["pascal-nm", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    code = end.code
print("\\n" + json.dumps([code, [name for name in sys.modules if "." not in name]]))
"""


def call(*arguments, **environment):
    """Run a command line in a process of its own: exit code, stdout, and the packages that it had
    imported at the end.
    """
    command = [sys.executable, "-c", CALL, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | PLAIN | environment)
    *printed, last = done.stdout.splitlines()
    code, packages = json.loads(last)
    return code, "\n".join(printed), set(packages)


@pytest.fixture
def file(tmp_path):
    """A .nir file of ours."""
    write_nir(for_digits(), tmp_path / "model.nir")
    return tmp_path / "model.nir"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_the_program_shows_the_first_line_of_each_commands_own(name):
    module = importlib.import_module(f"pascal_nm.cli.{COMMANDS[name].module}")
    function = getattr(module, name.replace("-", "_"))
    assert COMMANDS[name].line == function.__doc__.splitlines()[0]
    assert load(name).name == name


@pytest.mark.parametrize("arguments", [["--help"], [], ["--version"], ["frobnicate"], ["runn"]])
def test_help_version_and_misspelled_commands_import_neither_torch_nor_numpy(arguments):
    _, out, packages = call(*arguments)
    assert not packages & {*HEAVY, "numpy", "nir", "h5py"}
    if "--help" in arguments:
        assert all(name in out for name in COMMANDS)


def test_inspect_of_our_nir_file_imports_no_torch(file):
    code, out, packages = call("inspect", file, "--json")
    assert code == 0
    assert [p["name"] for p in json.loads(out)["populations"]] == ["input", "hidden", "output"]
    assert not packages & HEAVY


def test_a_command_that_computes_imports_torch_and_nothing_that_only_others_need():
    code, out, packages = call("run", "--help")
    assert code == 0
    assert "--target" in out
    assert "torch" in packages
    assert not packages & {"matplotlib", "datasets", "sklearn", "lava", "accelerate"}


def complete(words):
    place = {"_PASCAL_NM_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    _, out, packages = call(**place)
    return out.split(), packages


def test_the_shell_completes_names_of_commands_without_importing_them():
    found, packages = complete("pascal-nm in")
    assert found == ["inspect", "interop"]
    assert not packages & HEAVY


def test_the_shell_completes_options_of_a_command():
    found, packages = complete("pascal-nm inspect --p")
    assert found == ["--plot"]
    assert not packages & HEAVY


def test_a_misspelled_command_is_refused_with_the_nearest_name(pascal):
    code, out, err = pascal("inspekt")
    assert (code, out) == (2, "")
    assert "'inspect'" in err


def test_the_module_runs_as_the_program():
    done = subprocess.run([sys.executable, "-m", "pascal_nm", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"pascal-nm {pascal_nm.__version__}\n")


def test_importing_the_package_imports_nothing_else():
    code = "import sys; before = set(sys.modules); import pascal_nm; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "pascal_nm" in loaded
    assert not loaded & {*HEAVY, "numpy", "typer", "rich"}


def test_every_public_name_is_listed_and_found():
    assert set(pascal_nm.__all__) <= set(dir(pascal_nm))
    for name in pascal_nm.__all__:
        assert getattr(pascal_nm, name).__doc__, name
    with pytest.raises(AttributeError, match="frobnicate"):
        pascal_nm.frobnicate  # noqa: B018
