"""Chips: bit widths refused before a run, energies that add up, descriptions with sources."""

import copy
import dataclasses
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pascal_nm import QCFS, convert, simulate
from pascal_nm.activity import events, plain
from pascal_nm.errors import FileError, TargetError
from pascal_nm.graph import Dense, Graph, Identity, Population, Projection, SumPool2d
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import find, fixed_point
from tests.strategies import inputs_for, integer_graphs

CHIP = """
name = "Test"
source = "nowhere"
estimate = true
[widths]
weight = 8
membrane = 16
threshold = 12
bias = 10
[energy]
synaptic_operation = { value = 2, source = "a" }
multiply_accumulate = { value = 3, source = "b" }
update = { value = 5, source = "c" }
"""

MEMORY = """
[memory]
access = { value = 10, source = "d" }
width = 64
weight = 8
activation = 4
potential = 16
"""


@pytest.fixture
def chip(tmp_path):
    def load(change=lambda text: text, memory=False):
        path = tmp_path / "test.toml"
        path.write_text(change(CHIP))
        return chips.load(str(path), memory=memory)

    return load


def close(expected):
    """Relative only: a picojoule is below approx's own absolute tolerance."""
    return pytest.approx(expected, rel=1e-9, abs=0)


def one_neuron(weight=1, theta=1, bias=0, levels=1):
    """One input, one neuron, one output."""
    array = lambda value: np.array([value], np.int32)  # noqa: E731
    return Graph(
        (
            Population("input", "analog", (1,), levels),
            Population("neuron", "pasc", (1,), 4, array(theta), array(bias)),
            Population("output", "readout", (1,), 1, np.ones(()), array(0)),
        ),
        (
            Projection("input", "neuron", Dense(np.array([[weight]], np.int32))),
            Projection("neuron", "output", Dense(np.array([[1]], np.int8))),
        ),
    )


