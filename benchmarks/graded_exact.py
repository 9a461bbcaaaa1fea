"""Levels sent as numbers, image by image: the simulator and Lava's fixed point against the integer
QCFS network.

python benchmarks/graded_exact.py [MODEL ...] --data mnist-test.parquet cifar10-test.parquet
    [--limit N] [--schedule graded] [--batch 500]

Each model (all of models/, where none is named) is quantized to 8 bits and runs on the data set
whose images have its shape. The table says how many spike counts and outputs were compared, how
many of them are others than those of the integer network in closed form, and how long it took.
Exits with 1 if any is.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pascal_nm import data, quantize
from pascal_nm.hw_targets import find
from pascal_nm.network.graph import Graph, Timing
from pascal_nm.simulation import simulate
from pascal_nm.source import checkpoint

MODELS = Path(__file__).parents[1] / "models"
TARGETS = ("torch", "lava")


class Tally:
    """What was compared of one target, and what differed."""

    def __init__(self) -> None:
        self.counts = self.outputs = 0
        self.seconds = 0.0

    def run(self, target: str, graph: Graph, inputs: data.Pixels, expected: simulate.RunResult) -> None:
        """Add a batch."""
        start = time.perf_counter()
        found = find(target).compile(graph).run(inputs)
        self.seconds += time.perf_counter() - start
        self.counts += sum(int(np.count_nonzero(found.counts[n] != count)) for n, count in expected.counts.items())
        self.outputs += int(np.count_nonzero(found.potential != expected.potential))


def fitting(graph: Graph, sets: Sequence[data.Dataset]) -> data.Dataset:
    """The data set whose images the network takes."""
    for images in sets:
        if images.pixels.shape[1:] == graph.input.shape:
            return images
    sys.exit(f"no data set has images of shape {graph.input.shape}: name one by --data")


def compare(name: str, graph: Graph, images: data.Dataset, batch: int) -> bool:
    """Print a network's line; whether nothing differs."""
    compared, tallies = [0, 0], {target: Tally() for target in TARGETS}
    for pixels, _ in images.batches(batch):
        inputs = graph.pixels(pixels)
        expected = simulate.counts(graph, inputs)
        compared[0] += sum(count.size for count in expected.counts.values())
        compared[1] += expected.potential.size
        for target, tally in tallies.items():
            tally.run(target, graph, inputs, expected)
    line = f"{name:18}{len(images):8,}{compared[0]:16,}{compared[1]:10,}"
    line += "".join(f"{t.counts:8,}{t.outputs:9,}{t.seconds:9.1f}" for t in tallies.values())
    print(line, flush=True)
    return not any(tally.counts or tally.outputs for tally in tallies.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="*", default=sorted(MODELS.glob("*.pt")))
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--schedule", default="graded")
    parser.add_argument("--batch", type=int, default=500, help="images that run in one go")
    options = parser.parse_args()
    sets = [data.load(each, "test", limit=options.limit) for each in options.data]
    print(f"{'':52}{'simulator differs in':^26}{'Lava differs in':^26}")
    print(
        f"{options.schedule:18}{'images':>8}{'counts':>16}{'outputs':>10}" + f"{'counts':>8}{'outputs':>9}{'s':>9}" * 2
    )
    exact = True
    for path in options.models:
        graph = quantize(checkpoint.load(path).graph(), 8).replace(timing=Timing(options.schedule))
        exact &= compare(path.stem, graph, fitting(graph, sets), options.batch)
    sys.exit(not exact)


if __name__ == "__main__":
    main()
