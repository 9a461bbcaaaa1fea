"""The check vectors of docs/nir-spec.md: a network with what is easy to get wrong, and its counts.

python -m tests.export.vectors     writes them anew into examples/nir
"""

from pathlib import Path

import numpy as np

from pascal_nm.export import write_nir
from pascal_nm.network.graph import Graph, Population, Projection
from pascal_nm.network.operators import Conv2d, Dense, Identity, SumPool2d
from pascal_nm.simulation import schedule, simulate

FOLDER = Path(__file__).parents[2] / "examples" / "nir"


def network(integer):
    rng = np.random.default_rng(11)
    kind, potential = (np.int8, np.int32) if integer else (np.float64, np.float64)

    def weight(*shape):
        return rng.integers(-9, 10, shape).astype(kind) if integer else rng.normal(0, 0.3, shape)

    def values(channels, axes, low, high, fine=100.0):
        whole = rng.integers(low, high, (channels, *(1,) * axes)).astype(potential)
        return whole if integer else whole / fine

    half = SumPool2d((2, 2), (2, 2), ceil=True)
    zero = np.zeros((1, 1, 1), potential)
    populations = (
        Population("input", "analog", (2, 9, 9), 20, *scaled(integer)),
        Population("a", "pasc", (4, 9, 9), 1, values(4, 2, 41, 97), values(4, 2, -30, 31)),
        Population("b", "pasc", (4, 9, 9), 4, values(4, 2, 5, 14, 20.0), values(4, 2, -20, 21)),
        Population("m", "max", (4, 5, 5), 4, np.array([1, -1, 1, 1], np.int8).reshape(4, 1, 1), zero),
        Population("c", "pasc", (6, 5, 5), 3, values(6, 2, 11, 33, 20.0), values(6, 2, -40, 41)),
        Population("d", "pasc", (6, 5, 5), 2, values(6, 2, 21, 44, 20.0), values(6, 2, -9, 30)),
        Population("l", "linear", (3, 5, 5), 0, values(1, 2, 3, 4), zero),
        Population("e", "pasc", (4, 3, 3), 5, values(4, 2, 9, 24, 20.0), values(4, 2, -9, 30)),
        Population("p", "peak", (3, 2, 2), 0, values(1, 2, 3, 4), zero),
        Population("answer", "readout", (5,), 1, values(5, 0, 7, 30), values(5, 0, -20, 21)),
        Population("side", "readout", (3,), 1, values(3, 0, 7, 30), values(3, 0, -20, 21)),
    )
    projections = (
        Projection("input", "a", Conv2d(weight(4, 2, 3, 3), padding=(1, 1))),
        Projection("a", "b", Conv2d(weight(4, 2, 3, 3), padding=(2, 2), dilation=(2, 2), groups=2)),
        Projection("b", "m", Identity(np.ones((1, 1, 1), kind)), half),
        Projection("m", "c", Conv2d(weight(6, 4, 3, 3), padding=(1, 1))),
        Projection("a", "c", Conv2d(weight(6, 4, 1, 1)), half),
        Projection("b", "c", Conv2d(weight(6, 2, 2, 2), stride=(2, 2), padding=(1, 1), groups=2)),
        Projection("b", "d", Conv2d(weight(6, 4, 2, 2), stride=(2, 2), padding=(1, 1))),
        Projection("c", "d", Conv2d(weight(6, 6, 3, 3), padding=(1, 1))),
        Projection("c", "d", Identity(values(6, 2, -9, 10).astype(kind)), number=1),
        Projection("d", "l", Conv2d(weight(3, 6, 1, 1))),
        Projection("c", "l", Conv2d(weight(3, 6, 1, 1))),
        Projection("l", "e", Conv2d(weight(4, 3, 3, 3), stride=(2, 2), padding=(1, 1))),
        Projection("l", "p", Identity(np.ones((1, 1, 1), kind)), SumPool2d((3, 3), (2, 2), (0, 0))),
        Projection("d", "answer", Dense(weight(5, 150))),
        Projection("p", "side", Dense(weight(3, 12))),
        Projection("e", "side", Dense(weight(3, 36))),
    )
    return Graph(populations, projections)


def scaled(integer):
    """Threshold and bias of the input: by channel."""
    threshold = np.array([0.1, 0.25]).reshape(2, 1, 1)
    return threshold, np.array([0.5, -1.25]).reshape(2, 1, 1)


def vectors(graph):
    inputs = np.random.default_rng(12).normal(0, 1, (8, *graph.input.shape)).clip(-1.8, 1.8)
    found = simulate.steps(graph, inputs)
    plan = schedule.of(graph, delay=1)
    arrays = {f"counts_{name}": count for name, count in found.counts.items()}
    arrays |= {f"first_{name}": window.start for name, window in plan.windows.items()}
    arrays |= {f"steps_{name}": window.stop - window.start for name, window in plan.windows.items()}
    return {"inputs": inputs, "outputs": found.logits, **arrays}


def main():
    for name in ("float", "integer"):
        graph = network(name == "integer")
        write_nir(graph, FOLDER / f"{name}.nir")
        np.savez_compressed(FOLDER / f"{name}.npz", **vectors(graph))


if __name__ == "__main__":
    main()
