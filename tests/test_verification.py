"""Verification finds what is wrong, blames the right layer, and excuses rounding only."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import pascal_nm as pnm
from pascal_nm import simulate
from pascal_nm.verification import Verification
from tests import networks


def setup(name, seed=0, dtype=torch.float64):
    module, inputs = networks.randomized(networks.ALL[name](), seed).to(dtype), networks.images(32).to(dtype)
    source = pnm.SourceNetwork(module, inputs)
    return source, pnm.convert(source), inputs.numpy()


def checked(source, reference, graph, inputs, engine=simulate.steps):
    verification = Verification(differences=reference.differences(graph))
    verification.add_float(source, reference, engine(graph, inputs), inputs)
    return verification


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", networks.ALL)
def test_a_converted_network_is_exact(name, dtype):
    source, graph, inputs = setup(name, 1, dtype)
    verification = checked(source, graph, graph, inputs)
    assert verification.exact
    assert verification.culprit is None
    assert sum(layer.neurons for layer in verification.layers.values()) > 0


def altered(graph, name, **changes):
    return graph.replace(populations=tuple(replace(p, **changes) if p.name == name else p for p in graph.populations))


@pytest.mark.parametrize("name", networks.ALL)
def test_an_altered_threshold_is_found_and_its_layer_named(name):
    source, graph, inputs = setup(name, seed=2)
    for p in graph.spiking:
        other = altered(graph, p.name, threshold=p.threshold * 2)
        verification = checked(source, graph, other, inputs)
        assert not verification.exact
        assert any(p.name in line for line in verification.differences)
        assert verification.culprit is not None
        assert p.name.startswith(verification.culprit), "the layer behind the altered one is not blamed"


def test_a_flip_at_a_rounding_boundary_is_counted_and_excused():
    source, graph, inputs = setup("perceptron", dtype=torch.float32)
    result = simulate.steps(graph, inputs)
    name = next(graph.spiking).name
    p = graph[name]
    weight = graph.incoming(name)[0].operator.weight
    # Move one image until it lies on a boundary of neuron 0, to the last bit of float32.
    currents = inputs[:1].reshape(1, -1).astype(np.float64)
    row = weight[0].astype(np.float64)
    z = float(currents[0] @ row + np.broadcast_to(p.bias, p.shape)[0])
    theta = float(np.broadcast_to(p.threshold, p.shape)[0])
    moved = currents + (theta / 2 - z) * row / (row @ row)
    x = moved.astype(np.float32).reshape(1, *inputs.shape[1:])
    result = simulate.steps(graph, x)
    flipped = {k: v.copy() for k, v in result.counts.items()}
    flipped[name][0, 0] = 1 - flipped[name][0, 0]
    verification = Verification()
    verification.add_float(source, graph, replace(result, counts=flipped), x)
    assert verification.layers[name].flips == 1
    assert verification.layers[name].unexplained == 0


def test_a_flip_away_from_any_boundary_is_not_excused():
    source, graph, inputs = setup("perceptron", dtype=torch.float32)
    result = simulate.steps(graph, inputs)
    name = next(graph.spiking).name
    flipped = {k: v.copy() for k, v in result.counts.items()}
    flipped[name][:, 0] = 1 - flipped[name][:, 0]
    verification = Verification()
    verification.add_float(source, graph, replace(result, counts=flipped), inputs)
    assert verification.culprit == name


def test_an_integer_run_that_differs_by_one_count_is_not_exact():
    _, graph, inputs = setup("convolutional")
    integer = pnm.quantize(graph, input_range=float(np.abs(inputs).max()))
    expected = simulate.counts(integer, inputs)
    result = simulate.steps(integer, inputs)
    verification = Verification()
    verification.add_integer(expected, result, expected.logits, "8-bit weights")
    assert verification.exact
    name = next(integer.spiking).name
    counts = {k: v.copy() for k, v in result.counts.items()}
    counts[name].reshape(-1)[0] += 1
    verification.add_integer(expected, replace(result, counts=counts), expected.logits, "8-bit weights")
    assert not verification.exact
    assert verification.culprit == name
