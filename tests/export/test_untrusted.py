"""Damaged and hostile NIR files: one clear line each, and no crash, no hang, no flood of memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pascal_nm import build, convert
from pascal_nm.export import write_nir
from pascal_nm.graph import Preprocessing
from tests import networks

ROOT = Path(__file__).parents[2]

VALUES = {"flipped", "flipped_in_the_structure", "header"}
"""Changes after which a file may be a valid network, if another one."""


@pytest.mark.parametrize("count", [140, pytest.param(1000, marks=pytest.mark.slow)])
def test_hostile_files_are_refused_in_one_line(count, tmp_path):
    module = build("resnet8", (3, 16, 16), 5, [3, 2, 2, 4, 1, 2, 3], width=0.25, pool="max")
    module = networks.randomized(module).float()
    preprocessing = Preprocessing(255.0, (0.1,) * 3, (0.2,) * 3)
    good = tmp_path / "good.nir"
    write_nir(convert(module, torch.zeros(1, 3, 16, 16), preprocessing=preprocessing), good)
    command = [sys.executable, "-m", "tests.export.hostile", good, "0", str(count)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, len(lines)) == (0, 2 * count), (lines[-1:], done.stderr[-2000:])
    refused = 0
    for made, result in zip(lines[::2], lines[1::2], strict=True):
        assert result["seconds"] < 5, made
        assert result["memory"] < good.stat().st_size + 500e6, made
        if result["outcome"] == "refused":
            refused += 1
            assert "file.nir" in result["error"] and "\n" not in result["error"], (made, result)
        else:
            assert result["error"] == "" or made["way"] in VALUES, (made, result)
    assert refused > 0.8 * count
