"""docs/readers.md: every case does what the page says, in the version that it names."""

import re
from pathlib import Path

import pytest

from tests import elsewhere

ROOT = Path(__file__).parents[1]
CASES = re.findall(
    r"## (.+?)\n\n```python\n(.+?)```\n\n```\n(.+?)\n```", (ROOT / "docs" / "readers.md").read_text(), re.S
)


def test_the_page_has_cases():
    assert len(CASES) == 10


@pytest.mark.parametrize(("title", "code", "printed"), CASES, ids=[title for title, _, _ in CASES])
def test_a_case_prints_what_the_page_says(title, code, printed, tmp_path):
    package, version = re.match(r"# (\w+)==([\d.]+)", code).groups()
    try:
        last = elsewhere.last_line(code, package, version, tmp_path)
    except elsewhere.MissingError as reason:
        pytest.skip(str(reason))
    assert last == printed
