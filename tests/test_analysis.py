"""The paper's formulas, and the counted truth beside them."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pascal_nm import QCFS, convert, data, paper, quantize
from pascal_nm.errors import ConversionError
from pascal_nm.paper import analysis
from pascal_nm.simulation import simulate
from pascal_nm.simulation.events import count
from pascal_nm.source import checkpoint

MODELS = Path(__file__).parents[1] / "models"
MNIST = Path(__file__).parents[2] / "shared" / "data" / "mnist-test.parquet"


def test_resnet18_has_the_multiply_accumulates_of_its_shapes():
    """Row by row: 2.1 Conv2 is 16 * 16 * 128 * 9 * 128, four times what Table A.7 prints."""
    rows = {m.name: m.macs for m in analysis.by_architecture("resnet18", (3, 32, 32), 10)}
    assert rows["blocks.2.body.3"] == 37_748_736
    stages = 4 * 37_748_736 + 3 * (18_874_368 + 3 * 37_748_736) + 3 * 2_097_152
    assert sum(rows.values()) == 1_769_472 + stages + 5_120


def test_table_14_in_operations_of_the_true_layers():
    """By hand: VGG-16, 15 layers with neurons; the first layer's input has the rate 0.75, the
    classifier no neurons.
    """
    synapses = 0.75 * 1_769_472 + 0.66 * (332_111_872 - 1_769_472)
    neurons = 2 * 65_536 + 2 * 32_768 + 3 * 16_384 + 3 * 8_192 + 3 * 2_048 + 2 * 4_096
    pasc = synapses + 18 * neurons
    true = {entry.what: entry.true for entry in paper.entries() if entry.where == "Table 14"}
    assert true == pytest.approx(
        {
            "energy, PASC over plain neurons": pasc / (synapses + 4 * neurons),
            "energy of the neurons alone, PASC over plain": 4.5,
            "PASC neurons' share of the energy, %": 100 * 18 * neurons / pasc,
        }
    )


def test_equation_9_and_10_are_the_same():
    for levels in (1, 4, 16):
        ac, neuron = 1000.0, 3.0
        direct = (ac + (5 * levels - 2) * neuron) / (ac + levels * neuron)
        assert analysis._energy_ratio(levels, neuron / ac) == pytest.approx(direct, rel=1e-15)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), QCFS(4, 1.0), nn.Conv2d(4, 5, 1), QCFS(2, 1.0), nn.Flatten(), nn.Linear(45, 3)
    ).eval()


def measured(module, inputs):
    """The graph of a network, counted events by population, and spike rates."""
    graph = convert(module, torch.from_numpy(inputs))
    counted = {layer.name: layer for layer in count(graph, simulate.steps(graph, inputs))}
    rates = {p.name: float(counted[p.name].emitted.mean()) / p.size for p in graph.spiking}
    operations = {n: float(np.mean(e.synaptic_operations)) + e.multiply_accumulates for n, e in counted.items()}
    return graph, counted, rates, operations


INPUTS = np.random.default_rng(0).normal(size=(6, 1, 5, 5)).astype(np.float32)


def test_closed_formulas_equal_counted_operations_where_nothing_is_padded():
    """Without padding and pooling every spike reaches its full fan-out, and the
    estimate is the count.
    """
    graph, counted, rates, operations = measured(network(), INPUTS)
    found = analysis.analyse(graph, rates, first=1, counted=operations)
    for layer in found.layers:
        assert layer.ratio == pytest.approx(layer.counted, rel=1e-12)
        if layer.rate is not None:
            assert layer.rate * layer.macs == pytest.approx(counted[layer.name].synaptic_operations.mean(), rel=1e-12)
    assert found.first == pytest.approx(9 * 36 / (9 * 36 + 4 * 45 + 45 * 3))
    assert [layer.own is None for layer in found.layers] == [False, False, True]


def test_every_figure_of_a_small_network_by_hand():
    """Layers: 9 inputs, 36 x 4 neurons; 4 inputs, 45 neurons; a classifier of 45
    inputs and 3 outputs.
    """
    graph, _, rates, _ = measured(network(), INPUTS)
    found = analysis.analyse(graph, rates)
    (one, two), third = rates.values(), found.layers[2]
    operations = [0.75 * 9 * 36, one * 4 * 45, two * 45 * 3]
    ratios = [36 / operations[0], 45 / operations[1]]
    assert [layer.ratio for layer in found.layers[:2]] == pytest.approx(ratios)
    assert [layer.worded for layer in found.layers] == [
        pytest.approx(1 / (9 * one)),
        pytest.approx(1 / (4 * two)),
        None,
    ]
    energies = [(1 + 18 * ratios[0]) / (1 + 4 * ratios[0]), (1 + 8 * ratios[1]) / (1 + 2 * ratios[1])]
    assert [layer.energy for layer in found.layers[:2]] == pytest.approx(energies)
    assert third.energy is None and third.ratio == pytest.approx(3 / operations[2])
    assert found.effective_timesteps == pytest.approx((4 * energies[0] + 2 * energies[1]) / 2)
    pasc, plain = (sum(operations) + a * 36 + b * 45 for a, b in ((18, 8), (4, 2)))
    assert found.energy_ratio == pytest.approx(pasc / plain)
    assert found.operations == pytest.approx(sum(operations[1:]) / (4 * 45 + 45 * 3))
    assert found.mean_rate == pytest.approx((one + two) / 2)
    share = 9 * 36 / (9 * 36 + 4 * 45 + 45 * 3)
    by_mean = 4.6 / (share * 4.6 + (1 - share) * (one + two) / 2 * 0.9)
    assert found.source_ratio_by_mean_rate(analysis.FP32) == pytest.approx(by_mean)
    multiplies = 36 * one + 45 * two
    assert found.multiplies == pytest.approx(multiplies)
    assert found.multiply_picojoules(analysis.FP32) == pytest.approx(3.7 * multiplies)
    assert found.multiply_picojoules(analysis.INT8) == pytest.approx(0.2 * multiplies)


def test_the_rate_of_the_analog_input_is_the_papers_unless_it_is_given():
    graph, _, rates, _ = measured(network(), INPUTS)
    assert analysis.analyse(graph, rates) == analysis.analyse(graph, rates, first=0.75)
    dense = analysis.analyse(graph, rates, first=1)
    assert dense.layers[0].ratio == pytest.approx(1 / 9)
    assert dense.effective_timesteps < analysis.analyse(graph, rates).effective_timesteps


def test_a_layer_that_no_spike_reaches_is_all_neurons():
    """The limit of Equation 10, and no layer is left out of the mean."""
    graph, _, rates, _ = measured(network(), INPUTS)
    silent = analysis.analyse(graph, dict.fromkeys(rates, 0.0))
    second = silent.layers[1]
    assert math.isinf(second.ratio)
    assert second.energy == (5 * 2 - 2) / 2 == pytest.approx(analysis._energy_ratio(2, 1e15))
    assert silent.effective_timesteps == pytest.approx((4 * silent.layers[0].energy + 2 * 4) / 2)
    assert silent.multiplies == 0


def test_behind_average_pooling_four_times_as_many_operations_are_counted():
    """Each spike goes through the weights behind the pooling on its own; the formulas see one value
    for each window.
    """
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 1),
        QCFS(4, 1.0),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 5, 1),
        QCFS(2, 1.0),
        nn.Flatten(),
        nn.Linear(20, 3),
    ).eval()
    inputs = np.random.default_rng(0).normal(size=(6, 1, 4, 4)).astype(np.float32)
    graph, _, rates, operations = measured(module, inputs)
    behind = analysis.analyse(graph, rates, counted=operations).layers[1]
    assert behind.ratio / behind.counted == pytest.approx(4, rel=1e-12)


def test_lists_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        analysis.effective_timesteps([4, 4, 4], [0.1, 0.1])


@pytest.mark.skipif(not MNIST.exists(), reason="MNIST is not here")
def test_t_eff_of_a_trained_network_with_its_first_layer():
    """An independent computation over the first 200 test images: 3.77 without the first layer, 3.41
    with it at a rate of 0.75.
    """
    graph = quantize(checkpoint.load(MODELS / "mnist.pt").graph(), 8)
    images = data.load(str(MNIST), limit=200)
    counts = simulate.counts(graph, graph.preprocessing(images.pixels)).counts
    found = analysis.analyse(graph, {name: float(count.mean()) for name, count in counts.items()})
    assert round(found.effective_timesteps, 2) == 3.41
    behind = [layer for layer in found.layers[1:] if layer.own is not None]
    assert round(sum(layer.energy * layer.levels for layer in behind) / len(behind), 2) == 3.77


def test_layers_of_a_module_are_those_of_its_graph():
    module = network()
    graph = convert(module, torch.zeros(1, 1, 5, 5))
    from_graph = [m for matmuls in analysis.of_graph(graph).values() for m in matmuls]
    from_module = analysis.of_module(module, (1, 5, 5))
    assert [(m.fan_in, m.outputs) for m in from_graph] == [(m.fan_in, m.outputs) for m in from_module]


def test_a_shape_that_does_not_pass_is_refused():
    with pytest.raises(ConversionError, match="do not pass"):
        analysis.of_module(network(), (2, 5, 5))
