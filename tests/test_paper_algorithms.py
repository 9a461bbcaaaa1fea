"""The package's runs against Algorithms 1 and 2 of the paper, written line by line as it prints
them: scalars, loops, and its own units.

Nothing of the package takes part in the oracle: matrices go in as a network's weights, and trains
of spikes, each worth theta / L, come out. Thresholds are powers of two and weights, inputs and
biases whole numbers, so that no floating-point operation rounds, and every spike must be the same.
"""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import pascal_nm as pnm
from pascal_nm.simulation import simulate
from pascal_nm.source.architectures import set_levels


def algorithm_1(x, theta, levels):
    """One neuron of a generic layer: currents x[0..L_in - 1] in, a train of ``levels`` spikes of
    size theta / L out.
    """
    star = theta / levels
    mem, s = star / 2, 0.0  # line 3
    for current in x:  # lines 4 to 8
        mem = mem + current
        if mem >= star:
            s = s + theta / levels
            mem = mem - star
    for _ in range(max(len(x), levels) - 1):  # lines 10 to 16
        if mem >= star:
            s = s + theta / levels
            mem = mem - star
        elif mem < 0:
            s = s - theta / levels
            mem = mem + star
    mem, train = s, []  # lines 17 and 18
    for _ in range(levels):  # lines 19 to 21
        spike = star if mem - star >= 0 else 0.0
        mem = mem - spike
        train.append(spike)
    return train


def algorithm_2(x, theta, levels):
    """One neuron of the input layer: the current of an analog image in.

    Line 3 with the factor L inside the floor that the print lacks.
    """
    star = theta / levels
    mem = theta * min(max(np.floor(x * levels / theta + 0.5) / levels, 0.0), 1.0)
    train = []
    for _ in range(levels):
        spike = star if mem - star >= 0 else 0.0
        mem = mem - spike
        train.append(spike)
    return train


def network(x, weights, biases, thetas, levels):
    """Trains of each layer of a fully connected network for one input, and the outputs; a layer's
    bias comes in equal parts (b' = b / L).
    """
    trains = [[algorithm_2(z, thetas[0], levels[0]) for z in weights[0] @ x + biases[0]]]
    for weight, bias, theta, count in zip(weights[1:-1], biases[1:-1], thetas[1:], levels[1:], strict=True):
        steps = len(trains[-1][0])
        currents = [
            [sum(w * train[t] for w, train in zip(row, trains[-1], strict=True)) + b / steps for t in range(steps)]
            for row, b in zip(weight, bias, strict=True)
        ]
        trains.append([algorithm_1(current, theta, count) for current in currents])
    sums = [sum(train) for train in trains[-1]]
    return trains, weights[-1] @ sums + biases[-1]


@st.composite
def cases(draw):
    """Sizes, levels and thresholds of a network, and a seed.

    Levels are powers of two, by which b / L divides without rounding.
    """
    layers = draw(st.integers(1, 4))
    sizes = [draw(st.integers(1, 6)) for _ in range(layers + 2)]
    levels = [draw(st.sampled_from([1, 2, 4, 8, 16])) for _ in range(layers)]
    thetas = [draw(st.sampled_from([1.0, 2.0, 8.0, 32.0])) for _ in range(layers)]
    return sizes, levels, thetas, draw(st.integers(0, 2**32 - 1))


def made(sizes, thetas, levels, seed):
    """The same network for both: arrays for the oracle, and a torch module for the package."""
    rng = np.random.default_rng(seed)
    weights = [rng.integers(-4, 5, (b, a)).astype(float) for a, b in itertools.pairwise(sizes)]
    biases = [rng.integers(-8, 9, b).astype(float) for b in sizes[1:]]
    layers = []
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        linear = nn.Linear(weight.shape[1], weight.shape[0]).double()
        linear.weight.data, linear.bias.data = torch.from_numpy(weight), torch.from_numpy(bias)
        layers += [linear, *([pnm.QCFS(1, thetas[i])] if i < len(thetas) else [])]
    module = nn.Sequential(*layers).double()
    set_levels(module, levels)
    return weights, biases, module, rng.integers(-6, 7, (5, sizes[0])).astype(float)


def agrees(sizes, levels, thetas, seed):
    weights, biases, module, inputs = made(sizes, thetas, levels, seed)
    result = simulate.steps(pnm.convert(module, torch.from_numpy(inputs)), inputs)
    counts = list(result.counts.values())
    different = 0
    for i, x in enumerate(inputs):
        trains, outputs = network(x, weights, biases, thetas, levels)
        for layer, theta, level, count in zip(trains, thetas, levels, counts, strict=True):
            spikes = np.array(layer) / (theta / level)
            np.testing.assert_array_equal(np.sort(spikes)[:, ::-1], spikes, "a thermometer train")
            different += int((spikes.sum(1) != count[i]).sum())
        np.testing.assert_array_equal(outputs, result.logits[i])
    return different == 0


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases())
def test_every_level_and_output_is_that_of_the_papers_algorithms(case):
    assert agrees(*case)


@pytest.mark.parametrize("levels", [[4, 4, 4, 4], [8, 2, 16, 1], [1, 16, 1, 16]])
@pytest.mark.parametrize("seed", range(5))
def test_uniform_and_mixed_levels_of_a_deeper_network(levels, seed):
    assert agrees([6, 7, 6, 5, 6, 4], levels, [2.0, 32.0, 8.0, 16.0], seed)


def test_the_oracle_is_equation_1_where_spikes_come_unevenly():
    """One hand-made case of Algorithm 1: large currents of both signs in turn, which
    fire and inhibit.
    """
    assert sum(algorithm_1([3.0, -3.0, 2.0, -1.5], 4.0, 4)) == 1.0  # z = 0.5: floor(0.5 / 1 + 1 / 2) = 1
    assert sum(algorithm_1([-3.0, 3.0, -2.0, 1.0], 4.0, 4)) == 0.0  # z = -1
    assert algorithm_2(9.0, 4.0, 4) == [1.0] * 4
