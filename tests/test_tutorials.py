"""docs/tutorials: notebooks as they are shown, and as a reader would run them."""

import ast
import json
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"
NAMES = ("cifar10", "digits", "lava")

LARGEST = 400_000
"""Bytes of a notebook with its pictures."""

EXACT = {
    "cifar10": (r"\d+ unexplained levels", r"\d+ differing counts", r"^(?:pasc|two_phase|streaming, lag \d) .*"),
    "digits": (r"\d+ wrong counts, \d+ other predictions", r"^differences: .*", r"^same spike counts .*"),
    "lava": (r"^.+",),
}
"""What a notebook prints on every machine: figures of integers, not of training or
of sums of floats."""

WRONG = re.compile(r"(\d+) (?:unexplained|differing|wrong|other)\b")
"""Figures that are zero where all is right."""


def stored(name):
    return json.loads((TUTORIALS / f"{name}.ipynb").read_text())


def code(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def text(value):
    return value if isinstance(value, str) else "".join(value)


def printed(cell):
    """What a cell printed, and its last value as text."""
    parts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell["outputs"]]
    return "".join(map(text, parts))


def exact(name, notebook):
    """The figures of :data:`EXACT`, in order."""
    found = [re.findall("|".join(EXACT[name]), printed(cell), re.MULTILINE) for cell in code(notebook)]
    return [line for lines in found for line in lines]


def test_every_notebook_is_tested():
    assert sorted(path.stem for path in TUTORIALS.glob("*.ipynb")) == sorted(NAMES) == sorted(EXACT)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_stored_whole_small_and_without_traces_of_the_machine_that_ran_it(name):
    notebook = stored(name)
    assert notebook["nbformat"] == 4 and notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert (TUTORIALS / f"{name}.ipynb").stat().st_size < LARGEST
    assert [cell["execution_count"] for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    for cell in code(notebook):
        source = text(cell["source"])
        last = ast.parse(source).body[-1]
        shows = "print(" in source or "plt.show()" in source or (isinstance(last, ast.Expr) and _is_name(last.value))
        assert bool(cell["outputs"]) == shows, source
        assert all(output["output_type"] != "error" for output in cell["outputs"]), source
        assert all(output.get("name") != "stderr" for output in cell["outputs"]), source
    for words in (*map(printed, code(notebook)), *(text(cell["source"]) for cell in notebook["cells"])):
        assert not re.search(r"/(work|tmp|home|root|Users)\b", words), words


def _is_name(value):
    return isinstance(value, ast.Name)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_names_files_that_are_there_and_finds_nothing_wrong(name):
    notebook = stored(name)
    words = "".join(text(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    links = re.findall(r"\]\((?!https?:)([^)#]+)", words)
    assert len(links) >= 3
    assert [link for link in links if not (TUTORIALS / link).exists()] == []
    figures = WRONG.findall("\n".join(exact(name, notebook)))
    assert figures and set(figures) == {"0"}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_and_prints_the_exact_figures_that_are_stored(name, tmp_path, monkeypatch):
    for needed in ("nbclient", "ipykernel", "matplotlib", "pyarrow" if name == "cifar10" else "lava.magma"):
        pytest.importorskip(needed, exc_type=ImportError)
    import nbformat
    from nbclient import NotebookClient

    images = Path(os.environ.get("CIFAR10_TEST", ROOT.parent / "shared" / "data" / "cifar10-test.parquet"))
    if name == "cifar10" and not images.exists():
        pytest.skip(f"there are no test images of CIFAR-10: neither does CIFAR10_TEST name them, nor is there {images}")
    place = tmp_path / "docs" / "tutorials"
    place.mkdir(parents=True)
    (tmp_path / "models").symlink_to(ROOT / "models")
    monkeypatch.setenv("CIFAR10_TEST", str(images.resolve()))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))  # not what this machine's user has set up
    notebook = nbformat.read(TUTORIALS / f"{name}.ipynb", 4)
    before = exact(name, notebook)
    client = NotebookClient(notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(place)}})
    client.execute()
    assert exact(name, notebook) == before
    assert not [o for cell in code(notebook) for o in cell["outputs"] if o.get("name") == "stderr"]
