"""The reference in C beside the simulator: its size, its speed, and how many counts are equal.

python benchmarks/c_reference.py MODEL [MODEL ...] --data DATA [--limit 50] [--bits 8] [--rounds 3]

Each model is quantized and written as one C file, which is compiled with -O2 and run as a program:
its time has the start, the reading of inputs and the printing of every count to a file in it. The
simulator runs in one thread, with its weights prepared. Each round times all three in turn; the
table has images a second, the medians of the rounds.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from pascal_nm import data, quantize
from pascal_nm.common.arrays import Array
from pascal_nm.export import c_reference
from pascal_nm.network.graph import Graph, Pixels
from pascal_nm.simulation import simulate
from pascal_nm.simulation.result import RunResult
from pascal_nm.source import checkpoint


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compiled(text: str, folder: Path) -> Path:
    (folder / "reference.c").write_text(text)
    cc = shutil.which("cc") or "cc"
    subprocess.run([cc, "-std=c99", "-O2", "-o", "reference", "reference.c"], cwd=folder, check=True)
    return folder / "reference"


def equal(found: dict[str, Array], *results: RunResult) -> tuple[int, int]:
    """Of counts and potentials, those that are equal in all results, and all."""
    same = total = 0
    for name, numbers in found.items():
        theirs = [r.potential if name == "potential" else r.counts[name.removeprefix("count_")] for r in results]
        same += int(np.logical_and.reduce([numbers == each for each in theirs]).sum())
        total += numbers.size
    return same, total


def measured(graph: Graph, pixels: Pixels, program: Path, rounds: int) -> tuple[list[float], tuple[int, int]]:
    """Seconds of the program and both engines, and what they agree on."""
    inputs, results = program.with_name("inputs.txt"), program.with_name("results.txt")
    inputs.write_text(c_reference.check_text(graph.currents(pixels)))

    def run() -> None:
        with inputs.open() as given, results.open("w") as printed:
            subprocess.run([program], stdin=given, stdout=printed, check=True)

    calls: list[Callable[[], object]] = [
        run,
        lambda: simulate.steps(graph, pixels),
        lambda: simulate.counts(graph, pixels),
    ]
    run()
    others = simulate.steps(graph, pixels), simulate.counts(graph, pixels)  # their weights are prepared now
    agreed = equal(c_reference.parse(results.read_text(), graph), *others)
    times = [[seconds(call) for call in calls] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*times, strict=True)], agreed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--data", required=True)
    parser.add_argument("--limit", type=int, default=50)
    parser.add_argument("--bits", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = data.load(options.data, "test", limit=options.limit)
    print(
        f"{len(images)} images, {options.bits} bits, images a second in one thread, median of {options.rounds} rounds"
    )
    print(f"{'':18}{'lines of C':>11}{'bytes':>12}{'C':>9}{'steps':>9}{'counts':>9}   counts and potentials equal")
    for path in options.models:
        graph = quantize(checkpoint.load(path).graph(), options.bits)
        text = c_reference.source(graph)
        with tempfile.TemporaryDirectory() as folder:
            program = compiled(text, Path(folder))
            times, (same, total) = measured(graph, graph.pixels(images.pixels), program, options.rounds)
        rates = "".join(f"{len(images) / each:9.1f}" for each in times)
        print(f"{path.stem:18}{text.count(chr(10)):11,}{len(text):12,}{rates}   {same:,} of {total:,}", flush=True)


if __name__ == "__main__":
    main()
