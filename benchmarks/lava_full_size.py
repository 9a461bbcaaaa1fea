"""VGG-16 and ResNet-18 for CIFAR shapes, full width, spike by spike in Lava's fixed point.

The same counts as the simulator, time, and memory.

Random weights from a seed, normalized on the random inputs as in a trained network, quantized to 8
bits. Every count of every layer must be the simulator's. All sides run the same images in turn, so
that a busy machine slows them alike; the table shows medians over the rounds, and ratios are
medians of the rounds' ratios. ``one by one`` sends single images through the same Lava network,
each after the one before it has left. ``streamed`` and ``one by one``, and the gain of the first
over the second, leave out the start and the end of the network's processes; ``Lava`` counts
everything. ``in steps`` is the gain in timesteps, which hardware would see whose layers work beside
each other; here they share the processor's cores. ``peak`` is the memory of all processes together,
``estimate`` what the target expects beforehand.

``python benchmarks/lava_full_size.py --help`` lists networks, images and rounds.
"""

from __future__ import annotations

import argparse
import statistics
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from engines import randomized, seconds

from pascal_nm import build, convert, quantize
from pascal_nm.common.arrays import Array
from pascal_nm.hw_targets.lava import LavaTarget, estimate
from pascal_nm.network.graph import Graph
from pascal_nm.process_models.runtime import Session
from pascal_nm.simulation import schedule, simulate
from pascal_nm.simulation.result import RunResult
from pascal_nm.source.architectures import qcfs_layers
from pascal_nm.source.tracing import SourceNetwork

MIXED = (4, 4, 4, 1, 4, 4, 4, 1, 4, 1, 1, 1, 1, 1, 1, 4)
"""The levels that the paper's Table 4 gives for ResNet-18 on CIFAR-10; the last is repeated where a
network has more layers."""

NETWORKS = {"vgg16": ("vgg16", None), "resnet18": ("resnet18", None), "resnet18-mixed": ("resnet18", MIXED)}

SAMPLING = 0.25
"""Seconds between two looks at the memory."""


class Peak:
    """Memory of this process before, and the most that it and its children have together, in bytes.

    What they share counts once.
    """

    def __init__(self) -> None:
        self.before = self.most = 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look again and again until the block ends."""
        self.before = proportional("self")
        ended = threading.Event()
        thread = threading.Thread(target=self._watch, args=(ended,))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _watch(self, ended: threading.Event) -> None:
        while not ended.wait(SAMPLING):
            children = [pid for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()]
            self.most = max(self.most, sum(proportional(pid) for pid in ("self", *children)))


def proportional(pid: str) -> int:
    """A process's memory in bytes, of shared memory its share (proportional set size).

    0 where it has ended.
    """
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return 1024 * int(line.split()[1])
    return 0


def made(name: str, inputs: torch.Tensor, width: float) -> tuple[torch.nn.Module, Graph]:
    """A network and its integer graph."""
    arch, levels = NETWORKS[name]
    module = build(arch, tuple(inputs.shape[1:]), 10, 4, width=width)
    if levels is not None:
        layers = [layer for _, layer in qcfs_layers(module)]
        for layer, level in zip(layers, levels + levels[-1:] * len(layers), strict=False):
            layer.levels = level
    randomized(module, inputs[:32])
    graph = convert(SourceNetwork(module, inputs[:1]))
    return module, quantize(graph, input_range=float(inputs.abs().max()))


def assert_same(lava: RunResult, expected: RunResult) -> None:
    """Every count, potential and activity."""
    assert lava.counts.keys() == expected.counts.keys()
    for layer, counts in expected.counts.items():
        np.testing.assert_array_equal(lava.counts[layer], counts, err_msg=layer)
        for ours, theirs in zip(lava.activity[layer], expected.activity[layer], strict=True):
            np.testing.assert_array_equal(ours, theirs, err_msg=layer)
    np.testing.assert_array_equal(lava.potential, expected.potential)


class Clock:
    """Adds up the time for which sessions run timesteps."""

    def __init__(self) -> None:
        self.seconds, self._run = 0.0, Session.run
        Session.run = lambda session, steps: self._timed(session, steps)

    def _timed(self, session: Session, steps: int) -> None:
        self.seconds += seconds(lambda: self._run(session, steps))

    def of(self, call: Callable[[], object]) -> float:
        """Seconds of timesteps in a call."""
        before = self.seconds
        call()
        return self.seconds - before


def timesteps(graph: Graph, images: int) -> float:
    """How many times fewer timesteps images take that follow each other at the schedule's interval,
    than images that wait for each other.
    """
    plan = schedule.of(graph)
    return images * plan.steps / (plan.initiation_interval * (images - 1) + plan.steps)


def measure(name: str, inputs: torch.Tensor, clock: Clock, options: argparse.Namespace) -> list[str]:
    module, graph = made(name, inputs, options.width)
    images: Array = inputs.numpy()
    streaming = LavaTarget(options.batch_size).compile(graph)
    single = LavaTarget(1, pipelined=False).compile(graph)
    peak = Peak()
    results: dict[str, RunResult] = {}

    def forward() -> None:
        with torch.no_grad():
            module(inputs)

    def steps() -> None:
        results["steps"] = simulate.steps(graph, images)

    def lava() -> None:
        with peak.watched():
            results["lava"] = streaming.run(images)

    def one_by_one() -> None:
        results["single"] = single.run(images[: options.single])

    steps()
    forward()
    rounds = []
    for _ in range(options.rounds):
        before = clock.seconds
        took = [seconds(call) for call in (forward, steps, lava)]
        took.append(clock.seconds - before)
        rounds.append((*(t / len(images) for t in took), clock.of(one_by_one) / options.single))
        assert_same(results["lava"], results["steps"])
        np.testing.assert_array_equal(results["single"].potential, results["steps"].potential[: options.single])
    medians = [f"{1e3 * statistics.median(column):.1f}" for column in zip(*rounds, strict=True)]
    ratios = (statistics.median(r[2] / r[side] for r in rounds) for side in (1, 0))
    throughput = statistics.median(alone / streamed for *_, streamed, alone in rounds)
    cells = [name, str(streaming.batch_size), *medians]
    cells += [f"{ratio:.2f}" for ratio in ratios]
    memory = (peak.before, peak.most, peak.before + estimate(graph, len(images), streaming.batch_size))
    return [
        *cells,
        f"{throughput:.1f}",
        f"{timesteps(graph, len(images)):.1f}",
        *(f"{size / 1e9:.2f}" for size in memory),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--single", type=int, default=4, help="images that go one by one")
    parser.add_argument("--batch-size", type=int, help="images that travel together (default: the target's choice)")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--width", type=float, default=1.0, help="factor on the channels")
    options = parser.parse_args()

    clock = Clock()
    torch.manual_seed(0)
    inputs = torch.randn(options.images, 3, 32, 32)
    print(f"{options.images} images of 3x32x32; every count is the simulator's; times in ms an image, memory in GB")
    heads = (
        "network",
        "batch",
        "forward",
        "steps",
        "Lava",
        "streamed",
        "one by one",
        "/ steps",
        "/ forward",
        "gain",
        "in steps",
        "before",
        "peak",
        "estimate",
    )
    print("".join(f"{head:>15}" if i == 0 else f"{head:>11}" for i, head in enumerate(heads)))
    for name in options.networks:
        cells = measure(name, inputs, clock, options)
        print("".join(f"{cell:>15}" if i == 0 else f"{cell:>11}" for i, cell in enumerate(cells)), flush=True)


if __name__ == "__main__":
    main()
