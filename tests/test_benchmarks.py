"""Every script of benchmarks/ and examples/ runs, with small sizes: what it prints at full
size is in the docs.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]

MODEL = "{model}"

RUNS = {
    "adaptive_controls.py": (
        [
            "--arch",
            "cnn",
            "--width",
            0.25,
            "--images",
            200,
            "--epochs",
            3,
            "--seeds",
            2,
            "--random",
            1,
            "-o",
            "{folder}",
        ],
        r"\| matched \|(.|\n)+paper - random: [-+][\d.]+ ± [\d.]+ points, (not told apart|more|less)",
    ),
    "adaptive_metric.py": (["--arch", "resnet9", "--images", 20, "--batch", 10], r"metric over forward pass: [\d.]+"),
    "against_authors.py": (
        ["{authors}", "--images", 2, "--cases", 1],
        r"vgg16, uniform +none +\S+( +0){4} +[\d,]+ +\d+\n",
    ),
    "architectures.py": (
        ["--only", "mlp", "--results", "{folder}/architectures.jsonl"],
        r"\| mlp \| written out \| yes \|(.|\n)+1 convert \(100 %\), 1 of them exact in all columns; 0 with a gate\.\n",
    ),
    "bits.py": (
        [MODEL, "--data", "digits", "--search", "digits", "--images", 40, "--bits", "8,4", "--drop", 20],
        r"searched, [\d.]+ on average(.|\n)+bits by layer: ",
    ),
    "bundles.py": (
        [MODEL, "--data", "digits", "--limit", 4, "--threads", 1],
        r"differing(.|\n)+ +[\d,]+ +0 +[\d.]+ +[\d.]+\n",
    ),
    "c_reference.py": (
        [MODEL, "--data", "digits", "--limit", 4, "--rounds", 1],
        r"model( +[\d,]+){2}( +[\d.]+){3} +[\d,]+ of [\d,]+\n",
    ),
    "camera.py": (
        [MODEL, "--frames", 5, "--rounds", 1],
        r"model, all changes( +[\d.]+%?){4}\n",
    ),
    "changing_pixels.py": (
        [MODEL, "--frames", 3, "-o", "{folder}/changes.svg"],
        r"model\.pt( +[\d.]+){7}",
    ),
    "counting.py": (
        [MODEL, "--data", "digits", "--limit", 4, "--rounds", 1, "--threads", 1],
        r"streaming.* loihi2( +[\d.]+){4}\n",
    ),
    "engines.py": (
        ["--arch", "cnn", "--batch", 4, "--rounds", 1, "--size", 16],
        r"steps, integer +[\d.]+ +[\d.]+\n",
    ),
    "graded_exact.py": (
        [MODEL, "--data", "digits", "--limit", 6, "--batch", 3],
        r"model +6 +[\d,]+ +60( +0 +0 +[\d.]+){2}\n",
    ),
    "frames.py": (
        [MODEL, "--limit", 10, "--json", "{folder}/frames.json"],
        r"still +10(.|\n)+differ: graded, int 0, graded, float64 0, streaming, int 0, streaming, float64 0\n",
    ),
    "inhibition.py": (
        [MODEL, "--limit", 20],
        r"20 images: source [\d.]+ %, with ([\d.]+ %), without [\d.]+ %, aligned [\d.]+ %\n",
    ),
    "lava_frames.py": ([MODEL, "--frames", 4], r"graded +4( +[\d.]+){5} +0\n(.|\n)+streaming.* 0\n"),
    "lava_full_size.py": (
        ["--networks", "resnet18-mixed", "--width", 0.05, "--images", 2, "--single", 1, "--batch-size", 2],
        r"resnet18-mixed( +[\d.]+){10,}\n",
    ),
    "conversion.py": (["--arch", "cnn", "--width", 0.25, "--rounds", 1, "--size", 8], r"cnn( +-?[\d.]+){4}\n"),
    "lava_vs_stock.py": (
        ["--sizes", "4x4x8", "--batches", 2, "--rounds", 1, "--steps", 2, "--stock-steps", 1],
        r"4x4x8 +2( +[\d.]+){4} +\d+ %",
    ),
    "mapping.py": (
        ["--chips", "loihi2", "--width", 0.05, "--rounds", 1, "--threads", 1],
        r"ResNet-34, ImageNet +loihi2",
    ),
    "nir_files.py": (["--width", 0.02, "--rounds", 1], r"read nir( +[\d.]+){3}\n"),
    "nir_paper.py": (
        ["{made}", "--timesteps", 5],
        r"model\.nir \| zero \| \d+ \| [\d,]+( \| [\de.-]+){2} \| 0 \|\n",
    ),
    "spec_reader.py": (
        ["digits", "--networks", MODEL, "--images", 3],
        r"model\.pt \| integers \| [\d,]+ \| 0 \| 0 \|",
    ),
    "quantized_training.py": (
        [MODEL, "{tuned}", "--data", "digits", "--limit", 40, "--steps", 1, "--batch", 8, "--bits", 4],
        r"4-bit( +[\d.]+ %){5} +[-+][\d.]+\n(.|\n)*for 4 bits over a plain one: [\d.]+\n",
    ),
    "schedules.py": (
        [MODEL, "--limit", 8, "--levels", "2,4", "--rate", 8, "--json", "{folder}/s.json", "--plot", "{folder}/s.svg"],
        r"Every count of every layer is the integer QCFS network's",
    ),
    "startup.py": (["{network}", "--rounds", 1], r"pascal-nm --help +[\d.]+ +[\d.]+\n"),
}
"""For each benchmark its arguments, and what it prints when it got to its end."""


def test_every_benchmark_and_example_is_run():
    assert set(RUNS) == {path.name for path in (ROOT / "benchmarks").glob("*.py")}
    assert {path.name for path in (ROOT / "examples").iterdir()} == {"nir", "paper_networks.sh", "relu_resnet.py"}


def environment(**more):
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | more


MADE = {"model": "model.pt", "network": "model.nir", "tuned": "tuned.pt"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a trained model.pt, its model.nir, and tuned.pt, for 4 bits."""
    folder = tmp_path_factory.mktemp("made")
    for command in (
        ["train", "--epochs", "1", "--width", "0.25", "-o", "model.pt"],
        ["export", "model.pt", "--nir"],
        ["train", "--from", "model.pt", "--bits", "4", "--epochs", "1", "-o", "tuned.pt"],
    ):
        subprocess.run([sys.executable, "-m", "pascal_nm", *command, "-q"], cwd=folder, env=environment(), check=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("script", RUNS)
def test_a_benchmark_runs_to_its_end(script, made, tmp_path):
    arguments, printed = RUNS[script]
    if script.startswith(("lava_", "graded_", "nir_paper")) and importlib.util.find_spec("lava") is None:
        pytest.skip("lava-nc is not installed")
    if script == "c_reference.py" and shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    authors = os.environ.get("PASCAL_CLONE", "")
    if "{authors}" in arguments and not authors:
        pytest.skip("PASCAL_CLONE names no clone of the authors' repository")
    places = {name: made / file for name, file in MADE.items()} | {"folder": tmp_path, "made": made, "authors": authors}
    command = [sys.executable, ROOT / "benchmarks" / script, *(str(a).format(**places) for a in arguments)]
    done = subprocess.run(
        list(map(str, command)), cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(printed, done.stdout), done.stdout
    if script == "schedules.py":
        assert set(json.loads((tmp_path / "s.json").read_text())["levels"]) == {"2", "4"}
        assert "<svg" in (tmp_path / "s.svg").read_text()


@pytest.mark.slow
def test_the_example_trains_and_verifies_the_papers_networks(tmp_path):
    """On images of noise, an epoch of narrow networks; a second run finds them trained."""
    datasets = pytest.importorskip("datasets")
    rng = np.random.default_rng(0)
    names = {"label": datasets.ClassLabel(names=["a", "b"]), "image": datasets.Image()}
    for part, n in (("train", 24), ("test", 12)):
        pixels = rng.integers(0, 256, (n, 32, 32, 3), np.uint8)
        rows = {"image": list(pixels), "label": (np.arange(n) % 2).tolist()}
        data = datasets.Dataset.from_dict(rows, features=datasets.Features(names))
        data.to_parquet(str(tmp_path / f"{part}.parquet"))
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "pascal-nm"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pascal_nm "$@"\n')
    program.chmod(0o755)
    small = {"EPOCHS": "3", "DEVICE": "cpu", "WIDTH": "0.03", "LIMIT": "4", "ARCHS": "vgg16 resnet18"}
    small |= {"ONLY": "L8|cifar10-vgg16-(listed|adapted)", "CIFAR100_TRAIN": "", "IMAGENET": ""}
    path = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    command = ["bash", str(ROOT / "examples" / "paper_networks.sh"), "train.parquet", "test.parquet", "out"]
    for _ in range(2):
        done = subprocess.run(
            command, cwd=tmp_path, env=environment(**small, **path), capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.count("exact: each of") == 4
    wanted = {"table2-cifar10-vgg16-L8", "table2-cifar10-resnet18-L8", "table4-cifar10-vgg16-listed"}
    adapted = {"table4-cifar10-vgg16-adapted", "table4-cifar10-vgg16-adapted.uniform"}
    assert {p.stem for p in (tmp_path / "out").glob("*.pt")} == wanted | adapted


def test_the_example_has_every_row_of_tables_2_and_4_with_levels_for_each_layer():
    layers = {"vgg16": 15, "resnet18": 17, "resnet34": 33}
    lines = (ROOT / "examples" / "paper_networks.sh").read_text().splitlines()
    rows = [line.split() for line in lines if re.match(r"table[24]-", line)]
    assert [sum(name.startswith(table) for name, *_ in rows) for table in ("table2", "table4")] == [10, 12]
    for name, *options in rows:
        given = dict(zip(options[::2], options[1::2], strict=True))
        _, dataset, arch, *_ = name.split("-")
        assert dataset in ("cifar10", "cifar100", "imagenet")
        for option in ("--levels", "--final-levels"):
            numbers = given.get(option, "4").split(",")
            assert len(numbers) in (1, layers[arch]), name
        if "--adapt" in given:
            assert len(given["--adapt-levels"].split(",")) == int(given["--adapt"])
