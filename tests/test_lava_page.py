"""docs/lava.md: its blocks, run in order as a reader would run them."""

import re
from pathlib import Path

import pytest

pytest.importorskip("lava.magma", exc_type=ImportError)

PAGE = Path(__file__).parents[1] / "docs" / "lava.md"


def test_the_blocks_of_the_tutorial_run():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 6
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks:
        exec(block, names)
    assert names["answer"].shape == (2, 2)
