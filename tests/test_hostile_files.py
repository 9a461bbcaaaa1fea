"""Damaged and hostile files of every format but NIR: each is read, or refused in one line; none
runs anything, hangs, or fills the memory.
"""

import os

import pytest

from tests.fuzzing import faults, figures, results

COUNT = int(os.environ.get("HOSTILE_FILES", "1000"))
SEED = int(os.environ.get("HOSTILE_SEED", "0"))


@pytest.mark.parametrize("count", [30, pytest.param(COUNT, marks=pytest.mark.slow)])
def test_hostile_files_are_read_or_refused_in_one_line(count, tmp_path):
    """``HOSTILE_FILES=5000 HOSTILE_SEED=7 pytest -m slow -s tests/test_hostile_files.py`` reads
    others, and more of them.
    """
    found = results("tests.hostile_files", tmp_path, first=SEED, count=count)
    print(figures(found))
    assert len(found) == count
    assert faults(found) == []
    assert not (tmp_path / "executed").exists()
    assert 0 < sum(result["outcome"] == "read" for result in found) < count
