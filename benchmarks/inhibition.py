"""What the inhibitory spikes of Algorithm 1 are for: the exact network with and without them (lines 14 to 16 of its correction stage).

``python benchmarks/inhibition.py models/mnist.uniform.pt models/cifar10.uniform.pt --data mnist-test.parquet cifar10-test.parquet`` runs each network
twice on the same images, in float64: as it is, and with a correction stage that fires but never inhibits. It prints accuracies and, for each layer,
how many levels are not those of the source network with inhibitory spikes, and which share is not without them. Exits with 1 if a level is wrong with
inhibitory spikes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from pascal_nm import checkpoint, data, neuron, simulate
from pascal_nm.graph import Array, Graph
from pascal_nm.neuron import Stage, State, Step
from pascal_nm.result import RunResult

BATCH = 50


def excited_only(state: State, current: Array | None, theta: Array, levels: int) -> Step:
    """Lines 11 to 13 of Algorithm 1 alone: +1 where mem >= theta, with soft reset."""
    spikes = neuron.at_least(state.v, theta, state.s)
    return Step(spikes, State(state.v - spikes * theta, state.s + spikes))


@contextmanager
def without_inhibition() -> Iterator[None]:
    """Inside of it, no neuron of the simulator sends an inhibitory spike."""
    with mock.patch.dict(neuron._STAGES, {Stage.CORRECT: excited_only}):
        yield


def runs(graph: Graph, images: data.Dataset) -> Iterator[tuple[Array, RunResult, RunResult, RunResult]]:
    """Labels, the QCFS network in closed form, and the spiking network with and without inhibitory spikes, a batch at a time."""
    assert graph.preprocessing is not None, "the networks of `train` say how pixels become inputs"
    for pixels, labels in images.batches(BATCH):
        inputs = graph.preprocessing(pixels)
        expected, whole = simulate.counts(graph, inputs), simulate.steps(graph, inputs)
        with without_inhibition():
            yield labels, expected, whole, simulate.steps(graph, inputs)


def table(path: Path, dataset: str, limit: int) -> int:
    """Print the comparison of one network; gives the levels that are wrong with inhibitory spikes."""
    graph = checkpoint.load(path).in_double().graph()
    images = data.load(dataset, "test").head(limit)
    names = [p.name for p in graph.spiking]
    right = {name: 0 for name in ("source", "with", "without")}
    wrong = {name: np.zeros(2, np.int64) for name in names}
    sizes = {p.name: p.size for p in graph.spiking}
    for labels, expected, whole, cut in runs(graph, images):
        for name, result in zip(right, (expected, whole, cut), strict=True):
            right[name] += int((result.predictions == labels).sum())
        for name in names:
            wrong[name] += [np.count_nonzero(r.counts[name] != expected.counts[name]) for r in (whole, cut)]
    shares = ", ".join(f"{name} {100 * n / len(images):.1f} %" for name, n in right.items())
    print(f"{path.stem}, {len(images):,} images: {shares}")
    print(f"  {'levels that differ from the source network':44}{'with':>10}{'without':>12}")
    for name in names:
        total = sizes[name] * len(images)
        print(f"  {name:44}{wrong[name][0]:10,}{100 * wrong[name][1] / total:10.2f} %", flush=True)
    return int(sum(count[0] for count in wrong.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", type=Path, nargs="+", help="files of `train`")
    parser.add_argument("--data", nargs="+", default=["digits"], help="test images: of each network, or one for all")
    parser.add_argument("--limit", type=int, default=200, help="images of each")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    datasets = options.data * len(options.networks) if len(options.data) == 1 else options.data
    if len(datasets) != len(options.networks):
        parser.error("--data takes one dataset, or one for each network")
    wrong = [table(path, name, options.limit) for path, name in zip(options.networks, datasets, strict=True)]
    sys.exit(any(wrong))


if __name__ == "__main__":
    main()
