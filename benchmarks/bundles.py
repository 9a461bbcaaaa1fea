"""Bundles, executed from registers and routes alone, against the network in closed form.

python benchmarks/bundles.py MODEL [MODEL ...] --data DATA [--chip loihi1] [--limit 100]
    [--threads N]

Each model is lowered to a chip program, written as a bundle, read back, and run on the images. The
table says how many spike counts and potentials are others than those of the integer network in
closed form, and how long the execution takes, in all and against the simulator's timesteps.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from pascal_nm import data
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import fixed_point, program_files
from pascal_nm.hw_targets.program import lower
from pascal_nm.network.graph import Graph, Pixels
from pascal_nm.simulation import simulate
from pascal_nm.simulation.result import RunResult
from pascal_nm.source import checkpoint


def bundle(graph: Graph, chip: chips.Chip, folder: Path) -> program_files.Execution:
    """The execution of a network's bundle, from its files."""
    program = lower(graph, chip)
    levels = graph.input.levels
    integers = np.random.default_rng(0).integers(-levels, levels + 1, (2, *graph.input.shape))
    check = program_files.checks(integers, simulate.counts(graph, graph.input.inputs(integers)))
    about = {"network": folder.name, "chip": chip.name, "cores": len(program.cores), "chips": 1, "delay": 1}
    program_files.write(folder, program, check, about)
    return program_files.executed(folder)


def differing(found: RunResult, expected: RunResult) -> tuple[int, int]:
    """Numbers that are compared, and those that differ."""
    pairs = [(found.counts[name], count) for name, count in expected.counts.items()]
    pairs.append((found.potential, expected.potential))
    return sum(there.size for _, there in pairs), sum(int(np.count_nonzero(here != there)) for here, there in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--data", required=True)
    parser.add_argument("--chip", default="loihi1")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    images, chip = data.load(options.data, "test", limit=options.limit), chips.load(options.chip)
    print(f"{len(images)} images, {chip.name}, {options.threads} thread(s)")
    print(f"{'':18}{'cores':>6}{'routes':>9}{'compared':>14}{'differing':>11}{'seconds':>9}{'simulator = 1':>15}")
    for path in options.models:
        graph = fixed_point.fit(checkpoint.load(path).graph(), chip)
        pixels: Pixels = graph.pixels(images.pixels)
        with tempfile.TemporaryDirectory() as folder:
            execution = bundle(graph, chip, Path(folder) / path.stem)
        simulate.steps(graph, pixels[:2])  # both have prepared their weights
        start = time.perf_counter()
        found = execution.run(pixels)
        middle = time.perf_counter()
        simulate.steps(graph, pixels)
        executed, simulated = middle - start, time.perf_counter() - middle
        compared, others = differing(found, simulate.counts(graph, pixels))
        routes = sum(len(pairs) for pairs in execution.program.routes.values())
        print(
            f"{path.stem:18}{len(execution.program.cores):6}{routes:9,}{compared:14,}{others:11,}"
            f"{executed:9.1f}{executed / simulated:15.2f}"
        )


if __name__ == "__main__":
    main()
