"""docs/readers.md: every case does what the page says, in the version that it names."""

import re
import subprocess
from pathlib import Path

import pytest

from pascal_nm.interop import readers

ROOT = Path(__file__).parents[1]
CASES = re.findall(
    r"## (.+?)\n\n```python\n(.+?)```\n\n```\n(.+?)\n```", (ROOT / "docs" / "readers.md").read_text(), re.S
)


def test_the_page_has_cases():
    assert len(CASES) == 10


@pytest.mark.parametrize(("title", "code", "printed"), CASES, ids=[title for title, _, _ in CASES])
def test_a_case_prints_what_the_page_says(title, code, printed, tmp_path):
    package, version = re.match(r"# (\w+)==([\d.]+)", code).groups()
    python = readers.python_of(package, ROOT / ".readers")
    if python is None:
        pytest.skip(f"{package} is not installed")
    check = f"from importlib.metadata import version; print(version('{package}'))"
    found = subprocess.run([python, "-c", check], capture_output=True, text=True, check=True).stdout.strip()
    if found != version:
        pytest.skip(f"{package} {found} is installed, the page is about {version}")
    command = [python, "-W", "ignore", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-1000:]
    assert done.stdout.strip().splitlines()[-1] == printed
