"""What is optional is optional: with every extra's packages out of reach, the whole path
runs on the digits.
"""

import json
import os
import re
import subprocess
import sys

import pytest

OPTIONAL = (
    "lava",
    "asteval",
    "datasets",
    "pyarrow",
    "PIL",
    "accelerate",
    "matplotlib",
    "nirviz",
    "graphviz",
    "distributed",
    "plotly",
)

ALONE = """
import json, sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in OPTIONAL else super().find_spec(name, path, target)

OPTIONAL, lines = json.loads(sys.argv[1])
sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]
from pascal_nm.cli.main import main
codes = []
for line in lines:
    sys.argv = ["pascal-nm", *line]
    try:
        main()
    except SystemExit as end:
        codes.append(end.code)
print("codes", *codes)
"""


def alone(folder, *lines):
    """Run command lines in a process without the optional packages: their exit
    codes, stdout, stderr.
    """
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    command = [sys.executable, "-c", ALONE, json.dumps([OPTIONAL, [line.split() for line in lines]])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    *printed, last = done.stdout.splitlines()
    return [int(code) for code in last.split()[1:]], "\n".join(printed), done.stderr


PATH = (
    "train --epochs 1 --width 0.25 -q",
    "adapt model.pt --limit 100 --clusters 2",
    "export model.pt --nir",
    "export model.pt --nir --profile unrolled",
    "run model.nir --limit 20",
    "run model.nir --limit 20 --target loihi",
    "run model.unrolled.nir --limit 20",
    "verify model.pt --nir model.nir --limit 20",
    "energy model.nir --limit 20",
    "inspect model.nir",
    "inspect model.pt",
    "paper",
)

ADVICE = {
    "run model.nir --target lava --limit 20": "lava-nc",
    "run model.nir --data photos": "pascal-nm[data]",
    "run model.nir --scheduler tcp://127.0.0.1:8786": "pascal-nm[dask]",
    "adapt model.pt --limit 50 --plot metric.svg": "pascal-nm[plot]",
    "inspect model.nir --plot graph.svg": "pascal-nm[plot]",
    "report model.nir --limit 20": "pascal-nm[report]",
}
"""What needs an optional package, and what its error names."""


def test_the_whole_path_needs_no_optional_package_and_what_needs_one_says_how_to_install_it(tmp_path):
    codes, out, err = alone(tmp_path, *PATH, *ADVICE)
    assert codes == [0] * len(PATH) + [2] * len(ADVICE), err
    assert re.search(
        r"^(exact|equal up to rounding): .* of [\d,]+ levels|^exact: each of [\d,]+ levels", out, re.MULTILINE
    )
    for line, package in zip(err.splitlines(), ADVICE.values(), strict=True):
        assert line.startswith("error: ")
        assert package in line


@pytest.mark.slow
def test_the_demo_runs_without_lava_and_says_what_it_left_out(tmp_path):
    codes, out, _ = alone(tmp_path, "demo -q")
    assert codes == [0]
    assert "exact on every target" in out
    assert "without lava: Lava does not load" in out
