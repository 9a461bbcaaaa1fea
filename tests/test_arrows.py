"""Imports point down from room to room, in no circle, and the core goes without Lava and torch."""

import shutil
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

grimp = pytest.importorskip("grimp", reason="import-linter is not installed")

ROOT = Path(__file__).parents[1]


def broken(folder):
    """What import-linter says of a package in a folder that breaks the contracts; "" of one that
    keeps them.
    """
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", code, "--no-cache"], cwd=folder, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def circle(imports):
    """Modules that import each other in a circle; none where there is no circle."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def imports():
    """By module of the package what it imports of the package.

    What is imported for type checkers alone does not count: a fact of neurons may be told by the
    type of the population that it is asked for. So the face of the whole package imports nothing.
    """
    graph = grimp.build_graph("pascal_nm", cache_dir=None, exclude_type_checking_imports=True)
    return {m: graph.find_modules_directly_imported_by(m) for m in graph.modules - {"pascal_nm"}}


def test_the_contracts_are_kept():
    assert broken(ROOT) == ""


def test_no_modules_import_each_other_in_a_circle():
    assert circle(imports()) == []


FORBIDDEN = {
    "network/bounds.py": ("from pascal_nm.hw_targets import chip", "pascal_nm.hw_targets.chip"),
    "simulation/result.py": ("def late():\n    from pascal_nm.source import qcfs", "pascal_nm.source.qcfs"),
    "common/units.py": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pascal_nm.data.dataset",
        "pascal_nm.data.dataset",
    ),
    "hw_targets/mapping.py": ("from pascal_nm.process_models import memory", "pascal_nm.process_models.memory"),
    "process_models/memory.py": ("import lava.magma", "lava"),
    "search/lags.py": ("import norse.torch", "norse"),
    "neuron.py": ("import torch", "torch"),
}
"""By file a line that breaks a contract, and what it imports against it."""


def test_every_kind_of_forbidden_import_is_found(tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "pascal_nm", tmp_path / "pascal_nm", ignore=shutil.ignore_patterns("__pycache__"))
    assert broken(tmp_path) == ""
    for file, (lines, _) in FORBIDDEN.items():
        with (tmp_path / "pascal_nm" / file).open("a") as module:
            module.write(f"\n{lines}\n")
    said = broken(tmp_path)
    assert "0 kept, 5 broken" in said
    for file, (_, imported) in FORBIDDEN.items():
        assert f"pascal_nm.{file[:-3].replace('/', '.')} -> {imported} (l." in said


def test_the_core_is_imported_without_torch_and_lava():
    """What operators import of torch, they import when they are applied."""
    code = (
        "import pkgutil, importlib, sys, pascal_nm.network as room\n"
        "for module in pkgutil.walk_packages(room.__path__, 'pascal_nm.network.'):\n"
        "    importlib.import_module(module.name)\n"
        "print({'torch', 'lava', 'pascal_nm.process_models'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