@pytest.mark.parametrize(
    ("fits", "beyond", "quantity"),
    [
        ({"weight": 127}, {"weight": 129}, "weight"),
        ({"weight": 127 * 8}, {"weight": 129 * 4}, "weight"),
        ({"theta": 4095}, {"theta": 4096}, "threshold"),
        ({"bias": -511}, {"bias": -512}, "bias"),
        ({"levels": 32765}, {"levels": 32766}, "membrane"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(chip, fits, beyond, quantity):
    fixed_point.check(one_neuron(**fits), chip())
    with pytest.raises(TargetError, match=f"neuron.*the {quantity} can reach .* bits"):
        fixed_point.check(one_neuron(**beyond), chip())


def test_the_chip_target_refuses_before_it_runs():
    with pytest.raises(TargetError, match=r"weight.*beyond the 8 bits"):
        find("loihi").compile(one_neuron(weight=1001))
    assert find("torch").compile(one_neuron(weight=1001)).run(np.ones((1, 1))).predictions == [0]


@settings(max_examples=30, deadline=None)
@given(graph=integer_graphs(), seed=st.integers(0, 2**32 - 1))
def test_energy_is_events_times_figures(graph, seed):
    table = chips.load("loihi1")
    layers = events(graph, simulate.steps(graph, inputs_for(graph, seed)))
    for layer, priced in zip(layers, chips.energy(layers, table), strict=True):
        expected = 1e-12 * np.mean(
            23.6 * layer.synaptic_operations
            + 23.6 * layer.multiply_accumulates
            + 81.0 * layer.updates
            + 52.0 * layer.idle
        )
        assert priced.total == close(expected)


def one_spike():
    """The run of :func:`one_neuron` in which the neuron spikes once: its graph and its events."""
    graph = one_neuron()
    hidden, output = events(graph, simulate.steps(graph, np.ones((1, 1))))
    assert (hidden.multiply_accumulates, hidden.emitted, output.synaptic_operations) == (1, 1, 1)
    return graph, hidden, output


def test_memory_traffic_by_hand(chip):
    graph, hidden, output = one_spike()
    described = chip(lambda text: text + MEMORY, memory=True)
    first, second = chips.energy([hidden, output], described)
    bit = 10e-12 / 64
    assert first.joules["synaptic_memory"] == close(bit * (8 + 4))
    assert second.joules["synaptic_memory"] == close(bit * (8 + 2 * 16))
    for layer, events_ in ((first, hidden), (second, output)):
        assert layer.joules["neuron_memory"] == close(bit * events_.updates[0] * 2 * (16 + 4))
    # Each of the two multiply-accumulates reads a weight and an input; each layer writes its output.
    expected = 3e-12 + bit * (8 + 4 + 4)
    assert chips.source_energy(graph, described) == close({"neuron": expected, "output": expected})


def test_max_pooling_of_the_source_network_reads_its_inputs_and_multiplies_nothing(chip):
    array = lambda value: np.array(value, np.int32)  # noqa: E731
    graph = Graph(
        (
            Population("input", "analog", (1, 2, 2), 1),
            Population("neurons", "pasc", (1, 2, 2), 1, array(1), array(0)),
            Population("pool", "max", (1, 1, 1), 1),
            Population("output", "readout", (1,), 1, np.ones(()), array(0)),
        ),
        (
            Projection("input", "neurons", Identity(array([[[1]]]))),
            Projection("neurons", "pool", Identity(array([[[1]]])), SumPool2d((2, 2), (2, 2))),
            Projection("pool", "output", Dense(np.array([[1]], np.int8))),
        ),
    )
    bit = 10e-12 / 64
    found = chips.source_energy(graph, chip(lambda text: text + MEMORY, memory=True))
    assert found["pool"] == close(bit * (4 + 1) * 4)
    assert chips.source_energy(graph, chip())["pool"] == 0


def test_the_source_network_pools_before_it_multiplies(chip):
    torch.manual_seed(0)
    layers = [
        *(nn.Conv2d(2, 3, 3, padding=1), QCFS(2), nn.AvgPool2d(2), nn.Conv2d(3, 4, 3, padding=1), QCFS(2)),
        *(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 5)),
    ]
    expected = []

    def count(module, inputs, output):
        """Terms of the sums with the borders as they are: the same layer of ones."""
        plain = copy.deepcopy(module).requires_grad_(False)
        plain._forward_hooks.clear()
        for parameter in plain.parameters():
            parameter.fill_(parameter.ndim > 1)
        expected.append(plain(torch.ones_like(inputs[0])).sum().item())

    hooks = [x.register_forward_hook(count) for x in layers if isinstance(x, nn.Conv2d | nn.Linear)]
    network = nn.Sequential(*layers).eval()
    image = torch.rand(1, 2, 8, 8)
    network(image)
    for hook in hooks:
        hook.remove()
    first, second, last = expected
    graph = convert(network, image)
    energy = "[energy]\nmultiply_accumulate = { value = 3.0, source = 'a' }\nsynaptic_operation = { value = 0.5, source = 'a' }\nupdate = { value = 1, source = 'a' }\n"
    described = chip(lambda text: re.sub(r"\[energy\].*", energy, text, flags=re.DOTALL))
    found = list(chips.source_energy(graph, described).values())
    additions = (3 * 8 * 8, 4 * 4 * 4)
    assert found == close(
        [3e-12 * first, 3e-12 * second + 0.5e-12 * additions[0], 3e-12 * last + 0.5e-12 * additions[1]]
    )


def test_memory_is_counted_only_where_it_is_asked_for_and_not_in_the_events_already(chip):
    with_memory = lambda text: text + MEMORY  # noqa: E731
    assert chip(with_memory).memory is None
    assert chip(with_memory, memory=True).memory.access == chips.Figure(10, "d")
    assert chips.load("loihi1", memory=True) == chips.load("loihi1")
    with pytest.raises(FileError, match=r"\[memory\]"):
        chip(memory=True)
    for name in chips.available():
        described = chips.load(name, memory=True)
        assert described.includes_memory == (described.memory is None)


def test_plain_neurons_are_updated_in_l_timesteps_and_never_idle():
    graph, hidden, output = one_spike()
    assert hidden.idle[0] > 0
    neuron, readout = plain(graph, [hidden, output])
    assert (neuron.updates, neuron.idle, readout.updates) == (4, 0, output.updates)
    assert (neuron.multiply_accumulates, neuron.emitted, readout.synaptic_operations) == (1, 1, 1)


def test_working_time_is_events_times_latencies():
    _, hidden, output = one_spike()
    described = chips.load("loihi1_calibrated")
    (updates, idle), (more, rest) = ((layer.updates[0], layer.idle[0]) for layer in (hidden, output))
    expected = 2 * 3.8 + (updates + more) * 9.7 + (idle + rest) * 6.0 + 30.0
    assert chips.core_seconds([hidden, output], described) == close(1e-9 * expected)
    sent = dataclasses.replace(hidden, messages=np.array([2]), hops_x=np.array([7]))
    assert chips.core_seconds([sent, output], described) == close(1e-9 * (expected + 2 * (5.1 + 16.0)))
    assert chips.core_seconds([hidden, output], chips.load("cmos45_int8")) == 0


@settings(max_examples=20, deadline=None)
@given(graph=integer_graphs(), seed=st.integers(0, 2**32 - 1), name=st.sampled_from(["loihi1", "cmos45_int8"]))
def test_shares_say_where_all_the_energy_goes(graph, seed, name):
    layers = chips.energy(events(graph, simulate.steps(graph, inputs_for(graph, seed))), chips.load(name, memory=True))
    shares = chips.shares(layers)
    assert sum(shares.values()) == close(1)
    assert set(shares) <= set(chips.KINDS)
    total = sum(layer.total for layer in layers)
    for kind, share in shares.items():
        assert share * total == close(sum(layer.joules[kind] for layer in layers))


def test_every_figure_of_every_chip_has_its_source():
    assert {"loihi1", "loihi1_calibrated", "loihi2", "cmos45_fp32", "cmos45_int8"} <= set(chips.available())
    for name in chips.available():
        described = chips.load(name)
        assert described.source
        assert all(figure.source and figure.value > 0 for figure in described.energy.values())
    assert chips.load("loihi2").estimate


def test_the_papers_energy_of_a_multiply_accumulate():
    floats, integers = chips.load("cmos45_fp32").energy, chips.load("cmos45_int8").energy
    assert (floats["synaptic_operation"].value, floats["multiply_accumulate"].value) == (0.9, 4.6)
    assert (integers["synaptic_operation"].value, integers["multiply_accumulate"].value) == (0.03, 0.23)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text + "= =", "not valid TOML"),
        (lambda text: text.replace('name = "Test"', ""), "name"),
        (lambda text: text.replace(', source = "b"', ""), "source"),
        (lambda text: text.replace("update", "upgrade"), "upgrade"),
        (lambda text: text.replace('update = { value = 5, source = "c" }', ""), "no energy for update"),
        (lambda text: text.replace("value = 5", 'value = "much"'), "much"),
        (lambda text: text + MEMORY.replace("width = 64", "width = 0"), "at least 1"),
        (lambda text: text + MEMORY.replace("width = 64", ""), "width"),
        (lambda text: text + MEMORY.replace(', source = "d"', ""), "source"),
        (lambda text: "includes_memory = true" + text + MEMORY, "twice"),
    ],
)
def test_a_bad_description_is_refused(chip, change, message):
    with pytest.raises(FileError, match=message):
        chip(change)


def test_an_unknown_or_missing_chip_is_refused(tmp_path):
    with pytest.raises(FileError, match="unknown chip 'tpu'"):
        chips.load("tpu")
    with pytest.raises(FileError, match="does not exist"):
        chips.load(str(tmp_path / "none.toml"))


def test_a_chip_without_widths_takes_any_graph():
    fixed_point.check(one_neuron(weight=1001), dataclasses.replace(chips.load("loihi2"), widths={}))
