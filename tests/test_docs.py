"""README and documentation: every block of Python and every command runs, in order, as a
reader would run them.

A block that begins with `# package==version` is run by the Python of that reader, where it is
installed. A command with the comment "not run by the tests" is not; installations and benchmarks
are checked for what they name.
"""

import contextlib
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pascal_nm.hw_targets.tables import tomllib  # tomli before Python 3.11
from pascal_nm.training import TrainingConfig, train_to_file
from tests import elsewhere

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SLOW = {"start", "chips", "paper", "report"}
"""Pages that take more than a few seconds."""

PAGES = [
    pytest.param(path, marks=[pytest.mark.slow] if path.stem in SLOW else [], id=path.stem)
    for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))
    if path.stem != "readers"  # tests/test_readers_page.py
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network for the digits as `model.pt`, for pages that begin with one."""
    from pascal_nm import data

    path = tmp_path_factory.mktemp("model") / "model.pt"
    train_to_file(*data.load_pair("digits"), TrainingConfig(arch="cnn", epochs=3, shift=1), path)
    return path


@pytest.fixture
def folder(model, tmp_path, monkeypatch):
    """Where a reader sits: a trained network, its NIR file, the committed models, and the data
    sets that are there.
    """
    from pascal_nm import export
    from pascal_nm.source import checkpoint

    monkeypatch.chdir(tmp_path)
    shutil.copy(model, tmp_path)
    export.write_nir(checkpoint.load(model).graph(), tmp_path / "model.nir")
    (tmp_path / "models").symlink_to(ROOT / "models")
    for file in DATA.glob("*.parquet"):
        (tmp_path / file.name).symlink_to(file)
    return tmp_path


@pytest.fixture
def registers():
    """What a page registers is gone behind it."""
    from pascal_nm import hw_targets
    from pascal_nm.network import dynamics, graph
    from pascal_nm.network.operators import base
    from pascal_nm.simulation import schedule
    from pascal_nm.source import converter

    tables = (
        base.OPERATORS,
        dynamics.DYNAMICS,
        graph.SCHEDULES,
        schedule._MAKERS,
        converter._HANDLERS,
        hw_targets._TARGETS,
    )
    before = [dict(table) for table in tables]
    yield
    for table, content in zip(tables, before, strict=True):
        table.clear()
        table.update(content)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs(page, folder, registers, pascal, capsys):
    names = {"__name__": page.stem}
    printed = []
    for language, text in BLOCK.findall(page.read_text()):
        if language == "python" and (package := re.match(r"# (\w+)==([\d.]+)\n", text)):
            with contextlib.suppress(elsewhere.MissingError):
                assert elsewhere.last_line(text, *package.groups(), folder) == "1.0"
        elif language == "python":
            if "lava" in text or "PascNetwork" in text:
                pytest.importorskip("lava.magma", exc_type=ImportError)
            exec(compile(text, str(page), "exec"), names)
            printed.append(capsys.readouterr().out)
        elif language == "sh":
            for line in text.splitlines():
                _command(line, pascal)
    CHECKS.get(page.stem, lambda names, printed: None)(names, "".join(printed))


def _command(line, pascal):
    words = shlex.split(line, comments=True)
    if not words or "not run by the tests" in line:
        return
    missing = [w for w in words if w.endswith(".parquet") and not Path(w).exists()]
    if missing:
        pytest.skip(f"{missing[0]} is not here")
    if words[0] == "pascal-nm":
        if "lava" in words:
            pytest.importorskip("lava.magma", exc_type=ImportError)
        code, out, err = pascal(*words[1:])
        assert code == 0, f"{line}\n{out}{err}"
    elif words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
    elif words[:2] == ["pip", "install"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        for asked in re.findall(r"\.\[([\w,]+)\]", line):
            assert set(asked.split(",")) <= set(extras), line
    else:
        assert words[0].endswith("python") and (ROOT / words[1]).exists(), line


def _readme(names, printed):
    spiking, source = (float(re.search(rf"{who}\s+([\d.]+)", printed)[1]) for who in ("spiking", "source"))
    assert spiking == source > 0.9


def _own_model(names, printed):
    assert re.search(r"mul\b.* cannot be converted", printed)
    tuned = float(re.search(r"L = 2, tuned: ([\d.]+)%", printed)[1])
    untuned = float(re.search(r"L = 2: ([\d.]+)%", printed)[1])
    assert tuned > max(untuned, 85)


def _relu(names, printed):
    assert "['1.relu', '1.relu_2']" in printed and "exact" in printed


def _lava(names, printed):
    assert names["answer"].shape == (2, 2)


CHECKS = {"README": _readme, "own_model": _own_model, "relu": _relu, "lava": _lava}


def test_the_pages_have_what_they_are_read_for():
    blocks = {page.values[0].stem: BLOCK.findall(page.values[0].read_text()) for page in PAGES}
    assert sum(language == "python" for found in blocks.values() for language, _ in found) > 20
    assert {language for found in blocks.values() for language, _ in found} == {
        "python",
        "sh",
        "",
        "mermaid",
        "toml",
    }
    for stem, found in blocks.items():
        for language, text in found:
            if language == "":
                assert not re.search(r"^(pascal-nm|pip|make|python) ", text, re.MULTILINE), (
                    f"a command that no test runs: {stem}"
                )


def test_an_operator_takes_60_lines_at_most_and_a_dynamics_with_its_schedule_80():
    blocks = [
        text for language, text in BLOCK.findall((ROOT / "docs" / "extend.md").read_text()) if language == "python"
    ]
    operator = next(text for text in blocks if "operators.register" in text)
    neurons = next(text for text in blocks if "dynamics.register" in text)
    assert len(operator.splitlines()) <= 60 and "conversion.register" in operator
    assert len(neurons.splitlines()) <= 80 and "schedule.register" in neurons


def test_every_station_of_the_walk_is_there():
    walk = (ROOT / "CONTRIBUTING.md").read_text().split("## A walk through the code")[1].split("\n## ")[0]
    stations = [name for line in walk.splitlines() if line.startswith("| ") for name in re.findall(r"`([\w.]+)`", line)]
    assert len(stations) > 15
    for station in stations:
        assert callable(pkgutil.resolve_name(f"pascal_nm.{station}")), station


def test_links_and_files_that_pages_name_are_there():
    for page in (ROOT / "README.md", *ROOT.glob("docs/*.md"), ROOT / "models" / "README.md"):
        text = BLOCK.sub("", page.read_text())
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[\w-]*)?\)", text):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
        for name in re.findall(r"`((?:benchmarks|tests|pascal_nm|examples|models)/[\w./]+\.\w+)`", text):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    for module in ("furo", "myst_nb", "latex2mathml"):
        pytest.importorskip(module)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", ROOT / "docs", tmp_path / "site" / "html"]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    theory = (tmp_path / "site" / "html" / "theory.html").read_text()
    assert "<math" in theory and not re.search(r"<script[^>]*src=.https?:", theory)
