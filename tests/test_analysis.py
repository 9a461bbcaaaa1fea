"""The paper's formulas: its printed figures, and the counted truth beside them."""

import numpy as np
import pytest
import torch
from torch import nn

from pascal_nm import QCFS, analysis, convert, paper, simulate
from pascal_nm.activity import events
from pascal_nm.errors import ConversionError

ENTRIES = {(e.where, e.what): e for e in paper.entries()}
MISPRINTED = {("Table 4", "T_eff, VGG-16, ImageNet, chi = 3")}


@pytest.mark.parametrize("key", sorted(set(ENTRIES) - MISPRINTED), ids=" ".join)
def test_the_printed_figure_follows_from_the_papers_inputs(key):
    entry = ENTRIES[key]
    digits = len(str(entry.printed).partition(".")[2])
    # One unit in the last digit: the paper truncates some figures (8.79 for 8.796) and rounds others.
    assert abs(entry.same - entry.printed) < 10.0**-digits if digits else entry.same == entry.printed


@pytest.mark.parametrize("key", sorted(MISPRINTED))
def test_a_figure_that_does_not_follow_says_so(key):
    assert abs(ENTRIES[key].same - ENTRIES[key].printed) > 0.01
    assert ENTRIES[key].note


@pytest.mark.parametrize(
    ("network", "levels", "expected"),
    [
        ("VGG-16, CIFAR", 4, 4.191),
        ("VGG-16, CIFAR", 8, 8.729),
        ("ResNet-18", 8, 8.761),
        ("ResNet-34", 8, 8.314),
        ("ResNet-34", 16, 17.268),
    ],
)
def test_true_shapes_give_other_normalized_timesteps(network, levels, expected):
    """By hand, from Equations 10, 11 and 13 and the networks' fan-ins."""
    assert ENTRIES["Tables 5, 6", f"T_norm, {network}, L = {levels}"].true == pytest.approx(expected, abs=5e-4)


def test_resnet18_has_the_multiply_accumulates_of_its_shapes():
    """Row by row: 2.1 Conv2 is 16 * 16 * 128 * 9 * 128, four times what Table A.7 prints."""
    rows = {m.name: m.macs for m in analysis.by_architecture("resnet18", (3, 32, 32), 10)}
    assert rows["blocks.2.body.3"] == 37_748_736
    stages = 4 * 37_748_736 + 3 * (18_874_368 + 3 * 37_748_736) + 3 * 2_097_152
    assert sum(rows.values()) == 1_769_472 + stages + 5_120


def test_table_14_in_operations_of_the_true_layers():
    """By hand: VGG-16 without its first layer, which has analog input, and its classifier, which has no spiking neurons."""
    synapses = 0.66 * (332_111_872 - 1_769_472 - 40_960)
    neurons = 65_536 + 65_536 + 3 * 16_384 + 3 * 8_192 + 3 * 2_048 + 2 * 4_096
    pasc = synapses + 18 * neurons
    true = {what: entry.true for (where, what), entry in ENTRIES.items() if where == "Table 14"}
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
        assert analysis.energy_ratio(levels, neuron / ac) == pytest.approx(direct, rel=1e-15)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), QCFS(4, 1.0), nn.Conv2d(4, 5, 1), QCFS(2, 1.0), nn.Flatten(), nn.Linear(45, 3)
    ).eval()


def test_closed_formulas_equal_counted_operations_where_nothing_is_padded():
    """Without padding and pooling every spike reaches its full fan-out, and the estimate is the count."""
    inputs = np.random.default_rng(0).normal(size=(6, 1, 5, 5)).astype(np.float32)
    graph = convert(network(), torch.from_numpy(inputs))
    counted = {layer.name: layer for layer in events(graph, simulate.steps(graph, inputs))}
    rates = {p.name: counted[p.name].emitted.mean() / p.size for p in graph.populations if p.kind == "pasc"}
    found = analysis.analyse(graph, rates)
    for layer in found.layers:
        if layer.rate is not None:
            assert layer.rate * layer.macs == pytest.approx(counted[layer.name].synaptic_operations.mean(), rel=1e-12)
    assert found.first == pytest.approx(9 * 36 / (9 * 36 + 4 * 45 + 45 * 3))
    hidden = found.layers[1]
    assert found.energy_ratio == pytest.approx(analysis.energy_ratio(2, hidden.ratio), rel=1e-12)


def test_layers_of_a_module_are_those_of_its_graph():
    module = network()
    graph = convert(module, torch.zeros(1, 1, 5, 5))
    from_graph = [m for matmuls in analysis.of_graph(graph).values() for m in matmuls]
    from_module = analysis.of_module(module, (1, 5, 5))
    assert [(m.fan_in, m.outputs) for m in from_graph] == [(m.fan_in, m.outputs) for m in from_module]


def test_a_shape_that_does_not_pass_is_refused():
    with pytest.raises(ConversionError, match="do not pass"):
        analysis.of_module(network(), (2, 5, 5))
