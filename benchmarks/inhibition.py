"""What the inhibitory spikes of Algorithm 1 are for.

The exact network with and without them (lines 14 to 16 of its correction stage).

``python benchmarks/inhibition.py models/mnist.uniform.pt models/cifar10.uniform.pt
--data mnist-test.parquet cifar10-test.parquet`` runs each network twice on the same images, in
float64: as it is, and with a correction stage that fires but never inhibits. It prints accuracies
and, for each layer, how many levels are not those of the source network with inhibitory spikes, and
which share is not without them. Exits with 1 if a level is wrong with inhibitory spikes.

Where two layers join, their spikes come at different times in this package's schedule, and a
layer sums up what is early before it may fire. *Aligned* is the accuracy without inhibition
where all spikes of a layer's input come in the same timesteps, as in the authors' code, which
computes layer by layer.
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

from pascal_nm import data, neuron
from pascal_nm.common.arrays import Array
from pascal_nm.network.graph import Graph
from pascal_nm.neuron import Stage, State, Step
from pascal_nm.simulation import simulate
from pascal_nm.simulation.result import RunResult
from pascal_nm.source import checkpoint

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


def runs(graph: Graph, images: data.Dataset) -> Iterator[tuple[Array, RunResult, RunResult, RunResult, Array]]:
    """Labels, the QCFS network in closed form, the spiking network with and without inhibitory
    spikes, and :func:`aligned`, a batch at a time.
    """
    for pixels, labels in images.batches(BATCH):
        inputs = graph.pixels(pixels)
        expected, whole = simulate.counts(graph, inputs), simulate.steps(graph, inputs)
        with without_inhibition():
            cut = simulate.steps(graph, inputs)
        yield labels, expected, whole, cut, aligned(graph, inputs)


def aligned(graph: Graph, inputs: Array) -> Array:
    """Classes (N,) without inhibitory spikes, all inputs of a layer in the same timesteps.

    A shorter train ends earlier.
    """
    given = torch.from_numpy(graph.currents(inputs))
    trains: dict[str, list[torch.Tensor]] = {graph.input.name: [given]}
    for p in graph.populations[1:]:
        incoming = graph.incoming(p.name)
        theta, bias = torch.from_numpy(p.threshold), torch.from_numpy(p.bias)
        steps = max(len(trains[q.source]) for q in incoming)
        state = State(torch.zeros(1) + neuron.initial_potential(theta), torch.zeros((), dtype=given.dtype))
        total = torch.zeros(())
        for t in range(steps):
            arriving = [
                simulate.delivery(q, graph.dtype)(trains[q.source][t]) for q in incoming if t < len(trains[q.source])
            ]
            current = sum(arriving) + neuron.bias_share(bias, t, steps)
            if p.kind == "readout":
                total = total + current
            elif steps == 1:  # of the analog input: Algorithm 2
                state = neuron.encode(state, current, theta, p.levels)
            else:
                state = neuron.integrate(state, current, theta).state
        if p.kind == "readout":
            return np.asarray((total.flatten(1) / torch.from_numpy(graph.output.threshold)).argmax(1))
        for _ in range(max(steps, p.levels) - 1 if steps > 1 else 0):
            state = excited_only(state, None, theta, p.levels).state
        trains[p.name] = [neuron.at_least(state.s, t + 1, state.v) for t in range(p.levels)]
    raise AssertionError("Graph refuses a network without a readout")


def table(path: Path, dataset: str, limit: int) -> int:
    """Print the comparison of one network.

    Gives the levels that are wrong with inhibitory spikes.
    """
    graph = checkpoint.load(path).in_double().graph()
    images = data.load(dataset, "test").head(limit)
    names = [p.name for p in graph.spiking]
    right = {name: 0 for name in ("source", "with", "without", "aligned")}
    wrong = {name: np.zeros(2, np.int64) for name in names}
    sizes = {p.name: p.size for p in graph.spiking}
    for labels, expected, whole, cut, apart in runs(graph, images):
        answers = (expected.predictions, whole.predictions, cut.predictions, apart)
        for name, given in zip(right, answers, strict=True):
            right[name] += int((given == labels).sum())
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
