"""Code of a page, run by the Python of the reader that it is about."""

import subprocess
from pathlib import Path

from pascal_nm.interop import readers

ROOT = Path(__file__).parents[1]


class MissingError(Exception):
    """The reader is not installed, or in another version."""


def last_line(code, package, version, folder):
    """What the code prints last, in ``folder``, where the reader is there in that version."""
    python = readers.python_of(package, ROOT / ".readers")
    if python is None:
        raise MissingError(f"{package} is not installed")
    check = f"from importlib.metadata import version; print(version('{package}'))"
    found = subprocess.run([python, "-c", check], capture_output=True, text=True, check=True).stdout.strip()
    if found != version:
        raise MissingError(f"{package} {found} is installed, the page is about {version}")
    command = [python, "-W", "ignore", "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-1000:]
    return done.stdout.strip().splitlines()[-1]
