"""What is released: the wheel's files, the versions that it names, and the Pythons that
it is checked on.
"""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pascal_nm import __version__

ROOT = Path(__file__).parent.parent

LEFT_BEHIND = shutil.ignore_patterns(".*", "models", "runs", "build", "dist", "*.egg-info", "__pycache__")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("setuptools", "77")
    place = tmp_path_factory.mktemp("release")
    shutil.copytree(ROOT, place / "source", symlinks=True, ignore=LEFT_BEHIND)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    command = [sys.executable, "-c", build, str(place)]
    subprocess.run(command, cwd=place / "source", check=True, capture_output=True, text=True)
    with zipfile.ZipFile(next(place.glob("*.whl"))) as file:
        yield file


def test_the_wheel_holds_every_file_of_the_package_and_no_other(wheel):
    package = {p.relative_to(ROOT).as_posix() for p in (ROOT / "pascal_nm").rglob("*") if p.is_file()}
    package = {name for name in package if "__pycache__" not in name}
    assert {"pascal_nm/py.typed", "pascal_nm/hw_targets/chips/loihi1.toml", "pascal_nm/report/page.html"} <= package
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == package


def test_the_wheel_has_the_version_of_the_package_and_its_program(wheel):
    (metadata,) = (name for name in wheel.namelist() if name.endswith("METADATA"))
    assert metadata.startswith(f"pascal_nm-{__version__}.dist-info")
    assert (
        "pascal-nm = pascal_nm.__main__:main" in wheel.read(metadata.replace("METADATA", "entry_points.txt")).decode()
    )


def test_the_core_requires_nothing_that_an_extra_brings(wheel):
    (metadata,) = (name for name in wheel.namelist() if name.endswith("METADATA"))
    required = re.findall(r"^Requires-Dist: ([\w.-]+)(.*)$", wheel.read(metadata).decode(), re.MULTILINE)
    core = {name for name, rest in required if "extra ==" not in rest}
    extras = {name for name, rest in required if "extra ==" in rest}
    assert {"torch", "nir", "typer"} <= core
    assert {"lava-nc", "datasets", "matplotlib", "accelerate", "plotly"} <= extras
    assert not core & extras


def test_changelog_and_citation_name_the_same_version():
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == __version__
    assert re.search(r"^version: (\S+)", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1] == __version__


def test_every_python_that_is_promised_is_checked():
    project = (ROOT / "pyproject.toml").read_text()
    promised = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', project)
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    checked = re.findall(r'"(3\.\d+)"', re.search(r"^ +python: \[(.*)\]$", workflow, re.MULTILINE)[1])
    pinned = sorted(
        (path.stem.removeprefix("constraints-") for path in (ROOT / "requirements").iterdir()),
        key=lambda version: int(version.split(".")[1]),
    )
    assert promised == checked == pinned
    assert f'requires-python = ">={promised[0]}"' in project
    assert re.search(r"^ +- run: \.ci/run$", workflow, re.MULTILINE)
